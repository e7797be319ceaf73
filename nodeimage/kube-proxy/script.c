/* Rule sets as nft scripts: the whole table, or the difference of two. */
#include "nodeimage/kube-proxy/rules_internal.h"

#define TABLE "ip kube-proxy"

static const char base_table[] =
    "add table " TABLE "\n"
    "delete table " TABLE "\n"
    "add table " TABLE "\n"
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
    rules->chains = kp_strmap_new();
    rules->elements = kp_strmap_new();
    return rules;
}

void proxy_rules_free(struct proxy_rules *rules)
{
    if (!rules)
        return;
    kp_strmap_free(rules->chains, free);
    kp_strmap_free(rules->elements, free);
    free(rules);
}

void proxy_rules_add_chain(struct proxy_rules *rules, const char *name, const char *body)
{
    free(kp_strmap_put(rules->chains, name, kp_strdup(body)));
}

void proxy_rules_add_element(struct proxy_rules *rules, const char *map, const char *key, const char *verdict)
{
    KP_AUTO_FREE char *full = kp_asprintf("%s|%s", map, key);
    if (!kp_strmap_get(rules->elements, full))
        kp_strmap_put(rules->elements, full, kp_strdup(verdict ? verdict : ""));
}

size_t proxy_rules_services(const struct proxy_rules *rules)
{
    return rules->n_services;
}

static void add_rules(struct kp_buf *out, const char *chain, const char *body)
{
    for (const char *line = body; *line;) {
        size_t len = strcspn(line, "\n");
        kp_buf_printf(out, "add rule " TABLE " %s %.*s\n", chain, (int)len, line);
        line += len + (line[len] == '\n');
    }
}

static void element(struct kp_buf *out, const char *verb, const char *full, const char *verdict)
{
    const char *bar = strchr(full, '|');
    kp_buf_printf(out, "%s element " TABLE " %.*s { %s", verb, (int)(bar - full), full, bar + 1);
    if (!kp_empty(verdict))
        kp_buf_printf(out, " : %s", verdict);
    kp_buf_puts(out, " }\n");
}

/* Order matters: chains first, so that verdicts find them; elements that go, then those that come (a changed one is both);
   chains that nobody names any more last. */
void proxy_rules_script(const struct proxy_rules *old, const struct proxy_rules *new, struct kp_buf *out)
{
    size_t iter;
    const char *key;
    void *value;
    if (!old)
        kp_buf_puts(out, base_table);
    for (iter = 0; kp_strmap_next(new->chains, &iter, &key, &value);)
        if (!old || !kp_strmap_get(old->chains, key))
            kp_buf_printf(out, "add chain " TABLE " %s\n", key);
    for (iter = 0; kp_strmap_next(new->chains, &iter, &key, &value);) {
        const char *before = old ? kp_strmap_get(old->chains, key) : NULL;
        if (before && strcmp(before, value) == 0)
            continue;
        if (before)
            kp_buf_printf(out, "flush chain " TABLE " %s\n", key);
        add_rules(out, key, value);
    }
    for (iter = 0; old && kp_strmap_next(old->elements, &iter, &key, &value);) {
        const char *now = kp_strmap_get(new->elements, key);
        if (!now || strcmp(now, value) != 0)
            element(out, "delete", key, value);
    }
    for (iter = 0; kp_strmap_next(new->elements, &iter, &key, &value);) {
        const char *before = old ? kp_strmap_get(old->elements, key) : NULL;
        if (!before || strcmp(before, value) != 0)
            element(out, "add", key, value);
    }
    for (iter = 0; old && kp_strmap_next(old->chains, &iter, &key, &value);)
        if (!kp_strmap_get(new->chains, key))
            kp_buf_printf(out, "flush chain " TABLE " %s\n", key);
    for (iter = 0; old && kp_strmap_next(old->chains, &iter, &key, &value);)
        if (!kp_strmap_get(new->chains, key))
            kp_buf_printf(out, "delete chain " TABLE " %s\n", key);
}
