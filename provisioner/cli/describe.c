/* kprov describe cluster: everything that is known of a cluster, gathered into one document. */
#include "api/k8s.h"
#include "client/client.h"
#include "provisioner/cli/clocks.h"
#include "provisioner/cli/describe_internal.h"
#include "provisioner/etcd/etcd.h"

struct describe {
    struct kp_arena *arena;
    struct state_cluster cluster;
    struct cloud *cloud;
    struct cloud_machine_list machines;
    struct cli_api *api;
    const struct k8s_node_list *nodes; /* NULL: not known; likewise below */
    const struct k8s_pod_list *pods;
    struct etcd_client *etcd;
    struct etcd_member_status *members;
    struct clocks_row *clocks;
    size_t n_clocks;
    struct kp_value *problems;
};

static void set(struct describe *d, struct kp_value *object, const char *key, const char *text)
{
    kp_value_set(d->arena, object, key, kp_value_string(d->arena, text ? text : ""));
}

static void set_time(struct describe *d, struct kp_value *object, const char *key, int64_t time_s)
{
    char text[KP_RFC3339_MAX];
    kp_format_rfc3339(text, time_s, 0, false);
    set(d, object, key, text);
}

static void problem(struct describe *d, const char *what, const struct kp_error *error)
{
    kp_value_append(d->arena, d->problems, kp_value_string(d->arena, kp_arena_printf(d->arena, "%s: %s", what, error->message)));
}

static const void *list(struct describe *d, const struct kp_resource *resource, const char *ns, const char *what)
{
    static const struct client_list_options options;
    struct kp_error error = {0};
    void *answer = NULL;
    if (!d->api)
        return NULL;
    if (client_list(cli_api_client(d->api), resource, ns, &options, d->arena, &answer, &error) < 0) {
        problem(d, what, &error);
        return NULL;
    }
    return answer;
}

static void open_etcd(struct describe *d)
{
    struct kp_error error = {0};
    int r = cli_etcd_open(d->cluster.name, NULL, &d->machines, CLI_ETCD_OFF_TOO, NULL, &d->etcd, &error);
    if (r == 0)
        etcd_client_status(d->etcd, d->arena, &d->members);
    else if (r != KP_ENOTFOUND)
        problem(d, "etcd", &error);
}

static void open_api(struct describe *d)
{
    struct kp_error error = {0};
    const char *path = NULL;
    int r = cli_state_path(d->cluster.name, "admin.conf", d->arena, &path, &error);
    if (r == 0)
        r = cli_api_open(path, &d->api, &error);
    if (r < 0) {
        problem(d, "API", &error);
        return;
    }
    d->nodes = list(d, &k8s_nodes_resource, NULL, "nodes");
    if (!d->nodes) { /* the others would wait as long for nothing */
        cli_api_close(KP_TAKE(d->api));
        return;
    }
    d->pods = list(d, &k8s_pods_resource, "kube-system", "pods of kube-system");
}

/* "Running", or what a container waits for or ended with. */
static const char *pod_state(const struct k8s_pod *pod)
{
    for (size_t i = 0; pod->status && i < pod->status->container_statuses.len; i++) {
        const struct k8s_container_state *state = pod->status->container_statuses.items[i].state;
        if (state->waiting && state->waiting->reason)
            return state->waiting->reason;
        if (state->terminated && state->terminated->reason)
            return state->terminated->reason;
    }
    return pod->status && pod->status->phase ? pod->status->phase : "Unknown";
}

static struct kp_value *static_pods(struct describe *d, const char *machine)
{
    struct kp_value *found = kp_value_array(d->arena);
    for (size_t i = 0; d->pods && i < d->pods->items.len; i++) {
        const struct k8s_pod *pod = &d->pods->items.items[i];
        if (!kp_streq(pod->spec->node_name, machine) || !kp_string_map_get(&pod->metadata->annotations, "kubernetes.io/config.mirror"))
            continue;
        struct kp_value *row = kp_value_object(d->arena);
        int64_t restarts = 0;
        bool ready = pod->status && pod->status->container_statuses.len > 0;
        for (size_t j = 0; pod->status && j < pod->status->container_statuses.len; j++) {
            restarts += pod->status->container_statuses.items[j].restart_count;
            ready &= pod->status->container_statuses.items[j].ready;
        }
        size_t len = strlen(pod->metadata->name), suffix = strlen(machine) + 1;
        set(d, row, "name", len > suffix ? kp_arena_strndup(d->arena, pod->metadata->name, len - suffix) : pod->metadata->name);
        set(d, row, "state", pod_state(pod));
        kp_value_set(d->arena, row, "ready", kp_value_bool(d->arena, ready));
        kp_value_set(d->arena, row, "restarts", kp_value_int(d->arena, restarts));
        kp_value_append(d->arena, found, row);
    }
    return found;
}

static void add_node(struct describe *d, struct kp_value *row, const char *machine)
{
    const char *ready = d->nodes ? "NotRegistered" : "Unknown";
    for (size_t i = 0; d->nodes && i < d->nodes->items.len; i++) {
        const struct k8s_node *node = &d->nodes->items.items[i];
        if (!kp_streq(node->metadata->name, machine))
            continue;
        ready = "Unknown";
        for (size_t j = 0; node->status && j < node->status->conditions.len; j++)
            if (kp_streq(node->status->conditions.items[j].type, "Ready"))
                ready = kp_streq(node->status->conditions.items[j].status, "True") ? "Ready" : "NotReady";
        if (node->status)
            set(d, row, "version", node->status->node_info->kubelet_version);
        kp_value_set(d->arena, row, "unschedulable", kp_value_bool(d->arena, node->spec->unschedulable));
    }
    set(d, row, "ready", ready);
}

static void read_clocks(struct describe *d)
{
    struct kp_error error = {0};
    const char *path = NULL;
    if (cli_state_path(d->cluster.name, "admin.conf", d->arena, &path, &error) < 0)
        problem(d, "clocks", &error);
    else
        d->n_clocks = clocks_ask(d->cloud, path, &d->machines, d->api, d->arena, &d->clocks);
}

static void add_clock(struct describe *d, struct kp_value *row, const char *machine)
{
    for (size_t i = 0; i < d->n_clocks; i++)
        if (d->clocks[i].known && kp_streq(d->clocks[i].machine, machine))
            kp_value_set(d->arena, row, "clockOffsetSeconds", kp_value_double(d->arena, (double)d->clocks[i].off_ms / 1000.0));
}

static void add_etcd(struct describe *d, struct kp_value *row, const struct cloud_machine *machine)
{
    const char *endpoint = kp_arena_printf(d->arena, "https://%s:%d", machine->address, ETCD_CLIENT_PORT);
    for (size_t i = 0; d->members && i < etcd_client_endpoints(d->etcd); i++) {
        const struct etcd_member_status *status = &d->members[i];
        if (!kp_streq(status->endpoint, endpoint))
            continue;
        struct kp_value *etcd = kp_value_object(d->arena);
        kp_value_set(d->arena, etcd, "healthy", kp_value_bool(d->arena, etcd_member_is_healthy(status)));
        kp_value_set(d->arena, etcd, "leader", kp_value_bool(d->arena, status->code == 0 && status->id == status->leader));
        kp_value_set(d->arena, etcd, "learner", kp_value_bool(d->arena, status->learner));
        kp_value_set(d->arena, etcd, "dbSizeBytes", kp_value_int(d->arena, status->db_size));
        set(d, etcd, "id", kp_arena_printf(d->arena, "%llx", (unsigned long long)status->id));
        set(d, etcd, "problem", status->problem);
        kp_value_set(d->arena, row, "etcd", etcd);
    }
}

/* The machines of a pool, or of the control plane when pool is NULL. */
static struct kp_value *machines_value(struct describe *d, const char *pool)
{
    struct kp_value *found = kp_value_array(d->arena);
    for (size_t i = 0; i < d->machines.len; i++) {
        const struct cloud_machine *machine = &d->machines.items[i];
        bool control_plane = kp_streq(machine->role, "control-plane");
        if (pool ? control_plane || !kp_streq(machine->pool, pool) : !control_plane)
            continue;
        struct kp_value *row = kp_value_object(d->arena);
        set(d, row, "name", machine->name);
        set(d, row, "address", machine->address);
        set(d, row, "power", machine->power == CLOUD_POWER_ON ? "on" : "off");
        set(d, row, "type", machine->machine_type);
        set(d, row, "image", machine->image);
        set(d, row, "providerID", machine->provider_id);
        set_time(d, row, "createdAt", machine->created_s);
        add_node(d, row, machine->name);
        add_clock(d, row, machine->name);
        if (control_plane) {
            add_etcd(d, row, machine);
            kp_value_set(d->arena, row, "staticPods", static_pods(d, machine->name));
        }
        kp_value_append(d->arena, found, row);
    }
    return found;
}

static struct kp_value *pools_value(struct describe *d)
{
    struct kp_value *pools = kp_value_array(d->arena);
    for (size_t i = 0; i < d->cluster.config.n_pools; i++) {
        const struct config_pool *pool = &d->cluster.config.pools[i];
        struct kp_value *row = kp_value_object(d->arena);
        set(d, row, "name", pool->name);
        kp_value_set(d->arena, row, "replicas", kp_value_int(d->arena, pool->replicas));
        kp_value_set(d->arena, row, "machines", machines_value(d, pool->name));
        kp_value_append(d->arena, pools, row);
    }
    return pools;
}

static struct kp_value *network_value(struct describe *d)
{
    struct kp_value *object = kp_value_object(d->arena);
    struct cloud_network network;
    struct kp_error error = {0};
    set(d, object, "podCIDR", d->cluster.config.network.pod_cidr);
    set(d, object, "serviceCIDR", d->cluster.config.network.service_cidr);
    set(d, object, "dnsDomain", d->cluster.config.network.dns_domain);
    if (cloud_network_get(d->cloud, d->cluster.uid, d->arena, &network, &error) < 0) {
        problem(d, "network", &error);
        return object;
    }
    set(d, object, "machineCIDR", network.cidr);
    set(d, object, "gateway", network.gateway);
    return object;
}

static struct kp_value *certificates_value(struct describe *d)
{
    struct kp_value *found = kp_value_array(d->arena);
    struct cli_certificate_list certificates;
    struct kp_error error = {0};
    if (cli_certificates(&d->cluster, d->cloud, &d->machines, d->arena, &certificates, &error) < 0) {
        problem(d, "certificates", &error);
        return found;
    }
    for (size_t i = 0; i < certificates.problems.len; i++)
        kp_value_append(d->arena, d->problems, kp_value_string(d->arena, certificates.problems.items[i]));
    for (size_t i = 0; i < certificates.len; i++) {
        struct kp_value *row = kp_value_object(d->arena);
        set(d, row, "where", certificates.items[i].where);
        set(d, row, "subject", certificates.items[i].subject);
        set_time(d, row, "notAfter", certificates.items[i].not_after_s);
        kp_value_set(d->arena, row, "days", kp_value_int(d->arena, (certificates.items[i].not_after_s - kp_now_s()) / 86400));
        kp_value_append(d->arena, found, row);
    }
    return found;
}

static void add_on(struct describe *d, struct kp_value *list_of, const char *kind, const char *name, int64_t ready, int64_t wanted)
{
    struct kp_value *row = kp_value_object(d->arena);
    set(d, row, "kind", kind);
    set(d, row, "name", name);
    kp_value_set(d->arena, row, "ready", kp_value_int(d->arena, ready));
    kp_value_set(d->arena, row, "wanted", kp_value_int(d->arena, wanted));
    kp_value_append(d->arena, list_of, row);
}

static struct kp_value *add_ons_value(struct describe *d)
{
    struct kp_value *found = kp_value_array(d->arena);
    const struct k8s_daemon_set_list *daemons = list(d, &k8s_daemonsets_resource, "kube-system", "daemon sets");
    const struct k8s_deployment_list *deployments = list(d, &k8s_deployments_resource, "kube-system", "deployments");
    for (size_t i = 0; daemons && i < daemons->items.len; i++) {
        const struct k8s_daemon_set *set_of = &daemons->items.items[i];
        add_on(d, found, "DaemonSet", set_of->metadata->name, set_of->status->number_ready, set_of->status->desired_number_scheduled);
    }
    for (size_t i = 0; deployments && i < deployments->items.len; i++) {
        const struct k8s_deployment *deployment = &deployments->items.items[i];
        add_on(d, found, "Deployment", deployment->metadata->name, deployment->status->ready_replicas, deployment->spec->replicas);
    }
    return found;
}

static struct kp_value *gather(struct describe *d)
{
    struct kp_value *root = kp_value_object(d->arena), *control_plane = kp_value_object(d->arena);
    const struct config *config = &d->cluster.config;
    set(d, root, "name", d->cluster.name);
    set(d, root, "uid", d->cluster.uid);
    set(d, root, "provider", config->provider);
    set(d, root, "phase", state_phase_name(d->cluster.phase));
    set_time(d, root, "createdAt", d->cluster.created_s);
    set(d, root, "version", config->kubernetes_version);
    set(d, root, "image", d->cluster.image);
    set(d, root, "endpoint", d->cluster.endpoint);
    kp_value_set(d->arena, root, "deletionProtection", kp_value_bool(d->arena, config->deletion_protection));
    kp_value_set(d->arena, root, "network", network_value(d));
    kp_value_set(d->arena, control_plane, "replicas", kp_value_int(d->arena, config->control_plane.replicas));
    kp_value_set(d->arena, control_plane, "machines", machines_value(d, NULL));
    kp_value_set(d->arena, root, "controlPlane", control_plane);
    kp_value_set(d->arena, root, "pools", pools_value(d));
    kp_value_set(d->arena, root, "addOns", add_ons_value(d));
    kp_value_set(d->arena, root, "certificates", certificates_value(d));
    kp_value_set(d->arena, root, "problems", d->problems);
    return root;
}

int cli_describe_value(const char *name, struct kp_arena *arena, struct kp_value **ret, struct kp_error *error)
{
    struct describe d = {.arena = arena, .problems = kp_value_array(arena)};
    int r = cli_cluster_open(name, arena, &d.cluster, &d.cloud, error);
    if (r == 0)
        r = cloud_machine_list(d.cloud, d.cluster.uid, arena, &d.machines, error);
    if (r == 0) {
        open_api(&d);
        open_etcd(&d);
        read_clocks(&d);
        *ret = gather(&d);
    }
    etcd_client_close(d.etcd);
    cli_api_close(d.api);
    cloud_close(d.cloud);
    return r;
}

int cli_describe_cluster(int argc, char **argv, struct kp_error *error)
{
    const char *output = "table";
    enum cli_output format;
    bool help = false;
    const struct kp_flag flags[] = {{"output", 'o', KP_FLAG_STRING, &output, "json or yaml; otherwise a tree", NULL}, {0}};
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    KP_AUTO_BUF struct kp_buf tree = {0};
    struct kp_strings rest = {0};
    struct kp_value *value = NULL;
    int r = cli_parse("describe cluster", flags, argc, argv, &rest, &help, error);
    if (r == 0 && !help)
        r = cli_want_words("describe cluster", &rest, 1, 1, error);
    if (r == 0 && !help)
        r = cli_output_parse(output, &format, error);
    if (r == 0 && !help)
        r = cli_describe_value(rest.items[0], arena, &value, error);
    if (r == 0 && !help && format == CLI_TABLE) {
        describe_tree(value, &tree);
        fwrite(tree.data, 1, tree.len, stdout);
    } else if (r == 0 && !help) {
        cli_print_value(value, format);
    }
    kp_strings_done(&rest);
    return r;
}
