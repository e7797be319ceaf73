/* A cursor over JSON text that checks syntax in the words Go's encoding/json uses, since clients show them. */
#include "codec/codec_internal.h"

int kp_reader_too_large(struct kp_reader *r)
{
    return kp_fail(r->error, KP_ETOOLARGE, "document needs more memory than a request may use");
}

char kp_reader_peek(struct kp_reader *r)
{
    while (r->p < r->end && (*r->p == ' ' || *r->p == '\n' || *r->p == '\t' || *r->p == '\r'))
        r->p++;
    return r->p < r->end ? *r->p : '\0';
}

int kp_reader_bad(struct kp_reader *r, const char *where)
{
    if (r->p >= r->end)
        return kp_fail(r->error, KP_EBADREQUEST, "unexpected end of JSON input");
    unsigned char c = (unsigned char)*r->p;
    if (c == '\'')
        return kp_fail(r->error, KP_EBADREQUEST, "invalid character '\\'' %s", where);
    if (c < 0x20 || c >= 0x7f)
        return kp_fail(r->error, KP_EBADREQUEST, "invalid character '\\x%02x' %s", c, where);
    return kp_fail(r->error, KP_EBADREQUEST, "invalid character '%c' %s", c, where);
}

static int hex4(struct kp_reader *r, unsigned *ret)
{
    unsigned value = 0;
    for (int i = 0; i < 4; i++, r->p++) {
        char c = r->p < r->end ? *r->p : '\0';
        if (c >= '0' && c <= '9')
            value = value * 16 + (unsigned)(c - '0');
        else if ((c | 32) >= 'a' && (c | 32) <= 'f')
            value = value * 16 + (unsigned)((c | 32) - 'a' + 10);
        else
            return kp_reader_bad(r, "in \\u hexadecimal character escape");
    }
    *ret = value;
    return 0;
}

static char *put_utf8(char *out, unsigned c)
{
    if (c < 0x80) {
        *out++ = (char)c;
    } else if (c < 0x800) {
        *out++ = (char)(0xc0 | c >> 6);
        *out++ = (char)(0x80 | (c & 0x3f));
    } else if (c < 0x10000) {
        *out++ = (char)(0xe0 | c >> 12);
        *out++ = (char)(0x80 | (c >> 6 & 0x3f));
        *out++ = (char)(0x80 | (c & 0x3f));
    } else {
        *out++ = (char)(0xf0 | c >> 18);
        *out++ = (char)(0x80 | (c >> 12 & 0x3f));
        *out++ = (char)(0x80 | (c >> 6 & 0x3f));
        *out++ = (char)(0x80 | (c & 0x3f));
    }
    return out;
}

size_t kp_utf8_len(const unsigned char *s, size_t left)
{
    if (s[0] < 0x80)
        return 1;
    if (s[0] >= 0xc2 && s[0] <= 0xdf && left >= 2 && (s[1] & 0xc0) == 0x80)
        return 2;
    if ((s[0] & 0xf0) == 0xe0 && left >= 3 && (s[1] & 0xc0) == 0x80 && (s[2] & 0xc0) == 0x80) {
        bool overlong = s[0] == 0xe0 && s[1] < 0xa0, surrogate = s[0] == 0xed && s[1] >= 0xa0;
        return overlong || surrogate ? 0 : 3;
    }
    if (s[0] >= 0xf0 && s[0] <= 0xf4 && left >= 4 && (s[1] & 0xc0) == 0x80 && (s[2] & 0xc0) == 0x80 && (s[3] & 0xc0) == 0x80) {
        bool overlong = s[0] == 0xf0 && s[1] < 0x90, beyond = s[0] == 0xf4 && s[1] >= 0x90;
        return overlong || beyond ? 0 : 4;
    }
    return 0;
}

/* After the backslash. Unpaired surrogates become U+FFFD as in Go; NUL cannot be held by C strings and is refused. */
static int escape(struct kp_reader *r, char **out)
{
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    char c = r->p < r->end ? *r->p : '\0';
    const char *at = c ? strchr(from, c) : NULL;
    if (at) {
        *(*out)++ = to[at - from];
        r->p++;
        return 0;
    }
    if (c != 'u')
        return kp_reader_bad(r, "in string escape code");
    r->p++;
    unsigned code;
    if (hex4(r, &code) < 0)
        return r->error ? r->error->code : KP_EBADREQUEST;
    if (code == 0)
        return kp_fail(r->error, KP_EBADREQUEST, "the character \\u0000 is not allowed in strings");
    if (code >= 0xd800 && code < 0xdc00 && r->end - r->p >= 6 && r->p[0] == '\\' && r->p[1] == 'u') {
        const char *back = r->p;
        unsigned low;
        r->p += 2;
        if (hex4(r, &low) < 0)
            return r->error ? r->error->code : KP_EBADREQUEST;
        if (low >= 0xdc00 && low < 0xe000) {
            *out = put_utf8(*out, 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00));
            return 0;
        }
        r->p = back;
    }
    *out = put_utf8(*out, code >= 0xd800 && code < 0xe000 ? 0xfffd : code);
    return 0;
}

int kp_reader_string(struct kp_reader *r, const char **ret, size_t *ret_len)
{
    if (kp_reader_peek(r) != '"')
        return kp_reader_bad(r, "looking for beginning of value");
    const char *start = ++r->p;
    while (r->p < r->end && *r->p != '"' && *r->p != '\\' && (unsigned char)*r->p >= 0x20 && (unsigned char)*r->p < 0x80)
        r->p++;
    if (r->p < r->end && *r->p == '"') { /* plain ASCII: the common case */
        size_t len = (size_t)(r->p - start);
        char *plain = kp_arena_try(r->arena, len + 1);
        if (!plain)
            return kp_reader_too_large(r);
        memcpy(plain, start, len);
        r->p++;
        *ret = plain;
        *ret_len = len;
        return 0;
    }
    const char *close = r->p; /* find the end to know the size; replacement characters are at most 3 bytes for 1 */
    size_t extra = 0;
    for (; close < r->end && *close != '"'; close++) {
        extra += (unsigned char)*close >= 0x80 ? 2 : 0;
        if (*close == '\\' && close + 1 < r->end)
            close++;
    }
    char *text = kp_arena_try(r->arena, (size_t)(close - start) + extra + 1), *out = text;
    if (!text)
        return kp_reader_too_large(r);
    memcpy(out, start, (size_t)(r->p - start));
    out += r->p - start;
    while (r->p < r->end && *r->p != '"') {
        unsigned char c = (unsigned char)*r->p;
        if (c < 0x20)
            return kp_reader_bad(r, "in string literal");
        if (c == '\\') {
            r->p++;
            if (escape(r, &out) < 0)
                return r->error ? r->error->code : KP_EBADREQUEST;
            continue;
        }
        size_t n = kp_utf8_len((const unsigned char *)r->p, (size_t)(r->end - r->p));
        if (n == 0) {
            out = put_utf8(out, 0xfffd);
            r->p++;
            continue;
        }
        memcpy(out, r->p, n);
        out += n;
        r->p += n;
    }
    if (r->p >= r->end)
        return kp_reader_bad(r, "in string literal");
    r->p++;
    *ret = text;
    *ret_len = (size_t)(out - text);
    return 0;
}

static bool is_digit(const struct kp_reader *r)
{
    return r->p < r->end && *r->p >= '0' && *r->p <= '9';
}

static int digits(struct kp_reader *r, const char *where)
{
    if (!is_digit(r))
        return kp_reader_bad(r, where);
    while (is_digit(r))
        r->p++;
    return 0;
}

int kp_reader_number(struct kp_reader *r, const char **ret, size_t *ret_len)
{
    kp_reader_peek(r);
    const char *start = r->p;
    int rc = 0;
    if (r->p < r->end && *r->p == '-')
        r->p++;
    if (r->p < r->end && *r->p == '0')
        r->p++;
    else
        rc = digits(r, start == r->p ? "looking for beginning of value" : "in numeric literal");
    if (rc == 0 && r->p < r->end && *r->p == '.') {
        r->p++;
        rc = digits(r, "after decimal point in numeric literal");
    }
    if (rc == 0 && r->p < r->end && (*r->p | 32) == 'e') {
        r->p++;
        if (r->p < r->end && (*r->p == '+' || *r->p == '-'))
            r->p++;
        rc = digits(r, "in exponent of numeric literal");
    }
    *ret = start;
    *ret_len = (size_t)(r->p - start);
    return rc;
}

int kp_reader_literal(struct kp_reader *r, const char *literal)
{
    kp_reader_peek(r);
    for (const char *c = literal; *c; c++, r->p++)
        if (r->p >= r->end || *r->p != *c)
            return kp_reader_bad(r, c == literal ? "looking for beginning of value" : "in literal");
    return 0;
}

int kp_reader_enter(struct kp_reader *r)
{
    r->p++;
    if (++r->depth > KP_DECODE_DEPTH_MAX)
        return kp_fail(r->error, KP_ETOOLARGE, "document is nested deeper than %d levels", KP_DECODE_DEPTH_MAX);
    return 0;
}

void kp_reader_leave(struct kp_reader *r)
{
    r->depth--;
}

int kp_reader_key(struct kp_reader *r, bool *first, const char **ret_key, size_t *ret_len)
{
    char c = kp_reader_peek(r);
    if (c == '}') {
        r->p++;
        return 0;
    }
    if (!*first) {
        if (c != ',')
            return kp_reader_bad(r, "after object key:value pair");
        r->p++;
        c = kp_reader_peek(r);
    }
    *first = false;
    if (c != '"')
        return kp_reader_bad(r, "looking for beginning of object key string");
    int rc = kp_reader_string(r, ret_key, ret_len);
    if (rc < 0)
        return rc;
    if (kp_reader_peek(r) != ':')
        return kp_reader_bad(r, "after object key");
    r->p++;
    return 1;
}

int kp_reader_element(struct kp_reader *r, bool *first)
{
    char c = kp_reader_peek(r);
    if (*first && c == ']') {
        r->p++;
        return 0;
    }
    if (!*first) {
        if (c == ']') {
            r->p++;
            return 0;
        }
        if (c != ',')
            return kp_reader_bad(r, "after array element");
        r->p++;
    }
    *first = false;
    return 1;
}

static int skip_string(struct kp_reader *r)
{
    for (r->p++; r->p < r->end && *r->p != '"'; r->p++) {
        if ((unsigned char)*r->p < 0x20)
            return kp_reader_bad(r, "in string literal");
        if (*r->p == '\\') {
            r->p++;
            if (r->p >= r->end || !strchr("\"\\/bfnrtu", *r->p) || *r->p == '\0')
                return kp_reader_bad(r, "in string escape code");
            if (*r->p == 'u') {
                unsigned code;
                r->p++;
                if (hex4(r, &code) < 0)
                    return KP_EBADREQUEST;
                if (code == 0)
                    return kp_fail(r->error, KP_EBADREQUEST, "the character \\u0000 is not allowed in strings");
                r->p--;
            }
        }
    }
    if (r->p >= r->end)
        return kp_reader_bad(r, "in string literal");
    r->p++;
    return 0;
}

static int skip_container(struct kp_reader *r, char open)
{
    bool first = true;
    int rc = kp_reader_enter(r);
    while (rc >= 0) {
        if (open == '[') {
            rc = kp_reader_element(r, &first);
        } else {
            char c = kp_reader_peek(r);
            if (first || c != ',') {
                if (c == '}') {
                    r->p++;
                    rc = 0;
                    break;
                }
                if (!first)
                    return kp_reader_bad(r, "after object key:value pair");
            } else {
                r->p++;
                c = kp_reader_peek(r);
            }
            first = false;
            if (c != '"')
                return kp_reader_bad(r, "looking for beginning of object key string");
            rc = skip_string(r);
            if (rc == 0 && kp_reader_peek(r) != ':')
                return kp_reader_bad(r, "after object key");
            r->p++;
            rc = rc < 0 ? rc : 1;
        }
        if (rc <= 0)
            break;
        rc = kp_reader_skip(r);
    }
    kp_reader_leave(r);
    return rc;
}

int kp_reader_skip(struct kp_reader *r)
{
    const char *number;
    size_t len;
    char c = kp_reader_peek(r);
    switch (c) {
    case '"':
        return skip_string(r);
    case '{':
    case '[':
        return skip_container(r, c);
    case 't':
        return kp_reader_literal(r, "true");
    case 'f':
        return kp_reader_literal(r, "false");
    case 'n':
        return kp_reader_literal(r, "null");
    default:
        return kp_reader_number(r, &number, &len);
    }
}

int kp_reader_finish(struct kp_reader *r)
{
    kp_reader_peek(r);
    return r->p < r->end ? kp_reader_bad(r, "after top-level value") : 0;
}

int kp_reader_raw(struct kp_reader *r, struct kp_raw *ret)
{
    kp_reader_peek(r);
    const char *start = r->p;
    int rc = kp_reader_skip(r);
    if (rc < 0)
        return rc;
    size_t len = (size_t)(r->p - start), n = 0;
    if (len == 4 && memcmp(start, "null", 4) == 0) {
        *ret = (struct kp_raw){0};
        return 0;
    }
    char *out = kp_arena_try(r->arena, len + 1);
    if (!out)
        return kp_reader_too_large(r);
    bool in_string = false;
    for (size_t i = 0; i < len; i++) {
        char c = start[i];
        if (!in_string && (c == ' ' || c == '\n' || c == '\t' || c == '\r'))
            continue;
        out[n++] = c;
        if (in_string && c == '\\' && i + 1 < len)
            out[n++] = start[++i];
        else if (c == '"')
            in_string = !in_string;
    }
    out[n] = '\0';
    *ret = (struct kp_raw){.json = out, .len = n};
    return 0;
}
