/* Differences of configs: what machines follow, what nodes are patched for, what cannot be. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "provisioner/plan/change.h"

static struct kp_arena *arena;
static struct config before, after;
static struct plan_change_list changes;

static int setup(void **state)
{
    arena = kp_arena_new(0);
    config_default("demo", 1, 2, arena, &before);
    config_default("demo", 1, 2, arena, &after);
    return 0;
}

static int teardown(void **state)
{
    kp_arena_free(arena);
    return 0;
}

static void expect(size_t i, enum plan_change_kind kind, const char *path, const char *from, const char *to)
{
    assert_true(i < changes.len);
    assert_int_equal(changes.items[i].kind, kind);
    assert_string_equal(changes.items[i].path, path);
    assert_string_equal(changes.items[i].before, from);
    assert_string_equal(changes.items[i].after, to);
}

static void equal_configs_have_no_changes(void **state)
{
    plan_config_changes(&before, &after, arena, &changes);
    assert_int_equal(changes.len, 0);
}

static void pools_are_compared_by_name(void **state)
{
    struct config_pool pools[2] = {after.pools[0], after.pools[0]};
    pools[0].name = "big";
    pools[1].replicas = 5;
    kp_string_map_set(arena, &pools[1].labels, "tier", "app");
    after.pools = pools;
    after.n_pools = 2;
    plan_config_changes(&before, &after, arena, &changes);
    assert_int_equal(changes.len, 3);
    assert_string_equal(changes.items[0].path, "spec.nodePools[big]");
    assert_string_equal(changes.items[0].before, "");
    expect(1, PLAN_CHANGE_POOL, "spec.nodePools[worker].replicas", "2", "5");
    expect(2, PLAN_CHANGE_LABELS, "spec.nodePools[worker].labels", "{}", "{\"tier\":\"app\"}");
}

static void a_pool_that_goes_is_a_change(void **state)
{
    after.n_pools = 0;
    plan_config_changes(&before, &after, arena, &changes);
    assert_int_equal(changes.len, 1);
    assert_int_equal(changes.items[0].kind, PLAN_CHANGE_POOL);
    assert_string_equal(changes.items[0].after, "");
}

static void more_control_planes_are_a_change(void **state)
{
    after.control_plane.replicas = 3;
    plan_config_changes(&before, &after, arena, &changes);
    assert_int_equal(changes.len, 1);
    assert_int_equal(changes.items[0].kind, PLAN_CHANGE_POOL);
    assert_string_equal(changes.items[0].path, "spec.controlPlane.replicas");
    assert_string_equal(changes.items[0].before, "1");
    assert_string_equal(changes.items[0].after, "3");
}

static void another_version_or_image_is_a_release(void **state)
{
    after.kubernetes_version = "v1.99.0";
    after.image = "node-1";
    plan_config_changes(&before, &after, arena, &changes);
    assert_int_equal(changes.len, 2);
    for (size_t i = 0; i < changes.len; i++)
        assert_int_equal(changes.items[i].kind, PLAN_CHANGE_RELEASE);
}

static void what_a_cluster_is_built_on_cannot_change(void **state)
{
    after.network.pod_cidr = "10.1.0.0/16";
    after.control_plane.machine = "large";
    plan_config_changes(&before, &after, arena, &changes);
    assert_int_equal(changes.len, 2);
    for (size_t i = 0; i < changes.len; i++)
        assert_int_equal(changes.items[i].kind, PLAN_CHANGE_FIXED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(equal_configs_have_no_changes, setup, teardown),
        cmocka_unit_test_setup_teardown(more_control_planes_are_a_change, setup, teardown),
        cmocka_unit_test_setup_teardown(pools_are_compared_by_name, setup, teardown),
        cmocka_unit_test_setup_teardown(a_pool_that_goes_is_a_change, setup, teardown),
        cmocka_unit_test_setup_teardown(another_version_or_image_is_a_release, setup, teardown),
        cmocka_unit_test_setup_teardown(what_a_cluster_is_built_on_cannot_change, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
