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

/* ---- custom resources ---- */
#define DEFINITIONS "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
#define WIDGETS "/apis/example.org/v1/namespaces/d/widgets"
#define NOT_SERVED "{\"kind\":\"Status\",\"status\":\"Failure\",\"reason\":\"NotFound\",\"message\":\"the server could not find the requested resource\",\"code\":404}"

static void put_live_definition(struct kcm_store_world *f)
{
    fake_api_put(f->api, DEFINITIONS, "{\"metadata\":{\"name\":\"widgets.example.org\",\"uid\":\"crd1\"}}", true);
}

/* The cache has the definition as the store has it. */
static void define(struct kcm_store_world *f)
{
    put_live_definition(f);
    KP_AUTO_FREE char *stored = fake_api_get(f->api, DEFINITIONS, "widgets.example.org");
    world_define(f->world, WORLD_WIDGETS("crd1", ""));
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    struct kp_error error = {0};
    void *live;
    assert_int_equal(kp_json_decode(&k8s_partial_object_metadata_type, stored, strlen(stored), arena, NULL, &live, &error), 0);
    struct k8s_custom_resource_definition *cached = KP_OBJECT_CLONE(arena, k8s_custom_resource_definition, world_get(f->world, &customs_definitions_resource, "", "widgets.example.org"));
    cached->metadata->resource_version = ((struct k8s_partial_object_metadata *)live)->metadata->resource_version;
    client_informer_inject(engine_cache(f->world->engine, &customs_definitions_resource), cached);
}

static const char *condition_text(struct kcm_store_world *f, const char *type)
{
    const struct k8s_namespace *ns = world_written(f->world, PLAN_UPDATE, &k8s_namespaces_resource, 0);
    for (size_t i = 0; ns && i < ns->status->conditions.len; i++)
        if (kp_streq(ns->status->conditions.items[i].type, type))
            return ns->status->conditions.items[i].message;
    return "";
}

static void custom_objects_go_with_the_rest_and_are_waited_for(void **state)
{
    struct kcm_store_world *f = *state;
    define(f);
    fake_api_put(f->api, WIDGETS, "{\"metadata\":{\"name\":\"w\",\"namespace\":\"d\"},\"spec\":{\"size\":3}}", true);
    assert_string_equal(plan_of(f, "kubernetes"), "delete-collection widgets d/\nupdate namespaces/status d\nrequeue after 200 ms\n");
    assert_string_equal(f->world->plan->first->resource->version, "v1"); /* that which is stored */
    assert_non_null(strstr(condition_text(f, "NamespaceContentRemaining"), "widgets.example.org has 1 resource instances"));
    fake_api_remove(f->api, WIDGETS, "w", true);
    assert_string_equal(plan_of(f, "kubernetes"), "update namespaces/finalize d\n");
}

static void a_definition_that_vanishes_meanwhile_counts_as_empty(void **state)
{
    struct kcm_store_world *f = *state;
    define(f);
    fake_api_refuse(f->api, WIDGETS, 404, NOT_SERVED);
    assert_string_equal(plan_of(f, "kubernetes"), "requeue after 200 ms\n"); /* it may also be one that is only just coming */
    fake_api_remove(f->api, DEFINITIONS, "widgets.example.org", true);
    world_undefine(f->world, "widgets.example.org");
    assert_string_equal(plan_of(f, "kubernetes"), "update namespaces/finalize d\n");
}

static void a_definition_that_the_cache_has_not_heard_of_holds_the_namespace(void **state)
{
    struct kcm_store_world *f = *state;
    put_live_definition(f);
    assert_string_equal(plan_of(f, "kubernetes"), "requeue after 200 ms\n");
    world_define(f->world, WORLD_WIDGETS("crd1", "")); /* of an older version than the store's: it may not have been established then */
    assert_string_equal(plan_of(f, "kubernetes"), "requeue after 200 ms\n");
    define(f);
    assert_string_equal(plan_of(f, "kubernetes"), "update namespaces/finalize d\n");
}

static void a_custom_resource_that_cannot_be_listed_holds_only_itself(void **state)
{
    struct kcm_store_world *f = *state;
    define(f);
    fake_api_refuse(f->api, WIDGETS, 500, "{\"kind\":\"Status\",\"status\":\"Failure\",\"reason\":\"InternalError\",\"message\":\"no conversion\",\"code\":500}");
    fake_api_put(f->api, SECRETS, "{\"metadata\":{\"name\":\"s\",\"namespace\":\"d\"}}", true);
    assert_string_equal(plan_of(f, "kubernetes"), "delete-collection secrets d/\nupdate namespaces/status d\nrequeue after 200 ms\n");
    assert_string_equal(condition_of(f, "NamespaceDeletionContentFailure"), "True");
    assert_string_equal(condition_text(f, "NamespaceDeletionContentFailure"), "Failed to delete all resource types, 1 remaining: list of widgets in d: no conversion");
    fake_api_remove(f->api, SECRETS, "s", true);
    assert_string_equal(plan_of(f, "kubernetes"), "update namespaces/status d\nrequeue with back-off\n");
}

/* ---- aggregated API servers ---- */
#define THINGS "/apis/things.test/v1/namespaces/d/things"
#define LIST_OF(verbs) "{\"kind\":\"APIResourceList\",\"groupVersion\":\"things.test/v1\",\"resources\":[{\"name\":\"things\",\"namespaced\":true,\"kind\":\"Thing\",\"verbs\":[" verbs "]}," \
                       "{\"name\":\"things/echo\",\"namespaced\":true,\"kind\":\"Thing\",\"verbs\":[\"get\"]},{\"name\":\"seen\",\"namespaced\":true,\"kind\":\"Seen\",\"verbs\":[\"get\",\"list\"]}]}"

static void aggregate(struct kcm_store_world *f, const char *available)
{
    KP_AUTO_FREE char *yaml = kp_asprintf("{metadata: {name: v1.things.test, uid: as1}, spec: {group: things.test, version: v1, service: {name: s, namespace: ext}},"
                                          " status: {conditions: [{type: Available, status: '%s'}]}}", available);
    world_put(f->world, &k8s_apiservices_resource, yaml);
}

static void what_other_api_servers_have_goes_too(void **state)
{
    struct kcm_store_world *f = *state;
    aggregate(f, "True");
    fake_api_refuse(f->api, "/apis/things.test/v1", 200, LIST_OF("\"list\",\"delete\",\"deletecollection\""));
    fake_api_put(f->api, THINGS, "{\"metadata\":{\"name\":\"t\",\"namespace\":\"d\"}}", true);
    assert_string_equal(plan_of(f, "kubernetes"), "delete-collection things d/\nupdate namespaces/status d\nrequeue after 200 ms\n");
    assert_string_equal(condition_of(f, "NamespaceDeletionDiscoveryFailure"), "False");
    fake_api_refuse(f->api, "/apis/things.test/v1", 200, LIST_OF("\"list\",\"delete\""));
    assert_string_equal(plan_of(f, "kubernetes"), "delete things d/t\nupdate namespaces/status d\nrequeue after 200 ms\n");
    fake_api_remove(f->api, THINGS, "t", true);
    assert_string_equal(plan_of(f, "kubernetes"), "update namespaces/finalize d\n");
}

static void a_server_that_cannot_be_asked_holds_the_namespace_but_not_what_is_in_it(void **state)
{
    struct kcm_store_world *f = *state;
    aggregate(f, "False");
    fake_api_put(f->api, SECRETS, "{\"metadata\":{\"name\":\"s\",\"namespace\":\"d\"}}", true);
    assert_string_equal(plan_of(f, "kubernetes"), "delete-collection secrets d/\nupdate namespaces/status d\nrequeue after 200 ms\n");
    fake_api_remove(f->api, SECRETS, "s", true);
    assert_string_equal(plan_of(f, "kubernetes"), "update namespaces/status d\nrequeue with back-off\n");
    assert_string_equal(condition_of(f, "NamespaceDeletionDiscoveryFailure"), "True");
    assert_string_equal(condition_text(f, "NamespaceDeletionDiscoveryFailure"),
                        "Discovery failed for some groups, 1 failing: unable to retrieve the complete list of server APIs: things.test/v1: "
                        "stale GroupVersion discovery: things.test/v1");
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
        cmocka_unit_test_setup_teardown(custom_objects_go_with_the_rest_and_are_waited_for, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_definition_that_vanishes_meanwhile_counts_as_empty, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_definition_that_the_cache_has_not_heard_of_holds_the_namespace, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_custom_resource_that_cannot_be_listed_holds_only_itself, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_other_api_servers_have_goes_too, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_server_that_cannot_be_asked_holds_the_namespace_but_not_what_is_in_it, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
