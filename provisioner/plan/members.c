/* The difference between the control planes wanted and the members that etcd has. */
#include "provisioner/plan/members.h"

struct deciding {
    const struct plan_control_plane *control_planes;
    size_t n_control_planes;
    const struct plan_etcd_member *members;
    size_t n_members;
    struct kp_arena *arena;
    struct plan_member_list *list;
};

const char *plan_member_verb_name(enum plan_member_verb verb)
{
    static const char *const names[] = {
        [PLAN_MEMBER_DROP] = "drop", [PLAN_MEMBER_JOIN] = "join", [PLAN_MEMBER_FINISH] = "finish", [PLAN_MEMBER_LEAVE] = "leave"};
    return names[verb];
}

size_t plan_quorum(size_t voters)
{
    return voters / 2 + 1;
}

static bool is_of(const struct plan_etcd_member *member, const struct plan_control_plane *control_plane)
{
    return kp_streq(member->peer_url, control_plane->peer_url) ||
           (!kp_empty(member->name) && kp_streq(member->name, control_plane->name));
}

static const struct plan_control_plane *owner_of(const struct deciding *d, const struct plan_etcd_member *member)
{
    for (size_t i = 0; i < d->n_control_planes; i++)
        if (is_of(member, &d->control_planes[i]))
            return &d->control_planes[i];
    return NULL;
}

static const struct plan_etcd_member *member_of(const struct deciding *d, const struct plan_control_plane *control_plane)
{
    for (size_t i = 0; i < d->n_members; i++)
        if (is_of(&d->members[i], control_plane))
            return &d->members[i];
    return NULL;
}

static void add(struct deciding *d, enum plan_member_verb verb, uint64_t id, const char *name, const char *why)
{
    d->list->items[d->list->len++] = (struct plan_member_action){.verb = verb, .id = id, .name = name, .why = why};
}

/* Why a member has to go before anything else is done, or NULL. */
static const char *reason_to_drop(const struct plan_etcd_member *member, const struct plan_control_plane *owner)
{
    bool started = !kp_empty(member->name);
    if (!owner)
        return started ? "no machine of this cluster is behind it" : "it was added for a machine that nobody wants";
    if (owner->leaving)
        return owner->exists ? NULL : "its machine is gone and not wanted any more";
    if (owner->replace)
        return "its machine is replaced";
    /* Added by a run that was cut short before the machine was made: that one goes on. */
    return owner->exists || !started ? NULL : "its machine is gone, with its data";
}

static void decide_drops(struct deciding *d)
{
    for (size_t i = 0; i < d->n_members; i++) {
        const struct plan_etcd_member *member = &d->members[i];
        const struct plan_control_plane *owner = owner_of(d, member);
        const char *why = reason_to_drop(member, owner);
        if (why)
            add(d, PLAN_MEMBER_DROP, member->id, owner ? owner->name : member->name, why);
    }
}

static void decide_joins(struct deciding *d)
{
    /* Those that are on their way first: there is one learner at a time. */
    for (size_t i = 0; i < d->n_control_planes; i++) {
        const struct plan_control_plane *cp = &d->control_planes[i];
        const struct plan_etcd_member *member = member_of(d, cp);
        if (cp->leaving || cp->replace || !member || reason_to_drop(member, cp))
            continue;
        if (!cp->exists)
            add(d, PLAN_MEMBER_JOIN, member->id, cp->name, "it was added, but its machine was not made");
        else if (member->learner || kp_empty(member->name))
            add(d, PLAN_MEMBER_FINISH, member->id, cp->name, "it has not become a voting member yet");
    }
    for (size_t i = 0; i < d->n_control_planes; i++) {
        const struct plan_control_plane *cp = &d->control_planes[i];
        const struct plan_etcd_member *member = member_of(d, cp);
        if (cp->leaving || (member && !reason_to_drop(member, cp)))
            continue;
        add(d, PLAN_MEMBER_JOIN, 0, cp->name,
            cp->replace       ? "its machine is replaced"
            : member          ? "its machine is gone, with its data"
            : cp->exists ? "its machine is no member of etcd"
                              : "it is new");
        d->list->items[d->list->len - 1].discards = cp->exists;
    }
}

/* Also without a member: its machine has to go all the same, and that is no affair of etcd's then. */
static void decide_leavings(struct deciding *d)
{
    for (size_t i = 0; i < d->n_members; i++) {
        const struct plan_control_plane *owner = owner_of(d, &d->members[i]);
        if (owner && owner->leaving && owner->exists)
            add(d, PLAN_MEMBER_LEAVE, d->members[i].id, owner->name, "it is not wanted any more");
    }
}

static const struct plan_etcd_member *find(const struct deciding *d, uint64_t id)
{
    for (size_t i = 0; i < d->n_members; i++)
        if (d->members[i].id == id)
            return &d->members[i];
    return NULL;
}

/* Goes through the actions and sees to it that the voters left always have a quorum. */
static int check_quorum(const struct deciding *d, struct kp_error *error)
{
    size_t voters = d->list->voters, healthy = d->list->healthy;
    if (d->list->len && healthy < plan_quorum(voters))
        return kp_fail(error, KP_EUNAVAILABLE,
                       "etcd has lost its quorum: %zu of its %zu voting members are healthy, %zu are needed. Start the others' machines "
                       "(kprov node start), or make a cluster of a snapshot: kprov etcd snapshot restore",
                       healthy, voters, plan_quorum(voters));
    for (size_t i = 0; i < d->list->len; i++) {
        const struct plan_member_action *action = &d->list->items[i];
        const struct plan_etcd_member *member = action->id ? find(d, action->id) : NULL;
        if (action->verb == PLAN_MEMBER_JOIN || action->verb == PLAN_MEMBER_FINISH) {
            voters++;
            healthy++;
            continue;
        }
        if (!member || member->learner)
            continue;
        voters--;
        healthy -= member->healthy;
        if (healthy < plan_quorum(voters))
            return kp_fail(error, KP_EUNAVAILABLE,
                           "taking etcd member %s away would leave %zu voting members of which %zu are healthy: mend those first (kprov repair)",
                           action->name, voters, healthy);
    }
    return 0;
}

int plan_members(const struct plan_control_plane *control_planes, size_t n_control_planes, const struct plan_etcd_member *members,
                 size_t n_members, struct kp_arena *arena, struct plan_member_list *ret, struct kp_error *error)
{
    struct deciding d = {control_planes, n_control_planes, members, n_members, arena, ret};
    *ret = (struct plan_member_list){.items = KP_NEW_ARRAY(arena, struct plan_member_action, n_control_planes + 2 * n_members + 1)};
    for (size_t i = 0; i < n_members; i++) {
        ret->voters += !members[i].learner;
        ret->healthy += !members[i].learner && members[i].healthy;
    }
    decide_drops(&d);
    decide_joins(&d);
    decide_leavings(&d);
    return check_quorum(&d, error);
}
