/* Limits of strings and numbers. */
#include "controlplane/apiserver/structural/structural_internal.h"

#include <float.h>
#include <math.h>

static int64_t characters(const char *s)
{
    int64_t n = 0;
    for (; *s; s++)
        n += ((unsigned char)*s & 0xc0) != 0x80;
    return n;
}

/* Of length and pattern the first fault is told, as upstream does; then the format's. */
static void validate_text(const struct snode *node, const char *text, const struct spath *path, struct verdict *verdict)
{
    const struct kp_value value = {.kind = KP_VALUE_STRING, .string = text};
    if (node->max_length >= 0 && characters(text) > node->max_length)
        verdict_message(verdict, path, "FieldValueTooLong", "Too long: may not be more than %lld %s", (long long)node->max_length,
                        node->max_length == 1 ? "byte" : "bytes");
    else if (node->min_length > 0 && characters(text) < node->min_length)
        verdict_invalid(verdict, path, "FieldValueInvalid", &value, "should be at least %lld chars long", (long long)node->min_length);
    else if (node->pattern && !kp_pattern_matches(node->pattern, text, strlen(text)))
        verdict_invalid(verdict, path, "FieldValueInvalid", &value, "should match '%s'", node->pattern_text);
}

void validate_string(const struct snode *node, const char *text, const struct spath *path, struct verdict *verdict)
{
    validate_text(node, text, path, verdict);
    if (!node->format_check)
        return;
    verdict->matches++;
    if (node->format_check(text))
        return;
    const struct kp_value value = {.kind = KP_VALUE_STRING, .string = text};
    verdict->invalid = true;
    if (verdict->errors && verdict->errors->len < FIELD_ERRORS_MAX)
        verdict_invalid(verdict, path, "FieldValueTypeInvalid", &value, "must be of type %s: %s", node->format, quoted_text(text, verdict->errors->arena));
}

/* ---- numbers --------------------------------------------------------------------------------------------------------------------- */
#define INTEGER_EXACT_MAX 9007199254740991.0 /* 2^53 - 1: doubles tell all integers apart up to here */

bool double_is_integer(double d)
{
    return fabs(d) <= INTEGER_EXACT_MAX && d == floor(d);
}

/* -1, 0 or 1; long double holds every integer and every double. */
static int compare(const struct kp_value *value, double limit)
{
    long double v = value->kind == KP_VALUE_INT ? (long double)value->integer : (long double)value->number;
    return (v > limit) - (v < limit);
}

/* A limit, as Go prints what it compared with: an integer beside integers. */
static void limit_text(const struct kp_value *value, double limit, char out[DOUBLE_TEXT_MAX])
{
    if (value->kind == KP_VALUE_INT && limit == floor(limit) && fabs(limit) < 9e18)
        snprintf(out, DOUBLE_TEXT_MAX, "%lld", (long long)limit);
    else
        double_text(limit, out);
}

static bool is_multiple(const struct kp_value *value, double factor)
{
    if (value->kind == KP_VALUE_INT && factor == floor(factor) && factor < 9e18)
        return value->integer % (int64_t)factor == 0;
    double data = value->kind == KP_VALUE_INT ? (double)value->integer : value->number;
    double times = factor < 1 ? 1 / factor * data : data / factor;
    return fabs(times) <= INTEGER_EXACT_MAX && fabs(times - round(times)) <= 1e-9 * fmax(1, fabs(times));
}

static void validate_multiple(const struct snode *node, const struct kp_value *value, const struct spath *path, struct verdict *verdict)
{
    char text[DOUBLE_TEXT_MAX];
    limit_text(value, node->multiple_of, text);
    if (node->multiple_of > 0) {
        if (!is_multiple(value, node->multiple_of))
            verdict_invalid(verdict, path, "FieldValueInvalid", value, "should be a multiple of %s", text);
        return;
    }
    verdict->invalid = true;
    if (verdict->errors && verdict->errors->len < FIELD_ERRORS_MAX)
        verdict_message(verdict, path, "FieldValueInvalid", "Invalid value: %s: factor MultipleOf declared for %s must be positive: %s", text,
                        spath_text(path, verdict->errors->arena), text);
}

/* The range of the format, whose fault has no field of its own. */
static void validate_range(const struct snode *node, const struct kp_value *value, const struct spath *path, struct verdict *verdict)
{
    if (!node->format || node->int_or_string)
        return;
    bool fits = true;
    if (node->types == TYPE_INTEGER && strcmp(node->format, "int32") == 0)
        fits = compare(value, INT32_MIN) >= 0 && compare(value, INT32_MAX) <= 0;
    else if (node->types == TYPE_NUMBER && strcmp(node->format, "float") == 0)
        fits = compare(value, -FLT_MAX) >= 0 && compare(value, FLT_MAX) <= 0;
    if (fits)
        return;
    verdict->invalid = true;
    if (verdict->errors && verdict->errors->len < FIELD_ERRORS_MAX)
        verdict_message(verdict, &SPATH_ROOT(""), "FieldValueInvalid", "Invalid value: \"\": Checked value must be of type %s with format %s in %s",
                        node->type_text, node->format, spath_text(path, verdict->errors->arena));
}

void validate_number(const struct snode *node, const struct kp_value *value, const struct spath *path, struct verdict *verdict)
{
    char text[DOUBLE_TEXT_MAX];
    validate_range(node, value, path, verdict);
    if (node->has_multiple_of)
        validate_multiple(node, value, path, verdict);
    if (node->has_minimum && compare(value, node->minimum) < !!node->exclusive_minimum) {
        limit_text(value, node->minimum, text);
        verdict_invalid(verdict, path, "FieldValueInvalid", value, "should be greater than %s%s", node->exclusive_minimum ? "" : "or equal to ", text);
    }
    if (node->has_maximum && compare(value, node->maximum) > -!!node->exclusive_maximum) {
        limit_text(value, node->maximum, text);
        verdict_invalid(verdict, path, "FieldValueInvalid", value, "should be less than %s%s", node->exclusive_maximum ? "" : "or equal to ", text);
    }
    verdict->matches++;
}
