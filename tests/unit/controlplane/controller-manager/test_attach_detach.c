/* The plans that attach and detach volumes of CSI drivers: what is attached where, when it is told, when it is let go, and that a volume of one
 * writer is never on two nodes. */
#include "tests/support/kcm_world.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

/* sha256 of "h1d.example.orgn1" */
#define VA1 "csi-79edbf5cf44582ff587824360904e32e4d8e66dc6c4949cd5badd65f53eb8891"
#define UNIQUE "kubernetes.io/csi/d.example.org^h1"
#define POD(name, node, more) \
    "{metadata: {name: " name ", namespace: d, uid: " name "-uid" more "}, spec: {nodeName: " node ", containers: [{name: m, image: i}], " \
    "volumes: [{name: a, persistentVolumeClaim: {claimName: c}}]}, status: {phase: Pending}}"
#define NODE(name, ready, more, status) \
    "{metadata: {name: " name "}, spec: {" more "}, status: {conditions: [{type: Ready, status: '" ready "'}]" status "}}"
#define IN_USE ", volumesInUse: ['" UNIQUE "']"
#define ATTACHED ", volumesAttached: [{name: '" UNIQUE "', devicePath: ''}]"
#define TELL_ATTACHED "patch nodes/status n1 {\"status\":{\"volumesAttached\":[{\"name\":\"" UNIQUE "\",\"devicePath\":\"\"}]}}\n"
#define TELL_NONE "patch nodes/status n1 {\"status\":{\"volumesAttached\":null}}\n"

static int set_up(void **state)
{
    static const struct controller *const controllers[] = {&persistentvolume_attach_detach_controller};
    struct kcm_world *world = world_new(controllers, 1, NULL);
    world_put(world, &k8s_persistentvolumeclaims_resource, "{metadata: {name: c, namespace: d, uid: u1}, spec: {volumeName: v}, status: {phase: Bound}}");
    world_put(world, &k8s_persistentvolumes_resource, "{metadata: {name: v, uid: v1}, spec: {accessModes: [ReadWriteOnce], csi: {driver: d.example.org, volumeHandle: h1}, "
                                                      "claimRef: {namespace: d, name: c, uid: u1}}, status: {phase: Bound}}");
    world_put(world, &k8s_nodes_resource, NODE("n1", "True", "", ""));
    world_put(world, &k8s_nodes_resource, NODE("n2", "True", "", ""));
    *state = world;
    return 0;
}

static int tear_down(void **state)
{
    world_free(*state);
    return 0;
}

static const char *plan_of(struct kcm_world *world, const char *node)
{
    return world_plan(world, &persistentvolume_attach_detach_controller, node);
}

/* The attachment that the last plan made, with a status. */
static void attachment_becomes(struct kcm_world *world, const char *node, const char *status)
{
    const struct k8s_volume_attachment *made = world_written(world, PLAN_CREATE, &k8s_volumeattachments_resource, 0);
    assert_non_null(made);
    KP_AUTO_FREE char *yaml = kp_asprintf("{metadata: {name: %s, uid: va-%s, creationTimestamp: '1970-01-12T13:46:40Z'}, spec: {attacher: d.example.org, "
                                          "nodeName: %s, source: {persistentVolumeName: v}}, status: {%s}}",
                                          made->metadata->name, node, node, status);
    world_put(world, &k8s_volumeattachments_resource, yaml);
}

static void attached_on_n1(struct kcm_world *world)
{
    world_put(world, &k8s_pods_resource, POD("p", "n1", ""));
    plan_of(world, "n1");
    attachment_becomes(world, "n1", "attached: true");
}

static void a_pods_volume_is_attached_and_its_kubelet_told(void **state)
{
    struct kcm_world *world = *state;
    assert_string_equal(plan_of(world, "n1"), "");
    world_put(world, &k8s_pods_resource, POD("p", "n1", ""));
    plan_of(world, "n1");
    const struct k8s_volume_attachment *made = world_written(world, PLAN_CREATE, &k8s_volumeattachments_resource, 0);
    assert_string_equal(made->spec->attacher, "d.example.org");
    assert_string_equal(made->spec->node_name, "n1");
    assert_string_equal(made->spec->source->persistent_volume_name, "v");
    assert_string_equal(made->metadata->name, VA1);
    attachment_becomes(world, "n1", "attached: false");
    assert_string_equal(plan_of(world, "n1"), "requeue after 120000 ms\n");
    world->now_s += 120;
    assert_string_equal(plan_of(world, "n1"), "event d/p Warning FailedAttachVolume: AttachVolume.Attach failed for volume \"v\" : timed out waiting for "
                                              "external-attacher of d.example.org CSI driver to attach volume h1\nrequeue after 120000 ms\n");
    world_put(world, &k8s_volumeattachments_resource, "{metadata: {name: " VA1 ", uid: a}, spec: {attacher: d.example.org, nodeName: n1, source: {persistentVolumeName: v}}, "
                                                      "status: {attached: false, attachError: {time: '2026-01-01T00:00:00Z', message: no room}}}");
    assert_string_equal(plan_of(world, "n1"), "event d/p Warning FailedAttachVolume: AttachVolume.Attach failed for volume \"v\" : no room\n");
    assert_string_equal(plan_of(world, "n1"), ""); /* told once */
    world_put(world, &k8s_volumeattachments_resource,
              "{metadata: {name: " VA1 ", uid: a}, spec: {attacher: d.example.org, nodeName: n1, source: {persistentVolumeName: v}}, status: {attached: true}}");
    assert_string_equal(plan_of(world, "n1"), "event d/p Normal SuccessfulAttachVolume: AttachVolume.Attach succeeded for volume \"v\" \n" TELL_ATTACHED);
    world_put(world, &k8s_nodes_resource, NODE("n1", "True", "", ATTACHED));
    assert_string_equal(plan_of(world, "n1"), "");
}

static void what_needs_no_attaching_is_left_alone(void **state)
{
    struct kcm_world *world = *state;
    world_put(world, &k8s_pods_resource, POD("p", "n1", ""));
    world_put(world, &k8s_csidrivers_resource, "{metadata: {name: d.example.org}, spec: {attachRequired: false}}");
    assert_string_equal(plan_of(world, "n1"), "");
    world_remove(world, &k8s_csidrivers_resource, "", "d.example.org");
    world_put(world, &k8s_persistentvolumeclaims_resource, "{metadata: {name: c, namespace: d, uid: u9}, spec: {volumeName: v}, status: {phase: Bound}}");
    assert_string_equal(plan_of(world, "n1"), ""); /* the volume is another claim's */
}

static void a_volume_is_detached_when_the_kubelet_has_let_go(void **state)
{
    struct kcm_world *world = *state;
    attached_on_n1(world);
    world_put(world, &k8s_nodes_resource, NODE("n1", "True", "", ATTACHED IN_USE));
    world_remove(world, &k8s_pods_resource, "d", "p");
    assert_string_equal(plan_of(world, "n1"), "requeue after 360000 ms\n");
    world->now_s += 400;
    assert_string_equal(plan_of(world, "n1"), ""); /* a node that is well is waited for */
    world_put(world, &k8s_nodes_resource, NODE("n1", "True", "", ATTACHED));
    assert_string_equal(plan_of(world, "n1"), TELL_NONE "delete volumeattachments " VA1 "\n");
    world_put(world, &k8s_volumeattachments_resource, "{metadata: {name: " VA1 ", uid: a, deletionTimestamp: '2026-01-01T00:00:00Z'}, spec: {attacher: d.example.org, nodeName: n1, "
                                                      "source: {persistentVolumeName: v}}, status: {attached: true}}");
    world_put(world, &k8s_nodes_resource, NODE("n1", "True", "", ""));
    assert_string_equal(plan_of(world, "n1"), "");
    world_put(world, &k8s_pods_resource, POD("p", "n1", ""));
    assert_string_equal(plan_of(world, "n1"), ""); /* wanted again: made anew when this one is gone */
    world_remove(world, &k8s_volumeattachments_resource, "", VA1);
    assert_string_equal(plan_of(world, "n1"), "create volumeattachments " VA1 "\n");
}

static void a_pod_that_ended_or_is_stopped_wants_nothing(void **state)
{
    struct kcm_world *world = *state;
    attached_on_n1(world);
    world_put(world, &k8s_nodes_resource, NODE("n1", "True", "", ATTACHED));
#define STOPPING(state) "{metadata: {name: p, namespace: d, uid: p-uid, deletionTimestamp: '2026-01-01T00:00:00Z'}, spec: {nodeName: n1, volumes: [{name: a, " \
    "persistentVolumeClaim: {claimName: c}}]}, status: {phase: Running, containerStatuses: [{name: m, state: {" state "}}]}}"
    world_put(world, &k8s_pods_resource, STOPPING("running: {}"));
    assert_string_equal(plan_of(world, "n1"), "");
    world_put(world, &k8s_pods_resource, STOPPING("terminated: {exitCode: 0}"));
    assert_string_equal(plan_of(world, "n1"), TELL_NONE "delete volumeattachments " VA1 "\n");
}

static void a_silent_nodes_volumes_are_taken_after_a_time_and_at_once_when_out_of_service(void **state)
{
    struct kcm_world *world = *state;
    attached_on_n1(world);
    world_put(world, &k8s_nodes_resource, NODE("n1", "Unknown", "", ATTACHED IN_USE));
    world_remove(world, &k8s_pods_resource, "d", "p");
    assert_string_equal(plan_of(world, "n1"), "requeue after 360000 ms\n");
    world->now_s += 359;
    assert_string_equal(plan_of(world, "n1"), "requeue after 1000 ms\n");
    world_put(world, &k8s_nodes_resource, NODE("n1", "Unknown", "taints: [{key: node.kubernetes.io/out-of-service, effect: NoExecute}]", ATTACHED IN_USE));
    assert_string_equal(plan_of(world, "n1"), TELL_NONE "delete volumeattachments " VA1 "\n");
    world_put(world, &k8s_nodes_resource, NODE("n1", "Unknown", "", ATTACHED IN_USE));
    world->now_s += 1;
    assert_string_equal(plan_of(world, "n1"), TELL_NONE "delete volumeattachments " VA1 "\n");
    world_remove(world, &k8s_nodes_resource, "", "n1"); /* nor is there anybody to tell of a node that is gone */
    assert_string_equal(plan_of(world, "n1"), "delete volumeattachments " VA1 "\n");
}

static void a_volume_whose_object_is_gone_is_detached_too(void **state)
{
    struct kcm_world *world = *state;
    attached_on_n1(world);
    world_put(world, &k8s_nodes_resource, NODE("n1", "True", "", ATTACHED IN_USE));
    world_remove(world, &k8s_pods_resource, "d", "p");
    world_remove(world, &k8s_persistentvolumes_resource, "", "v");
    assert_string_equal(plan_of(world, "n1"), "requeue after 360000 ms\n");
    world_put(world, &k8s_nodes_resource, NODE("n1", "True", "", ATTACHED));
    assert_string_equal(plan_of(world, "n1"), TELL_NONE "delete volumeattachments " VA1 "\n");
}

static void a_volume_of_one_writer_waits_for_the_other_node(void **state)
{
    struct kcm_world *world = *state;
    world_put(world, &k8s_pods_resource, POD("p", "n1", ""));
    plan_of(world, "n1");
    world_put(world, &k8s_pods_resource, POD("q", "n2", ""));
    assert_string_equal(plan_of(world, "n2"), "requeue after 1000 ms\n"); /* written, but not seen yet */
    world_put(world, &k8s_volumeattachments_resource,
              "{metadata: {name: " VA1 ", uid: a}, spec: {attacher: d.example.org, nodeName: n1, source: {persistentVolumeName: v}}, status: {attached: true}}");
    assert_string_equal(plan_of(world, "n2"), "event d/q Warning FailedAttachVolume: Multi-Attach error for volume \"v\" Volume is already used by pod(s) p\n");
    assert_string_equal(plan_of(world, "n2"), "");
    world_remove(world, &k8s_pods_resource, "d", "p");
    world_remove(world, &k8s_volumeattachments_resource, "", VA1);
    world->now_s += 10;
    plan_of(world, "n2");
    assert_int_equal(world_count(world, "create volumeattachments csi-"), 1);
}

static void a_volume_of_many_is_attached_wherever_it_is_needed(void **state)
{
    struct kcm_world *world = *state;
    world_put(world, &k8s_persistentvolumes_resource, "{metadata: {name: v, uid: v1}, spec: {accessModes: [ReadWriteMany], csi: {driver: d.example.org, volumeHandle: h1}, "
                                                      "claimRef: {namespace: d, name: c, uid: u1}}, status: {phase: Bound}}");
    world_put(world, &k8s_pods_resource, POD("p", "n1", ""));
    world_put(world, &k8s_pods_resource, POD("q", "n2", ""));
    plan_of(world, "n1");
    assert_int_equal(world_count(world, "create volumeattachments csi-"), 1);
    world_apply(world);
    plan_of(world, "n2");
    assert_int_equal(world_count(world, "create volumeattachments csi-"), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_pods_volume_is_attached_and_its_kubelet_told, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_needs_no_attaching_is_left_alone, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_volume_is_detached_when_the_kubelet_has_let_go, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_pod_that_ended_or_is_stopped_wants_nothing, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_silent_nodes_volumes_are_taken_after_a_time_and_at_once_when_out_of_service, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_volume_whose_object_is_gone_is_detached_too, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_volume_of_one_writer_waits_for_the_other_node, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_volume_of_many_is_attached_wherever_it_is_needed, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
