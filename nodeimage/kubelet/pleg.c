/* Looking at the runtime for containers and sandboxes that changed by themselves: soon and then less and less often after the runtime told
   of an event; as long as it has told of none, quickly while something is under way, slowly otherwise. */
#include "nodeimage/kubelet/kubelet_internal.h"

#define POLL_MIN_MS 25
#define POLL_MAX_MS 1000
#define TOLD_MAX_MS 10000     /* between looks when events come; upstream's evented PLEG has 300 s */
#define POLL_QUICK_FOR_MS 400 /* after activity, before the interval grows */
#define REST_TIMES 4          /* as long as a look took: on a slow machine looking must not be all that happens */
#define SUBSCRIBE_AGAIN_MS 1000

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t kicked;
static int64_t active_ms;
static bool is_kicked;
static bool is_told;         /* events come, or would: the stream is open */
static int64_t subscribe_ms; /* when to open the stream; INT64_MAX: it is open, or there is none to be had */

int64_t kubelet_pleg_wait_ms(int64_t look_ms, int64_t quiet_ms, int64_t last_ms, bool told)
{
    int64_t rest_ms = KP_MAX(POLL_MIN_MS, KP_MIN(look_ms * REST_TIMES, POLL_MAX_MS));
    if (!told && quiet_ms < POLL_QUICK_FOR_MS)
        return rest_ms;
    return KP_MAX(rest_ms, KP_MIN(last_ms * 2, told ? TOLD_MAX_MS : POLL_MAX_MS));
}

static void kick_locked(void)
{
    active_ms = kp_mono_ms();
    is_kicked = true;
    pthread_cond_signal(&kicked);
}

void kubelet_pleg_kick(struct kubelet *kubelet)
{
    (void)kubelet;
    pthread_mutex_lock(&lock);
    if (!is_told) /* else an event comes when there is something to see */
        kick_locked();
    pthread_mutex_unlock(&lock);
}

static void on_event(void *arg)
{
    (void)arg;
    pthread_mutex_lock(&lock);
    kick_locked();
    pthread_mutex_unlock(&lock);
}

static void on_end(bool again, void *arg)
{
    (void)arg;
    pthread_mutex_lock(&lock);
    is_told = false;
    subscribe_ms = again ? kp_mono_ms() + SUBSCRIBE_AGAIN_MS : INT64_MAX;
    kick_locked(); /* what was missed is seen by looking */
    pthread_mutex_unlock(&lock);
}

static void subscribe_when_due(struct kubelet *kubelet)
{
    static const struct cri_events_callbacks callbacks = {.on_event = on_event, .on_end = on_end};
    pthread_mutex_lock(&lock);
    bool due = kp_mono_ms() >= subscribe_ms;
    if (due) {
        subscribe_ms = INT64_MAX;
        is_told = true; /* a runtime that has none says so soon; what happens until then is seen by looking */
    }
    pthread_mutex_unlock(&lock);
    if (due)
        cri_events_open(kubelet->cri, &callbacks, NULL);
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
    int64_t wait_ms = POLL_MIN_MS;
    while (!kubelet->stopping) {
        subscribe_when_due(kubelet);
        int64_t began_ms = kp_mono_ms();
        bool changed = relist(kubelet, seen, arena);
        kp_arena_reset(arena);
        pthread_mutex_lock(&lock);
        int64_t now_ms = kp_mono_ms();
        if (changed)
            active_ms = now_ms;
        wait_ms = kubelet_pleg_wait_ms(now_ms - began_ms, now_ms - active_ms, is_kicked || changed ? 0 : wait_ms, is_told);
        is_kicked = false;
        int64_t until_ms = now_ms + wait_ms;
        struct timespec until = {.tv_sec = until_ms / 1000, .tv_nsec = until_ms % 1000 * 1000000};
        pthread_cond_timedwait(&kicked, &lock, &until);
        /* A kick during a quick phase is no reason to look more often than that. */
        int64_t early_ms = now_ms + kubelet_pleg_wait_ms(now_ms - began_ms, 0, 0, is_told) - kp_mono_ms();
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
