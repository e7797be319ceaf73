/* Watch caches with no store behind them: tests put objects in as if etcd had told of them. */
#ifndef TESTS_APISERVER_CACHES_H
#define TESTS_APISERVER_CACHES_H

#include "api/k8s.h"
#include "controlplane/apiserver/auth/auth_internal.h"
#include "controlplane/apiserver/registry/registry.h"
#include "controlplane/apiserver/watch/watch_internal.h"
#include "tests/unit/controlplane/apiserver/caches_memory_test.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

static inline struct wcache_set *caches_new(void)
{
    struct wcache_set *set = kp_calloc(1, sizeof(*set));
    size_t count;
    const struct wcache_kind *const *kinds = registry_cache_kinds(&count);
    pthread_mutex_init(&set->members, NULL);
    pthread_mutex_init(&set->mutex, NULL);
    pthread_cond_init(&set->changed, NULL);
    for (size_t i = 0; i < count; i++)
        wcache_link(set, wcache_new(set, kinds[i]));
    return set;
}

static inline void caches_free(struct wcache_set *set)
{
    caches_memory_free(set);
}

/* key: "ns/name" or "name"; json NULL deletes. */
static inline void caches_put(struct wcache_set *set, const char *group, const char *resource, const char *key, const char *json)
{
    struct wcache *cache = wcache_find(set, group, resource);
    assert_non_null(cache);
    KP_AUTO_FREE char *full = kp_asprintf("%s%s", cache->kind->prefix, key);
    struct store_event event = {.deleted = !json, .kv = {.key = full, .mod_revision = ++set->revision}};
    if (json)
        event.kv.value = (struct kp_bytes){(const uint8_t *)json, strlen(json)};
    wcache_apply(set, &event);
    KP_AUTO(wcache_object_unref) struct wcache_object *there = wcache_get(cache, key);
    assert_true((there != NULL) == (json != NULL));
}

#define RBAC "rbac.authorization.k8s.io"
#define RBAC_HEAD(kind, name) "{\"apiVersion\":\"" RBAC "/v1\",\"kind\":\"" kind "\",\"metadata\":{\"name\":\"" name "\"}"

static inline void bind_cluster(struct wcache_set *set, const char *name, const char *role, const char *subject_kind, const char *subject)
{
    KP_AUTO_FREE char *json = kp_asprintf("{\"apiVersion\":\"" RBAC "/v1\",\"kind\":\"ClusterRoleBinding\",\"metadata\":{\"name\":\"%s\"},"
                                          "\"roleRef\":{\"apiGroup\":\"" RBAC "\",\"kind\":\"ClusterRole\",\"name\":\"%s\"},"
                                          "\"subjects\":[{\"kind\":\"%s\",\"name\":\"%s\",\"namespace\":\"n\"}]}",
                                          name, role, subject_kind, subject);
    caches_put(set, RBAC, "clusterrolebindings", name, json);
}

#endif
