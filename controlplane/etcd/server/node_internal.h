/* Between the raft thread's loop and its disk and state-machine side. */
#ifndef ETCD_NODE_INTERNAL_H
#define ETCD_NODE_INTERNAL_H

#include "controlplane/etcd/server/server_internal.h"

void node_init(struct node *node);
void node_finish_op(struct etcd_server *server, struct op *op, enum etcd_err err);
struct op *node_take_op(struct node *node, uint64_t id); /* NULL when it is not ours, or gave up waiting */
bool entry_parse(const struct kp_blob *data, enum op_kind *ret_kind, uint64_t *ret_id, struct auth_identity *ret_who,
                 struct kp_bytes *ret_request);
/* node_step.c */
void node_persist(struct etcd_server *server, const struct raft_ready *ready);
void node_apply(struct etcd_server *server, const struct raft_ready *ready);

#endif
