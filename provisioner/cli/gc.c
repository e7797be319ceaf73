/* kprov gc: what carries the tag of a cluster in a cloud and belongs to none that is known here, or to none of its parts. */
#include "provisioner/cli/operation_internal.h"

#define INTENT "collect-machine" /* it and its address */

struct gc_options {
    const char *file, *provider, *uri, *cluster_uid;
    bool yes;
    enum cli_output output;
};
struct gc {
    const struct gc_options *options;
    struct kp_arena *arena;
    struct cloud *cloud;
    struct kp_strings names; /* of the clusters known here */
    struct kp_value *rows;
    size_t removed, left;
};

static void add_row(struct gc *gc, const char *cluster, const char *object, const char *why, const char *outcome)
{
    const char *const cells[][2] = {{"cloud", cloud_name(gc->cloud)}, {"cluster", cluster}, {"object", object}, {"why", why}, {"outcome", outcome}};
    struct kp_value *row = kp_value_object(gc->arena);
    for (size_t i = 0; i < KP_ARRAY_LEN(cells); i++)
        kp_value_set(gc->arena, row, cells[i][0], kp_value_string(gc->arena, cells[i][1]));
    kp_value_append(gc->arena, gc->rows, row);
    if (kp_streq(outcome, "removed"))
        gc->removed++;
    else
        gc->left++;
}

static int find_known(struct gc *gc, const char *uid, struct state_cluster *ret, bool *ret_known, struct kp_error *error)
{
    *ret_known = false;
    for (size_t i = 0; i < gc->names.len; i++) {
        int r = state_read(gc->names.items[i], gc->arena, ret, error);
        if (r < 0 && r != KP_ENOTFOUND)
            return r;
        if (r == 0 && kp_streq(ret->uid, uid)) {
            *ret_known = true;
            return 0;
        }
    }
    return 0;
}

/* ---- clusters that are not known here: they may be somebody else's, so each goes only when it is named */

static int purge(struct gc *gc, const char *uid, struct kp_error *error)
{
    struct kp_strings left = {0};
    int r = cloud_purge(gc->cloud, uid, error);
    if (r == 0)
        r = cloud_owned(gc->cloud, uid, gc->arena, &left, error);
    if (r == 0 && left.len)
        r = kp_fail(error, KP_ECONFLICT, "cluster %s: %s is still there: run the same command again", uid, left.items[0]);
    kp_strings_done(&left);
    return r;
}

static int look_at_stranger(struct gc *gc, const char *uid, struct kp_error *error)
{
    struct kp_strings owned = {0};
    bool goes = gc->options->yes && gc->options->cluster_uid;
    int r = cloud_owned(gc->cloud, uid, gc->arena, &owned, error);
    if (r == 0 && goes)
        r = purge(gc, uid, error);
    for (size_t i = 0; r == 0 && i < owned.len; i++)
        add_row(gc, uid, owned.items[i], "no such cluster in this state folder", goes ? "removed" : "left");
    kp_strings_done(&owned);
    return r;
}

/* ---- clusters that are: machines that no pool counts */

static int remove_machine(struct gc *gc, const struct state_cluster *cluster, const char *name, struct kp_error *error)
{
    KP_AUTO(state_close) struct state *state = NULL;
    int r = state_open(cluster->name, false, &state, error);
    if (r == 0)
        r = state_journal(state, INTENT, name, error);
    if (r < 0)
        return r;
    r = cloud_machine_delete(gc->cloud, cluster->uid, name, error);
    if (r == 0)
        r = cloud_address_release(gc->cloud, cluster->uid, name, error);
    return state_journal_end(state, INTENT, name, r, error);
}

static bool is_planned(const struct plan *plan, const char *name)
{
    for (size_t i = 0; i < plan->n_actions; i++)
        if (kp_streq(plan->actions[i].name, name))
            return true;
    return false;
}

/* Of a machine that went in a run that was cut short the address is still there, and only the journal knows. */
static int look_at_unfinished(struct gc *gc, const struct state_cluster *cluster, const struct plan *plan, struct kp_error *error)
{
    struct kp_strings names = {0};
    int r = cli_unfinished(cluster->name, INTENT, &names, error);
    for (size_t i = 0; r == 0 && i < names.len; i++) {
        if (is_planned(plan, names.items[i]))
            continue;
        if (gc->options->yes)
            r = remove_machine(gc, cluster, names.items[i], error);
        if (r == 0)
            add_row(gc, cluster->name, kp_arena_printf(gc->arena, "machine %s", names.items[i]), "its removal was cut short", gc->options->yes ? "removed" : "left");
    }
    kp_strings_done(&names);
    return r;
}

/* Which Nodes there are; KP_EUNAVAILABLE and the like when nobody can tell. */
static int read_nodes(struct gc *gc, const struct state_cluster *cluster, struct kp_string_map *ret, struct kp_error *error)
{
    KP_AUTO(cli_api_close) struct cli_api *api = NULL;
    const char *path = NULL;
    int r = cli_state_path(cluster->name, "admin.conf", gc->arena, &path, error);
    if (r == 0)
        r = cli_api_open(path, &api, error);
    return r < 0 ? r : cli_api_node_readiness(api, gc->arena, ret, error);
}

static int look_at_extra(struct gc *gc, const struct state_cluster *cluster, const struct plan *plan, struct kp_error *error)
{
    struct kp_string_map nodes = {0};
    struct kp_error unknown = {0};
    bool asked = false;
    for (size_t i = 0; i < plan->n_actions; i++) {
        const char *name = plan->actions[i].name, *object = kp_arena_printf(gc->arena, "machine %s", name);
        if (plan->actions[i].verb != PLAN_DELETE)
            continue;
        if (!asked && read_nodes(gc, cluster, &nodes, &unknown) < 0)
            KP_ASSERT(unknown.code < 0);
        asked = true;
        /* One that is a node has pods: they are moved first, by what changes clusters. */
        if (unknown.code || kp_string_map_get(&nodes, name)) {
            add_row(gc, cluster->name, object, unknown.code ? "the API does not tell whether it is a node" : "is a node beyond what the config counts: kprov apply", "left");
            continue;
        }
        const bool goes = gc->options->yes;
        if (goes && remove_machine(gc, cluster, name, error) < 0)
            return error->code;
        add_row(gc, cluster->name, object, "neither wanted nor a node", goes ? "removed" : "left");
    }
    return 0;
}

static int look_at_known(struct gc *gc, const struct state_cluster *cluster, struct kp_error *error)
{
    struct cloud_machine_list observed;
    struct plan plan;
    if (cluster->phase != STATE_READY) {
        const char *command = cluster->phase == STATE_CREATING ? "create" : "delete";
        add_row(gc, cluster->name, "cluster", kp_arena_printf(gc->arena, "was left half way: kprov %s cluster %s", command, cluster->name), "left");
        return 0;
    }
    int r = cloud_machine_list(gc->cloud, cluster->uid, gc->arena, &observed, error);
    if (r == 0)
        r = plan_make(&cluster->config, &observed, NULL, gc->arena, &plan, error);
    if (r == 0)
        r = look_at_unfinished(gc, cluster, &plan, error);
    return r < 0 ? r : look_at_extra(gc, cluster, &plan, error);
}

static int look_at_cloud(struct gc *gc, struct kp_error *error)
{
    struct kp_strings uids = {0};
    int r = cloud_clusters(gc->cloud, &uids, error);
    for (size_t i = 0; r == 0 && i < uids.len; i++) {
        struct state_cluster cluster;
        bool known = false;
        if (gc->options->cluster_uid && !kp_streq(gc->options->cluster_uid, uids.items[i]))
            continue;
        r = find_known(gc, uids.items[i], &cluster, &known, error);
        if (r == 0)
            r = known ? look_at_known(gc, &cluster, error) : look_at_stranger(gc, uids.items[i], error);
        if (r == 0)
            r = cli_interrupted(error);
    }
    kp_strings_done(&uids);
    return r < 0 ? kp_wrap(error, "cloud %s", cloud_name(gc->cloud)) : 0;
}

/* ---- which clouds */

static int look_with(struct gc *gc, const struct config *config, struct kp_error *error)
{
    int r = cli_cloud_open(config, gc->arena, &gc->cloud, error);
    if (r == 0)
        r = look_at_cloud(gc, error);
    cloud_close(gc->cloud);
    gc->cloud = NULL;
    return r;
}

static bool same_cloud(const struct config *a, const struct config *b)
{
    return kp_streq(a->provider, b->provider) && kp_streq(a->libvirt.uri, b->libvirt.uri) && kp_streq(a->cloud.profile, b->cloud.profile) &&
           kp_streq(a->cloud.region, b->cloud.region) && kp_streq(a->cloud.endpoint, b->cloud.endpoint) && kp_streq(a->cloud.credentials, b->cloud.credentials);
}

/* Those of the clusters that are known here, each once. Machines that exist already belong to whoever listed them: nothing is looked for there. */
static int look_everywhere(struct gc *gc, struct kp_error *error)
{
    struct config *seen = KP_NEW_ARRAY(gc->arena, struct config, gc->names.len + 1);
    size_t n = 0;
    for (size_t i = 0; i < gc->names.len; i++) {
        struct state_cluster cluster;
        bool again = false;
        int r = state_read(gc->names.items[i], gc->arena, &cluster, error);
        if (r == KP_ENOTFOUND || (r == 0 && kp_streq(cluster.config.provider, "external")))
            continue;
        for (size_t j = 0; r == 0 && j < n && !again; j++)
            again = same_cloud(&seen[j], &cluster.config);
        if (r == 0 && !again) {
            seen[n++] = cluster.config;
            r = look_with(gc, &cluster.config, error);
        }
        if (r < 0)
            return r;
    }
    return 0;
}

static int look(struct gc *gc, struct kp_error *error)
{
    const struct gc_options *options = gc->options;
    struct config config;
    if (!options->file && !options->provider)
        return look_everywhere(gc, error);
    int r = 0;
    config_default("gc", 1, 0, gc->arena, &config);
    if (options->file)
        r = config_load(options->file, gc->arena, &config, error);
    if (options->provider)
        config.provider = options->provider;
    if (options->uri)
        config.libvirt.uri = options->uri;
    return r < 0 ? r : look_with(gc, &config, error);
}

static int collect(const struct gc_options *options, struct kp_error *error)
{
    static const char *const columns[] = {"cloud", "cluster", "object", "why", "outcome", NULL};
    struct gc gc = {.options = options, .arena = kp_arena_new(0)};
    gc.rows = kp_value_array(gc.arena);
    cli_interrupt_catch();
    int r = state_list(&gc.names, error);
    if (r == 0)
        r = look(&gc, error);
    if (r == 0 && options->cluster_uid && gc.removed + gc.left == 0)
        r = kp_fail(error, KP_ENOTFOUND, "nothing carries the tag of cluster %s there that could go", options->cluster_uid);
    if (gc.rows->array.len || options->output != CLI_TABLE) /* also what went before a failure */
        cli_print_list(gc.rows, columns, options->output);
    fflush(stdout);
    if (r == 0 && options->output == CLI_TABLE)
        fprintf(stderr, "%zu removed, %zu left%s\n", gc.removed, gc.left,
                gc.left && !options->yes ? ": --yes removes machines of known clusters, with --cluster-uid UID everything of that cluster" : "");
    kp_strings_done(&gc.names);
    kp_arena_free(gc.arena);
    return r;
}

int cli_gc(int argc, char **argv, struct kp_error *error)
{
    struct gc_options options = {0};
    const char *output = "table";
    bool help = false, dry_run = false;
    const struct kp_flag flags[] = {
        {"file", 'f', KP_FLAG_STRING, &options.file, "cluster file: the cloud and the account that it names", NULL},
        {"provider", 0, KP_FLAG_STRING, &options.provider, "the cloud, with the account that the environment names (those of all known clusters)", NULL},
        {"uri", 0, KP_FLAG_STRING, &options.uri, "of provider libvirt", NULL},
        {"cluster-uid", 0, KP_FLAG_STRING, &options.cluster_uid, "look at this cluster alone; with --yes everything of it goes when it is not known here", NULL},
        {"yes", 'y', KP_FLAG_BOOL, &options.yes, "remove; without, nothing is changed", NULL},
        {"dry-run", 0, KP_FLAG_BOOL, &dry_run, "only list, as without --yes", NULL},
        {"output", 'o', KP_FLAG_STRING, &output, "table, json or yaml", NULL},
        {0},
    };
    struct kp_strings rest = {0};
    int r = cli_parse("gc", flags, argc, argv, &rest, &help, error);
    if (r == 0 && !help)
        r = cli_want_words("gc", &rest, 0, 0, error);
    if (r == 0 && !help)
        r = cli_output_parse(output, &options.output, error);
    if (r == 0 && !help && options.file && options.provider)
        r = kp_fail(error, KP_EUSAGE, "--provider is in the file already");
    if (r == 0 && !help && options.yes && dry_run)
        r = kp_fail(error, KP_EUSAGE, "--yes removes and --dry-run does not: give one of them");
    kp_strings_done(&rest);
    return r < 0 || help ? r : collect(&options, error);
}
