/* Field sets as trees in the form of FieldsV1, and what server-side apply asks of them (structured-merge-diff's fieldpath). */
#include "controlplane/apiserver/patch/patch_internal.h"

/* A leaf is {}; "." in a node says that the node itself is in the set beside what is below it. */
static struct kp_value *leaf(struct kp_arena *arena)
{
    return kp_value_object(arena);
}

bool fields_empty(const struct kp_value *set)
{
    return !set || set->kind != KP_VALUE_OBJECT || set->object.len == 0;
}

static bool is_leaf(const struct kp_value *set)
{
    return set->object.len == 0;
}

/* "f:name" */
static const char *field_key(const char *name, struct kp_arena *arena)
{
    return kp_arena_printf(arena, "f:%s", name);
}

/* "k:{...}" with the list's keys, or "v:value" of a set. NULL when a key has neither value nor default. */
static const char *element_key(const struct patch_node *list, const struct kp_value *item, struct kp_arena *arena)
{
    KP_AUTO_BUF struct kp_buf out = {0};
    if (list->field->list_type == KP_LIST_SET) {
        kp_buf_puts(&out, "v:");
        kp_value_print_sorted(item, &out);
        return kp_arena_strdup(arena, out.data);
    }
    struct kp_value *keys = kp_value_object(arena);
    for (const char *const *key = list->field->list_map_keys; *key; key++) {
        const struct kp_value *value = patch_key_value(list, *key, item, arena);
        if (!value)
            return NULL;
        kp_value_set(arena, keys, *key, kp_value_clone(value, arena));
    }
    kp_buf_puts(&out, "k:");
    kp_value_print_sorted(keys, &out);
    return kp_arena_strdup(arena, out.data);
}

static bool is_container(const struct patch_node *node, const struct kp_value *value)
{
    if (node->atomic || node->kind == PATCH_SCALAR)
        return false;
    return node->kind == PATCH_LIST ? value->kind == KP_VALUE_ARRAY : value->kind == KP_VALUE_OBJECT;
}

static size_t len_of(const struct kp_value *value)
{
    return value->kind == KP_VALUE_ARRAY ? value->array.len : value->object.len;
}

struct kp_value *fields_of(const struct patch_node *node, const struct kp_value *value, struct kp_arena *arena)
{
    struct kp_value *set = kp_value_object(arena);
    if (!is_container(node, value) || len_of(value) == 0)
        return set;
    if (node->kind == PATCH_LIST) {
        const struct patch_node element = patch_node_of_element(node);
        for (size_t i = 0; i < value->array.len; i++) {
            const char *key = element_key(node, value->array.items[i], arena);
            if (!key)
                continue;
            struct kp_value *below = fields_of(&element, value->array.items[i], arena);
            if (!is_leaf(below))
                kp_value_set(arena, below, ".", leaf(arena));
            kp_value_set(arena, set, key, below);
        }
        return set;
    }
    for (size_t i = 0; i < value->object.len; i++) {
        const struct kp_member *member = &value->object.members[i];
        const struct patch_node sub = patch_node_of_member(node, member->key);
        struct kp_value *below = fields_of(&sub, member->value, arena);
        if (sub.kind == PATCH_LIST && is_container(&sub, member->value) && len_of(member->value) == 0)
            continue; /* an empty list that is merged by key says nothing */
        if (node->kind == PATCH_MAP && !is_leaf(below))
            kp_value_set(arena, below, ".", leaf(arena));
        kp_value_set(arena, set, field_key(member->key, arena), below);
    }
    return set;
}

struct kp_value *fields_changed(const struct patch_node *node, const struct kp_value *old, const struct kp_value *new, struct kp_arena *arena)
{
    struct kp_value *set = kp_value_object(arena);
    if (node->kind == PATCH_LIST) {
        const struct patch_node element = patch_node_of_element(node);
        for (size_t i = 0; i < new->array.len; i++) {
            const struct kp_value *item = new->array.items[i];
            const char *key = element_key(node, item, arena);
            int at = old && old->kind == KP_VALUE_ARRAY ? patch_find_element(node, old, item) : -1;
            const struct kp_value *had = at >= 0 ? kp_value_at(old, (size_t)at) : NULL;
            if (!key || (had && kp_value_equal(had, item)))
                continue;
            struct kp_value *below = is_container(&element, item) && len_of(item) ? fields_changed(&element, had, item, arena) : leaf(arena);
            if (!had && !is_leaf(below))
                kp_value_set(arena, below, ".", leaf(arena));
            kp_value_set(arena, set, key, below);
        }
        return set;
    }
    for (size_t i = 0; i < new->object.len; i++) {
        const struct kp_member *member = &new->object.members[i];
        const struct kp_value *had = old ? kp_value_get(old, member->key) : NULL;
        const struct patch_node sub = patch_node_of_member(node, member->key);
        if (had && kp_value_equal(had, member->value))
            continue;
        if (!is_container(&sub, member->value) || len_of(member->value) == 0) {
            kp_value_set(arena, set, field_key(member->key, arena), leaf(arena));
            continue;
        }
        struct kp_value *below = fields_changed(&sub, had, member->value, arena);
        if (!had && !is_leaf(below))
            kp_value_set(arena, below, ".", leaf(arena));
        if (!is_leaf(below))
            kp_value_set(arena, set, field_key(member->key, arena), below);
    }
    return set;
}

struct kp_value *fields_union(const struct kp_value *a, const struct kp_value *b, struct kp_arena *arena)
{
    struct kp_value *set = kp_value_clone(a, arena);
    for (size_t i = 0; b && i < b->object.len; i++) {
        const struct kp_member *member = &b->object.members[i];
        struct kp_value *had = kp_value_get(set, member->key);
        if (!had) {
            kp_value_set(arena, set, member->key, kp_value_clone(member->value, arena));
            continue;
        }
        if (kp_streq(member->key, "."))
            continue;
        bool one_is_leaf = is_leaf(had) != is_leaf(member->value);
        struct kp_value *both = fields_union(had, member->value, arena);
        if (one_is_leaf) /* the leaf's own membership survives as "." */
            kp_value_set(arena, both, ".", leaf(arena));
        kp_value_set(arena, set, member->key, both);
    }
    return set;
}

/* Whether the node itself is a member: a leaf, or with ".". */
static bool has_self(const struct kp_value *node)
{
    return is_leaf(node) || kp_value_get(node, ".") != NULL;
}

struct kp_value *fields_minus(const struct kp_value *a, const struct kp_value *b, struct kp_arena *arena)
{
    struct kp_value *set = kp_value_object(arena);
    for (size_t i = 0; i < a->object.len; i++) {
        const struct kp_member *member = &a->object.members[i];
        const struct kp_value *other = b ? kp_value_get(b, member->key) : NULL;
        if (!other) {
            kp_value_set(arena, set, member->key, kp_value_clone(member->value, arena));
            continue;
        }
        if (kp_streq(member->key, ".") || (is_leaf(member->value) && has_self(other)))
            continue;
        if (is_leaf(member->value)) {
            kp_value_set(arena, set, member->key, leaf(arena));
            continue;
        }
        struct kp_value *left = fields_minus(member->value, is_leaf(other) ? NULL : other, arena);
        if (has_self(other))
            kp_value_remove(left, ".");
        if (!is_leaf(left))
            kp_value_set(arena, set, member->key, left);
    }
    return set;
}

struct kp_value *fields_and(const struct kp_value *a, const struct kp_value *b, struct kp_arena *arena)
{
    struct kp_value *set = kp_value_object(arena);
    for (size_t i = 0; i < a->object.len; i++) {
        const struct kp_member *member = &a->object.members[i];
        const struct kp_value *other = kp_value_get(b, member->key);
        if (!other)
            continue;
        if (kp_streq(member->key, ".") || is_leaf(member->value) || is_leaf(other)) {
            if (has_self(member->value) && has_self(other))
                kp_value_set(arena, set, member->key, leaf(arena));
            continue;
        }
        struct kp_value *both = fields_and(member->value, other, arena);
        if (!is_leaf(both))
            kp_value_set(arena, set, member->key, both);
    }
    return set;
}

/* The part of a value that a member's key names, or NULL. *ret_index: of list elements. */
static struct kp_value *part(const char *key, const struct patch_node *node, const struct kp_value *value, struct kp_arena *arena, size_t *ret_index)
{
    struct kp_value *wanted = NULL;
    if (kp_starts_with(key, "f:"))
        return value->kind == KP_VALUE_OBJECT ? kp_value_get(value, key + 2) : NULL;
    if (value->kind != KP_VALUE_ARRAY || node->kind != PATCH_LIST || node->atomic || kp_value_parse(key + 2, strlen(key + 2), arena, NULL, &wanted, NULL) < 0)
        return NULL;
    int at = patch_find_element(node, value, wanted);
    *ret_index = (size_t)KP_MAX(at, 0);
    return at < 0 ? NULL : kp_value_at(value, (size_t)at);
}

static struct patch_node node_of_key(const char *key, const struct patch_node *node)
{
    return kp_starts_with(key, "f:") ? patch_node_of_member(node, key + 2) : patch_node_of_element(node);
}

struct kp_value *fields_present(const struct kp_value *set, const struct patch_node *node, const struct kp_value *value, struct kp_arena *arena)
{
    struct kp_value *out = kp_value_object(arena);
    for (size_t i = 0; i < set->object.len; i++) {
        const struct kp_member *member = &set->object.members[i];
        size_t index;
        if (kp_streq(member->key, ".")) {
            kp_value_set(arena, out, ".", leaf(arena));
            continue;
        }
        const struct kp_value *found = part(member->key, node, value, arena, &index);
        if (!found)
            continue;
        const struct patch_node sub = node_of_key(member->key, node);
        struct kp_value *below = is_leaf(member->value) ? leaf(arena) : fields_present(member->value, &sub, found, arena);
        if (is_leaf(member->value) || !is_leaf(below))
            kp_value_set(arena, out, member->key, below);
    }
    return out;
}

static void collect_paths(const struct kp_value *set, const char *prefix, struct kp_arena *arena, struct kp_string_list *ret)
{
    for (size_t i = 0; i < set->object.len; i++) {
        const struct kp_member *member = &set->object.members[i];
        const char *path = prefix;
        if (kp_starts_with(member->key, "f:")) {
            path = kp_arena_printf(arena, "%s.%s", prefix, member->key + 2);
        } else if (kp_starts_with(member->key, "k:") || kp_starts_with(member->key, "v:")) {
            KP_AUTO_BUF struct kp_buf out = {0};
            struct kp_value *keys = NULL;
            kp_buf_printf(&out, "%s[", prefix);
            if (member->key[0] == 'k' && kp_value_parse(member->key + 2, strlen(member->key + 2), arena, NULL, &keys, NULL) == 0)
                for (size_t k = 0; k < keys->object.len; k++) {
                    kp_buf_printf(&out, "%s%s=", k ? "," : "", keys->object.members[k].key);
                    kp_value_print(keys->object.members[k].value, &out);
                }
            else
                kp_buf_printf(&out, "=%s", member->key + 2);
            kp_buf_putc(&out, ']');
            path = kp_arena_strdup(arena, out.data);
        }
        if (is_leaf(member->value))
            kp_string_list_add(arena, ret, path);
        else
            collect_paths(member->value, path, arena, ret);
    }
}

void fields_paths(const struct kp_value *set, struct kp_arena *arena, struct kp_string_list *ret)
{
    collect_paths(set, "", arena, ret);
}

void fields_canonical(const struct patch_node *node, struct kp_value *value, struct kp_arena *arena)
{
    if (value->kind == KP_VALUE_ARRAY && node->kind == PATCH_LIST) {
        const struct patch_node element = patch_node_of_element(node);
        for (size_t i = 0; i < value->array.len; i++)
            fields_canonical(&element, value->array.items[i], arena);
        return;
    }
    if (value->kind != KP_VALUE_OBJECT || (node->kind != PATCH_STRUCT && node->kind != PATCH_MAP))
        return;
    bool quantities = node->kind == PATCH_MAP && node->field->kind == KP_KIND_QUANTITY;
    for (size_t i = 0; i < value->object.len; i++) {
        struct kp_member *member = &value->object.members[i];
        const struct kp_field *field = node->kind == PATCH_STRUCT ? kp_field_find(node->type, member->key) : NULL;
        if (quantities || (field && field->cardinality == KP_ONE && field->kind == KP_KIND_QUANTITY)) {
            KP_AUTO_BUF struct kp_buf text = {0};
            if (member->value->kind == KP_VALUE_STRING)
                kp_buf_puts(&text, member->value->string);
            else
                kp_value_print(member->value, &text);
            const char *canonical = kp_quantity_canonical(text.data ? text.data : "", arena);
            if (canonical)
                member->value = kp_value_string(arena, canonical);
            continue;
        }
        const struct patch_node sub = patch_node_of_member(node, member->key);
        fields_canonical(&sub, member->value, arena);
    }
}

void fields_remove(const struct kp_value *set, const struct kp_value *kept, const struct patch_node *node, struct kp_value *value,
                   struct kp_arena *arena)
{
    for (size_t i = 0; i < set->object.len; i++) {
        const struct kp_member *member = &set->object.members[i];
        size_t index = 0;
        struct kp_value *found = kp_streq(member->key, ".") ? NULL : part(member->key, node, value, arena, &index);
        if (!found)
            continue;
        const struct patch_node sub = node_of_key(member->key, node);
        const struct kp_value *others = kept ? kp_value_get(kept, member->key) : NULL;
        /* The thing itself goes when the set names it and nobody else has a field in it: with what was only defaulted in it. */
        if (others || !has_self(member->value)) {
            fields_remove(member->value, others, &sub, found, arena);
            continue;
        }
        if (kp_starts_with(member->key, "f:"))
            kp_value_remove(value, member->key + 2);
        else
            kp_value_array_remove(value, index);
    }
}

void fields_strip(struct kp_value *tree)
{
    static const char *const gone[] = {"name", "namespace", "creationTimestamp", "selfLink", "uid", "clusterName", "generation", "managedFields",
                                       "resourceVersion", "deletionTimestamp", "deletionGracePeriodSeconds"};
    struct kp_value *metadata = kp_value_get(tree, "metadata");
    kp_value_remove(tree, "apiVersion");
    kp_value_remove(tree, "kind");
    for (size_t i = 0; metadata && i < KP_ARRAY_LEN(gone); i++)
        kp_value_remove(metadata, gone[i]);
    if (metadata && metadata->kind == KP_VALUE_OBJECT && metadata->object.len == 0)
        kp_value_remove(tree, "metadata");
}
