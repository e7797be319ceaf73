/* How one config of a cluster differs from another, and whether a running cluster can be brought from one to the other. */
#ifndef KPROV_PLAN_CHANGE_H
#define KPROV_PLAN_CHANGE_H

#include "provisioner/config/config.h"

enum plan_change_kind {
    PLAN_CHANGE_POOL,   /* replicas, of control planes too, or a pool that comes or goes: machines follow */
    PLAN_CHANGE_LABELS, /* labels or taints: nodes are patched */
    PLAN_CHANGE_RELEASE, /* version or node image: every machine is brought to it, one at a time */
    PLAN_CHANGE_SETTING, /* of kprov alone: nothing but its state follows */
    PLAN_CHANGE_FIXED,  /* cannot be changed on a cluster that exists */
};
struct plan_change {
    enum plan_change_kind kind;
    const char *path;         /* "spec.nodePools[worker].replicas" */
    const char *before, *after; /* as JSON; "" when absent */
};
#define PLAN_CHANGES_MAX 1024
struct plan_change_list {
    struct plan_change *items;
    size_t len;
};
/* Everything in *ret lives in the arena. */
void plan_config_changes(const struct config *before, const struct config *after, struct kp_arena *arena,
                         struct plan_change_list *ret);

#endif
