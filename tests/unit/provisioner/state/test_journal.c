/* The journal of intents: lines with their outcomes, torn lines, and that it does not grow for ever. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <pthread.h>
#include <unistd.h>

#include "provisioner/state/state.h"

#define WRITERS 4
#define LINES 50

static char dir[64];
static struct kp_arena *arena;
static struct state *handle;

static int setup(void **state)
{
    snprintf(dir, sizeof(dir), "/tmp/kprov-journal-XXXXXX");
    arena = kp_arena_new(0);
    return mkdtemp(dir) && setenv("KPROV_STATE_DIR", dir, 1) == 0 ? state_open("demo", true, &handle, NULL) : -1;
}

static int teardown(void **state)
{
    state_close(handle);
    kp_arena_free(arena);
    return kp_remove_tree(dir, NULL);
}

static struct state_event_list read_all(void)
{
    struct state_event_list list;
    assert_int_equal(state_journal_read("demo", arena, &list, NULL), 0);
    return list;
}

static void intents_come_back_with_their_outcomes(void **state)
{
    struct kp_error error = {0};
    assert_int_equal(state_journal(handle, "machine", "demo-cp-1", NULL), 0);
    assert_int_equal(state_journal_end(handle, "machine", "demo-cp-1", 0, &error), 0);
    kp_fail(&error, KP_EQUOTA, "no more\nmachines today");
    assert_int_equal(state_journal_end(handle, "machine", "demo cp 2", KP_EQUOTA, &error), KP_EQUOTA);
    assert_string_equal(error.message, "no more\nmachines today");
    struct state_event_list list = read_all();
    assert_int_equal(list.len, 3);
    assert_int_equal(list.items[0].outcome, STATE_EVENT_BEGUN);
    assert_true(list.items[0].time_s > 0);
    assert_string_equal(list.items[1].intent, "machine");
    assert_string_equal(list.items[1].object, "demo-cp-1");
    assert_string_equal(list.items[1].detail, "");
    assert_int_equal(list.items[1].outcome, STATE_EVENT_DONE);
    assert_string_equal(list.items[2].object, "demo_cp_2");
    assert_string_equal(list.items[2].detail, "no more machines today");
    assert_string_equal(state_event_outcome_name(list.items[2].outcome), "failed");
}

static void a_line_cut_short_is_left_out_and_the_next_is_whole(void **state)
{
    static const char torn[] = "2026-11-21T03:57:00.000000Z network u-1 begun\nno journal\n2026-11-21T03:57:01.000000Z machine demo-c";
    assert_int_equal(state_write_file(handle, "journal", torn, sizeof(torn) - 1, NULL), 0);
    assert_int_equal(read_all().len, 1);
    assert_int_equal(state_journal(handle, "machine", "demo-cp-1", NULL), 0);
    struct state_event_list list = read_all();
    assert_int_equal(list.len, 2);
    assert_int_equal(list.torn, 2);
    assert_string_equal(list.items[1].object, "demo-cp-1");
}

static void a_cluster_without_a_journal_has_no_events(void **state)
{
    assert_int_equal(read_all().len, 0);
}

static void it_is_bounded_and_keeps_the_newest(void **state)
{
    KP_AUTO_BUF struct kp_buf full = {0};
    while (full.len <= STATE_JOURNAL_MAX)
        kp_buf_puts(&full, "2026-11-21T03:57:00.000000Z machine old begun\n");
    assert_int_equal(state_write_file(handle, "journal", full.data, full.len, NULL), 0);
    assert_int_equal(state_journal(handle, "machine", "new", NULL), 0);
    struct state_event_list list = read_all();
    assert_string_equal(list.items[0].object, "old");
    assert_string_equal(list.items[list.len - 1].object, "new");
    KP_AUTO_BUF struct kp_buf text = {0};
    assert_int_equal(state_read_file("demo", "journal", &text, NULL), 0);
    assert_true(text.len < 100);
}

static void *write_many(void *arg)
{
    int r = 0;
    for (int i = 0; r == 0 && i < LINES; i++)
        r = state_journal(handle, "machine", arg, NULL);
    return r == 0 ? arg : NULL;
}

static void lines_of_several_threads_are_whole(void **state)
{
    pthread_t threads[WRITERS];
    static char name[] = "demo-worker-1";
    for (size_t i = 0; i < WRITERS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, write_many, name), 0);
    for (size_t i = 0; i < WRITERS; i++) {
        void *wrote = NULL;
        pthread_join(threads[i], &wrote);
        assert_ptr_equal(wrote, name);
    }
    struct state_event_list list = read_all();
    assert_int_equal(list.len, WRITERS * LINES);
    assert_int_equal(list.torn, 0);
    for (size_t i = 0; i < list.len; i++)
        assert_string_equal(list.items[i].object, name);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(intents_come_back_with_their_outcomes, setup, teardown),
        cmocka_unit_test_setup_teardown(a_line_cut_short_is_left_out_and_the_next_is_whole, setup, teardown),
        cmocka_unit_test_setup_teardown(a_cluster_without_a_journal_has_no_events, setup, teardown),
        cmocka_unit_test_setup_teardown(it_is_bounded_and_keeps_the_newest, setup, teardown),
        cmocka_unit_test_setup_teardown(lines_of_several_threads_are_whole, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
