/* Nodes that are not ready: kept off by a taint while their machine is off, deleted when the cloud says that there is no such machine. */
#include "cloud-controller/node/node.h"

struct node_lifecycle {
    const struct ccm_context *context;
    struct client_recorder *recorder;
    struct ccm_ticker *ticker;
};

static int write_taint(struct node_lifecycle *l, const struct k8s_node *node, bool add, struct kp_error *error)
{
    KP_AUTO_BUF struct kp_buf body = {0};
    kp_buf_puts(&body, "{\"metadata\":{\"resourceVersion\":");
    kp_json_string(&body, node->metadata->resource_version);
    kp_buf_puts(&body, "},\"spec\":{\"taints\":");
    ccm_print_taints(node, CCM_TAINT_SHUTDOWN, add, &body);
    kp_buf_puts(&body, "}}");
    int r = client_patch(l->context->client, &k8s_nodes_resource, NULL, node->metadata->name, CLIENT_PATCH_MERGE, body.data, body.len, NULL, NULL, NULL,
                         error);
    if (r == 0)
        kp_info(add ? "the node's machine is off: tainted" : "the node is back: untainted", "node", node->metadata->name, NULL);
    return r;
}

/* The list did not have it. Only the cloud's word on this very machine counts, and only for the Node that was looked at. */
static int remove_if_gone(struct node_lifecycle *l, const struct k8s_node *node, struct kp_arena *arena, struct kp_error *error)
{
    const struct client_delete_options options = {.grace_period_s = -1, .uid = node->metadata->uid};
    struct client_event_target target = client_event_target_of(&k8s_node_type, node);
    struct cloud_machine machine;
    int r = cloud_machine_get(l->context->cloud, l->context->options->cluster_uid, node->metadata->name, arena, &machine, error);
    if (r != KP_ENOTFOUND)
        return r < 0 ? r : 0;
    kp_info("the node's machine does not exist: deleting the node", "node", node->metadata->name, "providerID", node->spec->provider_id, NULL);
    client_event(l->recorder, &target, "Normal", "DeletingNode", "Deleting node %s because it does not exist in the cloud provider", node->metadata->name);
    r = client_delete(l->context->client, &k8s_nodes_resource, NULL, node->metadata->name, &options, error);
    return r == KP_ENOTFOUND ? 0 : r;
}

static int act(struct node_lifecycle *l, const struct k8s_node *node, enum node_verdict verdict, struct kp_arena *arena, struct kp_error *error)
{
    switch (verdict) {
    case NODE_LEAVE: break;
    case NODE_TAINT: return write_taint(l, node, true, error);
    case NODE_UNTAINT: return write_taint(l, node, false, error);
    case NODE_ASK: return remove_if_gone(l, node, arena, error);
    }
    return 0;
}

/* One question to the cloud for all, and none while all are ready. */
static int64_t look(void *arg)
{
    struct node_lifecycle *l = arg;
    KP_AUTO(client_view_free) struct client_view *view = client_view_new();
    struct cloud_machine_list machines = {0};
    bool listed = false, wanted = false;
    int64_t retry_ms = 0;
    struct kp_error error = {0};
    const void *const *nodes;
    size_t n = client_view_list(view, l->context->nodes, NULL, &nodes);
    for (size_t i = 0; i < n && !wanted; i++)
        wanted = !ccm_is_ready(nodes[i]);
    if (wanted) {
        listed = cloud_machine_list(l->context->cloud, l->context->options->cluster_uid, client_view_arena(view), &machines, &error) == 0;
        retry_ms = error.retry_after_ms;
        if (!listed)
            kp_warn("the cloud does not tell about nodes that are not ready: they are left as they are", "error", error.message, NULL);
    }
    for (size_t i = 0; i < n; i++) {
        const struct k8s_node *node = nodes[i];
        error = (struct kp_error){0};
        if (act(l, node, node_judge(node, listed ? &machines : NULL), client_view_arena(view), &error) == 0)
            continue;
        retry_ms = KP_MAX(retry_ms, error.retry_after_ms);
        if (!ccm_is_stale(error.code))
            kp_warn("node left as it is", "node", node->metadata->name, "error", error.message, NULL);
    }
    return retry_ms > l->context->options->node_monitor_ms ? retry_ms : 0;
}

struct node_lifecycle *node_lifecycle_new(const struct ccm_context *context)
{
    struct node_lifecycle *l = kp_calloc(1, sizeof(*l));
    l->context = context;
    l->recorder = client_recorder_new(context->client, "cloud-node-lifecycle-controller", NULL);
    return l;
}

int node_lifecycle_run(struct node_lifecycle *l, struct kp_error *error)
{
    return ccm_ticker_start(l->context->options->node_monitor_ms, look, l, &l->ticker, error);
}

void node_lifecycle_stop(struct node_lifecycle *l)
{
    if (l)
        ccm_ticker_stop(l->ticker);
}

void node_lifecycle_free(struct node_lifecycle *l)
{
    if (!l)
        return;
    client_recorder_free(l->recorder);
    free(l);
}
