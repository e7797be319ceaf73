/* One finding a machine: the first thing that is wrong with it, from the machine upwards. */
#include "provisioner/plan/repair.h"

const char *repair_remedy_name(enum repair_remedy remedy)
{
    static const char *const names[] = {
        [REPAIR_START] = "start", [REPAIR_CREATE] = "create", [REPAIR_REPLACE] = "replace", [REPAIR_PROMOTE] = "promote",
        [REPAIR_DELETE_NODE] = "delete-node", [REPAIR_DROP_MEMBER] = "remove-member", [REPAIR_NONE] = "none"};
    return names[remedy];
}

static bool is_sick(const struct repair_input *in, int64_t not_ready_s)
{
    if (in->machine != REPAIR_MACHINE_ON)
        return false;
    return (in->node == REPAIR_NODE_NOT_READY && in->node_since_s >= not_ready_s) ||
           (in->node == REPAIR_NODE_ABSENT && in->age_s >= not_ready_s);
}

static bool most_are_sick(const struct repair_input *inputs, size_t n, int64_t not_ready_s)
{
    size_t sick = 0;
    for (size_t i = 0; i < n; i++)
        sick += is_sick(&inputs[i], not_ready_s);
    return n >= 3 && 2 * sick > n;
}

static const char *made_anew(const struct repair_input *in)
{
    return in->control_plane ? "its etcd member is removed, the machine made, and joins as a new member" : "the machine is made";
}

static struct repair_finding of_machine(const struct repair_input *in, struct kp_arena *arena)
{
    switch (in->machine) {
    case REPAIR_MACHINE_GONE:
        return (struct repair_finding){.problem = "its machine is gone", .remedy = REPAIR_CREATE, .what = made_anew(in)};
    case REPAIR_MACHINE_HALF_MADE:
        return (struct repair_finding){.problem = "its machine was not made to the end", .remedy = REPAIR_CREATE, .what = made_anew(in)};
    case REPAIR_MACHINE_OFF:
        return (struct repair_finding){.problem = "its machine is off", .remedy = REPAIR_START, .what = "the machine is started"};
    case REPAIR_MACHINE_ON:
        break;
    }
    switch (in->member) {
    case REPAIR_MEMBER_NONE:
        return (struct repair_finding){.problem = "it is no member of etcd", .remedy = REPAIR_REPLACE, .what = made_anew(in)};
    case REPAIR_MEMBER_SILENT:
        return (struct repair_finding){.problem = "its etcd member does not answer", .remedy = REPAIR_REPLACE, .what = made_anew(in)};
    case REPAIR_MEMBER_APART:
        return (struct repair_finding){.problem = "its etcd member follows another leader than the others", .remedy = REPAIR_REPLACE,
                                       .what = made_anew(in)};
    case REPAIR_MEMBER_LEARNER:
        return (struct repair_finding){.problem = "its etcd member has no vote yet", .remedy = REPAIR_PROMOTE,
                                       .what = "it is waited for until it has caught up, and promoted"};
    case REPAIR_MEMBER_WAITING:
        return (struct repair_finding){.problem = "its etcd member has no leader, or an alarm", .remedy = REPAIR_NONE,
                                       .what = "nothing: the other members come first (kprov describe cluster)"};
    case REPAIR_MEMBER_UNKNOWN:
    case REPAIR_MEMBER_HEALTHY:
        break;
    }
    return (struct repair_finding){.problem = NULL};
}

static struct repair_finding of_node(const struct repair_input *in, int64_t not_ready_s, bool spare, struct kp_arena *arena)
{
    struct repair_finding finding = {.problem = NULL};
    if (!is_sick(in, not_ready_s))
        return finding;
    finding.problem = in->node == REPAIR_NODE_ABSENT
                          ? "its machine runs, but has not registered a Node"
                          : kp_arena_printf(arena, "its Node has not been Ready for %lld s", (long long)in->node_since_s);
    finding.remedy = spare ? REPAIR_NONE : REPAIR_REPLACE;
    finding.what = spare ? "nothing: most nodes are not Ready, which points to the network or the control plane; --node replaces one"
                         : made_anew(in);
    return finding;
}

void plan_repair(const struct repair_input *inputs, size_t n, int64_t not_ready_s, const char *named, struct kp_arena *arena,
                 struct repair_list *ret)
{
    bool spare = !named && most_are_sick(inputs, n, not_ready_s);
    *ret = (struct repair_list){.items = KP_NEW_ARRAY(arena, struct repair_finding, n + 1)};
    for (size_t i = 0; i < n; i++) {
        if (named && !kp_streq(named, inputs[i].name))
            continue;
        struct repair_finding finding = of_machine(&inputs[i], arena);
        if (!finding.problem)
            finding = of_node(&inputs[i], not_ready_s, spare, arena);
        if (!finding.problem)
            continue;
        finding.name = inputs[i].name;
        finding.control_plane = inputs[i].control_plane;
        ret->items[ret->len++] = finding;
    }
}
