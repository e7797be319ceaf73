/* The binding cycle: what was decided is written in the background, without holding up the next decision, however long volumes take. */
#include "controlplane/scheduler/bind_internal.h"
#include "controlplane/scheduler/volumes_internal.h"
#include "lib/loop/loop.h"

#include <pthread.h>

#define BINDERS_MAX 8
#define BINDS_QUEUED_MAX 10000
#define VOLUMES_TIMEOUT_MS (600 * 1000) /* upstream's bindTimeoutSeconds */
#define LOOK_AGAIN_MS 1000              /* what is told by no event: time, a node or pod that went */

/* pool: volumes are written -> waiting until they are bound, looked after by one thread -> pool: the pod is bound. Without volumes to bind it is the last step
   alone. */
struct bind {
    struct bind *next; /* among those that wait */
    struct sched_binder *binder;
    struct client_object *object;
    char *node;
    struct sched_volume_plan plan;
    int64_t deadline_ms;
};

struct sched_binder {
    struct sched_binder_config config;
    struct pool *pool;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct bind *waiting;
    bool woken, stopping;
    bool looking; /* those that wait are not in the list for the moment */
};

static void free_bind(struct bind *bind)
{
    client_object_unref(bind->object);
    sched_volume_plan_done(&bind->plan);
    free(bind->node);
    free(bind);
}

static void submit(struct bind *bind, void (*fn)(void *))
{
    if (pool_submit(bind->binder->pool, fn, bind) < 0)
        fn(bind); /* the queue of binds is full: this thread slows down to their pace */
}

/* ---- how it ends ------------------------------------------------------------------------------------------------------------- */
/* The promises of volumes go with it; the pod stays assumed when it is bound. */
static void let_go(struct bind *bind, bool bound)
{
    struct sched_cache *cache = bind->binder->config.cache;
    sched_cache_lock(cache);
    sched_storage_keep(sched_cache_storage(cache), bind->object->uid);
    if (!bound && sched_cache_is_assumed(cache, bind->object)) /* and not another of the name that came meanwhile */
        sched_cache_remove_pod(cache, bind->object->ns, bind->object->name);
    sched_cache_unlock(cache);
}

static void fail_bind(struct bind *bind, const char *message)
{
    const struct sched_binder_config *config = &bind->binder->config;
    const struct client_event_target target = client_event_target_of(&k8s_pod_type, bind->object->data);
    kp_warn("binding failed", "pod", bind->object->name, "node", bind->node, "error", message, NULL);
    kp_metric_add(config->attempts, 1, "error");
    client_event(config->recorder, &target, "Warning", "FailedScheduling", "%s", message);
    let_go(bind, false);
    sched_queue_retry(config->queue, bind->object);
    sched_queue_move_all(config->queue);
    free_bind(bind);
}

static void drop_bind(struct bind *bind) /* the pod is gone */
{
    let_go(bind, false);
    sched_queue_drop(bind->binder->config.queue, bind->object);
    free_bind(bind);
}

/* ---- the pod ------------------------------------------------------------------------------------------------------------------- */
static void bind_pod(void *arg)
{
    struct bind *bind = arg;
    const struct sched_binder_config *config = &bind->binder->config;
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    struct k8s_binding *binding = KP_OBJECT_NEW(arena, k8s_binding);
    binding->metadata->name = bind->object->name;
    binding->metadata->namespace = bind->object->ns;
    binding->metadata->uid = bind->object->uid;
    binding->target->kind = "Node";
    binding->target->name = bind->node;
    struct kp_error error = {0};
    int code = client_create_sub(config->client, &k8s_pods_resource, bind->object->ns, bind->object->name, "binding", &k8s_binding_type, binding,
                                 arena, NULL, &error);
    if (code == KP_ENOTFOUND) {
        drop_bind(bind);
        return;
    }
    if (code < 0) {
        fail_bind(bind, kp_arena_printf(arena, "binding rejected: %s", error.message));
        return;
    }
    const struct client_event_target target = client_event_target_of(&k8s_pod_type, bind->object->data);
    client_event(config->recorder, &target, "Normal", "Scheduled", "Successfully assigned %s/%s to %s", bind->object->ns, bind->object->name, bind->node);
    kp_metric_add(config->attempts, 1, "scheduled");
    let_go(bind, true);
    free_bind(bind);
}

/* ---- its volumes --------------------------------------------------------------------------------------------------------------- */
static void fail_volumes(struct bind *bind, const char *message)
{
    KP_AUTO_FREE char *text = kp_asprintf("running PreBind plugin \"VolumeBinding\": %s", message);
    fail_bind(bind, text);
}

static void wake(struct sched_binder *binder)
{
    binder->woken = true;
    pthread_cond_signal(&binder->changed);
}

static void put_waiting(struct bind *bind)
{
    struct sched_binder *binder = bind->binder;
    pthread_mutex_lock(&binder->lock);
    bind->next = binder->waiting;
    binder->waiting = bind;
    wake(binder); /* it may have happened already */
    pthread_mutex_unlock(&binder->lock);
}

static void bind_volumes(void *arg)
{
    struct bind *bind = arg;
    struct kp_error error = {0};
    if (sched_volume_plan_write(&bind->plan, bind->binder->config.client, &error) < 0) {
        fail_volumes(bind, error.message);
        return;
    }
    bind->deadline_ms = kp_mono_ms() + VOLUMES_TIMEOUT_MS;
    put_waiting(bind);
}

static bool pod_is_there(const struct bind *bind)
{
    KP_AUTO(client_object_unref) struct client_object *object = client_informer_get(bind->binder->config.pods, bind->object->ns, bind->object->name);
    return object && kp_streq(object->uid, bind->object->uid) && !((const struct k8s_pod *)object->data)->metadata->deletion_timestamp.set;
}

static void look_at(struct bind *bind)
{
    struct sched_cache *cache = bind->binder->config.cache;
    struct kp_error error = {0};
    if (!pod_is_there(bind)) {
        drop_bind(bind);
        return;
    }
    sched_cache_lock(cache);
    const struct sched_cluster cluster = sched_cache_cluster(cache);
    int state = sched_volume_plan_state(&bind->plan, &cluster, &error);
    sched_cache_unlock(cache);
    if (state == 0 && kp_mono_ms() >= bind->deadline_ms)
        state = kp_fail(&error, KP_ETIMEOUT, "context deadline exceeded");
    if (state > 0) {
        submit(bind, bind_pod);
    } else if (state == 0) {
        pthread_mutex_lock(&bind->binder->lock);
        bind->next = bind->binder->waiting;
        bind->binder->waiting = bind;
        pthread_mutex_unlock(&bind->binder->lock);
    } else {
        KP_AUTO_FREE char *text = kp_asprintf("binding volumes: %s", error.message);
        fail_volumes(bind, text);
    }
}

static void wait_for_news(struct sched_binder *binder)
{
    while (!binder->stopping && !binder->woken) {
        if (!binder->waiting) {
            pthread_cond_wait(&binder->changed, &binder->lock);
            continue;
        }
        int64_t next_ms = kp_mono_ms() + LOOK_AGAIN_MS;
        struct timespec until = {.tv_sec = next_ms / 1000, .tv_nsec = (next_ms % 1000) * 1000000};
        if (pthread_cond_timedwait(&binder->changed, &binder->lock, &until) != 0)
            return;
    }
}

static void *look_after_volumes(void *arg)
{
    struct sched_binder *binder = arg;
    pthread_mutex_lock(&binder->lock);
    for (;;) {
        wait_for_news(binder);
        if (binder->stopping)
            break;
        binder->woken = false;
        binder->looking = true;
        struct bind *list = binder->waiting;
        binder->waiting = NULL;
        pthread_mutex_unlock(&binder->lock);
        while (list) {
            struct bind *bind = list;
            list = list->next;
            look_at(bind);
        }
        pthread_mutex_lock(&binder->lock);
        binder->looking = false;
    }
    pthread_mutex_unlock(&binder->lock);
    return NULL;
}

/* ---- the binder ---------------------------------------------------------------------------------------------------------------- */
int sched_binder_new(const struct sched_binder_config *config, struct sched_binder **ret_binder, struct kp_error *error)
{
    struct sched_binder *binder = kp_calloc(1, sizeof(*binder));
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    binder->config = *config;
    pthread_mutex_init(&binder->lock, NULL);
    pthread_cond_init(&binder->changed, &attr);
    pthread_condattr_destroy(&attr);
    if (pthread_create(&binder->thread, NULL, look_after_volumes, binder) != 0) {
        pthread_mutex_destroy(&binder->lock);
        pthread_cond_destroy(&binder->changed);
        free(binder);
        return kp_fail(error, KP_EUNAVAILABLE, "no thread could be started");
    }
    binder->pool = pool_new("bind", BINDERS_MAX, BINDS_QUEUED_MAX);
    *ret_binder = binder;
    return 0;
}

void sched_binder_bind(struct sched_binder *binder, struct client_object *object, const char *node, struct sched_volume_plan *plan)
{
    struct bind *bind = kp_calloc(1, sizeof(*bind));
    *bind = (struct bind){.binder = binder, .object = client_object_ref(object), .node = kp_strdup(node), .plan = *plan};
    *plan = (struct sched_volume_plan){0};
    submit(bind, bind->plan.len ? bind_volumes : bind_pod);
}

void sched_binder_wake(struct sched_binder *binder)
{
    pthread_mutex_lock(&binder->lock);
    if (binder->waiting || binder->looking)
        wake(binder);
    pthread_mutex_unlock(&binder->lock);
}

void sched_binder_free(struct sched_binder *binder)
{
    if (!binder)
        return;
    pthread_mutex_lock(&binder->lock);
    binder->stopping = true;
    pthread_cond_signal(&binder->changed);
    pthread_mutex_unlock(&binder->lock);
    pthread_join(binder->thread, NULL);
    pool_free(binder->pool); /* what it still does may come to wait: for the next scheduler */
    while (binder->waiting) {
        struct bind *bind = binder->waiting;
        binder->waiting = bind->next;
        free_bind(bind);
    }
    pthread_mutex_destroy(&binder->lock);
    pthread_cond_destroy(&binder->changed);
    free(binder);
}
