/* provisioner/plan: what to do so that the machines there are become the machines wanted. Pure: data in, data out. */
#ifndef KPROV_PLAN_H
#define KPROV_PLAN_H

#include "cloud/cloud.h"
#include "provisioner/config/config.h"

#define PLAN_MACHINES_MAX CLOUD_MACHINES_MAX

/* A machine that the config asks for. */
struct plan_machine {
    const char *name; /* "demo-cp-1", "demo-worker-2" */
    const char *role; /* "control-plane" or "worker" */
    const char *machine_type;
    const struct config_pool *pool; /* NULL for a control plane */
};
enum plan_verb {
    PLAN_CREATE, /* it does not exist */
    PLAN_START,  /* it exists and is off */
    PLAN_KEEP,   /* it exists and runs */
    PLAN_DELETE, /* it exists and is not wanted */
};
const char *plan_verb_name(enum plan_verb verb); /* "create", "start", "keep", "delete" */
struct plan_action {
    enum plan_verb verb;
    const char *name;
    const struct plan_machine *machine; /* NULL for PLAN_DELETE */
};
struct plan {
    struct plan_machine *machines; /* every machine wanted: control planes first, then pool by pool, by number */
    size_t n_machines;
    struct plan_action *actions; /* in the order to take them: creations and starts, then deletions */
    size_t n_actions;
};
/* A pool is a set of numbered machines: those that exist stay, whatever their numbers; new ones take the lowest free
   numbers; of too many, the ones that `remove` names go first, then the newest. remove may be NULL.
   Everything in *ret lives in the arena or is borrowed from config and observed. KP_EINVALID when the config asks for
   more than PLAN_MACHINES_MAX machines. */
int plan_make(const struct config *config, const struct cloud_machine_list *observed, const struct kp_strings *remove,
              struct kp_arena *arena, struct plan *ret, struct kp_error *error) KP_NODISCARD;
/* How many actions are more than PLAN_KEEP. */
size_t plan_changes(const struct plan *plan);

#endif
