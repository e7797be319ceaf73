/* The last events of one resource, for watches that begin at a version of the past. */
#include "controlplane/apiserver/watch/watch_internal.h"

static void drop_first(struct wcache *cache)
{
    struct wcache_event *first = &cache->ring[cache->ring_first];
    cache->ring_floor = first->revision;
    wcache_object_unref(first->object);
    wcache_object_unref(first->old);
    cache->ring_first = (cache->ring_first + 1) % cache->ring_cap;
    cache->ring_len--;
}

static void grow(struct wcache *cache)
{
    size_t cap = cache->ring_cap ? KP_MIN(cache->ring_cap * 2, (size_t)WCACHE_EVENTS_MAX) : WCACHE_EVENTS_MIN;
    struct wcache_event *ring = kp_malloc(cap * sizeof(*ring));
    for (size_t i = 0; i < cache->ring_len; i++)
        ring[i] = cache->ring[(cache->ring_first + i) % cache->ring_cap];
    free(cache->ring);
    cache->ring = ring;
    cache->ring_cap = cap;
    cache->ring_first = 0;
}

const struct wcache_event *wcache_ring_add(struct wcache *cache, struct wcache_event event)
{
    if (cache->ring_len == cache->ring_cap) {
        bool young = cache->ring_len && event.at_ms - cache->ring[cache->ring_first].at_ms < WCACHE_EVENTS_SPAN_MS;
        if (!cache->ring_cap || (young && cache->ring_cap < WCACHE_EVENTS_MAX))
            grow(cache);
        else
            drop_first(cache);
    }
    struct wcache_event *at = &cache->ring[(cache->ring_first + cache->ring_len) % cache->ring_cap];
    *at = event;
    cache->ring_len++;
    return at;
}

void wcache_ring_clear(struct wcache *cache, int64_t floor)
{
    while (cache->ring_len)
        drop_first(cache);
    cache->ring_floor = floor;
}
