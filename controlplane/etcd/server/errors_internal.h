/* etcd's errors as clients know them: a gRPC code and a text each. */
#ifndef ETCD_ERRORS_INTERNAL_H
#define ETCD_ERRORS_INTERNAL_H

#include "controlplane/etcd/mvcc/mvcc.h"

enum etcd_err {
    ETCD_OK,
    ETCD_EMPTY_KEY,
    ETCD_KEY_NOT_FOUND,
    ETCD_VALUE_PROVIDED,
    ETCD_LEASE_PROVIDED,
    ETCD_TOO_MANY_OPS,
    ETCD_DUPLICATE_KEY,
    ETCD_INVALID_SORT,
    ETCD_COMPACTED,
    ETCD_FUTURE_REVISION,
    ETCD_NO_SPACE,
    ETCD_LEASE_NOT_FOUND,
    ETCD_LEASE_EXISTS,
    ETCD_LEASE_TTL_TOO_LARGE,
    ETCD_REQUEST_TOO_LARGE,
    ETCD_TOO_MANY_REQUESTS,
    ETCD_NOT_LEADER,
    ETCD_LEADER_CHANGED,
    ETCD_NO_LEADER,
    ETCD_STOPPED,
    ETCD_TIMEOUT,
    ETCD_CORRUPT,
    ETCD_MEMBER_NOT_FOUND,
    ETCD_BAD_TRANSFEREE,
    ETCD_AUTH_NOT_ENABLED,
    ETCD_BAD_REQUEST, /* bytes that do not decode */
    ETCD_UNIMPLEMENTED,
    ETCD_INTERNAL,
    ETCD_ERR_COUNT,
};

struct etcd_err_info {
    int grpc_code;
    const char *text;
};
const struct etcd_err_info *etcd_err_info(enum etcd_err err);
enum etcd_err etcd_err_of_mvcc(enum mvcc_result result);

#endif
