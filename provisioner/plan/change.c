/* Two configs compared as trees, pools by their names. */
#include "provisioner/plan/change.h"

struct comparing {
    struct kp_arena *arena;
    struct plan_change_list *list;
};

static const char *text_of(const struct comparing *c, const struct kp_value *value)
{
    KP_AUTO_BUF struct kp_buf text = {0};
    if (!value)
        return "";
    kp_value_print(value, &text);
    return kp_arena_strndup(c->arena, text.data, text.len);
}

static void add(struct comparing *c, enum plan_change_kind kind, const char *path, const struct kp_value *before,
                const struct kp_value *after)
{
    if (before && after && kp_value_equal(before, after))
        return;
    if ((!before && !after) || c->list->len == PLAN_CHANGES_MAX)
        return;
    c->list->items[c->list->len++] = (struct plan_change){kind, path, text_of(c, before), text_of(c, after)};
}

static const struct kp_value *find_pool(const struct kp_value *pools, const char *name)
{
    for (size_t i = 0; i < pools->array.len; i++)
        if (kp_streq(kp_value_str(kp_value_get(pools->array.items[i], "name")), name))
            return pools->array.items[i];
    return NULL;
}

static void compare_pool(struct comparing *c, const char *name, const struct kp_value *before, const struct kp_value *after)
{
    static const struct {
        const char *field;
        enum plan_change_kind kind;
    } fields[] = {{"replicas", PLAN_CHANGE_POOL}, {"labels", PLAN_CHANGE_LABELS}, {"taints", PLAN_CHANGE_LABELS}, {"machine", PLAN_CHANGE_FIXED}};
    if (!before || !after) {
        add(c, PLAN_CHANGE_POOL, kp_arena_printf(c->arena, "spec.nodePools[%s]", name), before, after);
        return;
    }
    for (size_t i = 0; i < KP_ARRAY_LEN(fields); i++)
        add(c, fields[i].kind, kp_arena_printf(c->arena, "spec.nodePools[%s].%s", name, fields[i].field),
            kp_value_get(before, fields[i].field), kp_value_get(after, fields[i].field));
}

static void compare_pools(struct comparing *c, const struct kp_value *before, const struct kp_value *after)
{
    for (size_t i = 0; i < after->array.len; i++) {
        const char *name = kp_value_str(kp_value_get(after->array.items[i], "name"));
        compare_pool(c, name, find_pool(before, name), after->array.items[i]);
    }
    for (size_t i = 0; i < before->array.len; i++) {
        const char *name = kp_value_str(kp_value_get(before->array.items[i], "name"));
        if (!find_pool(after, name))
            compare_pool(c, name, before->array.items[i], NULL);
    }
}

static void compare_control_plane(struct comparing *c, const struct kp_value *before, const struct kp_value *after)
{
    add(c, PLAN_CHANGE_POOL, "spec.controlPlane.replicas", kp_value_get(before, "replicas"), kp_value_get(after, "replicas"));
    add(c, PLAN_CHANGE_FIXED, "spec.controlPlane.machine", kp_value_get(before, "machine"), kp_value_get(after, "machine"));
}

/* More machines may be listed, and fewer: whether one is in use is asked when the change is made. */
static void compare_external(struct comparing *c, const struct kp_value *before, const struct kp_value *after)
{
    add(c, PLAN_CHANGE_FIXED, "spec.external.apiAddress", kp_value_get(before, "apiAddress"), kp_value_get(after, "apiAddress"));
    add(c, PLAN_CHANGE_SETTING, "spec.external.machines", kp_value_get(before, "machines"), kp_value_get(after, "machines"));
}

/* Where the account is and by which keys may change; what the machines are in may not. */
static void compare_cloud(struct comparing *c, const char *section, const struct kp_value *before, const struct kp_value *after)
{
    static const struct {
        const char *field;
        enum plan_change_kind kind;
    } fields[] = {
        {"cloud", PLAN_CHANGE_SETTING}, {"profile", PLAN_CHANGE_SETTING}, {"credentialsFile", PLAN_CHANGE_SETTING}, {"endpoint", PLAN_CHANGE_SETTING},
        {"instanceProfile", PLAN_CHANGE_SETTING},
        {"region", PLAN_CHANGE_FIXED}, {"networkZone", PLAN_CHANGE_FIXED}, {"network", PLAN_CHANGE_FIXED}, {"externalNetwork", PLAN_CHANGE_FIXED},
        {"zones", PLAN_CHANGE_FIXED}, {"apiEndpoint", PLAN_CHANGE_FIXED},
    };
    for (size_t i = 0; i < KP_ARRAY_LEN(fields); i++)
        add(c, fields[i].kind, kp_arena_printf(c->arena, "spec.%s.%s", section, fields[i].field), kp_value_get(before, fields[i].field),
            kp_value_get(after, fields[i].field));
}

static enum plan_change_kind kind_of(const char *key)
{
    if (kp_streq(key, "kubernetesVersion") || kp_streq(key, "image"))
        return PLAN_CHANGE_RELEASE;
    return kp_streq(key, "deletionProtection") || kp_streq(key, "etcd") ? PLAN_CHANGE_SETTING : PLAN_CHANGE_FIXED;
}

void plan_config_changes(const struct config *before, const struct config *after, struct kp_arena *arena,
                         struct plan_change_list *ret)
{
    const struct kp_value *a = kp_value_get(config_to_value(before, arena), "spec");
    const struct kp_value *b = kp_value_get(config_to_value(after, arena), "spec");
    struct comparing c = {arena, ret};
    *ret = (struct plan_change_list){.items = KP_NEW_ARRAY(arena, struct plan_change, PLAN_CHANGES_MAX)};
    for (size_t i = 0; i < b->object.len; i++) {
        const char *key = b->object.members[i].key;
        if (kp_streq(key, "controlPlane"))
            compare_control_plane(&c, kp_value_get(a, key), b->object.members[i].value);
        else if (kp_streq(key, "external"))
            compare_external(&c, kp_value_get(a, key), b->object.members[i].value);
        else if (!kp_streq(key, "nodePools") && !kp_streq(key, "audit") && !kp_streq(key, after->cloud.section) && !kp_streq(key, before->cloud.section))
            add(&c, kind_of(key), kp_arena_printf(arena, "spec.%s", key), kp_value_get(a, key), b->object.members[i].value);
    }
    add(&c, PLAN_CHANGE_FIXED, "spec.audit", kp_value_get(a, "audit"), kp_value_get(b, "audit")); /* one that is not there any more, too */
    if (*after->cloud.section || *before->cloud.section) {
        const char *section = *after->cloud.section ? after->cloud.section : before->cloud.section;
        compare_cloud(&c, section, kp_value_get(a, section), kp_value_get(b, section));
    }
    compare_pools(&c, kp_value_get(a, "nodePools"), kp_value_get(b, "nodePools"));
}
