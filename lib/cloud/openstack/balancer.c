/* Octavia's load balancers: made, mended, published and deleted. While one is PENDING_* Octavia takes no other change of it. */
#include "cloud/openstack/openstack_internal.h"

int os_balancers(struct os *os, const char *uid, json_t **ret, struct kp_error *error)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    struct kp_error why = {0};
    if (!os_has_service(os, OS_BALANCER, &why)) {
        if (why.code && error)
            *error = why;
        *ret = why.code ? NULL : json_array();
        return why.code;
    }
    const char *filter = uid ? kp_arena_printf(arena, "&tags=kprov-cluster%%3D%s", os_escape(uid, arena)) : "";
    return os_list(os, "loadbalancers.list", OS_BALANCER, kp_arena_printf(arena, "/lbaas/loadbalancers?project_id=%s%s", os_escape(os->project_id, arena), filter),
                   "loadbalancers", ret, error);
}

static bool is_going(const json_t *balancer)
{
    const char *status = rest_json_text(balancer, "provisioning_status");
    return kp_streq(status, "PENDING_DELETE") || kp_streq(status, "DELETED");
}

/* *ret is NULL when there is none. */
static int find(struct os *os, const char *uid, const char *name, json_t **ret, struct kp_error *error)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    KP_AUTO(json_decref) json_t *all = NULL;
    *ret = NULL;
    int r = os_balancers(os, uid, &all, error);
    for (size_t i = 0; r == 0 && i < json_array_size(all); i++) {
        json_t *one = json_array_get(all, i);
        if (kp_streq(os_tag_value(one, OS_NAME_TAG, arena), name) && (!*ret || is_going(*ret))) {
            if (*ret)
                json_decref(*ret);
            *ret = json_incref(one);
        }
    }
    return r;
}

int os_balancer_find(struct os *os, const char *uid, const char *name, json_t **ret, struct kp_error *error)
{
    int r = find(os, uid, name, ret, error);
    if (r == 0 && *ret && kp_streq(rest_json_text(*ret, "provisioning_status"), "DELETED")) {
        json_decref(*ret);
        *ret = NULL;
    }
    return r == 0 && !*ret ? kp_fail(error, KP_ENOTFOUND, "cluster %s has no load balancer %s in this project", uid, name) : r;
}

int os_balancer_settle(struct os *os, const struct os_balancer_place *place, bool gone, json_t **ret, struct kp_error *error)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    const char *path = kp_arena_printf(arena, "/lbaas/loadbalancers/%s", place->id);
    for (;;) {
        KP_AUTO(json_decref) json_t *answer = NULL;
        struct kp_error why = {0};
        int r = os_get(os, "loadbalancers.get", OS_BALANCER, path, &answer, &why);
        if (r == KP_ENOTFOUND && gone)
            return 0;
        if (r < 0) {
            if (error)
                *error = why;
            return r;
        }
        json_t *balancer = json_object_get(answer, "loadbalancer");
        const char *status = rest_json_text(balancer, "provisioning_status");
        if (gone ? kp_streq(status, "DELETED") : !kp_starts_with(status, "PENDING_")) {
            if (ret)
                *ret = json_incref(balancer);
            return 0;
        }
        if (gone && kp_streq(status, "ERROR"))
            return kp_fail(error, KP_EUNAVAILABLE, "load balancer %s cannot be deleted, Octavia has it in ERROR: its administrator can tell why", place->id);
        if (kp_mono_ms() > place->deadline_ms)
            return kp_fail(error, KP_EAGAIN, "load balancer %s is %s", place->id, status);
        kp_sleep_ms(OS_POLL_MS);
    }
}

int os_balancer_change(struct os *os, const struct os_balancer_place *place, const char *operation, const char *method, const char *path, json_t *body,
                       struct kp_error *error)
{
    struct kp_error why = {0};
    const struct os_request request = {.operation = operation, .service = OS_BALANCER, .method = method, .path = path, .body = body};
    int r = os_do(os, &request, NULL, &why);
    if (r == KP_ENOTFOUND && kp_streq(method, "DELETE"))
        return 0;
    if (r == KP_ECONFLICT && strstr(why.message, "immutable"))
        return kp_fail(error, KP_EAGAIN, "%s", why.message);
    if (r < 0) {
        if (error)
            *error = why;
        return r;
    }
    return os_balancer_settle(os, place, false, NULL, error);
}

static int validate(const struct cloud_balancer_spec *spec, struct kp_error *error)
{
    if (!spec->proxy_protocol)
        return 0;
    for (size_t i = 0; i < spec->n_listeners; i++)
        if (spec->listeners[i].protocol == CLOUD_UDP)
            return kp_fail(error, KP_EINVALID, "load balancer %s: Octavia has no PROXY protocol for UDP (port %d)", spec->name, spec->listeners[i].port);
    return 0;
}

static int create(struct os *os, const struct cloud_balancer_spec *spec, const char *subnet, const char *address, struct kp_arena *arena, json_t **ret, struct kp_error *error)
{
    KP_AUTO(json_decref) json_t *answer = NULL;
    json_t *tags = json_pack("[s, s]", kp_arena_printf(arena, OS_CLUSTER_TAG "%s", spec->cluster_uid), kp_arena_printf(arena, OS_NAME_TAG "%s", spec->name));
    json_t *body = json_pack("{s:s, s:s, s:s, s:o}", "name", os_name(spec->cluster_uid, spec->name, arena), "description", spec->description ? spec->description : "",
                             "vip_subnet_id", subnet, "tags", tags);
    if (*address)
        json_object_set_new(body, "vip_address", json_string(address));
    int r = os_send(os, "loadbalancers.create", OS_BALANCER, "POST", "/lbaas/loadbalancers", json_pack("{s:o}", "loadbalancer", body), &answer, error);
    if ((r == KP_ECONFLICT || r == KP_EINVALID) && *address)
        return kp_fail(error, KP_EINVALID, "load balancer %s cannot have the address %s: %s", spec->name, address, error ? error->message : "");
    if (r < 0)
        return kp_wrap(error, "load balancer %s", spec->name);
    *ret = json_incref(json_object_get(answer, "loadbalancer"));
    return *ret ? 0 : kp_fail(error, KP_ECORRUPT, "loadbalancers.create: the answer has no loadbalancer");
}

static int remove_balancer(struct os *os, const struct os_balancer_place *place, struct kp_error *error)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    struct kp_error why = {0};
    int r = os_delete(os, "loadbalancers.delete", OS_BALANCER, kp_arena_printf(arena, "/lbaas/loadbalancers/%s?cascade=true", place->id), &why);
    if (r == KP_ECONFLICT) /* at work, or going already */
        r = 0;
    if (r < 0 && error)
        *error = why;
    return r < 0 ? r : os_balancer_settle(os, place, true, NULL, error);
}

static void describe(const json_t *balancer, const char *floating, struct kp_arena *arena, struct cloud_balancer *ret)
{
    const char *status = rest_json_text(balancer, "provisioning_status");
    bool failed = kp_streq(status, "ERROR"), active = kp_streq(status, "ACTIVE");
    *ret = (struct cloud_balancer){
        .id = os_text(balancer, "id", arena), .name = os_tag_value(balancer, OS_NAME_TAG, arena), .cluster_uid = os_uid_of(balancer, arena),
        .address = *floating ? floating : os_text(balancer, "vip_address", arena), .host_name = "",
        .state = failed ? CLOUD_BALANCER_FAILED : active ? CLOUD_BALANCER_ACTIVE : CLOUD_BALANCER_PENDING,
        .problem = failed ? "Octavia has it in ERROR" : "",
    };
}

/* The floating address at its port, "" when there is none. */
static int read_floating(struct os *os, const json_t *balancer, struct kp_arena *arena, const char **ret, struct kp_error *error)
{
    KP_AUTO(json_decref) json_t *items = NULL;
    const char *port = rest_json_text(balancer, "vip_port_id");
    *ret = "";
    if (!*port)
        return 0;
    int r = os_list(os, "floatingips.list", OS_NETWORK, kp_arena_printf(arena, "/floatingips?port_id=%s", os_escape(port, arena)), "floatingips", &items, error);
    if (r == 0 && json_array_size(items))
        *ret = os_text(json_array_get(items, 0), "floating_ip_address", arena);
    return r;
}

/* One that Octavia failed at, or that has another address than the one wanted, is made anew. */
static int have_one(struct os *os, const struct cloud_balancer_spec *spec, struct os_balancer_place *place, bool vip_is_wanted, struct kp_arena *arena, json_t **ret,
                    struct kp_error *error)
{
    KP_AUTO(json_decref) json_t *found = NULL, *settled = NULL;
    const char *address = vip_is_wanted && spec->address ? spec->address : "";
    int r = find(os, spec->cluster_uid, spec->name, &found, error);
    if (r < 0)
        return r;
    if (found) {
        place->id = os_text(found, "id", arena);
        bool going = is_going(found);
        r = os_balancer_settle(os, place, going, &settled, error);
        *ret = json_incref(r == KP_EAGAIN ? found : settled);
        if (r < 0)
            return r;
        bool moved = *ret && *address && !kp_streq(rest_json_text(*ret, "vip_address"), address);
        bool failed = *ret && kp_streq(rest_json_text(*ret, "provisioning_status"), "ERROR");
        if (*ret && !going && !moved && !failed)
            return 0;
        if (failed && !*address && spec->internal) /* its clients go on with the address they know */
            address = os_text(*ret, "vip_address", arena);
        if (failed)
            kp_warn("Octavia has a load balancer in ERROR: it is made anew", "balancer", spec->name, "id", place->id, NULL);
        if (*ret && !going)
            r = remove_balancer(os, place, error);
        if (*ret)
            json_decref(*ret);
        *ret = NULL;
        if (r < 0)
            return r;
    }
    KP_AUTO(json_decref) json_t *made = NULL;
    r = create(os, spec, place->subnet, address, arena, &made, error);
    if (r < 0)
        return r;
    place->id = os_text(made, "id", arena);
    r = os_balancer_settle(os, place, false, ret, error);
    if (r == KP_EAGAIN)
        *ret = json_incref(made);
    return r;
}

static int converge(struct os *os, const struct cloud_balancer_spec *spec, const struct os_record *record, const struct os_balancer_place *place, const json_t *balancer,
                    struct kp_arena *arena, const char **ret_floating, struct kp_error *error)
{
    int r = 0;
    const char *description = spec->description ? spec->description : "";
    if (kp_streq(rest_json_text(balancer, "provisioning_status"), "ERROR"))
        return kp_fail(error, KP_EUNAVAILABLE, "load balancer %s: Octavia could not make it and has it in ERROR: its administrator can tell why", spec->name);
    /* First, for it does not wait for anything. */
    if (!spec->internal && *record->external)
        r = os_floating_ensure(os, spec->cluster_uid, spec->name, record->external, rest_json_text(balancer, "vip_port_id"), spec->address, arena, ret_floating, error);
    else
        r = os_floating_release(os, spec->cluster_uid, rest_json_text(balancer, "vip_port_id"), error);
    if (r < 0)
        return r;
    if (!kp_streq(rest_json_text(balancer, "description"), description) || !rest_json_bool(balancer, "admin_state_up"))
        r = os_balancer_change(os, place, "loadbalancers.update", "PUT", kp_arena_printf(arena, "/lbaas/loadbalancers/%s", place->id),
                               json_pack("{s:{s:s, s:b}}", "loadbalancer", "description", description, "admin_state_up", 1), error);
    return r < 0 ? r : os_listeners_converge(os, spec, place, arena, error);
}

int os_balancer_ensure(void *state, const struct cloud_balancer_spec *spec, struct kp_arena *arena, struct cloud_balancer *ret, struct kp_error *error)
{
    struct os *os = state;
    KP_AUTO(json_decref) json_t *balancer = NULL;
    struct os_record record;
    const char *floating = "";
    int r = validate(spec, error);
    if (r == 0)
        r = os_record_read(os, spec->cluster_uid, arena, &record, error);
    if (r < 0)
        return r;
    struct os_balancer_place place = {.uid = spec->cluster_uid, .subnet = record.subnet, .deadline_ms = kp_mono_ms() + OS_SETTLE_MS};
    r = have_one(os, spec, &place, spec->internal || !*record.external, arena, &balancer, error);
    if (r == 0)
        r = converge(os, spec, &record, &place, balancer, arena, &floating, error);
    if (balancer && (r == 0 || r == KP_EAGAIN)) {
        describe(balancer, floating, arena, ret);
        if (r == KP_EAGAIN)
            ret->state = CLOUD_BALANCER_PENDING;
        if (r == KP_EAGAIN && !*floating && !spec->internal && *record.external)
            ret->address = ""; /* the public one is still to come */
    }
    return r < 0 && r != KP_EAGAIN ? kp_wrap(error, "load balancer %s", spec->name) : r;
}

int os_balancer_get(void *state, const char *uid, const char *name, struct kp_arena *arena, struct cloud_balancer *ret, struct kp_error *error)
{
    struct os *os = state;
    KP_AUTO(json_decref) json_t *balancer = NULL;
    const char *floating = "";
    int r = os_balancer_find(os, uid, name, &balancer, error);
    if (r == 0)
        r = read_floating(os, balancer, arena, &floating, error);
    if (r == 0)
        describe(balancer, floating, arena, ret);
    return r;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct cloud_balancer *)a)->name, ((const struct cloud_balancer *)b)->name);
}

int os_balancer_list(void *state, const char *uid, struct kp_arena *arena, struct cloud_balancer_list *ret, struct kp_error *error)
{
    struct os *os = state;
    KP_AUTO(json_decref) json_t *all = NULL;
    int r = os_balancers(os, uid, &all, error);
    *ret = (struct cloud_balancer_list){.items = KP_NEW_ARRAY(arena, struct cloud_balancer, json_array_size(all) + 1)};
    for (size_t i = 0; r == 0 && i < json_array_size(all); i++) {
        const char *floating = "";
        if (is_going(json_array_get(all, i)))
            continue;
        r = read_floating(os, json_array_get(all, i), arena, &floating, error);
        describe(json_array_get(all, i), floating, arena, &ret->items[ret->len++]);
    }
    if (ret->len)
        qsort(ret->items, ret->len, sizeof(*ret->items), by_name);
    return r;
}

/* ---- health */

static int add_health(struct os *os, const json_t *pool, struct kp_arena *arena, struct cloud_target_health_list *ret, struct kp_error *error)
{
    KP_AUTO(json_decref) json_t *members = NULL;
    int r = os_members(os, rest_json_text(pool, "id"), arena, &members, error);
    for (size_t i = 0; r == 0 && i < json_array_size(members); i++) {
        const json_t *member = json_array_get(members, i);
        const char *status = rest_json_text(member, "operating_status");
        bool healthy = kp_streq(status, "ONLINE");
        ret->items[ret->len++] = (struct cloud_target_health){.machine = os_text(member, "name", arena), .address = os_text(member, "address", arena),
                                                             .port = (int)rest_json_int(member, "protocol_port"), .healthy = healthy,
                                                             .known = healthy || kp_streq(status, "ERROR") || kp_streq(status, "DEGRADED")};
    }
    return r;
}

int os_balancer_health(void *state, const char *uid, const char *name, struct kp_arena *arena, struct cloud_target_health_list *ret, struct kp_error *error)
{
    struct os *os = state;
    KP_AUTO(json_decref) json_t *balancer = NULL, *pools = NULL;
    size_t n = 0;
    int r = os_balancer_find(os, uid, name, &balancer, error);
    if (r == 0)
        r = os_balancer_parts(os, "pools", rest_json_text(balancer, "id"), arena, &pools, error);
    for (size_t i = 0; i < json_array_size(pools); i++)
        n += json_array_size(rest_json_at(json_array_get(pools, i), "members"));
    *ret = (struct cloud_target_health_list){.items = KP_NEW_ARRAY(arena, struct cloud_target_health, n + CLOUD_MACHINES_MAX)};
    for (size_t i = 0; r == 0 && i < json_array_size(pools) && ret->len <= n; i++)
        r = add_health(os, json_array_get(pools, i), arena, ret, error);
    return r;
}

/* ---- the end */

int os_balancer_delete(void *state, const char *uid, const char *name, struct kp_error *error)
{
    struct os *os = state;
    KP_AUTO(json_decref) json_t *balancer = NULL;
    struct os_balancer_place place = {.uid = uid, .deadline_ms = kp_mono_ms() + OS_SETTLE_MS};
    int r = find(os, uid, name, &balancer, error);
    if (r < 0 || !balancer)
        return r;
    place.id = rest_json_text(balancer, "id");
    if (*rest_json_text(balancer, "vip_port_id"))
        r = os_floating_release(os, uid, rest_json_text(balancer, "vip_port_id"), error);
    if (r == 0)
        r = remove_balancer(os, &place, error);
    return r < 0 && r != KP_EAGAIN ? kp_wrap(error, "delete load balancer %s", name) : r;
}

int os_balancers_delete(struct os *os, const char *uid, struct kp_error *error)
{
    KP_AUTO(json_decref) json_t *all = NULL;
    int64_t deadline = kp_mono_ms() + OS_DELETE_MS;
    int r = os_balancers(os, uid, &all, error);
    for (size_t i = 0; r == 0 && i < json_array_size(all); i++) {
        const json_t *balancer = json_array_get(all, i);
        const struct os_balancer_place place = {.uid = uid, .id = rest_json_text(balancer, "id"), .deadline_ms = deadline};
        const char *port = rest_json_text(balancer, "vip_port_id");
        if (*port)
            r = os_floating_release(os, uid, port, error);
        if (r == 0 && kp_streq(rest_json_text(balancer, "provisioning_status"), "PENDING_CREATE")) /* takes no delete yet */
            r = os_balancer_settle(os, &place, false, NULL, error);
        if (r == 0)
            r = remove_balancer(os, &place, error);
    }
    return r == KP_EAGAIN ? kp_fail(error, KP_ETIMEOUT, "load balancers of cluster %s are not gone after %d s", uid, OS_DELETE_MS / 1000) : r;
}
