/* Filters, their reasons, scores, resource sums and the message of a decision. */
#include "controlplane/scheduler/scheduler.h"
#include "tests/support/objects.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#define NODE_OF(name, extra) "{metadata: {name: " name ", labels: {kubernetes.io/hostname: " name "}}, " extra \
                             "status: {allocatable: {cpu: '2', memory: 4Gi, ephemeral-storage: 10Gi, pods: '3', example.com/gpu: '1'}}}"

static void add_node(struct sched_cache *cache, const char *yaml)
{
    KP_AUTO(client_object_unref) struct client_object *node = test_client_object(&k8s_node_type, yaml);
    sched_cache_set_node(cache, node);
}

static void add_pod(struct sched_cache *cache, const char *yaml)
{
    KP_AUTO(client_object_unref) struct client_object *pod = test_client_object(&k8s_pod_type, yaml);
    sched_cache_set_pod(cache, pod);
}

static const char *decide(struct sched_cache *cache, struct kp_arena *arena, const char *yaml, const char **ret_message)
{
    struct sched_pod pod;
    struct sched_decision decision;
    const struct sched_cluster cluster = sched_cache_cluster(cache);
    sched_pod_init(&pod, test_object(&k8s_pod_type, arena, yaml), arena);
    sched_decide(&pod, &cluster, 0, arena, &decision);
    if (ret_message)
        *ret_message = decision.message;
    return decision.node;
}

static void one_node_refuses(const char *node, const char *other_pod, const char *pod, const char *want)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    struct sched_cache *cache = sched_cache_new();
    const char *message;
    add_node(cache, node);
    if (other_pod)
        add_pod(cache, other_pod);
    const char *chosen = decide(cache, arena, pod, &message);
    if (want) {
        assert_null(chosen);
        assert_string_equal(message, want);
    } else {
        assert_string_equal(chosen, "n1");
    }
    sched_cache_free(cache);
}

static void every_filter_says_why(void **state)
{
    (void)state;
    const char *plain = NODE_OF("n1", "");
    one_node_refuses(NODE_OF("n1", "spec: {unschedulable: true}, "), NULL, "{metadata: {name: a}, spec: {containers: [{name: c}]}}",
                     "0/1 nodes are available: 1 node(s) were unschedulable.");
    one_node_refuses(NODE_OF("n1", "spec: {unschedulable: true}, "), NULL,
                     "{metadata: {name: a}, spec: {tolerations: [{key: node.kubernetes.io/unschedulable, operator: Exists}], containers: [{name: c}]}}", NULL);
    one_node_refuses(plain, NULL, "{metadata: {name: a}, spec: {nodeName: other, containers: [{name: c}]}}",
                     "0/1 nodes are available: 1 node(s) didn't match the requested node name.");
    one_node_refuses(NODE_OF("n1", "spec: {taints: [{key: k, value: v, effect: NoSchedule}]}, "), NULL,
                     "{metadata: {name: a}, spec: {containers: [{name: c}]}}", "0/1 nodes are available: 1 node(s) had untolerated taint {k: v}.");
    one_node_refuses(NODE_OF("n1", "spec: {taints: [{key: k, value: v, effect: PreferNoSchedule}]}, "), NULL,
                     "{metadata: {name: a}, spec: {containers: [{name: c}]}}", NULL);
    one_node_refuses(plain, NULL, "{metadata: {name: a}, spec: {nodeSelector: {disk: ssd}, containers: [{name: c}]}}",
                     "0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector.");
    one_node_refuses(plain, "{metadata: {name: b, namespace: x}, spec: {nodeName: n1, containers: [{name: c, ports: [{containerPort: 80, hostPort: 80}]}]}}",
                     "{metadata: {name: a}, spec: {containers: [{name: c, ports: [{containerPort: 8080, hostPort: 80, hostIP: 10.0.0.1}]}]}}",
                     "0/1 nodes are available: 1 node(s) didn't have free ports for the requested pod ports.");
    one_node_refuses(plain, "{metadata: {name: b, namespace: x}, spec: {nodeName: n1, containers: [{name: c, ports: [{containerPort: 80, hostPort: 80, protocol: UDP}]}]}}",
                     "{metadata: {name: a}, spec: {containers: [{name: c, ports: [{containerPort: 8080, hostPort: 80}]}]}}", NULL);
    one_node_refuses(plain, NULL, "{metadata: {name: a}, spec: {containers: [{name: c, resources: {requests: {example.com/gpu: '2'}}}]}}",
                     "0/1 nodes are available: 1 Insufficient example.com/gpu.");
    one_node_refuses(plain, NULL, "{metadata: {name: a}, spec: {containers: [{name: c, resources: {requests: {ephemeral-storage: 11Gi}}}]}}",
                     "0/1 nodes are available: 1 Insufficient ephemeral-storage.");
}

static void each_lacking_resource_is_a_reason(void **state)
{
    (void)state;
    one_node_refuses(NODE_OF("n1", ""), NULL, "{metadata: {name: a}, spec: {containers: [{name: c, resources: {requests: {cpu: '3', memory: 5Gi}}}]}}",
                     "0/1 nodes are available: 1 Insufficient cpu, 1 Insufficient memory.");
}

static void a_node_is_full_at_its_pod_limit(void **state)
{
    (void)state;
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    struct sched_cache *cache = sched_cache_new();
    const char *message;
    add_node(cache, NODE_OF("n1", ""));
    add_pod(cache, "{metadata: {name: p1, namespace: x}, spec: {nodeName: n1, containers: [{name: c}]}}");
    add_pod(cache, "{metadata: {name: p2, namespace: x}, spec: {nodeName: n1, containers: [{name: c}]}}");
    assert_string_equal(decide(cache, arena, "{metadata: {name: a}, spec: {containers: [{name: c}]}}", NULL), "n1");
    add_pod(cache, "{metadata: {name: p3, namespace: x}, spec: {nodeName: n1, containers: [{name: c}]}}");
    assert_null(decide(cache, arena, "{metadata: {name: a}, spec: {containers: [{name: c}]}}", &message));
    assert_string_equal(message, "0/1 nodes are available: 1 Too many pods.");
    sched_cache_free(cache);
}

static void reasons_are_counted_over_nodes(void **state)
{
    (void)state;
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    struct sched_cache *cache = sched_cache_new();
    const char *message;
    assert_null(decide(cache, arena, "{metadata: {name: a}, spec: {containers: [{name: c}]}}", &message));
    assert_string_equal(message, "no nodes available to schedule pods");
    add_node(cache, NODE_OF("cp1", "spec: {taints: [{key: node-role.kubernetes.io/control-plane, effect: NoSchedule}]}, "));
    add_node(cache, NODE_OF("cp2", "spec: {taints: [{key: node-role.kubernetes.io/control-plane, effect: NoSchedule}]}, "));
    add_node(cache, NODE_OF("w1", ""));
    assert_null(decide(cache, arena, "{metadata: {name: a}, spec: {containers: [{name: c, resources: {requests: {cpu: '3'}}}]}}", &message));
    assert_string_equal(message, "0/3 nodes are available: 1 Insufficient cpu, "
                                 "2 node(s) had untolerated taint {node-role.kubernetes.io/control-plane: }.");
    sched_cache_free(cache);
}

static void requests_of_init_containers_and_sidecars_add_up_as_they_run(void **state)
{
    (void)state;
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    struct sched_pod pod;
    /* sidecar 100m runs beside init 500m and beside the containers' 300m: max(600m, 400m) + 10m overhead */
    sched_pod_init(&pod, test_object(&k8s_pod_type, arena,
        "{metadata: {name: a}, spec: {overhead: {cpu: 10m}, initContainers: ["
        "{name: early, resources: {requests: {cpu: 550m}}},"
        "{name: side, restartPolicy: Always, resources: {requests: {cpu: 100m, memory: 64Mi}}},"
        "{name: init, resources: {requests: {cpu: 500m}}}],"
        "containers: [{name: c, resources: {requests: {cpu: 200m, memory: 1Gi}}}, {name: d, resources: {requests: {cpu: 100m}}}]}}"), arena);
    assert_int_equal(pod.requests.milli_cpu, 610);
    assert_int_equal(pod.requests.memory, (1024 + 64) * 1048576LL);
    /* the container without a memory request counts 200 MB for scores; its CPU request stands */
    assert_int_equal(pod.nonzero.memory, (1024 + 200 + 64) * 1048576LL);
    sched_pod_init(&pod, test_object(&k8s_pod_type, arena,
        "{metadata: {name: a}, spec: {resources: {requests: {cpu: '1'}}, containers: [{name: c, resources: {requests: {cpu: 200m, memory: 1Gi}}}]}}"), arena);
    assert_int_equal(pod.requests.milli_cpu, 1000);
    assert_int_equal(pod.requests.memory, 1024 * 1048576LL);
    sched_pod_init(&pod, test_object(&k8s_pod_type, arena, "{metadata: {name: a}, spec: {containers: [{name: c}]}}"), arena);
    assert_int_equal(pod.requests.milli_cpu, 0);
    assert_int_equal(pod.nonzero.milli_cpu, 100);
    assert_int_equal(pod.nonzero.memory, 200 * 1048576LL);
}

static void the_emptier_the_preferred_and_the_untainted_node_wins(void **state)
{
    (void)state;
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    struct sched_cache *cache = sched_cache_new();
    add_node(cache, NODE_OF("n1", ""));
    add_node(cache, NODE_OF("n2", ""));
    add_pod(cache, "{metadata: {name: p1, namespace: x}, spec: {nodeName: n1, containers: [{name: c, resources: {requests: {cpu: '1', memory: 2Gi}}}]}}");
    assert_string_equal(decide(cache, arena, "{metadata: {name: a}, spec: {containers: [{name: c}]}}", NULL), "n2");
    assert_string_equal(decide(cache, arena, "{metadata: {name: a}, spec: {affinity: {nodeAffinity: {preferredDuringSchedulingIgnoredDuringExecution: "
        "[{weight: 100, preference: {matchExpressions: [{key: kubernetes.io/hostname, operator: In, values: [n1]}]}}]}}, containers: [{name: c}]}}", NULL), "n1");
    add_node(cache, NODE_OF("n2", "spec: {taints: [{key: k, effect: PreferNoSchedule}]}, "));
    assert_string_equal(decide(cache, arena, "{metadata: {name: a}, spec: {containers: [{name: c}]}}", NULL), "n1");
    sched_cache_free(cache);
}

static void pods_of_one_owner_spread(void **state)
{
    (void)state;
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    struct sched_cache *cache = sched_cache_new();
    const char *owner = "ownerReferences: [{apiVersion: apps/v1, kind: ReplicaSet, name: r, uid: u, controller: true}]";
    add_node(cache, NODE_OF("n1", ""));
    add_node(cache, NODE_OF("n2", ""));
    KP_AUTO_FREE char *first = kp_asprintf("{metadata: {name: p1, namespace: x, %s}, spec: {nodeName: n2, containers: [{name: c}]}}", owner);
    KP_AUTO_FREE char *second = kp_asprintf("{metadata: {name: p2, namespace: x, %s}, spec: {containers: [{name: c}]}}", owner);
    add_pod(cache, first);
    assert_string_equal(decide(cache, arena, second, NULL), "n1");
    sched_cache_free(cache);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_filter_says_why),
        cmocka_unit_test(each_lacking_resource_is_a_reason),
        cmocka_unit_test(a_node_is_full_at_its_pod_limit),
        cmocka_unit_test(reasons_are_counted_over_nodes),
        cmocka_unit_test(requests_of_init_containers_and_sidecars_add_up_as_they_run),
        cmocka_unit_test(the_emptier_the_preferred_and_the_untainted_node_wins),
        cmocka_unit_test(pods_of_one_owner_spread),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
