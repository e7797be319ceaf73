/* Whether a schema is structural: every part of a value has a type outside of what only restricts values. */
#include "controlplane/apiserver/structural/structural_internal.h"

enum level { LEVEL_ROOT, LEVEL_ITEM, LEVEL_FIELD };

/* Where in the schema, and what is found there. */
struct here {
    struct field_errors *errors;
    const struct spath *path;
    enum level level;
};
#define AT(here, child_path, child_level) ((struct here){(here).errors, (child_path), (child_level)})

static void check_nested(const struct k8s_json_schema_props *schema, bool skip_any_of, struct here here);

static const char *path_of(struct here here, const char *child)
{
    return spath_text(&SPATH_CHILD(here.path, child), here.errors->arena);
}

static void forbidden(struct here here, const char *child, const char *why)
{
    if (here.errors->len < FIELD_ERRORS_MAX)
        field_forbidden(here.errors, why, "%s", path_of(here, child));
}

static void required(struct here here, const char *child, const char *why)
{
    if (here.errors->len < FIELD_ERRORS_MAX)
        field_required(here.errors, why, "%s", path_of(here, child));
}

static void invalid(struct here here, const char *child, const char *value, const char *why)
{
    if (here.errors->len < FIELD_ERRORS_MAX)
        field_invalid_raw(here.errors, quoted_text(value ? value : "", here.errors->arena), why, "%s", path_of(here, child));
}

static bool encodes_as(const struct k8s_json_schema_props *schema, const char *json)
{
    KP_AUTO_BUF struct kp_buf out = {0};
    kp_json_encode(&k8s_json_schema_props_type, schema, &out);
    return strcmp(out.data, json) == 0;
}

/* The one place where types are allowed in restrictions: both of x-kubernetes-int-or-string. */
static bool is_int_or_string(const struct k8s_json_schema_props_items *any_of)
{
    return any_of->len == 2 && kp_streq(any_of->items[0].type, "integer") && kp_streq(any_of->items[1].type, "string") &&
           encodes_as(&any_of->items[0], "{\"type\":\"integer\"}") && encodes_as(&any_of->items[1], "{\"type\":\"string\"}");
}

/* ---- what only restricts values ---------------------------------------------------------------------------------------------------- */
static void check_nested_list(const struct k8s_json_schema_props_items *list, const char *name, bool skip_first_any_of, struct here here)
{
    const struct spath path = SPATH_CHILD(here.path, name);
    for (size_t i = 0; i < list->len; i++)
        check_nested(&list->items[i], skip_first_any_of && i == 0, AT(here, &SPATH_OF_INDEX(&path, i), here.level));
}

static void check_value_validation(const struct k8s_json_schema_props *schema, bool skip_any_of, bool skip_first_any_of, struct here here)
{
    const char *why = NULL;
    if (!skip_any_of)
        check_nested_list(&schema->any_of, "anyOf", false, here);
    check_nested_list(&schema->all_of, "allOf", skip_first_any_of, here);
    check_nested_list(&schema->one_of, "oneOf", false, here);
    if (schema->not)
        check_nested(schema->not, false, AT(here, &SPATH_CHILD(here.path, "not"), here.level));
    if (kp_empty(schema->pattern))
        return;
    KP_AUTO(kp_pattern_free) struct kp_pattern *pattern = kp_pattern_new(schema->pattern, here.errors->arena, &why);
    if (!pattern)
        invalid(here, "pattern", schema->pattern, kp_arena_printf(here.errors->arena, "must be a valid regular expression, but isn't: %s", why));
}

static void check_nested_words(const struct k8s_json_schema_props *schema, struct here here)
{
    const struct k8s_json_schema_props_or_bool *additional = schema->additional_properties;
    const struct {
        const char *name, *why;
        bool is;
    } words[] = {
        {"type", "must be empty to be structural", !kp_empty(schema->type)},
        {"additionalProperties", "must be undefined to be structural", additional && (additional->schema || additional->allows)},
        {"default", "must be undefined to be structural", schema->default_.json && strcmp(schema->default_.json, "null") != 0},
        {"title", "must be empty to be structural", !kp_empty(schema->title)},
        {"description", "must be empty to be structural", !kp_empty(schema->description)},
        {"nullable", "must be false to be structural", schema->nullable},
        {"x-kubernetes-preserve-unknown-fields", "must be false to be structural", schema->x_kubernetes_preserve_unknown_fields},
        {"x-kubernetes-embedded-resource", "must be false to be structural", schema->x_kubernetes_embedded_resource},
        {"x-kubernetes-int-or-string", "must be false to be structural", schema->x_kubernetes_int_or_string},
        {"x-kubernetes-list-map-keys", "must be empty to be structural", schema->x_kubernetes_list_map_keys.len > 0},
        {"x-kubernetes-list-type", "must be undefined to be structural", schema->x_kubernetes_list_type != NULL},
        {"x-kubernetes-map-type", "must be undefined to be structural", schema->x_kubernetes_map_type != NULL},
        {"x-kubernetes-validations", "must be empty to be structural", schema->x_kubernetes_validations.len > 0},
    };
    for (size_t i = 0; i < KP_ARRAY_LEN(words); i++)
        if (words[i].is)
            forbidden(here, words[i].name, words[i].why);
}

static void check_nested(const struct k8s_json_schema_props *schema, bool skip_any_of, struct here here)
{
    const struct spath properties = SPATH_CHILD(here.path, "properties");
    check_value_validation(schema, skip_any_of, false, here);
    if (schema->items && schema->items->schema)
        check_nested(schema->items->schema, false, AT(here, &SPATH_CHILD(here.path, "items"), here.level));
    for (size_t i = 0; i < schema->properties.len; i++)
        if (schema->properties.items[i].value)
            check_nested(schema->properties.items[i].value, false, AT(here, &SPATH_OF_KEY(&properties, schema->properties.items[i].key), LEVEL_FIELD));
    check_nested_words(schema, here);
    for (size_t i = 0; i < schema->properties.len; i++)
        if (strcmp(schema->properties.items[i].key, "metadata") == 0 && here.errors->len < FIELD_ERRORS_MAX)
            field_forbidden(here.errors, "must not be specified in a nested context", "%s[metadata]", path_of(here, "properties"));
}

/* ---- what gives values their form -------------------------------------------------------------------------------------------------- */
static const struct k8s_json_schema_props *property(const struct k8s_json_schema_props *schema, const char *name)
{
    for (size_t i = 0; i < schema->properties.len; i++)
        if (strcmp(schema->properties.items[i].key, name) == 0)
            return schema->properties.items[i].value;
    return NULL;
}

/* At the root metadata has a schema already; only names can be restricted further. */
static void check_root_metadata(const struct k8s_json_schema_props *metadata, struct here here)
{
    struct k8s_json_schema_props rest = *metadata;
    size_t names = !!property(metadata, "name") + !!property(metadata, "generateName");
    if (names > 0 && names == metadata->properties.len)
        memset(&rest.properties, 0, sizeof(rest.properties));
    rest.type = NULL;
    rest.default_ = (struct kp_raw){0};
    if (!encodes_as(&rest, "{}") && here.errors->len < FIELD_ERRORS_MAX)
        field_forbidden(here.errors, "must not specify anything other than name and generateName, but metadata is implicitly specified",
                        "%s[metadata]", path_of(here, "properties"));
}

static void check_meta_type(const struct k8s_json_schema_props *schema, const char *name, const char *type, struct here here)
{
    const struct k8s_json_schema_props *field = property(schema, name);
    const struct spath properties = SPATH_CHILD(here.path, "properties"), path = SPATH_OF_KEY(&properties, name);
    if (field && !kp_streq(field->type, type))
        invalid(AT(here, &path, LEVEL_FIELD), "type", field->type, kp_arena_printf(here.errors->arena, "must be %s", type));
}

static void check_metadata(const struct k8s_json_schema_props *schema, struct here here)
{
    const struct k8s_json_schema_props *metadata = property(schema, "metadata");
    if (here.level == LEVEL_ROOT || schema->x_kubernetes_embedded_resource) {
        check_meta_type(schema, "kind", "string", here);
        check_meta_type(schema, "apiVersion", "string", here);
        check_meta_type(schema, "metadata", "object", here);
    }
    if (metadata && here.level == LEVEL_ROOT)
        check_root_metadata(metadata, here);
}

static void check_type(const struct k8s_json_schema_props *schema, struct here here)
{
    static const char *const empty[] = {[LEVEL_ROOT] = "must not be empty at the root",
                                        [LEVEL_ITEM] = "must not be empty for specified array items",
                                        [LEVEL_FIELD] = "must not be empty for specified object fields"};
    bool embedded = schema->x_kubernetes_embedded_resource;
    if (embedded && kp_empty(schema->type))
        required(here, "type", "must be object if x-kubernetes-embedded-resource is true");
    else if (embedded && strcmp(schema->type, "object") != 0)
        invalid(here, "type", schema->type, "must be object if x-kubernetes-embedded-resource is true");
    else if (kp_empty(schema->type) && !schema->x_kubernetes_int_or_string && !schema->x_kubernetes_preserve_unknown_fields)
        required(here, "type", empty[here.level]);
    if (embedded && schema->additional_properties)
        forbidden(here, "additionalProperties", "must not be used if x-kubernetes-embedded-resource is set");
    if (here.level == LEVEL_ROOT && !kp_empty(schema->type) && strcmp(schema->type, "object") != 0)
        invalid(here, "type", schema->type, "must be object at the root");
    if (embedded && !schema->x_kubernetes_preserve_unknown_fields && schema->properties.len == 0)
        required(here, "properties", "must not be empty if x-kubernetes-embedded-resource is true without x-kubernetes-preserve-unknown-fields");
}

static void check_extensions(const struct k8s_json_schema_props *schema, struct here here)
{
    static const char why[] = "must be false if x-kubernetes-int-or-string is true";
    if (!schema->x_kubernetes_int_or_string)
        return;
    if (schema->x_kubernetes_preserve_unknown_fields)
        field_invalid_raw(here.errors, "true", why, "%s", path_of(here, "x-kubernetes-preserve-unknown-fields"));
    if (schema->x_kubernetes_embedded_resource)
        field_invalid_raw(here.errors, "true", why, "%s", path_of(here, "x-kubernetes-embedded-resource"));
}

static void check_invariants(const struct k8s_json_schema_props *schema, struct here here)
{
    const struct spath properties = SPATH_CHILD(here.path, "properties");
    const struct k8s_json_schema_props *items = schema->items ? schema->items->schema : NULL;
    if (kp_streq(schema->type, "array") && !items)
        required(here, "items", "must be specified");
    if (items)
        check_invariants(items, AT(here, &SPATH_CHILD(here.path, "items"), LEVEL_ITEM));
    for (size_t i = 0; i < schema->properties.len; i++)
        if (schema->properties.items[i].value)
            check_invariants(schema->properties.items[i].value, AT(here, &SPATH_OF_KEY(&properties, schema->properties.items[i].key), LEVEL_FIELD));
    if (schema->additional_properties && here.level == LEVEL_ROOT)
        forbidden(here, "additionalProperties", "must not be used at the root");
    if (schema->additional_properties && schema->additional_properties->schema)
        check_invariants(schema->additional_properties->schema, AT(here, &SPATH_CHILD(here.path, "additionalProperties"), LEVEL_FIELD));
    check_extensions(schema, here);
    check_value_validation(schema, is_int_or_string(&schema->any_of), schema->all_of.len > 0 && is_int_or_string(&schema->all_of.items[0].any_of), here);
    check_type(schema, here);
    check_metadata(schema, here);
}

/* ---- restrictions are of what has a form ------------------------------------------------------------------------------------------- */
static void check_complete(const struct k8s_json_schema_props *restriction, const struct k8s_json_schema_props *form, const struct spath *restriction_path,
                           const struct spath *form_path, struct field_errors *errors);

static void check_complete_list(const struct k8s_json_schema_props_items *list, const char *name, const struct k8s_json_schema_props *form,
                                const struct spath *list_path, const struct spath *form_path, struct field_errors *errors)
{
    const struct spath path = SPATH_CHILD(list_path, name);
    for (size_t i = 0; i < list->len; i++)
        check_complete(&list->items[i], form, &SPATH_OF_INDEX(&path, i), form_path, errors);
}

static void check_complete_words(const struct k8s_json_schema_props *schema, const struct k8s_json_schema_props *form, const struct spath *path,
                                 const struct spath *form_path, struct field_errors *errors)
{
    if (schema->not)
        check_complete(schema->not, form, &SPATH_CHILD(path, "not"), form_path, errors);
    check_complete_list(&schema->all_of, "allOf", form, path, form_path, errors);
    check_complete_list(&schema->any_of, "anyOf", form, path, form_path, errors);
    check_complete_list(&schema->one_of, "oneOf", form, path, form_path, errors);
}

static void check_complete(const struct k8s_json_schema_props *restriction, const struct k8s_json_schema_props *form, const struct spath *restriction_path,
                           const struct spath *form_path, struct field_errors *errors)
{
    if (!form) {
        if (errors->len < FIELD_ERRORS_MAX)
            field_required(errors, kp_arena_printf(errors->arena, "because it is defined in %s", spath_text(restriction_path, errors->arena)), "%s",
                           spath_text(form_path, errors->arena));
        return;
    }
    check_complete_words(restriction, form, restriction_path, form_path, errors);
    if (restriction->items && restriction->items->schema)
        check_complete(restriction->items->schema, form->items ? form->items->schema : NULL, &SPATH_CHILD(restriction_path, "items"),
                       &SPATH_CHILD(form_path, "items"), errors);
    const struct spath properties = SPATH_CHILD(restriction_path, "properties"), form_properties = SPATH_CHILD(form_path, "properties");
    for (size_t i = 0; i < restriction->properties.len; i++) {
        const char *name = restriction->properties.items[i].key;
        if (restriction->properties.items[i].value)
            check_complete(restriction->properties.items[i].value, property(form, name), &SPATH_OF_KEY(&properties, name),
                           &SPATH_OF_KEY(&form_properties, name), errors);
    }
}

static int compare_errors(const void *a, const void *b)
{
    const struct api_cause *x = a, *y = b;
    int order = strcmp(x->field, y->field);
    return order ? order : strcmp(x->message, y->message);
}

void check_structure(const struct k8s_json_schema_props *schema, const char *path, struct field_errors *errors)
{
    struct field_errors found = {.arena = errors->arena};
    const struct spath root = SPATH_ROOT(path);
    check_invariants(schema, (struct here){&found, &root, LEVEL_ROOT});
    check_complete_words(schema, schema, &root, &root, &found);
    if (found.len > 1)
        qsort(found.items, found.len, sizeof(*found.items), compare_errors);
    for (size_t i = 0; i < found.len; i++)
        field_add(errors, found.items[i].reason, found.items[i].message, "%s", found.items[i].field);
}
