/* --force-new-cluster: the log goes on with the removal of every other member, as if a quorum had agreed. For when the
   others are lost for good; what was not committed is dropped. */
#include "controlplane/etcd/server/node_internal.h"

/* The configuration at the end of what is committed. */
static int conf_at_end(const struct raft_config *raft, const struct wal_replay *replay, struct raft_conf_state *conf,
                       struct kp_error *error)
{
    *conf = raft->conf;
    for (size_t i = 0; i < replay->entries_len; i++) {
        const struct raft_entry *entry = &replay->entries[i];
        struct raft_conf_change change;
        struct raft_conf_state next;
        struct kp_error refused = {0};
        if (entry->index <= raft->applied || entry->type != RAFT_ENTRY_CONF_CHANGE)
            continue;
        if (raft_conf_change_decode(entry->data, &change, error) < 0)
            return error->code;
        if (raft_conf_apply(conf, &change, &next, &refused) == 0) /* else it has no effect when it is applied either */
            *conf = next;
    }
    return raft_conf_is_joint(conf) ? kp_fail(error, KP_ECONFLICT, "--force-new-cluster: a change of members is half done")
                                    : 0;
}

static void add_change(struct etcd_server *server, struct wal_replay *replay, uint64_t index, uint64_t term,
                       enum op_kind kind, uint64_t id)
{
    Etcdserverpb__Member member = ETCDSERVERPB__MEMBER__INIT;
    member.id = id;
    struct op op;
    op_init(server, &op, kind, &member.base);
    struct raft_conf_change change = {.len = 1, .context = {op.entry->data, op.entry->len}};
    change.changes[0].type = op.change;
    change.changes[0].id = id;
    replay->entries = kp_realloc(replay->entries, (replay->entries_len + 1) * sizeof *replay->entries);
    replay->entries[replay->entries_len++] = (struct raft_entry){
        .index = index, .term = term, .type = RAFT_ENTRY_CONF_CHANGE, .data = raft_conf_change_encode(&change)};
    op_done(&op);
}

int force_new_cluster(struct etcd_server *server, struct wal_replay *replay, struct raft_config *raft,
                      struct kp_error *error)
{
    uint64_t last = raft->hard_state.commit, self = server->member_id;
    while (replay->entries_len && replay->entries[replay->entries_len - 1].index > last)
        kp_blob_unref(replay->entries[--replay->entries_len].data);
    struct raft_conf_state conf;
    int rc = conf_at_end(raft, replay, &conf, error);
    if (rc < 0)
        return rc;
    size_t before = replay->entries_len;
    if (!raft_id_set_has(&conf.voters, self)) {
        if (!raft_id_set_has(&conf.learners, self))
            return kp_fail(error, KP_ECONFLICT, "--force-new-cluster: this member belongs to no cluster yet");
        add_change(server, replay, ++last, raft->hard_state.term, OP_MEMBER_PROMOTE, self);
    }
    const struct raft_id_set *sets[] = {&conf.learners, &conf.voters};
    for (size_t s = 0; s < KP_ARRAY_LEN(sets); s++)
        for (size_t i = 0; i < sets[s]->len; i++)
            if (sets[s]->ids[i] != self)
                add_change(server, replay, ++last, raft->hard_state.term, OP_MEMBER_REMOVE, sets[s]->ids[i]);
    raft->hard_state.commit = last;
    raft->entries = replay->entries;
    raft->entries_len = replay->entries_len;
    size_t added = replay->entries_len - before;
    if (added == 0)
        return 0;
    kp_warn("forced to be the only member of the cluster", NULL);
    if ((rc = wal_append(server->node.wal, &replay->entries[before], added, &raft->hard_state, error)) < 0)
        return rc;
    return wal_sync(server->node.wal, error);
}
