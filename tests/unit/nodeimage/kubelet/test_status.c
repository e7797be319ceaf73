/* Pod status: phase, conditions, container states, and the patch between two statuses. */
#include "nodeimage/kubelet/kubelet_internal.h"
#include "tests/unit/nodeimage/kubelet/kubelet_test.h"

static const char *const one = "{metadata: {name: p, uid: u}, spec: {containers: [{name: a, image: i}]}}";
static const char *const hosts[] = {"192.168.0.1"};

struct fixture {
    struct kp_arena *arena;
    struct test_runtime t;
    struct kubelet_status_input in;
};

static void begin(struct fixture *f, const char *yaml)
{
    *f = (struct fixture){.arena = kp_arena_new(0)};
    runtime_init(&f->t);
    f->in = (struct kubelet_status_input){.pod = pod_of(f->arena, yaml), .rt = &f->t.rt, .host_ips = hosts, .n_host_ips = 1,
                                          .now_s = 100, .start_s = 50};
}

static const char *condition(const struct k8s_pod_status *status, const char *type)
{
    for (size_t i = 0; i < status->conditions.len; i++)
        if (kp_streq(status->conditions.items[i].type, type))
            return status->conditions.items[i].status;
    return "absent";
}

static void running_pod_is_ready_with_its_addresses(void **state)
{
    struct fixture f;
    begin(&f, one);
    runtime_add(&f.t, "c1", "a", CRI_RUNNING, 0);
    struct k8s_pod_status *s = kubelet_make_status(&f.in, f.arena);
    assert_string_equal(s->phase, "Running");
    assert_string_equal(condition(s, "Ready"), "True");
    assert_string_equal(condition(s, "PodReadyToStartContainers"), "True");
    assert_string_equal(s->pod_ip, "10.0.0.5");
    assert_string_equal(s->host_ip, "192.168.0.1");
    assert_string_equal(s->container_statuses.items[0].container_id, "containerd://c1");
    assert_true(s->container_statuses.items[0].started);
    assert_string_equal(s->qos_class, "BestEffort");
    assert_int_equal(s->start_time.seconds, 50);
    kp_arena_free(f.arena);
}

static void transition_time_stays_until_the_condition_changes(void **state)
{
    struct fixture f;
    begin(&f, one);
    runtime_add(&f.t, "c1", "a", CRI_RUNNING, 0);
    struct k8s_pod_status *first = kubelet_make_status(&f.in, f.arena);
    f.in.old = first;
    f.in.now_s = 200;
    struct k8s_pod_status *second = kubelet_make_status(&f.in, f.arena);
    assert_int_equal(second->conditions.items[2].last_transition_time.seconds, 100);
    f.t.containers[0].state = CRI_EXITED;
    struct k8s_pod_status *third = kubelet_make_status(&f.in, f.arena);
    assert_string_equal(condition(third, "Ready"), "False");
    assert_int_equal(third->conditions.items[2].last_transition_time.seconds, 200);
    kp_arena_free(f.arena);
}

static void phase_follows_containers_and_policy(void **state)
{
    static const struct {
        const char *policy;
        enum cri_state state;
        int exit_code;
        const char *phase;
    } rows[] = {{"Always", CRI_RUNNING, 0, "Running"},  {"Always", CRI_EXITED, 0, "Running"},
                {"Never", CRI_EXITED, 0, "Succeeded"},  {"Never", CRI_EXITED, 2, "Failed"},
                {"OnFailure", CRI_EXITED, 2, "Running"}, {"OnFailure", CRI_EXITED, 0, "Succeeded"},
                {"Always", CRI_CREATED, 0, "Pending"}};
    for (size_t i = 0; i < KP_ARRAY_LEN(rows); i++) {
        struct fixture f;
        begin(&f, one);
        f.in.pod->spec->restart_policy = rows[i].policy;
        runtime_add(&f.t, "c1", "a", rows[i].state, rows[i].exit_code);
        assert_string_equal(kubelet_make_status(&f.in, f.arena)->phase, rows[i].phase);
        kp_arena_free(f.arena);
    }
}

static void back_off_shows_as_waiting_with_the_last_end(void **state)
{
    struct fixture f;
    begin(&f, one);
    runtime_add(&f.t, "c1", "a", CRI_EXITED, 3);
    struct kubelet_reason reason = {.container = "a", .reason = "CrashLoopBackOff", .message = "back-off 10s"};
    f.in.reasons = &reason;
    f.in.n_reasons = 1;
    const struct k8s_container_status *c = &kubelet_make_status(&f.in, f.arena)->container_statuses.items[0];
    assert_string_equal(c->state->waiting->reason, "CrashLoopBackOff");
    assert_int_equal(c->last_state->terminated->exit_code, 3);
    assert_string_equal(c->last_state->terminated->reason, "Error");
    kp_arena_free(f.arena);
}

static void failed_init_leaves_main_containers_waiting(void **state)
{
    struct fixture f;
    begin(&f, "{metadata: {name: p, uid: u}, spec: {restartPolicy: Never, initContainers: [{name: i, image: i}], "
              "containers: [{name: a, image: i}]}}");
    runtime_add(&f.t, "c1", "i", CRI_EXITED, 1);
    f.in.stopped = true;
    struct k8s_pod_status *s = kubelet_make_status(&f.in, f.arena);
    assert_string_equal(s->phase, "Failed");
    assert_string_equal(s->container_statuses.items[0].state->waiting->reason, "PodInitializing");
    assert_string_equal(condition(s, "Initialized"), "False");
    kp_arena_free(f.arena);
}

static void terminal_phase_does_not_go_back(void **state)
{
    struct fixture f;
    begin(&f, one);
    struct k8s_pod_status *old = KP_OBJECT_NEW(f.arena, k8s_pod_status);
    old->phase = "Failed";
    old->reason = "Evicted";
    f.in.old = old;
    runtime_add(&f.t, "c1", "a", CRI_RUNNING, 0);
    struct k8s_pod_status *s = kubelet_make_status(&f.in, f.arena);
    assert_string_equal(s->phase, "Failed");
    assert_string_equal(s->reason, "Evicted");
    kp_arena_free(f.arena);
}

static enum kubelet_probe_result only_started(void *arg, const char *id, enum kubelet_probe_kind kind)
{
    return kind == KUBELET_STARTUP ? *(enum kubelet_probe_result *)arg : KUBELET_PROBE_FAILURE;
}

static void probes_decide_on_started_and_ready(void **state)
{
    struct fixture f;
    enum kubelet_probe_result startup = KUBELET_PROBE_UNKNOWN;
    begin(&f, "{metadata: {name: p, uid: u}, spec: {containers: [{name: a, image: i, startupProbe: {exec: {command: [x]}}, "
              "readinessProbe: {exec: {command: [x]}}}]}}");
    struct kubelet_probe_view view = {.get = only_started, .arg = &startup};
    f.in.probes = &view;
    runtime_add(&f.t, "c1", "a", CRI_RUNNING, 0);
    assert_false(kubelet_make_status(&f.in, f.arena)->container_statuses.items[0].started);
    startup = KUBELET_PROBE_SUCCESS;
    const struct k8s_container_status *c = &kubelet_make_status(&f.in, f.arena)->container_statuses.items[0];
    assert_true(c->started);
    assert_false(c->ready);
    kp_arena_free(f.arena);
}

static void patch_holds_only_what_changed(void **state)
{
    struct fixture f;
    begin(&f, one);
    runtime_add(&f.t, "c1", "a", CRI_RUNNING, 0);
    struct k8s_pod_status *first = kubelet_make_status(&f.in, f.arena);
    assert_null(kubelet_status_patch(first, first, "u", f.arena));
    f.t.ips[0] = "10.0.0.9";
    struct k8s_pod_status *second = kubelet_make_status(&f.in, f.arena);
    assert_string_equal(kubelet_status_patch(first, second, "u", f.arena),
                        "{\"metadata\":{\"uid\":\"u\"},\"status\":{\"podIP\":\"10.0.0.9\",\"podIPs\":[{\"ip\":\"10.0.0.9\"},"
                        "{\"ip\":\"10.0.0.5\",\"$patch\":\"delete\"}]}}");
    kp_arena_free(f.arena);
}

static void rejected_pod_has_only_the_verdict(void **state)
{
    struct fixture f;
    begin(&f, one);
    f.in.rejected = true;
    f.in.failed_reason = "OutOfcpu";
    f.in.failed_message = "no";
    struct k8s_pod_status *s = kubelet_make_status(&f.in, f.arena);
    assert_string_equal(s->phase, "Failed");
    assert_string_equal(s->reason, "OutOfcpu");
    assert_int_equal(s->container_statuses.len, 0);
    kp_arena_free(f.arena);
}

static void a_pod_has_failed_once_its_containers_have_stopped(void **state)
{
    struct fixture f;
    begin(&f, one);
    runtime_add(&f.t, "c1", "a", CRI_RUNNING, 0);
    f.in.failed_reason = "Evicted";
    f.in.failed_message = "The node was low on resource: memory. ";
    struct k8s_pod_status *s = kubelet_make_status(&f.in, f.arena);
    assert_string_equal(s->phase, "Running");
    assert_string_equal(condition(s, "DisruptionTarget"), "True");
    f.in.stopped = true;
    s = kubelet_make_status(&f.in, f.arena);
    assert_string_equal(s->phase, "Failed");
    assert_string_equal(s->reason, "Evicted");
    assert_string_equal(condition(s, "Ready"), "False");
    assert_string_equal(condition(s, "DisruptionTarget"), "True");
    kp_arena_free(f.arena);
}

/* The controllers mark the pods of a node that was not heard of as not ready, mirrors of static pods too. */
static void what_others_make_of_a_status_is_mended_also_right_after_our_write(void **state)
{
    struct fixture f;
    begin(&f, one);
    runtime_add(&f.t, "c1", "a", CRI_RUNNING, 0);
    struct k8s_pod_status *ours = kubelet_make_status(&f.in, f.arena), *seen = kubelet_make_status(&f.in, f.arena);
    assert_string_equal(condition(ours, "Ready"), "True");
    assert_int_equal(kubelet_status_mend_ms(ours, seen, 1000, 1001), -1);
    for (size_t i = 0; i < seen->conditions.len; i++)
        if (kp_streq(seen->conditions.items[i].type, "Ready"))
            seen->conditions.items[i].status = "False";
    assert_int_equal(kubelet_status_mend_ms(ours, seen, 1000, 1001), 3000);
    assert_int_equal(kubelet_status_mend_ms(ours, seen, 1000, 9000), 9000);
    seen = kubelet_make_status(&f.in, f.arena);
    seen->phase = "Unknown";
    assert_int_equal(kubelet_status_mend_ms(ours, seen, 1000, 1001), 3000);
    seen->conditions.len = 0;
    seen->phase = ours->phase;
    assert_int_equal(kubelet_status_mend_ms(ours, seen, 1000, 9000), 9000);
    kp_arena_free(f.arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(running_pod_is_ready_with_its_addresses),
        cmocka_unit_test(transition_time_stays_until_the_condition_changes),
        cmocka_unit_test(phase_follows_containers_and_policy),
        cmocka_unit_test(back_off_shows_as_waiting_with_the_last_end),
        cmocka_unit_test(failed_init_leaves_main_containers_waiting),
        cmocka_unit_test(terminal_phase_does_not_go_back),
        cmocka_unit_test(probes_decide_on_started_and_ready),
        cmocka_unit_test(patch_holds_only_what_changed),
        cmocka_unit_test(rejected_pod_has_only_the_verdict),
        cmocka_unit_test(a_pod_has_failed_once_its_containers_have_stopped),
        cmocka_unit_test(what_others_make_of_a_status_is_mended_also_right_after_our_write),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
