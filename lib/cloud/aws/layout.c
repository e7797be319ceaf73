/* How a VPC's addresses are divided over zones; pure. */
#include <arpa/inet.h>

#include "cloud/aws/aws_internal.h"

#define VPC_BITS_MIN 16 /* of EC2 */
#define VPC_BITS_MAX 25 /* that leaves subnets with addresses: EC2 keeps five of each */
#define FIRST_NET 128   /* 10.128.0.0/16 and on; Kubernetes' usual pod network 10.244.0.0/16 is beyond LAST_NET */
#define LAST_NET 239

static uint32_t mask_of(int bits)
{
    return bits ? ~0u << (32 - bits) : 0;
}

bool aws_parse_cidr(const char *text, uint32_t *ret_base, int *ret_bits)
{
    char address[INET_ADDRSTRLEN];
    struct in_addr in;
    int64_t bits = 0;
    const char *slash = strchr(text, '/');
    if (!slash || (size_t)(slash - text) >= sizeof(address))
        return false;
    memcpy(address, text, (size_t)(slash - text));
    address[slash - text] = 0;
    if (inet_pton(AF_INET, address, &in) != 1 || kp_parse_i64(slash + 1, &bits) < 0 || bits < 0 || bits > 32)
        return false;
    *ret_base = ntohl(in.s_addr) & mask_of((int)bits);
    *ret_bits = (int)bits;
    return true;
}

const char *aws_format_address(uint32_t address, struct kp_arena *arena)
{
    return kp_arena_printf(arena, "%u.%u.%u.%u", address >> 24, address >> 16 & 255, address >> 8 & 255, address & 255);
}

const char *aws_format_cidr(uint32_t base, int bits, struct kp_arena *arena)
{
    return kp_arena_printf(arena, "%s/%d", aws_format_address(base, arena), bits);
}

int aws_check_cidr(const char *cidr, struct kp_error *error)
{
    uint32_t base;
    int bits;
    if (!aws_parse_cidr(cidr, &base, &bits))
        return kp_fail(error, KP_EINVALID, "\"%s\" is no IPv4 network: one is written as 10.128.0.0/16", cidr);
    if (bits < VPC_BITS_MIN || bits > VPC_BITS_MAX)
        return kp_fail(error, KP_EINVALID, "a VPC's network has a prefix length from /%d to /%d that leaves room for machines: %s has not", VPC_BITS_MIN,
                       VPC_BITS_MAX, cidr);
    return 0;
}

/* Four slices, eight when there are more zones: a cluster that gets another zone later keeps what it has. */
const char *aws_subnet_cidr(const char *cidr, size_t zones, size_t n, struct kp_arena *arena)
{
    uint32_t base;
    int bits, more = zones <= 4 ? 2 : 3;
    if (!aws_parse_cidr(cidr, &base, &bits) || n >= (1u << more) || bits + more > 28)
        return NULL;
    return aws_format_cidr(base + ((uint32_t)n << (32 - bits - more)), bits + more, arena);
}

static bool overlap(uint32_t a, int a_bits, uint32_t b, int b_bits)
{
    uint32_t mask = mask_of(KP_MIN(a_bits, b_bits));
    return (a & mask) == (b & mask);
}

const char *aws_free_cidr(const struct kp_strings *taken, struct kp_arena *arena)
{
    for (uint32_t n = FIRST_NET; n <= LAST_NET; n++) {
        uint32_t base = 10u << 24 | n << 16, other;
        bool is_free = true;
        int bits;
        for (size_t i = 0; i < taken->len && is_free; i++)
            is_free = !aws_parse_cidr(taken->items[i], &other, &bits) || !overlap(base, 16, other, bits);
        if (is_free)
            return aws_format_cidr(base, 16, arena);
    }
    return NULL;
}
