/* The database file, its lock and the collecting of changes into the pending batch. */
#include "controlplane/etcd/backend/backend_internal.h"

#include <errno.h>
#include <sys/stat.h>
#include <unistd.h>

#define BACKEND_MAP_MIN ((size_t)1 << 30)
#define BACKEND_COMMITTER_STACK ((size_t)256 << 10)

static const char *const bucket_names[BACKEND_BUCKET_COUNT] = {"key", "meta", "lease", "alarm", "members",
                                                                "auth", "authUsers", "authRoles"};

int backend_lmdb_fail(struct kp_error *error, int rc, const char *what, const char *path)
{
    int code = KP_EIO;
    if (rc == MDB_NOTFOUND)
        code = KP_ENOTFOUND;
    else if (rc == MDB_CORRUPTED || rc == MDB_INVALID || rc == MDB_VERSION_MISMATCH || rc == MDB_PAGE_NOTFOUND)
        code = KP_ECORRUPT;
    else if (rc == ENOSPC || rc == MDB_MAP_FULL)
        code = KP_EQUOTA;
    return kp_fail(error, code, "%s %s: %s", what, path, mdb_strerror(rc));
}

void backend_revision_key(uint8_t out[BACKEND_REVISION_KEY_LEN], int64_t main, int32_t sub)
{
    for (int i = 0; i < 8; i++)
        out[i] = (uint8_t)((uint64_t)main >> (56 - 8 * i));
    for (int i = 0; i < 4; i++)
        out[8 + i] = (uint8_t)((uint32_t)sub >> (24 - 8 * i));
}

void backend_damaged(struct backend *backend, const struct kp_error *error)
{
    if (backend->options.on_damage)
        backend->options.on_damage(backend->options.ctx, error);
}

static int open_buckets(struct backend *backend, bool create, struct kp_error *error)
{
    MDB_txn *txn = NULL;
    int rc = mdb_txn_begin(backend->env, NULL, create ? 0 : MDB_RDONLY, &txn);
    for (int i = 0; rc == 0 && i < BACKEND_BUCKET_COUNT; i++)
        rc = mdb_dbi_open(txn, bucket_names[i], create ? MDB_CREATE : 0, &backend->dbi[i]);
    if (rc == 0)
        rc = mdb_txn_commit(txn);
    else
        mdb_txn_abort(txn);
    if (rc == MDB_NOTFOUND)
        rc = MDB_CORRUPTED;
    return rc ? backend_lmdb_fail(error, rc, "open the tables of", backend->path) : 0;
}

/* One list of freed pages: how many, and their numbers in falling order (LMDB's midl.h). */
static bool free_pages_are_sound(const MDB_val *list, size_t pages)
{
    size_t count, page;
    if (list->mv_size < sizeof count)
        return false;
    memcpy(&count, list->mv_data, sizeof count);
    if (count > list->mv_size / sizeof count - 1)
        return false;
    for (size_t i = 1, before = pages; i <= count; i++, before = page) {
        memcpy(&page, (const char *)list->mv_data + i * sizeof page, sizeof page);
        if (page < 2 || page >= before) /* 0 and 1 are the heads of the file */
            return false;
    }
    return true;
}

/* LMDB believes its table 0: a page number in it that has changed is written to, wherever that is. */
static int check_free_list(struct backend *backend, struct kp_error *error)
{
    MDB_envinfo info;
    MDB_txn *txn = NULL;
    MDB_cursor *cursor = NULL;
    MDB_val key, list;
    int rc = mdb_env_info(backend->env, &info);
    if (rc == 0)
        rc = mdb_txn_begin(backend->env, NULL, MDB_RDONLY, &txn);
    if (rc == 0)
        rc = mdb_cursor_open(txn, 0, &cursor);
    while (rc == 0 && (rc = mdb_cursor_get(cursor, &key, &list, MDB_NEXT)) == 0)
        if (!free_pages_are_sound(&list, info.me_last_pgno + 1))
            rc = MDB_CORRUPTED;
    if (cursor)
        mdb_cursor_close(cursor);
    if (txn)
        mdb_txn_abort(txn);
    return rc && rc != MDB_NOTFOUND ? backend_lmdb_fail(error, rc, "read the free pages of", backend->path) : 0;
}

int backend_env_open(struct backend *backend, bool create, struct kp_error *error)
{
    int rc = mdb_env_create(&backend->env);
    if (rc)
        return backend_lmdb_fail(error, rc, "open", backend->path);
    mdb_env_set_maxdbs(backend->env, BACKEND_BUCKET_COUNT);
    mdb_env_set_maxreaders(backend->env, BACKEND_READERS_MAX + BACKEND_READER_POOL_MAX);
    struct stat st;
    if (stat(backend->path, &st) == 0 && (size_t)st.st_size * 2 > backend->map_size)
        backend->map_size = (size_t)st.st_size * 2;
    rc = mdb_env_set_mapsize(backend->env, backend->map_size);
    /* NOTLS: a snapshot is tied to its reader object, not to a thread. NORDAHEAD: point reads of scattered pages. */
    if (rc == 0)
        rc = mdb_env_open(backend->env, backend->path, MDB_NOSUBDIR | MDB_NOTLS | MDB_NORDAHEAD, 0600);
    if (rc) {
        backend_lmdb_fail(error, rc, "open", backend->path);
        backend_env_close(backend);
        return error ? error->code : KP_EIO;
    }
    int dead;
    mdb_reader_check(backend->env, &dead); /* slots of a process that was killed */
    if (open_buckets(backend, create, error) < 0 || check_free_list(backend, error) < 0) {
        backend_env_close(backend);
        return error ? error->code : KP_EIO;
    }
    return 0;
}

/* A new file gets its name when it is whole and durable: a crash inside leaves none or a good one. */
int backend_make_file(struct backend *backend, struct kp_error *error)
{
    if (kp_path_exists(backend->path))
        return backend_sync_parent(backend->path, error); /* the last start may have been killed before it did */
    KP_AUTO_FREE char *made = kp_asprintf("%s.new", backend->path);
    KP_AUTO_FREE char *lock = kp_asprintf("%s-lock", made);
    char *path = backend->path;
    unlink(made);
    backend->path = made;
    int rc = backend_env_open(backend, true, error);
    backend_env_close(backend);
    backend->path = path;
    unlink(lock);
    if (rc == 0 && rename(made, path) < 0)
        rc = kp_fail_errno(error, "rename %s to %s", made, path);
    return rc < 0 ? rc : backend_sync_parent(path, error);
}

void backend_env_close(struct backend *backend)
{
    if (backend->env)
        mdb_env_close(backend->env);
    backend->env = NULL;
}

static bool pass_over(void *ctx, struct kp_bytes key, struct kp_bytes value) { return true; }

int backend_load_index(struct backend *backend, struct kp_error *error)
{
    KP_AUTO(backend_reader_end) struct backend_reader *reader = NULL;
    struct kp_bytes value;
    if (backend_reader_begin(backend, &reader, error) < 0)
        return kp_wrap(error, "consistent index");
    /* All of the table, so that a name in it that has changed is found and not only missed. */
    if (backend_reader_each(reader, BACKEND_META, pass_over, NULL, error) < 0)
        return kp_wrap(error, "consistent index");
    struct kp_error missing = {0};
    int rc = backend_reader_get(reader, BACKEND_META, "consistent_index", 16, &value, &missing);
    if (rc == KP_ENOTFOUND)
        return 0;
    if (rc < 0 || value.len != 16)
        return kp_fail(error, KP_ECORRUPT, "%s: the consistent index is unreadable", backend->path);
    memcpy(&backend->committed_index, value.data, 8);
    memcpy(&backend->committed_term, value.data + 8, 8);
    backend->pending->index = backend->committed_index;
    backend->pending->term = backend->committed_term;
    return 0;
}

static void init_locks(struct backend *backend)
{
    pthread_rwlockattr_t attr;
    pthread_rwlockattr_init(&attr);
    /* The apply thread must not starve behind a crowd of readers. */
    pthread_rwlockattr_setkind_np(&attr, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
    pthread_rwlock_init(&backend->lock, &attr);
    pthread_rwlockattr_destroy(&attr);
    pthread_condattr_t cond_attr;
    pthread_condattr_init(&cond_attr);
    pthread_condattr_setclock(&cond_attr, CLOCK_MONOTONIC);
    pthread_mutex_init(&backend->mutex, NULL);
    pthread_mutex_init(&backend->env_mutex, NULL);
    pthread_cond_init(&backend->wake, &cond_attr);
    pthread_cond_init(&backend->done, &cond_attr);
    pthread_condattr_destroy(&cond_attr);
}

static int start_committer(struct backend *backend, struct kp_error *error)
{
    pthread_attr_t attr;
    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, BACKEND_COMMITTER_STACK);
    int rc = pthread_create(&backend->thread, &attr, backend_committer, backend);
    pthread_attr_destroy(&attr);
    if (rc) {
        errno = rc;
        return kp_fail_errno(error, "start the committer of %s", backend->path);
    }
    backend->thread_started = true;
    return 0;
}

int backend_open(const char *path, const struct backend_options *options, struct backend **ret_backend,
                 struct kp_error *error)
{
    KP_AUTO(backend_close) struct backend *backend = kp_calloc(1, sizeof *backend);
    init_locks(backend);
    backend->path = kp_strdup(path);
    if (options)
        backend->options = *options;
    struct backend_options *o = &backend->options;
    if (o->quota_bytes == 0)
        o->quota_bytes = BACKEND_QUOTA_DEFAULT;
    if (o->batch_interval_ms <= 0)
        o->batch_interval_ms = BACKEND_BATCH_INTERVAL_MS_DEFAULT;
    if (o->batch_limit <= 0)
        o->batch_limit = BACKEND_BATCH_LIMIT_DEFAULT;
    int64_t quota = o->quota_bytes > 0 ? o->quota_bytes : BACKEND_QUOTA_DEFAULT;
    if (quota > BACKEND_QUOTA_MAX)
        return kp_fail(error, KP_EINVALID, "quota of %lld bytes is above %lld", (long long)quota,
                       (long long)BACKEND_QUOTA_MAX);
    /* Copy-on-write needs room beyond the live data; the map is address space only. */
    backend->map_size = ((size_t)quota + (size_t)quota / 2 + BACKEND_MAP_MIN) & ~(size_t)0xFFFFF;
    backend->pending = kp_calloc(1, sizeof *backend->pending);
    if (backend_make_file(backend, error) < 0 || backend_env_open(backend, false, error) < 0 || backend_load_index(backend, error) < 0)
        return kp_wrap(error, "backend");
    backend_measure(backend);
    if (!backend->options.stepped && start_committer(backend, error) < 0)
        return kp_wrap(error, "backend");
    *ret_backend = KP_TAKE(backend);
    return 0;
}

void backend_close(struct backend *backend)
{
    if (!backend)
        return;
    if (backend->thread_started) {
        pthread_mutex_lock(&backend->mutex);
        backend->stopping = true;
        pthread_cond_broadcast(&backend->wake);
        pthread_mutex_unlock(&backend->mutex);
        pthread_join(backend->thread, NULL);
    } else if (backend->options.stepped && backend->env) {
        backend_turn(backend);
    }
    if (backend->env)
        backend_drain_readers(backend);
    backend_env_close(backend);
    backend_batch_free(backend->pending);
    backend_batch_free(backend->committing);
    pthread_rwlock_destroy(&backend->lock);
    pthread_mutex_destroy(&backend->mutex);
    pthread_mutex_destroy(&backend->env_mutex);
    pthread_cond_destroy(&backend->wake);
    pthread_cond_destroy(&backend->done);
    free(backend->path);
    free(backend);
}

void backend_write_lock(struct backend *backend) { pthread_rwlock_wrlock(&backend->lock); }

void backend_write_unlock(struct backend *backend)
{
    struct backend_batch *batch = backend->pending;
    size_t ops = batch->revision_count + batch->op_count;
    if (ops && !batch->opened_ms)
        batch->opened_ms = kp_mono_ms();
    pthread_mutex_lock(&backend->mutex);
    bool was_empty = backend->pending_ops == 0;
    backend->pending_ops = ops;
    backend->pending_bytes = batch->bytes;
    backend->pending_since_ms = batch->opened_ms;
    if ((was_empty && ops) || ops >= (size_t)backend->options.batch_limit || batch->bytes > BACKEND_PENDING_BYTES_MAX)
        pthread_cond_signal(&backend->wake);
    pthread_mutex_unlock(&backend->mutex);
    bool too_much = batch->bytes > BACKEND_PENDING_BYTES_MAX;
    pthread_rwlock_unlock(&backend->lock);
    if (!too_much)
        return;
    if (backend->options.stepped) {
        backend_turn(backend);
        return;
    }
    pthread_mutex_lock(&backend->mutex);
    while (backend->pending_bytes > BACKEND_PENDING_BYTES_MAX && !backend->stopping)
        pthread_cond_wait(&backend->done, &backend->mutex);
    pthread_mutex_unlock(&backend->mutex);
}

void backend_read_lock(struct backend *backend) { pthread_rwlock_rdlock(&backend->lock); }
void backend_read_unlock(struct backend *backend) { pthread_rwlock_unlock(&backend->lock); }

void backend_put_revision(struct backend *backend, int64_t main, int32_t sub, struct kp_blob *record)
{
    struct backend_batch *batch = backend->pending;
    if (batch->revision_count) {
        const struct backend_revision *last = &batch->revisions[batch->revision_count - 1];
        KP_ASSERT(last->main < main || (last->main == main && last->sub < sub));
    }
    if (batch->revision_count == batch->revision_cap) {
        batch->revision_cap = batch->revision_cap ? batch->revision_cap * 2 : 64;
        batch->revisions = kp_realloc(batch->revisions, batch->revision_cap * sizeof *batch->revisions);
    }
    batch->revisions[batch->revision_count++] =
        (struct backend_revision){.main = main, .sub = sub, .record = kp_blob_ref(record)};
    batch->bytes += record->len + sizeof *batch->revisions;
}

static void add_op(struct backend *backend, enum backend_bucket bucket, bool is_delete, const void *key, size_t key_len,
                   struct kp_blob *value)
{
    KP_ASSERT(key_len > 0 && key_len <= BACKEND_KEY_MAX);
    struct backend_batch *batch = backend->pending;
    if (batch->op_count == batch->op_cap) {
        batch->op_cap = batch->op_cap ? batch->op_cap * 2 : 16;
        batch->ops = kp_realloc(batch->ops, batch->op_cap * sizeof *batch->ops);
    }
    uint8_t *copy = kp_malloc(key_len);
    memcpy(copy, key, key_len);
    batch->ops[batch->op_count++] = (struct backend_op){
        .bucket = bucket, .is_delete = is_delete, .key = copy, .key_len = (uint16_t)key_len, .value = value};
    batch->bytes += key_len + sizeof *batch->ops + (value ? value->len : 0);
}

void backend_delete_revision(struct backend *backend, int64_t main, int32_t sub)
{
    uint8_t key[BACKEND_REVISION_KEY_LEN];
    backend_revision_key(key, main, sub);
    add_op(backend, BACKEND_KEY, true, key, sizeof key, NULL);
}

void backend_put(struct backend *backend, enum backend_bucket bucket, const void *key, size_t key_len, const void *value,
                 size_t value_len)
{
    KP_ASSERT(bucket != BACKEND_KEY);
    add_op(backend, bucket, false, key, key_len, kp_blob_new(value_len ? value : "", value_len));
}

void backend_delete(struct backend *backend, enum backend_bucket bucket, const void *key, size_t key_len)
{
    KP_ASSERT(bucket != BACKEND_KEY);
    add_op(backend, bucket, true, key, key_len, NULL);
}

void backend_set_consistent_index(struct backend *backend, uint64_t index, uint64_t term)
{
    KP_ASSERT(index >= backend->pending->index);
    backend->pending->index = index;
    backend->pending->term = term;
}

void backend_committed_index(struct backend *backend, uint64_t *ret_index, uint64_t *ret_term)
{
    pthread_mutex_lock(&backend->mutex);
    *ret_index = backend->committed_index;
    if (ret_term)
        *ret_term = backend->committed_term;
    pthread_mutex_unlock(&backend->mutex);
}
