/* Watches what the node has left and ends pods before it runs out; the rules are in eviction/. */
#include <sys/statvfs.h>
#include <sys/sysinfo.h>

#include "nodeimage/kubelet/eviction/eviction.h"
#include "nodeimage/kubelet/kubelet_internal.h"
#include "nodeimage/kubelet/usage_internal.h"
#include "nodeimage/kubelet/volumes/volumes.h"

#define PERIOD_MS 10000         /* as upstream's monitoring interval */
#define LIMITS_EVERY 3          /* pods with limits of local storage are measured each third time: that reads their folders */
#define HARD_GRACE_S 1          /* for a hard threshold or a limit there is no time left */
#define CLEANUP_WAIT_MS 30000   /* before the next pod goes, the last one's room must have come free */
#define CLEANUP_POLL_MS 200

struct kubelet_evictions {
    struct kubelet *kubelet;
    pthread_mutex_t lock; /* of state.pressure, which others read */
    struct eviction_state state;
    char *image_mount; /* NULL: not known yet */
    bool images_apart; /* the runtime's data lie on a disk of their own */
    struct eviction_reading readings[EVICTION_SIGNALS];
};

/* ---- looking ------------------------------------------------------------------------------------------------------------------ */
static void read_disk(const char *path, struct eviction_reading *bytes, struct eviction_reading *inodes)
{
    struct statvfs fs;
    if (!path || statvfs(path, &fs) < 0 || fs.f_blocks == 0)
        return;
    *bytes = (struct eviction_reading){true, (int64_t)fs.f_bavail * (int64_t)fs.f_frsize, (int64_t)fs.f_blocks * (int64_t)fs.f_frsize};
    if (fs.f_files > 0) /* some file systems have no fixed number */
        *inodes = (struct eviction_reading){true, (int64_t)fs.f_favail, (int64_t)fs.f_files};
}

static void find_images(struct kubelet_evictions *e)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    struct cri_fs_info *fs;
    size_t n;
    struct statvfs images, pods;
    if (e->image_mount || cri_image_fs(e->kubelet->cri, arena, &fs, &n, NULL) < 0 || n == 0)
        return;
    e->image_mount = kp_strdup(fs[0].mountpoint);
    e->images_apart = statvfs(e->image_mount, &images) == 0 && statvfs(e->kubelet->config.root_dir, &pods) == 0 && images.f_fsid != pods.f_fsid;
}

static void look(struct kubelet_evictions *e)
{
    struct eviction_reading *r = e->readings;
    struct kubelet_machine_usage machine;
    struct sysinfo info;
    KP_AUTO_BUF struct kp_buf text = {0};
    memset(e->readings, 0, sizeof(e->readings));
    find_images(e);
    kubelet_machine_usage_read("", &machine);
    if (machine.memory_usage_bytes > 0)
        r[EVICTION_MEMORY] = (struct eviction_reading){true, (int64_t)machine.memory_available_bytes, e->kubelet->memory_bytes};
    read_disk(e->kubelet->config.root_dir, &r[EVICTION_NODEFS], &r[EVICTION_NODEFS_INODES]);
    read_disk(e->image_mount, &r[EVICTION_IMAGEFS], &r[EVICTION_IMAGEFS_INODES]);
    if (sysinfo(&info) == 0 && kp_read_file("/proc/sys/kernel/pid_max", 64, &text, NULL) == 0 && text.data) {
        int64_t most = strtoll(text.data, NULL, 10);
        r[EVICTION_PIDS] = (struct eviction_reading){most > 0, most - info.procs, most};
    }
}

/* The number of the threshold to act on, or the number of thresholds. */
static size_t observe(struct kubelet_evictions *e)
{
    struct eviction_state *state = &e->state;
    bool before[EVICTION_PRESSURES];
    look(e);
    pthread_mutex_lock(&e->lock);
    memcpy(before, state->pressure, sizeof(before));
    size_t act = eviction_observe(&e->kubelet->config.eviction, state, e->readings, kp_mono_ms() / 1000);
    bool differs = memcmp(before, state->pressure, sizeof(before)) != 0;
    pthread_mutex_unlock(&e->lock);
    if (differs && e->kubelet->node)
        kubelet_node_report(e->kubelet);
    return act;
}

void kubelet_evictions_pressure(struct kubelet *kubelet, bool ret[EVICTION_PRESSURES])
{
    struct kubelet_evictions *e = kubelet->evictions;
    pthread_mutex_lock(&e->lock);
    memcpy(ret, e->state.pressure, sizeof(e->state.pressure));
    pthread_mutex_unlock(&e->lock);
}

/* ---- what pods use ------------------------------------------------------------------------------------------------------------- */
struct pod_usage {
    struct kubelet_evictions *e;
    const struct kubelet_pod *pod;
    const struct kubelet_usage_sample *sample;
    struct kp_arena *arena;
};

static const struct cri_container_stats *stats_of(const struct pod_usage *usage, const char *container)
{
    for (size_t i = 0; i < usage->sample->len; i++)
        if (kp_streq(cri_pairs_get(&usage->sample->stats[i].labels, KUBELET_LABEL_POD_UID), usage->pod->uid) &&
            kp_streq(usage->sample->stats[i].name, container))
            return &usage->sample->stats[i];
    return NULL;
}

static struct kubelet_disk_usage logs_of(const struct pod_usage *usage, const char *container)
{
    struct kubelet_disk_usage disk = {0};
    kubelet_disk_usage(kp_arena_printf(usage->arena, "%s/%s", kubelet_pod_log_dir(usage->pod->data, usage->arena), container), &disk);
    return disk;
}

static struct kubelet_disk_usage volume_of(const struct pod_usage *usage, const char *name)
{
    struct kubelet_disk_usage disk = {0};
    const struct volumes_context context = {.root_dir = usage->e->kubelet->config.root_dir, .arena = usage->arena};
    const char *path = volumes_path(&context, usage->pod->data, name);
    if (path)
        kubelet_disk_usage(path, &disk);
    return disk;
}

static int64_t memory_of_container(void *arg, const char *name)
{
    const struct cri_container_stats *stats = stats_of(arg, name);
    return stats ? (int64_t)stats->memory_working_set_bytes : -1;
}

static int64_t disk_of_container(void *arg, const char *name)
{
    const struct cri_container_stats *stats = stats_of(arg, name);
    return (stats ? (int64_t)stats->fs_used_bytes : 0) + logs_of(arg, name).bytes;
}

static int64_t bytes_of_volume(void *arg, const char *name)
{
    return volume_of(arg, name).bytes;
}

static bool is_local(const struct k8s_volume *volume)
{
    return volume->empty_dir && !kp_streq(volume->empty_dir->medium, "Memory");
}

/* What a pod wrote that lies on the disk the signal is of. */
static int64_t disk_of_pod(const struct pod_usage *usage, enum eviction_signal signal)
{
    bool inodes = signal == EVICTION_NODEFS_INODES || signal == EVICTION_IMAGEFS_INODES;
    bool of_images = signal == EVICTION_IMAGEFS || signal == EVICTION_IMAGEFS_INODES, apart = usage->e->images_apart;
    struct kubelet_spec_container *specs;
    size_t n = kubelet_spec_containers(usage->pod->data, usage->arena, &specs);
    struct kubelet_disk_usage sum = {0};
    for (size_t i = 0; i < n; i++) {
        const struct cri_container_stats *stats = of_images || !apart ? stats_of(usage, specs[i].container->name) : NULL;
        struct kubelet_disk_usage logs = !of_images || !apart ? logs_of(usage, specs[i].container->name) : (struct kubelet_disk_usage){0};
        sum.bytes += (stats ? (int64_t)stats->fs_used_bytes : 0) + logs.bytes;
        sum.inodes += (stats ? (int64_t)stats->fs_inodes_used : 0) + logs.inodes;
    }
    const struct k8s_volume_items *volumes = &usage->pod->data->spec->volumes;
    for (size_t i = 0; (!of_images || !apart) && i < volumes->len; i++) {
        struct kubelet_disk_usage disk = is_local(&volumes->items[i]) ? volume_of(usage, volumes->items[i].name) : (struct kubelet_disk_usage){0};
        sum.bytes += disk.bytes;
        sum.inodes += disk.inodes;
    }
    return inodes ? sum.inodes : sum.bytes;
}

static int64_t memory_of_pod(const struct pod_usage *usage)
{
    int64_t sum = 0;
    for (size_t i = 0; i < usage->sample->len; i++)
        if (kp_streq(cri_pairs_get(&usage->sample->stats[i].labels, KUBELET_LABEL_POD_UID), usage->pod->uid))
            sum += (int64_t)usage->sample->stats[i].memory_working_set_bytes;
    return sum;
}

/* ---- acting ---------------------------------------------------------------------------------------------------------------------- */
/* False when it may not or need not go. */
static bool evict(struct kubelet *kubelet, struct kubelet_pod *pod, int64_t grace_s, const char *message)
{
    if (kubelet_pod_critical(pod->data)) {
        kp_warn("a critical pod is not evicted", "pod", pod->name, "namespace", pod->ns, "why", message, NULL);
        return false;
    }
    if (!kubelet_workers_evict(kubelet->workers, pod->uid, grace_s, message))
        return false;
    kp_warn("pod evicted", "pod", pod->name, "namespace", pod->ns, "why", message, NULL);
    kubelet_event(kubelet, pod, NULL, "Warning", "Evicted", "%s", message);
    return true;
}

static void wait_for_end(struct kubelet *kubelet, const char *uid)
{
    for (int64_t waited_ms = 0; waited_ms < CLEANUP_WAIT_MS && !kubelet_workers_ended(kubelet->workers, uid); waited_ms += CLEANUP_POLL_MS)
        kp_sleep_ms(CLEANUP_POLL_MS);
}

static size_t active_pods(struct kubelet *kubelet, struct kubelet_pod ***ret)
{
    struct kubelet_pod **pods;
    size_t n = kubelet_workers_list(kubelet->workers, &pods), kept = 0;
    for (size_t i = 0; i < n; i++) {
        if (kubelet_workers_active(kubelet->workers, pods[i]->uid))
            pods[kept++] = pods[i];
        else
            kubelet_pod_unref(pods[i]);
    }
    *ret = pods;
    return kept;
}

static void pods_free(struct kubelet_pod **pods, size_t n)
{
    for (size_t i = 0; i < n; i++)
        kubelet_pod_unref(pods[i]);
    free(pods);
}

static void evict_one(struct kubelet_evictions *e, const struct eviction_threshold *threshold, struct kp_arena *arena)
{
    struct kubelet *kubelet = e->kubelet;
    struct kubelet_usage_sample sample = {0};
    struct kubelet_pod **pods;
    struct kp_error error = {0};
    if (kubelet_usage_look(kubelet->cri, &sample, &error) < 0) {
        kp_warn("the runtime does not tell what containers use: no pod can be chosen to go", "error", error.message, NULL);
        return;
    }
    size_t n = active_pods(kubelet, &pods), i = 0;
    struct eviction_pod *ranked = KP_NEW_ARRAY(arena, struct eviction_pod, n + 1);
    for (size_t k = 0; k < n; k++) {
        struct pod_usage usage = {e, pods[k], &sample, arena};
        bool disk = eviction_pressure_of(threshold->signal) == EVICTION_DISK_PRESSURE;
        ranked[k] = (struct eviction_pod){pods[k]->data, pods[k], memory_of_pod(&usage), disk ? disk_of_pod(&usage, threshold->signal) : 0};
    }
    eviction_rank(threshold->signal, ranked, n);
    for (bool gone = false; i < n && !gone; i++) {
        struct kubelet_pod *pod = ranked[i].owner;
        struct pod_usage usage = {e, pod, &sample, arena};
        int64_t grace_s = threshold->hard ? HARD_GRACE_S : KP_MIN(kubelet->config.eviction.pod_grace_max_s, kubelet_grace_period_s(pod->data));
        const char *message = eviction_message(threshold->signal, threshold, &e->readings[threshold->signal], pod->data,
                                               threshold->signal == EVICTION_MEMORY ? memory_of_container : disk_of_container, &usage, arena);
        gone = evict(kubelet, pod, grace_s, message);
        if (gone)
            wait_for_end(kubelet, pod->uid);
    }
    if (i == n)
        kp_warn("no pod is left that could go", "signal", eviction_signal_name(threshold->signal), NULL);
    pods_free(pods, n);
    kp_arena_free(sample.arena);
}

/* Containers that ended, of pods that ended: their layers go; their logs stay until the pod's object goes. */
static void remove_ended_containers(struct kubelet *kubelet, struct kp_arena *arena)
{
    struct cri_container *containers;
    size_t n;
    struct kp_error error = {0};
    if (cri_list_containers(kubelet->cri, NULL, NULL, arena, &containers, &n, &error) < 0)
        return;
    for (size_t i = 0; i < n; i++) {
        const char *uid = cri_pairs_get(&containers[i].labels, KUBELET_LABEL_POD_UID);
        /* Of pods that are not known yet, right after our start, it is not known that they ended. */
        if (containers[i].state == CRI_EXITED && uid && kubelet_workers_known(kubelet->workers, uid) && kubelet_workers_ended(kubelet->workers, uid) &&
            cri_remove_container(kubelet->cri, containers[i].id, &error) < 0)
            kp_warn("removing a container that ended failed", "container", containers[i].name, "error", error.message, NULL);
    }
}

static void act_on(struct kubelet_evictions *e, size_t number)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    struct kubelet *kubelet = e->kubelet;
    const struct eviction_threshold *threshold = &kubelet->config.eviction.items[number];
    enum eviction_pressure pressure = eviction_pressure_of(threshold->signal);
    const char *resource = pressure == EVICTION_MEMORY_PRESSURE ? "memory" : pressure == EVICTION_PID_PRESSURE ? "pids" : "ephemeral-storage";
    kubelet_node_event(kubelet, "Warning", "EvictionThresholdMet", "Attempting to reclaim %s", resource);
    if (pressure == EVICTION_DISK_PRESSURE) {
        remove_ended_containers(kubelet, arena);
        kubelet_images_remove_unused(kubelet);
        if (observe(e) != number)
            return;
    }
    evict_one(e, threshold, arena);
}

/* True when a pod went. */
static bool enforce_limits(struct kubelet_evictions *e)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    struct kubelet_usage_sample sample = {0};
    struct kubelet_pod **pods;
    struct kp_error error = {0};
    bool gone = false, looked = false;
    size_t n = active_pods(e->kubelet, &pods);
    for (size_t i = 0; i < n; i++) {
        if (!eviction_has_limits(pods[i]->data))
            continue;
        if (!looked && kubelet_usage_look(e->kubelet->cri, &sample, &error) < 0) {
            kp_warn("the runtime does not tell what containers use: limits are not looked at", "error", error.message, NULL);
            break;
        }
        looked = true;
        struct pod_usage usage = {e, pods[i], &sample, arena};
        const struct eviction_storage storage = {disk_of_container, bytes_of_volume, &usage};
        const char *why = eviction_over_limit(pods[i]->data, &storage, arena);
        gone |= why && evict(e->kubelet, pods[i], HARD_GRACE_S, why);
    }
    pods_free(pods, n);
    kp_arena_free(sample.arena);
    return gone;
}

static void *run(void *arg)
{
    struct kubelet_evictions *e = arg;
    for (unsigned round = 1; !e->kubelet->stopping; round++) {
        kp_sleep_ms(PERIOD_MS);
        if (round % LIMITS_EVERY == 0 && enforce_limits(e))
            continue; /* what it frees may be enough */
        size_t number = observe(e);
        if (number < e->kubelet->config.eviction.len)
            act_on(e, number);
    }
    return NULL;
}

struct kubelet_evictions *kubelet_evictions_new(struct kubelet *kubelet)
{
    struct kubelet_evictions *e = kp_calloc(1, sizeof(*e));
    e->kubelet = kubelet;
    pthread_mutex_init(&e->lock, NULL);
    (void)observe(e); /* the first status tells the truth; what is to be done begins with the thread */
    return e;
}

void kubelet_evictions_start(struct kubelet *kubelet)
{
    kubelet_thread("eviction", run, kubelet->evictions);
}
