/* Defaults of a cluster, and the rules that hold wherever it was described. */
#include "lib/vip/vip.h"
#include <arpa/inet.h>

#include "base/version.h"
#include "cloud/cloud.h"
#include "provisioner/config/config_internal.h"

const char *const config_components[] = {
    "etcd",       "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet",
    "kube-proxy", "kprov-network",  "kprov-dns",               "cloud-controller-manager", NULL,
};

void config_default(const char *name, int64_t control_planes, int64_t workers, struct kp_arena *arena,
                    struct config *ret)
{
    memset(ret, 0, sizeof(*ret));
    ret->name = kp_arena_strdup(arena, name);
    ret->provider = "local";
    ret->kubernetes_version = kp_version;
    ret->control_plane.replicas = control_planes;
    ret->control_plane.machine = "";
    ret->network.pod_cidr = "10.244.0.0/16";
    ret->network.service_cidr = "10.96.0.0/12";
    ret->network.dns_domain = "cluster.local";
    ret->network.machine_cidr = "";
    ret->load_balancer.addresses = "";
    ret->external.api_address = "";
    ret->snapshots.every = "12h"; /* as k3s */
    ret->snapshots.keep = 5;
    ret->snapshots.dir = CONFIG_SNAPSHOT_DIR;
    ret->libvirt.uri = "";
    ret->libvirt.bridge = "";
    ret->libvirt.addresses = "";
    ret->libvirt.gateway = "";
    ret->libvirt.nameservers = "";
    config_default_cloud(&ret->cloud);
    ret->time_servers = "";
    ret->audit_policy = "";
    ret->image = "";
    ret->pools = KP_NEW_ARRAY(arena, struct config_pool, 1);
    ret->pools[0] = (struct config_pool){.name = "worker", .machine = "", .replicas = workers};
    ret->n_pools = 1;
}

int config_parse_cidr(const char *cidr, uint32_t *ret_base, int *ret_prefix)
{
    char text[32];
    struct in_addr address;
    int64_t prefix = 0;
    const char *slash = cidr ? strchr(cidr, '/') : NULL;
    if (!slash || (size_t)(slash - cidr) >= sizeof(text) || kp_parse_i64(slash + 1, &prefix) < 0)
        return KP_EINVALID;
    memcpy(text, cidr, (size_t)(slash - cidr));
    text[slash - cidr] = 0;
    if (inet_pton(AF_INET, text, &address) != 1 || prefix < 1 || prefix > 32)
        return KP_EINVALID;
    uint32_t base = ntohl(address.s_addr);
    if (prefix < 32 && (base & (0xffffffffu >> prefix)))
        return KP_EINVALID;
    *ret_base = base;
    *ret_prefix = (int)prefix;
    return 0;
}

const char *config_cidr_address(const char *cidr, uint32_t n, struct kp_arena *arena)
{
    uint32_t base = 0;
    int prefix = 0;
    if (config_parse_cidr(cidr, &base, &prefix) < 0)
        return NULL;
    uint32_t a = base + n;
    return kp_arena_printf(arena, "%u.%u.%u.%u", a >> 24, (a >> 16) & 255, (a >> 8) & 255, a & 255);
}

static bool is_label(const char *s, size_t max)
{
    size_t len = strlen(s);
    if (len == 0 || len > max || s[0] == '-' || s[len - 1] == '-')
        return false;
    return strspn(s, "abcdefghijklmnopqrstuvwxyz0123456789-") == len;
}

static bool is_domain(const char *s)
{
    char label[64];
    while (*s) {
        size_t len = strcspn(s, ".");
        if (len >= sizeof(label))
            return false;
        memcpy(label, s, len);
        label[len] = 0;
        if (!is_label(label, 63))
            return false;
        s += len + (s[len] == '.' && s[len + 1]);
        if (*s == '.')
            return false;
    }
    return true;
}

static bool overlap(uint32_t a, int a_prefix, uint32_t b, int b_prefix)
{
    uint32_t common = 0xffffffffu << (32 - KP_MIN(a_prefix, b_prefix));
    return (a & common) == (b & common);
}

static int check_machine_network(const struct config *config, uint32_t pods, int pod_prefix, uint32_t services, int service_prefix,
                                 struct kp_error *error)
{
    const char *cidr = config->network.machine_cidr;
    uint32_t machines = 0;
    int prefix = 0;
    if (kp_empty(cidr))
        return 0;
    if (config_parse_cidr(cidr, &machines, &prefix) < 0 || prefix < 8 || prefix > 28)
        return kp_fail(error, KP_EINVALID,
                       "spec.network.machineCIDR: \"%s\" must be an IPv4 prefix of 8 to 28 bits, such as 10.89.0.0/24", cidr);
    const char *other = overlap(machines, prefix, pods, pod_prefix)           ? "podCIDR"
                        : overlap(machines, prefix, services, service_prefix) ? "serviceCIDR"
                                                                              : NULL;
    if (!other)
        return 0;
    return kp_fail(error, KP_EINVALID, "spec.network: machineCIDR %s and %s overlap: give one of them another range", cidr, other);
}

static int check_balancer(const struct config *config, struct kp_error *error)
{
    struct vip_pool pool;
    struct kp_error why = {0};
    if (vip_pool_parse(config->load_balancer.addresses, &pool, &why) < 0)
        return kp_fail(error, KP_EINVALID, "spec.loadBalancer.addresses: %s", why.message);
    return 0;
}

static int check_network(const struct config *config, struct kp_error *error)
{
    uint32_t pods = 0, services = 0;
    int pod_prefix = 0, service_prefix = 0;
    if (config_parse_cidr(config->network.pod_cidr, &pods, &pod_prefix) < 0 || pod_prefix < 8 || pod_prefix > 22)
        return kp_fail(error, KP_EINVALID,
                       "spec.network.podCIDR: \"%s\" must be an IPv4 prefix of 8 to 22 bits, such as 10.244.0.0/16",
                       config->network.pod_cidr);
    if (config_parse_cidr(config->network.service_cidr, &services, &service_prefix) < 0 || service_prefix < 8 ||
        service_prefix > 28)
        return kp_fail(error, KP_EINVALID,
                       "spec.network.serviceCIDR: \"%s\" must be an IPv4 prefix of 8 to 28 bits, such as 10.96.0.0/12",
                       config->network.service_cidr);
    if (overlap(pods, pod_prefix, services, service_prefix))
        return kp_fail(error, KP_EINVALID, "spec.network: podCIDR %s and serviceCIDR %s overlap: give one of them another range",
                       config->network.pod_cidr, config->network.service_cidr);
    int r = check_machine_network(config, pods, pod_prefix, services, service_prefix, error);
    if (r == 0)
        r = check_balancer(config, error);
    if (r < 0)
        return r;
    if (kp_empty(config->network.dns_domain) || !is_domain(config->network.dns_domain))
        return kp_fail(error, KP_EINVALID, "spec.network.dnsDomain: \"%s\" must be a domain such as cluster.local",
                       config->network.dns_domain);
    return 0;
}

static int check_pool(const struct config *config, size_t i, struct kp_error *error)
{
    const struct config_pool *pool = &config->pools[i];
    if (!is_label(pool->name, 63 - CONFIG_NAME_MAX - 5) || kp_streq(pool->name, "cp"))
        return kp_fail(error, KP_EINVALID,
                       "spec.nodePools[%zu].name: \"%s\" must be at most %d lower case letters, digits and '-', and not \"cp\"",
                       i, pool->name, 63 - CONFIG_NAME_MAX - 5);
    if (pool->replicas < 0 || pool->replicas > CONFIG_REPLICAS_MAX)
        return kp_fail(error, KP_EINVALID, "spec.nodePools[%zu].replicas: must be between 0 and %d, not %lld", i,
                       CONFIG_REPLICAS_MAX, (long long)pool->replicas);
    return 0;
}

static int unknown_provider(const char *provider, const char *const *known, struct kp_error *error)
{
    KP_AUTO_BUF struct kp_buf list = {0};
    for (size_t i = 0; known[i]; i++)
        kp_buf_printf(&list, "%s\"%s\"", i == 0 ? "" : known[i + 1] ? ", " : " or ", known[i]);
    return kp_fail(error, KP_EINVALID, "spec.provider: \"%s\" is not supported: must be %s", provider, list.data);
}

int config_validate(const struct config *config, struct kp_error *error)
{
    if (!is_label(config->name, CONFIG_NAME_MAX))
        return kp_fail(error, KP_EINVALID,
                       "metadata.name: \"%s\" must be 1 to %d lower case letters, digits and '-', the '-' not at an end",
                       config->name, CONFIG_NAME_MAX);
    const char *const *drivers = cloud_driver_names();
    size_t known = 0;
    while (drivers[known] && !kp_streq(drivers[known], config->provider))
        known++;
    if (!drivers[known])
        return unknown_provider(config->provider, drivers, error);
    struct config_version version;
    if (*config->kubernetes_version && config_parse_version(config->kubernetes_version, &version) < 0)
        return kp_fail(error, KP_EINVALID, "spec.kubernetesVersion: \"%s\" must be a version such as %s", config->kubernetes_version, kp_version);
    /* etcd needs a majority: of an even number no more may fail than of one less. */
    if (config->control_plane.replicas < 1)
        return kp_fail(error, KP_EINVALID, "spec.controlPlane.replicas: must be 1, 3, 5 or 7, not %lld", (long long)config->control_plane.replicas);
    if (config->control_plane.replicas % 2 == 0 || config->control_plane.replicas > CONFIG_CONTROL_PLANES_MAX)
        return kp_fail(error, KP_EINVALID, "spec.controlPlane.replicas: must be 1, 3, 5 or 7, not %lld: etcd needs a majority of an odd number; take %lld",
                       (long long)config->control_plane.replicas,
                       (long long)KP_MIN(config->control_plane.replicas + 1, (int64_t)CONFIG_CONTROL_PLANES_MAX));
    for (size_t i = 0; i < config->n_pools; i++) {
        int r = check_pool(config, i, error);
        if (r < 0)
            return r;
    }
    int r = config_check_snapshots(config, error);
    if (r == 0)
        r = config_check_external(config, error);
    if (r == 0)
        r = config_check_libvirt(config, error);
    if (r == 0)
        r = config_check_cloud(config, error);
    if (r == 0)
        r = config_check_time(config, error);
    return r < 0 ? r : check_network(config, error);
}

const struct kp_string_map *config_component_flags(const struct config *config, const char *component)
{
    for (size_t i = 0; i < config->n_components; i++) {
        if (kp_streq(config->components[i].name, component))
            return &config->components[i].flags;
    }
    return NULL;
}

static struct kp_value *map_value(const struct kp_string_map *map, struct kp_arena *arena)
{
    struct kp_value *object = kp_value_object(arena);
    for (size_t i = 0; i < map->len; i++)
        kp_value_set(arena, object, map->items[i].key, kp_value_string(arena, map->items[i].value));
    return object;
}

static struct kp_value *pool_value(const struct config_pool *pool, struct kp_arena *arena)
{
    struct kp_value *object = kp_value_object(arena), *taints = kp_value_array(arena);
    kp_value_set(arena, object, "name", kp_value_string(arena, pool->name));
    kp_value_set(arena, object, "replicas", kp_value_int(arena, pool->replicas));
    kp_value_set(arena, object, "machine", kp_value_string(arena, pool->machine));
    kp_value_set(arena, object, "labels", map_value(&pool->labels, arena));
    for (size_t i = 0; i < pool->n_taints; i++) {
        struct kp_value *taint = kp_value_object(arena);
        kp_value_set(arena, taint, "key", kp_value_string(arena, pool->taints[i].key));
        kp_value_set(arena, taint, "value", kp_value_string(arena, pool->taints[i].value));
        kp_value_set(arena, taint, "effect", kp_value_string(arena, pool->taints[i].effect));
        kp_value_append(arena, taints, taint);
    }
    kp_value_set(arena, object, "taints", taints);
    return object;
}

static struct kp_value *balancer_value(const struct config *config, struct kp_arena *arena)
{
    struct kp_value *object = kp_value_object(arena), *list = kp_value_array(arena);
    KP_AUTO_FREE char *copy = kp_strdup(config->load_balancer.addresses);
    for (char *rest = copy, *item; (item = strsep(&rest, ",")) != NULL;)
        if (*item)
            kp_value_append(arena, list, kp_value_string(arena, kp_arena_strdup(arena, item)));
    kp_value_set(arena, object, "addresses", list);
    return object;
}

struct kp_value *config_to_value(const struct config *config, struct kp_arena *arena)
{
    struct kp_value *root = kp_value_object(arena), *metadata = kp_value_object(arena), *spec = kp_value_object(arena);
    struct kp_value *control_plane = kp_value_object(arena), *network = kp_value_object(arena);
    struct kp_value *pools = kp_value_array(arena), *components = kp_value_object(arena);
    kp_value_set(arena, root, "apiVersion", kp_value_string(arena, CONFIG_API_VERSION));
    kp_value_set(arena, root, "kind", kp_value_string(arena, "Cluster"));
    kp_value_set(arena, metadata, "name", kp_value_string(arena, config->name));
    kp_value_set(arena, root, "metadata", metadata);
    kp_value_set(arena, spec, "provider", kp_value_string(arena, config->provider));
    if (*config->kubernetes_version)
        kp_value_set(arena, spec, "kubernetesVersion", kp_value_string(arena, config->kubernetes_version));
    kp_value_set(arena, control_plane, "replicas", kp_value_int(arena, config->control_plane.replicas));
    kp_value_set(arena, control_plane, "machine", kp_value_string(arena, config->control_plane.machine));
    kp_value_set(arena, spec, "controlPlane", control_plane);
    for (size_t i = 0; i < config->n_pools; i++)
        kp_value_append(arena, pools, pool_value(&config->pools[i], arena));
    kp_value_set(arena, spec, "nodePools", pools);
    kp_value_set(arena, network, "podCIDR", kp_value_string(arena, config->network.pod_cidr));
    kp_value_set(arena, network, "serviceCIDR", kp_value_string(arena, config->network.service_cidr));
    kp_value_set(arena, network, "dnsDomain", kp_value_string(arena, config->network.dns_domain));
    kp_value_set(arena, network, "machineCIDR", kp_value_string(arena, config->network.machine_cidr));
    kp_value_set(arena, spec, "network", network);
    if (*config->load_balancer.addresses)
        kp_value_set(arena, spec, "loadBalancer", balancer_value(config, arena));
    kp_value_set(arena, spec, "etcd", config_etcd_value(config, arena));
    if (config_keeps_time(config->provider))
        kp_value_set(arena, spec, "timeServers", config_time_value(config, arena));
    if (*config->audit_policy)
        kp_value_set(arena, spec, "audit", config_audit_value(config, arena));
    for (size_t i = 0; i < config->n_components; i++)
        kp_value_set(arena, components, config->components[i].name, map_value(&config->components[i].flags, arena));
    kp_value_set(arena, spec, "componentArgs", components);
    if (config->external.n_machines)
        kp_value_set(arena, spec, "external", config_external_value(config, arena));
    if (*config->libvirt.uri || *config->libvirt.bridge)
        kp_value_set(arena, spec, "libvirt", config_libvirt_value(config, arena));
    if (*config->cloud.section)
        kp_value_set(arena, spec, config->cloud.section, config_cloud_value(config, arena));
    kp_value_set(arena, spec, "image", kp_value_string(arena, config->image));
    kp_value_set(arena, spec, "deletionProtection", kp_value_bool(arena, config->deletion_protection));
    kp_value_set(arena, root, "spec", spec);
    return root;
}
