/* From policies, pods and namespaces to chains. */
#include "nodeimage/network/policy/policy.h"

#include <arpa/inet.h>

#include "lib/codec/codec.h"

const char policy_base_table[] =
    "add map " POLICY_TABLE " egress { type ipv4_addr : verdict; }\n"
    "add map " POLICY_TABLE " ingress { type ipv4_addr : verdict; }\n"
    "add chain " POLICY_TABLE " forward-egress { type filter hook forward priority 0; }\n"
    "add chain " POLICY_TABLE " forward-ingress { type filter hook forward priority 1; }\n"
    "add rule " POLICY_TABLE " forward-egress ct state established,related accept\n"
    "add rule " POLICY_TABLE " forward-egress ip saddr vmap @egress\n"
    "add rule " POLICY_TABLE " forward-ingress ct state established,related accept\n"
    "add rule " POLICY_TABLE " forward-ingress ip daddr vmap @ingress\n";

enum direction { INGRESS, EGRESS };

struct covered { /* whom a policy selects, read once */
    bool valid;
    struct kp_selector pods;
};
struct build {
    const struct policy_input *input;
    struct covered *covered; /* one a policy */
    struct kp_arena *arena;
    struct nft_rules *rules;
    struct kp_strmap *namespaces; /* struct k8s_namespace by name */
};

/* ---- pods -------------------------------------------------------------------------------------------------------------------- */
static bool is_ipv4(const char *text)
{
    struct in_addr parsed;
    return text && inet_pton(AF_INET, text, &parsed) == 1;
}

/* A prefix, "10.0.0.0/8": the words of objects end up in a script. */
static bool is_prefix(const char *text)
{
    char address[INET_ADDRSTRLEN];
    int64_t bits;
    const char *slash = text ? strchr(text, '/') : NULL;
    if (!slash || (size_t)(slash - text) >= sizeof(address) || strspn(slash + 1, "0123456789") != strlen(slash + 1) || kp_parse_i64(slash + 1, &bits) < 0 ||
        bits > 32)
        return false;
    snprintf(address, sizeof(address), "%.*s", (int)(slash - text), text);
    return is_ipv4(address);
}

/* One with an address of its own that nobody else may have by now. */
static bool has_address(const struct k8s_pod *pod)
{
    return !pod->spec->host_network && is_ipv4(pod->status->pod_ip) && !kp_streq(pod->status->phase, "Succeeded") && !kp_streq(pod->status->phase, "Failed");
}

static bool is_local(const struct build *b, const struct k8s_pod *pod)
{
    return kp_streq(pod->spec->node_name, b->input->node_name);
}

/* A selector that cannot be read selects nothing. */
static bool read_selector(struct build *b, const struct k8s_label_selector *from, struct kp_selector *ret)
{
    struct kp_error ignored = {0};
    return kp_label_selector_from(from, b->arena, ret, &ignored) == 0;
}

bool policy_pod_matters(const struct k8s_pod *old, const struct k8s_pod *new)
{
    if (!old || !new)
        return has_address(old ? old : new);
    if (has_address(old) != has_address(new))
        return true;
    if (!has_address(new))
        return false;
    if (!kp_streq(old->metadata->uid, new->metadata->uid) || !kp_streq(old->status->pod_ip, new->status->pod_ip) || old->metadata->labels.len != new->metadata->labels.len)
        return true;
    for (size_t i = 0; i < new->metadata->labels.len; i++)
        if (!kp_streq(kp_string_map_get(&old->metadata->labels, new->metadata->labels.items[i].key), new->metadata->labels.items[i].value))
            return true;
    return false;
}

/* ---- peers: matches of the packet's other end ------------------------------------------------------------------------------------ */
struct texts {
    const char **items;
    size_t len;
};

struct peer { /* one that is pods; its selectors, read once */
    bool valid, of_pods, of_namespaces;
    struct kp_selector pods, namespaces;
};

static struct peer *read_peers(struct build *b, const struct k8s_network_policy_peer *peers, size_t n)
{
    struct peer *out = KP_NEW_ARRAY(b->arena, struct peer, n + 1);
    for (size_t i = 0; i < n; i++) {
        out[i] = (struct peer){.of_pods = peers[i].pod_selector != NULL, .of_namespaces = peers[i].namespace_selector != NULL};
        out[i].valid = !peers[i].ip_block && (out[i].of_pods || out[i].of_namespaces) &&
                       (!out[i].of_pods || read_selector(b, peers[i].pod_selector, &out[i].pods)) &&
                       (!out[i].of_namespaces || read_selector(b, peers[i].namespace_selector, &out[i].namespaces));
    }
    return out;
}

static bool peer_has(const struct build *b, const struct peer *peer, const char *ns, const struct k8s_pod *pod)
{
    if (!peer->valid || (peer->of_pods && !kp_selector_matches(&peer->pods, &pod->metadata->labels)))
        return false;
    if (!peer->of_namespaces)
        return kp_streq(pod->metadata->namespace, ns);
    const struct k8s_namespace *home = kp_strmap_get(b->namespaces, pod->metadata->namespace);
    return home && kp_selector_matches(&peer->namespaces, &home->metadata->labels);
}

/* One of which any part cannot be read allows nothing. */
static void add_block(struct build *b, const struct k8s_ip_block *block, const char *end, struct texts *out)
{
    KP_AUTO_BUF struct kp_buf except = {0};
    if (!is_prefix(block->cidr))
        return;
    for (size_t i = 0; i < block->except.len; i++) {
        if (!is_prefix(block->except.items[i]))
            return;
        kp_buf_printf(&except, " ip %s != %s", end, block->except.items[i]);
    }
    *KP_LIST_ADD(b->arena, out) = kp_arena_printf(b->arena, "ip %s %s%s ", end, block->cidr, except.len ? except.data : "");
}

/* Alternatives, each a match that ends with a space. No peers: one that is empty. */
static struct texts peer_matches(struct build *b, const struct k8s_network_policy_peer *peers, size_t n, const char *ns, enum direction direction)
{
    struct texts out = {0};
    const char *end = direction == INGRESS ? "saddr" : "daddr";
    KP_AUTO_BUF struct kp_buf pods = {0};
    const struct peer *read = read_peers(b, peers, n);
    if (n == 0)
        *KP_LIST_ADD(b->arena, &out) = "";
    for (size_t i = 0; i < n; i++)
        if (peers[i].ip_block)
            add_block(b, peers[i].ip_block, end, &out);
    for (size_t p = 0; n > 0 && p < b->input->n_pods; p++) {
        const struct k8s_pod *pod = b->input->pods[p];
        bool is_peer = false;
        for (size_t i = 0; has_address(pod) && i < n && !is_peer; i++)
            is_peer = peer_has(b, &read[i], ns, pod);
        if (is_peer)
            kp_buf_printf(&pods, "%s%s", pods.len ? ", " : "", pod->status->pod_ip);
    }
    if (pods.len)
        *KP_LIST_ADD(b->arena, &out) = kp_arena_printf(b->arena, "ip %s { %s } ", end, pods.data);
    return out;
}

/* ---- ports: matches of the destination's -------------------------------------------------------------------------------------------- */
static const char *protocol_of(const char *name)
{
    return kp_streq(name, "UDP") ? "udp" : kp_streq(name, "SCTP") ? "sctp" : kp_streq(name, "TCP") || kp_empty(name) ? "tcp" : NULL;
}

/* "10.0.0.1 . 8080" of each container port of that name. */
static void add_named(const struct k8s_pod *pod, const struct k8s_container_items *containers, bool init, const char *name, const char *protocol,
                      struct kp_buf *out)
{
    for (size_t c = 0; c < containers->len; c++)
        for (size_t i = 0; (!init || kp_streq(containers->items[c].restart_policy, "Always")) && i < containers->items[c].ports.len; i++) {
            const struct k8s_container_port *port = &containers->items[c].ports.items[i];
            if (kp_streq(port->name, name) && kp_streq(protocol_of(port->protocol), protocol))
                kp_buf_printf(out, "%s%s . %d", out->len ? ", " : "", pod->status->pod_ip, port->container_port);
        }
}

/* A port by its name is another number for each pod: of the policy's own pods here, or of whatever pod is the destination. */
static const char *named_match(struct build *b, const char *name, const char *protocol, const struct k8s_network_policy *policy, enum direction direction)
{
    KP_AUTO_BUF struct kp_buf elements = {0};
    struct kp_selector selector;
    bool covers = direction == EGRESS || read_selector(b, policy->spec->pod_selector, &selector);
    for (size_t p = 0; covers && p < b->input->n_pods; p++) {
        const struct k8s_pod *pod = b->input->pods[p];
        bool wanted = direction == EGRESS || (is_local(b, pod) && kp_streq(pod->metadata->namespace, policy->metadata->namespace) &&
                                              kp_selector_matches(&selector, &pod->metadata->labels));
        if (!wanted || !has_address(pod))
            continue;
        add_named(pod, &pod->spec->containers, false, name, protocol, &elements);
        add_named(pod, &pod->spec->init_containers, true, name, protocol, &elements);
    }
    return elements.len ? kp_arena_printf(b->arena, "ip daddr . %s dport { %s } ", protocol, elements.data) : NULL;
}

/* What the API server lets in; an object from before it looked must not make the whole table be refused. */
static bool is_sensible(const struct k8s_network_policy_port *port)
{
    if (port->port.kind != KP_IOS_INT)
        return !port->has_end_port;
    return port->port.i >= 1 && port->port.i <= 65535 && (!port->has_end_port || (port->end_port >= port->port.i && port->end_port <= 65535));
}

static struct texts port_matches(struct build *b, const struct k8s_network_policy_port_items *ports, const struct k8s_network_policy *policy,
                                 enum direction direction)
{
    struct texts out = {0};
    if (ports->len == 0)
        *KP_LIST_ADD(b->arena, &out) = "";
    for (size_t i = 0; i < ports->len; i++) {
        const struct k8s_network_policy_port *port = &ports->items[i];
        const char *protocol = protocol_of(port->protocol), *match = NULL;
        if (!protocol || !is_sensible(port))
            continue;
        if (port->port.kind == KP_IOS_ABSENT)
            match = kp_arena_printf(b->arena, "meta l4proto %s ", protocol);
        else if (port->port.kind == KP_IOS_STRING)
            match = named_match(b, port->port.s, protocol, policy, direction);
        else if (port->has_end_port)
            match = kp_arena_printf(b->arena, "%s dport %d-%d ", protocol, (int)port->port.i, (int)port->end_port);
        else
            match = kp_arena_printf(b->arena, "%s dport %d ", protocol, (int)port->port.i);
        if (match)
            *KP_LIST_ADD(b->arena, &out) = match;
    }
    return out;
}

/* ---- chains ------------------------------------------------------------------------------------------------------------------------------ */
static void add_rule(struct kp_buf *body, const struct texts *peers, const struct texts *ports)
{
    for (size_t i = 0; i < peers->len; i++)
        for (size_t k = 0; k < ports->len; k++)
            kp_buf_printf(body, "%s%saccept\n", peers->items[i], ports->items[k]);
}

/* Names of nft have at most 127 bytes: a hash makes them unique, the rest is for people. */
static const char *chain_name(struct build *b, const char *kind, const struct k8s_object_meta *meta)
{
    const char *full = kp_arena_printf(b->arena, "%s/%s", meta->namespace, meta->name);
    return kp_arena_printf(b->arena, "%s-%08x-%.40s/%.40s", kind, (unsigned)(kp_hash64(full, strlen(full)) >> 32), meta->namespace, meta->name);
}

/* Made when the first pod here needs it. */
static const char *policy_chain(struct build *b, const struct k8s_network_policy *policy, enum direction direction)
{
    const char *ns = policy->metadata->namespace, *name = chain_name(b, direction == INGRESS ? "policy-in" : "policy-out", policy->metadata);
    KP_AUTO_BUF struct kp_buf body = {0};
    if (nft_rules_has_chain(b->rules, name))
        return name;
    for (size_t i = 0; direction == INGRESS && i < policy->spec->ingress.len; i++) {
        const struct k8s_network_policy_ingress_rule *rule = &policy->spec->ingress.items[i];
        struct texts peers = peer_matches(b, rule->from.items, rule->from.len, ns, direction), ports = port_matches(b, &rule->ports, policy, direction);
        add_rule(&body, &peers, &ports);
    }
    for (size_t i = 0; direction == EGRESS && i < policy->spec->egress.len; i++) {
        const struct k8s_network_policy_egress_rule *rule = &policy->spec->egress.items[i];
        struct texts peers = peer_matches(b, rule->to.items, rule->to.len, ns, direction), ports = port_matches(b, &rule->ports, policy, direction);
        add_rule(&body, &peers, &ports);
    }
    nft_rules_add_chain(b->rules, name, body.len ? body.data : "");
    return name;
}

/* The API server fills policyTypes in; one without them is as its defaults say. */
static bool has_direction(const struct k8s_network_policy_spec *spec, enum direction direction)
{
    if (spec->policy_types.len == 0)
        return direction == INGRESS || spec->egress.len > 0;
    return kp_string_list_has(&spec->policy_types, direction == INGRESS ? "Ingress" : "Egress");
}

static void isolate(struct build *b, const struct k8s_pod *pod, enum direction direction)
{
    KP_AUTO_BUF struct kp_buf body = {0};
    const char *ip = pod->status->pod_ip;
    for (size_t i = 0; i < b->input->n_policies; i++) {
        const struct k8s_network_policy *policy = b->input->policies[i];
        if (kp_streq(policy->metadata->namespace, pod->metadata->namespace) && has_direction(policy->spec, direction) && b->covered[i].valid &&
            kp_selector_matches(&b->covered[i].pods, &pod->metadata->labels))
            kp_buf_printf(&body, "jump %s\n", policy_chain(b, policy, direction));
    }
    if (!body.len)
        return;
    kp_buf_puts(&body, "counter drop\n");
    const char *name = chain_name(b, direction == INGRESS ? "pod-in" : "pod-out", pod->metadata);
    nft_rules_add_chain(b->rules, name, kp_arena_printf(b->arena, "ip %s %s accept\n%s", direction == INGRESS ? "saddr" : "daddr", ip, body.data));
    nft_rules_add_element(b->rules, direction == INGRESS ? "ingress" : "egress", ip, kp_arena_printf(b->arena, "goto %s", name));
}

struct nft_rules *policy_rules_build(const struct policy_input *input)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new((size_t)1 << 30);
    struct build b = {.input = input, .arena = arena, .rules = nft_rules_new(), .namespaces = kp_strmap_new()};
    for (size_t i = 0; i < input->n_namespaces; i++)
        kp_strmap_put(b.namespaces, input->namespaces[i]->metadata->name, (void *)input->namespaces[i]);
    b.covered = KP_NEW_ARRAY(arena, struct covered, input->n_policies + 1);
    for (size_t i = 0; i < input->n_policies; i++)
        b.covered[i].valid = read_selector(&b, input->policies[i]->spec->pod_selector, &b.covered[i].pods);
    for (size_t i = 0; i < input->n_pods; i++) {
        if (!is_local(&b, input->pods[i]) || !has_address(input->pods[i]))
            continue;
        isolate(&b, input->pods[i], INGRESS);
        isolate(&b, input->pods[i], EGRESS);
    }
    kp_strmap_free(b.namespaces, NULL);
    return b.rules;
}
