/* The plans of the smaller volume controllers: protection by finalizers, claims of ephemeral volumes, and the volumes of kprov.dev/local. */
#include "lib/volume/volume.h"
#include "tests/support/fake_api.h"
#include "tests/support/kcm_world.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#define GOING ", deletionTimestamp: '2026-01-01T00:00:00Z'"
#define KEPT ", finalizers: [kubernetes.io/pvc-protection, x/y]"
#define CLAIM(meta, spec) \
    "{metadata: {name: c, namespace: d, uid: u1, resourceVersion: '7'" meta "}, spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}" spec "}}"
#define POD(name, meta, spec, volume) \
    "{metadata: {name: " name ", namespace: d, uid: " name "-uid" meta "}, spec: {" spec "containers: [{name: m, image: i}], volumes: [" volume "]}}"
#define OF_CLAIM "{name: a, persistentVolumeClaim: {claimName: c}}"
#define PODS "/api/v1/namespaces/d/pods"
#define POD_JSON "{\"metadata\":{\"name\":\"p\",\"namespace\":\"d\",\"uid\":\"p-uid\"},\"spec\":{\"nodeName\":\"n1\",\"volumes\":[{\"name\":\"a\"," \
    "\"persistentVolumeClaim\":{\"claimName\":\"c\"}}]}}"

static int tear_down(void **state)
{
    store_world_free(*state);
    return 0;
}

static int set_up_claims(void **state)
{
    *state = store_world_new(&persistentvolumeclaim_protection_controller);
    return 0;
}

static const char *plan_of(struct kcm_store_world *store, const struct controller *controller, const struct kp_resource *resource, const char *yaml, const char *key)
{
    world_put(store->world, resource, yaml);
    return world_plan(store->world, controller, key);
}

static const char *protect(struct kcm_store_world *store, const char *claim)
{
    return plan_of(store, &persistentvolumeclaim_protection_controller, &k8s_persistentvolumeclaims_resource, claim, "d/c");
}

static void a_claim_is_kept_while_a_placed_pod_uses_it(void **state)
{
    struct kcm_store_world *store = *state;
    assert_string_equal(protect(store, CLAIM("", "")), "update persistentvolumeclaims d/c\n");
    const struct k8s_persistent_volume_claim *claim = world_written(store->world, PLAN_UPDATE, &k8s_persistentvolumeclaims_resource, 0);
    assert_true(kp_string_list_has(&claim->metadata->finalizers, VOLUME_CLAIM_PROTECTION));
    assert_string_equal(protect(store, CLAIM(KEPT, "")), "");
    world_put(store->world, &k8s_pods_resource, POD("p", "", "nodeName: n1, ", OF_CLAIM));
    assert_string_equal(protect(store, CLAIM(KEPT GOING, "")), "");
    world_put(store->world, &k8s_pods_resource, POD("p", "", "", OF_CLAIM)); /* not placed */
    assert_string_equal(protect(store, CLAIM(KEPT GOING, "")), "update persistentvolumeclaims d/c\n");
    claim = world_written(store->world, PLAN_UPDATE, &k8s_persistentvolumeclaims_resource, 0);
    assert_int_equal(claim->metadata->finalizers.len, 1);
    assert_string_equal(claim->metadata->finalizers.items[0], "x/y");
    assert_string_equal(protect(store, CLAIM(GOING, "")), ""); /* none is added to one that goes */
}

static void a_claim_is_kept_while_the_store_knows_a_pod_that_uses_it(void **state)
{
    struct kcm_store_world *store = *state;
    fake_api_put(store->api, PODS, POD_JSON, false);
    assert_string_equal(protect(store, CLAIM(KEPT GOING, "")), "requeue after 5000 ms\n");
    fake_api_fail(store->api, "LIST", 1, 500, "{}");
    assert_true(kp_starts_with(protect(store, CLAIM(KEPT GOING, "")), "error: pods of namespace d"));
    fake_api_remove(store->api, PODS, "p", false);
    assert_string_equal(protect(store, CLAIM(KEPT GOING, "")), "update persistentvolumeclaims d/c\n");
}

#define EPHEMERAL "{name: scratch, ephemeral: {volumeClaimTemplate: {metadata: {labels: {a: b}}, spec: {accessModes: [ReadWriteOnce], storageClassName: s}}}}"
#define OWNED(uid) "{metadata: {name: p-scratch, namespace: d, uid: u5" KEPT GOING \
    ", ownerReferences: [{apiVersion: v1, kind: Pod, name: p, uid: " uid ", controller: true}]}, spec: {}}"

static void an_ephemeral_claim_is_kept_until_its_pod_is_shut_down(void **state)
{
    struct kcm_store_world *store = *state;
    const struct controller *const controller = &persistentvolumeclaim_protection_controller;
    world_put(store->world, &k8s_pods_resource, POD("p", "", "nodeName: n1, ", EPHEMERAL));
    assert_string_equal(plan_of(store, controller, &k8s_persistentvolumeclaims_resource, OWNED("p-uid"), "d/p-scratch"), "");
    assert_string_equal(plan_of(store, controller, &k8s_persistentvolumeclaims_resource, OWNED("older"), "d/p-scratch"), "update persistentvolumeclaims d/p-scratch\n");
    world_put(store->world, &k8s_pods_resource, POD("p", GOING ", deletionGracePeriodSeconds: 0", "nodeName: n1, ", EPHEMERAL));
    assert_string_equal(plan_of(store, controller, &k8s_persistentvolumeclaims_resource, OWNED("p-uid"), "d/p-scratch"), "update persistentvolumeclaims d/p-scratch\n");
}

static int set_up_volumes(void **state)
{
    *state = store_world_new(&persistentvolume_protection_controller);
    return 0;
}

#define VOLUME(meta, phase) "{metadata: {name: v, uid: v1" meta "}, spec: {}, status: {phase: " phase "}}"

static void a_volume_is_kept_while_it_is_bound(void **state)
{
    struct kcm_store_world *store = *state;
    const struct controller *const controller = &persistentvolume_protection_controller;
    const struct kp_resource *const volumes = &k8s_persistentvolumes_resource;
    assert_string_equal(plan_of(store, controller, volumes, VOLUME("", "Bound"), "v"), "update persistentvolumes v\n");
    assert_string_equal(plan_of(store, controller, volumes, VOLUME(", finalizers: [kubernetes.io/pv-protection]" GOING, "Bound"), "v"), "");
    assert_string_equal(plan_of(store, controller, volumes, VOLUME(", finalizers: [kubernetes.io/pv-protection]" GOING, "Released"), "v"), "update persistentvolumes v\n");
    const struct k8s_persistent_volume *volume = world_written(store->world, PLAN_UPDATE, volumes, 0);
    assert_int_equal(volume->metadata->finalizers.len, 0);
}

/* ---- ephemeral volumes ------------------------------------------------------------------------------------------------------- */
static int set_up_ephemeral(void **state)
{
    *state = store_world_new(&ephemeral_volume_controller);
    return 0;
}

static void a_pod_gets_the_claims_of_its_ephemeral_volumes(void **state)
{
    struct kcm_store_world *store = *state;
    const struct controller *const controller = &ephemeral_volume_controller;
    assert_string_equal(plan_of(store, controller, &k8s_pods_resource, POD("p", "", "", EPHEMERAL ", " OF_CLAIM), "d/p"),
                        "create persistentvolumeclaims d/p-scratch\nevent-on-failure d/p\n");
    const struct k8s_persistent_volume_claim *claim = world_written(store->world, PLAN_CREATE, &k8s_persistentvolumeclaims_resource, 0);
    assert_string_equal(claim->spec->storage_class_name, "s");
    assert_string_equal(kp_string_map_get(&claim->metadata->labels, "a"), "b");
    const struct k8s_owner_reference *owner = &claim->metadata->owner_references.items[0];
    assert_string_equal(owner->uid, "p-uid");
    assert_true(owner->controller && owner->block_owner_deletion);
    world_apply(store->world);
    assert_string_equal(world_plan(store->world, controller, "d/p"), "");
    world_put(store->world, &k8s_persistentvolumeclaims_resource, OWNED("older"));
    assert_string_equal(world_plan(store->world, controller, "d/p"),
                        "event d/p Warning FailedBinding: ephemeral volume scratch: PVC d/p-scratch was not created for pod d/p (pod is not owner)\n"
                        "requeue with back-off\n");
    assert_string_equal(plan_of(store, controller, &k8s_pods_resource, POD("q", GOING, "", EPHEMERAL), "d/q"), "");
}

/* ---- kprov.dev/local --------------------------------------------------------------------------------------------------------- */
#define ASKED(node) ", annotations: {volume.kubernetes.io/storage-provisioner: kprov.dev/local" node "}"
#define ON_N1 ", volume.kubernetes.io/selected-node: n1"
#define IN_LOCAL ", storageClassName: local"
#define CLASS(more) "{metadata: {name: local}, provisioner: kprov.dev/local, volumeBindingMode: WaitForFirstConsumer, mountOptions: [noatime]" more "}"
#define NODE "{metadata: {name: n1, labels: {kubernetes.io/hostname: host-1}}}"
#define REFUSED "event d/c Warning ProvisioningFailed: failed to provision volume with StorageClass \"local\": "

static int set_up_local(void **state)
{
    *state = store_world_new(&local_volume_controller);
    world_put(((struct kcm_store_world *)*state)->world, &k8s_storageclasses_resource, CLASS(""));
    world_put(((struct kcm_store_world *)*state)->world, &k8s_nodes_resource, NODE);
    return 0;
}

static const char *provision(struct kcm_store_world *store, const char *claim)
{
    return plan_of(store, &local_volume_controller, &k8s_persistentvolumeclaims_resource, claim, "d/c");
}

static void a_volume_is_made_on_the_node_that_was_chosen(void **state)
{
    struct kcm_store_world *store = *state;
    assert_string_equal(provision(store, CLAIM(ASKED(""), IN_LOCAL)), "");
    assert_string_equal(provision(store, CLAIM("", IN_LOCAL)), "");
    assert_string_equal(provision(store, CLAIM(ASKED(ON_N1), IN_LOCAL)),
                        "event d/c Normal Provisioning: External provisioner is provisioning volume for claim \"d/c\"\n"
                        "create persistentvolumes pvc-u1\n"
                        "event-on-failure d/c\n"
                        "event d/c Normal ProvisioningSucceeded: Successfully provisioned volume pvc-u1\n");
    const struct k8s_persistent_volume *volume = world_written(store->world, PLAN_CREATE, &k8s_persistentvolumes_resource, 0);
    assert_string_equal(volume->spec->local->path, "/var/lib/kprov/volumes/pvc-u1");
    assert_string_equal(volume->spec->persistent_volume_reclaim_policy, "Delete");
    assert_string_equal(volume->spec->storage_class_name, "local");
    assert_string_equal(volume->spec->mount_options.items[0], "noatime");
    assert_string_equal(volume->spec->claim_ref->uid, "u1");
    assert_string_equal(kp_string_map_get(&volume->spec->capacity, "storage"), "1Gi");
    assert_string_equal(volume->metadata->finalizers.items[0], VOLUME_LOCAL_FINALIZER);
    assert_string_equal(volume->spec->node_affinity->required->node_selector_terms.items[0].match_expressions.items[0].values.items[0], "host-1");
    assert_true(volume_reaches_node(volume, world_get(store->world, &k8s_nodes_resource, "", "n1")));
    world_apply(store->world);
    assert_string_equal(world_plan(store->world, &local_volume_controller, "d/c"), "");
}

static void what_no_node_can_give_is_refused(void **state)
{
    struct kcm_store_world *store = *state;
    assert_string_equal(provision(store, CLAIM(ASKED(ON_N1), IN_LOCAL ", volumeMode: Block")),
                        REFUSED "kprov.dev/local does not support block volume provisioning\nrequeue after 60000 ms\n");
    assert_string_equal(provision(store, "{metadata: {name: c, namespace: d, uid: u1" ASKED(ON_N1) "}, spec: {accessModes: [ReadWriteMany]" IN_LOCAL "}}"),
                        REFUSED "only ReadWriteOnce and ReadWriteOncePod are supported: the volume is on one node's disk\nrequeue after 60000 ms\n");
    assert_string_equal(provision(store, CLAIM(ASKED(ON_N1), IN_LOCAL ", dataSource: {kind: PersistentVolumeClaim, name: x}")),
                        REFUSED "a data source is not supported\nrequeue after 60000 ms\n");
    world_put(store->world, &k8s_storageclasses_resource, "{metadata: {name: local}, provisioner: kprov.dev/local, volumeBindingMode: Immediate}");
    assert_string_equal(provision(store, CLAIM(ASKED(""), IN_LOCAL)),
                        REFUSED "the class needs volumeBindingMode WaitForFirstConsumer: a volume on a node's disk is made where its pod goes\n"
                                "requeue after 60000 ms\n");
}

static void the_scheduler_chooses_again_when_the_node_will_not_do(void **state)
{
    struct kcm_store_world *store = *state;
    assert_string_equal(provision(store, CLAIM(ASKED(", volume.kubernetes.io/selected-node: n9"), IN_LOCAL)),
                        REFUSED "node \"n9\" not found\nupdate persistentvolumeclaims d/c\n");
    const struct k8s_persistent_volume_claim *claim = world_written(store->world, PLAN_UPDATE, &k8s_persistentvolumeclaims_resource, 0);
    assert_null(kp_string_map_get(&claim->metadata->annotations, VOLUME_SELECTED_NODE));
    world_put(store->world, &k8s_storageclasses_resource, CLASS(", allowedTopologies: [{matchLabelExpressions: [{key: zone, values: [a]}]}]"));
    assert_string_equal(provision(store, CLAIM(ASKED(ON_N1), IN_LOCAL)),
                        REFUSED "node \"n1\" is not in the allowed topologies of the class\nupdate persistentvolumeclaims d/c\n");
    world_put(store->world, &k8s_nodes_resource, "{metadata: {name: n1}}");
    assert_string_equal(provision(store, CLAIM(ASKED(ON_N1), IN_LOCAL)),
                        REFUSED "node \"n1\" has no label kubernetes.io/hostname\nupdate persistentvolumeclaims d/c\n");
}

#define LOCAL_VOLUME(meta, policy, phase) \
    "{metadata: {name: v, uid: v1, annotations: {pv.kubernetes.io/provisioned-by: kprov.dev/local}, finalizers: [kprov.dev/local-volume, x/y]" meta "}, " \
    "spec: {persistentVolumeReclaimPolicy: " policy ", nodeAffinity: {required: {nodeSelectorTerms: [{matchExpressions: [{key: kubernetes.io/hostname, " \
    "operator: In, values: [host-1]}]}]}}}, status: {phase: " phase "}}"

static const char *plan_volume(struct kcm_store_world *store, const char *volume)
{
    return plan_of(store, &local_volume_controller, &k8s_persistentvolumes_resource, volume, "v");
}

static void a_released_volume_is_deleted_and_waits_for_its_node(void **state)
{
    struct kcm_store_world *store = *state;
    assert_string_equal(plan_volume(store, LOCAL_VOLUME("", "Delete", "Bound")), "");
    assert_string_equal(plan_volume(store, LOCAL_VOLUME("", "Retain", "Released")), "");
    assert_string_equal(plan_volume(store, LOCAL_VOLUME("", "Delete", "Released")), "delete persistentvolumes v\n");
    assert_string_equal(plan_volume(store, LOCAL_VOLUME(GOING, "Delete", "Released")), /* the kubelet removes the folder first */
                        "patch nodes n1 {\"metadata\":{\"annotations\":{\"kprov.dev/leaving-local-volumes\":\"v\"}}}\n");
    world_put(store->world, &k8s_nodes_resource, "{metadata: {name: n1, labels: {kubernetes.io/hostname: host-1}, annotations: {kprov.dev/leaving-local-volumes: v}}}");
    assert_string_equal(plan_volume(store, LOCAL_VOLUME(GOING, "Delete", "Released")), "");
    world_remove(store->world, &k8s_persistentvolumes_resource, "", "v");
    assert_string_equal(world_plan(store->world, &local_volume_controller, "v"),
                        "patch nodes n1 {\"metadata\":{\"annotations\":{\"kprov.dev/leaving-local-volumes\":null}}}\n");
    world_remove(store->world, &k8s_nodes_resource, "", "n1");
    fake_api_put(store->api, "/api/v1/nodes", "{\"metadata\":{\"name\":\"n1\"}}", false); /* the store still has it */
    assert_string_equal(plan_volume(store, LOCAL_VOLUME(GOING, "Delete", "Released")), "");
    fake_api_fail(store->api, "LIST", 1, 500, "{}");
    assert_true(kp_starts_with(plan_volume(store, LOCAL_VOLUME(GOING, "Delete", "Released")), "error: nodes with hostname host-1"));
    fake_api_remove(store->api, "/api/v1/nodes", "n1", false);
    assert_string_equal(plan_volume(store, LOCAL_VOLUME(GOING, "Delete", "Bound")), "");
    assert_string_equal(plan_volume(store, LOCAL_VOLUME(GOING, "Delete", "Released")), "update persistentvolumes v\n");
    const struct k8s_persistent_volume *volume = world_written(store->world, PLAN_UPDATE, &k8s_persistentvolumes_resource, 0);
    assert_int_equal(volume->metadata->finalizers.len, 1);
    assert_string_equal(volume->metadata->finalizers.items[0], "x/y");
    assert_string_equal(plan_volume(store, "{metadata: {name: v, uid: v1, annotations: {pv.kubernetes.io/provisioned-by: else.org}}, spec: {persistentVolumeReclaimPolicy: "
                                           "Delete}, status: {phase: Released}}"), "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_claim_is_kept_while_a_placed_pod_uses_it, set_up_claims, tear_down),
        cmocka_unit_test_setup_teardown(a_claim_is_kept_while_the_store_knows_a_pod_that_uses_it, set_up_claims, tear_down),
        cmocka_unit_test_setup_teardown(an_ephemeral_claim_is_kept_until_its_pod_is_shut_down, set_up_claims, tear_down),
        cmocka_unit_test_setup_teardown(a_volume_is_kept_while_it_is_bound, set_up_volumes, tear_down),
        cmocka_unit_test_setup_teardown(a_pod_gets_the_claims_of_its_ephemeral_volumes, set_up_ephemeral, tear_down),
        cmocka_unit_test_setup_teardown(a_volume_is_made_on_the_node_that_was_chosen, set_up_local, tear_down),
        cmocka_unit_test_setup_teardown(what_no_node_can_give_is_refused, set_up_local, tear_down),
        cmocka_unit_test_setup_teardown(the_scheduler_chooses_again_when_the_node_will_not_do, set_up_local, tear_down),
        cmocka_unit_test_setup_teardown(a_released_volume_is_deleted_and_waits_for_its_node, set_up_local, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
