/* cloud-controller/manager: the controllers of the cloud-controller-manager as one. */
#ifndef CCM_MANAGER_H
#define CCM_MANAGER_H

#include "cloud-controller/context/context.h"

/* Upstream's periods; ours where it has none. */
extern const struct ccm_options ccm_defaults;

struct ccm;
/* Starts what the options and the cloud's capabilities allow. cloud may be NULL: there is none. Borrows client and cloud until ccm_stop, copies
   the options but not their strings. */
int ccm_start(const struct ccm_options *options, struct client *client, struct cloud *cloud, struct ccm **ret, struct kp_error *error) KP_NODISCARD;
void ccm_stop(struct ccm *ccm); /* waits for calls under way; accepts NULL */
KP_DEFINE_AUTO(struct ccm *, ccm_stop)
/* Whether a list such as "*,-a" turns a controller on; a name turned off wins over the star. */
bool ccm_enabled(const char *list, const char *name);
/* KP_EUSAGE naming the word of the list that is no controller. */
int ccm_check_controllers(const char *list, struct kp_error *error) KP_NODISCARD;

#endif
