/* Quantities: "100m", "1.5Gi" (k8s.io/apiserver pkg/cel/library/quantity.go). */
#include "lib/cel/cel_internal.h"

#define FN(name) static struct cel_value name(struct cel_eval *e, const struct cel_value *args)
#define NANO 1000000000

static const struct kp_quantity *quantity_of(const struct cel_value *v)
{
    return v->object.data;
}

static bool same_quantity(const void *a, const void *b)
{
    return kp_quantity_cmp(a, b) == 0;
}

static const struct cel_class quantity_class = {.type = &quantity_type, .equal = same_quantity};

static struct cel_value of_quantity(struct cel_eval *e, const struct kp_quantity *quantity)
{
    struct kp_quantity *copy = cel_alloc(e, sizeof(*copy));
    if (!copy)
        return cel_of_null();
    *copy = *quantity;
    return cel_of_object(&quantity_class, copy);
}

static bool parse(const struct cel_value *text, struct kp_quantity *ret, struct kp_error *error)
{
    KP_AUTO_FREE char *copy = kp_strndup(text->text.data, text->text.len);
    if (strlen(copy) != text->text.len) {
        kp_fail(error, KP_EINVALID, "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'");
        return false;
    }
    return kp_quantity_parse(copy, ret, error) == 0;
}

FN(quantity)
{
    struct kp_quantity made;
    struct kp_error error = {0};
    return parse(&args[0], &made, &error) ? of_quantity(e, &made) : cel_fail(e, "%s", error.message);
}

FN(is_quantity)
{
    struct kp_quantity made;
    struct kp_error error = {0};
    return cel_of_bool(parse(&args[0], &made, &error));
}

FN(sign)
{
    const struct kp_quantity *q = quantity_of(&args[0]);
    return cel_of_int(q->nanos < 0 ? -1 : q->nanos > 0);
}

FN(is_integer)
{
    const struct kp_quantity *q = quantity_of(&args[0]);
    return cel_of_bool(q->nanos % NANO == 0 && q->nanos / NANO <= INT64_MAX && q->nanos / NANO >= INT64_MIN);
}

FN(as_integer)
{
    return is_integer(e, args).boolean ? cel_of_int((int64_t)(quantity_of(&args[0])->nanos / NANO)) : cel_fail(e, "cannot convert value to integer");
}

FN(as_float)
{
    return cel_of_double((double)quantity_of(&args[0])->nanos / NANO);
}

FN(compare)
{
    return cel_of_int(kp_quantity_cmp(quantity_of(&args[0]), quantity_of(&args[1])));
}

FN(is_greater)
{
    return cel_of_bool(compare(e, args).integer > 0);
}

FN(is_less)
{
    return cel_of_bool(compare(e, args).integer < 0);
}

FN(add)
{
    struct kp_quantity sum = *quantity_of(&args[0]);
    kp_quantity_add(&sum, quantity_of(&args[1]));
    return of_quantity(e, &sum);
}

FN(sub)
{
    struct kp_quantity rest = *quantity_of(&args[0]);
    kp_quantity_sub(&rest, quantity_of(&args[1]));
    return of_quantity(e, &rest);
}

FN(add_int)
{
    struct kp_quantity sum = *quantity_of(&args[0]), more = kp_quantity_from_i64(args[1].integer, KP_QUANTITY_DECIMAL_EXPONENT);
    kp_quantity_add(&sum, &more);
    return of_quantity(e, &sum);
}

FN(sub_int)
{
    struct kp_quantity rest = *quantity_of(&args[0]), less = kp_quantity_from_i64(args[1].integer, KP_QUANTITY_DECIMAL_EXPONENT);
    kp_quantity_sub(&rest, &less);
    return of_quantity(e, &rest);
}

static const struct cel_overload overloads[] = {
    OVERLOAD("quantity", "string_to_quantity", false, quantity, cost_first, quantity_type, &cel_string),
    OVERLOAD("isQuantity", "is_quantity_string", false, is_quantity, cost_first, cel_bool, &cel_string),
    OVERLOAD("sign", "quantity_sign", false, sign, NULL, cel_int, &quantity_type),
    OVERLOAD("isGreaterThan", "quantity_is_greater_than", true, is_greater, NULL, cel_bool, &quantity_type, &quantity_type),
    OVERLOAD("isLessThan", "quantity_is_less_than", true, is_less, NULL, cel_bool, &quantity_type, &quantity_type),
    OVERLOAD("compareTo", "quantity_compare_to", true, compare, NULL, cel_int, &quantity_type, &quantity_type),
    OVERLOAD("asApproximateFloat", "quantity_get_float", true, as_float, NULL, cel_double, &quantity_type),
    OVERLOAD("asInteger", "quantity_get_int", true, as_integer, NULL, cel_int, &quantity_type),
    OVERLOAD("isInteger", "quantity_is_integer", true, is_integer, NULL, cel_bool, &quantity_type),
    OVERLOAD("add", "quantity_add", true, add, NULL, quantity_type, &quantity_type, &quantity_type),
    OVERLOAD("add", "quantity_add_int", true, add_int, NULL, quantity_type, &quantity_type, &cel_int),
    OVERLOAD("sub", "quantity_sub", true, sub, NULL, quantity_type, &quantity_type, &quantity_type),
    OVERLOAD("sub", "quantity_sub_int", true, sub_int, NULL, quantity_type, &quantity_type, &cel_int),
};
const struct cel_library library_quantity = {overloads, KP_ARRAY_LEN(overloads)};
