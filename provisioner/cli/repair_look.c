/* How a cluster is, for kprov repair: its machines, etcd's members and the Nodes, whichever of them can be asked. */
#include "api/k8s.h"
#include "client/client.h"
#include "provisioner/cli/repair_internal.h"

#define API_MS 5000

static bool any_runs(const struct cloud_machine_list *machines)
{
    for (size_t i = 0; i < machines->len; i++)
        if (kp_streq(machines->items[i].role, "control-plane") && machines->items[i].power == CLOUD_POWER_ON)
            return true;
    return false;
}

void cli_repair_look_at_etcd(struct cli_operation *op, struct repair_view *view)
{
    KP_AUTO(etcd_client_close) struct etcd_client *etcd = NULL;
    view->members_known = false;
    view->n_status = 0;
    if (cli_op_open_etcd(op, op->arena, &etcd, &view->etcd_error) < 0)
        return;
    view->members_known = etcd_client_members_seen(etcd, op->arena, &view->members, &view->etcd_error) == 0;
    etcd_client_status(etcd, op->arena, &view->status);
    view->n_status = etcd_client_endpoints(etcd);
    for (size_t i = 0; i < view->n_status; i++) /* the client's own strings go with it */
        view->status[i].endpoint = kp_arena_strdup(op->arena, view->status[i].endpoint);
}

static void look_at_nodes(struct cli_operation *op, struct repair_view *view)
{
    static const struct client_list_options options;
    const char *path = NULL;
    void *found = NULL;
    int r = cli_state_path(op->cluster.name, "admin.conf", op->arena, &path, &view->api_error);
    if (r == 0 && !op->api)
        r = cli_api_open(path, &op->api, &view->api_error);
    if (r == 0)
        r = cli_api_wait(op->api, kp_mono_ms() + API_MS, &op->progress, &view->api_error);
    if (r == 0)
        r = client_list(cli_api_client(op->api), &k8s_nodes_resource, NULL, &options, op->arena, &found, &view->api_error);
    view->nodes = r == 0 ? found : NULL;
}

int cli_repair_look(struct cli_operation *op, struct repair_view *ret, struct kp_error *error)
{
    *ret = (struct repair_view){.nodes = NULL};
    int r = cloud_machine_list(op->cloud, op->cluster.uid, op->arena, &ret->machines, error);
    if (r == 0)
        r = plan_make(&op->cluster.config, &ret->machines, NULL, op->arena, &op->plan, error);
    if (r < 0)
        return r;
    if (!any_runs(&ret->machines)) {
        kp_fail(&ret->etcd_error, KP_EUNAVAILABLE, "no control plane runs");
        ret->api_error = ret->etcd_error;
        return 0;
    }
    cli_repair_look_at_etcd(op, ret);
    look_at_nodes(op, ret);
    return 0;
}

/* ---- inputs */

static const struct cloud_machine *find_machine(const struct repair_view *view, const char *name)
{
    for (size_t i = 0; i < view->machines.len; i++)
        if (kp_streq(view->machines.items[i].name, name))
            return &view->machines.items[i];
    return NULL;
}

static enum repair_machine_state machine_state(const struct cloud_machine *machine)
{
    if (!machine)
        return REPAIR_MACHINE_GONE;
    if (kp_empty(machine->role))
        return REPAIR_MACHINE_HALF_MADE;
    return machine->power == CLOUD_POWER_ON ? REPAIR_MACHINE_ON : REPAIR_MACHINE_OFF;
}

static bool is_at(const char *url, const char *address, int port, struct kp_arena *arena)
{
    return kp_streq(url, kp_arena_printf(arena, "https://%s:%d", address, port));
}

static enum repair_member_state member_state(const struct cli_operation *op, const struct repair_view *view, const char *name,
                                             const struct cloud_machine *machine)
{
    const struct etcd_member *member = NULL;
    if (!view->members_known || !machine)
        return REPAIR_MEMBER_UNKNOWN;
    for (size_t i = 0; i < view->members.len && !member; i++)
        if (kp_streq(view->members.items[i].name, name) || is_at(view->members.items[i].peer_url, machine->address, ETCD_PEER_PORT, op->arena))
            member = &view->members.items[i];
    if (!member)
        return REPAIR_MEMBER_NONE;
    if (member->learner)
        return REPAIR_MEMBER_LEARNER;
    for (size_t i = 0; i < view->n_status; i++) {
        const struct etcd_member_status *status = &view->status[i];
        if (!is_at(status->endpoint, machine->address, ETCD_CLIENT_PORT, op->arena) || status->code < 0)
            continue;
        if (status->apart)
            return REPAIR_MEMBER_APART;
        return status->id != member->id ? REPAIR_MEMBER_NONE : etcd_member_is_healthy(status) ? REPAIR_MEMBER_HEALTHY : REPAIR_MEMBER_WAITING;
    }
    return REPAIR_MEMBER_SILENT;
}

static void set_node(const struct repair_view *view, int64_t now_s, struct repair_input *input)
{
    const struct k8s_node_list *list = view->nodes;
    if (!list)
        return;
    input->node = REPAIR_NODE_ABSENT;
    for (size_t i = 0; i < list->items.len; i++) {
        const struct k8s_node *node = &list->items.items[i];
        if (!kp_streq(node->metadata->name, input->name))
            continue;
        input->node = REPAIR_NODE_NOT_READY;
        input->node_since_s = now_s - node->metadata->creation_timestamp.seconds;
        for (size_t j = 0; node->status && j < node->status->conditions.len; j++) {
            const struct k8s_node_condition *condition = &node->status->conditions.items[j];
            if (!kp_streq(condition->type, "Ready"))
                continue;
            input->node = kp_streq(condition->status, "True") ? REPAIR_NODE_READY : REPAIR_NODE_NOT_READY;
            input->node_since_s = now_s - condition->last_transition_time.seconds;
        }
    }
}

struct repair_input *cli_repair_inputs(const struct cli_operation *op, const struct repair_view *view, int64_t now_s)
{
    struct repair_input *inputs = KP_NEW_ARRAY(op->arena, struct repair_input, op->plan.n_machines + 1);
    for (size_t i = 0; i < op->plan.n_machines; i++) {
        const struct plan_machine *wanted = &op->plan.machines[i];
        const struct cloud_machine *machine = find_machine(view, wanted->name);
        bool control_plane = kp_streq(wanted->role, "control-plane");
        inputs[i] = (struct repair_input){
            .name = wanted->name, .control_plane = control_plane, .machine = machine_state(machine),
            .age_s = machine ? now_s - machine->created_s : 0,
            .member = control_plane ? member_state(op, view, wanted->name, machine) : REPAIR_MEMBER_UNKNOWN,
        };
        set_node(view, now_s, &inputs[i]);
    }
    return inputs;
}

/* ---- what nobody is behind */

void cli_repair_stray_nodes(const struct cli_operation *op, const struct repair_view *view, struct kp_strings *ret)
{
    const struct k8s_node_list *list = view->nodes;
    const char *ours = kp_arena_printf(op->arena, "%s://%s/", cloud_name(op->cloud), op->cluster.uid);
    for (size_t i = 0; list && i < list->items.len; i++) {
        const struct k8s_node *node = &list->items.items[i];
        const char *name = node->metadata->name, *id = node->spec ? node->spec->provider_id : NULL;
        /* A Node that somebody joined by hand is theirs. */
        if (id && kp_starts_with(id, ours) && !cli_op_wants(op, name) && !find_machine(view, name))
            kp_strings_add(ret, name);
    }
}

static bool has_machine_at(const struct cli_operation *op, const struct repair_view *view, const char *peer_url)
{
    for (size_t i = 0; i < view->machines.len; i++)
        if (is_at(peer_url, view->machines.items[i].address, ETCD_PEER_PORT, op->arena))
            return true;
    return false;
}

void cli_repair_stray_members(const struct cli_operation *op, const struct repair_view *view, struct kp_strings *ret)
{
    for (size_t i = 0; view->members_known && i < view->members.len; i++) {
        const struct etcd_member *member = &view->members.items[i];
        bool known = !kp_empty(member->name) && (cli_op_wants(op, member->name) || find_machine(view, member->name));
        if (!known && !has_machine_at(op, view, member->peer_url))
            kp_strings_add(ret, kp_empty(member->name) ? member->peer_url : member->name);
    }
}
