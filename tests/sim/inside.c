/* Raft's promises, checked on the members' real state after each of their steps, by code that shares nothing with theirs:
   election safety, log matching, leader completeness, state-machine safety (thesis figure 3.2). */
#include "tests/sim/world.h"

#include "controlplane/etcd/mvcc/mvcc_internal.h"
#include "controlplane/etcd/raft/raft_internal.h"

#define INDEX_MAX 20000
#define TERM_MAX 5000
#define STATE_EVERY 16 /* entries between two comparisons of states */

/* Every entry that ever was in any log: (index, term) names its contents and what precedes it. */
struct seen {
    uint64_t term, before_term, hash;
    struct seen *next;
};
static struct seen *seen[INDEX_MAX];
/* What is committed, as the first member that said so has it. */
static struct {
    uint64_t term, hash, state;
    uint64_t in_term; /* of the member that committed it first: a later one than its own, maybe */
    bool known, has_state;
} committed[INDEX_MAX];
static uint64_t committed_last;
static uint64_t leaders[TERM_MAX];
static struct {
    uint64_t voter, term, to;
} votes[4096];
static size_t votes_len;

/* What was checked of a member before. */
struct inside {
    uint64_t terms[INDEX_MAX]; /* of the log as it was, by index */
    uint64_t last, commit, term;
    bool leads;
    uint64_t snapshots;
};

static uint64_t entry_hash(const struct raft_entry *entry)
{
    uint64_t mix[2] = {entry->type, entry->data ? kp_hash64(entry->data->data, entry->data->len) : 0};
    return kp_hash64(mix, sizeof mix);
}

static void bound(uint64_t index, uint64_t term)
{
    if (index >= INDEX_MAX || term >= TERM_MAX)
        sim_fail("sim", "index %llu or term %llu is beyond what the checks hold", (unsigned long long)index,
                 (unsigned long long)term);
}

/* Log matching: two logs that have an entry of the same index and term have the same up to it. */
static void check_entry(const struct sim_member *member, const struct raft_entry *entry, uint64_t before_term)
{
    bound(entry->index, entry->term);
    counters.entries_checked++;
    uint64_t hash = entry_hash(entry);
    for (struct seen *s = seen[entry->index]; s; s = s->next) {
        if (s->term != entry->term)
            continue;
        if (s->hash != hash || (s->before_term != before_term && s->before_term && before_term))
            sim_fail("log-matching", "%s has another entry %llu of term %llu (after term %llu, was %llu)", member->name,
                     (unsigned long long)entry->index, (unsigned long long)entry->term, (unsigned long long)before_term,
                     (unsigned long long)s->before_term);
        return;
    }
    struct seen *s = kp_malloc(sizeof *s);
    *s = (struct seen){entry->term, before_term, hash, seen[entry->index]};
    seen[entry->index] = s;
}

static uint64_t term_at(const struct raft_log *log, uint64_t index)
{
    if (index == log->snapshot_index)
        return log->snapshot_term;
    return index < log->snapshot_index ? 0 : log->entries[log->head + index - log->snapshot_index - 1].term;
}

static void check_log(struct sim_member *member, const struct raft_log *log)
{
    struct inside *inside = member->inside;
    uint64_t last = log->snapshot_index + log->len;
    bound(last, 0);
    for (uint64_t i = last; i > log->snapshot_index; i--) {
        const struct raft_entry *entry = &log->entries[log->head + i - log->snapshot_index - 1];
        if (entry->index != i)
            sim_fail("log-matching", "%s has entry %llu at %llu", member->name, (unsigned long long)entry->index,
                     (unsigned long long)i);
        if (i <= inside->last && inside->terms[i] == entry->term)
            break; /* checked before, and what precedes it too */
        check_entry(member, entry, term_at(log, i - 1));
        inside->terms[i] = entry->term;
    }
    inside->last = last;
}

/* State-machine safety: one entry for an index, whoever applies it. */
static void check_commit(struct sim_member *member, const struct raft_log *log, uint64_t term)
{
    struct inside *inside = member->inside;
    for (uint64_t i = KP_MAX(inside->commit + 1, log->snapshot_index + 1); i <= log->committed; i++) {
        const struct raft_entry *entry = &log->entries[log->head + i - log->snapshot_index - 1];
        uint64_t hash = entry_hash(entry);
        if (committed[i].known && (committed[i].term != entry->term || committed[i].hash != hash))
            sim_fail("state-machine-safety", "%s commits another entry %llu: of term %llu, was of term %llu", member->name,
                     (unsigned long long)i, (unsigned long long)entry->term, (unsigned long long)committed[i].term);
        if (!committed[i].known)
            committed[i].in_term = term;
        committed[i].known = true;
        committed[i].term = entry->term;
        committed[i].hash = hash;
        committed_last = KP_MAX(committed_last, i);
        counters.conf_changes += entry->type == RAFT_ENTRY_CONF_CHANGE && i == committed_last;
    }
    if (log->applied > log->committed || log->committed > log->snapshot_index + log->len)
        sim_fail("state-machine-safety", "%s applied %llu, committed %llu, has %llu", member->name,
                 (unsigned long long)log->applied, (unsigned long long)log->committed,
                 (unsigned long long)(log->snapshot_index + log->len));
    inside->commit = log->committed;
}

/* Election safety, and leader completeness: what is committed is in the log of every later leader. */
static void check_leader(struct sim_member *member, const struct raft *raft)
{
    struct inside *inside = member->inside;
    bool leads = raft->role == RAFT_LEADER;
    bound(0, raft->term);
    if (leads && (!inside->leads || inside->term != raft->term)) {
        counters.elections++;
        sim_trace("%s leads term %llu", member->name, (unsigned long long)raft->term);
        if (leaders[raft->term] && leaders[raft->term] != raft->id)
            sim_fail("election-safety", "term %llu has two leaders: %llx and %llx", (unsigned long long)raft->term,
                     (unsigned long long)leaders[raft->term], (unsigned long long)raft->id);
        leaders[raft->term] = raft->id;
        if (!world.healing && rng_per_mille(&world.random, world.plan.assassin))
            member->owner.crash_at_io = 1 + rng_below(&world.random, 10);
        if (world.history)
            history_leader(world.history, (unsigned)member->slot);
        const struct raft_log *log = &raft->log;
        uint64_t last = log->snapshot_index + log->len;
        for (uint64_t i = log->snapshot_index + 1; i <= committed_last; i++)
            if (committed[i].known && committed[i].in_term < raft->term && (i > last || term_at(log, i) != committed[i].term))
                sim_fail("leader-completeness", "%s leads term %llu without entry %llu, committed in term %llu",
                         member->name, (unsigned long long)raft->term, (unsigned long long)i,
                         (unsigned long long)committed[i].in_term);
    }
    inside->leads = leads;
    inside->term = raft->term;
}

/* ---- the state: keys with their revisions, leases, members ---- */

static uint64_t mix(uint64_t hash, const void *data, size_t len)
{
    uint64_t both[2] = {hash, kp_hash64(data, len)};
    return kp_hash64(both, sizeof both);
}

static uint64_t state_hash(const struct mvcc *mvcc)
{
    uint64_t hash = mix(0, &mvcc->revision, sizeof mvcc->revision);
    hash = mix(hash, &mvcc->compact_revision, sizeof mvcc->compact_revision);
    for (size_t c = 0; c < mvcc->index.count; c++)
        for (uint32_t k = 0; k < mvcc->index.chunks[c]->count; k++) {
            const struct mvcc_key *key = mvcc->index.chunks[c]->keys[k];
            const struct mvcc_revision *newest = &key->revisions[key->count - 1];
            if (newest->tombstone)
                continue; /* a compaction drops those at its own time */
            int64_t facts[5] = {newest->main, newest->sub, key->create_revision, key->version,
                                key->lease ? key->lease->id : 0};
            hash = mix(hash, key->key, key->key_len);
            hash = mix(hash, facts, sizeof facts);
        }
    uint64_t leases = 0; /* in any order */
    for (size_t b = 0; b < mvcc->leases.bucket_count; b++)
        for (const struct mvcc_lease *lease = mvcc->leases.buckets[b]; lease; lease = lease->next_in_bucket) {
            int64_t facts[2] = {lease->id, lease->ttl_s};
            leases += kp_hash64(facts, sizeof facts);
        }
    return mix(hash, &leases, sizeof leases);
}

/* After an entry was applied, inside of the member's turn. */
static void compare_state(struct mvcc *mvcc, uint64_t index)
{
    if (index % STATE_EVERY || index >= INDEX_MAX)
        return;
    uint64_t hash = state_hash(mvcc);
    counters.states_compared++;
    if (committed[index].has_state && committed[index].state != hash)
        sim_fail("state-machine-safety", "a member has another state after entry %llu: revision %lld",
                 (unsigned long long)index, (long long)mvcc->revision);
    committed[index].has_state = true;
    committed[index].state = hash;
}

static uint64_t applying; /* the index that the transaction under way goes up to */

void __real_backend_set_consistent_index(struct backend *backend, uint64_t index, uint64_t term);
void __wrap_backend_set_consistent_index(struct backend *backend, uint64_t index, uint64_t term);
void __wrap_backend_set_consistent_index(struct backend *backend, uint64_t index, uint64_t term)
{
    applying = index;
    if (plant_is(PLANT_REPLAY_TWICE) && index % 5 == 0)
        return;
    __real_backend_set_consistent_index(backend, index, term);
}

int64_t __real_mvcc_end(struct mvcc *mvcc);
int64_t __wrap_mvcc_end(struct mvcc *mvcc);
int64_t __wrap_mvcc_end(struct mvcc *mvcc)
{
    int64_t revision = __real_mvcc_end(mvcc);
    struct cage_owner *owner = cage_leave();
    compare_state(mvcc, applying);
    cage_enter(owner);
    return revision;
}

/* ---- when ---- */

void inside_started(struct sim_member *member)
{
    if (!member->inside)
        member->inside = kp_calloc(1, sizeof *member->inside);
    member->inside->last = member->inside->commit = 0;
    member->inside->leads = false;
    inside_check(member);
}

static void count_snapshots(struct sim_member *member)
{
    uint64_t index = member->server->node.raft->log.snapshot_index;
    counters.snapshots_installed += index > member->inside->commit && member->inside->commit;
}

void inside_check(struct sim_member *member)
{
    if (!member->server || !member->inside)
        return;
    const struct raft *raft = member->server->node.raft;
    count_snapshots(member);
    check_log(member, &raft->log);
    check_commit(member, &raft->log, raft->term);
    check_leader(member, raft);
}

/* A vote that left is a promise over crashes: one for a term. */
void inside_message(const struct raft_message *message)
{
    if (message->type != RAFT_MSG_VOTE_RESP || message->reject)
        return;
    for (size_t i = 0; i < votes_len; i++) {
        if (votes[i].voter != message->from || votes[i].term != message->term)
            continue;
        if (votes[i].to != message->to)
            sim_fail("election-safety", "%llx votes for %llx and %llx in term %llu", (unsigned long long)message->from,
                     (unsigned long long)votes[i].to, (unsigned long long)message->to, (unsigned long long)message->term);
        return;
    }
    KP_ASSERT(votes_len < KP_ARRAY_LEN(votes));
    votes[votes_len].voter = message->from;
    votes[votes_len].term = message->term;
    votes[votes_len++].to = message->to;
}
