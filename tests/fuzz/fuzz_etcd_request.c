/* Requests as they come from clients and from the log: decoding, the checks before proposing, stored key-values. */
#include "controlplane/etcd/server/server_internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void key_value(struct kp_bytes record)
{
    struct mvcc_kv kv, again;
    if (mvcc_kv_decode(record, &kv, NULL) < 0)
        return;
    struct kp_blob *encoded = mvcc_kv_encode(&kv);
    KP_ASSERT(mvcc_kv_decode((struct kp_bytes){encoded->data, encoded->len}, &again, NULL) == 0);
    KP_ASSERT(again.mod_revision == kv.mod_revision && again.lease == kv.lease && again.key.len == kv.key.len &&
              again.value.len == kv.value.len);
    kp_blob_unref(encoded);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    static const struct etcd_config config = {.txn_ops_max = ETCD_TXN_OPS_MAX_DEFAULT};
    if (len == 0)
        return 0;
    enum op_kind kind = (enum op_kind)(data[0] % (OP_KIND_END + 1));
    key_value((struct kp_bytes){data + 1, len - 1});
    ProtobufCMessage *request = request_decode(kind, data + 1, len - 1);
    if (!request)
        return 0;
    if (request_check(&config, kind, request) == ETCD_OK && kind == OP_TXN)
        (void)txn_is_read_only((const Etcdserverpb__TxnRequest *)(void *)request);
    KP_ASSERT(request_cost(kind, request) >= 0);
    request_free(request);
    return 0;
}
