/* kprov create cluster: from a config to Ready nodes. Every step finds what an interrupted run left and goes on from there. */
#include "provisioner/bootstrap/bootstrap.h"
#include "provisioner/cli/cli.h"
#include "provisioner/plan/plan.h"

#define API_WAIT_MS 60000 /* when --wait is 0: the add-ons need an API server all the same */
#define NODES_POLL_MS 50
#define DEFAULT_NAME "kprov"

struct create_options {
    const char *name, *file, *provider, *kubeconfig, *output;
    int64_t control_planes, workers; /* -1: not given */
    int64_t wait_ns;
};
struct create {
    const struct create_options *options;
    struct kp_arena *arena;
    struct state *state;
    struct cloud *cloud;
    struct pki *pki;
    struct cli_api *api;
    struct state_cluster cluster;
    struct cloud_network network;
    struct plan plan;
    struct bootstrap_cluster bootstrap;
    struct cli_progress progress;
    int64_t deadline_ms; /* of waiting */
};

static int wanted_config(const struct create_options *options, struct kp_arena *arena, struct config *ret,
                         struct kp_error *error)
{
    bool counts = options->control_planes >= 0 || options->workers >= 0 || options->provider;
    if (options->file && counts)
        return kp_fail(error, KP_EUSAGE, "--provider, --control-planes and --workers are in the file already");
    if (options->file) {
        int r = config_load(options->file, arena, ret, error);
        if (r == 0 && options->name && !kp_streq(options->name, ret->name))
            r = kp_fail(error, KP_EUSAGE, "the file describes cluster \"%s\", not \"%s\"", ret->name, options->name);
        return r;
    }
    config_default(options->name ? options->name : DEFAULT_NAME,
                   options->control_planes >= 0 ? options->control_planes : 1, options->workers >= 0 ? options->workers : 0,
                   arena, ret);
    if (options->provider)
        ret->provider = options->provider;
    return config_validate(ret, error);
}

/* A cluster that was begun is finished as it was begun: another config would be a change, not a creation. */
static int resume(struct create *create, const struct config *config, struct kp_error *error)
{
    const char *name = create->cluster.name;
    if (create->cluster.phase == STATE_READY)
        return kp_fail(error, KP_EEXISTS, "cluster \"%s\" exists already", name);
    if (create->cluster.phase == STATE_DELETING)
        return kp_fail(error, KP_ECONFLICT, "cluster \"%s\" is being deleted: finish with kprov delete cluster %s", name, name);
    if (!kp_value_equal(config_to_value(config, create->arena), config_to_value(&create->cluster.config, create->arena)))
        return kp_fail(error, KP_ECONFLICT,
                       "the creation of cluster \"%s\" was begun with another config: finish it with that one, or delete it first",
                       name);
    fprintf(stderr, "Finishing the interrupted creation of cluster %s\n", name);
    return 0;
}

static int open_state(struct create *create, struct kp_error *error)
{
    const struct cloud_options options = {.image_dir = getenv("KPROV_IMAGE_DIR"), .state_dir = getenv("KPROV_LOCAL_DIR")};
    struct config config;
    int r = wanted_config(create->options, create->arena, &config, error);
    if (r == 0) /* before anything is written: the cloud may not be ours to use */
        r = cloud_open(config.provider, &options, &create->cloud, error);
    if (r == 0)
        r = state_open(config.name, true, &create->state, error);
    if (r < 0)
        return r;
    r = state_read(config.name, create->arena, &create->cluster, error);
    if (r == 0)
        return resume(create, &config, error);
    if (r != KP_ENOTFOUND)
        return r;
    char uid[37];
    kp_uuid4(uid);
    create->cluster = (struct state_cluster){
        .uid = kp_arena_strdup(create->arena, uid), .name = config.name, .image = "", .endpoint = "",
        .phase = STATE_CREATING, .created_s = kp_now_s(), .config = config,
    };
    return state_write(create->state, &create->cluster, error);
}

static int prepare_image(struct create *create, struct kp_error *error)
{
    if (!kp_empty(create->cluster.image))
        return 0;
    return cli_image_ensure(create->arena, &create->cluster.image, error);
}

static int prepare_pki(struct create *create, struct kp_error *error)
{
    KP_AUTO_BUF struct kp_buf text = {0};
    int r = state_read_file(create->cluster.name, "pki.json", &text, error);
    if (r == 0)
        return pki_parse(text.data ? text.data : "", text.len, &create->pki, error);
    if (r != KP_ENOTFOUND)
        return r;
    r = pki_create(&create->pki, error);
    if (r == 0)
        r = pki_print(create->pki, &text, error);
    return r < 0 ? r : state_write_file(create->state, "pki.json", text.data, text.len, error);
}

static int prepare_network(struct create *create, struct kp_error *error)
{
    const struct cloud_network_spec spec = {.cluster_uid = create->cluster.uid};
    int r = state_journal(create->state, "network", create->cluster.uid, error);
    return r < 0 ? r : cloud_network_ensure(create->cloud, &spec, create->arena, &create->network, error);
}

/* What is wanted, with addresses: certificates and etcd's peers name them before any machine runs. */
static int prepare_nodes(struct create *create, struct kp_error *error)
{
    struct cloud_machine_list observed;
    const char *uid = create->cluster.uid;
    int r = cloud_machine_list(create->cloud, uid, create->arena, &observed, error);
    if (r == 0)
        r = plan_make(&create->cluster.config, &observed, create->arena, &create->plan, error);
    if (r < 0)
        return r;
    struct bootstrap_node *nodes = KP_NEW_ARRAY(create->arena, struct bootstrap_node, create->plan.n_machines);
    for (size_t i = 0; r == 0 && i < create->plan.n_machines; i++) {
        const struct plan_machine *machine = &create->plan.machines[i];
        nodes[i] = (struct bootstrap_node){
            .name = machine->name,
            .gateway = create->network.gateway,
            .prefix_len = create->network.prefix_len,
            .nameservers = create->network.nameservers,
            .control_plane = kp_streq(machine->role, "control-plane"),
            .pool = machine->pool,
            .provider_id = kp_arena_printf(create->arena, "%s://%s/%s", cloud_name(create->cloud), uid, machine->name),
        };
        r = cloud_address_reserve(create->cloud, uid, machine->name, create->arena, &nodes[i].address, error);
    }
    /* Of no machine: it stays when control planes come and go. */
    const char *api_name = kp_arena_printf(create->arena, "%s-api", create->cluster.name), *api_address = NULL;
    if (r == 0)
        r = cloud_address_reserve(create->cloud, uid, api_name, create->arena, &api_address, error);
    if (r < 0)
        return r;
    create->cluster.endpoint = kp_arena_printf(create->arena, "https://%s:%d", api_address, BOOTSTRAP_API_PORT);
    create->bootstrap = (struct bootstrap_cluster){
        .config = &create->cluster.config, .pki = create->pki, .endpoint = create->cluster.endpoint,
        .api_address = api_address, .uid = uid,
        .nodes = nodes, .n_nodes = create->plan.n_machines,
    };
    return state_write(create->state, &create->cluster, error);
}

static int create_machine(struct create *create, const struct plan_machine *machine, struct kp_error *error)
{
    KP_AUTO_BUF struct kp_buf user_data = {0};
    struct cloud_machine made;
    const struct bootstrap_node *node = &create->bootstrap.nodes[machine - create->plan.machines];
    int r = bootstrap_user_data(&create->bootstrap, node, &user_data, error);
    if (r == 0)
        r = state_journal(create->state, "machine", machine->name, error);
    if (r < 0)
        return r;
    const struct cloud_machine_spec spec = {
        .cluster_uid = create->cluster.uid, .name = machine->name, .role = machine->role,
        .pool = machine->pool ? machine->pool->name : "", .machine_type = machine->machine_type,
        .image = create->cluster.image, .address = node->address,
        .user_data = user_data.data, .user_data_len = user_data.len,
    };
    return cloud_machine_create(create->cloud, &spec, create->arena, &made, error);
}

static int run_plan(struct create *create, struct kp_error *error)
{
    int r = 0;
    for (size_t i = 0; r == 0 && i < create->plan.n_actions; i++) {
        const struct plan_action *action = &create->plan.actions[i];
        cli_progress_tick(&create->progress, action->name);
        switch (action->verb) {
        case PLAN_CREATE:
            r = create_machine(create, action->machine, error);
            break;
        case PLAN_START:
            r = cloud_machine_power(create->cloud, create->cluster.uid, action->name, CLOUD_POWER_START, error);
            break;
        case PLAN_DELETE:
            r = cloud_machine_delete(create->cloud, create->cluster.uid, action->name, error);
            break;
        case PLAN_KEEP:
            break;
        }
    }
    return r;
}

static int write_kubeconfig(struct create *create, struct kp_error *error)
{
    const char *name = create->cluster.name, *text = NULL, *path = create->options->kubeconfig;
    const char *context = kp_arena_printf(create->arena, "kprov-%s", name);
    int r = kubeconfig_make(create->pki, context, create->cluster.endpoint, context, "kubernetes-admin", "system:masters",
                            create->arena, &text, error);
    if (r == 0)
        r = state_write_file(create->state, "admin.conf", text, strlen(text), error);
    if (r == 0 && !path)
        r = cli_default_kubeconfig(create->arena, &path, error);
    if (r == 0)
        r = state_write_file(create->state, "kubeconfig-path", path, strlen(path), error);
    return r < 0 ? r : kubeconfig_merge(path, context, text, error);
}

static int wait_api(struct create *create, struct kp_error *error)
{
    const char *path = NULL;
    int r = cli_state_path(create->cluster.name, "admin.conf", create->arena, &path, error);
    if (r == 0)
        r = cli_api_open(path, &create->api, error);
    int64_t deadline_ms = create->options->wait_ns ? create->deadline_ms : kp_mono_ms() + API_WAIT_MS;
    return r < 0 ? r : cli_api_wait(create->api, deadline_ms, &create->progress, error);
}

static int apply_addons(struct create *create, struct kp_error *error)
{
    return cli_api_apply(create->api, bootstrap_addons(&create->bootstrap, create->arena), error);
}

static int mark_control_planes(struct create *create, struct kp_error *error)
{
    int64_t deadline_ms = create->options->wait_ns ? create->deadline_ms : kp_mono_ms() + API_WAIT_MS;
    int r = 0;
    for (size_t i = 0; r == 0 && i < create->plan.n_machines; i++)
        if (kp_streq(create->plan.machines[i].role, "control-plane"))
            r = cli_api_mark_control_plane(create->api, create->plan.machines[i].name, deadline_ms, error);
    return r;
}

/* The names of wanted nodes that are not Ready, or "". */
static const char *not_ready(struct create *create, const struct kp_string_map *readiness, struct kp_arena *arena)
{
    KP_AUTO_BUF struct kp_buf names = {0};
    for (size_t i = 0; i < create->plan.n_machines; i++) {
        const char *ready = kp_string_map_get(readiness, create->plan.machines[i].name);
        if (!kp_streq(ready, "True"))
            kp_buf_printf(&names, "%s%s%s", names.len ? ", " : "", create->plan.machines[i].name,
                          ready ? "" : " (not registered)");
    }
    return names.len ? kp_arena_strndup(arena, names.data, names.len) : "";
}

static int wait_nodes(struct create *create, struct kp_error *error)
{
    for (;;) {
        KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
        struct kp_string_map readiness = {0};
        int r = cli_api_node_readiness(create->api, arena, &readiness, error);
        const char *missing = r == 0 ? not_ready(create, &readiness, arena) : error->message;
        if (r == 0 && !*missing)
            return 0;
        if (kp_mono_ms() > create->deadline_ms)
            return kp_fail(error, KP_ETIMEOUT, "not ready in time: %s; see kprov logs %s NODE kubelet", missing,
                           create->cluster.name);
        cli_progress_tick(&create->progress, missing);
        kp_sleep_ms(NODES_POLL_MS);
    }
}

static int finish(struct create *create, struct kp_error *error)
{
    create->cluster.phase = STATE_READY;
    return state_write(create->state, &create->cluster, error);
}

static const struct {
    const char *name;
    int (*run)(struct create *create, struct kp_error *error);
    bool waits; /* left out when --wait is 0 */
} steps[] = {
    {"Node image", prepare_image, false},       {"Certificates", prepare_pki, false},
    {"Network", prepare_network, false},        {"Plan", prepare_nodes, false},
    {"Machines", run_plan, false},              {"Kubeconfig", write_kubeconfig, false},
    {"API server answers", wait_api, false},    {"Add-ons applied", apply_addons, false},
    {"Node roles", mark_control_planes, false}, {"All nodes Ready", wait_nodes, true},
    {"State", finish, false},
};

static void print_result(struct create *create, enum cli_output output)
{
    struct kp_arena *arena = create->arena;
    struct kp_value *root = kp_value_object(arena), *nodes = kp_value_array(arena), *list = kp_value_array(arena);
    double total = (double)(kp_mono_ms() - create->progress.start_ms) / 1000.0;
    if (output == CLI_TABLE) {
        fprintf(stderr, "Cluster %s is ready after %.1fs: kubectl --context kprov-%s get nodes\n", create->cluster.name,
                total, create->cluster.name);
        return;
    }
    kp_value_set(arena, root, "name", kp_value_string(arena, create->cluster.name));
    kp_value_set(arena, root, "uid", kp_value_string(arena, create->cluster.uid));
    kp_value_set(arena, root, "endpoint", kp_value_string(arena, create->cluster.endpoint));
    kp_value_set(arena, root, "image", kp_value_string(arena, create->cluster.image));
    kp_value_set(arena, root, "seconds", kp_value_double(arena, total));
    for (size_t i = 0; i < create->bootstrap.n_nodes; i++) {
        struct kp_value *node = kp_value_object(arena);
        kp_value_set(arena, node, "name", kp_value_string(arena, create->bootstrap.nodes[i].name));
        kp_value_set(arena, node, "address", kp_value_string(arena, create->bootstrap.nodes[i].address));
        kp_value_append(arena, nodes, node);
    }
    for (size_t i = 0; i < create->progress.n_steps; i++) {
        struct kp_value *step = kp_value_object(arena);
        kp_value_set(arena, step, "name", kp_value_string(arena, create->progress.steps[i].name));
        kp_value_set(arena, step, "seconds", kp_value_double(arena, (double)create->progress.steps[i].took_ms / 1000.0));
        kp_value_append(arena, list, step);
    }
    kp_value_set(arena, root, "nodes", nodes);
    kp_value_set(arena, root, "steps", list);
    cli_print_value(root, output);
}

static int create_cluster(const struct create_options *options, enum cli_output output, struct kp_error *error)
{
    struct create create = {.options = options, .arena = kp_arena_new(0)};
    cli_progress_start(&create.progress);
    create.deadline_ms = kp_mono_ms() + options->wait_ns / 1000000;
    int r = open_state(&create, error);
    for (size_t i = 0; r == 0 && i < KP_ARRAY_LEN(steps); i++) {
        if (steps[i].waits && options->wait_ns == 0)
            continue;
        cli_progress_begin(&create.progress, steps[i].name);
        r = steps[i].run(&create, error);
        if (r == 0)
            cli_progress_done(&create.progress);
    }
    cli_progress_fail(&create.progress);
    if (r == 0)
        print_result(&create, output);
    cli_api_close(create.api);
    pki_free(create.pki);
    cloud_close(create.cloud);
    state_close(create.state);
    kp_arena_free(create.arena);
    return r;
}

int cli_create_cluster(int argc, char **argv, struct kp_error *error)
{
    struct create_options options = {.output = "table", .control_planes = -1, .workers = -1, .wait_ns = 300000000000};
    enum cli_output output;
    bool help = false;
    const struct kp_flag flags[] = {
        {"file", 'f', KP_FLAG_STRING, &options.file, "cluster file (" CONFIG_API_VERSION ")", NULL},
        {"provider", 0, KP_FLAG_STRING, &options.provider, "where machines come from (local)", NULL},
        {"control-planes", 0, KP_FLAG_I64, &options.control_planes, "control-plane machines (1)", NULL},
        {"workers", 0, KP_FLAG_I64, &options.workers, "worker machines (0)", NULL},
        {"wait", 0, KP_FLAG_DURATION, &options.wait_ns, "how long to wait for all nodes to be Ready (5m); 0: not at all", NULL},
        {"kubeconfig", 0, KP_FLAG_STRING, &options.kubeconfig, "file to write the context into (~/.kube/config)", NULL},
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
