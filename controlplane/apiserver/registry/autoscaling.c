/* HorizontalPodAutoscalers: what is filled in and what is refused (upstream's pkg/apis/autoscaling v2/defaults.go and validation/validation.go). */
#include "controlplane/apiserver/registry/strategy_internal.h"

#define CPU_UTILIZATION 80
#define PERIOD_S 15
#define PERIOD_S_MAX 1800
#define STABILIZATION_S_MAX 3600

/* ---- defaults -------------------------------------------------------------------------------------------------------------------- */
static void add_policy(struct kp_arena *arena, struct k8s_hpa_scaling_rules *rules, const char *type, int32_t value)
{
    struct k8s_hpa_scaling_policy *policy = KP_LIST_ADD(arena, &rules->policies);
    policy->type = type;
    KP_SET(policy, value, value);
    KP_SET(policy, period_seconds, PERIOD_S);
}

/* Up at once, by four pods or to twice as many; down to nothing, after a time that is the controller's to know. */
static struct k8s_hpa_scaling_rules *default_rules(struct kp_arena *arena, struct k8s_hpa_scaling_rules *rules, bool up)
{
    if (!rules)
        rules = KP_OBJECT_NEW(arena, k8s_hpa_scaling_rules);
    if (!rules->select_policy)
        rules->select_policy = "Max";
    if (up && !rules->has_stabilization_window_seconds)
        KP_SET(rules, stabilization_window_seconds, 0);
    if (rules->policies.items)
        return rules;
    if (up)
        add_policy(arena, rules, "Pods", 4);
    add_policy(arena, rules, "Percent", 100);
    return rules;
}

void horizontal_pod_autoscaler_defaults(struct registry_request *rq, void *obj)
{
    struct k8s_autoscaling_v2_horizontal_pod_autoscaler_spec *spec = ((struct k8s_autoscaling_v2_horizontal_pod_autoscaler *)obj)->spec;
    if (!spec->has_min_replicas)
        KP_SET(spec, min_replicas, 1);
    if (!spec->metrics.len) {
        struct k8s_metric_spec *metric = KP_LIST_ADD(rq->arena, &spec->metrics);
        metric->type = "Resource";
        metric->resource = KP_OBJECT_NEW(rq->arena, k8s_resource_metric_source);
        metric->resource->name = "cpu";
        metric->resource->target->type = "Utilization";
        KP_SET(metric->resource->target, average_utilization, CPU_UTILIZATION);
    }
    if (!spec->behavior)
        return;
    spec->behavior->scale_up = default_rules(rq->arena, spec->behavior->scale_up, true);
    spec->behavior->scale_down = default_rules(rq->arena, spec->behavior->scale_down, false);
}

/* ---- metrics --------------------------------------------------------------------------------------------------------------------- */
static void validate_segment(const char *value, const char *missing, struct field_errors *errors, const char *path)
{
    if (kp_empty(value))
        field_required(errors, missing, "%s", path);
    else if (name_is_path_segment(value))
        field_invalid(errors, value, name_is_path_segment(value), "%s", path);
}

static const char *under(struct field_errors *errors, const char *path, const char *name)
{
    return kp_arena_printf(errors->arena, "%s.%s", path, name);
}

static void validate_reference(const struct k8s_autoscaling_v2_cross_version_object_reference *ref, struct field_errors *errors, const char *path)
{
    validate_segment(ref->kind, "", errors, under(errors, path, "kind"));
    validate_segment(ref->name, "", errors, under(errors, path, "name"));
}

static void validate_positive(const char *quantity, struct field_errors *errors, const char *path)
{
    const struct kp_quantity value = kp_quantity_of(quantity);
    if (quantity && value.nanos <= 0)
        field_invalid(errors, quantity, "must be positive", "%s", path);
}

static void validate_target(const struct k8s_metric_target *target, struct field_errors *errors, const char *path)
{
    const char *type = target->type ? target->type : "";
    if (!*type)
        field_required(errors, "must specify a metric target type", "%s.type", path);
    if (strcmp(type, "Utilization") != 0 && strcmp(type, "Value") != 0 && strcmp(type, "AverageValue") != 0)
        field_invalid(errors, type, "must be either Utilization, Value, or AverageValue", "%s.type", path);
    validate_positive(target->value, errors, under(errors, path, "value"));
    validate_positive(target->average_value, errors, under(errors, path, "averageValue"));
    if (target->has_average_utilization && target->average_utilization < 1)
        field_invalid_int(errors, target->average_utilization, "must be greater than 0", "%s.averageUtilization", path);
}

/* Of metrics with a name of their own. missing: what to say when neither target is set. */
static void validate_named(const struct k8s_metric_identifier *metric, const struct k8s_metric_target *target, const char *missing, bool value_will_do,
                           struct field_errors *errors, const char *path)
{
    validate_segment(metric->name, "must specify a metric name", errors, under(errors, path, "metric.name"));
    validate_target(target, errors, under(errors, path, "target"));
    if (!target->average_value && !(value_will_do && target->value))
        field_required(errors, missing, "%s.target.averageValue", path);
}

static void validate_usage(const struct k8s_metric_target *target, struct field_errors *errors, const char *path)
{
    validate_target(target, errors, path);
    if (!target->has_average_utilization && !target->average_value)
        field_required(errors, "must set either a target raw value or a target utilization", "%s.averageUtilization", path);
    if (target->has_average_utilization && target->average_value)
        field_forbidden(errors, "may not set both a target raw value and a target utilization", "%s.averageValue", path);
}

static void validate_object(const struct k8s_metric_spec *spec, struct field_errors *errors, const char *path)
{
    validate_reference(spec->object->described_object, errors, under(errors, path, "describedObject"));
    validate_named(spec->object->metric, spec->object->target, "must set either a target value or averageValue", true, errors, path);
}

static void validate_external(const struct k8s_metric_spec *spec, struct field_errors *errors, const char *path)
{
    const struct k8s_metric_target *target = spec->external->target;
    validate_named(spec->external->metric, target, "must set either a target value for metric or a per-pod target", true, errors, path);
    if (target->value && target->average_value)
        field_forbidden(errors, "may not set both a target value for metric and a per-pod target", "%s.target.value", path);
}

static void validate_pods(const struct k8s_metric_spec *spec, struct field_errors *errors, const char *path)
{
    validate_named(spec->pods->metric, spec->pods->target, "must specify a positive target averageValue", false, errors, path);
}

static void validate_resource(const struct k8s_metric_spec *spec, struct field_errors *errors, const char *path)
{
    if (kp_empty(spec->resource->name))
        field_required(errors, "must specify a resource name", "%s.name", path);
    validate_usage(spec->resource->target, errors, under(errors, path, "target"));
}

static void validate_container_resource(const struct k8s_metric_spec *spec, struct field_errors *errors, const char *path)
{
    const struct k8s_container_resource_metric_source *source = spec->container_resource;
    const char *fault = kp_empty(source->name) ? NULL : kp_validate_qualified_name(source->name);
    if (kp_empty(source->name))
        field_required(errors, "must specify a resource name", "%s.name", path);
    else if (fault)
        field_invalid(errors, source->name, fault, "%s.name", path);
    if (kp_empty(source->container))
        field_required(errors, "must specify a container", "%s.container", path);
    else if (name_is_label(source->container))
        field_invalid(errors, source->container, name_is_label(source->container), "%s.container", path);
    validate_usage(source->target, errors, under(errors, path, "target"));
}

static void validate_metric(const struct k8s_metric_spec *spec, struct field_errors *errors, const char *path)
{
    static const char *const types[] = {"ContainerResource", "External", "Object", "Pods", "Resource", NULL};
    const struct {
        const char *type, *field;
        const void *source;
        void (*validate)(const struct k8s_metric_spec *spec, struct field_errors *errors, const char *path);
    } sources[] = {{"Object", "object", spec->object, validate_object},
                   {"External", "external", spec->external, validate_external},
                   {"Pods", "pods", spec->pods, validate_pods},
                   {"Resource", "resource", spec->resource, validate_resource},
                   {"ContainerResource", "containerResource", spec->container_resource, validate_container_resource}};
    const char *type = spec->type ? spec->type : "", *expected = NULL;
    size_t present = 0;
    if (!*type)
        field_required(errors, "must specify a metric source type", "%s.type", path);
    for (size_t i = 0; i < KP_ARRAY_LEN(sources); i++)
        if (strcmp(sources[i].type, type) == 0)
            expected = sources[i].field;
    if (!expected)
        field_not_supported(errors, type, types, "%s.type", path);
    for (size_t i = 0; i < KP_ARRAY_LEN(sources); i++)
        if (sources[i].source && ++present == 1) /* the first alone, as upstream */
            sources[i].validate(spec, errors, under(errors, path, sources[i].field));
    for (size_t i = 0; i < KP_ARRAY_LEN(sources); i++)
        if (!sources[i].source && kp_streq(sources[i].field, expected))
            field_required(errors, "must populate information for the given metric source", "%s.%s", path, expected);
    if (!expected)
        field_not_supported(errors, type, types, "%s.type", path);
    for (size_t i = 0; present > 1 && i < KP_ARRAY_LEN(sources); i++)
        if (sources[i].source && !kp_streq(sources[i].field, expected))
            field_forbidden(errors, "must populate the given metric source only", "%s.%s", path, sources[i].field);
}

/* ---- behaviour --------------------------------------------------------------------------------------------------------------------- */
static void validate_policy(const struct k8s_hpa_scaling_policy *policy, struct field_errors *errors, const char *path)
{
    static const char *const types[] = {"Percent", "Pods", NULL};
    const char *type = policy->type ? policy->type : "";
    if (strcmp(type, "Pods") != 0 && strcmp(type, "Percent") != 0)
        field_not_supported(errors, type, types, "%s.type", path);
    if (policy->value <= 0)
        field_invalid_int(errors, policy->value, "must be greater than zero", "%s.value", path);
    if (policy->period_seconds <= 0)
        field_invalid_int(errors, policy->period_seconds, "must be greater than zero", "%s.periodSeconds", path);
    if (policy->period_seconds > PERIOD_S_MAX)
        field_invalid_int(errors, policy->period_seconds, "must be less than or equal to 1800", "%s.periodSeconds", path);
}

static void validate_rules(const struct k8s_hpa_scaling_rules *rules, struct field_errors *errors, const char *path)
{
    static const char *const policies[] = {"Disabled", "Max", "Min", NULL};
    if (!rules)
        return;
    if (rules->has_stabilization_window_seconds && rules->stabilization_window_seconds < 0)
        field_invalid_int(errors, rules->stabilization_window_seconds, "must be greater than or equal to zero", "%s.stabilizationWindowSeconds", path);
    if (rules->has_stabilization_window_seconds && rules->stabilization_window_seconds > STABILIZATION_S_MAX)
        field_invalid_int(errors, rules->stabilization_window_seconds, "must be less than or equal to 3600", "%s.stabilizationWindowSeconds", path);
    if (rules->select_policy && strcmp(rules->select_policy, "Max") != 0 && strcmp(rules->select_policy, "Min") != 0 &&
        strcmp(rules->select_policy, "Disabled") != 0)
        field_not_supported(errors, rules->select_policy, policies, "%s.selectPolicy", path);
    const struct kp_quantity tolerance = kp_quantity_of(rules->tolerance);
    if (tolerance.nanos < 0)
        field_invalid(errors, rules->tolerance, "must be greater than or equal to 0", "%s.tolerance", path);
    if (!rules->policies.len)
        field_required(errors, "must specify at least one Policy", "%s.policies", path);
    for (size_t i = 0; i < rules->policies.len; i++)
        validate_policy(&rules->policies.items[i], errors, kp_arena_printf(errors->arena, "%s.policies[%zu]", path, i));
}

void horizontal_pod_autoscaler_validate(struct registry_request *rq, const void *obj, struct field_errors *errors)
{
    const struct k8s_autoscaling_v2_horizontal_pod_autoscaler *hpa = obj;
    const struct k8s_autoscaling_v2_horizontal_pod_autoscaler_spec *spec = hpa->spec;
    (void)rq;
    if (spec->has_min_replicas && spec->min_replicas < 1) /* the feature HPAScaleToZero is off */
        field_invalid_int(errors, spec->min_replicas, "must be greater than or equal to 1", "spec.minReplicas");
    if (spec->max_replicas < 1)
        field_invalid_int(errors, spec->max_replicas, "must be greater than 0", "spec.maxReplicas");
    if (spec->has_min_replicas && spec->max_replicas < spec->min_replicas)
        field_invalid_int(errors, spec->max_replicas, "must be greater than or equal to `minReplicas`", "spec.maxReplicas");
    validate_reference(spec->scale_target_ref, errors, "spec.scaleTargetRef");
    for (size_t i = 0; i < spec->metrics.len; i++)
        validate_metric(&spec->metrics.items[i], errors, kp_arena_printf(errors->arena, "spec.metrics[%zu]", i));
    if (spec->behavior) {
        validate_rules(spec->behavior->scale_up, errors, "spec.behavior.scaleUp");
        validate_rules(spec->behavior->scale_down, errors, "spec.behavior.scaleDown");
    }
    if (hpa->status->current_replicas < 0)
        field_invalid_int(errors, hpa->status->current_replicas, "must be greater than or equal to 0", "status.currentReplicas");
    if (hpa->status->desired_replicas < 0)
        field_invalid_int(errors, hpa->status->desired_replicas, "must be greater than or equal to 0", "status.desiredReplicas");
}
