/* The present state of one resource: objects in the order of their keys; point reads and lists. */
#include "controlplane/apiserver/watch/watch_internal.h"

struct wcache *wcache_new(struct wcache_set *set, const struct wcache_kind *kind)
{
    struct wcache *cache = kp_calloc(1, sizeof(*cache));
    *cache = (struct wcache){.set = set, .kind = kind, .prefix_len = strlen(kind->prefix)};
    pthread_mutex_init(&cache->mutex, NULL);
    return cache;
}

void wcache_items_done(struct wcache_items *items)
{
    for (size_t i = 0; i < items->len; i++)
        wcache_object_unref(items->items[i]);
    free(items->items);
    *items = (struct wcache_items){0};
}

/* Under cache->mutex. Listeners are told first. */
static void replace_items(struct wcache *cache, struct wcache_items now)
{
    struct wcache_items before = {cache->items, cache->len, cache->cap};
    cache->items = now.items;
    cache->len = now.len;
    cache->cap = now.cap;
    wcache_items_done(&before);
}

/* Under cache->mutex. */
static void drop_ring(struct wcache *cache)
{
    wcache_ring_clear(cache, 0);
    free(cache->ring);
    cache->ring = NULL;
    cache->ring_cap = cache->ring_first = 0;
}

void wcache_done(struct wcache *cache)
{
    pthread_mutex_lock(&cache->mutex);
    wcache_end_watches(cache);
    drop_ring(cache);
    replace_items(cache, (struct wcache_items){0});
    pthread_mutex_unlock(&cache->mutex);
}

void wcache_free(struct wcache *cache)
{
    wcache_done(cache);
    wcache_items_done(&cache->read);
    pthread_mutex_destroy(&cache->mutex);
    free(cache);
}

size_t wcache_lower_bound(const struct wcache *cache, const char *key)
{
    size_t low = 0, high = cache->len;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        if (strcmp(cache->items[mid]->key, key) < 0)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

struct wcache_object *wcache_swap(struct wcache *cache, const char *key, struct wcache_object *object)
{
    size_t at = wcache_lower_bound(cache, key);
    bool found = at < cache->len && strcmp(cache->items[at]->key, key) == 0;
    struct wcache_object *old = found ? cache->items[at] : NULL;
    if (object && found) {
        cache->items[at] = wcache_object_ref(object);
    } else if (object) {
        if (cache->len == cache->cap) {
            cache->cap = cache->cap ? cache->cap * 2 : 16;
            cache->items = kp_realloc(cache->items, cache->cap * sizeof(struct wcache_object *));
        }
        memmove(cache->items + at + 1, cache->items + at, (cache->len - at) * sizeof(struct wcache_object *));
        cache->items[at] = wcache_object_ref(object);
        cache->len++;
    } else if (found) {
        memmove(cache->items + at, cache->items + at + 1, (cache->len - at - 1) * sizeof(struct wcache_object *));
        cache->len--;
    }
    return old;
}

/* A listener sees a reload as the changes it amounts to. */
static void tell_listeners_of_reload(struct wcache *cache, struct wcache_object **items, size_t len)
{
    if (!cache->listener_count)
        return;
    size_t a = 0, b = 0;
    while (a < cache->len || b < len) {
        int order = a == cache->len ? 1 : b == len ? -1 : strcmp(cache->items[a]->key, items[b]->key);
        struct wcache_object *old = order <= 0 ? cache->items[a++] : NULL;
        struct wcache_object *now = order >= 0 ? items[b++] : NULL;
        for (size_t i = 0; i < cache->listener_count; i++)
            if (!old || !now || old->revision != now->revision)
                cache->listeners[i].fn(cache->listeners[i].arg, now, old);
    }
}

void wcache_replace(struct wcache *cache, int64_t revision)
{
    pthread_mutex_lock(&cache->mutex);
    wcache_end_watches(cache);
    wcache_ring_clear(cache, revision);
    tell_listeners_of_reload(cache, cache->read.items, cache->read.len);
    replace_items(cache, cache->read);
    cache->read = (struct wcache_items){0};
    cache->base = revision;
    pthread_mutex_unlock(&cache->mutex);
}

void wcache_retire(struct wcache *cache)
{
    pthread_mutex_lock(&cache->mutex);
    cache->removed = true; /* from here on no watch begins */
    wcache_end_watches(cache);
    drop_ring(cache);
    tell_listeners_of_reload(cache, NULL, 0);
    replace_items(cache, (struct wcache_items){0});
    pthread_mutex_unlock(&cache->mutex);
}

bool wcache_removed(struct wcache *cache)
{
    pthread_mutex_lock(&cache->mutex);
    bool removed = cache->removed;
    pthread_mutex_unlock(&cache->mutex);
    return removed;
}

int64_t wcache_newest(const struct wcache *cache)
{
    int64_t revision = KP_MAX(wcache_revision(cache->set), cache->base); /* one that was just added can be ahead of the set */
    if (cache->ring_len)
        revision = KP_MAX(revision, cache->ring[(cache->ring_first + cache->ring_len - 1) % cache->ring_cap].revision);
    return revision;
}

struct wcache_object *wcache_get(struct wcache *cache, const char *key)
{
    pthread_mutex_lock(&cache->mutex);
    size_t at = wcache_lower_bound(cache, key);
    struct wcache_object *object = NULL;
    if (at < cache->len && strcmp(cache->items[at]->key, key) == 0)
        object = wcache_object_ref(cache->items[at]);
    pthread_mutex_unlock(&cache->mutex);
    return object;
}

const struct wcache_kind *wcache_kind(const struct wcache *cache)
{
    return cache->kind;
}

/* Both ends of the keys a filter can match: namespaced keys begin with "ns/". */
static void range_of(struct wcache *cache, const struct wcache_filter *filter, const char *start, size_t *ret_from, size_t *ret_to)
{
    *ret_from = start ? wcache_lower_bound(cache, start) : 0;
    *ret_to = cache->len;
    if (kp_empty(filter->ns) || !cache->kind->resource->namespaced)
        return;
    KP_AUTO_FREE char *low = kp_asprintf("%s/", filter->ns);
    KP_AUTO_FREE char *high = kp_asprintf("%s0", filter->ns); /* '0' follows '/' */
    *ret_from = KP_MAX(*ret_from, wcache_lower_bound(cache, low));
    *ret_to = KP_MAX(*ret_from, wcache_lower_bound(cache, high));
}

void wcache_list(struct wcache *cache, const struct wcache_filter *filter, const char *start, size_t limit, struct kp_arena *arena,
                 struct wcache_list *ret_list)
{
    *ret_list = (struct wcache_list){0};
    pthread_mutex_lock(&cache->mutex);
    size_t from, to;
    range_of(cache, filter, start, &from, &to);
    size_t room = limit ? KP_MIN(limit, to - from) : to - from;
    ret_list->items = KP_NEW_ARRAY(arena, struct wcache_object *, room + 1);
    size_t i = from;
    for (; i < to; i++) {
        if (!wcache_filter_matches(cache->kind, filter, cache->items[i]))
            continue;
        if (ret_list->len == room)
            break;
        ret_list->items[ret_list->len++] = wcache_object_ref(cache->items[i]);
    }
    if (i < to && ret_list->len) {
        ret_list->next = kp_arena_strdup(arena, cache->items[i]->key);
        ret_list->remaining = (int64_t)(to - i);
    }
    /* Under the lock: an event that is in the list counts as told, one that is not comes later. */
    ret_list->revision = wcache_newest(cache);
    pthread_mutex_unlock(&cache->mutex);
}

void wcache_list_done(struct wcache_list *list)
{
    for (size_t i = 0; i < list->len; i++)
        wcache_object_unref(list->items[i]);
    list->len = 0;
}

void wcache_listen(struct wcache *cache, wcache_listener_fn fn, void *arg)
{
    pthread_mutex_lock(&cache->mutex);
    KP_ASSERT(cache->listener_count < WCACHE_LISTENERS_MAX);
    cache->listeners[cache->listener_count++] = (struct wcache_listener){fn, arg};
    for (size_t i = 0; i < cache->len; i++)
        fn(arg, cache->items[i], NULL);
    pthread_mutex_unlock(&cache->mutex);
}
