/* The transport to the other members: what arrives is handed to the member, and what it asks of them is sent. */
#include "controlplane/etcd/peer/peer.h"
#include "controlplane/etcd/server/rpc_internal.h"

static void on_message(void *ctx, struct raft_message *message) { server_receive(ctx, message); }

static int on_snapshot_begin(void *ctx, const struct raft_message *message, char **ret_path, struct kp_error *error)
{
    *ret_path = images_new_path(ctx, "incoming");
    return 0;
}

static int on_snapshot_end(void *ctx, struct raft_message *message, const char *path, struct kp_error *error)
{
    server_receive_snapshot(ctx, message, path);
    return 0;
}

static void on_snapshot_sent(void *ctx, uint64_t to, bool ok) { server_snapshot_sent(ctx, to, ok); }
static void on_unreachable(void *ctx, uint64_t to) { server_unreachable(ctx, to); }

static int on_question(void *ctx, const char *what, struct kp_bytes question, struct kp_buf *out, struct kp_error *error)
{
    return server_question(ctx, what, question, out, error);
}

static int on_get(void *ctx, const char *path, const char **ret_content_type, struct kp_buf *out, struct kp_error *error)
{
    return server_get(ctx, path, ret_content_type, out, error);
}

int peers_start(struct etcd_server *server, struct kp_error *error)
{
    struct peer_tls_files tls;
    server_peer_tls(&server->config.peer_tls, &tls);
    struct peer_config config = {.cluster_id = server->cluster_id,
                                 .member_id = server->member_id,
                                 .listen_urls = server->config.listen_peer_urls,
                                 .election_ms = server->config.election_ms,
                                 .tls = tls,
                                 .events = {.ctx = server,
                                            .message = on_message,
                                            .snapshot_begin = on_snapshot_begin,
                                            .snapshot_end = on_snapshot_end,
                                            .snapshot_sent = on_snapshot_sent,
                                            .unreachable = on_unreachable,
                                            .question = on_question,
                                            .get = on_get}};
    int rc = peer_start(&config, &server->transport, error);
    if (rc < 0)
        return kp_wrap(error, "peers");
    cluster_know_peers(server);
    return 0;
}

void peers_stop(struct etcd_server *server)
{
    if (!server->transport)
        return;
    node_stop(server); /* nothing is sent any more */
    peer_stop(server->transport);
    server->transport = NULL;
}

int peers_ask(struct etcd_server *server, uint64_t id, const char *what, struct kp_bytes question, int64_t timeout_ms,
              struct kp_buf *ret_answer, struct kp_error *error)
{
    const struct etcd_world *world = server->config.world;
    if (world && world->ask)
        return world->ask(world->ctx, server, id, what, question, ret_answer, error);
    if (!server->transport)
        return kp_fail(error, KP_EUNAVAILABLE, "no connection to other members");
    return peer_ask(server->transport, id, what, question, timeout_ms, ret_answer, error);
}
