/* Power: starts a machine's init over the image, tells whether it runs, and stops it. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cloud/local/local_internal.h"

#define INIT_PATH "/usr/lib/kprov/bin/kprov-init"

void local_machine_dir(const struct local *local, const char *uid, const char *name, char out[PATH_MAX])
{
    snprintf(out, PATH_MAX, "%s/%s/machines/%s", local->state_dir, uid, name);
}

/* A PID alone may have been given to another process since; with the time it started it is unique. */
static bool process_start(pid_t pid, unsigned long long *ret_start)
{
    char path[64];
    KP_AUTO_BUF struct kp_buf text = {0};
    snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
    if (kp_read_file(path, 4096, &text, NULL) < 0 || !text.data)
        return false;
    const char *after = strrchr(text.data, ')'); /* the name before it may hold anything */
    char state = 0;
    if (!after || sscanf(after + 1,
                         " %c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %*d %*d %llu", &state,
                         ret_start) != 2)
        return false;
    return state != 'Z' && state != 'X';
}

pid_t local_machine_pid(const struct local *local, const char *uid, const char *name)
{
    char dir[PATH_MAX], path[PATH_MAX + 8];
    KP_AUTO_BUF struct kp_buf text = {0};
    int pid = 0;
    unsigned long long wanted = 0, start = 0;
    local_machine_dir(local, uid, name, dir);
    snprintf(path, sizeof(path), "%s/pid", dir);
    if (kp_read_file(path, 128, &text, NULL) < 0 || !text.data || sscanf(text.data, "%d %llu", &pid, &wanted) != 2)
        return 0;
    return pid > 1 && process_start(pid, &start) && start == wanted ? pid : 0;
}

/* The layers of an image, newest first, as overlayfs wants them. */
static int image_layers(const struct local *local, const char *image, char *out, size_t size, struct kp_error *error)
{
    char dir[PATH_MAX];
    snprintf(dir, sizeof(dir), "%s/%s", local->image_dir, image);
    if (kp_empty(image) || strchr(image, '/') || !kp_path_exists(dir))
        return kp_fail(error, KP_ENOTFOUND, "node image \"%s\" is not in %s: run kprov image build", image,
                       local->image_dir);
    if (strpbrk(dir, ":,\\"))
        return kp_fail(error, KP_EINVALID, "image folder %s: overlayfs takes no ':', ',' or '\\' in a path", dir);
    snprintf(out, size, "%s/rootfs:%s/base/rootfs", dir, dir);
    return 0;
}

int local_image_check(const struct local *local, const char *image, struct kp_error *error)
{
    char layers[2 * PATH_MAX + 32];
    return image_layers(local, image, layers, sizeof(layers), error);
}

static int prepare(const struct local *local, const char *dir, const struct local_meta *meta, struct local_spawn *spawn,
                   struct kp_error *error)
{
    /* Kept off the overlay: databases and pods' volumes want a plain file system. */
    static const char *const data[][2] = {
        {"etcd", "var/lib/etcd"}, {"kubelet", "var/lib/kubelet"}, {"log", "var/log"},
    };
    static const char *const folders[] = {"upper", "work", "root", "data/etcd", "data/kubelet", "data/log"};
    char layers[2 * PATH_MAX + 32], path[PATH_MAX + 32];
    const char *user_data = kp_streq(local_meta_get(meta, "user-data"), "") ? "user-data" : local_meta_get(meta, "user-data");
    int r = image_layers(local, local_meta_get(meta, "image"), layers, sizeof(layers), error);
    if (r == 0)
        r = local_root_settle(dir, error);
    for (size_t i = 0; r == 0 && i < KP_ARRAY_LEN(folders); i++) {
        snprintf(path, sizeof(path), "%s/%s", dir, folders[i]);
        r = kp_mkdir_p(path, i < 2 ? 0755 : kp_ends_with(path, "etcd") ? 0700 : 0755, error);
    }
    if (r < 0)
        return r;
    int n = snprintf(spawn->overlay_options, sizeof(spawn->overlay_options), "lowerdir=%s,upperdir=%s/upper,workdir=%s/work",
                     layers, dir, dir);
    if (n < 0 || (size_t)n >= sizeof(spawn->overlay_options) || strpbrk(dir, ":,\\"))
        return kp_fail(error, KP_EINVALID, "state folder %s is too long, or has ':', ',' or '\\'", dir);
    snprintf(spawn->root, sizeof(spawn->root), "%.*s/root", PATH_MAX - 32, dir);
    snprintf(spawn->console, sizeof(spawn->console), "%.*s/console.log", PATH_MAX - 32, dir);
    snprintf(spawn->user_data, sizeof(spawn->user_data), "%.*s/%.16s", PATH_MAX - 32, dir, user_data);
    for (size_t i = 0; i < KP_ARRAY_LEN(data); i++) {
        snprintf(spawn->binds[i].source, PATH_MAX, "%.*s/data/%s", PATH_MAX - 32, dir, data[i][0]);
        snprintf(spawn->binds[i].target, PATH_MAX, "%s", data[i][1]);
    }
    spawn->n_binds = KP_ARRAY_LEN(data);
    spawn->init = INIT_PATH;
    return 0;
}

static int write_pid(const char *dir, pid_t pid, struct kp_error *error)
{
    char path[PATH_MAX + 8], text[64];
    unsigned long long start = 0;
    if (!process_start(pid, &start))
        return kp_fail(error, KP_EINTERNAL, "process %d ended before it began", (int)pid);
    snprintf(path, sizeof(path), "%s/pid", dir);
    int len = snprintf(text, sizeof(text), "%d %llu\n", (int)pid, start);
    return kp_write_file(path, text, (size_t)len, 0644, error);
}

/* Empty report: init runs. */
static int read_report(int report, struct kp_error *error)
{
    char text[512];
    size_t len = 0;
    for (ssize_t n; len + 1 < sizeof(text) && (n = read(report, text + len, sizeof(text) - 1 - len)) != 0;) {
        if (n < 0 && errno != EINTR)
            return kp_fail_errno(error, "hear from the new machine");
        len += n > 0 ? (size_t)n : 0;
    }
    text[len] = 0;
    return len ? kp_fail(error, KP_EIO, "%s", text) : 0;
}

int local_machine_start(const struct local *local, const char *uid, const char *name, struct kp_error *error)
{
    char dir[PATH_MAX], path[PATH_MAX + 16];
    struct local_meta meta;
    struct local_cgroups cgroups;
    KP_AUTO_CLOSE int release = -1, report = -1;
    if (local_machine_pid(local, uid, name))
        return 0;
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    local_machine_dir(local, uid, name, dir);
    snprintf(path, sizeof(path), "%s/machine", dir);
    int r = local_meta_read(path, arena, &meta, error);
    if (r < 0)
        return r;
    struct local_spawn *spawn = KP_NEW(arena, struct local_spawn);
    r = prepare(local, dir, &meta, spawn, error);
    if (r == 0)
        r = local_cgroups_find(&cgroups, error);
    if (r == 0)
        r = local_cgroup_make(&cgroups, uid, name, error);
    pid_t pid = 0;
    if (r == 0)
        r = local_spawn(spawn, &pid, &release, &report, error);
    if (r < 0)
        return r;
    r = write_pid(dir, pid, error);
    if (r == 0)
        r = local_cgroup_enter(&cgroups, uid, name, pid, error);
    if (r == 0)
        r = local_network_attach(local, uid, local_meta_get(&meta, "address"), pid, error);
    if (r == 0 && write(release, "g", 1) != 1)
        r = kp_fail_errno(error, "release the new machine");
    if (r == 0)
        r = read_report(report, error);
    if (r < 0) {
        kill(pid, SIGKILL);
        waitpid(pid, NULL, 0);
    }
    return r;
}

static bool wait_gone(int pidfd, int64_t timeout_ms)
{
    struct pollfd poll_for = {.fd = pidfd, .events = POLLIN};
    int64_t deadline_ms = kp_mono_ms() + timeout_ms;
    for (;;) {
        int64_t left = deadline_ms - kp_mono_ms();
        int n = poll(&poll_for, 1, (int)KP_MAX(left, 0));
        if (n > 0)
            return true;
        if (left <= 0)
            return false;
    }
}

static int end_process(pid_t pid, int signum, struct kp_error *error)
{
    KP_AUTO_CLOSE int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
    if (pidfd < 0)
        return errno == ESRCH ? 0 : kp_fail_errno(error, "open process %d", (int)pid);
    if (signum != SIGKILL) {
        syscall(SYS_pidfd_send_signal, pidfd, signum, NULL, 0);
        if (wait_gone(pidfd, LOCAL_STOP_MS_MAX))
            return 0;
    }
    syscall(SYS_pidfd_send_signal, pidfd, SIGKILL, NULL, 0);
    if (!wait_gone(pidfd, LOCAL_KILL_MS_MAX))
        return kp_fail(error, KP_ETIMEOUT, "process %d does not end %d s after being killed", (int)pid,
                       LOCAL_KILL_MS_MAX / 1000);
    return 0;
}

int local_machine_stop(const struct local *local, const char *uid, const char *name, int signum,
                       struct kp_error *error)
{
    char dir[PATH_MAX], path[PATH_MAX + 16];
    struct local_meta meta = {0};
    struct local_cgroups cgroups;
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    local_machine_dir(local, uid, name, dir);
    pid_t pid = local_machine_pid(local, uid, name);
    int r = pid ? end_process(pid, signum, error) : 0;
    if (r < 0)
        return r;
    if (pid)
        waitpid(pid, NULL, WNOHANG); /* ours when this process started it: leave no zombie */
    r = local_cgroups_find(&cgroups, error);
    if (r == 0)
        r = local_cgroup_remove(&cgroups, uid, name, error);
    snprintf(path, sizeof(path), "%s/machine", dir);
    if (r == 0 && kp_path_exists(path))
        r = local_meta_read(path, arena, &meta, error);
    return r < 0 ? r : local_network_detach(local, uid, local_meta_get(&meta, "address"), error);
}
