/* The scheduler's picture of the cluster: nodes in a flat array, each with its pods and the sums over them. */
#include "controlplane/scheduler/volumes_internal.h"

#include <pthread.h>

struct sched_cache {
    pthread_mutex_t lock;
    struct sched_node **nodes; /* all, also those only known from their pods */
    size_t n_nodes, cap_nodes;
    struct sched_node **known; /* those with an object: what is scheduled on; rebuilt when nodes come or go */
    size_t n_known;
    struct kp_strmap *by_name; /* name -> struct sched_node */
    struct kp_strmap *pod_node; /* "ns/name" -> struct sched_node */
    struct kp_strmap *namespaces; /* name -> struct client_object */
    struct sched_nomination *nominations; /* few: only pods for which others had to go */
    size_t n_nominations;
    struct sched_storage *storage;
};

struct sched_cache *sched_cache_new(void)
{
    struct sched_cache *cache = kp_calloc(1, sizeof(*cache));
    pthread_mutex_init(&cache->lock, NULL);
    cache->by_name = kp_strmap_new();
    cache->pod_node = kp_strmap_new();
    cache->namespaces = kp_strmap_new();
    cache->storage = sched_storage_new();
    return cache;
}

void sched_cache_lock(struct sched_cache *cache)
{
    pthread_mutex_lock(&cache->lock);
}

void sched_cache_unlock(struct sched_cache *cache)
{
    pthread_mutex_unlock(&cache->lock);
}

static void free_assigned(struct sched_assigned *a)
{
    client_object_unref(a->object);
    kp_arena_free(a->arena);
    free(a->key);
    free(a->uid);
}

static void free_nomination(struct sched_nomination *nomination)
{
    free_assigned(&nomination->pod);
    free(nomination->node);
}

static void free_node(struct sched_node *node)
{
    for (size_t i = 0; i < node->n_pods; i++)
        free_assigned(&node->pods[i]);
    client_object_unref(node->object);
    free(node->pods);
    free(node->name);
    free(node);
}

static void unref_object(void *object)
{
    client_object_unref(object);
}

void sched_cache_free(struct sched_cache *cache)
{
    if (!cache)
        return;
    for (size_t i = 0; i < cache->n_nodes; i++)
        free_node(cache->nodes[i]);
    free(cache->nodes);
    free(cache->known);
    kp_strmap_free(cache->by_name, NULL);
    kp_strmap_free(cache->pod_node, NULL);
    kp_strmap_free(cache->namespaces, unref_object);
    for (size_t i = 0; i < cache->n_nominations; i++)
        free_nomination(&cache->nominations[i]);
    free(cache->nominations);
    sched_storage_free(cache->storage);
    pthread_mutex_destroy(&cache->lock);
    free(cache);
}

static void rebuild_known(struct sched_cache *cache)
{
    cache->known = kp_realloc(cache->known, (cache->n_nodes + 1) * sizeof(*cache->known));
    cache->n_known = 0;
    for (size_t i = 0; i < cache->n_nodes; i++)
        if (cache->nodes[i]->object)
            cache->known[cache->n_known++] = cache->nodes[i];
}

static struct sched_node *need_node(struct sched_cache *cache, const char *name)
{
    struct sched_node *node = kp_strmap_get(cache->by_name, name);
    if (node)
        return node;
    node = kp_calloc(1, sizeof(*node));
    node->name = kp_strdup(name);
    if (cache->n_nodes == cache->cap_nodes) {
        cache->cap_nodes = cache->cap_nodes ? cache->cap_nodes * 2 : 16;
        cache->nodes = kp_realloc(cache->nodes, cache->cap_nodes * sizeof(*cache->nodes));
    }
    cache->nodes[cache->n_nodes++] = node;
    kp_strmap_put(cache->by_name, name, node);
    return node;
}

static void drop_if_empty(struct sched_cache *cache, struct sched_node *node)
{
    if (node->object || node->n_pods)
        return;
    for (size_t i = 0; i < cache->n_nodes; i++)
        if (cache->nodes[i] == node) {
            memmove(&cache->nodes[i], &cache->nodes[i + 1], (cache->n_nodes - i - 1) * sizeof(*cache->nodes));
            cache->n_nodes--;
            break;
        }
    kp_strmap_remove(cache->by_name, node->name);
    free_node(node);
}

static void read_allocatable(struct sched_node *node)
{
    const struct kp_string_map *map = node->node->status->allocatable.len ? &node->node->status->allocatable : &node->node->status->capacity;
    memset(&node->allocatable, 0, sizeof(node->allocatable));
    node->pods_allowed = 0;
    for (size_t i = 0; i < map->len; i++) {
        const char *name = map->items[i].key, *value = map->items[i].value;
        if (strcmp(name, "cpu") == 0) {
            node->allocatable.milli_cpu = kp_quantity_str_milli(value);
        } else if (strcmp(name, "memory") == 0) {
            node->allocatable.memory = kp_quantity_str_value(value);
        } else if (strcmp(name, "ephemeral-storage") == 0) {
            node->allocatable.ephemeral_storage = kp_quantity_str_value(value);
        } else if (strcmp(name, "pods") == 0) {
            node->pods_allowed = kp_quantity_str_value(value);
        } else if (node->allocatable.n_extended < SCHED_EXTENDED_MAX) {
            node->allocatable.extended[node->allocatable.n_extended].name = name;
            node->allocatable.extended[node->allocatable.n_extended++].value = kp_quantity_str_value(value);
        }
    }
}

void sched_cache_set_node(struct sched_cache *cache, struct client_object *object)
{
    struct sched_node *node = need_node(cache, object->name);
    client_object_unref(node->object);
    node->object = client_object_ref(object);
    node->node = object->data;
    read_allocatable(node);
    rebuild_known(cache);
}

void sched_cache_remove_node(struct sched_cache *cache, const char *name)
{
    struct sched_node *node = kp_strmap_get(cache->by_name, name);
    if (!node)
        return;
    client_object_unref(KP_TAKE(node->object));
    node->node = NULL;
    drop_if_empty(cache, node);
    rebuild_known(cache);
}

static void sum_up(struct sched_node *node)
{
    /* Names of extended resources are borrowed from pods, so the sums are made anew rather than subtracted from. */
    memset(&node->requested, 0, sizeof(node->requested));
    memset(&node->nonzero, 0, sizeof(node->nonzero));
    for (size_t i = 0; i < node->n_pods; i++) {
        sched_resources_add(&node->requested, &node->pods[i].info.requests, 1);
        sched_resources_add(&node->nonzero, &node->pods[i].info.nonzero, 1);
    }
}

static void remove_key(struct sched_cache *cache, const char *key)
{
    struct sched_node *node = kp_strmap_remove(cache->pod_node, key);
    if (!node)
        return;
    for (size_t i = 0; i < node->n_pods; i++)
        if (strcmp(node->pods[i].key, key) == 0) {
            free_assigned(&node->pods[i]);
            node->pods[i] = node->pods[--node->n_pods];
            break;
        }
    sum_up(node);
    drop_if_empty(cache, node);
}

static void forget_nomination(struct sched_cache *cache, const char *key)
{
    for (size_t i = 0; i < cache->n_nominations; i++)
        if (strcmp(cache->nominations[i].pod.key, key) == 0) {
            free_nomination(&cache->nominations[i]);
            cache->nominations[i] = cache->nominations[--cache->n_nominations];
            return;
        }
}

void sched_cache_forget_nomination(struct sched_cache *cache, const char *ns, const char *name)
{
    KP_AUTO_FREE char *key = kp_asprintf("%s/%s", ns, name);
    forget_nomination(cache, key);
}

void sched_cache_remove_pod(struct sched_cache *cache, const char *ns, const char *name)
{
    KP_AUTO_FREE char *key = kp_asprintf("%s/%s", ns, name);
    remove_key(cache, key);
    forget_nomination(cache, key);
}

/* Takes key over. */
static struct sched_assigned assigned_of(struct client_object *object, char *key)
{
    struct sched_assigned a = {.object = client_object_ref(object), .key = key, .uid = kp_strdup(object->uid), .arena = kp_arena_new(0)};
    sched_pod_init(&a.info, object->data, a.arena);
    return a;
}

void sched_cache_nominate(struct sched_cache *cache, struct client_object *object, const char *node)
{
    char *key = kp_asprintf("%s/%s", object->ns, object->name);
    forget_nomination(cache, key);
    cache->nominations = kp_realloc(cache->nominations, (cache->n_nominations + 1) * sizeof(*cache->nominations));
    cache->nominations[cache->n_nominations++] = (struct sched_nomination){assigned_of(object, key), kp_strdup(node)};
}

static void put(struct sched_cache *cache, struct client_object *object, const char *node_name, bool assumed)
{
    char *key = kp_asprintf("%s/%s", object->ns, object->name);
    remove_key(cache, key);
    forget_nomination(cache, key);
    struct sched_node *node = need_node(cache, node_name);
    if (node->n_pods == node->cap_pods) {
        node->cap_pods = node->cap_pods ? node->cap_pods * 2 : 8;
        node->pods = kp_realloc(node->pods, node->cap_pods * sizeof(*node->pods));
    }
    struct sched_assigned *a = &node->pods[node->n_pods++];
    *a = assigned_of(object, key);
    a->assumed = assumed;
    kp_strmap_put(cache->pod_node, key, node);
    sum_up(node);
}

void sched_cache_set_pod(struct sched_cache *cache, struct client_object *object)
{
    put(cache, object, ((const struct k8s_pod *)object->data)->spec->node_name, false);
}

void sched_cache_assume(struct sched_cache *cache, struct client_object *object, const char *node)
{
    put(cache, object, node, true);
}

bool sched_cache_is_assumed(const struct sched_cache *cache, const struct client_object *object)
{
    KP_AUTO_FREE char *key = kp_asprintf("%s/%s", object->ns, object->name);
    const struct sched_node *node = kp_strmap_get(cache->pod_node, key);
    for (size_t i = 0; node && i < node->n_pods; i++)
        if (strcmp(node->pods[i].key, key) == 0)
            return node->pods[i].assumed && kp_streq(node->pods[i].uid, object->uid);
    return false;
}

struct sched_storage *sched_cache_storage(struct sched_cache *cache)
{
    return cache->storage;
}

void sched_cache_set_namespace(struct sched_cache *cache, struct client_object *object)
{
    client_object_unref(kp_strmap_put(cache->namespaces, object->name, client_object_ref(object)));
}

void sched_cache_remove_namespace(struct sched_cache *cache, const char *name)
{
    client_object_unref(kp_strmap_remove(cache->namespaces, name));
}

struct sched_cluster sched_cache_cluster(const struct sched_cache *cache)
{
    return (struct sched_cluster){
        .nodes = cache->known, .n = cache->n_known, .namespaces = cache->namespaces,
        .nominations = cache->nominations, .n_nominations = cache->n_nominations, .storage = cache->storage,
    };
}
