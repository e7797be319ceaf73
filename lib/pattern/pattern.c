/* Patterns: RE2's syntax on PCRE2's matcher for automata, which does not backtrack. */
#define PCRE2_CODE_UNIT_WIDTH 8
#include "lib/pattern/pattern.h"

#include <math.h>
#include <pcre2.h>

#define REPEAT_MAX 1000      /* as RE2 */
#define STATES_STACK 1024    /* states at once that take no allocation */
#define STATES_MIN 32
#define STATES_MAX 8192
#define STEPS_MAX 5e8        /* bytes of the text times states squared: what the matcher does in some tenths of a second */
#define FIND_STEPS_MAX 1000000   /* of the matcher that backtracks: some hundredths of a second */
#define FIND_HEAP_KIB_MAX 16384
#define STATE_INTS 6         /* of the matcher's workspace: three, in two lists */

struct kp_pattern {
    pcre2_code *code; /* behind whatever there is; NULL: made to find */
    pcre2_code *find; /* alone, as it was written; NULL: made to match */
    pcre2_match_context *context;
};

/* ---- from RE2's syntax to PCRE2's: what RE2 does not have is refused, and x+ becomes xx* ------------------------------------------ */
/* The matcher counts how often a + went round, and holds every count for another state: (a+)+ would make as many as the text is long. */
struct scanner {
    const char *p;
    const char *fault; /* the words of Go's regexp/syntax */
    int fault_len;     /* bytes at p that are at fault */
    bool multiline;    /* a group has the flag m */
    bool as_written;   /* for a matcher that backtracks, to which it matters how a repetition is written */
    struct kp_buf out;
    size_t item;       /* where the last single character or class begins in out; NO_ITEM: it was something else */
};
#define NO_ITEM SIZE_MAX

static bool fault(struct scanner *s, const char *why, size_t len)
{
    s->fault = why;
    s->fault_len = (int)strnlen(s->p, len);
    return false;
}

static bool take(struct scanner *s, size_t len, bool item)
{
    s->item = item ? s->out.len : NO_ITEM;
    kp_buf_append(&s->out, s->p, len);
    s->p += len;
    return true;
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool is_word(char c)
{
    return is_digit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}

static size_t character_len(const char *p)
{
    size_t len = 1;
    while (((unsigned char)p[len] & 0xc0) == 0x80)
        len++;
    return len;
}

/* From \Q to \E everything stands for itself. */
static bool scan_quoted(struct scanner *s)
{
    for (s->p += 2; *s->p && strncmp(s->p, "\\E", 2) != 0;) {
        size_t at = s->out.len;
        if (!is_word(*s->p) && !((unsigned char)*s->p & 0x80))
            kp_buf_putc(&s->out, '\\');
        take(s, character_len(s->p), false);
        s->item = at;
    }
    s->p += *s->p ? 2 : 0;
    return true;
}

/* The bytes of an escape at p, 0 when there is none like it. */
static size_t escape_len(const char *p, bool in_class)
{
    char c = p[1];
    bool known = strchr(in_class ? "afnrtvdDsSwWpPx0" : "afnrtvdDsSwWpPx0AbBz", c) != NULL;
    bool octal = c >= '1' && c <= '7' && p[2] >= '0' && p[2] <= '7';
    if ((is_word(c) || ((unsigned char)c & 0x80)) && !known && !octal)
        return 0;
    if ((c == 'p' || c == 'P' || c == 'x') && p[2] == '{')
        return strchr(p, '}') ? (size_t)(strchr(p, '}') + 1 - p) : 0;
    if (c == 'p' || c == 'P')
        return p[2] ? 3 : 0;
    if (c == 'x')
        return p[2] && p[3] ? 4 : 0;
    size_t digits = c >= '0' && c <= '7' ? strspn(p + 1, "01234567") : 1;
    return 1 + KP_MIN(digits, (size_t)3);
}

static bool scan_escape(struct scanner *s)
{
    if (s->p[1] == '\0')
        return fault(s, "trailing backslash at end of expression", 0);
    if (s->p[1] == 'Q')
        return scan_quoted(s);
    size_t len = escape_len(s->p, false);
    return len ? take(s, len, !strchr("AbBz", s->p[1])) : fault(s, "invalid escape sequence", 2);
}

/* At a bracket. */
static bool scan_class(struct scanner *s)
{
    const char *q = s->p + (s->p[1] == '^' ? 2 : 1);
    for (bool first = true; *q && (*q != ']' || first); first = false) {
        const char *end = q[0] == '[' && q[1] == ':' ? strstr(q + 2, ":]") : NULL;
        size_t len = end ? (size_t)(end + 2 - q) : *q == '\\' ? (q[1] ? escape_len(q, true) : 0) : 1;
        if (len == 0) {
            s->p = q;
            return fault(s, "invalid escape sequence", 2);
        }
        q += len;
    }
    if (*q != ']')
        return fault(s, "missing closing ]", strlen(s->p));
    return take(s, (size_t)(q + 1 - s->p), true);
}

/* At a parenthesis: groups, names and flags, nothing that looks around or refers back. */
static bool scan_group(struct scanner *s)
{
    const char *p = s->p + 2;
    if (s->p[1] == '*')
        return fault(s, "missing argument to repetition operator", 2);
    if (s->p[1] != '?')
        return take(s, 1, false);
    bool named = *p == 'P';
    p += named;
    if (*p == '<' && p[1] != '=' && p[1] != '!' && strchr(p, '>'))
        return take(s, (size_t)(strchr(p, '>') + 1 - s->p), false);
    size_t flags = named ? 0 : strspn(p, "imsU-");
    if (named || (p[flags] != ':' && (p[flags] != ')' || flags == 0)))
        return fault(s, "invalid or unsupported Perl syntax", 3);
    s->multiline |= memchr(p, 'm', flags) != NULL;
    return take(s, (size_t)(p + flags + 1 - s->p), false);
}

/* The bytes of a repetition at p, without a question mark after it; 0: there is none. Braces that are none stand for themselves. */
static size_t repetition(const char *p, bool *ret_too_many)
{
    *ret_too_many = false;
    if (*p == '*' || *p == '+' || *p == '?')
        return 1;
    if (*p != '{' || !is_digit(p[1]))
        return 0;
    const char *q = p + 1;
    while (*q != '}') {
        long n = 0;
        while (is_digit(*q) && n <= REPEAT_MAX)
            n = 10 * n + *q++ - '0';
        *ret_too_many |= n > REPEAT_MAX;
        q += strspn(q, "0123456789");
        if (*q == ',' && !memchr(p, ',', (size_t)(q - p)))
            q++;
        else if (*q != '}')
            return 0;
    }
    return (size_t)(q + 1 - p);
}

/* The item in out once more, with a star, in a group. */
static void add_once_and_star(struct scanner *s)
{
    KP_AUTO_FREE char *item = kp_strndup(s->out.data + s->item, s->out.len - s->item);
    s->out.len = s->item;
    kp_buf_printf(&s->out, "(?:%s%s*)", item, item);
    s->item = NO_ITEM;
}

static bool scan_repetition(struct scanner *s, size_t len, bool too_many)
{
    bool ignored;
    if (too_many)
        return fault(s, "invalid repeat count", len);
    size_t all = len + (s->p[len] == '?'); /* lazy or not makes no difference to whether there is a match */
    size_t more = repetition(s->p + all, &ignored);
    if (more > 0)
        return fault(s, "invalid nested repetition operator", all + more);
    if (*s->p != '+' || s->item == NO_ITEM || s->as_written)
        return take(s, all, false);
    add_once_and_star(s);
    s->p += all;
    return true;
}

static bool scan(struct scanner *s)
{
    while (*s->p) {
        bool fine = true, too_many;
        size_t repeat = repetition(s->p, &too_many);
        if (repeat > 0)
            fine = scan_repetition(s, repeat, too_many);
        else if (*s->p == '\\')
            fine = scan_escape(s);
        else if (*s->p == '[')
            fine = scan_class(s);
        else if (*s->p == '(')
            fine = scan_group(s);
        else
            fine = take(s, character_len(s->p), !strchr("^$|)", *s->p));
        if (!fine)
            return false;
    }
    return true;
}

/* ---- PCRE2 ------------------------------------------------------------------------------------------------------------------- */
/* Go's $ is the very end of the text, and with the flag m of a line; PCRE2's matcher for automata cannot have both in one pattern, so
   where the flag is anywhere the end of the text may also be before a last line break. */
static pcre2_code *compile(const char *text, bool multiline, struct kp_arena *arena, const char **ret_fault)
{
    int code = 0;
    uint32_t options = PCRE2_UTF | PCRE2_NO_AUTO_CAPTURE | PCRE2_NEVER_BACKSLASH_C | (multiline ? 0 : PCRE2_DOLLAR_ENDONLY);
    PCRE2_SIZE at = 0;
    pcre2_compile_context *context = pcre2_compile_context_create(NULL);
    KP_ASSERT(context != NULL);
    pcre2_set_newline(context, PCRE2_NEWLINE_LF);
    pcre2_code *made = pcre2_compile((PCRE2_SPTR)text, PCRE2_ZERO_TERMINATED, options, &code, &at, context);
    pcre2_compile_context_free(context);
    if (!made) {
        char why[256] = "";
        pcre2_get_error_message(code, (PCRE2_UCHAR *)why, sizeof(why));
        *ret_fault = kp_arena_printf(arena, "error parsing regexp: %s", why);
    }
    return made;
}

/* By itself first, or parentheses could pair with those around it. Then anchored, behind whatever there is: one pass over the text,
   where a search would begin anew at each of its bytes. */
static pcre2_code *compile_search(const char *text, bool multiline, struct kp_arena *arena, const char **ret_fault)
{
    pcre2_code *alone = compile(text, multiline, arena, ret_fault);
    if (!alone)
        return NULL;
    pcre2_code_free(alone);
    KP_AUTO_FREE char *search = kp_asprintf("(?s:.*?)(?:%s)", text);
    return compile(search, multiline, arena, ret_fault);
}

static struct kp_pattern *make(const char *text, bool find, struct kp_arena *arena, const char **ret_fault)
{
    struct scanner s = {.p = text, .item = NO_ITEM, .as_written = find};
    pcre2_code *code = NULL;
    if (strlen(text) > KP_PATTERN_BYTES_MAX)
        *ret_fault = "error parsing regexp: expression is too large";
    else if (scan(&s))
        code = find ? compile(s.out.data ? s.out.data : "", s.multiline, arena, ret_fault)
                    : compile_search(s.out.data ? s.out.data : "", s.multiline, arena, ret_fault);
    else
        *ret_fault = s.fault_len ? kp_arena_printf(arena, "error parsing regexp: %s: `%.*s`", s.fault, s.fault_len, s.p)
                                 : kp_arena_printf(arena, "error parsing regexp: %s", s.fault);
    kp_buf_done(&s.out);
    if (!code)
        return NULL;
    struct kp_pattern *pattern = kp_calloc(1, sizeof(*pattern));
    *(find ? &pattern->find : &pattern->code) = code;
    pattern->context = pcre2_match_context_create(NULL);
    KP_ASSERT(pattern->context != NULL);
    pcre2_set_match_limit(pattern->context, find ? FIND_STEPS_MAX : 10000);
    pcre2_set_depth_limit(pattern->context, find ? FIND_STEPS_MAX : 100);
    pcre2_set_heap_limit(pattern->context, find ? FIND_HEAP_KIB_MAX : 1024);
    return pattern;
}

struct kp_pattern *kp_pattern_new(const char *text, struct kp_arena *arena, const char **ret_fault)
{
    return make(text, false, arena, ret_fault);
}

struct kp_pattern *kp_pattern_new_finder(const char *text, struct kp_arena *arena, const char **ret_fault)
{
    return make(text, true, arena, ret_fault);
}

void kp_pattern_free(struct kp_pattern *pattern)
{
    if (!pattern)
        return;
    pcre2_code_free(pattern->code);
    pcre2_code_free(pattern->find);
    pcre2_match_context_free(pattern->context);
    free(pattern);
}

static int match(const struct kp_pattern *pattern, const char *text, size_t len, int *workspace, size_t states)
{
    pcre2_match_data *data = pcre2_match_data_create(1, NULL);
    KP_ASSERT(data != NULL);
    int rc = pcre2_dfa_match(pattern->code, (PCRE2_SPTR)text, len, 0, PCRE2_ANCHORED | PCRE2_DFA_SHORTEST, data, pattern->context, workspace,
                             2 + states * STATE_INTS);
    pcre2_match_data_free(data);
    return rc;
}

bool kp_pattern_matches(const struct kp_pattern *pattern, const char *text, size_t len)
{
    /* Each byte costs at most the square of the states there is room for, so longer texts get less room. */
    size_t states = KP_MIN((size_t)sqrt(STEPS_MAX / (double)(len + 1)), (size_t)STATES_MAX);
    states = KP_MAX(states, (size_t)STATES_MIN);
    int stack[2 + STATES_STACK * STATE_INTS];
    int rc = match(pattern, text, len, stack, KP_MIN(states, (size_t)STATES_STACK));
    if (rc == PCRE2_ERROR_DFA_WSSIZE && states > STATES_STACK) {
        KP_AUTO_FREE int *workspace = kp_malloc((2 + states * STATE_INTS) * sizeof(int));
        rc = match(pattern, text, len, workspace, states);
    }
    return rc >= 0;
}

int kp_pattern_find(const struct kp_pattern *pattern, const char *text, size_t len, size_t from, size_t *ret_begin, size_t *ret_end)
{
    pcre2_match_data *data = pcre2_match_data_create(1, NULL);
    KP_ASSERT(data != NULL);
    int rc = pcre2_match(pattern->find, (PCRE2_SPTR)text, len, from, 0, data, pattern->context);
    const PCRE2_SIZE *found = pcre2_get_ovector_pointer(data);
    if (rc >= 0) {
        *ret_begin = found[0];
        *ret_end = found[1];
    }
    pcre2_match_data_free(data);
    return rc >= 0 ? 1 : rc == PCRE2_ERROR_NOMATCH ? 0 : -1;
}
