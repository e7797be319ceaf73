/* Writing pod statuses to the API: the newest word of each pod, coalesced, retried, and the last deletion. */
#include "nodeimage/kubelet/kubelet_internal.h"

#define RETRY_MS 500
#define PENDING_DELAY_MS 120   /* a pod that starts quickly skips the words before */
#define OBSERVE_AFTER_MS 2000  /* by then the echoes of our own writes older than the last one have been followed by that one's */

struct entry {
    struct kubelet_pod *pod;
    char *now;     /* JSON of the newest status */
    char *written; /* JSON of what the API has; NULL: not known */
    char *seen;    /* JSON of what somebody else has made of it, written over when it is due; NULL: nobody has */
    bool dirty, finish;
    int64_t due_ms, written_ms, seen_due_ms;
    uint64_t version;
};

struct kubelet_statuses {
    struct kubelet *kubelet;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct kp_strmap *by_uid;
};

static void entry_free(void *p)
{
    struct entry *entry = p;
    kubelet_pod_unref(entry->pod);
    free(entry->now);
    free(entry->written);
    free(entry->seen);
    free(entry);
}

static char *encode(const struct k8s_pod_status *status)
{
    struct kp_buf buf = {0};
    kp_json_encode(&k8s_pod_status_type, status, &buf);
    return kp_buf_take(&buf);
}

static struct k8s_pod_status *decode(const char *json, struct kp_arena *arena)
{
    void *obj = NULL;
    if (!json || kp_json_decode(&k8s_pod_status_type, json, strlen(json), arena, NULL, &obj, NULL) < 0)
        return NULL;
    return obj;
}

void kubelet_statuses_set(struct kubelet_statuses *statuses, const struct kubelet_pod *pod, const struct k8s_pod_status *status)
{
    char *json = encode(status);
    pthread_mutex_lock(&statuses->lock);
    struct entry *entry = kp_strmap_get(statuses->by_uid, pod->uid);
    bool first = !entry;
    if (first) {
        entry = kp_calloc(1, sizeof(*entry));
        kp_strmap_put(statuses->by_uid, pod->uid, entry);
        if (!pod->is_static && pod->data->status)
            entry->written = encode(pod->data->status);
    }
    kubelet_pod_unref(entry->pod);
    entry->pod = kubelet_pod_ref((struct kubelet_pod *)(uintptr_t)pod);
    if (entry->now && kp_streq(entry->now, json)) {
        free(json);
    } else {
        free(entry->now);
        entry->now = json;
        entry->version++;
        entry->dirty = true;
        entry->due_ms = kp_mono_ms() + (first && kp_streq(status->phase, "Pending") ? PENDING_DELAY_MS : 0);
        pthread_cond_signal(&statuses->changed);
    }
    pthread_mutex_unlock(&statuses->lock);
}

struct k8s_pod_status *kubelet_statuses_get(struct kubelet_statuses *statuses, const char *uid, struct kp_arena *arena)
{
    pthread_mutex_lock(&statuses->lock);
    struct entry *entry = kp_strmap_get(statuses->by_uid, uid);
    struct k8s_pod_status *status = entry ? decode(entry->now, arena) : NULL;
    pthread_mutex_unlock(&statuses->lock);
    return status;
}

void kubelet_statuses_forget(struct kubelet_statuses *statuses, const char *uid)
{
    pthread_mutex_lock(&statuses->lock);
    struct entry *entry = kp_strmap_remove(statuses->by_uid, uid);
    if (entry)
        entry_free(entry);
    pthread_mutex_unlock(&statuses->lock);
}

void kubelet_statuses_finish(struct kubelet_statuses *statuses, const char *uid)
{
    pthread_mutex_lock(&statuses->lock);
    struct entry *entry = kp_strmap_get(statuses->by_uid, uid);
    if (entry && !entry->finish) {
        entry->finish = true;
        entry->dirty = true;
        entry->due_ms = 0;
        pthread_cond_signal(&statuses->changed);
    }
    pthread_mutex_unlock(&statuses->lock);
}

void kubelet_statuses_retry(struct kubelet_statuses *statuses, const char *uid)
{
    pthread_mutex_lock(&statuses->lock);
    struct entry *entry = kp_strmap_get(statuses->by_uid, uid);
    if (entry) {
        free(KP_TAKE(entry->written));
        entry->dirty = true;
        entry->due_ms = 0;
        pthread_cond_signal(&statuses->changed);
    }
    pthread_mutex_unlock(&statuses->lock);
}

static const char *ready_of(const struct k8s_pod_status *status)
{
    for (size_t i = 0; status && i < status->conditions.len; i++)
        if (kp_streq(status->conditions.items[i].type, "Ready"))
            return status->conditions.items[i].status;
    return NULL;
}

int64_t kubelet_status_mend_ms(const struct k8s_pod_status *ours, const struct k8s_pod_status *seen, int64_t written_ms, int64_t now_ms)
{
    if (kp_streq(ours->phase, seen->phase) && kp_streq(ready_of(ours), ready_of(seen)))
        return -1;
    return KP_MAX(now_ms, written_ms + OBSERVE_AFTER_MS);
}

void kubelet_statuses_observe(struct kubelet_statuses *statuses, const char *uid, const struct k8s_pod_status *seen)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    pthread_mutex_lock(&statuses->lock);
    struct entry *entry = kp_strmap_get(statuses->by_uid, uid);
    const struct k8s_pod_status *ours = entry && entry->written && seen ? decode(entry->now, arena) : NULL;
    if (ours) {
        const int64_t due_ms = kubelet_status_mend_ms(ours, seen, entry->written_ms, kp_mono_ms());
        free(KP_TAKE(entry->seen));
        if (due_ms >= 0) {
            entry->seen = encode(seen);
            entry->seen_due_ms = due_ms;
            pthread_cond_signal(&statuses->changed);
        }
    }
    pthread_mutex_unlock(&statuses->lock);
}

/* What one write needs, copied out of the lock. */
struct work {
    struct kubelet_pod *pod;
    char *now, *written;
    bool finish;
    uint64_t version;
};

static int write_status(struct kubelet *kubelet, const struct work *work, struct kp_arena *arena, struct kp_error *error)
{
    const char *uid = work->pod->uid;
    if (work->pod->is_static && !kubelet_mirror_uid(kubelet, work->pod, arena, &uid))
        return KP_EAGAIN; /* the mirror's arrival brings it up again */
    struct k8s_pod_status *status = decode(work->now, arena);
    if (!status)
        return kp_fail(error, KP_EINTERNAL, "the pod's status does not decode");
    const char *patch = kubelet_status_patch(decode(work->written, arena), status, uid, arena);
    if (!patch)
        return 0;
    struct client_write_options options = {.subresource = "status", .field_manager = "kubelet"};
    return client_patch(kubelet->client, &k8s_pods_resource, work->pod->ns, work->pod->name, CLIENT_PATCH_STRATEGIC, patch,
                        strlen(patch), &options, arena, NULL, error);
}

static int delete_pod(struct kubelet *kubelet, const struct work *work, struct kp_error *error)
{
    struct client_delete_options options = {.grace_period_s = 0, .uid = work->pod->uid};
    return client_delete(kubelet->client, &k8s_pods_resource, work->pod->ns, work->pod->name, &options, error);
}

static int do_work(struct kubelet *kubelet, const struct work *work, struct kp_error *error)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    int rc = write_status(kubelet, work, arena, error);
    if (rc == 0 && work->finish)
        rc = delete_pod(kubelet, work, error);
    return rc == KP_ENOTFOUND || rc == KP_EAGAIN || (rc == KP_ECONFLICT && work->finish) ? 0 : rc;
}

/* Takes the entry that is due first; NULL when none is. *ret_next_ms: when to look again. */
static bool next_work(struct kubelet_statuses *statuses, struct work *ret, int64_t *ret_next_ms)
{
    int64_t now_ms = kp_mono_ms();
    *ret_next_ms = now_ms + 60000;
    struct entry *best = NULL;
    size_t iter = 0;
    void *value;
    while (kp_strmap_next(statuses->by_uid, &iter, NULL, &value)) {
        struct entry *entry = value;
        if (entry->seen && !entry->dirty && entry->seen_due_ms <= now_ms) {
            free(entry->written);
            entry->written = KP_TAKE(entry->seen);
            entry->dirty = true;
            entry->due_ms = 0;
        } else if (entry->seen && !entry->dirty) {
            *ret_next_ms = KP_MIN(*ret_next_ms, entry->seen_due_ms);
        }
        if (!entry->dirty)
            continue;
        *ret_next_ms = KP_MIN(*ret_next_ms, entry->due_ms);
        if (entry->due_ms <= now_ms && (!best || entry->due_ms < best->due_ms))
            best = entry;
    }
    if (!best)
        return false;
    best->dirty = false;
    *ret = (struct work){.pod = kubelet_pod_ref(best->pod), .now = kp_strdup(best->now), .written = kp_strdup(best->written),
                         .finish = best->finish, .version = best->version};
    return true;
}

static void work_done(struct kubelet_statuses *statuses, struct work *work, int rc)
{
    struct entry *entry = kp_strmap_get(statuses->by_uid, work->pod->uid);
    if (entry && rc == 0) {
        free(entry->written);
        entry->written = KP_TAKE(work->now);
        entry->written_ms = kp_mono_ms();
    } else if (entry && !entry->dirty) {
        entry->dirty = true;
        entry->due_ms = kp_mono_ms() + RETRY_MS;
    }
    kubelet_pod_unref(work->pod);
    free(work->now);
    free(work->written);
}

static void *run(void *arg)
{
    struct kubelet_statuses *statuses = arg;
    pthread_mutex_lock(&statuses->lock);
    for (;;) {
        struct work work;
        int64_t next_ms;
        if (!statuses->kubelet->client || !next_work(statuses, &work, &next_ms)) {
            if (!statuses->kubelet->client)
                next_ms = kp_mono_ms() + 1000;
            struct timespec until = {.tv_sec = next_ms / 1000, .tv_nsec = next_ms % 1000 * 1000000};
            pthread_cond_timedwait(&statuses->changed, &statuses->lock, &until);
            continue;
        }
        pthread_mutex_unlock(&statuses->lock);
        struct kp_error error = {0};
        int rc = do_work(statuses->kubelet, &work, &error);
        if (rc < 0)
            kp_warn("writing the pod's status failed", "pod", work.pod->name, "namespace", work.pod->ns, "error", error.message,
                    NULL);
        pthread_mutex_lock(&statuses->lock);
        work_done(statuses, &work, rc);
    }
    return NULL;
}

struct kubelet_statuses *kubelet_statuses_new(struct kubelet *kubelet)
{
    struct kubelet_statuses *statuses = kp_calloc(1, sizeof(*statuses));
    statuses->kubelet = kubelet;
    pthread_mutex_init(&statuses->lock, NULL);
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&statuses->changed, &attr);
    pthread_condattr_destroy(&attr);
    statuses->by_uid = kp_strmap_new();
    kubelet_thread("status", run, statuses);
    return statuses;
}

void kubelet_statuses_free(struct kubelet_statuses *statuses)
{
    (void)statuses; /* its thread lives as long as the process */
}
