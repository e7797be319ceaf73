/* What the files of lib/netlink share. */
#ifndef KP_NETLINK_INTERNAL_H
#define KP_NETLINK_INTERNAL_H

#include "lib/netlink/netlink.h"

#include <libmnl/libmnl.h>
#include <linux/rtnetlink.h>

/* Sends one request and reads the whole answer. On failure errno is the kernel's. */
int netlink_talk(struct nlmsghdr *request, mnl_cb_t callback, void *arg, struct kp_error *error) KP_NODISCARD;

#endif
