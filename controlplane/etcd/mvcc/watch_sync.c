/* Catching up watchers that start in the past or fell behind, from stored history. */
#include "controlplane/etcd/mvcc/mvcc_internal.h"

#define SYNC_WATCHERS_MAX 256               /* looked after in one round */
#define SYNC_RECORDS_MAX 4096               /* records looked at for one watcher in one round, ... */
#define SYNC_EVENTS_MAX 1000                /* ... events and ... */
#define SYNC_BYTES_MAX ((size_t)1 << 20)    /* ... bytes given to it; a revision is never cut */

/* What one watcher is given in a round, and after it those that want the same from the same revision on. */
struct history {
    struct mvcc_watcher like; /* what it asks for; a copy, for it may go */
    struct kp_blob *key, *range_end;
    bool read;                /* all that follows holds for watchers like that from this revision on */
    int64_t from, upto;       /* what was looked at */
    uint64_t id;              /* of the batch, once it was given to one, ... */
    int64_t revision;         /* ... and the store's revision then */
    struct mvcc_event **events;
    size_t len, cap, bytes;
    size_t looked_at;
    int64_t last;    /* the newest revision looked at */
    bool full, bad;  /* stopped before the end; stopped at a record that does not decode */
    struct kp_blob **pending; /* records no snapshot has, ascending */
    size_t pending_len, pending_cap;
};

static void event_free(struct mvcc_event *event)
{
    kp_blob_unref(event->record);
    kp_blob_unref(event->prev);
    free(event);
}

static bool history_full(struct history *h, int64_t revision)
{
    if (revision == h->last)
        return false; /* the rest of a revision that was begun */
    h->full = h->looked_at >= SYNC_RECORDS_MAX || h->len >= SYNC_EVENTS_MAX || h->bytes >= SYNC_BYTES_MAX;
    return h->full;
}

/* Looks at one record; takes a reference of blob, or copies the record when blob is NULL. */
static bool look_at(struct history *h, int64_t revision, struct kp_bytes record, struct kp_blob *blob)
{
    if (history_full(h, revision))
        return false;
    h->last = revision;
    h->looked_at++;
    struct mvcc_event event = {.revision = revision};
    if (mvcc_kv_decode(record, &event.kv, NULL) < 0) {
        h->bad = true;
        return false;
    }
    event.is_delete = event.kv.version == 0;
    if (!watch_wants(&h->like, &event))
        return true;
    struct mvcc_event *kept = kp_malloc(sizeof *kept);
    *kept = event;
    kept->record = blob ? kp_blob_ref(blob) : kp_blob_new(record.data, record.len);
    int rc = mvcc_kv_decode((struct kp_bytes){kept->record->data, kept->record->len}, &kept->kv, NULL);
    KP_ASSERT(rc == 0);
    if (h->len == h->cap) {
        h->cap = h->cap ? h->cap * 2 : 16;
        h->events = kp_realloc(h->events, h->cap * sizeof(struct mvcc_event *));
    }
    h->events[h->len++] = kept;
    h->bytes += record.len;
    return true;
}

static bool look_at_stored(void *ctx, int64_t main, int32_t sub, struct kp_bytes record)
{
    return look_at(ctx, main, record, NULL);
}

static bool keep_pending(void *ctx, int64_t main, int32_t sub, struct kp_blob *record)
{
    struct history *h = ctx;
    if (h->pending_len == h->pending_cap) {
        h->pending_cap = h->pending_cap ? h->pending_cap * 2 : 64;
        h->pending = kp_realloc(h->pending, h->pending_cap * sizeof(struct kp_blob *));
    }
    h->pending[h->pending_len++] = kp_blob_ref(record);
    return true;
}

static void history_init(struct history *h, const struct mvcc_watcher *w)
{
    *h = (struct history){.from = w->next_revision};
    h->key = kp_blob_new(w->key.data ? w->key.data : (const uint8_t *)"", w->key.len);
    h->range_end = kp_blob_new(w->range_end.data ? w->range_end.data : (const uint8_t *)"", w->range_end.len);
    h->like = (struct mvcc_watcher){.key = {h->key->data, h->key->len},
                                    .range_end = {h->range_end->data, h->range_end->len},
                                    .no_put = w->no_put,
                                    .no_delete = w->no_delete,
                                    .want_prev = w->want_prev,
                                    .next_revision = w->next_revision};
}

static void history_done(struct history *h)
{
    kp_blob_unref(h->key);
    kp_blob_unref(h->range_end);
    for (size_t i = 0; i < h->len; i++)
        event_free(h->events[i]);
    free(h->events);
    mvcc_blobs_free(h->pending, h->pending_len);
}

/* Reads without any lock: first what is stored, then what was pending when the snapshot was opened. */
static int read_history(struct history *h, struct backend_reader *reader, int64_t from, struct kp_error *error)
{
    if (backend_reader_scan(reader, from, look_at_stored, h, error) < 0)
        return error->code;
    int64_t stored = h->last;
    for (size_t i = 0; i < h->pending_len && !h->full && !h->bad; i++) {
        struct kp_bytes record = {h->pending[i]->data, h->pending[i]->len};
        struct mvcc_kv kv;
        if (mvcc_kv_decode(record, &kv, error) < 0)
            return error->code;
        if (kv.mod_revision > stored) /* else it was committed meanwhile and is in both */
            look_at(h, kv.mod_revision, record, h->pending[i]);
    }
    return h->bad ? kp_fail(error, KP_ECORRUPT, "revision %lld does not decode", (long long)h->last) : 0;
}

static void find_previous(struct mvcc *mvcc, struct history *h)
{
    for (size_t i = 0; i < h->len; i++) {
        backend_read_lock(mvcc->backend);
        watch_find_previous(mvcc, h->events[i]);
        backend_read_unlock(mvcc->backend);
    }
}

/* Under both locks: tells a watcher whose next revision is gone. */
static void end_compacted(struct mvcc *mvcc, struct mvcc_watcher *w)
{
    struct mvcc_watch_batch batch = {
        .id = ++mvcc->hub.batches, .revision = mvcc->revision, .compact_revision = mvcc->compact_revision};
    watch_set_state(&mvcc->hub, w, w->sink(w->ctx, w, &batch) ? WATCHER_ENDED : WATCHER_FULL);
}

/* Under both locks: gives what was read. */
static void deliver(struct mvcc *mvcc, struct mvcc_watcher *w, struct history *h)
{
    if (w->cancelled)
        return;
    if (h->len) {
        if (!h->id) {
            h->id = ++mvcc->hub.batches;
            h->revision = mvcc->revision;
        }
        struct mvcc_watch_batch batch = {
            .id = h->id, .events = h->events, .len = h->len, .with_prev = w->want_prev, .revision = h->revision};
        if (!w->sink(w->ctx, w, &batch)) {
            watch_set_state(&mvcc->hub, w, WATCHER_FULL);
            return;
        }
        mvcc->hub.events += h->len;
    }
    w->next_revision = h->upto + 1;
    if (w->next_revision > mvcc->revision)
        watch_set_state(&mvcc->hub, w, WATCHER_SYNCED);
}

static void lock_both(struct mvcc *mvcc)
{
    backend_read_lock(mvcc->backend);
    pthread_mutex_lock(&mvcc->hub.mutex);
}

static void unlock_both(struct mvcc *mvcc)
{
    pthread_mutex_unlock(&mvcc->hub.mutex);
    backend_read_unlock(mvcc->backend);
}

enum next_step { STEP_DONE, STEP_READ, STEP_GIVE };

/* Under both locks. */
static enum next_step next_step(struct mvcc *mvcc, struct mvcc_watcher *w, const struct history *h)
{
    if (w->cancelled)
        return STEP_DONE;
    if (w->next_revision > mvcc->revision) {
        watch_set_state(&mvcc->hub, w, WATCHER_SYNCED);
        return STEP_DONE;
    }
    if (w->next_revision < mvcc->compact_revision) {
        end_compacted(mvcc, w);
        return STEP_DONE;
    }
    return h->read && h->from == w->next_revision && watch_is_alike(&h->like, w) ? STEP_GIVE : STEP_READ;
}

/* Under both locks, which it gives up: reads what the watcher wants next. */
static void read_for(struct mvcc *mvcc, struct mvcc_watcher *w, struct history *h)
{
    struct backend_reader *reader = NULL;
    struct kp_error error = {0};
    history_done(h);
    history_init(h, w);
    h->upto = mvcc->revision;
    bool opened = backend_reader_begin(mvcc->backend, &reader, &error) == 0;
    if (opened)
        backend_pending_scan(mvcc->backend, h->from, keep_pending, h);
    unlock_both(mvcc);
    int rc = opened ? read_history(h, reader, h->from, &error) : error.code;
    backend_reader_end(reader); /* before any lock is taken again: whoever replaces the file waits for it */
    if (rc == 0 && h->like.want_prev)
        find_previous(mvcc, h);
    h->read = rc == 0;
    if (h->full)
        h->upto = h->last;
    if (rc < 0)
        kp_error_log("watcher cannot read its history", "err", error.message, NULL);
}

/* w is busy: it stays allocated. */
static void sync_one(struct mvcc *mvcc, struct mvcc_watcher *w, struct history *h)
{
    lock_both(mvcc);
    enum next_step step = next_step(mvcc, w, h);
    if (step == STEP_READ) {
        read_for(mvcc, w, h);
        lock_both(mvcc);
        step = h->read ? STEP_GIVE : STEP_DONE;
    }
    if (step == STEP_GIVE)
        deliver(mvcc, w, h);
    w->busy = false;
    pthread_cond_broadcast(&mvcc->hub.idle);
    unlock_both(mvcc);
}

bool mvcc_watch_sync(struct mvcc *mvcc)
{
    struct watch_hub *hub = &mvcc->hub;
    struct mvcc_watcher *round[SYNC_WATCHERS_MAX];
    size_t len = 0;
    pthread_mutex_lock(&hub->mutex);
    for (struct mvcc_watcher *w = hub->lagging.head; w && len < SYNC_WATCHERS_MAX; w = w->next) {
        if (w->state == WATCHER_UNSYNCED && !w->cancelled) {
            w->busy = true;
            round[len++] = w;
        }
    }
    pthread_mutex_unlock(&hub->mutex);
    struct history history = {0};
    for (size_t i = 0; i < len; i++)
        sync_one(mvcc, round[i], &history);
    history_done(&history);
    return mvcc_watch_needs_sync(mvcc);
}
