/* DHCP's messages as a client that has an address needs them: its request to keep it, and what the server answers (RFC 2131, 2132, 3442). Pure. */
#include <arpa/inet.h>

#include "dhcp_internal.h"

#define FIXED 236 /* bytes before the magic number */
#define MAGIC 0x63825363U
#define LEAST 300 /* what BOOTP relays let through */
enum {
    OPTION_PAD = 0, OPTION_MASK = 1, OPTION_ROUTER = 3, OPTION_DNS = 6, OPTION_MTU = 26, OPTION_NTP = 42, OPTION_LEASE = 51, OPTION_TYPE = 53,
    OPTION_SERVER = 54, OPTION_WANTED = 55, OPTION_T1 = 58, OPTION_T2 = 59, OPTION_CLIENT = 61, OPTION_ROUTES = 121, OPTION_END = 255,
};
enum { TYPE_REQUEST = 3, TYPE_ACK = 5, TYPE_NAK = 6 };

static void put32(uint8_t *at, uint32_t value)
{
    at[0] = (uint8_t)(value >> 24);
    at[1] = (uint8_t)(value >> 16);
    at[2] = (uint8_t)(value >> 8);
    at[3] = (uint8_t)value;
}

static uint32_t get32(const uint8_t *at)
{
    return (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
}

size_t dhcp_request(const struct dhcp_client *client, uint32_t xid, uint32_t address, uint8_t out[DHCP_MESSAGE_MAX])
{
    static const uint8_t wanted[] = {OPTION_MASK, OPTION_ROUTER, OPTION_DNS, OPTION_MTU, OPTION_NTP, OPTION_LEASE, OPTION_T1, OPTION_T2, OPTION_ROUTES};
    memset(out, 0, DHCP_MESSAGE_MAX);
    out[0] = 1; /* BOOTREQUEST */
    out[1] = 1; /* Ethernet */
    out[2] = sizeof(client->hardware);
    put32(out + 4, xid);
    put32(out + 12, address); /* ciaddr: the server answers to it */
    memcpy(out + 28, client->hardware, sizeof(client->hardware));
    put32(out + FIXED, MAGIC);
    uint8_t *at = out + FIXED + 4;
    *at++ = OPTION_TYPE;
    *at++ = 1;
    *at++ = TYPE_REQUEST;
    *at++ = OPTION_CLIENT; /* as udhcpc has it, who got the address: to the server it is the same client */
    *at++ = 1 + sizeof(client->hardware);
    *at++ = 1;
    memcpy(at, client->hardware, sizeof(client->hardware));
    at += sizeof(client->hardware);
    *at++ = OPTION_WANTED;
    *at++ = sizeof(wanted);
    memcpy(at, wanted, sizeof(wanted));
    at += sizeof(wanted);
    *at++ = OPTION_END;
    return KP_MAX((size_t)(at - out), (size_t)LEAST);
}

static void print_address(struct kp_buf *out, const uint8_t *at)
{
    kp_buf_printf(out, "%s%u.%u.%u.%u", out->len ? " " : "", at[0], at[1], at[2], at[3]);
}

static void print_addresses(struct kp_buf *out, const uint8_t *value, size_t len)
{
    for (size_t i = 0; i + 4 <= len; i += 4)
        print_address(out, value + i);
}

/* RFC 3442: a prefix's length, as many of its bytes as count, the router. */
static bool print_routes(struct kp_buf *out, const uint8_t *value, size_t len)
{
    for (size_t i = 0; i < len;) {
        uint8_t destination[4] = {0};
        size_t bits = value[i++], bytes = (bits + 7) / 8;
        if (bits > 32 || i + bytes + 4 > len)
            return false;
        memcpy(destination, value + i, bytes);
        i += bytes;
        print_address(out, destination);
        kp_buf_printf(out, "/%zu", bits);
        print_address(out, value + i);
        i += 4;
    }
    return true;
}

static int mask_bits(uint32_t mask)
{
    int bits = __builtin_popcount(mask);
    return bits && mask == UINT32_MAX << (32 - bits) ? bits : 0;
}

struct found {
    int type;
    uint32_t mask;
    unsigned mtu;
    struct kp_buf routers, dns, ntp, routes;
};

static bool take_option(int code, const uint8_t *value, size_t len, struct found *found, struct dhcp_answer *ret)
{
    uint32_t number = len == 4 ? get32(value) : 0;
    switch (code) {
    case OPTION_TYPE:
        found->type = len == 1 ? value[0] : 0;
        return len == 1;
    case OPTION_MASK:
        found->mask = number;
        return mask_bits(number) > 0;
    case OPTION_LEASE:
        ret->lease_s = number;
        return len == 4;
    case OPTION_T1:
        ret->t1_s = number;
        return len == 4;
    case OPTION_T2:
        ret->t2_s = number;
        return len == 4;
    case OPTION_SERVER:
        ret->server = number;
        return len == 4;
    case OPTION_MTU:
        found->mtu = len == 2 ? (unsigned)value[0] << 8 | value[1] : 0;
        return len == 2;
    case OPTION_ROUTER:
        print_addresses(&found->routers, value, len);
        return len % 4 == 0;
    case OPTION_DNS:
        print_addresses(&found->dns, value, len);
        return len % 4 == 0;
    case OPTION_NTP:
        print_addresses(&found->ntp, value, len);
        return len % 4 == 0;
    case OPTION_ROUTES:
        return print_routes(&found->routes, value, len);
    default:
        return true;
    }
}

static bool read_options(const uint8_t *data, size_t len, struct found *found, struct dhcp_answer *ret)
{
    for (size_t i = FIXED + 4; i < len && data[i] != OPTION_END;) {
        int code = data[i++];
        if (code == OPTION_PAD)
            continue;
        if (i >= len || i + 1 + data[i] > len)
            return false;
        size_t option_len = data[i++];
        if (!take_option(code, data + i, option_len, found, ret))
            return false;
        i += option_len;
    }
    return true;
}

static const char *text(const struct kp_buf *buf)
{
    return buf->data ? buf->data : "";
}

int dhcp_parse(const struct dhcp_client *client, uint32_t xid, const uint8_t *data, size_t len, struct dhcp_answer *ret, struct kp_buf *answer)
{
    struct found found = {0};
    *ret = (struct dhcp_answer){.address = len >= FIXED + 4 ? get32(data + 16) : 0};
    bool ours = len >= FIXED + 4 && data[0] == 2 && data[2] == sizeof(client->hardware) && get32(data + 4) == xid && get32(data + FIXED) == MAGIC &&
                memcmp(data + 28, client->hardware, sizeof(client->hardware)) == 0 && read_options(data, len, &found, ret);
    bool kept = ours && found.type == TYPE_ACK && ret->address && found.mask && ret->lease_s;
    if (kept) {
        const uint8_t *a = data + 16;
        kp_buf_printf(answer, "ip=%u.%u.%u.%u\nmask=%d\nrouter=%s\nstaticroutes=%s\ndns=%s\nmtu=", a[0], a[1], a[2], a[3], mask_bits(found.mask),
                      text(&found.routers), text(&found.routes), text(&found.dns));
        kp_buf_printf(answer, found.mtu ? "%u\nntp=%s\n" : "%.0u\nntp=%s\n", found.mtu, text(&found.ntp));
    }
    ret->refused = ours && found.type == TYPE_NAK;
    kp_buf_done(&found.routers);
    kp_buf_done(&found.dns);
    kp_buf_done(&found.ntp);
    kp_buf_done(&found.routes);
    return kept || ret->refused ? 0 : KP_EINVALID;
}
