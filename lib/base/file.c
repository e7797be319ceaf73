/* Files: whole reads, atomic writes, folders and the removal of trees. */
#include "lib/base/base.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define READ_FILE_MAX_DEFAULT ((size_t)64 << 20)
#define READ_CHUNK ((size_t)16384)
#define TREE_DEPTH_MAX 256

void kp_close_fd(int *fd)
{
    if (*fd < 0)
        return;
    int saved = errno;
    close(*fd);
    errno = saved;
    *fd = -1;
}

int kp_read_file(const char *path, size_t max, struct kp_buf *out, struct kp_error *error)
{
    KP_AUTO_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return kp_fail_errno(error, "open %s", path);
    if (!max)
        max = READ_FILE_MAX_DEFAULT;
    size_t before = out->len;
    for (;;) {
        kp_buf_reserve(out, READ_CHUNK);
        ssize_t got = read(fd, out->data + out->len, READ_CHUNK);
        if (got < 0 && errno == EINTR)
            continue;
        int rc = 0;
        if (got < 0)
            rc = kp_fail_errno(error, "read %s", path);
        else if (out->len + (size_t)got - before > max)
            rc = kp_fail(error, KP_ETOOLARGE, "read %s: larger than %zu bytes", path, max);
        if (rc < 0) {
            out->len = before;
            out->data[out->len] = '\0';
            return rc;
        }
        out->len += (size_t)got;
        out->data[out->len] = '\0';
        if (got == 0)
            return 0;
    }
}

int kp_write_all(int fd, const void *data, size_t len, const char *name, struct kp_error *error)
{
    for (size_t done = 0; done < len;) {
        ssize_t put = write(fd, (const char *)data + done, len - done);
        if (put < 0 && errno == EINTR)
            continue;
        if (put < 0)
            return kp_fail_errno(error, "write %s", name);
        done += (size_t)put;
    }
    return 0;
}

/* Makes a rename or an unlink in the folder of path survive a power cut. */
static int sync_folder_of(const char *path, struct kp_error *error)
{
    const char *slash = strrchr(path, '/');
    KP_AUTO_FREE char *folder = !slash ? kp_strdup(".") : kp_strndup(path, slash == path ? 1 : (size_t)(slash - path));
    KP_AUTO_CLOSE int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return kp_fail_errno(error, "open %s", folder);
    if (fsync(fd) < 0 && errno != EINVAL) /* EINVAL: a file system that cannot, such as some FUSE ones */
        return kp_fail_errno(error, "fsync %s", folder);
    return 0;
}

int kp_write_file(const char *path, const void *data, size_t len, unsigned mode, struct kp_error *error)
{
    KP_AUTO_FREE char *temporary = kp_asprintf("%s.XXXXXX", path);
    KP_AUTO_CLOSE int fd = mkostemp(temporary, O_CLOEXEC);
    if (fd < 0)
        return kp_fail_errno(error, "create %s", temporary);
    int rc = kp_write_all(fd, data, len, temporary, error);
    if (rc == 0 && fchmod(fd, mode) < 0)
        rc = kp_fail_errno(error, "chmod %s", temporary);
    if (rc == 0 && fsync(fd) < 0)
        rc = kp_fail_errno(error, "fsync %s", temporary);
    if (rc == 0 && rename(temporary, path) < 0)
        rc = kp_fail_errno(error, "rename %s to %s", temporary, path);
    if (rc < 0) {
        unlink(temporary);
        return rc;
    }
    return sync_folder_of(path, error);
}

int kp_mkdir_p(const char *path, unsigned mode, struct kp_error *error)
{
    KP_AUTO_FREE char *copy = kp_strdup(path);
    for (char *p = copy + 1; *copy; p++) {
        if (*p != '/' && *p)
            continue;
        char saved = *p;
        *p = '\0';
        if (mkdir(copy, mode) < 0) {
            struct stat st;
            int number = errno;
            if (stat(copy, &st) < 0) {
                errno = number;
                return kp_fail_errno(error, "mkdir %s", copy);
            }
            if (!S_ISDIR(st.st_mode))
                return kp_fail(error, KP_EEXISTS, "mkdir %s: it exists and is no folder", copy);
        }
        if (!saved)
            return 0;
        *p = saved;
    }
    return kp_fail(error, KP_EBADREQUEST, "mkdir: empty path");
}

bool kp_path_exists(const char *path)
{
    struct stat st;
    return lstat(path, &st) == 0;
}

/* Opens a folder in `parent` unless it is the root of another mount (EXDEV) or a link. */
static int open_folder_here(int parent, const char *name, dev_t device)
{
    struct open_how how = {
        .flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC,
        .resolve = RESOLVE_NO_XDEV | RESOLVE_NO_SYMLINKS,
    };
    int fd = (int)syscall(SYS_openat2, parent, name, &how, sizeof(how));
    if (fd >= 0 || (errno != ENOSYS && errno != EPERM))
        return fd;
    /* A kernel or a seccomp filter without openat2: a mount of the same device goes unseen, rmdir then says EBUSY. */
    fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    struct stat st;
    if (fd >= 0 && (fstat(fd, &st) < 0 || st.st_dev != device)) {
        close(fd);
        errno = EXDEV;
        return -1;
    }
    return fd;
}

static int remove_children(int fd, dev_t device, const char *path, int depth, struct kp_error *error);

static int remove_entry(int parent, const char *name, bool maybe_folder, dev_t device, const char *path, int depth,
                        struct kp_error *error)
{
    if (unlinkat(parent, name, 0) == 0 || errno == ENOENT)
        return 0;
    if (!maybe_folder || (errno != EISDIR && errno != EPERM))
        return kp_fail_errno(error, "remove %s/%s", path, name);
    KP_AUTO_FREE char *full = kp_asprintf("%s/%s", path, name);
    if (depth >= TREE_DEPTH_MAX)
        return kp_fail(error, KP_ETOOLARGE, "remove %s: nested deeper than %d", full, TREE_DEPTH_MAX);
    KP_AUTO_CLOSE int fd = open_folder_here(parent, name, device);
    if (fd < 0 && errno == EXDEV)
        return kp_fail(error, KP_ECONFLICT, "remove %s: something is mounted on it", full);
    if (fd < 0)
        return errno == ENOENT ? 0 : kp_fail_errno(error, "open %s", full);
    int rc = remove_children(fd, device, full, depth + 1, error);
    if (rc < 0)
        return rc;
    if (unlinkat(parent, name, AT_REMOVEDIR) < 0 && errno != ENOENT)
        return kp_fail_errno(error, "remove %s", full);
    return 0;
}

static int remove_children(int fd, dev_t device, const char *path, int depth, struct kp_error *error)
{
    int copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    DIR *folder = copy >= 0 ? fdopendir(copy) : NULL;
    if (!folder) {
        int rc = kp_fail_errno(error, "read %s", path);
        kp_close_fd(&copy);
        return rc;
    }
    int rc = 0;
    for (;;) {
        errno = 0;
        const struct dirent *entry = readdir(folder);
        if (!entry) {
            if (errno)
                rc = kp_fail_errno(error, "read %s", path);
            break;
        }
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        bool maybe_folder = entry->d_type == DT_DIR || entry->d_type == DT_UNKNOWN;
        rc = remove_entry(fd, entry->d_name, maybe_folder, device, path, depth, error);
        if (rc < 0)
            break;
    }
    closedir(folder);
    return rc;
}

int kp_remove_tree(const char *path, struct kp_error *error)
{
    struct stat st;
    if (lstat(path, &st) < 0)
        return errno == ENOENT ? 0 : kp_fail_errno(error, "remove %s", path);
    if (!S_ISDIR(st.st_mode)) {
        if (unlink(path) < 0 && errno != ENOENT)
            return kp_fail_errno(error, "remove %s", path);
        return 0;
    }
    KP_AUTO_CLOSE int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return kp_fail_errno(error, "open %s", path);
    int rc = remove_children(fd, st.st_dev, path, 0, error);
    if (rc < 0)
        return rc;
    if (rmdir(path) < 0 && errno != ENOENT)
        return kp_fail_errno(error, "remove %s", path);
    return 0;
}
