/* The ResourceQuota controller: what it counts, and when. */
#include "tests/support/kcm_world.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

static struct kcm_world *world;

static int setup(void **state)
{
    static const struct controller *const controller = &resourcequota_controller;
    (void)state;
    world = world_new(&controller, 1, NULL);
    world_put(world, &k8s_resourcequotas_resource, "{metadata: {name: q, namespace: d, uid: uq, resourceVersion: '5'}, spec: {hard: {pods: '3', requests.cpu: '1', "
                                                   "secrets: '2', count/deployments.apps: '1', count/nothings.example.com: '1', count/widgets.example.org: '5'}}}");
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    world_free(world);
    return 0;
}

static void expect_used(const char *name, const char *amount)
{
    const struct k8s_resource_quota *quota = world_written(world, PLAN_UPDATE, &k8s_resourcequotas_resource, 0);
    assert_non_null(quota);
    assert_string_equal(kp_string_map_get(&quota->status->used, name), amount);
}

static void what_is_there_is_counted(void **state)
{
    (void)state;
    world_put(world, &k8s_pods_resource, "{metadata: {name: a, namespace: d}, spec: {containers: [{name: c, resources: {requests: {cpu: 200m}}}]}}");
    world_put(world, &k8s_pods_resource, "{metadata: {name: b, namespace: d}, spec: {containers: [{name: c, resources: {requests: {cpu: 300m}}}]}}");
    world_put(world, &k8s_pods_resource, "{metadata: {name: over, namespace: d}, spec: {containers: [{name: c}]}, status: {phase: Succeeded}}");
    world_put(world, &k8s_pods_resource, "{metadata: {name: a, namespace: elsewhere}, spec: {containers: [{name: c}]}}");
    world_put_metadata(world, &k8s_secrets_resource, "{metadata: {name: s, namespace: d}}");
    world_put_metadata(world, &k8s_deployments_resource, "{metadata: {name: w, namespace: d}}");
    world_plan(world, &resourcequota_controller, "d/q");
    expect_used("pods", "2");
    expect_used("requests.cpu", "500m");
    expect_used("secrets", "1");
    expect_used("count/deployments.apps", "1");
    expect_used("count/nothings.example.com", "0");
    const struct k8s_resource_quota *quota = world_written(world, PLAN_UPDATE, &k8s_resourcequotas_resource, 0);
    assert_true(kp_string_map_equal(&quota->status->hard, &quota->spec->hard));
}

static void what_is_right_is_not_written_again(void **state)
{
    (void)state;
    assert_non_null(strstr(world_plan(world, &resourcequota_controller, "d/q"), "update resourcequotas/status d/q"));
    world_apply(world);
    assert_string_equal(world_plan(world, &resourcequota_controller, "d/q"), "requeue after 300000 ms\n");
    world_put(world, &k8s_pods_resource, "{metadata: {name: a, namespace: d}, spec: {containers: [{name: c}]}}");
    world_plan(world, &resourcequota_controller, "d/q");
    expect_used("pods", "1");
    world_apply(world);
    world_remove(world, &k8s_pods_resource, "d", "a");
    world_plan(world, &resourcequota_controller, "d/q");
    expect_used("pods", "0");
}

static void custom_resources_are_counted(void **state)
{
    (void)state;
    world_define(world, WORLD_WIDGETS("crd1", ""));
    world_put_custom(world, "widgets.example.org", "{metadata: {name: a, namespace: d}}");
    world_put_custom(world, "widgets.example.org", "{metadata: {name: b, namespace: d}}");
    world_put_custom(world, "widgets.example.org", "{metadata: {name: a, namespace: elsewhere}}");
    world_plan(world, &resourcequota_controller, "d/q");
    expect_used("count/widgets.example.org", "2");
    world_undefine(world, "widgets.example.org");
    world_plan(world, &resourcequota_controller, "d/q");
    expect_used("count/widgets.example.org", "0");
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
int main(void)
{
    const struct CMUnitTest tests[] = {TEST(what_is_there_is_counted), TEST(what_is_right_is_not_written_again), TEST(custom_resources_are_counted)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
