/* kprov get clusters, get nodes, kubeconfig, version. */
#include "base/version.h"
#include "api/k8s.h"
#include "client/client.h"
#include "provisioner/bootstrap/bootstrap.h"
#include "provisioner/cli/cli.h"

static int64_t count_workers(const struct config *config)
{
    int64_t total = 0;
    for (size_t i = 0; i < config->n_pools; i++)
        total += config->pools[i].replicas;
    return total;
}

static void set_string(struct kp_arena *arena, struct kp_value *object, const char *key, const char *value)
{
    kp_value_set(arena, object, key, kp_value_string(arena, value));
}

static struct kp_value *cluster_value(const struct state_cluster *cluster, struct kp_arena *arena)
{
    char age[CLI_AGE_MAX];
    struct kp_value *row = kp_value_object(arena);
    cli_format_age(cluster->created_s, kp_now_s(), age);
    set_string(arena, row, "name", cluster->name);
    set_string(arena, row, "provider", cluster->config.provider);
    set_string(arena, row, "version", cluster->config.kubernetes_version);
    set_string(arena, row, "phase", state_phase_name(cluster->phase));
    kp_value_set(arena, row, "controlPlanes", kp_value_int(arena, cluster->config.control_plane.replicas));
    kp_value_set(arena, row, "workers", kp_value_int(arena, count_workers(&cluster->config)));
    set_string(arena, row, "endpoint", cluster->endpoint);
    set_string(arena, row, "uid", cluster->uid);
    set_string(arena, row, "age", age);
    return row;
}

int cli_get_clusters(int argc, char **argv, struct kp_error *error)
{
    static const char *const columns[] = {"name",     "provider", "version", "phase", "controlPlanes", "workers",
                                          "endpoint", "age",      NULL};
    const char *output = "table";
    enum cli_output format;
    bool help = false;
    const struct kp_flag flags[] = {{"output", 'o', KP_FLAG_STRING, &output, "table, json or yaml", NULL}, {0}};
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    struct kp_strings rest = {0}, names = {0};
    struct kp_value *list = kp_value_array(arena);
    int r = cli_parse("get clusters", flags, argc, argv, &rest, &help, error);
    if (r < 0 || help)
        goto done;
    r = cli_want_words("get clusters", &rest, 0, 0, error);
    if (r == 0)
        r = cli_output_parse(output, &format, error);
    if (r == 0)
        r = state_list(&names, error);
    for (size_t i = 0; r == 0 && i < names.len; i++) {
        struct state_cluster cluster;
        r = state_read(names.items[i], arena, &cluster, error);
        if (r == 0)
            kp_value_append(arena, list, cluster_value(&cluster, arena));
        else if (r == KP_ENOTFOUND)
            r = 0; /* deleted since the folder was listed */
    }
    if (r == 0)
        cli_print_list(list, columns, format);
done:
    kp_strings_done(&rest);
    kp_strings_done(&names);
    return r;
}

/* The nodes, if the API server answers; a cluster whose API is down still has machines to list. */
static const struct k8s_node_list *read_nodes(const struct state_cluster *cluster, struct kp_arena *arena)
{
    static const struct client_list_options options;
    KP_AUTO(cli_api_close) struct cli_api *api = NULL;
    struct kp_error error = {0};
    const char *path = NULL;
    void *answer = NULL;
    if (cli_state_path(cluster->name, "admin.conf", arena, &path, &error) < 0 || !kp_path_exists(path))
        return NULL;
    if (cli_api_open(path, &api, &error) < 0 || client_list(cli_api_client(api), &k8s_nodes_resource, NULL, &options, arena, &answer, &error) < 0)
        fprintf(stderr, "kprov: readiness is not known: %s\n", error.message);
    return answer;
}

static void add_node(struct kp_value *row, const struct k8s_node_list *nodes, const char *name, struct kp_arena *arena)
{
    const char *ready = "", *version = "";
    for (size_t i = 0; nodes && i < nodes->items.len; i++) {
        const struct k8s_node *node = &nodes->items.items[i];
        if (!kp_streq(node->metadata->name, name) || !node->status)
            continue;
        ready = "Unknown";
        version = node->status->node_info->kubelet_version ? node->status->node_info->kubelet_version : "";
        for (size_t j = 0; j < node->status->conditions.len; j++)
            if (kp_streq(node->status->conditions.items[j].type, "Ready"))
                ready = node->status->conditions.items[j].status;
    }
    set_string(arena, row, "ready", ready);
    set_string(arena, row, "version", version);
}

static struct kp_value *node_value(const struct cloud_machine *machine, const struct k8s_node_list *nodes, struct kp_arena *arena)
{
    char age[CLI_AGE_MAX];
    struct kp_value *row = kp_value_object(arena);
    cli_format_age(machine->created_s, kp_now_s(), age);
    set_string(arena, row, "name", machine->name);
    set_string(arena, row, "role", machine->role);
    set_string(arena, row, "pool", machine->pool);
    set_string(arena, row, "address", machine->address);
    set_string(arena, row, "power", machine->power == CLOUD_POWER_ON ? "on" : "off");
    add_node(row, nodes, machine->name, arena);
    set_string(arena, row, "type", machine->machine_type);
    set_string(arena, row, "image", machine->image);
    set_string(arena, row, "providerID", machine->provider_id);
    set_string(arena, row, "age", age);
    return row;
}

static int get_nodes(const char *name, enum cli_output format, struct kp_error *error)
{
    static const char *const columns[] = {"name", "role", "pool", "address", "power", "ready", "type", "version", "image", "age", NULL};
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    KP_AUTO(cloud_close) struct cloud *cloud = NULL;
    struct state_cluster cluster;
    struct cloud_machine_list machines;
    int r = cli_cluster_open(name, arena, &cluster, &cloud, error);
    if (r == 0)
        r = cloud_machine_list(cloud, cluster.uid, arena, &machines, error);
    if (r < 0)
        return r;
    const struct k8s_node_list *nodes = read_nodes(&cluster, arena);
    struct kp_value *list = kp_value_array(arena);
    for (size_t i = 0; i < machines.len; i++)
        kp_value_append(arena, list, node_value(&machines.items[i], nodes, arena));
    cli_print_list(list, columns, format);
    return 0;
}

int cli_get_nodes(int argc, char **argv, struct kp_error *error)
{
    const char *output = "table", *cluster = NULL;
    enum cli_output format;
    bool help = false;
    const struct kp_flag flags[] = {
        {"cluster", 'c', KP_FLAG_STRING, &cluster, "the cluster's name", NULL},
        {"output", 'o', KP_FLAG_STRING, &output, "table, json or yaml", NULL},
        {0},
    };
    struct kp_strings rest = {0};
    int r = cli_parse("get nodes", flags, argc, argv, &rest, &help, error);
    if (r == 0 && !help)
        r = cli_want_words("get nodes", &rest, 0, 0, error);
    if (r == 0 && !help && !cluster)
        r = kp_fail(error, KP_EUSAGE, "get nodes needs --cluster NAME");
    if (r == 0 && !help)
        r = cli_output_parse(output, &format, error);
    if (r == 0 && !help)
        r = get_nodes(cluster, format, error);
    kp_strings_done(&rest);
    return r;
}

int cli_kubeconfig(int argc, char **argv, struct kp_error *error)
{
    const struct kp_flag flags[] = {{0}};
    struct kp_strings rest = {0};
    bool help = false;
    KP_AUTO_BUF struct kp_buf text = {0};
    int r = cli_parse("kubeconfig", flags, argc, argv, &rest, &help, error);
    if (r == 0 && !help)
        r = cli_want_words("kubeconfig", &rest, 1, 1, error);
    if (r == 0 && !help) {
        r = state_read_file(rest.items[0], "admin.conf", &text, error);
        if (r == KP_ENOTFOUND)
            r = kp_fail(error, KP_ENOTFOUND, "cluster \"%s\" does not exist: see kprov get clusters", rest.items[0]);
        else if (r == 0)
            fwrite(text.data, 1, text.len, stdout);
    }
    kp_strings_done(&rest);
    return r;
}

int cli_version(int argc, char **argv, struct kp_error *error)
{
    const char *output = "table";
    enum cli_output format;
    bool help = false;
    const struct kp_flag flags[] = {{"output", 'o', KP_FLAG_STRING, &output, "json or yaml; otherwise plain", NULL}, {0}};
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    struct kp_strings rest = {0};
    int r = cli_parse("version", flags, argc, argv, &rest, &help, error);
    if (r == 0 && !help)
        r = cli_want_words("version", &rest, 0, 0, error);
    kp_strings_done(&rest);
    if (r < 0 || help)
        return r;
    r = cli_output_parse(output, &format, error);
    if (r < 0)
        return r;
    if (format == CLI_TABLE) {
        printf("kprov %s (Kubernetes %s)\n", kp_version, kp_version);
        return 0;
    }
    struct kp_value *version = kp_value_object(arena);
    set_string(arena, version, "kprovVersion", kp_version);
    set_string(arena, version, "kubernetesVersion", kp_version);
    cli_print_value(version, format);
    return 0;
}
