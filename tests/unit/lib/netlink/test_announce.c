/* The bytes of a gratuitous ARP, field by field (RFC 826, RFC 5227 3), and who sent one. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>

#include <cmocka.h>

#include <arpa/inet.h>

#include "lib/netlink/netlink.h"

static void an_announcement_asks_for_its_own_address(void **state)
{
    static const uint8_t mac[NETLINK_MAC_BYTES] = {2, 0x42, 1, 2, 3, 4};
    static const uint8_t wanted[NETLINK_ARP_BYTES] = {
        0, 1,             /* Ethernet */
        8, 0,             /* IPv4 */
        6, 4,             /* lengths of the addresses */
        0, 1,             /* a request */
        2, 0x42, 1, 2, 3, 4, 10, 89, 0, 9, /* the sender */
        0, 0, 0, 0, 0, 0, 10, 89, 0, 9,    /* the target: the same address */
    };
    uint8_t packet[NETLINK_ARP_BYTES];
    uint32_t address;
    assert_int_equal(inet_pton(AF_INET, "10.89.0.9", &address), 1);
    netlink_arp_announcement(mac, address, packet);
    assert_memory_equal(packet, wanted, sizeof(wanted));
}

static void the_sender_of_a_packet_is_read(void **state)
{
    static const uint8_t mac[NETLINK_MAC_BYTES] = {2, 0x42, 1, 2, 3, 4};
    uint8_t packet[NETLINK_ARP_BYTES];
    uint32_t address, sender = 7;
    assert_int_equal(inet_pton(AF_INET, "10.89.0.9", &address), 1);
    netlink_arp_announcement(mac, address, packet);
    assert_true(netlink_arp_sender(packet, sizeof(packet), &sender));
    assert_int_equal(sender, address);
    packet[7] = 2; /* an answer */
    assert_true(netlink_arp_sender(packet, sizeof(packet), &sender));
    packet[7] = 3; /* RARP */
    assert_false(netlink_arp_sender(packet, sizeof(packet), &sender));
    packet[7] = 2;
    assert_false(netlink_arp_sender(packet, sizeof(packet) - 1, &sender));
    packet[5] = 16; /* not IPv4 */
    assert_false(netlink_arp_sender(packet, sizeof(packet), &sender));
    packet[5] = 4;
    memset(packet + 14, 0, 4); /* a probe */
    assert_false(netlink_arp_sender(packet, sizeof(packet), &sender));
}

static void words_that_are_no_address_are_refused(void **state)
{
    struct netlink_link link = {.index = 1};
    struct kp_error error = {0};
    assert_int_equal(netlink_announce(&link, "fe80::1", &error), KP_EINVALID);
    assert_int_equal(netlink_address_add(&link, "10.0.0", &error), KP_EINVALID);
    assert_int_equal(netlink_link_of_address("x", &link, &error), KP_EINVALID);
}

static void the_loopback_link_is_found_by_its_address(void **state)
{
    struct netlink_link link;
    struct kp_error error = {0};
    assert_int_equal(netlink_link_of_address("127.0.0.1", &link, &error), 0);
    assert_int_equal(link.index, 1);
    assert_int_equal(link.prefix_len, 8);
    assert_int_equal(netlink_link_of_address("203.0.113.77", &link, &error), KP_ENOTFOUND);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_announcement_asks_for_its_own_address),
        cmocka_unit_test(the_sender_of_a_packet_is_read),
        cmocka_unit_test(words_that_are_no_address_are_refused),
        cmocka_unit_test(the_loopback_link_is_found_by_its_address),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
