/* The log's system calls on a real file system. */
#include "controlplane/etcd/wal/wal.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

static int result(int code) { return code < 0 ? -errno : code; }

static int posix_open(void *ctx, const char *path, int flags, unsigned mode)
{
    return result(open(path, flags | O_CLOEXEC, (mode_t)mode));
}

static int posix_close(void *ctx, int fd) { return result(close(fd)); }

static int64_t posix_size(void *ctx, int fd)
{
    struct stat st;
    return fstat(fd, &st) < 0 ? -errno : (int64_t)st.st_size;
}

static ssize_t posix_pread(void *ctx, int fd, void *data, size_t len, int64_t offset)
{
    ssize_t n;
    do
        n = pread(fd, data, len, (off_t)offset);
    while (n < 0 && errno == EINTR);
    return n < 0 ? -errno : n;
}

static ssize_t posix_pwrite(void *ctx, int fd, const void *data, size_t len, int64_t offset)
{
    ssize_t n;
    do
        n = pwrite(fd, data, len, (off_t)offset);
    while (n < 0 && errno == EINTR);
    return n < 0 ? -errno : n;
}

static int posix_fdatasync(void *ctx, int fd) { return result(fdatasync(fd)); }

static int posix_fallocate_(void *ctx, int fd, int64_t offset, int64_t len)
{
    int code;
    do
        code = fallocate(fd, 0, (off_t)offset, (off_t)len);
    while (code < 0 && errno == EINTR);
    if (code == 0)
        return 0;
    if (errno != EOPNOTSUPP)
        return -errno;
    /* tmpfs of old kernels, NFS: zeroes without blocks behind them still read as zeroes. */
    int64_t size = posix_size(ctx, fd);
    if (size < 0)
        return (int)size;
    return size >= offset + len ? 0 : result(ftruncate(fd, (off_t)(offset + len)));
}

static int posix_truncate(void *ctx, int fd, int64_t len) { return result(ftruncate(fd, (off_t)len)); }
static int posix_lock(void *ctx, int fd) { return result(flock(fd, LOCK_EX | LOCK_NB)); }
static int posix_rename(void *ctx, const char *from, const char *to) { return result(rename(from, to)); }
static int posix_unlink(void *ctx, const char *path) { return result(unlink(path)); }
static int posix_mkdir(void *ctx, const char *path, unsigned mode) { return result(mkdir(path, (mode_t)mode)); }

static int posix_sync_folder(void *ctx, const char *path)
{
    KP_AUTO_CLOSE int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    return result(fsync(fd));
}

static int posix_readdir(void *ctx, const char *path, int (*each)(void *arg, const char *name), void *arg)
{
    DIR *dir = opendir(path);
    if (!dir)
        return -errno;
    int code = 0;
    for (;;) {
        errno = 0;
        struct dirent *entry = readdir(dir);
        if (!entry) {
            code = -errno;
            break;
        }
        if (!kp_streq(entry->d_name, ".") && !kp_streq(entry->d_name, "..") && each(arg, entry->d_name) != 0)
            break;
    }
    closedir(dir);
    return code;
}

const struct wal_io wal_io_posix = {
    .open = posix_open,
    .close = posix_close,
    .size = posix_size,
    .pread = posix_pread,
    .pwrite = posix_pwrite,
    .fdatasync = posix_fdatasync,
    .fallocate = posix_fallocate_,
    .truncate = posix_truncate,
    .lock = posix_lock,
    .rename = posix_rename,
    .unlink = posix_unlink,
    .mkdir = posix_mkdir,
    .sync_folder = posix_sync_folder,
    .readdir = posix_readdir,
};
