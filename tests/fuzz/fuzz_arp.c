/* Who sent an ARP packet: any bytes name a sender or none, and one that announces itself is always read. */
#include <arpa/inet.h>

#include "lib/netlink/netlink.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint32_t sender = 0;
    if (netlink_arp_sender(data, size, &sender))
        KP_ASSERT(sender != 0 && size >= NETLINK_ARP_BYTES);
    if (size >= NETLINK_MAC_BYTES + sizeof(sender)) {
        uint8_t packet[NETLINK_ARP_BYTES];
        uint32_t address, read = 0;
        memcpy(&address, data + NETLINK_MAC_BYTES, sizeof(address));
        netlink_arp_announcement(data, address, packet);
        KP_ASSERT(netlink_arp_sender(packet, sizeof(packet), &read) == (address != 0) && read == address);
    }
    return 0;
}
