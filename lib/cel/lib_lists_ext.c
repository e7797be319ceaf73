/* Lists: the extension library in version 3 (cel-go ext/lists.go), whose costs grow as what it makes. */
#include "lib/cel/cel_internal.h"

#define FN(name) static struct cel_value name(struct cel_eval *e, const struct cel_value *args)

FN(slice)
{
    long long from = (long long)args[1].integer, to = (long long)args[2].integer;
    size_t len = cel_len(e, &args[0]);
    if (from < 0 || to < 0)
        return cel_fail(e, "cannot slice(%lld, %lld), negative indexes not supported", from, to);
    if (from > to)
        return cel_fail(e, "cannot slice(%lld, %lld), start index must be less than or equal to end index", from, to);
    if ((uint64_t)to > len)
        return cel_fail(e, "cannot slice(%lld, %lld), list is length %zu", from, to, len);
    struct cel_value out = cel_list_new(e, (size_t)(to - from));
    for (long long i = from; i < to && cel_work(e, 1); i++)
        cel_list_add(e, &out, cel_item(e, &args[0], (size_t)i));
    return out;
}

static void flatten_into(struct cel_eval *e, const struct cel_value *list, int64_t depth, struct cel_value *out)
{
    size_t len = cel_len(e, list);
    for (size_t i = 0; i < len && cel_work(e, 1); i++) {
        struct cel_value item = cel_item(e, list, i);
        if (item.kind == CEL_LIST && depth > 0)
            flatten_into(e, &item, depth - 1, out);
        else
            cel_list_add(e, out, item);
    }
}

FN(flatten)
{
    struct cel_value out = cel_list_new(e, 0);
    flatten_into(e, &args[0], 1, &out);
    return out;
}

FN(flatten_depth)
{
    struct cel_value out = cel_list_new(e, 0);
    if (args[1].integer < 0)
        return cel_fail(e, "level must be non-negative");
    flatten_into(e, &args[0], KP_MIN(args[1].integer, (int64_t)CEL_DEPTH_MAX), &out);
    return out;
}

/* ---- order --------------------------------------------------------------------------------------------------------------------------------------------- */
struct keyed {
    struct cel_value key, value;
    size_t at;
};

static int compare_keyed(const void *a, const void *b)
{
    const struct keyed *x = a, *y = b;
    int order = values_compare(&x->key, &y->key);
    return order == -1 || order == 1 ? order : x->at < y->at ? -1 : 1;
}

FN(sort_by)
{
    size_t len = cel_len(e, &args[0]), n_keys = cel_len(e, &args[1]);
    if (len != n_keys)
        return cel_fail(e, "@sortByAssociatedKeys() expected a list of the same size as the associated keys list, but got %zu and %zu elements respectively", len, n_keys);
    struct keyed *keyed = cel_work(e, 16 * len) ? cel_alloc(e, (len + 1) * sizeof(*keyed)) : NULL;
    struct cel_value out = cel_list_new(e, len);
    if (!keyed)
        return out;
    for (size_t i = 0; i < len; i++) {
        keyed[i] = (struct keyed){cel_item(e, &args[1], i), cel_item(e, &args[0], i), i};
        if (values_compare(&keyed[i].key, &keyed[i].key) == COMPARE_ERROR)
            return cel_fail(e, "list elements must be comparable");
        if (keyed[i].key.kind != keyed[0].key.kind)
            return cel_fail(e, "list elements must have the same type");
    }
    if (len > 0)
        qsort(keyed, len, sizeof(*keyed), compare_keyed);
    for (size_t i = 0; i < len; i++)
        cel_list_add(e, &out, keyed[i].value);
    return out;
}

FN(sort)
{
    return sort_by(e, (const struct cel_value[]){args[0], args[0]});
}

FN(range)
{
    struct cel_value out = cel_list_new(e, 0);
    for (int64_t i = 0; i < args[0].integer && cel_work(e, 1); i++)
        cel_list_add(e, &out, cel_of_int(i));
    return out;
}

FN(reverse)
{
    size_t len = cel_len(e, &args[0]);
    struct cel_value out = cel_list_new(e, len);
    while (len-- > 0 && cel_work(e, 1))
        cel_list_add(e, &out, cel_item(e, &args[0], len));
    return out;
}

FN(distinct)
{
    size_t len = cel_len(e, &args[0]);
    struct cel_value out = cel_list_new(e, 0), seen = map_new(e, 0);
    for (size_t i = 0; i < len && !e->cancelled; i++) {
        struct cel_value item = cel_item(e, &args[0], i);
        if (map_add(e, &seen, item, cel_of_bool(true)))
            cel_list_add(e, &out, item);
    }
    return out;
}

/* ---- costs: the call, a list, and what it takes -------------------------------------------------------------------------------------------------------- */
#define BASE 11

static uint64_t cost_output(struct cel_eval *e, const struct cel_value *args, size_t n, const struct cel_value *result)
{
    return BASE + value_size(e, result);
}

static uint64_t cost_flatten(struct cel_eval *e, const struct cel_value *args, size_t n, const struct cel_value *result)
{
    uint64_t depth = n == 2 ? (uint64_t)KP_MAX(args[1].integer, (int64_t)0) : 1, size = value_size(e, &args[0]);
    return depth > UINT32_MAX ? UINT64_MAX / 2 : BASE + depth * size;
}

static uint64_t compare_all(struct cel_eval *e, const struct cel_value *list)
{
    uint64_t size = value_size(e, list);
    struct cel_value first = size ? cel_item(e, list, 0) : (struct cel_value){0};
    bool text = first.kind == CEL_STRING || first.kind == CEL_BYTES;
    return BASE + (uint64_t)((double)(size * size) * (text ? 2.1 : 2.0));
}

static uint64_t cost_compare_all(struct cel_eval *e, const struct cel_value *args, size_t n, const struct cel_value *result)
{
    return compare_all(e, &args[0]);
}

static uint64_t cost_compare_keys(struct cel_eval *e, const struct cel_value *args, size_t n, const struct cel_value *result)
{
    return compare_all(e, &args[1]);
}

#define SORT(type, list) OVERLOAD("sort", "list_" type "_sort", true, sort, cost_compare_all, list, &list)
#define SORT_BY(type, list) OVERLOAD("@sortByAssociatedKeys", "list_" type "_sortByAssociatedKeys", true, sort_by, cost_compare_keys, list_a, &list_a, &list)
static const struct cel_overload overloads[] = {
    OVERLOAD("slice", "list_slice", true, slice, cost_output, list_a, &list_a, &cel_int, &cel_int),
    OVERLOAD("flatten", "list_flatten", true, flatten, cost_flatten, list_a, &list_list_a),
    OVERLOAD("flatten", "list_flatten_int", true, flatten_depth, cost_flatten, list_dyn, &list_dyn, &cel_int),
    SORT("int", list_int), SORT("uint", list_uint), SORT("double", list_double), SORT("bool", list_bool), SORT("duration", list_duration),
    SORT("timestamp", list_timestamp), SORT("string", list_string), SORT("bytes", list_bytes),
    SORT_BY("int", list_int), SORT_BY("uint", list_uint), SORT_BY("double", list_double), SORT_BY("bool", list_bool), SORT_BY("duration", list_duration),
    SORT_BY("timestamp", list_timestamp), SORT_BY("string", list_string), SORT_BY("bytes", list_bytes),
    OVERLOAD("lists.range", "lists_range", false, range, cost_output, list_int, &cel_int),
    OVERLOAD("reverse", "list_reverse", true, reverse, cost_output, list_a, &list_a),
    OVERLOAD("distinct", "list_distinct", true, distinct, cost_compare_all, list_a, &list_a),
};
const struct cel_library library_lists_ext = {overloads, KP_ARRAY_LEN(overloads)};
