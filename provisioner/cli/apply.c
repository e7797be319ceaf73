/* kprov plan and kprov apply: what a cluster file would change, and changing it. */
#include <unistd.h>

#include "provisioner/cli/operation_internal.h"
#include "provisioner/cli/snapshot_internal.h"
#include "provisioner/plan/change.h"

#define PLAN_HAS_CHANGES 2 /* exit status, as terraform plan -detailed-exitcode */

struct apply {
    struct cli_operation op; /* first: the steps get its address */
    struct config wanted, before;
    struct plan_change_list changes;
    struct plan_member_list members; /* what is due in etcd; empty when it does not answer */
    struct kp_strings removals;      /* machines whose removal was cut short */
    struct kp_error etcd_error;      /* why it does not; code 0: it does */
    bool exists, yes, cut_short;     /* cut_short: an earlier run was */
};

static bool is_there(const char *name, struct kp_arena *arena, struct state_cluster *ret, int *ret_code, struct kp_error *error)
{
    *ret_code = state_read(name, arena, ret, error);
    if (*ret_code == KP_ENOTFOUND) {
        *ret_code = 0;
        return false;
    }
    return *ret_code == 0;
}

static int refuse_fixed(const struct apply *apply, struct kp_error *error)
{
    for (size_t i = 0; i < apply->changes.len; i++) {
        const struct plan_change *change = &apply->changes.items[i];
        if (change->kind == PLAN_CHANGE_FIXED)
            return kp_fail(error, KP_EINVALID, "%s of a cluster that exists cannot be changed from %s to %s: make a new cluster",
                           change->path, change->before, change->after);
    }
    return 0;
}

/* The machines as they are, and what the wanted config makes of them. */
static int plan_machines(struct apply *apply, struct kp_error *error)
{
    struct cloud_machine_list observed = {0};
    struct cli_operation *op = &apply->op;
    int r = apply->exists ? cloud_machine_list(op->cloud, op->cluster.uid, op->arena, &observed, error) : 0;
    return r < 0 ? r : plan_make(&apply->wanted, &observed, NULL, op->arena, &op->plan, error);
}

static int make_plan(struct apply *apply, struct kp_error *error)
{
    struct cli_operation *op = &apply->op;
    int r = plan_machines(apply, error);
    if (r == 0 && apply->exists)
        r = cli_unfinished_removals(op->cluster.name, &apply->removals, error);
    if (r == 0 && apply->exists)
        r = cli_change_is_unfinished(op->cluster.name, &apply->cut_short, error);
    if (r == 0 && apply->exists)
        r = cli_op_prepare_pki(op, error);
    if (r < 0 || !apply->exists)
        return r;
    if (cli_op_plan_members(op, op->arena, &apply->members, &apply->etcd_error) < 0)
        apply->members.len = 0;
    return 0;
}

/* Another version or node image is wanted, or an earlier roll-out was cut short. */
static bool release_is_due(const struct apply *apply)
{
    bool due = apply->exists && apply->op.cluster.rollout != STATE_ROLLOUT_IDLE;
    for (size_t i = 0; i < apply->changes.len; i++)
        due |= apply->changes.items[i].kind == PLAN_CHANGE_RELEASE;
    return due;
}

static bool is_due(const struct apply *apply)
{
    return release_is_due(apply) || apply->changes.len || plan_changes(&apply->op.plan) || apply->members.len || apply->removals.len || apply->cut_short;
}

static void add_row(struct apply *apply, struct kp_value *list, const char *action, const char *object, const char *detail)
{
    struct kp_arena *arena = apply->op.arena;
    struct kp_value *row = kp_value_object(arena);
    kp_value_set(arena, row, "action", kp_value_string(arena, action));
    kp_value_set(arena, row, "object", kp_value_string(arena, object));
    kp_value_set(arena, row, "detail", kp_value_string(arena, detail));
    kp_value_append(arena, list, row);
}

static void add_member_rows(struct apply *apply, struct kp_value *list)
{
    static const char *const verbs[] = {
        [PLAN_MEMBER_DROP] = "remove", [PLAN_MEMBER_JOIN] = "add", [PLAN_MEMBER_FINISH] = "promote", [PLAN_MEMBER_LEAVE] = "remove"};
    for (size_t i = 0; i < apply->members.len; i++) {
        const struct plan_member_action *action = &apply->members.items[i];
        const char *name = kp_empty(action->name) ? "without a name" : action->name;
        add_row(apply, list, verbs[action->verb], kp_arena_printf(apply->op.arena, "etcd member %s", name),
                action->discards ? kp_arena_printf(apply->op.arena, "%s: made anew", action->why) : action->why);
    }
}

static struct kp_value *plan_rows(struct apply *apply)
{
    struct kp_arena *arena = apply->op.arena;
    struct kp_value *list = kp_value_array(arena);
    if (!apply->exists)
        add_row(apply, list, "create", kp_arena_printf(arena, "cluster %s", apply->wanted.name), apply->wanted.provider);
    for (size_t i = 0; i < apply->changes.len; i++)
        add_row(apply, list, "change", apply->changes.items[i].path,
                kp_arena_printf(arena, "%s -> %s", *apply->changes.items[i].before ? apply->changes.items[i].before : "none",
                                *apply->changes.items[i].after ? apply->changes.items[i].after : "none"));
    for (size_t i = 0; i < apply->op.plan.n_actions; i++) {
        const struct plan_action *action = &apply->op.plan.actions[i];
        if (action->verb == PLAN_KEEP && release_is_due(apply))
            add_row(apply, list, "restart", kp_arena_printf(arena, "machine %s", action->name), "one at a time, with another node image");
        else if (action->verb != PLAN_KEEP)
            add_row(apply, list, plan_verb_name(action->verb), kp_arena_printf(arena, "machine %s", action->name),
                    action->machine ? action->machine->role : "its pods are moved first");
    }
    if (apply->cut_short)
        add_row(apply, list, "finish", kp_arena_printf(arena, "cluster %s", apply->wanted.name), "an earlier run was cut short");
    for (size_t i = 0; i < apply->removals.len; i++)
        add_row(apply, list, "finish", kp_arena_printf(arena, "machine %s", apply->removals.items[i]), "its removal was cut short");
    add_member_rows(apply, list);
    return list;
}

static void print_plan(struct apply *apply, enum cli_output output)
{
    static const char *const columns[] = {"action", "object", "detail", NULL};
    struct kp_value *rows = plan_rows(apply);
    if (output == CLI_TABLE && rows->array.len == 0)
        printf("Nothing to do: cluster %s is what the file says\n", apply->wanted.name);
    else
        cli_print_list(rows, columns, output);
    fflush(stdout); /* before the progress on standard error */
    if (apply->etcd_error.code)
        fprintf(stderr, "kprov: what etcd's members need is not in this plan: %s\n", apply->etcd_error.message);
}

static int load(struct apply *apply, const char *file, struct kp_error *error)
{
    struct cli_operation *op = &apply->op;
    int r = config_load(file, op->arena, &apply->wanted, error);
    if (r < 0)
        return r;
    apply->exists = is_there(apply->wanted.name, op->arena, &op->cluster, &r, error);
    if (r == 0)
        r = config_settle_version(&apply->wanted, apply->exists ? op->cluster.config.kubernetes_version : NULL, error);
    if (apply->exists && op->cluster.phase != STATE_READY)
        r = kp_fail(error, KP_ECONFLICT, "cluster \"%s\" is %s: finish that first", op->cluster.name, state_phase_name(op->cluster.phase));
    if (r < 0 || !apply->exists)
        return r;
    apply->before = op->cluster.config;
    if (kp_empty(apply->wanted.image)) /* a file that names no image leaves the one that is there */
        apply->wanted.image = apply->before.image;
    plan_config_changes(&apply->before, &apply->wanted, op->arena, &apply->changes);
    return refuse_fixed(apply, error);
}

static int plan_file(const char *file, enum cli_output output, struct kp_error *error)
{
    struct apply apply = {0};
    cli_op_start(&apply.op, 0);
    int r = load(&apply, file, error);
    if (r == 0 && apply.exists)
        r = cli_cluster_open(apply.wanted.name, apply.op.arena, &apply.op.cluster, &apply.op.cloud, error);
    if (r == 0)
        r = make_plan(&apply, error);
    if (r == 0) {
        print_plan(&apply, output);
        r = !apply.exists || is_due(&apply) ? PLAN_HAS_CHANGES : 0;
    }
    kp_strings_done(&apply.removals);
    cli_op_done(&apply.op);
    return r;
}

int cli_plan(int argc, char **argv, struct kp_error *error)
{
    const char *file = NULL, *output = "table";
    enum cli_output format;
    bool help = false;
    const struct kp_flag flags[] = {
        {"file", 'f', KP_FLAG_STRING, &file, "cluster file (" CONFIG_API_VERSION ")", NULL},
        {"output", 'o', KP_FLAG_STRING, &output, "table, json or yaml", NULL},
        {0},
    };
    struct kp_strings rest = {0};
    int r = cli_parse("plan", flags, argc, argv, &rest, &help, error);
    if (r == 0 && !help)
        r = cli_want_words("plan", &rest, 0, 0, error);
    if (r == 0 && !help && !file)
        r = kp_fail(error, KP_EUSAGE, "plan needs -f FILE");
    if (r == 0 && !help)
        r = cli_output_parse(output, &format, error);
    if (r == 0 && !help)
        r = plan_file(file, format, error);
    kp_strings_done(&rest);
    return r;
}

/* ---- apply */

/* Labels that the config had and has no more are taken away; those it has are set, and its taints with them. */
static int patch_nodes(struct cli_operation *op, struct kp_error *error)
{
    struct apply *apply = KP_CONTAINER_OF(op, struct apply, op);
    bool changed = false;
    for (size_t i = 0; i < apply->changes.len; i++)
        changed |= apply->changes.items[i].kind == PLAN_CHANGE_LABELS;
    for (size_t i = 0; changed && i < op->plan.n_actions; i++) {
        const struct plan_machine *machine = op->plan.actions[i].machine;
        if (!machine || op->plan.actions[i].verb == PLAN_CREATE)
            continue;
        const struct config_pool *before = NULL;
        for (size_t p = 0; machine->pool && p < apply->before.n_pools; p++)
            if (kp_streq(apply->before.pools[p].name, machine->pool->name))
                before = &apply->before.pools[p];
        if (before && cli_api_pool_node(op->api, machine->name, before, machine->pool, error) < 0)
            return error->code;
    }
    return 0;
}

/* With the machines that are there; those that are made have it from the start. A run that was cut short may not have come so far. */
static bool schedule_is_due(const struct apply *apply)
{
    bool due = apply->cut_short;
    for (size_t i = 0; i < apply->changes.len; i++)
        due |= kp_streq(apply->changes.items[i].path, "spec.etcd");
    return due;
}

static int change_schedule(struct cli_operation *op, struct kp_error *error)
{
    const struct apply *apply = KP_CONTAINER_OF(op, const struct apply, op);
    return schedule_is_due(apply) && cloud_can(op->cloud, CLOUD_CAN_CHANGE_LATER) ? cli_op_change_schedule(op, error) : 0;
}

/* Or the next boot would bring the old one back. */
static int check_schedule(const struct apply *apply, struct kp_error *error)
{
    for (size_t i = 0; i < apply->changes.len; i++)
        if (kp_streq(apply->changes.items[i].path, "spec.etcd") && !cloud_can(apply->op.cloud, CLOUD_CAN_CHANGE_LATER))
            return kp_fail(error, KP_ENOTSUPPORTED, "spec.etcd: provider %s cannot change it on machines that are there: leave it as it is",
                           cloud_name(apply->op.cloud));
    return 0;
}

/* Before anything is made: a pool that goes must be free to go. */
static int check_pools(struct cli_operation *op, struct kp_error *error)
{
    const struct apply *apply = KP_CONTAINER_OF(op, struct apply, op);
    int r = 0;
    for (size_t i = 0; r == 0 && i < apply->before.n_pools; i++) {
        bool stays = false;
        for (size_t j = 0; j < apply->wanted.n_pools && !stays; j++)
            stays = kp_streq(apply->before.pools[i].name, apply->wanted.pools[j].name);
        if (!stays)
            r = cli_op_check_pool_goes(op, apply->before.pools[i].name, error);
    }
    return r;
}

/* Nodes are patched before the new config is remembered (with the plan): a run that is cut short is repeated whole. */
static const struct cli_step steps[] = {
    {"Machines started", cli_op_start_machines, false},
    {"etcd has a quorum", cli_op_wait_quorum, false},
    {"API server answers", cli_op_wait_api, false},
    {"Pools are free to go", check_pools, false},
    {"Labels and taints", patch_nodes, false},
    {"Node image", cli_op_prepare_image, false},
    {"Certificates", cli_op_prepare_pki, false},
    {"Network", cli_op_prepare_network, false},
    {"Plan", cli_op_prepare_nodes, false},
    {"Schedule of snapshots", change_schedule, false},
    {"Earlier removals", cli_op_finish_removals, false},
    {"Machines", cli_op_make_machines, false},
    {"Control planes", cli_op_change_members, false},
    {"Node roles", cli_op_mark_control_planes, false},
    {"All nodes Ready", cli_op_wait_nodes, true},
    {"Machines removed", cli_op_remove_machines, false},
    {0},
};

static int confirm_deletions(struct apply *apply, struct kp_error *error)
{
    char line[64];
    size_t deletions = 0;
    for (size_t i = 0; i < apply->op.plan.n_actions; i++)
        deletions += apply->op.plan.actions[i].verb == PLAN_DELETE;
    for (size_t i = 0; i < apply->members.len; i++)
        deletions += apply->members.items[i].discards;
    bool restarts = release_is_due(apply);
    if ((!deletions && !restarts) || apply->yes)
        return 0;
    if (!isatty(STDIN_FILENO))
        return kp_fail(error, KP_EUSAGE, "deleting %zu machines%s asks for a yes: pass --yes", deletions, restarts ? " and restarting the others" : "");
    fprintf(stderr, "Delete %zu machines%s? [y/N] ", deletions, restarts ? " and restart the others one by one" : "");
    if (!fgets(line, sizeof(line), stdin) || (line[0] != 'y' && line[0] != 'Y'))
        return kp_fail(error, KP_ECANCELLED, "nothing was changed");
    return 0;
}

/* The machines that are there, before the rest of the file counts. */
static int release(struct apply *apply, struct kp_error *error)
{
    bool image = !kp_streq(apply->wanted.image, apply->before.image), version = !kp_streq(apply->wanted.kubernetes_version, apply->before.kubernetes_version);
    int r = cli_op_release(&apply->op, image ? apply->wanted.image : NULL, image || version ? apply->wanted.kubernetes_version : NULL, error);
    apply->wanted.kubernetes_version = apply->op.cluster.config.kubernetes_version;
    apply->wanted.image = apply->op.cluster.config.image;
    return r < 0 ? r : plan_machines(apply, error); /* the roll-out's plan was of the config before */
}

static int apply_to_cluster(struct apply *apply, struct kp_error *error)
{
    struct cli_operation *op = &apply->op;
    int r = cli_op_open(op, apply->wanted.name, error);
    if (r == 0)
        r = make_plan(apply, error);
    if (r < 0)
        return r;
    struct kp_value *changes = plan_rows(apply);
    if (op->output == CLI_TABLE)
        print_plan(apply, CLI_TABLE);
    if (!is_due(apply) && !apply->etcd_error.code && op->output != CLI_TABLE)
        cli_op_print_result(op, changes, op->output);
    if (!is_due(apply)) {
        if (apply->etcd_error.code)
            *error = apply->etcd_error;
        return apply->etcd_error.code;
    }
    r = check_schedule(apply, error);
    if (r == 0)
        r = confirm_deletions(apply, error);
    if (r == 0)
        r = cli_cloud_change(&apply->wanted, op->cluster.uid, op->arena, &op->cloud, error);
    if (r == 0 && release_is_due(apply))
        r = release(apply, error);
    op->cluster.config = apply->wanted;
    if (r == 0)
        r = cli_op_change(op, steps, error);
    if (r == 0 && op->output != CLI_TABLE)
        cli_op_print_result(op, changes, op->output);
    return r;
}

int cli_apply(int argc, char **argv, struct kp_error *error)
{
    const char *file = NULL, *output = "table";
    enum cli_output format = CLI_TABLE;
    int64_t wait_ns = 300000000000, drain_ns = 300000000000;
    bool help = false, yes = false, exists = true;
    const struct kp_flag flags[] = {
        {"file", 'f', KP_FLAG_STRING, &file, "cluster file (" CONFIG_API_VERSION ")", NULL},
        {"yes", 'y', KP_FLAG_BOOL, &yes, "do not ask before machines are deleted", NULL},
        {"wait", 0, KP_FLAG_DURATION, &wait_ns, "how long to wait for nodes to be Ready (5m); 0: not at all", NULL},
        {"drain-timeout", 0, KP_FLAG_DURATION, &drain_ns, "how long to wait for a node's pods to go (5m)", NULL},
        {"output", 'o', KP_FLAG_STRING, &output, "json or yaml: print what was changed and the steps' times", NULL},
        {0},
    };
    struct kp_strings rest = {0};
    int r = cli_parse("apply", flags, argc, argv, &rest, &help, error);
    if (r == 0 && !help)
        r = cli_want_words("apply", &rest, 0, 0, error);
    if (r == 0 && !help && !file)
        r = kp_fail(error, KP_EUSAGE, "apply needs -f FILE");
    if (r == 0 && !help)
        r = cli_output_parse(output, &format, error);
    kp_strings_done(&rest);
    if (r < 0 || help)
        return r;
    struct apply apply = {.yes = yes};
    apply.op.drain_timeout_ms = drain_ns / 1000000;
    apply.op.output = format;
    cli_op_start(&apply.op, wait_ns);
    struct config wanted;
    r = config_load(file, apply.op.arena, &wanted, error);
    if (r == 0) {
        struct state_cluster there;
        exists = is_there(wanted.name, apply.op.arena, &there, &r, error) && there.phase != STATE_CREATING;
    }
    if (r == 0 && exists)
        r = load(&apply, file, error);
    if (r == 0 && exists)
        r = apply_to_cluster(&apply, error);
    kp_strings_done(&apply.removals);
    cli_op_done(&apply.op);
    if (r == 0 && !exists)
        r = cli_create_from_file(file, wait_ns, format, error);
    return r;
}
