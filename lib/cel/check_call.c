/* The types of calls: which of a function's overloads the arguments fit (cel-go checker/checker.go, checkCall). */
#include "lib/cel/cel_internal.h"

#define TEXT(type) cel_type_text((type), c->arena)

/* The overload's argument types, and its result, with variables of this call in place of A and B. */
static const struct cel_type *instantiate(struct checker *c, const struct cel_type *type, const struct cel_type *vars[2])
{
    if (type->kind == CEL_PARAM) {
        size_t i = type == &type_b;
        if (!vars[i])
            vars[i] = type_var_new(c);
        return vars[i];
    }
    if (type->n_params == 0)
        return type;
    struct cel_type *out = KP_NEW(c->arena, struct cel_type);
    const struct cel_type **params = KP_NEW_ARRAY(c->arena, const struct cel_type *, type->n_params);
    for (size_t i = 0; i < type->n_params; i++)
        params[i] = instantiate(c, type->params[i], vars);
    *out = *type;
    out->params = params;
    return out;
}

static size_t arity(const struct cel_overload *o)
{
    size_t n = 0;
    while (n < CEL_ARGS_MAX && o->args[n])
        n++;
    return n;
}

static void no_overload(struct checker *c, struct expr *e, bool member)
{
    KP_AUTO_BUF struct kp_buf out = {0};
    size_t first = member ? 1 : 0;
    if (member) {
        type_print(substitute(c, e->call.args[0]->type, true), &out);
        kp_buf_putc(&out, '.');
    }
    kp_buf_putc(&out, '(');
    for (size_t i = first; i < e->call.n_args; i++) {
        kp_buf_puts(&out, i > first ? ", " : "");
        type_print(substitute(c, e->call.args[i]->type, true), &out);
    }
    kp_buf_putc(&out, ')');
    fault_add(c->source, e->at, "found no matching overload for '%s' applied to '%s'", e->call.function, out.data);
    e->type = &cel_fault_type;
}

/* All overloads that fit; the first gives the type of the result, unless others give another. */
static void resolve(struct checker *c, struct expr *e, bool member)
{
    const struct cel_type *types[CEL_ARGS_MAX], *result = NULL;
    const struct cel_overload *o;
    size_t n = e->call.n_args, count = 0;
    for (size_t i = 0; overload_at(c->env, e->call.function, i); i++)
        count++;
    e->call.overloads = KP_NEW_ARRAY(c->arena, const struct cel_overload *, count);
    for (size_t i = 0; i < n && i < CEL_ARGS_MAX; i++)
        types[i] = e->call.args[i]->type;
    for (size_t i = 0; (o = overload_at(c->env, e->call.function, i)) != NULL; i++) {
        if (o->member != member || arity(o) != n)
            continue;
        const struct cel_type *vars[2] = {NULL, NULL}, *wanted[CEL_ARGS_MAX];
        for (size_t j = 0; j < n; j++)
            wanted[j] = instantiate(c, o->args[j], vars);
        if (!assignable_list(c, types, wanted, n))
            continue;
        e->call.overloads[e->call.n_overloads++] = o;
        const struct cel_type *type = substitute(c, instantiate(c, o->result, vars), false);
        if (!result)
            result = type;
        else if (result->kind != CEL_DYN && !cel_type_same(type, result))
            result = &cel_dyn;
    }
    if (!result)
        no_overload(c, e, member);
    else
        e->type = result;
}

static void check_logic(struct checker *c, struct expr *e)
{
    for (size_t i = 0; i < e->call.n_args; i++) {
        struct expr *term = e->call.args[i];
        if (!assignable(c, term->type, &cel_bool))
            fault_add(c->source, term->at, "expected type 'bool' but found '%s'", TEXT(term->type));
    }
    e->type = &cel_bool;
}

static enum operation operation_of(const char *function)
{
    static const struct {
        const char *function;
        enum operation op;
    } operations[] = {{"_&&_", OP_AND}, {"_||_", OP_OR}, {"_?_:_", OP_CONDITIONAL}, {"_==_", OP_EQUALS}, {"_!=_", OP_NOT_EQUALS}, {"_[_]", OP_INDEX},
                      {"_[?_]", OP_OPT_INDEX}, {"_?._", OP_OPT_SELECT}};
    for (size_t i = 0; i < KP_ARRAY_LEN(operations); i++)
        if (strcmp(operations[i].function, function) == 0)
            return operations[i].op;
    return OP_FUNCTION;
}

static void undeclared(struct checker *c, struct expr *e)
{
    fault_add(c->source, e->at, "undeclared reference to '%s' (in container '')", e->call.function);
    e->type = &cel_fault_type;
}

/* Either a function with a qualified name, or one of what is before the dot. */
static void check_member_call(struct checker *c, struct expr *e)
{
    struct expr *target = e->call.target;
    const char *prefix = qualified_name(c, target);
    const char *name = prefix ? kp_arena_printf(c->arena, "%s.%s", prefix[0] == '.' ? prefix + 1 : prefix, e->call.function) : NULL;
    e->call.target = NULL;
    if (name && overload_at(c->env, name, 0)) {
        e->call.function = name;
        resolve(c, e, false);
        return;
    }
    check(c, target);
    if (!overload_at(c->env, e->call.function, 0)) {
        undeclared(c, e);
        return;
    }
    memmove(e->call.args + 1, e->call.args, e->call.n_args * sizeof(*e->call.args));
    e->call.args[0] = target;
    e->call.n_args++;
    resolve(c, e, true);
}

void check_call(struct checker *c, struct expr *e)
{
    e->call.op = operation_of(e->call.function);
    e->call.n_overloads = 0;
    if (e->call.op == OP_OPT_SELECT) {
        e->call.args[1]->type = &cel_string;
        e->type = substitute(c, check_field(c, e, e->call.args[0], kp_arena_strndup(c->arena, e->call.args[1]->literal.text.data, e->call.args[1]->literal.text.len), true), false);
        return;
    }
    for (size_t i = 0; i < e->call.n_args; i++)
        check(c, e->call.args[i]);
    if (e->call.op == OP_AND || e->call.op == OP_OR) {
        check_logic(c, e);
    } else if (e->call.target) {
        check_member_call(c, e);
    } else {
        if (e->call.function[0] == '.')
            e->call.function++;
        if (overload_at(c->env, e->call.function, 0))
            resolve(c, e, false);
        else
            undeclared(c, e);
    }
}
