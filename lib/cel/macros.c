/* Macros: has, all, exists, map and their like as folds, as cel-go expands them (parser/macro.go, cel/library.go, ext/comprehensions.go, ext/lists.go) - costs
 * and errors are those of the expansion. */
#include "lib/cel/cel_internal.h"

/* What a macro makes its expansion with: every node of it is at the place of the call. */
struct maker {
    struct source *source;
    uint32_t at;
};

static struct expr *literal(struct maker m, struct cel_value value)
{
    struct expr *e = expr_new(m.source, EXPR_LITERAL, m.at);
    e->literal = value;
    return e;
}

static struct expr *ident(struct maker m, const char *name)
{
    struct expr *e = expr_new(m.source, EXPR_IDENT, m.at);
    e->ident.name = name;
    return e;
}

static struct expr *list(struct maker m, struct expr *item)
{
    struct expr *e = expr_new(m.source, EXPR_LIST, m.at);
    e->list.len = item != NULL;
    e->list.items = KP_NEW_ARRAY(m.source->arena, struct expr *, 1);
    e->list.optional = KP_NEW_ARRAY(m.source->arena, bool, 1);
    e->list.items[0] = item;
    return e;
}

static struct expr *call(struct maker m, const char *function, struct expr *a, struct expr *b, struct expr *c)
{
    return expr_call(m.source, m.at, function, NULL, c ? 3 : b ? 2 : a ? 1 : 0, (struct expr *[]){a, b, c});
}

static struct expr *accumulator(struct maker m)
{
    return ident(m, ACCUMULATOR);
}

/* ---- copies: what an expansion has twice -------------------------------------------------------------------------------------------------- */
static struct expr *copy(struct source *source, const struct expr *e);

static struct expr **copy_all(struct source *source, struct expr *const *items, size_t len)
{
    struct expr **out = KP_NEW_ARRAY(source->arena, struct expr *, len + 2);
    for (size_t i = 0; i < len; i++)
        out[i] = copy(source, items[i]);
    return out;
}

static struct expr *copy(struct source *source, const struct expr *e)
{
    if (!e)
        return NULL;
    struct expr *out = expr_new(source, e->kind, e->at);
    *out = *e;
    if (source->nodes > CEL_NODES_MAX) { /* the parser says so, and nobody looks at the rest */
        out->kind = EXPR_ERROR;
        return out;
    }
    switch (e->kind) {
    case EXPR_SELECT:
        out->select.operand = copy(source, e->select.operand);
        break;
    case EXPR_CALL:
        out->call.target = copy(source, e->call.target);
        out->call.args = copy_all(source, e->call.args, e->call.n_args);
        break;
    case EXPR_LIST:
        out->list.items = copy_all(source, e->list.items, e->list.len);
        break;
    case EXPR_MAP:
        out->map.entries = KP_NEW_ARRAY(source->arena, struct expr_entry, e->map.len);
        for (size_t i = 0; i < e->map.len; i++) {
            const struct expr_entry *from = &e->map.entries[i];
            out->map.entries[i] = (struct expr_entry){copy(source, from->key), copy(source, from->value), from->optional};
        }
        break;
    case EXPR_FOLD:
        out->fold.range = copy(source, e->fold.range);
        out->fold.init = copy(source, e->fold.init);
        out->fold.condition = copy(source, e->fold.condition);
        out->fold.step = copy(source, e->fold.step);
        out->fold.result = copy(source, e->fold.result);
        break;
    default:
        break;
    }
    return out;
}

/* ---- folds --------------------------------------------------------------------------------------------------------------------------------- */
struct vars {
    const char *one, *two; /* two NULL: there is one */
};

static struct expr *fold(struct maker m, struct expr *range, struct vars vars, struct expr *init, struct expr *condition, struct expr *step,
                         struct expr *result)
{
    struct expr *e = expr_new(m.source, EXPR_FOLD, m.at);
    e->fold.range = range;
    e->fold.var = vars.one;
    e->fold.var2 = vars.two;
    e->fold.accu = ACCUMULATOR;
    e->fold.init = init;
    e->fold.condition = condition;
    e->fold.step = step;
    e->fold.result = result;
    return e;
}

static struct expr *refuse(struct maker m, uint32_t at, const char *why)
{
    fault_add(m.source, at, "%s", why);
    return expr_new(m.source, EXPR_ERROR, at);
}

/* NULL when the arguments are names that can be variables, else the error. */
static struct expr *take_vars(struct maker m, struct expr **args, bool two, const char *why, struct vars *ret)
{
    for (size_t i = 0; i < 1 + (size_t)two; i++) {
        if (args[i]->kind != EXPR_IDENT)
            return refuse(m, args[i]->at, why);
        if (i == 1 && strcmp(args[0]->ident.name, args[1]->ident.name) == 0)
            return refuse(m, args[1]->at, kp_arena_printf(m.source->arena, "duplicate variable name: %s", args[0]->ident.name));
        if (strcmp(args[i]->ident.name, "__result__") == 0)
            return refuse(m, args[i]->at, "iteration variable overwrites accumulator variable");
    }
    *ret = (struct vars){args[0]->ident.name, two ? args[1]->ident.name : NULL};
    return NULL;
}

enum quantifier { ALL, EXISTS, EXISTS_ONE };

static struct expr *quantify(struct maker m, enum quantifier kind, struct expr *target, struct expr **args, bool two)
{
    struct vars vars;
    struct expr *predicate = args[1 + (size_t)two], *bad = take_vars(m, args, two, "argument must be a simple name", &vars);
    if (bad)
        return bad;
    if (kind == ALL)
        return fold(m, target, vars, literal(m, cel_of_bool(true)), call(m, "@not_strictly_false", accumulator(m), NULL, NULL),
                    call(m, "_&&_", accumulator(m), predicate, NULL), accumulator(m));
    if (kind == EXISTS)
        return fold(m, target, vars, literal(m, cel_of_bool(false)), call(m, "@not_strictly_false", call(m, "!_", accumulator(m), NULL, NULL), NULL, NULL),
                    call(m, "_||_", accumulator(m), predicate, NULL), accumulator(m));
    struct expr *more = call(m, "_+_", accumulator(m), literal(m, cel_of_int(1)), NULL);
    return fold(m, target, vars, literal(m, cel_of_int(0)), literal(m, cel_of_bool(true)), call(m, "_?_:_", predicate, more, accumulator(m)),
                call(m, "_==_", accumulator(m), literal(m, cel_of_int(1)), NULL));
}

/* accumulator + [item], when the filter (which may be NULL) lets it. */
static struct expr *collect(struct maker m, struct expr *target, struct vars vars, struct expr *filter, struct expr *item)
{
    struct expr *step = call(m, "_+_", accumulator(m), list(m, item), NULL);
    if (filter)
        step = call(m, "_?_:_", filter, step, accumulator(m));
    return fold(m, target, vars, list(m, NULL), literal(m, cel_of_bool(true)), step, accumulator(m));
}

static struct expr *collect_entries(struct maker m, struct expr *target, struct vars vars, struct expr *filter, struct expr *key, struct expr *value)
{
    struct expr *step = call(m, "cel.@mapInsert", accumulator(m), key ? key : value, key ? value : NULL);
    if (filter)
        step = call(m, "_?_:_", filter, step, accumulator(m));
    return fold(m, target, vars, expr_new(m.source, EXPR_MAP, m.at), literal(m, cel_of_bool(true)), step, accumulator(m));
}

/* ---- the macros -------------------------------------------------------------------------------------------------------------------------------- */
static struct expr *make_has(struct maker m, struct expr *target, struct expr **args, size_t n)
{
    if (args[0]->kind != EXPR_SELECT || args[0]->select.test)
        return refuse(m, args[0]->at, "invalid argument to has() macro");
    struct expr *e = expr_new(m.source, EXPR_SELECT, m.at);
    e->select = args[0]->select;
    e->select.test = true;
    return e;
}

static struct expr *make_all(struct maker m, struct expr *target, struct expr **args, size_t n)
{
    return quantify(m, ALL, target, args, n == 3);
}

static struct expr *make_exists(struct maker m, struct expr *target, struct expr **args, size_t n)
{
    return quantify(m, EXISTS, target, args, n == 3);
}

static struct expr *make_exists_one(struct maker m, struct expr *target, struct expr **args, size_t n)
{
    return quantify(m, EXISTS_ONE, target, args, n == 3);
}

static struct expr *make_map(struct maker m, struct expr *target, struct expr **args, size_t n)
{
    struct vars vars;
    struct expr *bad = take_vars(m, args, false, "argument is not an identifier", &vars);
    return bad ? bad : collect(m, target, vars, n == 3 ? args[1] : NULL, args[n - 1]);
}

static struct expr *make_filter(struct maker m, struct expr *target, struct expr **args, size_t n)
{
    struct vars vars;
    struct expr *bad = take_vars(m, args, false, "argument is not an identifier", &vars);
    return bad ? bad : collect(m, target, vars, args[1], args[0]);
}

static struct expr *make_transform_list(struct maker m, struct expr *target, struct expr **args, size_t n)
{
    struct vars vars;
    struct expr *bad = take_vars(m, args, true, "argument must be a simple name", &vars);
    return bad ? bad : collect(m, target, vars, n == 4 ? args[2] : NULL, args[n - 1]);
}

static struct expr *make_transform_map(struct maker m, struct expr *target, struct expr **args, size_t n)
{
    struct vars vars;
    struct expr *bad = take_vars(m, args, true, "argument must be a simple name", &vars);
    return bad ? bad : collect_entries(m, target, vars, n == 4 ? args[2] : NULL, ident(m, vars.one), args[n - 1]);
}

static struct expr *make_transform_map_entry(struct maker m, struct expr *target, struct expr **args, size_t n)
{
    struct vars vars;
    struct expr *bad = take_vars(m, args, true, "argument must be a simple name", &vars);
    return bad ? bad : collect_entries(m, target, vars, n == 4 ? args[2] : NULL, NULL, args[n - 1]);
}

/* The value in the expression, under a name: a fold over nothing whose accumulator it is. */
static struct expr *bind(struct maker m, const char *name, struct expr *value, struct expr *expression)
{
    struct expr *e = fold(m, list(m, NULL), (struct vars){UNUSED_VAR, NULL}, value, literal(m, cel_of_bool(false)), ident(m, name), expression);
    e->fold.accu = name;
    return e;
}

static struct expr *make_opt_map(struct maker m, struct expr *target, struct expr **args, bool flat, const char *why)
{
    if (args[0]->kind != EXPR_IDENT)
        return refuse(m, args[0]->at, why);
    struct expr *value = expr_call(m.source, m.at, "value", copy(m.source, target), 0, NULL);
    struct expr *made = bind(m, args[0]->ident.name, value, args[1]);
    return call(m, "_?_:_", expr_call(m.source, m.at, "hasValue", target, 0, NULL), flat ? made : call(m, "optional.of", made, NULL, NULL),
                call(m, "optional.none", NULL, NULL, NULL));
}

static struct expr *make_opt_map_plain(struct maker m, struct expr *target, struct expr **args, size_t n)
{
    return make_opt_map(m, target, args, false, "optMap() variable name must be a simple identifier");
}

static struct expr *make_opt_flat_map(struct maker m, struct expr *target, struct expr **args, size_t n)
{
    return make_opt_map(m, target, args, true, "optFlatMap() variable name must be a simple identifier");
}

static struct expr *make_sort_by(struct maker m, struct expr *target, struct expr **args, size_t n)
{
    static const char input[] = "@__sortBy_input__";
    if (target->kind == EXPR_LITERAL || target->kind == EXPR_MAP)
        return refuse(m, target->at, "sortBy can only be applied to a list, identifier, comprehension, call or select expression");
    struct expr *keys = make_map(m, ident(m, input), args, n);
    if (keys->kind == EXPR_ERROR)
        return keys;
    return bind(m, input, target, expr_call(m.source, m.at, "@sortByAssociatedKeys", ident(m, input), 1, &keys));
}

static const struct {
    const char *name;
    bool member;
    size_t min, max;
    struct expr *(*make)(struct maker m, struct expr *target, struct expr **args, size_t n);
} macros[] = {
    {"has", false, 1, 1, make_has},
    {"all", true, 2, 3, make_all},
    {"exists", true, 2, 3, make_exists},
    {"exists_one", true, 2, 2, make_exists_one},
    {"existsOne", true, 2, 3, make_exists_one},
    {"map", true, 2, 3, make_map},
    {"filter", true, 2, 2, make_filter},
    {"transformList", true, 3, 4, make_transform_list},
    {"transformMap", true, 3, 4, make_transform_map},
    {"transformMapEntry", true, 3, 4, make_transform_map_entry},
    {"optMap", true, 2, 2, make_opt_map_plain},
    {"optFlatMap", true, 2, 2, make_opt_flat_map},
    {"sortBy", true, 2, 2, make_sort_by},
};

struct expr *expand_macro(struct source *source, uint32_t at, const char *function, struct expr *target, size_t n, struct expr **args)
{
    for (size_t i = 0; i < KP_ARRAY_LEN(macros); i++)
        if (macros[i].member == (target != NULL) && n >= macros[i].min && n <= macros[i].max && strcmp(macros[i].name, function) == 0)
            return macros[i].make((struct maker){source, at}, target, args, n);
    return NULL;
}
