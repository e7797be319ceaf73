/* Fills in a schema's defaults, after nulls that nothing can be made of are dropped. */
#include "controlplane/apiserver/structural/structural_internal.h"

/* What of STRUCTURAL_DEFAULTS_MAX is left. An object whose defaults take more stays without the rest: it is larger than the
   store takes, so that nobody will see it. */
struct filler {
    struct kp_arena *arena;
    size_t left;
};

static size_t value_size(const struct kp_value *value)
{
    size_t size = 64;
    if (value->kind == KP_VALUE_STRING)
        size += strlen(value->string);
    for (size_t i = 0; value->kind == KP_VALUE_ARRAY && i < value->array.len; i++)
        size += 16 + value_size(value->array.items[i]);
    for (size_t i = 0; value->kind == KP_VALUE_OBJECT && i < value->object.len; i++)
        size += 48 + strlen(value->object.members[i].key) + value_size(value->object.members[i].value);
    return size;
}

/* NULL when there is no default, or no room for it. */
static struct kp_value *default_of(struct filler *f, const struct snode *node, size_t extra)
{
    if (!node || !node->default_value)
        return NULL;
    size_t size = value_size(node->default_value) + extra;
    if (size > f->left)
        return NULL;
    f->left -= size;
    return kp_value_clone(node->default_value, f->arena);
}

static bool bad_null(const struct snode *node, const struct kp_value *value)
{
    return value->kind == KP_VALUE_NULL && node && !node->nullable;
}

/* ---- nulls --------------------------------------------------------------------------------------------------------------------- */
static void drop_nulls(const struct snode *node, struct kp_value *value)
{
    if (!node)
        return;
    size_t kept = 0;
    for (size_t i = 0; value->kind == KP_VALUE_OBJECT && i < value->object.len; i++) {
        const struct kp_member member = value->object.members[i];
        const struct snode *inside = snode_member(node, member.key);
        if (bad_null(inside, member.value) && !inside->default_value)
            continue;
        drop_nulls(inside, member.value);
        value->object.members[kept++] = member;
    }
    if (value->kind == KP_VALUE_OBJECT)
        value->object.len = kept;
    for (size_t i = 0; value->kind == KP_VALUE_ARRAY && i < value->array.len; i++)
        drop_nulls(node->items, value->array.items[i]);
}

/* ---- defaults ------------------------------------------------------------------------------------------------------------------ */
static void fill(struct filler *f, const struct snode *node, struct kp_value *value);

static void replace_null(struct filler *f, const struct snode *node, struct kp_value **value)
{
    struct kp_value *made = bad_null(node, *value) ? default_of(f, node, 0) : NULL;
    if (made)
        *value = made;
}

/* Properties that are not there, by name. */
static void fill_absent(struct filler *f, const struct snode *node, struct kp_value *value)
{
    KP_AUTO_FREE bool *there = kp_calloc(node->n_properties + 1, sizeof(bool));
    for (size_t i = 0; i < value->object.len; i++) {
        const struct sproperty *property = sproperty_find(node, value->object.members[i].key);
        if (property)
            there[property - node->properties] = true;
    }
    for (size_t i = 0; i < node->n_properties; i++) {
        const struct sproperty *property = &node->properties[i];
        struct kp_value *made = there[i] ? NULL : default_of(f, property->node, 128 + strlen(property->name));
        if (made)
            kp_value_set(f->arena, value, property->name, made);
    }
}

static void fill(struct filler *f, const struct snode *node, struct kp_value *value)
{
    if (!node)
        return;
    if (value->kind == KP_VALUE_OBJECT) {
        fill_absent(f, node, value);
        for (size_t i = 0; i < value->object.len; i++) {
            const struct snode *inside = snode_member(node, value->object.members[i].key);
            replace_null(f, inside, &value->object.members[i].value);
            fill(f, inside, value->object.members[i].value);
        }
    }
    for (size_t i = 0; value->kind == KP_VALUE_ARRAY && i < value->array.len; i++) {
        replace_null(f, node->items, &value->array.items[i]);
        fill(f, node->items, value->array.items[i]);
    }
}

void structural_default(const struct structural *structural, struct kp_value *object, struct kp_arena *arena)
{
    struct filler f = {arena, STRUCTURAL_DEFAULTS_MAX};
    drop_nulls(structural->root, object);
    fill(&f, structural->root, object);
}
