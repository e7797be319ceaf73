/* Turns a change in the store into a change of a cache, and tells the ring, the listeners and the watches. */
#include "controlplane/apiserver/watch/watch_internal.h"

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

void wcache_apply_to(struct wcache *cache, const struct store_event *event)
{
    const char *key = event->kv.key + cache->prefix_len;
    struct wcache_object *object = event->deleted ? NULL : new_state(cache, key, event);
    if (!object && !event->deleted)
        return;
    pthread_mutex_lock(&cache->mutex);
    bool news = event->kv.mod_revision > cache->base;
    struct wcache_object *old = news ? wcache_swap(cache, key, object) : NULL;
    if (news && (object || old)) {
        struct wcache_event change = {.revision = event->kv.mod_revision, .at_ms = kp_mono_ms(), .old = old, .deleted = !object};
        change.object = object ? object : at_revision(cache->kind, old, event->kv.mod_revision);
        for (size_t i = 0; i < cache->listener_count; i++)
            cache->listeners[i].fn(cache->listeners[i].arg, object, old);
        wcache_tell(cache, wcache_ring_add(cache, change));
    }
    pthread_mutex_unlock(&cache->mutex);
    if (!news)
        wcache_object_unref(object);
}

void wcache_apply(struct wcache_set *set, const struct store_event *event)
{
    struct wcache *cache = wcache_by_key(set, event->kv.key);
    if (cache)
        wcache_apply_to(cache, event);
    else if (set->joining)
        wcache_join_event(set->joining, event);
}
