/* Watches: who is told of which change, and in what form; they live as long as their stream. */
#include "controlplane/apiserver/watch/watch_internal.h"

#include "api/k8s.h"

const char *wcache_event_name(enum wcache_event_type type)
{
    static const char *const names[] = {"ADDED", "MODIFIED", "DELETED", "BOOKMARK", "ERROR"};
    return names[type];
}

static struct kp_blob *json_frame(enum wcache_event_type type, const struct wcache_object *object)
{
    char head[64];
    int head_len = snprintf(head, sizeof(head), "{\"type\":\"%s\",\"object\":", wcache_event_name(type));
    struct kp_blob *blob = kp_blob_new(NULL, (size_t)head_len + object->json->len + 2);
    memcpy(blob->data, head, (size_t)head_len);
    memcpy(blob->data + head_len, object->json->data, object->json->len);
    memcpy(blob->data + head_len + object->json->len, "}\n", 2);
    return blob;
}

/* ---- life --------------------------------------------------------------------------------------------------------- */
static void unlink_watcher(struct wcache_watcher *watcher)
{
    if (!watcher->linked)
        return;
    struct wcache *cache = watcher->cache;
    if (watcher->prev)
        watcher->prev->next = watcher->next;
    else
        cache->watchers = watcher->next;
    if (watcher->next)
        watcher->next->prev = watcher->prev;
    watcher->linked = false;
    cache->watcher_count--;
}

static void free_watcher(struct wcache_watcher *watcher)
{
    if (watcher->free_arg)
        watcher->free_arg(watcher->arg);
    http_stream_unref(watcher->stream);
    kp_arena_free(watcher->arena);
    free(watcher);
}

/* The stream's close callback: the one place where a watch that was started goes. */
static void on_stream_closed(void *arg)
{
    struct wcache_watcher *watcher = arg;
    pthread_mutex_t *mutex = &watcher->cache->mutex;
    pthread_mutex_lock(mutex);
    unlink_watcher(watcher);
    pthread_mutex_unlock(mutex);
    free_watcher(watcher);
}

static bool send_blob(struct wcache_watcher *watcher, struct kp_blob *blob)
{
    return !blob || http_stream_write(watcher->stream, blob) == 0;
}

/* False when the watch can take no more. */
static bool send_object(struct wcache_watcher *watcher, enum wcache_event_type type, struct wcache_object *object)
{
    KP_AUTO(kp_blob_unref) struct kp_blob *blob = watcher->frame ? watcher->frame(watcher->arg, type, object) : json_frame(type, object);
    return send_blob(watcher, blob);
}

/* ---- one event to one watch ---------------------------------------------------------------------------------------- */
static struct wcache_object *left_object(struct wcache_frames *frames)
{
    const struct wcache_event *event = frames->event;
    if (event->deleted)
        return event->object;
    if (!frames->old_at_revision) {
        struct kp_error error = {0};
        int code = wcache_object_decode(frames->kind, event->old->key, event->old->json->data, event->old->json->len, event->revision,
                                        &frames->old_at_revision, &error);
        KP_ASSERT(code == 0); /* our own text */
    }
    return frames->old_at_revision;
}

static bool tell_one(struct wcache_watcher *watcher, struct wcache_frames *frames)
{
    const struct wcache_event *event = frames->event;
    bool now = !event->deleted && wcache_filter_matches(frames->kind, &watcher->filter, event->object);
    bool before = event->old && wcache_filter_matches(frames->kind, &watcher->filter, event->old);
    if (!now && !before)
        return true;
    enum wcache_event_type type = !now ? WCACHE_DELETED : before ? WCACHE_MODIFIED : WCACHE_ADDED;
    struct wcache_object *object = now ? event->object : left_object(frames);
    if (watcher->frame)
        return send_object(watcher, type, object);
    if (!frames->json[type])
        frames->json[type] = json_frame(type, object);
    return send_blob(watcher, frames->json[type]);
}

static void frames_done(struct wcache_frames *frames)
{
    for (size_t i = 0; i < KP_ARRAY_LEN(frames->json); i++)
        kp_blob_unref(frames->json[i]);
    wcache_object_unref(frames->old_at_revision);
}

void wcache_tell(struct wcache *cache, const struct wcache_event *event)
{
    struct wcache_frames frames = {.kind = cache->kind, .event = event};
    for (struct wcache_watcher *watcher = cache->watchers, *next; watcher; watcher = next) {
        next = watcher->next;
        if (!tell_one(watcher, &frames))
            unlink_watcher(watcher); /* gone, or too slow: the stream is closing by itself */
    }
    frames_done(&frames);
}

void wcache_end_watches(struct wcache *cache)
{
    while (cache->watchers) {
        struct wcache_watcher *watcher = cache->watchers;
        unlink_watcher(watcher);
        http_stream_end(watcher->stream);
    }
}

/* ---- bookmarks and time ------------------------------------------------------------------------------------------- */
static bool send_bookmark(struct wcache_watcher *watcher, int64_t revision, bool initial_end)
{
    const struct wcache_kind *kind = watcher->cache->kind;
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    void *empty = kp_object_new(kind->resource->type, arena);
    struct k8s_object_meta *meta = kp_object_meta(kind->resource->type, empty);
    if (initial_end)
        kp_string_map_set(arena, &meta->annotations, "k8s.io/initial-events-end", "true");
    KP_AUTO(wcache_object_unref) struct wcache_object *object = wcache_object_new(kind, "", empty, revision);
    return send_object(watcher, WCACHE_BOOKMARK, object);
}

void wcache_tick(struct wcache *cache, int64_t revision, int64_t now_ms)
{
    for (struct wcache_watcher *watcher = cache->watchers, *next; watcher; watcher = next) {
        next = watcher->next;
        bool over = now_ms >= watcher->deadline_ms, alive = true;
        if (watcher->bookmarks && (over || now_ms >= watcher->next_bookmark_ms)) {
            watcher->next_bookmark_ms = now_ms + WCACHE_BOOKMARK_PERIOD_MS;
            alive = send_bookmark(watcher, revision, false);
        }
        if (!over && alive)
            continue;
        unlink_watcher(watcher);
        if (alive)
            http_stream_end(watcher->stream);
    }
}

/* ---- begin -------------------------------------------------------------------------------------------------------- */
static const struct kp_selector *copy_selector(const struct kp_selector *selector, struct kp_arena *arena)
{
    if (!selector)
        return NULL;
    struct kp_selector *copy = kp_arena_memdup(arena, selector, sizeof(*selector));
    copy->items = KP_NEW_ARRAY(arena, struct kp_requirement, selector->len + 1);
    for (size_t i = 0; i < selector->len; i++) {
        const struct kp_requirement *from = &selector->items[i];
        struct kp_requirement *to = &copy->items[i];
        *to = (struct kp_requirement){.key = kp_arena_strdup(arena, from->key), .op = from->op};
        for (size_t j = 0; j < from->values.len; j++)
            kp_string_list_add(arena, &to->values, kp_arena_strdup(arena, from->values.items[j]));
    }
    return copy;
}

static struct wcache_watcher *new_watcher(struct wcache *cache, const struct wcache_watch_request *request)
{
    struct wcache_watcher *watcher = kp_calloc(1, sizeof(*watcher));
    watcher->cache = cache;
    watcher->arena = kp_arena_new(0);
    watcher->filter.ns = kp_arena_strdup(watcher->arena, request->filter.ns);
    watcher->filter.name = kp_arena_strdup(watcher->arena, request->filter.name);
    watcher->filter.labels = copy_selector(request->filter.labels, watcher->arena);
    watcher->filter.fields = copy_selector(request->filter.fields, watcher->arena);
    watcher->frame = request->frame;
    watcher->arg = request->arg;
    watcher->free_arg = request->free_arg;
    watcher->bookmarks = request->bookmarks;
    int64_t now_ms = kp_mono_ms();
    watcher->deadline_ms = now_ms + request->timeout_ms;
    watcher->next_bookmark_ms = now_ms + WCACHE_BOOKMARK_PERIOD_MS - (int64_t)(kp_random_u64() % 5000);
    return watcher;
}

/* Under cache->mutex. Everything the client has not seen yet. */
static bool catch_up(struct wcache_watcher *watcher, const struct wcache_watch_request *request)
{
    struct wcache *cache = watcher->cache;
    if (request->initial) {
        for (size_t i = 0; i < cache->len; i++)
            if (wcache_filter_matches(cache->kind, &watcher->filter, cache->items[i]) && !send_object(watcher, WCACHE_ADDED, cache->items[i]))
                return false;
        int64_t revision = KP_MAX(wcache_newest(cache), request->revision);
        return !request->initial_bookmark || send_bookmark(watcher, revision, true);
    }
    for (size_t i = 0; i < cache->ring_len; i++) {
        const struct wcache_event *event = &cache->ring[(cache->ring_first + i) % cache->ring_cap];
        if (event->revision <= request->revision)
            continue;
        struct wcache_frames frames = {.kind = cache->kind, .event = event};
        bool taken = tell_one(watcher, &frames);
        frames_done(&frames);
        if (!taken)
            return false;
    }
    return true;
}

static void link_watcher(struct wcache_watcher *watcher)
{
    struct wcache *cache = watcher->cache;
    watcher->next = cache->watchers;
    if (watcher->next)
        watcher->next->prev = watcher;
    cache->watchers = watcher;
    watcher->linked = true;
    cache->watcher_count++;
}

static int check_start(const struct wcache *cache, const struct wcache_watch_request *request, struct api_status *status)
{
    if (cache->removed)
        return status_expired(status, "the resource was removed or replaced, please list it again");
    if (cache->watcher_count >= WCACHE_WATCHERS_MAX)
        return status_too_many(status, 1, "Too many watches of this resource, please try again later.");
    if (!request->initial && request->revision < cache->ring_floor)
        return status_expired(status, "too old resource version: %lld (%lld)", (long long)request->revision, (long long)cache->ring_floor);
    return 0;
}

int wcache_watch(struct wcache *cache, const struct wcache_watch_request *request, struct http_stream *(*start)(void *arg),
                 void *start_arg, struct api_status *status)
{
    struct wcache_watcher *watcher = new_watcher(cache, request);
    pthread_mutex_lock(&cache->mutex);
    int code = check_start(cache, request, status);
    watcher->stream = code < 0 ? NULL : start(start_arg);
    bool started = watcher->stream != NULL;
    if (started && catch_up(watcher, request))
        link_watcher(watcher);
    pthread_mutex_unlock(&cache->mutex);
    if (started)
        http_stream_set_close_callback(watcher->stream, on_stream_closed, watcher);
    else
        free_watcher(watcher);
    return code;
}
