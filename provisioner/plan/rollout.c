/* The order of a roll-out. */
#include "provisioner/plan/rollout.h"

static int rank(const struct plan_rollout_machine *machine, const char *image, bool down)
{
    if (kp_streq(machine->image, image))
        return 0;
    if (!machine->ready)
        return 1;
    if (!machine->control_plane)
        return down ? 2 : 5;
    return machine->etcd_leader ? 4 : 3;
}

void plan_rollout_order(const struct plan_rollout_machine *machines, size_t n, const char *image, bool down, size_t *ret_order)
{
    for (size_t i = 0; i < n; i++) {
        size_t at = i;
        for (; at > 0 && rank(&machines[ret_order[at - 1]], image, down) > rank(&machines[i], image, down); at--)
            ret_order[at] = ret_order[at - 1];
        ret_order[at] = i;
    }
}

bool plan_rollout_may_take_down(size_t voters, size_t others_healthy)
{
    return voters <= 1 || others_healthy >= voters / 2 + 1;
}
