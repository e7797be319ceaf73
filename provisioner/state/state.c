/* Cluster state on disk: whole files, one lock a cluster, intents before deeds. */
#include "provisioner/state/state.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

/* A child of a killed kprov, about to end or to run something else, may hold the lock a moment longer. */
#define LOCK_WAIT_MS 1000

struct state {
    char dir[PATH_MAX - 64];
    char name[CONFIG_NAME_MAX + 1];
    int lock_fd;
};

static const char *const phase_names[] = {"creating", "ready", "deleting"};
static const bool successors[3][3] = {
    [STATE_CREATING] = {true, true, true},
    [STATE_READY] = {false, true, true},
    [STATE_DELETING] = {false, false, true},
};

const char *state_phase_name(enum state_phase phase)
{
    return phase_names[phase];
}

bool state_phase_may_follow(enum state_phase from, enum state_phase to)
{
    return successors[from][to];
}

int state_root(struct kp_arena *arena, const char **ret_root, struct kp_error *error)
{
    const char *own = getenv("KPROV_STATE_DIR"), *xdg = getenv("XDG_STATE_HOME"), *home = getenv("HOME");
    if (!kp_empty(own))
        *ret_root = kp_arena_strdup(arena, own);
    else if (!kp_empty(xdg))
        *ret_root = kp_arena_printf(arena, "%s/kprov", xdg);
    else if (!kp_empty(home))
        *ret_root = kp_arena_printf(arena, "%s/.local/state/kprov", home);
    else
        return kp_fail(error, KP_EINVALID, "neither XDG_STATE_HOME nor HOME is set: where shall the cluster's state go?");
    return 0;
}

static int cluster_dir(const char *name, char out[PATH_MAX - 64], struct kp_error *error)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    const char *root = NULL;
    int r = state_root(arena, &root, error);
    if (r < 0)
        return r;
    if (kp_empty(name) || strlen(name) > CONFIG_NAME_MAX || strchr(name, '/') || name[0] == '.')
        return kp_fail(error, KP_EINVALID, "\"%s\" is no name of a cluster", name ? name : "");
    if (snprintf(out, PATH_MAX - 64, "%s/%s", root, name) >= PATH_MAX - 64)
        return kp_fail(error, KP_EINVALID, "the state folder's path is too long: %s", root);
    return 0;
}

static int take_lock(struct state *state, struct kp_error *error)
{
    char path[PATH_MAX], holder[32] = "";
    snprintf(path, sizeof(path), "%s/lock", state->dir);
    state->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (state->lock_fd < 0)
        return kp_fail_errno(error, "open %s", path);
    int64_t deadline_ms = kp_mono_ms() + LOCK_WAIT_MS;
    while (flock(state->lock_fd, LOCK_EX | LOCK_NB) < 0) {
        if (errno != EWOULDBLOCK)
            return kp_fail_errno(error, "lock %s", path);
        if (kp_mono_ms() < deadline_ms) {
            kp_sleep_ms(10);
            continue;
        }
        ssize_t n = pread(state->lock_fd, holder, sizeof(holder) - 1, 0);
        return kp_fail(error, KP_ECONFLICT, "cluster %s is being changed by process %.*s: wait for it", state->name,
                       n > 0 ? (int)strcspn(holder, "\n") : 0, holder);
    }
    int len = snprintf(holder, sizeof(holder), "%d\n", (int)getpid());
    if (ftruncate(state->lock_fd, 0) < 0 || pwrite(state->lock_fd, holder, (size_t)len, 0) != len)
        return kp_fail_errno(error, "write %s", path);
    return 0;
}

int state_open(const char *name, bool create, struct state **ret_state, struct kp_error *error)
{
    KP_AUTO(state_close) struct state *state = kp_calloc(1, sizeof(*state));
    state->lock_fd = -1;
    int r = cluster_dir(name, state->dir, error);
    if (r < 0)
        return r;
    memcpy(state->name, name, strlen(name));
    if (!create && !kp_path_exists(state->dir))
        return kp_fail(error, KP_ENOTFOUND, "cluster \"%s\" does not exist: see kprov get clusters", name);
    r = kp_mkdir_p(state->dir, 0700, error);
    if (r == 0)
        r = take_lock(state, error);
    if (r < 0)
        return r;
    *ret_state = KP_TAKE(state);
    return 0;
}

void state_close(struct state *state)
{
    if (!state)
        return;
    kp_close_fd(&state->lock_fd);
    free(state);
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

int state_list(struct kp_strings *ret_names, struct kp_error *error)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    const char *root = NULL;
    int r = state_root(arena, &root, error);
    if (r < 0)
        return r;
    DIR *dir = opendir(root);
    if (!dir)
        return errno == ENOENT ? 0 : kp_fail_errno(error, "list %s", root);
    for (struct dirent *entry; (entry = readdir(dir));) {
        if (entry->d_name[0] != '.' && kp_path_exists(kp_arena_printf(arena, "%s/%s/cluster.json", root, entry->d_name)))
            kp_strings_add(ret_names, entry->d_name);
    }
    closedir(dir);
    if (ret_names->len > 1)
        qsort(ret_names->items, ret_names->len, sizeof(*ret_names->items), compare_names);
    return 0;
}

int state_read_file(const char *cluster, const char *file, struct kp_buf *out, struct kp_error *error)
{
    char dir[PATH_MAX - 64], path[PATH_MAX];
    int r = cluster_dir(cluster, dir, error);
    if (r < 0)
        return r;
    snprintf(path, sizeof(path), "%s/%s", dir, file);
    return kp_read_file(path, STATE_FILE_MAX, out, error);
}

int state_write_file(struct state *state, const char *file, const void *data, size_t len, struct kp_error *error)
{
    char path[PATH_MAX];
    snprintf(path, sizeof(path), "%s/%s", state->dir, file);
    return kp_write_file(path, data, len, 0600, error);
}

static int parse_cluster(const char *text, size_t len, struct kp_arena *arena, struct state_cluster *ret,
                         struct kp_error *error)
{
    struct kp_value *root = NULL;
    KP_AUTO_BUF struct kp_buf config = {0};
    int r = kp_value_parse(text, len, arena, NULL, &root, error);
    if (r < 0)
        return r;
    const char *phase = kp_value_str(kp_value_get(root, "phase"));
    const struct kp_value *created = kp_value_get(root, "created");
    size_t i = 0;
    while (i < KP_ARRAY_LEN(phase_names) && !kp_streq(phase_names[i], phase))
        i++;
    ret->uid = kp_value_str(kp_value_get(root, "uid"));
    ret->image = kp_value_str(kp_value_get(root, "image"));
    ret->endpoint = kp_value_str(kp_value_get(root, "endpoint"));
    ret->created_s = created && created->kind == KP_VALUE_INT ? created->integer : 0;
    if (i == KP_ARRAY_LEN(phase_names) || !ret->uid || !ret->image || !ret->endpoint || !kp_value_get(root, "config"))
        return kp_fail(error, KP_ECORRUPT, "a field is missing");
    ret->phase = (enum state_phase)i;
    kp_value_print(kp_value_get(root, "config"), &config);
    r = config_parse(config.data, config.len, "config", arena, &ret->config, error);
    ret->name = ret->config.name;
    return r;
}

int state_read(const char *name, struct kp_arena *arena, struct state_cluster *ret, struct kp_error *error)
{
    KP_AUTO_BUF struct kp_buf text = {0};
    int r = state_read_file(name, "cluster.json", &text, error);
    if (r == KP_ENOTFOUND)
        return kp_fail(error, KP_ENOTFOUND, "cluster \"%s\" does not exist: see kprov get clusters", name);
    if (r == 0)
        r = parse_cluster(text.data ? text.data : "", text.len, arena, ret, error);
    return r < 0 ? kp_wrap(error, "state of cluster %s", name) : 0;
}

int state_write(struct state *state, const struct state_cluster *cluster, struct kp_error *error)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    KP_AUTO_BUF struct kp_buf text = {0};
    struct state_cluster before;
    int r = state_read(state->name, arena, &before, error);
    if (r < 0 && r != KP_ENOTFOUND)
        return r;
    if (r == 0 && !state_phase_may_follow(before.phase, cluster->phase))
        return kp_fail(error, KP_ECONFLICT, "cluster %s is %s and cannot become %s", state->name,
                       state_phase_name(before.phase), state_phase_name(cluster->phase));
    struct kp_value *root = kp_value_object(arena);
    kp_value_set(arena, root, "uid", kp_value_string(arena, cluster->uid));
    kp_value_set(arena, root, "phase", kp_value_string(arena, state_phase_name(cluster->phase)));
    kp_value_set(arena, root, "image", kp_value_string(arena, cluster->image));
    kp_value_set(arena, root, "endpoint", kp_value_string(arena, cluster->endpoint));
    kp_value_set(arena, root, "created", kp_value_int(arena, cluster->created_s));
    kp_value_set(arena, root, "config", config_to_value(&cluster->config, arena));
    kp_value_print_pretty(root, 2, &text);
    kp_buf_putc(&text, '\n');
    return state_write_file(state, "cluster.json", text.data, text.len, error);
}

int state_journal(struct state *state, const char *intent, const char *object, struct kp_error *error)
{
    char path[PATH_MAX], now[KP_RFC3339_MAX];
    KP_AUTO_BUF struct kp_buf line = {0};
    snprintf(path, sizeof(path), "%s/journal", state->dir);
    kp_format_rfc3339(now, kp_now_s(), 0, false);
    kp_buf_printf(&line, "%s %s %s\n", now, intent, object);
    KP_AUTO_CLOSE int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (fd < 0)
        return kp_fail_errno(error, "open %s", path);
    if (write(fd, line.data, line.len) != (ssize_t)line.len || fdatasync(fd) < 0)
        return kp_fail_errno(error, "write %s", path);
    return 0;
}

int state_remove(struct state *state, struct kp_error *error)
{
    return kp_remove_tree(state->dir, error);
}
