/* Addresses of machines: reserved as labels of the cluster's network, since Hetzner knows none without a server; public ones as primary IPs. */
#include "cloud/hetzner/hetzner_internal.h"

#define RESERVE_TRIES 5

static const char *label_of(const char *name, struct kp_arena *arena)
{
    return kp_arena_printf(arena, HZ_RESERVED_PREFIX "%s", name);
}

static bool is_taken(json_t *labels, const char *address)
{
    const char *key = NULL;
    json_t *value = NULL;
    json_object_foreach(labels, key, value)
        if (kp_starts_with(key, HZ_RESERVED_PREFIX) && kp_streq(json_string_value(value), address))
            return true;
    return false;
}

static int choose(const json_t *network, struct kp_arena *arena, const char **ret_address, struct kp_error *error)
{
    const char *cidr = rest_json_text(network, "subnets/0/ip_range");
    json_t *labels = json_object_get(network, "labels");
    struct hz_range range;
    uint32_t first = 0, last = 0;
    if (!hz_range_parse(cidr, &range))
        return kp_fail(error, KP_ECORRUPT, "network %s has no subnet", rest_json_text(network, "name"));
    hz_range_hosts(&range, false, &first, &last);
    for (uint32_t host = first; host <= last && host - first < CLOUD_MACHINES_MAX; host++) {
        *ret_address = hz_address_format(host, arena);
        if (!is_taken(labels, *ret_address))
            return 0;
    }
    return kp_fail(error, KP_EQUOTA, "no address is free in %s", cidr);
}

/* All labels with `key` set to `value`, or without it when value is NULL. */
static int put_label(struct hz *hz, const json_t *network, const char *key, const char *value, struct kp_arena *arena, struct kp_error *error)
{
    json_t *labels = json_copy(json_object_get(network, "labels"));
    if (value)
        json_object_set_new(labels, key, json_string(value));
    else
        json_object_del(labels, key);
    return hz_do(hz, "networks.update", "PUT", kp_arena_printf(arena, "/networks/%lld", (long long)rest_json_int(network, "id")), json_pack("{s:o}", "labels", labels),
                 NULL, error);
}

/* One try: what stands in the network after the change counts, as the API replaces all labels at once. */
static int reserve_once(struct hz *hz, const char *uid, const char *name, bool may_write, struct kp_arena *arena, const char **ret_address, struct kp_error *error)
{
    KP_AUTO(json_decref) json_t *network = NULL;
    int r = hz_network_find(hz, uid, &network, error);
    if (r < 0)
        return r;
    const char *key = label_of(name, arena), *own = json_string_value(json_object_get(rest_json_at(network, "labels"), key)), *address = NULL;
    if (own) {
        *ret_address = kp_arena_strdup(arena, own);
        return 0;
    }
    if (!may_write)
        return KP_EAGAIN;
    r = choose(network, arena, &address, error);
    if (r == 0)
        r = put_label(hz, network, key, address, arena, error);
    return r < 0 ? r : reserve_once(hz, uid, name, false, arena, ret_address, error);
}

int hz_address_reserve(void *state, const char *uid, const char *name, struct kp_arena *arena, const char **ret_address, struct kp_error *error)
{
    struct hz *hz = state;
    int r = KP_EAGAIN;
    pthread_mutex_lock(&hz->shared);
    for (int i = 0; r == KP_EAGAIN && i < RESERVE_TRIES; i++)
        r = reserve_once(hz, uid, name, true, arena, ret_address, error);
    pthread_mutex_unlock(&hz->shared);
    return r == KP_EAGAIN ? kp_fail(error, KP_ECONFLICT, "the labels of the network of cluster %s are changed by somebody else: try again", uid) : r;
}

static int find_public(struct hz *hz, const char *uid, const char *name, json_t **ret, struct kp_error *error)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    return hz_list(hz, "primary_ips", hz_owned_query(uid, name, arena), ret, error);
}

static int release(struct hz *hz, const char *uid, const char *name, struct kp_arena *arena, struct kp_error *error)
{
    KP_AUTO(json_decref) json_t *network = NULL, *addresses = NULL;
    const char *key = label_of(name, arena);
    int r = find_public(hz, uid, name, &addresses, error);
    for (size_t i = 0; r == 0 && i < json_array_size(addresses); i++)
        r = hz_delete(hz, "primary_ips", rest_json_int(json_array_get(addresses, i), "id"), error);
    if (r == 0)
        r = hz_network_find(hz, uid, &network, error);
    if (r == KP_ENOTFOUND)
        return 0;
    return r < 0 || !json_object_get(rest_json_at(network, "labels"), key) ? r : put_label(hz, network, key, NULL, arena, error);
}

int hz_address_release(void *state, const char *uid, const char *name, struct kp_error *error)
{
    struct hz *hz = state;
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    pthread_mutex_lock(&hz->shared);
    int r = release(hz, uid, name, arena, error);
    pthread_mutex_unlock(&hz->shared);
    return r;
}

/* A primary IP that waits for its machine: machine_create takes it. */
static int make_public(struct hz *hz, const char *uid, const char *name, struct kp_arena *arena, const char **ret_address, struct kp_error *error)
{
    KP_AUTO(json_decref) json_t *network = NULL, *answer = NULL, *list = NULL;
    int r = hz_network_find(hz, uid, &network, error);
    if (r < 0)
        return r;
    json_t *body = json_pack("{s:s, s:s, s:s, s:b, s:s, s:{s:s, s:s}}", "name", hz_resource_name(uid, name, arena), "type", "ipv4", "assignee_type", "server",
                             "auto_delete", 0, "location", hz_location_of(network, name, arena), "labels", HZ_CLUSTER_LABEL, uid, HZ_NAME_LABEL, name);
    r = hz_do(hz, "primary_ips.create", "POST", "/primary_ips", body, &answer, error);
    if (r == 0)
        r = hz_wait(hz, "primary_ips.create", answer, error);
    if (r == 0)
        *ret_address = kp_arena_strdup(arena, rest_json_text(answer, "primary_ip/ip"));
    if (r != KP_EEXISTS)
        return r;
    r = find_public(hz, uid, name, &list, error);
    if (r == 0 && json_array_size(list) == 0)
        r = kp_fail(error, KP_ECONFLICT, "a primary IP %s exists, and is not this cluster's", hz_resource_name(uid, name, arena));
    if (r == 0)
        *ret_address = kp_arena_strdup(arena, rest_json_text(list, "0/ip"));
    return r;
}

int hz_address_publish(void *state, const char *uid, const char *name, struct kp_arena *arena, const char **ret_address, struct kp_error *error)
{
    struct hz *hz = state;
    KP_AUTO(json_decref) json_t *list = NULL;
    struct cloud_machine machine;
    struct cloud_balancer balancer;
    int r = find_public(hz, uid, name, &list, error);
    if (r < 0)
        return r;
    if (json_array_size(list) > 0) {
        *ret_address = kp_arena_strdup(arena, rest_json_text(list, "0/ip"));
        return 0;
    }
    r = hz_machine_get(hz, uid, name, arena, &machine, error);
    if (r == 0 && kp_empty(machine.public_address))
        return kp_fail(error, KP_ECONFLICT, "machine %s was made without a public address", name);
    if (r == 0)
        *ret_address = machine.public_address;
    if (r != KP_ENOTFOUND)
        return r;
    r = hz_balancer_get(hz, uid, name, arena, &balancer, error);
    if (r == 0)
        *ret_address = balancer.address;
    return r == KP_ENOTFOUND ? make_public(hz, uid, name, arena, ret_address, error) : r;
}
