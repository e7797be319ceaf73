/* IPv4 networks: reading them, whether they overlap, and the choice of one that is free. */
#include <arpa/inet.h>

#include "cloud/openstack/openstack_internal.h"

bool os_cidr_parse(const char *text, struct os_cidr *ret)
{
    char address[INET_ADDRSTRLEN];
    struct in_addr in;
    int64_t bits;
    const char *slash = text ? strchr(text, '/') : NULL;
    if (!slash || (size_t)(slash - text) >= sizeof(address) || kp_parse_i64(slash + 1, &bits) < 0 || bits < 0 || bits > 32)
        return false;
    memcpy(address, text, (size_t)(slash - text));
    address[slash - text] = 0;
    if (inet_pton(AF_INET, address, &in) != 1)
        return false;
    uint32_t mask = bits ? ~0u << (32 - bits) : 0;
    *ret = (struct os_cidr){ntohl(in.s_addr) & mask, (int)bits};
    return true;
}

bool os_cidr_overlap(struct os_cidr a, struct os_cidr b)
{
    int bits = a.bits < b.bits ? a.bits : b.bits;
    uint32_t mask = bits ? ~0u << (32 - bits) : 0;
    return (a.address & mask) == (b.address & mask);
}

int os_cidr_choose(const struct os_cidr *taken, size_t n, struct kp_arena *arena, const char **ret, struct kp_error *error)
{
    for (uint32_t second = 90; second < 100; second++) {
        for (uint32_t third = 0; third < 256; third++) {
            struct os_cidr cidr = {10u << 24 | second << 16 | third << 8, 24};
            bool is_free = true;
            for (size_t i = 0; i < n && is_free; i++)
                is_free = !os_cidr_overlap(cidr, taken[i]);
            if (is_free) {
                *ret = kp_arena_printf(arena, "10.%u.%u.0/24", second, third);
                return 0;
            }
        }
    }
    return kp_fail(error, KP_EQUOTA, "every network of 10.90.0.0/24 to 10.99.255.0/24 overlaps with one of the project's: name a free one with network.machineCIDR");
}
