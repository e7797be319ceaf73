/* Opening a database file: its metas and the list of its buckets; and checking all of it. */
#include "controlplane/etcd/bolt/bolt_internal.h"

#include <unistd.h>

struct meta {
    uint32_t page_bytes;
    uint64_t root, freelist, pages, transaction;
};

static bool parse_meta(const uint8_t *p, struct meta *ret)
{
    if (get_32(p) != BOLT_MAGIC || get_32(p + 4) != BOLT_VERSION || get_64(p + META_SUMMED) != kp_hash64(p, META_SUMMED))
        return false;
    *ret = (struct meta){.page_bytes = get_32(p + 8),
                         .root = get_64(p + 16),
                         .freelist = get_64(p + 32),
                         .pages = get_64(p + 40),
                         .transaction = get_64(p + 48)};
    uint32_t size = ret->page_bytes;
    return size >= BOLT_PAGE_BYTES_MIN && size <= BOLT_PAGE_BYTES_MAX && (size & (size - 1)) == 0;
}

static bool read_meta(const struct bolt_reader *reader, uint64_t bytes, uint64_t offset, struct meta *ret)
{
    uint8_t data[META_BYTES];
    return offset + PAGE_HEAD + META_BYTES <= bytes &&
           bolt_pread(reader, data, sizeof data, offset + PAGE_HEAD, NULL) == 0 && parse_meta(data, ret);
}

/* The second meta lies one page on, and how large a page is only the metas say. */
static int choose_meta(struct bolt_reader *reader, uint64_t bytes, struct meta *ret, struct kp_error *error)
{
    struct meta metas[2];
    bool good[2] = {read_meta(reader, bytes, 0, &metas[0]), false};
    for (uint32_t size = BOLT_PAGE_BYTES_MIN; size <= BOLT_PAGE_BYTES_MAX && !good[1]; size *= 2)
        if (!good[0] || metas[0].page_bytes == size)
            good[1] = read_meta(reader, bytes, size, &metas[1]) && metas[1].page_bytes == size;
    if (!good[0] && !good[1])
        return kp_fail(error, KP_ECORRUPT, "invalid database: no meta page is intact");
    bool second = !good[0] || (good[1] && metas[1].transaction > metas[0].transaction);
    *ret = metas[second];
    return 0;
}

static int add_bucket(struct bolt_walk *walk, uint32_t flags, struct kp_bytes key, struct kp_bytes value,
                      struct kp_error *error)
{
    struct bolt_reader *reader = walk->reader;
    if (!(flags & ELEMENT_IS_BUCKET) || value.len < BUCKET_HEAD)
        return kp_fail(error, KP_ECORRUPT, "the list of buckets holds something else");
    if (memchr(key.data, 0, key.len))
        return kp_fail(error, KP_ECORRUPT, "a bucket's name has a zero byte in it");
    if (reader->bucket_count == BOLT_BUCKETS_MAX)
        return kp_fail(error, KP_ETOOLARGE, "more than %d buckets", BOLT_BUCKETS_MAX);
    struct bolt_bucket bucket = {.root = get_64(value.data)};
    if (bucket.root == 0) {
        if (value.len < BUCKET_HEAD + PAGE_HEAD)
            return kp_fail(error, KP_ECORRUPT, "a bucket without a page");
        bucket.inside_len = value.len - BUCKET_HEAD;
        bucket.inside = kp_malloc(bucket.inside_len);
        memcpy(bucket.inside, value.data + BUCKET_HEAD, bucket.inside_len);
    }
    bucket.name = kp_strndup((const char *)key.data, key.len);
    bucket.name_len = key.len;
    reader->buckets = kp_realloc(reader->buckets, (reader->bucket_count + 1) * sizeof *reader->buckets);
    reader->buckets[reader->bucket_count++] = bucket;
    return 0;
}

int bolt_open(int fd, uint64_t bytes, struct bolt_reader **ret_reader, struct kp_error *error)
{
    KP_AUTO(bolt_close) struct bolt_reader *reader = kp_calloc(1, sizeof *reader);
    reader->fd = fd;
    struct meta meta = {0};
    int rc = choose_meta(reader, bytes, &meta, error);
    if (rc < 0)
        return rc;
    if (bytes > BOLT_FILE_BYTES_MAX)
        return kp_fail(error, KP_ETOOLARGE, "a database of %llu bytes", (unsigned long long)bytes);
    reader->page_bytes = meta.page_bytes;
    reader->pages = meta.pages;
    reader->root = meta.root;
    reader->freelist = meta.freelist;
    if (meta.pages > bytes / meta.page_bytes)
        return kp_fail(error, KP_ECORRUPT, "invalid database: of %llu pages only %llu are there",
                       (unsigned long long)meta.pages, (unsigned long long)(bytes / meta.page_bytes));
    KP_AUTO_FREE uint8_t *seen = walk_new_seen(reader);
    struct bolt_walk walk = {.reader = reader, .seen = seen, .each = add_bucket};
    if ((rc = walk_tree(&walk, reader->root, error)) < 0)
        return kp_wrap(error, "list of buckets");
    *ret_reader = KP_TAKE(reader);
    return 0;
}

void bolt_close(struct bolt_reader *reader)
{
    if (!reader)
        return;
    for (size_t i = 0; i < reader->bucket_count; i++) {
        free(reader->buckets[i].name);
        free(reader->buckets[i].inside);
    }
    free(reader->buckets);
    free(reader);
}

uint64_t bolt_size(const struct bolt_reader *reader) { return reader->pages * reader->page_bytes; }
uint32_t bolt_page_bytes(const struct bolt_reader *reader) { return reader->page_bytes; }

int bolt_each_bucket(struct bolt_reader *reader, int (*fn)(void *ctx, struct kp_bytes name, struct kp_error *error),
                     void *ctx, struct kp_error *error)
{
    for (size_t i = 0; i < reader->bucket_count; i++) {
        struct kp_bytes name = {.data = (const uint8_t *)reader->buckets[i].name, .len = reader->buckets[i].name_len};
        int rc = fn(ctx, name, error);
        if (rc < 0)
            return rc;
    }
    return 0;
}

static const struct bolt_bucket *find_bucket(const struct bolt_reader *reader, const char *name)
{
    for (size_t i = 0; i < reader->bucket_count; i++)
        if (reader->buckets[i].name_len == strlen(name) && memcmp(reader->buckets[i].name, name, strlen(name)) == 0)
            return &reader->buckets[i];
    return NULL;
}

bool bolt_has_bucket(const struct bolt_reader *reader, const char *name) { return find_bucket(reader, name) != NULL; }

struct pairs {
    bolt_pair_fn fn; /* NULL: only check */
    void *ctx;
};

static int give_pair(struct bolt_walk *walk, uint32_t flags, struct kp_bytes key, struct kp_bytes value,
                     struct kp_error *error)
{
    const struct pairs *pairs = walk->ctx;
    if (flags & ELEMENT_IS_BUCKET)
        return kp_fail(error, KP_ECORRUPT, "a bucket inside the bucket");
    return pairs->fn ? pairs->fn(pairs->ctx, key, value, error) : 0;
}

static int walk_bucket(struct bolt_walk *walk, const struct bolt_bucket *bucket, struct kp_error *error)
{
    int rc = bucket->root ? walk_tree(walk, bucket->root, error) : walk_inside(walk, bucket, error);
    return rc < 0 ? kp_wrap(error, "bucket %s", bucket->name) : 0;
}

int bolt_each(struct bolt_reader *reader, const char *bucket, bolt_pair_fn fn, void *ctx, struct kp_error *error)
{
    const struct bolt_bucket *found = find_bucket(reader, bucket);
    if (!found)
        return 0;
    KP_AUTO_FREE uint8_t *seen = walk_new_seen(reader);
    struct pairs pairs = {.fn = fn, .ctx = ctx};
    struct bolt_walk walk = {.reader = reader, .seen = seen, .each = give_pair, .ctx = &pairs};
    return walk_bucket(&walk, found, error);
}

/* ---- checking all ---- */

static bool is_seen(const uint8_t *seen, uint64_t id) { return seen[id >> 3] & (1u << (id & 7)); }

static int check_free_page(struct bolt_walk *walk, uint64_t id, struct kp_error *error)
{
    if (id < 2 || id >= walk->reader->pages)
        return kp_fail(error, KP_ECORRUPT, "free page %llu is not in the file", (unsigned long long)id);
    if (is_seen(walk->seen, id))
        return kp_fail(error, KP_ECORRUPT, "page %llu is free and in use", (unsigned long long)id);
    walk->seen[id >> 3] |= (uint8_t)(1u << (id & 7));
    return 0;
}

static int check_freelist(struct bolt_walk *walk, struct kp_error *error)
{
    struct bolt_page page = {0};
    int rc = page_load(walk, walk->reader->freelist, &page, error);
    if (rc < 0)
        return rc;
    size_t room = (page.len - PAGE_HEAD) / 8, first = 0;
    uint64_t count = page.count;
    if (count == 0xFFFF && room > 0) {
        count = get_64(page.data + PAGE_HEAD);
        first = 1;
    }
    if (page.flags != PAGE_FREELIST || count > room - first)
        rc = kp_fail(error, KP_ECORRUPT, "page %llu is no list of free pages", (unsigned long long)page.id);
    for (size_t i = 0; rc == 0 && i < count; i++)
        rc = check_free_page(walk, get_64(page.data + PAGE_HEAD + (first + i) * 8), error);
    page_free(&page);
    return rc;
}

static int ignore_bucket(struct bolt_walk *walk, uint32_t flags, struct kp_bytes key, struct kp_bytes value,
                         struct kp_error *error)
{
    return 0; /* bolt_open has read them */
}

int bolt_check(struct bolt_reader *reader, struct kp_error *error)
{
    KP_AUTO_FREE uint8_t *seen = walk_new_seen(reader);
    struct pairs pairs = {0};
    struct bolt_walk walk = {.reader = reader, .seen = seen, .each = ignore_bucket, .ctx = &pairs};
    int rc = walk_tree(&walk, reader->root, error);
    walk.each = give_pair;
    for (size_t i = 0; rc == 0 && i < reader->bucket_count; i++)
        rc = walk_bucket(&walk, &reader->buckets[i], error);
    if (rc < 0 || reader->freelist == BOLT_NO_FREELIST)
        return rc;
    if ((rc = check_freelist(&walk, error)) < 0)
        return kp_wrap(error, "free pages");
    for (uint64_t id = 2; id < reader->pages; id++)
        if (!is_seen(seen, id))
            return kp_fail(error, KP_ECORRUPT, "page %llu is neither in use nor free", (unsigned long long)id);
    return 0;
}
