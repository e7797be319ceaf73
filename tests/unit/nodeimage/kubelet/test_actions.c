/* What is killed, made and started for a pod, by its spec and what the runtime has. */
#include "tests/unit/nodeimage/kubelet/kubelet_test.h"

static const char *const two = "{metadata: {name: p, uid: u}, spec: {containers: [{name: a, image: i}, {name: b, image: i}]}}";
static const char *const inits =
    "{metadata: {name: p, uid: u}, spec: {initContainers: [{name: i1, image: i}, {name: side, image: i, restartPolicy: Always}, "
    "{name: i2, image: i}], containers: [{name: a, image: i}]}}";

struct fixture {
    struct kp_arena *arena;
    struct test_runtime t;
    struct k8s_pod *pod;
};

static struct kubelet_actions *compute(struct fixture *f)
{
    return kubelet_compute_actions(f->pod, &f->t.rt, NULL, f->arena);
}

static void begin(struct fixture *f, const char *yaml)
{
    f->arena = kp_arena_new(0);
    f->pod = pod_of(f->arena, yaml);
    runtime_init(&f->t);
}

static void end(struct fixture *f)
{
    kp_arena_free(f->arena);
}

static void new_pod_gets_sandbox_and_all_main_containers(void **state)
{
    struct fixture f;
    begin(&f, two);
    f.t.rt.n_sandboxes = 0;
    struct kubelet_actions *a = compute(&f);
    assert_true(a->create_sandbox);
    assert_false(a->kill_pod);
    assert_int_equal(a->attempt, 0);
    assert_int_equal(a->n_starts, 2);
    end(&f);
}

static void running_pod_needs_nothing(void **state)
{
    struct fixture f;
    begin(&f, two);
    runtime_add(&f.t, "1", "a", CRI_RUNNING, 0);
    runtime_add(&f.t, "2", "b", CRI_RUNNING, 0);
    assert_true(kubelet_actions_empty(compute(&f)));
    end(&f);
}

static void exited_container_restarts_by_policy(void **state)
{
    static const struct {
        const char *policy;
        int exit_code;
        bool restarts;
    } rows[] = {{"Always", 0, true},     {"Always", 1, true},  {"OnFailure", 0, false},
                {"OnFailure", 1, true},  {"Never", 0, false},  {"Never", 1, false}};
    for (size_t i = 0; i < KP_ARRAY_LEN(rows); i++) {
        struct fixture f;
        begin(&f, two);
        f.pod->spec->restart_policy = rows[i].policy;
        runtime_add(&f.t, "1", "a", CRI_EXITED, rows[i].exit_code);
        runtime_add(&f.t, "2", "b", CRI_RUNNING, 0);
        struct kubelet_actions *a = compute(&f);
        assert_int_equal(a->n_starts, rows[i].restarts ? 1 : 0);
        assert_false(a->kill_pod);
        end(&f);
    }
}

static void pod_whose_containers_are_done_is_killed(void **state)
{
    struct fixture f;
    begin(&f, two);
    f.pod->spec->restart_policy = "OnFailure";
    runtime_add(&f.t, "1", "a", CRI_EXITED, 0);
    runtime_add(&f.t, "2", "b", CRI_EXITED, 0);
    struct kubelet_actions *a = compute(&f);
    assert_true(a->kill_pod);
    assert_int_equal(a->n_starts, 0);
    end(&f);
}

static void init_containers_run_one_after_another(void **state)
{
    struct fixture f;
    begin(&f, inits);
    struct kubelet_actions *a = compute(&f);
    assert_int_equal(a->n_starts, 1);
    assert_string_equal(a->starts[0].spec.container->name, "i1");
    runtime_add(&f.t, "1", "i1", CRI_RUNNING, 0);
    assert_true(kubelet_actions_empty(compute(&f)));
    f.t.containers[0].state = CRI_EXITED;
    a = compute(&f);
    assert_int_equal(a->n_starts, 1);
    assert_string_equal(a->starts[0].spec.container->name, "side");
    runtime_add(&f.t, "2", "side", CRI_RUNNING, 0);
    a = compute(&f);
    assert_string_equal(a->starts[0].spec.container->name, "i2");
    runtime_add(&f.t, "3", "i2", CRI_EXITED, 0);
    a = compute(&f);
    assert_int_equal(a->n_starts, 1);
    assert_string_equal(a->starts[0].spec.container->name, "a");
    end(&f);
}

static void failed_init_container_ends_a_pod_that_never_restarts(void **state)
{
    struct fixture f;
    begin(&f, inits);
    runtime_add(&f.t, "1", "i1", CRI_EXITED, 1);
    struct kubelet_actions *a = compute(&f);
    assert_int_equal(a->n_starts, 1); /* Always: tried again */
    assert_non_null(a->starts[0].previous);
    f.pod->spec->restart_policy = "Never";
    a = compute(&f);
    assert_true(a->kill_pod);
    assert_int_equal(a->n_starts, 0);
    end(&f);
}

static void sidecar_restarts_beside_running_main_containers(void **state)
{
    struct fixture f;
    begin(&f, inits);
    runtime_add(&f.t, "1", "i1", CRI_EXITED, 0);
    runtime_add(&f.t, "2", "side", CRI_EXITED, 0);
    runtime_add(&f.t, "3", "i2", CRI_EXITED, 0);
    runtime_add(&f.t, "4", "a", CRI_RUNNING, 0);
    struct kubelet_actions *a = compute(&f);
    assert_int_equal(a->n_starts, 1);
    assert_string_equal(a->starts[0].spec.container->name, "side");
    assert_false(a->kill_pod);
    end(&f);
}

static void dead_sandbox_is_replaced_and_init_runs_again(void **state)
{
    struct fixture f;
    begin(&f, inits);
    f.t.sandbox.ready = false;
    f.t.sandbox.attempt = 2;
    runtime_add(&f.t, "1", "i1", CRI_EXITED, 0);
    runtime_add(&f.t, "2", "a", CRI_EXITED, 0);
    struct kubelet_actions *a = compute(&f);
    assert_true(a->kill_pod);
    assert_true(a->create_sandbox);
    assert_int_equal(a->attempt, 3);
    assert_int_equal(a->n_starts, 1);
    assert_string_equal(a->starts[0].spec.container->name, "i1");
    end(&f);
}

static void done_pod_with_dead_sandbox_stays_down(void **state)
{
    struct fixture f;
    begin(&f, two);
    f.pod->spec->restart_policy = "Never";
    f.t.sandbox.ready = false;
    runtime_add(&f.t, "1", "a", CRI_EXITED, 0);
    runtime_add(&f.t, "2", "b", CRI_EXITED, 1);
    struct kubelet_actions *a = compute(&f);
    assert_false(a->create_sandbox);
    assert_int_equal(a->n_starts, 0);
    end(&f);
}

static void changed_image_replaces_the_container(void **state)
{
    struct fixture f;
    begin(&f, two);
    char hash[32];
    snprintf(hash, sizeof(hash), "%llx", (unsigned long long)kubelet_container_hash(&f.pod->spec->containers.items[0]));
    struct cri_pair pair = {KUBELET_ANNOTATION_HASH, hash};
    runtime_add(&f.t, "2", "b", CRI_RUNNING, 0);
    runtime_add(&f.t, "1", "a", CRI_RUNNING, 0)->annotations = (struct cri_pairs){.items = &pair, .len = 1};
    assert_true(kubelet_actions_empty(compute(&f)));
    f.pod->spec->containers.items[0].image = "j";
    struct kubelet_actions *a = compute(&f);
    assert_int_equal(a->n_kills, 1);
    assert_string_equal(a->kills[0].message, "Container a definition changed, will be restarted");
    assert_int_equal(a->n_starts, 1);
    end(&f);
}

static enum kubelet_probe_result liveness_fails(void *arg, const char *id, enum kubelet_probe_kind kind)
{
    return kind == KUBELET_LIVENESS && kp_streq(id, "1") ? KUBELET_PROBE_FAILURE : KUBELET_PROBE_UNKNOWN;
}

static void failed_liveness_probe_replaces_the_container(void **state)
{
    struct fixture f;
    begin(&f, two);
    struct kubelet_probe_view probes = {.get = liveness_fails};
    runtime_add(&f.t, "1", "a", CRI_RUNNING, 0);
    runtime_add(&f.t, "2", "b", CRI_RUNNING, 0);
    struct kubelet_actions *a = kubelet_compute_actions(f.pod, &f.t.rt, &probes, f.arena);
    assert_int_equal(a->n_kills, 1);
    assert_true(a->kills[0].liveness);
    assert_string_equal(a->kills[0].message, "Container a failed liveness probe, will be restarted");
    assert_int_equal(a->n_starts, 1);
    f.pod->spec->restart_policy = "Never";
    a = kubelet_compute_actions(f.pod, &f.t.rt, &probes, f.arena);
    assert_int_equal(a->n_kills, 1);
    assert_int_equal(a->n_starts, 0);
    end(&f);
}

static void deleted_pod_starts_nothing(void **state)
{
    struct fixture f;
    begin(&f, two);
    f.pod->metadata->deletion_timestamp = KP_TIME_OF(1);
    runtime_add(&f.t, "1", "a", CRI_EXITED, 1);
    runtime_add(&f.t, "2", "b", CRI_RUNNING, 0);
    assert_int_equal(compute(&f)->n_starts, 0);
    end(&f);
}

static void ephemeral_container_starts_once(void **state)
{
    struct fixture f;
    begin(&f, "{metadata: {name: p, uid: u}, spec: {containers: [{name: a, image: i}], ephemeralContainers: [{name: e, image: i}]}}");
    runtime_add(&f.t, "1", "a", CRI_RUNNING, 0);
    struct kubelet_actions *a = compute(&f);
    assert_int_equal(a->n_starts, 1);
    assert_int_equal(a->starts[0].spec.kind, KUBELET_EPHEMERAL);
    runtime_add(&f.t, "2", "e", CRI_EXITED, 1);
    assert_true(kubelet_actions_empty(compute(&f)));
    end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(new_pod_gets_sandbox_and_all_main_containers),
        cmocka_unit_test(running_pod_needs_nothing),
        cmocka_unit_test(exited_container_restarts_by_policy),
        cmocka_unit_test(pod_whose_containers_are_done_is_killed),
        cmocka_unit_test(init_containers_run_one_after_another),
        cmocka_unit_test(failed_init_container_ends_a_pod_that_never_restarts),
        cmocka_unit_test(sidecar_restarts_beside_running_main_containers),
        cmocka_unit_test(dead_sandbox_is_replaced_and_init_runs_again),
        cmocka_unit_test(done_pod_with_dead_sandbox_stays_down),
        cmocka_unit_test(changed_image_replaces_the_container),
        cmocka_unit_test(failed_liveness_probe_replaces_the_container),
        cmocka_unit_test(deleted_pod_starts_nothing),
        cmocka_unit_test(ephemeral_container_starts_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
