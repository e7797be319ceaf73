/* The atomic writer: files in a time-stamped folder, "..data" pointing at it, visible names pointing through "..data". */
#include "nodeimage/kubelet/volumes/atomic_writer_internal.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define DATA_LINK "..data"
#define DATA_LINK_NEW "..data_tmp"
#define PATH_BYTES_MAX 4096

bool volumes_path_valid(const char *path)
{
    if (kp_empty(path) || path[0] == '/' || strlen(path) >= PATH_BYTES_MAX / 2)
        return false;
    if (kp_starts_with(path, ".."))
        return false;
    for (const char *s = path; s; s = strchr(s, '/')) {
        if (*s == '/')
            s++;
        size_t len = strcspn(s, "/");
        if (len == 2 && memcmp(s, "..", 2) == 0)
            return false;
    }
    return true;
}

static bool file_has(int data_fd, const struct volumes_file *file, int64_t gid)
{
    struct stat st;
    int fd = openat(data_fd, file->path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return false;
    bool same = fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && (st.st_mode & 07777) == file->mode &&
                (size_t)st.st_size == file->data.len && (gid < 0 || st.st_gid == (gid_t)gid) &&
                (file->uid < 0 || st.st_uid == (uid_t)file->uid);
    char block[8192];
    size_t done = 0;
    while (same && done < file->data.len) {
        ssize_t n = read(fd, block, sizeof(block));
        same = n > 0 && (size_t)n <= file->data.len - done && memcmp(block, file->data.data + done, (size_t)n) == 0;
        done += n > 0 ? (size_t)n : 0;
    }
    close(fd);
    return same;
}

/* Counts the regular files under an open folder; takes dir_fd over. */
static size_t count_files(int dir_fd, int depth)
{
    DIR *dir = dir_fd >= 0 ? fdopendir(dir_fd) : NULL;
    if (!dir)
        return 0;
    size_t count = 0;
    struct dirent *entry;
    while ((entry = readdir(dir)) != NULL) {
        if (kp_streq(entry->d_name, ".") || kp_streq(entry->d_name, ".."))
            continue;
        struct stat st;
        if (fstatat(dirfd(dir), entry->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
            continue;
        if (S_ISDIR(st.st_mode) && depth < 64)
            count += count_files(openat(dirfd(dir), entry->d_name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW), depth + 1);
        else
            count++;
    }
    closedir(dir);
    return count;
}

static bool up_to_date(int volume_fd, const struct volumes_files *files, int64_t gid)
{
    int data_fd = openat(volume_fd, DATA_LINK, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (data_fd < 0)
        return false;
    bool same = true;
    for (size_t i = 0; same && i < files->len; i++)
        same = file_has(data_fd, &files->items[i], gid);
    same = count_files(data_fd, 0) == files->len && same; /* closes data_fd */
    return same;
}

static int make_parents(int fd, const char *path, int64_t gid, struct kp_error *error)
{
    char part[PATH_BYTES_MAX];
    for (const char *slash = strchr(path, '/'); slash; slash = strchr(slash + 1, '/')) {
        snprintf(part, sizeof(part), "%.*s", (int)(slash - path), path);
        if (mkdirat(fd, part, 0755) < 0) {
            if (errno == EEXIST)
                continue;
            return kp_fail_errno(error, "create folder %s", part);
        }
        if (fchmodat(fd, part, gid >= 0 ? 02775 : 0755, 0) < 0)
            return kp_fail_errno(error, "set the mode of folder %s", part);
        if (gid >= 0 && fchownat(fd, part, (uid_t)-1, (gid_t)gid, 0) < 0)
            return kp_fail_errno(error, "set the group of folder %s", part);
    }
    return 0;
}

static int write_one(int dir_fd, const struct volumes_file *file, int64_t gid, struct kp_error *error)
{
    int rc = make_parents(dir_fd, file->path, gid, error);
    if (rc < 0)
        return rc;
    KP_AUTO_CLOSE int fd = openat(dir_fd, file->path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return kp_fail_errno(error, "create file %s", file->path);
    size_t done = 0;
    while (done < file->data.len) {
        ssize_t n = write(fd, file->data.data + done, file->data.len - done);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return kp_fail_errno(error, "write file %s", file->path);
        done += (size_t)n;
    }
    if ((gid >= 0 || file->uid >= 0) &&
        fchown(fd, file->uid >= 0 ? (uid_t)file->uid : (uid_t)-1, gid >= 0 ? (gid_t)gid : (gid_t)-1) < 0)
        return kp_fail_errno(error, "set the owner of file %s", file->path);
    if (fchmod(fd, file->mode) < 0)
        return kp_fail_errno(error, "set the mode of file %s", file->path);
    return 0;
}

static void stamp_name(char out[64])
{
    int64_t now = kp_now_ns();
    time_t seconds = (time_t)(now / 1000000000);
    struct tm tm;
    gmtime_r(&seconds, &tm);
    size_t len = strftime(out, 64, "..%Y_%m_%d_%H_%M_%S", &tm);
    snprintf(out + len, 64 - len, ".%09lld", (long long)(now % 1000000000));
}

/* Whether any wanted file lies at or under the visible name. */
static bool name_wanted(const struct volumes_files *files, const char *name)
{
    size_t len = strlen(name);
    for (size_t i = 0; i < files->len; i++) {
        const char *path = files->items[i].path;
        if (strncmp(path, name, len) == 0 && (path[len] == '\0' || path[len] == '/'))
            return true;
    }
    return false;
}

static int link_visible(int volume_fd, const struct volumes_files *files, struct kp_error *error)
{
    char name[PATH_BYTES_MAX], target[PATH_BYTES_MAX + 16];
    for (size_t i = 0; i < files->len; i++) {
        const char *path = files->items[i].path;
        snprintf(name, sizeof(name), "%.*s", (int)strcspn(path, "/"), path);
        snprintf(target, sizeof(target), DATA_LINK "/%s", name);
        if (symlinkat(target, volume_fd, name) < 0 && errno != EEXIST)
            return kp_fail_errno(error, "create link %s", name);
    }
    return 0;
}

/* Removes visible links that nothing wants any more and time-stamped folders other than the one in force. */
static int remove_stale(const char *dir, int volume_fd, const struct volumes_files *files, const char *current,
                        struct kp_error *error)
{
    int copy = openat(volume_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *listing = copy >= 0 ? fdopendir(copy) : NULL;
    if (!listing) {
        kp_close_fd(&copy);
        return kp_fail_errno(error, "list %s", dir);
    }
    int rc = 0;
    struct dirent *entry;
    while (rc == 0 && (entry = readdir(listing)) != NULL) {
        const char *name = entry->d_name;
        if (kp_streq(name, ".") || kp_streq(name, "..") || kp_streq(name, DATA_LINK) || kp_streq(name, current))
            continue;
        if (kp_starts_with(name, "..")) {
            char path[PATH_BYTES_MAX];
            snprintf(path, sizeof(path), "%s/%s", dir, name);
            rc = kp_remove_tree(path, error);
        } else if (!name_wanted(files, name) && unlinkat(volume_fd, name, 0) < 0 && errno != ENOENT && errno != EISDIR) {
            rc = kp_fail_errno(error, "remove stale link %s", name);
        }
    }
    closedir(listing);
    return rc;
}

static int write_new(const char *dir, int volume_fd, const struct volumes_files *files, int64_t gid, const char *stamp,
                     struct kp_error *error)
{
    if (mkdirat(volume_fd, stamp, 0755) < 0)
        return kp_fail_errno(error, "create %s/%s", dir, stamp);
    KP_AUTO_CLOSE int stamp_fd = openat(volume_fd, stamp, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (stamp_fd < 0)
        return kp_fail_errno(error, "open %s/%s", dir, stamp);
    /* The umask must not take bits away; owner and group come with fsGroup. */
    if (fchmod(stamp_fd, gid >= 0 ? 02775 : 0755) < 0 || (gid >= 0 && fchown(stamp_fd, (uid_t)-1, (gid_t)gid) < 0))
        return kp_fail_errno(error, "set owner and mode of %s/%s", dir, stamp);
    for (size_t i = 0; i < files->len; i++) {
        int rc = write_one(stamp_fd, &files->items[i], gid, error);
        if (rc < 0)
            return rc;
    }
    if (unlinkat(volume_fd, DATA_LINK_NEW, 0) < 0 && errno != ENOENT)
        return kp_fail_errno(error, "remove %s/" DATA_LINK_NEW, dir);
    if (symlinkat(stamp, volume_fd, DATA_LINK_NEW) < 0)
        return kp_fail_errno(error, "create %s/" DATA_LINK_NEW, dir);
    if (renameat(volume_fd, DATA_LINK_NEW, volume_fd, DATA_LINK) < 0)
        return kp_fail_errno(error, "swap %s/" DATA_LINK, dir);
    return link_visible(volume_fd, files, error);
}

int volumes_atomic_write(const char *dir, const struct volumes_files *files, int64_t gid, bool *ret_changed,
                         struct kp_error *error)
{
    if (ret_changed)
        *ret_changed = false;
    if (files->len > VOLUMES_FILES_MAX)
        return kp_fail(error, KP_ETOOLARGE, "volume %s has %zu files, more than %d", dir, files->len, VOLUMES_FILES_MAX);
    for (size_t i = 0; i < files->len; i++)
        if (!volumes_path_valid(files->items[i].path))
            return kp_fail(error, KP_EINVALID, "invalid path in volume: %s", files->items[i].path);
    KP_AUTO_CLOSE int volume_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (volume_fd < 0)
        return kp_fail_errno(error, "open volume %s", dir);
    if (up_to_date(volume_fd, files, gid))
        return 0;
    char stamp[64];
    stamp_name(stamp);
    int rc = write_new(dir, volume_fd, files, gid, stamp, error);
    if (rc < 0)
        return rc;
    if (ret_changed)
        *ret_changed = true;
    return remove_stale(dir, volume_fd, files, stamp, error);
}
