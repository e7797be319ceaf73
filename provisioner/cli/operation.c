/* The steps of an operation on a cluster. */
#include "provisioner/cli/operation_internal.h"

#define API_WAIT_MS 60000 /* when waiting is not asked for: the add-ons need an API server all the same */
#define NODES_POLL_MS 50
#define NODES_POLL_MS_MAX 1000

void cli_op_start(struct cli_operation *op, int64_t wait_ns)
{
    op->arena = kp_arena_new(0);
    op->wait_ns = wait_ns;
    cli_interrupt_catch();
    cli_progress_start(&op->progress);
    op->deadline_ms = kp_mono_ms() + wait_ns / 1000000;
}

int cli_op_run(struct cli_operation *op, const struct cli_step *steps, struct kp_error *error)
{
    int r = 0;
    for (; r == 0 && steps->name; steps++) {
        if (steps->waits && op->wait_ns == 0)
            continue;
        cli_progress_begin(&op->progress, steps->name);
        r = cli_interrupted(error);
        if (r == 0)
            r = steps->run(op, error);
        if (r == 0)
            cli_progress_done(&op->progress);
    }
    cli_progress_fail(&op->progress);
    return r;
}

void cli_op_done(struct cli_operation *op)
{
    cli_api_close(op->api);
    pki_free(op->pki);
    cloud_close(op->cloud);
    state_close(op->state);
    kp_strings_done(&op->remove);
    kp_strings_done(&op->replace);
    cli_progress_end(&op->progress);
    kp_arena_free(op->arena);
}

int cli_op_open(struct cli_operation *op, const char *name, struct kp_error *error)
{
    int r = state_open(name, false, &op->state, error);
    if (r == 0)
        r = cli_cluster_open(name, op->arena, &op->cluster, &op->cloud, error);
    if (r == 0 && op->cluster.phase != STATE_READY)
        r = kp_fail(error, KP_ECONFLICT, "cluster \"%s\" is %s: finish that first", name, state_phase_name(op->cluster.phase));
    return r;
}

/* Found by its digest, or uploaded: minutes, the first time. */
static int upload_image(struct cli_operation *op, struct kp_error *error)
{
    const char *image = op->cluster.image;
    cli_progress_tick(&op->progress, kp_arena_printf(op->arena, "%s in the cloud", image));
    int r = state_journal(op->state, "image", image, error);
    return r < 0 ? r : state_journal_end(op->state, "image", image, cloud_image_ensure(op->cloud, image, error), error);
}

int cli_op_prepare_image(struct cli_operation *op, struct kp_error *error)
{
    if (kp_empty(op->cluster.image))
        op->cluster.image = op->cluster.config.image;
    const char *version = NULL;
    if (!kp_empty(op->cluster.image) && op->cluster.phase == STATE_CREATING) {
        if (cli_image_version(op->cluster.image, op->arena, &version, error) < 0)
            return kp_wrap(error, "spec.image");
        if (!kp_streq(version, op->cluster.config.kubernetes_version))
            return kp_fail(error, KP_EINVALID, "spec.image: node image %s is of %s, but spec.kubernetesVersion is %s", op->cluster.image, version,
                           op->cluster.config.kubernetes_version);
    }
    if (kp_empty(op->cluster.image) && cli_image_ensure(op->arena, &op->cluster.image, error) < 0)
        return error->code;
    if (cloud_can(op->cloud, CLOUD_CAN_LOCAL_IMAGES))
        return 0;
    bool disk = cloud_can(op->cloud, CLOUD_BOOTS_DISKS);
    int r = disk ? 0 : cli_image_vm(op->cluster.image, op->arena, error);
    if (r == 0)
        r = upload_image(op, error);
    if (r != KP_ENOTFOUND || !disk)
        return r;
    cli_progress_tick(&op->progress, kp_arena_printf(op->arena, "%s as a disk", op->cluster.image));
    r = cli_image_disk(op->cluster.image, op->arena, error);
    return r < 0 ? r : upload_image(op, error);
}

int cli_op_prepare_pki(struct cli_operation *op, struct kp_error *error)
{
    KP_AUTO_BUF struct kp_buf text = {0};
    int r = op->pki ? 0 : state_read_file(op->cluster.name, "pki.json", &text, error);
    if (op->pki)
        return 0;
    if (r == 0)
        return pki_parse(text.data ? text.data : "", text.len, &op->pki, error);
    if (r != KP_ENOTFOUND)
        return r;
    r = pki_create(&op->pki, error);
    if (r == 0)
        r = pki_print(op->pki, &text, error);
    return r < 0 ? r : state_write_file(op->state, "pki.json", text.data, text.len, error);
}

int cli_op_prepare_network(struct cli_operation *op, struct kp_error *error)
{
    const struct cloud_network_spec spec = {
        .cluster_uid = op->cluster.uid,
        .cidr = kp_empty(op->cluster.config.network.machine_cidr) ? NULL : op->cluster.config.network.machine_cidr,
        .bridge = cli_bridge(&op->cluster.config),
        .existing = op->cluster.config.cloud.network, .external = op->cluster.config.cloud.external, .zones = op->cluster.config.cloud.zones,
        .pod_cidr = op->cluster.config.network.pod_cidr,
    };
    int r = state_journal(op->state, "network", op->cluster.uid, error);
    return r < 0 ? r : cloud_network_ensure(op->cloud, &spec, op->arena, &op->network, error);
}

/* Whether this run, or the one that it finishes, creates or starts the machine: of those that run already nothing is told. */
static bool is_made(const struct cli_operation *op, const struct plan_machine *machine)
{
    if (op->cluster.phase == STATE_CREATING)
        return true;
    for (size_t i = 0; i < op->plan.n_actions; i++)
        if (op->plan.actions[i].machine == machine)
            return op->plan.actions[i].verb == PLAN_CREATE || op->plan.actions[i].verb == PLAN_START;
    return false;
}

/* What is wanted, with addresses: certificates and etcd's peers name them before any machine runs. */
int cli_op_prepare_nodes(struct cli_operation *op, struct kp_error *error)
{
    struct cloud_machine_list observed;
    const char *uid = op->cluster.uid;
    int r = cloud_machine_list(op->cloud, uid, op->arena, &observed, error);
    if (r == 0)
        r = plan_make(&op->cluster.config, &observed, &op->remove, op->arena, &op->plan, error);
    if (r < 0)
        return r;
    struct bootstrap_node *nodes = KP_NEW_ARRAY(op->arena, struct bootstrap_node, op->plan.n_machines);
    for (size_t i = 0; r == 0 && i < op->plan.n_machines; i++) {
        const struct plan_machine *machine = &op->plan.machines[i];
        nodes[i] = (struct bootstrap_node){
            .name = machine->name,
            .gateway = op->network.gateway,
            .prefix_len = op->network.prefix_len,
            .nameservers = op->network.nameservers,
            .control_plane = kp_streq(machine->role, "control-plane"),
            .pool = machine->pool,
            .provider_id = cloud_can(op->cloud, CLOUD_HAS_NODE_FACTS) ? "" : kp_arena_printf(op->arena, "%s://%s/%s", cloud_name(op->cloud), uid, machine->name),
            .dhcp = cloud_can(op->cloud, CLOUD_HAS_METADATA),
        };
        if (is_made(op, machine))
            cli_progress_machine(&op->progress, machine->name, CLI_PHASE_RESERVE);
        r = cloud_address_reserve(op->cloud, uid, machine->name, op->arena, &nodes[i].address, error);
    }
    if (r == 0)
        r = cli_op_prepare_endpoint(op, error);
    if (r == 0)
        r = remote_keys_ensure(op->state, op->cluster.name, &op->ssh, error);
    if (r < 0)
        return r;
    op->bootstrap = (struct bootstrap_cluster){
        .config = &op->cluster.config, .pki = op->pki, .endpoint = op->endpoint.url, .api_address = op->endpoint.address, .api_names = op->endpoint.names,
        .machine_cidr = op->network.cidr, .uid = uid, .ssh = op->cluster.config.external.n_machines ? NULL : &op->ssh, .nodes = nodes,
        .n_nodes = op->plan.n_machines,
    };
    r = cli_op_prepare_cloud(op, error);
    if (r < 0)
        return r;
    return state_write(op->state, &op->cluster, error);
}

int cli_op_open_api(struct cli_operation *op, struct kp_error *error)
{
    const char *path = NULL;
    int r = op->api ? 0 : cli_state_path(op->cluster.name, "admin.conf", op->arena, &path, error);
    return r < 0 || op->api ? r : cli_api_open(path, &op->api, error);
}

int cli_op_wait_api(struct cli_operation *op, struct kp_error *error)
{
    int r = cli_op_open_api(op, error);
    int64_t deadline_ms = op->wait_ns ? op->deadline_ms : kp_mono_ms() + API_WAIT_MS;
    return r < 0 ? r : cli_api_wait(op->api, deadline_ms, &op->progress, error);
}

/* Applying is repeatable, and an API that has just begun to answer may stop for a moment, or move with its address. */
int cli_op_apply_addons(struct cli_operation *op, struct kp_error *error)
{
    const char *documents = bootstrap_addons(&op->bootstrap, op->arena);
    int64_t deadline_ms = KP_MAX(op->wait_ns ? op->deadline_ms : 0, kp_mono_ms() + API_WAIT_MS);
    for (;;) {
        struct kp_error failure = {0};
        int r = cli_api_apply(op->api, documents, &failure);
        if (r < 0)
            *error = failure;
        if (!cli_api_may_pass(r) || kp_mono_ms() > deadline_ms)
            return r;
        cli_progress_tick(&op->progress, failure.message);
        if (cli_interrupted(error) < 0)
            return error->code;
        kp_sleep_ms(NODES_POLL_MS);
    }
}

int cli_op_mark_control_planes(struct cli_operation *op, struct kp_error *error)
{
    int64_t deadline_ms = op->wait_ns ? op->deadline_ms : kp_mono_ms() + API_WAIT_MS;
    int r = 0;
    for (size_t i = 0; r == 0 && i < op->plan.n_machines; i++)
        if (kp_streq(op->plan.machines[i].role, "control-plane") && cli_op_in_scope(op, op->plan.machines[i].name))
            r = cli_api_mark_control_plane(op->api, op->plan.machines[i].name, deadline_ms, error);
    /* Of a cluster that was at work before: those that have joined are led to from here on, and those that go no more. */
    return r < 0 || op->cluster.phase != STATE_READY ? r : cli_op_balance_api(op, error);
}

/* The names of wanted nodes that are not Ready, or "". */
static const char *not_ready(struct cli_operation *op, const struct kp_string_map *readiness, struct kp_arena *arena)
{
    KP_AUTO_BUF struct kp_buf names = {0};
    for (size_t i = 0; i < op->plan.n_machines; i++) {
        const char *ready = kp_string_map_get(readiness, op->plan.machines[i].name);
        if (ready && is_made(op, &op->plan.machines[i]))
            cli_progress_machine(&op->progress, op->plan.machines[i].name, kp_streq(ready, "True") ? CLI_PHASE_READY : CLI_PHASE_KUBELET);
        if (!kp_streq(ready, "True") && cli_op_in_scope(op, op->plan.machines[i].name))
            kp_buf_printf(&names, "%s%s%s", names.len ? ", " : "", op->plan.machines[i].name,
                          ready ? "" : " (not registered)");
    }
    return names.len ? kp_arena_strndup(arena, names.data, names.len) : "";
}

int cli_op_wait_nodes(struct cli_operation *op, struct kp_error *error)
{
    int64_t began_ms = kp_mono_ms();
    for (;;) {
        KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
        struct kp_string_map readiness = {0};
        int r = cli_api_node_readiness(op->api, arena, &readiness, error);
        const char *missing = r == 0 ? not_ready(op, &readiness, arena) : error->message;
        if (r == 0 && !*missing)
            return 0;
        r = cli_interrupted(error);
        if (r < 0)
            return r;
        if (kp_mono_ms() > op->deadline_ms)
            return kp_fail(error, KP_ETIMEOUT, "not ready in time: %s; see kprov logs %s NODE kubelet", missing,
                           op->cluster.name);
        cli_progress_tick(&op->progress, missing);
        kp_rest(&began_ms, NODES_POLL_MS, NODES_POLL_MS_MAX);
    }
}

int cli_op_finish(struct cli_operation *op, struct kp_error *error)
{
    op->cluster.phase = STATE_READY;
    return state_write(op->state, &op->cluster, error);
}

