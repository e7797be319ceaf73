/* Telling the neighbours that an address has moved here: gratuitous ARP (RFC 5227 3, an announcement as request). */
#include "lib/netlink/netlink.h"

#include <arpa/inet.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if_arp.h>
#include <sys/socket.h>
#include <unistd.h>

void netlink_arp_announcement(const uint8_t mac[NETLINK_MAC_BYTES], uint32_t address_be, uint8_t ret[NETLINK_ARP_BYTES])
{
    static const uint8_t head[] = {0, ARPHRD_ETHER, ETHERTYPE_IP >> 8, ETHERTYPE_IP & 0xff, NETLINK_MAC_BYTES, 4, 0, ARPOP_REQUEST};
    memset(ret, 0, NETLINK_ARP_BYTES); /* the target's hardware address stays zero */
    memcpy(ret, head, sizeof(head));
    memcpy(ret + 8, mac, NETLINK_MAC_BYTES);
    memcpy(ret + 14, &address_be, 4);
    memcpy(ret + 24, &address_be, 4);
}

int netlink_announce(const struct netlink_link *link, const char *address, struct kp_error *error)
{
    uint32_t bytes;
    uint8_t packet[NETLINK_ARP_BYTES];
    if (inet_pton(AF_INET, address, &bytes) != 1)
        return kp_fail(error, KP_EINVALID, "%s is no IPv4 address", address);
    netlink_arp_announcement(link->mac, bytes, packet);
    KP_AUTO_CLOSE int fd = socket(AF_PACKET, SOCK_DGRAM | SOCK_CLOEXEC, 0); /* protocol 0: nothing is received */
    if (fd < 0)
        return kp_fail_errno(error, "packet socket");
    struct sockaddr_ll to = {.sll_family = AF_PACKET, .sll_protocol = htons(ETHERTYPE_ARP), .sll_ifindex = (int)link->index,
                             .sll_halen = NETLINK_MAC_BYTES};
    memset(to.sll_addr, 0xff, NETLINK_MAC_BYTES);
    if (sendto(fd, packet, sizeof(packet), 0, (struct sockaddr *)&to, sizeof(to)) < 0)
        return kp_fail_errno(error, "announce %s", address);
    return 0;
}
