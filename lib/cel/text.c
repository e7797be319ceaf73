/* UTF-8, and how Go prints numbers. */
#include "lib/cel/cel_internal.h"

#include <math.h>

size_t utf8_len(const char *p, const char *end)
{
    unsigned char c = (unsigned char)*p;
    size_t wanted = c < 0x80 ? 1 : c >= 0xf0 && c < 0xf8 ? 4 : c >= 0xe0 ? 3 : c >= 0xc2 ? 2 : 1;
    size_t len = 1;
    while (len < wanted && p + len < end && ((unsigned char)p[len] & 0xc0) == 0x80)
        len++;
    return len == wanted ? len : 1;
}

bool utf8_valid(const char *data, size_t len)
{
    const char *end = data + len;
    for (const char *p = data; p < end;) {
        unsigned char c = (unsigned char)*p;
        size_t size = utf8_len(p, end);
        unsigned char second = size > 1 ? (unsigned char)p[1] : 0;
        if (size == 1 && c >= 0x80)
            return false;
        if ((c == 0xe0 && second < 0xa0) || (c == 0xed && second > 0x9f) || (c == 0xf0 && second < 0x90) || (c == 0xf4 && second > 0x8f) || c > 0xf4)
            return false;
        p += size;
    }
    return true;
}

size_t utf8_put(uint32_t c, char out[4])
{
    if (c < 0x80) {
        out[0] = (char)c;
        return 1;
    }
    if (c < 0x800) {
        out[0] = (char)(0xc0 | c >> 6);
        out[1] = (char)(0x80 | (c & 0x3f));
        return 2;
    }
    if (c < 0x10000) {
        out[0] = (char)(0xe0 | c >> 12);
        out[1] = (char)(0x80 | (c >> 6 & 0x3f));
        out[2] = (char)(0x80 | (c & 0x3f));
        return 3;
    }
    out[0] = (char)(0xf0 | c >> 18);
    out[1] = (char)(0x80 | (c >> 12 & 0x3f));
    out[2] = (char)(0x80 | (c >> 6 & 0x3f));
    out[3] = (char)(0x80 | (c & 0x3f));
    return 4;
}

const char *double_f_text(double d, struct kp_arena *arena)
{
    char text[400];
    if (isnan(d))
        return "NaN";
    if (isinf(d))
        return d > 0 ? "+Inf" : "-Inf";
    int digits = 0;
    do
        snprintf(text, sizeof(text), "%.*e", digits, d);
    while (strtod(text, NULL) != d && ++digits < 17);
    const char *e = strchr(text, 'e');
    int64_t exponent = 0;
    if (!e || kp_parse_i64(e[1] == '+' ? e + 2 : e + 1, &exponent) < 0)
        return "NaN";
    snprintf(text, sizeof(text), "%.*f", digits > exponent ? digits - (int)exponent : 0, d);
    return kp_arena_strdup(arena, text);
}
