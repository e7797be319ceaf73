/* What has to happen to etcd's members so that every control plane wanted is a voter and nobody else is one. Pure. */
#ifndef KPROV_PLAN_MEMBERS_H
#define KPROV_PLAN_MEMBERS_H

#include "base/base.h"

/* A member as etcd tells of it. */
struct plan_etcd_member {
    uint64_t id;
    const char *name; /* "" until it has been started */
    const char *peer_url;
    bool learner, healthy;
};
/* A control plane: one that is wanted, or whose machine is there though it is not. */
struct plan_control_plane {
    const char *name, *peer_url;
    bool exists;  /* its machine is there, whole */
    bool leaving; /* it is not wanted any more */
    bool replace; /* its machine is to be thrown away and made anew */
};
enum plan_member_verb {
    PLAN_MEMBER_DROP,   /* take the member away: nobody is behind it any more */
    PLAN_MEMBER_JOIN,   /* add a learner and make its machine; one that is there is deleted first */
    PLAN_MEMBER_FINISH, /* its machine is there: wait until it has caught up, and make it a voter */
    PLAN_MEMBER_LEAVE,  /* take the member away, then its machine */
};
const char *plan_member_verb_name(enum plan_member_verb verb); /* "drop", "join", "finish", "leave" */
struct plan_member_action {
    enum plan_member_verb verb;
    uint64_t id;      /* of the member; 0 when there is none yet */
    const char *name; /* of the control plane, or of the member when it is nobody's; "" when it has none */
    const char *why;
    bool discards; /* a machine that is there is thrown away with its data */
};
struct plan_member_list {
    struct plan_member_action *items; /* in the order to take them: drops, joins one by one, then leavings */
    size_t len;
    size_t voters, healthy; /* as they are now */
};
/* Quorum of so many voters. */
size_t plan_quorum(size_t voters);
/* A member is a control plane's by its peer URL, or by its name. A member whose machine is gone is dropped and joins anew: started
   with an empty disk under its old id, it would have forgotten votes and entries that it promised to keep.
   KP_EUNAVAILABLE when something is to be done and fewer than a quorum of voters are healthy, or a leaving would leave the others
   without one; the message names what helps. Everything in *ret lives in the arena or is borrowed. */
int plan_members(const struct plan_control_plane *control_planes, size_t n_control_planes, const struct plan_etcd_member *members,
                 size_t n_members, struct kp_arena *arena, struct plan_member_list *ret, struct kp_error *error) KP_NODISCARD;

#endif
