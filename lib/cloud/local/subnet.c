/* Picks a subnet for a cluster that nothing on this host uses. Pure: text and numbers in, a number out. */
#include <arpa/inet.h>

#include "cloud/local/local_internal.h"

#define RANGE_BASE 0x0a590000u /* 10.89.0.0: 256 networks of 24 bits */
#define ROUTES_MAX 4096

int local_cidr_parse(const char *cidr, uint32_t *ret_base, int *ret_prefix)
{
    char text[32];
    struct in_addr address;
    const char *slash = cidr ? strchr(cidr, '/') : NULL;
    int64_t prefix = 0;
    if (!slash || (size_t)(slash - cidr) >= sizeof(text) || kp_parse_i64(slash + 1, &prefix) < 0)
        return KP_EINVALID;
    memcpy(text, cidr, (size_t)(slash - cidr));
    text[slash - cidr] = 0;
    if (inet_pton(AF_INET, text, &address) != 1 || prefix < 8 || prefix > 28)
        return KP_EINVALID;
    uint32_t base = ntohl(address.s_addr);
    if (base & ((1u << (32 - prefix)) - 1))
        return KP_EINVALID;
    *ret_base = base;
    *ret_prefix = (int)prefix;
    return 0;
}

void local_format_address(uint32_t address, char out[16])
{
    snprintf(out, 16, "%u.%u.%u.%u", address >> 24, (address >> 16) & 255, (address >> 8) & 255, address & 255);
}

static bool routed(const char *routes, uint32_t base)
{
    const char *line = routes ? strchr(routes, '\n') : NULL; /* the first line is the heading */
    for (size_t i = 0; line && line[1] && i < ROUTES_MAX; i++) {
        unsigned destination, mask;
        /* Iface Destination Gateway Flags RefCnt Use Metric Mask; addresses in network byte order, in hex. */
        if (sscanf(line + 1, "%*s %x %*x %*x %*d %*d %*d %x", &destination, &mask) == 2 && mask != 0) {
            uint32_t common = ntohl(mask) & 0xffffff00u;
            if ((base & common) == (ntohl(destination) & common))
                return true;
        }
        line = strchr(line + 1, '\n');
    }
    return false;
}

int local_choose_subnet(const char *routes, const uint32_t *taken, size_t n_taken, uint32_t *ret_base)
{
    for (uint32_t n = 0; n < 256; n++) {
        uint32_t base = RANGE_BASE + (n << 8);
        bool used = routed(routes, base);
        for (size_t i = 0; i < n_taken && !used; i++)
            used = (taken[i] & 0xffffff00u) == base;
        if (!used) {
            *ret_base = base;
            return 0;
        }
    }
    return KP_EQUOTA;
}
