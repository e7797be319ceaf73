/* What may be done of what the metrics want: bounds, stabilisation windows and the policies of spec.behavior, by what was done and wanted before. */
#include "controlplane/controller-manager/hpa.h"

#include <math.h>

/* Without spec.behavior: to twice the size, or four, at a time. */
#define SCALE_UP_FACTOR 2.0
#define SCALE_UP_LEAST 4.0

static const char up_stabilized[] = "recent recommendations were lower than current one, applying the lowest recent recommendation";
static const char down_stabilized[] = "recent recommendations were higher than current one, applying the highest recent recommendation";
static const char within[] = "the desired count is within the acceptable range";
static const char too_many[] = "the desired replica count is more than the maximum replica count";
static const char too_few[] = "the desired replica count is less than the minimum replica count";
static const char too_fast_up[] = "the desired replica count is increasing faster than the maximum scale rate";
static const char too_fast_down[] = "the desired replica count is decreasing faster than the maximum scale rate";

/* ---- what was before --------------------------------------------------------------------------------------------------------------- */
void hpa_remember(struct hpa_moment **items, size_t *len, int64_t at_s, int32_t value, int64_t keep_after_s)
{
    size_t kept = 0;
    for (size_t i = 0; i < *len; i++)
        if ((*items)[i].at_s >= keep_after_s)
            (*items)[kept++] = (*items)[i];
    if (kept == HPA_REMEMBERED_MAX)
        memmove(*items, *items + 1, --kept * sizeof(**items));
    *items = kp_realloc(*items, (kept + 1) * sizeof(**items));
    (*items)[kept] = (struct hpa_moment){at_s, value};
    *len = kept + 1;
}

void hpa_memory_done(struct hpa_memory *memory)
{
    free(memory->recommendations);
    free(memory->ups);
    free(memory->downs);
    free(memory->selector);
    *memory = (struct hpa_memory){0};
}

static int64_t longest_period_s(const struct k8s_hpa_scaling_rules *rules)
{
    int64_t longest = 0;
    for (size_t i = 0; rules && i < rules->policies.len; i++)
        longest = KP_MAX(longest, (int64_t)rules->policies.items[i].period_seconds);
    return longest;
}

void hpa_remember_scale(const struct hpa_input *in, struct hpa_memory *memory, int32_t from, int32_t to, int64_t at_s)
{
    const struct k8s_horizontal_pod_autoscaler_behavior *behavior = in->hpa->spec->behavior;
    if (!behavior)
        return; /* nobody would ask */
    if (to > from)
        hpa_remember(&memory->ups, &memory->n_ups, at_s, to - from, in->now_s - longest_period_s(behavior->scale_up));
    else
        hpa_remember(&memory->downs, &memory->n_downs, at_s, from - to, in->now_s - longest_period_s(behavior->scale_down));
}

/* By how many pods it was changed within the last so many seconds. */
static int32_t changed_within(const struct hpa_moment *items, size_t len, int64_t now_s, int64_t period_s)
{
    int32_t sum = 0;
    for (size_t i = 0; i < len; i++)
        if (items[i].at_s > now_s - period_s)
            sum += items[i].value;
    return sum;
}

/* ---- without spec.behavior --------------------------------------------------------------------------------------------------------- */
static int32_t highest_recent(const struct hpa_input *in, struct hpa_memory *memory, int32_t proposed)
{
    int64_t cutoff_s = in->now_s - in->settings->downscale_stabilization_s;
    int32_t highest = proposed;
    for (size_t i = 0; i < memory->n_recommendations; i++)
        if (memory->recommendations[i].at_s >= cutoff_s)
            highest = KP_MAX(highest, memory->recommendations[i].value);
    hpa_remember(&memory->recommendations, &memory->n_recommendations, in->now_s, proposed, cutoff_s);
    return highest;
}

static void limit_plainly(struct hpa_limited *ret, int32_t current, int32_t min, int32_t max)
{
    double fastest = fmax(SCALE_UP_FACTOR * (double)current, SCALE_UP_LEAST);
    bool by_rate = (double)max > fastest;
    int32_t most = by_rate ? (int32_t)fastest : max;
    ret->replicas = ret->stabilized;
    ret->limited_reason = "DesiredWithinRange";
    ret->limited_message = within;
    if (ret->stabilized < min) {
        ret->replicas = min;
        ret->limited_reason = "TooFewReplicas";
        ret->limited_message = too_few;
    } else if (ret->stabilized > most) {
        ret->replicas = most;
        ret->limited_reason = by_rate ? "ScaleUpLimit" : "TooManyReplicas";
        ret->limited_message = by_rate ? too_fast_up : too_many;
    }
}

/* ---- with it ----------------------------------------------------------------------------------------------------------------------- */
/* Rules that the server filled in; an autoscaler that is older than these defaults may lack some. */
static const struct k8s_hpa_scaling_rules *rules_or_none(const struct k8s_hpa_scaling_rules *rules)
{
    static const struct k8s_hpa_scaling_rules none;
    return rules ? rules : &none;
}

static int32_t stabilize(const struct hpa_input *in, struct hpa_memory *memory, int32_t current, int32_t proposed)
{
    const struct k8s_hpa_scaling_rules *up_rules = rules_or_none(in->hpa->spec->behavior->scale_up);
    const struct k8s_hpa_scaling_rules *down_rules = rules_or_none(in->hpa->spec->behavior->scale_down);
    int64_t up_s = up_rules->has_stabilization_window_seconds ? up_rules->stabilization_window_seconds : 0;
    int64_t down_s = down_rules->has_stabilization_window_seconds ? down_rules->stabilization_window_seconds : in->settings->downscale_stabilization_s;
    int32_t lowest = proposed, highest = proposed;
    for (size_t i = 0; i < memory->n_recommendations; i++) {
        const struct hpa_moment *moment = &memory->recommendations[i];
        if (moment->at_s > in->now_s - up_s)
            lowest = KP_MIN(lowest, moment->value);
        if (moment->at_s > in->now_s - down_s)
            highest = KP_MAX(highest, moment->value);
    }
    hpa_remember(&memory->recommendations, &memory->n_recommendations, in->now_s, proposed, in->now_s - KP_MAX(up_s, down_s));
    return KP_MIN(KP_MAX(current, lowest), highest);
}

/* As far as the policies let it go in one direction. */
static int32_t rate_limit(const struct hpa_input *in, const struct hpa_memory *memory, const struct k8s_hpa_scaling_rules *rules, int32_t current, bool up)
{
    if (kp_streq(rules->select_policy, "Disabled") || !rules->policies.len)
        return current;
    bool farthest_up = up != kp_streq(rules->select_policy, "Min"); /* whether the larger of two proposals is taken */
    double result = farthest_up ? INT32_MIN : INT32_MAX;
    for (size_t i = 0; i < rules->policies.len; i++) {
        const struct k8s_hpa_scaling_policy *policy = &rules->policies.items[i];
        double start = (double)current - changed_within(memory->ups, memory->n_ups, in->now_s, policy->period_seconds) +
                       changed_within(memory->downs, memory->n_downs, in->now_s, policy->period_seconds);
        double change = kp_streq(policy->type, "Pods") ? policy->value : start * policy->value / 100;
        double proposed = up ? ceil(start + change) : trunc(start - change); /* up: or it might never grow */
        result = farthest_up ? fmax(result, proposed) : fmin(result, proposed);
    }
    return (int32_t)fmin(fmax(result, INT32_MIN), INT32_MAX);
}

static void limit_by_rules(const struct hpa_input *in, const struct hpa_memory *memory, struct hpa_limited *ret, int32_t current, int32_t min)
{
    const struct k8s_horizontal_pod_autoscaler_behavior *behavior = in->hpa->spec->behavior;
    ret->replicas = ret->stabilized;
    ret->limited_reason = "DesiredWithinRange";
    ret->limited_message = within;
    if (ret->stabilized > current) {
        int32_t limit = KP_MAX(rate_limit(in, memory, rules_or_none(behavior->scale_up), current, true), current), max = in->hpa->spec->max_replicas;
        bool by_rate = max > limit;
        if (ret->stabilized > KP_MIN(max, limit)) {
            ret->replicas = KP_MIN(max, limit);
            ret->limited_reason = by_rate ? "ScaleUpLimit" : "TooManyReplicas";
            ret->limited_message = by_rate ? too_fast_up : too_many;
        }
    } else if (ret->stabilized < current) {
        int32_t limit = KP_MIN(rate_limit(in, memory, rules_or_none(behavior->scale_down), current, false), current);
        bool by_rate = min < limit;
        if (ret->stabilized < KP_MAX(min, limit)) {
            ret->replicas = KP_MAX(min, limit);
            ret->limited_reason = by_rate ? "ScaleDownLimit" : "TooFewReplicas";
            ret->limited_message = by_rate ? too_fast_down : too_few;
        }
    }
}

struct hpa_limited hpa_normalize(const struct hpa_input *in, struct hpa_memory *memory, int32_t current, int32_t proposed, int32_t min)
{
    struct hpa_limited ret = {0};
    if (!in->hpa->spec->behavior) {
        ret.stabilized = highest_recent(in, memory, proposed);
        ret.stable_reason = "ScaleDownStabilized";
        ret.stable_message = down_stabilized;
        limit_plainly(&ret, current, min, in->hpa->spec->max_replicas);
        return ret;
    }
    ret.stabilized = stabilize(in, memory, current, proposed);
    ret.stable_reason = proposed >= current ? "ScaleUpStabilized" : "ScaleDownStabilized";
    ret.stable_message = proposed >= current ? up_stabilized : down_stabilized;
    limit_by_rules(in, memory, &ret, current, min);
    return ret;
}
