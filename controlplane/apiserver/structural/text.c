/* Paths and values as the messages of field errors have them. */
#include "controlplane/apiserver/structural/structural_internal.h"

#include <math.h>

/* At most max bytes, and no half of a character. */
static size_t cut(const char *s, size_t max)
{
    size_t len = strnlen(s, max + 1);
    if (len <= max)
        return len;
    for (len = max; len > 0 && ((unsigned char)s[len] & 0xc0) == 0x80;)
        len--;
    return len;
}

static void add_path(const struct spath *path, struct kp_buf *out)
{
    if (path->up)
        add_path(path->up, out);
    if (path->kind == SPATH_INDEX) {
        kp_buf_printf(out, "[%zu]", path->index);
        return;
    }
    size_t len = cut(path->name, STRUCTURAL_NAME_TEXT_MAX);
    if (path->kind == SPATH_KEY)
        kp_buf_putc(out, '[');
    else if (out->len > 0)
        kp_buf_putc(out, '.');
    kp_buf_append(out, path->name, len);
    if (path->name[len])
        kp_buf_puts(out, "...");
    if (path->kind == SPATH_KEY)
        kp_buf_putc(out, ']');
}

const char *spath_text(const struct spath *path, struct kp_arena *arena)
{
    KP_AUTO_BUF struct kp_buf out = {0};
    add_path(path, &out);
    return kp_arena_strndup(arena, out.data ? out.data : "", out.len);
}

const char *quoted_text(const char *s, struct kp_arena *arena)
{
    KP_AUTO_BUF struct kp_buf out = {0};
    size_t len = cut(s, STRUCTURAL_VALUE_TEXT_MAX);
    kp_json_string_n(&out, s, len);
    if (s[len]) {
        out.len--; /* the closing quote */
        kp_buf_puts(&out, "...\"");
    }
    return kp_arena_strndup(arena, out.data, out.len);
}

const char *value_text(const struct kp_value *value, struct kp_arena *arena)
{
    KP_AUTO_BUF struct kp_buf out = {0};
    char number[DOUBLE_TEXT_MAX];
    if (!value)
        return "\"\"";
    if (value->kind == KP_VALUE_STRING)
        return quoted_text(value->string, arena);
    if (value->kind == KP_VALUE_DOUBLE) {
        double_text(value->number, number);
        return kp_arena_strdup(arena, number);
    }
    kp_value_print_sorted(value, &out);
    size_t len = cut(out.data, STRUCTURAL_VALUE_TEXT_MAX);
    return kp_arena_printf(arena, "%.*s%s", (int)len, out.data, out.data[len] ? "..." : "");
}

/* The fewest digits that give the number back, with an exponent below 1e-4 and from 1e6 on. */
void double_text(double d, char out[DOUBLE_TEXT_MAX])
{
    int digits = 0;
    do
        snprintf(out, DOUBLE_TEXT_MAX, "%.*e", digits, d);
    while (strtod(out, NULL) != d && ++digits < 17);
    const char *e = strchr(out, 'e');
    int64_t exponent = 0;
    if (!e || kp_parse_i64(e[1] == '+' ? e + 2 : e + 1, &exponent) < 0)
        return; /* inf, nan */
    if (exponent >= -4 && exponent < 6)
        snprintf(out, DOUBLE_TEXT_MAX, "%.*f", digits > exponent ? digits - (int)exponent : 0, d);
}
