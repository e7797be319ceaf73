/* Health gates of a roll-out: what the API and etcd say of a machine. Nothing here changes anything but etcd's leader. */
#include "api/k8s.h"
#include "client/client.h"
#include "provisioner/cli/rollout_internal.h"
#include "provisioner/etcd/etcd.h"
#include "provisioner/plan/rollout.h"

#define MIRROR_ANNOTATION "kubernetes.io/config.mirror"

/* The last is not there when the cloud's load balancer leads to the API. */
static const char *const static_pods[BOOTSTRAP_STATIC_PODS] = {"etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler",
                                                               "kprov-vip"};

static bool say(char problem[CLI_GATE_TEXT_MAX], const char *format, ...) KP_PRINTF(2, 3);
static bool say(char problem[CLI_GATE_TEXT_MAX], const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(problem, CLI_GATE_TEXT_MAX, format, args);
    va_end(args);
    return false;
}

static bool is_control_plane(const struct cloud_machine *machine)
{
    return kp_streq(machine->role, "control-plane");
}

/* ---- pods of the machine itself */

static bool is_mirror(const struct k8s_pod *pod)
{
    return kp_string_map_get(&pod->metadata->annotations, MIRROR_ANNOTATION) != NULL;
}

static bool is_own(const struct k8s_pod *pod)
{
    bool own = is_mirror(pod);
    for (size_t i = 0; i < pod->metadata->owner_references.len; i++)
        own |= kp_streq(pod->metadata->owner_references.items[i].kind, "DaemonSet");
    return own && !pod->metadata->deletion_timestamp.set;
}

/* The ids of a pod's containers, or NULL when not all of them are ready. */
static const char *ready_containers(const struct k8s_pod *pod, struct kp_arena *arena)
{
    KP_AUTO_BUF struct kp_buf ids = {0};
    if (!pod->status || pod->status->container_statuses.len == 0)
        return NULL;
    for (size_t i = 0; i < pod->status->container_statuses.len; i++) {
        const struct k8s_container_status *status = &pod->status->container_statuses.items[i];
        if (!status->ready)
            return NULL;
        kp_buf_printf(&ids, "%s ", status->container_id ? status->container_id : "");
    }
    return kp_arena_strndup(arena, ids.data, ids.len);
}

static int list_pods(struct cli_operation *op, const char *node, struct kp_arena *arena, const struct k8s_pod_list **ret,
                     struct kp_error *error)
{
    const struct client_list_options options = {.field_selector = kp_arena_printf(arena, "spec.nodeName=%s", node)};
    void *answer = NULL;
    int r = client_list(cli_api_client(op->api), &k8s_pods_resource, "kube-system", &options, arena, &answer, error);
    *ret = answer;
    return r;
}

int cli_gate_record(struct cli_operation *op, const char *node, struct kp_arena *arena, struct kp_string_map *ret, struct kp_error *error)
{
    const struct k8s_pod_list *pods = NULL;
    int r = list_pods(op, node, arena, &pods, error);
    for (size_t i = 0; r == 0 && i < pods->items.len; i++) {
        const struct k8s_pod *pod = &pods->items.items[i];
        const char *ids = is_own(pod) ? ready_containers(pod, arena) : NULL;
        if (ids)
            kp_string_map_set(arena, ret, pod->metadata->name, ids);
    }
    return r;
}

static const struct k8s_pod *find_pod(const struct k8s_pod_list *pods, const char *name)
{
    for (size_t i = 0; i < pods->items.len; i++)
        if (kp_streq(pods->items.items[i].metadata->name, name))
            return &pods->items.items[i];
    return NULL;
}

/* Ready, and not only in the words of a kubelet that went down since. */
static bool pod_is_well(const struct k8s_pod_list *pods, const char *name, const struct kp_string_map *before, struct kp_arena *arena,
                        char problem[CLI_GATE_TEXT_MAX])
{
    const struct k8s_pod *pod = find_pod(pods, name);
    if (!pod)
        return say(problem, "pod %s is not there", name);
    const char *ids = ready_containers(pod, arena), *old = kp_string_map_get(before, name);
    if (!ids)
        return say(problem, "pod %s is not ready", name);
    if (kp_streq(ids, old))
        return say(problem, "pod %s was not started anew", name);
    return true;
}

static bool static_pods_are_well(struct cli_operation *op, const struct cloud_machine *machine, const struct k8s_pod_list *pods,
                                 const struct kp_string_map *before, struct kp_arena *arena, char problem[CLI_GATE_TEXT_MAX])
{
    const char *tag = kp_arena_printf(arena, ":%s", op->cluster.config.kubernetes_version);
    const size_t count = KP_ARRAY_LEN(static_pods) - (cli_is_balanced(&op->cluster.config, op->cloud) ? 1 : 0);
    for (size_t i = 0; i < count; i++) {
        const char *name = kp_arena_printf(arena, "%s-%s", static_pods[i], machine->name);
        if (!pod_is_well(pods, name, before, arena, problem))
            return false;
        const struct k8s_pod *pod = find_pod(pods, name);
        const char *image = pod->spec->containers.len ? pod->spec->containers.items[0].image : "";
        if (!kp_ends_with(image, tag))
            return say(problem, "pod %s runs %s, not %s", name, image, tag + 1);
    }
    return true;
}

/* Agents that run on every node by the DaemonSets kprov applies, and what else was well before. */
static bool agents_are_well(const struct k8s_pod_list *pods, const struct kp_string_map *before, struct kp_arena *arena,
                            char problem[CLI_GATE_TEXT_MAX])
{
    static const char *const agents[] = {"kube-proxy-", "kprov-network-"};
    for (size_t i = 0; i < KP_ARRAY_LEN(agents); i++) {
        bool well = false;
        char last[CLI_GATE_TEXT_MAX];
        say(last, "no pod %s* is there", agents[i]);
        for (size_t p = 0; p < pods->items.len && !well; p++) {
            const struct k8s_pod *pod = &pods->items.items[p];
            well = is_own(pod) && kp_starts_with(pod->metadata->name, agents[i]) &&
                   pod_is_well(pods, pod->metadata->name, before, arena, last);
        }
        if (!well)
            return say(problem, "%s", last);
    }
    return true;
}

/* ---- nodes */

static bool node_is_well(const struct k8s_node *node, const char *version, char problem[CLI_GATE_TEXT_MAX])
{
    const char *name = node->metadata->name, *running = node->status->node_info->kubelet_version;
    if (version && !kp_streq(running, version))
        return say(problem, "the kubelet of %s is %s, not %s", name, kp_empty(running) ? "of no version" : running, version);
    for (size_t i = 0; i < node->status->conditions.len; i++) {
        const struct k8s_node_condition *condition = &node->status->conditions.items[i];
        if (kp_streq(condition->type, "Ready") && kp_streq(condition->status, "True"))
            return true;
        if (kp_streq(condition->type, "Ready"))
            return say(problem, "node %s is not Ready: %s", name, kp_empty(condition->message) ? condition->reason : condition->message);
    }
    return say(problem, "node %s has not said that it is Ready", name);
}

/* ---- etcd */

static bool ask_etcd(struct cli_operation *op, struct kp_arena *arena, struct etcd_client **ret, struct etcd_member_status **ret_status,
                     char problem[CLI_GATE_TEXT_MAX])
{
    struct kp_error error = {0};
    if (cli_op_open_etcd(op, arena, ret, &error) < 0)
        return say(problem, "etcd: %s", error.message);
    etcd_client_status(*ret, arena, ret_status);
    return true;
}

static bool is_of(const struct etcd_member_status *status, const struct cloud_machine *machine, struct kp_arena *arena)
{
    return strstr(status->endpoint, kp_arena_printf(arena, "/%s:", machine->address)) != NULL;
}

static bool etcd_member_is_well(struct cli_operation *op, const struct cloud_machine *machine, struct kp_arena *arena,
                                char problem[CLI_GATE_TEXT_MAX])
{
    KP_AUTO(etcd_client_close) struct etcd_client *etcd = NULL;
    struct etcd_member_status *status = NULL;
    if (!ask_etcd(op, arena, &etcd, &status, problem))
        return false;
    for (size_t i = 0; i < etcd_client_endpoints(etcd); i++) {
        if (!is_of(&status[i], machine, arena))
            continue;
        if (!etcd_member_is_healthy(&status[i]) || status[i].learner)
            return say(problem, "etcd's member on %s: %s", machine->name, status[i].learner ? "still a learner" : status[i].problem);
        return true;
    }
    return say(problem, "etcd has no member on %s", machine->name);
}

/* Somebody runs the controllers and the scheduler: what is evicted next comes up elsewhere, and Services follow. The leases of a machine
   that is off are freed (rollout.c), so a holder is one that lives. */
static bool leaders_are_there(struct cli_operation *op, struct kp_arena *arena, char problem[CLI_GATE_TEXT_MAX])
{
    static const char *const leases[] = {"kube-controller-manager", "kube-scheduler"};
    for (size_t i = 0; i < KP_ARRAY_LEN(leases); i++) {
        struct kp_error error = {0};
        void *found = NULL;
        if (client_get(cli_api_client(op->api), &k8s_leases_resource, "kube-system", leases[i], arena, &found, &error) < 0)
            return say(problem, "the API: %.200s", error.message);
        const struct k8s_lease *lease = found;
        if (kp_empty(lease->spec->holder_identity))
            return say(problem, "nobody leads as %s", leases[i]);
    }
    return true;
}

bool cli_gate_passes(struct cli_operation *op, const struct cloud_machine *machine, const struct kp_string_map *before,
                     char problem[CLI_GATE_TEXT_MAX])
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    struct kp_error error = {0};
    const struct k8s_pod_list *pods = NULL;
    void *node = NULL;
    int r = client_get(cli_api_client(op->api), &k8s_nodes_resource, NULL, machine->name, arena, &node, &error);
    if (r == 0)
        r = list_pods(op, machine->name, arena, &pods, &error);
    if (r < 0)
        return say(problem, "the API: %.200s", error.message);
    if (!node_is_well(node, op->cluster.config.kubernetes_version, problem) || !agents_are_well(pods, before, arena, problem))
        return false;
    return !is_control_plane(machine) ||
           (static_pods_are_well(op, machine, pods, before, arena, problem) && etcd_member_is_well(op, machine, arena, problem) &&
            leaders_are_there(op, arena, problem));
}

/* ---- before a machine is taken down */

static bool others_are_ready(struct cli_operation *op, const struct cloud_machine_list *machines, const struct cloud_machine *machine,
                             struct kp_arena *arena, char problem[CLI_GATE_TEXT_MAX])
{
    struct kp_string_map readiness = {0};
    struct kp_error error = {0};
    if (cli_api_node_readiness(op->api, arena, &readiness, &error) < 0)
        return say(problem, "the API: %.200s", error.message);
    for (size_t i = 0; i < machines->len; i++) {
        const char *name = machines->items[i].name;
        if (!kp_streq(name, machine->name) && !kp_streq(kp_string_map_get(&readiness, name), "True"))
            return say(problem, "node %s is not Ready", name);
    }
    return true;
}

static bool etcd_can_spare(struct cli_operation *op, const struct cloud_machine_list *machines, const struct cloud_machine *machine,
                           struct kp_arena *arena, char problem[CLI_GATE_TEXT_MAX])
{
    KP_AUTO(etcd_client_close) struct etcd_client *etcd = NULL;
    struct etcd_member_status *status = NULL;
    size_t voters = 0, healthy = 0;
    for (size_t i = 0; i < machines->len; i++)
        voters += is_control_plane(&machines->items[i]);
    if (!ask_etcd(op, arena, &etcd, &status, problem))
        return false;
    for (size_t i = 0; i < etcd_client_endpoints(etcd); i++)
        healthy += !is_of(&status[i], machine, arena) && etcd_member_is_healthy(&status[i]) && !status[i].learner;
    return plan_rollout_may_take_down(voters, healthy) ||
           say(problem, "etcd cannot spare the member on %s: only %zu of the other %zu are healthy", machine->name, healthy, voters - 1);
}

bool cli_gate_may_take_down(struct cli_operation *op, const struct cloud_machine_list *machines, const struct cloud_machine *machine,
                            bool any_nodes, char problem[CLI_GATE_TEXT_MAX])
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    if (!any_nodes && !others_are_ready(op, machines, machine, arena, problem))
        return false;
    return !is_control_plane(machine) || etcd_can_spare(op, machines, machine, arena, problem);
}

const char *cli_gate_etcd_leader(struct cli_operation *op, const struct cloud_machine_list *machines, struct kp_arena *arena)
{
    KP_AUTO(etcd_client_close) struct etcd_client *etcd = NULL;
    struct etcd_member_status *status = NULL;
    char problem[CLI_GATE_TEXT_MAX];
    if (!ask_etcd(op, arena, &etcd, &status, problem))
        return "";
    for (size_t i = 0; i < etcd_client_endpoints(etcd); i++)
        for (size_t m = 0; m < machines->len; m++)
            if (status[i].id && status[i].leader == status[i].id && is_of(&status[i], &machines->items[m], arena))
                return machines->items[m].name;
    return "";
}

int cli_gate_move_leader(struct cli_operation *op, const struct cloud_machine *machine, struct kp_error *error)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    KP_AUTO(etcd_client_close) struct etcd_client *etcd = NULL;
    struct etcd_member_status *status = NULL;
    uint64_t to = 0;
    bool leads = false;
    int r = cli_op_open_etcd(op, arena, &etcd, error);
    if (r < 0)
        return r;
    etcd_client_status(etcd, arena, &status);
    for (size_t i = 0; i < etcd_client_endpoints(etcd); i++) {
        if (is_of(&status[i], machine, arena))
            leads = status[i].id && status[i].leader == status[i].id;
        else if (etcd_member_is_healthy(&status[i]) && !status[i].learner)
            to = status[i].id;
    }
    return leads && to ? etcd_client_move_leader(etcd, to, error) : 0;
}
