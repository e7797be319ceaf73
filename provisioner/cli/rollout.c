/* The steps of a roll-out. A machine is emptied, given the new image, and has to be well again before the next one is touched; the
   first one that is not in time ends the run. Every step finds what an interrupted run left. */
#include "api/k8s.h"
#include "client/client.h"
#include "provisioner/cli/rollout_internal.h"
#include "provisioner/plan/rollout.h"

#define REIMAGE_INTENT "reimage-machine"
#define POLL_MS 100
#define POLL_MS_MAX 1000 /* where a look takes long */
#define API_RETRY_MS 20000
#define SETTLE_MS 60000 /* of the others, before a machine is taken down */
#define CORDON_ANNOTATION "kprov.dev/rollout" /* on nodes that the roll-out has cordoned, and so uncordons */

struct rolling {
    struct cli_rollout *rollout;
    struct cli_operation *op;
    struct cloud_machine_list machines;
    size_t *order; /* indexes of machines */
    size_t done;   /* machines that have the image and are well */
};

static bool has_image(const struct rolling *rolling, const struct cloud_machine *machine)
{
    return kp_streq(machine->image, rolling->op->cluster.image);
}

/* ---- cordon */

static int patch_node(struct cli_operation *op, const char *node, const char *body, struct kp_error *error)
{
    static const struct client_write_options options = {.field_manager = "kprov"};
    int64_t began_ms = kp_mono_ms(), deadline_ms = began_ms + API_RETRY_MS;
    for (;;) {
        int r = client_patch(cli_api_client(op->api), &k8s_nodes_resource, NULL, node, CLIENT_PATCH_MERGE, body, strlen(body), &options,
                             NULL, NULL, error);
        /* The address of the API may be moving from the machine that went to another one. */
        if (r == 0 || r == KP_ENOTFOUND || kp_mono_ms() > deadline_ms)
            return r < 0 ? kp_wrap(error, "change node %s", node) : 0;
        kp_rest(&began_ms, POLL_MS, POLL_MS_MAX);
    }
}

/* A node that somebody else cordoned stays so. */
static int cordon(struct cli_operation *op, const char *name, bool *ret_ready, struct kp_error *error)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    void *found = NULL;
    int r = client_get(cli_api_client(op->api), &k8s_nodes_resource, NULL, name, arena, &found, error);
    if (r < 0)
        return kp_wrap(error, "look at node %s", name);
    const struct k8s_node *node = found;
    *ret_ready = false;
    for (size_t i = 0; i < node->status->conditions.len; i++)
        *ret_ready |= kp_streq(node->status->conditions.items[i].type, "Ready") && kp_streq(node->status->conditions.items[i].status, "True");
    if (node->spec->unschedulable)
        return 0;
    return patch_node(op, name, "{\"metadata\":{\"annotations\":{\"" CORDON_ANNOTATION "\":\"cordoned\"}},\"spec\":{\"unschedulable\":true}}", error);
}

static int uncordon(struct cli_operation *op, const char *name, struct kp_error *error)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    void *found = NULL;
    int r = client_get(cli_api_client(op->api), &k8s_nodes_resource, NULL, name, arena, &found, error);
    if (r < 0)
        return kp_wrap(error, "look at node %s", name);
    const struct k8s_node *node = found;
    if (!kp_string_map_get(&node->metadata->annotations, CORDON_ANNOTATION))
        return 0;
    return patch_node(op, name, "{\"metadata\":{\"annotations\":{\"" CORDON_ANNOTATION "\":null}},\"spec\":{\"unschedulable\":null}}", error);
}

/* ---- waiting */

static int wait_to_take_down(struct rolling *rolling, const struct cloud_machine *machine, bool any_nodes, struct kp_error *error)
{
    char problem[CLI_GATE_TEXT_MAX];
    int64_t began_ms = kp_mono_ms(), deadline_ms = began_ms + SETTLE_MS;
    while (!cli_gate_may_take_down(rolling->op, &rolling->machines, machine, any_nodes, problem)) {
        if (kp_mono_ms() > deadline_ms)
            return kp_fail(error, KP_ECONFLICT, "%s is not taken down: %s. kprov repair %s mends machines", machine->name, problem,
                           rolling->op->cluster.name);
        cli_progress_tick(&rolling->op->progress, problem);
        if (cli_interrupted(error) < 0)
            return error->code;
        kp_rest(&began_ms, POLL_MS, POLL_MS_MAX);
    }
    return 0;
}

static int wait_until_well(struct rolling *rolling, const struct cloud_machine *machine, const struct kp_string_map *before,
                           struct kp_error *error)
{
    char problem[CLI_GATE_TEXT_MAX];
    int64_t timeout_ms = rolling->rollout->machine_timeout_ms, began_ms = kp_mono_ms(), deadline_ms = began_ms + timeout_ms;
    while (!cli_gate_passes(rolling->op, machine, before, problem)) {
        if (kp_mono_ms() > deadline_ms)
            return kp_fail(error, KP_ETIMEOUT, "%s with the new image is not well after %.0f s: %s", machine->name, (double)timeout_ms / 1000.0,
                           problem);
        cli_progress_tick(&rolling->op->progress, problem);
        if (cli_interrupted(error) < 0)
            return error->code;
        kp_rest(&began_ms, POLL_MS, POLL_MS_MAX);
    }
    return 0;
}

/* ---- one machine */

static const struct bootstrap_node *find_node(const struct cli_operation *op, const char *name)
{
    for (size_t i = 0; i < op->bootstrap.n_nodes; i++)
        if (kp_streq(op->bootstrap.nodes[i].name, name))
            return &op->bootstrap.nodes[i];
    return NULL;
}

/* Whether the API goes on without this machine. */
static bool others_serve(const struct rolling *rolling, const struct cloud_machine *machine)
{
    size_t others = 0;
    for (size_t i = 0; i < rolling->machines.len; i++)
        others += kp_streq(rolling->machines.items[i].role, "control-plane") && !kp_streq(rolling->machines.items[i].name, machine->name);
    return others > 0;
}

static int release_leases(struct cli_operation *op, const char *name, struct kp_error *error)
{
    int64_t began_ms = kp_mono_ms(), deadline_ms = began_ms + API_RETRY_MS;
    int r = cli_api_release_leases(op->api, name, error);
    for (; r < 0 && kp_mono_ms() < deadline_ms; r = cli_api_release_leases(op->api, name, error))
        kp_rest(&began_ms, POLL_MS, POLL_MS_MAX);
    return r;
}

/* To one that has restarted already, if there is: it stays. */
static int hand_over_address(struct rolling *rolling, const struct cloud_machine *machine, struct kp_error *error)
{
    struct cli_operation *op = rolling->op;
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    struct kp_string_map readiness = {0};
    const char *to = NULL;
    int r = cli_api_node_readiness(op->api, arena, &readiness, error);
    for (size_t i = 0; r == 0 && i < rolling->machines.len; i++) {
        const struct cloud_machine *other = &rolling->machines.items[rolling->order[i]];
        if (!to && kp_streq(other->role, "control-plane") && other != machine && kp_streq(kp_string_map_get(&readiness, other->name), "True"))
            to = other->name;
    }
    return r < 0 || !to ? r : cli_api_hand_over(op->api, machine->name, to, error);
}

static int reimage(struct rolling *rolling, const struct cloud_machine *machine, struct kp_error *error)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    KP_AUTO_BUF struct kp_buf user_data = {0};
    struct cli_operation *op = rolling->op;
    struct cloud_machine made;
    int r = cli_op_user_data(op, find_node(op, machine->name), &user_data, error);
    if (r == 0)
        r = state_journal(op->state, REIMAGE_INTENT, machine->name, error);
    if (r < 0)
        return r;
    const struct cloud_machine_spec spec = {
        .cluster_uid = op->cluster.uid, .name = machine->name, .role = machine->role, .pool = machine->pool,
        .machine_type = machine->machine_type, .image = op->cluster.image, .address = machine->address,
        .user_data = user_data.data, .user_data_len = user_data.len,
    };
    /* Off first: what it leads - controllers, scheduler - must not wait for its leases to run out while other nodes are drained. */
    r = cloud_machine_power(op->cloud, op->cluster.uid, machine->name, CLOUD_POWER_STOP, error);
    if (r == 0 && others_serve(rolling, machine))
        r = release_leases(op, machine->name, error);
    if (r == 0)
        r = cloud_machine_reimage(op->cloud, &spec, arena, &made, error);
    return state_journal_end(op->state, REIMAGE_INTENT, machine->name, r, error);
}

/* A node that is not Ready is not drained: its kubelet would not end a pod. They come back with the machine. */
static int take_down(struct rolling *rolling, const struct cloud_machine *machine, struct kp_arena *arena, struct kp_string_map *ret_before,
                     struct kp_error *error)
{
    struct cli_operation *op = rolling->op;
    bool ready = false, sick = op->cluster.rollout == STATE_ROLLOUT_ROLLBACK;
    int r = wait_to_take_down(rolling, machine, sick, error);
    if (r == 0 && kp_streq(machine->role, "control-plane"))
        r = cli_gate_move_leader(op, machine, error);
    if (r == 0)
        r = cordon(op, machine->name, &ready, error);
    cli_progress_machine(&op->progress, machine->name, CLI_PHASE_DRAIN);
    if (r == 0 && ready)
        r = cli_api_drain(op->api, machine->name, kp_mono_ms() + op->drain_timeout_ms, &op->progress, error);
    if (r == 0)
        r = cli_gate_record(op, machine->name, arena, ret_before, error);
    if (r == 0)
        r = cli_interrupted(error);
    if (r == 0 && kp_streq(machine->role, "control-plane"))
        r = hand_over_address(rolling, machine, error);
    return r;
}

static int roll_machine(struct rolling *rolling, const struct cloud_machine *machine, struct kp_error *error)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    struct cli_operation *op = rolling->op;
    struct kp_string_map before = {0};
    int r = 0;
    if (!has_image(rolling, machine)) {
        r = take_down(rolling, machine, arena, &before, error);
        if (r == 0)
            cli_progress_machine(&op->progress, machine->name, CLI_PHASE_BOOT);
        if (r == 0)
            r = reimage(rolling, machine, error);
    }
    if (r == 0)
        r = wait_until_well(rolling, machine, &before, error);
    if (r == 0)
        r = uncordon(op, machine->name, error);
    if (r == 0)
        cli_progress_machine(&op->progress, machine->name, CLI_PHASE_READY);
    return r;
}

/* ---- all of them */

/* Everything that is wanted is there and runs: a roll-out mends nothing. */
static int check_machines(struct cli_operation *op, struct kp_error *error)
{
    for (size_t i = 0; i < op->plan.n_actions; i++)
        if (op->plan.actions[i].verb != PLAN_KEEP)
            return kp_fail(error, KP_ECONFLICT,
                           "machine %s would have to be %sd first: the cluster's machines are not what its config says. See kprov repair %s",
                           op->plan.actions[i].name, plan_verb_name(op->plan.actions[i].verb), op->cluster.name);
    return 0;
}

static int choose_order(struct rolling *rolling, struct kp_error *error)
{
    struct cli_operation *op = rolling->op;
    struct kp_string_map readiness = {0};
    int r = check_machines(op, error);
    if (r == 0)
        r = cloud_machine_list(op->cloud, op->cluster.uid, op->arena, &rolling->machines, error);
    if (r == 0)
        r = cli_api_node_readiness(op->api, op->arena, &readiness, error);
    if (r < 0)
        return r;
    size_t n = rolling->machines.len;
    struct plan_rollout_machine *all = KP_NEW_ARRAY(op->arena, struct plan_rollout_machine, n + 1);
    const char *leader = cli_gate_etcd_leader(op, &rolling->machines, op->arena);
    for (size_t i = 0; i < n; i++) {
        const struct cloud_machine *machine = &rolling->machines.items[i];
        all[i] = (struct plan_rollout_machine){
            .name = machine->name, .image = machine->image, .control_plane = kp_streq(machine->role, "control-plane"),
            .etcd_leader = kp_streq(machine->name, leader), .ready = kp_streq(kp_string_map_get(&readiness, machine->name), "True"),
        };
        if (!find_node(op, machine->name))
            return kp_fail(error, KP_ECONFLICT, "machine %s is none that the cluster's config wants", machine->name);
    }
    rolling->order = KP_NEW_ARRAY(op->arena, size_t, n + 1);
    plan_rollout_order(all, n, op->cluster.image, rolling->rollout->down, rolling->order);
    return 0;
}

/* What an operator has to know when it stopped. */
static void tell_stop(const struct rolling *rolling, const struct cloud_machine *at)
{
    const struct cli_operation *op = rolling->op;
    const char *name = op->cluster.name;
    fprintf(stderr, "The roll-out of %s (%s) stopped at %s: %zu of %zu machines have it and are well, the ones after it are untouched.\n",
            op->cluster.image, op->cluster.config.kubernetes_version, at->name, rolling->done, rolling->machines.len);
    fprintf(stderr, "  look:    kprov logs %s %s kubelet; kprov validate cluster %s\n  go on:   %s\n", name, at->name, name, rolling->rollout->command);
    if (op->cluster.n_history && op->cluster.rollout == STATE_ROLLOUT_UPGRADE)
        fprintf(stderr, "  go back: kprov rollback cluster %s   (to %s)\n", name, op->cluster.history[op->cluster.n_history - 1].version);
}

static bool control_planes_are_left(const struct rolling *rolling, size_t from)
{
    bool left = false;
    for (size_t i = from; i < rolling->machines.len; i++)
        left |= kp_streq(rolling->machines.items[rolling->order[i]].role, "control-plane");
    return left;
}

static int run_all(struct rolling *rolling, struct kp_error *error)
{
    /* When no older API server is left that might not know what they say. */
    static const struct cli_step addons[] = {{"Add-ons applied", cli_op_apply_addons, false}, {0}};
    struct cli_operation *op = rolling->op;
    bool applied = false;
    int r = 0;
    for (size_t i = 0; r == 0 && i < rolling->machines.len; i++) {
        const struct cloud_machine *machine = &rolling->machines.items[rolling->order[i]];
        if (!applied && !control_planes_are_left(rolling, i)) {
            r = cli_op_run(op, addons, error);
            applied = true;
        }
        cli_progress_begin(&op->progress, kp_arena_printf(op->arena, "%s %s", machine->name, has_image(rolling, machine) ? "is well" : "has the new image"));
        if (r == 0)
            r = cli_interrupted(error);
        if (r == 0)
            r = roll_machine(rolling, machine, error);
        if (r == 0)
            cli_progress_done(&op->progress);
        else
            cli_progress_fail(&op->progress);
        if (r < 0)
            tell_stop(rolling, machine);
        rolling->done += r == 0;
    }
    return r < 0 || applied ? r : cli_op_run(op, addons, error);
}

/* A machine whose reimaging was cut short is off, with the one image or the other. It is brought up - the API may be on it - and then
   looked at as all are. */
static int start_interrupted(struct cli_operation *op, struct kp_error *error)
{
    struct kp_strings names = {0};
    int r = cli_unfinished(op->cluster.name, REIMAGE_INTENT, &names, error);
    for (size_t i = 0; r == 0 && i < op->plan.n_actions * names.len; i++) {
        struct plan_action *action = &op->plan.actions[i / names.len];
        if (action->verb != PLAN_START || !kp_streq(action->name, names.items[i % names.len]))
            continue;
        r = state_journal(op->state, "start-machine", action->name, error);
        if (r == 0)
            r = state_journal_end(op->state, "start-machine", action->name,
                                  cloud_machine_power(op->cloud, op->cluster.uid, action->name, CLOUD_POWER_START, error), error);
        if (r == 0)
            action->verb = PLAN_KEEP;
    }
    kp_strings_done(&names);
    return r;
}

int cli_rollout_preflight(struct cli_rollout *rollout, const struct cloud_machine_list *machines, struct kp_error *error)
{
    static const struct cli_step prepare[] = {
        {"Certificates", cli_op_prepare_pki, false},
        {"API server answers", cli_op_wait_api, false},
        {0},
    };
    struct rolling rolling = {.rollout = rollout, .op = rollout->op, .machines = *machines};
    struct cli_progress *progress = &rollout->op->progress;
    for (size_t i = 0; i < machines->len; i++)
        if (machines->items[i].power != CLOUD_POWER_ON)
            return kp_fail(error, KP_ECONFLICT, "machine %s is off, and nothing was changed: kprov repair %s starts it", machines->items[i].name,
                           rollout->op->cluster.name);
    int r = cli_op_run(rollout->op, prepare, error);
    cli_progress_begin(progress, "All machines are well");
    for (size_t i = 0; r == 0 && i < machines->len; i++)
        if (kp_streq(machines->items[i].role, "control-plane"))
            r = wait_to_take_down(&rolling, &machines->items[i], false, error);
    if (r == 0)
        cli_progress_done(progress);
    else
        cli_progress_fail(progress);
    return r;
}

int cli_rollout_run(struct cli_rollout *rollout, struct kp_error *error)
{
    static const struct cli_step prepare[] = {
        {"Node image", cli_op_prepare_image, false},
        {"Certificates", cli_op_prepare_pki, false},
        {"Network", cli_op_prepare_network, false},
        {"Plan", cli_op_prepare_nodes, false},
        {"Machines cut short", start_interrupted, false},
        {"API server answers", cli_op_wait_api, false},
        {0},
    };
    struct rolling rolling = {.rollout = rollout, .op = rollout->op};
    int r = cli_op_run(rollout->op, prepare, error);
    if (r == 0)
        r = choose_order(&rolling, error);
    if (r == 0)
        r = run_all(&rolling, error);
    if (r < 0)
        return r;
    rollout->op->cluster.rollout = STATE_ROLLOUT_IDLE;
    return state_write(rollout->op->state, &rollout->op->cluster, error);
}
