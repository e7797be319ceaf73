/* The life of a core: made from what the disk holds, drained through readies, looked at. */
#include "controlplane/etcd/raft/raft_internal.h"

#define ELECTION_TICKS_DEFAULT 10
#define MESSAGE_BYTES_DEFAULT ((size_t)1 << 20)
#define INFLIGHT_BYTES_DEFAULT ((size_t)64 << 20)
#define UNCOMMITTED_BYTES_DEFAULT ((size_t)256 << 20)
#define APPLY_BYTES_DEFAULT ((size_t)16 << 20)

struct raft_progress *raft_progress_of(struct raft *raft, uint64_t id)
{
    for (size_t i = 0; i < raft->progress_len; i++)
        if (raft->progress[i].id == id)
            return &raft->progress[i];
    return NULL;
}

bool raft_is_sole_voter(const struct raft *raft)
{
    return raft->conf.voters.len == 1 && raft->conf.voters.ids[0] == raft->id && !raft_conf_is_joint(&raft->conf);
}

static bool is_promise(enum raft_message_type type)
{
    /* What these say is true only once term, vote and entries are durable (thesis 3.8, 10.2.1). */
    return type == RAFT_MSG_APPEND_RESP || type == RAFT_MSG_VOTE || type == RAFT_MSG_VOTE_RESP ||
           type == RAFT_MSG_PRE_VOTE_RESP;
}

static bool is_request(enum raft_message_type type)
{
    return type == RAFT_MSG_PROPOSE || type == RAFT_MSG_READ_INDEX || type == RAFT_MSG_TRANSFER_LEADER;
}

void raft_send(struct raft *raft, struct raft_message *message)
{
    KP_ASSERT(message->to != raft->id && message->to != 0);
    message->from = raft->id;
    if (message->term == 0 && !is_request(message->type))
        message->term = raft->term;
    struct raft_messages *queue = is_promise(message->type) ? &raft->after : &raft->now;
    if (queue->len == queue->cap) {
        queue->cap = queue->cap ? queue->cap * 2 : 16;
        queue->items = kp_realloc(queue->items, queue->cap * sizeof(*queue->items));
    }
    queue->items[queue->len++] = *message;
    *message = (struct raft_message){0};
}

static void messages_clear(struct raft_messages *queue)
{
    for (size_t i = 0; i < queue->len; i++)
        raft_message_done(&queue->items[i]);
    queue->len = 0;
}

static int check_config(const struct raft_config *config, struct kp_error *error)
{
    unsigned election = config->election_ticks ? config->election_ticks : ELECTION_TICKS_DEFAULT;
    if (config->id == 0)
        return kp_fail(error, KP_EINVALID, "raft: 0 is no member id");
    if (!config->random)
        return kp_fail(error, KP_EINVALID, "raft: a random function is required");
    if (config->heartbeat_ticks >= election)
        return kp_fail(error, KP_EINVALID, "raft: heartbeat ticks %u must be below election ticks %u",
                       config->heartbeat_ticks, election);
    if (config->inflight_messages_max > RAFT_INFLIGHT_MAX)
        return kp_fail(error, KP_EINVALID, "raft: at most %d messages in flight, not %zu", RAFT_INFLIGHT_MAX,
                       config->inflight_messages_max);
    uint64_t last = config->snapshot_index, term = config->snapshot_term;
    for (size_t i = 0; i < config->entries_len; i++) {
        const struct raft_entry *entry = &config->entries[i];
        if (entry->index != last + 1 || entry->term < term || entry->term == 0)
            return kp_fail(error, KP_EINVALID, "raft: entry %llu of term %llu follows entry %llu of term %llu",
                           (unsigned long long)entry->index, (unsigned long long)entry->term,
                           (unsigned long long)last, (unsigned long long)term);
        last = entry->index;
        term = entry->term;
    }
    if (config->hard_state.commit > last)
        return kp_fail(error, KP_ECORRUPT, "raft: commit index %llu lies beyond the log, which ends at %llu",
                       (unsigned long long)config->hard_state.commit, (unsigned long long)last);
    if (config->applied > last)
        return kp_fail(error, KP_ECORRUPT, "raft: the state machine holds entry %llu, the log ends at %llu",
                       (unsigned long long)config->applied, (unsigned long long)last);
    return 0;
}

static void load(struct raft *raft, const struct raft_config *config)
{
    struct raft_log *log = &raft->log;
    log->snapshot_index = config->snapshot_index;
    log->snapshot_term = config->snapshot_term;
    for (size_t i = 0; i < config->entries_len; i++)
        raft_log_push(log, &config->entries[i]);
    log->stable = raft_log_last(log);
    /* The state machine applies only what is committed, so applied is a lower bound of commit. */
    log->applied = log->handed = KP_MAX(config->applied, config->snapshot_index);
    log->committed = KP_MAX(config->hard_state.commit, log->applied);
    uint64_t last_term = 0;
    raft_log_term(log, raft_log_last(log), &last_term);
    raft->term = config->hard_state.term;
    raft->vote = config->hard_state.vote;
    if (raft->term < last_term) { /* a first start from a snapshot has no hard state yet */
        raft->term = last_term;
        raft->vote = 0;
    }
}

int raft_new(const struct raft_config *given, struct raft **ret, struct kp_error *error)
{
    struct raft_config start = *given, *config = &start;
    if (config->conf.voters.len > 0 && config->snapshot_index == 0) {
        config->snapshot_index = RAFT_INITIAL_INDEX;
        config->snapshot_term = RAFT_INITIAL_TERM;
    }
    int code = check_config(config, error);
    if (code < 0)
        return code;
    struct raft *raft = kp_calloc(1, sizeof(*raft));
    raft->id = config->id;
    raft->election_ticks = config->election_ticks ? config->election_ticks : ELECTION_TICKS_DEFAULT;
    raft->heartbeat_ticks = config->heartbeat_ticks ? config->heartbeat_ticks : 1;
    raft->pre_vote = config->pre_vote;
    raft->check_quorum = config->check_quorum;
    raft->message_bytes_max = config->message_bytes_max ? config->message_bytes_max : MESSAGE_BYTES_DEFAULT;
    raft->inflight_messages_max = config->inflight_messages_max ? config->inflight_messages_max : RAFT_INFLIGHT_MAX;
    raft->inflight_bytes_max = config->inflight_bytes_max ? config->inflight_bytes_max : INFLIGHT_BYTES_DEFAULT;
    raft->uncommitted_bytes_max =
        config->uncommitted_bytes_max ? config->uncommitted_bytes_max : UNCOMMITTED_BYTES_DEFAULT;
    raft->apply_bytes_max = config->apply_bytes_max ? config->apply_bytes_max : APPLY_BYTES_DEFAULT;
    raft->random = config->random;
    raft->random_ctx = config->random_ctx;
    load(raft, config);
    raft->saved = (struct raft_hard_state){raft->term, raft->vote, raft->log.committed};
    raft_become_follower(raft, raft->term, 0);
    raft->told.role = RAFT_FOLLOWER;
    raft->told.term = raft->term;
    raft_switch_conf(raft, &config->conf);
    *ret = raft;
    return 0;
}

void raft_free(struct raft *raft)
{
    if (!raft)
        return;
    if (raft->in_ready) {
        raft_entries_free((struct raft_entry *)raft->ready.entries, raft->ready.entries_len);
        raft_entries_free((struct raft_entry *)raft->ready.committed, raft->ready.committed_len);
        free((void *)raft->ready.reads);
    }
    struct raft_messages *queues[] = {&raft->now, &raft->after, &raft->ready_now, &raft->ready_after};
    for (size_t i = 0; i < KP_ARRAY_LEN(queues); i++) {
        messages_clear(queues[i]);
        free(queues[i]->items);
    }
    struct raft_snapshot *snapshots[] = {raft->snapshot, raft->ready_snapshot};
    for (size_t i = 0; i < KP_ARRAY_LEN(snapshots); i++) {
        if (snapshots[i])
            kp_blob_unref(snapshots[i]->data);
        free(snapshots[i]);
    }
    for (size_t i = 0; i < raft->progress_len; i++)
        raft_progress_done(&raft->progress[i]);
    raft_log_done(&raft->log);
    free(raft->reads);
    free(raft->read_states);
    free(raft);
}

/* ---- ready and advance ------------------------------------------------------------------------------------------ */
static struct raft_hard_state hard_state_now(const struct raft *raft)
{
    return (struct raft_hard_state){raft->term, raft->vote, raft->log.committed};
}

static bool hard_state_equal(const struct raft_hard_state *a, const struct raft_hard_state *b)
{
    return a->term == b->term && a->vote == b->vote && a->commit == b->commit;
}

static uint64_t applicable(const struct raft *raft) { return KP_MIN(raft->log.committed, raft->log.stable); }

static bool soft_changed(const struct raft *raft)
{
    return raft->told.leader != raft->leader || raft->told.role != raft->role || raft->told.term != raft->term;
}

bool raft_has_ready(const struct raft *raft)
{
    struct raft_hard_state now = hard_state_now(raft);
    return raft->snapshot || raft_log_last(&raft->log) > raft->log.stable || raft->now.len || raft->after.len ||
           raft->read_states_len || raft->read_due || applicable(raft) > raft->log.handed || soft_changed(raft) ||
           !hard_state_equal(&now, &raft->saved);
}

const struct raft_ready *raft_ready(struct raft *raft)
{
    KP_ASSERT(!raft->in_ready);
    raft->in_ready = true;
    raft_reads_flush(raft);

    struct raft_ready *ready = &raft->ready;
    struct raft_log *log = &raft->log;
    struct raft_entry *entries, *committed;
    size_t bytes;
    *ready = (struct raft_ready){.leader = raft->leader, .role = raft->role, .term = raft->term};
    ready->soft_changed = soft_changed(raft);
    raft->told.leader = raft->leader;
    raft->told.role = raft->role;
    raft->told.term = raft->term;

    ready->hard_state = hard_state_now(raft);
    ready->hard_state_changed = !hard_state_equal(&ready->hard_state, &raft->saved);
    ready->entries_len = raft_log_copy(log, log->stable + 1, raft_log_last(log), SIZE_MAX, SIZE_MAX, &entries, &bytes);
    ready->entries = entries;
    raft->ready_last = raft_log_last(log);
    raft_log_term(log, raft->ready_last, &raft->ready_last_term);
    ready->snapshot = raft->ready_snapshot = KP_TAKE(raft->snapshot);
    ready->must_sync = ready->entries_len > 0 || ready->snapshot || ready->hard_state.term != raft->saved.term ||
                       ready->hard_state.vote != raft->saved.vote;
    raft->saved = ready->hard_state;
    ready->committed_len =
        raft_log_copy(log, log->handed + 1, applicable(raft), raft->apply_bytes_max, SIZE_MAX, &committed, &bytes);
    ready->committed = committed;
    log->handed += ready->committed_len;
    /* A member that came back with an older configuration than it acted upon could be elected by a majority that is
       no more: the commit that made it switch must survive. */
    for (size_t i = 0; i < ready->committed_len; i++)
        if (committed[i].type == RAFT_ENTRY_CONF_CHANGE)
            ready->must_sync = true;

    struct raft_messages swap = raft->ready_now;
    raft->ready_now = raft->now;
    raft->now = swap;
    swap = raft->ready_after;
    raft->ready_after = raft->after;
    raft->after = swap;
    ready->messages = raft->ready_now.items;
    ready->messages_len = raft->ready_now.len;
    ready->messages_after_sync = raft->ready_after.items;
    ready->messages_after_sync_len = raft->ready_after.len;
    ready->reads = KP_TAKE(raft->read_states);
    ready->reads_len = raft->read_states_len;
    raft->read_states_len = raft->read_states_cap = 0;
    return ready;
}

void raft_advance(struct raft *raft)
{
    KP_ASSERT(raft->in_ready);
    raft->in_ready = false;
    struct raft_ready *ready = &raft->ready;
    struct raft_hard_state durable = ready->hard_state;
    raft_entries_free((struct raft_entry *)ready->entries, ready->entries_len);
    raft_entries_free((struct raft_entry *)ready->committed, ready->committed_len);
    free((void *)ready->reads);
    messages_clear(&raft->ready_now);
    messages_clear(&raft->ready_after);
    if (raft->ready_snapshot)
        kp_blob_unref(raft->ready_snapshot->data);
    free(raft->ready_snapshot);
    raft->ready_snapshot = NULL;
    *ready = (struct raft_ready){0};

    /* What was replaced in memory while it was being written is not what is durable. */
    if (raft_log_matches(&raft->log, raft->ready_last, raft->ready_last_term))
        raft->log.stable = KP_MAX(raft->log.stable, raft->ready_last);
    if (raft->role == RAFT_LEADER)
        raft_self_stable(raft);
    else if (raft->role == RAFT_CANDIDATE && durable.term == raft->term && durable.vote == raft->id)
        raft_grant_own_vote(raft);
}

void raft_applied(struct raft *raft, uint64_t index)
{
    KP_ASSERT(index <= raft->log.handed);
    if (index <= raft->log.applied)
        return;
    raft->log.applied = index;
    raft_maybe_leave_joint(raft);
    /* A change of membership in the log kept the only voter from campaigning at its start. */
    if (raft_is_sole_voter(raft) && raft->role == RAFT_FOLLOWER)
        raft_elect(raft, false);
}

/* ---- looking at it ---------------------------------------------------------------------------------------------- */
void raft_compact(struct raft *raft, uint64_t index)
{
    KP_ASSERT(index <= raft->log.applied);
    raft_log_compact(&raft->log, index);
}

uint64_t raft_first_index(const struct raft *raft) { return raft->log.snapshot_index + 1; }
uint64_t raft_last_index(const struct raft *raft) { return raft_log_last(&raft->log); }
size_t raft_log_bytes(const struct raft *raft) { return raft->log.bytes; }

uint64_t raft_term_of(const struct raft *raft, uint64_t index)
{
    uint64_t term;
    return raft_log_term(&raft->log, index, &term) ? term : 0;
}

void raft_status(const struct raft *raft, struct raft_status *ret)
{
    *ret = (struct raft_status){
        .id = raft->id,
        .term = raft->term,
        .vote = raft->vote,
        .leader = raft->leader,
        .commit = raft->log.committed,
        .applied = raft->log.applied,
        .last_index = raft_log_last(&raft->log),
        .role = raft->role,
        .transferee = raft->transferee,
        .reads_pending = raft->reads_len,
        .conf = raft->conf,
    };
    if (raft->role != RAFT_LEADER)
        return;
    ret->progress_len = raft->progress_len;
    for (size_t i = 0; i < raft->progress_len; i++) {
        const struct raft_progress *progress = &raft->progress[i];
        ret->progress[i] = (struct raft_progress_status){
            .id = progress->id,
            .learner = !raft_conf_votes(&raft->conf, progress->id),
            .state = progress->state,
            .match = progress->match,
            .next = progress->next,
            .pending_snapshot = progress->pending_snapshot,
            .recent_active = progress->recent_active,
            .inflight = progress->inflight_len,
        };
    }
}
