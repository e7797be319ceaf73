/* Which overload a call's values fit when it is made, and what it costs (k8s.io/apiserver pkg/cel/library/cost.go; interpreter/runtimecost.go). */
#include "lib/cel/cel_internal.h"

static bool fits_kind(struct cel_eval *e, const struct cel_value *v, const struct cel_type *type);

/* Of lists of simple values the first is looked at, too, as cel-go does: which of the sums is meant. */
static bool fits_list(struct cel_eval *e, const struct cel_value *v, const struct cel_type *type)
{
    if (v->kind != CEL_LIST || type->params[0]->kind < CEL_NULL || type->params[0]->kind > CEL_DURATION || cel_len(e, v) == 0)
        return v->kind == CEL_LIST;
    struct cel_value item = cel_item(e, v, 0);
    return fits_kind(e, &item, type->params[0]);
}

static bool fits_kind(struct cel_eval *e, const struct cel_value *v, const struct cel_type *type)
{
    switch (type->kind) {
    case CEL_DYN:
    case CEL_PARAM:
        return true;
    case CEL_LIST:
        return fits_list(e, v, type);
    case CEL_OBJECT:
        return v->kind == CEL_MAP || v->kind == CEL_OBJECT;
    case CEL_OPAQUE:
        if (type_is_optional(type))
            return v->kind == CEL_OPTIONAL;
        return v->kind == CEL_OPAQUE && strcmp(v->object.of->type->name, type->name) == 0;
    default:
        return v->kind == type->kind;
    }
}

static bool fits(struct cel_eval *e, const struct cel_overload *o, const struct cel_value *args, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!fits_kind(e, &args[i], o->args[i]))
            return false;
    return true;
}

static struct cel_value no_such_overload(struct cel_eval *e, const struct expr *x, const struct cel_value *args)
{
    KP_AUTO_BUF struct kp_buf out = {0};
    for (size_t i = 0; i < x->call.n_args; i++)
        kp_buf_printf(&out, "%s%s", i ? ", " : "", runtime_type_name(&args[i]));
    if (x->call.function[0] == '_' || x->call.function[0] == '!' || x->call.function[0] == '-')
        return cel_fail(e, "no such overload");
    return cel_fail(e, "no such overload: %s(%s)", x->call.function, out.data ? out.data : "");
}

struct cel_value call_function(struct cel_eval *e, const struct expr *x, const struct cel_value *args)
{
    size_t n = x->call.n_args;
    for (size_t i = 0; i < x->call.n_overloads; i++) {
        const struct cel_overload *o = x->call.overloads[i];
        if (!fits(e, o, args, n))
            continue;
        e->call = x;
        struct cel_value result = o->function(e, args);
        charge(e, o->cost ? o->cost(e, args, n, &result) : 1);
        return result;
    }
    charge(e, 1);
    return no_such_overload(e, x, args);
}

uint64_t cost_first(struct cel_eval *e, const struct cel_value *args, size_t n, const struct cel_value *result)
{
    return TENTH(value_size(e, &args[0]));
}

uint64_t cost_first_twice(struct cel_eval *e, const struct cel_value *args, size_t n, const struct cel_value *result)
{
    return TENTH(2 * value_size(e, &args[0]));
}

uint64_t cost_free(struct cel_eval *e, const struct cel_value *args, size_t n, const struct cel_value *result)
{
    return 0;
}

static uint64_t traverse(struct cel_eval *e, const struct cel_value *v, int depth)
{
    uint64_t cost = 0;
    if (depth > CEL_DEPTH_MAX || !cel_work(e, 1))
        return 1;
    if (v->kind == CEL_STRING || v->kind == CEL_BYTES)
        return v->text.len / 10;
    if (v->kind == CEL_LIST) {
        size_t len = cel_len(e, v);
        for (size_t i = 0; i < len && !e->cancelled; i++) {
            struct cel_value item = cel_item(e, v, i);
            cost += traverse(e, &item, depth + 1);
        }
        return cost;
    }
    if (v->kind != CEL_MAP)
        return 1;
    struct map_walk walk = {0};
    struct cel_value key, value;
    while (!e->cancelled && map_next(e, v, &walk, &key, &value))
        cost += traverse(e, &key, depth + 1) + traverse(e, &value, depth + 1);
    return cost;
}

uint64_t cost_traverse(struct cel_eval *e, const struct cel_value *args, size_t n, const struct cel_value *result)
{
    return traverse(e, &args[0], 0);
}

/* A pattern: the text plus one, times a quarter of the pattern's length. */
uint64_t cost_match(struct cel_eval *e, const struct cel_value *args, size_t n, const struct cel_value *result)
{
    return TENTH(value_size(e, &args[0]) + 1) * ((value_size(e, &args[1]) + 3) / 4);
}

uint64_t cost_product(struct cel_eval *e, const struct cel_value *args, size_t n, const struct cel_value *result)
{
    return TENTH(value_size(e, &args[0])) * TENTH(value_size(e, &args[1]));
}
