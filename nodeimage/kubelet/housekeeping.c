/* What nobody asked for but has to be done: orphans of the runtime and of the disk, log rotation, image collection. */
#include <dirent.h>
#include <errno.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/client/client.h"
#include "lib/volume/volume.h"
#include "nodeimage/kubelet/csi/csi.h"
#include "nodeimage/kubelet/kubelet_internal.h"
#include "nodeimage/kubelet/volumes/volumes.h"

#define PERIOD_MS 10000
#define IMAGE_PERIOD_MS 300000
#define ORPHAN_GRACE_S 10

/* Only when every source has told all its pods is a pod that nobody knows an orphan. */
static bool sources_complete(struct kubelet *kubelet)
{
    if (!kubelet_static_synced())
        return false;
    return !kubelet->client || (kubelet->pods && client_informer_synced(kubelet->pods));
}

static void remove_orphan(struct kubelet *kubelet, const struct cri_sandbox *sandbox, const struct cri_container *containers, size_t n)
{
    struct kp_error error = {0};
    for (size_t i = 0; i < n; i++)
        if (kp_streq(containers[i].sandbox_id, sandbox->id) && containers[i].state == CRI_RUNNING &&
            cri_stop_container(kubelet->cri, containers[i].id, ORPHAN_GRACE_S, &error) < 0)
            kp_warn("stopping an orphaned container failed", "container", containers[i].name, "error", error.message, NULL);
    int rc = cri_stop_sandbox(kubelet->cri, sandbox->id, &error);
    if (rc == 0)
        rc = cri_remove_sandbox(kubelet->cri, sandbox->id, &error);
    if (rc < 0)
        kp_warn("removing an orphaned sandbox failed", "sandbox", sandbox->id, "error", error.message, NULL);
    else
        kp_info("orphaned pod removed", "pod", sandbox->name, "namespace", sandbox->ns, "uid", sandbox->uid, NULL);
}

static void runtime_orphans(struct kubelet *kubelet)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    struct cri_sandbox *sandboxes;
    struct cri_container *containers;
    size_t n_sandboxes, n_containers;
    if (cri_list_sandboxes(kubelet->cri, NULL, NULL, arena, &sandboxes, &n_sandboxes, NULL) < 0 ||
        cri_list_containers(kubelet->cri, NULL, NULL, arena, &containers, &n_containers, NULL) < 0)
        return;
    for (size_t i = 0; i < n_sandboxes; i++)
        if (!kp_empty(sandboxes[i].uid) && !kubelet_workers_known(kubelet->workers, sandboxes[i].uid))
            remove_orphan(kubelet, &sandboxes[i], containers, n_containers);
}

static void disk_orphans(struct kubelet *kubelet)
{
    KP_AUTO_FREE char *folder = kp_asprintf("%s/pods", kubelet->config.root_dir);
    DIR *dir = opendir(folder);
    struct dirent *entry;
    while (dir && (entry = readdir(dir)) != NULL) {
        struct kp_error error = {0};
        if (entry->d_name[0] == '.' || kubelet_workers_known(kubelet->workers, entry->d_name))
            continue;
        if (volumes_teardown(kubelet->config.root_dir, entry->d_name, kubelet->csi, &error) < 0)
            kp_warn("removing an orphaned pod folder failed", "uid", entry->d_name, "error", error.message, NULL);
    }
    if (dir)
        closedir(dir);
}

/* /var/log/pods/<namespace>_<name>_<uid> of pods that are gone. */
static void log_orphans(struct kubelet *kubelet)
{
    DIR *dir = opendir("/var/log/pods");
    struct dirent *entry;
    while (dir && (entry = readdir(dir)) != NULL) {
        const char *uid = strrchr(entry->d_name, '_');
        if (!uid || kubelet_workers_known(kubelet->workers, uid + 1))
            continue;
        KP_AUTO_FREE char *path = kp_asprintf("/var/log/pods/%s", entry->d_name);
        struct kp_error error = {0};
        if (kp_remove_tree(path, &error) < 0)
            kp_warn("removing orphaned logs failed", "path", path, "error", error.message, NULL);
    }
    if (dir)
        closedir(dir);
}

static int get_volume(void *arg, const char *name, struct kp_arena *arena, const struct k8s_persistent_volume **ret, struct kp_error *error)
{
    void *object = NULL;
    int rc = client_get_cached(((struct kubelet *)arg)->client, &k8s_persistentvolumes_resource, NULL, name, arena, &object, error);
    *ret = object;
    return rc;
}

static int patch_volume(void *arg, const char *name, const char *body, size_t len, struct kp_error *error)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    return client_patch(((struct kubelet *)arg)->client, &k8s_persistentvolumes_resource, NULL, name, CLIENT_PATCH_MERGE, body, len, NULL, arena,
                        NULL, error);
}

/* What no pod uses: staged volumes of drivers, and folders of volumes whose objects are to go. */
static void volume_orphans(struct kubelet *kubelet)
{
    if (!kubelet->client)
        return;
    csi_collect(kubelet->csi);
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    const struct k8s_node *node = kubelet_node_object(kubelet, arena);
    if (!node)
        return;
    struct volumes_collect collect = {.root_dir = kubelet->config.root_dir,
                                      .local_dir = VOLUME_LOCAL_DIR,
                                      .hostname = kp_string_map_get(&node->metadata->labels, "kubernetes.io/hostname"),
                                      .leaving = kp_string_map_get(&node->metadata->annotations, VOLUME_LOCAL_LEAVING),
                                      .get = get_volume,
                                      .patch = patch_volume,
                                      .arg = kubelet};
    volumes_collect_local(&collect);
}

/* Shifts old logs up (0.log.1 is the newest) and lets the runtime begin a new file. */
static void rotate(struct kubelet *kubelet, const struct cri_container *c, const char *path)
{
    struct kp_error error = {0};
    int64_t keep = KP_MAX(kubelet->config.container_log_files_max - 1, 1);
    for (int64_t i = keep; i >= 1; i--) {
        KP_AUTO_FREE char *from = i == 1 ? kp_strdup(path) : kp_asprintf("%s.%lld", path, (long long)i - 1);
        KP_AUTO_FREE char *to = kp_asprintf("%s.%lld", path, (long long)i);
        if (rename(from, to) < 0 && errno != ENOENT)
            kp_warn("rotating a log failed", "path", from, "error", strerror(errno), NULL);
    }
    if (cri_reopen_log(kubelet->cri, c->id, &error) < 0)
        kp_warn("reopening a log failed", "path", path, "error", error.message, NULL);
}

static void rotate_logs(struct kubelet *kubelet)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    struct cri_container *containers;
    size_t n;
    if (cri_list_containers(kubelet->cri, NULL, NULL, arena, &containers, &n, NULL) < 0)
        return;
    for (size_t i = 0; i < n; i++) {
        struct stat st;
        const char *uid = cri_pairs_get(&containers[i].labels, KUBELET_LABEL_POD_UID);
        const char *count = cri_pairs_get(&containers[i].annotations, KUBELET_ANNOTATION_RESTART_COUNT);
        if (containers[i].state != CRI_RUNNING || !uid || !count)
            continue;
        const char *path = kp_arena_printf(arena, "/var/log/pods/%s_%s_%s/%s/%s.log",
                                           cri_pairs_get(&containers[i].labels, KUBELET_LABEL_POD_NAMESPACE),
                                           cri_pairs_get(&containers[i].labels, KUBELET_LABEL_POD_NAME), uid, containers[i].name, count);
        if (stat(path, &st) == 0 && st.st_size >= kubelet->config.container_log_bytes_max)
            rotate(kubelet, &containers[i], path);
    }
}

static void *run(void *arg)
{
    struct kubelet *kubelet = arg;
    int64_t images_ms = kp_mono_ms();
    while (!kubelet->stopping) {
        kp_sleep_ms(PERIOD_MS);
        if (sources_complete(kubelet)) {
            runtime_orphans(kubelet);
            disk_orphans(kubelet);
            log_orphans(kubelet);
            volume_orphans(kubelet);
        }
        rotate_logs(kubelet);
        if (kp_mono_ms() - images_ms >= IMAGE_PERIOD_MS) {
            images_ms = kp_mono_ms();
            kubelet_image_gc(kubelet);
        }
    }
    return NULL;
}

void kubelet_housekeeping_start(struct kubelet *kubelet)
{
    kubelet_thread("housekeeping", run, kubelet);
}
