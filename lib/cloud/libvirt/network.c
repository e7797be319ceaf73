/* A cluster's network: NAT on a bridge of its own, with every address that machines can get defined as a DHCP host from the
   start: a running network that changes costs libvirt a second of rewriting its firewall. An address is reserved by giving its
   host a name, in the network's stored definition alone. */
#include <arpa/inet.h>

#include "cloud/libvirt/libvirt_internal.h"

#define RANGE_BASE 0x0a5a0000u /* 10.90.0.0: 256 networks of 24 bits */
#define RANGE_NETWORKS 256

const char *lv_network_name(const char *uid, struct kp_arena *arena)
{
    return kp_arena_printf(arena, "kprov-%s", uid);
}

const char *lv_format_address(uint32_t address, struct kp_arena *arena)
{
    return kp_arena_printf(arena, "%u.%u.%u.%u", address >> 24, (address >> 16) & 255, (address >> 8) & 255, address & 255);
}

bool lv_parse_address(const char *text, uint32_t *ret)
{
    struct in_addr address;
    if (!text || inet_pton(AF_INET, text, &address) != 1)
        return false;
    *ret = ntohl(address.s_addr);
    return true;
}

const char *lv_mac_of(const char *address, struct kp_arena *arena)
{
    uint32_t a = 0;
    (void)lv_parse_address(address, &a);
    return kp_arena_printf(arena, "52:54:%02x:%02x:%02x:%02x", a >> 24, (a >> 16) & 255, (a >> 8) & 255, a & 255);
}

static int find_network(struct lv *lv, const char *uid, virNetworkPtr *ret, struct kp_error *error)
{
    *ret = virNetworkLookupByUUIDString(lv->conn, uid);
    return *ret ? 0 : lv_fail(error, "network of cluster %s", uid);
}

/* Of the stored definition; libvirt's test driver has but one. */
static unsigned definition_flags(const struct lv *lv)
{
    return lv->test ? 0 : VIR_NETWORK_XML_INACTIVE;
}

int lv_network_read(const struct lv *lv, virNetworkPtr network, xmlDocPtr *ret_doc, struct kp_error *error)
{
    char *text = virNetworkGetXMLDesc(network, definition_flags(lv));
    if (!text)
        return lv_fail(error, "read network %s", virNetworkGetName(network));
    int r = lv_xml_parse(text, ret_doc, error);
    free(text);
    return r;
}

static int describe(const struct lv *lv, virNetworkPtr network, const char *uid, struct kp_arena *arena, struct cloud_network *ret, struct kp_error *error)
{
    KP_AUTO(lv_xml_free) xmlDocPtr doc = NULL;
    struct lv_bridged bridged;
    int r = lv_network_read(lv, network, &doc, error);
    if (r < 0)
        return r;
    if (lv_bridged_read(doc, arena, &bridged)) {
        *ret = (struct cloud_network){
            .id = kp_arena_strdup(arena, virNetworkGetName(network)), .cluster_uid = kp_arena_strdup(arena, uid), .cidr = bridged.cidr,
            .gateway = bridged.gateway, .prefix_len = bridged.bits, .nameservers = bridged.nameservers,
        };
        return 0;
    }
    xmlNodePtr ip = lv_xml_child(xmlDocGetRootElement(doc), "ip");
    const char *gateway = lv_xml_attr(ip, "address", arena), *prefix = lv_xml_attr(ip, "prefix", arena);
    uint32_t address;
    int64_t bits = 24;
    if (!lv_parse_address(gateway, &address) || (prefix && kp_parse_i64(prefix, &bits) < 0) || bits < 16 || bits > 28)
        return kp_fail(error, KP_ECORRUPT, "network %s has no usable address", virNetworkGetName(network));
    uint32_t base = address & ~((1u << (32 - bits)) - 1);
    *ret = (struct cloud_network){
        .id = kp_arena_strdup(arena, virNetworkGetName(network)), .cluster_uid = kp_arena_strdup(arena, uid),
        .cidr = kp_arena_printf(arena, "%s/%d", lv_format_address(base, arena), (int)bits), .gateway = gateway,
        .prefix_len = (int)bits, .nameservers = gateway, /* libvirt's dnsmasq listens there */
    };
    return 0;
}

int lv_network_get(void *state, const char *uid, struct kp_arena *arena, struct cloud_network *ret, struct kp_error *error)
{
    struct lv *lv = state;
    virNetworkPtr network = NULL;
    int r = find_network(lv, uid, &network, error);
    if (r < 0)
        return r;
    r = describe(lv, network, uid, arena, ret, error);
    virNetworkFree(network);
    return r;
}

bool lv_network_exists(struct lv *lv, const char *uid)
{
    virNetworkPtr network = virNetworkLookupByUUIDString(lv->conn, uid);
    if (network)
        virNetworkFree(network);
    return network != NULL;
}

/* Subnets that libvirt's networks have, or would have when started. */
static bool is_taken(struct lv *lv, uint32_t base, struct kp_arena *arena)
{
    virNetworkPtr *networks = NULL;
    bool taken = false;
    int n = virConnectListAllNetworks(lv->conn, &networks, 0);
    for (int i = 0; i < n; i++) {
        struct cloud_network found;
        struct kp_error ignored = {0};
        uint32_t gateway = 0;
        if (describe(lv, networks[i], "", arena, &found, &ignored) == 0 && lv_parse_address(found.gateway, &gateway))
            taken |= (gateway & 0xffffff00u) == base;
        virNetworkFree(networks[i]);
    }
    free(networks);
    return taken;
}

static int define_network(struct lv *lv, const char *uid, uint32_t base, struct kp_arena *arena, struct kp_error *error)
{
    KP_AUTO_BUF struct kp_buf xml = {0};
    /* The name of a link has 15 characters at most. */
    kp_buf_printf(&xml,
                  "<network><name>%s</name><uuid>%s</uuid><forward mode='nat'/><bridge name='kpv%.8s' stp='off' delay='0'/>"
                  "<ip address='%s' prefix='24'><dhcp>", lv_network_name(uid, arena), uid, uid, lv_format_address(base + 1, arena));
    for (uint32_t n = LV_FIRST_HOST; n <= LV_LAST_HOST; n++) {
        const char *address = lv_format_address(base + n, arena);
        kp_buf_printf(&xml, "<host mac='%s' ip='%s'/>", lv_mac_of(address, arena), address);
    }
    kp_buf_puts(&xml, "</dhcp></ip></network>");
    virNetworkPtr network = virNetworkDefineXML(lv->conn, xml.data);
    if (!network)
        return lv_fail(error, "define the network of cluster %s", uid);
    int r = virNetworkCreate(network) < 0 ? lv_fail(error, "start the network of cluster %s", uid) : 0;
    if (r == 0)
        (void)virNetworkSetAutostart(network, 1); /* a driver without it is started by hand after a reboot */
    else
        (void)virNetworkUndefine(network);
    virNetworkFree(network);
    return r;
}

static int start_network(struct lv *lv, const char *uid, struct kp_error *error)
{
    virNetworkPtr network = NULL;
    int r = find_network(lv, uid, &network, error);
    if (r < 0)
        return r;
    if (virNetworkIsActive(network) != 1 && virNetworkCreate(network) < 0)
        r = lv_fail(error, "start the network of cluster %s", uid);
    if (r == 0)
        (void)virNetworkSetAutostart(network, 1);
    virNetworkFree(network);
    return r;
}

static int parse_cidr(const char *cidr, uint32_t *ret_base, struct kp_error *error)
{
    KP_AUTO_FREE char *address = kp_strdup(cidr);
    size_t len = strcspn(address, "/");
    bool wide = kp_streq(address + len, "/24");
    address[len] = 0;
    if (!wide || !lv_parse_address(address, ret_base) || (*ret_base & 255))
        return kp_fail(error, KP_EINVALID, "machineCIDR %s: libvirt's networks are IPv4 networks of 24 bits, such as 10.90.0.0/24", cidr);
    return 0;
}

int lv_network_check(struct lv *lv, const char *cidr, struct kp_error *error)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    uint32_t base = 0;
    int r = cidr ? parse_cidr(cidr, &base, error) : 0;
    if (r == 0 && cidr && is_taken(lv, base, arena))
        return kp_fail(error, KP_ECONFLICT, "machineCIDR %s: another network of libvirt's has it: choose another one", cidr);
    return r;
}

/* The first network of our range that is free. */
static int choose_network(struct lv *lv, const char *uid, struct kp_arena *arena, struct kp_error *error)
{
    for (uint32_t i = 0; i < RANGE_NETWORKS; i++) {
        struct kp_error why = {0};
        if (is_taken(lv, RANGE_BASE + (i << 8), arena))
            continue;
        int r = define_network(lv, uid, RANGE_BASE + (i << 8), arena, &why);
        /* Routes of libvirt's machine are its own to know: it refuses a network that overlaps one. */
        if (r == 0 || !strstr(why.message, "already in use"))
            return r < 0 ? kp_fail(error, r, "%s", why.message) : 0;
    }
    return kp_fail(error, KP_EQUOTA, "no network in 10.90.0.0/16 is free: choose one with spec.network.machineCIDR");
}

int lv_network_ensure(void *state, const struct cloud_network_spec *spec, struct kp_arena *arena, struct cloud_network *ret,
                      struct kp_error *error)
{
    struct lv *lv = state;
    struct kp_error why = {0};
    uint32_t wanted = 0;
    int r = lv_network_get(lv, spec->cluster_uid, arena, ret, &why);
    /* libvirt's test driver shows of a network that runs what it was when it started: a bridged one changes with every address. */
    bool start = !(lv->test && spec->bridge.name);
    if (r == 0)
        return start ? start_network(lv, spec->cluster_uid, error) : 0;
    if (r != KP_ENOTFOUND)
        return kp_fail(error, r, "%s", why.message);
    if (spec->bridge.name) {
        r = lv_bridged_define(lv, spec->cluster_uid, spec->cidr, &spec->bridge, arena, error);
        if (r == 0 && start)
            r = start_network(lv, spec->cluster_uid, error);
    } else if (!spec->cidr)
        r = choose_network(lv, spec->cluster_uid, arena, error);
    else if ((r = lv_network_check(lv, spec->cidr, error)) == 0 && (r = parse_cidr(spec->cidr, &wanted, error)) == 0)
        r = define_network(lv, spec->cluster_uid, wanted, arena, error);
    return r < 0 ? r : lv_network_get(lv, spec->cluster_uid, arena, ret, error);
}

int lv_network_delete(struct lv *lv, const char *uid, struct kp_error *error)
{
    virNetworkPtr network = NULL;
    struct kp_error why = {0};
    int r = find_network(lv, uid, &network, &why);
    if (r == KP_ENOTFOUND)
        return 0;
    if (r < 0)
        return kp_fail(error, r, "%s", why.message);
    if (virNetworkIsActive(network) == 1 && virNetworkDestroy(network) < 0)
        r = lv_fail(error, "stop the network of cluster %s", uid);
    if (r == 0 && virNetworkUndefine(network) < 0)
        r = lv_fail(error, "delete the network of cluster %s", uid);
    virNetworkFree(network);
    return r;
}

/* ---- addresses: <host mac='' name='' ip=''/> below <dhcp>; a free one has no name */

/* name NULL: the address is nobody's. */
static int name_host(const struct lv *lv, virNetworkPtr network, const char *name, const char *address, struct kp_arena *arena,
                     struct kp_error *error)
{
    KP_AUTO_BUF struct kp_buf xml = {0};
    kp_buf_printf(&xml, "<host mac='%s' ", lv_mac_of(address, arena));
    if (name) {
        kp_buf_puts(&xml, "name='");
        lv_xml_text(&xml, name);
        kp_buf_puts(&xml, "' ");
    }
    kp_buf_printf(&xml, "ip='%s'/>", address);
    unsigned flags = VIR_NETWORK_UPDATE_AFFECT_CONFIG | (lv->test && virNetworkIsActive(network) == 1 ? VIR_NETWORK_UPDATE_AFFECT_LIVE : 0);
    if (virNetworkUpdate(network, VIR_NETWORK_UPDATE_COMMAND_MODIFY, VIR_NETWORK_SECTION_IP_DHCP_HOST, -1, xml.data, flags) < 0)
        return lv_fail(error, "%s address %s", name ? "reserve" : "release", address);
    return 0;
}

/* *ret_own is the address of `name`, or NULL; *ret_free the lowest that nobody has, or 0. */
static int read_hosts(const struct lv *lv, virNetworkPtr network, const char *name, struct kp_arena *arena, const char **ret_own, uint32_t *ret_free,
                      struct kp_error *error)
{
    KP_AUTO(lv_xml_free) xmlDocPtr doc = NULL;
    bool taken[256] = {0};
    uint32_t base = 0;
    int r = lv_network_read(lv, network, &doc, error);
    if (r < 0)
        return r;
    xmlNodePtr ip = lv_xml_child(xmlDocGetRootElement(doc), "ip"), host = lv_xml_child(lv_xml_child(ip, "dhcp"), "host");
    *ret_own = NULL;
    for (; host; host = lv_xml_next(host, "host")) {
        uint32_t address;
        const char *text = lv_xml_attr(host, "ip", arena);
        if (!lv_parse_address(text, &address))
            continue;
        const char *owner = lv_xml_attr(host, "name", arena);
        taken[address & 255] = owner != NULL;
        if (owner && kp_streq(owner, name))
            *ret_own = text;
    }
    *ret_free = 0;
    if (!lv_parse_address(lv_xml_attr(ip, "address", arena), &base))
        return kp_fail(error, KP_ECORRUPT, "network %s has no address", virNetworkGetName(network));
    for (uint32_t n = LV_FIRST_HOST; n <= LV_LAST_HOST && !*ret_free; n++)
        if (!taken[n])
            *ret_free = (base & 0xffffff00u) + n;
    return 0;
}

/* ret->bridge is NULL when the network is one of our own. */
static int find_bridged(const struct lv *lv, virNetworkPtr network, struct kp_arena *arena, struct lv_bridged *ret, struct kp_error *error)
{
    KP_AUTO(lv_xml_free) xmlDocPtr doc = NULL;
    int r = lv_network_read(lv, network, &doc, error);
    if (r == 0 && !lv_bridged_read(doc, arena, ret))
        *ret = (struct lv_bridged){0};
    return r;
}

int lv_address_reserve(struct lv *lv, const char *uid, const char *name, struct kp_arena *arena, const char **ret_address,
                       struct kp_error *error)
{
    virNetworkPtr network = NULL;
    const char *own = NULL;
    struct lv_bridged bridged;
    uint32_t free_address = 0;
    int r = find_network(lv, uid, &network, error);
    if (r < 0)
        return r;
    r = find_bridged(lv, network, arena, &bridged, error);
    if (r == 0 && bridged.bridge) {
        virNetworkFree(network);
        return lv_bridged_reserve(lv, uid, &bridged, name, arena, ret_address, error);
    }
    if (r == 0)
        r = read_hosts(lv, network, name, arena, &own, &free_address, error);
    if (r == 0 && !own && !free_address)
        r = kp_fail(error, KP_EQUOTA, "no address is free in network %s", virNetworkGetName(network));
    if (r == 0 && !own) {
        own = lv_format_address(free_address, arena);
        r = name_host(lv, network, name, own, arena, error);
    }
    virNetworkFree(network);
    if (r == 0)
        *ret_address = own;
    return r;
}

int lv_address_release(struct lv *lv, const char *uid, const char *name, struct kp_error *error)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    virNetworkPtr network = NULL;
    const char *own = NULL;
    struct lv_bridged bridged;
    uint32_t free_address = 0;
    struct kp_error why = {0};
    int r = find_network(lv, uid, &network, &why);
    if (r == KP_ENOTFOUND)
        return 0;
    if (r < 0)
        return kp_fail(error, r, "%s", why.message);
    r = find_bridged(lv, network, arena, &bridged, error);
    if (r == 0 && bridged.bridge) {
        virNetworkFree(network);
        return lv_bridged_release(lv, uid, &bridged, name, arena, error);
    }
    if (r == 0)
        r = read_hosts(lv, network, name, arena, &own, &free_address, error);
    if (r == 0 && own)
        r = name_host(lv, network, NULL, own, arena, error);
    virNetworkFree(network);
    return r;
}
