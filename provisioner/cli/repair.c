/* kprov repair: says what is wrong with a cluster's machines and what it will do, asks, and mends. */
#include <unistd.h>

#include "provisioner/cli/repair_internal.h"

#define REPAIR_IS_DUE 2 /* exit status of --dry-run, as plan's */
#define SETTLE_POLL_MS 500

struct repair_options {
    const char *cluster, *node;
    enum cli_output output;
    bool yes, dry_run;
    int64_t not_ready_ns, settle_ns, wait_ns;
};
struct repair {
    struct cli_operation op; /* first: the steps get its address */
    const struct repair_options *options;
    struct repair_view view;
    struct repair_list findings;
    struct kp_strings stray_nodes, stray_members;
    bool cut_short; /* an earlier run was */
};

/* ---- finding out */

/* A member that is on its way up is not lost: those that do not answer are asked again for a while. */
static bool is_unsettled(const struct repair *repair)
{
    const struct repair_input *inputs = cli_repair_inputs(&repair->op, &repair->view, kp_now_s());
    for (size_t i = 0; i < repair->op.plan.n_machines; i++)
        if (inputs[i].control_plane && inputs[i].machine == REPAIR_MACHINE_ON &&
            (inputs[i].member == REPAIR_MEMBER_SILENT || inputs[i].member == REPAIR_MEMBER_WAITING || inputs[i].member == REPAIR_MEMBER_APART || !repair->view.members_known))
            return true;
    return false;
}

static int find_out(struct repair *repair, struct kp_error *error)
{
    struct cli_operation *op = &repair->op;
    int r = cli_repair_look(op, &repair->view, error);
    int64_t until_ms = kp_mono_ms() + repair->options->settle_ns / 1000000;
    while (r == 0 && is_unsettled(repair) && kp_mono_ms() < until_ms) {
        r = cli_interrupted(error);
        kp_sleep_ms(SETTLE_POLL_MS);
        cli_repair_look_at_etcd(op, &repair->view);
    }
    if (r < 0)
        return r;
    plan_repair(cli_repair_inputs(op, &repair->view, kp_now_s()), op->plan.n_machines, repair->options->not_ready_ns / 1000000000, op->only,
                op->arena, &repair->findings);
    if (!op->only) {
        cli_repair_stray_nodes(op, &repair->view, &repair->stray_nodes);
        cli_repair_stray_members(op, &repair->view, &repair->stray_members);
    }
    return 0;
}

/* Whether a voter counts for the quorum, or would if its machine ran. */
static bool is_able(const struct repair *repair, const struct etcd_member *member)
{
    const struct repair_view *view = &repair->view;
    for (size_t i = 0; i < view->n_status; i++)
        if (view->status[i].code == 0 && !view->status[i].apart && view->status[i].id == member->id)
            return true;
    for (size_t i = 0; i < view->machines.len; i++)
        if (kp_streq(view->machines.items[i].name, member->name))
            return view->machines.items[i].power == CLOUD_POWER_OFF && !kp_empty(view->machines.items[i].role);
    return false;
}

/* Nothing that is done here brings a quorum back. */
static int check_quorum(const struct repair *repair, struct kp_error *error)
{
    const struct repair_view *view = &repair->view;
    size_t voters = 0, able = 0;
    for (size_t i = 0; view->members_known && i < view->members.len; i++) {
        voters += !view->members.items[i].learner;
        able += !view->members.items[i].learner && is_able(repair, &view->members.items[i]);
    }
    if (!view->members_known) { /* nobody tells: as many as are wanted, of which those are able that have a machine */
        voters = (size_t)repair->op.cluster.config.control_plane.replicas;
        for (size_t i = 0; i < view->machines.len; i++)
            able += kp_streq(view->machines.items[i].role, "control-plane");
    }
    if (able >= plan_quorum(voters))
        return 0;
    return kp_fail(error, KP_EUNAVAILABLE,
                   "etcd of cluster %s has lost its quorum: of %zu voting members %zu are left, %zu are needed, and nothing brings the others "
                   "back. Make the cluster anew from a snapshot: kprov etcd snapshot restore (kprov etcd snapshot list shows what there is)",
                   repair->op.cluster.name, voters, able, plan_quorum(voters));
}

/* ---- telling */

static void add_row(struct kp_arena *arena, struct kp_value *list, const char *name, const char *problem, enum repair_remedy remedy,
                    const char *what)
{
    struct kp_value *row = kp_value_object(arena);
    kp_value_set(arena, row, "name", kp_value_string(arena, name));
    kp_value_set(arena, row, "problem", kp_value_string(arena, problem));
    kp_value_set(arena, row, "remedy", kp_value_string(arena, repair_remedy_name(remedy)));
    kp_value_set(arena, row, "what", kp_value_string(arena, what));
    kp_value_append(arena, list, row);
}

static void print_findings(const struct repair *repair)
{
    static const char *const columns[] = {"name", "problem", "remedy", "what", NULL};
    struct kp_arena *arena = repair->op.arena;
    struct kp_value *list = kp_value_array(arena);
    for (size_t i = 0; i < repair->findings.len; i++)
        add_row(arena, list, repair->findings.items[i].name, repair->findings.items[i].problem, repair->findings.items[i].remedy,
                repair->findings.items[i].what);
    for (size_t i = 0; i < repair->stray_members.len; i++)
        add_row(arena, list, repair->stray_members.items[i], "a member of etcd without a machine", REPAIR_DROP_MEMBER, "it is removed from etcd");
    for (size_t i = 0; i < repair->stray_nodes.len; i++)
        add_row(arena, list, repair->stray_nodes.items[i], "a Node without a machine that anybody wants", REPAIR_DELETE_NODE,
                "the Node is deleted");
    if (repair->cut_short)
        add_row(arena, list, repair->op.cluster.name, "an earlier run was cut short", REPAIR_NONE, "it is brought to its end");
    if (repair->options->output == CLI_TABLE && list->array.len == 0)
        printf("Nothing to repair: all %zu machines of cluster %s are well\n", repair->op.plan.n_machines, repair->op.cluster.name);
    else
        cli_print_list(list, columns, repair->options->output);
    fflush(stdout);
    if (repair->view.etcd_error.code)
        fprintf(stderr, "kprov: etcd could not be looked at: %s\n", repair->view.etcd_error.message);
    if (repair->view.api_error.code)
        fprintf(stderr, "kprov: the Nodes could not be looked at: %s\n", repair->view.api_error.message);
}

/* How much there is to do, and how much of it throws a machine away. */
static size_t count(const struct repair *repair, size_t *ret_replaced)
{
    size_t n = repair->stray_nodes.len + repair->stray_members.len + repair->cut_short;
    *ret_replaced = 0;
    for (size_t i = 0; i < repair->findings.len; i++) {
        n += repair->findings.items[i].remedy != REPAIR_NONE;
        *ret_replaced += repair->findings.items[i].remedy == REPAIR_REPLACE;
    }
    return n;
}

static int confirm(const struct repair *repair, size_t n, size_t replaced, struct kp_error *error)
{
    char line[64];
    if (repair->options->yes)
        return 0;
    if (!isatty(STDIN_FILENO))
        return kp_fail(error, KP_EUSAGE, "mending this asks for a yes: pass --yes");
    fprintf(stderr, "Mend these %zu (%zu machines are replaced, with their disks)? [y/N] ", n, replaced);
    if (!fgets(line, sizeof(line), stdin) || (line[0] != 'y' && line[0] != 'Y'))
        return kp_fail(error, KP_ECANCELLED, "nothing was changed");
    return 0;
}

/* ---- mending */

/* Of a machine that is gone the Node goes too, and what is left of it in the cloud: it comes back blank. A control plane's does so
   when it joins. */
static int remove_sick(struct cli_operation *op, struct kp_error *error)
{
    const struct repair *repair = KP_CONTAINER_OF(op, struct repair, op);
    int r = 0;
    for (size_t i = 0; r == 0 && i < repair->findings.len; i++) {
        const struct repair_finding *finding = &repair->findings.items[i];
        if (finding->control_plane || (finding->remedy != REPAIR_CREATE && finding->remedy != REPAIR_REPLACE))
            continue;
        r = cli_interrupted(error);
        if (r < 0)
            break;
        cli_progress_machine(&op->progress, finding->name, CLI_PHASE_DELETE);
        r = cli_op_delete_machine(op, finding->name, error);
    }
    return r;
}

static int delete_stray_nodes(struct cli_operation *op, struct kp_error *error)
{
    const struct repair *repair = KP_CONTAINER_OF(op, struct repair, op);
    int r = 0;
    for (size_t i = 0; r == 0 && i < repair->stray_nodes.len; i++)
        r = cli_api_delete_node(op->api, repair->stray_nodes.items[i], error);
    return r;
}

static const struct cli_step steps[] = {
    {"Machines started", cli_op_start_machines, false},
    {"etcd has a quorum", cli_op_wait_quorum, false},
    {"API server answers", cli_op_wait_api, false},
    {"Node image", cli_op_prepare_image, false},
    {"Network", cli_op_prepare_network, false},
    {"Sick machines removed", remove_sick, false},
    {"Plan", cli_op_prepare_nodes, false},
    {"Earlier removals", cli_op_finish_removals, false},
    {"Machines", cli_op_make_machines, false},
    {"Control planes", cli_op_change_members, false},
    {"Node roles", cli_op_mark_control_planes, false},
    {"Nodes without a machine", delete_stray_nodes, false},
    {"All nodes Ready", cli_op_wait_nodes, true},
    {0},
};

static int mend(struct repair *repair, struct kp_error *error)
{
    for (size_t i = 0; i < repair->findings.len; i++) {
        const struct repair_finding *finding = &repair->findings.items[i];
        if (finding->control_plane && finding->remedy == REPAIR_REPLACE)
            kp_strings_add(&repair->op.replace, finding->name);
    }
    int r = cli_op_change(&repair->op, steps, error);
    if (r == 0)
        fprintf(stderr, "Cluster %s is mended\n", repair->op.cluster.name);
    return r;
}

static int repair_cluster(struct repair *repair, struct kp_error *error)
{
    struct cli_operation *op = &repair->op;
    struct cloud_machine machine;
    size_t replaced = 0;
    int r = cli_op_open(op, repair->options->cluster, error);
    if (r == 0)
        r = cli_op_prepare_pki(op, error);
    if (r == 0 && repair->options->node) { /* also one that is gone has a name: that of the cluster in front, or not */
        struct kp_error not_there = {0};
        const char *prefix = kp_arena_printf(op->arena, "%s-", op->cluster.name), *node = repair->options->node;
        op->only = kp_starts_with(node, prefix) ? node : kp_arena_printf(op->arena, "%s%s", prefix, node);
        if (cli_find_machine(op->cloud, &op->cluster, node, op->arena, &machine, &not_there) == 0)
            op->only = machine.name;
    }
    if (r == 0)
        r = cli_change_is_unfinished(op->cluster.name, &repair->cut_short, error);
    if (r == 0)
        r = find_out(repair, error);
    if (r == 0 && op->only && !cli_op_wants(op, op->only))
        r = kp_fail(error, KP_ENOTFOUND, "cluster %s has no node \"%s\": see kprov get nodes --cluster %s", op->cluster.name,
                    repair->options->node, op->cluster.name);
    if (r < 0)
        return r;
    print_findings(repair);
    size_t due = count(repair, &replaced);
    r = due || repair->view.etcd_error.code ? check_quorum(repair, error) : 0;
    if (r < 0 || due == 0)
        return r;
    if (repair->options->dry_run)
        return REPAIR_IS_DUE;
    r = confirm(repair, due, replaced, error);
    return r < 0 ? r : mend(repair, error);
}

int cli_repair(int argc, char **argv, struct kp_error *error)
{
    struct repair_options options = {.not_ready_ns = 120000000000, .settle_ns = 30000000000, .wait_ns = 300000000000};
    const char *output = "table";
    struct kp_strings rest = {0};
    bool help = false;
    const struct kp_flag flags[] = {
        {"node", 0, KP_FLAG_STRING, &options.node, "mend this machine alone", NULL},
        {"yes", 'y', KP_FLAG_BOOL, &options.yes, "do not ask", NULL},
        {"dry-run", 0, KP_FLAG_BOOL, &options.dry_run, "only say what is wrong; exit status 2 when something is to be mended", NULL},
        {"not-ready-after", 0, KP_FLAG_DURATION, &options.not_ready_ns, "how long a Node may be not Ready until its machine is replaced (2m)", NULL},
        {"settle", 0, KP_FLAG_DURATION, &options.settle_ns, "how long to wait for etcd members that do not answer before they count as lost (30s)", NULL},
        {"wait", 0, KP_FLAG_DURATION, &options.wait_ns, "how long to wait for nodes to be Ready (5m); 0: not at all", NULL},
        {"output", 'o', KP_FLAG_STRING, &output, "table, json or yaml: how to say what is wrong", NULL},
        {0},
    };
    int r = cli_parse("repair", flags, argc, argv, &rest, &help, error);
    if (r == 0 && !help)
        r = cli_want_words("repair", &rest, 1, 1, error);
    if (r == 0 && !help)
        r = cli_output_parse(output, &options.output, error);
    if (r == 0 && !help) {
        struct repair repair = {.options = &options};
        options.cluster = rest.items[0];
        cli_op_start(&repair.op, options.wait_ns);
        r = repair_cluster(&repair, error);
        cli_op_done(&repair.op);
        kp_strings_done(&repair.stray_nodes);
        kp_strings_done(&repair.stray_members);
    }
    kp_strings_done(&rest);
    return r;
}
