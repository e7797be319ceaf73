/* nodeimage/network/balancer: this node's part in holding the addresses of LoadBalancer Services. */
#ifndef NETWORK_BALANCER_H
#define NETWORK_BALANCER_H

#include "lib/base/cpu.h"
#include "lib/client/client.h"
#include "lib/netlink/netlink.h"
#include "lib/vip/vip.h"

/* While a Service has an address of the pool, every node renews a Lease of its own (namespace VIP_NAMESPACE, named as the node) and
 * watches the others'. Each works out by itself who holds what (vip_holder); the holder adds the address to its link and announces it.
 * Who is late with its lease is asked for by ARP: one that does not answer is gone, one that does has until its lease ends.
 * A node that cannot renew its own lease changes nothing until it could for a while: an API server that is away takes no address away. */
#define BALANCER_TIMES (kp_cpu_is_emulated() ? INT64_C(3) : 1) /* as long where a renewal costs as much processor time as 20 elsewhere */
#define BALANCER_RENEW_MS (300 * BALANCER_TIMES)
#define BALANCER_DEAD_MS (1200 * BALANCER_TIMES) /* after its last renewal a node counts as gone */
#define BALANCER_LATE_MS (330 * BALANCER_TIMES) /* after it the link is asked whether the node is there */
#define BALANCER_SETTLED_MS (3000 * BALANCER_TIMES) /* without a gap, to be preferred */

struct balancer;
struct balancer_config {
    struct client *client;            /* borrowed until balancer_stop, as is all below */
    const char *node_name;
    struct client_informer *nodes; /* started */
    const struct vip_pool *pool;
};
int balancer_start(const struct balancer_config *config, struct balancer **ret_balancer, struct kp_error *error) KP_NODISCARD;
void balancer_stop(struct balancer *balancer); /* gives its addresses up; accepts NULL */

/* ---- lease.c: one thread that renews */
struct balancer_lease;
struct balancer_lease *balancer_lease_new(const struct balancer_config *config); /* borrowed */
void balancer_lease_free(struct balancer_lease *lease); /* deletes the Lease; accepts NULL */
void balancer_lease_want(struct balancer_lease *lease, bool wanted);
struct balancer_own {
    bool alive;      /* renewed within BALANCER_DEAD_MS */
    bool settled;
    bool may_change; /* renewals have gone well for long enough to know the others too */
};
struct balancer_own balancer_lease_state(struct balancer_lease *lease, int64_t now_ms);

/* ---- peers.c: the others' leases as they are seen from here */
struct balancer_peers;
struct balancer_peers *balancer_peers_new(void);
void balancer_peers_free(struct balancer_peers *peers); /* accepts NULL */
/* A lease as the cache has it now. */
void balancer_peers_see(struct balancer_peers *peers, const struct k8s_lease *lease, int64_t now_ms);
void balancer_peers_state(const struct balancer_peers *peers, const char *node, int64_t now_ms, struct vip_node *ret_node);
bool balancer_peers_is_late(const struct balancer_peers *peers, const char *node, int64_t now_ms); /* not seen to renew for BALANCER_LATE_MS */

/* ---- wire.c: are they on the link? */
struct balancer_wire;
int balancer_wire_new(const struct netlink_link *link, struct balancer_wire **ret_wire, struct kp_error *error) KP_NODISCARD;
void balancer_wire_free(struct balancer_wire *wire); /* accepts NULL */
void balancer_wire_listen(struct balancer_wire *wire); /* hears what has come; before the questions of each tick */
void balancer_wire_holds(struct balancer_wire *wire, const char *node, int64_t now_ms); /* others are not asked: their leases have to run out */
/* Of a node at each tick, address NULL when it is not known: does it not answer any more, though it did before? Only who is late can be gone. */
bool balancer_wire_is_gone(struct balancer_wire *wire, const char *node, const char *address, bool late, int64_t now_ms);

#endif
