/* kprov-network: the pod network of one node - its CNI configuration and masquerading; routes are lib/netlink's. */
#ifndef KPROV_NETWORK_H
#define KPROV_NETWORK_H

#include "lib/base/base.h"

/* The conflist containerd reads: bridge and host-local over the node's pod CIDR. */
void network_cni_config(const char *pod_cidr, struct kp_buf *out);
/* Traffic of pods that leaves the cluster takes the node's address. */
void network_masquerade_rules(const char *cluster_cidr, struct kp_buf *out);

#endif
