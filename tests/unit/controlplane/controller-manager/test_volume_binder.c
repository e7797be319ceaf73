/* The plans of the persistent volume binder: a binding step by step, what is told of claims that wait, claims that lost their volume, and what
 * becomes of volumes whose claim is gone. */
#include "lib/volume/volume.h"
#include "tests/support/fake_api.h"
#include "tests/support/kcm_world.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#define CLAIMS "/api/v1/namespaces/d/persistentvolumeclaims"
#define SPEC "accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}"
#define CLAIM(meta, spec, status) "{metadata: {name: c, namespace: d, uid: u1, resourceVersion: '7'" meta "}, spec: {" SPEC spec "}, status: {" status "}}"
#define VOLUME(name, meta, spec, phase) \
    "{metadata: {name: " name ", uid: " name "-uid" meta "}, spec: {capacity: {storage: 2Gi}, accessModes: [ReadWriteOnce]" spec "}, status: {phase: " phase "}}"
#define FOR_US ", claimRef: {kind: PersistentVolumeClaim, namespace: d, name: c, uid: u1}"
#define FOR_OTHER ", claimRef: {kind: PersistentVolumeClaim, namespace: d, name: other, uid: u2}"
#define CLASS(name, meta, more) "{metadata: {name: " name meta "}, provisioner: x.example.org" more "}"
#define WAIT "requeue after 15000 ms\n"

static struct kcm_world *world_of(void **state)
{
    return ((struct kcm_store_world *)*state)->world;
}

static int set_up(void **state)
{
    *state = store_world_new(&persistentvolume_binder_controller);
    return 0;
}

static int tear_down(void **state)
{
    store_world_free(*state);
    return 0;
}

static const char *plan_claim(struct kcm_world *world, const char *yaml)
{
    world_put(world, &k8s_persistentvolumeclaims_resource, yaml);
    return world_plan(world, &persistentvolume_binder_controller, "d/c");
}

static const char *plan_volume(struct kcm_world *world, const char *yaml)
{
    world_put(world, &k8s_persistentvolumes_resource, yaml);
    return world_plan(world, &persistentvolume_binder_controller, "v");
}

static void apply_then(struct kcm_world *world, const char *key, const char *wanted)
{
    world_apply(world);
    assert_string_equal(world_plan(world, &persistentvolume_binder_controller, key), wanted);
}

static void a_claim_and_a_volume_are_bound_step_by_step(void **state)
{
    struct kcm_world *world = world_of(state);
    assert_string_equal(plan_volume(world, VOLUME("v", "", "", "Pending")), "update persistentvolumes/status v\n");
    const struct k8s_persistent_volume *volume = world_written(world, PLAN_UPDATE, &k8s_persistentvolumes_resource, 0);
    assert_string_equal(volume->status->phase, "Available");
    assert_int_equal(volume->status->last_phase_transition_time.seconds, WORLD_NOW);
    apply_then(world, "v", "");
    assert_string_equal(plan_claim(world, CLAIM("", "", "phase: Pending")), "update persistentvolumes v\n");
    volume = world_written(world, PLAN_UPDATE, &k8s_persistentvolumes_resource, 0);
    assert_string_equal(volume->spec->claim_ref->uid, "u1");
    assert_string_equal(volume->spec->claim_ref->kind, "PersistentVolumeClaim");
    assert_string_equal(volume->spec->claim_ref->resource_version, "7");
    assert_string_equal(kp_string_map_get(&volume->metadata->annotations, VOLUME_BOUND_BY_CONTROLLER), "yes");
    apply_then(world, "v", ""); /* half bound: the claim's plan goes on */
    apply_then(world, "d/c", "update persistentvolumes/status v\nupdate persistentvolumeclaims d/c\n");
    const struct k8s_persistent_volume_claim *claim = world_written(world, PLAN_UPDATE, &k8s_persistentvolumeclaims_resource, 0);
    assert_string_equal(claim->spec->volume_name, "v");
    assert_string_equal(kp_string_map_get(&claim->metadata->annotations, VOLUME_BIND_COMPLETED), "yes");
    assert_string_equal(kp_string_map_get(&claim->metadata->annotations, VOLUME_BOUND_BY_CONTROLLER), "yes");
    apply_then(world, "d/c", "update persistentvolumeclaims/status d/c\n");
    claim = world_written(world, PLAN_UPDATE, &k8s_persistentvolumeclaims_resource, 0);
    assert_string_equal(claim->status->phase, "Bound");
    assert_string_equal(kp_string_map_get(&claim->status->capacity, "storage"), "2Gi");
    assert_string_equal(claim->status->access_modes.items[0], "ReadWriteOnce");
    apply_then(world, "d/c", "");
    apply_then(world, "v", "");
    volume = world_get(world, &k8s_persistentvolumes_resource, "", "v");
    assert_string_equal(volume->status->phase, "Bound");
}

static void a_claim_without_a_volume_waits_and_says_why(void **state)
{
    struct kcm_world *world = world_of(state);
    world_put(world, &k8s_persistentvolumes_resource, VOLUME("taken", "", FOR_OTHER, "Bound"));
    assert_string_equal(plan_claim(world, CLAIM("", "", "phase: Pending")),
                        "event d/c Normal FailedBinding: no persistent volumes available for this claim and no storage class is set\n" WAIT);
    assert_string_equal(plan_claim(world, CLAIM("", ", storageClassName: fast", "phase: Pending")),
                        "event d/c Warning ProvisioningFailed: storageclass.storage.k8s.io \"fast\" not found\n" WAIT);
    world_put(world, &k8s_storageclasses_resource, "{metadata: {name: fast}, provisioner: kubernetes.io/no-provisioner}");
    assert_string_equal(plan_claim(world, CLAIM("", ", storageClassName: fast", "phase: Pending")),
                        "event d/c Warning ProvisioningFailed: no volume plugin matched name: kubernetes.io/no-provisioner\n" WAIT);
    assert_string_equal(plan_claim(world, CLAIM(", deletionTimestamp: '2026-01-01T00:00:00Z'", "", "phase: Pending")), "");
}

static void a_provisioner_is_asked_and_waited_for(void **state)
{
    struct kcm_world *world = world_of(state);
    world_put(world, &k8s_storageclasses_resource, CLASS("fast", "", ""));
    assert_string_equal(plan_claim(world, CLAIM("", ", storageClassName: fast", "phase: Pending")), "update persistentvolumeclaims d/c\n");
    const struct k8s_persistent_volume_claim *claim = world_written(world, PLAN_UPDATE, &k8s_persistentvolumeclaims_resource, 0);
    assert_string_equal(kp_string_map_get(&claim->metadata->annotations, VOLUME_PROVISIONER), "x.example.org");
    assert_string_equal(kp_string_map_get(&claim->metadata->annotations, VOLUME_PROVISIONER_BETA), "x.example.org");
    apply_then(world, "d/c",
               "event d/c Normal ExternalProvisioning: Waiting for a volume to be created either by the external provisioner 'x.example.org' or manually by "
               "the system administrator. If volume creation is delayed, please verify that the provisioner is running and correctly registered.\n" WAIT);
    world_put(world, &k8s_persistentvolumes_resource, VOLUME("v", "", FOR_US ", storageClassName: fast", "Pending"));
    assert_string_equal(world_plan(world, &persistentvolume_binder_controller, "d/c"), "update persistentvolumes/status v\nupdate persistentvolumeclaims d/c\n");
}

static void a_delayed_class_waits_for_a_pod(void **state)
{
    struct kcm_world *world = world_of(state);
    world_put(world, &k8s_storageclasses_resource, CLASS("late", "", ", volumeBindingMode: WaitForFirstConsumer"));
    world_put(world, &k8s_persistentvolumes_resource, VOLUME("v", "", ", storageClassName: late", "Available"));
    assert_string_equal(plan_claim(world, CLAIM("", ", storageClassName: late", "phase: Pending")),
                        "event d/c Normal WaitForFirstConsumer: waiting for first consumer to be created before binding\n" WAIT);
    world_put(world, &k8s_pods_resource, "{metadata: {name: p, namespace: d}, spec: {volumes: [{name: a, persistentVolumeClaim: {claimName: c}}]}}");
    assert_string_equal(world_plan(world, &persistentvolume_binder_controller, "d/c"),
                        "event d/c Normal WaitForPodScheduled: waiting for pod p to be scheduled\n" WAIT);
    world_put(world, &k8s_pods_resource, "{metadata: {name: q, namespace: d}, spec: {volumes: [{name: a, persistentVolumeClaim: {claimName: c}}]}}");
    world_put(world, &k8s_pods_resource, "{metadata: {name: z, namespace: e}, spec: {volumes: [{name: a, persistentVolumeClaim: {claimName: c}}]}}");
    assert_string_equal(world_plan(world, &persistentvolume_binder_controller, "d/c"),
                        "event d/c Normal WaitForPodScheduled: waiting for pods p,q to be scheduled\n" WAIT);
    assert_string_equal(plan_claim(world, CLAIM(", annotations: {volume.kubernetes.io/selected-node: n1}", ", storageClassName: late", "phase: Pending")),
                        "update persistentvolumeclaims d/c\n"); /* its provisioner is asked */
    world_put(world, &k8s_persistentvolumes_resource, VOLUME("v", ", annotations: {pv.kubernetes.io/bound-by-controller: 'yes'}", FOR_US ", storageClassName: late", "Available"));
    assert_string_equal(world_plan(world, &persistentvolume_binder_controller, "d/c"), /* the scheduler chose one that was there */
                        "update persistentvolumes/status v\nupdate persistentvolumeclaims d/c\n");
}

static void the_default_class_comes_later_too(void **state)
{
    struct kcm_world *world = world_of(state);
    world_put(world, &k8s_storageclasses_resource, CLASS("b", ", creationTimestamp: '2026-01-02T00:00:00Z', annotations: {storageclass.kubernetes.io/is-default-class: 'true'}", ""));
    world_put(world, &k8s_storageclasses_resource, CLASS("a", ", creationTimestamp: '2026-01-01T00:00:00Z', annotations: {storageclass.kubernetes.io/is-default-class: 'true'}", ""));
    world_put(world, &k8s_storageclasses_resource, CLASS("c", ", creationTimestamp: '2026-01-03T00:00:00Z'", ""));
    assert_string_equal(plan_claim(world, CLAIM("", "", "phase: Pending")), "update persistentvolumeclaims d/c\n");
    const struct k8s_persistent_volume_claim *claim = world_written(world, PLAN_UPDATE, &k8s_persistentvolumeclaims_resource, 0);
    assert_string_equal(claim->spec->storage_class_name, "b");
    assert_true(kp_starts_with(plan_claim(world, CLAIM("", ", storageClassName: ''", "phase: Pending")), "event d/c Normal FailedBinding"));
}

static void a_claim_that_names_its_volume_gets_that_one_or_none(void **state)
{
    struct kcm_world *world = world_of(state);
    assert_string_equal(plan_claim(world, CLAIM("", ", volumeName: v", "phase: Pending")), WAIT);
    world_put(world, &k8s_persistentvolumes_resource, VOLUME("v", "", ", storageClassName: other", "Available"));
    assert_string_equal(world_plan(world, &persistentvolume_binder_controller, "d/c"),
                        "event d/c Warning VolumeMismatch: Cannot bind to requested volume \"v\": storageClassName does not match\n" WAIT);
    world_put(world, &k8s_persistentvolumes_resource, VOLUME("v", "", FOR_OTHER, "Bound"));
    assert_string_equal(world_plan(world, &persistentvolume_binder_controller, "d/c"),
                        "event d/c Warning FailedBinding: volume \"v\" already bound to a different claim.\n" WAIT);
    world_put(world, &k8s_persistentvolumes_resource, VOLUME("v", "", "", "Available"));
    assert_string_equal(world_plan(world, &persistentvolume_binder_controller, "d/c"), "update persistentvolumes v\n");
    apply_then(world, "d/c", "update persistentvolumes/status v\nupdate persistentvolumeclaims d/c\n");
    const struct k8s_persistent_volume_claim *claim = world_written(world, PLAN_UPDATE, &k8s_persistentvolumeclaims_resource, 0);
    assert_null(kp_string_map_get(&claim->metadata->annotations, VOLUME_BOUND_BY_CONTROLLER)); /* a user bound it */
}

#define BOUND ", annotations: {pv.kubernetes.io/bind-completed: 'yes', pv.kubernetes.io/bound-by-controller: 'yes'}"

static void a_bound_claim_can_lose_its_volume_and_get_it_back(void **state)
{
    struct kcm_world *world = world_of(state);
    assert_string_equal(plan_claim(world, CLAIM(BOUND, ", volumeName: v", "phase: Bound, capacity: {storage: 2Gi}")),
                        "update persistentvolumeclaims/status d/c\n"
                        "event d/c Warning ClaimLost: Bound claim has lost its PersistentVolume. Data on the volume is lost!\n");
    apply_then(world, "d/c", "");
    world_put(world, &k8s_persistentvolumes_resource, VOLUME("v", "", FOR_OTHER, "Bound"));
    assert_string_equal(plan_claim(world, CLAIM(BOUND, ", volumeName: v", "phase: Bound")),
                        "update persistentvolumeclaims/status d/c\n"
                        "event d/c Warning ClaimMisbound: Two claims are bound to the same volume, this one is bound incorrectly\n");
    assert_string_equal(plan_claim(world, CLAIM(BOUND, "", "phase: Bound")),
                        "update persistentvolumeclaims/status d/c\n"
                        "event d/c Warning ClaimLost: Bound claim has lost reference to PersistentVolume. Data on the volume is lost!\n");
    world_put(world, &k8s_persistentvolumes_resource, VOLUME("v", "", FOR_US, "Bound"));
    assert_string_equal(plan_claim(world, CLAIM(BOUND, ", volumeName: v", "phase: Lost")), "update persistentvolumeclaims/status d/c\n");
    apply_then(world, "d/c", "");
    const struct k8s_persistent_volume_claim *claim = world_get(world, &k8s_persistentvolumeclaims_resource, "d", "c");
    assert_string_equal(claim->status->phase, "Bound");
}

#define DELETE ", persistentVolumeReclaimPolicy: Delete"
#define BY_CSI ", annotations: {pv.kubernetes.io/provisioned-by: x.example.org}"

static void a_volume_is_released_only_when_the_store_says_so(void **state)
{
    struct kcm_store_world *store = *state;
    fake_api_put(store->api, CLAIMS, "{\"metadata\":{\"name\":\"c\",\"namespace\":\"d\",\"uid\":\"u1\"},\"spec\":{\"volumeName\":\"v\"}}", false);
    assert_string_equal(plan_volume(store->world, VOLUME("v", "", FOR_US, "Bound")), "");
    fake_api_fail(store->api, "GET", 1, 500, "{}");
    assert_true(kp_starts_with(world_plan(store->world, &persistentvolume_binder_controller, "v"), "error: claim d/c of volume v"));
    fake_api_remove(store->api, CLAIMS, "c", false);
    assert_string_equal(world_plan(store->world, &persistentvolume_binder_controller, "v"), "update persistentvolumes/status v\n");
    apply_then(store->world, "v", ""); /* the policy is Retain */
    const struct k8s_persistent_volume *volume = world_get(store->world, &k8s_persistentvolumes_resource, "", "v");
    assert_string_equal(volume->status->phase, "Released");
    /* Another claim of the name is not the one it was bound to. */
    fake_api_put(store->api, CLAIMS, "{\"metadata\":{\"name\":\"c\",\"namespace\":\"d\",\"uid\":\"u9\"},\"spec\":{}}", false);
    assert_string_equal(plan_volume(store->world, VOLUME("v", "", FOR_US, "Bound")), "update persistentvolumes/status v\n");
}

static void what_is_released_is_reclaimed_by_its_policy(void **state)
{
    struct kcm_world *world = world_of(state);
    assert_string_equal(plan_volume(world, VOLUME("v", BY_CSI, FOR_US DELETE, "Released")), ""); /* its provisioner's */
    assert_string_equal(plan_volume(world, VOLUME("v", "", FOR_US DELETE ", csi: {driver: x, volumeHandle: h}", "Released")), "");
    assert_string_equal(plan_volume(world, VOLUME("v", "", FOR_US DELETE ", nfs: {server: s, path: /}", "Released")),
                        "update persistentvolumes/status v\nevent v Warning VolumeFailedDelete: error getting deleter volume plugin for volume \"v\": no "
                        "deletable volume plugin matched\n");
    apply_then(world, "v", "");
    assert_string_equal(plan_volume(world, VOLUME("v", "", FOR_US DELETE ", hostPath: {path: /data}", "Released")),
                        "update persistentvolumes/status v\nevent v Warning VolumeFailedDelete: host_path deleter only supports /tmp/.+ but received provided "
                        "/data\n");
    assert_string_equal(plan_volume(world, VOLUME("v", "", FOR_US ", persistentVolumeReclaimPolicy: Recycle", "Released")),
                        "update persistentvolumes/status v\nevent v Warning VolumeFailedRecycle: No recycler plugin found for the volume!\n");
    assert_string_equal(plan_volume(world, VOLUME("v", "", ", claimRef: {namespace: d, name: c}", "Released")), "update persistentvolumes/status v\n");
}

static void a_volume_whose_claim_went_elsewhere_is_free_again(void **state)
{
    struct kcm_world *world = world_of(state);
    world_put(world, &k8s_persistentvolumeclaims_resource, CLAIM(BOUND, ", volumeName: v2", "phase: Bound"));
    assert_string_equal(plan_volume(world, VOLUME("v", ", annotations: {pv.kubernetes.io/bound-by-controller: 'yes'}", FOR_US, "Bound")), "update persistentvolumes v\n");
    const struct k8s_persistent_volume *volume = world_written(world, PLAN_UPDATE, &k8s_persistentvolumes_resource, 0);
    assert_null(volume->spec->claim_ref);
    apply_then(world, "v", "update persistentvolumes/status v\n");
    assert_string_equal(plan_volume(world, VOLUME("v", "", FOR_US, "Bound")), "update persistentvolumes v\n"); /* bound by a user: kept for the name */
    volume = world_written(world, PLAN_UPDATE, &k8s_persistentvolumes_resource, 0);
    assert_string_equal(volume->spec->claim_ref->name, "c");
    assert_null(volume->spec->claim_ref->uid);
    assert_string_equal(plan_volume(world, VOLUME("v", BY_CSI, FOR_US DELETE, "Bound")), "update persistentvolumes/status v\n"); /* made in vain */
    volume = world_written(world, PLAN_UPDATE, &k8s_persistentvolumes_resource, 0);
    assert_string_equal(volume->status->phase, "Released");
}

static void a_volume_of_another_mode_is_not_bound(void **state)
{
    struct kcm_world *world = world_of(state);
    world_put(world, &k8s_persistentvolumeclaims_resource, CLAIM("", ", volumeMode: Block", "phase: Pending"));
    assert_string_equal(plan_volume(world, VOLUME("v", "", FOR_US, "Bound")),
                        "event v Warning VolumeMismatch: Cannot bind PersistentVolume to requested PersistentVolumeClaim \"c\" due to incompatible volumeMode.\n"
                        "event d/c Warning VolumeMismatch: Cannot bind PersistentVolume \"v\" to requested PersistentVolumeClaim due to incompatible "
                        "volumeMode.\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_claim_and_a_volume_are_bound_step_by_step, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_claim_without_a_volume_waits_and_says_why, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_provisioner_is_asked_and_waited_for, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_delayed_class_waits_for_a_pod, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_default_class_comes_later_too, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_claim_that_names_its_volume_gets_that_one_or_none, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_bound_claim_can_lose_its_volume_and_get_it_back, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_volume_is_released_only_when_the_store_says_so, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_is_released_is_reclaimed_by_its_policy, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_volume_whose_claim_went_elsewhere_is_free_again, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_volume_of_another_mode_is_not_bound, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
