/* HorizontalPodAutoscalers: what is filled in, what is refused and with which words, and the column TARGETS. */
#include "api/k8s.h"
#include "controlplane/apiserver/registry/strategy_internal.h"
#include "controlplane/apiserver/table/table.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#define TYPE k8s_autoscaling_v2_horizontal_pod_autoscaler_type
#define TARGET "scaleTargetRef: {kind: Deployment, name: t}"
#define CPU "{type: Resource, resource: {name: cpu, target: {type: Utilization, averageUtilization: 50}}}"
#define POLICY "policies: [{type: Pods, value: 1, periodSeconds: 1}]"

static struct k8s_autoscaling_v2_horizontal_pod_autoscaler *parse(struct kp_arena *arena, const char *body)
{
    struct kp_error error = {0};
    void *obj = NULL;
    const char *yaml = kp_arena_printf(arena, "{metadata: {name: h, namespace: d}, %s}", body);
    if (kp_yaml_decode(&TYPE, yaml, strlen(yaml), arena, NULL, &obj, &error) < 0)
        fail_msg("%s in %s", error.message, yaml);
    return obj;
}

static void what_is_left_out_is_filled_in(void **state)
{
    (void)state;
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    struct registry_request rq = {.arena = arena};
    struct k8s_autoscaling_v2_horizontal_pod_autoscaler *hpa = parse(arena, "spec: {" TARGET ", maxReplicas: 3}");
    horizontal_pod_autoscaler_defaults(&rq, hpa);
    assert_int_equal(hpa->spec->min_replicas, 1);
    assert_int_equal(hpa->spec->metrics.items[0].resource->target->average_utilization, 80);
    assert_null(hpa->spec->behavior);
    hpa = parse(arena, "spec: {" TARGET ", maxReplicas: 3, metrics: [" CPU "], behavior: {scaleDown: {selectPolicy: Disabled}}}");
    horizontal_pod_autoscaler_defaults(&rq, hpa);
    KP_AUTO_BUF struct kp_buf out = {0};
    kp_json_encode(&k8s_horizontal_pod_autoscaler_behavior_type, hpa->spec->behavior, &out);
    assert_string_equal(out.data, "{\"scaleUp\":{\"stabilizationWindowSeconds\":0,\"selectPolicy\":\"Max\",\"policies\":[{\"type\":\"Pods\",\"value\":4,\"periodSeconds\":15},"
                                  "{\"type\":\"Percent\",\"value\":100,\"periodSeconds\":15}]},\"scaleDown\":{\"selectPolicy\":\"Disabled\",\"policies\":"
                                  "[{\"type\":\"Percent\",\"value\":100,\"periodSeconds\":15}]}}");
}

static void what_is_wrong_is_refused_with_upstreams_words(void **state)
{
    (void)state;
    static const struct {
        const char *spec, *field, *message;
    } rows[] = {
        {TARGET ", maxReplicas: 0, metrics: [" CPU "]", "spec.maxReplicas", "Invalid value: 0: must be greater than 0"},
        {TARGET ", maxReplicas: 3, minReplicas: 0, metrics: [" CPU "]", "spec.minReplicas", "Invalid value: 0: must be greater than or equal to 1"},
        {TARGET ", maxReplicas: 3, minReplicas: 4, metrics: [" CPU "]", "spec.maxReplicas", "Invalid value: 3: must be greater than or equal to `minReplicas`"},
        {"scaleTargetRef: {name: t}, maxReplicas: 3", "spec.scaleTargetRef.kind", "Required value"},
        {"scaleTargetRef: {kind: a/b, name: t}, maxReplicas: 3", "spec.scaleTargetRef.kind", "Invalid value: \"a/b\": may not contain '/'"},
        {TARGET ", maxReplicas: 3, metrics: [{type: Resource}]", "spec.metrics[0].resource", "Required value: must populate information for the given metric source"},
        {TARGET ", maxReplicas: 3, metrics: [{type: Odd}]", "spec.metrics[0].type",
         "Unsupported value: \"Odd\": supported values: \"ContainerResource\", \"External\", \"Object\", \"Pods\", \"Resource\""},
        {TARGET ", maxReplicas: 3, metrics: [{type: Resource, resource: {name: cpu, target: {type: Utilization}}}]", "spec.metrics[0].resource.target.averageUtilization",
         "Required value: must set either a target raw value or a target utilization"},
        {TARGET ", maxReplicas: 3, metrics: [{type: Resource, resource: {name: cpu, target: {type: Odd, averageValue: 1}}}]", "spec.metrics[0].resource.target.type",
         "Invalid value: \"Odd\": must be either Utilization, Value, or AverageValue"},
        {TARGET ", maxReplicas: 3, metrics: [{type: Resource, resource: {name: cpu, target: {type: AverageValue, averageValue: '0'}}}]",
         "spec.metrics[0].resource.target.averageValue", "Invalid value: \"0\": must be positive"},
        {TARGET ", maxReplicas: 3, metrics: [{type: Resource, resource: {name: cpu, target: {type: Utilization, averageUtilization: 5, averageValue: 1}}}]",
         "spec.metrics[0].resource.target.averageValue", "Forbidden: may not set both a target raw value and a target utilization"},
        {TARGET ", maxReplicas: 3, metrics: [{type: Resource, resource: {name: cpu, target: {type: Utilization, averageUtilization: 5}}, pods: {metric: {name: m}, target: {type: "
                "AverageValue, averageValue: 1}}}]", "spec.metrics[0].pods", "Forbidden: must populate the given metric source only"},
        {TARGET ", maxReplicas: 3, metrics: [{type: Pods, pods: {metric: {name: m}, target: {type: Value, value: 1}}}]", "spec.metrics[0].pods.target.averageValue",
         "Required value: must specify a positive target averageValue"},
        {TARGET ", maxReplicas: 3, metrics: [{type: ContainerResource, containerResource: {name: cpu, target: {type: Utilization, averageUtilization: 5}}}]",
         "spec.metrics[0].containerResource.container", "Required value: must specify a container"},
        {TARGET ", maxReplicas: 3, behavior: {scaleUp: {" POLICY ", stabilizationWindowSeconds: 3601}}", "spec.behavior.scaleUp.stabilizationWindowSeconds",
         "Invalid value: 3601: must be less than or equal to 3600"},
        {TARGET ", maxReplicas: 3, behavior: {scaleUp: {policies: []}}", "spec.behavior.scaleUp.policies", "Required value: must specify at least one Policy"},
        {TARGET ", maxReplicas: 3, behavior: {scaleDown: {policies: [{type: Pods, value: 0, periodSeconds: 1801}]}}", "spec.behavior.scaleDown.policies[0].periodSeconds",
         "Invalid value: 1801: must be less than or equal to 1800"},
        {TARGET ", maxReplicas: 3, behavior: {scaleDown: {" POLICY ", selectPolicy: Odd}}", "spec.behavior.scaleDown.selectPolicy",
         "Unsupported value: \"Odd\": supported values: \"Disabled\", \"Max\", \"Min\""},
    };
    for (size_t i = 0; i < KP_ARRAY_LEN(rows); i++) {
        KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
        struct registry_request rq = {.arena = arena};
        struct field_errors errors = {.arena = arena};
        horizontal_pod_autoscaler_validate(&rq, parse(arena, kp_arena_printf(arena, "spec: {%s}", rows[i].spec)), &errors);
        bool found = false;
        for (size_t k = 0; k < errors.len; k++)
            found |= kp_streq(errors.items[k].field, rows[i].field) && kp_streq(errors.items[k].message, rows[i].message);
        if (!found)
            fail_msg("%s: no %s in %zu errors, the first: %s: %s", rows[i].spec, rows[i].message, errors.len, errors.len ? errors.items[0].field : "",
                     errors.len ? errors.items[0].message : "");
    }
}

static void what_is_right_is_taken(void **state)
{
    (void)state;
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    struct registry_request rq = {.arena = arena};
    struct field_errors errors = {.arena = arena};
    struct k8s_autoscaling_v2_horizontal_pod_autoscaler *hpa =
        parse(arena, "spec: {" TARGET ", maxReplicas: 3, minReplicas: 3, behavior: {scaleUp: {tolerance: 50m}}, metrics: [" CPU
                     ", {type: External, external: {metric: {name: q}, target: {type: Value, value: 10}}}, {type: Object, object: {metric: {name: q}, describedObject: {kind: "
                     "Service, name: s}, target: {type: AverageValue, averageValue: 10}}}]}, status: {currentMetrics: [{type: ''}]}");
    horizontal_pod_autoscaler_defaults(&rq, hpa);
    horizontal_pod_autoscaler_validate(&rq, hpa, &errors);
    if (errors.len)
        fail_msg("%s: %s", errors.items[0].field, errors.items[0].message);
}

static void every_target_is_shown(void **state)
{
    (void)state;
    static const struct {
        const char *body, *targets;
    } rows[] = {
        {"spec: {" TARGET ", maxReplicas: 3, metrics: [" CPU "]}", "cpu: <unknown>/50%"},
        {"spec: {" TARGET ", maxReplicas: 3, metrics: [" CPU "]}, status: {currentMetrics: [{type: Resource, resource: {name: cpu, current: {averageUtilization: 12, "
         "averageValue: 12m}}}]}", "cpu: 12%/50%"},
        {"spec: {" TARGET ", maxReplicas: 3, metrics: [{type: Pods, pods: {metric: {name: m}, target: {type: AverageValue, averageValue: 10}}}, {type: External, external: "
         "{metric: {name: q}, target: {type: AverageValue, averageValue: 10}}}]}, status: {currentMetrics: [{type: Pods, pods: {metric: {name: m}, current: {averageValue: 9}}}]}",
         "9/10, <unknown>/10 (avg)"},
        {"spec: {" TARGET ", maxReplicas: 3, metrics: [{type: ContainerResource, containerResource: {name: memory, container: c, target: {type: AverageValue, averageValue: "
         "1Gi}}}, {type: Object, object: {metric: {name: q}, describedObject: {kind: Service, name: s}, target: {type: Value, value: 10}}}, " CPU "]}",
         "memory: <unknown>/1Gi, <unknown>/10 + 1 more..."},
    };
    for (size_t i = 0; i < KP_ARRAY_LEN(rows); i++) {
        KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
        KP_AUTO_BUF struct kp_buf row = {0};
        table_cells(&k8s_autoscaling_v2_horizontalpodautoscalers_resource, parse(arena, rows[i].body), 1, arena, &row);
        assert_string_equal(row.data, kp_arena_printf(arena, "[\"h\",\"Deployment/t\",\"%s\",\"<unset>\",3,0,\"<unknown>\"]", rows[i].targets));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_left_out_is_filled_in),
        cmocka_unit_test(what_is_wrong_is_refused_with_upstreams_words),
        cmocka_unit_test(what_is_right_is_taken),
        cmocka_unit_test(every_target_is_shown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
