/* The binding cycle against a small API server: a pod is bound after its volumes, and is looked at again when they fail. */
#include "controlplane/scheduler/volumes_internal.h"
#include "lib/loop/loop.h"
#include "tests/support/fake_api.h"
#include "tests/support/objects.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#define CLAIMS "/api/v1/namespaces/x/persistentvolumeclaims"
#define POD "{metadata: {name: a, namespace: x, uid: u}, spec: {containers: [{name: c}], volumes: [{name: v, persistentVolumeClaim: {claimName: c}}]}}"
#define WAIT_MS 20000 /* a fault, not a measure */

struct fixture {
    struct loop *loop;
    struct fake_api *api;
    struct client *client;
    struct client_recorder *recorder;
    struct client_informer *pods;
    struct sched_cache *cache;
    struct sched_queue *queue;
    struct sched_binder *binder;
    struct client_object *pod;
    uint64_t cycle;
};

static void claim(struct fixture *f, const char *yaml)
{
    KP_AUTO(client_object_unref) struct client_object *object = test_client_object(&k8s_persistent_volume_claim_type, yaml);
    sched_cache_lock(f->cache);
    sched_storage_set(sched_cache_storage(f->cache), SCHED_CLAIMS, object);
    sched_cache_unlock(f->cache);
    sched_binder_wake(f->binder);
}

/* The scheduler has the pod in hand and knows a node and a class whose volumes are made when they are needed. */
static int set_up(void **state)
{
    struct fixture *f = kp_calloc(1, sizeof(*f));
    struct kp_error error = {0};
    static const char *const labels[] = {"result", NULL};
    f->loop = loop_new();
    assert_int_equal(loop_start(f->loop, "test", &error), 0);
    f->api = fake_api_new(f->loop);
    struct client_config config = {.servers = {fake_api_url(f->api)}, .n_servers = 1, .timeout_ms = 5000};
    assert_int_equal(client_new(f->loop, &config, &f->client, &error), 0);
    f->recorder = client_recorder_new(f->client, "test", NULL);
    f->pods = client_informer_new(f->client, &k8s_pods_resource, NULL, NULL, NULL);
    f->cache = sched_cache_new();
    f->queue = sched_queue_new();
    const struct sched_binder_config binder = {f->client, f->recorder, f->pods, f->cache, f->queue, kp_counter("test_attempts_total", "Attempts.", labels)};
    assert_int_equal(sched_binder_new(&binder, &f->binder, &error), 0);
    f->pod = test_client_object(&k8s_pod_type, POD);
    client_informer_inject(f->pods, f->pod->data);
    sched_queue_add(f->queue, f->pod);
    client_object_unref(sched_queue_pop(f->queue, &f->cycle));
    KP_AUTO(client_object_unref) struct client_object *node = test_client_object(&k8s_node_type, "{metadata: {name: n1}, status: {allocatable: {pods: '9'}}}");
    sched_cache_set_node(f->cache, node);
    KP_AUTO(client_object_unref) struct client_object *class = test_client_object(&k8s_storage_class_type, "{metadata: {name: late}, provisioner: p, volumeBindingMode: WaitForFirstConsumer}");
    sched_storage_set(sched_cache_storage(f->cache), SCHED_CLASSES, class);
    claim(f, "{metadata: {name: c, namespace: x, uid: c, resourceVersion: '1'}, spec: {storageClassName: late}}");
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    sched_binder_free(f->binder);
    client_object_unref(f->pod);
    client_informer_free(f->pods);
    client_recorder_free(f->recorder);
    sched_queue_free(f->queue);
    sched_cache_free(f->cache);
    client_free(f->client);
    fake_api_free(f->api);
    loop_stop(f->loop);
    loop_join(f->loop);
    loop_free(f->loop);
    free(f);
    return 0;
}

/* As the scheduler does once it has decided. */
static void bind(struct fixture *f)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    struct sched_volume_plan plan;
    struct sched_pod pod;
    sched_pod_init(&pod, f->pod->data, arena);
    sched_cache_lock(f->cache);
    const struct sched_cluster cluster = sched_cache_cluster(f->cache);
    sched_volume_plan_make(&pod, &cluster, "n1", arena, &plan);
    sched_storage_promise(sched_cache_storage(f->cache), f->pod->uid, &plan);
    sched_cache_assume(f->cache, f->pod, "n1");
    sched_cache_unlock(f->cache);
    sched_binder_bind(f->binder, f->pod, "n1", &plan);
}

static bool is_bound(struct fixture *f)
{
    KP_AUTO_FREE char *binding = fake_api_get(f->api, "/api/v1/namespaces/x/pods/a/binding", "a");
    return binding != NULL;
}

static bool is_let_go(struct fixture *f)
{
    sched_cache_lock(f->cache);
    const struct client_object *object = sched_storage_get(sched_cache_storage(f->cache), SCHED_CLAIMS, "x", "c");
    bool gone = !sched_cache_is_assumed(f->cache, f->pod) && !sched_storage_promised_claim(sched_cache_storage(f->cache), object);
    sched_cache_unlock(f->cache);
    return gone;
}

static void await(struct fixture *f, bool (*what)(struct fixture *))
{
    int64_t end_ms = kp_mono_ms() + WAIT_MS;
    while (!what(f))
        if (kp_mono_ms() > end_ms)
            fail_msg("nothing came of it");
        else
            kp_sleep_ms(5);
}

static void is_tried_again(struct fixture *f)
{
    await(f, is_let_go);
    KP_AUTO(client_object_unref) struct client_object *again = sched_queue_pop(f->queue, &f->cycle); /* after its back-off */
    assert_string_equal(again->name, "a");
    assert_false(is_bound(f));
}

static void a_pod_is_bound_once_its_volumes_are(void **state)
{
    struct fixture *f = *state;
    fake_api_put(f->api, CLAIMS, "{\"metadata\":{\"name\":\"c\",\"namespace\":\"x\",\"uid\":\"c\"},\"spec\":{}}", true);
    bind(f);
    claim(f, "{metadata: {name: c, namespace: x, uid: c, resourceVersion: '800000', annotations: {volume.kubernetes.io/selected-node: n1}}, spec: {storageClassName: late}}");
    assert_false(is_bound(f));
    KP_AUTO(client_object_unref) struct client_object *volume = test_client_object(&k8s_persistent_volume_type, "{metadata: {name: v}, spec: {}}");
    sched_cache_lock(f->cache);
    sched_storage_set(sched_cache_storage(f->cache), SCHED_VOLUMES, volume);
    sched_cache_unlock(f->cache);
    assert_false(is_bound(f));
    claim(f, "{metadata: {name: c, namespace: x, uid: c, resourceVersion: '900000', annotations: {volume.kubernetes.io/selected-node: n1, "
             "pv.kubernetes.io/bind-completed: 'yes'}}, spec: {storageClassName: late, volumeName: v}}");
    await(f, is_bound);
    sched_cache_lock(f->cache);
    assert_true(sched_cache_is_assumed(f->cache, f->pod)); /* until it is shown bound */
    sched_cache_unlock(f->cache);
}

static void a_write_that_fails_is_made_again_later(void **state)
{
    struct fixture *f = *state;
    fake_api_put(f->api, CLAIMS, "{\"metadata\":{\"name\":\"c\",\"namespace\":\"x\",\"uid\":\"c\"},\"spec\":{}}", true);
    fake_api_fail(f->api, "PATCH", 1, 409, "{\"kind\":\"Status\",\"reason\":\"Conflict\",\"message\":\"it was modified\",\"code\":409}");
    bind(f);
    is_tried_again(f);
}

static void a_provisioner_that_gives_up_sends_the_pod_back(void **state)
{
    struct fixture *f = *state;
    fake_api_put(f->api, CLAIMS, "{\"metadata\":{\"name\":\"c\",\"namespace\":\"x\",\"uid\":\"c\"},\"spec\":{}}", true);
    bind(f);
    claim(f, "{metadata: {name: c, namespace: x, uid: c, resourceVersion: '900000'}, spec: {storageClassName: late}}");
    is_tried_again(f);
}

static void a_pod_that_goes_is_not_waited_for(void **state)
{
    struct fixture *f = *state;
    fake_api_put(f->api, CLAIMS, "{\"metadata\":{\"name\":\"c\",\"namespace\":\"x\",\"uid\":\"c\"},\"spec\":{}}", true);
    bind(f);
    client_informer_inject_delete(f->pods, "x", "a");
    sched_binder_wake(f->binder);
    await(f, is_let_go);
    assert_false(is_bound(f));
}

static void another_pod_of_its_name_keeps_its_place(void **state)
{
    struct fixture *f = *state;
    uint64_t cycle;
    fake_api_put(f->api, CLAIMS, "{\"metadata\":{\"name\":\"c\",\"namespace\":\"x\",\"uid\":\"c\"},\"spec\":{}}", true);
    bind(f);
    KP_AUTO(client_object_unref) struct client_object *second =
        test_client_object(&k8s_pod_type, "{metadata: {name: a, namespace: x, uid: second}, spec: {containers: [{name: c, image: i}]}}");
    client_informer_inject(f->pods, second->data);
    sched_queue_add(f->queue, second);
    sched_binder_wake(f->binder);
    await(f, is_let_go);
    sched_binder_free(KP_TAKE(f->binder)); /* whatever it does of the first has been done */
    KP_AUTO(client_object_unref) struct client_object *next = sched_queue_pop(f->queue, &cycle);
    assert_string_equal(next->uid, "second");
    sched_queue_retry(f->queue, f->pod); /* the first's failure is none of the second's */
    sched_queue_retry(f->queue, next);
}

static void a_pod_without_claims_to_bind_is_bound_at_once(void **state)
{
    struct fixture *f = *state;
    struct sched_volume_plan none = {0};
    sched_cache_assume(f->cache, f->pod, "n1");
    sched_binder_bind(f->binder, f->pod, "n1", &none);
    await(f, is_bound);
}

static void a_scheduler_that_ends_leaves_those_that_wait(void **state)
{
    struct fixture *f = *state;
    fake_api_put(f->api, CLAIMS, "{\"metadata\":{\"name\":\"c\",\"namespace\":\"x\",\"uid\":\"c\"},\"spec\":{}}", true);
    bind(f); /* tear_down frees it */
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_pod_is_bound_once_its_volumes_are),
        TEST(a_write_that_fails_is_made_again_later),
        TEST(a_provisioner_that_gives_up_sends_the_pod_back),
        TEST(a_pod_that_goes_is_not_waited_for),
        TEST(another_pod_of_its_name_keeps_its_place),
        TEST(a_pod_without_claims_to_bind_is_bound_at_once),
        TEST(a_scheduler_that_ends_leaves_those_that_wait),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
