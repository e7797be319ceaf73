/* Routes: extra routes of the cluster's own router. In a network of others' the way to pods is not kprov's to tell. */
#include "cloud/openstack/openstack_internal.h"

static int read_router(struct os *os, const char *uid, struct kp_arena *arena, const char **ret_id, json_t **ret_routes, struct kp_error *error)
{
    KP_AUTO(json_decref) json_t *answer = NULL;
    struct os_record record;
    int r = os_record_read(os, uid, arena, &record, error);
    if (r < 0)
        return r;
    if (!*record.router)
        return kp_fail(error, KP_ENOTSUPPORTED, "cluster %s has no router of its own: the cloud has no routes for it", uid);
    *ret_id = record.router;
    r = os_get(os, "routers.get", OS_NETWORK, kp_arena_printf(arena, "/routers/%s", record.router), &answer, error);
    if (r == 0)
        *ret_routes = json_incref((json_t *)(uintptr_t)rest_json_at(answer, "router/routes"));
    return r;
}

int os_route_list(void *state, const char *uid, struct kp_arena *arena, struct cloud_route_list *ret, struct kp_error *error)
{
    struct os *os = state;
    KP_AUTO(json_decref) json_t *routes = NULL;
    struct cloud_machine_list machines;
    const char *router = NULL;
    int r = read_router(os, uid, arena, &router, &routes, error);
    if (r == 0)
        r = os_machine_list(os, uid, arena, &machines, error);
    if (r < 0)
        return r;
    *ret = (struct cloud_route_list){.items = KP_NEW_ARRAY(arena, struct cloud_route, json_array_size(routes) + 1)};
    for (size_t i = 0; i < json_array_size(routes); i++) {
        const json_t *route = json_array_get(routes, i);
        const char *machine = "";
        for (size_t j = 0; j < machines.len; j++)
            if (kp_streq(machines.items[j].address, rest_json_text(route, "nexthop")))
                machine = machines.items[j].name;
        ret->items[ret->len++] = (struct cloud_route){.destination = os_text(route, "destination", arena), .machine = machine};
    }
    return 0;
}

/* Adding and removing single routes leaves those alone that another adds at the same time. */
static int change(struct os *os, const char *router, const char *what, const char *destination, const char *nexthop, struct kp_arena *arena, struct kp_error *error)
{
    json_t *body = json_pack("{s:{s:[{s:s, s:s}]}}", "router", "routes", "destination", destination, "nexthop", nexthop);
    return os_send(os, kp_arena_printf(arena, "routers.%s", what), OS_NETWORK, "PUT", kp_arena_printf(arena, "/routers/%s/%s", router, what), body, NULL, error);
}

static int remove_routes(struct os *os, const char *router, const json_t *routes, const char *destination, const char *but, struct kp_arena *arena, bool *ret_there,
                         struct kp_error *error)
{
    int r = 0;
    for (size_t i = 0; r == 0 && i < json_array_size(routes); i++) {
        const json_t *route = json_array_get(routes, i);
        if (!kp_streq(rest_json_text(route, "destination"), destination))
            continue;
        if (kp_streq(rest_json_text(route, "nexthop"), but))
            *ret_there = true;
        else
            r = change(os, router, "remove_extraroutes", destination, rest_json_text(route, "nexthop"), arena, error);
    }
    return r;
}

int os_route_ensure(void *state, const char *uid, const struct cloud_route *route, struct kp_error *error)
{
    struct os *os = state;
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    KP_AUTO(json_decref) json_t *routes = NULL;
    struct cloud_machine machine;
    const char *router = NULL;
    bool there = false;
    int r = read_router(os, uid, arena, &router, &routes, error);
    if (r == 0)
        r = os_machine_get(os, uid, route->machine, arena, &machine, error);
    if (r == 0)
        r = remove_routes(os, router, routes, route->destination, machine.address, arena, &there, error);
    if (r == 0 && !there)
        r = change(os, router, "add_extraroutes", route->destination, machine.address, arena, error);
    return r < 0 ? kp_wrap(error, "route to %s", route->destination) : 0;
}

int os_route_delete(void *state, const char *uid, const struct cloud_route *route, struct kp_error *error)
{
    struct os *os = state;
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    KP_AUTO(json_decref) json_t *routes = NULL;
    const char *router = NULL;
    bool there = false;
    int r = read_router(os, uid, arena, &router, &routes, error);
    if (r == 0)
        r = remove_routes(os, router, routes, route->destination, "", arena, &there, error);
    return r < 0 ? kp_wrap(error, "route to %s", route->destination) : 0;
}
