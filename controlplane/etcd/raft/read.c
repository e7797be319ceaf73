/* Linearizable reads without log entries (thesis 6.4): the leader notes its commit index, confirms with one round of
   heartbeats that it still leads, and lets the read go at that index. Reads that arrive together share a round. */
#include "controlplane/etcd/raft/raft_internal.h"

void raft_read_done(struct raft *raft, uint64_t read_id, uint64_t index)
{
    if (raft->read_states_len == raft->read_states_cap) {
        raft->read_states_cap = raft->read_states_cap ? raft->read_states_cap * 2 : 16;
        raft->read_states = kp_realloc(raft->read_states, raft->read_states_cap * sizeof(*raft->read_states));
    }
    raft->read_states[raft->read_states_len++] = (struct raft_read_state){read_id, index};
}

static void answer(struct raft *raft, const struct raft_read *read)
{
    if (read->from == raft->id)
        raft_read_done(raft, read->read_id, read->index);
    else
        raft_send(raft, &(struct raft_message){.type = RAFT_MSG_READ_INDEX_RESP,
                                               .to = read->from,
                                               .index = read->index,
                                               .context = read->read_id});
}

static bool committed_in_term(const struct raft *raft)
{
    return raft_log_matches(&raft->log, raft->log.committed, raft->term);
}

int raft_leader_read(struct raft *raft, uint64_t from, uint64_t read_id, struct kp_error *error)
{
    if (raft->reads_len >= RAFT_READS_MAX)
        return kp_fail(error, KP_ETOOMANY, "raft: %d reads are waiting for a quorum already", RAFT_READS_MAX);
    struct raft_read read = {.index = raft->log.committed, .from = from, .read_id = read_id};
    /* Before the first commit of its term a leader does not know how far its predecessors committed. */
    if (committed_in_term(raft)) {
        if (raft_is_sole_voter(raft)) {
            answer(raft, &read);
            return 0;
        }
        read.round = raft->read_round + 1;
        raft->read_due = true;
    }
    if (raft->reads_len == raft->reads_cap) {
        raft->reads_cap = raft->reads_cap ? raft->reads_cap * 2 : 16;
        raft->reads = kp_realloc(raft->reads, raft->reads_cap * sizeof(*raft->reads));
    }
    raft->reads[raft->reads_len++] = read;
    return 0;
}

void raft_reads_flush(struct raft *raft)
{
    if (!raft->read_due)
        return;
    raft->read_due = false;
    raft->read_round++;
    raft_broadcast_heartbeat(raft);
    raft_reads_release(raft); /* a quorum of one needs no answer */
}

static uint64_t acked_of(const void *ctx, uint64_t id)
{
    const struct raft *raft = ctx;
    if (id == raft->id)
        return raft->read_round;
    for (size_t i = 0; i < raft->progress_len; i++)
        if (raft->progress[i].id == id)
            return raft->progress[i].read_acked;
    return 0;
}

void raft_reads_release(struct raft *raft)
{
    uint64_t confirmed = KP_MIN(raft_quorum_value(&raft->conf, acked_of, raft), raft->read_round);
    size_t done = 0;
    while (done < raft->reads_len && raft->reads[done].round != 0 && raft->reads[done].round <= confirmed)
        answer(raft, &raft->reads[done++]);
    if (done == 0)
        return;
    raft->reads_len -= done;
    memmove(raft->reads, raft->reads + done, raft->reads_len * sizeof(*raft->reads));
}

void raft_reads_committed(struct raft *raft)
{
    for (size_t i = 0; i < raft->reads_len; i++) {
        struct raft_read *read = &raft->reads[i];
        if (read->round != 0)
            continue;
        read->index = raft->log.committed;
        read->round = raft->read_round + 1;
        raft->read_due = true;
    }
}

void raft_reads_drop(struct raft *raft)
{
    raft->reads_len = 0;
    raft->read_round = 0;
    raft->read_due = false;
}

int raft_read_index(struct raft *raft, uint64_t read_id, struct kp_error *error)
{
    if (raft->role == RAFT_LEADER)
        return raft_leader_read(raft, raft->id, read_id, error);
    if (raft->leader == 0)
        return kp_fail(error, KP_EUNAVAILABLE, "raft: no leader to read from");
    raft_send(raft,
              &(struct raft_message){.type = RAFT_MSG_READ_INDEX, .to = raft->leader, .context = read_id});
    return 0;
}
