/* The Lock service: locks by name, held as long as the lease of their key lives. */
#include "controlplane/etcd/server/turn_internal.h"
#include "proto/v3lock.pb-c.h"

static int reply_locked(struct turn *turn, int64_t revision)
{
    KP_AUTO_BUF struct kp_buf out = {0};
    frame_begin(&out);
    encode_header(turn->server, &out, revision);
    encode_bytes(&out, 2, turn->key->data, turn->key->len);
    return rpc_reply(turn->stream, &out);
}

/* Nobody is before us; but our lease may have ended while we waited. */
static int locked(struct turn *turn, struct kp_error *error)
{
    struct auth_identity who;
    struct mvcc_range_result result;
    enum etcd_err err = rpc_identity(grpc_stream_context(turn->stream), &who);
    if (err == ETCD_OK)
        err = turn_range(turn->server, &who, blob_bytes(turn->key), (struct kp_bytes){0}, false, 0, &result);
    if (err != ETCD_OK)
        return turn_fail(error, err);
    bool there = result.len == 1;
    int64_t revision = result.revision;
    mvcc_range_done(&result);
    return there ? reply_locked(turn, revision) : grpc_fail(error, GRPC_UNKNOWN, "mutex: session is expired");
}

/* Puts our key unless it is there; *ret_first when nobody's is older. */
static enum etcd_err enter(struct grpc_context *context, struct turn *turn, bool *ret_first)
{
    struct turn_txn t = {0};
    Etcdserverpb__TxnResponse *response = NULL;
    turn_txn_init(&t, blob_bytes(turn->key), 0);
    turn_txn_put(&t, blob_bytes(turn->key), (struct kp_bytes){0}, turn->lease);
    turn_txn_else_get(&t, blob_bytes(turn->key));
    turn_txn_first(&t, blob_bytes(turn->prefix), blob_bytes(turn->prefix_end));
    enum etcd_err err = turn_txn_run(context, &t, &response);
    if (err != ETCD_OK)
        return err;
    const Etcdserverpb__RangeResponse *first = response->responses[1]->response_range;
    turn->revision = turn->create_revision = response->header->revision;
    if (!response->succeeded)
        turn->create_revision = response->responses[0]->response_range->kvs[0]->create_revision;
    *ret_first = first->n_kvs == 0 || first->kvs[0]->create_revision == turn->create_revision;
    etcdserverpb__txn_response__free_unpacked(response, NULL);
    return ETCD_OK;
}

static int lock(struct grpc_context *context, const void *message, struct grpc_stream *stream, struct kp_error *error)
{
    const V3lockpb__LockRequest *request = message;
    int64_t lease = request->lease;
    enum etcd_err err = turn_session(context, &lease);
    if (err != ETCD_OK)
        return turn_fail(error, err);
    KP_AUTO(turn_unref) struct turn *turn = turn_new(context, stream, request->name, lease);
    bool first = false;
    if ((err = enter(context, turn, &first)) != ETCD_OK)
        return turn_fail(error, err);
    if (first)
        return reply_locked(turn, turn->revision);
    turn->arrived = locked;
    return turn_start(KP_TAKE(turn), error);
}

static int unlock(struct grpc_context *context, const void *message, struct grpc_stream *stream, struct kp_error *error)
{
    const V3lockpb__UnlockRequest *request = message;
    Etcdserverpb__DeleteRangeRequest delete = ETCDSERVERPB__DELETE_RANGE_REQUEST__INIT;
    delete.key = request->key;
    struct etcd_server *server = server_of(context);
    struct auth_identity who;
    enum etcd_err err = request_check(&server->config, OP_DELETE_RANGE, &delete.base);
    if (err == ETCD_OK)
        err = rpc_identity(context, &who);
    if (err == ETCD_OK)
        err = op_run_as(server, OP_DELETE_RANGE, &delete.base, &who, NULL);
    if (err != ETCD_OK)
        return turn_fail(error, err);
    KP_AUTO_BUF struct kp_buf out = {0};
    frame_begin(&out);
    encode_header(server, &out, mvcc_revision(server->mvcc));
    return rpc_reply(stream, &out);
}

const struct grpc_method lock_methods[] = {
    {"/v3lockpb.Lock/Lock", GRPC_SERVER_STREAM, &v3lockpb__lock_request__descriptor, &v3lockpb__lock_response__descriptor,
     .server_stream = lock},
    {"/v3lockpb.Lock/Unlock", GRPC_SERVER_STREAM, &v3lockpb__unlock_request__descriptor,
     &v3lockpb__unlock_response__descriptor, .server_stream = unlock},
    {0},
};
