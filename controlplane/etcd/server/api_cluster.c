/* The Cluster service: who belongs to the cluster, and changes of that. */
#include "controlplane/etcd/server/rpc_internal.h"

static int member_list(struct grpc_context *context, const void *message, struct grpc_stream *stream,
                       struct kp_error *error)
{
    struct etcd_server *server = server_of(context);
    const Etcdserverpb__MemberListRequest *request = message;
    int rc = rpc_known_only(context, error);
    if (rc)
        return rc;
    enum etcd_err err = request->linearizable ? node_wait_read(server) : ETCD_OK;
    if (err != ETCD_OK)
        return rpc_fail(error, err);
    KP_AUTO_BUF struct kp_buf out = {0};
    frame_begin(&out);
    encode_header(server, &out, mvcc_revision(server->mvcc));
    members_encode(&server->members, &out, 2);
    return rpc_reply(stream, &out);
}

/* etcd's rules for peer URLs: scheme, host and port, no path. */
static bool url_is_fine(const char *url)
{
    const char *rest = kp_starts_with(url, "https://") ? url + 8 : kp_starts_with(url, "http://") ? url + 7 : NULL;
    const char *colon = rest ? strrchr(rest, ':') : NULL;
    int64_t port;
    return colon && colon > rest && !strchr(rest, '/') && kp_parse_i64(colon + 1, &port) == 0 && port > 0 && port < 65536;
}

static enum etcd_err check_urls(char *const *urls, size_t len)
{
    if (len == 0 || len > ETCD_URLS_MAX)
        return ETCD_MEMBER_BAD_URLS;
    for (size_t i = 0; i < len; i++)
        if (!url_is_fine(urls[i]))
            return ETCD_MEMBER_BAD_URLS;
    return ETCD_OK;
}

static int change(struct grpc_context *context, struct grpc_stream *stream, enum op_kind kind,
                  const Etcdserverpb__Member *member, struct kp_error *error)
{
    struct etcd_server *server = server_of(context);
    int rc = rpc_admin_only(context, error);
    if (rc)
        return rc;
    KP_AUTO(kp_blob_unref) struct kp_blob *response = NULL;
    enum etcd_err err = cluster_change_anywhere(server, kind, member, &response);
    return err == ETCD_OK ? grpc_stream_send_blob(stream, response) : rpc_fail(error, err);
}

static int member_add(struct grpc_context *context, const void *message, struct grpc_stream *stream,
                      struct kp_error *error)
{
    const Etcdserverpb__MemberAddRequest *request = message;
    enum etcd_err err = check_urls(request->peerurls, request->n_peerurls);
    if (err != ETCD_OK)
        return rpc_fail(error, err);
    char salt[48];
    snprintf(salt, sizeof salt, "%lld", (long long)kp_now_ns()); /* the same URLs may be removed and added again */
    Etcdserverpb__Member member = ETCDSERVERPB__MEMBER__INIT;
    member.id = member_id_of_urls(request->peerurls, request->n_peerurls, salt);
    member.n_peerurls = request->n_peerurls;
    member.peerurls = request->peerurls;
    member.islearner = request->islearner;
    return change(context, stream, OP_MEMBER_ADD, &member, error);
}

static int member_remove(struct grpc_context *context, const void *message, struct grpc_stream *stream,
                         struct kp_error *error)
{
    Etcdserverpb__Member member = ETCDSERVERPB__MEMBER__INIT;
    member.id = ((const Etcdserverpb__MemberRemoveRequest *)message)->id;
    return change(context, stream, OP_MEMBER_REMOVE, &member, error);
}

static int member_update(struct grpc_context *context, const void *message, struct grpc_stream *stream,
                         struct kp_error *error)
{
    const Etcdserverpb__MemberUpdateRequest *request = message;
    enum etcd_err err = check_urls(request->peerurls, request->n_peerurls);
    if (err != ETCD_OK)
        return rpc_fail(error, err);
    Etcdserverpb__Member member = ETCDSERVERPB__MEMBER__INIT;
    member.id = request->id;
    member.n_peerurls = request->n_peerurls;
    member.peerurls = request->peerurls;
    return change(context, stream, OP_MEMBER_UPDATE, &member, error);
}

static int member_promote(struct grpc_context *context, const void *message, struct grpc_stream *stream,
                          struct kp_error *error)
{
    Etcdserverpb__Member member = ETCDSERVERPB__MEMBER__INIT;
    member.id = ((const Etcdserverpb__MemberPromoteRequest *)message)->id;
    return change(context, stream, OP_MEMBER_PROMOTE, &member, error);
}

const struct grpc_method cluster_methods[] = {
    {"/etcdserverpb.Cluster/MemberList", GRPC_SERVER_STREAM, &etcdserverpb__member_list_request__descriptor,
     &etcdserverpb__member_list_response__descriptor, .server_stream = member_list},
    {"/etcdserverpb.Cluster/MemberAdd", GRPC_SERVER_STREAM, &etcdserverpb__member_add_request__descriptor,
     &etcdserverpb__member_add_response__descriptor, .server_stream = member_add},
    {"/etcdserverpb.Cluster/MemberRemove", GRPC_SERVER_STREAM, &etcdserverpb__member_remove_request__descriptor,
     &etcdserverpb__member_remove_response__descriptor, .server_stream = member_remove},
    {"/etcdserverpb.Cluster/MemberUpdate", GRPC_SERVER_STREAM, &etcdserverpb__member_update_request__descriptor,
     &etcdserverpb__member_update_response__descriptor, .server_stream = member_update},
    {"/etcdserverpb.Cluster/MemberPromote", GRPC_SERVER_STREAM, &etcdserverpb__member_promote_request__descriptor,
     &etcdserverpb__member_promote_response__descriptor, .server_stream = member_promote},
    {0},
};
