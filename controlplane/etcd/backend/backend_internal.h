/* What the files of the backend share. */
#ifndef ETCD_BACKEND_INTERNAL_H
#define ETCD_BACKEND_INTERNAL_H

#include <lmdb.h>
#include <pthread.h>

#include "controlplane/etcd/backend/backend.h"

#define BACKEND_REVISION_KEY_LEN 12
#define BACKEND_READERS_MAX 1022 /* snapshots open at once */
#define BACKEND_READER_POOL_MAX 16

struct backend_op {
    enum backend_bucket bucket;
    bool is_delete;
    uint16_t key_len;
    uint8_t *key; /* owned */
    struct kp_blob *value;
};

struct backend_revision {
    int64_t main;
    int32_t sub;
    struct kp_blob *record;
};

/* The changes of a run of whole raft entries. */
struct backend_batch {
    struct backend_revision *revisions; /* puts of BACKEND_KEY, ascending */
    size_t revision_count, revision_cap;
    struct backend_op *ops; /* everything else, in the order made */
    size_t op_count, op_cap;
    size_t bytes;
    uint64_t index, term; /* consistent index; 0 when not set */
    int64_t opened_ms;    /* when its first change came */
};

struct backend {
    char *path;
    struct backend_options options;
    MDB_env *env;
    MDB_dbi dbi[BACKEND_BUCKET_COUNT];
    size_t map_size;

    pthread_rwlock_t lock;
    struct backend_batch *pending;    /* written to under the write lock */
    struct backend_batch *committing; /* immutable while the committer writes it; NULL otherwise */
    uint64_t committed_index, committed_term;

    pthread_mutex_t mutex; /* guards what follows; taken after lock, never before */
    pthread_cond_t wake;   /* the committer */
    pthread_cond_t done;   /* those who wait for it */
    pthread_t thread;
    bool thread_started, stopping;
    size_t pending_ops, pending_bytes; /* of the pending batch, for the committer's decision */
    int64_t pending_since_ms;
    uint64_t commit_wanted, commit_done, commit_started; /* tickets of backend_commit */
    struct kp_error last_error;                          /* of the newest try; code 0 when it went well */
    int active_readers;
    struct backend_reader *pool;
    int pool_len;
    int64_t size, size_in_use;

    pthread_mutex_t env_mutex; /* held by whoever writes to or replaces the environment */
};

struct backend_reader {
    struct backend *backend;
    MDB_txn *txn;
    struct backend_reader *next; /* in the pool */
};

int backend_lmdb_fail(struct kp_error *error, int rc, const char *what, const char *path);
void backend_revision_key(uint8_t out[BACKEND_REVISION_KEY_LEN], int64_t main, int32_t sub);
/* Makes the tables with `create`; without it one that is not there is damage. */
int backend_env_open(struct backend *backend, bool create, struct kp_error *error);
int backend_make_file(struct backend *backend, struct kp_error *error);
int backend_sync_parent(const char *path, struct kp_error *error);
void backend_env_close(struct backend *backend);
int backend_load_index(struct backend *backend, struct kp_error *error);
/* Under the write lock: waits until no snapshot is open and drops the pooled ones. */
void backend_drain_readers(struct backend *backend);
void backend_measure(struct backend *backend);

/* A record is stored with the CRC-32C of its key and itself behind it. */
#define BACKEND_CRC_BYTES 4
int backend_put_checked(MDB_txn *txn, MDB_dbi dbi, MDB_val *key, const void *value, size_t len, unsigned flags);
/* Reading went wrong in a way that no retry mends: tells the owner, who may not return from it. */
void backend_damaged(struct backend *backend, const struct kp_error *error);

void backend_batch_free(struct backend_batch *batch);
int backend_batch_write(struct backend *backend, const struct backend_batch *batch, struct kp_error *error);
void *backend_committer(void *arg);

/* maintenance.c */
/* A compacted copy of what is committed, synced, at path. Under env_mutex. */
int backend_copy_to(struct backend *backend, const char *path, struct kp_error *error);
/* Under env_mutex and the write lock, with no snapshot open: the file at copy takes the database's place. */
int backend_replace_file(struct backend *backend, const char *copy, struct kp_error *error);

#endif
