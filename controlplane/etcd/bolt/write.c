/* Writing a database file bottom-up: a page is written when it is full, and its first key goes to the level above. */
#include "controlplane/etcd/bolt/bolt_internal.h"

#include <errno.h>
#include <unistd.h>

#define OUT_BYTES ((size_t)1 << 20) /* written at once */

/* The page of a level that is being filled. */
struct level {
    struct kp_buf table; /* its elements; positions still count from the begin of data */
    struct kp_buf data;  /* keys and values */
    size_t count;
    size_t first_key_len;
    bool written; /* a page of this level is out */
};
struct tree {
    struct level levels[BOLT_DEPTH_MAX];
    struct kp_buf last; /* key before */
    bool any;
};
struct bolt_writer {
    int fd;
    uint32_t page_bytes;
    uint64_t next_page; /* the page that `out` ends with is the one before */
    uint64_t offset;    /* of `out` in the file */
    struct kp_buf out;
    struct tree pairs, buckets;
    char *bucket; /* the open one */
    bool finished, failed;
};

static int write_out(struct bolt_writer *writer, const void *data, size_t len, uint64_t offset, struct kp_error *error)
{
    for (size_t done = 0; done < len;) {
        ssize_t n = pwrite(writer->fd, (const char *)data + done, len - done, (off_t)(offset + done));
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) {
            writer->failed = true;
            return kp_fail_errno(error, "write the database file");
        }
        done += (size_t)n;
    }
    return 0;
}

static int flush_out(struct bolt_writer *writer, struct kp_error *error)
{
    int rc = write_out(writer, writer->out.data, writer->out.len, writer->offset, error);
    if (rc == 0) {
        writer->offset += writer->out.len;
        writer->out.len = 0;
    }
    return rc;
}

/* ---- pages ---- */

static size_t level_bytes(const struct level *level) { return PAGE_HEAD + level->table.len + level->data.len; }

static void level_clear(struct level *level)
{
    level->table.len = level->data.len = 0;
    level->count = 0;
}

static void put_page_head(uint8_t head[PAGE_HEAD], uint64_t id, unsigned flags, size_t count, uint64_t overflow)
{
    put_64(head, id);
    put_16(head + 8, (uint16_t)flags);
    put_16(head + 10, (uint16_t)count);
    put_32(head + 12, (uint32_t)overflow);
}

/* The page of a level, without padding. */
static void encode_page(const struct level *level, bool leaf, uint64_t id, uint64_t overflow, struct kp_buf *out)
{
    uint8_t head[PAGE_HEAD], element[ELEMENT];
    put_page_head(head, id, leaf ? PAGE_LEAF : PAGE_BRANCH, level->count, overflow);
    kp_buf_append(out, head, sizeof head);
    for (size_t i = 0; i < level->count; i++) {
        memcpy(element, level->table.data + i * ELEMENT, ELEMENT);
        uint8_t *position = element + (leaf ? 4 : 0);
        put_32(position, get_32(position) + (uint32_t)(level->table.len - i * ELEMENT));
        kp_buf_append(out, element, sizeof element);
    }
    kp_buf_append(out, level->data.data, level->data.len);
}

static int write_page(struct bolt_writer *writer, const struct level *level, bool leaf, uint64_t *ret_id,
                      struct kp_error *error)
{
    uint64_t run = (level_bytes(level) + writer->page_bytes - 1) / writer->page_bytes;
    *ret_id = writer->next_page;
    encode_page(level, leaf, writer->next_page, run - 1, &writer->out);
    static const uint8_t zeroes[BOLT_PAGE_BYTES_MAX];
    kp_buf_append(&writer->out, zeroes, (size_t)(run * writer->page_bytes - level_bytes(level)));
    writer->next_page += run;
    return writer->out.len >= OUT_BYTES ? flush_out(writer, error) : 0;
}

/* ---- a tree ---- */

static void add_element(struct level *level, const uint8_t element[ELEMENT], struct kp_bytes key, struct kp_bytes value)
{
    if (level->count++ == 0)
        level->first_key_len = key.len;
    kp_buf_append(&level->table, element, ELEMENT);
    kp_buf_append(&level->data, key.data, key.len);
    kp_buf_append(&level->data, value.data, value.len);
}

static int add_child(struct bolt_writer *writer, struct tree *tree, int at, struct kp_bytes key, uint64_t id,
                     struct kp_error *error);

/* Writes the level's page and puts it under the one above. */
static int push_up(struct bolt_writer *writer, struct tree *tree, int at, struct kp_error *error)
{
    struct level *level = &tree->levels[at];
    uint64_t id;
    int rc = write_page(writer, level, at == 0, &id, error);
    if (rc < 0)
        return rc;
    level->written = true;
    struct kp_bytes first = {.data = (const uint8_t *)level->data.data, .len = level->first_key_len};
    rc = add_child(writer, tree, at + 1, first, id, error);
    level_clear(level);
    return rc;
}

/* A branch has two children at least, however long their keys: else no level would be narrower than the one below. */
static bool is_full(const struct bolt_writer *writer, const struct level *level, size_t least, size_t more)
{
    return level->count >= least &&
           (level_bytes(level) + ELEMENT + more > writer->page_bytes || level->count == PAGE_COUNT_MAX);
}

static int add_child(struct bolt_writer *writer, struct tree *tree, int at, struct kp_bytes key, uint64_t id,
                     struct kp_error *error)
{
    if (at == BOLT_DEPTH_MAX)
        return kp_fail(error, KP_ETOOLARGE, "a bucket of more than %d levels", BOLT_DEPTH_MAX);
    struct level *level = &tree->levels[at];
    int rc = is_full(writer, level, 2, key.len) ? push_up(writer, tree, at, error) : 0;
    if (rc < 0)
        return rc;
    uint8_t element[ELEMENT];
    put_32(element, (uint32_t)level->data.len);
    put_32(element + 4, (uint32_t)key.len);
    put_64(element + 8, id);
    add_element(level, element, key, (struct kp_bytes){0});
    return 0;
}

static int add_pair(struct bolt_writer *writer, struct tree *tree, uint32_t flags, struct kp_bytes key,
                    struct kp_bytes value, struct kp_error *error)
{
    if (key.len == 0 || key.len > BOLT_KEY_BYTES_MAX)
        return kp_fail(error, KP_ETOOLARGE, "a key of %zu bytes, not 1 to %u", key.len, BOLT_KEY_BYTES_MAX);
    if (value.len > BOLT_VALUE_BYTES_MAX)
        return kp_fail(error, KP_ETOOLARGE, "a value of %zu bytes, more than %u", value.len, BOLT_VALUE_BYTES_MAX);
    size_t common = KP_MIN(key.len, tree->last.len);
    int order = common ? memcmp(key.data, tree->last.data, common) : 0;
    if (tree->any && (order < 0 || (order == 0 && key.len <= tree->last.len)))
        return kp_fail(error, KP_EINVALID, "keys do not ascend");
    tree->any = true;
    tree->last.len = 0;
    kp_buf_append(&tree->last, key.data, key.len);
    struct level *level = &tree->levels[0];
    int rc = is_full(writer, level, 1, key.len + value.len) ? push_up(writer, tree, 0, error) : 0;
    if (rc < 0)
        return rc;
    uint8_t element[ELEMENT];
    put_32(element, flags);
    put_32(element + 4, (uint32_t)level->data.len);
    put_32(element + 8, (uint32_t)key.len);
    put_32(element + 12, (uint32_t)value.len);
    add_element(level, element, key, value);
    return 0;
}

/* Writes what is left of the tree: *ret_root is its topmost page. */
static int end_tree(struct bolt_writer *writer, struct tree *tree, uint64_t *ret_root, struct kp_error *error)
{
    if (!tree->levels[0].written)
        return write_page(writer, &tree->levels[0], true, ret_root, error);
    for (int at = 0;; at++) {
        const struct level *level = &tree->levels[at];
        if (at > 0 && !level->written && level->count == 1) {
            *ret_root = get_64((const uint8_t *)level->table.data + 8);
            return 0;
        }
        int rc = push_up(writer, tree, at, error);
        if (rc < 0)
            return rc;
    }
}

static void tree_reset(struct tree *tree)
{
    for (int i = 0; i < BOLT_DEPTH_MAX; i++) {
        level_clear(&tree->levels[i]);
        tree->levels[i].written = false;
    }
    tree->any = false;
    tree->last.len = 0;
}

static void tree_done(struct tree *tree)
{
    for (int i = 0; i < BOLT_DEPTH_MAX; i++) {
        kp_buf_done(&tree->levels[i].table);
        kp_buf_done(&tree->levels[i].data);
    }
    kp_buf_done(&tree->last);
}

/* ---- the file ---- */

int bolt_writer_new(int fd, uint32_t page_bytes, struct bolt_writer **ret_writer, struct kp_error *error)
{
    if (page_bytes == 0)
        page_bytes = BOLT_PAGE_BYTES_DEFAULT;
    if (page_bytes < BOLT_PAGE_BYTES_MIN || page_bytes > BOLT_PAGE_BYTES_MAX || (page_bytes & (page_bytes - 1)))
        return kp_fail(error, KP_EINVALID, "pages of %u bytes", page_bytes);
    struct bolt_writer *writer = kp_calloc(1, sizeof *writer);
    writer->fd = fd;
    writer->page_bytes = page_bytes;
    writer->next_page = 2;
    writer->offset = 2 * (uint64_t)page_bytes;
    *ret_writer = writer;
    return 0;
}

void bolt_writer_free(struct bolt_writer *writer)
{
    if (!writer)
        return;
    tree_done(&writer->pairs);
    tree_done(&writer->buckets);
    kp_buf_done(&writer->out);
    free(writer->bucket);
    free(writer);
}

/* A bucket whose only page is small lies in the list of buckets itself, as bbolt does it. */
static int end_bucket(struct bolt_writer *writer, struct kp_error *error)
{
    if (!writer->bucket)
        return 0;
    struct level *leaf = &writer->pairs.levels[0];
    KP_AUTO_BUF struct kp_buf value = {0};
    uint8_t head[BUCKET_HEAD] = {0};
    bool small = !leaf->written && level_bytes(leaf) <= writer->page_bytes / 4;
    uint64_t root = 0;
    int rc = small ? 0 : end_tree(writer, &writer->pairs, &root, error);
    if (rc < 0)
        return rc;
    put_64(head, root);
    kp_buf_append(&value, head, sizeof head);
    if (small)
        encode_page(leaf, true, 0, 0, &value);
    struct kp_bytes key = {.data = (const uint8_t *)writer->bucket, .len = strlen(writer->bucket)};
    rc = add_pair(writer, &writer->buckets, ELEMENT_IS_BUCKET, key,
                  (struct kp_bytes){.data = (const uint8_t *)value.data, .len = value.len}, error);
    tree_reset(&writer->pairs);
    free(writer->bucket);
    writer->bucket = NULL;
    return rc;
}

int bolt_writer_bucket(struct bolt_writer *writer, const char *name, struct kp_error *error)
{
    KP_ASSERT(!writer->finished);
    int rc = end_bucket(writer, error);
    if (rc < 0)
        return rc;
    writer->bucket = kp_strdup(name);
    return 0;
}

int bolt_writer_put(struct bolt_writer *writer, struct kp_bytes key, struct kp_bytes value, struct kp_error *error)
{
    KP_ASSERT(writer->bucket && !writer->finished);
    int rc = add_pair(writer, &writer->pairs, 0, key, value, error);
    return rc < 0 ? kp_wrap(error, "bucket %s", writer->bucket) : 0;
}

static int write_metas(struct bolt_writer *writer, uint64_t root, uint64_t freelist, struct kp_error *error)
{
    KP_AUTO_FREE uint8_t *page = kp_calloc(1, writer->page_bytes);
    for (uint64_t id = 0; id < 2; id++) {
        put_page_head(page, id, PAGE_META, 0, 0);
        uint8_t *meta = page + PAGE_HEAD;
        put_32(meta, BOLT_MAGIC);
        put_32(meta + 4, BOLT_VERSION);
        put_32(meta + 8, writer->page_bytes);
        put_64(meta + 16, root);
        put_64(meta + 32, freelist);
        put_64(meta + 40, writer->next_page);
        put_64(meta + 48, 2 - id); /* transaction 2, and the one before */
        put_64(meta + META_SUMMED, kp_hash64(meta, META_SUMMED));
        int rc = write_out(writer, page, writer->page_bytes, id * writer->page_bytes, error);
        if (rc < 0)
            return rc;
    }
    return 0;
}

int bolt_writer_finish(struct bolt_writer *writer, uint64_t *ret_bytes, struct kp_error *error)
{
    KP_ASSERT(!writer->finished && !writer->failed);
    uint64_t root;
    int rc = end_bucket(writer, error);
    if (rc < 0 || (rc = end_tree(writer, &writer->buckets, &root, error)) < 0)
        return rc;
    uint64_t freelist = writer->next_page++;
    uint8_t head[PAGE_HEAD];
    put_page_head(head, freelist, PAGE_FREELIST, 0, 0);
    kp_buf_append(&writer->out, head, sizeof head);
    static const uint8_t zeroes[BOLT_PAGE_BYTES_MAX];
    kp_buf_append(&writer->out, zeroes, writer->page_bytes - PAGE_HEAD);
    if ((rc = flush_out(writer, error)) < 0 || (rc = write_metas(writer, root, freelist, error)) < 0)
        return rc;
    writer->finished = true;
    if (ret_bytes)
        *ret_bytes = writer->next_page * writer->page_bytes;
    return 0;
}
