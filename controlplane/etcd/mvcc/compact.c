/* Compaction: forgetting what lies below a revision, a bounded part at a time; and the hash over what is left. */
#include "controlplane/etcd/mvcc/mvcc_internal.h"

#define COMPACT_KEYS_STEP 512

enum mvcc_result mvcc_compact(struct mvcc *mvcc, int64_t revision)
{
    KP_ASSERT(mvcc->in_txn);
    if (revision <= mvcc->compact_revision)
        return MVCC_COMPACTED;
    if (revision > mvcc->revision)
        return MVCC_FUTURE_REVISION;
    mvcc->compact_revision = revision;
    backend_put(mvcc->backend, BACKEND_META, META_COMPACT_SCHEDULED, strlen(META_COMPACT_SCHEDULED), &revision,
                sizeof revision);
    return MVCC_OK;
}

/* The first revision of the key that a compaction keeps: the one in force at the mark, unless it is a deletion that
   came before (one exactly at the mark is kept: a watch may still start there), and all after it. */
static uint32_t first_kept(const struct mvcc_key *key, int64_t mark)
{
    const struct mvcc_revision *in_force = key_revision_at(key, mark);
    if (!in_force)
        return 0;
    uint32_t i = (uint32_t)(in_force - key->revisions);
    return in_force->tombstone && in_force->main < mark ? i + 1 : i;
}

static void compact_key(struct mvcc *mvcc, struct mvcc_key *key, int64_t mark)
{
    uint32_t drop = first_kept(key, mark);
    for (uint32_t i = 0; i < drop; i++)
        backend_delete_revision(mvcc->backend, key->revisions[i].main, key->revisions[i].sub);
    key->count -= drop;
    memmove(key->revisions, key->revisions + drop, key->count * sizeof *key->revisions);
    if (key->count == 1 && key->revisions != &key->first) {
        key->first = key->revisions[0];
        free(key->revisions);
        key->revisions = &key->first;
        key->cap = 1;
    }
}

static void compact_finish(struct mvcc *mvcc)
{
    kp_blob_unref(mvcc->compact_cursor);
    mvcc->compact_cursor = NULL;
    mvcc->compact_finished = mvcc->compact_target;
    backend_put(mvcc->backend, BACKEND_META, META_COMPACT_FINISHED, strlen(META_COMPACT_FINISHED),
                &mvcc->compact_finished, sizeof mvcc->compact_finished);
}

bool mvcc_compact_step(struct mvcc *mvcc)
{
    backend_write_lock(mvcc->backend);
    if (mvcc->compact_finished >= mvcc->compact_revision) {
        backend_write_unlock(mvcc->backend);
        return false;
    }
    struct kp_bytes from = {0};
    if (mvcc->compact_cursor)
        from = (struct kp_bytes){mvcc->compact_cursor->data, mvcc->compact_cursor->len};
    else
        mvcc->compact_target = mvcc->compact_revision; /* a later mark is for the next walk */
    struct index_position at = index_seek(&mvcc->index, from);
    struct mvcc_key *key = index_at(&mvcc->index, at);
    for (int n = 0; key && n < COMPACT_KEYS_STEP; n++) {
        compact_key(mvcc, key, mvcc->compact_target);
        if (key->count == 0) {
            index_remove(&mvcc->index, at);
            if (at.chunk < mvcc->index.count && at.slot >= mvcc->index.chunks[at.chunk]->count)
                at = (struct index_position){.chunk = at.chunk + 1};
        } else {
            index_advance(&mvcc->index, &at);
        }
        key = index_at(&mvcc->index, at);
    }
    kp_blob_unref(mvcc->compact_cursor);
    mvcc->compact_cursor = key ? kp_blob_new(key->key, key->key_len) : NULL;
    if (!key)
        compact_finish(mvcc);
    bool more = mvcc->compact_finished < mvcc->compact_revision;
    backend_write_unlock(mvcc->backend);
    return more;
}

struct hash_entry {
    struct mvcc_revision revision;
    struct kp_blob *blob;
};

static struct hash_entry *hash_collect(struct mvcc *mvcc, int64_t upto, size_t *ret_len)
{
    struct hash_entry *list = NULL;
    size_t len = 0, cap = 0;
    struct index_position at = index_seek(&mvcc->index, (struct kp_bytes){0});
    for (struct mvcc_key *key; (key = index_at(&mvcc->index, at)) != NULL; index_advance(&mvcc->index, &at)) {
        for (uint32_t i = mvcc->compact_revision ? first_kept(key, mvcc->compact_revision) : 0;
             i < key->count && key->revisions[i].main <= upto; i++) {
            if (len == cap) {
                cap = cap ? cap * 2 : 64;
                list = kp_realloc(list, cap * sizeof *list);
            }
            const struct mvcc_revision *r = &key->revisions[i];
            list[len++] = (struct hash_entry){.revision = *r,
                                              .blob = backend_pending_revision(mvcc->backend, r->main, r->sub)};
        }
    }
    *ret_len = len;
    return list;
}

static int hash_list(struct backend_reader *reader, struct hash_entry *list, size_t len, uint32_t *ret_hash,
                     struct kp_error *error)
{
    uint32_t crc = 0;
    int rc = 0;
    for (size_t i = 0; i < len; i++) {
        struct kp_bytes record = {0};
        if (list[i].blob)
            record = (struct kp_bytes){list[i].blob->data, list[i].blob->len};
        else if (rc == 0)
            rc = backend_reader_revision(reader, list[i].revision.main, list[i].revision.sub, &record, error);
        int64_t place[2] = {list[i].revision.main, list[i].revision.sub};
        crc = kp_crc32c(crc, place, sizeof place);
        crc = kp_crc32c(crc, record.data, record.len);
        kp_blob_unref(list[i].blob);
    }
    *ret_hash = crc;
    return rc;
}

enum mvcc_result mvcc_hash_kv(struct mvcc *mvcc, int64_t revision, uint32_t *ret_hash, int64_t *ret_compact_revision,
                              int64_t *ret_revision, struct kp_error *error)
{
    KP_AUTO(backend_reader_end) struct backend_reader *reader = NULL;
    struct hash_entry *list = NULL;
    size_t len = 0;
    backend_read_lock(mvcc->backend);
    enum mvcc_result result = revision > mvcc->revision                               ? MVCC_FUTURE_REVISION
                              : revision > 0 && revision < mvcc->compact_revision ? MVCC_COMPACTED
                                                                                    : MVCC_OK;
    if (result == MVCC_OK) {
        *ret_compact_revision = mvcc->compact_revision;
        *ret_revision = revision > 0 ? revision : mvcc->revision;
        if (backend_reader_begin(mvcc->backend, &reader, error) < 0)
            result = MVCC_IO;
        else
            list = hash_collect(mvcc, *ret_revision, &len);
    }
    backend_read_unlock(mvcc->backend);
    if (result == MVCC_OK && hash_list(reader, list, len, ret_hash, error) < 0)
        result = MVCC_IO;
    free(list);
    return result;
}
