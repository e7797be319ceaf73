/* Applying puts, deletions and transactions, inside one store transaction. */
#include "controlplane/etcd/server/server_internal.h"

enum { OP_RESPONSE_RANGE = 1, OP_RESPONSE_PUT = 2, OP_RESPONSE_DELETE = 3, OP_RESPONSE_TXN = 4 };

static void put_of_request(const Etcdserverpb__PutRequest *put, struct mvcc_put_request *ret)
{
    *ret = (struct mvcc_put_request){.key = bytes_of(put->key),
                                     .value = bytes_of(put->value),
                                     .lease = put->lease,
                                     .ignore_value = put->ignore_value,
                                     .ignore_lease = put->ignore_lease,
                                     .want_prev = put->prev_kv};
}

enum etcd_err apply_put(struct etcd_server *server, const Etcdserverpb__PutRequest *put, struct kp_buf *out,
                        struct kp_error *error)
{
    struct mvcc_put_request request;
    put_of_request(put, &request);
    KP_AUTO(kp_blob_unref) struct kp_blob *prev = NULL;
    enum mvcc_result result = mvcc_put(server->mvcc, &request, &prev, error);
    if (result == MVCC_OK && out && prev)
        encode_message(out, 2, prev->data, prev->len);
    return etcd_err_of_mvcc(result);
}

enum etcd_err apply_delete(struct etcd_server *server, const Etcdserverpb__DeleteRangeRequest *request,
                           struct kp_buf *out, struct kp_error *error)
{
    int64_t deleted = 0;
    struct kp_blob **prevs = NULL;
    enum mvcc_result result = mvcc_delete_range(server->mvcc, bytes_of(request->key), bytes_of(request->range_end),
                                                &deleted, request->prev_kv && out ? &prevs : NULL, error);
    if (result == MVCC_OK && out) {
        encode_number(out, 2, deleted);
        for (int64_t i = 0; prevs && i < deleted; i++)
            encode_message(out, 3, prevs[i]->data, prevs[i]->len);
    }
    mvcc_blobs_free(prevs, (size_t)deleted);
    return etcd_err_of_mvcc(result);
}

/* ---- transactions: choose the branches, check what they will do, do it ---- */

static enum etcd_err compares_hold(struct etcd_server *server, const Etcdserverpb__TxnRequest *txn, bool *ret_holds,
                                   struct kp_error *error)
{
    *ret_holds = true;
    for (size_t i = 0; i < txn->n_compare && *ret_holds; i++) {
        const Etcdserverpb__Compare *c = txn->compare[i];
        struct mvcc_compare compare = {.result = (enum mvcc_compare_result)c->result,
                                       .target = (enum mvcc_compare_target)c->target,
                                       .key = bytes_of(c->key),
                                       .range_end = bytes_of(c->range_end)};
        /* The operand counts only when it is the one the target names; a missing one compares as zero. */
        switch (c->target_union_case) {
        case ETCDSERVERPB__COMPARE__TARGET_UNION_VERSION: compare.number = c->version; break;
        case ETCDSERVERPB__COMPARE__TARGET_UNION_CREATE_REVISION: compare.number = c->create_revision; break;
        case ETCDSERVERPB__COMPARE__TARGET_UNION_MOD_REVISION: compare.number = c->mod_revision; break;
        case ETCDSERVERPB__COMPARE__TARGET_UNION_LEASE: compare.number = c->lease; break;
        case ETCDSERVERPB__COMPARE__TARGET_UNION_VALUE: compare.value = bytes_of(c->value); break;
        default: break;
        }
        enum mvcc_result result = mvcc_compare(server->mvcc, &compare, ret_holds, error);
        if (result != MVCC_OK)
            return etcd_err_of_mvcc(result);
    }
    return ETCD_OK;
}

struct branch {
    Etcdserverpb__RequestOp *const *ops;
    size_t len;
};

static struct branch branch_of(const Etcdserverpb__TxnRequest *txn, bool success)
{
    return success ? (struct branch){txn->success, txn->n_success} : (struct branch){txn->failure, txn->n_failure};
}

/* Which branch each transaction takes, outer before inner, all as of the start. */
static enum etcd_err choose(struct etcd_server *server, const Etcdserverpb__TxnRequest *txn, struct kp_buf *path,
                            struct kp_error *error)
{
    bool holds;
    enum etcd_err err = compares_hold(server, txn, &holds, error);
    if (err)
        return err;
    kp_buf_putc(path, (char)holds);
    struct branch branch = branch_of(txn, holds);
    for (size_t i = 0; err == ETCD_OK && i < branch.len; i++)
        if (branch.ops[i]->request_case == ETCDSERVERPB__REQUEST_OP__REQUEST_REQUEST_TXN)
            err = choose(server, branch.ops[i]->request_txn, path, error);
    return err;
}

static enum etcd_err check_put(struct etcd_server *server, const Etcdserverpb__PutRequest *put)
{
    if ((put->ignore_value || put->ignore_lease) && !mvcc_txn_has_key(server->mvcc, bytes_of(put->key)))
        return ETCD_KEY_NOT_FOUND;
    if (put->lease && !mvcc_txn_has_lease(server->mvcc, put->lease))
        return ETCD_LEASE_NOT_FOUND;
    return ETCD_OK;
}

/* Nothing may fail half way: whatever can is found here. */
static enum etcd_err check(struct etcd_server *server, const Etcdserverpb__TxnRequest *txn, const char **path)
{
    struct branch branch = branch_of(txn, *(*path)++);
    enum etcd_err err = ETCD_OK;
    for (size_t i = 0; err == ETCD_OK && i < branch.len; i++) {
        const Etcdserverpb__RequestOp *op = branch.ops[i];
        if (op->request_case == ETCDSERVERPB__REQUEST_OP__REQUEST_REQUEST_PUT)
            err = check_put(server, op->request_put);
        else if (op->request_case == ETCDSERVERPB__REQUEST_OP__REQUEST_REQUEST_RANGE)
            err = etcd_err_of_mvcc(mvcc_txn_check_revision(server->mvcc, op->request_range->revision));
        else if (op->request_case == ETCDSERVERPB__REQUEST_OP__REQUEST_REQUEST_TXN)
            err = check(server, op->request_txn, path);
    }
    return err;
}

static enum etcd_err run_range(struct etcd_server *server, const Etcdserverpb__RangeRequest *request, struct kp_buf *out,
                               struct kp_error *error)
{
    struct mvcc_range_request range;
    struct mvcc_range_result result;
    range_of_request(request, &range);
    enum mvcc_result rc = mvcc_txn_range(server->mvcc, &range, &result, error);
    if (rc == MVCC_OK) {
        if (out)
            encode_range(out, &result, request->keys_only);
        mvcc_range_done(&result);
    }
    return etcd_err_of_mvcc(rc);
}

static void encode_inner_header(struct etcd_server *server, struct kp_buf *out)
{
    size_t begin = encode_begin(out, 1);
    encode_number(out, 3, mvcc_txn_revision(server->mvcc));
    encode_end(out, begin);
}

static enum etcd_err run(struct etcd_server *server, const Etcdserverpb__TxnRequest *txn, const char **path,
                         struct kp_buf *out, struct kp_error *error);

static enum etcd_err run_op(struct etcd_server *server, const Etcdserverpb__RequestOp *op, const char **path,
                            struct kp_buf *out, struct kp_error *error)
{
    size_t begin = 0;
    enum etcd_err err = ETCD_OK;
    unsigned field = (unsigned)op->request_case; /* RequestOp and ResponseOp number their kinds alike */
    if (out)
        begin = encode_begin(out, field);
    switch (field) {
    case OP_RESPONSE_RANGE: err = run_range(server, op->request_range, out, error); break;
    case OP_RESPONSE_PUT: err = apply_put(server, op->request_put, out, error); break;
    case OP_RESPONSE_DELETE: err = apply_delete(server, op->request_delete_range, out, error); break;
    case OP_RESPONSE_TXN: err = run(server, op->request_txn, path, out, error); break;
    default: err = ETCD_KEY_NOT_FOUND;
    }
    if (out) {
        encode_inner_header(server, out);
        encode_end(out, begin);
    }
    return err;
}

static enum etcd_err run(struct etcd_server *server, const Etcdserverpb__TxnRequest *txn, const char **path,
                         struct kp_buf *out, struct kp_error *error)
{
    bool success = *(*path)++;
    struct branch branch = branch_of(txn, success);
    enum etcd_err err = ETCD_OK;
    if (out)
        encode_number(out, 2, success);
    for (size_t i = 0; err == ETCD_OK && i < branch.len; i++) {
        size_t begin = out ? encode_begin(out, 3) : 0;
        err = run_op(server, branch.ops[i], path, out, error);
        if (out)
            encode_end(out, begin);
    }
    return err;
}

enum etcd_err apply_txn(struct etcd_server *server, const Etcdserverpb__TxnRequest *txn, struct kp_buf *out,
                        struct kp_error *error)
{
    KP_AUTO_BUF struct kp_buf path = {0};
    enum etcd_err err = choose(server, txn, &path, error);
    if (err)
        return err;
    const char *at = path.data;
    if ((err = check(server, txn, &at)) != ETCD_OK)
        return err;
    at = path.data;
    err = run(server, txn, &at, out, error);
    if (err) /* half done and not to be undone: only a failing disk gets here */
        server_die(server, "apply a transaction", error);
    return ETCD_OK;
}
