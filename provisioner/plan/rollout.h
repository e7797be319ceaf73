/* In which order the machines of a cluster are given another node image, and when one may be taken down for it. Pure. */
#ifndef KPROV_PLAN_ROLLOUT_H
#define KPROV_PLAN_ROLLOUT_H

#include "base/base.h"

struct plan_rollout_machine {
    const char *name, *image;
    bool control_plane;
    bool etcd_leader;
    bool ready; /* its Node */
};
/* Indexes of machines in *ret_order, which has n items. First those that have the image, to see that they are well; then those
   that are not Ready, since they serve nobody; then control planes, etcd's leader last, and the pools after them. Going down a
   version the pools come before the control planes: no kubelet may be newer than its API server (version skew policy). Machines
   that are alike stay in the order given. */
void plan_rollout_order(const struct plan_rollout_machine *machines, size_t n, const char *image, bool down, size_t *ret_order);

/* Whether one of etcd's voters may be taken down while so many of the others are healthy: what is left has to be a quorum. Of
   one voter alone nothing is left: it goes and comes back. */
bool plan_rollout_may_take_down(size_t voters, size_t others_healthy);

#endif
