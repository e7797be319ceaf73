/* Decoding requests and the checks that come before anything is proposed. */
#include "controlplane/etcd/server/server_internal.h"

/* ---- decoding ---- */

static bool get_varint(const uint8_t **p, const uint8_t *end, uint64_t *ret)
{
    uint64_t value = 0;
    for (int shift = 0; shift < 64 && *p < end; shift += 7) {
        uint8_t byte = *(*p)++;
        value |= (uint64_t)(byte & 0x7f) << shift;
        if (!(byte & 0x80)) {
            *ret = value;
            return true;
        }
    }
    return false;
}

/* Moves over one field; for a length-delimited one, ret_payload gets its bytes. */
static bool next_field(const uint8_t **p, const uint8_t *end, uint64_t *ret_field, struct kp_bytes *ret_payload)
{
    uint64_t tag, value;
    if (!get_varint(p, end, &tag))
        return false;
    *ret_field = tag >> 3;
    *ret_payload = (struct kp_bytes){0};
    switch (tag & 7) {
    case 0: return get_varint(p, end, &value);
    case 1: value = 8; break;
    case 5: value = 4; break;
    case 2:
        if (!get_varint(p, end, &value) || value > (uint64_t)(end - *p))
            return false;
        *ret_payload = (struct kp_bytes){*p, (size_t)value};
        break;
    default: return false;
    }
    if (value > (uint64_t)(end - *p))
        return false;
    *p += value;
    return true;
}

/* protobuf-c recurses as deep as the bytes say; this walks a TxnRequest (level even) and its RequestOps (level odd). */
static bool depth_is_fine(const uint8_t *data, size_t len, int level)
{
    if (level > 2 * ETCD_TXN_DEPTH_MAX)
        return false;
    const uint8_t *p = data, *end = data + len;
    while (p < end) {
        uint64_t field;
        struct kp_bytes payload;
        if (!next_field(&p, end, &field, &payload))
            return false;
        bool inner = level % 2 == 0 ? field == 2 || field == 3 : field == 4;
        if (inner && payload.len && !depth_is_fine(payload.data, payload.len, level + 1))
            return false;
    }
    return true;
}

bool txn_depth_is_fine(const uint8_t *data, size_t len) { return depth_is_fine(data, len, 0); }

static const ProtobufCMessageDescriptor *const descriptors[OP_KIND_END] = {
    [OP_PUT] = &etcdserverpb__put_request__descriptor,
    [OP_DELETE_RANGE] = &etcdserverpb__delete_range_request__descriptor,
    [OP_TXN] = &etcdserverpb__txn_request__descriptor,
    [OP_COMPACT] = &etcdserverpb__compaction_request__descriptor,
    [OP_LEASE_GRANT] = &etcdserverpb__lease_grant_request__descriptor,
    [OP_LEASE_REVOKE] = &etcdserverpb__lease_revoke_request__descriptor,
    [OP_ALARM] = &etcdserverpb__alarm_request__descriptor,
    [OP_MEMBER_ATTRIBUTES] = &etcdserverpb__member__descriptor,
    [OP_MEMBER_ADD] = &etcdserverpb__member__descriptor,
    [OP_MEMBER_REMOVE] = &etcdserverpb__member__descriptor,
    [OP_MEMBER_PROMOTE] = &etcdserverpb__member__descriptor,
    [OP_MEMBER_UPDATE] = &etcdserverpb__member__descriptor,
    [OP_AUTHENTICATE] = &etcdserverpb__authenticate_request__descriptor,
    [OP_AUTH_ENABLE] = &etcdserverpb__auth_enable_request__descriptor,
    [OP_AUTH_DISABLE] = &etcdserverpb__auth_disable_request__descriptor,
    [OP_AUTH_USER_ADD] = &etcdserverpb__auth_user_add_request__descriptor,
    [OP_AUTH_USER_DELETE] = &etcdserverpb__auth_user_delete_request__descriptor,
    [OP_AUTH_USER_CHANGE_PASSWORD] = &etcdserverpb__auth_user_change_password_request__descriptor,
    [OP_AUTH_USER_GRANT_ROLE] = &etcdserverpb__auth_user_grant_role_request__descriptor,
    [OP_AUTH_USER_REVOKE_ROLE] = &etcdserverpb__auth_user_revoke_role_request__descriptor,
    [OP_AUTH_ROLE_ADD] = &etcdserverpb__auth_role_add_request__descriptor,
    [OP_AUTH_ROLE_DELETE] = &etcdserverpb__auth_role_delete_request__descriptor,
    [OP_AUTH_ROLE_GRANT_PERMISSION] = &etcdserverpb__auth_role_grant_permission_request__descriptor,
    [OP_AUTH_ROLE_REVOKE_PERMISSION] = &etcdserverpb__auth_role_revoke_permission_request__descriptor,
};

ProtobufCMessage *request_decode(enum op_kind kind, const uint8_t *data, size_t len)
{
    if (kind <= 0 || kind >= OP_KIND_END || !descriptors[kind] || (kind == OP_TXN && !txn_depth_is_fine(data, len)))
        return NULL;
    return protobuf_c_message_unpack(descriptors[kind], NULL, len, data);
}

void request_free(ProtobufCMessage *request)
{
    if (request)
        protobuf_c_message_free_unpacked(request, NULL);
}

/* ---- checks ---- */

enum etcd_err range_check(const Etcdserverpb__RangeRequest *request)
{
    if (request->key.len == 0)
        return ETCD_EMPTY_KEY;
    if ((int)request->sort_order < 0 || request->sort_order > ETCDSERVERPB__RANGE_REQUEST__SORT_ORDER__DESCEND ||
        (int)request->sort_target < 0 || request->sort_target > ETCDSERVERPB__RANGE_REQUEST__SORT_TARGET__VALUE)
        return ETCD_INVALID_SORT;
    return ETCD_OK;
}

void range_of_request(const Etcdserverpb__RangeRequest *request, struct mvcc_range_request *ret)
{
    *ret = (struct mvcc_range_request){
        .key = bytes_of(request->key),
        .range_end = bytes_of(request->range_end),
        .limit = request->limit,
        .revision = request->revision,
        .sort_order = (enum mvcc_sort_order)request->sort_order,
        .sort_target = (enum mvcc_sort_target)request->sort_target,
        .keys_only = request->keys_only,
        .count_only = request->count_only,
        .min_mod_revision = request->min_mod_revision,
        .max_mod_revision = request->max_mod_revision,
        .min_create_revision = request->min_create_revision,
        .max_create_revision = request->max_create_revision,
    };
}

static enum etcd_err put_check(const Etcdserverpb__PutRequest *put)
{
    if (put->key.len == 0)
        return ETCD_EMPTY_KEY;
    if (put->ignore_value && put->value.len)
        return ETCD_VALUE_PROVIDED;
    if (put->ignore_lease && put->lease)
        return ETCD_LEASE_PROVIDED;
    return ETCD_OK;
}

/* A key (end empty) or a range that an operation of a transaction touches. */
struct touch {
    struct kp_bytes key, end;
};
struct touches {
    struct touch *puts, *deletes;
    size_t put_count, delete_count;
};

static void touch_add(struct touch **list, size_t *count, struct kp_bytes key, struct kp_bytes end)
{
    if ((*count & (*count - 1)) == 0) /* full at powers of two */
        *list = kp_realloc(*list, (*count ? *count * 2 : 1) * sizeof **list);
    (*list)[(*count)++] = (struct touch){.key = key, .end = end};
}

static void touches_done(struct touches *t)
{
    free(t->puts);
    free(t->deletes);
}

static bool puts_collide(const struct touches *t, struct kp_bytes key)
{
    for (size_t i = 0; i < t->put_count; i++)
        if (mvcc_in_range(key, t->puts[i].key, (struct kp_bytes){0}))
            return true;
    return false;
}

static bool deletes_cover(const struct touches *t, struct kp_bytes key)
{
    for (size_t i = 0; i < t->delete_count; i++)
        if (mvcc_in_range(key, t->deletes[i].key, t->deletes[i].end))
            return true;
    return false;
}

static void touches_join(struct touches *into, const struct touches *from)
{
    for (size_t i = 0; i < from->put_count; i++)
        touch_add(&into->puts, &into->put_count, from->puts[i].key, from->puts[i].end);
    for (size_t i = 0; i < from->delete_count; i++)
        touch_add(&into->deletes, &into->delete_count, from->deletes[i].key, from->deletes[i].end);
}

static enum etcd_err ops_check(const struct etcd_config *config, Etcdserverpb__RequestOp *const *ops, size_t len,
                               struct touches *out);

/* Both branches of a nested transaction may happen as seen from outside, though never together. */
static enum etcd_err txn_check(const struct etcd_config *config, const Etcdserverpb__TxnRequest *txn, struct touches *out)
{
    size_t max = (size_t)config->txn_ops_max;
    if (txn->n_compare > max || txn->n_success > max || txn->n_failure > max)
        return ETCD_TOO_MANY_OPS;
    for (size_t i = 0; i < txn->n_compare; i++)
        if (txn->compare[i]->key.len == 0)
            return ETCD_EMPTY_KEY;
    struct touches success = {0}, failure = {0};
    enum etcd_err err = ops_check(config, txn->success, txn->n_success, &success);
    if (err == ETCD_OK)
        err = ops_check(config, txn->failure, txn->n_failure, &failure);
    if (err == ETCD_OK) {
        touches_join(out, &success);
        touches_join(out, &failure);
    }
    touches_done(&success);
    touches_done(&failure);
    return err;
}

static enum etcd_err nested_check(const struct etcd_config *config, const Etcdserverpb__TxnRequest *txn,
                                  struct touches *out)
{
    struct touches inner = {0};
    enum etcd_err err = txn_check(config, txn, &inner);
    for (size_t i = 0; err == ETCD_OK && i < inner.put_count; i++)
        if (puts_collide(out, inner.puts[i].key) || deletes_cover(out, inner.puts[i].key))
            err = ETCD_DUPLICATE_KEY;
    for (size_t i = 0; err == ETCD_OK && i < out->put_count; i++)
        if (deletes_cover(&inner, out->puts[i].key))
            err = ETCD_DUPLICATE_KEY;
    if (err == ETCD_OK)
        touches_join(out, &inner);
    touches_done(&inner);
    return err;
}

static enum etcd_err op_check(const struct etcd_config *config, const Etcdserverpb__RequestOp *op)
{
    switch (op->request_case) {
    case ETCDSERVERPB__REQUEST_OP__REQUEST_REQUEST_RANGE: return range_check(op->request_range);
    case ETCDSERVERPB__REQUEST_OP__REQUEST_REQUEST_PUT: return put_check(op->request_put);
    case ETCDSERVERPB__REQUEST_OP__REQUEST_REQUEST_DELETE_RANGE:
        return op->request_delete_range->key.len ? ETCD_OK : ETCD_EMPTY_KEY;
    case ETCDSERVERPB__REQUEST_OP__REQUEST_REQUEST_TXN: return ETCD_OK; /* by nested_check */
    default: return ETCD_KEY_NOT_FOUND; /* an operation of no kind: what etcd answers */
    }
}

static enum etcd_err ops_check(const struct etcd_config *config, Etcdserverpb__RequestOp *const *ops, size_t len,
                               struct touches *out)
{
    enum etcd_err err = ETCD_OK;
    for (size_t i = 0; err == ETCD_OK && i < len; i++)
        err = op_check(config, ops[i]);
    for (size_t i = 0; err == ETCD_OK && i < len; i++)
        if (ops[i]->request_case == ETCDSERVERPB__REQUEST_OP__REQUEST_REQUEST_DELETE_RANGE)
            touch_add(&out->deletes, &out->delete_count, bytes_of(ops[i]->request_delete_range->key),
                      bytes_of(ops[i]->request_delete_range->range_end));
    for (size_t i = 0; err == ETCD_OK && i < len; i++)
        if (ops[i]->request_case == ETCDSERVERPB__REQUEST_OP__REQUEST_REQUEST_TXN)
            err = nested_check(config, ops[i]->request_txn, out);
    for (size_t i = 0; err == ETCD_OK && i < len; i++) {
        if (ops[i]->request_case != ETCDSERVERPB__REQUEST_OP__REQUEST_REQUEST_PUT)
            continue;
        struct kp_bytes key = bytes_of(ops[i]->request_put->key);
        if (puts_collide(out, key) || deletes_cover(out, key))
            err = ETCD_DUPLICATE_KEY;
        else
            touch_add(&out->puts, &out->put_count, key, (struct kp_bytes){0});
    }
    return err;
}

enum etcd_err request_check(const struct etcd_config *config, enum op_kind kind, const ProtobufCMessage *request)
{
    switch (kind) {
    case OP_PUT: return put_check((const void *)request);
    case OP_DELETE_RANGE:
        return ((const Etcdserverpb__DeleteRangeRequest *)(const void *)request)->key.len ? ETCD_OK : ETCD_EMPTY_KEY;
    case OP_TXN: {
        struct touches touches = {0};
        enum etcd_err err = txn_check(config, (const void *)request, &touches);
        touches_done(&touches);
        return err;
    }
    default: return ETCD_OK;
    }
}

static bool ops_are_read_only(Etcdserverpb__RequestOp *const *ops, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        bool reads = ops[i]->request_case == ETCDSERVERPB__REQUEST_OP__REQUEST_REQUEST_RANGE ||
                     (ops[i]->request_case == ETCDSERVERPB__REQUEST_OP__REQUEST_REQUEST_TXN &&
                      txn_is_read_only(ops[i]->request_txn));
        if (!reads)
            return false;
    }
    return true;
}

bool txn_is_read_only(const Etcdserverpb__TxnRequest *txn)
{
    return ops_are_read_only(txn->success, txn->n_success) && ops_are_read_only(txn->failure, txn->n_failure);
}

/* ---- what a request costs, for the quota ---- */

static int64_t put_cost(const Etcdserverpb__PutRequest *put) { return (int64_t)(put->key.len + put->value.len) + 128; }

static int64_t ops_cost(Etcdserverpb__RequestOp *const *ops, size_t len)
{
    int64_t cost = 0;
    for (size_t i = 0; i < len; i++) {
        if (ops[i]->request_case == ETCDSERVERPB__REQUEST_OP__REQUEST_REQUEST_PUT)
            cost += put_cost(ops[i]->request_put);
        else if (ops[i]->request_case == ETCDSERVERPB__REQUEST_OP__REQUEST_REQUEST_TXN)
            cost += request_cost(OP_TXN, &ops[i]->request_txn->base);
    }
    return cost;
}

int64_t request_cost(enum op_kind kind, const ProtobufCMessage *request)
{
    switch (kind) {
    case OP_PUT: return put_cost((const void *)request);
    case OP_TXN: {
        const Etcdserverpb__TxnRequest *txn = (const void *)request;
        return KP_MAX(ops_cost(txn->success, txn->n_success), ops_cost(txn->failure, txn->n_failure));
    }
    case OP_LEASE_GRANT: return 64;
    default: return 0;
    }
}
