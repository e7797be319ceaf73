/* The memory of watch caches, which a server keeps to its end: tests free it once no stream is left. */
#ifndef TESTS_APISERVER_CACHES_MEMORY_H
#define TESTS_APISERVER_CACHES_MEMORY_H

#include "controlplane/apiserver/watch/watch_internal.h"

static inline void caches_memory_free(struct wcache_set *set)
{
    for (size_t i = 0; i < set->count; i++)
        wcache_free(set->caches[i]);
    while (set->gone) {
        struct wcache *cache = set->gone;
        set->gone = cache->next_gone;
        wcache_free(cache);
    }
    free(set->caches);
    free(set);
}

#endif
