/* The pool behind a listener: algorithm, persistence, members and health monitor. */
#include "cloud/openstack/openstack_internal.h"

#define HEALTH_INTERVAL_S 5
#define HEALTH_TIMEOUT_S 3
#define HEALTHY 2
#define UNHEALTHY 3
#define RETRIES_MAX 10 /* that Octavia takes */

static const char *pool_protocol(const struct cloud_balancer_spec *spec, const struct cloud_listener *wanted)
{
    return wanted->protocol == CLOUD_UDP ? "UDP" : spec->proxy_protocol ? "PROXY" : "TCP";
}

static const char *algorithm_name(enum cloud_algorithm algorithm)
{
    switch (algorithm) {
    case CLOUD_LEAST_CONNECTIONS: return "LEAST_CONNECTIONS";
    case CLOUD_SOURCE_IP: return "SOURCE_IP";
    case CLOUD_ROUND_ROBIN: break;
    }
    return "ROUND_ROBIN";
}

static json_t *persistence(const struct cloud_balancer_spec *spec)
{
    return spec->sticky ? json_pack("{s:s}", "type", "SOURCE_IP") : json_null();
}

int os_members(struct os *os, const char *pool, struct kp_arena *arena, json_t **ret, struct kp_error *error)
{
    return os_list(os, "members.list", OS_BALANCER, kp_arena_printf(arena, "/lbaas/pools/%s/members", pool), "members", ret, error);
}

/* ---- members */

static bool is_member(const struct cloud_balancer_spec *spec, const struct cloud_listener *wanted, const struct cloud_target *target, const json_t *member)
{
    return kp_streq(rest_json_text(member, "address"), target->address) && rest_json_int(member, "protocol_port") == wanted->target_port &&
           rest_json_int(member, "monitor_port") == spec->health.port && kp_streq(rest_json_text(member, "name"), target->machine) &&
           rest_json_int(member, "weight") == 1 && rest_json_bool(member, "admin_state_up") && !kp_streq(rest_json_text(member, "provisioning_status"), "ERROR");
}

static bool same_members(const struct cloud_balancer_spec *spec, const struct cloud_listener *wanted, const json_t *have)
{
    if (json_array_size(have) != spec->n_targets)
        return false;
    for (size_t i = 0; i < spec->n_targets; i++) {
        bool found = false;
        for (size_t j = 0; j < json_array_size(have) && !found; j++)
            found = is_member(spec, wanted, &spec->targets[i], json_array_get(have, j));
        if (!found)
            return false;
    }
    return true;
}

/* All of them in one request: Octavia adds, changes and removes what differs. */
static int converge_members(struct os *os, const struct cloud_balancer_spec *spec, const struct cloud_listener *wanted, const char *pool,
                            const struct os_balancer_place *place, struct kp_arena *arena, struct kp_error *error)
{
    KP_AUTO(json_decref) json_t *have = NULL;
    int r = os_members(os, pool, arena, &have, error);
    if (r < 0 || same_members(spec, wanted, have))
        return r;
    json_t *members = json_array();
    for (size_t i = 0; i < spec->n_targets; i++) {
        json_t *member = json_pack("{s:s, s:s, s:i, s:s, s:i, s:b}", "name", spec->targets[i].machine, "address", spec->targets[i].address, "protocol_port", wanted->target_port,
                                   "subnet_id", place->subnet, "weight", 1, "admin_state_up", 1);
        json_object_set_new(member, "monitor_port", spec->health.port ? json_integer(spec->health.port) : json_null());
        json_array_append_new(members, member);
    }
    return os_balancer_change(os, place, "members.update", "PUT", kp_arena_printf(arena, "/lbaas/pools/%s/members", pool), json_pack("{s:o}", "members", members), error);
}

/* ---- health monitor */

static int bounded(int value, int standard, int max)
{
    return value <= 0 ? standard : value > max ? max : value;
}

static json_t *monitor_body(const struct cloud_balancer_spec *spec, const struct cloud_listener *wanted)
{
    const struct cloud_health_check *health = &spec->health;
    int delay = bounded(health->interval_s, HEALTH_INTERVAL_S, 3600), timeout = bounded(health->timeout_s, HEALTH_TIMEOUT_S, 3600);
    const char *type = health->kind == CLOUD_HEALTH_HTTP ? "HTTP" : wanted->protocol == CLOUD_UDP ? "UDP-CONNECT" : "TCP";
    json_t *body = json_pack("{s:s, s:i, s:i, s:i, s:i, s:b}", "type", type, "delay", delay, "timeout", timeout < delay ? timeout : delay, "max_retries",
                             bounded(health->healthy, HEALTHY, RETRIES_MAX), "max_retries_down", bounded(health->unhealthy, UNHEALTHY, RETRIES_MAX), "admin_state_up", 1);
    if (health->kind == CLOUD_HEALTH_HTTP) {
        json_object_set_new(body, "http_method", json_string("GET"));
        json_object_set_new(body, "url_path", json_string(kp_empty(health->path) ? "/" : health->path));
        json_object_set_new(body, "expected_codes", json_string("200"));
    }
    return body;
}

static bool same_monitor(const json_t *have, json_t *wanted)
{
    for (void *iter = json_object_iter(wanted); iter; iter = json_object_iter_next(wanted, iter))
        if (!json_equal(json_object_get(have, json_object_iter_key(iter)), json_object_iter_value(iter)))
            return false;
    return true;
}

static int make_monitor(struct os *os, json_t *body, const struct cloud_balancer_spec *spec, const char *pool, const struct os_balancer_place *place,
                        struct kp_arena *arena, struct kp_error *error)
{
    json_t *own = json_copy(body);
    json_object_set_new(own, "pool_id", json_string(pool));
    json_object_set_new(own, "name", json_string(os_name(spec->cluster_uid, spec->name, arena)));
    json_object_set_new(own, "tags", json_pack("[s]", kp_arena_printf(arena, OS_CLUSTER_TAG "%s", spec->cluster_uid)));
    return os_balancer_change(os, place, "healthmonitors.create", "POST", "/lbaas/healthmonitors", json_pack("{s:o}", "healthmonitor", own), error);
}

static int converge_monitor(struct os *os, const struct cloud_balancer_spec *spec, const struct cloud_listener *wanted, const char *pool, const char *id,
                            const struct os_balancer_place *place, struct kp_arena *arena, struct kp_error *error)
{
    KP_AUTO(json_decref) json_t *answer = NULL, *body = monitor_body(spec, wanted);
    if (!*id)
        return make_monitor(os, body, spec, pool, place, arena, error);
    const char *path = kp_arena_printf(arena, "/lbaas/healthmonitors/%s", id);
    int r = os_get(os, "healthmonitors.get", OS_BALANCER, path, &answer, error);
    if (r < 0)
        return r == KP_ENOTFOUND ? make_monitor(os, body, spec, pool, place, arena, error) : r;
    const json_t *have = rest_json_at(answer, "healthmonitor");
    bool failed = kp_streq(rest_json_text(have, "provisioning_status"), "ERROR");
    if (!failed && same_monitor(have, body))
        return 0;
    if (failed || !kp_streq(rest_json_text(have, "type"), rest_json_text(body, "type"))) { /* that cannot be changed */
        r = os_balancer_change(os, place, "healthmonitors.delete", "DELETE", path, NULL, error);
        return r < 0 ? r : make_monitor(os, body, spec, pool, place, arena, error);
    }
    json_t *changes = json_copy(body);
    json_object_del(changes, "type");
    return os_balancer_change(os, place, "healthmonitors.update", "PUT", path, json_pack("{s:o}", "healthmonitor", changes), error);
}

/* ---- the pool itself */

static int make_pool(struct os *os, const struct cloud_balancer_spec *spec, const struct cloud_listener *wanted, const char *listener, const struct os_balancer_place *place,
                     struct kp_arena *arena, const char **ret_id, struct kp_error *error)
{
    KP_AUTO(json_decref) json_t *answer = NULL;
    struct kp_error why = {0};
    const char *name = kp_arena_printf(arena, "%s-%s-%d", os_name(spec->cluster_uid, spec->name, arena), wanted->protocol == CLOUD_UDP ? "udp" : "tcp", wanted->port);
    json_t *body = json_pack("{s:s, s:s, s:s, s:s, s:o, s:[s]}", "listener_id", listener, "name", name, "protocol", pool_protocol(spec, wanted), "lb_algorithm",
                             algorithm_name(spec->algorithm), "session_persistence", persistence(spec), "tags",
                             kp_arena_printf(arena, OS_CLUSTER_TAG "%s", spec->cluster_uid));
    int r = os_send(os, "pools.create", OS_BALANCER, "POST", "/lbaas/pools", json_pack("{s:o}", "pool", body), &answer, &why);
    if (r == KP_ECONFLICT)
        return kp_fail(error, KP_EAGAIN, "%s", why.message);
    if (r < 0) {
        if (error)
            *error = why;
        return kp_wrap(error, "pool of port %d", wanted->port);
    }
    *ret_id = os_text(answer, "pool/id", arena);
    return os_balancer_settle(os, place, false, NULL, error);
}

static int update_pool(struct os *os, const struct cloud_balancer_spec *spec, const json_t *pool, const struct os_balancer_place *place, struct kp_arena *arena,
                       struct kp_error *error)
{
    bool sticky = kp_streq(rest_json_text(pool, "session_persistence/type"), "SOURCE_IP");
    bool other = json_is_object(rest_json_at(pool, "session_persistence")) && !sticky;
    if (kp_streq(rest_json_text(pool, "lb_algorithm"), algorithm_name(spec->algorithm)) && sticky == spec->sticky && !other && rest_json_bool(pool, "admin_state_up"))
        return 0;
    return os_balancer_change(os, place, "pools.update", "PUT", kp_arena_printf(arena, "/lbaas/pools/%s", rest_json_text(pool, "id")),
                              json_pack("{s:{s:s, s:o, s:b}}", "pool", "lb_algorithm", algorithm_name(spec->algorithm), "session_persistence", persistence(spec), "admin_state_up", 1),
                              error);
}

int os_pool_converge(struct os *os, const struct cloud_balancer_spec *spec, const struct cloud_listener *wanted, const char *listener_id, const json_t *pool,
                     const struct os_balancer_place *place, struct kp_arena *arena, struct kp_error *error)
{
    const char *id = pool ? os_text(pool, "id", arena) : "", *monitor = pool ? os_text(pool, "healthmonitor_id", arena) : "";
    bool failed = pool && kp_streq(rest_json_text(pool, "provisioning_status"), "ERROR");
    int r = 0;
    if (pool && (failed || !kp_streq(rest_json_text(pool, "protocol"), pool_protocol(spec, wanted)))) { /* a pool's protocol cannot be changed */
        r = os_balancer_change(os, place, "pools.delete", "DELETE", kp_arena_printf(arena, "/lbaas/pools/%s", id), NULL, error);
        pool = NULL;
        monitor = "";
    }
    if (r == 0)
        r = pool ? update_pool(os, spec, pool, place, arena, error) : make_pool(os, spec, wanted, listener_id, place, arena, &id, error);
    if (r == 0)
        r = converge_members(os, spec, wanted, id, place, arena, error);
    return r < 0 ? r : converge_monitor(os, spec, wanted, id, monitor, place, arena, error);
}
