/* HorizontalPodAutoscaler: what metrics want, what may be done of it, and what is told. The tables follow upstream's documented algorithm. */
#include "controlplane/controller-manager/hpa.h"
#include "tests/support/kcm_world.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#define PODS_MAX 20
#define NOW 1000000

struct world {
    struct kp_arena *arena;
    struct hpa_settings settings;
    struct hpa_input in;
    struct hpa_metric metrics[4];
    const struct k8s_pod *pods[PODS_MAX];
    struct hpa_memory memory;
    struct plan *plan;
    struct kp_buf text;
};

static void *parse(struct world *w, const struct kp_type *type, const char *yaml)
{
    struct kp_error error = {0};
    void *obj = NULL;
    if (kp_yaml_decode(type, yaml, strlen(yaml), w->arena, NULL, &obj, &error) < 0)
        fail_msg("%s in %s", error.message, yaml);
    return obj;
}

static void set_scale(struct world *w, int32_t replicas)
{
    w->in.scale = parse(w, &k8s_scale_type, kp_arena_printf(w->arena, "{metadata: {name: t, namespace: d}, spec: {replicas: %d}, status: {replicas: %d, selector: app=t}}",
                                                            replicas, replicas));
}

/* spec: beside the target and the bounds of 1 and 100. */
static void begin(struct world *w, int32_t replicas, const char *spec)
{
    *w = (struct world){.arena = kp_arena_new(0), .settings = HPA_SETTINGS_DEFAULT};
    w->in = (struct hpa_input){.settings = &w->settings, .arena = w->arena, .now_s = NOW, .pods = w->pods, .metrics = w->metrics, .target = &k8s_deployments_resource};
    w->in.hpa = parse(w, &k8s_autoscaling_v2_horizontal_pod_autoscaler_type,
                      kp_arena_printf(w->arena, "{metadata: {name: h, namespace: d, generation: 3}, spec: {scaleTargetRef: {kind: Deployment, name: t, apiVersion: apps/v1}, "
                                                "minReplicas: 1, maxReplicas: 100, %s}}", spec));
    set_scale(w, replicas);
}

static void end(struct world *w)
{
    hpa_memory_done(&w->memory);
    kp_buf_done(&w->text);
    kp_arena_free(w->arena);
}

#define READY "phase: Running, startTime: '1970-01-01T00:00:00Z', conditions: [{type: Ready, status: 'True', lastTransitionTime: '1970-01-01T00:00:00Z'}]"
#define REQUEST "{name: c, resources: {requests: {cpu: 1, memory: 1Gi}}}"

static void add_pod(struct world *w, const char *containers, const char *status)
{
    size_t i = w->in.n_pods++;
    w->pods[i] = parse(w, &k8s_pod_type, kp_arena_printf(w->arena, "{metadata: {name: p%zu, namespace: d, labels: {app: t}}, spec: {containers: [%s]}, status: {%s}}", i,
                                                         containers, status));
}

static void add_sample(struct world *w, const char *pod, int64_t value)
{
    struct hpa_metric *m = &w->metrics[0];
    if (!m->samples)
        m->samples = KP_NEW_ARRAY(w->arena, struct hpa_sample, PODS_MAX);
    m->samples[m->n_samples++] = (struct hpa_sample){.name = kp_arena_strdup(w->arena, pod), .value = value, .timestamp_s = w->in.now_s, .window_s = 15};
}

/* Pods p0, p1, ...: digits' meaning by letter. r: ready with the next value; u: not ready, with a value; m: no value; d: being deleted; f: failed; n: pending. */
static void populate(struct world *w, const char *kinds, const int64_t *values)
{
    for (size_t i = 0; kinds[i]; i++) {
        const char *name = kp_arena_printf(w->arena, "p%zu", i);
        switch (kinds[i]) {
        case 'u':
            add_pod(w, REQUEST, "phase: Running, startTime: '1970-01-12T13:46:30Z', conditions: [{type: Ready, status: 'False', lastTransitionTime: '1970-01-12T13:46:30Z'}]");
            break;
        case 'n':
            add_pod(w, REQUEST, "phase: Pending");
            break;
        case 'f':
            add_pod(w, REQUEST, "phase: Failed");
            break;
        default:
            add_pod(w, REQUEST, READY);
        }
        if (kinds[i] == 'd')
            w->pods[i]->metadata->deletion_timestamp = KP_TIME_OF(NOW);
        if (strchr("rudf", kinds[i]))
            add_sample(w, name, *values++);
    }
}

static const char *decide(struct world *w)
{
    w->plan = plan_new(w->arena);
    w->text.len = 0;
    hpa_decide(&w->in, &w->memory, w->plan);
    plan_describe(w->plan, &w->text);
    return w->text.data ? w->text.data : "";
}

static const struct k8s_autoscaling_v2_horizontal_pod_autoscaler *written(const struct world *w)
{
    for (const struct plan_write *write = w->plan->first; write; write = write->next)
        if (write->op == PLAN_UPDATE)
            return write->obj;
    return w->in.hpa;
}

static const struct k8s_horizontal_pod_autoscaler_condition *condition(const struct world *w, const char *type)
{
    const struct k8s_horizontal_pod_autoscaler_condition_items *all = &written(w)->status->conditions;
    for (size_t i = 0; i < all->len; i++)
        if (kp_streq(all->items[i].type, type))
            return &all->items[i];
    fail_msg("no condition %s", type);
    return NULL;
}

static void assert_condition(const struct world *w, const char *type, const char *status, const char *reason)
{
    assert_string_equal(condition(w, type)->status, status);
    assert_string_equal(condition(w, type)->reason, reason);
}

#define CPU(percent) "metrics: [{type: Resource, resource: {name: cpu, target: {type: Utilization, averageUtilization: " #percent "}}}]"

/* ---- what a metric wants ------------------------------------------------------------------------------------------------------------ */
static void utilization_moves_the_size_by_its_ratio(void **state)
{
    (void)state;
    static const struct {
        const char *what;
        int32_t current, target;
        const char *pods;
        int64_t values[8];
        int32_t replicas, utilization;
    } rows[] = {
        {"up", 3, 30, "rrr", {300, 500, 700}, 5, 50},
        {"down", 5, 50, "rrrrr", {100, 300, 500, 250, 250}, 3, 28},
        {"within the tolerance, above", 3, 100, "rrr", {1010, 1030, 1020}, 3, 102},
        {"within the tolerance, below", 3, 100, "rrr", {950, 910, 940}, 3, 93},
        {"at its very edge", 2, 100, "rr", {1100, 1100}, 2, 110},
        {"just beyond it", 2, 100, "rr", {1110, 1110}, 3, 111},
        {"unready pods count as idle when it goes up", 3, 30, "urr", {100, 500, 700}, 4, 60},
        {"and not when it goes down", 3, 50, "urr", {900, 200, 200}, 1, 20},
        {"pending ones likewise", 3, 30, "nrr", {500, 700}, 4, 60},
        {"a missing one keeps it from the other direction", 2, 100, "rm", {450}, 2, 45},
        {"a missing one uses all of its request when it goes down", 4, 100, "rrrm", {100, 100, 100}, 2, 10},
        {"and nothing when it goes up", 4, 50, "rrrm", {1000, 1000, 1000}, 6, 100},
        {"above 100% it uses the target", 4, 200, "rrrm", {400, 400, 400}, 2, 40},
        {"failed pods are ignored", 3, 50, "rrf", {500, 700, 700}, 3, 60},
        {"pods being deleted are ignored", 3, 50, "rrrd", {500, 700, 300, 900}, 3, 50},
    };
    for (size_t i = 0; i < KP_ARRAY_LEN(rows); i++) {
        struct world w;
        const struct hpa_tolerance tolerance = {0.1, 0.1};
        begin(&w, rows[i].current, CPU(50));
        populate(&w, rows[i].pods, rows[i].values);
        struct hpa_proposal proposal = hpa_by_utilization(&w.in, &w.metrics[0], "cpu", NULL, rows[i].target, &tolerance);
        if (proposal.error || proposal.replicas != rows[i].replicas || proposal.utilization != rows[i].utilization)
            fail_msg("%s: %d at %d%%, not %d at %d%% %s", rows[i].what, proposal.replicas, proposal.utilization, rows[i].replicas, rows[i].utilization,
                     proposal.error ? proposal.error : "");
        end(&w);
    }
}

static void a_pod_that_begins_does_not_count_before_it_was_ready_for_a_window(void **state)
{
    (void)state;
    static const struct {
        const char *status;
        bool counts;
    } rows[] = {
        {"phase: Running, startTime: '1970-01-12T13:43:00Z', conditions: [{type: Ready, status: 'True', lastTransitionTime: '1970-01-12T13:46:20Z'}]", true},
        {"phase: Running, startTime: '1970-01-12T13:43:00Z', conditions: [{type: Ready, status: 'True', lastTransitionTime: '1970-01-12T13:46:30Z'}]", false},
        {"phase: Running, startTime: '1970-01-12T13:43:00Z', conditions: [{type: Ready, status: 'False', lastTransitionTime: '1970-01-12T13:46:00Z'}]", false},
        {"phase: Running, startTime: '1970-01-12T13:00:00Z', conditions: [{type: Ready, status: 'False', lastTransitionTime: '1970-01-12T13:00:10Z'}]", false},
        {"phase: Running, startTime: '1970-01-12T13:00:00Z', conditions: [{type: Ready, status: 'False', lastTransitionTime: '1970-01-12T13:30:00Z'}]", true},
        {"phase: Running, startTime: '1970-01-12T13:00:00Z'", false},
        {"phase: Running, conditions: [{type: Ready, status: 'True', lastTransitionTime: '1970-01-12T13:30:00Z'}]", false},
    };
    for (size_t i = 0; i < KP_ARRAY_LEN(rows); i++) {
        struct world w;
        const struct hpa_tolerance tolerance = {0.1, 0.1};
        begin(&w, 1, CPU(50)); /* now: 13:46:40 */
        add_pod(&w, REQUEST, rows[i].status);
        add_sample(&w, "p0", 1000);
        struct hpa_proposal cpu = hpa_by_utilization(&w.in, &w.metrics[0], "cpu", NULL, 50, &tolerance);
        struct hpa_proposal memory = hpa_by_utilization(&w.in, &w.metrics[0], "memory", NULL, 50, &tolerance);
        if ((cpu.error == NULL) != rows[i].counts)
            fail_msg("row %zu: %s", i, cpu.error ? cpu.error : "counts");
        assert_null(memory.error); /* of memory every pod that runs counts */
        end(&w);
    }
}

static void missing_requests_are_named(void **state)
{
    (void)state;
    struct world w;
    const struct hpa_tolerance tolerance = {0.1, 0.1};
    begin(&w, 1, CPU(50));
    add_pod(&w, REQUEST ", {name: side}", READY);
    add_sample(&w, "p0", 1000);
    assert_string_equal(hpa_by_utilization(&w.in, &w.metrics[0], "cpu", NULL, 50, &tolerance).error, "missing request for cpu in container side of Pod p0");
    assert_string_equal(hpa_by_utilization(&w.in, &w.metrics[0], "cpu", "none", 50, &tolerance).error, "container none not found in Pod p0");
    assert_int_equal(hpa_by_utilization(&w.in, &w.metrics[0], "cpu", "c", 50, &tolerance).replicas, 2);
    w.in.n_pods = 0;
    assert_string_equal(hpa_by_utilization(&w.in, &w.metrics[0], "cpu", NULL, 50, &tolerance).error,
                        "no pods returned by selector while calculating replica count");
    w.in.n_pods = 1;
    w.metrics[0].n_samples = 0;
    assert_string_equal(hpa_by_utilization(&w.in, &w.metrics[0], "cpu", NULL, 50, &tolerance).error,
                        "did not receive metrics for targeted pods (pods might be unready)");
    end(&w);
}

static void averages_and_totals_move_it_too(void **state)
{
    (void)state;
    struct world w;
    const struct hpa_tolerance tolerance = {0.1, 0.1};
    static const int64_t values[] = {20000, 10000, 30000};
    begin(&w, 3, CPU(50));
    populate(&w, "rrr", values);
    struct hpa_proposal p = hpa_by_average(&w.in, &w.metrics[0], NULL, 15000, &tolerance);
    assert_int_equal(p.replicas, 4);
    assert_int_equal(p.usage, 20000);
    w.metrics[0].value = 8600;
    assert_int_equal(hpa_by_total(&w.in, &w.metrics[0], 4400, &tolerance).replicas, 6); /* of those ready */
    assert_int_equal(hpa_by_total(&w.in, &w.metrics[0], 8600, &tolerance).replicas, 3);
    p = hpa_by_share(&w.in, &w.metrics[0], 2150, &tolerance);
    assert_int_equal(p.replicas, 4);
    assert_int_equal(p.usage, 2867); /* rounded up */
    set_scale(&w, 0);
    assert_int_equal(hpa_by_total(&w.in, &w.metrics[0], 4400, &tolerance).replicas, 2);
    assert_int_equal(hpa_by_share(&w.in, &w.metrics[0], 2150, &tolerance).replicas, 4);
    end(&w);
}

/* ---- what is done ---------------------------------------------------------------------------------------------------------------- */
static void a_busy_target_grows_and_it_is_told(void **state)
{
    (void)state;
    struct world w;
    static const int64_t values[] = {300, 500, 700};
    begin(&w, 3, CPU(30));
    populate(&w, "rrr", values);
    assert_string_equal(decide(&w), "patch deployments/scale d/t {\"spec\":{\"replicas\":5}}\n"
                                    "event-on-failure d/h\n"
                                    "event d/h Normal SuccessfulRescale: New size: 5; reason: cpu resource utilization (percentage of request) above target\n"
                                    "update horizontalpodautoscalers/status d/h\n");
    const struct k8s_autoscaling_v2_horizontal_pod_autoscaler_status *status = written(&w)->status;
    assert_int_equal(status->current_replicas, 3);
    assert_int_equal(status->desired_replicas, 5);
    assert_int_equal(status->observed_generation, 3);
    assert_int_equal(status->last_scale_time.seconds, NOW);
    assert_int_equal(status->current_metrics.items[0].resource->current->average_utilization, 50);
    assert_string_equal(status->current_metrics.items[0].resource->current->average_value, "500m");
    assert_condition(&w, "AbleToScale", "True", "SucceededRescale");
    assert_string_equal(condition(&w, "AbleToScale")->message, "the HPA controller was able to update the target scale to 5");
    assert_condition(&w, "ScalingActive", "True", "ValidMetricFound");
    assert_string_equal(condition(&w, "ScalingActive")->message,
                        "the HPA was able to successfully calculate a replica count from cpu resource utilization (percentage of request)");
    assert_condition(&w, "ScalingLimited", "False", "DesiredWithinRange");
    end(&w);
}

static void a_failed_change_is_taken_back_in_the_status(void **state)
{
    (void)state;
    struct world w;
    static const int64_t values[] = {1000};
    begin(&w, 1, CPU(50));
    populate(&w, "r", values);
    decide(&w);
    struct plan_write *status = w.plan->last;
    assert_true(status->told.fn(status->told.obj, status->told.was, "boom", NOW, w.arena));
    assert_condition(&w, "AbleToScale", "False", "FailedUpdateScale");
    assert_string_equal(condition(&w, "AbleToScale")->message, "the HPA controller was unable to update the target scale: boom");
    assert_false(written(&w)->status->last_scale_time.set);
    assert_int_equal(written(&w)->status->desired_replicas, 0);
    end(&w);
}

static void bounds_and_zero_need_no_metrics(void **state)
{
    (void)state;
    static const struct {
        int32_t replicas;
        const char *plan;
    } rows[] = {
        {0, "update horizontalpodautoscalers/status d/h\n"},
        {101, "patch deployments/scale d/t {\"spec\":{\"replicas\":100}}\nevent-on-failure d/h\n"
              "event d/h Normal SuccessfulRescale: New size: 100; reason: Current number of replicas above Spec.MaxReplicas\n"
              "update horizontalpodautoscalers/status d/h\n"},
    };
    for (size_t i = 0; i < KP_ARRAY_LEN(rows); i++) {
        struct world w;
        begin(&w, rows[i].replicas, CPU(50));
        w.in.metrics = NULL;
        assert_false(hpa_needs_metrics(w.in.hpa, w.in.scale));
        assert_string_equal(decide(&w), rows[i].plan);
        if (rows[i].replicas == 0)
            assert_condition(&w, "ScalingActive", "False", "ScalingDisabled");
        end(&w);
    }
}

static void what_could_not_be_had_is_said(void **state)
{
    (void)state;
    struct world w;
    begin(&w, 3, CPU(50));
    w.in.scale_error = "deployments.apps \"t\" not found";
    assert_string_equal(decide(&w), "event d/h Warning FailedGetScale: deployments.apps \"t\" not found\nupdate horizontalpodautoscalers/status d/h\n");
    assert_string_equal(condition(&w, "AbleToScale")->message,
                        "the HPA controller was unable to get the target's current scale: deployments.apps \"t\" not found");
    w.in.scale_error = NULL;
    add_pod(&w, REQUEST, READY);
    w.metrics[0].error = "no metrics returned from resource metrics API";
    assert_string_equal(decide(&w),
                        "event d/h Warning FailedGetResourceMetric: failed to get cpu utilization: unable to get metrics for resource cpu: no metrics returned from resource "
                        "metrics API\nevent d/h Warning FailedComputeMetricsReplicas: invalid metrics (1 invalid out of 1), first error is: failed to get cpu resource metric "
                        "value: failed to get cpu utilization: unable to get metrics for resource cpu: no metrics returned from resource metrics API\n"
                        "update horizontalpodautoscalers/status d/h\n");
    assert_condition(&w, "ScalingActive", "False", "FailedGetResourceMetric");
    assert_int_equal(written(&w)->status->current_replicas, 3);
    assert_int_equal(written(&w)->status->current_metrics.len, 1); /* an empty place */
    w.in.ambiguous = "d/h d/other";
    assert_non_null(strstr(decide(&w), "AmbiguousSelector: pods by selector app=t are controlled by multiple HPAs: [d/h d/other]\n"));
    ((struct k8s_scale *)(uintptr_t)w.in.scale)->status->selector = NULL;
    assert_non_null(strstr(decide(&w), "event d/h Warning SelectorRequired: selector is required\n"));
    assert_condition(&w, "ScalingActive", "False", "InvalidSelector");
    end(&w);
}

#define TWO "metrics: [{type: Resource, resource: {name: cpu, target: {type: Utilization, averageUtilization: 50}}}, " \
    "{type: External, external: {metric: {name: q, selector: {matchLabels: {a: b}}}, target: {type: AverageValue, averageValue: '10'}}}]"

static void the_largest_of_several_metrics_wins_and_one_that_fails_only_keeps_from_shrinking(void **state)
{
    (void)state;
    struct world w;
    static const int64_t values[] = {500, 500};
    begin(&w, 2, TWO);
    populate(&w, "rr", values);
    w.metrics[1].value = 60000;
    assert_non_null(strstr(decide(&w), "New size: 4; reason: external metric q(&LabelSelector{MatchLabels:map[string]string{a: b,},"
                                       "MatchExpressions:[]LabelSelectorRequirement{},}) above target\n")); /* 6, but no more than 4 or twice */
    assert_condition(&w, "ScalingLimited", "True", "ScaleUpLimit");
    assert_string_equal(written(&w)->status->current_metrics.items[1].external->current->average_value, "30");
    w.metrics[1].error = "gone";
    assert_null(strstr(decide(&w), "FailedComputeMetricsReplicas")); /* cpu alone: as it is */
    assert_condition(&w, "ScalingActive", "True", "ValidMetricFound");
    assert_null(written(&w)->status->current_metrics.items[1].external);
    w.metrics[0].samples[0].value = w.metrics[0].samples[1].value = 100;
    assert_non_null(strstr(decide(&w), "FailedComputeMetricsReplicas: invalid metrics (1 invalid out of 2), first error is: failed to get q external metric value: "
                                       "failed to get q external metric: unable to get external metric d/q/&LabelSelector{"));
    assert_condition(&w, "ScalingActive", "False", "FailedGetExternalMetric");
    end(&w);
}

static void shrinking_waits_for_the_highest_of_the_last_five_minutes(void **state)
{
    (void)state;
    struct world w;
    static const int64_t values[] = {500, 500, 500, 500};
    begin(&w, 4, CPU(50));
    populate(&w, "rrrr", values);
    decide(&w);
    for (size_t i = 0; i < 4; i++)
        w.metrics[0].samples[i].value = 100;
    w.in.now_s += 300;
    decide(&w);
    assert_condition(&w, "AbleToScale", "True", "ScaleDownStabilized");
    assert_int_equal(written(&w)->status->desired_replicas, 4);
    w.in.now_s += 1;
    assert_non_null(strstr(decide(&w), "New size: 1; reason: All metrics below target\n"));
    end(&w);
}

/* ---- behaviour --------------------------------------------------------------------------------------------------------------------- */
#define RULES(up, down) CPU(50) ", behavior: {scaleUp: {stabilizationWindowSeconds: 0, " up "}, scaleDown: {" down "}}"
#define NONE "policies: [{type: Percent, value: 100, periodSeconds: 15}]"

static void policies_bound_each_step(void **state)
{
    (void)state;
    static const struct {
        const char *spec;
        int32_t current, wanted, ups, downs; /* the last two: changes ten seconds ago */
        int32_t replicas;
        const char *reason;
    } rows[] = {
        {RULES("policies: [{type: Pods, value: 4, periodSeconds: 15}]", NONE), 10, 50, 0, 0, 14, "ScaleUpLimit"},
        {RULES("policies: [{type: Pods, value: 4, periodSeconds: 15}]", NONE), 10, 50, 3, 0, 11, "ScaleUpLimit"},
        {RULES("policies: [{type: Pods, value: 4, periodSeconds: 15}]", NONE), 10, 50, 6, 0, 10, "ScaleUpLimit"},
        {RULES("policies: [{type: Pods, value: 4, periodSeconds: 15}]", NONE), 10, 50, 0, 2, 16, "ScaleUpLimit"},
        {RULES("policies: [{type: Percent, value: 10, periodSeconds: 15}]", NONE), 3, 50, 0, 0, 4, "ScaleUpLimit"}, /* rounded up */
        {RULES("policies: [{type: Pods, value: 4, periodSeconds: 15}, {type: Percent, value: 100, periodSeconds: 15}]", NONE), 10, 50, 0, 0, 20, "ScaleUpLimit"},
        {RULES("selectPolicy: Min, policies: [{type: Pods, value: 4, periodSeconds: 15}, {type: Percent, value: 100, periodSeconds: 15}]", NONE), 10, 50, 0, 0, 14,
         "ScaleUpLimit"},
        {RULES("selectPolicy: Disabled, policies: [{type: Pods, value: 4, periodSeconds: 15}]", NONE), 10, 50, 0, 0, 10, "ScaleUpLimit"},
        {RULES("policies: [{type: Percent, value: 9000, periodSeconds: 15}]", NONE), 10, 500, 0, 0, 100, "TooManyReplicas"},
        {RULES(NONE, "stabilizationWindowSeconds: 0, policies: [{type: Pods, value: 4, periodSeconds: 15}]"), 10, 1, 0, 0, 6, "ScaleDownLimit"},
        {RULES(NONE, "stabilizationWindowSeconds: 0, policies: [{type: Pods, value: 4, periodSeconds: 15}]"), 10, 1, 0, 3, 9, "ScaleDownLimit"},
        {RULES(NONE, "stabilizationWindowSeconds: 0, policies: [{type: Percent, value: 25, periodSeconds: 15}]"), 10, 1, 0, 0, 7, "ScaleDownLimit"},
        {RULES(NONE, "stabilizationWindowSeconds: 0, selectPolicy: Min, policies: [{type: Pods, value: 1, periodSeconds: 15}, {type: Percent, value: 50, periodSeconds: 15}]"), 10,
         1, 0, 0, 9, "ScaleDownLimit"},
        {RULES(NONE, "stabilizationWindowSeconds: 0, selectPolicy: Disabled, policies: [{type: Pods, value: 1, periodSeconds: 15}]"), 10, 1, 0, 0, 10, "ScaleDownLimit"},
        {RULES(NONE, "stabilizationWindowSeconds: 0, " NONE), 10, 0, 0, 0, 1, "TooFewReplicas"},
        {RULES(NONE, "stabilizationWindowSeconds: 0, " NONE), 10, 3, 0, 0, 3, "DesiredWithinRange"},
    };
    for (size_t i = 0; i < KP_ARRAY_LEN(rows); i++) {
        struct world w;
        begin(&w, rows[i].current, rows[i].spec);
        if (rows[i].ups)
            hpa_remember_scale(&w.in, &w.memory, 0, rows[i].ups, NOW - 10);
        if (rows[i].downs)
            hpa_remember_scale(&w.in, &w.memory, rows[i].downs, 0, NOW - 10);
        struct hpa_limited limited = hpa_normalize(&w.in, &w.memory, rows[i].current, rows[i].wanted, 1);
        if (limited.replicas != rows[i].replicas || strcmp(limited.limited_reason, rows[i].reason) != 0)
            fail_msg("row %zu: %d %s, not %d %s", i, limited.replicas, limited.limited_reason, rows[i].replicas, rows[i].reason);
        end(&w);
    }
}

static void windows_hold_both_directions(void **state)
{
    (void)state;
    struct world w;
    begin(&w, 10, CPU(50) ", behavior: {scaleUp: {stabilizationWindowSeconds: 60, " NONE "}, scaleDown: {" NONE "}}");
    hpa_remember(&w.memory.recommendations, &w.memory.n_recommendations, NOW - 59, 11, 0);
    struct hpa_limited limited = hpa_normalize(&w.in, &w.memory, 10, 15, 1);
    assert_int_equal(limited.replicas, 11);
    assert_string_equal(limited.stable_reason, "ScaleUpStabilized");
    w.in.now_s += 1;
    assert_int_equal(hpa_normalize(&w.in, &w.memory, 10, 15, 1).replicas, 15);
    limited = hpa_normalize(&w.in, &w.memory, 10, 2, 1); /* down: the controller's five minutes, for the rules name none */
    assert_int_equal(limited.replicas, 10);
    assert_string_equal(limited.stable_reason, "ScaleDownStabilized");
    w.in.now_s += 300;
    assert_int_equal(hpa_normalize(&w.in, &w.memory, 10, 2, 1).replicas, 2);
    assert_int_equal(w.memory.n_recommendations, 3); /* what is too old has gone */
    end(&w);
}

static void a_change_counts_once_it_is_seen(void **state)
{
    (void)state;
    struct world w;
    static const int64_t values[] = {1000};
    begin(&w, 1, RULES("policies: [{type: Pods, value: 1, periodSeconds: 60}]", NONE));
    populate(&w, "r", values);
    assert_non_null(strstr(decide(&w), "New size: 2;"));
    w.in.now_s += 15;
    assert_non_null(strstr(decide(&w), "New size: 2;")); /* the write had failed: it is made again */
    set_scale(&w, 2);
    add_pod(&w, REQUEST, READY);
    add_sample(&w, "p1", 1000);
    w.in.now_s += 15;
    assert_null(strstr(decide(&w), "New size")); /* one in a minute */
    assert_condition(&w, "ScalingLimited", "True", "ScaleUpLimit");
    w.in.now_s += 45;
    assert_non_null(strstr(decide(&w), "New size: 3;"));
    end(&w);
}

static void a_tolerance_of_its_own_is_kept(void **state)
{
    (void)state;
    struct world w;
    static const int64_t values[] = {650, 650};
    begin(&w, 2, CPU(50) ", behavior: {scaleUp: {tolerance: 500m, stabilizationWindowSeconds: 0, " NONE "}, scaleDown: {" NONE "}}");
    populate(&w, "rr", values);
    assert_null(strstr(decide(&w), "New size"));
    end(&w);
    begin(&w, 2, CPU(50) ", behavior: {scaleUp: {stabilizationWindowSeconds: 0, " NONE "}, scaleDown: {" NONE "}}");
    populate(&w, "rr", values);
    assert_non_null(strstr(decide(&w), "New size: 3;"));
    end(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(utilization_moves_the_size_by_its_ratio),
        cmocka_unit_test(a_pod_that_begins_does_not_count_before_it_was_ready_for_a_window),
        cmocka_unit_test(missing_requests_are_named),
        cmocka_unit_test(averages_and_totals_move_it_too),
        cmocka_unit_test(a_busy_target_grows_and_it_is_told),
        cmocka_unit_test(a_failed_change_is_taken_back_in_the_status),
        cmocka_unit_test(bounds_and_zero_need_no_metrics),
        cmocka_unit_test(what_could_not_be_had_is_said),
        cmocka_unit_test(the_largest_of_several_metrics_wins_and_one_that_fails_only_keeps_from_shrinking),
        cmocka_unit_test(shrinking_waits_for_the_highest_of_the_last_five_minutes),
        cmocka_unit_test(policies_bound_each_step),
        cmocka_unit_test(windows_hold_both_directions),
        cmocka_unit_test(a_change_counts_once_it_is_seen),
        cmocka_unit_test(a_tolerance_of_its_own_is_kept),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
