/* The listeners of a balancer, one by one: what is too much goes, what differs is changed, what is missing is made. */
#include "cloud/openstack/openstack_internal.h"

static const char *protocol_name(enum cloud_protocol protocol)
{
    return protocol == CLOUD_UDP ? "UDP" : "TCP";
}

int os_balancer_parts(struct os *os, const char *what, const char *id, struct kp_arena *arena, json_t **ret, struct kp_error *error)
{
    KP_AUTO(json_decref) json_t *all = NULL;
    const char *path = kp_arena_printf(arena, "/lbaas/%s?project_id=%s", what, os_escape(os->project_id, arena));
    int r = os_list(os, kp_streq(what, "pools") ? "pools.list" : "listeners.list", OS_BALANCER, path, what, &all, error);
    if (r < 0)
        return r;
    *ret = json_array();
    for (size_t i = 0; i < json_array_size(all); i++) {
        json_t *one = json_array_get(all, i);
        const json_t *balancers = rest_json_at(one, "loadbalancers");
        for (size_t j = 0; j < json_array_size(balancers); j++)
            if (kp_streq(rest_json_text(json_array_get(balancers, j), "id"), id))
                json_array_append(*ret, one);
    }
    return 0;
}

static json_t *find_listener(json_t *listeners, const struct cloud_listener *wanted)
{
    for (size_t i = 0; i < json_array_size(listeners); i++) {
        json_t *one = json_array_get(listeners, i);
        if (kp_streq(rest_json_text(one, "protocol"), protocol_name(wanted->protocol)) && rest_json_int(one, "protocol_port") == wanted->port)
            return one;
    }
    return NULL;
}

static bool is_wanted(const struct cloud_balancer_spec *spec, const json_t *listener)
{
    for (size_t i = 0; i < spec->n_listeners; i++)
        if (kp_streq(rest_json_text(listener, "protocol"), protocol_name(spec->listeners[i].protocol)) &&
            rest_json_int(listener, "protocol_port") == spec->listeners[i].port)
            return !kp_streq(rest_json_text(listener, "provisioning_status"), "ERROR"); /* that one is made anew */
    return false;
}

static int remove_one(struct os *os, const struct os_balancer_place *place, const char *what, const char *id, struct kp_arena *arena, struct kp_error *error)
{
    return os_balancer_change(os, place, kp_streq(what, "pools") ? "pools.delete" : "listeners.delete", "DELETE", kp_arena_printf(arena, "/lbaas/%s/%s", what, id), NULL,
                              error);
}

/* Listeners that nobody wants, and pools that no listener has: they stay behind when a listener goes. */
static int remove_surplus(struct os *os, const struct cloud_balancer_spec *spec, const struct os_balancer_place *place, json_t *listeners, json_t *pools,
                          struct kp_arena *arena, struct kp_error *error)
{
    int r = 0;
    for (size_t i = 0; r == 0 && i < json_array_size(listeners);) {
        const json_t *listener = json_array_get(listeners, i);
        if (is_wanted(spec, listener)) {
            i++;
            continue;
        }
        r = remove_one(os, place, "listeners", rest_json_text(listener, "id"), arena, error);
        json_array_remove(listeners, i);
    }
    for (size_t i = 0; r == 0 && i < json_array_size(pools);) {
        const char *id = rest_json_text(json_array_get(pools, i), "id");
        bool used = false;
        for (size_t j = 0; j < json_array_size(listeners) && !used; j++)
            used = kp_streq(rest_json_text(json_array_get(listeners, j), "default_pool_id"), id);
        if (used) {
            i++;
            continue;
        }
        r = remove_one(os, place, "pools", id, arena, error);
        json_array_remove(pools, i);
    }
    return r;
}

static json_t *ranges_of(const struct cloud_balancer_spec *spec)
{
    json_t *ranges = json_array();
    for (size_t i = 0; i < spec->n_source_ranges; i++)
        json_array_append_new(ranges, json_string(spec->source_ranges[i]));
    return ranges;
}

static bool same_ranges(const struct cloud_balancer_spec *spec, const json_t *listener)
{
    const json_t *have = rest_json_at(listener, "allowed_cidrs");
    size_t same = 0;
    for (size_t i = 0; i < spec->n_source_ranges; i++)
        same += rest_json_has(listener, "allowed_cidrs", spec->source_ranges[i]);
    return same == spec->n_source_ranges && json_array_size(have) == same;
}

static json_t *tags_of(const struct cloud_balancer_spec *spec, struct kp_arena *arena)
{
    return json_pack("[s]", kp_arena_printf(arena, OS_CLUSTER_TAG "%s", spec->cluster_uid));
}

static int make_listener(struct os *os, const struct cloud_balancer_spec *spec, const struct cloud_listener *wanted, const struct os_balancer_place *place,
                         struct kp_arena *arena, const char **ret_id, struct kp_error *error)
{
    KP_AUTO(json_decref) json_t *answer = NULL;
    struct kp_error why = {0};
    const char *name = kp_arena_printf(arena, "%s-%s-%d", os_name(spec->cluster_uid, spec->name, arena), wanted->protocol == CLOUD_UDP ? "udp" : "tcp", wanted->port);
    json_t *body = json_pack("{s:s, s:s, s:s, s:i, s:o}", "loadbalancer_id", place->id, "name", name, "protocol", protocol_name(wanted->protocol), "protocol_port", wanted->port,
                             "tags", tags_of(spec, arena));
    if (spec->n_source_ranges)
        json_object_set_new(body, "allowed_cidrs", ranges_of(spec));
    int r = os_send(os, "listeners.create", OS_BALANCER, "POST", "/lbaas/listeners", json_pack("{s:o}", "listener", body), &answer, &why);
    if (r == KP_ECONFLICT) /* at work, or it is there since we looked */
        return kp_fail(error, KP_EAGAIN, "%s", why.message);
    if (r < 0) {
        if (error)
            *error = why;
        return kp_wrap(error, "listener %s %d", protocol_name(wanted->protocol), wanted->port);
    }
    *ret_id = os_text(answer, "listener/id", arena);
    return os_balancer_settle(os, place, false, NULL, error);
}

static int converge_listener(struct os *os, const struct cloud_balancer_spec *spec, const struct cloud_listener *wanted, const struct os_balancer_place *place,
                             json_t *listeners, json_t *pools, struct kp_arena *arena, struct kp_error *error)
{
    const json_t *listener = find_listener(listeners, wanted), *pool = NULL;
    const char *id = "";
    int r = 0;
    if (!listener) {
        r = make_listener(os, spec, wanted, place, arena, &id, error);
    } else {
        id = os_text(listener, "id", arena);
        const char *pool_id = rest_json_text(listener, "default_pool_id");
        for (size_t i = 0; i < json_array_size(pools); i++)
            if (*pool_id && kp_streq(rest_json_text(json_array_get(pools, i), "id"), pool_id))
                pool = json_array_get(pools, i);
        if (!same_ranges(spec, listener) || !rest_json_bool(listener, "admin_state_up"))
            r = os_balancer_change(os, place, "listeners.update", "PUT", kp_arena_printf(arena, "/lbaas/listeners/%s", id),
                                   json_pack("{s:{s:o, s:b}}", "listener", "allowed_cidrs", ranges_of(spec), "admin_state_up", 1), error);
    }
    return r < 0 ? r : os_pool_converge(os, spec, wanted, id, pool, place, arena, error);
}

int os_listeners_converge(struct os *os, const struct cloud_balancer_spec *spec, const struct os_balancer_place *place, struct kp_arena *arena, struct kp_error *error)
{
    KP_AUTO(json_decref) json_t *listeners = NULL, *pools = NULL;
    int r = os_balancer_parts(os, "listeners", place->id, arena, &listeners, error);
    if (r == 0)
        r = os_balancer_parts(os, "pools", place->id, arena, &pools, error);
    if (r == 0)
        r = remove_surplus(os, spec, place, listeners, pools, arena, error);
    for (size_t i = 0; r == 0 && i < spec->n_listeners; i++)
        r = converge_listener(os, spec, &spec->listeners[i], place, listeners, pools, arena, error);
    return r;
}
