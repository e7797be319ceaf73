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
    assert_int_equal(plan_make(&config, &observed, arena, &plan, NULL), 0);
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
        {.name = "demo-worker-3", .role = "worker", .power = CLOUD_POWER_ON},
    };
    struct cloud_machine_list observed = {machines, KP_ARRAY_LEN(machines)};
    struct plan plan;
    assert_int_equal(plan_make(&config, &observed, arena, &plan, NULL), 0);
    assert_int_equal(plan.n_actions, 4);
    expect(&plan, 0, PLAN_KEEP, "demo-cp-1");
    expect(&plan, 1, PLAN_START, "demo-worker-1");
    expect(&plan, 2, PLAN_CREATE, "demo-worker-2");
    expect(&plan, 3, PLAN_DELETE, "demo-worker-3");
}

static void too_many_machines_are_refused(void **state)
{
    struct cloud_machine_list observed = {0};
    struct plan plan;
    config.pools[0].replicas = PLAN_MACHINES_MAX;
    assert_int_equal(plan_make(&config, &observed, arena, &plan, NULL), KP_EINVALID);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(nothing_observed_means_everything_is_created, setup, teardown),
        cmocka_unit_test_setup_teardown(an_interrupted_creation_goes_on_where_it_stopped, setup, teardown),
        cmocka_unit_test_setup_teardown(too_many_machines_are_refused, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
