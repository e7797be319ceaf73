/* What clouds with an API have beyond machines and networks: sizes, images, public addresses, load balancers, routes. Checks
 * arguments before they reach a driver. */
#include <arpa/inet.h>

#include "cloud/call_internal.h"

static int fail_unsupported(const struct cloud *cloud, const char *what, struct kp_error *error)
{
    return kp_fail(error, KP_ENOTSUPPORTED, "cloud %s has no %s", cloud->driver->name, what);
}

static int check_cidr(const char *what, const char *text, struct kp_error *error)
{
    char address[INET_ADDRSTRLEN];
    struct in_addr parsed;
    int64_t prefix = -1;
    const char *slash = text ? strchr(text, '/') : NULL;
    size_t len = slash ? (size_t)(slash - text) : 0;
    if (slash && len < sizeof address) {
        memcpy(address, text, len);
        address[len] = 0;
        if (inet_pton(AF_INET, address, &parsed) == 1 && kp_parse_i64(slash + 1, &prefix) == 0 && prefix >= 0 && prefix <= 32)
            return 0;
    }
    return kp_fail(error, KP_EINVALID, "%s \"%s\" must be an IPv4 network such as 10.244.1.0/24", what, text ? text : "");
}

int cloud_machine_types(struct cloud *cloud, struct kp_arena *arena, struct cloud_machine_type_list *ret, struct kp_error *error)
{
    struct cloud_call_out out = {0};
    const struct cloud_call_in in = {0};
    if (!cloud->driver->machine_types)
        return fail_unsupported(cloud, "machine types", error);
    int r = cloud_call(cloud, CLOUD_CALL_MACHINE_TYPES, &in, arena, &out, error);
    if (r == 0)
        *ret = out.types;
    return r;
}

int cloud_image_ensure(struct cloud *cloud, const char *image, struct kp_error *error)
{
    const struct cloud_call_in in = {.name = image};
    if (kp_empty(image))
        return kp_fail(error, KP_EINVALID, "no image is named");
    if (!cloud->driver->image_ensure)
        return 0;
    return cloud_call_plain(cloud, CLOUD_CALL_IMAGE_ENSURE, &in, error) < 0 ? kp_wrap(error, "image %s", image) : 0;
}

int cloud_address_publish(struct cloud *cloud, const char *cluster_uid, const char *name, struct kp_arena *arena, const char **ret_address,
                          struct kp_error *error)
{
    struct cloud_call_out out = {0};
    const struct cloud_call_in in = {.uid = cluster_uid, .name = name};
    if (!cloud->driver->address_publish)
        return cloud_address_reserve(cloud, cluster_uid, name, arena, ret_address, error);
    int r = cloud_check_names(cluster_uid, name, error);
    if (r == 0)
        r = cloud_call(cloud, CLOUD_CALL_ADDRESS_PUBLISH, &in, arena, &out, error);
    if (r == 0)
        *ret_address = out.address;
    return r;
}

int cloud_machine_forward(struct cloud *cloud, const char *cluster_uid, const char *name, const char *const *cidrs, struct kp_error *error)
{
    const struct cloud_call_in in = {.uid = cluster_uid, .name = name, .list = cidrs};
    int r = cloud_check_names(cluster_uid, name, error);
    for (size_t i = 0; r == 0 && cidrs && cidrs[i]; i++)
        r = check_cidr("network to forward", cidrs[i], error);
    if (r < 0 || !cloud->driver->machine_forward)
        return r;
    return cloud_call_plain(cloud, CLOUD_CALL_MACHINE_FORWARD, &in, error) < 0 ? kp_wrap(error, "let machine %s forward", name) : 0;
}

static int check_balancers(const struct cloud *cloud, struct kp_error *error)
{
    return cloud_can(cloud, CLOUD_CAN_LOAD_BALANCE) ? 0 : fail_unsupported(cloud, "load balancers", error);
}

static int check_listeners(const struct cloud_balancer_spec *spec, struct kp_error *error)
{
    if (spec->n_listeners == 0 || spec->n_listeners > CLOUD_LISTENERS_MAX)
        return kp_fail(error, KP_EINVALID, "%zu listeners: 1 to %d go", spec->n_listeners, CLOUD_LISTENERS_MAX);
    for (size_t i = 0; i < spec->n_listeners; i++) {
        const struct cloud_listener *l = &spec->listeners[i];
        if (l->port < 1 || l->port > 65535 || l->target_port < 1 || l->target_port > 65535)
            return kp_fail(error, KP_EINVALID, "listener %d to port %d: ports are 1 to 65535", l->port, l->target_port);
        for (size_t j = 0; j < i; j++)
            if (spec->listeners[j].port == l->port && spec->listeners[j].protocol == l->protocol)
                return kp_fail(error, KP_EINVALID, "two listeners of port %d", l->port);
    }
    return 0;
}

static int check_balancer(const struct cloud_balancer_spec *spec, struct kp_error *error)
{
    struct in_addr parsed;
    int r = cloud_check_names(spec->cluster_uid, spec->name, error);
    if (r == 0)
        r = check_listeners(spec, error);
    if (r < 0)
        return r;
    if (spec->n_targets > CLOUD_MACHINES_MAX)
        return kp_fail(error, KP_EINVALID, "%zu targets: at most %d go", spec->n_targets, CLOUD_MACHINES_MAX);
    for (size_t i = 0; i < spec->n_targets; i++)
        if (inet_pton(AF_INET, spec->targets[i].address ? spec->targets[i].address : "", &parsed) != 1)
            return kp_fail(error, KP_EINVALID, "target %s has no IPv4 address", spec->targets[i].machine);
    if (spec->n_source_ranges > CLOUD_SOURCE_RANGES_MAX)
        return kp_fail(error, KP_EINVALID, "%zu source ranges: at most %d go", spec->n_source_ranges, CLOUD_SOURCE_RANGES_MAX);
    for (size_t i = 0; r == 0 && i < spec->n_source_ranges; i++)
        r = check_cidr("source range", spec->source_ranges[i], error);
    if (r == 0 && !kp_empty(spec->address) && inet_pton(AF_INET, spec->address, &parsed) != 1)
        return kp_fail(error, KP_EINVALID, "wanted address \"%s\" is no IPv4 address", spec->address);
    return r;
}

int cloud_balancer_ensure(struct cloud *cloud, const struct cloud_balancer_spec *spec, struct kp_arena *arena, struct cloud_balancer *ret,
                          struct kp_error *error)
{
    struct cloud_call_out out = {0};
    const struct cloud_call_in in = {.balancer = *spec};
    int r = check_balancers(cloud, error);
    if (r < 0)
        return r;
    if (check_balancer(spec, error) < 0)
        return kp_wrap(error, "load balancer %s", spec->name ? spec->name : "");
    r = cloud_call(cloud, CLOUD_CALL_BALANCER_ENSURE, &in, arena, &out, error);
    if (r == 0 || r == KP_EAGAIN)
        *ret = out.balancer;
    return r < 0 ? kp_wrap(error, "load balancer %s", spec->name) : 0;
}

int cloud_balancer_get(struct cloud *cloud, const char *cluster_uid, const char *name, struct kp_arena *arena, struct cloud_balancer *ret,
                       struct kp_error *error)
{
    struct cloud_call_out out = {0};
    const struct cloud_call_in in = {.uid = cluster_uid, .name = name};
    int r = check_balancers(cloud, error);
    if (r == 0)
        r = cloud_check_names(cluster_uid, name, error);
    if (r == 0)
        r = cloud_call(cloud, CLOUD_CALL_BALANCER_GET, &in, arena, &out, error);
    if (r == 0)
        *ret = out.balancer;
    return r;
}

int cloud_balancer_health(struct cloud *cloud, const char *cluster_uid, const char *name, struct kp_arena *arena,
                          struct cloud_target_health_list *ret, struct kp_error *error)
{
    struct cloud_call_out out = {0};
    const struct cloud_call_in in = {.uid = cluster_uid, .name = name};
    int r = check_balancers(cloud, error);
    if (r == 0)
        r = cloud_check_names(cluster_uid, name, error);
    if (r == 0 && !cloud->driver->balancer_health)
        return fail_unsupported(cloud, "health of a load balancer's targets to tell", error);
    if (r == 0)
        r = cloud_call(cloud, CLOUD_CALL_BALANCER_HEALTH, &in, arena, &out, error);
    if (r == 0)
        *ret = out.health;
    return r;
}

int cloud_balancer_list(struct cloud *cloud, const char *cluster_uid, struct kp_arena *arena, struct cloud_balancer_list *ret,
                        struct kp_error *error)
{
    struct cloud_call_out out = {0};
    const struct cloud_call_in in = {.uid = cluster_uid};
    int r = check_balancers(cloud, error);
    if (r == 0)
        r = cloud_check_uid(cluster_uid, error);
    if (r == 0)
        r = cloud_call(cloud, CLOUD_CALL_BALANCER_LIST, &in, arena, &out, error);
    if (r == 0)
        *ret = out.balancers;
    return r;
}

int cloud_balancer_delete(struct cloud *cloud, const char *cluster_uid, const char *name, struct kp_error *error)
{
    const struct cloud_call_in in = {.uid = cluster_uid, .name = name};
    int r = check_balancers(cloud, error);
    if (r == 0)
        r = cloud_check_names(cluster_uid, name, error);
    if (r < 0)
        return r;
    return cloud_call_plain(cloud, CLOUD_CALL_BALANCER_DELETE, &in, error) < 0 ? kp_wrap(error, "delete load balancer %s", name) : 0;
}

static int check_routes(const struct cloud *cloud, const char *cluster_uid, struct kp_error *error)
{
    if (!cloud_can(cloud, CLOUD_CAN_ROUTE))
        return fail_unsupported(cloud, "routes", error);
    return cloud_check_uid(cluster_uid, error);
}

int cloud_route_list(struct cloud *cloud, const char *cluster_uid, struct kp_arena *arena, struct cloud_route_list *ret, struct kp_error *error)
{
    struct cloud_call_out out = {0};
    const struct cloud_call_in in = {.uid = cluster_uid};
    int r = check_routes(cloud, cluster_uid, error);
    if (r == 0)
        r = cloud_call(cloud, CLOUD_CALL_ROUTE_LIST, &in, arena, &out, error);
    if (r == 0)
        *ret = out.routes;
    return r;
}

int cloud_route_ensure(struct cloud *cloud, const char *cluster_uid, const struct cloud_route *route, struct kp_error *error)
{
    const struct cloud_call_in in = {.uid = cluster_uid, .route = *route};
    int r = check_routes(cloud, cluster_uid, error);
    if (r == 0)
        r = check_cidr("route to", route->destination, error);
    if (r == 0)
        r = cloud_check_names(cluster_uid, route->machine, error);
    if (r < 0)
        return r;
    return cloud_call_plain(cloud, CLOUD_CALL_ROUTE_ENSURE, &in, error) < 0 ? kp_wrap(error, "route to %s", route->destination) : 0;
}

int cloud_route_delete(struct cloud *cloud, const char *cluster_uid, const struct cloud_route *route, struct kp_error *error)
{
    const struct cloud_call_in in = {.uid = cluster_uid, .route = *route};
    int r = check_routes(cloud, cluster_uid, error);
    if (r == 0)
        r = check_cidr("route to", route->destination, error);
    if (r < 0)
        return r;
    return cloud_call_plain(cloud, CLOUD_CALL_ROUTE_DELETE, &in, error) < 0 ? kp_wrap(error, "route to %s", route->destination) : 0;
}
