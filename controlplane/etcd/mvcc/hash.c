/* The hash over the history of the keys, equal to stock etcd's for the same contents. */
#include "controlplane/etcd/mvcc/mvcc_internal.h"

/* etcd hashes its bucket of keys in order: the bucket's name, then key and value of every revision as it stores them (main
   and sub in 8 bytes each, '_' between, 't' behind a deletion's, of which the value is the key alone). Two rules make that
   the same whether a compaction has removed something already or not:
   - Of the revisions up to the compaction mark those count that hold a key's value as of the revision hashed - not, as one
     might think, as of the mark. Only if no key has a value there, all count that the compaction leaves.
   - A deletion exactly at the mark does not count: some versions keep it, others do not. */
#define HASH_SEED_NAME "key"
#define HASH_KEY_BYTES 18

struct place {
    int64_t main;
    int32_t sub;
};
struct late {
    struct place place;
    struct kp_blob *record;
};
struct hashing {
    uint32_t crc;
    int64_t revision, mark;
    struct place *kept; /* up to the mark; ascending */
    size_t kept_len, kept_cap, kept_next;
    struct late *late; /* not in the database yet */
    size_t late_len, late_cap;
    struct place last; /* the newest hashed or passed over */
    struct kp_error *error;
    int rc;
};

static int order_places(const void *a, const void *b)
{
    const struct place *x = a, *y = b;
    if (x->main != y->main)
        return x->main < y->main ? -1 : 1;
    return (x->sub > y->sub) - (x->sub < y->sub);
}

/* The revisions up to the mark with a key's value as of `at`; how many keys have one at all. */
static size_t collect_kept(struct mvcc *mvcc, struct hashing *h, int64_t at)
{
    size_t live = 0;
    struct index_position position = index_seek(&mvcc->index, (struct kp_bytes){0});
    for (struct mvcc_key *key; (key = index_at(&mvcc->index, position)) != NULL; index_advance(&mvcc->index, &position)) {
        const struct mvcc_revision *r = key_revision_at(key, at);
        if (!r || r->tombstone)
            continue;
        live++;
        if (r->main > h->mark)
            continue;
        if (h->kept_len == h->kept_cap) {
            h->kept_cap = h->kept_cap ? h->kept_cap * 2 : 64;
            h->kept = kp_realloc(h->kept, h->kept_cap * sizeof *h->kept);
        }
        h->kept[h->kept_len++] = (struct place){r->main, r->sub};
    }
    if (h->kept_len)
        qsort(h->kept, h->kept_len, sizeof *h->kept, order_places);
    return live;
}

static bool collect_late(void *ctx, int64_t main, int32_t sub, struct kp_blob *record)
{
    struct hashing *h = ctx;
    if (main > h->revision)
        return false;
    if (h->late_len == h->late_cap) {
        h->late_cap = h->late_cap ? h->late_cap * 2 : 64;
        h->late = kp_realloc(h->late, h->late_cap * sizeof *h->late);
    }
    h->late[h->late_len++] = (struct late){{main, sub}, kp_blob_ref(record)};
    return true;
}

/* Places come in ascending order. */
static bool is_kept(struct hashing *h, struct place place)
{
    while (h->kept_next < h->kept_len && order_places(&h->kept[h->kept_next], &place) < 0)
        h->kept_next++;
    return h->kept_next < h->kept_len && order_places(&h->kept[h->kept_next], &place) == 0;
}

static void put_key(uint8_t key[HASH_KEY_BYTES], struct place place)
{
    for (int i = 0; i < 8; i++) {
        key[i] = (uint8_t)((uint64_t)place.main >> (56 - 8 * i));
        key[9 + i] = (uint8_t)((uint64_t)place.sub >> (56 - 8 * i));
    }
    key[8] = '_';
    key[HASH_KEY_BYTES - 1] = 't';
}

static bool hash_record(void *ctx, int64_t main, int32_t sub, struct kp_bytes record)
{
    struct hashing *h = ctx;
    struct place place = {main, sub};
    struct mvcc_kv kv;
    uint8_t key[HASH_KEY_BYTES];
    if (main > h->revision)
        return false;
    h->last = place;
    if (main <= h->mark && !is_kept(h, place))
        return true;
    if ((h->rc = mvcc_kv_decode(record, &kv, h->error)) < 0)
        return false;
    put_key(key, place);
    if (kv.version > 0 || record.len == 0) {
        h->crc = kp_crc32c(h->crc, key, sizeof key - 1);
        h->crc = kp_crc32c(h->crc, record.data, record.len);
    } else if (main != h->mark) {
        KP_AUTO(kp_blob_unref) struct kp_blob *bare = mvcc_kv_encode(&(struct mvcc_kv){.key = kv.key});
        h->crc = kp_crc32c(h->crc, key, sizeof key);
        h->crc = kp_crc32c(h->crc, bare->data, bare->len);
    }
    return true;
}

static int hash_all(struct backend_reader *reader, struct hashing *h)
{
    int rc = backend_reader_scan(reader, 0, hash_record, h, h->error);
    for (size_t i = 0; i < h->late_len; i++) {
        const struct late *late = &h->late[i];
        if (rc == 0 && h->rc == 0 && order_places(&late->place, &h->last) > 0)
            hash_record(h, late->place.main, late->place.sub, (struct kp_bytes){late->record->data, late->record->len});
    }
    return rc < 0 ? rc : h->rc;
}

static enum mvcc_result check_revision(const struct mvcc *mvcc, int64_t revision)
{
    if (revision > mvcc->revision)
        return MVCC_FUTURE_REVISION;
    return revision > 0 && revision < mvcc->compact_revision ? MVCC_COMPACTED : MVCC_OK;
}

enum mvcc_result mvcc_hash_kv(struct mvcc *mvcc, int64_t revision, uint32_t *ret_hash, int64_t *ret_compact_revision,
                              int64_t *ret_revision, struct kp_error *error)
{
    KP_AUTO(backend_reader_end) struct backend_reader *reader = NULL;
    struct hashing h = {.crc = kp_crc32c(0, HASH_SEED_NAME, strlen(HASH_SEED_NAME)), .error = error};
    backend_read_lock(mvcc->backend);
    enum mvcc_result result = check_revision(mvcc, revision);
    if (result == MVCC_OK && backend_reader_begin(mvcc->backend, &reader, error) < 0)
        result = MVCC_IO;
    if (result == MVCC_OK) {
        h.revision = revision > 0 ? revision : mvcc->revision;
        h.mark = mvcc->compact_revision;
        if (h.mark > 0 && collect_kept(mvcc, &h, h.revision) == 0)
            collect_kept(mvcc, &h, h.mark);
        backend_pending_scan(mvcc->backend, 0, collect_late, &h);
    }
    backend_read_unlock(mvcc->backend);
    if (result == MVCC_OK && hash_all(reader, &h) < 0)
        result = MVCC_IO;
    if (result == MVCC_OK) {
        *ret_hash = h.crc;
        *ret_compact_revision = h.mark;
        *ret_revision = h.revision;
    }
    for (size_t i = 0; i < h.late_len; i++)
        kp_blob_unref(h.late[i].record);
    free(h.late);
    free(h.kept);
    return result;
}
