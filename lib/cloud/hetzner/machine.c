/* Machines: servers of the project, found by the cluster's label and their own. */
#include "cloud/hetzner/hetzner_internal.h"

int hz_server_find(struct hz *hz, const char *uid, const char *name, json_t **ret, struct kp_error *error)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    KP_AUTO(json_decref) json_t *list = NULL;
    int r = hz_list(hz, "servers", hz_owned_query(uid, name, arena), &list, error);
    if (r < 0)
        return r;
    if (json_array_size(list) == 0)
        return kp_fail(error, KP_ENOTFOUND, "machine %s does not exist", name);
    *ret = json_incref(json_array_get(list, 0));
    return 0;
}

static const char *label(const json_t *server, const char *key, struct kp_arena *arena)
{
    return kp_arena_strdup(arena, rest_json_text(rest_json_at(server, "labels"), key));
}

void hz_server_read(const json_t *server, struct kp_arena *arena, struct cloud_machine *ret)
{
    const char *status = rest_json_text(server, "status"), *place = rest_json_text(server, "location/name");
    long long id = (long long)rest_json_int(server, "id");
    int32_t nanos = 0;
    place = kp_arena_strdup(arena, *place ? place : rest_json_text(server, "datacenter/location/name"));
    *ret = (struct cloud_machine){
        .id = kp_arena_printf(arena, "%lld", id), .provider_id = kp_arena_printf(arena, "hcloud://%lld", id), .name = label(server, HZ_NAME_LABEL, arena),
        .cluster_uid = label(server, HZ_CLUSTER_LABEL, arena), .role = label(server, HZ_ROLE_LABEL, arena), .pool = label(server, HZ_POOL_LABEL, arena),
        .machine_type = kp_arena_strdup(arena, rest_json_text(server, "server_type/name")), .image = label(server, HZ_IMAGE_LABEL, arena),
        .address = kp_arena_strdup(arena, rest_json_text(server, "private_net/0/ip")), .public_address = kp_arena_strdup(arena, rest_json_text(server, "public_net/ipv4/ip")),
        .region = place, .zone = place, /* as Hetzner's own controller: a location is both */
        .power = kp_streq(status, "off") ? CLOUD_POWER_OFF : CLOUD_POWER_ON,
    };
    if (!*ret->address) /* not attached yet */
        ret->address = label(server, HZ_ADDRESS_LABEL, arena);
    if (kp_parse_rfc3339(rest_json_text(server, "created"), &ret->created_s, &nanos) < 0)
        ret->created_s = 0;
}

int hz_machine_get(void *state, const char *uid, const char *name, struct kp_arena *arena, struct cloud_machine *ret, struct kp_error *error)
{
    struct hz *hz = state;
    KP_AUTO(json_decref) json_t *server = NULL;
    int r = hz_server_find(hz, uid, name, &server, error);
    if (r == 0)
        hz_server_read(server, arena, ret);
    return r;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct cloud_machine *)a)->name, ((const struct cloud_machine *)b)->name);
}

int hz_machine_list(void *state, const char *uid, struct kp_arena *arena, struct cloud_machine_list *ret, struct kp_error *error)
{
    struct hz *hz = state;
    KP_AUTO(json_decref) json_t *list = NULL;
    int r = hz_list(hz, "servers", hz_owned_query(uid, NULL, arena), &list, error);
    if (r < 0)
        return r;
    ret->len = json_array_size(list);
    ret->items = KP_NEW_ARRAY(arena, struct cloud_machine, ret->len + 1);
    for (size_t i = 0; i < ret->len; i++)
        hz_server_read(json_array_get(list, i), arena, &ret->items[i]);
    qsort(ret->items, ret->len, sizeof(*ret->items), by_name);
    return 0;
}

/* ---- power */
static int act(struct hz *hz, int64_t id, const char *verb, json_t *body, struct kp_error *error)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    return hz_act(hz, kp_arena_printf(arena, "servers.%s", verb), kp_arena_printf(arena, "/servers/%lld/actions/%s", (long long)id, verb), body, error);
}

static int wait_off(struct hz *hz, int64_t id, bool *ret_off, struct kp_error *error)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    const char *path = kp_arena_printf(arena, "/servers/%lld", (long long)id);
    int64_t deadline_ms = kp_mono_ms() + HZ_STOP_MS, poll_ms = 0;
    for (*ret_off = false; !*ret_off;) {
        KP_AUTO(json_decref) json_t *answer = NULL;
        int r = hz_do(hz, "servers.get", "GET", path, NULL, &answer, error);
        if (r < 0)
            return r;
        *ret_off = kp_streq(rest_json_text(answer, "server/status"), "off");
        if (!*ret_off && kp_mono_ms() > deadline_ms)
            return 0;
        if (!*ret_off)
            hz_pause(hz, &poll_ms);
    }
    return 0;
}

int hz_machine_power(void *state, const char *uid, const char *name, enum cloud_power_action action, struct kp_error *error)
{
    struct hz *hz = state;
    KP_AUTO(json_decref) json_t *server = NULL;
    int r = hz_server_find(hz, uid, name, &server, error);
    if (r < 0)
        return r;
    int64_t id = rest_json_int(server, "id");
    bool off = kp_streq(rest_json_text(server, "status"), "off");
    if (action == CLOUD_POWER_START)
        return off ? act(hz, id, "poweron", NULL, error) : 0;
    if (action == CLOUD_POWER_STOP && !off) {
        r = act(hz, id, "shutdown", NULL, error); /* presses the button: the action is over long before the machine is */
        if (r == 0)
            r = wait_off(hz, id, &off, error);
    }
    return r < 0 || off ? r : act(hz, id, "poweroff", NULL, error);
}

int hz_machine_delete(void *state, const char *uid, const char *name, struct kp_error *error)
{
    struct hz *hz = state;
    KP_AUTO(json_decref) json_t *server = NULL;
    int r = hz_server_find(hz, uid, name, &server, error);
    if (r == KP_ENOTFOUND)
        return 0;
    return r < 0 ? r : hz_delete(hz, "servers", rest_json_int(server, "id"), error);
}
