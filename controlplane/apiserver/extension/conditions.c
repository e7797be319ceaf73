/* matchConditions: all must be true for a webhook or policy to be asked (k8s.io/apiserver pkg/admission/plugin/webhook/matchconditions). */
#include "controlplane/apiserver/extension/extension_internal.h"

void extension_conditions_compile(const struct k8s_match_condition_items *conditions, const struct cel_env *env, struct kp_arena *arena, struct extension_conditions *ret)
{
    *ret = (struct extension_conditions){.len = conditions->len};
    if (!conditions->len)
        return;
    ret->programs = KP_NEW_ARRAY(arena, struct cel_program *, conditions->len);
    ret->expressions = KP_NEW_ARRAY(arena, const char *, conditions->len);
    for (size_t i = 0; i < conditions->len && !ret->fault; i++) {
        const char *fault = NULL;
        ret->expressions[i] = conditions->items[i].expression;
        ret->programs[i] = cel_compile(env, conditions->items[i].expression, arena, &fault);
        if (!ret->programs[i])
            ret->fault = kp_arena_printf(arena, "compilation error: compilation failed: %s", fault);
    }
}

void extension_conditions_done(struct extension_conditions *conditions)
{
    for (size_t i = 0; conditions->programs && i < conditions->len; i++)
        cel_program_free(conditions->programs[i]);
}

int extension_conditions_hold(const struct extension_conditions *conditions, const struct cel_value *values, struct kp_arena *arena, bool ignore_errors,
                              struct kp_error *error)
{
    uint64_t left = CEL_BUDGET_MATCH_CONDITIONS;
    const char *fault = conditions->fault;
    for (size_t i = 0; i < conditions->len && !conditions->fault; i++) {
        struct cel_value value = extension_evaluate(conditions->programs[i], values, arena, &left);
        if (value.kind == CEL_BOOL && !value.boolean)
            return 0; /* whatever the others are */
        if (value.kind != CEL_BOOL && !fault)
            fault = kp_arena_printf(arena, "expression '%s' resulted in error: %s", conditions->expressions[i],
                                    value.kind == CEL_ERROR ? value.error : "cel expression evaluates to non-bool type");
    }
    if (!fault)
        return 1;
    return ignore_errors ? 0 : kp_fail(error, KP_EINVALID, "%s", fault);
}
