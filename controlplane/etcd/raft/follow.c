/* The follower's side of replication: appends, heartbeats and snapshots from the leader (thesis 3.5, chapter 5). */
#include "controlplane/etcd/raft/raft_internal.h"

static int check_entries(const struct raft_message *message, struct kp_error *error)
{
    uint64_t index = message->index, term = message->log_term;
    for (size_t i = 0; i < message->entries_len; i++) {
        const struct raft_entry *entry = &message->entries[i];
        if (entry->index != index + 1 || entry->term < term || entry->term > message->term || entry->term == 0)
            return kp_fail(error, KP_EBADREQUEST, "raft: append from %llx: entry %llu of term %llu cannot follow %llu of term %llu",
                           (unsigned long long)message->from, (unsigned long long)entry->index,
                           (unsigned long long)entry->term, (unsigned long long)index, (unsigned long long)term);
        index = entry->index;
        term = entry->term;
    }
    return 0;
}

static void refuse(struct raft *raft, const struct raft_message *message)
{
    /* Where the leader should look next: the last entry here whose term is not above the one it asked about. */
    uint64_t term, hint = KP_MIN(message->index, raft_log_last(&raft->log));
    hint = raft_log_conflict_by_term(&raft->log, hint, message->log_term, &term);
    raft_send(raft, &(struct raft_message){.type = RAFT_MSG_APPEND_RESP,
                                           .to = message->from,
                                           .index = message->index,
                                           .reject = true,
                                           .reject_hint = hint,
                                           .log_term = term});
}

static void accept(struct raft *raft, uint64_t to, uint64_t index)
{
    raft_send(raft, &(struct raft_message){.type = RAFT_MSG_APPEND_RESP, .to = to, .index = index,
                                           .commit = raft->log.committed});
}

int raft_on_append(struct raft *raft, const struct raft_message *message, struct kp_error *error)
{
    struct raft_log *log = &raft->log;
    int code = check_entries(message, error);
    if (code < 0)
        return code;
    if (message->index < log->committed) { /* old or duplicated: tell where this log is known to agree */
        accept(raft, message->from, log->committed);
        return 0;
    }
    if (!raft_log_matches(log, message->index, message->log_term)) {
        refuse(raft, message);
        return 0;
    }
    for (size_t i = 0; i < message->entries_len; i++) {
        const struct raft_entry *entry = &message->entries[i];
        if (raft_log_matches(log, entry->index, entry->term))
            continue;
        if (entry->index <= raft_log_last(log))
            raft_log_truncate(log, entry->index);
        raft_log_push(log, entry);
    }
    uint64_t last_new = message->index + message->entries_len;
    raft_commit_to(raft, KP_MIN(message->commit, last_new));
    accept(raft, message->from, last_new);
    return 0;
}

int raft_on_heartbeat(struct raft *raft, const struct raft_message *message, struct kp_error *error)
{
    if (message->commit > raft_log_last(&raft->log))
        return kp_fail(error, KP_ECORRUPT, "raft: leader %llx knows entry %llu to be here, but this log ends at %llu: "
                       "the member lost data it had acknowledged; remove it and add it anew",
                       (unsigned long long)message->from, (unsigned long long)message->commit,
                       (unsigned long long)raft_log_last(&raft->log));
    raft_commit_to(raft, message->commit);
    raft_send(raft, &(struct raft_message){
                        .type = RAFT_MSG_HEARTBEAT_RESP, .to = message->from, .context = message->context,
                        .commit = raft->log.committed});
    return 0;
}

static bool restore(struct raft *raft, const struct raft_snapshot *snapshot)
{
    struct raft_log *log = &raft->log;
    if (snapshot->index <= log->committed)
        return false;
    /* A configuration without this member would leave it outside for good: wait for a later image. */
    if (!raft_conf_has(&snapshot->conf, raft->id))
        return false;
    if (raft_log_matches(log, snapshot->index, snapshot->term)) {
        raft_commit_to(raft, snapshot->index); /* the entries are here: no image is needed */
        return false;
    }
    raft_log_restore(log, snapshot->index, snapshot->term);
    if (raft->snapshot)
        kp_blob_unref(raft->snapshot->data);
    else
        raft->snapshot = kp_malloc(sizeof(*raft->snapshot));
    *raft->snapshot = *snapshot;
    if (snapshot->data)
        kp_blob_ref(snapshot->data);
    raft_switch_conf(raft, &snapshot->conf);
    return true;
}

void raft_on_snapshot(struct raft *raft, const struct raft_message *message)
{
    bool restored = restore(raft, message->snapshot);
    accept(raft, message->from, restored ? raft_log_last(&raft->log) : raft->log.committed);
}
