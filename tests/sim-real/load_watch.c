/* Many watchers, four to a stream, which goes to another member whenever it breaks or falls silent, and resumes. */
#include "tests/sim-real/load.h"

#include "lib/loop/loop.h"

#define STREAM_WATCHERS 4
#define WATCHER_FIRST 1000
#define RETRY_MS 200
#define SILENCE_MS 5000
#define TICK_MS 500
#define REWIND_REVISIONS 2000

struct watcher {
    unsigned id;
    char key[16], end[16]; /* end "": of one key */
    bool endless;
    unsigned flags;
    int64_t next;      /* the revision to resume at; 0: not known yet */
    int64_t reached;   /* of the last event or bookmark */
    int64_t watch_id;  /* on the stream of now; each creation has one of its own */
    bool on_server;
    bool made;         /* the history knows it */
    bool rewinds;      /* resumes further back than it had to */
    bool done;
};
struct stream {
    struct watch_pool *pool;
    size_t index, at;
    struct grpc_channel *channels[LOAD_ENDPOINTS_MAX];
    struct grpc_call *call; /* NULL: none */
    int64_t heard_ms, retry_ms;
    int64_t last_watch_id;
    struct watcher watchers[STREAM_WATCHERS];
};
struct watch_pool {
    struct load *load;
    struct loop_timer *tick;
    struct stream *streams;
    size_t stream_count;
    bool manual_progress;
    bool finishing, over;
    uint64_t random;
    pthread_mutex_t lock; /* of late, for the one who waits */
    size_t late;
};

static struct history_bytes watcher_end(const struct watcher *w)
{
    return w->endless ? LOAD_ENDLESS : w->end[0] ? load_text(w->end) : (struct history_bytes){0};
}

/* ---- requests ---- */
static void send_create(struct stream *s, struct watcher *w, bool may_rewind)
{
    struct load *load = s->pool->load;
    Etcdserverpb__WatchCreateRequest create = ETCDSERVERPB__WATCH_CREATE_REQUEST__INIT;
    Etcdserverpb__WatchRequest request = ETCDSERVERPB__WATCH_REQUEST__INIT;
    Etcdserverpb__WatchCreateRequest__FilterType filter = w->flags & HISTORY_WATCH_NOPUT
                                                              ? ETCDSERVERPB__WATCH_CREATE_REQUEST__FILTER_TYPE__NOPUT
                                                              : ETCDSERVERPB__WATCH_CREATE_REQUEST__FILTER_TYPE__NODELETE;
    struct history_bytes end = watcher_end(w);
    if (!w->made) {
        history_watch(load->history, w->id, load_text(w->key), end, w->next, w->flags);
        w->made = true;
    } else {
        if (may_rewind && w->rewinds && w->next > REWIND_REVISIONS)
            w->next -= (int64_t)(load_random(&s->pool->random) % REWIND_REVISIONS);
        history_watch_resume(load->history, w->id, w->next);
    }
    create.key = (ProtobufCBinaryData){strlen(w->key), (uint8_t *)w->key};
    create.range_end = (ProtobufCBinaryData){end.len, (uint8_t *)(uintptr_t)end.data};
    create.start_revision = w->next;
    create.prev_kv = w->flags & HISTORY_WATCH_PREV_KV;
    create.progress_notify = w->flags & HISTORY_WATCH_PROGRESS;
    create.fragment = w->id % 3 == 0;
    create.watch_id = w->watch_id = ++s->last_watch_id;
    if (w->flags & (HISTORY_WATCH_NOPUT | HISTORY_WATCH_NODELETE)) {
        create.n_filters = 1;
        create.filters = &filter;
    }
    request.request_union_case = ETCDSERVERPB__WATCH_REQUEST__REQUEST_UNION_CREATE_REQUEST;
    request.create_request = &create;
    grpc_call_send(s->call, &request.base); /* a failure arrives at the end of the stream */
}

static void send_progress(struct stream *s)
{
    Etcdserverpb__WatchProgressRequest progress = ETCDSERVERPB__WATCH_PROGRESS_REQUEST__INIT;
    Etcdserverpb__WatchRequest request = ETCDSERVERPB__WATCH_REQUEST__INIT;
    request.request_union_case = ETCDSERVERPB__WATCH_REQUEST__REQUEST_UNION_PROGRESS_REQUEST;
    request.progress_request = &progress;
    grpc_call_send(s->call, &request.base);
}

/* ---- answers ---- */
static void on_events(struct stream *s, struct watcher *w, const Etcdserverpb__WatchResponse *response)
{
    struct load *load = s->pool->load;
    for (size_t i = 0; i < response->n_events; i++) {
        const Mvccpb__Event *event = response->events[i];
        if (!event->kv)
            continue;
        struct history_kv kv = load_kv(event->kv), prev;
        if (event->prev_kv)
            prev = load_kv(event->prev_kv);
        history_watch_event(load->history, w->id, event->type == MVCCPB__EVENT__EVENT_TYPE__DELETE, &kv,
                            event->prev_kv ? &prev : NULL);
        w->reached = kv.mod;
        /* Until the last fragment has come there may be more of this revision. */
        w->next = response->fragment ? kv.mod : kv.mod + 1;
    }
    atomic_fetch_add(&load->events, response->n_events);
}

static void bookmark(struct stream *s, struct watcher *w, int64_t revision)
{
    struct load *load = s->pool->load;
    if (!w->on_server || !w->next)
        return;
    history_watch_progress(load->history, w->id, revision);
    atomic_fetch_add(&load->bookmarks, 1);
    if (revision >= w->next)
        w->next = revision + 1;
    if (revision > w->reached)
        w->reached = revision;
}

static void on_cancelled(struct stream *s, struct watcher *w, const Etcdserverpb__WatchResponse *response)
{
    struct load *load = s->pool->load;
    w->on_server = false;
    if (response->compact_revision) {
        history_watch_compacted(load->history, w->id, response->compact_revision);
        atomic_fetch_add(&load->compactions, 1);
        w->next = response->compact_revision;
        send_create(s, w, false);
        return;
    }
    history_note(load->history, "watcher %u cancelled: %s", w->id, response->cancel_reason);
    grpc_call_cancel(s->call);
}

static void on_message(struct grpc_call *call, const void *message, void *arg)
{
    struct stream *s = arg;
    const Etcdserverpb__WatchResponse *response = message;
    int64_t revision = response->header ? response->header->revision : 0;
    s->heard_ms = kp_mono_ms();
    load_saw(s->pool->load, response->header);
    if (response->watch_id == -1) {
        if (!response->created && !response->canceled && !response->n_events)
            for (size_t i = 0; i < STREAM_WATCHERS; i++)
                bookmark(s, &s->watchers[i], revision);
        return;
    }
    struct watcher *w = NULL;
    for (size_t i = 0; i < STREAM_WATCHERS; i++)
        if (s->watchers[i].watch_id == response->watch_id)
            w = &s->watchers[i];
    if (!w) {
        history_note(s->pool->load->history, "an answer for the unknown watcher %lld", (long long)response->watch_id);
        return;
    }
    if (w->done)
        return;
    if (response->created) {
        w->on_server = !response->canceled;
        history_watch_created(s->pool->load->history, w->id, revision);
        if (!w->next)
            w->next = revision + 1;
    }
    if (response->n_events)
        on_events(s, w, response);
    else if (!response->created && !response->canceled)
        bookmark(s, w, revision);
    if (response->canceled)
        on_cancelled(s, w, response);
}

static void on_end(struct grpc_call *call, enum grpc_status status, const char *message, void *arg)
{
    struct stream *s = arg;
    struct load *load = s->pool->load;
    char why[200];
    snprintf(why, sizeof(why), "%s_%.150s", grpc_status_name(status), message);
    for (size_t i = 0; i < STREAM_WATCHERS; i++) {
        struct watcher *w = &s->watchers[i];
        w->on_server = false;
        if (w->made && !w->done)
            history_watch_break(load->history, w->id, why);
    }
    atomic_fetch_add(&load->breaks, 1);
    grpc_call_unref(s->call);
    s->call = NULL;
    s->at = (s->at + 1) % load->endpoint_count;
    s->retry_ms = kp_mono_ms() + RETRY_MS;
}

/* ---- streams ---- */
static void stream_open(struct stream *s)
{
    static const struct grpc_call_callbacks callbacks = {.on_message = on_message, .on_end = on_end};
    s->heard_ms = kp_mono_ms();
    s->last_watch_id = 0;
    s->call = grpc_call_open(s->channels[s->at], "/etcdserverpb.Watch/Watch", &etcdserverpb__watch_response__descriptor, NULL,
                             &callbacks, s);
    for (size_t i = 0; i < STREAM_WATCHERS; i++)
        if (!s->watchers[i].done)
            send_create(s, &s->watchers[i], true);
}

static bool watcher_caught_up(struct watch_pool *pool, const struct watcher *w)
{
    return w->reached >= atomic_load(&pool->load->revision);
}

static void on_tick(void *arg)
{
    struct watch_pool *pool = arg;
    int64_t now = kp_mono_ms();
    size_t late = 0;
    for (size_t i = 0; i < pool->stream_count; i++) {
        struct stream *s = &pool->streams[i];
        size_t waiting = 0;
        for (size_t k = 0; k < STREAM_WATCHERS; k++) {
            struct watcher *w = &s->watchers[k];
            if (pool->finishing && !w->done && watcher_caught_up(pool, w)) {
                w->done = true;
                history_watch_end(pool->load->history, w->id, w->reached);
            }
            waiting += !w->done;
        }
        late += waiting;
        if (!s->call && waiting && now >= s->retry_ms)
            stream_open(s);
        else if (s->call && now - s->heard_ms > SILENCE_MS)
            grpc_call_cancel(s->call);
        else if (s->call && pool->manual_progress && load_random(&pool->random) % 4 == 0)
            send_progress(s);
        else if (s->call && !pool->finishing && load_random(&pool->random) % 200 == 0)
            grpc_call_cancel(s->call); /* watchers also leave without a reason */
    }
    pthread_mutex_lock(&pool->lock);
    pool->late = late;
    pthread_mutex_unlock(&pool->lock);
}

/* What the four of a stream watch: everything (on few), one key, some keys, deletes or puts of a range. */
static void watcher_init(struct watcher *w, size_t stream, size_t k)
{
    w->id = (unsigned)(WATCHER_FIRST + stream * 10 + k);
    w->flags = HISTORY_WATCH_PROGRESS | (stream % 2 ? HISTORY_WATCH_PREV_KV : 0);
    unsigned key = (unsigned)(stream * 7 % LOAD_KEYS);
    if (k == 0 && stream < 4) {
        w->endless = true;
        w->next = stream < 2 ? 2 : 0;
        w->rewinds = stream == 3;
    } else if (k == 3) {
        snprintf(w->key, sizeof(w->key), "l/");
        snprintf(w->end, sizeof(w->end), "l0");
        w->flags |= stream % 3 == 0 ? HISTORY_WATCH_NOPUT : stream % 3 == 1 ? HISTORY_WATCH_NODELETE : 0;
    } else {
        snprintf(w->key, sizeof(w->key), "k%02u", key);
        if (k == 2)
            snprintf(w->end, sizeof(w->end), "k%02u", key + 4);
        w->rewinds = k == 1 && stream % 2 == 0;
    }
    if (w->endless)
        w->key[0] = 0;
}

static void pool_begin(void *arg)
{
    struct watch_pool *pool = arg;
    pool->tick = loop_timer_new(pool->load->loop, on_tick, pool);
    for (size_t i = 0; i < pool->stream_count; i++)
        stream_open(&pool->streams[i]);
    loop_timer_start(pool->tick, TICK_MS, TICK_MS);
}

struct watch_pool *watch_pool_start(struct load *load, size_t stream_count, bool manual_progress)
{
    struct watch_pool *pool = kp_calloc(1, sizeof(*pool));
    *pool = (struct watch_pool){.load = load, .stream_count = stream_count, .manual_progress = manual_progress,
                                .random = load->seed + 77, .late = 1};
    pthread_mutex_init(&pool->lock, NULL);
    pool->streams = kp_calloc(stream_count, sizeof(*pool->streams));
    for (size_t i = 0; i < stream_count; i++) {
        struct stream *s = &pool->streams[i];
        s->pool = pool;
        s->index = i;
        s->at = i % load->endpoint_count;
        for (size_t e = 0; e < load->endpoint_count; e++)
            s->channels[e] = load_channel(load, e, 2000);
        for (size_t k = 0; k < STREAM_WATCHERS; k++)
            watcher_init(&s->watchers[k], i, k);
    }
    loop_call(load->loop, pool_begin, pool);
    return pool;
}

static void pool_finish(void *arg) { ((struct watch_pool *)arg)->finishing = true; }

static void pool_end(void *arg)
{
    struct watch_pool *pool = arg;
    loop_timer_free(pool->tick);
    for (size_t i = 0; i < pool->stream_count; i++) {
        struct stream *s = &pool->streams[i];
        for (size_t k = 0; k < STREAM_WATCHERS; k++)
            if (!s->watchers[k].done) {
                history_note(pool->load->history, "watcher %u is late: at %lld", s->watchers[k].id,
                             (long long)s->watchers[k].reached);
                s->watchers[k].done = true;
            }
        if (s->call)
            grpc_call_cancel(s->call);
    }
}

size_t watch_pool_finish(struct watch_pool *pool, int64_t timeout_ms)
{
    size_t late;
    int64_t end_ms = kp_mono_ms() + timeout_ms;
    loop_call(pool->load->loop, pool_finish, pool);
    do {
        kp_sleep_ms(TICK_MS);
        pthread_mutex_lock(&pool->lock);
        late = pool->late;
        pthread_mutex_unlock(&pool->lock);
    } while (late && kp_mono_ms() < end_ms);
    loop_call(pool->load->loop, pool_end, pool);
    return late;
}
