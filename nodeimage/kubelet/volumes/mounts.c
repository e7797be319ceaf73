/* Mounting and unmounting by mount(2), and knowing what is mounted. */
#include "nodeimage/kubelet/volumes/mounts.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/stat.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

bool volumes_mounted(const char *path)
{
    struct statx stx;
    if (statx(AT_FDCWD, path, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT | AT_STATX_DONT_SYNC, 0, &stx) < 0)
        return errno != ENOENT && errno != ENOTDIR; /* a mount whose server is gone cannot even be looked at */
    return stx.stx_attributes & STATX_ATTR_MOUNT_ROOT;
}

/* The mount table writes blanks, tabs, newlines and backslashes as octal numbers. */
static void unescape(char *s)
{
    char *out = s;
    for (; *s; s++) {
        bool octal = s[0] == '\\' && s[1] >= '0' && s[1] <= '3' && s[2] >= '0' && s[2] <= '7' && s[3] >= '0' && s[3] <= '7';
        *out++ = octal ? (char)((s[1] - '0') * 64 + (s[2] - '0') * 8 + (s[3] - '0')) : *s;
        s += octal ? 3 : 0;
    }
    *out = '\0';
}

int volumes_unmount_below(const char *folder, struct kp_error *error)
{
    KP_AUTO_BUF struct kp_buf text = {0};
    int rc = kp_read_file("/proc/self/mounts", 0, &text, error);
    if (rc < 0)
        return rc;
    size_t folder_len = strlen(folder);
    /* The table lists mounts in the order they were made: from the end, nested ones come first. */
    while (text.len > 0) {
        text.data[text.len - 1] = '\0';
        char *line = strrchr(text.data, '\n');
        line = line ? line + 1 : text.data;
        char *path = strchr(line, ' ');
        size_t line_at = (size_t)(line - text.data);
        if (path) {
            path++;
            path[strcspn(path, " ")] = '\0';
            unescape(path);
            if (strncmp(path, folder, folder_len) == 0 && path[folder_len] == '/' && umount2(path, MNT_DETACH) < 0 &&
                errno != EINVAL && errno != ENOENT)
                return kp_fail_errno(error, "unmount %s", path);
        }
        text.len = line_at;
    }
    return 0;
}

int volumes_mount_flags(const struct kp_string_list *options, unsigned long *ret_flags, struct kp_error *error)
{
    static const struct {
        const char *option;
        unsigned long set, clear;
    } known[] = {{"ro", MS_RDONLY, 0},      {"rw", 0, MS_RDONLY},     {"nosuid", MS_NOSUID, 0},     {"suid", 0, MS_NOSUID},
                 {"nodev", MS_NODEV, 0},    {"dev", 0, MS_NODEV},     {"noexec", MS_NOEXEC, 0},     {"exec", 0, MS_NOEXEC},
                 {"noatime", MS_NOATIME, MS_RELATIME | MS_STRICTATIME},
                 {"relatime", MS_RELATIME, MS_NOATIME | MS_STRICTATIME},
                 {"strictatime", MS_STRICTATIME, MS_NOATIME | MS_RELATIME},
                 {"nodiratime", MS_NODIRATIME, 0}, {"diratime", 0, MS_NODIRATIME}, {"bind", 0, 0}, {"defaults", 0, 0}};
    unsigned long flags = 0;
    for (size_t i = 0; i < options->len; i++) {
        size_t k = 0;
        while (k < KP_ARRAY_LEN(known) && !kp_streq(known[k].option, options->items[i]))
            k++;
        if (k == KP_ARRAY_LEN(known))
            return kp_fail(error, KP_EINVALID, "mount option \"%s\" cannot be given to a folder of the node", options->items[i]);
        flags = (flags & ~known[k].clear) | known[k].set;
    }
    *ret_flags = flags;
    return 0;
}

int volumes_bind(const char *source, const char *target, unsigned long flags, struct kp_error *error)
{
    int rc = kp_mkdir_p(target, 0750, error);
    if (rc < 0 || volumes_mounted(target))
        return rc;
    if (mount(source, target, NULL, MS_BIND, NULL) < 0)
        return kp_fail_errno(error, "bind %s to %s", source, target);
    /* A bind mount takes its flags in a second step only. */
    if (flags != 0 && mount(NULL, target, NULL, MS_REMOUNT | MS_BIND | flags, NULL) < 0) {
        rc = kp_fail_errno(error, "set the mount options of %s", target);
        umount2(target, MNT_DETACH);
    }
    return rc;
}
