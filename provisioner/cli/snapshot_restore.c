/* kprov etcd snapshot restore: a cluster's etcd becomes what a snapshot says, on all control planes at once. */
#include <pthread.h>
#include <unistd.h>

#include "api/k8s.h"
#include "client/client.h"
#include "provisioner/cli/snapshot_internal.h"

#define ASK_MS 2000

struct restoring {
    struct cli_operation op; /* first: the steps get its address */
    const char *word, *path;
    bool yes;
};

static int for_each_control_plane(struct cli_operation *op, int (*run)(struct cli_operation *op, const struct bootstrap_node *node, struct kp_error *error),
                                  struct kp_error *error)
{
    int r = 0;
    for (size_t i = 0; r == 0 && i < op->bootstrap.n_nodes; i++) {
        if (!op->bootstrap.nodes[i].control_plane)
            continue;
        cli_progress_tick(&op->progress, op->bootstrap.nodes[i].name);
        r = cli_interrupted(error);
        if (r == 0)
            r = run(op, &op->bootstrap.nodes[i], error);
    }
    return r;
}

static int note_stop(struct cli_operation *op, const struct bootstrap_node *node, struct kp_error *error)
{
    return state_journal(op->state, "stop-machine", node->name, error);
}

struct stopping {
    const struct cli_operation *op;
    const char *name; /* of the machine */
    pthread_t thread;
    struct kp_error error;
};

static void *stop(void *arg)
{
    struct stopping *stopping = arg;
    stopping->error.code =
        cloud_machine_power(stopping->op->cloud, stopping->op->cluster.uid, stopping->name, CLOUD_POWER_STOP, &stopping->error);
    return NULL;
}

static int reimage(struct cli_operation *op, const struct bootstrap_node *node, struct kp_error *error)
{
    struct cloud_machine machine;
    KP_AUTO_BUF struct kp_buf user_data = {0};
    int r = cloud_machine_get(op->cloud, op->cluster.uid, node->name, op->arena, &machine, error);
    if (r == 0)
        r = cli_op_user_data(op, node, &user_data, error);
    if (r == 0)
        r = state_journal(op->state, "reimage-machine", node->name, error);
    if (r < 0)
        return r;
    const struct cloud_machine_spec spec = {
        .cluster_uid = op->cluster.uid, .name = node->name, .role = machine.role, .pool = machine.pool, .machine_type = machine.machine_type,
        .image = machine.image, .address = machine.address, .user_data = user_data.data, .user_data_len = user_data.len,
    };
    return cloud_machine_reimage(op->cloud, &spec, op->arena, &machine, error);
}

/* All at once: without a quorum the API servers of those that are left end no sooner than their time is up. */
static int stop_all(struct cli_operation *op, struct kp_error *error)
{
    struct stopping all[CONFIG_CONTROL_PLANES_MAX] = {0};
    size_t n = 0;
    int r = for_each_control_plane(op, note_stop, error);
    if (r < 0)
        return r;
    for (size_t i = 0; i < op->bootstrap.n_nodes && n < KP_ARRAY_LEN(all); i++) {
        if (!op->bootstrap.nodes[i].control_plane)
            continue;
        all[n] = (struct stopping){.op = op, .name = op->bootstrap.nodes[i].name};
        KP_ASSERT(pthread_create(&all[n].thread, NULL, stop, &all[n]) == 0);
        n++;
    }
    for (size_t i = 0; i < n; i++) {
        pthread_join(all[i].thread, NULL);
        if (all[i].error.code < 0 && r == 0) {
            *error = all[i].error;
            r = error->code;
        }
    }
    return r;
}

static int start_all(struct cli_operation *op, struct kp_error *error)
{
    return for_each_control_plane(op, reimage, error);
}

/* A restore is of the machines that are there: missing ones are another command's. */
static int check_plan(struct cli_operation *op, struct kp_error *error)
{
    for (size_t i = 0; i < op->plan.n_actions; i++) {
        const struct plan_action *action = &op->plan.actions[i];
        if (action->verb == PLAN_CREATE && kp_streq(action->machine->role, "control-plane"))
            return kp_fail(error, KP_ECONFLICT, "control plane %s is not there: kprov repair %s, or make another cluster from the snapshot with "
                           "kprov create cluster --from-snapshot", action->name, op->cluster.name);
    }
    return cli_restore_plan(op, error);
}

static const struct cli_step steps[] = {
    {"Certificates", cli_op_prepare_pki, false},
    {"Network", cli_op_prepare_network, false},
    {"Plan", cli_op_prepare_nodes, false},
    {"Snapshot and machines fit", check_plan, false},
    {"Control planes stopped", stop_all, false},
    {"Control planes started on the snapshot", start_all, false},
    {"Snapshot brought", cli_restore_bring, false},
    {"API server answers", cli_op_wait_api, false},
    {"Machines of the past removed", cli_restore_reconcile, false},
    {"Add-ons applied", cli_op_apply_addons, false},
    {"Node roles", cli_op_mark_control_planes, false},
    {"All nodes Ready", cli_op_wait_nodes, true},
    {"State", cli_restore_end, false},
    {0},
};

/* The newest revision that anyone may have seen; of a cluster that does not answer, 0. */
static int64_t newest_revision(struct cli_operation *op)
{
    KP_AUTO(cli_api_close) struct cli_api *api = NULL;
    KP_AUTO_BUF struct kp_buf body = {0};
    const char *path = NULL;
    struct kp_error none = {0};
    struct kp_value *root = NULL;
    int64_t revision = 0;
    if (cli_state_path(op->cluster.name, "admin.conf", op->arena, &path, &none) < 0 || cli_api_open(path, &api, &none) < 0 ||
        cli_api_wait(api, kp_mono_ms() + ASK_MS, &op->progress, &none) < 0 ||
        client_raw(cli_api_client(api), "GET", "/api/v1/namespaces?limit=1", NULL, NULL, 0, &body, NULL, &none) < 0 ||
        kp_value_parse(body.data ? body.data : "", body.len, op->arena, NULL, &root, &none) < 0)
        return 0;
    const char *text = kp_value_str(kp_value_path(root, "metadata", "resourceVersion", NULL));
    return text && kp_parse_i64(text, &revision) == 0 ? revision : 0;
}

/* Of a cluster that did not answer: the last restore is remembered, and nobody makes a thousand million changes between two. */
static int64_t remembered_revision(struct cli_operation *op)
{
    KP_AUTO_BUF struct kp_buf text = {0};
    int64_t revision = 0;
    if (state_read_file(op->cluster.name, "restored-revision", &text, NULL) < 0 || !text.data || kp_parse_i64(text.data, &revision) < 0)
        return 0;
    return revision;
}

static int remember_revision(struct cli_operation *op, struct kp_error *error)
{
    char text[32];
    struct snapshot_info info;
    const char *path = NULL;
    int r = cli_state_path(op->cluster.name, "restore.db", op->arena, &path, error);
    if (r == 0)
        r = snapshot_check(path, &info, error);
    if (r < 0)
        return r;
    int n = snprintf(text, sizeof(text), "%lld", (long long)(info.revision + op->restore->bump_revision));
    return state_write_file(op->state, "restored-revision", text, (size_t)n, error);
}

static int confirm(const struct restoring *restoring, struct kp_error *error)
{
    char answer[16] = "";
    if (restoring->yes)
        return 0;
    if (!isatty(STDIN_FILENO))
        return kp_fail(error, KP_EUSAGE, "a restore throws away what came after the snapshot: say --yes");
    fprintf(stderr, "Stop the control planes of cluster %s, and throw away what came after %s? [y/N] ", restoring->op.cluster.name, restoring->path);
    if (!fgets(answer, sizeof(answer), stdin) || (answer[0] != 'y' && answer[0] != 'Y'))
        return kp_fail(error, KP_ECANCELLED, "not restored");
    return 0;
}

/* Here, or else on the control plane that its name tells: it is brought here first. */
static int find_file(struct restoring *restoring, const char *cluster, struct kp_error *error)
{
    struct cli_operation *op = &restoring->op;
    struct cli_saving saving = {.arena = op->arena};
    struct snapshot_scheduled found;
    struct kp_error why = {0};
    int r = cli_snapshot_find(cluster, restoring->word, op->arena, &restoring->path, &why);
    if (r == 0)
        return 0;
    if (r != KP_ENOTFOUND || strchr(restoring->word, '/') || snapshot_scheduled_parse(restoring->word, &found) < 0)
        return kp_fail(error, r, "%s", why.message);
    r = cli_snapshot_fetch_to(&saving, cluster, restoring->word, NULL, error);
    restoring->path = saving.path;
    cli_saving_done(&saving);
    return r;
}

static int restore(struct restoring *restoring, const char *cluster, struct kp_error *error)
{
    struct cli_operation *op = &restoring->op;
    struct snapshot_info info;
    int r = cli_op_open(op, cluster, error);
    if (r == 0)
        r = find_file(restoring, cluster, error);
    if (r == 0)
        r = snapshot_check(restoring->path, &info, error);
    if (r == 0)
        r = confirm(restoring, error);
    if (r == 0)
        r = cli_restore_begin(op, restoring->path, KP_MAX(newest_revision(op), remembered_revision(op)), error);
    if (r == 0)
        r = remember_revision(op, error);
    if (r == 0)
        r = cli_op_run(op, steps, error);
    if (r == 0)
        fprintf(stderr, "Cluster %s is as it was at revision %lld\n", cluster, (long long)info.revision);
    return r;
}

int cli_snapshot_restore(int argc, char **argv, struct kp_error *error)
{
    struct restoring restoring = {0};
    int64_t wait_ns = 300000000000;
    bool help = false;
    const struct kp_flag flags[] = {
        {"yes", 0, KP_FLAG_BOOL, &restoring.yes, "do not ask", NULL},
        {"wait", 0, KP_FLAG_DURATION, &wait_ns, "how long to wait for all nodes to be Ready (5m); 0: not at all", NULL},
        {0},
    };
    struct kp_strings rest = {0};
    int r = cli_parse("etcd snapshot restore", flags, argc, argv, &rest, &help, error);
    if (r == 0 && !help)
        r = cli_want_words("etcd snapshot restore", &rest, 2, 2, error);
    if (r == 0 && !help) {
        restoring.word = rest.items[1];
        cli_op_start(&restoring.op, wait_ns);
        r = restore(&restoring, rest.items[0], error);
        cli_op_done(&restoring.op);
    }
    kp_strings_done(&rest);
    return r;
}
