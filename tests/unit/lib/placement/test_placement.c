/* Tolerations, node selectors and node affinity. */
#include "lib/placement/placement.h"
#include "tests/support/objects.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

static void tolerations_match_by_key_value_and_effect(void **state)
{
    (void)state;
    const struct k8s_taint taint = {.key = "k", .value = "v", .effect = "NoSchedule"}, bare = {.key = "k", .effect = "NoExecute"};
    assert_true(placement_tolerates(&(struct k8s_toleration){.key = "k", .operator = "Equal", .value = "v", .effect = "NoSchedule"}, &taint));
    assert_true(placement_tolerates(&(struct k8s_toleration){.key = "k", .value = "v"}, &taint));
    assert_true(placement_tolerates(&(struct k8s_toleration){.key = "k", .operator = "Exists"}, &taint));
    assert_true(placement_tolerates(&(struct k8s_toleration){.operator = "Exists"}, &taint));
    assert_true(placement_tolerates(&(struct k8s_toleration){.key = "k"}, &bare));
    assert_false(placement_tolerates(&(struct k8s_toleration){.key = "k", .value = "w"}, &taint));
    assert_false(placement_tolerates(&(struct k8s_toleration){.key = "k", .operator = "Exists", .effect = "NoExecute"}, &taint));
    assert_false(placement_tolerates(&(struct k8s_toleration){.key = "other", .operator = "Exists"}, &taint));
}

static bool fits(const char *spec)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    const struct k8s_node *node = test_object(&k8s_node_type, arena, "{metadata: {name: n1, labels: {disk: ssd, cores: '8'}}}");
    return placement_affinity_matches(test_object(&k8s_pod_spec_type, arena, spec), node);
}

#define REQUIRED(terms) "{containers: [], affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: [" terms "]}}}}"
#define EXPRESSION(key, op, values) REQUIRED("{matchExpressions: [{key: " key ", operator: " op ", values: [" values "]}]}")

static void affinity_terms_are_ored_and_their_expressions_anded(void **state)
{
    (void)state;
    assert_true(fits("{containers: []}"));
    assert_true(fits("{containers: [], nodeSelector: {disk: ssd}}"));
    assert_false(fits("{containers: [], nodeSelector: {disk: ssd, missing: x}}"));
    assert_true(fits(EXPRESSION("disk", "In", "hdd, ssd")));
    assert_false(fits(EXPRESSION("disk", "NotIn", "hdd, ssd")));
    assert_true(fits(EXPRESSION("missing", "NotIn", "x")));
    assert_true(fits(EXPRESSION("disk", "Exists", "")));
    assert_false(fits(EXPRESSION("disk", "DoesNotExist", "")));
    assert_true(fits(EXPRESSION("cores", "Gt", "'7'")));
    assert_false(fits(EXPRESSION("cores", "Gt", "'8'")));
    assert_true(fits(EXPRESSION("cores", "Lt", "'9'")));
    assert_false(fits(EXPRESSION("disk", "Gt", "'1'"))); /* not a number */
    assert_false(fits(EXPRESSION("missing", "Lt", "'1'")));
    assert_true(fits(REQUIRED("{matchFields: [{key: metadata.name, operator: In, values: [n1]}]}")));
    assert_false(fits(REQUIRED("{matchFields: [{key: metadata.name, operator: In, values: [n2]}]}")));
    assert_false(fits(REQUIRED("{}"))); /* an empty term selects nothing */
    assert_true(fits(REQUIRED("{}, {matchExpressions: [{key: disk, operator: Exists}]}")));
    assert_false(fits(REQUIRED("{matchExpressions: [{key: disk, operator: Exists}, {key: missing, operator: Exists}]}")));
}

static void no_execute_alone_counts_when_no_schedule_does_not(void **state)
{
    (void)state;
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    const struct k8s_pod_spec *spec = test_object(&k8s_pod_spec_type, arena, "{containers: []}");
    const struct k8s_node *node = test_object(&k8s_node_type, arena, "{metadata: {name: n1}, spec: {taints: [{key: a, effect: PreferNoSchedule}, {key: b, effect: NoSchedule}]}}");
    assert_string_equal(placement_untolerated(spec, node, true)->key, "b");
    assert_null(placement_untolerated(spec, node, false));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tolerations_match_by_key_value_and_effect),
        cmocka_unit_test(affinity_terms_are_ored_and_their_expressions_anded),
        cmocka_unit_test(no_execute_alone_counts_when_no_schedule_does_not),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
