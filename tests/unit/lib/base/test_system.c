/* Files, processes, blobs and log lines of lib/base. */
#include "lib/base/base.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static char folder[64];

static int setup(void **state)
{
    snprintf(folder, sizeof(folder), "/tmp/test_base.XXXXXX");
    return mkdtemp(folder) ? 0 : -1;
}

static int teardown(void **state)
{
    return kp_remove_tree(folder, NULL);
}

static const char *in_folder(char out[128], const char *name)
{
    snprintf(out, 128, "%s/%s", folder, name);
    return out;
}

static void file_is_written_whole_with_its_mode(void **state)
{
    char path[128];
    struct kp_error error = {0};
    in_folder(path, "secret");
    assert_int_equal(kp_write_file(path, "one", 3, 0600, &error), 0);
    assert_int_equal(kp_write_file(path, "second", 6, 0640, &error), 0);
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0640);
    KP_AUTO_BUF struct kp_buf text = {0};
    kp_buf_puts(&text, "<");
    assert_int_equal(kp_read_file(path, 0, &text, &error), 0);
    assert_string_equal(text.data, "<second");
    assert_int_equal(kp_read_file(path, 5, &text, &error), KP_ETOOLARGE);
    assert_string_equal(text.data, "<second");
    assert_int_equal(kp_read_file(in_folder(path, "absent"), 0, &text, &error), KP_ENOTFOUND);
    assert_int_equal(kp_write_file(in_folder(path, "no/such/folder"), "x", 1, 0600, &error), KP_ENOTFOUND);
}

static void trees_are_made_and_removed_without_following_links(void **state)
{
    char path[128], outside[128], link[128], inner[128];
    struct kp_error error = {0};
    assert_int_equal(kp_mkdir_p(in_folder(path, "a/b/c/d"), 0755, &error), 0);
    assert_int_equal(kp_mkdir_p(path, 0755, &error), 0);
    assert_int_equal(kp_mkdir_p(in_folder(outside, "outside"), 0755, &error), 0);
    assert_int_equal(kp_write_file(in_folder(inner, "outside/keep"), "x", 1, 0600, &error), 0);
    assert_int_equal(symlink(outside, in_folder(link, "a/b/link")), 0);
    assert_int_equal(kp_remove_tree(in_folder(path, "a"), &error), 0);
    assert_false(kp_path_exists(path));
    assert_true(kp_path_exists(inner));
    assert_int_equal(kp_remove_tree(path, &error), 0);
    assert_int_equal(kp_mkdir_p(in_folder(path, "outside/keep/x"), 0755, &error) < 0, 1);
}

static void removal_stops_at_mounts(void **state)
{
    char source[128], target[128], kept[128], top[128];
    struct kp_error error = {0};
    assert_int_equal(kp_mkdir_p(in_folder(source, "source"), 0755, &error), 0);
    assert_int_equal(kp_write_file(in_folder(kept, "source/kept"), "x", 1, 0600, &error), 0);
    assert_int_equal(kp_mkdir_p(in_folder(target, "top/target"), 0755, &error), 0);
    if (mount(source, target, NULL, MS_BIND, NULL) < 0) {
        print_message("skipped: this machine does not let us mount\n");
        skip();
    }
    assert_int_equal(kp_remove_tree(in_folder(top, "top"), &error), KP_ECONFLICT);
    assert_int_equal(umount(target), 0);
    assert_true(kp_path_exists(kept));
    assert_int_equal(kp_remove_tree(top, &error), 0);
}

static void program_output_and_status_are_collected(void **state)
{
    struct kp_error error = {0};
    KP_AUTO_BUF struct kp_buf out = {0};
    KP_AUTO_BUF struct kp_buf err = {0};
    int status = -1;
    const char *const script[] = {"sh", "-c", "echo to out; echo to err >&2; exit 7", NULL};
    assert_int_equal(kp_run(script, 10000, &out, &err, &status, &error), 0);
    assert_int_equal(status, 7);
    assert_string_equal(out.data, "to out\n");
    assert_string_equal(err.data, "to err\n");
    const char *const killed[] = {"sh", "-c", "kill -9 $$", NULL};
    assert_int_equal(kp_run(killed, 0, NULL, NULL, &status, &error), 0);
    assert_int_equal(status, 137);
    const char *const absent[] = {"/does/not/exist", NULL};
    assert_int_equal(kp_run(absent, 0, NULL, NULL, &status, &error), KP_ENOTFOUND);
    kp_buf_done(&out);
    const char *const big[] = {"sh", "-c", "head -c 300000 /dev/zero", NULL};
    assert_int_equal(kp_run(big, 10000, &out, NULL, &status, &error), 0);
    assert_int_equal(out.len, 300000);
}

static void program_over_its_time_is_killed_with_its_children(void **state)
{
    struct kp_error error = {0};
    KP_AUTO_BUF struct kp_buf out = {0};
    int status = -1;
    const char *const slow[] = {"sh", "-c", "echo $$; sleep 60 & wait", NULL};
    int64_t start_ms = kp_mono_ms();
    assert_int_equal(kp_run(slow, 100, &out, NULL, &status, &error), KP_ETIMEOUT);
    assert_true(kp_mono_ms() - start_ms < 10000);
    /* A daemon that keeps the pipe open does not keep us. */
    const char *const daemon[] = {"sh", "-c", "sleep 3 & echo started", NULL};
    start_ms = kp_mono_ms();
    assert_int_equal(kp_run(daemon, 0, &out, NULL, &status, &error), 0);
    assert_true(kp_mono_ms() - start_ms < 2500);
    assert_true(kp_ends_with(out.data, "started\n"));
}

static void blobs_are_counted(void **state)
{
    struct kp_blob *blob = kp_blob_new("bytes", 5);
    assert_ptr_equal(kp_blob_ref(blob), blob);
    kp_blob_unref(blob);
    assert_string_equal((char *)blob->data, "bytes");
    kp_blob_unref(blob);
    kp_blob_unref(NULL);
}

static void log_line_is_one_line_with_quoted_values(void **state)
{
    char path[128];
    int saved = dup(2);
    int fd = open(in_folder(path, "log"), O_CREAT | O_WRONLY | O_TRUNC, 0600);
    dup2(fd, 2);
    kp_log_init("/usr/bin/prog", KP_LOG_INFO);
    kp_info("pod \"bound\"", "pod", "default/a\nb", "node", NULL, NULL);
    kp_debug("not shown", NULL);
    dup2(saved, 2);
    close(saved);
    close(fd);
    KP_AUTO_BUF struct kp_buf text = {0};
    assert_int_equal(kp_read_file(path, 0, &text, NULL), 0);
    assert_int_equal(text.data[0], 'I');
    assert_true(kp_ends_with(text.data, " prog \"pod \\\"bound\\\"\" pod=\"default/a\\nb\" node=<nil>\n"));
    assert_ptr_equal(strchr(text.data, '\n'), text.data + text.len - 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(file_is_written_whole_with_its_mode),
        cmocka_unit_test(trees_are_made_and_removed_without_following_links),
        cmocka_unit_test(removal_stops_at_mounts),
        cmocka_unit_test(program_output_and_status_are_collected),
        cmocka_unit_test(program_over_its_time_is_killed_with_its_children),
        cmocka_unit_test(blobs_are_counted),
        cmocka_unit_test(log_line_is_one_line_with_quoted_values),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
