/* Load balancers as the API has them: found, read, deleted; what listeners are there. */
#include "cloud/hetzner/hetzner_internal.h"

#define INTERVAL_S 15
#define TIMEOUT_S 10
#define RETRIES 3

int hz_balancer_check(const struct cloud_balancer_spec *spec, struct kp_error *error)
{
    for (size_t i = 0; i < spec->n_listeners; i++)
        if (spec->listeners[i].protocol == CLOUD_UDP)
            return kp_fail(error, KP_EINVALID, "Hetzner's load balancers have no UDP, which port %d asks for: use the class kprov.dev/vip for that Service",
                           spec->listeners[i].port);
    if (spec->n_source_ranges > 0)
        return kp_fail(error, KP_EINVALID, "Hetzner's load balancers do not look at source addresses: leave out loadBalancerSourceRanges, and let the application "
                                           "look at the client's address, which the PROXY protocol tells it");
    if (spec->algorithm == CLOUD_SOURCE_IP)
        return kp_fail(error, KP_EINVALID, "Hetzner's load balancers distribute by round robin or least connections, not by source address");
    if (spec->sticky)
        return kp_fail(error, KP_EINVALID, "Hetzner's load balancers keep a client at a target by HTTP cookies alone: leave out sessionAffinity");
    return 0;
}

static int64_t within(int value, int fallback, int low, int high)
{
    int chosen = value ? value : fallback;
    return chosen < low ? low : chosen > high ? high : chosen;
}

json_t *hz_service(const struct cloud_balancer_spec *spec, const struct cloud_listener *listener)
{
    const struct cloud_health_check *health = &spec->health;
    bool http = health->kind == CLOUD_HEALTH_HTTP;
    int64_t interval = within(health->interval_s, INTERVAL_S, 3, 60), timeout = within(health->timeout_s, TIMEOUT_S, 1, (int)interval);
    json_t *check = json_pack("{s:s, s:I, s:I, s:I, s:I}", "protocol", http ? "http" : "tcp", "port", (json_int_t)(health->port ? health->port : listener->target_port),
                              "interval", (json_int_t)interval, "timeout", (json_int_t)timeout,
                              "retries", (json_int_t)within(health->unhealthy ? health->unhealthy : health->healthy, RETRIES, 1, 5));
    if (http)
        json_object_set_new(check, "http", json_pack("{s:s, s:[s], s:b}", "path", kp_empty(health->path) ? "/" : health->path, "status_codes", "200", "tls", 0));
    return json_pack("{s:s, s:i, s:i, s:b, s:o}", "protocol", "tcp", "listen_port", listener->port, "destination_port", listener->target_port,
                     "proxyprotocol", spec->proxy_protocol ? 1 : 0, "health_check", check);
}

bool hz_service_same(const json_t *wanted, const json_t *got)
{
    static const char *const numbers[] = {"listen_port", "destination_port", "health_check/port", "health_check/interval", "health_check/timeout", "health_check/retries"};
    static const char *const texts[] = {"protocol", "health_check/protocol", "health_check/http/path"};
    bool same = rest_json_bool(wanted, "proxyprotocol") == rest_json_bool(got, "proxyprotocol") &&
                rest_json_bool(wanted, "health_check/http/tls") == rest_json_bool(got, "health_check/http/tls");
    for (size_t i = 0; same && i < KP_ARRAY_LEN(numbers); i++)
        same = rest_json_int(wanted, numbers[i]) == rest_json_int(got, numbers[i]);
    for (size_t i = 0; same && i < KP_ARRAY_LEN(texts); i++)
        same = kp_streq(rest_json_text(wanted, texts[i]), rest_json_text(got, texts[i]));
    const json_t *codes = rest_json_at(wanted, "health_check/http/status_codes");
    return same && (!codes || json_equal(codes, rest_json_at(got, "health_check/http/status_codes")));
}

int hz_balancer_find(struct hz *hz, const char *uid, const char *name, json_t **ret, struct kp_error *error)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    KP_AUTO(json_decref) json_t *list = NULL;
    int r = hz_list(hz, "load_balancers", hz_owned_query(uid, name, arena), &list, error);
    if (r < 0)
        return r;
    if (json_array_size(list) == 0)
        return kp_fail(error, KP_ENOTFOUND, "load balancer %s does not exist", name);
    *ret = json_incref(json_array_get(list, 0));
    return 0;
}

void hz_balancer_read(const json_t *balancer, struct kp_arena *arena, struct cloud_balancer *ret)
{
    const json_t *labels = rest_json_at(balancer, "labels");
    const char *inside = rest_json_text(balancer, "private_net/0/ip");
    bool public = rest_json_bool(balancer, "public_net/enabled");
    const char *address = public ? rest_json_text(balancer, "public_net/ipv4/ip") : inside;
    *ret = (struct cloud_balancer){
        .id = kp_arena_printf(arena, "%lld", (long long)rest_json_int(balancer, "id")), .name = kp_arena_strdup(arena, rest_json_text(labels, HZ_NAME_LABEL)),
        .cluster_uid = kp_arena_strdup(arena, rest_json_text(labels, HZ_CLUSTER_LABEL)), .address = kp_arena_strdup(arena, address), .host_name = "", .problem = "",
        .state = *address && *inside ? CLOUD_BALANCER_ACTIVE : CLOUD_BALANCER_PENDING, /* without the network it reaches no target */
    };
}

int hz_balancer_get(void *state, const char *uid, const char *name, struct kp_arena *arena, struct cloud_balancer *ret, struct kp_error *error)
{
    struct hz *hz = state;
    KP_AUTO(json_decref) json_t *balancer = NULL;
    int r = hz_balancer_find(hz, uid, name, &balancer, error);
    if (r == 0)
        hz_balancer_read(balancer, arena, ret);
    return r;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct cloud_balancer *)a)->name, ((const struct cloud_balancer *)b)->name);
}

int hz_balancer_list(void *state, const char *uid, struct kp_arena *arena, struct cloud_balancer_list *ret, struct kp_error *error)
{
    struct hz *hz = state;
    KP_AUTO(json_decref) json_t *list = NULL;
    int r = hz_list(hz, "load_balancers", hz_owned_query(uid, NULL, arena), &list, error);
    if (r < 0)
        return r;
    ret->len = json_array_size(list);
    ret->items = KP_NEW_ARRAY(arena, struct cloud_balancer, ret->len + 1);
    for (size_t i = 0; i < ret->len; i++)
        hz_balancer_read(json_array_get(list, i), arena, &ret->items[i]);
    qsort(ret->items, ret->len, sizeof(*ret->items), by_name);
    return 0;
}

/* The port on the machines that a listener's connections go to. */
static int target_port(const json_t *balancer, int64_t listen_port)
{
    const json_t *services = rest_json_at(balancer, "services");
    for (size_t i = 0; i < json_array_size(services); i++)
        if (rest_json_int(json_array_get(services, i), "listen_port") == listen_port)
            return (int)rest_json_int(json_array_get(services, i), "destination_port");
    return (int)listen_port;
}

static const json_t *server_of(const json_t *servers, int64_t id)
{
    for (size_t i = 0; i < json_array_size(servers); i++)
        if (rest_json_int(json_array_get(servers, i), "id") == id)
            return json_array_get(servers, i);
    return NULL;
}

int hz_balancer_health(void *state, const char *uid, const char *name, struct kp_arena *arena, struct cloud_target_health_list *ret, struct kp_error *error)
{
    struct hz *hz = state;
    KP_AUTO(json_decref) json_t *balancer = NULL, *servers = NULL;
    int r = hz_balancer_find(hz, uid, name, &balancer, error);
    if (r == 0)
        r = hz_list(hz, "servers", hz_owned_query(uid, NULL, arena), &servers, error);
    if (r < 0)
        return r;
    const json_t *targets = rest_json_at(balancer, "targets");
    size_t room = json_array_size(targets) * CLOUD_LISTENERS_MAX;
    ret->len = 0;
    ret->items = KP_NEW_ARRAY(arena, struct cloud_target_health, room + 1);
    for (size_t i = 0; i < json_array_size(targets); i++) {
        const json_t *target = json_array_get(targets, i), *all = rest_json_at(target, "health_status");
        struct cloud_machine machine = {.name = "", .address = ""};
        const json_t *server = server_of(servers, rest_json_int(target, "server/id"));
        if (server)
            hz_server_read(server, arena, &machine);
        for (size_t j = 0; j < json_array_size(all) && ret->len < room; j++) {
            const char *status = rest_json_text(json_array_get(all, j), "status");
            ret->items[ret->len++] = (struct cloud_target_health){
                .machine = machine.name, .address = machine.address, .port = target_port(balancer, rest_json_int(json_array_get(all, j), "listen_port")),
                .known = !kp_streq(status, "unknown"), .healthy = kp_streq(status, "healthy"),
            };
        }
    }
    return 0;
}

int hz_balancer_delete(void *state, const char *uid, const char *name, struct kp_error *error)
{
    struct hz *hz = state;
    KP_AUTO(json_decref) json_t *balancer = NULL;
    int r = hz_balancer_find(hz, uid, name, &balancer, error);
    if (r == KP_ENOTFOUND)
        return 0;
    return r < 0 ? r : hz_delete(hz, "load_balancers", rest_json_int(balancer, "id"), error);
}
