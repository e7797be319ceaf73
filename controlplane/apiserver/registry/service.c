/* Strategy of Services: defaults, what an update keeps, validation. Addresses and node ports: service_alloc.c. */
#include "controlplane/apiserver/registry/strategy_internal.h"

#include <arpa/inet.h>

static bool has_node_ports(const struct k8s_service_spec *spec)
{
    return kp_streq(spec->type, "NodePort") ||
           (kp_streq(spec->type, "LoadBalancer") && (!spec->has_allocate_load_balancer_node_ports || spec->allocate_load_balancer_node_ports));
}

static bool external(const struct k8s_service_spec *spec)
{
    return kp_streq(spec->type, "ExternalName");
}

void service_defaults(struct registry_request *rq, void *obj)
{
    struct k8s_service_spec *spec = ((struct k8s_service *)obj)->spec;
    for (size_t i = 0; i < spec->ports.len; i++) {
        struct k8s_service_port *port = &spec->ports.items[i];
        bool zero = port->target_port.kind == KP_IOS_ABSENT || (port->target_port.kind == KP_IOS_INT && port->target_port.i == 0) ||
                    (port->target_port.kind == KP_IOS_STRING && kp_empty(port->target_port.s));
        if (zero)
            port->target_port = KP_IOS_OF_INT(port->port);
    }
    if (kp_streq(spec->session_affinity, "ClientIP")) {
        if (!spec->session_affinity_config)
            spec->session_affinity_config = KP_OBJECT_NEW(rq->arena, k8s_session_affinity_config);
        if (!spec->session_affinity_config->client_ip)
            spec->session_affinity_config->client_ip = KP_OBJECT_NEW(rq->arena, k8s_client_ip_config);
        if (!spec->session_affinity_config->client_ip->has_timeout_seconds)
            KP_SET(spec->session_affinity_config->client_ip, timeout_seconds, 10800);
    } else {
        spec->session_affinity_config = NULL;
    }
    if (!external(spec) && kp_empty(spec->internal_traffic_policy))
        spec->internal_traffic_policy = "Cluster";
    if ((kp_streq(spec->type, "NodePort") || kp_streq(spec->type, "LoadBalancer")) && kp_empty(spec->external_traffic_policy))
        spec->external_traffic_policy = "Cluster";
    if (kp_streq(spec->type, "LoadBalancer") && !spec->has_allocate_load_balancer_node_ports)
        KP_SET(spec, allocate_load_balancer_node_ports, true);
}

/* clusterIP and clusterIPs[0] are one thing with two names. */
static void join_cluster_ips(struct registry_request *rq, struct k8s_service_spec *spec)
{
    if (!kp_empty(spec->cluster_ip) && !spec->cluster_ips.len)
        kp_string_list_add(rq->arena, &spec->cluster_ips, spec->cluster_ip);
    else if (kp_empty(spec->cluster_ip) && spec->cluster_ips.len)
        spec->cluster_ip = spec->cluster_ips.items[0];
}

void service_prepare_create(struct registry_request *rq, void *obj)
{
    struct k8s_service *service = obj;
    join_cluster_ips(rq, service->spec);
}

static bool from_outside(const struct k8s_service_spec *spec)
{
    return kp_streq(spec->type, "NodePort") || kp_streq(spec->type, "LoadBalancer");
}

bool service_has_health_port(const struct k8s_service_spec *spec)
{
    return kp_streq(spec->type, "LoadBalancer") && kp_streq(spec->external_traffic_policy, "Local");
}

/* The port of the health check stays while it is needed, and goes when it is not. */
static void keep_health_port(struct k8s_service_spec *spec, const struct k8s_service_spec *before)
{
    bool now = service_has_health_port(spec), was = service_has_health_port(before);
    if (now && was && !spec->health_check_node_port)
        KP_SET(spec, health_check_node_port, before->health_check_node_port);
    if (!now && was && spec->health_check_node_port == before->health_check_node_port) {
        spec->health_check_node_port = 0;
        spec->has_health_check_node_port = false;
    }
}

/* What only the former type needs goes with it, unless it was set anew. */
static void drop_of_former_type(struct k8s_service_spec *spec, const struct k8s_service_spec *before)
{
    if (from_outside(before) && !from_outside(spec) && kp_streq(spec->external_traffic_policy, before->external_traffic_policy))
        spec->external_traffic_policy = NULL;
    if (kp_streq(before->type, "LoadBalancer") && !kp_streq(spec->type, "LoadBalancer")) {
        spec->has_allocate_load_balancer_node_ports = false;
        spec->allocate_load_balancer_node_ports = false;
        if (kp_streq(spec->load_balancer_class, before->load_balancer_class))
            spec->load_balancer_class = NULL;
    }
}

/* What an update leaves out stays; either spelling of the address may be the one that was changed. */
static void keep_addresses(struct k8s_service_spec *spec, const struct k8s_service_spec *before)
{
    bool same_list = spec->cluster_ips.len && before->cluster_ips.len && kp_streq(spec->cluster_ips.items[0], before->cluster_ips.items[0]);
    if (kp_empty(spec->cluster_ip) && (!spec->cluster_ips.len || same_list)) {
        spec->cluster_ip = before->cluster_ip;
        spec->cluster_ips = before->cluster_ips;
    } else if (same_list && !kp_streq(spec->cluster_ip, before->cluster_ip)) {
        spec->cluster_ips = (struct kp_string_list){0};
    }
    if (!spec->ip_families.len)
        spec->ip_families = before->ip_families;
    if (kp_empty(spec->ip_family_policy))
        spec->ip_family_policy = before->ip_family_policy;
}

void service_prepare_update(struct registry_request *rq, void *obj, const void *old)
{
    struct k8s_service_spec *spec = ((struct k8s_service *)obj)->spec;
    const struct k8s_service_spec *before = ((const struct k8s_service *)old)->spec;
    if (!external(spec) && !external(before))
        keep_addresses(spec, before);
    join_cluster_ips(rq, spec);
    drop_of_former_type(spec, before);
    keep_health_port(spec, before);
    if (external(spec) && !external(before)) {
        if (kp_streq(spec->cluster_ip, before->cluster_ip)) {
            spec->cluster_ip = NULL;
            spec->cluster_ips = (struct kp_string_list){0};
        }
        spec->ip_families = (struct kp_string_list){0};
        spec->ip_family_policy = NULL;
        spec->internal_traffic_policy = NULL;
    }
    for (size_t i = 0; i < spec->ports.len; i++) {
        struct k8s_service_port *port = &spec->ports.items[i];
        if (!has_node_ports(spec) && has_node_ports(before))
            KP_SET(port, node_port, 0), port->has_node_port = false;
        for (size_t j = 0; has_node_ports(spec) && has_node_ports(before) && !port->node_port && j < before->ports.len; j++)
            if (before->ports.items[j].port == port->port && kp_streq(before->ports.items[j].protocol, port->protocol))
                KP_SET(port, node_port, before->ports.items[j].node_port);
    }
}

static bool is_ip(const char *s)
{
    unsigned char address[16];
    return inet_pton(AF_INET, s, address) == 1 || inet_pton(AF_INET6, s, address) == 1;
}

static void validate_service_port(const struct k8s_service_spec *spec, size_t i, struct field_errors *errors)
{
    const struct k8s_service_port *port = &spec->ports.items[i];
    const char *fault = kp_empty(port->name) ? NULL : name_is_label(port->name);
    if (kp_empty(port->name) && spec->ports.len > 1)
        field_required(errors, "", "spec.ports[%zu].name", i);
    else if (fault)
        field_invalid(errors, port->name, fault, "spec.ports[%zu].name", i);
    if (port->port < 1 || port->port > 65535)
        field_invalid_int(errors, port->port, "must be between 1 and 65535, inclusive", "spec.ports[%zu].port", i);
    if (port->target_port.kind == KP_IOS_INT && (port->target_port.i < 1 || port->target_port.i > 65535))
        field_invalid_int(errors, port->target_port.i, "must be between 1 and 65535, inclusive", "spec.ports[%zu].targetPort", i);
    fault = port->target_port.kind == KP_IOS_STRING ? port_name_check(port->target_port.s) : NULL;
    if (fault)
        field_invalid(errors, port->target_port.s, fault, "spec.ports[%zu].targetPort", i);
    if (port->node_port && !kp_streq(spec->type, "NodePort") && !kp_streq(spec->type, "LoadBalancer"))
        field_forbidden(errors, kp_arena_printf(errors->arena, "may not be used when `type` is '%s'", spec->type), "spec.ports[%zu].nodePort", i);
    for (size_t j = 0; j < i; j++) {
        const struct k8s_service_port *other = &spec->ports.items[j];
        if (!kp_empty(port->name) && kp_streq(other->name, port->name))
            field_duplicate(errors, port->name, "spec.ports[%zu].name", i);
        if (other->port == port->port && kp_streq(other->protocol, port->protocol))
            field_duplicate(errors, kp_arena_printf(errors->arena, "%s/%d", port->protocol, port->port), "spec.ports[%zu]", i);
    }
}

static bool is_cidr(const char *s)
{
    char address[64];
    const char *slash = strchr(s, '/');
    int64_t bits;
    if (!slash || (size_t)(slash - s) >= sizeof(address) || kp_parse_i64(slash + 1, &bits) < 0)
        return false;
    snprintf(address, sizeof(address), "%.*s", (int)(slash - s), s);
    return is_ip(address) && bits >= 0 && bits <= (strchr(address, ':') ? 128 : 32);
}

static void validate_balancer(const struct k8s_service_spec *spec, struct field_errors *errors)
{
    if (spec->load_balancer_source_ranges.len && !kp_streq(spec->type, "LoadBalancer"))
        field_forbidden(errors, "may only be used when `type` is 'LoadBalancer'", "spec.loadBalancerSourceRanges");
    for (size_t i = 0; i < spec->load_balancer_source_ranges.len; i++)
        if (!is_cidr(spec->load_balancer_source_ranges.items[i]))
            field_invalid(errors, spec->load_balancer_source_ranges.items[i], "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)",
                          "spec.loadBalancerSourceRanges[%zu]", i);
    if (spec->health_check_node_port && !service_has_health_port(spec))
        field_invalid_int(errors, spec->health_check_node_port,
                          "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'", "spec.healthCheckNodePort");
}

void service_validate(struct registry_request *rq, const void *obj, struct field_errors *errors)
{
    const struct k8s_service_spec *spec = ((const struct k8s_service *)obj)->spec;
    bool headless = kp_streq(spec->cluster_ip, "None");
    (void)rq;
    if (!spec->ports.len && !headless && !external(spec))
        field_required(errors, "", "spec.ports");
    for (size_t i = 0; i < spec->ports.len; i++)
        validate_service_port(spec, i, errors);
    validate_label_map(&spec->selector, errors, "spec.selector");
    if (!kp_empty(spec->cluster_ip) && !headless && !is_ip(spec->cluster_ip))
        field_invalid(errors, spec->cluster_ip, "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)", "spec.clusterIPs[0]");
    if (external(spec)) {
        if (!kp_empty(spec->cluster_ip))
            field_forbidden(errors, "may not be set when `type` is 'ExternalName'", "spec.clusterIP");
        if (kp_empty(spec->external_name))
            field_required(errors, "", "spec.externalName");
    } else if (headless && (kp_streq(spec->type, "NodePort") || kp_streq(spec->type, "LoadBalancer"))) {
        field_invalid(errors, "None", kp_arena_printf(errors->arena, "may not be set to 'None' for %s services", spec->type), "spec.clusterIPs[0]");
    }
    validate_balancer(spec, errors);
    for (size_t i = 0; i < spec->external_ips.len; i++)
        if (!is_ip(spec->external_ips.items[i]))
            field_invalid(errors, spec->external_ips.items[i], "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)", "spec.externalIPs[%zu]", i);
}

void service_validate_update(struct registry_request *rq, const void *obj, const void *old, struct field_errors *errors)
{
    const struct k8s_service_spec *spec = ((const struct k8s_service *)obj)->spec, *before = ((const struct k8s_service *)old)->spec;
    (void)rq;
    if (service_has_health_port(spec) && service_has_health_port(before) && spec->health_check_node_port != before->health_check_node_port)
        field_invalid_int(errors, spec->health_check_node_port, "field is immutable", "spec.healthCheckNodePort");
    if (external(spec) || external(before) || kp_empty(before->cluster_ip) || kp_streq(spec->cluster_ip, before->cluster_ip))
        return;
    KP_AUTO_BUF struct kp_buf value = {0};
    kp_buf_putc(&value, '[');
    for (size_t i = 0; i < spec->cluster_ips.len; i++) {
        kp_buf_puts(&value, i ? "," : "");
        kp_json_string(&value, spec->cluster_ips.items[i]);
    }
    kp_buf_putc(&value, ']');
    field_invalid_raw(errors, kp_arena_strdup(errors->arena, value.data), "may not change once set", "spec.clusterIPs[0]");
}
