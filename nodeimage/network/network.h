/* kprov-network: the pod network of one node - its CNI configuration and masquerading; routes are lib/netlink's. */
#ifndef KPROV_NETWORK_H
#define KPROV_NETWORK_H

#include "lib/base/base.h"

/* The conflist containerd reads: bridge and host-local over the node's pod CIDR. mtu: of the link that pods' packets leave by; 0: not known. */
void network_cni_config(const char *pod_cidr, unsigned mtu, struct kp_buf *out);
/* Whether a node's address is in the network of this one's link. Elsewhere the cloud's routes lead to its pods: the kernel would refuse ours. */
bool network_is_near(const char *own_address, int prefix_len, uint32_t other);
/* Of the link with that index, 0 when it cannot be told. */
unsigned network_link_mtu(unsigned index);
/* Traffic of pods that leaves the cluster takes the node's address; what they send to a cloud's metadata service is refused. */
void network_pod_rules(const char *cluster_cidr, struct kp_buf *out);

#endif
