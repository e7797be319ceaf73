/* containerd's preloaded store where it lies: on a machine whose image is a read-only file system of its own, the layers are
   mounted from there and the blobs are links to it, so that a boot copies the two databases and nothing else. */
#include <dirent.h>
#include <errno.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <unistd.h>

#include "init_internal.h"

#define EROFS_MAGIC 0xe0f5e1e2
#define BLOBS "/io.containerd.content.v1.content/blobs/sha256"
#define SNAPSHOTS "/io.containerd.snapshotter.v1.overlayfs/snapshots"
#define FILE_BYTES_MAX ((size_t)16 << 20) /* of a database */
#define DEPTH_MAX 6

bool init_preloaded_is_fixed(void)
{
    struct statfs fs;
    return statfs(INIT_CONTAINERD_PRELOADED, &fs) == 0 && (uint32_t)fs.f_type == EROFS_MAGIC;
}

static bool is_dots(const char *name)
{
    return kp_streq(name, ".") || kp_streq(name, "..");
}

static int copy_file(const char *from, const char *to, unsigned mode, struct kp_error *error)
{
    KP_AUTO_BUF struct kp_buf content = {0};
    int r = kp_read_file(from, FILE_BYTES_MAX, &content, error);
    return r < 0 ? r : kp_write_file(to, content.data ? content.data : "", content.len, mode, error);
}

/* `below` is the path in both stores: "" or "/..." */
static int link_tree(const char *below, int depth, struct kp_error *error)
{
    KP_AUTO_FREE char *from = kp_asprintf("%s%s", INIT_CONTAINERD_PRELOADED, below);
    KP_AUTO_FREE char *to = kp_asprintf("%s%s", INIT_CONTAINERD_ROOT, below);
    bool in_snapshot = kp_starts_with(below, SNAPSHOTS "/") && strchr(below + strlen(SNAPSHOTS "/"), '/');
    struct stat st;
    if (depth > DEPTH_MAX)
        return kp_fail(error, KP_ECORRUPT, "%s: folders deeper than containerd's", from);
    if (lstat(from, &st) < 0)
        return kp_fail_errno(error, "look at %s", from);
    if (S_ISREG(st.st_mode) && kp_starts_with(below, BLOBS "/"))
        return symlink(from, to) < 0 ? kp_fail_errno(error, "link %s", to) : 0;
    if (S_ISREG(st.st_mode))
        return copy_file(from, to, st.st_mode & 07777, error);
    if (!S_ISDIR(st.st_mode))
        return kp_fail(error, KP_ECORRUPT, "%s is neither file nor folder", from);
    if ((mkdir(to, st.st_mode & 07777) < 0 && errno != EEXIST) || chmod(to, st.st_mode & 07777) < 0)
        return kp_fail_errno(error, "create %s", to);
    if (in_snapshot) /* "fs" is mounted, "work" is empty */
        return 0;
    DIR *dir = opendir(from);
    if (!dir)
        return kp_fail_errno(error, "open %s", from);
    int r = 0;
    for (struct dirent *entry; r == 0 && (entry = readdir(dir));) {
        KP_AUTO_FREE char *child = is_dots(entry->d_name) ? NULL : kp_asprintf("%s/%s", below, entry->d_name);
        r = child ? link_tree(child, depth + 1, error) : 0;
    }
    closedir(dir);
    return r;
}

int init_link_preloaded(struct kp_error *error)
{
    return link_tree("", 0, error);
}

int init_mount_preloaded(struct kp_error *error)
{
    DIR *dir = opendir(INIT_CONTAINERD_PRELOADED SNAPSHOTS);
    if (!dir)
        return kp_fail_errno(error, "open " INIT_CONTAINERD_PRELOADED SNAPSHOTS);
    int r = 0;
    for (struct dirent *entry; r == 0 && (entry = readdir(dir));) {
        if (is_dots(entry->d_name))
            continue;
        KP_AUTO_FREE char *from = kp_asprintf("%s/%s/fs", INIT_CONTAINERD_PRELOADED SNAPSHOTS, entry->d_name);
        KP_AUTO_FREE char *to = kp_asprintf("%s/%s/fs", INIT_CONTAINERD_ROOT SNAPSHOTS, entry->d_name);
        /* One that containerd has collected since is missed by nobody. */
        if (mount(from, to, NULL, MS_BIND, NULL) < 0 && errno != ENOENT)
            r = kp_fail_errno(error, "mount %s on %s", from, to);
    }
    closedir(dir);
    return r;
}
