/* ReplicaSets and ReplicationControllers: keep the wanted number of matching pods. One plan serves both kinds. */
#include "controlplane/controller-manager/claim.h"
#include "controlplane/controller-manager/controllers.h"

#define REPLICAS_BURST_MAX 500 /* upstream's BurstReplicas: creates or deletes of one sync */

/* What the two kinds have in common, picked out of either. */
struct replicas {
    const struct kp_resource *resource;
    const struct kp_type *type;
    const struct k8s_object_meta *meta;
    int32_t wanted, min_ready_s;
    const struct k8s_pod_template_spec *template;
    struct kp_selector selector;
};

struct counts {
    int32_t total, labeled, ready, available, terminating;
};

static bool template_labels_match(const struct replicas *rs, const struct k8s_pod *pod)
{
    for (size_t i = 0; i < rs->template->metadata->labels.len; i++) {
        const struct kp_string_pair *pair = &rs->template->metadata->labels.items[i];
        if (!kp_streq(kp_string_map_get(&pod->metadata->labels, pair->key), pair->value))
            return false;
    }
    return true;
}

static struct counts count(const struct plan_input *in, struct plan *plan, const struct replicas *rs,
                           const struct k8s_pod *const *pods, size_t n)
{
    struct counts counts = {0};
    for (size_t i = 0; i < n; i++) {
        if (!engine_pod_is_active(pods[i])) {
            counts.terminating += pods[i]->metadata->deletion_timestamp.set && !engine_pod_is_terminal(pods[i]);
            continue;
        }
        counts.total++;
        counts.labeled += template_labels_match(rs, pods[i]);
        int64_t since_s = engine_pod_ready_since_s(pods[i]);
        if (!engine_pod_is_ready(pods[i]))
            continue;
        counts.ready++;
        int64_t wait_s = rs->min_ready_s - (in->now_s - since_s);
        if (rs->min_ready_s == 0 || wait_s <= 0)
            counts.available++;
        else
            plan_requeue_after_ms(plan, wait_s * 1000); /* nothing else tells that minReadySeconds have passed */
    }
    return counts;
}

/* How many pods of this set share each pod's node: giving up the crowded ones first spreads the rest. */
static int *ranks_of(const struct plan_input *in, const struct k8s_pod **pods, size_t n)
{
    int *ranks = KP_NEW_ARRAY(in->arena, int, n + 1);
    for (size_t i = 0; i < n; i++)
        for (size_t k = 0; k < n; k++)
            ranks[i] += !kp_empty(pods[i]->spec->node_name) && kp_streq(pods[i]->spec->node_name, pods[k]->spec->node_name);
    return ranks;
}

static void reconcile_pods(const struct plan_input *in, struct plan *plan, const struct replicas *rs, const void *owner,
                           const struct k8s_pod *const *pods, size_t n)
{
    const struct k8s_pod **active = KP_NEW_ARRAY(in->arena, const struct k8s_pod *, n + 1);
    size_t n_active = 0;
    for (size_t i = 0; i < n; i++)
        if (engine_pod_is_active(pods[i]))
            active[n_active++] = pods[i];
    int64_t diff = (int64_t)n_active - rs->wanted;
    if (diff < 0) {
        const struct k8s_pod *pod = pod_from_template(in->arena, rs->template, rs->type, rs->meta);
        for (int64_t i = 0; i < KP_MIN(-diff, (int64_t)REPLICAS_BURST_MAX); i++) {
            plan_create(plan, &k8s_pods_resource, in->ns, pod);
            plan_event_on_failure(plan, rs->type, owner, "FailedCreate", "Error creating: ");
            plan_event_created(plan, rs->type, owner, "SuccessfulCreate", "Created pod: ");
        }
        if (-diff > REPLICAS_BURST_MAX)
            plan_requeue_after_ms(plan, 0);
    } else if (diff > 0) {
        pods_sort_for_deletion(active, n_active, ranks_of(in, active, n_active), in->arena);
        size_t surplus = (size_t)KP_MIN(diff, (int64_t)REPLICAS_BURST_MAX);
        for (size_t i = 0; i < surplus; i++) {
            plan_delete(plan, &k8s_pods_resource, in->ns, active[i]->metadata->name, active[i]->metadata->uid, -1, NULL);
            plan_event(plan, rs->type, owner, "Normal", "SuccessfulDelete", "Deleted pod: %s", active[i]->metadata->name);
        }
        if (diff > REPLICAS_BURST_MAX)
            plan_requeue_after_ms(plan, 0);
    }
}

/* ---- ReplicaSet -------------------------------------------------------------------------------------------------------- */
#define FAILURE "ReplicaFailure" /* the condition's type */

/* Takes the condition away, and gives what it was; its type NULL: there was none. */
static struct k8s_replica_set_condition drop_failure(struct k8s_replica_set_status *status)
{
    struct k8s_replica_set_condition had = {0};
    for (size_t i = 0; i < status->conditions.len; i++)
        if (kp_streq(status->conditions.items[i].type, FAILURE)) {
            had = status->conditions.items[i];
            status->conditions.items[i] = status->conditions.items[--status->conditions.len];
            break;
        }
    return had;
}

static bool set_failed(void *obj, const void *was, const char *message, int64_t now_s, struct kp_arena *arena)
{
    struct k8s_replica_set *set = obj, *before = KP_OBJECT_CLONE(arena, k8s_replica_set, was);
    const struct k8s_replica_set_condition had = drop_failure(before->status);
    struct k8s_replica_set_condition *c = KP_LIST_ADD(arena, &set->status->conditions);
    *c = (struct k8s_replica_set_condition){
        .type = FAILURE, .status = "True", .reason = "FailedCreate", .message = kp_arena_strdup(arena, message),
        .last_transition_time = kp_streq(had.status, "True") ? had.last_transition_time : KP_TIME_OF(now_s),
    };
    return !kp_object_equal(&k8s_replica_set_status_type, set->status, ((const struct k8s_replica_set *)was)->status);
}

static void replicaset_status(const struct plan_input *in, struct plan *plan, const struct k8s_replica_set *set, struct counts counts)
{
    struct k8s_replica_set *new = KP_OBJECT_CLONE(in->arena, k8s_replica_set, set);
    new->status->replicas = counts.total;
    new->status->fully_labeled_replicas = counts.labeled;
    new->status->ready_replicas = counts.ready;
    new->status->available_replicas = counts.available;
    new->status->observed_generation = set->metadata->generation;
    KP_SET(new->status, terminating_replicas, counts.terminating);
    drop_failure(new->status);
    plan_update_status_told(plan, &k8s_replicasets_resource, new, set, !kp_object_equal(&k8s_replica_set_status_type, new->status, set->status),
                            set_failed, in->now_s);
}

static int plan_replicaset(const struct plan_input *in, struct plan *plan, struct kp_error *error)
{
    const struct k8s_replica_set *set = client_view_get(in->view, engine_cache(in->engine, &k8s_replicasets_resource), in->ns, in->name);
    if (!set)
        return 0;
    struct replicas rs = {
        .resource = &k8s_replicasets_resource,
        .type = &k8s_replica_set_type,
        .meta = set->metadata,
        .wanted = set->spec->has_replicas ? set->spec->replicas : 1,
        .min_ready_s = set->spec->min_ready_seconds,
        .template = set->spec->template,
    };
    if (kp_label_selector_from(set->spec->selector, in->arena, &rs.selector, error) < 0)
        return kp_wrap(error, "spec.selector");
    const struct k8s_pod *const *pods;
    size_t n = claim_pods(in, plan, rs.type, rs.meta, &rs.selector, &pods);
    if (!set->metadata->deletion_timestamp.set)
        reconcile_pods(in, plan, &rs, set, pods, n);
    replicaset_status(in, plan, set, count(in, plan, &rs, pods, n));
    return 0;
}

/* An orphan may match any set of its namespace: those that would adopt it must look. */
static void map_orphan_to_sets(struct controller_run *run, const struct client_object *old, const struct client_object *new)
{
    const struct client_object *object = new ? new : old;
    const struct k8s_object_meta *meta = kp_object_meta(object->type, object->data);
    if (engine_controller_of(meta))
        return;
    KP_AUTO(client_view_free) struct client_view *view = client_view_new();
    const void *const *sets;
    size_t n = client_view_list(view, engine_cache(engine_of(run), &k8s_replicasets_resource), object->ns, &sets);
    for (size_t i = 0; i < n; i++) {
        const struct k8s_replica_set *set = sets[i];
        if (kp_label_selector_matches(set->spec->selector, &meta->labels))
            engine_enqueue(run, object->ns, set->metadata->name);
    }
}

static int setup_replicaset(struct engine *engine, struct controller_run *run, void **ret_state, struct kp_error *error)
{
    engine_owner_index(engine, &k8s_pods_resource);
    engine_watch(run, &k8s_replicasets_resource, engine_map_self);
    engine_watch_owned(run, &k8s_pods_resource, &k8s_replicasets_resource);
    engine_watch(run, &k8s_pods_resource, map_orphan_to_sets);
    return 0;
}

const struct controller replicaset_controller = {
    .name = "replicaset-controller", .workers = 2, .setup = setup_replicaset, .plan = plan_replicaset,
};

/* ---- ReplicationController --------------------------------------------------------------------------------------------- */
static void rc_status(const struct plan_input *in, struct plan *plan, const struct k8s_replication_controller *rc, struct counts counts)
{
    struct k8s_replication_controller *new = KP_OBJECT_CLONE(in->arena, k8s_replication_controller, rc);
    new->status->replicas = counts.total;
    new->status->fully_labeled_replicas = counts.labeled;
    new->status->ready_replicas = counts.ready;
    new->status->available_replicas = counts.available;
    new->status->observed_generation = rc->metadata->generation;
    if (!kp_object_equal(&k8s_replication_controller_status_type, new->status, rc->status))
        plan_update_status(plan, &k8s_replicationcontrollers_resource, new);
}

static int plan_rc(const struct plan_input *in, struct plan *plan, struct kp_error *error)
{
    const struct k8s_replication_controller *rc =
        client_view_get(in->view, engine_cache(in->engine, &k8s_replicationcontrollers_resource), in->ns, in->name);
    if (!rc || !rc->spec->template)
        return 0;
    struct replicas rs = {
        .resource = &k8s_replicationcontrollers_resource,
        .type = &k8s_replication_controller_type,
        .meta = rc->metadata,
        .wanted = rc->spec->has_replicas ? rc->spec->replicas : 1,
        .min_ready_s = rc->spec->min_ready_seconds,
        .template = rc->spec->template,
    };
    kp_label_selector_from_map(&rc->spec->selector, in->arena, &rs.selector);
    const struct k8s_pod *const *pods;
    size_t n = claim_pods(in, plan, rs.type, rs.meta, &rs.selector, &pods);
    if (!rc->metadata->deletion_timestamp.set)
        reconcile_pods(in, plan, &rs, rc, pods, n);
    rc_status(in, plan, rc, count(in, plan, &rs, pods, n));
    return 0;
}

static void map_orphan_to_rcs(struct controller_run *run, const struct client_object *old, const struct client_object *new)
{
    const struct client_object *object = new ? new : old;
    const struct k8s_object_meta *meta = kp_object_meta(object->type, object->data);
    if (engine_controller_of(meta))
        return;
    KP_AUTO(client_view_free) struct client_view *view = client_view_new();
    const void *const *rcs;
    size_t n = client_view_list(view, engine_cache(engine_of(run), &k8s_replicationcontrollers_resource), object->ns, &rcs);
    for (size_t i = 0; i < n; i++) {
        const struct k8s_replication_controller *rc = rcs[i];
        struct kp_selector selector;
        kp_label_selector_from_map(&rc->spec->selector, client_view_arena(view), &selector);
        if (selector.len && kp_selector_matches(&selector, &meta->labels))
            engine_enqueue(run, object->ns, rc->metadata->name);
    }
}

static int setup_rc(struct engine *engine, struct controller_run *run, void **ret_state, struct kp_error *error)
{
    engine_owner_index(engine, &k8s_pods_resource);
    engine_watch(run, &k8s_replicationcontrollers_resource, engine_map_self);
    engine_watch_owned(run, &k8s_pods_resource, &k8s_replicationcontrollers_resource);
    engine_watch(run, &k8s_pods_resource, map_orphan_to_rcs);
    return 0;
}

const struct controller replicationcontroller_controller = {
    .name = "replicationcontroller-controller", .setup = setup_rc, .plan = plan_rc,
};
