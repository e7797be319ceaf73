/* Whether a cluster could be made, before anything is: credentials, networks, flavors, zones, and what is left of the quotas. */
#include "cloud/openstack/openstack_internal.h"

/* What a cluster asks of one kind of thing, and what is left of it; limit -1 is none. */
struct need {
    const char *what;
    int64_t wanted, used, limit;
};

static int refuse(const struct need *needs, size_t n, struct kp_error *error)
{
    KP_AUTO_BUF struct kp_buf text = {0};
    for (size_t i = 0; i < n; i++)
        if (needs[i].limit >= 0 && needs[i].wanted > 0 && needs[i].used + needs[i].wanted > needs[i].limit)
            kp_buf_printf(&text, "%s%s: %lld more are needed, %lld of %lld are used", text.len ? "; " : "", needs[i].what, (long long)needs[i].wanted, (long long)needs[i].used,
                          (long long)needs[i].limit);
    return text.len ? kp_fail(error, KP_EQUOTA, "the project's quota does not suffice: %s. Ask for a smaller cluster or smaller machines, delete what is not used, or have the quota raised", text.data)
                    : 0;
}

static int check_compute(struct os *os, const struct cloud_wish *wish, struct kp_arena *arena, struct kp_error *error)
{
    KP_AUTO(json_decref) json_t *answer = NULL;
    int64_t cores = 0, memory = 0;
    for (size_t i = 0; i < wish->n_machines; i++) {
        struct os_flavor flavor;
        /* One request for each different one would do; the list is short and read once a machine type at most. */
        bool seen = false;
        for (size_t j = 0; j < i && !seen; j++)
            seen = !wish->machine_types || kp_streq(wish->machine_types[i], wish->machine_types[j]);
        if (seen)
            continue;
        const char *type = wish->machine_types ? wish->machine_types[i] : "";
        int r = os_flavor_find(os, type, arena, &flavor, error);
        if (r < 0)
            return r;
        for (size_t j = i; j < wish->n_machines; j++) {
            if (wish->machine_types && !kp_streq(wish->machine_types[j], type))
                continue;
            cores += flavor.vcpus;
            memory += flavor.memory_mib;
        }
    }
    int r = os_get(os, "limits.get", OS_COMPUTE, "/limits", &answer, error);
    if (r < 0)
        return r;
    const json_t *limits = rest_json_at(answer, "limits/absolute");
    const struct need needs[] = {
        {"instances", (int64_t)wish->n_machines, rest_json_int(limits, "totalInstancesUsed"), rest_json_int(limits, "maxTotalInstances")},
        {"cores", cores, rest_json_int(limits, "totalCoresUsed"), rest_json_int(limits, "maxTotalCores")},
        {"memory in MiB", memory, rest_json_int(limits, "totalRAMUsed"), rest_json_int(limits, "maxTotalRAMSize")},
    };
    return refuse(needs, KP_ARRAY_LEN(needs), error);
}

/* Of clouds that do not tell quotas nothing is asked. */
static int read_quota(struct os *os, enum os_service service, const char *path, json_t **ret, struct kp_error *error)
{
    struct kp_error why = {0};
    int r = os_get(os, "quotas.get", service, path, ret, &why);
    if (r == KP_ENOTFOUND || r == KP_EFORBIDDEN)
        return 0;
    if (r < 0 && error)
        *error = why;
    return r;
}

static struct need network_need(const json_t *quota, const char *what, const char *key, int64_t wanted)
{
    const json_t *one = json_object_get(quota, key);
    return (struct need){what, wanted, rest_json_int(one, "used") + rest_json_int(one, "reserved"), json_is_object(one) ? rest_json_int(one, "limit") : -1};
}

static int check_network_quota(struct os *os, const struct cloud_wish *wish, bool router, struct kp_arena *arena, struct kp_error *error)
{
    KP_AUTO(json_decref) json_t *answer = NULL;
    int r = read_quota(os, OS_NETWORK, kp_arena_printf(arena, "/quotas/%s/details.json", os->project_id), &answer, error);
    if (r < 0 || !answer)
        return r;
    const json_t *quota = rest_json_at(answer, "quota");
    int own = kp_empty(wish->existing) ? 1 : 0;
    const struct need needs[] = {
        network_need(quota, "ports", "port", (int64_t)wish->n_machines + 1 + (int64_t)wish->n_balancers + (router ? 1 : 0) + own), /* API, router, DHCP */
        network_need(quota, "networks", "network", own),
        network_need(quota, "subnets", "subnet", own),
        network_need(quota, "routers", "router", router ? 1 : 0),
        network_need(quota, "security groups", "security_group", 1),
        network_need(quota, "rules of security groups", "security_group_rule", 8),
        network_need(quota, "floating addresses", "floatingip", router ? 1 : 0),
    };
    return refuse(needs, KP_ARRAY_LEN(needs), error);
}

static int check_balancer_quota(struct os *os, const struct cloud_wish *wish, struct kp_arena *arena, struct kp_error *error)
{
    KP_AUTO(json_decref) json_t *answer = NULL, *all = NULL;
    struct kp_error why = {0};
    if (!wish->n_balancers)
        return 0;
    if (!os_has_service(os, OS_BALANCER, &why)) {
        if (!why.code)
            return kp_fail(error, KP_EINVALID, "this cloud has no load-balancer service (Octavia) in region %s: set openstack.apiEndpoint to virtualAddress", os->region);
        if (error)
            *error = why;
        return why.code;
    }
    int r = read_quota(os, OS_BALANCER, kp_arena_printf(arena, "/lbaas/quotas/%s", os->project_id), &answer, error);
    if (r == 0 && answer)
        r = os_balancers(os, NULL, &all, error);
    if (r < 0 || !answer)
        return r;
    const json_t *limit = rest_json_at(answer, "quota/load_balancer");
    const struct need need = {"load balancers", (int64_t)wish->n_balancers, (int64_t)json_array_size(all), json_is_integer(limit) ? json_integer_value(limit) : -1};
    return refuse(&need, 1, error);
}

static int check_zones(struct os *os, const char *zones, struct kp_arena *arena, struct kp_error *error)
{
    KP_AUTO(json_decref) json_t *answer = NULL;
    if (kp_empty(zones))
        return 0;
    int r = os_get(os, "zones.list", OS_COMPUTE, "/os-availability-zone", &answer, error);
    if (r < 0)
        return r;
    const json_t *list = rest_json_at(answer, "availabilityZoneInfo");
    KP_AUTO_BUF struct kp_buf known = {0};
    for (size_t i = 0; i < json_array_size(list) && i < 32; i++)
        kp_buf_printf(&known, "%s%s", i ? ", " : "", rest_json_text(json_array_get(list, i), "zoneName"));
    for (const char *zone = zones + strspn(zones, " "); *zone; zone += strcspn(zone, " "), zone += strspn(zone, " ")) {
        const char *name = kp_arena_strndup(arena, zone, strcspn(zone, " "));
        bool found = false, available = false;
        for (size_t i = 0; i < json_array_size(list) && !found; i++) {
            found = kp_streq(rest_json_text(json_array_get(list, i), "zoneName"), name);
            available = found && rest_json_bool(json_array_get(list, i), "zoneState/available");
        }
        if (!found)
            return kp_fail(error, KP_EINVALID, "openstack.zones: there is no availability zone \"%s\": the cloud has %s", name, known.data ? known.data : "none");
        if (!available)
            return kp_fail(error, KP_EUNAVAILABLE, "openstack.zones: the availability zone \"%s\" is not available", name);
    }
    return 0;
}

static int check_networks(struct os *os, const struct cloud_wish *wish, struct kp_arena *arena, bool *ret_router, struct kp_error *error)
{
    KP_AUTO(json_decref) json_t *network = NULL, *subnet = NULL;
    const char *external = "";
    struct os_cidr cidr;
    *ret_router = false;
    if (!kp_empty(wish->existing)) {
        int r = os_existing_find(os, wish->existing, arena, &network, &subnet, error);
        if (r < 0)
            return kp_wrap(error, "openstack.network");
        if (!kp_empty(wish->external))
            r = os_external_find(os, wish->external, arena, &external, error);
        if (r == 0 && !*rest_json_text(subnet, "gateway_ip"))
            r = kp_fail(error, KP_EINVALID, "openstack.network: subnet %s has no gateway: machines need one", rest_json_text(subnet, "id"));
        if (r == 0 && !rest_json_bool(subnet, "enable_dhcp"))
            r = kp_fail(error, KP_EINVALID, "openstack.network: subnet %s has no DHCP: machines ask it for their address when they boot", rest_json_text(subnet, "id"));
        return r;
    }
    if (!kp_empty(wish->cidr) && !os_cidr_parse(wish->cidr, &cidr))
        return kp_fail(error, KP_EINVALID, "network.machineCIDR \"%s\": must be an IPv4 network such as 10.90.0.0/24", wish->cidr);
    int r = os_external_find(os, wish->external, arena, &external, error);
    *ret_router = *external != 0;
    if (r == 0 && !*external)
        return kp_fail(error, KP_EINVALID, "this project sees no external network, so nothing outside could reach the cluster: name a network that exists with openstack.network");
    return r;
}

int os_check(void *state, const struct cloud_wish *wish, struct kp_error *error)
{
    struct os *os = state;
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    const char *token = NULL;
    bool router = false;
    int r = os_token(os, NULL, arena, &token, error);
    if (r == 0)
        r = check_networks(os, wish, arena, &router, error);
    if (r == 0)
        r = check_zones(os, wish->zones, arena, error);
    if (r == 0)
        r = check_compute(os, wish, arena, error);
    if (r == 0)
        r = check_network_quota(os, wish, router, arena, error);
    return r < 0 ? r : check_balancer_quota(os, wish, arena, error);
}
