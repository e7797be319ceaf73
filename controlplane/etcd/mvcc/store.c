/* Opening the store and its write transactions. */
#include "controlplane/etcd/mvcc/mvcc_internal.h"

struct restore {
    struct mvcc *mvcc;
    struct kp_error *error;
    int rc;
};

static bool restore_record(void *ctx, int64_t main, int32_t sub, struct kp_bytes record)
{
    struct restore *restore = ctx;
    struct mvcc *mvcc = restore->mvcc;
    struct mvcc_kv kv;
    restore->rc = mvcc_kv_decode(record, &kv, restore->error);
    if (restore->rc < 0) {
        kp_wrap(restore->error, "revision %lld/%d", (long long)main, sub);
        return false;
    }
    /* An empty record is no deletion: a restore that raised the revision (--bump-revision) left it, and etcd keeps it. */
    struct mvcc_key *key = index_insert(&mvcc->index, kv.key);
    key_add_revision(key, (struct mvcc_revision){.main = main, .sub = sub, .tombstone = kv.version == 0 && record.len});
    key->create_revision = kv.create_revision;
    key->version = kv.version;
    lease_detach(key);
    if (kv.lease) {
        struct mvcc_lease *lease = lease_find(&mvcc->leases, kv.lease);
        if (lease)
            lease_attach(lease, key);
    }
    mvcc->revision = KP_MAX(mvcc->revision, main);
    return true;
}

static int load_mark(struct backend_reader *reader, const char *name, int64_t *ret_mark, struct kp_error *error)
{
    struct kp_bytes value;
    struct kp_error missing = {0};
    int rc = backend_reader_get(reader, BACKEND_META, name, strlen(name), &value, &missing);
    if (rc == KP_ENOTFOUND)
        return 0;
    if (rc < 0 || value.len != sizeof *ret_mark)
        return kp_fail(error, KP_ECORRUPT, "%s is unreadable", name);
    memcpy(ret_mark, value.data, sizeof *ret_mark);
    return 0;
}

/* Under either lock, or alone. */
static int restore_all(struct mvcc *mvcc, int64_t now_ms, struct kp_error *error)
{
    KP_AUTO(backend_reader_end) struct backend_reader *reader = NULL;
    int rc = backend_reader_begin(mvcc->backend, &reader, error);
    if (rc < 0)
        return rc;
    if ((rc = load_mark(reader, META_COMPACT_SCHEDULED, &mvcc->compact_revision, error)) < 0 ||
        (rc = load_mark(reader, META_COMPACT_FINISHED, &mvcc->compact_finished, error)) < 0 ||
        (rc = lease_load(mvcc, reader, now_ms, error)) < 0)
        return rc;
    struct restore restore = {.mvcc = mvcc, .error = error};
    if ((rc = backend_reader_scan(reader, 0, restore_record, &restore, error)) < 0)
        return rc;
    /* Everything may have been deleted and compacted away: the revision must not go back. */
    mvcc->revision = KP_MAX(mvcc->revision, mvcc->compact_revision);
    return restore.rc;
}

int mvcc_open(struct backend *backend, int64_t now_ms, struct mvcc **ret_mvcc, struct kp_error *error)
{
    KP_AUTO(mvcc_close) struct mvcc *mvcc = kp_calloc(1, sizeof *mvcc);
    mvcc->backend = backend;
    mvcc->revision = 1;
    mvcc->leases.ttl_min_s = 1;
    mvcc->leases.earliest_ms = INT64_MAX;
    pthread_mutex_init(&mvcc->leases.mutex, NULL);
    watch_hub_init(&mvcc->hub);
    if (restore_all(mvcc, now_ms, error) < 0)
        return kp_wrap(error, "open the store");
    *ret_mvcc = KP_TAKE(mvcc);
    return 0;
}

int mvcc_reload(struct mvcc *mvcc, int64_t now_ms, struct kp_error *error)
{
    KP_ASSERT(!mvcc->in_txn);
    int64_t old_revision = mvcc->revision;
    index_done(&mvcc->index);
    mvcc->index = (struct mvcc_index){0};
    pthread_mutex_lock(&mvcc->leases.mutex);
    lease_table_clear(&mvcc->leases);
    pthread_mutex_unlock(&mvcc->leases.mutex);
    kp_blob_unref(mvcc->compact_cursor);
    mvcc->compact_cursor = NULL;
    mvcc->revision = 1;
    mvcc->compact_revision = mvcc->compact_finished = mvcc->compact_target = 0;
    if (restore_all(mvcc, now_ms, error) < 0)
        return kp_wrap(error, "reload the store");
    watch_rebase(mvcc, old_revision);
    return 0;
}

void mvcc_close(struct mvcc *mvcc)
{
    if (!mvcc)
        return;
    watch_hub_done(&mvcc->hub);
    index_done(&mvcc->index);
    lease_table_done(&mvcc->leases);
    kp_blob_unref(mvcc->compact_cursor);
    free(mvcc->txn_records);
    free(mvcc);
}

int64_t mvcc_revision(struct mvcc *mvcc)
{
    backend_read_lock(mvcc->backend);
    int64_t revision = mvcc->revision;
    backend_read_unlock(mvcc->backend);
    return revision;
}

int64_t mvcc_compact_revision(struct mvcc *mvcc)
{
    backend_read_lock(mvcc->backend);
    int64_t revision = mvcc->compact_revision;
    backend_read_unlock(mvcc->backend);
    return revision;
}

size_t mvcc_key_count(struct mvcc *mvcc)
{
    backend_read_lock(mvcc->backend);
    size_t count = mvcc->index.keys;
    backend_read_unlock(mvcc->backend);
    return count;
}

void mvcc_blobs_free(struct kp_blob **blobs, size_t len)
{
    for (size_t i = 0; blobs && i < len; i++)
        kp_blob_unref(blobs[i]);
    free(blobs);
}

/* ---- transactions ---- */

void mvcc_begin(struct mvcc *mvcc)
{
    backend_write_lock(mvcc->backend);
    KP_ASSERT(!mvcc->in_txn && mvcc->txn_sub == 0);
    mvcc->in_txn = true;
}

int64_t mvcc_end(struct mvcc *mvcc)
{
    KP_ASSERT(mvcc->in_txn);
    size_t len = (size_t)mvcc->txn_sub;
    mvcc->in_txn = false;
    mvcc->txn_sub = 0;
    if (len) {
        mvcc->revision++;
        struct mvcc_event *events = kp_calloc(len, sizeof *events);
        for (size_t i = 0; i < len; i++) {
            struct mvcc_event *event = &events[i];
            event->record = mvcc->txn_records[i];
            int rc = mvcc_kv_decode((struct kp_bytes){event->record->data, event->record->len}, &event->kv, NULL);
            KP_ASSERT(rc == 0);
            event->is_delete = event->kv.version == 0;
            event->revision = mvcc->revision;
        }
        watch_notify(mvcc, events, len);
        for (size_t i = 0; i < len; i++) {
            kp_blob_unref(events[i].record);
            kp_blob_unref(events[i].prev);
        }
        free(events);
    }
    int64_t revision = mvcc->revision;
    backend_write_unlock(mvcc->backend);
    return revision;
}

int64_t store_read_revision(const struct mvcc *mvcc) { return mvcc->revision + (mvcc->txn_sub > 0); }
int64_t mvcc_txn_revision(struct mvcc *mvcc) { return store_read_revision(mvcc); }

static void record_change(struct mvcc *mvcc, struct mvcc_key *key, const struct mvcc_kv *kv)
{
    struct kp_blob *record = mvcc_kv_encode(kv);
    backend_put_revision(mvcc->backend, kv->mod_revision, mvcc->txn_sub, record);
    key_add_revision(key, (struct mvcc_revision){
                              .main = kv->mod_revision, .sub = mvcc->txn_sub, .tombstone = kv->version == 0});
    key->version = kv->version;
    key->create_revision = kv->create_revision;
    if ((size_t)mvcc->txn_sub == mvcc->txn_cap) {
        mvcc->txn_cap = mvcc->txn_cap ? mvcc->txn_cap * 2 : 16;
        mvcc->txn_records = kp_realloc(mvcc->txn_records, mvcc->txn_cap * sizeof(struct kp_blob *));
    }
    mvcc->txn_records[mvcc->txn_sub++] = record;
}

static enum mvcc_result fetch_previous(struct mvcc *mvcc, const struct mvcc_key *key, struct kp_blob **ret_prev,
                                       struct kp_error *error)
{
    return store_fetch(mvcc, &key->revisions[key->count - 1], ret_prev, error);
}

enum mvcc_result mvcc_put(struct mvcc *mvcc, const struct mvcc_put_request *request, struct kp_blob **ret_prev,
                          struct kp_error *error)
{
    KP_ASSERT(mvcc->in_txn);
    KP_AUTO(kp_blob_unref) struct kp_blob *prev = NULL;
    struct mvcc_key *key = index_find(&mvcc->index, request->key);
    bool live = key && key_is_live(key);
    if (!live && (request->ignore_value || request->ignore_lease))
        return MVCC_KEY_NOT_FOUND;
    struct mvcc_lease *lease = NULL;
    if (request->ignore_lease)
        lease = key->lease;
    else if (request->lease && !(lease = lease_find(&mvcc->leases, request->lease)))
        return MVCC_LEASE_NOT_FOUND;
    struct kp_bytes value = request->value;
    if (live && (request->want_prev || request->ignore_value)) {
        enum mvcc_result result = fetch_previous(mvcc, key, &prev, error);
        if (result)
            return result;
        struct mvcc_kv old;
        if (mvcc_kv_decode((struct kp_bytes){prev->data, prev->len}, &old, error) < 0)
            return MVCC_IO;
        if (request->ignore_value)
            value = old.value;
    }
    if (!key)
        key = index_insert(&mvcc->index, request->key);
    int64_t main = mvcc->revision + 1;
    struct mvcc_kv kv = {.key = request->key,
                         .value = value,
                         .create_revision = live ? key->create_revision : main,
                         .mod_revision = main,
                         .version = live ? key->version + 1 : 1,
                         .lease = lease ? lease->id : 0};
    record_change(mvcc, key, &kv);
    if (key->lease != lease) {
        lease_detach(key);
        if (lease)
            lease_attach(lease, key);
    }
    if (ret_prev)
        *ret_prev = request->want_prev ? KP_TAKE(prev) : NULL;
    return MVCC_OK;
}

void store_delete_key(struct mvcc *mvcc, struct mvcc_key *key)
{
    struct mvcc_kv kv = {.key = mvcc_key_bytes(key), .mod_revision = mvcc->revision + 1};
    record_change(mvcc, key, &kv);
    lease_detach(key);
}

enum mvcc_result mvcc_delete_range(struct mvcc *mvcc, struct kp_bytes key, struct kp_bytes range_end,
                                   int64_t *ret_deleted, struct kp_blob ***ret_prevs, struct kp_error *error)
{
    KP_ASSERT(mvcc->in_txn);
    struct mvcc_key **found = NULL;
    size_t len = 0, cap = 0;
    struct index_position at = index_seek(&mvcc->index, key);
    for (struct mvcc_key *k; (k = index_at(&mvcc->index, at)) && mvcc_in_range(mvcc_key_bytes(k), key, range_end);
         index_advance(&mvcc->index, &at)) {
        if (!key_is_live(k))
            continue;
        if (len == cap) {
            cap = cap ? cap * 2 : 16;
            found = kp_realloc(found, cap * sizeof(struct mvcc_key *));
        }
        found[len++] = k;
    }
    struct kp_blob **prevs = ret_prevs && len ? kp_calloc(len, sizeof *prevs) : NULL;
    enum mvcc_result result = MVCC_OK;
    for (size_t i = 0; prevs && i < len && result == MVCC_OK; i++)
        result = fetch_previous(mvcc, found[i], &prevs[i], error);
    if (result == MVCC_OK) {
        for (size_t i = 0; i < len; i++)
            store_delete_key(mvcc, found[i]);
        *ret_deleted = (int64_t)len;
        if (ret_prevs)
            *ret_prevs = KP_TAKE(prevs);
    }
    mvcc_blobs_free(prevs, len);
    free(found);
    return result;
}

bool mvcc_txn_has_key(struct mvcc *mvcc, struct kp_bytes key)
{
    const struct mvcc_key *found = index_find(&mvcc->index, key);
    return found && key_is_live(found);
}
