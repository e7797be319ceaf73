/* What a CustomResourceDefinition may not have as a schema: the checks in upstream's order, and bounds. */
#include "controlplane/apiserver/structural/structural_internal.h"

struct bounds {
    size_t nodes;
    bool too_deep;
};

static bool over_bounds(const struct k8s_json_schema_props *schema, int depth, void *context)
{
    struct bounds *bounds = context;
    bounds->too_deep = depth > STRUCTURAL_DEPTH_MAX;
    return bounds->too_deep || ++bounds->nodes > STRUCTURAL_NODES_MAX;
}

/* Of what cannot be told to the tree: upstream has other words for most of it, and these for the rest. */
static bool unsupported(const struct k8s_json_schema_props *schema, int depth, void *context)
{
    const char **why = context;
    if (!kp_empty(schema->id))
        *why = "OpenAPIV3Schema 'id' is not supported";
    else if (!kp_empty(schema->schema))
        *why = "OpenAPIV3Schema 'schema' is not supported";
    else if (!kp_empty(schema->ref))
        *why = "OpenAPIV3Schema '$ref' is not supported";
    else if (schema->pattern_properties.len > 0)
        *why = "OpenAPIV3Schema 'patternProperties' is not supported";
    else if (schema->dependencies.len > 0)
        *why = "OpenAPIV3Schema 'dependencies' is not supported";
    else if (schema->additional_items)
        *why = "OpenAPIV3Schema 'additionalItems' is not supported";
    else if (schema->definitions.len > 0)
        *why = "OpenAPIV3Schema 'definitions' is not supported";
    else if (schema->items && schema->items->json_schemas.len > 0)
        *why = "OpenAPIV3Schema 'items' must be a schema, but is an array";
    else if (schema->has_x_kubernetes_preserve_unknown_fields && !schema->x_kubernetes_preserve_unknown_fields)
        *why = "internal error: 'x-kubernetes-preserve-unknown-fields' must be true or undefined";
    return *why != NULL;
}

void structural_check(const struct k8s_json_schema_props *schema, const char *path, struct field_errors *errors)
{
    struct bounds bounds = {0};
    size_t before = errors->len;
    const char *why = NULL;
    if (!schema)
        return;
    if (schema_walk(schema, over_bounds, &bounds)) {
        field_forbidden(errors,
                        bounds.too_deep ? kp_arena_printf(errors->arena, "must not be nested deeper than %d levels", STRUCTURAL_DEPTH_MAX)
                                        : kp_arena_printf(errors->arena, "must not have more than %d schemas in it", STRUCTURAL_NODES_MAX),
                        "%s", path);
        return;
    }
    if (schema->nullable)
        field_forbidden(errors, "nullable cannot be true at the root", "%s.nullable", path);
    size_t structure = errors->len;
    if (!schema_walk(schema, unsupported, &why)) {
        check_structure(schema, path, errors);
        if (errors->len == structure)
            check_defaults(schema, path, errors);
    }
    check_fields(schema, path, errors);
    if (why && errors->len == before)
        field_invalid(errors, "", why, "%s", path);
    if (errors->len == before)
        check_compiled_rules(schema, path, errors);
}
