/* Lists of type set and map: no item and no key twice. */
#include "controlplane/apiserver/structural/structural_internal.h"

static void duplicate(struct field_errors *errors, const struct spath *path, size_t index, const struct kp_value *value)
{
    if (errors->len < FIELD_ERRORS_MAX)
        field_add(errors, "FieldValueDuplicate", kp_arena_printf(errors->arena, "Duplicate value: %s", value_text(value, errors->arena)), "%s",
                  spath_text(&SPATH_OF_INDEX(path, index), errors->arena));
}

/* Only the first repetition of each is told. 1 and 1.0 are two, as they are to Go. */
static void validate_set(const struct kp_value *const *items, size_t len, const struct spath *path, struct field_errors *errors)
{
    static char once, often;
    struct kp_strmap *seen = kp_strmap_new();
    KP_AUTO_BUF struct kp_buf key = {0};
    for (size_t i = 0; i < len; i++) {
        key.len = 0;
        kp_buf_putc(&key, (char)('a' + items[i]->kind));
        kp_value_print_sorted(items[i], &key);
        void *times = kp_strmap_get(seen, key.data);
        kp_strmap_put(seen, key.data, times ? &often : &once);
        if (times == &once)
            duplicate(errors, path, i, items[i]);
    }
    kp_strmap_free(seen, NULL);
}

/* The fields of an item that tell it apart, as an object. */
static struct kp_value *key_of(const struct snode *node, struct kp_value *item, struct kp_arena *arena)
{
    struct kp_value *key = kp_value_object(arena);
    for (size_t i = 0; i < node->list_map_keys.len; i++) {
        struct kp_value *part = kp_value_get(item, node->list_map_keys.items[i]);
        if (part)
            kp_value_set(arena, key, node->list_map_keys.items[i], part);
    }
    return key;
}

static void validate_map(const struct snode *node, const struct kp_value *value, const struct spath *path, struct field_errors *errors)
{
    for (size_t i = 0; i < value->array.len; i++) {
        const struct kp_value *item = value->array.items[i];
        if (item->kind == KP_VALUE_OBJECT || item->kind == KP_VALUE_NULL)
            continue;
        field_invalid_raw(errors, value_text(item, errors->arena), "must be an object for an array of list-type map", "%s",
                          spath_text(&SPATH_OF_INDEX(path, i), errors->arena));
        return;
    }
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    KP_AUTO_FREE const struct kp_value **keys = kp_calloc(value->array.len + 1, sizeof(*keys));
    for (size_t i = 0; i < value->array.len; i++)
        keys[i] = key_of(node, value->array.items[i], arena);
    validate_set(keys, value->array.len, path, errors);
}

static void validate_members(const struct snode *node, const struct kp_value *value, const struct spath *path, struct field_errors *errors)
{
    for (size_t i = 0; i < value->object.len; i++) {
        const struct kp_member *member = &value->object.members[i];
        const struct snode *property = snode_property(node, member->key);
        if (property)
            validate_lists(property, member->value, &SPATH_CHILD(path, member->key), errors);
        else if (node->additional)
            validate_lists(node->additional, member->value, &SPATH_OF_KEY(path, member->key), errors);
    }
}

void validate_lists(const struct snode *node, const struct kp_value *value, const struct spath *path, struct field_errors *errors)
{
    if (value->kind == KP_VALUE_OBJECT)
        validate_members(node, value, path, errors);
    if (value->kind != KP_VALUE_ARRAY)
        return;
    if (node->list_set)
        validate_set((const struct kp_value *const *)value->array.items, value->array.len, path, errors);
    else if (node->list_map)
        validate_map(node, value, path, errors);
    for (size_t i = 0; node->items && i < value->array.len; i++)
        validate_lists(node->items, value->array.items[i], &SPATH_OF_INDEX(path, i), errors);
}
