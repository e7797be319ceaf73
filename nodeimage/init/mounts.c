/* Mounts what the kernel and containers expect below "/", on a kernel of its own as well as inside namespaces. */
#include <errno.h>
#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "init_internal.h"

#define OVERLAYFS_MAGIC 0x794c7630
#define IMAGE_NAME "/usr/lib/kprov/image" /* of the node image */
#define STORE_IMAGE_NAME INIT_CONTAINERD_ROOT "/.kprov-image"

static bool is_mount_point(const char *path)
{
    char parent[256];
    struct stat self, up;
    snprintf(parent, sizeof(parent), "%s/..", path);
    return stat(path, &self) == 0 && stat(parent, &up) == 0 && (self.st_dev != up.st_dev || self.st_ino == up.st_ino);
}

static int mount_at(const char *type, const char *path, unsigned long flags, const char *data, struct kp_error *error)
{
    if (mkdir(path, 0755) < 0 && errno != EEXIST)
        return kp_fail_errno(error, "create %s", path);
    if (is_mount_point(path))
        return 0;
    if (mount(type, path, type, flags, data) < 0)
        return kp_fail_errno(error, "mount %s on %s", type, path);
    return 0;
}

/* A device tree of our own: inside namespaces the host's devices are none of the node's business. */
static int make_devices(struct kp_error *error)
{
    static const struct {
        const char *path;
        unsigned major, minor, mode;
    } nodes[] = {
        {"/dev/null", 1, 3, 0666}, {"/dev/zero", 1, 5, 0666},   {"/dev/full", 1, 7, 0666}, {"/dev/random", 1, 8, 0666},
        {"/dev/urandom", 1, 9, 0666}, {"/dev/tty", 5, 0, 0666}, {"/dev/kmsg", 1, 11, 0644}, {"/dev/fuse", 10, 229, 0666},
    };
    static const char *const links[][2] = {
        {"/proc/self/fd", "/dev/fd"},       {"/proc/self/fd/0", "/dev/stdin"}, {"/proc/self/fd/1", "/dev/stdout"},
        {"/proc/self/fd/2", "/dev/stderr"}, {"pts/ptmx", "/dev/ptmx"},
    };
    for (size_t i = 0; i < KP_ARRAY_LEN(nodes); i++) {
        if (mknod(nodes[i].path, S_IFCHR | nodes[i].mode, makedev(nodes[i].major, nodes[i].minor)) < 0 &&
            errno != EEXIST)
            return kp_fail_errno(error, "create %s", nodes[i].path);
        if (chmod(nodes[i].path, nodes[i].mode) < 0)
            return kp_fail_errno(error, "set the mode of %s", nodes[i].path);
    }
    for (size_t i = 0; i < KP_ARRAY_LEN(links); i++) {
        if (symlink(links[i][0], links[i][1]) < 0 && errno != EEXIST)
            return kp_fail_errno(error, "link %s", links[i][1]);
    }
    return 0;
}

size_t init_parse_cgroups(const char *text, char names[][64], size_t max)
{
    size_t count = 0;
    while (text && *text && count < max) {
        const char *end = strchrnul(text, '\n');
        const char *first = memchr(text, ':', (size_t)(end - text));
        const char *second = first ? memchr(first + 1, ':', (size_t)(end - first - 1)) : NULL;
        size_t len = second ? (size_t)(second - first - 1) : 0;
        if (len > 0 && len < 64) { /* the v2 line "0::/" has no controllers */
            memcpy(names[count], first + 1, len);
            names[count++][len] = 0;
        }
        text = *end ? end + 1 : end;
    }
    return count;
}

static int mount_cgroup_v1(const char *controllers, struct kp_error *error)
{
    char path[2100], options[2100];
    bool named = kp_starts_with(controllers, "name=");
    snprintf(path, sizeof(path), "/sys/fs/cgroup/%s", named ? controllers + 5 : controllers);
    snprintf(options, sizeof(options), "%s%s", named ? "none," : "", controllers);
    int r = mount_at("cgroup", path, MS_NOSUID | MS_NODEV | MS_NOEXEC, options, error);
    if (r < 0)
        return r;
    if (named || !strchr(controllers, ','))
        return 0;
    char words[2048];
    snprintf(words, sizeof(words), "%s", controllers);
    char *save = NULL;
    for (char *word = strtok_r(words, ",", &save); word; word = strtok_r(NULL, ",", &save)) {
        char link[2100];
        snprintf(link, sizeof(link), "/sys/fs/cgroup/%s", word);
        if (symlink(controllers, link) < 0 && errno != EEXIST)
            return kp_fail_errno(error, "link %s", link);
    }
    return 0;
}

/* In cgroup v2 a group with processes may not hand controllers to children, so PID 1 moves into one of its own. */
static int mount_cgroup_v2(struct kp_error *error)
{
    static const char *const enable = "+cpu +memory +pids +io +cpuset +hugetlb";
    int r = mount_at("cgroup2", "/sys/fs/cgroup", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL, error);
    if (r < 0)
        return r;
    if (mkdir("/sys/fs/cgroup/init", 0755) < 0 && errno != EEXIST)
        return kp_fail_errno(error, "create /sys/fs/cgroup/init");
    int fd = open("/sys/fs/cgroup/init/cgroup.procs", O_WRONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : write(fd, "0", 1);
    if (n < 0) {
        r = kp_fail_errno(error, "move init into /sys/fs/cgroup/init");
        kp_close_fd(&fd);
        return r;
    }
    kp_close_fd(&fd);
    /* One at a time: a controller that this kernel lacks must not take the others with it. */
    char words[64];
    snprintf(words, sizeof(words), "%s", enable);
    char *save = NULL;
    for (char *word = strtok_r(words, " ", &save); word; word = strtok_r(NULL, " ", &save)) {
        KP_AUTO_CLOSE int control = open("/sys/fs/cgroup/cgroup.subtree_control", O_WRONLY | O_CLOEXEC);
        if (control < 0)
            return kp_fail_errno(error, "open /sys/fs/cgroup/cgroup.subtree_control");
        if (write(control, word, strlen(word)) < 0)
            kp_warn("cgroup controller not available", "controller", word + 1, NULL);
    }
    return 0;
}

static int mount_cgroups(struct kp_error *error)
{
    KP_AUTO_BUF struct kp_buf text = {0};
    char names[INIT_CGROUPS_MAX][64];
    int r = kp_read_file("/proc/self/cgroup", 1 << 16, &text, error);
    if (r < 0)
        return r;
    size_t count = init_parse_cgroups(text.data, names, INIT_CGROUPS_MAX);
    if (count == 0)
        return mount_cgroup_v2(error);
    r = mount_at("tmpfs", "/sys/fs/cgroup", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=755", error);
    for (size_t i = 0; r == 0 && i < count; i++)
        r = mount_cgroup_v1(names[i], error);
    return r;
}

int init_mount_all(bool container, struct kp_error *error)
{
    int r = mount_at("proc", "/proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL, error);
    if (r == 0)
        r = mount_at("sysfs", "/sys", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL, error);
    if (r == 0)
        r = mount_at(container ? "tmpfs" : "devtmpfs", "/dev", MS_NOSUID, "mode=755", error);
    if (r == 0)
        r = make_devices(error);
    if (r == 0)
        r = mount_at("devpts", "/dev/pts", MS_NOSUID | MS_NOEXEC, "newinstance,ptmxmode=0666,mode=620,gid=5", error);
    if (r == 0)
        r = mount_at("tmpfs", "/dev/shm", MS_NOSUID | MS_NODEV, "mode=1777", error);
    if (r == 0)
        r = mount_at("mqueue", "/dev/mqueue", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL, error);
    if (r == 0)
        r = mount_at("tmpfs", "/run", MS_NOSUID | MS_NODEV, "mode=755", error);
    if (r == 0)
        r = mount_at("tmpfs", "/tmp", MS_NOSUID | MS_NODEV, "mode=1777", error);
    if (r == 0)
        r = mount_cgroups(error);
    /* Volumes that pods mount with propagation need a shared root (mount_namespaces(7)). */
    if (r == 0 && mount(NULL, "/", NULL, MS_REC | MS_SHARED, NULL) < 0)
        r = kp_fail_errno(error, "share the mounts below /");
    return r;
}

/* Written last, so that a copy that was cut short is made again. */
static bool store_is_of_this_image(void)
{
    KP_AUTO_BUF struct kp_buf own = {0}, stored = {0};
    if (kp_read_file(IMAGE_NAME, 256, &own, NULL) < 0) /* made before images had names */
        return kp_path_exists(INIT_CONTAINERD_ROOT "/io.containerd.metadata.v1.bolt");
    return kp_read_file(STORE_IMAGE_NAME, 256, &stored, NULL) == 0 && kp_streq(own.data, stored.data);
}

static int run_script(const char *script, struct kp_error *error)
{
    const char *const argv[] = {"sh", "-c", script, NULL};
    KP_AUTO_BUF struct kp_buf complaint = {0};
    int status = 0;
    int r = kp_run(argv, 60000, NULL, &complaint, &status, error);
    if (r == 0 && status != 0)
        r = kp_fail(error, KP_EIO, "the shell ended with %d: %s", status, complaint.data ? complaint.data : "");
    return r;
}

/* No container has outlived the reboot, and the addresses that they had are free: the plugin would keep them for good.
   Images that the node pulled itself are pulled again after a change of the node image. */
static int make_store(bool fixed, struct kp_error *error)
{
#define CLEAR "find " INIT_CONTAINERD_ROOT " -mindepth 1 -maxdepth 1 -exec rm -rf {} + && rm -rf /var/lib/cni"
#define NAME "{ [ ! -e " IMAGE_NAME " ] || cp " IMAGE_NAME " " STORE_IMAGE_NAME "; }"
    int r = run_script(fixed ? CLEAR : CLEAR " && cp -a " INIT_CONTAINERD_PRELOADED "/. " INIT_CONTAINERD_ROOT "/ && " NAME, error);
    if (r == 0 && fixed)
        r = init_link_preloaded(error);
    if (r == 0 && fixed)
        r = run_script(NAME, error);
    return r < 0 ? kp_wrap(error, "the preloaded images") : 0;
}

int init_prepare_containerd(struct kp_error *error)
{
    struct statfs fs;
    int r = kp_mkdir_p(INIT_CONTAINERD_ROOT, 0711, error);
    if (r < 0)
        return r;
    if (statfs(INIT_CONTAINERD_ROOT, &fs) < 0)
        return kp_fail_errno(error, "statfs %s", INIT_CONTAINERD_ROOT);
    /* Overlayfs does not go on overlayfs; on a disk of its own containerd keeps what it had. */
    if (fs.f_type == OVERLAYFS_MAGIC) {
        r = mount_at("tmpfs", INIT_CONTAINERD_ROOT, MS_NOSUID | MS_NODEV, "mode=711", error);
        if (r < 0)
            return r;
    }
    if (!kp_path_exists(INIT_CONTAINERD_PRELOADED))
        return 0;
    bool fixed = init_preloaded_is_fixed();
    r = store_is_of_this_image() ? 0 : make_store(fixed, error);
    return r == 0 && fixed ? init_mount_preloaded(error) : r;
}

void init_remove_stale(void)
{
    static const char *const uuid = INIT_CONTAINERD_ROOT "/io.containerd.grpc.v1.introspection/uuid";
    struct stat st;
    /* containerd writes it without fsync and refuses to start over an empty one. */
    if (stat(uuid, &st) == 0 && st.st_size == 0 && unlink(uuid) < 0)
        kp_warn("cannot remove containerd's empty uuid file", "path", uuid, NULL);
}
