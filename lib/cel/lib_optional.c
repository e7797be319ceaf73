/* Optional values, and what the folds of macros use (cel-go cel/library.go, ext/comprehensions.go). */
#include "lib/cel/cel_internal.h"

#define FN(name) static struct cel_value name(struct cel_eval *e, const struct cel_value *args)

FN(of)
{
    return cel_optional(e, args[0]);
}

static bool is_zero(struct cel_eval *e, const struct cel_value *v)
{
    switch (v->kind) {
    case CEL_NULL:
        return true;
    case CEL_BOOL:
        return !v->boolean;
    case CEL_INT:
    case CEL_DURATION:
        return v->integer == 0;
    case CEL_UINT:
        return v->uinteger == 0;
    case CEL_DOUBLE:
        return v->number == 0;
    case CEL_STRING:
    case CEL_BYTES:
        return v->text.len == 0;
    case CEL_TIMESTAMP:
        return v->integer == TIMESTAMP_MIN && v->nanos == 0;
    case CEL_LIST:
    case CEL_MAP:
        return cel_len(e, v) == 0;
    case CEL_OPTIONAL:
        return !v->optional || is_zero(e, v->optional);
    default:
        return false;
    }
}

FN(of_non_zero)
{
    return is_zero(e, &args[0]) ? cel_none() : cel_optional(e, args[0]);
}

FN(none)
{
    return cel_none();
}

FN(value)
{
    return args[0].optional ? *args[0].optional : cel_fail(e, "optional.none() dereference");
}

FN(has_value)
{
    return cel_of_bool(args[0].optional != NULL);
}

/* Where the argument's type is known at run time alone: both arguments are there already. */
FN(or)
{
    return args[0].optional ? args[0] : args[1];
}

FN(or_value)
{
    return args[0].optional ? *args[0].optional : args[1];
}

FN(first)
{
    return cel_len(e, &args[0]) ? cel_optional(e, cel_item(e, &args[0], 0)) : cel_none();
}

FN(last)
{
    size_t len = cel_len(e, &args[0]);
    return len ? cel_optional(e, cel_item(e, &args[0], len - 1)) : cel_none();
}

FN(unwrap)
{
    size_t len = cel_len(e, &args[0]);
    struct cel_value out = cel_list_new(e, len);
    for (size_t i = 0; i < len; i++) {
        struct cel_value item = cel_item(e, &args[0], i);
        if (item.kind != CEL_OPTIONAL)
            return cel_fail(e, "value %s is not optional", runtime_type_name(&item));
        if (item.optional)
            cel_list_add(e, &out, *item.optional);
    }
    return out;
}

static const struct cel_overload optional_overloads[] = {
    OVERLOAD("optional.of", "optional_of", false, of, NULL, optional_a, &type_a),
    OVERLOAD("optional.ofNonZeroValue", "optional_ofNonZeroValue", false, of_non_zero, NULL, optional_a, &type_a),
    {.name = "optional.none", .id = "optional_none", .function = none, .result = &optional_a},
    OVERLOAD("value", "optional_value", true, value, NULL, type_a, &optional_a),
    OVERLOAD("hasValue", "optional_hasValue", true, has_value, NULL, cel_bool, &optional_a),
    OVERLOAD("or", "optional_or_optional", true, or, NULL, optional_a, &optional_a, &optional_a),
    OVERLOAD("orValue", "optional_orValue_value", true, or_value, NULL, type_a, &optional_a, &type_a),
    OVERLOAD("first", "list_first", true, first, NULL, optional_a, &list_a),
    OVERLOAD("last", "list_last", true, last, NULL, optional_a, &list_a),
    OVERLOAD("optional.unwrap", "optional_unwrap", false, unwrap, NULL, list_a, &list_optional_a),
    OVERLOAD("unwrapOpt", "optional_unwrapOpt", true, unwrap, NULL, list_a, &list_optional_a),
};
const struct cel_library library_optional = {optional_overloads, KP_ARRAY_LEN(optional_overloads)};

/* ---- entries of maps that a fold makes ------------------------------------------------------------------------------------------------------------------- */
/* The accumulator is nobody else's: it grows in place. A constant one is the fold's beginning, and copied. */
static struct cel_value own_map(struct cel_eval *e, const struct cel_value *map)
{
    struct map_walk walk = {0};
    struct cel_value key, item;
    if (!map->is_tree && map->map->len > 0)
        return *map;
    struct cel_value out = map_new(e, 0);
    while (map_next(e, map, &walk, &key, &item))
        map_add(e, &out, key, item);
    return out;
}

static struct cel_value insert(struct cel_eval *e, struct cel_value *map, struct cel_value key, struct cel_value item)
{
    if (map_add(e, map, key, item) || e->cancelled)
        return *map;
    KP_AUTO(kp_arena_free) struct kp_arena *scratch = kp_arena_new(0);
    return cel_fail(e, "insert failed: key %s already exists", value_describe(&key, scratch));
}

FN(insert_entry)
{
    struct cel_value map = own_map(e, &args[0]);
    return insert(e, &map, args[1], args[2]);
}

FN(insert_map)
{
    struct cel_value map = own_map(e, &args[0]), key, item;
    struct map_walk walk = {0};
    while (!is_error(&map) && map_next(e, &args[1], &walk, &key, &item))
        map = insert(e, &map, key, item);
    return map;
}

static const struct cel_overload fold_overloads[] = {
    OVERLOAD("cel.@mapInsert", "@mapInsert_map_key_value", false, insert_entry, NULL, map_ab, &map_ab, &type_a, &type_b),
    OVERLOAD("cel.@mapInsert", "@mapInsert_map_map", false, insert_map, NULL, map_ab, &map_ab, &map_ab),
};
const struct cel_library library_fold = {fold_overloads, KP_ARRAY_LEN(fold_overloads)};
