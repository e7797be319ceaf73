/* Sub-paths of volumes: opened so that no symbolic link leads out of the volume, then bound to a place of the kubelet's. */
#include "nodeimage/kubelet/volumes/volumes.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define SUBPATH_MODE 0755

static int open_beneath(int dir_fd, const char *path, uint64_t flags)
{
    struct open_how how = {.flags = flags | O_CLOEXEC, .resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS};
    return (int)syscall(SYS_openat2, dir_fd, path, &how, sizeof(how));
}

/* Makes the missing folders of a path, each inside what was opened safely before. */
static int make_beneath(int volume_fd, const char *path, struct kp_error *error)
{
    KP_AUTO_FREE char *part = kp_strdup(path);
    for (char *s = part;; s++) {
        if (*s != '/' && *s != '\0')
            continue;
        char saved = *s;
        *s = '\0';
        if (*part) {
            char *slash = strrchr(part, '/');
            KP_AUTO_FREE char *parent = slash ? kp_strndup(part, (size_t)(slash - part)) : kp_strdup(".");
            KP_AUTO_CLOSE int parent_fd = open_beneath(volume_fd, parent, O_RDONLY | O_DIRECTORY);
            if (parent_fd < 0)
                return kp_fail_errno(error, "open folder %s of the volume", parent);
            if (mkdirat(parent_fd, slash ? slash + 1 : part, SUBPATH_MODE) < 0 && errno != EEXIST)
                return kp_fail_errno(error, "create sub-path %s", part);
        }
        *s = saved;
        if (saved == '\0')
            return 0;
    }
}

static int open_subpath(const char *volume_path, const char *sub_path, int *ret_fd, struct kp_error *error)
{
    KP_AUTO_CLOSE int volume_fd = open(volume_path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (volume_fd < 0)
        return kp_fail_errno(error, "open volume %s", volume_path);
    int fd = open_beneath(volume_fd, sub_path, O_PATH);
    if (fd < 0 && errno == ENOENT) {
        int rc = make_beneath(volume_fd, sub_path, error);
        if (rc < 0)
            return rc;
        fd = open_beneath(volume_fd, sub_path, O_PATH);
    }
    if (fd < 0)
        return kp_fail_errno(error, "open sub-path %s", sub_path);
    *ret_fd = fd;
    return 0;
}

static int bind_to(int fd, const char *target, struct kp_error *error)
{
    struct stat st;
    if (fstat(fd, &st) < 0)
        return kp_fail_errno(error, "look at sub-path");
    if (S_ISDIR(st.st_mode)) {
        int rc = kp_mkdir_p(target, 0755, error);
        if (rc < 0)
            return rc;
    } else {
        KP_AUTO_CLOSE int made = open(target, O_WRONLY | O_CREAT | O_CLOEXEC, 0640);
        if (made < 0)
            return kp_fail_errno(error, "create %s", target);
    }
    char source[64];
    snprintf(source, sizeof(source), "/proc/self/fd/%d", fd);
    if (mount(source, target, NULL, MS_BIND | MS_REC, NULL) < 0)
        return kp_fail_errno(error, "bind sub-path to %s", target);
    return 0;
}

int volumes_mount_source(const struct volumes_context *context, const struct k8s_pod *pod, const char *container, size_t index,
                         const char *volume, const char *sub_path, const char **ret_path, struct kp_error *error)
{
    const char *path = volumes_path(context, pod, volume);
    if (!path)
        return kp_fail(error, KP_ENOTFOUND, "cannot find volume \"%s\" to mount into container \"%s\"", volume, container);
    if (kp_empty(sub_path)) {
        *ret_path = path;
        return 0;
    }
    if (sub_path[0] == '/')
        return kp_fail(error, KP_EINVALID, "subPath %s must be a relative path", sub_path);
    if (!volumes_path_valid(sub_path) && !kp_streq(sub_path, "."))
        return kp_fail(error, KP_EINVALID, "subPath %s must not contain '..'", sub_path);
    const char *folder = kp_arena_printf(context->arena, "%s/volume-subpaths/%s/%s",
                                         volumes_pod_dir(context->root_dir, pod->metadata->uid, context->arena), volume, container);
    const char *target = kp_arena_printf(context->arena, "%s/%zu", folder, index);
    int rc = kp_mkdir_p(folder, 0750, error);
    if (rc < 0)
        return rc;
    /* A restarted container gets the sub-path as it is now. */
    if (umount2(target, MNT_DETACH) < 0 && errno != EINVAL && errno != ENOENT)
        return kp_fail_errno(error, "unmount %s", target);
    rc = kp_remove_tree(target, error);
    if (rc < 0)
        return rc;
    KP_AUTO_CLOSE int fd = -1;
    rc = open_subpath(path, sub_path, &fd, error);
    if (rc == 0)
        rc = bind_to(fd, target, error);
    if (rc < 0)
        return kp_wrap(error, "failed to prepare subPath for volumeMount \"%s\" of container \"%s\"", volume, container);
    *ret_path = target;
    return 0;
}
