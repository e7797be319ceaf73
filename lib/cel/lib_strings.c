/* Strings: the standard functions and the extension library in version 2 (cel-go ext/strings.go). Places are counted in code points. */
#include "lib/cel/cel_internal.h"

#define FN(name) static struct cel_value name(struct cel_eval *e, const struct cel_value *args)

struct span {
    const char *data;
    size_t len;
};

static struct span span_of(struct cel_eval *e, const struct cel_value *v)
{
    cel_work(e, v->text.len / 16);
    return (struct span){v->text.data, v->text.len};
}

/* Where the nth code point begins; the length for the one past the last; SIZE_MAX beyond. */
static size_t place(struct span s, int64_t n)
{
    size_t at = 0;
    if (n < 0)
        return SIZE_MAX;
    for (; n > 0 && at < s.len; n--)
        at += utf8_len(s.data + at, s.data + s.len);
    return n > 0 ? SIZE_MAX : at;
}

static int64_t points(struct span s, size_t bytes)
{
    int64_t n = 0;
    for (size_t i = 0; i < bytes; i++)
        n += ((unsigned char)s.data[i] & 0xc0) != 0x80;
    return n;
}

static const char *find(struct span s, size_t from, struct span what)
{
    return what.len == 0 ? s.data + from : memmem(s.data + from, s.len - from, what.data, what.len);
}

static struct cel_value out_of_range(struct cel_eval *e, int64_t index)
{
    return cel_fail(e, "index out of range: %lld", (long long)index);
}

/* ---- standard ------------------------------------------------------------------------------------------------------------------------------------- */
FN(contains)
{
    return cel_of_bool(find(span_of(e, &args[0]), 0, span_of(e, &args[1])) != NULL);
}

FN(starts_with)
{
    return cel_of_bool(args[0].text.len >= args[1].text.len && memcmp(args[0].text.data, args[1].text.data, args[1].text.len) == 0);
}

FN(ends_with)
{
    size_t len = args[1].text.len;
    return cel_of_bool(args[0].text.len >= len && memcmp(args[0].text.data + args[0].text.len - len, args[1].text.data, len) == 0);
}

/* ---- parts ---------------------------------------------------------------------------------------------------------------------------------------- */
FN(char_at)
{
    struct span s = span_of(e, &args[0]);
    size_t at = place(s, args[1].integer);
    if (at == SIZE_MAX)
        return out_of_range(e, args[1].integer);
    return cel_of_text(s.data + at, at < s.len ? utf8_len(s.data + at, s.data + s.len) : 0);
}

FN(substring)
{
    struct span s = span_of(e, &args[0]);
    size_t at = place(s, args[1].integer);
    return at == SIZE_MAX ? out_of_range(e, args[1].integer) : cel_of_text(s.data + at, s.len - at);
}

FN(substring_range)
{
    struct span s = span_of(e, &args[0]);
    int64_t from = args[1].integer, to = args[2].integer;
    if (from > to)
        return cel_fail(e, "invalid substring range. start: %lld, end: %lld", (long long)from, (long long)to);
    size_t begin = place(s, from), end = place(s, to);
    if (begin == SIZE_MAX || end == SIZE_MAX)
        return out_of_range(e, begin == SIZE_MAX ? from : to);
    return cel_of_text(s.data + begin, end - begin);
}

static struct cel_value index_from(struct cel_eval *e, const struct cel_value *args, int64_t from)
{
    struct span s = span_of(e, &args[0]), what = span_of(e, &args[1]);
    size_t at = place(s, from);
    if (from < 0)
        return out_of_range(e, from);
    if (what.len == 0)
        return cel_of_int(at == SIZE_MAX ? points(s, s.len) : from);
    const char *found = at >= s.len ? NULL : find(s, at, what);
    return cel_of_int(found ? points(s, (size_t)(found - s.data)) : -1);
}

FN(index_of)
{
    return index_from(e, args, 0);
}

FN(index_of_from)
{
    return index_from(e, args, args[2].integer);
}

/* The last place at or before `at` bytes. */
static int64_t last_index(struct cel_eval *e, struct span s, struct span what, size_t at)
{
    if (what.len > s.len)
        return -1;
    for (size_t i = KP_MIN(at, s.len - what.len) + 1; i-- > 0 && cel_work(e, 1);)
        if (s.data[i] == what.data[0] && memcmp(s.data + i, what.data, what.len) == 0)
            return points(s, i);
    return -1;
}

FN(last_index_of)
{
    struct span s = span_of(e, &args[0]), what = span_of(e, &args[1]);
    return cel_of_int(what.len == 0 ? points(s, s.len) : last_index(e, s, what, s.len));
}

FN(last_index_of_from)
{
    struct span s = span_of(e, &args[0]), what = span_of(e, &args[1]);
    int64_t from = args[2].integer;
    size_t at = place(s, from);
    if (from < 0)
        return out_of_range(e, from);
    if (what.len == 0)
        return cel_of_int(at == SIZE_MAX ? points(s, s.len) : from);
    return cel_of_int(at >= s.len ? -1 : last_index(e, s, what, at));
}

/* ---- other spellings -------------------------------------------------------------------------------------------------------------------------------- */
static struct cel_value map_ascii(struct cel_eval *e, const struct cel_value *v, char from, char to, int by)
{
    struct cel_value out = cel_copy_text(e, v->text.data, v->text.len);
    char *p = is_error(&out) ? NULL : (char *)(uintptr_t)out.text.data;
    for (size_t i = 0; p && i < out.text.len; i++)
        if (p[i] >= from && p[i] <= to)
            p[i] = (char)(p[i] + by);
    return out;
}

FN(lower_ascii)
{
    return map_ascii(e, &args[0], 'A', 'Z', 'a' - 'A');
}

FN(upper_ascii)
{
    return map_ascii(e, &args[0], 'a', 'z', 'A' - 'a');
}

/* Bytes of a blank (Unicode's White_Space) at p; 0: it is none. */
static size_t blank_len(const char *p, const char *end)
{
    unsigned char c = (unsigned char)*p, d = end - p > 1 ? (unsigned char)p[1] : 0, f = end - p > 2 ? (unsigned char)p[2] : 0;
    if (c == ' ' || (c >= '\t' && c <= '\r'))
        return 1;
    if (c == 0xc2 && (d == 0x85 || d == 0xa0))
        return 2;
    bool three = (c == 0xe1 && d == 0x9a && f == 0x80) || (c == 0xe2 && d == 0x80 && ((f >= 0x80 && f <= 0x8a) || f == 0xa8 || f == 0xa9 || f == 0xaf)) ||
                 (c == 0xe2 && d == 0x81 && f == 0x9f) || (c == 0xe3 && d == 0x80 && f == 0x80);
    return three ? 3 : 0;
}

FN(trim)
{
    const char *p = args[0].text.data, *end = p + args[0].text.len;
    size_t len;
    cel_work(e, args[0].text.len / 16);
    while (p < end && (len = blank_len(p, end)) > 0)
        p += len;
    while (end > p) {
        const char *last = end - 1;
        while (last > p && ((unsigned char)*last & 0xc0) == 0x80)
            last--;
        if (blank_len(last, end) != (size_t)(end - last))
            break;
        end = last;
    }
    return cel_of_text(p, (size_t)(end - p));
}

/* ---- replace, split, join ------------------------------------------------------------------------------------------------------------------------------- */
/* The bytes of what is made, which may be many times those there were. */
static bool grow(struct cel_eval *e, struct kp_buf *out, const char *data, size_t len)
{
    if (out->len + len > CEL_MEMORY_MAX / 2) {
        cel_alloc(e, CEL_MEMORY_MAX);
        return false;
    }
    kp_buf_append(out, data, len);
    return cel_work(e, 1 + len / 64);
}

static struct cel_value replace_n(struct cel_eval *e, const struct cel_value *args, int64_t n)
{
    KP_AUTO_BUF struct kp_buf out = {0};
    struct span s = span_of(e, &args[0]), old = span_of(e, &args[1]), fresh = span_of(e, &args[2]);
    size_t at = 0;
    for (bool first = true; n != 0; n--, first = false) {
        if (old.len == 0) { /* before every character, and at the end */
            size_t len = first ? 0 : at < s.len ? utf8_len(s.data + at, s.data + s.len) : SIZE_MAX;
            if (len == SIZE_MAX || !grow(e, &out, s.data + at, len) || !grow(e, &out, fresh.data, fresh.len))
                break;
            at += len;
            continue;
        }
        const char *found = find(s, at, old);
        if (!found || !grow(e, &out, s.data + at, (size_t)(found - s.data) - at) || !grow(e, &out, fresh.data, fresh.len))
            break;
        at = (size_t)(found - s.data) + old.len;
    }
    grow(e, &out, s.data + at, s.len - at);
    return cel_copy_text(e, out.data ? out.data : "", out.len);
}

FN(replace)
{
    return replace_n(e, args, -1);
}

FN(replace_some)
{
    return replace_n(e, args, args[3].integer);
}

static struct cel_value split_n(struct cel_eval *e, const struct cel_value *args, int64_t n)
{
    struct span s = span_of(e, &args[0]), sep = span_of(e, &args[1]);
    struct cel_value out = cel_list_new(e, 0);
    size_t at = 0;
    if (n == 0 || (sep.len == 0 && s.len == 0))
        return out;
    for (; n != 1 && !e->cancelled; n--) {
        size_t len = sep.len ? 0 : utf8_len(s.data + at, s.data + s.len);
        const char *found = sep.len ? find(s, at, sep) : at + len < s.len ? s.data + at + len : NULL;
        if (!found)
            break;
        cel_list_add(e, &out, cel_of_text(s.data + at, (size_t)(found - s.data) - at));
        at = (size_t)(found - s.data) + sep.len;
        cel_work(e, 1);
    }
    cel_list_add(e, &out, cel_of_text(s.data + at, s.len - at));
    return out;
}

FN(split)
{
    return split_n(e, args, -1);
}

FN(split_some)
{
    return split_n(e, args, args[2].integer);
}

static struct cel_value join_with(struct cel_eval *e, const struct cel_value *list, struct span sep)
{
    KP_AUTO_BUF struct kp_buf out = {0};
    size_t len = cel_len(e, list);
    for (size_t i = 0; i < len; i++) {
        struct cel_value item = cel_item(e, list, i);
        if (item.kind != CEL_STRING)
            return is_error(&item) ? item : cel_fail(e, "join: invalid input: %s", runtime_type_name(&item));
        if ((i > 0 && !grow(e, &out, sep.data, sep.len)) || !grow(e, &out, item.text.data, item.text.len))
            break;
    }
    return cel_copy_text(e, out.data ? out.data : "", out.len);
}

FN(join)
{
    return join_with(e, &args[0], (struct span){"", 0});
}

FN(join_separated)
{
    return join_with(e, &args[0], (struct span){args[1].text.data, args[1].text.len});
}

FN(quote)
{
    static const char from[] = "\a\b\f\n\r\t\v\\\"", to[] = "abfnrtv\\\"";
    KP_AUTO_BUF struct kp_buf out = {0};
    const char *p = args[0].text.data, *end = p + args[0].text.len;
    kp_buf_putc(&out, '"');
    while (p < end) {
        size_t len = utf8_len(p, end);
        const char *special = *p ? strchr(from, *p) : NULL;
        if (special)
            grow(e, &out, (const char[]){'\\', to[special - from]}, 2);
        else if (len == 1 && ((unsigned char)*p & 0x80))
            grow(e, &out, "\xef\xbf\xbd", 3);
        else
            grow(e, &out, p, len);
        if (e->cancelled)
            break;
        p += len;
    }
    kp_buf_putc(&out, '"');
    return cel_copy_text(e, out.data, out.len);
}

static uint64_t cost_join(struct cel_eval *e, const struct cel_value *args, size_t n, const struct cel_value *result)
{
    return TENTH(2 * value_size(e, result));
}

/* indexOf and lastIndexOf: as a traversal of text. */
static const struct cel_overload overloads[] = {
    OVERLOAD("contains", "contains_string", true, contains, cost_product, cel_bool, &cel_string, &cel_string),
    OVERLOAD("endsWith", "ends_with_string", true, ends_with, cost_first, cel_bool, &cel_string, &cel_string),
    OVERLOAD("startsWith", "starts_with_string", true, starts_with, cost_first, cel_bool, &cel_string, &cel_string),
    OVERLOAD("charAt", "string_char_at_int", true, char_at, NULL, cel_string, &cel_string, &cel_int),
    OVERLOAD("indexOf", "string_index_of_string", true, index_of, cost_traverse, cel_int, &cel_string, &cel_string),
    OVERLOAD("indexOf", "string_index_of_string_int", true, index_of_from, cost_traverse, cel_int, &cel_string, &cel_string, &cel_int),
    OVERLOAD("lastIndexOf", "string_last_index_of_string", true, last_index_of, cost_traverse, cel_int, &cel_string, &cel_string),
    OVERLOAD("lastIndexOf", "string_last_index_of_string_int", true, last_index_of_from, cost_traverse, cel_int, &cel_string, &cel_string, &cel_int),
    OVERLOAD("lowerAscii", "string_lower_ascii", true, lower_ascii, cost_first, cel_string, &cel_string),
    OVERLOAD("replace", "string_replace_string_string", true, replace, cost_first_twice, cel_string, &cel_string, &cel_string, &cel_string),
    OVERLOAD("replace", "string_replace_string_string_int", true, replace_some, cost_first_twice, cel_string, &cel_string, &cel_string, &cel_string, &cel_int),
    OVERLOAD("split", "string_split_string", true, split, cost_first_twice, list_string, &cel_string, &cel_string),
    OVERLOAD("split", "string_split_string_int", true, split_some, cost_first_twice, list_string, &cel_string, &cel_string, &cel_int),
    OVERLOAD("substring", "string_substring_int", true, substring, cost_first, cel_string, &cel_string, &cel_int),
    OVERLOAD("substring", "string_substring_int_int", true, substring_range, cost_first, cel_string, &cel_string, &cel_int, &cel_int),
    OVERLOAD("trim", "string_trim", true, trim, cost_first, cel_string, &cel_string),
    OVERLOAD("upperAscii", "string_upper_ascii", true, upper_ascii, cost_first, cel_string, &cel_string),
    OVERLOAD("format", "string_format", true, string_format, cost_first, cel_string, &cel_string, &list_dyn),
    OVERLOAD("strings.quote", "strings_quote", false, quote, cost_first, cel_string, &cel_string),
    OVERLOAD("join", "list_join", true, join, cost_join, cel_string, &list_string),
    OVERLOAD("join", "list_join_string", true, join_separated, cost_join, cel_string, &list_string, &cel_string),
};
const struct cel_library library_strings = {overloads, KP_ARRAY_LEN(overloads)};
