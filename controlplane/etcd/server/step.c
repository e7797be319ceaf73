/* The turns of a member without threads. */
#include "controlplane/etcd/server/node_internal.h"

void server_turn(struct etcd_server *server) { node_turn(server); }

void server_commit_turn(struct etcd_server *server) { backend_turn(server->backend); }

int64_t server_next_turn_ms(const struct etcd_server *server) { return server->node.next_tick_ms; }
