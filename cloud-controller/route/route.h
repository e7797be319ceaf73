/* cloud-controller/route: the cloud's network knows the way to each node's pods. */
#ifndef CCM_ROUTE_H
#define CCM_ROUTE_H

#include "cloud-controller/context/context.h"

/* ---- compare.c: pure */
struct route_plan {
    struct cloud_route *wanted; /* those that are missing or lead elsewhere; machine is the node's name */
    size_t n_wanted;
    struct cloud_route *stale;  /* of the cluster's pods, to nobody who has them */
    size_t n_stale;
};
/* Of the cluster's pods are destinations within cluster_cidr ("10.244.0.0/16"). In the arena. */
void route_compare(const struct k8s_node *const *nodes, size_t n_nodes, const struct cloud_route_list *routes, const char *cluster_cidr,
                   struct kp_arena *arena, struct route_plan *ret);
/* The node's networks of pods, IPv4: at most max; gives how many. */
#define ROUTE_CIDRS_MAX 2
size_t route_cidrs_of(const struct k8s_node *node, const char *ret[ROUTE_CIDRS_MAX]);
/* Whether inner lies within outer; false also when either is no IPv4 network. */
bool route_contains(const char *outer, const char *inner);
/* The strategic merge patch of status that says whether the node has its routes, or NULL when it says so already. In the arena. */
const char *route_condition_patch(const struct k8s_node *node, bool routed, int64_t now_s, struct kp_arena *arena);

/* ---- route.c: "node-route-controller" */
struct route_controller;
struct route_controller *route_controller_new(const struct ccm_context *context);
int route_controller_run(struct route_controller *controller, struct kp_error *error) KP_NODISCARD;
void route_controller_stop(struct route_controller *controller);
void route_controller_free(struct route_controller *controller);

#endif
