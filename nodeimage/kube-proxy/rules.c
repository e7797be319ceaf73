/* Builds the rule set from Services and EndpointSlices. */
#include "nodeimage/kube-proxy/rules_internal.h"

#include <arpa/inet.h>

#define MASQUERADE "meta mark set meta mark or 0x4000\n"
#define ENDPOINTS_MAX 5000 /* of one service port */

struct endpoint {
    const char *address;
    int32_t port;
    bool local;
};

struct endpoints {
    struct endpoint *items;
    size_t len;
};

struct build {
    const struct proxy_input *input;
    struct kp_arena *arena;
    struct proxy_rules *rules;
    struct kp_strmap *slices; /* "ns/service" -> struct slices */
};

struct slices {
    const struct k8s_endpoint_slice **items;
    size_t len;
};

static struct kp_strmap *index_slices(const struct proxy_input *input, struct kp_arena *arena)
{
    struct kp_strmap *map = kp_strmap_new();
    for (size_t i = 0; i < input->n_slices; i++) {
        const struct k8s_endpoint_slice *slice = input->slices[i];
        const char *service = kp_string_map_get(&slice->metadata->labels, "kubernetes.io/service-name");
        if (!service || !kp_streq(slice->address_type, "IPv4"))
            continue;
        const char *key = kp_arena_printf(arena, "%s/%s", slice->metadata->namespace, service);
        struct slices *list = kp_strmap_get(map, key);
        if (!list) {
            list = KP_NEW(arena, struct slices);
            kp_strmap_put(map, key, list);
        }
        *KP_LIST_ADD(arena, list) = slice;
    }
    return map;
}

static bool is_ready(const struct k8s_endpoint *endpoint)
{
    return !endpoint->conditions->has_ready || endpoint->conditions->ready;
}

static bool serves_while_terminating(const struct k8s_endpoint *endpoint)
{
    return endpoint->conditions->has_serving && endpoint->conditions->serving && endpoint->conditions->has_terminating && endpoint->conditions->terminating;
}

/* Ready endpoints of a port; when there is none at all, those that still serve while they terminate (KEP-1669). */
static struct endpoints collect(struct build *b, const struct slices *slices, const struct k8s_service_port *port, bool local_only)
{
    struct endpoints ready = {0}, terminating = {0};
    for (size_t s = 0; slices && s < slices->len; s++) {
        const struct k8s_endpoint_slice *slice = slices->items[s];
        int32_t number = 0;
        for (size_t p = 0; p < slice->ports.len; p++)
            if (kp_streq(slice->ports.items[p].name ? slice->ports.items[p].name : "", port->name ? port->name : "") &&
                kp_streq(slice->ports.items[p].protocol ? slice->ports.items[p].protocol : "TCP", port->protocol ? port->protocol : "TCP"))
                number = slice->ports.items[p].port;
        for (size_t e = 0; number && e < slice->endpoints.len; e++) {
            const struct k8s_endpoint *endpoint = &slice->endpoints.items[e];
            struct endpoint out = {.port = number, .local = kp_streq(endpoint->node_name, b->input->node_name)};
            struct endpoints *list = is_ready(endpoint) ? &ready : serves_while_terminating(endpoint) ? &terminating : NULL;
            if (!list || endpoint->addresses.len == 0 || list->len >= ENDPOINTS_MAX || (local_only && !out.local))
                continue;
            out.address = endpoint->addresses.items[0];
            *KP_LIST_ADD(b->arena, list) = out;
        }
    }
    return ready.len ? ready : terminating;
}

static const char *chain_name(struct build *b, const char *kind, const struct k8s_service *service, const struct k8s_service_port *port)
{
    /* nft names are at most 127 bytes of letters, digits, '/', '-', '_' and '.': a hash makes them unique, the rest is for
       people. API names hold nothing else. */
    const char *full = kp_arena_printf(b->arena, "%s/%s/%s/%s", service->metadata->namespace, service->metadata->name,
                                       port->protocol ? port->protocol : "TCP", port->name ? port->name : "");
    return kp_arena_printf(b->arena, "%s-%08x-%.40s/%.40s", kind, (unsigned)(kp_hash64(full, strlen(full)) >> 32), service->metadata->namespace,
                           service->metadata->name);
}

static const char *protocol_of(const struct k8s_service_port *port)
{
    return kp_streq(port->protocol, "UDP") ? "udp" : kp_streq(port->protocol, "SCTP") ? "sctp" : "tcp";
}

/* One dnat over all endpoints: at random, or by the client's address when the Service wants affinity. */
static void append_dnat(struct build *b, struct kp_buf *body, const struct k8s_service *service, const struct endpoints *endpoints)
{
    bool sticky = kp_streq(service->spec->session_affinity, "ClientIP");
    if (endpoints->len == 1) {
        kp_buf_printf(body, "meta l4proto { tcp, udp, sctp } dnat ip to %s:%d\n", endpoints->items[0].address, endpoints->items[0].port);
        return;
    }
    kp_buf_printf(body, "meta l4proto { tcp, udp, sctp } dnat ip to %s mod %zu map { ", sticky ? "jhash ip saddr" : "numgen random", endpoints->len);
    for (size_t i = 0; i < endpoints->len; i++)
        kp_buf_printf(body, "%s%zu : %s . %d", i ? ", " : "", i, endpoints->items[i].address, endpoints->items[i].port);
    kp_buf_puts(body, " }\n");
}

static void add_hairpins(struct build *b, const struct endpoints *endpoints)
{
    for (size_t i = 0; i < endpoints->len; i++)
        if (endpoints->items[i].local)
            nft_rules_add_element(b->rules->nft, "hairpin", kp_arena_printf(b->arena, "%s . %s", endpoints->items[i].address, endpoints->items[i].address), NULL);
}

/* An IPv4 address, or with bits a prefix: the words of objects end up in a script. */
static bool is_ipv4(const char *text, bool bits)
{
    char address[INET_ADDRSTRLEN + 1];
    struct in_addr parsed;
    int64_t count = 0;
    const char *slash = bits ? strchr(text, '/') : NULL;
    size_t len = slash ? (size_t)(slash - text) : strlen(text);
    if (len >= sizeof(address) || (bits && (!slash || kp_parse_i64(slash + 1, &count) < 0 || count < 0 || count > 32)))
        return false;
    snprintf(address, sizeof(address), "%.*s", (int)len, text);
    return inet_pton(AF_INET, address, &parsed) == 1;
}

static void add_address(struct build *b, const char *address, const struct k8s_service_port *port, const char *chain, bool rejected)
{
    if (!is_ipv4(address, false))
        return;
    const char *key = kp_arena_printf(b->arena, "%s . %s . %d", address, protocol_of(port), port->port);
    if (rejected)
        nft_rules_add_element(b->rules->nft, "no-endpoints", key, NULL);
    else
        nft_rules_add_element(b->rules->nft, "service-ips", key, kp_arena_printf(b->arena, "goto %s", chain));
}

/* The chain for what comes from outside: node ports, external addresses, load balancers. */
static const char *external_chain(struct build *b, const struct k8s_service *service, const struct k8s_service_port *port, const struct slices *slices)
{
    bool local = kp_streq(service->spec->external_traffic_policy, "Local");
    const struct endpoints endpoints = collect(b, slices, port, local);
    const char *chain = chain_name(b, "ext", service, port);
    KP_AUTO_BUF struct kp_buf body = {0};
    if (!local)
        kp_buf_puts(&body, MASQUERADE); /* answers must come back through this node; Local keeps the client's address instead */
    else if (b->input->cluster_cidr) {
        /* Pods and this node itself are inside: for them any endpoint is right. */
        const struct endpoints all = collect(b, slices, port, false);
        if (all.len) {
            kp_buf_printf(&body, "ip saddr %s goto %s\n", b->input->cluster_cidr, chain_name(b, "svc", service, port));
            kp_buf_printf(&body, "fib saddr type local " MASQUERADE "fib saddr type local goto %s\n", chain_name(b, "svc", service, port));
        }
    }
    if (endpoints.len)
        append_dnat(b, &body, service, &endpoints);
    else
        kp_buf_puts(&body, "drop\n"); /* Local without a local endpoint */
    nft_rules_add_chain(b->rules->nft, chain, body.data);
    return chain;
}

/* The chain before that of a load balancer's address: only the Service's source ranges pass. */
static const char *guarded_chain(struct build *b, const struct k8s_service *service, const struct k8s_service_port *port, const char *outside)
{
    const struct kp_string_list *ranges = &service->spec->load_balancer_source_ranges;
    if (!outside || ranges->len == 0)
        return outside;
    const char *chain = chain_name(b, "fw", service, port);
    KP_AUTO_BUF struct kp_buf body = {0};
    for (size_t i = 0; i < ranges->len; i++) {
        if (!is_ipv4(ranges->items[i], true))
            continue; /* IPv6 */
        if (kp_ends_with(ranges->items[i], "/0"))
            kp_buf_printf(&body, "goto %s\n", outside);
        else
            kp_buf_printf(&body, "ip saddr %s goto %s\n", ranges->items[i], outside);
    }
    kp_buf_puts(&body, "drop\n");
    nft_rules_add_chain(b->rules->nft, chain, body.data);
    return chain;
}

static void add_port(struct build *b, const struct k8s_service *service, const struct k8s_service_port *port, const struct slices *slices)
{
    const struct k8s_service_spec *spec = service->spec;
    const struct endpoints all = collect(b, slices, port, false);
    const struct endpoints inside = kp_streq(spec->internal_traffic_policy, "Local") ? collect(b, slices, port, true) : all;
    const char *chain = chain_name(b, "svc", service, port), *outside = NULL;
    b->rules->n_services++;
    if (all.len) {
        KP_AUTO_BUF struct kp_buf body = {0};
        if (b->input->cluster_cidr)
            kp_buf_printf(&body, "ip daddr %s ip saddr != %s " MASQUERADE, spec->cluster_ip, b->input->cluster_cidr);
        if (inside.len)
            append_dnat(b, &body, service, &inside);
        else
            kp_buf_puts(&body, "drop\n");
        nft_rules_add_chain(b->rules->nft, chain, body.data);
        add_hairpins(b, &all);
    }
    add_address(b, spec->cluster_ip, port, chain, all.len == 0);
    bool external = port->node_port > 0 || spec->external_ips.len || service->status->load_balancer->ingress.len;
    if (external && all.len)
        outside = external_chain(b, service, port, slices);
    for (size_t i = 0; i < spec->external_ips.len; i++)
        add_address(b, spec->external_ips.items[i], port, outside, all.len == 0);
    for (size_t i = 0; i < service->status->load_balancer->ingress.len; i++) {
        const struct k8s_load_balancer_ingress *ingress = &service->status->load_balancer->ingress.items[i];
        if (!kp_empty(ingress->ip) && !kp_streq(ingress->ip_mode, "Proxy"))
            add_address(b, ingress->ip, port, guarded_chain(b, service, port, outside), all.len == 0);
    }
    if (port->node_port > 0) {
        const char *key = kp_arena_printf(b->arena, "%s . %d", protocol_of(port), port->node_port);
        if (all.len)
            nft_rules_add_element(b->rules->nft, "service-nodeports", key, kp_arena_printf(b->arena, "goto %s", outside));
        else
            nft_rules_add_element(b->rules->nft, "no-endpoints-nodeports", key, NULL);
    }
}

struct proxy_rules *proxy_rules_build(const struct proxy_input *input)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    struct build b = {.input = input, .arena = arena, .rules = proxy_rules_new(), .slices = index_slices(input, arena)};
    for (size_t i = 0; i < input->n_services; i++) {
        const struct k8s_service *service = input->services[i];
        const struct k8s_service_spec *spec = service->spec;
        if (kp_streq(spec->type, "ExternalName") || kp_empty(spec->cluster_ip) || kp_streq(spec->cluster_ip, "None") || strchr(spec->cluster_ip, ':') ||
            kp_string_map_get(&service->metadata->labels, "service.kubernetes.io/service-proxy-name"))
            continue;
        const struct slices *slices = kp_strmap_get(b.slices, kp_arena_printf(arena, "%s/%s", service->metadata->namespace, service->metadata->name));
        for (size_t p = 0; p < spec->ports.len; p++)
            add_port(&b, service, &spec->ports.items[p], slices);
    }
    kp_strmap_free(b.slices, NULL);
    return b.rules;
}
