/* The scheduler's queue and cache. */
#include "controlplane/scheduler/scheduler.h"
#include "tests/support/objects.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

static struct client_object *pod_of(const char *name, int priority, const char *status)
{
    KP_AUTO_FREE char *yaml = kp_asprintf("{metadata: {name: %s, namespace: d, uid: u-%s}, spec: {priority: %d, containers: [{name: c, resources: "
                                          "{requests: {cpu: 100m, example.com/gpu: '1'}}}]}, status: {%s}}", name, name, priority, status);
    return test_client_object(&k8s_pod_type, yaml);
}

static void add(struct sched_queue *queue, const char *name, int priority, const char *status)
{
    KP_AUTO(client_object_unref) struct client_object *object = pod_of(name, priority, status);
    sched_queue_add(queue, object);
}

static struct client_object *pop(struct sched_queue *queue, const char *want, uint64_t *cycle)
{
    struct client_object *object = sched_queue_pop(queue, cycle);
    assert_string_equal(object->name, want);
    return object;
}

/* What is at hand now, "" when nothing is: shutdown makes an empty queue answer. */
static void assert_empty(struct sched_queue *queue)
{
    uint64_t cycle;
    add(queue, "probe", -1000, "");
    client_object_unref(pop(queue, "probe", &cycle));
    sched_queue_done(queue, "d", "probe");
}

static void higher_priority_then_older_comes_first(void **state)
{
    (void)state;
    struct sched_queue *queue = sched_queue_new();
    uint64_t cycle;
    add(queue, "low1", 0, "");
    add(queue, "low2", 0, "");
    add(queue, "high", 10, "");
    client_object_unref(pop(queue, "high", &cycle));
    client_object_unref(pop(queue, "low1", &cycle));
    client_object_unref(pop(queue, "low2", &cycle));
    sched_queue_shutdown(queue);
    assert_null(sched_queue_pop(queue, &cycle));
    sched_queue_free(queue);
}

static void an_unschedulable_pod_waits_for_an_event_and_its_backoff(void **state)
{
    (void)state;
    struct sched_queue *queue = sched_queue_new();
    uint64_t cycle;
    add(queue, "a", 0, "");
    struct client_object *a = pop(queue, "a", &cycle);
    sched_queue_unschedulable(queue, a, cycle);
    client_object_unref(a);
    assert_empty(queue);
    int64_t start_ms = kp_mono_ms();
    sched_queue_move_all(queue);
    assert_empty(queue); /* still in its one second of back-off */
    client_object_unref(pop(queue, "a", &cycle));
    assert_true(kp_mono_ms() - start_ms > 500);
    sched_queue_free(queue);
}

static void our_own_status_write_does_not_wake_a_pod(void **state)
{
    (void)state;
    struct sched_queue *queue = sched_queue_new();
    uint64_t cycle;
    add(queue, "a", 0, "");
    struct client_object *a = pop(queue, "a", &cycle);
    sched_queue_unschedulable(queue, a, cycle);
    client_object_unref(a);
    add(queue, "a", 0, "conditions: [{type: PodScheduled, status: 'False'}]");
    assert_empty(queue);
    add(queue, "a", 5, ""); /* the spec changed: that does */
    client_object_unref(pop(queue, "a", &cycle));
    sched_queue_free(queue);
}

static void an_event_during_the_attempt_is_not_lost(void **state)
{
    (void)state;
    struct sched_queue *queue = sched_queue_new();
    uint64_t cycle;
    add(queue, "a", 0, "");
    struct client_object *a = pop(queue, "a", &cycle);
    sched_queue_move_all(queue);
    sched_queue_unschedulable(queue, a, cycle); /* goes to back-off, not to wait for the next event */
    client_object_unref(a);
    client_object_unref(pop(queue, "a", &cycle));
    sched_queue_free(queue);
}

static void a_pod_deleted_in_flight_does_not_come_back(void **state)
{
    (void)state;
    struct sched_queue *queue = sched_queue_new();
    uint64_t cycle;
    add(queue, "a", 0, "");
    struct client_object *a = pop(queue, "a", &cycle);
    sched_queue_remove(queue, "d", "a");
    sched_queue_retry(queue, a);
    sched_queue_unschedulable(queue, a, cycle);
    sched_queue_move_all(queue);
    assert_empty(queue);
    client_object_unref(a);
    sched_queue_shutdown(queue);
    assert_null(sched_queue_pop(queue, &cycle));
    sched_queue_free(queue);
}

static void an_assumed_pod_counts_until_the_bound_one_replaces_it(void **state)
{
    (void)state;
    struct sched_cache *cache = sched_cache_new();
    KP_AUTO(client_object_unref) struct client_object *node =
        test_client_object(&k8s_node_type, "{metadata: {name: n1}, status: {allocatable: {cpu: '1', pods: '10'}}}");
    KP_AUTO(client_object_unref) struct client_object *pod = pod_of("a", 0, "");
    KP_AUTO(client_object_unref) struct client_object *bound =
        test_client_object(&k8s_pod_type, "{metadata: {name: a, namespace: d, uid: u-a}, spec: {nodeName: n2, containers: [{name: c, resources: {requests: {cpu: 200m}}}]}}");
    sched_cache_set_node(cache, node);
    struct sched_node *n1 = sched_cache_cluster(cache).nodes[0];
    sched_cache_assume(cache, pod, "n1");
    assert_int_equal(n1->n_pods, 1);
    assert_int_equal(n1->requested.milli_cpu, 100);
    assert_int_equal(n1->requested.extended[0].value, 1);
    sched_cache_set_pod(cache, bound); /* bound elsewhere by somebody else, on a node not known yet */
    assert_int_equal(n1->n_pods, 0);
    assert_int_equal(n1->requested.milli_cpu, 0);
    assert_int_equal(n1->requested.n_extended, 0);
    assert_int_equal(sched_cache_cluster(cache).n, 1);
    KP_AUTO(client_object_unref) struct client_object *late = test_client_object(&k8s_node_type, "{metadata: {name: n2}, status: {allocatable: {cpu: '1'}}}");
    sched_cache_set_node(cache, late);
    assert_int_equal(sched_cache_cluster(cache).nodes[1]->requested.milli_cpu, 200);
    sched_cache_remove_node(cache, "n2"); /* its pod is known still */
    assert_int_equal(sched_cache_cluster(cache).n, 1);
    sched_cache_set_node(cache, late);
    assert_int_equal(sched_cache_cluster(cache).nodes[1]->n_pods, 1);
    sched_cache_remove_pod(cache, "d", "a");
    sched_cache_remove_node(cache, "n2");
    sched_cache_remove_pod(cache, "d", "a"); /* twice is fine */
    assert_int_equal(sched_cache_cluster(cache).n, 1);
    sched_cache_free(cache);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(higher_priority_then_older_comes_first),
        cmocka_unit_test(an_unschedulable_pod_waits_for_an_event_and_its_backoff),
        cmocka_unit_test(our_own_status_write_does_not_wake_a_pod),
        cmocka_unit_test(an_event_during_the_attempt_is_not_lost),
        cmocka_unit_test(a_pod_deleted_in_flight_does_not_come_back),
        cmocka_unit_test(an_assumed_pod_counts_until_the_bound_one_replaces_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
