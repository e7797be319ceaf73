/* The local driver: machines of this host, kept as folders and namespaces. */
#include <errno.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cloud/drivers.h"
#include "cloud/local/local_internal.h"

static int driver_open(const struct cloud_options *options, void **ret_state, struct kp_error *error)
{
    const char *state_dir = options->state_dir ? options->state_dir : LOCAL_STATE_DIR;
    const char *image_dir = options->image_dir ? options->image_dir : LOCAL_IMAGE_DIR;
    if (geteuid() != 0)
        return kp_fail(error, KP_EFORBIDDEN, "machines of this host need root: run with sudo");
    struct local *local = kp_calloc(1, sizeof(*local));
    if (strlen(state_dir) >= sizeof(local->state_dir) || strlen(image_dir) >= sizeof(local->image_dir)) {
        free(local);
        return kp_fail(error, KP_EINVALID, "the path of the state or image folder is too long");
    }
    memcpy(local->state_dir, state_dir, strlen(state_dir));
    memcpy(local->image_dir, image_dir, strlen(image_dir));
    *ret_state = local;
    return 0;
}

static void driver_close(void *state)
{
    free(state);
}

static int network_ensure(void *state, const struct cloud_network_spec *spec, struct kp_arena *arena,
                          struct cloud_network *ret, struct kp_error *error)
{
    return local_network_ensure(state, spec, arena, ret, error);
}

static int network_get(void *state, const char *uid, struct kp_arena *arena, struct cloud_network *ret,
                       struct kp_error *error)
{
    return local_network_get(state, uid, arena, ret, error);
}

static int list_machines(const struct local *local, const char *uid, struct kp_strings *ret, struct kp_error *error)
{
    char path[PATH_MAX];
    snprintf(path, sizeof(path), "%s/%s/machines", local->state_dir, uid);
    return local_list_dir(path, ret, error);
}

static int network_delete(void *state, const char *uid, struct kp_error *error)
{
    struct kp_strings names = {0};
    int r = list_machines(state, uid, &names, error);
    if (r == 0 && names.len > 0)
        r = kp_fail(error, KP_ECONFLICT, "the network of cluster %s still has %zu machines", uid, names.len);
    kp_strings_done(&names);
    return r < 0 ? r : local_network_delete(state, uid, error);
}

static void address_path(const struct local *local, const char *uid, const char *name, char out[PATH_MAX])
{
    snprintf(out, PATH_MAX, "%s/%s/addresses/%s", local->state_dir, uid, name);
}

/* Reads the reserved addresses of a cluster; *ret_own (may be left NULL) is the one of `name`. */
static int read_addresses(const struct local *local, const char *uid, const char *name, struct kp_arena *arena,
                          struct kp_strings *ret_all, const char **ret_own, struct kp_error *error)
{
    char dir[PATH_MAX], path[PATH_MAX];
    struct kp_strings names = {0};
    snprintf(dir, sizeof(dir), "%s/%s/addresses", local->state_dir, uid);
    int r = local_list_dir(dir, &names, error);
    for (size_t i = 0; r == 0 && i < names.len; i++) {
        KP_AUTO_BUF struct kp_buf text = {0};
        address_path(local, uid, names.items[i], path);
        r = kp_read_file(path, 64, &text, error);
        if (r < 0)
            break;
        kp_strings_add(ret_all, text.data);
        if (kp_streq(names.items[i], name))
            *ret_own = kp_arena_strdup(arena, text.data);
    }
    kp_strings_done(&names);
    return r;
}

static int choose_address(const struct cloud_network *network, const struct kp_strings *taken, char out[16],
                          struct kp_error *error)
{
    uint32_t base = 0;
    int prefix = 0;
    if (local_cidr_parse(network->cidr, &base, &prefix) < 0)
        return kp_fail(error, KP_ECORRUPT, "network \"%s\"", network->cidr);
    uint32_t last = KP_MIN((1u << (32 - prefix)) - 2, (uint32_t)LOCAL_LAST_HOST);
    for (uint32_t host = LOCAL_FIRST_HOST; host <= last; host++) {
        bool used = false;
        local_format_address(base + host, out);
        for (size_t i = 0; i < taken->len && !used; i++)
            used = kp_streq(taken->items[i], out);
        if (!used)
            return 0;
    }
    return kp_fail(error, KP_EQUOTA, "no address is free in %s", network->cidr);
}

static int address_reserve(void *state, const char *uid, const char *name, struct kp_arena *arena,
                           const char **ret_address, struct kp_error *error)
{
    const struct local *local = state;
    struct cloud_network network;
    struct kp_strings taken = {0};
    const char *own = NULL;
    char path[PATH_MAX], address[16];
    KP_AUTO_CLOSE int lock = -1;
    int r = local_lock(local, &lock, error);
    if (r == 0)
        r = local_network_get(local, uid, arena, &network, error);
    if (r == 0)
        r = read_addresses(local, uid, name, arena, &taken, &own, error);
    if (r == 0 && !own) {
        r = choose_address(&network, &taken, address, error);
        address_path(local, uid, "", path);
        if (r == 0)
            r = kp_mkdir_p(path, 0755, error);
        address_path(local, uid, name, path);
        if (r == 0)
            r = kp_write_file(path, address, strlen(address), 0644, error);
        own = kp_arena_strdup(arena, address);
    }
    kp_strings_done(&taken);
    if (r == 0)
        *ret_address = own;
    return r;
}

static int address_release(void *state, const char *uid, const char *name, struct kp_error *error)
{
    char path[PATH_MAX];
    address_path(state, uid, name, path);
    return unlink(path) < 0 && errno != ENOENT ? kp_fail_errno(error, "remove %s", path) : 0;
}

static int machine_get(void *state, const char *uid, const char *name, struct kp_arena *arena,
                       struct cloud_machine *ret, struct kp_error *error)
{
    char dir[PATH_MAX], path[PATH_MAX + 16];
    struct local_meta meta;
    int64_t created = 0;
    local_machine_dir(state, uid, name, dir);
    snprintf(path, sizeof(path), "%s/machine", dir);
    if (!kp_path_exists(dir))
        return kp_fail(error, KP_ENOTFOUND, "machine %s does not exist", name);
    if (!kp_path_exists(path)) /* half-made: it has a folder, and nothing that could run */
        local_meta_add(memset(&meta, 0, sizeof(meta)), "name", name);
    else if (local_meta_read(path, arena, &meta, error) < 0)
        return kp_wrap(error, "machine %s", name);
    kp_parse_i64(local_meta_get(&meta, "created"), &created);
    *ret = (struct cloud_machine){
        .id = kp_arena_printf(arena, "%s/%s", uid, name),
        .provider_id = kp_arena_printf(arena, "local://%s/%s", uid, name),
        .name = kp_arena_strdup(arena, name),
        .cluster_uid = kp_arena_strdup(arena, uid),
        .role = kp_arena_strdup(arena, local_meta_get(&meta, "role")),
        .pool = kp_arena_strdup(arena, local_meta_get(&meta, "pool")),
        .machine_type = kp_arena_strdup(arena, local_meta_get(&meta, "machine-type")),
        .image = kp_arena_strdup(arena, local_meta_get(&meta, "image")),
        .address = kp_arena_strdup(arena, local_meta_get(&meta, "address")),
        .region = "local",
        .zone = "local",
        .power = local_machine_pid(state, uid, name) ? CLOUD_POWER_ON : CLOUD_POWER_OFF,
        .created_s = created,
    };
    return 0;
}

static int write_machine(const struct local *local, const struct cloud_machine_spec *spec, struct kp_error *error)
{
    char dir[PATH_MAX], path[PATH_MAX + 16], created[24];
    struct local_meta meta = {0};
    local_machine_dir(local, spec->cluster_uid, spec->name, dir);
    snprintf(created, sizeof(created), "%lld", (long long)kp_now_s());
    local_meta_add(&meta, "cluster", spec->cluster_uid);
    local_meta_add(&meta, "name", spec->name);
    local_meta_add(&meta, "role", spec->role);
    local_meta_add(&meta, "pool", spec->pool);
    local_meta_add(&meta, "machine-type", spec->machine_type);
    local_meta_add(&meta, "image", spec->image);
    local_meta_add(&meta, "address", spec->address);
    local_meta_add(&meta, "created", created);
    int r = kp_mkdir_p(dir, 0755, error);
    snprintf(path, sizeof(path), "%s/user-data", dir);
    if (r == 0)
        r = kp_write_file(path, spec->user_data, spec->user_data_len, 0600, error);
    snprintf(path, sizeof(path), "%s/machine", dir);
    return r < 0 ? r : local_meta_write(path, &meta, error); /* last: with it the machine exists */
}

static int machine_create(void *state, const struct cloud_machine_spec *spec, struct kp_arena *arena,
                          struct cloud_machine *ret, struct kp_error *error)
{
    char dir[PATH_MAX], path[PATH_MAX + 16];
    local_machine_dir(state, spec->cluster_uid, spec->name, dir);
    snprintf(path, sizeof(path), "%s/machine", dir);
    if (!kp_path_exists(path)) {
        int r = write_machine(state, spec, error);
        if (r == 0)
            r = local_machine_start(state, spec->cluster_uid, spec->name, error);
        if (r < 0)
            return r;
    }
    return machine_get(state, spec->cluster_uid, spec->name, arena, ret, error);
}

static int machine_reimage(void *state, const struct cloud_machine_spec *spec, struct kp_arena *arena,
                           struct cloud_machine *ret, struct kp_error *error)
{
    int r = local_machine_reimage(state, spec, error);
    return r < 0 ? r : machine_get(state, spec->cluster_uid, spec->name, arena, ret, error);
}

static int machine_list(void *state, const char *uid, struct kp_arena *arena, struct cloud_machine_list *ret,
                        struct kp_error *error)
{
    struct kp_strings names = {0};
    int r = list_machines(state, uid, &names, error);
    ret->len = 0;
    ret->items = KP_NEW_ARRAY(arena, struct cloud_machine, names.len + 1);
    for (size_t i = 0; r == 0 && i < names.len; i++) {
        r = machine_get(state, uid, names.items[i], arena, &ret->items[ret->len], error);
        ret->len += r == 0;
    }
    kp_strings_done(&names);
    return r;
}

static int machine_power(void *state, const char *uid, const char *name, enum cloud_power_action action,
                         struct kp_error *error)
{
    char dir[PATH_MAX];
    local_machine_dir(state, uid, name, dir);
    if (!kp_path_exists(dir))
        return kp_fail(error, KP_ENOTFOUND, "machine %s does not exist", name);
    if (action == CLOUD_POWER_START)
        return local_machine_start(state, uid, name, error);
    return local_machine_stop(state, uid, name, action == CLOUD_POWER_KILL ? SIGKILL : SIGPWR, error);
}

static int machine_delete(void *state, const char *uid, const char *name, struct kp_error *error)
{
    char dir[PATH_MAX];
    int r = local_machine_stop(state, uid, name, SIGKILL, error);
    if (r < 0)
        return r;
    local_machine_dir(state, uid, name, dir);
    return kp_remove_tree(dir, error);
}

static int machine_console(void *state, const char *uid, const char *name, struct kp_buf *out, struct kp_error *error)
{
    char dir[PATH_MAX], path[PATH_MAX + 16];
    local_machine_dir(state, uid, name, dir);
    snprintf(path, sizeof(path), "%s/console.log", dir);
    if (!kp_path_exists(dir))
        return kp_fail(error, KP_ENOTFOUND, "machine %s does not exist", name);
    return kp_read_file(path, CLOUD_CONSOLE_MAX, out, error);
}

static int machine_exec(void *state, const char *uid, const char *name, const struct cloud_exec *exec, int *ret_status,
                        struct kp_error *error)
{
    struct local_cgroups cgroups;
    char dir[PATH_MAX];
    local_machine_dir(state, uid, name, dir);
    if (!kp_path_exists(dir))
        return kp_fail(error, KP_ENOTFOUND, "machine %s does not exist", name);
    pid_t pid = local_machine_pid(state, uid, name);
    if (!pid)
        return kp_fail(error, KP_EUNAVAILABLE, "machine %s is powered off", name);
    int r = local_cgroups_find(&cgroups, error);
    return r < 0 ? r : local_exec(pid, &cgroups, uid, name, exec, ret_status, error);
}

static int owned(void *state, const char *uid, struct kp_arena *arena, struct kp_strings *ret, struct kp_error *error)
{
    const struct local *local = state;
    struct local_cgroups cgroups;
    struct kp_strings names = {0};
    char path[PATH_MAX];
    int r = list_machines(local, uid, &names, error);
    if (r == 0)
        r = local_cgroups_find(&cgroups, error);
    for (size_t i = 0; r == 0 && i < names.len; i++)
        kp_strings_add(ret, kp_arena_printf(arena, "machine %s", names.items[i]));
    kp_strings_done(&names);
    if (r < 0)
        return r;
    local_cgroup_owned(&cgroups, uid, ret);
    local_network_owned(local, uid, ret);
    snprintf(path, sizeof(path), "%s/%s", local->state_dir, uid);
    if (kp_path_exists(path))
        kp_strings_add(ret, kp_arena_printf(arena, "folder %s", path));
    return 0;
}

static int clusters(void *state, struct kp_strings *ret_uids, struct kp_error *error)
{
    const struct local *local = state;
    struct local_cgroups cgroups;
    struct kp_strings names = {0}, all = {0};
    int r = local_cgroups_find(&cgroups, error);
    if (r == 0)
        r = local_list_dir(local->state_dir, &names, error);
    for (size_t i = 0; r == 0 && i < names.len; i++) {
        char path[PATH_MAX];
        struct stat st;
        snprintf(path, sizeof(path), "%s/%s", local->state_dir, names.items[i]);
        if (stat(path, &st) == 0 && S_ISDIR(st.st_mode))
            kp_strings_add(&all, names.items[i]);
    }
    if (r == 0)
        local_cgroup_clusters(&cgroups, &all);
    for (size_t i = 0; r == 0 && i < all.len; i++) {
        bool seen = false;
        for (size_t j = 0; j < i && !seen; j++)
            seen = kp_streq(all.items[i], all.items[j]);
        if (!seen)
            kp_strings_add(ret_uids, all.items[i]);
    }
    kp_strings_done(&names);
    kp_strings_done(&all);
    return r;
}

static int purge(void *state, const char *uid, struct kp_error *error)
{
    const struct local *local = state;
    struct local_cgroups cgroups;
    struct kp_strings names = {0};
    char path[PATH_MAX];
    int r = list_machines(local, uid, &names, error);
    for (size_t i = 0; r == 0 && i < names.len; i++)
        r = machine_delete(state, uid, names.items[i], error);
    kp_strings_done(&names);
    /* A process that was cloned but not yet written down is in the cluster's cgroups, or waits for a release that will
       never come and ends by itself. */
    if (r == 0)
        r = local_cgroups_find(&cgroups, error);
    if (r == 0)
        r = local_cgroup_remove(&cgroups, uid, NULL, error);
    if (r == 0)
        r = local_network_delete(local, uid, error);
    snprintf(path, sizeof(path), "%s/%s", local->state_dir, uid);
    return r < 0 ? r : kp_remove_tree(path, error);
}

const struct cloud_driver cloud_driver_local = {
    .name = "local",
    .capabilities = CLOUD_CAN_EXEC | CLOUD_CAN_CONSOLE | CLOUD_CAN_LOCAL_IMAGES | CLOUD_CAN_CHANGE_LATER,
    .open = driver_open,
    .close = driver_close,
    .network_ensure = network_ensure,
    .network_get = network_get,
    .network_delete = network_delete,
    .address_reserve = address_reserve,
    .address_release = address_release,
    .machine_create = machine_create,
    .machine_reimage = machine_reimage,
    .machine_get = machine_get,
    .machine_list = machine_list,
    .machine_power = machine_power,
    .machine_delete = machine_delete,
    .machine_console = machine_console,
    .machine_exec = machine_exec,
    .owned = owned,
    .clusters = clusters,
    .purge = purge,
};
