/* Polling the runtime for containers and sandboxes that changed by themselves: quickly while something is under way, slowly
   otherwise. */
#include "nodeimage/kubelet/kubelet_internal.h"

#define POLL_MIN_MS 25
#define POLL_MAX_MS 1000
#define POLL_QUICK_FOR_MS 400 /* after activity, before the interval grows */
#define REST_TIMES 4          /* as long as a look took: on a slow machine looking must not be all that happens */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t kicked;
static int64_t active_ms;

void kubelet_pleg_kick(struct kubelet *kubelet)
{
    (void)kubelet;
    pthread_mutex_lock(&lock);
    active_ms = kp_mono_ms();
    pthread_cond_signal(&kicked);
    pthread_mutex_unlock(&lock);
}

struct seen {
    char uid[80];
    int state;
    bool present;
};

/* Notes one thing's state; true when it is another than before. */
static bool note(struct kp_strmap *seen, const char *id, const char *uid, int state)
{
    struct seen *entry = kp_strmap_get(seen, id);
    if (!entry) {
        entry = kp_calloc(1, sizeof(*entry));
        snprintf(entry->uid, sizeof(entry->uid), "%s", uid ? uid : "");
        entry->state = -1;
        kp_strmap_put(seen, id, entry);
    }
    bool changed = entry->state != state;
    entry->state = state;
    entry->present = true;
    return changed;
}

static bool forget_gone(struct kubelet *kubelet, struct kp_strmap *seen)
{
    size_t iter = 0;
    const char *id;
    void *value;
    bool any = false;
    while (kp_strmap_next(seen, &iter, &id, &value)) {
        struct seen *entry = value;
        if (entry->present) {
            entry->present = false;
            continue;
        }
        any = true;
        kubelet_workers_wake(kubelet->workers, entry->uid);
        kp_strmap_remove(seen, id);
        free(entry);
    }
    return any;
}

/* One look; true when anything changed. */
static bool relist(struct kubelet *kubelet, struct kp_strmap *seen, struct kp_arena *arena)
{
    struct cri_container *containers;
    struct cri_sandbox *sandboxes;
    size_t n_containers, n_sandboxes;
    bool any = false;
    if (cri_list_containers(kubelet->cri, NULL, NULL, arena, &containers, &n_containers, NULL) < 0 ||
        cri_list_sandboxes(kubelet->cri, NULL, NULL, arena, &sandboxes, &n_sandboxes, NULL) < 0)
        return false; /* the node's status tells that the runtime is down */
    for (size_t i = 0; i < n_containers; i++) {
        const char *uid = cri_pairs_get(&containers[i].labels, KUBELET_LABEL_POD_UID);
        if (!note(seen, containers[i].id, uid, (int)containers[i].state))
            continue;
        any = true;
        if (uid)
            kubelet_workers_wake(kubelet->workers, uid);
    }
    for (size_t i = 0; i < n_sandboxes; i++) {
        if (!note(seen, sandboxes[i].id, sandboxes[i].uid, sandboxes[i].ready))
            continue;
        any = true;
        kubelet_workers_wake(kubelet->workers, sandboxes[i].uid);
    }
    return forget_gone(kubelet, seen) || any;
}

static void *run(void *arg)
{
    struct kubelet *kubelet = arg;
    struct kp_strmap *seen = kp_strmap_new();
    struct kp_arena *arena = kp_arena_new(0);
    int64_t interval_ms = POLL_MIN_MS;
    while (!kubelet->stopping) {
        int64_t began_ms = kp_mono_ms();
        bool changed = relist(kubelet, seen, arena);
        kp_arena_reset(arena);
        pthread_mutex_lock(&lock);
        int64_t now_ms = kp_mono_ms(), rest_ms = KP_MAX(POLL_MIN_MS, KP_MIN((now_ms - began_ms) * REST_TIMES, POLL_MAX_MS));
        if (changed)
            active_ms = now_ms;
        interval_ms = now_ms - active_ms < POLL_QUICK_FOR_MS ? rest_ms : KP_MAX(rest_ms, KP_MIN(interval_ms * 2, POLL_MAX_MS));
        int64_t until_ms = now_ms + interval_ms;
        struct timespec until = {.tv_sec = until_ms / 1000, .tv_nsec = until_ms % 1000 * 1000000};
        pthread_cond_timedwait(&kicked, &lock, &until);
        /* A kick during a quick phase is no reason to poll more often than that. */
        int64_t early_ms = now_ms + rest_ms - kp_mono_ms();
        pthread_mutex_unlock(&lock);
        if (early_ms > 0)
            kp_sleep_ms(early_ms);
    }
    kp_arena_free(arena);
    kp_strmap_free(seen, free);
    return NULL;
}

void kubelet_pleg_start(struct kubelet *kubelet)
{
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&kicked, &attr);
    pthread_condattr_destroy(&attr);
    kubelet_thread("pleg", run, kubelet);
}
