/* Archives as the system's own tar reads them, headers byte by byte, and what a failure leaves behind. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <sys/stat.h>
#include <unistd.h>

#include "archive/archive.h"

static void a_header_is_as_posix_has_it(void **state)
{
    char block[ARCHIVE_BLOCK];
    unsigned sum = 0;
    assert_int_equal(archive_header("a/b.txt", 1000, 1700000000, block, NULL), 0);
    assert_string_equal(block, "a/b.txt");
    assert_string_equal(block + 100, "0000644");
    assert_string_equal(block + 124, "00000001750");
    assert_string_equal(block + 136, "14524770400");
    assert_int_equal(block[156], '0');
    assert_memory_equal(block + 257, "ustar\0" "00", 8);
    for (size_t i = 0; i < sizeof(block); i++)
        sum += i >= 148 && i < 156 ? ' ' : (unsigned char)block[i];
    assert_int_equal(strtoul(block + 148, NULL, 8), sum);
    assert_memory_equal(block + 154, "\0 ", 2);
}

static void a_long_name_is_cut_at_a_slash(void **state)
{
    char block[ARCHIVE_BLOCK], name[400];
    struct kp_error error = {0};
    snprintf(name, sizeof(name), "%0150d/%080d", 1, 2);
    assert_int_equal(archive_header(name, 0, 0, block, &error), 0);
    assert_int_equal(strlen(block), 80);
    assert_int_equal(strlen(block + 345), 150);
    snprintf(name, sizeof(name), "%0160d/%080d", 1, 2);
    assert_int_equal(archive_header(name, 0, 0, block, &error), KP_EINVALID);
    snprintf(name, sizeof(name), "%0101d", 1);
    assert_int_equal(archive_header(name, 0, 0, block, &error), KP_EINVALID);
    assert_int_equal(archive_header("", 0, 0, block, &error), KP_EINVALID);
    assert_int_equal(archive_header("a", ARCHIVE_FILE_MAX + 1, 0, block, &error), KP_ETOOLARGE);
}

static char *folder(void)
{
    char *dir = kp_strdup("/tmp/test-archive-XXXXXX");
    assert_non_null(mkdtemp(dir));
    return dir;
}

static void tar_reads_what_was_written(void **state)
{
    char *dir = folder(), *path = kp_asprintf("%s/a.tar.gz", dir), *big = kp_malloc(300000);
    struct archive *archive = NULL;
    struct kp_error error = {0};
    KP_AUTO_BUF struct kp_buf out = {0};
    size_t bytes = 0;
    int status = -1;
    for (size_t i = 0; i < 300000; i++)
        big[i] = (char)('a' + (i * 7919 / 13) % 26);
    assert_int_equal(archive_create(path, &archive, &error), 0);
    assert_int_equal(archive_add(archive, "top/empty", "", 0, 0, &error), 0);
    assert_int_equal(archive_add(archive, "top/block", big, ARCHIVE_BLOCK, 1, &error), 0);
    assert_int_equal(archive_add(archive, "top/big", big, 300000, 1700000000, &error), 0);
    assert_false(kp_path_exists(path));
    assert_int_equal(archive_finish(archive, &bytes, &error), 0);
    archive_free(archive);
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_size, bytes);
    assert_int_equal(st.st_mode & 0777, 0600);
    const char *const list[] = {"tar", "-tzf", path, NULL};
    assert_int_equal(kp_run(list, 10000, &out, NULL, &status, &error), 0);
    assert_int_equal(status, 0);
    assert_string_equal(out.data, "top/empty\ntop/block\ntop/big\n");
    kp_buf_done(&out);
    const char *const cat[] = {"tar", "-xOzf", path, "top/big", NULL};
    assert_int_equal(kp_run(cat, 10000, &out, NULL, &status, &error), 0);
    assert_int_equal(out.len, 300000);
    assert_memory_equal(out.data, big, out.len);
    assert_int_equal(kp_remove_tree(dir, &error), 0);
    free(big);
    free(path);
    free(dir);
}

static void one_that_is_not_finished_leaves_nothing(void **state)
{
    char *dir = folder(), *path = kp_asprintf("%s/a.tar.gz", dir), *part = kp_asprintf("%s.part", path);
    struct archive *archive = NULL;
    struct kp_error error = {0};
    assert_int_equal(archive_create(path, &archive, &error), 0);
    assert_true(kp_path_exists(part));
    assert_int_equal(archive_add(archive, "a", "b", 1, 0, &error), 0);
    archive_free(archive);
    assert_false(kp_path_exists(part));
    assert_false(kp_path_exists(path));
    archive = NULL;
    assert_true(archive_create("/nowhere/at/all.tar.gz", &archive, &error) < 0);
    assert_null(archive);
    assert_int_equal(kp_remove_tree(dir, &error), 0);
    free(part);
    free(path);
    free(dir);
}

static void a_full_disk_is_told(void **state)
{
    struct archive *archive = NULL;
    struct kp_error error = {0};
    char *dir = folder(), *path = kp_asprintf("%s/a.tar.gz", dir), *part = kp_asprintf("%s.part", path);
    KP_AUTO_BUF struct kp_buf noise = {0};
    size_t bytes = 0;
    if (symlink("/dev/full", part) < 0)
        fail_msg("symlink");
    kp_buf_reserve(&noise, 1 << 20);
    kp_random_bytes(noise.data, 1 << 20);
    assert_int_equal(archive_create(path, &archive, &error), 0);
    int r = archive_add(archive, "a", noise.data, 1 << 20, 0, &error);
    if (r == 0)
        r = archive_finish(archive, &bytes, &error);
    assert_true(r < 0);
    assert_non_null(strstr(error.message, "No space left"));
    archive_free(archive);
    assert_int_equal(kp_remove_tree(dir, &error), 0);
    free(part);
    free(path);
    free(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_header_is_as_posix_has_it),
        cmocka_unit_test(a_long_name_is_cut_at_a_slash),
        cmocka_unit_test(tar_reads_what_was_written),
        cmocka_unit_test(one_that_is_not_finished_leaves_nothing),
        cmocka_unit_test(a_full_disk_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
