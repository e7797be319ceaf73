/* Which type fits another, with type variables that get their meaning on the way (cel-go checker/types.go). */
#include "lib/cel/cel_internal.h"

/* Variables are parameters without a name; which one is in n_fields. */
static bool is_var(const struct cel_type *type)
{
    return type->kind == CEL_PARAM;
}

const struct cel_type *type_var_new(struct checker *c)
{
    struct cel_type *type = KP_NEW(c->arena, struct cel_type);
    if (c->n_vars == c->cap_vars) {
        size_t cap = c->cap_vars ? 2 * c->cap_vars : 16;
        const struct cel_type **vars = KP_NEW_ARRAY(c->arena, const struct cel_type *, cap);
        if (c->n_vars > 0)
            memcpy(vars, c->vars, c->n_vars * sizeof(*vars));
        c->vars = vars;
        c->cap_vars = cap;
    }
    *type = (struct cel_type){.kind = CEL_PARAM, .name = kp_arena_printf(c->arena, "_var%zu", c->n_vars), .n_fields = c->n_vars};
    c->vars[c->n_vars++] = NULL;
    return type;
}

static void set_var(struct checker *c, const struct cel_type *var, const struct cel_type *meaning)
{
    if (c->n_trail == c->cap_trail) {
        size_t cap = c->cap_trail ? 2 * c->cap_trail : 32;
        size_t *trail = KP_NEW_ARRAY(c->arena, size_t, cap);
        const struct cel_type **old = KP_NEW_ARRAY(c->arena, const struct cel_type *, cap);
        if (c->n_trail > 0) {
            memcpy(trail, c->trail, c->n_trail * sizeof(*trail));
            memcpy(old, c->trail_old, c->n_trail * sizeof(*old));
        }
        c->trail = trail;
        c->trail_old = old;
        c->cap_trail = cap;
    }
    c->trail[c->n_trail] = var->n_fields;
    c->trail_old[c->n_trail++] = c->vars[var->n_fields];
    c->vars[var->n_fields] = meaning;
}

static void undo(struct checker *c, size_t mark)
{
    while (c->n_trail > mark) {
        c->n_trail--;
        c->vars[c->trail[c->n_trail]] = c->trail_old[c->n_trail];
    }
}

static const struct cel_type *meaning(const struct checker *c, const struct cel_type *type)
{
    return is_var(type) ? c->vars[type->n_fields] : NULL;
}

static bool not_in(struct checker *c, const struct cel_type *var, const struct cel_type *within)
{
    if (c->steps++ > UNIFY_STEPS_MAX || cel_type_same(var, within))
        return false;
    if (is_var(within))
        return !meaning(c, within) || not_in(c, var, meaning(c, within));
    for (size_t i = 0; i < within->n_params; i++)
        if (!not_in(c, var, within->params[i]))
            return false;
    return true;
}

static bool less_specific(const struct cel_type *a, const struct cel_type *b)
{
    if (a->kind == CEL_DYN || is_var(a))
        return true;
    if (b->kind == CEL_DYN || is_var(b) || a->kind != b->kind)
        return false;
    if (a->kind == CEL_TYPE)
        return true;
    if (a->kind != CEL_OPAQUE && a->kind != CEL_LIST && a->kind != CEL_MAP)
        return cel_type_same(a, b);
    if (a->n_params != b->n_params || !kp_streq(a->name, b->name))
        return false;
    for (size_t i = 0; i < a->n_params; i++)
        if (!less_specific(a->params[i], b->params[i]))
            return false;
    return true;
}

static const struct cel_type *more_general(const struct cel_type *a, const struct cel_type *b)
{
    return less_specific(a, b) ? a : b;
}

static bool fits(struct checker *c, const struct cel_type *a, const struct cel_type *b);

/* Whether `type` can be what the variable stands for; *ret_settled: nothing else needs to be tried. */
static bool fits_var(struct checker *c, const struct cel_type *type, const struct cel_type *var, bool *ret_settled)
{
    const struct cel_type *old = meaning(c, var);
    *ret_settled = true;
    if (cel_type_same(type, var) || (old && cel_type_same(type, old)))
        return true;
    if (old) {
        if (!fits(c, type, old))
            return false;
        const struct cel_type *wider = more_general(type, old);
        if (not_in(c, var, wider))
            set_var(c, var, wider);
        return true;
    }
    *ret_settled = false;
    if (!not_in(c, var, type))
        return false;
    set_var(c, var, type);
    return true;
}

static bool can_be_null(const struct cel_type *type)
{
    return type->kind == CEL_NULL || type->kind == CEL_OPAQUE || type->kind == CEL_OBJECT || type->kind == CEL_DURATION || type->kind == CEL_TIMESTAMP;
}

static bool fits(struct checker *c, const struct cel_type *a, const struct cel_type *b)
{
    bool settled;
    if (c->steps++ > UNIFY_STEPS_MAX)
        return false;
    if (is_var(b)) {
        if (fits_var(c, a, b, &settled))
            return true;
        if (settled)
            return false;
    }
    if (is_var(a))
        return fits_var(c, b, a, &settled);
    if (type_is_dyn(a) || type_is_dyn(b))
        return true;
    if (a->kind == CEL_NULL)
        return can_be_null(b);
    if (b->kind == CEL_NULL)
        return can_be_null(a);
    if (a->kind == CEL_TYPE)
        return b->kind == CEL_TYPE;
    if (a->kind != b->kind || a->n_params != b->n_params || !kp_streq(a->name, b->name))
        return false;
    for (size_t i = 0; i < a->n_params; i++)
        if (!fits(c, a->params[i], b->params[i]))
            return false;
    return true;
}

bool assignable(struct checker *c, const struct cel_type *a, const struct cel_type *b)
{
    size_t mark = c->n_trail;
    if (fits(c, a, b))
        return true;
    undo(c, mark);
    return false;
}

bool assignable_list(struct checker *c, const struct cel_type *const *a, const struct cel_type *const *b, size_t n)
{
    size_t mark = c->n_trail;
    for (size_t i = 0; i < n; i++)
        if (!fits(c, a[i], b[i])) {
            undo(c, mark);
            return false;
        }
    return true;
}

const struct cel_type *substitute(struct checker *c, const struct cel_type *type, bool to_dyn)
{
    const struct cel_type *stands_for = meaning(c, type);
    if (c->steps++ > UNIFY_STEPS_MAX)
        return &cel_dyn;
    if (stands_for)
        return substitute(c, stands_for, to_dyn);
    if (is_var(type))
        return to_dyn ? &cel_dyn : type;
    if (type->n_params == 0)
        return type;
    const struct cel_type **params = KP_NEW_ARRAY(c->arena, const struct cel_type *, type->n_params);
    bool same = true;
    for (size_t i = 0; i < type->n_params; i++) {
        params[i] = substitute(c, type->params[i], to_dyn);
        same = same && params[i] == type->params[i];
    }
    if (same)
        return type;
    struct cel_type *out = KP_NEW(c->arena, struct cel_type);
    *out = *type;
    out->params = params;
    return out;
}

const struct cel_type *join_types(struct checker *c, const struct cel_type *previous, const struct cel_type *current)
{
    if (!previous)
        return current;
    if (assignable(c, previous, current))
        return more_general(previous, current);
    return &cel_dyn;
}
