/* cloud-controller-manager: what a cluster's cloud does for it - nodes, routes, load balancers. Without a cloud: addresses for LoadBalancer
 * Services, which the nodes hold themselves. */
#include "cloud-controller/manager/config.h"
#include "cloud-controller/manager/manager.h"
#include "lib/cloud/drivers.h"
#include "lib/component/component.h"

#define NS_PER_MS 1000000

/* The clouds that can be asked from inside a cluster. libvirt's fifty libraries stay out of every control plane. */
static const struct cloud_driver *const clouds[] = {&cloud_driver_openstack, &cloud_driver_aws, &cloud_driver_hetzner};

struct program {
    struct ccm_options options;
    const char *cloud_provider, *cloud_config, *cluster_name, *cluster_uid;
    int64_t monitor_ns, route_ns, status_ns, resync_ns;
    struct kp_arena *arena;
    struct cloud *cloud;
    struct ccm *ccm;
};

/* The cloud of --cloud-provider, or none. */
static int open_cloud(struct program *p, struct kp_error *error)
{
    struct ccm_config config = {0};
    if (kp_empty(p->cloud_provider) || kp_streq(p->cloud_provider, "none"))
        return 0;
    if (p->cloud_config && ccm_config_load(p->cloud_config, p->arena, &config, error) < 0)
        return error->code;
    p->options.cluster_uid = kp_empty(p->cluster_uid) ? config.cluster_uid : p->cluster_uid;
    if (kp_empty(p->options.cluster_uid))
        return kp_fail(error, KP_EUSAGE, "--cloud-provider=%s needs the cluster's uid: --cluster-uid, or clusterUID in the file of --cloud-config", p->cloud_provider);
    const struct cloud_options options = {.account = config.account, .timeout_ms = config.timeout_ms};
    return cloud_open_of(clouds, KP_ARRAY_LEN(clouds), p->cloud_provider, &options, &p->cloud, error);
}

static int start(struct client *client, void *arg, struct kp_error *error)
{
    struct program *p = arg;
    p->options.node_monitor_ms = p->monitor_ns / NS_PER_MS;
    p->options.route_ms = p->route_ns / NS_PER_MS;
    p->options.node_status_ms = p->status_ns / NS_PER_MS;
    p->options.service_resync_ms = p->resync_ns / NS_PER_MS;
    if (p->options.node_monitor_ms < 1 || p->options.route_ms < 1 || p->options.node_status_ms < 1 || p->options.service_resync_ms < 1)
        return kp_fail(error, KP_EUSAGE, "a period must be at least 1ms");
    if (ccm_check_controllers(p->options.controllers, error) < 0 || open_cloud(p, error) < 0)
        return error->code;
    return ccm_start(&p->options, client, p->cloud, &p->ccm, error);
}

static void stop(void *arg)
{
    struct program *p = arg;
    ccm_stop(p->ccm);
}

int main(int argc, char **argv)
{
    struct program p = {
        .options = ccm_defaults, .monitor_ns = ccm_defaults.node_monitor_ms * NS_PER_MS, .route_ns = ccm_defaults.route_ms * NS_PER_MS,
        .status_ns = ccm_defaults.node_status_ms * NS_PER_MS, .resync_ns = ccm_defaults.service_resync_ms * NS_PER_MS, .arena = kp_arena_new(0),
    };
    struct component_options options = {
        .name = "cloud-controller-manager", .allow_in_cluster = true, .bind_address = "127.0.0.1", .secure_port = 10258, .health_plain = true,
        .leader_elect = true,
    };
    struct kp_flag flags[14 + COMPONENT_FLAGS_MAX] = {
        {"cloud-provider", 0, KP_FLAG_STRING, &p.cloud_provider, "openstack, aws or hetzner; none (the default): nodes hold addresses", NULL},
        {"cloud-config", 0, KP_FLAG_STRING, &p.cloud_config, "file with account and cluster, YAML or JSON: docs/load-balancers.md", NULL},
        {"cluster-name", 0, KP_FLAG_STRING, &p.cluster_name, "name of the cluster; for people", NULL},
        {"cluster-uid", 0, KP_FLAG_STRING, &p.cluster_uid, "tag of all that the cluster owns in the cloud; wins over the file's clusterUID", NULL},
        {"cluster-cidr", 0, KP_FLAG_STRING, &p.options.cluster_cidr, "network of the pods, whose routes are made; none: no routes", NULL},
        {"configure-cloud-routes", 0, KP_FLAG_BOOL, &p.options.cloud_routes, "make routes where the cloud has them (true)", NULL},
        {"controllers", 0, KP_FLAG_STRING, &p.options.controllers,
         "which run: *, names, -names of cloud-node-controller, cloud-node-lifecycle-controller, node-route-controller, service-lb-controller", NULL},
        {"node-monitor-period", 0, KP_FLAG_DURATION, &p.monitor_ns, "between looks at nodes that are not ready (5s)", NULL},
        {"route-reconciliation-period", 0, KP_FLAG_DURATION, &p.route_ns, "between comparisons of routes (10s)", NULL},
        {"node-status-update-frequency", 0, KP_FLAG_DURATION, &p.status_ns, "between comparisons of the nodes' addresses (5m)", NULL},
        {"service-resync-period", 0, KP_FLAG_DURATION, &p.resync_ns, "between full comparisons of each load balancer, and looks for orphans (1m)", NULL},
        {"concurrent-service-syncs", 0, KP_FLAG_I64, &p.options.service_workers, "Services worked on at a time (4)", NULL},
        {"concurrent-node-syncs", 0, KP_FLAG_I64, &p.options.node_workers, "new nodes worked on at a time (1)", NULL},
        {"load-balancer-addresses", 0, KP_FLAG_STRING, &p.options.addresses,
         "that LoadBalancer Services get and nodes hold: 10.0.0.10-10.0.0.20,10.0.1.0/28", NULL},
    };
    component_flags(&options, flags, 14);
    const struct component_program program = {
        .description = "cloud-controller-manager does for a cluster what its cloud can: nodes, routes, load balancers.", .start = start, .stop = stop, .arg = &p,
    };
    int status = component_main(&options, flags, &program, argc, argv);
    cloud_close(p.cloud);
    kp_arena_free(p.arena);
    return status;
}
