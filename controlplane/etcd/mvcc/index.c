/* The ordered index of keys and, per key, of its revisions. */
#include "controlplane/etcd/mvcc/mvcc_internal.h"

static void key_free(struct mvcc_key *key)
{
    KP_ASSERT(!key->lease);
    if (key->revisions != &key->first)
        free(key->revisions);
    free(key);
}

void index_done(struct mvcc_index *index)
{
    for (size_t c = 0; c < index->count; c++) {
        for (uint32_t i = 0; i < index->chunks[c]->count; i++) {
            index->chunks[c]->keys[i]->lease = NULL;
            key_free(index->chunks[c]->keys[i]);
        }
        free(index->chunks[c]);
    }
    free(index->chunks);
    *index = (struct mvcc_index){0};
}

struct index_position index_seek(const struct mvcc_index *index, struct kp_bytes key)
{
    size_t lo = 0, hi = index->count;
    while (lo < hi) { /* the first chunk whose last key is >= key */
        size_t mid = lo + (hi - lo) / 2;
        const struct mvcc_chunk *chunk = index->chunks[mid];
        if (mvcc_bytes_compare(mvcc_key_bytes(chunk->keys[chunk->count - 1]), key) < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    struct index_position position = {.chunk = lo};
    if (lo == index->count)
        return position;
    const struct mvcc_chunk *chunk = index->chunks[lo];
    uint32_t from = 0, to = chunk->count;
    while (from < to) {
        uint32_t mid = from + (to - from) / 2;
        if (mvcc_bytes_compare(mvcc_key_bytes(chunk->keys[mid]), key) < 0)
            from = mid + 1;
        else
            to = mid;
    }
    position.slot = from;
    return position;
}

struct mvcc_key *index_at(const struct mvcc_index *index, struct index_position position)
{
    return position.chunk < index->count ? index->chunks[position.chunk]->keys[position.slot] : NULL;
}

void index_advance(const struct mvcc_index *index, struct index_position *position)
{
    if (++position->slot >= index->chunks[position->chunk]->count) {
        position->slot = 0;
        position->chunk++;
    }
}

struct mvcc_key *index_find(const struct mvcc_index *index, struct kp_bytes key)
{
    struct mvcc_key *found = index_at(index, index_seek(index, key));
    return found && mvcc_bytes_compare(mvcc_key_bytes(found), key) == 0 ? found : NULL;
}

static void insert_chunk(struct mvcc_index *index, size_t at, struct mvcc_chunk *chunk)
{
    if (index->count == index->cap) {
        index->cap = index->cap ? index->cap * 2 : 16;
        index->chunks = kp_realloc(index->chunks, index->cap * sizeof *index->chunks);
    }
    memmove(index->chunks + at + 1, index->chunks + at, (index->count - at) * sizeof *index->chunks);
    index->chunks[at] = chunk;
    index->count++;
}

/* Makes room in a full chunk; keys that come in order (the usual way at start) leave full chunks behind. */
static void split(struct mvcc_index *index, struct index_position *position)
{
    struct mvcc_chunk *chunk = index->chunks[position->chunk];
    struct mvcc_chunk *right = kp_calloc(1, sizeof *right);
    bool at_end = position->chunk + 1 == index->count && position->slot == chunk->count;
    uint32_t keep = at_end ? chunk->count - 1 : chunk->count / 2;
    right->count = chunk->count - keep;
    memcpy(right->keys, chunk->keys + keep, right->count * sizeof *right->keys);
    chunk->count = keep;
    insert_chunk(index, position->chunk + 1, right);
    if (position->slot > keep) {
        position->chunk++;
        position->slot -= keep;
    }
}

struct mvcc_key *index_insert(struct mvcc_index *index, struct kp_bytes key)
{
    struct index_position position = index_seek(index, key);
    struct mvcc_key *found = index_at(index, position);
    if (found && mvcc_bytes_compare(mvcc_key_bytes(found), key) == 0)
        return found;
    if (position.chunk == index->count) { /* past every key: at the end of the last chunk */
        if (index->count == 0)
            insert_chunk(index, 0, kp_calloc(1, sizeof(struct mvcc_chunk)));
        position.chunk = index->count - 1;
        position.slot = index->chunks[position.chunk]->count;
    }
    if (index->chunks[position.chunk]->count == INDEX_CHUNK_MAX)
        split(index, &position);
    struct mvcc_chunk *chunk = index->chunks[position.chunk];
    struct mvcc_key *made = kp_calloc(1, sizeof *made + key.len);
    made->revisions = &made->first;
    made->cap = 1;
    made->key_len = (uint32_t)key.len;
    if (key.len)
        memcpy(made->key, key.data, key.len);
    memmove(chunk->keys + position.slot + 1, chunk->keys + position.slot,
            (chunk->count - position.slot) * sizeof *chunk->keys);
    chunk->keys[position.slot] = made;
    chunk->count++;
    index->keys++;
    return made;
}

void index_remove(struct mvcc_index *index, struct index_position position)
{
    struct mvcc_chunk *chunk = index->chunks[position.chunk];
    key_free(chunk->keys[position.slot]);
    memmove(chunk->keys + position.slot, chunk->keys + position.slot + 1,
            (chunk->count - position.slot - 1) * sizeof *chunk->keys);
    index->keys--;
    if (--chunk->count > 0)
        return;
    free(chunk);
    memmove(index->chunks + position.chunk, index->chunks + position.chunk + 1,
            (index->count - position.chunk - 1) * sizeof *index->chunks);
    index->count--;
}

void key_add_revision(struct mvcc_key *key, struct mvcc_revision revision)
{
    if (key->count == key->cap) {
        uint32_t cap = key->cap * 2;
        if (key->revisions == &key->first) {
            key->revisions = kp_malloc(cap * sizeof *key->revisions);
            key->revisions[0] = key->first;
        } else {
            key->revisions = kp_realloc(key->revisions, cap * sizeof *key->revisions);
        }
        key->cap = cap;
    }
    key->revisions[key->count++] = revision;
}

const struct mvcc_revision *key_revision_at(const struct mvcc_key *key, int64_t main)
{
    if (key->count && key->revisions[key->count - 1].main <= main)
        return &key->revisions[key->count - 1];
    uint32_t lo = 0, hi = key->count;
    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;
        if (key->revisions[mid].main <= main)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo ? &key->revisions[lo - 1] : NULL;
}
