/* Snapshots of the database and look-ups in the batches that are not written yet. */
#include "controlplane/etcd/backend/backend_internal.h"

/* The first place in the batch at or after (main, sub). */
static size_t lower_bound(const struct backend_batch *batch, int64_t main, int32_t sub)
{
    size_t lo = 0, hi = batch->revision_count;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        const struct backend_revision *r = &batch->revisions[mid];
        if (r->main < main || (r->main == main && r->sub < sub))
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

static struct kp_blob *find_in(const struct backend_batch *batch, int64_t main, int32_t sub)
{
    if (!batch)
        return NULL;
    size_t i = lower_bound(batch, main, sub);
    if (i == batch->revision_count || batch->revisions[i].main != main || batch->revisions[i].sub != sub)
        return NULL;
    return kp_blob_ref(batch->revisions[i].record);
}

struct kp_blob *backend_pending_revision(struct backend *backend, int64_t main, int32_t sub)
{
    struct kp_blob *found = find_in(backend->pending, main, sub);
    return found ? found : find_in(backend->committing, main, sub);
}

void backend_pending_scan(struct backend *backend, int64_t from_main,
                          bool (*fn)(void *ctx, int64_t main, int32_t sub, struct kp_blob *record), void *ctx)
{
    const struct backend_batch *batches[] = {backend->committing, backend->pending};
    for (size_t b = 0; b < KP_ARRAY_LEN(batches); b++) {
        if (!batches[b])
            continue;
        for (size_t i = lower_bound(batches[b], from_main, 0); i < batches[b]->revision_count; i++) {
            const struct backend_revision *r = &batches[b]->revisions[i];
            if (!fn(ctx, r->main, r->sub, r->record))
                return;
        }
    }
}

int backend_reader_begin(struct backend *backend, struct backend_reader **ret_reader, struct kp_error *error)
{
    pthread_mutex_lock(&backend->mutex);
    if (backend->active_readers >= BACKEND_READERS_MAX) {
        pthread_mutex_unlock(&backend->mutex);
        return kp_fail(error, KP_ETOOMANY, "%s: %d snapshots are open", backend->path, BACKEND_READERS_MAX);
    }
    backend->active_readers++;
    struct backend_reader *reader = backend->pool;
    if (reader) {
        backend->pool = reader->next;
        backend->pool_len--;
    }
    pthread_mutex_unlock(&backend->mutex);
    int rc;
    if (reader) {
        rc = mdb_txn_renew(reader->txn);
    } else {
        reader = kp_calloc(1, sizeof *reader);
        reader->backend = backend;
        rc = mdb_txn_begin(backend->env, NULL, MDB_RDONLY, &reader->txn);
    }
    if (rc) {
        if (reader->txn)
            mdb_txn_abort(reader->txn);
        free(reader);
        pthread_mutex_lock(&backend->mutex);
        backend->active_readers--;
        pthread_cond_broadcast(&backend->done);
        pthread_mutex_unlock(&backend->mutex);
        struct kp_error local = {0};
        backend_lmdb_fail(&local, rc, "read", backend->path);
        if (rc == MDB_PANIC || rc == MDB_CORRUPTED)
            backend_damaged(backend, &local);
        if (error)
            *error = local;
        return local.code;
    }
    *ret_reader = reader;
    return 0;
}

void backend_reader_end(struct backend_reader *reader)
{
    if (!reader)
        return;
    struct backend *backend = reader->backend;
    mdb_txn_reset(reader->txn);
    pthread_mutex_lock(&backend->mutex);
    bool keep = backend->pool_len < BACKEND_READER_POOL_MAX;
    if (keep) {
        reader->next = backend->pool;
        backend->pool = reader;
        backend->pool_len++;
    } else {
        mdb_txn_abort(reader->txn);
    }
    if (--backend->active_readers == 0)
        pthread_cond_broadcast(&backend->done);
    pthread_mutex_unlock(&backend->mutex);
    if (!keep)
        free(reader);
}

void backend_drain_readers(struct backend *backend)
{
    pthread_mutex_lock(&backend->mutex);
    while (backend->active_readers > 0)
        pthread_cond_wait(&backend->done, &backend->mutex);
    while (backend->pool) {
        struct backend_reader *reader = backend->pool;
        backend->pool = reader->next;
        mdb_txn_abort(reader->txn);
        free(reader);
    }
    backend->pool_len = 0;
    pthread_mutex_unlock(&backend->mutex);
}

/* Takes the checksum off the value. */
static int check_record(struct backend_reader *reader, const MDB_val *key, MDB_val *value, struct kp_error *error)
{
    uint32_t stored;
    if (value->mv_size >= BACKEND_CRC_BYTES) {
        size_t len = value->mv_size - BACKEND_CRC_BYTES;
        memcpy(&stored, (const uint8_t *)value->mv_data + len, sizeof stored);
        if (stored == kp_crc32c(kp_crc32c(0, key->mv_data, key->mv_size), value->mv_data, len)) {
            value->mv_size = len;
            return 0;
        }
    }
    struct kp_error local = {0};
    kp_fail(&local, KP_ECORRUPT,
            "%s: a record of %zu bytes does not have its checksum: the file is damaged; replace this member, or restore it",
            reader->backend->path, value->mv_size);
    backend_damaged(reader->backend, &local);
    if (error)
        *error = local;
    return KP_ECORRUPT;
}

static int read_failed(struct backend_reader *reader, int rc, const char *what, struct kp_error *error)
{
    struct kp_error local = {0};
    backend_lmdb_fail(&local, rc, what, reader->backend->path);
    if (rc != MDB_NOTFOUND)
        backend_damaged(reader->backend, &local);
    if (error)
        *error = local;
    return local.code;
}

/* A walk over a table finds its records in order, and as many as the table says it has. */
struct walk {
    size_t count, expected;
    MDB_val last;
};

static int walk_begin(struct backend_reader *reader, MDB_dbi dbi, struct walk *walk)
{
    MDB_stat stat;
    int rc = mdb_stat(reader->txn, dbi, &stat);
    *walk = (struct walk){.expected = stat.ms_entries};
    return rc;
}

static int walk_check(struct backend_reader *reader, struct walk *walk, MDB_val *key, MDB_val *value, struct kp_error *error)
{
    size_t len = KP_MIN(walk->last.mv_size, key->mv_size);
    int order = walk->count ? memcmp(walk->last.mv_data, key->mv_data, len) : -1;
    if (order > 0 || (order == 0 && walk->last.mv_size >= key->mv_size))
        return read_failed(reader, MDB_CORRUPTED, "walk over", error);
    walk->last = *key;
    walk->count++;
    return check_record(reader, key, value, error);
}

int backend_reader_get(struct backend_reader *reader, enum backend_bucket bucket, const void *key, size_t key_len,
                       struct kp_bytes *ret_value, struct kp_error *error)
{
    MDB_val k = {key_len, (void *)(uintptr_t)key}, v;
    int rc = mdb_get(reader->txn, reader->backend->dbi[bucket], &k, &v);
    if (rc)
        return read_failed(reader, rc, "read from", error);
    if ((rc = check_record(reader, &k, &v, error)) < 0)
        return rc;
    *ret_value = (struct kp_bytes){.data = v.mv_data, .len = v.mv_size};
    return 0;
}

int backend_reader_revision(struct backend_reader *reader, int64_t main, int32_t sub, struct kp_bytes *ret_record,
                            struct kp_error *error)
{
    uint8_t key[BACKEND_REVISION_KEY_LEN];
    backend_revision_key(key, main, sub);
    return backend_reader_get(reader, BACKEND_KEY, key, sizeof key, ret_record, error);
}

static bool parse_revision(MDB_val key, int64_t *ret_main, int32_t *ret_sub)
{
    if (key.mv_size != BACKEND_REVISION_KEY_LEN)
        return false;
    const uint8_t *p = key.mv_data;
    uint64_t main = 0;
    uint32_t sub = 0;
    for (int i = 0; i < 8; i++)
        main = main << 8 | p[i];
    for (int i = 8; i < 12; i++)
        sub = sub << 8 | p[i];
    *ret_main = (int64_t)main;
    *ret_sub = (int32_t)sub;
    return *ret_main > 0 && *ret_sub >= 0;
}

int backend_reader_scan(struct backend_reader *reader, int64_t from_main, backend_revision_fn fn, void *ctx,
                        struct kp_error *error)
{
    const char *path = reader->backend->path;
    MDB_cursor *cursor = NULL;
    int rc = mdb_cursor_open(reader->txn, reader->backend->dbi[BACKEND_KEY], &cursor);
    if (rc)
        return backend_lmdb_fail(error, rc, "scan", path);
    uint8_t start[BACKEND_REVISION_KEY_LEN];
    backend_revision_key(start, from_main, 0);
    MDB_val k = {sizeof start, start}, v;
    int result = 0;
    struct walk walk;
    rc = walk_begin(reader, reader->backend->dbi[BACKEND_KEY], &walk);
    if (rc == 0)
        rc = mdb_cursor_get(cursor, &k, &v, MDB_SET_RANGE);
    for (; rc == 0; rc = mdb_cursor_get(cursor, &k, &v, MDB_NEXT)) {
        int64_t main;
        int32_t sub;
        if ((result = walk_check(reader, &walk, &k, &v, error)) < 0)
            break;
        if (!parse_revision(k, &main, &sub)) {
            result = kp_fail(error, KP_ECORRUPT, "%s: a revision key of %zu bytes", path, k.mv_size);
            break;
        }
        if (!fn(ctx, main, sub, (struct kp_bytes){.data = v.mv_data, .len = v.mv_size}))
            break;
    }
    mdb_cursor_close(cursor);
    if (rc == MDB_NOTFOUND && from_main <= 0 && walk.count != walk.expected)
        rc = MDB_CORRUPTED;
    return rc && rc != MDB_NOTFOUND ? read_failed(reader, rc, "scan", error) : result;
}

int backend_reader_each(struct backend_reader *reader, enum backend_bucket bucket, backend_pair_fn fn, void *ctx,
                        struct kp_error *error)
{
    MDB_cursor *cursor = NULL;
    int rc = mdb_cursor_open(reader->txn, reader->backend->dbi[bucket], &cursor);
    if (rc)
        return backend_lmdb_fail(error, rc, "scan", reader->backend->path);
    MDB_val k, v;
    struct walk walk;
    int result = 0;
    for (rc = walk_begin(reader, reader->backend->dbi[bucket], &walk);
         rc == 0 && (rc = mdb_cursor_get(cursor, &k, &v, MDB_NEXT)) == 0;) {
        if ((result = walk_check(reader, &walk, &k, &v, error)) < 0)
            break;
        if (!fn(ctx, (struct kp_bytes){.data = k.mv_data, .len = k.mv_size},
                (struct kp_bytes){.data = v.mv_data, .len = v.mv_size}))
            break;
    }
    mdb_cursor_close(cursor);
    if (rc == MDB_NOTFOUND && walk.count != walk.expected)
        rc = MDB_CORRUPTED;
    return rc && rc != MDB_NOTFOUND ? read_failed(reader, rc, "scan", error) : result;
}
