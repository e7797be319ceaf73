/* The Election service: whose key below a name is the oldest leads, and says a value. */
#include "controlplane/etcd/server/turn_internal.h"
#include "proto/v3election.pb-c.h"

enum { LEADER_NAME = 1, LEADER_KEY = 2, LEADER_REVISION = 3, LEADER_LEASE = 4 };

static int not_leader(struct kp_error *error) { return grpc_fail(error, GRPC_UNKNOWN, "election: not leader"); }
static int no_leader_key(struct kp_error *error)
{
    return grpc_fail(error, GRPC_UNKNOWN, "\"leader\" field must be provided");
}

static struct kp_bytes bytes_of_data(ProtobufCBinaryData data) { return (struct kp_bytes){data.data, data.len}; }

static int reply_header(struct grpc_context *context, struct grpc_stream *stream, int64_t revision)
{
    KP_AUTO_BUF struct kp_buf out = {0};
    frame_begin(&out);
    encode_header(server_of(context), &out, revision);
    return rpc_reply(stream, &out);
}

/* ---- campaigning ---- */

static int elected(struct turn *turn, struct kp_error *error)
{
    KP_AUTO_BUF struct kp_buf out = {0};
    frame_begin(&out);
    encode_header(turn->server, &out, turn->revision);
    size_t begin = encode_begin(&out, 2);
    encode_bytes(&out, LEADER_NAME, turn->name->data, turn->name->len);
    encode_bytes(&out, LEADER_KEY, turn->key->data, turn->key->len);
    encode_number(&out, LEADER_REVISION, turn->create_revision);
    encode_number(&out, LEADER_LEASE, turn->lease);
    encode_end(&out, begin);
    return rpc_reply(turn->stream, &out);
}

/* Puts the value if the key is still the one of that revision; 0, or as a handler returns it. */
static int proclaim_value(struct grpc_context *context, struct kp_bytes key, int64_t create_revision, struct kp_bytes value,
                          int64_t lease, int64_t *ret_revision, struct kp_error *error)
{
    struct turn_txn t = {0};
    Etcdserverpb__TxnResponse *response = NULL;
    turn_txn_init(&t, key, create_revision);
    turn_txn_put(&t, key, value, lease);
    enum etcd_err err = turn_txn_run(context, &t, &response);
    if (err != ETCD_OK)
        return turn_fail(error, err);
    bool done = response->succeeded;
    *ret_revision = response->header->revision;
    etcdserverpb__txn_response__free_unpacked(response, NULL);
    return done ? 0 : not_leader(error);
}

/* Our key, made now or in an earlier campaign of the same lease, with our value. */
static int enter(struct grpc_context *context, struct turn *turn, struct kp_bytes value, struct kp_error *error)
{
    struct turn_txn t = {0};
    Etcdserverpb__TxnResponse *response = NULL;
    struct kp_bytes key = blob_bytes(turn->key);
    turn_txn_init(&t, key, 0);
    turn_txn_put(&t, key, value, turn->lease);
    turn_txn_else_get(&t, key);
    enum etcd_err err = turn_txn_run(context, &t, &response);
    if (err != ETCD_OK)
        return turn_fail(error, err);
    turn->revision = turn->create_revision = response->header->revision;
    bool other_value = false;
    if (!response->succeeded) {
        const Mvccpb__KeyValue *kv = response->responses[0]->response_range->kvs[0];
        turn->create_revision = kv->create_revision;
        other_value = kv->value.len != value.len || (value.len && memcmp(kv->value.data, value.data, value.len) != 0);
    }
    etcdserverpb__txn_response__free_unpacked(response, NULL);
    return other_value ? proclaim_value(context, key, turn->create_revision, value, turn->lease, &turn->revision, error) : 0;
}

static int campaign(struct grpc_context *context, const void *message, struct grpc_stream *stream, struct kp_error *error)
{
    const V3electionpb__CampaignRequest *request = message;
    int64_t lease = request->lease;
    enum etcd_err err = turn_session(context, &lease);
    if (err != ETCD_OK)
        return turn_fail(error, err);
    KP_AUTO(turn_unref) struct turn *turn = turn_new(context, stream, request->name, lease);
    int rc = enter(context, turn, bytes_of_data(request->value), error);
    if (rc)
        return rc;
    turn->arrived = elected;
    return turn_start(KP_TAKE(turn), error);
}

static int proclaim(struct grpc_context *context, const void *message, struct grpc_stream *stream, struct kp_error *error)
{
    const V3electionpb__ProclaimRequest *request = message;
    if (!request->leader)
        return no_leader_key(error);
    int64_t lease = request->leader->lease, revision = 0;
    enum etcd_err err = turn_session(context, &lease);
    if (err != ETCD_OK)
        return turn_fail(error, err);
    int rc = proclaim_value(context, bytes_of_data(request->leader->key), request->leader->rev,
                            bytes_of_data(request->value), lease, &revision, error);
    return rc ? rc : reply_header(context, stream, revision);
}

/* No error when somebody else leads by now. */
static int resign(struct grpc_context *context, const void *message, struct grpc_stream *stream, struct kp_error *error)
{
    const V3electionpb__ResignRequest *request = message;
    if (!request->leader)
        return no_leader_key(error);
    struct turn_txn t = {0};
    Etcdserverpb__TxnResponse *response = NULL;
    turn_txn_init(&t, bytes_of_data(request->leader->key), request->leader->rev);
    turn_txn_delete(&t, bytes_of_data(request->leader->key));
    enum etcd_err err = turn_txn_run(context, &t, &response);
    if (err != ETCD_OK)
        return turn_fail(error, err);
    int64_t revision = response->header->revision;
    etcdserverpb__txn_response__free_unpacked(response, NULL);
    return reply_header(context, stream, revision);
}

/* ---- who leads ---- */

static int send_leader(struct etcd_server *server, struct grpc_stream *stream, int64_t revision, struct kp_bytes record)
{
    KP_AUTO_BUF struct kp_buf out = {0};
    frame_begin(&out);
    encode_header(server, &out, revision);
    encode_message(&out, 2, record.data, record.len);
    return rpc_reply(stream, &out);
}

static enum etcd_err find_leader(struct turn *turn, struct mvcc_range_result *ret_result)
{
    struct auth_identity who;
    enum etcd_err err = node_wait_read(turn->server);
    if (err == ETCD_OK)
        err = rpc_identity(grpc_stream_context(turn->stream), &who);
    if (err == ETCD_OK)
        err = turn_range(turn->server, &who, blob_bytes(turn->prefix), blob_bytes(turn->prefix_end), false, 0, ret_result);
    return err;
}

static int leader(struct grpc_context *context, const void *message, struct grpc_stream *stream, struct kp_error *error)
{
    const V3electionpb__LeaderRequest *request = message;
    KP_AUTO(turn_unref) struct turn *turn = turn_new(context, stream, request->name, 0);
    struct mvcc_range_result result;
    enum etcd_err err = find_leader(turn, &result);
    if (err != ETCD_OK)
        return turn_fail(error, err);
    int rc = result.len ? send_leader(turn->server, stream, result.revision, result.items[0].record)
                        : grpc_fail(error, GRPC_UNKNOWN, "election: no leader");
    mvcc_range_done(&result);
    return rc;
}

/* ---- observing: the leader's values one by one; when its key goes, whoever is next ---- */

static bool on_leader_event(void *ctx, struct mvcc_watcher *watcher, const struct mvcc_watch_batch *batch)
{
    struct turn *turn = ctx;
    bool gone = batch->compact_revision != 0;
    for (size_t i = 0; i < batch->len && !gone; i++) {
        const struct mvcc_event *event = batch->events[i];
        gone = event->is_delete;
        if (!gone && grpc_stream_queued(turn->stream) > WATCH_QUEUED_MAX)
            grpc_stream_finish(turn->stream, GRPC_RESOURCE_EXHAUSTED, etcd_err_info(ETCD_TOO_MANY_REQUESTS)->text);
        else if (!gone)
            send_leader(turn->server, turn->stream, batch->revision, blob_bytes(event->record));
    }
    if (gone)
        turn_fire(turn);
    return true;
}

static bool on_candidate(void *ctx, struct mvcc_watcher *watcher, const struct mvcc_watch_batch *batch)
{
    turn_fire(ctx);
    return true;
}

static int look_for_leader(struct turn *turn, struct kp_error *error)
{
    struct mvcc_range_result result;
    enum etcd_err err = find_leader(turn, &result);
    if (err != ETCD_OK)
        return -turn_fail(error, err);
    if (result.len) {
        send_leader(turn->server, turn->stream, result.revision, result.items[0].record); /* fails when the client has gone */
        turn_watch(turn, result.items[0].kv.key, (struct kp_bytes){0}, result.revision, on_leader_event);
    } else {
        turn_watch(turn, blob_bytes(turn->prefix), blob_bytes(turn->prefix_end), result.revision, on_candidate);
    }
    mvcc_range_done(&result);
    return 0;
}

static int observe(struct grpc_context *context, const void *message, struct grpc_stream *stream, struct kp_error *error)
{
    const V3electionpb__LeaderRequest *request = message;
    struct turn *turn = turn_new(context, stream, request->name, 0);
    turn->look = look_for_leader;
    return turn_start(turn, error);
}

const struct grpc_method election_methods[] = {
    {"/v3electionpb.Election/Campaign", GRPC_SERVER_STREAM, &v3electionpb__campaign_request__descriptor,
     &v3electionpb__campaign_response__descriptor, .server_stream = campaign},
    {"/v3electionpb.Election/Proclaim", GRPC_SERVER_STREAM, &v3electionpb__proclaim_request__descriptor,
     &v3electionpb__proclaim_response__descriptor, .server_stream = proclaim},
    {"/v3electionpb.Election/Leader", GRPC_SERVER_STREAM, &v3electionpb__leader_request__descriptor,
     &v3electionpb__leader_response__descriptor, .server_stream = leader},
    {"/v3electionpb.Election/Observe", GRPC_SERVER_STREAM, &v3electionpb__leader_request__descriptor,
     &v3electionpb__leader_response__descriptor, .server_stream = observe},
    {"/v3electionpb.Election/Resign", GRPC_SERVER_STREAM, &v3electionpb__resign_request__descriptor,
     &v3electionpb__resign_response__descriptor, .server_stream = resign},
    {0},
};
