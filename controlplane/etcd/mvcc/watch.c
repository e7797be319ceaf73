/* Watchers: giving each change to those who asked, as it is applied. */
#include "controlplane/etcd/mvcc/mvcc_internal.h"

void watch_hub_init(struct watch_hub *hub)
{
    pthread_mutex_init(&hub->mutex, NULL);
    pthread_cond_init(&hub->idle, NULL);
}

static void group_remove(struct mvcc_watcher *w)
{
    if (w->prev)
        w->prev->next = w->next;
    else
        w->group->head = w->next;
    if (w->next)
        w->next->prev = w->prev;
    w->group->count--;
    w->group = NULL;
    w->prev = w->next = NULL;
}

static void group_add(struct watch_group *group, struct mvcc_watcher *w)
{
    w->group = group;
    w->prev = NULL;
    w->next = group->head;
    if (group->head)
        group->head->prev = w;
    group->head = w;
    group->count++;
}

static struct watch_group *key_group(struct watch_hub *hub, struct kp_bytes key)
{
    return &hub->by_key[kp_hash64(key.data, key.len) % WATCH_KEY_BUCKETS];
}

void watch_set_state(struct watch_hub *hub, struct mvcc_watcher *w, enum watcher_state state)
{
    if (w->group)
        group_remove(w);
    w->state = state;
    if (state != WATCHER_SYNCED)
        group_add(&hub->lagging, w);
    else
        group_add(w->range_end.len ? &hub->ranges : key_group(hub, w->key), w);
    if (state == WATCHER_UNSYNCED && hub->on_lag)
        hub->on_lag(hub->on_lag_ctx);
}

void watch_rebase(struct mvcc *mvcc, int64_t old_revision)
{
    struct watch_hub *hub = &mvcc->hub;
    pthread_mutex_lock(&hub->mutex);
    KP_ASSERT(hub->pending_len == 0);
    for (size_t i = 0; i <= WATCH_KEY_BUCKETS; i++) {
        struct watch_group *group = i < WATCH_KEY_BUCKETS ? &hub->by_key[i] : &hub->ranges;
        for (struct mvcc_watcher *w = group->head, *next; w; w = next) {
            next = w->next;
            w->next_revision = KP_MAX(w->next_revision, old_revision + 1);
            if (w->next_revision <= mvcc->revision)
                watch_set_state(hub, w, WATCHER_UNSYNCED);
        }
    }
    pthread_mutex_unlock(&hub->mutex);
}

bool watch_wants(const struct mvcc_watcher *w, const struct mvcc_event *event)
{
    if (event->revision < w->next_revision || (event->is_delete ? w->no_delete : w->no_put))
        return false;
    return mvcc_in_range(event->kv.key, w->key, w->range_end);
}

/* Under either lock. */
void watch_find_previous(struct mvcc *mvcc, struct mvcc_event *event)
{
    if (event->prev)
        return;
    const struct mvcc_key *key = index_find(&mvcc->index, event->kv.key);
    const struct mvcc_revision *before = key ? key_revision_at(key, event->revision - 1) : NULL;
    /* A record that cannot be read is as good as compacted: the event itself must not be held back for it. */
    if (before && !before->tombstone && store_fetch(mvcc, before, &event->prev, NULL) != MVCC_OK)
        event->prev = NULL;
}

/* What a watcher wants of the pending events; kept for the next one, which often wants the same. */
struct choice {
    struct mvcc_event **events;
    size_t len;
    uint64_t id;
    const struct mvcc_watcher *like; /* made for this one, ... */
    int64_t from;                    /* ... from this revision on */
};

static bool same_bytes(struct kp_bytes a, struct kp_bytes b) { return a.len == b.len && (!a.len || !memcmp(a.data, b.data, a.len)); }

bool watch_is_alike(const struct mvcc_watcher *a, const struct mvcc_watcher *b)
{
    return a->no_put == b->no_put && a->no_delete == b->no_delete && a->want_prev == b->want_prev &&
           same_bytes(a->key, b->key) && same_bytes(a->range_end, b->range_end);
}

static void choose(struct mvcc *mvcc, const struct mvcc_watcher *w, struct choice *choice)
{
    struct watch_hub *hub = &mvcc->hub;
    int64_t from = KP_MAX(w->next_revision, hub->pending[0].revision);
    if (choice->like && choice->from == from && watch_is_alike(choice->like, w))
        return;
    choice->like = w;
    choice->from = from;
    choice->id = ++hub->batches;
    choice->len = 0;
    for (size_t i = 0; i < hub->pending_len; i++) {
        struct mvcc_event *event = &hub->pending[i];
        if (!watch_wants(w, event))
            continue;
        if (w->want_prev)
            watch_find_previous(mvcc, event);
        choice->events[choice->len++] = event;
    }
}

static void give_one(struct mvcc *mvcc, struct mvcc_watcher *w, struct choice *choice)
{
    choose(mvcc, w, choice);
    if (choice->len == 0)
        return;
    struct mvcc_watch_batch batch = {.id = choice->id,
                                     .events = choice->events,
                                     .len = choice->len,
                                     .with_prev = w->want_prev,
                                     .revision = mvcc->revision};
    if (w->sink(w->ctx, w, &batch)) {
        w->next_revision = mvcc->revision + 1;
        mvcc->hub.events += choice->len;
    } else {
        w->next_revision = KP_MAX(w->next_revision, choice->events[0]->revision);
        watch_set_state(&mvcc->hub, w, WATCHER_FULL);
    }
}

static void pending_clear(struct watch_hub *hub)
{
    for (size_t i = 0; i < hub->pending_len; i++) {
        kp_blob_unref(hub->pending[i].record);
        kp_blob_unref(hub->pending[i].prev);
    }
    hub->pending_len = hub->pending_bytes = 0;
}

void watch_hub_done(struct watch_hub *hub)
{
    KP_ASSERT(hub->watchers == 0);
    pending_clear(hub);
    free(hub->pending);
    pthread_mutex_destroy(&hub->mutex);
    pthread_cond_destroy(&hub->idle);
}

void watch_give_locked(struct mvcc *mvcc)
{
    struct watch_hub *hub = &mvcc->hub;
    if (!hub->pending_len)
        return;
    struct choice choice = {.events = kp_calloc(hub->pending_len, sizeof(struct mvcc_event *))};
    for (struct mvcc_watcher *w = hub->ranges.head, *next; w; w = next) {
        next = w->next;
        give_one(mvcc, w, &choice);
    }
    for (size_t i = 0; i < hub->pending_len; i++) {
        /* With its first event a watcher of one key gets the later ones too, and then wants none of them again. */
        for (struct mvcc_watcher *w = key_group(hub, hub->pending[i].kv.key)->head, *next; w; w = next) {
            next = w->next;
            if (watch_wants(w, &hub->pending[i]))
                give_one(mvcc, w, &choice);
        }
    }
    free(choice.events);
    pending_clear(hub);
}

void watch_give(struct mvcc *mvcc)
{
    pthread_mutex_lock(&mvcc->hub.mutex);
    watch_give_locked(mvcc);
    pthread_mutex_unlock(&mvcc->hub.mutex);
}

void watch_notify(struct mvcc *mvcc, struct mvcc_event *events, size_t len)
{
    struct watch_hub *hub = &mvcc->hub;
    pthread_mutex_lock(&hub->mutex);
    if (hub->pending_len + len > hub->pending_cap && hub->watchers) {
        hub->pending_cap = KP_MAX(hub->pending_cap * 2, hub->pending_len + len);
        hub->pending = kp_realloc(hub->pending, hub->pending_cap * sizeof *hub->pending);
    }
    for (size_t i = 0; i < len && hub->watchers; i++) {
        struct mvcc_event *event = &hub->pending[hub->pending_len++];
        *event = events[i];
        kp_blob_ref(event->record);
        hub->pending_bytes += event->record->len;
    }
    if (!hub->held || hub->pending_len > WATCH_PENDING_MAX || hub->pending_bytes > WATCH_PENDING_BYTES_MAX)
        watch_give_locked(mvcc);
    pthread_mutex_unlock(&hub->mutex);
}

void mvcc_watch_hold(struct mvcc *mvcc)
{
    pthread_mutex_lock(&mvcc->hub.mutex);
    mvcc->hub.held = true;
    pthread_mutex_unlock(&mvcc->hub.mutex);
}

void mvcc_watch_release(struct mvcc *mvcc)
{
    backend_read_lock(mvcc->backend);
    pthread_mutex_lock(&mvcc->hub.mutex);
    mvcc->hub.held = false;
    watch_give_locked(mvcc);
    pthread_mutex_unlock(&mvcc->hub.mutex);
    backend_read_unlock(mvcc->backend);
}

static struct kp_bytes copy_bytes(struct kp_bytes bytes)
{
    uint8_t *copy = kp_malloc(bytes.len + 1);
    if (bytes.len)
        memcpy(copy, bytes.data, bytes.len);
    return (struct kp_bytes){.data = copy, .len = bytes.len};
}

enum mvcc_result mvcc_watch(struct mvcc *mvcc, const struct mvcc_watch_request *request, mvcc_watch_sink sink, void *ctx,
                            void (*created)(void *ctx, struct mvcc_watcher *watcher, int64_t revision),
                            struct mvcc_watcher **ret_watcher)
{
    struct kp_bytes end = request->range_end;
    if (end.len && !(end.len == 1 && end.data[0] == 0) && mvcc_bytes_compare(request->key, end) >= 0)
        return MVCC_WATCH_EMPTY_RANGE;
    struct mvcc_watcher *w = kp_calloc(1, sizeof *w);
    w->key = copy_bytes(request->key);
    w->range_end = copy_bytes(end);
    w->no_put = request->no_put;
    w->no_delete = request->no_delete;
    w->want_prev = request->want_prev;
    w->sink = sink;
    w->ctx = ctx;
    *ret_watcher = w;
    backend_read_lock(mvcc->backend);
    struct watch_hub *hub = &mvcc->hub;
    pthread_mutex_lock(&hub->mutex);
    w->next_revision = request->start_revision > 0 ? request->start_revision : mvcc->revision + 1;
    hub->watchers++;
    if (created)
        created(ctx, w, mvcc->revision);
    watch_set_state(hub, w, w->next_revision > mvcc->revision ? WATCHER_SYNCED : WATCHER_UNSYNCED);
    pthread_mutex_unlock(&hub->mutex);
    backend_read_unlock(mvcc->backend);
    return MVCC_OK;
}

void mvcc_watch_cancel(struct mvcc *mvcc, struct mvcc_watcher *watcher)
{
    if (!watcher)
        return;
    struct watch_hub *hub = &mvcc->hub;
    pthread_mutex_lock(&hub->mutex);
    watcher->cancelled = true;
    while (watcher->busy)
        pthread_cond_wait(&hub->idle, &hub->mutex);
    group_remove(watcher);
    hub->watchers--;
    pthread_mutex_unlock(&hub->mutex);
    free((void *)(uintptr_t)watcher->key.data);
    free((void *)(uintptr_t)watcher->range_end.data);
    free(watcher);
}

void *mvcc_watcher_ctx(const struct mvcc_watcher *watcher) { return watcher->ctx; }

void mvcc_watch_resume(struct mvcc *mvcc, struct mvcc_watcher *watcher)
{
    struct watch_hub *hub = &mvcc->hub;
    pthread_mutex_lock(&hub->mutex);
    if (watcher->state == WATCHER_FULL)
        watch_set_state(hub, watcher, WATCHER_UNSYNCED);
    pthread_mutex_unlock(&hub->mutex);
}

bool mvcc_watch_needs_sync(struct mvcc *mvcc)
{
    struct watch_hub *hub = &mvcc->hub;
    bool needs = false;
    pthread_mutex_lock(&hub->mutex);
    for (const struct mvcc_watcher *w = hub->lagging.head; w && !needs; w = w->next)
        needs = w->state == WATCHER_UNSYNCED;
    pthread_mutex_unlock(&hub->mutex);
    return needs;
}

void mvcc_watch_on_lag(struct mvcc *mvcc, void (*fn)(void *ctx), void *ctx)
{
    pthread_mutex_lock(&mvcc->hub.mutex);
    mvcc->hub.on_lag = fn;
    mvcc->hub.on_lag_ctx = ctx;
    pthread_mutex_unlock(&mvcc->hub.mutex);
}

bool mvcc_watch_progress(struct mvcc *mvcc, struct mvcc_watcher *const *watchers, size_t len,
                         void (*fn)(void *ctx, int64_t revision), void *ctx)
{
    backend_read_lock(mvcc->backend);
    pthread_mutex_lock(&mvcc->hub.mutex);
    watch_give_locked(mvcc);
    bool synced = true;
    for (size_t i = 0; i < len && synced; i++)
        synced = watchers[i]->state == WATCHER_SYNCED;
    if (synced)
        fn(ctx, mvcc->revision);
    pthread_mutex_unlock(&mvcc->hub.mutex);
    backend_read_unlock(mvcc->backend);
    return synced;
}

void mvcc_watch_stats(struct mvcc *mvcc, struct mvcc_watch_stats *ret_stats)
{
    pthread_mutex_lock(&mvcc->hub.mutex);
    *ret_stats = (struct mvcc_watch_stats){
        .watchers = mvcc->hub.watchers, .slow = mvcc->hub.lagging.count, .events = mvcc->hub.events};
    pthread_mutex_unlock(&mvcc->hub.mutex);
}
