/* What has to happen to etcd's members: control planes wanted against members there are. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "provisioner/plan/members.h"

#define URL(n) "https://10.89.0." #n ":2380"

static struct kp_arena *arena;
static struct plan_member_list list;
static struct kp_error error;

static int setup(void **state)
{
    arena = kp_arena_new(0);
    error = (struct kp_error){0};
    return 0;
}

static int teardown(void **state)
{
    kp_arena_free(arena);
    return 0;
}

static int decide(const struct plan_control_plane *cps, size_t n_cps, const struct plan_etcd_member *members, size_t n_members)
{
    return plan_members(cps, n_cps, members, n_members, arena, &list, &error);
}

static void expect(size_t i, enum plan_member_verb verb, uint64_t id, const char *name)
{
    assert_true(i < list.len);
    assert_string_equal(plan_member_verb_name(list.items[i].verb), plan_member_verb_name(verb));
    assert_int_equal(list.items[i].id, id);
    assert_string_equal(list.items[i].name, name);
}

static void what_is_wanted_and_there_needs_nothing(void **state)
{
    const struct plan_control_plane cps[] = {{"d-cp-1", URL(10), .exists = true}};
    const struct plan_etcd_member members[] = {{1, "d-cp-1", URL(10), .healthy = true}};
    assert_int_equal(decide(cps, 1, members, 1), 0);
    assert_int_equal(list.len, 0);
    assert_int_equal(list.voters, 1);
    assert_int_equal(list.healthy, 1);
}

static void growing_lets_one_after_the_other_join(void **state)
{
    const struct plan_control_plane cps[] = {{"d-cp-1", URL(10), .exists = true}, {"d-cp-2", URL(11)}, {"d-cp-3", URL(12)}};
    const struct plan_etcd_member members[] = {{1, "d-cp-1", URL(10), .healthy = true}};
    assert_int_equal(decide(cps, 3, members, 1), 0);
    assert_int_equal(list.len, 2);
    expect(0, PLAN_MEMBER_JOIN, 0, "d-cp-2");
    expect(1, PLAN_MEMBER_JOIN, 0, "d-cp-3");
    assert_false(list.items[0].discards);
}

static void a_member_added_before_its_machine_was_made_is_taken_up_by_its_url(void **state)
{
    const struct plan_control_plane cps[] = {{"d-cp-1", URL(10), .exists = true}, {"d-cp-2", URL(11)}, {"d-cp-3", URL(12)}};
    const struct plan_etcd_member members[] = {{1, "d-cp-1", URL(10), .healthy = true}, {3, "", URL(12), .learner = true}};
    assert_int_equal(decide(cps, 3, members, 2), 0);
    assert_int_equal(list.len, 2);
    expect(0, PLAN_MEMBER_JOIN, 3, "d-cp-3"); /* first: there is one learner at a time */
    expect(1, PLAN_MEMBER_JOIN, 0, "d-cp-2");
}

static void a_learner_whose_machine_is_there_is_finished_first(void **state)
{
    const struct plan_control_plane cps[] = {{"d-cp-1", URL(10), .exists = true}, {"d-cp-2", URL(11)}, {"d-cp-3", URL(12), .exists = true}};
    const struct plan_etcd_member members[] = {{1, "d-cp-1", URL(10), .healthy = true}, {3, "d-cp-3", URL(12), .learner = true}};
    assert_int_equal(decide(cps, 3, members, 2), 0);
    expect(0, PLAN_MEMBER_FINISH, 3, "d-cp-3");
    expect(1, PLAN_MEMBER_JOIN, 0, "d-cp-2");
}

static void a_lost_machine_comes_back_as_a_new_member(void **state)
{
    const struct plan_control_plane cps[] = {{"d-cp-1", URL(10), .exists = true}, {"d-cp-2", URL(11)}, {"d-cp-3", URL(12), .exists = true}};
    const struct plan_etcd_member members[] = {
        {1, "d-cp-1", URL(10), .healthy = true}, {2, "d-cp-2", URL(11)}, {3, "d-cp-3", URL(12), .healthy = true}};
    assert_int_equal(decide(cps, 3, members, 3), 0);
    assert_int_equal(list.len, 2);
    expect(0, PLAN_MEMBER_DROP, 2, "d-cp-2");
    expect(1, PLAN_MEMBER_JOIN, 0, "d-cp-2");
}

static void it_is_known_by_its_name_when_it_has_another_address(void **state)
{
    const struct plan_control_plane cps[] = {{"d-cp-1", URL(10), .exists = true}, {"d-cp-2", ""}, {"d-cp-3", URL(12), .exists = true}};
    const struct plan_etcd_member members[] = {
        {1, "d-cp-1", URL(10), .healthy = true}, {2, "d-cp-2", URL(11)}, {3, "d-cp-3", URL(12), .healthy = true}};
    assert_int_equal(decide(cps, 3, members, 3), 0);
    expect(0, PLAN_MEMBER_DROP, 2, "d-cp-2");
}

static void a_sick_machine_is_thrown_away_and_its_member_first(void **state)
{
    const struct plan_control_plane cps[] = {{"d-cp-1", URL(10), .exists = true},
                                             {"d-cp-2", URL(11), .exists = true, .replace = true},
                                             {"d-cp-3", URL(12), .exists = true}};
    const struct plan_etcd_member members[] = {
        {1, "d-cp-1", URL(10), .healthy = true}, {2, "d-cp-2", URL(11)}, {3, "d-cp-3", URL(12), .healthy = true}};
    assert_int_equal(decide(cps, 3, members, 3), 0);
    expect(0, PLAN_MEMBER_DROP, 2, "d-cp-2");
    expect(1, PLAN_MEMBER_JOIN, 0, "d-cp-2");
    assert_true(list.items[1].discards);
}

static void a_machine_that_is_no_member_is_made_anew(void **state)
{
    const struct plan_control_plane cps[] = {{"d-cp-1", URL(10), .exists = true}, {"d-cp-2", URL(11), .exists = true}};
    const struct plan_etcd_member members[] = {{1, "d-cp-1", URL(10), .healthy = true}};
    assert_int_equal(decide(cps, 2, members, 1), 0);
    expect(0, PLAN_MEMBER_JOIN, 0, "d-cp-2");
    assert_true(list.items[0].discards);
}

static void members_that_nobody_is_behind_are_dropped(void **state)
{
    const struct plan_control_plane cps[] = {{"d-cp-1", URL(10), .exists = true}};
    const struct plan_etcd_member members[] = {{1, "d-cp-1", URL(10), .healthy = true}, {8, "", URL(20), .learner = true}};
    assert_int_equal(decide(cps, 1, members, 2), 0);
    assert_int_equal(list.len, 1);
    expect(0, PLAN_MEMBER_DROP, 8, "");
}

static void shrinking_takes_members_away_last(void **state)
{
    const struct plan_control_plane cps[] = {{"d-cp-1", URL(10), .exists = true},
                                             {"d-cp-2", URL(11), .exists = true, .leaving = true},
                                             {"d-cp-3", URL(12), .exists = true, .leaving = true}};
    const struct plan_etcd_member members[] = {{3, "d-cp-3", URL(12), .healthy = true},
                                               {2, "d-cp-2", URL(11), .healthy = true},
                                               {1, "d-cp-1", URL(10), .healthy = true}};
    assert_int_equal(decide(cps, 3, members, 3), 0);
    assert_int_equal(list.len, 2);
    expect(0, PLAN_MEMBER_LEAVE, 3, "d-cp-3");
    expect(1, PLAN_MEMBER_LEAVE, 2, "d-cp-2");
}

static void without_a_quorum_nothing_is_begun(void **state)
{
    const struct plan_control_plane cps[] = {{"d-cp-1", URL(10), .exists = true}, {"d-cp-2", URL(11)}, {"d-cp-3", URL(12)}};
    const struct plan_etcd_member members[] = {{1, "d-cp-1", URL(10), .healthy = true}, {2, "d-cp-2", URL(11)}, {3, "d-cp-3", URL(12)}};
    assert_int_equal(decide(cps, 3, members, 3), KP_EUNAVAILABLE);
    assert_non_null(strstr(error.message, "1 of its 3 voting members are healthy, 2 are needed"));
    assert_non_null(strstr(error.message, "kprov etcd snapshot restore"));
}

static void a_healthy_member_does_not_leave_sick_ones_alone(void **state)
{
    const struct plan_control_plane cps[] = {{"d-cp-1", URL(10), .exists = true},
                                             {"d-cp-2", URL(11), .exists = true},
                                             {"d-cp-3", URL(12), .exists = true, .leaving = true}};
    const struct plan_etcd_member members[] = {
        {1, "d-cp-1", URL(10), .healthy = true}, {2, "d-cp-2", URL(11)}, {3, "d-cp-3", URL(12), .healthy = true}};
    assert_int_equal(decide(cps, 3, members, 3), KP_EUNAVAILABLE);
    assert_non_null(strstr(error.message, "taking etcd member d-cp-3 away would leave 2 voting members of which 1 are healthy"));
    assert_non_null(strstr(error.message, "kprov repair"));
}

static void a_sick_member_may_leave(void **state)
{
    const struct plan_control_plane cps[] = {{"d-cp-1", URL(10), .exists = true},
                                             {"d-cp-2", URL(11), .exists = true},
                                             {"d-cp-3", URL(12), .exists = true, .leaving = true}};
    const struct plan_etcd_member members[] = {
        {1, "d-cp-1", URL(10), .healthy = true}, {2, "d-cp-2", URL(11), .healthy = true}, {3, "d-cp-3", URL(12)}};
    assert_int_equal(decide(cps, 3, members, 3), 0);
    expect(0, PLAN_MEMBER_LEAVE, 3, "d-cp-3");
}

static void quorums(void **state)
{
    assert_int_equal(plan_quorum(1), 1);
    assert_int_equal(plan_quorum(2), 2);
    assert_int_equal(plan_quorum(3), 2);
    assert_int_equal(plan_quorum(5), 3);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
int main(void)
{
    const struct CMUnitTest tests[] = {
        T(what_is_wanted_and_there_needs_nothing),
        T(growing_lets_one_after_the_other_join),
        T(a_member_added_before_its_machine_was_made_is_taken_up_by_its_url),
        T(a_learner_whose_machine_is_there_is_finished_first),
        T(a_lost_machine_comes_back_as_a_new_member),
        T(it_is_known_by_its_name_when_it_has_another_address),
        T(a_sick_machine_is_thrown_away_and_its_member_first),
        T(a_machine_that_is_no_member_is_made_anew),
        T(members_that_nobody_is_behind_are_dropped),
        T(shrinking_takes_members_away_last),
        T(without_a_quorum_nothing_is_begun),
        T(a_healthy_member_does_not_leave_sick_ones_alone),
        T(a_sick_member_may_leave),
        T(quorums),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
