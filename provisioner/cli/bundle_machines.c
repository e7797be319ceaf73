/* Of each machine: its console, the logs of what runs on it, and how its system stands. */
#include "provisioner/cli/bundle_internal.h"

#define LIST_MAX 65536

static const char list_script[] = "ls -1 /var/log/kprov/*.log /var/log/pods/kube-system_*/*/*.log 2>/dev/null; exit 0";
static const char system_script[] =
    "for c in 'uname -a' uptime 'cat /proc/meminfo' 'df -h' 'cat /proc/mounts' 'ip addr' 'ip route' 'ip neigh' 'ps -ef' 'nft list ruleset'"
    " 'ctr -n k8s.io containers list' 'ctr -n k8s.io images list -q'; do echo \"\\$ $c\"; timeout 10 $c 2>&1 | head -c 262144; echo; done; exit 0";

static void console(struct bundle *bundle, const struct cloud_machine *machine)
{
    KP_AUTO_BUF struct kp_buf text = {0};
    struct kp_error error = {0};
    const char *path = kp_arena_printf(bundle->arena, "machines/%s/console.log", machine->name);
    if (cloud_machine_console(bundle->cloud, bundle->cluster.uid, machine->name, &text, &error) < 0)
        bundle_error(bundle, path, "%s", error.message);
    else
        bundle_add(bundle, path, text.data ? text.data : "", text.len);
}

static bool run(struct bundle *bundle, const struct cloud_machine *machine, const char *path, const char *script, const char *argument, size_t max,
                struct kp_buf *out)
{
    const char *const argv[] = {"sh", "-c", script, "bundle", argument, NULL};
    struct kp_error error = {0};
    if (cli_exec_output(bundle->cloud, bundle->cluster.uid, machine->name, argv, max, out, &error) == 0)
        return true;
    bundle_error(bundle, path, "%s", error.message);
    return false;
}

/* "/var/log/pods/kube-system_etcd-x_uid/etcd/0.log" -> "pods/kube-system_etcd-x_uid/etcd/0.log" */
static void logs(struct bundle *bundle, const struct cloud_machine *machine)
{
    static const char root[] = "/var/log/";
    KP_AUTO_BUF struct kp_buf list = {0};
    size_t n = 0;
    const char *folder = kp_arena_printf(bundle->arena, "machines/%s", machine->name);
    if (!run(bundle, machine, kp_arena_printf(bundle->arena, "%s/logs", folder), list_script, "", LIST_MAX, &list) || !list.data)
        return;
    char *save = NULL;
    for (char *line = strtok_r(list.data, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
        KP_AUTO_BUF struct kp_buf text = {0};
        if (!kp_starts_with(line, root))
            continue;
        const char *path = kp_arena_printf(bundle->arena, "%s/%s", folder, line + sizeof(root) - 1);
        if (++n > BUNDLE_LOGS_MAX)
            bundle_error(bundle, path, "left out: more than %d logs", BUNDLE_LOGS_MAX);
        else if (run(bundle, machine, path, "exec tail -c 4194304 \"$1\"", line, BUNDLE_FILE_MAX, &text))
            bundle_add(bundle, path, text.data ? text.data : "", text.len);
    }
}

void bundle_machines(struct bundle *bundle)
{
    for (size_t i = 0; i < bundle->machines.len; i++) {
        const struct cloud_machine *machine = &bundle->machines.items[i];
        KP_AUTO_BUF struct kp_buf text = {0};
        if (cli_was_interrupted())
            return;
        console(bundle, machine);
        if (machine->power != CLOUD_POWER_ON) {
            bundle_error(bundle, kp_arena_printf(bundle->arena, "machines/%s", machine->name), "it is off: only its console is here");
            continue;
        }
        logs(bundle, machine);
        const char *path = kp_arena_printf(bundle->arena, "machines/%s/system.txt", machine->name);
        if (run(bundle, machine, path, system_script, "", BUNDLE_FILE_MAX, &text))
            bundle_add(bundle, path, text.data ? text.data : "", text.len);
    }
}
