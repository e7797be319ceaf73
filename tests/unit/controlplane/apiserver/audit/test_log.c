/* The audit log's file: lines, rotation, backups, and what a full disk does to it. */
#include "controlplane/apiserver/audit/audit_internal.h"
#include "lib/archive/archive.h"

#include <dirent.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

struct fixture {
    char dir[64];
    char *path; /* in a folder that is not there yet */
    struct kp_arena *arena;
};

static int set_up(void **state)
{
    struct fixture *f = kp_calloc(1, sizeof(*f));
    snprintf(f->dir, sizeof(f->dir), "/tmp/test-audit-log-XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    f->path = kp_asprintf("%s/a/audit.log", f->dir);
    f->arena = kp_arena_new(0);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    struct kp_error error = {0};
    assert_int_equal(kp_remove_tree(f->dir, &error), 0);
    kp_arena_free(f->arena);
    free(f->path);
    free(f);
    return 0;
}

static struct audit_output open_log(struct fixture *f, struct audit_log_config config)
{
    struct audit_output output;
    struct kp_error error = {0};
    config.path = f->path;
    if (audit_log_open(&config, &output, &error) < 0)
        fail_msg("%s", error.message);
    return output;
}

static size_t write_lines(struct audit_output *output, const char *const *lines, struct kp_error *error)
{
    struct kp_blob *events[16] = {0};
    size_t n = 0;
    for (; lines[n]; n++)
        events[n] = kp_blob_new(lines[n], strlen(lines[n]));
    size_t lost = output->write(output->self, NULL, events, n, error);
    for (size_t i = 0; i < n; i++)
        kp_blob_unref(events[i]);
    return lost;
}
#define WRITE(output, error, ...) write_lines((output), (const char *const[]){__VA_ARGS__, NULL}, (error))

static const char *contents(struct fixture *f, const char *path)
{
    KP_AUTO_BUF struct kp_buf text = {0};
    struct kp_error error = {0};
    if (kp_read_file(path, 0, &text, &error) < 0)
        fail_msg("%s", error.message);
    return kp_arena_strndup(f->arena, text.data ? text.data : "", text.len);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* Names in the log's folder, but its own. */
static struct kp_string_list backups(struct fixture *f)
{
    struct kp_string_list names = {0};
    DIR *dir = opendir(kp_arena_printf(f->arena, "%s/a", f->dir));
    assert_non_null(dir);
    for (struct dirent *entry; (entry = readdir(dir));)
        if (*entry->d_name != '.' && strcmp(entry->d_name, "audit.log") != 0)
            kp_string_list_add(f->arena, &names, kp_arena_strdup(f->arena, entry->d_name));
    closedir(dir);
    if (names.len)
        qsort(names.items, names.len, sizeof(*names.items), by_name);
    return names;
}

static const char *in_folder(struct fixture *f, const char *name)
{
    return kp_arena_printf(f->arena, "%s/a/%s", f->dir, name);
}

static void put_file(struct fixture *f, const char *name, const char *text)
{
    struct kp_error error = {0};
    assert_int_equal(kp_mkdir_p(kp_arena_printf(f->arena, "%s/a", f->dir), 0700, &error), 0);
    assert_int_equal(kp_write_file(in_folder(f, name), text, strlen(text), 0600, &error), 0);
}

static void lines_are_appended_for_the_owner_alone(void **state)
{
    struct fixture *f = *state;
    struct kp_error error = {0};
    struct stat st;
    for (int i = 0; i < 2; i++) {
        struct audit_output output = open_log(f, (struct audit_log_config){.bytes_max = 1000});
        assert_int_equal(WRITE(&output, &error, "{1}", "{2}"), 0);
        output.free(output.self);
    }
    assert_string_equal(contents(f, f->path), "{1}\n{2}\n{1}\n{2}\n");
    assert_int_equal(stat(f->path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    assert_int_equal(stat(kp_arena_printf(f->arena, "%s/a", f->dir), &st), 0);
    assert_int_equal(st.st_mode & 0777, 0700);
}

static void a_full_file_becomes_a_backup(void **state)
{
    struct fixture *f = *state;
    struct kp_error error = {0};
    struct audit_output output = open_log(f, (struct audit_log_config){.bytes_max = 8});
    assert_int_equal(WRITE(&output, &error, "one", "two", "three", "a line that is longer than a file may be", "x"), 0);
    output.free(output.self);
    struct kp_string_list names = backups(f);
    assert_int_equal(names.len, 3);
    for (size_t i = 0; i < names.len; i++) {
        int64_t time_ns;
        assert_true(audit_backup_time(f->path, names.items[i], &time_ns));
    }
    assert_string_equal(contents(f, in_folder(f, names.items[0])), "one\ntwo\n");
    assert_string_equal(contents(f, in_folder(f, names.items[1])), "three\n");
    assert_string_equal(contents(f, in_folder(f, names.items[2])), "a line that is longer than a file may be\n");
    assert_string_equal(contents(f, f->path), "x\n");
}

static void backups_are_called_as_lumberjack_calls_them(void **state)
{
    struct fixture *f = *state;
    int64_t time_ns = 0;
    KP_AUTO_FREE char *name = audit_backup_name("/var/log/kubernetes/audit/audit.log", 1795398123456789012), *bare = audit_backup_name("log", 0);
    assert_string_equal(name, "/var/log/kubernetes/audit/audit-2026-11-23T01-42-03.456.log");
    assert_string_equal(bare, "./log-1970-01-01T00-00-00.000");
    assert_true(audit_backup_time("/x/audit.log", "audit-2026-11-23T01-42-03.456.log", &time_ns));
    assert_int_equal(time_ns, 1795398123456000000);
    assert_true(audit_backup_time(f->path, "audit-2026-11-23T01-42-03.456.log.gz", &time_ns));
    static const char *const others[] = {"audit.log", "audit-2026-11-23T01-42-03.456.txt", "audit-2026-11-23T01:42:03.456.log", "audit-2026-13-23T01-42-03.456.log",
                                         "other-2026-11-23T01-42-03.456.log", "audit-2026-11-23T01-42-03.456.log.gz.part", "audit-.log"};
    for (size_t i = 0; i < KP_ARRAY_LEN(others); i++)
        assert_false(audit_backup_time(f->path, others[i], &time_ns));
}

#define NOW 1795398123456000000LL

static void too_many_and_too_old_backups_go(void **state)
{
    struct fixture *f = *state;
    struct kp_error error = {0};
    put_file(f, "audit-2026-11-23T01-00-00.000.log", "new");
    put_file(f, "audit-2026-11-22T01-00-00.000.log", "packed");
    put_file(f, "audit-2026-11-22T01-00-00.000.log.gz", "of the same");
    put_file(f, "audit-2026-11-21T01-00-00.000.log", "third");
    put_file(f, "audit-2026-10-01T01-00-00.000.log", "old");
    put_file(f, "notes.txt", "mine");
    assert_int_equal(audit_backups_tidy(&(struct audit_log_config){.path = f->path, .max_age_days = 30}, NOW, &error), 0);
    assert_int_equal(backups(f).len, 5);
    assert_int_equal(audit_backups_tidy(&(struct audit_log_config){.path = f->path, .max_backups = 2}, NOW, &error), 0);
    struct kp_string_list names = backups(f);
    assert_int_equal(names.len, 4);
    assert_string_equal(names.items[0], "audit-2026-11-22T01-00-00.000.log");
    assert_string_equal(names.items[3], "notes.txt");
    assert_int_equal(audit_backups_tidy(&(struct audit_log_config){.path = f->path}, NOW, &error), 0); /* no bound */
    assert_int_equal(backups(f).len, 4);
}

static void backups_are_compressed(void **state)
{
    struct fixture *f = *state;
    struct kp_error error = {0};
    KP_AUTO_BUF struct kp_buf text = {0}, packed = {0}, out = {0};
    for (int i = 0; i < 20000; i++)
        kp_buf_printf(&text, "{\"line\":%d}\n", i);
    put_file(f, "audit-2026-11-23T01-00-00.000.log", text.data);
    assert_int_equal(audit_backups_tidy(&(struct audit_log_config){.path = f->path, .compress = true}, NOW, &error), 0);
    struct kp_string_list names = backups(f);
    assert_int_equal(names.len, 1);
    assert_string_equal(names.items[0], "audit-2026-11-23T01-00-00.000.log.gz");
    assert_int_equal(kp_read_file(in_folder(f, names.items[0]), 0, &packed, &error), 0);
    assert_true(packed.len < text.len / 4);
    assert_int_equal(archive_gunzip(packed.data, packed.len, text.len, &out, &error), 0);
    assert_int_equal(out.len, text.len);
    assert_memory_equal(out.data, text.data, text.len);
}

/* A limit on the size of files stands for a disk that is full. */
static void a_full_disk_loses_events_but_spoils_no_line(void **state)
{
    struct fixture *f = *state;
    struct kp_error error = {0};
    struct rlimit before, small = {.rlim_cur = 10, .rlim_max = 10};
    struct audit_output output = open_log(f, (struct audit_log_config){0});
    assert_int_equal(WRITE(&output, &error, "12345"), 0);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    small.rlim_max = before.rlim_max;
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    size_t lost = WRITE(&output, &error, "67890", "more");
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    assert_int_equal(lost, 2);
    assert_true(*error.message);
    assert_int_equal(WRITE(&output, &error, "again"), 0);
    output.free(output.self);
    assert_string_equal(contents(f, f->path), "12345\nagain\n");
}

static void a_folder_that_cannot_be_made_is_told_at_the_start(void **state)
{
    struct fixture *f = *state;
    struct audit_output output;
    struct kp_error error = {0};
    put_file(f, "file", "x");
    const struct audit_log_config config = {.path = in_folder(f, "file/audit.log")};
    assert_true(audit_log_open(&config, &output, &error) < 0);
    assert_non_null(strstr(error.message, "--audit-log-path"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(lines_are_appended_for_the_owner_alone, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_full_file_becomes_a_backup, set_up, tear_down),
        cmocka_unit_test_setup_teardown(backups_are_called_as_lumberjack_calls_them, set_up, tear_down),
        cmocka_unit_test_setup_teardown(too_many_and_too_old_backups_go, set_up, tear_down),
        cmocka_unit_test_setup_teardown(backups_are_compressed, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_full_disk_loses_events_but_spoils_no_line, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_folder_that_cannot_be_made_is_told_at_the_start, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
