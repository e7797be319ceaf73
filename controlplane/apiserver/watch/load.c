/* Reading the store into the caches: all of them after a loss, or one that is new. */
#include "controlplane/apiserver/watch/watch_internal.h"

static void keep(struct wcache *cache, const struct store_kv *kv)
{
    struct wcache_items *to = &cache->read;
    struct wcache_object *object = NULL;
    struct kp_error error = {0};
    if (wcache_object_decode(cache->kind, kv->key + cache->prefix_len, kv->value.data, kv->value.len, kv->mod_revision, &object, &error) < 0) {
        kp_error_log("an object in the store cannot be read and is left out", "error", error.message, NULL);
        return;
    }
    if (to->len == to->cap) {
        to->cap = to->cap ? to->cap * 2 : 16;
        to->items = kp_realloc(to->items, to->cap * sizeof(*to->items));
    }
    to->items[to->len++] = object;
}

int wcache_read(struct wcache_set *set, struct wcache *cache, int64_t *ret_revision, struct kp_error *error)
{
    const char *prefix = cache ? cache->kind->prefix : WCACHE_ROOT;
    KP_AUTO_FREE char *start = kp_strdup(prefix);
    int64_t revision = 0;
    for (bool more = true; more;) {
        KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
        struct store_page page = {0};
        if (store_list(set->store, start, store_prefix_end(prefix, arena), STORE_PAGE_LIMIT, revision, arena, &page, error) < 0)
            return error->code;
        if (!revision)
            revision = page.revision;
        for (size_t i = 0; i < page.len; i++) {
            struct wcache *to = cache ? cache : wcache_by_key(set, page.items[i].key);
            if (to)
                keep(to, &page.items[i]);
        }
        more = page.more && page.len;
        if (more) { /* keys hold no control characters, so nothing lies between the last one and this */
            free(start);
            start = kp_asprintf("%s\1", page.items[page.len - 1].key);
        }
    }
    *ret_revision = revision;
    return 0;
}

int wcache_load(struct wcache_set *set, struct kp_error *error)
{
    int64_t revision = 0;
    pthread_mutex_lock(&set->shape);
    int code = wcache_read(set, NULL, &revision, error);
    for (size_t i = 0; i < set->count; i++) {
        if (code == 0)
            wcache_replace(set->caches[i], revision);
        else
            wcache_items_done(&set->caches[i]->read);
    }
    if (code == 0) {
        pthread_mutex_lock(&set->mutex);
        set->revision = revision;
        pthread_mutex_unlock(&set->mutex);
    }
    pthread_mutex_unlock(&set->shape);
    return code;
}
