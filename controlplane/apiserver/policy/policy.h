/* controlplane/apiserver/policy: ValidatingAdmissionPolicies and their bindings - expressions in CEL that may refuse a write, as upstream's plugin
 * ValidatingAdmissionPolicy has them (k8s.io/apiserver pkg/admission/plugin/policy). */
#ifndef APISERVER_POLICY_H
#define APISERVER_POLICY_H

#include "api/k8s.h"

#include "controlplane/apiserver/admission/admission.h"
#include "lib/cel/cel.h"

#define POLICY_PARAMS_MAX 10000 /* objects that one binding's parameters may be */

struct policies_config {
    struct wcache_set *caches; /* borrowed, like the others */
    struct auth *auth;
    const struct admission_views *views;
};
struct policies;
/* Follows policies and bindings in the caches. */
struct policies *policies_new(const struct policies_config *config);
void policies_free(struct policies *policies); /* accepts NULL; after the caches' end */
/* As admission_validate. */
int policies_validate(struct policies *policies, struct admission_attributes *attributes, struct api_status *status);

/* What is wrong with the expressions of a policy, with upstream's words, for the registry's validation. */
void policy_check_expressions(const struct k8s_validating_admission_policy *policy, struct field_errors *errors);
/* The same of a webhook's conditions. path: "webhooks[0].matchConditions". */
void policy_check_conditions(const struct k8s_match_condition_items *conditions, const struct cel_env *env, struct field_errors *errors, const char *path);

#endif
