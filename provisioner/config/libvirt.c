/* spec.libvirt: which libvirt, and a bridge of its machine for the nodes - its rules, and its text. */
#include <arpa/inet.h>
#include <ctype.h>
#include <net/if.h>

#include "lib/vip/vip.h"
#include "provisioner/config/config_internal.h"

static bool parse_ipv4(const char *text, uint32_t *ret)
{
    struct in_addr address;
    if (inet_pton(AF_INET, text, &address) != 1)
        return false;
    *ret = ntohl(address.s_addr);
    return true;
}

static bool is_link_name(const char *name)
{
    for (size_t i = 0; name[i]; i++)
        if (i + 1 >= IFNAMSIZ || (!isalnum((unsigned char)name[i]) && !strchr("-_.", name[i])))
            return false;
    return *name != 0;
}

/* Hosts of the network: neither its first address nor its last. */
static bool is_host(uint32_t address, uint32_t base, int prefix)
{
    uint32_t rest = UINT32_MAX >> prefix;
    return (address & ~rest) == base && (address & rest) != 0 && (address & rest) != rest;
}

static int check_addresses(const struct config *config, uint32_t base, int prefix, uint32_t gateway, struct kp_error *error)
{
    const char *text = config->libvirt.addresses;
    struct vip_pool pool = {0}, services = {0};
    struct kp_error why = {0};
    if (vip_pool_parse(text, &pool, &why) < 0 || pool.len != 1 || !strchr(text, '-') || vip_pool_size(&pool) > 1024)
        return kp_fail(error, KP_EINVALID, "spec.libvirt.addresses: \"%s\" must be a range of at most 1024, such as 10.0.0.100-10.0.0.150, that nobody else "
                       "gives: each machine takes one, and the API", text);
    uint32_t first = pool.ranges[0].first, last = pool.ranges[0].last;
    if (!is_host(first, base, prefix) || !is_host(last, base, prefix))
        return kp_fail(error, KP_EINVALID, "spec.libvirt.addresses: %s is not within spec.network.machineCIDR %s", text, config->network.machine_cidr);
    if (gateway >= first && gateway <= last)
        return kp_fail(error, KP_EINVALID, "spec.libvirt.addresses: %s has the gateway %s in it", text, config->libvirt.gateway);
    if (vip_pool_parse(config->load_balancer.addresses, &services, &why) < 0)
        return kp_fail(error, KP_EINVALID, "spec.loadBalancer.addresses: %s", why.message);
    for (size_t i = 0; i < services.len; i++)
        if (services.ranges[i].first <= last && first <= services.ranges[i].last)
            return kp_fail(error, KP_EINVALID, "spec.libvirt.addresses: %s and spec.loadBalancer.addresses overlap", text);
    return 0;
}

static int check_nameservers(const char *text, struct kp_error *error)
{
    KP_AUTO_FREE char *copy = kp_strdup(text);
    uint32_t address;
    for (char *rest = copy, *item; (item = strsep(&rest, " ")) != NULL;)
        if (*item && !parse_ipv4(item, &address))
            return kp_fail(error, KP_EINVALID, "spec.libvirt.nameservers: \"%s\" must be an IPv4 address", item);
    return 0;
}

static int check_bridge(const struct config *config, struct kp_error *error)
{
    uint32_t base = 0, gateway = 0;
    int prefix = 0;
    if (!*config->libvirt.bridge && (*config->libvirt.addresses || *config->libvirt.gateway || *config->libvirt.nameservers))
        return kp_fail(error, KP_EINVALID, "spec.libvirt: addresses, gateway and nameservers are of the network on a bridge: name it in spec.libvirt.bridge");
    if (!*config->libvirt.bridge)
        return 0;
    if (!is_link_name(config->libvirt.bridge))
        return kp_fail(error, KP_EINVALID, "spec.libvirt.bridge: \"%s\" must be the name of a bridge of libvirt's machine, such as br0", config->libvirt.bridge);
    if (config_parse_cidr(config->network.machine_cidr, &base, &prefix) < 0)
        return kp_fail(error, KP_EINVALID, "spec.libvirt.bridge: spec.network.machineCIDR must be the network that is on %s, such as 10.0.0.0/24, not \"%s\"",
                       config->libvirt.bridge, config->network.machine_cidr);
    if (!parse_ipv4(config->libvirt.gateway, &gateway) || !is_host(gateway, base, prefix))
        return kp_fail(error, KP_EINVALID, "spec.libvirt.gateway: \"%s\" must be the router's address in %s", config->libvirt.gateway, config->network.machine_cidr);
    int r = check_nameservers(config->libvirt.nameservers, error);
    return r < 0 ? r : check_addresses(config, base, prefix, gateway, error);
}

int config_check_libvirt(const struct config *config, struct kp_error *error)
{
    const char *uri = config->libvirt.uri;
    if (!kp_streq(config->provider, "libvirt") && (*config->libvirt.bridge || *config->libvirt.addresses || *config->libvirt.gateway || *config->libvirt.nameservers))
        return kp_fail(error, KP_EINVALID, "spec.libvirt.bridge and what belongs to it is for provider libvirt, and this one is %s", config->provider);
    if (!kp_streq(config->provider, "libvirt") && *uri)
        return kp_fail(error, KP_EINVALID, "spec.libvirt.uri is for provider libvirt, and this one is %s", config->provider);
    if (*uri && !strstr(uri, "://"))
        return kp_fail(error, KP_EINVALID, "spec.libvirt.uri \"%s\" must be a URI such as qemu:///system or qemu+ssh://root@host/system", uri);
    return check_bridge(config, error);
}

struct kp_value *config_libvirt_value(const struct config *config, struct kp_arena *arena)
{
    struct kp_value *libvirt = kp_value_object(arena), *list = kp_value_array(arena);
    if (*config->libvirt.uri)
        kp_value_set(arena, libvirt, "uri", kp_value_string(arena, config->libvirt.uri));
    if (!*config->libvirt.bridge)
        return libvirt;
    KP_AUTO_FREE char *copy = kp_strdup(config->libvirt.nameservers);
    for (char *rest = copy, *item; (item = strsep(&rest, " ")) != NULL;)
        if (*item)
            kp_value_append(arena, list, kp_value_string(arena, kp_arena_strdup(arena, item)));
    kp_value_set(arena, libvirt, "bridge", kp_value_string(arena, config->libvirt.bridge));
    kp_value_set(arena, libvirt, "addresses", kp_value_string(arena, config->libvirt.addresses));
    kp_value_set(arena, libvirt, "gateway", kp_value_string(arena, config->libvirt.gateway));
    kp_value_set(arena, libvirt, "nameservers", list);
    return libvirt;
}
