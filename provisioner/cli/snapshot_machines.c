/* kprov etcd snapshot fetch, and the rows of list for what lies on the control planes: snapshots that kprov-snapshots takes there. */
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "provisioner/cli/snapshot_internal.h"

#define LIST_MAX ((size_t)1 << 20)

static int run_there(struct cloud *cloud, const struct state_cluster *cluster, const struct cloud_machine *machine, const char *const *argv, int out,
                     struct kp_error *error)
{
    KP_AUTO_CLOSE int in = open("/dev/null", O_RDONLY | O_CLOEXEC);
    int status = 0;
    if (in < 0)
        return kp_fail_errno(error, "open /dev/null");
    const struct cloud_exec exec = {argv, in, out, STDERR_FILENO};
    int r = remote_exec(cloud, cluster, machine, &exec, &status, error);
    return r < 0 || status == 0 ? r : kp_fail(error, KP_EIO, "on %s it ended with %d", machine->name, status);
}

/* ---- list */
static void add_row(const char *machine, const char *name, int64_t size, const struct snapshot_scheduled *found, struct kp_value *rows,
                    struct kp_arena *arena)
{
    char taken[KP_RFC3339_MAX], age[CLI_AGE_MAX];
    struct kp_value *row = kp_value_object(arena);
    kp_format_rfc3339(taken, found->taken_s, 0, false);
    cli_format_age(found->taken_s, kp_now_s(), age);
    kp_value_set(arena, row, "name", kp_value_string(arena, name));
    kp_value_set(arena, row, "where", kp_value_string(arena, machine));
    kp_value_set(arena, row, "member", kp_value_string(arena, found->machine));
    kp_value_set(arena, row, "taken", kp_value_string(arena, taken));
    kp_value_set(arena, row, "age", kp_value_string(arena, age));
    kp_value_set(arena, row, "revision", kp_value_int(arena, found->revision));
    kp_value_set(arena, row, "size", kp_value_int(arena, size));
    kp_value_append(arena, rows, row);
}

/* Lines of "size name". What is no name of ours is somebody else's file. */
static void add_lines(const char *machine, char *text, struct kp_value *rows, struct kp_arena *arena)
{
    char *save = NULL;
    for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
        struct snapshot_scheduled found;
        int64_t size = 0;
        char *space = strchr(line, ' ');
        if (!space)
            continue;
        *space = 0;
        if (kp_parse_i64(line, &size) == 0 && snapshot_scheduled_parse(space + 1, &found) == 0)
            add_row(machine, kp_arena_strdup(arena, space + 1), size, &found, rows, arena);
    }
}

static int list_one(struct cloud *cloud, const struct state_cluster *cluster, const struct cloud_machine *machine, struct kp_value *rows,
                    struct kp_arena *arena, struct kp_error *error)
{
    static const char script[] = "cd \"$1\" 2>/dev/null || exit 0; for f in *.db; do [ ! -f \"$f\" ] || stat -c '%s %n' \"$f\"; done";
    const char *const argv[] = {"sh", "-c", script, "list", cluster->config.snapshots.dir, NULL};
    KP_AUTO_CLOSE int out = memfd_create("kprov-snapshots", MFD_CLOEXEC);
    KP_AUTO_FREE char *text = kp_calloc(1, LIST_MAX + 1);
    if (out < 0)
        return kp_fail_errno(error, "make a file in memory");
    int r = run_there(cloud, cluster, machine, argv, out, error);
    if (r == 0 && pread(out, text, LIST_MAX, 0) < 0)
        r = kp_fail_errno(error, "read a file in memory");
    if (r == 0)
        add_lines(machine->name, text, rows, arena);
    return r;
}

static bool takes_snapshots(const struct cloud_machine *machine)
{
    return kp_streq(machine->role, "control-plane");
}

void cli_snapshot_list_machines(const struct state_cluster *cluster, struct kp_value *rows, struct kp_arena *arena)
{
    KP_AUTO(cloud_close) struct cloud *cloud = NULL;
    struct state_cluster again;
    struct cloud_machine_list machines = {0};
    struct kp_error error = {0};
    int r = cli_cluster_open(cluster->name, arena, &again, &cloud, &error);
    if (r == 0)
        r = cloud_machine_list(cloud, cluster->uid, arena, &machines, &error);
    if (r < 0)
        fprintf(stderr, "kprov: what the control planes have is not known: %s\n", error.message);
    for (size_t i = 0; r == 0 && i < machines.len; i++) {
        struct kp_error why = {0};
        if (takes_snapshots(&machines.items[i]) && list_one(cloud, cluster, &machines.items[i], rows, arena, &why) < 0)
            fprintf(stderr, "kprov: what %s has is not known: %s\n", machines.items[i].name, why.message);
    }
}

/* ---- fetch */
static int bring(struct cli_saving *saving, const struct cloud_machine *machine, const char *name, const char *part, struct kp_error *error)
{
    const char *const argv[] = {"cat", kp_arena_printf(saving->arena, "%s/%s", saving->cluster.config.snapshots.dir, name), NULL};
    KP_AUTO_CLOSE int fd = open(part, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0)
        return kp_fail_errno(error, "create %s", part);
    int r = run_there(saving->cloud, &saving->cluster, machine, argv, fd, error);
    return r == 0 && fsync(fd) < 0 ? kp_fail_errno(error, "write %s", part) : r;
}

int cli_snapshot_fetch_to(struct cli_saving *saving, const char *cluster, const char *name, const char *file, struct kp_error *error)
{
    struct snapshot_scheduled found;
    struct cloud_machine machine;
    if (snapshot_scheduled_parse(name, &found) < 0)
        return kp_fail(error, KP_EINVALID, "\"%s\" is no name of a snapshot on a control plane: see kprov etcd snapshot list %s", name, cluster);
    int r = cli_saving_open(saving, cluster, error);
    if (r == 0)
        r = cli_saving_choose(saving, file, name, error);
    if (r == 0)
        r = cloud_machine_get(saving->cloud, saving->cluster.uid, found.machine, saving->arena, &machine, error);
    if (r < 0)
        return r;
    const char *part = kp_arena_printf(saving->arena, "%s.part", saving->path);
    saving->meta.taken_s = found.taken_s;
    saving->meta.endpoint = kp_arena_strdup(saving->arena, found.machine);
    r = bring(saving, &machine, name, part, error);
    if (r == 0)
        r = cli_saving_publish(saving, part, error);
    if (r < 0)
        unlink(part);
    return r < 0 ? kp_wrap(error, "fetch snapshot %s", name) : 0;
}

int cli_snapshot_fetch(int argc, char **argv, struct kp_error *error)
{
    const char *format = "table";
    enum cli_output output;
    bool help = false;
    const struct kp_flag flags[] = {{"output", 'o', KP_FLAG_STRING, &format, "json or yaml: print what was fetched", NULL}, {0}};
    struct kp_strings rest = {0};
    int r = cli_parse("etcd snapshot fetch", flags, argc, argv, &rest, &help, error);
    if (r == 0 && !help)
        r = cli_want_words("etcd snapshot fetch", &rest, 2, 3, error);
    if (r == 0 && !help)
        r = cli_output_parse(format, &output, error);
    if (r == 0 && !help) {
        struct cli_saving saving = {.arena = kp_arena_new(0)};
        r = cli_snapshot_fetch_to(&saving, rest.items[0], rest.items[1], rest.len == 3 ? rest.items[2] : NULL, error);
        if (r == 0)
            cli_saving_print(&saving, output);
        cli_saving_done(&saving);
        kp_arena_free(saving.arena);
    }
    kp_strings_done(&rest);
    return r;
}
