/* A machine's process between clone and exec: it holds nothing of its maker's, so that it ends when the maker does. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <dirent.h>
#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cloud/local/local_internal.h"

static size_t open_files(pid_t pid)
{
    char path[64];
    size_t n = 0;
    snprintf(path, sizeof(path), "/proc/%d/fd", (int)pid);
    DIR *dir = opendir(path);
    for (struct dirent *entry; dir && (entry = readdir(dir));)
        n += entry->d_name[0] != '.' && atoi(entry->d_name) > 2;
    if (dir)
        closedir(dir);
    return n;
}

static void one_that_waits_holds_its_own_pipes_alone(void **state)
{
    static const struct local_spawn nothing;
    struct kp_error error = {0};
    pid_t first, second;
    int release[2], report[2], status;
    if (geteuid() != 0)
        skip();
    int locks[] = {open("/dev/null", O_RDONLY | O_CLOEXEC), open("/dev/null", O_RDONLY | O_CLOEXEC)};
    assert_int_equal(local_spawn(&nothing, &first, &release[0], &report[0], &error), 0);
    assert_int_equal(local_spawn(&nothing, &second, &release[1], &report[1], &error), 0);
    /* Each closes what it was born with in its own time: the second may be through before the first. */
    for (int tries = 0; tries < 1000 && (open_files(first) > 2 || open_files(second) > 2); tries++)
        kp_sleep_ms(10);
    assert_int_equal(open_files(first), 2);
    assert_int_equal(open_files(second), 2);
    /* The maker of the first is gone: the second, which still waits, does not keep it. */
    close(release[0]);
    assert_int_equal(waitpid(first, &status, 0), first);
    assert_int_equal(WEXITSTATUS(status), 1);
    close(release[1]);
    assert_int_equal(waitpid(second, &status, 0), second);
    for (size_t i = 0; i < KP_ARRAY_LEN(locks); i++) {
        close(locks[i]);
        close(report[i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_that_waits_holds_its_own_pipes_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
