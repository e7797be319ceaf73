/* Routes over rtnetlink. */
#include "lib/netlink/netlink_internal.h"

#include <arpa/inet.h>
#include <errno.h>

#define ROUTES_MAX 10000

bool netlink_route_parse(const char *cidr, const char *via, struct netlink_route *ret)
{
    char address[INET_ADDRSTRLEN];
    struct in_addr base, gateway;
    const char *slash = cidr ? strchr(cidr, '/') : NULL;
    int64_t bits;
    if (!slash || !via || (size_t)(slash - cidr) >= sizeof(address) || kp_parse_i64(slash + 1, &bits) < 0 || bits < 1 || bits > 32)
        return false;
    memcpy(address, cidr, (size_t)(slash - cidr));
    address[slash - cidr] = '\0';
    if (inet_pton(AF_INET, address, &base) != 1 || inet_pton(AF_INET, via, &gateway) != 1)
        return false;
    *ret = (struct netlink_route){.base = ntohl(base.s_addr), .bits = (int)bits, .via = ntohl(gateway.s_addr)};
    return true;
}

static struct nlmsghdr *make(char *buffer, int type, int flags, const struct netlink_route *route)
{
    struct nlmsghdr *header = mnl_nlmsg_put_header(buffer);
    header->nlmsg_type = (uint16_t)type;
    header->nlmsg_flags = (uint16_t)(NLM_F_REQUEST | NLM_F_ACK | flags);
    struct rtmsg *rt = mnl_nlmsg_put_extra_header(header, sizeof(*rt));
    rt->rtm_family = AF_INET;
    rt->rtm_dst_len = (unsigned char)route->bits;
    rt->rtm_table = RT_TABLE_MAIN;
    rt->rtm_protocol = NETLINK_PROTOCOL;
    rt->rtm_scope = RT_SCOPE_UNIVERSE;
    rt->rtm_type = RTN_UNICAST;
    mnl_attr_put_u32(header, RTA_DST, htonl(route->base));
    mnl_attr_put_u32(header, RTA_GATEWAY, htonl(route->via));
    return header;
}

int netlink_route_replace(const struct netlink_route *route, struct kp_error *error)
{
    char buffer[512];
    return netlink_talk(make(buffer, RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, route), NULL, NULL, error);
}

int netlink_route_delete(const struct netlink_route *route, struct kp_error *error)
{
    char buffer[512];
    int code = netlink_talk(make(buffer, RTM_DELROUTE, 0, route), NULL, NULL, error);
    if (code < 0 && errno == ESRCH) {
        error->code = 0;
        return 0;
    }
    return code;
}

struct listing {
    struct netlink_route *items;
    size_t len;
};

static int on_route(const struct nlmsghdr *header, void *arg)
{
    struct listing *listing = arg;
    const struct rtmsg *rt = mnl_nlmsg_get_payload(header);
    struct nlattr *attr;
    struct netlink_route route = {.bits = rt->rtm_dst_len};
    if (rt->rtm_protocol != NETLINK_PROTOCOL || rt->rtm_table != RT_TABLE_MAIN || listing->len >= ROUTES_MAX)
        return MNL_CB_OK;
    mnl_attr_for_each(attr, header, sizeof(*rt))
    {
        if (mnl_attr_get_type(attr) == RTA_DST)
            route.base = ntohl(mnl_attr_get_u32(attr));
        else if (mnl_attr_get_type(attr) == RTA_GATEWAY)
            route.via = ntohl(mnl_attr_get_u32(attr));
    }
    listing->items = kp_realloc(listing->items, (listing->len + 1) * sizeof(route));
    listing->items[listing->len++] = route;
    return MNL_CB_OK;
}

int netlink_routes_list(struct netlink_route **ret_routes, size_t *ret_count, struct kp_error *error)
{
    char buffer[512];
    struct listing listing = {0};
    struct nlmsghdr *header = mnl_nlmsg_put_header(buffer);
    header->nlmsg_type = RTM_GETROUTE;
    header->nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
    struct rtmsg *rt = mnl_nlmsg_put_extra_header(header, sizeof(*rt));
    rt->rtm_family = AF_INET;
    if (netlink_talk(header, on_route, &listing, error) < 0) {
        free(listing.items);
        return error->code;
    }
    *ret_routes = listing.items;
    *ret_count = listing.len;
    return 0;
}
