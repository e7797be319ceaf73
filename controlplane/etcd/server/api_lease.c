/* The Lease service. */
#include "controlplane/etcd/server/rpc_internal.h"

static int lease_grant(struct grpc_context *context, const void *message, struct grpc_stream *stream,
                       struct kp_error *error)
{
    Etcdserverpb__LeaseGrantRequest request = *(const Etcdserverpb__LeaseGrantRequest *)message;
    if (request.id == 0)
        request.id = (int64_t)(kp_random_u64() >> 1) | 1; /* positive and never 0 */
    int rc = rpc_known_only(context, error);
    if (rc)
        return rc;
    return rpc_propose(context, stream, OP_LEASE_GRANT, &request.base, error);
}

static int lease_revoke(struct grpc_context *context, const void *message, struct grpc_stream *stream,
                        struct kp_error *error)
{
    int rc = rpc_known_only(context, error);
    if (rc)
        return rc;
    return rpc_propose(context, stream, OP_LEASE_REVOKE, message, error);
}

/* Renewing keeps the keys of the lease alive: only for those who may write them all. */
static enum etcd_err permit_renewal(struct grpc_stream *stream, struct etcd_server *server, int64_t lease, bool may_wait,
                                    bool *ret_ahead)
{
    *ret_ahead = false;
    if (!auth_enabled(server->auth))
        return ETCD_OK;
    struct auth_identity who;
    const struct grpc_context *context = grpc_stream_context(stream);
    enum etcd_err err = may_wait ? rpc_identity(context, &who) : rpc_identity_now(context, &who, ret_ahead);
    if (err == ETCD_OK)
        err = etcd_err_of_auth(auth_check_known(server->auth, &who));
    return err == ETCD_OK ? permit_lease(server, &who, lease, AUTH_WRITE) : err;
}

static void end_stream(struct grpc_stream *stream, enum etcd_err err)
{
    const struct etcd_err_info *info = etcd_err_info(err);
    grpc_stream_finish(stream, info->grpc_code, info->text);
}

/* A lease that is gone answers with a TTL of 0: that is how clients learn of it. */
static void reply_ttl(struct etcd_server *server, struct grpc_stream *stream, int64_t id, int64_t ttl_s)
{
    KP_AUTO_BUF struct kp_buf out = {0};
    frame_begin(&out);
    encode_header(server, &out, mvcc_revision(server->mvcc));
    encode_number(&out, 2, id);
    encode_number(&out, 3, ttl_s);
    rpc_reply(stream, &out); /* fails only when the client has gone */
}

struct renewal {
    struct etcd_server *server;
    struct grpc_stream *stream;
    int64_t id;
};

/* On a worker: the log may have to bring the token first; the leader is asked, or makes sure that it is one. */
static void renew_waiting(void *arg)
{
    struct renewal *renewal = arg;
    int64_t ttl_s;
    bool ahead;
    enum etcd_err err = permit_renewal(renewal->stream, renewal->server, renewal->id, true, &ahead);
    if (err == ETCD_OK)
        err = lease_renew_anywhere(renewal->server, renewal->id, &ttl_s);
    if (err == ETCD_OK)
        reply_ttl(renewal->server, renewal->stream, renewal->id, ttl_s);
    else
        end_stream(renewal->stream, err);
    grpc_stream_unref(renewal->stream);
    free(renewal);
}

static void on_keep_alive(struct grpc_stream *stream, const void *message, void *arg)
{
    struct etcd_server *server = arg;
    const Etcdserverpb__LeaseKeepAliveRequest *request = message;
    bool ahead;
    enum etcd_err err = permit_renewal(stream, server, request->id, false, &ahead);
    if (err == ETCD_OK && !atomic_load(&server->node.leader))
        err = ETCD_NO_LEADER;
    if (err != ETCD_OK && !ahead) {
        end_stream(stream, err);
        return;
    }
    if (ahead || !atomic_load_explicit(&server->node.sole_leader, memory_order_acquire)) {
        struct renewal *renewal = kp_malloc(sizeof *renewal);
        *renewal = (struct renewal){.server = server, .stream = grpc_stream_ref(stream), .id = request->id};
        if (pool_submit(server->rpc->pool, renew_waiting, renewal) < 0) {
            end_stream(stream, ETCD_TOO_MANY_REQUESTS);
            grpc_stream_unref(stream);
            free(renewal);
        }
        return;
    }
    int64_t ttl_s = 0;
    if (mvcc_lease_renew(server->mvcc, request->id, kp_mono_ms(), &ttl_s) != MVCC_OK)
        ttl_s = 0;
    reply_ttl(server, stream, request->id, ttl_s);
}

static void on_keep_alive_close(struct grpc_stream *stream, void *arg) { grpc_stream_unref(stream); }

static int lease_keep_alive(struct grpc_context *context, struct grpc_stream *stream, struct kp_error *error)
{
    static const struct grpc_stream_callbacks callbacks = {.on_message = on_keep_alive, .on_close = on_keep_alive_close};
    grpc_stream_ref(stream);
    grpc_stream_set_callbacks(stream, &callbacks, server_of(context));
    return 0;
}

static int lease_time_to_live(struct grpc_context *context, const void *message, struct grpc_stream *stream,
                              struct kp_error *error)
{
    struct etcd_server *server = server_of(context);
    const Etcdserverpb__LeaseTimeToLiveRequest *request = message;
    struct auth_identity who;
    enum etcd_err err = rpc_identity(context, &who);
    if (err == ETCD_OK)
        err = etcd_err_of_auth(auth_check_known(server->auth, &who));
    if (err == ETCD_OK)
        err = node_wait_read(server);
    if (err == ETCD_OK && request->keys)
        err = permit_lease(server, &who, request->id, AUTH_READ);
    bool found = false;
    int64_t granted_s, remaining_s = 0;
    if (err == ETCD_OK)
        err = lease_remaining_anywhere(server, request->id, &found, &granted_s, &remaining_s);
    if (err != ETCD_OK)
        return rpc_fail(error, err);
    KP_AUTO_BUF struct kp_buf out = {0};
    frame_begin(&out);
    encode_header(server, &out, mvcc_revision(server->mvcc));
    encode_number(&out, 2, request->id);
    struct mvcc_lease_info info = {0};
    if (!found || mvcc_lease_time_to_live(server->mvcc, request->id, request->keys, kp_mono_ms(), &info) != MVCC_OK) {
        encode_number(&out, 3, -1);
        return rpc_reply(stream, &out);
    }
    encode_number(&out, 3, remaining_s);
    encode_number(&out, 4, info.granted_ttl_s);
    for (size_t i = 0; i < info.key_count; i++)
        encode_message(&out, 5, info.keys[i]->data, info.keys[i]->len);
    mvcc_blobs_free(info.keys, info.key_count);
    return rpc_reply(stream, &out);
}

static int lease_leases(struct grpc_context *context, const void *message, struct grpc_stream *stream,
                        struct kp_error *error)
{
    struct etcd_server *server = server_of(context);
    struct auth_identity who;
    enum etcd_err err = rpc_identity(context, &who);
    if (err == ETCD_OK)
        err = etcd_err_of_auth(auth_check_known(server->auth, &who));
    if (err == ETCD_OK)
        err = node_wait_read(server);
    if (err != ETCD_OK)
        return rpc_fail(error, err);
    KP_AUTO_BUF struct kp_buf out = {0};
    frame_begin(&out);
    encode_header(server, &out, mvcc_revision(server->mvcc));
    int64_t *ids;
    size_t len = mvcc_lease_list(server->mvcc, &ids);
    for (size_t i = 0; err == ETCD_OK && i < len; i++)
        err = permit_lease(server, &who, ids[i], AUTH_READ);
    for (size_t i = 0; err == ETCD_OK && i < len; i++) {
        size_t begin = encode_begin(&out, 2);
        encode_number(&out, 1, ids[i]);
        encode_end(&out, begin);
    }
    free(ids);
    return err == ETCD_OK ? rpc_reply(stream, &out) : rpc_fail(error, err);
}

const struct grpc_method lease_methods[] = {
    {"/etcdserverpb.Lease/LeaseGrant", GRPC_SERVER_STREAM, &etcdserverpb__lease_grant_request__descriptor,
     &etcdserverpb__lease_grant_response__descriptor, .server_stream = lease_grant},
    {"/etcdserverpb.Lease/LeaseRevoke", GRPC_SERVER_STREAM, &etcdserverpb__lease_revoke_request__descriptor,
     &etcdserverpb__lease_revoke_response__descriptor, .server_stream = lease_revoke},
    {"/etcdserverpb.Lease/LeaseKeepAlive", GRPC_BIDI, &etcdserverpb__lease_keep_alive_request__descriptor,
     &etcdserverpb__lease_keep_alive_response__descriptor, .open = lease_keep_alive},
    {"/etcdserverpb.Lease/LeaseTimeToLive", GRPC_SERVER_STREAM, &etcdserverpb__lease_time_to_live_request__descriptor,
     &etcdserverpb__lease_time_to_live_response__descriptor, .server_stream = lease_time_to_live},
    {"/etcdserverpb.Lease/LeaseLeases", GRPC_SERVER_STREAM, &etcdserverpb__lease_leases_request__descriptor,
     &etcdserverpb__lease_leases_response__descriptor, .server_stream = lease_leases},
    {0},
};
