/* Fails every system call of an atomic file write in turn: the file is then the old one or the new one, never a mixture. */
#include "lib/base/base.h"

#include <dirent.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cmocka.h>

/* These stand in for libc's; the call whose turn it is fails with EIO. */
static int fail_at = -1; /* calls until the failing one; -1: none */

static bool turn(void)
{
    if (fail_at < 0 || fail_at-- > 0)
        return false;
    errno = EIO;
    return true;
}

ssize_t write(int fd, const void *data, size_t len)
{
    if (fd <= 2)
        return syscall(SYS_write, fd, data, len);
    /* Short writes are legal: give every one. */
    return turn() ? -1 : syscall(SYS_write, fd, data, KP_MIN(len, (size_t)1000));
}

int fsync(int fd)
{
    return turn() ? -1 : (int)syscall(SYS_fsync, fd);
}

int fchmod(int fd, mode_t mode)
{
    return turn() ? -1 : (int)syscall(SYS_fchmod, fd, mode);
}

int rename(const char *from, const char *to)
{
    return turn() ? -1 : (int)syscall(SYS_rename, from, to);
}

static size_t entries_in(const char *path)
{
    DIR *folder = opendir(path);
    assert_non_null(folder);
    size_t count = 0;
    while (readdir(folder))
        count++;
    closedir(folder);
    return count - 2;
}

static void a_failed_write_leaves_the_old_file_and_no_litter(void **state)
{
    char folder[] = "/tmp/test_faults.XXXXXX";
    assert_non_null(mkdtemp(folder));
    KP_AUTO_FREE char *path = kp_asprintf("%s/f", folder);
    struct kp_error error = {0};
    static char old_text[3000], new_text[3500];
    memset(old_text, 'o', sizeof(old_text));
    memset(new_text, 'n', sizeof(new_text));
    int failures = 0;
    for (int n = 0;; n++) {
        fail_at = -1;
        assert_int_equal(kp_write_file(path, old_text, sizeof(old_text), 0600, &error), 0);
        fail_at = n;
        int rc = kp_write_file(path, new_text, sizeof(new_text), 0600, &error);
        bool reached = fail_at < 0;
        fail_at = -1;
        KP_AUTO_BUF struct kp_buf text = {0};
        assert_int_equal(kp_read_file(path, 0, &text, &error), 0);
        assert_int_equal(entries_in(folder), 1);
        if (!reached) {
            assert_int_equal(rc, 0);
            assert_memory_equal(text.data, new_text, sizeof(new_text));
            break;
        }
        failures++;
        assert_int_equal(rc, KP_EIO);
        if (text.len == sizeof(old_text))
            assert_memory_equal(text.data, old_text, sizeof(old_text));
        else /* only the sync of the folder comes after the rename */
            assert_memory_equal(text.data, new_text, sizeof(new_text));
    }
    assert_int_equal(failures, 8); /* 4 writes, fchmod, fsync, rename, fsync of the folder */
    assert_int_equal(kp_remove_tree(folder, &error), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_failed_write_leaves_the_old_file_and_no_litter),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
