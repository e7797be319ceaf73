/* Operators: arithmetic that tells an overflow, comparisons within and across numbers, membership and length (cel-go common/stdlib, common/types). */
#include "lib/cel/cel_internal.h"

#include <math.h>

#define FN(name) static struct cel_value name(struct cel_eval *e, const struct cel_value *args)

static struct cel_value of_uint(uint64_t u)
{
    return (struct cel_value){.kind = CEL_UINT, .uinteger = u};
}

static struct cel_value of_duration(int64_t ns)
{
    return (struct cel_value){.kind = CEL_DURATION, .integer = ns};
}

FN(never)
{
    return cel_fail(e, "no such overload");
}

/* ---- numbers -------------------------------------------------------------------------------------------------------------------------------------- */
FN(add_int)
{
    int64_t sum;
    return __builtin_add_overflow(args[0].integer, args[1].integer, &sum) ? cel_fail(e, "integer overflow") : cel_of_int(sum);
}

FN(sub_int)
{
    int64_t rest;
    return __builtin_sub_overflow(args[0].integer, args[1].integer, &rest) ? cel_fail(e, "integer overflow") : cel_of_int(rest);
}

FN(mul_int)
{
    int64_t product;
    return __builtin_mul_overflow(args[0].integer, args[1].integer, &product) ? cel_fail(e, "integer overflow") : cel_of_int(product);
}

FN(div_int)
{
    if (args[1].integer == 0)
        return cel_fail(e, "division by zero");
    return args[0].integer == INT64_MIN && args[1].integer == -1 ? cel_fail(e, "integer overflow") : cel_of_int(args[0].integer / args[1].integer);
}

FN(mod_int)
{
    if (args[1].integer == 0)
        return cel_fail(e, "modulus by zero");
    return args[0].integer == INT64_MIN && args[1].integer == -1 ? cel_fail(e, "integer overflow") : cel_of_int(args[0].integer % args[1].integer);
}

FN(neg_int)
{
    return args[0].integer == INT64_MIN ? cel_fail(e, "integer overflow") : cel_of_int(-args[0].integer);
}

FN(add_uint)
{
    uint64_t sum;
    return __builtin_add_overflow(args[0].uinteger, args[1].uinteger, &sum) ? cel_fail(e, "unsigned integer overflow") : of_uint(sum);
}

FN(sub_uint)
{
    uint64_t rest;
    return __builtin_sub_overflow(args[0].uinteger, args[1].uinteger, &rest) ? cel_fail(e, "unsigned integer overflow") : of_uint(rest);
}

FN(mul_uint)
{
    uint64_t product;
    return __builtin_mul_overflow(args[0].uinteger, args[1].uinteger, &product) ? cel_fail(e, "unsigned integer overflow") : of_uint(product);
}

FN(div_uint)
{
    return args[1].uinteger == 0 ? cel_fail(e, "division by zero") : of_uint(args[0].uinteger / args[1].uinteger);
}

FN(mod_uint)
{
    return args[1].uinteger == 0 ? cel_fail(e, "modulus by zero") : of_uint(args[0].uinteger % args[1].uinteger);
}

FN(add_double)
{
    return cel_of_double(args[0].number + args[1].number);
}

FN(sub_double)
{
    return cel_of_double(args[0].number - args[1].number);
}

FN(mul_double)
{
    return cel_of_double(args[0].number * args[1].number);
}

__attribute__((no_sanitize("float-divide-by-zero"))) FN(div_double)
{
    return cel_of_double(args[0].number / args[1].number);
}

FN(neg_double)
{
    return cel_of_double(-args[0].number);
}

/* ---- times -------------------------------------------------------------------------------------------------------------------------------------------- */
static struct cel_value time_plus(struct cel_eval *e, const struct cel_value *time, int64_t ns)
{
    int64_t seconds = time->integer + ns / 1000000000, nanos = time->nanos + ns % 1000000000;
    seconds += nanos < 0 ? -1 : nanos >= 1000000000;
    nanos += nanos < 0 ? 1000000000 : nanos >= 1000000000 ? -1000000000 : 0;
    if (seconds < TIMESTAMP_MIN || seconds > TIMESTAMP_MAX)
        return cel_fail(e, "timestamp overflow");
    return (struct cel_value){.kind = CEL_TIMESTAMP, .integer = seconds, .nanos = (int32_t)nanos};
}

FN(add_duration)
{
    int64_t sum;
    return __builtin_add_overflow(args[0].integer, args[1].integer, &sum) ? cel_fail(e, "duration overflow") : of_duration(sum);
}

FN(sub_duration)
{
    int64_t rest;
    return __builtin_sub_overflow(args[0].integer, args[1].integer, &rest) ? cel_fail(e, "duration overflow") : of_duration(rest);
}

FN(add_duration_time)
{
    return time_plus(e, &args[1], args[0].integer);
}

FN(add_time_duration)
{
    return time_plus(e, &args[0], args[1].integer);
}

FN(sub_time_duration)
{
    return args[1].integer == INT64_MIN ? cel_fail(e, "duration overflow") : time_plus(e, &args[0], -args[1].integer);
}

FN(sub_time_time)
{
    int64_t ns;
    if (__builtin_mul_overflow(args[0].integer - args[1].integer, 1000000000, &ns) || __builtin_add_overflow(ns, args[0].nanos - args[1].nanos, &ns))
        return cel_fail(e, "duration overflow");
    return of_duration(ns);
}

/* ---- text and lists ------------------------------------------------------------------------------------------------------------------------------------ */
FN(add_text)
{
    size_t len = args[0].text.len + args[1].text.len;
    char *out = cel_work(e, len / 64) ? cel_alloc(e, len + 1) : NULL;
    if (!out)
        return never(e, args);
    memcpy(out, args[0].text.data, args[0].text.len);
    memcpy(out + args[0].text.len, args[1].text.data, args[1].text.len);
    return (struct cel_value){.kind = args[0].kind, .text = {out, len}};
}

FN(add_list)
{
    return add_lists(e, &args[0], &args[1]);
}

FN(in_list)
{
    size_t len = cel_len(e, &args[1]);
    for (size_t i = 0; i < len; i++) {
        struct cel_value item = cel_item(e, &args[1], i);
        if (values_equal(e, &item, &args[0]))
            return cel_of_bool(true);
    }
    return cel_of_bool(false);
}

FN(in_map)
{
    struct cel_value found;
    return cel_of_bool(map_find(e, &args[1], &args[0], &found));
}

FN(size)
{
    return cel_of_int((int64_t)value_size(e, &args[0]));
}

FN(not)
{
    return cel_of_bool(!args[0].boolean);
}

/* ---- comparisons ------------------------------------------------------------------------------------------------------------------------------------------ */
FN(less)
{
    return cel_of_bool(values_compare(&args[0], &args[1]) == -1);
}

FN(less_equals)
{
    int order = values_compare(&args[0], &args[1]);
    return cel_of_bool(order == -1 || order == 0);
}

FN(greater)
{
    return cel_of_bool(values_compare(&args[0], &args[1]) == 1);
}

FN(greater_equals)
{
    int order = values_compare(&args[0], &args[1]);
    return cel_of_bool(order == 1 || order == 0);
}

static uint64_t cost_compare(struct cel_eval *e, const struct cel_value *args, size_t n, const struct cel_value *result)
{
    bool text = args[0].kind == CEL_STRING || args[0].kind == CEL_BYTES;
    return text ? TENTH(KP_MIN(value_size(e, &args[0]), value_size(e, &args[1]))) : 1;
}

static uint64_t cost_both(struct cel_eval *e, const struct cel_value *args, size_t n, const struct cel_value *result)
{
    return TENTH(value_size(e, &args[0]) + value_size(e, &args[1]));
}

static uint64_t cost_second_size(struct cel_eval *e, const struct cel_value *args, size_t n, const struct cel_value *result)
{
    return value_size(e, &args[1]);
}

#define BINARY(name, id, function, cost, result, a, b) OVERLOAD(name, id, false, function, cost, result, &a, &b)
#define COMPARE(name, id, function)                                                    \
    BINARY(name, id "_bool", function, NULL, cel_bool, cel_bool, cel_bool),            \
    BINARY(name, id "_int64", function, NULL, cel_bool, cel_int, cel_int),             \
    BINARY(name, id "_int64_double", function, NULL, cel_bool, cel_int, cel_double),   \
    BINARY(name, id "_int64_uint64", function, NULL, cel_bool, cel_int, cel_uint),     \
    BINARY(name, id "_uint64", function, NULL, cel_bool, cel_uint, cel_uint),          \
    BINARY(name, id "_uint64_double", function, NULL, cel_bool, cel_uint, cel_double), \
    BINARY(name, id "_uint64_int64", function, NULL, cel_bool, cel_uint, cel_int),     \
    BINARY(name, id "_double", function, NULL, cel_bool, cel_double, cel_double),      \
    BINARY(name, id "_double_int64", function, NULL, cel_bool, cel_double, cel_int),   \
    BINARY(name, id "_double_uint64", function, NULL, cel_bool, cel_double, cel_uint), \
    BINARY(name, id "_string", function, cost_compare, cel_bool, cel_string, cel_string), \
    BINARY(name, id "_bytes", function, cost_compare, cel_bool, cel_bytes, cel_bytes), \
    BINARY(name, id "_timestamp", function, NULL, cel_bool, cel_timestamp, cel_timestamp), \
    BINARY(name, id "_duration", function, NULL, cel_bool, cel_duration, cel_duration)

static const struct cel_overload overloads[] = {
    OVERLOAD("_?_:_", "conditional", false, never, NULL, type_a, &cel_bool, &type_a, &type_a),
    BINARY("_==_", "equals", never, NULL, cel_bool, type_a, type_a),
    BINARY("_!=_", "not_equals", never, NULL, cel_bool, type_a, type_a),
    OVERLOAD("!_", "logical_not", false, not, NULL, cel_bool, &cel_bool),
    OVERLOAD("@not_strictly_false", "not_strictly_false", false, never, NULL, cel_bool, &cel_bool),
    BINARY("_[_]", "index_list", never, NULL, type_a, list_a, cel_int),
    BINARY("_[_]", "index_map", never, NULL, type_b, map_ab, type_a),
    BINARY("_[_]", "optional_list_index_int", never, NULL, optional_a, optional_list_a, cel_int),
    BINARY("_[_]", "optional_map_index_value", never, NULL, optional_b, optional_map_ab, type_a),
    BINARY("_[?_]", "list_optindex_optional_int", never, NULL, optional_a, list_a, cel_int),
    BINARY("_[?_]", "optional_list_optindex_optional_int", never, NULL, optional_a, optional_list_a, cel_int),
    BINARY("_[?_]", "map_optindex_optional_value", never, NULL, optional_b, map_ab, type_a),
    BINARY("_[?_]", "optional_map_optindex_optional_value", never, NULL, optional_b, optional_map_ab, type_a),
    BINARY("@in", "in_list", in_list, cost_second_size, cel_bool, type_a, list_a),
    BINARY("@in", "in_map", in_map, NULL, cel_bool, type_a, map_ab),
    BINARY("_+_", "add_bytes", add_text, cost_both, cel_bytes, cel_bytes, cel_bytes),
    BINARY("_+_", "add_double", add_double, NULL, cel_double, cel_double, cel_double),
    BINARY("_+_", "add_duration_duration", add_duration, NULL, cel_duration, cel_duration, cel_duration),
    BINARY("_+_", "add_duration_timestamp", add_duration_time, NULL, cel_timestamp, cel_duration, cel_timestamp),
    BINARY("_+_", "add_timestamp_duration", add_time_duration, NULL, cel_timestamp, cel_timestamp, cel_duration),
    BINARY("_+_", "add_int64", add_int, NULL, cel_int, cel_int, cel_int),
    BINARY("_+_", "add_list", add_list, NULL, list_a, list_a, list_a),
    BINARY("_+_", "add_string", add_text, cost_both, cel_string, cel_string, cel_string),
    BINARY("_+_", "add_uint64", add_uint, NULL, cel_uint, cel_uint, cel_uint),
    BINARY("_-_", "subtract_double", sub_double, NULL, cel_double, cel_double, cel_double),
    BINARY("_-_", "subtract_duration_duration", sub_duration, NULL, cel_duration, cel_duration, cel_duration),
    BINARY("_-_", "subtract_int64", sub_int, NULL, cel_int, cel_int, cel_int),
    BINARY("_-_", "subtract_timestamp_duration", sub_time_duration, NULL, cel_timestamp, cel_timestamp, cel_duration),
    BINARY("_-_", "subtract_timestamp_timestamp", sub_time_time, NULL, cel_duration, cel_timestamp, cel_timestamp),
    BINARY("_-_", "subtract_uint64", sub_uint, NULL, cel_uint, cel_uint, cel_uint),
    BINARY("_*_", "multiply_double", mul_double, NULL, cel_double, cel_double, cel_double),
    BINARY("_*_", "multiply_int64", mul_int, NULL, cel_int, cel_int, cel_int),
    BINARY("_*_", "multiply_uint64", mul_uint, NULL, cel_uint, cel_uint, cel_uint),
    BINARY("_/_", "divide_double", div_double, NULL, cel_double, cel_double, cel_double),
    BINARY("_/_", "divide_int64", div_int, NULL, cel_int, cel_int, cel_int),
    BINARY("_/_", "divide_uint64", div_uint, NULL, cel_uint, cel_uint, cel_uint),
    BINARY("_%_", "modulo_int64", mod_int, NULL, cel_int, cel_int, cel_int),
    BINARY("_%_", "modulo_uint64", mod_uint, NULL, cel_uint, cel_uint, cel_uint),
    OVERLOAD("-_", "negate_double", false, neg_double, NULL, cel_double, &cel_double),
    OVERLOAD("-_", "negate_int64", false, neg_int, NULL, cel_int, &cel_int),
    COMPARE("_<_", "less", less),
    COMPARE("_<=_", "less_equals", less_equals),
    COMPARE("_>_", "greater", greater),
    COMPARE("_>=_", "greater_equals", greater_equals),
    OVERLOAD("size", "size_bytes", false, size, NULL, cel_int, &cel_bytes),
    OVERLOAD("size", "bytes_size", true, size, NULL, cel_int, &cel_bytes),
    OVERLOAD("size", "size_list", false, size, NULL, cel_int, &list_a),
    OVERLOAD("size", "list_size", true, size, NULL, cel_int, &list_a),
    OVERLOAD("size", "size_map", false, size, NULL, cel_int, &map_ab),
    OVERLOAD("size", "map_size", true, size, NULL, cel_int, &map_ab),
    OVERLOAD("size", "size_string", false, size, NULL, cel_int, &cel_string),
    OVERLOAD("size", "string_size", true, size, NULL, cel_int, &cel_string),
};
const struct cel_library library_operators = {overloads, KP_ARRAY_LEN(overloads)};
