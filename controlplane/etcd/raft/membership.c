/* Switching the core to another configuration, when a change is applied or a snapshot brings one (thesis chapter 4). */
#include "controlplane/etcd/raft/raft_internal.h"

/* Keeps the progress of members that stay, forgets those that left, and starts the new ones at the end of the log. */
static void progress_follow_conf(struct raft *raft)
{
    size_t kept = 0;
    for (size_t i = 0; i < raft->progress_len; i++) {
        if (raft_conf_has(&raft->conf, raft->progress[i].id))
            raft->progress[kept++] = raft->progress[i];
        else
            raft_progress_done(&raft->progress[i]);
    }
    raft->progress_len = kept;
    const struct raft_id_set *sets[] = {&raft->conf.voters, &raft->conf.voters_outgoing, &raft->conf.learners,
                                        &raft->conf.learners_next};
    for (size_t s = 0; s < KP_ARRAY_LEN(sets); s++)
        for (size_t i = 0; i < sets[s]->len; i++) {
            if (raft_progress_of(raft, sets[s]->ids[i]))
                continue;
            KP_ASSERT(raft->progress_len < RAFT_MEMBERS_MAX);
            struct raft_progress *progress = &raft->progress[raft->progress_len++];
            *progress = (struct raft_progress){0};
            raft_progress_init(progress, sets[s]->ids[i], raft_log_last(&raft->log) + 1, raft->inflight_messages_max,
                               raft->inflight_bytes_max);
            /* Or check-quorum would count it as silent before it had a chance to answer. */
            progress->recent_active = true;
        }
}

static void leader_follow_conf(struct raft *raft)
{
    if (!raft_conf_votes(&raft->conf, raft->id) && raft->removed_index == 0)
        raft->removed_index = raft->log.committed; /* the change that is being applied is not after this */
    if (!raft_id_set_has(&raft->conf.voters, raft->transferee))
        raft->transferee = 0;
    /* A smaller quorum may hold already for more entries and reads. */
    if (raft_maybe_commit(raft)) {
        raft_broadcast_append(raft);
    } else {
        for (size_t i = 0; i < raft->progress_len; i++)
            if (raft->progress[i].id != raft->id) /* a new member is greeted at once, even with nothing to send */
                raft_send_append(raft, &raft->progress[i], raft->progress[i].match == 0);
    }
    raft_reads_release(raft);
}

static uint64_t commit_of(const void *ctx, uint64_t id)
{
    const struct raft *raft = ctx;
    for (size_t i = 0; i < raft->progress_len; i++)
        if (raft->progress[i].id == id)
            return raft->progress[i].commit;
    return 0;
}

/* A removed leader manages the new configuration without counting itself (thesis 4.2.2). It may go when a quorum there
   knows so: were it to go earlier, they would still ask it for votes. Then it hands over to the best of them. */
void raft_maybe_retire(struct raft *raft)
{
    if (raft->removed_index == 0 || raft_quorum_value(&raft->conf, commit_of, raft) < raft->removed_index)
        return;
    const struct raft_progress *best = NULL;
    for (size_t i = 0; i < raft->progress_len; i++) {
        const struct raft_progress *progress = &raft->progress[i];
        if (raft_id_set_has(&raft->conf.voters, progress->id) && (!best || progress->match > best->match))
            best = progress;
    }
    if (best)
        raft_send(raft, &(struct raft_message){.type = RAFT_MSG_TIMEOUT_NOW, .to = best->id});
    raft_become_follower(raft, raft->term, 0);
}

void raft_switch_conf(struct raft *raft, const struct raft_conf_state *conf)
{
    raft->conf = *conf;
    progress_follow_conf(raft);
    if (raft->role == RAFT_LEADER)
        leader_follow_conf(raft);
    else if (raft_is_sole_voter(raft) && raft->role == RAFT_FOLLOWER)
        raft_elect(raft, false);
}

int raft_apply_conf_change(struct raft *raft, const struct raft_conf_change *change, struct raft_conf_state *ret,
                           struct kp_error *error)
{
    struct raft_conf_state next;
    int code = raft_conf_apply(&raft->conf, change, &next, error);
    if (code < 0)
        return code;
    raft_switch_conf(raft, &next);
    if (ret)
        *ret = next;
    return 0;
}
