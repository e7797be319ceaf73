/* The queue in front of a backend: batches, who waits for what, and what is lost. */
#include "controlplane/apiserver/audit/audit_internal.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

/* An output that notes its batches, and that waits for leave where it is told to. */
struct notes {
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    struct kp_buf batches; /* "a,b;" of each */
    size_t count;
    bool held, entered, broken;
};

static size_t note(void *self, struct audit_sink *sink, struct kp_blob *const *events, size_t count, struct kp_error *error)
{
    struct notes *n = self;
    (void)sink;
    pthread_mutex_lock(&n->mutex);
    n->entered = true;
    pthread_cond_broadcast(&n->changed);
    while (n->held)
        pthread_cond_wait(&n->changed, &n->mutex);
    for (size_t i = 0; i < count; i++)
        kp_buf_printf(&n->batches, "%s%s", i ? "," : "", (const char *)events[i]->data);
    kp_buf_puts(&n->batches, ";");
    n->count += count;
    pthread_cond_broadcast(&n->changed);
    bool broken = n->broken;
    pthread_mutex_unlock(&n->mutex);
    if (broken)
        kp_fail(error, KP_EIO, "broken");
    return broken ? count : 0;
}

static void forget(void *self)
{
    (void)self;
}

static int set_up(void **state)
{
    struct notes *n = kp_calloc(1, sizeof(*n));
    pthread_mutex_init(&n->mutex, NULL);
    pthread_cond_init(&n->changed, NULL);
    *state = n;
    return 0;
}

static int tear_down(void **state)
{
    struct notes *n = *state;
    kp_buf_done(&n->batches);
    free(n);
    return 0;
}

static struct audit_sink *sink_of(struct notes *n, struct audit_sink_config config, bool quick)
{
    const struct audit_output output = {.name = "log", .write = note, .free = forget, .self = n, .quick = quick};
    return audit_sink_new(&config, &output);
}

static int put(struct audit_sink *sink, const char *text, bool wait)
{
    KP_AUTO(kp_blob_unref) struct kp_blob *event = kp_blob_new(text, strlen(text));
    return audit_sink_put(sink, event, wait);
}

static void hold(struct notes *n, bool held)
{
    pthread_mutex_lock(&n->mutex);
    n->held = held;
    pthread_cond_broadcast(&n->changed);
    pthread_mutex_unlock(&n->mutex);
}

static void wait_entered(struct notes *n)
{
    pthread_mutex_lock(&n->mutex);
    while (!n->entered)
        pthread_cond_wait(&n->changed, &n->mutex);
    pthread_mutex_unlock(&n->mutex);
}

static void wait_count(struct notes *n, size_t count)
{
    pthread_mutex_lock(&n->mutex);
    while (n->count < count)
        pthread_cond_wait(&n->changed, &n->mutex);
    pthread_mutex_unlock(&n->mutex);
}

static void a_full_batch_goes_at_once_and_the_rest_at_the_end(void **state)
{
    struct notes *n = *state;
    struct audit_sink *sink = sink_of(n, (struct audit_sink_config){.mode = AUDIT_BATCH, .buffer_size = 10, .batch_max = 3, .batch_max_wait_ms = 3600000}, false);
    for (const char *const *text = (const char *const[]){"a", "b", "c", "d", NULL}; *text; text++)
        assert_int_equal(put(sink, *text, true), 0);
    wait_count(n, 3);
    audit_sink_free(sink);
    assert_string_equal(n->batches.data, "a,b,c;d;");
}

static void a_batch_is_not_larger_than_its_bytes(void **state)
{
    struct notes *n = *state;
    struct audit_sink *sink = sink_of(n, (struct audit_sink_config){.mode = AUDIT_BATCH, .buffer_size = 10, .batch_max = 10, .batch_max_wait_ms = 3600000, .batch_bytes_max = 4}, false);
    for (const char *const *text = (const char *const[]){"aa", "bb", "c", "dddddd", "e", NULL}; *text; text++)
        assert_int_equal(put(sink, *text, false), 0);
    audit_sink_free(sink);
    assert_string_equal(n->batches.data, "aa,bb;c;dddddd;e;");
}

static void what_does_not_fit_is_lost_in_mode_batch(void **state)
{
    struct notes *n = *state;
    n->held = true;
    struct audit_sink *sink = sink_of(n, (struct audit_sink_config){.mode = AUDIT_BATCH, .buffer_size = 2, .batch_max = 1}, false);
    assert_int_equal(put(sink, "a", true), 0);
    wait_entered(n); /* that one is out of the queue */
    assert_int_equal(put(sink, "b", true), 0);
    assert_int_equal(put(sink, "c", true), 0);
    assert_int_equal(put(sink, "d", true), KP_ETOOMANY);
    hold(n, false);
    audit_sink_free(sink);
    assert_string_equal(n->batches.data, "a;b;c;");
}

static void who_waits_has_it_written_or_hears_that_it_is_lost(void **state)
{
    struct notes *n = *state;
    for (int quick = 0; quick < 2; quick++) {
        struct audit_sink *sink = sink_of(n, (struct audit_sink_config){.mode = AUDIT_BLOCKING_STRICT, .buffer_size = 10, .batch_max = 10}, quick);
        n->count = 0;
        assert_int_equal(put(sink, "a", true), 0);
        assert_int_equal(n->count, 1);
        n->broken = true;
        assert_int_equal(put(sink, "b", true), KP_EIO);
        n->broken = false;
        assert_int_equal(put(sink, "c", false), 0); /* from a loop's thread */
        audit_sink_free(sink);
        assert_int_equal(n->count, 3);
    }
    assert_string_equal(n->batches.data, "a;b;c;a;b;c;");
}

struct putter {
    struct audit_sink *sink;
    pthread_t thread;
    char text[16];
    int code;
};

static void *put_one(void *arg)
{
    struct putter *p = arg;
    p->code = put(p->sink, p->text, true);
    return NULL;
}

/* More wait than there is room for, and none is lost. */
static void those_who_wait_wait_for_room_as_well(void **state)
{
    struct notes *n = *state;
    struct putter putters[20];
    struct audit_sink *sink = sink_of(n, (struct audit_sink_config){.mode = AUDIT_BLOCKING, .buffer_size = 3, .batch_max = 2}, true);
    hold(n, true);
    for (size_t i = 0; i < KP_ARRAY_LEN(putters); i++) {
        putters[i].sink = sink;
        snprintf(putters[i].text, sizeof(putters[i].text), "%zu", i);
        assert_int_equal(pthread_create(&putters[i].thread, NULL, put_one, &putters[i]), 0);
    }
    wait_entered(n);
    hold(n, false);
    for (size_t i = 0; i < KP_ARRAY_LEN(putters); i++) {
        pthread_join(putters[i].thread, NULL);
        assert_int_equal(putters[i].code, 0);
    }
    assert_int_equal(n->count, KP_ARRAY_LEN(putters));
    audit_sink_free(sink);
}

static void after_the_end_nothing_is_taken(void **state)
{
    struct notes *n = *state;
    struct audit_sink *sink = sink_of(n, (struct audit_sink_config){.mode = AUDIT_BLOCKING, .buffer_size = 3, .batch_max = 2}, true);
    audit_sink_stop(sink);
    assert_int_equal(put(sink, "a", true), KP_ETOOMANY);
    assert_int_equal(n->count, 0);
    assert_true(audit_sink_pause(sink, 3600000));
    audit_sink_free(sink);
}

/* A burst goes at once; the end does not wait for the rate. */
static void the_throttle_does_not_hold_up_the_end(void **state)
{
    struct notes *n = *state;
    struct audit_sink *sink = sink_of(n, (struct audit_sink_config){.mode = AUDIT_BATCH, .buffer_size = 10, .batch_max = 1, .qps = 0.0001, .burst = 2}, false);
    for (const char *const *text = (const char *const[]){"a", "b", "c", "d", NULL}; *text; text++)
        assert_int_equal(put(sink, *text, true), 0);
    wait_count(n, 2);
    audit_sink_free(sink);
    assert_string_equal(n->batches.data, "a;b;c;d;");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_full_batch_goes_at_once_and_the_rest_at_the_end, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_batch_is_not_larger_than_its_bytes, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_does_not_fit_is_lost_in_mode_batch, set_up, tear_down),
        cmocka_unit_test_setup_teardown(who_waits_has_it_written_or_hears_that_it_is_lost, set_up, tear_down),
        cmocka_unit_test_setup_teardown(those_who_wait_wait_for_room_as_well, set_up, tear_down),
        cmocka_unit_test_setup_teardown(after_the_end_nothing_is_taken, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_throttle_does_not_hold_up_the_end, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
