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

#define HPA_METRICS_SHOWN_MAX 2 /* upstream's formatHPAMetrics */

static const char *or_unknown(const char *value)
{
    return kp_empty(value) ? "<unknown>" : value;
}

/* "12%/80%" or "100m/200m" of cpu or memory; now NULL: not known. */
static const char *hpa_usage(struct cells *cells, const char *name, const struct k8s_metric_target *target, const struct k8s_metric_value_status *now)
{
    if (target->average_value)
        return kp_arena_printf(cells->arena, "%s: %s/%s", name, or_unknown(now ? now->average_value : NULL), target->average_value);
    const char *wanted = target->has_average_utilization ? kp_arena_printf(cells->arena, "%d%%", target->average_utilization) : "<auto>";
    const char *have = now && now->has_average_utilization ? kp_arena_printf(cells->arena, "%d%%", now->average_utilization) : "<unknown>";
    return kp_arena_printf(cells->arena, "%s: %s/%s", name, have, wanted);
}

static const char *hpa_value(struct cells *cells, const struct k8s_metric_target *target, const struct k8s_metric_value_status *now)
{
    if (target->average_value)
        return kp_arena_printf(cells->arena, "%s/%s (avg)", or_unknown(now ? now->average_value : NULL), target->average_value);
    return kp_arena_printf(cells->arena, "%s/%s", or_unknown(now ? now->value : NULL), target->value ? target->value : "0");
}

static const char *hpa_metric(struct cells *cells, const struct k8s_metric_spec *spec, const struct k8s_metric_status *status)
{
    static const struct k8s_metric_status none;
    const struct k8s_metric_status *now = status ? status : &none;
    if (kp_streq(spec->type, "External") && spec->external)
        return hpa_value(cells, spec->external->target, now->external ? now->external->current : NULL);
    if (kp_streq(spec->type, "Object") && spec->object)
        return hpa_value(cells, spec->object->target, now->object ? now->object->current : NULL);
    if (kp_streq(spec->type, "Pods") && spec->pods)
        return kp_arena_printf(cells->arena, "%s/%s", or_unknown(now->pods ? now->pods->current->average_value : NULL),
                               spec->pods->target->average_value ? spec->pods->target->average_value : "0");
    if (kp_streq(spec->type, "Resource") && spec->resource)
        return hpa_usage(cells, spec->resource->name, spec->resource->target, now->resource ? now->resource->current : NULL);
    if (kp_streq(spec->type, "ContainerResource") && spec->container_resource)
        return hpa_usage(cells, spec->container_resource->name, spec->container_resource->target,
                         now->container_resource ? now->container_resource->current : NULL);
    return "<unknown type>";
}

static void hpa_v2(struct cells *cells, const struct k8s_autoscaling_v2_horizontal_pod_autoscaler *hpa)
{
    KP_AUTO_BUF struct kp_buf targets = {0};
    const struct k8s_metric_status_items *now = &hpa->status->current_metrics;
    size_t count = hpa->spec->metrics.len;
    for (size_t i = 0; i < KP_MIN(count, (size_t)HPA_METRICS_SHOWN_MAX); i++)
        kp_buf_printf(&targets, "%s%s", i ? ", " : "", hpa_metric(cells, &hpa->spec->metrics.items[i], i < now->len ? &now->items[i] : NULL));
    if (count > HPA_METRICS_SHOWN_MAX)
        kp_buf_printf(&targets, " + %zu more...", count - HPA_METRICS_SHOWN_MAX);
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
