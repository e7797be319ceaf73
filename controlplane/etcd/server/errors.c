/* The table of etcd's errors. */
#include "controlplane/etcd/server/errors_internal.h"

enum { /* google.rpc.Code */
    GRPC_INVALID_ARGUMENT = 3,
    GRPC_NOT_FOUND = 5,
    GRPC_RESOURCE_EXHAUSTED = 8,
    GRPC_FAILED_PRECONDITION = 9,
    GRPC_OUT_OF_RANGE = 11,
    GRPC_UNIMPLEMENTED = 12,
    GRPC_INTERNAL = 13,
    GRPC_UNAVAILABLE = 14,
    GRPC_DATA_LOSS = 15,
};

static const struct etcd_err_info infos[ETCD_ERR_COUNT] = {
    [ETCD_OK] = {0, ""},
    [ETCD_EMPTY_KEY] = {GRPC_INVALID_ARGUMENT, "etcdserver: key is not provided"},
    [ETCD_KEY_NOT_FOUND] = {GRPC_INVALID_ARGUMENT, "etcdserver: key not found"},
    [ETCD_VALUE_PROVIDED] = {GRPC_INVALID_ARGUMENT, "etcdserver: value is provided"},
    [ETCD_LEASE_PROVIDED] = {GRPC_INVALID_ARGUMENT, "etcdserver: lease is provided"},
    [ETCD_TOO_MANY_OPS] = {GRPC_INVALID_ARGUMENT, "etcdserver: too many operations in txn request"},
    [ETCD_DUPLICATE_KEY] = {GRPC_INVALID_ARGUMENT, "etcdserver: duplicate key given in txn request"},
    [ETCD_INVALID_SORT] = {GRPC_INVALID_ARGUMENT, "etcdserver: invalid sort option"},
    [ETCD_COMPACTED] = {GRPC_OUT_OF_RANGE, "etcdserver: mvcc: required revision has been compacted"},
    [ETCD_FUTURE_REVISION] = {GRPC_OUT_OF_RANGE, "etcdserver: mvcc: required revision is a future revision"},
    [ETCD_NO_SPACE] = {GRPC_RESOURCE_EXHAUSTED, "etcdserver: mvcc: database space exceeded"},
    [ETCD_LEASE_NOT_FOUND] = {GRPC_NOT_FOUND, "etcdserver: requested lease not found"},
    [ETCD_LEASE_EXISTS] = {GRPC_FAILED_PRECONDITION, "etcdserver: lease already exists"},
    [ETCD_LEASE_TTL_TOO_LARGE] = {GRPC_OUT_OF_RANGE, "etcdserver: too large lease TTL"},
    [ETCD_REQUEST_TOO_LARGE] = {GRPC_INVALID_ARGUMENT, "etcdserver: request is too large"},
    [ETCD_TOO_MANY_REQUESTS] = {GRPC_RESOURCE_EXHAUSTED, "etcdserver: too many requests"},
    [ETCD_NOT_LEADER] = {GRPC_FAILED_PRECONDITION, "etcdserver: not leader"},
    [ETCD_LEADER_CHANGED] = {GRPC_UNAVAILABLE, "etcdserver: leader changed"},
    [ETCD_NO_LEADER] = {GRPC_UNAVAILABLE, "etcdserver: no leader"},
    [ETCD_STOPPED] = {GRPC_UNAVAILABLE, "etcdserver: server stopped"},
    [ETCD_TIMEOUT] = {GRPC_UNAVAILABLE, "etcdserver: request timed out"},
    [ETCD_CORRUPT] = {GRPC_DATA_LOSS, "etcdserver: corrupt cluster"},
    [ETCD_MEMBER_NOT_FOUND] = {GRPC_NOT_FOUND, "etcdserver: member not found"},
    [ETCD_BAD_TRANSFEREE] = {GRPC_FAILED_PRECONDITION, "etcdserver: bad leader transferee"},
    [ETCD_AUTH_NOT_ENABLED] = {GRPC_FAILED_PRECONDITION, "etcdserver: authentication is not enabled"},
    [ETCD_BAD_REQUEST] = {GRPC_INVALID_ARGUMENT, "etcdserver: request cannot be decoded"},
    [ETCD_UNIMPLEMENTED] = {GRPC_UNIMPLEMENTED, "etcdserver: not implemented"},
    [ETCD_INTERNAL] = {GRPC_INTERNAL, "etcdserver: internal error"},
};

const struct etcd_err_info *etcd_err_info(enum etcd_err err)
{
    KP_ASSERT(err >= 0 && err < ETCD_ERR_COUNT && infos[err].text);
    return &infos[err];
}

enum etcd_err etcd_err_of_mvcc(enum mvcc_result result)
{
    switch (result) {
    case MVCC_OK: return ETCD_OK;
    case MVCC_COMPACTED: return ETCD_COMPACTED;
    case MVCC_FUTURE_REVISION: return ETCD_FUTURE_REVISION;
    case MVCC_KEY_NOT_FOUND: return ETCD_KEY_NOT_FOUND;
    case MVCC_LEASE_NOT_FOUND: return ETCD_LEASE_NOT_FOUND;
    case MVCC_LEASE_EXISTS: return ETCD_LEASE_EXISTS;
    case MVCC_LEASE_TTL_TOO_LARGE: return ETCD_LEASE_TTL_TOO_LARGE;
    case MVCC_WATCH_EMPTY_RANGE: return ETCD_EMPTY_KEY;
    case MVCC_IO: return ETCD_CORRUPT;
    }
    return ETCD_INTERNAL;
}
