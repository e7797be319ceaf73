/* PodDisruptionBudget and aggregated ClusterRole plans. */
#include "tests/support/kcm_world.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

static void put_pod(struct kcm_world *world, const char *name, const char *ready, const char *owner)
{
    KP_AUTO_FREE char *yaml = kp_asprintf("{metadata: {name: %s, namespace: d, labels: {app: w}%s}, spec: {containers: [{name: c}]}, status: {phase: Running, "
                                          "conditions: [{type: Ready, status: '%s'}]}}", name, owner, ready);
    world_put(world, &k8s_pods_resource, yaml);
}

#define OWNED ", ownerReferences: [{apiVersion: apps/v1, kind: ReplicaSet, name: r, uid: r1, controller: true}]"

static const struct k8s_pod_disruption_budget_status *status_for(struct kcm_world *world, const char *spec, const char *status)
{
    KP_AUTO_FREE char *yaml = kp_asprintf("{metadata: {name: b, namespace: d, generation: 3}, spec: {selector: {matchLabels: {app: w}}, %s}, status: {%s}}", spec, status);
    world_put(world, &k8s_poddisruptionbudgets_resource, yaml);
    world_plan(world, &disruption_controller, "d/b");
    const struct k8s_pod_disruption_budget *budget = world_written(world, PLAN_UPDATE, &k8s_poddisruptionbudgets_resource, 0);
    assert_non_null(budget);
    return budget->status;
}

static void budgets_tell_what_may_go(void **state)
{
    (void)state;
    static const struct controller *const controller = &disruption_controller;
    struct kcm_world *world = world_new(&controller, 1, NULL);
    world_put(world, &k8s_replicasets_resource, "{metadata: {name: r, namespace: d, uid: r1}, spec: {replicas: 5, selector: {matchLabels: {app: w}}, template: {metadata: "
              "{labels: {app: w}}, spec: {containers: [{name: c}]}}}}");
    put_pod(world, "a", "True", OWNED);
    put_pod(world, "b", "True", OWNED);
    put_pod(world, "c", "True", OWNED);
    put_pod(world, "e", "False", OWNED);
    const struct k8s_pod_disruption_budget_status *status = status_for(world, "minAvailable: 2", "");
    assert_int_equal(status->disruptions_allowed, 1);
    assert_int_equal(status->current_healthy, 3);
    assert_int_equal(status->expected_pods, 4);
    assert_int_equal(status->observed_generation, 3);
    assert_string_equal(status->conditions.items[0].reason, "SufficientPods");
    status = status_for(world, "maxUnavailable: 50%", ""); /* of the five wanted, not the four there: 3 may be missing */
    assert_int_equal(status->desired_healthy, 2);
    assert_int_equal(status->disruptions_allowed, 1);
    status = status_for(world, "minAvailable: 80%", "");
    assert_int_equal(status->desired_healthy, 4);
    assert_int_equal(status->disruptions_allowed, 0);
    assert_string_equal(status->conditions.items[0].reason, "InsufficientPods");
    /* an eviction just granted counts as gone; an old one is forgotten */
    status = status_for(world, "minAvailable: 2", "disruptedPods: {a: '1970-01-12T13:46:00Z', b: '1970-01-12T13:00:00Z', gone: '1970-01-12T13:46:00Z'}");
    assert_int_equal(status->current_healthy, 2);
    assert_int_equal(status->disrupted_pods.len, 1);
    assert_int_equal(status->disruptions_allowed, 0);
    assert_int_equal(world_count(world, "requeue after 80000 ms"), 1);
    put_pod(world, "x", "True", ", ownerReferences: [{apiVersion: example.com/v1, kind: Odd, name: o, uid: o1, controller: true}]");
    status = status_for(world, "maxUnavailable: 1", "");
    assert_int_equal(status->disruptions_allowed, 0);
    assert_string_equal(status->conditions.items[0].reason, "SyncFailed");
    world_free(world);
}

static void an_aggregated_role_has_the_rules_of_those_it_selects(void **state)
{
    (void)state;
    static const struct controller *const controller = &clusterrole_aggregation_controller;
    struct kcm_world *world = world_new(&controller, 1, NULL);
    world_put(world, &k8s_clusterroles_resource, "{metadata: {name: all}, aggregationRule: {clusterRoleSelectors: [{matchLabels: {in: all}}]}, rules: [{verbs: [old], resources: [x]}]}");
    world_put(world, &k8s_clusterroles_resource, "{metadata: {name: one, labels: {in: all}}, rules: [{verbs: [get], resources: [pods]}]}");
    world_put(world, &k8s_clusterroles_resource, "{metadata: {name: two, labels: {in: all}}, rules: [{verbs: [get], resources: [pods]}, {verbs: [list], resources: [nodes]}]}");
    world_put(world, &k8s_clusterroles_resource, "{metadata: {name: other}, rules: [{verbs: [delete], resources: [pods]}]}");
    assert_string_equal(world_plan(world, &clusterrole_aggregation_controller, "all"), "update clusterroles all\n");
    const struct k8s_cluster_role *role = world_written(world, PLAN_UPDATE, &k8s_clusterroles_resource, 0);
    assert_int_equal(role->rules.len, 2);
    assert_string_equal(role->rules.items[1].verbs.items[0], "list");
    world_apply(world);
    assert_string_equal(world_plan(world, &clusterrole_aggregation_controller, "all"), "");
    assert_string_equal(world_plan(world, &clusterrole_aggregation_controller, "one"), "");
    world_free(world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(budgets_tell_what_may_go),
                                       cmocka_unit_test(an_aggregated_role_has_the_rules_of_those_it_selects)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
