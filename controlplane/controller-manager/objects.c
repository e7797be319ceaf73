/* What every controller asks of objects: owners, and whether a pod is active, ready or done. */
#include "controlplane/controller-manager/engine.h"

const struct k8s_owner_reference *engine_controller_of(const struct k8s_object_meta *meta)
{
    for (size_t i = 0; i < meta->owner_references.len; i++)
        if (meta->owner_references.items[i].has_controller && meta->owner_references.items[i].controller)
            return &meta->owner_references.items[i];
    return NULL;
}

bool engine_is_controlled_by(const struct k8s_object_meta *meta, const char *owner_uid)
{
    const struct k8s_owner_reference *owner = engine_controller_of(meta);
    return owner && kp_streq(owner->uid, owner_uid);
}

void engine_set_controller(struct kp_arena *arena, struct k8s_object_meta *meta, const struct kp_type *owner_type,
                           const struct k8s_object_meta *owner)
{
    char api_version[KP_API_VERSION_MAX];
    struct k8s_owner_reference *ref = KP_LIST_ADD(arena, &meta->owner_references);
    ref->api_version = kp_arena_strdup(arena, kp_type_api_version(owner_type, api_version));
    ref->kind = owner_type->kind;
    ref->name = owner->name;
    ref->uid = owner->uid;
    KP_SET(ref, controller, true);
    KP_SET(ref, block_owner_deletion, true);
}

static const struct k8s_pod_condition *ready_condition(const struct k8s_pod *pod)
{
    for (size_t i = 0; i < pod->status->conditions.len; i++)
        if (kp_streq(pod->status->conditions.items[i].type, "Ready"))
            return &pod->status->conditions.items[i];
    return NULL;
}

bool engine_pod_is_ready(const struct k8s_pod *pod)
{
    const struct k8s_pod_condition *ready = ready_condition(pod);
    return ready && kp_streq(ready->status, "True");
}

int64_t engine_pod_ready_since_s(const struct k8s_pod *pod)
{
    const struct k8s_pod_condition *ready = ready_condition(pod);
    return ready && kp_streq(ready->status, "True") ? ready->last_transition_time.seconds : 0;
}

bool engine_pod_is_terminal(const struct k8s_pod *pod)
{
    return kp_streq(pod->status->phase, "Succeeded") || kp_streq(pod->status->phase, "Failed");
}

const struct k8s_job_condition *engine_job_end(const struct k8s_job *job)
{
    for (size_t i = 0; i < job->status->conditions.len; i++) {
        const struct k8s_job_condition *c = &job->status->conditions.items[i];
        if ((kp_streq(c->type, "Complete") || kp_streq(c->type, "Failed")) && kp_streq(c->status, "True"))
            return c;
    }
    return NULL;
}

bool engine_pod_is_active(const struct k8s_pod *pod)
{
    return !engine_pod_is_terminal(pod) && !pod->metadata->deletion_timestamp.set;
}
