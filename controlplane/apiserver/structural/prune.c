/* Drops the fields that a schema does not name. */
#include "controlplane/apiserver/structural/structural_internal.h"

struct pruner {
    struct kp_arena *arena;
    struct kp_string_list *dropped; /* NULL: nobody asks */
};

static void prune(const struct pruner *p, const struct snode *node, struct kp_value *value, const struct spath *path, bool embedded);

static void report(const struct pruner *p, const struct spath *path)
{
    if (p->dropped && p->dropped->len < STRUCTURAL_DROPPED_MAX)
        kp_string_list_add(p->arena, p->dropped, spath_text(path, p->arena));
}

/* Whether the member is to stay; prunes inside it. node NULL: nothing stays. keep: what is not named does. */
static bool prune_member(const struct pruner *p, const struct snode *node, const struct kp_member *member, const struct spath *path, bool embedded,
                         bool keep)
{
    const struct spath at = SPATH_CHILD(path, member->key);
    if (node && embedded && structural_is_meta_field(member->key))
        return true;
    const struct snode *property = node ? snode_property(node, member->key) : NULL;
    if (property || (node && node->has_additional)) {
        const struct snode *inside = property ? property : node->additional;
        prune(p, inside, member->value, &at, inside && inside->embedded);
        return true;
    }
    if (!keep)
        report(p, &at);
    return keep;
}

static void prune_object(const struct pruner *p, const struct snode *node, struct kp_value *value, const struct spath *path, bool embedded, bool keep)
{
    size_t kept = 0;
    for (size_t i = 0; i < value->object.len; i++)
        if (prune_member(p, node, &value->object.members[i], path, embedded, keep))
            value->object.members[kept++] = value->object.members[i];
    value->object.len = kept;
}

/* Below x-kubernetes-preserve-unknown-fields only what is named is looked into. */
static void prune_kept(const struct pruner *p, const struct snode *node, struct kp_value *value, const struct spath *path, bool embedded)
{
    if (value->kind == KP_VALUE_OBJECT)
        prune_object(p, node, value, path, embedded, true);
    for (size_t i = 0; value->kind == KP_VALUE_ARRAY && node->items && i < value->array.len; i++)
        prune_kept(p, node->items, value->array.items[i], &SPATH_OF_INDEX(path, i), node->items->embedded);
}

/* As deep as the schema and, where that ends, as the value: no deeper than the codec reads. */
static void prune(const struct pruner *p, const struct snode *node, struct kp_value *value, const struct spath *path, bool embedded)
{
    if (node && node->preserve) {
        prune_kept(p, node, value, path, embedded);
        return;
    }
    if (value->kind == KP_VALUE_OBJECT)
        prune_object(p, node, value, path, embedded, false);
    const struct snode *items = node ? node->items : NULL;
    for (size_t i = 0; value->kind == KP_VALUE_ARRAY && i < value->array.len; i++)
        prune(p, items, value->array.items[i], &SPATH_OF_INDEX(path, i), items && items->embedded);
}

static int compare_text(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

void snode_prune(const struct snode *node, struct kp_value *value, bool root, struct kp_arena *arena, struct kp_string_list *dropped)
{
    prune(&(struct pruner){arena, dropped}, node, value, &SPATH_ROOT(""), root || node->embedded);
    if (dropped && dropped->len > 1)
        qsort(dropped->items, dropped->len, sizeof(*dropped->items), compare_text);
}

void structural_prune(const struct structural *structural, struct kp_value *object, struct kp_arena *arena, struct kp_string_list *dropped)
{
    snode_prune(structural->root, object, true, arena, dropped);
}
