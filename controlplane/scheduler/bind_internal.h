/* What bind.c and volume_bind.c share. */
#ifndef SCHEDULER_BIND_INTERNAL_H
#define SCHEDULER_BIND_INTERNAL_H

#include "controlplane/scheduler/scheduler.h"

/* Writes what the plan wants into the API; the steps know the versions. 0, or the first failure. */
int sched_volume_plan_write(struct sched_volume_plan *plan, struct client *client, struct kp_error *error);

#endif
