/* The difference between wanted and observed machines. */
#include "provisioner/plan/plan.h"

static int wanted_machines(const struct config *config, struct kp_arena *arena, struct plan *ret, struct kp_error *error)
{
    int64_t total = config->control_plane.replicas;
    for (size_t i = 0; i < config->n_pools; i++)
        total += config->pools[i].replicas;
    if (total < 0 || total > PLAN_MACHINES_MAX)
        return kp_fail(error, KP_EINVALID, "cluster %s asks for %lld machines, at most %d go", config->name,
                       (long long)total, PLAN_MACHINES_MAX);
    ret->machines = KP_NEW_ARRAY(arena, struct plan_machine, (size_t)total + 1);
    ret->n_machines = 0;
    for (int64_t n = 1; n <= config->control_plane.replicas; n++)
        ret->machines[ret->n_machines++] = (struct plan_machine){
            .name = kp_arena_printf(arena, "%s-cp-%lld", config->name, (long long)n),
            .role = "control-plane",
            .machine_type = config->control_plane.machine,
        };
    for (size_t i = 0; i < config->n_pools; i++) {
        const struct config_pool *pool = &config->pools[i];
        for (int64_t n = 1; n <= pool->replicas; n++)
            ret->machines[ret->n_machines++] = (struct plan_machine){
                .name = kp_arena_printf(arena, "%s-%s-%lld", config->name, pool->name, (long long)n),
                .role = "worker",
                .machine_type = pool->machine,
                .pool = pool,
            };
    }
    return 0;
}

static const struct cloud_machine *find_observed(const struct cloud_machine_list *observed, const char *name)
{
    for (size_t i = 0; i < observed->len; i++) {
        if (kp_streq(observed->items[i].name, name))
            return &observed->items[i];
    }
    return NULL;
}

static bool is_wanted(const struct plan *plan, const char *name)
{
    for (size_t i = 0; i < plan->n_machines; i++) {
        if (kp_streq(plan->machines[i].name, name))
            return true;
    }
    return false;
}

int plan_make(const struct config *config, const struct cloud_machine_list *observed, struct kp_arena *arena,
              struct plan *ret, struct kp_error *error)
{
    int r = wanted_machines(config, arena, ret, error);
    if (r < 0)
        return r;
    ret->actions = KP_NEW_ARRAY(arena, struct plan_action, ret->n_machines + observed->len + 1);
    ret->n_actions = 0;
    for (size_t i = 0; i < ret->n_machines; i++) {
        const struct plan_machine *machine = &ret->machines[i];
        const struct cloud_machine *there = find_observed(observed, machine->name);
        /* One without a role was not made to the end: the driver takes it up again. */
        enum plan_verb verb = !there || kp_empty(there->role)       ? PLAN_CREATE
                              : there->power == CLOUD_POWER_OFF ? PLAN_START
                                                                : PLAN_KEEP;
        ret->actions[ret->n_actions++] = (struct plan_action){verb, machine->name, machine};
    }
    for (size_t i = 0; i < observed->len; i++) {
        if (!is_wanted(ret, observed->items[i].name))
            ret->actions[ret->n_actions++] = (struct plan_action){PLAN_DELETE, observed->items[i].name, NULL};
    }
    return 0;
}
