/* What the raft core asks for: writing the log and applying what is committed. */
#include "controlplane/etcd/peer/peer.h"
#include "controlplane/etcd/server/node_internal.h"

void node_send(struct etcd_server *server, const struct raft_message *messages, size_t len)
{
    const struct etcd_world *world = server->config.world;
    for (size_t i = 0; i < len; i++) {
        struct raft_message message = raft_message_take(&messages[i]);
        if (message.type == RAFT_MSG_SNAPSHOT)
            images_want(server, &message);
        else if (world && world->send)
            world->send(world->ctx, server, &message);
        else if (server->transport)
            peer_send(server->transport, &message);
        else
            raft_message_done(&message); /* on its own: nobody is there */
    }
}

void node_persist(struct etcd_server *server, const struct raft_ready *ready)
{
    struct node *node = &server->node;
    struct kp_error error = {0};
    if (!ready->entries_len && !ready->hard_state_changed && !ready->must_sync)
        return;
    if (wal_append(node->wal, ready->entries, ready->entries_len,
                   ready->hard_state_changed ? &ready->hard_state : NULL, &error) < 0)
        server_die(server, "write the log", &error);
    if (!ready->must_sync)
        return; /* a new commit index alone goes out with the next sync */
    int64_t start_ns = kp_mono_ns();
    if (wal_sync(node->wal, &error) < 0)
        server_die(server, "sync the log", &error);
    metric_wal_sync((double)(kp_mono_ns() - start_ns) / 1e9);
}

static void apply_normal(struct etcd_server *server, const struct raft_entry *entry)
{
    enum op_kind kind;
    uint64_t id;
    struct kp_bytes bytes;
    struct auth_identity who;
    if (!entry->data || entry->data->len == 0) {
        apply_nothing(server, entry->index, entry->term);
        return;
    }
    if (!entry_parse(entry->data, &kind, &id, &who, &bytes)) {
        struct kp_error error = {0};
        kp_fail(&error, KP_ECORRUPT, "entry %llu is not one of ours", (unsigned long long)entry->index);
        server_die(server, "apply the log", &error);
    }
    struct op *op = node_take_op(&server->node, id);
    ProtobufCMessage *decoded = op && op->request ? NULL : request_decode(kind, bytes.data, bytes.len);
    const ProtobufCMessage *request = decoded ? decoded : op ? op->request : NULL;
    if (!request) {
        struct kp_error error = {0};
        kp_fail(&error, KP_ECORRUPT, "entry %llu does not decode", (unsigned long long)entry->index);
        server_die(server, "apply the log", &error);
    }
    struct kp_blob *response = NULL;
    enum etcd_err err =
        apply_request(server, entry->index, entry->term, kind, request, &who, op != NULL, op ? &op->response : &response);
    request_free(decoded);
    if (op)
        node_finish_op(server, op, err);
}

static void apply_conf_change(struct etcd_server *server, const struct raft_entry *entry)
{
    struct raft_conf_change change = {0};
    struct kp_error error = {0};
    if (raft_conf_change_decode(entry->data, &change, &error) < 0)
        server_die(server, "apply the log", &error);
    cluster_apply(server, entry, &change);
}

void node_apply(struct etcd_server *server, const struct raft_ready *ready)
{
    struct node *node = &server->node;
    if (!ready->committed_len)
        return;
    answers_hold(&server->answers);
    mvcc_watch_hold(server->mvcc);
    for (size_t i = 0; i < ready->committed_len; i++) {
        const struct raft_entry *entry = &ready->committed[i];
        if (entry->type == RAFT_ENTRY_CONF_CHANGE)
            apply_conf_change(server, entry);
        else
            apply_normal(server, entry);
        atomic_store(&node->applied, entry->index);
        node->term_applied |= entry->term == ready->term;
    }
    mvcc_watch_release(server->mvcc);
    answers_release(&server->answers);
}
