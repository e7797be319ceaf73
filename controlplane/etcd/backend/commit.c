/* The committer: takes the pending batch and writes it in one synced transaction. */
#include "controlplane/etcd/backend/backend_internal.h"

#include <time.h>

#define COMMIT_RETRY_MS 1000

void backend_batch_free(struct backend_batch *batch)
{
    if (!batch)
        return;
    for (size_t i = 0; i < batch->revision_count; i++)
        kp_blob_unref(batch->revisions[i].record);
    for (size_t i = 0; i < batch->op_count; i++) {
        free(batch->ops[i].key);
        kp_blob_unref(batch->ops[i].value);
    }
    free(batch->revisions);
    free(batch->ops);
    free(batch);
}

int backend_put_checked(MDB_txn *txn, MDB_dbi dbi, MDB_val *key, const void *value, size_t len, unsigned flags)
{
    MDB_val v = {len + BACKEND_CRC_BYTES, NULL};
    int rc = mdb_put(txn, dbi, key, &v, flags | MDB_RESERVE);
    if (rc)
        return rc;
    uint32_t crc = kp_crc32c(kp_crc32c(0, key->mv_data, key->mv_size), value, len);
    memcpy(v.mv_data, value, len);
    memcpy((uint8_t *)v.mv_data + len, &crc, sizeof crc);
    return 0;
}

static int put_revisions(struct backend *backend, MDB_txn *txn, const struct backend_batch *batch)
{
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < batch->revision_count; i++) {
        const struct backend_revision *r = &batch->revisions[i];
        uint8_t key[BACKEND_REVISION_KEY_LEN];
        backend_revision_key(key, r->main, r->sub);
        MDB_val k = {sizeof key, key};
        /* Revisions only grow, so pages fill up completely; a replay after a crash never sees one twice because the
           consistent index came with it. */
        rc = backend_put_checked(txn, backend->dbi[BACKEND_KEY], &k, r->record->data, r->record->len, MDB_APPEND);
    }
    return rc;
}

static int apply_ops(struct backend *backend, MDB_txn *txn, const struct backend_batch *batch)
{
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < batch->op_count; i++) {
        const struct backend_op *op = &batch->ops[i];
        MDB_val k = {op->key_len, op->key};
        if (op->is_delete) {
            rc = mdb_del(txn, backend->dbi[op->bucket], &k, NULL);
            if (rc == MDB_NOTFOUND)
                rc = 0;
        } else {
            rc = backend_put_checked(txn, backend->dbi[op->bucket], &k, op->value->data, op->value->len, 0);
        }
    }
    return rc;
}

static int write_once(struct backend *backend, const struct backend_batch *batch)
{
    MDB_txn *txn = NULL;
    int rc = mdb_txn_begin(backend->env, NULL, 0, &txn);
    if (rc)
        return rc;
    rc = put_revisions(backend, txn, batch);
    if (rc == 0)
        rc = apply_ops(backend, txn, batch);
    if (rc == 0 && batch->index) {
        uint64_t mark[2] = {batch->index, batch->term};
        MDB_val k = {16, (void *)"consistent_index"};
        rc = backend_put_checked(txn, backend->dbi[BACKEND_META], &k, mark, sizeof mark, 0);
    }
    if (rc) {
        mdb_txn_abort(txn);
        return rc;
    }
    return mdb_txn_commit(txn);
}

int backend_batch_write(struct backend *backend, const struct backend_batch *batch, struct kp_error *error)
{
    int rc = write_once(backend, batch);
    if (rc == MDB_MAP_FULL) {
        backend_write_lock(backend);
        backend_drain_readers(backend);
        rc = mdb_env_set_mapsize(backend->env, backend->map_size * 2);
        if (rc == 0)
            backend->map_size *= 2;
        pthread_rwlock_unlock(&backend->lock);
        if (rc == 0)
            rc = write_once(backend, batch);
    }
    if (rc == 0)
        return 0;
    struct kp_error local = {0};
    backend_lmdb_fail(&local, rc, "write to", backend->path);
    if (rc != MDB_MAP_FULL && rc < 0) /* not of the system: LMDB itself cannot go on, or its pages make no sense */
        backend_damaged(backend, &local);
    if (error)
        *error = local;
    return local.code;
}

void backend_measure(struct backend *backend)
{
    MDB_envinfo info;
    MDB_stat stat;
    int64_t size = 0, freed = 0;
    if (mdb_env_info(backend->env, &info) == 0 && mdb_env_stat(backend->env, &stat) == 0) {
        size = (int64_t)(info.me_last_pgno + 1) * stat.ms_psize;
        MDB_txn *txn = NULL;
        MDB_cursor *cursor = NULL;
        if (mdb_txn_begin(backend->env, NULL, MDB_RDONLY, &txn) == 0) {
            MDB_val k, v;
            if (mdb_cursor_open(txn, 0, &cursor) == 0) {
                /* Table 0 lists the free pages: a count and then the page numbers. */
                while (mdb_cursor_get(cursor, &k, &v, MDB_NEXT) == 0) {
                    size_t pages;
                    memcpy(&pages, v.mv_data, sizeof pages);
                    freed += (int64_t)pages * stat.ms_psize;
                }
                mdb_cursor_close(cursor);
            }
            mdb_txn_abort(txn);
        }
    }
    pthread_mutex_lock(&backend->mutex);
    backend->size = size;
    backend->size_in_use = size - freed;
    pthread_mutex_unlock(&backend->mutex);
}

/* Takes what is pending and writes it; on failure the batch stays in `committing`, still readable, for another try. */
static int commit_pending(struct backend *backend, struct kp_error *error)
{
    pthread_mutex_lock(&backend->env_mutex);
    if (!backend->committing) {
        backend_write_lock(backend);
        backend->committing = backend->pending;
        backend->pending = kp_calloc(1, sizeof *backend->pending);
        backend->pending->index = backend->committing->index;
        backend->pending->term = backend->committing->term;
        pthread_mutex_lock(&backend->mutex);
        backend->pending_ops = backend->pending_bytes = 0;
        backend->commit_started = backend->commit_wanted;
        pthread_cond_broadcast(&backend->done);
        pthread_mutex_unlock(&backend->mutex);
        pthread_rwlock_unlock(&backend->lock);
    }
    struct backend_batch *batch = backend->committing;
    bool nothing = !batch->revision_count && !batch->op_count && batch->index == backend->committed_index;
    int64_t start_ns = kp_mono_ns();
    int rc = nothing ? 0 : backend_batch_write(backend, batch, error);
    if (rc == 0 && !nothing && backend->options.on_commit)
        backend->options.on_commit(backend->options.ctx, (double)(kp_mono_ns() - start_ns) / 1e9);
    if (rc == 0) {
        if (!nothing)
            backend_measure(backend);
        backend_write_lock(backend);
        backend->committing = NULL;
        pthread_rwlock_unlock(&backend->lock);
        pthread_mutex_lock(&backend->mutex);
        if (batch->index) {
            backend->committed_index = batch->index;
            backend->committed_term = batch->term;
        }
        pthread_mutex_unlock(&backend->mutex);
        backend_batch_free(batch);
    }
    pthread_mutex_unlock(&backend->env_mutex);
    return rc;
}

static void wait_until(struct backend *backend, int64_t deadline_ms)
{
    struct timespec ts = {.tv_sec = deadline_ms / 1000, .tv_nsec = (deadline_ms % 1000) * 1000000};
    pthread_cond_timedwait(&backend->wake, &backend->mutex, &ts);
}

/* Under the mutex: sleeps until there is a reason to commit. */
static void wait_for_work(struct backend *backend)
{
    while (!backend->stopping && backend->commit_wanted == backend->commit_done) {
        if (backend->committing || /* the last try failed */
            backend->pending_ops >= (size_t)backend->options.batch_limit || backend->pending_bytes > BACKEND_PENDING_BYTES_MAX)
            return;
        if (!backend->pending_ops) {
            pthread_cond_wait(&backend->wake, &backend->mutex);
            continue;
        }
        int64_t deadline_ms = backend->pending_since_ms + backend->options.batch_interval_ms;
        if (kp_mono_ms() >= deadline_ms)
            return;
        wait_until(backend, deadline_ms);
    }
}

void backend_turn(struct backend *backend)
{
    struct kp_error error = {0};
    if (commit_pending(backend, &error) < 0 && backend->options.on_error)
        backend->options.on_error(backend->options.ctx, &error);
}

void *backend_committer(void *arg)
{
    struct backend *backend = arg;
    for (bool last = false; !last;) {
        pthread_mutex_lock(&backend->mutex);
        wait_for_work(backend);
        last = backend->stopping;
        pthread_mutex_unlock(&backend->mutex);
        struct kp_error error = {0};
        int rc = commit_pending(backend, &error);
        pthread_mutex_lock(&backend->mutex);
        backend->last_error = error;
        backend->commit_done = backend->commit_started;
        pthread_cond_broadcast(&backend->done);
        if (rc < 0 && !last)
            wait_until(backend, kp_mono_ms() + COMMIT_RETRY_MS);
        pthread_mutex_unlock(&backend->mutex);
        if (rc < 0 && backend->options.on_error)
            backend->options.on_error(backend->options.ctx, &error);
    }
    return NULL;
}

int backend_commit(struct backend *backend, struct kp_error *error)
{
    if (backend->options.stepped)
        return commit_pending(backend, error);
    pthread_mutex_lock(&backend->mutex);
    uint64_t ticket = ++backend->commit_wanted;
    pthread_cond_signal(&backend->wake);
    while (backend->commit_done < ticket && !backend->stopping)
        pthread_cond_wait(&backend->done, &backend->mutex);
    struct kp_error last = backend->last_error;
    bool stopped = backend->commit_done < ticket;
    pthread_mutex_unlock(&backend->mutex);
    if (stopped)
        return kp_fail(error, KP_EUNAVAILABLE, "%s is being closed", backend->path);
    if (last.code) {
        if (error)
            *error = last;
        return last.code;
    }
    return 0;
}
