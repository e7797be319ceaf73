/* The pod network's texts, and which nodes lie on the same link. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <net/if.h>

#include "lib/codec/codec.h"
#include "nodeimage/network/network.h"

static const struct kp_value *plugin_of(const char *pod_cidr, unsigned mtu, struct kp_arena *arena)
{
    KP_AUTO_BUF struct kp_buf text = {0};
    struct kp_value *root = NULL;
    network_cni_config(pod_cidr, mtu, &text);
    assert_int_equal(kp_value_parse(text.data, text.len, arena, NULL, &root, NULL), 0);
    return kp_value_at(kp_value_get(root, "plugins"), 0);
}

static void pods_have_the_mtu_of_the_nodes_link(void **state)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    assert_null(kp_value_get(plugin_of("10.244.1.0/24", 0, arena), "mtu"));
    assert_null(kp_value_get(plugin_of("10.244.1.0/24", 1500, arena), "mtu"));
    assert_int_equal(kp_value_get(plugin_of("10.244.1.0/24", 1450, arena), "mtu")->integer, 1450);
    assert_int_equal(network_link_mtu(if_nametoindex("lo")), 65536);
    assert_int_equal(network_link_mtu(999999), 0);
}

static void near_is_what_the_links_prefix_covers(void **state)
{
    assert_true(network_is_near("10.60.0.5", 24, 0x0a3c00fe));
    assert_false(network_is_near("10.60.0.5", 24, 0x0a3c0101));
    assert_false(network_is_near("10.60.0.5", 32, 0x0a3c0006));
    assert_true(network_is_near("10.60.0.5", 8, 0x0a010101));
    assert_false(network_is_near("x", 24, 0x0a3c0006));
    assert_false(network_is_near("10.60.0.5", 0, 0x0a3c0006));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(pods_have_the_mtu_of_the_nodes_link), cmocka_unit_test(near_is_what_the_links_prefix_covers)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
