/* Snapshots of stock etcd: what its own program says of one is what we say, what goes in comes out, and what does not fit is
   refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <unistd.h>

#include "controlplane/etcd/mvcc/mvcc.h"
#include "controlplane/etcd/raft/raft.h"
#include "controlplane/etcd/snapshot/snapshot.h"

/* Taken from etcd 3.5.30 with `etcdctl snapshot save`: five keys put, one deleted, a lease, users, compacted at 4. The numbers
   below are what its own etcdutl and `endpoint hashkv` said. */
#define GOLDEN "tests/golden/etcd/stock-3.5.30.snapshot"

struct fixture {
    char dir[64];
    struct backend *backend;
};

static struct backend *open_at(const char *dir, const char *name)
{
    char path[128];
    struct backend *backend = NULL;
    struct kp_error error = {0};
    struct backend_options options = {.batch_interval_ms = 60000, .quota_bytes = -1};
    snprintf(path, sizeof path, "%s/%s", dir, name);
    assert_int_equal(backend_open(path, &options, &backend, &error), 0);
    return backend;
}

static int setup(void **state)
{
    struct fixture *f = kp_calloc(1, sizeof *f);
    strcpy(f->dir, "/tmp/test-snapshot-XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    f->backend = open_at(f->dir, "db");
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    backend_close(f->backend);
    assert_int_equal(kp_remove_tree(f->dir, NULL), 0);
    free(f);
    return 0;
}

static struct kp_bytes text(const char *s) { return (struct kp_bytes){.data = (const uint8_t *)s, .len = strlen(s)}; }

static void import_golden(struct fixture *f, uint64_t bump)
{
    struct snapshot_file file;
    struct kp_error error = {0};
    assert_int_equal(snapshot_open(GOLDEN, SNAPSHOT_HASH_REQUIRED, &file, &error), 0);
    assert_int_equal(snapshot_import(&file, f->backend, bump, &error), 0);
    snapshot_close(&file);
}

/* What storage.c keeps and an export cannot do without. */
static void put_conf(struct backend *backend)
{
    struct raft_conf_state conf = {0};
    raft_id_set_add(&conf.voters, 7);
    KP_AUTO_BUF struct kp_buf bytes = {0};
    raft_conf_state_encode(&bytes, &conf);
    backend_write_lock(backend);
    backend_put(backend, BACKEND_META, SNAPSHOT_META_CONF, strlen(SNAPSHOT_META_CONF), bytes.data, bytes.len);
    backend_write_unlock(backend);
}

static void check_hash(struct mvcc *mvcc, int64_t revision, uint32_t want)
{
    uint32_t hash;
    int64_t mark, of;
    assert_int_equal(mvcc_hash_kv(mvcc, revision, &hash, &mark, &of, NULL), MVCC_OK);
    assert_int_equal(hash, want);
}

static void status_is_what_etcdutl_says(void **state)
{
    struct snapshot_file file;
    struct snapshot_status status;
    struct kp_error error = {0};
    assert_int_equal(snapshot_open(GOLDEN, SNAPSHOT_HASH_REQUIRED, &file, &error), 0);
    assert_true(file.has_hash);
    assert_int_equal(snapshot_status(&file, &status, &error), 0);
    snapshot_close(&file);
    assert_int_equal(status.hash, 2369800286);
    assert_int_equal(status.revision, 7);
    assert_int_equal(status.total_keys, 18);
    assert_int_equal(status.total_size, 24576);
    assert_string_equal(status.version, "");
}

static void an_imported_snapshot_hashes_as_at_home(void **state)
{
    struct fixture *f = *state;
    import_golden(f, 0);
    struct mvcc *mvcc = NULL;
    assert_int_equal(mvcc_open(f->backend, 0, &mvcc, NULL), 0);
    assert_int_equal(mvcc_revision(mvcc), 7);
    assert_int_equal(mvcc_compact_revision(mvcc), 4);
    check_hash(mvcc, 0, 1499739214);
    check_hash(mvcc, 7, 1499739214);
    check_hash(mvcc, 5, 2481320837);
    struct mvcc_range_request request = {.key = text("k"), .range_end = text("l")};
    struct mvcc_range_result result;
    assert_int_equal(mvcc_range(mvcc, &request, &result, NULL), MVCC_OK);
    assert_int_equal(result.len, 4); /* k3 was deleted */
    assert_memory_equal(result.items[2].kv.value.data, "v4", 2);
    mvcc_range_done(&result);
    int64_t *leases;
    assert_int_equal(mvcc_lease_list(mvcc, &leases), 1);
    struct mvcc_lease_info info;
    assert_int_equal(mvcc_lease_time_to_live(mvcc, leases[0], false, 0, &info), MVCC_OK);
    assert_int_equal(info.granted_ttl_s, 500);
    free(leases);
    mvcc_close(mvcc);
}

static void a_raised_revision_compacts_all_below(void **state)
{
    struct fixture *f = *state;
    import_golden(f, 1000);
    struct mvcc *mvcc = NULL;
    assert_int_equal(mvcc_open(f->backend, 0, &mvcc, NULL), 0);
    assert_int_equal(mvcc_revision(mvcc), 1007);
    assert_int_equal(mvcc_compact_revision(mvcc), 1007);
    uint32_t before, after;
    int64_t mark, of;
    assert_int_equal(mvcc_hash_kv(mvcc, 0, &before, &mark, &of, NULL), MVCC_OK);
    while (mvcc_compact_step(mvcc))
        ;
    assert_int_equal(mvcc_hash_kv(mvcc, 0, &after, &mark, &of, NULL), MVCC_OK);
    assert_int_equal(before, after);
    struct mvcc_range_request request = {.key = text("k"), .range_end = text("l")};
    struct mvcc_range_result result;
    assert_int_equal(mvcc_range(mvcc, &request, &result, NULL), MVCC_OK);
    assert_int_equal(result.len, 4);
    mvcc_range_done(&result);
    mvcc_close(mvcc);
}

/* Exports to a file with its checksum. */
static void save(struct backend *backend, const char *path)
{
    struct kp_error error = {0};
    uint64_t bytes;
    uint8_t digest[TLS_SHA256_BYTES];
    KP_AUTO_CLOSE int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(snapshot_export(backend, fd, &bytes, &error), 0);
    KP_AUTO_BUF struct kp_buf data = {0};
    assert_int_equal(kp_read_file(path, 0, &data, &error), 0);
    assert_int_equal(data.len, bytes);
    tls_sha256(data.data, data.len, digest);
    assert_int_equal(pwrite(fd, digest, sizeof digest, (off_t)bytes), sizeof digest);
}

static void put_key(struct mvcc *mvcc, const char *key, const char *value, int64_t lease)
{
    struct mvcc_put_request request = {.key = text(key), .value = text(value), .lease = lease};
    mvcc_begin(mvcc);
    assert_int_equal(mvcc_put(mvcc, &request, NULL, NULL), MVCC_OK);
    mvcc_end(mvcc);
}

static void fill(struct mvcc *mvcc)
{
    int64_t deleted;
    mvcc_begin(mvcc);
    assert_int_equal(mvcc_lease_grant(mvcc, -77, 60, 0), MVCC_OK); /* an id with its highest bit */
    mvcc_end(mvcc);
    for (int i = 0; i < 500; i++) {
        char key[16];
        snprintf(key, sizeof key, "k%d", i % 50);
        put_key(mvcc, key, "value", i % 7 ? 0 : -77);
    }
    mvcc_begin(mvcc);
    assert_int_equal(mvcc_delete_range(mvcc, text("k1"), text("k3"), &deleted, NULL, NULL), MVCC_OK);
    mvcc_end(mvcc);
    mvcc_begin(mvcc);
    assert_int_equal(mvcc_compact(mvcc, 300), MVCC_OK);
    mvcc_end(mvcc);
}

static void what_is_exported_is_imported_as_the_same(void **state)
{
    struct fixture *f = *state;
    struct kp_error error = {0};
    char first[96], second[96];
    uint32_t before, after;
    int64_t mark, of;
    snprintf(first, sizeof first, "%s/first", f->dir);
    snprintf(second, sizeof second, "%s/second", f->dir);
    struct mvcc *mvcc = NULL;
    assert_int_equal(mvcc_open(f->backend, 0, &mvcc, NULL), 0);
    put_conf(f->backend);
    fill(mvcc);
    uint8_t alarm[12] = {9, 0, 0, 0, 0, 0, 0, 0, 1};
    backend_write_lock(f->backend);
    backend_put(f->backend, BACKEND_ALARM, alarm, sizeof alarm, NULL, 0);
    backend_put(f->backend, BACKEND_AUTH, "authEnabled", 11, "\1", 1);
    backend_put(f->backend, BACKEND_AUTH_USERS, "ann", 3, "\n\3ann", 5);
    backend_write_unlock(f->backend);
    save(f->backend, first);
    assert_int_equal(mvcc_hash_kv(mvcc, 0, &before, &mark, &of, NULL), MVCC_OK);
    mvcc_close(mvcc);

    struct backend *other = open_at(f->dir, "other");
    struct snapshot_file file;
    assert_int_equal(snapshot_open(first, SNAPSHOT_HASH_REQUIRED, &file, &error), 0);
    assert_int_equal(snapshot_import(&file, other, 0, &error), 0);
    snapshot_close(&file);
    assert_int_equal(mvcc_open(other, 0, &mvcc, NULL), 0);
    assert_int_equal(mvcc_hash_kv(mvcc, 0, &after, &mark, &of, NULL), MVCC_OK);
    assert_int_equal(before, after);
    assert_int_equal(mark, 300);
    struct mvcc_lease_info info;
    assert_int_equal(mvcc_lease_time_to_live(mvcc, -77, true, 0, &info), MVCC_OK);
    assert_true(info.key_count > 0);
    mvcc_blobs_free(info.keys, info.key_count);
    mvcc_close(mvcc);
    /* And once more: nothing but the place in the log is lost. */
    put_conf(other);
    save(other, second);
    backend_close(other);
    KP_AUTO_BUF struct kp_buf a = {0};
    KP_AUTO_BUF struct kp_buf b = {0};
    assert_int_equal(kp_read_file(first, 0, &a, &error), 0);
    assert_int_equal(kp_read_file(second, 0, &b, &error), 0);
    assert_int_equal(a.len, b.len);
    assert_memory_equal(a.data, b.data, a.len);
}

static void without_a_configuration_nothing_is_exported(void **state)
{
    struct fixture *f = *state;
    struct kp_error error = {0};
    char path[96];
    snprintf(path, sizeof path, "%s/file", f->dir);
    KP_AUTO_CLOSE int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    assert_true(snapshot_export(f->backend, fd, NULL, &error) < 0);
    assert_non_null(strstr(error.message, "configuration"));
}

static void a_full_disk_ends_an_export(void **state)
{
    struct fixture *f = *state;
    struct kp_error error = {0};
    put_conf(f->backend);
    KP_AUTO_CLOSE int fd = open("/dev/full", O_RDWR | O_CLOEXEC);
    assert_true(snapshot_export(f->backend, fd, NULL, &error) < 0);
    assert_non_null(strstr(error.message, "No space left"));
}

/* ---- what does not fit ---- */

static void expect_refused(struct fixture *f, const char *bucket, struct kp_bytes key, struct kp_bytes value,
                           const char *message)
{
    static const char *const names[] = {"alarm", "authUsers", "key", "lease", "meta"};
    struct kp_error error = {0};
    char path[96];
    snprintf(path, sizeof path, "%s/crafted", f->dir);
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    struct bolt_writer *writer = NULL;
    assert_int_equal(bolt_writer_new(fd, 0, &writer, &error), 0);
    for (size_t i = 0; i < KP_ARRAY_LEN(names); i++) {
        assert_int_equal(bolt_writer_bucket(writer, names[i], &error), 0);
        if (kp_streq(names[i], bucket))
            assert_int_equal(bolt_writer_put(writer, key, value, &error), 0);
    }
    assert_int_equal(bolt_writer_finish(writer, NULL, &error), 0);
    bolt_writer_free(writer);
    close(fd);
    struct snapshot_file file;
    assert_int_equal(snapshot_open(path, SNAPSHOT_HASH_IF_THERE, &file, &error), 0);
    assert_true(snapshot_import(&file, f->backend, 0, &error) < 0);
    assert_non_null(strstr(error.message, message));
    snapshot_close(&file);
}

#define RAW(s) ((struct kp_bytes){(const uint8_t *)(s), sizeof(s) - 1})
#define REVISION_2 "\0\0\0\0\0\0\0\2_\0\0\0\0\0\0\0\0"

static void records_that_do_not_fit_are_refused(void **state)
{
    struct fixture *f = *state;
    expect_refused(f, "key", RAW("short"), RAW(""), "the key of a revision is unreadable");
    expect_refused(f, "key", RAW("\0\0\0\0\0\0\0\2-\0\0\0\0\0\0\0\0"), RAW(""), "the key of a revision");
    expect_refused(f, "key", RAW("\0\0\0\0\0\0\0\0_\0\0\0\0\0\0\0\0"), RAW(""), "the key of a revision");
    expect_refused(f, "key", RAW(REVISION_2 "x"), RAW(""), "the key of a revision");
    expect_refused(f, "key", RAW("\0\0\0\0\0\0\0\2_\0\0\0\1\0\0\0\0"), RAW(""), "the key of a revision");
    expect_refused(f, "key", RAW(REVISION_2), RAW("\n\1k"), "a record that does not fit");              /* no version */
    expect_refused(f, "key", RAW(REVISION_2), RAW("\n\1k\20\3\30\3 \1"), "a record that does not fit"); /* of revision 3 */
    expect_refused(f, "key", RAW(REVISION_2 "t"), RAW(""), "a record that does not fit");
    expect_refused(f, "key", RAW(REVISION_2), RAW("\n\x7fk"), "revision 2/0");
    expect_refused(f, "lease", RAW("12345678"), RAW("\10\1\20\1"), "a lease is unreadable");
    expect_refused(f, "lease", RAW("1"), RAW("\10\1\20\1"), "a lease is unreadable");
    expect_refused(f, "alarm", RAW("\12\1\1"), RAW(""), "an alarm is unreadable");
    expect_refused(f, "meta", RAW("scheduledCompactRev"), RAW("1"), "a compaction's revision is unreadable");
    char name[600];
    memset(name, 'n', sizeof name);
    expect_refused(f, "authUsers", (struct kp_bytes){(uint8_t *)name, sizeof name}, RAW(""), "name of 600 bytes");
}

static void sums_are_checked_as_asked(void **state)
{
    struct fixture *f = *state;
    struct kp_error error = {0};
    char path[96];
    snprintf(path, sizeof path, "%s/file", f->dir);
    KP_AUTO_BUF struct kp_buf data = {0};
    struct snapshot_file file;
    assert_int_equal(kp_read_file(GOLDEN, 0, &data, &error), 0);
    assert_int_equal(kp_write_file(path, data.data, data.len - TLS_SHA256_BYTES, 0600, &error), 0);
    assert_int_equal(snapshot_open(path, SNAPSHOT_HASH_REQUIRED, &file, &error), KP_ECORRUPT);
    assert_string_equal(error.message, "snapshot missing hash but --skip-hash-check=false");
    assert_int_equal(snapshot_open(path, SNAPSHOT_HASH_IF_THERE, &file, &error), 0);
    snapshot_close(&file);
    data.data[data.len - 1] ^= 1; /* the sum itself */
    assert_int_equal(kp_write_file(path, data.data, data.len, 0600, &error), 0);
    assert_int_equal(snapshot_open(path, SNAPSHOT_HASH_IF_THERE, &file, &error), KP_ECORRUPT);
    assert_non_null(strstr(error.message, "expected sha256 ["));
    assert_non_null(strstr(error.message, "], got ["));
    assert_int_equal(snapshot_open(path, SNAPSHOT_HASH_IGNORED, &file, &error), 0);
    snapshot_close(&file);
    assert_int_equal(snapshot_open("/nonexistent", SNAPSHOT_HASH_IGNORED, &file, &error), KP_ENOTFOUND);
    assert_true(snapshot_open("/tmp", SNAPSHOT_HASH_IGNORED, &file, &error) < 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(status_is_what_etcdutl_says),
        cmocka_unit_test_setup_teardown(an_imported_snapshot_hashes_as_at_home, setup, teardown),
        cmocka_unit_test_setup_teardown(a_raised_revision_compacts_all_below, setup, teardown),
        cmocka_unit_test_setup_teardown(what_is_exported_is_imported_as_the_same, setup, teardown),
        cmocka_unit_test_setup_teardown(without_a_configuration_nothing_is_exported, setup, teardown),
        cmocka_unit_test_setup_teardown(a_full_disk_ends_an_export, setup, teardown),
        cmocka_unit_test_setup_teardown(records_that_do_not_fit_are_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(sums_are_checked_as_asked, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
