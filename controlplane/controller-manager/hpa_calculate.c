/* How many pods a metric wants: upstream's replica_calculator.go. */
#include "controlplane/controller-manager/hpa.h"

#include <math.h>

#define PERCENT_MAX 100

/* The values that count at present, by pod. */
struct value {
    const char *name;
    const struct hpa_sample *sample; /* NULL: it was filled in */
    int64_t value;
    bool there;
};
struct values {
    struct value *items;
    size_t len, count;
    struct kp_strmap *at; /* the place, from 1 */
};

static struct value *values_find(const struct values *values, const char *name)
{
    uintptr_t place = (uintptr_t)kp_strmap_get(values->at, name);
    return place ? &values->items[place - 1] : NULL;
}

static struct value *values_put(struct values *values, const char *name, int64_t value)
{
    struct value *item = values_find(values, name);
    if (!item) {
        item = &values->items[values->len++];
        item->name = name;
        kp_strmap_put(values->at, name, (void *)(uintptr_t)values->len);
    }
    values->count += !item->there;
    item->value = value;
    item->there = true;
    return item;
}

static void values_drop(struct values *values, const char *name)
{
    struct value *item = values_find(values, name);
    if (!item || !item->there)
        return;
    item->there = false;
    values->count--;
}

/* ---- which pods count ------------------------------------------------------------------------------------------------------------ */
enum pod_group { POD_READY, POD_UNREADY, POD_MISSING, POD_IGNORED };
struct work {
    const struct hpa_input *in;
    struct values values;
    enum pod_group *groups; /* as in->pods */
    int64_t *requests;      /* likewise */
    struct kp_strmap *pods; /* the place in in->pods, from 1 */
    size_t ready, unready, missing;
};

static const struct k8s_pod_condition *ready_condition(const struct k8s_pod *pod)
{
    for (size_t i = 0; i < pod->status->conditions.len; i++)
        if (kp_streq(pod->status->conditions.items[i].type, "Ready"))
            return &pod->status->conditions.items[i];
    return NULL;
}

/* A pod that begins uses CPU that says nothing of its load. */
static bool cpu_is_unready(const struct hpa_input *in, const struct k8s_pod *pod, const struct hpa_sample *sample)
{
    const struct k8s_pod_condition *condition = ready_condition(pod);
    const struct kp_time *started = &pod->status->start_time;
    if (!condition || !started->set)
        return true;
    bool not_ready = kp_streq(condition->status, "False");
    int64_t changed_s = condition->last_transition_time.seconds;
    if (started->seconds + in->settings->cpu_initialization_s > in->now_s)
        return not_ready || sample->timestamp_s < changed_s + sample->window_s;
    return not_ready && started->seconds + in->settings->initial_readiness_delay_s > changed_s;
}

static enum pod_group group_of(const struct hpa_input *in, const struct k8s_pod *pod, const struct hpa_sample *sample, const char *resource)
{
    if (pod->metadata->deletion_timestamp.set || engine_pod_is_terminal(pod))
        return POD_IGNORED;
    if (kp_streq(pod->status->phase, "Pending"))
        return POD_UNREADY;
    if (!sample)
        return POD_MISSING;
    return kp_streq(resource, "cpu") && cpu_is_unready(in, pod, sample) ? POD_UNREADY : POD_READY;
}

static void work_begin(struct work *work, const struct hpa_input *in, const struct hpa_metric *metric, const char *resource)
{
    *work = (struct work){.in = in, .groups = KP_NEW_ARRAY(in->arena, enum pod_group, in->n_pods + 1), .pods = kp_strmap_new()};
    work->values = (struct values){.items = KP_NEW_ARRAY(in->arena, struct value, metric->n_samples + in->n_pods + 1), .at = kp_strmap_new()};
    for (size_t i = 0; i < metric->n_samples; i++)
        values_put(&work->values, metric->samples[i].name, metric->samples[i].value)->sample = &metric->samples[i];
    for (size_t i = 0; i < in->n_pods; i++) {
        const char *name = in->pods[i]->metadata->name;
        const struct value *value = values_find(&work->values, name);
        kp_strmap_put(work->pods, name, (void *)(uintptr_t)(i + 1));
        work->groups[i] = group_of(in, in->pods[i], value ? value->sample : NULL, resource);
        work->ready += work->groups[i] == POD_READY;
        work->unready += work->groups[i] == POD_UNREADY;
        work->missing += work->groups[i] == POD_MISSING;
    }
    for (size_t i = 0; i < in->n_pods; i++)
        if (work->groups[i] == POD_IGNORED || work->groups[i] == POD_UNREADY)
            values_drop(&work->values, in->pods[i]->metadata->name);
}

static void work_end(struct work *work)
{
    kp_strmap_free(work->values.at, NULL);
    kp_strmap_free(work->pods, NULL);
}

/* ---- requests -------------------------------------------------------------------------------------------------------------------- */
static const char *request_of(const struct k8s_resource_requirements *resources, const char *resource)
{
    return resources ? kp_string_map_get(&resources->requests, resource) : NULL;
}

static bool is_sidecar(const struct k8s_container *c)
{
    return kp_streq(c->restart_policy, "Always");
}

/* True when it is the container looked for, whose request is all there is to know. */
static bool add_request(const struct k8s_pod *pod, const struct k8s_container *c, const char *container, const char *resource, struct kp_arena *arena,
                        int64_t *sum, const char **ret_error)
{
    if (container && !kp_streq(container, c->name))
        return false;
    const char *request = request_of(c->resources, resource);
    if (!request)
        *ret_error = kp_arena_printf(arena, "missing request for %s in container %s of Pod %s", resource, c->name, pod->metadata->name);
    else
        *sum += kp_quantity_str_milli(request);
    return container || !request;
}

static int64_t sum_requests(const struct k8s_pod *pod, const char *container, const char *resource, struct kp_arena *arena, const char **ret_error)
{
    int64_t sum = 0;
    for (size_t i = 0; i < pod->spec->containers.len; i++)
        if (add_request(pod, &pod->spec->containers.items[i], container, resource, arena, &sum, ret_error))
            return sum;
    for (size_t i = 0; i < pod->spec->init_containers.len; i++)
        if (is_sidecar(&pod->spec->init_containers.items[i]) &&
            add_request(pod, &pod->spec->init_containers.items[i], container, resource, arena, &sum, ret_error))
            return sum;
    if (container)
        *ret_error = kp_arena_printf(arena, "container %s not found in Pod %s", container, pod->metadata->name);
    return sum;
}

static const char *find_requests(struct work *work, const char *container, const char *resource)
{
    const struct hpa_input *in = work->in;
    const char *error = NULL;
    work->requests = KP_NEW_ARRAY(in->arena, int64_t, in->n_pods + 1);
    for (size_t i = 0; i < in->n_pods && !error; i++) {
        const struct k8s_pod *pod = in->pods[i];
        bool pod_level = !container && pod->spec->resources && pod->spec->resources->requests.len;
        const char *request = pod_level ? request_of(pod->spec->resources, resource) : NULL;
        if (request)
            work->requests[i] = kp_quantity_str_milli(request);
        else
            work->requests[i] = sum_requests(pod, container, resource, in->arena, &error);
        if (error && pod_level)
            error = kp_arena_printf(in->arena, "missing pod-level request for %s in Pod %s", resource, pod->metadata->name);
    }
    return error;
}

/* ---- the rule -------------------------------------------------------------------------------------------------------------------- */
static int32_t to_replicas(double value)
{
    double up = ceil(value);
    return up >= (double)INT32_MAX ? INT32_MAX : up <= 0 ? 0 : (int32_t)up;
}

static bool is_within(const struct hpa_tolerance *tolerance, double ratio)
{
    return 1.0 - tolerance->down <= ratio && ratio <= 1.0 + tolerance->up;
}

struct target {
    bool percent; /* of requests; else a value for each pod */
    int64_t value;
};

/* How far the use is from the target; false when nothing is known to compare with. */
static bool ratio_of(const struct work *work, const struct target *target, double *ret_ratio, struct hpa_proposal *ret)
{
    int64_t total = 0, requests = 0, known = 0;
    for (size_t i = 0; i < work->values.len; i++) {
        const struct value *value = &work->values.items[i];
        uintptr_t place = target->percent ? (uintptr_t)kp_strmap_get(work->pods, value->name) : 1;
        if (!value->there || !place)
            continue;
        total += value->value;
        requests += target->percent ? work->requests[place - 1] : 0;
        known++;
    }
    if (target->percent) {
        if (requests == 0)
            return false;
        ret->utilization = (int32_t)KP_MIN(total * PERCENT_MAX / requests, (int64_t)INT32_MAX);
        ret->usage = total / known;
        *ret_ratio = (double)ret->utilization / (double)target->value;
        return true;
    }
    ret->usage = known ? total / known : 0;
    *ret_ratio = (double)ret->usage / (double)target->value;
    return true;
}

/* Pods without a value are taken to be such as to keep things as they are: at the target (or all of their request, if that is more) when there seem
   to be too many pods, at nothing when there seem to be too few. So are those that are not ready in the second case. */
static void fill_in(struct work *work, const struct target *target, double ratio, bool with_unready)
{
    for (size_t i = 0; i < work->in->n_pods; i++) {
        const char *name = work->in->pods[i]->metadata->name;
        if (work->groups[i] == POD_MISSING && ratio < 1.0)
            values_put(&work->values, name, target->percent ? work->requests[i] * KP_MAX((int64_t)PERCENT_MAX, target->value) / PERCENT_MAX : target->value);
        else if ((work->groups[i] == POD_MISSING && ratio > 1.0) || (work->groups[i] == POD_UNREADY && with_unready))
            values_put(&work->values, name, 0);
    }
}

static void propose(struct work *work, const struct target *target, const struct hpa_tolerance *tolerance, struct hpa_proposal *ret)
{
    static const char *const unmatched = "no metrics returned matched known pods";
    int32_t current = work->in->scale->spec->replicas;
    double ratio, again;
    ret->replicas = current;
    if (!ratio_of(work, target, &ratio, ret)) {
        ret->error = unmatched;
        return;
    }
    bool up_with_unready = work->unready > 0 && ratio > 1.0;
    if (!up_with_unready && work->missing == 0) {
        if (!is_within(tolerance, ratio))
            ret->replicas = to_replicas(ratio * (double)work->ready);
        return;
    }
    struct hpa_proposal filled = {0}; /* what is told is what was measured */
    fill_in(work, target, ratio, up_with_unready);
    if (!ratio_of(work, target, &again, &filled)) {
        ret->error = unmatched;
        return;
    }
    if (is_within(tolerance, again) || (ratio < 1.0 && again > 1.0) || (ratio > 1.0 && again < 1.0))
        return;
    int32_t wanted = to_replicas(again * (double)work->values.count);
    if ((again < 1.0 && wanted > current) || (again > 1.0 && wanted < current))
        return; /* it would change the direction */
    ret->replicas = wanted;
}

static struct hpa_proposal calculate(const struct hpa_input *in, const struct hpa_metric *metric, const char *resource, const char *container,
                                     const struct target *target, const struct hpa_tolerance *tolerance)
{
    struct hpa_proposal proposal = {0};
    struct work work;
    if (in->n_pods == 0) {
        proposal.error = "no pods returned by selector while calculating replica count";
        return proposal;
    }
    work_begin(&work, in, metric, resource);
    if (work.values.count == 0)
        proposal.error = "did not receive metrics for targeted pods (pods might be unready)";
    else if (target->percent)
        proposal.error = find_requests(&work, container, resource);
    if (!proposal.error)
        propose(&work, target, tolerance, &proposal);
    work_end(&work);
    return proposal;
}

struct hpa_proposal hpa_by_utilization(const struct hpa_input *in, const struct hpa_metric *metric, const char *resource, const char *container,
                                       int32_t target_percent, const struct hpa_tolerance *tolerance)
{
    const struct target target = {.percent = true, .value = target_percent};
    return calculate(in, metric, resource, container, &target, tolerance);
}

struct hpa_proposal hpa_by_average(const struct hpa_input *in, const struct hpa_metric *metric, const char *resource, int64_t target_value,
                                   const struct hpa_tolerance *tolerance)
{
    const struct target target = {.value = target_value};
    return calculate(in, metric, resource, NULL, &target, tolerance);
}

/* ---- one value for all ------------------------------------------------------------------------------------------------------------- */
struct hpa_proposal hpa_by_total(const struct hpa_input *in, const struct hpa_metric *metric, int64_t target, const struct hpa_tolerance *tolerance)
{
    struct hpa_proposal proposal = {.replicas = in->scale->spec->replicas, .usage = metric->value};
    double ratio = (double)metric->value / (double)target;
    size_t ready = 0;
    if (proposal.replicas == 0) { /* from nothing to as many as it takes */
        proposal.replicas = to_replicas(ratio);
        return proposal;
    }
    if (is_within(tolerance, ratio))
        return proposal;
    if (in->n_pods == 0)
        proposal.error = "unable to calculate ready pods: no pods returned by selector while calculating replica count";
    for (size_t i = 0; i < in->n_pods; i++)
        ready += kp_streq(in->pods[i]->status->phase, "Running") && engine_pod_is_ready(in->pods[i]);
    proposal.replicas = to_replicas(ratio * (double)ready);
    return proposal;
}

struct hpa_proposal hpa_by_share(const struct hpa_input *in, const struct hpa_metric *metric, int64_t target, const struct hpa_tolerance *tolerance)
{
    int32_t replicas = in->scale->status->replicas;
    struct hpa_proposal proposal = {.replicas = replicas};
    double ratio = (double)metric->value / ((double)target * (double)replicas); /* of no replicas: not within anything */
    if (!is_within(tolerance, ratio))
        proposal.replicas = to_replicas((double)metric->value / (double)target);
    proposal.usage = replicas ? (int64_t)ceil((double)metric->value / (double)replicas) : 0;
    return proposal;
}
