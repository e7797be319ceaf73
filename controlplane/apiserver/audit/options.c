/* The audit flags of kube-apiserver: names, defaults and checks are upstream's (k8s.io/apiserver pkg/server/options/audit.go). */
#include "controlplane/apiserver/audit/audit_internal.h"

#define EVENTS_MAX 1000000 /* that wait, or are in a batch */

static const char version[] = "audit.k8s.io/v1";

static struct audit_delivery delivery(const char *mode, int64_t batch_max, bool throttle)
{
    return (struct audit_delivery){.mode = mode,
                                   .buffer_size = 10000,
                                   .batch_max = batch_max,
                                   .batch_max_wait_ns = 30LL * 1000000000,
                                   .throttle = throttle,
                                   .throttle_qps = "10",
                                   .throttle_burst = 15,
                                   .event_bytes_max = 100 << 10,
                                   .batch_bytes_max = 10 << 20};
}

void auditor_defaults(struct auditor_config *config)
{
    *config = (struct auditor_config){.log_format = "json",
                                      .log_version = version,
                                      .log_max_age_days = 366,
                                      .log_max_backups = 100,
                                      .log_max_megabytes = 100,
                                      .log = delivery("blocking", 1, false),
                                      .webhook_version = version,
                                      .webhook_backoff_ns = 10LL * 1000000000,
                                      .webhook = delivery("batch", 400, true)};
}

/* ---- flags ----------------------------------------------------------------------------------------------------------------------------- */
struct flag_list {
    struct kp_flag *items;
    size_t len;
};

static void add(struct flag_list *list, const char *name, enum kp_flag_kind kind, void *value, const char *help)
{
    KP_ASSERT(list->len < AUDIT_FLAGS_MAX);
    list->items[list->len++] = (struct kp_flag){.name = name, .kind = kind, .value = value, .help = help};
}

/* names: "mode", "batch-buffer-size" and so on, with their prefix. */
static void add_delivery(struct flag_list *list, const char *const names[10], struct audit_delivery *d)
{
    add(list, names[0], KP_FLAG_STRING, (void *)&d->mode, "batch: events are handed on later; blocking: before the answer; blocking-strict: the request fails when they cannot be");
    add(list, names[1], KP_FLAG_I64, &d->buffer_size, "events that wait at most; in mode batch");
    add(list, names[2], KP_FLAG_I64, &d->batch_max, "events handed on at once; in mode batch");
    add(list, names[3], KP_FLAG_DURATION, &d->batch_max_wait_ns, "after so long a batch is handed on that is not full; in mode batch");
    add(list, names[4], KP_FLAG_BOOL, &d->throttle, "batches are handed on at a bounded rate; in mode batch");
    add(list, names[5], KP_FLAG_STRING, (void *)&d->throttle_qps, "batches a second on average; in mode batch");
    add(list, names[6], KP_FLAG_I64, &d->throttle_burst, "batches at once when there was quiet before; in mode batch");
    add(list, names[7], KP_FLAG_BOOL, &d->truncate, "events that are too large lose their bodies, and batches are split");
    add(list, names[8], KP_FLAG_I64, &d->event_bytes_max, "bytes of an event that is not truncated; one that is larger without its bodies is lost");
    add(list, names[9], KP_FLAG_I64, &d->batch_bytes_max, "bytes of a batch");
}

#define DELIVERY_NAMES(plugin)                                                                                                                       \
    {                                                                                                                                                \
        "audit-" plugin "-mode", "audit-" plugin "-batch-buffer-size", "audit-" plugin "-batch-max-size", "audit-" plugin "-batch-max-wait",         \
            "audit-" plugin "-batch-throttle-enable", "audit-" plugin "-batch-throttle-qps", "audit-" plugin "-batch-throttle-burst",                \
            "audit-" plugin "-truncate-enabled", "audit-" plugin "-truncate-max-event-size", "audit-" plugin "-truncate-max-batch-size"              \
    }

size_t auditor_flags(struct auditor_config *config, struct kp_flag ret[AUDIT_FLAGS_MAX])
{
    static const char *const log_names[10] = DELIVERY_NAMES("log"), *const webhook_names[10] = DELIVERY_NAMES("webhook");
    struct flag_list list = {.items = ret};
    add(&list, "audit-policy-file", KP_FLAG_STRING, (void *)&config->policy_file, "Policy of audit.k8s.io/v1: what is logged; unset: nothing");
    add(&list, "audit-log-path", KP_FLAG_STRING, (void *)&config->log_path, "file of the audit log; - is standard output");
    add(&list, "audit-log-format", KP_FLAG_STRING, (void *)&config->log_format, "json, or legacy: a line of text for each event");
    add(&list, "audit-log-version", KP_FLAG_STRING, (void *)&config->log_version, "of events in the log: audit.k8s.io/v1");
    add(&list, "audit-log-maxage", KP_FLAG_I64, &config->log_max_age_days, "days that old audit logs are kept; 0: for ever");
    add(&list, "audit-log-maxbackup", KP_FLAG_I64, &config->log_max_backups, "old audit logs that are kept; 0: all");
    add(&list, "audit-log-maxsize", KP_FLAG_I64, &config->log_max_megabytes, "megabytes of the audit log before another is begun; 0: never");
    add(&list, "audit-log-compress", KP_FLAG_BOOL, &config->log_compress, "old audit logs are compressed by gzip");
    add_delivery(&list, log_names, &config->log);
    add(&list, "audit-webhook-config-file", KP_FLAG_STRING, (void *)&config->webhook_file, "kubeconfig of the server that is sent the events");
    add(&list, "audit-webhook-version", KP_FLAG_STRING, (void *)&config->webhook_version, "of events that are sent: audit.k8s.io/v1");
    add(&list, "audit-webhook-initial-backoff", KP_FLAG_DURATION, &config->webhook_backoff_ns, "wait before events are sent a second time");
    add_delivery(&list, webhook_names, &config->webhook);
    return list.len;
}

/* ---- checks ------------------------------------------------------------------------------------------------------------------------------ */
static int find_mode(const char *mode, const char *plugin, enum audit_mode *ret, struct kp_error *error)
{
    static const char *const names[] = {[AUDIT_BATCH] = "batch", [AUDIT_BLOCKING] = "blocking", [AUDIT_BLOCKING_STRICT] = "blocking-strict"};
    for (size_t i = 0; i < KP_ARRAY_LEN(names); i++)
        if (strcmp(names[i], mode) == 0) {
            *ret = (enum audit_mode)i;
            return 0;
        }
    return kp_fail(error, KP_EUSAGE, "--audit-%s-mode: \"%s\" is not one of batch, blocking, blocking-strict", plugin, mode);
}

static int check_batches(const struct audit_delivery *d, const char *plugin, struct audit_sink_config *ret, struct kp_error *error)
{
    char *end;
    if (d->buffer_size <= 0 || d->buffer_size > EVENTS_MAX)
        return kp_fail(error, KP_EUSAGE, "--audit-%s-batch-buffer-size: %lld: must be a positive number up to %d", plugin, (long long)d->buffer_size, EVENTS_MAX);
    if (d->batch_max <= 0 || d->batch_max > EVENTS_MAX)
        return kp_fail(error, KP_EUSAGE, "--audit-%s-batch-max-size: %lld: must be a positive number up to %d", plugin, (long long)d->batch_max, EVENTS_MAX);
    ret->buffer_size = (size_t)d->buffer_size;
    ret->batch_max = (size_t)d->batch_max;
    ret->batch_max_wait_ms = d->batch_max_wait_ns / 1000000;
    if (!d->throttle)
        return 0;
    ret->qps = strtod(d->throttle_qps, &end);
    if (end == d->throttle_qps || *end || !(ret->qps > 0))
        return kp_fail(error, KP_EUSAGE, "--audit-%s-batch-throttle-qps: %s: must be a positive number", plugin, d->throttle_qps);
    if (d->throttle_burst <= 0)
        return kp_fail(error, KP_EUSAGE, "--audit-%s-batch-throttle-burst: %lld: must be a positive number", plugin, (long long)d->throttle_burst);
    ret->burst = (double)d->throttle_burst;
    return 0;
}

int audit_delivery_check(const struct audit_delivery *d, const char *plugin, struct audit_sink_config *ret, struct kp_error *error)
{
    *ret = (struct audit_sink_config){.buffer_size = 10000, .batch_max = 400}; /* of blocking modes: what came together is handed on together */
    if (find_mode(d->mode, plugin, &ret->mode, error) < 0 || (ret->mode == AUDIT_BATCH && check_batches(d, plugin, ret, error) < 0))
        return error->code;
    if (d->event_bytes_max <= 0)
        return kp_fail(error, KP_EUSAGE, "--audit-%s-truncate-max-event-size: %lld: must be a positive number", plugin, (long long)d->event_bytes_max);
    if (d->batch_bytes_max < d->event_bytes_max)
        return kp_fail(error, KP_EUSAGE, "--audit-%s-truncate-max-batch-size: %lld: must not be less than the largest event's %lld", plugin,
                       (long long)d->batch_bytes_max, (long long)d->event_bytes_max);
    if (d->truncate) {
        ret->event_bytes_max = (size_t)d->event_bytes_max;
        ret->batch_bytes_max = (size_t)d->batch_bytes_max;
    }
    return 0;
}

static int check_version(const char *flag, const char *value, struct kp_error *error)
{
    return strcmp(value, version) == 0 ? 0 : kp_fail(error, KP_EUSAGE, "--%s: \"%s\" is not %s, the only version there is", flag, value, version);
}

#define DAYS_MAX 36500
#define MEGABYTES_MAX (1 << 20)
#define BACKUPS_MAX 1000000

static int check_count(const char *flag, int64_t value, int64_t max, struct kp_error *error)
{
    if (value > max)
        return kp_fail(error, KP_EUSAGE, "--%s: %lld: must be at most %lld", flag, (long long)value, (long long)max);
    return value >= 0 ? 0 : kp_fail(error, KP_EUSAGE, "--%s: %lld: can't be a negative number", flag, (long long)value);
}

int audit_config_check(const struct auditor_config *config, struct kp_error *error)
{
    if (check_version("audit-log-version", config->log_version, error) < 0 || check_version("audit-webhook-version", config->webhook_version, error) < 0 ||
        check_count("audit-log-maxage", config->log_max_age_days, DAYS_MAX, error) < 0 || check_count("audit-log-maxbackup", config->log_max_backups, BACKUPS_MAX, error) < 0 ||
        check_count("audit-log-maxsize", config->log_max_megabytes, MEGABYTES_MAX, error) < 0)
        return error->code;
    if (strcmp(config->log_format, "json") != 0 && strcmp(config->log_format, "legacy") != 0)
        return kp_fail(error, KP_EUSAGE, "--audit-log-format: \"%s\" is not one of legacy, json", config->log_format);
    return 0;
}
