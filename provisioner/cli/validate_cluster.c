/* Checks of what a cluster is made of: machines, API servers, nodes, etcd, leases, the pods of kube-system. */
#include "api/k8s.h"
#include "client/client.h"
#include "provisioner/cli/clocks.h"
#include "provisioner/cli/validate_internal.h"
#include "provisioner/etcd/etcd.h"

#define CLOCK_SLACK_S 5 /* machines' clocks and this one's */

static void list_word(struct kp_buf *list, const char *word)
{
    kp_buf_printf(list, "%s%s", list->len ? ", " : "", word);
}

void validate_machines(struct validate *v)
{
    KP_AUTO_BUF struct kp_buf off = {0};
    struct kp_error error = {0};
    int r = cloud_machine_list(v->cloud, v->cluster.uid, v->arena, &v->machines, &error);
    if (r == 0)
        r = plan_make(&v->cluster.config, &v->machines, NULL, v->arena, &v->plan, &error);
    if (r < 0) {
        validate_add(v, "machines", VALIDATE_FAILED, "see that the provider can be reached", "%s", error.message);
        return;
    }
    for (size_t i = 0; i < v->plan.n_actions; i++) {
        static const char *const what[] = {[PLAN_CREATE] = "does not exist", [PLAN_START] = "is off", [PLAN_DELETE] = "is too many"};
        const struct plan_action *action = &v->plan.actions[i];
        if (action->verb != PLAN_KEEP)
            list_word(&off, kp_arena_printf(v->arena, "%s %s", action->name, what[action->verb]));
    }
    if (off.len)
        validate_add(v, "machines", VALIDATE_FAILED, kp_arena_printf(v->arena, "kprov repair %s", v->cluster.name), "%s", off.data);
    else
        validate_add(v, "machines", VALIDATE_OK, "", "%zu of %zu are on", v->plan.n_machines, v->plan.n_machines);
}

/* An API server that is asked on its own, by its machine's address. */
static int ask_server(struct validate *v, const char *server, struct kp_error *error)
{
    struct client_config config = {0};
    KP_AUTO(cli_api_close) struct cli_api *api = NULL;
    int status = 0;
    int r = client_config_from_kubeconfig(v->kubeconfig, NULL, v->arena, &config, error);
    if (r < 0)
        return r;
    config.servers[0] = server;
    config.n_servers = 1;
    config.timeout_ms = VALIDATE_REQUEST_MS;
    r = cli_api_open_config(&config, &api, error);
    return r < 0 ? r : client_raw(cli_api_client(api), "GET", "/readyz", NULL, NULL, 0, NULL, &status, error);
}

/* The cluster's endpoint is checked last: what follows goes through it. */
void validate_api_servers(struct validate *v)
{
    KP_AUTO_BUF struct kp_buf bad = {0};
    size_t n = 0;
    for (size_t i = 0; i < v->machines.len; i++) {
        const struct cloud_machine *machine = &v->machines.items[i];
        struct kp_error error = {0};
        if (!kp_streq(machine->role, "control-plane"))
            continue;
        n++;
        if (machine->power != CLOUD_POWER_ON)
            list_word(&bad, kp_arena_printf(v->arena, "%s is off", machine->name));
        else if (ask_server(v, kp_arena_printf(v->arena, "https://%s:%d", machine->address, BOOTSTRAP_API_PORT), &error) < 0)
            list_word(&bad, kp_arena_printf(v->arena, "%s: %s", machine->name, error.message));
    }
    const char *remedy = kp_arena_printf(v->arena, "kprov logs %s NODE kube-apiserver", v->cluster.name);
    if (bad.len || !n)
        validate_add(v, "API servers", VALIDATE_FAILED, remedy, "%s", bad.len ? bad.data : "there is no control plane");
    else
        validate_add(v, "API servers", VALIDATE_OK, "", "%zu of %zu answer", n, n);
    struct kp_error error = {0};
    v->check_start_ms = kp_mono_ms();
    if (kp_empty(v->cluster.endpoint) || ask_server(v, v->cluster.endpoint, &error) < 0)
        validate_add(v, "endpoint", VALIDATE_FAILED, kp_arena_printf(v->arena, "kprov logs %s NODE kprov-vip", v->cluster.name), "%s: %s",
                     v->cluster.endpoint, error.message);
    else if (cli_api_open(v->kubeconfig, &v->api, &error) < 0)
        validate_add(v, "endpoint", VALIDATE_FAILED, "kprov kubeconfig", "%s", error.message);
    else
        validate_add(v, "endpoint", VALIDATE_OK, "", "%s answers", v->cluster.endpoint);
}

/* Lists through the endpoint. NULL when that failed; a row says so. */
static void *list(struct validate *v, const char *check, const struct kp_resource *resource, const char *ns)
{
    static const struct client_list_options options;
    struct kp_error error = {0};
    void *answer = NULL;
    if (!v->api) {
        validate_add(v, check, VALIDATE_FAILED, "mend the endpoint first", "not checked: the API does not answer");
        return NULL;
    }
    if (client_list(cli_api_client(v->api), resource, ns, &options, v->arena, &answer, &error) < 0) {
        validate_add(v, check, VALIDATE_FAILED, kp_arena_printf(v->arena, "kprov logs %s NODE kube-apiserver", v->cluster.name), "%s", error.message);
        return NULL;
    }
    return answer;
}

static const struct k8s_node *find_node(const struct k8s_node_list *nodes, const char *name)
{
    for (size_t i = 0; i < nodes->items.len; i++)
        if (kp_streq(nodes->items.items[i].metadata->name, name))
            return &nodes->items.items[i];
    return NULL;
}

static const struct k8s_node_condition *node_ready(const struct k8s_node *node)
{
    for (size_t i = 0; node->status && i < node->status->conditions.len; i++)
        if (kp_streq(node->status->conditions.items[i].type, "Ready"))
            return &node->status->conditions.items[i];
    return NULL;
}

void validate_nodes(struct validate *v)
{
    KP_AUTO_BUF struct kp_buf bad = {0};
    KP_AUTO_BUF struct kp_buf cordoned = {0};
    const struct k8s_node_list *nodes = list(v, "nodes", &k8s_nodes_resource, NULL);
    if (!nodes)
        return;
    for (size_t i = 0; i < v->plan.n_machines; i++) {
        const char *name = v->plan.machines[i].name;
        const struct k8s_node *node = find_node(nodes, name);
        const struct k8s_node_condition *ready = node ? node_ready(node) : NULL;
        if (!node)
            list_word(&bad, kp_arena_printf(v->arena, "%s is not registered", name));
        else if (!ready || !kp_streq(ready->status, "True"))
            list_word(&bad, kp_arena_printf(v->arena, "%s is not Ready: %s", name, ready && ready->message ? ready->message : "it never said"));
        else if (node->spec->has_unschedulable && node->spec->unschedulable)
            list_word(&cordoned, name);
    }
    if (bad.len)
        validate_add(v, "nodes", VALIDATE_FAILED, kp_arena_printf(v->arena, "kprov logs %s NODE kubelet; kprov repair %s", v->cluster.name, v->cluster.name), "%s", bad.data);
    else if (cordoned.len)
        validate_add(v, "nodes", VALIDATE_WARNING, "kubectl uncordon NODE", "all are Ready; cordoned: %s", cordoned.data);
    else
        validate_add(v, "nodes", VALIDATE_OK, "", "%zu of %zu are Ready", v->plan.n_machines, v->plan.n_machines);
}

void validate_etcd(struct validate *v)
{
    KP_AUTO(etcd_client_close) struct etcd_client *client = NULL;
    KP_AUTO_BUF struct kp_buf bad = {0};
    struct kp_error error = {0};
    struct etcd_member_status *status = NULL;
    const char *remedy = kp_arena_printf(v->arena, "kprov logs %s NODE etcd; kprov repair %s", v->cluster.name, v->cluster.name);
    if (cli_etcd_open(v->cluster.name, NULL, &v->machines, CLI_ETCD_OFF_TOO, NULL, &client, &error) < 0) {
        validate_add(v, "etcd", VALIDATE_FAILED, remedy, "%s", error.message);
        return;
    }
    size_t n = etcd_client_endpoints(client), learners = 0;
    etcd_client_status(client, v->arena, &status);
    for (size_t i = 0; i < n; i++) {
        if (!etcd_member_is_healthy(&status[i]))
            list_word(&bad, kp_arena_printf(v->arena, "%s: %s", status[i].endpoint, status[i].problem));
        learners += status[i].code == 0 && status[i].learner;
    }
    if (bad.len)
        validate_add(v, "etcd", VALIDATE_FAILED, remedy, "%s", bad.data);
    else if (learners)
        validate_add(v, "etcd", VALIDATE_WARNING, remedy, "%zu members are healthy, but %zu have no vote", n, learners);
    else
        validate_add(v, "etcd", VALIDATE_OK, "", "%zu of %zu members are healthy", n, n);
}

/* A clock that is off by minutes makes certificates and tokens look expired, or not valid yet; by seconds, events and leases of another order. */
void validate_clocks(struct validate *v)
{
    KP_AUTO_BUF struct kp_buf off = {0}, unknown = {0};
    struct clocks_row *rows = NULL;
    size_t n = clocks_ask(v->cloud, v->kubeconfig, &v->machines, v->api, v->arena, &rows);
    int64_t most_ms = 0;
    for (size_t i = 0; i < n; i++) {
        int64_t by_ms = rows[i].off_ms < 0 ? -rows[i].off_ms : rows[i].off_ms;
        if (!rows[i].known)
            list_word(&unknown, kp_arena_printf(v->arena, "%s: %s", rows[i].machine, rows[i].problem));
        else if (by_ms > CLOCKS_SLACK_MS)
            list_word(&off, kp_arena_printf(v->arena, "%s is %lld.%lld s %s", rows[i].machine, (long long)by_ms / 1000, (long long)by_ms % 1000 / 100,
                                            rows[i].off_ms > 0 ? "fast" : "slow"));
        most_ms = rows[i].known ? KP_MAX(most_ms, by_ms) : most_ms;
    }
    if (off.len && clocks_is_this_host(rows, n))
        validate_add(v, "clocks", most_ms > CLOCKS_FAIL_MS ? VALIDATE_FAILED : VALIDATE_WARNING, "set this host's clock", "all machines differ from this host: %s", off.data);
    else if (off.len)
        validate_add(v, "clocks", most_ms > CLOCKS_FAIL_MS ? VALIDATE_FAILED : VALIDATE_WARNING, clocks_remedy(&v->cluster, v->arena), "%s", off.data);
    else if (unknown.len)
        validate_add(v, "clocks", VALIDATE_WARNING, kp_arena_printf(v->arena, "kprov logs %s NODE kubelet", v->cluster.name), "not known of %s", unknown.data);
    else
        validate_add(v, "clocks", VALIDATE_OK, "", "those of %zu machines agree with this host's", n);
}

bool validate_lease_is_fresh(int64_t renewed_s, int64_t duration_s, int64_t now_s)
{
    return renewed_s + duration_s + CLOCK_SLACK_S >= now_s;
}

void validate_leases(struct validate *v)
{
    static const char *const names[] = {"kube-controller-manager", "kube-scheduler", "kprov-vip"};
    KP_AUTO_BUF struct kp_buf bad = {0};
    KP_AUTO_BUF struct kp_buf held = {0};
    const struct k8s_lease_list *leases = list(v, "leases", &k8s_leases_resource, "kube-system");
    if (!leases)
        return;
    const size_t count = KP_ARRAY_LEN(names) - (cli_is_balanced(&v->cluster.config, v->cloud) ? 1 : 0); /* nobody holds an address then */
    for (size_t i = 0; i < count; i++) {
        const struct k8s_lease_spec *spec = NULL;
        for (size_t j = 0; j < leases->items.len; j++)
            if (kp_streq(leases->items.items[j].metadata->name, names[i]))
                spec = leases->items.items[j].spec;
        if (!spec || kp_empty(spec->holder_identity))
            list_word(&bad, kp_arena_printf(v->arena, "nobody holds %s", names[i]));
        else if (!validate_lease_is_fresh(spec->renew_time.seconds, spec->lease_duration_seconds, kp_now_s()))
            list_word(&bad, kp_arena_printf(v->arena, "%s has not renewed %s for %llds", spec->holder_identity, names[i],
                                            (long long)(kp_now_s() - spec->renew_time.seconds)));
        else
            list_word(&held, names[i]);
    }
    if (bad.len)
        validate_add(v, "leases", VALIDATE_FAILED, kp_arena_printf(v->arena, "kprov logs %s NODE COMPONENT", v->cluster.name), "%s", bad.data);
    else
        validate_add(v, "leases", VALIDATE_OK, "", "%s are held", held.data);
}

static bool pod_is_ready(const struct k8s_pod *pod)
{
    for (size_t i = 0; pod->status && i < pod->status->conditions.len; i++)
        if (kp_streq(pod->status->conditions.items[i].type, "Ready"))
            return kp_streq(pod->status->conditions.items[i].status, "True");
    return false;
}

void validate_system_pods(struct validate *v)
{
    KP_AUTO_BUF struct kp_buf bad = {0};
    size_t n = 0;
    const struct k8s_pod_list *pods = list(v, "kube-system", &k8s_pods_resource, "kube-system");
    for (size_t i = 0; pods && i < pods->items.len; i++) {
        const struct k8s_pod *pod = &pods->items.items[i];
        const char *phase = pod->status && pod->status->phase ? pod->status->phase : "Unknown";
        if (kp_streq(phase, "Succeeded") || pod->metadata->deletion_timestamp.set)
            continue;
        n++;
        if (!pod_is_ready(pod))
            list_word(&bad, kp_arena_printf(v->arena, "%s (%s)", pod->metadata->name, phase));
    }
    if (!pods)
        return;
    if (bad.len)
        validate_add(v, "kube-system", VALIDATE_FAILED, "kubectl -n kube-system describe pod POD", "not Ready: %s", bad.data);
    else if (!n)
        validate_add(v, "kube-system", VALIDATE_FAILED, kp_arena_printf(v->arena, "kprov create cluster %s", v->cluster.name), "there are no pods: the add-ons were never applied");
    else
        validate_add(v, "kube-system", VALIDATE_OK, "", "%zu pods are Ready", n);
}
