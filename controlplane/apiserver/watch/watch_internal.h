/* What the files of the watch cache share. */
#ifndef APISERVER_WATCH_INTERNAL_H
#define APISERVER_WATCH_INTERNAL_H

#include "controlplane/apiserver/watch/watch.h"

#include <pthread.h>

/* One change, as the ring keeps it. */
struct wcache_event {
    int64_t revision;
    int64_t at_ms;                /* kp_mono_ms() when applied */
    struct wcache_object *object; /* the new state; of a deletion the last state at the revision of the deletion */
    struct wcache_object *old;    /* the former state; NULL when there was none */
    bool deleted;
};

/* Frames of one event that watches share; made when first needed. */
struct wcache_frames {
    const struct wcache_kind *kind;
    const struct wcache_event *event;
    struct wcache_object *old_at_revision; /* for an object that left a selector */
    struct kp_blob *json[WCACHE_DELETED + 1];
};

struct wcache_watcher {
    struct wcache_watcher *prev, *next; /* in cache->watchers while linked */
    struct wcache *cache;
    bool linked; /* under cache->mutex */
    struct kp_arena *arena; /* of the filter */
    struct wcache_filter filter;
    struct http_stream *stream;
    wcache_frame_fn frame;
    void *arg;
    void (*free_arg)(void *arg);
    bool bookmarks;
    int64_t deadline_ms, next_bookmark_ms;
};

struct wcache_listener {
    wcache_listener_fn fn;
    void *arg;
};
#define WCACHE_LISTENERS_MAX 8

struct wcache {
    struct wcache_set *set;
    const struct wcache_kind *kind;
    size_t prefix_len;
    pthread_mutex_t mutex; /* everything below */
    struct wcache_object **items; /* sorted by key */
    size_t len, cap;
    struct wcache_event *ring;
    size_t ring_cap, ring_first, ring_len;
    int64_t ring_floor; /* all events after this revision are in the ring */
    struct wcache_watcher *watchers;
    size_t watcher_count;
    struct wcache_listener listeners[WCACHE_LISTENERS_MAX];
    size_t listener_count;
};

struct wcache_set {
    struct loop *loop;
    struct store *store;
    struct loop_timer *ticker;
    struct wcache *caches; /* sorted by prefix */
    size_t count;
    pthread_t loader;
    pthread_mutex_t mutex; /* everything below */
    pthread_cond_t changed;
    struct store_watch *watch;
    int64_t revision;
    bool ready, stopping, watch_ended, watch_expired;
};

/* ---- cache.c ------------------------------------------------------------------------------------------------------ */
void wcache_init(struct wcache *cache, struct wcache_set *set, const struct wcache_kind *kind);
void wcache_done(struct wcache *cache);
/* Under cache->mutex. Index of the first item whose key is not less than key. */
size_t wcache_lower_bound(const struct wcache *cache, const char *key);
/* Puts object (NULL: removes key) and gives the former one back, the caller's reference. Under cache->mutex. */
struct wcache_object *wcache_swap(struct wcache *cache, const char *key, struct wcache_object *object);
/* Takes over items (sorted, cap entries allocated), drops the ring, ends all watches. */
void wcache_replace(struct wcache *cache, struct wcache_object **items, size_t len, size_t cap, int64_t revision);

/* ---- ring.c ------------------------------------------------------------------------------------------------------- */
/* Under cache->mutex. Takes over the references of *event. */
const struct wcache_event *wcache_ring_add(struct wcache *cache, struct wcache_event event);
void wcache_ring_clear(struct wcache *cache, int64_t floor);

/* ---- watcher.c ---------------------------------------------------------------------------------------------------- */
/* Under cache->mutex. */
void wcache_tell(struct wcache *cache, const struct wcache_event *event);
void wcache_end_watches(struct wcache *cache);
void wcache_tick(struct wcache *cache, int64_t revision, int64_t now_ms);

/* ---- apply.c ------------------------------------------------------------------------------------------------------ */
void wcache_apply(struct wcache_set *set, const struct store_event *event);
struct wcache *wcache_by_key(struct wcache_set *set, const char *key);

#endif
