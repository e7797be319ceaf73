/* The protobuf wire format straight into structs; unknown fields are skipped, lengths and nesting are bounded. */
#include "codec/codec_internal.h"

enum { WIRE_VARINT = 0, WIRE_FIXED64 = 1, WIRE_BYTES = 2, WIRE_FIXED32 = 5 };

struct slice {
    const uint8_t *p, *end;
};
struct decoder {
    struct kp_arena *arena;
    struct kp_error *error;
    int depth;
};
struct tag {
    uint32_t number;
    unsigned wire;
    uint64_t varint;    /* WIRE_VARINT, WIRE_FIXED64 and WIRE_FIXED32 */
    struct slice bytes; /* WIRE_BYTES */
};

static int decode_message(struct decoder *d, const struct kp_type *type, void *obj, struct slice in);

static int bad(struct decoder *d, const char *what)
{
    return kp_fail(d->error, KP_EBADREQUEST, "proto: %s", what);
}

static int full(struct decoder *d)
{
    return kp_fail(d->error, KP_ETOOLARGE, "message needs more memory than a request may use");
}

static int get_varint(struct decoder *d, struct slice *in, uint64_t *ret)
{
    uint64_t value = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
        if (in->p == in->end)
            return bad(d, "unexpected EOF");
        uint8_t byte = *in->p++;
        value |= (uint64_t)(byte & 0x7f) << shift;
        if (byte < 0x80) {
            *ret = value;
            return 0;
        }
    }
    return bad(d, "integer overflow");
}

static int get_fixed(struct decoder *d, struct slice *in, size_t size, uint64_t *ret)
{
    if ((size_t)(in->end - in->p) < size)
        return bad(d, "unexpected EOF");
    *ret = 0;
    for (size_t i = 0; i < size; i++)
        *ret |= (uint64_t)in->p[i] << (8 * i);
    in->p += size;
    return 0;
}

/* The next field; 1, or 0 at the end, or negative. */
static int get_tag(struct decoder *d, struct slice *in, struct tag *tag)
{
    uint64_t key, len;
    if (in->p == in->end)
        return 0;
    if (get_varint(d, in, &key) < 0)
        return KP_EBADREQUEST;
    if (key >> 3 == 0 || key >> 3 > 0x1fffffff)
        return bad(d, "illegal tag");
    *tag = (struct tag){.number = (uint32_t)(key >> 3), .wire = (unsigned)(key & 7)};
    int rc;
    switch (tag->wire) {
    case WIRE_VARINT:
        rc = get_varint(d, in, &tag->varint);
        break;
    case WIRE_FIXED64:
        rc = get_fixed(d, in, 8, &tag->varint);
        break;
    case WIRE_FIXED32:
        rc = get_fixed(d, in, 4, &tag->varint);
        break;
    case WIRE_BYTES:
        rc = get_varint(d, in, &len);
        if (rc == 0 && len > (uint64_t)(in->end - in->p))
            return bad(d, "unexpected EOF");
        if (rc == 0) {
            tag->bytes = (struct slice){in->p, in->p + len};
            in->p += len;
        }
        break;
    default:
        return bad(d, "wrong wireType");
    }
    return rc < 0 ? rc : 1;
}

static int get_string(struct decoder *d, struct slice in, const char **ret)
{
    size_t len = (size_t)(in.end - in.p);
    for (const uint8_t *p = in.p; p < in.end;) {
        size_t n = *p ? kp_utf8_len(p, (size_t)(in.end - p)) : 0;
        if (n == 0)
            return bad(d, *p ? "string field contains invalid UTF-8" : "the character \\u0000 is not allowed in strings");
        p += n;
    }
    char *s = kp_arena_try(d->arena, len + 1);
    if (!s)
        return full(d);
    if (len > 0)
        memcpy(s, in.p, len);
    *ret = s;
    return 0;
}

static int get_bytes(struct decoder *d, struct slice in, struct kp_bytes *ret)
{
    size_t len = (size_t)(in.end - in.p);
    uint8_t *data = kp_arena_try(d->arena, len + 1);
    if (!data)
        return full(d);
    if (len > 0)
        memcpy(data, in.p, len);
    *ret = (struct kp_bytes){.data = data, .len = len};
    return 0;
}

static int get_time(struct decoder *d, const struct kp_field *field, struct slice in, struct kp_time *ret)
{
    struct tag tag;
    int rc;
    *ret = (struct kp_time){.set = in.p < in.end};
    while ((rc = get_tag(d, &in, &tag)) > 0) {
        if (tag.number == 1)
            ret->seconds = (int64_t)tag.varint;
        else if (tag.number == 2 && field->kind == KP_KIND_MICRO_TIME)
            ret->nanos = (int32_t)((uint32_t)tag.varint % 1000000000U / 1000 * 1000);
    }
    if (rc == 0 && ret->set && (ret->seconds < KP_TIME_MIN || ret->seconds > KP_TIME_MAX))
        return bad(d, "time out of range");
    return rc;
}

/* metav1.Duration: nanoseconds as field 1. */
static int get_duration(struct decoder *d, struct slice in, const char **ret)
{
    struct tag tag;
    char text[KP_DURATION_MAX];
    int64_t ns = 0;
    int rc;
    while ((rc = get_tag(d, &in, &tag)) > 0)
        if (tag.number == 1 && tag.wire == WIRE_VARINT)
            ns = (int64_t)tag.varint;
    if (rc < 0)
        return rc;
    kp_format_duration(text, ns);
    char *s = kp_arena_try(d->arena, strlen(text) + 1);
    if (!s)
        return full(d);
    memcpy(s, text, strlen(text));
    *ret = s;
    return 0;
}

static int get_int_or_string(struct decoder *d, struct slice in, struct kp_int_or_string *ret)
{
    struct tag tag;
    int rc;
    uint64_t type = 0;
    const char *s = "";
    int32_t i = 0;
    while ((rc = get_tag(d, &in, &tag)) > 0) {
        if (tag.number == 1)
            type = tag.varint;
        else if (tag.number == 2)
            i = (int32_t)tag.varint;
        else if (tag.number == 3 && tag.wire == WIRE_BYTES && (rc = get_string(d, tag.bytes, &s)) < 0)
            return rc;
    }
    *ret = type == 1 ? KP_IOS_OF_STRING(s) : KP_IOS_OF_INT(i);
    return rc;
}

/* The one length-delimited member with number 1 of a wrapper message; empty when absent. */
static int unwrap(struct decoder *d, struct slice in, struct slice *ret)
{
    struct tag tag;
    int rc;
    *ret = (struct slice){in.end, in.end};
    while ((rc = get_tag(d, &in, &tag)) > 0)
        if (tag.number == 1 && tag.wire == WIRE_BYTES)
            *ret = tag.bytes;
    return rc;
}

static int get_quantity(struct decoder *d, struct slice in, const char **ret)
{
    const char *s;
    struct kp_quantity checked;
    int rc = unwrap(d, in, &in);
    if (rc == 0)
        rc = get_string(d, in, &s);
    if (rc < 0)
        return rc;
    if (*s == '\0') {
        *ret = "0";
        return 0;
    }
    rc = kp_quantity_parse(s, &checked, d->error);
    if (rc < 0)
        return rc;
    *ret = kp_quantity_canonical(s, d->arena);
    return *ret ? 0 : full(d);
}

/* Embedded objects are JSON text, or an enveloped message from clients that send protobuf all the way down. */
static int get_raw(struct decoder *d, struct slice in, struct kp_raw *ret)
{
    int rc = unwrap(d, in, &in);
    size_t len = (size_t)(in.end - in.p);
    *ret = (struct kp_raw){0};
    if (rc < 0 || len == 0)
        return rc;
    if (kp_proto_is_envelope(in.p, len)) {
        struct kp_proto_unknown unknown;
        rc = kp_proto_unwrap(in.p, len, d->arena, &unknown, d->error);
        if (rc < 0)
            return rc;
        const struct kp_type *type = kp_type_find_api_version(unknown.api_version, unknown.kind);
        if (!type)
            return bad(d, "embedded object of an unknown kind");
        void *obj = kp_object_try(type, d->arena);
        if (!obj)
            return full(d);
        rc = decode_message(d, type, obj, (struct slice){unknown.raw.data, unknown.raw.data + unknown.raw.len});
        if (rc < 0)
            return rc;
        KP_AUTO_BUF struct kp_buf json = {0};
        kp_json_encode(type, obj, &json);
        char *copy = kp_arena_try(d->arena, json.len + 1);
        if (!copy)
            return full(d);
        memcpy(copy, json.data, json.len);
        *ret = (struct kp_raw){.json = copy, .len = json.len};
        return 0;
    }
    struct kp_reader r = {.p = (const char *)in.p, .end = (const char *)in.end, .arena = d->arena, .error = d->error};
    rc = kp_reader_raw(&r, ret);
    if (rc == 0)
        rc = kp_reader_finish(&r);
    return rc;
}

static int get_string_list(struct decoder *d, struct slice in, struct kp_string_list *list)
{
    struct tag tag;
    int rc;
    *list = (struct kp_string_list){0};
    while ((rc = get_tag(d, &in, &tag)) > 0) {
        if (tag.number != 1 || tag.wire != WIRE_BYTES)
            continue;
        const char **slot = kp_list_try(d->arena, (struct kp_list *)(void *)list, sizeof(*slot));
        if (!slot)
            return full(d);
        rc = get_string(d, tag.bytes, slot);
        if (rc < 0)
            return rc;
    }
    return rc;
}

static bool is_scalar(const struct kp_field *field)
{
    return field->kind == KP_KIND_BOOL || field->kind == KP_KIND_INT32 || field->kind == KP_KIND_INT64 || field->kind == KP_KIND_DOUBLE;
}

static bool put_scalar(const struct kp_field *field, uint64_t bits, void *slot)
{
    switch (field->kind) {
    case KP_KIND_BOOL:
        *(bool *)slot = bits != 0;
        return bits != 0;
    case KP_KIND_INT32:
        *(int32_t *)slot = (int32_t)bits;
        return (int32_t)bits != 0;
    case KP_KIND_INT64:
        *(int64_t *)slot = (int64_t)bits;
        return bits != 0;
    default: {
        memcpy(slot, &bits, sizeof(bits));
        if ((bits >> 52 & 0x7ff) == 0x7ff) /* NaN and infinities have no JSON form */
            memset(slot, 0, sizeof(bits));
        return *(double *)slot != 0;
    }
    }
}

/* One value of the field's kind that is not a number; a struct's slot holds the pointer to fill or make. */
static int get_single(struct decoder *d, const struct kp_field *field, struct slice in, void *slot)
{
    switch (field->kind) {
    case KP_KIND_STRING:
        return get_string(d, in, slot);
    case KP_KIND_DURATION:
        return get_duration(d, in, slot);
    case KP_KIND_QUANTITY:
        return get_quantity(d, in, slot);
    case KP_KIND_INT_OR_STRING:
        return get_int_or_string(d, in, slot);
    case KP_KIND_TIME:
    case KP_KIND_MICRO_TIME:
        return get_time(d, field, in, slot);
    case KP_KIND_BYTES:
        return get_bytes(d, in, slot);
    case KP_KIND_RAW:
        return get_raw(d, in, slot);
    case KP_KIND_STRING_LIST:
        return get_string_list(d, in, slot);
    case KP_KIND_STRUCT: {
        void **member = slot;
        if (!*member && !(*member = kp_object_try(field->type, d->arena)))
            return full(d);
        return decode_message(d, field->type, *member, in);
    }
    default:
        return kp_fail(d->error, KP_EINTERNAL, "field %s has a kind without a decoder", field->json_name);
    }
}

static int add_item(struct decoder *d, const struct kp_field *field, struct kp_list *list, const struct tag *tag)
{
    void *item = kp_list_try(d->arena, list, kp_item_size(field));
    if (!item)
        return full(d);
    if (is_scalar(field)) {
        put_scalar(field, tag->varint, item);
        return 0;
    }
    if (field->kind != KP_KIND_STRUCT)
        return get_single(d, field, tag->bytes, item);
    if (!kp_object_init(field->type, item, d->arena))
        return full(d);
    return decode_message(d, field->type, item, tag->bytes);
}

static int add_packed(struct decoder *d, const struct kp_field *field, struct kp_list *list, struct slice in)
{
    while (in.p < in.end) {
        struct tag tag = {0};
        int rc = field->kind == KP_KIND_DOUBLE ? get_fixed(d, &in, 8, &tag.varint) : get_varint(d, &in, &tag.varint);
        if (rc == 0)
            rc = add_item(d, field, list, &tag);
        if (rc < 0)
            return rc;
    }
    return 0;
}

static int add_entry(struct decoder *d, const struct kp_field *field, struct kp_list *map, struct slice in)
{
    char *entry = kp_list_try(d->arena, map, kp_item_size(field));
    if (!entry)
        return full(d);
    void *value = entry + sizeof(const char *);
    struct tag tag;
    int rc;
    *(const char **)(void *)entry = "";
    if (field->kind == KP_KIND_STRING || field->kind == KP_KIND_QUANTITY)
        *(const char **)value = field->kind == KP_KIND_STRING ? "" : "0";
    if (field->kind == KP_KIND_STRUCT && !(*(void **)value = kp_object_try(field->type, d->arena)))
        return full(d);
    while ((rc = get_tag(d, &in, &tag)) > 0) {
        if (tag.wire != WIRE_BYTES)
            continue; /* every key and value of ours is length-delimited */
        if (tag.number == 1)
            rc = get_string(d, tag.bytes, (const char **)(void *)entry);
        else if (tag.number == 2)
            rc = get_single(d, field, tag.bytes, value);
        if (rc < 0)
            return rc;
    }
    return rc;
}

static int wrong_wire(struct decoder *d, const struct kp_type *type, const struct kp_field *field, unsigned wire)
{
    return kp_fail(d->error, KP_EBADREQUEST, "proto: wrong wireType = %u for field %s.%s", wire, type->name, field->json_name);
}

static int decode_field(struct decoder *d, const struct kp_type *type, const struct kp_field *field, void *obj, const struct tag *tag)
{
    void *slot = KP_AT(obj, field->offset);
    if (field->cardinality == KP_LIST && field->pb_wrapped) {
        if (tag->wire != WIRE_BYTES)
            return wrong_wire(d, type, field, tag->wire);
        return get_string_list(d, tag->bytes, slot);
    }
    if (is_scalar(field)) {
        bool packed = field->cardinality == KP_LIST && tag->wire == WIRE_BYTES;
        if (!packed && tag->wire != (field->kind == KP_KIND_DOUBLE ? WIRE_FIXED64 : WIRE_VARINT))
            return wrong_wire(d, type, field, tag->wire);
        if (packed)
            return add_packed(d, field, slot, tag->bytes);
        if (field->cardinality == KP_LIST)
            return add_item(d, field, slot, tag);
        *(bool *)KP_AT(obj, field->has_offset) = put_scalar(field, tag->varint, slot) || field->nullable;
        return 0;
    }
    if (tag->wire != WIRE_BYTES)
        return wrong_wire(d, type, field, tag->wire);
    if (field->cardinality == KP_LIST)
        return add_item(d, field, slot, tag);
    if (field->cardinality == KP_MAP)
        return add_entry(d, field, slot, tag->bytes);
    int rc = get_single(d, field, tag->bytes, slot);
    if (rc == 0 && field->kind == KP_KIND_STRING && !field->nullable && **(const char **)slot == '\0')
        *(const char **)slot = NULL;
    return rc;
}

/* Fields arrive in ascending order from every known writer, so the search starts where the last one ended. */
static const struct kp_field *find_field(const struct kp_type *type, const uint8_t outer[2], uint32_t number, size_t *hint, bool *ret_nested)
{
    int level = (outer[0] != 0) + (outer[1] != 0);
    for (size_t n = 0; n < type->n_pb; n++) {
        size_t at = *hint + n < type->n_pb ? *hint + n : *hint + n - type->n_pb;
        const struct kp_field *field = &type->fields[type->pb_order[at]];
        bool inside = true;
        for (int i = 0; i < level; i++)
            inside &= field->pb_outer[i] == outer[i];
        if (!inside)
            continue;
        bool nested = level < 2 && field->pb_outer[level] != 0;
        if ((nested ? field->pb_outer[level] : field->pb_number) != number)
            continue;
        *ret_nested = nested;
        *hint = at;
        return field;
    }
    return NULL;
}

static int decode_level(struct decoder *d, const struct kp_type *type, void *obj, struct slice in, const uint8_t outer[2])
{
    struct tag tag;
    size_t hint = 0;
    bool nested;
    int rc;
    while ((rc = get_tag(d, &in, &tag)) > 0) {
        const struct kp_field *field = find_field(type, outer, tag.number, &hint, &nested);
        if (!field)
            continue;
        if (nested) {
            uint8_t inner[2] = {outer[0] ? outer[0] : (uint8_t)tag.number, outer[0] ? (uint8_t)tag.number : 0};
            if (tag.wire != WIRE_BYTES)
                return wrong_wire(d, type, field, tag.wire);
            rc = decode_level(d, type, obj, tag.bytes, inner);
        } else {
            rc = decode_field(d, type, field, obj, &tag);
        }
        if (rc < 0)
            return rc;
    }
    return rc;
}

static int decode_message(struct decoder *d, const struct kp_type *type, void *obj, struct slice in)
{
    static const uint8_t top[2] = {0, 0};
    if (++d->depth > KP_DECODE_DEPTH_MAX)
        return kp_fail(d->error, KP_ETOOLARGE, "message is nested deeper than %d levels", KP_DECODE_DEPTH_MAX);
    int rc = decode_level(d, type, obj, in, top);
    for (size_t i = 0; i < type->n_fields && rc == 0; i++) {
        const struct kp_field *field = &type->fields[i];
        if (field->cardinality == KP_MAP) {
            struct kp_list *map = KP_AT(obj, field->offset);
            kp_map_sort(map->items, &map->len, kp_item_size(field));
        }
    }
    d->depth--;
    return rc;
}

int kp_proto_decode(const struct kp_type *type, const void *data, size_t len, struct kp_arena *arena, void **ret_obj, struct kp_error *error)
{
    struct decoder d = {.arena = arena, .error = error};
    if (len > KP_JSON_TEXT_MAX)
        return kp_fail(error, KP_ETOOLARGE, "message of %zu bytes exceeds %zu", len, KP_JSON_TEXT_MAX);
    void *obj = kp_object_try(type, arena);
    if (!obj)
        return full(&d);
    const uint8_t *bytes = len ? data : (const uint8_t *)"";
    int rc = decode_message(&d, type, obj, (struct slice){bytes, bytes + len});
    if (rc == 0)
        *ret_obj = obj;
    return rc;
}

/* ---- envelope ------------------------------------------------------------------------------------------------------ */
bool kp_proto_is_envelope(const void *data, size_t len)
{
    return len >= KP_PROTO_MAGIC_LEN && memcmp(data, KP_PROTO_MAGIC, KP_PROTO_MAGIC_LEN) == 0;
}

static int get_type_meta(struct decoder *d, struct slice in, struct kp_proto_unknown *ret)
{
    struct tag tag;
    int rc;
    while ((rc = get_tag(d, &in, &tag)) > 0) {
        if (tag.wire != WIRE_BYTES || tag.number > 2)
            continue;
        rc = get_string(d, tag.bytes, tag.number == 1 ? &ret->api_version : &ret->kind);
        if (rc < 0)
            return rc;
    }
    return rc;
}

int kp_proto_unwrap(const void *data, size_t len, struct kp_arena *arena, struct kp_proto_unknown *ret, struct kp_error *error)
{
    struct decoder d = {.arena = arena, .error = error};
    struct tag tag;
    int rc;
    *ret = (struct kp_proto_unknown){0};
    if (!kp_proto_is_envelope(data, len))
        return kp_fail(error, KP_EBADREQUEST, "provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]");
    struct slice in = {(const uint8_t *)data + KP_PROTO_MAGIC_LEN, (const uint8_t *)data + len};
    while ((rc = get_tag(&d, &in, &tag)) > 0) {
        if (tag.wire != WIRE_BYTES)
            continue;
        if (tag.number == 1)
            rc = get_type_meta(&d, tag.bytes, ret);
        else if (tag.number == 2)
            ret->raw = (struct kp_bytes){.data = tag.bytes.p, .len = (size_t)(tag.bytes.end - tag.bytes.p)};
        else if (tag.number == 3 || tag.number == 4)
            rc = get_string(&d, tag.bytes, tag.number == 3 ? &ret->content_encoding : &ret->content_type);
        if (rc < 0)
            return rc;
    }
    return rc;
}

int kp_proto_decode_object(const struct kp_type *type, const void *data, size_t len, struct kp_arena *arena, struct kp_decode *options,
                           const struct kp_type **ret_type, void **ret_obj, struct kp_error *error)
{
    struct kp_proto_unknown unknown;
    int rc = kp_proto_unwrap(data, len, arena, &unknown, error);
    if (rc < 0)
        return rc;
    if (options) { /* protobuf has no unknown or duplicate fields to report */
        options->api_version = unknown.api_version;
        options->kind = unknown.kind;
        options->problems = (struct kp_string_list){0};
    }
    if (!kp_empty(unknown.content_encoding))
        return kp_fail(error, KP_EBADREQUEST, "content encoding %s of an embedded object is not supported", unknown.content_encoding);
    if (!type)
        type = kp_type_find_api_version(unknown.api_version, unknown.kind);
    if (!type)
        return kp_fail(error, KP_EBADREQUEST, "no kind \"%s\" is registered for version \"%s\"", unknown.kind ? unknown.kind : "",
                       unknown.api_version ? unknown.api_version : "");
    if (ret_type)
        *ret_type = type;
    return kp_proto_decode(type, unknown.raw.data, unknown.raw.len, arena, ret_obj, error);
}
