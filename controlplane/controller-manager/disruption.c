/* PodDisruptionBudgets: how many pods are wanted, how many are healthy, and how many may be evicted now. */
#include "controlplane/controller-manager/controllers.h"

#define DISRUPTED_KEEP_S 120 /* upstream's DeletionTimeout: an eviction that did not delete its pod by then is forgotten */

struct budget_sync {
    const struct plan_input *in;
    struct plan *plan;
    const struct k8s_pod_disruption_budget *budget;
    const struct k8s_pod **pods;
    size_t n_pods;
};

/* "25%" of total, rounded up; a number as it is. */
static int64_t scaled(const struct kp_int_or_string *value, int64_t total)
{
    char digits[16] = "";
    int64_t percent = 0;
    if (value->kind == KP_IOS_INT)
        return value->i;
    size_t len = strlen(value->s);
    if (len < 2 || len > sizeof(digits) || value->s[len - 1] != '%')
        return 0; /* validation refuses it */
    memcpy(digits, value->s, len - 1);
    return kp_parse_i64(digits, &percent) < 0 ? 0 : (percent * total + 99) / 100;
}

static const void *look(const struct budget_sync *sync, const struct kp_resource *resource, const char *name)
{
    return client_view_get(sync->in->view, engine_cache(sync->in->engine, resource), sync->in->ns, name);
}

/* How many pods the owner of these pods wants; *ret_uid tells owners apart. -1 when its scale is not known. */
static int64_t scale_of(const struct budget_sync *sync, const struct k8s_owner_reference *owner, const char **ret_uid)
{
    *ret_uid = owner->uid;
    if (kp_streq(owner->kind, "StatefulSet")) {
        const struct k8s_stateful_set *set = look(sync, &k8s_statefulsets_resource, owner->name);
        return set && kp_streq(set->metadata->uid, owner->uid) ? (set->spec->has_replicas ? set->spec->replicas : 1) : -1;
    }
    if (kp_streq(owner->kind, "ReplicationController")) {
        const struct k8s_replication_controller *rc = look(sync, &k8s_replicationcontrollers_resource, owner->name);
        return rc && kp_streq(rc->metadata->uid, owner->uid) ? (rc->spec->has_replicas ? rc->spec->replicas : 1) : -1;
    }
    const struct k8s_replica_set *set = kp_streq(owner->kind, "ReplicaSet") ? look(sync, &k8s_replicasets_resource, owner->name) : NULL;
    if (!set || !kp_streq(set->metadata->uid, owner->uid))
        return -1;
    const struct k8s_owner_reference *above = engine_controller_of(set->metadata);
    const struct k8s_deployment *deployment = above && kp_streq(above->kind, "Deployment") ? look(sync, &k8s_deployments_resource, above->name) : NULL;
    if (!deployment)
        return set->spec->has_replicas ? set->spec->replicas : 1;
    *ret_uid = deployment->metadata->uid; /* both sets of a roll-out count once */
    return deployment->spec->has_replicas ? deployment->spec->replicas : 1;
}

static int expected_by_scale(const struct budget_sync *sync, int64_t *ret, struct kp_error *error)
{
    struct kp_string_list seen = {0};
    *ret = 0;
    for (size_t i = 0; i < sync->n_pods; i++) {
        const struct k8s_owner_reference *owner = engine_controller_of(sync->pods[i]->metadata);
        const char *uid = NULL;
        int64_t scale = owner ? scale_of(sync, owner, &uid) : -1;
        if (!owner)
            continue; /* bare pods do not count here, as upstream */
        if (scale < 0)
            return kp_fail(error, KP_ENOTFOUND, "found no controller with a scale for pod \"%s\"", sync->pods[i]->metadata->name);
        if (kp_string_list_has(&seen, uid))
            continue;
        kp_string_list_add(sync->in->arena, &seen, uid);
        *ret += scale;
    }
    return 0;
}

/* Evictions under way: those whose pod is still there and that are not too old. */
static struct kp_time_map disrupted(struct budget_sync *sync)
{
    struct kp_time_map left = {0};
    const struct kp_time_map *had = &sync->budget->status->disrupted_pods;
    for (size_t i = 0; i < had->len; i++) {
        int64_t left_s = had->items[i].value.seconds + DISRUPTED_KEEP_S - sync->in->now_s;
        bool here = false;
        for (size_t k = 0; k < sync->n_pods; k++)
            here |= kp_streq(sync->pods[k]->metadata->name, had->items[i].key) && !sync->pods[k]->metadata->deletion_timestamp.set;
        if (!here || left_s <= 0)
            continue;
        plan_requeue_after_ms(sync->plan, left_s * 1000);
        *KP_LIST_ADD(sync->in->arena, &left) = had->items[i];
    }
    return left;
}

static int64_t healthy(const struct budget_sync *sync, const struct kp_time_map *gone)
{
    int64_t n = 0;
    for (size_t i = 0; i < sync->n_pods; i++) {
        bool going = sync->pods[i]->metadata->deletion_timestamp.set;
        for (size_t k = 0; k < gone->len; k++)
            going |= kp_streq(gone->items[k].key, sync->pods[i]->metadata->name);
        n += !going && engine_pod_is_ready(sync->pods[i]);
    }
    return n;
}

static void set_allowed(struct budget_sync *sync, struct k8s_pod_disruption_budget_status *status, const char *value, const char *reason, const char *message)
{
    struct k8s_condition *condition = NULL;
    for (size_t i = 0; i < status->conditions.len; i++)
        if (kp_streq(status->conditions.items[i].type, "DisruptionAllowed"))
            condition = &status->conditions.items[i];
    if (!condition) {
        condition = KP_LIST_ADD(sync->in->arena, &status->conditions);
        condition->type = "DisruptionAllowed";
    }
    if (!kp_streq(condition->status, value))
        condition->last_transition_time = KP_TIME_OF(sync->in->now_s);
    condition->status = value;
    condition->reason = reason;
    condition->message = message;
    KP_SET(condition, observed_generation, sync->budget->metadata->generation);
}

static void fill_status(struct budget_sync *sync, struct k8s_pod_disruption_budget_status *status)
{
    const struct k8s_pod_disruption_budget_spec *spec = sync->budget->spec;
    struct kp_error error = {0};
    int64_t expected = (int64_t)sync->n_pods, desired = 0, allowed = 0;
    bool by_scale = spec->max_unavailable.kind != KP_IOS_ABSENT || spec->min_available.kind == KP_IOS_STRING;
    status->disrupted_pods = disrupted(sync);
    int64_t now_healthy = healthy(sync, &status->disrupted_pods);
    KP_SET(status, observed_generation, sync->budget->metadata->generation);
    if (by_scale && expected_by_scale(sync, &expected, &error) < 0) { /* fail safe: nothing may go */
        KP_SET(status, disruptions_allowed, 0);
        set_allowed(sync, status, "False", "SyncFailed", kp_arena_strdup(sync->in->arena, error.message));
        return;
    }
    if (spec->max_unavailable.kind != KP_IOS_ABSENT)
        desired = KP_MAX((int64_t)0, expected - scaled(&spec->max_unavailable, expected));
    else if (spec->min_available.kind != KP_IOS_ABSENT)
        desired = scaled(&spec->min_available, expected);
    if (expected > 0)
        allowed = KP_MAX((int64_t)0, now_healthy - desired);
    KP_SET(status, expected_pods, (int32_t)expected);
    KP_SET(status, desired_healthy, (int32_t)desired);
    KP_SET(status, current_healthy, (int32_t)now_healthy);
    KP_SET(status, disruptions_allowed, (int32_t)allowed);
    set_allowed(sync, status, allowed > 0 ? "True" : "False", allowed > 0 ? "SufficientPods" : "InsufficientPods", NULL);
}

static int plan_budget(const struct plan_input *in, struct plan *plan, struct kp_error *error)
{
    struct budget_sync sync = {.in = in, .plan = plan};
    sync.budget = client_view_get(in->view, engine_cache(in->engine, &k8s_poddisruptionbudgets_resource), in->ns, in->name);
    if (!sync.budget || sync.budget->metadata->deletion_timestamp.set)
        return 0;
    const void *const *pods;
    struct kp_selector selector;
    if (kp_label_selector_from(sync.budget->spec->selector, in->arena, &selector, error) < 0)
        return kp_wrap(error, "spec.selector");
    size_t n = client_view_list(in->view, engine_cache(in->engine, &k8s_pods_resource), in->ns, &pods);
    sync.pods = KP_NEW_ARRAY(in->arena, const struct k8s_pod *, n + 1);
    for (size_t i = 0; i < n; i++) {
        const struct k8s_pod *pod = pods[i];
        if (!engine_pod_is_terminal(pod) && kp_selector_matches(&selector, &pod->metadata->labels))
            sync.pods[sync.n_pods++] = pod;
    }
    struct k8s_pod_disruption_budget *copy = KP_OBJECT_CLONE(in->arena, k8s_pod_disruption_budget, sync.budget);
    fill_status(&sync, copy->status);
    if (!kp_object_equal(&k8s_pod_disruption_budget_status_type, copy->status, sync.budget->status))
        plan_update_status(plan, &k8s_poddisruptionbudgets_resource, copy);
    return 0;
}

/* Any change of a pod or of a scale may matter to the budgets of its namespace; there are few of them. */
static void map_namespace(struct controller_run *run, const struct client_object *old, const struct client_object *new)
{
    const char *ns = (new ? new : old)->ns;
    KP_AUTO(client_view_free) struct client_view *view = client_view_new();
    const void *const *budgets;
    size_t n = client_view_list(view, engine_cache(engine_of(run), &k8s_poddisruptionbudgets_resource), ns, &budgets);
    for (size_t i = 0; i < n; i++)
        engine_enqueue(run, ns, ((const struct k8s_pod_disruption_budget *)budgets[i])->metadata->name);
}

static int setup_budget(struct engine *engine, struct controller_run *run, void **ret_state, struct kp_error *error)
{
    engine_watch(run, &k8s_poddisruptionbudgets_resource, engine_map_self);
    engine_watch(run, &k8s_pods_resource, map_namespace);
    engine_watch(run, &k8s_deployments_resource, map_namespace);
    engine_watch(run, &k8s_replicasets_resource, map_namespace);
    engine_watch(run, &k8s_statefulsets_resource, map_namespace);
    engine_watch(run, &k8s_replicationcontrollers_resource, map_namespace);
    return 0;
}

const struct controller disruption_controller = {.name = "disruption-controller", .setup = setup_budget, .plan = plan_budget};
