/* Ranges of addresses, as text and by number. */
#include "lib/vip/vip.h"

#include <arpa/inet.h>

static bool parse_address(const char *text, uint32_t *ret)
{
    struct in_addr address;
    if (inet_pton(AF_INET, text, &address) != 1)
        return false;
    *ret = ntohl(address.s_addr);
    return true;
}

/* "a", "a-b" or "a/bits"; the text is cut up. */
static bool parse_range(char *text, uint32_t *ret_first, uint32_t *ret_last)
{
    char *dash = strchr(text, '-'), *slash = strchr(text, '/');
    int64_t bits = 32;
    if (dash) {
        *dash = 0;
        return parse_address(text, ret_first) && parse_address(dash + 1, ret_last) && *ret_first <= *ret_last;
    }
    if (slash) {
        *slash = 0;
        if (kp_parse_i64(slash + 1, &bits) < 0 || bits < 8 || bits > 32)
            return false;
    }
    if (!parse_address(text, ret_first))
        return false;
    uint32_t rest = bits == 32 ? 0 : UINT32_MAX >> bits;
    *ret_last = *ret_first | rest;
    return (*ret_first & rest) == 0;
}

int vip_pool_parse(const char *text, struct vip_pool *ret_pool, struct kp_error *error)
{
    struct vip_pool pool = {0};
    KP_AUTO_FREE char *copy = kp_strdup(text);
    size_t size = 0;
    for (char *rest = copy, *item; (item = strsep(&rest, ",")) != NULL;) {
        uint32_t first, last;
        if (!*item)
            continue;
        KP_AUTO_FREE char *shown = kp_strdup(item);
        if (pool.len == VIP_RANGES_MAX)
            return kp_fail(error, KP_EUSAGE, "more than %d ranges of addresses", VIP_RANGES_MAX);
        if (!parse_range(item, &first, &last))
            return kp_fail(error, KP_EUSAGE, "\"%s\" is no range of addresses: write 10.0.0.10-10.0.0.20, 10.0.0.16/28 or 10.0.0.7", shown);
        size += (size_t)(last - first) + 1;
        if (size > VIP_ADDRESSES_MAX)
            return kp_fail(error, KP_EUSAGE, "\"%s\" makes more than %d addresses", shown, VIP_ADDRESSES_MAX);
        pool.ranges[pool.len].first = first;
        pool.ranges[pool.len++].last = last;
    }
    *ret_pool = pool;
    return 0;
}

bool vip_pool_has(const struct vip_pool *pool, const char *address)
{
    uint32_t number;
    if (kp_empty(address) || !parse_address(address, &number))
        return false;
    for (size_t i = 0; i < pool->len; i++)
        if (number >= pool->ranges[i].first && number <= pool->ranges[i].last)
            return true;
    return false;
}

size_t vip_pool_size(const struct vip_pool *pool)
{
    size_t size = 0;
    for (size_t i = 0; i < pool->len; i++)
        size += (size_t)(pool->ranges[i].last - pool->ranges[i].first) + 1;
    return size;
}

void vip_pool_address(const struct vip_pool *pool, size_t n, char ret[VIP_ADDRESS_MAX])
{
    for (size_t i = 0; i < pool->len; i++) {
        size_t len = (size_t)(pool->ranges[i].last - pool->ranges[i].first) + 1;
        if (n < len) {
            uint32_t a = pool->ranges[i].first + (uint32_t)n;
            snprintf(ret, VIP_ADDRESS_MAX, "%u.%u.%u.%u", a >> 24, a >> 16 & 255, a >> 8 & 255, a & 255);
            return;
        }
        n -= len;
    }
    KP_ASSERT(false); /* n is beyond the pool */
}
