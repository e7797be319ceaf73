/* Policies as programs: variables one after the other, then what they are used by. */
#include "controlplane/apiserver/policy/policy_internal.h"

/* ---- rules ----------------------------------------------------------------------------------------------------------------------------------- */
static void read_rules(struct kp_arena *arena, const struct k8s_named_rule_with_operations_items *source, struct extension_rule **ret, size_t *ret_count)
{
    *ret_count = source->len;
    *ret = KP_NEW_ARRAY(arena, struct extension_rule, KP_MAX(source->len, (size_t)1));
    for (size_t i = 0; i < source->len; i++) {
        const struct k8s_named_rule_with_operations *rule = &source->items[i];
        (*ret)[i] = (struct extension_rule){.operations = &rule->operations, .groups = &rule->api_groups, .versions = &rule->api_versions,
                                            .resources = &rule->resources, .names = &rule->resource_names, .scope = rule->scope};
    }
}

static void read_match(struct kp_arena *arena, const struct k8s_match_resources *source, const char *whose, struct extension_match *ret)
{
    ret->any = true;
    if (!source)
        return;
    read_rules(arena, &source->resource_rules, &ret->rules, &ret->n_rules);
    read_rules(arena, &source->exclude_resource_rules, &ret->excluded, &ret->n_excluded);
    ret->any = !ret->n_rules;
    ret->exact = kp_streq(source->match_policy, "Exact");
    extension_selector(arena, source->namespace_selector, whose, &ret->namespaces);
    extension_selector(arena, source->object_selector, whose, &ret->objects);
}

/* ---- expressions ----------------------------------------------------------------------------------------------------------------------------- */
static struct policy_expression compile(const struct cel_env *env, const char *text, struct kp_arena *arena)
{
    struct policy_expression expression = {.text = text};
    if (!kp_empty(text))
        expression.program = cel_compile(env, text, arena, &expression.fault);
    return expression;
}

/* The type of `variables` after the first n; each has a name of its own, for types are the same when their names are. */
static const struct cel_type *type_of_variables(const struct policy *policy, size_t n)
{
    struct kp_arena *arena = policy->arena;
    struct cel_field *fields = KP_NEW_ARRAY(arena, struct cel_field, n + 1);
    for (size_t i = 0; i < n; i++)
        fields[i] = (struct cel_field){.name = policy->variable_names[i],
                                       .key = policy->variable_names[i],
                                       .type = policy->variables[i].program ? cel_program_type(policy->variables[i].program) : &cel_dyn};
    return cel_object(arena, kp_arena_printf(arena, "kubernetes.variables%zu", n), fields, n);
}

static const struct cel_env *compile_variables(struct policy *policy)
{
    const struct k8s_validating_admission_policy_spec *spec = policy->source->spec;
    policy->n_variables = spec->variables.len;
    policy->variable_names = KP_NEW_ARRAY(policy->arena, const char *, policy->n_variables + 1);
    policy->variables = KP_NEW_ARRAY(policy->arena, struct policy_expression, policy->n_variables + 1);
    for (size_t i = 0; i < policy->n_variables; i++) {
        const struct cel_env *env = extension_environment(policy->arena, spec->param_kind != NULL, type_of_variables(policy, i));
        policy->variable_names[i] = spec->variables.items[i].name;
        policy->variables[i] = compile(env, spec->variables.items[i].expression, policy->arena);
    }
    policy->variables_type = type_of_variables(policy, policy->n_variables);
    return extension_environment(policy->arena, spec->param_kind != NULL, policy->variables_type);
}

struct policy *policy_new(const struct k8s_validating_admission_policy *source)
{
    struct policy *policy = kp_calloc(1, sizeof(*policy));
    policy->refs = 1;
    struct kp_arena *arena = policy->arena = kp_arena_new(0);
    policy->source = kp_object_clone(&k8s_validating_admission_policy_type, source, arena);
    const struct k8s_validating_admission_policy_spec *spec = policy->source->spec;
    policy->name = policy->source->metadata->name;
    policy->ignore_failure = kp_streq(spec->failure_policy, "Ignore");
    read_match(arena, spec->match_constraints, policy->name, &policy->match);
    const struct cel_env *env = compile_variables(policy);
    extension_conditions_compile(&spec->match_conditions, env, arena, &policy->conditions);
    policy->n_validations = spec->validations.len;
    policy->validations = KP_NEW_ARRAY(arena, struct policy_validation, policy->n_validations + 1);
    for (size_t i = 0; i < policy->n_validations; i++) {
        const struct k8s_validation *validation = &spec->validations.items[i];
        policy->validations[i] = (struct policy_validation){.expression = compile(env, validation->expression, arena),
                                                            .message_expression = compile(env, validation->message_expression, arena),
                                                            .message = validation->message,
                                                            .reason = validation->reason};
    }
    policy->n_annotations = spec->audit_annotations.len;
    policy->annotations = KP_NEW_ARRAY(arena, struct policy_annotation, policy->n_annotations + 1);
    for (size_t i = 0; i < policy->n_annotations; i++)
        policy->annotations[i] = (struct policy_annotation){.key = spec->audit_annotations.items[i].key,
                                                            .value = compile(env, spec->audit_annotations.items[i].value_expression, arena)};
    return policy;
}

void policy_unref(struct policy *policy)
{
    if (!policy || __atomic_sub_fetch(&policy->refs, 1, __ATOMIC_ACQ_REL) > 0)
        return;
    for (size_t i = 0; i < policy->n_validations; i++) {
        cel_program_free(policy->validations[i].expression.program);
        cel_program_free(policy->validations[i].message_expression.program);
    }
    for (size_t i = 0; i < policy->n_annotations; i++)
        cel_program_free(policy->annotations[i].value.program);
    for (size_t i = 0; i < policy->n_variables; i++)
        cel_program_free(policy->variables[i].program);
    extension_conditions_done(&policy->conditions);
    kp_arena_free(policy->arena);
    free(policy);
}

struct policy_binding *policy_binding_new(const struct k8s_validating_admission_policy_binding *source)
{
    struct policy_binding *binding = kp_calloc(1, sizeof(*binding));
    binding->refs = 1;
    binding->arena = kp_arena_new(0);
    binding->source = kp_object_clone(&k8s_validating_admission_policy_binding_type, source, binding->arena);
    binding->name = binding->source->metadata->name;
    read_match(binding->arena, binding->source->spec->match_resources, binding->name, &binding->match);
    binding->deny = kp_string_list_has(&binding->source->spec->validation_actions, "Deny");
    binding->audit = kp_string_list_has(&binding->source->spec->validation_actions, "Audit");
    binding->warn = kp_string_list_has(&binding->source->spec->validation_actions, "Warn");
    return binding;
}

void policy_binding_unref(struct policy_binding *binding)
{
    if (!binding || __atomic_sub_fetch(&binding->refs, 1, __ATOMIC_ACQ_REL) > 0)
        return;
    kp_arena_free(binding->arena);
    free(binding);
}

/* ---- variables.x ---------------------------------------------------------------------------------------------------------------------------------- */
static bool variable(struct cel_eval *eval, void *data, const char *name, struct cel_value *ret)
{
    struct policy_variables *variables = data;
    const struct policy *policy = variables->policy;
    for (size_t i = 0; i < policy->n_variables; i++) {
        if (strcmp(policy->variable_names[i], name) != 0)
            continue;
        if (variables->known[i].kind == CEL_UNSET) {
            if (!policy->variables[i].program) {
                *ret = cel_fail(eval, "composited variable \"%s\" fails to compile: %s", name, policy->variables[i].fault ? policy->variables[i].fault : "it is empty");
                return true;
            }
            variables->known[i] = extension_evaluate(policy->variables[i].program, variables->values, variables->arena, variables->left);
        }
        *ret = variables->known[i];
        if (ret->kind == CEL_ERROR)
            *ret = cel_fail(eval, "composited variable \"%s\" fails to evaluate: %s", name, variables->known[i].error);
        return true;
    }
    return false;
}

void policy_variables_init(struct policy_variables *variables, const struct policy *policy, struct cel_value *values, uint64_t *left, struct kp_arena *arena)
{
    *variables = (struct policy_variables){.policy = policy, .values = values, .arena = arena, .left = left, .class = {.type = policy->variables_type, .field = variable}};
    variables->known = KP_NEW_ARRAY(arena, struct cel_value, policy->n_variables + 1);
    for (size_t i = 0; i < policy->n_variables; i++)
        variables->known[i] = (struct cel_value){.kind = CEL_UNSET};
    values[EXTENSION_VARIABLES] = cel_of_object(&variables->class, variables);
}
