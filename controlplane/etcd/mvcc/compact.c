/* Compaction: forgetting what lies below a revision, a bounded part at a time. */
#include "controlplane/etcd/mvcc/mvcc_internal.h"

#define COMPACT_KEYS_STEP 512

enum mvcc_result mvcc_compact(struct mvcc *mvcc, int64_t revision)
{
    KP_ASSERT(mvcc->in_txn);
    if (revision <= mvcc->compact_revision)
        return MVCC_COMPACTED;
    if (revision > mvcc->revision)
        return MVCC_FUTURE_REVISION;
    watch_give(mvcc); /* while the records before theirs are there */
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
