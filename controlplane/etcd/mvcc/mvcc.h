/* controlplane/etcd/mvcc: the multi-version key space - revisions, key index, leases, compaction and watchers. */
#ifndef ETCD_MVCC_H
#define ETCD_MVCC_H

#include "base/base.h"
#include "controlplane/etcd/backend/backend.h"

/* Every change has a revision: main counts transactions, sub the changes inside one. Values live in the backend, only
   the index of keys and their revisions in memory. No clock and no I/O but the backend's: time is a parameter.

   range_end: empty for one key; one NUL byte for "key and everything after it"; else the first key past the range. */
struct mvcc;

enum mvcc_result {
    MVCC_OK = 0,
    MVCC_COMPACTED,       /* the revision asked for is compacted away */
    MVCC_FUTURE_REVISION, /* ... is not reached yet */
    MVCC_KEY_NOT_FOUND,
    MVCC_LEASE_NOT_FOUND,
    MVCC_LEASE_EXISTS,
    MVCC_LEASE_TTL_TOO_LARGE,
    MVCC_WATCH_EMPTY_RANGE,
    MVCC_IO, /* the backend failed; struct kp_error says how */
};

#define MVCC_KEY_BYTES_MAX (8u << 20)
#define MVCC_LEASE_TTL_MAX INT64_C(9000000000)

struct mvcc_kv {
    struct kp_bytes key, value;
    int64_t create_revision, mod_revision, version, lease; /* version 0: a deletion */
};
/* The protobuf encoding of mvccpb.KeyValue, which is also the stored form. */
struct kp_blob *mvcc_kv_encode(const struct mvcc_kv *kv);
/* Borrows from record. KP_ECORRUPT. */
int mvcc_kv_decode(struct kp_bytes record, struct mvcc_kv *ret_kv, struct kp_error *error) KP_NODISCARD;
bool mvcc_in_range(struct kp_bytes key, struct kp_bytes start, struct kp_bytes range_end);

/* ---- the store ---- */
/* Borrows backend. Reads the whole key bucket to build the index; resumes a compaction that was cut short. */
int mvcc_open(struct backend *backend, int64_t now_ms, struct mvcc **ret_mvcc, struct kp_error *error) KP_NODISCARD;
void mvcc_close(struct mvcc *mvcc); /* watchers must be gone; accepts NULL */
KP_DEFINE_AUTO(struct mvcc *, mvcc_close)
/* Another database took the place of the backend's (backend_install, whose write lock is held): reads it all anew. Watchers
   stay and go on from their next revision. On failure the store is of no use any more. */
int mvcc_reload(struct mvcc *mvcc, int64_t now_ms, struct kp_error *error) KP_NODISCARD;
int64_t mvcc_revision(struct mvcc *mvcc);           /* the newest; 1 when nothing was written */
int64_t mvcc_compact_revision(struct mvcc *mvcc);   /* 0: never compacted */
size_t mvcc_key_count(struct mvcc *mvcc);           /* keys in the index, deleted but not compacted ones too */

/* ---- reading ---- */
enum mvcc_sort_order { MVCC_SORT_NONE, MVCC_SORT_ASCEND, MVCC_SORT_DESCEND };
enum mvcc_sort_target { MVCC_SORT_KEY, MVCC_SORT_VERSION, MVCC_SORT_CREATE, MVCC_SORT_MOD, MVCC_SORT_VALUE };
struct mvcc_range_request {
    struct kp_bytes key, range_end;
    int64_t limit;    /* 0: none */
    int64_t revision; /* 0: the newest */
    enum mvcc_sort_order sort_order;
    enum mvcc_sort_target sort_target;
    bool keys_only, count_only;
    int64_t min_mod_revision, max_mod_revision, min_create_revision, max_create_revision; /* 0: no bound */
};
struct mvcc_item {
    struct mvcc_kv kv;
    struct kp_bytes record; /* its stored encoding, with the value */
    struct kp_blob *blob;   /* internal: keeps a record that is not in the snapshot */
};
struct mvcc_range_result {
    struct mvcc_item *items; /* bytes are valid until mvcc_range_done */
    size_t len;
    int64_t count; /* keys in the range at the revision, whatever the limit and the bounds */
    bool more;
    int64_t revision; /* of the store when read */
    struct backend_reader *reader; /* internal */
};
/* Takes the read lock for the index only. */
enum mvcc_result mvcc_range(struct mvcc *mvcc, const struct mvcc_range_request *request,
                            struct mvcc_range_result *ret_result, struct kp_error *error) KP_NODISCARD;
void mvcc_range_done(struct mvcc_range_result *result);
/* Few keys lie between the ends: at most three pieces of the index are looked at. */
bool mvcc_range_is_short(struct mvcc *mvcc, const struct mvcc_range_request *request);

/* ---- writing: one transaction at a time, by the apply thread ---- */
/* Takes the backend's write lock. All changes until mvcc_end get the revision mvcc_revision() + 1. */
void mvcc_begin(struct mvcc *mvcc);
/* Tells the watchers, takes the new revision if anything changed, and unlocks. Returns the newest revision. */
int64_t mvcc_end(struct mvcc *mvcc);
/* The range functions inside a transaction: sees the changes made so far. */
enum mvcc_result mvcc_txn_range(struct mvcc *mvcc, const struct mvcc_range_request *request,
                                struct mvcc_range_result *ret_result, struct kp_error *error) KP_NODISCARD;
/* Would a range at this revision be refused (as of the transaction's start)? */
enum mvcc_result mvcc_txn_check_revision(struct mvcc *mvcc, int64_t revision);
int64_t mvcc_txn_revision(struct mvcc *mvcc); /* what a response inside the transaction shows */

struct mvcc_put_request {
    struct kp_bytes key, value;
    int64_t lease; /* 0: none */
    bool ignore_value, ignore_lease, want_prev;
};
/* *ret_prev gets the record before (caller's reference) when want_prev and there was one; ret_prev may be NULL. */
enum mvcc_result mvcc_put(struct mvcc *mvcc, const struct mvcc_put_request *request, struct kp_blob **ret_prev,
                          struct kp_error *error) KP_NODISCARD;
/* Deletes all keys in the range. ret_prevs (may be NULL) gets an array of *ret_deleted records, caller frees both. */
enum mvcc_result mvcc_delete_range(struct mvcc *mvcc, struct kp_bytes key, struct kp_bytes range_end,
                                   int64_t *ret_deleted, struct kp_blob ***ret_prevs, struct kp_error *error) KP_NODISCARD;
void mvcc_blobs_free(struct kp_blob **blobs, size_t len);

enum mvcc_compare_result { MVCC_EQUAL, MVCC_GREATER, MVCC_LESS, MVCC_NOT_EQUAL };
enum mvcc_compare_target { MVCC_CMP_VERSION, MVCC_CMP_CREATE, MVCC_CMP_MOD, MVCC_CMP_VALUE, MVCC_CMP_LEASE };
struct mvcc_compare {
    enum mvcc_compare_result result;
    enum mvcc_compare_target target;
    struct kp_bytes key, range_end;
    int64_t number;        /* version, create, mod, lease */
    struct kp_bytes value; /* MVCC_CMP_VALUE */
};
/* A missing key compares as version, create, mod and lease 0, and fails every comparison of its value; a range must hold
   for every key in it (an empty one as a missing key). */
enum mvcc_result mvcc_compare(struct mvcc *mvcc, const struct mvcc_compare *compare, bool *ret_holds,
                              struct kp_error *error) KP_NODISCARD;
bool mvcc_txn_has_key(struct mvcc *mvcc, struct kp_bytes key);

/* ---- compaction ---- */
/* Marks revision as compacted, inside mvcc_begin/mvcc_end; the work is done by mvcc_compact_step. */
enum mvcc_result mvcc_compact(struct mvcc *mvcc, int64_t revision);
/* Removes what a marked compaction makes superfluous, a bounded part at a time, taking the write lock; true while
   there is more. Any one thread. */
bool mvcc_compact_step(struct mvcc *mvcc);
/* Stock etcd's hash (hash.c says of what) up to revision (0: newest): the same on all members, and on a stock etcd with the
   same history. The read lock is held for a walk of the index when something was ever compacted. */
enum mvcc_result mvcc_hash_kv(struct mvcc *mvcc, int64_t revision, uint32_t *ret_hash, int64_t *ret_compact_revision,
                              int64_t *ret_revision, struct kp_error *error) KP_NODISCARD;

/* ---- leases: changes inside mvcc_begin/mvcc_end; times are the caller's monotonic milliseconds ---- */
enum mvcc_result mvcc_lease_grant(struct mvcc *mvcc, int64_t id, int64_t ttl_s, int64_t now_ms);
/* Deletes its keys, in one transaction's revision. */
enum mvcc_result mvcc_lease_revoke(struct mvcc *mvcc, int64_t id);
bool mvcc_txn_has_lease(struct mvcc *mvcc, int64_t id);
/* The rest take their own locks. Renewing is not replicated: only the leader's expiry counts. A lease past its expiry
   is not found. */
enum mvcc_result mvcc_lease_renew(struct mvcc *mvcc, int64_t id, int64_t now_ms, int64_t *ret_ttl_s);
struct mvcc_lease_info {
    int64_t granted_ttl_s, remaining_ttl_s; /* remaining may be negative */
    struct kp_blob **keys;                  /* with want_keys: ascending, owned */
    size_t key_count;
};
enum mvcc_result mvcc_lease_time_to_live(struct mvcc *mvcc, int64_t id, bool want_keys, int64_t now_ms,
                                         struct mvcc_lease_info *ret_info);
/* All ids, ascending, in a malloc'd array. */
size_t mvcc_lease_list(struct mvcc *mvcc, int64_t **ret_ids);
/* At most max leases that are past their expiry. */
size_t mvcc_lease_expired(struct mvcc *mvcc, int64_t now_ms, int64_t *ids, size_t max);
/* A new leader gives every lease its whole TTL again, plus extra_ms (raft's election timeout). */
void mvcc_lease_promote(struct mvcc *mvcc, int64_t now_ms, int64_t extra_ms);
/* The least TTL granted, seconds: a shorter one is raised to it. */
void mvcc_lease_set_ttl_min(struct mvcc *mvcc, int64_t ttl_s);

/* ---- watching ---- */
struct mvcc_event {
    bool is_delete;
    int64_t revision;      /* main */
    struct kp_blob *record; /* the KeyValue; a deletion's has key and mod_revision only */
    struct kp_blob *prev;   /* the record before, or NULL */
    struct mvcc_kv kv;      /* decoded from record */
};
struct mvcc_watcher;
struct mvcc_watch_request {
    struct kp_bytes key, range_end;
    int64_t start_revision; /* 0: what comes next */
    bool no_put, no_delete, want_prev;
};
/* Gives a watcher's events, whole revisions, ascending, each once. Called with the watch lock held: it must not block
   nor call back, and takes its own references of what it keeps. Returns false when it has no room: the watcher then
   falls back to catching up, from this revision, by mvcc_watch_sync. events are pointers; len 0 with compact_revision
   set means the watcher is at its end, for its next revision was compacted. */
struct mvcc_watch_batch {
    uint64_t id; /* not 0: whoever is given the same id in the next calls is given the very same events at the same revision */
    struct mvcc_event *const *events;
    size_t len;
    bool with_prev;           /* the watcher wants prev; ignore it otherwise */
    int64_t revision;         /* of the store, at least that of the last event */
    int64_t compact_revision; /* 0, or: cancelled */
};
typedef bool (*mvcc_watch_sink)(void *ctx, struct mvcc_watcher *watcher, const struct mvcc_watch_batch *batch);
/* `created` (may be NULL) is called under the watch lock before any event, with the store's revision. A start revision
   below the compaction mark is found by the next mvcc_watch_sync. */
enum mvcc_result mvcc_watch(struct mvcc *mvcc, const struct mvcc_watch_request *request, mvcc_watch_sink sink, void *ctx,
                            void (*created)(void *ctx, struct mvcc_watcher *watcher, int64_t revision),
                            struct mvcc_watcher **ret_watcher);
/* No call of the sink is running or will follow after this. NULL is fine. */
void mvcc_watch_cancel(struct mvcc *mvcc, struct mvcc_watcher *watcher);
void *mvcc_watcher_ctx(const struct mvcc_watcher *watcher);
/* The apply thread's: between the two, watchers need not hear of each transaction; then each hears of all at once. */
void mvcc_watch_hold(struct mvcc *mvcc);
void mvcc_watch_release(struct mvcc *mvcc);
/* Catches up at most one round of every unsynced watcher, without holding up writers; true when some still lag and can
   take more (call again), false when all are synced or full. One thread. */
bool mvcc_watch_sync(struct mvcc *mvcc);
/* The sink of this watcher has room again. */
void mvcc_watch_resume(struct mvcc *mvcc, struct mvcc_watcher *watcher);
bool mvcc_watch_needs_sync(struct mvcc *mvcc);
/* Called (any thread, locks held) when a watcher starts to need mvcc_watch_sync. */
void mvcc_watch_on_lag(struct mvcc *mvcc, void (*fn)(void *ctx), void *ctx);
/* Calls fn with the store's revision under the watch lock when all of the watchers are synced, so that nothing at or
   below it follows; false when some are not. */
bool mvcc_watch_progress(struct mvcc *mvcc, struct mvcc_watcher *const *watchers, size_t len,
                         void (*fn)(void *ctx, int64_t revision), void *ctx);
struct mvcc_watch_stats {
    size_t watchers, slow;
    uint64_t events;
};
void mvcc_watch_stats(struct mvcc *mvcc, struct mvcc_watch_stats *ret_stats);

#endif
