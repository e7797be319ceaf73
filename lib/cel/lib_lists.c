/* Lists: Kubernetes' own library (k8s.io/apiserver pkg/cel/library/lists.go) and sets (cel-go ext/sets.go). */
#include "lib/cel/cel_internal.h"

#define FN(name) static struct cel_value name(struct cel_eval *e, const struct cel_value *args)

FN(is_sorted)
{
    size_t len = cel_len(e, &args[0]);
    struct cel_value previous = {0};
    for (size_t i = 0; i < len && cel_work(e, 1); i++) {
        struct cel_value item = cel_item(e, &args[0], i);
        int order = i ? values_compare(&previous, &item) : -1;
        if (order == COMPARE_ERROR)
            return is_error(&item) ? item : cel_fail(e, "no such overload");
        if (order == 1)
            return cel_of_bool(false);
        previous = item;
    }
    return cel_of_bool(true);
}

/* The sum so far and another of the same type. */
static struct cel_value add(struct cel_eval *e, const struct cel_value *sum, const struct cel_value *item)
{
    struct cel_value out = *sum;
    if (item->kind != sum->kind)
        return is_error(item) ? *item : cel_fail(e, "no such overload");
    if (sum->kind == CEL_DOUBLE)
        out.number += item->number;
    else if (sum->kind == CEL_UINT && __builtin_add_overflow(sum->uinteger, item->uinteger, &out.uinteger))
        return cel_fail(e, "unsigned integer overflow");
    else if (sum->kind != CEL_UINT && __builtin_add_overflow(sum->integer, item->integer, &out.integer))
        return cel_fail(e, sum->kind == CEL_INT ? "integer overflow" : "duration overflow");
    return out;
}

static struct cel_value sum_from(struct cel_eval *e, const struct cel_value *list, struct cel_value sum)
{
    size_t len = cel_len(e, list);
    for (size_t i = 0; i < len && !is_error(&sum); i++) {
        struct cel_value item = cel_item(e, list, i);
        sum = add(e, &sum, &item);
    }
    return sum;
}

FN(sum_int)
{
    return sum_from(e, &args[0], cel_of_int(0));
}

FN(sum_uint)
{
    return sum_from(e, &args[0], (struct cel_value){.kind = CEL_UINT});
}

FN(sum_double)
{
    return sum_from(e, &args[0], cel_of_double(0));
}

FN(sum_duration)
{
    return sum_from(e, &args[0], (struct cel_value){.kind = CEL_DURATION});
}

static struct cel_value extreme(struct cel_eval *e, const struct cel_value *list, int wanted, const char *name)
{
    size_t len = cel_len(e, list);
    struct cel_value best = {0};
    for (size_t i = 0; i < len && cel_work(e, 1); i++) {
        struct cel_value item = cel_item(e, list, i);
        int order = i ? values_compare(&best, &item) : wanted;
        if (order == COMPARE_ERROR)
            return is_error(&item) ? item : cel_fail(e, "no such overload");
        if (order == wanted)
            best = item;
    }
    return len ? best : cel_fail(e, "%s called on empty list", name);
}

FN(min)
{
    return extreme(e, &args[0], 1, "min");
}

FN(max)
{
    return extreme(e, &args[0], -1, "max");
}

FN(index_of)
{
    size_t len = cel_len(e, &args[0]);
    for (size_t i = 0; i < len; i++) {
        struct cel_value item = cel_item(e, &args[0], i);
        if (values_equal(e, &item, &args[1]))
            return cel_of_int((int64_t)i);
    }
    return cel_of_int(-1);
}

FN(last_index_of)
{
    for (size_t i = cel_len(e, &args[0]); i-- > 0;) {
        struct cel_value item = cel_item(e, &args[0], i);
        if (values_equal(e, &item, &args[1]))
            return cel_of_int((int64_t)i);
    }
    return cel_of_int(-1);
}

#define EACH(name, id, function, result)                                                \
    OVERLOAD(name, "list_int_" id, true, function, cost_traverse, result, &list_int),  \
    OVERLOAD(name, "list_uint_" id, true, function, cost_traverse, result, &list_uint), \
    OVERLOAD(name, "list_double_" id, true, function, cost_traverse, result, &list_double), \
    OVERLOAD(name, "list_bool_" id, true, function, cost_traverse, result, &list_bool), \
    OVERLOAD(name, "list_duration_" id, true, function, cost_traverse, result, &list_duration), \
    OVERLOAD(name, "list_timestamp_" id, true, function, cost_traverse, result, &list_timestamp), \
    OVERLOAD(name, "list_string_" id, true, function, cost_traverse, result, &list_string), \
    OVERLOAD(name, "list_bytes_" id, true, function, cost_traverse, result, &list_bytes)
#define EACH_OWN(name, id, function)                                                     \
    OVERLOAD(name, "list_int_" id "_int", true, function, cost_traverse, cel_int, &list_int),  \
    OVERLOAD(name, "list_uint_" id "_uint", true, function, cost_traverse, cel_uint, &list_uint), \
    OVERLOAD(name, "list_double_" id "_double", true, function, cost_traverse, cel_double, &list_double), \
    OVERLOAD(name, "list_bool_" id "_bool", true, function, cost_traverse, cel_bool, &list_bool), \
    OVERLOAD(name, "list_duration_" id "_duration", true, function, cost_traverse, cel_duration, &list_duration), \
    OVERLOAD(name, "list_timestamp_" id "_timestamp", true, function, cost_traverse, cel_timestamp, &list_timestamp), \
    OVERLOAD(name, "list_string_" id "_string", true, function, cost_traverse, cel_string, &list_string), \
    OVERLOAD(name, "list_bytes_" id "_bytes", true, function, cost_traverse, cel_bytes, &list_bytes)

static const struct cel_overload overloads[] = {
    EACH("isSorted", "is_sorted_bool", is_sorted, cel_bool),
    OVERLOAD("sum", "list_int_sum_int", true, sum_int, cost_traverse, cel_int, &list_int),
    OVERLOAD("sum", "list_uint_sum_uint", true, sum_uint, cost_traverse, cel_uint, &list_uint),
    OVERLOAD("sum", "list_double_sum_double", true, sum_double, cost_traverse, cel_double, &list_double),
    OVERLOAD("sum", "list_duration_sum_duration", true, sum_duration, cost_traverse, cel_duration, &list_duration),
    EACH_OWN("min", "min", min),
    EACH_OWN("max", "max", max),
    OVERLOAD("indexOf", "list_a_index_of_int", true, index_of, cost_traverse, cel_int, &list_a, &type_a),
    OVERLOAD("lastIndexOf", "list_a_last_index_of_int", true, last_index_of, cost_traverse, cel_int, &list_a, &type_a),
};
const struct cel_library library_lists = {overloads, KP_ARRAY_LEN(overloads)};

/* ---- sets ------------------------------------------------------------------------------------------------------------------------------------------- */
static bool has(struct cel_eval *e, const struct cel_value *list, const struct cel_value *item)
{
    const struct cel_value args[] = {*list, *item};
    return index_of(e, args).integer >= 0;
}

static bool has_all(struct cel_eval *e, const struct cel_value *list, const struct cel_value *items)
{
    size_t len = cel_len(e, items);
    for (size_t i = 0; i < len && !e->cancelled; i++) {
        struct cel_value item = cel_item(e, items, i);
        if (!has(e, list, &item))
            return false;
    }
    return true;
}

FN(sets_contains)
{
    return cel_of_bool(has_all(e, &args[0], &args[1]));
}

FN(sets_equivalent)
{
    return cel_of_bool(has_all(e, &args[0], &args[1]) && has_all(e, &args[1], &args[0]));
}

FN(sets_intersects)
{
    size_t len = cel_len(e, &args[0]);
    for (size_t i = 0; i < len && !e->cancelled; i++) {
        struct cel_value item = cel_item(e, &args[0], i);
        if (has(e, &args[1], &item))
            return cel_of_bool(true);
    }
    return cel_of_bool(false);
}

static uint64_t cost_sets(struct cel_eval *e, const struct cel_value *args, size_t n, const struct cel_value *result)
{
    return 1 + value_size(e, &args[0]) * value_size(e, &args[1]);
}

static uint64_t cost_sets_twice(struct cel_eval *e, const struct cel_value *args, size_t n, const struct cel_value *result)
{
    return 1 + 2 * value_size(e, &args[0]) * value_size(e, &args[1]);
}

static const struct cel_overload set_overloads[] = {
    OVERLOAD("sets.contains", "list_sets_contains_list", false, sets_contains, cost_sets, cel_bool, &list_a, &list_a),
    OVERLOAD("sets.equivalent", "list_sets_equivalent_list", false, sets_equivalent, cost_sets_twice, cel_bool, &list_a, &list_a),
    OVERLOAD("sets.intersects", "list_sets_intersects_list", false, sets_intersects, cost_sets, cel_bool, &list_a, &list_a),
};
const struct cel_library library_sets = {set_overloads, KP_ARRAY_LEN(set_overloads)};
