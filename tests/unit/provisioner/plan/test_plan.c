/* Plans: wanted machines against observed ones. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "provisioner/plan/plan.h"

static struct kp_arena *arena;
static struct config config;

static int setup(void **state)
{
    arena = kp_arena_new(0);
    config_default("demo", 1, 2, arena, &config);
    return 0;
}

static int teardown(void **state)
{
    kp_arena_free(arena);
    return 0;
}

static void expect(const struct plan *plan, size_t i, enum plan_verb verb, const char *name)
{
    assert_true(i < plan->n_actions);
    assert_int_equal(plan->actions[i].verb, verb);
    assert_string_equal(plan->actions[i].name, name);
}

static void nothing_observed_means_everything_is_created(void **state)
{
    struct cloud_machine_list observed = {0};
    struct plan plan;
    assert_int_equal(plan_make(&config, &observed, NULL, arena, &plan, NULL), 0);
    assert_int_equal(plan.n_actions, 3);
    expect(&plan, 0, PLAN_CREATE, "demo-cp-1");
    expect(&plan, 1, PLAN_CREATE, "demo-worker-1");
    expect(&plan, 2, PLAN_CREATE, "demo-worker-2");
    assert_string_equal(plan.actions[0].machine->role, "control-plane");
    assert_null(plan.actions[0].machine->pool);
    assert_string_equal(plan.actions[2].machine->pool->name, "worker");
}

static void an_interrupted_creation_goes_on_where_it_stopped(void **state)
{
    struct cloud_machine machines[] = {
        {.name = "demo-cp-1", .role = "control-plane", .power = CLOUD_POWER_ON},
        {.name = "demo-worker-1", .role = "worker", .power = CLOUD_POWER_OFF},
        {.name = "demo-worker-2", .role = "", .power = CLOUD_POWER_OFF}, /* half-made */
    };
    struct cloud_machine_list observed = {machines, KP_ARRAY_LEN(machines)};
    struct plan plan;
    assert_int_equal(plan_make(&config, &observed, NULL, arena, &plan, NULL), 0);
    assert_int_equal(plan.n_actions, 3);
    expect(&plan, 0, PLAN_KEEP, "demo-cp-1");
    expect(&plan, 1, PLAN_START, "demo-worker-1");
    expect(&plan, 2, PLAN_CREATE, "demo-worker-2");
}

static void a_half_made_machine_goes_before_a_whole_one(void **state)
{
    struct cloud_machine machines[] = {
        {.name = "demo-cp-1", .role = "control-plane", .power = CLOUD_POWER_ON},
        {.name = "demo-worker-1", .role = "worker", .power = CLOUD_POWER_ON},
        {.name = "demo-worker-2", .role = "", .power = CLOUD_POWER_OFF},
        {.name = "demo-worker-3", .role = "worker", .power = CLOUD_POWER_ON},
    };
    struct cloud_machine_list observed = {machines, KP_ARRAY_LEN(machines)};
    struct plan plan;
    assert_int_equal(plan_make(&config, &observed, NULL, arena, &plan, NULL), 0);
    assert_int_equal(plan.n_actions, 4);
    expect(&plan, 2, PLAN_KEEP, "demo-worker-3");
    expect(&plan, 3, PLAN_DELETE, "demo-worker-2");
}

static void a_machine_that_is_off_goes_before_one_that_runs(void **state)
{
    struct cloud_machine machines[] = {
        {.name = "demo-cp-1", .role = "control-plane", .power = CLOUD_POWER_ON},
        {.name = "demo-worker-1", .role = "worker", .power = CLOUD_POWER_ON, .created_s = 10},
        {.name = "demo-worker-2", .role = "worker", .power = CLOUD_POWER_OFF, .created_s = 20},
        {.name = "demo-worker-3", .role = "worker", .power = CLOUD_POWER_ON, .created_s = 30},
    };
    struct cloud_machine_list observed = {machines, KP_ARRAY_LEN(machines)};
    struct plan plan;
    assert_int_equal(plan_make(&config, &observed, NULL, arena, &plan, NULL), 0);
    assert_int_equal(plan.n_actions, 4);
    expect(&plan, 3, PLAN_DELETE, "demo-worker-2");
}

static void too_many_machines_are_refused(void **state)
{
    struct cloud_machine_list observed = {0};
    struct plan plan;
    config.pools[0].replicas = PLAN_MACHINES_MAX;
    assert_int_equal(plan_make(&config, &observed, NULL, arena, &plan, NULL), KP_EINVALID);
}

static void the_newest_go_first_unless_others_are_named(void **state)
{
    struct cloud_machine machines[] = {
        {.name = "demo-cp-1", .role = "control-plane", .power = CLOUD_POWER_ON},
        {.name = "demo-worker-1", .role = "worker", .power = CLOUD_POWER_ON, .created_s = 30},
        {.name = "demo-worker-2", .role = "worker", .power = CLOUD_POWER_ON, .created_s = 10},
        {.name = "demo-worker-3", .role = "worker", .power = CLOUD_POWER_ON, .created_s = 20},
        {.name = "demo-worker-4", .role = "worker", .power = CLOUD_POWER_ON, .created_s = 20},
    };
    char *named[] = {(char *)"demo-worker-2"};
    struct cloud_machine_list observed = {machines, KP_ARRAY_LEN(machines)};
    struct kp_strings remove = {.items = named, .len = 1};
    struct plan plan;
    assert_int_equal(plan_make(&config, &observed, NULL, arena, &plan, NULL), 0);
    assert_int_equal(plan.n_actions, 5);
    expect(&plan, 1, PLAN_KEEP, "demo-worker-2");
    expect(&plan, 2, PLAN_KEEP, "demo-worker-3");
    expect(&plan, 3, PLAN_DELETE, "demo-worker-1");
    expect(&plan, 4, PLAN_DELETE, "demo-worker-4");
    assert_int_equal(plan_changes(&plan), 2);
    config.pools[0].replicas = 3;
    assert_int_equal(plan_make(&config, &observed, &remove, arena, &plan, NULL), 0);
    expect(&plan, 4, PLAN_DELETE, "demo-worker-2");
    assert_int_equal(plan_changes(&plan), 1);
}

static void new_machines_take_the_lowest_free_numbers(void **state)
{
    struct cloud_machine machines[] = {
        {.name = "demo-cp-1", .role = "control-plane", .power = CLOUD_POWER_ON},
        {.name = "demo-worker-3", .role = "worker", .power = CLOUD_POWER_ON},
    };
    struct cloud_machine_list observed = {machines, KP_ARRAY_LEN(machines)};
    struct plan plan;
    config.pools[0].replicas = 3;
    assert_int_equal(plan_make(&config, &observed, NULL, arena, &plan, NULL), 0);
    assert_int_equal(plan.n_actions, 4);
    expect(&plan, 1, PLAN_CREATE, "demo-worker-1");
    expect(&plan, 2, PLAN_CREATE, "demo-worker-2");
    expect(&plan, 3, PLAN_KEEP, "demo-worker-3");
}

/* "demo-worker-1-1" is of pool worker-1, not of pool worker. */
static void pools_whose_names_begin_alike_are_told_apart(void **state)
{
    struct cloud_machine machines[] = {
        {.name = "demo-worker-1-1", .role = "worker", .power = CLOUD_POWER_ON},
        {.name = "demo-worker-01", .role = "worker", .power = CLOUD_POWER_ON},
    };
    struct config_pool pools[2] = {config.pools[0], config.pools[0]};
    struct cloud_machine_list observed = {machines, KP_ARRAY_LEN(machines)};
    struct plan plan;
    pools[0].replicas = 1;
    pools[1].name = "worker-1";
    pools[1].replicas = 1;
    config.pools = pools;
    config.n_pools = 2;
    assert_int_equal(plan_make(&config, &observed, NULL, arena, &plan, NULL), 0);
    assert_int_equal(plan.n_actions, 4);
    expect(&plan, 1, PLAN_CREATE, "demo-worker-1");
    expect(&plan, 2, PLAN_KEEP, "demo-worker-1-1");
    expect(&plan, 3, PLAN_DELETE, "demo-worker-01");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(nothing_observed_means_everything_is_created, setup, teardown),
        cmocka_unit_test_setup_teardown(an_interrupted_creation_goes_on_where_it_stopped, setup, teardown),
        cmocka_unit_test_setup_teardown(a_half_made_machine_goes_before_a_whole_one, setup, teardown),
        cmocka_unit_test_setup_teardown(a_machine_that_is_off_goes_before_one_that_runs, setup, teardown),
        cmocka_unit_test_setup_teardown(the_newest_go_first_unless_others_are_named, setup, teardown),
        cmocka_unit_test_setup_teardown(new_machines_take_the_lowest_free_numbers, setup, teardown),
        cmocka_unit_test_setup_teardown(pools_whose_names_begin_alike_are_told_apart, setup, teardown),
        cmocka_unit_test_setup_teardown(too_many_machines_are_refused, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
