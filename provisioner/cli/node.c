/* kprov node stop, node start, logs, exec: the machines one by one. */
#include <unistd.h>

#include "provisioner/bootstrap/bootstrap.h"
#include "provisioner/cli/cli.h"
#include "provisioner/remote/remote.h"

struct target {
    struct kp_arena *arena;
    struct cloud *cloud;
    struct state_cluster cluster;
    struct cloud_machine machine;
};

static int open_target(const char *cluster, const char *node, struct target *ret, struct kp_error *error)
{
    ret->arena = kp_arena_new(0);
    ret->cloud = NULL;
    int r = cli_cluster_open(cluster, ret->arena, &ret->cluster, &ret->cloud, error);
    return r < 0 ? r : cli_find_machine(ret->cloud, &ret->cluster, node, ret->arena, &ret->machine, error);
}

static void close_target(struct target *target)
{
    cloud_close(target->cloud);
    kp_arena_free(target->arena);
}

static void print_power(const struct target *target, enum cloud_power_action action, int64_t start_ms, enum cli_output output)
{
    struct kp_arena *arena = target->arena;
    if (output == CLI_TABLE) {
        fprintf(stderr, "%s %s\n", action == CLOUD_POWER_START ? "Started" : "Stopped", target->machine.name);
        return;
    }
    struct kp_value *root = kp_value_object(arena);
    kp_value_set(arena, root, "cluster", kp_value_string(arena, target->cluster.name));
    kp_value_set(arena, root, "name", kp_value_string(arena, target->machine.name));
    kp_value_set(arena, root, "power", kp_value_string(arena, action == CLOUD_POWER_START ? "on" : "off"));
    kp_value_set(arena, root, "seconds", kp_value_double(arena, (double)(kp_mono_ms() - start_ms) / 1000.0));
    cli_print_value(root, output);
}

static int set_power(const char *cluster, const char *node, enum cloud_power_action action, enum cli_output output, struct kp_error *error)
{
    static const char *const intents[] = {
        [CLOUD_POWER_START] = "start-machine", [CLOUD_POWER_STOP] = "stop-machine", [CLOUD_POWER_KILL] = "kill-machine"};
    struct target target;
    KP_AUTO(state_close) struct state *state = NULL;
    int64_t start_ms = kp_mono_ms();
    int r = state_open(cluster, false, &state, error);
    if (r < 0)
        return r;
    r = open_target(cluster, node, &target, error);
    if (r == 0)
        r = state_journal(state, intents[action], target.machine.name, error);
    if (r == 0)
        r = state_journal_end(state, intents[action], target.machine.name,
                              cloud_machine_power(target.cloud, target.cluster.uid, target.machine.name, action, error), error);
    if (r == 0)
        print_power(&target, action, start_ms, output);
    close_target(&target);
    return r;
}

int cli_node_stop(int argc, char **argv, struct kp_error *error)
{
    bool force = false, help = false;
    const char *output = "table";
    enum cli_output format = CLI_TABLE;
    const struct kp_flag flags[] = {
        {"force", 0, KP_FLAG_BOOL, &force, "pull the plug instead of shutting down", NULL},
        {"output", 'o', KP_FLAG_STRING, &output, "json or yaml: print what was done", NULL},
        {0},
    };
    struct kp_strings rest = {0};
    int r = cli_parse("node stop", flags, argc, argv, &rest, &help, error);
    if (r == 0 && !help)
        r = cli_want_words("node stop", &rest, 2, 2, error);
    if (r == 0 && !help)
        r = cli_output_parse(output, &format, error);
    if (r == 0 && !help)
        r = set_power(rest.items[0], rest.items[1], force ? CLOUD_POWER_KILL : CLOUD_POWER_STOP, format, error);
    kp_strings_done(&rest);
    return r;
}

int cli_node_start(int argc, char **argv, struct kp_error *error)
{
    bool help = false;
    const char *output = "table";
    enum cli_output format = CLI_TABLE;
    const struct kp_flag flags[] = {{"output", 'o', KP_FLAG_STRING, &output, "json or yaml: print what was done", NULL}, {0}};
    struct kp_strings rest = {0};
    int r = cli_parse("node start", flags, argc, argv, &rest, &help, error);
    if (r == 0 && !help)
        r = cli_want_words("node start", &rest, 2, 2, error);
    if (r == 0 && !help)
        r = cli_output_parse(output, &format, error);
    if (r == 0 && !help)
        r = set_power(rest.items[0], rest.items[1], CLOUD_POWER_START, format, error);
    kp_strings_done(&rest);
    return r;
}

static int run_on(const struct target *target, const char *const *argv, struct kp_error *error)
{
    const struct cloud_exec exec = {argv, STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO};
    int status = 0;
    int r = remote_exec(target->cloud, &target->cluster, &target->machine, &exec, &status, error);
    return r < 0 ? r : status;
}

static int print_console(const struct target *target, struct kp_error *error)
{
    KP_AUTO_BUF struct kp_buf text = {0};
    int r = cloud_machine_console(target->cloud, target->cluster.uid, target->machine.name, &text, error);
    if (r == 0)
        fwrite(text.data, 1, text.len, stdout);
    return r;
}

/* A service of the node's init logs to /var/log/kprov; whatever runs as a pod, to /var/log/pods. kube-apiserver-audit is the audit log. */
static int print_log(const struct target *target, const char *component, bool follow, struct kp_error *error)
{
    static const char *const script =
        "f=/var/log/kprov/$1.log; [ \"$1\" != kube-apiserver-audit ] || f=" BOOTSTRAP_AUDIT_LOG "; [ -e \"$f\" ] || f=$(ls -t /var/log/pods/kube-system_$1*/*/*.log 2>/dev/null | head -n 1);"
        " [ -n \"$f\" ] || { echo \"kprov: no program $1 has logged on this node\" >&2; exit 1; };"
        " if [ \"$2\" = follow ]; then exec tail -n +1 -F \"$f\"; fi; exec cat \"$f\"";
    if (strspn(component, "abcdefghijklmnopqrstuvwxyz0123456789-") != strlen(component))
        return kp_fail(error, KP_EUSAGE, "\"%s\" is no name of a program", component);
    const char *const argv[] = {"sh", "-c", script, "logs", component, follow ? "follow" : "once", NULL};
    return run_on(target, argv, error);
}

int cli_logs(int argc, char **argv, struct kp_error *error)
{
    bool follow = false, help = false;
    const struct kp_flag flags[] = {{"follow", 'f', KP_FLAG_BOOL, &follow, "go on as the log grows", NULL}, {0}};
    struct kp_strings rest = {0};
    struct target target;
    int r = cli_parse("logs", flags, argc, argv, &rest, &help, error);
    if (r == 0 && !help)
        r = cli_want_words("logs", &rest, 2, 3, error);
    if (r == 0 && !help) {
        r = open_target(rest.items[0], rest.items[1], &target, error);
        if (r == 0)
            r = rest.len == 3 ? print_log(&target, rest.items[2], follow, error) : print_console(&target, error);
        close_target(&target);
    }
    kp_strings_done(&rest);
    return r;
}

int cli_exec(int argc, char **argv, struct kp_error *error)
{
    bool help = false;
    const struct kp_flag flags[] = {{0}};
    struct kp_strings rest = {0};
    struct target target;
    int r = cli_parse("exec", flags, argc, argv, &rest, &help, error);
    if (r == 0 && !help)
        r = cli_want_words("exec", &rest, 3, (size_t)argc, error);
    if (r == 0 && !help) {
        r = open_target(rest.items[0], rest.items[1], &target, error);
        const char **words = kp_calloc(rest.len, sizeof(*words)); /* the last stays NULL */
        for (size_t i = 2; i < rest.len; i++)
            words[i - 2] = rest.items[i];
        if (r == 0)
            r = run_on(&target, words, error);
        free(words);
        close_target(&target);
    }
    kp_strings_done(&rest);
    return r;
}
