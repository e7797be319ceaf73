/* Static pods: manifests in a folder, watched with inotify. */
#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include "nodeimage/kubelet/kubelet_internal.h"

#define MANIFEST_BYTES_MAX ((size_t)1 << 20)
#define MANIFESTS_MAX 256
#define RESCAN_MS 20000 /* in case an inotify event was lost */

static bool synced;

bool kubelet_static_synced(void)
{
    return __atomic_load_n(&synced, __ATOMIC_ACQUIRE);
}

static void set_identity(struct k8s_pod *pod, const char *path, const char *text, size_t len, const char *node_name,
                         struct kp_arena *arena)
{
    struct k8s_object_meta *meta = pod->metadata;
    KP_AUTO_BUF struct kp_buf seed = {0};
    kp_buf_printf(&seed, "%s\n%s\n", node_name, path);
    kp_buf_append(&seed, text, len);
    uint64_t high = kp_hash64(seed.data, seed.len);
    kp_buf_puts(&seed, "\nuid");
    uint64_t low = kp_hash64(seed.data, seed.len);
    const char *hash = kp_arena_printf(arena, "%016llx%016llx", (unsigned long long)high, (unsigned long long)low);
    if (kp_empty(meta->uid))
        meta->uid = hash;
    meta->name = kp_arena_printf(arena, "%s-%s", meta->name, node_name);
    if (kp_empty(meta->namespace))
        meta->namespace = "default";
    char seen[KP_RFC3339_MAX];
    kp_format_rfc3339(seen, kp_now_s(), 0, false);
    kp_string_map_set(arena, &meta->annotations, KUBELET_ANNOTATION_CONFIG_SOURCE, "file");
    kp_string_map_set(arena, &meta->annotations, KUBELET_ANNOTATION_CONFIG_HASH, hash);
    kp_string_map_set(arena, &meta->annotations, KUBELET_ANNOTATION_CONFIG_SEEN, kp_arena_strdup(arena, seen));
    pod->spec->node_name = kp_arena_strdup(arena, node_name);
    struct k8s_toleration *toleration = KP_LIST_ADD(arena, &pod->spec->tolerations);
    toleration->operator = "Exists";
    toleration->effect = "NoExecute";
}

int kubelet_static_parse(const char *path, const char *text, size_t len, const char *node_name, struct kubelet_pod **ret_pod,
                         struct kp_error *error)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    struct kp_decode decode = {.strict = true};
    void *obj;
    int rc = kp_yaml_decode(&k8s_pod_type, text, len, arena, &decode, &obj, error);
    if (rc < 0)
        return kp_wrap(error, "static pod %s", path);
    struct k8s_pod *pod = obj;
    if (!kp_streq(decode.kind, "Pod") || !kp_streq(decode.api_version, "v1"))
        return kp_fail(error, KP_EINVALID, "static pod %s: is %s %s, not v1 Pod", path, decode.api_version ? decode.api_version : "?",
                       decode.kind ? decode.kind : "?");
    if (decode.problems.len > 0)
        return kp_fail(error, KP_EINVALID, "static pod %s: %s", path, decode.problems.items[0]);
    if (!pod->metadata || kp_empty(pod->metadata->name))
        return kp_fail(error, KP_EINVALID, "static pod %s: metadata.name is missing", path);
    if (!pod->spec || pod->spec->containers.len == 0)
        return kp_fail(error, KP_EINVALID, "static pod %s: spec.containers is missing", path);
    kp_object_default(&k8s_pod_type, pod, arena);
    set_identity(pod, path, text, len, node_name, arena);
    *ret_pod = kubelet_pod_from_static(pod, KP_TAKE(arena));
    return 0;
}

struct known {
    char *file;
    struct kubelet_pod *pod;
    struct timespec mtime;
    off_t size;
    ino_t inode;
    bool seen;
};

struct static_source {
    struct kubelet *kubelet;
    struct known files[MANIFESTS_MAX];
    size_t n_files;
};

static struct known *find_known(struct static_source *source, const char *file)
{
    for (size_t i = 0; i < source->n_files; i++)
        if (kp_streq(source->files[i].file, file))
            return &source->files[i];
    return NULL;
}

static bool unchanged(const struct known *known, const struct stat *st)
{
    return known->mtime.tv_sec == st->st_mtim.tv_sec && known->mtime.tv_nsec == st->st_mtim.tv_nsec &&
           known->size == st->st_size && known->inode == st->st_ino;
}

static void load_file(struct static_source *source, const char *file, const struct stat *st)
{
    struct kubelet *kubelet = source->kubelet;
    struct known *known = find_known(source, file);
    struct kp_error error = {0};
    if (known) {
        known->seen = true;
        if (unchanged(known, st))
            return;
    } else if (source->n_files == MANIFESTS_MAX) {
        kp_warn("too many static pods", "file", file, NULL);
        return;
    } else {
        known = &source->files[source->n_files++];
        *known = (struct known){.file = kp_strdup(file), .seen = true};
    }
    known->mtime = st->st_mtim;
    known->size = st->st_size;
    known->inode = st->st_ino;
    KP_AUTO_BUF struct kp_buf text = {0};
    struct kubelet_pod *pod = NULL;
    KP_AUTO_FREE char *path = kp_asprintf("%s/%s", kubelet->config.pod_manifest_path, file);
    if (kp_read_file(path, MANIFEST_BYTES_MAX, &text, &error) < 0 ||
        kubelet_static_parse(path, text.data ? text.data : "", text.len, kubelet->config.node_name, &pod, &error) < 0) {
        kp_warn("static pod is not usable", "file", path, "error", error.message, NULL);
        return; /* what ran from the file before goes on */
    }
    if (known->pod && !kp_streq(known->pod->uid, pod->uid))
        kubelet_workers_remove(kubelet->workers, known->pod->uid, -1);
    kubelet_pod_unref(known->pod);
    known->pod = pod;
    kubelet_workers_update(kubelet->workers, pod);
}

static void scan(struct static_source *source)
{
    const char *folder = source->kubelet->config.pod_manifest_path;
    DIR *dir = opendir(folder);
    if (!dir) {
        if (errno != ENOENT)
            kp_warn("reading the folder of static pods failed", "path", folder, "error", strerror(errno), NULL);
        return;
    }
    for (size_t i = 0; i < source->n_files; i++)
        source->files[i].seen = false;
    struct dirent *entry;
    while ((entry = readdir(dir)) != NULL) {
        struct stat st;
        if (entry->d_name[0] == '.' || fstatat(dirfd(dir), entry->d_name, &st, 0) < 0 || !S_ISREG(st.st_mode))
            continue;
        load_file(source, entry->d_name, &st);
    }
    closedir(dir);
    for (size_t i = 0; i < source->n_files;) {
        struct known *known = &source->files[i];
        if (known->seen) {
            i++;
            continue;
        }
        if (known->pod)
            kubelet_workers_remove(source->kubelet->workers, known->pod->uid, -1);
        kubelet_pod_unref(known->pod);
        free(known->file);
        *known = source->files[--source->n_files];
    }
    __atomic_store_n(&synced, true, __ATOMIC_RELEASE);
}

static void *watch(void *arg)
{
    struct static_source *source = arg;
    KP_AUTO_CLOSE int fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
    int watched = -1;
    for (;;) {
        if (watched < 0 && fd >= 0)
            watched = inotify_add_watch(fd, source->kubelet->config.pod_manifest_path,
                                        IN_CLOSE_WRITE | IN_MOVED_TO | IN_MOVED_FROM | IN_DELETE);
        scan(source);
        struct pollfd pfd = {.fd = fd, .events = POLLIN};
        if (poll(&pfd, 1, watched < 0 ? 1000 : RESCAN_MS) > 0) {
            char events[4096];
            if (read(fd, events, sizeof(events)) < 0 && errno != EAGAIN)
                kp_sleep_ms(1000);
        }
    }
    return NULL;
}

int kubelet_static_start(struct kubelet *kubelet, struct kp_error *error)
{
    if (kp_empty(kubelet->config.pod_manifest_path)) {
        __atomic_store_n(&synced, true, __ATOMIC_RELEASE);
        return 0;
    }
    int rc = kp_mkdir_p(kubelet->config.pod_manifest_path, 0755, error);
    if (rc < 0)
        return rc;
    struct static_source *source = kp_calloc(1, sizeof(*source));
    source->kubelet = kubelet;
    kubelet_thread("static-pods", watch, source);
    return 0;
}
