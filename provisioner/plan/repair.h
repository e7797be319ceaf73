/* What is wrong with the machines of a cluster, and what mends it. Pure. */
#ifndef KPROV_PLAN_REPAIR_H
#define KPROV_PLAN_REPAIR_H

#include "base/base.h"

enum repair_machine_state { REPAIR_MACHINE_GONE, REPAIR_MACHINE_HALF_MADE, REPAIR_MACHINE_OFF, REPAIR_MACHINE_ON };
enum repair_node_state {
    REPAIR_NODE_UNKNOWN, /* the API does not answer */
    REPAIR_NODE_ABSENT, REPAIR_NODE_NOT_READY, REPAIR_NODE_READY,
};
enum repair_member_state {
    REPAIR_MEMBER_UNKNOWN, /* etcd does not answer; or it is no control plane */
    REPAIR_MEMBER_NONE, REPAIR_MEMBER_LEARNER,
    REPAIR_MEMBER_SILENT,  /* etcd has it, but it does not answer */
    REPAIR_MEMBER_APART,   /* it has begun a cluster of its own: its data was lost */
    REPAIR_MEMBER_WAITING, /* it answers, without a leader or with an alarm */
    REPAIR_MEMBER_HEALTHY,
};
/* A machine that is wanted, as it was found. */
struct repair_input {
    const char *name;
    bool control_plane;
    enum repair_machine_state machine;
    int64_t age_s; /* of the machine */
    enum repair_node_state node;
    int64_t node_since_s; /* how long the Node has been as it is */
    enum repair_member_state member;
};
enum repair_remedy {
    REPAIR_START,   /* the machine is turned on */
    REPAIR_CREATE,  /* the machine is made */
    REPAIR_REPLACE, /* the machine is deleted and made anew */
    REPAIR_PROMOTE, /* the member is waited for, and made a voter */
    REPAIR_DELETE_NODE,
    REPAIR_DROP_MEMBER,
    REPAIR_NONE,    /* to be looked at by somebody */
};
const char *repair_remedy_name(enum repair_remedy remedy); /* "start", "create", ... */
struct repair_finding {
    const char *name, *problem, *what; /* what will be done */
    bool control_plane;
    enum repair_remedy remedy;
};
struct repair_list {
    struct repair_finding *items; /* at most one for each input, in their order */
    size_t len;
};
/* not_ready_s: how long a Node may be not Ready, or a machine without a Node, until its machine counts as sick. When more than half
   of three or more nodes are, the machines are hardly to blame: nothing is replaced for it unless `named` asks for that one machine. */
void plan_repair(const struct repair_input *inputs, size_t n, int64_t not_ready_s, const char *named, struct kp_arena *arena,
                 struct repair_list *ret);

#endif
