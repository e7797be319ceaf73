/* Three members, each the shipped core over the shipped log on a disk that loses power at any call: whatever one of them
   applied once is what all of them apply in the end. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <errno.h>
#include <inttypes.h>

#include "tests/support/wal_disk.h"

#define MEMBERS 3
#define VALUES_MAX 4096
#define NETWORK_MAX 200

struct machine { /* the state machine: the value of every index; 0 for entries without */
    uint64_t index, term;
    uint64_t values[VALUES_MAX];
};
struct member {
    uint64_t id;
    struct wal_disk *disk;
    struct wal *wal;
    struct raft *raft; /* NULL: down */
    struct machine live, durable;
};
struct world {
    uint64_t seed, random, crashes, repairs, installs, marks;
    struct member members[MEMBERS];
    struct raft_message network[NETWORK_MAX];
    size_t network_len;
    uint64_t truth[VALUES_MAX], truth_len; /* by index; what was applied anywhere */
    bool known[VALUES_MAX];
    uint64_t next_value;
    struct raft_conf_state conf;
};

static uint64_t roll(struct world *world, uint64_t bound)
{
    uint64_t z = (world->random += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return (z ^ (z >> 31)) % bound;
}

static uint64_t random_of(void *ctx, uint64_t bound) { return roll(ctx, bound); }

static void power_off(struct world *world, struct member *member)
{
    raft_free(member->raft);
    member->raft = NULL;
    wal_close(member->wal);
    member->wal = NULL;
    wal_disk_crash(member->disk);
    member->live = member->durable;
    world->crashes++;
}

/* ---- starting --------------------------------------------------------------------------------------------------- */
static struct wal_config config_of(struct member *member) { return (struct wal_config){"/wal", &member->disk->io, 4096}; }

static void power_on(struct world *world, struct member *member)
{
    struct wal_config config = config_of(member);
    struct wal_replay replay = {0};
    struct kp_error error = {0};
    struct raft_config raft = {.id = member->id, .election_ticks = 5, .pre_vote = true, .check_quorum = true,
                               .random = random_of, .random_ctx = world, .conf = world->conf};
    if (wal_open(&config, &replay, &member->wal, &error) < 0)
        fail_msg("seed %" PRIu64 ": member %" PRIu64 ": %s", world->seed, member->id, error.message);
    world->repairs += replay.torn_bytes > 0;
    assert_true(member->durable.index >= replay.snapshot.index);
    raft.hard_state = replay.hard_state;
    raft.applied = member->durable.index;
    if (member->durable.index > replay.snapshot.index + replay.entries_len) {
        /* An image was put in place, but the log does not know yet: it starts after the image now. */
        struct wal_snapshot marker = {member->durable.index, member->durable.term, world->conf};
        assert_int_equal(wal_append_snapshot(member->wal, &marker, &error), 0);
        assert_int_equal(wal_sync(member->wal, &error), 0);
        raft.snapshot_index = marker.index;
        raft.snapshot_term = marker.term;
    } else {
        raft.snapshot_index = replay.snapshot.index;
        raft.snapshot_term = replay.snapshot.term;
        raft.entries = replay.entries;
        raft.entries_len = replay.entries_len;
    }
    if (raft_new(&raft, &member->raft, &error) < 0)
        fail_msg("seed %" PRIu64 ": member %" PRIu64 ": %s", world->seed, member->id, error.message);
    wal_replay_done(&replay);
}

static void begin(struct world *world, uint64_t seed)
{
    *world = (struct world){.seed = seed, .random = seed, .next_value = 1};
    for (uint64_t id = 1; id <= MEMBERS; id++)
        raft_id_set_add(&world->conf.voters, id);
    for (uint64_t id = 1; id <= MEMBERS; id++) {
        struct member *member = &world->members[id - 1];
        member->id = id;
        member->disk = kp_calloc(1, sizeof(*member->disk));
        wal_disk_init(member->disk, seed * 10 + id);
        member->live.index = member->durable.index = RAFT_INITIAL_INDEX;
        member->live.term = member->durable.term = RAFT_INITIAL_TERM;
        struct wal_config config = config_of(member);
        struct wal_metadata metadata = {1, id};
        struct wal_snapshot first = {.conf = world->conf};
        assert_int_equal(wal_create(&config, &metadata, &first, &member->wal, NULL), 0);
        wal_close(member->wal);
        power_on(world, member);
    }
}

static void end(struct world *world)
{
    for (size_t i = 0; i < MEMBERS; i++) {
        raft_free(world->members[i].raft);
        wal_close(world->members[i].wal);
        wal_disk_done(world->members[i].disk);
        free(world->members[i].disk);
    }
    for (size_t i = 0; i < world->network_len; i++)
        raft_message_done(&world->network[i]);
}

/* ---- running ---------------------------------------------------------------------------------------------------- */
static void take_out(struct world *world, size_t i)
{
    struct raft_message *message = &world->network[i];
    struct member *from = &world->members[message->from - 1];
    if (message->type == RAFT_MSG_SNAPSHOT && from->raft)
        raft_report_snapshot(from->raft, message->to, true);
    raft_message_done(message);
    *message = world->network[--world->network_len];
}

static void send(struct world *world, struct member *member, const struct raft_message *messages, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        if (world->network_len == NETWORK_MAX)
            take_out(world, (size_t)roll(world, NETWORK_MAX));
        struct raft_message *out = &world->network[world->network_len++];
        raft_message_copy(out, &messages[i]);
        if (!out->snapshot)
            continue;
        out->snapshot->index = member->live.index;
        out->snapshot->term = member->live.term;
        out->snapshot->data = kp_blob_new(&member->live, sizeof(member->live));
    }
}

static void apply(struct world *world, struct member *member, const struct raft_entry *entry)
{
    uint64_t value = 0;
    assert_true(entry->index == member->live.index + 1 && entry->index < VALUES_MAX);
    if (entry->data)
        memcpy(&value, entry->data->data, sizeof(value));
    if (world->known[entry->index] && world->truth[entry->index] != value)
        fail_msg("seed %" PRIu64 ": entry %" PRIu64 " was %" PRIu64 " and is %" PRIu64 " at member %" PRIu64, world->seed,
                 entry->index, world->truth[entry->index], value, member->id);
    world->known[entry->index] = true;
    world->truth[entry->index] = value;
    world->truth_len = KP_MAX(world->truth_len, entry->index);
    member->live.values[entry->index] = value;
    member->live.index = entry->index;
    member->live.term = entry->term;
}

static int persist(struct world *world, struct member *member, const struct raft_ready *ready)
{
    int code = 0;
    if (ready->snapshot) {
        memcpy(&member->live, ready->snapshot->data->data, sizeof(member->live));
        member->durable = member->live;
        world->installs++;
        struct wal_snapshot marker = {ready->snapshot->index, ready->snapshot->term, ready->snapshot->conf};
        code = wal_append_snapshot(member->wal, &marker, NULL);
    }
    if (code == 0 && (ready->entries_len || ready->hard_state_changed))
        code = wal_append(member->wal, ready->entries, ready->entries_len,
                          ready->hard_state_changed ? &ready->hard_state : NULL, NULL);
    return code == 0 && ready->must_sync ? wal_sync(member->wal, NULL) : code;
}

static void handle_ready(struct world *world, struct member *member)
{
    if (!member->raft || !raft_has_ready(member->raft))
        return;
    const struct raft_ready *ready = raft_ready(member->raft);
    send(world, member, ready->messages, ready->messages_len);
    if (persist(world, member, ready) < 0) {
        power_off(world, member);
        return;
    }
    send(world, member, ready->messages_after_sync, ready->messages_after_sync_len);
    for (size_t i = 0; i < ready->committed_len; i++)
        apply(world, member, &ready->committed[i]);
    raft_advance(member->raft);
    raft_applied(member->raft, member->live.index);
}

/* The state machine becomes durable, and the log forgets what it holds. */
static void mark(struct world *world, struct member *member)
{
    member->durable = member->live;
    struct wal_snapshot marker = {member->live.index, member->live.term, world->conf};
    if (wal_append_snapshot(member->wal, &marker, NULL) < 0 || wal_sync(member->wal, NULL) < 0 ||
        wal_release(member->wal, marker.index, NULL) < 0) {
        power_off(world, member);
        return;
    }
    world->marks++;
    raft_compact(member->raft, marker.index);
}

static void act(struct world *world)
{
    struct member *member = &world->members[roll(world, MEMBERS)];
    uint64_t dice = roll(world, 1000);
    if (!member->raft) {
        if (dice < 50)
            power_on(world, member);
    } else if (dice < 350) {
        handle_ready(world, member);
    } else if (dice < 450) {
        raft_tick(member->raft);
    } else if (dice < 550) {
        KP_AUTO(kp_blob_unref) struct kp_blob *data = kp_blob_new(NULL, 8 + (size_t)roll(world, 300));
        memset(data->data, 0x5a, data->len);
        uint64_t value = world->next_value++;
        memcpy(data->data, &value, sizeof(value));
        (void)!raft_propose(member->raft, data, NULL);
    } else if (dice < 560) {
        mark(world, member);
    } else if (dice < 565) { /* within the next few calls of its disk */
        member->disk->fail_at = member->disk->calls + 1 + roll(world, 6);
        member->disk->fail_with = -EIO;
        member->disk->die = true;
    } else if (world->network_len > 0) {
        size_t i = (size_t)roll(world, world->network_len);
        struct raft_message *message = &world->network[i];
        struct member *to = &world->members[message->to - 1];
        struct kp_error error = {0};
        if (to->raft && roll(world, 20) != 0 && raft_step(to->raft, message, &error) < 0)
            fail_msg("seed %" PRIu64 ": %s", world->seed, error.message);
        take_out(world, i);
    }
}

static bool all_agree(const struct world *world)
{
    for (size_t i = 0; i < MEMBERS; i++)
        if (world->members[i].live.index != world->truth_len ||
            memcmp(world->members[i].live.values, world->members[0].live.values, sizeof(world->truth)) != 0)
            return false;
    return true;
}

static void heal(struct world *world)
{
    uint64_t goal = world->truth_len + 1;
    for (size_t i = 0; i < MEMBERS; i++) {
        world->members[i].disk->fail_at = 0;
        if (!world->members[i].raft)
            power_on(world, &world->members[i]);
    }
    for (unsigned tick = 0; tick < 300; tick++) {
        for (unsigned round = 0; round < 20; round++) {
            for (size_t i = 0; i < MEMBERS; i++)
                handle_ready(world, &world->members[i]);
            while (world->network_len > 0) {
                struct raft_message *message = &world->network[0];
                assert_int_equal(raft_step(world->members[message->to - 1].raft, message, NULL), 0);
                take_out(world, 0);
            }
        }
        if (world->truth_len >= goal && all_agree(world))
            return;
        KP_AUTO(kp_blob_unref) struct kp_blob *data = kp_blob_new(&world->next_value, sizeof(world->next_value));
        world->next_value++;
        if (world->truth_len < goal)
            (void)!raft_propose(world->members[0].raft, data, NULL);
        for (size_t i = 0; i < MEMBERS; i++)
            raft_tick(world->members[i].raft);
    }
    for (size_t i = 0; i < MEMBERS; i++) {
        struct raft_status s;
        raft_status(world->members[i].raft, &s);
        print_message("member %" PRIu64 ": %s in term %" PRIu64 ", commit %" PRIu64 ", last %" PRIu64 ", state machine %" PRIu64
                      " of %" PRIu64 "\n",
                      s.id, raft_role_name(s.role), s.term, s.commit, s.last_index, world->members[i].live.index,
                      world->truth_len);
    }
    fail_msg("seed %" PRIu64 ": the members do not agree again", world->seed);
}

static void what_was_applied_survives_power_loss_anywhere(void **state)
{
    (void)state;
    const char *many = getenv("WAL_SEEDS"), *one = getenv("WAL_SEED");
    uint64_t first = one ? strtoull(one, NULL, 10) : 1, count = one ? 1 : many ? strtoull(many, NULL, 10) : 60;
    uint64_t applied = 0, crashes = 0, repairs = 0, installs = 0, marks = 0;
    struct world *world = kp_malloc(sizeof(*world));
    for (uint64_t seed = first; seed < first + count; seed++) {
        begin(world, seed);
        for (unsigned step = 0; step < 5000; step++)
            act(world);
        heal(world);
        applied += world->truth_len;
        crashes += world->crashes;
        repairs += world->repairs;
        installs += world->installs;
        marks += world->marks;
        end(world);
    }
    free(world);
    print_message("%" PRIu64 " seeds: %" PRIu64 " entries, %" PRIu64 " power losses, %" PRIu64 " torn tails repaired, %" PRIu64
                  " markers, %" PRIu64 " images installed\n",
                  count, applied, crashes, repairs, marks, installs);
    if (count >= 30) {
        assert_true(applied > count * 30 && crashes > count * 3 && repairs > count / 4);
        assert_true(installs > count / 10 && marks > count);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(what_was_applied_survives_power_loss_anywhere)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
