/* Conversion between the served versions of one kind: events of two groups, autoscalers of two versions. */
#include "controlplane/apiserver/registry/registry_internal.h"

static void *event_to_core(const void *from, struct kp_arena *arena)
{
    const struct k8s_events_event *in = from;
    struct k8s_event *out = KP_OBJECT_NEW(arena, k8s_event);
    out->metadata = in->metadata;
    out->involved_object = in->regarding;
    out->reason = in->reason;
    out->message = in->note;
    out->source = in->deprecated_source;
    out->first_timestamp = in->deprecated_first_timestamp;
    out->last_timestamp = in->deprecated_last_timestamp;
    out->count = in->deprecated_count;
    out->has_count = in->has_deprecated_count;
    out->type = in->type;
    out->event_time = in->event_time;
    out->series = (struct k8s_event_series *)(void *)in->series; /* one layout */
    out->action = in->action;
    out->related = in->related;
    out->reporting_component = in->reporting_controller;
    out->reporting_instance = in->reporting_instance;
    return out;
}
_Static_assert(sizeof(struct k8s_event_series) == sizeof(struct k8s_events_event_series), "event series differ");

static void *event_from_core(const void *from, struct kp_arena *arena)
{
    const struct k8s_event *in = from;
    struct k8s_events_event *out = KP_OBJECT_NEW(arena, k8s_events_event);
    out->metadata = in->metadata;
    out->regarding = in->involved_object;
    out->reason = in->reason;
    out->note = in->message;
    out->deprecated_source = in->source;
    out->deprecated_first_timestamp = in->first_timestamp;
    out->deprecated_last_timestamp = in->last_timestamp;
    out->deprecated_count = in->count;
    out->has_deprecated_count = in->has_count;
    out->type = in->type;
    out->event_time = in->event_time;
    out->series = (struct k8s_events_event_series *)(void *)in->series;
    out->action = in->action;
    out->related = in->related;
    out->reporting_controller = in->reporting_component;
    out->reporting_instance = in->reporting_instance;
    return out;
}

static bool is_cpu_utilization(const struct k8s_metric_spec *metric)
{
    return kp_streq(metric->type, "Resource") && metric->resource && kp_streq(metric->resource->name, "cpu") &&
           metric->resource->target->has_average_utilization;
}

/* What v1 cannot say is lost to it; the stored v2 form keeps it as long as v1 clients do not write. */
static void *autoscaler_to_v1(const void *from, struct kp_arena *arena)
{
    const struct k8s_autoscaling_v2_horizontal_pod_autoscaler *in = from;
    struct k8s_horizontal_pod_autoscaler *out = KP_OBJECT_NEW(arena, k8s_horizontal_pod_autoscaler);
    out->metadata = in->metadata;
    out->spec->scale_target_ref->api_version = in->spec->scale_target_ref->api_version;
    out->spec->scale_target_ref->kind = in->spec->scale_target_ref->kind;
    out->spec->scale_target_ref->name = in->spec->scale_target_ref->name;
    out->spec->min_replicas = in->spec->min_replicas;
    out->spec->has_min_replicas = in->spec->has_min_replicas;
    out->spec->max_replicas = in->spec->max_replicas;
    out->spec->has_max_replicas = in->spec->has_max_replicas;
    for (size_t i = 0; i < in->spec->metrics.len; i++)
        if (is_cpu_utilization(&in->spec->metrics.items[i]))
            KP_SET(out->spec, target_cpu_utilization_percentage, in->spec->metrics.items[i].resource->target->average_utilization);
    out->status->observed_generation = in->status->observed_generation;
    out->status->has_observed_generation = in->status->has_observed_generation;
    out->status->last_scale_time = in->status->last_scale_time;
    KP_SET(out->status, current_replicas, in->status->current_replicas);
    KP_SET(out->status, desired_replicas, in->status->desired_replicas);
    for (size_t i = 0; i < in->status->current_metrics.len; i++) {
        const struct k8s_metric_status *metric = &in->status->current_metrics.items[i];
        if (kp_streq(metric->type, "Resource") && metric->resource && kp_streq(metric->resource->name, "cpu") &&
            metric->resource->current->has_average_utilization)
            KP_SET(out->status, current_cpu_utilization_percentage, metric->resource->current->average_utilization);
    }
    return out;
}

static void *autoscaler_from_v1(const void *from, struct kp_arena *arena)
{
    const struct k8s_horizontal_pod_autoscaler *in = from;
    struct k8s_autoscaling_v2_horizontal_pod_autoscaler *out = KP_OBJECT_NEW(arena, k8s_autoscaling_v2_horizontal_pod_autoscaler);
    out->metadata = in->metadata;
    out->spec->scale_target_ref->api_version = in->spec->scale_target_ref->api_version;
    out->spec->scale_target_ref->kind = in->spec->scale_target_ref->kind;
    out->spec->scale_target_ref->name = in->spec->scale_target_ref->name;
    out->spec->min_replicas = in->spec->min_replicas;
    out->spec->has_min_replicas = in->spec->has_min_replicas;
    out->spec->max_replicas = in->spec->max_replicas;
    out->spec->has_max_replicas = in->spec->has_max_replicas;
    if (in->spec->has_target_cpu_utilization_percentage) {
        struct k8s_metric_spec *metric = KP_LIST_ADD(arena, &out->spec->metrics);
        metric->type = "Resource";
        metric->resource = KP_OBJECT_NEW(arena, k8s_resource_metric_source);
        metric->resource->name = "cpu";
        metric->resource->target->type = "Utilization";
        KP_SET(metric->resource->target, average_utilization, in->spec->target_cpu_utilization_percentage);
    }
    out->status->observed_generation = in->status->observed_generation;
    out->status->has_observed_generation = in->status->has_observed_generation;
    out->status->last_scale_time = in->status->last_scale_time;
    KP_SET(out->status, current_replicas, in->status->current_replicas);
    KP_SET(out->status, desired_replicas, in->status->desired_replicas);
    return out;
}

void *registry_convert(const struct kp_type *from, const void *obj, const struct kp_type *to, struct kp_arena *arena)
{
    if (from == to || !obj)
        return (void *)(uintptr_t)obj;
    if (from == &k8s_events_event_type && to == &k8s_event_type)
        return event_to_core(obj, arena);
    if (from == &k8s_event_type && to == &k8s_events_event_type)
        return event_from_core(obj, arena);
    if (from == &k8s_autoscaling_v2_horizontal_pod_autoscaler_type && to == &k8s_horizontal_pod_autoscaler_type)
        return autoscaler_to_v1(obj, arena);
    if (from == &k8s_horizontal_pod_autoscaler_type && to == &k8s_autoscaling_v2_horizontal_pod_autoscaler_type)
        return autoscaler_from_v1(obj, arena);
    if (from->schema_json && to->schema_json)
        return registry_convert_custom(from, obj, to, arena);
    KP_ASSERT(!"no conversion between these types");
    return NULL;
}
