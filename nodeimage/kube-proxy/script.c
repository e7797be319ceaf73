/* What the table has besides Services, and the rule set as a script. */
#include "nodeimage/kube-proxy/rules_internal.h"

#define TABLE "ip kube-proxy"

static const char base_table[] =
    "add map " TABLE " service-ips { type ipv4_addr . inet_proto . inet_service : verdict; }\n"
    "add map " TABLE " service-nodeports { type inet_proto . inet_service : verdict; }\n"
    "add set " TABLE " no-endpoints { type ipv4_addr . inet_proto . inet_service; }\n"
    "add set " TABLE " no-endpoints-nodeports { type inet_proto . inet_service; }\n"
    "add set " TABLE " hairpin { type ipv4_addr . ipv4_addr; }\n"
    "add chain " TABLE " services\n"
    "add chain " TABLE " reject-no-endpoints\n"
    "add chain " TABLE " nat-prerouting { type nat hook prerouting priority dstnat; }\n"
    "add chain " TABLE " nat-output { type nat hook output priority -100; }\n"
    "add chain " TABLE " nat-postrouting { type nat hook postrouting priority srcnat; }\n"
    "add chain " TABLE " filter-prerouting { type filter hook prerouting priority -110; }\n"
    "add chain " TABLE " filter-output { type filter hook output priority -110; }\n"
    "add rule " TABLE " services ip daddr . meta l4proto . th dport vmap @service-ips\n"
    "add rule " TABLE " services fib daddr type local ip daddr != 127.0.0.0/8 meta l4proto . th dport vmap @service-nodeports\n"
    "add rule " TABLE " nat-prerouting jump services\n"
    "add rule " TABLE " nat-output jump services\n"
    "add rule " TABLE " nat-postrouting meta mark & 0x4000 == 0x4000 meta mark set meta mark & 0xffffbfff masquerade fully-random\n"
    "add rule " TABLE " nat-postrouting ip saddr . ip daddr @hairpin masquerade fully-random\n"
    "add rule " TABLE " reject-no-endpoints ip daddr . meta l4proto . th dport @no-endpoints reject\n"
    "add rule " TABLE " reject-no-endpoints fib daddr type local ip daddr != 127.0.0.0/8 meta l4proto . th dport @no-endpoints-nodeports reject\n"
    "add rule " TABLE " filter-prerouting ct state new jump reject-no-endpoints\n"
    "add rule " TABLE " filter-output ct state new jump reject-no-endpoints\n";

struct proxy_rules *proxy_rules_new(void)
{
    struct proxy_rules *rules = kp_calloc(1, sizeof(*rules));
    rules->nft = nft_rules_new();
    return rules;
}

void proxy_rules_free(struct proxy_rules *rules)
{
    if (!rules)
        return;
    nft_rules_free(rules->nft);
    free(rules);
}

size_t proxy_rules_services(const struct proxy_rules *rules)
{
    return rules->n_services;
}

void proxy_rules_script(const struct proxy_rules *old, const struct proxy_rules *new, struct kp_buf *out)
{
    nft_rules_script(TABLE, base_table, old ? old->nft : NULL, new->nft, out);
}
