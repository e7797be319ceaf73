/* controlplane/apiserver/audit: the audit log - an event of audit.k8s.io/v1 for each stage of a request that the policy asks for, to a file, to standard
 * output or to a webhook, as upstream has it (k8s.io/apiserver pkg/audit, pkg/endpoints/filters and plugin/pkg/audit). Without a policy there is no auditor,
 * and requests have no record: every function here that takes one accepts NULL and does nothing. */
#ifndef APISERVER_AUDIT_H
#define APISERVER_AUDIT_H

#include "controlplane/apiserver/auth/auth.h"
#include "lib/audit/audit.h"
#include "lib/loop/loop.h"

#define AUDIT_USER_AGENT_MAX 1024
#define AUDIT_QUEUE_BYTES_MAX ((size_t)256 << 20) /* of events that wait for a backend; more are lost, and counted */
#define AUDIT_FLAGS_MAX 40

/* How events get to one backend. */
struct audit_delivery {
    const char *mode;         /* "batch", "blocking", "blocking-strict" */
    int64_t buffer_size;      /* events that wait at most */
    int64_t batch_max;        /* events at once */
    int64_t batch_max_wait_ns;
    bool throttle;
    const char *throttle_qps; /* a number: batches a second */
    int64_t throttle_burst;
    bool truncate;
    int64_t event_bytes_max, batch_bytes_max; /* with truncate */
};
struct auditor_config {
    const char *policy_file;
    const char *log_path; /* "-": standard output; NULL: no such backend */
    const char *log_format, *log_version;
    int64_t log_max_age_days, log_max_backups, log_max_megabytes; /* 0: no bound; of megabytes: it is not rotated */
    bool log_compress;
    struct audit_delivery log;
    const char *webhook_file; /* a kubeconfig; NULL: no such backend */
    const char *webhook_version;
    int64_t webhook_backoff_ns;
    struct audit_delivery webhook;
};
void auditor_defaults(struct auditor_config *config);
/* Upstream's flags, which fill in config; how many. */
size_t auditor_flags(struct auditor_config *config, struct kp_flag ret[AUDIT_FLAGS_MAX]);

struct auditor;
/* *ret_auditor is NULL when nothing is to be logged: no policy, or no backend. loop is for the webhook; borrowed until auditor_free. */
int auditor_new(const struct auditor_config *config, struct loop *loop, struct auditor **ret_auditor, struct kp_error *error) KP_NODISCARD;
/* Hands what waits to the backends - one that is away is asked once more. What comes later is lost. Accepts NULL. */
void auditor_stop(struct auditor *auditor);
void auditor_free(struct auditor *auditor); /* no record may be in use; accepts NULL */

/* ---- one request: a record is used by one thread at a time, and counted ------------------------------------------------------------------ */
struct audit_request {
    struct audit_attributes attributes; /* by which the policy decides */
    const char *version;                /* of the resource */
    const char *id, *uri, *user_agent;  /* user_agent: NULL when there is none */
    struct kp_string_list source_ips;
    const struct auth_user *user; /* NULL: credentials were refused; such a request has the stage ResponseStarted alone, as upstream */
    int64_t received_ns;          /* kp_now_ns() */
    bool long_running;            /* has a stage ResponseStarted */
};
struct audit_record;
/* NULL when the policy says None, or auditor is NULL. Copies what it keeps. */
struct audit_record *audit_record_new(struct auditor *auditor, const struct audit_request *request);
struct audit_record *audit_record_ref(struct audit_record *record);
void audit_record_unref(struct audit_record *record);
KP_DEFINE_AUTO(struct audit_record *, audit_record_unref)

bool audit_wants(const struct audit_record *record, enum audit_level level); /* that level, or more */
void audit_impersonated(struct audit_record *record, const struct auth_user *user);
/* Told from that level on. A key has one value: another is refused, and the log says so. Copies. */
void audit_annotate(struct audit_record *record, enum audit_level level, const char *key, const char *value);
/* What objectRef does not know of the object yet. Each may be NULL or "". */
void audit_object(struct audit_record *record, const char *ns, const char *name, const char *uid, const char *resource_version);
/* Bodies, as compact JSON; kept from the levels Request and RequestResponse on. */
void audit_request_body(struct audit_record *record, const char *json, size_t len);
void audit_response_body(struct audit_record *record, const char *json, size_t len);
void audit_response_status(struct audit_record *record, const char *json, size_t len); /* a metav1.Status */

/* Stages. wait: until a backend in a blocking mode has it; never on a loop's thread. Each stage is told once. */
int audit_received(struct audit_record *record); /* negative: a strict backend has lost it, and the request must be refused */
void audit_started(struct audit_record *record, int http_status, bool wait); /* of long-running requests */
/* http_status 0: the peer went before there was one. */
void audit_complete(struct audit_record *record, int http_status, bool wait);

#endif
