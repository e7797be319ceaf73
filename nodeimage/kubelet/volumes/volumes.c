/* Making, refreshing and taking down the volumes of a pod. */
#include "nodeimage/kubelet/csi/csi.h"
#include "nodeimage/kubelet/volumes/claims_internal.h"
#include "nodeimage/kubelet/volumes/mounts.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#define VOLUME_DIR_MODE 0777

const char *volumes_pod_dir(const char *root_dir, const char *uid, struct kp_arena *arena)
{
    return kp_arena_printf(arena, "%s/pods/%s", root_dir, uid);
}

const struct k8s_volume *volumes_find(const struct k8s_pod *pod, const char *name)
{
    for (size_t i = 0; i < pod->spec->volumes.len; i++)
        if (kp_streq(pod->spec->volumes.items[i].name, name))
            return &pod->spec->volumes.items[i];
    return NULL;
}

static const char *plugin_name(const struct k8s_volume *volume)
{
    if (volume->config_map)
        return "kubernetes.io~configmap";
    if (volume->secret)
        return "kubernetes.io~secret";
    if (volume->downward_api)
        return "kubernetes.io~downward-api";
    if (volume->projected)
        return "kubernetes.io~projected";
    if (volume->empty_dir)
        return "kubernetes.io~empty-dir";
    return NULL;
}

const char *volumes_path(const struct volumes_context *context, const struct k8s_pod *pod, const char *name)
{
    const struct k8s_volume *volume = volumes_find(pod, name);
    if (!volume)
        return NULL;
    if (volume->host_path)
        return volume->host_path->path;
    if (volumes_claimed(volume)) {
        const struct volumes_mount *there = context->mounts ? kp_strmap_get(context->mounts, name) : NULL;
        return there ? kp_arena_strdup(context->arena, there->path) : NULL;
    }
    const char *plugin = plugin_name(volume);
    if (!plugin)
        return NULL;
    return kp_arena_printf(context->arena, "%s/volumes/%s/%s",
                           volumes_pod_dir(context->root_dir, pod->metadata->uid, context->arena), plugin, name);
}

bool volumes_any_claimed(const struct k8s_pod *pod)
{
    for (size_t i = 0; i < pod->spec->volumes.len; i++)
        if (volumes_claimed(&pod->spec->volumes.items[i]))
            return true;
    return false;
}

bool volumes_read_only(const struct volumes_context *context, const char *name)
{
    const struct volumes_mount *there = context->mounts ? kp_strmap_get(context->mounts, name) : NULL;
    return there && there->read_only;
}

bool volumes_refreshable(const struct k8s_pod *pod, const struct kp_strmap *mounts)
{
    for (size_t i = 0; i < pod->spec->volumes.len; i++) {
        const struct k8s_volume *v = &pod->spec->volumes.items[i];
        if (v->config_map || v->secret || v->downward_api || v->projected)
            return true;
        const struct volumes_mount *there = mounts ? kp_strmap_get(mounts, v->name) : NULL;
        if (there && there->republish)
            return true;
    }
    return false;
}

static int64_t fs_group(const struct k8s_pod *pod)
{
    const struct k8s_pod_security_context *context = pod->spec->security_context;
    return context && context->has_fs_group ? context->fs_group : -1;
}

static int mount_tmpfs(const char *path, const char *size_limit, struct kp_error *error)
{
    char options[96] = "mode=0777";
    int64_t bytes = kp_quantity_str_value(size_limit);
    if (bytes > 0)
        snprintf(options, sizeof(options), "mode=0777,size=%lld", (long long)bytes);
    if (mount("tmpfs", path, "tmpfs", MS_NOSUID | MS_NODEV, options) < 0)
        return kp_fail_errno(error, "mount tmpfs on %s", path);
    return 0;
}

/* Makes the volume's folder (a tmpfs for memory); *ret_new tells whether it was not there before. */
static int make_dir(const char *path, bool memory, const char *size_limit, int64_t gid, bool *ret_new, struct kp_error *error)
{
    *ret_new = false;
    if (kp_path_exists(path)) {
        /* A tmpfs that a crash of ours left out is made up for. */
        struct stat st, parent;
        char *up = kp_asprintf("%s/..", path);
        bool mounted = stat(path, &st) == 0 && stat(up, &parent) == 0 && st.st_dev != parent.st_dev;
        free(up);
        if (!memory || mounted)
            return 0;
    }
    *ret_new = true;
    int rc = kp_mkdir_p(path, 0755, error);
    if (rc == 0 && memory)
        rc = mount_tmpfs(path, size_limit, error);
    if (rc < 0)
        return rc;
    if (gid >= 0 && chown(path, (uid_t)-1, (gid_t)gid) < 0)
        return kp_fail_errno(error, "set the group of %s", path);
    if (chmod(path, gid >= 0 ? 02000 | VOLUME_DIR_MODE : VOLUME_DIR_MODE) < 0)
        return kp_fail_errno(error, "set the mode of %s", path);
    return 0;
}

static int setup_empty_dir(const struct k8s_pod *pod, const struct k8s_volume *volume, const char *path, struct kp_error *error)
{
    bool made;
    return make_dir(path, kp_streq(volume->empty_dir->medium, "Memory"), volume->empty_dir->size_limit, fs_group(pod), &made,
                    error);
}

static int setup_files(const struct volumes_context *context, const struct k8s_pod *pod, const struct k8s_volume *volume,
                       const char *path, bool *ret_changed, struct kp_error *error)
{
    struct volumes_files files;
    int rc = volumes_content(context, pod, volume, &files, error);
    if (rc < 0)
        return rc;
    bool made, changed = false, memory = volume->secret || volume->projected; /* secrets do not touch a disk */
    rc = make_dir(path, memory, NULL, fs_group(pod), &made, error);
    if (rc == 0)
        rc = volumes_atomic_write(path, &files, fs_group(pod), &changed, error);
    *ret_changed = *ret_changed || changed;
    return rc;
}

static int create_host_path(const char *path, const char *type, struct kp_error *error)
{
    if (kp_streq(type, "DirectoryOrCreate") && !kp_path_exists(path))
        return kp_mkdir_p(path, 0755, error);
    if (kp_streq(type, "FileOrCreate") && !kp_path_exists(path)) {
        KP_AUTO_CLOSE int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
        if (fd < 0)
            return kp_fail_errno(error, "create host path file %s", path);
    }
    return 0;
}

static int check_host_path(const char *path, const char *type, struct kp_error *error)
{
    static const struct {
        const char *type, *what;
        mode_t mode;
    } kinds[] = {{"DirectoryOrCreate", "directory", S_IFDIR}, {"Directory", "directory", S_IFDIR},
                 {"FileOrCreate", "file", S_IFREG},           {"File", "file", S_IFREG},
                 {"Socket", "socket file", S_IFSOCK},         {"CharDevice", "character device", S_IFCHR},
                 {"BlockDevice", "block device", S_IFBLK}};
    for (size_t i = 0; i < KP_ARRAY_LEN(kinds); i++) {
        if (!kp_streq(type, kinds[i].type))
            continue;
        struct stat st;
        if (stat(path, &st) < 0 || (st.st_mode & S_IFMT) != kinds[i].mode)
            return kp_fail(error, KP_EINVALID, "hostPath type check failed: %s is not a %s", path, kinds[i].what);
        return 0;
    }
    return kp_fail(error, KP_EINVALID, "unknown hostPath type %s", type);
}

int volumes_host_path_setup(const struct k8s_host_path_volume_source *source, struct kp_error *error)
{
    const char *type = source->type, *path = source->path;
    if (kp_empty(type))
        return 0;
    int rc = create_host_path(path, type, error);
    return rc < 0 ? rc : check_host_path(path, type, error);
}

static int setup_one(const struct volumes_context *context, const struct k8s_pod *pod, const struct k8s_volume *volume,
                     bool *ret_changed, struct kp_error *error)
{
    const char *path = volumes_path(context, pod, volume->name);
    if (volume->host_path)
        return volumes_host_path_setup(volume->host_path, error);
    if (volume->empty_dir)
        return setup_empty_dir(pod, volume, path, error);
    if (volume->image)
        return 0; /* the runtime mounts it */
    if (path)
        return setup_files(context, pod, volume, path, ret_changed, error);
    return kp_fail(error, KP_ENOTSUPPORTED, "no volume plugin matched");
}

int volumes_setup(const struct volumes_context *context, const struct k8s_pod *pod, bool *ret_changed, struct kp_error *error)
{
    bool changed = false;
    for (size_t i = 0; i < pod->spec->volumes.len; i++) {
        const struct k8s_volume *volume = &pod->spec->volumes.items[i];
        if (volumes_claimed(volume))
            continue;
        int rc = setup_one(context, pod, volume, &changed, error);
        if (rc < 0)
            return kp_wrap(error, "MountVolume.SetUp failed for volume \"%s\" ", volume->name);
    }
    if (ret_changed)
        *ret_changed = changed;
    /* Those that may have to be waited for come last; all are begun, so that one does not wait for another. */
    int waits = 0;
    struct kp_error first = {0};
    for (size_t i = 0; i < pod->spec->volumes.len; i++) {
        struct kp_error one = {0};
        int rc = volumes_claimed(&pod->spec->volumes.items[i]) ? volumes_claim_setup(context, pod, &pod->spec->volumes.items[i], &one) : 0;
        if (rc < 0 && (waits == 0 || waits == KP_EAGAIN)) {
            waits = rc;
            first = one;
        }
    }
    return waits < 0 ? kp_fail(error, waits, "%s", first.message) : 0;
}

/* Sub-paths lie on volumes, so they go first; drivers take down their own; what is left is the kubelet's. */
static int unmount_all(const char *root_dir, const char *uid, const char *dir, struct csi *csi, struct kp_error *error)
{
    KP_AUTO_FREE char *sub_paths = kp_asprintf("%s/volume-subpaths", dir);
    int rc = volumes_unmount_below(sub_paths, error);
    if (rc == 0 && csi)
        rc = csi_unmount_pod(csi, uid, error);
    return rc < 0 ? rc : volumes_unmount_below(dir, error);
}

int volumes_teardown(const char *root_dir, const char *uid, struct csi *csi, struct kp_error *error)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    const char *dir = volumes_pod_dir(root_dir, uid, arena);
    if (!kp_path_exists(dir))
        return 0;
    int rc = unmount_all(root_dir, uid, dir, csi, error);
    return rc < 0 ? rc : kp_remove_tree(dir, error);
}

int volumes_unmount(const char *root_dir, const char *uid, struct csi *csi, struct kp_error *error)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    const char *dir = volumes_pod_dir(root_dir, uid, arena);
    int rc = unmount_all(root_dir, uid, dir, csi, error);
    if (rc == 0)
        rc = kp_remove_tree(kp_arena_printf(arena, "%s/volume-subpaths", dir), error);
    return rc < 0 ? rc : kp_remove_tree(kp_arena_printf(arena, "%s/volumes", dir), error);
}
