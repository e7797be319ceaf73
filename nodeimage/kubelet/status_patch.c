/* What has to be patched to turn one pod status into another. Pure. */
#include "nodeimage/kubelet/kubelet_internal.h"

static struct kp_value *find_by_key(const struct kp_value *list, const char *key, const char *name)
{
    for (size_t i = 0; list && list->kind == KP_VALUE_ARRAY && i < list->array.len; i++)
        if (kp_streq(kp_value_str(kp_value_get(list->array.items[i], key)), name))
            return list->array.items[i];
    return NULL;
}

/* Conditions merge by type: only the changed ones travel, and those of others stay. */
static void patch_conditions(const struct kp_value *old, const struct kp_value *new, struct kp_value *patch, struct kp_arena *arena)
{
    struct kp_value *changed = kp_value_array(arena);
    for (size_t i = 0; i < new->array.len; i++) {
        struct kp_value *item = new->array.items[i];
        struct kp_value *before = find_by_key(old, "type", kp_value_str(kp_value_get(item, "type")));
        if (before && kp_value_equal(before, item))
            continue;
        struct kp_value *copy = kp_value_clone(item, arena);
        for (size_t m = 0; before && m < before->object.len; m++)
            if (!kp_value_get(item, before->object.members[m].key))
                kp_value_set(arena, copy, before->object.members[m].key, kp_value_null(arena));
        kp_value_append(arena, changed, copy);
    }
    if (changed->array.len > 0)
        kp_value_set(arena, patch, "conditions", changed);
}

/* Addresses merge by ip upstream: what went away must be said to go. */
static void patch_addresses(const char *key, const struct kp_value *old, const struct kp_value *new, struct kp_value *patch,
                            struct kp_arena *arena)
{
    struct kp_value *list = kp_value_clone(new, arena);
    for (size_t i = 0; old && i < old->array.len; i++) {
        const char *ip = kp_value_str(kp_value_get(old->array.items[i], "ip"));
        if (find_by_key(new, "ip", ip))
            continue;
        struct kp_value *gone = kp_value_object(arena);
        kp_value_set(arena, gone, "ip", kp_value_string(arena, ip));
        kp_value_set(arena, gone, "$patch", kp_value_string(arena, "delete"));
        kp_value_append(arena, list, gone);
    }
    kp_value_set(arena, patch, key, list);
}

char *kubelet_status_patch(const struct k8s_pod_status *old_status, const struct k8s_pod_status *status, const char *uid,
                           struct kp_arena *arena)
{
    struct kp_value *new = kp_value_from_object(&k8s_pod_status_type, status, arena);
    struct kp_value *old =
        old_status ? kp_value_from_object(&k8s_pod_status_type, old_status, arena) : kp_value_object(arena);
    struct kp_value *patch = kp_value_object(arena);
    for (size_t i = 0; i < new->object.len; i++) {
        const char *key = new->object.members[i].key;
        struct kp_value *value = new->object.members[i].value, *before = kp_value_get(old, key);
        if (before && kp_value_equal(before, value))
            continue;
        if (kp_streq(key, "conditions"))
            patch_conditions(before, value, patch, arena);
        else if (kp_streq(key, "podIPs") || kp_streq(key, "hostIPs"))
            patch_addresses(key, before, value, patch, arena);
        else
            kp_value_set(arena, patch, key, value);
    }
    static const char *const ours[] = {"reason", "message", "podIP", "initContainerStatuses", "containerStatuses",
                                       "ephemeralContainerStatuses"};
    for (size_t i = 0; i < KP_ARRAY_LEN(ours); i++)
        if (kp_value_get(old, ours[i]) && !kp_value_get(new, ours[i]))
            kp_value_set(arena, patch, ours[i], kp_value_null(arena));
    if (patch->object.len == 0)
        return NULL;
    struct kp_value *root = kp_value_object(arena), *meta = kp_value_object(arena);
    kp_value_set(arena, meta, "uid", kp_value_string(arena, uid));
    kp_value_set(arena, root, "metadata", meta);
    kp_value_set(arena, root, "status", patch);
    KP_AUTO_BUF struct kp_buf out = {0};
    kp_value_print(root, &out);
    return kp_arena_strndup(arena, out.data, out.len);
}
