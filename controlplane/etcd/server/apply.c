/* Applying committed requests to the store, in the order of the log. */
#include "controlplane/etcd/server/server_internal.h"

void encode_header(struct etcd_server *server, struct kp_buf *out, int64_t revision)
{
    size_t begin = encode_begin(out, 1);
    encode_number(out, 1, (int64_t)server->cluster_id);
    encode_number(out, 2, (int64_t)server->member_id);
    encode_number(out, 3, revision);
    encode_number(out, 4, (int64_t)atomic_load_explicit(&server->node.term, memory_order_relaxed));
    encode_end(out, begin);
}

static enum etcd_err refuse(struct etcd_server *server, enum op_kind kind, const ProtobufCMessage *request)
{
    if (kind == OP_ALARM || kind == OP_MEMBER_ATTRIBUTES || kind == OP_MEMBER_UPDATE || op_is_auth(kind))
        return ETCD_OK;
    if (atomic_load(&server->alarms.corrupt))
        return ETCD_CORRUPT;
    if (atomic_load(&server->alarms.no_space) && request_cost(kind, request) > 0)
        return ETCD_NO_SPACE;
    return ETCD_OK;
}

/* Answers with the alarms asked for, or with the one that was raised or cleared. */
static void apply_alarm(struct etcd_server *server, const Etcdserverpb__AlarmRequest *request, struct kp_buf *out)
{
    int type = (int)request->alarm;
    if (request->action == ETCDSERVERPB__ALARM_REQUEST__ALARM_ACTION__GET) {
        if (out)
            alarms_encode(&server->alarms, out, 2, type);
        return;
    }
    bool raise = request->action == ETCDSERVERPB__ALARM_REQUEST__ALARM_ACTION__ACTIVATE;
    if (alarms_change(server->backend, &server->alarms, request->memberid, type, raise) && out) {
        size_t begin = encode_begin(out, 2);
        encode_number(out, 1, (int64_t)request->memberid);
        encode_number(out, 2, type);
        encode_end(out, begin);
    }
}

/* Inside the store's transaction. */
static enum etcd_err dispatch(struct etcd_server *server, uint64_t index, enum op_kind kind,
                              const ProtobufCMessage *request, struct kp_buf *out, struct kp_error *error)
{
    const void *r = request;
    switch (kind) {
    case OP_PUT: return apply_put(server, r, out, error);
    case OP_DELETE_RANGE: return apply_delete(server, r, out, error);
    case OP_TXN: return apply_txn(server, r, out, error);
    case OP_COMPACT:
        return etcd_err_of_mvcc(mvcc_compact(server->mvcc, ((const Etcdserverpb__CompactionRequest *)r)->revision));
    case OP_LEASE_GRANT: {
        const Etcdserverpb__LeaseGrantRequest *grant = r;
        return etcd_err_of_mvcc(mvcc_lease_grant(server->mvcc, grant->id, grant->ttl, kp_mono_ms()));
    }
    case OP_LEASE_REVOKE:
        return etcd_err_of_mvcc(mvcc_lease_revoke(server->mvcc, ((const Etcdserverpb__LeaseRevokeRequest *)r)->id));
    case OP_ALARM: apply_alarm(server, r, out); return ETCD_OK;
    case OP_MEMBER_ATTRIBUTES:
    case OP_MEMBER_UPDATE: {
        enum etcd_err err = members_check(&server->members, kind, r);
        if (err == ETCD_OK)
            members_change(server->backend, &server->members, kind, r);
        return err;
    }
    default: break;
    }
    return op_is_auth(kind) ? apply_auth(server, index, kind, request, out) : ETCD_INTERNAL;
}

static void after(struct etcd_server *server, enum op_kind kind, const ProtobufCMessage *request, struct kp_buf *out)
{
    if (kind == OP_COMPACT)
        upkeep_compact(server, false);
    if (kind == OP_MEMBER_UPDATE) {
        cluster_know_peers(server);
        if (out)
            members_encode(&server->members, out, 2);
    }
    if (kind == OP_LEASE_GRANT && out) {
        const Etcdserverpb__LeaseGrantRequest *grant = (const void *)request;
        struct mvcc_lease_info info = {0};
        (void)mvcc_lease_time_to_live(server->mvcc, grant->id, false, kp_mono_ms(), &info);
        encode_number(out, 2, grant->id);
        encode_number(out, 3, info.granted_ttl_s);
    }
}

enum etcd_err apply_request(struct etcd_server *server, uint64_t index, uint64_t term, enum op_kind kind,
                            const ProtobufCMessage *request, const struct auth_identity *who, bool want_response,
                            struct kp_blob **ret_response)
{
    KP_AUTO_BUF struct kp_buf out = {0};
    struct kp_error error = {0};
    enum etcd_err err = refuse(server, kind, request);
    if (err == ETCD_OK)
        err = permit_request(server, who, kind, request);
    if (want_response)
        frame_begin(&out);
    mvcc_begin(server->mvcc);
    if (err == ETCD_OK)
        err = dispatch(server, index, kind, request, want_response ? &out : NULL, &error);
    /* Half of an entry may be in: no other member has that, so it must not get to the disk. */
    if (error.code)
        server_die(server, "apply an entry to the store", &error);
    backend_set_consistent_index(server->backend, index, term);
    int64_t revision = mvcc_end(server->mvcc);
    if (err == ETCD_OK)
        after(server, kind, request, want_response ? &out : NULL);
    if (err == ETCD_OK && want_response) {
        encode_header(server, &out, revision);
        *ret_response = frame_take(&out);
    }
    return err;
}

void apply_nothing(struct etcd_server *server, uint64_t index, uint64_t term)
{
    backend_write_lock(server->backend);
    backend_set_consistent_index(server->backend, index, term);
    backend_write_unlock(server->backend);
}
