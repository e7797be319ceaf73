/* Strategy of pods: status separation, QoS class, graceful deletion, what an update may change. */
#include "controlplane/apiserver/registry/strategy_internal.h"

void pod_defaults(struct registry_request *rq, void *obj)
{
    pod_spec_defaults(rq->arena, ((struct k8s_pod *)obj)->spec);
}

/* ---- quality of service: from requests and limits of cpu and memory alone ------------------------------------------------ */
struct qos {
    bool any, guaranteed;
};

static void qos_of(const struct k8s_resource_requirements *resources, struct qos *qos)
{
    static const char *const names[] = {"cpu", "memory"};
    for (size_t i = 0; i < KP_ARRAY_LEN(names); i++) {
        const char *request = resources ? kp_string_map_get(&resources->requests, names[i]) : NULL;
        const char *limit = resources ? kp_string_map_get(&resources->limits, names[i]) : NULL;
        bool has_request = request && kp_quantity_str_cmp(request, "0") > 0, has_limit = limit && kp_quantity_str_cmp(limit, "0") > 0;
        qos->any = qos->any || has_request || has_limit;
        if (!has_limit || (has_request && kp_quantity_str_cmp(request, limit) != 0))
            qos->guaranteed = false;
    }
}

static const char *qos_class(const struct k8s_pod_spec *spec)
{
    struct qos qos = {.guaranteed = true};
    for (size_t i = 0; i < spec->init_containers.len; i++)
        qos_of(spec->init_containers.items[i].resources, &qos);
    for (size_t i = 0; i < spec->containers.len; i++)
        qos_of(spec->containers.items[i].resources, &qos);
    return !qos.any ? "BestEffort" : qos.guaranteed ? "Guaranteed" : "Burstable";
}

void pod_prepare_create(struct registry_request *rq, void *obj)
{
    struct k8s_pod *pod = obj;
    pod->status = KP_OBJECT_NEW(rq->arena, k8s_pod_status);
    pod->status->phase = "Pending";
    pod->status->qos_class = qos_class(pod->spec);
    if (pod->spec->scheduling_gates.len) {
        struct k8s_pod_condition *condition = KP_LIST_ADD(rq->arena, &pod->status->conditions);
        *condition = (struct k8s_pod_condition){.type = "PodScheduled", .status = "False", .reason = "SchedulingGated",
                                                .message = "Scheduling is blocked due to non-empty scheduling gates"};
    }
}

void pod_prepare_update(struct registry_request *rq, void *obj, const void *old)
{
    (void)rq;
    struct k8s_pod *pod = obj;
    const struct k8s_pod *before = old;
    pod->spec->ephemeral_containers = before->spec->ephemeral_containers;
}

/* Each subresource changes its own part only. */
void pod_prepare_subresource(struct registry_request *rq, void *obj, const void *old)
{
    struct k8s_pod *pod = obj;
    const struct k8s_pod *before = old;
    struct k8s_pod_spec *spec = KP_OBJECT_CLONE(rq->arena, k8s_pod_spec, before->spec);
    if (strcmp(rq->subresource, "status") == 0) {
        pod->spec = spec;
        pod->metadata->owner_references = before->metadata->owner_references;
        if (kp_empty(pod->status->qos_class))
            pod->status->qos_class = before->status->qos_class;
    } else if (strcmp(rq->subresource, "ephemeralcontainers") == 0) {
        spec->ephemeral_containers = pod->spec->ephemeral_containers;
        pod->spec = spec;
        pod->status = before->status;
    } else if (strcmp(rq->subresource, "resize") == 0) {
        for (size_t i = 0; i < spec->containers.len && i < pod->spec->containers.len; i++)
            spec->containers.items[i].resources = pod->spec->containers.items[i].resources;
        pod->spec = spec;
        pod->status = before->status;
        if (!kp_object_equal(&k8s_pod_spec_type, spec, before->spec))
            KP_SET(pod->metadata, generation, pod->metadata->generation + 1);
    } else { /* binding: written by the registry itself */
        pod->status->qos_class = before->status->qos_class;
    }
}

void pod_validate(struct registry_request *rq, const void *obj, struct field_errors *errors)
{
    const struct k8s_pod *pod = obj;
    (void)rq;
    validate_pod_spec(pod->spec, pod->metadata, errors, "spec");
    for (size_t i = 0; i < pod->spec->scheduling_gates.len; i++)
        if (!kp_empty(pod->spec->node_name))
            field_forbidden(errors, "cannot be set until all schedulingGates have been cleared", "spec.nodeName");
}

/* A copy of spec with all that may change made equal to before's: what still differs was not allowed. */
static struct k8s_pod_spec *without_mutable(struct registry_request *rq, const struct k8s_pod_spec *spec, const struct k8s_pod_spec *before)
{
    struct k8s_pod_spec *copy = KP_OBJECT_CLONE(rq->arena, k8s_pod_spec, spec);
    for (size_t i = 0; i < copy->containers.len && i < before->containers.len; i++)
        copy->containers.items[i].image = before->containers.items[i].image;
    for (size_t i = 0; i < copy->init_containers.len && i < before->init_containers.len; i++)
        copy->init_containers.items[i].image = before->init_containers.items[i].image;
    copy->active_deadline_seconds = before->active_deadline_seconds;
    copy->has_active_deadline_seconds = before->has_active_deadline_seconds;
    if (copy->tolerations.len >= before->tolerations.len)
        copy->tolerations = before->tolerations;
    if (before->has_termination_grace_period_seconds && before->termination_grace_period_seconds < 0) {
        copy->termination_grace_period_seconds = before->termination_grace_period_seconds;
        copy->has_termination_grace_period_seconds = true;
    }
    if (copy->scheduling_gates.len <= before->scheduling_gates.len)
        copy->scheduling_gates = before->scheduling_gates;
    return copy;
}

void pod_validate_update(struct registry_request *rq, const void *obj, const void *old, struct field_errors *errors)
{
    const struct k8s_pod *pod = obj, *before = old;
    if (strcmp(rq->subresource, "status") == 0 || strcmp(rq->subresource, "binding") == 0 || strcmp(rq->subresource, "resize") == 0)
        return;
    if (pod->spec->containers.len != before->spec->containers.len) {
        field_forbidden(errors, "pod updates may not add or remove containers", "spec.containers");
        return;
    }
    if (strcmp(rq->subresource, "ephemeralcontainers") == 0) {
        if (pod->spec->ephemeral_containers.len < before->spec->ephemeral_containers.len)
            field_forbidden(errors, "existing ephemeral containers may not be removed", "spec.ephemeralContainers");
        return;
    }
    const struct k8s_pod_spec *compared = without_mutable(rq, pod->spec, before->spec);
    if (!kp_object_equal(&k8s_pod_spec_type, compared, before->spec))
        field_forbidden(errors,
                        "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,"
                        "`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),"
                        "`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)\n",
                        "spec");
}

int64_t pod_grace_s(const void *obj, int64_t asked_s)
{
    const struct k8s_pod *pod = obj;
    int64_t grace = asked_s;
    if (grace < 0)
        grace = pod->spec->has_termination_grace_period_seconds ? pod->spec->termination_grace_period_seconds : 30;
    /* Nobody would confirm the end of a pod that no kubelet has, or that is over. */
    if (kp_empty(pod->spec->node_name) || kp_streq(pod->status->phase, "Failed") || kp_streq(pod->status->phase, "Succeeded"))
        return 0;
    return grace < 0 ? 1 : grace;
}
