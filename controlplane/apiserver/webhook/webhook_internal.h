/* What the files of this module share. */
#ifndef APISERVER_WEBHOOK_INTERNAL_H
#define APISERVER_WEBHOOK_INTERNAL_H

#include "controlplane/apiserver/extension/extension.h"
#include "controlplane/apiserver/webhook/webhook.h"

#include "api/k8s.h"

#include <pthread.h>

/* One webhook of either kind; all of it lies in the arena of its configuration. */
struct webhook {
    const char *name;
    const char *configuration;
    const char *uid; /* "configuration/name/index" */
    const struct k8s_webhook_client_config *client;
    struct extension_match match;
    struct extension_conditions conditions;
    const char *review_version; /* "v1" or "v1beta1"; NULL: none that we know */
    int32_t timeout_s;
    bool mutating, ignore_failure, reinvocable, dry_run_allowed;
};
struct webhook_config {
    int refs; /* atomic */
    struct kp_arena *arena;
    const char *name;
    struct webhook *hooks;
    size_t len;
};
enum webhook_type { WEBHOOK_MUTATING, WEBHOOK_VALIDATING, WEBHOOK_TYPES };
struct webhook_table {
    struct webhooks *webhooks;
    enum webhook_type type;
    struct webhook_config **items; /* by name */
    size_t len, cap;               /* len: atomic as well, so that nothing is locked where there are none */
};
struct webhooks {
    struct webhooks_config config;
    struct wcache *namespaces;
    pthread_mutex_t mutex;
    struct webhook_table tables[WEBHOOK_TYPES];
    struct kp_metric *durations, *rejections, *requests, *fail_open;
};

/* ---- configs.c ---- */
void webhook_tables_follow(struct webhooks *webhooks);
void webhook_tables_done(struct webhooks *webhooks);
struct webhook_list {
    struct webhook_config **items; /* by name, one reference each */
    size_t len;
};
/* The configurations as they are now; in arena. */
void webhook_list_take(struct webhooks *webhooks, enum webhook_type type, struct kp_arena *arena, struct webhook_list *ret);
void webhook_list_done(struct webhook_list *list);
/* From a decoded configuration, which is borrowed for the call. */
struct webhook_config *webhook_config_new(enum webhook_type type, const void *configuration);
void webhook_config_unref(struct webhook_config *config); /* accepts NULL */

/* ---- review.c: what is asked, and what the answer says; pure ---- */
struct webhook_question {
    const struct webhook *hook;
    const struct kp_resource *resource; /* version asked about */
    const struct kp_type *type;         /* of the body */
    const void *body;                   /* a view of the object; NULL: none */
    const char *uid, *text;             /* the AdmissionReview */
    size_t len;
};
/* False when the view cannot be had (admission_views): then the webhook is not asked. */
bool webhook_question_make(struct webhook_question *question, const struct admission_attributes *a, const struct admission_views *views);
struct webhook_answer {
    bool allowed;
    const struct k8s_status *result; /* NULL: none */
    struct kp_bytes patch;           /* empty: none */
    struct kp_string_list warnings;
    struct kp_string_map audit_annotations;
};
/* KP_EBADREQUEST with upstream's words. */
int webhook_answer_read(const struct webhook_question *question, const void *body, size_t len, struct kp_arena *arena, struct webhook_answer *ret,
                        struct kp_error *error);
/* `admission webhook "x" denied the request: why`. */
int webhook_denied(const struct webhook *hook, const struct k8s_status *result, struct api_status *status);

/* ---- annotate.c: what webhooks did, for the audit log. index: of the webhook among all of its type. ---- */
void webhook_annotate_answer(const struct webhook *hook, const struct admission_attributes *a, const struct webhook_answer *answer);
void webhook_annotate_mutation(const struct webhook *hook, const struct admission_attributes *a, size_t index, bool mutated, const struct kp_bytes *patch);
void webhook_annotate_open(const struct webhook *hook, const struct admission_attributes *a, size_t index); /* it failed, and that was ignored */

/* ---- call.c ---- */
struct webhook_outcome {
    int code; /* 0: answered */
    struct kp_error error;
    struct webhook_answer answer;
    int64_t duration_ns;
};
/* All at the same time. */
void webhook_call(struct webhooks *webhooks, struct webhook_question *questions, size_t count, struct kp_arena *arena, struct webhook_outcome *ret_outcomes);

#endif
