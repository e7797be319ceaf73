/* What clients ask of the leader, directly or forwarded by a follower: proposals and leadership transfer. */
#include "controlplane/etcd/raft/raft_internal.h"

static int leader_accepts(const struct raft *raft, struct kp_error *error)
{
    if (raft->transferee != 0)
        return kp_fail(error, KP_EUNAVAILABLE, "raft: leadership is being handed to %llx",
                       (unsigned long long)raft->transferee);
    if (!raft_conf_has(&raft->conf, raft->id))
        return kp_fail(error, KP_EUNAVAILABLE, "raft: this member was removed");
    return 0;
}

/* One change at a time, and only one that the configuration allows (thesis 4.1). */
static int leader_allows_change(const struct raft *raft, const struct raft_conf_change *change, struct kp_error *error)
{
    struct raft_conf_state next;
    if (raft->pending_conf_index > raft->log.applied)
        return kp_fail(error, KP_ECONFLICT, "raft: a membership change up to entry %llu is not applied yet",
                       (unsigned long long)raft->pending_conf_index);
    return raft_conf_apply(&raft->conf, change, &next, error);
}

static int leader_propose(struct raft *raft, const struct raft_entry *entries, size_t len, struct kp_error *error)
{
    int code = leader_accepts(raft, error);
    if (code < 0)
        return code;
    for (size_t i = 0; i < len; i++) {
        struct raft_conf_change change;
        if (entries[i].type != RAFT_ENTRY_CONF_CHANGE)
            continue;
        if (len > 1)
            return kp_fail(error, KP_EINVALID, "raft: a membership change is proposed alone");
        if ((code = raft_conf_change_decode(entries[i].data, &change, error)) < 0 ||
            (code = leader_allows_change(raft, &change, error)) < 0)
            return code;
    }
    if (!raft_leader_append(raft, entries, len, true))
        return kp_fail(error, KP_ETOOMANY, "raft: %zu bytes are proposed and not committed yet", raft->uncommitted_bytes);
    if (entries[0].type == RAFT_ENTRY_CONF_CHANGE)
        raft->pending_conf_index = raft_log_last(&raft->log);
    raft_broadcast_append(raft);
    return 0;
}

static int propose(struct raft *raft, const struct raft_entry *entries, size_t len, struct kp_error *error)
{
    KP_ASSERT(len > 0 && len <= RAFT_MESSAGE_ENTRIES_MAX);
    for (size_t i = 0; i < len; i++)
        if (raft_entry_bytes(&entries[i]) > RAFT_ENTRY_BYTES_MAX)
            return kp_fail(error, KP_ETOOLARGE, "raft: a proposal of %zu bytes, at most %u are allowed",
                           raft_entry_bytes(&entries[i]), RAFT_ENTRY_BYTES_MAX);
    if (raft->role == RAFT_LEADER)
        return leader_propose(raft, entries, len, error);
    if (raft->leader == 0)
        return kp_fail(error, KP_EUNAVAILABLE, "raft: no leader");
    struct raft_message message = {
        .type = RAFT_MSG_PROPOSE, .to = raft->leader, .entries = (struct raft_entry *)entries, .entries_len = len};
    struct raft_message owned;
    raft_message_copy(&owned, &message);
    raft_send(raft, &owned);
    return 0;
}

int raft_propose_batch(struct raft *raft, struct kp_blob *const *data, size_t len, struct kp_error *error)
{
    if (len == 0)
        return 0;
    if (len > RAFT_MESSAGE_ENTRIES_MAX)
        return kp_fail(error, KP_ETOOLARGE, "raft: %zu proposals at once, at most %d", len, RAFT_MESSAGE_ENTRIES_MAX);
    struct raft_entry *entries = kp_calloc(len, sizeof(*entries));
    for (size_t i = 0; i < len; i++)
        entries[i] = (struct raft_entry){.type = RAFT_ENTRY_NORMAL, .data = data[i]};
    int code = propose(raft, entries, len, error);
    free(entries); /* the data stayed the caller's */
    return code;
}

int raft_propose(struct raft *raft, struct kp_blob *data, struct kp_error *error)
{
    struct raft_entry entry = {.type = RAFT_ENTRY_NORMAL, .data = data};
    return propose(raft, &entry, 1, error);
}

int raft_propose_conf_change(struct raft *raft, const struct raft_conf_change *change, struct kp_error *error)
{
    KP_AUTO(kp_blob_unref) struct kp_blob *data = raft_conf_change_encode(change);
    struct raft_entry entry = {.type = RAFT_ENTRY_CONF_CHANGE, .data = data};
    return propose(raft, &entry, 1, error);
}

void raft_on_propose(struct raft *raft, const struct raft_message *message)
{
    /* Not the leader any more, or refused: the proposer's caller times out. One hop only, so nothing can circle. */
    if (raft->role == RAFT_LEADER && raft_progress_of(raft, message->from) && message->entries_len > 0)
        (void)leader_propose(raft, message->entries, message->entries_len, NULL);
}

void raft_maybe_leave_joint(struct raft *raft)
{
    if (raft->role != RAFT_LEADER || !raft->conf.auto_leave || !raft_conf_is_joint(&raft->conf) ||
        raft->log.applied < raft->pending_conf_index)
        return;
    /* Both halves agreed on the joint configuration: now the new one alone (thesis 4.3). */
    struct raft_entry leave = {.type = RAFT_ENTRY_CONF_CHANGE};
    bool appended = raft_leader_append(raft, &leave, 1, false);
    KP_ASSERT(appended);
    raft->pending_conf_index = raft_log_last(&raft->log);
    raft_broadcast_append(raft);
}

/* ---- leadership transfer (thesis 3.10) -------------------------------------------------------------------------- */
void raft_leader_transfer(struct raft *raft, uint64_t to)
{
    struct raft_progress *progress = raft_progress_of(raft, to);
    if (!progress || !raft_id_set_has(&raft->conf.voters, to) || raft->transferee == to)
        return;
    raft->transferee = 0;
    if (to == raft->id)
        return;
    raft->transferee = to;
    raft->election_elapsed = 0; /* it has one election timeout */
    if (progress->match == raft_log_last(&raft->log))
        raft_send(raft, &(struct raft_message){.type = RAFT_MSG_TIMEOUT_NOW, .to = to});
    else
        raft_send_append(raft, progress, true);
}

int raft_transfer_leader(struct raft *raft, uint64_t to, struct kp_error *error)
{
    if (!raft_id_set_has(&raft->conf.voters, to))
        return kp_fail(error, KP_EINVALID, "raft: member %llx is no voter and cannot lead", (unsigned long long)to);
    if (raft->role == RAFT_LEADER) {
        raft_leader_transfer(raft, to);
        return 0;
    }
    if (raft->leader == 0)
        return kp_fail(error, KP_EUNAVAILABLE, "raft: no leader to hand over");
    raft_send(raft, &(struct raft_message){.type = RAFT_MSG_TRANSFER_LEADER, .to = raft->leader, .context = to});
    return 0;
}
