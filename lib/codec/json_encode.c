/* Structs to compact JSON, leaving out and keeping what Go's encoding/json would for the same object. */
#include "codec/codec_internal.h"

#include <math.h>

static void encode_struct(const struct kp_type *type, const void *obj, struct kp_buf *out);

void kp_json_string_n(struct kp_buf *out, const char *s, size_t len)
{
    static const char hex[] = "0123456789abcdef";
    size_t start = 0;
    kp_buf_reserve(out, len + 2);
    kp_buf_putc(out, '"');
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)s[i];
        bool separator = c == 0xe2 && i + 2 < len && (unsigned char)s[i + 1] == 0x80 && ((unsigned char)s[i + 2] & 0xfe) == 0xa8;
        if (c >= 0x20 && c != '"' && c != '\\' && !separator)
            continue;
        kp_buf_append(out, s + start, i - start);
        if (separator) { /* U+2028 and U+2029 end lines in JavaScript */
            kp_buf_puts(out, (unsigned char)s[i + 2] == 0xa8 ? "\\u2028" : "\\u2029");
            i += 2;
        } else if (c == '"' || c == '\\') {
            kp_buf_putc(out, '\\');
            kp_buf_putc(out, (char)c);
        } else if (c == '\n' || c == '\r' || c == '\t') {
            kp_buf_putc(out, '\\');
            kp_buf_putc(out, c == '\n' ? 'n' : c == '\r' ? 'r' : 't');
        } else {
            char code[7] = {'\\', 'u', '0', '0', hex[c >> 4], hex[c & 15], '\0'};
            kp_buf_append(out, code, 6);
        }
        start = i + 1;
    }
    kp_buf_append(out, s + start, len - start);
    kp_buf_putc(out, '"');
}

void kp_json_string(struct kp_buf *out, const char *s)
{
    kp_json_string_n(out, s, strlen(s));
}

/* Shortest digits that read back as the same number; exponents where Go uses them (below 1e-6, from 1e21). */
void kp_json_double(struct kp_buf *out, double value)
{
    char text[64], digits[32];
    int precision = 1, n = 0;
    if (!isfinite(value)) { /* has no JSON form; only a bug could bring it here */
        kp_buf_puts(out, "null");
        return;
    }
    do
        snprintf(text, sizeof(text), "%.*e", precision - 1, value);
    while (strtod(text, NULL) != value && ++precision <= 17);
    int exponent = (int)strtol(strchr(text, 'e') + 1, NULL, 10);
    for (const char *c = text; *c != 'e'; c++)
        if (*c >= '0' && *c <= '9')
            digits[n++] = *c;
    digits[n] = '\0';
    if (signbit(value))
        kp_buf_putc(out, '-');
    if (value == 0) {
        kp_buf_putc(out, '0');
    } else if (exponent < -6 || exponent >= 21) {
        kp_buf_printf(out, "%c%s%se%c%02d", digits[0], n > 1 ? "." : "", digits + 1, exponent < 0 ? '-' : '+', abs(exponent));
    } else if (exponent < 0) {
        kp_buf_printf(out, "0.%.*s%s", -exponent - 1, "00000", digits);
    } else {
        kp_buf_append(out, digits, (size_t)KP_MIN(n, exponent + 1));
        for (int i = n; i < exponent + 1; i++)
            kp_buf_putc(out, '0');
        if (n > exponent + 1)
            kp_buf_printf(out, ".%s", digits + exponent + 1);
    }
}

static void encode_time(const struct kp_field *field, const struct kp_time *time, struct kp_buf *out)
{
    char text[KP_RFC3339_MAX];
    if (!time->set) {
        kp_buf_puts(out, "null");
        return;
    }
    bool micro = field->kind == KP_KIND_MICRO_TIME;
    kp_format_rfc3339(text, time->seconds, micro ? time->nanos : 0, micro);
    kp_buf_putc(out, '"');
    kp_buf_puts(out, text);
    kp_buf_putc(out, '"');
}

static void encode_bytes(const struct kp_bytes *bytes, struct kp_buf *out)
{
    if (!bytes->data) {
        kp_buf_puts(out, "null");
        return;
    }
    kp_buf_putc(out, '"');
    if (bytes->len > 0)
        kp_base64_encode(out, bytes->data, bytes->len);
    kp_buf_putc(out, '"');
}

static void encode_string_list(const struct kp_string_list *list, struct kp_buf *out)
{
    kp_buf_putc(out, '[');
    for (size_t i = 0; i < list->len; i++) {
        if (i > 0)
            kp_buf_putc(out, ',');
        kp_json_string(out, list->items[i] ? list->items[i] : "");
    }
    kp_buf_putc(out, ']');
}

/* One value at slot, whatever the field's cardinality; absent ones as Go's zero value. */
static void encode_single(const struct kp_field *field, const void *slot, struct kp_buf *out)
{
    const char *s;
    switch (field->kind) {
    case KP_KIND_STRING:
    case KP_KIND_DURATION:
        s = *(const char *const *)slot;
        kp_json_string(out, s ? s : "");
        break;
    case KP_KIND_QUANTITY:
        s = *(const char *const *)slot;
        kp_json_string(out, s && *s ? s : "0");
        break;
    case KP_KIND_BOOL:
        kp_buf_puts(out, *(const bool *)slot ? "true" : "false");
        break;
    case KP_KIND_INT32:
        kp_buf_printf(out, "%d", (int)*(const int32_t *)slot);
        break;
    case KP_KIND_INT64:
        kp_buf_printf(out, "%lld", (long long)*(const int64_t *)slot);
        break;
    case KP_KIND_DOUBLE:
        kp_json_double(out, *(const double *)slot);
        break;
    case KP_KIND_INT_OR_STRING: {
        const struct kp_int_or_string *ios = slot;
        if (ios->kind == KP_IOS_STRING)
            kp_json_string(out, ios->s ? ios->s : "");
        else
            kp_buf_printf(out, "%d", ios->kind == KP_IOS_INT ? (int)ios->i : 0);
        break;
    }
    case KP_KIND_TIME:
    case KP_KIND_MICRO_TIME:
        encode_time(field, slot, out);
        break;
    case KP_KIND_BYTES:
        encode_bytes(slot, out);
        break;
    case KP_KIND_RAW: {
        const struct kp_raw *raw = slot;
        if (raw->json)
            kp_buf_append(out, raw->json, raw->len);
        else
            kp_buf_puts(out, "null");
        break;
    }
    case KP_KIND_STRUCT:
        encode_struct(field->type, slot, out);
        break;
    case KP_KIND_STRING_LIST:
        encode_string_list(slot, out);
        break;
    }
}

static void encode_list(const struct kp_field *field, const struct kp_list *list, struct kp_buf *out)
{
    size_t size = kp_item_size(field);
    kp_buf_putc(out, '[');
    for (size_t i = 0; i < list->len; i++) {
        if (i > 0)
            kp_buf_putc(out, ',');
        encode_single(field, (const char *)list->items + i * size, out);
    }
    kp_buf_putc(out, ']');
}

static void encode_map(const struct kp_field *field, const struct kp_list *map, struct kp_buf *out)
{
    size_t size = kp_item_size(field);
    kp_buf_putc(out, '{');
    for (size_t i = 0; i < map->len; i++) {
        const char *entry = (const char *)map->items + i * size;
        const void *value = entry + sizeof(const char *);
        if (i > 0)
            kp_buf_putc(out, ',');
        kp_json_string(out, *(const char *const *)(const void *)entry);
        kp_buf_putc(out, ':');
        if (field->kind == KP_KIND_STRUCT)
            value = *(const void *const *)value;
        encode_single(field, value, out);
    }
    kp_buf_putc(out, '}');
}

/* Whether the field is written, and whether as null. */
static bool is_written(const struct kp_type *type, const struct kp_field *field, const void *obj, bool *ret_null)
{
    *ret_null = false;
    if (kp_field_present(field, obj))
        return true;
    if (field->cardinality != KP_ONE) {
        const struct kp_list *list = KP_CAT(obj, field->offset);
        *ret_null = !list->items && !(type->is_list && field->offset == type->items_offset);
        return field->always;
    }
    if (field->value)
        return !field->omitzero;
    if (!field->always)
        return false;
    bool pointer = field->kind == KP_KIND_QUANTITY || field->kind >= KP_KIND_INT_OR_STRING;
    *ret_null = field->nullable || (pointer && field->kind != KP_KIND_BYTES);
    return true;
}

static void encode_field(const struct kp_type *type, const struct kp_field *field, const void *obj, bool *first, struct kp_buf *out)
{
    bool as_null;
    const void *slot = KP_CAT(obj, field->offset);
    if (!is_written(type, field, obj, &as_null))
        return;
    if (!*first)
        kp_buf_putc(out, ',');
    *first = false;
    if (field->rest) { /* "{...}": what is between the braces, and there is something */
        const struct kp_raw *rest = slot;
        kp_buf_append(out, rest->json + 1, rest->len - 2);
        return;
    }
    kp_buf_putc(out, '"');
    kp_buf_append(out, field->json_name, field->json_name_len);
    kp_buf_append(out, "\":", 2);
    if (as_null) {
        kp_buf_append(out, "null", 4);
    } else if (field->cardinality == KP_LIST) {
        encode_list(field, slot, out);
    } else if (field->cardinality == KP_MAP) {
        encode_map(field, slot, out);
    } else if (field->kind == KP_KIND_STRUCT) {
        encode_struct(field->type, *(const void *const *)slot, out);
    } else {
        encode_single(field, slot, out);
    }
}

static void encode_union(const struct kp_type *type, const void *obj, struct kp_buf *out)
{
    const struct kp_field *first = &type->fields[0], *second = &type->fields[1];
    if (type->json_form == KP_FORM_SCHEMA_OR_BOOL) {
        const void *schema = *(const void *const *)KP_CAT(obj, second->offset);
        if (schema)
            encode_struct(second->type, schema, out);
        else
            encode_single(first, KP_CAT(obj, first->offset), out);
        return;
    }
    const struct kp_list *list = KP_CAT(obj, second->offset);
    const void *schema = *(const void *const *)KP_CAT(obj, first->offset);
    if (list->len > 0)
        encode_list(second, list, out);
    else if (schema)
        encode_struct(first->type, schema, out);
    else
        kp_buf_puts(out, list->items ? "[]" : "null");
}

static void encode_struct(const struct kp_type *type, const void *obj, struct kp_buf *out)
{
    void *zero = NULL;
    if (!obj)
        obj = zero = kp_calloc(1, type->size);
    if (type->json_form != KP_FORM_OBJECT) {
        encode_union(type, obj, out);
        free(zero);
        return;
    }
    bool first = true;
    kp_buf_putc(out, '{');
    for (size_t i = 0; i < type->n_fields; i++)
        encode_field(type, &type->fields[i], obj, &first, out);
    kp_buf_putc(out, '}');
    free(zero);
}

void kp_json_encode(const struct kp_type *type, const void *obj, struct kp_buf *out)
{
    char api_version[KP_API_VERSION_MAX];
    size_t start = out->len;
    if (!type->kind) {
        encode_struct(type, obj, out);
        return;
    }
    kp_buf_printf(out, "{\"kind\":\"%s\",\"apiVersion\":\"%s\"", type->kind, kp_type_api_version(type, api_version));
    bool first = out->len == start;
    for (size_t i = 0; i < type->n_fields; i++)
        encode_field(type, &type->fields[i], obj, &first, out);
    kp_buf_putc(out, '}');
}
