/* Requests for what other API servers serve: where they go, with whose name, and how they fail; discovery with them in it. */
#include "tests/unit/controlplane/apiserver/aggregator/fixture_test.h"

#define BASE "/apis/things.test/v1"
#define LARGE ((size_t)40 << 20)
#define WAIT_MS 20000

static void who_asks_is_told_in_headers_that_clients_cannot_send(void **state)
{
    struct fixture *f = *state;
    static const struct http_header headers[] = {{"Authorization", "Basic abc"}, {"X-Remote-User", "root"}, {"x-remote-extra-a", "b"}, {"X-Forwarded-For", "192.0.2.1"},
                                                 {"X-Forwarded-Host", "lies"}, {"Accept", "application/json"}, {"Audit-Id", "the-id"}};
    things_work(f);
    const struct http_response response = ask(f, "PUT", BASE "/namespaces/n/things/a%2Fb?x=1%202&watch=0", headers, KP_ARRAY_LEN(headers), "the body");
    const char *text = (const char *)response.body.data;
    assert_int_equal(response.status, 200);
    has("PUT " BASE "/namespaces/n/things/a%2Fb?x=1%202&watch=0 8 by front-proxy-client\n", text);
    has("host: things.default.svc:443\n", text);
    has("x-remote-user: system:anonymous\n", text);
    has("x-remote-group: system:unauthenticated\n", text);
    has("x-forwarded-for: 192.0.2.1, 127.0.0.1\n", text);
    has("x-forwarded-host: things.default.svc:443\n", text);
    has("x-forwarded-proto: https\n", text);
    has("x-forwarded-uri: " BASE "/namespaces/n/things/a%2Fb\n", text);
    has("accept: application/json\n", text);
    has("audit-id: the-id\n", text);
    has_not("authorization", text);
    has_not("root", text);
    has_not("x-remote-extra", text);
    has_not("lies", text);
}

static void names_are_escaped_in_headers_of_extras(void **state)
{
    struct fixture *f = *state;
    struct aggregator_headers headers = {0};
    struct auth_user user = {.name = "jane", .uid = "42"};
    kp_string_list_add(f->arena, &user.groups, "devs");
    kp_string_list_add(f->arena, &user.groups, "ops");
    user.extra.items = KP_NEW(f->arena, struct kp_string_list_pair);
    user.extra.len = 1;
    user.extra.items[0].key = "example.com/a%b c";
    kp_string_list_add(f->arena, &user.extra.items[0].value, "v");
    aggregator_add_user(&user, f->arena, &headers);
    static const char *const wanted[][2] = {{"X-Remote-User", "jane"}, {"X-Remote-Uid", "42"}, {"X-Remote-Group", "devs"}, {"X-Remote-Group", "ops"},
                                            {"X-Remote-Extra-example.com%2Fa%25b%20c", "v"}};
    assert_int_equal(headers.len, KP_ARRAY_LEN(wanted));
    for (size_t i = 0; i < headers.len; i++) {
        assert_string_equal(headers.items[i].name, wanted[i][0]);
        assert_string_equal(headers.items[i].value, wanted[i][1]);
        assert_true(aggregator_is_user_header(headers.items[i].name));
    }
    assert_false(aggregator_is_user_header("X-Remote"));
}

static void only_what_an_available_server_serves_goes_there(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(ask(f, "GET", BASE "/things", NULL, 0, NULL).status, 429); /* nothing is known yet */
    create_things(f);
    go_round(f);
    const struct http_response response = ask(f, "GET", BASE "/things", NULL, 0, NULL);
    assert_int_equal(response.status, 503);
    assert_string_equal((const char *)response.body.data, "service unavailable\n");
    assert_string_equal(http_response_header(&response, "content-type"), "text/plain; charset=utf-8");
    get(f, "/apis/things.test/v2/things", 404);
    get(f, "/apis/apps/v1", 200);
    put_service(f, 443);
    put_slice(f, true);
    later(f, AGGREGATOR_CHECK_MS);
    go_round(f);
    get(f, BASE "/things", 200);
}

static void answers_lose_what_is_not_theirs_to_say(void **state)
{
    struct fixture *f = *state;
    things_work(f);
    const struct http_response response = ask(f, "GET", BASE, NULL, 0, NULL);
    assert_int_equal(response.status, 200);
    assert_string_equal((const char *)response.body.data, f->behind.resources);
    assert_null(http_response_header(&response, "access-control-allow-origin"));
    has("the backend attempted to redirect this request, which is not permitted", get(f, BASE "/elsewhere", 502));
}

static void a_server_that_went_is_told_of_in_plain_text(void **state)
{
    struct fixture *f = *state;
    things_work(f);
    http_server_free(f->behind.server);
    f->behind.server = NULL;
    const char *text = get(f, BASE "/things", 503);
    has("error trying to reach service: ", text);
    has("connection refused", text);
    assert_string_equal(availability(f, "v1.things.test"), "True Passed: all checks passed"); /* so far */
}

static void a_certificate_of_somebody_else_is_not_believed(void **state)
{
    struct fixture *f = *state;
    KP_AUTO_BUF struct kp_buf pem = {0}, encoded = {0};
    assert_int_equal(kp_read_file(in_folder(f, "front-ca.crt"), 0, &pem, NULL), 0);
    kp_base64_encode(&encoded, pem.data, pem.len);
    f->ca = kp_arena_strdup(f->arena, encoded.data);
    things_work(f); /* that it answers is looked at without its certificate, as upstream does */
    has("error trying to reach service: ", get(f, BASE "/things", 503));
}

/* ---- answers that do not come in one piece ------------------------------------------------------------------------------------ */
struct reading {
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    size_t bytes;
    bool ended;
};

static void on_data(struct http_call *call, const uint8_t *data, size_t len, void *arg)
{
    struct reading *reading = arg;
    pthread_mutex_lock(&reading->mutex);
    reading->bytes += len;
    pthread_cond_broadcast(&reading->changed);
    pthread_mutex_unlock(&reading->mutex);
}

static void on_headers(struct http_call *call, int status, const struct http_header *headers, size_t count, void *arg) {}

static void on_end(struct http_call *call, const struct kp_error *error, void *arg)
{
    struct reading *reading = arg;
    pthread_mutex_lock(&reading->mutex);
    reading->ended = true;
    pthread_cond_broadcast(&reading->changed);
    pthread_mutex_unlock(&reading->mutex);
}

static void wait_for(struct reading *reading, size_t bytes, bool ended)
{
    pthread_mutex_lock(&reading->mutex);
    while (reading->bytes < bytes || (ended && !reading->ended))
        pthread_cond_wait(&reading->changed, &reading->mutex);
    pthread_mutex_unlock(&reading->mutex);
}

static struct http_call *start_reading(struct fixture *f, const char *path, struct reading *reading)
{
    static const struct http_call_callbacks callbacks = {.on_headers = on_headers, .on_data = on_data, .on_end = on_end};
    const struct http_client_request request = {.method = "GET", .path = path, .timeout_ms = -1};
    *reading = (struct reading){.mutex = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};
    return http_client_stream(f->client, &request, &callbacks, reading);
}

static void a_watch_is_passed_on_as_it_comes_and_ends_with_its_reader(void **state)
{
    struct fixture *f = *state;
    struct reading reading;
    things_work(f);
    KP_AUTO(http_call_unref) struct http_call *call = start_reading(f, BASE "/watched?watch=1", &reading);
    wait_for(&reading, strlen("first\n"), false);
    assert_int_equal(f->behind.aborted, 0);
    http_call_cancel(call);
    wait_for(&reading, 0, true);
    for (int64_t until = kp_mono_ms() + WAIT_MS; !__atomic_load_n(&f->behind.aborted, __ATOMIC_ACQUIRE); kp_sleep_ms(1))
        assert_true(kp_mono_ms() < until);
}

static void a_large_answer_comes_whole(void **state)
{
    struct fixture *f = *state;
    struct reading reading;
    things_work(f);
    f->behind.bytes = LARGE;
    struct http_call *call = start_reading(f, BASE "/large", &reading);
    wait_for(&reading, 0, true);
    assert_int_equal(reading.bytes, LARGE);
    http_call_unref(call);
}

static void on_echoed(struct http_tunnel *tunnel, const uint8_t *data, size_t len, void *arg) { on_data(NULL, data, len, arg); }
static void on_echo_eof(struct http_tunnel *tunnel, void *arg) { http_tunnel_close(tunnel); }
static void on_echo_close(struct http_tunnel *tunnel, void *arg) { on_end(NULL, NULL, arg); }

static void bytes_go_both_ways_after_an_upgrade(void **state)
{
    struct fixture *f = *state;
    static const struct http_tunnel_callbacks callbacks = {.on_data = on_echoed, .on_eof = on_echo_eof, .on_close = on_echo_close};
    const struct http_header header = {"Upgrade", "echo"};
    const struct http_client_request request = {.method = "GET", .path = BASE "/tunnel", .headers = &header, .header_count = 1};
    struct reading reading = {.mutex = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};
    struct http_response response;
    struct http_tunnel *tunnel = NULL;
    struct kp_error error = {0};
    things_work(f);
    if (http_client_upgrade(f->client, &request, f->arena, &response, &tunnel, &error) < 0)
        fail_msg("%s", error.message);
    assert_non_null(tunnel);
    http_tunnel_start(tunnel, &callbacks, &reading);
    http_tunnel_write(tunnel, "hello", 5);
    wait_for(&reading, 5, false);
    http_tunnel_close(tunnel);
    wait_for(&reading, 5, true);
    http_tunnel_unref(tunnel);
}

/* ---- discovery -------------------------------------------------------------------------------------------------------------------- */
static void groups_come_by_priority(void **state)
{
    struct fixture *f = *state;
    things_work(f);
    const char *text = get(f, "/apis", 200);
    static const char *const order[] = {"\"apiregistration.k8s.io\"", "\"apps\"", "\"events.k8s.io\"", "\"resource.k8s.io\"", "\"things.test\""};
    for (size_t i = 1; i < KP_ARRAY_LEN(order); i++)
        assert_true(strstr(text, order[i - 1]) && strstr(text, order[i - 1]) < strstr(text, order[i]));
    assert_int_equal(create_api_service(f, "v2.things.test", "\"group\":\"things.test\",\"version\":\"v2\",\"groupPriorityMinimum\":19000,\"versionPriority\":5,"
                                                             "\"service\":{\"name\":\"none\",\"namespace\":\"default\"}"), 0);
    go_round(f);
    text = get(f, "/apis", 200);
    assert_true(strstr(text, "\"things.test\"") < strstr(text, "\"apps\""));
    assert_string_equal(get(f, "/apis/things.test", 200),
                        "{\"kind\":\"APIGroup\",\"apiVersion\":\"v1\",\"name\":\"things.test\",\"versions\":[{\"groupVersion\":\"things.test/v1\",\"version\":\"v1\"},"
                        "{\"groupVersion\":\"things.test/v2\",\"version\":\"v2\"}],\"preferredVersion\":{\"groupVersion\":\"things.test/v1\",\"version\":\"v1\"}}");
    has("\"name\":\"autoscaling\",\"versions\":[{\"groupVersion\":\"autoscaling/v2\"", text);
}

static const char *discovered(struct fixture *f)
{
    const struct http_header accept = {"Accept", "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"};
    const struct http_response response = ask(f, "GET", "/apis", &accept, 1, NULL);
    const char *text = strstr((const char *)response.body.data, "{\"metadata\":{\"name\":\"things.test\"}");
    assert_non_null(text);
    return text;
}

#define RESOURCES "[{\"resource\":\"things\",\"responseKind\":{\"group\":\"things.test\",\"version\":\"v1\",\"kind\":\"Thing\"},\"scope\":\"Namespaced\"," \
                  "\"singularResource\":\"thing\",\"verbs\":[\"get\",\"list\"],\"shortNames\":[\"tg\"]}]"

static void aggregated_discovery_has_what_others_serve_and_says_when_it_is_old(void **state)
{
    struct fixture *f = *state;
    create_things(f);
    go_round(f);
    has("\"versions\":[{\"version\":\"v1\",\"freshness\":\"Stale\"}]", discovered(f));
    put_service(f, 443);
    put_slice(f, true);
    later(f, AGGREGATOR_CHECK_MS);
    go_round(f);
    has("\"versions\":[{\"version\":\"v1\",\"resources\":" RESOURCES ",\"freshness\":\"Current\"}]", discovered(f));
    f->behind.aggregated = true;
    later(f, AGGREGATOR_DISCOVER_MS);
    has("\"resources\":[{\"resource\":\"modern\",\"scope\":\"Cluster\"}],\"freshness\":\"Current\"", discovered(f));
    put_slice(f, false);
    later(f, AGGREGATOR_CHECK_MS);
    go_round(f);
    has("\"resources\":[{\"resource\":\"modern\",\"scope\":\"Cluster\"}],\"freshness\":\"Stale\"", discovered(f));
}

static void the_openapi_index_leads_to_documents_of_others(void **state)
{
    struct fixture *f = *state;
    things_work(f);
    has("\"apis/things.test/v1\":{\"serverRelativeURL\":\"/openapi/v3/apis/things.test/v1?hash=7\"}", get(f, "/openapi/v3", 200));
    has("{}", get(f, "/openapi/v3/apis/things.test/v1?hash=7", 404)); /* its own answer: it does not have the document */
    has("\"openapi\"", get(f, "/openapi/v3/apis/apps/v1", 200));
}

static void an_api_service_goes_before_what_is_built_in(void **state)
{
    struct fixture *f = *state;
    go_round(f);
    fake_put(f->store, "/registry/apiregistration.k8s.io/apiservices/v1.batch",
             "{\"apiVersion\":\"apiregistration.k8s.io/v1\",\"kind\":\"APIService\",\"metadata\":{\"name\":\"v1.batch\"},\"spec\":{\"group\":\"batch\",\"version\":\"v1\","
             "\"groupPriorityMinimum\":17400,\"versionPriority\":15,\"service\":{\"name\":\"things\",\"namespace\":\"default\",\"port\":443}}}");
    go_round(f);
    get(f, "/apis/batch/v1/jobs", 503);
    get(f, "/apis/apps/v1/deployments", 200);
    has_not("\"apis/batch/v1\"", get(f, "/openapi/v3", 200));
    fake_put(f->store, "/registry/apiregistration.k8s.io/apiservices/v1.batch", NULL);
    go_round(f);
    get(f, "/apis/batch/v1/jobs", 200);
}

/* ---- the thread ------------------------------------------------------------------------------------------------------------------- */
static struct aggregator *kept; /* its listeners stay with the caches: freed after them */

static void a_service_that_appears_is_noticed(void **state)
{
    struct fixture *f = *state;
    struct kp_error error = {0};
    create_things(f);
    assert_int_equal(aggregator_new(&f->aggregator->config, &kept, &error), 0);
    for (int64_t until = kp_mono_ms() + WAIT_MS; !strstr(availability(f, "v1.things.test"), "ServiceNotFound"); kp_sleep_ms(2))
        assert_true(kp_mono_ms() < until);
    put_slice(f, true);
    put_service(f, 443);
    for (int64_t until = kp_mono_ms() + WAIT_MS; strcmp(availability(f, "v1.things.test"), "True Passed: all checks passed") != 0; kp_sleep_ms(2))
        assert_true(kp_mono_ms() < until);
    put_slice(f, false); /* the next look would be in half a minute */
    for (int64_t until = kp_mono_ms() + WAIT_MS; !strstr(availability(f, "v1.things.test"), "MissingEndpoints"); kp_sleep_ms(2))
        assert_true(kp_mono_ms() < until);
    aggregator_stop(kept);
}

static int tear_down_thread(void **state)
{
    int code = tear_down(state);
    aggregator_free(KP_TAKE(kept));
    return code;
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(who_asks_is_told_in_headers_that_clients_cannot_send),
        TEST(names_are_escaped_in_headers_of_extras),
        TEST(only_what_an_available_server_serves_goes_there),
        TEST(answers_lose_what_is_not_theirs_to_say),
        TEST(a_server_that_went_is_told_of_in_plain_text),
        TEST(a_certificate_of_somebody_else_is_not_believed),
        TEST(a_watch_is_passed_on_as_it_comes_and_ends_with_its_reader),
        TEST(a_large_answer_comes_whole),
        TEST(bytes_go_both_ways_after_an_upgrade),
        TEST(groups_come_by_priority),
        TEST(aggregated_discovery_has_what_others_serve_and_says_when_it_is_old),
        TEST(the_openapi_index_leads_to_documents_of_others),
        TEST(an_api_service_goes_before_what_is_built_in),
        cmocka_unit_test_setup_teardown(a_service_that_appears_is_noticed, set_up, tear_down_thread),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
