/* Makes the routes that are missing, removes those to nodes that are gone, and says on each Node whether it has its own. */
#include "cloud-controller/route/route.h"

struct route_controller {
    const struct ccm_context *context;
    struct client_recorder *recorder;
    struct ccm_ticker *ticker;
    struct kp_metric *syncs;
};

static void tell(struct route_controller *c, const struct k8s_node *node, bool routed, struct kp_arena *arena)
{
    static const struct client_write_options options = {.subresource = "status"};
    struct kp_error error = {0};
    const char *body = route_condition_patch(node, routed, kp_now_s(), arena);
    if (body && client_patch(c->context->client, &k8s_nodes_resource, NULL, node->metadata->name, CLIENT_PATCH_STRATEGIC, body, strlen(body), &options, NULL,
                             NULL, &error) < 0 &&
        error.code != KP_ENOTFOUND)
        kp_warn("condition NetworkUnavailable not written", "node", node->metadata->name, "error", error.message, NULL);
}

/* Whether all routes of the node are there now. */
static bool make_routes(struct route_controller *c, const struct k8s_node *node, const struct route_plan *plan, int64_t *retry_ms)
{
    bool routed = true;
    for (size_t i = 0; i < plan->n_wanted; i++) {
        const struct cloud_route *route = &plan->wanted[i];
        struct kp_error error = {0};
        if (!kp_streq(route->machine, node->metadata->name))
            continue;
        if (cloud_route_ensure(c->context->cloud, c->context->options->cluster_uid, route, &error) == 0) {
            kp_info("route made", "node", route->machine, "destination", route->destination, NULL);
            continue;
        }
        struct client_event_target target = client_event_target_of(&k8s_node_type, node);
        client_event(c->recorder, &target, "Warning", "FailedToCreateRoute", "Could not create route %s for node %s: %s", route->destination, route->machine,
                     error.message);
        kp_warn("route not made", "node", route->machine, "destination", route->destination, "error", error.message, NULL);
        *retry_ms = KP_MAX(*retry_ms, error.retry_after_ms);
        routed = false;
    }
    return routed;
}

static void remove_routes(struct route_controller *c, const struct route_plan *plan, int64_t *retry_ms)
{
    for (size_t i = 0; i < plan->n_stale; i++) {
        struct kp_error error = {0};
        if (cloud_route_delete(c->context->cloud, c->context->options->cluster_uid, &plan->stale[i], &error) == 0) {
            kp_info("route of nobody removed", "destination", plan->stale[i].destination, "machine", plan->stale[i].machine, NULL);
        } else {
            kp_warn("route of nobody not removed", "destination", plan->stale[i].destination, "error", error.message, NULL);
            *retry_ms = KP_MAX(*retry_ms, error.retry_after_ms);
        }
    }
}

static int64_t reconcile(void *arg)
{
    struct route_controller *c = arg;
    KP_AUTO(client_view_free) struct client_view *view = client_view_new();
    struct kp_arena *arena = client_view_arena(view);
    struct cloud_route_list routes = {0};
    struct route_plan plan;
    struct kp_error error = {0};
    const void *const *nodes;
    int64_t retry_ms = 0;
    kp_metric_add(c->syncs, 1);
    if (cloud_route_list(c->context->cloud, c->context->options->cluster_uid, arena, &routes, &error) < 0) {
        kp_warn("routes not compared", "error", error.message, NULL);
        return KP_MAX(error.retry_after_ms, 0);
    }
    size_t n = client_view_list(view, c->context->nodes, NULL, &nodes);
    route_compare((const struct k8s_node *const *)nodes, n, &routes, c->context->options->cluster_cidr, arena, &plan);
    for (size_t i = 0; i < n; i++) {
        const char *cidrs[ROUTE_CIDRS_MAX];
        if (route_cidrs_of(nodes[i], cidrs) > 0)
            tell(c, nodes[i], make_routes(c, nodes[i], &plan, &retry_ms), arena);
    }
    remove_routes(c, &plan, &retry_ms);
    return retry_ms > c->context->options->route_ms ? retry_ms : 0;
}

struct route_controller *route_controller_new(const struct ccm_context *context)
{
    struct route_controller *c = kp_calloc(1, sizeof(*c));
    c->context = context;
    c->recorder = client_recorder_new(context->client, "route_controller", NULL);
    c->syncs = kp_counter("route_controller_route_sync_total", "A metric counting the amount of times routes have been synced with the cloud provider.", NULL);
    return c;
}

int route_controller_run(struct route_controller *c, struct kp_error *error)
{
    return ccm_ticker_start(c->context->options->route_ms, reconcile, c, &c->ticker, error);
}

void route_controller_stop(struct route_controller *c)
{
    if (c)
        ccm_ticker_stop(c->ticker);
}

void route_controller_free(struct route_controller *c)
{
    if (!c)
        return;
    client_recorder_free(c->recorder);
    free(c);
}
