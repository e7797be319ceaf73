/* The AWS driver: virtual machines, networks and load balancers of Amazon's cloud through its query APIs. */
#include "cloud/aws/aws_internal.h"

#include "cloud/drivers.h"

static int driver_open(const struct cloud_options *options, void **ret_state, struct kp_error *error)
{
    struct aws *aws = NULL;
    int r = aws_open(options, &aws, error);
    if (r == 0)
        *ret_state = aws;
    return r;
}

static void driver_close(void *state)
{
    aws_close(state);
}

static int check(void *state, const struct cloud_wish *wish, struct kp_error *error)
{
    return aws_check(state, wish, error);
}

static int network_ensure(void *state, const struct cloud_network_spec *spec, struct kp_arena *arena, struct cloud_network *ret, struct kp_error *error)
{
    return aws_network_ensure(state, spec, arena, ret, error);
}

static int network_get(void *state, const char *uid, struct kp_arena *arena, struct cloud_network *ret, struct kp_error *error)
{
    return aws_network_get(state, uid, arena, ret, error);
}

static int network_delete(void *state, const char *uid, struct kp_error *error)
{
    return aws_network_delete(state, uid, error);
}

static int address_reserve(void *state, const char *uid, const char *name, struct kp_arena *arena, const char **ret_address, struct kp_error *error)
{
    return aws_address_reserve(state, uid, name, arena, ret_address, error);
}

static int address_release(void *state, const char *uid, const char *name, struct kp_error *error)
{
    return aws_address_release(state, uid, name, error);
}

static int machine_create(void *state, const struct cloud_machine_spec *spec, struct kp_arena *arena, struct cloud_machine *ret, struct kp_error *error)
{
    return aws_machine_create(state, spec, arena, ret, error);
}

static int machine_get(void *state, const char *uid, const char *name, struct kp_arena *arena, struct cloud_machine *ret, struct kp_error *error)
{
    return aws_machine_get(state, uid, name, arena, ret, error);
}

static int machine_list(void *state, const char *uid, struct kp_arena *arena, struct cloud_machine_list *ret, struct kp_error *error)
{
    return aws_machine_list(state, uid, arena, ret, error);
}

static int machine_power(void *state, const char *uid, const char *name, enum cloud_power_action action, struct kp_error *error)
{
    return aws_machine_power(state, uid, name, action, error);
}

static int machine_delete(void *state, const char *uid, const char *name, struct kp_error *error)
{
    return aws_machine_delete(state, uid, name, error);
}

static int machine_console(void *state, const char *uid, const char *name, struct kp_buf *out, struct kp_error *error)
{
    return aws_machine_console(state, uid, name, out, error);
}

static int owned(void *state, const char *uid, struct kp_arena *arena, struct kp_strings *ret, struct kp_error *error)
{
    return aws_owned(state, uid, arena, ret, error);
}

static int clusters(void *state, struct kp_strings *ret_uids, struct kp_error *error)
{
    return aws_clusters(state, ret_uids, error);
}

static int purge(void *state, const char *uid, struct kp_error *error)
{
    return aws_purge(state, uid, error);
}

static int machine_types(void *state, struct kp_arena *arena, struct cloud_machine_type_list *ret, struct kp_error *error)
{
    return aws_machine_types(state, arena, ret, error);
}

static int image_ensure(void *state, const char *image, struct kp_error *error)
{
    return aws_image_ensure(state, image, error);
}

static int images_prune(void *state, const char *const *keep, struct kp_strings *ret_removed, struct kp_error *error)
{
    return aws_images_prune(state, keep, ret_removed, error);
}

static int address_publish(void *state, const char *uid, const char *name, struct kp_arena *arena, const char **ret_address, struct kp_error *error)
{
    return aws_address_publish(state, uid, name, arena, ret_address, error);
}

static int machine_forward(void *state, const char *uid, const char *name, const char *const *cidrs, struct kp_error *error)
{
    return aws_machine_forward(state, uid, name, cidrs, error);
}

static int balancer_ensure(void *state, const struct cloud_balancer_spec *spec, struct kp_arena *arena, struct cloud_balancer *ret, struct kp_error *error)
{
    return aws_balancer_ensure(state, spec, arena, ret, error);
}

static int balancer_get(void *state, const char *uid, const char *name, struct kp_arena *arena, struct cloud_balancer *ret, struct kp_error *error)
{
    return aws_balancer_get(state, uid, name, arena, ret, error);
}

static int balancer_health(void *state, const char *uid, const char *name, struct kp_arena *arena, struct cloud_target_health_list *ret,
                           struct kp_error *error)
{
    return aws_balancer_health(state, uid, name, arena, ret, error);
}

static int balancer_list(void *state, const char *uid, struct kp_arena *arena, struct cloud_balancer_list *ret, struct kp_error *error)
{
    return aws_balancer_list(state, uid, arena, ret, error);
}

static int balancer_delete(void *state, const char *uid, const char *name, struct kp_error *error)
{
    return aws_balancer_delete(state, uid, name, error);
}

static int route_list(void *state, const char *uid, struct kp_arena *arena, struct cloud_route_list *ret, struct kp_error *error)
{
    return aws_route_list(state, uid, arena, ret, error);
}

static int route_ensure(void *state, const char *uid, const struct cloud_route *route, struct kp_error *error)
{
    return aws_route_ensure(state, uid, route, error);
}

static int route_delete(void *state, const char *uid, const struct cloud_route *route, struct kp_error *error)
{
    return aws_route_delete(state, uid, route, error);
}

static int account_export(void *state, struct kp_arena *arena, struct cloud_export *ret, struct kp_error *error)
{
    return aws_account_export(state, arena, ret, error);
}

const struct cloud_driver cloud_driver_aws = {
    .name = "aws",
    .capabilities = CLOUD_CAN_CONSOLE | CLOUD_CAN_LOAD_BALANCE | CLOUD_CAN_ROUTE | CLOUD_HAS_METADATA | CLOUD_HAS_PUBLIC_ADDRESSES | CLOUD_HAS_NODE_FACTS |
                    CLOUD_BOOTS_DISKS,
    .open = driver_open,
    .close = driver_close,
    .check = check,
    .network_ensure = network_ensure,
    .network_get = network_get,
    .network_delete = network_delete,
    .address_reserve = address_reserve,
    .address_release = address_release,
    .machine_create = machine_create,
    .machine_get = machine_get,
    .machine_list = machine_list,
    .machine_power = machine_power,
    .machine_delete = machine_delete,
    .machine_console = machine_console,
    .owned = owned,
    .clusters = clusters,
    .purge = purge,
    .machine_types = machine_types,
    .image_ensure = image_ensure,
    .images_prune = images_prune,
    .address_publish = address_publish,
    .machine_forward = machine_forward,
    .balancer_ensure = balancer_ensure,
    .balancer_get = balancer_get,
    .balancer_health = balancer_health,
    .balancer_list = balancer_list,
    .balancer_delete = balancer_delete,
    .route_list = route_list,
    .route_ensure = route_ensure,
    .route_delete = route_delete,
    .account_export = account_export,
};
