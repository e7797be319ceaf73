/* Snapshot files: what is whole is told apart from what was cut or changed, and the document beside one says the same after reading. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <unistd.h>

#include "provisioner/snapshot/snapshot.h"
#include "tls/tls.h"

#define GOLDEN "tests/golden/etcd/stock-3.5.30.snapshot" /* of a stock member: see controlplane/etcd/snapshot's tests */
#define GOLDEN_MAX ((size_t)1 << 20)

static char scratch[64];

static int setup(void **state)
{
    snprintf(scratch, sizeof(scratch), "/tmp/test-snapshot-XXXXXX");
    const int fd = mkstemp(scratch);
    return fd < 0 ? -1 : close(fd);
}

static int teardown(void **state)
{
    return unlink(scratch);
}

static void golden(struct kp_buf *out)
{
    assert_int_equal(kp_read_file(GOLDEN, GOLDEN_MAX, out, NULL), 0);
}

static void a_snapshot_of_a_stock_member_is_whole(void **state)
{
    struct snapshot_info info;
    struct kp_error error = {0};
    if (snapshot_check(GOLDEN, &info, &error) < 0)
        fail_msg("%s", error.message);
    assert_int_equal(info.size_bytes, 24608);
    assert_int_equal(info.revision, 7);
    assert_int_equal(strlen(info.sha256), 64);
}

static void every_length_but_the_whole_is_refused(void **state)
{
    KP_AUTO_BUF struct kp_buf text = {0};
    struct snapshot_info info;
    golden(&text);
    for (size_t len = 0; len < text.len; len += 509) {
        assert_int_equal(kp_write_file(scratch, text.data, len, 0600, NULL), 0);
        assert_int_equal(snapshot_check(scratch, &info, NULL), KP_ECORRUPT);
    }
}

static void a_changed_byte_is_refused(void **state)
{
    KP_AUTO_BUF struct kp_buf text = {0};
    struct snapshot_info info;
    golden(&text);
    for (size_t i = 0; i < text.len; i += 997) {
        text.data[i] ^= 1;
        assert_int_equal(kp_write_file(scratch, text.data, text.len, 0600, NULL), 0);
        assert_int_equal(snapshot_check(scratch, &info, NULL), KP_ECORRUPT);
        text.data[i] ^= 1;
    }
}

static void a_checksum_over_something_else_makes_no_snapshot(void **state)
{
    uint8_t other[512 + TLS_SHA256_BYTES] = "not a database";
    struct snapshot_info info;
    struct kp_error error = {0};
    tls_sha256(other, 512, other + 512);
    assert_int_equal(kp_write_file(scratch, other, sizeof(other), 0600, NULL), 0);
    assert_int_equal(snapshot_check(scratch, &info, &error), KP_ECORRUPT);
    assert_non_null(strstr(error.message, "no database of etcd"));
}

/* Whatever a byte becomes, reading stays within the file. */
static void a_database_of_wrong_bytes_is_read_within_its_bounds(void **state)
{
    KP_AUTO_BUF struct kp_buf text = {0};
    golden(&text);
    const size_t len = text.len - TLS_SHA256_BYTES;
    uint8_t *exact = malloc(len); /* of this size, so that a byte too far is seen */
    assert_non_null(exact);
    for (size_t i = 0; i < len; i++) {
        int64_t revision = 0;
        memcpy(exact, text.data, len);
        exact[i] = (uint8_t)(exact[i] + 0x7f);
        (void)!snapshot_revision(exact, len, &revision, NULL);
        exact[i] = 0xff;
        (void)!snapshot_revision(exact, len, &revision, NULL);
    }
    free(exact);
}

static const struct snapshot_meta example = {
    .cluster = "demo", .uid = "u", .endpoint = "https://10.89.0.10:2379", .taken_s = 1795256335, .kubernetes_version = "v1.36.0",
    .pod_cidr = "10.244.0.0/16", .service_cidr = "10.96.0.0/12", .dns_domain = "cluster.local", .control_planes = 3,
    .info = {.size_bytes = 24608, .revision = 7, .sha256 = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"},
};

static void the_document_says_the_same_after_reading(void **state)
{
    struct kp_arena *arena = kp_arena_new(0);
    KP_AUTO_BUF struct kp_buf text = {0};
    struct snapshot_meta meta = example, read;
    struct kp_error error = {0};
    meta.pki = kp_value_object(arena);
    kp_value_set(arena, meta.pki, "sa.key", kp_value_string(arena, "secret"));
    snapshot_meta_print(&meta, arena, &text);
    if (snapshot_meta_parse(text.data, text.len, arena, &read, &error) < 0)
        fail_msg("%s", error.message);
    assert_string_equal(read.cluster, "demo");
    assert_string_equal(read.service_cidr, "10.96.0.0/12");
    assert_int_equal(read.taken_s, example.taken_s);
    assert_int_equal(read.control_planes, 3);
    assert_int_equal(read.info.revision, 7);
    assert_int_equal(read.info.size_bytes, 24608);
    assert_string_equal(read.info.sha256, example.info.sha256);
    assert_string_equal(kp_value_str(kp_value_get(read.pki, "sa.key")), "secret");
    kp_arena_free(arena);
}

static void a_document_of_another_file_is_refused(void **state)
{
    struct kp_arena *arena = kp_arena_new(0);
    KP_AUTO_BUF struct kp_buf text = {0};
    KP_AUTO_FREE char *path = kp_asprintf("%s.json", scratch);
    struct snapshot_info info = example.info;
    struct snapshot_meta read;
    assert_int_equal(snapshot_meta_load(scratch, &info, arena, &read, NULL), KP_ENOTFOUND);
    snapshot_meta_print(&example, arena, &text);
    assert_int_equal(kp_write_file(path, text.data, text.len, 0600, NULL), 0);
    assert_int_equal(snapshot_meta_load(scratch, &info, arena, &read, NULL), 0);
    info.sha256[0] = 'f';
    assert_int_equal(snapshot_meta_load(scratch, &info, arena, &read, NULL), KP_ECORRUPT);
    unlink(path);
    kp_arena_free(arena);
}

static void names_tell_the_time(void **state)
{
    char name[SNAPSHOT_NAME_MAX];
    int64_t taken_s = 0;
    snapshot_name("demo", 1795256335, name);
    assert_string_equal(name, "demo-20261121T101855Z.db");
    assert_int_equal(snapshot_name_time(name, &taken_s), 0);
    assert_int_equal(taken_s, 1795256335);
    assert_int_equal(snapshot_name_time("demo.db", &taken_s), KP_EINVALID);
    assert_int_equal(snapshot_name_time("demo-20261121T101855Z.db.json", &taken_s), KP_EINVALID);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_snapshot_of_a_stock_member_is_whole),
        cmocka_unit_test_setup_teardown(every_length_but_the_whole_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(a_changed_byte_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(a_checksum_over_something_else_makes_no_snapshot, setup, teardown),
        cmocka_unit_test(a_database_of_wrong_bytes_is_read_within_its_bounds),
        cmocka_unit_test(the_document_says_the_same_after_reading),
        cmocka_unit_test_setup_teardown(a_document_of_another_file_is_refused, setup, teardown),
        cmocka_unit_test(names_tell_the_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
