/* kprov scale: more or fewer machines of one pool, or control planes. */
#include "provisioner/cli/operation_internal.h"

struct scale_options {
    const char *cluster, *pool;
    int64_t replicas; /* -1: not given */
    struct kp_strings remove;
    int64_t wait_ns, drain_ns;
};

static void split(const char *list, struct kp_strings *out)
{
    while (list && *list) {
        size_t len = strcspn(list, ",");
        if (len) {
            KP_AUTO_FREE char *word = kp_strndup(list, len);
            kp_strings_add(out, word);
        }
        list += len + (list[len] == ',');
    }
}

static struct config_pool *find_pool(struct config *config, const char *name)
{
    for (size_t i = 0; i < config->n_pools; i++)
        if (kp_streq(config->pools[i].name, name))
            return &config->pools[i];
    return NULL;
}

/* The machines named are of this pool, and not more than are to go. */
static int check_removals(struct cli_operation *op, const struct scale_options *options, const struct config_pool *pool,
                          struct kp_error *error)
{
    struct cloud_machine_list machines;
    int64_t there = 0;
    int r = cloud_machine_list(op->cloud, op->cluster.uid, op->arena, &machines, error);
    for (size_t i = 0; r == 0 && i < machines.len; i++)
        there += kp_streq(machines.items[i].pool, pool->name);
    for (size_t i = 0; r == 0 && i < options->remove.len; i++) {
        struct cloud_machine machine;
        r = cli_find_machine(op->cloud, &op->cluster, options->remove.items[i], op->arena, &machine, error);
        if (r == KP_ENOTFOUND && pool->replicas == options->replicas) {
            r = 0; /* an interrupted run of the same command got that far */
            continue;
        }
        if (r == 0 && !kp_streq(machine.pool, pool->name))
            r = kp_fail(error, KP_EINVALID, "%s is not in pool %s", machine.name, pool->name);
        if (r == 0)
            kp_strings_add(&op->remove, machine.name);
    }
    if (r == 0 && (int64_t)op->remove.len > KP_MAX(there - options->replicas, 0))
        r = kp_fail(error, KP_EINVALID, "%zu machines are named, but going from %lld to %lld removes %lld", op->remove.len,
                    (long long)there, (long long)options->replicas, (long long)KP_MAX(there - options->replicas, 0));
    return r;
}

static const struct cli_step steps[] = {
    {"Node image", cli_op_prepare_image, false},
    {"Certificates", cli_op_prepare_pki, false},
    {"Network", cli_op_prepare_network, false},
    {"Plan", cli_op_prepare_nodes, false},
    {"Machines started", cli_op_start_machines, false},
    {"etcd has a quorum", cli_op_wait_quorum, false},
    {"API server answers", cli_op_wait_api, false},
    {"Earlier removals", cli_op_finish_removals, false},
    {"Machines", cli_op_make_machines, false},
    {"Control planes", cli_op_change_members, false},
    {"Node roles", cli_op_mark_control_planes, false},
    {"All nodes Ready", cli_op_wait_nodes, true},
    {"Machines removed", cli_op_remove_machines, false},
    {0},
};

static int scale(struct cli_operation *op, const struct scale_options *options, struct kp_error *error)
{
    int r = cli_op_open(op, options->cluster, error);
    if (r < 0)
        return r;
    struct config_pool *pool = find_pool(&op->cluster.config, options->pool);
    if (!pool)
        return kp_fail(error, KP_ENOTFOUND, "cluster %s has no pool \"%s\"", options->cluster, options->pool);
    r = check_removals(op, options, pool, error);
    int64_t before = pool->replicas;
    pool->replicas = options->replicas;
    if (r == 0)
        r = config_validate(&op->cluster.config, error);
    if (r == 0) /* wanted from now on: an interrupted run is finished by the same command */
        r = state_write(op->state, &op->cluster, error);
    if (r == 0)
        r = cli_op_change(op, steps, error);
    if (r == 0)
        fprintf(stderr, "Pool %s of cluster %s: %lld -> %lld machines\n", pool->name, options->cluster, (long long)before,
                (long long)options->replicas);
    if (r == 0 && op->output != CLI_TABLE)
        cli_op_print_result(op, NULL, op->output);
    return r;
}

int cli_scale_nodepool(int argc, char **argv, struct kp_error *error)
{
    struct scale_options options = {.replicas = -1, .wait_ns = 300000000000, .drain_ns = 300000000000};
    struct kp_strings rest = {0};
    bool help = false;
    const char *remove = NULL, *output = "table";
    enum cli_output format = CLI_TABLE;
    const struct kp_flag flags[] = {
        {"replicas", 0, KP_FLAG_I64, &options.replicas, "machines that the pool shall have", NULL},
        {"remove", 0, KP_FLAG_STRING, &remove, "machines to remove, separated by commas; otherwise the newest go", NULL},
        {"wait", 0, KP_FLAG_DURATION, &options.wait_ns, "how long to wait for new nodes to be Ready (5m); 0: not at all", NULL},
        {"drain-timeout", 0, KP_FLAG_DURATION, &options.drain_ns, "how long to wait for a node's pods to go (5m)", NULL},
        {"output", 'o', KP_FLAG_STRING, &output, "json or yaml: print what was made and the steps' times", NULL},
        {0},
    };
    int r = cli_parse("scale nodepool", flags, argc, argv, &rest, &help, error);
    if (r == 0 && !help)
        r = cli_want_words("scale nodepool", &rest, 2, 2, error);
    if (r == 0 && !help && options.replicas < 0)
        r = kp_fail(error, KP_EUSAGE, "scale nodepool needs --replicas N");
    if (r == 0 && !help)
        r = cli_output_parse(output, &format, error);
    if (r == 0 && !help) {
        struct cli_operation op = {.drain_timeout_ms = options.drain_ns / 1000000, .output = format};
        split(remove, &options.remove);
        options.cluster = rest.items[0];
        options.pool = rest.items[1];
        cli_op_start(&op, options.wait_ns);
        r = scale(&op, &options, error);
        cli_op_done(&op);
    }
    kp_strings_done(&options.remove);
    kp_strings_done(&rest);
    return r;
}

static int scale_control_planes(struct cli_operation *op, const char *cluster, int64_t replicas, struct kp_error *error)
{
    int r = cli_op_open(op, cluster, error);
    if (r < 0)
        return r;
    int64_t before = op->cluster.config.control_plane.replicas;
    op->cluster.config.control_plane.replicas = replicas;
    r = config_validate(&op->cluster.config, error);
    if (r == 0)
        r = cli_op_prepare_pki(op, error);
    if (r == 0) /* without one nothing can be changed: refused while nothing is */
        r = cli_op_wait_quorum(op, error);
    if (r == 0) /* wanted from now on, as above */
        r = state_write(op->state, &op->cluster, error);
    if (r == 0)
        r = cli_op_change(op, steps, error);
    if (r == 0)
        fprintf(stderr, "Cluster %s: %lld -> %lld control planes\n", cluster, (long long)before, (long long)replicas);
    if (r == 0 && op->output != CLI_TABLE)
        cli_op_print_result(op, NULL, op->output);
    return r;
}

int cli_scale_controlplane(int argc, char **argv, struct kp_error *error)
{
    int64_t replicas = -1, wait_ns = 300000000000, drain_ns = 300000000000;
    struct kp_strings rest = {0};
    bool help = false;
    const char *output = "table";
    enum cli_output format = CLI_TABLE;
    const struct kp_flag flags[] = {
        {"replicas", 0, KP_FLAG_I64, &replicas, "control planes that the cluster shall have: 1, 3, 5 or 7", NULL},
        {"wait", 0, KP_FLAG_DURATION, &wait_ns, "how long to wait for new nodes to be Ready (5m); 0: not at all", NULL},
        {"drain-timeout", 0, KP_FLAG_DURATION, &drain_ns, "how long to wait for a node's pods to go (5m)", NULL},
        {"output", 'o', KP_FLAG_STRING, &output, "json or yaml: print what was made and the steps' times", NULL},
        {0},
    };
    int r = cli_parse("scale controlplane", flags, argc, argv, &rest, &help, error);
    if (r == 0 && !help)
        r = cli_want_words("scale controlplane", &rest, 1, 1, error);
    if (r == 0 && !help && replicas < 0)
        r = kp_fail(error, KP_EUSAGE, "scale controlplane needs --replicas N");
    if (r == 0 && !help)
        r = cli_output_parse(output, &format, error);
    if (r == 0 && !help) {
        struct cli_operation op = {.drain_timeout_ms = drain_ns / 1000000, .output = format};
        cli_op_start(&op, wait_ns);
        r = scale_control_planes(&op, rest.items[0], replicas, error);
        cli_op_done(&op);
    }
    kp_strings_done(&rest);
    return r;
}
