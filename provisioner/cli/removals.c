/* Removals of machines that were cut short. The journal knows them: once the machine is gone the cloud no longer does, while its address,
   its Node and its leases are still there. */
#include "provisioner/cli/operation_internal.h"

#define INTENT "remove-machine"

int cli_op_removal_begin(struct cli_operation *op, const char *name, struct kp_error *error)
{
    return state_journal(op->state, INTENT, name, error);
}

int cli_op_removal_end(struct cli_operation *op, const char *name, int result, struct kp_error *error)
{
    return state_journal_end(op->state, INTENT, name, result, error);
}

int cli_unfinished_removals(const char *cluster, struct kp_strings *ret_names, struct kp_error *error)
{
    return cli_unfinished(cluster, INTENT, ret_names, error);
}

static const struct plan_action *find_action(const struct cli_operation *op, const char *name)
{
    for (size_t i = 0; i < op->plan.n_actions; i++)
        if (kp_streq(op->plan.actions[i].name, name))
            return &op->plan.actions[i];
    return NULL;
}

/* By what the plan makes of the name now: a machine that stays takes pods again, one that is made anew begins with a Node of its own,
   and of one that is gone everything goes. */
static int finish(struct cli_operation *op, const char *name, struct kp_error *error)
{
    const struct plan_action *action = find_action(op, name);
    if (action && action->verb == PLAN_DELETE)
        return 0; /* removed with the others */
    if (action && action->verb != PLAN_CREATE)
        return cli_op_removal_end(op, name, cli_api_uncordon(op->api, name, error), error);
    int r = action ? 0 : cloud_address_release(op->cloud, op->cluster.uid, name, error);
    if (r == 0)
        r = cli_api_delete_node(op->api, name, error);
    if (r == 0)
        r = cli_api_release_leases(op->api, name, error);
    return cli_op_removal_end(op, name, r, error);
}

int cli_op_finish_removals(struct cli_operation *op, struct kp_error *error)
{
    struct kp_strings names = {0};
    int r = cli_unfinished_removals(op->cluster.name, &names, error);
    for (size_t i = 0; r == 0 && i < names.len; i++)
        r = finish(op, names.items[i], error);
    kp_strings_done(&names);
    return r;
}
