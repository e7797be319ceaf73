/* What the files of the watch cache share. */
#ifndef APISERVER_WATCH_INTERNAL_H
#define APISERVER_WATCH_INTERNAL_H

#include "controlplane/apiserver/watch/watch.h"

#include <pthread.h>

#define WCACHE_ROOT "/registry/" /* what the one watch is of */

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

/* Objects in the order of their keys. */
struct wcache_items {
    struct wcache_object **items;
    size_t len, cap;
};

struct wcache {
    struct wcache_set *set;
    const struct wcache_kind *kind;
    size_t prefix_len;
    struct wcache_items read; /* what has been read from the store and is not in use yet; of who holds set->shape */
    pthread_mutex_t mutex; /* everything below */
    bool removed;
    int64_t base; /* the items were read at this revision: no event up to it is news */
    struct wcache_object **items; /* sorted by key */
    size_t len, cap;
    struct wcache_event *ring;
    size_t ring_cap, ring_first, ring_len;
    int64_t ring_floor; /* all events after this revision are in the ring */
    struct wcache_watcher *watchers;
    size_t watcher_count;
    struct wcache_listener listeners[WCACHE_LISTENERS_MAX];
    size_t listener_count;
    struct wcache *next_gone; /* in set->gone */
};

/* The order of locks: shape, a cache's mutex, then members or mutex. */
struct wcache_set {
    struct loop *loop;
    struct store *store;
    struct loop_timer *ticker;
    pthread_mutex_t shape; /* held while a resource comes or goes and while all is read anew; never by the loop's thread */
    struct wcache_join *joining; /* of the loop's thread: the resource that is being read, or NULL */
    /* Changed under members, on the loop's thread, for who holds shape: the loop's thread and who holds shape read it without members. */
    pthread_mutex_t members;
    struct wcache **caches; /* sorted by prefix; none moves, and none that was once here is freed: see wcache_set_free */
    size_t count, cap;
    struct wcache *gone; /* those that were removed */
    pthread_t loader;
    pthread_mutex_t mutex; /* everything below */
    pthread_cond_t changed;
    struct store_watch *watch;
    int64_t revision;
    bool ready, stopping, watch_ended, watch_expired;
};

/* ---- cache.c ------------------------------------------------------------------------------------------------------ */
struct wcache *wcache_new(struct wcache_set *set, const struct wcache_kind *kind);
void wcache_done(struct wcache *cache); /* forgets all it holds */
void wcache_free(struct wcache *cache); /* of one that nobody else can know */
/* Takes what it holds from it for good. */
void wcache_retire(struct wcache *cache);
/* Under cache->mutex. The revision that its state is as new as. */
int64_t wcache_newest(const struct wcache *cache);
/* Under cache->mutex. Index of the first item whose key is not less than key. */
size_t wcache_lower_bound(const struct wcache *cache, const char *key);
/* Puts object (NULL: removes key) and gives the former one back, the caller's reference. Under cache->mutex. */
struct wcache_object *wcache_swap(struct wcache *cache, const char *key, struct wcache_object *object);
/* cache->read, which is as of revision, becomes its state; drops the ring, ends all watches. */
void wcache_replace(struct wcache *cache, int64_t revision);
void wcache_items_done(struct wcache_items *items);

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
void wcache_apply_to(struct wcache *cache, const struct store_event *event); /* whose key has its prefix */

/* ---- load.c ------------------------------------------------------------------------------------------------------- */
/* Under set->shape. Reads, at one revision, all caches (cache NULL) or this one, into their `read`. KP_EEXPIRED: it took so long that the
   revision was compacted. `read` is to be let go also after a failure. */
int wcache_read(struct wcache_set *set, struct wcache *cache, int64_t *ret_revision, struct kp_error *error) KP_NODISCARD;
/* All caches become what the store has now. */
int wcache_load(struct wcache_set *set, struct kp_error *error) KP_NODISCARD;

/* ---- members.c ---------------------------------------------------------------------------------------------------- */
/* On the loop's thread, or under set->shape. The cache whose prefix key has, or NULL. */
struct wcache *wcache_by_key(struct wcache_set *set, const char *key);
/* On the loop's thread, for who holds set->shape; or before anybody else knows the set. */
void wcache_link(struct wcache_set *set, struct wcache *cache);
/* On the loop's thread. A change that no cache wants: kept when it is one of the resource that is being read. */
void wcache_join_event(struct wcache_join *join, const struct store_event *event);

#endif
