/* The steps of the chain: each may be NULL for a phase. */
#ifndef APISERVER_ADMISSION_INTERNAL_H
#define APISERVER_ADMISSION_INTERNAL_H

#include "api/k8s.h"
#include "controlplane/apiserver/admission/admission.h"
#include "controlplane/apiserver/watch/watch.h"

struct admission {
    struct admission_config config;
    struct webhooks *webhooks; /* owned; NULL: none are asked */
    struct policies *policies; /* owned; likewise */
    unsigned disabled; /* bit per step */
    struct wcache *namespaces, *accounts, *priority_classes, *nodes, *pods, *secrets, *roles, *limit_ranges, *storage_classes;
};

typedef int (*admission_step_fn)(struct admission *admission, struct admission_attributes *a, struct api_status *status);

int admission_namespace_lifecycle(struct admission *admission, struct admission_attributes *a, struct api_status *status);
int admission_service_account(struct admission *admission, struct admission_attributes *a, struct api_status *status);
int admission_limit_defaults(struct admission *admission, struct admission_attributes *a, struct api_status *status);
int admission_limits(struct admission *admission, struct admission_attributes *a, struct api_status *status);
int admission_priority(struct admission *admission, struct admission_attributes *a, struct api_status *status);
int admission_default_tolerations(struct admission *admission, struct admission_attributes *a, struct api_status *status);
int admission_node_restriction(struct admission *admission, struct admission_attributes *a, struct api_status *status);
int admission_certificate_approval(struct admission *admission, struct admission_attributes *a, struct api_status *status);
int admission_certificate_subject(struct admission *admission, struct admission_attributes *a, struct api_status *status);
int admission_rbac_escalation(struct admission *admission, struct admission_attributes *a, struct api_status *status);
int admission_pod_security(struct admission *admission, struct admission_attributes *a, struct api_status *status);
int admission_default_storage_class(struct admission *admission, struct admission_attributes *a, struct api_status *status);
int admission_storage_in_use(struct admission *admission, struct admission_attributes *a, struct api_status *status);
int admission_claim_resize(struct admission *admission, struct admission_attributes *a, struct api_status *status);
int admission_restrict_claim(struct admission_attributes *a, const char *node, struct api_status *status); /* by NodeRestriction */
int admission_restrict_volume(struct admission_attributes *a, const char *node, struct api_status *status);
int admission_taint_nodes(struct admission *admission, struct admission_attributes *a, struct api_status *status);

bool admission_is(const struct admission_attributes *a, const char *group, const char *resource, const char *subresource);
/* Decodes a cached object; NULL when there is none. */
void *admission_load(struct wcache *cache, const struct kp_type *type, const char *ns, const char *name, struct kp_arena *arena);

#endif
