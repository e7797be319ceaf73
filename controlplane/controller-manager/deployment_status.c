/* A Deployment's status: counts over its sets, and the conditions Available, Progressing and ReplicaFailure. */
#include "controlplane/controller-manager/deployment.h"

static struct k8s_deployment_condition *find(struct k8s_deployment_status *status, const char *type)
{
    for (size_t i = 0; i < status->conditions.len; i++)
        if (kp_streq(status->conditions.items[i].type, type))
            return &status->conditions.items[i];
    return NULL;
}

void deployment_set_condition(struct deployment_sync *sync, const char *type, const char *status, const char *reason, const char *message)
{
    struct k8s_deployment_condition *condition = find(sync->status_copy->status, type);
    if (condition && kp_streq(condition->status, status) && kp_streq(condition->reason, reason))
        return; /* upstream keeps the times of a condition that says the same */
    if (!condition) {
        condition = KP_LIST_ADD(sync->in->arena, &sync->status_copy->status->conditions);
        condition->type = type;
    }
    if (!kp_streq(condition->status, status))
        condition->last_transition_time = KP_TIME_OF(sync->in->now_s);
    condition->last_update_time = KP_TIME_OF(sync->in->now_s);
    condition->status = status;
    condition->reason = reason;
    condition->message = message;
}

static void counts(struct deployment_sync *sync)
{
    struct k8s_deployment_status *status = sync->status_copy->status;
    int32_t replicas = 0, ready = 0, available = 0, terminating = 0, total = 0;
    for (size_t i = 0; i <= sync->n_old; i++) {
        const struct k8s_replica_set *set = i < sync->n_old ? sync->old[i] : sync->new;
        if (!set)
            continue;
        replicas += set->status->replicas;
        ready += set->status->ready_replicas;
        available += set->status->available_replicas;
        terminating += set->status->has_terminating_replicas ? set->status->terminating_replicas : 0;
        total += deployment_set_replicas(set);
    }
    status->observed_generation = sync->deployment->metadata->generation;
    status->replicas = replicas;
    status->updated_replicas = sync->new ? sync->new->status->replicas : 0;
    status->ready_replicas = ready;
    status->available_replicas = available;
    status->unavailable_replicas = KP_MAX(0, total - available);
    KP_SET(status, terminating_replicas, terminating);
}

static bool progressed(const struct deployment_sync *sync)
{
    const struct k8s_deployment_status *old = sync->deployment->status, *new = sync->status_copy->status;
    int32_t old_old = old->replicas - old->updated_replicas, new_old = new->replicas - new->updated_replicas;
    return new->updated_replicas > old->updated_replicas || new_old < old_old || new->ready_replicas > old->ready_replicas ||
           new->available_replicas > old->available_replicas;
}

static void progress(struct deployment_sync *sync)
{
    const struct k8s_deployment_spec *spec = sync->deployment->spec;
    struct k8s_deployment_status *status = sync->status_copy->status;
    struct kp_arena *arena = sync->in->arena;
    if (!spec->has_progress_deadline_seconds || spec->progress_deadline_seconds == INT32_MAX)
        return;
    struct k8s_deployment_condition *now = find(status, "Progressing");
    if (spec->paused) {
        if (!now || !kp_streq(now->reason, "ProgressDeadlineExceeded"))
            deployment_set_condition(sync, "Progressing", "Unknown", "DeploymentPaused", "Deployment is paused");
        return;
    }
    if (now && kp_streq(now->reason, "DeploymentPaused"))
        deployment_set_condition(sync, "Progressing", "Unknown", "DeploymentResumed", "Deployment is resumed");
    bool done = status->updated_replicas == sync->wanted && status->replicas == sync->wanted &&
                status->available_replicas == sync->wanted && sync->new;
    const char *what = sync->new ? kp_arena_printf(arena, "ReplicaSet \"%s\"", sync->new->metadata->name)
                                 : kp_arena_printf(arena, "Deployment \"%s\"", sync->deployment->metadata->name);
    now = find(status, "Progressing");
    if (done) {
        deployment_set_condition(sync, "Progressing", "True", "NewReplicaSetAvailable",
                                 kp_arena_printf(arena, "%s has successfully progressed.", what));
        return;
    }
    if (now && kp_streq(now->reason, "NewReplicaSetAvailable") && !progressed(sync) &&
        sync->deployment->status->observed_generation == sync->deployment->metadata->generation)
        return; /* a finished roll-out stays finished when pods come and go */
    if (progressed(sync) || !now) {
        if (now && kp_streq(now->status, "True")) {
            now->last_update_time = KP_TIME_OF(sync->in->now_s);
            now->reason = "ReplicaSetUpdated";
            now->message = kp_arena_printf(arena, "%s is progressing.", what);
        } else {
            deployment_set_condition(sync, "Progressing", "True", "ReplicaSetUpdated", kp_arena_printf(arena, "%s is progressing.", what));
        }
    } else if (!kp_streq(now->reason, "ProgressDeadlineExceeded") && !kp_streq(now->reason, "NewReplicaSetAvailable")) {
        /* (a roll-out that succeeded long ago says nothing about how long the next one takes) */
        int64_t left_s = now->last_update_time.seconds + spec->progress_deadline_seconds - sync->in->now_s;
        if (left_s < 0)
            deployment_set_condition(sync, "Progressing", "False", "ProgressDeadlineExceeded",
                                     kp_arena_printf(arena, "%s has timed out progressing.", what));
        else
            plan_requeue_after_ms(sync->plan, (left_s + 1) * 1000);
    }
}

static void replica_failure(struct deployment_sync *sync)
{
    struct k8s_deployment_status *status = sync->status_copy->status;
    for (size_t i = 0; sync->new && i < sync->new->status->conditions.len; i++) {
        const struct k8s_replica_set_condition *c = &sync->new->status->conditions.items[i];
        if (kp_streq(c->type, "ReplicaFailure") && kp_streq(c->status, "True")) {
            deployment_set_condition(sync, "ReplicaFailure", "True", c->reason, c->message);
            return;
        }
    }
    for (size_t i = 0; i < status->conditions.len; i++)
        if (kp_streq(status->conditions.items[i].type, "ReplicaFailure")) {
            status->conditions.items[i] = status->conditions.items[status->conditions.len - 1];
            status->conditions.len--;
        }
}

void deployment_status(struct deployment_sync *sync)
{
    counts(sync);
    const struct k8s_deployment_status *status = sync->status_copy->status;
    if (status->available_replicas >= sync->wanted - sync->max_unavailable)
        deployment_set_condition(sync, "Available", "True", "MinimumReplicasAvailable", "Deployment has minimum availability.");
    else
        deployment_set_condition(sync, "Available", "False", "MinimumReplicasUnavailable", "Deployment does not have minimum availability.");
    progress(sync);
    replica_failure(sync);
    if (!kp_object_equal(&k8s_deployment_status_type, status, sync->deployment->status))
        plan_update_status(sync->plan, &k8s_deployments_resource, sync->status_copy);
}
