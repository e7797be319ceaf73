/* Reads a history into memory for the checkers; every line keeps its number, which is its place in time. */
#ifndef CHECK_READER_H
#define CHECK_READER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A growing array: GROW(array, len, cap) makes room for one more. Nothing is ever given back: a checker is one run. */
#define GROW(array, len, cap)                                                                                          \
    do {                                                                                                               \
        if ((len) == (cap)) {                                                                                          \
            (cap) = (cap) ? (cap) * 2 : 16;                                                                            \
            (array) = check_realloc((array), (cap) * sizeof(*(array)));                                                \
        }                                                                                                              \
    } while (0)
void *check_realloc(void *p, size_t size);
void *check_alloc(size_t size); /* zeroed, in blocks that live as long as the process */

/* A text as it is written in the history; equal texts have one number. 0: none ("-"). */
typedef uint32_t text_id;

struct check_kv {
    text_id key, value;
    int64_t create, mod, version, lease;
};
enum op_kind { OP_PUT, OP_DEL, OP_GET, OP_TXN, OP_GRANT, OP_REVOKE, OP_KEEPALIVE, OP_TTL, OP_COMPACT };
struct check_compare {
    text_id key, value;
    char target, result;
    int64_t number;
};
struct check_op {
    enum op_kind kind;
    text_id key, end, value;
    int64_t lease, revision, limit, ttl_s;
    bool serializable;
    uint32_t compare_count, then_count, otherwise_count;
    struct check_compare *compares;
    struct check_op *then, *otherwise;
};
struct check_result {
    int64_t count;
    bool more, succeeded;
    uint32_t kv_count, result_count;
    struct check_kv *kvs;
    struct check_result *results;
    int64_t lease, ttl_s, granted_ttl_s;
};
enum outcome { OUTCOME_OPEN, OUTCOME_OK, OUTCOME_FAIL, OUTCOME_UNKNOWN };
struct check_call {
    uint64_t number;
    uint32_t client;
    enum outcome outcome;
    uint32_t invoke_line, return_line; /* return_line of an open one: UINT32_MAX */
    int64_t invoke_ns, return_ns;
    int64_t revision; /* of the answer's header */
    struct check_op op;
    struct check_result result;
};
enum item_kind {
    ITEM_INVOKE,
    ITEM_RETURN,
    WATCH_CREATE,
    WATCH_CREATED,
    WATCH_PUT,
    WATCH_DEL,
    WATCH_PROGRESS,
    WATCH_BREAK,
    WATCH_RESUME,
    WATCH_COMPACTED,
    WATCH_END,
    ITEM_LEADER,
    ITEM_FINAL,
    ITEM_FINAL_KV,
    ITEM_HASH,
    ITEM_NOTE,
};
struct check_item {
    enum item_kind kind;
    uint32_t line;
    int64_t ns;
    uint32_t index;         /* of a call; the number of a watcher, member or client */
    int64_t revision;       /* also start (CREATE, RESUME), mod (WATCH_DEL) */
    int64_t number;         /* count of FINAL, compact revision of HASH, flags of CREATE */
    text_id key, end;       /* CREATE, WATCH_DEL */
    uint32_t hash;
    struct check_kv *kv, *prev; /* NULL: none */
};
struct check_history {
    struct check_call *calls;
    size_t call_count, call_cap;
    struct check_item *items; /* in the order of the file */
    size_t item_count, item_cap;
};
/* Ends the process with 2 and a message when the file is no history. */
void check_read(const char *path, struct check_history *ret_history);

const char *text_of(text_id id);  /* "-" for 0 */
size_t text_count(void);          /* ids are 1 .. text_count() */
/* How two texts compare as the bytes they stand for: <0, 0, >0. */
int text_compare(text_id a, text_id b);
bool text_in_range(text_id key, text_id from, text_id end); /* as etcd: end 0: from alone; "\0": no end */

/* ---- verdicts ---- */
#define CHECK_VIOLATIONS_SHOWN 20
void violation(uint32_t line, const char *format, ...) __attribute__((format(printf, 2, 3)));
size_t violation_count(void);
/* Prints "<name>: ok|VIOLATED, <summary>" and gives the exit status. */
int verdict(const char *name, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
