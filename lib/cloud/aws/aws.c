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

const struct cloud_driver cloud_driver_aws = {
    .name = "aws",
    .capabilities = CLOUD_CAN_CONSOLE | CLOUD_CAN_LOAD_BALANCE | CLOUD_CAN_ROUTE | CLOUD_HAS_METADATA | CLOUD_HAS_PUBLIC_ADDRESSES | CLOUD_HAS_NODE_FACTS |
                    CLOUD_BOOTS_DISKS,
    .open = driver_open,
    .close = driver_close,
    .check = aws_check,
    .network_ensure = aws_network_ensure,
    .network_get = aws_network_get,
    .network_delete = aws_network_delete,
    .address_reserve = aws_address_reserve,
    .address_release = aws_address_release,
    .machine_create = aws_machine_create,
    .machine_get = aws_machine_get,
    .machine_list = aws_machine_list,
    .machine_power = aws_machine_power,
    .machine_delete = aws_machine_delete,
    .machine_console = aws_machine_console,
    .owned = aws_owned,
    .clusters = aws_clusters,
    .purge = aws_purge,
    .machine_types = aws_machine_types,
    .image_ensure = aws_image_ensure,
    .images_prune = aws_images_prune,
    .address_publish = aws_address_publish,
    .machine_forward = aws_machine_forward,
    .balancer_ensure = aws_balancer_ensure,
    .balancer_get = aws_balancer_get,
    .balancer_health = aws_balancer_health,
    .balancer_list = aws_balancer_list,
    .balancer_delete = aws_balancer_delete,
    .route_list = aws_route_list,
    .route_ensure = aws_route_ensure,
    .route_delete = aws_route_delete,
    .account_export = aws_account_export,
};
