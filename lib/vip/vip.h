/* lib/vip: addresses of Services that nodes hold themselves, without a cloud's load balancer - which Services, which addresses,
 * which node. Pure. */
#ifndef KP_VIP_H
#define KP_VIP_H

#include "api/k8s.h"
#include "lib/base/base.h"

#define VIP_CLASS "kprov.dev/vip" /* loadBalancerClass; a Service that names none is ours too */
#define VIP_NAMESPACE "kprov-load-balancer" /* of the nodes' leases */
#define VIP_RANGES_MAX 16
#define VIP_ADDRESSES_MAX 4096 /* of a pool */

/* ---- pool.c: IPv4, host byte order, ends included */
struct vip_pool {
    struct {
        uint32_t first, last;
    } ranges[VIP_RANGES_MAX];
    size_t len;
};
/* "10.89.0.201-10.89.0.250,10.90.0.0/28,10.91.0.7"; "" is an empty pool. KP_EUSAGE says what is wrong. */
int vip_pool_parse(const char *text, struct vip_pool *ret_pool, struct kp_error *error) KP_NODISCARD;
bool vip_pool_has(const struct vip_pool *pool, const char *address);
size_t vip_pool_size(const struct vip_pool *pool);
#define VIP_ADDRESS_MAX 16
void vip_pool_address(const struct vip_pool *pool, size_t n, char ret[VIP_ADDRESS_MAX]); /* the nth, n below the size */

/* ---- service.c */
bool vip_wants_address(const struct k8s_service *service); /* a LoadBalancer of our class, not being deleted */
/* The address of the pool that its status shows, or NULL. */
const char *vip_address_of(const struct k8s_service *service, const struct vip_pool *pool);

/* ---- holder.c: who holds an address. Every node computes it for itself from the same objects. */
struct vip_node {
    const char *name;
    bool alive;   /* has renewed its lease lately, as seen from here */
    bool settled; /* and without a gap for some seconds, by its lease: preferred, so that a sick node does not take an address each time
                     it gets up */
};
struct vip_view {
    const struct k8s_endpoint_slice *const *slices;
    size_t n_slices;
    const struct k8s_node *const *nodes;
    size_t n_nodes;
    const struct vip_node *alive; /* by any order */
    size_t n_alive;
};
/* The node that holds the service's address, or NULL: the first by a hash of address and node (each address has another order, and a
   node that goes moves its own addresses only) of the nodes that are alive and may: not labelled
   node.kubernetes.io/exclude-from-external-load-balancers, and with a ready endpoint when the policy is Local. */
const char *vip_holder(const struct vip_view *view, const struct k8s_service *service, const char *address);

/* ---- silence.c: is the machine that had an address gone from the link? All zero to begin with; times by one clock. */
#define VIP_SILENCE_ASKED_MIN 3 /* a lost packet or two is nothing */
struct vip_silence {
    bool heard;       /* it has answered since it is watched: where nobody ever does, silence tells nothing */
    int asked;        /* times since it was heard last */
    int64_t since_ms; /* when the first of those was */
};
void vip_silence_asked(struct vip_silence *silence, int64_t now_ms);
void vip_silence_heard(struct vip_silence *silence);
/* It answered before, and now was asked VIP_SILENCE_ASKED_MIN times since at least for_ms ago. Hear what has come before asking this. */
bool vip_silence_means_gone(const struct vip_silence *silence, int64_t for_ms, int64_t now_ms);

#endif
