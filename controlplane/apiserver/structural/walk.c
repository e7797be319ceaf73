/* Walks every schema in a schema. */
#include "controlplane/apiserver/structural/structural_internal.h"

static bool walk(const struct k8s_json_schema_props *schema, int depth, schema_visit visit, void *context);

static bool walk_list(const struct k8s_json_schema_props_items *list, int depth, schema_visit visit, void *context)
{
    for (size_t i = 0; i < list->len; i++)
        if (walk(&list->items[i], depth, visit, context))
            return true;
    return false;
}

static bool walk_map(const struct k8s_json_schema_props_map *map, int depth, schema_visit visit, void *context)
{
    for (size_t i = 0; i < map->len; i++)
        if (walk(map->items[i].value, depth, visit, context))
            return true;
    return false;
}

static bool walk_bool(const struct k8s_json_schema_props_or_bool *either, int depth, schema_visit visit, void *context)
{
    return either && walk(either->schema, depth, visit, context);
}

static bool walk(const struct k8s_json_schema_props *schema, int depth, schema_visit visit, void *context)
{
    if (!schema || depth > STRUCTURAL_DEPTH_MAX + 1)
        return false;
    if (visit(schema, depth, context))
        return true;
    depth++;
    if (schema->items && (walk(schema->items->schema, depth, visit, context) || walk_list(&schema->items->json_schemas, depth, visit, context)))
        return true;
    for (size_t i = 0; i < schema->dependencies.len; i++)
        if (schema->dependencies.items[i].value && walk(schema->dependencies.items[i].value->schema, depth, visit, context))
            return true;
    return walk_list(&schema->all_of, depth, visit, context) || walk_list(&schema->any_of, depth, visit, context) ||
           walk_list(&schema->one_of, depth, visit, context) || walk(schema->not, depth, visit, context) ||
           walk_map(&schema->properties, depth, visit, context) || walk_bool(schema->additional_properties, depth, visit, context) ||
           walk_map(&schema->pattern_properties, depth, visit, context) || walk_bool(schema->additional_items, depth, visit, context) ||
           walk_map(&schema->definitions, depth, visit, context);
}

bool schema_walk(const struct k8s_json_schema_props *schema, schema_visit visit, void *context)
{
    return walk(schema, 1, visit, context);
}
