/* The parts of the HorizontalPodAutoscaler controller: what it gathers, and the pure decisions on that. Facts (reasons, texts, the order of rules) are
   those of upstream's pkg/controller/podautoscaler: horizontal.go, replica_calculator.go and metrics/. */
#ifndef KCM_HPA_H
#define KCM_HPA_H

#include "controlplane/controller-manager/engine.h"

struct hpa_settings {
    int64_t sync_period_ms;             /* 15,000 */
    double tolerance;                   /* 0.1 */
    int64_t cpu_initialization_s;       /* 300: in that time after its start a pod's CPU counts only while it is ready */
    int64_t initial_readiness_delay_s;  /* 30: a pod that became unready within it of its start has never been ready */
    int64_t downscale_stabilization_s;  /* 300 */
};
#define HPA_SETTINGS_DEFAULT ((struct hpa_settings){15000, 0.1, 300, 30, 300})

/* ---- what is gathered ---------------------------------------------------------------------------------------------------------- */
struct hpa_sample { /* of a pod */
    const char *name;
    int64_t value; /* in thousandths */
    int64_t timestamp_s, window_s;
};
/* What one entry of spec.metrics was answered with. */
struct hpa_metric {
    const char *error; /* NULL: it was answered */
    struct hpa_sample *samples; /* Resource, ContainerResource, Pods */
    size_t n_samples;
    int64_t value; /* Object; External: the sum. In thousandths */
};
struct hpa_input {
    const struct k8s_autoscaling_v2_horizontal_pod_autoscaler *hpa;
    const struct hpa_settings *settings;
    struct kp_arena *arena;
    int64_t now_s;
    const char *scale_error;       /* NULL: there is a scale */
    const struct kp_resource *target; /* what is scaled */
    const struct k8s_scale *scale;
    const char *selector_error;    /* the scale's selector is malformed */
    const char *ambiguous;         /* "a/x a/y": other autoscalers have pods of it as well; NULL: none */
    const struct k8s_pod *const *pods; /* that the selector selects */
    size_t n_pods;
    const struct hpa_metric *metrics; /* as spec.metrics; only when hpa_needs_metrics() */
};
/* Whether the size is to be worked out at all: not when it is 0, or beyond the bounds. */
bool hpa_needs_metrics(const struct k8s_autoscaling_v2_horizontal_pod_autoscaler *hpa, const struct k8s_scale *scale);

/* ---- what is remembered of an autoscaler, while this process leads --------------------------------------------------------------- */
#define HPA_REMEMBERED_MAX 4000 /* an hour, the longest window, of looks at most once a second */
struct hpa_moment {
    int64_t at_s;
    int32_t value;
};
struct hpa_memory {
    struct hpa_moment *recommendations, *ups, *downs; /* in the order of time; malloc'ed */
    size_t n_recommendations, n_ups, n_downs;
    /* The last change asked for. It counts among ups or downs once the scale is seen to have that size, for the write may fail. */
    int32_t pending_from, pending_to;
    int64_t pending_s; /* 0: none */
    char *selector;    /* of its scale */
};
void hpa_memory_done(struct hpa_memory *memory);

/* ---- decisions; pure ------------------------------------------------------------------------------------------------------------- */
/* Adds to plan the change of the scale, the events and the status. Changes memory. */
void hpa_decide(const struct hpa_input *in, struct hpa_memory *memory, struct plan *plan);

/* hpa_calculate.c */
struct hpa_proposal {
    int32_t replicas;
    int64_t usage;       /* what is told as the present value, in thousandths; of Resource and ContainerResource the average over the pods */
    int32_t utilization; /* in percent of the requests */
    const char *error;   /* NULL: none */
};
struct hpa_tolerance {
    double up, down;
};
/* Against a percentage of the requests. container NULL: the whole pod. */
struct hpa_proposal hpa_by_utilization(const struct hpa_input *in, const struct hpa_metric *metric, const char *resource, const char *container,
                                       int32_t target_percent, const struct hpa_tolerance *tolerance);
/* Against a value for each pod. resource NULL: a metric with a name of its own. */
struct hpa_proposal hpa_by_average(const struct hpa_input *in, const struct hpa_metric *metric, const char *resource, int64_t target,
                                   const struct hpa_tolerance *tolerance);
/* Of one value for all: against a total, or a value for each pod. */
struct hpa_proposal hpa_by_total(const struct hpa_input *in, const struct hpa_metric *metric, int64_t target, const struct hpa_tolerance *tolerance);
struct hpa_proposal hpa_by_share(const struct hpa_input *in, const struct hpa_metric *metric, int64_t target, const struct hpa_tolerance *tolerance);

/* hpa_normalize.c: from what the metrics want to what may be done now. */
struct hpa_limited {
    int32_t stabilized, replicas;
    const char *stable_reason, *stable_message;   /* of AbleToScale, when stabilized differs from what was proposed */
    const char *limited_reason, *limited_message; /* of ScalingLimited, which is true when replicas differs from stabilized */
};
struct hpa_limited hpa_normalize(const struct hpa_input *in, struct hpa_memory *memory, int32_t current, int32_t proposed, int32_t min);
void hpa_remember_scale(const struct hpa_input *in, struct hpa_memory *memory, int32_t from, int32_t to, int64_t at_s);
void hpa_remember(struct hpa_moment **items, size_t *len, int64_t at_s, int32_t value, int64_t keep_after_s);

/* ---- asking; blocks --------------------------------------------------------------------------------------------------------------- */
/* hpa_gather.c. Fills everything of in but hpa, settings, arena and now_s; failures are part of it. */
void hpa_gather(const struct plan_input *plan_in, struct hpa_input *in);
/* The resource of a kind of any version, built in or defined; in arena. NULL when there is none. */
const struct kp_resource *hpa_resource_of(struct engine *engine, const char *group, const char *version, const char *kind, struct kp_arena *arena);
/* As Go prints a *LabelSelector, which upstream's messages do. */
const char *hpa_selector_text(const struct k8s_label_selector *selector, struct kp_arena *arena);

#endif
