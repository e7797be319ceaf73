/* Cluster state: phases, locks, and what is written comes back. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
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

static void the_history_keeps_the_newest_releases(void **state)
{
    struct state_cluster cluster = sample(), again;
    struct state *handle = NULL;
    for (int i = 0; i < STATE_RELEASES_MAX + 2; i++)
        state_add_release(&cluster, kp_arena_printf(arena, "node-%d", i), "v1.36.0");
    cluster.rollout = STATE_ROLLOUT_ROLLBACK;
    assert_int_equal(state_open("demo", true, &handle, NULL), 0);
    assert_int_equal(state_write(handle, &cluster, NULL), 0);
    state_close(handle);
    assert_int_equal(state_read("demo", arena, &again, NULL), 0);
    assert_int_equal(again.n_history, STATE_RELEASES_MAX);
    assert_string_equal(again.history[0].image, "node-2");
    assert_string_equal(again.history[STATE_RELEASES_MAX - 1].image, "node-9");
    assert_string_equal(again.history[0].version, "v1.36.0");
    assert_int_equal(again.rollout, STATE_ROLLOUT_ROLLBACK);
}

static void a_second_command_is_told_who_holds_the_lock(void **state)
{
    struct state *first = NULL, *second = NULL;
    struct kp_error error = {0};
    assert_int_equal(state_open("demo", true, &first, NULL), 0);
    assert_int_equal(state_open("demo", false, &second, &error), KP_ECONFLICT);
    assert_non_null(strstr(error.message, kp_arena_printf(arena, "process %d", (int)getpid())));
    assert_non_null(strstr(error.message, "test_state")); /* the command */
    assert_non_null(strstr(error.message, " since 20"));
    assert_non_null(strstr(error.message, "--lock-timeout"));
    state_close(first);
    assert_int_equal(state_open("demo", false, &second, NULL), 0);
    state_close(second);
}

static void the_time_to_wait_must_be_one(void **state)
{
    struct state *first = NULL, *second = NULL;
    struct kp_error error = {0};
    assert_int_equal(state_open("demo", true, &first, NULL), 0);
    setenv(STATE_LOCK_TIMEOUT_ENV, "long", 1);
    assert_int_equal(state_open("demo", false, &second, &error), KP_EINVALID);
    assert_non_null(strstr(error.message, "\"long\""));
    setenv(STATE_LOCK_TIMEOUT_ENV, "0", 1);
    assert_int_equal(state_open("demo", false, &second, &error), KP_ECONFLICT);
    unsetenv(STATE_LOCK_TIMEOUT_ENV);
    state_close(first);
}

/* The kernel lets go of the lock, whatever the file says. */
static void a_killed_command_holds_nothing(void **state)
{
    struct state *handle = NULL;
    pid_t child = fork();
    if (child == 0) {
        if (state_open("demo", true, &handle, NULL) == 0)
            kill(getpid(), SIGKILL);
        _exit(1);
    }
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status));
    setenv(STATE_LOCK_TIMEOUT_ENV, "0", 1);
    assert_int_equal(state_open("demo", false, &handle, NULL), 0);
    unsetenv(STATE_LOCK_TIMEOUT_ENV);
    state_close(handle);
}

static void *remove_cluster(void *arg)
{
    struct state *first = arg;
    int r = state_remove(first, NULL);
    state_close(first);
    return r == 0 ? arg : NULL;
}

/* The lock of a deleted cluster locks nothing: the one who waited for it is told that there is no cluster. */
static void waiting_for_a_cluster_that_is_deleted_ends(void **state)
{
    struct state *first = NULL, *second = NULL;
    pthread_t thread;
    void *removed = NULL;
    assert_int_equal(state_open("demo", true, &first, NULL), 0);
    setenv(STATE_LOCK_TIMEOUT_ENV, "1m", 1);
    assert_int_equal(pthread_create(&thread, NULL, remove_cluster, first), 0);
    assert_int_equal(state_open("demo", false, &second, NULL), KP_ENOTFOUND);
    unsetenv(STATE_LOCK_TIMEOUT_ENV);
    pthread_join(thread, &removed);
    assert_non_null(removed);
}

static void half_written_files_are_removed_and_others_stay(void **state)
{
    struct state *handle = NULL;
    assert_int_equal(state_open("demo", true, &handle, NULL), 0);
    assert_int_equal(state_write_file(handle, "cluster.json.Ab12Cd", "{", 1, NULL), 0);
    assert_int_equal(state_write_file(handle, "restored-revision.Ab12Cd", "1", 1, NULL), 0);
    assert_int_equal(state_write_file(handle, "cluster.json.backup", "mine", 4, NULL), 0);
    state_close(handle);
    assert_int_equal(state_open("demo", false, &handle, NULL), 0);
    assert_false(kp_path_exists(kp_arena_printf(arena, "%s/demo/cluster.json.Ab12Cd", dir)));
    assert_false(kp_path_exists(kp_arena_printf(arena, "%s/demo/restored-revision.Ab12Cd", dir)));
    assert_true(kp_path_exists(kp_arena_printf(arena, "%s/demo/cluster.json.backup", dir)));
    state_close(handle);
}

/* A limit on the size of files fails writes in the middle, as a full disk does. */
static void a_full_disk_leaves_what_was_there(void **state)
{
    struct state_cluster cluster = sample(), again;
    struct state *handle = NULL;
    struct kp_error error = {0};
    struct rlimit before, small;
    assert_int_equal(state_open("demo", true, &handle, NULL), 0);
    assert_int_equal(state_write(handle, &cluster, NULL), 0);
    assert_int_equal(state_journal(handle, "network", "u-1", NULL), 0);
    getrlimit(RLIMIT_FSIZE, &before);
    small = before;
    small.rlim_cur = 60; /* the next line of the journal begins below, and ends above it */
    signal(SIGXFSZ, SIG_IGN);
    setrlimit(RLIMIT_FSIZE, &small);
    cluster.phase = STATE_READY;
    int wrote = state_write(handle, &cluster, &error), noted = state_journal(handle, "machine", "demo-worker-1", NULL);
    setrlimit(RLIMIT_FSIZE, &before);
    assert_true(wrote < 0 && noted < 0);
    assert_non_null(strstr(error.message, "cluster.json"));
    assert_int_equal(state_read("demo", arena, &again, NULL), 0);
    assert_int_equal(again.phase, STATE_CREATING);
    struct state_event_list events;
    assert_int_equal(state_journal(handle, "machine", "demo-worker-2", NULL), 0);
    assert_int_equal(state_journal_read("demo", arena, &events, NULL), 0);
    assert_int_equal(events.len, 2);
    assert_int_equal(events.torn, 0);
    state_close(handle);
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
        cmocka_unit_test_setup_teardown(the_history_keeps_the_newest_releases, setup, teardown),
        cmocka_unit_test_setup_teardown(a_second_command_is_told_who_holds_the_lock, setup, teardown),
        cmocka_unit_test_setup_teardown(the_time_to_wait_must_be_one, setup, teardown),
        cmocka_unit_test_setup_teardown(a_killed_command_holds_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(waiting_for_a_cluster_that_is_deleted_ends, setup, teardown),
        cmocka_unit_test_setup_teardown(half_written_files_are_removed_and_others_stay, setup, teardown),
        cmocka_unit_test_setup_teardown(a_full_disk_leaves_what_was_there, setup, teardown),
        cmocka_unit_test_setup_teardown(phases_only_go_forward, setup, teardown),
        cmocka_unit_test_setup_teardown(a_folder_without_a_cluster_is_none, setup, teardown),
        cmocka_unit_test_setup_teardown(a_broken_file_is_named, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
