/* The nodes that balancers send to. */
#include "cloud-controller/service/service.h"

#define EXCLUDED "node.kubernetes.io/exclude-from-external-load-balancers"
#define ABOUT_TO_GO "ToBeDeletedByClusterAutoscaler"

bool service_target_of(const struct k8s_node *node, struct cloud_target *ret)
{
    if (kp_string_map_get(&node->metadata->labels, EXCLUDED) || node->metadata->deletion_timestamp.set || ccm_has_taint(node, ABOUT_TO_GO) ||
        ccm_has_taint(node, CCM_TAINT_UNINITIALIZED) || ccm_has_taint(node, CCM_TAINT_SHUTDOWN))
        return false;
    for (size_t i = 0; i < node->status->addresses.len; i++) {
        const struct k8s_node_address *address = &node->status->addresses.items[i];
        if (!kp_streq(address->type, "InternalIP") || strchr(address->address, ':'))
            continue;
        *ret = (struct cloud_target){.machine = node->metadata->name, .address = address->address};
        return true;
    }
    return false;
}

size_t service_targets(const struct k8s_node *const *nodes, size_t n_nodes, struct kp_arena *arena, const struct cloud_target **ret)
{
    struct cloud_target *targets = KP_NEW_ARRAY(arena, struct cloud_target, n_nodes + 1);
    size_t n = 0;
    for (size_t i = 0; i < n_nodes && n < CLOUD_MACHINES_MAX; i++)
        n += service_target_of(nodes[i], &targets[n]);
    *ret = targets;
    return n;
}
