/* Calls of a driver: copies in and out, and a call that never comes back is left behind. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <pthread.h>
#include <unistd.h>

#include "cloud/cloud.h"

#define SHORT_MS 20

static int hang[2], closed; /* a byte in the pipe ends the call that hangs */
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static char late_name[CLOUD_NAME_MAX]; /* what a call that was left behind read from its spec */

static int driver_open(const struct cloud_options *options, void **ret_state, struct kp_error *error)
{
    *ret_state = &closed;
    return 0;
}

static void driver_close(void *state)
{
    pthread_mutex_lock(&mutex);
    closed++;
    pthread_cond_signal(&changed);
    pthread_mutex_unlock(&mutex);
}

static int machine_create(void *state, const struct cloud_machine_spec *spec, struct kp_arena *arena, struct cloud_machine *ret,
                          struct kp_error *error)
{
    char byte;
    if (read(hang[0], &byte, 1) != 1)
        return kp_fail_errno(error, "read");
    ret->name = kp_arena_strdup(arena, spec->name);
    snprintf(late_name, sizeof(late_name), "%s", spec->name);
    return 0;
}

static int machine_list(void *state, const char *uid, struct kp_arena *arena, struct cloud_machine_list *ret, struct kp_error *error)
{
    ret->items = KP_NEW_ARRAY(arena, struct cloud_machine, 2);
    ret->len = 2;
    ret->items[0] = (struct cloud_machine){.name = "a", .cluster_uid = kp_arena_strdup(arena, uid), .created_s = 7};
    ret->items[1] = (struct cloud_machine){.name = "b", .power = CLOUD_POWER_ON};
    return 0;
}

static int machine_delete(void *state, const char *uid, const char *name, struct kp_error *error)
{
    return kp_fail(error, KP_EQUOTA, "no more deletions today");
}

static int owned(void *state, const char *uid, struct kp_arena *arena, struct kp_strings *ret, struct kp_error *error)
{
    kp_strings_add(ret, "machine a");
    return 0;
}

static int machine_console(void *state, const char *uid, const char *name, struct kp_buf *out, struct kp_error *error)
{
    kp_buf_puts(out, "hello");
    return 0;
}

static const struct cloud_driver driver = {
    .name = "slow", .open = driver_open, .close = driver_close, .machine_create = machine_create, .machine_list = machine_list,
    .machine_delete = machine_delete, .machine_console = machine_console, .owned = owned,
};

static int setup(void **state)
{
    closed = 0;
    late_name[0] = 0;
    unsetenv("KPROV_CLOUD_TIMEOUT");
    return pipe(hang);
}

static int teardown(void **state)
{
    close(hang[0]);
    close(hang[1]);
    return 0;
}

static void results_are_copied_to_the_caller(void **state)
{
    struct kp_arena *arena = kp_arena_new(0);
    struct kp_strings lines = {0};
    struct cloud_machine_list list;
    struct kp_error error = {0};
    KP_AUTO_BUF struct kp_buf text = {0};
    struct cloud *cloud = NULL;
    assert_int_equal(cloud_open_driver(&driver, NULL, &cloud, NULL), 0);
    assert_int_equal(cloud_machine_list(cloud, "u", arena, &list, NULL), 0);
    assert_int_equal(list.len, 2);
    assert_string_equal(list.items[0].cluster_uid, "u");
    assert_int_equal(list.items[0].created_s, 7);
    assert_null(list.items[1].cluster_uid);
    assert_int_equal(list.items[1].power, CLOUD_POWER_ON);
    kp_strings_add(&lines, "before");
    assert_int_equal(cloud_owned(cloud, "u", arena, &lines, NULL), 0);
    assert_int_equal(lines.len, 2);
    kp_buf_puts(&text, "> ");
    assert_int_equal(cloud_machine_console(cloud, "u", "a", &text, NULL), 0);
    assert_string_equal(text.data, "> hello");
    assert_int_equal(cloud_machine_delete(cloud, "u", "a", &error), KP_EQUOTA);
    assert_string_equal(error.message, "delete machine a: no more deletions today");
    cloud_close(cloud);
    assert_int_equal(closed, 1);
    kp_strings_done(&lines);
    kp_arena_free(arena);
}

static void a_call_that_hangs_is_left_behind(void **state)
{
    const struct cloud_options options = {.timeout_ms = SHORT_MS};
    struct kp_arena *arena = kp_arena_new(0);
    struct kp_error error = {0};
    struct cloud_machine machine;
    struct cloud *cloud = NULL;
    char name[] = "w-1";
    const struct cloud_machine_spec spec = {.cluster_uid = "u", .name = name};
    assert_int_equal(cloud_open_driver(&driver, &options, &cloud, NULL), 0);
    assert_int_equal(cloud_machine_create(cloud, &spec, arena, &machine, &error), KP_ETIMEOUT);
    assert_non_null(strstr(error.message, "create machine w-1"));
    assert_non_null(strstr(error.message, "has not answered for 0.0 s"));
    assert_non_null(strstr(error.message, "run the same command again"));
    cloud_close(cloud);
    assert_int_equal(closed, 0); /* the call uses the driver's state still */
    memset(name, 'x', 3);        /* and what it was given is its own */
    kp_arena_free(arena);
    assert_int_equal(write(hang[1], "g", 1), 1);
    pthread_mutex_lock(&mutex);
    while (!closed)
        pthread_cond_wait(&changed, &mutex);
    pthread_mutex_unlock(&mutex);
    assert_string_equal(late_name, "w-1");
}

static void the_environment_sets_the_time(void **state)
{
    struct kp_error error = {0};
    struct cloud *cloud = NULL;
    setenv("KPROV_CLOUD_TIMEOUT", "soon", 1);
    assert_int_equal(cloud_open_driver(&driver, NULL, &cloud, &error), KP_EINVALID);
    assert_non_null(strstr(error.message, "KPROV_CLOUD_TIMEOUT is \"soon\""));
    setenv("KPROV_CLOUD_TIMEOUT", "2m", 1);
    assert_int_equal(cloud_open_driver(&driver, NULL, &cloud, &error), 0);
    cloud_close(cloud);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(results_are_copied_to_the_caller, setup, teardown),
        cmocka_unit_test_setup_teardown(a_call_that_hangs_is_left_behind, setup, teardown),
        cmocka_unit_test_setup_teardown(the_environment_sets_the_time, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
