/* One cgroup a machine in every hierarchy: it bounds what belongs to the machine, even when all else about it is lost. */
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cloud/local/local_internal.h"

#define GROUP_PREFIX "kprov-"
#define REMOVE_MS_MAX 5000
#define REMOVE_DEPTH_MAX 64

void local_cgroups_parse(const char *mounts, struct local_cgroups *ret)
{
    char v2[128] = "";
    memset(ret, 0, sizeof(*ret));
    while (mounts && *mounts) {
        char source[256], path[128], type[64];
        if (sscanf(mounts, "%255s %127s %63s", source, path, type) == 3) {
            if (kp_streq(type, "cgroup") && ret->len < LOCAL_CGROUPS_MAX)
                snprintf(ret->paths[ret->len++], sizeof(ret->paths[0]), "%s", path);
            else if (kp_streq(type, "cgroup2") && !*v2)
                snprintf(v2, sizeof(v2), "%s", path);
        }
        const char *end = strchr(mounts, '\n');
        mounts = end ? end + 1 : NULL;
    }
    if (ret->len == 0 && *v2) {
        memcpy(ret->paths[ret->len++], v2, sizeof(v2));
        ret->v2 = true;
    }
}

int local_cgroups_find(struct local_cgroups *ret, struct kp_error *error)
{
    KP_AUTO_BUF struct kp_buf text = {0};
    int r = kp_read_file("/proc/self/mounts", 4 << 20, &text, error);
    if (r < 0)
        return r;
    local_cgroups_parse(text.data, ret);
    if (ret->len == 0)
        return kp_fail(error, KP_EUNAVAILABLE, "no cgroup hierarchy is mounted on this host: mount cgroup2 on /sys/fs/cgroup");
    return 0;
}

static int write_text(const char *path, const char *text)
{
    KP_AUTO_CLOSE int fd = open(path, O_WRONLY | O_CLOEXEC);
    return fd < 0 || write(fd, text, strlen(text)) < 0 ? -1 : 0;
}

/* A v1 cpuset group is unusable until it is told its processors and memory nodes. */
static int fill_cpuset(const char *parent, const char *group, struct kp_error *error)
{
    static const char *const files[] = {"cpuset.cpus", "cpuset.mems"};
    for (size_t i = 0; i < KP_ARRAY_LEN(files); i++) {
        char path[PATH_MAX];
        KP_AUTO_BUF struct kp_buf text = {0};
        snprintf(path, sizeof(path), "%s/%s", parent, files[i]);
        if (!kp_path_exists(path))
            continue;
        int r = kp_read_file(path, 4096, &text, error);
        if (r < 0)
            return r;
        snprintf(path, sizeof(path), "%s/%s", group, files[i]);
        if (write_text(path, text.data) < 0)
            return kp_fail_errno(error, "write %s", path);
    }
    return 0;
}

/* A controller that the parent does not have cannot be handed on: the machine then goes without it. */
static void enable_controllers(const char *group)
{
    static const char *const controllers[] = {"+cpu", "+memory", "+pids", "+io", "+cpuset"};
    char path[PATH_MAX];
    snprintf(path, sizeof(path), "%s/cgroup.subtree_control", group);
    for (size_t i = 0; i < KP_ARRAY_LEN(controllers); i++) {
        if (write_text(path, controllers[i]) < 0)
            kp_debug("cgroup controller not available", "group", group, "controller", controllers[i], NULL);
    }
}

int local_cgroup_make(const struct local_cgroups *cgroups, const char *uid, const char *name, struct kp_error *error)
{
    for (size_t i = 0; i < cgroups->len; i++) {
        char cluster[PATH_MAX / 2], group[PATH_MAX];
        snprintf(cluster, sizeof(cluster), "%s/" GROUP_PREFIX "%s", cgroups->paths[i], uid);
        snprintf(group, sizeof(group), "%s/%s", cluster, name);
        if (cgroups->v2)
            enable_controllers(cgroups->paths[i]);
        if (mkdir(cluster, 0755) < 0 && errno != EEXIST)
            return kp_fail_errno(error, "create the cgroup %s", cluster);
        if (cgroups->v2)
            enable_controllers(cluster);
        int r = fill_cpuset(cgroups->paths[i], cluster, error);
        if (r < 0)
            return r;
        if (mkdir(group, 0755) < 0 && errno != EEXIST)
            return kp_fail_errno(error, "create the cgroup %s", group);
        r = fill_cpuset(cluster, group, error);
        if (r < 0)
            return r;
    }
    return 0;
}

int local_cgroup_enter(const struct local_cgroups *cgroups, const char *uid, const char *name, pid_t pid,
                       struct kp_error *error)
{
    for (size_t i = 0; i < cgroups->len; i++) {
        char path[PATH_MAX], text[24];
        /* In v2 a group with children may hold no process: what joins later goes beside init. */
        snprintf(path, sizeof(path), "%s/" GROUP_PREFIX "%s/%s/init/cgroup.procs", cgroups->paths[i], uid, name);
        if (!cgroups->v2 || !kp_path_exists(path))
            snprintf(path, sizeof(path), "%s/" GROUP_PREFIX "%s/%s/cgroup.procs", cgroups->paths[i], uid, name);
        snprintf(text, sizeof(text), "%d", (int)pid);
        if (write_text(path, text) < 0)
            return kp_fail_errno(error, "move process %d into %s", (int)pid, path);
    }
    return 0;
}

static int kill_group(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
    if (flag != FTW_DP)
        return 0;
    char procs[PATH_MAX];
    snprintf(procs, sizeof(procs), "%s/cgroup.procs", path);
    FILE *file = fopen(procs, "re");
    if (!file)
        return 0;
    for (int pid; fscanf(file, "%d", &pid) == 1;) {
        if (pid > 1)
            kill(pid, SIGKILL);
    }
    fclose(file);
    return 0;
}

static int remove_group(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
    if (flag == FTW_DP && rmdir(path) < 0 && errno != ENOENT)
        return errno == EBUSY ? 1 : -1;
    return 0;
}

static int remove_tree(const char *path, struct kp_error *error)
{
    int64_t deadline_ms = kp_mono_ms() + REMOVE_MS_MAX;
    int64_t pause_ms = 1;
    while (kp_path_exists(path)) {
        if (nftw(path, remove_group, REMOVE_DEPTH_MAX, FTW_PHYS | FTW_DEPTH) == 0 && !kp_path_exists(path))
            return 0;
        if (kp_mono_ms() > deadline_ms)
            return kp_fail_errno(error, "remove the cgroup %s", path);
        nftw(path, kill_group, REMOVE_DEPTH_MAX, FTW_PHYS | FTW_DEPTH);
        kp_sleep_ms(pause_ms);
        pause_ms = KP_MIN(pause_ms * 2, 50);
    }
    return 0;
}

int local_cgroup_remove(const struct local_cgroups *cgroups, const char *uid, const char *name, struct kp_error *error)
{
    for (size_t i = 0; i < cgroups->len; i++) {
        char cluster[PATH_MAX / 2], path[PATH_MAX];
        snprintf(cluster, sizeof(cluster), "%s/" GROUP_PREFIX "%s", cgroups->paths[i], uid);
        snprintf(path, sizeof(path), "%s%s%s", cluster, name ? "/" : "", name ? name : "");
        int r = remove_tree(path, error);
        if (r < 0)
            return r;
        if (name && rmdir(cluster) < 0 && errno != ENOENT && errno != EBUSY && errno != ENOTEMPTY)
            return kp_fail_errno(error, "remove the cgroup %s", cluster);
    }
    return 0;
}

void local_cgroup_owned(const struct local_cgroups *cgroups, const char *uid, struct kp_strings *ret)
{
    for (size_t i = 0; i < cgroups->len; i++) {
        char line[PATH_MAX];
        snprintf(line, sizeof(line), "cgroup %s/" GROUP_PREFIX "%s", cgroups->paths[i], uid);
        if (kp_path_exists(line + strlen("cgroup ")))
            kp_strings_add(ret, line);
    }
}

void local_cgroup_clusters(const struct local_cgroups *cgroups, struct kp_strings *ret_uids)
{
    for (size_t i = 0; i < cgroups->len; i++) {
        struct kp_strings names = {0};
        if (local_list_dir(cgroups->paths[i], &names, NULL) == 0) {
            for (size_t j = 0; j < names.len; j++) {
                if (kp_starts_with(names.items[j], GROUP_PREFIX))
                    kp_strings_add(ret_uids, names.items[j] + strlen(GROUP_PREFIX));
            }
        }
        kp_strings_done(&names);
    }
}
