/* The balancer that a Service, and those who share it, ask of the cloud. */
#include "cloud-controller/service/service.h"

struct member {
    const struct k8s_service *service;
    struct service_wishes wishes;
};

static bool is_older(const struct k8s_service *a, const struct k8s_service *b)
{
    int64_t at = a->metadata->creation_timestamp.seconds, bt = b->metadata->creation_timestamp.seconds;
    return at != bt ? at < bt : strcmp(a->metadata->uid, b->metadata->uid) < 0;
}

/* Those who want the balancer of the service's name, the oldest first; at most max. */
static size_t find_members(const struct service_input *in, const char *name, struct kp_arena *arena, const struct k8s_service **ret, size_t max)
{
    size_t n = 0;
    for (size_t i = 0; i < in->n_all; i++) {
        const struct k8s_service *other = in->all[i];
        if (service_is_same(other, in->service) || !service_wants_balancer(other) || service_path_of(other, true) != SERVICE_CLOUD ||
            !kp_streq(service_balancer_name(other, arena), name) || n == max)
            continue;
        ret[n++] = other;
    }
    if (service_wants_balancer(in->service) && n < max)
        ret[n++] = in->service;
    for (size_t i = 1; i < n; i++)
        for (size_t j = i; j > 0 && is_older(ret[j], ret[j - 1]); j--) {
            const struct k8s_service *swap = ret[j];
            ret[j] = ret[j - 1];
            ret[j - 1] = swap;
        }
    return n;
}

static int read_listeners(const struct service_input *in, const struct k8s_service *service, struct cloud_balancer_spec *spec, struct kp_error *error)
{
    struct cloud_listener *listeners = (struct cloud_listener *)spec->listeners;
    for (size_t i = 0; i < service->spec->ports.len; i++) {
        const struct k8s_service_port *port = &service->spec->ports.items[i];
        struct cloud_listener listener = {.protocol = CLOUD_TCP, .port = port->port, .target_port = port->node_port};
        if (kp_streq(port->protocol, "UDP"))
            listener.protocol = CLOUD_UDP;
        else if (!kp_empty(port->protocol) && !kp_streq(port->protocol, "TCP"))
            return kp_fail(error, KP_EINVALID, "port %d: load balancers do TCP and UDP, not %s", port->port, port->protocol);
        if (port->node_port == 0)
            return kp_fail(error, KP_EINVALID, "port %d has no node port, and load balancers of %s reach pods by those only: leave out allocateLoadBalancerNodePorts: false",
                           port->port, in->cloud);
        for (size_t j = 0; j < spec->n_listeners; j++)
            if (listeners[j].port == listener.port && listeners[j].protocol == listener.protocol)
                return kp_fail(error, KP_EINVALID, "port %d is taken", port->port);
        if (spec->n_listeners == CLOUD_LISTENERS_MAX)
            return kp_fail(error, KP_EINVALID, "more than %d ports", CLOUD_LISTENERS_MAX);
        listeners[spec->n_listeners++] = listener;
    }
    return 0;
}

static bool is_same_health(const struct cloud_health_check *a, const struct cloud_health_check *b)
{
    return a->kind == b->kind && a->port == b->port && kp_streq(a->path, b->path) && a->interval_s == b->interval_s && a->timeout_s == b->timeout_s &&
           a->healthy == b->healthy && a->unhealthy == b->unhealthy;
}

static bool is_same_list(const struct kp_string_list *a, const struct kp_string_list *b)
{
    for (size_t i = 0; i < a->len && i < b->len; i++)
        if (!kp_streq(a->items[i], b->items[i]))
            return false;
    return a->len == b->len;
}

/* What stands between two who want to share, or NULL. */
static const char *disagreement(const struct member *a, const struct member *b)
{
    if (kp_streq(a->service->spec->external_traffic_policy, "Local") || kp_streq(b->service->spec->external_traffic_policy, "Local"))
        return "externalTrafficPolicy Local, whose health checks differ";
    if (a->wishes.internal != b->wishes.internal)
        return "internal or not";
    if (a->wishes.proxy_protocol != b->wishes.proxy_protocol)
        return "the PROXY protocol";
    if (a->wishes.algorithm != b->wishes.algorithm || !kp_streq(a->service->spec->session_affinity, b->service->spec->session_affinity))
        return "algorithm or session affinity";
    if (!is_same_health(&a->wishes.health, &b->wishes.health))
        return "the health check";
    if (!is_same_list(&a->wishes.source_ranges, &b->wishes.source_ranges))
        return "source ranges";
    return kp_streq(a->wishes.address, b->wishes.address) ? NULL : "the address";
}

static void fill(const struct service_input *in, const struct member *first, struct kp_arena *arena, struct cloud_balancer_spec *spec)
{
    const struct service_wishes *wishes = &first->wishes;
    spec->cluster_uid = in->cluster_uid;
    spec->description = kp_arena_printf(arena, "%s/%s", first->service->metadata->namespace, first->service->metadata->name);
    spec->algorithm = wishes->algorithm;
    spec->health = wishes->health;
    spec->source_ranges = wishes->source_ranges.items;
    spec->n_source_ranges = wishes->source_ranges.len;
    spec->internal = wishes->internal;
    spec->proxy_protocol = wishes->proxy_protocol;
    spec->sticky = kp_streq(first->service->spec->session_affinity, "ClientIP");
    spec->address = wishes->address;
    spec->n_targets = service_targets(in->nodes, in->n_nodes, arena, &spec->targets);
}

int service_make_spec(const struct service_input *in, struct kp_arena *arena, struct cloud_balancer_spec *ret, struct kp_error *error)
{
    const struct k8s_service *services[SERVICE_MEMBERS_MAX];
    struct cloud_balancer_spec spec = {.name = service_balancer_name(in->service, arena),
                                       .listeners = KP_NEW_ARRAY(arena, struct cloud_listener, CLOUD_LISTENERS_MAX)};
    struct member first = {0};
    bool found = false;
    size_t n = find_members(in, spec.name, arena, services, SERVICE_MEMBERS_MAX);
    for (size_t i = 0; i < n; i++) {
        struct member member = {.service = services[i]};
        struct kp_error why = {0};
        size_t n_listeners = spec.n_listeners;
        bool own = service_is_same(services[i], in->service);
        int r = service_read_wishes(services[i], arena, &member.wishes, &why);
        const char *differs = r == 0 && first.service ? disagreement(&first, &member) : NULL;
        if (differs)
            r = kp_fail(&why, KP_EINVALID, "cannot share the balancer of %s/%s: they differ in %s", first.service->metadata->namespace,
                        first.service->metadata->name, differs);
        if (r == 0)
            r = read_listeners(in, services[i], &spec, &why);
        if (r < 0 && own)
            return kp_fail(error, r, "%s", why.message);
        if (r < 0) {
            spec.n_listeners = n_listeners; /* told at its own turn */
            continue;
        }
        if (!first.service)
            first = member;
        found = found || own;
    }
    if (!first.service)
        return kp_fail(error, KP_ENOTFOUND, "nobody wants balancer %s", spec.name);
    if (service_wants_balancer(in->service) && !found)
        return kp_fail(error, KP_EINVALID, "more than %d Services share a balancer", SERVICE_MEMBERS_MAX);
    fill(in, &first, arena, &spec);
    *ret = spec;
    return 0;
}

void service_fingerprint(const struct cloud_balancer_spec *spec, uint64_t *ret_shape, uint64_t *ret_targets)
{
    KP_AUTO_BUF struct kp_buf text = {0};
    const struct cloud_health_check *health = &spec->health;
    kp_buf_printf(&text, "%s %d %d %d %d %s|", spec->name, spec->algorithm, spec->internal, spec->proxy_protocol, spec->sticky,
                  spec->address ? spec->address : "");
    kp_buf_printf(&text, "%d %d %s %d %d %d %d|", health->kind, health->port, health->path ? health->path : "", health->interval_s, health->timeout_s,
                  health->healthy, health->unhealthy);
    for (size_t i = 0; i < spec->n_listeners; i++)
        kp_buf_printf(&text, "%d/%d/%d ", spec->listeners[i].protocol, spec->listeners[i].port, spec->listeners[i].target_port);
    for (size_t i = 0; i < spec->n_source_ranges; i++)
        kp_buf_printf(&text, "%s ", spec->source_ranges[i]);
    *ret_shape = kp_hash64(text.data, text.len);
    text.len = 0;
    for (size_t i = 0; i < spec->n_targets; i++)
        kp_buf_printf(&text, "%s=%s ", spec->targets[i].machine, spec->targets[i].address);
    *ret_targets = kp_hash64(text.data ? text.data : "", text.len);
}
