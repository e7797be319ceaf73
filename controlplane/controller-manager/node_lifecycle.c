/* Node life: condition taints, nodes that fell silent (Ready becomes Unknown, NoExecute taint), and their pods' readiness. */
#include "controlplane/controller-manager/controllers.h"

#define TAINT_NOT_READY "node.kubernetes.io/not-ready"
#define TAINT_UNREACHABLE "node.kubernetes.io/unreachable"

struct heard {
    struct kp_time renewed; /* of the lease, as the node wrote it */
    int64_t status_s;       /* heartbeat in its status, as the node wrote it */
    int64_t at_s;           /* when one of them changed, by our clock */
};

struct node_state { /* one worker only */
    int index; /* of pods by node */
    struct kp_strmap *heard; /* node name -> struct heard */
};

/* Which condition, in which state, puts which NoSchedule taint on a node. */
static const struct {
    const char *condition, *status, *taint;
} condition_taints[] = {
    {"Ready", "False", TAINT_NOT_READY},
    {"Ready", "Unknown", TAINT_UNREACHABLE},
    {"MemoryPressure", "True", "node.kubernetes.io/memory-pressure"},
    {"DiskPressure", "True", "node.kubernetes.io/disk-pressure"},
    {"NetworkUnavailable", "True", "node.kubernetes.io/network-unavailable"},
    {"PIDPressure", "True", "node.kubernetes.io/pid-pressure"},
};

static struct k8s_node_condition *find_condition(const struct k8s_node *node, const char *type)
{
    for (size_t i = 0; i < node->status->conditions.len; i++)
        if (kp_streq(node->status->conditions.items[i].type, type))
            return &node->status->conditions.items[i];
    return NULL;
}

static bool is_managed_taint(const struct k8s_taint *taint)
{
    if (kp_streq(taint->effect, "NoExecute"))
        return kp_streq(taint->key, TAINT_NOT_READY) || kp_streq(taint->key, TAINT_UNREACHABLE);
    if (!kp_streq(taint->effect, "NoSchedule"))
        return false;
    for (size_t i = 0; i < KP_ARRAY_LEN(condition_taints); i++)
        if (kp_streq(taint->key, condition_taints[i].taint))
            return true;
    return kp_streq(taint->key, "node.kubernetes.io/unschedulable");
}

static const struct k8s_taint *find_taint(const struct k8s_node *node, const char *key, const char *effect)
{
    for (size_t i = 0; i < node->spec->taints.len; i++)
        if (kp_streq(node->spec->taints.items[i].key, key) && kp_streq(node->spec->taints.items[i].effect, effect))
            return &node->spec->taints.items[i];
    return NULL;
}

static void want_taint(const struct plan_input *in, const struct k8s_node *node, struct k8s_node *copy, const char *key, const char *effect)
{
    const struct k8s_taint *had = find_taint(node, key, effect);
    struct k8s_taint *taint = KP_LIST_ADD(in->arena, &copy->spec->taints);
    if (had) {
        *taint = *had;
        return;
    }
    taint->key = key;
    taint->effect = effect;
    taint->time_added = KP_TIME_OF(in->now_s);
}

/* Rewrites the taints this controller owns from the node's conditions; all others stay, in their order, first. */
static void plan_taints(const struct plan_input *in, struct plan *plan, const struct k8s_node *node, const char *ready)
{
    struct k8s_node *copy = KP_OBJECT_CLONE(in->arena, k8s_node, node);
    memset(&copy->spec->taints, 0, sizeof(copy->spec->taints));
    for (size_t i = 0; i < node->spec->taints.len; i++)
        if (!is_managed_taint(&node->spec->taints.items[i]))
            *KP_LIST_ADD(in->arena, &copy->spec->taints) = node->spec->taints.items[i];
    for (size_t i = 0; i < KP_ARRAY_LEN(condition_taints); i++) {
        const struct k8s_node_condition *condition = find_condition(node, condition_taints[i].condition);
        const char *status = kp_streq(condition_taints[i].condition, "Ready") ? ready : condition ? condition->status : NULL;
        if (kp_streq(status, condition_taints[i].status))
            want_taint(in, node, copy, condition_taints[i].taint, "NoSchedule");
    }
    if (node->spec->unschedulable)
        want_taint(in, node, copy, "node.kubernetes.io/unschedulable", "NoSchedule");
    if (kp_streq(ready, "False"))
        want_taint(in, node, copy, TAINT_NOT_READY, "NoExecute");
    else if (kp_streq(ready, "Unknown"))
        want_taint(in, node, copy, TAINT_UNREACHABLE, "NoExecute");
    bool same = copy->spec->taints.len == node->spec->taints.len;
    for (size_t i = 0; same && i < node->spec->taints.len; i++)
        same = find_taint(copy, node->spec->taints.items[i].key, node->spec->taints.items[i].effect) != NULL;
    if (!same)
        plan_update(plan, &k8s_nodes_resource, copy);
}

/* When the node was last heard of: when we saw its lease or its own status change, by our clock. The times it writes itself
   are only compared with each other, for its clock may be wrong. */
static int64_t heard_s(const struct plan_input *in, const struct k8s_node *node)
{
    struct node_state *state = in->state;
    const struct k8s_node_condition *ready = find_condition(node, "Ready");
    const struct k8s_lease *lease = client_view_get(in->view, engine_cache(in->engine, &k8s_leases_resource), "kube-node-lease", in->name);
    struct heard *heard = kp_strmap_get(state->heard, in->name);
    int64_t status_s = ready && !kp_streq(ready->status, "Unknown") ? ready->last_heartbeat_time.seconds : 0;
    struct kp_time renewed = lease ? lease->spec->renew_time : (struct kp_time){0};
    if (!heard) {
        heard = kp_calloc(1, sizeof(*heard));
        /* one that never reported anything is measured from its creation */
        heard->at_s = ready || lease ? in->now_s : KP_MIN(in->now_s, node->metadata->creation_timestamp.seconds);
        kp_strmap_put(state->heard, in->name, heard);
    } else if (renewed.seconds != heard->renewed.seconds || renewed.nanos != heard->renewed.nanos || (status_s && status_s != heard->status_s)) {
        heard->at_s = in->now_s;
    }
    heard->renewed = renewed;
    if (status_s)
        heard->status_s = status_s;
    return heard->at_s;
}

/* True when something is to be written. */
static bool plan_silent(const struct plan_input *in, struct plan *plan, const struct k8s_node *node)
{
    static const char *const types[] = {"Ready", "MemoryPressure", "DiskPressure", "PIDPressure"};
    struct k8s_node *copy = KP_OBJECT_CLONE(in->arena, k8s_node, node);
    bool changed = false;
    for (size_t i = 0; i < KP_ARRAY_LEN(types); i++) {
        struct k8s_node_condition *condition = find_condition(copy, types[i]);
        bool never = condition == NULL;
        if (never) {
            condition = KP_LIST_ADD(in->arena, &copy->status->conditions);
            condition->type = types[i];
            condition->last_heartbeat_time = node->metadata->creation_timestamp;
        }
        if (kp_streq(condition->status, "Unknown"))
            continue;
        condition->status = "Unknown";
        condition->reason = never ? "NodeStatusNeverUpdated" : "NodeStatusUnknown";
        condition->message = never ? "Kubelet never posted node status." : "Kubelet stopped posting node status.";
        condition->last_transition_time = KP_TIME_OF(in->now_s);
        changed = true;
    }
    if (!changed)
        return false;
    plan_update_status(plan, &k8s_nodes_resource, copy);
    plan_event(plan, &k8s_node_type, node, "Normal", "NodeNotReady", "Node %s status is now: NodeNotReady", in->name);
    return true;
}

/* Pods of a node that says nothing serve nobody as far as we know: their Ready condition says so, and EndpointSlices follow. Of a node
   that is not ready by its kubelet's own word, that kubelet speaks for its pods as well (upstream marks none then either): whoever
   contradicts it is contradicted in turn. */
static void plan_pods_not_ready(const struct plan_input *in, struct plan *plan)
{
    const void *const *pods;
    size_t n = client_view_index(in->view, engine_cache(in->engine, &k8s_pods_resource), ((const struct node_state *)in->state)->index, in->name, &pods);
    for (size_t i = 0; i < n; i++) {
        const struct k8s_pod *pod = pods[i];
        if (!engine_pod_is_ready(pod))
            continue;
        struct k8s_pod *copy = KP_OBJECT_CLONE(in->arena, k8s_pod, pod);
        for (size_t k = 0; k < copy->status->conditions.len; k++) {
            struct k8s_pod_condition *condition = &copy->status->conditions.items[k];
            if (!kp_streq(condition->type, "Ready"))
                continue;
            condition->status = "False";
            condition->last_transition_time = KP_TIME_OF(in->now_s);
        }
        plan_update_status(plan, &k8s_pods_resource, copy);
        plan_event(plan, &k8s_pod_type, pod, "Warning", "NodeNotReady", "Node is not ready");
    }
}

static int plan_node(const struct plan_input *in, struct plan *plan, struct kp_error *error)
{
    const struct k8s_node *node = client_view_get(in->view, engine_cache(in->engine, &k8s_nodes_resource), "", in->name);
    if (!node)
        free(kp_strmap_remove(((struct node_state *)in->state)->heard, in->name));
    if (!node || node->metadata->deletion_timestamp.set)
        return 0;
    const struct engine_config *config = engine_config(in->engine);
    const struct k8s_node_condition *condition = find_condition(node, "Ready");
    const char *ready = condition ? condition->status : "Unknown";
    int64_t silent_ms = (in->now_s - heard_s(in, node)) * 1000;
    if (silent_ms > config->node_monitor_grace_period_ms) {
        if (plan_silent(in, plan, node))
            return 0; /* taints follow from the status just written, in the next plan */
        ready = "Unknown";
        plan_pods_not_ready(in, plan);
    } else {
        plan_requeue_after_ms(plan, KP_MIN(config->node_monitor_period_ms, config->node_monitor_grace_period_ms - silent_ms + 1000));
        if (!condition)
            return 0; /* just registered: its first status is on the way */
    }
    plan_taints(in, plan, node, ready);
    return 0;
}

static size_t pods_by_node(const struct client_object *object, const char **values, size_t max)
{
    values[0] = ((const struct k8s_pod *)object->data)->spec->node_name;
    return kp_empty(values[0]) ? 0 : 1;
}

static void map_lease(struct controller_run *run, const struct client_object *old, const struct client_object *new)
{
    /* Renewals only push the deadline out, which the timer finds out for itself; the first one matters. */
    if (new && !old && kp_streq(new->ns, "kube-node-lease"))
        engine_enqueue(run, "", new->name);
}

static int setup_node(struct engine *engine, struct controller_run *run, void **ret_state, struct kp_error *error)
{
    struct node_state *state = kp_calloc(1, sizeof(*state));
    state->index = client_informer_add_index(engine_informer(engine, &k8s_pods_resource), pods_by_node);
    state->heard = kp_strmap_new();
    *ret_state = state;
    engine_watch(run, &k8s_nodes_resource, engine_map_self);
    engine_watch(run, &k8s_leases_resource, map_lease);
    return 0;
}

static void free_state(void *p)
{
    struct node_state *state = p;
    kp_strmap_free(state->heard, free);
    free(state);
}

const struct controller node_lifecycle_controller = {
    .name = "node-lifecycle-controller", .workers = 1, .setup = setup_node, .plan = plan_node, .teardown = free_state,
};
