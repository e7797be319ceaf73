/* The plan of the namespace controller: what goes first, what is told meanwhile, and when the finalizer goes. What is left in a namespace it asks the store. */
#include "tests/support/fake_api.h"
#include "tests/support/kcm_world.h"
#include "tests/support/objects.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#define PODS "/api/v1/namespaces/d/pods"
#define MAPS "/api/v1/namespaces/d/configmaps"
#define SECRETS "/api/v1/namespaces/d/secrets"
#define ENDING "{metadata: {name: d, uid: ns1, deletionTimestamp: '2026-01-01T00:00:00Z'}, spec: {finalizers: [%s]}, status: {phase: Terminating}}"

static int set_up(void **state)
{
    *state = store_world_new(&namespace_controller);
    return 0;
}

static int tear_down(void **state)
{
    store_world_free(*state);
    return 0;
}

static const char *plan_of(struct kcm_store_world *f, const char *finalizers)
{
    KP_AUTO_FREE char *yaml = kp_asprintf(ENDING, finalizers);
    world_put(f->world, &k8s_namespaces_resource, yaml);
    return world_plan(f->world, &namespace_controller, "d");
}

static const char *condition_of(struct kcm_store_world *f, const char *type)
{
    const struct k8s_namespace *ns = world_written(f->world, PLAN_UPDATE, &k8s_namespaces_resource, 0);
    for (size_t i = 0; ns && i < ns->status->conditions.len; i++)
        if (kp_streq(ns->status->conditions.items[i].type, type))
            return ns->status->conditions.items[i].status;
    return "none";
}

static void nothing_is_planned_for_one_that_is_not_being_deleted(void **state)
{
    struct kcm_store_world *f = *state;
    world_put(f->world, &k8s_namespaces_resource, "{metadata: {name: d, uid: ns1}, spec: {finalizers: [kubernetes]}, status: {phase: Active}}");
    assert_string_equal(world_plan(f->world, &namespace_controller, "d"), "");
    assert_string_equal(world_plan(f->world, &namespace_controller, "nobody"), "");
    assert_string_equal(plan_of(f, "example.org/own"), ""); /* its own finalizer has gone already */
    assert_int_equal(fake_api_counts(f->api).requests, 0);
}

static void pods_go_before_what_they_may_need(void **state)
{
    struct kcm_store_world *f = *state;
    fake_api_put(f->api, PODS, "{\"metadata\":{\"name\":\"p\",\"namespace\":\"d\"}}", true);
    fake_api_put(f->api, SECRETS, "{\"metadata\":{\"name\":\"s\",\"namespace\":\"d\"}}", true);
    assert_string_equal(plan_of(f, "kubernetes"), "delete-collection pods d/\nupdate namespaces/status d\nrequeue after 200 ms\n");
    assert_string_equal(condition_of(f, "NamespaceContentRemaining"), "True");
    assert_string_equal(condition_of(f, "NamespaceFinalizersRemaining"), "False");
}

static void all_else_goes_next_each_kind_once(void **state)
{
    struct kcm_store_world *f = *state;
    fake_api_put(f->api, SECRETS, "{\"metadata\":{\"name\":\"s\",\"namespace\":\"d\"}}", true);
    fake_api_put(f->api, MAPS, "{\"metadata\":{\"name\":\"a\",\"namespace\":\"d\"}}", true);
    fake_api_put(f->api, MAPS, "{\"metadata\":{\"name\":\"b\",\"namespace\":\"d\",\"finalizers\":[\"example.org/slow\"]}}", true);
    const char *text = plan_of(f, "kubernetes");
    assert_int_equal(world_count(f->world, "delete-collection configmaps d/"), 1);
    assert_int_equal(world_count(f->world, "delete-collection secrets d/"), 1);
    assert_int_equal(world_count(f->world, "delete-collection"), 2);
    assert_null(strstr(text, "finalize"));
    assert_string_equal(condition_of(f, "NamespaceFinalizersRemaining"), "True");
    const struct k8s_namespace *ns = world_written(f->world, PLAN_UPDATE, &k8s_namespaces_resource, 0);
    for (size_t i = 0; i < ns->status->conditions.len; i++)
        if (kp_streq(ns->status->conditions.items[i].type, "NamespaceContentRemaining"))
            assert_non_null(strstr(ns->status->conditions.items[i].message, "configmaps. has 2 resource instances"));
}

static void what_is_told_already_is_not_told_again(void **state)
{
    struct kcm_store_world *f = *state;
    fake_api_put(f->api, MAPS, "{\"metadata\":{\"name\":\"a\",\"namespace\":\"d\"}}", true);
    plan_of(f, "kubernetes");
    world_apply(f->world);
    assert_string_equal(world_plan(f->world, &namespace_controller, "d"), "delete-collection configmaps d/\nrequeue after 200 ms\n");
}

static void the_finalizer_goes_when_nothing_is_left(void **state)
{
    struct kcm_store_world *f = *state;
    assert_string_equal(plan_of(f, "example.org/own, kubernetes"), "update namespaces/finalize d\n");
    const struct k8s_namespace *ns = world_written(f->world, PLAN_UPDATE, &k8s_namespaces_resource, 0);
    assert_int_equal(ns->spec->finalizers.len, 1); /* others' stay */
    assert_string_equal(ns->spec->finalizers.items[0], "example.org/own");
}

static void nothing_goes_when_the_store_does_not_say_what_is_left(void **state)
{
    struct kcm_store_world *f = *state;
    fake_api_fail(f->api, "LIST", 1, 403, "{\"kind\":\"Status\",\"status\":\"Failure\",\"reason\":\"Forbidden\",\"message\":\"no\",\"code\":403}");
    const char *text = plan_of(f, "kubernetes");
    assert_true(kp_starts_with(text, "error: list of pods in d: "));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(nothing_is_planned_for_one_that_is_not_being_deleted, set_up, tear_down),
        cmocka_unit_test_setup_teardown(pods_go_before_what_they_may_need, set_up, tear_down),
        cmocka_unit_test_setup_teardown(all_else_goes_next_each_kind_once, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_is_told_already_is_not_told_again, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_finalizer_goes_when_nothing_is_left, set_up, tear_down),
        cmocka_unit_test_setup_teardown(nothing_goes_when_the_store_does_not_say_what_is_left, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
