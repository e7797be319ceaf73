/* Randomised runs of a cluster under loss, delay, duplication, reordering, partitions, crashes at every point of a ready,
   compaction and membership changes; Raft's safety properties (thesis figure 3.2) are checked all along. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <inttypes.h>

#include "tests/support/raft_cluster.h"

#define ENTRIES_MAX 4096
#define TERMS_MAX 4096
#define READS_MAX 1024
#define NETWORK_MAX 600

/* What the checker believes, fed by the observers only. */
struct truth {
    struct cluster *cluster;
    uint64_t seed;
    struct { /* what this run is rich in; per thousand */
        uint64_t partition, heal, crash_ready, crash, campaign, lose, repeat;
        uint64_t tick;  /* percent of what is done to members */
        uint64_t delay; /* how far messages overtake each other */
    } mood;
    struct {
        uint64_t term, hash; /* hash: of the state after it */
        bool known;
    } applied[ENTRIES_MAX];
    uint64_t applied_max;
    uint64_t leader_of[TERMS_MAX];
    uint64_t read_floor[READS_MAX]; /* by read id: what was applied somewhere when the read began */
    uint64_t reads, reads_done, elections, installs, changes;
};

static void blame(const struct truth *truth, const char *what, uint64_t a, uint64_t b)
{
    fail_msg("seed %" PRIu64 ": %s (%" PRIu64 ", %" PRIu64 ")", truth->seed, what, a, b);
}

static void check_leader(struct truth *truth, struct cluster_node *node, uint64_t term)
{
    assert_true(term < TERMS_MAX);
    if (truth->leader_of[term] && truth->leader_of[term] != node->id)
        blame(truth, "election safety: two leaders in a term", truth->leader_of[term], node->id);
    if (truth->leader_of[term])
        return;
    truth->leader_of[term] = node->id;
    truth->elections++;
    /* Whatever was applied anywhere was committed in an earlier term. */
    if (raft_last_index(node->raft) < truth->applied_max)
        blame(truth, "leader completeness: log too short", raft_last_index(node->raft), truth->applied_max);
    for (uint64_t i = raft_first_index(node->raft); i <= truth->applied_max; i++)
        if (truth->applied[i].known && raft_term_of(node->raft, i) != truth->applied[i].term)
            blame(truth, "leader completeness: a committed entry is missing", i, term);
}

static void on_ready(void *ctx, struct cluster_node *node, const struct raft_ready *ready)
{
    struct truth *truth = ctx;
    if (ready->role == RAFT_LEADER)
        check_leader(truth, node, ready->term);
    for (size_t i = 0; i < ready->reads_len; i++) {
        assert_true(ready->reads[i].read_id < READS_MAX);
        truth->reads_done++;
        if (ready->reads[i].index < truth->read_floor[ready->reads[i].read_id])
            blame(truth, "stale read", ready->reads[i].index, truth->read_floor[ready->reads[i].read_id]);
    }
}

static void on_apply(void *ctx, struct cluster_node *node, const struct raft_entry *entry)
{
    struct truth *truth = ctx;
    uint64_t index = node->live.applied;
    assert_true(index < ENTRIES_MAX);
    if (truth->applied[index].known && truth->applied[index].hash != node->live.hash)
        blame(truth, "state machine safety: two histories", index, node->id);
    if (!entry) {
        truth->installs++;
        return;
    }
    if (truth->applied[index].known && truth->applied[index].term != entry->term)
        blame(truth, "state machine safety: two terms at an index", index, node->id);
    truth->applied[index].known = true;
    truth->applied[index].term = entry->term;
    truth->applied[index].hash = node->live.hash;
    truth->applied_max = KP_MAX(truth->applied_max, index);
    truth->changes += entry->type == RAFT_ENTRY_CONF_CHANGE;
}

/* If two logs agree on an entry's index and term, they agree on all before it. */
static void check_log_matching(struct truth *truth)
{
    struct cluster *cluster = truth->cluster;
    for (size_t a = 0; a < cluster->nodes_len; a++)
        for (size_t b = a + 1; b < cluster->nodes_len; b++) {
            const struct cluster_disk *x = &cluster->nodes[a].disk, *y = &cluster->nodes[b].disk;
            uint64_t first = KP_MAX(x->snapshot_index, y->snapshot_index) + 1;
            uint64_t last = KP_MIN(x->snapshot_index + x->entries_len, y->snapshot_index + y->entries_len);
            bool agree = false;
            for (uint64_t i = last; i >= first && i <= last; i--) {
                const struct raft_entry *p = &x->entries[i - x->snapshot_index - 1];
                const struct raft_entry *q = &y->entries[i - y->snapshot_index - 1];
                bool same = p->term == q->term;
                if (agree && !same)
                    blame(truth, "log matching: terms differ below an agreement", i, p->term);
                if (same && ((p->data == NULL) != (q->data == NULL) ||
                             (p->data && (p->data->len != q->data->len ||
                                          memcmp(p->data->data, q->data->data, p->data->len) != 0))))
                    blame(truth, "log matching: one term, two entries", i, p->term);
                agree = agree || same;
            }
        }
}

static struct cluster_node *any_node(struct cluster *cluster)
{
    return &cluster->nodes[cluster_random(cluster, cluster->nodes_len)];
}

static void propose_change(struct cluster *cluster, struct cluster_node *node)
{
    struct raft_conf_change change = {.transition = (enum raft_transition)cluster_random(cluster, 3),
                                      .len = (size_t)cluster_random(cluster, 4)};
    static const enum raft_change_type types[] = {RAFT_ADD_VOTER, RAFT_ADD_VOTER, RAFT_REMOVE, RAFT_ADD_LEARNER};
    for (size_t i = 0; i < change.len; i++) {
        change.changes[i].type = types[cluster_random(cluster, 4)];
        change.changes[i].id = any_node(cluster)->id;
    }
    (void)!raft_propose_conf_change(node->raft, &change, NULL); /* refused is as good as accepted here */
}

static void partition(struct cluster *cluster)
{
    memset(cluster->cut, 0, sizeof(cluster->cut));
    uint64_t kind = cluster_random(cluster, 4), victim = any_node(cluster)->id;
    uint64_t side = cluster_random(cluster, (uint64_t)1 << (cluster->nodes_len + 1));
    for (uint64_t from = 1; from <= cluster->nodes_len; from++)
        for (uint64_t to = 1; to <= cluster->nodes_len; to++) {
            if (kind == 1) /* nothing reaches the victim, it is heard */
                cluster->cut[from][to] = to == victim;
            else if (kind == 2)
                cluster->cut[from][to] = ((side >> from) & 1) != ((side >> to) & 1);
            else if (kind == 3)
                cluster->cut[from][to] = from == victim || to == victim;
        }
}

static void act_on_node(struct truth *truth, struct cluster_node *node)
{
    struct cluster *cluster = truth->cluster;
    struct kp_error error = {0};
    uint64_t dice = cluster_random(cluster, 100);
    if (!node->raft) {
        if (dice < 30)
            cluster_start(cluster, node);
    } else if (cluster_random(cluster, 1000) < truth->mood.crash) {
        cluster_crash_node(cluster, node);
    } else if (cluster_random(cluster, 1000) < truth->mood.campaign) {
        (void)raft_campaign(node->raft, &error);
    } else if (cluster_random(cluster, 100) < truth->mood.tick) {
        raft_tick(node->raft);
    } else if (dice < 60) {
        char text[32];
        int len = snprintf(text, sizeof(text), "p%" PRIu64, cluster_random(cluster, 1000000));
        KP_AUTO(kp_blob_unref) struct kp_blob *data = kp_blob_new(text, (size_t)len);
        (void)!raft_propose(node->raft, data, &error);
    } else if (dice < 75 && truth->reads + 1 < READS_MAX) {
        uint64_t id = ++truth->reads;
        truth->read_floor[id] = truth->applied_max;
        (void)!raft_read_index(node->raft, id, &error);
    } else if (dice < 85) {
        propose_change(cluster, node);
    } else if (dice < 90) {
        (void)!raft_transfer_leader(node->raft, any_node(cluster)->id, &error);
    } else if (dice < 96) {
        uint64_t back = cluster_random(cluster, 8);
        if (node->live.applied > back)
            cluster_compact(cluster, node, node->live.applied - back);
    } else {
        raft_report_unreachable(node->raft, any_node(cluster)->id);
    }
}

static void act(struct truth *truth)
{
    struct cluster *cluster = truth->cluster;
    uint64_t dice = cluster_random(cluster, 1000);
    if (cluster_random(cluster, 1000) < truth->mood.partition)
        partition(cluster);
    else if (cluster_random(cluster, 1000) < truth->mood.heal)
        memset(cluster->cut, 0, sizeof(cluster->cut));
    if (dice < 450) {
        if (cluster->network_len == 0)
            return;
        size_t i = (size_t)cluster_random(cluster, KP_MIN(cluster->network_len, truth->mood.delay));
        uint64_t fate = cluster_random(cluster, 1000);
        if (fate < truth->mood.lose)
            cluster_drop(cluster, i);
        else
            cluster_deliver(cluster, i, fate < truth->mood.lose + truth->mood.repeat);
    } else if (dice < 800) {
        bool crash = cluster_random(cluster, 1000) < truth->mood.crash_ready;
        cluster_ready(cluster, any_node(cluster),
                      crash ? (enum cluster_crash)cluster_random(cluster, CRASH_POINTS) : CRASH_NEVER);
    } else {
        act_on_node(truth, any_node(cluster));
    }
    while (cluster->network_len > NETWORK_MAX)
        cluster_drop(cluster, 0);
}

static void choose_mood(struct truth *truth)
{
    struct cluster *cluster = truth->cluster;
    static const uint64_t rates[] = {0, 1, 5, 20};
    truth->mood.partition = rates[cluster_random(cluster, 4)];
    truth->mood.heal = rates[cluster_random(cluster, 4)];
    truth->mood.crash_ready = 3 * rates[cluster_random(cluster, 4)];
    truth->mood.crash = rates[cluster_random(cluster, 4)];
    truth->mood.campaign = 2 * rates[cluster_random(cluster, 4)];
    truth->mood.lose = 5 * rates[cluster_random(cluster, 4)];
    truth->mood.repeat = 5 * rates[cluster_random(cluster, 4)];
    truth->mood.tick = 10 + cluster_random(cluster, 80);
    truth->mood.delay = (uint64_t)1 << cluster_random(cluster, 7);
}

static struct cluster_node *current_leader(struct cluster *cluster)
{
    struct cluster_node *leader = NULL;
    uint64_t term = 0;
    for (size_t i = 0; i < cluster->nodes_len; i++) {
        struct raft_status status;
        if (!cluster->nodes[i].raft)
            continue;
        raft_status(cluster->nodes[i].raft, &status);
        if (status.role == RAFT_LEADER && status.term >= term) {
            leader = &cluster->nodes[i];
            term = status.term;
        }
    }
    return leader;
}

/* With everything healed, a leader must emerge, commit, and bring every member of its configuration up to date. */
static void check_recovers(struct truth *truth)
{
    struct cluster *cluster = truth->cluster;
    memset(cluster->cut, 0, sizeof(cluster->cut));
    for (size_t i = 0; i < cluster->nodes_len; i++)
        if (!cluster->nodes[i].raft)
            cluster_start(cluster, &cluster->nodes[i]);
    uint64_t goal = truth->applied_max + 1;
    for (unsigned tick = 0; tick < 600; tick++) {
        if (!cluster_settle(cluster, 2000)) /* a log of hundreds of entries, one message at a time */
            blame(truth, "the cluster does not settle", tick, 0);
        struct cluster_node *leader = current_leader(cluster);
        if (leader) {
            bool done = leader->live.applied >= goal && !raft_conf_is_joint(&leader->live.conf);
            for (size_t i = 0; done && i < cluster->nodes_len; i++)
                if (raft_conf_has(&leader->live.conf, cluster->nodes[i].id))
                    done = cluster->nodes[i].live.applied == leader->live.applied &&
                           cluster->nodes[i].live.hash == leader->live.hash;
            if (done)
                return;
            KP_AUTO(kp_blob_unref) struct kp_blob *data = kp_blob_new("last", 4);
            struct raft_conf_change leave = {0};
            if (leader->live.applied < goal)
                (void)!raft_propose(leader->raft, data, NULL);
            if (raft_conf_is_joint(&leader->live.conf))
                (void)!raft_propose_conf_change(leader->raft, &leave, NULL);
        }
        for (size_t i = 0; i < cluster->nodes_len; i++)
            raft_tick(cluster->nodes[i].raft);
    }
    for (size_t i = 0; i < cluster->nodes_len; i++) {
        struct raft_status s;
        raft_status(cluster->nodes[i].raft, &s);
        KP_AUTO_BUF struct kp_buf conf = {0};
        cluster_print_conf(&conf, &s.conf);
        print_message("member %" PRIu64 " %s term %" PRIu64 " commit %" PRIu64 " applied %" PRIu64 " last %" PRIu64 ": %s\n",
                      s.id, raft_role_name(s.role), s.term, s.commit, s.applied, s.last_index, conf.data);
    }
    blame(truth, "the cluster does not recover", goal, truth->applied_max);
}

struct totals {
    uint64_t applied, elections, reads, installs, changes;
};

static void run_seed(uint64_t seed, unsigned steps, struct totals *totals)
{
    struct cluster cluster;
    struct truth *truth = kp_calloc(1, sizeof(*truth));
    cluster_init(&cluster, seed);
    truth->cluster = &cluster;
    truth->seed = seed;
    choose_mood(truth);
    cluster.on_apply = on_apply;
    cluster.on_ready = on_ready;
    cluster.observer_ctx = truth;
    KP_AUTO_BUF struct kp_buf trace = {0};
    if (getenv("RAFT_TRACE"))
        cluster.trace = &trace;
    uint64_t voters = 1 + 2 * cluster_random(&cluster, 3), spare = cluster_random(&cluster, 4);
    struct raft_config config = {
        .election_ticks = 5,
        .pre_vote = cluster_random(&cluster, 2),
        .check_quorum = cluster_random(&cluster, 2),
        .inflight_messages_max = 1 + (size_t)cluster_random(&cluster, 4),
        .message_bytes_max = 1 + (size_t)cluster_random(&cluster, 30),
        .apply_bytes_max = 1 + (size_t)cluster_random(&cluster, 60),
    };
    for (uint64_t id = 1; id <= voters; id++)
        raft_id_set_add(&config.conf.voters, id);
    for (uint64_t id = 1; id <= voters + spare; id++) {
        config.id = id;
        if (id > voters)
            config.conf = (struct raft_conf_state){0};
        cluster_add(&cluster, &config);
    }
    for (unsigned step = 0; step < steps; step++) {
        act(truth);
        if (trace.len) {
            fwrite(trace.data, 1, trace.len, stderr);
            trace.len = 0;
        }
        if (step % 500 == 0)
            check_log_matching(truth);
    }
    check_log_matching(truth);
    check_recovers(truth);
    totals->applied += truth->applied_max;
    totals->elections += truth->elections;
    totals->reads += truth->reads_done;
    totals->installs += truth->installs;
    totals->changes += truth->changes;
    raft_cluster_done(&cluster);
    free(truth);
}

/* RAFT_SEED=n replays one run, RAFT_SEEDS=n makes it n runs. */
static void safety_holds_under_random_faults(void **state)
{
    (void)state;
    struct totals totals = {0};
    const char *one = getenv("RAFT_SEED"), *many = getenv("RAFT_SEEDS");
    uint64_t first = one ? strtoull(one, NULL, 10) : 1;
    uint64_t count = one ? 1 : many ? strtoull(many, NULL, 10) : 300;
    for (uint64_t seed = first; seed < first + count; seed++)
        run_seed(seed, 4000, &totals);
    print_message("%" PRIu64 " seeds: %" PRIu64 " entries, %" PRIu64 " elections, %" PRIu64 " reads, %" PRIu64
                  " snapshots installed, %" PRIu64 " membership changes applied\n",
                  count, totals.applied, totals.elections, totals.reads, totals.installs, totals.changes);
    if (count >= 100) { /* or the runs would show nothing */
        assert_true(totals.applied > count * 20);
        assert_true(totals.elections > count * 2);
        assert_true(totals.reads > count);
        assert_true(totals.installs > count / 4);
        assert_true(totals.changes > count);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(safety_holds_under_random_faults)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
