/* All drivers by their names. Apart from cloud.c: who links this has every driver's libraries with it. */
#include "cloud/drivers.h"

static const struct cloud_driver *const drivers[] = {&cloud_driver_local, &cloud_driver_libvirt, &cloud_driver_external, &cloud_driver_openstack,
                                                   &cloud_driver_aws, &cloud_driver_hetzner};
static const char *const driver_names[] = {"local", "libvirt", "external", "openstack", "aws", "hetzner", NULL};
_Static_assert(KP_ARRAY_LEN(drivers) + 1 == KP_ARRAY_LEN(driver_names), "every driver has a name");

const char *const *cloud_driver_names(void)
{
    return driver_names;
}

int cloud_open(const char *name, const struct cloud_options *options, struct cloud **ret_cloud, struct kp_error *error)
{
    return cloud_open_of(drivers, KP_ARRAY_LEN(drivers), name, options, ret_cloud, error);
}
