/* Whether the node takes a pod at all: resources, node name selector. Pure. */
#include "nodeimage/kubelet/pod_internal.h"

static void refuse(struct kubelet_admission *ret, const char *reason, const char *message)
{
    *ret = (struct kubelet_admission){.reason = reason, .message = message};
}

static bool selector_fits(const struct k8s_pod *pod, const struct kp_string_map *labels)
{
    const struct kp_string_map *selector = &pod->spec->node_selector;
    for (size_t i = 0; i < selector->len; i++)
        if (!kp_streq(kp_string_map_get(labels, selector->items[i].key), selector->items[i].value))
            return false;
    return true;
}

void kubelet_admit(const struct k8s_pod *pod, const struct kp_string_map *allocatable, const struct kp_string_map *others,
                   size_t n_others, const struct kp_string_map *node_labels, struct kp_arena *arena,
                   struct kubelet_admission *ret)
{
    *ret = (struct kubelet_admission){.ok = true};
    if (kubelet_pod_critical(pod))
        return; /* room is made for those by evicting others */
    if (node_labels && !selector_fits(pod, node_labels)) {
        refuse(ret, "NodeAffinity", "Pod was rejected: Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector");
        return;
    }
    int64_t pods_max = kp_quantity_str_value(kp_string_map_get(allocatable, "pods"));
    if (pods_max > 0 && (int64_t)n_others + 1 > pods_max) {
        refuse(ret, "OutOfpods",
               kp_arena_printf(arena, "Pod was rejected: Node didn't have enough resource: pods, requested: 1, used: %zu, capacity: %lld",
                               n_others, (long long)pods_max));
        return;
    }
    struct kp_string_map wanted;
    kubelet_pod_requests(pod, arena, &wanted);
    for (size_t i = 0; i < wanted.len; i++) {
        const char *name = wanted.items[i].key;
        const char *capacity = kp_string_map_get(allocatable, name);
        if (kp_quantity_str_cmp(wanted.items[i].value, "0") <= 0)
            continue;
        struct kp_quantity sum = kp_quantity_of(kp_string_map_get(others, name));
        struct kp_quantity want = kp_quantity_of(wanted.items[i].value), have = kp_quantity_of(capacity);
        struct kp_quantity used = sum;
        kp_quantity_add(&sum, &want);
        if (kp_quantity_cmp(&sum, &have) <= 0)
            continue;
        bool milli = kp_streq(name, "cpu");
        refuse(ret, kp_arena_printf(arena, "OutOf%s", name),
               kp_arena_printf(arena,
                               "Pod was rejected: Node didn't have enough resource: %s, requested: %lld, used: %lld, capacity: %lld",
                               name, (long long)(milli ? kp_quantity_milli_value(&want) : kp_quantity_value(&want)),
                               (long long)(milli ? kp_quantity_milli_value(&used) : kp_quantity_value(&used)),
                               (long long)(milli ? kp_quantity_milli_value(&have) : kp_quantity_value(&have))));
        return;
    }
}
