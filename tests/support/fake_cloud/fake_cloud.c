/* The fake cloud's driver: objects as files. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/file.h>
#include <unistd.h>

#include "codec/codec.h"
#include "tests/support/fake_cloud/fake_cloud_internal.h"

#define FIRST_HOST 10
#define LAST_HOST 250
#define CREATED_S 1790000000 /* of all machines: which of two is newer depends on no race */

static int driver_open(const struct cloud_options *options, void **ret_state, struct kp_error *error)
{
    if (kp_empty(options->state_dir))
        return kp_fail(error, KP_EINVALID, "the fake cloud needs a state_dir");
    struct world *world = kp_calloc(1, sizeof(*world));
    snprintf(world->dir, sizeof(world->dir), "%s", options->state_dir);
    *ret_state = world;
    return kp_mkdir_p(world->dir, 0700, error);
}

static void driver_close(void *state)
{
    free(state);
}

int fake_lock(const struct world *world, int *ret_fd, struct kp_error *error)
{
    char path[PATH_MAX];
    snprintf(path, sizeof(path), "%s/lock", world->dir);
    *ret_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    return *ret_fd < 0 || flock(*ret_fd, LOCK_EX) < 0 ? kp_fail_errno(error, "lock %s", path) : 0;
}

void fake_path(const struct world *world, const char *uid, const char *folder, const char *name, char out[PATH_MAX])
{
    snprintf(out, PATH_MAX, "%s/%s%s%s%s%s", world->dir, uid, folder ? "/" : "", folder ? folder : "", name ? "/" : "", name ? name : "");
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* The names in a folder, sorted; a folder that is not there has none. */
int fake_list(const char *path, struct kp_strings *ret, struct kp_error *error)
{
    DIR *dir = opendir(path);
    if (!dir)
        return errno == ENOENT ? 0 : kp_fail_errno(error, "list %s", path);
    for (struct dirent *entry; (entry = readdir(dir));)
        if (entry->d_name[0] != '.' && !kp_streq(entry->d_name, "lock"))
            kp_strings_add(ret, entry->d_name);
    closedir(dir);
    if (ret->len > 1)
        qsort(ret->items, ret->len, sizeof(*ret->items), compare_names);
    return 0;
}

int fake_remove(const char *path, struct kp_error *error)
{
    return unlink(path) < 0 && errno != ENOENT ? kp_fail_errno(error, "remove %s", path) : 0;
}

/* ---- network and addresses */

int fake_read_network(const struct world *world, const char *uid, struct kp_arena *arena, struct cloud_network *ret, struct kp_error *error)
{
    char path[PATH_MAX];
    KP_AUTO_BUF struct kp_buf cidr = {0};
    fake_path(world, uid, "network", NULL, path);
    if (!kp_path_exists(path))
        return kp_fail(error, KP_ENOTFOUND, "cluster %s has no network", uid);
    int r = kp_read_file(path, 64, &cidr, error);
    if (r == 0)
        *ret = (struct cloud_network){
            .id = kp_arena_printf(arena, "net-%s", uid), .cluster_uid = kp_arena_strdup(arena, uid), .cidr = kp_arena_strdup(arena, cidr.data),
            .gateway = kp_arena_printf(arena, "%.*s.1", (int)(strrchr(cidr.data, '.') - cidr.data), cidr.data), .prefix_len = 24, .nameservers = "",
        };
    return r;
}

/* "127.77.3.0/24", cut from "127.77", that no other cluster has. */
static int choose_cidr(const struct world *world, char out[32], struct kp_error *error)
{
    const char *net = getenv("FAKE_CLOUD_NET");
    struct kp_strings uids = {0};
    int r = fake_list(world->dir, &uids, error);
    for (int n = 0; r == 0; n++) {
        bool taken = false;
        snprintf(out, 32, "%s.%d.0/24", kp_empty(net) ? "127.77" : net, n);
        for (size_t i = 0; i < uids.len && !taken; i++) {
            char path[PATH_MAX];
            KP_AUTO_BUF struct kp_buf cidr = {0};
            fake_path(world, uids.items[i], "network", NULL, path);
            taken = kp_path_exists(path) && kp_read_file(path, 64, &cidr, error) == 0 && kp_streq(cidr.data, out);
        }
        if (!taken)
            break;
        if (n == 255)
            r = kp_fail(error, KP_EQUOTA, "no network is free");
    }
    kp_strings_done(&uids);
    return r;
}

static int network_ensure_now(const struct world *world, const struct cloud_network_spec *spec, struct kp_arena *arena, struct cloud_network *ret,
                              struct kp_error *error)
{
    char path[PATH_MAX], cidr[32];
    KP_AUTO_CLOSE int lock = -1;
    int r = fake_lock(world, &lock, error);
    if (r < 0)
        return r;
    r = fake_read_network(world, spec->cluster_uid, arena, ret, error);
    if (r != KP_ENOTFOUND)
        return r;
    if (spec->cidr)
        snprintf(cidr, sizeof(cidr), "%s", spec->cidr);
    else if (choose_cidr(world, cidr, error) < 0)
        return error ? error->code : KP_EQUOTA;
    fake_path(world, spec->cluster_uid, NULL, NULL, path);
    r = kp_mkdir_p(path, 0700, error);
    fake_path(world, spec->cluster_uid, "network", NULL, path);
    if (r == 0)
        r = kp_write_file(path, cidr, strlen(cidr), 0600, error);
    return r < 0 ? r : fake_read_network(world, spec->cluster_uid, arena, ret, error);
}

static int network_ensure(void *state, const struct cloud_network_spec *spec, struct kp_arena *arena, struct cloud_network *ret, struct kp_error *error)
{
    struct fake_call call;
    int r = fake_call_begin("network_ensure", "-", &call, error);
    return r < 0 ? r : fake_call_end(&call, network_ensure_now(state, spec, arena, ret, error), error);
}

static int network_get(void *state, const char *uid, struct kp_arena *arena, struct cloud_network *ret, struct kp_error *error)
{
    struct fake_call call;
    int r = fake_call_begin("network_get", "-", &call, error);
    return r < 0 ? r : fake_call_end(&call, fake_read_network(state, uid, arena, ret, error), error);
}

static int network_delete_now(const struct world *world, const char *uid, struct kp_error *error)
{
    struct kp_strings names = {0};
    char path[PATH_MAX];
    fake_path(world, uid, "machines", NULL, path);
    int r = fake_list(path, &names, error);
    if (r == 0 && names.len)
        r = kp_fail(error, KP_ECONFLICT, "the network of cluster %s still has %zu machines", uid, names.len);
    kp_strings_done(&names);
    fake_path(world, uid, "balancers", NULL, path);
    if (r == 0)
        r = fake_list(path, &names, error);
    if (r == 0 && names.len)
        r = kp_fail(error, KP_ECONFLICT, "the network of cluster %s still has load balancer %s", uid, names.items[0]);
    kp_strings_done(&names);
    fake_path(world, uid, NULL, NULL, path);
    return r < 0 ? r : kp_remove_tree(path, error);
}

static int network_delete(void *state, const char *uid, struct kp_error *error)
{
    struct fake_call call;
    int r = fake_call_begin("network_delete", "-", &call, error);
    return r < 0 ? r : fake_call_end(&call, network_delete_now(state, uid, error), error);
}

/* Whether one of these names has the address. */
static bool has_address(const char *dir, const struct kp_strings *names, const char *address)
{
    for (size_t i = 0; i < names->len; i++) {
        char path[PATH_MAX];
        KP_AUTO_BUF struct kp_buf text = {0};
        snprintf(path, sizeof(path), "%.3000s/%.255s", dir, names->items[i]);
        if (kp_read_file(path, 64, &text, NULL) == 0 && kp_streq(text.data, address))
            return true;
    }
    return false;
}

static int choose_address(const char *dir, const struct cloud_network *network, char out[64], struct kp_error *error)
{
    struct kp_strings names = {0};
    int r = fake_list(dir, &names, error), host = FIRST_HOST;
    for (; r == 0 && host <= LAST_HOST; host++) {
        snprintf(out, 64, "%.*s%d", (int)(strlen(network->gateway) - 1), network->gateway, host);
        if (!has_address(dir, &names, out))
            break;
    }
    kp_strings_done(&names);
    return r == 0 && host > LAST_HOST ? kp_fail(error, KP_EQUOTA, "no address is free in %s", network->cidr) : r;
}

/* The one wanted, when it is of the network and nobody's. */
static int take_address(const char *dir, const struct cloud_network *network, const char *wanted, char out[64], struct kp_error *error)
{
    struct kp_strings names = {0};
    size_t prefix = strlen(network->gateway) - 1;
    int r = fake_list(dir, &names, error);
    if (r == 0 && (strncmp(wanted, network->gateway, prefix) != 0 || kp_streq(wanted, network->gateway)))
        r = kp_fail(error, KP_EINVALID, "address %s is not one of the network %s to give", wanted, network->cidr);
    if (r == 0 && has_address(dir, &names, wanted))
        r = kp_fail(error, KP_EINVALID, "address %s is taken", wanted);
    kp_strings_done(&names);
    snprintf(out, 64, "%s", wanted);
    return r;
}

int fake_address_keep(const struct world *world, const char *uid, const char *name, const char *wanted, struct kp_arena *arena, const char **ret,
                      struct kp_error *error)
{
    char dir[PATH_MAX], path[PATH_MAX], address[64];
    struct cloud_network network;
    KP_AUTO_BUF struct kp_buf own = {0};
    int r = fake_read_network(world, uid, arena, &network, error);
    fake_path(world, uid, "addresses", NULL, dir);
    fake_path(world, uid, "addresses", name, path);
    if (r == 0 && kp_path_exists(path))
        r = kp_read_file(path, 64, &own, error);
    if (r == 0 && (!own.data || (!kp_empty(wanted) && !kp_streq(wanted, own.data)))) {
        r = kp_mkdir_p(dir, 0700, error);
        if (r == 0)
            r = kp_empty(wanted) ? choose_address(dir, &network, address, error) : take_address(dir, &network, wanted, address, error);
        if (r == 0)
            r = kp_write_file(path, address, strlen(address), 0600, error);
        if (r == 0)
            *ret = kp_arena_strdup(arena, address);
    } else if (r == 0) {
        *ret = kp_arena_strdup(arena, own.data);
    }
    return r;
}

static int address_reserve_now(const struct world *world, const char *uid, const char *name, struct kp_arena *arena, const char **ret,
                               struct kp_error *error)
{
    KP_AUTO_CLOSE int lock = -1;
    int r = fake_lock(world, &lock, error);
    return r < 0 ? r : fake_address_keep(world, uid, name, NULL, arena, ret, error);
}

static int address_reserve(void *state, const char *uid, const char *name, struct kp_arena *arena, const char **ret, struct kp_error *error)
{
    struct fake_call call;
    int r = fake_call_begin("address_reserve", name, &call, error);
    return r < 0 ? r : fake_call_end(&call, address_reserve_now(state, uid, name, arena, ret, error), error);
}

static int address_release(void *state, const char *uid, const char *name, struct kp_error *error)
{
    struct fake_call call;
    char path[PATH_MAX];
    int r = fake_call_begin("address_release", name, &call, error);
    if (r < 0)
        return r;
    fake_path(state, uid, "public", name, path);
    r = fake_remove(path, error);
    fake_path(state, uid, "addresses", name, path);
    if (r == 0)
        r = fake_remove(path, error);
    return fake_call_end(&call, r, error);
}

/* ---- machines */

static const char *text_of(const struct kp_value *machine, const char *key, struct kp_arena *arena)
{
    const char *text = kp_value_str(kp_value_get(machine, key));
    return kp_arena_strdup(arena, text ? text : "");
}

static int read_public(const struct world *world, const char *uid, const char *name, struct kp_arena *arena, const char **ret, struct kp_error *error)
{
    char path[PATH_MAX];
    KP_AUTO_BUF struct kp_buf text = {0};
    fake_path(world, uid, "public", name, path);
    if (!kp_path_exists(path))
        return 0;
    int r = kp_read_file(path, 64, &text, error);
    *ret = r == 0 ? kp_arena_strdup(arena, text.data) : NULL;
    return r;
}

int fake_read_machine(const struct world *world, const char *uid, const char *name, struct kp_arena *arena, struct cloud_machine *ret,
                        struct kp_error *error)
{
    char dir[PATH_MAX], path[PATH_MAX + 16];
    struct kp_value *machine = kp_value_object(arena);
    KP_AUTO_BUF struct kp_buf text = {0};
    fake_path(world, uid, "machines", name, dir);
    snprintf(path, sizeof(path), "%s/machine", dir);
    if (!kp_path_exists(dir))
        return kp_fail(error, KP_ENOTFOUND, "machine %s does not exist", name);
    if (kp_path_exists(path)) {
        int r = kp_read_file(path, 65536, &text, error);
        if (r == 0)
            r = kp_value_parse(text.data ? text.data : "", text.len, arena, NULL, &machine, error);
        if (r < 0)
            return r;
    }
    const struct kp_value *created = kp_value_get(machine, "created");
    const char *public_address = NULL;
    if (read_public(world, uid, name, arena, &public_address, error) < 0)
        return kp_wrap(error, "machine %s", name);
    *ret = (struct cloud_machine){
        .id = kp_arena_printf(arena, "%s/%s", uid, name), .provider_id = kp_arena_printf(arena, "fake://%s/%s", uid, name),
        .name = kp_arena_strdup(arena, name), .cluster_uid = kp_arena_strdup(arena, uid), .role = text_of(machine, "role", arena),
        .pool = text_of(machine, "pool", arena), .machine_type = text_of(machine, "machine-type", arena), .image = text_of(machine, "image", arena),
        .address = text_of(machine, "address", arena), .public_address = public_address, .region = "fake", .zone = "fake",
        .power = fake_machine_runs(dir) ? CLOUD_POWER_ON : CLOUD_POWER_OFF, .created_s = created ? created->integer : 0,
    };
    return 0;
}

static int write_machine(const char *dir, const struct cloud_machine_spec *spec, struct kp_error *error)
{
    char path[PATH_MAX + 16];
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    KP_AUTO_BUF struct kp_buf text = {0};
    struct kp_value *machine = kp_value_object(arena);
    kp_value_set(arena, machine, "role", kp_value_string(arena, spec->role));
    kp_value_set(arena, machine, "pool", kp_value_string(arena, spec->pool));
    kp_value_set(arena, machine, "machine-type", kp_value_string(arena, spec->machine_type ? spec->machine_type : ""));
    kp_value_set(arena, machine, "image", kp_value_string(arena, spec->image));
    kp_value_set(arena, machine, "address", kp_value_string(arena, spec->address));
    kp_value_set(arena, machine, "created", kp_value_int(arena, CREATED_S));
    kp_value_print(machine, &text);
    snprintf(path, sizeof(path), "%s/user-data", dir);
    int r = kp_write_file(path, spec->user_data ? spec->user_data : "", spec->user_data_len, 0600, error);
    snprintf(path, sizeof(path), "%s/machine", dir);
    return r < 0 ? r : kp_write_file(path, text.data, text.len, 0600, error);
}

static int machine_create_now(const struct world *world, const struct cloud_machine_spec *spec, const struct fake_call *call, struct kp_arena *arena,
                              struct cloud_machine *ret, struct kp_error *error)
{
    char dir[PATH_MAX], path[PATH_MAX + 16];
    struct cloud_network network;
    KP_AUTO_CLOSE int lock = -1;
    int r = fake_lock(world, &lock, error);
    if (r == 0)
        r = fake_read_network(world, spec->cluster_uid, arena, &network, error);
    if (r < 0)
        return r;
    fake_path(world, spec->cluster_uid, "machines", spec->name, dir);
    snprintf(path, sizeof(path), "%s/machine", dir);
    if (!kp_path_exists(path)) {
        r = kp_mkdir_p(dir, 0700, error);
        if (r == 0)
            fake_call_half(call);
        if (r == 0)
            r = write_machine(dir, spec, error);
        if (r == 0)
            r = fake_machine_start(dir, error);
    }
    return r < 0 ? r : fake_read_machine(world, spec->cluster_uid, spec->name, arena, ret, error);
}

static int machine_create(void *state, const struct cloud_machine_spec *spec, struct kp_arena *arena, struct cloud_machine *ret, struct kp_error *error)
{
    struct fake_call call;
    int r = fake_call_begin("machine_create", spec->name, &call, error);
    return r < 0 ? r : fake_call_end(&call, machine_create_now(state, spec, &call, arena, ret, error), error);
}

static int machine_reimage_now(const struct world *world, const struct cloud_machine_spec *spec, const struct fake_call *call, struct kp_arena *arena,
                               struct cloud_machine *ret, struct kp_error *error)
{
    char dir[PATH_MAX];
    struct cloud_machine before = {0};
    KP_AUTO_CLOSE int lock = -1;
    int r = fake_lock(world, &lock, error);
    if (r == 0)
        r = fake_read_machine(world, spec->cluster_uid, spec->name, arena, &before, error);
    fake_path(world, spec->cluster_uid, "machines", spec->name, dir);
    if (r == 0 && !spec->at_next_boot)
        r = fake_machine_kill(dir, error);
    struct cloud_machine_spec own = *spec;
    own.role = before.role;
    own.pool = before.pool;
    own.machine_type = before.machine_type;
    own.address = before.address;
    if (r == 0)
        r = write_machine(dir, &own, error);
    if (r == 0)
        fake_call_half(call);
    if (r == 0 && !spec->at_next_boot)
        r = fake_machine_start(dir, error);
    return r < 0 ? r : fake_read_machine(world, spec->cluster_uid, spec->name, arena, ret, error);
}

static int machine_reimage(void *state, const struct cloud_machine_spec *spec, struct kp_arena *arena, struct cloud_machine *ret, struct kp_error *error)
{
    struct fake_call call;
    int r = fake_call_begin("machine_reimage", spec->name, &call, error);
    return r < 0 ? r : fake_call_end(&call, machine_reimage_now(state, spec, &call, arena, ret, error), error);
}

static int machine_get(void *state, const char *uid, const char *name, struct kp_arena *arena, struct cloud_machine *ret, struct kp_error *error)
{
    struct fake_call call;
    int r = fake_call_begin("machine_get", name, &call, error);
    return r < 0 ? r : fake_call_end(&call, fake_read_machine(state, uid, name, arena, ret, error), error);
}

static int machine_list_now(const struct world *world, const char *uid, struct kp_arena *arena, struct cloud_machine_list *ret, struct kp_error *error)
{
    char path[PATH_MAX];
    struct kp_strings names = {0};
    fake_path(world, uid, "machines", NULL, path);
    int r = fake_list(path, &names, error);
    *ret = (struct cloud_machine_list){.items = KP_NEW_ARRAY(arena, struct cloud_machine, names.len + 1)};
    for (size_t i = 0; r == 0 && i < names.len; i++) {
        r = fake_read_machine(world, uid, names.items[i], arena, &ret->items[ret->len], error);
        ret->len += r == 0;
    }
    kp_strings_done(&names);
    return r;
}

static int machine_list(void *state, const char *uid, struct kp_arena *arena, struct cloud_machine_list *ret, struct kp_error *error)
{
    struct fake_call call;
    int r = fake_call_begin("machine_list", "-", &call, error);
    return r < 0 ? r : fake_call_end(&call, machine_list_now(state, uid, arena, ret, error), error);
}

static int machine_power(void *state, const char *uid, const char *name, enum cloud_power_action action, struct kp_error *error)
{
    struct fake_call call;
    char dir[PATH_MAX];
    int r = fake_call_begin("machine_power", name, &call, error);
    if (r < 0)
        return r;
    fake_path(state, uid, "machines", name, dir);
    if (!kp_path_exists(dir))
        r = kp_fail(error, KP_ENOTFOUND, "machine %s does not exist", name);
    else
        r = action == CLOUD_POWER_START ? fake_machine_start(dir, error) : fake_machine_kill(dir, error);
    return fake_call_end(&call, r, error);
}

static int remove_machine(const struct world *world, const char *uid, const char *name, const struct fake_call *call, struct kp_error *error)
{
    char dir[PATH_MAX];
    fake_path(world, uid, "machines", name, dir);
    int r = fake_machine_kill(dir, error);
    if (r == 0)
        fake_call_half(call);
    return r < 0 ? r : kp_remove_tree(dir, error);
}

static int machine_delete(void *state, const char *uid, const char *name, struct kp_error *error)
{
    struct fake_call call;
    int r = fake_call_begin("machine_delete", name, &call, error);
    return r < 0 ? r : fake_call_end(&call, remove_machine(state, uid, name, &call, error), error);
}

static int machine_console(void *state, const char *uid, const char *name, struct kp_buf *out, struct kp_error *error)
{
    struct fake_call call;
    char dir[PATH_MAX], path[PATH_MAX + 16];
    int r = fake_call_begin("machine_console", name, &call, error);
    if (r < 0)
        return r;
    fake_path(state, uid, "machines", name, dir);
    snprintf(path, sizeof(path), "%s/console.log", dir);
    if (!kp_path_exists(dir))
        r = kp_fail(error, KP_ENOTFOUND, "machine %s does not exist", name);
    else if (kp_path_exists(path))
        r = kp_read_file(path, CLOUD_CONSOLE_MAX, out, error);
    return fake_call_end(&call, r, error);
}

/* ---- everything that a cluster owns */

static int owned_now(const struct world *world, const char *uid, struct kp_arena *arena, struct kp_strings *ret, struct kp_error *error)
{
    static const char *const kinds[][2] = {{"machines", "machine"}, {"balancers", "load balancer"}, {"routes", "route"}, {"public", "public address"},
                                           {"addresses", "address"}};
    char path[PATH_MAX];
    int r = 0;
    for (size_t k = 0; r == 0 && k < KP_ARRAY_LEN(kinds); k++) {
        struct kp_strings names = {0};
        fake_path(world, uid, kinds[k][0], NULL, path);
        r = fake_list(path, &names, error);
        for (size_t i = 0; i < names.len; i++)
            kp_strings_add(ret, kp_arena_printf(arena, "%s %s", kinds[k][1], names.items[i]));
        kp_strings_done(&names);
    }
    fake_path(world, uid, NULL, NULL, path);
    if (kp_path_exists(path))
        kp_strings_add(ret, kp_arena_printf(arena, "folder %s", path));
    return r;
}

static int owned(void *state, const char *uid, struct kp_arena *arena, struct kp_strings *ret, struct kp_error *error)
{
    struct fake_call call;
    int r = fake_call_begin("owned", "-", &call, error);
    return r < 0 ? r : fake_call_end(&call, owned_now(state, uid, arena, ret, error), error);
}

static int clusters(void *state, struct kp_strings *ret, struct kp_error *error)
{
    struct fake_call call;
    int r = fake_call_begin("clusters", "-", &call, error);
    return r < 0 ? r : fake_call_end(&call, fake_list(((const struct world *)state)->dir, ret, error), error);
}

static int purge_now(const struct world *world, const char *uid, const struct fake_call *call, struct kp_error *error)
{
    char path[PATH_MAX];
    struct kp_strings names = {0};
    fake_path(world, uid, "machines", NULL, path);
    int r = fake_list(path, &names, error);
    for (size_t i = 0; r == 0 && i < names.len; i++)
        r = remove_machine(world, uid, names.items[i], call, error);
    kp_strings_done(&names);
    fake_path(world, uid, NULL, NULL, path);
    return r < 0 ? r : kp_remove_tree(path, error);
}

static int purge(void *state, const char *uid, struct kp_error *error)
{
    struct fake_call call;
    int r = fake_call_begin("purge", "-", &call, error);
    return r < 0 ? r : fake_call_end(&call, purge_now(state, uid, &call, error), error);
}

/* As machine_create, where machines have sizes. */
static int machine_create_typed(void *state, const struct cloud_machine_spec *spec, struct kp_arena *arena, struct cloud_machine *ret, struct kp_error *error)
{
    struct cloud_machine_spec typed = *spec;
    int r = fake_check_type(spec->machine_type, error);
    typed.machine_type = kp_empty(spec->machine_type) ? "small" : spec->machine_type;
    return r < 0 ? r : machine_create(state, &typed, arena, ret, error);
}

#define MACHINES_AND_NETWORKS                                                                                 \
    .open = driver_open, .close = driver_close, .network_ensure = network_ensure, .network_get = network_get, \
    .network_delete = network_delete, .address_reserve = address_reserve, .address_release = address_release, \
    .machine_reimage = machine_reimage, .machine_get = machine_get,                                           \
    .machine_list = machine_list, .machine_power = machine_power, .machine_delete = machine_delete,           \
    .machine_console = machine_console, .machine_exec = fake_machine_exec, .owned = owned, .clusters = clusters, .purge = purge,

const struct cloud_driver cloud_driver_fake = {
    .name = "fake",
    .capabilities = CLOUD_CAN_EXEC | CLOUD_CAN_CHANGE_LATER | CLOUD_CAN_CONSOLE | CLOUD_CAN_LOCAL_IMAGES,
    .machine_create = machine_create,
    MACHINES_AND_NETWORKS
};

const struct cloud_driver cloud_driver_fake_api = {
    .name = "fake",
    .capabilities = CLOUD_CAN_EXEC | CLOUD_CAN_CHANGE_LATER | CLOUD_CAN_CONSOLE | CLOUD_CAN_LOCAL_IMAGES | CLOUD_CAN_LOAD_BALANCE | CLOUD_CAN_ROUTE | CLOUD_HAS_PUBLIC_ADDRESSES |
                    CLOUD_HAS_NODE_FACTS,
    MACHINES_AND_NETWORKS
    .check = fake_check,
    .machine_create = machine_create_typed,
    .machine_types = fake_machine_types,
    .image_ensure = fake_image_ensure,
    .images_prune = fake_images_prune,
    .address_publish = fake_address_publish,
    .machine_forward = fake_machine_forward,
    .balancer_ensure = fake_balancer_ensure,
    .balancer_get = fake_balancer_get,
    .balancer_health = fake_balancer_health,
    .balancer_list = fake_balancer_list,
    .balancer_delete = fake_balancer_delete,
    .route_list = fake_route_list,
    .route_ensure = fake_route_ensure,
    .route_delete = fake_route_delete,
    .account_export = fake_account_export,
};
