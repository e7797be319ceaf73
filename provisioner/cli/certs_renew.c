/* kprov certs renew: leaf certificates issued anew by the authorities that are there, machine by machine. */
#include "provisioner/cli/certs_internal.h"

struct renewing {
    struct cli_operation op; /* first: the steps get its address */
    const char *cluster, *node; /* node: the only one, or NULL */
};

/* Control planes first: what workers ask for is there when they ask. */
static int change_all(struct cli_operation *op, struct kp_error *error)
{
    const struct renewing *renewing = KP_CONTAINER_OF(op, const struct renewing, op);
    int r = 0;
    for (int workers = 0; workers < 2; workers++) {
        for (size_t i = 0; r == 0 && i < op->bootstrap.n_nodes; i++) {
            const struct bootstrap_node *node = &op->bootstrap.nodes[i];
            if (node->control_plane != (workers == 0) || (renewing->node && !kp_streq(renewing->node, node->name)))
                continue;
            r = cli_interrupted(error);
            cli_progress_tick(&op->progress, node->name);
            if (r == 0)
                r = certs_change_machine(op, node, error);
        }
    }
    return r;
}

static const struct cli_step steps[] = {
    {"Certificates", cli_op_prepare_pki, false},
    {"Network", cli_op_prepare_network, false},
    {"Plan", cli_op_prepare_nodes, false},
    {"API server answers", cli_op_wait_api, false},
    {"Certificates of machines", change_all, false},
    {0},
};
static const struct cli_step admin_steps[] = {
    {"Certificate of the administrator", certs_change_admin, false},
    {"API server answers", cli_op_wait_api, false},
    {0},
};

static int renew(struct renewing *renewing, struct kp_error *error)
{
    struct cli_operation *op = &renewing->op;
    struct cloud_machine machine;
    int r = cli_op_open(op, renewing->cluster, error);
    if (r == 0)
        r = certs_check_cloud(op, error);
    if (r == 0 && renewing->node) {
        r = cli_find_machine(op->cloud, &op->cluster, renewing->node, op->arena, &machine, error);
        renewing->node = machine.name;
    }
    if (r == 0)
        r = cli_op_run(op, steps, error);
    if (r == 0 && !renewing->node)
        r = cli_op_run(op, admin_steps, error);
    if (r == 0)
        fprintf(stderr, "Renewed the certificates of %s%s\n", renewing->node ? "" : "cluster ", renewing->node ? renewing->node : renewing->cluster);
    return r;
}

int cli_certs_renew(int argc, char **argv, struct kp_error *error)
{
    struct renewing renewing = {0};
    bool help = false;
    const struct kp_flag flags[] = {
        {"node", 0, KP_FLAG_STRING, &renewing.node, "only this machine's; the administrator's stays too", NULL},
        {0},
    };
    struct kp_strings rest = {0};
    int r = cli_parse("certs renew", flags, argc, argv, &rest, &help, error);
    if (r == 0 && !help)
        r = cli_want_words("certs renew", &rest, 1, 1, error);
    if (r == 0 && !help) {
        renewing.cluster = rest.items[0];
        cli_op_start(&renewing.op, 0);
        r = renew(&renewing, error);
        cli_op_done(&renewing.op);
    }
    kp_strings_done(&rest);
    return r;
}
