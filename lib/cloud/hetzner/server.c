/* Making a machine: the server without its network and turned off, then its address in the network, then power, so that its first start
 * finds both. Its label kprov-stage says that it is not finished, and is taken off last: an interrupted creation goes on from there. */
#include "archive/archive.h"
#include "cloud/hetzner/hetzner_internal.h"

const char *hz_resource_name(const char *uid, const char *name, struct kp_arena *arena)
{
    return kp_arena_printf(arena, "%s.%.8s", name, uid);
}

const char *hz_location_of(const json_t *network, const char *name, struct kp_arena *arena)
{
    const char *places = rest_json_text(rest_json_at(network, "labels"), HZ_LOCATIONS_LABEL);
    size_t count = 1;
    for (const char *at = places; *at; at++)
        count += *at == '.';
    for (size_t skip = cloud_zone_of(name, count); skip > 0; skip--)
        places = strchr(places, '.') + 1;
    return kp_arena_strndup(arena, places, strcspn(places, "."));
}

/* The API takes text alone, and little of it: gzip as base64, which machines recognise. */
static int encode_user_data(const struct cloud_machine_spec *spec, struct kp_buf *out, struct kp_error *error)
{
    KP_AUTO_BUF struct kp_buf packed = {0};
    int r = 0;
    if (archive_is_gzip(spec->user_data, spec->user_data_len))
        kp_base64_encode(out, spec->user_data, spec->user_data_len);
    else if ((r = archive_gzip(spec->user_data, spec->user_data_len, &packed, error)) == 0)
        kp_base64_encode(out, packed.data, packed.len);
    if (r == 0 && out->len > HZ_USER_DATA_MAX)
        return kp_fail(error, KP_ETOOLARGE, "its user data is %zu bytes when packed, and Hetzner takes %d", out->len, HZ_USER_DATA_MAX);
    return r;
}

static json_t *labels_of(const struct cloud_machine_spec *spec)
{
    return json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:s}", HZ_CLUSTER_LABEL, spec->cluster_uid, HZ_NAME_LABEL, spec->name, HZ_ROLE_LABEL, spec->role,
                     HZ_POOL_LABEL, spec->pool ? spec->pool : "", HZ_IMAGE_LABEL, spec->image, HZ_ADDRESS_LABEL, spec->address,
                     HZ_STAGE_LABEL, "new");
}

/* The primary IP that hz_address_publish has made for it, or 0. */
static int find_address(struct hz *hz, const struct cloud_machine_spec *spec, struct kp_arena *arena, int64_t *ret_id, struct kp_error *error)
{
    KP_AUTO(json_decref) json_t *list = NULL;
    int r = hz_list(hz, "primary_ips", hz_owned_query(spec->cluster_uid, spec->name, arena), &list, error);
    *ret_id = r == 0 && json_is_null(rest_json_at(list, "0/assignee_id")) ? rest_json_int(list, "0/id") : 0;
    return r;
}

struct parts { /* what a server is made of */
    const json_t *network;
    const char *location, *type;
    int64_t image, firewall, group, address; /* group, address: 0: none */
};

static int find_parts(struct hz *hz, const struct cloud_machine_spec *spec, const json_t *network, struct kp_arena *arena, struct parts *ret, struct kp_error *error)
{
    *ret = (struct parts){.network = network, .location = hz_location_of(network, spec->name, arena), .type = spec->machine_type};
    int r = hz_image_find(hz, spec->image, &ret->image, error);
    if (r == KP_ENOTFOUND) /* of this call not-found would mean the machine */
        r = error ? (error->code = KP_EINVALID) : KP_EINVALID;
    if (r == 0 && kp_empty(spec->machine_type))
        r = hz_default_type(hz, ret->location, arena, &ret->type, error);
    if (r == 0)
        r = hz_firewall_find(hz, spec->cluster_uid, &ret->firewall, error);
    if (r == 0 && kp_streq(spec->role, "control-plane")) {
        pthread_mutex_lock(&hz->shared);
        r = hz_group_ensure(hz, spec->cluster_uid, arena, &ret->group, error);
        pthread_mutex_unlock(&hz->shared);
    }
    return r < 0 ? r : find_address(hz, spec, arena, &ret->address, error);
}

static int make(struct hz *hz, const struct cloud_machine_spec *spec, const json_t *network, struct kp_arena *arena, struct kp_error *error)
{
    KP_AUTO_BUF struct kp_buf user_data = {0};
    KP_AUTO(json_decref) json_t *answer = NULL;
    struct parts parts;
    int r = find_parts(hz, spec, network, arena, &parts, error);
    if (r == 0)
        r = encode_user_data(spec, &user_data, error);
    if (r < 0)
        return r;
    json_t *net = json_pack("{s:b, s:b}", "enable_ipv4", 1, "enable_ipv6", 0);
    if (parts.address)
        json_object_set_new(net, "ipv4", json_integer(parts.address));
    json_t *body = json_pack("{s:s, s:s, s:I, s:s, s:b, s:s, s:o, s:o, s:[{s:I}]}", "name", hz_resource_name(spec->cluster_uid, spec->name, arena),
                             "server_type", parts.type, "image", (json_int_t)parts.image, "location", parts.location, "start_after_create", 0,
                             "user_data", user_data.data, "labels", labels_of(spec), "public_net", net, "firewalls", "firewall", (json_int_t)parts.firewall);
    if (parts.group)
        json_object_set_new(body, "placement_group", json_integer(parts.group));
    r = hz_do(hz, "servers.create", "POST", "/servers", body, &answer, error);
    if (r == KP_EEXISTS) /* an earlier request, whose answer was lost */
        return 0;
    return r < 0 ? r : hz_wait(hz, "servers.create", answer, error);
}

static bool is_attached(const json_t *server, int64_t network)
{
    const json_t *nets = rest_json_at(server, "private_net");
    for (size_t i = 0; i < json_array_size(nets); i++)
        if (rest_json_int(json_array_get(nets, i), "network") == network)
            return true;
    return false;
}

static int finish(struct hz *hz, const struct cloud_machine_spec *spec, const json_t *network, const json_t *server, struct kp_arena *arena, struct kp_error *error)
{
    const char *path = kp_arena_printf(arena, "/servers/%lld", (long long)rest_json_int(server, "id"));
    const char *address = rest_json_text(rest_json_at(server, "labels"), HZ_ADDRESS_LABEL);
    int64_t net = rest_json_int(network, "id");
    int r = 0;
    if (!is_attached(server, net))
        r = hz_act(hz, "servers.attach_to_network", kp_arena_printf(arena, "%s/actions/attach_to_network", path),
                   json_pack("{s:I, s:s}", "network", (json_int_t)net, "ip", address), error);
    if (r == KP_EEXISTS)
        r = 0;
    if (r == 0)
        r = hz_act(hz, "servers.poweron", kp_arena_printf(arena, "%s/actions/poweron", path), NULL, error);
    if (r < 0)
        return r;
    json_t *labels = json_copy(json_object_get(server, "labels"));
    json_object_del(labels, HZ_STAGE_LABEL);
    return hz_do(hz, "servers.update", "PUT", path, json_pack("{s:o}", "labels", labels), NULL, error);
}

int hz_machine_create(void *state, const struct cloud_machine_spec *spec, struct kp_arena *arena, struct cloud_machine *ret, struct kp_error *error)
{
    struct hz *hz = state;
    KP_AUTO(json_decref) json_t *network = NULL, *server = NULL;
    int r = hz_server_find(hz, spec->cluster_uid, spec->name, &server, error);
    if (r < 0 && r != KP_ENOTFOUND)
        return r;
    if (r == 0 && !*rest_json_text(rest_json_at(server, "labels"), HZ_STAGE_LABEL)) {
        hz_server_read(server, arena, ret);
        return 0;
    }
    bool half_made = r == 0;
    r = hz_network_find(hz, spec->cluster_uid, &network, error);
    if (r == 0 && !half_made) {
        r = make(hz, spec, network, arena, error);
        if (r == 0)
            r = hz_server_find(hz, spec->cluster_uid, spec->name, &server, error);
        if (r == KP_ENOTFOUND)
            r = kp_fail(error, KP_ECONFLICT, "a server \"%s\" exists, and is not this cluster's", hz_resource_name(spec->cluster_uid, spec->name, arena));
    }
    if (r == 0)
        r = finish(hz, spec, network, server, arena, error);
    return r < 0 ? r : hz_machine_get(hz, spec->cluster_uid, spec->name, arena, ret, error);
}
