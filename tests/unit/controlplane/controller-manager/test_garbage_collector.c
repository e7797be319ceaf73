/* The plans of the garbage collector: who goes with whom, who stays, and that nobody goes whose owner the store does not say is gone. */
#include "tests/support/fake_api.h"
#include "tests/support/kcm_world.h"
#include "tests/support/objects.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#define SETS "/apis/apps/v1/namespaces/d/replicasets"
#define POD "pods:p"
#define SET "replicasets.apps:s"
#define OWNED_BY(kind, name, uid, more) "{apiVersion: apps/v1, kind: " kind ", name: " name ", uid: " uid more "}"
#define BY_SET OWNED_BY("ReplicaSet", "s", "set1", "")
#define BLOCKING OWNED_BY("ReplicaSet", "s", "set1", ", blockOwnerDeletion: true")
#define GOING "deletionTimestamp: '2026-01-01T00:00:00Z'"

static int set_up(void **state)
{
    *state = store_world_new(&garbage_collector_controller);
    return 0;
}

static int tear_down(void **state)
{
    store_world_free(*state);
    return 0;
}

static void put_pod(struct kcm_store_world *f, const char *owners, const char *more)
{
    KP_AUTO_FREE char *yaml =
        kp_asprintf("{metadata: {name: p, namespace: d, uid: pod1, resourceVersion: '7', ownerReferences: [%s]%s}}", owners, more);
    world_put_metadata(f->world, &k8s_pods_resource, yaml);
}

static void put_set(struct kcm_store_world *f, const char *uid, const char *more)
{
    KP_AUTO_FREE char *yaml = kp_asprintf("{metadata: {name: s, namespace: d, uid: %s, resourceVersion: '9'%s}}", uid, more);
    world_put_metadata(f->world, &k8s_replicasets_resource, yaml);
}

static const char *plan_of(struct kcm_store_world *f, const char *what)
{
    KP_AUTO_FREE char *key = kp_asprintf("d/%s", what);
    return world_plan(f->world, &garbage_collector_controller, key);
}

/* The one thing planned is that the pod goes. */
static void assert_pod_goes(struct kcm_store_world *f, const char *propagation)
{
    assert_string_equal(plan_of(f, POD), "delete pods d/p\n");
    assert_string_equal(f->world->plan->first->uid, "pod1");
    assert_string_equal(f->world->plan->first->text, propagation);
}

static void one_whose_owner_lives_stays_and_the_store_is_not_asked(void **state)
{
    struct kcm_store_world *f = *state;
    put_set(f, "set1", "");
    put_pod(f, BY_SET, "");
    assert_string_equal(plan_of(f, POD), "");
    assert_string_equal(plan_of(f, SET), "");
    assert_string_equal(plan_of(f, "pods:nobody"), "");
    assert_string_equal(plan_of(f, "nothings.example.org:p"), "");
    assert_string_equal(plan_of(f, "pod:p"), "");
    assert_int_equal(fake_api_counts(f->api).requests, 0);
}

static void one_whose_owner_is_gone_goes(void **state)
{
    struct kcm_store_world *f = *state;
    put_pod(f, BY_SET, "");
    assert_pod_goes(f, "Background");
    fake_api_put(f->api, SETS, "{\"metadata\":{\"name\":\"s\",\"namespace\":\"d\",\"uid\":\"set2\"}}", true); /* another of that name */
    assert_pod_goes(f, "Background");
    put_set(f, "set2", "");
    assert_pod_goes(f, "Background");
}

static void a_late_cache_takes_nobody_s_owner(void **state)
{
    struct kcm_store_world *f = *state;
    put_pod(f, BY_SET, "");
    fake_api_put(f->api, SETS, "{\"metadata\":{\"name\":\"s\",\"namespace\":\"d\",\"uid\":\"set1\"}}", true);
    assert_string_equal(plan_of(f, POD), "");
    assert_int_equal(fake_api_counts(f->api).requests, 1);
}

static void a_store_that_does_not_answer_takes_nobody_s_owner(void **state)
{
    struct kcm_store_world *f = *state;
    put_pod(f, BY_SET, "");
    fake_api_fail(f->api, "GET", 1, 403, "{\"kind\":\"Status\",\"status\":\"Failure\",\"reason\":\"Forbidden\",\"message\":\"no\",\"code\":403}");
    assert_true(kp_starts_with(plan_of(f, POD), "error: owner ReplicaSet s: "));
    assert_null(f->world->plan->first);
}

static void what_cannot_be_proved_gone_counts_as_there(void **state)
{
    struct kcm_store_world *f = *state;
    put_pod(f, "{apiVersion: example.org/v1, kind: Widget, name: w, uid: w1}, " OWNED_BY("Deployment", "x", "gone1", ""), "");
    assert_string_equal(plan_of(f, POD), "requeue with back-off\n"); /* the kind may yet come */
    /* A namespaced owner of something that is in no namespace. */
    world_put_metadata(f->world, &k8s_nodes_resource, "{metadata: {name: n1, uid: node1, ownerReferences: [" BY_SET "]}}");
    assert_string_equal(world_plan(f->world, &garbage_collector_controller, "nodes:n1"), "");
    assert_int_equal(fake_api_counts(f->api).requests, 0);
}

static void of_two_owners_the_dead_one_is_forgotten(void **state)
{
    struct kcm_store_world *f = *state;
    put_set(f, "set1", "");
    put_pod(f, BY_SET ", " OWNED_BY("Deployment", "x", "gone1", ""), "");
    assert_string_equal(plan_of(f, POD),
                        "patch pods d/p {\"metadata\":{\"ownerReferences\":[{\"$patch\":\"delete\",\"uid\":\"gone1\"}],\"uid\":\"pod1\"}}\n");
    assert_int_equal(f->world->plan->first->patch_type, CLIENT_PATCH_STRATEGIC);
}

static void an_owner_in_the_foreground_goes_last(void **state)
{
    struct kcm_store_world *f = *state;
    put_set(f, "set1", ", " GOING ", finalizers: [foregroundDeletion, example.org/own]");
    put_pod(f, BLOCKING, "");
    assert_string_equal(plan_of(f, SET), "");
    assert_pod_goes(f, "Background");
    client_informer_inject_delete(engine_metadata_cache(f->world->engine, &k8s_pods_resource), "d", "p");
    assert_string_equal(plan_of(f, SET), "patch replicasets d/s {\"metadata\":{\"resourceVersion\":\"9\",\"finalizers\":[\"example.org/own\"]}}\n");
}

static void one_that_does_not_block_is_not_waited_for(void **state)
{
    struct kcm_store_world *f = *state;
    put_set(f, "set1", ", " GOING ", finalizers: [foregroundDeletion]");
    put_pod(f, BY_SET, "");
    assert_string_equal(plan_of(f, SET), "patch replicasets d/s {\"metadata\":{\"resourceVersion\":\"9\",\"finalizers\":[]}}\n");
}

static void the_foreground_is_handed_down(void **state)
{
    struct kcm_store_world *f = *state;
    world_put_metadata(f->world, &k8s_deployments_resource,
                       "{metadata: {name: x, namespace: d, uid: dep1, " GOING ", finalizers: [foregroundDeletion]}}");
    put_set(f, "set1", ", ownerReferences: [" OWNED_BY("Deployment", "x", "dep1", ", blockOwnerDeletion: true") "]");
    put_pod(f, BLOCKING, "");
    assert_string_equal(plan_of(f, SET), "delete replicasets d/s\n");
    assert_string_equal(f->world->plan->first->text, "Foreground"); /* it has dependents itself */
    assert_string_equal(plan_of(f, POD), "");                       /* its own owner is not going yet */
}

static void an_orphaning_owner_lets_go_of_all(void **state)
{
    struct kcm_store_world *f = *state;
    put_set(f, "set1", ", " GOING ", finalizers: [orphan]");
    put_pod(f, BLOCKING, "");
    assert_string_equal(plan_of(f, SET), "patch pods d/p {\"metadata\":{\"ownerReferences\":[{\"$patch\":\"delete\",\"uid\":\"set1\"}],\"uid\":\"pod1\"}}\n"
                                         "patch replicasets d/s {\"metadata\":{\"resourceVersion\":\"9\",\"finalizers\":[]}}\n");
}

static void two_that_own_each_other_do_not_wait_for_ever(void **state)
{
    struct kcm_store_world *f = *state;
    put_set(f, "set1", ", " GOING ", finalizers: [foregroundDeletion], ownerReferences: [{apiVersion: v1, kind: Pod, name: p, uid: pod1, blockOwnerDeletion: true}]");
    put_pod(f, BLOCKING, "");
    assert_string_equal(plan_of(f, POD),
                        "patch pods d/p {\"metadata\":{\"ownerReferences\":[{\"uid\":\"set1\",\"blockOwnerDeletion\":false}],\"uid\":\"pod1\"}}\n"
                        "delete pods d/p\n");
}

/* ---- custom resources ---- */
#define WIDGETS "/apis/example.org/v1/namespaces/d/widgets"
#define WIDGET "widgets.example.org:w"
#define BY_WIDGET "{apiVersion: example.org/v1alpha1, kind: Widget, name: w, uid: w1, blockOwnerDeletion: true}"
#define NOT_SERVED "{\"kind\":\"Status\",\"status\":\"Failure\",\"reason\":\"NotFound\",\"message\":\"the server could not find the requested resource\",\"code\":404}"

static void put_widget(struct kcm_store_world *f, const char *more)
{
    KP_AUTO_FREE char *yaml = kp_asprintf("{metadata: {name: w, namespace: d, uid: w1, resourceVersion: '8'%s}}", more);
    world_put_custom(f->world, "widgets.example.org", yaml);
}

static void a_custom_owner_counts_in_any_version_served(void **state)
{
    struct kcm_store_world *f = *state;
    world_define(f->world, WORLD_WIDGETS("crd1", ", {name: v2, served: false, storage: false}"));
    put_widget(f, "");
    put_pod(f, BY_WIDGET, "");
    assert_string_equal(plan_of(f, POD), "");
    put_pod(f, "{apiVersion: example.org/v2, kind: Widget, name: w, uid: w1}", "");
    assert_string_equal(plan_of(f, POD), "requeue with back-off\n"); /* not one that is not */
    put_pod(f, "{apiVersion: v1, kind: Widget, name: w, uid: w1}", "");
    assert_string_equal(plan_of(f, POD), "requeue with back-off\n");
    assert_int_equal(fake_api_counts(f->api).requests, 0);
}

static void one_whose_custom_owner_is_gone_goes(void **state)
{
    struct kcm_store_world *f = *state;
    world_define(f->world, WORLD_WIDGETS("crd1", ""));
    put_pod(f, BY_WIDGET, "");
    assert_pod_goes(f, "Background");
    fake_api_put(f->api, WIDGETS, "{\"metadata\":{\"name\":\"w\",\"namespace\":\"d\",\"uid\":\"w2\"}}", true);
    assert_pod_goes(f, "Background");
    fake_api_put(f->api, WIDGETS, "{\"metadata\":{\"name\":\"w\",\"namespace\":\"d\",\"uid\":\"w1\"},\"spec\":{\"size\":1}}", true);
    assert_string_equal(plan_of(f, POD), "");
}

static void an_api_server_that_does_not_serve_it_yet_takes_nobody_s_owner(void **state)
{
    struct kcm_store_world *f = *state;
    world_define(f->world, WORLD_WIDGETS("crd1", ""));
    put_pod(f, BY_WIDGET, "");
    fake_api_refuse(f->api, WIDGETS "/w", 404, NOT_SERVED);
    assert_string_equal(plan_of(f, POD), "requeue with back-off\n");
}

static void what_a_deleted_definition_s_objects_owned_goes(void **state)
{
    struct kcm_store_world *f = *state;
    world_define(f->world, WORLD_WIDGETS("crd1", ""));
    put_widget(f, "");
    put_pod(f, BY_WIDGET, "");
    world_undefine(f->world, "widgets.example.org");
    fake_api_refuse(f->api, WIDGETS "/w", 404, NOT_SERVED);
    assert_pod_goes(f, "Background");
    assert_string_equal(plan_of(f, WIDGET), "");
    world_define(f->world, WORLD_WIDGETS("crd2", "")); /* what the new one's objects own is not known to be without owner */
    assert_string_equal(plan_of(f, POD), "requeue with back-off\n");
}

static void one_that_is_not_served_any_more_says_nothing_of_its_objects(void **state)
{
    struct kcm_store_world *f = *state;
    world_define(f->world, WORLD_WIDGETS("crd1", ""));
    put_widget(f, "");
    put_pod(f, BY_WIDGET, "");
    world_define(f->world, "{metadata: {name: widgets.example.org, uid: crd1, resourceVersion: '2'}, spec: {group: example.org, names: {plural: widgets, kind: Widget}, "
                           "scope: Namespaced, versions: [{name: v1, served: false, storage: true}]}, status: {conditions: [{type: Established, status: 'True'}]}}");
    assert_string_equal(plan_of(f, POD), "requeue with back-off\n");
    assert_int_equal(fake_api_counts(f->api).requests, 0);
}

static void custom_dependents_go_in_the_background_and_before_an_owner_in_the_foreground(void **state)
{
    struct kcm_store_world *f = *state;
    world_define(f->world, WORLD_WIDGETS("crd1", ""));
    put_widget(f, ", ownerReferences: [" BLOCKING "]");
    assert_string_equal(plan_of(f, WIDGET), "delete widgets d/w\n");
    assert_string_equal(f->world->plan->first->uid, "w1");
    assert_string_equal(f->world->plan->first->text, "Background");
    put_set(f, "set1", ", " GOING ", finalizers: [foregroundDeletion]");
    assert_string_equal(plan_of(f, SET), "");
    assert_string_equal(plan_of(f, WIDGET), "delete widgets d/w\n");
    client_informer_inject_delete(world_customs(f->world, "widgets.example.org"), "d", "w");
    assert_string_equal(plan_of(f, SET), "patch replicasets d/s {\"metadata\":{\"resourceVersion\":\"9\",\"finalizers\":[]}}\n");
}

static void custom_objects_are_patched_by_json_merge(void **state)
{
    struct kcm_store_world *f = *state;
    world_define(f->world, WORLD_WIDGETS("crd1", ""));
    put_set(f, "set1", "");
    put_widget(f, ", ownerReferences: [" OWNED_BY("Deployment", "x", "gone1", "") ", " BLOCKING "]");
    assert_string_equal(plan_of(f, WIDGET), "patch widgets d/w {\"metadata\":{\"resourceVersion\":\"8\",\"ownerReferences\":[{\"apiVersion\":\"apps/v1\",\"kind\":"
                                            "\"ReplicaSet\",\"name\":\"s\",\"uid\":\"set1\",\"blockOwnerDeletion\":true}]}}\n");
    assert_int_equal(f->world->plan->first->patch_type, CLIENT_PATCH_MERGE);
    put_widget(f, ", ownerReferences: [" BLOCKING "]");
    put_set(f, "set1", ", " GOING ", finalizers: [orphan]"); /* an owner that orphans */
    assert_string_equal(plan_of(f, SET), "patch widgets d/w {\"metadata\":{\"resourceVersion\":\"8\",\"ownerReferences\":[]}}\n"
                                         "patch replicasets d/s {\"metadata\":{\"resourceVersion\":\"9\",\"finalizers\":[]}}\n");
    put_set(f, "set1", ", " GOING ", finalizers: [foregroundDeletion], ownerReferences: [" BY_WIDGET "]"); /* a cycle */
    assert_string_equal(plan_of(f, WIDGET), "patch widgets d/w {\"metadata\":{\"resourceVersion\":\"8\",\"ownerReferences\":[{\"apiVersion\":\"apps/v1\",\"kind\":"
                                            "\"ReplicaSet\",\"name\":\"s\",\"uid\":\"set1\",\"blockOwnerDeletion\":false}]}}\ndelete widgets d/w\n");
}

static void a_custom_owner_waits_for_its_dependents_and_lets_go_of_orphans(void **state)
{
    struct kcm_store_world *f = *state;
    world_define(f->world, WORLD_WIDGETS("crd1", ""));
    put_widget(f, ", " GOING ", finalizers: [foregroundDeletion]");
    put_pod(f, BY_WIDGET, "");
    assert_string_equal(plan_of(f, WIDGET), "");
    assert_pod_goes(f, "Background");
    put_widget(f, ", " GOING ", finalizers: [orphan]");
    assert_string_equal(plan_of(f, WIDGET), "patch pods d/p {\"metadata\":{\"ownerReferences\":[{\"$patch\":\"delete\",\"uid\":\"w1\"}],\"uid\":\"pod1\"}}\n"
                                            "patch widgets d/w {\"metadata\":{\"resourceVersion\":\"8\",\"finalizers\":[]}}\n");
    assert_int_equal(f->world->plan->first->next->patch_type, CLIENT_PATCH_MERGE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(one_whose_owner_lives_stays_and_the_store_is_not_asked, set_up, tear_down),
        cmocka_unit_test_setup_teardown(one_whose_owner_is_gone_goes, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_late_cache_takes_nobody_s_owner, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_store_that_does_not_answer_takes_nobody_s_owner, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_cannot_be_proved_gone_counts_as_there, set_up, tear_down),
        cmocka_unit_test_setup_teardown(of_two_owners_the_dead_one_is_forgotten, set_up, tear_down),
        cmocka_unit_test_setup_teardown(an_owner_in_the_foreground_goes_last, set_up, tear_down),
        cmocka_unit_test_setup_teardown(one_that_does_not_block_is_not_waited_for, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_foreground_is_handed_down, set_up, tear_down),
        cmocka_unit_test_setup_teardown(an_orphaning_owner_lets_go_of_all, set_up, tear_down),
        cmocka_unit_test_setup_teardown(two_that_own_each_other_do_not_wait_for_ever, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_custom_owner_counts_in_any_version_served, set_up, tear_down),
        cmocka_unit_test_setup_teardown(one_whose_custom_owner_is_gone_goes, set_up, tear_down),
        cmocka_unit_test_setup_teardown(an_api_server_that_does_not_serve_it_yet_takes_nobody_s_owner, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_a_deleted_definition_s_objects_owned_goes, set_up, tear_down),
        cmocka_unit_test_setup_teardown(one_that_is_not_served_any_more_says_nothing_of_its_objects, set_up, tear_down),
        cmocka_unit_test_setup_teardown(custom_dependents_go_in_the_background_and_before_an_owner_in_the_foreground, set_up, tear_down),
        cmocka_unit_test_setup_teardown(custom_objects_are_patched_by_json_merge, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_custom_owner_waits_for_its_dependents_and_lets_go_of_orphans, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
