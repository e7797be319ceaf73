/* format(): what %s, %d, %f, %e, %b, %x, %X and %o make of values (cel-go ext/formatting.go). */
#include "lib/cel/cel_internal.h"

#include <math.h>

#define PRECISION_MAX 1000
#define PRECISION_DEFAULT 6

static bool put(struct cel_eval *e, struct kp_buf *out, const char *data, size_t len)
{
    if (out->len + len > CEL_MEMORY_MAX / 2)
        cel_alloc(e, CEL_MEMORY_MAX);
    else
        kp_buf_append(out, data, len);
    return cel_work(e, 1 + len / 64);
}

static void put_s(struct cel_eval *e, struct kp_buf *out, const char *s)
{
    put(e, out, s, strlen(s));
}

static void put_value(struct cel_eval *e, struct kp_buf *out, const struct cel_value *v, bool quoted, int depth);

static void put_list(struct cel_eval *e, struct kp_buf *out, const struct cel_value *v, int depth)
{
    size_t len = cel_len(e, v);
    put_s(e, out, "[");
    for (size_t i = 0; i < len && !e->cancelled; i++) {
        struct cel_value item = cel_item(e, v, i);
        put_s(e, out, i ? ", " : "");
        put_value(e, out, &item, true, depth + 1);
    }
    put_s(e, out, "]");
}

struct shown {
    const char *key;
    struct cel_value value;
};

static int compare_shown(const void *a, const void *b)
{
    return strcmp(((const struct shown *)a)->key, ((const struct shown *)b)->key);
}

/* By the text of the keys. */
static void put_map(struct cel_eval *e, struct kp_buf *out, const struct cel_value *v, int depth)
{
    struct map_walk walk = {0};
    struct cel_value key, value;
    size_t len = 0, cap = cel_len(e, v);
    struct shown *shown = cel_alloc(e, (cap + 1) * sizeof(*shown));
    while (shown && !e->cancelled && len < cap && map_next(e, v, &walk, &key, &value)) {
        KP_AUTO_BUF struct kp_buf text = {0};
        put_value(e, &text, &key, true, depth + 1);
        struct cel_value copy = cel_copy_text(e, text.data ? text.data : "", text.len);
        if (!is_error(&copy))
            shown[len++] = (struct shown){copy.text.data, value};
    }
    if (len > 0)
        qsort(shown, len, sizeof(*shown), compare_shown);
    put_s(e, out, "{");
    for (size_t i = 0; i < len && !e->cancelled; i++) {
        put_s(e, out, i ? ", " : "");
        put_s(e, out, shown[i].key);
        put_s(e, out, ":");
        put_value(e, out, &shown[i].value, true, depth + 1);
    }
    put_s(e, out, "}");
}

static void put_double(struct cel_eval *e, struct kp_buf *out, double d, bool quoted)
{
    bool named = isnan(d) || isinf(d);
    put_s(e, out, quoted && named ? "\"" : "");
    put_s(e, out, isnan(d) ? "NaN" : isinf(d) ? (d > 0 ? "Infinity" : "-Infinity") : double_f_text(d, e->arena));
    put_s(e, out, quoted && named ? "\"" : "");
}

/* As %s has it; inside lists and maps, text is quoted. */
static void put_value(struct cel_eval *e, struct kp_buf *out, const struct cel_value *v, bool quoted, int depth)
{
    char text[32];
    const char *mark = quoted ? "\"" : "";
    if (depth > CEL_DEPTH_MAX)
        return;
    switch (v->kind) {
    case CEL_LIST:
        put_list(e, out, v, depth);
        return;
    case CEL_MAP:
        put_map(e, out, v, depth);
        return;
    case CEL_STRING:
    case CEL_BYTES:
        put_s(e, out, mark);
        put(e, out, v->text.data, v->text.len);
        put_s(e, out, mark);
        return;
    case CEL_DOUBLE:
        put_double(e, out, v->number, quoted);
        return;
    case CEL_INT:
    case CEL_UINT:
        snprintf(text, sizeof(text), v->kind == CEL_INT ? "%lld" : "%llu", (long long)v->integer);
        put_s(e, out, text);
        return;
    case CEL_TIMESTAMP:
        put_s(e, out, quoted ? "timestamp(\"" : "");
        put_s(e, out, timestamp_text(v->integer, v->nanos, e->arena));
        put_s(e, out, quoted ? "\")" : "");
        return;
    case CEL_DURATION:
        put_s(e, out, quoted ? "duration(\"" : "");
        put_s(e, out, duration_text(v->integer, e->arena));
        put_s(e, out, quoted ? "\")" : "");
        return;
    case CEL_TYPE:
        put_s(e, out, cel_type_text(v->type, e->arena));
        return;
    default:
        put_s(e, out, v->kind == CEL_BOOL ? (v->boolean ? "true" : "false") : v->kind == CEL_NULL ? "null" : runtime_type_name(v));
    }
}

/* ---- clauses with numbers --------------------------------------------------------------------------------------------------------------------------- */
static void put_digits(struct cel_eval *e, struct kp_buf *out, const struct cel_value *v, unsigned base, bool upper)
{
    char text[72];
    size_t at = sizeof(text);
    bool negative = v->kind == CEL_INT && v->integer < 0;
    uint64_t u = negative ? 0 - (uint64_t)v->integer : v->uinteger;
    text[--at] = '\0';
    do {
        text[--at] = (upper ? "0123456789ABCDEF" : "0123456789abcdef")[u % base];
        u /= base;
    } while (u);
    if (negative)
        text[--at] = '-';
    put_s(e, out, text + at);
}

static void put_hex(struct cel_eval *e, struct kp_buf *out, const struct cel_value *v, bool upper)
{
    char two[3];
    for (size_t i = 0; i < v->text.len && !e->cancelled; i++) {
        snprintf(two, sizeof(two), upper ? "%02X" : "%02x", (unsigned char)v->text.data[i]);
        put_s(e, out, two);
    }
}

/* As the locale en-US has it: commas between thousands. */
static void put_grouped(struct cel_eval *e, struct kp_buf *out, const char *text)
{
    size_t digits = strcspn(text + (*text == '-'), ".");
    if (*text == '-')
        put_s(e, out, "-");
    text += *text == '-';
    for (size_t i = 0; i < digits; i++) {
        put_s(e, out, i > 0 && (digits - i) % 3 == 0 ? "," : "");
        put(e, out, text + i, 1);
    }
    put_s(e, out, text + digits);
}

/* Likewise: 1.5×10⁰³. */
static void put_scientific(struct cel_eval *e, struct kp_buf *out, const char *text)
{
    static const char *const raised[] = {"\u2070", "\u00b9", "\u00b2", "\u00b3", "\u2074", "\u2075", "\u2076", "\u2077", "\u2078", "\u2079"};
    const char *exponent = strchr(text, 'e');
    put(e, out, text, (size_t)(exponent - text));
    put_s(e, out, "\u00d710");
    for (const char *p = exponent + 1; *p; p++)
        put_s(e, out, *p == '-' ? "\u207b" : *p == '+' ? "" : raised[*p - '0']);
}

static bool put_fixed(struct cel_eval *e, struct kp_buf *out, const struct cel_value *v, char clause, int precision)
{
    double d = v->kind == CEL_DOUBLE ? v->number : 0;
    if (v->kind != CEL_DOUBLE)
        return false;
    if (isnan(d) || isinf(d)) {
        put_double(e, out, d, false);
        return true;
    }
    KP_AUTO_FREE char *text = kp_asprintf(clause == 'f' ? "%.*f" : "%.*e", precision, d);
    if (clause == 'f')
        put_grouped(e, out, text);
    else
        put_scientific(e, out, text);
    return true;
}

/* false: the clause is not for such a value. */
static bool put_clause(struct cel_eval *e, struct kp_buf *out, char clause, int precision, const struct cel_value *v)
{
    bool integer = v->kind == CEL_INT || v->kind == CEL_UINT, text = v->kind == CEL_STRING || v->kind == CEL_BYTES;
    switch (clause) {
    case 's':
        put_value(e, out, v, false, 0);
        return true;
    case 'd':
        if (v->kind == CEL_DOUBLE && (isnan(v->number) || isinf(v->number)))
            put_double(e, out, v->number, false);
        else if (integer)
            put_digits(e, out, v, 10, false);
        else
            return false;
        return true;
    case 'f':
    case 'e':
        return put_fixed(e, out, v, clause, precision);
    case 'b':
        if (v->kind == CEL_BOOL)
            put_s(e, out, v->boolean ? "1" : "0");
        else if (integer)
            put_digits(e, out, v, 2, false);
        return integer || v->kind == CEL_BOOL;
    case 'x':
    case 'X':
        if (text)
            put_hex(e, out, v, clause == 'X');
        else if (integer)
            put_digits(e, out, v, 16, clause == 'X');
        return text || integer;
    default: /* o */
        if (integer)
            put_digits(e, out, v, 8, false);
        return integer;
    }
}

static const char *wants(char clause)
{
    switch (clause) {
    case 'd':
        return "decimal clause can only be used on integers";
    case 'f':
        return "fixed-point clause can only be used on doubles";
    case 'e':
        return "scientific clause can only be used on doubles";
    case 'b':
        return "only integers and bools can be formatted as binary";
    case 'o':
        return "octal clause can only be used on integers";
    default:
        return "only integers, byte buffers, and strings can be formatted as hex";
    }
}

/* The digits after a percent sign's dot; false when they are too large a number. */
static bool take_precision(const char **p, const char *end, int *ret)
{
    *ret = PRECISION_DEFAULT;
    if (*p >= end || **p != '.')
        return true;
    *ret = 0;
    for ((*p)++; *p < end && **p >= '0' && **p <= '9' && *ret <= PRECISION_MAX; (*p)++)
        *ret = *ret * 10 + **p - '0';
    return *ret <= PRECISION_MAX;
}

struct cel_value string_format(struct cel_eval *e, const struct cel_value *args)
{
    KP_AUTO_BUF struct kp_buf out = {0};
    const char *p = args[0].text.data, *end = p + args[0].text.len;
    size_t next = 0, len = cel_len(e, &args[1]);
    int precision;
    while (p < end && !e->cancelled) {
        const char *percent = memchr(p, '%', (size_t)(end - p));
        put(e, &out, p, (size_t)((percent ? percent : end) - p));
        if (!percent)
            break;
        p = percent + 1;
        if (p < end && *p == '%') {
            put_s(e, &out, "%");
            p++;
            continue;
        }
        if (next >= len)
            return cel_fail(e, "index %zu out of range", next);
        if (!take_precision(&p, end, &precision))
            return cel_fail(e, "precision %d exceeds maximum allowed precision %d", precision, PRECISION_MAX);
        if (p >= end)
            return cel_fail(e, "unexpected end of string");
        if (!strchr("sdfebxXo", *p))
            return cel_fail(e, "could not parse formatting clause: unrecognized formatting clause \"%c\"", *p);
        struct cel_value value = cel_item(e, &args[1], next++);
        if (is_error(&value))
            return value;
        if (!put_clause(e, &out, *p, precision, &value))
            return cel_fail(e, "error during formatting: %s, was given %s", wants(*p), runtime_type_name(&value));
        p++;
    }
    return cel_copy_text(e, out.data ? out.data : "", out.len);
}
