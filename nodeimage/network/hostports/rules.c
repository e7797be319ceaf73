/* From the pods of a node to the map of their host ports. */
#include "nodeimage/network/hostports/hostports.h"

#include <arpa/inet.h>

#define LOCAL "fib daddr type local ip daddr != 127.0.0.0/8 meta l4proto { tcp, udp, sctp } "
const char hostports_base_table[] =
    "add map " HOSTPORTS_TABLE " anywhere { type inet_proto . inet_service : ipv4_addr . inet_service; }\n"
    "add map " HOSTPORTS_TABLE " at-address { type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service; }\n"
    "add set " HOSTPORTS_TABLE " hairpin { type ipv4_addr . ipv4_addr; }\n"
    "add chain " HOSTPORTS_TABLE " hostports\n"
    /* Behind kube-proxy's: what is a Service's goes to the Service. */
    "add chain " HOSTPORTS_TABLE " nat-prerouting { type nat hook prerouting priority dstnat + 1; }\n"
    "add chain " HOSTPORTS_TABLE " nat-output { type nat hook output priority -99; }\n"
    "add chain " HOSTPORTS_TABLE " nat-postrouting { type nat hook postrouting priority srcnat; }\n"
    "add rule " HOSTPORTS_TABLE " hostports " LOCAL "dnat ip to ip daddr . meta l4proto . th dport map @at-address\n"
    "add rule " HOSTPORTS_TABLE " hostports " LOCAL "dnat ip to meta l4proto . th dport map @anywhere\n"
    "add rule " HOSTPORTS_TABLE " nat-prerouting jump hostports\n"
    "add rule " HOSTPORTS_TABLE " nat-output jump hostports\n"
    /* A pod that calls itself by way of its node must see the node's address, or it would answer itself directly. */
    "add rule " HOSTPORTS_TABLE " nat-postrouting ip saddr . ip daddr @hairpin masquerade fully-random\n";

static bool is_ipv4(const char *text)
{
    struct in_addr parsed;
    return text && inet_pton(AF_INET, text, &parsed) == 1;
}

/* Of init containers only those that run beside the others have ports to speak of. */
static bool is_served(const struct k8s_container *container, bool init)
{
    return !init || kp_streq(container->restart_policy, "Always");
}

static bool any_port(const struct k8s_container_items *containers, bool init)
{
    for (size_t i = 0; i < containers->len; i++)
        for (size_t k = 0; is_served(&containers->items[i], init) && k < containers->items[i].ports.len; k++)
            if (containers->items[i].ports.items[k].host_port)
                return true;
    return false;
}

static bool has_host_ports(const struct k8s_pod *pod)
{
    if (pod->spec->host_network || !is_ipv4(pod->status->pod_ip) || kp_streq(pod->status->phase, "Succeeded") || kp_streq(pod->status->phase, "Failed"))
        return false;
    return any_port(&pod->spec->containers, false) || any_port(&pod->spec->init_containers, true);
}

bool hostports_matter(const struct k8s_pod *old, const struct k8s_pod *new)
{
    bool before = old && has_host_ports(old), after = new && has_host_ports(new);
    return before != after || (before && (!kp_streq(old->metadata->uid, new->metadata->uid) || !kp_streq(old->status->pod_ip, new->status->pod_ip)));
}

static const char *protocol_of(const struct k8s_container_port *port)
{
    return kp_streq(port->protocol, "UDP") ? "udp" : kp_streq(port->protocol, "SCTP") ? "sctp" : "tcp";
}

static void add_port(struct nft_rules *rules, const struct k8s_pod *pod, const struct k8s_container_port *port)
{
    bool anywhere = kp_empty(port->host_ip) || kp_streq(port->host_ip, "0.0.0.0") || kp_streq(port->host_ip, "::");
    if (!port->host_port || (!anywhere && !is_ipv4(port->host_ip)))
        return;
    KP_AUTO_FREE char *key = anywhere ? kp_asprintf("%s . %d", protocol_of(port), port->host_port)
                                      : kp_asprintf("%s . %s . %d", port->host_ip, protocol_of(port), port->host_port);
    KP_AUTO_FREE char *target = kp_asprintf("%s . %d", pod->status->pod_ip, port->container_port);
    KP_AUTO_FREE char *self = kp_asprintf("%s . %s", pod->status->pod_ip, pod->status->pod_ip);
    nft_rules_add_element(rules, anywhere ? "anywhere" : "at-address", key, target);
    nft_rules_add_element(rules, "hairpin", self, NULL);
}

static void add_ports(struct nft_rules *rules, const struct k8s_pod *pod, const struct k8s_container_items *containers, bool init)
{
    for (size_t i = 0; i < containers->len; i++)
        for (size_t k = 0; is_served(&containers->items[i], init) && k < containers->items[i].ports.len; k++)
            add_port(rules, pod, &containers->items[i].ports.items[k]);
}

static int by_age(const void *a, const void *b)
{
    const struct k8s_object_meta *x = (*(const struct k8s_pod *const *)a)->metadata, *y = (*(const struct k8s_pod *const *)b)->metadata;
    if (x->creation_timestamp.seconds != y->creation_timestamp.seconds)
        return x->creation_timestamp.seconds < y->creation_timestamp.seconds ? -1 : 1;
    return strcmp(x->uid ? x->uid : "", y->uid ? y->uid : "");
}

struct nft_rules *hostports_build(const struct k8s_pod *const *pods, size_t n)
{
    struct nft_rules *rules = nft_rules_new();
    const struct k8s_pod **sorted = kp_calloc(n + 1, sizeof(*sorted));
    size_t kept = 0;
    for (size_t i = 0; i < n; i++)
        if (has_host_ports(pods[i]))
            sorted[kept++] = pods[i];
    if (kept > 1)
        qsort(sorted, kept, sizeof(*sorted), by_age);
    for (size_t i = 0; i < kept; i++) {
        add_ports(rules, sorted[i], &sorted[i]->spec->containers, false);
        add_ports(rules, sorted[i], &sorted[i]->spec->init_containers, true);
    }
    free(sorted);
    return rules;
}
