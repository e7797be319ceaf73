/* Elections: time, campaigns and votes (thesis 3.4, 6.2, 9.6).

        +----------+  timeout   +---------------+  quorum would vote   +-----------+  quorum voted   +--------+
        | follower | ---------> | pre-candidate | -------------------> | candidate | --------------> | leader |
        +----------+            +---------------+                      +-----------+                 +--------+
             ^   (without pre-vote, and on leadership transfer, straight to candidate)                    |
             +---- a higher term, a leader of this term, a lost vote, no quorum (check-quorum) -----------+ */
#include "controlplane/etcd/raft/raft_internal.h"

static void set_role(struct raft *raft, enum raft_role role)
{
    static const bool legal[4][4] = {
        [RAFT_FOLLOWER] = {[RAFT_FOLLOWER] = true, [RAFT_PRE_CANDIDATE] = true, [RAFT_CANDIDATE] = true},
        [RAFT_PRE_CANDIDATE] = {[RAFT_FOLLOWER] = true, [RAFT_PRE_CANDIDATE] = true, [RAFT_CANDIDATE] = true},
        [RAFT_CANDIDATE] = {[RAFT_FOLLOWER] = true, [RAFT_PRE_CANDIDATE] = true, [RAFT_CANDIDATE] = true,
                            [RAFT_LEADER] = true},
        [RAFT_LEADER] = {[RAFT_FOLLOWER] = true},
    };
    KP_ASSERT(legal[raft->role][role]);
    raft->role = role;
}

/* What every change of role or term starts with. */
static void reset(struct raft *raft, uint64_t term)
{
    KP_ASSERT(term >= raft->term);
    if (term != raft->term) {
        raft->term = term;
        raft->vote = 0;
    }
    raft->leader = 0;
    raft->election_elapsed = raft->heartbeat_elapsed = 0;
    /* Spread so that split votes are rare (thesis 3.4). */
    raft->election_timeout = raft->election_ticks + (unsigned)raft->random(raft->random_ctx, raft->election_ticks);
    raft->transferee = 0;
    raft->pending_conf_index = raft->removed_index = 0;
    raft->uncommitted_bytes = 0;
    raft->granted.len = raft->refused.len = 0;
    raft_reads_drop(raft);
    for (size_t i = 0; i < raft->progress_len; i++)
        raft_progress_init(&raft->progress[i], raft->progress[i].id, raft_log_last(&raft->log) + 1,
                           raft->inflight_messages_max, raft->inflight_bytes_max);
}

void raft_become_follower(struct raft *raft, uint64_t term, uint64_t leader)
{
    reset(raft, term);
    set_role(raft, RAFT_FOLLOWER);
    raft->leader = leader;
}

static void become_leader(struct raft *raft)
{
    reset(raft, raft->term);
    set_role(raft, RAFT_LEADER);
    raft->leader = raft->id;
    struct raft_progress *self = raft_progress_of(raft, raft->id);
    KP_ASSERT(self);
    self->state = RAFT_REPLICATE;
    self->recent_active = true;
    self->match = raft->log.stable;
    /* An unapplied change of membership may be anywhere in the tail: wait for all of it before the next. */
    raft->pending_conf_index = raft_log_last(&raft->log);
    /* Only an entry of its own term lets a leader commit what it inherited (thesis 3.6.2). */
    struct raft_entry noop = {.type = RAFT_ENTRY_NORMAL};
    bool appended = raft_leader_append(raft, &noop, 1, false);
    KP_ASSERT(appended);
    raft_broadcast_append(raft);
}

bool raft_may_campaign(const struct raft *raft, struct kp_error *error)
{
    const struct raft_log *log = &raft->log;
    const char *why = NULL;
    if (raft->role == RAFT_LEADER)
        why = "it leads already";
    else if (!raft_conf_votes(&raft->conf, raft->id))
        why = "it is no voter";
    else if (log->applied < log->snapshot_index)
        why = "a snapshot is not installed yet";
    /* Its configuration is behind the log's: the majority it would count may be the wrong one (thesis 4.1). */
    for (uint64_t i = log->applied + 1; !why && i <= log->committed; i++)
        if (raft_log_at(log, i)->type == RAFT_ENTRY_CONF_CHANGE)
            why = "a committed membership change is not applied yet";
    if (why)
        kp_fail(error, KP_EINVALID, "raft: member %llx cannot campaign: %s", (unsigned long long)raft->id, why);
    return !why;
}

static void request_votes(struct raft *raft, enum raft_message_type type, uint64_t term, bool transfer)
{
    uint64_t last = raft_log_last(&raft->log), last_term = 0;
    raft_log_term(&raft->log, last, &last_term);
    for (size_t i = 0; i < raft->progress_len; i++) {
        uint64_t id = raft->progress[i].id;
        if (id == raft->id || !raft_conf_votes(&raft->conf, id))
            continue;
        raft_send(raft, &(struct raft_message){.type = type,
                                               .to = id,
                                               .term = term,
                                               .index = last,
                                               .log_term = last_term,
                                               .commit = raft->log.committed,
                                               .commit_term = raft_term_of(raft, raft->log.committed),
                                               .force = transfer});
    }
}

static void become_candidate(struct raft *raft, bool transfer)
{
    reset(raft, raft->term + 1);
    set_role(raft, RAFT_CANDIDATE);
    raft->vote = raft->id;
    /* The own vote counts when it is durable: raft_advance grants it. */
    request_votes(raft, RAFT_MSG_VOTE, raft->term, transfer);
}

void raft_elect(struct raft *raft, bool transfer)
{
    if (!raft_may_campaign(raft, NULL))
        return;
    /* A transfer was wished for by the leader itself, so it may disturb (thesis 3.10, 4.2.3). */
    if (!raft->pre_vote || transfer || raft_is_sole_voter(raft)) {
        become_candidate(raft, transfer);
        return;
    }
    /* Asking first keeps a member that was cut off from forcing its higher term upon the others (thesis 9.6). */
    uint64_t term = raft->term;
    reset(raft, term);
    set_role(raft, RAFT_PRE_CANDIDATE);
    request_votes(raft, RAFT_MSG_PRE_VOTE, term + 1, false);
    raft_poll(raft, raft->id, true);
}

int raft_campaign(struct raft *raft, struct kp_error *error)
{
    if (!raft_may_campaign(raft, error))
        return error ? error->code : KP_EINVALID;
    raft_elect(raft, false);
    return 0;
}

void raft_poll(struct raft *raft, uint64_t from, bool granted)
{
    if (!raft_progress_of(raft, from))
        return; /* no member any more */
    if (!raft_id_set_has(&raft->granted, from) && !raft_id_set_has(&raft->refused, from))
        raft_id_set_add(granted ? &raft->granted : &raft->refused, from);
    switch (raft_quorum_vote(&raft->conf, &raft->granted, &raft->refused)) {
    case RAFT_VOTE_WON:
        if (raft->role == RAFT_PRE_CANDIDATE)
            become_candidate(raft, false);
        else
            become_leader(raft);
        break;
    case RAFT_VOTE_LOST:
        raft_become_follower(raft, raft->term, 0);
        break;
    case RAFT_VOTE_PENDING:
        break;
    }
}

void raft_grant_own_vote(struct raft *raft) { raft_poll(raft, raft->id, true); }

/* Configurations take effect when applied, so a member that missed a commit may ask a majority that is no more, and be
   refused by a removed member with a longer log for ever. What others know to be committed gets it out of there. */
void raft_learn_commit(struct raft *raft, const struct raft_message *message)
{
    if (raft->role == RAFT_LEADER || message->commit <= raft->log.committed || message->commit_term == 0 ||
        !raft_log_matches(&raft->log, message->commit, message->commit_term))
        return;
    raft_commit_to(raft, message->commit);
    /* Its campaign may have counted on the old configuration. */
    if (raft->role != RAFT_FOLLOWER && !raft_may_campaign(raft, NULL))
        raft_become_follower(raft, raft->term, 0);
}

void raft_on_vote(struct raft *raft, const struct raft_message *message)
{
    bool pre = message->type == RAFT_MSG_PRE_VOTE;
    uint64_t last = raft_log_last(&raft->log), last_term = 0;
    raft_log_term(&raft->log, last, &last_term);
    bool up_to_date =
        message->log_term > last_term || (message->log_term == last_term && message->index >= last); /* thesis 3.6.1 */
    bool free_to_vote = raft->vote == message->from || (raft->vote == 0 && raft->leader == 0) ||
                        (pre && message->term > raft->term);
    /* Of two with the same log that ask at once the higher id asks on; or both would stand in one term and split the votes. */
    bool rival = pre && raft->role == RAFT_PRE_CANDIDATE && message->log_term == last_term && message->index == last &&
                 raft->id > message->from;
    bool grant = up_to_date && free_to_vote && !rival;
    bool silent = raft->leader == 0 || raft->election_elapsed >= raft->election_ticks;
    /* A learner votes too when asked: who asks may know of its promotion before itself does (thesis 4.2.2). */
    raft_send(raft, &(struct raft_message){.type = pre ? RAFT_MSG_PRE_VOTE_RESP : RAFT_MSG_VOTE_RESP,
                                           .to = message->from,
                                           .term = grant ? message->term : raft->term,
                                           .commit = raft->log.committed,
                                           .commit_term = raft_term_of(raft, raft->log.committed),
                                           .reject = !grant});
    if (grant && !pre) {
        raft->election_elapsed = 0;
        raft->vote = message->from;
    }
    /* Who asks cannot win, so the better one asks in its place, without waiting for its own timeout: the leader is gone. Better
       is an order of logs and ids, so this goes round no circle. */
    if (pre && message->term > raft->term && silent && (rival || !up_to_date) &&
        (raft->role == RAFT_FOLLOWER || raft->role == RAFT_PRE_CANDIDATE))
        raft_elect(raft, false);
}

void raft_on_vote_resp(struct raft *raft, const struct raft_message *message)
{
    bool pre = message->type == RAFT_MSG_PRE_VOTE_RESP;
    if (raft->role != (pre ? RAFT_PRE_CANDIDATE : RAFT_CANDIDATE))
        return;
    if (pre && !message->reject && message->term != raft->term + 1)
        return; /* an answer to an older campaign */
    raft_poll(raft, message->from, !message->reject);
}

/* ---- time ------------------------------------------------------------------------------------------------------- */
static bool quorum_is_active(struct raft *raft)
{
    struct raft_id_set active = {0}, silent = {0};
    for (size_t i = 0; i < raft->progress_len; i++) {
        struct raft_progress *progress = &raft->progress[i];
        raft_id_set_add(progress->recent_active || progress->id == raft->id ? &active : &silent, progress->id);
        progress->recent_active = false;
    }
    return raft_quorum_vote(&raft->conf, &active, &silent) == RAFT_VOTE_WON;
}

static void tick_leader(struct raft *raft)
{
    raft->heartbeat_elapsed++;
    raft->election_elapsed++;
    if (raft->election_elapsed >= raft->election_ticks) {
        raft->election_elapsed = 0;
        /* Cut off from a quorum it can commit nothing, and its clients should go elsewhere (thesis 6.2). */
        if (raft->check_quorum && !quorum_is_active(raft)) {
            raft_become_follower(raft, raft->term, 0);
            return;
        }
        raft->transferee = 0; /* it took too long: serve on (thesis 3.10) */
    }
    if (raft->heartbeat_elapsed >= raft->heartbeat_ticks) {
        raft->heartbeat_elapsed = 0;
        raft_broadcast_heartbeat(raft);
    }
}

void raft_tick(struct raft *raft)
{
    if (raft->role == RAFT_LEADER) {
        tick_leader(raft);
        return;
    }
    raft->election_elapsed++;
    if (raft->election_elapsed >= raft->election_timeout && raft_conf_votes(&raft->conf, raft->id)) {
        raft->election_elapsed = 0;
        raft_elect(raft, false);
    }
}
