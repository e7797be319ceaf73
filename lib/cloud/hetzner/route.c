/* Routes of the cluster's network: to a pod network by way of a machine's address. */
#include "cloud/hetzner/hetzner_internal.h"

/* The machine that has the address in the network, or "". */
static const char *machine_at(const json_t *servers, int64_t network, const char *address, struct kp_arena *arena)
{
    for (size_t i = 0; i < json_array_size(servers); i++) {
        const json_t *server = json_array_get(servers, i), *nets = rest_json_at(server, "private_net");
        for (size_t j = 0; j < json_array_size(nets); j++)
            if (rest_json_int(json_array_get(nets, j), "network") == network && kp_streq(rest_json_text(json_array_get(nets, j), "ip"), address))
                return kp_arena_strdup(arena, rest_json_text(rest_json_at(server, "labels"), HZ_NAME_LABEL));
    }
    return "";
}

static int by_destination(const void *a, const void *b)
{
    return strcmp(((const struct cloud_route *)a)->destination, ((const struct cloud_route *)b)->destination);
}

int hz_route_list(void *state, const char *uid, struct kp_arena *arena, struct cloud_route_list *ret, struct kp_error *error)
{
    struct hz *hz = state;
    KP_AUTO(json_decref) json_t *network = NULL, *servers = NULL;
    int r = hz_network_find(hz, uid, &network, error);
    if (r == 0)
        r = hz_list(hz, "servers", hz_owned_query(uid, NULL, arena), &servers, error);
    if (r < 0)
        return r;
    const json_t *routes = rest_json_at(network, "routes");
    ret->len = json_array_size(routes);
    ret->items = KP_NEW_ARRAY(arena, struct cloud_route, ret->len + 1);
    for (size_t i = 0; i < ret->len; i++)
        ret->items[i] = (struct cloud_route){
            .destination = kp_arena_strdup(arena, rest_json_text(json_array_get(routes, i), "destination")),
            .machine = machine_at(servers, rest_json_int(network, "id"), rest_json_text(json_array_get(routes, i), "gateway"), arena),
        };
    qsort(ret->items, ret->len, sizeof(*ret->items), by_destination);
    return 0;
}

static int change(struct hz *hz, const json_t *network, const char *verb, const char *destination, const char *gateway, struct kp_error *error)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    return hz_act(hz, kp_arena_printf(arena, "networks.%s", verb), kp_arena_printf(arena, "/networks/%lld/actions/%s", (long long)rest_json_int(network, "id"), verb),
                  json_pack("{s:s, s:s}", "destination", destination, "gateway", gateway), error);
}

/* Removes the entry to the destination, unless it goes by `gateway`, which *ret_there tells. */
static int clear(struct hz *hz, const json_t *network, const char *destination, const char *gateway, bool *ret_there, struct kp_error *error)
{
    const json_t *routes = rest_json_at(network, "routes");
    int r = 0;
    *ret_there = false;
    for (size_t i = 0; r == 0 && i < json_array_size(routes); i++) {
        const char *by = rest_json_text(json_array_get(routes, i), "gateway");
        if (!kp_streq(rest_json_text(json_array_get(routes, i), "destination"), destination))
            continue;
        if (kp_streq(by, gateway)) {
            *ret_there = true;
            continue;
        }
        r = change(hz, network, "delete_route", destination, by, error);
        r = r == KP_ENOTFOUND ? 0 : r;
    }
    return r;
}

int hz_route_ensure(void *state, const char *uid, const struct cloud_route *route, struct kp_error *error)
{
    struct hz *hz = state;
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    KP_AUTO(json_decref) json_t *network = NULL;
    struct cloud_machine machine;
    bool there = false;
    int r = hz_network_find(hz, uid, &network, error);
    if (r == 0)
        r = hz_machine_get(hz, uid, route->machine, arena, &machine, error);
    if (r == 0 && !*machine.address)
        r = kp_fail(error, KP_EAGAIN, "machine %s has no address yet", route->machine);
    if (r == 0)
        r = clear(hz, network, route->destination, machine.address, &there, error);
    return r < 0 || there ? r : change(hz, network, "add_route", route->destination, machine.address, error);
}

int hz_route_delete(void *state, const char *uid, const struct cloud_route *route, struct kp_error *error)
{
    struct hz *hz = state;
    KP_AUTO(json_decref) json_t *network = NULL;
    bool there = false;
    int r = hz_network_find(hz, uid, &network, error);
    if (r == KP_ENOTFOUND)
        return 0;
    return r < 0 ? r : clear(hz, network, route->destination, "", &there, error);
}
