/* Stock etcd's database file: what is written is read back, and a damaged file is refused, never believed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "controlplane/etcd/bolt/bolt.h"

static int scratch_file(void)
{
    char path[] = "/tmp/test-bolt-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    unlink(path);
    return fd;
}

static uint64_t size_of(int fd)
{
    struct stat st;
    assert_int_equal(fstat(fd, &st), 0);
    return (uint64_t)st.st_size;
}

static struct kp_bytes text(const char *s) { return (struct kp_bytes){.data = (const uint8_t *)s, .len = strlen(s)}; }

/* The nth pair of a bucket: the key ascends with n, both depend on it alone. */
struct shape {
    size_t pairs, key_pad, value_bytes;
};
static void make_pair(const struct shape *shape, size_t n, struct kp_buf *key, struct kp_buf *value)
{
    key->len = value->len = 0;
    kp_buf_printf(key, "%012zu", n);
    for (size_t i = 0; i < shape->key_pad; i++)
        kp_buf_putc(key, (char)('a' + (n + i) % 26));
    size_t bytes = shape->value_bytes ? (n * 7919) % (shape->value_bytes + 1) : 0;
    for (size_t i = 0; i < bytes; i++)
        kp_buf_putc(value, (char)(n * 31 + i));
}

static void write_shape(struct bolt_writer *writer, const char *bucket, const struct shape *shape)
{
    KP_AUTO_BUF struct kp_buf key = {0};
    KP_AUTO_BUF struct kp_buf value = {0};
    struct kp_error error = {0};
    assert_int_equal(bolt_writer_bucket(writer, bucket, &error), 0);
    for (size_t n = 0; n < shape->pairs; n++) {
        make_pair(shape, n, &key, &value);
        assert_int_equal(bolt_writer_put(writer, (struct kp_bytes){(uint8_t *)key.data, key.len},
                                         (struct kp_bytes){(uint8_t *)value.data, value.len}, &error),
                         0);
    }
}

struct expecting {
    const struct shape *shape;
    size_t next;
    struct kp_buf key, value;
};

static int expect_pair(void *ctx, struct kp_bytes key, struct kp_bytes value, struct kp_error *error)
{
    struct expecting *e = ctx;
    make_pair(e->shape, e->next++, &e->key, &e->value);
    assert_int_equal(key.len, e->key.len);
    assert_memory_equal(key.data, e->key.data, key.len);
    assert_int_equal(value.len, e->value.len);
    if (value.len)
        assert_memory_equal(value.data, e->value.data, value.len);
    return 0;
}

static void read_shape(struct bolt_reader *reader, const char *bucket, const struct shape *shape)
{
    struct expecting e = {.shape = shape};
    struct kp_error error = {0};
    assert_true(bolt_has_bucket(reader, bucket));
    assert_int_equal(bolt_each(reader, bucket, expect_pair, &e, &error), 0);
    assert_int_equal(e.next, shape->pairs);
    kp_buf_done(&e.key);
    kp_buf_done(&e.value);
}

static void what_is_written_is_read_back(void **state)
{
    static const struct shape shapes[] = {
        {0, 0, 0},           /* inside the list, empty */
        {3, 0, 8},           /* inside the list */
        {40, 0, 40},         /* a page or some */
        {20000, 3, 120},     /* levels */
        {300, 2000, 10},     /* keys as long as half a page */
        {40, 30000, 200000}, /* both run on */
    };
    static const uint32_t sizes[] = {0, 512, 1024, 16384, 65536};
    for (size_t s = 0; s < KP_ARRAY_LEN(sizes); s++) {
        KP_AUTO_CLOSE int fd = scratch_file();
        KP_AUTO(bolt_writer_free) struct bolt_writer *writer = NULL;
        KP_AUTO(bolt_close) struct bolt_reader *reader = NULL;
        struct kp_error error = {0};
        uint64_t bytes = 0;
        char name[16];
        assert_int_equal(bolt_writer_new(fd, sizes[s], &writer, &error), 0);
        for (size_t i = 0; i < KP_ARRAY_LEN(shapes); i++) {
            snprintf(name, sizeof name, "bucket-%zu", i);
            write_shape(writer, name, &shapes[i]);
        }
        assert_int_equal(bolt_writer_finish(writer, &bytes, &error), 0);
        assert_int_equal(bytes, size_of(fd));
        assert_int_equal(bolt_open(fd, bytes, &reader, &error), 0);
        assert_int_equal(bolt_size(reader), bytes);
        assert_int_equal(bolt_page_bytes(reader), sizes[s] ? sizes[s] : BOLT_PAGE_BYTES_DEFAULT);
        assert_int_equal(bolt_check(reader, &error), 0);
        for (size_t i = 0; i < KP_ARRAY_LEN(shapes); i++) {
            snprintf(name, sizeof name, "bucket-%zu", i);
            read_shape(reader, name, &shapes[i]);
        }
        assert_false(bolt_has_bucket(reader, "bucket"));
    }
}

static void keys_and_buckets_out_of_order_are_refused(void **state)
{
    KP_AUTO_CLOSE int fd = scratch_file();
    KP_AUTO(bolt_writer_free) struct bolt_writer *writer = NULL;
    struct kp_error error = {0};
    assert_int_equal(bolt_writer_new(fd, 0, &writer, &error), 0);
    assert_int_equal(bolt_writer_bucket(writer, "b", &error), 0);
    assert_int_equal(bolt_writer_put(writer, text("key"), text(""), &error), 0);
    assert_int_equal(bolt_writer_put(writer, text("keys"), text(""), &error), 0);
    assert_int_equal(bolt_writer_put(writer, text("keys"), text(""), &error), KP_EINVALID);
    assert_int_equal(bolt_writer_put(writer, text("key"), text(""), &error), KP_EINVALID);
    assert_int_equal(bolt_writer_put(writer, text(""), text(""), &error), KP_ETOOLARGE);
    assert_int_equal(bolt_writer_bucket(writer, "a", &error), 0);
    assert_int_equal(bolt_writer_finish(writer, NULL, &error), KP_EINVALID);
    assert_int_equal(bolt_writer_new(fd, 1000, &writer, &error), KP_EINVALID);
}

static void a_full_disk_is_reported(void **state)
{
    KP_AUTO_CLOSE int fd = open("/dev/full", O_WRONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    KP_AUTO(bolt_writer_free) struct bolt_writer *writer = NULL;
    struct kp_error error = {0};
    assert_int_equal(bolt_writer_new(fd, 0, &writer, &error), 0);
    assert_int_equal(bolt_writer_bucket(writer, "b", &error), 0);
    KP_AUTO_FREE uint8_t *value = kp_calloc(1, 3 << 20);
    assert_true(bolt_writer_put(writer, text("a"), (struct kp_bytes){value, 3 << 20}, &error) == 0);
    assert_true(bolt_writer_put(writer, text("b"), text(""), &error) < 0);
    assert_non_null(strstr(error.message, "No space left"));
}

/* A small file with each of what the format has: branches, run-on pages, a bucket inside the list. */
static int sample(uint64_t *ret_bytes)
{
    static const struct shape shapes[] = {{30, 20, 40}, {1, 0, 0}, {3, 0, 1500}};
    int fd = scratch_file();
    KP_AUTO(bolt_writer_free) struct bolt_writer *writer = NULL;
    assert_int_equal(bolt_writer_new(fd, 512, &writer, NULL), 0);
    write_shape(writer, "branches", &shapes[0]);
    write_shape(writer, "inside", &shapes[1]);
    write_shape(writer, "long", &shapes[2]);
    assert_int_equal(bolt_writer_finish(writer, ret_bytes, NULL), 0);
    return fd;
}

static int count_pair(void *ctx, struct kp_bytes key, struct kp_bytes value, struct kp_error *error)
{
    ++*(size_t *)ctx;
    return 0;
}

/* Opens, checks and walks it all; the first failure. */
static int read_all(int fd, uint64_t bytes, size_t *ret_pairs, struct kp_error *error)
{
    static const char *const names[] = {"branches", "inside", "long"};
    KP_AUTO(bolt_close) struct bolt_reader *reader = NULL;
    int rc = bolt_open(fd, bytes, &reader, error);
    *ret_pairs = 0;
    if (rc == 0)
        rc = bolt_check(reader, error);
    for (size_t i = 0; rc == 0 && i < KP_ARRAY_LEN(names); i++)
        rc = bolt_each(reader, names[i], count_pair, ret_pairs, error);
    return rc;
}

static void every_flipped_byte_is_survived(void **state)
{
    uint64_t bytes;
    KP_AUTO_CLOSE int fd = sample(&bytes);
    size_t pairs, refused = 0;
    struct kp_error error = {0};
    assert_int_equal(read_all(fd, bytes, &pairs, &error), 0);
    assert_int_equal(pairs, 34);
    for (uint64_t at = 0; at < bytes; at++) {
        uint8_t before, flipped;
        assert_int_equal(pread(fd, &before, 1, (off_t)at), 1);
        for (int bit = 0; bit < 8; bit += 7) {
            flipped = before ^ (uint8_t)(1u << bit);
            assert_int_equal(pwrite(fd, &flipped, 1, (off_t)at), 1);
            error = (struct kp_error){0};
            if (read_all(fd, bytes, &pairs, &error) < 0) {
                assert_true(error.message[0]);
                refused++;
            }
        }
        assert_int_equal(pwrite(fd, &before, 1, (off_t)at), 1);
    }
    assert_true(refused > 1000); /* values and padding carry no checksum in this format */
}

static void a_cut_file_is_refused(void **state)
{
    uint64_t bytes;
    KP_AUTO_CLOSE int fd = sample(&bytes);
    size_t pairs;
    for (uint64_t len = 0; len < bytes; len += 64) {
        struct kp_error error = {0};
        assert_int_equal(read_all(fd, len, &pairs, &error), KP_ECORRUPT);
    }
    assert_int_equal(ftruncate(fd, (off_t)bytes - 1), 0); /* shorter than the caller says */
    struct kp_error error = {0};
    assert_int_equal(read_all(fd, bytes, &pairs, &error), KP_ECORRUPT);
}

static void patch(int fd, uint64_t at, const void *data, size_t len)
{
    assert_int_equal(pwrite(fd, data, len, (off_t)at), (ssize_t)len);
}

static void the_other_meta_is_taken_when_one_is_bad(void **state)
{
    uint64_t bytes;
    KP_AUTO_CLOSE int fd = sample(&bytes);
    size_t pairs;
    struct kp_error error = {0};
    patch(fd, 16, "bad!", 4);
    assert_int_equal(read_all(fd, bytes, &pairs, &error), 0);
    patch(fd, 512 + 16, "bad!", 4);
    assert_int_equal(read_all(fd, bytes, &pairs, &error), KP_ECORRUPT);
    assert_string_equal(error.message, "invalid database: no meta page is intact");
}

static void pages_in_a_circle_are_refused(void **state)
{
    uint64_t bytes;
    KP_AUTO_CLOSE int fd = sample(&bytes);
    struct kp_error error = {0};
    size_t pairs;
    bool found = false;
    for (uint64_t at = 1024; at < bytes; at += 512) {
        uint8_t page[512];
        assert_int_equal(pread(fd, page, sizeof page, (off_t)at), 512);
        if (page[8] != 0x01 || memcmp(page, &(uint64_t){at / 512}, 8) != 0)
            continue;
        found = true;
        memcpy(page + 16 + 8, &(uint64_t){at / 512}, 8); /* its first child is itself */
        patch(fd, at, page, sizeof page);
        break;
    }
    assert_true(found);
    assert_int_equal(read_all(fd, bytes, &pairs, &error), KP_ECORRUPT);
    assert_non_null(strstr(error.message, "used twice"));
}

static void a_page_nobody_uses_is_found(void **state)
{
    uint64_t bytes;
    KP_AUTO_CLOSE int fd = sample(&bytes);
    struct kp_error error = {0};
    size_t pairs;
    uint8_t meta[64];
    assert_int_equal(pread(fd, meta, sizeof meta, 16), 64);
    uint64_t pages = bytes / 512 + 1;
    memcpy(meta + 40, &pages, 8);
    uint64_t sum = kp_hash64(meta, 56);
    memcpy(meta + 56, &sum, 8);
    patch(fd, 16, meta, sizeof meta);
    assert_int_equal(ftruncate(fd, (off_t)bytes + 512), 0);
    assert_int_equal(read_all(fd, bytes + 512, &pairs, &error), KP_ECORRUPT);
    assert_non_null(strstr(error.message, "neither in use nor free"));
}

/* What etcd 3.5.30 answered to `etcdctl snapshot save` after a few puts, a deletion, a lease, users and a compaction. */
static void a_snapshot_of_stock_etcd_is_read(void **state)
{
    static const char *const names[] = {"alarm", "auth",  "authRoles", "authUsers",       "cluster",
                                        "key",   "lease", "members",   "members_removed", "meta"};
    KP_AUTO_CLOSE int fd = open("tests/golden/etcd/stock-3.5.30.snapshot", O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    KP_AUTO(bolt_close) struct bolt_reader *reader = NULL;
    struct kp_error error = {0};
    assert_int_equal(bolt_open(fd, size_of(fd) - 32, &reader, &error), 0);
    assert_int_equal(bolt_check(reader, &error), 0);
    assert_int_equal(bolt_size(reader), size_of(fd) - 32);
    size_t pairs = 0;
    for (size_t i = 0; i < KP_ARRAY_LEN(names); i++) {
        assert_true(bolt_has_bucket(reader, names[i]));
        assert_int_equal(bolt_each(reader, names[i], count_pair, &pairs, &error), 0);
    }
    assert_int_equal(pairs, 18); /* as etcdutl snapshot status says */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_written_is_read_back),
        cmocka_unit_test(keys_and_buckets_out_of_order_are_refused),
        cmocka_unit_test(a_full_disk_is_reported),
        cmocka_unit_test(every_flipped_byte_is_survived),
        cmocka_unit_test(a_cut_file_is_refused),
        cmocka_unit_test(the_other_meta_is_taken_when_one_is_bad),
        cmocka_unit_test(pages_in_a_circle_are_refused),
        cmocka_unit_test(a_page_nobody_uses_is_found),
        cmocka_unit_test(a_snapshot_of_stock_etcd_is_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
