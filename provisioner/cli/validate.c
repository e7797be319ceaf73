/* kprov validate cluster: the checks one after another, a line for each. */
#include "provisioner/cli/validate_internal.h"

#define ROUND_PAUSE_MS 1000 /* between two rounds of --wait */

const char *validate_result_name(enum validate_result result)
{
    static const char *const names[] = {[VALIDATE_OK] = "ok", [VALIDATE_WARNING] = "warning", [VALIDATE_FAILED] = "failed"};
    return names[result];
}

void validate_add(struct validate *v, const char *name, enum validate_result result, const char *remedy, const char *format, ...)
{
    va_list ap;
    KP_ASSERT(v->n_rows < VALIDATE_ROWS_MAX);
    va_start(ap, format);
    const char *detail = kp_arena_vprintf(v->arena, format, ap);
    va_end(ap);
    v->rows[v->n_rows++] = (struct validate_row){
        .name = name, .detail = detail, .remedy = result == VALIDATE_OK ? "" : remedy, .result = result,
        .took_ms = kp_mono_ms() - v->check_start_ms,
    };
}

static const struct check {
    const char *name;
    void (*run)(struct validate *v);
    bool workload; /* makes something in the cluster */
} checks[] = {
    {"machines", validate_machines, false},       {"API servers", validate_api_servers, false},
    {"nodes", validate_nodes, false},             {"etcd", validate_etcd, false},
    {"clocks", validate_clocks, false},
    {"leases", validate_leases, false},           {"kube-system", validate_system_pods, false},
    {"certificates", validate_certificates, false}, {"snapshots", validate_snapshots, false},
    {"test pod", validate_workload, true},
};

static bool all_passed(const struct validate *v)
{
    for (size_t i = 0; i < v->n_rows; i++)
        if (v->rows[i].result == VALIDATE_FAILED)
            return false;
    return true;
}

/* One round. KP_ECANCELLED when it was interrupted; what the workload made is gone again even so. */
static int run_checks(struct validate *v, bool workload, struct cli_progress *progress, struct kp_error *error)
{
    int r = 0;
    v->n_rows = 0;
    for (size_t i = 0; r == 0 && i < KP_ARRAY_LEN(checks); i++) {
        if (checks[i].workload && !workload)
            continue;
        if (progress)
            cli_progress_tick(progress, checks[i].name);
        v->check_start_ms = kp_mono_ms();
        checks[i].run(v);
        r = cli_interrupted(error);
    }
    cli_api_close(KP_TAKE(v->api));
    return r;
}

static struct kp_value *rows_value(const struct validate *v, struct kp_arena *arena)
{
    struct kp_value *list = kp_value_array(arena);
    for (size_t i = 0; i < v->n_rows; i++) {
        const struct validate_row *row = &v->rows[i];
        struct kp_value *object = kp_value_object(arena);
        kp_value_set(arena, object, "name", kp_value_string(arena, row->name));
        kp_value_set(arena, object, "result", kp_value_string(arena, validate_result_name(row->result)));
        kp_value_set(arena, object, "detail", kp_value_string(arena, row->detail));
        kp_value_set(arena, object, "remedy", kp_value_string(arena, row->remedy));
        kp_value_set(arena, object, "seconds", kp_value_double(arena, (double)row->took_ms / 1000.0));
        kp_value_append(arena, list, object);
    }
    return list;
}

static struct kp_value *result_value(const struct validate *v, struct kp_arena *arena)
{
    struct kp_value *root = kp_value_object(arena);
    kp_value_set(arena, root, "cluster", kp_value_string(arena, v->cluster.name));
    kp_value_set(arena, root, "passed", kp_value_bool(arena, all_passed(v)));
    kp_value_set(arena, root, "checks", rows_value(v, arena));
    return root;
}

static int open_cluster(const char *name, struct kp_arena *arena, struct validate *v, struct kp_error *error)
{
    int r = cli_cluster_open(name, arena, &v->cluster, &v->cloud, error);
    return r < 0 ? r : cli_state_path(name, "admin.conf", arena, &v->kubeconfig, error);
}

int cli_validate_value(const char *name, struct kp_arena *arena, struct kp_value **ret, struct kp_error *error)
{
    struct validate v = {.arena = arena};
    int r = open_cluster(name, arena, &v, error);
    if (r == 0)
        r = run_checks(&v, false, NULL, error);
    if (r == 0)
        *ret = result_value(&v, arena);
    cloud_close(v.cloud);
    return r;
}

static void print_result(const struct validate *v, enum cli_output output)
{
    static const char *const columns[] = {"name", "result", "seconds", "detail", "remedy", NULL};
    if (output == CLI_TABLE)
        cli_print_list(rows_value(v, v->arena), columns, output);
    else
        cli_print_value(result_value(v, v->arena), output);
}

static int validate_cluster(const char *name, int64_t wait_ns, enum cli_output output, struct kp_error *error)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    struct cli_progress progress = {0};
    struct validate v = {0};
    int r = open_cluster(name, arena, &v, error);
    int64_t deadline_ms = kp_mono_ms() + wait_ns / 1000000;
    cli_interrupt_catch();
    cli_progress_start(&progress);
    if (progress.terminal)
        cli_progress_begin(&progress, "Validating");
    while (r == 0) {
        kp_arena_free(v.arena);
        v.arena = kp_arena_new(0);
        r = run_checks(&v, true, &progress, error);
        if (r < 0 || all_passed(&v) || kp_mono_ms() + ROUND_PAUSE_MS > deadline_ms)
            break;
        cli_progress_tick(&progress, "again, not everything is well yet");
        kp_sleep_ms(ROUND_PAUSE_MS);
        r = cli_interrupted(error);
    }
    if (progress.terminal)
        cli_progress_done(&progress);
    if (r == 0) {
        print_result(&v, output);
        r = all_passed(&v) ? 0 : 1;
    }
    cli_progress_end(&progress);
    kp_arena_free(v.arena);
    cloud_close(v.cloud);
    return r;
}

int cli_validate_cluster(int argc, char **argv, struct kp_error *error)
{
    const char *output = "table";
    int64_t wait_ns = 0;
    enum cli_output format;
    bool help = false;
    const struct kp_flag flags[] = {
        {"wait", 0, KP_FLAG_DURATION, &wait_ns, "repeat until everything passes, for so long at most (0)", NULL},
        {"output", 'o', KP_FLAG_STRING, &output, "table, json or yaml", NULL},
        {0},
    };
    struct kp_strings rest = {0};
    int r = cli_parse("validate cluster", flags, argc, argv, &rest, &help, error);
    if (r == 0 && !help)
        r = cli_want_words("validate cluster", &rest, 1, 1, error);
    if (r == 0 && !help)
        r = cli_output_parse(output, &format, error);
    if (r == 0 && !help)
        r = validate_cluster(rest.items[0], wait_ns, format, error);
    kp_strings_done(&rest);
    return r;
}
