/* Gives new Nodes what the cloud knows of them, and keeps the addresses of all current. */
#include "cloud-controller/node/node.h"

#include <pthread.h>

#define WORKERS_MAX 16

struct node_controller {
    const struct ccm_context *context;
    struct client_queue *queue; /* names of Nodes with the taint */
    struct ccm_failures *failures;
    struct client_recorder *recorder;
    struct ccm_ticker *ticker;
    pthread_t workers[WORKERS_MAX];
    size_t n_workers;
    struct kp_metric *first_sync, *taint_removal;
};

static void report(struct node_controller *c, const struct k8s_node *node, const char *type, const char *reason, const char *text)
{
    struct client_event_target target = client_event_target_of(&k8s_node_type, node);
    client_event(c->recorder, &target, type, reason, "%s", text);
}

static double age_s(const struct k8s_node *node)
{
    return (double)KP_MAX(kp_now_s() - node->metadata->creation_timestamp.seconds, 0);
}

static int write_addresses(const struct node_controller *c, const struct k8s_node *node, const struct cloud_machine *machine, struct kp_arena *arena,
                           void **ret_node, struct kp_error *error)
{
    static const struct client_write_options options = {.subresource = "status"};
    const char *body = node_addresses_patch(node, machine, arena);
    return body ? client_patch(c->context->client, &k8s_nodes_resource, NULL, node->metadata->name, CLIENT_PATCH_MERGE, body, strlen(body), &options, arena,
                               ret_node, error)
                : 0;
}

/* Addresses first, so that a node without the taint has them. */
static int initialize(struct node_controller *c, const struct k8s_node *node, struct kp_arena *arena, struct kp_error *error)
{
    struct cloud_machine machine = {0};
    void *fresh = NULL;
    int r = cloud_machine_get(c->context->cloud, c->context->options->cluster_uid, node->metadata->name, arena, &machine, error);
    if (r < 0)
        return kp_wrap(error, "machine %s", node->metadata->name);
    if (!node_is_of(node, &machine))
        kp_warn("the node has another provider ID than its machine", "node", node->metadata->name, "providerID", node->spec->provider_id, "machine",
                machine.provider_id, NULL);
    r = write_addresses(c, node, &machine, arena, &fresh, error);
    if (r < 0)
        return kp_wrap(error, "addresses");
    const struct k8s_node *now = fresh ? fresh : node;
    const char *body = node_identity_patch(now, &machine, now->metadata->resource_version, arena);
    r = client_patch(c->context->client, &k8s_nodes_resource, NULL, node->metadata->name, CLIENT_PATCH_MERGE, body, strlen(body), NULL, NULL, NULL, error);
    if (r < 0)
        return kp_wrap(error, "provider ID and labels");
    kp_metric_observe(c->taint_removal, age_s(node));
    kp_info("node initialised", "node", node->metadata->name, "providerID", machine.provider_id, NULL);
    report(c, node, "Normal", "Synced", "Node synced successfully");
    return 0;
}

static int sync_node(struct node_controller *c, const char *name, struct kp_error *error)
{
    KP_AUTO(client_view_free) struct client_view *view = client_view_new();
    const struct k8s_node *node = client_view_get(view, c->context->nodes, "", name);
    if (!node || node->metadata->deletion_timestamp.set || !ccm_has_taint(node, CCM_TAINT_UNINITIALIZED))
        return 0;
    kp_metric_observe(c->first_sync, age_s(node));
    return initialize(c, node, client_view_arena(view), error);
}

static void *work(void *arg)
{
    struct node_controller *c = arg;
    char *name;
    while ((name = client_queue_get(c->queue))) {
        struct kp_error error = {0};
        int r = sync_node(c, name, &error);
        if (r == 0) {
            ccm_failures_forget(c->failures, name);
        } else {
            if (!ccm_is_stale(r))
                kp_warn("node not initialised yet", "node", name, "error", error.message, NULL);
            client_queue_add_after(c->queue, name, ccm_retry_ms(c->context->options, ccm_failures_add(c->failures, name), &error));
        }
        client_queue_done(c->queue, name);
        free(name);
    }
    return NULL;
}

/* Upstream's UpdateNodeStatus, with one question for all nodes. */
static int64_t update_addresses(void *arg)
{
    struct node_controller *c = arg;
    KP_AUTO(client_view_free) struct client_view *view = client_view_new();
    struct cloud_machine_list machines = {0};
    struct kp_error error = {0};
    const void *const *nodes;
    size_t n = client_view_list(view, c->context->nodes, NULL, &nodes);
    if (cloud_machine_list(c->context->cloud, c->context->options->cluster_uid, client_view_arena(view), &machines, &error) < 0) {
        kp_warn("addresses of nodes not compared", "error", error.message, NULL);
        return KP_MAX(error.retry_after_ms, 0);
    }
    for (size_t i = 0; i < n; i++) {
        const struct k8s_node *node = nodes[i];
        const struct cloud_machine *machine = node_find_machine(&machines, node->metadata->name);
        if (!machine || !node_is_of(node, machine) || ccm_has_taint(node, CCM_TAINT_UNINITIALIZED))
            continue;
        if (write_addresses(c, node, machine, client_view_arena(view), NULL, &error) < 0 && error.code != KP_ENOTFOUND)
            kp_warn("addresses of a node not written", "node", node->metadata->name, "error", error.message, NULL);
    }
    return 0;
}

static void on_node(struct client_object *old, struct client_object *new, void *arg)
{
    struct node_controller *c = arg;
    if (new && ccm_has_taint(new->data, CCM_TAINT_UNINITIALIZED))
        client_queue_add(c->queue, new->name);
}

static void make_metrics(struct node_controller *c)
{
    static const double buckets[] = {1, 4, 16, 64, 256, 1024}; /* upstream's */
    c->first_sync = kp_histogram("node_controller_initial_node_sync_delay_seconds",
                                 "Number of seconds after node creation when the initial synchronization of the node finished.", NULL, buckets, KP_ARRAY_LEN(buckets));
    c->taint_removal = kp_histogram("node_controller_cloud_provider_taint_removal_delay_seconds",
                                    "Number of seconds after node creation when NodeController removed the cloud-provider taint of a single node.", NULL, buckets,
                                    KP_ARRAY_LEN(buckets));
}

struct node_controller *node_controller_new(const struct ccm_context *context)
{
    struct node_controller *c = kp_calloc(1, sizeof(*c));
    c->context = context;
    make_metrics(c);
    c->failures = ccm_failures_new();
    c->recorder = client_recorder_new(context->client, "cloud-node-controller", NULL);
    c->queue = client_queue_new("cloud_node");
    client_informer_add_handler(context->nodes, on_node, c);
    return c;
}

int node_controller_run(struct node_controller *c, struct kp_error *error)
{
    for (size_t n = (size_t)KP_MIN(KP_MAX(c->context->options->node_workers, 1), WORKERS_MAX); c->n_workers < n; c->n_workers++)
        if (pthread_create(&c->workers[c->n_workers], NULL, work, c) != 0)
            return kp_fail(error, KP_EUNAVAILABLE, "no thread could be started");
    return ccm_ticker_start(c->context->options->node_status_ms, update_addresses, c, &c->ticker, error);
}

void node_controller_stop(struct node_controller *c)
{
    if (!c)
        return;
    client_queue_shutdown(c->queue);
    for (size_t i = 0; i < c->n_workers; i++)
        pthread_join(c->workers[i], NULL);
    ccm_ticker_stop(c->ticker);
}

void node_controller_free(struct node_controller *c)
{
    if (!c)
        return;
    client_queue_free(c->queue);
    client_recorder_free(c->recorder);
    ccm_failures_free(c->failures);
    free(c);
}
