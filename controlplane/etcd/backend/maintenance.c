/* Sizes, quota, defragmentation, snapshots and hash of the database. */
#include "controlplane/etcd/backend/backend_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

int64_t backend_size(struct backend *backend)
{
    pthread_mutex_lock(&backend->mutex);
    int64_t size = backend->size;
    pthread_mutex_unlock(&backend->mutex);
    return size;
}

int64_t backend_size_in_use(struct backend *backend)
{
    pthread_mutex_lock(&backend->mutex);
    int64_t size = backend->size_in_use;
    pthread_mutex_unlock(&backend->mutex);
    return size;
}

int64_t backend_quota(const struct backend *backend) { return backend->options.quota_bytes; }

bool backend_over_quota(struct backend *backend, int64_t extra_bytes)
{
    int64_t quota = backend->options.quota_bytes;
    if (quota < 0)
        return false;
    pthread_mutex_lock(&backend->mutex);
    int64_t size = backend->size + (int64_t)backend->pending_bytes;
    pthread_mutex_unlock(&backend->mutex);
    return size + extra_bytes >= quota;
}

/* A compacted copy of what is committed, synced, at path. Under env_mutex. */
int backend_copy_to(struct backend *backend, const char *path, struct kp_error *error)
{
    KP_AUTO_CLOSE int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0)
        return kp_fail_errno(error, "make %s", path);
    int rc = mdb_env_copyfd2(backend->env, fd, MDB_CP_COMPACT);
    if (rc)
        backend_lmdb_fail(error, rc, "copy to", path);
    else if (fsync(fd) < 0)
        rc = kp_fail_errno(error, "sync %s", path);
    if (rc)
        unlink(path);
    return rc ? (error && error->code ? error->code : KP_EIO) : 0;
}

int backend_sync_parent(const char *path, struct kp_error *error)
{
    KP_AUTO_FREE char *dir = kp_strdup(path);
    char *slash = strrchr(dir, '/');
    if (slash)
        *slash = '\0';
    KP_AUTO_CLOSE int fd = open(slash ? dir : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 || fsync(fd) < 0)
        return kp_fail_errno(error, "sync the folder of %s", path);
    return 0;
}

/* Under env_mutex and the write lock, with no snapshot open. */
int backend_replace_file(struct backend *backend, const char *copy, struct kp_error *error)
{
    backend_env_close(backend);
    int result = 0;
    struct kp_error unsure = {0};
    if (rename(copy, backend->path) < 0)
        result = kp_fail_errno(error, "rename %s to %s", copy, backend->path);
    else
        result = backend_sync_parent(backend->path, &unsure);
    struct kp_error reopen = {0};
    if (backend_env_open(backend, false, &reopen) < 0) {
        /* There is no database to go on with: stop here, and start again from what is on disk. */
        kp_error_log("database cannot be reopened", "path", backend->path, "err", reopen.message, NULL);
        abort();
    }
    if (unsure.code) { /* losing power may bring back the old file, for which the log is cut too far: a new start syncs again */
        backend_damaged(backend, &unsure);
        if (error)
            *error = unsure;
    }
    return result;
}

int backend_defragment(struct backend *backend, struct kp_error *error)
{
    if (backend_commit(backend, error) < 0)
        return kp_wrap(error, "defragment");
    KP_AUTO_FREE char *copy = kp_asprintf("%s.defrag", backend->path);
    pthread_mutex_lock(&backend->env_mutex);
    int rc = backend_copy_to(backend, copy, error);
    if (rc == 0) {
        backend_write_lock(backend);
        backend_drain_readers(backend);
        rc = backend_replace_file(backend, copy, error);
        pthread_rwlock_unlock(&backend->lock);
        backend_measure(backend);
    }
    pthread_mutex_unlock(&backend->env_mutex);
    return rc < 0 ? kp_wrap(error, "defragment") : 0;
}

static bool hash_pair(void *ctx, struct kp_bytes key, struct kp_bytes value)
{
    uint32_t *crc = ctx;
    *crc = kp_crc32c(*crc, key.data, key.len);
    *crc = kp_crc32c(*crc, value.data, value.len);
    return true;
}

int backend_hash(struct backend *backend, uint32_t *ret_hash, struct kp_error *error)
{
    if (backend_commit(backend, error) < 0)
        return kp_wrap(error, "hash");
    KP_AUTO(backend_reader_end) struct backend_reader *reader = NULL;
    backend_read_lock(backend);
    int rc = backend_reader_begin(backend, &reader, error);
    backend_read_unlock(backend);
    uint32_t crc = 0;
    for (int bucket = 0; rc == 0 && bucket < BACKEND_BUCKET_COUNT; bucket++)
        if (bucket != BACKEND_META)
            rc = backend_reader_each(reader, (enum backend_bucket)bucket, hash_pair, &crc, error);
    if (rc < 0)
        return kp_wrap(error, "hash");
    *ret_hash = crc;
    return 0;
}
