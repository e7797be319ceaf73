/* The transactions of locks and elections: each depends on the create revision of one key. */
#include "controlplane/etcd/server/turn_internal.h"

void turn_txn_init(struct turn_txn *t, struct kp_bytes key, int64_t create_revision)
{
    etcdserverpb__txn_request__init(&t->txn);
    etcdserverpb__compare__init(&t->compare);
    t->compare.target = ETCDSERVERPB__COMPARE__COMPARE_TARGET__CREATE;
    t->compare.key = data_of_bytes(key);
    t->compare.target_union_case = ETCDSERVERPB__COMPARE__TARGET_UNION_CREATE_REVISION;
    t->compare.create_revision = create_revision;
    t->compares[0] = &t->compare;
    t->txn.compare = t->compares;
    t->txn.n_compare = 1;
    t->txn.success = t->success;
    t->txn.failure = t->failure;
    for (size_t i = 0; i < KP_ARRAY_LEN(t->ops); i++)
        etcdserverpb__request_op__init(&t->ops[i]);
}

void turn_txn_put(struct turn_txn *t, struct kp_bytes key, struct kp_bytes value, int64_t lease)
{
    etcdserverpb__put_request__init(&t->put);
    t->put.key = data_of_bytes(key);
    t->put.value = data_of_bytes(value);
    t->put.lease = lease;
    t->ops[0].request_case = ETCDSERVERPB__REQUEST_OP__REQUEST_REQUEST_PUT;
    t->ops[0].request_put = &t->put;
    t->success[t->txn.n_success++] = &t->ops[0];
}

void turn_txn_delete(struct turn_txn *t, struct kp_bytes key)
{
    etcdserverpb__delete_range_request__init(&t->delete);
    t->delete.key = data_of_bytes(key);
    t->ops[0].request_case = ETCDSERVERPB__REQUEST_OP__REQUEST_REQUEST_DELETE_RANGE;
    t->ops[0].request_delete_range = &t->delete;
    t->success[t->txn.n_success++] = &t->ops[0];
}

void turn_txn_else_get(struct turn_txn *t, struct kp_bytes key)
{
    etcdserverpb__range_request__init(&t->own);
    t->own.key = data_of_bytes(key);
    t->ops[1].request_case = ETCDSERVERPB__REQUEST_OP__REQUEST_REQUEST_RANGE;
    t->ops[1].request_range = &t->own;
    t->failure[t->txn.n_failure++] = &t->ops[1];
}

void turn_txn_first(struct turn_txn *t, struct kp_bytes prefix, struct kp_bytes prefix_end)
{
    etcdserverpb__range_request__init(&t->first);
    t->first.key = data_of_bytes(prefix);
    t->first.range_end = data_of_bytes(prefix_end);
    t->first.sort_order = ETCDSERVERPB__RANGE_REQUEST__SORT_ORDER__ASCEND;
    t->first.sort_target = ETCDSERVERPB__RANGE_REQUEST__SORT_TARGET__CREATE;
    t->first.limit = 1;
    t->ops[2].request_case = ETCDSERVERPB__REQUEST_OP__REQUEST_REQUEST_RANGE;
    t->ops[2].request_range = &t->first;
    t->success[t->txn.n_success++] = &t->ops[2];
    t->failure[t->txn.n_failure++] = &t->ops[2];
}

enum etcd_err turn_txn_run(struct grpc_context *context, struct turn_txn *t, Etcdserverpb__TxnResponse **ret_response)
{
    struct etcd_server *server = server_of(context);
    struct auth_identity who;
    KP_AUTO(kp_blob_unref) struct kp_blob *response = NULL;
    enum etcd_err err = request_check(&server->config, OP_TXN, &t->txn.base);
    if (err == ETCD_OK)
        err = rpc_check_quota(server, OP_TXN, &t->txn.base);
    if (err == ETCD_OK)
        err = rpc_identity(context, &who);
    if (err == ETCD_OK && (int64_t)protobuf_c_message_get_packed_size(&t->txn.base) > server->config.request_bytes_max)
        err = ETCD_REQUEST_TOO_LARGE;
    if (err == ETCD_OK)
        err = op_run_as(server, OP_TXN, &t->txn.base, &who, &response);
    if (err != ETCD_OK)
        return err;
    *ret_response = etcdserverpb__txn_response__unpack(NULL, response->len - TURN_FRAME_HEADER,
                                                       response->data + TURN_FRAME_HEADER);
    return *ret_response ? ETCD_OK : ETCD_INTERNAL;
}
