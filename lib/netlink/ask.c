/* Asking the link who has an address, and hearing who answers: ARP probes (RFC 5227 2.1.1), which change nobody's cache. */
#include "lib/netlink/netlink.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if_arp.h>
#include <sys/socket.h>
#include <unistd.h>

struct netlink_ear {
    struct netlink_link link;
    int fd;
};

bool netlink_arp_sender(const uint8_t *packet, size_t len, uint32_t *ret_address_be)
{
    static const uint8_t head[] = {0, ARPHRD_ETHER, ETHERTYPE_IP >> 8, ETHERTYPE_IP & 0xff, NETLINK_MAC_BYTES, 4, 0};
    if (len < NETLINK_ARP_BYTES || memcmp(packet, head, sizeof(head)) != 0 || (packet[7] != ARPOP_REQUEST && packet[7] != ARPOP_REPLY))
        return false;
    memcpy(ret_address_be, packet + 14, 4);
    return *ret_address_be != 0; /* a probe like ours says nothing of its sender */
}

int netlink_ear_new(const struct netlink_link *link, struct netlink_ear **ret_ear, struct kp_error *error)
{
    const struct sockaddr_ll at = {.sll_family = AF_PACKET, .sll_protocol = htons(ETHERTYPE_ARP), .sll_ifindex = (int)link->index};
    KP_AUTO_CLOSE int fd = socket(AF_PACKET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0); /* nothing of other links until it is bound */
    if (fd < 0 || bind(fd, (const struct sockaddr *)&at, sizeof(at)) < 0)
        return kp_fail_errno(error, "packet socket for ARP");
    struct netlink_ear *ear = kp_calloc(1, sizeof(*ear));
    ear->link = *link;
    ear->fd = fd;
    fd = -1;
    *ret_ear = ear;
    return 0;
}

void netlink_ear_free(struct netlink_ear *ear)
{
    if (!ear)
        return;
    close(ear->fd);
    free(ear);
}

int netlink_ear_ask(struct netlink_ear *ear, uint32_t address_be, struct kp_error *error)
{
    uint8_t packet[NETLINK_ARP_BYTES];
    struct sockaddr_ll to = {.sll_family = AF_PACKET, .sll_protocol = htons(ETHERTYPE_ARP), .sll_ifindex = (int)ear->link.index,
                             .sll_halen = NETLINK_MAC_BYTES};
    memset(to.sll_addr, 0xff, NETLINK_MAC_BYTES);
    netlink_arp_announcement(ear->link.mac, address_be, packet);
    memset(packet + 14, 0, 4); /* from nobody */
    if (sendto(ear->fd, packet, sizeof(packet), 0, (struct sockaddr *)&to, sizeof(to)) < 0)
        return kp_fail_errno(error, "ask who has an address");
    return 0;
}

bool netlink_ear_next(struct netlink_ear *ear, uint32_t *ret_address_be)
{
    uint8_t packet[64];
    for (;;) {
        struct sockaddr_ll from = {0};
        socklen_t from_len = sizeof(from);
        ssize_t n = recvfrom(ear->fd, packet, sizeof(packet), 0, (struct sockaddr *)&from, &from_len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return false;
        if (from.sll_pkttype != PACKET_OUTGOING && netlink_arp_sender(packet, (size_t)n, ret_address_be))
            return true;
    }
}
