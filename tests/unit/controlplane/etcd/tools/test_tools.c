/* The sub-commands of etcdutl: their forms of output, and data folders that appear whole or not at all. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <dirent.h>
#include <unistd.h>

#include "controlplane/etcd/tools/tools_internal.h"

#define GOLDEN "tests/golden/etcd/stock-3.5.30.snapshot" /* see test_snapshot.c */

static char *printed_status(enum tools_format format, const char *version)
{
    struct snapshot_status status = {.hash = 0x8d40485e, .revision = 7, .total_keys = 18, .total_size = 24576};
    snprintf(status.version, sizeof status.version, "%s", version);
    char *text = NULL;
    size_t len;
    FILE *out = open_memstream(&text, &len);
    tools_print_status(out, format, &status);
    fclose(out);
    return text;
}

static void check_status(enum tools_format format, const char *version, const char *want)
{
    KP_AUTO_FREE char *text = printed_status(format, version);
    assert_string_equal(text, want);
}

static void status_is_printed_as_etcdutl_does(void **state)
{
    check_status(TOOLS_SIMPLE, "", "8d40485e, 7, 18, 25 kB\n");
    check_status(TOOLS_SIMPLE, "3.6.0", "8d40485e, 7, 18, 25 kB, 3.6.0\n");
    check_status(TOOLS_JSON, "", "{\"hash\":2369800286,\"revision\":7,\"totalKey\":18,\"totalSize\":24576}\n");
    check_status(TOOLS_JSON, "3.6.0",
                 "{\"hash\":2369800286,\"revision\":7,\"totalKey\":18,\"totalSize\":24576,\"version\":\"3.6.0\"}\n");
    check_status(TOOLS_FIELDS, "", "\"Hash\" : 2369800286\n\"Revision\" : 7\n\"Keys\" : 18\n\"Size\" : 24576\n");
    check_status(TOOLS_TABLE, "",
                 "+----------+----------+------------+------------+\n"
                 "|   HASH   | REVISION | TOTAL KEYS | TOTAL SIZE |\n"
                 "+----------+----------+------------+------------+\n"
                 "| 8d40485e |        7 |         18 |      25 kB |\n"
                 "+----------+----------+------------+------------+\n");
}

static void sizes_are_printed_as_go_does(void **state)
{
    static const struct {
        uint64_t bytes;
        const char *text;
    } cases[] = {{0, "0 B"},       {9, "9 B"},           {999, "999 B"},        {1000, "1.0 kB"},
                 {1449, "1.4 kB"}, {20480, "20 kB"},     {24576, "25 kB"},      {344158208, "344 MB"},
                 {9949, "9.9 kB"}, {1000000, "1.0 MB"},  {UINT64_C(2500000000), "2.5 GB"}};
    for (size_t i = 0; i < KP_ARRAY_LEN(cases); i++) {
        char text[24];
        tools_humanize(cases[i].bytes, text);
        assert_string_equal(text, cases[i].text);
    }
}

static void sub_commands_are_told_from_flags(void **state)
{
    assert_true(tools_wanted(2, (char *[]){"etcd", "snapshot"}));
    assert_true(tools_wanted(1, (char *[]){"/usr/bin/etcdutl"}));
    assert_false(tools_wanted(1, (char *[]){"/usr/bin/etcd"}));
    assert_false(tools_wanted(2, (char *[]){"etcd", "--name"}));
    assert_false(tools_wanted(2, (char *[]){"etcd", "snapshots"}));
}

/* ---- data folders ---- */

static int setup(void **state)
{
    char *dir = kp_strdup("/tmp/test-tools-XXXXXX");
    assert_non_null(mkdtemp(dir));
    *state = dir;
    return 0;
}

static int teardown(void **state)
{
    assert_int_equal(kp_remove_tree(*state, NULL), 0);
    free(*state);
    return 0;
}

static size_t entries(const char *path)
{
    size_t count = 0;
    DIR *dir = opendir(path);
    assert_non_null(dir);
    while (readdir(dir))
        count++;
    closedir(dir);
    return count - 2;
}

static struct restore_options options_at(const char *data_dir)
{
    return (struct restore_options){.file = GOLDEN,
                                    .data_dir = data_dir,
                                    .wal_dir = "",
                                    .name = "a",
                                    .initial_cluster = "a=http://127.0.0.1:1,b=http://127.0.0.1:2",
                                    .initial_cluster_token = "token",
                                    .initial_advertise_peer_urls = "http://127.0.0.1:1"};
}

static void a_restored_folder_hashes_as_the_file(void **state)
{
    struct kp_error error = {0};
    KP_AUTO_FREE char *data = kp_asprintf("%s/deep/data", (char *)*state);
    struct restore_options options = options_at(data);
    assert_int_equal(tools_restore(&options, &error), 0);
    struct hash_result of_file, of_folder;
    assert_int_equal(tools_hash(GOLDEN, NULL, 0, &of_file, &error), 0);
    assert_int_equal(tools_hash(NULL, data, 0, &of_folder, &error), 0);
    assert_int_equal(of_file.hash, 1499739214);
    assert_int_equal(of_folder.hash, of_file.hash);
    assert_int_equal(of_folder.hash_revision, 7);
    assert_int_equal(of_folder.compact_revision, 4);
    assert_int_equal(tools_defragment(data, "", &error), 0);
    assert_int_equal(tools_restore(&options, &error), KP_EEXISTS);
    assert_non_null(strstr(error.message, "not empty or could not be read"));
}

static void what_cannot_be_restored_leaves_nothing(void **state)
{
    const char *dir = *state;
    struct kp_error error = {0};
    KP_AUTO_FREE char *data = kp_asprintf("%s/data", dir);
    KP_AUTO_FREE char *wal = kp_asprintf("%s/wal", dir);
    struct restore_options options = options_at(data);
    options.name = "c";
    assert_int_equal(tools_restore(&options, &error), KP_EUSAGE);
    assert_string_equal(error.message, "couldn't find local name \"c\" in the initial cluster configuration");
    options = options_at(data);
    options.file = "tests/unit/controlplane/etcd/tools/test_tools.c";
    assert_true(tools_restore(&options, &error) < 0);
    options = options_at(data);
    options.bump = UINT64_MAX; /* noticed only when all is imported */
    options.wal_dir = wal;
    assert_int_equal(tools_restore(&options, &error), KP_EUSAGE);
    assert_int_equal(entries(dir), 0);
}

static void a_log_apart_is_made_with_the_data(void **state)
{
    const char *dir = *state;
    struct kp_error error = {0};
    KP_AUTO_FREE char *data = kp_asprintf("%s/data", dir);
    KP_AUTO_FREE char *wal = kp_asprintf("%s/log", dir);
    struct restore_options options = options_at(data);
    options.wal_dir = wal;
    assert_int_equal(tools_restore(&options, &error), 0);
    assert_int_equal(entries(dir), 2);
    assert_int_equal(tools_defragment(data, wal, &error), 0);
    KP_AUTO_FREE char *other = kp_asprintf("%s/other", dir);
    options.data_dir = other;
    assert_int_equal(tools_restore(&options, &error), KP_EEXISTS);
    assert_int_equal(entries(dir), 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(status_is_printed_as_etcdutl_does),
        cmocka_unit_test(sizes_are_printed_as_go_does),
        cmocka_unit_test(sub_commands_are_told_from_flags),
        cmocka_unit_test_setup_teardown(a_restored_folder_hashes_as_the_file, setup, teardown),
        cmocka_unit_test_setup_teardown(what_cannot_be_restored_leaves_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(a_log_apart_is_made_with_the_data, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
