/* Swagger 2.0 in the protobuf form of gnostic's openapi.v2 package; the field numbers are those of its Document. */
#include "controlplane/apiserver/openapi/openapi_internal.h"

static void put_varint(struct kp_buf *out, uint64_t v)
{
    for (; v >= 0x80; v >>= 7)
        kp_buf_putc(out, (char)(v | 0x80));
    kp_buf_putc(out, (char)v);
}

static void put_n(struct kp_buf *out, unsigned number, const void *data, size_t len)
{
    put_varint(out, (uint64_t)number << 3 | 2);
    put_varint(out, len);
    kp_buf_append(out, data, len);
}

void oa_gnostic_string(struct kp_buf *out, unsigned number, const char *s)
{
    if (s && *s)
        put_n(out, number, s, strlen(s));
}

void oa_gnostic_bytes(struct kp_buf *out, unsigned number, const struct kp_buf *bytes) { put_n(out, number, bytes->data ? bytes->data : "", bytes->len); }

static void put_bool(struct kp_buf *out, unsigned number, const struct kp_value *value)
{
    if (!value || value->kind != KP_VALUE_BOOL || !value->boolean)
        return;
    put_varint(out, (uint64_t)number << 3);
    put_varint(out, 1);
}

/* int64, as a count of a schema. */
static void put_count(struct kp_buf *out, unsigned number, const struct kp_value *value)
{
    if (!value || value->kind != KP_VALUE_INT || !value->integer)
        return;
    put_varint(out, (uint64_t)number << 3);
    put_varint(out, (uint64_t)value->integer);
}

static void put_double(struct kp_buf *out, unsigned number, const struct kp_value *value)
{
    if (!value || (value->kind != KP_VALUE_INT && value->kind != KP_VALUE_DOUBLE))
        return;
    double d = value->kind == KP_VALUE_INT ? (double)value->integer : value->number;
    uint64_t bits;
    memcpy(&bits, &d, sizeof(bits));
    put_varint(out, (uint64_t)number << 3 | 1);
    for (int shift = 0; shift < 64; shift += 8)
        kp_buf_putc(out, (char)(bits >> shift));
}

static void put_member(struct kp_buf *out, unsigned number, const struct kp_value *object, const char *key)
{
    oa_gnostic_string(out, number, kp_value_str(kp_value_get(object, key)));
}

static void put_strings(struct kp_buf *out, unsigned number, const struct kp_value *array)
{
    for (size_t i = 0; kp_value_at(array, i); i++)
        oa_gnostic_string(out, number, kp_value_str(kp_value_at(array, i)));
}

/* Any: its yaml member holds the value; JSON is YAML. */
static void put_any(struct kp_buf *out, unsigned number, const struct kp_value *value)
{
    KP_AUTO_BUF struct kp_buf json = {0}, any = {0};
    kp_value_print(value, &json);
    oa_gnostic_bytes(&any, 2, &json);
    oa_gnostic_bytes(out, number, &any);
}

static void put_extensions(struct kp_buf *out, unsigned number, const struct kp_value *object)
{
    for (size_t i = 0; i < object->object.len; i++) {
        const struct kp_member *m = &object->object.members[i];
        if (!kp_starts_with(m->key, "x-"))
            continue;
        KP_AUTO_BUF struct kp_buf named = {0};
        oa_gnostic_string(&named, 1, m->key);
        put_any(&named, 2, m->value);
        oa_gnostic_bytes(out, number, &named);
    }
}

static void put_schema(struct kp_buf *out, unsigned number, const struct kp_value *schema);

static void put_properties(struct kp_buf *out, const struct kp_value *properties)
{
    KP_AUTO_BUF struct kp_buf all = {0};
    for (size_t i = 0; i < properties->object.len; i++) {
        KP_AUTO_BUF struct kp_buf named = {0};
        oa_gnostic_string(&named, 1, properties->object.members[i].key);
        put_schema(&named, 2, properties->object.members[i].value);
        oa_gnostic_bytes(&all, 1, &named);
    }
    oa_gnostic_bytes(out, 25, &all);
}

static void put_nested(struct kp_buf *out, unsigned number, const struct kp_value *schema)
{
    KP_AUTO_BUF struct kp_buf item = {0};
    put_schema(&item, 1, schema);
    oa_gnostic_bytes(out, number, &item);
}

/* AdditionalPropertiesItem: a schema, or whether there may be any. */
static void put_additional(struct kp_buf *out, unsigned number, const struct kp_value *more)
{
    if (more->kind == KP_VALUE_OBJECT) {
        put_nested(out, number, more);
        return;
    }
    KP_AUTO_BUF struct kp_buf item = {0};
    put_varint(&item, 2 << 3);
    put_varint(&item, more->kind == KP_VALUE_BOOL && more->boolean);
    oa_gnostic_bytes(out, number, &item);
}

/* What only custom resources' schemas have. */
static void put_limits(struct kp_buf *out, const struct kp_value *schema)
{
    static const struct {
        const char *key;
        unsigned number;
    } counts[] = {{"maxLength", 11}, {"minLength", 12}, {"maxItems", 14}, {"minItems", 15}, {"maxProperties", 17}, {"minProperties", 18}};
    put_double(out, 6, kp_value_get(schema, "multipleOf"));
    put_double(out, 7, kp_value_get(schema, "maximum"));
    put_bool(out, 8, kp_value_get(schema, "exclusiveMaximum"));
    put_double(out, 9, kp_value_get(schema, "minimum"));
    put_bool(out, 10, kp_value_get(schema, "exclusiveMinimum"));
    put_member(out, 13, schema, "pattern");
    put_bool(out, 16, kp_value_get(schema, "uniqueItems"));
    for (size_t i = 0; i < KP_ARRAY_LEN(counts); i++)
        put_count(out, counts[i].number, kp_value_get(schema, counts[i].key));
}

/* Depth is that of our own schemas, which refer to each other by name, or what the parser let through of a custom resource's. */
static void put_schema(struct kp_buf *out, unsigned number, const struct kp_value *schema)
{
    KP_AUTO_BUF struct kp_buf s = {0};
    const struct kp_value *type = kp_value_get(schema, "type"), *items = kp_value_get(schema, "items");
    const struct kp_value *more = kp_value_get(schema, "additionalProperties"), *properties = kp_value_get(schema, "properties");
    const struct kp_value *values = kp_value_get(schema, "enum");
    put_member(&s, 1, schema, "$ref");
    put_member(&s, 2, schema, "format");
    put_member(&s, 3, schema, "title");
    put_member(&s, 4, schema, "description");
    if (kp_value_get(schema, "default"))
        put_any(&s, 5, kp_value_get(schema, "default"));
    put_limits(&s, schema);
    put_strings(&s, 19, kp_value_get(schema, "required"));
    for (size_t i = 0; kp_value_at(values, i); i++)
        put_any(&s, 20, kp_value_at(values, i));
    if (more)
        put_additional(&s, 21, more);
    if (type) {
        KP_AUTO_BUF struct kp_buf item = {0};
        oa_gnostic_string(&item, 1, kp_value_str(type));
        oa_gnostic_bytes(&s, 22, &item);
    }
    if (items)
        put_nested(&s, 23, items);
    if (properties)
        put_properties(&s, properties);
    put_extensions(&s, 31, schema);
    oa_gnostic_bytes(out, number, &s);
}

void oa_gnostic_definition(struct kp_buf *out, unsigned number, const char *name, const struct kp_value *schema)
{
    KP_AUTO_BUF struct kp_buf named = {0};
    oa_gnostic_string(&named, 1, name);
    put_schema(&named, 2, schema);
    oa_gnostic_bytes(out, number, &named);
}

/* Parameter: a oneof of body and the others, which are told apart by where they stand. */
static void put_parameter(struct kp_buf *out, unsigned number, const struct kp_value *p)
{
    KP_AUTO_BUF struct kp_buf sub = {0}, choice = {0}, parameter = {0};
    const char *in = kp_value_str(kp_value_get(p, "in"));
    if (kp_streq(in, "body")) {
        put_member(&sub, 1, p, "description");
        put_member(&sub, 2, p, "name");
        put_member(&sub, 3, p, "in");
        put_bool(&sub, 4, kp_value_get(p, "required"));
        put_schema(&sub, 5, kp_value_get(p, "schema"));
        oa_gnostic_bytes(&parameter, 1, &sub);
    } else {
        bool path = kp_streq(in, "path");
        put_bool(&sub, 1, kp_value_get(p, "required"));
        put_member(&sub, 2, p, "in");
        put_member(&sub, 3, p, "description");
        put_member(&sub, 4, p, "name");
        put_member(&sub, path ? 5 : 6, p, "type");
        put_bool(&sub, path ? 19 : 20, kp_value_get(p, "uniqueItems"));
        oa_gnostic_bytes(&choice, path ? 4 : 3, &sub);
        oa_gnostic_bytes(&parameter, 2, &choice);
    }
    oa_gnostic_bytes(out, number, &parameter);
}

static void put_parameters(struct kp_buf *out, unsigned number, const struct kp_value *parameters)
{
    for (size_t i = 0; kp_value_at(parameters, i); i++) {
        const struct kp_value *p = kp_value_at(parameters, i);
        KP_AUTO_BUF struct kp_buf item = {0}, reference = {0};
        put_member(&reference, 1, p, "$ref");
        if (reference.len)
            oa_gnostic_bytes(&item, 2, &reference);
        else
            put_parameter(&item, 1, p);
        oa_gnostic_bytes(out, number, &item);
    }
}

void oa_gnostic_parameter(struct kp_buf *out, unsigned number, const char *name, const struct kp_value *parameter)
{
    KP_AUTO_BUF struct kp_buf named = {0};
    oa_gnostic_string(&named, 1, name);
    put_parameter(&named, 2, parameter);
    oa_gnostic_bytes(out, number, &named);
}

static void put_responses(struct kp_buf *out, const struct kp_value *responses)
{
    KP_AUTO_BUF struct kp_buf all = {0};
    for (size_t i = 0; i < responses->object.len; i++) {
        const struct kp_value *r = responses->object.members[i].value, *schema = kp_value_get(r, "schema");
        KP_AUTO_BUF struct kp_buf named = {0}, value = {0}, response = {0};
        put_member(&response, 1, r, "description");
        if (schema)
            put_nested(&response, 2, schema);
        oa_gnostic_bytes(&value, 1, &response);
        oa_gnostic_string(&named, 1, responses->object.members[i].key);
        oa_gnostic_bytes(&named, 2, &value);
        oa_gnostic_bytes(&all, 1, &named);
    }
    oa_gnostic_bytes(out, 9, &all);
}

static void put_operation(struct kp_buf *out, unsigned number, const struct kp_value *op)
{
    KP_AUTO_BUF struct kp_buf o = {0};
    put_strings(&o, 1, kp_value_get(op, "tags"));
    put_member(&o, 5, op, "operationId");
    put_strings(&o, 6, kp_value_get(op, "produces"));
    put_strings(&o, 7, kp_value_get(op, "consumes"));
    put_parameters(&o, 8, kp_value_get(op, "parameters"));
    put_responses(&o, kp_value_get(op, "responses"));
    put_extensions(&o, 13, op);
    oa_gnostic_bytes(out, number, &o);
}

void oa_gnostic_path(struct kp_buf *out, unsigned number, const char *path, const struct kp_value *item)
{
    static const struct {
        const char *method;
        unsigned number;
    } methods[] = {{"get", 2}, {"put", 3}, {"post", 4}, {"delete", 5}, {"patch", 8}};
    KP_AUTO_BUF struct kp_buf named = {0}, body = {0};
    for (size_t i = 0; i < KP_ARRAY_LEN(methods); i++)
        if (kp_value_get(item, methods[i].method))
            put_operation(&body, methods[i].number, kp_value_get(item, methods[i].method));
    put_parameters(&body, 9, kp_value_get(item, "parameters"));
    oa_gnostic_string(&named, 1, path);
    oa_gnostic_bytes(&named, 2, &body);
    oa_gnostic_bytes(out, number, &named);
}
