/* StatefulSet plans: order, claims, rolling updates with a partition, scaling down. */
#include "tests/support/kcm_world.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

static void put_set(struct kcm_world *world, int replicas, const char *image, const char *extra)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    const struct k8s_stateful_set *old = world_get(world, &k8s_statefulsets_resource, "d", "db");
    KP_AUTO_FREE char *yaml = kp_asprintf("{metadata: {name: db, namespace: d, uid: set1}, spec: {replicas: %d, serviceName: svc, %s selector: {matchLabels: {app: db}}, "
                                          "volumeClaimTemplates: [{metadata: {name: data}, spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}}], "
                                          "template: {metadata: {labels: {app: db}}, spec: {containers: [{name: c, image: %s}]}}}}", replicas, extra, image);
    struct kp_error error = {0};
    void *set;
    assert_int_equal(kp_yaml_decode(&k8s_stateful_set_type, yaml, strlen(yaml), arena, NULL, &set, &error), 0);
    kp_object_default(&k8s_stateful_set_type, set, arena);
    if (old)
        ((struct k8s_stateful_set *)set)->status = old->status;
    client_informer_inject(engine_cache(world->engine, &k8s_statefulsets_resource), set);
}

static void make_ready(struct kcm_world *world, const char *name)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    struct k8s_pod *pod = KP_OBJECT_CLONE(arena, k8s_pod, world_get(world, &k8s_pods_resource, "d", name));
    struct k8s_pod_condition *ready = KP_LIST_ADD(arena, &pod->status->conditions);
    ready->type = "Ready";
    ready->status = "True";
    pod->status->phase = "Running";
    client_informer_inject(engine_cache(world->engine, &k8s_pods_resource), pod);
}

static void step(struct kcm_world *world)
{
    assert_null(strstr(world_plan(world, &statefulset_controller, "d/db"), "error:"));
    world_apply(world);
}

static struct kcm_world *with_pods(int replicas)
{
    static const struct controller *const controller = &statefulset_controller;
    struct kcm_world *world = world_new(&controller, 1, NULL);
    put_set(world, replicas, "v1", "");
    step(world); /* the revision */
    for (int i = 0; i < replicas; i++) {
        char name[16];
        snprintf(name, sizeof(name), "db-%d", i);
        step(world);
        make_ready(world, name);
    }
    step(world);
    return world;
}

static void pods_come_in_order_each_with_its_claim(void **state)
{
    (void)state;
    static const struct controller *const controller = &statefulset_controller;
    struct kcm_world *world = world_new(&controller, 1, NULL);
    put_set(world, 2, "v1", "");
    step(world);
    step(world);
    assert_int_equal(world_count(world, "create persistentvolumeclaims d/data-db-0"), 1);
    assert_int_equal(world_count(world, "create pods d/db-0"), 1);
    assert_int_equal(world_count(world, "create pods"), 1);
    const struct k8s_pod *pod = world_written(world, PLAN_CREATE, &k8s_pods_resource, 0);
    assert_string_equal(pod->spec->hostname, "db-0");
    assert_string_equal(pod->spec->subdomain, "svc");
    assert_string_equal(pod->spec->volumes.items[0].persistent_volume_claim->claim_name, "data-db-0");
    world_plan(world, &statefulset_controller, "d/db");
    assert_int_equal(world_count(world, "create"), 0); /* db-0 is not ready yet */
    make_ready(world, "db-0");
    step(world);
    assert_int_equal(world_count(world, "create pods d/db-1"), 1);
    world_remove(world, &k8s_pods_resource, "d", "db-0"); /* comes back, its claim is still there */
    step(world);
    assert_int_equal(world_count(world, "create pods d/db-0"), 1);
    assert_int_equal(world_count(world, "create persistentvolumeclaims"), 0);
    world_free(world);
}

static void parallel_pods_come_at_once(void **state)
{
    (void)state;
    static const struct controller *const controller = &statefulset_controller;
    struct kcm_world *world = world_new(&controller, 1, NULL);
    put_set(world, 3, "v1", "podManagementPolicy: Parallel, ");
    step(world);
    step(world);
    assert_int_equal(world_count(world, "create pods"), 3);
    world_free(world);
}

static void the_highest_ordinal_goes_first(void **state)
{
    (void)state;
    struct kcm_world *world = with_pods(3);
    put_set(world, 1, "v1", "");
    step(world);
    assert_int_equal(world_count(world, "delete pods d/db-2"), 1);
    assert_int_equal(world_count(world, "delete"), 1);
    step(world);
    assert_int_equal(world_count(world, "delete pods d/db-1"), 1);
    step(world);
    assert_int_equal(world_count(world, "delete"), 0);
    world_free(world);
}

static void an_update_rolls_down_to_the_partition(void **state)
{
    (void)state;
    struct kcm_world *world = with_pods(3);
    put_set(world, 3, "v2", "updateStrategy: {type: RollingUpdate, rollingUpdate: {partition: 1}}, ");
    step(world); /* the revision */
    step(world);
    assert_int_equal(world_count(world, "delete pods d/db-2"), 1);
    assert_int_equal(world_count(world, "delete"), 1);
    step(world);
    assert_int_equal(world_count(world, "create pods d/db-2"), 1);
    step(world);
    assert_int_equal(world_count(world, "delete"), 0); /* waits for db-2 */
    make_ready(world, "db-2");
    step(world);
    assert_int_equal(world_count(world, "delete pods d/db-1"), 1);
    step(world);
    make_ready(world, "db-1");
    step(world);
    assert_int_equal(world_count(world, "delete"), 0);
    world_remove(world, &k8s_pods_resource, "d", "db-0"); /* below the partition: made of the old template */
    step(world);
    const struct k8s_pod *pod = world_written(world, PLAN_CREATE, &k8s_pods_resource, 0);
    assert_string_equal(pod->spec->containers.items[0].image, "v1");
    make_ready(world, "db-0");
    put_set(world, 3, "v2", "");
    step(world);
    assert_int_equal(world_count(world, "delete pods d/db-0"), 1);
    step(world);
    make_ready(world, "db-0");
    step(world);
    const struct k8s_stateful_set *set = world_get(world, &k8s_statefulsets_resource, "d", "db");
    assert_string_equal(set->status->current_revision, set->status->update_revision);
    assert_int_equal(set->status->updated_replicas, 3);
    assert_string_equal(world_plan(world, &statefulset_controller, "d/db"), "");
    world_free(world);
}

static const struct k8s_owner_reference *owner_of_claim(struct kcm_world *world, const char *name)
{
    const struct k8s_persistent_volume_claim *claim = world_get(world, &k8s_persistentvolumeclaims_resource, "d", name);
    return claim->metadata->owner_references.len ? &claim->metadata->owner_references.items[0] : NULL;
}

static void claims_belong_to_whom_the_policy_says(void **state)
{
    (void)state;
    struct kcm_world *world = with_pods(2);
    assert_null(owner_of_claim(world, "data-db-0")); /* retained */
    put_set(world, 2, "v1", "persistentVolumeClaimRetentionPolicy: {whenDeleted: Delete, whenScaled: Delete}, ");
    step(world);
    assert_string_equal(owner_of_claim(world, "data-db-1")->kind, "StatefulSet");
    assert_true(owner_of_claim(world, "data-db-1")->controller);
    assert_string_equal(world_plan(world, &statefulset_controller, "d/db"), "");
    put_set(world, 1, "v1", "persistentVolumeClaimRetentionPolicy: {whenDeleted: Delete, whenScaled: Delete}, ");
    step(world); /* the claim goes with its pod */
    assert_true(strstr(world->text.data, "update persistentvolumeclaims d/data-db-1\n") < strstr(world->text.data, "delete pods d/db-1\n"));
    assert_string_equal(owner_of_claim(world, "data-db-1")->kind, "Pod");
    assert_string_equal(owner_of_claim(world, "data-db-0")->kind, "StatefulSet");
    put_set(world, 2, "v1", "persistentVolumeClaimRetentionPolicy: {whenDeleted: Delete, whenScaled: Delete}, ");
    step(world); /* wanted again, but the earlier pod's claim is still going */
    assert_int_equal(world_count(world, "create"), 0);
    assert_int_equal(world_count(world, "requeue after 1000 ms"), 1);
    world_remove(world, &k8s_persistentvolumeclaims_resource, "d", "data-db-1");
    step(world);
    assert_int_equal(world_count(world, "create persistentvolumeclaims d/data-db-1"), 1);
    put_set(world, 2, "v1", "");
    step(world);
    assert_null(owner_of_claim(world, "data-db-0"));
    world_free(world);
}

static void a_claim_of_another_controller_is_left_to_it(void **state)
{
    (void)state;
    struct kcm_world *world = with_pods(1);
    world_put(world, &k8s_persistentvolumeclaims_resource, "{metadata: {name: data-db-0, namespace: d, uid: u, ownerReferences: [{apiVersion: x/v1, kind: Backup, name: b, uid: "
                                                           "b1, controller: true}]}, spec: {}}");
    assert_string_equal(world_plan(world, &statefulset_controller, "d/db"), "");
    put_set(world, 1, "v1", "persistentVolumeClaimRetentionPolicy: {whenDeleted: Delete, whenScaled: Retain}, ");
    assert_string_equal(world_plan(world, &statefulset_controller, "d/db"),
                        "event d/db Warning ConflictingController: PersistentVolumeClaim data-db-0 has a conflicting OwnerReference that acts as a manging "
                        "controller, the retention policy is ignored for this claim\n");
    world_free(world);
}

static void a_pod_waits_for_a_claim_that_is_going(void **state)
{
    (void)state;
    struct kcm_world *world = with_pods(1);
    world_put(world, &k8s_persistentvolumeclaims_resource, "{metadata: {name: data-db-0, namespace: d, uid: c0, deletionTimestamp: '2026-01-01T00:00:00Z', "
                                                           "finalizers: [kubernetes.io/pvc-protection]}, spec: {}}");
    world_remove(world, &k8s_pods_resource, "d", "db-0");
    step(world);
    assert_int_equal(world_count(world, "create pods"), 0);
    world_remove(world, &k8s_persistentvolumeclaims_resource, "d", "data-db-0");
    step(world);
    assert_int_equal(world_count(world, "create persistentvolumeclaims d/data-db-0"), 1);
    assert_int_equal(world_count(world, "create pods"), 1);
    /* It went all the same: the pod, which cannot be placed without, gets another. */
    world_put(world, &k8s_pods_resource, "{metadata: {name: db-0, namespace: d, uid: p0, labels: {app: db}, ownerReferences: [{apiVersion: apps/v1, kind: StatefulSet, name: db, "
                                         "uid: set1, controller: true}]}, spec: {containers: [{name: c, image: v1}]}, status: {phase: Pending}}");
    world_remove(world, &k8s_persistentvolumeclaims_resource, "d", "data-db-0");
    step(world);
    assert_int_equal(world_count(world, "create persistentvolumeclaims d/data-db-0"), 1);
    world_free(world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pods_come_in_order_each_with_its_claim),
        cmocka_unit_test(parallel_pods_come_at_once),
        cmocka_unit_test(the_highest_ordinal_goes_first),
        cmocka_unit_test(an_update_rolls_down_to_the_partition),
        cmocka_unit_test(claims_belong_to_whom_the_policy_says),
        cmocka_unit_test(a_claim_of_another_controller_is_left_to_it),
        cmocka_unit_test(a_pod_waits_for_a_claim_that_is_going),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
