/* Asking policies about a write: which are about it, what their expressions say, and what their bindings make of that. */
#include "controlplane/apiserver/policy/policy_internal.h"

struct policies *policies_new(const struct policies_config *config)
{
    static const char *const labels[] = {"policy", "policy_binding", "error_type", "enforcement_action", NULL};
    struct policies *policies = kp_calloc(1, sizeof(*policies));
    policies->config = *config;
    pthread_mutex_init(&policies->mutex, NULL);
    policies->namespaces = wcache_find(config->caches, "", "namespaces");
    policies->checks = kp_counter("apiserver_validating_admission_policy_check_total", "Checks of policies, by what came of them.", labels);
    policy_tables_follow(policies);
    return policies;
}

void policies_free(struct policies *policies)
{
    if (!policies)
        return;
    policy_tables_done(policies);
    pthread_mutex_destroy(&policies->mutex);
    free(policies);
}

/* ---- what a binding makes of a refusal ---------------------------------------------------------------------------------------------------------- */
struct round {
    struct policies *policies;
    struct admission_attributes *a;
    struct api_status *status; /* the first refusal that counts */
    struct kp_arena *arena;    /* of evaluations with one parameter */
    struct policy_notes notes;
};

static int code_of(const char *reason)
{
    static const struct {
        const char *reason;
        int code;
    } codes[] = {{"Forbidden", 403}, {"Unauthorized", 401}, {"RequestEntityTooLarge", 413}};
    for (size_t i = 0; i < KP_ARRAY_LEN(codes); i++)
        if (strcmp(codes[i].reason, reason) == 0)
            return codes[i].code;
    return 422;
}

/* hook->binding NULL: the policy itself cannot be asked. Whoever is refused first is told; a refusal counts where the binding says Deny. index: of the
   expression. */
static void deny(struct round *round, const struct policy_hook *hook, size_t index, const char *reason, const char *message)
{
    const char *policy = hook->policy->name, *binding = hook->binding ? hook->binding->name : NULL;
    struct api_status *status = round->status;
    if (round->a->audit && binding && hook->binding->audit)
        policy_note_failure(&round->notes, hook, index, message, round->a->arena);
    if (binding && hook->binding->warn)
        kp_string_list_add(round->a->arena, round->a->warnings,
                           kp_arena_printf(round->a->arena, "Validation failed for ValidatingAdmissionPolicy '%s' with binding '%s': %s", policy, binding, message));
    if (status->code || (binding && !hook->binding->deny))
        return;
    const char *by = binding ? kp_arena_printf(status->arena, "ValidatingAdmissionPolicy '%s' with binding '%s' denied request: %s", policy, binding, message)
                             : kp_arena_printf(status->arena, "ValidatingAdmissionPolicy '%s' denied request: %s", policy, message);
    status_forbidden(status, round->a->resource->group, round->a->resource->name, round->a->name, "%s", by);
    status->reason = kp_empty(reason) ? "Invalid" : kp_arena_strdup(status->arena, reason);
    status->http_status = code_of(status->reason);
    status_add_cause(status, NULL, message, NULL);
}

static void tally(struct round *round, const struct policy_hook *hook, const char *error_type, const char *action)
{
    kp_metric_add(round->policies->checks, 1, hook->policy->name, hook->binding ? hook->binding->name : "", error_type, action);
}

/* An expression that gives no answer counts as the policy's failurePolicy says. */
static void failed(struct round *round, const struct policy_hook *hook, size_t index, const char *message)
{
    tally(round, hook, "invalid_error", hook->policy->ignore_failure ? "allow" : "deny");
    if (!hook->policy->ignore_failure)
        deny(round, hook, index, NULL, message);
}

/* Parameters or namespaces that are not as configured: the same, whatever the binding's actions are. */
static void always_failed(struct round *round, const struct policy_hook *hook, const char *message)
{
    struct policy_binding always = {.name = hook->binding->name, .deny = true};
    const struct policy_hook strict = {hook->policy, &always};
    failed(round, &strict, 0, message);
}

static void misconfigured(struct round *round, const struct policy_hook *hook, const char *message)
{
    always_failed(round, hook, kp_arena_printf(round->a->arena, "failed to configure binding: %s", message));
}

/* ---- evaluation ------------------------------------------------------------------------------------------------------------------------------------ */
static struct cel_value evaluate(const struct policy_expression *expression, const struct cel_value *values, struct kp_arena *arena, uint64_t *left)
{
    if (expression->program)
        return extension_evaluate(expression->program, values, arena, left);
    return (struct cel_value){.kind = CEL_ERROR, .error = kp_arena_printf(arena, "compilation error: compilation failed: %s", expression->fault ? expression->fault : "")};
}

const char *policy_trimmed(struct kp_arena *arena, const char *text)
{
    while (*text == ' ' || *text == '\n' || *text == '\t' || *text == '\r')
        text++;
    size_t len = strlen(text);
    while (len && strchr(" \n\t\r", text[len - 1]))
        len--;
    return kp_arena_strndup(arena, text, len);
}

/* messageExpression when it gives one line of text, else message, else the expression. */
static const char *message_of(struct round *round, const struct policy_validation *validation, const struct cel_value *values, uint64_t *left)
{
    struct kp_arena *arena = round->a->arena;
    if (!kp_empty(validation->message_expression.text)) {
        struct cel_value value = evaluate(&validation->message_expression, values, round->arena, left);
        const char *text = value.kind == CEL_STRING && value.text.len <= CEL_MESSAGE_BYTES_MAX ? policy_trimmed(arena, kp_arena_strndup(arena, value.text.data, value.text.len)) : "";
        if (*text && !strchr(text, '\n'))
            return text;
    }
    if (!kp_empty(validation->message))
        return policy_trimmed(arena, validation->message);
    return kp_arena_printf(arena, "failed expression: %s", policy_trimmed(arena, validation->expression.text));
}

static void ask_validations(struct round *round, const struct policy_hook *hook, struct cel_value *values)
{
    struct kp_arena *arena = round->a->arena;
    struct policy_variables variables;
    uint64_t left = CEL_BUDGET;
    bool all = true;
    policy_variables_init(&variables, hook->policy, values, &left, round->arena);
    for (size_t i = 0; i < hook->policy->n_validations; i++) {
        const struct policy_validation *validation = &hook->policy->validations[i];
        struct cel_value value = evaluate(&validation->expression, values, round->arena, &left);
        if (value.kind == CEL_BOOL && value.boolean)
            continue;
        all = false;
        if (value.kind == CEL_BOOL) {
            tally(round, hook, "no_error", hook->binding->deny ? "deny" : hook->binding->warn ? "warn" : "audit");
            deny(round, hook, i, validation->reason, message_of(round, validation, values, &left));
        } else if (value.kind == CEL_ERROR && cel_is_over_limit(&value) && !left) {
            failed(round, hook, i, "validation failed due to running out of cost budget, no further validation rules will be run");
            return;
        } else {
            failed(round, hook, i, kp_arena_printf(arena, "expression '%s' resulted in error: %s", validation->expression.text,
                                                value.kind == CEL_ERROR ? value.error : "cel expression evaluates to non-bool type"));
        }
    }
    if (all)
        tally(round, hook, "no_error", "allow");
}

/* An annotation whose expression gives no answer refuses the request, unless failurePolicy says otherwise: that it is not told must not go unseen. */
static void ask_annotations(struct round *round, const struct policy_hook *hook, struct cel_value *values)
{
    struct kp_arena *arena = round->a->arena;
    struct policy_variables variables;
    uint64_t left = CEL_BUDGET;
    policy_variables_init(&variables, hook->policy, values, &left, round->arena);
    for (size_t i = 0; i < hook->policy->n_annotations; i++) {
        const struct policy_annotation *annotation = &hook->policy->annotations[i];
        struct cel_value value = evaluate(&annotation->value, values, round->arena, &left);
        if (value.kind == CEL_STRING) {
            const char *text = policy_trimmed(arena, kp_arena_strndup(arena, value.text.data, value.text.len));
            if (*text && round->a->audit)
                policy_note(&round->notes, hook, annotation->key, text, arena);
        } else if (value.kind == CEL_ERROR && cel_is_over_limit(&value) && !left) {
            failed(round, hook, 0, "validation failed due to running out of cost budget, no further validation rules will be run");
            return;
        } else if (value.kind != CEL_NULL) {
            always_failed(round, hook, value.kind == CEL_ERROR
                                           ? kp_arena_printf(arena, "expression '%s' resulted in error: %s", annotation->value.text, value.error)
                                           : kp_arena_printf(arena, "valueExpression '%s' resulted in unsupported return type. Return type must be either string or null.",
                                                             annotation->value.text));
        }
    }
}

static void ask_with_params(struct round *round, const struct policy_hook *hook, struct cel_value *values, const struct kp_value *params)
{
    struct kp_error error = {0};
    struct policy_variables variables;
    uint64_t left = CEL_BUDGET_MATCH_CONDITIONS;
    round->arena = kp_arena_new(EXTENSION_ARENA_MAX);
    values[EXTENSION_PARAMS] = params ? cel_of_tree(params, &cel_dyn, round->arena) : cel_of_null();
    policy_variables_init(&variables, hook->policy, values, &left, round->arena);
    int holds = extension_conditions_hold(&hook->policy->conditions, values, round->arena, hook->policy->ignore_failure, &error);
    if (holds < 0)
        failed(round, hook, 0, kp_arena_strdup(round->a->arena, error.message));
    else if (holds > 0) {
        ask_validations(round, hook, values);
        if (hook->policy->n_annotations)
            ask_annotations(round, hook, values);
    }
    kp_arena_free(KP_TAKE(round->arena));
}

static void ask(struct round *round, const struct policy_hook *hook)
{
    struct admission_attributes *a = round->a;
    const struct kp_resource *resource, *ignored;
    struct api_status unused = API_STATUS(a->arena);
    struct extension_request told;
    const struct kp_value **params;
    struct kp_error error = {0};
    size_t n_params;
    const struct policies_config *config = &round->policies->config;
    int matches = extension_matches(&hook->policy->match, a, config->views, round->policies->namespaces, &resource, &unused);
    if (matches > 0)
        matches = extension_matches(&hook->binding->match, a, config->views, round->policies->namespaces, &ignored, &unused);
    if (matches < 0)
        misconfigured(round, hook, unused.message);
    if (matches <= 0 || !extension_request_make(a, resource, config->views, &told))
        return;
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(EXTENSION_ARENA_MAX);
    if (policy_params(round->policies, hook, a, arena, &params, &n_params, &error) < 0) {
        misconfigured(round, hook, kp_arena_strdup(a->arena, error.message));
        return;
    }
    struct cel_value values[EXTENSION_VARIABLE_COUNT];
    extension_values(a, &told, config->auth, extension_namespace_object(a, round->policies->namespaces, arena), NULL, arena, values);
    for (size_t i = 0; i < n_params; i++)
        ask_with_params(round, hook, values, params[i]);
}

int policies_validate(struct policies *policies, struct admission_attributes *a, struct api_status *status)
{
    size_t count;
    if (!__atomic_load_n(&policies->count, __ATOMIC_ACQUIRE) || extension_exempt(a->resource))
        return 0;
    struct round round = {.policies = policies, .a = a, .status = status};
    struct policy_hook *hooks = policy_hooks_take(policies, a->arena, &count);
    for (size_t i = 0; i < count; i++)
        ask(&round, &hooks[i]);
    if (a->audit)
        policy_notes_publish(&round.notes, a);
    policy_hooks_done(hooks, count);
    return status->code;
}
