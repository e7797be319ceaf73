/* Addresses: a Neutron port each, kept for its name; floating addresses at them; and whose packets else they let through. */
#include "cloud/openstack/openstack_internal.h"

int os_port_find(struct os *os, const char *uid, const char *name, struct kp_arena *arena, const char **ret_id, const char **ret_address, struct kp_error *error)
{
    KP_AUTO(json_decref) json_t *port = NULL;
    int r = os_find(os, &os_ports, uid, name, &port, error);
    if (r < 0)
        return r;
    if (!port)
        return kp_fail(error, KP_ENOTFOUND, "cluster %s has no address for %s", uid, name);
    *ret_id = os_text(port, "id", arena);
    *ret_address = os_text(port, "fixed_ips/0/ip_address", arena);
    return **ret_address ? 0 : kp_fail(error, KP_ECORRUPT, "port %s of %s has no address", *ret_id, name);
}

int os_address_reserve(struct os *os, const char *uid, const char *name, struct kp_arena *arena, const char **ret_address, struct kp_error *error)
{
    KP_AUTO(json_decref) json_t *port = NULL;
    struct os_record record;
    int r = os_record_read(os, uid, arena, &record, error);
    if (r < 0)
        return r;
    json_t *pairs = *record.pods ? json_pack("[{s:s}]", "ip_address", record.pods) : json_array();
    json_t *body = json_pack("{s:s, s:[{s:s}], s:[s], s:o}", "network_id", record.network, "fixed_ips", "subnet_id", record.subnet, "security_groups", record.group,
                             "allowed_address_pairs", pairs);
    r = os_ensure(os, &os_ports, uid, name, body, &port, error);
    if (r == KP_EFORBIDDEN)
        return kp_wrap(error, "network %s does not let this project allow other addresses at its ports: kprov needs that for pods and the API's address", record.network);
    if (r < 0)
        return r;
    *ret_address = os_text(port, "fixed_ips/0/ip_address", arena);
    return **ret_address ? 0 : kp_fail(error, KP_ECORRUPT, "port %s of %s has no address", rest_json_text(port, "id"), name);
}

int os_address_release(void *state, const char *uid, const char *name, struct kp_error *error)
{
    struct os *os = state;
    KP_AUTO(json_decref) json_t *port = NULL;
    int r = os_find(os, &os_ports, uid, name, &port, error);
    if (r < 0 || !port)
        return r;
    r = os_floating_release(os, uid, rest_json_text(port, "id"), error);
    return r < 0 ? r : os_remove(os, &os_ports, rest_json_text(port, "id"), error);
}

static int floating_at(struct os *os, const char *port, struct kp_arena *arena, json_t **ret, struct kp_error *error)
{
    return os_list(os, "floatingips.list", OS_NETWORK, kp_arena_printf(arena, "/floatingips?port_id=%s", os_escape(port, arena)), "floatingips", ret, error);
}

int os_floating_release(struct os *os, const char *uid, const char *port, struct kp_error *error)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    KP_AUTO(json_decref) json_t *items = NULL;
    int r = floating_at(os, port, arena, &items, error);
    for (size_t i = 0; r == 0 && i < json_array_size(items); i++)
        if (kp_streq(os_uid_of(json_array_get(items, i), arena), uid)) /* what others put there is theirs */
            r = os_remove(os, &os_floating, rest_json_text(json_array_get(items, i), "id"), error);
    return r;
}

/* One that the project has already, and nobody uses. It stays theirs: without our tag it is not deleted. */
static int take_existing(struct os *os, const char *port, const char *wanted, struct kp_arena *arena, bool *ret_taken, struct kp_error *error)
{
    KP_AUTO(json_decref) json_t *items = NULL;
    const char *path = kp_arena_printf(arena, "/floatingips?floating_ip_address=%s", os_escape(wanted, arena));
    int r = os_list(os, "floatingips.list", OS_NETWORK, path, "floatingips", &items, error);
    *ret_taken = r == 0 && json_array_size(items) > 0;
    if (!*ret_taken)
        return r;
    const char *at = rest_json_text(json_array_get(items, 0), "port_id");
    if (*at && !kp_streq(at, port))
        return kp_fail(error, KP_EINVALID, "the address %s is in use by something else of this project", wanted);
    return os_send(os, "floatingips.update", OS_NETWORK, "PUT", kp_arena_printf(arena, "/floatingips/%s", rest_json_text(json_array_get(items, 0), "id")),
                   json_pack("{s:{s:s}}", "floatingip", "port_id", port), NULL, error);
}

static int make_floating(struct os *os, const char *uid, const char *name, const char *external, const char *port, const char *wanted, struct kp_arena *arena,
                         const char **ret_address, struct kp_error *error)
{
    KP_AUTO(json_decref) json_t *answer = NULL;
    struct kp_strings tags = {0};
    json_t *body = json_pack("{s:s, s:s, s:s}", "floating_network_id", external, "port_id", port, "description", kp_arena_printf(arena, OS_CLUSTER_TAG "%s", uid));
    if (!kp_empty(wanted))
        json_object_set_new(body, "floating_ip_address", json_string(wanted));
    int r = os_send(os, "floatingips.create", OS_NETWORK, "POST", "/floatingips", json_pack("{s:o}", "floatingip", body), &answer, error);
    if (r == KP_EFORBIDDEN && !kp_empty(wanted))
        return kp_fail(error, KP_EINVALID, "the address %s cannot be had: it is none of this project's floating addresses, and the cloud does not let it choose one", wanted);
    if (r == KP_ECONFLICT && !kp_empty(wanted))
        return kp_fail(error, KP_EINVALID, "the address %s is taken", wanted);
    if (r < 0)
        return kp_wrap(error, "floating address of %s", name);
    *ret_address = os_text(answer, "floatingip/floating_ip_address", arena);
    kp_strings_add(&tags, kp_arena_printf(arena, OS_CLUSTER_TAG "%s", uid));
    kp_strings_add(&tags, kp_arena_printf(arena, OS_NAME_TAG "%s", name));
    r = os_tag(os, &os_floating, rest_json_text(answer, "floatingip/id"), &tags, error);
    kp_strings_done(&tags);
    return r;
}

int os_floating_ensure(struct os *os, const char *uid, const char *name, const char *external, const char *port, const char *wanted, struct kp_arena *arena,
                       const char **ret_address, struct kp_error *error)
{
    KP_AUTO(json_decref) json_t *items = NULL;
    bool taken = false;
    *ret_address = "";
    if (!*external)
        return 0;
    int r = floating_at(os, port, arena, &items, error);
    if (r < 0)
        return r;
    for (size_t i = 0; i < json_array_size(items); i++) {
        const char *address = os_text(json_array_get(items, i), "floating_ip_address", arena);
        if (kp_empty(wanted) || kp_streq(wanted, address)) {
            *ret_address = address;
            return 0;
        }
        r = os_floating_release(os, uid, port, error); /* another one is wanted now */
        if (r < 0)
            return r;
    }
    if (!kp_empty(wanted))
        r = take_existing(os, port, wanted, arena, &taken, error);
    if (r == 0 && taken)
        *ret_address = kp_arena_strdup(arena, wanted);
    return r < 0 || taken ? r : make_floating(os, uid, name, external, port, wanted, arena, ret_address, error);
}

int os_address_publish(void *state, const char *uid, const char *name, struct kp_arena *arena, const char **ret_address, struct kp_error *error)
{
    struct os *os = state;
    KP_AUTO(json_decref) json_t *port = NULL, *balancer = NULL;
    struct os_record record;
    const char *floating = "";
    int r = os_record_read(os, uid, arena, &record, error);
    if (r == 0)
        r = os_find(os, &os_ports, uid, name, &port, error);
    if (r < 0)
        return r;
    if (!port && os_balancer_find(os, uid, name, &balancer, error) < 0)
        return kp_wrap(error, "nothing of cluster %s has an address for %s", uid, name);
    const char *id = port ? rest_json_text(port, "id") : rest_json_text(balancer, "vip_port_id");
    r = os_floating_ensure(os, uid, name, record.external, id, "", arena, &floating, error);
    if (r == KP_ENOTFOUND)
        return kp_fail(error, KP_EINVALID, "no router leads from the cluster's network to the external one, so nothing can have a public address: connect them, or name another openstack.network");
    if (r == 0)
        *ret_address = *floating ? floating : port ? os_text(port, "fixed_ips/0/ip_address", arena) : os_text(balancer, "vip_address", arena);
    return r;
}

int os_machine_forward(void *state, const char *uid, const char *name, const char *const *cidrs, struct kp_error *error)
{
    struct os *os = state;
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    KP_AUTO(json_decref) json_t *port = NULL;
    int r = os_find(os, &os_ports, uid, name, &port, error);
    if (r < 0)
        return r;
    if (!port)
        return kp_fail(error, KP_ENOTFOUND, "cluster %s has no machine %s with an address", uid, name);
    const json_t *have = rest_json_at(port, "allowed_address_pairs");
    json_t *pairs = json_array();
    size_t same = 0, n = 0;
    for (; cidrs[n]; n++) {
        struct os_cidr cidr;
        /* Neutron writes one address without its /32. */
        const char *address = os_cidr_parse(cidrs[n], &cidr) && cidr.bits == 32 ? kp_arena_strndup(arena, cidrs[n], strcspn(cidrs[n], "/")) : cidrs[n];
        json_array_append_new(pairs, json_pack("{s:s}", "ip_address", address));
        for (size_t i = 0; i < json_array_size(have); i++)
            same += kp_streq(rest_json_text(json_array_get(have, i), "ip_address"), address);
    }
    if (same == n && json_array_size(have) == n) {
        json_decref(pairs);
        return 0;
    }
    return os_send(os, "ports.update", OS_NETWORK, "PUT", kp_arena_printf(arena, "/ports/%s", rest_json_text(port, "id")),
                   json_pack("{s:{s:o}}", "port", "allowed_address_pairs", pairs), NULL, error);
}
