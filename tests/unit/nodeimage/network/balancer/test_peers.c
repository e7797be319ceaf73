/* Who is alive: by when leases were seen to change. */
#include "nodeimage/network/balancer/balancer.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

static struct k8s_lease *lease(struct kp_arena *arena, int64_t acquired_s, int64_t renewed_s)
{
    struct k8s_lease *l = KP_OBJECT_NEW(arena, k8s_lease);
    l->metadata->name = "n1";
    l->spec->acquire_time = KP_TIME_OF(acquired_s);
    l->spec->renew_time = KP_TIME_OF(renewed_s);
    return l;
}

static void a_lease_that_is_not_renewed_ends_by_this_nodes_clock(void **state)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    struct balancer_peers *peers = balancer_peers_new();
    struct vip_node node;
    balancer_peers_state(peers, "n1", 0, &node);
    assert_false(node.alive);
    balancer_peers_see(peers, lease(arena, 100, 101), 10000); /* may be an old one */
    balancer_peers_state(peers, "n1", 10000, &node);
    assert_true(node.alive && !node.settled);
    balancer_peers_see(peers, lease(arena, 100, 101), 10000 + 2 * BALANCER_RENEW_MS);
    balancer_peers_state(peers, "n1", 10000 + 2 * BALANCER_RENEW_MS, &node);
    assert_false(node.alive);
    balancer_peers_see(peers, lease(arena, 100, 104), 20000);
    balancer_peers_state(peers, "n1", 20000 + BALANCER_DEAD_MS - 1, &node);
    assert_true(node.alive && node.settled);
    balancer_peers_state(peers, "n1", 20000 + BALANCER_DEAD_MS, &node);
    assert_false(node.alive);
    balancer_peers_see(peers, lease(arena, 130, 130), 30000); /* back after a gap */
    balancer_peers_state(peers, "n1", 30000, &node);
    assert_true(node.alive && !node.settled);
    balancer_peers_free(peers);
}

static void a_lease_that_was_not_renewed_in_time_is_late(void **state)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    struct balancer_peers *peers = balancer_peers_new();
    assert_false(balancer_peers_is_late(peers, "n1", 5000)); /* nobody knows it */
    balancer_peers_see(peers, lease(arena, 100, 101), 10000);
    assert_true(balancer_peers_is_late(peers, "n1", 10000)); /* may be an old one */
    balancer_peers_see(peers, lease(arena, 100, 104), 20000);
    assert_false(balancer_peers_is_late(peers, "n1", 20000 + BALANCER_LATE_MS - 1));
    assert_true(balancer_peers_is_late(peers, "n1", 20000 + BALANCER_LATE_MS));
    balancer_peers_free(peers);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_lease_that_is_not_renewed_ends_by_this_nodes_clock),
        cmocka_unit_test(a_lease_that_was_not_renewed_in_time_is_late),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
