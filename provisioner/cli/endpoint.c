/* Where the API is reached: a load balancer of the cloud's, or an address that one control plane at a time holds. */
#include "lib/archive/archive.h"
#include "provisioner/cli/operation_internal.h"

#define BALANCER_WAIT_MS 600000
#define BALANCER_POLL_MS 500
#define ROUTED_PODS_MAX 2

bool cli_is_balanced(const struct config *config, const struct cloud *cloud)
{
    const char *wanted = config->cloud.api_endpoint;
    return *wanted ? kp_streq(wanted, CONFIG_LOAD_BALANCER) : cloud_can(cloud, CLOUD_CAN_LOAD_BALANCE);
}

/* Of no machine: it stays when control planes come and go. */
const char *cli_api_address_name(const struct cli_operation *op)
{
    return kp_arena_printf(op->arena, "%s-api", op->cluster.name);
}

/* Targets are the plan's control planes; none while they are not made yet. */
static struct cloud_balancer_spec balancer_spec(const struct cli_operation *op, bool with_targets)
{
    static const struct cloud_listener listener = {.protocol = CLOUD_TCP, .port = BOOTSTRAP_API_PORT, .target_port = BOOTSTRAP_API_PORT};
    struct cloud_balancer_spec spec = {
        .cluster_uid = op->cluster.uid, .name = CLI_API_BALANCER, .description = kp_arena_printf(op->arena, "API of cluster %s", op->cluster.name),
        .listeners = &listener, .n_listeners = 1, .health = {.kind = CLOUD_HEALTH_CONNECT},
    };
    struct cloud_target *targets = KP_NEW_ARRAY(op->arena, struct cloud_target, op->plan.n_machines + 1);
    for (size_t i = 0; with_targets && i < op->plan.n_machines; i++)
        if (op->bootstrap.nodes[i].control_plane)
            targets[spec.n_targets++] = (struct cloud_target){.machine = op->bootstrap.nodes[i].name, .address = op->bootstrap.nodes[i].address};
    spec.targets = targets;
    return spec;
}

/* Until the cloud has made it so. */
static int ensure(struct cli_operation *op, const struct cloud_balancer_spec *spec, struct cloud_balancer *ret, struct kp_error *error)
{
    const int64_t deadline_ms = kp_mono_ms() + BALANCER_WAIT_MS;
    int r = state_journal(op->state, "balancer", spec->name, error);
    if (r < 0)
        return r;
    for (;;) {
        struct kp_error failure = {0};
        r = cloud_balancer_ensure(op->cloud, spec, op->arena, ret, &failure);
        if (r == 0 && ret->state == CLOUD_BALANCER_FAILED)
            r = kp_fail(&failure, KP_EUNAVAILABLE, "load balancer %s: %s", spec->name, ret->problem);
        if (r == 0 && kp_empty(ret->address) && kp_empty(ret->host_name))
            r = kp_fail(&failure, KP_EAGAIN, "load balancer %s has no address yet", spec->name);
        if (r != KP_EAGAIN || kp_mono_ms() > deadline_ms) {
            if (r < 0)
                *error = failure;
            return state_journal_end(op->state, "balancer", spec->name, r, error);
        }
        cli_progress_tick(&op->progress, failure.message);
        r = cli_interrupted(error);
        if (r < 0)
            return r;
        kp_sleep_ms(failure.retry_after_ms ? failure.retry_after_ms : BALANCER_POLL_MS);
    }
}

static int prepare_balancer(struct cli_operation *op, struct cli_endpoint *ret, struct kp_error *error)
{
    struct cloud_balancer balancer = {.address = "", .host_name = ""};
    int r = cloud_balancer_get(op->cloud, op->cluster.uid, CLI_API_BALANCER, op->arena, &balancer, error);
    if (r < 0 && r != KP_ENOTFOUND)
        return r;
    if (r == KP_ENOTFOUND || (kp_empty(balancer.address) && kp_empty(balancer.host_name))) {
        const struct cloud_balancer_spec spec = balancer_spec(op, false);
        r = ensure(op, &spec, &balancer, error);
        if (r < 0)
            return r;
    }
    ret->address = "";
    ret->inside = ret->outside = kp_empty(balancer.address) ? balancer.host_name : balancer.address;
    return 0;
}

static int prepare_address(struct cli_operation *op, struct cli_endpoint *ret, struct kp_error *error)
{
    const char *name = cli_api_address_name(op);
    int r = cloud_address_reserve(op->cloud, op->cluster.uid, name, op->arena, &ret->address, error);
    ret->inside = ret->outside = ret->address;
    if (r == 0 && cloud_can(op->cloud, CLOUD_HAS_PUBLIC_ADDRESSES))
        r = cloud_address_publish(op->cloud, op->cluster.uid, name, op->arena, &ret->outside, error);
    return r;
}

int cli_op_prepare_endpoint(struct cli_operation *op, struct kp_error *error)
{
    struct cli_endpoint *endpoint = &op->endpoint;
    endpoint->balanced = cli_is_balanced(&op->cluster.config, op->cloud);
    int r = endpoint->balanced ? prepare_balancer(op, endpoint, error) : prepare_address(op, endpoint, error);
    if (r < 0)
        return r;
    size_t n = 0;
    if (!kp_streq(endpoint->inside, endpoint->address))
        endpoint->names[n++] = endpoint->inside;
    if (!kp_streq(endpoint->outside, endpoint->inside))
        endpoint->names[n++] = endpoint->outside;
    endpoint->url = kp_arena_printf(op->arena, "https://%s:%d", endpoint->inside, BOOTSTRAP_API_PORT);
    op->cluster.endpoint = kp_arena_printf(op->arena, "https://%s:%d", endpoint->outside, BOOTSTRAP_API_PORT);
    return 0;
}

int cli_op_balance_api(struct cli_operation *op, struct kp_error *error)
{
    struct cloud_balancer balancer;
    if (!op->endpoint.balanced)
        return 0;
    const struct cloud_balancer_spec spec = balancer_spec(op, true);
    return ensure(op, &spec, &balancer, error);
}

int cli_op_forward(const struct cli_operation *op, const struct bootstrap_node *node, struct kp_error *error)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    const char *cidrs[ROUTED_PODS_MAX + 1] = {op->cluster.config.network.pod_cidr};
    if (node->control_plane && !kp_empty(op->bootstrap.api_address))
        cidrs[1] = kp_arena_printf(arena, "%s/32", op->bootstrap.api_address);
    return cloud_machine_forward(op->cloud, op->cluster.uid, node->name, cidrs, error);
}

/* ---- what the cloud-controller-manager is given */

/* OpenStack's networks are one segment, where nodes reach each other's pods themselves. */
static bool wants_routes(const struct cloud *cloud)
{
    return cloud_can(cloud, CLOUD_CAN_ROUTE) && !kp_streq(cloud_name(cloud), "openstack");
}

int cli_op_prepare_cloud(struct cli_operation *op, struct kp_error *error)
{
    static const char credentials[] = "credentials"; /* beside the config */
    struct cloud_export export;
    struct bootstrap_cloud *cloud = KP_NEW(op->arena, struct bootstrap_cloud);
    if (!cloud_can(op->cloud, CLOUD_HAS_NODE_FACTS))
        return 0;
    int r = cloud_account_export(op->cloud, op->arena, &export, error);
    if (r < 0)
        return r;
    const char *const fields[][2] = {
        {"clusterUID", op->cluster.uid}, {"clusterName", op->cluster.name}, {"profile", export.account.profile}, {"region", export.account.region},
        {"endpoint", export.account.endpoint}, {"credentialsFile", kp_empty(export.credentials) ? "" : credentials},
    };
    KP_AUTO_BUF struct kp_buf text = {0};
    struct kp_value *config = kp_value_object(op->arena);
    for (size_t i = 0; i < KP_ARRAY_LEN(fields); i++)
        if (!kp_empty(fields[i][1]))
            kp_value_set(op->arena, config, fields[i][0], kp_value_string(op->arena, fields[i][1]));
    kp_value_print(config, &text);
    *cloud = (struct bootstrap_cloud){.driver = cloud_name(op->cloud), .routes = wants_routes(op->cloud)};
    kp_string_map_set(op->arena, &cloud->files, BOOTSTRAP_CLOUD_CONFIG, kp_arena_strdup(op->arena, text.data));
    if (!kp_empty(export.credentials))
        kp_string_map_set(op->arena, &cloud->files, credentials, export.credentials);
    if (!kp_empty(export.authorities))
        kp_string_map_set(op->arena, &cloud->files, CLOUD_EXPORT_AUTHORITIES, export.authorities);
    op->bootstrap.cloud = cloud;
    return 0;
}

/* ---- user data */

int cli_op_user_data(const struct cli_operation *op, const struct bootstrap_node *node, struct kp_buf *out, struct kp_error *error)
{
    KP_AUTO_BUF struct kp_buf text = {0};
    if (!cloud_can(op->cloud, CLOUD_HAS_METADATA))
        return bootstrap_user_data(&op->bootstrap, node, out, error);
    int r = bootstrap_user_data(&op->bootstrap, node, &text, error);
    return r < 0 ? r : archive_gzip(text.data, text.len, out, error);
}
