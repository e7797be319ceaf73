/* Whole databases on their way between members: an image with what it holds, and putting one in place. */
#include "controlplane/etcd/backend/backend_internal.h"

#include <errno.h>
#include <unistd.h>

/* What is committed, read before anything else can be. Under env_mutex. */
static int read_meta(struct backend *backend, const char *meta, struct kp_buf *ret_meta, struct kp_error *error)
{
    KP_AUTO(backend_reader_end) struct backend_reader *reader = NULL;
    struct kp_bytes value;
    if (backend_reader_begin(backend, &reader, error) < 0 ||
        backend_reader_get(reader, BACKEND_META, meta, strlen(meta), &value, error) < 0)
        return kp_wrap(error, "%s", meta);
    kp_buf_append(ret_meta, value.data, value.len);
    return 0;
}

int backend_image(struct backend *backend, const char *path, const char *meta, uint64_t *ret_index, uint64_t *ret_term,
                  struct kp_buf *ret_meta, struct kp_error *error)
{
    if (backend_commit(backend, error) < 0)
        return kp_wrap(error, "image");
    pthread_mutex_lock(&backend->env_mutex); /* nothing is committed from here on */
    int rc = read_meta(backend, meta, ret_meta, error);
    backend_committed_index(backend, ret_index, ret_term);
    if (rc == 0)
        rc = backend_copy_to(backend, path, error);
    pthread_mutex_unlock(&backend->env_mutex);
    return rc < 0 ? kp_wrap(error, "image") : 0;
}

/* Opens the image as the database it is to become, which also checks that it is one. */
static int mark_image(const char *path, size_t map_size, const char *meta, uint64_t mark, struct kp_error *error)
{
    MDB_env *env = NULL;
    MDB_txn *txn = NULL;
    MDB_dbi dbi;
    MDB_val k = {strlen(meta), (void *)(uintptr_t)meta};
    int rc = mdb_env_create(&env);
    if (rc == 0)
        rc = mdb_env_set_maxdbs(env, BACKEND_BUCKET_COUNT);
    if (rc == 0)
        rc = mdb_env_set_mapsize(env, map_size);
    if (rc == 0)
        rc = mdb_env_open(env, path, MDB_NOSUBDIR | MDB_NOLOCK, 0600);
    if (rc == 0)
        rc = mdb_txn_begin(env, NULL, 0, &txn);
    if (rc == 0)
        rc = mdb_dbi_open(txn, "meta", 0, &dbi);
    if (rc == 0)
        rc = backend_put_checked(txn, dbi, &k, &mark, sizeof mark, 0);
    if (rc == 0)
        rc = mdb_txn_commit(txn);
    else if (txn)
        mdb_txn_abort(txn);
    if (env)
        mdb_env_close(env);
    return rc ? backend_lmdb_fail(error, rc, "mark", path) : 0;
}

/* Under env_mutex and the write lock. */
static void forget_pending(struct backend *backend)
{
    backend_batch_free(backend->pending);
    backend_batch_free(backend->committing);
    backend->committing = NULL;
    backend->pending = kp_calloc(1, sizeof *backend->pending);
    pthread_mutex_lock(&backend->mutex);
    backend->pending_ops = backend->pending_bytes = 0;
    backend->committed_index = backend->committed_term = 0;
    pthread_mutex_unlock(&backend->mutex);
}

int backend_install(struct backend *backend, const char *path, const char *meta, uint64_t mark, struct kp_error *error)
{
    int rc = mark_image(path, backend->map_size, meta, mark, error);
    if (rc < 0)
        return rc;
    pthread_mutex_lock(&backend->env_mutex);
    backend_write_lock(backend);
    backend_drain_readers(backend);
    rc = backend_replace_file(backend, path, error);
    if (rc < 0) {
        pthread_rwlock_unlock(&backend->lock);
    } else {
        forget_pending(backend);
        struct kp_error unreadable = {0};
        if (backend_load_index(backend, &unreadable) < 0) {
            kp_error_log("an installed database cannot be read", "path", backend->path, "err", unreadable.message, NULL);
            abort(); /* what was there before is gone: start again */
        }
    }
    backend_measure(backend);
    pthread_mutex_unlock(&backend->env_mutex);
    return rc < 0 ? kp_wrap(error, "install a snapshot") : 0;
}
