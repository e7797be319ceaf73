/* controlplane/apiserver/extension: what webhooks and policies share - which writes they are about, what they are told of one, and conditions in CEL
 * (k8s.io/apiserver pkg/admission/plugin/webhook/predicates and pkg/admission/plugin/cel). */
#ifndef APISERVER_EXTENSION_H
#define APISERVER_EXTENSION_H

#include "api/k8s.h"
#include "controlplane/apiserver/admission/admission.h"
#include "lib/cel/cel.h"

/* ---- match.c: which writes ------------------------------------------------------------------------------------------------------------------ */
/* Operations on resources; borrows from the configuration. */
struct extension_rule {
    const struct kp_string_list *operations, *groups, *versions, *resources;
    const struct kp_string_list *names; /* of objects; NULL or empty: all */
    const char *scope;                  /* NULL: "*" */
};
struct extension_match {
    struct extension_rule *rules, *excluded;
    size_t n_rules, n_excluded;
    bool any;   /* no rules: every resource */
    bool exact; /* matchPolicy */
    struct kp_selector namespaces, objects;
};
/* Configurations and policies themselves: nobody could mend one that refuses its own change. */
bool extension_exempt(const struct kp_resource *resource);
const char *extension_operation(enum admission_operation operation); /* "CREATE" */
/* The namespace of the request as upstream's attributes have it: of a Namespace its own name. "" when none. */
const char *extension_namespace(const struct admission_attributes *a);
/* 1 with the version of the resource that is asked for, 0, or a negative code with *status: its namespace is not there. */
int extension_matches(const struct extension_match *match, const struct admission_attributes *a, const struct admission_views *views, struct wcache *namespaces,
                      const struct kp_resource **ret_resource, struct api_status *status);
/* A selector of a configuration. One that is malformed selects nothing, and the log says so. source NULL: all. */
void extension_selector(struct kp_arena *arena, const struct k8s_label_selector *source, const char *whose, struct kp_selector *ret);

/* ---- request.c: what is told ------------------------------------------------------------------------------------------------------------------- */
struct extension_request {
    struct k8s_admission_request request; /* its objects as JSON; uid is left to the caller */
    const struct kp_type *type;           /* of the objects */
    const void *object, *old;             /* as resource's version shows them; NULL: none */
};
/* False when the view cannot be had (admission_views). All in a->arena. */
bool extension_request_make(const struct admission_attributes *a, const struct kp_resource *resource, const struct admission_views *views,
                            struct extension_request *ret);

/* ---- conditions.c, environment.c, authorizer.c: CEL ------------------------------------------------------------------------------------------ */
/* The variables of every expression, in this order; parameters and variables only where they are declared. */
enum extension_variable { EXTENSION_OBJECT, EXTENSION_OLD_OBJECT, EXTENSION_REQUEST, EXTENSION_NAMESPACE, EXTENSION_AUTHORIZER, EXTENSION_PARAMS, EXTENSION_VARIABLES,
                          EXTENSION_VARIABLE_COUNT };
/* Declares the first count of them, of which variables (EXTENSION_VARIABLES) has the type given. Lives in arena. */
const struct cel_env *extension_environment(struct kp_arena *arena, bool params, const struct cel_type *variables);
/* Their values for one write; borrows the attributes. namespace_object and params may be NULL. Set [EXTENSION_VARIABLES] afterwards. */
void extension_values(const struct admission_attributes *a, const struct extension_request *request, struct auth *auth, const struct kp_value *namespace_object,
                      const struct kp_value *params, struct kp_arena *arena, struct cel_value values[EXTENSION_VARIABLE_COUNT]);
/* The Namespace of a request about something in one, as a tree; NULL: cluster-scoped, a Namespace itself, or not there. */
const struct kp_value *extension_namespace_object(const struct admission_attributes *a, struct wcache *namespaces, struct kp_arena *arena);

/* Cap of arenas that values and evaluations are in: object, old object and parameters as trees, and what expressions make. */
#define EXTENSION_ARENA_MAX ((size_t)512 << 20)
/* cel_evaluate within what is left of a budget and of an arena with that cap. */
struct cel_value extension_evaluate(const struct cel_program *program, const struct cel_value *values, struct kp_arena *arena, uint64_t *left);

#define EXTENSION_CONDITIONS_MAX 64
struct extension_conditions {
    struct cel_program **programs;
    const char **expressions;
    size_t len;
    const char *fault; /* one does not compile: they cannot be asked */
};
void extension_conditions_compile(const struct k8s_match_condition_items *conditions, const struct cel_env *env, struct kp_arena *arena,
                                  struct extension_conditions *ret);
void extension_conditions_done(struct extension_conditions *conditions);
/* 1: all are true; 0: one is false, or one has an error and ignore_errors; KP_EINVALID with what is wrong. */
int extension_conditions_hold(const struct extension_conditions *conditions, const struct cel_value *values, struct kp_arena *arena, bool ignore_errors,
                              struct kp_error *error);

#endif
