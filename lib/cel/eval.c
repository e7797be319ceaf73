/* Evaluation: the tree walked, errors as values, costs counted as cel-go's CostTracker does (interpreter/runtimecost.go). */
#include "lib/cel/cel_internal.h"

#define LIST_COST 10 /* common/cost.go: ListCreateBaseCost, MapCreateBaseCost */
#define MAP_COST 30
static const char over_limit[] = "operation cancelled: actual cost limit exceeded";

/* ---- bounds ---------------------------------------------------------------------------------------------------------------------------------- */
static struct cel_value ended(const struct cel_eval *e)
{
    return (struct cel_value){.kind = CEL_ERROR, .error = e->cancelled ? e->cancelled : "operation cancelled"};
}

bool charge(struct cel_eval *e, uint64_t cost)
{
    e->cost = cost > UINT64_MAX - e->cost ? UINT64_MAX : e->cost + cost;
    if (e->cost > e->cost_max && !e->cancelled)
        e->cancelled = over_limit;
    return !e->cancelled;
}

static const char out_of_memory[] = "operation cancelled: memory limit exceeded";

void *cel_alloc(struct cel_eval *e, size_t size)
{
    size_t used = kp_arena_used(e->arena);
    void *p = used < e->memory_end && size < e->memory_end - used ? kp_arena_try(e->arena, size) : NULL;
    if (!p && !e->cancelled)
        e->cancelled = out_of_memory;
    return p;
}

/* Memory is looked at here as well: what small texts take adds up. */
bool cel_work(struct cel_eval *e, size_t steps)
{
    e->work += steps;
    if (e->work > CEL_WORK_MAX && !e->cancelled)
        e->cancelled = "operation cancelled: work limit exceeded";
    if (!e->cancelled && kp_arena_used(e->arena) > e->memory_end)
        e->cancelled = out_of_memory;
    return !e->cancelled;
}

struct cel_value cel_fail(struct cel_eval *e, const char *format, ...)
{
    char text[1024];
    va_list ap;
    va_start(ap, format);
    int len = vsnprintf(text, sizeof(text), format, ap);
    va_end(ap);
    size_t size = KP_MIN((size_t)KP_MAX(len, 0), sizeof(text) - 1);
    char *copy = cel_alloc(e, size + 1);
    if (!copy)
        return ended(e);
    memcpy(copy, text, size);
    return (struct cel_value){.kind = CEL_ERROR, .error = copy};
}

static struct cel_value no_overload(struct cel_eval *e)
{
    return cel_fail(e, "no such overload");
}

/* ---- names and fields --------------------------------------------------------------------------------------------------------------------------- */
static struct cel_value ident(struct cel_eval *e, const struct expr *x)
{
    if (x->ident.local)
        return e->locals[x->ident.slot];
    struct cel_value value = e->values ? e->values[x->ident.slot] : (struct cel_value){0};
    return value.kind == CEL_UNSET ? cel_fail(e, "no such attribute(s): %s", x->ident.name) : value;
}

static struct cel_value attribute(struct cel_eval *e, const struct expr *x, bool root_costs);
static struct cel_value presence(struct cel_eval *e, const struct expr *x);

/* What is before a dot or bracket: attributes cost one for their root, others one more than they themselves do. */
static struct cel_value operand_of(struct cel_eval *e, const struct expr *x, bool root_costs)
{
    bool is_attribute = x->kind == EXPR_IDENT || x->kind == EXPR_SELECT ||
                        (x->kind == EXPR_CALL && x->call.op >= OP_CONDITIONAL && x->call.op <= OP_OPT_SELECT && x->call.op != OP_EQUALS && x->call.op != OP_NOT_EQUALS);
    if (is_attribute)
        return attribute(e, x, root_costs);
    struct cel_value value = evaluate(e, x);
    if (root_costs)
        charge(e, 1);
    return value;
}

/* optional.of what was found; what is optional itself stays so. */
static struct cel_value found_or_none(struct cel_eval *e, struct cel_value value, bool found)
{
    if (!found)
        return cel_none();
    return is_error(&value) ? value : cel_optional(e, value);
}

static struct cel_value index_value(struct cel_eval *e, const struct expr *index)
{
    if (index->kind != EXPR_LITERAL)
        return operand_of(e, index, true);
    charge(e, 1);
    return index->literal;
}

/* One step further: by a name, or by an index, of a value or of what an optional holds. */
static struct cel_value step(struct cel_eval *e, const struct cel_value *from, const char *field, const struct cel_value *index, bool optional)
{
    bool found = false, was_optional = from->kind == CEL_OPTIONAL;
    if (was_optional && !from->optional)
        return *from;
    const struct cel_value *operand = was_optional ? from->optional : from;
    struct cel_value value = field ? select_field(e, operand, field, &found) : select_index(e, operand, index, &found);
    return optional || was_optional ? found_or_none(e, value, found) : value;
}

static struct cel_value conditional(struct cel_eval *e, const struct expr *x)
{
    struct cel_value condition = evaluate(e, x->call.args[0]);
    if (is_error(&condition))
        return condition;
    if (condition.kind != CEL_BOOL)
        return no_overload(e);
    /* The root of a branch is free: it is part of the attribute that the condition makes. */
    const struct expr *branch = x->call.args[condition.boolean ? 1 : 2];
    return operand_of(e, branch, false);
}

static struct cel_value attribute(struct cel_eval *e, const struct expr *x, bool root_costs)
{
    if (x->kind == EXPR_IDENT) {
        if (root_costs)
            charge(e, 1);
        return e->cancelled ? ended(e) : ident(e, x);
    }
    if (x->kind == EXPR_CALL && x->call.op == OP_CONDITIONAL)
        return conditional(e, x);
    bool select = x->kind == EXPR_SELECT;
    if (select && x->select.test)
        return presence(e, x);
    const struct expr *operand = select ? x->select.operand : x->call.args[0];
    struct cel_value from = operand_of(e, operand, root_costs), index;
    if (e->cancelled || is_error(&from))
        return e->cancelled ? ended(e) : from;
    if (select || x->call.op == OP_OPT_SELECT) {
        if (!charge(e, 1))
            return ended(e);
        const char *field = select ? x->select.field : x->call.args[1]->literal.text.data;
        return step(e, &from, field, NULL, !select);
    }
    index = index_value(e, x->call.args[1]);
    if (e->cancelled || is_error(&index))
        return e->cancelled ? ended(e) : index;
    return step(e, &from, NULL, &index, x->call.op == OP_OPT_INDEX);
}

/* has(operand.field) */
static struct cel_value presence(struct cel_eval *e, const struct expr *x)
{
    bool found = false;
    struct cel_value from = operand_of(e, x->select.operand, false);
    if (!charge(e, 1))
        return ended(e);
    if (is_error(&from))
        return from;
    if (from.kind == CEL_OPTIONAL) {
        if (!from.optional)
            return cel_of_bool(false);
        from = *from.optional;
    }
    if (from.kind != CEL_MAP && from.kind != CEL_OBJECT)
        return no_overload(e);
    struct cel_value value = select_field(e, &from, x->select.field, &found);
    if (value.kind == CEL_OPTIONAL && found)
        return cel_of_bool(value.optional != NULL);
    return cel_of_bool(found);
}

/* ---- logic -------------------------------------------------------------------------------------------------------------------------------------- */
/* `decides` ends it, whatever else is an error; else the first error is the result. */
static struct cel_value logic(struct cel_eval *e, const struct expr *x, bool decides)
{
    struct cel_value error = {0};
    for (size_t i = 0; i < x->call.n_args; i++) {
        struct cel_value term = evaluate(e, x->call.args[i]);
        if (e->cancelled)
            return ended(e);
        if (term.kind == CEL_BOOL) {
            if (term.boolean == decides)
                return term;
        } else if (error.kind == CEL_UNSET) {
            error = is_error(&term) ? term : no_overload(e);
        }
    }
    return error.kind == CEL_UNSET ? cel_of_bool(!decides) : error;
}

/* ---- calls ----------------------------------------------------------------------------------------------------------------------------------------- */
static struct cel_value equality(struct cel_eval *e, const struct expr *x)
{
    struct cel_value a = evaluate(e, x->call.args[0]), b = evaluate(e, x->call.args[1]);
    bool made = a.kind == CEL_OPAQUE && x->call.op == OP_EQUALS;
    charge(e, made ? 1 : TENTH(KP_MIN(value_size(e, &a), value_size(e, &b))));
    if (e->cancelled)
        return ended(e);
    if (is_error(&a) || is_error(&b))
        return is_error(&a) ? a : b;
    bool equal = values_equal(e, &a, &b);
    return e->cancelled ? ended(e) : cel_of_bool(equal == (x->call.op == OP_EQUALS));
}

static struct cel_value in_set(struct cel_eval *e, const struct expr *x)
{
    struct cel_value value = evaluate(e, x->call.args[0]);
    const struct cel_value *set = &x->call.args[1]->literal;
    if (is_error(&value))
        return value;
    for (size_t i = 0; i < set->list.len && cel_work(e, 1); i++)
        if (values_equal(e, &value, &set->list.items->items[i]))
            return cel_of_bool(true);
    return cel_of_bool(false);
}

/* or and orValue look at their argument only when there is nothing yet. */
static struct cel_value optional_or(struct cel_eval *e, const struct expr *x)
{
    struct cel_value first = evaluate(e, x->call.args[0]);
    if (is_error(&first))
        return first;
    if (first.kind != CEL_OPTIONAL)
        return no_overload(e);
    if (!first.optional)
        return evaluate(e, x->call.args[1]);
    return x->call.op == OP_OPT_OR ? first : *first.optional;
}

static struct cel_value call(struct cel_eval *e, const struct expr *x)
{
    struct cel_value args[CEL_ARGS_MAX];
    size_t n = x->call.n_args;
    const struct cel_value *error = NULL;
    for (size_t i = 0; i < n; i++) {
        args[i] = evaluate(e, x->call.args[i]);
        if (e->cancelled)
            return ended(e);
        if (is_error(&args[i]) && !error)
            error = &args[i];
        if (error && n > 2)
            return *error;
    }
    if (strcmp(x->call.function, "@not_strictly_false") == 0) {
        charge(e, 1);
        return e->cancelled ? ended(e) : cel_of_bool(args[0].kind != CEL_BOOL || args[0].boolean);
    }
    if (error) {
        charge(e, 1);
        return e->cancelled ? ended(e) : *error;
    }
    struct cel_value result = call_function(e, x, args);
    return e->cancelled ? ended(e) : result;
}

static struct cel_value operation(struct cel_eval *e, const struct expr *x)
{
    switch (x->call.op) {
    case OP_AND:
        return logic(e, x, false);
    case OP_OR:
        return logic(e, x, true);
    case OP_CONDITIONAL:
    case OP_INDEX:
    case OP_OPT_INDEX:
    case OP_OPT_SELECT:
        return attribute(e, x, true);
    case OP_EQUALS:
    case OP_NOT_EQUALS:
        return equality(e, x);
    case OP_IN_SET:
        return in_set(e, x);
    case OP_OPT_OR:
    case OP_OPT_OR_VALUE:
        return optional_or(e, x);
    default:
        return call(e, x);
    }
}

/* ---- aggregates ---------------------------------------------------------------------------------------------------------------------------------------- */
static struct cel_value make_list(struct cel_eval *e, const struct expr *x)
{
    struct cel_value list = cel_list_new(e, x->list.len);
    for (size_t i = 0; i < x->list.len && !e->cancelled; i++) {
        struct cel_value item = evaluate(e, x->list.items[i]);
        if (is_error(&item))
            return item;
        if (x->list.optional[i]) {
            if (item.kind != CEL_OPTIONAL)
                return cel_fail(e, "cannot initialize optional list element from non-optional value");
            if (!item.optional)
                continue;
            item = *item.optional;
        }
        cel_list_add(e, &list, item);
    }
    charge(e, LIST_COST);
    return list;
}

static struct cel_value make_map(struct cel_eval *e, const struct expr *x)
{
    struct cel_value map = map_new(e, x->map.len);
    for (size_t i = 0; i < x->map.len && !e->cancelled; i++) {
        const struct expr_entry *entry = &x->map.entries[i];
        struct cel_value key = evaluate(e, entry->key);
        if (is_error(&key))
            return key;
        struct cel_value value = evaluate(e, entry->value);
        if (is_error(&value))
            return value;
        if (entry->optional) {
            if (value.kind != CEL_OPTIONAL)
                return cel_fail(e, "cannot initialize optional entry '%s' from non-optional value", value_describe(&key, e->arena));
            if (!value.optional)
                continue;
            value = *value.optional;
        }
        if (!map_add(e, &map, key, value) && !e->cancelled)
            return cel_fail(e, "insert failed: key %s already exists", value_describe(&key, e->arena));
    }
    charge(e, MAP_COST);
    return map;
}

/* ---- folds ------------------------------------------------------------------------------------------------------------------------------------------------ */
/* One round; false: it was the last. */
static bool round_of(struct cel_eval *e, const struct expr *x)
{
    struct cel_value go_on = evaluate(e, x->fold.condition);
    if (e->cancelled || (go_on.kind == CEL_BOOL && !go_on.boolean))
        return false;
    e->locals[x->fold.slot] = evaluate(e, x->fold.step);
    return cel_work(e, 1);
}

static void fold_list(struct cel_eval *e, const struct expr *x, const struct cel_value *range)
{
    size_t len = cel_len(e, range);
    struct cel_value *var = &e->locals[x->fold.slot + 1];
    for (size_t i = 0; i < len && !e->cancelled; i++) {
        var[0] = x->fold.var2 ? cel_of_int((int64_t)i) : cel_item(e, range, i);
        if (x->fold.var2)
            var[1] = cel_item(e, range, i);
        if (!round_of(e, x))
            return;
    }
}

static void fold_map(struct cel_eval *e, const struct expr *x, const struct cel_value *range)
{
    struct map_walk walk = {0};
    struct cel_value *var = &e->locals[x->fold.slot + 1], key, value;
    while (!e->cancelled && map_next(e, range, &walk, &key, &value)) {
        var[0] = key;
        if (x->fold.var2)
            var[1] = value;
        if (!round_of(e, x))
            return;
    }
}

static struct cel_value fold(struct cel_eval *e, const struct expr *x)
{
    struct cel_value range = evaluate(e, x->fold.range);
    if (e->cancelled || is_error(&range))
        return e->cancelled ? ended(e) : range;
    if (range.kind != CEL_LIST && range.kind != CEL_MAP)
        return cel_fail(e, "got '%s', expected iterable type", runtime_type_name(&range));
    struct cel_value init = evaluate(e, x->fold.init);
    e->locals[x->fold.slot] = init;
    if (range.kind == CEL_LIST)
        fold_list(e, x, &range);
    else
        fold_map(e, x, &range);
    return e->cancelled ? ended(e) : evaluate(e, x->fold.result);
}

struct cel_value evaluate(struct cel_eval *e, const struct expr *x)
{
    if (e->cancelled)
        return ended(e);
    switch (x->kind) {
    case EXPR_LITERAL:
        return x->literal;
    case EXPR_IDENT:
    case EXPR_SELECT:
        return attribute(e, x, true);
    case EXPR_CALL:
        return operation(e, x);
    case EXPR_LIST:
        return make_list(e, x);
    case EXPR_MAP:
        return make_map(e, x);
    case EXPR_FOLD:
        return fold(e, x);
    default:
        return cel_fail(e, "unsupported expression");
    }
}

struct cel_value cel_evaluate(const struct cel_program *program, const struct cel_value *values, struct kp_arena *arena, uint64_t cost_max, uint64_t *ret_cost)
{
    struct cel_eval e = {.program = program, .values = values, .arena = arena, .cost_max = cost_max,
                         .memory_end = kp_arena_used(arena) + CEL_MEMORY_MAX};
    struct cel_value result = {0};
    e.locals = cel_alloc(&e, (program->n_locals + 1) * sizeof(*e.locals));
    if (e.locals)
        result = evaluate(&e, program->root);
    if (ret_cost)
        *ret_cost = e.cost;
    return e.cancelled ? ended(&e) : result;
}

bool cel_is_over_limit(const struct cel_value *error)
{
    return error->kind == CEL_ERROR && strncmp(error->error, "operation cancelled", strlen("operation cancelled")) == 0;
}
