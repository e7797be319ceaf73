/* Strategic merge patch: lists merged by key as the schema says, with the directives $patch, $retainKeys, $setElementOrder and
 * $deleteFromPrimitiveList (k8s.io/apimachinery strategicpatch). */
#include "controlplane/apiserver/patch/patch_internal.h"

#define DELETE_PRIMITIVE "$deleteFromPrimitiveList/"
#define ELEMENT_ORDER "$setElementOrder/"

struct strategic {
    struct kp_arena *arena;
    struct api_status *status;
};

/* current is changed and becomes the result, so that a deep patch costs no copy of the object a level. */
static struct kp_value *merge_object(struct strategic *s, const struct patch_node *node, struct kp_value *current, struct kp_value *patch, int depth);

static bool merges(const struct patch_node *node)
{
    return node->field && node->field->patch_strategy && strstr(node->field->patch_strategy, "merge") != NULL;
}

static bool is_directive(const char *key)
{
    return kp_streq(key, "$patch") || kp_streq(key, "$retainKeys") || kp_starts_with(key, DELETE_PRIMITIVE) || kp_starts_with(key, ELEMENT_ORDER);
}

static struct kp_value *fail(struct strategic *s, const char *format, const char *what)
{
    if (s->status->code == 0)
        status_bad_request(s->status, format, what);
    return kp_value_null(s->arena);
}

/* Takes out directives and nulls: what is added fresh carries none of them. */
static struct kp_value *clean(struct kp_arena *arena, const struct kp_value *value)
{
    if (value->kind == KP_VALUE_ARRAY) {
        struct kp_value *array = kp_value_array(arena);
        for (size_t i = 0; i < value->array.len; i++) {
            const char *directive = kp_value_str(kp_value_get(value->array.items[i], "$patch"));
            if (kp_streq(directive, "delete") || (kp_streq(directive, "replace") && value->array.items[i]->object.len == 1))
                continue;
            kp_value_append(arena, array, clean(arena, value->array.items[i]));
        }
        return array;
    }
    if (value->kind != KP_VALUE_OBJECT)
        return kp_value_clone(value, arena);
    struct kp_value *object = kp_value_object(arena);
    for (size_t i = 0; i < value->object.len; i++)
        if (!is_directive(value->object.members[i].key) && value->object.members[i].value->kind != KP_VALUE_NULL)
            kp_value_set(arena, object, value->object.members[i].key, clean(arena, value->object.members[i].value));
    return object;
}

static int find_by_key(const struct kp_value *array, const char *key, const struct kp_value *wanted)
{
    for (size_t i = 0; i < array->array.len; i++) {
        const struct kp_value *value = kp_value_get(array->array.items[i], key);
        if (value && kp_value_equal(value, wanted))
            return (int)i;
    }
    return -1;
}

static bool contains(const struct kp_value *array, const struct kp_value *wanted)
{
    for (size_t i = 0; i < array->array.len; i++)
        if (kp_value_equal(array->array.items[i], wanted))
            return true;
    return false;
}

/* Where an element stands in an order list; -1 when it is not named there. */
static int place_in(const struct kp_value *order, const char *key, const struct kp_value *item)
{
    for (size_t i = 0; order && i < order->array.len; i++) {
        const struct kp_value *named = order->array.items[i];
        if (key ? kp_value_get(named, key) && kp_value_get(item, key) && kp_value_equal(kp_value_get(named, key), kp_value_get(item, key))
                : kp_value_equal(named, item))
            return (int)i;
    }
    return -1;
}


/* Elements named in the order take that order; those only the server has keep their place relative to them. */
static struct kp_value *reorder(struct strategic *s, const struct kp_value *merged, const struct kp_value *order, const struct kp_value *current, const char *key)
{
    struct kp_value *result = kp_value_array(s->arena);
    size_t n = merged->array.len, n_named = 0, n_other = 0;
    struct kp_value **named = KP_NEW_ARRAY(s->arena, struct kp_value *, n + 1), **other = KP_NEW_ARRAY(s->arena, struct kp_value *, n + 1);
    for (size_t want = 0; want < order->array.len; want++)
        for (size_t i = 0; i < n; i++)
            if (place_in(order, key, merged->array.items[i]) == (int)want) {
                named[n_named++] = merged->array.items[i];
                break;
            }
    for (size_t i = 0; i < n; i++)
        if (place_in(order, key, merged->array.items[i]) < 0)
            other[n_other++] = merged->array.items[i];
    size_t a = 0, b = 0;
    while (a < n_named || b < n_other) {
        int server = b < n_other ? place_in(current, key, other[b]) : -1;
        int client = a < n_named ? place_in(current, key, named[a]) : -1;
        bool take_other = a == n_named || (b < n_other && client >= 0 && server >= 0 && server < client);
        kp_value_append(s->arena, result, take_other ? other[b++] : named[a++]);
    }
    return result;
}

static struct kp_value *merge_structs(struct strategic *s, const struct patch_node *node, struct kp_value *current, struct kp_value *patch, int depth)
{
    const char *key = node->field->patch_merge_key;
    const struct patch_node element = patch_node_of_element(node);
    struct kp_value *result = current;
    for (size_t i = 0; i < patch->array.len; i++)
        if (kp_streq(kp_value_str(kp_value_get(patch->array.items[i], "$patch")), "replace"))
            return clean(s->arena, patch);
    for (size_t i = 0; i < patch->array.len; i++) {
        struct kp_value *item = patch->array.items[i];
        const struct kp_value *id = kp_value_get(item, key);
        if (item->kind != KP_VALUE_OBJECT || !id)
            return fail(s, "map: %s does not contain declared merge key", key);
        int at = find_by_key(result, key, id);
        const char *directive = kp_value_str(kp_value_get(item, "$patch"));
        if (kp_streq(directive, "delete")) {
            for (; at >= 0; at = find_by_key(result, key, id))
                kp_value_array_remove(result, (size_t)at);
        } else if (at < 0) {
            kp_value_append(s->arena, result, clean(s->arena, item));
        } else {
            struct kp_value *had = result->array.items[at];
            result->array.items[at] = merge_object(s, &element, had->kind == KP_VALUE_OBJECT ? had : kp_value_object(s->arena), item, depth + 1);
        }
    }
    return result;
}

static struct kp_value *merge_list(struct strategic *s, const struct patch_node *node, struct kp_value *current, struct kp_value *patch, int depth)
{
    if (!merges(node))
        return clean(s->arena, patch);
    if (!current || current->kind != KP_VALUE_ARRAY)
        current = kp_value_array(s->arena);
    if (node->type && node->field->patch_merge_key)
        return merge_structs(s, node, current, patch, depth);
    struct kp_value *result = current;
    for (size_t i = 0; i < patch->array.len; i++)
        if (!contains(result, patch->array.items[i]))
            kp_value_append(s->arena, result, kp_value_clone(patch->array.items[i], s->arena));
    return result;
}

static void delete_primitives(struct strategic *s, struct kp_value *result, const struct kp_member *member)
{
    const char *name = member->key + strlen(DELETE_PRIMITIVE);
    struct kp_value *array = kp_value_get(result, name);
    for (size_t i = array && array->kind == KP_VALUE_ARRAY ? array->array.len : 0; i > 0; i--)
        if (member->value->kind == KP_VALUE_ARRAY && contains(member->value, array->array.items[i - 1]))
            kp_value_array_remove(array, i - 1);
}

static void retain_keys(struct kp_value *result, const struct kp_value *keys)
{
    for (size_t i = result->object.len; i > 0; i--) {
        bool keep = false;
        for (size_t k = 0; k < keys->array.len; k++)
            keep |= kp_streq(kp_value_str(keys->array.items[k]), result->object.members[i - 1].key);
        if (!keep)
            kp_value_remove(result, result->object.members[i - 1].key);
    }
}

static struct kp_value *merge_value(struct strategic *s, const struct patch_node *node, struct kp_value *current, struct kp_value *patch, int depth)
{
    if (depth > PATCH_DEPTH_MAX)
        return fail(s, "the patch is nested deeper than %s levels", "100");
    if (patch->kind == KP_VALUE_ARRAY && node->kind == PATCH_LIST)
        return merge_list(s, node, current, patch, depth);
    if (patch->kind == KP_VALUE_OBJECT && (node->kind == PATCH_STRUCT || node->kind == PATCH_MAP))
        return merge_object(s, node, current && current->kind == KP_VALUE_OBJECT ? current : kp_value_object(s->arena), patch, depth + 1);
    return clean(s->arena, patch);
}

/* The lists that get an order, as they were: merging changes them, and the order of what only the server has is that of before. */
static struct kp_value *lists_before(struct strategic *s, const struct kp_value *current, const struct kp_value *patch)
{
    struct kp_value *before = kp_value_object(s->arena);
    for (size_t i = 0; i < patch->object.len; i++) {
        const char *key = patch->object.members[i].key;
        const struct kp_value *list = kp_starts_with(key, ELEMENT_ORDER) ? kp_value_get(current, key + strlen(ELEMENT_ORDER)) : NULL;
        if (!list || list->kind != KP_VALUE_ARRAY)
            continue;
        struct kp_value *copy = kp_value_array(s->arena); /* the elements are shared: their keys never change */
        for (size_t k = 0; k < list->array.len; k++)
            kp_value_append(s->arena, copy, list->array.items[k]);
        kp_value_set(s->arena, before, key + strlen(ELEMENT_ORDER), copy);
    }
    return before;
}

static struct kp_value *merge_object(struct strategic *s, const struct patch_node *node, struct kp_value *current, struct kp_value *patch, int depth)
{
    const char *directive = kp_value_str(kp_value_get(patch, "$patch"));
    const struct kp_value *retain = kp_value_get(patch, "$retainKeys");
    if (kp_streq(directive, "replace"))
        return clean(s->arena, patch);
    if (kp_streq(directive, "delete"))
        return kp_value_object(s->arena);
    if (directive && !kp_streq(directive, "merge"))
        return fail(s, "unknown patch type found: %s", directive);
    struct kp_value *result = current, *before = lists_before(s, current, patch);
    if (retain && retain->kind == KP_VALUE_ARRAY)
        retain_keys(result, retain);
    for (size_t i = 0; i < patch->object.len; i++)
        if (kp_starts_with(patch->object.members[i].key, DELETE_PRIMITIVE))
            delete_primitives(s, result, &patch->object.members[i]);
    for (size_t i = 0; i < patch->object.len; i++) {
        const struct kp_member *member = &patch->object.members[i];
        if (is_directive(member->key))
            continue;
        if (member->value->kind == KP_VALUE_NULL) {
            kp_value_remove(result, member->key);
            continue;
        }
        const struct patch_node sub = patch_node_of_member(node, member->key);
        struct kp_value *had = kp_value_get(result, member->key);
        if (!had && sub.kind == PATCH_SCALAR)
            kp_value_set(s->arena, result, member->key, clean(s->arena, member->value));
        else
            kp_value_set(s->arena, result, member->key, merge_value(s, &sub, had, member->value, depth + 1));
    }
    for (size_t i = 0; i < patch->object.len; i++) {
        const struct kp_member *member = &patch->object.members[i];
        if (!kp_starts_with(member->key, ELEMENT_ORDER) || member->value->kind != KP_VALUE_ARRAY)
            continue;
        const char *name = member->key + strlen(ELEMENT_ORDER);
        const struct patch_node list = patch_node_of_member(node, name);
        struct kp_value *merged = kp_value_get(result, name);
        if (merged && merged->kind == KP_VALUE_ARRAY && list.kind == PATCH_LIST)
            kp_value_set(s->arena, result, name,
                         reorder(s, merged, member->value, kp_value_get(before, name), list.type ? list.field->patch_merge_key : NULL));
    }
    return result;
}

int patch_strategic(const struct kp_type *type, struct kp_value *current, struct kp_value *patch, struct kp_arena *arena,
                    struct kp_value **ret, struct api_status *status)
{
    struct strategic s = {arena, status};
    const struct patch_node node = patch_node_of_type(type);
    *ret = merge_object(&s, &node, current, patch, 0);
    return status->code;
}
