/* Tokens of an expression, and the values of its literals (cel-spec, "Syntax"; errors in the words of ANTLR, which cel-go reads with). */
#include "lib/cel/cel_internal.h"

#include <ctype.h>

static const struct {
    const char *text;
    enum token_kind kind;
} symbols[] = {
    {"==", TOKEN_EQUALS}, {"!=", TOKEN_NOT_EQUALS}, {"<=", TOKEN_LESS_EQUALS}, {">=", TOKEN_GREATER_EQUALS}, {"&&", TOKEN_AND}, {"||", TOKEN_OR},
    {"<", TOKEN_LESS}, {">", TOKEN_GREATER}, {"[", TOKEN_LBRACKET}, {"]", TOKEN_RBRACKET}, {"{", TOKEN_LBRACE}, {"}", TOKEN_RBRACE},
    {"(", TOKEN_LPAREN}, {")", TOKEN_RPAREN}, {".", TOKEN_DOT}, {",", TOKEN_COMMA}, {"-", TOKEN_MINUS}, {"!", TOKEN_EXCLAM}, {"?", TOKEN_QUESTION},
    {":", TOKEN_COLON}, {"+", TOKEN_PLUS}, {"*", TOKEN_STAR}, {"/", TOKEN_SLASH}, {"%", TOKEN_PERCENT},
}, words[] = {{"in", TOKEN_IN}, {"true", TOKEN_TRUE}, {"false", TOKEN_FALSE}, {"null", TOKEN_NULL}};

static bool is_letter(char c)
{
    return isalpha((unsigned char)c) || c == '_';
}

static size_t span_digits(const char *p, const char *end)
{
    size_t len = 0;
    while (p + len < end && isdigit((unsigned char)p[len]))
        len++;
    return len;
}

static size_t span_exponent(const char *p, const char *end)
{
    if (p >= end || (*p != 'e' && *p != 'E'))
        return 0;
    size_t sign = p + 1 < end && (p[1] == '+' || p[1] == '-');
    size_t digits = span_digits(p + 1 + sign, end);
    return digits ? 1 + sign + digits : 0;
}

/* Bytes of a number at p. */
static size_t scan_number(const char *p, const char *end, enum token_kind *ret_kind)
{
    size_t len = 0;
    if (end - p > 2 && p[0] == '0' && p[1] == 'x' && isxdigit((unsigned char)p[2])) {
        for (len = 2; p + len < end && isxdigit((unsigned char)p[len]);)
            len++;
    } else {
        len = span_digits(p, end);
        size_t fraction = p + len < end && p[len] == '.' ? span_digits(p + len + 1, end) : 0;
        size_t whole = fraction ? len + 1 + fraction : len, exponent = span_exponent(p + whole, end);
        if (fraction || exponent) {
            *ret_kind = TOKEN_FLOAT;
            return whole + exponent;
        }
    }
    *ret_kind = TOKEN_INT;
    if (p + len < end && (p[len] == 'u' || p[len] == 'U')) {
        *ret_kind = TOKEN_UINT;
        len++;
    }
    return len;
}

/* Bytes of an escape at p, 0 when it is none. */
static size_t escape_span(const char *p, const char *end)
{
    if (end - p < 2)
        return 0;
    if (strchr("abfnrtv\"'\\?`", p[1]) && p[1])
        return 2;
    size_t digits = p[1] == 'x' || p[1] == 'X' ? 2 : p[1] == 'u' ? 4 : p[1] == 'U' ? 8 : 0;
    if (digits > 0) {
        for (size_t i = 0; i < digits; i++)
            if (p + 2 + i >= end || !isxdigit((unsigned char)p[2 + i]))
                return 0;
        return 2 + digits;
    }
    bool octal = end - p >= 4 && p[1] >= '0' && p[1] <= '3' && p[2] >= '0' && p[2] <= '7' && p[3] >= '0' && p[3] <= '7';
    return octal ? 4 : 0;
}

/* Bytes of a string at p, whose prefix of letters has `prefix` bytes; 0 when it does not end well, with *ret_bad the bytes that are none. */
static size_t scan_string(const char *p, const char *end, size_t prefix, bool raw, size_t *ret_bad)
{
    const char *q = p + prefix;
    bool triple = end - q >= 3 && q[1] == q[0] && q[2] == q[0];
    char quote = *q;
    if (!triple && end - q >= 2 && q[1] == quote)
        return prefix + 2;
    for (q += triple ? 3 : 1; q < end;) {
        if (*q == quote && (!triple || (end - q >= 3 && q[1] == quote && q[2] == quote)))
            return (size_t)(q - p) + (triple ? 3 : 1);
        if (!triple && (*q == '\n' || *q == '\r'))
            break;
        if (*q == '\\' && !raw) {
            size_t len = escape_span(q, end);
            if (!len) {
                q += KP_MIN((size_t)(end - q), (size_t)2);
                break;
            }
            q += len;
        } else {
            q += utf8_len(q, end);
        }
    }
    *ret_bad = (size_t)(q - p);
    return 0;
}

/* Letters before a quote: r, b, br, rb is none. */
static size_t string_prefix(const char *p, const char *end, bool *ret_raw, bool *ret_bytes)
{
    size_t len = 0;
    *ret_bytes = p < end && (*p == 'b' || *p == 'B');
    len += *ret_bytes;
    *ret_raw = p + len < end && (p[len] == 'r' || p[len] == 'R');
    len += *ret_raw;
    return p + len < end && (p[len] == '"' || p[len] == '\'') ? len : SIZE_MAX;
}

static size_t scan_word(const char *p, const char *end, enum token_kind *ret_kind)
{
    size_t len = 1;
    while (p + len < end && (is_letter(p[len]) || isdigit((unsigned char)p[len])))
        len++;
    *ret_kind = TOKEN_IDENT;
    for (size_t i = 0; i < KP_ARRAY_LEN(words); i++)
        if (len == strlen(words[i].text) && memcmp(p, words[i].text, len) == 0)
            *ret_kind = words[i].kind;
    return len;
}

/* `a name` */
static size_t scan_quoted_name(const char *p, const char *end)
{
    size_t len = 1;
    while (p + len < end && (is_letter(p[len]) || isdigit((unsigned char)p[len]) || (p[len] && strchr(".-/ ", p[len]))))
        len++;
    return p + len < end && p[len] == '`' && len > 1 ? len + 1 : 0;
}

/* Bytes of the token at p, 0 when there is none; then *ret_bad are not understood. */
static size_t scan(const char *p, const char *end, enum token_kind *ret_kind, size_t *ret_bad)
{
    bool raw, bytes;
    size_t prefix = string_prefix(p, end, &raw, &bytes);
    *ret_bad = utf8_len(p, end);
    if (prefix != SIZE_MAX) {
        *ret_kind = bytes ? TOKEN_BYTES : TOKEN_STRING;
        return scan_string(p, end, prefix, raw, ret_bad);
    }
    if (is_letter(*p))
        return scan_word(p, end, ret_kind);
    if (isdigit((unsigned char)*p))
        return scan_number(p, end, ret_kind);
    if (*p == '.' && end - p > 1 && isdigit((unsigned char)p[1])) {
        size_t digits = span_digits(p + 1, end);
        *ret_kind = TOKEN_FLOAT;
        return 1 + digits + span_exponent(p + 1 + digits, end);
    }
    if (*p == '`') {
        *ret_kind = TOKEN_ESC_IDENT;
        return scan_quoted_name(p, end);
    }
    for (size_t i = 0; i < KP_ARRAY_LEN(symbols); i++) {
        size_t len = strlen(symbols[i].text);
        if ((size_t)(end - p) >= len && memcmp(p, symbols[i].text, len) == 0) {
            *ret_kind = symbols[i].kind;
            return len;
        }
    }
    if ((*p == '|' || *p == '&' || *p == '=') && end - p > 1) /* half of an operator: what is next was to be the other half */
        *ret_bad += utf8_len(p + 1, end);
    return 0;
}

static void advance(struct lexer *lexer, size_t len)
{
    const char *p = lexer->source->text + lexer->offset, *end = p + len;
    lexer->offset += len;
    for (; p < end; p += utf8_len(p, end))
        lexer->at++;
}

static void skip_space(struct lexer *lexer)
{
    const char *text = lexer->source->text;
    size_t len = lexer->source->len;
    for (;;) {
        size_t o = lexer->offset;
        if (o < len && text[o] && strchr(" \t\r\n\f", text[o])) {
            advance(lexer, 1);
        } else if (o + 1 < len && text[o] == '/' && text[o + 1] == '/') {
            const char *stop = memchr(text + o, '\n', len - o);
            advance(lexer, stop ? (size_t)(stop - text) - o : len - o);
        } else {
            return;
        }
    }
}

struct token lexer_next(struct lexer *lexer)
{
    const char *end = lexer->source->text + lexer->source->len;
    for (;;) {
        skip_space(lexer);
        const char *p = lexer->source->text + lexer->offset;
        struct token token = {.kind = TOKEN_EOF, .text = p, .at = lexer->at};
        if (p == end)
            return token;
        size_t bad;
        token.len = scan(p, end, &token.kind, &bad);
        if (token.len > 0) {
            advance(lexer, token.len);
            return token;
        }
        fault_add(lexer->source, lexer->at, "Syntax error: token recognition error at: '%.*s'", (int)bad, p);
        advance(lexer, bad);
    }
}

/* ---- values of literals ----------------------------------------------------------------------------------------------------------- */
static uint32_t digits_value(const char *p, size_t n, int base)
{
    uint32_t value = 0;
    for (size_t i = 0; i < n; i++)
        value = value * (uint32_t)base +
                (uint32_t)(isdigit((unsigned char)p[i]) ? p[i] - '0' : tolower((unsigned char)p[i]) - 'a' + 10);
    return value;
}

/* The escape at p, of len bytes; false when it stands for no character. */
static bool put_escape(const char *p, size_t len, bool bytes, struct kp_buf *out)
{
    static const char from[] = "abfnrtv\"'\\?`", to[] = "\a\b\f\n\r\t\v\"'\\?`";
    const char *simple = len == 2 ? strchr(from, p[1]) : NULL;
    char utf8[4];
    if (simple) {
        kp_buf_putc(out, to[simple - from]);
        return true;
    }
    bool octal = p[1] >= '0' && p[1] <= '3';
    bool wide = p[1] == 'u' || p[1] == 'U';
    uint32_t c = octal ? digits_value(p + 1, 3, 8) : digits_value(p + 2, len - 2, 16);
    if (bytes && !wide) {
        kp_buf_putc(out, (char)c);
        return true;
    }
    if (bytes || c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff))
        return false;
    kp_buf_append(out, utf8, utf8_put(c, utf8));
    return true;
}

const char *unquote(const char *text, size_t len, bool bytes, struct kp_arena *arena, size_t *ret_len, const char **ret_why)
{
    KP_AUTO_BUF struct kp_buf out = {0};
    const char *p = text + bytes, *end = text + len;
    bool raw = *p == 'r' || *p == 'R';
    p += raw;
    size_t quotes = end - p >= 6 && p[1] == p[0] && p[2] == p[0] ? 3 : 1;
    p += quotes;
    end -= quotes;
    while (p < end) {
        size_t size = *p == '\\' && !raw ? escape_span(p, end) : 0;
        if (size > 0) {
            if (!put_escape(p, size, bytes, &out)) {
                *ret_why = bytes ? "unable to unescape string, \\u or \\U in bytes" : "unable to unescape string";
                return NULL;
            }
        } else if (*p == '\r') { /* a line break is one however it was written */
            size = p + 1 < end && p[1] == '\n' ? 2 : 1;
            kp_buf_putc(&out, '\n');
        } else {
            size = 1;
            kp_buf_putc(&out, *p);
        }
        p += size;
    }
    *ret_len = out.len;
    return kp_arena_memdup(arena, out.data ? out.data : "", out.len + 1);
}
