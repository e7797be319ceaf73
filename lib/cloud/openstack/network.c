/* A cluster's network: one of its own with a subnet and a router to the external network, or one that exists. The cluster's security group
   remembers in its tags which it is; it is tagged last, so that a network that is half made is not found. */
#include "cloud/openstack/openstack_internal.h"

#define TAG_NETWORK "kprov-network="
#define TAG_SUBNET "kprov-subnet="
#define TAG_ROUTER "kprov-router="
#define TAG_EXTERNAL "kprov-external="
#define TAG_PODS "kprov-pods=" /* the slash of the CIDR is written as "_": a tag with a slash cannot be addressed */
#define TAG_ZONE "kprov-zone="
#define ZONES_MAX 16

/* ---- what exists */

/* By id, else by name. *ret is NULL when there is none. */
static int find_network(struct os *os, const char *wanted, struct kp_arena *arena, json_t **ret, struct kp_error *error)
{
    KP_AUTO(json_decref) json_t *named = NULL, *by_id = NULL;
    *ret = NULL;
    int r = os_list(os, "networks.list", OS_NETWORK, kp_arena_printf(arena, "/networks?id=%s", os_escape(wanted, arena)), "networks", &by_id, error);
    if (r == 0 && !json_array_size(by_id))
        r = os_list(os, "networks.list", OS_NETWORK, kp_arena_printf(arena, "/networks?name=%s", os_escape(wanted, arena)), "networks", &named, error);
    if (r < 0)
        return r;
    const json_t *found = json_array_size(by_id) ? by_id : named;
    if (json_array_size(found) > 1)
        return kp_fail(error, KP_EINVALID, "there are %zu networks with the name \"%s\": give the id of one", json_array_size(found), wanted);
    if (json_array_size(found))
        *ret = json_incref(json_array_get(found, 0));
    return 0;
}

int os_existing_find(struct os *os, const char *wanted, struct kp_arena *arena, json_t **ret_network, json_t **ret_subnet, struct kp_error *error)
{
    KP_AUTO(json_decref) json_t *network = NULL, *subnets = NULL;
    int r = find_network(os, wanted, arena, &network, error);
    if (r == 0 && !network)
        r = kp_fail(error, KP_EINVALID, "there is no network \"%s\" that this project sees: openstack network list shows them", wanted);
    if (r == 0)
        r = os_list(os, "subnets.list", OS_NETWORK, kp_arena_printf(arena, "/subnets?ip_version=4&network_id=%s", rest_json_text(network, "id")), "subnets", &subnets, error);
    if (r == 0 && !json_array_size(subnets))
        r = kp_fail(error, KP_EINVALID, "network \"%s\" has no IPv4 subnet that this project sees: machines need one", wanted);
    if (r < 0)
        return r;
    *ret_network = KP_TAKE(network);
    *ret_subnet = json_incref(json_array_get(subnets, 0));
    return 0;
}

int os_external_find(struct os *os, const char *wanted, struct kp_arena *arena, const char **ret_id, struct kp_error *error)
{
    KP_AUTO(json_decref) json_t *network = NULL, *all = NULL;
    *ret_id = "";
    if (!kp_empty(wanted)) {
        int r = find_network(os, wanted, arena, &network, error);
        if (r < 0)
            return r;
        if (!network || !rest_json_bool(network, "router:external"))
            return kp_fail(error, KP_EINVALID, "%s \"%s\": openstack network list --external shows those that are", network ? "openstack.externalNetwork names a network that is not external," :
                           "there is no external network", wanted);
        *ret_id = os_text(network, "id", arena);
        return 0;
    }
    int r = os_list(os, "networks.list", OS_NETWORK, "/networks?router%3Aexternal=true", "networks", &all, error);
    if (r < 0)
        return r;
    if (json_array_size(all) > 1) {
        KP_AUTO_BUF struct kp_buf names = {0};
        for (size_t i = 0; i < json_array_size(all) && i < 16; i++)
            kp_buf_printf(&names, "%s%s", i ? ", " : "", rest_json_text(json_array_get(all, i), "name"));
        return kp_fail(error, KP_EINVALID, "there are several external networks, %s: name one with openstack.externalNetwork", names.data);
    }
    if (json_array_size(all))
        *ret_id = os_text(json_array_get(all, 0), "id", arena);
    return 0;
}

/* Of a network that exists: none when it is external itself, else that of the router it is on. */
static int external_of_existing(struct os *os, const json_t *network, const char *wanted, struct kp_arena *arena, const char **ret_id, struct kp_error *error)
{
    KP_AUTO(json_decref) json_t *ports = NULL;
    *ret_id = "";
    if (!kp_empty(wanted))
        return os_external_find(os, wanted, arena, ret_id, error);
    if (rest_json_bool(network, "router:external"))
        return 0;
    const char *path = kp_arena_printf(arena, "/ports?device_owner=network%%3Arouter_interface&network_id=%s", rest_json_text(network, "id"));
    int r = os_list(os, "ports.list", OS_NETWORK, path, "ports", &ports, error);
    for (size_t i = 0; r == 0 && i < json_array_size(ports) && !**ret_id; i++) {
        KP_AUTO(json_decref) json_t *answer = NULL;
        struct kp_error why = {0};
        r = os_get(os, "routers.get", OS_NETWORK, kp_arena_printf(arena, "/routers/%s", rest_json_text(json_array_get(ports, i), "device_id")), &answer, &why);
        if (r == 0)
            *ret_id = os_text(answer, "router/external_gateway_info/network_id", arena);
        else if (r == KP_ENOTFOUND || r == KP_EFORBIDDEN) /* another project's */
            r = 0;
        else if (error)
            *error = why;
    }
    return r;
}

/* ---- one of the cluster's own */

static int choose_cidr(struct os *os, const char *wanted, struct kp_arena *arena, const char **ret, struct kp_error *error)
{
    KP_AUTO(json_decref) json_t *subnets = NULL;
    if (!kp_empty(wanted)) {
        *ret = wanted;
        return 0;
    }
    int r = os_list(os, "subnets.list", OS_NETWORK, "/subnets?ip_version=4", "subnets", &subnets, error);
    if (r < 0)
        return r;
    size_t n = 0;
    struct os_cidr *taken = KP_NEW_ARRAY(arena, struct os_cidr, json_array_size(subnets) + 1);
    for (size_t i = 0; i < json_array_size(subnets); i++)
        n += os_cidr_parse(rest_json_text(json_array_get(subnets, i), "cidr"), &taken[n]);
    return os_cidr_choose(taken, n, arena, ret, error);
}

static int ensure_subnet(struct os *os, const struct cloud_network_spec *spec, const char *network, struct kp_arena *arena, json_t **ret, struct kp_error *error)
{
    const char *cidr = NULL;
    int r = os_find(os, &os_subnets, spec->cluster_uid, "subnet", ret, error);
    if (r < 0 || *ret)
        return r;
    r = choose_cidr(os, spec->cidr, arena, &cidr, error);
    if (r < 0)
        return r;
    json_t *body = json_pack("{s:s, s:i, s:s, s:b}", "network_id", network, "ip_version", 4, "cidr", cidr, "enable_dhcp", 1);
    return os_ensure(os, &os_subnets, spec->cluster_uid, "subnet", body, ret, error);
}

/* A request whose answer was lost is made again, and refused then for what it has done. */
static int connect_router(struct os *os, const char *router, const char *subnet, struct kp_arena *arena, struct kp_error *error)
{
    struct kp_error why = {0};
    int r = os_send(os, "routers.add-interface", OS_NETWORK, "PUT", kp_arena_printf(arena, "/routers/%s/add_router_interface", router),
                    json_pack("{s:s}", "subnet_id", subnet), NULL, &why);
    if (r == 0 || (r == KP_EINVALID && strstr(why.message, "already has a port on subnet")))
        return 0;
    if (error)
        *error = why;
    return kp_wrap(error, "connect the cluster's router");
}

static int ensure_router(struct os *os, const char *uid, const char *subnet, const char *external, struct kp_arena *arena, const char **ret_id, struct kp_error *error)
{
    KP_AUTO(json_decref) json_t *router = NULL, *ports = NULL;
    *ret_id = "";
    if (!*external)
        return 0;
    json_t *body = json_pack("{s:{s:s}}", "external_gateway_info", "network_id", external);
    int r = os_ensure(os, &os_routers, uid, "router", body, &router, error);
    if (r < 0)
        return r;
    *ret_id = os_text(router, "id", arena);
    r = os_list(os, "ports.list", OS_NETWORK, kp_arena_printf(arena, "/ports?device_id=%s", *ret_id), "ports", &ports, error);
    for (size_t i = 0; r == 0 && i < json_array_size(ports); i++) {
        const json_t *fixed = rest_json_at(json_array_get(ports, i), "fixed_ips");
        for (size_t j = 0; j < json_array_size(fixed); j++)
            if (kp_streq(rest_json_text(json_array_get(fixed, j), "subnet_id"), subnet))
                return 0;
    }
    return r < 0 ? r : connect_router(os, *ret_id, subnet, arena, error);
}

/* ---- the record */

static void add_tag(struct kp_strings *tags, const char *prefix, const char *value, struct kp_arena *arena)
{
    if (!kp_empty(value))
        os_add_once(tags, kp_arena_printf(arena, "%s%s", prefix, value));
}

static int write_record(struct os *os, const struct cloud_network_spec *spec, const json_t *group, const struct os_record *record, struct kp_arena *arena, struct kp_error *error)
{
    struct kp_strings tags = {0};
    char *pods = kp_arena_strdup(arena, spec->pod_cidr ? spec->pod_cidr : "");
    if (strchr(pods, '/'))
        *strchr(pods, '/') = '_';
    add_tag(&tags, OS_CLUSTER_TAG, spec->cluster_uid, arena);
    add_tag(&tags, OS_NAME_TAG, "nodes", arena);
    add_tag(&tags, TAG_NETWORK, record->network, arena);
    add_tag(&tags, TAG_SUBNET, record->subnet, arena);
    add_tag(&tags, TAG_ROUTER, record->router, arena);
    add_tag(&tags, TAG_EXTERNAL, record->external, arena);
    add_tag(&tags, TAG_PODS, pods, arena);
    for (const char *zone = spec->zones ? spec->zones : ""; *zone; zone += strcspn(zone, " ")) {
        zone += strspn(zone, " ");
        add_tag(&tags, TAG_ZONE, kp_arena_strndup(arena, zone, strcspn(zone, " ")), arena);
    }
    int r = os_tag(os, &os_groups, rest_json_text(group, "id"), &tags, error);
    kp_strings_done(&tags);
    return r;
}

static const char *join(const json_t *texts, struct kp_arena *arena)
{
    KP_AUTO_BUF struct kp_buf out = {0};
    for (size_t i = 0; i < json_array_size(texts); i++) {
        const char *text = json_string_value(json_array_get(texts, i));
        if (text && !strchr(text, ':')) /* IPv4 */
            kp_buf_printf(&out, "%s%s", out.len ? " " : "", text);
    }
    return kp_arena_strdup(arena, out.data ? out.data : "");
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static const char *zones_of(const json_t *group, struct kp_arena *arena)
{
    const json_t *tags = rest_json_at(group, "tags");
    const char *zones[ZONES_MAX];
    size_t n = 0;
    for (size_t i = 0; i < json_array_size(tags) && n < ZONES_MAX; i++) {
        const char *tag = json_string_value(json_array_get(tags, i));
        if (tag && kp_starts_with(tag, TAG_ZONE))
            zones[n++] = tag + strlen(TAG_ZONE);
    }
    if (n)
        qsort(zones, n, sizeof(*zones), by_text);
    KP_AUTO_BUF struct kp_buf out = {0};
    for (size_t i = 0; i < n; i++)
        kp_buf_printf(&out, "%s%s", i ? " " : "", zones[i]);
    return kp_arena_strdup(arena, out.data ? out.data : "");
}

static void describe_subnet(const json_t *subnet, struct kp_arena *arena, struct os_record *ret)
{
    ret->subnet = os_text(subnet, "id", arena);
    ret->cidr = os_text(subnet, "cidr", arena);
    ret->gateway = os_text(subnet, "gateway_ip", arena);
    ret->nameservers = join(rest_json_at(subnet, "dns_nameservers"), arena);
}

int os_record_read(struct os *os, const char *uid, struct kp_arena *arena, struct os_record *ret, struct kp_error *error)
{
    KP_AUTO(json_decref) json_t *group = NULL, *answer = NULL;
    int r = os_find(os, &os_groups, uid, "nodes", &group, error);
    if (r < 0)
        return r;
    *ret = (struct os_record){.group = os_text(group, "id", arena), .network = os_tag_value(group, TAG_NETWORK, arena)};
    if (!group || !*ret->network)
        return kp_fail(error, KP_ENOTFOUND, "cluster %s has no network in project %s", uid, os->project_id);
    r = os_get(os, "subnets.get", OS_NETWORK, kp_arena_printf(arena, "/subnets/%s", os_tag_value(group, TAG_SUBNET, arena)), &answer, error);
    if (r < 0)
        return kp_wrap(error, "subnet of cluster %s", uid);
    const json_t *subnet = rest_json_at(answer, "subnet");
    describe_subnet(subnet, arena, ret);
    ret->own = kp_streq(os_uid_of(subnet, arena), uid);
    ret->router = os_tag_value(group, TAG_ROUTER, arena);
    ret->external = os_tag_value(group, TAG_EXTERNAL, arena);
    ret->zones = zones_of(group, arena);
    char *pods = kp_arena_strdup(arena, os_tag_value(group, TAG_PODS, arena));
    if (strchr(pods, '_'))
        *strchr(pods, '_') = '/';
    ret->pods = pods;
    return 0;
}

static int describe(const struct os_record *record, const char *uid, struct kp_arena *arena, struct cloud_network *ret, struct kp_error *error)
{
    struct os_cidr cidr;
    if (!os_cidr_parse(record->cidr, &cidr))
        return kp_fail(error, KP_EINVALID, "the subnet of cluster %s has no IPv4 range: \"%s\"", uid, record->cidr);
    if (!*record->gateway)
        return kp_fail(error, KP_EINVALID, "subnet %s of cluster %s has no gateway: openstack subnet set --gateway gives it one", record->subnet, uid);
    *ret = (struct cloud_network){.id = record->network, .cluster_uid = kp_arena_strdup(arena, uid), .cidr = record->cidr, .gateway = record->gateway,
                                  .prefix_len = cidr.bits, .nameservers = record->nameservers};
    return 0;
}

int os_network_ensure(void *state, const struct cloud_network_spec *spec, struct kp_arena *arena, struct cloud_network *ret, struct kp_error *error)
{
    struct os *os = state;
    KP_AUTO(json_decref) json_t *network = NULL, *subnet = NULL, *group = NULL;
    struct os_record record = {.router = ""};
    bool existing = !kp_empty(spec->existing);
    int r = existing ? os_existing_find(os, spec->existing, arena, &network, &subnet, error) : os_external_find(os, spec->external, arena, &record.external, error);
    if (r == 0 && existing)
        r = external_of_existing(os, network, spec->external, arena, &record.external, error);
    else if (r == 0)
        r = os_ensure(os, &os_networks, spec->cluster_uid, "network", json_object(), &network, error);
    if (r < 0)
        return r;
    record.network = os_text(network, "id", arena);
    if (!existing)
        r = ensure_subnet(os, spec, record.network, arena, &subnet, error);
    if (r == 0) {
        describe_subnet(subnet, arena, &record);
        if (!existing)
            r = ensure_router(os, spec->cluster_uid, record.subnet, record.external, arena, &record.router, error);
    }
    if (r == 0)
        r = os_group_ensure(os, spec->cluster_uid, &group, error);
    if (r == 0)
        r = write_record(os, spec, group, &record, arena, error);
    return r < 0 ? r : describe(&record, spec->cluster_uid, arena, ret, error);
}

int os_network_get(void *state, const char *uid, struct kp_arena *arena, struct cloud_network *ret, struct kp_error *error)
{
    struct os *os = state;
    struct os_record record;
    int r = os_record_read(os, uid, arena, &record, error);
    return r < 0 ? r : describe(&record, uid, arena, ret, error);
}

/* ---- the end */

static int remove_all(struct os *os, const struct os_kind *kind, const char *uid, struct kp_error *error)
{
    KP_AUTO(json_decref) json_t *items = NULL;
    int r = os_owned_list(os, kind, uid, &items, error);
    for (size_t i = 0; r == 0 && i < json_array_size(items); i++)
        r = os_remove(os, kind, rest_json_text(json_array_get(items, i), "id"), error);
    return r;
}

/* As with connecting: what was done already is not found when it is asked for again. */
static int disconnect(struct os *os, const char *router, const char *port, struct kp_arena *arena, struct kp_error *error)
{
    struct kp_error why = {0};
    int r = os_send(os, "routers.remove-interface", OS_NETWORK, "PUT", kp_arena_printf(arena, "/routers/%s/remove_router_interface", router),
                    json_pack("{s:s}", "port_id", port), NULL, &why);
    if (r == 0 || r == KP_ENOTFOUND)
        return 0;
    if (error)
        *error = why;
    return r;
}

/* A router goes when nothing is connected to it. */
static int disconnect_routers(struct os *os, const char *uid, struct kp_error *error)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    KP_AUTO(json_decref) json_t *routers = NULL;
    int r = os_owned_list(os, &os_routers, uid, &routers, error);
    for (size_t i = 0; r == 0 && i < json_array_size(routers); i++) {
        KP_AUTO(json_decref) json_t *ports = NULL;
        const json_t *router = json_array_get(routers, i);
        const char *id = rest_json_text(router, "id");
        if (json_array_size(rest_json_at(router, "routes"))) /* an interface that routes lead through stays else */
            r = os_send(os, "routers.update", OS_NETWORK, "PUT", kp_arena_printf(arena, "/routers/%s", id), json_pack("{s:{s:[]}}", "router", "routes"), NULL, error);
        if (r == 0)
            r = os_list(os, "ports.list", OS_NETWORK, kp_arena_printf(arena, "/ports?device_owner=network%%3Arouter_interface&device_id=%s", id), "ports", &ports, error);
        for (size_t j = 0; r == 0 && j < json_array_size(ports); j++)
            r = disconnect(os, id, rest_json_text(json_array_get(ports, j), "id"), arena, error);
    }
    return r;
}

int os_network_delete(struct os *os, const char *uid, struct kp_error *error)
{
    int r = remove_all(os, &os_floating, uid, error);
    if (r == 0)
        r = remove_all(os, &os_ports, uid, error);
    if (r == 0)
        r = disconnect_routers(os, uid, error);
    if (r == 0)
        r = remove_all(os, &os_routers, uid, error);
    if (r == 0)
        r = remove_all(os, &os_subnets, uid, error);
    if (r == 0)
        r = remove_all(os, &os_networks, uid, error);
    return r < 0 ? r : remove_all(os, &os_groups, uid, error);
}
