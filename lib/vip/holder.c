/* Which node holds an address. */
#include "lib/vip/vip.h"

#define EXCLUDED "node.kubernetes.io/exclude-from-external-load-balancers"

static bool has_endpoint(const struct vip_view *view, const struct k8s_service *service, const char *node)
{
    for (size_t s = 0; s < view->n_slices; s++) {
        const struct k8s_endpoint_slice *slice = view->slices[s];
        if (!kp_streq(slice->metadata->namespace, service->metadata->namespace) ||
            !kp_streq(kp_string_map_get(&slice->metadata->labels, "kubernetes.io/service-name"), service->metadata->name))
            continue;
        for (size_t e = 0; e < slice->endpoints.len; e++) {
            const struct k8s_endpoint *endpoint = &slice->endpoints.items[e];
            if (kp_streq(endpoint->node_name, node) && (!endpoint->conditions->has_ready || endpoint->conditions->ready))
                return true;
        }
    }
    return false;
}

static bool may_hold(const struct vip_view *view, const struct k8s_service *service, const char *name)
{
    const struct k8s_node *node = NULL;
    for (size_t i = 0; i < view->n_nodes && !node; i++)
        if (kp_streq(view->nodes[i]->metadata->name, name))
            node = view->nodes[i];
    if (!node || kp_string_map_get(&node->metadata->labels, EXCLUDED) || node->metadata->deletion_timestamp.set)
        return false;
    return !kp_streq(service->spec->external_traffic_policy, "Local") || has_endpoint(view, service, name);
}

static uint64_t rank(const char *address, const char *node)
{
    KP_AUTO_FREE char *text = kp_asprintf("%s %s", address, node);
    uint64_t h = kp_hash64(text, strlen(text));
    h ^= h >> 33; /* FNV leaves names that differ in their last letter near each other */
    h *= UINT64_C(0xff51afd7ed558ccd);
    return h ^ h >> 33;
}

const char *vip_holder(const struct vip_view *view, const struct k8s_service *service, const char *address)
{
    const struct vip_node *best = NULL;
    uint64_t best_rank = 0;
    for (size_t i = 0; i < view->n_alive; i++) {
        const struct vip_node *node = &view->alive[i];
        if (!node->alive || !may_hold(view, service, node->name))
            continue;
        uint64_t node_rank = rank(address, node->name);
        bool better = !best || (node->settled && !best->settled) || (node->settled == best->settled && node_rank > best_rank);
        if (!better)
            continue;
        best = node;
        best_rank = node_rank;
    }
    return best ? best->name : NULL;
}
