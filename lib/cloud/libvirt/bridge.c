/* A cluster's network on a bridge that exists: libvirt's network is of forward mode bridge, and keeps in its metadata what it knows of
   no such network itself - range, gateway, name servers and whose each address is. */
#include <ctype.h>
#include <net/if.h>

#include "cloud/libvirt/libvirt_internal.h"

#define RANGE_MAX 1024 /* addresses of one cluster */

static int parse_range(const char *text, uint32_t *ret_first, uint32_t *ret_last)
{
    KP_AUTO_FREE char *copy = kp_strdup(text ? text : "");
    char *dash = strchr(copy, '-');
    if (!dash)
        return KP_EINVALID;
    *dash = 0;
    bool good = lv_parse_address(copy, ret_first) && lv_parse_address(dash + 1, ret_last) && *ret_first <= *ret_last;
    return good && *ret_last - *ret_first < RANGE_MAX ? 0 : KP_EINVALID;
}

/* "10.0.0.0/24" */
static int parse_cidr(const char *text, int *ret_bits)
{
    const char *slash = text ? strchr(text, '/') : NULL;
    int64_t bits = 0;
    if (!slash || kp_parse_i64(slash + 1, &bits) < 0 || bits < 8 || bits > 30)
        return KP_EINVALID;
    *ret_bits = (int)bits;
    return 0;
}

static bool is_link_name(const char *name)
{
    size_t len = name ? strlen(name) : 0;
    for (size_t i = 0; i < len; i++)
        if (!isalnum((unsigned char)name[i]) && !strchr("-_.", name[i]))
            return false;
    return len > 0 && len < IFNAMSIZ;
}

bool lv_bridged_read(xmlDocPtr doc, struct kp_arena *arena, struct lv_bridged *ret)
{
    xmlNodePtr root = xmlDocGetRootElement(doc), network = lv_xml_child(lv_xml_child(root, "metadata"), "network");
    if (!network)
        return false;
    *ret = (struct lv_bridged){
        .bridge = lv_xml_attr(lv_xml_child(root, "bridge"), "name", arena), .cidr = lv_xml_attr(network, "cidr", arena),
        .addresses = lv_xml_attr(network, "addresses", arena), .gateway = lv_xml_attr(network, "gateway", arena),
        .nameservers = lv_xml_attr(network, "nameservers", arena), .hosts = KP_NEW_ARRAY(arena, struct lv_host, RANGE_MAX),
    };
    if (!ret->bridge || !ret->gateway || !ret->nameservers || parse_cidr(ret->cidr, &ret->bits) < 0 ||
        parse_range(ret->addresses, &ret->first, &ret->last) < 0)
        return false;
    for (xmlNodePtr node = lv_xml_child(network, "host"); node && ret->n_hosts < RANGE_MAX; node = lv_xml_next(node, "host")) {
        struct lv_host *host = &ret->hosts[ret->n_hosts];
        host->name = lv_xml_attr(node, "name", arena);
        ret->n_hosts += host->name && lv_parse_address(lv_xml_attr(node, "ip", arena), &host->address);
    }
    return true;
}

static void attribute(struct kp_buf *out, const char *name, const char *value)
{
    kp_buf_printf(out, " %s='", name);
    lv_xml_text(out, value);
    kp_buf_putc(out, '\'');
}

/* libvirt changes a stored network when it is defined again with the same name and UUID; one that runs goes on. */
static int define(struct lv *lv, const char *uid, const struct lv_bridged *bridged, struct kp_arena *arena, struct kp_error *error)
{
    KP_AUTO_BUF struct kp_buf xml = {0};
    kp_buf_printf(&xml, "<network><name>%s</name><uuid>%s</uuid><metadata><kprov:network xmlns:kprov='" LV_NAMESPACE "'", lv_network_name(uid, arena), uid);
    attribute(&xml, "cidr", bridged->cidr);
    attribute(&xml, "addresses", bridged->addresses);
    attribute(&xml, "gateway", bridged->gateway);
    attribute(&xml, "nameservers", bridged->nameservers);
    kp_buf_putc(&xml, '>');
    for (size_t i = 0; i < bridged->n_hosts; i++) {
        kp_buf_puts(&xml, "<kprov:host");
        attribute(&xml, "name", bridged->hosts[i].name);
        attribute(&xml, "ip", lv_format_address(bridged->hosts[i].address, arena));
        kp_buf_puts(&xml, "/>");
    }
    kp_buf_puts(&xml, "</kprov:network></metadata><forward mode='bridge'/><bridge");
    attribute(&xml, "name", bridged->bridge);
    kp_buf_puts(&xml, "/></network>");
    virNetworkPtr network = virNetworkDefineXML(lv->conn, xml.data);
    if (!network)
        return lv_fail(error, "define the network of cluster %s", uid);
    virNetworkFree(network);
    return 0;
}

/* Two clusters on one bridge must not give the same address. */
static int check_others(struct lv *lv, const char *bridge, uint32_t first, uint32_t last, struct kp_error *error)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    virNetworkPtr *networks = NULL;
    int r = 0, n = virConnectListAllNetworks(lv->conn, &networks, 0);
    if (n < 0)
        return lv_fail(error, "list networks");
    for (int i = 0; i < n; i++) {
        KP_AUTO(lv_xml_free) xmlDocPtr doc = NULL;
        struct lv_bridged other;
        if (r == 0)
            r = lv_network_read(lv, networks[i], &doc, error);
        if (r == 0 && lv_bridged_read(doc, arena, &other) && kp_streq(other.bridge, bridge) && first <= other.last && other.first <= last)
            r = kp_fail(error, KP_ECONFLICT, "addresses %s on bridge %s: network %s gives %s there: choose a range that does not overlap",
                        lv_format_address(first, arena), bridge, virNetworkGetName(networks[i]), other.addresses);
        virNetworkFree(networks[i]);
    }
    free(networks);
    return r;
}

int lv_bridged_check(struct lv *lv, const char *cidr, const struct cloud_bridge *wanted, struct kp_error *error)
{
    uint32_t first = 0, last = 0;
    int bits = 0;
    if (!is_link_name(wanted->name))
        return kp_fail(error, KP_EINVALID, "bridge \"%s\" is no name of a link", wanted->name);
    if (parse_cidr(cidr, &bits) < 0)
        return kp_fail(error, KP_EINVALID, "bridge %s: machineCIDR %s must be the network that is on it, such as 10.0.0.0/24", wanted->name, cidr ? cidr : "");
    if (parse_range(wanted->addresses, &first, &last) < 0)
        return kp_fail(error, KP_EINVALID, "bridge %s: addresses \"%s\" must be a range of at most %d, such as 10.0.0.100-10.0.0.150", wanted->name,
                       wanted->addresses, RANGE_MAX);
    KP_AUTO_FREE char *folder = kp_asprintf("/sys/class/net/%s/bridge", wanted->name);
    if (lv->here && !kp_path_exists(folder))
        return kp_fail(error, KP_ENOTFOUND, "this host has no bridge %s: make it, as with ip link add %s type bridge, and put the host's link into it",
                       wanted->name, wanted->name);
    return check_others(lv, wanted->name, first, last, error);
}

int lv_bridged_define(struct lv *lv, const char *uid, const char *cidr, const struct cloud_bridge *wanted, struct kp_arena *arena, struct kp_error *error)
{
    int r = lv_bridged_check(lv, cidr, wanted, error);
    const struct lv_bridged bridged = {
        .bridge = wanted->name, .cidr = cidr, .addresses = wanted->addresses, .gateway = wanted->gateway, .nameservers = wanted->nameservers};
    return r < 0 ? r : define(lv, uid, &bridged, arena, error);
}

static bool is_taken(const struct lv_bridged *bridged, uint32_t address)
{
    for (size_t i = 0; i < bridged->n_hosts; i++)
        if (bridged->hosts[i].address == address)
            return true;
    return false;
}

int lv_bridged_reserve(struct lv *lv, const char *uid, struct lv_bridged *bridged, const char *name, struct kp_arena *arena, const char **ret_address,
                       struct kp_error *error)
{
    uint32_t address = bridged->first;
    for (size_t i = 0; i < bridged->n_hosts; i++) {
        if (kp_streq(bridged->hosts[i].name, name)) {
            *ret_address = lv_format_address(bridged->hosts[i].address, arena);
            return 0;
        }
    }
    while (address <= bridged->last && is_taken(bridged, address))
        address++;
    if (address > bridged->last)
        return kp_fail(error, KP_EQUOTA, "no address of %s is free: each machine has one, and the API", bridged->addresses);
    bridged->hosts[bridged->n_hosts++] = (struct lv_host){.name = name, .address = address};
    int r = define(lv, uid, bridged, arena, error);
    if (r == 0)
        *ret_address = lv_format_address(address, arena);
    return r;
}

int lv_bridged_release(struct lv *lv, const char *uid, struct lv_bridged *bridged, const char *name, struct kp_arena *arena, struct kp_error *error)
{
    size_t kept = 0;
    for (size_t i = 0; i < bridged->n_hosts; i++)
        if (!kp_streq(bridged->hosts[i].name, name))
            bridged->hosts[kept++] = bridged->hosts[i];
    if (kept == bridged->n_hosts)
        return 0;
    bridged->n_hosts = kept;
    return define(lv, uid, bridged, arena, error);
}
