/* What carries a cluster's tag, whose clusters there are, and the end of everything. */
#include "cloud/openstack/openstack_internal.h"

static const struct os_kind *const kinds[] = {&os_floating, &os_ports, &os_routers, &os_subnets, &os_networks, &os_groups};

static const char *label(const json_t *item, const char *key, struct kp_arena *arena)
{
    const char *name = os_tag_value(item, OS_NAME_TAG, arena), *shown = rest_json_text(item, key);
    return kp_arena_printf(arena, "%s (%s)", *name ? name : *shown ? shown : "unnamed", rest_json_text(item, "id"));
}

int os_owned(void *state, const char *uid, struct kp_arena *arena, struct kp_strings *ret, struct kp_error *error)
{
    struct os *os = state;
    KP_AUTO(json_decref) json_t *servers = NULL, *balancers = NULL;
    int r = os_servers(os, uid, &servers, error);
    if (r == 0)
        r = os_balancers(os, uid, &balancers, error);
    for (size_t i = 0; r == 0 && i < json_array_size(servers); i++) {
        const json_t *server = json_array_get(servers, i);
        kp_strings_add(ret, kp_arena_printf(arena, "machine %s (%s)", rest_json_text(server, "name"), rest_json_text(server, "id")));
    }
    for (size_t i = 0; r == 0 && i < json_array_size(balancers); i++)
        kp_strings_add(ret, kp_arena_printf(arena, "load balancer %s", label(json_array_get(balancers, i), "name", arena)));
    for (size_t k = 0; r == 0 && k < KP_ARRAY_LEN(kinds); k++) {
        KP_AUTO(json_decref) json_t *items = NULL;
        r = os_owned_list(os, kinds[k], uid, &items, error);
        for (size_t i = 0; r == 0 && i < json_array_size(items); i++)
            kp_strings_add(ret, kp_arena_printf(arena, "%s %s", kinds[k]->name, label(json_array_get(items, i), "name", arena)));
    }
    return r;
}

static void add_uids(const json_t *items, struct kp_arena *arena, struct kp_strings *ret)
{
    for (size_t i = 0; i < json_array_size(items); i++) {
        const char *uid = os_uid_of(json_array_get(items, i), arena);
        if (*uid)
            os_add_once(ret, uid);
    }
}

int os_clusters(void *state, struct kp_strings *ret_uids, struct kp_error *error)
{
    struct os *os = state;
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    KP_AUTO(json_decref) json_t *servers = NULL, *balancers = NULL;
    int r = os_servers(os, NULL, &servers, error);
    if (r == 0)
        r = os_balancers(os, NULL, &balancers, error);
    if (r < 0)
        return r;
    add_uids(servers, arena, ret_uids);
    add_uids(balancers, arena, ret_uids);
    for (size_t k = 0; r == 0 && k < KP_ARRAY_LEN(kinds); k++) {
        KP_AUTO(json_decref) json_t *items = NULL;
        r = os_owned_list(os, kinds[k], NULL, &items, error);
        add_uids(items, arena, ret_uids);
    }
    return r;
}

int os_purge(void *state, const char *uid, struct kp_error *error)
{
    struct os *os = state;
    int r = os_balancers_delete(os, uid, error); /* their ports keep the network from going */
    if (r == 0)
        r = os_servers_delete(os, uid, error);
    return r < 0 ? r : os_network_delete(os, uid, error);
}
