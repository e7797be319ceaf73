/* Rows of apps, batch, autoscaling and policy. */
#include "controlplane/apiserver/table/table_internal.h"

static void deployment_row(struct cells *cells, const void *obj)
{
    const struct k8s_deployment *d = obj;
    cell_string(cells, d->metadata->name);
    cell_string(cells, kp_arena_printf(cells->arena, "%d/%d", d->status->ready_replicas, d->spec->has_replicas ? d->spec->replicas : 1));
    cell_int(cells, d->status->updated_replicas);
    cell_int(cells, d->status->available_replicas);
    cell_age(cells, &d->metadata->creation_timestamp);
    cell_containers(cells, d->spec->template->spec);
    cell_selector(cells, d->spec->selector);
}

static void replica_set_row(struct cells *cells, const void *obj)
{
    const struct k8s_replica_set *set = obj;
    cell_string(cells, set->metadata->name);
    cell_int(cells, set->spec->has_replicas ? set->spec->replicas : 1);
    cell_int(cells, set->status->replicas);
    cell_int(cells, set->status->ready_replicas);
    cell_age(cells, &set->metadata->creation_timestamp);
    cell_containers(cells, set->spec->template->spec);
    cell_selector(cells, set->spec->selector);
}

static void daemon_set_row(struct cells *cells, const void *obj)
{
    const struct k8s_daemon_set *set = obj;
    cell_string(cells, set->metadata->name);
    cell_int(cells, set->status->desired_number_scheduled);
    cell_int(cells, set->status->current_number_scheduled);
    cell_int(cells, set->status->number_ready);
    cell_int(cells, set->status->updated_number_scheduled);
    cell_int(cells, set->status->number_available);
    cell_map(cells, &set->spec->template->spec->node_selector);
    cell_age(cells, &set->metadata->creation_timestamp);
    cell_containers(cells, set->spec->template->spec);
    cell_selector(cells, set->spec->selector);
}

static void stateful_set_row(struct cells *cells, const void *obj)
{
    const struct k8s_stateful_set *set = obj;
    cell_string(cells, set->metadata->name);
    cell_string(cells, kp_arena_printf(cells->arena, "%d/%d", set->status->ready_replicas, set->spec->has_replicas ? set->spec->replicas : 1));
    cell_age(cells, &set->metadata->creation_timestamp);
    cell_containers(cells, set->spec->template->spec);
}

static void controller_revision_row(struct cells *cells, const void *obj)
{
    const struct k8s_controller_revision *revision = obj;
    const struct k8s_owner_reference *owner = NULL;
    for (size_t i = 0; i < revision->metadata->owner_references.len; i++)
        if (revision->metadata->owner_references.items[i].controller)
            owner = &revision->metadata->owner_references.items[i];
    const char *controller = "<none>";
    if (owner) { /* "daemonset.apps/name", as upstream */
        const char *slash = strchr(owner->api_version, '/');
        KP_AUTO_BUF struct kp_buf kind = {0};
        for (const char *p = owner->kind; *p; p++)
            kp_buf_putc(&kind, (char)(*p >= 'A' && *p <= 'Z' ? *p + 32 : *p));
        controller = kp_arena_printf(cells->arena, "%s%s%.*s/%s", kind.data, slash ? "." : "", slash ? (int)(slash - owner->api_version) : 0, owner->api_version,
                                     owner->name);
    }
    cell_string(cells, revision->metadata->name);
    cell_string(cells, controller);
    cell_int(cells, revision->revision);
    cell_age(cells, &revision->metadata->creation_timestamp);
}

static const char *job_status(const struct k8s_job *job)
{
    static const char *const shown[] = {"Complete", "Failed", "Suspended", "FailureTarget", "SuccessCriteriaMet"};
    if (job->metadata->deletion_timestamp.set && job->status->active > 0)
        return "Terminating";
    for (size_t s = 0; s < KP_ARRAY_LEN(shown); s++)
        for (size_t i = 0; i < job->status->conditions.len; i++)
            if (kp_streq(job->status->conditions.items[i].type, shown[s]) && kp_streq(job->status->conditions.items[i].status, "True"))
                return shown[s];
    return job->metadata->deletion_timestamp.set ? "Terminating" : "Running";
}

static void job_row(struct cells *cells, const void *obj)
{
    const struct k8s_job *job = obj;
    const char *completions;
    if (job->spec->has_completions)
        completions = kp_arena_printf(cells->arena, "%d/%d", job->status->succeeded, job->spec->completions);
    else if (job->spec->has_parallelism && job->spec->parallelism > 1)
        completions = kp_arena_printf(cells->arena, "%d/1 of %d", job->status->succeeded, job->spec->parallelism);
    else
        completions = kp_arena_printf(cells->arena, "%d/1", job->status->succeeded);
    int64_t end_s = job->status->completion_time.set ? job->status->completion_time.seconds : cells->now_s;
    cell_string(cells, job->metadata->name);
    cell_string(cells, job_status(job));
    cell_string(cells, completions);
    cell_string(cells, job->status->start_time.set ? table_age(end_s - job->status->start_time.seconds, cells->arena) : "");
    cell_age(cells, &job->metadata->creation_timestamp);
    cell_containers(cells, job->spec->template->spec);
    cell_selector(cells, job->spec->selector);
}

static void cron_job_row(struct cells *cells, const void *obj)
{
    const struct k8s_cron_job *cron = obj;
    cell_string(cells, cron->metadata->name);
    cell_string(cells, cron->spec->schedule);
    cell_string(cells, kp_empty(cron->spec->time_zone) ? "<none>" : cron->spec->time_zone);
    cell_string(cells, cron->spec->has_suspend ? (cron->spec->suspend ? "True" : "False") : "<unset>");
    cell_int(cells, (int64_t)cron->status->active.len);
    cell_string(cells, cron->status->last_schedule_time.set ? table_age(cells->now_s - cron->status->last_schedule_time.seconds, cells->arena) : "<none>");
    cell_age(cells, &cron->metadata->creation_timestamp);
    cell_containers(cells, cron->spec->job_template->spec->template->spec);
    cell_selector(cells, cron->spec->job_template->spec->selector);
}

/* Both versions of the autoscaler: what they name, and what is read of their metrics. */
static void hpa_cells(struct cells *cells, const char *kind, const char *name, const char *targets, bool has_min, int32_t min, int32_t max, int32_t now)
{
    cell_string(cells, cells->meta->name);
    cell_string(cells, kp_arena_printf(cells->arena, "%s/%s", kind ? kind : "", name ? name : ""));
    cell_string(cells, targets);
    cell_string(cells, has_min ? kp_arena_printf(cells->arena, "%d", min) : "<unset>");
    cell_int(cells, max);
    cell_int(cells, now);
    cell_age(cells, &cells->meta->creation_timestamp);
}

static void hpa_v2(struct cells *cells, const struct k8s_autoscaling_v2_horizontal_pod_autoscaler *hpa)
{
    KP_AUTO_BUF struct kp_buf targets = {0};
    for (size_t i = 0; i < hpa->spec->metrics.len; i++) {
        const struct k8s_metric_spec *metric = &hpa->spec->metrics.items[i];
        const struct k8s_metric_status *status = i < hpa->status->current_metrics.len ? &hpa->status->current_metrics.items[i] : NULL;
        if (targets.len)
            kp_buf_puts(&targets, ", ");
        if (!metric->resource) {
            kp_buf_printf(&targets, "<unknown>/<%s>", metric->type ? metric->type : "auto");
            continue;
        }
        const struct k8s_metric_value_status *current = status && status->resource ? status->resource->current : NULL;
        if (metric->resource->target->has_average_utilization) {
            kp_buf_printf(&targets, "%s: ", metric->resource->name);
            if (current && current->has_average_utilization)
                kp_buf_printf(&targets, "%d%%", current->average_utilization);
            else
                kp_buf_puts(&targets, "<unknown>");
            kp_buf_printf(&targets, "/%d%%", metric->resource->target->average_utilization);
        } else {
            kp_buf_printf(&targets, "%s/%s", current && current->average_value ? current->average_value : "<unknown>",
                          metric->resource->target->average_value ? metric->resource->target->average_value : "<auto>");
        }
    }
    const struct k8s_autoscaling_v2_cross_version_object_reference *ref = hpa->spec->scale_target_ref;
    hpa_cells(cells, ref->kind, ref->name, targets.len ? targets.data : "<none>", hpa->spec->has_min_replicas, hpa->spec->min_replicas, hpa->spec->max_replicas,
              hpa->status->current_replicas);
}

static void hpa_v1(struct cells *cells, const struct k8s_horizontal_pod_autoscaler *hpa)
{
    const char *targets = "<none>";
    if (hpa->spec->has_target_cpu_utilization_percentage) {
        const char *now = hpa->status->has_current_cpu_utilization_percentage
                              ? kp_arena_printf(cells->arena, "%d%%", hpa->status->current_cpu_utilization_percentage)
                              : "<unknown>";
        targets = kp_arena_printf(cells->arena, "cpu: %s/%d%%", now, hpa->spec->target_cpu_utilization_percentage);
    }
    const struct k8s_cross_version_object_reference *ref = hpa->spec->scale_target_ref;
    hpa_cells(cells, ref->kind, ref->name, targets, hpa->spec->has_min_replicas, hpa->spec->min_replicas, hpa->spec->max_replicas, hpa->status->current_replicas);
}

static void hpa_row(struct cells *cells, const void *obj)
{
    if (kp_streq(cells->resource->version, "v2"))
        hpa_v2(cells, obj);
    else
        hpa_v1(cells, obj);
}

static const char *int_or_string(struct cells *cells, const struct kp_int_or_string *value)
{
    return value->kind == KP_IOS_INT ? kp_arena_printf(cells->arena, "%d", value->i) : value->kind == KP_IOS_STRING ? value->s : "N/A";
}

static void pdb_row(struct cells *cells, const void *obj)
{
    const struct k8s_pod_disruption_budget *pdb = obj;
    cell_string(cells, pdb->metadata->name);
    cell_string(cells, int_or_string(cells, &pdb->spec->min_available));
    cell_string(cells, int_or_string(cells, &pdb->spec->max_unavailable));
    cell_int(cells, pdb->status->disruptions_allowed);
    cell_age(cells, &pdb->metadata->creation_timestamp);
}

const struct table_row table_workload_rows[] = {
    {"deployment", deployment_row},
    {"replica_set", replica_set_row},
    {"daemon_set", daemon_set_row},
    {"stateful_set", stateful_set_row},
    {"controller_revision", controller_revision_row},
    {"job", job_row},
    {"cron_job", cron_job_row},
    {"horizontal_pod_autoscaler", hpa_row},
    {"pod_disruption_budget", pdb_row},
    {0},
};
