/* What a request's events say, at which stages, and to whom. */
#include "controlplane/apiserver/audit/audit_internal.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

struct fixture {
    struct kp_arena *arena;
    struct auditor auditor;
    struct kp_string_list lines[AUDIT_SINKS_MAX]; /* what each sink got */
    bool broken;
    struct audit_request request;
    struct auth_user user;
};
struct keeper {
    struct fixture *f;
    size_t index;
};

static size_t keep(void *self, struct audit_sink *sink, struct kp_blob *const *events, size_t count, struct kp_error *error)
{
    struct keeper *k = self;
    (void)sink;
    for (size_t i = 0; i < count; i++)
        kp_string_list_add(k->f->arena, &k->f->lines[k->index], kp_arena_strndup(k->f->arena, (const char *)events[i]->data, events[i]->len));
    if (k->f->broken)
        kp_fail(error, KP_EIO, "broken");
    return k->f->broken ? count : 0;
}

static void add_sink(struct fixture *f, struct audit_sink_config config, bool legacy)
{
    size_t i = f->auditor.n_sinks++;
    struct keeper *k = kp_malloc(sizeof(*k));
    *k = (struct keeper){f, i};
    config.buffer_size = config.batch_max = 10;
    const struct audit_output output = {.name = "log", .write = keep, .free = free, .self = k, .legacy = legacy, .quick = true};
    f->auditor.sinks[i] = audit_sink_new(&config, &output);
}

static void set_policy(struct fixture *f, const char *rules)
{
    struct kp_error error = {0};
    const char *text = kp_arena_printf(f->arena, "apiVersion: audit.k8s.io/v1\nkind: Policy\n%s", rules);
    audit_policy_free(f->auditor.policy);
    f->auditor.policy = NULL;
    if (audit_policy_parse(text, strlen(text), "p", &f->auditor.policy, &error) < 0)
        fail_msg("%s", error.message);
}

static int set_up(void **state)
{
    static const char *const level[] = {"level", NULL};
    struct fixture *f = kp_calloc(1, sizeof(*f));
    f->arena = kp_arena_new(0);
    f->auditor.events = kp_counter("test_events", "", NULL);
    f->auditor.levels = kp_counter("test_levels", "", level);
    f->auditor.rejected = kp_counter("test_rejected", "", NULL);
    f->user = (struct auth_user){.name = "joe", .uid = "u1"};
    kp_string_list_add(f->arena, &f->user.groups, "a");
    f->request = (struct audit_request){.attributes = {.user = "joe", .groups = &f->user.groups, .verb = "create", .resource_request = true, .group = "apps",
                                                       .resource = "deployments", .subresource = "", .ns = "n", .name = "", .path = "/apis/apps/v1/namespaces/n/deployments"},
                                        .version = "v1",
                                        .id = "id-1",
                                        .uri = "/apis/apps/v1/namespaces/n/deployments?dryRun=All",
                                        .user_agent = "kubectl/v1",
                                        .user = &f->user,
                                        .received_ns = 1000000001000};
    kp_string_list_add(f->arena, &f->request.source_ips, "192.0.2.1");
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    for (size_t i = 0; i < f->auditor.n_sinks; i++)
        audit_sink_free(f->auditor.sinks[i]);
    audit_policy_free(f->auditor.policy);
    kp_arena_free(f->arena);
    free(f);
    return 0;
}

static const struct kp_value *line(struct fixture *f, size_t sink, size_t index)
{
    struct kp_value *value = NULL;
    assert_true(index < f->lines[sink].len);
    const char *text = f->lines[sink].items[index];
    assert_null(strchr(text, '\n'));
    assert_int_equal(kp_value_parse(text, strlen(text), f->arena, NULL, &value, NULL), 0);
    return value;
}

static const char *text_at(const struct kp_value *root, const char *a, const char *b)
{
    return kp_value_str(b ? kp_value_path(root, a, b, NULL) : kp_value_get(root, a));
}

static const char *printed(struct fixture *f, const struct kp_value *value)
{
    KP_AUTO_BUF struct kp_buf out = {0};
    assert_non_null(value);
    kp_value_print(value, &out);
    return kp_arena_strdup(f->arena, out.data);
}

static const char *stages(struct fixture *f, size_t sink)
{
    KP_AUTO_BUF struct kp_buf out = {0};
    for (size_t i = 0; i < f->lines[sink].len; i++)
        kp_buf_printf(&out, "%s ", text_at(line(f, sink, i), "stage", NULL));
    return kp_arena_strdup(f->arena, out.data ? out.data : "");
}

static void an_event_tells_who_asked_for_what(void **state)
{
    struct fixture *f = *state;
    set_policy(f, "rules: [{level: Request}]");
    add_sink(f, (struct audit_sink_config){.mode = AUDIT_BLOCKING}, false);
    KP_AUTO(audit_record_unref) struct audit_record *record = audit_record_new(&f->auditor, &f->request);
    assert_int_equal(audit_received(record), 0);
    audit_annotate(record, AUDIT_METADATA, "authorization.k8s.io/decision", "allow");
    audit_object(record, "other", "x", "", NULL);
    audit_request_body(record, "{\"a\":1}", 7);
    audit_response_body(record, "{\"b\":1}", 7); /* the level is too low for that */
    audit_complete(record, 201, true);
    audit_complete(record, 500, true); /* once is enough */
    assert_string_equal(stages(f, 0), "RequestReceived ResponseComplete ");
    assert_string_equal(f->lines[0].items[0],
                        "{\"kind\":\"Event\",\"apiVersion\":\"audit.k8s.io/v1\",\"level\":\"Request\",\"auditID\":\"id-1\",\"stage\":\"RequestReceived\","
                        "\"requestURI\":\"/apis/apps/v1/namespaces/n/deployments?dryRun=All\",\"verb\":\"create\",\"user\":{\"username\":\"joe\",\"uid\":\"u1\","
                        "\"groups\":[\"a\"]},\"sourceIPs\":[\"192.0.2.1\"],\"userAgent\":\"kubectl/v1\",\"objectRef\":{\"resource\":\"deployments\",\"namespace\":\"n\","
                        "\"apiGroup\":\"apps\",\"apiVersion\":\"v1\"},\"requestReceivedTimestamp\":\"1970-01-01T00:16:40.000001Z\","
                        "\"stageTimestamp\":\"1970-01-01T00:16:40.000001Z\"}");
    const struct kp_value *end = line(f, 0, 1);
    assert_string_equal(printed(f, kp_value_get(end, "objectRef")), "{\"resource\":\"deployments\",\"namespace\":\"n\",\"name\":\"x\",\"apiGroup\":\"apps\",\"apiVersion\":\"v1\"}");
    assert_string_equal(printed(f, kp_value_get(end, "responseStatus")), "{\"metadata\":{},\"code\":201}");
    assert_string_equal(printed(f, kp_value_get(end, "requestObject")), "{\"a\":1}");
    assert_null(kp_value_get(end, "responseObject"));
    assert_string_equal(text_at(end, "annotations", "authorization.k8s.io/decision"), "allow");
}

static void a_failure_is_told_with_its_status(void **state)
{
    struct fixture *f = *state;
    static const char status[] = "{\"kind\":\"Status\",\"apiVersion\":\"v1\",\"metadata\":{\"continue\":\"x\"},\"status\":\"Failure\",\"message\":\"no\",\"reason\":\"Forbidden\",\"code\":403}";
    set_policy(f, "omitStages: [RequestReceived]\nrules: [{level: Metadata}]");
    add_sink(f, (struct audit_sink_config){.mode = AUDIT_BLOCKING}, false);
    KP_AUTO(audit_record_unref) struct audit_record *record = audit_record_new(&f->auditor, &f->request);
    assert_int_equal(audit_received(record), 0);
    audit_response_status(record, status, sizeof(status) - 1);
    audit_complete(record, 403, true);
    assert_string_equal(stages(f, 0), "ResponseComplete ");
    assert_string_equal(printed(f, kp_value_get(line(f, 0, 0), "responseStatus")),
                        "{\"metadata\":{},\"status\":\"Failure\",\"message\":\"no\",\"reason\":\"Forbidden\",\"code\":403}");
}

static void long_running_requests_tell_that_their_answer_has_begun(void **state)
{
    struct fixture *f = *state;
    set_policy(f, "rules: [{level: Metadata}]");
    add_sink(f, (struct audit_sink_config){.mode = AUDIT_BLOCKING}, false);
    f->request.long_running = true;
    for (int begun = 0; begun < 2; begun++) {
        KP_AUTO(audit_record_unref) struct audit_record *record = audit_record_new(&f->auditor, &f->request);
        f->lines[0].len = 0;
        assert_int_equal(audit_received(record), 0);
        if (begun)
            audit_started(record, 200, true);
        audit_complete(record, begun ? 200 : 0, true);
        assert_string_equal(stages(f, 0), "RequestReceived ResponseStarted ResponseComplete ");
        assert_string_equal(printed(f, kp_value_get(line(f, 0, 2), "responseStatus")),
                            begun ? "{\"metadata\":{},\"code\":200}" : "{\"metadata\":{},\"status\":\"Success\",\"message\":\"Connection closed early\",\"code\":200}");
    }
}

static void refused_credentials_have_one_event(void **state)
{
    struct fixture *f = *state;
    set_policy(f, "rules: [{level: None, users: [joe]}, {level: Metadata}]");
    add_sink(f, (struct audit_sink_config){.mode = AUDIT_BLOCKING}, false);
    assert_null(audit_record_new(&f->auditor, &f->request));
    f->request.user = NULL;
    f->request.attributes.user = NULL;
    KP_AUTO(audit_record_unref) struct audit_record *record = audit_record_new(&f->auditor, &f->request);
    assert_int_equal(audit_received(record), 0);
    audit_complete(record, 401, true);
    assert_string_equal(stages(f, 0), "ResponseStarted ");
    assert_string_equal(printed(f, kp_value_get(line(f, 0, 0), "user")), "{}");
}

static void bodies_lose_their_managed_fields(void **state)
{
    struct fixture *f = *state;
    static const char object[] = "{\"metadata\":{\"name\":\"x\",\"managedFields\":[{}]}}";
    static const char list[] = "{\"metadata\":{},\"items\":[{\"metadata\":{\"managedFields\":[]}},{\"metadata\":{\"name\":\"y\"}}]}";
    static const char table[] = "{\"rows\":[{\"cells\":[],\"object\":{\"metadata\":{\"name\":\"z\",\"managedFields\":[]}}}]}";
    KP_AUTO(kp_blob_unref) struct kp_blob *a = audit_without_managed_fields(list, sizeof(list) - 1), *b = audit_without_managed_fields(table, sizeof(table) - 1);
    assert_string_equal((const char *)a->data, "{\"metadata\":{},\"items\":[{\"metadata\":{}},{\"metadata\":{\"name\":\"y\"}}]}");
    assert_string_equal((const char *)b->data, "{\"rows\":[{\"cells\":[],\"object\":{\"metadata\":{\"name\":\"z\"}}}]}");
    assert_null(audit_without_managed_fields("{\"a\":\"managedFields\"", 20));
    set_policy(f, "rules: [{level: RequestResponse, omitManagedFields: true}]");
    add_sink(f, (struct audit_sink_config){.mode = AUDIT_BLOCKING}, false);
    KP_AUTO(audit_record_unref) struct audit_record *record = audit_record_new(&f->auditor, &f->request);
    audit_request_body(record, object, sizeof(object) - 1);
    audit_response_body(record, "{\"c\":1}", 7);
    audit_complete(record, 200, true);
    assert_string_equal(printed(f, kp_value_get(line(f, 0, 0), "requestObject")), "{\"metadata\":{\"name\":\"x\"}}");
    assert_string_equal(printed(f, kp_value_get(line(f, 0, 0), "responseObject")), "{\"c\":1}");
}

static void annotations_are_of_a_level_and_have_one_value(void **state)
{
    struct fixture *f = *state;
    set_policy(f, "rules: [{level: Metadata}]");
    add_sink(f, (struct audit_sink_config){.mode = AUDIT_BLOCKING}, false);
    KP_AUTO(audit_record_unref) struct audit_record *record = audit_record_new(&f->auditor, &f->request);
    audit_annotate(record, AUDIT_METADATA, "a.example/b", "1");
    audit_annotate(record, AUDIT_METADATA, "a.example/b", "2");
    audit_annotate(record, AUDIT_REQUEST, "a.example/c", "3");
    audit_annotate(record, AUDIT_METADATA, "no key at all", "4");
    audit_impersonated(record, &(struct auth_user){.name = "ann", .uid = ""});
    audit_complete(record, 200, true);
    const struct kp_value *annotations = kp_value_get(line(f, 0, 0), "annotations");
    assert_string_equal(kp_value_str(kp_value_get(annotations, "a.example/b")), "1");
    assert_null(kp_value_get(annotations, "a.example/c"));
    assert_null(kp_value_get(annotations, "no key at all"));
    assert_string_equal(text_at(line(f, 0, 0), "impersonatedUser", "username"), "ann");
    audit_annotate(NULL, AUDIT_METADATA, "a", "b"); /* nothing is audited */
    audit_complete(NULL, 200, true);
}

static void an_event_that_is_too_large_loses_its_bodies(void **state)
{
    struct fixture *f = *state;
    KP_AUTO_BUF struct kp_buf body = {0};
    kp_buf_puts(&body, "{\"a\":\"");
    for (int i = 0; i < 2000; i++)
        kp_buf_putc(&body, 'x');
    kp_buf_puts(&body, "\"}");
    set_policy(f, "omitStages: [RequestReceived]\nrules: [{level: Request}]");
    add_sink(f, (struct audit_sink_config){.mode = AUDIT_BLOCKING, .event_bytes_max = 1000}, false);
    add_sink(f, (struct audit_sink_config){.mode = AUDIT_BLOCKING}, false);
    KP_AUTO(audit_record_unref) struct audit_record *record = audit_record_new(&f->auditor, &f->request);
    audit_annotate(record, AUDIT_METADATA, "a.example/b", "1");
    audit_request_body(record, body.data, body.len);
    audit_complete(record, 200, true);
    assert_null(kp_value_get(line(f, 0, 0), "requestObject"));
    assert_string_equal(text_at(line(f, 0, 0), "annotations", "audit.k8s.io/truncated"), "true");
    assert_string_equal(text_at(line(f, 0, 0), "annotations", "a.example/b"), "1");
    assert_non_null(kp_value_get(line(f, 1, 0), "requestObject"));
    assert_null(text_at(line(f, 1, 0), "annotations", "audit.k8s.io/truncated"));
    f->request.uri = body.data; /* nothing can be taken from that */
    struct audit_record *other = audit_record_new(&f->auditor, &f->request);
    audit_complete(other, 200, true);
    audit_record_unref(other);
    assert_int_equal(f->lines[0].len, 1);
    assert_int_equal(f->lines[1].len, 2);
}

static void a_strict_backend_that_fails_refuses_the_request(void **state)
{
    struct fixture *f = *state;
    set_policy(f, "rules: [{level: Metadata}]");
    add_sink(f, (struct audit_sink_config){.mode = AUDIT_BLOCKING}, false);
    f->broken = true;
    struct audit_record *record = audit_record_new(&f->auditor, &f->request);
    assert_int_equal(audit_received(record), 0); /* counted and logged */
    audit_record_unref(record);
    add_sink(f, (struct audit_sink_config){.mode = AUDIT_BLOCKING_STRICT}, false);
    record = audit_record_new(&f->auditor, &f->request);
    assert_true(audit_received(record) < 0);
    audit_record_unref(record);
}

static void the_legacy_format_is_a_line_of_text(void **state)
{
    struct fixture *f = *state;
    set_policy(f, "rules: [{level: Metadata}]");
    add_sink(f, (struct audit_sink_config){.mode = AUDIT_BLOCKING}, true);
    KP_AUTO(audit_record_unref) struct audit_record *record = audit_record_new(&f->auditor, &f->request);
    assert_int_equal(audit_received(record), 0);
    assert_string_equal(f->lines[0].items[0],
                        "1970-01-01T00:16:40.000001Z AUDIT: id=\"id-1\" stage=\"RequestReceived\" ip=\"192.0.2.1\" method=\"create\" user=\"joe\" groups=\"\\\"a\\\"\" "
                        "as=\"<self>\" asgroups=\"<lookup>\" user-agent=\"kubectl/v1\" namespace=\"n\" uri=\"/apis/apps/v1/namespaces/n/deployments?dryRun=All\" "
                        "response=\"<deferred>\"");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(an_event_tells_who_asked_for_what, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_failure_is_told_with_its_status, set_up, tear_down),
        cmocka_unit_test_setup_teardown(long_running_requests_tell_that_their_answer_has_begun, set_up, tear_down),
        cmocka_unit_test_setup_teardown(refused_credentials_have_one_event, set_up, tear_down),
        cmocka_unit_test_setup_teardown(bodies_lose_their_managed_fields, set_up, tear_down),
        cmocka_unit_test_setup_teardown(annotations_are_of_a_level_and_have_one_value, set_up, tear_down),
        cmocka_unit_test_setup_teardown(an_event_that_is_too_large_loses_its_bodies, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_strict_backend_that_fails_refuses_the_request, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_legacy_format_is_a_line_of_text, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
