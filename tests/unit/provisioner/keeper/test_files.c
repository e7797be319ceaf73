/* The folder of snapshots: only a machine's own are its own, and what an interrupted attempt left goes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdlib.h>

#include "provisioner/keeper/keeper.h"

static char dir[] = "/tmp/test-keeper-XXXXXX";

static int setup(void **state)
{
    snprintf(dir, sizeof(dir), "/tmp/test-keeper-XXXXXX");
    return mkdtemp(dir) ? 0 : -1;
}

static int teardown(void **state)
{
    struct kp_error error = {0};
    return kp_remove_tree(dir, &error);
}

static void put(const char *name)
{
    struct kp_error error = {0};
    KP_AUTO_FREE char *path = kp_asprintf("%s/%s", dir, name);
    assert_int_equal(kp_write_file(path, "x", 1, 0600, &error), 0);
}

static bool there(const char *name)
{
    KP_AUTO_FREE char *path = kp_asprintf("%s/%s", dir, name);
    return kp_path_exists(path);
}

static void the_oldest_of_the_machines_own_go(void **state)
{
    const struct keeper_config config = {.every_s = 60, .keep = 2, .dir = dir};
    struct kp_error error = {0};
    put("demo-cp-1-r10-20260101T000000Z.db");
    put("demo-cp-1-r9-20260102T000000Z.db");
    put("demo-cp-1-r30-20260103T000000Z.db");
    put("demo-cp-2-r1-20250101T000000Z.db");
    put("demo-cp-1-20250101T000000Z.db");
    put("mine.db");
    put(".demo-cp-1.part");
    put(".demo-cp-2.part");
    assert_int_equal(keeper_clean(&config, "demo-cp-1", &error), 0);
    assert_false(there("demo-cp-1-r10-20260101T000000Z.db"));
    assert_true(there("demo-cp-1-r9-20260102T000000Z.db"));
    assert_true(there("demo-cp-1-r30-20260103T000000Z.db"));
    assert_true(there("demo-cp-2-r1-20250101T000000Z.db"));
    assert_true(there("demo-cp-1-20250101T000000Z.db"));
    assert_true(there("mine.db"));
    assert_false(there(".demo-cp-1.part"));
    assert_true(there(".demo-cp-2.part"));
}

static void a_folder_that_is_not_there_is_empty(void **state)
{
    const struct keeper_config config = {.every_s = 60, .keep = 2, .dir = "/nowhere/at/all"};
    struct keeper_file *files = kp_calloc(KEEPER_FILES_MAX, sizeof(*files));
    struct kp_error error = {0};
    size_t n = 1;
    assert_int_equal(keeper_list(config.dir, "demo-cp-1", files, &n, &error), 0);
    assert_int_equal(n, 0);
    assert_int_equal(keeper_clean(&config, "demo-cp-1", &error), 0);
    free(files);
}

static void names_are_read_as_they_are_made(void **state)
{
    static const char *const bad[] = {
        "", "demo.db", "demo-20261121T101855Z.db", "demo-r-20261121T101855Z.db", "-r1-20261121T101855Z.db", "r1-20261121T101855Z.db",
        "demo-r1-20261121T101855Z.db.json", "demo-r1-20261121T101855.db", ".demo-r1-20261121T101855Z.db", "de mo-r1-20261121T101855Z.db",
        "de/mo-r1-20261121T101855Z.db", "demo-r1234567890123456789-20261121T101855Z.db", "demo-x1-20261121T101855Z.db",
        "a123456789a123456789a123456789a123456789a123456789a123456789a123456789-r1-20261121T101855Z.db",
    };
    char name[SNAPSHOT_NAME_MAX];
    struct snapshot_scheduled found;
    for (size_t i = 0; i < KP_ARRAY_LEN(bad); i++)
        assert_true(snapshot_scheduled_parse(bad[i], &found) < 0);
    snapshot_scheduled_name("a-r5-cp-1", 4711, 1795256335, name);
    assert_string_equal(name, "a-r5-cp-1-r4711-20261121T101855Z.db");
    assert_int_equal(snapshot_scheduled_parse(name, &found), 0);
    assert_string_equal(found.machine, "a-r5-cp-1");
    assert_int_equal(found.revision, 4711);
    assert_int_equal(found.taken_s, 1795256335);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_oldest_of_the_machines_own_go, setup, teardown),
        cmocka_unit_test(a_folder_that_is_not_there_is_empty),
        cmocka_unit_test(names_are_read_as_they_are_made),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
