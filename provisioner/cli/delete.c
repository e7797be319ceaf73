/* kprov delete cluster: everything that carries the cluster's uid, then what kprov remembers of it; a receipt of each, and the
   cloud's own word that nothing is left. */
#include <unistd.h>

#include "provisioner/bootstrap/bootstrap.h"
#include "provisioner/bootstrap/kubeconfig_file.h"
#include "provisioner/cli/delete_internal.h"

void cli_deletion_receipt(struct deletion *d, const char *object, const char *name, int64_t start_ms)
{
    struct kp_value *row = kp_value_object(d->arena);
    kp_value_set(d->arena, row, "object", kp_value_string(d->arena, object));
    kp_value_set(d->arena, row, "name", kp_value_string(d->arena, name));
    kp_value_set(d->arena, row, "seconds", kp_value_double(d->arena, (double)(kp_mono_ms() - start_ms) / 1000.0));
    kp_value_append(d->arena, d->receipt, row);
}

static bool mentions(const char *path, const char *text)
{
    KP_AUTO_BUF struct kp_buf file = {0};
    if (kp_read_file(path, 0, &file, NULL) < 0)
        return false; /* what cannot be read, creation cannot have written */
    for (const char *at = file.data; at && (at = strstr(at, text)); at++)
        if (!at[strlen(text)] || !strchr("abcdefghijklmnopqrstuvwxyz0123456789-", at[strlen(text)]))
            return true; /* the whole word: "kprov-a" is not in "kprov-ab" */
    return false;
}

/* The kubeconfigs that hold the cluster's context: the one that creation wrote it into, and the user's own when the context there
   points at this cluster's endpoint. */
static int kubeconfigs(struct deletion *d, struct kp_strings *ret, struct kp_error *error)
{
    KP_AUTO_BUF struct kp_buf recorded = {0};
    const char *context = kp_arena_printf(d->arena, "kprov-%s", d->name), *home = getenv("HOME"), *first = NULL;
    int r = state_read_file(d->name, "kubeconfig-path", &recorded, error);
    if (r < 0 && r != KP_ENOTFOUND)
        return r;
    if (recorded.data)
        kubeconfig_file_mend(recorded.data);
    if (recorded.data && mentions(recorded.data, context))
        kp_strings_add(ret, recorded.data);
    const char *others[] = {cli_default_kubeconfig(d->arena, &first, NULL) == 0 ? first : "",
                            kp_empty(home) ? "" : kp_arena_printf(d->arena, "%s/.kube/config", home)};
    for (size_t i = 0; i < KP_ARRAY_LEN(others); i++) {
        bool there = kp_streq(others[i], recorded.data);
        for (size_t j = 0; j < ret->len; j++)
            there |= kp_streq(ret->items[j], others[i]);
        if (!there && *others[i] && d->has_cluster && *d->cluster.endpoint && mentions(others[i], context) && mentions(others[i], d->cluster.endpoint))
            kp_strings_add(ret, others[i]);
    }
    return 0;
}

static int open_cluster(struct deletion *d, struct kp_error *error)
{
    int r = state_open(d->name, false, &d->state, error);
    if (r < 0)
        return r;
    r = cli_cluster_open(d->name, d->arena, &d->cluster, &d->cloud, error);
    if (r == KP_ENOTFOUND)
        return 0;
    d->has_cluster = r == 0;
    if (r == 0 && d->cluster.config.deletion_protection)
        return kp_fail(error, KP_ECONFLICT,
                       "it is protected: set spec.deletionProtection to false in its file, run kprov apply -f FILE, then delete it");
    if (r == 0)
        r = cloud_machine_list(d->cloud, d->cluster.uid, d->arena, &d->machines, error);
    if (r == 0)
        r = cloud_owned(d->cloud, d->cluster.uid, d->arena, &d->owned, error);
    if (r < 0)
        return r;
    r = cloud_network_get(d->cloud, d->cluster.uid, d->arena, &d->network, error);
    if (r == KP_ENOTFOUND || *d->cluster.config.cloud.network) { /* that one was there before, and stays */
        d->network.cidr = NULL;
        r = r == KP_ENOTFOUND ? 0 : r;
    }
    return r;
}

static int delete_machine(struct deletion *d, const struct cloud_machine *machine, struct kp_error *error)
{
    const char *uid = d->cluster.uid;
    int64_t start_ms = kp_mono_ms();
    cli_progress_machine(&d->progress, machine->name, CLI_PHASE_DELETE);
    int r = state_journal(d->state, "delete-machine", machine->name, error);
    if (r == 0)
        r = state_journal_end(d->state, "delete-machine", machine->name, cloud_machine_delete(d->cloud, uid, machine->name, error), error);
    if (r < 0)
        return r;
    cli_deletion_receipt(d, "machine", machine->name, start_ms);
    start_ms = kp_mono_ms();
    r = state_journal(d->state, "release-address", machine->name, error);
    if (r == 0)
        r = state_journal_end(d->state, "release-address", machine->name, cloud_address_release(d->cloud, uid, machine->name, error), error);
    if (r == 0 && !kp_empty(machine->address))
        cli_deletion_receipt(d, "address", machine->address, start_ms);
    if (r == 0)
        cli_progress_machine(&d->progress, machine->name, CLI_PHASE_GONE);
    return r;
}

/* Whatever else carries the tag, also of machines that were only half made; then the question that proves it. */
static int purge(struct deletion *d, struct kp_error *error)
{
    const char *uid = d->cluster.uid;
    int64_t start_ms = kp_mono_ms();
    struct kp_strings left = {0};
    int r = state_journal(d->state, "purge", uid, error);
    if (r == 0)
        r = state_journal_end(d->state, "purge", uid, cloud_purge(d->cloud, uid, error), error);
    if (r == 0 && d->network.cidr)
        cli_deletion_receipt(d, "network", d->network.cidr, start_ms);
    for (size_t i = 0; r == 0 && i < d->owned.len; i++)
        if (!kp_starts_with(d->owned.items[i], "machine "))
            cli_deletion_receipt(d, "resource", d->owned.items[i], start_ms);
    if (r == 0)
        r = cloud_owned(d->cloud, uid, d->arena, &left, error);
    if (r == 0 && left.len > 0) {
        KP_AUTO_BUF struct kp_buf text = {0};
        for (size_t i = 0; i < left.len; i++)
            kp_buf_printf(&text, "%s%s", i ? ", " : "", left.items[i]);
        r = kp_fail(error, KP_ECONFLICT, "still there after deletion: %s: run the same command again", text.data);
    }
    kp_strings_done(&left);
    return r;
}

static int forget(struct deletion *d, struct kp_error *error)
{
    struct kp_strings files = {0};
    const char *folder = NULL;
    int64_t start_ms = kp_mono_ms();
    int r = kubeconfigs(d, &files, error);
    for (size_t i = 0; r == 0 && i < files.len; i++) {
        r = kubeconfig_unmerge(files.items[i], kp_arena_printf(d->arena, "kprov-%s", d->name), error);
        if (r == 0)
            cli_deletion_receipt(d, "context", kp_arena_printf(d->arena, "kprov-%s in %s", d->name, files.items[i]), start_ms);
    }
    kp_strings_done(&files);
    start_ms = kp_mono_ms();
    if (r == 0)
        r = cli_state_path(d->name, "", d->arena, &folder, error);
    if (r == 0)
        r = state_remove(d->state, error);
    if (r == 0)
        cli_deletion_receipt(d, "state", folder, start_ms);
    return r;
}

static int delete_all(struct deletion *d, struct kp_error *error)
{
    int r = 0;
    if (!d->has_cluster)
        return forget(d, error);
    d->cluster.phase = STATE_DELETING;
    r = state_write(d->state, &d->cluster, error);
    if (r == 0)
        r = cli_deletion_services(d, error);
    if (r == 0)
        r = cli_deletion_balancers(d, false, error);
    for (size_t i = 0; r == 0 && i < d->machines.len; i++) {
        r = cli_interrupted(error);
        if (r == 0)
            r = delete_machine(d, &d->machines.items[i], error);
    }
    if (r == 0)
        r = cli_interrupted(error);
    if (r == 0) /* once more: until its machines were gone the cluster may have made some */
        r = cli_deletion_balancers(d, true, error);
    if (r == 0)
        r = purge(d, error);
    return r < 0 ? r : forget(d, error);
}

/* What will go, as rows of the same kind as the receipt's. */
static struct kp_value *what_goes(struct deletion *d)
{
    struct kp_value *all = KP_TAKE(d->receipt);
    struct kp_value *list = kp_value_array(d->arena);
    d->receipt = list;
    for (size_t i = 0; i < d->machines.len; i++) {
        cli_deletion_receipt(d, "machine", d->machines.items[i].name, 0);
        if (!kp_empty(d->machines.items[i].address))
            cli_deletion_receipt(d, "address", d->machines.items[i].address, 0);
    }
    if (d->network.cidr)
        cli_deletion_receipt(d, "network", d->network.cidr, 0);
    for (size_t i = 0; i < d->owned.len; i++)
        if (!kp_starts_with(d->owned.items[i], "machine "))
            cli_deletion_receipt(d, "resource", d->owned.items[i], 0);
    for (size_t i = 0; i < list->array.len; i++)
        kp_value_remove(list->array.items[i], "seconds");
    d->receipt = all;
    return list;
}

static int confirm(struct deletion *d, struct kp_error *error)
{
    char line[64];
    if (!isatty(STDIN_FILENO))
        return kp_fail(error, KP_EUSAGE, "it asks for a yes: pass --yes");
    for (size_t i = 0; i < d->machines.len; i++)
        fprintf(stderr, "  machine %s (%s)\n", d->machines.items[i].name, d->machines.items[i].address);
    if (d->network.cidr)
        fprintf(stderr, "  network %s\n", d->network.cidr);
    fprintf(stderr, "Delete cluster %s: these %zu machines and their data? [y/N] ", d->name, d->machines.len);
    if (!fgets(line, sizeof(line), stdin) || (line[0] != 'y' && line[0] != 'Y'))
        return kp_fail(error, KP_ECANCELLED, "nothing was deleted");
    return 0;
}

static void print_receipt(struct deletion *d, enum cli_output output)
{
    static const char *const columns[] = {"object", "name", "seconds", NULL};
    double total = (double)(kp_mono_ms() - d->start_ms) / 1000.0;
    if (output == CLI_TABLE) {
        cli_print_list(d->receipt, columns, output);
        fflush(stdout);
        fprintf(stderr, "Deleted cluster %s (%.2fs)%s\n", d->name, total, d->has_cluster ? ": nothing carries its tag any more" : "");
        return;
    }
    struct kp_value *root = kp_value_object(d->arena);
    kp_value_set(d->arena, root, "cluster", kp_value_string(d->arena, d->name));
    kp_value_set(d->arena, root, "uid", kp_value_string(d->arena, d->has_cluster ? d->cluster.uid : ""));
    kp_value_set(d->arena, root, "removed", d->receipt);
    kp_value_set(d->arena, root, "left", kp_value_array(d->arena)); /* the cloud was asked, or it had failed */
    kp_value_set(d->arena, root, "seconds", kp_value_double(d->arena, total));
    cli_print_value(root, output);
}

struct delete_options {
    bool yes, dry_run;
    enum cli_output output;
};

static int delete_cluster(const char *name, const struct delete_options *options, struct kp_error *error)
{
    static const char *const columns[] = {"object", "name", NULL};
    struct deletion d = {.arena = kp_arena_new(0), .name = name};
    d.receipt = kp_value_array(d.arena);
    int r = open_cluster(&d, error);
    if (r == 0 && options->dry_run) {
        cli_print_list(what_goes(&d), columns, options->output);
    } else if (r == 0) {
        if (!options->yes)
            r = confirm(&d, error);
        d.start_ms = kp_mono_ms();
        cli_interrupt_catch();
        cli_progress_start(&d.progress);
        if (r == 0)
            r = delete_all(&d, error);
        cli_progress_fail(&d.progress);
        if (r == 0)
            print_receipt(&d, options->output);
    }
    cli_progress_end(&d.progress);
    kp_strings_done(&d.owned);
    cloud_close(d.cloud);
    state_close(d.state);
    kp_arena_free(d.arena);
    return r < 0 ? kp_wrap(error, "delete cluster %s", name) : 0;
}

int cli_delete_cluster(int argc, char **argv, struct kp_error *error)
{
    struct delete_options options = {0};
    const char *output = "table";
    bool help = false;
    const struct kp_flag flags[] = {
        {"yes", 'y', KP_FLAG_BOOL, &options.yes, "do not ask", NULL},
        {"dry-run", 0, KP_FLAG_BOOL, &options.dry_run, "only show what would go", NULL},
        {"output", 'o', KP_FLAG_STRING, &output, "table, json or yaml: how the receipt is printed", NULL},
        {0},
    };
    struct kp_strings rest = {0};
    int r = cli_parse("delete cluster", flags, argc, argv, &rest, &help, error);
    if (r == 0 && !help)
        r = cli_want_words("delete cluster", &rest, 1, 1, error);
    if (r == 0 && !help)
        r = cli_output_parse(output, &options.output, error);
    if (r == 0 && !help)
        r = delete_cluster(rest.items[0], &options, error);
    kp_strings_done(&rest);
    return r;
}
