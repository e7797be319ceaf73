/* The leader's side of log replication: append, count, commit, send on (thesis 3.5, 3.6.2, 10.2.1). */
#include "controlplane/etcd/raft/raft_internal.h"

bool raft_leader_append(struct raft *raft, const struct raft_entry *entries, size_t len, bool bounded)
{
    size_t bytes = 0;
    for (size_t i = 0; i < len; i++)
        bytes += raft_entry_bytes(&entries[i]);
    /* One proposal is let in whatever its size, or a large one could never pass. */
    if (bounded && bytes > 0 && raft->uncommitted_bytes > 0 &&
        raft->uncommitted_bytes + bytes > raft->uncommitted_bytes_max)
        return false;
    raft->uncommitted_bytes += bytes;
    for (size_t i = 0; i < len; i++) {
        struct raft_entry entry = entries[i];
        entry.term = raft->term;
        entry.index = raft_log_last(&raft->log) + 1;
        raft_log_push(&raft->log, &entry);
    }
    return true;
}

static uint64_t match_of(const void *ctx, uint64_t id)
{
    const struct raft *raft = ctx;
    for (size_t i = 0; i < raft->progress_len; i++)
        if (raft->progress[i].id == id)
            return raft->progress[i].match;
    return 0;
}

void raft_commit_to(struct raft *raft, uint64_t index)
{
    struct raft_log *log = &raft->log;
    KP_ASSERT(index <= raft_log_last(log));
    for (uint64_t i = log->committed + 1; i <= index; i++) {
        size_t bytes = raft_entry_bytes(raft_log_at(log, i));
        raft->uncommitted_bytes -= KP_MIN(bytes, raft->uncommitted_bytes); /* inherited entries were never added */
    }
    log->committed = KP_MAX(log->committed, index);
}

bool raft_maybe_commit(struct raft *raft)
{
    uint64_t index = raft_quorum_value(&raft->conf, match_of, raft);
    /* Counting replicas commits only entries of the own term; older ones follow with them (thesis 3.6.2). */
    if (index == UINT64_MAX || index <= raft->log.committed || !raft_log_matches(&raft->log, index, raft->term))
        return false;
    raft_commit_to(raft, index);
    raft_reads_committed(raft);
    return true;
}

static bool send_snapshot(struct raft *raft, struct raft_progress *progress)
{
    struct raft_log *log = &raft->log;
    /* An image is dear: not to a member that is not there. */
    if (!progress->recent_active)
        return false;
    struct raft_snapshot *snapshot = kp_calloc(1, sizeof(*snapshot));
    snapshot->index = log->applied;
    snapshot->conf = raft->conf;
    bool known = raft_log_term(log, log->applied, &snapshot->term);
    KP_ASSERT(known && log->applied > 0);
    raft_progress_snapshot(progress, snapshot->index);
    raft_send(raft, &(struct raft_message){.type = RAFT_MSG_SNAPSHOT, .to = progress->id, .snapshot = snapshot});
    return true;
}

bool raft_send_append(struct raft *raft, struct raft_progress *progress, bool even_empty)
{
    if (raft_progress_is_paused(progress))
        return false;
    struct raft_log *log = &raft->log;
    uint64_t previous = progress->next - 1, previous_term;
    if (!raft_log_term(log, previous, &previous_term))
        return send_snapshot(raft, progress);
    struct raft_entry *entries = NULL;
    size_t bytes = 0, len = 0;
    if (progress->state != RAFT_REPLICATE || !raft_progress_inflight_full(progress))
        len = raft_log_copy(log, progress->next, raft_log_last(log), raft->message_bytes_max,
                            RAFT_MESSAGE_ENTRIES_MAX, &entries, &bytes);
    if (len == 0 && !even_empty)
        return false;
    raft_send(raft, &(struct raft_message){.type = RAFT_MSG_APPEND,
                                           .to = progress->id,
                                           .index = previous,
                                           .log_term = previous_term,
                                           .commit = log->committed,
                                           .entries = entries,
                                           .entries_len = len});
    raft_progress_sent(progress, len, bytes);
    return true;
}

void raft_broadcast_append(struct raft *raft)
{
    for (size_t i = 0; i < raft->progress_len; i++)
        if (raft->progress[i].id != raft->id)
            raft_send_append(raft, &raft->progress[i], true);
}

void raft_broadcast_heartbeat(struct raft *raft)
{
    for (size_t i = 0; i < raft->progress_len; i++) {
        const struct raft_progress *progress = &raft->progress[i];
        if (progress->id == raft->id)
            continue;
        /* Not beyond what the follower is known to hold: its tail may differ from this log. */
        raft_send(raft, &(struct raft_message){.type = RAFT_MSG_HEARTBEAT,
                                               .to = progress->id,
                                               .commit = KP_MIN(progress->match, raft->log.committed),
                                               .context = raft->read_round});
    }
}

void raft_self_stable(struct raft *raft)
{
    struct raft_progress *self = raft_progress_of(raft, raft->id);
    if (!self) /* removed; it leads only until that is applied */
        return;
    if (raft_progress_acked(self, raft->log.stable) && raft_maybe_commit(raft))
        raft_broadcast_append(raft);
}

static void on_append_refused(struct raft *raft, struct raft_progress *progress, const struct raft_message *message)
{
    uint64_t hint = message->reject_hint, term;
    /* Skip a whole term of conflicting entries at a time, not one entry (thesis 3.5, last paragraphs). */
    if (message->log_term > 0)
        hint = raft_log_conflict_by_term(&raft->log, KP_MIN(hint, raft_log_last(&raft->log)), message->log_term, &term);
    if (!raft_progress_rejected(progress, message->index, hint))
        return;
    if (progress->state == RAFT_REPLICATE)
        raft_progress_probe(progress);
    raft_send_append(raft, progress, true);
}

static void on_append_accepted(struct raft *raft, struct raft_progress *progress, uint64_t index)
{
    bool was_paused = raft_progress_is_paused(progress);
    bool grew = raft_progress_acked(progress, index);
    if (!grew && !(progress->match == index && progress->state == RAFT_PROBE))
        return;
    if (progress->state == RAFT_PROBE)
        raft_progress_replicate(progress);
    else if (progress->state == RAFT_SNAPSHOT && progress->match + 1 >= raft_first_index(raft))
        raft_progress_replicate(progress); /* near enough to go on from the log */
    else if (progress->state == RAFT_REPLICATE) {
        raft_progress_free_to(progress, index);
        progress->paused = raft_progress_inflight_full(progress);
    }
    uint64_t id = progress->id;
    if (raft_maybe_commit(raft))
        raft_broadcast_append(raft);
    else if (was_paused)
        raft_send_append(raft, progress, true); /* it may have missed a commit while paused */
    while (raft_send_append(raft, progress, false))
        continue;
    if (id == raft->transferee && progress->match == raft_log_last(&raft->log))
        raft_send(raft, &(struct raft_message){.type = RAFT_MSG_TIMEOUT_NOW, .to = id});
}

void raft_on_append_resp(struct raft *raft, const struct raft_message *message)
{
    struct raft_progress *progress = raft_progress_of(raft, message->from);
    if (!progress || (!message->reject && message->index > raft_log_last(&raft->log)))
        return;
    progress->recent_active = true;
    progress->commit = KP_MAX(progress->commit, message->commit);
    if (message->reject)
        on_append_refused(raft, progress, message);
    else
        on_append_accepted(raft, progress, message->index);
    raft_maybe_retire(raft);
}

void raft_on_heartbeat_resp(struct raft *raft, const struct raft_message *message)
{
    struct raft_progress *progress = raft_progress_of(raft, message->from);
    if (!progress)
        return;
    progress->recent_active = true;
    /* Something sent was lost, or the window is full of lost messages: an append, if empty, finds out. */
    if (progress->state != RAFT_SNAPSHOT)
        progress->paused = false;
    if (progress->match < raft_log_last(&raft->log) || progress->state == RAFT_PROBE)
        raft_send_append(raft, progress, true);
    if (message->context > progress->read_acked && message->context <= raft->read_round) {
        progress->read_acked = message->context;
        raft_reads_release(raft);
    }
    progress->commit = KP_MAX(progress->commit, message->commit);
    raft_maybe_retire(raft);
}

void raft_report_unreachable(struct raft *raft, uint64_t id)
{
    struct raft_progress *progress = raft_progress_of(raft, id);
    if (raft->role == RAFT_LEADER && progress && id != raft->id && progress->state == RAFT_REPLICATE)
        raft_progress_probe(progress);
}

void raft_report_snapshot(struct raft *raft, uint64_t id, bool ok)
{
    struct raft_progress *progress = raft_progress_of(raft, id);
    if (raft->role != RAFT_LEADER || !progress || progress->state != RAFT_SNAPSHOT)
        return;
    if (!ok)
        progress->pending_snapshot = 0;
    raft_progress_probe(progress);
    progress->paused = true; /* until it answers the image, or the next heartbeat */
}
