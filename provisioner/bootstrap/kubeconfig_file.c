/* A user's kubeconfig file under kubectl's lock: taken, replaced whole, given back, whoever is killed in between. */
#include "provisioner/bootstrap/kubeconfig_file.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define LOCK_WAIT_MS 5000
#define LOCK_REST_MS 20
#define MARK "kprov\n" /* what a lock of ours holds; kubectl's is empty */

/* The lock is flocked and marked before it has its name, so that nobody ever finds one of ours that looks abandoned.
   Gives -1 with errno. Where the file system has no files without a name (NFS), it gets its name first: a kprov that is
   killed before it wrote the mark leaves a lock there that the user has to remove. */
static int make_lock(const char *lock)
{
    char proc[64], *folder = kp_strdup(lock), *slash = strrchr(folder, '/');
    if (slash)
        slash[slash == folder] = '\0';
    int fd = open(slash ? folder : ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    bool named = fd < 0 && (errno == EOPNOTSUPP || errno == EISDIR);
    free(folder);
    if (named)
        fd = open(lock, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0)
        return -1;
    snprintf(proc, sizeof(proc), "/proc/self/fd/%d", fd);
    if (flock(fd, LOCK_EX | LOCK_NB) == 0 && write(fd, MARK, strlen(MARK)) == (ssize_t)strlen(MARK) &&
        (named || linkat(AT_FDCWD, proc, AT_FDCWD, lock, AT_SYMLINK_FOLLOW) == 0))
        return fd;
    int number = errno;
    if (named)
        unlink(lock);
    close(fd);
    errno = number;
    return -1;
}

/* Takes the lock of a kprov that is no more away, and what it was writing. Holding the flock, and the name still leading to
   the file that is held, nobody else can be doing the same. */
static void remove_abandoned(const struct kubeconfig_file *file)
{
    char mark[sizeof(MARK)] = {0};
    struct stat held, there;
    KP_AUTO_CLOSE int fd = open(file->lock, O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0 || read(fd, mark, sizeof(mark)) != (ssize_t)strlen(MARK) || !kp_streq(mark, MARK) ||
        flock(fd, LOCK_EX | LOCK_NB) < 0)
        return;
    if (fstat(fd, &held) < 0 || lstat(file->lock, &there) < 0 || held.st_dev != there.st_dev || held.st_ino != there.st_ino)
        return;
    unlink(file->unready);
    unlink(file->lock);
}

static int name_files(struct kubeconfig_file *file, const char *path, struct kp_error *error)
{
    KP_AUTO_FREE char *real = realpath(path, NULL);
    const char *leads_to = real ? real : path;
    if ((size_t)snprintf(file->path, sizeof(file->path), "%s", leads_to) >= sizeof(file->path) ||
        (size_t)snprintf(file->lock, sizeof(file->lock), "%s.lock", path) >= sizeof(file->lock) ||
        (size_t)snprintf(file->unready, sizeof(file->unready), "%s.kprov", leads_to) >= sizeof(file->unready))
        return kp_fail(error, KP_EINVALID, "the path %s is too long", path);
    return 0;
}

void kubeconfig_file_mend(const char *path)
{
    struct kubeconfig_file file;
    if (name_files(&file, path, NULL) == 0)
        remove_abandoned(&file);
}

int kubeconfig_file_lock(struct kubeconfig_file *file, const char *path, struct kp_error *error)
{
    int64_t deadline_ms = kp_mono_ms() + LOCK_WAIT_MS;
    int r = name_files(file, path, error);
    if (r < 0)
        return r;
    for (;;) {
        file->fd = make_lock(file->lock);
        if (file->fd >= 0)
            break;
        if (errno != EEXIST)
            return kp_fail_errno(error, "create %s", file->lock);
        remove_abandoned(file);
        if (kp_mono_ms() > deadline_ms)
            return kp_fail(error, KP_ECONFLICT,
                           "%s is locked by kubectl or another program: remove %s if none is writing it", path, file->lock);
        kp_sleep_ms(LOCK_REST_MS);
    }
    return 0;
}

static int write_unready(const char *path, int fd, const char *text, size_t len, const struct stat *before,
                         struct kp_error *error)
{
    int r = kp_write_all(fd, text, len, path, error);
    if (r < 0)
        return r;
    if (before && fchown(fd, before->st_uid, before->st_gid) < 0 && errno != EPERM)
        return kp_fail_errno(error, "chown %s", path);
    if (fchmod(fd, before ? before->st_mode & 0777 : 0600) < 0)
        return kp_fail_errno(error, "chmod %s", path);
    if (fsync(fd) < 0)
        return kp_fail_errno(error, "fsync %s", path);
    return 0;
}

int kubeconfig_file_replace(struct kubeconfig_file *file, const char *text, size_t len, struct kp_error *error)
{
    struct stat before;
    bool there = stat(file->path, &before) == 0;
    unlink(file->unready); /* left by one that was killed where the lock could not tell */
    KP_AUTO_CLOSE int fd = open(file->unready, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0)
        return kp_fail_errno(error, "create %s", file->unready);
    int r = write_unready(file->unready, fd, text, len, there ? &before : NULL, error);
    if (r == 0 && rename(file->unready, file->path) < 0)
        r = kp_fail_errno(error, "rename %s to %s", file->unready, file->path);
    if (r < 0)
        unlink(file->unready);
    return r;
}

void kubeconfig_file_unlock(struct kubeconfig_file *file)
{
    unlink(file->lock);
    close(file->fd);
}
