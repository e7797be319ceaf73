/* Job, endpoints, node, namespace-content and certificate plans. */
#include "lib/tls/tls.h"
#include "tests/support/kcm_world.h"
#include "tests/support/objects.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#define SELECTOR "selector: {matchLabels: {job: j}}, template: {metadata: {labels: {job: j}}, spec: {restartPolicy: Never, containers: [{name: c}]}}"
#define JOB_POD "finalizers: [batch.kubernetes.io/job-tracking], labels: {job: j}, ownerReferences: [{apiVersion: batch/v1, kind: Job, name: j, uid: job1, controller: true}]"

static struct kcm_world *world_of(const struct controller *controller)
{
    return world_new(&controller, 1, NULL);
}

static void put_job(struct kcm_world *world, const char *spec)
{
    KP_AUTO_FREE char *yaml = kp_asprintf("{metadata: {name: j, namespace: d, uid: job1}, spec: {%s, " SELECTOR "}}", spec);
    const struct k8s_job *old = world_get(world, &k8s_jobs_resource, "d", "j");
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    struct k8s_job *job = test_object(&k8s_job_type, arena, yaml);
    if (old)
        job->status = old->status;
    client_informer_inject(engine_cache(world->engine, &k8s_jobs_resource), job);
}

static void put_pod(struct kcm_world *world, const char *name, const char *meta, const char *spec, const char *status)
{
    KP_AUTO_FREE char *yaml = kp_asprintf("{metadata: {name: %s, namespace: d, uid: u-%s, %s}, spec: {%scontainers: [{name: c}]}, status: {%s}}", name,
                                          name, meta, spec, status);
    world_put(world, &k8s_pods_resource, yaml);
}

static const struct k8s_job *job_now(struct kcm_world *world)
{
    return world_get(world, &k8s_jobs_resource, "d", "j");
}

static const char *job_condition(struct kcm_world *world, const char *type)
{
    const struct k8s_job *job = job_now(world);
    for (size_t i = 0; i < job->status->conditions.len; i++)
        if (kp_streq(job->status->conditions.items[i].type, type) && kp_streq(job->status->conditions.items[i].status, "True"))
            return job->status->conditions.items[i].reason;
    return NULL;
}

static void a_job_counts_each_success_once_and_completes(void **state)
{
    (void)state;
    struct kcm_world *world = world_of(&job_controller);
    put_job(world, "completions: 2, parallelism: 1");
    world_plan(world, &job_controller, "d/j");
    assert_int_equal(world_count(world, "create pods"), 1);
    const struct k8s_pod *pod = world_written(world, PLAN_CREATE, &k8s_pods_resource, 0);
    assert_string_equal(pod->metadata->finalizers.items[0], "batch.kubernetes.io/job-tracking");
    for (const struct plan_write *w = world->plan->first; w; w = w->next) /* only the status, not the pod */
        if (w->op == PLAN_UPDATE)
            client_informer_inject(engine_cache(world->engine, &k8s_jobs_resource), w->obj);
    put_pod(world, "p1", JOB_POD, "", "phase: Succeeded");
    world_plan(world, &job_controller, "d/j");
    /* the status with the uid comes before the finalizer goes */
    const char *status = strstr(world->text.data, "update jobs/status"), *patch = strstr(world->text.data, "patch pods d/p1");
    assert_true(status && patch && status < patch);
    assert_int_equal(world_count(world, "create pods"), 1); /* the second of two */
    const struct k8s_job *job = world_written(world, PLAN_UPDATE, &k8s_jobs_resource, 0);
    assert_string_equal(job->status->uncounted_terminated_pods->succeeded.items[0], "u-p1");
    client_informer_inject(engine_cache(world->engine, &k8s_jobs_resource), job);
    put_pod(world, "p1", "labels: {job: j}, ownerReferences: [{apiVersion: batch/v1, kind: Job, name: j, uid: job1, controller: true}]", "", "phase: Succeeded");
    put_pod(world, "p2", "labels: {job: j}, ownerReferences: [{apiVersion: batch/v1, kind: Job, name: j, uid: job1, controller: true}]", "", "phase: Succeeded");
    world_plan(world, &job_controller, "d/j");
    world_apply(world);
    assert_int_equal(job_now(world)->status->succeeded, 1); /* p2 never was tracked: not ours to count */
    assert_null(job_condition(world, "Complete"));
    put_pod(world, "p3", JOB_POD, "", "phase: Succeeded");
    world_plan(world, &job_controller, "d/j");
    world_apply(world);
    world_remove(world, &k8s_pods_resource, "d", "p3");
    for (int i = 0; i < 3; i++) { /* whatever else was started is deleted first */
        world_plan(world, &job_controller, "d/j");
        world_apply(world);
    }
    assert_string_equal(job_condition(world, "Complete"), "CompletionsReached");
    assert_int_equal(job_now(world)->status->succeeded, 2);
    world_free(world);
}

static void a_job_fails_at_its_backoff_limit(void **state)
{
    (void)state;
    struct kcm_world *world = world_of(&job_controller);
    put_job(world, "backoffLimit: 0");
    put_pod(world, "p1", JOB_POD, "", "phase: Failed");
    world_plan(world, &job_controller, "d/j");
    assert_int_equal(world_count(world, "create"), 0);
    world_apply(world);
    assert_string_equal(job_condition(world, "FailureTarget"), "BackoffLimitExceeded");
    assert_null(job_condition(world, "Failed"));
    world_remove(world, &k8s_pods_resource, "d", "p1");
    world_plan(world, &job_controller, "d/j");
    assert_int_equal(world_count(world, "event d/j Warning BackoffLimitExceeded: Job has reached the specified backoff limit"), 1);
    world_apply(world);
    assert_string_equal(job_condition(world, "Failed"), "BackoffLimitExceeded");
    assert_int_equal(job_now(world)->status->failed, 1);
    world_free(world);
}

static void a_failed_pod_is_replaced_after_a_while(void **state)
{
    (void)state;
    struct kcm_world *world = world_of(&job_controller);
    put_job(world, "backoffLimit: 6");
    put_pod(world, "p1", JOB_POD, "", "phase: Failed, containerStatuses: [{name: c, state: {terminated: {exitCode: 1, finishedAt: '1970-01-12T13:46:38Z'}}}]");
    assert_non_null(strstr(world_plan(world, &job_controller, "d/j"), "requeue after 8000 ms")); /* 10 s after it ended 2 s ago */
    assert_int_equal(world_count(world, "create"), 0);
    world->now_s += 8;
    world_plan(world, &job_controller, "d/j");
    assert_int_equal(world_count(world, "create pods"), 1);
    world_free(world);
}

static void an_indexed_job_fills_its_gaps(void **state)
{
    (void)state;
    struct kcm_world *world = world_of(&job_controller);
    put_job(world, "completions: 4, parallelism: 4, completionMode: Indexed");
    put_pod(world, "p1", "annotations: {batch.kubernetes.io/job-completion-index: '1'}, " JOB_POD, "", "phase: Succeeded");
    put_pod(world, "p2", "annotations: {batch.kubernetes.io/job-completion-index: '2'}, " JOB_POD, "", "phase: Running");
    world_plan(world, &job_controller, "d/j");
    assert_int_equal(world_count(world, "create pods d/j-0-"), 1);
    assert_int_equal(world_count(world, "create pods d/j-3-"), 1);
    assert_int_equal(world_count(world, "create pods"), 2);
    const char *status = strstr(world->text.data, "update jobs/status"), *patch = strstr(world->text.data, "patch pods d/p1");
    assert_true(status && patch && status < patch);
    const struct k8s_job *job = world_written(world, PLAN_UPDATE, &k8s_jobs_resource, 0);
    assert_string_equal(job->status->completed_indexes, "1");
    assert_int_equal(job->status->succeeded, 1);
    world_free(world);
}

static void a_suspended_job_deletes_without_counting_and_resumes(void **state)
{
    (void)state;
    struct kcm_world *world = world_of(&job_controller);
    put_job(world, "suspend: true");
    put_pod(world, "p1", JOB_POD, "", "phase: Running");
    world_plan(world, &job_controller, "d/j");
    const char *patch = strstr(world->text.data, "patch pods d/p1"), *del = strstr(world->text.data, "delete pods d/p1");
    assert_true(patch && del && patch < del);
    world_apply(world);
    assert_string_equal(job_condition(world, "Suspended"), "JobSuspended");
    assert_string_equal(world_plan(world, &job_controller, "d/j"), "");
    put_job(world, "suspend: false");
    world_plan(world, &job_controller, "d/j");
    assert_int_equal(world_count(world, "event d/j Normal Resumed"), 1);
    assert_int_equal(world_count(world, "create pods"), 1);
    world_apply(world);
    assert_null(job_condition(world, "Suspended"));
    assert_int_equal(job_now(world)->status->start_time.seconds, WORLD_NOW);
    world_free(world);
}

static void a_job_past_its_deadline_fails(void **state)
{
    (void)state;
    struct kcm_world *world = world_of(&job_controller);
    put_job(world, "activeDeadlineSeconds: 30");
    assert_non_null(strstr(world_plan(world, &job_controller, "d/j"), "requeue after 30000 ms"));
    world_apply(world);
    world->now_s += 31;
    world_plan(world, &job_controller, "d/j");
    assert_int_equal(world_count(world, "delete pods"), 1);
    world_apply(world);
    assert_string_equal(job_condition(world, "FailureTarget"), "DeadlineExceeded");
    world_free(world);
}

/* ---- endpoints ---- */
#define SERVICE(extra) "{metadata: {name: s, namespace: d, uid: s1, labels: {team: x}}, spec: {" extra "selector: {app: w}, ports: [{name: http, port: 80, targetPort: web}]}}"
#define SERVING "conditions: [{type: Ready, status: 'True'}]"

static void put_endpoint(struct kcm_world *world, const char *name, const char *ip, const char *meta, const char *status)
{
    KP_AUTO_FREE char *yaml = kp_asprintf("{metadata: {name: %s, namespace: d, uid: u-%s, labels: {app: w}%s}, spec: {nodeName: n1, containers: [{name: c, ports: "
                                          "[{name: web, containerPort: 8080}]}]}, status: {podIP: %s, phase: Running, %s}}", name, name, meta, ip, status);
    world_put(world, &k8s_pods_resource, yaml);
}

static void slices_tell_of_ready_and_terminating_pods(void **state)
{
    (void)state;
    static const struct controller *const both[] = {&endpointslice_controller, &endpoints_controller};
    struct kcm_world *world = world_new(both, 2, NULL);
    world_put(world, &k8s_nodes_resource, "{metadata: {name: n1, labels: {topology.kubernetes.io/zone: z1}}}");
    world_put(world, &k8s_services_resource, SERVICE("clusterIP: None, "));
    put_endpoint(world, "a", "10.0.0.1", "", SERVING);
    put_endpoint(world, "b", "10.0.0.2", "", "conditions: [{type: Ready, status: 'False'}]");
    put_endpoint(world, "t", "10.0.0.3", ", deletionTimestamp: '2020-01-01T00:00:00Z', deletionGracePeriodSeconds: 30", SERVING);
    assert_string_equal(world_plan(world, &endpointslice_controller, "d/s"), "create endpointslices d/s-\n");
    const struct k8s_endpoint_slice *slice = world_written(world, PLAN_CREATE, &k8s_endpointslices_resource, 0);
    assert_int_equal(slice->endpoints.len, 3);
    assert_true(slice->endpoints.items[0].conditions->ready);
    assert_false(slice->endpoints.items[1].conditions->ready);
    assert_false(slice->endpoints.items[2].conditions->ready);
    assert_true(slice->endpoints.items[2].conditions->serving && slice->endpoints.items[2].conditions->terminating);
    assert_string_equal(slice->endpoints.items[0].zone, "z1");
    assert_int_equal(slice->ports.items[0].port, 8080);
    assert_string_equal(kp_string_map_get(&slice->metadata->labels, "service.kubernetes.io/headless"), "");
    assert_string_equal(kp_string_map_get(&slice->metadata->labels, "team"), "x");
    world_apply(world);
    assert_string_equal(world_plan(world, &endpointslice_controller, "d/s"), "");
    assert_string_equal(world_plan(world, &endpoints_controller, "d/s"), "create endpoints d/s\n");
    const struct k8s_endpoints *endpoints = world_written(world, PLAN_CREATE, &k8s_endpoints_resource, 0);
    assert_int_equal(endpoints->subsets.items[0].addresses.len, 1);
    assert_int_equal(endpoints->subsets.items[0].not_ready_addresses.len, 1); /* the terminating one is in neither */
    world_remove(world, &k8s_services_resource, "d", "s");
    assert_true(kp_starts_with(world_plan(world, &endpointslice_controller, "d/s"), "delete endpointslices d/s-"));
    world_free(world);
}

static void more_than_a_hundred_endpoints_take_several_slices(void **state)
{
    (void)state;
    struct kcm_world *world = world_of(&endpointslice_controller);
    world_put(world, &k8s_services_resource, SERVICE(""));
    assert_string_equal(world_plan(world, &endpointslice_controller, "d/s"), "create endpointslices d/s-\n"); /* an empty one */
    world_apply(world);
    for (int i = 0; i < 205; i++) {
        char name[16], ip[24];
        snprintf(name, sizeof(name), "p%03d", i);
        snprintf(ip, sizeof(ip), "10.1.%d.%d", i / 100, i % 100 + 1);
        put_endpoint(world, name, ip, "", SERVING);
    }
    world_plan(world, &endpointslice_controller, "d/s");
    assert_int_equal(world_count(world, "create"), 3);
    assert_int_equal(world_count(world, "delete"), 1); /* the empty one had no ports */
    const struct k8s_endpoint_slice *slice = world_written(world, PLAN_CREATE, &k8s_endpointslices_resource, 2);
    assert_int_equal(slice->endpoints.len, 5);
    world_free(world);
}

/* ---- nodes ---- */
#define NODE(taints, status) "{metadata: {name: n1, uid: node1, creationTimestamp: '1970-01-12T00:00:00Z'}, spec: {taints: [" taints "]}, status: {conditions: [" \
                             "{type: Ready, status: '" status "', lastHeartbeatTime: '1970-01-12T13:00:00Z'}]}}"

static void a_silent_node_becomes_unknown_then_tainted(void **state)
{
    (void)state;
    struct kcm_world *world = world_of(&node_lifecycle_controller);
    world_put(world, &k8s_nodes_resource, NODE("", "True"));
    world_put(world, &k8s_leases_resource, "{metadata: {name: n1, namespace: kube-node-lease}, spec: {renewTime: '2001-01-01T00:00:00.000000Z'}}");
    put_pod(world, "p", "labels: {a: b}", "nodeName: n1, ", "phase: Running, " SERVING);
    /* its clock is decades off: only changes count */
    assert_string_equal(world_plan(world, &node_lifecycle_controller, "n1"), "requeue after 5000 ms\n");
    world->now_s += 49;
    world_put(world, &k8s_leases_resource, "{metadata: {name: n1, namespace: kube-node-lease}, spec: {renewTime: '2001-01-01T00:00:10.000000Z'}}");
    assert_string_equal(world_plan(world, &node_lifecycle_controller, "n1"), "requeue after 5000 ms\n");
    world->now_s += 51;
    assert_string_equal(world_plan(world, &node_lifecycle_controller, "n1"),
                        "update nodes/status n1\nevent n1 Normal NodeNotReady: Node n1 status is now: NodeNotReady\n");
    world_apply(world);
    world_plan(world, &node_lifecycle_controller, "n1");
    assert_int_equal(world_count(world, "update pods/status d/p"), 1);
    assert_int_equal(world_count(world, "update nodes n1"), 1);
    const struct k8s_node *node = world_written(world, PLAN_UPDATE, &k8s_nodes_resource, 0);
    assert_int_equal(node->spec->taints.len, 2);
    assert_string_equal(node->spec->taints.items[0].key, "node.kubernetes.io/unreachable");
    assert_string_equal(node->spec->taints.items[1].effect, "NoExecute");
    assert_int_equal(node->spec->taints.items[1].time_added.seconds, world->now_s);
    world_apply(world);
    assert_string_equal(world_plan(world, &node_lifecycle_controller, "n1"), "");
    /* back again: taints go */
    world_put(world, &k8s_nodes_resource, "{metadata: {name: n1, uid: node1}, spec: {taints: [{key: mine, effect: NoSchedule}, {key: node.kubernetes.io/unreachable, "
              "effect: NoExecute}]}, status: {conditions: [{type: Ready, status: 'True', lastHeartbeatTime: '1970-01-12T15:00:00Z'}]}}");
    world_plan(world, &node_lifecycle_controller, "n1");
    node = world_written(world, PLAN_UPDATE, &k8s_nodes_resource, 0);
    assert_int_equal(node->spec->taints.len, 1);
    assert_string_equal(node->spec->taints.items[0].key, "mine");
    world_free(world);
}

/* Its kubelet speaks for its pods: the two would contradict each other for as long as a node takes to get ready. */
static void a_node_not_ready_by_its_own_word_keeps_its_pods_as_they_are(void **state)
{
    (void)state;
    struct kcm_world *world = world_of(&node_lifecycle_controller);
    world_put(world, &k8s_nodes_resource, NODE("", "False"));
    put_pod(world, "p", "labels: {a: b}", "nodeName: n1, ", "phase: Running, " SERVING);
    world_plan(world, &node_lifecycle_controller, "n1");
    assert_int_equal(world_count(world, "update pods/status d/p"), 0);
    assert_int_equal(world_count(world, "event d/p"), 0);
    const struct k8s_node *node = world_written(world, PLAN_UPDATE, &k8s_nodes_resource, 0);
    assert_string_equal(node->spec->taints.items[0].key, "node.kubernetes.io/not-ready");
    world_apply(world);
    /* silent as well, it speaks for nobody */
    world->now_s += 51;
    world_plan(world, &node_lifecycle_controller, "n1");
    world_apply(world);
    world_plan(world, &node_lifecycle_controller, "n1");
    assert_int_equal(world_count(world, "update pods/status d/p"), 1);
    world_free(world);
}

static void eviction_waits_for_the_shortest_toleration(void **state)
{
    (void)state;
    struct kcm_world *world = world_of(&taint_eviction_controller);
    world_put(world, &k8s_nodes_resource, "{metadata: {name: n1}, spec: {taints: [{key: k, effect: NoExecute}]}}"); /* as people taint: without a time */
    put_pod(world, "never", "labels: {a: b}", "nodeName: n1, tolerations: [{key: k, operator: Exists}], ", "phase: Running");
    put_pod(world, "now", "labels: {a: b}", "nodeName: n1, ", "phase: Running");
    put_pod(world, "later", "labels: {a: b}", "nodeName: n1, tolerations: [{key: k, operator: Exists, tolerationSeconds: 60}, {key: k, operator: Exists, tolerationSeconds: 20}], ", "phase: Running");
    assert_string_equal(world_plan(world, &taint_eviction_controller, "d/never"), "");
    world_plan(world, &taint_eviction_controller, "d/now");
    assert_int_equal(world_count(world, "delete pods d/now"), 1);
    assert_int_equal(world_count(world, "event d/now Normal TaintManagerEviction: Marking for deletion Pod d/now"), 1);
    assert_string_equal(world_plan(world, &taint_eviction_controller, "d/later"), "requeue after 20500 ms\n");
    world->now_s += 15;
    assert_string_equal(world_plan(world, &taint_eviction_controller, "d/later"), "requeue after 5500 ms\n");
    world->now_s += 5;
    world_plan(world, &taint_eviction_controller, "d/later");
    assert_int_equal(world_count(world, "delete pods d/later"), 1);
    world_free(world);
}

static void every_node_gets_the_lowest_free_range(void **state)
{
    (void)state;
    const struct controller *controller = &node_ipam_controller;
    const struct engine_config config = {.cluster_cidr = "10.244.0.0/22", .node_cidr_mask_size = 24, .allocate_node_cidrs = true};
    struct kcm_world *world = world_new(&controller, 1, &config);
    world_put(world, &k8s_nodes_resource, "{metadata: {name: a, uid: ua}}");
    world_put(world, &k8s_nodes_resource, "{metadata: {name: b, uid: ub}, spec: {podCIDR: 10.244.0.0/24}}");
    world_put(world, &k8s_nodes_resource, "{metadata: {name: c, uid: uc}}");
    world_put(world, &k8s_nodes_resource, "{metadata: {name: e, uid: ue}, spec: {podCIDR: 10.244.2.0/24}}");
    world_put(world, &k8s_nodes_resource, "{metadata: {name: f, uid: uf}}");
    world_plan(world, &node_ipam_controller, "nodes");
    assert_int_equal(world_count(world, "patch nodes a {\"spec\":{\"podCIDR\":\"10.244.1.0/24\",\"podCIDRs\":[\"10.244.1.0/24\"]}"), 1);
    assert_int_equal(world_count(world, "patch nodes c {\"spec\":{\"podCIDR\":\"10.244.3.0/24\""), 1);
    assert_int_equal(world_count(world, "event f Normal CIDRNotAvailable"), 1);
    world_free(world);
}

static void finished_pods_beyond_the_threshold_go_oldest_first(void **state)
{
    (void)state;
    struct kcm_world *world = world_of(&pod_gc_controller); /* threshold 2 */
    put_pod(world, "c", "creationTimestamp: '2020-01-01T00:00:03Z'", "", "phase: Succeeded");
    world_plan(world, &pod_gc_controller, "nodes");
    assert_string_equal(world->text.data, "requeue after 20000 ms\n");
    world_put(world, &k8s_nodes_resource, "{metadata: {name: n1}}");
    put_pod(world, "x", "creationTimestamp: '2020-01-01T00:00:02Z'", "nodeName: n1, ", "phase: Succeeded");
    put_pod(world, "w", "creationTimestamp: '2020-01-01T00:00:01Z'", "nodeName: n1, ", "phase: Failed");
    put_pod(world, "z", "creationTimestamp: '2020-01-01T00:00:04Z'", "nodeName: n1, ", "phase: Failed");
    put_pod(world, "gone", "deletionTimestamp: '2020-01-01T00:00:00Z', deletionGracePeriodSeconds: 0", "", "phase: Pending");
    put_pod(world, "lost", "labels: {a: b}", "nodeName: missing, ", "phase: Running");
    world_plan(world, &pod_gc_controller, "nodes");
    assert_int_equal(world_count(world, "delete pods"), 2);
    assert_int_equal(world_count(world, "delete pods d/gone"), 1);
    assert_int_equal(world_count(world, "delete pods d/w"), 1);
    assert_int_equal(world_count(world, "requeue after 5000 ms"), 1); /* the missing node is watched for a while first */
    world_free(world);
}

static void namespaces_get_their_account_and_root_certificate(void **state)
{
    (void)state;
    static const struct controller *const both[] = {&serviceaccount_controller, &root_ca_publisher_controller};
    const struct engine_config config = {.root_ca_pem = "PEM"};
    struct kcm_world *world = world_new(both, 2, &config);
    world_put(world, &k8s_namespaces_resource, "{metadata: {name: team}}");
    world_put(world, &k8s_namespaces_resource, "{metadata: {name: going, deletionTimestamp: '2020-01-01T00:00:00Z'}}");
    assert_string_equal(world_plan(world, &serviceaccount_controller, "team"), "create serviceaccounts team/default\n");
    world_apply(world);
    assert_string_equal(world_plan(world, &serviceaccount_controller, "team"), "");
    assert_string_equal(world_plan(world, &serviceaccount_controller, "going"), "");
    assert_string_equal(world_plan(world, &root_ca_publisher_controller, "team"), "create configmaps team/kube-root-ca.crt\n");
    world_put(world, &k8s_configmaps_resource, "{metadata: {name: kube-root-ca.crt, namespace: team}, data: {ca.crt: OLD}}");
    assert_string_equal(world_plan(world, &root_ca_publisher_controller, "team"), "update configmaps team/kube-root-ca.crt\n");
    world_apply(world);
    assert_string_equal(world_plan(world, &root_ca_publisher_controller, "team"), "");
    world_free(world);
}

/* ---- certificates ---- */
static void put_csr(struct kcm_world *world, const char *organization, const char *signer, const char *user, const char *usage, const char *conditions)
{
    KP_AUTO(tls_key_unref) struct tls_key *key = NULL;
    KP_AUTO_BUF struct kp_buf pem = {0}, base64 = {0};
    struct kp_error error = {0};
    const char *const organizations[] = {organization, NULL};
    const struct tls_subject subject = {.common_name = "system:node:n1", .organizations = organizations};
    assert_int_equal(tls_key_generate(TLS_KEY_ECDSA_P256, &key, &error), 0);
    assert_int_equal(tls_csr_create(key, &subject, &pem, &error), 0);
    kp_base64_encode(&base64, pem.data, pem.len);
    KP_AUTO_FREE char *yaml = kp_asprintf("{metadata: {name: r, uid: r1, creationTimestamp: '1970-01-12T13:40:00Z'}, spec: {request: %s, signerName: %s, username: '%s', "
                                          "groups: ['system:nodes'], usages: [%s, digital signature]}, status: {conditions: [%s]}}", base64.data, signer, user, usage, conditions);
    world_put(world, &k8s_certificatesigningrequests_resource, yaml);
}

static void a_nodes_own_request_is_approved_and_signed(void **state)
{
    (void)state;
    static const struct controller *const both[] = {&csr_approving_controller, &csr_signing_controller};
    KP_AUTO(tls_key_unref) struct tls_key *ca_key = NULL;
    KP_AUTO(tls_cert_unref) struct tls_cert *ca = NULL, *leaf = NULL;
    KP_AUTO_BUF struct kp_buf ca_pem = {0}, key_pem = {0};
    struct kp_error error = {0};
    assert_int_equal(tls_key_generate(TLS_KEY_ECDSA_P256, &ca_key, &error), 0);
    const struct tls_cert_options options = {.subject = {.common_name = "ca"}, .lifetime_s = 3600};
    assert_int_equal(tls_cert_create_ca(ca_key, &options, &ca, &error), 0);
    tls_cert_to_pem(ca, &ca_pem);
    assert_int_equal(tls_key_to_pem(ca_key, &key_pem, &error), 0);
    const struct engine_config config = {.signing_cert_pem = ca_pem.data, .signing_key_pem = key_pem.data, .cluster_signing_duration_s = 3600};
    struct kcm_world *world = world_new(both, 2, &config);
    put_csr(world, "system:nodes", "kubernetes.io/kube-apiserver-client-kubelet", "system:node:other", "client auth", "");
    world_plan(world, &csr_approving_controller, "r");
    assert_int_equal(world_count(world, "update"), 0); /* asked for by another node */
    put_csr(world, "system:masters", "kubernetes.io/kube-apiserver-client-kubelet", "system:node:n1", "client auth", "");
    world_plan(world, &csr_approving_controller, "r");
    assert_int_equal(world_count(world, "update"), 0);
    put_csr(world, "system:nodes", "kubernetes.io/kube-apiserver-client-kubelet", "system:node:n1", "client auth", "");
    world_plan(world, &csr_approving_controller, "r");
    assert_int_equal(world_count(world, "update certificatesigningrequests/approval r"), 1);
    assert_string_equal(world_plan(world, &csr_signing_controller, "r"), ""); /* not before it is approved */
    world_plan(world, &csr_approving_controller, "r");
    world_apply(world);
    assert_string_equal(world_plan(world, &csr_signing_controller, "r"), "update certificatesigningrequests/status r\n");
    const struct k8s_certificate_signing_request *csr = world_written(world, PLAN_UPDATE, &k8s_certificatesigningrequests_resource, 0);
    assert_int_equal(tls_cert_from_pem((const char *)csr->status->certificate.data, csr->status->certificate.len, &leaf, &error), 0);
    assert_int_equal(tls_cert_verify(leaf, NULL, ca_pem.data, TLS_USAGE_CLIENT, 0, &error), 0);
    assert_string_equal(tls_cert_info(leaf)->common_name, "system:node:n1");
    put_csr(world, "system:masters", "kubernetes.io/kube-apiserver-client", "eve", "client auth", "{type: Approved, status: 'True', reason: x}");
    world_plan(world, &csr_signing_controller, "r");
    csr = world_written(world, PLAN_UPDATE, &k8s_certificatesigningrequests_resource, 0);
    assert_int_equal(csr->status->certificate.len, 0);
    assert_string_equal(csr->status->conditions.items[1].type, "Failed");
    world->now_s += 7200;
    assert_string_equal(world_plan(world, &csr_approving_controller, "r"), "delete certificatesigningrequests r\n");
    world_free(world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_job_counts_each_success_once_and_completes),
        cmocka_unit_test(a_job_fails_at_its_backoff_limit),
        cmocka_unit_test(a_failed_pod_is_replaced_after_a_while),
        cmocka_unit_test(an_indexed_job_fills_its_gaps),
        cmocka_unit_test(a_suspended_job_deletes_without_counting_and_resumes),
        cmocka_unit_test(a_job_past_its_deadline_fails),
        cmocka_unit_test(slices_tell_of_ready_and_terminating_pods),
        cmocka_unit_test(more_than_a_hundred_endpoints_take_several_slices),
        cmocka_unit_test(a_silent_node_becomes_unknown_then_tainted),
        cmocka_unit_test(a_node_not_ready_by_its_own_word_keeps_its_pods_as_they_are),
        cmocka_unit_test(eviction_waits_for_the_shortest_toleration),
        cmocka_unit_test(every_node_gets_the_lowest_free_range),
        cmocka_unit_test(finished_pods_beyond_the_threshold_go_oldest_first),
        cmocka_unit_test(namespaces_get_their_account_and_root_certificate),
        cmocka_unit_test(a_nodes_own_request_is_approved_and_signed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
