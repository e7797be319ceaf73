/* A cluster's network: one private network of the project with one subnet, and the locations that its machines are made in. */
#include "cloud/hetzner/hetzner_internal.h"

#define NAMESERVERS "185.12.64.1 185.12.64.2" /* Hetzner's recursive resolvers */
#define CHOICES 112                           /* 10.128.0.0/16 to 10.239.0.0/16: beside kprov's default pod and service networks */
#define LABEL_VALUE_MAX 63

int hz_network_find(struct hz *hz, const char *uid, json_t **ret, struct kp_error *error)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    KP_AUTO(json_decref) json_t *list = NULL;
    int r = hz_list(hz, "networks", hz_owned_query(uid, NULL, arena), &list, error);
    if (r < 0)
        return r;
    if (json_array_size(list) == 0)
        return kp_fail(error, KP_ENOTFOUND, "cluster %s has no network", uid);
    *ret = json_incref(json_array_get(list, 0));
    return 0;
}

static int read_network(const json_t *network, const char *uid, struct kp_arena *arena, struct cloud_network *ret, struct kp_error *error)
{
    struct hz_range range;
    const char *cidr = rest_json_text(network, "subnets/0/ip_range");
    if (!hz_range_parse(cidr, &range))
        return kp_fail(error, KP_ECORRUPT, "network %s has no subnet", rest_json_text(network, "name"));
    *ret = (struct cloud_network){
        .id = kp_arena_printf(arena, "%lld", (long long)rest_json_int(network, "id")), .cluster_uid = kp_arena_strdup(arena, uid), .cidr = kp_arena_strdup(arena, cidr),
        .gateway = kp_arena_strdup(arena, rest_json_text(network, "subnets/0/gateway")), .prefix_len = range.bits, .nameservers = NAMESERVERS,
    };
    return 0;
}

int hz_network_get(void *state, const char *uid, struct kp_arena *arena, struct cloud_network *ret, struct kp_error *error)
{
    struct hz *hz = state;
    KP_AUTO(json_decref) json_t *network = NULL;
    int r = hz_network_find(hz, uid, &network, error);
    return r < 0 ? r : read_network(network, uid, arena, ret, error);
}

/* ---- locations */
static const json_t *find_location(const json_t *locations, const char *name)
{
    for (size_t i = 0; i < json_array_size(locations); i++)
        if (kp_streq(rest_json_text(json_array_get(locations, i), "name"), name))
            return json_array_get(locations, i);
    return NULL;
}

static void name_locations(const json_t *locations, const char *zone, struct kp_buf *out)
{
    for (size_t i = 0; i < json_array_size(locations); i++)
        if (kp_streq(rest_json_text(json_array_get(locations, i), "network_zone"), zone))
            kp_buf_printf(out, "%s%s", out->len ? ", " : "", rest_json_text(json_array_get(locations, i), "name"));
}

int hz_locations(struct hz *hz, const char *zones, struct kp_arena *arena, const char **ret_label, struct kp_error *error)
{
    KP_AUTO(json_decref) json_t *locations = NULL;
    KP_AUTO_BUF struct kp_buf label = {0}, known = {0};
    KP_AUTO_FREE char *copy = kp_strdup(zones ? zones : "");
    int r = hz_list(hz, "locations", "", &locations, error);
    if (r < 0)
        return r;
    name_locations(locations, hz->zone, &known);
    if (!known.len)
        return kp_fail(error, KP_EINVALID, "no location is in the network zone \"%s\"", hz->zone);
    for (char *rest = copy, *name; (name = strsep(&rest, " ")) != NULL;) {
        if (!*name)
            continue;
        const json_t *location = find_location(locations, name);
        if (!location || !kp_streq(rest_json_text(location, "network_zone"), hz->zone))
            return kp_fail(error, KP_EINVALID, "\"%s\" is no location of the network zone %s: there are %s", name, hz->zone, known.data);
        kp_buf_printf(&label, "%s%s", label.len ? "." : "", name);
    }
    if (!label.len)
        kp_buf_append(&label, known.data, strcspn(known.data, ",")); /* one: traffic between locations is slower */
    if (label.len > LABEL_VALUE_MAX)
        return kp_fail(error, KP_EINVALID, "too many locations: %s", label.data);
    *ret_label = kp_arena_strndup(arena, label.data, label.len);
    return 0;
}

/* ---- making */
static bool is_free(const json_t *networks, const struct hz_range *range)
{
    for (size_t i = 0; i < json_array_size(networks); i++) {
        struct hz_range other;
        if (hz_range_parse(rest_json_text(json_array_get(networks, i), "ip_range"), &other) && hz_range_overlaps(range, &other))
            return false;
    }
    return true;
}

static int choose_cidr(struct hz *hz, const struct cloud_network_spec *spec, struct kp_arena *arena, const char **ret_cidr, struct kp_error *error)
{
    KP_AUTO(json_decref) json_t *networks = NULL;
    struct hz_range wanted, pods;
    bool has_pods = hz_range_parse(spec->pod_cidr, &pods);
    if (!kp_empty(spec->cidr)) {
        *ret_cidr = spec->cidr;
        if (!hz_range_parse(spec->cidr, &wanted) || !hz_range_is_private(&wanted))
            return kp_fail(error, KP_EINVALID, "network \"%s\" must be a private one (RFC 1918) of at least a /24, such as 10.128.0.0/16", spec->cidr);
        return 0;
    }
    int r = hz_list(hz, "networks", "", &networks, error);
    for (uint32_t i = 0; r == 0 && i < CHOICES; i++) {
        const struct hz_range range = {.base = 0x0a800000 + (i << 16), .bits = 16};
        if ((has_pods && hz_range_overlaps(&range, &pods)) || !is_free(networks, &range))
            continue;
        *ret_cidr = kp_arena_printf(arena, "%s/%d", hz_address_format(range.base, arena), range.bits);
        return 0;
    }
    return r < 0 ? r : kp_fail(error, KP_EQUOTA, "no network of 10.128.0.0/9 is free: name one with spec.network.machineCIDR");
}

static int make(struct hz *hz, const struct cloud_network_spec *spec, struct kp_arena *arena, struct kp_error *error)
{
    const char *cidr = NULL, *locations = NULL;
    int r = hz_locations(hz, spec->zones, arena, &locations, error);
    if (r == 0)
        r = choose_cidr(hz, spec, arena, &cidr, error);
    if (r < 0)
        return r;
    json_t *body = json_pack("{s:s, s:s, s:[{s:s, s:s, s:s}], s:{s:s, s:s}}", "name", kp_arena_printf(arena, "kprov-%s", spec->cluster_uid), "ip_range", cidr,
                             "subnets", "type", "cloud", "ip_range", cidr, "network_zone", hz->zone,
                             "labels", HZ_CLUSTER_LABEL, spec->cluster_uid, HZ_LOCATIONS_LABEL, locations);
    return hz_do(hz, "networks.create", "POST", "/networks", body, NULL, error);
}

static int refuse(const struct cloud_network_spec *spec, struct kp_error *error)
{
    if (spec->bridge.name)
        return kp_fail(error, KP_EINVALID, "Hetzner has no bridges: leave out the bridge");
    if (!kp_empty(spec->existing))
        return kp_fail(error, KP_EINVALID, "network \"%s\": on Hetzner a cluster has a network of its own: leave out spec.hetzner.network", spec->existing);
    return 0;
}

static int ensure(struct hz *hz, const struct cloud_network_spec *spec, struct kp_arena *arena, struct cloud_network *ret, struct kp_error *error)
{
    KP_AUTO(json_decref) json_t *network = NULL;
    int r = hz_network_find(hz, spec->cluster_uid, &network, error);
    if (r == KP_ENOTFOUND) {
        r = make(hz, spec, arena, error);
        if (r == 0 || r == KP_EEXISTS) /* the answer to an earlier request may have been lost */
            r = hz_network_find(hz, spec->cluster_uid, &network, error);
    }
    if (r == 0)
        r = hz_firewall_ensure(hz, spec->cluster_uid, error);
    return r < 0 ? r : read_network(network, spec->cluster_uid, arena, ret, error);
}

int hz_network_ensure(void *state, const struct cloud_network_spec *spec, struct kp_arena *arena, struct cloud_network *ret, struct kp_error *error)
{
    struct hz *hz = state;
    int r = refuse(spec, error);
    if (r < 0)
        return r;
    pthread_mutex_lock(&hz->shared);
    r = ensure(hz, spec, arena, ret, error);
    pthread_mutex_unlock(&hz->shared);
    return r;
}

int hz_network_delete(void *state, const char *uid, struct kp_error *error)
{
    struct hz *hz = state;
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    KP_AUTO(json_decref) json_t *servers = NULL, *networks = NULL, *firewalls = NULL;
    const char *query = hz_owned_query(uid, NULL, arena);
    int r = hz_list(hz, "servers", query, &servers, error);
    if (r == 0 && json_array_size(servers) > 0)
        r = kp_fail(error, KP_ECONFLICT, "the network of cluster %s still has %zu machines", uid, json_array_size(servers));
    if (r == 0)
        r = hz_list(hz, "networks", query, &networks, error);
    if (r == 0)
        r = hz_list(hz, "firewalls", query, &firewalls, error);
    for (size_t i = 0; r == 0 && i < json_array_size(firewalls); i++)
        r = hz_delete(hz, "firewalls", rest_json_int(json_array_get(firewalls, i), "id"), error);
    for (size_t i = 0; r == 0 && i < json_array_size(networks); i++)
        r = hz_delete(hz, "networks", rest_json_int(json_array_get(networks, i), "id"), error);
    return r;
}

/* ---- before anything is made */
static int check_types(struct hz *hz, const struct cloud_wish *wish, struct kp_error *error)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    struct cloud_machine_type_list types;
    int r = hz_machine_types(hz, arena, &types, error);
    for (size_t i = 0; r == 0 && wish->machine_types && i < wish->n_machines; i++) {
        bool known = kp_empty(wish->machine_types[i]);
        for (size_t j = 0; j < types.len && !known; j++)
            known = kp_streq(types.items[j].name, wish->machine_types[i]);
        if (!known)
            r = kp_fail(error, KP_EINVALID, "machine %s: \"%s\" is no server type of Hetzner's that is for sale in %s and of architecture x86", wish->machines[i],
                        wish->machine_types[i], hz->zone);
    }
    return r;
}

static int check_names(const struct cloud_wish *wish, struct kp_error *error)
{
    struct hz_range range;
    const struct cloud_network_spec spec = {.bridge = wish->bridge, .existing = wish->existing};
    int r = refuse(&spec, error);
    if (r == 0 && !kp_empty(wish->cidr) && (!hz_range_parse(wish->cidr, &range) || !hz_range_is_private(&range)))
        r = kp_fail(error, KP_EINVALID, "network \"%s\" must be a private one (RFC 1918) of at least a /24, such as 10.128.0.0/16", wish->cidr);
    return r;
}

int hz_check(void *state, const struct cloud_wish *wish, struct kp_error *error)
{
    struct hz *hz = state;
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    const char *label = NULL;
    int r = check_names(wish, error);
    if (r == 0)
        r = hz_locations(hz, wish->zones, arena, &label, error); /* also asks whether the token counts */
    return r < 0 ? r : check_types(hz, wish, error);
}
