/* The words that say how lists and maps merge, and the form of the rules in CEL. */
#include "controlplane/apiserver/structural/structural_internal.h"

#include <ctype.h>

#define TEXT(path) spath_text((path), errors->arena)

static const char *strings_text(const struct kp_string_list *list, struct kp_arena *arena)
{
    KP_AUTO_BUF struct kp_buf out = {0};
    kp_buf_putc(&out, '[');
    for (size_t i = 0; i < list->len && out.len < STRUCTURAL_ENUM_TEXT_MAX; i++)
        kp_buf_printf(&out, "%s%s", i ? "," : "", quoted_text(list->items[i], arena));
    kp_buf_putc(&out, ']');
    return kp_arena_strndup(arena, out.data, out.len);
}

static const char *or_empty(const char *s)
{
    return s ? s : "";
}

/* Type of the schema that a word needs. */
static void check_type(const struct k8s_json_schema_props *schema, const char *type, const char *why, const struct spath *path, struct field_errors *errors)
{
    if (kp_empty(schema->type))
        field_required(errors, why, "%s", TEXT(&SPATH_CHILD(path, "type")));
    else if (strcmp(schema->type, type) != 0)
        field_invalid(errors, schema->type, why, "%s", TEXT(&SPATH_CHILD(path, "type")));
}

/* Items of a set are replaced as a whole, or they could not be told apart while they merge. */
static void check_set(const struct k8s_json_schema_props *item, const struct spath *path, struct field_errors *errors)
{
    static const char why[] = "must be atomic as item of a list with x-kubernetes-list-type=set";
    const char *list_type = item->x_kubernetes_list_type;
    const char *value = list_type ? quoted_text(list_type, errors->arena) : "null";
    if (kp_streq(item->type, "array") && list_type && strcmp(list_type, "atomic") != 0)
        field_invalid_raw(errors, value, why, "%s", TEXT(&SPATH_CHILD(path, "x-kubernetes-list-type")));
    if (kp_streq(item->type, "object") && !kp_streq(item->x_kubernetes_map_type, "atomic"))
        field_invalid_raw(errors, value, why, "%s", TEXT(&SPATH_CHILD(path, "x-kubernetes-map-type")));
}

static const struct k8s_json_schema_props *property(const struct k8s_json_schema_props *schema, const char *name)
{
    for (size_t i = 0; i < schema->properties.len; i++)
        if (strcmp(schema->properties.items[i].key, name) == 0)
            return schema->properties.items[i].value;
    return NULL;
}

static bool among_first(const struct kp_string_list *list, size_t count, const char *s)
{
    return kp_string_list_has(&(struct kp_string_list){list->items, count}, s);
}

static void check_keys(const struct k8s_json_schema_props *schema, const struct spath *path, struct field_errors *errors)
{
    const struct kp_string_list *keys = &schema->x_kubernetes_list_map_keys;
    const struct k8s_json_schema_props *item = schema->items->schema;
    const struct spath items = SPATH_CHILD(path, "items"), properties = SPATH_CHILD(&items, "properties");
    const struct spath here = SPATH_CHILD(path, "x-kubernetes-list-map-keys");
    for (size_t i = 0; i < keys->len && errors->len < FIELD_ERRORS_MAX; i++) {
        const struct k8s_json_schema_props *key = property(item, keys->items[i]);
        const struct spath at = SPATH_OF_KEY(&properties, keys->items[i]);
        if (!key)
            field_invalid_raw(errors, strings_text(keys, errors->arena), "entries must all be names of item properties", "%s", TEXT(&here));
        else if (kp_streq(key->type, "array") || kp_streq(key->type, "object"))
            field_invalid(errors, or_empty(item->type), "must be a scalar type if parent array's x-kubernetes-list-type is map", "%s",
                          TEXT(&SPATH_CHILD(&at, "type")));
        if (among_first(keys, i, keys->items[i]))
            field_invalid_raw(errors, strings_text(keys, errors->arena), "must not contain duplicate entries", "%s", TEXT(&here));
    }
}

static void check_map(const struct k8s_json_schema_props *schema, const struct spath *path, struct field_errors *errors)
{
    const struct spath items = SPATH_CHILD(path, "items");
    if (schema->x_kubernetes_list_map_keys.len == 0)
        field_required(errors, "must not be empty if x-kubernetes-list-type is map", "%s", TEXT(&SPATH_CHILD(path, "x-kubernetes-list-map-keys")));
    if (!schema->items)
        field_required(errors, "must have a schema if x-kubernetes-list-type is map", "%s", TEXT(&items));
    else if (!schema->items->schema)
        field_invalid_raw(errors, "[]", "must only have a single schema if x-kubernetes-list-type is map", "%s", TEXT(&items));
    else if (!kp_streq(schema->items->schema->type, "object"))
        field_invalid(errors, or_empty(schema->items->schema->type), "must be object if parent array's x-kubernetes-list-type is map", "%s",
                      TEXT(&SPATH_CHILD(&items, "type")));
    else
        check_keys(schema, path, errors);
}

/* What tells items apart has to be there. */
static void check_key_presence(const struct k8s_json_schema_props *schema, const struct spath *path, struct field_errors *errors)
{
    const struct k8s_json_schema_props *item = schema->items ? schema->items->schema : NULL;
    const struct spath items = SPATH_CHILD(path, "items"), properties = SPATH_CHILD(&items, "properties");
    bool map = kp_streq(schema->x_kubernetes_list_type, "map");
    if (!item || (!map && !kp_streq(schema->x_kubernetes_list_type, "set")))
        return;
    if (item->nullable)
        field_forbidden(errors, kp_arena_printf(errors->arena, "cannot be nullable when x-kubernetes-list-type is %s", schema->x_kubernetes_list_type), "%s",
                        TEXT(&SPATH_CHILD(&items, "nullable")));
    for (size_t i = 0; map && i < schema->x_kubernetes_list_map_keys.len && errors->len < FIELD_ERRORS_MAX; i++) {
        const char *name = schema->x_kubernetes_list_map_keys.items[i];
        const struct k8s_json_schema_props *key = property(item, name);
        const struct spath at = SPATH_OF_KEY(&properties, name);
        if (!key)
            continue;
        bool has_default = key->default_.json && strcmp(key->default_.json, "null") != 0;
        if (!has_default && !kp_string_list_has(&item->required, name))
            field_required(errors, "this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property", "%s",
                           TEXT(&SPATH_CHILD(&at, "default")));
        if (key->nullable)
            field_forbidden(errors, "this property is in x-kubernetes-list-map-keys, so it cannot be nullable", "%s", TEXT(&SPATH_CHILD(&at, "nullable")));
    }
}

void check_lists(const struct k8s_json_schema_props *schema, const struct spath *path, struct field_errors *errors)
{
    static const char *const map_types[] = {"atomic", "granular", NULL}, *const list_types[] = {"atomic", "set", "map", NULL};
    const char *list_type = schema->x_kubernetes_list_type, *map_type = schema->x_kubernetes_map_type;
    const struct spath at = SPATH_CHILD(path, "x-kubernetes-list-type"), items = SPATH_CHILD(path, "items");
    if (map_type)
        check_type(schema, "object", "must be object if x-kubernetes-map-type is specified", path, errors);
    if (map_type && strcmp(map_type, "atomic") != 0 && strcmp(map_type, "granular") != 0)
        field_not_supported(errors, map_type, map_types, "%s", TEXT(&SPATH_CHILD(path, "x-kubernetes-map-type")));
    if (list_type && !kp_streq(schema->type, "array"))
        check_type(schema, "array", "must be array if x-kubernetes-list-type is specified", path, errors);
    else if (kp_streq(list_type, "set") && schema->items && schema->items->schema)
        check_set(schema->items->schema, &items, errors);
    if (list_type && strcmp(list_type, "atomic") != 0 && strcmp(list_type, "set") != 0 && strcmp(list_type, "map") != 0)
        field_not_supported(errors, list_type, list_types, "%s", TEXT(&at));
    if (schema->x_kubernetes_list_map_keys.len > 0 && !list_type)
        field_required(errors, "must be map if x-kubernetes-list-map-keys is non-empty", "%s", TEXT(&at));
    else if (schema->x_kubernetes_list_map_keys.len > 0 && strcmp(list_type, "map") != 0)
        field_invalid(errors, list_type, "must be map if x-kubernetes-list-map-keys is non-empty", "%s", TEXT(&at));
    if (kp_streq(list_type, "map"))
        check_map(schema, path, errors);
    check_key_presence(schema, path, errors);
}

/* ---- x-kubernetes-validations ------------------------------------------------------------------------------------------------------- */
static bool is_blank(const char *s)
{
    while (s && isspace((unsigned char)*s))
        s++;
    return kp_empty(s);
}

/* Line breaks that are more than white space around it. */
static bool has_lines(const char *s)
{
    while (s && isspace((unsigned char)*s))
        s++;
    size_t len = s ? strlen(s) : 0;
    while (len > 0 && isspace((unsigned char)s[len - 1]))
        len--;
    return len > 0 && (memchr(s, '\n', len) || memchr(s, '\r', len));
}

static void check_rule(const struct k8s_validation_rule *rule, const struct spath *path, struct field_errors *errors)
{
    static const char *const reasons[] = {"FieldValueDuplicate", "FieldValueForbidden", "FieldValueInvalid", "FieldValueRequired", NULL};
    const struct spath message = SPATH_CHILD(path, "message"), field_path = SPATH_CHILD(path, "fieldPath");
    if (is_blank(rule->rule))
        field_required(errors, "rule is not specified", "%s", TEXT(&SPATH_CHILD(path, "rule")));
    else if (!kp_empty(rule->message) && is_blank(rule->message))
        field_invalid(errors, rule->message, "must be non-empty if specified", "%s", TEXT(&message));
    else if (has_lines(rule->message))
        field_invalid(errors, rule->message, "must not contain line breaks", "%s", TEXT(&message));
    else if (has_lines(rule->rule) && is_blank(rule->message))
        field_required(errors, "message must be specified if rule contains line breaks", "%s", TEXT(&message));
    if (!kp_empty(rule->message_expression) && is_blank(rule->message_expression))
        field_required(errors, "messageExpression must be non-empty if specified", "%s", TEXT(&SPATH_CHILD(path, "messageExpression")));
    bool known = !rule->reason;
    for (size_t i = 0; reasons[i]; i++)
        known |= kp_streq(rule->reason, reasons[i]);
    if (!known)
        field_not_supported(errors, rule->reason, reasons, "%s", TEXT(&SPATH_CHILD(path, "reason")));
    if (!kp_empty(rule->field_path) && is_blank(rule->field_path))
        field_invalid(errors, rule->field_path, "must be non-empty if specified", "%s", TEXT(&field_path));
    if (rule->field_path && strpbrk(rule->field_path, "\r\n"))
        field_invalid(errors, rule->field_path, "must not contain line breaks", "%s", TEXT(&field_path));
}

void check_rules(const struct k8s_json_schema_props *schema, const struct spath *path, struct field_errors *errors)
{
    const struct spath list = SPATH_CHILD(path, "x-kubernetes-validations");
    for (size_t i = 0; i < schema->x_kubernetes_validations.len && errors->len < FIELD_ERRORS_MAX; i++)
        check_rule(&schema->x_kubernetes_validations.items[i], &SPATH_OF_INDEX(&list, i), errors);
}
