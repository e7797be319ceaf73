/* Host ports: a port of the node that leads to a container's (containers[].ports[].hostPort), of TCP, UDP and SCTP.
 *
 * What CNI's portmap plugin does with iptables, which the node image does not have, is done with one map of the table `ip kprov-hostports`, made of the pods
 * of this node. Reached at every address of the node, or at hostIP alone, from outside and from pods and processes of the node; not at 127.0.0.1, where
 * the kernel would have to be told to route it. The scheduler sees to it that no two pods of a node have the same; should two, the older one has it. */
#ifndef NETWORK_HOSTPORTS_H
#define NETWORK_HOSTPORTS_H

#include "api/k8s.h"
#include "lib/client/client.h"
#include "lib/nft/nft.h"

#define HOSTPORTS_TABLE "ip kprov-hostports"
extern const char hostports_base_table[];

/* Pure. pods: of this node. */
struct nft_rules *hostports_build(const struct k8s_pod *const *pods, size_t n);
/* Whether a change of a pod can change rules. old or new may be NULL. */
bool hostports_matter(const struct k8s_pod *old, const struct k8s_pod *new);

struct hostports_agent;
/* Waits until the first state is in the kernel. */
int hostports_start(struct client *client, const char *node_name, struct hostports_agent **ret, struct kp_error *error) KP_NODISCARD;
void hostports_stop(struct hostports_agent *agent); /* accepts NULL; the rules stay */

#endif
