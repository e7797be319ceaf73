/* What is wrong with a cluster's machines, and what mends it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "provisioner/plan/repair.h"

#define LIMIT_S 120
#define WELL(n) {.name = n, .machine = REPAIR_MACHINE_ON, .age_s = 1000, .node = REPAIR_NODE_READY, .node_since_s = 900}
#define CP(n, m) {.name = n, .control_plane = true, .machine = REPAIR_MACHINE_ON, .age_s = 1000, .node = REPAIR_NODE_READY, .member = m}

static struct kp_arena *arena;
static struct repair_list list;

static int setup(void **state)
{
    arena = kp_arena_new(0);
    return 0;
}

static int teardown(void **state)
{
    kp_arena_free(arena);
    return 0;
}

static void expect(size_t i, const char *name, enum repair_remedy remedy, const char *problem)
{
    assert_true(i < list.len);
    assert_string_equal(list.items[i].name, name);
    assert_string_equal(repair_remedy_name(list.items[i].remedy), repair_remedy_name(remedy));
    assert_non_null(strstr(list.items[i].problem, problem));
}

static void a_cluster_that_is_well_has_no_findings(void **state)
{
    const struct repair_input in[] = {CP("d-cp-1", REPAIR_MEMBER_HEALTHY), WELL("d-w-1")};
    plan_repair(in, 2, LIMIT_S, NULL, arena, &list);
    assert_int_equal(list.len, 0);
}

static void machines_that_are_gone_half_made_or_off(void **state)
{
    const struct repair_input in[] = {{.name = "d-cp-1", .control_plane = true, .machine = REPAIR_MACHINE_GONE},
                                      {.name = "d-w-1", .machine = REPAIR_MACHINE_HALF_MADE},
                                      {.name = "d-w-2", .machine = REPAIR_MACHINE_OFF, .node = REPAIR_NODE_NOT_READY, .node_since_s = 9000}};
    plan_repair(in, 3, LIMIT_S, NULL, arena, &list);
    assert_int_equal(list.len, 3);
    expect(0, "d-cp-1", REPAIR_CREATE, "gone");
    assert_non_null(strstr(list.items[0].what, "joins as a new member"));
    expect(1, "d-w-1", REPAIR_CREATE, "not made to the end");
    expect(2, "d-w-2", REPAIR_START, "off"); /* that its Node is not Ready is no wonder */
}

static void members_that_are_lost_are_replaced_and_learners_promoted(void **state)
{
    const struct repair_input in[] = {CP("d-cp-1", REPAIR_MEMBER_SILENT), CP("d-cp-2", REPAIR_MEMBER_NONE), CP("d-cp-3", REPAIR_MEMBER_APART),
                                      CP("d-cp-4", REPAIR_MEMBER_LEARNER)};
    plan_repair(in, 4, LIMIT_S, NULL, arena, &list);
    assert_int_equal(list.len, 4);
    expect(0, "d-cp-1", REPAIR_REPLACE, "does not answer");
    expect(1, "d-cp-2", REPAIR_REPLACE, "no member");
    expect(2, "d-cp-3", REPAIR_REPLACE, "another leader");
    expect(3, "d-cp-4", REPAIR_PROMOTE, "no vote");
}

static void a_member_that_only_waits_for_a_leader_is_left_alone(void **state)
{
    const struct repair_input in[] = {CP("d-cp-1", REPAIR_MEMBER_WAITING), CP("d-cp-2", REPAIR_MEMBER_UNKNOWN)};
    plan_repair(in, 2, LIMIT_S, NULL, arena, &list);
    assert_int_equal(list.len, 1);
    expect(0, "d-cp-1", REPAIR_NONE, "no leader");
}

static void a_node_may_be_not_ready_for_a_while(void **state)
{
    struct repair_input in[] = {WELL("d-w-1"), WELL("d-w-2"), WELL("d-w-3")};
    in[0].node = REPAIR_NODE_NOT_READY;
    in[0].node_since_s = LIMIT_S - 1;
    plan_repair(in, 3, LIMIT_S, NULL, arena, &list);
    assert_int_equal(list.len, 0);
    in[0].node_since_s = LIMIT_S;
    plan_repair(in, 3, LIMIT_S, NULL, arena, &list);
    assert_int_equal(list.len, 1);
    expect(0, "d-w-1", REPAIR_REPLACE, "not been Ready for 120 s");
}

static void a_machine_may_take_its_time_to_register(void **state)
{
    struct repair_input in[] = {WELL("d-w-1"), WELL("d-w-2")};
    in[1].node = REPAIR_NODE_ABSENT;
    in[1].age_s = 10;
    plan_repair(in, 2, LIMIT_S, NULL, arena, &list);
    assert_int_equal(list.len, 0);
    in[1].age_s = LIMIT_S;
    plan_repair(in, 2, LIMIT_S, NULL, arena, &list);
    expect(0, "d-w-2", REPAIR_REPLACE, "has not registered");
}

static void when_the_api_is_silent_nodes_tell_nothing(void **state)
{
    struct repair_input in[] = {WELL("d-w-1")};
    in[0].node = REPAIR_NODE_UNKNOWN;
    plan_repair(in, 1, LIMIT_S, NULL, arena, &list);
    assert_int_equal(list.len, 0);
}

static void when_most_nodes_are_not_ready_none_is_replaced_unless_named(void **state)
{
    struct repair_input in[] = {WELL("d-w-1"), WELL("d-w-2"), WELL("d-w-3")};
    in[0].node = in[1].node = REPAIR_NODE_NOT_READY;
    plan_repair(in, 3, LIMIT_S, NULL, arena, &list);
    assert_int_equal(list.len, 2);
    expect(0, "d-w-1", REPAIR_NONE, "not been Ready");
    assert_non_null(strstr(list.items[0].what, "--node"));
    plan_repair(in, 3, LIMIT_S, "d-w-2", arena, &list);
    assert_int_equal(list.len, 1);
    expect(0, "d-w-2", REPAIR_REPLACE, "not been Ready");
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
int main(void)
{
    const struct CMUnitTest tests[] = {
        T(a_cluster_that_is_well_has_no_findings),
        T(machines_that_are_gone_half_made_or_off),
        T(members_that_are_lost_are_replaced_and_learners_promoted),
        T(a_member_that_only_waits_for_a_leader_is_left_alone),
        T(a_node_may_be_not_ready_for_a_while),
        T(a_machine_may_take_its_time_to_register),
        T(when_the_api_is_silent_nodes_tell_nothing),
        T(when_most_nodes_are_not_ready_none_is_replaced_unless_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
