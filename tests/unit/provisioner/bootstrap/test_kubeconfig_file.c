/* The user's kubeconfig survives whoever is killed while writing it: the lock, what was half written, its mode and its symbolic link. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "provisioner/bootstrap/bootstrap.h"
#include "provisioner/bootstrap/kubeconfig_file.h"

static char dir[] = "/tmp/kprov-kubeconfig-XXXXXX";
static char path[64], lock[64], unready[64];

static const char context[] = "clusters: [{name: x, cluster: {server: 'https://x'}}]\nusers: [{name: x, user: {token: t}}]\n"
                              "contexts: [{name: x, context: {cluster: x, user: x}}]\n";

static int setup(void **state)
{
    memcpy(dir + sizeof(dir) - 7, "XXXXXX", 6);
    if (!mkdtemp(dir))
        return -1;
    snprintf(path, sizeof(path), "%s/config", dir);
    snprintf(lock, sizeof(lock), "%s/config.lock", dir);
    snprintf(unready, sizeof(unready), "%s/config.kprov", dir);
    return 0;
}

static int teardown(void **state)
{
    return kp_remove_tree(dir, NULL);
}

static void assert_only_config(void)
{
    assert_true(kp_path_exists(path));
    assert_false(kp_path_exists(lock));
    assert_false(kp_path_exists(unready));
}

/* A process that holds the lock and has half written a new file; gives its pid once it is that far. */
static pid_t start_holder(void)
{
    int ready[2];
    char byte = 0;
    assert_int_equal(pipe(ready), 0);
    pid_t pid = fork();
    if (pid == 0) {
        struct kubeconfig_file file;
        if (kubeconfig_file_lock(&file, path, NULL) < 0 || kp_write_file(unready, "cluster", 7, 0600, NULL) < 0 ||
            write(ready[1], "r", 1) != 1)
            _exit(1);
        for (;;)
            pause();
    }
    close(ready[1]);
    assert_int_equal(read(ready[0], &byte, 1), 1);
    close(ready[0]);
    return pid;
}

static void end(pid_t pid)
{
    kill(pid, SIGKILL);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
}

static void what_a_killed_kprov_held_is_taken_over(void **state)
{
    end(start_holder());
    assert_true(kp_path_exists(lock) && kp_path_exists(unready));
    assert_int_equal(kubeconfig_merge(path, "x", context, NULL), 0);
    assert_only_config();
}

/* The first creation ever: there is no kubeconfig yet, only the dead one's lock. */
static void a_dead_lock_without_a_file_goes_when_the_cluster_is_deleted(void **state)
{
    end(start_holder());
    assert_int_equal(kubeconfig_unmerge(path, "x", NULL), 0);
    assert_false(kp_path_exists(path));
    assert_false(kp_path_exists(lock));
    assert_false(kp_path_exists(unready));
}

/* What deleting a cluster does though its context never came into the file. */
static void what_is_mended_is_the_dead_one_s_alone(void **state)
{
    assert_int_equal(kp_write_file(path, "{}", 2, 0600, NULL), 0);
    end(start_holder());
    kubeconfig_file_mend(path);
    assert_only_config();
    kubeconfig_file_mend(path);
    assert_only_config();
    pid_t holder = start_holder();
    kubeconfig_file_mend(path);
    assert_true(kp_path_exists(lock) && kp_path_exists(unready));
    end(holder);
    kubeconfig_file_mend(path);
    int fd = open(lock, O_CREAT | O_EXCL | O_WRONLY, 0);
    assert_true(fd >= 0);
    close(fd);
    kubeconfig_file_mend(path);
    assert_true(kp_path_exists(lock)); /* kubectl's */
}

static void a_living_one_is_waited_for(void **state)
{
    pid_t holder = start_holder(), writer = fork();
    if (writer == 0)
        _exit(kubeconfig_merge(path, "x", context, NULL) < 0);
    int status = -1;
    kp_sleep_ms(100);
    assert_int_equal(waitpid(writer, &status, WNOHANG), 0);
    assert_false(kp_path_exists(path));
    end(holder);
    assert_int_equal(waitpid(writer, &status, 0), writer);
    assert_int_equal(status, 0);
    assert_only_config();
}

/* kubectl's lock is empty and without a right for anybody. */
static void a_lock_of_kubectls_is_left_alone_and_named(void **state)
{
    struct kp_error error = {0};
    int fd = open(lock, O_CREAT | O_EXCL | O_WRONLY, 0);
    assert_true(fd >= 0);
    close(fd);
    assert_int_equal(kubeconfig_merge(path, "x", context, &error), KP_ECONFLICT);
    assert_non_null(strstr(error.message, lock));
    assert_true(kp_path_exists(lock));
    assert_false(kp_path_exists(path));
}

static void mode_and_symbolic_link_stay(void **state)
{
    char real[64];
    struct stat st;
    snprintf(real, sizeof(real), "%s/dotfile", dir);
    assert_int_equal(kp_write_file(real, "{}", 2, 0640, NULL), 0);
    assert_int_equal(symlink("dotfile", path), 0);
    if (geteuid() == 0)
        assert_int_equal(chown(real, 1234, 1234), 0);
    assert_int_equal(kubeconfig_merge(path, "x", context, NULL), 0);
    assert_int_equal(lstat(path, &st), 0);
    assert_true(S_ISLNK(st.st_mode));
    assert_int_equal(lstat(real, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0640);
    if (geteuid() == 0)
        assert_int_equal(st.st_uid, 1234);
    assert_false(kp_path_exists(lock));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(what_a_killed_kprov_held_is_taken_over, setup, teardown),
        cmocka_unit_test_setup_teardown(a_dead_lock_without_a_file_goes_when_the_cluster_is_deleted, setup, teardown),
        cmocka_unit_test_setup_teardown(what_is_mended_is_the_dead_one_s_alone, setup, teardown),
        cmocka_unit_test_setup_teardown(a_living_one_is_waited_for, setup, teardown),
        cmocka_unit_test_setup_teardown(a_lock_of_kubectls_is_left_alone_and_named, setup, teardown),
        cmocka_unit_test_setup_teardown(mode_and_symbolic_link_stay, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
