/* The newest revision in a bbolt database: the last key of its bucket "key". */
#include "provisioner/snapshot/snapshot.h"

/* Sizes and marks of bbolt's format 2 (go.etcd.io/bbolt: page.go, db.go, bucket.go). */
#define PAGE_HEADER 16
#define ELEMENT_BYTES 16
#define META_BYTES 56 /* before its checksum */
#define META_MAGIC 0xED0CDAEDu
#define FLAG_BRANCH 0x01
#define FLAG_LEAF 0x02
#define FLAG_BUCKET 0x01
#define DEPTH_MAX 64
#define REVISION_KEY_BYTES 17 /* 8 bytes main, '_', 8 bytes sub; a deletion has a 't' behind */

struct view {
    const uint8_t *data;
    size_t len, page_size;
    struct kp_error *error;
};
struct page {
    const uint8_t *at;
    size_t room; /* bytes from `at` on that belong to the file */
    unsigned flags, count;
};

static uint64_t little(const uint8_t *p, size_t n)
{
    uint64_t value = 0;
    for (size_t i = n; i-- > 0;)
        value = value << 8 | p[i];
    return value;
}

static uint64_t big(const uint8_t *p)
{
    uint64_t value = 0;
    for (size_t i = 0; i < 8; i++)
        value = value << 8 | p[i];
    return value;
}

static uint64_t fnv64a(const uint8_t *data, size_t len)
{
    uint64_t hash = 0xcbf29ce484222325u;
    for (size_t i = 0; i < len; i++)
        hash = (hash ^ data[i]) * 0x100000001b3u;
    return hash;
}

static int damaged(const struct view *view, const char *what)
{
    return kp_fail(view->error, KP_ECORRUPT, "no database of etcd: %s", what);
}

static int page_in(const struct view *view, const uint8_t *at, size_t room, struct page *ret)
{
    if (room < PAGE_HEADER)
        return damaged(view, "a page is cut");
    *ret = (struct page){.at = at, .room = room, .flags = (unsigned)little(at + 8, 2), .count = (unsigned)little(at + 10, 2)};
    if (!(ret->flags & (FLAG_BRANCH | FLAG_LEAF)) || PAGE_HEADER + (size_t)ret->count * ELEMENT_BYTES > room)
        return damaged(view, "a page is not what it should be");
    return 0;
}

static int page_at(const struct view *view, uint64_t id, struct page *ret)
{
    if (id >= view->len / view->page_size)
        return damaged(view, "a page lies behind the end");
    return page_in(view, view->data + id * view->page_size, view->len - id * view->page_size, ret);
}

/* Key and value of a leaf's element. */
static int leaf_pair(const struct view *view, const struct page *page, size_t i, struct kp_bytes *key, struct kp_bytes *value, bool *bucket)
{
    const size_t offset = PAGE_HEADER + i * ELEMENT_BYTES;
    const uint8_t *element = page->at + offset;
    const uint64_t pos = little(element + 4, 4), ksize = little(element + 8, 4), vsize = little(element + 12, 4);
    if (offset + pos + ksize + vsize > page->room)
        return damaged(view, "an entry reaches behind the end");
    *key = (struct kp_bytes){.data = element + pos, .len = ksize};
    *value = (struct kp_bytes){.data = element + pos + ksize, .len = vsize};
    *bucket = little(element, 4) & FLAG_BUCKET;
    return 0;
}

static int compare(struct kp_bytes a, const char *b)
{
    const size_t len = strlen(b);
    const int order = memcmp(a.data, b, KP_MIN(a.len, len));
    return order ? order : (a.len > len) - (a.len < len);
}

/* Down to the leaf that holds `name`, or the last one when it is NULL. */
static int descend(const struct view *view, struct page *page, const char *name)
{
    for (int depth = 0; page->flags & FLAG_BRANCH; depth++) {
        size_t pick = page->count ? page->count - 1u : 0;
        if (depth == DEPTH_MAX || page->count == 0)
            return damaged(view, "a tree without an end");
        for (size_t i = 0; name && i < page->count; i++) {
            const size_t offset = PAGE_HEADER + i * ELEMENT_BYTES;
            const uint64_t pos = little(page->at + offset, 4), ksize = little(page->at + offset + 4, 4);
            if (offset + pos + ksize > page->room)
                return damaged(view, "an entry reaches behind the end");
            if (i > 0 && compare((struct kp_bytes){.data = page->at + offset + pos, .len = ksize}, name) > 0) {
                pick = i - 1;
                break;
            }
        }
        const int r = page_at(view, little(page->at + PAGE_HEADER + pick * ELEMENT_BYTES + 8, 8), page);
        if (r < 0)
            return r;
    }
    return 0;
}

/* The root page of a bucket: one of its own, or within the value that names it. */
static int find_bucket(const struct view *view, uint64_t root, const char *name, struct page *ret)
{
    struct page page;
    int r = page_at(view, root, &page);
    if (r == 0)
        r = descend(view, &page, name);
    for (size_t i = 0; r == 0 && i < page.count; i++) {
        struct kp_bytes key, value;
        bool bucket = false;
        r = leaf_pair(view, &page, i, &key, &value, &bucket);
        if (r < 0 || compare(key, name) != 0)
            continue;
        if (!bucket || value.len < PAGE_HEADER)
            return damaged(view, "its buckets are none");
        const uint64_t id = little(value.data, 8);
        return id ? page_at(view, id, ret) : page_in(view, (const uint8_t *)value.data + PAGE_HEADER, value.len - PAGE_HEADER, ret);
    }
    return r < 0 ? r : damaged(view, "it has no bucket of keys");
}

/* The newer of the two metas that is whole. */
static int read_meta(struct view *view, uint64_t *ret_root)
{
    uint64_t newest = 0;
    bool found = false;
    for (size_t at = 0, tries = 0; tries < 2 && at + PAGE_HEADER + META_BYTES + 8 <= view->len; tries++) {
        const uint8_t *meta = view->data + at + PAGE_HEADER;
        const uint64_t page_size = little(meta + 8, 4), txid = little(meta + 48, 8);
        const bool whole = little(meta, 4) == META_MAGIC && little(meta + 4, 4) == 2 && page_size >= 512 && page_size <= (1 << 20) &&
                           fnv64a(meta, META_BYTES) == little(meta + META_BYTES, 8);
        if (whole && (!found || txid > newest)) {
            found = true;
            newest = txid;
            view->page_size = page_size;
            *ret_root = little(meta + 16, 8);
        }
        at = whole ? page_size : 4096; /* where the second lies when the first does not tell */
    }
    return found ? 0 : damaged(view, "it does not begin as one");
}

int snapshot_revision(const uint8_t *data, size_t len, int64_t *ret_revision, struct kp_error *error)
{
    struct view view = {.data = data, .len = len, .error = error};
    struct page page;
    struct kp_bytes key, value;
    uint64_t root = 0;
    bool bucket = false;
    int r = read_meta(&view, &root);
    if (r == 0)
        r = find_bucket(&view, root, "key", &page);
    if (r == 0)
        r = descend(&view, &page, NULL);
    if (r < 0)
        return r;
    if (page.count == 0) { /* nothing was ever written */
        *ret_revision = 1;
        return 0;
    }
    r = leaf_pair(&view, &page, page.count - 1u, &key, &value, &bucket);
    if (r == 0 && (key.len < REVISION_KEY_BYTES || ((const uint8_t *)key.data)[8] != '_'))
        r = damaged(&view, "its keys are no revisions");
    if (r == 0)
        *ret_revision = (int64_t)big(key.data);
    return r;
}
