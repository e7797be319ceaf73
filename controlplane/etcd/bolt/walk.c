/* Walking a B+tree of the file in order of its keys, believing nothing it says. */
#include "controlplane/etcd/bolt/bolt_internal.h"

#include <errno.h>
#include <unistd.h>

int bolt_pread(const struct bolt_reader *reader, void *data, size_t len, uint64_t offset, struct kp_error *error)
{
    for (size_t done = 0; done < len;) {
        ssize_t n = pread(reader->fd, (char *)data + done, len - done, (off_t)(offset + done));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return kp_fail_errno(error, "read %zu bytes at %llu", len, (unsigned long long)offset);
        if (n == 0)
            return kp_fail(error, KP_ECORRUPT, "the file ends before byte %llu", (unsigned long long)(offset + len));
        done += (size_t)n;
    }
    return 0;
}

uint8_t *walk_new_seen(const struct bolt_reader *reader) { return kp_calloc(reader->pages / 8 + 1, 1); }

static bool see(struct bolt_walk *walk, uint64_t id)
{
    uint8_t bit = (uint8_t)(1u << (id & 7));
    if (walk->seen[id >> 3] & bit)
        return false;
    walk->seen[id >> 3] |= bit;
    return true;
}

static int bad(const struct bolt_page *page, const char *what, struct kp_error *error)
{
    return kp_fail(error, KP_ECORRUPT, "page %llu: %s", (unsigned long long)page->id, what);
}

/* The elements' table must fit; what it points at is checked element by element. */
static int check_head(const struct bolt_page *page, struct kp_error *error)
{
    if (page->flags != PAGE_BRANCH && page->flags != PAGE_LEAF)
        return bad(page, "neither a branch nor a leaf", error);
    if (page->count > (page->len - PAGE_HEAD) / ELEMENT)
        return bad(page, "more elements than it has room for", error);
    if (page->flags == PAGE_BRANCH && page->count == 0)
        return bad(page, "an empty branch", error);
    return 0;
}

int page_load(struct bolt_walk *walk, uint64_t id, struct bolt_page *ret_page, struct kp_error *error)
{
    const struct bolt_reader *reader = walk->reader;
    if (id < 2 || id >= reader->pages)
        return kp_fail(error, KP_ECORRUPT, "page %llu is not one of the file's %llu", (unsigned long long)id,
                       (unsigned long long)reader->pages);
    uint8_t head[PAGE_HEAD];
    uint64_t offset = id * reader->page_bytes;
    int rc = bolt_pread(reader, head, sizeof head, offset, error);
    if (rc < 0)
        return rc;
    struct bolt_page page = {
        .id = id, .flags = get_16(head + 8), .count = get_16(head + 10), .run = (uint64_t)get_32(head + 12) + 1};
    if (get_64(head) != id)
        return bad(&page, "says it is another one", error);
    if (page.run > reader->pages - id)
        return bad(&page, "runs on beyond the end", error);
    if (page.run * reader->page_bytes > BOLT_RUN_BYTES_MAX)
        return bad(&page, "too large", error);
    for (uint64_t i = 0; i < page.run; i++)
        if (!see(walk, id + i))
            return bad(&page, "used twice", error);
    page.len = (size_t)(page.run * reader->page_bytes);
    page.data = kp_malloc(page.len);
    if ((rc = bolt_pread(reader, page.data, page.len, offset, error)) < 0) {
        page_free(&page);
        return rc;
    }
    *ret_page = page;
    return 0;
}

void page_free(struct bolt_page *page)
{
    free(page->data);
    page->data = NULL;
}

static int compare(struct kp_bytes a, struct kp_bytes b)
{
    size_t len = KP_MIN(a.len, b.len);
    int order = len ? memcmp(a.data, b.data, len) : 0;
    return order ? order : (a.len > b.len) - (a.len < b.len);
}

/* len bytes at a position that an element gives from its own place, behind the table. */
static bool locate(const struct bolt_page *page, size_t element, uint32_t position, uint64_t len, const uint8_t **ret)
{
    uint64_t from = PAGE_HEAD + (uint64_t)element * ELEMENT + position;
    if (from < PAGE_HEAD + (uint64_t)page->count * ELEMENT || from > page->len || len > page->len - from)
        return false;
    *ret = page->data + from;
    return true;
}

static int walk_leaf(struct bolt_walk *walk, const struct bolt_page *page, struct kp_bytes least, struct kp_error *error)
{
    for (size_t i = 0; i < page->count; i++) {
        const uint8_t *element = page->data + PAGE_HEAD + i * ELEMENT;
        uint32_t flags = get_32(element), key_len = get_32(element + 8), value_len = get_32(element + 12);
        const uint8_t *p;
        if (key_len > BOLT_KEY_BYTES_MAX || value_len > BOLT_VALUE_BYTES_MAX ||
            !locate(page, i, get_32(element + 4), (uint64_t)key_len + value_len, &p))
            return bad(page, "an element lies outside of it", error);
        if (flags & ~ELEMENT_IS_BUCKET)
            return bad(page, "an element of an unknown kind", error);
        struct kp_bytes key = {.data = p, .len = key_len}, value = {.data = p + key_len, .len = value_len};
        if (i == 0 && compare(key, least) < 0)
            return bad(page, "its first key is below what its branch says", error);
        struct kp_bytes last = {.data = walk->last, .len = walk->last_len};
        if (walk->any && compare(key, last) <= 0)
            return bad(page, "its keys do not ascend", error);
        int rc = walk->each(walk, flags, key, value, error);
        if (rc < 0)
            return rc;
        memcpy(walk->last, key.data, key.len);
        walk->last_len = key.len;
        walk->any = true;
    }
    return 0;
}

static int walk_page(struct bolt_walk *walk, uint64_t id, struct kp_bytes least, int depth, struct kp_error *error);

/* All keys below a child lie between its own key and the next one's. */
static int walk_branch(struct bolt_walk *walk, const struct bolt_page *page, struct kp_bytes least, int depth,
                       struct kp_error *error)
{
    struct kp_bytes before = least;
    for (size_t i = 0; i < page->count; i++) {
        const uint8_t *element = page->data + PAGE_HEAD + i * ELEMENT;
        uint32_t key_len = get_32(element + 4);
        const uint8_t *p;
        if (key_len > BOLT_KEY_BYTES_MAX || !locate(page, i, get_32(element), key_len, &p))
            return bad(page, "an element lies outside of it", error);
        struct kp_bytes key = {.data = p, .len = key_len};
        struct kp_bytes last = {.data = walk->last, .len = walk->last_len};
        int order = compare(key, before);
        if (order < 0 || (i > 0 && order == 0) || (walk->any && compare(key, last) <= 0))
            return bad(page, "its keys do not ascend", error);
        int rc = walk_page(walk, get_64(element + 8), key, depth + 1, error);
        if (rc < 0)
            return rc;
        before = key;
    }
    return 0;
}

static int walk_page(struct bolt_walk *walk, uint64_t id, struct kp_bytes least, int depth, struct kp_error *error)
{
    if (depth >= BOLT_DEPTH_MAX)
        return kp_fail(error, KP_ECORRUPT, "page %llu: deeper than %d levels", (unsigned long long)id, BOLT_DEPTH_MAX);
    struct bolt_page page = {0};
    int rc = page_load(walk, id, &page, error);
    if (rc < 0 || (rc = check_head(&page, error)) < 0)
        goto out;
    rc = page.flags == PAGE_LEAF ? walk_leaf(walk, &page, least, error) : walk_branch(walk, &page, least, depth, error);
out:
    page_free(&page);
    return rc;
}

int walk_tree(struct bolt_walk *walk, uint64_t root, struct kp_error *error)
{
    KP_AUTO_FREE uint8_t *last = kp_malloc(BOLT_KEY_BYTES_MAX);
    walk->last = last;
    walk->last_len = 0;
    walk->any = false;
    return walk_page(walk, root, (struct kp_bytes){0}, 0, error);
}

int walk_inside(struct bolt_walk *walk, const struct bolt_bucket *bucket, struct kp_error *error)
{
    KP_AUTO_FREE uint8_t *last = kp_malloc(BOLT_KEY_BYTES_MAX);
    walk->last = last;
    walk->last_len = 0;
    walk->any = false;
    struct bolt_page page = {.flags = get_16(bucket->inside + 8),
                             .count = get_16(bucket->inside + 10),
                             .data = bucket->inside,
                             .len = bucket->inside_len};
    int rc = check_head(&page, error);
    if (rc == 0 && page.flags != PAGE_LEAF)
        rc = bad(&page, "a bucket holds a page that is no leaf", error);
    return rc < 0 ? rc : walk_leaf(walk, &page, (struct kp_bytes){0}, error);
}
