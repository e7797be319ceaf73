/* Makes a load balancer what it shall be: every part is compared with what the API has, and only differences are asked for. */
#include "cloud/hetzner/hetzner_internal.h"

struct making {
    struct hz *hz;
    const struct cloud_balancer_spec *spec;
    struct kp_arena *arena;
    json_t *network, *servers, *balancer; /* as the API has them */
};

static int act(struct making *m, const char *verb, json_t *body, struct kp_error *error)
{
    const char *path = kp_arena_printf(m->arena, "/load_balancers/%lld/actions/%s", (long long)rest_json_int(m->balancer, "id"), verb);
    return hz_act(m->hz, kp_arena_printf(m->arena, "load_balancers.%s", verb), path, body, error);
}

static int look(struct making *m, struct kp_error *error)
{
    json_decref(m->balancer);
    m->balancer = NULL;
    return hz_balancer_find(m->hz, m->spec->cluster_uid, m->spec->name, &m->balancer, error);
}

/* ---- its type: the smallest that has room */
static int choose_type(struct making *m, const char **ret_name, struct kp_error *error)
{
    KP_AUTO(json_decref) json_t *types = NULL;
    const json_t *best = NULL;
    int r = hz_list(m->hz, "load_balancer_types", "", &types, error);
    if (r < 0)
        return r;
    for (size_t i = 0; i < json_array_size(types); i++) {
        const json_t *type = json_array_get(types, i);
        bool fits = rest_json_int(type, "max_services") >= (int64_t)m->spec->n_listeners && rest_json_int(type, "max_targets") >= (int64_t)m->spec->n_targets;
        if (fits && !*rest_json_text(type, "deprecated") && (!best || rest_json_int(type, "max_services") < rest_json_int(best, "max_services")))
            best = type;
    }
    if (!best)
        return kp_fail(error, KP_EINVALID, "no load balancer type of Hetzner's has room for %zu ports and %zu machines", m->spec->n_listeners, m->spec->n_targets);
    *ret_name = kp_arena_strdup(m->arena, rest_json_text(best, "name"));
    return 0;
}

static int make(struct making *m, struct kp_error *error)
{
    KP_AUTO(json_decref) json_t *answer = NULL;
    const struct cloud_balancer_spec *spec = m->spec;
    const char *type = NULL;
    int r = choose_type(m, &type, error);
    if (r < 0)
        return r;
    json_t *body = json_pack("{s:s, s:s, s:s, s:{s:s, s:s}}", "name", hz_resource_name(spec->cluster_uid, spec->name, m->arena), "load_balancer_type", type,
                             "network_zone", rest_json_text(m->network, "subnets/0/network_zone"), "labels", HZ_CLUSTER_LABEL, spec->cluster_uid,
                             HZ_NAME_LABEL, spec->name);
    r = hz_do(m->hz, "load_balancers.create", "POST", "/load_balancers", body, &answer, error);
    if (r == 0)
        r = hz_wait(m->hz, "load_balancers.create", answer, error);
    if (r < 0 && r != KP_EEXISTS)
        return r;
    r = look(m, error);
    return r == KP_ENOTFOUND ? kp_fail(error, KP_ECONFLICT, "a load balancer %s exists, and is not this cluster's",
                                       hz_resource_name(spec->cluster_uid, spec->name, m->arena)) : r;
}

static int fit_type(struct making *m, struct kp_error *error)
{
    const json_t *has = rest_json_at(m->balancer, "load_balancer_type");
    const char *type = NULL;
    if (rest_json_int(has, "max_services") >= (int64_t)m->spec->n_listeners && rest_json_int(has, "max_targets") >= (int64_t)m->spec->n_targets)
        return 0;
    int r = choose_type(m, &type, error);
    return r < 0 ? r : act(m, "change_type", json_pack("{s:s}", "load_balancer_type", type), error);
}

/* ---- its address in the network: of the last quarter, where no machine is */
static const char *inside_address(const struct making *m)
{
    const json_t *nets = rest_json_at(m->balancer, "private_net");
    for (size_t i = 0; i < json_array_size(nets); i++)
        if (rest_json_int(json_array_get(nets, i), "network") == rest_json_int(m->network, "id"))
            return rest_json_text(json_array_get(nets, i), "ip");
    return "";
}

static int attach(struct making *m, struct kp_error *error)
{
    struct hz_range range;
    uint32_t first = 0, last = 0;
    bool chosen = m->spec->internal && !kp_empty(m->spec->address);
    int r = KP_EQUOTA;
    if (*inside_address(m))
        return 0;
    if (!hz_range_parse(rest_json_text(m->network, "subnets/0/ip_range"), &range))
        return kp_fail(error, KP_ECORRUPT, "network %s has no subnet", rest_json_text(m->network, "name"));
    hz_range_hosts(&range, true, &first, &last);
    kp_fail(error, KP_EQUOTA, "no address for load balancers is free in the network");
    for (uint32_t host = first; host <= last; host++) {
        const char *address = chosen ? m->spec->address : hz_address_format(host, m->arena);
        r = act(m, "attach_to_network", json_pack("{s:I, s:s}", "network", (json_int_t)rest_json_int(m->network, "id"), "ip", address), error);
        if (r == KP_EEXISTS)
            return 0;
        if (r != KP_ECONFLICT || chosen) /* ip_not_available: another balancer has it */
            break;
    }
    return chosen && r == KP_ECONFLICT ? kp_fail(error, KP_EINVALID, "address %s is not free: leave out loadBalancerIP, or name another", m->spec->address) : r;
}

/* ---- services */
static const json_t *service_at(const json_t *services, int64_t port)
{
    for (size_t i = 0; i < json_array_size(services); i++)
        if (rest_json_int(json_array_get(services, i), "listen_port") == port)
            return json_array_get(services, i);
    return NULL;
}

static bool is_wanted(const struct cloud_balancer_spec *spec, int64_t port)
{
    for (size_t i = 0; i < spec->n_listeners; i++)
        if (spec->listeners[i].port == port)
            return true;
    return false;
}

static int drop_services(struct making *m, struct kp_error *error)
{
    const json_t *services = rest_json_at(m->balancer, "services");
    int r = 0;
    for (size_t i = 0; r == 0 && i < json_array_size(services); i++) {
        int64_t port = rest_json_int(json_array_get(services, i), "listen_port");
        if (is_wanted(m->spec, port))
            continue;
        r = act(m, "delete_service", json_pack("{s:I}", "listen_port", (json_int_t)port), error);
        r = r == KP_ENOTFOUND ? 0 : r;
    }
    return r;
}

static int put_services(struct making *m, struct kp_error *error)
{
    const json_t *services = rest_json_at(m->balancer, "services");
    int r = 0;
    for (size_t i = 0; r == 0 && i < m->spec->n_listeners; i++) {
        KP_AUTO(json_decref) json_t *wanted = hz_service(m->spec, &m->spec->listeners[i]);
        const json_t *got = service_at(services, m->spec->listeners[i].port);
        if (got && hz_service_same(wanted, got))
            continue;
        r = act(m, got ? "update_service" : "add_service", json_incref(wanted), error);
        r = r == KP_EEXISTS ? 0 : r;
    }
    return r;
}

/* ---- targets: servers by their private address */
static int64_t server_id(const struct making *m, const char *name)
{
    for (size_t i = 0; i < json_array_size(m->servers); i++) {
        const json_t *server = json_array_get(m->servers, i);
        if (kp_streq(rest_json_text(rest_json_at(server, "labels"), HZ_NAME_LABEL), name) && json_array_size(rest_json_at(server, "private_net")))
            return rest_json_int(server, "id");
    }
    return 0; /* gone, or not attached yet: nothing that could be a target */
}

static bool is_target(const struct making *m, const json_t *target)
{
    if (!kp_streq(rest_json_text(target, "type"), "server") || !rest_json_bool(target, "use_private_ip"))
        return false;
    for (size_t i = 0; i < m->spec->n_targets; i++)
        if (server_id(m, m->spec->targets[i].machine) == rest_json_int(target, "server/id"))
            return true;
    return false;
}

static int drop_targets(struct making *m, struct kp_error *error)
{
    static const char *const parts[] = {"server", "label_selector", "ip"};
    const json_t *targets = rest_json_at(m->balancer, "targets");
    int r = 0;
    for (size_t i = 0; r == 0 && i < json_array_size(targets); i++) {
        const json_t *target = json_array_get(targets, i);
        if (is_target(m, target))
            continue;
        json_t *body = json_pack("{s:s}", "type", rest_json_text(target, "type"));
        for (size_t j = 0; j < KP_ARRAY_LEN(parts); j++)
            if (json_is_object(rest_json_at(target, parts[j])))
                json_object_set(body, parts[j], json_object_get(target, parts[j]));
        r = act(m, "remove_target", body, error);
        r = r == KP_ENOTFOUND ? 0 : r;
    }
    return r;
}

static int put_targets(struct making *m, struct kp_error *error)
{
    const json_t *targets = rest_json_at(m->balancer, "targets");
    int r = 0;
    for (size_t i = 0; r == 0 && i < m->spec->n_targets; i++) {
        int64_t id = server_id(m, m->spec->targets[i].machine);
        bool there = id == 0;
        for (size_t j = 0; j < json_array_size(targets) && !there; j++)
            there = is_target(m, json_array_get(targets, j)) && rest_json_int(json_array_get(targets, j), "server/id") == id;
        if (there)
            continue;
        r = act(m, "add_target", json_pack("{s:s, s:{s:I}, s:b}", "type", "server", "server", "id", (json_int_t)id, "use_private_ip", 1), error);
        r = r == KP_EEXISTS ? 0 : r;
    }
    return r;
}

/* ---- the rest */
static int set_algorithm(struct making *m, struct kp_error *error)
{
    const char *wanted = m->spec->algorithm == CLOUD_LEAST_CONNECTIONS ? "least_connections" : "round_robin";
    if (kp_streq(rest_json_text(m->balancer, "algorithm/type"), wanted))
        return 0;
    return act(m, "change_algorithm", json_pack("{s:s}", "type", wanted), error);
}

static int set_public(struct making *m, struct kp_error *error)
{
    if (rest_json_bool(m->balancer, "public_net/enabled") == !m->spec->internal)
        return 0;
    return act(m, m->spec->internal ? "disable_public_interface" : "enable_public_interface", NULL, error);
}

static int check_address(const struct making *m, struct kp_error *error)
{
    const char *wanted = m->spec->address, *has = m->spec->internal ? inside_address(m) : rest_json_text(m->balancer, "public_net/ipv4/ip");
    if (kp_empty(wanted) || kp_streq(wanted, has))
        return 0;
    if (m->spec->internal)
        return kp_fail(error, KP_EINVALID, "its address is %s and cannot become %s: delete the Service and make it again", has, wanted);
    return kp_fail(error, KP_EINVALID, "Hetzner chooses a load balancer's public address, which is %s: leave out loadBalancerIP", has);
}

static int converge(struct making *m, struct kp_error *error)
{
    static int (*const steps[])(struct making *, struct kp_error *) = {fit_type, drop_services, attach, set_algorithm, put_services, drop_targets, put_targets, set_public};
    int r = hz_network_find(m->hz, m->spec->cluster_uid, &m->network, error);
    if (r == 0)
        r = hz_list(m->hz, "servers", hz_owned_query(m->spec->cluster_uid, NULL, m->arena), &m->servers, error);
    if (r == 0)
        r = look(m, error);
    if (r == KP_ENOTFOUND && m->network)
        r = make(m, error);
    for (size_t i = 0; r == 0 && i < KP_ARRAY_LEN(steps); i++)
        r = steps[i](m, error);
    if (r == 0)
        r = look(m, error);
    return r < 0 ? r : check_address(m, error);
}

int hz_balancer_ensure(void *state, const struct cloud_balancer_spec *spec, struct kp_arena *arena, struct cloud_balancer *ret, struct kp_error *error)
{
    struct hz *hz = state;
    struct making m = {.hz = hz, .spec = spec, .arena = arena};
    int r = hz_balancer_check(spec, error);
    if (r == 0)
        r = converge(&m, error);
    if (r == 0 || r == KP_EAGAIN)
        *ret = (struct cloud_balancer){.id = "", .name = spec->name, .cluster_uid = spec->cluster_uid, .address = "", .host_name = "", .problem = ""};
    if ((r == 0 || r == KP_EAGAIN) && m.balancer)
        hz_balancer_read(m.balancer, arena, ret);
    json_decref(m.network);
    json_decref(m.servers);
    json_decref(m.balancer);
    return r;
}
