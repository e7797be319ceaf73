/* NetworkPolicies: defaults and validation (upstream's pkg/apis/networking/validation). */
#include "controlplane/apiserver/registry/strategy_internal.h"

#include <arpa/inet.h>

void network_policy_defaults(struct registry_request *rq, void *obj)
{
    struct k8s_network_policy_spec *spec = ((struct k8s_network_policy *)obj)->spec;
    if (!spec || spec->policy_types.len)
        return;
    kp_string_list_add(rq->arena, &spec->policy_types, "Ingress");
    if (spec->egress.len)
        kp_string_list_add(rq->arena, &spec->policy_types, "Egress");
}

/* ---- addresses ---------------------------------------------------------------------------------------------------------------- */
struct prefix {
    int bytes; /* 4 or 16 */
    int bits;
    uint8_t address[16];
};

static bool read_prefix(const char *text, struct prefix *ret)
{
    char address[INET6_ADDRSTRLEN];
    const char *slash = text ? strchr(text, '/') : NULL;
    int64_t bits;
    if (!slash || (size_t)(slash - text) >= sizeof(address) || !slash[1] || strspn(slash + 1, "0123456789") != strlen(slash + 1) ||
        kp_parse_i64(slash + 1, &bits) < 0)
        return false;
    snprintf(address, sizeof(address), "%.*s", (int)(slash - text), text);
    memset(ret, 0, sizeof(*ret));
    ret->bytes = inet_pton(AF_INET, address, ret->address) == 1 ? 4 : inet_pton(AF_INET6, address, ret->address) == 1 ? 16 : 0;
    ret->bits = (int)KP_MIN(bits, 1000);
    return ret->bytes && ret->bits <= ret->bytes * 8;
}

static bool is_strictly_inside(const struct prefix *inner, const struct prefix *outer)
{
    if (inner->bytes != outer->bytes || inner->bits <= outer->bits)
        return false;
    for (int bit = 0; bit < outer->bits; bit++)
        if (((inner->address[bit / 8] ^ outer->address[bit / 8]) >> (7 - bit % 8)) & 1)
            return false;
    return true;
}

static void validate_block(const struct k8s_ip_block *block, struct field_errors *errors, const char *path)
{
    static const char malformed[] = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";
    struct prefix outer, inner;
    if (kp_empty(block->cidr)) {
        field_required(errors, "", "%s.cidr", path);
        return;
    }
    if (!read_prefix(block->cidr, &outer)) {
        field_invalid(errors, block->cidr, malformed, "%s.cidr", path);
        return;
    }
    for (size_t i = 0; i < block->except.len; i++) {
        if (!read_prefix(block->except.items[i], &inner))
            field_invalid(errors, block->except.items[i], malformed, "%s.except[%zu]", path, i);
        else if (!is_strictly_inside(&inner, &outer))
            field_invalid(errors, block->except.items[i], "must be a strict subset of `cidr`", "%s.except[%zu]", path, i);
    }
}

/* ---- rules ---------------------------------------------------------------------------------------------------------------------- */
static void validate_peer(const struct k8s_network_policy_peer *peer, struct field_errors *errors, const char *path)
{
    if (peer->pod_selector)
        validate_label_selector(peer->pod_selector, errors, kp_arena_printf(errors->arena, "%s.podSelector", path));
    if (peer->namespace_selector)
        validate_label_selector(peer->namespace_selector, errors, kp_arena_printf(errors->arena, "%s.namespaceSelector", path));
    if (peer->ip_block)
        validate_block(peer->ip_block, errors, kp_arena_printf(errors->arena, "%s.ipBlock", path));
    if (!peer->pod_selector && !peer->namespace_selector && !peer->ip_block)
        field_required(errors, "must specify a peer", "%s", path);
    else if (peer->ip_block && (peer->pod_selector || peer->namespace_selector))
        field_forbidden(errors, "may not specify both ipBlock and another peer", "%s", path);
}

static void validate_number(int32_t port, struct field_errors *errors, const char *path)
{
    if (port < 1 || port > 65535)
        field_invalid_int(errors, port, "must be between 1 and 65535, inclusive", "%s", path);
}

static void validate_port(const struct k8s_network_policy_port *port, struct field_errors *errors, const char *path)
{
    const char *at = kp_arena_printf(errors->arena, "%s.port", path), *end = kp_arena_printf(errors->arena, "%s.endPort", path);
    const char *fault = port->port.kind == KP_IOS_STRING ? port_name_check(port->port.s) : NULL;
    if (port->port.kind == KP_IOS_INT)
        validate_number(port->port.i, errors, at);
    if (fault)
        field_invalid(errors, port->port.s, fault, "%s", at);
    if (!port->has_end_port)
        return;
    if (port->port.kind == KP_IOS_ABSENT)
        field_invalid_int(errors, port->end_port, "may not be specified when `port` is not specified", "%s", end);
    else if (port->port.kind == KP_IOS_STRING)
        field_invalid_int(errors, port->end_port, "may not be specified when `port` is non-numeric", "%s", end);
    else if (port->end_port < port->port.i)
        field_invalid_int(errors, port->end_port, "must be greater than or equal to `port`", "%s", end);
    else
        validate_number(port->end_port, errors, end);
}

static void validate_rule(const struct k8s_network_policy_peer *peers, size_t n_peers, const char *name, const struct k8s_network_policy_port_items *ports,
                          struct field_errors *errors, const char *path)
{
    for (size_t i = 0; i < ports->len; i++)
        validate_port(&ports->items[i], errors, kp_arena_printf(errors->arena, "%s.ports[%zu]", path, i));
    for (size_t i = 0; i < n_peers; i++)
        validate_peer(&peers[i], errors, kp_arena_printf(errors->arena, "%s.%s[%zu]", path, name, i));
}

void network_policy_validate(struct registry_request *rq, const void *obj, struct field_errors *errors)
{
    const struct k8s_network_policy_spec *spec = ((const struct k8s_network_policy *)obj)->spec;
    (void)rq;
    if (!spec)
        return;
    validate_label_selector(spec->pod_selector, errors, "spec.podSelector");
    for (size_t i = 0; i < spec->ingress.len; i++)
        validate_rule(spec->ingress.items[i].from.items, spec->ingress.items[i].from.len, "from", &spec->ingress.items[i].ports, errors,
                      kp_arena_printf(errors->arena, "spec.ingress[%zu]", i));
    for (size_t i = 0; i < spec->egress.len; i++)
        validate_rule(spec->egress.items[i].to.items, spec->egress.items[i].to.len, "to", &spec->egress.items[i].ports, errors,
                      kp_arena_printf(errors->arena, "spec.egress[%zu]", i));
    if (spec->policy_types.len > 2)
        field_invalid(errors, "policyTypes", "may not specify more than two policyTypes", "spec.policyTypes");
}
