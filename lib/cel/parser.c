/* Expressions as trees, by the grammar of cel-go (parser/gen/CEL.g4): precedence climbing, with the places that its errors name. */
#include "lib/cel/cel_internal.h"

#include <errno.h>
#include <math.h>

struct parser {
    struct source *source;
    struct lexer lexer;
    struct token token, ahead;
    size_t depth;
    size_t recoveries;
    bool recovering; /* an error was told and nothing was understood since */
    bool gave_up;
};

static struct expr *parse_expr(struct parser *p);

#define OPERAND "'-', '!', 'true', 'false', 'null', NUM_FLOAT, NUM_INT, NUM_UINT, STRING, BYTES, IDENTIFIER}"
static const char expects_operand[] = "{'[', '{', '(', '.', " OPERAND;
static const char expects_argument[] = "{'[', '{', '(', ')', '.', " OPERAND;
static const char expects_item[] = "{'[', ']', '{', '(', '.', ',', '-', '!', '?', 'true', 'false', 'null', NUM_FLOAT, NUM_INT, NUM_UINT, STRING, BYTES, IDENTIFIER}";
static const char expects_entry[] = "{'[', '{', '}', '(', '.', ',', '-', '!', '?', 'true', 'false', 'null', NUM_FLOAT, NUM_INT, NUM_UINT, STRING, BYTES, IDENTIFIER}";

struct expr *expr_new(struct source *source, enum expr_kind kind, uint32_t at)
{
    source->nodes++;
    struct expr *e = KP_NEW(source->arena, struct expr);
    e->kind = kind;
    e->at = at;
    return e;
}

struct expr *expr_string(struct source *source, uint32_t at, const char *text)
{
    struct expr *e = expr_new(source, EXPR_LITERAL, at);
    e->literal = cel_of_string(text);
    return e;
}

struct expr *expr_call(struct source *source, uint32_t at, const char *function, struct expr *target, size_t n, struct expr *const *args)
{
    struct expr *e = expr_new(source, EXPR_CALL, at);
    e->call.function = function;
    e->call.target = target;
    e->call.n_args = n;
    e->call.args = KP_NEW_ARRAY(source->arena, struct expr *, n + 2); /* room for the target */
    for (size_t i = 0; i < n; i++)
        e->call.args[i] = args[i];
    return e;
}

static struct expr *call_or_macro(struct parser *p, uint32_t at, const char *function, struct expr *target, size_t n, struct expr **args)
{
    if (p->source->nodes > CEL_NODES_MAX) {
        if (!p->gave_up)
            fault_add(p->source, NO_PLACE, "expression has more than %d nodes", CEL_NODES_MAX);
        p->gave_up = true;
        return expr_new(p->source, EXPR_ERROR, at);
    }
    struct expr *expanded = expand_macro(p->source, at, function, target, n, args);
    return expanded ? expanded : expr_call(p->source, at, function, target, n, args);
}

/* ---- tokens ------------------------------------------------------------------------------------------------------------------------- */
static void next(struct parser *p)
{
    p->token = p->ahead;
    if (p->gave_up)
        p->token.kind = TOKEN_EOF;
    if (p->token.kind != TOKEN_EOF)
        p->ahead = lexer_next(&p->lexer);
    p->recovering = false;
}

static const char *text_of(struct parser *p, const struct token *token)
{
    return token->kind == TOKEN_EOF ? "<EOF>" : kp_arena_strndup(p->source->arena, token->text, token->len);
}

static void syntax_error(struct parser *p, const struct token *token, const char *what, const char *after, const char *expected)
{
    if (p->recovering || p->gave_up)
        return;
    fault_add(p->source, token->at, "Syntax error: %s '%s' %s %s", what, text_of(p, token), after, expected);
    p->recovering = true;
    if (++p->recoveries > RECOVERIES_MAX) {
        fault_add(p->source, token->at, "Syntax error: error recovery attempt limit exceeded: %d", RECOVERIES_MAX);
        p->gave_up = true;
        p->token.kind = TOKEN_EOF;
    }
}

static bool begins_operand(enum token_kind kind)
{
    switch (kind) {
    case TOKEN_LBRACKET: case TOKEN_LBRACE: case TOKEN_LPAREN: case TOKEN_DOT: case TOKEN_MINUS: case TOKEN_EXCLAM: case TOKEN_TRUE: case TOKEN_FALSE:
    case TOKEN_NULL: case TOKEN_FLOAT: case TOKEN_INT: case TOKEN_UINT: case TOKEN_STRING: case TOKEN_BYTES: case TOKEN_IDENT:
        return true;
    default:
        return false;
    }
}

/* What may come after something that is closed. */
static bool follows_closing(enum token_kind kind)
{
    return kind == TOKEN_EOF || !(begins_operand(kind) || kind == TOKEN_ESC_IDENT) || kind == TOKEN_LBRACKET || kind == TOKEN_DOT || kind == TOKEN_MINUS;
}

/* Takes a token of that kind; one too many before it is passed over, a missing one is told. */
static bool expect(struct parser *p, enum token_kind kind, const char *name)
{
    if (p->token.kind == kind) {
        next(p);
        return true;
    }
    if (p->token.kind != TOKEN_EOF && p->ahead.kind == kind) {
        syntax_error(p, &p->token, "extraneous input", "expecting", name);
        next(p);
        next(p);
        return true;
    }
    bool closing = kind == TOKEN_RPAREN || kind == TOKEN_RBRACKET || kind == TOKEN_RBRACE;
    if (closing && follows_closing(p->token.kind)) {
        if (!p->recovering && !p->gave_up)
            fault_add(p->source, p->token.at, "Syntax error: missing %s at '%s'", name, text_of(p, &p->token));
        p->recovering = true;
        return false;
    }
    syntax_error(p, &p->token, "mismatched input", "expecting", name);
    return false;
}

static bool enter(struct parser *p)
{
    if (++p->depth <= CEL_DEPTH_MAX)
        return true;
    if (!p->gave_up)
        fault_add(p->source, NO_PLACE, "expression recursion limit exceeded: %d", CEL_DEPTH_MAX);
    p->gave_up = true;
    p->token.kind = TOKEN_EOF;
    return false;
}

/* ---- growing lists of parts ------------------------------------------------------------------------------------------------------------ */
struct parts {
    struct expr **items;
    bool *optional;
    size_t len, cap;
};

static void add_part(struct parser *p, struct parts *parts, struct expr *e, bool optional)
{
    if (parts->len == parts->cap) {
        size_t cap = parts->cap ? 2 * parts->cap : 4;
        struct expr **items = KP_NEW_ARRAY(p->source->arena, struct expr *, cap);
        bool *flags = KP_NEW_ARRAY(p->source->arena, bool, cap);
        if (parts->len > 0) {
            memcpy(items, parts->items, parts->len * sizeof(*items));
            memcpy(flags, parts->optional, parts->len * sizeof(*flags));
        }
        *parts = (struct parts){items, flags, parts->len, cap};
    }
    parts->items[parts->len] = e;
    parts->optional[parts->len++] = optional;
}

/* ---- literals --------------------------------------------------------------------------------------------------------------------------- */
static struct expr *bad_literal(struct parser *p, uint32_t at, const char *why)
{
    fault_add(p->source, at, "%s", why);
    return expr_new(p->source, EXPR_ERROR, at);
}

static struct expr *parse_number(struct parser *p, bool negative, uint32_t at)
{
    char text[64];
    const struct token token = p->token;
    struct expr *e = expr_new(p->source, EXPR_LITERAL, at);
    next(p);
    size_t len = token.len - (token.kind == TOKEN_UINT);
    const char *why = token.kind == TOKEN_INT ? "invalid int literal" : token.kind == TOKEN_UINT ? "invalid uint literal" : "invalid double literal";
    if (token.kind == TOKEN_FLOAT) {
        KP_AUTO_FREE char *copy = kp_strndup(token.text, len);
        double d = strtod(copy, NULL);
        e->literal = cel_of_double(negative ? -d : d);
        return isinf(d) ? bad_literal(p, at, why) : e;
    }
    bool hex = len > 2 && token.text[0] == '0' && token.text[1] == 'x';
    const char *digits = token.text + (hex ? 2 : 0);
    len -= hex ? 2 : 0;
    while (len > 1 && *digits == '0') {
        digits++;
        len--;
    }
    if (len >= sizeof(text))
        return bad_literal(p, at, why);
    memcpy(text, digits, len);
    text[len] = '\0';
    errno = 0;
    uint64_t value = strtoull(text, NULL, hex ? 16 : 10);
    if (errno || (token.kind == TOKEN_INT && value > (uint64_t)INT64_MAX + negative))
        return bad_literal(p, at, why);
    if (token.kind == TOKEN_UINT)
        e->literal = (struct cel_value){.kind = CEL_UINT, .uinteger = value};
    else
        e->literal = cel_of_int(negative ? (int64_t)(0 - value) : (int64_t)value);
    return e;
}

static struct expr *parse_text(struct parser *p)
{
    const struct token token = p->token;
    bool bytes = token.kind == TOKEN_BYTES;
    const char *why = NULL;
    size_t len = 0;
    next(p);
    const char *data = unquote(token.text, token.len, bytes, p->source->arena, &len, &why);
    if (!data)
        return bad_literal(p, token.at, why);
    struct expr *e = expr_new(p->source, EXPR_LITERAL, token.at);
    e->literal = cel_of_text(data, len);
    e->literal.kind = bytes ? CEL_BYTES : CEL_STRING;
    return e;
}

/* ---- primaries ---------------------------------------------------------------------------------------------------------------------------- */
static bool is_reserved(const char *name)
{
    static const char *const reserved[] = {"as", "break", "const", "continue", "else", "false", "for", "function", "if", "import", "in",
                                           "let", "loop", "package", "namespace", "null", "return", "true", "var", "void", "while"};
    for (size_t i = 0; i < KP_ARRAY_LEN(reserved); i++)
        if (strcmp(name, reserved[i]) == 0)
            return true;
    return false;
}

/* After the opening parenthesis, to the closing one. */
static struct parts parse_args(struct parser *p)
{
    struct parts args = {0};
    if (p->token.kind != TOKEN_RPAREN && !begins_operand(p->token.kind)) {
        syntax_error(p, &p->token, begins_operand(p->ahead.kind) || p->ahead.kind == TOKEN_RPAREN ? "extraneous input" : "mismatched input", "expecting",
                     expects_argument);
        if (begins_operand(p->ahead.kind) || p->ahead.kind == TOKEN_RPAREN)
            next(p);
    }
    while (p->token.kind != TOKEN_RPAREN && p->token.kind != TOKEN_EOF) {
        add_part(p, &args, parse_expr(p), false);
        if (p->token.kind != TOKEN_COMMA)
            break;
        next(p);
        if (p->token.kind == TOKEN_RPAREN)
            syntax_error(p, &p->token, "mismatched input", "expecting", expects_operand);
    }
    expect(p, TOKEN_RPAREN, "')'");
    return args;
}

static struct expr *parse_message(struct parser *p, const struct token *name)
{
    fault_add(p->source, p->token.at, "undeclared reference to '%s' (in container '')", text_of(p, name));
    p->gave_up = true;
    p->token.kind = TOKEN_EOF;
    return expr_new(p->source, EXPR_ERROR, name->at);
}

static struct expr *parse_name(struct parser *p, bool leading_dot)
{
    const struct token token = p->token;
    const char *name = text_of(p, &token);
    next(p);
    if (is_reserved(name)) {
        fault_add(p->source, token.at, "reserved identifier: %s", name);
        struct expr *error = expr_new(p->source, EXPR_ERROR, token.at);
        if (p->token.kind == TOKEN_LPAREN) {
            next(p);
            parse_args(p);
        }
        return error;
    }
    if (leading_dot)
        name = kp_arena_printf(p->source->arena, ".%s", name);
    if (p->token.kind == TOKEN_LPAREN) {
        uint32_t at = p->token.at;
        next(p);
        struct parts args = parse_args(p);
        return call_or_macro(p, at, name, NULL, args.len, args.items);
    }
    if (p->token.kind == TOKEN_LBRACE)
        return parse_message(p, &token);
    struct expr *e = expr_new(p->source, EXPR_IDENT, token.at);
    e->ident.name = name;
    return e;
}

/* The first token of an item or entry that cannot be one: passed over when what follows can. */
static void check_begin(struct parser *p, enum token_kind closing, const char *expected)
{
    enum token_kind kind = p->token.kind;
    if (begins_operand(kind) || kind == closing || kind == TOKEN_COMMA || kind == TOKEN_QUESTION)
        return;
    bool extra = kind != TOKEN_EOF && (begins_operand(p->ahead.kind) || p->ahead.kind == closing);
    syntax_error(p, &p->token, extra ? "extraneous input" : "mismatched input", "expecting", expected);
    if (extra)
        next(p);
}

static bool take_question(struct parser *p)
{
    if (p->token.kind != TOKEN_QUESTION)
        return false;
    next(p);
    return true;
}

static struct expr *parse_list(struct parser *p)
{
    struct expr *e = expr_new(p->source, EXPR_LIST, p->token.at);
    struct parts items = {0};
    next(p);
    check_begin(p, TOKEN_RBRACKET, expects_item);
    while (p->token.kind == TOKEN_QUESTION || begins_operand(p->token.kind)) {
        bool optional = take_question(p);
        add_part(p, &items, parse_expr(p), optional);
        if (p->token.kind != TOKEN_COMMA)
            break;
        next(p);
    }
    if (items.len == 0 && p->token.kind == TOKEN_COMMA)
        next(p);
    expect(p, TOKEN_RBRACKET, "']'");
    e->list.items = items.items;
    e->list.optional = items.optional;
    e->list.len = items.len;
    return e;
}

static struct expr *parse_map(struct parser *p)
{
    struct expr *e = expr_new(p->source, EXPR_MAP, p->token.at);
    struct parts keys = {0}, values = {0};
    next(p);
    check_begin(p, TOKEN_RBRACE, expects_entry);
    while (p->token.kind == TOKEN_QUESTION || begins_operand(p->token.kind)) {
        bool optional = take_question(p);
        add_part(p, &keys, parse_expr(p), optional);
        if (!expect(p, TOKEN_COLON, "':'"))
            break;
        add_part(p, &values, parse_expr(p), false);
        if (p->token.kind != TOKEN_COMMA)
            break;
        next(p);
    }
    if (keys.len == 0 && p->token.kind == TOKEN_COMMA)
        next(p);
    expect(p, TOKEN_RBRACE, "'}'");
    e->map.entries = KP_NEW_ARRAY(p->source->arena, struct expr_entry, values.len);
    for (size_t i = 0; i < values.len; i++)
        e->map.entries[e->map.len++] = (struct expr_entry){keys.items[i], values.items[i], keys.optional[i]};
    return e;
}

static struct expr *parse_constant(struct parser *p)
{
    struct expr *e = expr_new(p->source, EXPR_LITERAL, p->token.at);
    e->literal = p->token.kind == TOKEN_NULL ? cel_of_null() : cel_of_bool(p->token.kind == TOKEN_TRUE);
    next(p);
    return e;
}

static struct expr *parse_operand(struct parser *p)
{
    switch (p->token.kind) {
    case TOKEN_TRUE: case TOKEN_FALSE: case TOKEN_NULL:
        return parse_constant(p);
    case TOKEN_INT: case TOKEN_UINT: case TOKEN_FLOAT:
        return parse_number(p, false, p->token.at);
    case TOKEN_STRING: case TOKEN_BYTES:
        return parse_text(p);
    case TOKEN_IDENT:
        return parse_name(p, false);
    case TOKEN_DOT:
        next(p);
        if (p->token.kind == TOKEN_IDENT)
            return parse_name(p, true);
        syntax_error(p, &p->token, "mismatched input", "expecting", "IDENTIFIER");
        return expr_new(p->source, EXPR_ERROR, p->token.at);
    case TOKEN_LBRACKET:
        return parse_list(p);
    case TOKEN_LBRACE:
        return parse_map(p);
    case TOKEN_LPAREN: {
        next(p);
        struct expr *inner = parse_expr(p);
        expect(p, TOKEN_RPAREN, "')'");
        return inner;
    }
    default:
        break;
    }
    bool extra = p->token.kind != TOKEN_EOF && begins_operand(p->ahead.kind);
    uint32_t at = p->token.at;
    syntax_error(p, &p->token, extra ? "extraneous input" : "mismatched input", "expecting", expects_operand);
    if (!extra || p->gave_up)
        return expr_new(p->source, EXPR_ERROR, at);
    next(p);
    return parse_operand(p);
}

/* ---- what follows an operand ------------------------------------------------------------------------------------------------------------------ */
static struct expr *parse_dot(struct parser *p, struct expr *operand)
{
    const struct token dot = p->token;
    next(p);
    bool optional = take_question(p);
    const struct token name = p->token;
    if (name.kind == TOKEN_ESC_IDENT) { /* a syntax that Kubernetes does not enable */
        fault_add(p->source, name.at, "unsupported syntax: '`'");
        next(p);
        return expr_new(p->source, EXPR_ERROR, dot.at);
    }
    if (name.kind != TOKEN_IDENT) {
        if (!p->recovering && !p->gave_up) {
            bool word = name.kind == TOKEN_TRUE || name.kind == TOKEN_FALSE || name.kind == TOKEN_NULL;
            if (word)
                fault_add(p->source, name.at, "Syntax error: mismatched input '%s' expecting IDENTIFIER", text_of(p, &name));
            else
                fault_add(p->source, name.at, "Syntax error: no viable alternative at input '.%s'", name.kind == TOKEN_EOF ? "" : text_of(p, &name));
        }
        p->recovering = true;
        if (name.kind != TOKEN_EOF)
            next(p);
        return expr_new(p->source, EXPR_ERROR, dot.at);
    }
    const char *text = text_of(p, &name);
    next(p);
    if (optional)
        return expr_call(p->source, dot.at, "_?._", NULL, 2, (struct expr *[]){operand, expr_string(p->source, name.at, text)});
    if (p->token.kind == TOKEN_LPAREN) {
        uint32_t at = p->token.at;
        next(p);
        struct parts args = parse_args(p);
        return call_or_macro(p, at, text, operand, args.len, args.items);
    }
    struct expr *e = expr_new(p->source, EXPR_SELECT, dot.at);
    e->select.operand = operand;
    e->select.field = text;
    return e;
}

static struct expr *parse_member(struct parser *p)
{
    size_t depth = p->depth;
    struct expr *e = parse_operand(p);
    while (p->token.kind == TOKEN_DOT || p->token.kind == TOKEN_LBRACKET) {
        if (!enter(p))
            break;
        if (p->token.kind == TOKEN_DOT) {
            e = parse_dot(p, e);
            continue;
        }
        uint32_t at = p->token.at;
        next(p);
        bool optional = take_question(p);
        struct expr *index = parse_expr(p);
        expect(p, TOKEN_RBRACKET, "']'");
        e = expr_call(p->source, at, optional ? "_[?_]" : "_[_]", NULL, 2, (struct expr *[]){e, index});
    }
    p->depth = depth;
    return e;
}

static struct expr *parse_unary(struct parser *p)
{
    const struct token first = p->token;
    if (first.kind != TOKEN_EXCLAM && first.kind != TOKEN_MINUS)
        return parse_member(p);
    size_t count = 0;
    bool number = first.kind == TOKEN_MINUS && (p->ahead.kind == TOKEN_INT || p->ahead.kind == TOKEN_FLOAT);
    if (number) {
        next(p);
        struct expr *literal = parse_number(p, true, first.at);
        /* -1.abs() and the like: what follows belongs to the number with its sign */
        size_t depth = p->depth;
        while ((p->token.kind == TOKEN_DOT || p->token.kind == TOKEN_LBRACKET) && enter(p)) {
            if (p->token.kind == TOKEN_DOT) {
                literal = parse_dot(p, literal);
            } else {
                uint32_t at = p->token.at;
                next(p);
                struct expr *index = parse_expr(p);
                expect(p, TOKEN_RBRACKET, "']'");
                literal = expr_call(p->source, at, "_[_]", NULL, 2, (struct expr *[]){literal, index});
            }
        }
        p->depth = depth;
        return literal;
    }
    while (p->token.kind == first.kind) {
        count++;
        next(p);
    }
    struct expr *operand = parse_member(p);
    if (count % 2 == 0)
        return operand;
    return expr_call(p->source, first.at, first.kind == TOKEN_EXCLAM ? "!_" : "-_", NULL, 1, &operand);
}

/* ---- operators ---------------------------------------------------------------------------------------------------------------------------------- */
static const struct {
    enum token_kind kind;
    int level;
    const char *function;
} operators[] = {
    {TOKEN_LESS, 1, "_<_"},     {TOKEN_LESS_EQUALS, 1, "_<=_"}, {TOKEN_GREATER, 1, "_>_"}, {TOKEN_GREATER_EQUALS, 1, "_>=_"}, {TOKEN_EQUALS, 1, "_==_"},
    {TOKEN_NOT_EQUALS, 1, "_!=_"}, {TOKEN_IN, 1, "@in"},        {TOKEN_PLUS, 2, "_+_"},    {TOKEN_MINUS, 2, "_-_"},           {TOKEN_STAR, 3, "_*_"},
    {TOKEN_SLASH, 3, "_/_"},    {TOKEN_PERCENT, 3, "_%_"},
};

static const char *operator_of(enum token_kind kind, int level, int *ret_level)
{
    for (size_t i = 0; i < KP_ARRAY_LEN(operators); i++)
        if (operators[i].kind == kind && operators[i].level >= level) {
            *ret_level = operators[i].level;
            return operators[i].function;
        }
    return NULL;
}

static struct expr *parse_binary(struct parser *p, int level)
{
    size_t depth = p->depth;
    struct expr *left = parse_unary(p);
    const char *function;
    int found;
    while ((function = operator_of(p->token.kind, level, &found)) && enter(p)) {
        uint32_t at = p->token.at;
        next(p);
        struct expr *right = parse_binary(p, found + 1);
        left = call_or_macro(p, at, function, NULL, 2, (struct expr *[]){left, right});
    }
    p->depth = depth;
    return left;
}

/* All terms of one chain in one call: the place of the first operator is its place. */
static struct expr *parse_logic(struct parser *p, enum token_kind kind)
{
    struct parts terms = {0};
    uint32_t at = 0;
    struct expr *first = kind == TOKEN_OR ? parse_logic(p, TOKEN_AND) : parse_binary(p, 1);
    while (p->token.kind == kind) {
        if (terms.len == 0) {
            at = p->token.at;
            add_part(p, &terms, first, false);
        }
        next(p);
        add_part(p, &terms, kind == TOKEN_OR ? parse_logic(p, TOKEN_AND) : parse_binary(p, 1), false);
    }
    return terms.len ? expr_call(p->source, at, kind == TOKEN_OR ? "_||_" : "_&&_", NULL, terms.len, terms.items) : first;
}

static struct expr *parse_expr(struct parser *p)
{
    if (!enter(p)) {
        p->depth--;
        return expr_new(p->source, EXPR_ERROR, p->token.at);
    }
    struct expr *condition = parse_logic(p, TOKEN_OR);
    if (p->token.kind == TOKEN_QUESTION) {
        uint32_t at = p->token.at;
        next(p);
        struct expr *yes = parse_logic(p, TOKEN_OR);
        struct expr *no = expect(p, TOKEN_COLON, "':'") ? parse_expr(p) : expr_new(p->source, EXPR_ERROR, p->token.at);
        condition = expr_call(p->source, at, "_?_:_", NULL, 3, (struct expr *[]){condition, yes, no});
    }
    p->depth--;
    return condition;
}

struct expr *parse_expression(struct source *source)
{
    struct parser p = {.source = source, .lexer = {.source = source}};
    p.ahead = lexer_next(&p.lexer);
    next(&p);
    struct expr *root = parse_expr(&p);
    if (p.token.kind != TOKEN_EOF)
        syntax_error(&p, &p.token, p.ahead.kind == TOKEN_EOF ? "extraneous input" : "mismatched input", "expecting", "<EOF>");
    return root;
}
