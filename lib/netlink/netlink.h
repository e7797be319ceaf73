/* lib/netlink: routes and addresses of this network namespace, over rtnetlink (libmnl), and announcing them. IPv4. */
#ifndef KP_NETLINK_H
#define KP_NETLINK_H

#include "lib/base/base.h"

/* ---- route.c: routes in table main that kprov made (routing protocol NETLINK_PROTOCOL) */
#define NETLINK_PROTOCOL 97
/* Host byte order throughout. */
struct netlink_route {
    uint32_t base;
    int bits;
    uint32_t via;
};
/* "10.244.1.0/24" and "10.89.0.3". False when either is no IPv4. */
bool netlink_route_parse(const char *cidr, const char *via, struct netlink_route *ret);
/* *ret_routes is the caller's to free. */
int netlink_routes_list(struct netlink_route **ret_routes, size_t *ret_count, struct kp_error *error) KP_NODISCARD;
int netlink_route_replace(const struct netlink_route *route, struct kp_error *error) KP_NODISCARD;
int netlink_route_delete(const struct netlink_route *route, struct kp_error *error) KP_NODISCARD; /* absent is fine */

/* ---- address.c */
#define NETLINK_MAC_BYTES 6
struct netlink_link {
    unsigned index;
    int prefix_len; /* of the address it was found by */
    uint8_t mac[NETLINK_MAC_BYTES];
};
/* The link that has this address. KP_ENOTFOUND when none has; KP_EINVALID when it is no IPv4 address. */
int netlink_link_of_address(const char *address, struct netlink_link *ret_link, struct kp_error *error) KP_NODISCARD;
/* Adds address/32 to a link; one that is there is fine. */
int netlink_address_add(const struct netlink_link *link, const char *address, struct kp_error *error) KP_NODISCARD;
int netlink_address_delete(const struct netlink_link *link, const char *address, struct kp_error *error) KP_NODISCARD; /* absent is fine */

/* ---- announce.c */
#define NETLINK_ARP_BYTES 28
/* One gratuitous ARP to everybody on the link: the address is at this link's hardware address now. */
int netlink_announce(const struct netlink_link *link, const char *address, struct kp_error *error) KP_NODISCARD;
/* The packet itself, without its Ethernet header. address_be: network order. */
void netlink_arp_announcement(const uint8_t mac[NETLINK_MAC_BYTES], uint32_t address_be, uint8_t ret[NETLINK_ARP_BYTES]);

/* ---- ask.c: who is there on a link? A kernel answers ARP by itself, however busy its programs are. */
struct netlink_ear;
/* Hears what ARP packets come on the link from now on; the kernel keeps as many as a socket's buffer takes. */
int netlink_ear_new(const struct netlink_link *link, struct netlink_ear **ret_ear, struct kp_error *error) KP_NODISCARD;
void netlink_ear_free(struct netlink_ear *ear); /* accepts NULL */
/* Asks everybody on the link who has the address; whoever does says so later, to netlink_ear_next. */
int netlink_ear_ask(struct netlink_ear *ear, uint32_t address_be, struct kp_error *error) KP_NODISCARD;
/* The address that the sender of the next packet says it has; false when nothing more has come. Does not wait. */
bool netlink_ear_next(struct netlink_ear *ear, uint32_t *ret_address_be);
/* The sender's address of an ARP packet without its Ethernet header; false when it is none of Ethernet and IPv4, or names no sender. */
bool netlink_arp_sender(const uint8_t *packet, size_t len, uint32_t *ret_address_be);

#endif
