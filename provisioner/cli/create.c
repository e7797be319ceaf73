/* kprov create cluster: from a config to Ready nodes. Every step finds what an interrupted run left and goes on from there. */
#include "provisioner/cli/snapshot_internal.h"

#define DEFAULT_NAME "kprov"

#define NOT_GIVEN INT64_MIN

struct create_options {
    const char *name, *file, *provider, *kubeconfig, *output;
    const char *from_snapshot; /* a file, or NULL */
    const char *image;         /* likewise */
    const char *uri;           /* likewise */
    const char *machine;       /* likewise */
    int64_t control_planes, workers; /* NOT_GIVEN: not given; any other is checked */
    int64_t wait_ns;
    bool dry_run;
};
struct create {
    struct cli_operation op; /* first: the steps get its address */
    const struct create_options *options;
};

static int wanted_config(const struct create_options *options, struct kp_arena *arena, struct config *ret,
                         struct kp_error *error)
{
    bool counts = options->control_planes != NOT_GIVEN || options->workers != NOT_GIVEN || options->provider || options->image || options->uri ||
                  options->machine;
    if (options->file && counts)
        return kp_fail(error, KP_EUSAGE, "--provider, --control-planes, --workers, --machine, --image and --uri are in the file already: say it there");
    if (options->file) {
        int r = config_load(options->file, arena, ret, error);
        if (r == 0 && options->name && !kp_streq(options->name, ret->name))
            r = kp_fail(error, KP_EUSAGE, "the file describes cluster \"%s\", not \"%s\"", ret->name, options->name);
        return r < 0 ? r : config_settle_version(ret, NULL, error);
    }
    config_default(options->name ? options->name : DEFAULT_NAME,
                   options->control_planes != NOT_GIVEN ? options->control_planes : 1, options->workers != NOT_GIVEN ? options->workers : 0,
                   arena, ret);
    if (options->provider)
        ret->provider = options->provider;
    if (options->image)
        ret->image = options->image;
    if (options->uri)
        ret->libvirt.uri = options->uri;
    if (options->machine)
        ret->control_plane.machine = ret->pools[0].machine = options->machine;
    return config_validate(ret, error);
}

/* A cluster that was begun is finished as it was begun: another config would be a change, not a creation. */
static int resume(struct create *create, const struct config *config, struct kp_error *error)
{
    const char *name = create->op.cluster.name;
    bool unfinished = false; /* whole but for its last word in the journal */
    if (create->op.cluster.phase == STATE_READY && cli_change_is_unfinished(name, &unfinished, error) < 0)
        return error->code;
    if (create->op.cluster.phase == STATE_READY && !unfinished)
        return kp_fail(error, KP_EEXISTS, "cluster \"%s\" exists already: give the new one another name, or delete that one with kprov delete cluster %s", name, name);
    if (create->op.cluster.phase == STATE_DELETING)
        return kp_fail(error, KP_ECONFLICT, "cluster \"%s\" is being deleted: finish with kprov delete cluster %s", name, name);
    if (!kp_value_equal(config_to_value(config, create->op.arena), config_to_value(&create->op.cluster.config, create->op.arena)))
        return kp_fail(error, KP_ECONFLICT,
                       "the creation of cluster \"%s\" was begun with another config: finish it with that one, or delete it first",
                       name);
    fprintf(stderr, "Finishing the interrupted creation of cluster %s\n", name);
    return 0;
}

/* Of an interrupted creation the copy that it made, unless the same snapshot is named again. */
static int resume_restore(struct create *create, struct kp_error *error)
{
    const char *path = create->options->from_snapshot;
    if (!cli_restore_pending(&create->op))
        return path ? kp_fail(error, KP_ECONFLICT, "the creation of cluster \"%s\" waits for no snapshot: leave --from-snapshot out, or delete the cluster first",
                              create->op.cluster.name)
                    : 0;
    int r = path ? 0 : cli_state_path(create->op.cluster.name, "restore.db", create->op.arena, &path, error);
    return r < 0 ? r : cli_restore_begin(&create->op, path, 0, error);
}

static int begin_restore(struct create *create, struct kp_error *error)
{
    int r = cli_restore_keys(&create->op, create->options->from_snapshot, error);
    return r < 0 ? r : cli_restore_begin(&create->op, create->options->from_snapshot, 0, error);
}

/* Nothing of it is there: what stands in its way, and where machines cost something what they are. */
static int check_new(struct create *create, const struct config *config, struct kp_error *error)
{
    struct kp_value *rows = NULL;
    int r = cli_preflight(config, create->op.cloud, create->op.arena, error);
    if (r == 0)
        r = cli_cloud_check(config, create->op.arena, error);
    if (r == 0)
        r = cli_cloud_check_wish(config, create->op.cloud, create->op.arena, error);
    if (r < 0 || create->options->dry_run || !cloud_can(create->op.cloud, CLOUD_HAS_METADATA))
        return r;
    r = cli_wish_rows(config, create->op.cloud, create->op.arena, &rows, error);
    if (r == 0) {
        fprintf(stderr, "Cluster %s on %s is going to be:\n", config->name, config->provider);
        cli_wish_tell(rows);
    }
    return r;
}

static int show(struct create *create, const struct config *config, struct kp_error *error)
{
    enum cli_output output = CLI_TABLE;
    struct kp_value *rows = NULL;
    int r = cli_output_parse(create->options->output, &output, error);
    if (r == 0)
        r = cli_wish_rows(config, create->op.cloud, create->op.arena, &rows, error);
    if (r == 0)
        cli_wish_print(rows, output);
    return r;
}

static int open_state(struct create *create, struct kp_error *error)
{
    struct config config;
    struct snapshot_info info;
    int r = wanted_config(create->options, create->op.arena, &config, error);
    if (r == 0 && create->options->from_snapshot)
        r = snapshot_check(create->options->from_snapshot, &info, error);
    if (r == 0) /* before anything is written: the cloud may not be ours to use */
        r = cli_cloud_open(&config, create->op.arena, &create->op.cloud, error);
    if (r == 0 && state_read(config.name, create->op.arena, &create->op.cluster, error) == KP_ENOTFOUND)
        r = check_new(create, &config, error);
    else if (r == 0 && create->options->dry_run)
        return kp_fail(error, KP_EEXISTS, "cluster \"%s\" is there: kprov plan -f FILE shows what a file would change of it", config.name);
    if (r == 0 && create->options->dry_run)
        return show(create, &config, error);
    if (r == 0)
        r = state_open(config.name, true, &create->op.state, error);
    if (r < 0)
        return r;
    r = state_read(config.name, create->op.arena, &create->op.cluster, error);
    if (r == 0) {
        r = resume(create, &config, error);
        return r < 0 ? r : resume_restore(create, error);
    }
    if (r != KP_ENOTFOUND)
        return r;
    char uid[37];
    kp_uuid4(uid);
    create->op.cluster = (struct state_cluster){
        .uid = kp_arena_strdup(create->op.arena, uid), .name = config.name, .image = "", .endpoint = "",
        .phase = STATE_CREATING, .created_s = kp_now_s(), .config = config,
    };
    r = create->options->from_snapshot ? begin_restore(create, error) : 0;
    return r < 0 ? r : state_write(create->op.state, &create->op.cluster, error);
}

static int write_kubeconfig(struct cli_operation *op, struct kp_error *error)
{
    struct create *create = KP_CONTAINER_OF(op, struct create, op);
    const char *name = create->op.cluster.name, *text = NULL, *path = create->options->kubeconfig;
    const char *context = kp_arena_printf(create->op.arena, "kprov-%s", name);
    int r = kubeconfig_make(create->op.pki, context, create->op.cluster.endpoint, context, "kubernetes-admin", "system:masters",
                            create->op.arena, &text, error);
    if (r == 0)
        r = state_write_file(create->op.state, "admin.conf", text, strlen(text), error);
    if (r == 0 && !path)
        r = cli_default_kubeconfig(create->op.arena, &path, error);
    if (r == 0)
        r = state_write_file(create->op.state, "kubeconfig-path", path, strlen(path), error);
    return r < 0 ? r : kubeconfig_merge(path, context, text, error);
}

static const struct cli_step steps[] = {
    {"Node image", cli_op_prepare_image, false},
    {"Certificates", cli_op_prepare_pki, false},
    {"Network", cli_op_prepare_network, false},
    {"Plan", cli_op_prepare_nodes, false},
    {"Machines", cli_op_make_machines, false},
    {"Kubeconfig", write_kubeconfig, false},
    {"API server answers", cli_op_wait_api, false},
    {"Add-ons applied", cli_op_apply_addons, false},
    {"Node roles", cli_op_mark_control_planes, false},
    {"All nodes Ready", cli_op_wait_nodes, true},
    {"State", cli_op_finish, false},
    {0},
};
static const struct cli_step restore_steps[] = {
    {"Node image", cli_op_prepare_image, false},
    {"Certificates", cli_op_prepare_pki, false},
    {"Network", cli_op_prepare_network, false},
    {"Plan", cli_op_prepare_nodes, false},
    {"Snapshot in user data", cli_restore_plan, false},
    {"Machines", cli_op_make_machines, false},
    {"Snapshot brought", cli_restore_bring, false},
    {"Kubeconfig", write_kubeconfig, false},
    {"API server answers", cli_op_wait_api, false},
    {"Machines of the past removed", cli_restore_reconcile, false},
    {"Add-ons applied", cli_op_apply_addons, false},
    {"Node roles", cli_op_mark_control_planes, false},
    {"All nodes Ready", cli_op_wait_nodes, true},
    {"State", cli_op_finish, false},
    {"Snapshot forgotten", cli_restore_end, false}, /* last: without what it removes the same command would not know that the snapshot is in */
    {0},
};

static void print_result(struct create *create, enum cli_output output)
{
    double total = (double)(kp_mono_ms() - create->op.progress.start_ms) / 1000.0;
    if (output == CLI_TABLE)
        fprintf(stderr, "Cluster %s is ready after %.1fs: kubectl --context kprov-%s get nodes\n", create->op.cluster.name, total,
                create->op.cluster.name);
    else
        cli_op_print_result(&create->op, NULL, output);
}

static int create_cluster(const struct create_options *options, enum cli_output output, struct kp_error *error)
{
    struct create create = {.options = options};
    cli_op_start(&create.op, options->wait_ns);
    int r = open_state(&create, error);
    if (r == 0 && !options->dry_run)
        r = cli_op_change(&create.op, create.op.restore ? restore_steps : steps, error);
    if (r == 0 && !options->dry_run)
        print_result(&create, output);
    cli_op_done(&create.op);
    return r;
}

int cli_create_from_file(const char *file, int64_t wait_ns, enum cli_output output, struct kp_error *error)
{
    const struct create_options options = {.file = file, .control_planes = NOT_GIVEN, .workers = NOT_GIVEN, .wait_ns = wait_ns};
    return create_cluster(&options, output, error);
}

int cli_create_cluster(int argc, char **argv, struct kp_error *error)
{
    struct create_options options = {.output = "table", .control_planes = NOT_GIVEN, .workers = NOT_GIVEN, .wait_ns = 300000000000};
    enum cli_output output;
    bool help = false;
    const struct kp_flag flags[] = {
        {"file", 'f', KP_FLAG_STRING, &options.file, "cluster file (" CONFIG_API_VERSION ")", NULL},
        {"provider", 0, KP_FLAG_STRING, &options.provider, "where machines come from: local, libvirt, external, openstack, aws or hetzner (local)", NULL},
        {"machine", 0, KP_FLAG_STRING, &options.machine, "type of all machines, of those that the cloud sells (its driver's default)", NULL},
        {"uri", 0, KP_FLAG_STRING, &options.uri, "of libvirt, such as qemu+ssh://root@host/system; else LIBVIRT_DEFAULT_URI, or qemu:///system", NULL},
        {"control-planes", 0, KP_FLAG_I64, &options.control_planes, "control-plane machines (1)", NULL},
        {"workers", 0, KP_FLAG_I64, &options.workers, "worker machines (0)", NULL},
        {"wait", 0, KP_FLAG_DURATION, &options.wait_ns, "how long to wait for all nodes to be Ready (5m); 0: not at all", NULL},
        {"image", 0, KP_FLAG_STRING, &options.image, "id of a node image (the one of this kprov, built when it is missing)", NULL},
        {"from-snapshot", 0, KP_FLAG_STRING, &options.from_snapshot, "file of kprov etcd snapshot save: everything that is in it, on new machines", NULL},
        {"kubeconfig", 0, KP_FLAG_STRING, &options.kubeconfig, "file to write the context into ($KUBECONFIG, or ~/.kube/config)", NULL},
        {"dry-run", 0, KP_FLAG_BOOL, &options.dry_run, "check everything and show what would be made; make nothing", NULL},
        {"output", 'o', KP_FLAG_STRING, &options.output, "json or yaml: print what was made and the steps' times", NULL},
        {0},
    };
    struct kp_strings rest = {0};
    int r = cli_parse("create cluster", flags, argc, argv, &rest, &help, error);
    if (r == 0 && !help)
        r = cli_want_words("create cluster", &rest, 0, 1, error);
    if (r == 0 && !help)
        r = cli_output_parse(options.output, &output, error);
    if (r == 0 && !help) {
        options.name = rest.len ? rest.items[0] : NULL;
        r = create_cluster(&options, output, error);
    }
    kp_strings_done(&rest);
    return r;
}
