/* Watchers: streams that break with their member and go on at another from the revision after the last they saw. */
#include "tests/sim/world.h"

struct watcher {
    unsigned number; /* in the history: a new one after a compaction */
    struct rng random;
    struct sim_member *member; /* NULL: no stream */
    uint64_t incarnation;
    struct mvcc_watcher *stream;
    char key[8], end[8];
    int64_t next_revision; /* 0: from now on */
    int64_t seen;          /* everything up to here arrived */
    bool stalled;          /* takes nothing: the connection is slow */
    bool opened;           /* the history knows this number */
    bool want_prev;
};

static struct watcher watchers[WATCHERS_MAX];
static unsigned next_number;

static void connect_later(struct watcher *w, int64_t low_ms, int64_t high_ms);

static struct history_kv history_kv(const struct mvcc_kv *kv)
{
    return (struct history_kv){{kv->key.data, kv->key.len}, {kv->value.data ? kv->value.data : (const uint8_t *)"", kv->value.len},
                               kv->create_revision,         kv->mod_revision,
                               kv->version,                 kv->lease};
}

static void over(struct watcher *w, int64_t compact_revision)
{
    counters.watch_compacted++;
    sim_trace("w%u: cancelled, compacted at %lld", w->number, (long long)compact_revision);
    history_watch_compacted(world.history, w->number, compact_revision);
    history_watch_end(world.history, w->number, 0);
    w->opened = false;
    w->number = next_number++;
    w->next_revision = compact_revision;
}

static bool take(void *ctx, struct mvcc_watcher *stream, const struct mvcc_watch_batch *batch)
{
    struct cage_owner *owner = cage_leave();
    struct watcher *w = ctx;
    bool taken = !w->stalled;
    if (!taken) {
        counters.watch_stalls++;
    } else if (batch->compact_revision) {
        over(w, batch->compact_revision);
        w->stream = NULL; /* its member forgets it */
        w->member = NULL;
        connect_later(w, 1, 500);
    }
    for (size_t i = 0; taken && !batch->compact_revision && i < batch->len; i++) {
        const struct mvcc_event *event = batch->events[i];
        struct history_kv kv = history_kv(&event->kv), prev = {0};
        struct mvcc_kv before;
        bool has_prev = w->want_prev && event->prev &&
                        mvcc_kv_decode((struct kp_bytes){event->prev->data, event->prev->len}, &before, NULL) == 0;
        if (has_prev)
            prev = history_kv(&before);
        counters.watch_events++;
        history_watch_event(world.history, w->number, event->is_delete, &kv, has_prev ? &prev : NULL);
        w->seen = event->revision;
        w->next_revision = event->revision + 1;
    }
    if (owner)
        cage_enter(owner);
    return taken;
}

static void created(void *ctx, struct mvcc_watcher *stream, int64_t revision)
{
    struct cage_owner *owner = cage_leave();
    struct watcher *w = ctx;
    history_watch_created(world.history, w->number, revision);
    if (!w->next_revision)
        w->next_revision = revision + 1;
    w->seen = KP_MAX(w->seen, w->next_revision - 1);
    if (owner)
        cage_enter(owner);
}

static void open_stream(void *arg)
{
    struct watcher *w = arg;
    struct mvcc_watch_request request = {.key = {(const uint8_t *)w->key, strlen(w->key)},
                                         .range_end = {(const uint8_t *)w->end, strlen(w->end)},
                                         .start_revision = w->next_revision,
                                         .want_prev = w->want_prev};
    enum mvcc_result rc = mvcc_watch(w->member->server->mvcc, &request, take, w, created, &w->stream);
    if (rc != MVCC_OK)
        sim_fail("sim", "a watch is refused: %d", (int)rc);
}

static void close_stream(void *arg)
{
    struct watcher *w = arg;
    mvcc_watch_cancel(w->member->server->mvcc, w->stream);
}

static void catch_up(void *arg) { server_watch_turn(((struct sim_member *)arg)->server); }

static void connect(void *arg, uint64_t tag)
{
    struct watcher *w = arg;
    struct sim_member *m = &world.members[rng_below(&w->random, world.members_len)];
    if (w->member)
        return;
    if (!member_is_up(m) || m->removed || sim_now_ns < m->busy_until_ns) {
        connect_later(w, 20, 200);
        return;
    }
    w->member = m;
    w->incarnation = m->incarnation;
    w->stalled = false;
    unsigned flags = w->want_prev ? HISTORY_WATCH_PREV_KV : 0;
    if (!w->opened) {
        counters.watches++;
        history_watch(world.history, w->number, (struct history_bytes){w->key, strlen(w->key)},
                      (struct history_bytes){*w->end ? w->end : NULL, strlen(w->end)}, w->next_revision, flags);
        w->opened = true;
    } else {
        counters.watch_resumes++;
        history_watch_resume(world.history, w->number, w->next_revision);
    }
    sim_trace("w%u: watches at %s from %lld", w->number, m->name, (long long)w->next_revision);
    member_call(m, open_stream, w);
}

static void connect_later(struct watcher *w, int64_t low_ms, int64_t high_ms)
{
    event_in(rng_between(&w->random, low_ms, high_ms) * SIM_MS, connect, w, 0);
}

static void progress_now(void *ctx, int64_t revision)
{
    struct cage_owner *owner = cage_leave();
    struct watcher *w = ctx;
    counters.watch_progress++;
    history_watch_progress(world.history, w->number, revision);
    w->seen = KP_MAX(w->seen, revision);
    w->next_revision = KP_MAX(w->next_revision, revision + 1);
    if (owner)
        cage_enter(owner);
}

static void ask_progress(void *arg)
{
    struct watcher *w = arg;
    mvcc_watch_progress(w->member->server->mvcc, &w->stream, 1, progress_now, w);
}

static void resume(void *arg)
{
    struct watcher *w = arg;
    mvcc_watch_resume(w->member->server->mvcc, w->stream);
}

/* Now and then: the stream is slow, or drained, asks how far it is, or moves to another member. */
static void live(void *arg, uint64_t tag)
{
    struct watcher *w = arg;
    event_in(rng_between(&w->random, 20, 400) * SIM_MS, live, w, 0);
    struct sim_member *m = w->member;
    if (!m || !member_is_up(m) || !w->stream || sim_now_ns < m->busy_until_ns)
        return;
    uint64_t what = rng_below(&w->random, 100);
    if (w->stalled && (what < 40 || world.healing)) {
        w->stalled = false;
        if (!member_call(m, resume, w))
            return;
    } else if (w->stalled) {
        return;
    } else if (!world.healing && what < 50) {
        w->stalled = what > 42;
    } else if (what < 70 || world.healing) {
        if (!member_call(m, ask_progress, w))
            return;
    } else if (what < 74) {
        history_watch_break(world.history, w->number, "moves");
        bool lives = member_call(m, close_stream, w);
        if (!lives)
            return; /* watchers_member_down reconnects */
        w->stream = NULL;
        w->member = NULL;
        connect_later(w, 1, 300);
        return;
    }
    if (mvcc_watch_needs_sync(m->server->mvcc))
        member_call(m, catch_up, m);
}

void watchers_member_down(struct sim_member *member)
{
    for (size_t i = 0; i < world.plan.watchers; i++) {
        struct watcher *w = &watchers[i];
        if (w->member != member)
            continue;
        history_watch_break(world.history, w->number, "member down");
        w->member = NULL;
        w->stream = NULL;
        connect_later(w, 1, 1500);
    }
}

void watchers_start(void)
{
    for (size_t i = 0; i < world.plan.watchers; i++) {
        struct watcher *w = &watchers[i];
        *w = (struct watcher){.number = next_number++, .random = rng_fork(&world.random)};
        if (i == 0 || rng_below(&w->random, 3)) { /* one sees everything: what nobody saw is hard to judge */
            strcpy(w->key, "k00");
            strcpy(w->end, "l");
        } else {
            snprintf(w->key, sizeof w->key, "k%02u", (unsigned)rng_below(&w->random, world.plan.keys));
        }
        w->want_prev = rng_below(&w->random, 2);
        w->next_revision = i == 0 ? 1 : 0;
        connect_later(w, 1, 4000);
        event_in(SIM_S, live, w, 0);
    }
}

bool watchers_reached(int64_t revision)
{
    for (size_t i = 0; i < world.plan.watchers; i++)
        if (watchers[i].seen < revision)
            return false;
    return true;
}

void watchers_finish(int64_t revision)
{
    for (size_t i = 0; i < world.plan.watchers; i++)
        if (watchers[i].opened)
            history_watch_end(world.history, watchers[i].number, revision);
}
