/* What is wrong with the expressions of policies and conditions, told when they are written (k8s.io/kubernetes pkg/apis/admissionregistration/validation). */
#include "controlplane/apiserver/policy/policy_internal.h"

/* Compiles, and looks at the type of the result: one of `kinds`, or dyn, which may be anything. words: "bool". */
static const struct cel_type *check(const struct cel_env *env, const char *text, unsigned kinds, const char *words, struct field_errors *errors, const char *path)
{
    const char *fault = NULL;
    KP_AUTO(cel_program_free) struct cel_program *program = cel_compile(env, text, errors->arena, &fault);
    if (!program) {
        field_invalid(errors, text, kp_arena_printf(errors->arena, "compilation failed: %s", fault), "%s", path);
        return &cel_dyn;
    }
    const struct cel_type *type = cel_program_type(program);
    if (kinds && type->kind != CEL_DYN && !(kinds & 1u << type->kind))
        field_invalid(errors, text, kp_arena_printf(errors->arena, "must evaluate to %s", words), "%s", path);
    return type;
}

/* A CEL identifier: [a-zA-Z_][a-zA-Z0-9_]*, and no reserved word. */
static bool is_identifier(const char *name, struct kp_arena *arena)
{
    const char *escaped = cel_escape(name, arena);
    return escaped && strcmp(escaped, name) == 0;
}

static const struct cel_env *check_variables(const struct k8s_validating_admission_policy_spec *spec, struct field_errors *errors)
{
    struct kp_arena *arena = errors->arena;
    struct cel_field *fields = KP_NEW_ARRAY(arena, struct cel_field, spec->variables.len + 1);
    const struct cel_env *env = NULL;
    size_t known = 0;
    for (size_t i = 0;; i++) {
        /* cel_object sorts what it is given: each has a copy. */
        struct cel_field *copy = kp_arena_memdup(arena, fields, (known + 1) * sizeof(*fields));
        const struct cel_type *type = cel_object(arena, kp_arena_printf(arena, "kubernetes.variables%zu", i), copy, known);
        env = extension_environment(arena, spec->param_kind != NULL, type);
        if (i == spec->variables.len)
            return env;
        const struct k8s_variable *variable = &spec->variables.items[i];
        const char *path = kp_arena_printf(arena, "spec.variables[%zu]", i);
        const struct cel_type *result = &cel_dyn;
        if (kp_empty(variable->name))
            field_required(errors, "name is not specified", "%s.name", path);
        else if (!is_identifier(variable->name, arena))
            field_invalid(errors, variable->name, "name is not a valid CEL identifier", "%s.name", path);
        if (kp_empty(policy_trimmed(arena, variable->expression ? variable->expression : "")))
            field_required(errors, "expression is not specified", "%s.expression", path);
        else
            result = check(env, variable->expression, 0, "", errors, kp_arena_printf(arena, "%s.expression", path));
        for (size_t j = 0; j < known; j++)
            if (kp_streq(fields[j].name, variable->name))
                field_duplicate(errors, variable->name, "%s.name", path);
        if (!kp_empty(variable->name) && is_identifier(variable->name, arena))
            fields[known++] = (struct cel_field){.name = variable->name, .key = variable->name, .type = result};
    }
}

static void check_validation(const struct k8s_validation *validation, const struct cel_env *env, struct field_errors *errors, const char *path)
{
    static const char *const reasons[] = {"Forbidden", "Invalid", "RequestEntityTooLarge", "Unauthorized", NULL};
    struct kp_arena *arena = errors->arena;
    const char *expression = validation->expression ? validation->expression : "";
    if (kp_empty(policy_trimmed(arena, expression)))
        field_required(errors, "expression is not specified", "%s.expression", path);
    else
        check(env, expression, 1u << CEL_BOOL, "bool", errors, kp_arena_printf(arena, "%s.expression", path));
    if (validation->message_expression && !*policy_trimmed(arena, validation->message_expression))
        field_invalid(errors, validation->message_expression, "must be non-empty if specified", "%s.messageExpression", path);
    else if (validation->message_expression)
        check(env, validation->message_expression, 1u << CEL_STRING, "string", errors, kp_arena_printf(arena, "%s.messageExpression", path));
    if (!kp_empty(validation->message) && !*policy_trimmed(arena, validation->message))
        field_invalid(errors, validation->message, "message must be non-empty if specified", "%s.message", path);
    else if (!kp_empty(validation->message) && strchr(policy_trimmed(arena, validation->message), '\n'))
        field_invalid(errors, validation->message, "message must not contain line breaks", "%s.message", path);
    else if (kp_empty(validation->message) && strchr(policy_trimmed(arena, expression), '\n'))
        field_required(errors, "message must be specified if expression contains line breaks", "%s.message", path);
    if (!validation->reason)
        return;
    for (size_t i = 0; reasons[i]; i++)
        if (strcmp(reasons[i], validation->reason) == 0)
            return;
    field_not_supported(errors, validation->reason, reasons, "%s.reason", path);
}

void policy_check_conditions(const struct k8s_match_condition_items *conditions, const struct cel_env *env, struct field_errors *errors, const char *path)
{
    if (conditions->len > EXTENSION_CONDITIONS_MAX) {
        field_too_many(errors, (int64_t)conditions->len, EXTENSION_CONDITIONS_MAX, "%s", path);
        return;
    }
    for (size_t i = 0; i < conditions->len; i++) {
        const struct k8s_match_condition *condition = &conditions->items[i];
        const char *fault = kp_empty(condition->name) ? NULL : kp_validate_qualified_name(condition->name);
        if (kp_empty(condition->name))
            field_required(errors, "", "%s[%zu].name", path, i);
        else if (fault)
            field_invalid(errors, condition->name, fault, "%s[%zu].name", path, i);
        for (size_t j = 0; j < i; j++)
            if (kp_streq(conditions->items[j].name, condition->name)) {
                field_duplicate(errors, condition->name, "%s[%zu].name", path, i);
                break;
            }
        if (kp_empty(condition->expression) || !*policy_trimmed(errors->arena, condition->expression))
            field_required(errors, "", "%s[%zu].expression", path, i);
        else
            check(env, condition->expression, 1u << CEL_BOOL, "bool", errors, kp_arena_printf(errors->arena, "%s[%zu].expression", path, i));
    }
}

void policy_check_expressions(const struct k8s_validating_admission_policy *policy, struct field_errors *errors)
{
    const struct k8s_validating_admission_policy_spec *spec = policy->spec;
    const struct cel_env *env = check_variables(spec, errors);
    policy_check_conditions(&spec->match_conditions, env, errors, "spec.matchConditions");
    for (size_t i = 0; i < spec->validations.len; i++)
        check_validation(&spec->validations.items[i], env, errors, kp_arena_printf(errors->arena, "spec.validations[%zu]", i));
    for (size_t i = 0; i < spec->audit_annotations.len; i++) {
        const struct k8s_audit_annotation *annotation = &spec->audit_annotations.items[i];
        if (kp_empty(annotation->key))
            field_required(errors, "", "spec.auditAnnotations[%zu].key", i);
        if (kp_empty(annotation->value_expression))
            field_required(errors, "", "spec.auditAnnotations[%zu].valueExpression", i);
        else
            check(env, annotation->value_expression, 1u << CEL_STRING | 1u << CEL_NULL, "one of [string null_type]", errors,
                  kp_arena_printf(errors->arena, "spec.auditAnnotations[%zu].valueExpression", i));
    }
}
