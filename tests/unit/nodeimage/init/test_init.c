/* PID 1's parts that need no machine: its config, back-off, log files, and what it reads of cgroups. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <unistd.h>

#include "nodeimage/init/init_internal.h"

static void a_bootstrap_config_is_read(void **state)
{
    static const char text[] =
        "{\"kind\":\"MachineConfig\",\"hostname\":\"n1\",\"network\":{\"interface\":\"eth0\",\"address\":\"10.0.0.2/24\"},"
        "\"sysctls\":{\"net.ipv4.ip_forward\":\"1\"},"
        "\"files\":[{\"path\":\"/etc/a\",\"mode\":\"0600\",\"content\":\"x\"},"
        "{\"path\":\"/etc/b\",\"content\":\"AAE=\",\"encoding\":\"base64\"}],"
        "\"services\":[{\"name\":\"kubelet\",\"command\":[\"/bin/kubelet\",\"--v=2\"],\"waitFor\":\"/run/x\"}]}";
    struct kp_arena *arena = kp_arena_new(0);
    struct init_config config;
    struct kp_error error = {0};
    if (init_config_parse(text, strlen(text), arena, &config, &error) < 0)
        fail_msg("%s", error.message);
    assert_string_equal(config.hostname, "n1");
    assert_string_equal(config.address, "10.0.0.2/24");
    assert_null(config.gateway);
    assert_int_equal(config.n_files, 2);
    assert_int_equal(config.files[0].mode, 0600);
    assert_int_equal(config.files[1].mode, 0644);
    assert_int_equal(config.files[1].len, 2);
    assert_memory_equal(config.files[1].data, "\0\1", 2);
    assert_string_equal(config.services[0].argv[1], "--v=2");
    assert_null(config.services[0].argv[2]);
    kp_arena_free(arena);
}

static void a_wrong_bootstrap_config_is_refused(void **state)
{
    static const char *const wrong[] = {
        "{", "[]", "{\"kind\":\"Pod\",\"hostname\":\"a\"}", "{\"kind\":\"MachineConfig\"}",
        "{\"kind\":\"MachineConfig\",\"hostname\":\"a\",\"files\":[{\"path\":\"rel\",\"content\":\"\"}]}",
        "{\"kind\":\"MachineConfig\",\"hostname\":\"a\",\"files\":[{\"path\":\"/a/../b\",\"content\":\"\"}]}",
        "{\"kind\":\"MachineConfig\",\"hostname\":\"a\",\"files\":[{\"path\":\"/a\",\"mode\":\"999\",\"content\":\"\"}]}",
        "{\"kind\":\"MachineConfig\",\"hostname\":\"a\",\"files\":[{\"path\":\"/a\",\"content\":\"!\",\"encoding\":\"base64\"}]}",
        "{\"kind\":\"MachineConfig\",\"hostname\":\"a\",\"services\":[{\"name\":\"../x\",\"command\":[\"/a\"]}]}",
        "{\"kind\":\"MachineConfig\",\"hostname\":\"a\",\"services\":[{\"name\":\"x\",\"command\":[]}]}",
        "{\"kind\":\"MachineConfig\",\"hostname\":\"a\",\"services\":[{\"name\":\"x\",\"command\":[1]}]}",
        "{\"kind\":\"MachineConfig\",\"hostname\":\"a\",\"sysctls\":{\"../../etc/passwd\":\"1\"}}",
        "{\"kind\":\"MachineConfig\",\"hostname\":\"a\",\"network\":{\"interface\":\"eth0\"}}",
        "{\"kind\":\"MachineConfig\",\"hostname\":\"a\",\"once\":{}}",
        "{\"kind\":\"MachineConfig\",\"hostname\":\"a\",\"once\":[{\"id\":\"../x\",\"command\":[\"/a\"]}]}",
        "{\"kind\":\"MachineConfig\",\"hostname\":\"a\",\"once\":[{\"id\":\"x\"}]}",
    };
    for (size_t i = 0; i < KP_ARRAY_LEN(wrong); i++) {
        struct kp_arena *arena = kp_arena_new(0);
        struct init_config config;
        if (init_config_parse(wrong[i], strlen(wrong[i]), arena, &config, NULL) >= 0)
            fail_msg("accepted: %s", wrong[i]);
        kp_arena_free(arena);
    }
}

static void what_succeeded_once_is_not_run_again(void **state)
{
    char dir[] = "/tmp/test-once-XXXXXX";
    assert_non_null(mkdtemp(dir));
    KP_AUTO_FREE char *log = kp_asprintf("%s/log", dir);
    KP_AUTO_FREE char *script = kp_asprintf("echo ran >> %s", log);
    KP_AUTO_FREE char *marks = kp_asprintf("%s/marks", dir);
    const char *const good[] = {"sh", "-c", script, NULL}, *const bad[] = {"sh", "-c", "echo no luck >&2; exit 3", NULL};
    struct init_config config = {.once = {{"one", good}, {"two", bad}}, .n_once = 2};
    struct kp_error error = {0};
    KP_AUTO_BUF struct kp_buf text = {0};
    assert_int_equal(init_run_once(&config, marks, &error), KP_EIO);
    assert_non_null(strstr(error.message, "two ended with 3: no luck"));
    config.once[1].argv = good; /* the next boot: only what failed is run */
    assert_int_equal(init_run_once(&config, marks, &error), 0);
    assert_int_equal(init_run_once(&config, marks, &error), 0);
    assert_int_equal(kp_read_file(log, 100, &text, &error), 0);
    assert_string_equal(text.data, "ran\nran\n");
    assert_int_equal(kp_remove_tree(dir, &error), 0);
}

static void only_files_that_differ_are_written(void **state)
{
    char dir[] = "/tmp/test-change-XXXXXX", name[65] = "";
    assert_non_null(mkdtemp(dir));
    assert_int_equal(gethostname(name, sizeof(name) - 1), 0);
    KP_AUTO_FREE char *same = kp_asprintf("%s/same", dir);
    KP_AUTO_FREE char *other = kp_asprintf("%s/new/other", dir);
    struct init_file files[] = {{same, 0644, "x", 1}, {other, 0600, "y", 1}};
    struct init_config config = {.hostname = name, .files = files, .n_files = 2};
    struct kp_error error = {0};
    KP_AUTO_BUF struct kp_buf text = {0};
    size_t changed = 0;
    assert_int_equal(kp_write_file(same, "x", 1, 0644, &error), 0);
    assert_int_equal(init_change(&config, &changed, &error), 0);
    assert_int_equal(changed, 1);
    assert_int_equal(kp_read_file(other, 100, &text, &error), 0);
    assert_string_equal(text.data, "y");
    assert_int_equal(init_change(&config, &changed, &error), 0);
    assert_int_equal(changed, 0);
    config.hostname = "another-machine";
    assert_int_equal(init_change(&config, &changed, &error), KP_EINVALID);
    assert_int_equal(kp_remove_tree(dir, &error), 0);
}

static void back_off_doubles_to_a_bound_and_forgets_after_a_long_run(void **state)
{
    unsigned failures = 0;
    assert_int_equal(init_backoff_ms(&failures, 0), INIT_BACKOFF_MS_MIN);
    assert_int_equal(init_backoff_ms(&failures, 0), INIT_BACKOFF_MS_MIN * 2);
    for (int i = 0; i < 100; i++)
        init_backoff_ms(&failures, 0);
    assert_int_equal(init_backoff_ms(&failures, 0), INIT_BACKOFF_MS_MAX);
    assert_int_equal(init_backoff_ms(&failures, INIT_STABLE_MS), INIT_BACKOFF_MS_MIN);
}

static void cgroup_hierarchies_are_told_from_version_2(void **state)
{
    char names[INIT_CGROUPS_MAX][64];
    assert_int_equal(init_parse_cgroups("0::/\n", names, INIT_CGROUPS_MAX), 0);
    assert_int_equal(init_parse_cgroups("2:cpu,cpuacct:/\n1:name=systemd:/a\n0::/\n", names, INIT_CGROUPS_MAX), 2);
    assert_string_equal(names[0], "cpu,cpuacct");
    assert_string_equal(names[1], "name=systemd");
    assert_int_equal(init_parse_cgroups("junk\n:\n", names, INIT_CGROUPS_MAX), 0);
    assert_int_equal(init_parse_cgroups("1:a:/\n2:b:/\n", names, 1), 1);
}

static void a_full_log_becomes_the_older_one(void **state)
{
    char dir[] = "/tmp/kprov-init-XXXXXX", path[64];
    struct init_log log = {.fd = -1};
    KP_AUTO_BUF struct kp_buf text = {0};
    assert_non_null(mkdtemp(dir));
    assert_int_equal(init_log_open(&log, dir, "kubelet", 10, NULL), 0);
    init_log_write(&log, "12345678", 8);
    init_log_write(&log, "abcdef", 6);
    init_log_close(&log);
    snprintf(path, sizeof(path), "%s/kubelet.log.1", dir);
    assert_int_equal(kp_read_file(path, 0, &text, NULL), 0);
    assert_string_equal(text.data, "12345678");
    kp_buf_done(&text);
    snprintf(path, sizeof(path), "%s/kubelet.log", dir);
    assert_int_equal(kp_read_file(path, 0, &text, NULL), 0);
    assert_string_equal(text.data, "abcdef");
    assert_int_equal(kp_remove_tree(dir, NULL), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_bootstrap_config_is_read),
        cmocka_unit_test(a_wrong_bootstrap_config_is_refused),
        cmocka_unit_test(what_succeeded_once_is_not_run_again),
        cmocka_unit_test(only_files_that_differ_are_written),
        cmocka_unit_test(back_off_doubles_to_a_bound_and_forgets_after_a_long_run),
        cmocka_unit_test(cgroup_hierarchies_are_told_from_version_2),
        cmocka_unit_test(a_full_log_becomes_the_older_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
