/* The reader of histories: splits lines into words, gives equal texts one number, and builds calls and items. */
#include "reader.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NESTING_MAX 1 /* transactions within transactions are not recorded */

void *check_realloc(void *p, size_t size)
{
    p = realloc(p, size);
    if (!p) {
        fprintf(stderr, "check: out of memory\n");
        exit(2);
    }
    return p;
}

void *check_alloc(size_t size)
{
    static char *block;
    static size_t left;
    size = (size + 15) & ~(size_t)15;
    if (size > left) {
        left = size > (1 << 20) ? size : 1 << 20;
        block = check_realloc(NULL, left);
        memset(block, 0, left);
        /* The blocks are chained so that a leak checker sees them. */
        static void **blocks;
        static size_t count, cap;
        GROW(blocks, count, cap);
        blocks[count++] = block;
    }
    void *p = block;
    block += size;
    left -= size;
    return p;
}

/* ---- texts ---- */
struct text {
    const char *s;     /* as written */
    const uint8_t *data; /* what it stands for */
    size_t len;
    uint64_t hash;
};
static struct text *texts;
static size_t text_len, text_cap;
static uint32_t *slots; /* open addressing; 0: free */
static size_t slot_count;

static uint64_t hash_bytes(const char *s, size_t len)
{
    uint64_t hash = 0xcbf29ce484222325;
    for (size_t i = 0; i < len; i++)
        hash = (hash ^ (uint8_t)s[i]) * 0x100000001b3;
    return hash ^ (hash >> 29);
}

static void slots_grow(void)
{
    slot_count = slot_count ? slot_count * 2 : 1024;
    free(slots);
    slots = calloc(slot_count, sizeof(*slots));
    if (!slots)
        exit(2);
    for (size_t i = 1; i < text_len; i++) {
        size_t at = texts[i].hash & (slot_count - 1);
        while (slots[at])
            at = (at + 1) & (slot_count - 1);
        slots[at] = (uint32_t)i;
    }
}

static int hex_digit(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool text_decode(struct text *text, size_t written)
{
    uint8_t *out = check_alloc(written + 1);
    const char *s = text->s;
    text->data = out;
    if (written == 1 && s[0] == '%')
        return true;
    for (size_t i = 0; i < written; i++) {
        if (s[i] != '%') {
            out[text->len++] = (uint8_t)s[i];
            continue;
        }
        if (i + 2 >= written || hex_digit(s[i + 1]) < 0 || hex_digit(s[i + 2]) < 0)
            return false;
        out[text->len++] = (uint8_t)(hex_digit(s[i + 1]) * 16 + hex_digit(s[i + 2]));
        i += 2;
    }
    return true;
}

/* 0 for a text that is none or, with *ret_bad, badly written. */
static text_id text_intern(const char *s, size_t len, bool *ret_bad)
{
    if (len == 1 && s[0] == '-')
        return 0;
    if (!text_len) {
        GROW(texts, text_len, text_cap);
        texts[text_len++] = (struct text){.s = "-"};
    }
    if (text_len * 2 >= slot_count)
        slots_grow();
    uint64_t hash = hash_bytes(s, len);
    size_t at = hash & (slot_count - 1);
    for (; slots[at]; at = (at + 1) & (slot_count - 1)) {
        const struct text *text = &texts[slots[at]];
        if (text->hash == hash && strncmp(text->s, s, len) == 0 && !text->s[len])
            return slots[at];
    }
    char *copy = check_alloc(len + 1);
    memcpy(copy, s, len);
    struct text text = {.s = copy, .hash = hash};
    if (!text_decode(&text, len))
        *ret_bad = true;
    GROW(texts, text_len, text_cap);
    texts[text_len] = text;
    slots[at] = (uint32_t)text_len;
    return (text_id)text_len++;
}

const char *text_of(text_id id) { return id ? texts[id].s : "-"; }
size_t text_count(void) { return text_len ? text_len - 1 : 0; }

int text_compare(text_id a, text_id b)
{
    if (a == b)
        return 0;
    const struct text *x = &texts[a], *y = &texts[b];
    int order = memcmp(x->data, y->data, x->len < y->len ? x->len : y->len);
    return order ? order : x->len < y->len ? -1 : x->len > y->len;
}

bool text_in_range(text_id key, text_id from, text_id end)
{
    if (!end)
        return key == from;
    bool endless = texts[end].len == 1 && texts[end].data[0] == 0;
    return text_compare(key, from) >= 0 && (endless || text_compare(key, end) < 0);
}

/* ---- words ---- */
struct reader {
    const char *path;
    uint32_t line;
    char *at; /* the rest of the line */
    struct check_history *history;
    uint32_t *by_number; /* call number -> index + 1 */
    size_t number_cap;
};

static _Noreturn __attribute__((format(printf, 2, 3))) void bad(const struct reader *r, const char *format, ...)
{
    fprintf(stderr, "%s:%u: ", r->path, r->line);
    va_list ap;
    va_start(ap, format);
    vfprintf(stderr, format, ap);
    va_end(ap);
    fputc('\n', stderr);
    exit(2);
}

static char *word(struct reader *r, size_t *ret_len)
{
    if (!*r->at)
        bad(r, "the line ends too early");
    char *start = r->at;
    size_t len = strcspn(start, " ");
    r->at = start + len;
    if (*r->at == ' ')
        *r->at++ = 0;
    if (!len)
        bad(r, "two spaces");
    *ret_len = len;
    return start;
}

static char *name(struct reader *r)
{
    size_t len;
    return word(r, &len);
}

static int64_t number(struct reader *r)
{
    char *s = name(r), *end;
    errno = 0;
    long long value = strtoll(s, &end, 10);
    if (*end || errno)
        bad(r, "\"%s\" is no number", s);
    return value;
}

static uint32_t small(struct reader *r)
{
    int64_t value = number(r);
    if (value < 0 || value > 1 << 28)
        bad(r, "%" PRId64 " is out of bounds", value);
    return (uint32_t)value;
}

static text_id text(struct reader *r)
{
    size_t len;
    char *s = word(r, &len);
    bool is_bad = false;
    text_id id = text_intern(s, len, &is_bad);
    if (is_bad)
        bad(r, "\"%s\" is badly escaped", s);
    return id;
}

static text_id key(struct reader *r)
{
    text_id id = text(r);
    if (!id)
        bad(r, "a key is missing");
    return id;
}

static void read_kv(struct reader *r, struct check_kv *kv)
{
    kv->key = key(r);
    kv->value = key(r);
    kv->create = number(r);
    kv->mod = number(r);
    kv->version = number(r);
    kv->lease = number(r);
}

static struct check_kv *read_kvs(struct reader *r, uint32_t count)
{
    struct check_kv *kvs = count ? check_alloc(count * sizeof(*kvs)) : NULL;
    for (uint32_t i = 0; i < count; i++)
        read_kv(r, &kvs[i]);
    return kvs;
}

/* ---- operations and their results ---- */
static void read_op(struct reader *r, struct check_op *op, int depth);

static struct check_op *read_ops(struct reader *r, uint32_t *ret_count, int depth)
{
    *ret_count = small(r);
    struct check_op *ops = *ret_count ? check_alloc(*ret_count * sizeof(*ops)) : NULL;
    for (uint32_t i = 0; i < *ret_count; i++) {
        read_op(r, &ops[i], depth + 1);
        if (ops[i].kind > OP_GET)
            bad(r, "a transaction holds puts, dels and gets");
    }
    return ops;
}

static void read_txn(struct reader *r, struct check_op *op, int depth)
{
    if (depth >= NESTING_MAX)
        bad(r, "transactions are nested");
    op->compare_count = small(r);
    op->compares = op->compare_count ? check_alloc(op->compare_count * sizeof(*op->compares)) : NULL;
    for (uint32_t i = 0; i < op->compare_count; i++) {
        struct check_compare *compare = &op->compares[i];
        compare->key = key(r);
        const char *how = name(r);
        if (strlen(how) != 2 || !strchr("vcmVl", how[0]) || !strchr("=<>!", how[1]))
            bad(r, "\"%s\" is no comparison", how);
        compare->target = how[0];
        compare->result = how[1];
        if (how[0] == 'V')
            compare->value = key(r);
        else
            compare->number = number(r);
    }
    op->then = read_ops(r, &op->then_count, depth);
    op->otherwise = read_ops(r, &op->otherwise_count, depth);
}

static void read_op(struct reader *r, struct check_op *op, int depth)
{
    static const char *const names[] = {"put", "del", "get", "txn", "grant", "revoke", "keepalive", "ttl", "compact"};
    const char *s = name(r);
    size_t kind = 0;
    while (kind < sizeof(names) / sizeof(names[0]) && strcmp(names[kind], s) != 0)
        kind++;
    op->kind = (enum op_kind)kind;
    switch (op->kind) {
    case OP_PUT:
        op->key = key(r);
        op->value = key(r);
        op->lease = number(r);
        break;
    case OP_DEL:
        op->key = key(r);
        op->end = text(r);
        break;
    case OP_GET:
        op->key = key(r);
        op->end = text(r);
        op->revision = number(r);
        op->limit = number(r);
        op->serializable = name(r)[0] == 's';
        break;
    case OP_TXN:
        read_txn(r, op, depth);
        break;
    case OP_GRANT:
        op->lease = number(r);
        op->ttl_s = number(r);
        break;
    case OP_REVOKE:
    case OP_KEEPALIVE:
    case OP_TTL:
        op->lease = number(r);
        break;
    case OP_COMPACT:
        op->revision = number(r);
        break;
    default:
        bad(r, "\"%s\" is no operation", s);
    }
}

static void read_result(struct reader *r, const struct check_op *op, struct check_result *result)
{
    switch (op->kind) {
    case OP_PUT:
        break;
    case OP_DEL:
        result->count = number(r);
        break;
    case OP_GET:
        result->count = number(r);
        result->more = number(r) != 0;
        break;
    case OP_TXN: {
        const char *branch = name(r);
        result->succeeded = strcmp(branch, "then") == 0;
        if (!result->succeeded && strcmp(branch, "else") != 0)
            bad(r, "\"%s\" is neither then nor else", branch);
        const struct check_op *ops = result->succeeded ? op->then : op->otherwise;
        result->result_count = small(r);
        if (result->result_count != (result->succeeded ? op->then_count : op->otherwise_count))
            bad(r, "the branch has another number of operations");
        result->results = result->result_count ? check_alloc(result->result_count * sizeof(*result->results)) : NULL;
        for (uint32_t i = 0; i < result->result_count; i++)
            read_result(r, &ops[i], &result->results[i]);
        return;
    }
    case OP_GRANT:
        result->lease = number(r);
        result->ttl_s = number(r);
        return;
    case OP_KEEPALIVE:
        result->ttl_s = number(r);
        return;
    case OP_TTL:
        result->ttl_s = number(r);
        result->granted_ttl_s = number(r);
        return;
    default:
        return;
    }
    result->kv_count = small(r);
    result->kvs = read_kvs(r, result->kv_count);
}

/* ---- lines ---- */
static void read_invoke(struct reader *r, struct check_item *item)
{
    struct check_history *history = r->history;
    uint64_t call_number = (uint64_t)number(r);
    if (!call_number || call_number > UINT32_MAX)
        bad(r, "an operation's number is out of bounds");
    while (call_number >= r->number_cap) {
        size_t cap = r->number_cap ? r->number_cap * 2 : 1024;
        r->by_number = check_realloc(r->by_number, cap * sizeof(*r->by_number));
        memset(r->by_number + r->number_cap, 0, (cap - r->number_cap) * sizeof(*r->by_number));
        r->number_cap = cap;
    }
    if (r->by_number[call_number])
        bad(r, "operation %" PRIu64 " was invoked before", call_number);
    GROW(history->calls, history->call_count, history->call_cap);
    struct check_call *call = &history->calls[history->call_count];
    *call = (struct check_call){.number = call_number, .client = item->index, .invoke_line = r->line,
                                .return_line = UINT32_MAX, .invoke_ns = item->ns, .return_ns = INT64_MAX};
    read_op(r, &call->op, 0);
    item->kind = ITEM_INVOKE;
    item->index = (uint32_t)history->call_count++;
    r->by_number[call_number] = item->index + 1;
}

static void read_return(struct reader *r, struct check_item *item, enum outcome outcome)
{
    int64_t call_number = number(r);
    if (call_number <= 0 || (uint64_t)call_number >= r->number_cap || !r->by_number[call_number])
        bad(r, "operation %" PRId64 " was not invoked", call_number);
    item->kind = ITEM_RETURN;
    item->index = r->by_number[call_number] - 1;
    struct check_call *call = &r->history->calls[item->index];
    if (call->outcome != OUTCOME_OPEN)
        bad(r, "operation %" PRId64 " returned before", call_number);
    call->outcome = outcome;
    call->return_line = r->line;
    call->return_ns = item->ns;
    if (outcome == OUTCOME_OK) {
        call->revision = number(r);
        read_result(r, &call->op, &call->result);
    } else {
        name(r);
    }
}

static void read_event(struct reader *r, struct check_item *item)
{
    if (item->kind == WATCH_PUT) {
        item->kv = read_kvs(r, 1);
        item->key = item->kv->key;
        item->revision = item->kv->mod;
    } else {
        item->key = key(r);
        item->revision = number(r);
    }
    item->prev = read_kvs(r, small(r));
}

static void read_watch(struct reader *r, struct check_item *item)
{
    static const struct {
        const char *name;
        enum item_kind kind;
    } kinds[] = {{"create", WATCH_CREATE},     {"created", WATCH_CREATED},     {"put", WATCH_PUT},
                 {"del", WATCH_DEL},           {"progress", WATCH_PROGRESS},   {"break", WATCH_BREAK},
                 {"resume", WATCH_RESUME},     {"compacted", WATCH_COMPACTED}, {"end", WATCH_END}};
    const char *s = name(r);
    size_t i = 0;
    while (i < sizeof(kinds) / sizeof(kinds[0]) && strcmp(kinds[i].name, s) != 0)
        i++;
    if (i == sizeof(kinds) / sizeof(kinds[0]))
        bad(r, "a watcher does not \"%s\"", s);
    item->kind = kinds[i].kind;
    if (item->kind == WATCH_PUT || item->kind == WATCH_DEL) {
        read_event(r, item);
    } else if (item->kind == WATCH_CREATE) {
        item->key = key(r);
        item->end = text(r);
        item->revision = number(r);
        item->number = number(r);
    } else if (item->kind == WATCH_BREAK) {
        name(r);
    } else {
        item->revision = number(r);
    }
}

static void read_item(struct reader *r, struct check_item *item)
{
    const char *verb = name(r);
    if (strcmp(verb, "invoke") == 0) {
        read_invoke(r, item);
    } else if (strcmp(verb, "ok") == 0) {
        read_return(r, item, OUTCOME_OK);
    } else if (strcmp(verb, "fail") == 0) {
        read_return(r, item, OUTCOME_FAIL);
    } else if (strcmp(verb, "unknown") == 0) {
        read_return(r, item, OUTCOME_UNKNOWN);
    } else if (strcmp(verb, "watch") == 0) {
        read_watch(r, item);
    } else if (strcmp(verb, "leader") == 0) {
        item->kind = ITEM_LEADER;
    } else if (strcmp(verb, "final") == 0) {
        item->kind = ITEM_FINAL;
        item->revision = number(r);
        item->number = number(r);
    } else if (strcmp(verb, "final-kv") == 0) {
        item->kind = ITEM_FINAL_KV;
        item->kv = read_kvs(r, 1);
        item->key = item->kv->key;
    } else if (strcmp(verb, "hash") == 0) {
        item->kind = ITEM_HASH;
        item->revision = number(r);
        item->number = number(r);
        item->hash = (uint32_t)number(r);
    } else if (strcmp(verb, "note") == 0) {
        item->kind = ITEM_NOTE;
        r->at += strlen(r->at);
    } else {
        bad(r, "\"%s\" is no kind of line", verb);
    }
    if (*r->at)
        bad(r, "more words than expected: \"%s\"", r->at);
}

void check_read(const char *path, struct check_history *ret_history)
{
    FILE *in = fopen(path, "re");
    if (!in) {
        fprintf(stderr, "%s: %s\n", path, strerror(errno));
        exit(2);
    }
    struct check_history history = {0};
    struct reader r = {.path = path, .history = &history};
    char *line = NULL;
    size_t cap = 0;
    ssize_t len;
    int64_t last_ns = INT64_MIN;
    while ((len = getline(&line, &cap, in)) >= 0) {
        r.line++;
        if (len && line[len - 1] == '\n')
            line[--len] = 0;
        if (!len || line[0] == '#')
            continue;
        r.at = line;
        struct check_item item = {.line = r.line};
        item.ns = number(&r);
        if (item.ns < last_ns)
            bad(&r, "time runs backwards");
        last_ns = item.ns;
        item.index = small(&r);
        read_item(&r, &item);
        GROW(history.items, history.item_count, history.item_cap);
        history.items[history.item_count++] = item;
    }
    if (ferror(in))
        bad(&r, "reading failed");
    fclose(in);
    free(line);
    free(r.by_number);
    if (!history.item_count)
        bad(&r, "the history is empty");
    *ret_history = history;
}

/* ---- verdicts ---- */
static size_t violations;

void violation(uint32_t line, const char *format, ...)
{
    if (violations++ >= CHECK_VIOLATIONS_SHOWN)
        return;
    printf("violation: line %u: ", line);
    va_list ap;
    va_start(ap, format);
    vprintf(format, ap);
    va_end(ap);
    putchar('\n');
}

size_t violation_count(void) { return violations; }

int verdict(const char *checker, const char *format, ...)
{
    printf("%s: %s, ", checker, violations ? "VIOLATED" : "ok");
    va_list ap;
    va_start(ap, format);
    vprintf(format, ap);
    va_end(ap);
    if (violations)
        printf(", %zu violations", violations);
    putchar('\n');
    return violations ? 1 : 0;
}
