/* The life of a member: it starts, gets its turns, crashes, and starts again from what its disk still has. */
#include "tests/sim/world.h"

#include "controlplane/etcd/raft/raft_internal.h"
#include "controlplane/etcd/wal/wal.h"

#define STARTS_FAILED_MAX 40 /* in a row, without damage: it will never come back */

struct world world;

bool member_is_up(const struct sim_member *member) { return member->state == MEMBER_UP; }

int64_t member_mono_ms(const struct sim_member *member) { return cage_mono_ns(&member->owner) / SIM_MS; }

struct sim_member *member_by_id(uint64_t id)
{
    for (size_t i = 0; i < world.members_len; i++)
        if (id && world.members[i].id == id)
            return &world.members[i];
    return NULL;
}

struct sim_member *member_by_server(const struct etcd_server *server)
{
    for (size_t i = 0; i < world.members_len; i++)
        if (world.members[i].server == server)
            return &world.members[i];
    return NULL;
}

struct sim_member *member_leader(void)
{
    struct sim_member *leader = NULL;
    uint64_t term = 0;
    for (size_t i = 0; i < world.members_len; i++) {
        struct sim_member *m = &world.members[i];
        if (!member_is_up(m) || !atomic_load(&m->server->node.is_leader) || atomic_load(&m->server->node.term) < term)
            continue;
        leader = m;
        term = atomic_load(&m->server->node.term);
    }
    return leader;
}

struct sim_member *member_new(bool joins)
{
    KP_ASSERT(world.members_len < MEMBERS_MAX);
    struct sim_member *member = &world.members[world.members_len];
    *member = (struct sim_member){.slot = world.members_len++, .joins = joins, .state = MEMBER_DOWN};
    char root[16];
    snprintf(root, sizeof root, DISK_ROOT "%zu", member->slot);
    snprintf(member->name, sizeof member->name, "m%zu", member->slot);
    snprintf(member->url, sizeof member->url, "http://10.0.0.%zu:2380", member->slot + 1);
    snprintf(member->client_url, sizeof member->client_url, "http://10.0.0.%zu:2379", member->slot + 1);
    snprintf(member->data_dir, sizeof member->data_dir, "%s/data", root);
    member->disk = disk_new(root, rng_fork(&world.random));
    member->owner = (struct cage_owner){.disk = member->disk,
                                         .random = rng_fork(&world.random),
                                         .mono_offset_ns = rng_between(&world.random, 0, 100000) * SIM_S,
                                         /* Slow, never fast: a TTL is counted on the leader's clock. */
                                         .skew_ppm = rng_between(&world.random, -4000, 0)};
    counters.clock_skew++;
    member->disk->faults.lies_about = plant_is(PLANT_LOST_FSYNC) ? "/wal" : plant_is(PLANT_LOST_DATABASE_SYNC) ? "/db" : NULL;
    return member;
}

void member_set_cluster(struct sim_member *member, const char *initial_cluster)
{
    snprintf(member->initial_cluster, sizeof member->initial_cluster, "%s", initial_cluster);
}

static void make_config(struct sim_member *member)
{
    member->hooks = (struct etcd_world){.stepped = true, .send = net_send, .send_snapshot = net_send_snapshot, .die = cage_die,
                                         .get = net_get, .ask = net_ask};
    member->config = (struct etcd_config){
        .name = member->name,
        .data_dir = member->data_dir,
        .listen_client_urls = member->client_url,
        .advertise_client_urls = member->client_url,
        .listen_peer_urls = member->url,
        .initial_advertise_peer_urls = member->url,
        .initial_cluster = member->initial_cluster,
        .initial_cluster_state = member->joins ? "existing" : "new",
        .initial_cluster_token = "sim",
        .heartbeat_ms = HEARTBEAT_MS,
        .election_ms = ELECTION_MS,
        .snapshot_count = world.plan.snapshot_count,
        .backend_batch_interval_ms = world.plan.batch_interval_ms,
        .txn_ops_max = 128,
        .request_bytes_max = ETCD_REQUEST_BYTES_MAX_DEFAULT,
        .strict_reconfig = world.plan.strict_reconfig,
        .quota_backend_bytes = (int64_t)64 << 20,
        .watch_progress_interval_ms = 60000,
        .world = &member->hooks,

    };
}

/* ---- ends ---- */

void member_crash(struct sim_member *member, enum disk_crash how, const char *why)
{
    KP_ASSERT(member->state == MEMBER_UP || !member->server);
    sim_trace("%s is down (%s, %s)", member->name, why, how == DISK_POWER ? "power lost" : "killed");
    if (how == DISK_POWER)
        counters.crash_power++;
    else
        counters.crash_kill++;
    disk_crash(member->disk, how);
    member->server = NULL; /* abandoned with all that it holds */
    member->state = MEMBER_DOWN;
    member->incarnation++;
    member->turn_at_ns = 0;
    clients_member_down(member);
    watchers_member_down(member);
}

static void after_end(struct sim_member *member, enum cage_end end)
{
    enum disk_crash how = rng_below(&world.random, 100) < world.plan.power_weight ? DISK_POWER : DISK_KILL;
    if (end == CAGE_DIED) {
        counters.deaths++;
        if (!member->owner.excused && !member->owner.rotten)
            sim_fail("refusal", "%s ended itself without a reason: %s", member->name, member->owner.death);
        sim_trace("%s ended itself: %s", member->name, member->owner.death);
        how = DISK_KILL;
    }
    member_crash(member, how, end == CAGE_DIED ? "died" : "crashed");
    member_restart_in(member, rng_between(&world.random, 50, world.healing ? 3000 : world.plan.down_ms_max) * SIM_MS);
}

bool member_call(struct sim_member *member, void (*fn)(void *arg), void *arg)
{
    member->owner.busy_ns = 0;
    enum cage_end end = cage_run(&member->owner, fn, arg);
    if (end == CAGE_RETURNED) {
        plant_meddle(member);
        inside_check(member);
        if (member->owner.busy_ns) {
            member->busy_until_ns = KP_MAX(member->busy_until_ns, sim_now_ns + member->owner.busy_ns);
            member->owner.busy_ns = 0;
        }
        return true;
    }
    after_end(member, end);
    return false;
}

/* ---- turns ---- */

static void turn_of(void *arg) { server_turn(((struct sim_member *)arg)->server); }

/* What the member does with ETCD_CATCH_UP_ENTRIES, thousands of them: here so few that followers need images. */
static void upkeep_of(void *arg)
{
    struct etcd_server *server = ((struct sim_member *)arg)->server;
    server_upkeep_turn(server);
    uint64_t cut = atomic_load(&server->upkeep.last_snapshot);
    if (cut > world.plan.catch_up && raft_last_index(server->node.raft) >= cut)
        raft_compact(server->node.raft, cut - world.plan.catch_up);
}

static void commit_of(void *arg) { server_commit_turn(((struct sim_member *)arg)->server); }

static void turn(void *arg, uint64_t tag)
{
    struct sim_member *member = arg;
    if (!member_is_up(member) || tag != member->incarnation || member->turn_at_ns != sim_now_ns)
        return;
    member->turn_at_ns = 0;
    if (sim_now_ns < member->busy_until_ns) {
        member_turn_in(member, member->busy_until_ns - sim_now_ns);
        return;
    }
    counters.turns++;
    if (!member_call(member, turn_of, member))
        return;
    int64_t wait_ms = server_next_turn_ms(member->server) - member_mono_ms(member);
    member_turn_in(member, KP_MAX(wait_ms * SIM_MS, member->busy_until_ns - sim_now_ns) +
                               (int64_t)rng_below(&world.random, SIM_MS));
}

void member_turn_in(struct sim_member *member, int64_t delay_ns)
{
    int64_t at_ns = sim_now_ns + KP_MAX(delay_ns, 1);
    if (!member_is_up(member) || (member->turn_at_ns && member->turn_at_ns <= at_ns))
        return;
    member->turn_at_ns = at_ns;
    event_at(at_ns, turn, member, member->incarnation);
}

/* The other turns come at their own pace. */
static void side_turn(struct sim_member *member, uint64_t tag, void (*fn)(void *arg), void (*self)(void *arg, uint64_t tag),
                      int64_t low_ms, int64_t high_ms)
{
    if (!member_is_up(member) || tag != member->incarnation)
        return;
    if (sim_now_ns >= member->busy_until_ns && !member_call(member, fn, member))
        return;
    member_turn_in(member, (int64_t)rng_below(&world.random, 2 * SIM_MS));
    event_in(rng_between(&world.random, low_ms, high_ms) * SIM_MS, self, member, tag);
}

static void upkeep(void *arg, uint64_t tag) { side_turn(arg, tag, upkeep_of, upkeep, 50, 600); }

static void commit(void *arg, uint64_t tag)
{
    counters.commits++;
    side_turn(arg, tag, commit_of, commit, world.plan.batch_interval_ms / 2, world.plan.batch_interval_ms * 2);
}

/* ---- starts ---- */

struct opening {
    struct sim_member *member;
    struct etcd_server *server;
    int rc;
    struct kp_error error;
};

static void open_it(void *arg)
{
    struct opening *opening = arg;
    opening->rc = server_open(&opening->member->config, &opening->server, &opening->error);
}

/* A crash at one of the first calls, with some chance. */
static void arm(struct sim_member *member)
{
    struct rng *random = &world.random;
    member->owner.crash_at_io = member->owner.crash_at_alloc = 0;
    if (world.healing || !rng_per_mille(random, world.plan.crash_weight * 20))
        return;
    if (rng_next(random) % 2)
        member->owner.crash_at_io = 1 + rng_below(random, 80);
    else
        member->owner.crash_at_alloc = 1 + rng_below(random, 2000);
}

static void start_later(void *arg, uint64_t tag)
{
    struct sim_member *member = arg;
    if (member->state == MEMBER_DOWN && tag == member->incarnation)
        member_start(member);
}

void member_restart_in(struct sim_member *member, int64_t delay_ns)
{
    event_in(delay_ns, start_later, member, member->incarnation);
}

static void refused(struct sim_member *member, const struct kp_error *error)
{
    counters.opens_refused++;
    sim_trace("%s does not start: %s", member->name, error->message);
    if (member->owner.rotten) {
        member->refused = true;
        return;
    }
    if (strstr(error->message, "permanently removed")) {
        operator_hears_removed(member);
        return;
    }
    bool joining = member->joins && !member->began;
    if (joining)
        operator_refresh(member);
    if (!member->owner.excused && !joining)
        sim_fail("refusal", "%s does not start though nothing happened to its disk: %s", member->name, error->message);
    if (++member->failed_starts > STARTS_FAILED_MAX && !joining)
        sim_fail("liveness", "%s does not start any more: %s", member->name, error->message);
    member_restart_in(member, rng_between(&world.random, 100, 2000) * SIM_MS);
}

void member_start(struct sim_member *member)
{
    KP_ASSERT(member->state == MEMBER_DOWN);
    if (member->rot_is_due) {
        member->rot_is_due = false;
        if (rng_next(&world.random) % 2)
            counters.bit_rot_wal += member->owner.rotten |= disk_rot(member->disk, ".wal");
        else
            counters.bit_rot_db += member->owner.rotten |= disk_rot(member->disk, "/db");
    }
    make_config(member);
    arm(member);
    struct opening opening = {.member = member};
    member->incarnation++;
    enum cage_end end = cage_run(&member->owner, open_it, &opening);
    if (end != CAGE_RETURNED) {
        counters.crash_while_opening++;
        if (end == CAGE_DIED && member->owner.rotten && ++member->failed_starts > 3) {
            disk_crash(member->disk, DISK_KILL);
            member->refused = true; /* it ends itself at each start: as good as a refusal */
            return;
        }
        after_end(member, end);
        return;
    }
    if (opening.rc < 0) {
        disk_crash(member->disk, DISK_KILL);
        refused(member, &opening.error);
        return;
    }
    const struct disk_faults *faults = &member->disk->faults;
    member->owner.excused = faults->full || faults->sync_error_ppm || faults->write_error_ppm;
    member->failed_starts = 0;
    member->began = true;
    member->owner.busy_ns = 0;
    counters.restarts++;
    member->server = opening.server;
    member->state = MEMBER_UP;
    member->id = opening.server->member_id;
    sim_trace("%s is up: id %llx, applied %llu", member->name, (unsigned long long)member->id,
              (unsigned long long)atomic_load(&member->server->node.applied));
    inside_started(member);
    member_turn_in(member, 0);
    event_in(rng_between(&world.random, 1, 300) * SIM_MS, upkeep, member, member->incarnation);
    event_in(rng_between(&world.random, 1, 300) * SIM_MS, commit, member, member->incarnation);
}
