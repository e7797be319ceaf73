/* What a user may do, request by request; etcd's rules. */
#include "controlplane/etcd/server/server_internal.h"

enum etcd_err permit_range(struct etcd_server *server, const struct auth_identity *who, ProtobufCBinaryData key,
                           ProtobufCBinaryData range_end, enum auth_access access)
{
    return etcd_err_of_auth(auth_check_range(server->auth, who, bytes_of(key), bytes_of(range_end), access));
}

/* Whoever may write a key may not thereby get at keys of others through a lease they share: its end deletes them all. */
enum etcd_err permit_lease(struct etcd_server *server, const struct auth_identity *who, int64_t lease,
                           enum auth_access access)
{
    if (!auth_enabled(server->auth) || auth_check_admin(server->auth, who) == AUTH_OK)
        return ETCD_OK;
    struct mvcc_lease_info info = {0};
    if (mvcc_lease_time_to_live(server->mvcc, lease, true, kp_mono_ms(), &info) != MVCC_OK)
        return ETCD_OK;
    enum auth_result result = AUTH_OK;
    for (size_t i = 0; result == AUTH_OK && i < info.key_count; i++)
        result = auth_check_range(server->auth, who, (struct kp_bytes){info.keys[i]->data, info.keys[i]->len},
                                  (struct kp_bytes){0}, access);
    mvcc_blobs_free(info.keys, info.key_count);
    return etcd_err_of_auth(result);
}

static enum etcd_err permit_put(struct etcd_server *server, const struct auth_identity *who,
                                const Etcdserverpb__PutRequest *put)
{
    ProtobufCBinaryData one = {0};
    enum etcd_err err = permit_range(server, who, put->key, one, AUTH_WRITE);
    if (err == ETCD_OK && put->lease)
        err = permit_lease(server, who, put->lease, AUTH_WRITE);
    if (err == ETCD_OK && put->prev_kv)
        err = permit_range(server, who, put->key, one, AUTH_READ);
    return err;
}

static enum etcd_err permit_delete(struct etcd_server *server, const struct auth_identity *who,
                                   const Etcdserverpb__DeleteRangeRequest *request)
{
    enum etcd_err err = permit_range(server, who, request->key, request->range_end, AUTH_WRITE);
    if (err == ETCD_OK && request->prev_kv)
        err = permit_range(server, who, request->key, request->range_end, AUTH_READ);
    return err;
}

static enum etcd_err permit_txn(struct etcd_server *server, const struct auth_identity *who,
                                const Etcdserverpb__TxnRequest *txn);

static enum etcd_err permit_ops(struct etcd_server *server, const struct auth_identity *who,
                                Etcdserverpb__RequestOp *const *ops, size_t len)
{
    enum etcd_err err = ETCD_OK;
    for (size_t i = 0; err == ETCD_OK && i < len; i++) {
        const Etcdserverpb__RequestOp *op = ops[i];
        switch (op->request_case) {
        case ETCDSERVERPB__REQUEST_OP__REQUEST_REQUEST_RANGE:
            err = permit_range(server, who, op->request_range->key, op->request_range->range_end, AUTH_READ);
            break;
        case ETCDSERVERPB__REQUEST_OP__REQUEST_REQUEST_PUT: err = permit_put(server, who, op->request_put); break;
        case ETCDSERVERPB__REQUEST_OP__REQUEST_REQUEST_DELETE_RANGE:
            err = permit_delete(server, who, op->request_delete_range);
            break;
        case ETCDSERVERPB__REQUEST_OP__REQUEST_REQUEST_TXN: err = permit_txn(server, who, op->request_txn); break;
        default: break; /* an operation of no kind does nothing */
        }
    }
    return err;
}

/* Both branches: a refusal must not tell how the comparisons went. */
static enum etcd_err permit_txn(struct etcd_server *server, const struct auth_identity *who,
                                const Etcdserverpb__TxnRequest *txn)
{
    enum etcd_err err = ETCD_OK;
    for (size_t i = 0; err == ETCD_OK && i < txn->n_compare; i++)
        err = permit_range(server, who, txn->compare[i]->key, txn->compare[i]->range_end, AUTH_READ);
    if (err == ETCD_OK)
        err = permit_ops(server, who, txn->success, txn->n_success);
    if (err == ETCD_OK)
        err = permit_ops(server, who, txn->failure, txn->n_failure);
    return err;
}

enum etcd_err permit_request(struct etcd_server *server, const struct auth_identity *who, enum op_kind kind,
                             const ProtobufCMessage *request)
{
    if (!auth_enabled(server->auth))
        return ETCD_OK;
    const void *r = request;
    switch (kind) {
    case OP_PUT: return permit_put(server, who, r);
    case OP_DELETE_RANGE: return permit_delete(server, who, r);
    case OP_TXN: return permit_txn(server, who, r);
    case OP_LEASE_REVOKE:
        return permit_lease(server, who, ((const Etcdserverpb__LeaseRevokeRequest *)r)->id, AUTH_WRITE);
    case OP_AUTHENTICATE: return ETCD_OK; /* the password was looked at before it was proposed */
    default: return op_is_auth(kind) ? etcd_err_of_auth(auth_check_admin(server->auth, who)) : ETCD_OK;
    }
}
