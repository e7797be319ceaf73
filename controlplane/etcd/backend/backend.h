/* controlplane/etcd/backend: the store's tables on disk (LMDB), written in batches by a thread of its own. */
#ifndef ETCD_BACKEND_H
#define ETCD_BACKEND_H

#include "base/base.h"

/* How it keeps what was acknowledged: every change is in the write-ahead log first, so a batch may sit in memory until
   the committer writes it, together with the raft index it reaches up to (the consistent index), in one synced LMDB
   transaction. After a crash the log is replayed from that index.

   One lock covers the pending batch and everything built from it (the key index, leases): writers hold it exclusively
   for one raft entry, so that a batch never ends inside an entry; readers hold it shared while they collect revisions
   and open a snapshot, and read the snapshot without it. */
struct backend;

enum backend_bucket {
    BACKEND_KEY,     /* revision (12 bytes, big endian main and sub) -> encoded mvccpb.KeyValue */
    BACKEND_META,    /* names -> bytes: consistent index and term, compaction marks, member and cluster ids */
    BACKEND_LEASE,   /* lease id (8 bytes, big endian) -> TTL */
    BACKEND_ALARM,   /* member id, alarm type -> nothing */
    BACKEND_MEMBERS, /* member id -> member record */
    BACKEND_AUTH,    /* whether users are asked for, and how often users and roles changed */
    BACKEND_AUTH_USERS, /* name -> authpb.User */
    BACKEND_AUTH_ROLES, /* name -> authpb.Role */
    BACKEND_BUCKET_COUNT,
};

#define BACKEND_KEY_MAX 500                          /* bytes of a key in any bucket (LMDB allows 511) */
#define BACKEND_PENDING_BYTES_MAX ((size_t)64 << 20) /* a writer waits for the committer above this */
#define BACKEND_BATCH_LIMIT_DEFAULT 10000
#define BACKEND_BATCH_INTERVAL_MS_DEFAULT 1000
#define BACKEND_QUOTA_DEFAULT ((int64_t)2 << 30)
#define BACKEND_QUOTA_MAX ((int64_t)1 << 40)

struct backend_options {
    int64_t quota_bytes;       /* 0: BACKEND_QUOTA_DEFAULT; negative: none. Also sizes the map. */
    int64_t batch_interval_ms; /* longest time a change stays uncommitted; 0: default */
    int64_t batch_limit;       /* operations that force a commit at once; 0: default */
    /* Called by the committer when a batch cannot be written; it is kept and tried again after a second. Borrowed. */
    void (*on_error)(void *ctx, const struct kp_error *error);
    /* Called by whoever finds that the file is not as it was written: the member must not go on with it. */
    void (*on_damage)(void *ctx, const struct kp_error *error);
    void *ctx;
    void (*on_commit)(void *ctx, double seconds); /* one was made; may be NULL */
    bool stepped; /* no committer thread: the owner calls backend_turn, and whoever would wait commits itself */
};

/* Opens or makes the database file at path (mode 0600). KP_ECORRUPT when it is damaged. */
int backend_open(const char *path, const struct backend_options *options, struct backend **ret_backend,
                 struct kp_error *error) KP_NODISCARD;
void backend_close(struct backend *backend); /* commits what is pending; accepts NULL */
KP_DEFINE_AUTO(struct backend *, backend_close)

/* ---- the lock ---- */
void backend_write_lock(struct backend *backend);
void backend_write_unlock(struct backend *backend); /* wakes the committer; waits when too much is pending */
void backend_read_lock(struct backend *backend);
void backend_read_unlock(struct backend *backend);

/* ---- writing: under the write lock ---- */
/* Revisions must come in ascending order. Takes its own reference of record. */
void backend_put_revision(struct backend *backend, int64_t main, int32_t sub, struct kp_blob *record);
void backend_delete_revision(struct backend *backend, int64_t main, int32_t sub);
void backend_put(struct backend *backend, enum backend_bucket bucket, const void *key, size_t key_len, const void *value,
                 size_t value_len); /* copies */
void backend_delete(struct backend *backend, enum backend_bucket bucket, const void *key, size_t key_len);
/* What the pending batch reaches up to, once this entry is applied. */
void backend_set_consistent_index(struct backend *backend, uint64_t index, uint64_t term);
/* What is safe on disk: the log may be cut up to here. */
void backend_committed_index(struct backend *backend, uint64_t *ret_index, uint64_t *ret_term);
/* Commits everything pending now and waits for it. Without any lock held. Fails when the disk does. */
int backend_commit(struct backend *backend, struct kp_error *error) KP_NODISCARD;
/* Of a stepped backend: commits what is pending. A failure goes to on_error and is tried again by the next turn. */
void backend_turn(struct backend *backend);

/* ---- reading ---- */
/* The record of a revision that is not committed yet, or NULL: then it is in any snapshot opened under the same hold of
   the lock. The caller owns the reference. Under either lock. */
struct kp_blob *backend_pending_revision(struct backend *backend, int64_t main, int32_t sub);

/* A consistent snapshot. Opened under either lock; read and ended without. The bytes found stay valid until the end. */
struct backend_reader;
int backend_reader_begin(struct backend *backend, struct backend_reader **ret_reader, struct kp_error *error) KP_NODISCARD;
void backend_reader_end(struct backend_reader *reader); /* accepts NULL */
KP_DEFINE_AUTO(struct backend_reader *, backend_reader_end)
int backend_reader_revision(struct backend_reader *reader, int64_t main, int32_t sub, struct kp_bytes *ret_record,
                            struct kp_error *error) KP_NODISCARD; /* KP_ENOTFOUND when absent */
int backend_reader_get(struct backend_reader *reader, enum backend_bucket bucket, const void *key, size_t key_len,
                       struct kp_bytes *ret_value, struct kp_error *error) KP_NODISCARD; /* KP_ENOTFOUND */

/* Return false to stop. record is borrowed for the call. */
typedef bool (*backend_revision_fn)(void *ctx, int64_t main, int32_t sub, struct kp_bytes record);
typedef bool (*backend_pair_fn)(void *ctx, struct kp_bytes key, struct kp_bytes value);
/* Revisions from (main, 0) on, ascending: only what is committed in the snapshot. */
int backend_reader_scan(struct backend_reader *reader, int64_t from_main, backend_revision_fn fn, void *ctx,
                        struct kp_error *error) KP_NODISCARD;
int backend_reader_each(struct backend_reader *reader, enum backend_bucket bucket, backend_pair_fn fn, void *ctx,
                        struct kp_error *error) KP_NODISCARD;
/* Pending revisions from (main, 0) on, ascending, under either lock: what a snapshot opened now does not have. A
   revision may be in both for a moment. */
void backend_pending_scan(struct backend *backend, int64_t from_main, bool (*fn)(void *ctx, int64_t main, int32_t sub,
                                                                                 struct kp_blob *record),
                          void *ctx);

/* ---- maintenance: without any lock held ---- */
int64_t backend_size(struct backend *backend);        /* bytes of the file that are in use or once were */
int64_t backend_size_in_use(struct backend *backend); /* without the free pages */
int64_t backend_quota(const struct backend *backend); /* bytes; negative: none */
bool backend_over_quota(struct backend *backend, int64_t extra_bytes);
/* Rewrites the file without its free pages. Readers and writers wait. */
int backend_defragment(struct backend *backend, struct kp_error *error) KP_NODISCARD;
/* Writes a compacted copy, after a commit, to path (made, mode 0600), and tells what it holds: the consistent index and the
   bytes of one meta record (KP_ENOTFOUND without it). */
int backend_image(struct backend *backend, const char *path, const char *meta, uint64_t *ret_index, uint64_t *ret_term,
                  struct kp_buf *ret_meta, struct kp_error *error) KP_NODISCARD;
/* Puts the image of another member at `path` in the place of everything, with `mark` written to it first under the name
   `meta`: durable when this returns. Pending changes are dropped, readers waited for. Returns holding the write lock, for
   what was built from the database must be built anew; on failure without it and with nothing changed. */
int backend_install(struct backend *backend, const char *path, const char *meta, uint64_t mark,
                    struct kp_error *error) KP_NODISCARD;
/* CRC-32C over all pairs of all buckets but meta, after a commit. */
int backend_hash(struct backend *backend, uint32_t *ret_hash, struct kp_error *error) KP_NODISCARD;

#endif
