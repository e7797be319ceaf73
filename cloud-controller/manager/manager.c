/* Starts the controllers that the cloud can serve, over shared informers. */
#include "cloud-controller/manager/manager.h"

#include "cloud-controller/node/node.h"
#include "cloud-controller/route/route.h"
#include "cloud-controller/service/service.h"

#define SYNC_MS 60000

static const char *const names[] = {"cloud-node-controller", "cloud-node-lifecycle-controller", "node-route-controller", "service-lb-controller", NULL};

const struct ccm_options ccm_defaults = {
    .controllers = "*",
    .cloud_routes = true,
    .service_workers = 4, /* upstream has 1: a call that hangs would hold up all other Services */
    .node_workers = 1,
    .node_monitor_ms = 5000,
    .route_ms = 10000,
    .node_status_ms = 300000,
    .service_resync_ms = 60000,
    .pending_ms = 2000,
    .retry_ms = 1000,
    .retry_max_ms = 300000,
};

struct ccm {
    struct ccm_options options;
    struct ccm_context context;
    struct node_controller *node;
    struct node_lifecycle *lifecycle;
    struct route_controller *route;
    struct service_controller *service;
};

bool ccm_enabled(const char *list, const char *name)
{
    bool on = false, off = false;
    for (const char *p = list ? list : "*"; *p;) {
        size_t len = strcspn(p, ",");
        if (len == 1 && *p == '*')
            on = true;
        else if (*p == '-' && strlen(name) == len - 1 && strncmp(p + 1, name, len - 1) == 0)
            off = true;
        else if (strlen(name) == len && strncmp(p, name, len) == 0)
            on = true;
        p += len + (p[len] == ',');
    }
    return on && !off;
}

int ccm_check_controllers(const char *list, struct kp_error *error)
{
    KP_AUTO_FREE char *copy = kp_strdup(list);
    for (char *rest = copy, *item; (item = strsep(&rest, ",")) != NULL;) {
        const char *name = *item == '-' ? item + 1 : item;
        bool known = kp_streq(item, "*");
        for (size_t i = 0; names[i] && !known; i++)
            known = kp_streq(names[i], name);
        if (!known)
            return kp_fail(error, KP_EUSAGE, "--controllers: \"%s\" is no controller: known are %s, %s, %s, %s", item, names[0], names[1], names[2], names[3]);
    }
    return 0;
}

static int make_controllers(struct ccm *ccm, struct kp_error *error)
{
    const struct ccm_context *context = &ccm->context;
    const char *list = ccm->options.controllers;
    bool facts = context->cloud && cloud_can(context->cloud, CLOUD_HAS_NODE_FACTS);
    bool routes = context->cloud && cloud_can(context->cloud, CLOUD_CAN_ROUTE) && ccm->options.cloud_routes && !kp_empty(ccm->options.cluster_cidr);
    if (facts && ccm_enabled(list, names[0]))
        ccm->node = node_controller_new(context);
    if (facts && ccm_enabled(list, names[1]))
        ccm->lifecycle = node_lifecycle_new(context);
    if (routes && ccm_enabled(list, names[2]))
        ccm->route = route_controller_new(context);
    if (ccm_enabled(list, names[3]) && service_controller_new(context, &ccm->service, error) < 0)
        return error->code;
    return 0;
}

static int run_controllers(struct ccm *ccm, struct kp_error *error)
{
    if (ccm->node && node_controller_run(ccm->node, error) < 0)
        return kp_wrap(error, "%s", names[0]);
    if (ccm->lifecycle && node_lifecycle_run(ccm->lifecycle, error) < 0)
        return kp_wrap(error, "%s", names[1]);
    if (ccm->route && route_controller_run(ccm->route, error) < 0)
        return kp_wrap(error, "%s", names[2]);
    if (ccm->service && service_controller_run(ccm->service, error) < 0)
        return kp_wrap(error, "%s", names[3]);
    kp_info("controllers run", "cloud", ccm->context.cloud ? cloud_name(ccm->context.cloud) : "none", "node", ccm->node ? "yes" : "no", "lifecycle",
            ccm->lifecycle ? "yes" : "no", "route", ccm->route ? "yes" : "no", "service", ccm->service ? "yes" : "no", NULL);
    return 0;
}

int ccm_start(const struct ccm_options *options, struct client *client, struct cloud *cloud, struct ccm **ret, struct kp_error *error)
{
    KP_AUTO(ccm_stop) struct ccm *ccm = kp_calloc(1, sizeof(*ccm));
    struct client_informer *informers[2];
    size_t n = 0;
    ccm->options = *options;
    ccm->context = (struct ccm_context){.options = &ccm->options, .client = client, .cloud = cloud};
    ccm->context.services = client_informer_new(client, &k8s_services_resource, NULL, NULL, NULL);
    ccm->context.nodes = cloud ? client_informer_new(client, &k8s_nodes_resource, NULL, NULL, NULL) : NULL;
    if (make_controllers(ccm, error) < 0)
        return error->code;
    informers[n++] = ccm->context.services;
    if (cloud)
        informers[n++] = ccm->context.nodes;
    for (size_t i = 0; i < n; i++)
        client_informer_start(informers[i]);
    if (client_informers_wait(informers, n, SYNC_MS, error) < 0 || run_controllers(ccm, error) < 0)
        return error->code;
    *ret = KP_TAKE(ccm);
    return 0;
}

void ccm_stop(struct ccm *ccm)
{
    if (!ccm)
        return;
    service_controller_stop(ccm->service);
    route_controller_stop(ccm->route);
    node_lifecycle_stop(ccm->lifecycle);
    node_controller_stop(ccm->node);
    client_informer_free(ccm->context.services);
    client_informer_free(ccm->context.nodes);
    service_controller_free(ccm->service);
    route_controller_free(ccm->route);
    node_lifecycle_free(ccm->lifecycle);
    node_controller_free(ccm->node);
    free(ccm);
}
