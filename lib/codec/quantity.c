/* Kubernetes quantities: exact fixed-point numbers with a suffix, printed in one canonical form. */
#include "codec/codec_internal.h"

typedef __int128 i128;

#define NANO_DIGITS 9
#define NANOS_PER_UNIT 1000000000LL
#define NANOS_MAX ((i128)INT64_MAX * NANOS_PER_UNIT)
#define CAP_DIGITS 28 /* decimal digits of NANOS_MAX; a number with more exceeds it */

static const char format_wrong[] = "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'";

struct parts {
    bool negative;
    const char *whole, *fraction; /* digits */
    size_t whole_len, fraction_len;
    const char *suffix;
    size_t suffix_len;
};

static int split(const char *s, struct parts *parts, struct kp_error *error)
{
    *parts = (struct parts){.negative = *s == '-'};
    s += *s == '-' || *s == '+';
    const char *number = s;
    while (*s == '0')
        s++;
    parts->whole = s;
    s += parts->whole_len = strspn(s, "0123456789");
    if (*s == '.') {
        parts->fraction = ++s;
        s += parts->fraction_len = strspn(s, "0123456789");
    }
    if (s == number)
        return kp_fail(error, KP_EBADREQUEST, "%s", format_wrong);
    parts->suffix = s;
    s += strspn(s, "eEinumkKMGTP");
    s += *s == '-' || *s == '+';
    s += strspn(s, "0123456789");
    parts->suffix_len = (size_t)(s - parts->suffix);
    return *s ? kp_fail(error, KP_EBADREQUEST, "%s", format_wrong) : 0;
}

static const struct suffix {
    const char *text;
    bool binary;
    int exponent;
} suffixes[] = {
    {"", false, 0},    {"n", false, -9},  {"u", false, -6},  {"m", false, -3},  {"k", false, 3},   {"M", false, 6},
    {"G", false, 9},   {"T", false, 12},  {"P", false, 15},  {"E", false, 18},  {"Ki", true, 10},  {"Mi", true, 20},
    {"Gi", true, 30},  {"Ti", true, 40},  {"Pi", true, 50},  {"Ei", true, 60},
};

static int parse_suffix(const struct parts *parts, enum kp_quantity_format *ret_format, bool *ret_binary, int64_t *ret_exponent,
                        struct kp_error *error)
{
    for (size_t i = 0; i < KP_ARRAY_LEN(suffixes); i++) {
        if (strlen(suffixes[i].text) != parts->suffix_len || memcmp(suffixes[i].text, parts->suffix, parts->suffix_len) != 0)
            continue;
        *ret_binary = suffixes[i].binary;
        *ret_format = suffixes[i].binary ? KP_QUANTITY_BINARY_SI : KP_QUANTITY_DECIMAL_SI;
        *ret_exponent = suffixes[i].exponent;
        return 0;
    }
    char text[16];
    size_t len = parts->suffix_len;
    if (len < 2 || len > sizeof(text) || (parts->suffix[0] | 32) != 'e')
        return kp_fail(error, KP_EBADREQUEST, "unable to parse quantity's suffix");
    size_t plus = parts->suffix[1] == '+' ? 1 : 0;
    memcpy(text, parts->suffix + 1 + plus, len - 1 - plus);
    text[len - 1 - plus] = '\0';
    if (kp_parse_i64(text, ret_exponent) < 0 || *ret_exponent > INT32_MAX || *ret_exponent < INT32_MIN)
        return kp_fail(error, KP_EBADREQUEST, "unable to parse quantity's suffix");
    *ret_binary = false;
    *ret_format = KP_QUANTITY_DECIMAL_EXPONENT;
    return 0;
}

/* The digits of both parts as one string. */
static char digit_at(const struct parts *parts, size_t i)
{
    return i < parts->whole_len ? parts->whole[i] : parts->fraction[i - parts->whole_len];
}

/* digits * 10^(exponent + 9 - fraction digits), rounded up, capped. */
static i128 decimal_nanos(const struct parts *parts, int64_t exponent)
{
    size_t total = parts->whole_len + parts->fraction_len, zeros = 0;
    while (zeros < total && digit_at(parts, zeros) == '0')
        zeros++;
    if (zeros == total)
        return 0;
    int64_t len = (int64_t)(total - zeros), shift = exponent + NANO_DIGITS - (int64_t)parts->fraction_len;
    if (len + shift > CAP_DIGITS)
        return NANOS_MAX;
    if (len + shift <= 0)
        return 1; /* some, but less than we can tell: the least there is */
    int64_t kept = shift < 0 ? len + shift : len;
    i128 value = 0;
    for (int64_t i = 0; i < kept; i++)
        value = value * 10 + (digit_at(parts, zeros + (size_t)i) - '0');
    bool rest = false;
    for (int64_t i = kept; i < len; i++)
        rest |= digit_at(parts, zeros + (size_t)i) != '0';
    for (int64_t i = 0; i < shift; i++)
        value *= 10;
    return KP_MIN(value + (rest ? 1 : 0), NANOS_MAX);
}

/* whole.fraction * 2^exponent in nanos, rounded up, capped. */
static i128 binary_nanos(const struct parts *parts, int exponent)
{
    i128 whole = 0, fraction = 0, divisor = 1;
    if (parts->whole_len > 20)
        return NANOS_MAX;
    for (size_t i = 0; i < parts->whole_len; i++)
        whole = whole * 10 + (parts->whole[i] - '0');
    if (whole > ((i128)INT64_MAX >> exponent))
        return NANOS_MAX;
    bool rest = false;
    size_t used = KP_MIN(parts->fraction_len, (size_t)18);
    for (size_t i = 0; i < parts->fraction_len; i++) {
        if (i < used)
            fraction = fraction * 10 + (parts->fraction[i] - '0');
        else
            rest |= parts->fraction[i] != '0';
    }
    for (size_t i = used; i < NANO_DIGITS; i++)
        fraction *= 10;
    for (size_t i = NANO_DIGITS; i < used; i++)
        divisor *= 10;
    fraction <<= exponent; /* at most 10^18 * 2^60 < 2^120 */
    rest |= fraction % divisor != 0;
    i128 value = ((whole << exponent) * NANOS_PER_UNIT) + fraction / divisor + (rest ? 1 : 0);
    return KP_MIN(value, NANOS_MAX);
}

int kp_quantity_parse(const char *s, struct kp_quantity *ret, struct kp_error *error)
{
    struct parts parts;
    int64_t exponent;
    bool binary = false;
    enum kp_quantity_format format = KP_QUANTITY_DECIMAL_SI;
    if (!s || !*s)
        return kp_fail(error, KP_EBADREQUEST, "%s", format_wrong);
    int rc = split(s, &parts, error);
    if (rc == 0)
        rc = parse_suffix(&parts, &format, &binary, &exponent, error);
    if (rc < 0)
        return rc;
    i128 nanos = binary ? binary_nanos(&parts, (int)exponent) : decimal_nanos(&parts, exponent);
    if (binary && nanos > 0 && nanos < NANOS_PER_UNIT)
        format = KP_QUANTITY_DECIMAL_SI; /* less than one byte has no binary suffix */
    *ret = (struct kp_quantity){.nanos = parts.negative ? -nanos : nanos, .format = format};
    return 0;
}

bool kp_quantity_valid(const char *s)
{
    struct kp_quantity q;
    return kp_quantity_parse(s, &q, NULL) == 0;
}

static char *print_i128(i128 value, char *end)
{
    bool negative = value < 0;
    unsigned __int128 rest = negative ? -(unsigned __int128)value : (unsigned __int128)value;
    *--end = '\0';
    do {
        *--end = (char)('0' + (int)(rest % 10));
        rest /= 10;
    } while (rest > 0);
    if (negative)
        *--end = '-';
    return end;
}

static void print_binary(i128 units, char out[KP_QUANTITY_MAX])
{
    char digits[48];
    int power = 0;
    while (units % 1024 == 0 && power < 6) {
        units /= 1024;
        power++;
    }
    static const char *const names[] = {"", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"};
    snprintf(out, KP_QUANTITY_MAX, "%s%s", print_i128(units, digits + sizeof(digits)), names[power]);
}

void kp_quantity_format(const struct kp_quantity *q, char out[KP_QUANTITY_MAX])
{
    char digits[48];
    i128 value = q->nanos;
    enum kp_quantity_format format = q->format;
    if (value == 0) {
        snprintf(out, KP_QUANTITY_MAX, "0");
        return;
    }
    bool whole = value % NANOS_PER_UNIT == 0;
    i128 units = value / NANOS_PER_UNIT;
    if (format == KP_QUANTITY_BINARY_SI && whole && (units <= -1024 || units >= 1024)) {
        print_binary(units, out);
        return;
    }
    int exponent = -NANO_DIGITS;
    while (value % 1000 == 0 && exponent < 18) {
        value /= 1000;
        exponent += 3;
    }
    const char *number = print_i128(value, digits + sizeof(digits));
    if (format == KP_QUANTITY_DECIMAL_EXPONENT) {
        if (exponent == 0)
            snprintf(out, KP_QUANTITY_MAX, "%s", number);
        else
            snprintf(out, KP_QUANTITY_MAX, "%se%d", number, exponent);
        return;
    }
    static const char *const names[] = {"n", "u", "m", "", "k", "M", "G", "T", "P", "E"};
    snprintf(out, KP_QUANTITY_MAX, "%s%s", number, names[(exponent + NANO_DIGITS) / 3]);
}

const char *kp_quantity_string(const struct kp_quantity *q, struct kp_arena *arena)
{
    char text[KP_QUANTITY_MAX];
    kp_quantity_format(q, text);
    return kp_arena_strdup(arena, text);
}

const char *kp_quantity_canonical(const char *s, struct kp_arena *arena)
{
    struct kp_quantity q;
    char text[KP_QUANTITY_MAX];
    if (kp_quantity_parse(s, &q, NULL) < 0)
        return NULL;
    kp_quantity_format(&q, text);
    if (strcmp(text, s) == 0)
        return s;
    char *copy = kp_arena_try(arena, strlen(text) + 1);
    return copy ? memcpy(copy, text, strlen(text)) : NULL;
}

struct kp_quantity kp_quantity_of(const char *s)
{
    struct kp_quantity q = {0};
    if (s && kp_quantity_parse(s, &q, NULL) < 0)
        return (struct kp_quantity){0};
    return q;
}

struct kp_quantity kp_quantity_from_i64(int64_t value, enum kp_quantity_format format)
{
    return (struct kp_quantity){.nanos = (i128)value * NANOS_PER_UNIT, .format = format};
}

struct kp_quantity kp_quantity_from_milli(int64_t milli, enum kp_quantity_format format)
{
    return (struct kp_quantity){.nanos = (i128)milli * (NANOS_PER_UNIT / 1000), .format = format};
}

static int64_t divide_up(i128 nanos, int64_t by)
{
    i128 whole = nanos / by;
    if (nanos % by != 0)
        whole += nanos > 0 ? 1 : -1;
    return whole > INT64_MAX ? INT64_MAX : whole < INT64_MIN ? INT64_MIN : (int64_t)whole;
}

int64_t kp_quantity_value(const struct kp_quantity *q)
{
    return divide_up(q->nanos, NANOS_PER_UNIT);
}

int64_t kp_quantity_milli_value(const struct kp_quantity *q)
{
    return divide_up(q->nanos, NANOS_PER_UNIT / 1000);
}

int64_t kp_quantity_str_value(const char *s)
{
    struct kp_quantity q = kp_quantity_of(s);
    return kp_quantity_value(&q);
}

int64_t kp_quantity_str_milli(const char *s)
{
    struct kp_quantity q = kp_quantity_of(s);
    return kp_quantity_milli_value(&q);
}

int kp_quantity_cmp(const struct kp_quantity *a, const struct kp_quantity *b)
{
    return a->nanos < b->nanos ? -1 : a->nanos > b->nanos;
}

int kp_quantity_str_cmp(const char *a, const char *b)
{
    struct kp_quantity x = kp_quantity_of(a), y = kp_quantity_of(b);
    return kp_quantity_cmp(&x, &y);
}

static i128 cap(i128 nanos)
{
    return nanos > NANOS_MAX ? NANOS_MAX : nanos < -NANOS_MAX ? -NANOS_MAX : nanos;
}

void kp_quantity_add(struct kp_quantity *a, const struct kp_quantity *b)
{
    if (a->nanos == 0)
        a->format = b->format;
    a->nanos = cap(a->nanos + b->nanos);
}

void kp_quantity_sub(struct kp_quantity *a, const struct kp_quantity *b)
{
    if (a->nanos == 0)
        a->format = b->format;
    a->nanos = cap(a->nanos - b->nanos);
}

/* ---- resource lists ---------------------------------------------------------------------------------------------- */
void kp_resource_list_add(struct kp_arena *arena, struct kp_string_map *total, const struct kp_string_map *add)
{
    for (size_t i = 0; add && i < add->len; i++) {
        struct kp_quantity sum = kp_quantity_of(kp_string_map_get(total, add->items[i].key)), more = kp_quantity_of(add->items[i].value);
        kp_quantity_add(&sum, &more);
        kp_string_map_set(arena, total, add->items[i].key, kp_quantity_string(&sum, arena));
    }
}

void kp_resource_list_sub(struct kp_arena *arena, struct kp_string_map *total, const struct kp_string_map *sub)
{
    for (size_t i = 0; sub && i < sub->len; i++) {
        struct kp_quantity left = kp_quantity_of(kp_string_map_get(total, sub->items[i].key)), less = kp_quantity_of(sub->items[i].value);
        kp_quantity_sub(&left, &less);
        kp_string_map_set(arena, total, sub->items[i].key, kp_quantity_string(&left, arena));
    }
}

void kp_resource_list_max(struct kp_arena *arena, struct kp_string_map *total, const struct kp_string_map *other)
{
    for (size_t i = 0; other && i < other->len; i++) {
        const char *have = kp_string_map_get(total, other->items[i].key);
        if (!have || kp_quantity_str_cmp(have, other->items[i].value) < 0)
            kp_string_map_set(arena, total, other->items[i].key, other->items[i].value);
    }
}
