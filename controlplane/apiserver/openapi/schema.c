/* Schemas of the structs in the shape upstream gives them: list types, merge keys, defaults and enums included. */
#include "controlplane/apiserver/openapi/openapi_internal.h"

#include "api/k8s.h"

static const struct special {
    const char *name, *doc;
    const char *v2, *v3; /* members after the description, JSON without braces; "" = any JSON */
} specials[] = {
    {"io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSON", "Any JSON value.", "", ""},
    {"io.k8s.apimachinery.pkg.api.resource.Quantity", "A number with an optional suffix, such as 100m, 1.5Gi or 1e3.", "\"type\":\"string\"",
     "\"oneOf\":[{\"type\":\"string\"},{\"type\":\"number\"}]"},
    {"io.k8s.apimachinery.pkg.apis.meta.v1.FieldsV1", "A set of fields as nested JSON: f:name a field, k:{...} a list item by key, v:... one by value.",
     "\"type\":\"object\"", "\"type\":\"object\""},
    {"io.k8s.apimachinery.pkg.apis.meta.v1.MicroTime", "A time with microseconds (RFC 3339).", "\"type\":\"string\",\"format\":\"date-time\"",
     "\"type\":\"string\",\"format\":\"date-time\""},
    {"io.k8s.apimachinery.pkg.apis.meta.v1.Patch", "A change to an object, in the form the Content-Type names.", "\"type\":\"object\"",
     "\"type\":\"object\""},
    {"io.k8s.apimachinery.pkg.apis.meta.v1.Time", "A time with seconds (RFC 3339).", "\"type\":\"string\",\"format\":\"date-time\"",
     "\"type\":\"string\",\"format\":\"date-time\""},
    {"io.k8s.apimachinery.pkg.runtime.RawExtension", "An object of any kind.", "\"type\":\"object\"", "\"type\":\"object\""},
    {"io.k8s.apimachinery.pkg.util.intstr.IntOrString", "A number or a string.", "\"type\":\"string\",\"format\":\"int-or-string\"",
     "\"format\":\"int-or-string\",\"oneOf\":[{\"type\":\"integer\"},{\"type\":\"string\"}]"},
};

static const struct special *find_special(const char *name)
{
    for (size_t i = 0; i < KP_ARRAY_LEN(specials); i++)
        if (strcmp(specials[i].name, name) == 0)
            return &specials[i];
    return NULL;
}

bool oa_put_special(struct kp_buf *out, enum oa_version version, const char *name)
{
    const struct special *special = find_special(name);
    if (!special)
        return false;
    const char *members = version == OA_V3 ? special->v3 : special->v2;
    kp_buf_putc(out, '{');
    oa_member(out, "description", special->doc);
    if (*members)
        kp_buf_printf(out, ",%s", members);
    kp_buf_putc(out, '}');
    return true;
}

/* The schema name a field's values refer to; NULL for plain ones. */
static const char *target_of(const struct kp_field *field)
{
    if (field->kind == KP_KIND_STRUCT)
        return field->type->openapi_name;
    return field->ref && find_special(field->ref) ? field->ref : NULL;
}

static void put_plain(struct kp_buf *out, enum kp_kind kind)
{
    static const struct {
        const char *type, *format;
    } forms[] = {
        [KP_KIND_STRING] = {"string", NULL},        [KP_KIND_QUANTITY] = {"string", NULL},
        [KP_KIND_DURATION] = {"string", NULL},      [KP_KIND_BOOL] = {"boolean", NULL},
        [KP_KIND_INT32] = {"integer", "int32"},     [KP_KIND_INT64] = {"integer", "int64"},
        [KP_KIND_DOUBLE] = {"number", "double"},    [KP_KIND_INT_OR_STRING] = {"string", "int-or-string"},
        [KP_KIND_TIME] = {"string", "date-time"},   [KP_KIND_MICRO_TIME] = {"string", "date-time"},
        [KP_KIND_BYTES] = {"string", "byte"},       [KP_KIND_RAW] = {"object", NULL},
        [KP_KIND_STRING_LIST] = {"array", NULL},    [KP_KIND_STRUCT] = {"object", NULL},
    };
    if (forms[kind].format)
        oa_member(out, "format", forms[kind].format);
    oa_member(out, "type", forms[kind].type);
    if (kind == KP_KIND_STRING_LIST)
        oa_raw_member(out, "items", "{\"type\":\"string\",\"default\":\"\"}");
}

/* What a Go value that is no pointer holds when nothing is written; NULL for kinds upstream gives no default. */
static const char *zero_of(enum kp_kind kind)
{
    switch (kind) {
    case KP_KIND_STRING: return "\"\"";
    case KP_KIND_BOOL: return "false";
    case KP_KIND_INT32:
    case KP_KIND_INT64:
    case KP_KIND_DOUBLE: return "0";
    case KP_KIND_STRUCT: return "{}";
    default: return NULL;
    }
}

static void put_enum(struct kp_buf *out, const struct kp_field *field)
{
    if (!field->enum_values)
        return;
    oa_key(out, "enum");
    kp_buf_putc(out, '[');
    for (size_t i = 0; field->enum_values[i]; i++) {
        oa_separate(out);
        kp_json_string(out, field->enum_values[i]);
    }
    kp_buf_putc(out, ']');
}

/* Element of a list or map. OpenAPI 3.0 ignores what stands beside $ref, so that there it goes into allOf. */
static void put_element(struct kp_buf *out, enum oa_version version, const struct kp_field *field)
{
    const char *target = target_of(field);
    const char *zero = version == OA_V3 ? zero_of(field->kind) : NULL;
    kp_buf_putc(out, '{');
    if (target && zero) {
        kp_buf_puts(out, "\"allOf\":[{");
        oa_ref(out, version, target);
        kp_buf_puts(out, "}]");
    } else if (target) {
        oa_ref(out, version, target);
    } else {
        put_plain(out, field->kind);
        put_enum(out, field);
    }
    if (zero)
        oa_raw_member(out, "default", zero);
    kp_buf_putc(out, '}');
}

static void put_list_marks(struct kp_buf *out, const struct kp_field *field)
{
    static const char *const types[] = {NULL, "atomic", "set", "map"};
    if (field->list_type != KP_LIST_UNSPECIFIED)
        oa_member(out, "x-kubernetes-list-type", types[field->list_type]);
    if (field->list_map_keys && field->list_map_keys[0]) {
        oa_key(out, "x-kubernetes-list-map-keys");
        kp_buf_putc(out, '[');
        for (size_t i = 0; field->list_map_keys[i]; i++) {
            oa_separate(out);
            kp_json_string(out, field->list_map_keys[i]);
        }
        kp_buf_putc(out, ']');
    }
    if (field->map_atomic)
        oa_member(out, "x-kubernetes-map-type", "atomic");
    if (field->patch_merge_key)
        oa_member(out, "x-kubernetes-patch-merge-key", field->patch_merge_key);
    if (field->patch_strategy)
        oa_member(out, "x-kubernetes-patch-strategy", field->patch_strategy);
}

/* NULL: none. The schema's own defaults; else the zero of what is always there. */
static const char *default_of(const struct kp_field *field)
{
    if (field->default_json)
        return field->default_json;
    if (field->cardinality != KP_ONE)
        return NULL;
    if (field->kind == KP_KIND_STRUCT)
        return field->value ? "{}" : NULL;
    return field->required && !field->nullable ? zero_of(field->kind) : NULL;
}

static void put_field(struct kp_buf *out, enum oa_version version, const struct kp_field *field)
{
    const char *target = target_of(field), *value = version == OA_V3 ? default_of(field) : NULL;
    oa_key(out, field->json_name);
    kp_buf_putc(out, '{');
    if (*field->doc)
        oa_member(out, "description", field->doc);
    if (value)
        oa_raw_member(out, "default", value);
    if (field->cardinality == KP_LIST) {
        oa_key(out, "items");
        put_element(out, version, field);
        oa_member(out, "type", "array");
    } else if (field->cardinality == KP_MAP) {
        oa_key(out, "additionalProperties");
        put_element(out, version, field);
        oa_member(out, "type", "object");
    } else if (target && version == OA_V3 && (value || *field->doc)) {
        oa_key(out, "allOf");
        kp_buf_puts(out, "[{");
        oa_ref(out, version, target);
        kp_buf_puts(out, "}]");
    } else if (target) {
        oa_ref(out, version, target);
    } else {
        put_plain(out, field->kind);
        put_enum(out, field);
    }
    put_list_marks(out, field);
    kp_buf_putc(out, '}');
}

static void put_properties(struct kp_buf *out, enum oa_version version, const struct kp_type *type)
{
    oa_key(out, "properties");
    kp_buf_putc(out, '{');
    if (type->kind) {
        oa_raw_member(out, "apiVersion", "{\"description\":\"The group and version of this form of the object.\",\"type\":\"string\"}");
        oa_raw_member(out, "kind", "{\"description\":\"The kind of the object.\",\"type\":\"string\"}");
    }
    for (size_t i = 0; i < type->n_fields; i++)
        put_field(out, version, &type->fields[i]);
    kp_buf_putc(out, '}');
}

static void put_required(struct kp_buf *out, const struct kp_type *type)
{
    bool any = false;
    for (size_t i = 0; i < type->n_fields; i++) {
        if (!type->fields[i].required)
            continue;
        if (!any) {
            oa_key(out, "required");
            kp_buf_putc(out, '[');
        }
        any = true;
        oa_separate(out);
        kp_json_string(out, type->fields[i].json_name);
    }
    if (any)
        kp_buf_putc(out, ']');
}

void oa_put_type(struct kp_buf *out, enum oa_version version, const struct kp_type *type)
{
    kp_buf_putc(out, '{');
    oa_member(out, "description", type->doc);
    if (type->json_form == KP_FORM_OBJECT) {
        if (type->n_fields || type->kind)
            put_properties(out, version, type);
        put_required(out, type);
        oa_member(out, "type", "object");
    }
    if (type->kind) {
        oa_key(out, "x-kubernetes-group-version-kind");
        kp_buf_putc(out, '[');
        /* The options and the Status of meta.k8s.io/v1 are written as plain v1. */
        oa_gvk(out, kp_streq(type->group, "meta.k8s.io") ? "" : type->group, type->version, type->kind);
        kp_buf_putc(out, ']');
    }
    if (type->atomic)
        oa_member(out, "x-kubernetes-map-type", "atomic");
    kp_buf_putc(out, '}');
}

/* ---- sets of names ------------------------------------------------------------------------------------------------------ */
static void add(struct oa_names *names, const struct oa_name *name)
{
    if (!names->known)
        names->known = kp_strmap_new();
    if (kp_strmap_get(names->known, name->name))
        return;
    if (names->len == names->cap) {
        names->cap = names->cap ? 2 * names->cap : 64;
        names->items = kp_realloc(names->items, names->cap * sizeof(*names->items));
    }
    names->items[names->len++] = *name;
    kp_strmap_put(names->known, name->name, names);
}

void oa_names_add(struct oa_names *names, const char *name)
{
    const struct kp_type *type = kp_type_find_openapi(name);
    KP_ASSERT(type || find_special(name));
    add(names, &(struct oa_name){.name = name, .type = type});
}

void oa_names_add_type(struct oa_names *names, const struct kp_type *type, bool custom)
{
    add(names, &(struct oa_name){.name = type->openapi_name, .type = type, .custom = custom});
}

void oa_names_done(struct oa_names *names)
{
    kp_strmap_free(names->known, NULL);
    free(names->items);
    *names = (struct oa_names){0};
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(((const struct oa_name *)a)->name, ((const struct oa_name *)b)->name);
}

static void add_targets(struct oa_names *names, const struct kp_type *type)
{
    for (size_t i = 0; i < type->n_fields; i++) {
        const struct kp_field *field = &type->fields[i];
        const char *target = target_of(field);
        if (target && field->kind == KP_KIND_STRUCT)
            oa_names_add_type(names, field->type, false);
        else if (target)
            add(names, &(struct oa_name){.name = target});
    }
}

void oa_names_close(struct oa_names *names)
{
    for (size_t at = 0; at < names->len; at++) { /* grows while we walk */
        const struct kp_type *type = names->items[at].type;
        if (names->items[at].custom) {
            oa_names_add_type(names, type->is_list ? &k8s_list_meta_type : &k8s_object_meta_type, false);
            if (type->is_list)
                oa_names_add_type(names, type->item_type, true);
        } else if (type && type->json_form == KP_FORM_OBJECT) {
            add_targets(names, type);
        }
    }
    if (names->len)
        qsort(names->items, names->len, sizeof(names->items[0]), compare_names);
}
