/* Between the raft thread's loop and its disk and state-machine side. */
#ifndef ETCD_NODE_INTERNAL_H
#define ETCD_NODE_INTERNAL_H

#include "controlplane/etcd/server/server_internal.h"

void node_init(struct node *node);
void node_done(struct node *node);
void incoming_free(struct incoming *incoming);
void node_finish_op(struct etcd_server *server, struct op *op, enum etcd_err err);
struct op *node_take_op(struct node *node, uint64_t id); /* NULL when it is not ours, or gave up waiting */
bool entry_parse(const struct kp_blob *data, enum op_kind *ret_kind, uint64_t *ret_id, struct auth_identity *ret_who,
                 struct kp_bytes *ret_request);
void node_leader_is_lost(struct etcd_server *server); /* the connection to it broke */
/* node_queue.c: what any thread leaves for the raft thread */
struct work {
    struct op *ops;
    struct read_wait *reads;
    struct node_call *calls;
    struct raft_message *inbox; /* node->received */
    size_t inbox_len;
    struct incoming *incoming;
    bool stopping;
};
void node_wait(struct node *node); /* until something is queued or a tick is due */
void node_take_work(struct node *node, struct work *work);
void node_finish_read(struct etcd_server *server, struct read_wait *wait, enum etcd_err err);
/* force.c */
int force_new_cluster(struct etcd_server *server, struct wal_replay *replay, struct raft_config *raft,
                      struct kp_error *error) KP_NODISCARD;
/* node_step.c */
void node_send(struct etcd_server *server, const struct raft_message *messages, size_t len);
void node_persist(struct etcd_server *server, const struct raft_ready *ready);
void node_apply(struct etcd_server *server, const struct raft_ready *ready);

#endif
