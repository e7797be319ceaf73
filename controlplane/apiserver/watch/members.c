/* Which resources there are: found by name or key, and how they come and go while the caches run. */
#include "controlplane/apiserver/watch/watch_internal.h"

#define JOIN_TRIES 5
#define JOIN_KEPT_BYTES ((size_t)64 << 20) /* of changes that come while a resource is read */

/* How many prefixes are not greater than key. */
static size_t position(const struct wcache_set *set, const char *key)
{
    size_t low = 0, high = set->count;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        if (strcmp(set->caches[mid]->kind->prefix, key) <= 0)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

struct wcache *wcache_by_key(struct wcache_set *set, const char *key)
{
    size_t at = position(set, key);
    return at && kp_starts_with(key, set->caches[at - 1]->kind->prefix) ? set->caches[at - 1] : NULL;
}

struct wcache *wcache_find(struct wcache_set *set, const char *group, const char *resource)
{
    struct wcache *found = NULL;
    pthread_mutex_lock(&set->members);
    for (size_t i = 0; i < set->count && !found; i++) {
        const struct kp_resource *r = set->caches[i]->kind->resource;
        if (strcmp(r->name, resource) == 0 && strcmp(r->group, group ? group : "") == 0)
            found = set->caches[i];
    }
    pthread_mutex_unlock(&set->members);
    return found;
}

void wcache_link(struct wcache_set *set, struct wcache *cache)
{
    pthread_mutex_lock(&set->members);
    if (set->count == set->cap) {
        set->cap = set->cap ? set->cap * 2 : 128;
        set->caches = kp_realloc(set->caches, set->cap * sizeof(*set->caches));
    }
    size_t at = position(set, cache->kind->prefix);
    memmove(set->caches + at + 1, set->caches + at, (set->count - at) * sizeof(*set->caches));
    set->caches[at] = cache;
    set->count++;
    pthread_mutex_unlock(&set->members);
}

/* ---- coming ------------------------------------------------------------------------------------------------------- */
/* The store is read as it is when it answers, at revision S, and what the watch brings meanwhile is kept. A change after S was made
   after the read began, so it comes after begin_join: it is kept, or the cache is linked by then. What comes of up to S is no news. */
struct kept_event {
    struct kept_event *next;
    struct store_event event;
};
struct wcache_join {
    struct wcache *cache; /* nobody else knows it before it is linked */
    struct kp_arena *arena;
    struct kept_event *first, **last;
    bool lost;     /* more came than is kept */
    bool complete; /* the read brought everything, as of revision */
    int64_t revision;
};

void wcache_join_event(struct wcache_join *join, const struct store_event *event)
{
    const char *key = event->kv.key;
    if (!kp_starts_with(key, join->cache->kind->prefix) || join->lost)
        return;
    size_t key_size = strlen(key) + 1, len = event->kv.value.len;
    struct kept_event *kept = kp_arena_try(join->arena, sizeof(*kept) + key_size + len + 1);
    join->lost = !kept;
    if (!kept)
        return;
    char *text = (char *)(kept + 1);
    memcpy(text, key, key_size);
    if (len)
        memcpy(text + key_size, event->kv.value.data, len);
    kept->event = *event;
    kept->event.kv.key = text;
    kept->event.kv.value.data = (const uint8_t *)text + key_size;
    *join->last = kept;
    join->last = &kept->next;
}

static void begin_join(void *arg)
{
    struct wcache_join *join = arg;
    join->cache->set->joining = join;
}

static void end_join(void *arg)
{
    struct wcache_join *join = arg;
    struct wcache *cache = join->cache;
    cache->set->joining = NULL;
    if (!join->complete || join->lost)
        return;
    wcache_replace(cache, join->revision);
    for (const struct kept_event *kept = join->first; kept; kept = kept->next)
        wcache_apply_to(cache, &kept->event);
    wcache_link(cache->set, cache); /* last: what can be found is as new as the set's revision says */
}

/* KP_EEXPIRED: it took too long, another try may do. */
static int join_once(struct wcache *cache, struct kp_error *error)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(JOIN_KEPT_BYTES);
    struct wcache_set *set = cache->set;
    struct wcache_join join = {.cache = cache, .arena = arena, .last = &join.first};
    loop_call(set->loop, begin_join, &join);
    join.complete = wcache_read(set, cache, &join.revision, error) == 0;
    loop_call(set->loop, end_join, &join);
    if (join.complete && !join.lost)
        return 0;
    wcache_items_done(&cache->read);
    if (!join.complete)
        return kp_wrap(error, "read %s", cache->kind->prefix);
    return kp_fail(error, KP_EEXPIRED, "%s changes faster than it can be read", cache->kind->prefix);
}

/* Under set->shape. Neighbours are enough: what lies between a prefix and what begins with it begins with it as well. */
static bool is_taken(const struct wcache_set *set, const char *prefix)
{
    size_t at = position(set, prefix);
    return (at && kp_starts_with(prefix, set->caches[at - 1]->kind->prefix)) ||
           (at < set->count && kp_starts_with(set->caches[at]->kind->prefix, prefix));
}

int wcache_set_add(struct wcache_set *set, const struct wcache_kind *kind, struct kp_error *error)
{
    struct kp_error failure = {0};
    KP_ASSERT(!loop_in_thread(set->loop));
    pthread_mutex_lock(&set->shape);
    int code = KP_EEXPIRED;
    if (is_taken(set, kind->prefix)) {
        code = kp_fail(&failure, KP_ECONFLICT, "there is a resource under %s already", kind->prefix);
    } else {
        struct wcache *cache = wcache_new(set, kind);
        for (int i = 0; i < JOIN_TRIES && code == KP_EEXPIRED; i++)
            code = join_once(cache, &failure);
        if (code < 0)
            wcache_free(cache);
    }
    pthread_mutex_unlock(&set->shape);
    if (code < 0 && error)
        *error = failure;
    return code;
}

/* ---- going -------------------------------------------------------------------------------------------------------- */
static void leave(void *arg)
{
    struct wcache *cache = arg;
    struct wcache_set *set = cache->set;
    pthread_mutex_lock(&set->members);
    size_t at = position(set, cache->kind->prefix) - 1;
    memmove(set->caches + at, set->caches + at + 1, (set->count - at - 1) * sizeof(*set->caches));
    set->count--;
    pthread_mutex_unlock(&set->members);
    wcache_retire(cache); /* in the same turn: what nobody tells of changes any more is not read as if it were new */
    cache->next_gone = set->gone;
    set->gone = cache;
}

void wcache_set_remove(struct wcache_set *set, const struct wcache_kind *kind)
{
    KP_ASSERT(!loop_in_thread(set->loop));
    pthread_mutex_lock(&set->shape);
    struct wcache *cache = wcache_by_key(set, kind->prefix);
    if (cache && strcmp(cache->kind->prefix, kind->prefix) == 0)
        loop_call(set->loop, leave, cache);
    pthread_mutex_unlock(&set->shape);
}
