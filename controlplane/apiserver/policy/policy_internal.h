/* What the files of this module share. */
#ifndef APISERVER_POLICY_INTERNAL_H
#define APISERVER_POLICY_INTERNAL_H

#include "controlplane/apiserver/extension/extension.h"
#include "controlplane/apiserver/policy/policy.h"

#include <pthread.h>

/* One expression; a fault tells why there is no program. */
struct policy_expression {
    const char *text;
    struct cel_program *program; /* NULL: none, or it does not compile */
    const char *fault;
};
struct policy_validation {
    struct policy_expression expression, message_expression;
    const char *message, *reason; /* NULL: none */
};
struct policy_annotation { /* for the audit log */
    const char *key;
    struct policy_expression value;
};
/* A policy with its expressions compiled; all of it lies in its arena. */
struct policy {
    int refs; /* atomic */
    struct kp_arena *arena;
    const char *name;
    const struct k8s_validating_admission_policy *source;
    struct extension_match match;
    struct extension_conditions conditions;
    const char **variable_names;
    struct policy_expression *variables;
    size_t n_variables;
    const struct cel_type *variables_type;
    struct policy_validation *validations;
    size_t n_validations;
    struct policy_annotation *annotations;
    size_t n_annotations;
    bool ignore_failure;
};
struct policy_binding {
    int refs; /* atomic */
    struct kp_arena *arena;
    const char *name;
    const struct k8s_validating_admission_policy_binding *source;
    struct extension_match match;
    bool deny, warn, audit;
};
struct policy_table {
    struct policies *policies;
    void **items; /* struct policy or struct policy_binding, by name */
    size_t len, cap;
    bool bindings;
};
struct policies {
    struct policies_config config;
    struct wcache *namespaces;
    pthread_mutex_t mutex;
    struct policy_table table, bindings;
    size_t count; /* atomic: of bindings; without one no policy is in force */
    struct kp_metric *checks;
};

/* ---- compile.c ---- */
struct policy *policy_new(const struct k8s_validating_admission_policy *source);
void policy_unref(struct policy *policy); /* accepts NULL */
struct policy_binding *policy_binding_new(const struct k8s_validating_admission_policy_binding *source);
void policy_binding_unref(struct policy_binding *binding); /* accepts NULL */
/* variables.x of a policy, each evaluated when it is first used. */
struct policy_variables {
    const struct policy *policy;
    const struct cel_value *values; /* of the environment, with these as EXTENSION_VARIABLES */
    struct cel_value *known;        /* CEL_UNSET: not asked yet */
    struct kp_arena *arena;
    uint64_t *left;                 /* of the budget */
    struct cel_class class;
};
void policy_variables_init(struct policy_variables *variables, const struct policy *policy, struct cel_value *values, uint64_t *left, struct kp_arena *arena);

/* ---- policy.c ---- */
const char *policy_trimmed(struct kp_arena *arena, const char *text); /* without the space around it */

struct policy_hook {
    struct policy *policy;           /* a reference each */
    struct policy_binding *binding;
};

/* ---- audit.c: what a round of policies has to say to the audit log ---- */
#define POLICY_ANNOTATION_BYTES_MAX 10240
#define POLICY_FAILURES_MAX 50 /* told of one request */
struct policy_failure {
    const char *message;
    const struct policy_hook *hook;
    size_t index; /* of the expression */
};
struct policy_notes {
    struct { struct policy_failure *items; size_t len; } failures;
    struct { struct policy_note { const char *key; struct kp_string_list values; } *items; size_t len; } notes;
};
void policy_note_failure(struct policy_notes *notes, const struct policy_hook *hook, size_t index, const char *message, struct kp_arena *arena);
void policy_note(struct policy_notes *notes, const struct policy_hook *hook, const char *key, const char *value, struct kp_arena *arena);
void policy_notes_publish(const struct policy_notes *notes, const struct admission_attributes *a);

/* ---- tables.c ---- */
void policy_tables_follow(struct policies *policies);
void policy_tables_done(struct policies *policies);
/* Every binding with its policy, in the order of policies' names and then of bindings'; in arena. */
struct policy_hook *policy_hooks_take(struct policies *policies, struct kp_arena *arena, size_t *ret_count);
void policy_hooks_done(struct policy_hook *hooks, size_t count);

/* ---- params.c ---- */
/* The parameters of a binding for one write: trees, or one NULL when the policy has none. KP_EINVALID with upstream's words. */
int policy_params(struct policies *policies, const struct policy_hook *hook, const struct admission_attributes *a, struct kp_arena *arena,
                  const struct kp_value ***ret_params, size_t *ret_count, struct kp_error *error);

#endif
