/* JSONPath over trees: a path becomes a list of steps, and each step makes the next set of values of the one before. */
#include "codec/codec_internal.h"

enum step_kind { STEP_FIELD, STEP_WILDCARD, STEP_RECURSIVE, STEP_SLICE, STEP_UNION, STEP_FILTER, STEP_LITERAL };
enum filter_op { OP_EXISTS, OP_EQ, OP_NE, OP_LT, OP_LE, OP_GT, OP_GE };

struct step;
struct kp_jsonpath {
    struct step *items;
    size_t len;
};
struct slice {
    int64_t start, end, stride;
    bool has_start, has_end, single; /* single: [start] */
};
struct step {
    enum step_kind kind;
    union {
        const char *name; /* field */
        struct slice slice;
        struct {
            struct kp_jsonpath *items;
            size_t len;
        } parts; /* of a union */
        struct {
            struct kp_jsonpath left, right;
            enum filter_op op;
        } filter;
        const struct kp_value *literal; /* on a side of a filter */
    };
};

/* ---- parsing ------------------------------------------------------------------------------------------------------ */
struct parser {
    const char *text, *at;
    struct kp_arena *arena;
    struct kp_error *error;
    int filters; /* that the cursor is in */
};

static int parse_steps(struct parser *p, struct kp_jsonpath *path);

static int bad(const struct parser *p, const char *what)
{
    return kp_fail(p->error, KP_EINVALID, "JSONPath %.200s: at offset %zu: %s", p->text, (size_t)(p->at - p->text), what);
}

static void skip_blanks(struct parser *p)
{
    p->at += strspn(p->at, " \t");
}

/* A path within a filter ends where the operator or the filter's end begins. */
static bool ends_path(const struct parser *p, char c)
{
    return !c || (p->filters && strchr("!<>=)", c));
}

static bool ends_name(const struct parser *p, char c, char quote)
{
    if (quote)
        return !c || c == quote || c == '.';
    return ends_path(p, c) || strchr(" \t\r\n.,[]$@{}", c);
}

/* The name at the cursor, up to a dot or what ends it: a field, or all of them. */
static void parse_name(struct parser *p, char quote, struct kp_jsonpath *path)
{
    const char *start = p->at;
    for (; !ends_name(p, *p->at, quote); p->at++)
        if (*p->at == '\\' && p->at[1])
            p->at++;
    char *name = kp_arena_alloc(p->arena, (size_t)(p->at - start) + 1), *out = name;
    for (const char *c = start; c < p->at; c++) {
        if (*c == '\\' && c + 1 < p->at)
            c++;
        *out++ = *c;
    }
    struct step *step = KP_LIST_ADD(p->arena, path);
    step->kind = p->at - start == 1 && *start == '*' ? STEP_WILDCARD : STEP_FIELD;
    step->name = name;
}

static int parse_index(struct parser *p, int64_t *ret_index, bool *ret_has)
{
    char text[16]; /* digits that cannot overflow when one is added */
    const char *end = p->at + (*p->at == '-');
    end += strspn(end, "0123456789");
    size_t len = (size_t)(end - p->at);
    *ret_has = len > 0;
    if (!len)
        return 0;
    memcpy(text, p->at, KP_MIN(len, sizeof(text) - 1));
    text[KP_MIN(len, sizeof(text) - 1)] = '\0';
    if (len >= sizeof(text) || kp_parse_i64(text, ret_index) < 0)
        return bad(p, "this is no index; write a whole number");
    p->at = end;
    return 0;
}

/* "0", "-1", "0:2", "::2", "*"; as upstream, nothing at all is 0. */
static int parse_slice(struct parser *p, struct kp_jsonpath *path)
{
    struct slice slice = {.single = true};
    bool has_stride = false;
    if (*p->at == '*') {
        slice.single = false;
        p->at++;
    } else if (parse_index(p, &slice.start, &slice.has_start) < 0) {
        return KP_EINVALID;
    }
    if (slice.single && *p->at == ':') {
        slice.single = false;
        p->at++;
        if (parse_index(p, &slice.end, &slice.has_end) < 0)
            return KP_EINVALID;
        if (*p->at == ':' && (p->at++, parse_index(p, &slice.stride, &has_stride)) < 0)
            return KP_EINVALID;
    }
    if (has_stride && slice.stride <= 0)
        return bad(p, "step must be > 0");
    slice.stride = has_stride ? slice.stride : 1;
    struct step *step = KP_LIST_ADD(p->arena, path);
    step->kind = STEP_SLICE;
    step->slice = slice;
    return 0;
}

/* One of what stands between brackets and commas. */
static int parse_part(struct parser *p, struct kp_jsonpath *path)
{
    int code = 0;
    skip_blanks(p);
    char quote = *p->at;
    if (quote == '\'' || quote == '"') {
        do {
            p->at++; /* past the quote, or the dot between two names */
            parse_name(p, quote, path);
        } while (*p->at == '.');
        if (*p->at != quote)
            return bad(p, "the name has no end; close its quote");
        p->at++;
    } else {
        code = parse_slice(p, path);
    }
    skip_blanks(p);
    return code;
}

static int parse_string(struct parser *p, struct kp_value *value)
{
    static const char escaped[] = "ntr\\'\"", meant[] = "\n\t\r\\'\"";
    char quote = *p->at++;
    char *out = kp_arena_alloc(p->arena, strlen(p->at) + 1);
    value->kind = KP_VALUE_STRING;
    value->string = out;
    for (; *p->at != quote; p->at++) {
        if (!*p->at)
            return bad(p, "the string has no end; close its quote");
        if (*p->at != '\\') {
            *out++ = *p->at;
            continue;
        }
        const char *which = p->at[1] ? strchr(escaped, p->at[1]) : NULL;
        if (!which)
            return bad(p, "this escape is not known; write \\n, \\t, \\r, \\\\, \\' or \\\", or the character itself");
        *out++ = meant[which - escaped];
        p->at++;
    }
    *out = '\0';
    p->at++;
    return 0;
}

static int parse_number(struct parser *p, struct kp_value *value)
{
    char text[64], *end;
    size_t len = 1 + strspn(p->at + 1, "0123456789.");
    size_t sign = *p->at == '+';
    if (len >= sizeof(text))
        return bad(p, "this number is too long; write fewer digits");
    memcpy(text, p->at + sign, len - sign);
    text[len - sign] = '\0';
    value->kind = KP_VALUE_INT;
    if (kp_parse_i64(text, &value->integer) < 0) {
        value->kind = KP_VALUE_DOUBLE;
        value->number = strtod(text, &end);
        if (*end || end == text)
            return bad(p, "this is no number; write one such as 3 or -1.5");
    }
    p->at += len;
    return 0;
}

static bool parse_word(struct parser *p, const char *word)
{
    size_t len = strlen(word);
    if (strncmp(p->at, word, len) != 0 || !ends_name(p, p->at[len], 0))
        return false;
    p->at += len;
    return true;
}

/* A side of a comparison: a path from the element, or a literal. */
static int parse_operand(struct parser *p, struct kp_jsonpath *path)
{
    skip_blanks(p);
    char c = *p->at;
    if (c && strchr("@$.[", c))
        return parse_steps(p, path);
    struct kp_value *value = KP_NEW(p->arena, struct kp_value);
    int code = 0;
    if (c == '"' || c == '\'') {
        code = parse_string(p, value);
    } else if (c && strchr("+-0123456789", c)) {
        code = parse_number(p, value);
    } else {
        value->kind = KP_VALUE_BOOL;
        value->boolean = parse_word(p, "true");
        if (!value->boolean && !parse_word(p, "false"))
            code = bad(p, "expected a path such as @.name, a string in quotes, a number, true or false");
    }
    struct step *step = KP_LIST_ADD(p->arena, path);
    step->kind = STEP_LITERAL;
    step->literal = value;
    skip_blanks(p);
    return code;
}

static int parse_filter(struct parser *p, struct kp_jsonpath *path)
{
    static const struct {
        const char *text;
        enum filter_op op;
    } table[] = {{"==", OP_EQ}, {"!=", OP_NE}, {"<=", OP_LE}, {">=", OP_GE}, {"<", OP_LT}, {">", OP_GT}};
    struct step step = {.kind = STEP_FILTER};
    if (p->filters == KP_JSONPATH_FILTERS_MAX)
        return bad(p, "too many filters within filters; nest fewer");
    p->filters++;
    p->at += strlen("[?(");
    if (parse_operand(p, &step.filter.left) < 0)
        return KP_EINVALID;
    size_t len = strspn(p->at, "!<>=");
    for (size_t i = 0; len && i < KP_ARRAY_LEN(table); i++)
        if (len == strlen(table[i].text) && strncmp(p->at, table[i].text, len) == 0)
            step.filter.op = table[i].op;
    if (len && step.filter.op == OP_EXISTS)
        return bad(p, "unrecognized filter operator; write ==, !=, <, <=, > or >=");
    p->at += len;
    if (len && parse_operand(p, &step.filter.right) < 0)
        return KP_EINVALID;
    if (!kp_starts_with(p->at, ")]"))
        return bad(p, "the filter does not end here; write )] after its condition");
    p->at += strlen(")]");
    p->filters--;
    *KP_LIST_ADD(p->arena, path) = step;
    return 0;
}

static int parse_subscript(struct parser *p, struct kp_jsonpath *path)
{
    struct kp_jsonpath first = {0};
    p->at++;
    if (parse_part(p, &first) < 0)
        return KP_EINVALID;
    if (*p->at == ',') {
        struct step step = {.kind = STEP_UNION};
        *KP_LIST_ADD(p->arena, &step.parts) = first;
        while (*p->at == ',') {
            p->at++;
            if (parse_part(p, KP_LIST_ADD(p->arena, &step.parts)) < 0)
                return KP_EINVALID;
        }
        *KP_LIST_ADD(p->arena, path) = step;
    } else {
        for (size_t i = 0; i < first.len; i++)
            *KP_LIST_ADD(p->arena, path) = first.items[i];
    }
    if (*p->at != ']')
        return bad(p, "invalid array index; write a number, a slice such as 0:2, * or a name in quotes, then ]");
    p->at++;
    return 0;
}

static int parse_dot(struct parser *p, struct kp_jsonpath *path)
{
    p->at++;
    if (*p->at != '.') {
        parse_name(p, 0, path);
        return 0;
    }
    if (path->len && path->items[path->len - 1].kind == STEP_RECURSIVE)
        return bad(p, "invalid multiple recursive descent; write .. once");
    p->at++;
    KP_LIST_ADD(p->arena, path)->kind = STEP_RECURSIVE;
    if (!ends_name(p, *p->at, 0))
        parse_name(p, 0, path);
    return 0;
}

static int parse_steps(struct parser *p, struct kp_jsonpath *path)
{
    int code = 0;
    while (code == 0) {
        skip_blanks(p);
        if (ends_path(p, *p->at))
            return 0;
        if (*p->at == '$' || *p->at == '@')
            p->at++; /* the value itself */
        else if (kp_starts_with(p->at, "[?("))
            code = parse_filter(p, path);
        else if (*p->at == '[')
            code = parse_subscript(p, path);
        else if (*p->at == '.')
            code = parse_dot(p, path);
        else
            code = bad(p, "unrecognized character; write a name as .name or ['name']");
    }
    return code;
}

int kp_jsonpath_parse(const char *text, struct kp_arena *arena, struct kp_jsonpath **ret_path, struct kp_error *error)
{
    struct parser p = {.text = text, .at = text, .arena = arena, .error = error};
    struct kp_jsonpath *path = KP_NEW(arena, struct kp_jsonpath);
    if (strlen(text) > KP_JSONPATH_TEXT_MAX)
        return kp_fail(error, KP_EINVALID, "JSONPath of %zu bytes: write at most %d", strlen(text), KP_JSONPATH_TEXT_MAX);
    int code = parse_steps(&p, path);
    if (code == 0)
        *ret_path = path;
    return code;
}

/* ---- evaluating --------------------------------------------------------------------------------------------------- */
struct find {
    struct kp_arena *arena;
    struct kp_error *error;
    size_t visits;
};

static int eval(struct find *f, const struct kp_jsonpath *path, struct kp_value_list in, struct kp_value_list *ret_out);

static int too_large(struct find *f)
{
    return kp_fail(f->error, KP_ETOOLARGE, "JSONPath looks at more than %d values; name fields instead of searching", KP_JSONPATH_VISITS_MAX);
}

static int visit(struct find *f, size_t count)
{
    f->visits += count;
    return f->visits > KP_JSONPATH_VISITS_MAX ? too_large(f) : 0;
}

static int put(struct find *f, struct kp_value_list *out, const struct kp_value *value)
{
    if (visit(f, 1) < 0)
        return KP_ETOOLARGE;
    const struct kp_value **slot = kp_list_try(f->arena, (struct kp_list *)(void *)out, sizeof(*slot));
    if (!slot)
        return too_large(f);
    *slot = value;
    return 0;
}

static size_t child_count(const struct kp_value *value)
{
    return value->kind == KP_VALUE_ARRAY ? value->array.len : value->kind == KP_VALUE_OBJECT ? value->object.len : 0;
}

static const struct kp_value *child(const struct kp_value *value, size_t i)
{
    return value->kind == KP_VALUE_ARRAY ? value->array.items[i] : value->object.members[i].value;
}

static int eval_field(struct find *f, const char *name, const struct kp_value *value, struct kp_value_list *out)
{
    if (value->kind != KP_VALUE_OBJECT)
        return 0;
    if (visit(f, value->object.len) < 0) /* which is how it is looked up */
        return KP_ETOOLARGE;
    const struct kp_value *member = kp_value_get(value, name);
    return member ? put(f, out, member) : 0;
}

static int eval_children(struct find *f, const struct kp_value *value, struct kp_value_list *out)
{
    int code = 0;
    for (size_t i = 0; code == 0 && i < child_count(value); i++)
        code = put(f, out, child(value, i));
    return code;
}

/* Whatever has something in it, itself before that. */
static int eval_recursive(struct find *f, const struct kp_value *value, int depth, struct kp_value_list *out)
{
    size_t count = child_count(value);
    if (depth > KP_DECODE_DEPTH_MAX)
        return kp_fail(f->error, KP_ETOOLARGE, "JSONPath descends more than %d levels", KP_DECODE_DEPTH_MAX);
    int code = count ? put(f, out, value) : visit(f, 1);
    for (size_t i = 0; code == 0 && i < count; i++)
        code = eval_recursive(f, child(value, i), depth + 1, out);
    return code;
}

static int eval_slice(struct find *f, const struct slice *slice, const struct kp_value *value, struct kp_value_list *out)
{
    if (value->kind == KP_VALUE_NULL)
        return 0;
    if (value->kind != KP_VALUE_ARRAY)
        return kp_fail(f->error, KP_EINVALID, "what is indexed is not array or slice");
    int64_t len = (int64_t)value->array.len;
    int64_t start = slice->start < 0 ? slice->start + len : slice->start;
    int64_t end = slice->single ? start + 1 : !slice->has_end ? len : slice->end < 0 ? slice->end + len : slice->end;
    if (start == end)
        return 0;
    if (start >= len || start < 0)
        return kp_fail(f->error, KP_EINVALID, "array index out of bounds: index %lld, length %lld", (long long)start, (long long)len);
    if (end > len || end < 0)
        return kp_fail(f->error, KP_EINVALID, "array index out of bounds: index %lld, length %lld", (long long)end - 1, (long long)len);
    if (start > end)
        return kp_fail(f->error, KP_EINVALID, "starting index %lld is greater than ending index %lld", (long long)start, (long long)end);
    int code = 0;
    for (int64_t i = start; code == 0 && i < end; i += slice->stride)
        code = put(f, out, value->array.items[i]);
    return code;
}

static int order_of_numbers(const struct kp_value *a, const struct kp_value *b)
{
    if (a->kind == KP_VALUE_INT && b->kind == KP_VALUE_INT)
        return (a->integer > b->integer) - (a->integer < b->integer);
    double x = a->kind == KP_VALUE_INT ? (double)a->integer : a->number;
    double y = b->kind == KP_VALUE_INT ? (double)b->integer : b->number;
    return (x > y) - (x < y);
}

/* 1, 0, or a failure: values of different kinds do not compare. */
static int compare(struct find *f, enum filter_op op, const struct kp_value *a, const struct kp_value *b)
{
    enum { NONE, BOOL, NUMBER, STRING };
    static const int sorts[] = {[KP_VALUE_NULL] = NONE,     [KP_VALUE_BOOL] = BOOL,  [KP_VALUE_INT] = NUMBER, [KP_VALUE_DOUBLE] = NUMBER,
                                [KP_VALUE_STRING] = STRING, [KP_VALUE_ARRAY] = NONE, [KP_VALUE_OBJECT] = NONE};
    int sort = sorts[a->kind], order = 0;
    if (sort == NONE || sorts[b->kind] == NONE || (sort == BOOL && op != OP_EQ && op != OP_NE && sorts[b->kind] == BOOL))
        return kp_fail(f->error, KP_EINVALID, "invalid type for comparison");
    if (sort != sorts[b->kind])
        return kp_fail(f->error, KP_EINVALID, "incompatible types for comparison");
    if (sort == STRING && visit(f, strlen(a->string) / 64) < 0)
        return KP_ETOOLARGE;
    if (sort == STRING)
        order = strcmp(a->string, b->string);
    else
        order = sort == NUMBER ? order_of_numbers(a, b) : a->boolean != b->boolean;
    switch (op) {
    case OP_NE:
        return order != 0;
    case OP_LT:
        return order < 0;
    case OP_LE:
        return order <= 0;
    case OP_GT:
        return order > 0;
    case OP_GE:
        return order >= 0;
    default:
        return order == 0;
    }
}

/* Whether an element has what the filter asks for: 1, 0, or a failure. What cannot be evaluated does not exist. */
static int passes(struct find *f, const struct step *step, const struct kp_value *item)
{
    const struct kp_value *sides[2];
    struct kp_value_list found = {0}, one = {&item, 1};
    if (step->filter.op == OP_EXISTS) {
        struct kp_error *error = f->error;
        f->error = NULL;
        int code = eval(f, &step->filter.left, one, &found);
        f->error = error;
        return code == KP_ETOOLARGE ? too_large(f) : code == 0 && found.len > 0;
    }
    for (int i = 0; i < 2; i++) {
        int code = eval(f, i ? &step->filter.right : &step->filter.left, one, &found);
        if (code < 0)
            return code;
        if (found.len == 0)
            return 0;
        if (found.len > 1)
            return kp_fail(f->error, KP_EINVALID, "can only compare one element at a time");
        sides[i] = found.items[0];
    }
    return compare(f, step->filter.op, sides[0], sides[1]);
}

static int eval_filter(struct find *f, const struct step *step, const struct kp_value *value, struct kp_value_list *out)
{
    if (value->kind != KP_VALUE_ARRAY)
        return kp_fail(f->error, KP_EINVALID, "what is filtered is not array or slice and cannot be filtered");
    for (size_t i = 0; i < value->array.len; i++) {
        int code = visit(f, 1) < 0 ? KP_ETOOLARGE : passes(f, step, value->array.items[i]);
        if (code > 0)
            code = put(f, out, value->array.items[i]);
        if (code < 0)
            return code;
    }
    return 0;
}

static int eval_one(struct find *f, const struct step *step, const struct kp_value *value, struct kp_value_list *out)
{
    switch (step->kind) {
    case STEP_FIELD:
        return eval_field(f, step->name, value, out);
    case STEP_WILDCARD:
        return eval_children(f, value, out);
    case STEP_RECURSIVE:
        return eval_recursive(f, value, 0, out);
    case STEP_SLICE:
        return eval_slice(f, &step->slice, value, out);
    case STEP_FILTER:
        return eval_filter(f, step, value, out);
    case STEP_LITERAL:
        return put(f, out, step->literal);
    case STEP_UNION:
        break; /* is evaluated part by part */
    }
    return 0;
}

static int eval_step(struct find *f, const struct step *step, struct kp_value_list in, struct kp_value_list *out)
{
    int code = visit(f, 1);
    for (size_t i = 0; code == 0 && step->kind != STEP_UNION && i < in.len; i++)
        code = eval_one(f, step, in.items[i], out);
    for (size_t i = 0; code == 0 && step->kind == STEP_UNION && i < step->parts.len; i++) {
        struct kp_value_list part = {0};
        code = eval(f, &step->parts.items[i], in, &part);
        for (size_t j = 0; code == 0 && j < part.len; j++)
            code = put(f, out, part.items[j]);
    }
    return code;
}

static int eval(struct find *f, const struct kp_jsonpath *path, struct kp_value_list in, struct kp_value_list *ret_out)
{
    int code = 0;
    for (size_t i = 0; code == 0 && i < path->len; i++) {
        struct kp_value_list out = {0};
        code = eval_step(f, &path->items[i], in, &out);
        in = out;
    }
    if (code == 0)
        *ret_out = in;
    return code;
}

int kp_jsonpath_find(const struct kp_jsonpath *path, const struct kp_value *root, struct kp_arena *arena, struct kp_value_list *ret_found,
                     struct kp_error *error)
{
    KP_AUTO(kp_arena_free) struct kp_arena *scratch = kp_arena_new(KP_JSONPATH_MEMORY_MAX);
    struct find f = {.arena = scratch, .error = error};
    struct kp_value_list found = {0};
    int code = eval(&f, path, (struct kp_value_list){&root, 1}, &found);
    if (code < 0)
        return code;
    size_t size = KP_MAX(found.len, (size_t)1) * sizeof(*found.items);
    const struct kp_value **items = kp_arena_try(arena, size);
    if (!items)
        return kp_fail(error, KP_ETOOLARGE, "JSONPath finds %zu values, more than there is room for; name fields instead of searching", found.len);
    if (found.len)
        memcpy(items, found.items, found.len * sizeof(*items));
    *ret_found = (struct kp_value_list){items, found.len};
    return 0;
}
