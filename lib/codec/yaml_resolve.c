/* What a plain YAML scalar means: the YAML 1.1 words and numbers that Go's yaml.v2, and so every Kubernetes client, knows. */
#include "codec/codec_internal.h"

#include <errno.h>
#include <math.h>

static bool is_one_of(const char *text, const char *const *words)
{
    for (; *words; words++)
        if (strcmp(text, *words) == 0)
            return true;
    return false;
}

/* Digits of a base, after underscores are gone; a uint64 beyond int64 becomes a double as JSON numbers do. */
static bool parse_integer(const char *text, struct kp_value *ret)
{
    bool negative = *text == '-';
    const char *digits = text + (*text == '-' || *text == '+');
    int base = 10;
    if (digits[0] == '0' && digits[1]) {
        char c = (char)(digits[1] | 32);
        base = c == 'x' ? 16 : c == 'b' ? 2 : 8;
        digits += c == 'x' || c == 'b' || c == 'o' ? 2 : 1;
    }
    const char *allowed = base == 16 ? "0123456789abcdefABCDEF" : base == 2 ? "01" : base == 8 ? "01234567" : "0123456789";
    if (!*digits || strspn(digits, allowed) != strlen(digits))
        return false;
    errno = 0;
    unsigned long long value = strtoull(digits, NULL, base);
    if (errno == ERANGE)
        return false;
    if (value > (unsigned long long)INT64_MAX + (negative ? 1 : 0)) {
        if (negative)
            return false;
        ret->kind = KP_VALUE_DOUBLE;
        ret->number = (double)value;
        return true;
    }
    ret->kind = KP_VALUE_INT;
    ret->integer = negative ? (int64_t)(0 - value) : (int64_t)value;
    return true;
}

/* [-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)? */
static bool looks_like_float(const char *s)
{
    s += *s == '-' || *s == '+';
    size_t whole = strspn(s, "0123456789");
    s += whole;
    if (*s == '.') {
        size_t fraction = strspn(++s, "0123456789");
        if (whole + fraction == 0)
            return false;
        s += fraction;
    } else if (whole == 0) {
        return false;
    }
    if ((*s | 32) == 'e') {
        s++;
        s += *s == '-' || *s == '+';
        size_t exponent = strspn(s, "0123456789");
        if (exponent == 0)
            return false;
        s += exponent;
    }
    return *s == '\0';
}

static bool parse_number(const char *text, struct kp_value *ret, bool *ret_bad)
{
    static const char *const no_json[] = {".inf", ".Inf", ".INF", "+.inf", "+.Inf", "+.INF", "-.inf", "-.Inf", "-.INF", NULL};
    char plain[256];
    size_t n = 0;
    *ret_bad = is_one_of(text, no_json);
    if (*ret_bad)
        return false;
    for (const char *c = text; *c; c++) {
        if (*c == '_')
            continue;
        if (n + 1 == sizeof(plain))
            return false;
        plain[n++] = *c;
    }
    plain[n] = '\0';
    if (parse_integer(plain, ret))
        return true;
    if (!looks_like_float(plain))
        return false;
    ret->kind = KP_VALUE_DOUBLE;
    ret->number = strtod(plain, NULL);
    *ret_bad = !isfinite(ret->number);
    return !*ret_bad;
}

bool kp_yaml_resolve(const char *text, struct kp_value *ret)
{
    static const char *const nulls[] = {"", "~", "null", "Null", "NULL", NULL};
    static const char *const trues[] = {"y", "Y", "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON", NULL};
    static const char *const falses[] = {"n", "N", "no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF", NULL};
    static const char *const nans[] = {".nan", ".NaN", ".NAN", NULL};
    bool bad = false;
    if (is_one_of(text, nulls)) {
        ret->kind = KP_VALUE_NULL;
    } else if (is_one_of(text, trues) || is_one_of(text, falses)) {
        ret->kind = KP_VALUE_BOOL;
        ret->boolean = is_one_of(text, trues);
    } else if (is_one_of(text, nans)) {
        return false;
    } else if (!strchr("+-.0123456789", *text) || !parse_number(text, ret, &bad)) {
        ret->kind = KP_VALUE_STRING;
        ret->string = text;
    }
    return !bad;
}
