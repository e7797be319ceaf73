/* lib/metadata: what a cloud tells the machine that asks, at an address that only machines of it reach. */
#ifndef KP_METADATA_H
#define KP_METADATA_H

#include "base/base.h"

#define METADATA_BASE "http://169.254.169.254"
#define METADATA_USER_DATA_MAX ((size_t)1 << 20) /* clouds give 16 to 64 KB */

/* The machine's user data as they were given to the cloud, and by whose manner they were found: "openstack", "ec2" or "hetzner" (static). base
   NULL: METADATA_BASE. Appends. KP_ENOTFOUND: the service answers and has none; KP_EUNAVAILABLE, KP_ETIMEOUT, KP_EAGAIN: ask again. */
int metadata_user_data(const char *base, int64_t timeout_ms, struct kp_buf *out, const char **ret_manner, struct kp_error *error) KP_NODISCARD;

#endif
