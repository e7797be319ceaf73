/* Addresses of links over rtnetlink. */
#include "lib/netlink/netlink_internal.h"

#include <arpa/inet.h>
#include <errno.h>

struct search {
    uint32_t address; /* network order */
    struct netlink_link *link;
    bool found;
};

static int on_address(const struct nlmsghdr *header, void *arg)
{
    struct search *search = arg;
    const struct ifaddrmsg *message = mnl_nlmsg_get_payload(header);
    struct nlattr *attr;
    mnl_attr_for_each(attr, header, sizeof(*message))
    {
        if (mnl_attr_get_type(attr) == IFA_LOCAL && mnl_attr_get_payload_len(attr) == 4 &&
            mnl_attr_get_u32(attr) == search->address) {
            search->link->index = message->ifa_index;
            search->link->prefix_len = message->ifa_prefixlen;
            search->found = true;
        }
    }
    return MNL_CB_OK;
}

static int on_link(const struct nlmsghdr *header, void *arg)
{
    struct netlink_link *link = arg;
    const struct ifinfomsg *message = mnl_nlmsg_get_payload(header);
    struct nlattr *attr;
    if ((unsigned)message->ifi_index != link->index)
        return MNL_CB_OK;
    mnl_attr_for_each(attr, header, sizeof(*message))
    {
        if (mnl_attr_get_type(attr) == IFLA_ADDRESS && mnl_attr_get_payload_len(attr) == NETLINK_MAC_BYTES)
            memcpy(link->mac, mnl_attr_get_payload(attr), NETLINK_MAC_BYTES);
    }
    return MNL_CB_OK;
}

static int parse(const char *address, uint32_t *ret, struct kp_error *error)
{
    if (inet_pton(AF_INET, address, ret) != 1)
        return kp_fail(error, KP_EINVALID, "%s is no IPv4 address", address);
    return 0;
}

int netlink_link_of_address(const char *address, struct netlink_link *ret_link, struct kp_error *error)
{
    char buffer[256];
    struct netlink_link link = {0};
    struct search search = {.link = &link};
    if (parse(address, &search.address, error) < 0)
        return error->code;
    struct nlmsghdr *header = mnl_nlmsg_put_header(buffer);
    header->nlmsg_type = RTM_GETADDR;
    header->nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
    struct ifaddrmsg *wanted = mnl_nlmsg_put_extra_header(header, sizeof(*wanted));
    wanted->ifa_family = AF_INET;
    if (netlink_talk(header, on_address, &search, error) < 0)
        return error->code;
    if (!search.found)
        return kp_fail(error, KP_ENOTFOUND, "no link has the address %s", address);
    header = mnl_nlmsg_put_header(buffer);
    header->nlmsg_type = RTM_GETLINK;
    header->nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
    struct ifinfomsg *info = mnl_nlmsg_put_extra_header(header, sizeof(*info));
    info->ifi_family = AF_UNSPEC;
    if (netlink_talk(header, on_link, &link, error) < 0)
        return error->code;
    *ret_link = link;
    return 0;
}

static int change(const struct netlink_link *link, const char *address, int type, int flags, struct kp_error *error)
{
    char buffer[256];
    uint32_t bytes;
    if (parse(address, &bytes, error) < 0)
        return error->code;
    struct nlmsghdr *header = mnl_nlmsg_put_header(buffer);
    header->nlmsg_type = (uint16_t)type;
    header->nlmsg_flags = (uint16_t)(NLM_F_REQUEST | NLM_F_ACK | flags);
    struct ifaddrmsg *message = mnl_nlmsg_put_extra_header(header, sizeof(*message));
    message->ifa_family = AF_INET;
    message->ifa_prefixlen = 32;
    message->ifa_index = link->index;
    mnl_attr_put_u32(header, IFA_LOCAL, bytes);
    mnl_attr_put_u32(header, IFA_ADDRESS, bytes);
    return netlink_talk(header, NULL, NULL, error);
}

int netlink_address_add(const struct netlink_link *link, const char *address, struct kp_error *error)
{
    return change(link, address, RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE, error);
}

int netlink_address_delete(const struct netlink_link *link, const char *address, struct kp_error *error)
{
    int code = change(link, address, RTM_DELADDR, 0, error);
    if (code < 0 && errno == EADDRNOTAVAIL) {
        error->code = 0;
        return 0;
    }
    return code;
}
