/* Addresses and networks: ip() and cidr(), as Go's net/netip has them (k8s.io/apiserver pkg/cel/library/ip.go, cidr.go). */
#include "lib/cel/cel_internal.h"

#include <arpa/inet.h>

#define FN(name) static struct cel_value name(struct cel_eval *e, const struct cel_value *args)
#define NET_TEXT_MAX 64

struct address {
    int bits; /* 32 or 128 */
    uint8_t bytes[16];
};
struct network {
    struct address address;
    int prefix;
};

static bool same_address(const void *a, const void *b)
{
    const struct address *x = a, *y = b;
    return x->bits == y->bits && memcmp(x->bytes, y->bytes, (size_t)x->bits / 8) == 0;
}

static bool same_network(const void *a, const void *b)
{
    const struct network *x = a, *y = b;
    return x->prefix == y->prefix && same_address(&x->address, &y->address);
}

static const struct cel_class ip_class = {.type = &ip_type, .equal = same_address}, cidr_class = {.type = &cidr_type, .equal = same_network};

static const struct address *address_of(const struct cel_value *v)
{
    return v->object.data;
}

static const struct network *network_of(const struct cel_value *v)
{
    return v->object.data;
}

/* ---- text ------------------------------------------------------------------------------------------------------------------------------------------ */
static bool is_mapped(const struct address *a)
{
    static const uint8_t prefix[12] = {[10] = 0xff, [11] = 0xff};
    return a->bits == 128 && memcmp(a->bytes, prefix, sizeof(prefix)) == 0;
}

static bool read_address(const char *text, struct address *ret)
{
    *ret = (struct address){.bits = strchr(text, ':') ? 128 : 32};
    return inet_pton(ret->bits == 32 ? AF_INET : AF_INET6, text, ret->bytes) == 1;
}

/* The words of a fault into why; true when there is none. */
static bool parse_ip(const struct cel_value *v, struct address *ret, char why[256])
{
    char text[NET_TEXT_MAX];
    int shown = (int)KP_MIN(v->text.len, (size_t)NET_TEXT_MAX);
    bool fits = v->text.len < sizeof(text) && !memchr(v->text.data, '\0', v->text.len);
    snprintf(text, sizeof(text), "%.*s", shown, v->text.data);
    char *zone = fits ? strchr(text, '%') : NULL;
    if (zone && strchr(text, ':'))
        *zone = '\0';
    if (!fits || !read_address(text, ret)) {
        snprintf(why, 256, "IP Address \"%.*s\" parse error during conversion from string: ParseAddr(\"%.*s\"): unable to parse IP", shown, v->text.data, shown,
                 v->text.data);
        return false;
    }
    if (zone)
        snprintf(why, 256, "IP address \"%.*s\" with zone value is not allowed", shown, v->text.data);
    else if (is_mapped(ret))
        snprintf(why, 256, "IPv4-mapped IPv6 address \"%s\" is not allowed", text);
    return !zone && !is_mapped(ret);
}

static bool parse_cidr(const struct cel_value *v, struct network *ret, char why[256])
{
    char text[NET_TEXT_MAX];
    int shown = (int)KP_MIN(v->text.len, (size_t)NET_TEXT_MAX);
    int64_t prefix = -1;
    snprintf(text, sizeof(text), "%.*s", shown, v->text.data);
    char *slash = strrchr(text, '/');
    bool fine = v->text.len < sizeof(text) && strlen(text) == v->text.len && slash;
    if (fine) {
        *slash = '\0';
        const char *digits = slash + 1;
        fine = *digits >= '0' && *digits <= '9' && (*digits != '0' || !digits[1]) && kp_parse_i64(digits, &prefix) == 0 && read_address(text, &ret->address) &&
               prefix <= ret->address.bits;
        ret->prefix = (int)prefix;
    }
    if (!fine)
        snprintf(why, 256, "network address parse error during conversion from string: netip.ParsePrefix(\"%.*s\"): %s", shown, v->text.data,
                 slash ? "unable to parse" : "no '/'");
    else if (is_mapped(&ret->address))
        snprintf(why, 256, "IPv4-mapped IPv6 address \"%.*s\" is not allowed", shown, v->text.data);
    return fine && !is_mapped(&ret->address);
}

/* RFC 5952: the longest run of zeros, of two groups at least, is left out. */
static void address_text(const struct address *a, char out[NET_TEXT_MAX])
{
    int groups[8], run = -1, run_len = 1;
    size_t len = 0;
    if (a->bits == 32) {
        snprintf(out, NET_TEXT_MAX, "%u.%u.%u.%u", a->bytes[0], a->bytes[1], a->bytes[2], a->bytes[3]);
        return;
    }
    for (int i = 0; i < 8; i++)
        groups[i] = a->bytes[2 * i] << 8 | a->bytes[2 * i + 1];
    for (int i = 0; i < 8; i++) {
        int zeros = 0;
        while (i + zeros < 8 && groups[i + zeros] == 0)
            zeros++;
        if (zeros > run_len) {
            run = i;
            run_len = zeros;
        }
    }
    out[0] = '\0';
    for (int i = 0; i < 8; i++) {
        if (i == run) {
            len += (size_t)snprintf(out + len, NET_TEXT_MAX - len, "::");
            i += run_len - 1;
        } else {
            len += (size_t)snprintf(out + len, NET_TEXT_MAX - len, "%s%x", i && out[len - 1] != ':' ? ":" : "", (unsigned)groups[i]);
        }
    }
}

/* ---- addresses -------------------------------------------------------------------------------------------------------------------------------------- */
static struct cel_value of_address(struct cel_eval *e, const struct address *address)
{
    struct address *copy = cel_alloc(e, sizeof(*copy));
    if (!copy)
        return cel_of_null();
    *copy = *address;
    return cel_of_object(&ip_class, copy);
}

static struct cel_value of_network(struct cel_eval *e, const struct network *network)
{
    struct network *copy = cel_alloc(e, sizeof(*copy));
    if (!copy)
        return cel_of_null();
    *copy = *network;
    return cel_of_object(&cidr_class, copy);
}

FN(ip)
{
    struct address address;
    char why[256];
    return parse_ip(&args[0], &address, why) ? of_address(e, &address) : cel_fail(e, "%s", why);
}

FN(is_ip)
{
    struct address address;
    char why[256];
    return cel_of_bool(parse_ip(&args[0], &address, why));
}

FN(is_canonical)
{
    struct address address;
    char why[256], text[NET_TEXT_MAX];
    if (!parse_ip(&args[0], &address, why))
        return cel_fail(e, "%s", why);
    address_text(&address, text);
    return cel_of_bool(strlen(text) == args[0].text.len && memcmp(text, args[0].text.data, args[0].text.len) == 0);
}

FN(family)
{
    return cel_of_int(address_of(&args[0])->bits == 32 ? 4 : 6);
}

FN(ip_string)
{
    char text[NET_TEXT_MAX];
    address_text(address_of(&args[0]), text);
    return cel_copy_text(e, text, strlen(text));
}

static bool is_all(const struct address *a, uint8_t first, uint8_t last)
{
    for (int i = 0; i < a->bits / 8 - 1; i++)
        if (a->bytes[i] != first)
            return false;
    return a->bytes[a->bits / 8 - 1] == last;
}

static bool loopback(const struct address *a)
{
    return a->bits == 32 ? a->bytes[0] == 127 : is_all(a, 0, 1);
}

static bool link_local(const struct address *a)
{
    return a->bits == 32 ? a->bytes[0] == 169 && a->bytes[1] == 254 : a->bytes[0] == 0xfe && (a->bytes[1] & 0xc0) == 0x80;
}

static bool multicast(const struct address *a)
{
    return a->bits == 32 ? (a->bytes[0] & 0xf0) == 0xe0 : a->bytes[0] == 0xff;
}

FN(is_unspecified)
{
    return cel_of_bool(is_all(address_of(&args[0]), 0, 0));
}

FN(is_loopback)
{
    return cel_of_bool(loopback(address_of(&args[0])));
}

FN(is_link_local_multicast)
{
    const struct address *a = address_of(&args[0]);
    return cel_of_bool(a->bits == 32 ? a->bytes[0] == 224 && a->bytes[1] == 0 && a->bytes[2] == 0 : a->bytes[0] == 0xff && (a->bytes[1] & 0x0f) == 2);
}

FN(is_link_local_unicast)
{
    return cel_of_bool(link_local(address_of(&args[0])));
}

FN(is_global_unicast)
{
    const struct address *a = address_of(&args[0]);
    bool broadcast = a->bits == 32 && is_all(a, 255, 255);
    return cel_of_bool(!broadcast && !is_all(a, 0, 0) && !loopback(a) && !multicast(a) && !link_local(a));
}

/* ---- networks ------------------------------------------------------------------------------------------------------------------------------------------- */
static struct address mask(const struct address *a, int prefix)
{
    struct address out = *a;
    for (int i = 0; i < a->bits / 8; i++) {
        int bits = KP_MIN(KP_MAX(prefix - 8 * i, 0), 8);
        out.bytes[i] = (uint8_t)(a->bytes[i] & (0xff00 >> bits));
    }
    return out;
}

static bool within(const struct network *n, const struct address *a)
{
    if (n->address.bits != a->bits)
        return false;
    struct address mine = mask(&n->address, n->prefix), theirs = mask(a, n->prefix);
    return same_address(&mine, &theirs);
}

FN(cidr)
{
    struct network network;
    char why[256];
    return parse_cidr(&args[0], &network, why) ? of_network(e, &network)
                                               : cel_fail(e, "network address parse error during conversion from string: %s", why);
}

FN(is_cidr)
{
    struct network network;
    char why[256];
    return cel_of_bool(parse_cidr(&args[0], &network, why));
}

FN(contains_ip)
{
    return cel_of_bool(within(network_of(&args[0]), address_of(&args[1])));
}

FN(contains_ip_string)
{
    struct cel_value address = ip(e, &args[1]);
    return address.kind == CEL_OPAQUE ? cel_of_bool(within(network_of(&args[0]), address_of(&address))) : address;
}

FN(contains_cidr)
{
    const struct network *outer = network_of(&args[0]), *inner = network_of(&args[1]);
    return cel_of_bool(outer->prefix <= inner->prefix && within(outer, &inner->address));
}

FN(contains_cidr_string)
{
    struct cel_value network = cidr(e, &args[1]);
    return network.kind == CEL_OPAQUE ? contains_cidr(e, (const struct cel_value[]){args[0], network}) : network;
}

FN(cidr_ip)
{
    return of_address(e, &network_of(&args[0])->address);
}

FN(masked)
{
    const struct network *n = network_of(&args[0]);
    return of_network(e, &(const struct network){mask(&n->address, n->prefix), n->prefix});
}

FN(prefix_length)
{
    return cel_of_int(network_of(&args[0])->prefix);
}

FN(cidr_string)
{
    char text[NET_TEXT_MAX], all[NET_TEXT_MAX + 8];
    address_text(&network_of(&args[0])->address, text);
    snprintf(all, sizeof(all), "%s/%d", text, network_of(&args[0])->prefix);
    return cel_copy_text(e, all, strlen(all));
}

/* What upstream takes for the size of a network: its bytes' bits, see cidr.go Size(). */
static uint64_t network_size(const struct cel_value *v)
{
    return (uint64_t)(network_of(v)->prefix + 7) / 8;
}

static uint64_t cost_contains(struct cel_eval *e, const struct cel_value *args, size_t n, const struct cel_value *result)
{
    uint64_t size = network_size(&args[0]), cost = TENTH(2 * size);
    return cost + (args[1].kind == CEL_STRING ? TENTH(value_size(e, &args[1])) : 0);
}

static uint64_t cost_contains_cidr(struct cel_eval *e, const struct cel_value *args, size_t n, const struct cel_value *result)
{
    return cost_contains(e, args, n, result) + TENTH(network_size(&args[0])) + 1;
}

static const struct cel_overload overloads[] = {
    OVERLOAD("ip", "string_to_ip", false, ip, cost_first, ip_type, &cel_string),
    OVERLOAD("isIP", "is_ip", false, is_ip, cost_first, cel_bool, &cel_string),
    OVERLOAD("ip.isCanonical", "ip_is_canonical", false, is_canonical, cost_first_twice, cel_bool, &cel_string),
    OVERLOAD("family", "ip_family", true, family, NULL, cel_int, &ip_type),
    OVERLOAD("isUnspecified", "ip_is_unspecified", true, is_unspecified, NULL, cel_bool, &ip_type),
    OVERLOAD("isLoopback", "ip_is_loopback", true, is_loopback, NULL, cel_bool, &ip_type),
    OVERLOAD("isLinkLocalMulticast", "ip_is_link_local_multicast", true, is_link_local_multicast, NULL, cel_bool, &ip_type),
    OVERLOAD("isLinkLocalUnicast", "ip_is_link_local_unicast", true, is_link_local_unicast, NULL, cel_bool, &ip_type),
    OVERLOAD("isGlobalUnicast", "ip_is_global_unicast", true, is_global_unicast, NULL, cel_bool, &ip_type),
    OVERLOAD("string", "ip_to_string", false, ip_string, NULL, cel_string, &ip_type),
    OVERLOAD("cidr", "string_to_cidr", false, cidr, cost_first, cidr_type, &cel_string),
    OVERLOAD("isCIDR", "is_cidr", false, is_cidr, cost_first, cel_bool, &cel_string),
    OVERLOAD("containsIP", "cidr_contains_ip_string", true, contains_ip_string, cost_contains, cel_bool, &cidr_type, &cel_string),
    OVERLOAD("containsIP", "cidr_contains_ip_ip", true, contains_ip, cost_contains, cel_bool, &cidr_type, &ip_type),
    OVERLOAD("containsCIDR", "cidr_contains_cidr_string", true, contains_cidr_string, cost_contains_cidr, cel_bool, &cidr_type, &cel_string),
    OVERLOAD("containsCIDR", "cidr_contains_cidr", true, contains_cidr, cost_contains_cidr, cel_bool, &cidr_type, &cidr_type),
    OVERLOAD("ip", "cidr_ip", true, cidr_ip, NULL, ip_type, &cidr_type),
    OVERLOAD("masked", "cidr_masked", true, masked, NULL, cidr_type, &cidr_type),
    OVERLOAD("prefixLength", "cidr_prefix_length", true, prefix_length, NULL, cel_int, &cidr_type),
    OVERLOAD("string", "cidr_to_string", false, cidr_string, NULL, cel_string, &cidr_type),
};
const struct cel_library library_net = {overloads, KP_ARRAY_LEN(overloads)};
