/* How much lies below a folder, as du counts it. */
#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "nodeimage/kubelet/kubelet_internal.h"

#define DEPTH_MAX 64 /* folders that are nested deeper are not counted: each level holds a descriptor */

/* Takes fd over. */
static void add_folder(int fd, dev_t device, int depth, struct kubelet_disk_usage *usage)
{
    DIR *dir = fdopendir(fd);
    struct dirent *entry;
    struct stat st;
    if (!dir) {
        close(fd);
        return;
    }
    while ((entry = readdir(dir)) != NULL) {
        if (kp_streq(entry->d_name, ".") || kp_streq(entry->d_name, "..") ||
            fstatat(fd, entry->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0 || st.st_dev != device)
            continue;
        /* A file of many names counts once for all of them together. */
        usage->bytes += (int64_t)st.st_blocks * 512 / (S_ISDIR(st.st_mode) || st.st_nlink == 0 ? 1 : (int64_t)st.st_nlink);
        usage->inodes++;
        int below = S_ISDIR(st.st_mode) && depth < DEPTH_MAX ? openat(fd, entry->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC) : -1;
        if (below >= 0)
            add_folder(below, device, depth + 1, usage);
    }
    closedir(dir);
}

void kubelet_disk_usage(const char *path, struct kubelet_disk_usage *usage)
{
    struct stat st;
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return;
    if (fstat(fd, &st) < 0) {
        close(fd);
        return;
    }
    add_folder(fd, st.st_dev, 0, usage);
}
