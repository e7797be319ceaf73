/* Turns a change in the store into a change of a cache, and tells the ring, the listeners and the watches. */
#include "controlplane/apiserver/watch/watch_internal.h"

struct wcache *wcache_by_key(struct wcache_set *set, const char *key)
{
    size_t low = 0, high = set->count; /* the last prefix not greater than key */
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        if (strcmp(set->caches[mid].kind->prefix, key) <= 0)
            low = mid + 1;
        else
            high = mid;
    }
    return low && kp_starts_with(key, set->caches[low - 1].kind->prefix) ? &set->caches[low - 1] : NULL;
}

static struct wcache_object *at_revision(const struct wcache_kind *kind, const struct wcache_object *object, int64_t revision)
{
    struct wcache_object *moved = NULL;
    struct kp_error error = {0};
    int code = wcache_object_decode(kind, object->key, object->json->data, object->json->len, revision, &moved, &error);
    KP_ASSERT(code == 0); /* we wrote this text ourselves */
    return moved;
}

static struct wcache_object *new_state(struct wcache *cache, const char *key, const struct store_event *event)
{
    struct wcache_object *object = NULL;
    struct kp_error error = {0};
    if (wcache_object_decode(cache->kind, key, event->kv.value.data, event->kv.value.len, event->kv.mod_revision, &object, &error) < 0)
        kp_error_log("an object in the store cannot be read and is left out", "error", error.message, NULL);
    return object;
}

void wcache_apply(struct wcache_set *set, const struct store_event *event)
{
    struct wcache *cache = wcache_by_key(set, event->kv.key);
    if (!cache)
        return;
    const char *key = event->kv.key + cache->prefix_len;
    struct wcache_object *object = event->deleted ? NULL : new_state(cache, key, event);
    if (!object && !event->deleted)
        return;
    pthread_mutex_lock(&cache->mutex);
    struct wcache_object *old = wcache_swap(cache, key, object);
    if (object || old) {
        struct wcache_event change = {.revision = event->kv.mod_revision, .at_ms = kp_mono_ms(), .old = old, .deleted = !object};
        change.object = object ? object : at_revision(cache->kind, old, event->kv.mod_revision);
        for (size_t i = 0; i < cache->listener_count; i++)
            cache->listeners[i].fn(cache->listeners[i].arg, object, old);
        wcache_tell(cache, wcache_ring_add(cache, change));
    }
    pthread_mutex_unlock(&cache->mutex);
}
