/* Strategies of Jobs and CronJobs. */
#include "controlplane/apiserver/registry/strategy_internal.h"

#include <strings.h>

#include "lib/cron/cron.h"

#define CRON_JOB_NAME_MAX 52 /* its Jobs' names have eleven characters more, and their pods' labels 63 in all */

void job_defaults(struct registry_request *rq, void *obj)
{
    struct k8s_job_spec *spec = ((struct k8s_job *)obj)->spec;
    pod_template_defaults(rq->arena, spec->template);
    if (!spec->has_completions && !spec->has_parallelism) {
        KP_SET(spec, completions, 1);
        KP_SET(spec, parallelism, 1);
    }
    if (!spec->has_parallelism)
        KP_SET(spec, parallelism, 1);
    if (kp_empty(spec->pod_replacement_policy))
        spec->pod_replacement_policy = spec->pod_failure_policy ? "Failed" : "TerminatingOrFailed";
}

/* A selector of its own by the Job's uid, unless the user takes that on. */
void job_prepare_create(struct registry_request *rq, void *obj)
{
    struct k8s_job *job = obj;
    struct k8s_job_spec *spec = job->spec;
    const char *name = job->metadata->name, *uid = job->metadata->uid;
    if (spec->has_manual_selector && spec->manual_selector)
        return;
    if (!spec->template->metadata)
        spec->template->metadata = KP_OBJECT_NEW(rq->arena, k8s_object_meta);
    struct kp_string_map *labels = &spec->template->metadata->labels;
    kp_string_map_set(rq->arena, labels, "batch.kubernetes.io/controller-uid", uid);
    kp_string_map_set(rq->arena, labels, "controller-uid", uid);
    if (!kp_empty(name)) {
        kp_string_map_set(rq->arena, labels, "batch.kubernetes.io/job-name", name);
        kp_string_map_set(rq->arena, labels, "job-name", name);
    }
    if (!spec->selector)
        spec->selector = KP_OBJECT_NEW(rq->arena, k8s_label_selector);
    kp_string_map_set(rq->arena, &spec->selector->match_labels, "batch.kubernetes.io/controller-uid", uid);
}

static void validate_job_spec(const struct k8s_job_spec *spec, struct field_errors *errors, const char *template_path)
{
    static const char *const policies[] = {"OnFailure", "Never", NULL};
    validate_non_negative(spec->parallelism, errors, "spec.parallelism");
    validate_non_negative(spec->completions, errors, "spec.completions");
    validate_non_negative(spec->backoff_limit, errors, "spec.backoffLimit");
    validate_non_negative(spec->active_deadline_seconds, errors, "spec.activeDeadlineSeconds");
    validate_non_negative(spec->ttl_seconds_after_finished, errors, "spec.ttlSecondsAfterFinished");
    if (kp_streq(spec->completion_mode, "Indexed") && !spec->has_completions)
        field_required(errors, "when completion mode is Indexed", "spec.completions");
    validate_pod_template(spec->template, errors, template_path);
    const char *policy = spec->template->spec ? spec->template->spec->restart_policy : NULL;
    if (kp_streq(policy, "Always"))
        field_not_supported(errors, policy, policies, "%s.spec.restartPolicy", template_path);
}

void job_validate(struct registry_request *rq, const void *obj, struct field_errors *errors)
{
    const struct k8s_job_spec *spec = ((const struct k8s_job *)obj)->spec;
    (void)rq;
    if (!spec->selector)
        field_required(errors, "", "spec.selector");
    validate_job_spec(spec, errors, "spec.template");
    static const struct kp_string_map none = {0};
    const struct kp_string_map *labels = spec->template->metadata ? &spec->template->metadata->labels : &none;
    if (spec->selector && !kp_label_selector_matches(spec->selector, labels))
        field_invalid_raw(errors, "{}", "`selector` does not match template `labels`", "spec.template.metadata.labels");
}

void job_validate_update(struct registry_request *rq, const void *obj, const void *old, struct field_errors *errors)
{
    const struct k8s_job_spec *now = ((const struct k8s_job *)obj)->spec, *before = ((const struct k8s_job *)old)->spec;
    (void)rq;
    immutable_member(&k8s_job_spec_type, now, before, "selector", errors, "spec.selector");
    bool suspended = before->has_suspend && before->suspend && !((const struct k8s_job *)old)->status->start_time.set;
    if (!suspended)
        immutable_member(&k8s_job_spec_type, now, before, "template", errors, "spec.template");
    if (!kp_streq(now->completion_mode, before->completion_mode))
        field_invalid(errors, now->completion_mode, "field is immutable", "spec.completionMode");
    bool indexed = kp_streq(before->completion_mode, "Indexed");
    if (!indexed && (now->has_completions != before->has_completions || now->completions != before->completions))
        field_invalid_int(errors, now->completions, "field is immutable", "spec.completions");
}

void cron_job_defaults(struct registry_request *rq, void *obj)
{
    struct k8s_cron_job_spec *spec = ((struct k8s_cron_job *)obj)->spec;
    struct k8s_job_spec *job = spec->job_template->spec;
    if (job)
        pod_template_defaults(rq->arena, job->template);
}

static void validate_time_zone(const char *name, struct field_errors *errors)
{
    KP_AUTO(cron_zone_free) struct cron_zone *zone = NULL;
    struct kp_error error = {0};
    if (!name)
        return;
    if (!*name)
        field_invalid(errors, name, "must be nil or non-empty string", "spec.timeZone");
    else if (strcasecmp(name, "local") == 0)
        field_invalid(errors, name, "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones", "spec.timeZone");
    else if (cron_zone_open(name, &zone, &error) < 0)
        field_invalid(errors, name, kp_arena_strdup(errors->arena, error.message), "spec.timeZone");
}

void cron_job_validate(struct registry_request *rq, const void *obj, struct field_errors *errors)
{
    const struct k8s_cron_job *cron = obj;
    struct cron_schedule schedule;
    struct kp_error error = {0};
    (void)rq;
    if (kp_empty(cron->spec->schedule))
        field_required(errors, "", "spec.schedule");
    else if (cron_parse(cron->spec->schedule, &schedule, &error) < 0)
        field_invalid(errors, cron->spec->schedule, kp_arena_strdup(errors->arena, error.message), "spec.schedule");
    validate_time_zone(cron->spec->time_zone, errors);
    if (!kp_empty(cron->metadata->name) && strlen(cron->metadata->name) > CRON_JOB_NAME_MAX)
        field_invalid(errors, cron->metadata->name, "must be no more than 52 characters", "metadata.name");
    validate_non_negative(cron->spec->starting_deadline_seconds, errors, "spec.startingDeadlineSeconds");
    validate_non_negative(cron->spec->successful_jobs_history_limit, errors, "spec.successfulJobsHistoryLimit");
    validate_non_negative(cron->spec->failed_jobs_history_limit, errors, "spec.failedJobsHistoryLimit");
    if (cron->spec->job_template->spec)
        validate_job_spec(cron->spec->job_template->spec, errors, "spec.jobTemplate.spec.template");
}
