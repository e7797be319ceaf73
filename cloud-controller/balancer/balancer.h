/* cloud-controller/balancer: LoadBalancer Services where the cloud has no load balancer. They get an address of a pool; the nodes
 * hold it (nodeimage/network/balancer). The decision is pure. */
#ifndef CCM_BALANCER_H
#define CCM_BALANCER_H

#include "lib/vip/vip.h"

#define BALANCER_FINALIZER "service.kubernetes.io/load-balancer-cleanup"
#define BALANCER_ADDRESS_ANNOTATION "kprov.dev/load-balancer-address" /* the address wanted; spec.loadBalancerIP is as good */

/* Services of one namespace with the same value of it share an address: their ports must differ, and both policies be Cluster, so that
   the nodes agree on a holder. */
#define BALANCER_SHARE_ANNOTATION "kprov.dev/share-address"

struct balancer_input {
    const struct vip_pool *pool;
    const struct k8s_service *service;
    const struct k8s_service *const *all; /* the service among them or not */
    size_t n_all;
    const struct kp_strmap *given; /* address -> "ns/name" (char *): given out, perhaps not seen in `all` yet */
};
struct balancer_decision {
    bool add_finalizer, remove_finalizer;
    bool set_status;         /* to the address below, or to nothing */
    char address[VIP_ADDRESS_MAX]; /* "": none */
    const char *problem;     /* why there is none, in the arena; NULL: none */
};
void balancer_decide(const struct balancer_input *input, struct kp_arena *arena, struct balancer_decision *ret_decision);

#endif
