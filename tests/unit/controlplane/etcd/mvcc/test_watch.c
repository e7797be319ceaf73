/* Watchers: every event of a watched key once and in order, however slow the reader. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <pthread.h>
#include <unistd.h>

#include "controlplane/etcd/mvcc/mvcc.h"

struct fixture {
    char dir[64], path[96];
    struct backend *backend;
    struct mvcc *mvcc;
};

struct reader {
    char log[8192];
    size_t len;
    _Atomic bool full;
    int64_t compact_revision, created_at;
    int64_t last, events;
    bool out_of_order;
};

static int setup(void **state)
{
    struct fixture *f = kp_calloc(1, sizeof *f);
    strcpy(f->dir, "/tmp/test-watch-XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    snprintf(f->path, sizeof f->path, "%s/db", f->dir);
    struct backend_options options = {.batch_interval_ms = 2};
    assert_int_equal(backend_open(f->path, &options, &f->backend, NULL), 0);
    assert_int_equal(mvcc_open(f->backend, 0, &f->mvcc, NULL), 0);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    mvcc_close(f->mvcc);
    backend_close(f->backend);
    assert_int_equal(kp_remove_tree(f->dir, NULL), 0);
    free(f);
    return 0;
}

static struct kp_bytes B(const char *s) { return (struct kp_bytes){(const uint8_t *)s, strlen(s)}; }

static void put(struct fixture *f, const char *key, const char *value)
{
    struct mvcc_put_request request = {.key = B(key), .value = B(value)};
    mvcc_begin(f->mvcc);
    assert_int_equal(mvcc_put(f->mvcc, &request, NULL, NULL), MVCC_OK);
    mvcc_end(f->mvcc);
}

static void delete(struct fixture *f, const char *key)
{
    int64_t deleted;
    mvcc_begin(f->mvcc);
    assert_int_equal(mvcc_delete_range(f->mvcc, B(key), B(""), &deleted, NULL, NULL), MVCC_OK);
    mvcc_end(f->mvcc);
}

static bool sink(void *ctx, struct mvcc_watcher *watcher, const struct mvcc_watch_batch *batch)
{
    struct reader *r = ctx;
    if (r->full)
        return false;
    r->compact_revision = batch->compact_revision;
    for (size_t i = 0; i < batch->len; i++) {
        const struct mvcc_event *e = batch->events[i];
        r->events++;
        r->out_of_order |= e->revision < r->last;
        r->last = e->revision;
        if (r->len + 64 > sizeof r->log)
            continue;
        r->len += (size_t)snprintf(r->log + r->len, sizeof r->log - r->len, "%s%.*s=%.*s@%lld", e->is_delete ? "-" : "+",
                                   (int)e->kv.key.len, e->kv.key.data, (int)e->kv.value.len,
                                   e->kv.value.len ? (const char *)e->kv.value.data : "", (long long)e->revision);
        if (batch->with_prev && e->prev) {
            struct mvcc_kv prev;
            assert_int_equal(mvcc_kv_decode((struct kp_bytes){e->prev->data, e->prev->len}, &prev, NULL), 0);
            r->len += (size_t)snprintf(r->log + r->len, sizeof r->log - r->len, "<%.*s", (int)prev.value.len, prev.value.data);
        }
        r->len += (size_t)snprintf(r->log + r->len, sizeof r->log - r->len, " ");
    }
    return true;
}

static void created(void *ctx, struct mvcc_watcher *watcher, int64_t revision)
{
    ((struct reader *)ctx)->created_at = revision;
}

static struct mvcc_watcher *watch(struct fixture *f, struct reader *r, struct mvcc_watch_request request)
{
    struct mvcc_watcher *watcher = NULL;
    assert_int_equal(mvcc_watch(f->mvcc, &request, sink, r, created, &watcher), MVCC_OK);
    return watcher;
}

static void a_watcher_gets_what_comes_next(void **state)
{
    struct fixture *f = *state;
    struct reader key = {0}, prefix = {0}, other = {0};
    put(f, "a", "0");
    struct mvcc_watcher *w1 = watch(f, &key, (struct mvcc_watch_request){.key = B("a"), .want_prev = true});
    struct mvcc_watcher *w2 = watch(f, &prefix, (struct mvcc_watch_request){.key = B("a"), .range_end = B("b")});
    struct mvcc_watcher *w3 = watch(f, &other, (struct mvcc_watch_request){.key = B("z")});
    assert_int_equal(key.created_at, 2);
    put(f, "a", "1");
    put(f, "ab", "2");
    put(f, "b", "3");
    delete(f, "a");
    assert_string_equal(key.log, "+a=1@3<0 -a=@6<1 ");
    assert_string_equal(prefix.log, "+a=1@3 +ab=2@4 -a=@6 ");
    assert_string_equal(other.log, "");
    mvcc_watch_cancel(f->mvcc, w1);
    put(f, "a", "4");
    assert_string_equal(key.log, "+a=1@3<0 -a=@6<1 ");
    mvcc_watch_cancel(f->mvcc, w2);
    mvcc_watch_cancel(f->mvcc, w3);
}

static void note_revision(void *ctx, int64_t revision) { *(int64_t *)ctx = revision; }

static void filters_hold_back_puts_or_deletes(void **state)
{
    struct fixture *f = *state;
    struct reader no_put = {0}, no_delete = {0};
    struct mvcc_watcher *w1 = watch(f, &no_put, (struct mvcc_watch_request){.key = B("a"), .no_put = true});
    struct mvcc_watcher *w2 = watch(f, &no_delete, (struct mvcc_watch_request){.key = B("a"), .no_delete = true});
    put(f, "a", "1");
    delete(f, "a");
    assert_string_equal(no_put.log, "-a=@3 ");
    assert_string_equal(no_delete.log, "+a=1@2 ");
    mvcc_watch_cancel(f->mvcc, w1);
    mvcc_watch_cancel(f->mvcc, w2);
}

static void a_watcher_from_the_past_reads_history_and_then_follows(void **state)
{
    struct fixture *f = *state;
    struct reader r = {0};
    put(f, "a", "1");
    put(f, "b", "x");
    assert_int_equal(backend_commit(f->backend, NULL), 0); /* history both stored and pending */
    put(f, "a", "2");
    delete(f, "a");
    struct mvcc_watcher *w = watch(f, &r, (struct mvcc_watch_request){.key = B("a"), .start_revision = 2, .want_prev = true});
    assert_string_equal(r.log, "");
    assert_true(mvcc_watch_needs_sync(f->mvcc));
    while (mvcc_watch_sync(f->mvcc))
        ;
    assert_string_equal(r.log, "+a=1@2 +a=2@4<1 -a=@5<2 ");
    put(f, "a", "3");
    assert_string_equal(r.log, "+a=1@2 +a=2@4<1 -a=@5<2 +a=3@6 ");
    mvcc_watch_cancel(f->mvcc, w);
}

static void a_watcher_of_the_future_waits(void **state)
{
    struct fixture *f = *state;
    struct reader r = {0};
    struct mvcc_watcher *w = watch(f, &r, (struct mvcc_watch_request){.key = B("a"), .start_revision = 4});
    put(f, "a", "1");
    put(f, "a", "2");
    put(f, "a", "3");
    assert_string_equal(r.log, "+a=3@4 ");
    mvcc_watch_cancel(f->mvcc, w);
}

static void a_full_watcher_misses_nothing(void **state)
{
    struct fixture *f = *state;
    struct reader r = {0}, quick = {0};
    struct mvcc_watcher *w = watch(f, &r, (struct mvcc_watch_request){.key = B("a"), .range_end = B("b")});
    struct mvcc_watcher *w2 = watch(f, &quick, (struct mvcc_watch_request){.key = B("a"), .range_end = B("b")});
    put(f, "a", "1");
    r.full = true;
    put(f, "a", "2");
    put(f, "a", "3");
    r.full = false;
    put(f, "a", "4"); /* it fell behind: this must not overtake 2 and 3 */
    assert_string_equal(r.log, "+a=1@2 ");
    assert_int_equal(quick.events, 4);
    assert_false(mvcc_watch_progress(f->mvcc, &w, 1, NULL, NULL));
    mvcc_watch_resume(f->mvcc, w);
    while (mvcc_watch_sync(f->mvcc))
        ;
    assert_string_equal(r.log, "+a=1@2 +a=2@3 +a=3@4 +a=4@5 ");
    struct mvcc_watch_stats stats;
    mvcc_watch_stats(f->mvcc, &stats);
    assert_int_equal(stats.watchers, 2);
    assert_int_equal(stats.slow, 0);
    mvcc_watch_cancel(f->mvcc, w);
    mvcc_watch_cancel(f->mvcc, w2);
}

static void a_watcher_below_the_compaction_is_told_and_ends(void **state)
{
    struct fixture *f = *state;
    struct reader below = {0}, at = {0};
    put(f, "a", "1");
    put(f, "a", "2");
    delete(f, "a");
    mvcc_begin(f->mvcc);
    assert_int_equal(mvcc_compact(f->mvcc, 4), MVCC_OK);
    mvcc_end(f->mvcc);
    while (mvcc_compact_step(f->mvcc))
        ;
    struct mvcc_watcher *w = watch(f, &below, (struct mvcc_watch_request){.key = B("a"), .start_revision = 2});
    struct mvcc_watcher *w2 = watch(f, &at, (struct mvcc_watch_request){.key = B("a"), .start_revision = 4});
    while (mvcc_watch_sync(f->mvcc))
        ;
    assert_int_equal(below.compact_revision, 4);
    assert_string_equal(below.log, "");
    assert_string_equal(at.log, "-a=@4 ");
    put(f, "a", "3");
    assert_string_equal(below.log, "");
    mvcc_watch_cancel(f->mvcc, w);
    mvcc_watch_cancel(f->mvcc, w2);
}

static void held_events_come_together_once_and_before_a_bookmark(void **state)
{
    struct fixture *f = *state;
    struct reader key = {0}, prefix = {0}, twin = {0}, late = {0}, full = {0};
    put(f, "a", "0");
    struct mvcc_watcher *w1 = watch(f, &key, (struct mvcc_watch_request){.key = B("a"), .want_prev = true});
    struct mvcc_watcher *w2 = watch(f, &prefix, (struct mvcc_watch_request){.key = B("a"), .range_end = B("b")});
    struct mvcc_watcher *w3 = watch(f, &twin, (struct mvcc_watch_request){.key = B("a"), .range_end = B("b")});
    struct mvcc_watcher *w4 = watch(f, &full, (struct mvcc_watch_request){.key = B("a"), .range_end = B("b")});
    full.full = true;
    mvcc_watch_hold(f->mvcc);
    put(f, "a", "1");
    put(f, "b", "x");
    put(f, "ab", "2");
    assert_string_equal(key.log, "");
    struct mvcc_watcher *w5 = watch(f, &late, (struct mvcc_watch_request){.key = B("a"), .range_end = B("b")});
    put(f, "a", "3");
    int64_t bookmark = 0;
    assert_true(mvcc_watch_progress(f->mvcc, &w2, 1, note_revision, &bookmark));
    assert_int_equal(bookmark, 6);
    assert_string_equal(prefix.log, "+a=1@3 +ab=2@5 +a=3@6 ");
    delete(f, "a");
    mvcc_watch_release(f->mvcc);
    assert_string_equal(key.log, "+a=1@3<0 +a=3@6<1 -a=@7<3 ");
    assert_string_equal(prefix.log, "+a=1@3 +ab=2@5 +a=3@6 -a=@7 ");
    assert_string_equal(twin.log, prefix.log);
    assert_string_equal(late.log, "+a=3@6 -a=@7 ");
    full.full = false;
    mvcc_watch_resume(f->mvcc, w4);
    while (mvcc_watch_sync(f->mvcc))
        ;
    assert_string_equal(full.log, prefix.log);
    struct mvcc_watcher *all[] = {w1, w2, w3, w4, w5};
    for (size_t i = 0; i < KP_ARRAY_LEN(all); i++)
        mvcc_watch_cancel(f->mvcc, all[i]);
}

static void a_compaction_lets_held_events_have_their_predecessors(void **state)
{
    struct fixture *f = *state;
    struct reader r = {0};
    put(f, "a", "0");
    struct mvcc_watcher *w = watch(f, &r, (struct mvcc_watch_request){.key = B("a"), .want_prev = true});
    mvcc_watch_hold(f->mvcc);
    put(f, "a", "1");
    mvcc_begin(f->mvcc);
    assert_int_equal(mvcc_compact(f->mvcc, 3), MVCC_OK);
    mvcc_end(f->mvcc);
    while (mvcc_compact_step(f->mvcc))
        ;
    mvcc_watch_release(f->mvcc);
    assert_string_equal(r.log, "+a=1@3<0 ");
    mvcc_watch_cancel(f->mvcc, w);
}

static void an_empty_range_is_refused(void **state)
{
    struct fixture *f = *state;
    struct mvcc_watcher *w = NULL;
    struct mvcc_watch_request request = {.key = B("b"), .range_end = B("a")};
    assert_int_equal(mvcc_watch(f->mvcc, &request, sink, NULL, NULL, &w), MVCC_WATCH_EMPTY_RANGE);
}

#define WRITES 20000
static void *write_much(void *arg)
{
    struct fixture *f = arg;
    char value[16];
    for (int i = 0; i < WRITES; i++) {
        snprintf(value, sizeof value, "%d", i);
        put(f, i % 3 ? "a" : "b", value);
    }
    return NULL;
}

static void catching_up_beside_a_writer_gives_each_event_once(void **state)
{
    struct fixture *f = *state;
    struct reader r = {0};
    pthread_t thread;
    put(f, "start", "");
    struct mvcc_watcher *w =
        watch(f, &r, (struct mvcc_watch_request){.key = B("a"), .range_end = B("c"), .start_revision = 2});
    assert_int_equal(pthread_create(&thread, NULL, write_much, f), 0);
    for (int i = 0; i < 50; i++) {
        mvcc_watch_sync(f->mvcc);
        r.full = i % 5 == 4;
        usleep(500);
        r.full = false;
        mvcc_watch_resume(f->mvcc, w);
    }
    pthread_join(thread, NULL);
    mvcc_watch_resume(f->mvcc, w);
    while (mvcc_watch_sync(f->mvcc))
        ;
    assert_false(r.out_of_order);
    assert_int_equal(r.events, WRITES);
    assert_int_equal(r.last, mvcc_revision(f->mvcc));
    mvcc_watch_cancel(f->mvcc, w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_watcher_gets_what_comes_next, setup, teardown),
        cmocka_unit_test_setup_teardown(filters_hold_back_puts_or_deletes, setup, teardown),
        cmocka_unit_test_setup_teardown(a_watcher_from_the_past_reads_history_and_then_follows, setup, teardown),
        cmocka_unit_test_setup_teardown(a_watcher_of_the_future_waits, setup, teardown),
        cmocka_unit_test_setup_teardown(a_full_watcher_misses_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(a_watcher_below_the_compaction_is_told_and_ends, setup, teardown),
        cmocka_unit_test_setup_teardown(held_events_come_together_once_and_before_a_bookmark, setup, teardown),
        cmocka_unit_test_setup_teardown(a_compaction_lets_held_events_have_their_predecessors, setup, teardown),
        cmocka_unit_test_setup_teardown(an_empty_range_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(catching_up_beside_a_writer_gives_each_event_once, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
