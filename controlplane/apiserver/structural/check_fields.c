/* Which words a schema may have: what upstream's validation of definitions asks of every schema, nested or not. */
#include "controlplane/apiserver/structural/structural_internal.h"

/* What holds for a schema because of those around it. */
struct around {
    struct field_errors *errors;
    bool root, in_metadata;
    const char *no_defaults; /* why; NULL: they are allowed */
};

static void check(const struct k8s_json_schema_props *schema, const struct spath *path, struct around around);

static void forbidden(struct around around, const struct spath *path, const char *child, const char *why)
{
    if (around.errors->len < FIELD_ERRORS_MAX)
        field_forbidden(around.errors, why, "%s", spath_text(&SPATH_CHILD(path, child), around.errors->arena));
}

static void check_own_words(const struct k8s_json_schema_props *schema, const struct spath *path, struct around around)
{
    static const char *const types[] = {"array", "boolean", "integer", "number", "object", "string", NULL};
    bool known = kp_empty(schema->type);
    for (size_t i = 0; types[i]; i++)
        known |= kp_streq(schema->type, types[i]);
    if (!known)
        field_not_supported(around.errors, schema->type, types, "%s", spath_text(&SPATH_CHILD(path, "type"), around.errors->arena));
    if (schema->default_.json && strcmp(schema->default_.json, "null") != 0 && around.no_defaults)
        forbidden(around, path, "default", kp_arena_printf(around.errors->arena, "must not be set %s", around.no_defaults));
    if (!kp_empty(schema->id))
        forbidden(around, path, "id", "id is not supported");
    if (schema->additional_items)
        forbidden(around, path, "additionalItems", "additionalItems is not supported");
    if (schema->pattern_properties.len > 0)
        forbidden(around, path, "patternProperties", "patternProperties is not supported");
    if (schema->definitions.len > 0)
        forbidden(around, path, "definitions", "definitions is not supported");
    if (schema->dependencies.items)
        forbidden(around, path, "dependencies", "dependencies is not supported");
    if (schema->ref)
        forbidden(around, path, "$ref", "$ref is not supported");
    if (kp_streq(schema->type, "null"))
        forbidden(around, path, "type", "type cannot be set to null, use nullable as an alternative");
    if (schema->items && schema->items->json_schemas.len > 0)
        forbidden(around, path, "items", "items must be a schema object and not an array");
    if (around.in_metadata && schema->x_kubernetes_embedded_resource)
        forbidden(around, path, "x-kubernetes-embedded-resource", "must not be used inside of resource meta");
    if (schema->unique_items)
        forbidden(around, path, "uniqueItems", "uniqueItems cannot be set to true since the runtime complexity becomes quadratic");
}

static void check_additional(const struct k8s_json_schema_props *schema, const struct spath *path, struct around around)
{
    const struct k8s_json_schema_props_or_bool *additional = schema->additional_properties;
    if (!additional)
        return;
    if (schema->properties.len > 0 && (additional->schema || !additional->allows))
        forbidden(around, path, "additionalProperties", "additionalProperties and properties are mutual exclusive");
    if (around.in_metadata)
        around.no_defaults = "inside additionalProperties applying to object metadata";
    check(additional->schema, &SPATH_CHILD(path, "additionalProperties"), around);
}

static void check_properties(const struct k8s_json_schema_props *schema, const struct spath *path, struct around outside)
{
    const struct spath properties = SPATH_CHILD(path, "properties");
    for (size_t i = 0; i < schema->properties.len; i++) {
        const char *name = schema->properties.items[i].key;
        struct around around = outside;
        around.root = false;
        if ((outside.root || schema->x_kubernetes_embedded_resource) && structural_is_meta_field(name)) {
            around.in_metadata = true;
            if (outside.root)
                around.no_defaults = kp_arena_printf(around.errors->arena, "in top-level %s", name);
        }
        check(schema->properties.items[i].value, &SPATH_OF_KEY(&properties, name), around);
    }
}

static void check_list(const struct k8s_json_schema_props_items *list, const char *name, const struct spath *list_path, struct around around)
{
    const struct spath path = SPATH_CHILD(list_path, name);
    for (size_t i = 0; i < list->len; i++)
        check(&list->items[i], &SPATH_OF_INDEX(&path, i), around);
}

static void check_map(const struct k8s_json_schema_props_map *map, const char *name, const struct spath *map_path, struct around around)
{
    const struct spath path = SPATH_CHILD(map_path, name);
    for (size_t i = 0; i < map->len; i++)
        check(map->items[i].value, &SPATH_OF_KEY(&path, map->items[i].key), around);
}

/* At most as deep as structural_check let pass. */
static void check(const struct k8s_json_schema_props *schema, const struct spath *path, struct around around)
{
    if (!schema || around.errors->len == FIELD_ERRORS_MAX)
        return;
    struct around inside = around;
    inside.root = false;
    check_own_words(schema, path, around);
    check_additional(schema, path, inside);
    check_properties(schema, path, around);
    check(schema->not, &SPATH_CHILD(path, "not"), inside);
    check_list(&schema->all_of, "allOf", path, inside);
    check_list(&schema->one_of, "oneOf", path, inside);
    check_list(&schema->any_of, "anyOf", path, inside);
    check_map(&schema->definitions, "definitions", path, inside);
    if (schema->items) {
        check(schema->items->schema, &SPATH_CHILD(path, "items"), inside);
        check_list(&schema->items->json_schemas, "items", path, inside);
    }
    if (schema->has_x_kubernetes_preserve_unknown_fields && !schema->x_kubernetes_preserve_unknown_fields)
        field_invalid_raw(around.errors, "false", "must be true or undefined", "%s",
                          spath_text(&SPATH_CHILD(path, "x-kubernetes-preserve-unknown-fields"), around.errors->arena));
    check_lists(schema, path, around.errors);
    check_rules(schema, path, around.errors);
}

void check_fields(const struct k8s_json_schema_props *schema, const char *path, struct field_errors *errors)
{
    check(schema, &SPATH_ROOT(path), (struct around){.errors = errors, .root = true});
}
