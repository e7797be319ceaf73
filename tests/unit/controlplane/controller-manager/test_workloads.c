/* ReplicaSet, Deployment and DaemonSet plans. */
#include "tests/support/kcm_world.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#define RS "{metadata: {name: web, namespace: d, uid: rs1, generation: 1}, spec: {replicas: %d, selector: {matchLabels: {app: web}}, " \
           "template: {metadata: {labels: {app: web}}, spec: {containers: [{name: c, image: i}]}}}}"
#define OWNED "ownerReferences: [{apiVersion: apps/v1, kind: ReplicaSet, name: web, uid: rs1, controller: true}]"
#define READY "conditions: [{type: Ready, status: 'True', lastTransitionTime: '1970-01-12T00:00:00Z'}]"

static void put_rs(struct kcm_world *world, int replicas)
{
    KP_AUTO_FREE char *yaml = kp_asprintf(RS, replicas);
    world_put(world, &k8s_replicasets_resource, yaml);
}

static void put_pod(struct kcm_world *world, const char *name, const char *meta, const char *spec, const char *status)
{
    KP_AUTO_FREE char *yaml = kp_asprintf("{metadata: {name: %s, namespace: d, uid: u-%s%s%s}, spec: {%scontainers: [{name: c}]}, status: {%s}}", name,
                                          name, meta[0] ? ", " : "", meta, spec, status);
    world_put(world, &k8s_pods_resource, yaml);
}

static struct kcm_world *new_world(void)
{
    static const struct controller *const all[] = {&deployment_controller, &replicaset_controller, &replicationcontroller_controller, &daemonset_controller};
    return world_new(all, KP_ARRAY_LEN(all), NULL);
}

static void a_replicaset_creates_what_is_missing(void **state)
{
    (void)state;
    struct kcm_world *world = new_world();
    put_rs(world, 2);
    assert_string_equal(world_plan(world, &replicaset_controller, "d/web"),
                        "create pods d/web-\nevent-on-failure d/web\nevent d/web Normal SuccessfulCreate: Created pod: \n"
                        "create pods d/web-\nevent-on-failure d/web\nevent d/web Normal SuccessfulCreate: Created pod: \n"
                        "update replicasets/status d/web\n");
    const struct k8s_pod *pod = world_written(world, PLAN_CREATE, &k8s_pods_resource, 0);
    assert_string_equal(pod->metadata->owner_references.items[0].uid, "rs1");
    world_apply(world);
    world_plan(world, &replicaset_controller, "d/web");
    assert_int_equal(world_count(world, "create"), 0);
    const struct k8s_replica_set *set = world_written(world, PLAN_UPDATE, &k8s_replicasets_resource, 0);
    assert_int_equal(set->status->replicas, 2);
    assert_int_equal(set->status->ready_replicas, 0);
    world_apply(world);
    assert_string_equal(world_plan(world, &replicaset_controller, "d/web"), ""); /* nothing changes: nothing is written */
    world_free(world);
}

static void a_replicaset_gives_up_the_least_useful_pods(void **state)
{
    (void)state;
    struct kcm_world *world = new_world();
    put_rs(world, 1);
    put_pod(world, "ready-old", "labels: {app: web}, " OWNED, "nodeName: n1, ", "phase: Running, " READY);
    put_pod(world, "cheap", "annotations: {controller.kubernetes.io/pod-deletion-cost: '-5'}, labels: {app: web}, " OWNED, "nodeName: n2, ", "phase: Running, " READY);
    put_pod(world, "notready", "labels: {app: web}, " OWNED, "nodeName: n3, ", "phase: Running");
    put_pod(world, "unbound", "labels: {app: web}, " OWNED, "", "phase: Pending");
    put_pod(world, "done", "labels: {app: web}, " OWNED, "nodeName: n1, ", "phase: Failed");
    world_plan(world, &replicaset_controller, "d/web");
    assert_non_null(strstr(world->text.data, "delete pods d/unbound\nevent d/web Normal SuccessfulDelete: Deleted pod: unbound\ndelete pods d/notready\n"));
    assert_non_null(strstr(world->text.data, "delete pods d/cheap\n"));
    assert_int_equal(world_count(world, "delete pods"), 3);
    world_free(world);
}

static void a_replicaset_adopts_and_releases(void **state)
{
    (void)state;
    struct kcm_world *world = new_world();
    put_rs(world, 1);
    put_pod(world, "stray", "labels: {app: web}", "", "phase: Running");
    put_pod(world, "relabelled", "labels: {app: other}, " OWNED, "", "phase: Running");
    put_pod(world, "foreign", "labels: {app: web}, ownerReferences: [{apiVersion: v1, kind: X, name: yy, uid: zz, controller: true}]", "", "phase: Running");
    world_plan(world, &replicaset_controller, "d/web");
    assert_int_equal(world_count(world, "patch pods d/relabelled {\"metadata\":{\"ownerReferences\":[{\"$patch\":\"delete\",\"uid\":\"rs1\"}]"), 1);
    assert_int_equal(world_count(world, "patch pods d/stray {\"metadata\":{\"ownerReferences\":[{\"apiVersion\":\"apps/v1\",\"kind\":\"ReplicaSet\""), 1);
    assert_int_equal(world_count(world, "patch"), 2);
    assert_int_equal(world_count(world, "create"), 0);
    world_free(world);
}

static void min_ready_seconds_delay_availability(void **state)
{
    (void)state;
    struct kcm_world *world = new_world();
    world_put(world, &k8s_replicasets_resource, "{metadata: {name: web, namespace: d, uid: rs1}, spec: {minReadySeconds: 30, replicas: 1, selector: {matchLabels: "
              "{app: web}}, template: {metadata: {labels: {app: web}}, spec: {containers: [{name: c}]}}}}");
    world->now_s = 11 * 86400 + 10; /* READY is since day 11 */
    put_pod(world, "p", "labels: {app: web}, " OWNED, "nodeName: n1, ", "phase: Running, " READY);
    assert_non_null(strstr(world_plan(world, &replicaset_controller, "d/web"), "requeue after 20000 ms"));
    const struct k8s_replica_set *set = world_written(world, PLAN_UPDATE, &k8s_replicasets_resource, 0);
    assert_int_equal(set->status->ready_replicas, 1);
    assert_int_equal(set->status->available_replicas, 0);
    world->now_s += 20;
    world_plan(world, &replicaset_controller, "d/web");
    set = world_written(world, PLAN_UPDATE, &k8s_replicasets_resource, 0);
    assert_int_equal(set->status->available_replicas, 1);
    world_free(world);
}

/* ---- Deployment ---- */
static void put_deployment(struct kcm_world *world, const char *image, int replicas, const char *extra)
{
    const struct k8s_deployment *old = world_get(world, &k8s_deployments_resource, "d", "web");
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    KP_AUTO_FREE char *yaml = kp_asprintf("{metadata: {name: web, namespace: d, uid: dep1, generation: %d}, spec: {replicas: %d, %s selector: {matchLabels: {app: web}}, "
                                          "template: {metadata: {labels: {app: web}}, spec: {containers: [{name: c, image: %s}]}}}}",
                                          old ? (int)old->metadata->generation + 1 : 1, replicas, extra, image);
    struct kp_error error = {0};
    void *decoded;
    assert_int_equal(kp_yaml_decode(&k8s_deployment_type, yaml, strlen(yaml), arena, NULL, &decoded, &error), 0);
    kp_object_default(&k8s_deployment_type, decoded, arena);
    if (old)
        ((struct k8s_deployment *)decoded)->status = old->status;
    client_informer_inject(engine_cache(world->engine, &k8s_deployments_resource), decoded);
}

/* All pods of a set exist and are ready, but for `unready` of them. */
static void settle(struct kcm_world *world, const char *name, int unready)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    struct k8s_replica_set *set = KP_OBJECT_CLONE(arena, k8s_replica_set, world_get(world, &k8s_replicasets_resource, "d", name));
    set->status->replicas = set->spec->replicas;
    set->status->ready_replicas = set->status->available_replicas = KP_MAX(0, set->spec->replicas - unready);
    set->status->observed_generation = set->metadata->generation;
    client_informer_inject(engine_cache(world->engine, &k8s_replicasets_resource), set);
}

static const char *set_of_image(struct kcm_world *world, const char *image, struct kp_arena *arena)
{
    const void *const *sets;
    size_t n = client_view_list(world->view, engine_cache(world->engine, &k8s_replicasets_resource), "d", &sets);
    for (size_t i = 0; i < n; i++) {
        const struct k8s_replica_set *set = sets[i];
        if (kp_streq(set->spec->template->spec->containers.items[0].image, image))
            return kp_arena_strdup(arena, set->metadata->name);
    }
    return "none";
}

static int size_of(struct kcm_world *world, const char *name)
{
    const struct k8s_replica_set *set = world_get(world, &k8s_replicasets_resource, "d", name);
    return set ? set->spec->replicas : -1;
}

static void plan_and_apply(struct kcm_world *world, int times)
{
    for (int i = 0; i < times; i++) {
        world_plan(world, &deployment_controller, "d/web");
        assert_null(strstr(world->text.data ? world->text.data : "", "error:"));
        world_apply(world);
    }
}

static const struct k8s_deployment_condition *condition_of(struct kcm_world *world, const char *type)
{
    const struct k8s_deployment *deployment = world_get(world, &k8s_deployments_resource, "d", "web");
    for (size_t i = 0; i < deployment->status->conditions.len; i++)
        if (kp_streq(deployment->status->conditions.items[i].type, type))
            return &deployment->status->conditions.items[i];
    return NULL;
}

static struct kcm_world *rolled_out(int replicas, const char *extra, struct kp_arena *arena, const char **ret_v1)
{
    struct kcm_world *world = new_world();
    put_deployment(world, "v1", replicas, extra);
    plan_and_apply(world, 2);
    *ret_v1 = set_of_image(world, "v1", arena);
    settle(world, *ret_v1, 0);
    plan_and_apply(world, 2);
    return world;
}

static void a_deployment_rolls_within_surge_and_unavailable(void **state)
{
    (void)state;
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    const char *v1;
    struct kcm_world *world = rolled_out(10, "", arena, &v1); /* 25 %: surge 3, unavailable 2 */
    assert_int_equal(size_of(world, v1), 10);
    assert_string_equal(condition_of(world, "Progressing")->reason, "NewReplicaSetAvailable");
    assert_string_equal(condition_of(world, "Available")->status, "True");
    assert_string_equal(world_plan(world, &deployment_controller, "d/web"), "patch deployments d/web {\"metadata\":{\"annotations\":{\"deployment.kubernetes.io/revision\":\"1\"}}}\n");
    put_deployment(world, "v2", 10, "");
    plan_and_apply(world, 1);
    const char *v2 = set_of_image(world, "v2", arena);
    assert_int_equal(size_of(world, v2), 3); /* 13 in all at most */
    assert_string_equal(condition_of(world, "Progressing")->reason, "NewReplicaSetCreated");
    const struct k8s_replica_set *set = world_get(world, &k8s_replicasets_resource, "d", v2);
    assert_string_equal(kp_string_map_get(&set->metadata->annotations, "deployment.kubernetes.io/revision"), "2");
    assert_string_equal(kp_string_map_get(&set->metadata->annotations, "deployment.kubernetes.io/max-replicas"), "13");
    plan_and_apply(world, 2);
    assert_int_equal(size_of(world, v1), 8); /* 8 available at least */
    settle(world, v1, 0);
    plan_and_apply(world, 3);
    assert_int_equal(size_of(world, v2), 5);
    assert_int_equal(size_of(world, v1), 8); /* new ones are not available yet */
    for (int i = 0; i < 12 && size_of(world, v1) > 0; i++) {
        settle(world, v1, 0);
        settle(world, v2, 0);
        plan_and_apply(world, 1);
        assert_true(size_of(world, v1) + size_of(world, v2) <= 13);
    }
    assert_int_equal(size_of(world, v1), 0);
    assert_int_equal(size_of(world, v2), 10);
    world_free(world);
}

static void a_rollback_takes_the_old_set_and_a_new_revision(void **state)
{
    (void)state;
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    const char *v1;
    struct kcm_world *world = rolled_out(1, "strategy: {type: RollingUpdate, rollingUpdate: {maxSurge: 1, maxUnavailable: 0}},", arena, &v1);
    put_deployment(world, "v2", 1, "strategy: {type: RollingUpdate, rollingUpdate: {maxSurge: 1, maxUnavailable: 0}},");
    plan_and_apply(world, 1);
    const char *v2 = set_of_image(world, "v2", arena);
    for (int i = 0; i < 4; i++) {
        settle(world, v1, 0);
        settle(world, v2, 0);
        plan_and_apply(world, 1);
    }
    assert_int_equal(size_of(world, v1), 0);
    world->now_s += 100000; /* long after the roll-out: going back must not count as timed out */
    put_deployment(world, "v1", 1, "strategy: {type: RollingUpdate, rollingUpdate: {maxSurge: 1, maxUnavailable: 0}},");
    plan_and_apply(world, 2);
    assert_string_equal(condition_of(world, "Progressing")->status, "True");
    assert_int_equal(size_of(world, v1), 1);
    const struct k8s_replica_set *set = world_get(world, &k8s_replicasets_resource, "d", v1);
    assert_string_equal(kp_string_map_get(&set->metadata->annotations, "deployment.kubernetes.io/revision"), "3");
    assert_string_equal(kp_string_map_get(&set->metadata->annotations, "deployment.kubernetes.io/revision-history"), "1");
    world_free(world);
}

static void recreate_waits_until_old_pods_are_gone(void **state)
{
    (void)state;
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    const char *v1;
    struct kcm_world *world = rolled_out(2, "strategy: {type: Recreate},", arena, &v1);
    const struct k8s_replica_set *set = world_get(world, &k8s_replicasets_resource, "d", v1);
    KP_AUTO_FREE char *meta = kp_asprintf("labels: {app: web}, ownerReferences: [{apiVersion: apps/v1, kind: ReplicaSet, name: %s, uid: %s, controller: true}]", v1, set->metadata->uid);
    put_pod(world, "old", meta, "nodeName: n9, ", "phase: Running");
    put_deployment(world, "v2", 2, "strategy: {type: Recreate},");
    plan_and_apply(world, 1);
    assert_int_equal(size_of(world, v1), 0);
    settle(world, v1, 0);
    plan_and_apply(world, 2);
    assert_string_equal(set_of_image(world, "v2", arena), "none"); /* the old pod still runs */
    assert_string_equal(condition_of(world, "Available")->status, "False");
    world_remove(world, &k8s_pods_resource, "d", "old");
    plan_and_apply(world, 1);
    assert_int_equal(size_of(world, set_of_image(world, "v2", arena)), 2);
    world_free(world);
}

static void a_paused_deployment_scales_but_does_not_roll(void **state)
{
    (void)state;
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    const char *v1;
    struct kcm_world *world = rolled_out(2, "", arena, &v1);
    put_deployment(world, "v2", 5, "paused: true,");
    plan_and_apply(world, 2);
    assert_string_equal(set_of_image(world, "v2", arena), "none");
    assert_int_equal(size_of(world, v1), 5);
    assert_string_equal(condition_of(world, "Progressing")->reason, "DeploymentPaused");
    world_free(world);
}

static void scaling_in_mid_rollout_is_proportional(void **state)
{
    (void)state;
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    const char *v1;
    const char *strategy = "strategy: {type: RollingUpdate, rollingUpdate: {maxSurge: 3, maxUnavailable: 2}},";
    struct kcm_world *world = rolled_out(10, strategy, arena, &v1);
    put_deployment(world, "v2", 10, strategy);
    plan_and_apply(world, 2);
    settle(world, v1, 0);
    plan_and_apply(world, 2);
    const char *v2 = set_of_image(world, "v2", arena);
    assert_int_equal(size_of(world, v1), 8);
    assert_int_equal(size_of(world, v2), 5);
    put_deployment(world, "v2", 15, strategy); /* the documentation's example: 10 + 3 becomes 15 + 3, five more: 3 and 2 */
    plan_and_apply(world, 1);
    assert_int_equal(size_of(world, v1), 11);
    assert_int_equal(size_of(world, v2), 7);
    world_free(world);
}

static void old_sets_beyond_the_history_limit_go(void **state)
{
    (void)state;
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    const char *v1;
    struct kcm_world *world = rolled_out(1, "revisionHistoryLimit: 1,", arena, &v1);
    const char *images[] = {"v2", "v3"}, *last = v1;
    for (size_t i = 0; i < 2; i++) {
        put_deployment(world, images[i], 1, "revisionHistoryLimit: 1,");
        plan_and_apply(world, 1);
        const char *now = set_of_image(world, images[i], arena);
        for (int k = 0; k < 5; k++) {
            settle(world, last, 0);
            settle(world, now, 0);
            plan_and_apply(world, 1);
        }
        last = now;
    }
    assert_int_equal(size_of(world, v1), -1);
    assert_int_equal(size_of(world, set_of_image(world, "v2", arena)), 0);
    world_free(world);
}

static void a_stuck_rollout_passes_its_deadline(void **state)
{
    (void)state;
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    const char *v1;
    struct kcm_world *world = rolled_out(1, "progressDeadlineSeconds: 60,", arena, &v1);
    put_deployment(world, "v2", 1, "progressDeadlineSeconds: 60,");
    plan_and_apply(world, 2);
    assert_true(world_count(world, "requeue after 6") == 1);
    settle(world, set_of_image(world, "v2", arena), 1);
    plan_and_apply(world, 1);
    world->now_s += 62;
    plan_and_apply(world, 1);
    assert_string_equal(condition_of(world, "Progressing")->status, "False");
    assert_string_equal(condition_of(world, "Progressing")->reason, "ProgressDeadlineExceeded");
    settle(world, set_of_image(world, "v2", arena), 0);
    plan_and_apply(world, 1);
    assert_string_equal(condition_of(world, "Progressing")->status, "True");
    world_free(world);
}

/* ---- DaemonSet ---- */
#define DS(image) "{metadata: {name: ds, namespace: d, uid: ds1, generation: 1}, spec: {selector: {matchLabels: {app: ds}}, template: {metadata: {labels: {app: ds}}, " \
                  "spec: {nodeSelector: {role: w}, tolerations: [{key: node.kubernetes.io/not-ready, operator: Exists, effect: NoExecute, tolerationSeconds: 5}], " \
                  "containers: [{name: c, image: " image "}]}}}}"

static void a_daemonset_runs_on_every_node_that_fits(void **state)
{
    (void)state;
    struct kcm_world *world = new_world();
    world_put(world, &k8s_nodes_resource, "{metadata: {name: w1, labels: {role: w}}, spec: {unschedulable: true, taints: [{key: node.kubernetes.io/unschedulable, effect: NoSchedule}]}}");
    world_put(world, &k8s_nodes_resource, "{metadata: {name: w2, labels: {role: w}}}");
    world_put(world, &k8s_nodes_resource, "{metadata: {name: w3, labels: {role: w}}, spec: {taints: [{key: gpu, effect: NoSchedule}]}}");
    world_put(world, &k8s_nodes_resource, "{metadata: {name: other}}");
    world_put(world, &k8s_daemonsets_resource, DS("v1"));
    assert_int_equal(strncmp(world_plan(world, &daemonset_controller, "d/ds"), "create controllerrevisions d/ds-", 32), 0);
    world_apply(world);
    world_plan(world, &daemonset_controller, "d/ds");
    assert_int_equal(world_count(world, "create pods"), 2); /* w1 in spite of cordoning, w2 */
    const struct k8s_pod *pod = world_written(world, PLAN_CREATE, &k8s_pods_resource, 0);
    assert_string_equal(pod->spec->affinity->node_affinity->required_during_scheduling_ignored_during_execution->node_selector_terms.items[0].match_fields.items[0].values.items[0], "w1");
    for (size_t i = 0; i < pod->spec->tolerations.len; i++)
        assert_false(pod->spec->tolerations.items[i].has_toleration_seconds);
    const struct k8s_daemon_set *set = world_written(world, PLAN_UPDATE, &k8s_daemonsets_resource, 0);
    assert_int_equal(set->status->desired_number_scheduled, 2);
    world_apply(world);
    world_plan(world, &daemonset_controller, "d/ds");
    assert_int_equal(world_count(world, "create"), 0);
    /* a node that stops matching loses its pod */
    world_apply(world);
    world_put(world, &k8s_nodes_resource, "{metadata: {name: w2}}");
    world_plan(world, &daemonset_controller, "d/ds");
    assert_int_equal(world_count(world, "delete pods"), 1);
    world_free(world);
}

static void a_daemonset_rolls_one_node_at_a_time(void **state)
{
    (void)state;
    struct kcm_world *world = new_world();
    world_put(world, &k8s_nodes_resource, "{metadata: {name: w1, labels: {role: w}}}");
    world_put(world, &k8s_nodes_resource, "{metadata: {name: w2, labels: {role: w}}}");
    world_put(world, &k8s_daemonsets_resource, DS("v1"));
    world_plan(world, &daemonset_controller, "d/ds");
    world_apply(world);
    const char *owner = "ownerReferences: [{apiVersion: apps/v1, kind: DaemonSet, name: ds, uid: ds1, controller: true}]";
    KP_AUTO_FREE char *meta = kp_asprintf("labels: {app: ds, controller-revision-hash: old}, %s", owner);
    put_pod(world, "p1", meta, "nodeName: w1, ", "phase: Running, " READY);
    put_pod(world, "p2", meta, "nodeName: w2, ", "phase: Running, " READY);
    world_plan(world, &daemonset_controller, "d/ds");
    assert_int_equal(world_count(world, "delete pods"), 1);
    put_pod(world, "p2", meta, "nodeName: w2, ", "phase: Running"); /* sick old pods cost nothing: both go */
    world_plan(world, &daemonset_controller, "d/ds");
    assert_int_equal(world_count(world, "delete pods d/p2"), 1);
    assert_int_equal(world_count(world, "delete pods"), 1); /* p1 must stay: p2's node has nothing available */
    world_free(world);
}

static void of_two_daemon_pods_on_a_node_the_younger_goes(void **state)
{
    (void)state;
    struct kcm_world *world = new_world();
    world_put(world, &k8s_nodes_resource, "{metadata: {name: w1, labels: {role: w}}}");
    world_put(world, &k8s_daemonsets_resource, DS("v1"));
    world_plan(world, &daemonset_controller, "d/ds");
    world_apply(world);
    const char *owner = "labels: {app: ds}, ownerReferences: [{apiVersion: apps/v1, kind: DaemonSet, name: ds, uid: ds1, controller: true}]";
    KP_AUTO_FREE char *young = kp_asprintf("creationTimestamp: '2020-01-01T00:00:09Z', %s", owner);
    KP_AUTO_FREE char *old = kp_asprintf("creationTimestamp: '2020-01-01T00:00:01Z', %s", owner);
    put_pod(world, "a", young, "nodeName: w1, ", "phase: Running, " READY);
    put_pod(world, "b", old, "nodeName: w1, ", "phase: Running, " READY);
    world_plan(world, &daemonset_controller, "d/ds");
    assert_true(kp_starts_with(world->text.data, "delete pods d/a\n"));
    world_free(world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_replicaset_creates_what_is_missing),
        cmocka_unit_test(a_replicaset_gives_up_the_least_useful_pods),
        cmocka_unit_test(a_replicaset_adopts_and_releases),
        cmocka_unit_test(min_ready_seconds_delay_availability),
        cmocka_unit_test(a_deployment_rolls_within_surge_and_unavailable),
        cmocka_unit_test(a_rollback_takes_the_old_set_and_a_new_revision),
        cmocka_unit_test(recreate_waits_until_old_pods_are_gone),
        cmocka_unit_test(a_paused_deployment_scales_but_does_not_roll),
        cmocka_unit_test(scaling_in_mid_rollout_is_proportional),
        cmocka_unit_test(old_sets_beyond_the_history_limit_go),
        cmocka_unit_test(a_stuck_rollout_passes_its_deadline),
        cmocka_unit_test(a_daemonset_runs_on_every_node_that_fits),
        cmocka_unit_test(a_daemonset_rolls_one_node_at_a_time),
        cmocka_unit_test(of_two_daemon_pods_on_a_node_the_younger_goes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
