/* Writes histories: one line an event, in the order in which the world saw them (README.md has the format).

   Stands on libc alone, so that neither the clients nor the checkers share a line with the store. Thread-safe: a line's
   place and its time are taken under one lock. Call history_invoke before the request leaves and the others after the
   answer came; then whatever returned on an earlier line than another's invoke really preceded it. */
#ifndef HISTORY_H
#define HISTORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct history_bytes {
    const void *data; /* NULL: none, written "-" (a range end of a single key) */
    size_t len;
};
struct history_kv {
    struct history_bytes key, value;
    int64_t create, mod, version, lease;
};

enum history_kind {
    HISTORY_PUT,       /* key value lease */
    HISTORY_DEL,       /* key end */
    HISTORY_GET,       /* key end revision limit serializable */
    HISTORY_TXN,       /* compares, then, otherwise */
    HISTORY_GRANT,     /* lease (what was asked for; 0: the server picks) ttl_s */
    HISTORY_REVOKE,    /* lease */
    HISTORY_KEEPALIVE, /* lease */
    HISTORY_TTL,       /* lease */
    HISTORY_COMPACT,   /* revision */
};
struct history_compare {
    struct history_bytes key;
    char target;                /* 'v'ersion 'c'reate 'm'od 'V'alue 'l'ease */
    char result;                /* '=' '>' '<' '!' */
    int64_t number;             /* of all but 'V' */
    struct history_bytes value; /* of 'V' */
};
struct history_op {
    enum history_kind kind;
    struct history_bytes key, end, value;
    int64_t lease, revision, limit, ttl_s;
    bool serializable;
    const struct history_compare *compares;
    size_t compare_count;
    const struct history_op *then, *otherwise; /* puts, dels and gets */
    size_t then_count, otherwise_count;
};
struct history_result {
    int64_t count;                   /* of a get; deleted, of a del */
    bool more;                       /* of a get */
    const struct history_kv *kvs;    /* of a get; of a put or del the previous ones, if asked for */
    size_t kv_count;
    bool succeeded;                  /* of a txn */
    const struct history_result *results; /* of a txn, one for each operation of the branch */
    size_t result_count;
    int64_t lease;                   /* of a grant */
    int64_t ttl_s;                   /* of a grant, keepalive (0: no such lease), ttl (-1: no such lease) */
    int64_t granted_ttl_s;           /* of a ttl */
};

struct history;
/* now_ns NULL: CLOCK_MONOTONIC. It must not run backwards. NULL and errno when the file cannot be made. */
struct history *history_open(const char *path, int64_t (*now_ns)(void *ctx), void *ctx);
/* Frees; 0, or -1 with errno when any line could not be written. */
int history_close(struct history *history);
int history_flush(struct history *history);

/* ---- operations: the number that invoke gives is the operation's name ---- */
uint64_t history_invoke(struct history *history, unsigned client, const struct history_op *op);
/* revision: of the answer's header. op: as invoked. */
void history_ok(struct history *history, unsigned client, uint64_t number, const struct history_op *op, int64_t revision,
                const struct history_result *result);
void history_fail(struct history *history, unsigned client, uint64_t number, const char *why);    /* surely not done */
void history_unknown(struct history *history, unsigned client, uint64_t number, const char *why); /* done or not */

/* ---- watchers: an id is one logical watcher, however many streams it takes ---- */
#define HISTORY_WATCH_PREV_KV 1u
#define HISTORY_WATCH_PROGRESS 2u
#define HISTORY_WATCH_NOPUT 4u
#define HISTORY_WATCH_NODELETE 8u
/* start 0: from the revision after the one that history_watch_created tells. */
void history_watch(struct history *history, unsigned watcher, struct history_bytes key, struct history_bytes end,
                   int64_t start, unsigned flags);
void history_watch_created(struct history *history, unsigned watcher, int64_t revision);
/* kv of a delete: key and mod count. prev NULL: none came. */
void history_watch_event(struct history *history, unsigned watcher, bool deleted, const struct history_kv *kv,
                         const struct history_kv *prev);
void history_watch_progress(struct history *history, unsigned watcher, int64_t revision);
void history_watch_break(struct history *history, unsigned watcher, const char *why);
void history_watch_resume(struct history *history, unsigned watcher, int64_t start);
void history_watch_compacted(struct history *history, unsigned watcher, int64_t compact_revision);
/* The watcher is over and is known to have had the time to get everything up to revision; 0: nothing is promised. */
void history_watch_end(struct history *history, unsigned watcher, int64_t revision);

/* ---- the world ---- */
void history_leader(struct history *history, unsigned member); /* a new leader was seen; for leases */
void history_note(struct history *history, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* What a member holds at the end, at one revision: the head, then each key in order. */
void history_final(struct history *history, unsigned member, int64_t revision, int64_t count);
void history_final_kv(struct history *history, unsigned member, const struct history_kv *kv);
void history_hash(struct history *history, unsigned member, int64_t revision, int64_t compact_revision, uint32_t hash);

#endif
