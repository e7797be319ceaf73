/* Names to things: clusters, machines, files of the state, the user's kubeconfig. */
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "cloud/external/external.h"
#include "provisioner/cli/cli.h"

int cli_state_path(const char *cluster, const char *file, struct kp_arena *arena, const char **ret_path,
                   struct kp_error *error)
{
    const char *root = NULL;
    int r = state_root(arena, &root, error);
    if (r == 0)
        *ret_path = kp_arena_printf(arena, "%s/%s/%s", root, cluster, file);
    return r;
}

int cli_default_kubeconfig(struct kp_arena *arena, const char **ret_path, struct kp_error *error)
{
    const char *env = getenv("KUBECONFIG"), *home = getenv("HOME");
    if (!kp_empty(env) && *env != ':') {
        *ret_path = kp_arena_strndup(arena, env, strcspn(env, ":"));
        return 0;
    }
    if (kp_empty(home))
        return kp_fail(error, KP_EINVALID, "neither KUBECONFIG nor HOME is set: name a file with --kubeconfig");
    *ret_path = kp_arena_printf(arena, "%s/.kube/config", home);
    return 0;
}

static const struct cloud_external *external_machines(const struct config *config, struct kp_arena *arena)
{
    struct cloud_external_machine *machines = KP_NEW_ARRAY(arena, struct cloud_external_machine, config->external.n_machines + 1);
    struct cloud_external *ret = KP_NEW(arena, struct cloud_external);
    for (size_t i = 0; i < config->external.n_machines; i++) {
        const struct config_external_machine *machine = &config->external.machines[i];
        machines[i] = (struct cloud_external_machine){
            .address = machine->address, .user = machine->user, .key_file = machine->key_file, .port = (int)machine->port,
            .host_key = machine->host_key, .known_hosts = machine->known_hosts, .role = machine->role, .pool = machine->pool,
        };
    }
    *ret = (struct cloud_external){
        .cluster = config->name, .api_address = config->external.api_address, .machines = machines, .n_machines = config->external.n_machines};
    return ret;
}

/* "~/" is the home folder, as a shell has it. */
static const char *home_path(const char *path, struct kp_arena *arena)
{
    const char *home = getenv("HOME");
    return kp_starts_with(path, "~/") && !kp_empty(home) ? kp_arena_printf(arena, "%s%s", home, path + 1) : path;
}

struct cloud_account cli_account(const struct config *config, struct kp_arena *arena)
{
    return (struct cloud_account){
        .profile = config->cloud.profile, .region = config->cloud.region, .endpoint = config->cloud.endpoint,
        .credentials = home_path(config->cloud.credentials, arena), .role = config->cloud.instance_profile,
    };
}

int cli_cloud_open(const struct config *config, struct kp_arena *arena, struct cloud **ret_cloud, struct kp_error *error)
{
    const struct cloud_options options = {
        .account = cli_account(config, arena),
        .image_dir = getenv("KPROV_IMAGE_DIR"), .state_dir = getenv("KPROV_LOCAL_DIR"),
        .uri = kp_empty(config->libvirt.uri) ? NULL : config->libvirt.uri,
        .external = config->external.n_machines ? external_machines(config, arena) : NULL,
    };
    return cloud_open(config->provider, &options, ret_cloud, error);
}

static bool is_listed(const struct config *config, const char *address)
{
    for (size_t i = 0; i < config->external.n_machines; i++)
        if (kp_streq(config->external.machines[i].address, address))
            return true;
    return false;
}

int cli_cloud_change(const struct config *wanted, const char *uid, struct kp_arena *arena, struct cloud **cloud, struct kp_error *error)
{
    struct cloud_machine_list machines;
    struct cloud *changed = NULL;
    if (wanted->external.n_machines == 0 && !*wanted->cloud.section)
        return 0;
    int r = cloud_machine_list(*cloud, uid, arena, &machines, error);
    for (size_t i = 0; r == 0 && wanted->external.n_machines && i < machines.len; i++)
        if (!is_listed(wanted, machines.items[i].address))
            r = kp_fail(error, KP_EINVALID, "spec.external.machines: %s is node %s still: remove that first, by fewer replicas, then take it off the list",
                        machines.items[i].address, machines.items[i].name);
    if (r == 0)
        r = cli_cloud_open(wanted, arena, &changed, error);
    if (r < 0)
        return r;
    cloud_close(*cloud);
    *cloud = changed;
    return 0;
}

/* Machines that exist already may be unfit in many ways: all are told at once, before anything is made. */
int cli_cloud_check(const struct config *config, struct kp_arena *arena, struct kp_error *error)
{
    struct external_problem *problems = NULL;
    size_t count = 0;
    if (config->external.n_machines == 0)
        return 0;
    int r = external_check_all(external_machines(config, arena), arena, &problems, &count, error);
    if (r < 0 || count == 0)
        return r;
    fprintf(stderr, "%-16s %s\n", "MACHINE", "PROBLEM");
    for (size_t i = 0; i < count; i++)
        fprintf(stderr, "%-16s %s\n", problems[i].address, problems[i].problem);
    return kp_fail(error, KP_EINVALID, "nothing was made: %zu problem%s with the machines", count, count == 1 ? "" : "s");
}

int cli_cluster_open(const char *name, struct kp_arena *arena, struct state_cluster *ret_cluster,
                     struct cloud **ret_cloud, struct kp_error *error)
{
    int r = state_read(name, arena, ret_cluster, error);
    return r < 0 ? r : cli_cloud_open(&ret_cluster->config, arena, ret_cloud, error);
}

int cli_find_machine(struct cloud *cloud, const struct state_cluster *cluster, const char *word, struct kp_arena *arena,
                     struct cloud_machine *ret, struct kp_error *error)
{
    struct kp_error first = {0};
    int r = cloud_machine_get(cloud, cluster->uid, word, arena, ret, &first);
    if (r == KP_ENOTFOUND) {
        const char *full = kp_arena_printf(arena, "%s-%s", cluster->name, word);
        r = cloud_machine_get(cloud, cluster->uid, full, arena, ret, error);
    } else if (r < 0) {
        return kp_fail(error, r, "%s", first.message);
    }
    if (r == KP_ENOTFOUND)
        return kp_fail(error, KP_ENOTFOUND, "cluster %s has no node \"%s\": see kprov get nodes --cluster %s",
                       cluster->name, word, cluster->name);
    return r;
}

/* The last max bytes of a file in memory. */
static int read_tail(int fd, size_t max, struct kp_buf *out, struct kp_error *error)
{
    off_t size = lseek(fd, 0, SEEK_END);
    off_t from = size > (off_t)max ? size - (off_t)max : 0;
    while (size > from) {
        char chunk[65536];
        ssize_t n = pread(fd, chunk, (size_t)KP_MIN((off_t)sizeof(chunk), size - from), from);
        if (n <= 0)
            return kp_fail_errno(error, "read what the command wrote");
        kp_buf_append(out, chunk, (size_t)n);
        from += n;
    }
    return 0;
}

int cli_exec_output(struct cloud *cloud, const char *cluster_uid, const char *machine, const char *const *argv, size_t max,
                    struct kp_buf *out, struct kp_error *error)
{
    KP_AUTO_CLOSE int in = open("/dev/null", O_RDONLY | O_CLOEXEC);
    KP_AUTO_CLOSE int to = memfd_create("kprov-output", MFD_CLOEXEC);
    KP_AUTO_CLOSE int complaints = memfd_create("kprov-errors", MFD_CLOEXEC);
    const struct cloud_exec exec = {argv, in, to, complaints};
    KP_AUTO_BUF struct kp_buf text = {0};
    int status = 0;
    if (in < 0 || to < 0 || complaints < 0)
        return kp_fail_errno(error, "make a file in memory");
    int r = cloud_machine_exec(cloud, cluster_uid, machine, &exec, &status, error);
    if (r == 0 && status != 0) {
        r = read_tail(complaints, 512, &text, error);
        if (r == 0)
            r = kp_fail(error, KP_EIO, "%s on %s ended with %d: %.*s", argv[0], machine, status,
                        text.data ? (int)strcspn(text.data, "\n") : 0, text.data ? text.data : "");
    }
    return r < 0 ? r : read_tail(to, max, out, error);
}
