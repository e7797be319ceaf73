/* The node object: facts of the machine, conditions, registration, lease. */
#ifndef KUBELET_NODE_INTERNAL_H
#define KUBELET_NODE_INTERNAL_H

#include "nodeimage/kubelet/kubelet_internal.h"

struct kubelet_node {
    struct kubelet *kubelet;
    struct kp_arena *arena; /* facts that do not change */
    struct kp_string_map capacity, allocatable, labels;
    const char *ips[KUBELET_ADDRESSES_MAX];
    size_t n_ips;
    struct k8s_node_system_info *info;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool wanted; /* a status is to be written now */
    char runtime_message[512]; /* why not ready; "" when ready */
};

/* What the machine is made of; fills capacity, allocatable, addresses, info. */
void kubelet_node_facts(struct kubelet_node *node);
/* The four conditions; pure. Transition times come from old (may be NULL). */
void kubelet_node_conditions(const char *runtime_message, const bool pressure[EVICTION_PRESSURES],
                             const struct k8s_node_status *old, int64_t now_s, struct k8s_node_status *status,
                             struct kp_arena *arena);

#endif
