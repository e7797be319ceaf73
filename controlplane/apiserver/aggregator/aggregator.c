/* The thread that follows APIServices, and what they depend on: rounds, and what makes one. */
#include "controlplane/apiserver/aggregator/aggregator_internal.h"

#include <errno.h>
#include <time.h>

#define START_WAIT_MS 1000
#define AGAIN_MS 1000 /* after something could not be written */

/* ---- what is tracked ------------------------------------------------------------------------------------------------------------ */
static void tracked_free(void *arg)
{
    struct tracked *tracked = arg;
    kp_arena_free(tracked->arena);
    kp_blob_unref(tracked->resources);
    free(tracked->openapi_url);
    free(tracked->spec);
    free(tracked->name);
    free(tracked);
}

/* Another spec: nothing that is known of the old one holds. */
static void take_spec(struct tracked *tracked)
{
    KP_AUTO_BUF struct kp_buf spec = {0};
    kp_json_encode(&k8s_api_service_spec_type, tracked->object->spec, &spec);
    if (kp_streq(tracked->spec, spec.data))
        return;
    free(tracked->spec);
    tracked->spec = kp_strdup(spec.data);
    kp_blob_unref(tracked->resources);
    free(tracked->openapi_url);
    tracked->resources = NULL;
    tracked->openapi_url = NULL;
    tracked->current = false;
    tracked->check_ms = tracked->discover_ms = tracked->retry_ms = 0;
}

/* True when there is something new. */
static bool track(struct aggregator *aggregator, const struct wcache_object *object)
{
    struct tracked *tracked = kp_strmap_get(aggregator->tracked, object->name);
    if (!tracked) {
        tracked = kp_calloc(1, sizeof(*tracked));
        tracked->name = kp_strdup(object->name);
        kp_strmap_put(aggregator->tracked, tracked->name, tracked);
    }
    tracked->seen = true;
    if (tracked->revision == object->revision)
        return false;
    kp_arena_free(tracked->arena);
    tracked->arena = kp_arena_new(0);
    tracked->object = registry_decode(registry_kind_of(&k8s_apiservices_resource), object, tracked->arena);
    tracked->revision = object->revision;
    take_spec(tracked);
    return true;
}

static bool forget_unseen(struct aggregator *aggregator)
{
    const char *name;
    void *value;
    bool changed = false;
    for (size_t iter = 0; kp_strmap_next(aggregator->tracked, &iter, &name, &value);) {
        struct tracked *tracked = value;
        if (tracked->seen) {
            tracked->seen = false;
            continue;
        }
        if (tracked->object->spec->service)
            kp_metric_set(aggregator->unavailable, 0, tracked->name);
        kp_strmap_remove(aggregator->tracked, name);
        tracked_free(tracked);
        changed = true;
    }
    return changed;
}

static bool follow(struct aggregator *aggregator, struct kp_arena *arena)
{
    struct wcache_list list = {0};
    const struct wcache_filter filter = {0};
    bool changed = false;
    wcache_list(registry_cache_of(aggregator->config.registry, registry_kind_of(&k8s_apiservices_resource)), &filter, NULL, 0, arena, &list);
    for (size_t i = 0; i < list.len; i++)
        changed |= track(aggregator, list.items[i]);
    wcache_list_done(&list);
    return forget_unseen(aggregator) || changed;
}

static const char *service_key(const api_service_t *service, struct kp_arena *arena)
{
    const struct k8s_apiregistration_service_reference *ref = service->spec->service;
    return ref ? kp_arena_printf(arena, "%s/%s", ref->namespace ? ref->namespace : "", ref->name ? ref->name : "") : NULL;
}

/* Those whose Services changed are looked at now; listeners hear of the Services that are named from here on. */
static void take_touched(struct aggregator *aggregator, int64_t now_ms, struct kp_arena *arena)
{
    struct kp_strmap *watched = kp_strmap_new(), *before, *touched;
    void *value;
    for (size_t iter = 0; kp_strmap_next(aggregator->tracked, &iter, NULL, &value);) {
        const char *key = service_key(((const struct tracked *)value)->object, arena);
        if (key)
            kp_strmap_put(watched, key, aggregator);
    }
    pthread_mutex_lock(&aggregator->mutex);
    before = aggregator->watched;
    touched = aggregator->touched;
    aggregator->watched = watched;
    aggregator->touched = kp_strmap_new();
    pthread_mutex_unlock(&aggregator->mutex);
    for (size_t iter = 0; kp_strmap_len(touched) && kp_strmap_next(aggregator->tracked, &iter, NULL, &value);) {
        struct tracked *tracked = value;
        const char *key = service_key(tracked->object, arena);
        if (key && kp_strmap_get(touched, key)) {
            tracked->check_ms = now_ms;
            tracked->discover_ms = KP_MIN(tracked->discover_ms, now_ms);
        }
    }
    kp_strmap_free(before, NULL);
    kp_strmap_free(touched, NULL);
}

/* ---- one round --------------------------------------------------------------------------------------------------------------------- */
static void publish(struct aggregator *aggregator)
{
    struct aggregator_view *view = view_make(aggregator);
    pthread_mutex_lock(&aggregator->mutex);
    struct aggregator_view *before = aggregator->view;
    aggregator->view = view;
    pthread_mutex_unlock(&aggregator->mutex);
    aggregator_release(before);
}

static int64_t next_ms(const struct aggregator *aggregator, int64_t now_ms)
{
    int64_t next = INT64_MAX;
    void *value;
    for (size_t iter = 0; kp_strmap_next(aggregator->tracked, &iter, NULL, &value);) {
        const struct tracked *tracked = value;
        if (!tracked->object->spec->service) {
            next = tracked->check_ms > now_ms ? KP_MIN(next, tracked->check_ms) : next;
            continue;
        }
        next = KP_MIN(next, tracked->check_ms);
        if (tracked->retry_ms == 0)
            next = KP_MIN(next, tracked->discover_ms);
    }
    return next == INT64_MAX ? -1 : KP_MAX(next - now_ms, (int64_t)AGGREGATOR_RETRY_MS_MIN);
}

static bool keep_trust(struct aggregator *aggregator, struct kp_arena *arena)
{
    pthread_mutex_lock(&aggregator->mutex);
    bool right = aggregator->trusted;
    aggregator->trusted = true; /* a change from here on says otherwise again */
    pthread_mutex_unlock(&aggregator->mutex);
    if (right || trust_publish(aggregator, arena))
        return true;
    pthread_mutex_lock(&aggregator->mutex);
    aggregator->trusted = false;
    pthread_mutex_unlock(&aggregator->mutex);
    return false;
}

int64_t aggregator_round(struct aggregator *aggregator, int64_t now_ms)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    bool changed = follow(aggregator, arena);
    take_touched(aggregator, now_ms, arena);
    if (changed || !aggregator->view)
        publish(aggregator);
    bool good = register_all(aggregator, arena);
    good &= keep_trust(aggregator, arena);
    check_all(aggregator, now_ms, arena);
    if (discover_all(aggregator, now_ms, arena))
        publish(aggregator);
    int64_t next = next_ms(aggregator, now_ms);
    return good ? next : next < 0 ? AGAIN_MS : KP_MIN(next, (int64_t)AGAIN_MS);
}

/* ---- listeners: on the apply thread, may not block for long ------------------------------------------------------------------- */
static void wake_locked(struct aggregator *aggregator)
{
    aggregator->dirty = true;
    pthread_cond_broadcast(&aggregator->changed);
}

static void on_change(void *arg, struct wcache_object *object, struct wcache_object *old)
{
    struct aggregator *aggregator = arg;
    (void)object;
    (void)old;
    pthread_mutex_lock(&aggregator->mutex);
    wake_locked(aggregator);
    pthread_mutex_unlock(&aggregator->mutex);
}

static void touch(struct aggregator *aggregator, const char *key)
{
    pthread_mutex_lock(&aggregator->mutex);
    if (kp_strmap_get(aggregator->watched, key)) {
        kp_strmap_put(aggregator->touched, key, aggregator);
        wake_locked(aggregator);
    }
    pthread_mutex_unlock(&aggregator->mutex);
}

static void on_service(void *arg, struct wcache_object *object, struct wcache_object *old)
{
    touch(arg, object ? object->key : old->key);
}

static void touch_of_slice(struct aggregator *aggregator, const struct wcache_object *slice)
{
    const char *service = slice ? kp_string_map_get(&slice->labels, "kubernetes.io/service-name") : NULL;
    char key[2 * KP_API_VERSION_MAX];
    if (service && (size_t)snprintf(key, sizeof(key), "%s/%s", slice->ns, service) < sizeof(key))
        touch(aggregator, key);
}

static void on_slice(void *arg, struct wcache_object *object, struct wcache_object *old)
{
    touch_of_slice(arg, object);
    touch_of_slice(arg, old);
}

static void on_config_map(void *arg, struct wcache_object *object, struct wcache_object *old)
{
    struct aggregator *aggregator = arg;
    if (strcmp(object ? object->key : old->key, TRUST_NAMESPACE "/" TRUST_NAME) != 0)
        return;
    pthread_mutex_lock(&aggregator->mutex);
    aggregator->trusted = false;
    wake_locked(aggregator);
    pthread_mutex_unlock(&aggregator->mutex);
}

static void listen_to(struct aggregator *aggregator, const struct kp_resource *resource, wcache_listener_fn fn)
{
    wcache_listen(registry_cache_of(aggregator->config.registry, registry_kind_of(resource)), fn, aggregator);
}

/* ---- life -------------------------------------------------------------------------------------------------------------------------- */
/* Until something changed, or in_ms have passed (-1: for ever); false at the end. */
static bool wait_for_work(struct aggregator *aggregator, int64_t in_ms)
{
    struct timespec until;
    int code = 0;
    clock_gettime(CLOCK_MONOTONIC, &until);
    int64_t ns = until.tv_nsec + in_ms % 1000 * 1000000;
    until.tv_sec += in_ms / 1000 + ns / 1000000000;
    until.tv_nsec = ns % 1000000000;
    pthread_mutex_lock(&aggregator->mutex);
    while (!aggregator->dirty && !aggregator->stopping && code != ETIMEDOUT)
        code = in_ms < 0 ? pthread_cond_wait(&aggregator->changed, &aggregator->mutex)
                         : pthread_cond_clockwait(&aggregator->changed, &aggregator->mutex, CLOCK_MONOTONIC, &until);
    aggregator->dirty = false;
    bool go = !aggregator->stopping;
    pthread_mutex_unlock(&aggregator->mutex);
    return go;
}

static bool is_stopping(struct aggregator *aggregator)
{
    pthread_mutex_lock(&aggregator->mutex);
    bool stopping = aggregator->stopping;
    pthread_mutex_unlock(&aggregator->mutex);
    return stopping;
}

static void *run(void *arg)
{
    struct aggregator *aggregator = arg;
    while (!wcache_set_wait_ready(aggregator->config.caches, START_WAIT_MS))
        if (is_stopping(aggregator))
            return NULL;
    listen_to(aggregator, &k8s_apiservices_resource, on_change);
    listen_to(aggregator, &k8s_customresourcedefinitions_resource, on_change);
    listen_to(aggregator, &k8s_services_resource, on_service);
    listen_to(aggregator, &k8s_endpointslices_resource, on_slice);
    listen_to(aggregator, &k8s_configmaps_resource, on_config_map);
    int64_t again_ms = 0;
    while (wait_for_work(aggregator, again_ms))
        again_ms = aggregator_round(aggregator, kp_mono_ms());
    return NULL;
}

int aggregator_make(const struct aggregator_config *config, struct aggregator **ret_aggregator, struct kp_error *error)
{
    static const char *const name[] = {"name", NULL}, *const name_and_reason[] = {"name", "reason", NULL};
    struct aggregator *aggregator = kp_calloc(1, sizeof(*aggregator));
    aggregator->config = *config;
    aggregator->arena = kp_arena_new(0);
    aggregator->tracked = kp_strmap_new();
    aggregator->definitions = kp_strmap_new();
    aggregator->watched = kp_strmap_new();
    aggregator->touched = kp_strmap_new();
    aggregator->unavailable = kp_gauge("aggregator_unavailable_apiservice", "APIServices that are marked as unavailable, by name.", name);
    aggregator->unavailable_total =
        kp_counter("aggregator_unavailable_apiservice_total", "How often APIServices were marked as unavailable, by name and reason.", name_and_reason);
    pthread_mutex_init(&aggregator->mutex, NULL);
    pthread_cond_init(&aggregator->changed, NULL);
    if (config->trust && trust_read(config->trust, aggregator->arena, &aggregator->trust, error) < 0) {
        aggregator_free(aggregator);
        return error->code;
    }
    *ret_aggregator = aggregator;
    return 0;
}

int aggregator_new(const struct aggregator_config *config, struct aggregator **ret_aggregator, struct kp_error *error)
{
    struct aggregator *aggregator = NULL;
    if (aggregator_make(config, &aggregator, error) < 0)
        return error->code;
    KP_ASSERT(pthread_create(&aggregator->thread, NULL, run, aggregator) == 0);
    *ret_aggregator = aggregator;
    return 0;
}

/* Listeners cannot be taken back: what they use stays, for the little that a process still does. */
void aggregator_stop(struct aggregator *aggregator)
{
    if (!aggregator)
        return;
    pthread_mutex_lock(&aggregator->mutex);
    aggregator->stopping = true;
    pthread_cond_broadcast(&aggregator->changed);
    pthread_mutex_unlock(&aggregator->mutex);
    pthread_join(aggregator->thread, NULL);
}

void aggregator_free(struct aggregator *aggregator)
{
    if (!aggregator)
        return;
    aggregator_release(aggregator->view);
    kp_strmap_free(aggregator->tracked, tracked_free);
    kp_strmap_free(aggregator->definitions, definition_free);
    kp_strmap_free(aggregator->watched, NULL);
    kp_strmap_free(aggregator->touched, NULL);
    pthread_cond_destroy(&aggregator->changed);
    pthread_mutex_destroy(&aggregator->mutex);
    kp_arena_free(aggregator->arena);
    free(aggregator);
}
