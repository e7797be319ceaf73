/* The writer of histories: a line is put together in memory and given its place and its time under one lock. */
#include "history.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct history {
    pthread_mutex_t lock;
    FILE *out;
    int64_t (*now_ns)(void *ctx);
    void *ctx;
    uint64_t next_number;
    int failed; /* errno of the first write that failed */
};

/* ---- a line in the making ---- */
struct line {
    char *data;
    size_t len, cap;
};

static void line_room(struct line *line, size_t extra)
{
    if (line->cap - line->len >= extra)
        return;
    line->cap = (line->cap + extra) * 2;
    line->data = realloc(line->data, line->cap);
    if (!line->data)
        abort();
}

static __attribute__((format(printf, 2, 3))) void put(struct line *line, const char *format, ...)
{
    for (size_t room = 128;; room *= 2) {
        line_room(line, room);
        va_list ap;
        va_start(ap, format);
        int n = vsnprintf(line->data + line->len, room, format, ap);
        va_end(ap);
        if (n >= 0 && (size_t)n < room) {
            line->len += (size_t)n;
            return;
        }
    }
}

/* " " and the bytes; what is not a visible character, "%" or a sole "-" is written %xx, nothing at all "%". */
static void put_bytes(struct line *line, struct history_bytes bytes)
{
    line_room(line, bytes.len * 3 + 8);
    char *at = line->data + line->len;
    *at++ = ' ';
    const unsigned char *data = bytes.data;
    if (!data)
        *at++ = '-';
    else if (!bytes.len)
        *at++ = '%';
    for (size_t i = 0; data && i < bytes.len; i++) {
        bool plain = data[i] > 0x20 && data[i] < 0x7f && data[i] != '%' && !(bytes.len == 1 && data[i] == '-');
        if (plain) {
            *at++ = (char)data[i];
            continue;
        }
        *at++ = '%';
        *at++ = "0123456789abcdef"[data[i] >> 4];
        *at++ = "0123456789abcdef"[data[i] & 15];
    }
    line->len = (size_t)(at - line->data);
}

static void put_number(struct line *line, int64_t number) { put(line, " %" PRId64, number); }

static void put_kv(struct line *line, const struct history_kv *kv)
{
    put_bytes(line, kv->key);
    put_bytes(line, kv->value);
    put(line, " %" PRId64 " %" PRId64 " %" PRId64 " %" PRId64, kv->create, kv->mod, kv->version, kv->lease);
}

/* Ends the line and frees it. number: where it goes, a new number is written in the place of the first "#". */
static uint64_t emit(struct history *history, struct line *line, bool numbered)
{
    line_room(line, 2);
    line->data[line->len++] = '\n';
    line->data[line->len] = 0;
    pthread_mutex_lock(&history->lock);
    uint64_t number = numbered ? history->next_number++ : 0;
    int n = fprintf(history->out, "%" PRId64, history->now_ns(history->ctx));
    char *mark = numbered ? strchr(line->data, '#') : NULL;
    if (n >= 0 && mark)
        n = fprintf(history->out, "%.*s%" PRIu64 "%s", (int)(mark - line->data), line->data, number, mark + 1);
    else if (n >= 0)
        n = fwrite(line->data, 1, line->len, history->out) == line->len ? 0 : -1;
    if (n < 0 && !history->failed)
        history->failed = errno ? errno : EIO;
    pthread_mutex_unlock(&history->lock);
    free(line->data);
    return number;
}

/* ---- opening and closing ---- */
static int64_t monotonic_ns(void *ctx)
{
    (void)ctx;
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

struct history *history_open(const char *path, int64_t (*now_ns)(void *ctx), void *ctx)
{
    FILE *out = fopen(path, "we");
    if (!out)
        return NULL;
    setvbuf(out, NULL, _IOFBF, 1 << 18);
    struct history *history = calloc(1, sizeof(*history));
    if (!history)
        abort();
    pthread_mutex_init(&history->lock, NULL);
    history->out = out;
    history->now_ns = now_ns ? now_ns : monotonic_ns;
    history->ctx = ctx;
    history->next_number = 1;
    return history;
}

int history_flush(struct history *history)
{
    pthread_mutex_lock(&history->lock);
    if (fflush(history->out) != 0 && !history->failed)
        history->failed = errno;
    int failed = history->failed;
    pthread_mutex_unlock(&history->lock);
    errno = failed;
    return failed ? -1 : 0;
}

int history_close(struct history *history)
{
    int failed = history->failed;
    if (fclose(history->out) != 0 && !failed)
        failed = errno;
    pthread_mutex_destroy(&history->lock);
    free(history);
    errno = failed;
    return failed ? -1 : 0;
}

/* ---- operations ---- */
static void put_op(struct line *line, const struct history_op *op);

static void put_txn(struct line *line, const struct history_op *op)
{
    put(line, " %zu", op->compare_count);
    for (size_t i = 0; i < op->compare_count; i++) {
        const struct history_compare *compare = &op->compares[i];
        put_bytes(line, compare->key);
        put(line, " %c%c", compare->target, compare->result);
        if (compare->target == 'V')
            put_bytes(line, compare->value);
        else
            put_number(line, compare->number);
    }
    put(line, " %zu", op->then_count);
    for (size_t i = 0; i < op->then_count; i++)
        put_op(line, &op->then[i]);
    put(line, " %zu", op->otherwise_count);
    for (size_t i = 0; i < op->otherwise_count; i++)
        put_op(line, &op->otherwise[i]);
}

static void put_op(struct line *line, const struct history_op *op)
{
    static const char *const names[] = {"put", "del", "get", "txn", "grant", "revoke", "keepalive", "ttl", "compact"};
    put(line, " %s", names[op->kind]);
    switch (op->kind) {
    case HISTORY_PUT:
        put_bytes(line, op->key);
        put_bytes(line, op->value);
        put_number(line, op->lease);
        break;
    case HISTORY_DEL:
        put_bytes(line, op->key);
        put_bytes(line, op->end);
        break;
    case HISTORY_GET:
        put_bytes(line, op->key);
        put_bytes(line, op->end);
        put(line, " %" PRId64 " %" PRId64 " %c", op->revision, op->limit, op->serializable ? 's' : 'l');
        break;
    case HISTORY_TXN:
        put_txn(line, op);
        break;
    case HISTORY_GRANT:
        put(line, " %" PRId64 " %" PRId64, op->lease, op->ttl_s);
        break;
    case HISTORY_REVOKE:
    case HISTORY_KEEPALIVE:
    case HISTORY_TTL:
        put_number(line, op->lease);
        break;
    case HISTORY_COMPACT:
        put_number(line, op->revision);
        break;
    }
}

static void put_kvs(struct line *line, const struct history_result *result)
{
    put(line, " %zu", result->kv_count);
    for (size_t i = 0; i < result->kv_count; i++)
        put_kv(line, &result->kvs[i]);
}

static void put_result(struct line *line, const struct history_op *op, const struct history_result *result)
{
    switch (op->kind) {
    case HISTORY_PUT:
        put_kvs(line, result);
        break;
    case HISTORY_DEL:
        put_number(line, result->count);
        put_kvs(line, result);
        break;
    case HISTORY_GET:
        put(line, " %" PRId64 " %d", result->count, result->more);
        put_kvs(line, result);
        break;
    case HISTORY_TXN: {
        const struct history_op *branch = result->succeeded ? op->then : op->otherwise;
        put(line, " %s %zu", result->succeeded ? "then" : "else", result->result_count);
        for (size_t i = 0; i < result->result_count; i++)
            put_result(line, &branch[i], &result->results[i]);
        break;
    }
    case HISTORY_GRANT:
        put(line, " %" PRId64 " %" PRId64, result->lease, result->ttl_s);
        break;
    case HISTORY_KEEPALIVE:
        put_number(line, result->ttl_s);
        break;
    case HISTORY_TTL:
        put(line, " %" PRId64 " %" PRId64, result->ttl_s, result->granted_ttl_s);
        break;
    case HISTORY_REVOKE:
    case HISTORY_COMPACT:
        break;
    }
}

uint64_t history_invoke(struct history *history, unsigned client, const struct history_op *op)
{
    struct line line = {0};
    put(&line, " %u invoke #", client);
    put_op(&line, op);
    return emit(history, &line, true);
}

void history_ok(struct history *history, unsigned client, uint64_t number, const struct history_op *op, int64_t revision,
                const struct history_result *result)
{
    struct line line = {0};
    put(&line, " %u ok %" PRIu64 " %" PRId64, client, number, revision);
    put_result(&line, op, result);
    emit(history, &line, false);
}

static void without_result(struct history *history, unsigned client, uint64_t number, const char *how, const char *why)
{
    struct line line = {0};
    put(&line, " %u %s %" PRIu64, client, how, number);
    put_bytes(&line, (struct history_bytes){why, strlen(why)});
    emit(history, &line, false);
}

void history_fail(struct history *history, unsigned client, uint64_t number, const char *why)
{
    without_result(history, client, number, "fail", why);
}

void history_unknown(struct history *history, unsigned client, uint64_t number, const char *why)
{
    without_result(history, client, number, "unknown", why);
}

/* ---- watchers ---- */
void history_watch(struct history *history, unsigned watcher, struct history_bytes key, struct history_bytes end,
                   int64_t start, unsigned flags)
{
    struct line line = {0};
    put(&line, " %u watch create", watcher);
    put_bytes(&line, key);
    put_bytes(&line, end);
    put(&line, " %" PRId64 " %u", start, flags);
    emit(history, &line, false);
}

static void watch_number(struct history *history, unsigned watcher, const char *what, int64_t revision)
{
    struct line line = {0};
    put(&line, " %u watch %s %" PRId64, watcher, what, revision);
    emit(history, &line, false);
}

void history_watch_created(struct history *history, unsigned watcher, int64_t revision)
{
    watch_number(history, watcher, "created", revision);
}

void history_watch_event(struct history *history, unsigned watcher, bool deleted, const struct history_kv *kv,
                         const struct history_kv *prev)
{
    struct line line = {0};
    put(&line, " %u watch %s", watcher, deleted ? "del" : "put");
    if (deleted) {
        put_bytes(&line, kv->key);
        put_number(&line, kv->mod);
    } else {
        put_kv(&line, kv);
    }
    put(&line, " %d", prev != NULL);
    if (prev)
        put_kv(&line, prev);
    emit(history, &line, false);
}

void history_watch_progress(struct history *history, unsigned watcher, int64_t revision)
{
    watch_number(history, watcher, "progress", revision);
}

void history_watch_break(struct history *history, unsigned watcher, const char *why)
{
    struct line line = {0};
    put(&line, " %u watch break", watcher);
    put_bytes(&line, (struct history_bytes){why, strlen(why)});
    emit(history, &line, false);
}

void history_watch_resume(struct history *history, unsigned watcher, int64_t start)
{
    watch_number(history, watcher, "resume", start);
}

void history_watch_compacted(struct history *history, unsigned watcher, int64_t compact_revision)
{
    watch_number(history, watcher, "compacted", compact_revision);
}

void history_watch_end(struct history *history, unsigned watcher, int64_t revision)
{
    watch_number(history, watcher, "end", revision);
}

/* ---- the world ---- */
void history_leader(struct history *history, unsigned member)
{
    struct line line = {0};
    put(&line, " %u leader", member);
    emit(history, &line, false);
}

void history_note(struct history *history, const char *format, ...)
{
    struct line line = {0};
    char text[512];
    va_list ap;
    va_start(ap, format);
    vsnprintf(text, sizeof(text), format, ap);
    va_end(ap);
    for (char *p = text; *p; p++)
        if (*p == '\n')
            *p = ' ';
    put(&line, " 0 note %s", text);
    emit(history, &line, false);
}

void history_final(struct history *history, unsigned member, int64_t revision, int64_t count)
{
    struct line line = {0};
    put(&line, " %u final %" PRId64 " %" PRId64, member, revision, count);
    emit(history, &line, false);
}

void history_final_kv(struct history *history, unsigned member, const struct history_kv *kv)
{
    struct line line = {0};
    put(&line, " %u final-kv", member);
    put_kv(&line, kv);
    emit(history, &line, false);
}

void history_hash(struct history *history, unsigned member, int64_t revision, int64_t compact_revision, uint32_t hash)
{
    struct line line = {0};
    put(&line, " %u hash %" PRId64 " %" PRId64 " %" PRIu32, member, revision, compact_revision, hash);
    emit(history, &line, false);
}
