/* What goes wrong, and when: each seed picks its own mixture. */
#include "tests/sim/world.h"

/* ---- the plan of a run ---- */

static unsigned weight(struct rng *random, unsigned of) { return rng_below(random, 3) ? (unsigned)rng_below(random, of + 1) : 0; }

/* Some bugs show only in a rare order of events: runs that are to catch those lean towards it. */
static void lean(struct plan *p)
{
    if (plant_is(PLANT_OLD_TERM_COMMIT) || plant_is(PLANT_VOTE_FORGOTTEN) || plant_is(PLANT_LOG_UNCHECKED)) {
        p->members = plant_is(PLANT_OLD_TERM_COMMIT) ? 5 : 3;
        p->assassin = 700;
        p->crash_weight = p->partition_weight = 8;
        p->rot_weight = p->member_weight = p->disk_weight = 0;
        p->fault_interval_ms = 400;
        p->message_bytes = 1;
        p->down_ms_max = 3000;
    } else if (plant_is(PLANT_NO_MARKER)) {
        p->members = 3;
        p->snapshot_count = 5;
        p->catch_up = 0;
        p->crash_weight = p->partition_weight = 8;
        p->down_ms_max = 15000;
    }
}

void plan_make(void)
{
    struct rng *random = &world.random;
    struct plan *p = &world.plan;
    static const unsigned sizes[] = {1, 3, 3, 3, 3, 5, 5};
    p->members = sizes[rng_below(random, KP_ARRAY_LEN(sizes))];
    p->clients = 2 + (unsigned)rng_below(random, 5);
    p->watchers = 2 + (unsigned)rng_below(random, 3);
    p->keys = 2 + (unsigned)rng_below(random, 12);
    p->crash_weight = weight(random, 10);
    p->power_weight = (unsigned)rng_below(random, 101); /* percent of crashes that lose power */
    p->partition_weight = weight(random, 8);
    p->pause_weight = weight(random, 5);
    p->disk_weight = weight(random, 5);
    p->rot_weight = p->members >= 3 ? weight(random, 2) : 0;
    p->member_weight = weight(random, 6);
    p->clock_weight = weight(random, 2);
    p->transfer_weight = weight(random, 4);
    p->maintenance_weight = weight(random, 3);
    p->fault_interval_ms = rng_between(random, 200, 3000);
    p->snapshot_count = (int64_t)5 << rng_below(random, 7);
    p->catch_up = rng_below(random, 2) ? rng_below(random, 40) : 0;
    p->assassin = weight(random, 800);
    p->down_ms_max = rng_below(random, 3) ? 3000 : 15000;
    p->message_bytes = rng_below(random, 3) ? 0 : 1;
    p->batch_interval_ms = rng_between(random, 20, 1000);
    p->strict_reconfig = rng_below(random, 2);
    p->segment_bytes = (size_t)rng_between(random, 8, 256) << 10;
    lean(p);
    world.net.loss_per_mille = weight(random, 100);
    world.net.double_per_mille = weight(random, 50);
    world.net.reorder_per_mille = weight(random, 100);
    world.net.delay_ms_min = 0;
    world.net.delay_ms_max = rng_between(random, 1, rng_below(random, 4) ? 20 : 300);
    world.end_ns = sim_now_ns + rng_between(random, 8, 25) * SIM_S;
}

/* ---- faults ---- */

static struct sim_member *pick(bool up)
{
    struct sim_member *found[MEMBERS_MAX];
    size_t len = 0;
    for (size_t i = 0; i < world.members_len; i++)
        if (world.members[i].state != MEMBER_GONE && member_is_up(&world.members[i]) == up)
            found[len++] = &world.members[i];
    return len ? found[rng_below(&world.random, len)] : NULL;
}

static void crash(void)
{
    struct rng *random = &world.random;
    struct sim_member *member = pick(true);
    if (!member)
        return;
    switch (rng_below(random, 4)) {
    case 0: { /* now, between two turns; now and then all at once */
        bool all = rng_below(random, 6) == 0;
        enum disk_crash how = rng_below(random, 100) < world.plan.power_weight ? DISK_POWER : DISK_KILL;
        for (size_t i = 0; i < world.members_len; i++)
            if (member_is_up(&world.members[i]) && (all || &world.members[i] == member)) {
                member_crash(&world.members[i], how, "fault");
                member_restart_in(&world.members[i], rng_between(random, 20, 2 * world.plan.down_ms_max) * SIM_MS);
            }
        return;
    }
    case 1: member->owner.crash_at_alloc = 1 + rng_below(random, rng_below(random, 2) ? 200 : 5000); return;
    default: member->owner.crash_at_io = 1 + rng_below(random, rng_below(random, 2) ? 6 : 60); return;
    }
}

static void heal_cuts(void *arg, uint64_t tag) { memset(world.cut, 0, sizeof world.cut); }

static void partition(void)
{
    struct rng *random = &world.random;
    uint64_t kind = rng_below(random, 4);
    uint64_t side = rng_next(random), lone = rng_below(random, world.members_len);
    for (size_t a = 0; a < world.members_len; a++)
        for (size_t b = 0; b < world.members_len; b++) {
            bool apart = kind == 0 ? (side >> a & 1) != (side >> b & 1) : kind == 3 ? rng_below(random, 3) == 0 : false;
            if (kind == 1)
                apart = (a == lone) != (b == lone);
            if (kind == 2)
                apart = a == lone && b != lone; /* hears, and is not heard */
            if (apart)
                world.cut[a][b] = true;
        }
    if (kind >= 2)
        counters.partitions_one_way++;
    else
        counters.partitions++;
    sim_trace("partition of kind %d", (int)kind);
    event_in(rng_between(random, 100, 7000) * SIM_MS, heal_cuts, NULL, 0);
}

/* A leader that was away could end no lease: for check_lease it is as good as new. */
static void resumed(void *arg, uint64_t tag)
{
    struct sim_member *member = arg;
    if (member_is_up(member) && atomic_load(&member->server->node.is_leader) && world.history)
        history_leader(world.history, (unsigned)member->slot);
}

static void pause_member(void)
{
    struct sim_member *member = pick(true);
    if (!member)
        return;
    counters.pauses++;
    member->busy_until_ns = sim_now_ns + rng_between(&world.random, 50, 6000) * SIM_MS;
    event_at(member->busy_until_ns, resumed, member, 0);
    sim_trace("%s is paused for %lld ms", member->name, (long long)((member->busy_until_ns - sim_now_ns) / SIM_MS));
}

static void disk_well(void *arg, uint64_t tag)
{
    struct sim_member *member = arg;
    member->disk->faults = (struct disk_faults){.lies_about = member->disk->faults.lies_about};
}

static void disk_trouble(void)
{
    struct rng *random = &world.random;
    struct sim_member *member = pick(true);
    if (!member)
        return;
    struct disk_faults *faults = &member->disk->faults;
    switch (rng_below(random, 4)) {
    case 0: faults->sync_error_ppm = 1000 + (unsigned)rng_below(random, 300000); break;
    case 1: faults->write_error_ppm = 1000 + (unsigned)rng_below(random, 100000); break;
    case 2:
        faults->full = true;
        counters.disk_full++;
        break;
    default:
        faults->io_ns = rng_between(random, 10000, 30 * SIM_MS);
        counters.disk_slow++;
        event_in(rng_between(random, 100, 5000) * SIM_MS, disk_well, member, 0);
        return;
    }
    member->owner.excused = true;
    sim_trace("%s: its disk fails (sync %u ppm, write %u ppm, full %d)", member->name, faults->sync_error_ppm,
              faults->write_error_ppm, faults->full);
    event_in(rng_between(random, 100, 5000) * SIM_MS, disk_well, member, 0);
}

/* One damaged member at a time, for two could be a majority of what an entry is on. */
static void rot(void)
{
    for (size_t i = 0; i < world.members_len; i++)
        if (world.members[i].state != MEMBER_GONE && (world.members[i].owner.rotten || world.members[i].rot_is_due))
            return;
    if (!operator_may_rot())
        return;
    struct sim_member *member = pick(true);
    if (!member)
        return;
    member->rot_is_due = true;
    member_crash(member, DISK_KILL, "rot");
    member_restart_in(member, rng_between(&world.random, 20, 2000) * SIM_MS);
}

static void clock_jump(void)
{
    struct sim_member *member = pick(true);
    if (!member)
        return;
    counters.clock_jumps++;
    member->owner.wall_offset_ns += rng_between(&world.random, -7200, 7200) * SIM_S;
}

/* ---- choosing ---- */

static void fault(void *arg, uint64_t tag)
{
    if (world.healing || sim_now_ns >= world.end_ns)
        return;
    const struct plan *p = &world.plan;
    const struct {
        unsigned weight;
        void (*fn)(void);
    } kinds[] = {{p->crash_weight, crash},       {p->partition_weight, partition},
                 {p->pause_weight, pause_member}, {p->disk_weight, disk_trouble},
                 {p->rot_weight, rot},           {p->member_weight, operator_change},
                 {p->clock_weight, clock_jump},  {p->transfer_weight, operator_transfer},
                 {p->maintenance_weight, operator_maintain}};
    unsigned all = 0;
    for (size_t i = 0; i < KP_ARRAY_LEN(kinds); i++)
        all += kinds[i].weight;
    uint64_t at = rng_below(&world.random, all);
    for (size_t i = 0; all && i < KP_ARRAY_LEN(kinds); i++) {
        if (at < kinds[i].weight) {
            kinds[i].fn();
            break;
        }
        at -= kinds[i].weight;
    }
    event_in(rng_between(&world.random, p->fault_interval_ms / 4, p->fault_interval_ms * 2) * SIM_MS, fault, NULL, 0);
}

void nemesis_start(void) { event_in(rng_between(&world.random, 500, 3000) * SIM_MS, fault, NULL, 0); }

void nemesis_heal(void)
{
    sim_trace("everything heals");
    world.healing = true;
    net_heal();
    for (size_t i = 0; i < world.members_len; i++) {
        struct sim_member *member = &world.members[i];
        disk_well(member, 0);
        member->busy_until_ns = 0;
        member->owner.crash_at_io = member->owner.crash_at_alloc = 0;
        if (member->rot_is_due) /* spared */
            member->rot_is_due = false;
        if (member->state == MEMBER_DOWN && !member->refused && !member->waits)
            member_restart_in(member, (int64_t)rng_below(&world.random, 100) * SIM_MS);
        member_turn_in(member, 1);
    }
}
