/* From a gathered world to the scale, the status and the events of one autoscaler: upstream's reconcileAutoscaler. */
#include "controlplane/controller-manager/hpa.h"

struct decision {
    const struct hpa_input *in;
    struct plan *plan;
    struct k8s_autoscaling_v2_horizontal_pod_autoscaler *copy; /* its status is what will be written */
    struct hpa_memory *memory;
};

static void set_condition(struct decision *d, const char *type, const char *value, const char *reason, const char *message)
{
    struct k8s_horizontal_pod_autoscaler_condition_items *conditions = &d->copy->status->conditions;
    struct k8s_horizontal_pod_autoscaler_condition *condition = NULL;
    for (size_t i = 0; i < conditions->len; i++)
        if (kp_streq(conditions->items[i].type, type))
            condition = &conditions->items[i];
    if (!condition) {
        condition = KP_LIST_ADD(d->in->arena, conditions);
        condition->type = type;
    }
    if (!kp_streq(condition->status, value))
        condition->last_transition_time = KP_TIME_OF(d->in->now_s);
    condition->status = value;
    condition->reason = reason;
    condition->message = message;
}

static void tell(struct decision *d, const char *reason, const char *message)
{
    plan_event(d->plan, &k8s_autoscaling_v2_horizontal_pod_autoscaler_type, d->in->hpa, "Warning", reason, "%s", message);
}

static void set_status(struct decision *d, int32_t current, int32_t desired, const struct k8s_metric_status_items *metrics)
{
    struct k8s_autoscaling_v2_horizontal_pod_autoscaler_status *status = d->copy->status;
    KP_SET(status, current_replicas, current);
    KP_SET(status, desired_replicas, desired);
    status->current_metrics = *metrics;
    if (d->in->hpa->metadata->has_generation)
        KP_SET(status, observed_generation, d->in->hpa->metadata->generation);
}

/* ---- one metric -------------------------------------------------------------------------------------------------------------------- */
struct outcome {
    struct hpa_proposal proposal;
    const char *name;        /* for people: "cpu resource" */
    const char *reason;      /* of the condition and event when it failed */
    const char *told, *full; /* what these say; what all metrics together say */
};

static const char *milli(const struct decision *d, const char *resource, int64_t value)
{
    const struct kp_quantity q = kp_quantity_from_milli(value, kp_streq(resource, "memory") ? KP_QUANTITY_BINARY_SI : KP_QUANTITY_DECIMAL_SI);
    return kp_quantity_string(&q, d->in->arena);
}

static struct hpa_tolerance tolerance_of(const struct hpa_input *in)
{
    const struct k8s_horizontal_pod_autoscaler_behavior *behavior = in->hpa->spec->behavior;
    struct hpa_tolerance tolerance = {in->settings->tolerance, in->settings->tolerance};
    if (behavior && behavior->scale_up && behavior->scale_up->tolerance)
        tolerance.up = (double)kp_quantity_of(behavior->scale_up->tolerance).nanos / 1e9;
    if (behavior && behavior->scale_down && behavior->scale_down->tolerance)
        tolerance.down = (double)kp_quantity_of(behavior->scale_down->tolerance).nanos / 1e9;
    return tolerance;
}

/* Resource and ContainerResource (container not NULL). */
static void by_usage(struct decision *d, const struct hpa_metric *metric, const char *resource, const char *container, const struct k8s_metric_target *target,
                     struct k8s_metric_value_status **ret_now, struct outcome *ret)
{
    struct kp_arena *arena = d->in->arena;
    const struct hpa_tolerance tolerance = tolerance_of(d->in);
    struct k8s_metric_value_status *now = KP_OBJECT_NEW(arena, k8s_metric_value_status);
    const char *what = target->average_value ? "usage" : "utilization";
    *ret_now = now;
    ret->reason = container ? "FailedGetContainerResourceMetric" : "FailedGetResourceMetric";
    if (!target->average_value && !target->has_average_utilization) {
        ret->told = "invalid resource metric source: neither an average utilization target nor an average value (usage) target was set";
    } else if (metric->error) {
        ret->told = kp_arena_printf(arena, "failed to get %s %s: unable to get metrics for resource %s: %s", resource, what, resource, metric->error);
    } else {
        ret->proposal = target->average_value
                            ? hpa_by_average(d->in, metric, resource, kp_quantity_str_milli(target->average_value), &tolerance)
                            : hpa_by_utilization(d->in, metric, resource, container, target->average_utilization, &tolerance);
        if (ret->proposal.error)
            ret->told = kp_arena_printf(arena, "failed to get %s %s: %s", resource, what, ret->proposal.error);
    }
    if (ret->told) {
        ret->full = container ? kp_arena_printf(arena, "failed to get %s container metric value: %s", container, ret->told)
                              : kp_arena_printf(arena, "failed to get %s resource metric value: %s", resource, ret->told);
        return;
    }
    now->average_value = milli(d, resource, ret->proposal.usage);
    if (target->average_value) {
        ret->name = kp_arena_printf(arena, "%s resource", resource);
        return;
    }
    KP_SET(now, average_utilization, ret->proposal.utilization);
    ret->name = kp_arena_printf(arena, "%s %sresource utilization (percentage of request)", resource, container ? "container " : "");
}

static void by_pods(struct decision *d, const struct hpa_metric *metric, const struct k8s_metric_spec *spec, struct k8s_metric_status *status,
                    struct outcome *ret)
{
    struct kp_arena *arena = d->in->arena;
    const struct hpa_tolerance tolerance = tolerance_of(d->in);
    const char *name = spec->pods->metric->name;
    ret->reason = "FailedGetPodsMetric";
    ret->name = kp_arena_printf(arena, "pods metric %s", name);
    if (metric->error) {
        ret->told = kp_arena_printf(arena, "unable to get metric %s: %s", name, metric->error);
    } else {
        ret->proposal = hpa_by_average(d->in, metric, NULL, kp_quantity_str_milli(spec->pods->target->average_value), &tolerance);
        ret->told = ret->proposal.error;
    }
    if (ret->told) {
        ret->full = kp_arena_printf(arena, "failed to get pods metric value: %s", ret->told);
        return;
    }
    status->pods = KP_OBJECT_NEW(arena, k8s_pods_metric_status);
    status->pods->metric = spec->pods->metric;
    status->pods->current->average_value = milli(d, NULL, ret->proposal.usage);
}

/* Object and External: one value, against a total or a value for each pod. */
static void by_value(struct decision *d, const struct hpa_metric *metric, const struct k8s_metric_target *target, struct k8s_metric_value_status *now,
                     struct outcome *ret)
{
    const struct hpa_tolerance tolerance = tolerance_of(d->in);
    bool share = target->average_value != NULL;
    if (metric->error)
        return;
    ret->proposal = share ? hpa_by_share(d->in, metric, kp_quantity_str_milli(target->average_value), &tolerance)
                          : hpa_by_total(d->in, metric, kp_quantity_str_milli(target->value), &tolerance);
    if (share)
        now->average_value = milli(d, NULL, ret->proposal.usage);
    else
        now->value = milli(d, NULL, ret->proposal.usage);
}

static void by_object(struct decision *d, const struct hpa_metric *metric, const struct k8s_metric_spec *spec, struct k8s_metric_status *status,
                      struct outcome *ret)
{
    struct kp_arena *arena = d->in->arena;
    const struct k8s_object_metric_source *source = spec->object;
    const struct k8s_autoscaling_v2_cross_version_object_reference *object = source->described_object;
    struct k8s_object_metric_status *told = KP_OBJECT_NEW(arena, k8s_object_metric_status);
    by_value(d, metric, source->target, told->current, ret);
    ret->reason = "FailedGetObjectMetric";
    ret->told = metric->error ? kp_arena_printf(arena, "unable to get metric %s on %s %s/%s: %s", source->metric->name, object->kind,
                                                d->in->hpa->metadata->namespace, object->name, metric->error)
                              : ret->proposal.error;
    if (ret->told && source->target->average_value)
        ret->full = kp_arena_printf(arena, "failed to get object metric value: failed to get %s object metric: %s", source->metric->name, ret->told);
    else if (ret->told)
        ret->full = kp_arena_printf(arena, "failed to get object metric value: %s", ret->told);
    if (ret->told)
        return;
    ret->name = source->target->average_value
                    ? kp_arena_printf(arena, "external metric %s(%s)", source->metric->name, hpa_selector_text(source->metric->selector, arena)) /* sic */
                    : kp_arena_printf(arena, "%s metric %s", object->kind, source->metric->name);
    told->described_object = (void *)(uintptr_t)object;
    told->metric = (void *)(uintptr_t)source->metric;
    status->object = told;
}

static void by_external(struct decision *d, const struct hpa_metric *metric, const struct k8s_metric_spec *spec, struct k8s_metric_status *status,
                        struct outcome *ret)
{
    struct kp_arena *arena = d->in->arena;
    const struct k8s_external_metric_source *source = spec->external;
    const char *name = source->metric->name, *selector = hpa_selector_text(source->metric->selector, arena);
    struct k8s_external_metric_status *told = KP_OBJECT_NEW(arena, k8s_external_metric_status);
    by_value(d, metric, source->target, told->current, ret);
    ret->reason = "FailedGetExternalMetric";
    ret->name = kp_arena_printf(arena, "external metric %s(%s)", name, selector);
    ret->told = metric->error ? kp_arena_printf(arena, "unable to get external metric %s/%s/%s: %s", d->in->hpa->metadata->namespace, name, selector, metric->error)
                              : ret->proposal.error;
    if (ret->told) {
        ret->full = kp_arena_printf(arena, "failed to get %s external metric value: failed to get %s: %s", name,
                                    source->target->average_value ? kp_arena_printf(arena, "%s external metric", name)
                                                                  : kp_arena_printf(arena, "external metric %s", name), ret->told);
        return;
    }
    told->metric = (void *)(uintptr_t)source->metric;
    status->external = told;
}

static void by_metric(struct decision *d, const struct hpa_metric *metric, const struct k8s_metric_spec *spec, struct k8s_metric_status *ret_status,
                      struct outcome *ret)
{
    struct kp_arena *arena = d->in->arena;
    struct k8s_metric_status status = {.type = spec->type};
    *ret = (struct outcome){0};
    if (kp_streq(spec->type, "Resource") && spec->resource) {
        status.resource = KP_OBJECT_NEW(arena, k8s_resource_metric_status);
        status.resource->name = spec->resource->name;
        by_usage(d, metric, spec->resource->name, NULL, spec->resource->target, &status.resource->current, ret);
    } else if (kp_streq(spec->type, "ContainerResource") && spec->container_resource) {
        const struct k8s_container_resource_metric_source *source = spec->container_resource;
        status.container_resource = KP_OBJECT_NEW(arena, k8s_container_resource_metric_status);
        status.container_resource->name = source->name;
        status.container_resource->container = source->container;
        by_usage(d, metric, source->name, source->container, source->target, &status.container_resource->current, ret);
    } else if (kp_streq(spec->type, "Pods") && spec->pods) {
        by_pods(d, metric, spec, &status, ret);
    } else if (kp_streq(spec->type, "Object") && spec->object) {
        by_object(d, metric, spec, &status, ret);
    } else if (kp_streq(spec->type, "External") && spec->external) {
        by_external(d, metric, spec, &status, ret);
    } else {
        ret->reason = "InvalidMetricSourceType";
        ret->told = ret->full = kp_arena_printf(arena, "unknown metric source type \"%s\"", spec->type ? spec->type : "");
    }
    if (ret->told)
        tell(d, ret->reason, ret->told);
    else
        *ret_status = status; /* one that failed leaves its place empty */
}

/* ---- all metrics --------------------------------------------------------------------------------------------------------------------- */
static const char *selector_fault(struct decision *d)
{
    struct kp_arena *arena = d->in->arena;
    const char *selector = d->in->scale->status->selector, *text;
    if (kp_empty(selector)) {
        tell(d, "SelectorRequired", "selector is required");
        set_condition(d, "ScalingActive", "False", "InvalidSelector", "the HPA target's scale is missing a selector");
        return "selector is required";
    }
    if (d->in->selector_error) {
        text = kp_arena_printf(arena, "couldn't convert selector into a corresponding internal selector object: %s", d->in->selector_error);
        tell(d, "InvalidSelector", text);
        set_condition(d, "ScalingActive", "False", "InvalidSelector", text);
        return text;
    }
    if (!d->in->ambiguous)
        return NULL;
    text = kp_arena_printf(arena, "pods by selector %s are controlled by multiple HPAs: [%s]", selector, d->in->ambiguous);
    tell(d, "AmbiguousSelector", text);
    set_condition(d, "ScalingActive", "False", "AmbiguousSelector", text);
    return text;
}

/* The largest of what the metrics want. NULL, or why nothing can be done; some metrics that failed do not keep others from scaling up. */
static const char *by_all_metrics(struct decision *d, int32_t *ret_replicas, const char **ret_name, struct k8s_metric_status_items *statuses)
{
    const struct k8s_metric_spec_items *specs = &d->in->hpa->spec->metrics;
    struct kp_arena *arena = d->in->arena;
    const char *fault = selector_fault(d);
    struct outcome first = {0};
    size_t failed = 0;
    *ret_replicas = 0;
    *ret_name = "";
    if (fault)
        return fault;
    for (size_t i = 0; i < specs->len; i++) {
        struct outcome outcome;
        by_metric(d, &d->in->metrics[i], &specs->items[i], KP_LIST_ADD(arena, statuses), &outcome);
        if (outcome.told && failed++ == 0)
            first = outcome;
        if (outcome.told || (*ret_replicas != 0 && outcome.proposal.replicas <= *ret_replicas))
            continue;
        *ret_replicas = outcome.proposal.replicas;
        *ret_name = outcome.name;
    }
    if (failed >= specs->len || (failed && *ret_replicas < d->in->scale->spec->replicas)) {
        set_condition(d, "ScalingActive", "False", first.reason, kp_arena_printf(arena, "the HPA was unable to compute the replica count: %s", first.told));
        return kp_arena_printf(arena, "invalid metrics (%zu invalid out of %zu), first error is: %s", failed, specs->len, first.full);
    }
    set_condition(d, "ScalingActive", "True", "ValidMetricFound",
                  kp_arena_printf(arena, "the HPA was able to successfully calculate a replica count from %s", *ret_name));
    return NULL;
}

/* ---- the size ------------------------------------------------------------------------------------------------------------------------ */
static int32_t min_of(const struct k8s_autoscaling_v2_horizontal_pod_autoscaler *hpa)
{
    return hpa->spec->has_min_replicas ? hpa->spec->min_replicas : 1;
}

bool hpa_needs_metrics(const struct k8s_autoscaling_v2_horizontal_pod_autoscaler *hpa, const struct k8s_scale *scale)
{
    int32_t current = scale->spec->replicas;
    return current != 0 && current <= hpa->spec->max_replicas && current >= min_of(hpa);
}

/* The scale could not be written: what the status said of it is taken back. */
static bool on_scale_failed(void *obj, const void *was, const char *message, int64_t now_s, struct kp_arena *arena)
{
    struct k8s_autoscaling_v2_horizontal_pod_autoscaler *hpa = obj;
    const struct k8s_autoscaling_v2_horizontal_pod_autoscaler *before = was;
    const struct hpa_input in = {.hpa = before, .arena = arena, .now_s = now_s};
    struct decision d = {.in = &in, .copy = hpa};
    hpa->status->last_scale_time = before->status->last_scale_time;
    KP_SET(hpa->status, desired_replicas, before->status->desired_replicas);
    set_condition(&d, "AbleToScale", "False", "FailedUpdateScale", kp_arena_printf(arena, "the HPA controller was unable to update the target scale: %s", message));
    return true;
}

static void rescale(struct decision *d, int32_t current, int32_t desired, const char *reason)
{
    const struct hpa_input *in = d->in;
    const struct kp_type *type = &k8s_autoscaling_v2_horizontal_pod_autoscaler_type;
    const char *ns = in->hpa->metadata->namespace, *name = in->hpa->spec->scale_target_ref->name;
    plan_scale(d->plan, in->target, ns, name, desired);
    plan_event_on_failure(d->plan, type, in->hpa, "FailedRescale", kp_arena_printf(in->arena, "New size: %d; reason: %s; error: ", desired, reason));
    plan_event_if_done(d->plan, type, in->hpa, "SuccessfulRescale", kp_arena_printf(in->arena, "New size: %d; reason: %s", desired, reason));
    set_condition(d, "AbleToScale", "True", "SucceededRescale",
                  kp_arena_printf(in->arena, "the HPA controller was able to update the target scale to %d", desired));
    d->copy->status->last_scale_time = KP_TIME_OF(in->now_s);
    d->memory->pending_from = current;
    d->memory->pending_to = desired;
    d->memory->pending_s = in->now_s;
}

/* What was asked for the last time counts when it has come about. */
static void settle_pending(struct decision *d, int32_t current)
{
    struct hpa_memory *memory = d->memory;
    if (memory->pending_s && memory->pending_to == current)
        hpa_remember_scale(d->in, memory, memory->pending_from, memory->pending_to, memory->pending_s);
    memory->pending_s = 0;
}

/* The size to go to, and why; or false with the status of a failure set. */
static bool work_out(struct decision *d, int32_t current, int32_t *ret_desired, const char **ret_reason, struct k8s_metric_status_items *statuses)
{
    const struct hpa_input *in = d->in;
    const char *name, *reason = "";
    int32_t proposed;
    const char *error = by_all_metrics(d, &proposed, &name, statuses);
    if (error) {
        set_status(d, current, in->hpa->status->desired_replicas, statuses);
        tell(d, "FailedComputeMetricsReplicas", error);
        return false;
    }
    if (proposed > current)
        reason = kp_arena_printf(in->arena, "%s above target", name);
    if (proposed < current)
        reason = "All metrics below target";
    struct hpa_limited limited = hpa_normalize(in, d->memory, current, proposed, min_of(in->hpa));
    if (limited.stabilized != proposed)
        set_condition(d, "AbleToScale", "True", limited.stable_reason, limited.stable_message);
    else
        set_condition(d, "AbleToScale", "True", "ReadyForNewScale", "recommended size matches current size");
    set_condition(d, "ScalingLimited", limited.replicas == limited.stabilized ? "False" : "True", limited.limited_reason, limited.limited_message);
    *ret_desired = limited.replicas;
    *ret_reason = reason;
    return true;
}

/* False when the status of a failure is all there is. */
static bool decide_size(struct decision *d)
{
    const struct hpa_input *in = d->in;
    int32_t current = in->scale->spec->replicas, desired = current;
    const char *reason = "";
    struct k8s_metric_status_items statuses = {0};
    settle_pending(d, current);
    if (!d->memory->n_recommendations)
        hpa_remember(&d->memory->recommendations, &d->memory->n_recommendations, in->now_s, current, 0);
    if (current == 0) {
        set_condition(d, "ScalingActive", "False", "ScalingDisabled", "scaling is disabled since the replica count of the target is zero");
    } else if (current > in->hpa->spec->max_replicas) {
        reason = "Current number of replicas above Spec.MaxReplicas";
        desired = in->hpa->spec->max_replicas;
    } else if (current < min_of(in->hpa)) {
        reason = "Current number of replicas below Spec.MinReplicas";
        desired = min_of(in->hpa);
    } else if (!work_out(d, current, &desired, &reason, &statuses)) {
        return false;
    }
    if (desired != current)
        rescale(d, current, desired, reason);
    set_status(d, current, desired, &statuses);
    return desired != current;
}

void hpa_decide(const struct hpa_input *in, struct hpa_memory *memory, struct plan *plan)
{
    struct decision d = {.in = in, .plan = plan, .memory = memory};
    d.copy = KP_OBJECT_CLONE(in->arena, k8s_autoscaling_v2_horizontal_pod_autoscaler, in->hpa);
    bool scaled = false;
    if (in->scale_error) {
        tell(&d, "FailedGetScale", in->scale_error);
        set_condition(&d, "AbleToScale", "False", "FailedGetScale",
                      kp_arena_printf(in->arena, "the HPA controller was unable to get the target's current scale: %s", in->scale_error));
    } else {
        set_condition(&d, "AbleToScale", "True", "SucceededGetScale", "the HPA controller was able to get the target's current scale");
        scaled = decide_size(&d);
    }
    bool differs = !kp_object_equal(&k8s_autoscaling_v2_horizontal_pod_autoscaler_status_type, d.copy->status, in->hpa->status);
    if (scaled)
        plan_update_status_told(plan, &k8s_autoscaling_v2_horizontalpodautoscalers_resource, d.copy, in->hpa, differs, on_scale_failed, in->now_s);
    else if (differs)
        plan_update_status(plan, &k8s_autoscaling_v2_horizontalpodautoscalers_resource, d.copy);
}
