/* The workers: one state machine a pod, driven by a queue of uids over a bounded pool of threads.

   SYNCING -> TERMINATING -> TERMINATED -> FINISHED
   A pod syncs until it is deleted, evicted or done; then its containers are stopped; then what it left is removed. */
#include "nodeimage/kubelet/pod_worker_internal.h"
#include "nodeimage/kubelet/volumes/volumes.h"

struct kubelet_workers {
    struct kubelet *kubelet;
    pthread_mutex_t lock;
    struct kp_strmap *by_uid; /* struct kubelet_worker */
    struct client_queue *queue;
    struct pool *pool;
};

static const bool legal_next[KUBELET_FINISHED + 1][KUBELET_FINISHED + 1] = {
    [KUBELET_SYNCING] = {[KUBELET_TERMINATING] = true},
    [KUBELET_TERMINATING] = {[KUBELET_TERMINATED] = true},
    [KUBELET_TERMINATED] = {[KUBELET_FINISHED] = true},
};

static void set_state(struct kubelet_worker *worker, enum kubelet_worker_state state)
{
    KP_ASSERT(legal_next[worker->state][state]);
    worker->state = state;
}

static void worker_free(struct kubelet_worker *worker)
{
    kubelet_pod_unref(worker->pod);
    kubelet_pod_unref(worker->pending);
    free(worker->evicted);
    volumes_mounts_free(worker->mounts);
    free(worker->failures);
    free(worker->uid);
    free(worker->ns);
    free(worker->name);
    free(worker);
}

static struct kubelet_worker *worker_new(struct kubelet *kubelet, struct kubelet_pod *pod)
{
    struct kubelet_worker *worker = kp_calloc(1, sizeof(*worker));
    worker->kubelet = kubelet;
    worker->uid = kp_strdup(pod->uid);
    worker->ns = kp_strdup(pod->ns);
    worker->name = kp_strdup(pod->name);
    worker->is_static = pod->is_static;
    worker->pod = kubelet_pod_ref(pod);
    worker->grace_s = -1;
    worker->first_seen_s = kp_now_s();
    return worker;
}

int64_t kubelet_worker_grace_s(struct kubelet_worker *worker)
{
    return worker->grace_s >= 0 ? worker->grace_s : kubelet_grace_period_s(worker->pod->data);
}

/* Stops what is left of a pod faster than the thread that is in the middle of stopping it. */
struct hurry {
    struct kubelet *kubelet;
    char *uid;
    int64_t grace_s;
};

static void hurry_run(void *arg)
{
    struct hurry *hurry = arg;
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    struct cri_container *containers;
    size_t n;
    struct kp_error error = {0};
    if (cri_list_containers(hurry->kubelet->cri, KUBELET_LABEL_POD_UID, hurry->uid, arena, &containers, &n, &error) < 0)
        n = 0;
    for (size_t i = 0; i < n; i++)
        if (containers[i].state == CRI_RUNNING &&
            cri_stop_container(hurry->kubelet->cri, containers[i].id, hurry->grace_s, &error) < 0)
            kp_warn("stopping a container at once failed", "container", containers[i].name, "error", error.message, NULL);
    free(hurry->uid);
    free(hurry);
}

static void hurry_up(struct kubelet_workers *workers, struct kubelet_worker *worker)
{
    struct hurry *hurry = kp_calloc(1, sizeof(*hurry));
    *hurry = (struct hurry){.kubelet = workers->kubelet, .uid = kp_strdup(worker->uid), .grace_s = kubelet_worker_grace_s(worker)};
    if (pool_submit(workers->pool, hurry_run, hurry) < 0) {
        free(hurry->uid);
        free(hurry);
    }
}

static bool wants_end(const struct kubelet_worker *worker)
{
    return worker->removed || worker->evicted || worker->pod->data->metadata->deletion_timestamp.set;
}

/* One pass: steps through as many states as are over. Gives how soon to come back, -1 for not by itself. */
static int64_t work_on(struct kubelet_workers *workers, struct kubelet_worker *worker)
{
    struct kubelet_sync sync = {.kubelet = workers->kubelet, .worker = worker, .arena = kp_arena_new(0), .again_ms = -1};
    for (;;) {
        pthread_mutex_lock(&workers->lock);
        if (worker->state == KUBELET_SYNCING && wants_end(worker)) {
            if (worker->evicted && !*worker->fail_reason) {
                snprintf(worker->fail_reason, sizeof(worker->fail_reason), "Evicted");
                snprintf(worker->fail_message, sizeof(worker->fail_message), "%s", worker->evicted);
            }
            set_state(worker, KUBELET_TERMINATING);
        }
        enum kubelet_worker_state state = worker->state;
        worker->killing = state == KUBELET_TERMINATING;
        kubelet_pod_unref(sync.pod);
        sync.pod = kubelet_pod_ref(worker->pod);
        pthread_mutex_unlock(&workers->lock);
        sync.again_ms = -1;
        kp_arena_reset(sync.arena);
        bool over = state == KUBELET_SYNCING       ? kubelet_pod_sync(&sync)
                    : state == KUBELET_TERMINATING ? kubelet_pod_terminating(&sync)
                    : state == KUBELET_TERMINATED  ? kubelet_pod_terminated(&sync)
                                                   : false;
        if (!over)
            break;
        pthread_mutex_lock(&workers->lock);
        worker->killing = false;
        set_state(worker, (enum kubelet_worker_state)(state + 1));
        pthread_mutex_unlock(&workers->lock);
    }
    kubelet_pod_unref(sync.pod);
    kp_arena_free(sync.arena);
    return sync.again_ms;
}

/* A finished worker is forgotten, or begins anew with the pod that waits for its place. */
static void finish(struct kubelet_workers *workers, struct kubelet_worker *worker)
{
    struct kubelet_pod *pending = KP_TAKE(worker->pending);
    kp_strmap_remove(workers->by_uid, worker->uid);
    if (pending) {
        struct kubelet_worker *next = worker_new(workers->kubelet, pending);
        kp_strmap_put(workers->by_uid, next->uid, next);
        client_queue_add(workers->queue, next->uid);
        kubelet_pod_unref(pending);
    }
    worker_free(worker);
}

static void run(void *arg)
{
    struct kubelet_workers **slot = arg;
    struct kubelet_workers *workers = *slot;
    char *uid = (char *)(slot + 1);
    pthread_mutex_lock(&workers->lock);
    struct kubelet_worker *worker = kp_strmap_get(workers->by_uid, uid);
    pthread_mutex_unlock(&workers->lock);
    if (worker) {
        int64_t again_ms = work_on(workers, worker);
        pthread_mutex_lock(&workers->lock);
        worker->killing = false;
        if (worker->state == KUBELET_FINISHED)
            finish(workers, worker);
        pthread_mutex_unlock(&workers->lock);
        if (again_ms >= 0)
            client_queue_add_after(workers->queue, uid, again_ms);
    }
    client_queue_done(workers->queue, uid);
    free(slot);
}

static void *dispatch(void *arg)
{
    struct kubelet_workers *workers = arg;
    char *uid;
    while ((uid = client_queue_get(workers->queue)) != NULL) {
        size_t len = strlen(uid) + 1;
        struct kubelet_workers **slot = kp_malloc(sizeof(*slot) + len);
        *slot = workers;
        memcpy(slot + 1, uid, len);
        if (pool_submit(workers->pool, run, slot) < 0) {
            client_queue_done(workers->queue, uid);
            client_queue_add_after(workers->queue, uid, 100);
            free(slot);
        }
        free(uid);
    }
    return NULL;
}

struct kubelet_workers *kubelet_workers_new(struct kubelet *kubelet)
{
    struct kubelet_workers *workers = kp_calloc(1, sizeof(*workers));
    workers->kubelet = kubelet;
    pthread_mutex_init(&workers->lock, NULL);
    workers->by_uid = kp_strmap_new();
    workers->queue = client_queue_new("pods");
    workers->pool = pool_new("pod", KUBELET_WORKERS_MAX, 100000);
    kubelet_thread("pod-dispatch", dispatch, workers);
    return workers;
}

void kubelet_workers_free(struct kubelet_workers *workers)
{
    if (!workers)
        return;
    client_queue_shutdown(workers->queue);
    pool_free(workers->pool);
}

/* A static pod of the same name that is ending: the new one has to wait for its place. */
static struct kubelet_worker *ending_namesake(struct kubelet_workers *workers, const struct kubelet_pod *pod)
{
    size_t iter = 0;
    void *value;
    while (pod->is_static && kp_strmap_next(workers->by_uid, &iter, NULL, &value)) {
        struct kubelet_worker *worker = value;
        if (worker->is_static && worker->removed && kp_streq(worker->name, pod->name) && kp_streq(worker->ns, pod->ns))
            return worker;
    }
    return NULL;
}

void kubelet_workers_update(struct kubelet_workers *workers, struct kubelet_pod *pod)
{
    pthread_mutex_lock(&workers->lock);
    struct kubelet_worker *namesake = ending_namesake(workers, pod);
    struct kubelet_worker *worker = kp_strmap_get(workers->by_uid, pod->uid);
    if (namesake) {
        kubelet_pod_unref(namesake->pending);
        namesake->pending = kubelet_pod_ref(pod);
    } else if (!worker) {
        worker = worker_new(workers->kubelet, pod);
        kp_strmap_put(workers->by_uid, worker->uid, worker);
    } else {
        int64_t before = kubelet_worker_grace_s(worker);
        kubelet_pod_unref(worker->pod);
        worker->pod = kubelet_pod_ref(pod);
        if (worker->killing && kubelet_worker_grace_s(worker) < before)
            hurry_up(workers, worker);
    }
    pthread_mutex_unlock(&workers->lock);
    client_queue_add(workers->queue, pod->uid);
}

void kubelet_workers_refresh(struct kubelet_workers *workers, struct kubelet_pod *pod)
{
    pthread_mutex_lock(&workers->lock);
    struct kubelet_worker *worker = kp_strmap_get(workers->by_uid, pod->uid);
    if (worker) {
        kubelet_pod_unref(worker->pod);
        worker->pod = kubelet_pod_ref(pod);
    }
    pthread_mutex_unlock(&workers->lock);
}

/* A static pod whose file went while it waited for its place. */
static void drop_pending(struct kubelet_workers *workers, const char *uid)
{
    size_t iter = 0;
    void *value;
    while (kp_strmap_next(workers->by_uid, &iter, NULL, &value)) {
        struct kubelet_worker *worker = value;
        if (worker->pending && kp_streq(worker->pending->uid, uid))
            kubelet_pod_unref(KP_TAKE(worker->pending));
    }
}

void kubelet_workers_remove(struct kubelet_workers *workers, const char *uid, int64_t grace_s)
{
    pthread_mutex_lock(&workers->lock);
    struct kubelet_worker *worker = kp_strmap_get(workers->by_uid, uid);
    if (worker) {
        int64_t before = kubelet_worker_grace_s(worker);
        worker->removed = true;
        if (grace_s >= 0)
            worker->grace_s = grace_s;
        if (worker->killing && kubelet_worker_grace_s(worker) < before)
            hurry_up(workers, worker);
    }
    drop_pending(workers, uid);
    pthread_mutex_unlock(&workers->lock);
    if (worker)
        client_queue_add(workers->queue, uid);
}

void kubelet_workers_wake(struct kubelet_workers *workers, const char *uid)
{
    if (kubelet_workers_known(workers, uid))
        client_queue_add(workers->queue, uid);
}

void kubelet_workers_wake_after(struct kubelet_workers *workers, const char *uid, int64_t delay_ms)
{
    client_queue_add_after(workers->queue, uid, delay_ms);
}

void kubelet_workers_wake_all(struct kubelet_workers *workers)
{
    struct kubelet_pod **pods;
    size_t n = kubelet_workers_list(workers, &pods);
    for (size_t i = 0; i < n; i++) {
        client_queue_add(workers->queue, pods[i]->uid);
        kubelet_pod_unref(pods[i]);
    }
    free(pods);
}

bool kubelet_workers_known(struct kubelet_workers *workers, const char *uid)
{
    pthread_mutex_lock(&workers->lock);
    bool known = kp_strmap_get(workers->by_uid, uid) != NULL;
    pthread_mutex_unlock(&workers->lock);
    return known;
}

bool kubelet_workers_evict(struct kubelet_workers *workers, const char *uid, int64_t grace_s, const char *message)
{
    pthread_mutex_lock(&workers->lock);
    struct kubelet_worker *worker = kp_strmap_get(workers->by_uid, uid);
    bool evicted = worker && worker->state == KUBELET_SYNCING && !wants_end(worker);
    if (evicted) {
        worker->evicted = kp_strdup(message);
        worker->grace_s = grace_s;
    }
    pthread_mutex_unlock(&workers->lock);
    if (evicted)
        client_queue_add(workers->queue, uid);
    return evicted;
}

bool kubelet_workers_active(struct kubelet_workers *workers, const char *uid)
{
    pthread_mutex_lock(&workers->lock);
    struct kubelet_worker *worker = kp_strmap_get(workers->by_uid, uid);
    bool active = worker && worker->state == KUBELET_SYNCING && !wants_end(worker);
    pthread_mutex_unlock(&workers->lock);
    return active;
}

bool kubelet_workers_ended(struct kubelet_workers *workers, const char *uid)
{
    pthread_mutex_lock(&workers->lock);
    struct kubelet_worker *worker = kp_strmap_get(workers->by_uid, uid);
    bool ended = !worker || worker->state >= KUBELET_TERMINATED;
    pthread_mutex_unlock(&workers->lock);
    return ended;
}

struct kubelet_pod *kubelet_workers_find(struct kubelet_workers *workers, const char *uid)
{
    pthread_mutex_lock(&workers->lock);
    struct kubelet_worker *worker = kp_strmap_get(workers->by_uid, uid);
    struct kubelet_pod *pod = worker ? kubelet_pod_ref(worker->pod) : NULL;
    pthread_mutex_unlock(&workers->lock);
    return pod;
}

struct kubelet_pod *kubelet_workers_find_name(struct kubelet_workers *workers, const char *ns, const char *name)
{
    struct kubelet_pod *pod = NULL;
    size_t iter = 0;
    void *value;
    pthread_mutex_lock(&workers->lock);
    while (kp_strmap_next(workers->by_uid, &iter, NULL, &value)) {
        struct kubelet_worker *worker = value;
        if (!kp_streq(worker->name, name) || !kp_streq(worker->ns, ns))
            continue;
        /* A pod of the same name may be ending: the living one is meant. */
        if (pod && worker->state != KUBELET_SYNCING)
            continue;
        kubelet_pod_unref(pod);
        pod = kubelet_pod_ref(worker->pod);
    }
    pthread_mutex_unlock(&workers->lock);
    return pod;
}

size_t kubelet_workers_list(struct kubelet_workers *workers, struct kubelet_pod ***ret_pods)
{
    size_t iter = 0, n = 0;
    void *value;
    pthread_mutex_lock(&workers->lock);
    *ret_pods = kp_calloc(kp_strmap_len(workers->by_uid) + 1, sizeof(**ret_pods));
    while (kp_strmap_next(workers->by_uid, &iter, NULL, &value))
        (*ret_pods)[n++] = kubelet_pod_ref(((struct kubelet_worker *)value)->pod);
    pthread_mutex_unlock(&workers->lock);
    return n;
}

size_t kubelet_workers_requests(struct kubelet_workers *workers, const char *except_uid, struct kp_arena *arena,
                                struct kp_string_map *ret_sum)
{
    size_t iter = 0, n = 0;
    void *value;
    *ret_sum = (struct kp_string_map){0};
    pthread_mutex_lock(&workers->lock);
    while (kp_strmap_next(workers->by_uid, &iter, NULL, &value)) {
        struct kubelet_worker *worker = value;
        if (kp_streq(worker->uid, except_uid) || !worker->admitted || worker->state >= KUBELET_TERMINATED)
            continue;
        struct kp_string_map one;
        kubelet_pod_requests(worker->pod->data, arena, &one);
        kp_resource_list_add(arena, ret_sum, &one);
        n++;
    }
    pthread_mutex_unlock(&workers->lock);
    return n;
}

size_t kubelet_workers_len(struct kubelet_workers *workers)
{
    pthread_mutex_lock(&workers->lock);
    size_t len = kp_strmap_len(workers->by_uid);
    pthread_mutex_unlock(&workers->lock);
    return len;
}
