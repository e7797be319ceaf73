/* Cluster state: phases, locks, and what is written comes back. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <sys/stat.h>
#include <unistd.h>

#include "provisioner/state/state.h"

static char dir[64];
static struct kp_arena *arena;

static int setup(void **state)
{
    snprintf(dir, sizeof(dir), "/tmp/kprov-state-XXXXXX");
    arena = kp_arena_new(0);
    return mkdtemp(dir) && setenv("KPROV_STATE_DIR", dir, 1) == 0 ? 0 : -1;
}

static int teardown(void **state)
{
    kp_arena_free(arena);
    return kp_remove_tree(dir, NULL);
}

static struct state_cluster sample(void)
{
    struct state_cluster cluster = {.uid = "u-1", .name = "demo", .image = "node-1", .endpoint = "https://a:6443",
                                    .phase = STATE_CREATING, .created_s = 1234};
    config_default("demo", 1, 2, arena, &cluster.config);
    return cluster;
}

static void what_is_written_comes_back_and_is_private(void **state)
{
    struct state_cluster cluster = sample(), again;
    struct state *handle = NULL;
    struct stat st;
    assert_int_equal(state_open("demo", true, &handle, NULL), 0);
    assert_int_equal(state_write(handle, &cluster, NULL), 0);
    state_close(handle);
    struct kp_error error = {0};
    if (state_read("demo", arena, &again, &error) < 0)
        fail_msg("%s", error.message);
    assert_string_equal(again.uid, "u-1");
    assert_string_equal(again.image, "node-1");
    assert_int_equal(again.created_s, 1234);
    assert_int_equal(again.config.pools[0].replicas, 2);
    assert_int_equal(stat(kp_arena_printf(arena, "%s/demo/cluster.json", dir), &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
}

static void a_second_command_is_told_who_holds_the_lock(void **state)
{
    struct state *first = NULL, *second = NULL;
    struct kp_error error = {0};
    assert_int_equal(state_open("demo", true, &first, NULL), 0);
    assert_int_equal(state_open("demo", false, &second, &error), KP_ECONFLICT);
    assert_non_null(strstr(error.message, kp_arena_printf(arena, "process %d", (int)getpid())));
    state_close(first);
    assert_int_equal(state_open("demo", false, &second, NULL), 0);
    state_close(second);
}

static void phases_only_go_forward(void **state)
{
    struct state_cluster cluster = sample();
    struct state *handle = NULL;
    assert_int_equal(state_open("demo", true, &handle, NULL), 0);
    assert_int_equal(state_write(handle, &cluster, NULL), 0);
    cluster.phase = STATE_READY;
    assert_int_equal(state_write(handle, &cluster, NULL), 0);
    cluster.phase = STATE_CREATING;
    assert_int_equal(state_write(handle, &cluster, NULL), KP_ECONFLICT);
    cluster.phase = STATE_DELETING;
    assert_int_equal(state_write(handle, &cluster, NULL), 0);
    cluster.phase = STATE_READY;
    assert_int_equal(state_write(handle, &cluster, NULL), KP_ECONFLICT);
    state_close(handle);
}

static void a_folder_without_a_cluster_is_none(void **state)
{
    struct kp_strings names = {0};
    struct state *handle = NULL;
    struct state_cluster cluster;
    assert_int_equal(state_open("half", true, &handle, NULL), 0);
    assert_int_equal(state_list(&names, NULL), 0);
    assert_int_equal(names.len, 0);
    assert_int_equal(state_read("half", arena, &cluster, NULL), KP_ENOTFOUND);
    assert_int_equal(state_remove(handle, NULL), 0);
    state_close(handle);
    assert_int_equal(state_open("half", false, &handle, NULL), KP_ENOTFOUND);
    assert_int_equal(state_open("../half", true, &handle, NULL), KP_EINVALID);
    kp_strings_done(&names);
}

static void a_broken_file_is_named(void **state)
{
    struct state_cluster cluster;
    struct kp_error error = {0};
    struct state *handle = NULL;
    assert_int_equal(state_open("demo", true, &handle, NULL), 0);
    assert_int_equal(state_write_file(handle, "cluster.json", "{}", 2, NULL), 0);
    state_close(handle);
    assert_int_equal(state_read("demo", arena, &cluster, &error), KP_ECORRUPT);
    assert_non_null(strstr(error.message, "state of cluster demo"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(what_is_written_comes_back_and_is_private, setup, teardown),
        cmocka_unit_test_setup_teardown(a_second_command_is_told_who_holds_the_lock, setup, teardown),
        cmocka_unit_test_setup_teardown(phases_only_go_forward, setup, teardown),
        cmocka_unit_test_setup_teardown(a_folder_without_a_cluster_is_none, setup, teardown),
        cmocka_unit_test_setup_teardown(a_broken_file_is_named, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
