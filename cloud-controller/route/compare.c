/* Routes that there are beside routes that there should be. */
#include "cloud-controller/route/route.h"

#include <arpa/inet.h>

static bool parse_cidr(const char *text, uint32_t *ret_base, int64_t *ret_bits)
{
    char address[INET_ADDRSTRLEN];
    struct in_addr parsed;
    const char *slash = text ? strchr(text, '/') : NULL;
    size_t len = slash ? (size_t)(slash - text) : sizeof(address);
    if (len >= sizeof(address))
        return false;
    memcpy(address, text, len);
    address[len] = '\0';
    if (inet_pton(AF_INET, address, &parsed) != 1 || kp_parse_i64(slash + 1, ret_bits) < 0 || *ret_bits < 0 || *ret_bits > 32)
        return false;
    uint32_t mask = *ret_bits == 0 ? 0 : UINT32_MAX << (32 - *ret_bits);
    *ret_base = ntohl(parsed.s_addr) & mask;
    return true;
}

bool route_contains(const char *outer, const char *inner)
{
    uint32_t outer_base, inner_base;
    int64_t outer_bits, inner_bits;
    if (!parse_cidr(outer, &outer_base, &outer_bits) || !parse_cidr(inner, &inner_base, &inner_bits) || inner_bits < outer_bits)
        return false;
    uint32_t mask = outer_bits == 0 ? 0 : UINT32_MAX << (32 - outer_bits);
    return (inner_base & mask) == outer_base;
}

size_t route_cidrs_of(const struct k8s_node *node, const char *ret[ROUTE_CIDRS_MAX])
{
    size_t n = 0;
    for (size_t i = 0; i < node->spec->pod_cidrs.len && n < ROUTE_CIDRS_MAX; i++)
        if (!strchr(node->spec->pod_cidrs.items[i], ':'))
            ret[n++] = node->spec->pod_cidrs.items[i];
    if (n == 0 && !kp_empty(node->spec->pod_cidr) && !strchr(node->spec->pod_cidr, ':'))
        ret[n++] = node->spec->pod_cidr;
    return n;
}

static bool has_route(const struct cloud_route_list *routes, const char *destination, const char *machine)
{
    for (size_t i = 0; i < routes->len; i++)
        if (kp_streq(routes->items[i].destination, destination) && kp_streq(routes->items[i].machine, machine))
            return true;
    return false;
}

static bool is_wanted(const struct k8s_node *const *nodes, size_t n_nodes, const char *destination)
{
    for (size_t i = 0; i < n_nodes; i++) {
        const char *cidrs[ROUTE_CIDRS_MAX];
        size_t n = route_cidrs_of(nodes[i], cidrs);
        for (size_t c = 0; c < n; c++)
            if (kp_streq(cidrs[c], destination))
                return true;
    }
    return false;
}

void route_compare(const struct k8s_node *const *nodes, size_t n_nodes, const struct cloud_route_list *routes, const char *cluster_cidr,
                   struct kp_arena *arena, struct route_plan *ret)
{
    *ret = (struct route_plan){
        .wanted = KP_NEW_ARRAY(arena, struct cloud_route, n_nodes * ROUTE_CIDRS_MAX + 1), .stale = KP_NEW_ARRAY(arena, struct cloud_route, routes->len + 1),
    };
    for (size_t i = 0; i < n_nodes; i++) {
        const char *cidrs[ROUTE_CIDRS_MAX];
        size_t n = route_cidrs_of(nodes[i], cidrs);
        for (size_t c = 0; c < n; c++)
            if (route_contains(cluster_cidr, cidrs[c]) && !has_route(routes, cidrs[c], nodes[i]->metadata->name))
                ret->wanted[ret->n_wanted++] = (struct cloud_route){.destination = cidrs[c], .machine = nodes[i]->metadata->name};
    }
    for (size_t i = 0; i < routes->len; i++)
        if (route_contains(cluster_cidr, routes->items[i].destination) && !is_wanted(nodes, n_nodes, routes->items[i].destination))
            ret->stale[ret->n_stale++] = routes->items[i];
}

const char *route_condition_patch(const struct k8s_node *node, bool routed, int64_t now_s, struct kp_arena *arena)
{
    const struct k8s_node_condition *condition = ccm_condition(node, "NetworkUnavailable");
    const char *status = routed ? "False" : "True";
    char now[KP_RFC3339_MAX];
    if (condition && kp_streq(condition->status, status))
        return NULL;
    kp_format_rfc3339(now, now_s, 0, false);
    return kp_arena_printf(arena,
                           "{\"status\":{\"conditions\":[{\"type\":\"NetworkUnavailable\",\"status\":\"%s\",\"reason\":\"%s\",\"message\":\"%s\","
                           "\"lastHeartbeatTime\":\"%s\",\"lastTransitionTime\":\"%s\"}]}}",
                           status, routed ? "RouteCreated" : "NoRouteCreated",
                           routed ? "RouteController created a route" : "RouteController failed to create a route", now, now);
}
