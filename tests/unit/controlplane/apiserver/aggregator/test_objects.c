/* APIServices: what is refused, which are made by themselves, and whether those with a Service are available. */
#include "tests/unit/controlplane/apiserver/aggregator/fixture_test.h"

#define LOCAL "\"group\":\"g.test\",\"version\":\"v1\",\"groupPriorityMinimum\":1000,\"versionPriority\":15"
#define REMOTE LOCAL ",\"service\":{\"name\":\"s\",\"namespace\":\"n\"%s}%s"

static void refused(struct fixture *f, const char *name, const char *spec, const char *why)
{
    assert_int_equal(create_api_service(f, name, spec), KP_EINVALID);
    has(why, f->status.message);
}

static void faults_are_refused_with_upstreams_texts(void **state)
{
    struct fixture *f = *state;
    refused(f, "v1.other", LOCAL, "metadata.name: Invalid value: \"v1.other\": must be `spec.version+\".\"+spec.group`: \"v1.g.test\"");
    refused(f, "v2.", "\"version\":\"v2\",\"groupPriorityMinimum\":1000,\"versionPriority\":15",
            "spec.group: Required value: only v1 may have an empty group and it better be legacy kube");
    refused(f, "v1.g.test", "\"group\":\"g.test\",\"version\":\"v1\",\"groupPriorityMinimum\":20001,\"versionPriority\":15",
            "spec.groupPriorityMinimum: Invalid value: 20001: must be positive and less than 20000");
    refused(f, "v1.g.test", "\"group\":\"g.test\",\"version\":\"v1\",\"groupPriorityMinimum\":1000,\"versionPriority\":0",
            "spec.versionPriority: Invalid value: 0: must be positive and less than 1000");
    refused(f, "v1.g.test", LOCAL ",\"caBundle\":\"AAAA\"", "spec.caBundle: Invalid value: \"3 bytes\": local APIServices may not have a caBundle");
    refused(f, "v1.g.test", LOCAL ",\"insecureSkipTLSVerify\":true", "spec.insecureSkipTLSVerify: Invalid value: true: local APIServices may not have insecureSkipTLSVerify");
    refused(f, "v1.g.test", kp_arena_printf(f->arena, REMOTE, "", ",\"insecureSkipTLSVerify\":true,\"caBundle\":\"AAAA\""),
            "spec.insecureSkipTLSVerify: Invalid value: true: may not be true if caBundle is present");
    refused(f, "v1.g.test", kp_arena_printf(f->arena, REMOTE, ",\"port\":70000", ""),
            "spec.service.port: Invalid value: 70000: port is not valid: must be between 1 and 65535, inclusive");
    refused(f, "v1.g.test", LOCAL ",\"service\":{}", "spec.service.name: Required value");
}

static void a_service_without_a_port_means_443_and_a_local_one_is_available_at_once(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(create_api_service(f, "v1.g.test", kp_arena_printf(f->arena, REMOTE, "", "")), 0);
    assert_int_equal(api_service(f, "v1.g.test")->spec->service->port, 443);
    assert_string_equal(availability(f, "v1.g.test"), "");
    assert_int_equal(create_api_service(f, "v1.h.test", "\"group\":\"h.test\",\"version\":\"v1\",\"groupPriorityMinimum\":1000,\"versionPriority\":15"), 0);
    assert_string_equal(availability(f, "v1.h.test"), "True Local: Local APIServices are always available");
}

/* ---- those of what is served here -------------------------------------------------------------------------------------------- */
static void what_is_built_in_has_its_api_services_once(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(go_round(f), -1); /* nothing more to be done until something changes */
    const api_service_t *apps = api_service(f, "v1.apps");
    assert_non_null(apps);
    assert_int_equal(apps->spec->group_priority_minimum, 17800);
    assert_int_equal(apps->spec->version_priority, 15);
    assert_string_equal(kp_string_map_get(&apps->metadata->labels, AUTOMANAGED), "onstart");
    assert_string_equal(availability(f, "v1.apps"), "True Local: Local APIServices are always available");
    assert_non_null(api_service(f, "v1."));
    assert_int_equal(api_service(f, "v2.autoscaling")->spec->version_priority, 30);
    assert_null(api_service(f, "v1.apiregistration.k8s.io"));
    assert_null(api_service(f, "v1beta1.metrics.k8s.io"));
    int commits = f->store->commits;
    struct aggregator *second = NULL; /* another server, which finds them there */
    assert_int_equal(aggregator_make(&f->aggregator->config, &second, NULL), 0);
    aggregator_round(second, f->now_ms);
    go_round(f);
    aggregator_free(second);
    assert_int_equal(f->store->commits, commits);
}

static int32_t priority(const char *group, const char *version, bool custom, bool *known)
{
    int32_t of_group, of_version;
    *known = aggregator_priority(group, version, custom, &of_group, &of_version);
    return of_group;
}

static void priorities_are_upstreams(void **state)
{
    bool known;
    assert_int_equal(priority("", "v1", false, &known), 18000);
    assert_true(known);
    assert_int_equal(priority("batch", "v1", false, &known), 17400);
    assert_int_equal(priority("shop.test", "v1", true, &known), 1000);
    assert_true(known);
    priority("metrics.k8s.io", "v1beta1", false, &known);
    assert_false(known);
}

static const char crd[] = "{\"metadata\":{\"name\":\"widgets.shop.test\"},\"spec\":{\"group\":\"shop.test\",\"scope\":\"Namespaced\",\"names\":{\"plural\":\"widgets\",\"kind\":\"Widget\"},"
                          "\"versions\":[{\"name\":\"v1\",\"served\":true,\"storage\":true,\"schema\":{\"openAPIV3Schema\":{\"type\":\"object\"}}},"
                          "{\"name\":\"v0\",\"served\":false,\"storage\":false,\"schema\":{\"openAPIV3Schema\":{\"type\":\"object\"}}}]}}";

static void those_of_custom_resources_come_and_go_with_their_definitions(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(create(f, &k8s_customresourcedefinitions_resource, crd), 0);
    go_round(f);
    const api_service_t *made = api_service(f, "v1.shop.test");
    assert_non_null(made);
    assert_null(api_service(f, "v0.shop.test"));
    assert_string_equal(kp_string_map_get(&made->metadata->labels, AUTOMANAGED), "true");
    assert_int_equal(made->spec->group_priority_minimum, 1000);
    assert_int_equal(made->spec->version_priority, 100);
    fake_put(f->store, "/registry/apiregistration.k8s.io/apiservices/v1.shop.test", NULL); /* somebody deletes it */
    go_round(f);
    go_round(f);
    assert_non_null(api_service(f, "v1.shop.test"));
    go_round(f);
    fake_put(f->store, "/registry/apiextensions.k8s.io/customresourcedefinitions/widgets.shop.test", NULL);
    go_round(f);
    assert_null(api_service(f, "v1.shop.test"));
    assert_non_null(api_service(f, "v1.apps"));
}

static void somebodys_own_api_service_is_left_alone(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(create_api_service(f, "v1.shop.test", "\"group\":\"shop.test\",\"version\":\"v1\",\"groupPriorityMinimum\":5,\"versionPriority\":5,"
                                                           "\"service\":{\"name\":\"s\",\"namespace\":\"n\"}"), 0);
    assert_int_equal(create(f, &k8s_customresourcedefinitions_resource, crd), 0);
    go_round(f);
    assert_int_equal(api_service(f, "v1.shop.test")->spec->group_priority_minimum, 5);
    fake_put(f->store, "/registry/apiextensions.k8s.io/customresourcedefinitions/widgets.shop.test", NULL);
    go_round(f);
    assert_non_null(api_service(f, "v1.shop.test"));
}

/* ---- availability ---------------------------------------------------------------------------------------------------------------- */
static void each_thing_that_is_missing_has_its_reason(void **state)
{
    struct fixture *f = *state;
    create_things(f);
    assert_int_equal(go_round(f), AGGREGATOR_RETRY_MS_MIN);
    assert_string_equal(availability(f, "v1.things.test"), "False ServiceNotFound: service/things in \"default\" is not present");
    put_service(f, 80);
    assert_int_equal(later(f, AGGREGATOR_RETRY_MS_MIN), 2 * AGGREGATOR_RETRY_MS_MIN);
    assert_string_equal(availability(f, "v1.things.test"), "False ServicePortError: service/things in \"default\" is not listening on port 443");
    put_service(f, 443);
    later(f, AGGREGATOR_CHECK_MS);
    assert_string_equal(availability(f, "v1.things.test"), "False EndpointsNotFound: cannot find endpointslices for service/things in \"default\"");
    put_slice(f, false);
    later(f, AGGREGATOR_CHECK_MS);
    assert_string_equal(availability(f, "v1.things.test"), "False MissingEndpoints: endpointslices for service/things in \"default\" have no addresses with port name \"https\"");
    assert_int_equal(f->behind.asked, 0);
    put_slice(f, true);
    f->behind.status = 404;
    later(f, AGGREGATOR_CHECK_MS);
    assert_string_equal(availability(f, "v1.things.test"), "False FailedDiscoveryCheck: failing or missing response from https://10.96.0.9:443/apis/things.test/v1: "
                                                           "bad status from https://10.96.0.9:443/apis/things.test/v1: 404");
    assert_int_equal(f->behind.asked, AGGREGATOR_ATTEMPTS);
    f->behind.status = 0;
    assert_int_equal(later(f, AGGREGATOR_CHECK_MS), AGGREGATOR_CHECK_MS);
    assert_string_equal(availability(f, "v1.things.test"), "True Passed: all checks passed");
}

static void the_wait_after_failures_grows_to_half_a_minute(void **state)
{
    struct fixture *f = *state;
    create_things(f);
    int64_t wait = go_round(f);
    for (int i = 0; i < 20; i++) {
        int64_t next = later(f, wait);
        assert_int_equal(next, KP_MIN(2 * wait, (int64_t)AGGREGATOR_RETRY_MS_MAX));
        wait = next;
    }
}

static void what_stays_as_it_was_is_not_written_again(void **state)
{
    struct fixture *f = *state;
    things_work(f);
    int commits = f->store->commits, asked = f->behind.asked;
    later(f, AGGREGATOR_CHECK_MS - 1);
    assert_int_equal(f->behind.asked, asked); /* it is not its turn */
    later(f, 1);
    assert_true(f->behind.asked > asked);
    assert_int_equal(f->store->commits, commits);
}

static void one_that_becomes_local_is_available_as_such(void **state)
{
    struct fixture *f = *state;
    create_things(f);
    go_round(f);
    fake_put(f->store, "/registry/apiregistration.k8s.io/apiservices/v1.things.test",
             "{\"apiVersion\":\"apiregistration.k8s.io/v1\",\"kind\":\"APIService\",\"metadata\":{\"name\":\"v1.things.test\"},\"spec\":{\"group\":\"things.test\",\"version\":\"v1\","
             "\"groupPriorityMinimum\":2000,\"versionPriority\":10},\"status\":{\"conditions\":[{\"type\":\"Available\",\"status\":\"False\",\"reason\":\"ServiceNotFound\"}]}}");
    go_round(f);
    assert_string_equal(availability(f, "v1.things.test"), "True Local: Local APIServices are always available");
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(faults_are_refused_with_upstreams_texts),
        TEST(a_service_without_a_port_means_443_and_a_local_one_is_available_at_once),
        TEST(what_is_built_in_has_its_api_services_once),
        TEST(priorities_are_upstreams),
        TEST(those_of_custom_resources_come_and_go_with_their_definitions),
        TEST(somebodys_own_api_service_is_left_alone),
        TEST(each_thing_that_is_missing_has_its_reason),
        TEST(the_wait_after_failures_grows_to_half_a_minute),
        TEST(what_stays_as_it_was_is_not_written_again),
        TEST(one_that_becomes_local_is_available_as_such),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
