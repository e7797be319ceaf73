/* What the schema alone can refuse: values outside a closed set, and names that must be given. */
#include "controlplane/apiserver/registry/strategy_internal.h"

#define DEPTH_MAX 64

struct walk {
    struct field_errors *errors;
    int depth;
};

static bool reported(const struct field_errors *errors, const char *path)
{
    for (size_t i = 0; i < errors->len; i++)
        if (kp_streq(errors->items[i].field, path))
            return true;
    return false;
}

static bool in_set(const char *value, const char *const *set)
{
    for (size_t i = 0; set[i]; i++)
        if (strcmp(set[i], value) == 0)
            return true;
    return false;
}

static int compare_words(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* Messages name the values in the order of the alphabet. */
static const char *const *sorted(const char *const *set, struct kp_arena *arena)
{
    size_t count = 0;
    while (set[count])
        count++;
    const char **copy = kp_arena_memdup(arena, set, (count + 1) * sizeof(*set));
    qsort(copy, count, sizeof(*copy), compare_words);
    return copy;
}

static void check_string(struct walk *walk, const struct kp_field *field, const char *value, const char *path)
{
    if (reported(walk->errors, path))
        return;
    if (kp_empty(value)) {
        if (field->required && field->cardinality == KP_ONE)
            field_required(walk->errors, "", "%s", path);
    } else if (field->enum_values && !in_set(value, field->enum_values)) {
        field_not_supported(walk->errors, value, sorted(field->enum_values, walk->errors->arena), "%s", path);
    }
}

static void walk_struct(struct walk *walk, const struct kp_type *type, const void *obj, const char *path);

static void walk_list(struct walk *walk, const struct kp_field *field, const struct kp_list *list, const char *path)
{
    for (size_t i = 0; i < list->len; i++) {
        const char *at = kp_arena_printf(walk->errors->arena, "%s[%zu]", path, i);
        if (field->kind == KP_KIND_STRUCT)
            walk_struct(walk, field->type, (const char *)list->items + i * field->type->size, at);
        else if (field->kind == KP_KIND_STRING && field->enum_values)
            check_string(walk, field, ((const char **)list->items)[i], at);
    }
}

static void walk_field(struct walk *walk, const struct kp_field *field, const void *obj, const char *path)
{
    const void *at = (const char *)obj + field->offset;
    if (field->cardinality == KP_LIST) {
        walk_list(walk, field, at, path);
    } else if (field->cardinality == KP_MAP) {
        if (field->kind != KP_KIND_STRUCT)
            return;
        const struct kp_struct_map *map = at;
        for (size_t i = 0; i < map->len; i++)
            walk_struct(walk, field->type, map->items[i].value, kp_arena_printf(walk->errors->arena, "%s[%s]", path, map->items[i].key));
    } else if (field->kind == KP_KIND_STRUCT) {
        walk_struct(walk, field->type, *(void *const *)at, path);
    } else if (field->kind == KP_KIND_STRING) {
        check_string(walk, field, *(const char *const *)at, path);
    }
}

static void walk_struct(struct walk *walk, const struct kp_type *type, const void *obj, const char *path)
{
    if (!obj || walk->depth >= DEPTH_MAX)
        return;
    walk->depth++;
    for (size_t i = 0; i < type->n_fields; i++) {
        const struct kp_field *field = &type->fields[i];
        bool root = !*path;
        if (root && (strcmp(field->json_name, "metadata") == 0 || strcmp(field->json_name, "status") == 0))
            continue; /* metadata has rules of its own, status comes from components */
        if (strcmp(field->json_name, "metadata") == 0)
            continue;
        const char *at = root ? field->json_name : kp_arena_printf(walk->errors->arena, "%s.%s", path, field->json_name);
        walk_field(walk, field, obj, at);
    }
    walk->depth--;
}

void validate_schema(const struct kp_type *type, const void *obj, struct field_errors *errors)
{
    struct walk walk = {.errors = errors};
    walk_struct(&walk, type, obj, "");
}

void immutable_member(const struct kp_type *type, const void *now, const void *before, const char *name, struct field_errors *errors,
                      const char *path)
{
    const struct kp_field *field = kp_field_find(type, name);
    KP_ASSERT(field && field->kind == KP_KIND_STRUCT && field->cardinality == KP_ONE);
    const void *a = registry_member(type, now, name), *b = registry_member(type, before, name);
    if ((!a && !b) || (a && b && kp_object_equal(field->type, a, b)))
        return;
    KP_AUTO_BUF struct kp_buf text = {0};
    if (a)
        kp_json_encode(field->type, a, &text);
    else
        kp_buf_puts(&text, "null");
    field_invalid_raw(errors, kp_arena_strdup(errors->arena, text.data), "field is immutable", "%s", path);
}
