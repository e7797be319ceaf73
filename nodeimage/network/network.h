/* kprov-network: the pod network of one node - its CNI configuration, routes to the pods of other nodes, masquerading. */
#ifndef KPROV_NETWORK_H
#define KPROV_NETWORK_H

#include "lib/base/base.h"

/* A route to another node's pods. Network order is never used here. */
struct network_route {
    uint32_t base; /* host byte order */
    int bits;
    uint32_t via;
};
/* "10.244.1.0/24" and "10.89.0.3". False when either is no IPv4. */
bool network_route_parse(const char *cidr, const char *via, struct network_route *ret);
/* Routes in table main that this program made (routing protocol NETWORK_PROTOCOL): *ret_routes is the caller's to free. */
#define NETWORK_PROTOCOL 97
int network_routes_list(struct network_route **ret_routes, size_t *ret_count, struct kp_error *error) KP_NODISCARD;
int network_route_replace(const struct network_route *route, struct kp_error *error) KP_NODISCARD;
int network_route_delete(const struct network_route *route, struct kp_error *error) KP_NODISCARD; /* absent is fine */

/* The conflist containerd reads: bridge and host-local over the node's pod CIDR. */
void network_cni_config(const char *pod_cidr, struct kp_buf *out);
/* Traffic of pods that leaves the cluster takes the node's address. */
void network_masquerade_rules(const char *cluster_cidr, struct kp_buf *out);

#endif
