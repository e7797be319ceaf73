/* Machines: Nova's servers, tagged with the cluster's uid; what they are is in their metadata. */
#include "cloud/openstack/openstack_internal.h"

#define META_NAME "kprov-name"
#define META_ROLE "kprov-role"
#define META_POOL "kprov-pool"
#define META_IMAGE "kprov-image"
#define META_ADDRESS "kprov-address"
#define POWER_RUNNING 1 /* of OS-EXT-STS:power_state */

int os_servers(struct os *os, const char *uid, json_t **ret, struct kp_error *error)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    const char *path = uid ? kp_arena_printf(arena, "/servers/detail?tags=kprov-cluster%%3D%s", os_escape(uid, arena)) : "/servers/detail";
    return os_list(os, "servers.list", OS_COMPUTE, path, "servers", ret, error);
}

static bool is_deleted(const json_t *server)
{
    const char *status = rest_json_text(server, "status");
    return kp_streq(status, "DELETED") || kp_streq(status, "SOFT_DELETED");
}

static const char *meta(const json_t *server, const char *key)
{
    const json_t *value = json_object_get(rest_json_at(server, "metadata"), key);
    return json_is_string(value) ? json_string_value(value) : "";
}

static enum cloud_power power_of(const json_t *server)
{
    static const char *const on[] = {"ACTIVE", "BUILD", "REBOOT", "HARD_REBOOT", "PASSWORD", "RESIZE", "VERIFY_RESIZE", "MIGRATING"};
    for (size_t i = 0; i < KP_ARRAY_LEN(on); i++)
        if (kp_streq(rest_json_text(server, "status"), on[i]))
            return CLOUD_POWER_ON;
    return rest_json_int(server, "OS-EXT-STS:power_state") == POWER_RUNNING ? CLOUD_POWER_ON : CLOUD_POWER_OFF;
}

/* The floating address that Nova knows of, "" when there is none. */
static const char *public_address(const json_t *server, struct kp_arena *arena)
{
    const json_t *networks = rest_json_at(server, "addresses");
    for (void *iter = networks ? json_object_iter((json_t *)(uintptr_t)networks) : NULL; iter; iter = json_object_iter_next((json_t *)(uintptr_t)networks, iter)) {
        const json_t *list = json_object_iter_value(iter);
        for (size_t i = 0; i < json_array_size(list); i++)
            if (kp_streq(rest_json_text(json_array_get(list, i), "OS-EXT-IPS:type"), "floating"))
                return os_text(json_array_get(list, i), "addr", arena);
    }
    return "";
}

static void describe(const struct os *os, const json_t *server, struct kp_arena *arena, struct cloud_machine *ret)
{
    int32_t nanos;
    const char *id = os_text(server, "id", arena);
    *ret = (struct cloud_machine){
        .id = id, .provider_id = kp_arena_printf(arena, "openstack:///%s", id), .name = kp_arena_strdup(arena, meta(server, META_NAME)),
        .cluster_uid = os_uid_of(server, arena), .role = kp_arena_strdup(arena, meta(server, META_ROLE)), .pool = kp_arena_strdup(arena, meta(server, META_POOL)),
        .machine_type = os_text(server, "flavor/original_name", arena), .image = kp_arena_strdup(arena, meta(server, META_IMAGE)),
        .address = kp_arena_strdup(arena, meta(server, META_ADDRESS)), .region = kp_arena_strdup(arena, os->region),
        .zone = os_text(server, "OS-EXT-AZ:availability_zone", arena), .public_address = public_address(server, arena), .power = power_of(server),
    };
    if (kp_parse_rfc3339(rest_json_text(server, "created"), &ret->created_s, &nanos) < 0)
        ret->created_s = 0;
}

/* *ret is NULL when there is none. Of two - an answer was lost - the older one counts. */
static int find_server(struct os *os, const char *uid, const char *name, json_t **ret, struct kp_error *error)
{
    KP_AUTO(json_decref) json_t *servers = NULL;
    json_t *found = NULL;
    int r = os_servers(os, uid, &servers, error);
    for (size_t i = 0; r == 0 && i < json_array_size(servers); i++) {
        json_t *server = json_array_get(servers, i);
        if (!is_deleted(server) && kp_streq(meta(server, META_NAME), name) &&
            (!found || strcmp(rest_json_text(server, "created"), rest_json_text(found, "created")) < 0))
            found = server;
    }
    *ret = json_incref(found);
    return r;
}

static int need_server(struct os *os, const char *uid, const char *name, json_t **ret, struct kp_error *error)
{
    int r = find_server(os, uid, name, ret, error);
    return r == 0 && !*ret ? kp_fail(error, KP_ENOTFOUND, "cluster %s has no machine %s in this project", uid, name) : r;
}

static int get_server(struct os *os, const char *id, json_t **ret, struct kp_error *error)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    KP_AUTO(json_decref) json_t *answer = NULL;
    int r = os_get(os, "servers.get", OS_COMPUTE, kp_arena_printf(arena, "/servers/%s", id), &answer, error);
    if (r < 0)
        return r;
    *ret = json_incref(json_object_get(answer, "server"));
    return *ret ? 0 : kp_fail(error, KP_ECORRUPT, "servers.get: the answer has no server");
}

/* ---- the end of servers */

static int delete_server(struct os *os, const char *id, struct kp_error *error)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    return os_delete(os, "servers.delete", OS_COMPUTE, kp_arena_printf(arena, "/servers/%s", id), error);
}

static int wait_gone(struct os *os, const char *id, int64_t deadline_ms, struct kp_error *error)
{
    for (;;) {
        KP_AUTO(json_decref) json_t *server = NULL;
        struct kp_error why = {0};
        int r = get_server(os, id, &server, &why);
        if (r == KP_ENOTFOUND || (r == 0 && is_deleted(server)))
            return 0;
        if (r < 0) {
            if (error)
                *error = why;
            return r;
        }
        if (kp_mono_ms() > deadline_ms)
            return kp_fail(error, KP_ETIMEOUT, "server %s is not gone %d s after it was deleted, its status is %s: %s", id, OS_DELETE_MS / 1000,
                           rest_json_text(server, "status"), rest_json_text(server, "fault/message"));
        kp_sleep_ms(OS_POLL_MS);
    }
}

/* All at once, then waits for each. name NULL: every one of the cluster. */
static int delete_servers(struct os *os, const char *uid, const char *name, struct kp_error *error)
{
    KP_AUTO(json_decref) json_t *servers = NULL;
    int64_t deadline = kp_mono_ms() + OS_DELETE_MS;
    int r = os_servers(os, uid, &servers, error);
    for (size_t i = 0; r == 0 && i < json_array_size(servers); i++)
        if (!name || kp_streq(meta(json_array_get(servers, i), META_NAME), name))
            r = delete_server(os, rest_json_text(json_array_get(servers, i), "id"), error);
    for (size_t i = 0; r == 0 && i < json_array_size(servers); i++)
        if (!name || kp_streq(meta(json_array_get(servers, i), META_NAME), name))
            r = wait_gone(os, rest_json_text(json_array_get(servers, i), "id"), deadline, error);
    return r;
}

int os_machine_delete(void *state, const char *uid, const char *name, struct kp_error *error)
{
    struct os *os = state;
    int r = delete_servers(os, uid, name, error);
    return r < 0 ? kp_wrap(error, "machine %s", name) : 0;
}

int os_servers_delete(struct os *os, const char *uid, struct kp_error *error)
{
    return delete_servers(os, uid, NULL, error);
}

/* ---- making one */

static const char *zone_of(const char *zones, const char *name, struct kp_arena *arena)
{
    const char *list[32];
    size_t n = 0;
    for (const char *zone = zones; *zone && n < KP_ARRAY_LEN(list); zone += strcspn(zone, " ")) {
        zone += strspn(zone, " ");
        if (*zone)
            list[n++] = kp_arena_strndup(arena, zone, strcspn(zone, " "));
    }
    return n ? list[cloud_zone_of(name, n)] : "";
}

static int server_body(const struct cloud_machine_spec *spec, const struct os_flavor *flavor, const char *image, const char *port, const char *zone,
                       struct kp_arena *arena, json_t **ret, struct kp_error *error)
{
    KP_AUTO_BUF struct kp_buf data = {0};
    kp_base64_encode(&data, spec->user_data, spec->user_data_len);
    if (data.len > OS_USER_DATA_MAX)
        return kp_fail(error, KP_ETOOLARGE, "machine %s: its bootstrap config has %zu bytes in base64, and Nova takes %d", spec->name, data.len, OS_USER_DATA_MAX);
    json_t *tags = json_pack("[s]", kp_arena_printf(arena, OS_CLUSTER_TAG "%s", spec->cluster_uid));
    json_t *metadata = json_pack("{s:s, s:s, s:s, s:s, s:s}", META_NAME, spec->name, META_ROLE, spec->role ? spec->role : "", META_POOL, spec->pool ? spec->pool : "",
                                 META_IMAGE, spec->image, META_ADDRESS, spec->address);
    json_t *server = json_pack("{s:s, s:s, s:s, s:[{s:s}], s:o, s:o, s:b}", "name", spec->name, "imageRef", image, "flavorRef", flavor->id, "networks", "port", port,
                               "metadata", metadata, "tags", tags, "config_drive", 1);
    if (data.len)
        json_object_set_new(server, "user_data", json_stringn(data.data, data.len));
    if (*zone)
        json_object_set_new(server, "availability_zone", json_string(zone));
    *ret = json_pack("{s:o}", "server", server);
    return 0;
}

static int fail_build(const json_t *server, const char *name, const char *zone, struct kp_error *error)
{
    const char *why = rest_json_text(server, "fault/message");
    if (strstr(why, "No valid host"))
        return kp_fail(error, KP_EQUOTA, "machine %s: the cloud has no host with room for flavor %s%s%s: choose a smaller machine type or another zone, or try later (Nova says: %s)",
                       name, rest_json_text(server, "flavor/original_name"), *zone ? " in zone " : "", zone, why);
    return kp_fail(error, KP_EUNAVAILABLE, "machine %s: Nova could not build it: %s", name, *why ? why : "it does not say why");
}

/* Until it runs. One that fails is deleted, so that the next try begins anew. */
static int wait_built(struct os *os, const char *id, const char *name, const char *zone, json_t **ret, struct kp_error *error)
{
    for (int64_t deadline = kp_mono_ms() + OS_BUILD_MS;;) {
        KP_AUTO(json_decref) json_t *server = NULL;
        int r = get_server(os, id, &server, error);
        if (r < 0)
            return r;
        const char *status = rest_json_text(server, "status");
        if (kp_streq(status, "ERROR")) {
            struct kp_error left = {0};
            r = fail_build(server, name, zone, error);
            if (delete_server(os, id, &left) < 0 || wait_gone(os, id, kp_mono_ms() + OS_DELETE_MS, &left) < 0)
                kp_warn("a server that could not be built is not deleted", "server", id, "error", left.message, NULL);
            return r;
        }
        if (!kp_streq(status, "BUILD")) {
            *ret = KP_TAKE(server);
            return 0;
        }
        if (kp_mono_ms() > deadline)
            return kp_fail(error, KP_ETIMEOUT, "machine %s is not built after %d s (%s): the same command again waits on", name, OS_BUILD_MS / 1000,
                           rest_json_text(server, "OS-EXT-STS:task_state"));
        kp_sleep_ms(OS_POLL_MS);
    }
}

static int make_server(struct os *os, const struct cloud_machine_spec *spec, struct kp_arena *arena, json_t **ret, struct kp_error *error)
{
    KP_AUTO(json_decref) json_t *answer = NULL;
    struct os_record record;
    struct os_flavor flavor = {0};
    json_t *body = NULL;
    const char *port = NULL, *address = NULL, *image = NULL;
    int r = os_record_read(os, spec->cluster_uid, arena, &record, error);
    if (r == 0)
        r = os_port_find(os, spec->cluster_uid, spec->name, arena, &port, &address, error);
    if (r == 0 && !kp_streq(address, spec->address))
        r = kp_fail(error, KP_EINVALID, "the address reserved for it is %s, not %s", address, spec->address);
    if (r == 0)
        r = os_flavor_find(os, spec->machine_type, arena, &flavor, error);
    if (r == 0)
        r = os_image_ensure(os, spec->image, arena, &image, error);
    if (r < 0)
        return kp_wrap(error, "machine %s", spec->name);
    const char *zone = zone_of(record.zones, spec->name, arena);
    r = server_body(spec, &flavor, image, port, zone, arena, &body, error);
    if (r < 0)
        return r;
    r = os_send(os, "servers.create", OS_COMPUTE, "POST", "/servers", body, &answer, error);
    return r < 0 ? kp_wrap(error, "machine %s", spec->name) : wait_built(os, rest_json_text(answer, "server/id"), spec->name, zone, ret, error);
}

int os_machine_create(void *state, const struct cloud_machine_spec *spec, struct kp_arena *arena, struct cloud_machine *ret, struct kp_error *error)
{
    struct os *os = state;
    KP_AUTO(json_decref) json_t *server = NULL, *made = NULL;
    int r = find_server(os, spec->cluster_uid, spec->name, &server, error);
    if (r < 0)
        return kp_wrap(error, "machine %s", spec->name);
    bool failed = server && kp_streq(rest_json_text(server, "status"), "ERROR") && !*rest_json_text(server, "OS-SRV-USG:launched_at");
    if (failed) { /* of a run that ended before it could delete it */
        r = delete_servers(os, spec->cluster_uid, spec->name, error);
        if (r < 0)
            return r;
    }
    if (server && !failed && kp_streq(rest_json_text(server, "status"), "BUILD"))
        r = wait_built(os, rest_json_text(server, "id"), spec->name, "", &made, error);
    else if (server && !failed)
        made = json_incref(server);
    else
        r = make_server(os, spec, arena, &made, error);
    if (r == 0)
        describe(os, made, arena, ret);
    return r;
}

/* ---- looking at them */

int os_machine_get(void *state, const char *uid, const char *name, struct kp_arena *arena, struct cloud_machine *ret, struct kp_error *error)
{
    struct os *os = state;
    KP_AUTO(json_decref) json_t *server = NULL;
    int r = need_server(os, uid, name, &server, error);
    if (r == 0)
        describe(os, server, arena, ret);
    return r;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct cloud_machine *)a)->name, ((const struct cloud_machine *)b)->name);
}

int os_machine_list(void *state, const char *uid, struct kp_arena *arena, struct cloud_machine_list *ret, struct kp_error *error)
{
    struct os *os = state;
    KP_AUTO(json_decref) json_t *servers = NULL;
    int r = os_servers(os, uid, &servers, error);
    if (r < 0)
        return r;
    *ret = (struct cloud_machine_list){.items = KP_NEW_ARRAY(arena, struct cloud_machine, json_array_size(servers) + 1)};
    for (size_t i = 0; i < json_array_size(servers); i++)
        if (!is_deleted(json_array_get(servers, i)))
            describe(os, json_array_get(servers, i), arena, &ret->items[ret->len++]);
    if (ret->len)
        qsort(ret->items, ret->len, sizeof(*ret->items), by_name);
    return 0;
}

int os_machine_console(void *state, const char *uid, const char *name, struct kp_buf *out, struct kp_error *error)
{
    struct os *os = state;
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    KP_AUTO(json_decref) json_t *server = NULL, *answer = NULL;
    int r = need_server(os, uid, name, &server, error);
    if (r < 0)
        return r;
    r = os_send(os, "servers.console", OS_COMPUTE, "POST", kp_arena_printf(arena, "/servers/%s/action", rest_json_text(server, "id")),
                json_pack("{s:{}}", "os-getConsoleOutput"), &answer, error);
    if (r == KP_ENOTFOUND || r == KP_ECONFLICT) /* the server is there: its host has no console of it just now */
        return kp_fail(error, KP_EUNAVAILABLE, "machine %s has no console while it is %s", name, rest_json_text(server, "status"));
    if (r < 0)
        return r;
    const char *text = rest_json_text(answer, "output");
    size_t len = strlen(text), skip = len > CLOUD_CONSOLE_MAX ? len - CLOUD_CONSOLE_MAX : 0;
    kp_buf_append(out, text + skip, len - skip);
    return 0;
}

/* ---- power */

/* Nova refuses with a conflict what a machine's state does not allow just now: then it is looked at again. Pulling the plug is not offered; os-stop
   does so after the cloud's shutdown timeout. */
static int press(struct os *os, const json_t *server, enum cloud_power_action action, struct kp_error *error)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    bool broken = kp_streq(rest_json_text(server, "status"), "ERROR");
    json_t *body = action != CLOUD_POWER_START ? json_pack("{s:n}", "os-stop") : broken ? json_pack("{s:{s:s}}", "reboot", "type", "HARD") : json_pack("{s:n}", "os-start");
    struct kp_error why = {0};
    int r = os_send(os, action == CLOUD_POWER_START ? "servers.start" : "servers.stop", OS_COMPUTE, "POST",
                    kp_arena_printf(arena, "/servers/%s/action", rest_json_text(server, "id")), body, NULL, &why);
    if (r == KP_ECONFLICT)
        return 0;
    if (r < 0 && error)
        *error = why;
    return r;
}

int os_machine_power(void *state, const char *uid, const char *name, enum cloud_power_action action, struct kp_error *error)
{
    struct os *os = state;
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    KP_AUTO(json_decref) json_t *found = NULL;
    enum cloud_power wanted = action == CLOUD_POWER_START ? CLOUD_POWER_ON : CLOUD_POWER_OFF;
    int r = need_server(os, uid, name, &found, error);
    if (r < 0)
        return r;
    const char *id = os_text(found, "id", arena);
    for (int64_t deadline = kp_mono_ms() + OS_POWER_MS;;) {
        KP_AUTO(json_decref) json_t *server = NULL;
        r = get_server(os, id, &server, error);
        if (r < 0)
            return r;
        bool busy = *rest_json_text(server, "OS-EXT-STS:task_state") != 0;
        if (!busy && power_of(server) == wanted && !kp_streq(rest_json_text(server, "status"), "BUILD"))
            return 0;
        if (!busy && (r = press(os, server, action, error)) < 0)
            return kp_wrap(error, "power of machine %s", name);
        if (kp_mono_ms() > deadline)
            return kp_fail(error, KP_ETIMEOUT, "machine %s is %s after %d s, task %s", name, rest_json_text(server, "status"), OS_POWER_MS / 1000,
                           busy ? rest_json_text(server, "OS-EXT-STS:task_state") : "none");
        kp_sleep_ms(OS_POLL_MS);
    }
}
