/* JSON text straight into structs, with the errors and strictness of the real API server. */
#include "codec/codec_internal.h"

#include <errno.h>
#include <math.h>


struct decoder {
    struct kp_reader r;
    struct kp_decode *options; /* or NULL */
};
static int decode_struct(struct decoder *d, const struct kp_type *type, void *obj, const struct kp_path *path);

static int failed(const struct decoder *d)
{
    return d->r.error && d->r.error->code ? d->r.error->code : KP_EBADREQUEST;
}

static const char *kind_of(char c)
{
    switch (c) {
    case '"':
        return "string";
    case '{':
        return "object";
    case '[':
        return "array";
    case 't':
    case 'f':
        return "bool";
    default:
        return "number";
    }
}

/* How Go spells the type of a field, for messages. */
static void go_type(const struct kp_field *field, enum kp_cardinality cardinality, char out[160])
{
    static const char *const names[] = {"string", "resource.Quantity", "v1.Duration", "bool",    "int32", "int64", "float64",
                                        "intstr.IntOrString", "v1.Time", "v1.MicroTime", "[]uint8", "runtime.RawExtension", "[]string"};
    const char *prefix = cardinality == KP_LIST ? "[]" : cardinality == KP_MAP ? "map[string]" : "";
    if (field->kind == KP_KIND_STRUCT)
        snprintf(out, 160, "%s%s.%s", prefix, field->type->version, field->type->name);
    else
        snprintf(out, 160, "%s%s", prefix, names[field->kind]);
}

static int wrong_type(struct decoder *d, const struct kp_type *owner, const struct kp_field *field, enum kp_cardinality cardinality,
                      const struct kp_path *path, const char *what)
{
    char type[160];
    KP_AUTO_BUF struct kp_buf where = {0};
    kp_path_print(path, false, &where);
    go_type(field, cardinality, type);
    return kp_fail(d->r.error, KP_EBADREQUEST, "json: cannot unmarshal %s into Go struct field %s.%s of type %s", what, owner->name,
                   where.len ? where.data : "", type);
}

static int skip_null(struct decoder *d, bool *ret_null)
{
    *ret_null = kp_reader_peek(&d->r) == 'n';
    return *ret_null ? kp_reader_literal(&d->r, "null") : 0;
}

/* A number's digits as a NUL-terminated string; longer ones than any of our types needs are wrong anyway. */
static bool number_text(const char *s, size_t len, char out[64])
{
    if (len >= 64)
        return false;
    memcpy(out, s, len);
    out[len] = '\0';
    return true;
}

static int decode_number(struct decoder *d, const struct kp_type *owner, const struct kp_field *field, void *out, bool *ret_set,
                         const struct kp_path *path)
{
    const char *s;
    size_t len;
    char c = kp_reader_peek(&d->r), text[64], what[96];
    if (c == '"' || c == '{' || c == '[' || c == 't' || c == 'f')
        return wrong_type(d, owner, field, KP_ONE, path, kind_of(c));
    if (kp_reader_number(&d->r, &s, &len) < 0)
        return failed(d);
    bool fits = number_text(s, len, text);
    snprintf(what, sizeof(what), "number %.*s", (int)KP_MIN(len, (size_t)60), s);
    if (field->kind == KP_KIND_DOUBLE) {
        double value = fits ? strtod(text, NULL) : 0;
        if (!fits || !isfinite(value))
            return wrong_type(d, owner, field, KP_ONE, path, what);
        memcpy(out, &value, sizeof(value));
        *ret_set = value != 0 || field->nullable;
        return 0;
    }
    int64_t value;
    if (!fits || kp_parse_i64(text, &value) < 0 || (field->kind == KP_KIND_INT32 && (value < INT32_MIN || value > INT32_MAX)))
        return wrong_type(d, owner, field, KP_ONE, path, what);
    if (field->kind == KP_KIND_INT32)
        *(int32_t *)out = (int32_t)value;
    else
        *(int64_t *)out = value;
    *ret_set = value != 0 || field->nullable;
    return 0;
}

static int decode_quantity(struct decoder *d, const char **out)
{
    const char *s;
    size_t len;
    if (kp_reader_peek(&d->r) == '"') {
        if (kp_reader_string(&d->r, &s, &len) < 0)
            return failed(d);
    } else {
        if (kp_reader_skip(&d->r) < 0)
            return failed(d);
        const char *end = d->r.p;
        s = end;
        while (strchr("0123456789.+-eE", s[-1]))
            s--;
        len = (size_t)(end - s);
        char *copy = kp_arena_try(d->r.arena, len + 1);
        if (!copy)
            return kp_reader_too_large(&d->r);
        memcpy(copy, s, len);
        s = copy;
    }
    struct kp_quantity checked;
    if (kp_quantity_parse(s, &checked, d->r.error) < 0)
        return failed(d);
    *out = kp_quantity_canonical(s, d->r.arena);
    return *out ? 0 : kp_reader_too_large(&d->r);
}

static int decode_time(struct decoder *d, const struct kp_type *owner, const struct kp_field *field, struct kp_time *out,
                       const struct kp_path *path)
{
    const char *s;
    size_t len;
    char c = kp_reader_peek(&d->r);
    if (c != '"') {
        if (kp_reader_skip(&d->r) < 0)
            return failed(d);
        return wrong_type(d, owner, field, KP_ONE, path, kind_of(c));
    }
    if (kp_reader_string(&d->r, &s, &len) < 0)
        return failed(d);
    if (kp_parse_rfc3339(s, &out->seconds, &out->nanos) < 0 || out->seconds < KP_TIME_MIN || out->seconds > KP_TIME_MAX)
        return kp_fail(d->r.error, KP_EBADREQUEST, "parsing time \"%s\" as \"2006-01-02T15:04:05%sZ07:00\": cannot parse \"%s\" as \"2006\"", s,
                       field->kind == KP_KIND_MICRO_TIME ? ".000000" : "", s);
    out->nanos = field->kind == KP_KIND_MICRO_TIME ? out->nanos / 1000 * 1000 : 0;
    out->set = true;
    return 0;
}

static int decode_bytes(struct decoder *d, const struct kp_type *owner, const struct kp_field *field, struct kp_bytes *out,
                        const struct kp_path *path)
{
    const char *s;
    size_t len;
    char c = kp_reader_peek(&d->r);
    if (c != '"') {
        if (kp_reader_skip(&d->r) < 0)
            return failed(d);
        return wrong_type(d, owner, field, KP_ONE, path, kind_of(c));
    }
    if (kp_reader_string(&d->r, &s, &len) < 0)
        return failed(d);
    KP_AUTO_BUF struct kp_buf raw = {0};
    if (kp_base64_decode(&raw, s, len) < 0)
        return kp_fail(d->r.error, KP_EBADREQUEST, "illegal base64 data at input byte %zu", strspn(s,
                       "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"));
    uint8_t *data = kp_arena_try(d->r.arena, raw.len + 1);
    if (!data)
        return kp_reader_too_large(&d->r);
    if (raw.len > 0)
        memcpy(data, raw.data, raw.len);
    *out = (struct kp_bytes){.data = data, .len = raw.len};
    return 0;
}

static int decode_int_or_string(struct decoder *d, const struct kp_type *owner, const struct kp_field *field,
                                struct kp_int_or_string *out, const struct kp_path *path)
{
    const char *s;
    size_t len;
    char c = kp_reader_peek(&d->r), text[64];
    if (c == '"') {
        if (kp_reader_string(&d->r, &s, &len) < 0)
            return failed(d);
        *out = KP_IOS_OF_STRING(s);
        return 0;
    }
    const char *start = d->r.p;
    if (kp_reader_skip(&d->r) < 0)
        return failed(d);
    int64_t value;
    len = (size_t)(d->r.p - start);
    if ((c != '-' && (c < '0' || c > '9')) || !number_text(start, len, text) || kp_parse_i64(text, &value) < 0 || value < INT32_MIN ||
        value > INT32_MAX)
        return wrong_type(d, owner, field, KP_ONE, path, kind_of(c));
    *out = KP_IOS_OF_INT((int32_t)value);
    return 0;
}

static int decode_string(struct decoder *d, const struct kp_type *owner, const struct kp_field *field, const char **out,
                         const struct kp_path *path)
{
    size_t len;
    char c = kp_reader_peek(&d->r);
    if (c != '"') {
        if (kp_reader_skip(&d->r) < 0)
            return failed(d);
        return wrong_type(d, owner, field, KP_ONE, path, kind_of(c));
    }
    return kp_reader_string(&d->r, out, &len) < 0 ? failed(d) : 0;
}

static int decode_bool(struct decoder *d, const struct kp_type *owner, const struct kp_field *field, bool *out, const struct kp_path *path)
{
    char c = kp_reader_peek(&d->r);
    if (c != 't' && c != 'f') {
        if (kp_reader_skip(&d->r) < 0)
            return failed(d);
        return wrong_type(d, owner, field, KP_ONE, path, kind_of(c));
    }
    *out = c == 't';
    return kp_reader_literal(&d->r, *out ? "true" : "false") < 0 ? failed(d) : 0;
}

static int decode_nested(struct decoder *d, const struct kp_type *owner, const struct kp_field *field, void **slot,
                         const struct kp_path *path)
{
    char c = kp_reader_peek(&d->r);
    if (c != '{' && field->type->json_form == KP_FORM_OBJECT) {
        if (kp_reader_skip(&d->r) < 0)
            return failed(d);
        return wrong_type(d, owner, field, KP_ONE, path, kind_of(c));
    }
    if (!*slot)
        *slot = kp_object_try(field->type, d->r.arena);
    if (!*slot)
        return kp_reader_too_large(&d->r);
    return decode_struct(d, field->type, *slot, path);
}

/* One value of the field's kind, whatever its cardinality, into slot. Null is the caller's business. */
static int decode_single(struct decoder *d, const struct kp_type *owner, const struct kp_field *field, void *slot, bool *ret_set,
                         const struct kp_path *path)
{
    *ret_set = true;
    switch (field->kind) {
    case KP_KIND_STRING:
    case KP_KIND_DURATION:
        return decode_string(d, owner, field, slot, path);
    case KP_KIND_QUANTITY:
        return decode_quantity(d, slot);
    case KP_KIND_BOOL: {
        int rc = decode_bool(d, owner, field, slot, path);
        *ret_set = *(bool *)slot || field->nullable;
        return rc;
    }
    case KP_KIND_INT32:
    case KP_KIND_INT64:
    case KP_KIND_DOUBLE:
        return decode_number(d, owner, field, slot, ret_set, path);
    case KP_KIND_INT_OR_STRING:
        return decode_int_or_string(d, owner, field, slot, path);
    case KP_KIND_TIME:
    case KP_KIND_MICRO_TIME:
        return decode_time(d, owner, field, slot, path);
    case KP_KIND_BYTES:
        return decode_bytes(d, owner, field, slot, path);
    case KP_KIND_RAW:
        return kp_reader_raw(&d->r, slot) < 0 ? failed(d) : 0;
    case KP_KIND_STRUCT:
        return decode_nested(d, owner, field, slot, path);
    case KP_KIND_STRING_LIST:
        break;
    }
    return kp_fail(d->r.error, KP_EINTERNAL, "field %s has a kind without a decoder", field->json_name);
}

static int decode_item(struct decoder *d, const struct kp_type *owner, const struct kp_field *field, void *item, const struct kp_path *path)
{
    bool is_null, set;
    if (field->kind == KP_KIND_STRUCT && !kp_object_init(field->type, item, d->r.arena))
        return kp_reader_too_large(&d->r);
    if ((field->kind == KP_KIND_STRING || field->kind == KP_KIND_QUANTITY || field->kind == KP_KIND_DURATION) && kp_reader_peek(&d->r) == 'n')
        *(const char **)item = ""; /* Go's zero value */
    if (skip_null(d, &is_null) < 0)
        return failed(d);
    if (is_null)
        return 0;
    if (field->kind == KP_KIND_STRUCT) {
        void *slot = item;
        return decode_nested(d, owner, field, &slot, path);
    }
    return decode_single(d, owner, field, item, &set, path);
}

static int decode_list(struct decoder *d, const struct kp_type *owner, const struct kp_field *field, struct kp_list *list,
                       const struct kp_path *path)
{
    size_t size = kp_item_size(field);
    bool first = true;
    char c = kp_reader_peek(&d->r);
    *list = (struct kp_list){0};
    if (c != '[') {
        if (kp_reader_skip(&d->r) < 0)
            return failed(d);
        return wrong_type(d, owner, field, KP_LIST, path, kind_of(c));
    }
    if (kp_reader_enter(&d->r) < 0)
        return failed(d);
    int rc;
    while ((rc = kp_reader_element(&d->r, &first)) > 0) {
        struct kp_path at = {.parent = path, .index = list->len};
        void *item = kp_list_try(d->r.arena, list, size);
        if (!item)
            return kp_reader_too_large(&d->r);
        rc = decode_item(d, owner, field, item, &at);
        if (rc < 0)
            return rc;
    }
    kp_reader_leave(&d->r);
    if (rc == 0 && !list->items && !(list->items = kp_arena_try(d->r.arena, 1)))
        return kp_reader_too_large(&d->r);
    return rc < 0 ? failed(d) : 0;
}

static int decode_string_list(struct decoder *d, const struct kp_type *owner, const struct kp_field *field, struct kp_list *list,
                              const struct kp_path *path)
{
    struct kp_field strings = *field;
    strings.cardinality = KP_LIST;
    strings.kind = KP_KIND_STRING;
    return decode_list(d, owner, &strings, list, path);
}

/* The value part of a map entry whose key has been read. */
static int decode_entry(struct decoder *d, const struct kp_type *owner, const struct kp_field *field, void *entry, const struct kp_path *path)
{
    void *value = (char *)entry + sizeof(const char *);
    bool is_null, set;
    if (field->kind == KP_KIND_STRUCT && !(*(void **)value = kp_object_try(field->type, d->r.arena)))
        return kp_reader_too_large(&d->r);
    if (field->kind == KP_KIND_STRING)
        *(const char **)value = "";
    if (field->kind == KP_KIND_QUANTITY)
        *(const char **)value = "0";
    if (skip_null(d, &is_null) < 0)
        return failed(d);
    if (is_null)
        return 0;
    if (field->kind == KP_KIND_STRING_LIST)
        return decode_string_list(d, owner, field, value, path);
    return decode_single(d, owner, field, value, &set, path);
}

static int decode_map(struct decoder *d, const struct kp_type *owner, const struct kp_field *field, struct kp_list *map,
                      const struct kp_path *path)
{
    size_t size = kp_item_size(field), len;
    bool first = true;
    const char *key;
    char c = kp_reader_peek(&d->r);
    *map = (struct kp_list){0};
    if (c != '{') {
        if (kp_reader_skip(&d->r) < 0)
            return failed(d);
        return wrong_type(d, owner, field, KP_MAP, path, kind_of(c));
    }
    if (kp_reader_enter(&d->r) < 0)
        return failed(d);
    int rc;
    while ((rc = kp_reader_key(&d->r, &first, &key, &len)) > 0) {
        struct kp_path at = {.parent = path, .name = key};
        void *entry = kp_list_try(d->r.arena, map, size);
        if (!entry)
            return kp_reader_too_large(&d->r);
        *(const char **)entry = key;
        rc = decode_entry(d, owner, field, entry, &at);
        if (rc < 0)
            return rc;
    }
    kp_reader_leave(&d->r);
    if (rc < 0)
        return failed(d);
    if (d->options && d->options->strict && map->len > 1 && map->len <= 10000) { /* report duplicates before the last one wins */
        struct kp_strmap *seen = kp_strmap_new();
        for (size_t i = 0; i < map->len; i++) {
            const char *name = *(const char **)(void *)((char *)map->items + i * size);
            struct kp_path at = {.parent = path, .name = name};
            if (kp_strmap_put(seen, name, map))
                kp_path_problem(&at, "duplicate field", d->r.arena, &d->options->problems);
        }
        kp_strmap_free(seen, NULL);
    }
    kp_map_sort(map->items, &map->len, size);
    if (!map->items && !(map->items = kp_arena_try(d->r.arena, 1)))
        return kp_reader_too_large(&d->r);
    return 0;
}

static int decode_field(struct decoder *d, const struct kp_type *owner, const struct kp_field *field, void *obj, const struct kp_path *path)
{
    void *slot = KP_AT(obj, field->offset);
    bool is_null, set = true;
    if (skip_null(d, &is_null) < 0)
        return failed(d);
    if (is_null)
        return 0; /* as in Go, null leaves what is there */
    if (field->cardinality == KP_LIST)
        return decode_list(d, owner, field, slot, path);
    if (field->cardinality == KP_MAP)
        return decode_map(d, owner, field, slot, path);
    int rc = decode_single(d, owner, field, slot, &set, path);
    if (rc < 0)
        return rc;
    if (field->has_offset >= 0)
        *(bool *)KP_AT(obj, field->has_offset) = set;
    if (field->kind == KP_KIND_STRING && !field->nullable && **(const char **)slot == '\0')
        *(const char **)slot = NULL;
    return 0;
}

/* Clients write fields in the table's order more often than not, so the search starts where the last one ended. */
static const struct kp_field *find_field(const struct kp_type *type, const char *key, size_t len, size_t *hint)
{
    for (size_t n = 0; n < type->n_fields; n++) {
        size_t i = *hint + n < type->n_fields ? *hint + n : *hint + n - type->n_fields;
        const struct kp_field *field = &type->fields[i];
        if (field->json_name_len == len && !field->rest && memcmp(field->json_name, key, len) == 0) {
            *hint = i + 1 < type->n_fields ? i + 1 : 0;
            return field;
        }
    }
    return NULL;
}

static int decode_type_meta(struct decoder *d, const struct kp_type *type, const char *key, const struct kp_path *path, bool *ret_taken)
{
    static const struct kp_field strings[] = {{.json_name = "kind", .kind = KP_KIND_STRING}};
    bool is_kind = strcmp(key, "kind") == 0, is_null;
    *ret_taken = type->kind && (is_kind || strcmp(key, "apiVersion") == 0);
    if (!*ret_taken)
        return 0;
    const char *value = NULL;
    if (skip_null(d, &is_null) < 0)
        return failed(d);
    if (is_null)
        return 0;
    int rc = decode_string(d, type, &strings[0], &value, path);
    if (rc == 0 && d->options && d->r.depth == 1) {
        if (is_kind)
            d->options->kind = value;
        else
            d->options->api_version = value;
    }
    return rc;
}

static int decode_union(struct decoder *d, const struct kp_type *type, void *obj, const struct kp_path *path)
{
    const struct kp_field *first = &type->fields[0], *second = type->n_fields > 1 ? &type->fields[1] : NULL;
    bool set;
    char c = kp_reader_peek(&d->r);
    if (type->json_form == KP_FORM_SCHEMA_OR_BOOL) {
        if (c == '{') {
            *(bool *)KP_AT(obj, first->offset) = true;
            *(bool *)KP_AT(obj, first->has_offset) = true;
            return decode_nested(d, type, second, KP_AT(obj, second->offset), path);
        }
        int rc = decode_single(d, type, first, KP_AT(obj, first->offset), &set, path);
        *(bool *)KP_AT(obj, first->has_offset) = true;
        return rc;
    }
    if (c == '[')
        return decode_list(d, type, second, KP_AT(obj, second->offset), path);
    return decode_nested(d, type, first, KP_AT(obj, first->offset), path);
}

/* A member that no field takes, put to the others of its kind: in a buffer, for the arena would keep every state of a text that grows. */
static int gather_rest(struct decoder *d, const char *key, size_t len, struct kp_buf *rest)
{
    struct kp_raw raw = {0};
    if (kp_reader_raw(&d->r, &raw) < 0)
        return failed(d);
    kp_buf_putc(rest, rest->len ? ',' : '{');
    kp_json_string_n(rest, key, len);
    kp_buf_putc(rest, ':');
    if (raw.json)
        kp_buf_append(rest, raw.json, raw.len);
    else
        kp_buf_puts(rest, "null");
    return 0;
}

/* A field's value; in a struct with a rest one of another shape than the field's goes there, so that nothing that is JSON is refused. */
static int decode_or_gather(struct decoder *d, const struct kp_type *type, const struct kp_field *field, void *obj, const struct kp_path *at, struct kp_buf *rest)
{
    const struct kp_reader before = d->r;
    int rc = decode_field(d, type, field, obj, at);
    if (rc != KP_EBADREQUEST || !rest || field->value)
        return rc;
    d->r = before;
    d->r.error->code = 0;
    memset(KP_AT(obj, field->offset), 0, field->cardinality == KP_ONE && field->kind == KP_KIND_STRUCT ? sizeof(void *) : sizeof(struct kp_list));
    return gather_rest(d, field->json_name, field->json_name_len, rest);
}

static int store_rest(struct decoder *d, const struct kp_type *type, void *obj, struct kp_buf *rest)
{
    if (!rest->len)
        return 0;
    kp_buf_putc(rest, '}');
    struct kp_raw *slot = KP_AT(obj, type->fields[type->n_fields - 1].offset);
    char *text = kp_arena_try(d->r.arena, rest->len + 1);
    if (!text)
        return kp_reader_too_large(&d->r);
    memcpy(text, rest->data, rest->len + 1);
    *slot = (struct kp_raw){text, rest->len};
    return 0;
}

static int decode_struct(struct decoder *d, const struct kp_type *type, void *obj, const struct kp_path *path)
{
    if (type->json_form != KP_FORM_OBJECT)
        return decode_union(d, type, obj, path);
    uint64_t seen[KP_FIELDS_MAX / 64] = {0};
    size_t hint = 0, len;
    unsigned meta_seen = 0;
    bool first = true, strict = d->options && d->options->strict;
    bool has_rest = type->n_fields && type->fields[type->n_fields - 1].rest;
    KP_AUTO_BUF struct kp_buf rest = {0};
    const char *key;
    KP_ASSERT(type->n_fields <= KP_FIELDS_MAX);
    if (kp_reader_enter(&d->r) < 0)
        return failed(d);
    int rc;
    while ((rc = kp_reader_key(&d->r, &first, &key, &len)) > 0) {
        struct kp_path at = {.parent = path, .name = key};
        const struct kp_field *field = find_field(type, key, len, &hint);
        if (field) {
            size_t i = (size_t)(field - type->fields);
            if (strict && (seen[i / 64] >> (i % 64) & 1))
                kp_path_problem(&at, "duplicate field", d->r.arena, &d->options->problems);
            seen[i / 64] |= (uint64_t)1 << (i % 64);
            rc = decode_or_gather(d, type, field, obj, &at, has_rest ? &rest : NULL);
        } else {
            bool taken;
            rc = decode_type_meta(d, type, key, &at, &taken);
            unsigned bit = strcmp(key, "kind") == 0 ? 1 : 2;
            if (taken && strict && (meta_seen & bit))
                kp_path_problem(&at, "duplicate field", d->r.arena, &d->options->problems);
            meta_seen |= taken ? bit : 0;
            if (rc == 0 && !taken && has_rest) {
                rc = gather_rest(d, key, len, &rest);
            } else if (rc == 0 && !taken) {
                if (strict)
                    kp_path_problem(&at, "unknown field", d->r.arena, &d->options->problems);
                rc = kp_reader_skip(&d->r) < 0 ? failed(d) : 0;
            }
        }
        if (rc < 0)
            return rc;
    }
    kp_reader_leave(&d->r);
    return rc < 0 ? failed(d) : store_rest(d, type, obj, &rest);
}

int kp_json_decode(const struct kp_type *type, const char *text, size_t len, struct kp_arena *arena, struct kp_decode *options,
                   void **ret_obj, struct kp_error *error)
{
    struct kp_error own = {0};
    struct decoder d = {.r = {.p = text, .end = text + len, .arena = arena, .error = error ? error : &own}, .options = options};
    d.r.error->code = 0;
    if (len > KP_JSON_TEXT_MAX)
        return kp_fail(error, KP_ETOOLARGE, "JSON text of %zu bytes exceeds %zu", len, KP_JSON_TEXT_MAX);
    if (options) {
        options->api_version = options->kind = NULL;
        options->problems = (struct kp_string_list){0};
    }
    char c = kp_reader_peek(&d.r);
    if (c != '{' && type->json_form == KP_FORM_OBJECT) {
        if (kp_reader_skip(&d.r) < 0)
            return failed(&d);
        return kp_fail(error, KP_EBADREQUEST, "json: cannot unmarshal %s into Go value of type %s.%s", kind_of(c), type->version, type->name);
    }
    void *obj = kp_object_try(type, arena);
    if (!obj)
        return kp_reader_too_large(&d.r);
    int rc = decode_struct(&d, type, obj, NULL);
    if (rc == 0)
        rc = kp_reader_finish(&d.r) < 0 ? failed(&d) : 0;
    if (rc == 0)
        *ret_obj = obj;
    return rc;
}
