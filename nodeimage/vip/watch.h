/* nodeimage/vip: whether the machine that holds the API's address is still on the link. */
#ifndef VIP_WATCH_H
#define VIP_WATCH_H

#include "lib/netlink/netlink.h"

/* Of one thread. Hears the link from vip_watch_new on. */
struct vip_watch;
int vip_watch_new(const struct netlink_link *link, const char *address, struct vip_watch **ret_watch, struct kp_error *error);
void vip_watch_free(struct vip_watch *watch); /* accepts NULL */
KP_DEFINE_AUTO(struct vip_watch *, vip_watch_free)
/* To be called again and again, at least four times a second: asks the link who has the address, and hears the answers. True when the
   holder answered once and does not any more, for a second and several questions; another holder starts anew. */
bool vip_watch_is_gone(struct vip_watch *watch, const char *holder);

#endif
