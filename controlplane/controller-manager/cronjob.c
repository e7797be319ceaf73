/* CronJobs: a Job at each time of the schedule, named after the minute, so that no time is served twice; the second version of
 * upstream's controller. What runs is read from the Jobs themselves, status.active only tells it. */
#include "controlplane/controller-manager/controllers.h"
#include "lib/cron/cron.h"

#define TIMESTAMP_ANNOTATION "batch.kubernetes.io/cronjob-scheduled-timestamp"
#define REQUEUE_AFTER_MS 100 /* past the time itself, as upstream: clocks are not that good */
#define HISTORY_SUCCEEDED 3
#define HISTORY_FAILED 1

struct cron_sync {
    const struct plan_input *in;
    struct plan *plan;
    const struct k8s_cron_job *cron;
    struct k8s_cron_job *copy; /* its status is what will be written */
    const struct k8s_job **jobs; /* its own */
    size_t n_jobs;
};

/* "Complete", "Failed", or NULL while it runs. */
static const char *ended_as(const struct k8s_job *job)
{
    const struct k8s_job_condition *end = engine_job_end(job);
    return end ? end->type : NULL;
}

static void tell(struct cron_sync *sync, const char *type, const char *reason, const char *text)
{
    plan_event(sync->plan, &k8s_cron_job_type, sync->cron, type, reason, "%s", text);
}

/* ---- history --------------------------------------------------------------------------------------------------------------- */
static int64_t began_s(const struct k8s_job *job)
{
    return job->status->start_time.set ? job->status->start_time.seconds : job->metadata->creation_timestamp.seconds;
}

static int oldest_first(const void *a, const void *b)
{
    const struct k8s_job *const *x = a, *const *y = b;
    if (began_s(*x) != began_s(*y))
        return began_s(*x) < began_s(*y) ? -1 : 1;
    return strcmp((*x)->metadata->name, (*y)->metadata->name);
}

static void keep_newest(struct cron_sync *sync, const char *ended, int64_t limit)
{
    int64_t n = 0;
    for (size_t i = 0; i < sync->n_jobs; i++)
        n += kp_streq(ended_as(sync->jobs[i]), ended);
    for (size_t i = 0; i < sync->n_jobs && n > limit; i++) {
        const struct k8s_object_meta *meta = sync->jobs[i]->metadata;
        if (!kp_streq(ended_as(sync->jobs[i]), ended))
            continue;
        n--;
        if (meta->deletion_timestamp.set)
            continue;
        plan_delete(sync->plan, &k8s_jobs_resource, meta->namespace, meta->name, meta->uid, -1, "Background");
        tell(sync, "Normal", "SuccessfulDelete", kp_arena_printf(sync->in->arena, "Deleted job %s", meta->name));
    }
}

/* ---- what runs -------------------------------------------------------------------------------------------------------------- */
static const struct k8s_job *job_by_uid(const struct cron_sync *sync, const char *uid)
{
    for (size_t i = 0; i < sync->n_jobs; i++)
        if (kp_streq(sync->jobs[i]->metadata->uid, uid))
            return sync->jobs[i];
    return NULL;
}

static bool is_told(const struct k8s_cron_job_status *status, const char *uid)
{
    for (size_t i = 0; i < status->active.len; i++)
        if (kp_streq(status->active.items[i].uid, uid))
            return true;
    return false;
}

static void tell_active(struct cron_sync *sync)
{
    struct kp_arena *arena = sync->in->arena;
    const struct k8s_cron_job_status *before = sync->cron->status;
    struct k8s_cron_job_status *status = sync->copy->status;
    status->active.len = 0;
    for (size_t i = 0; i < before->active.len; i++) {
        const struct k8s_object_reference *ref = &before->active.items[i];
        const struct k8s_job *job = job_by_uid(sync, ref->uid);
        const char *ended = job ? ended_as(job) : NULL;
        if (!job)
            tell(sync, "Normal", "MissingJob", kp_arena_printf(arena, "Active job went missing: %s", ref->name));
        else if (ended)
            tell(sync, "Normal", "SawCompletedJob", kp_arena_printf(arena, "Saw completed job: %s, condition: %s", ref->name, ended));
        else
            *KP_LIST_ADD(arena, &status->active) = *ref;
    }
    for (size_t i = 0; i < sync->n_jobs; i++) {
        const struct k8s_job *job = sync->jobs[i];
        const struct kp_time *done = &job->status->completion_time;
        if (!ended_as(job) && !is_told(before, job->metadata->uid))
            *KP_LIST_ADD(arena, &status->active) = (struct k8s_object_reference){
                .kind = "Job", .api_version = "batch/v1", .namespace = job->metadata->namespace, .name = job->metadata->name,
                .uid = job->metadata->uid, .resource_version = job->metadata->resource_version,
            };
        if (kp_streq(ended_as(job), "Complete") && done->set &&
            (!status->last_successful_time.set || done->seconds > status->last_successful_time.seconds))
            status->last_successful_time = *done;
    }
}

/* ---- the next one --------------------------------------------------------------------------------------------------------------- */
static const char *timestamp(struct kp_arena *arena, const struct cron_zone *zone, int64_t at_s)
{
    char text[KP_RFC3339_MAX];
    int32_t offset_s = cron_zone_offset_s(zone, at_s);
    kp_format_rfc3339(text, at_s + offset_s, 0, false);
    if (offset_s == 0)
        return kp_arena_strdup(arena, text);
    int minutes = abs(offset_s) / 60;
    return kp_arena_printf(arena, "%.*s%c%02d:%02d", (int)strlen(text) - 1, text, offset_s < 0 ? '-' : '+', minutes / 60, minutes % 60);
}

static const char *name_at(struct cron_sync *sync, int64_t at_s)
{
    return kp_arena_printf(sync->in->arena, "%s-%lld", sync->cron->metadata->name, (long long)(at_s / 60));
}

static void create_job(struct cron_sync *sync, const struct cron_zone *zone, int64_t at_s)
{
    struct kp_arena *arena = sync->in->arena;
    const struct k8s_job_template_spec *template = sync->copy->spec->job_template;
    struct k8s_job *job = KP_OBJECT_NEW(arena, k8s_job);
    job->metadata->name = name_at(sync, at_s);
    job->metadata->namespace = sync->in->ns;
    job->metadata->labels = template->metadata->labels;
    job->metadata->annotations = template->metadata->annotations;
    job->spec = template->spec;
    kp_string_map_set(arena, &job->metadata->annotations, TIMESTAMP_ANNOTATION, timestamp(arena, zone, at_s));
    engine_set_controller(arena, job->metadata, &k8s_cron_job_type, sync->cron->metadata);
    plan_create(sync->plan, &k8s_jobs_resource, sync->in->ns, job);
    plan_event_on_failure(sync->plan, &k8s_cron_job_type, sync->cron, "FailedCreate", "Error creating job: ");
    plan_event_created(sync->plan, &k8s_cron_job_type, sync->cron, "SuccessfulCreate", "Created job ");
    sync->copy->status->last_schedule_time = KP_TIME_OF(at_s);
}

/* Served already, by this process or one before it. */
static bool is_served(struct cron_sync *sync, int64_t at_s)
{
    if (sync->cron->status->last_schedule_time.set && sync->cron->status->last_schedule_time.seconds >= at_s)
        return true;
    for (size_t i = 0; i < sync->n_jobs; i++)
        if (kp_streq(sync->jobs[i]->metadata->name, name_at(sync, at_s))) {
            sync->copy->status->last_schedule_time = KP_TIME_OF(at_s);
            return true;
        }
    return false;
}

static void serve(struct cron_sync *sync, const struct cron_zone *zone, int64_t at_s)
{
    const struct k8s_cron_job_spec *spec = sync->cron->spec;
    if (is_served(sync, at_s))
        return;
    struct k8s_object_reference_items *active = &sync->copy->status->active;
    if (kp_streq(spec->concurrency_policy, "Forbid") && active->len) {
        tell(sync, "Normal", "JobAlreadyActive", "Not starting job because prior execution is running and concurrency policy is Forbid");
        return;
    }
    if (kp_streq(spec->concurrency_policy, "Replace")) {
        for (size_t i = 0; i < active->len; i++) {
            plan_delete(sync->plan, &k8s_jobs_resource, sync->in->ns, active->items[i].name, active->items[i].uid, -1, "Background");
            tell(sync, "Normal", "SuccessfulDelete", kp_arena_printf(sync->in->arena, "Deleted job %s", active->items[i].name));
        }
        active->len = 0;
    }
    create_job(sync, zone, at_s);
}

static void keep_schedule(struct cron_sync *sync)
{
    KP_AUTO(cron_zone_free) struct cron_zone *zone = NULL;
    const struct k8s_cron_job_spec *spec = sync->cron->spec;
    const struct kp_time *served = &sync->cron->status->last_schedule_time;
    struct cron_schedule schedule;
    struct kp_error error = {0};
    int count;
    if (cron_zone_open(spec->time_zone, &zone, &error) < 0) {
        tell(sync, "Warning", "UnknownTimeZone", kp_arena_printf(sync->in->arena, "invalid timeZone: \"%s\": %s", spec->time_zone, error.message));
        return;
    }
    if (cron_parse(spec->schedule, &schedule, &error) < 0) {
        tell(sync, "Warning", "UnparseableSchedule", kp_arena_printf(sync->in->arena, "unparseable schedule: %s : %s", spec->schedule, error.message));
        return;
    }
    int64_t after_s = served->set ? served->seconds : sync->cron->metadata->creation_timestamp.seconds;
    if (spec->has_starting_deadline_seconds)
        after_s = KP_MAX(after_s, sync->in->now_s - spec->starting_deadline_seconds);
    int64_t at_s = cron_last_s(&schedule, zone, after_s, sync->in->now_s, &count);
    if (count >= CRON_COUNT_MAX)
        tell(sync, "Warning", "TooManyMissedTimes",
             "too many missed start times. Set or decrease .spec.startingDeadlineSeconds or check clock skew");
    if (at_s)
        serve(sync, zone, at_s);
    int64_t next_s = cron_next_s(&schedule, zone, at_s ? at_s : after_s);
    if (next_s)
        plan_requeue_after_ms(sync->plan, (next_s - sync->in->now_s) * 1000 + REQUEUE_AFTER_MS);
}

static int plan_cron_job(const struct plan_input *in, struct plan *plan, struct kp_error *error)
{
    struct client_informer *jobs = engine_cache(in->engine, &k8s_jobs_resource);
    const struct k8s_cron_job *cron = client_view_get(in->view, engine_cache(in->engine, &k8s_cronjobs_resource), in->ns, in->name);
    const void *const *owned;
    if (!cron || cron->metadata->deletion_timestamp.set || !cron->spec->job_template->spec)
        return 0;
    struct cron_sync sync = {.in = in, .plan = plan, .cron = cron, .copy = KP_OBJECT_CLONE(in->arena, k8s_cron_job, cron)};
    size_t n = client_view_index(in->view, jobs, engine_owner_index(in->engine, &k8s_jobs_resource), cron->metadata->uid, &owned);
    sync.jobs = KP_NEW_ARRAY(in->arena, const struct k8s_job *, n + 1);
    for (size_t i = 0; i < n; i++)
        sync.jobs[sync.n_jobs++] = owned[i];
    qsort(sync.jobs, sync.n_jobs, sizeof(*sync.jobs), oldest_first);
    tell_active(&sync);
    keep_newest(&sync, "Complete", cron->spec->has_successful_jobs_history_limit ? cron->spec->successful_jobs_history_limit : HISTORY_SUCCEEDED);
    keep_newest(&sync, "Failed", cron->spec->has_failed_jobs_history_limit ? cron->spec->failed_jobs_history_limit : HISTORY_FAILED);
    if (!cron->spec->suspend)
        keep_schedule(&sync);
    if (!kp_object_equal(&k8s_cron_job_status_type, sync.copy->status, cron->status))
        plan_update_status(plan, &k8s_cronjobs_resource, sync.copy);
    return 0;
}

static int setup_cron_job(struct engine *engine, struct controller_run *run, void **ret_state, struct kp_error *error)
{
    engine_owner_index(engine, &k8s_jobs_resource);
    engine_watch(run, &k8s_cronjobs_resource, engine_map_self);
    engine_watch_owned(run, &k8s_jobs_resource, &k8s_cronjobs_resource);
    return 0;
}

const struct controller cron_job_controller = {
    .name = "cronjob-controller", .workers = 2, .setup = setup_cron_job, .plan = plan_cron_job,
};
