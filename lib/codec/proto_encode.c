/* Structs to the protobuf wire format (proto2), fields in ascending order of number as the Go implementation writes them.
   Zero values of non-nullable fields are left out: every reader takes absent for zero. */
#include "codec/codec_internal.h"

enum { WIRE_VARINT = 0, WIRE_FIXED64 = 1, WIRE_BYTES = 2 };

static void encode_message(const struct kp_type *type, const void *obj, struct kp_buf *out);

static void put_varint(struct kp_buf *out, uint64_t value)
{
    char bytes[10];
    size_t n = 0;
    for (; value >= 0x80; value >>= 7)
        bytes[n++] = (char)(value | 0x80);
    bytes[n++] = (char)value;
    kp_buf_append(out, bytes, n);
}

static void put_tag(struct kp_buf *out, uint32_t number, unsigned wire)
{
    put_varint(out, (uint64_t)number << 3 | wire);
}

static void put_bytes(struct kp_buf *out, uint32_t number, const void *data, size_t len)
{
    put_tag(out, number, WIRE_BYTES);
    put_varint(out, len);
    if (len > 0)
        kp_buf_append(out, data, len);
}

static void put_string(struct kp_buf *out, uint32_t number, const char *s)
{
    put_bytes(out, number, s ? s : "", s ? strlen(s) : 0);
}

static void put_int(struct kp_buf *out, uint32_t number, int64_t value)
{
    put_tag(out, number, WIRE_VARINT);
    put_varint(out, (uint64_t)value);
}

/* A nested message of unknown length: one byte is kept for the length, and more are made room for when it ends. */
static size_t open_message(struct kp_buf *out, uint32_t number)
{
    put_tag(out, number, WIRE_BYTES);
    kp_buf_putc(out, 0);
    return out->len;
}

static void close_message(struct kp_buf *out, size_t start)
{
    size_t len = out->len - start, extra = 0;
    for (size_t rest = len >> 7; rest > 0; rest >>= 7)
        extra++;
    if (extra > 0) {
        static const char room[10];
        kp_buf_append(out, room, extra);
        memmove(out->data + start + extra, out->data + start, len);
    }
    uint64_t rest = len;
    for (size_t i = 0; i <= extra; i++, rest >>= 7)
        out->data[start - 1 + i] = (char)((rest & 0x7f) | (i < extra ? 0x80 : 0));
}

static void put_raw(struct kp_buf *out, uint32_t number, const struct kp_raw *raw)
{
    size_t at = open_message(out, number);
    if (raw->json)
        put_bytes(out, 1, raw->json, raw->len);
    close_message(out, at);
}

static void put_string_list(struct kp_buf *out, uint32_t number, const struct kp_string_list *list)
{
    size_t at = open_message(out, number);
    for (size_t i = 0; i < list->len; i++)
        put_string(out, 1, list->items[i]);
    close_message(out, at);
}

static void put_time(struct kp_buf *out, uint32_t number, const struct kp_time *time)
{
    size_t at = open_message(out, number);
    if (time->set) { /* both even when zero, so that 1970 differs from no time */
        put_int(out, 1, time->seconds);
        put_int(out, 2, time->nanos);
    }
    close_message(out, at);
}

static void put_int_or_string(struct kp_buf *out, uint32_t number, const struct kp_int_or_string *ios)
{
    size_t at = open_message(out, number);
    put_int(out, 1, ios->kind == KP_IOS_STRING ? 1 : 0);
    put_int(out, 2, ios->kind == KP_IOS_INT ? ios->i : 0);
    put_string(out, 3, ios->kind == KP_IOS_STRING ? ios->s : "");
    close_message(out, at);
}

/* One value of the field's kind under a number: the field's own, or 1 or 2 inside wrappers and map entries. */
static void put_single(const struct kp_field *field, uint32_t number, const void *slot, struct kp_buf *out)
{
    size_t at;
    uint64_t bits;
    switch (field->kind) {
    case KP_KIND_STRING:
        put_string(out, number, *(const char *const *)slot);
        break;
    case KP_KIND_DURATION: { /* metav1.Duration: nanoseconds as field 1 */
        int64_t ns = 0;
        const char *s = *(const char *const *)slot;
        if (!kp_empty(s) && kp_parse_duration_ns(s, &ns) < 0)
            ns = 0;
        at = open_message(out, number);
        put_int(out, 1, ns);
        close_message(out, at);
        break;
    }
    case KP_KIND_QUANTITY: {
        const char *s = *(const char *const *)slot;
        at = open_message(out, number);
        put_string(out, 1, s && *s ? s : "0");
        close_message(out, at);
        break;
    }
    case KP_KIND_BOOL:
        put_int(out, number, *(const bool *)slot);
        break;
    case KP_KIND_INT32:
        put_int(out, number, *(const int32_t *)slot);
        break;
    case KP_KIND_INT64:
        put_int(out, number, *(const int64_t *)slot);
        break;
    case KP_KIND_DOUBLE:
        memcpy(&bits, slot, sizeof(bits));
        put_tag(out, number, WIRE_FIXED64);
        for (int i = 0; i < 8; i++)
            kp_buf_putc(out, (char)(bits >> (8 * i)));
        break;
    case KP_KIND_INT_OR_STRING:
        put_int_or_string(out, number, slot);
        break;
    case KP_KIND_TIME:
    case KP_KIND_MICRO_TIME:
        put_time(out, number, slot);
        break;
    case KP_KIND_BYTES:
        put_bytes(out, number, ((const struct kp_bytes *)slot)->data, ((const struct kp_bytes *)slot)->len);
        break;
    case KP_KIND_RAW:
        put_raw(out, number, slot);
        break;
    case KP_KIND_STRING_LIST:
        put_string_list(out, number, slot);
        break;
    case KP_KIND_STRUCT:
        at = open_message(out, number);
        encode_message(field->type, slot, out);
        close_message(out, at);
        break;
    }
}

static void put_list(const struct kp_field *field, const struct kp_list *list, struct kp_buf *out)
{
    size_t size = kp_item_size(field), at = 0;
    if (field->pb_wrapped)
        at = open_message(out, field->pb_number);
    for (size_t i = 0; i < list->len; i++)
        put_single(field, field->pb_wrapped ? 1 : field->pb_number, (const char *)list->items + i * size, out);
    if (field->pb_wrapped)
        close_message(out, at);
}

static void put_map(const struct kp_field *field, const struct kp_list *map, struct kp_buf *out)
{
    size_t size = kp_item_size(field);
    for (size_t i = 0; i < map->len; i++) {
        const char *entry = (const char *)map->items + i * size;
        const void *value = entry + sizeof(const char *);
        size_t at = open_message(out, field->pb_number);
        put_string(out, 1, *(const char *const *)(const void *)entry);
        if (field->kind == KP_KIND_STRUCT)
            value = *(const void *const *)value;
        if (value)
            put_single(field, 2, value, out);
        close_message(out, at);
    }
}

static void put_field(const struct kp_field *field, const void *obj, struct kp_buf *out)
{
    const void *slot = KP_CAT(obj, field->offset);
    if (field->cardinality == KP_LIST)
        put_list(field, slot, out);
    else if (field->cardinality == KP_MAP)
        put_map(field, slot, out);
    else if (field->kind == KP_KIND_STRUCT)
        put_single(field, field->pb_number, *(const void *const *)slot, out);
    else
        put_single(field, field->pb_number, slot, out);
}

/* pb_order keeps the fields of one nested message together, so each is opened and closed once. */
static void encode_message(const struct kp_type *type, const void *obj, struct kp_buf *out)
{
    uint8_t open[2] = {0, 0};
    size_t starts[2] = {0, 0};
    for (size_t n = 0; obj && n < type->n_pb; n++) {
        const struct kp_field *field = &type->fields[type->pb_order[n]];
        if (!kp_field_present(field, obj))
            continue;
        bool same = field->pb_outer[0] == open[0];
        if (open[1] && (!same || field->pb_outer[1] != open[1])) {
            close_message(out, starts[1]);
            open[1] = 0;
        }
        if (open[0] && !same) {
            close_message(out, starts[0]);
            open[0] = 0;
        }
        for (int level = 0; level < 2; level++) {
            if (field->pb_outer[level] && !open[level]) {
                starts[level] = open_message(out, field->pb_outer[level]);
                open[level] = field->pb_outer[level];
            }
        }
        put_field(field, obj, out);
    }
    for (int level = 1; level >= 0; level--)
        if (open[level])
            close_message(out, starts[level]);
}

void kp_proto_encode(const struct kp_type *type, const void *obj, struct kp_buf *out)
{
    encode_message(type, obj, out);
}

void kp_proto_wrap(const char *api_version, const char *kind, const void *raw, size_t raw_len, struct kp_buf *out)
{
    kp_buf_append(out, KP_PROTO_MAGIC, KP_PROTO_MAGIC_LEN);
    size_t at = open_message(out, 1);
    put_string(out, 1, api_version);
    put_string(out, 2, kind);
    close_message(out, at);
    put_bytes(out, 2, raw, raw_len);
    put_string(out, 3, ""); /* contentEncoding and contentType: Go writes them always */
    put_string(out, 4, "");
}

void kp_proto_encode_object(const struct kp_type *type, const void *obj, struct kp_buf *out)
{
    char api_version[KP_API_VERSION_MAX];
    KP_AUTO_BUF struct kp_buf body = {0};
    encode_message(type, obj, &body);
    kp_proto_wrap(kp_type_api_version(type, api_version), type->kind ? type->kind : type->name, body.data, body.len, out);
}

void kp_proto_encode_watch_event(const char *event_type, const void *enveloped, size_t len, struct kp_buf *out)
{
    put_string(out, 1, event_type);
    size_t at = open_message(out, 2);
    put_bytes(out, 1, enveloped, len);
    close_message(out, at);
}
