/* Another schedule of snapshots for control planes that run: kprov-snapshots looks at its config every few seconds. */
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "provisioner/cli/snapshot_internal.h"

static int write_there(struct cli_operation *op, const struct cloud_machine *machine, const char *text, struct kp_error *error)
{
    static const char script[] = "set -e; umask 077; cat > \"$1.new\"; mv \"$1.new\" \"$1\"";
    const char *const argv[] = {"sh", "-c", script, "schedule", BOOTSTRAP_SNAPSHOTS_CONFIG, NULL};
    KP_AUTO_CLOSE int in = memfd_create("kprov-schedule", MFD_CLOEXEC);
    KP_AUTO_CLOSE int out = open("/dev/null", O_WRONLY | O_CLOEXEC);
    int status = 0;
    if (in < 0 || out < 0 || write(in, text, strlen(text)) != (ssize_t)strlen(text) || lseek(in, 0, SEEK_SET) < 0)
        return kp_fail_errno(error, "make a file in memory");
    const struct cloud_exec exec = {argv, in, out, STDERR_FILENO};
    int r = remote_exec(op->cloud, &op->cluster, machine, &exec, &status, error);
    return r < 0 || status == 0 ? r : kp_fail(error, KP_EIO, "write the schedule of snapshots on %s: it ended with %d", machine->name, status);
}

/* For its next boot first: a machine that goes off meanwhile has it then. */
static int change_machine(struct cli_operation *op, const struct bootstrap_node *node, const char *text, struct kp_error *error)
{
    KP_AUTO_BUF struct kp_buf user_data = {0};
    struct cloud_machine machine;
    int r = cloud_machine_get(op->cloud, op->cluster.uid, node->name, op->arena, &machine, error);
    if (r == KP_ENOTFOUND)
        return 0; /* it is made later in this run */
    if (r == 0)
        r = bootstrap_user_data(&op->bootstrap, node, &user_data, error);
    if (r == 0)
        r = cli_op_at_next_boot(op, &machine, &user_data, error);
    return r < 0 || machine.power != CLOUD_POWER_ON ? r : write_there(op, &machine, text, error);
}

int cli_op_change_schedule(struct cli_operation *op, struct kp_error *error)
{
    const char *text = bootstrap_snapshots_config(&op->cluster.config, op->arena);
    int r = 0;
    for (size_t i = 0; r == 0 && i < op->bootstrap.n_nodes; i++) {
        if (!op->bootstrap.nodes[i].control_plane)
            continue;
        cli_progress_tick(&op->progress, op->bootstrap.nodes[i].name);
        r = cli_interrupted(error);
        if (r == 0)
            r = change_machine(op, &op->bootstrap.nodes[i], text, error);
    }
    return r;
}
