/* The drivers themselves: for cloud_open, and for programs that are linked with a few of them (cloud_open_of). */
#ifndef KP_CLOUD_DRIVERS_H
#define KP_CLOUD_DRIVERS_H

#include "cloud/cloud.h"

extern const struct cloud_driver cloud_driver_local;   /* cloud/local */
extern const struct cloud_driver cloud_driver_libvirt; /* cloud/libvirt */
extern const struct cloud_driver cloud_driver_external; /* cloud/external */
extern const struct cloud_driver cloud_driver_openstack; /* cloud/openstack */
extern const struct cloud_driver cloud_driver_aws; /* cloud/aws */
extern const struct cloud_driver cloud_driver_hetzner; /* cloud/hetzner */

#endif
