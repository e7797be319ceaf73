/* What the HTTP face tells the audit log: where a request came from, what was sent, and when an answer that goes on after its handler has ended. */
#include "controlplane/apiserver/audit/audit_internal.h"
#include "controlplane/apiserver/http/http_internal.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

struct fixture {
    struct kp_arena *arena;
    struct auditor auditor;
    struct api_server server;
    struct loop *loop;
    struct pool *pool;
    struct http_server *http;
    struct http_client *client;
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    struct kp_string_list lines;
};

static size_t keep(void *self, struct audit_sink *sink, struct kp_blob *const *events, size_t count, struct kp_error *error)
{
    struct fixture *f = self;
    (void)sink;
    (void)error;
    pthread_mutex_lock(&f->mutex);
    for (size_t i = 0; i < count; i++)
        kp_string_list_add(f->arena, &f->lines, kp_arena_strndup(f->arena, (const char *)events[i]->data, events[i]->len));
    pthread_cond_broadcast(&f->changed);
    pthread_mutex_unlock(&f->mutex);
    return 0;
}

static void forget(void *self)
{
    (void)self;
}

static void handle(struct http_request *req, void *arg)
{
    struct fixture *f = arg;
    struct api_request ar = {.http = req, .arena = req->arena, .server = &f->server, .audit_id = "id", .status = API_STATUS(req->arena), .user = {.name = "joe", .uid = ""}};
    request_info_parse(req->method, req->path, req->query, req->arena, &ar.info);
    assert_true(api_audit_begin(&ar, strcmp(req->path, "/refused") != 0));
    if (strcmp(req->path, "/stream") == 0) {
        KP_AUTO(kp_blob_unref) struct kp_blob *blob = kp_blob_new("part", 4);
        api_audit_hand_over(&ar);
        KP_AUTO(http_stream_unref) struct http_stream *stream = http_stream_start(req, 200, NULL, 0);
        assert_int_equal(http_stream_write(stream, blob), 0);
        http_stream_end(stream);
    } else if (strcmp(req->method, "PATCH") == 0) {
        api_audit_patch(&ar, true);
        respond_text(&ar, 200, "done");
    } else {
        status_unauthorized(&ar.status);
        respond_status(&ar);
    }
    api_audit_leave(&ar);
}

static void on_access(const struct http_access *access, void *arg)
{
    (void)arg;
    api_audit_closed(access);
}

static int set_up(void **state)
{
    static const char *const level[] = {"level", NULL};
    static const char policy[] = "{\"apiVersion\":\"audit.k8s.io/v1\",\"kind\":\"Policy\",\"omitStages\":[\"RequestReceived\"],\"rules\":[{\"level\":\"Request\"}]}";
    const struct audit_sink_config sink = {.mode = AUDIT_BLOCKING, .buffer_size = 10, .batch_max = 10};
    struct fixture *f = kp_calloc(1, sizeof(*f));
    const struct audit_output output = {.name = "log", .write = keep, .free = forget, .self = f, .quick = true};
    struct kp_error error = {0};
    f->arena = kp_arena_new(0);
    pthread_mutex_init(&f->mutex, NULL);
    pthread_cond_init(&f->changed, NULL);
    f->auditor.events = kp_counter("test_events", "", NULL);
    f->auditor.levels = kp_counter("test_levels", "", level);
    assert_int_equal(audit_policy_parse(policy, strlen(policy), "test", &f->auditor.policy, &error), 0);
    f->auditor.sinks[f->auditor.n_sinks++] = audit_sink_new(&sink, &output);
    f->server.config.auditor = &f->auditor;
    f->loop = loop_new();
    assert_int_equal(loop_start(f->loop, "test", &error), 0);
    f->pool = pool_new("test", 2, 100);
    const struct http_server_config config = {.host = "127.0.0.1", .pool = f->pool, .handler = handle, .on_access = on_access, .arg = f};
    assert_int_equal(http_server_new(f->loop, &config, &f->http, &error), 0);
    const char *endpoint = kp_arena_printf(f->arena, "http://127.0.0.1:%u", http_server_port(f->http));
    const struct http_client_config client = {.endpoints = &endpoint, .endpoint_count = 1};
    assert_int_equal(http_client_new(f->loop, &client, &f->client, &error), 0);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    http_client_free(f->client);
    http_server_free(f->http);
    pool_free(f->pool);
    loop_free(f->loop);
    audit_sink_free(f->auditor.sinks[0]);
    audit_policy_free(f->auditor.policy);
    kp_arena_free(f->arena);
    free(f);
    return 0;
}

/* The only event of a request. */
static const struct kp_value *ask(struct fixture *f, const char *method, const char *path, const struct http_header *headers, size_t count, const char *body)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    const struct http_client_request request = {.method = method, .path = path, .headers = headers, .header_count = count, .body = body, .body_len = body ? strlen(body) : 0};
    struct http_response response;
    struct kp_error error = {0};
    struct kp_value *event = NULL;
    f->lines.len = 0;
    if (http_client_do(f->client, &request, arena, &response, &error) < 0)
        fail_msg("%s", error.message);
    pthread_mutex_lock(&f->mutex);
    while (!f->lines.len)
        pthread_cond_wait(&f->changed, &f->mutex);
    assert_int_equal(f->lines.len, 1);
    assert_int_equal(kp_value_parse(f->lines.items[0], strlen(f->lines.items[0]), f->arena, NULL, &event, NULL), 0);
    pthread_mutex_unlock(&f->mutex);
    return event;
}

static const char *printed(struct fixture *f, const struct kp_value *value)
{
    KP_AUTO_BUF struct kp_buf out = {0};
    assert_non_null(value);
    kp_value_print(value, &out);
    return kp_arena_strdup(f->arena, out.data);
}

static void addresses_are_those_of_the_headers_and_of_the_peer(void **state)
{
    struct fixture *f = *state;
    const struct http_header headers[] = {{"X-Forwarded-For", "192.0.2.1, nonsense ,2001:db8::1"}, {"X-Real-Ip", "192.0.2.7"}, {"User-Agent", "me"}};
    const struct kp_value *event = ask(f, "GET", "/x%20y?a=b", headers, KP_ARRAY_LEN(headers), NULL);
    assert_string_equal(printed(f, kp_value_get(event, "sourceIPs")), "[\"192.0.2.1\",\"2001:db8::1\",\"192.0.2.7\",\"127.0.0.1\"]");
    assert_string_equal(kp_value_str(kp_value_get(event, "requestURI")), "/x%20y?a=b");
    assert_string_equal(kp_value_str(kp_value_get(event, "userAgent")), "me");
    assert_string_equal(kp_value_str(kp_value_get(event, "verb")), "get");
    assert_null(kp_value_get(event, "objectRef"));
    event = ask(f, "GET", "/x", NULL, 0, NULL);
    assert_string_equal(printed(f, kp_value_get(event, "sourceIPs")), "[\"127.0.0.1\"]");
}

static void refused_credentials_are_told_with_their_status(void **state)
{
    struct fixture *f = *state;
    const struct kp_value *event = ask(f, "GET", "/refused", NULL, 0, NULL);
    assert_string_equal(kp_value_str(kp_value_get(event, "stage")), "ResponseStarted");
    assert_string_equal(printed(f, kp_value_get(event, "user")), "{}");
    assert_string_equal(printed(f, kp_value_get(event, "responseStatus")),
                        "{\"metadata\":{},\"status\":\"Failure\",\"message\":\"Unauthorized\",\"reason\":\"Unauthorized\",\"code\":401}");
}

static void a_patch_in_yaml_is_told_as_json(void **state)
{
    struct fixture *f = *state;
    const struct kp_value *event = ask(f, "PATCH", "/api/v1/namespaces/n/configmaps/x", NULL, 0, "data:\n  k: v\n");
    assert_string_equal(printed(f, kp_value_get(event, "requestObject")), "{\"data\":{\"k\":\"v\"}}");
    assert_string_equal(printed(f, kp_value_get(event, "objectRef")), "{\"resource\":\"configmaps\",\"namespace\":\"n\",\"name\":\"x\",\"apiVersion\":\"v1\"}");
    event = ask(f, "PATCH", "/api/v1/namespaces/n/configmaps/x", NULL, 0, "{");
    assert_null(kp_value_get(event, "requestObject"));
}

static void a_stream_is_complete_when_it_has_ended(void **state)
{
    struct fixture *f = *state;
    const struct kp_value *event = ask(f, "GET", "/stream", NULL, 0, NULL);
    assert_string_equal(kp_value_str(kp_value_get(event, "stage")), "ResponseComplete");
    assert_string_equal(printed(f, kp_value_get(event, "responseStatus")), "{\"metadata\":{},\"code\":200}");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(addresses_are_those_of_the_headers_and_of_the_peer, set_up, tear_down),
        cmocka_unit_test_setup_teardown(refused_credentials_are_told_with_their_status, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_patch_in_yaml_is_told_as_json, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_stream_is_complete_when_it_has_ended, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
