/* Cluster state on disk: whole files, one lock a cluster, intents before deeds. */
#include <dirent.h>
#include <errno.h>
#include <unistd.h>

#include "provisioner/state/state_internal.h"

static const char *const phase_names[] = {"creating", "ready", "deleting"};
static const char *const rollout_names[] = {"", "upgrade", "rollback"};
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

int state_dir_of(const char *name, char out[STATE_DIR_MAX], struct kp_error *error)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    const char *root = NULL;
    int r = state_root(arena, &root, error);
    if (r < 0)
        return r;
    if (kp_empty(name) || strlen(name) > CONFIG_NAME_MAX || strchr(name, '/') || name[0] == '.')
        return kp_fail(error, KP_EINVALID, "\"%s\" is no name of a cluster", name ? name : "");
    if (snprintf(out, STATE_DIR_MAX, "%s/%s", root, name) >= STATE_DIR_MAX)
        return kp_fail(error, KP_EINVALID, "the state folder's path is too long: %s", root);
    return 0;
}

/* Whether it is a file of ours that a killed kprov had not yet put into its place: "cluster.json.Ab12Cd" (kp_write_file). One that
   is all small letters may be somebody's "cluster.json.backup". */
static bool is_leftover(const char *name)
{
    static const char *const ours[] = {".json", "admin.conf", "kubeconfig-path", "restored-revision"}; /* ends */
    const char *dot = strrchr(name, '.');
    if (!dot || strlen(dot) != 7 || !strpbrk(dot, "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"))
        return false;
    KP_AUTO_FREE char *stem = kp_strndup(name, (size_t)(dot - name));
    for (size_t i = 0; i < KP_ARRAY_LEN(ours); i++)
        if (kp_ends_with(stem, ours[i]))
            return true;
    return false;
}

static int remove_leftovers(const struct state *state, struct kp_error *error)
{
    char path[PATH_MAX + 256];
    int r = 0;
    DIR *dir = opendir(state->dir);
    if (!dir)
        return kp_fail_errno(error, "list %s", state->dir);
    for (struct dirent *entry; r == 0 && (entry = readdir(dir));) {
        snprintf(path, sizeof(path), "%s/%s", state->dir, entry->d_name);
        if (is_leftover(entry->d_name) && unlink(path) < 0 && errno != ENOENT)
            r = kp_fail_errno(error, "remove %s", path);
    }
    closedir(dir);
    return r;
}

int state_open(const char *name, bool create, struct state **ret_state, struct kp_error *error)
{
    KP_AUTO(state_close) struct state *state = kp_calloc(1, sizeof(*state));
    state->lock_fd = -1;
    pthread_mutex_init(&state->journal, NULL);
    int r = state_dir_of(name, state->dir, error);
    if (r < 0)
        return r;
    memcpy(state->name, name, strlen(name));
    do {
        if (!create && !kp_path_exists(state->dir))
            return kp_fail(error, KP_ENOTFOUND, "cluster \"%s\" does not exist: see kprov get clusters", name);
        r = create ? kp_mkdir_p(state->dir, 0700, error) : 0;
        if (r == 0)
            r = state_lock(state, error);
    } while (r == KP_EAGAIN);
    if (r == 0)
        r = remove_leftovers(state, error);
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
    pthread_mutex_destroy(&state->journal);
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
    char dir[STATE_DIR_MAX], path[PATH_MAX];
    int r = state_dir_of(cluster, dir, error);
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

void state_add_release(struct state_cluster *cluster, const char *image, const char *version)
{
    if (cluster->n_history == STATE_RELEASES_MAX)
        memmove(cluster->history, cluster->history + 1, --cluster->n_history * sizeof(cluster->history[0]));
    cluster->history[cluster->n_history++] = (struct state_release){image, version};
}

/* Neither field is in what a kprov without upgrades wrote. */
static int parse_rollout(const struct kp_value *root, struct state_cluster *ret, struct kp_error *error)
{
    const struct kp_value *history = kp_value_get(root, "history");
    const char *rollout = kp_value_str(kp_value_get(root, "rollout"));
    ret->n_history = 0;
    ret->rollout = STATE_ROLLOUT_IDLE;
    for (size_t i = 0; rollout && i < KP_ARRAY_LEN(rollout_names); i++)
        if (kp_streq(rollout, rollout_names[i]))
            ret->rollout = (enum state_rollout)i;
    if (!kp_streq(rollout ? rollout : "", rollout_names[ret->rollout]))
        return kp_fail(error, KP_ECORRUPT, "rollout is \"%s\"", rollout);
    for (size_t i = 0; history && history->kind == KP_VALUE_ARRAY && i < history->array.len; i++) {
        const char *image = kp_value_str(kp_value_get(history->array.items[i], "image"));
        const char *version = kp_value_str(kp_value_get(history->array.items[i], "version"));
        if (!image || !version)
            return kp_fail(error, KP_ECORRUPT, "history[%zu]: a field is missing", i);
        state_add_release(ret, image, version);
    }
    return 0;
}

static struct kp_value *history_value(const struct state_cluster *cluster, struct kp_arena *arena)
{
    struct kp_value *list = kp_value_array(arena);
    for (size_t i = 0; i < cluster->n_history; i++) {
        struct kp_value *release = kp_value_object(arena);
        kp_value_set(arena, release, "image", kp_value_string(arena, cluster->history[i].image));
        kp_value_set(arena, release, "version", kp_value_string(arena, cluster->history[i].version));
        kp_value_append(arena, list, release);
    }
    return list;
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
    r = parse_rollout(root, ret, error);
    if (r < 0)
        return r;
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
    kp_value_set(arena, root, "history", history_value(cluster, arena));
    kp_value_set(arena, root, "rollout", kp_value_string(arena, rollout_names[cluster->rollout]));
    kp_value_set(arena, root, "config", config_to_value(&cluster->config, arena));
    kp_value_print_pretty(root, 2, &text);
    kp_buf_putc(&text, '\n');
    return state_write_file(state, "cluster.json", text.data, text.len, error);
}

int state_remove(struct state *state, struct kp_error *error)
{
    return kp_remove_tree(state->dir, error);
}
