/* kube-proxy: Services as nftables rules. The core is pure: Services and EndpointSlices in, a rule set out, and the script that
 * turns one rule set into the next.
 *
 * Shape of the table `ip kube-proxy`: one verdict map from (address, protocol, port) to a chain a service port, whose last rule
 * is one dnat through a map over its endpoints; a second map for node ports. Masquerading is asked for with the packet mark
 * 0x4000, as upstream does. */
#ifndef KUBE_PROXY_H
#define KUBE_PROXY_H

#include "api/k8s.h"
#include "lib/base/base.h"

struct proxy_input {
    const struct k8s_service *const *services;
    size_t n_services;
    const struct k8s_endpoint_slice *const *slices;
    size_t n_slices;
    const char *node_name;    /* whose endpoints count as local */
    const char *cluster_cidr; /* source range of pods; NULL: nothing is masqueraded for coming from outside */
};

struct proxy_rules; /* chains by name, elements by map and key */
struct proxy_rules *proxy_rules_build(const struct proxy_input *input);
void proxy_rules_free(struct proxy_rules *rules); /* accepts NULL */
/* Appends the script from old (NULL: nothing is known, the table is made anew) to new. Appends nothing when they are equal. */
void proxy_rules_script(const struct proxy_rules *old, const struct proxy_rules *new, struct kp_buf *out);
size_t proxy_rules_services(const struct proxy_rules *rules); /* service ports */

#endif
