/* fsGroup: the files of a volume belong to the pod's group, may be written by it, and what is made in it inherits the group. */
#include "nodeimage/kubelet/volumes/mounts.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#define DEPTH_MAX 128
#define MODE_FILE 0660
#define MODE_FOLDER (S_ISGID | 0770)

static int own(int parent, const char *name, const struct stat *st, gid_t gid)
{
    if (fchownat(parent, name, (uid_t)-1, gid, AT_SYMLINK_NOFOLLOW) < 0)
        return -1;
    if (S_ISLNK(st->st_mode))
        return 0;
    return fchmodat(parent, name, (st->st_mode & 07777) | (S_ISDIR(st->st_mode) ? MODE_FOLDER : MODE_FILE), 0);
}

static int walk(int parent, const char *name, const char *path, dev_t device, gid_t gid, int depth, struct kp_error *error);

static int walk_children(int folder_fd, const char *path, dev_t device, gid_t gid, int depth, struct kp_error *error)
{
    int copy = fcntl(folder_fd, F_DUPFD_CLOEXEC, 0);
    DIR *folder = copy >= 0 ? fdopendir(copy) : NULL;
    struct dirent *entry;
    int rc = 0;
    if (!folder) {
        rc = kp_fail_errno(error, "read %s", path);
        kp_close_fd(&copy);
        return rc;
    }
    while (rc == 0 && (entry = readdir(folder)) != NULL) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        KP_AUTO_FREE char *full = kp_asprintf("%s/%s", path, entry->d_name);
        rc = walk(folder_fd, entry->d_name, full, device, gid, depth + 1, error);
    }
    closedir(folder);
    return rc;
}

static int walk(int parent, const char *name, const char *path, dev_t device, gid_t gid, int depth, struct kp_error *error)
{
    struct stat st;
    if (fstatat(parent, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return errno == ENOENT ? 0 : kp_fail_errno(error, "look at %s", path);
    if (st.st_dev != device)
        return 0;
    if (depth > DEPTH_MAX)
        return kp_fail(error, KP_ETOOLARGE, "set the group of %s: nested deeper than %d", path, DEPTH_MAX);
    if (S_ISDIR(st.st_mode)) {
        KP_AUTO_CLOSE int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (fd < 0)
            return errno == ENOENT ? 0 : kp_fail_errno(error, "open %s", path);
        int rc = walk_children(fd, path, device, gid, depth, error);
        if (rc < 0)
            return rc;
    }
    /* The folder comes after what is in it: when its mode is right, so is everything (OnRootMismatch). */
    if (own(parent, name, &st, gid) < 0 && errno != ENOENT)
        return kp_fail_errno(error, "set the group of %s", path);
    return 0;
}

int volumes_own(const char *path, int64_t gid, const char *policy, struct kp_error *error)
{
    struct stat st;
    if (lstat(path, &st) < 0)
        return kp_fail_errno(error, "look at %s", path);
    bool right = (int64_t)st.st_gid == gid && (st.st_mode & MODE_FOLDER) == MODE_FOLDER;
    if (right && kp_streq(policy, "OnRootMismatch"))
        return 0;
    return walk(AT_FDCWD, path, path, st.st_dev, (gid_t)gid, 0, error);
}
