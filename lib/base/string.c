/* String comparison and the parsing of numbers and durations. */
#include "lib/base/base.h"

#include <ctype.h>

bool kp_streq(const char *a, const char *b)
{
    if (!a || !b)
        return a == b;
    return strcmp(a, b) == 0;
}

bool kp_starts_with(const char *s, const char *prefix)
{
    return s && strncmp(s, prefix, strlen(prefix)) == 0;
}

bool kp_ends_with(const char *s, const char *suffix)
{
    if (!s)
        return false;
    size_t len = strlen(s), suffix_len = strlen(suffix);
    return len >= suffix_len && memcmp(s + len - suffix_len, suffix, suffix_len) == 0;
}

bool kp_empty(const char *s)
{
    return !s || !*s;
}

int kp_parse_u64(const char *s, uint64_t *ret_value)
{
    if (kp_empty(s))
        return KP_EBADREQUEST;
    uint64_t value = 0;
    for (; *s; s++) {
        if (*s < '0' || *s > '9')
            return KP_EBADREQUEST;
        if (__builtin_mul_overflow(value, (uint64_t)10, &value) ||
            __builtin_add_overflow(value, (uint64_t)(*s - '0'), &value))
            return KP_EBADREQUEST;
    }
    *ret_value = value;
    return 0;
}

int kp_parse_i64(const char *s, int64_t *ret_value)
{
    if (kp_empty(s))
        return KP_EBADREQUEST;
    bool negative = *s == '-';
    if (*s == '-' || *s == '+')
        s++;
    uint64_t magnitude;
    if (kp_parse_u64(s, &magnitude) < 0)
        return KP_EBADREQUEST;
    uint64_t limit = (uint64_t)INT64_MAX + (negative ? 1 : 0);
    if (magnitude > limit)
        return KP_EBADREQUEST;
    *ret_value = negative ? (int64_t)(0 - magnitude) : (int64_t)magnitude;
    return 0;
}

/* Reads a unit of Go's duration syntax at *s and moves past it; 0 when there is none. */
static int64_t duration_unit_ns(const char **s)
{
    static const struct {
        const char *name;
        int64_t ns;
    } units[] = {
        {"ns", 1},        {"us", 1000},         {"\xc2\xb5s", 1000},      {"\xce\xbcs", 1000},
        {"ms", 1000000},  {"s", 1000000000},    {"m", 60 * 1000000000LL}, {"h", 3600 * 1000000000LL},
    };
    for (size_t i = 0; i < KP_ARRAY_LEN(units); i++) {
        if (kp_starts_with(*s, units[i].name)) {
            *s += strlen(units[i].name);
            return units[i].ns;
        }
    }
    return 0;
}

/* One number with its unit, as "3.5s"; adds it to *total. */
static int duration_term(const char **s, int64_t *total)
{
    const char *p = *s;
    int64_t whole = 0;
    size_t digits = 0;
    for (; isdigit((unsigned char)*p); p++, digits++) {
        if (__builtin_mul_overflow(whole, (int64_t)10, &whole) ||
            __builtin_add_overflow(whole, (int64_t)(*p - '0'), &whole))
            return KP_EBADREQUEST;
    }
    long double fraction = 0, scale = 1;
    if (*p == '.') {
        for (p++; isdigit((unsigned char)*p); p++, digits++) {
            scale /= 10;
            fraction += scale * (*p - '0');
        }
    }
    if (!digits)
        return KP_EBADREQUEST;
    int64_t unit = duration_unit_ns(&p);
    if (!unit)
        return KP_EBADREQUEST;
    int64_t ns;
    if (__builtin_mul_overflow(whole, unit, &ns) ||
        __builtin_add_overflow(ns, (int64_t)(fraction * (long double)unit + 0.5L * (fraction > 0 ? 1e-6L : 0)), &ns) ||
        __builtin_add_overflow(*total, ns, total))
        return KP_EBADREQUEST;
    *s = p;
    return 0;
}

int kp_parse_duration_ns(const char *s, int64_t *ret_ns)
{
    if (kp_empty(s))
        return KP_EBADREQUEST;
    bool negative = *s == '-';
    if (*s == '-' || *s == '+')
        s++;
    if (strcmp(s, "0") == 0) {
        *ret_ns = 0;
        return 0;
    }
    if (!*s)
        return KP_EBADREQUEST;
    int64_t total = 0;
    while (*s) {
        if (duration_term(&s, &total) < 0)
            return KP_EBADREQUEST;
    }
    *ret_ns = negative ? -total : total;
    return 0;
}

/* "12.5" of 12500 thousandths: the fraction without zeros at its end. */
static void put_fraction(char *out, size_t size, uint64_t value, uint64_t unit)
{
    char digits[16];
    int len = snprintf(digits, sizeof(digits), "%09llu", (unsigned long long)(value % unit * (1000000000 / unit)));
    while (len > 0 && digits[len - 1] == '0')
        digits[--len] = '\0';
    snprintf(out, size, "%llu%s%s", (unsigned long long)(value / unit), len ? "." : "", digits);
}

void kp_format_duration(char out[KP_DURATION_MAX], int64_t ns)
{
    uint64_t n = ns < 0 ? -(uint64_t)ns : (uint64_t)ns, minutes = n / 60000000000U;
    const char *sign = ns < 0 ? "-" : "";
    char number[24];
    if (n == 0) {
        snprintf(out, KP_DURATION_MAX, "0s");
    } else if (n < 1000000000) {
        put_fraction(number, sizeof(number), n, n < 1000 ? 1 : n < 1000000 ? 1000 : 1000000);
        snprintf(out, KP_DURATION_MAX, "%s%s%s", sign, number, n < 1000 ? "ns" : n < 1000000 ? "\u00b5s" : "ms");
    } else {
        put_fraction(number, sizeof(number), n % 60000000000U, 1000000000);
        if (minutes >= 60)
            snprintf(out, KP_DURATION_MAX, "%s%lluh%llum%ss", sign, (unsigned long long)(minutes / 60), (unsigned long long)(minutes % 60), number);
        else if (minutes)
            snprintf(out, KP_DURATION_MAX, "%s%llum%ss", sign, (unsigned long long)minutes, number);
        else
            snprintf(out, KP_DURATION_MAX, "%s%ss", sign, number);
    }
}

bool kp_equal_constant_time(const void *a, const void *b, size_t len)
{
    const volatile unsigned char *x = a, *y = b;
    unsigned char difference = 0;
    for (size_t i = 0; i < len; i++)
        difference |= (unsigned char)(x[i] ^ y[i]);
    return difference == 0;
}

uint64_t kp_hash64(const void *data, size_t len)
{
    const unsigned char *p = data;
    uint64_t hash = 0xcbf29ce484222325ULL;
    for (size_t i = 0; i < len; i++)
        hash = (hash ^ p[i]) * 0x100000001b3ULL;
    return hash;
}
