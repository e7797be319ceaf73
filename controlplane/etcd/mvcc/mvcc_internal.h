/* What the files of the store share. */
#ifndef ETCD_MVCC_INTERNAL_H
#define ETCD_MVCC_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>

#include "controlplane/etcd/mvcc/mvcc.h"

/* ---- index.c: keys in order, each with its revisions ---- */
struct mvcc_revision {
    int64_t main;
    int32_t sub;
    bool tombstone;
};
struct mvcc_lease;
struct mvcc_key {
    struct mvcc_revision *revisions; /* ascending; &first while there is one */
    struct mvcc_revision first;
    uint32_t count, cap;
    uint32_t key_len;
    int64_t create_revision, version; /* of the live generation; 0 when deleted */
    struct mvcc_lease *lease;         /* NULL: none */
    struct mvcc_key *lease_prev, *lease_next;
    uint8_t key[];
};

#define INDEX_CHUNK_MAX 128
struct mvcc_chunk {
    uint32_t count;
    struct mvcc_key *keys[INDEX_CHUNK_MAX];
};
/* Sorted keys in chunks of up to INDEX_CHUNK_MAX, none empty: two binary searches find one, an insert moves at most one
   chunk's pointers, and a split (one in 64 inserts) one array of chunk pointers. */
struct mvcc_index {
    struct mvcc_chunk **chunks;
    size_t count, cap;
    size_t keys;
};
struct index_position {
    size_t chunk;
    uint32_t slot;
};
int mvcc_bytes_compare(struct kp_bytes a, struct kp_bytes b);
static inline struct kp_bytes mvcc_key_bytes(const struct mvcc_key *key)
{
    return (struct kp_bytes){.data = key->key, .len = key->key_len};
}
void index_done(struct mvcc_index *index);
struct mvcc_key *index_find(const struct mvcc_index *index, struct kp_bytes key);
struct mvcc_key *index_insert(struct mvcc_index *index, struct kp_bytes key); /* finds or makes */
/* The first position whose key is >= key; index_at gives NULL at the end. */
struct index_position index_seek(const struct mvcc_index *index, struct kp_bytes key);
struct mvcc_key *index_at(const struct mvcc_index *index, struct index_position position);
void index_advance(const struct mvcc_index *index, struct index_position *position);
void index_remove(struct mvcc_index *index, struct index_position position); /* frees the key */
void key_add_revision(struct mvcc_key *key, struct mvcc_revision revision);
/* The newest revision at or below main, or NULL when there is none; a tombstone is returned as such. */
const struct mvcc_revision *key_revision_at(const struct mvcc_key *key, int64_t main);
static inline bool key_is_live(const struct mvcc_key *key) { return key->version > 0; }

/* ---- leases ---- */
struct mvcc_lease {
    int64_t id, ttl_s;
    int64_t expiry_ms;
    struct mvcc_key *keys;
    size_t key_count;
    struct mvcc_lease *next_in_bucket;
};
struct lease_table {
    struct mvcc_lease **buckets; /* power of two */
    size_t bucket_count, count;
    int64_t ttl_min_s;
    int64_t earliest_ms; /* no lease expires before this */
    pthread_mutex_t mutex; /* guards expiries, which change under the store's read lock */
};
struct mvcc_lease *lease_find(const struct lease_table *table, int64_t id);
void lease_attach(struct mvcc_lease *lease, struct mvcc_key *key);
void lease_detach(struct mvcc_key *key);
int lease_load(struct mvcc *mvcc, struct backend_reader *reader, int64_t now_ms, struct kp_error *error);
void lease_table_clear(struct lease_table *table); /* keys must be detached or gone */
void lease_table_done(struct lease_table *table);

/* ---- watchers ---- */
enum watcher_state { WATCHER_SYNCED, WATCHER_UNSYNCED, WATCHER_FULL, WATCHER_ENDED };
struct mvcc_watcher {
    struct kp_bytes key, range_end; /* owned copies */
    bool no_put, no_delete, want_prev;
    enum watcher_state state;
    bool busy, cancelled; /* busy: mvcc_watch_sync reads for it, without the lock */
    int64_t next_revision; /* the first it has not been given */
    mvcc_watch_sink sink;
    void *ctx;
    struct mvcc_watcher *prev, *next; /* in its group */
    struct watch_group *group;
};
struct watch_group {
    struct mvcc_watcher *head;
    size_t count;
};
#define WATCH_KEY_BUCKETS 1024
struct watch_hub {
    pthread_mutex_t mutex; /* taken after the store's lock */
    pthread_cond_t idle;   /* a busy watcher is free again */
    struct watch_group by_key[WATCH_KEY_BUCKETS]; /* synced, of one key, by its hash */
    struct watch_group ranges;                    /* synced, of a range */
    struct watch_group lagging;                   /* unsynced, full and ended ones */
    /* what synced watchers have yet to be given: whole revisions up to the store's, ascending; empty unless held */
    struct mvcc_event *pending; /* each with references of its own */
    size_t pending_len, pending_cap, pending_bytes;
    bool held;
    uint64_t batches; /* made so far: the newest one's id */
    size_t watchers;
    uint64_t events;
    void (*on_lag)(void *ctx);
    void *on_lag_ctx;
};
#define WATCH_PENDING_MAX 1000                    /* events, and ... */
#define WATCH_PENDING_BYTES_MAX ((size_t)1 << 20) /* ... bytes of records above which they are given out though held */
void watch_hub_init(struct watch_hub *hub);
void watch_hub_done(struct watch_hub *hub);
/* Under the store's write lock: the events of one revision. */
void watch_notify(struct mvcc *mvcc, struct mvcc_event *events, size_t len);
/* Under either lock of the store: gives out what is pending. watch_give_locked: under the hub's, too. */
void watch_give(struct mvcc *mvcc);
void watch_give_locked(struct mvcc *mvcc);
void watch_set_state(struct watch_hub *hub, struct mvcc_watcher *watcher, enum watcher_state state);
/* Under the store's write lock, after its content was replaced: old_revision is how far synced watchers had got. */
void watch_rebase(struct mvcc *mvcc, int64_t old_revision);
bool watch_is_alike(const struct mvcc_watcher *a, const struct mvcc_watcher *b); /* both want the same of any events */
bool watch_wants(const struct mvcc_watcher *watcher, const struct mvcc_event *event);
void watch_find_previous(struct mvcc *mvcc, struct mvcc_event *event);

/* ---- the store ---- */
#define META_COMPACT_SCHEDULED "compact_scheduled"
#define META_COMPACT_FINISHED "compact_finished"
struct mvcc {
    struct backend *backend; /* borrowed */
    struct mvcc_index index;
    int64_t revision;
    int64_t compact_revision;  /* marked */
    int64_t compact_finished;  /* done */
    int64_t compact_target;    /* of the walk under way */
    struct kp_blob *compact_cursor; /* key from which the walk goes on; NULL: the start */
    struct lease_table leases;
    struct watch_hub hub;

    /* the transaction */
    bool in_txn;
    int32_t txn_sub; /* changes so far */
    struct kp_blob **txn_records;
    size_t txn_cap;
};
/* The record of a revision as a reference of its own. Under either lock. */
enum mvcc_result store_fetch(struct mvcc *mvcc, const struct mvcc_revision *revision, struct kp_blob **ret_record,
                             struct kp_error *error);
void store_delete_key(struct mvcc *mvcc, struct mvcc_key *key);
/* The newest revision a read inside or outside a transaction may see. */
int64_t store_read_revision(const struct mvcc *mvcc);

#endif
