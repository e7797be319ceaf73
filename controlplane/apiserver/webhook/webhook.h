/* controlplane/apiserver/webhook: the webhooks of MutatingWebhookConfigurations and ValidatingWebhookConfigurations, asked about writes as upstream's
 * plugins MutatingAdmissionWebhook and ValidatingAdmissionWebhook do (k8s.io/apiserver/pkg/admission/plugin/webhook). */
#ifndef APISERVER_WEBHOOK_H
#define APISERVER_WEBHOOK_H

#include "controlplane/apiserver/admission/admission.h"
#include "controlplane/apiserver/backend/backend.h"

#define WEBHOOK_TIMEOUT_S_DEFAULT 10
#define WEBHOOKS_AT_ONCE_MAX 100                          /* that are asked about one request at the same time; with more it is refused */
#define WEBHOOK_ANSWER_BYTES_MAX ((size_t)8 << 20)        /* of one that changes: a patch in base64 */
#define WEBHOOK_VERDICT_BYTES_MAX ((size_t)1 << 20)       /* of one that judges */
#define WEBHOOK_REQUEST_BYTES_MAX ((size_t)512 << 20)     /* in memory, of a request and all that webhooks made of it; then it is refused */
#define WEBHOOK_WARNINGS_BYTES_MAX 4096   /* of all warnings of a request, and of each: */
#define WEBHOOK_WARNING_BYTES_MAX 256

struct webhooks_config {
    struct wcache_set *caches;           /* borrowed, like the others */
    struct auth *auth; /* asked by conditions in CEL */
    struct backends *backends;
    const struct admission_views *views;
};
struct webhooks;
/* Follows the configurations in the caches. */
struct webhooks *webhooks_new(const struct webhooks_config *config);
void webhooks_free(struct webhooks *webhooks); /* accepts NULL; after the caches' end */

/* What is known of one write's mutation, which may go through all steps twice: when a webhook has changed the object, those before it that ask for it
   are asked once more (reinvocationPolicy IfNeeded). Zeroed, in the stack of the caller. */
struct webhook_round {
    bool again;                       /* the second time */
    bool changed;                     /* a webhook changed the object: there has to be a second time */
    struct kp_string_list invoked;    /* who could be asked again */
    struct kp_string_list to_ask;     /* who has to be */
    const char *last;                 /* digest of the object as the webhooks left it */
};
/* As admission_mutate and admission_validate. Block until the webhooks have answered. */
int webhooks_mutate(struct webhooks *webhooks, struct admission_attributes *attributes, struct api_status *status);
int webhooks_validate(struct webhooks *webhooks, struct admission_attributes *attributes, struct api_status *status);

#endif
