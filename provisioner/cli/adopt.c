/* kprov adopt: takes over a cluster that is in the cloud and not in this state folder: its config and keys are read off its machines. */
#include <fcntl.h>
#include <unistd.h>

#include "provisioner/cli/adopt_internal.h"

struct adopt_options {
    const char *uid, *file, *provider, *uri, *kubeconfig;
    bool dry_run;
    enum cli_output output;
};
struct adopt {
    const struct adopt_options *options;
    struct kp_arena *arena;
    struct cloud *cloud;
    struct state *state;
    struct pki *pki;
    struct cloud_machine_list machines;
    struct state_cluster cluster;
    struct config account; /* of the cloud, as file or flags say */
    bool known; /* it was adopted before */
};

static int open_cloud(struct adopt *a, struct kp_error *error)
{
    const struct adopt_options *options = a->options;
    int r = 0;
    config_default("adopt", 1, 0, a->arena, &a->account);
    if (options->file)
        r = config_load(options->file, a->arena, &a->account, error);
    if (options->provider)
        a->account.provider = options->provider;
    if (options->uri)
        a->account.libvirt.uri = options->uri;
    if (r == 0)
        r = cli_cloud_open(&a->account, a->arena, &a->cloud, error);
    if (r == 0 && !cloud_can(a->cloud, CLOUD_CAN_EXEC))
        r = kp_fail(error, KP_ENOTSUPPORTED, "provider %s runs no commands in machines, so that a cluster's keys cannot be read there: kprov gc --cluster-uid %s removes it",
                    a->account.provider, options->uid);
    return r;
}

/* The name may be nobody else's here. *ret_known: it is this cluster's, adopted before. */
static int check_unknown(struct adopt *a, const char *name, bool *ret_known, struct kp_error *error)
{
    struct kp_strings names = {0};
    int r = state_list(&names, error);
    for (size_t i = 0; r == 0 && i < names.len; i++) {
        struct state_cluster known;
        r = state_read(names.items[i], a->arena, &known, error);
        if (r == KP_ENOTFOUND)
            r = 0;
        else if (r == 0 && kp_streq(known.uid, a->options->uid))
            *ret_known = true;
        else if (r == 0 && kp_streq(known.name, name))
            r = kp_fail(error, KP_EEXISTS, "cluster \"%s\" (%s) is in this state folder already", known.name, known.uid);
    }
    kp_strings_done(&names);
    return r;
}

static const struct cloud_machine *find_running(const struct adopt *a, const char *role, const char *pool)
{
    for (size_t i = 0; i < a->machines.len; i++) {
        const struct cloud_machine *machine = &a->machines.items[i];
        if (machine->power == CLOUD_POWER_ON && kp_streq(machine->role, role) && (!pool || kp_streq(machine->pool, pool)))
            return machine;
    }
    return NULL;
}

static int run(struct adopt *a, const struct cloud_machine *machine, const char *script, struct kp_buf *out, struct kp_error *error)
{
    const char *const argv[] = {"sh", "-c", script, NULL};
    int r = cli_exec_output(a->cloud, a->options->uid, machine->name, argv, ADOPT_TEXT_MAX, out, error);
    return r < 0 ? kp_wrap(error, "machine %s", machine->name) : 0;
}

static int read_control_plane(struct adopt *a, struct kp_error *error)
{
    const struct cloud_machine *machine = find_running(a, "control-plane", NULL);
    KP_AUTO_BUF struct kp_buf script = {0}, text = {0};
    struct kp_string_map files = {0};
    if (!machine)
        return kp_fail(error, KP_EUNAVAILABLE, "none of its control planes is on: its keys are read there");
    for (const char *const *path = adopt_paths; *path; path++)
        kp_buf_printf(&script, "printf '%%s ' %s; base64 -w0 <%s; echo; ", *path, *path);
    kp_buf_puts(&script, "[ ! -e " BOOTSTRAP_AUDIT_POLICY " ] || { printf '%s ' " BOOTSTRAP_AUDIT_POLICY "; base64 -w0 <" BOOTSTRAP_AUDIT_POLICY "; echo; }");
    int r = run(a, machine, script.data, &text, error);
    if (r == 0)
        r = adopt_files(text.data ? text.data : "", a->arena, &files, error);
    if (r == 0)
        r = adopt_network(&files, a->arena, &a->cluster.config, error);
    if (r == 0)
        r = adopt_audit(&files, a->arena, &a->cluster.config, error);
    if (r == 0)
        r = adopt_pki(&files, a->arena, &a->pki, error);
    const char *server = r == 0 ? adopt_server(kp_string_map_get(&files, ADOPT_ADMIN), a->arena) : NULL;
    if (r == 0 && !server)
        return kp_fail(error, KP_ECORRUPT, "machine %s: %s names no server", machine->name, ADOPT_ADMIN);
    a->cluster.endpoint = server;
    a->cluster.image = machine->image;
    return r < 0 ? r : cli_image_version(machine->image, a->arena, &a->cluster.config.kubernetes_version, error);
}

/* Of a pool none of whose machines is on nobody can tell; the next kprov apply brings what its file says. */
static int read_pools(struct adopt *a, struct kp_error *error)
{
    static const char script[] = "for p in /proc/[0-9]*; do case $(readlink \"$p/exe\") in */kubelet) tr '\\0' '\\n' <\"$p/cmdline\"; exit 0 ;; esac; done";
    for (size_t i = 0; i < a->cluster.config.n_pools; i++) {
        struct config_pool *pool = &a->cluster.config.pools[i];
        const struct cloud_machine *machine = find_running(a, "worker", pool->name);
        KP_AUTO_BUF struct kp_buf text = {0};
        if (!machine)
            fprintf(stderr, "kprov: no machine of pool %s is on: its labels and taints are not known\n", pool->name);
        int r = machine ? run(a, machine, script, &text, error) : 0;
        if (r == 0 && machine)
            r = adopt_pool(text.data ? text.data : "", a->arena, pool, error);
        if (r < 0)
            return r;
    }
    return 0;
}

static int look(struct adopt *a, struct kp_error *error)
{
    const char *name = NULL, *uid = a->options->uid;
    int r = open_cloud(a, error);
    if (r == 0)
        r = cloud_machine_list(a->cloud, uid, a->arena, &a->machines, error);
    if (r == 0 && a->machines.len == 0)
        r = kp_fail(error, KP_ENOTFOUND, "provider %s has no machine of cluster %s: kprov gc lists the clusters that are there", a->account.provider, uid);
    if (r == 0)
        r = adopt_name(&a->machines, a->arena, &name, error);
    if (r == 0)
        r = check_unknown(a, name, &a->known, error);
    if (r < 0)
        return r;
    a->cluster = (struct state_cluster){.uid = uid, .name = name, .phase = STATE_READY, .created_s = a->machines.items[0].created_s};
    r = adopt_config(&a->machines, name, a->account.provider, a->arena, &a->cluster.config, error);
    a->cluster.config.cloud = a->account.cloud;
    a->cluster.config.libvirt = a->account.libvirt;
    if (r == 0)
        r = read_control_plane(a, error);
    if (r == 0)
        r = read_pools(a, error);
    return r < 0 ? r : config_validate(&a->cluster.config, error);
}

/* The cluster's own file is last: without it there is no cluster here, and the same command begins anew. */
static int take_over(struct adopt *a, struct kp_error *error)
{
    KP_AUTO_BUF struct kp_buf keys = {0};
    const char *context = kp_arena_printf(a->arena, "kprov-%s", a->cluster.name), *text = NULL, *path = a->options->kubeconfig;
    int r = pki_print(a->pki, &keys, error);
    if (r == 0)
        r = kubeconfig_make(a->pki, context, a->cluster.endpoint, context, "kubernetes-admin", "system:masters", a->arena, &text, error);
    if (r == 0 && !path)
        r = cli_default_kubeconfig(a->arena, &path, error);
    if (r == 0)
        r = state_open(a->cluster.name, true, &a->state, error);
    if (r == 0)
        r = state_write_file(a->state, "pki.json", keys.data, keys.len, error);
    if (r == 0)
        r = state_write_file(a->state, "admin.conf", text, strlen(text), error);
    if (r == 0)
        r = state_write_file(a->state, "kubeconfig-path", path, strlen(path), error);
    if (r == 0)
        r = kubeconfig_merge(path, context, text, error);
    return r < 0 ? r : state_write(a->state, &a->cluster, error);
}

static int adopt(const struct adopt_options *options, struct kp_error *error)
{
    struct adopt a = {.options = options, .arena = kp_arena_new(0)};
    int r = look(&a, error);
    if (r == 0 && !options->dry_run && !a.known)
        r = take_over(&a, error);
    if (r == 0)
        cli_print_value(config_to_value(&a.cluster.config, a.arena), options->output == CLI_TABLE ? CLI_YAML : options->output);
    fflush(stdout);
    if (r == 0 && a.known)
        fprintf(stderr, "Cluster %s is in this state folder already\n", a.cluster.name);
    else if (r == 0)
        fprintf(stderr, options->dry_run ? "Cluster %s can be adopted\n" : "Cluster %s is adopted; flags in spec.componentArgs are not known here\n", a.cluster.name);
    pki_free(a.pki);
    cloud_close(a.cloud);
    state_close(a.state);
    kp_arena_free(a.arena);
    return r < 0 ? kp_wrap(error, "adopt %s", options->uid) : 0;
}

int cli_adopt(int argc, char **argv, struct kp_error *error)
{
    struct adopt_options options = {0};
    const char *output = "table";
    bool help = false;
    const struct kp_flag flags[] = {
        {"file", 'f', KP_FLAG_STRING, &options.file, "cluster file: the cloud and the account that it names", NULL},
        {"provider", 0, KP_FLAG_STRING, &options.provider, "the cloud, with the account that the environment names (local)", NULL},
        {"uri", 0, KP_FLAG_STRING, &options.uri, "of provider libvirt", NULL},
        {"kubeconfig", 0, KP_FLAG_STRING, &options.kubeconfig, "file to write the context into ($KUBECONFIG, or ~/.kube/config)", NULL},
        {"dry-run", 0, KP_FLAG_BOOL, &options.dry_run, "only read the cluster, and print its file", NULL},
        {"output", 'o', KP_FLAG_STRING, &output, "yaml or json: how its file is printed", NULL},
        {0},
    };
    struct kp_strings rest = {0};
    int r = cli_parse("adopt", flags, argc, argv, &rest, &help, error);
    if (r == 0 && !help)
        r = cli_want_words("adopt", &rest, 1, 1, error);
    if (r == 0 && !help)
        r = cli_output_parse(output, &options.output, error);
    if (r == 0 && !help && options.file && options.provider)
        r = kp_fail(error, KP_EUSAGE, "--provider is in the file already");
    if (r == 0 && !help) {
        options.uid = rest.items[0];
        r = adopt(&options, error);
    }
    kp_strings_done(&rest);
    return r;
}
