/* The cluster's networks against address ranges that are taken. Pure: the routing table comes as text. */
#include <arpa/inet.h>

#include "provisioner/config/config.h"

size_t config_parse_routes(const char *routes, struct config_range *ret, size_t max, struct kp_arena *arena)
{
    size_t n = 0;
    const char *line = routes ? strchr(routes, '\n') : NULL; /* the first line is the heading */
    for (; line && line[1] && n < max; line = strchr(line + 1, '\n')) {
        char link[32];
        unsigned destination, mask;
        /* Iface Destination Gateway Flags RefCnt Use Metric Mask; addresses in network byte order, in hex. */
        if (sscanf(line + 1, "%31s %x %*x %*x %*d %*d %*d %x", link, &destination, &mask) != 3 || mask == 0)
            continue;
        ret[n++] = (struct config_range){ntohl(destination), __builtin_popcount(mask), kp_arena_strdup(arena, link)};
    }
    return n;
}

int config_check_ranges(const struct config *config, const struct config_range *ranges, size_t count, struct kp_error *error)
{
    const struct {
        const char *field, *cidr;
    } networks[] = {
        {"podCIDR", config->network.pod_cidr},
        {"serviceCIDR", config->network.service_cidr},
        {"machineCIDR", config->network.machine_cidr},
    };
    for (size_t i = 0; i < KP_ARRAY_LEN(networks) * count; i++) {
        const struct config_range *range = &ranges[i % count];
        const char *cidr = networks[i / count].cidr;
        uint32_t base = 0;
        int prefix = 0;
        if (cidr == config->network.machine_cidr && *config->libvirt.bridge)
            continue; /* the host is in that network itself */
        if (kp_empty(cidr) || config_parse_cidr(cidr, &base, &prefix) < 0)
            continue;
        uint32_t common = 0xffffffffu << (32 - KP_MIN(prefix, range->prefix));
        if ((base & common) == (range->base & common))
            return kp_fail(error, KP_EINVALID,
                           "spec.network.%s: %s overlaps %u.%u.%u.%u/%d, which this host reaches through %s: choose a range that the "
                           "host's routes leave free (ip route)",
                           networks[i / count].field, cidr, range->base >> 24, (range->base >> 16) & 255, (range->base >> 8) & 255,
                           range->base & 255, range->prefix, range->link);
    }
    return 0;
}
