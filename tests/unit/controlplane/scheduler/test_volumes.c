/* Claims in a decision: what is said when they do not fit, which volumes are given, what is promised meanwhile, and when a pod may be bound. */
#include "controlplane/scheduler/volumes_internal.h"
#include "tests/support/objects.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#define NODE(name, labels) "{metadata: {name: " name ", labels: {kubernetes.io/hostname: " name labels "}}, " \
                           "status: {allocatable: {cpu: '2', memory: 4Gi, pods: '10'}}}"
#define POD(name, volumes) "{metadata: {name: " name ", namespace: x, uid: u-" name "}, spec: {containers: [{name: c}], volumes: [" volumes "]}}"
#define USES(claim) "{name: " claim ", persistentVolumeClaim: {claimName: " claim "}}"
#define CLAIM(name, spec, rest) "{metadata: {name: " name ", namespace: x, uid: c-" name rest "}, spec: {accessModes: [ReadWriteOnce], " spec \
                                ", resources: {requests: {storage: 1Gi}}}}"
#define DONE ", annotations: {pv.kubernetes.io/bind-completed: 'yes'}"
#define VOLUME(name, size, node) "{metadata: {name: " name "}, spec: {capacity: {storage: " size "}, accessModes: [ReadWriteOnce], storageClassName: late, " \
                                 "nodeAffinity: {required: {nodeSelectorTerms: [{matchExpressions: [{key: kubernetes.io/hostname, operator: In, values: [" node \
                                 "]}]}]}}}, status: {phase: Available}}"
#define LATE(name, provisioner, rest) "{metadata: {name: " name "}, provisioner: " provisioner ", volumeBindingMode: WaitForFirstConsumer" rest "}"

struct fixture {
    struct sched_cache *cache;
    struct kp_arena *arena;
    const char *message;
};

static int set_up(void **state)
{
    struct fixture *f = kp_calloc(1, sizeof(*f));
    *f = (struct fixture){.cache = sched_cache_new(), .arena = kp_arena_new(0)};
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    sched_cache_free(f->cache);
    kp_arena_free(f->arena);
    free(f);
    return 0;
}

static void node(struct fixture *f, const char *yaml)
{
    KP_AUTO(client_object_unref) struct client_object *object = test_client_object(&k8s_node_type, yaml);
    sched_cache_set_node(f->cache, object);
}

static void set(struct fixture *f, enum sched_storage_kind kind, const char *yaml)
{
    static const struct kp_type *const types[] = {
        [SCHED_CLAIMS] = &k8s_persistent_volume_claim_type, [SCHED_VOLUMES] = &k8s_persistent_volume_type, [SCHED_CLASSES] = &k8s_storage_class_type,
        [SCHED_CSI_NODES] = &k8s_csi_node_type, [SCHED_CSI_DRIVERS] = &k8s_csi_driver_type, [SCHED_CAPACITIES] = &k8s_csi_storage_capacity_type, [SCHED_ATTACHMENTS] = &k8s_volume_attachment_type,
    };
    KP_AUTO(client_object_unref) struct client_object *object = test_client_object(types[kind], yaml);
    sched_storage_set(sched_cache_storage(f->cache), kind, object);
}

static const char *decide(struct fixture *f, const char *yaml)
{
    struct sched_pod pod;
    struct sched_decision decision;
    const struct sched_cluster cluster = sched_cache_cluster(f->cache);
    sched_pod_init(&pod, test_object(&k8s_pod_type, f->arena, yaml), f->arena);
    sched_decide(&pod, &cluster, 0, f->arena, &decision);
    f->message = decision.message;
    return decision.node;
}

static void refused(struct fixture *f, const char *yaml, const char *want)
{
    assert_null(decide(f, yaml));
    assert_string_equal(f->message, want);
}

/* Decides, promises and assumes, as the scheduler does; the plan as text. */
static const char *plan(struct fixture *f, const char *yaml, struct sched_volume_plan *ret)
{
    KP_AUTO_BUF struct kp_buf out = {0};
    KP_AUTO(client_object_unref) struct client_object *object = test_client_object(&k8s_pod_type, yaml);
    struct sched_volume_plan made;
    struct sched_pod pod;
    const struct sched_cluster cluster = sched_cache_cluster(f->cache);
    const char *chosen = decide(f, yaml);
    if (!chosen)
        return f->message;
    sched_pod_init(&pod, object->data, f->arena);
    sched_volume_plan_make(&pod, &cluster, chosen, f->arena, &made);
    KP_AUTO_FREE char *key = kp_asprintf("%s/%s", object->ns, object->name);
    sched_storage_promise(sched_cache_storage(f->cache), key, &made);
    kp_buf_puts(&out, chosen);
    for (size_t i = 0; i < made.len; i++)
        kp_buf_printf(&out, " %s=%s", made.items[i].claim->name, made.items[i].volume ? made.items[i].volume->name : "new");
    sched_cache_assume(f->cache, object, chosen);
    if (ret)
        *ret = made;
    else
        sched_volume_plan_done(&made);
    return kp_arena_strdup(f->arena, out.data);
}

static void a_claim_that_cannot_be_used_refuses_all_nodes(void **state)
{
    struct fixture *f = *state;
    node(f, NODE("n1", ""));
    node(f, NODE("n2", ""));
    refused(f, POD("a", USES("c")), "0/2 nodes are available: persistentvolumeclaim \"c\" not found.");
    refused(f, POD("a", "{name: v, ephemeral: {volumeClaimTemplate: {spec: {}}}}"),
            "0/2 nodes are available: waiting for ephemeral volume controller to create the persistentvolumeclaim \"a-v\".");
    set(f, SCHED_CLAIMS, CLAIM("c", "storageClassName: slow", ""));
    refused(f, POD("a", USES("c")), "0/2 nodes are available: pod has unbound immediate PersistentVolumeClaims.");
    set(f, SCHED_CLAIMS, CLAIM("c", "volumeName: v", ", deletionTimestamp: '2026-01-01T00:00:00Z'"));
    refused(f, POD("a", USES("c")), "0/2 nodes are available: persistentvolumeclaim \"c\" is being deleted.");
    set(f, SCHED_CLAIMS, "{metadata: {name: c, namespace: x}, spec: {volumeName: gone}, status: {phase: Lost}}");
    refused(f, POD("a", USES("c")), "0/2 nodes are available: persistentvolumeclaim \"c\" bound to non-existent persistentvolume \"gone\".");
    set(f, SCHED_CLAIMS, CLAIM("a-v", "volumeName: v", DONE));
    refused(f, POD("a", "{name: v, ephemeral: {volumeClaimTemplate: {spec: {}}}}"),
            "0/2 nodes are available: PVC x/a-v was not created for pod x/a (pod is not owner).");
}

static void a_bound_volume_says_where(void **state)
{
    struct fixture *f = *state;
    node(f, NODE("n1", ""));
    node(f, NODE("n2", ""));
    set(f, SCHED_CLAIMS, CLAIM("c", "volumeName: v", DONE));
    refused(f, POD("a", USES("c")), "0/2 nodes are available: 2 node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s).");
    set(f, SCHED_VOLUMES, VOLUME("v", "1Gi", "n2"));
    assert_string_equal(plan(f, POD("a", USES("c")), NULL), "n2");
    set(f, SCHED_VOLUMES, VOLUME("v", "1Gi", "n3"));
    refused(f, POD("b", USES("c")), "0/2 nodes are available: 2 node(s) didn't match PersistentVolume's node affinity.");
}

static void the_smallest_volume_is_given_and_promised(void **state)
{
    struct fixture *f = *state;
    node(f, NODE("n1", ""));
    node(f, NODE("n2", ""));
    set(f, SCHED_CLASSES, LATE("late", "kubernetes.io/no-provisioner", ""));
    set(f, SCHED_CLAIMS, CLAIM("c", "storageClassName: late", ""));
    set(f, SCHED_CLAIMS, CLAIM("d", "storageClassName: late", ""));
    set(f, SCHED_CLAIMS, CLAIM("e", "storageClassName: late", ""));
    refused(f, POD("a", USES("c")), "0/2 nodes are available: 2 node(s) didn't find available persistent volumes to bind.");
    set(f, SCHED_VOLUMES, VOLUME("big", "5Gi", "n1"));
    set(f, SCHED_VOLUMES, VOLUME("small", "2Gi", "n1"));
    assert_string_equal(plan(f, POD("a", USES("c")), NULL), "n1 c=small");
    assert_string_equal(plan(f, POD("b", USES("d")), NULL), "n1 d=big"); /* the other is promised */
    assert_string_equal(plan(f, POD("c", USES("e")), NULL), "0/2 nodes are available: 2 node(s) didn't find available persistent volumes to bind.");
    assert_string_equal(plan(f, POD("d", USES("c")), NULL), "n1 c=small"); /* the same claim for another pod */
    sched_storage_keep(sched_cache_storage(f->cache), "x/b");
    assert_string_equal(plan(f, POD("c", USES("e")), NULL), "n1 e=big");
}

static void two_claims_of_a_pod_get_two_volumes(void **state)
{
    struct fixture *f = *state;
    node(f, NODE("n1", ""));
    set(f, SCHED_CLASSES, LATE("late", "kubernetes.io/no-provisioner", ""));
    set(f, SCHED_CLAIMS, CLAIM("c", "storageClassName: late", ""));
    set(f, SCHED_CLAIMS, CLAIM("d", "storageClassName: late", ""));
    set(f, SCHED_VOLUMES, VOLUME("one", "2Gi", "n1"));
    refused(f, POD("a", USES("c") ", " USES("d")), "0/1 nodes are available: 1 node(s) didn't find available persistent volumes to bind.");
    set(f, SCHED_VOLUMES, VOLUME("two", "3Gi", "n1"));
    assert_string_equal(plan(f, POD("a", USES("c") ", " USES("d")), NULL), "n1 c=one d=two");
}

static void what_is_not_there_is_made(void **state)
{
    struct fixture *f = *state;
    node(f, NODE("n1", ", topology.kubernetes.io/zone: z1"));
    node(f, NODE("n2", ", topology.kubernetes.io/zone: z2"));
    set(f, SCHED_CLASSES, LATE("late", "example.com/p", ", allowedTopologies: [{matchLabelExpressions: [{key: topology.kubernetes.io/zone, values: [z2]}]}]"));
    set(f, SCHED_CLAIMS, CLAIM("c", "storageClassName: late", ""));
    assert_string_equal(plan(f, POD("a", USES("c")), NULL), "n2 c=new");
    /* While it is being made its other pods go there, too, and nowhere else. */
    set(f, SCHED_CLASSES, LATE("late", "example.com/p", ""));
    set(f, SCHED_CLAIMS, CLAIM("s", "storageClassName: late", ", annotations: {volume.kubernetes.io/selected-node: n1}"));
    assert_string_equal(plan(f, POD("b", USES("c")), NULL), "n2 c=new");
    assert_string_equal(plan(f, POD("c", USES("s")), NULL), "n1 s=new");
    refused(f, POD("d", USES("c") ", " USES("s")), "0/2 nodes are available: 2 node(s) didn't find available persistent volumes to bind.");
}

static void room_is_asked_for_where_the_driver_tells_it(void **state)
{
    struct fixture *f = *state;
    node(f, NODE("n1", ", zone: a"));
    node(f, NODE("n2", ", zone: b"));
    set(f, SCHED_CLASSES, LATE("late", "example.com", ""));
    set(f, SCHED_CLAIMS, CLAIM("c", "storageClassName: late", ""));
    set(f, SCHED_CSI_DRIVERS, "{metadata: {name: example.com}, spec: {storageCapacity: true}}");
    refused(f, POD("a", USES("c")), "0/2 nodes are available: 2 node(s) did not have enough free storage.");
    set(f, SCHED_CAPACITIES, "{metadata: {name: a, namespace: k}, storageClassName: late, nodeTopology: {matchLabels: {zone: a}}, capacity: 9Gi, maximumVolumeSize: 1Mi}");
    set(f, SCHED_CAPACITIES, "{metadata: {name: b, namespace: k}, storageClassName: late, nodeTopology: {matchLabels: {zone: b}}, capacity: 1Gi}");
    assert_string_equal(plan(f, POD("a", USES("c")), NULL), "n2 c=new");
}

static void zones_of_a_volume_are_those_of_its_nodes(void **state)
{
    struct fixture *f = *state;
    node(f, NODE("n1", ", topology.kubernetes.io/zone: z1"));
    set(f, SCHED_CLAIMS, CLAIM("c", "volumeName: v", DONE));
    set(f, SCHED_VOLUMES, "{metadata: {name: v, labels: {topology.kubernetes.io/zone: z2__z3}}, spec: {capacity: {storage: 1Gi}}}");
    refused(f, POD("a", USES("c")), "0/1 nodes are available: 1 node(s) had no available volume zone.");
    node(f, NODE("n3", ", topology.kubernetes.io/zone: z3"));
    assert_string_equal(decide(f, POD("a", USES("c"))), "n3");
    set(f, SCHED_VOLUMES, "{metadata: {name: v, labels: {failure-domain.beta.kubernetes.io/zone: z1}}, spec: {capacity: {storage: 1Gi}}}");
    assert_string_equal(decide(f, POD("a", USES("c"))), "n1");
}

static void a_claim_of_one_pod_is_not_shared(void **state)
{
    struct fixture *f = *state;
    node(f, NODE("n1", ""));
    set(f, SCHED_CLAIMS, "{metadata: {name: c, namespace: x" DONE "}, spec: {accessModes: [ReadWriteOncePod], volumeName: v}}");
    set(f, SCHED_VOLUMES, VOLUME("v", "1Gi", "n1"));
    assert_string_equal(plan(f, POD("a", USES("c")), NULL), "n1");
    refused(f, POD("b", USES("c")),
            "0/1 nodes are available: 1 node has pod using PersistentVolumeClaim with the same name and ReadWriteOncePod access mode.");
    assert_string_equal(decide(f, "{metadata: {name: o, namespace: x}, spec: {containers: [{name: c}]}}"), "n1");
}

static void a_more_important_pod_takes_a_claim_of_one_pod(void **state)
{
    struct fixture *f = *state;
    struct sched_pod pod;
    struct sched_decision decision;
    struct sched_preemption preemption;
    node(f, NODE("n1", ""));
    set(f, SCHED_CLAIMS, "{metadata: {name: c, namespace: x" DONE "}, spec: {accessModes: [ReadWriteOncePod], volumeName: v}}");
    set(f, SCHED_VOLUMES, VOLUME("v", "1Gi", "n1"));
    assert_string_equal(plan(f, POD("low", USES("c")), NULL), "n1");
    const struct sched_cluster cluster = sched_cache_cluster(f->cache);
    sched_pod_init(&pod, test_object(&k8s_pod_type, f->arena, "{metadata: {name: high, namespace: x, uid: h}, spec: {priority: 9, containers: [{name: c}], volumes: [" USES("c") "]}}"),
                   f->arena);
    sched_decide(&pod, &cluster, 0, f->arena, &decision);
    assert_null(decision.node);
    sched_preempt(&pod, &cluster, &decision, NULL, 0, 0, f->arena, &preemption);
    assert_non_null(preemption.node);
    assert_int_equal(preemption.n_victims, 1);
    assert_string_equal(preemption.victims[0]->key, "x/low");
}

static void drivers_have_limits_on_a_node(void **state)
{
    struct fixture *f = *state;
    node(f, NODE("n1", ""));
    set(f, SCHED_CSI_NODES, "{metadata: {name: n1}, spec: {drivers: [{name: d.io, nodeID: n1, allocatable: {count: 1}}, {name: other, nodeID: n1}]}}");
    for (int i = 1; i <= 2; i++) {
        set(f, SCHED_CLAIMS, kp_arena_printf(f->arena, "{metadata: {name: c%d, namespace: x" DONE "}, spec: {volumeName: v%d}}", i, i));
        set(f, SCHED_VOLUMES, kp_arena_printf(f->arena, "{metadata: {name: v%d}, spec: {csi: {driver: d.io, volumeHandle: h%d}}}", i, i));
    }
    assert_string_equal(plan(f, POD("a", USES("c1")), NULL), "n1");
    assert_string_equal(plan(f, POD("b", USES("c1")), NULL), "n1"); /* the same volume again */
    refused(f, POD("c", USES("c2")), "0/1 nodes are available: 1 node(s) exceed max volume count.");
    set(f, SCHED_CLASSES, LATE("late", "d.io", ""));
    set(f, SCHED_CLAIMS, CLAIM("c3", "storageClassName: late", ""));
    refused(f, POD("d", USES("c3")), "0/1 nodes are available: 1 node(s) exceed max volume count.");
}

static void what_is_still_attached_takes_room(void **state)
{
    struct fixture *f = *state;
    node(f, NODE("n1", ""));
    node(f, NODE("n2", ""));
    for (int i = 1; i <= 2; i++) {
        set(f, SCHED_CSI_NODES, kp_arena_printf(f->arena, "{metadata: {name: n%d}, spec: {drivers: [{name: d.io, nodeID: w, allocatable: {count: 1}}]}}", i));
        set(f, SCHED_CLAIMS, kp_arena_printf(f->arena, "{metadata: {name: c%d, namespace: x" DONE "}, spec: {volumeName: v%d}}", i, i));
        set(f, SCHED_VOLUMES, kp_arena_printf(f->arena, "{metadata: {name: v%d}, spec: {csi: {driver: d.io, volumeHandle: h%d}}}", i, i));
    }
#define ATTACHED(name, node) "{metadata: {name: " name "}, spec: {attacher: d.io, nodeName: " node ", source: {persistentVolumeName: v1}}}"
    set(f, SCHED_ATTACHMENTS, ATTACHED("a", "n1"));
    assert_string_equal(decide(f, POD("a", USES("c2"))), "n2");
    set(f, SCHED_ATTACHMENTS, ATTACHED("b", "n2"));
    set(f, SCHED_ATTACHMENTS, ATTACHED("c", "n0"));
    refused(f, POD("a", USES("c2")), "0/2 nodes are available: 2 node(s) exceed max volume count.");
    assert_non_null(decide(f, POD("a", USES("c1")))); /* it is there already */
}

/* ---- binding ------------------------------------------------------------------------------------------------------------ */
static int state_of(struct fixture *f, const struct sched_volume_plan *made, struct kp_error *error)
{
    const struct sched_cluster cluster = sched_cache_cluster(f->cache);
    return sched_volume_plan_state(made, &cluster, error);
}

static void a_pod_waits_until_its_volumes_are_bound(void **state)
{
    struct fixture *f = *state;
    struct sched_volume_plan made;
    struct kp_error error = {0};
    node(f, NODE("n1", ""));
    set(f, SCHED_CLASSES, LATE("late", "example.com/p", ""));
    set(f, SCHED_CLAIMS, CLAIM("c", "storageClassName: late", ", resourceVersion: '5'"));
    assert_string_equal(plan(f, POD("a", USES("c")), &made), "n1 c=new");
    made.items[0].version = 7;
    assert_int_equal(state_of(f, &made, &error), 0); /* our write is not seen yet */
    set(f, SCHED_CLAIMS, CLAIM("c", "storageClassName: late", ", resourceVersion: '7', annotations: {volume.kubernetes.io/selected-node: n1}"));
    assert_int_equal(state_of(f, &made, &error), 0);
    set(f, SCHED_CLAIMS, CLAIM("c", "storageClassName: late, volumeName: v",
                               ", resourceVersion: '9', annotations: {volume.kubernetes.io/selected-node: n1, pv.kubernetes.io/bind-completed: 'yes'}"));
    assert_int_equal(state_of(f, &made, &error), 0); /* the volume is not seen yet */
    set(f, SCHED_VOLUMES, VOLUME("v", "1Gi", "n1"));
    assert_int_equal(state_of(f, &made, &error), 1);
    set(f, SCHED_VOLUMES, VOLUME("v", "1Gi", "n2"));
    assert_true(state_of(f, &made, &error) < 0);
    assert_string_equal(error.message, "pv \"v\" node affinity doesn't match node \"n1\": no matching NodeSelectorTerms");
    set(f, SCHED_CLAIMS, CLAIM("c", "storageClassName: late", ", resourceVersion: '10'"));
    error = (struct kp_error){0};
    assert_true(state_of(f, &made, &error) < 0);
    assert_string_equal(error.message, "provisioning failed for PVC \"c\"");
    sched_storage_remove(sched_cache_storage(f->cache), SCHED_CLAIMS, "x", "c");
    error = (struct kp_error){0};
    assert_true(state_of(f, &made, &error) < 0);
    sched_volume_plan_done(&made);
}

static void a_volume_that_was_given_away_ends_the_wait(void **state)
{
    struct fixture *f = *state;
    struct sched_volume_plan made;
    struct kp_error error = {0};
    node(f, NODE("n1", ""));
    set(f, SCHED_CLASSES, LATE("late", "kubernetes.io/no-provisioner", ""));
    set(f, SCHED_CLAIMS, CLAIM("c", "storageClassName: late", ""));
    set(f, SCHED_VOLUMES, VOLUME("v", "1Gi", "n1"));
    assert_string_equal(plan(f, POD("a", USES("c")), &made), "n1 c=v");
    assert_true(state_of(f, &made, &error) < 0);
    assert_string_equal(error.message, "ClaimRef got reset for pv \"v\"");
    set(f, SCHED_VOLUMES, "{metadata: {name: v}, spec: {claimRef: {namespace: x, name: c, uid: c-c}, capacity: {storage: 1Gi}}}");
    assert_int_equal(state_of(f, &made, &error), 0);
    set(f, SCHED_CLAIMS, CLAIM("c", "storageClassName: late, volumeName: v", DONE));
    assert_int_equal(state_of(f, &made, &error), 1);
    sched_cache_remove_node(f->cache, "n1");
    error = (struct kp_error){0};
    assert_true(state_of(f, &made, &error) < 0);
    sched_volume_plan_done(&made);
}

static void a_pod_that_is_being_bound_is_known(void **state)
{
    struct fixture *f = *state;
    KP_AUTO(client_object_unref) struct client_object *pod = test_client_object(&k8s_pod_type, POD("a", ""));
    KP_AUTO(client_object_unref) struct client_object *other = test_client_object(&k8s_pod_type, "{metadata: {name: a, namespace: x, uid: new}, spec: {containers: [{name: c}]}}");
    node(f, NODE("n1", ""));
    assert_false(sched_cache_is_assumed(f->cache, pod));
    sched_cache_assume(f->cache, pod, "n1");
    assert_true(sched_cache_is_assumed(f->cache, pod));
    assert_false(sched_cache_is_assumed(f->cache, other));
}

static struct client_object *pop(struct sched_queue *queue, uint64_t *cycle)
{
    return sched_queue_pop(queue, cycle);
}

/* Back-off is a second; what came while a pod was looked at is seen by where it waits: it goes to back-off, not to those that cannot be placed. */
static void claims_wake_their_pods_alone(void **state)
{
    (void)state;
    struct sched_queue *queue = sched_queue_new();
    KP_AUTO(client_object_unref) struct client_object *with = test_client_object(&k8s_pod_type, POD("with", USES("c")));
    KP_AUTO(client_object_unref) struct client_object *got = NULL;
    uint64_t cycle;
    assert_true(sched_uses_claim(with->data, "x", "c"));
    assert_false(sched_uses_claim(with->data, "y", "c"));
    assert_false(sched_uses_claim(with->data, "x", "d"));
    sched_queue_add(queue, with);
    got = pop(queue, &cycle);
    assert_ptr_equal(got, with);
    sched_queue_unschedulable(queue, with, cycle);
    sched_queue_move_claiming(queue, "x", "d");
    sched_queue_move_claiming(queue, "x", "c");
    KP_AUTO(client_object_unref) struct client_object *again = pop(queue, &cycle);
    assert_ptr_equal(again, with);
    sched_queue_free(queue);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_claim_that_cannot_be_used_refuses_all_nodes, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_bound_volume_says_where, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_smallest_volume_is_given_and_promised, set_up, tear_down),
        cmocka_unit_test_setup_teardown(two_claims_of_a_pod_get_two_volumes, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_is_not_there_is_made, set_up, tear_down),
        cmocka_unit_test_setup_teardown(room_is_asked_for_where_the_driver_tells_it, set_up, tear_down),
        cmocka_unit_test_setup_teardown(zones_of_a_volume_are_those_of_its_nodes, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_claim_of_one_pod_is_not_shared, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_more_important_pod_takes_a_claim_of_one_pod, set_up, tear_down),
        cmocka_unit_test_setup_teardown(drivers_have_limits_on_a_node, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_is_still_attached_takes_room, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_pod_waits_until_its_volumes_are_bound, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_volume_that_was_given_away_ends_the_wait, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_pod_that_is_being_bound_is_known, set_up, tear_down),
        cmocka_unit_test(claims_wake_their_pods_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
