/* An auditor as its flags make it: events in a file and at a server that a kubeconfig names, which is away at first. */
#include "controlplane/apiserver/audit/audit_internal.h"
#include "tests/unit/controlplane/apiserver/server_test.h"

#include <unistd.h>

struct fixture {
    struct asked server;
    char dir[64];
    struct auditor_config config;
    pthread_mutex_t mutex;
    struct kp_string_list bodies; /* of requests that were answered well */
    int failures;                 /* requests to answer badly before */
    int asked;
};

static void serve(struct http_request *req, void *arg)
{
    struct fixture *f = KP_CONTAINER_OF(arg, struct fixture, server);
    pthread_mutex_lock(&f->mutex);
    f->asked++;
    bool bad = f->failures-- > 0;
    if (!bad && strcmp(req->path, "/events") == 0)
        kp_string_list_add(f->server.arena, &f->bodies, kp_arena_strndup(f->server.arena, (const char *)req->body.data, req->body.len));
    pthread_mutex_unlock(&f->mutex);
    http_respond(req, bad ? 503 : 200, NULL, 0, NULL, 0);
}

static const char *put_file(struct fixture *f, const char *name, const char *text)
{
    struct kp_error error = {0};
    const char *path = kp_arena_printf(f->server.arena, "%s/%s", f->dir, name);
    assert_int_equal(kp_write_file(path, text, strlen(text), 0600, &error), 0);
    return path;
}

static int set_up(void **state)
{
    struct fixture *f = kp_calloc(1, sizeof(*f));
    pthread_mutex_init(&f->mutex, NULL);
    snprintf(f->dir, sizeof(f->dir), "/tmp/test-audit-webhook-XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    asked_start(&f->server, serve);
    auditor_defaults(&f->config);
    f->config.policy_file = put_file(f, "policy.yaml", "apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: [{level: Metadata}]\n");
    f->config.webhook_file = put_file(f, "hook.conf", kp_arena_printf(f->server.arena,
                                      "apiVersion: v1\nkind: Config\ncurrent-context: x\ncontexts: [{name: x, context: {cluster: c}}]\n"
                                      "clusters: [{name: c, cluster: {server: 'http://127.0.0.1:%u/events'}}]\n", http_server_port(f->server.server)));
    f->config.webhook_backoff_ns = 1000000;
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    struct kp_error error = {0};
    assert_int_equal(kp_remove_tree(f->dir, &error), 0);
    asked_stop(&f->server);
    free(f);
    return 0;
}

static struct auditor *open_auditor(struct fixture *f)
{
    struct auditor *auditor = NULL;
    struct kp_error error = {0};
    if (auditor_new(&f->config, f->server.loop, &auditor, &error) < 0)
        fail_msg("%s", error.message);
    return auditor;
}

static void tell(struct auditor *auditor, const char *id)
{
    static const struct auth_user user = {.name = "joe", .uid = ""};
    const struct audit_request request = {.attributes = {.user = "joe", .groups = &user.groups, .verb = "get", .group = "", .resource = "", .subresource = "", .ns = "", .name = "", .path = "/x"},
                                          .id = id, .uri = "/x", .user = &user, .received_ns = 1};
    struct audit_record *record = audit_record_new(auditor, &request);
    assert_int_equal(audit_received(record), 0);
    audit_complete(record, 200, true);
    audit_record_unref(record);
}

static void batches_arrive_as_lists_although_the_server_was_away(void **state)
{
    struct fixture *f = *state;
    struct kp_value *list = NULL;
    f->failures = 3;
    f->config.webhook.batch_max = 2;
    struct auditor *auditor = open_auditor(f);
    tell(auditor, "one");
    while (__atomic_load_n(&f->asked, __ATOMIC_ACQUIRE) < 4)
        kp_sleep_ms(1);
    auditor_free(auditor);
    assert_int_equal(f->bodies.len, 1);
    assert_int_equal(kp_value_parse(f->bodies.items[0], strlen(f->bodies.items[0]), f->server.arena, NULL, &list, NULL), 0);
    assert_string_equal(kp_value_str(kp_value_get(list, "kind")), "EventList");
    assert_string_equal(kp_value_str(kp_value_get(list, "apiVersion")), "audit.k8s.io/v1");
    assert_string_equal(kp_value_str(kp_value_get(kp_value_at(kp_value_get(list, "items"), 0), "stage")), "RequestReceived");
    assert_string_equal(kp_value_str(kp_value_get(kp_value_at(kp_value_get(list, "items"), 1), "auditID")), "one");
}

static void a_server_that_stays_away_is_given_up(void **state)
{
    struct fixture *f = *state;
    f->failures = 1000;
    f->config.webhook.mode = "blocking";
    struct auditor *auditor = open_auditor(f);
    tell(auditor, "one"); /* two events, five times each */
    auditor_free(auditor);
    assert_int_equal(f->asked, 10);
    assert_int_equal(f->bodies.len, 0);
}

static void both_backends_get_every_event(void **state)
{
    struct fixture *f = *state;
    KP_AUTO_BUF struct kp_buf log = {0};
    struct kp_error error = {0};
    f->config.log_path = kp_arena_printf(f->server.arena, "%s/logs/audit.log", f->dir);
    struct auditor *auditor = open_auditor(f);
    tell(auditor, "one");
    tell(auditor, "two");
    auditor_free(auditor); /* what waits is handed on at the end */
    assert_int_equal(kp_read_file(f->config.log_path, 0, &log, &error), 0);
    size_t lines = 0;
    for (const char *at = log.data; (at = strchr(at, '\n')); at++)
        lines++;
    assert_int_equal(lines, 4);
    assert_int_equal(f->bodies.len, 1);
    assert_non_null(strstr(f->bodies.items[0], "\"auditID\":\"two\""));
}

static void without_a_policy_or_a_backend_nothing_is_audited(void **state)
{
    struct fixture *f = *state;
    const char *policy = f->config.policy_file;
    f->config.policy_file = NULL;
    assert_null(open_auditor(f));
    f->config.policy_file = policy;
    f->config.webhook_file = NULL;
    assert_null(open_auditor(f));
}

static void flags_that_make_no_sense_are_refused(void **state)
{
    struct fixture *f = *state;
    const struct auditor_config good = f->config;
    struct auditor *auditor = NULL;
    for (int i = 0; i < 8; i++) {
        static const char *const words[] = {"--audit-webhook-mode", "--audit-webhook-batch-buffer-size", "--audit-webhook-batch-throttle-qps", "--audit-log-format",
                                            "--audit-log-maxage", "--audit-webhook-truncate-max-batch-size", "--audit-webhook-version", "--audit-policy-file"};
        struct kp_error error = {0};
        f->config = good;
        switch (i) {
        case 0: f->config.webhook.mode = "sometimes"; break;
        case 1: f->config.webhook.buffer_size = 0; break;
        case 2: f->config.webhook.throttle_qps = "many"; break;
        case 3: f->config.log_format = "xml"; break;
        case 4: f->config.log_max_age_days = -1; break;
        case 5: f->config.webhook.batch_bytes_max = 1; break;
        case 6: f->config.webhook_version = "audit.k8s.io/v1beta1"; break;
        default: f->config.policy_file = "/nonexistent"; break;
        }
        assert_true(auditor_new(&f->config, f->server.loop, &auditor, &error) < 0);
        if (!strstr(error.message, words[i]))
            fail_msg("%s: %s", words[i], error.message);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(batches_arrive_as_lists_although_the_server_was_away, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_server_that_stays_away_is_given_up, set_up, tear_down),
        cmocka_unit_test_setup_teardown(both_backends_get_every_event, set_up, tear_down),
        cmocka_unit_test_setup_teardown(without_a_policy_or_a_backend_nothing_is_audited, set_up, tear_down),
        cmocka_unit_test_setup_teardown(flags_that_make_no_sense_are_refused, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
