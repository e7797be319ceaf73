/* NetworkPolicies as nftables rules of one node: what its pods may take and send.
 *
 * Semantics are those of networking.k8s.io/v1: a pod that no policy selects for a direction takes or sends everything; else what the rules of any of them
 * allow, with the answers to it. A pod always reaches itself, and its own node is never kept from it nor it from its node (what the node sends itself and
 * what is for the node does not go through the forward hook). Each node looks after its own pods: egress where a pod is, ingress where its peer is, both
 * behind the rewriting of Services' addresses. IPv4, as the rest of the network. What is no TCP, UDP or SCTP passes only where a rule names no port.
 *
 * Shape of the table `ip kprov-policy`: a base chain and a verdict map from addresses to chains for each direction; a chain a pod, which jumps to those
 * of its policies and drops what they did not accept. `accept` ends the base chain of its own direction alone. */
#ifndef NETWORK_POLICY_H
#define NETWORK_POLICY_H

#include "api/k8s.h"
#include "lib/client/client.h"
#include "lib/nft/nft.h"

#define POLICY_TABLE "ip kprov-policy"
extern const char policy_base_table[]; /* for nft_rules_script */

struct policy_input {
    const char *node_name; /* whose pods are looked after */
    const struct k8s_network_policy *const *policies;
    size_t n_policies;
    const struct k8s_pod *const *pods; /* of the whole cluster: peers */
    size_t n_pods;
    const struct k8s_namespace *const *namespaces;
    size_t n_namespaces;
};
/* Pure. Addresses that are none, and what cannot be read of a policy, allow nothing. */
struct nft_rules *policy_rules_build(const struct policy_input *input);
/* Whether a change of a pod can change rules. old or new may be NULL. */
bool policy_pod_matters(const struct k8s_pod *old, const struct k8s_pod *new);

/* Keeps the table as the policies say. Pods and namespaces are watched once there is a policy: a cluster without any pays for one watch. */
struct policy_agent;
/* Waits until the first state is in the kernel. */
int policy_start(struct client *client, const char *node_name, struct policy_agent **ret, struct kp_error *error) KP_NODISCARD;
void policy_stop(struct policy_agent *agent); /* accepts NULL; the rules stay */

#endif
