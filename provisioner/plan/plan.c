/* The difference between wanted and observed machines. */
#include "provisioner/plan/plan.h"

#define NUMBER_MAX 100000

/* One pool, or the control planes, and the machines that belong to it by name. */
struct group {
    const char *prefix; /* "demo-worker-" */
    const char *role, *machine_type;
    const struct config_pool *pool;
    int64_t replicas;
    struct member {
        int64_t number;
        const struct cloud_machine *machine; /* NULL: to be made */
    } *members;
    size_t len;
};
struct planning {
    const struct cloud_machine_list *observed;
    const struct kp_strings *remove;
    struct kp_arena *arena;
    struct plan *plan;
};

const char *plan_verb_name(enum plan_verb verb)
{
    static const char *const names[] = {[PLAN_CREATE] = "create", [PLAN_START] = "start", [PLAN_KEEP] = "keep", [PLAN_DELETE] = "delete"};
    return names[verb];
}

/* The number in "demo-worker-7" for "demo-worker-", or 0. */
static int64_t number_of(const struct group *group, const char *name)
{
    int64_t number;
    size_t len = strlen(group->prefix);
    if (strncmp(name, group->prefix, len) != 0 || name[len] == '0' || name[len] < '0' || name[len] > '9' ||
        kp_parse_i64(name + len, &number) < 0 || number > NUMBER_MAX)
        return 0;
    return number;
}

static bool is_named(const struct kp_strings *names, const char *name)
{
    for (size_t i = 0; names && i < names->len; i++)
        if (kp_streq(names->items[i], name))
            return true;
    return false;
}

static int by_number(const void *a, const void *b)
{
    int64_t x = ((const struct member *)a)->number, y = ((const struct member *)b)->number;
    return (x > y) - (x < y);
}

/* Which of two goes first when there are too many: named, half-made, off, newer, of higher number. */
static bool goes_before(const struct planning *p, const struct member *a, const struct member *b)
{
    bool named_a = is_named(p->remove, a->machine->name), named_b = is_named(p->remove, b->machine->name);
    if (named_a != named_b)
        return named_a;
    if (kp_empty(a->machine->role) != kp_empty(b->machine->role))
        return kp_empty(a->machine->role);
    if (a->machine->power != b->machine->power)
        return a->machine->power == CLOUD_POWER_OFF;
    if (a->machine->created_s != b->machine->created_s)
        return a->machine->created_s > b->machine->created_s;
    return a->number > b->number;
}

static void shrink(const struct planning *p, struct group *group)
{
    while (group->len > (size_t)group->replicas) {
        size_t goes = 0;
        for (size_t i = 1; i < group->len; i++)
            if (goes_before(p, &group->members[i], &group->members[goes]))
                goes = i;
        group->members[goes] = group->members[--group->len];
    }
}

static void grow(struct group *group)
{
    for (int64_t number = 1; group->len < (size_t)group->replicas; number++) {
        bool taken = false;
        for (size_t i = 0; i < group->len && !taken; i++)
            taken = group->members[i].number == number;
        if (!taken)
            group->members[group->len++] = (struct member){.number = number};
    }
}

static void plan_group(const struct planning *p, struct group *group)
{
    struct plan *plan = p->plan;
    group->members = KP_NEW_ARRAY(p->arena, struct member, p->observed->len + (size_t)group->replicas + 1);
    for (size_t i = 0; i < p->observed->len; i++) {
        int64_t number = number_of(group, p->observed->items[i].name);
        if (number)
            group->members[group->len++] = (struct member){number, &p->observed->items[i]};
    }
    shrink(p, group);
    grow(group);
    qsort(group->members, group->len, sizeof(*group->members), by_number);
    for (size_t i = 0; i < group->len; i++) {
        const struct cloud_machine *there = group->members[i].machine;
        struct plan_machine *machine = &plan->machines[plan->n_machines++];
        *machine = (struct plan_machine){
            .name = there ? there->name : kp_arena_printf(p->arena, "%s%lld", group->prefix, (long long)group->members[i].number),
            .role = group->role, .machine_type = group->machine_type, .pool = group->pool,
        };
        /* One without a role was not made to the end: the driver takes it up again. */
        enum plan_verb verb = !there || kp_empty(there->role)       ? PLAN_CREATE
                              : there->power == CLOUD_POWER_OFF ? PLAN_START
                                                                : PLAN_KEEP;
        plan->actions[plan->n_actions++] = (struct plan_action){verb, machine->name, machine};
    }
}

static bool is_wanted(const struct plan *plan, const char *name)
{
    for (size_t i = 0; i < plan->n_machines; i++) {
        if (kp_streq(plan->machines[i].name, name))
            return true;
    }
    return false;
}

int plan_make(const struct config *config, const struct cloud_machine_list *observed, const struct kp_strings *remove,
              struct kp_arena *arena, struct plan *ret, struct kp_error *error)
{
    struct planning p = {observed, remove, arena, ret};
    int64_t total = config->control_plane.replicas;
    for (size_t i = 0; i < config->n_pools; i++)
        total += config->pools[i].replicas;
    if (total < 0 || total > PLAN_MACHINES_MAX)
        return kp_fail(error, KP_EINVALID, "cluster %s asks for %lld machines, at most %d go", config->name,
                       (long long)total, PLAN_MACHINES_MAX);
    *ret = (struct plan){.machines = KP_NEW_ARRAY(arena, struct plan_machine, (size_t)total + 1),
                         .actions = KP_NEW_ARRAY(arena, struct plan_action, (size_t)total + observed->len + 1)};
    struct group control_planes = {.prefix = kp_arena_printf(arena, "%s-cp-", config->name), .role = "control-plane",
                                   .machine_type = config->control_plane.machine, .replicas = config->control_plane.replicas};
    plan_group(&p, &control_planes);
    for (size_t i = 0; i < config->n_pools; i++) {
        const struct config_pool *pool = &config->pools[i];
        struct group group = {.prefix = kp_arena_printf(arena, "%s-%s-", config->name, pool->name), .role = "worker",
                              .machine_type = pool->machine, .pool = pool, .replicas = pool->replicas};
        plan_group(&p, &group);
    }
    for (size_t i = 0; i < observed->len; i++) {
        if (!is_wanted(ret, observed->items[i].name))
            ret->actions[ret->n_actions++] = (struct plan_action){PLAN_DELETE, observed->items[i].name, NULL};
    }
    return 0;
}

size_t plan_changes(const struct plan *plan)
{
    size_t n = 0;
    for (size_t i = 0; i < plan->n_actions; i++)
        n += plan->actions[i].verb != PLAN_KEEP;
    return n;
}
