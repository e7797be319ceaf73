/* Messages come in: the rules about terms that hold for all of them, then the role's own (thesis 3.3, 6.2, 9.6). */
#include "controlplane/etcd/raft/raft_internal.h"

#define NUMBER_MAX ((uint64_t)1 << 62) /* no term or index gets there; leaves room to add */

static int check_message(const struct raft *raft, const struct raft_message *message, struct kp_error *error)
{
    const char *wrong = NULL;
    bool request = message->type == RAFT_MSG_PROPOSE || message->type == RAFT_MSG_READ_INDEX ||
                   message->type == RAFT_MSG_TRANSFER_LEADER;
    if (message->type < RAFT_MSG_APPEND || message->type >= RAFT_MSG_TYPE_COUNT)
        wrong = "of no known type";
    else if (message->to != raft->id)
        wrong = "addressed to another member";
    else if (message->from == 0 || message->from == raft->id)
        wrong = "without a proper sender";
    else if (request != (message->term == 0))
        wrong = request ? "with a term" : "without a term";
    else if ((message->type == RAFT_MSG_SNAPSHOT) != (message->snapshot != NULL))
        wrong = message->snapshot ? "with a snapshot" : "without a snapshot";
    else if (message->snapshot && (message->snapshot->index == 0 || message->snapshot->term > message->term))
        wrong = "with an impossible snapshot";
    else if (message->term > NUMBER_MAX || message->index > NUMBER_MAX || message->commit > NUMBER_MAX ||
             message->reject_hint > NUMBER_MAX || (message->snapshot && message->snapshot->index > NUMBER_MAX))
        wrong = "with impossible numbers";
    if (wrong)
        return kp_fail(error, KP_EBADREQUEST, "raft: %s message %s from %llx to %llx, here is %llx",
                       raft_message_name(message->type), wrong, (unsigned long long)message->from,
                       (unsigned long long)message->to, (unsigned long long)raft->id);
    return 0;
}

static bool from_leader(enum raft_message_type type)
{
    return type == RAFT_MSG_APPEND || type == RAFT_MSG_HEARTBEAT || type == RAFT_MSG_SNAPSHOT;
}

/* Returns false when the message is done with. */
static bool step_higher_term(struct raft *raft, const struct raft_message *message)
{
    enum raft_message_type type = message->type;
    bool vote = type == RAFT_MSG_VOTE || type == RAFT_MSG_PRE_VOTE;
    /* Who hears a leader lets nobody depose it (thesis 4.2.3), unless it wishes so itself. */
    if (vote && !message->force && raft->check_quorum && raft->leader != 0 &&
        raft->election_elapsed < raft->election_ticks)
        return false;
    if (type == RAFT_MSG_PRE_VOTE)
        return true; /* a question: changes no term */
    if (type == RAFT_MSG_PRE_VOTE_RESP && !message->reject)
        return true; /* carries the term asked for, which is nobody's yet */
    raft_become_follower(raft, message->term, from_leader(type) ? message->from : 0);
    return true;
}

static void step_lower_term(struct raft *raft, const struct raft_message *message)
{
    /* The answer tells the old leader to step down (thesis 3.3). A member that may not disturb by elections, or is no
       voter as far as it knows, could else never take part again. */
    if (from_leader(message->type))
        raft_send(raft, &(struct raft_message){.type = RAFT_MSG_APPEND_RESP, .to = message->from});
    else if (message->type == RAFT_MSG_PRE_VOTE)
        raft_send(raft,
                  &(struct raft_message){.type = RAFT_MSG_PRE_VOTE_RESP, .to = message->from, .reject = true});
}

static int step_leader_said(struct raft *raft, const struct raft_message *message, struct kp_error *error)
{
    if (raft->role == RAFT_LEADER)
        return kp_fail(error, KP_ECORRUPT, "raft: %llx claims to lead term %llu, which this member leads",
                       (unsigned long long)message->from, (unsigned long long)message->term);
    if (raft->role != RAFT_FOLLOWER)
        raft_become_follower(raft, message->term, message->from);
    raft->election_elapsed = 0;
    raft->leader = message->from;
    if (message->type == RAFT_MSG_APPEND)
        return raft_on_append(raft, message, error);
    if (message->type == RAFT_MSG_HEARTBEAT)
        return raft_on_heartbeat(raft, message, error);
    raft_on_snapshot(raft, message);
    return 0;
}

static void step_as_leader(struct raft *raft, const struct raft_message *message)
{
    switch (message->type) {
    case RAFT_MSG_APPEND_RESP:
        raft_on_append_resp(raft, message);
        break;
    case RAFT_MSG_HEARTBEAT_RESP:
        raft_on_heartbeat_resp(raft, message);
        break;
    case RAFT_MSG_PROPOSE:
        raft_on_propose(raft, message);
        break;
    case RAFT_MSG_READ_INDEX:
        /* Over the limit it is dropped: the reader asks again after its timeout. */
        if (raft_progress_of(raft, message->from))
            (void)raft_leader_read(raft, message->from, message->context, NULL);
        break;
    case RAFT_MSG_TRANSFER_LEADER:
        raft_leader_transfer(raft, message->context);
        break;
    default:
        break; /* answers to what it asked before it led */
    }
}

static void step_as_other(struct raft *raft, const struct raft_message *message)
{
    switch (message->type) {
    case RAFT_MSG_VOTE_RESP:
    case RAFT_MSG_PRE_VOTE_RESP:
        raft_on_vote_resp(raft, message);
        break;
    case RAFT_MSG_TIMEOUT_NOW:
        if (raft->role == RAFT_FOLLOWER)
            raft_elect(raft, true);
        break;
    case RAFT_MSG_READ_INDEX_RESP:
        raft_read_done(raft, message->context, message->index);
        break;
    default:
        break;
    }
}

int raft_step(struct raft *raft, const struct raft_message *message, struct kp_error *error)
{
    int code = check_message(raft, message, error);
    if (code < 0)
        return code;
    if (message->commit_term != 0) /* a fact, whatever the message's term */
        raft_learn_commit(raft, message);
    if (message->term > raft->term) {
        if (!step_higher_term(raft, message))
            return 0;
    } else if (message->term != 0 && message->term < raft->term) {
        step_lower_term(raft, message);
        return 0;
    }
    if (message->type == RAFT_MSG_VOTE || message->type == RAFT_MSG_PRE_VOTE)
        raft_on_vote(raft, message);
    else if (from_leader(message->type))
        return step_leader_said(raft, message, error);
    else if (raft->role == RAFT_LEADER)
        step_as_leader(raft, message);
    else
        step_as_other(raft, message);
    return 0;
}
