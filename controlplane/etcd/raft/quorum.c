/* Majorities, single and joint: a joint configuration decides only what both of its halves decide (thesis 4.3). */
#include "controlplane/etcd/raft/raft_internal.h"

static uint64_t majority_value(const struct raft_id_set *set, uint64_t (*value)(const void *ctx, uint64_t id),
                               const void *ctx)
{
    if (set->len == 0)
        return UINT64_MAX; /* an empty half has no say */
    uint64_t sorted[RAFT_MEMBERS_MAX];
    for (size_t i = 0; i < set->len; i++) {
        uint64_t v = value(ctx, set->ids[i]);
        size_t at = i;
        for (; at > 0 && sorted[at - 1] < v; at--)
            sorted[at] = sorted[at - 1];
        sorted[at] = v; /* descending */
    }
    return sorted[set->len / 2]; /* len / 2 + 1 members have at least this */
}

uint64_t raft_quorum_value(const struct raft_conf_state *conf, uint64_t (*value)(const void *ctx, uint64_t id),
                           const void *ctx)
{
    uint64_t incoming = majority_value(&conf->voters, value, ctx);
    uint64_t outgoing = majority_value(&conf->voters_outgoing, value, ctx);
    return KP_MIN(incoming, outgoing);
}

static enum raft_vote_result majority_vote(const struct raft_id_set *set, const struct raft_id_set *granted,
                                           const struct raft_id_set *rejected)
{
    if (set->len == 0)
        return RAFT_VOTE_WON;
    size_t yes = 0, no = 0, quorum = set->len / 2 + 1;
    for (size_t i = 0; i < set->len; i++) {
        if (raft_id_set_has(granted, set->ids[i]))
            yes++;
        else if (raft_id_set_has(rejected, set->ids[i]))
            no++;
    }
    if (yes >= quorum)
        return RAFT_VOTE_WON;
    return set->len - no < quorum ? RAFT_VOTE_LOST : RAFT_VOTE_PENDING;
}

enum raft_vote_result raft_quorum_vote(const struct raft_conf_state *conf, const struct raft_id_set *granted,
                                       const struct raft_id_set *rejected)
{
    enum raft_vote_result incoming = majority_vote(&conf->voters, granted, rejected);
    enum raft_vote_result outgoing = majority_vote(&conf->voters_outgoing, granted, rejected);
    if (incoming == RAFT_VOTE_LOST || outgoing == RAFT_VOTE_LOST)
        return RAFT_VOTE_LOST;
    return incoming == RAFT_VOTE_WON && outgoing == RAFT_VOTE_WON ? RAFT_VOTE_WON : RAFT_VOTE_PENDING;
}
