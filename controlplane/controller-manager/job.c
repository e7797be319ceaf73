/* Jobs: pods until enough of them succeeded. Finished pods are counted exactly once with the tracking finalizer: their uids go
 * to status.uncountedTerminatedPods, then the finalizer goes from the pod, then the counter moves (KEP-2307). */
#include "controlplane/controller-manager/claim.h"
#include "controlplane/controller-manager/controllers.h"

#define JOB_FINALIZER "batch.kubernetes.io/job-tracking"
#define JOB_INDEX_ANNOTATION "batch.kubernetes.io/job-completion-index"
#define JOB_PODS_BURST_MAX 500
#define JOB_BACKOFF_S 10
#define JOB_BACKOFF_MAX_S 600
#define JOB_INDEXES_MAX 100000

struct job_sync {
    const struct plan_input *in;
    struct plan *plan;
    const struct k8s_job *job;
    struct k8s_job *copy; /* its status is what will be written */
    const struct k8s_pod *const *pods;
    size_t n_pods;
    const struct k8s_pod **active;
    size_t n_active;
    bool indexed;
    bool *index_done; /* indexed: per completion index */
    int32_t completions; /* -1: any one success ends it */
    int32_t succeeded, failed; /* counted and not yet counted */
};

static bool has_condition(const struct k8s_job *job, const char *type)
{
    for (size_t i = 0; i < job->status->conditions.len; i++)
        if (kp_streq(job->status->conditions.items[i].type, type) && kp_streq(job->status->conditions.items[i].status, "True"))
            return true;
    return false;
}

static void set_condition(struct job_sync *sync, const char *type, const char *status, const char *reason, const char *message)
{
    struct k8s_job_condition *condition = NULL;
    for (size_t i = 0; i < sync->copy->status->conditions.len; i++)
        if (kp_streq(sync->copy->status->conditions.items[i].type, type))
            condition = &sync->copy->status->conditions.items[i];
    if (condition && kp_streq(condition->status, status) && kp_streq(condition->reason, reason))
        return;
    if (!condition) {
        condition = KP_LIST_ADD(sync->in->arena, &sync->copy->status->conditions);
        condition->type = type;
    }
    condition->status = status;
    condition->reason = reason;
    condition->message = message;
    condition->last_probe_time = condition->last_transition_time = KP_TIME_OF(sync->in->now_s);
}

static int64_t index_of(const struct k8s_pod *pod)
{
    const char *text = kp_string_map_get(&pod->metadata->annotations, JOB_INDEX_ANNOTATION);
    int64_t index;
    return text && kp_parse_i64(text, &index) == 0 && index >= 0 ? index : -1;
}

/* "0-3,5,7-9" into flags; and back. */
static void parse_indexes(const char *text, bool *done, int32_t completions)
{
    while (text && *text) {
        char *end;
        long first = strtol(text, &end, 10), last = first;
        if (end == text)
            return;
        if (*end == '-')
            last = strtol(end + 1, &end, 10);
        for (long i = first; i <= last && i < completions; i++)
            if (i >= 0)
                done[i] = true;
        text = *end == ',' ? end + 1 : "";
    }
}

static const char *print_indexes(const bool *done, int32_t completions, struct kp_arena *arena)
{
    KP_AUTO_BUF struct kp_buf out = {0};
    for (int32_t i = 0; i < completions; i++) {
        int32_t last = i;
        if (!done[i])
            continue;
        while (last + 1 < completions && done[last + 1])
            last++;
        kp_buf_printf(&out, out.len ? ",%d" : "%d", i);
        if (last > i)
            kp_buf_printf(&out, last == i + 1 ? ",%d" : "-%d", last);
        i = last;
    }
    return kp_arena_strdup(arena, out.data ? out.data : "");
}

/* ---- counting finished pods ----------------------------------------------------------------------------------------------- */
static const struct k8s_pod *pod_by_uid(const struct job_sync *sync, const char *uid)
{
    for (size_t i = 0; i < sync->n_pods; i++)
        if (kp_streq(sync->pods[i]->metadata->uid, uid))
            return sync->pods[i];
    return NULL;
}

static bool is_tracked(const struct k8s_pod *pod)
{
    return kp_string_list_has(&pod->metadata->finalizers, JOB_FINALIZER);
}

static void drop_finalizer(struct job_sync *sync, const struct k8s_pod *pod)
{
    plan_patch(sync->plan, &k8s_pods_resource, sync->in->ns, pod->metadata->name, NULL, CLIENT_PATCH_STRATEGIC,
               kp_arena_printf(sync->in->arena, "{\"metadata\":{\"$deleteFromPrimitiveList/finalizers\":[\"" JOB_FINALIZER "\"],\"uid\":\"%s\"}}",
                               pod->metadata->uid));
}

/* Those whose finalizer is gone have been counted for good. */
static void settle(struct job_sync *sync, struct kp_string_list *uncounted, int32_t *counter)
{
    struct kp_string_list left = {0};
    for (size_t i = 0; i < uncounted->len; i++) {
        const struct k8s_pod *pod = pod_by_uid(sync, uncounted->items[i]);
        if (pod && is_tracked(pod))
            kp_string_list_add(sync->in->arena, &left, uncounted->items[i]);
        else
            *counter += 1;
    }
    *uncounted = left;
}

static bool is_failed_pod(const struct k8s_pod *pod)
{
    /* A pod that is deleted while it runs counts as failed too, as upstream's default podReplacementPolicy. */
    return kp_streq(pod->status->phase, "Failed") || (pod->metadata->deletion_timestamp.set && !kp_streq(pod->status->phase, "Succeeded"));
}

static void count_pods(struct job_sync *sync)
{
    struct kp_arena *arena = sync->in->arena;
    struct k8s_job_status *status = sync->copy->status;
    if (!status->uncounted_terminated_pods)
        status->uncounted_terminated_pods = KP_OBJECT_NEW(arena, k8s_uncounted_terminated_pods);
    struct k8s_uncounted_terminated_pods *uncounted = status->uncounted_terminated_pods;
    settle(sync, &uncounted->succeeded, &status->succeeded);
    settle(sync, &uncounted->failed, &status->failed);
    if (sync->indexed)
        parse_indexes(status->completed_indexes, sync->index_done, sync->completions);
    for (size_t i = 0; i < sync->n_pods; i++) {
        const struct k8s_pod *pod = sync->pods[i];
        bool succeeded = kp_streq(pod->status->phase, "Succeeded");
        if (!succeeded && !is_failed_pod(pod)) {
            sync->active[sync->n_active++] = pod;
            continue;
        }
        if (!is_tracked(pod))
            continue;
        int64_t index = index_of(pod);
        struct kp_string_list *list = succeeded ? &uncounted->succeeded : &uncounted->failed;
        if (sync->indexed && succeeded) { /* the index is the truth: its second success changes nothing */
            if (index >= 0 && index < sync->completions)
                sync->index_done[index] = true;
            continue; /* its finalizer goes after the status with the index was written: release_counted */
        }
        if (!kp_string_list_has(list, pod->metadata->uid))
            kp_string_list_add(arena, list, pod->metadata->uid);
    }
    if (sync->indexed) {
        status->succeeded = 0;
        for (int32_t i = 0; i < sync->completions; i++)
            status->succeeded += sync->index_done[i];
        status->completed_indexes = print_indexes(sync->index_done, sync->completions, arena);
    }
    sync->succeeded = status->succeeded + (int32_t)uncounted->succeeded.len;
    sync->failed = status->failed + (int32_t)uncounted->failed.len;
}

/* After the status that lists them has been written, their finalizers may go. */
static void release_counted(struct job_sync *sync)
{
    const struct k8s_uncounted_terminated_pods *uncounted = sync->copy->status->uncounted_terminated_pods;
    for (size_t i = 0; i < sync->n_pods; i++) {
        const struct k8s_pod *pod = sync->pods[i];
        bool by_index = sync->indexed && kp_streq(pod->status->phase, "Succeeded");
        if (is_tracked(pod) && (by_index || kp_string_list_has(&uncounted->succeeded, pod->metadata->uid) || kp_string_list_has(&uncounted->failed, pod->metadata->uid)))
            drop_finalizer(sync, pod);
    }
}

/* ---- creating and deleting -------------------------------------------------------------------------------------------------- */
static int64_t next_free_index(const struct job_sync *sync, bool *taken)
{
    for (int32_t i = 0; i < sync->completions; i++)
        if (!sync->index_done[i] && !taken[i]) {
            taken[i] = true;
            return i;
        }
    return -1;
}

static void create_pod(struct job_sync *sync, int64_t index)
{
    struct kp_arena *arena = sync->in->arena;
    struct k8s_pod *pod = pod_from_template(arena, sync->job->spec->template, &k8s_job_type, sync->job->metadata);
    kp_string_list_add(arena, &pod->metadata->finalizers, JOB_FINALIZER);
    if (index >= 0) {
        const char *number = kp_arena_printf(arena, "%lld", (long long)index);
        kp_string_map_set(arena, &pod->metadata->annotations, JOB_INDEX_ANNOTATION, number);
        kp_string_map_set(arena, &pod->metadata->labels, JOB_INDEX_ANNOTATION, number);
        pod->metadata->generate_name = kp_arena_printf(arena, "%s-%s-", sync->job->metadata->name, number);
        if (kp_empty(pod->spec->hostname))
            pod->spec->hostname = kp_arena_printf(arena, "%s-%s", sync->job->metadata->name, number);
        struct k8s_container_items *lists[] = {&pod->spec->init_containers, &pod->spec->containers};
        for (size_t l = 0; l < KP_ARRAY_LEN(lists); l++)
            for (size_t i = 0; i < lists[l]->len; i++) {
                struct k8s_env_var *env = KP_LIST_ADD(arena, &lists[l]->items[i].env);
                env->name = "JOB_COMPLETION_INDEX";
                env->value_from = KP_OBJECT_NEW(arena, k8s_env_var_source);
                env->value_from->field_ref = KP_OBJECT_NEW(arena, k8s_object_field_selector);
                env->value_from->field_ref->api_version = "v1";
                env->value_from->field_ref->field_path = "metadata.annotations['" JOB_INDEX_ANNOTATION "']";
            }
    }
    plan_create(sync->plan, &k8s_pods_resource, sync->in->ns, pod);
    plan_event_on_failure(sync->plan, &k8s_job_type, sync->job, "FailedCreate", "Error creating: ");
    plan_event_created(sync->plan, &k8s_job_type, sync->job, "SuccessfulCreate", "Created pod: ");
}

/* uncounted: these pods go because fewer are wanted now; without the finalizer they will not count as failures. */
static void delete_active(struct job_sync *sync, size_t keep, bool uncounted)
{
    for (size_t i = sync->n_active; i > keep; i--) {
        const struct k8s_pod *pod = sync->active[i - 1];
        if (uncounted && is_tracked(pod))
            drop_finalizer(sync, pod);
        plan_delete(sync->plan, &k8s_pods_resource, sync->in->ns, pod->metadata->name, pod->metadata->uid, -1, NULL);
        plan_event(sync->plan, &k8s_job_type, sync->job, "Normal", "SuccessfulDelete", "Deleted pod: %s", pod->metadata->name);
    }
    sync->n_active = KP_MIN(sync->n_active, keep);
}

/* New pods after failures wait 10 s, 20 s, 40 s ... since the last failure. */
static int64_t backoff_left_s(const struct job_sync *sync)
{
    int64_t last_s = 0, wait_s = JOB_BACKOFF_S;
    if (sync->failed == 0)
        return 0;
    for (size_t i = 0; i < sync->n_pods; i++) {
        const struct k8s_pod_status *status = sync->pods[i]->status;
        if (!kp_streq(status->phase, "Failed"))
            continue;
        for (size_t k = 0; k < status->container_statuses.len; k++) {
            const struct k8s_container_state *state = status->container_statuses.items[k].state;
            if (state && state->terminated)
                last_s = KP_MAX(last_s, state->terminated->finished_at.seconds);
        }
    }
    for (int32_t i = 1; i < sync->failed && wait_s < JOB_BACKOFF_MAX_S; i++)
        wait_s *= 2;
    return last_s ? KP_MAX((int64_t)0, last_s + KP_MIN(wait_s, (int64_t)JOB_BACKOFF_MAX_S) - sync->in->now_s) : 0;
}

static void manage(struct job_sync *sync)
{
    int32_t parallelism = sync->job->spec->has_parallelism ? sync->job->spec->parallelism : 1;
    int64_t wanted = sync->completions < 0 ? (sync->succeeded > 0 ? (int64_t)sync->n_active : parallelism)
                                           : KP_MIN((int64_t)parallelism, (int64_t)sync->completions - sync->succeeded);
    wanted = KP_MAX((int64_t)0, wanted);
    if ((int64_t)sync->n_active > wanted) {
        delete_active(sync, (size_t)wanted, true);
        return;
    }
    int64_t missing = KP_MIN(wanted - (int64_t)sync->n_active, (int64_t)JOB_PODS_BURST_MAX);
    if (missing == 0)
        return;
    int64_t left_s = backoff_left_s(sync);
    if (left_s > 0) {
        plan_requeue_after_ms(sync->plan, left_s * 1000);
        return;
    }
    bool *taken = sync->indexed ? KP_NEW_ARRAY(sync->in->arena, bool, (size_t)sync->completions + 1) : NULL;
    for (size_t i = 0; taken && i < sync->n_active; i++) {
        int64_t index = index_of(sync->active[i]);
        if (index >= 0 && index < sync->completions)
            taken[index] = true;
    }
    for (int64_t i = 0; i < missing; i++) {
        int64_t index = sync->indexed ? next_free_index(sync, taken) : -1;
        if (sync->indexed && index < 0)
            break;
        create_pod(sync, index);
    }
}

/* ---- how it ends ---------------------------------------------------------------------------------------------------------------- */
static void fail(struct job_sync *sync, const char *reason, const char *message)
{
    delete_active(sync, 0, false);
    set_condition(sync, "FailureTarget", "True", reason, message);
    bool settled = sync->copy->status->uncounted_terminated_pods->failed.len + sync->copy->status->uncounted_terminated_pods->succeeded.len == 0;
    bool pods_left = false;
    for (size_t i = 0; i < sync->n_pods; i++)
        pods_left |= is_tracked(sync->pods[i]);
    if (!settled || pods_left)
        return; /* Failed is set when every pod is counted and gone */
    set_condition(sync, "Failed", "True", reason, message);
    plan_event(sync->plan, &k8s_job_type, sync->job, "Warning", reason, "%s", message);
}

static int32_t terminating(const struct job_sync *sync)
{
    int32_t n = 0;
    for (size_t i = 0; i < sync->n_pods; i++)
        n += sync->pods[i]->metadata->deletion_timestamp.set && !engine_pod_is_terminal(sync->pods[i]);
    return n;
}

static bool is_complete(const struct job_sync *sync)
{
    if (sync->completions < 0)
        return sync->succeeded > 0 && sync->n_active == 0;
    return sync->succeeded >= sync->completions;
}

static void complete(struct job_sync *sync)
{
    const struct k8s_uncounted_terminated_pods *uncounted = sync->copy->status->uncounted_terminated_pods;
    bool busy = sync->n_active > 0 || terminating(sync) > 0;
    delete_active(sync, 0, false);
    set_condition(sync, "SuccessCriteriaMet", "True", "CompletionsReached", "Reached expected number of succeeded pods");
    if (busy || uncounted->succeeded.len + uncounted->failed.len)
        return; /* Complete says that nothing of the job runs any more */
    set_condition(sync, "Complete", "True", "CompletionsReached", "Reached expected number of succeeded pods");
    sync->copy->status->completion_time = KP_TIME_OF(sync->in->now_s);
    plan_event(sync->plan, &k8s_job_type, sync->job, "Normal", "Completed", "Job completed");
}

static void decide(struct job_sync *sync)
{
    const struct k8s_job_spec *spec = sync->job->spec;
    struct k8s_job_status *status = sync->copy->status;
    int32_t limit = spec->has_backoff_limit ? spec->backoff_limit : 6;
    if (spec->has_suspend && spec->suspend) {
        delete_active(sync, 0, true);
        if (!has_condition(sync->job, "Suspended"))
            plan_event(sync->plan, &k8s_job_type, sync->job, "Normal", "Suspended", "Job suspended");
        set_condition(sync, "Suspended", "True", "JobSuspended", "Job suspended");
        return;
    }
    bool resumed = has_condition(sync->job, "Suspended");
    if (resumed) {
        set_condition(sync, "Suspended", "False", "JobResumed", "Job resumed");
        plan_event(sync->plan, &k8s_job_type, sync->job, "Normal", "Resumed", "Job resumed");
    }
    if (resumed || !status->start_time.set)
        status->start_time = KP_TIME_OF(sync->in->now_s);
    int64_t deadline_left_s = spec->has_active_deadline_seconds ? status->start_time.seconds + spec->active_deadline_seconds - sync->in->now_s : 0;
    if (sync->failed > limit)
        fail(sync, "BackoffLimitExceeded", "Job has reached the specified backoff limit");
    else if (spec->has_active_deadline_seconds && deadline_left_s <= 0)
        fail(sync, "DeadlineExceeded", "Job was active longer than specified deadline");
    else if (is_complete(sync))
        complete(sync);
    else
        manage(sync);
    if (spec->has_active_deadline_seconds && deadline_left_s > 0)
        plan_requeue_after_ms(sync->plan, deadline_left_s * 1000);
}

static int plan_job(const struct plan_input *in, struct plan *plan, struct kp_error *error)
{
    const struct k8s_job *job = client_view_get(in->view, engine_cache(in->engine, &k8s_jobs_resource), in->ns, in->name);
    struct kp_selector selector;
    if (!job || !job->spec->selector)
        return 0;
    if (!kp_empty(job->spec->managed_by) && !kp_streq(job->spec->managed_by, "kubernetes.io/job-controller"))
        return 0; /* somebody else's */
    if (kp_label_selector_from(job->spec->selector, in->arena, &selector, error) < 0)
        return kp_wrap(error, "spec.selector");
    struct job_sync sync = {
        .in = in, .plan = plan, .job = job, .copy = KP_OBJECT_CLONE(in->arena, k8s_job, job),
        .completions = job->spec->has_completions ? job->spec->completions : -1,
        .indexed = kp_streq(job->spec->completion_mode, "Indexed") && job->spec->has_completions && job->spec->completions <= JOB_INDEXES_MAX,
    };
    sync.n_pods = claim_pods(in, plan, &k8s_job_type, job->metadata, &selector, &sync.pods);
    sync.active = KP_NEW_ARRAY(in->arena, const struct k8s_pod *, sync.n_pods + 1);
    sync.index_done = sync.indexed ? KP_NEW_ARRAY(in->arena, bool, (size_t)sync.completions + 1) : NULL;
    if (engine_job_end(job) || job->metadata->deletion_timestamp.set) { /* its pods must not hang on our finalizer */
        for (size_t i = 0; i < sync.n_pods; i++)
            if (is_tracked(sync.pods[i]))
                drop_finalizer(&sync, sync.pods[i]);
        return 0;
    }
    count_pods(&sync);
    size_t n_before = sync.n_active;
    decide(&sync);
    struct k8s_job_status *status = sync.copy->status;
    int32_t ready = 0;
    for (size_t i = 0; i < n_before; i++)
        ready += engine_pod_is_ready(sync.active[i]);
    status->active = (int32_t)sync.n_active;
    KP_SET(status, ready, ready);
    KP_SET(status, terminating, terminating(&sync));
    if (!kp_object_equal(&k8s_job_status_type, status, job->status))
        plan_update_status(plan, &k8s_jobs_resource, sync.copy);
    release_counted(&sync);
    return 0;
}

static int setup_job(struct engine *engine, struct controller_run *run, void **ret_state, struct kp_error *error)
{
    engine_owner_index(engine, &k8s_pods_resource);
    engine_watch(run, &k8s_jobs_resource, engine_map_self);
    engine_watch_owned(run, &k8s_pods_resource, &k8s_jobs_resource);
    return 0;
}

const struct controller job_controller = {.name = "job-controller", .workers = 2, .setup = setup_job, .plan = plan_job};

/* ---- ttlSecondsAfterFinished ------------------------------------------------------------------------------------------------------ */
static int plan_ttl(const struct plan_input *in, struct plan *plan, struct kp_error *error)
{
    const struct k8s_job *job = client_view_get(in->view, engine_cache(in->engine, &k8s_jobs_resource), in->ns, in->name);
    if (!job || !job->spec->has_ttl_seconds_after_finished || job->metadata->deletion_timestamp.set)
        return 0;
    const struct k8s_job_condition *end = engine_job_end(job);
    if (!end || !end->last_transition_time.set)
        return 0;
    int64_t left_s = end->last_transition_time.seconds + job->spec->ttl_seconds_after_finished - in->now_s;
    if (left_s > 0)
        plan_requeue_after_ms(plan, left_s * 1000);
    else
        plan_delete(plan, &k8s_jobs_resource, in->ns, in->name, job->metadata->uid, -1, "Foreground");
    return 0;
}

static int setup_ttl(struct engine *engine, struct controller_run *run, void **ret_state, struct kp_error *error)
{
    engine_watch(run, &k8s_jobs_resource, engine_map_self);
    return 0;
}

const struct controller ttl_after_finished_controller = {.name = "ttl-after-finished-controller", .setup = setup_ttl, .plan = plan_ttl};
