/* The order of a roll-out, and what etcd must be able to spare. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "provisioner/plan/rollout.h"

static const struct plan_rollout_machine five[] = {
    {"cp-1", "a", true, true, true}, {"cp-2", "a", true, false, true}, {"cp-3", "a", true, false, true},
    {"worker-1", "a", false, false, true}, {"worker-2", "a", false, false, true},
};

static void check(const struct plan_rollout_machine *machines, size_t n, bool down, const char *const *names)
{
    size_t order[8];
    plan_rollout_order(machines, n, "b", down, order);
    for (size_t i = 0; i < n; i++)
        assert_string_equal(machines[order[i]].name, names[i]);
}

static void control_planes_go_first_and_the_leader_last_of_them(void **state)
{
    static const char *const names[] = {"cp-2", "cp-3", "cp-1", "worker-1", "worker-2"};
    check(five, 5, false, names);
}

static void going_down_the_pools_go_first(void **state)
{
    static const char *const names[] = {"worker-1", "worker-2", "cp-2", "cp-3", "cp-1"};
    check(five, 5, true, names);
}

static void what_was_begun_is_finished_first_and_the_sick_come_next(void **state)
{
    struct plan_rollout_machine machines[5];
    static const char *const names[] = {"cp-3", "worker-1", "cp-2", "cp-1", "worker-2"};
    memcpy(machines, five, sizeof(five));
    machines[2].image = "b";
    machines[2].ready = false;
    machines[3].ready = false;
    check(machines, 5, false, names);
}

static void a_quorum_is_left(void **state)
{
    assert_true(plan_rollout_may_take_down(1, 0));
    assert_true(plan_rollout_may_take_down(3, 2));
    assert_false(plan_rollout_may_take_down(3, 1));
    assert_false(plan_rollout_may_take_down(2, 1));
    assert_true(plan_rollout_may_take_down(5, 3));
    assert_false(plan_rollout_may_take_down(5, 2));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(control_planes_go_first_and_the_leader_last_of_them),
        cmocka_unit_test(going_down_the_pools_go_first),
        cmocka_unit_test(what_was_begun_is_finished_first_and_the_sick_come_next),
        cmocka_unit_test(a_quorum_is_left),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
