/* What cel-go's planner and validators do with a checked expression: types without variables, constants folded, patterns compiled (interpreter/decorators.go,
 * cel/validator.go). */
#include "lib/cel/cel_internal.h"

struct finisher {
    struct checker *c;
    struct cel_program *program;
    size_t formats; /* calls of format around: their lists may hold anything */
};

static void walk(struct finisher *f, struct expr *e);

static bool is_constant(const struct expr *e)
{
    return e->kind == EXPR_LITERAL;
}

static bool is_conversion(const char *function)
{
    static const char *const names[] = {"bool", "bytes", "double", "duration", "dyn", "int", "string", "timestamp", "type", "uint"};
    for (size_t i = 0; i < KP_ARRAY_LEN(names); i++)
        if (strcmp(function, names[i]) == 0)
            return true;
    return false;
}

/* The value of an expression of constants becomes a constant; an error stays to be found when it is evaluated. */
static bool fold(struct finisher *f, struct expr *e)
{
    struct cel_eval eval = {.program = f->program, .arena = f->program->arena, .cost_max = UINT64_MAX,
                            .memory_end = kp_arena_used(f->program->arena) + CEL_MEMORY_MAX};
    struct cel_value value = evaluate(&eval, e);
    if (is_error(&value) || eval.cancelled)
        return false;
    if (value.kind == CEL_LIST && !value.is_tree)
        value.list.items->cap = value.list.items->len; /* shared by evaluations from now on: nobody appends to it */
    e->kind = EXPR_LITERAL;
    e->literal = value;
    return true;
}

static bool all_constant(struct expr *const *items, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (!is_constant(items[i]))
            return false;
    return true;
}

/* ---- calls --------------------------------------------------------------------------------------------------------------------------------- */
static void keep_pattern(struct cel_program *program, struct kp_pattern *pattern)
{
    if (program->n_patterns % 8 == 0)
        program->patterns = kp_realloc(program->patterns, (program->n_patterns + 8) * sizeof(struct kp_pattern *));
    program->patterns[program->n_patterns++] = pattern;
}

static void finish_pattern(struct finisher *f, struct expr *e)
{
    bool matches = strcmp(e->call.function, "matches") == 0;
    bool find = strcmp(e->call.function, "find") == 0 || strcmp(e->call.function, "findAll") == 0;
    struct kp_arena *arena = f->program->arena;
    if ((!matches && !find) || e->call.n_args < 2 || !is_constant(e->call.args[1]) || e->call.args[1]->literal.kind != CEL_STRING)
        return;
    const struct cel_value *text = &e->call.args[1]->literal;
    const char *fault = NULL, *copy = kp_arena_strndup(arena, text->text.data, text->text.len);
    e->call.pattern = find ? kp_pattern_new_finder(copy, arena, &fault) : kp_pattern_new(copy, arena, &fault);
    if (e->call.pattern)
        keep_pattern(f->program, e->call.pattern);
    else if (matches)
        fault_add(f->c->source, e->call.args[1]->at, "invalid matches argument");
}

static void finish_conversion(struct finisher *f, struct expr *e)
{
    if (!is_conversion(e->call.function) || e->call.n_args != 1 || !is_constant(e->call.args[0]) || fold(f, e))
        return;
    if (strcmp(e->call.function, "duration") == 0 || strcmp(e->call.function, "timestamp") == 0)
        fault_add(f->c->source, e->call.args[0]->at, "invalid %s argument", e->call.function);
}

static bool is_primitive(const struct cel_value *v)
{
    return v->kind >= CEL_NULL && v->kind <= CEL_STRING;
}

/* A search in a constant list of simple values costs nothing. */
static void finish_in(struct finisher *f, struct expr *e)
{
    const struct expr *list = e->call.n_args == 2 ? e->call.args[1] : NULL;
    if (strcmp(e->call.function, "@in") != 0 || !list || !is_constant(list) || list->literal.kind != CEL_LIST || e->call.n_overloads != 1)
        return;
    for (size_t i = 0; i < list->literal.list.len; i++)
        if (!is_primitive(&list->literal.list.items->items[i]))
            return;
    if (list->literal.list.len > 0) {
        e->call.op = OP_IN_SET;
        return;
    }
    e->kind = EXPR_LITERAL;
    e->literal = cel_of_bool(false);
}

static void finish_call(struct finisher *f, struct expr *e)
{
    bool is_format = strcmp(e->call.function, "format") == 0;
    f->formats += is_format;
    for (size_t i = 0; i < e->call.n_args; i++)
        walk(f, e->call.args[i]);
    f->formats -= is_format;
    if (e->call.op != OP_FUNCTION)
        return;
    if (e->call.n_overloads == 1 && strcmp(e->call.overloads[0]->id, "optional_or_optional") == 0)
        e->call.op = OP_OPT_OR;
    else if (e->call.n_overloads == 1 && strcmp(e->call.overloads[0]->id, "optional_orValue_value") == 0)
        e->call.op = OP_OPT_OR_VALUE;
    finish_pattern(f, e);
    finish_conversion(f, e);
    if (e->kind == EXPR_CALL)
        finish_in(f, e);
}

/* Whether an item is of the first one's type, which *first becomes when there was none; told when not. */
static bool same_as_first(struct finisher *f, const struct expr *item, bool optional, const struct cel_type **first)
{
    const struct cel_type *type = optional && type_is_optional(item->type) ? item->type->params[0] : item->type;
    if (!*first)
        *first = type;
    if (f->formats > 0 || cel_type_same(*first, type))
        return true;
    fault_add(f->c->source, item->at, "expected type '%s' but found '%s'", cel_type_text(*first, f->c->arena), cel_type_text(type, f->c->arena));
    return false;
}

static void finish_map(struct finisher *f, struct expr *e)
{
    bool constant = true;
    const struct cel_type *key = NULL, *value = NULL;
    for (size_t i = 0; i < e->map.len; i++) {
        walk(f, e->map.entries[i].key);
        walk(f, e->map.entries[i].value);
        same_as_first(f, e->map.entries[i].key, false, &key);
        same_as_first(f, e->map.entries[i].value, e->map.entries[i].optional, &value);
        constant = constant && is_constant(e->map.entries[i].key) && is_constant(e->map.entries[i].value) && !e->map.entries[i].optional;
    }
    if (constant)
        fold(f, e);
}

static void finish_list(struct finisher *f, struct expr *e)
{
    bool optional = false, same = true;
    const struct cel_type *first = NULL;
    for (size_t i = 0; i < e->list.len; i++) {
        walk(f, e->list.items[i]);
        same = same && same_as_first(f, e->list.items[i], e->list.optional[i], &first);
        optional = optional || e->list.optional[i];
    }
    if (!optional && all_constant(e->list.items, e->list.len))
        fold(f, e);
}

static void walk(struct finisher *f, struct expr *e)
{
    e->type = substitute(f->c, e->type, true);
    switch (e->kind) {
    case EXPR_SELECT:
        walk(f, e->select.operand);
        break;
    case EXPR_CALL:
        finish_call(f, e);
        break;
    case EXPR_LIST:
        finish_list(f, e);
        break;
    case EXPR_MAP:
        finish_map(f, e);
        break;
    case EXPR_FOLD:
        walk(f, e->fold.range);
        walk(f, e->fold.init);
        walk(f, e->fold.condition);
        walk(f, e->fold.step);
        walk(f, e->fold.result);
        break;
    default:
        break;
    }
}

void finish(struct checker *c, struct cel_program *program, struct expr *e)
{
    walk(&(struct finisher){.c = c, .program = program}, e);
}
