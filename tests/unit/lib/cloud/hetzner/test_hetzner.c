/* The Hetzner driver's pure parts: what errors and headers mean, networks, where machines go, what a listener becomes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "cloud/hetzner/hetzner_internal.h"

static void errors_mean_what_the_api_says(void **state)
{
    static const struct {
        int status;
        const char *code;
        int means;
    } cases[] = {
        {401, "unauthorized", KP_EUNAUTHORIZED}, {403, "forbidden", KP_EFORBIDDEN}, {403, "token_readonly", KP_EFORBIDDEN}, {404, "not_found", KP_ENOTFOUND},
        {409, "uniqueness_error", KP_EEXISTS}, {409, "conflict", KP_EAGAIN}, {423, "locked", KP_EAGAIN}, {403, "resource_limit_exceeded", KP_EQUOTA},
        {429, "rate_limit_exceeded", KP_ETOOMANY}, {422, "invalid_input", KP_EINVALID}, {412, "resource_unavailable", KP_EUNAVAILABLE},
        {412, "placement_error", KP_EUNAVAILABLE}, {503, "maintenance", KP_EUNAVAILABLE}, {500, "server_error", KP_EUNAVAILABLE},
        /* the code counts, whatever the status */
        {422, "not_found", KP_ENOTFOUND}, {400, "rate_limit_exceeded", KP_ETOOMANY},
        /* without a code of the API's nothing is known to be gone */
        {404, "", KP_EUNAVAILABLE}, {404, NULL, KP_EUNAVAILABLE}, {410, "", KP_EUNAVAILABLE}, {404, "invented", KP_EUNAVAILABLE},
        {502, "", KP_EUNAVAILABLE}, {401, "", KP_EUNAUTHORIZED}, {422, "a_new_one", KP_EINVALID}, {429, "", KP_ETOOMANY},
    };
    for (size_t i = 0; i < KP_ARRAY_LEN(cases); i++)
        assert_int_equal(hz_code(cases[i].status, cases[i].code), cases[i].means);
}

static const char *text_of(const char *json, struct kp_arena *arena)
{
    KP_AUTO(json_decref) json_t *answer = json_loads(json, 0, NULL);
    KP_AUTO_BUF struct kp_buf text = {0};
    hz_error_text(&text, answer);
    return kp_arena_strdup(arena, text.data);
}

static void errors_name_fields_and_remedies(void **state)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    assert_string_equal(text_of("{\"error\":{\"code\":\"invalid_input\",\"message\":\"invalid input\",\"details\":{\"fields\":[{\"name\":\"user_data\",\"messages\":[\"too long\",\"x\"]},"
                                "{\"name\":\"name\",\"messages\":[\"is required\"]}]}}}", arena),
                        "invalid input (invalid_input); user_data: too long; name: is required");
    assert_non_null(strstr(text_of("{\"error\":{\"code\":\"unauthorized\",\"message\":\"no\"}}", arena), "HCLOUD_TOKEN"));
    assert_non_null(strstr(text_of("{\"error\":{\"code\":\"resource_limit_exceeded\",\"message\":\"server limit\"}}", arena), "server limit (resource_limit_exceeded)"));
    assert_non_null(strstr(text_of("[]", arena), "HCLOUD_ENDPOINT"));
    assert_string_equal(text_of("{\"error\":{\"code\":\"odd\",\"message\":3,\"details\":{\"fields\":[7]}}}", arena), " (odd); : ");
}

static void the_rate_is_read_and_kept(void **state)
{
    struct hz_rate rate = {0};
    assert_true(hz_rate_read("3600", "0", "1700003600", &rate));
    assert_int_equal(hz_retry_after_ms(&rate, 1700000000), 1000); /* one request a second comes in */
    assert_int_equal(hz_retry_after_ms(&rate, 1700003600), 0);    /* it is full by now */
    assert_int_equal(hz_retry_after_ms(&rate, 1600000000), 0);    /* a clock that is years behind makes nobody wait for years */
    assert_int_equal(hz_pace_ms(&rate, 500), 4000);
    assert_int_equal(hz_pace_ms(&rate, 5000), 5000);
    assert_true(hz_rate_read("3600", "3600", "1700000000", &rate));
    assert_int_equal(hz_pace_ms(&rate, 500), 500);
    assert_int_equal(hz_retry_after_ms(&rate, 1699999999), 0);
    assert_true(hz_rate_read("3600", "360", "1700000000", &rate));
    assert_int_equal(hz_pace_ms(&rate, 1), 4000);
    static const char *const bad[][3] = {{NULL, "1", "1"}, {"1", NULL, "1"}, {"1", "1", NULL}, {"", "1", "1"}, {"0", "1", "1"}, {"-1", "1", "1"}, {"1", "-1", "1"}, {"x", "1", "1"},
                                         {"99999999999999999999", "1", "1"}};
    for (size_t i = 0; i < KP_ARRAY_LEN(bad); i++)
        assert_false(hz_rate_read(bad[i][0], bad[i][1], bad[i][2], &rate));
    assert_int_equal(rate.remaining, 360); /* untouched */
}

static void networks_are_private_ones(void **state)
{
    struct hz_range a, b;
    static const char *const bad[] = {NULL, "", "10.0.0.0", "10.0.0.0/", "10.0.0.0/33", "10.0.0.1/24", "10.0.0/24", "10.0.0.0/-1", "010.000.000.000.000/8", "a/8"};
    for (size_t i = 0; i < KP_ARRAY_LEN(bad); i++)
        assert_false(hz_range_parse(bad[i], &a));
    static const struct {
        const char *cidr;
        bool fine;
    } cases[] = {{"10.0.0.0/8", true}, {"10.128.0.0/16", true}, {"172.16.0.0/12", true}, {"192.168.7.0/24", true}, {"192.168.7.0/25", false}, {"172.32.0.0/16", false},
                 {"192.0.0.0/8", false}, {"0.0.0.0/0", false}, {"203.0.113.0/24", false}};
    for (size_t i = 0; i < KP_ARRAY_LEN(cases); i++) {
        assert_true(hz_range_parse(cases[i].cidr, &a));
        assert_int_equal(hz_range_is_private(&a), cases[i].fine);
    }
    assert_true(hz_range_parse("10.0.0.0/8", &a) && hz_range_parse("10.244.0.0/16", &b));
    assert_true(hz_range_overlaps(&a, &b) && hz_range_overlaps(&b, &a));
    assert_true(hz_range_parse("10.243.0.0/16", &a));
    assert_false(hz_range_overlaps(&a, &b));
}

static void machines_and_balancers_have_addresses_of_their_own(void **state)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    struct hz_range range;
    uint32_t first, last;
    assert_true(hz_range_parse("192.168.7.0/24", &range));
    hz_range_hosts(&range, false, &first, &last);
    assert_string_equal(hz_address_format(first, arena), "192.168.7.10");
    assert_string_equal(hz_address_format(last, arena), "192.168.7.191");
    hz_range_hosts(&range, true, &first, &last);
    assert_string_equal(hz_address_format(first, arena), "192.168.7.192");
    assert_string_equal(hz_address_format(last, arena), "192.168.7.254");
}

static void control_planes_go_to_places_of_their_own(void **state)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    KP_AUTO(json_decref) json_t *network = json_pack("{s:{s:s}}", "labels", HZ_LOCATIONS_LABEL, "fsn1.nbg1.hel1");
    static const char *const cases[][2] = {{"lab-cp-1", "fsn1"}, {"lab-cp-2", "nbg1"}, {"lab-cp-3", "hel1"}, {"lab-cp-4", "fsn1"}, {"lab-worker-10", "fsn1"},
                                           {"lab-worker-11", "nbg1"}, {"w0", "hel1"}, {"w-99999999999999999999", "hel1"}};
    for (size_t i = 0; i < KP_ARRAY_LEN(cases); i++)
        assert_string_equal(hz_location_of(network, cases[i][0], arena), cases[i][1]);
    json_t *labels = json_object_get(network, "labels");
    json_object_set_new(labels, HZ_LOCATIONS_LABEL, json_string("ash"));
    assert_string_equal(hz_location_of(network, "lab-cp-2", arena), "ash");
}

static void what_balancers_cannot_do_is_said(void **state)
{
    static const struct cloud_listener tcp = {CLOUD_TCP, 80, 30080}, udp = {CLOUD_UDP, 53, 30053};
    static const char *const ranges[] = {"10.0.0.0/8"};
    struct cloud_balancer_spec spec = {.listeners = &tcp, .n_listeners = 1};
    struct kp_error error = {0};
    assert_int_equal(hz_balancer_check(&spec, &error), 0);
    spec.proxy_protocol = spec.internal = true;
    spec.algorithm = CLOUD_LEAST_CONNECTIONS;
    assert_int_equal(hz_balancer_check(&spec, &error), 0);
    struct cloud_balancer_spec wrong[4] = {spec, spec, spec, spec};
    wrong[0].listeners = &udp;
    wrong[1].source_ranges = ranges, wrong[1].n_source_ranges = 1;
    wrong[2].algorithm = CLOUD_SOURCE_IP;
    wrong[3].sticky = true;
    static const char *const says[] = {"UDP", "loadBalancerSourceRanges", "source address", "sessionAffinity"};
    for (size_t i = 0; i < KP_ARRAY_LEN(wrong); i++) {
        assert_int_equal(hz_balancer_check(&wrong[i], &error), KP_EINVALID);
        assert_non_null(strstr(error.message, says[i]));
    }
}

static void a_listener_is_a_service(void **state)
{
    static const struct cloud_listener listener = {CLOUD_TCP, 443, 30443};
    struct cloud_balancer_spec spec = {.listeners = &listener, .n_listeners = 1};
    KP_AUTO(json_decref) json_t *plain = hz_service(&spec, &listener);
    assert_string_equal(rest_json_text(plain, "protocol"), "tcp");
    assert_int_equal(rest_json_int(plain, "listen_port"), 443);
    assert_int_equal(rest_json_int(plain, "destination_port"), 30443);
    assert_int_equal(rest_json_int(plain, "health_check/port"), 30443);
    assert_int_equal(rest_json_int(plain, "health_check/interval"), 15);
    assert_int_equal(rest_json_int(plain, "health_check/timeout"), 10);
    assert_int_equal(rest_json_int(plain, "health_check/retries"), 3);
    assert_false(rest_json_bool(plain, "proxyprotocol"));
    spec.proxy_protocol = true;
    spec.health = (struct cloud_health_check){.kind = CLOUD_HEALTH_HTTP, .port = 32000, .path = "/healthz", .interval_s = 1, .timeout_s = 9, .healthy = 2, .unhealthy = 9};
    KP_AUTO(json_decref) json_t *http = hz_service(&spec, &listener);
    assert_string_equal(rest_json_text(http, "health_check/protocol"), "http");
    assert_string_equal(rest_json_text(http, "health_check/http/path"), "/healthz");
    assert_string_equal(rest_json_text(http, "health_check/http/status_codes/0"), "200");
    assert_int_equal(rest_json_int(http, "health_check/port"), 32000);
    assert_int_equal(rest_json_int(http, "health_check/interval"), 3); /* what the API takes */
    assert_int_equal(rest_json_int(http, "health_check/timeout"), 3);
    assert_int_equal(rest_json_int(http, "health_check/retries"), 5);
    assert_true(rest_json_bool(http, "proxyprotocol"));
    assert_true(hz_service_same(http, http));
    assert_false(hz_service_same(http, plain));
}

static void every_difference_of_a_service_is_seen(void **state)
{
    static const struct cloud_listener listener = {CLOUD_TCP, 443, 30443};
    const struct cloud_balancer_spec spec = {.listeners = &listener, .n_listeners = 1, .health = {.kind = CLOUD_HEALTH_HTTP, .path = "/healthz"}};
    static const char *const changes[][3] = { /* where, what it becomes */
        {"", "listen_port", "444"}, {"", "destination_port", "1"}, {"", "protocol", "\"http\""}, {"", "proxyprotocol", "true"}, {"health_check", "port", "1"},
        {"health_check", "interval", "16"}, {"health_check", "timeout", "11"}, {"health_check", "retries", "4"}, {"health_check", "protocol", "\"tcp\""},
        {"health_check/http", "path", "\"/\""}, {"health_check/http", "status_codes", "[\"2??\"]"}, {"health_check/http", "tls", "true"},
    };
    for (size_t i = 0; i < KP_ARRAY_LEN(changes); i++) {
        KP_AUTO(json_decref) json_t *wanted = hz_service(&spec, &listener), *got = hz_service(&spec, &listener);
        assert_true(hz_service_same(wanted, got));
        json_t *parent = kp_streq(changes[i][0], "") ? got : json_object_get(got, "health_check");
        if (kp_ends_with(changes[i][0], "http"))
            parent = json_object_get(parent, "http");
        json_object_set_new(parent, changes[i][1], json_loads(changes[i][2], JSON_DECODE_ANY, NULL));
        assert_false(hz_service_same(wanted, got));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(errors_mean_what_the_api_says), cmocka_unit_test(errors_name_fields_and_remedies), cmocka_unit_test(the_rate_is_read_and_kept),
        cmocka_unit_test(networks_are_private_ones), cmocka_unit_test(machines_and_balancers_have_addresses_of_their_own),
        cmocka_unit_test(control_planes_go_to_places_of_their_own), cmocka_unit_test(what_balancers_cannot_do_is_said), cmocka_unit_test(a_listener_is_a_service),
        cmocka_unit_test(every_difference_of_a_service_is_seen),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
