/* The file of --cloud-config, --controllers, and the waits after failures. */
#include "cloud-controller/manager/config.h"
#include "cloud-controller/manager/manager.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

static struct kp_arena *arena;
static struct ccm_config config;
static struct kp_error error;

static int setup(void **state)
{
    arena = kp_arena_new(0);
    return 0;
}

static int teardown(void **state)
{
    kp_arena_free(arena);
    return 0;
}

static int parse(const char *text)
{
    error = (struct kp_error){0};
    return ccm_config_parse(text, strlen(text), "/etc/kprov", arena, &config, &error);
}

static void the_file_names_account_and_cluster(void **state)
{
    assert_int_equal(parse("clusterUID: 1f\nclusterName: demo\nprofile: p\nregion: r\nendpoint: https://c\ncredentialsFile: clouds.yaml\ntimeout: 90s\n"), 0);
    assert_string_equal(config.cluster_uid, "1f");
    assert_string_equal(config.cluster_name, "demo");
    assert_string_equal(config.account.profile, "p");
    assert_string_equal(config.account.region, "r");
    assert_string_equal(config.account.endpoint, "https://c");
    assert_string_equal(config.account.credentials, "/etc/kprov/clouds.yaml");
    assert_int_equal(config.timeout_ms, 90000);
    assert_int_equal(parse("{\"clusterUID\": \"1f\", \"region\": \"\", \"credentialsFile\": \"/a\"}"), 0); /* JSON as well */
    assert_null(config.account.region);
    assert_string_equal(config.account.credentials, "/a");
}

static void what_is_wrong_with_the_file_is_told(void **state)
{
    static const struct {
        const char *text, *message;
    } rows[] = {
        {"password: x\n", "unknown key \"password\""},
        {"region: 7\n", "region: must be a string"},
        {"timeout: soon\n", "timeout: \"soon\" must be a time such as 60s, at least 1ms"},
        {"- a\n", "must be one object with the key clusterUID"},
        {"", "must be one object with the key clusterUID"},
    };
    for (size_t i = 0; i < KP_ARRAY_LEN(rows); i++) {
        assert_int_equal(parse(rows[i].text), KP_EINVALID);
        assert_string_equal(error.message, rows[i].message);
    }
    assert_int_equal(ccm_config_load("/nowhere/cloud.yaml", arena, &config, &error), KP_ENOTFOUND);
    assert_true(kp_starts_with(error.message, "--cloud-config /nowhere/cloud.yaml: "));
}

static void controllers_are_chosen_as_upstream_does(void **state)
{
    assert_true(ccm_enabled("*", "node-route-controller"));
    assert_true(ccm_enabled(NULL, "node-route-controller"));
    assert_false(ccm_enabled("*,-node-route-controller", "node-route-controller"));
    assert_true(ccm_enabled("*,-node-route-controller", "service-lb-controller"));
    assert_false(ccm_enabled("service-lb-controller", "cloud-node-controller"));
    assert_int_equal(ccm_check_controllers("*,-node-route-controller", &error), 0);
    assert_int_equal(ccm_check_controllers("*,route", &error), KP_EUSAGE);
}

static void waits_double_up_to_a_bound_and_are_as_long_as_asked(void **state)
{
    const struct ccm_options options = {.retry_ms = 100, .retry_max_ms = 1000};
    struct kp_error none = {0}, asked = {.retry_after_ms = 5000};
    assert_int_equal(ccm_retry_ms(&options, 1, &none), 100);
    assert_int_equal(ccm_retry_ms(&options, 3, &none), 400);
    assert_int_equal(ccm_retry_ms(&options, 5, &none), 1000);
    assert_int_equal(ccm_retry_ms(&options, 100000, &none), 1000);
    assert_int_equal(ccm_retry_ms(&options, 1, &asked), 5000);
}

static void failures_are_counted_by_key(void **state)
{
    struct ccm_failures *failures = ccm_failures_new();
    assert_int_equal(ccm_failures_add(failures, "a"), 1);
    assert_int_equal(ccm_failures_add(failures, "a"), 2);
    assert_int_equal(ccm_failures_add(failures, "b"), 1);
    ccm_failures_forget(failures, "a");
    ccm_failures_forget(failures, "c");
    assert_int_equal(ccm_failures_add(failures, "a"), 1);
    ccm_failures_free(failures);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_file_names_account_and_cluster),
        cmocka_unit_test(what_is_wrong_with_the_file_is_told),
        cmocka_unit_test(controllers_are_chosen_as_upstream_does),
        cmocka_unit_test(waits_double_up_to_a_bound_and_are_as_long_as_asked),
        cmocka_unit_test(failures_are_counted_by_key),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
