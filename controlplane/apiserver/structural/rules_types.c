/* What expressions know of values: the types of a schema (k8s.io/apiserver pkg/cel/common/schemas.go; apiextensions-apiserver .../cel/model/schemas.go). */
#include "controlplane/apiserver/structural/structural_internal.h"

static const struct cel_type *declare(struct kp_arena *arena, struct snode *node, bool root, const char *name);

/* Of a string by its format. */
static const struct cel_type *string_type(const struct snode *node)
{
    if (kp_streq(node->format, "byte"))
        return &cel_bytes;
    if (kp_streq(node->format, "duration"))
        return &cel_duration;
    return kp_streq(node->format, "date") || kp_streq(node->format, "date-time") ? &cel_timestamp : &cel_string;
}

static const struct cel_type *list_type(struct kp_arena *arena, struct snode *node, const char *name)
{
    const struct cel_type *item = node->items ? declare(arena, node->items, node->items->embedded, kp_arena_printf(arena, "%s.@idx", name)) : NULL;
    if (!item)
        return NULL;
    struct cel_type *type = kp_arena_memdup(arena, cel_list_of(arena, item), sizeof(*type));
    type->list_type = node->list_map ? CEL_LIST_MAP : node->list_set ? CEL_LIST_SET : CEL_LIST_ATOMIC;
    const char **keys = KP_NEW_ARRAY(arena, const char *, node->list_map_keys.len + 1);
    for (size_t i = 0; i < node->list_map_keys.len; i++) {
        const char *escaped = cel_escape(node->list_map_keys.items[i], arena);
        keys[i] = escaped ? escaped : node->list_map_keys.items[i];
    }
    type->keys = keys;
    type->n_keys = node->list_map ? node->list_map_keys.len : 0;
    return type;
}

static void put_field(struct cel_field *fields, size_t *n, const char *name, const struct cel_type *type)
{
    for (size_t i = 0; i < *n; i++)
        if (strcmp(fields[i].name, name) == 0) {
            fields[i].type = type;
            return;
        }
    fields[(*n)++] = (struct cel_field){name, name, type};
}

/* What every object of the API has, whatever its schema says of it. */
static void put_meta_fields(struct kp_arena *arena, struct cel_field *fields, size_t *n, const char *name)
{
    struct cel_field *meta = KP_NEW_ARRAY(arena, struct cel_field, 2);
    meta[0] = (struct cel_field){"name", "name", &cel_string};
    meta[1] = (struct cel_field){"generateName", "generateName", &cel_string};
    put_field(fields, n, "kind", &cel_string);
    put_field(fields, n, "apiVersion", &cel_string);
    put_field(fields, n, "metadata", cel_object(arena, kp_arena_printf(arena, "%s.metadata", name), meta, 2));
}

static const struct cel_type *object_type(struct kp_arena *arena, struct snode *node, bool root, const char *name)
{
    if (node->additional && !root) {
        const struct cel_type *value = declare(arena, node->additional, node->additional->embedded, kp_arena_printf(arena, "%s.@elem", name));
        return value ? cel_map_of(arena, &cel_string, value) : NULL;
    }
    struct cel_field *fields = KP_NEW_ARRAY(arena, struct cel_field, node->n_properties + 3);
    size_t n = 0;
    for (size_t i = 0; i < node->n_properties; i++) {
        struct sproperty *property = &node->properties[i];
        const struct cel_type *type = declare(arena, property->node, property->node->embedded, kp_arena_printf(arena, "%s.%s", name, property->name));
        const char *escaped = type ? cel_escape(property->name, arena) : NULL;
        if (escaped)
            fields[n++] = (struct cel_field){escaped, property->name, type};
    }
    if (root)
        put_meta_fields(arena, fields, &n, name);
    return cel_object(arena, name, fields, n);
}

/* NULL: not for expressions. root: an object of the API, or an embedded one. */
static const struct cel_type *declare(struct kp_arena *arena, struct snode *node, bool root, const char *name)
{
    if (node->int_or_string)
        node->cel = &cel_dyn;
    else if (node->types & TYPE_ARRAY)
        node->cel = list_type(arena, node, name);
    else if (node->types & TYPE_OBJECT)
        node->cel = object_type(arena, node, root, name);
    else if (node->types & TYPE_STRING)
        node->cel = string_type(node);
    else
        node->cel = node->types & TYPE_BOOLEAN   ? &cel_bool
                    : node->types & TYPE_NUMBER  ? &cel_double
                    : node->types & TYPE_INTEGER ? &cel_int
                                                 : NULL;
    return node->cel;
}

void rules_declare(struct structural *st)
{
    declare(st->arena, st->root, true, "object");
}
