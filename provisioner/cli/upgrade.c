/* kprov upgrade cluster and kprov rollback cluster: which image a cluster is to run. How it gets there is rollout.c's. */
#include <unistd.h>

#include "base/version.h"
#include "provisioner/cli/rollout_internal.h"

#define MACHINE_NS 300000000000 /* of a health gate: an emulated machine boots slowly */

#define ROLLBACK_INTENT "rollback-cluster" /* object: the image gone back to */

struct upgrade_options {
    const char *cluster, *version, *image, *output;
    int64_t machine_ns, drain_ns;
    bool yes, dry_run;
};
struct target {
    const char *image, *version;
};

/* ---- what an upgrade goes to */

static int choose_target(const struct upgrade_options *options, struct kp_arena *arena, struct target *ret, struct kp_error *error)
{
    int r = 0;
    *ret = (struct target){options->image, kp_version};
    if (options->image)
        r = cli_image_version(options->image, arena, &ret->version, error);
    if (r == 0 && options->version && !kp_streq(options->version, ret->version))
        return options->image ? kp_fail(error, KP_EINVALID, "node image %s is of %s, not of %s", options->image, ret->version, options->version)
                              : kp_fail(error, KP_EINVALID,
                                        "this kprov installs %s, not %s: use the kprov of that version, or name an image of it with --image (kprov image list)",
                                        kp_version, options->version);
    if (r == 0 && !options->image)
        r = cli_image_ensure(arena, &ret->image, error);
    return r;
}

/* From the version that was wanted, and from those that an unfinished roll-out has left on machines. */
static int check_versions(struct cli_operation *op, const struct target *target, struct kp_error *error)
{
    struct cloud_machine_list machines;
    int r = config_check_upgrade(op->cluster.config.kubernetes_version, target->version, error);
    if (r == 0 && op->cluster.rollout != STATE_ROLLOUT_IDLE)
        r = cloud_machine_list(op->cloud, op->cluster.uid, op->arena, &machines, error);
    if (r < 0 || op->cluster.rollout == STATE_ROLLOUT_IDLE)
        return r;
    for (size_t i = 0; r == 0 && i < machines.len; i++) {
        const char *version = NULL;
        r = cli_image_version(machines.items[i].image, op->arena, &version, error);
        if (r == 0 && config_check_upgrade(version, target->version, error) < 0)
            r = kp_wrap(error, "machine %s", machines.items[i].name);
    }
    return r;
}

static void set_release(struct cli_operation *op, const struct target *target, enum state_rollout rollout)
{
    op->cluster.image = target->image;
    op->cluster.config.kubernetes_version = target->version;
    if (!kp_empty(op->cluster.config.image))
        op->cluster.config.image = target->image;
    op->cluster.rollout = rollout;
}

/* What came before an unfinished roll-out stays what a rollback goes to: the release that was never whole is no history. */
static int begin_upgrade(struct cli_operation *op, const struct target *target, struct kp_error *error)
{
    if (kp_streq(op->cluster.image, target->image) && kp_streq(op->cluster.config.kubernetes_version, target->version))
        return 0;
    int r = check_versions(op, target, error);
    if (r < 0)
        return r;
    if (op->cluster.rollout == STATE_ROLLOUT_IDLE)
        state_add_release(&op->cluster, op->cluster.image, op->cluster.config.kubernetes_version);
    set_release(op, target, STATE_ROLLOUT_UPGRADE);
    return 0;
}

static int begin_rollback(struct cli_operation *op, struct kp_error *error)
{
    const char *version = NULL;
    if (op->cluster.rollout == STATE_ROLLOUT_ROLLBACK)
        return 0;
    if (op->cluster.n_history == 0)
        return kp_fail(error, KP_ENOTFOUND, "cluster %s has run nothing but %s (%s): there is nothing to go back to", op->cluster.name,
                       op->cluster.image, op->cluster.config.kubernetes_version);
    struct state_release former = op->cluster.history[op->cluster.n_history - 1];
    int r = cli_image_version(former.image, op->arena, &version, error);
    if (r < 0)
        return r;
    op->cluster.n_history--;
    set_release(op, &(struct target){former.image, former.version}, STATE_ROLLOUT_ROLLBACK);
    return 0;
}

/* A roll-back that was whole but for its last word in the journal: the same command again goes no further back. */
static int is_rolled_back(struct cli_operation *op, bool *ret, struct kp_error *error)
{
    bool unfinished = false;
    int r = cli_is_unfinished(op->cluster.name, ROLLBACK_INTENT, op->cluster.image, &unfinished, error);
    *ret = r == 0 && unfinished && op->cluster.rollout == STATE_ROLLOUT_IDLE;
    if (!*ret)
        return r;
    fprintf(stderr, "Cluster %s is back at %s (%s) already: the earlier run had come to its end\n", op->cluster.name,
            op->cluster.config.kubernetes_version, op->cluster.image);
    return state_journal_end(op->state, ROLLBACK_INTENT, op->cluster.image, 0, error);
}

/* ---- what will be done */

static struct kp_value *rows(struct cli_operation *op, const struct cloud_machine_list *machines, size_t *ret_due)
{
    struct kp_arena *arena = op->arena;
    struct kp_value *list = kp_value_array(arena);
    *ret_due = 0;
    for (size_t i = 0; i < machines->len; i++) {
        const struct cloud_machine *machine = &machines->items[i];
        bool due = !kp_streq(machine->image, op->cluster.image);
        struct kp_value *row = kp_value_object(arena);
        kp_value_set(arena, row, "machine", kp_value_string(arena, machine->name));
        kp_value_set(arena, row, "role", kp_value_string(arena, machine->role));
        kp_value_set(arena, row, "action", kp_value_string(arena, due ? "reimage" : "keep"));
        kp_value_set(arena, row, "from", kp_value_string(arena, machine->image));
        kp_value_set(arena, row, "to", kp_value_string(arena, op->cluster.image));
        kp_value_set(arena, row, "version", kp_value_string(arena, op->cluster.config.kubernetes_version));
        kp_value_append(arena, list, row);
        *ret_due += due;
    }
    return list;
}

static int confirm(const struct upgrade_options *options, const struct cli_operation *op, size_t due, struct kp_error *error)
{
    char line[64];
    if (options->yes || due == 0)
        return 0;
    if (!isatty(STDIN_FILENO))
        return kp_fail(error, KP_EUSAGE, "restarting %zu machines with %s (%s) asks for a yes: pass --yes", due, op->cluster.image,
                       op->cluster.config.kubernetes_version);
    fprintf(stderr, "Restart %zu machines of %s one by one with %s (%s)? [y/N] ", due, op->cluster.name, op->cluster.image,
            op->cluster.config.kubernetes_version);
    if (!fgets(line, sizeof(line), stdin) || (line[0] != 'y' && line[0] != 'Y'))
        return kp_fail(error, KP_ECANCELLED, "nothing was changed");
    return 0;
}

/* Whether a machine has a newer version than the one wanted: pools go first then. An image that is gone cannot be asked. */
static bool goes_down(struct cli_operation *op, const struct cloud_machine_list *machines)
{
    bool down = false;
    for (size_t i = 0; i < machines->len && !down; i++) {
        struct kp_error error = {0};
        const char *version = NULL;
        if (cli_image_version(machines->items[i].image, op->arena, &version, &error) == 0)
            down = config_compare_versions(version, op->cluster.config.kubernetes_version) > 0;
    }
    return down;
}

/* The state says what is wanted before the first machine is touched, so that an interrupted run is known as one. */
static int carry_out(struct cli_operation *op, const struct upgrade_options *options, bool fresh, const char *command, struct kp_error *error)
{
    static const char *const columns[] = {"machine", "role", "action", "from", "to", "version", NULL};
    struct cloud_machine_list machines;
    enum cli_output output;
    size_t due = 0;
    int r = cli_output_parse(options->output, &output, error);
    if (r == 0)
        r = cloud_machine_list(op->cloud, op->cluster.uid, op->arena, &machines, error);
    if (r < 0)
        return r;
    struct kp_value *list = rows(op, &machines, &due);
    if (options->dry_run) {
        cli_print_list(list, columns, output);
        return 0;
    }
    if (due == 0 && op->cluster.rollout == STATE_ROLLOUT_IDLE) {
        fprintf(stderr, "Nothing to do: every machine of cluster %s has %s (%s)\n", op->cluster.name, op->cluster.image,
                op->cluster.config.kubernetes_version);
        return 0;
    }
    bool back = op->cluster.rollout == STATE_ROLLOUT_ROLLBACK;
    struct cli_rollout rollout = {
        .op = op, .command = command, .machine_timeout_ms = options->machine_ns / 1000000,
        .down = goes_down(op, &machines),
    };
    r = confirm(options, op, due, error);
    if (r == 0 && fresh)
        r = cli_rollout_preflight(&rollout, &machines, error);
    if (r == 0 && back)
        r = state_journal(op->state, ROLLBACK_INTENT, op->cluster.image, error);
    if (r == 0)
        r = state_write(op->state, &op->cluster, error);
    if (r == 0)
        r = cli_rollout_run(&rollout, error);
    if (back)
        r = state_journal_end(op->state, ROLLBACK_INTENT, op->cluster.image, r, error);
    if (r == 0)
        fprintf(stderr, "Cluster %s runs %s (%s) on all %zu machines after %.1fs\n", op->cluster.name, op->cluster.config.kubernetes_version,
                op->cluster.image, machines.len, (double)(kp_mono_ms() - op->progress.start_ms) / 1000.0);
    return r;
}

int cli_op_release(struct cli_operation *op, const char *image, const char *version, struct kp_error *error)
{
    const struct upgrade_options options = {
        .cluster = op->cluster.name, .image = image, .version = version, .output = "table", .machine_ns = MACHINE_NS, .yes = true,
    };
    struct target target;
    bool fresh = op->cluster.rollout == STATE_ROLLOUT_IDLE;
    int r = image || version ? choose_target(&options, op->arena, &target, error) : 0;
    if (r == 0 && (image || version))
        r = begin_upgrade(op, &target, error);
    if (r == 0 && image) /* the file names it: it is wanted by that name */
        op->cluster.config.image = image;
    return r < 0 ? r : carry_out(op, &options, fresh, "kprov apply -f the same file", error);
}

static int upgrade(const struct upgrade_options *options, bool back, struct kp_error *error)
{
    struct cli_operation op = {.drain_timeout_ms = options->drain_ns / 1000000};
    struct target target;
    cli_op_start(&op, 0);
    bool done = false;
    int r = cli_op_open(&op, options->cluster, error);
    if (r == 0 && back)
        r = is_rolled_back(&op, &done, error);
    if (done) {
        cli_op_done(&op);
        return r;
    }
    bool fresh = r == 0 && !back && op.cluster.rollout == STATE_ROLLOUT_IDLE;
    if (r == 0 && back)
        r = begin_rollback(&op, error);
    if (r == 0 && !back)
        r = choose_target(options, op.arena, &target, error);
    if (r == 0 && !back)
        r = begin_upgrade(&op, &target, error);
    if (r == 0)
        r = carry_out(&op, options, fresh,
                      kp_arena_printf(op.arena, "kprov %s cluster %s%s%s", back ? "rollback" : "upgrade", options->cluster,
                                      options->image ? " --image " : "", options->image ? options->image : ""),
                      error);
    cli_op_done(&op);
    return r;
}

static int run(const char *words, const struct kp_flag *flags, struct upgrade_options *options, int argc, char **argv, struct kp_error *error)
{
    struct kp_strings rest = {0};
    bool help = false;
    int r = cli_parse(words, flags, argc, argv, &rest, &help, error);
    if (r == 0 && !help)
        r = cli_want_words(words, &rest, 1, 1, error);
    if (r == 0 && !help && (options->machine_ns <= 0 || options->drain_ns <= 0))
        r = kp_fail(error, KP_EUSAGE, "%s: --machine-timeout and --drain-timeout must be longer than 0", words);
    if (r == 0 && !help) {
        options->cluster = rest.items[0];
        r = upgrade(options, kp_streq(words, "rollback cluster"), error);
    }
    kp_strings_done(&rest);
    return r;
}

#define SHARED_FLAGS(o) \
    {"yes", 'y', KP_FLAG_BOOL, &(o).yes, "do not ask before machines are restarted", NULL}, \
    {"dry-run", 0, KP_FLAG_BOOL, &(o).dry_run, "only print what would be done", NULL}, \
    {"output", 'o', KP_FLAG_STRING, &(o).output, "of --dry-run: table, json or yaml", NULL}, \
    {"machine-timeout", 0, KP_FLAG_DURATION, &(o).machine_ns, "how long a machine with the new image may take to be well (5m)", NULL}, \
    {"drain-timeout", 0, KP_FLAG_DURATION, &(o).drain_ns, "how long to wait for a node's pods to go (5m)", NULL}

int cli_upgrade_cluster(int argc, char **argv, struct kp_error *error)
{
    struct upgrade_options options = {.output = "table", .machine_ns = MACHINE_NS, .drain_ns = 300000000000};
    const struct kp_flag flags[] = {
        {"version", 0, KP_FLAG_STRING, &options.version, "the version to go to, to be sure: this kprov installs one", NULL},
        {"image", 0, KP_FLAG_STRING, &options.image, "node image to go to (the one of this kprov; built when it is not there)", NULL},
        SHARED_FLAGS(options),
        {0},
    };
    return run("upgrade cluster", flags, &options, argc, argv, error);
}

int cli_rollback_cluster(int argc, char **argv, struct kp_error *error)
{
    struct upgrade_options options = {.output = "table", .machine_ns = MACHINE_NS, .drain_ns = 300000000000};
    const struct kp_flag flags[] = {SHARED_FLAGS(options), {0}};
    return run("rollback cluster", flags, &options, argc, argv, error);
}
