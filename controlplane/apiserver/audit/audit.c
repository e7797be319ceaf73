/* The auditor: its policy and its backends. */
#include "controlplane/apiserver/audit/audit_internal.h"

static int add_sink(struct auditor *auditor, const struct audit_sink_config *config, const struct audit_output *output)
{
    KP_ASSERT(auditor->n_sinks < AUDIT_SINKS_MAX);
    auditor->sinks[auditor->n_sinks++] = audit_sink_new(config, output);
    return 0;
}

static int open_log(struct auditor *auditor, const struct auditor_config *config, struct kp_error *error)
{
    struct audit_sink_config sink;
    struct audit_output output;
    const struct audit_log_config log = {.path = config->log_path,
                                         .bytes_max = config->log_max_megabytes << 20,
                                         .max_age_days = config->log_max_age_days,
                                         .max_backups = config->log_max_backups,
                                         .compress = config->log_compress,
                                         .legacy = strcmp(config->log_format, "legacy") == 0};
    if (kp_empty(config->log_path))
        return 0;
    if (audit_delivery_check(&config->log, "log", &sink, error) < 0 || audit_log_open(&log, &output, error) < 0)
        return error->code;
    return add_sink(auditor, &sink, &output);
}

static int open_webhook(struct auditor *auditor, const struct auditor_config *config, struct loop *loop, struct kp_error *error)
{
    struct audit_sink_config sink;
    struct audit_output output;
    if (kp_empty(config->webhook_file))
        return 0;
    if (audit_delivery_check(&config->webhook, "webhook", &sink, error) < 0 ||
        audit_webhook_open(config->webhook_file, config->webhook_backoff_ns / 1000000, loop, &output, error) < 0)
        return error->code;
    return add_sink(auditor, &sink, &output);
}

static void make_metrics(struct auditor *auditor)
{
    static const char *const level[] = {"level", NULL};
    auditor->events = kp_counter("apiserver_audit_event_total", "Audit events made and given to the backends.", NULL);
    auditor->levels = kp_counter("apiserver_audit_level_total", "Requests by the level that the audit policy gives them.", level);
    auditor->rejected = kp_counter("apiserver_audit_requests_rejected_total", "Requests refused because their audit event could not be stored.", NULL);
}

int auditor_new(const struct auditor_config *config, struct loop *loop, struct auditor **ret_auditor, struct kp_error *error)
{
    *ret_auditor = NULL;
    if (audit_config_check(config, error) < 0)
        return error->code;
    if (kp_empty(config->policy_file)) {
        if (!kp_empty(config->log_path) || !kp_empty(config->webhook_file))
            kp_warn("nothing is audited: there is no --audit-policy-file", NULL);
        return 0;
    }
    struct auditor *auditor = kp_calloc(1, sizeof(*auditor));
    make_metrics(auditor);
    if (audit_policy_load(config->policy_file, &auditor->policy, error) < 0)
        kp_wrap(error, "--audit-policy-file");
    else if (open_log(auditor, config, error) == 0)
        open_webhook(auditor, config, loop, error);
    if (error->code < 0) {
        auditor_free(auditor);
        return error->code;
    }
    if (!auditor->n_sinks) {
        kp_warn("nothing is audited: there is neither --audit-log-path nor --audit-webhook-config-file", NULL);
        auditor_free(auditor);
        return 0;
    }
    *ret_auditor = auditor;
    return 0;
}

void auditor_stop(struct auditor *auditor)
{
    for (size_t i = 0; auditor && i < auditor->n_sinks; i++)
        audit_sink_stop(auditor->sinks[i]);
}

void auditor_free(struct auditor *auditor)
{
    if (!auditor)
        return;
    for (size_t i = 0; i < auditor->n_sinks; i++)
        audit_sink_free(auditor->sinks[i]);
    audit_policy_free(auditor->policy);
    free(auditor);
}
