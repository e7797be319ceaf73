/* The queue of pods to be scheduled: active, back-off and unschedulable, with upstream's times. */
#include "controlplane/scheduler/scheduler.h"

#include <pthread.h>

#define BACKOFF_INITIAL_MS 1000
#define BACKOFF_MAX_MS 10000
#define UNSCHEDULABLE_MAX_MS (5 * 60 * 1000)

/* Where a pod waits. new -> ACTIVE -pop-> IN_FLIGHT -bound-> gone; IN_FLIGHT -does not fit-> UNSCHEDULABLE or BACKOFF;
   UNSCHEDULABLE -event-> BACKOFF or ACTIVE; BACKOFF -time-> ACTIVE. */
enum place { ACTIVE, BACKOFF, UNSCHEDULABLE, IN_FLIGHT };

struct waiting {
    struct waiting *next; /* in the list of its place */
    struct client_object *object;
    char *key;
    enum place place;
    int32_t priority;
    int64_t added_ms, due_ms;
    unsigned attempts;
};

struct sched_queue {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct kp_strmap *pods; /* "ns/name" -> struct waiting */
    struct waiting *lists[IN_FLIGHT];
    uint64_t cycle, moved_cycle, minding_cycle, claiming_cycle; /* pops so far; their count at the last move of all, of those that mind others, with claims */
    bool shutdown;
};

struct sched_queue *sched_queue_new(void)
{
    struct sched_queue *queue = kp_calloc(1, sizeof(*queue));
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_mutex_init(&queue->lock, NULL);
    pthread_cond_init(&queue->changed, &attr);
    pthread_condattr_destroy(&attr);
    queue->pods = kp_strmap_new();
    return queue;
}

static void free_waiting(void *p)
{
    struct waiting *w = p;
    client_object_unref(w->object);
    free(w->key);
    free(w);
}

void sched_queue_free(struct sched_queue *queue)
{
    if (!queue)
        return;
    kp_strmap_free(queue->pods, free_waiting);
    pthread_mutex_destroy(&queue->lock);
    pthread_cond_destroy(&queue->changed);
    free(queue);
}

static bool more_urgent(const struct waiting *a, const struct waiting *b)
{
    return a->priority != b->priority ? a->priority > b->priority : a->added_ms < b->added_ms;
}

static void unlink_from(struct sched_queue *queue, struct waiting *w)
{
    if (w->place == IN_FLIGHT)
        return;
    for (struct waiting **p = &queue->lists[w->place]; *p; p = &(*p)->next)
        if (*p == w) {
            *p = w->next;
            return;
        }
}

/* Active is kept sorted; the other two are short or only walked on events. */
static void put(struct sched_queue *queue, struct waiting *w, enum place place)
{
    struct waiting **p = &queue->lists[place];
    w->place = place;
    while (place == ACTIVE && *p && !more_urgent(w, *p))
        p = &(*p)->next;
    w->next = *p;
    *p = w;
    pthread_cond_signal(&queue->changed);
}

static int64_t backoff_ms(const struct waiting *w)
{
    int64_t ms = BACKOFF_INITIAL_MS;
    for (unsigned i = 1; i < w->attempts && ms < BACKOFF_MAX_MS; i++)
        ms *= 2;
    return KP_MIN(ms, (int64_t)BACKOFF_MAX_MS);
}

void sched_queue_add(struct sched_queue *queue, struct client_object *object)
{
    KP_AUTO_FREE char *key = kp_asprintf("%s/%s", object->ns, object->name);
    const struct k8s_pod *pod = object->data;
    pthread_mutex_lock(&queue->lock);
    struct waiting *w = kp_strmap_get(queue->pods, key);
    bool same_spec = w && kp_streq(w->object->uid, object->uid) &&
                     kp_object_meta(w->object->type, w->object->data)->generation == pod->metadata->generation &&
                     kp_object_equal(&k8s_pod_spec_type, ((const struct k8s_pod *)w->object->data)->spec, pod->spec);
    if (!w) {
        w = kp_calloc(1, sizeof(*w));
        w->key = kp_strdup(key);
        w->place = IN_FLIGHT;
        w->added_ms = kp_mono_ms();
        kp_strmap_put(queue->pods, key, w);
    } else {
        client_object_unref(w->object);
    }
    w->object = client_object_ref(object);
    w->priority = pod->spec->has_priority ? pod->spec->priority : 0;
    if (!same_spec) { /* our own status writes must not wake a pod up */
        unlink_from(queue, w);
        put(queue, w, ACTIVE);
    }
    pthread_mutex_unlock(&queue->lock);
}

static void forget(struct sched_queue *queue, struct waiting *w)
{
    unlink_from(queue, w);
    kp_strmap_remove(queue->pods, w->key);
    free_waiting(w);
}

void sched_queue_remove(struct sched_queue *queue, const char *ns, const char *name)
{
    KP_AUTO_FREE char *key = kp_asprintf("%s/%s", ns, name);
    pthread_mutex_lock(&queue->lock);
    struct waiting *w = kp_strmap_get(queue->pods, key);
    if (w)
        forget(queue, w);
    pthread_mutex_unlock(&queue->lock);
}

void sched_queue_drop(struct sched_queue *queue, const struct client_object *object)
{
    KP_AUTO_FREE char *key = kp_asprintf("%s/%s", object->ns, object->name);
    pthread_mutex_lock(&queue->lock);
    struct waiting *w = kp_strmap_get(queue->pods, key);
    if (w && kp_streq(w->object->uid, object->uid))
        forget(queue, w);
    pthread_mutex_unlock(&queue->lock);
}

void sched_queue_done(struct sched_queue *queue, const char *ns, const char *name)
{
    sched_queue_remove(queue, ns, name);
}

/* Moves what has waited long enough; gives the next time something is due, 0 when nothing waits for time. */
static int64_t flush(struct sched_queue *queue)
{
    int64_t now_ms = kp_mono_ms(), next_ms = 0;
    for (enum place place = BACKOFF; place <= UNSCHEDULABLE; place++) {
        struct waiting *list = queue->lists[place];
        queue->lists[place] = NULL;
        while (list) {
            struct waiting *w = list;
            list = w->next;
            if (w->due_ms <= now_ms) {
                put(queue, w, ACTIVE);
                continue;
            }
            w->next = queue->lists[place];
            queue->lists[place] = w;
            next_ms = next_ms ? KP_MIN(next_ms, w->due_ms) : w->due_ms;
        }
    }
    return next_ms;
}

struct client_object *sched_queue_pop(struct sched_queue *queue, uint64_t *ret_cycle)
{
    struct client_object *object = NULL;
    pthread_mutex_lock(&queue->lock);
    for (;;) {
        int64_t next_ms = flush(queue);
        if (queue->shutdown)
            break;
        struct waiting *w = queue->lists[ACTIVE];
        if (w) {
            queue->lists[ACTIVE] = w->next;
            w->place = IN_FLIGHT;
            w->attempts++;
            *ret_cycle = ++queue->cycle;
            object = client_object_ref(w->object);
            break;
        }
        if (next_ms) {
            struct timespec until = {.tv_sec = next_ms / 1000, .tv_nsec = (next_ms % 1000) * 1000000};
            pthread_cond_timedwait(&queue->changed, &queue->lock, &until);
        } else {
            pthread_cond_wait(&queue->changed, &queue->lock);
        }
    }
    pthread_mutex_unlock(&queue->lock);
    return object;
}

static struct waiting *in_flight(struct sched_queue *queue, const struct client_object *object)
{
    KP_AUTO_FREE char *key = kp_asprintf("%s/%s", object->ns, object->name);
    struct waiting *w = kp_strmap_get(queue->pods, key);
    /* Else deleted, changed or replaced by another of its name meanwhile: it waits elsewhere already. */
    return w && w->place == IN_FLIGHT && kp_streq(w->object->uid, object->uid) ? w : NULL;
}

static void to_backoff(struct sched_queue *queue, struct waiting *w)
{
    w->due_ms = kp_mono_ms() + backoff_ms(w);
    put(queue, w, BACKOFF);
}

void sched_queue_unschedulable(struct sched_queue *queue, struct client_object *object, uint64_t cycle)
{
    pthread_mutex_lock(&queue->lock);
    struct waiting *w = in_flight(queue, object);
    uint64_t moved = queue->moved_cycle;
    if (w && sched_minds_others(w->object->data))
        moved = KP_MAX(moved, queue->minding_cycle);
    if (w && sched_has_claims(w->object->data))
        moved = KP_MAX(moved, queue->claiming_cycle);
    if (w && moved >= cycle) {
        to_backoff(queue, w); /* what it was refused for may have changed while it was looked at */
    } else if (w) {
        w->due_ms = kp_mono_ms() + UNSCHEDULABLE_MAX_MS;
        put(queue, w, UNSCHEDULABLE);
    }
    pthread_mutex_unlock(&queue->lock);
}

void sched_queue_retry(struct sched_queue *queue, struct client_object *object)
{
    pthread_mutex_lock(&queue->lock);
    struct waiting *w = in_flight(queue, object);
    if (w)
        to_backoff(queue, w);
    pthread_mutex_unlock(&queue->lock);
}

struct claim_name {
    const char *ns, *name;
};

static bool any(const struct k8s_pod *pod, const struct claim_name *claim)
{
    (void)pod, (void)claim;
    return true;
}

static bool minding(const struct k8s_pod *pod, const struct claim_name *claim)
{
    (void)claim;
    return sched_minds_others(pod);
}

static bool claiming(const struct k8s_pod *pod, const struct claim_name *claim)
{
    return claim->ns ? sched_uses_claim(pod, claim->ns, claim->name) : sched_has_claims(pod);
}

static void move(struct sched_queue *queue, uint64_t *moved_cycle, bool (*wanted)(const struct k8s_pod *, const struct claim_name *),
                 const struct claim_name *claim)
{
    pthread_mutex_lock(&queue->lock);
    *moved_cycle = queue->cycle;
    struct waiting *list = queue->lists[UNSCHEDULABLE];
    queue->lists[UNSCHEDULABLE] = NULL;
    while (list) {
        struct waiting *w = list;
        list = w->next;
        if (!wanted(w->object->data, claim)) {
            put(queue, w, UNSCHEDULABLE);
            continue;
        }
        int64_t due_ms = w->due_ms - UNSCHEDULABLE_MAX_MS + backoff_ms(w);
        w->due_ms = due_ms;
        put(queue, w, due_ms <= kp_mono_ms() ? ACTIVE : BACKOFF);
    }
    pthread_mutex_unlock(&queue->lock);
}

void sched_queue_move_all(struct sched_queue *queue)
{
    move(queue, &queue->moved_cycle, any, NULL);
}

void sched_queue_move_minding(struct sched_queue *queue)
{
    move(queue, &queue->minding_cycle, minding, NULL);
}

void sched_queue_move_claiming(struct sched_queue *queue, const char *ns, const char *claim)
{
    move(queue, &queue->claiming_cycle, claiming, &(struct claim_name){ns, claim});
}

void sched_queue_shutdown(struct sched_queue *queue)
{
    pthread_mutex_lock(&queue->lock);
    queue->shutdown = true;
    pthread_cond_broadcast(&queue->changed);
    pthread_mutex_unlock(&queue->lock);
}
