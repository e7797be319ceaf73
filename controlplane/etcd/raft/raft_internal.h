/* What the files of the Raft core share; nothing here is for other modules. */
#ifndef ETCD_RAFT_INTERNAL_H
#define ETCD_RAFT_INTERNAL_H

#include "controlplane/etcd/raft/raft.h"

/* ---- log.c: entries in memory; snapshot_index < stable, handed, applied <= last --------------------------------- */
struct raft_log {
    struct raft_entry *entries; /* entries[head + i] has index snapshot_index + 1 + i */
    size_t head, len, cap;
    uint64_t snapshot_index, snapshot_term; /* what precedes the first entry */
    uint64_t stable;    /* durable up to here */
    uint64_t committed; /* may run ahead of stable on a leader */
    uint64_t handed;    /* given to the caller to apply */
    uint64_t applied;   /* the caller said so */
    size_t bytes;       /* data held */
};
void raft_log_done(struct raft_log *log);
uint64_t raft_log_last(const struct raft_log *log);
bool raft_log_term(const struct raft_log *log, uint64_t index, uint64_t *ret_term); /* false: compacted or beyond */
bool raft_log_matches(const struct raft_log *log, uint64_t index, uint64_t term);
const struct raft_entry *raft_log_at(const struct raft_log *log, uint64_t index); /* must exist */
void raft_log_push(struct raft_log *log, const struct raft_entry *entry);         /* at last + 1; shares data */
void raft_log_truncate(struct raft_log *log, uint64_t from);                      /* drops from and on */
void raft_log_compact(struct raft_log *log, uint64_t index);
void raft_log_restore(struct raft_log *log, uint64_t index, uint64_t term); /* empty, starting after index */
/* The largest index <= index whose term is at most term (or is unknown: then *ret_term is 0). */
uint64_t raft_log_conflict_by_term(const struct raft_log *log, uint64_t index, uint64_t term, uint64_t *ret_term);
/* Copies [from, to] cut at bytes_max of data, at least one; *ret_bytes gets the data copied. */
size_t raft_log_copy(const struct raft_log *log, uint64_t from, uint64_t to, size_t bytes_max, size_t count_max,
                     struct raft_entry **ret, size_t *ret_bytes);
static inline size_t raft_entry_bytes(const struct raft_entry *entry) { return entry->data ? entry->data->len : 0; }

/* ---- progress.c: the leader's view of one member ---------------------------------------------------------------- */
struct raft_inflight {
    uint64_t index; /* last entry of the message */
    size_t bytes;
};
struct raft_progress {
    uint64_t id, match, next;
    enum raft_progress_state state;
    uint64_t pending_snapshot;
    bool recent_active;
    bool paused;         /* one message is out and an answer is awaited */
    uint64_t read_acked; /* last read round it answered */
    uint64_t commit;     /* what it knows to be committed */
    struct raft_inflight *inflight; /* ring of inflight_cap, made when first needed */
    size_t inflight_head, inflight_len, inflight_cap, inflight_bytes;
    size_t inflight_messages_max, inflight_bytes_max;
};
void raft_progress_init(struct raft_progress *progress, uint64_t id, uint64_t next, size_t messages_max,
                        size_t bytes_max);
void raft_progress_done(struct raft_progress *progress);
void raft_progress_probe(struct raft_progress *progress);
void raft_progress_replicate(struct raft_progress *progress);
void raft_progress_snapshot(struct raft_progress *progress, uint64_t index);
bool raft_progress_is_paused(const struct raft_progress *progress);
bool raft_progress_inflight_full(const struct raft_progress *progress);
void raft_progress_sent(struct raft_progress *progress, size_t entries_len, size_t bytes);
bool raft_progress_acked(struct raft_progress *progress, uint64_t index);  /* true: match grew */
void raft_progress_free_to(struct raft_progress *progress, uint64_t index);
bool raft_progress_rejected(struct raft_progress *progress, uint64_t rejected, uint64_t hint); /* false: stale */

/* ---- quorum.c (thesis 4.3: a joint configuration needs both majorities) ----------------------------------------- */
enum raft_vote_result { RAFT_VOTE_PENDING, RAFT_VOTE_WON, RAFT_VOTE_LOST };
/* The largest value that a quorum has reached; UINT64_MAX without voters. */
uint64_t raft_quorum_value(const struct raft_conf_state *conf, uint64_t (*value)(const void *ctx, uint64_t id),
                           const void *ctx);
enum raft_vote_result raft_quorum_vote(const struct raft_conf_state *conf, const struct raft_id_set *granted,
                                       const struct raft_id_set *rejected);

/* ---- the core --------------------------------------------------------------------------------------------------- */
struct raft_messages {
    struct raft_message *items;
    size_t len, cap;
};
struct raft_read {
    uint64_t round; /* 0: waits for the leader's first commit of its term */
    uint64_t index, from, read_id;
};
struct raft {
    uint64_t id, term, vote, leader;
    enum raft_role role;
    struct raft_conf_state conf;
    struct raft_log log;
    struct raft_progress progress[RAFT_MEMBERS_MAX];
    size_t progress_len;
    struct raft_id_set granted, refused; /* votes of this election */

    unsigned election_ticks, heartbeat_ticks, election_elapsed, heartbeat_elapsed, election_timeout;
    bool pre_vote, check_quorum;
    size_t message_bytes_max, inflight_messages_max, inflight_bytes_max, uncommitted_bytes_max, apply_bytes_max;
    uint64_t (*random)(void *ctx, uint64_t bound);
    void *random_ctx;

    uint64_t transferee;         /* leader: who is to take over */
    uint64_t removed_index;      /* leader: the change that removed it; 0: it is a voter */
    uint64_t pending_conf_index; /* leader: no change is proposed until this is applied */
    size_t uncommitted_bytes;    /* leader: proposed in this term and not committed */

    struct raft_read *reads; /* leader: FIFO of reads_len <= RAFT_READS_MAX */
    size_t reads_len, reads_cap;
    uint64_t read_round; /* the last round broadcast in this term */
    bool read_due;       /* reads of round read_round + 1 wait for their broadcast */

    struct raft_messages now, after; /* collected for the next ready */
    struct raft_read_state *read_states;
    size_t read_states_len, read_states_cap;
    struct raft_snapshot *snapshot; /* to install */

    bool in_ready;
    struct raft_ready ready;
    struct raft_messages ready_now, ready_after;
    struct raft_snapshot *ready_snapshot;
    struct raft_hard_state saved;              /* what the last ready had */
    struct { uint64_t leader, term; enum raft_role role; } told;
    uint64_t ready_last, ready_last_term; /* end of the entries being persisted */
};

struct raft_progress *raft_progress_of(struct raft *raft, uint64_t id); /* NULL for a stranger */
bool raft_is_sole_voter(const struct raft *raft);
void raft_send(struct raft *raft, struct raft_message *message); /* takes what message owns */

/* election.c */
void raft_become_follower(struct raft *raft, uint64_t term, uint64_t leader);
void raft_elect(struct raft *raft, bool transfer); /* starts an election if this member may lead */
bool raft_may_campaign(const struct raft *raft, struct kp_error *error);
void raft_grant_own_vote(struct raft *raft);
void raft_learn_commit(struct raft *raft, const struct raft_message *message);
void raft_on_vote(struct raft *raft, const struct raft_message *message);
void raft_on_vote_resp(struct raft *raft, const struct raft_message *message);
void raft_poll(struct raft *raft, uint64_t from, bool granted);

/* replicate.c: the leader's side */
bool raft_leader_append(struct raft *raft, const struct raft_entry *entries, size_t len, bool bounded);
bool raft_maybe_commit(struct raft *raft);
bool raft_send_append(struct raft *raft, struct raft_progress *progress, bool even_empty);
void raft_broadcast_append(struct raft *raft);
void raft_broadcast_heartbeat(struct raft *raft);
void raft_self_stable(struct raft *raft);
void raft_on_append_resp(struct raft *raft, const struct raft_message *message);
void raft_on_heartbeat_resp(struct raft *raft, const struct raft_message *message);
void raft_commit_to(struct raft *raft, uint64_t index);

/* follow.c: the follower's side */
int raft_on_append(struct raft *raft, const struct raft_message *message, struct kp_error *error);
int raft_on_heartbeat(struct raft *raft, const struct raft_message *message, struct kp_error *error);
void raft_on_snapshot(struct raft *raft, const struct raft_message *message);

/* read.c */
int raft_leader_read(struct raft *raft, uint64_t from, uint64_t read_id, struct kp_error *error);
void raft_reads_flush(struct raft *raft);     /* broadcasts the round that is due */
void raft_reads_release(struct raft *raft);   /* answers what a quorum has confirmed */
void raft_reads_committed(struct raft *raft); /* the first commit of the term: those waiting get their round */
void raft_reads_drop(struct raft *raft);
void raft_read_done(struct raft *raft, uint64_t read_id, uint64_t index);

/* propose.c */
void raft_on_propose(struct raft *raft, const struct raft_message *message);
void raft_leader_transfer(struct raft *raft, uint64_t to);
void raft_maybe_leave_joint(struct raft *raft);

/* membership.c */
void raft_switch_conf(struct raft *raft, const struct raft_conf_state *conf);
void raft_maybe_retire(struct raft *raft); /* a removed leader whose work is done steps down */

#endif
