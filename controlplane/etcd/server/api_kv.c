/* The KV service. Unary methods are served as streams of one message, which are the same on the wire: answers go out
   as encoded, and a write keeps no thread while it waits for the log. */
#include "controlplane/etcd/server/rpc_internal.h"

#define LOOP_RANGE_BYTES_MAX ((size_t)1 << 20) /* more is copied and encoded on the pool */

int rpc_fail(struct kp_error *error, enum etcd_err err)
{
    const struct etcd_err_info *info = etcd_err_info(err);
    return grpc_fail(error, (enum grpc_status)info->grpc_code, "%s", info->text);
}

int rpc_reply(struct grpc_stream *stream, struct kp_buf *out)
{
    KP_AUTO(kp_blob_unref) struct kp_blob *frame = frame_take(out);
    return grpc_stream_send_blob(stream, frame);
}

/* A call whose answer depends on the raft thread. */
struct kv_call {
    struct op op;
    struct answer answer;
    struct grpc_stream *stream; /* a reference */
    struct etcd_server *server;
    struct read_wait wait;                   /* of a read, ... */
    const Etcdserverpb__RangeRequest *range; /* ... in the arena of the stream's request */
};

static void kv_call_free(struct kv_call *call)
{
    grpc_stream_unref(call->stream);
    op_done(&call->op);
    free(call);
}

static void send_proposed(struct answer *answer)
{
    struct kv_call *call = KP_CONTAINER_OF(answer, struct kv_call, answer);
    struct op *op = &call->op;
    if (op->err == ETCD_OK)
        grpc_stream_send_blob(call->stream, op->response); /* fails only when the client has gone */
    const struct etcd_err_info *info = etcd_err_info(op->err);
    grpc_stream_finish(call->stream, info->grpc_code, info->text);
    kv_call_free(call);
}

static void proposed(struct op *op)
{
    struct kv_call *call = KP_CONTAINER_OF(op, struct kv_call, op);
    answers_add(op->ctx, &call->answer);
}

static bool over_quota(struct etcd_server *server, enum op_kind kind, const ProtobufCMessage *request)
{
    int64_t cost = request_cost(kind, request);
    return cost && backend_over_quota(server->backend, cost);
}

enum etcd_err rpc_check_quota(struct etcd_server *server, enum op_kind kind, const ProtobufCMessage *request)
{
    if (!over_quota(server, kind, request))
        return ETCD_OK;
    if (!atomic_load(&server->alarms.no_space)) {
        Etcdserverpb__AlarmRequest alarm = ETCDSERVERPB__ALARM_REQUEST__INIT;
        alarm.action = ETCDSERVERPB__ALARM_REQUEST__ALARM_ACTION__ACTIVATE;
        alarm.memberid = server->member_id;
        alarm.alarm = ETCDSERVERPB__ALARM_TYPE__NOSPACE;
        enum etcd_err err = op_run(server, OP_ALARM, &alarm.base, NULL);
        if (err != ETCD_OK)
            kp_warn("cannot raise the NOSPACE alarm", "err", etcd_err_info(err)->text, NULL);
    }
    return ETCD_NO_SPACE;
}

int rpc_propose(struct grpc_context *context, struct grpc_stream *stream, enum op_kind kind,
                const ProtobufCMessage *request, struct kp_error *error)
{
    struct etcd_server *server = server_of(context);
    struct auth_identity who;
    /* Finding out who asks, and raising an alarm, may wait. */
    if (context->on_loop && (auth_enabled(server->auth) || over_quota(server, kind, request)))
        return GRPC_TO_POOL;
    metric_count(kind);
    enum etcd_err err = request_check(&server->config, kind, request);
    if (err == ETCD_OK)
        err = rpc_check_quota(server, kind, request);
    if (err == ETCD_OK)
        err = rpc_identity(context, &who);
    if (err != ETCD_OK)
        return rpc_fail(error, err);
    struct kv_call *call = kp_calloc(1, sizeof *call);
    struct op *op = &call->op;
    op_init_as(server, op, kind, request, &who);
    call->stream = grpc_stream_ref(stream);
    if (op->entry->len > (size_t)server->config.request_bytes_max) {
        kv_call_free(call);
        return rpc_fail(error, ETCD_REQUEST_TOO_LARGE);
    }
    op->request = NULL; /* it dies with this call; the entry has it */
    op->done = proposed;
    op->ctx = &server->answers;
    call->answer.fn = send_proposed;
    op_propose(server, op);
    return GRPC_DETACHED;
}

/* Users and roles must not have changed while something was read. */
static enum etcd_err still_permitted(struct etcd_server *server, const struct auth_identity *who)
{
    return who->revision && who->revision != auth_revision(server->auth) ? ETCD_AUTH_OLD_REVISION : ETCD_OK;
}

/* Without waiting; on_loop: only what is soon done, GRPC_TO_POOL otherwise. */
static int serve_range(struct etcd_server *server, const Etcdserverpb__RangeRequest *request,
                       const struct auth_identity *who, bool on_loop, struct grpc_stream *stream, struct kp_error *error)
{
    struct mvcc_range_request range;
    struct mvcc_range_result result;
    struct kp_error failure = {0};
    range_of_request(request, &range);
    if (on_loop && !mvcc_range_is_short(server->mvcc, &range))
        return GRPC_TO_POOL;
    enum etcd_err err = etcd_err_of_mvcc(mvcc_range(server->mvcc, &range, &result, &failure));
    if (failure.code)
        kp_error_log("range failed", "err", failure.message, NULL);
    if (err != ETCD_OK)
        return rpc_fail(error, err);
    size_t bytes = 0;
    for (size_t i = 0; on_loop && i < result.len; i++)
        bytes += result.items[i].record.len;
    if (bytes > LOOP_RANGE_BYTES_MAX) {
        mvcc_range_done(&result);
        return GRPC_TO_POOL;
    }
    KP_AUTO_BUF struct kp_buf out = {0};
    frame_begin(&out);
    encode_header(server, &out, result.revision);
    encode_range(&out, &result, request->keys_only);
    mvcc_range_done(&result);
    if (still_permitted(server, who) != ETCD_OK)
        return rpc_fail(error, ETCD_AUTH_OLD_REVISION);
    return rpc_reply(stream, &out);
}

static void finish_range(struct kv_call *call, int rc, const struct kp_error *error)
{
    grpc_stream_finish(call->stream, rc, error->message);
    kv_call_free(call);
}

/* It was asked while nobody needed to be known; that may have changed. */
static int serve_nobody(struct kv_call *call, bool on_loop, struct kp_error *error)
{
    const struct auth_identity nobody = {0};
    enum etcd_err err = call->wait.err;
    if (err == ETCD_OK)
        err = permit_range(call->server, &nobody, call->range->key, call->range->range_end, AUTH_READ);
    return err == ETCD_OK ? serve_range(call->server, call->range, &nobody, on_loop, call->stream, error)
                          : rpc_fail(error, err);
}

static void range_on_pool(void *arg)
{
    struct kv_call *call = arg;
    struct kp_error error = {0};
    finish_range(call, serve_nobody(call, false, &error), &error);
}

static void send_range(struct answer *answer)
{
    struct kv_call *call = KP_CONTAINER_OF(answer, struct kv_call, answer);
    struct kp_error error = {0};
    if (grpc_stream_closed(call->stream)) { /* the client has gone, or we are being stopped */
        kv_call_free(call);
        return;
    }
    int rc = serve_nobody(call, true, &error);
    if (rc == GRPC_TO_POOL && pool_submit(call->server->rpc->pool, range_on_pool, call) == 0)
        return;
    if (rc == GRPC_TO_POOL)
        rc = rpc_fail(&error, ETCD_TOO_MANY_REQUESTS);
    finish_range(call, rc, &error);
}

static void range_may_be_read(struct read_wait *wait)
{
    struct kv_call *call = KP_CONTAINER_OF(wait, struct kv_call, wait);
    answers_add(&call->server->answers, &call->answer);
}

/* Lets go of the thread until the quorum has confirmed that we lead. */
static int range_after_quorum(struct etcd_server *server, const Etcdserverpb__RangeRequest *request,
                              struct grpc_stream *stream)
{
    struct kv_call *call = kp_calloc(1, sizeof *call);
    metric_count_range();
    call->server = server;
    call->range = request;
    call->stream = grpc_stream_ref(stream);
    call->answer.fn = send_range;
    call->wait.deadline_ms = kp_mono_ms() + request_timeout_ms(server);
    call->wait.done = range_may_be_read;
    node_read(server, &call->wait);
    return GRPC_DETACHED;
}

static int kv_range(struct grpc_context *context, const void *message, struct grpc_stream *stream, struct kp_error *error)
{
    struct etcd_server *server = server_of(context);
    const Etcdserverpb__RangeRequest *request = message;
    struct auth_identity who = {0};
    if (context->on_loop && auth_enabled(server->auth))
        return GRPC_TO_POOL;
    enum etcd_err err = range_check(request);
    if (err == ETCD_OK && context->on_loop && !request->serializable && !atomic_load(&server->node.sole_leader))
        return range_after_quorum(server, request, stream);
    if (err == ETCD_OK && !request->serializable)
        err = node_wait_read(server);
    if (err == ETCD_OK)
        err = rpc_identity(context, &who);
    if (err == ETCD_OK)
        err = permit_range(server, &who, request->key, request->range_end, AUTH_READ);
    int rc = err == ETCD_OK ? serve_range(server, request, &who, context->on_loop, stream, error) : rpc_fail(error, err);
    if (rc != GRPC_TO_POOL)
        metric_count_range();
    return rc;
}

static int kv_put(struct grpc_context *context, const void *message, struct grpc_stream *stream, struct kp_error *error)
{
    return rpc_propose(context, stream, OP_PUT, message, error);
}

static int kv_delete(struct grpc_context *context, const void *message, struct grpc_stream *stream,
                     struct kp_error *error)
{
    return rpc_propose(context, stream, OP_DELETE_RANGE, message, error);
}

/* A transaction that only reads needs no log entry, but is refused and answered alike. */
static int read_txn(struct grpc_context *context, const Etcdserverpb__TxnRequest *txn, struct grpc_stream *stream,
                    struct kp_error *error)
{
    struct etcd_server *server = server_of(context);
    struct auth_identity who;
    enum etcd_err err = request_check(&server->config, OP_TXN, &txn->base);
    if (err == ETCD_OK)
        err = node_wait_read(server);
    if (err == ETCD_OK)
        err = rpc_identity(context, &who);
    if (err == ETCD_OK)
        err = permit_request(server, &who, OP_TXN, &txn->base);
    if (err != ETCD_OK)
        return rpc_fail(error, err);
    KP_AUTO_BUF struct kp_buf out = {0};
    struct kp_error failure = {0};
    frame_begin(&out);
    mvcc_begin(server->mvcc);
    err = apply_txn(server, txn, &out, &failure);
    int64_t revision = mvcc_end(server->mvcc);
    if (err == ETCD_OK)
        err = still_permitted(server, &who);
    if (err != ETCD_OK)
        return rpc_fail(error, err);
    encode_header(server, &out, revision);
    return rpc_reply(stream, &out);
}

static int kv_txn(struct grpc_context *context, const void *message, struct grpc_stream *stream, struct kp_error *error)
{
    if (txn_is_read_only(message))
        return context->on_loop ? GRPC_TO_POOL : read_txn(context, message, stream, error);
    return rpc_propose(context, stream, OP_TXN, message, error);
}

static int kv_compact(struct grpc_context *context, const void *message, struct grpc_stream *stream,
                      struct kp_error *error)
{
    const Etcdserverpb__CompactionRequest *request = message;
    int rc = rpc_admin_only(context, error);
    if (rc)
        return rc;
    if (!request->physical)
        return rpc_propose(context, stream, OP_COMPACT, message, error);
    struct etcd_server *server = server_of(context);
    KP_AUTO(kp_blob_unref) struct kp_blob *response = NULL;
    enum etcd_err err = op_run(server, OP_COMPACT, &request->base, &response);
    if (err != ETCD_OK)
        return rpc_fail(error, err);
    upkeep_compact(server, true);
    struct kp_error failure = {0};
    if (backend_commit(server->backend, &failure) < 0)
        return grpc_fail(error, GRPC_INTERNAL, "%s", failure.message);
    return grpc_stream_send_blob(stream, response);
}

const struct grpc_method kv_methods[] = {
    {"/etcdserverpb.KV/Range", GRPC_SERVER_STREAM, &etcdserverpb__range_request__descriptor,
     &etcdserverpb__range_response__descriptor, .server_stream = kv_range, .inline_first = true},
    {"/etcdserverpb.KV/Put", GRPC_SERVER_STREAM, &etcdserverpb__put_request__descriptor,
     &etcdserverpb__put_response__descriptor, .server_stream = kv_put, .inline_first = true},
    {"/etcdserverpb.KV/DeleteRange", GRPC_SERVER_STREAM, &etcdserverpb__delete_range_request__descriptor,
     &etcdserverpb__delete_range_response__descriptor, .server_stream = kv_delete, .inline_first = true},
    {"/etcdserverpb.KV/Txn", GRPC_SERVER_STREAM, &etcdserverpb__txn_request__descriptor,
     &etcdserverpb__txn_response__descriptor, .server_stream = kv_txn, .inline_first = true},
    {"/etcdserverpb.KV/Compact", GRPC_SERVER_STREAM, &etcdserverpb__compaction_request__descriptor,
     &etcdserverpb__compaction_response__descriptor, .server_stream = kv_compact},
    {0},
};
