/* Label and field selectors in their string form, as they come in query parameters. */
#include "codec/codec_internal.h"

#include <ctype.h>

enum token { TOKEN_END, TOKEN_CLOSE, TOKEN_COMMA, TOKEN_NOT, TOKEN_DOUBLE_EQUALS, TOKEN_EQUALS, TOKEN_IN, TOKEN_NOT_EQUALS,
             TOKEN_NOT_IN, TOKEN_OPEN, TOKEN_WORD, TOKEN_GT, TOKEN_LT };

struct lexer {
    const char *p;
    struct kp_arena *arena;
    struct kp_error *error;
    enum token token;
    const char *text; /* of the token */
};

static const struct {
    const char *text;
    enum token token;
} symbols[] = {{"==", TOKEN_DOUBLE_EQUALS}, {"!=", TOKEN_NOT_EQUALS}, {"=", TOKEN_EQUALS}, {"!", TOKEN_NOT}, {"(", TOKEN_OPEN},
               {")", TOKEN_CLOSE}, {",", TOKEN_COMMA}, {">", TOKEN_GT}, {"<", TOKEN_LT}};

/* words: `in` and `notin` are operators where one may stand. */
static void next(struct lexer *l, bool operators)
{
    while (*l->p == ' ' || *l->p == '\t' || *l->p == '\r' || *l->p == '\n')
        l->p++;
    l->token = TOKEN_END;
    l->text = "";
    if (*l->p == '\0')
        return;
    for (size_t i = 0; i < KP_ARRAY_LEN(symbols); i++) {
        size_t len = strlen(symbols[i].text);
        if (strncmp(l->p, symbols[i].text, len) == 0) {
            l->token = symbols[i].token;
            l->text = symbols[i].text;
            l->p += len;
            return;
        }
    }
    size_t len = strcspn(l->p, " \t\r\n=!(),<>");
    l->text = kp_arena_strndup(l->arena, l->p, len);
    l->p += len;
    l->token = TOKEN_WORD;
    if (operators && strcmp(l->text, "in") == 0)
        l->token = TOKEN_IN;
    if (operators && strcmp(l->text, "notin") == 0)
        l->token = TOKEN_NOT_IN;
}

static int found(struct lexer *l, const char *expected)
{
    return kp_fail(l->error, KP_EBADREQUEST, "unable to parse requirement: found '%s', expected: %s", l->text, expected);
}

static int check_values(struct lexer *l, const struct kp_requirement *r)
{
    int64_t number;
    for (size_t i = 0; i < r->values.len; i++) {
        const char *fault = kp_validate_label_value(r->values.items[i]);
        if (fault)
            return kp_fail(l->error, KP_EBADREQUEST, "unable to parse requirement: values[%zu][%s]: Invalid value: \"%s\": %s", i, r->key,
                           r->values.items[i], fault);
        if ((r->op == KP_SEL_GT || r->op == KP_SEL_LT) && kp_parse_i64(r->values.items[i], &number) < 0)
            return kp_fail(l->error, KP_EBADREQUEST,
                           "unable to parse requirement: values[%zu]: Invalid value: \"%s\": for 'Gt', 'Lt' operators, the value must be an integer",
                           i, r->values.items[i]);
    }
    return 0;
}

/* After `in` or `notin`: (a,b,,c); an empty place is the empty value. */
static int parse_set(struct lexer *l, struct kp_requirement *r)
{
    next(l, false);
    if (l->token != TOKEN_OPEN)
        return kp_fail(l->error, KP_EBADREQUEST, "unable to parse requirement: found '%s' expected: '('", l->text);
    bool value_due = true;
    for (;;) {
        next(l, false);
        if (l->token == TOKEN_WORD && value_due) {
            if (!kp_string_list_has(&r->values, l->text))
                kp_string_list_add(l->arena, &r->values, l->text);
            value_due = false;
        } else if (l->token == TOKEN_COMMA || l->token == TOKEN_CLOSE) {
            if (value_due && !kp_string_list_has(&r->values, ""))
                kp_string_list_add(l->arena, &r->values, "");
            value_due = true;
            if (l->token == TOKEN_CLOSE)
                break;
        } else {
            return found(l, "',', or ')'");
        }
        if (r->values.len > KP_SELECTOR_REQUIREMENTS_MAX)
            return kp_fail(l->error, KP_ETOOLARGE, "selector has more than %d values", KP_SELECTOR_REQUIREMENTS_MAX);
    }
    next(l, false);
    return 0;
}

static int parse_exact(struct lexer *l, struct kp_requirement *r)
{
    next(l, false);
    if (l->token == TOKEN_WORD) {
        kp_string_list_add(l->arena, &r->values, l->text);
        next(l, false);
        return 0;
    }
    if (l->token != TOKEN_END && l->token != TOKEN_COMMA)
        return found(l, "identifier");
    kp_string_list_add(l->arena, &r->values, "");
    return 0;
}

static int parse_operator(struct lexer *l, struct kp_requirement *r)
{
    switch (l->token) {
    case TOKEN_END:
    case TOKEN_COMMA:
        r->op = KP_SEL_EXISTS;
        return 0;
    case TOKEN_IN:
    case TOKEN_NOT_IN:
        r->op = l->token == TOKEN_IN ? KP_SEL_IN : KP_SEL_NOT_IN;
        return parse_set(l, r);
    case TOKEN_EQUALS:
    case TOKEN_DOUBLE_EQUALS:
        r->op = KP_SEL_EQUALS;
        return parse_exact(l, r);
    case TOKEN_NOT_EQUALS:
        r->op = KP_SEL_NOT_EQUALS;
        return parse_exact(l, r);
    case TOKEN_GT:
    case TOKEN_LT:
        r->op = l->token == TOKEN_GT ? KP_SEL_GT : KP_SEL_LT;
        return parse_exact(l, r);
    default:
        return found(l, "in, notin, =, ==, !=, gt, lt");
    }
}

static int parse_requirement(struct lexer *l, struct kp_requirement *r)
{
    bool negated = l->token == TOKEN_NOT;
    if (negated)
        next(l, false);
    if (l->token != TOKEN_WORD)
        return found(l, "identifier");
    r->key = l->text;
    const char *fault = kp_validate_qualified_name(r->key);
    if (fault)
        return kp_fail(l->error, KP_EBADREQUEST, "unable to parse requirement: key: Invalid value: \"%s\": %s", r->key, fault);
    next(l, true);
    if (negated) {
        r->op = KP_SEL_NOT_EXISTS;
        return 0;
    }
    int rc = parse_operator(l, r);
    return rc < 0 ? rc : check_values(l, r);
}

static int compare_requirements(const void *a, const void *b)
{
    return strcmp(((const struct kp_requirement *)a)->key, ((const struct kp_requirement *)b)->key);
}

int kp_label_selector_parse(const char *s, struct kp_arena *arena, struct kp_selector *ret, struct kp_error *error)
{
    struct lexer l = {.p = s ? s : "", .arena = arena, .error = error};
    *ret = (struct kp_selector){0};
    next(&l, false);
    while (l.token != TOKEN_END) {
        if (l.token != TOKEN_WORD && l.token != TOKEN_NOT)
            return found(&l, "!, identifier, or 'end of string'");
        if (ret->len == KP_SELECTOR_REQUIREMENTS_MAX)
            return kp_fail(error, KP_ETOOLARGE, "selector has more than %d requirements", KP_SELECTOR_REQUIREMENTS_MAX);
        int rc = parse_requirement(&l, KP_LIST_ADD(arena, ret));
        if (rc < 0)
            return rc;
        if (l.token == TOKEN_END)
            break;
        if (l.token != TOKEN_COMMA)
            return found(&l, "',' or 'end of string'");
        next(&l, false);
        if (l.token != TOKEN_WORD && l.token != TOKEN_NOT)
            return found(&l, "identifier after ','");
    }
    if (ret->len > 1)
        qsort(ret->items, ret->len, sizeof(*ret->items), compare_requirements);
    return 0;
}

/* ---- field selectors: "a=b,c!=d" with \ before , = and \ in values ------------------------------------------------- */
static int field_value(const char *s, size_t len, struct kp_arena *arena, const char **ret, struct kp_error *error)
{
    char *out = kp_arena_alloc(arena, len + 1);
    size_t n = 0;
    for (size_t i = 0; i < len; i++) {
        if (s[i] == '\\') {
            if (i + 1 == len || !strchr("\\,=", s[i + 1]))
                return kp_fail(error, KP_EBADREQUEST, "invalid field selector: invalid escape sequence: \\%.1s", i + 1 < len ? s + i + 1 : "");
            i++;
        } else if (s[i] == '=') {
            return kp_fail(error, KP_EBADREQUEST, "invalid field selector: invalid selector: '%.*s'; unescaped =", (int)len, s);
        }
        out[n++] = s[i];
    }
    *ret = out;
    return 0;
}

int kp_field_selector_parse(const char *s, struct kp_arena *arena, struct kp_selector *ret, struct kp_error *error)
{
    *ret = (struct kp_selector){0};
    for (s = s ? s : ""; *s;) {
        size_t len = 0;
        while (s[len] && s[len] != ',')
            len += s[len] == '\\' && s[len + 1] ? 2 : 1;
        if (len > 0) {
            size_t at = 0;
            while (at < len && s[at] != '=' && s[at] != '!')
                at += s[at] == '\\' && at + 1 < len ? 2 : 1;
            bool negated = at + 1 < len && s[at] == '!' && s[at + 1] == '=';
            if (at >= len || (s[at] == '!' && !negated))
                return kp_fail(error, KP_EBADREQUEST, "invalid selector: '%.*s'; can't understand '%.*s'", (int)len, s, (int)len, s);
            size_t op = negated || (at + 1 < len && s[at + 1] == '=') ? 2 : 1;
            if (ret->len == KP_SELECTOR_REQUIREMENTS_MAX)
                return kp_fail(error, KP_ETOOLARGE, "selector has more than %d requirements", KP_SELECTOR_REQUIREMENTS_MAX);
            struct kp_requirement *r = KP_LIST_ADD(arena, ret);
            r->key = kp_arena_strndup(arena, s, at);
            r->op = negated ? KP_SEL_NOT_EQUALS : KP_SEL_EQUALS;
            const char *value = NULL;
            int rc = field_value(s + at + op, len - at - op, arena, &value, error);
            if (rc < 0)
                return rc;
            kp_string_list_add(arena, &r->values, value);
        }
        s += len;
        s += *s == ',';
    }
    return 0;
}

bool kp_field_selector_matches(const struct kp_selector *selector, const char *(*get)(void *ctx, const char *field), void *ctx)
{
    for (size_t i = 0; i < selector->len; i++) {
        const struct kp_requirement *r = &selector->items[i];
        const char *value = get(ctx, r->key);
        bool equal = strcmp(value ? value : "", r->values.items[0]) == 0;
        if (equal != (r->op == KP_SEL_EQUALS))
            return false;
    }
    return !selector->nothing;
}
