/* Networks and addresses as numbers: pure. */
#include <arpa/inet.h>

#include "cloud/hetzner/hetzner_internal.h"

bool hz_address_parse(const char *text, uint32_t *ret)
{
    struct in_addr address;
    if (inet_pton(AF_INET, text ? text : "", &address) != 1)
        return false;
    *ret = ntohl(address.s_addr);
    return true;
}

const char *hz_address_format(uint32_t address, struct kp_arena *arena)
{
    return kp_arena_printf(arena, "%u.%u.%u.%u", address >> 24, address >> 16 & 255, address >> 8 & 255, address & 255);
}

static uint32_t mask(int bits)
{
    return bits ? ~(uint32_t)0 << (32 - bits) : 0;
}

bool hz_range_parse(const char *text, struct hz_range *ret)
{
    char address[INET_ADDRSTRLEN];
    const char *slash = text ? strchr(text, '/') : NULL;
    int64_t bits = -1;
    uint32_t base = 0;
    if (!slash || (size_t)(slash - text) >= sizeof address)
        return false;
    memcpy(address, text, (size_t)(slash - text));
    address[slash - text] = 0;
    if (!hz_address_parse(address, &base) || kp_parse_i64(slash + 1, &bits) < 0 || bits < 0 || bits > 32 || (base & ~mask((int)bits)))
        return false;
    *ret = (struct hz_range){.base = base, .bits = (int)bits};
    return true;
}

bool hz_range_overlaps(const struct hz_range *a, const struct hz_range *b)
{
    uint32_t common = mask(KP_MIN(a->bits, b->bits));
    return (a->base & common) == (b->base & common);
}

bool hz_range_is_private(const struct hz_range *range)
{
    static const struct hz_range private[] = {{0x0a000000, 8}, {0xac100000, 12}, {0xc0a80000, 16}};
    for (size_t i = 0; i < KP_ARRAY_LEN(private); i++)
        if (range->bits >= private[i].bits && hz_range_overlaps(range, &private[i]))
            return range->bits <= 24;
    return false;
}

void hz_range_hosts(const struct hz_range *range, bool balancers, uint32_t *first, uint32_t *last)
{
    uint32_t quarter = (uint32_t)1 << (30 - range->bits), limit = 3 * quarter; /* networks are of /24 or larger */
    *first = range->base + (balancers ? limit : HZ_FIRST_HOST);
    *last = range->base + (balancers ? 4 * quarter - 2 : limit - 1);
}
