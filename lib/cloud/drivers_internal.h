/* The drivers that cloud_open knows. */
#ifndef KP_CLOUD_DRIVERS_INTERNAL_H
#define KP_CLOUD_DRIVERS_INTERNAL_H

#include "cloud/cloud.h"

extern const struct cloud_driver cloud_driver_local;   /* cloud/local */
extern const struct cloud_driver cloud_driver_libvirt; /* cloud/libvirt */
extern const struct cloud_driver cloud_driver_external; /* cloud/external */
extern const struct cloud_driver cloud_driver_openstack; /* cloud/openstack */
extern const struct cloud_driver cloud_driver_aws; /* cloud/aws */
extern const struct cloud_driver cloud_driver_hetzner; /* cloud/hetzner */

#endif
