/* What the files of this module share. */
#ifndef APISERVER_AUDIT_INTERNAL_H
#define APISERVER_AUDIT_INTERNAL_H

#include "controlplane/apiserver/audit/audit.h"

#include <pthread.h>

enum audit_mode { AUDIT_BATCH, AUDIT_BLOCKING, AUDIT_BLOCKING_STRICT };

/* ---- sink.c: a queue, and the thread that hands what is in it to an output ----------------------------------------------------------------- */
struct audit_sink;
struct audit_output {
    const char *name; /* "log", "webhook": the plugin of apiserver_audit_error_total */
    /* One thread at a time. All events of a batch; how many are lost, with *error. May wait by audit_sink_pause. */
    size_t (*write)(void *self, struct audit_sink *sink, struct kp_blob *const *events, size_t count, struct kp_error *error);
    void (*free)(void *self);
    void *self;
    bool legacy; /* takes lines of text instead of JSON */
    bool quick;  /* who waits for an event may as well write it, when nobody else is writing: two threads need not wake each other */
};
struct audit_sink_config {
    enum audit_mode mode;
    size_t buffer_size, batch_max;
    int64_t batch_max_wait_ms; /* a batch that is not full is handed on after so long */
    double qps;                /* batches a second; 0: no bound */
    double burst;
    size_t event_bytes_max, batch_bytes_max; /* 0: none */
};
/* Takes over the output. */
struct audit_sink *audit_sink_new(const struct audit_sink_config *config, const struct audit_output *output);
/* Takes a reference of its own. In a blocking mode, with wait, returns when the output has it. Negative: it is lost, which is counted and logged. */
int audit_sink_put(struct audit_sink *sink, struct kp_blob *event, bool wait);
void audit_sink_stop(struct audit_sink *sink); /* hands on what waits; nothing is taken after that */
void audit_sink_free(struct audit_sink *sink); /* stops it; accepts NULL */
/* From the output: waits so long; true when there is no time for that, because the end has come. */
bool audit_sink_pause(struct audit_sink *sink, int64_t ms);
const struct audit_sink_config *audit_sink_config(const struct audit_sink *sink);
bool audit_sink_legacy(const struct audit_sink *sink);
/* Counts events that are lost, and says why, rarely. */
void audit_sink_lost(struct audit_sink *sink, size_t count, const char *why);

/* ---- log.c: a file, rotated as lumberjack does ------------------------------------------------------------------------------------------------ */
struct audit_log_config {
    const char *path;         /* "-": standard output */
    int64_t bytes_max;        /* 0: it is not rotated */
    int64_t max_age_days, max_backups;
    bool compress, legacy;
};
int audit_log_open(const struct audit_log_config *config, struct audit_output *ret_output, struct kp_error *error) KP_NODISCARD;
/* ---- backups.c: "audit-2026-11-23T02-00-00.123.log" of "audit.log" ------------------------------------------------------------------------------ */
#define AUDIT_BACKUPS_MAX 10000 /* names of one folder that are looked at */
char *audit_backup_name(const char *path, int64_t now_ns); /* caller frees */
/* When a file of that name, which may end in .gz, was made a backup of path's file; false: it is none. */
bool audit_backup_time(const char *path, const char *name, int64_t *ret_ns);
/* Removes backups that are too many or too old, and compresses the others. */
int audit_backups_tidy(const struct audit_log_config *config, int64_t now_ns, struct kp_error *error);

/* ---- webhook.c --------------------------------------------------------------------------------------------------------------------------------- */
/* From a kubeconfig; batches go to its server as EventLists. */
int audit_webhook_open(const char *path, int64_t backoff_ms, struct loop *loop, struct audit_output *ret_output, struct kp_error *error) KP_NODISCARD;

/* ---- event.c ------------------------------------------------------------------------------------------------------------------------------------ */
/* A line of JSON, or of text; without the end of the line. */
struct kp_blob *audit_event_json(const struct k8s_audit_event *event);
struct kp_blob *audit_event_text(const struct k8s_audit_event *event);
/* JSON without metadata.managedFields: of an object, of a list's items and of a table's rows. NULL: it is no JSON, or has none. */
struct kp_blob *audit_without_managed_fields(const char *json, size_t len);

/* ---- options.c ---------------------------------------------------------------------------------------------------------------------------------- */
int audit_delivery_check(const struct audit_delivery *delivery, const char *plugin, struct audit_sink_config *ret, struct kp_error *error);
int audit_config_check(const struct auditor_config *config, struct kp_error *error);

#define AUDIT_SINKS_MAX 2
struct auditor {
    struct audit_policy *policy;
    struct audit_sink *sinks[AUDIT_SINKS_MAX];
    size_t n_sinks;
    struct kp_metric *events, *levels, *rejected;
};

#endif
