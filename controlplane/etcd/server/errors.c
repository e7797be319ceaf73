/* The table of etcd's errors. */
#include "controlplane/etcd/server/errors_internal.h"

enum { /* google.rpc.Code */
    GRPC_CANCELLED = 1,
    GRPC_UNKNOWN = 2,
    GRPC_INVALID_ARGUMENT = 3,
    GRPC_DEADLINE_EXCEEDED = 4,
    GRPC_NOT_FOUND = 5,
    GRPC_PERMISSION_DENIED = 7,
    GRPC_RESOURCE_EXHAUSTED = 8,
    GRPC_FAILED_PRECONDITION = 9,
    GRPC_OUT_OF_RANGE = 11,
    GRPC_UNIMPLEMENTED = 12,
    GRPC_INTERNAL = 13,
    GRPC_UNAVAILABLE = 14,
    GRPC_DATA_LOSS = 15,
    GRPC_UNAUTHENTICATED = 16,
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
    [ETCD_CLIENT_API_VERSION] = {GRPC_INVALID_ARGUMENT, "etcdserver: invalid client api version"},
    [ETCD_WATCH_CANCELED] = {GRPC_CANCELLED, "etcdserver: watch canceled"},
    [ETCD_MEMBER_EXISTS] = {GRPC_FAILED_PRECONDITION, "etcdserver: member ID already exist"},
    [ETCD_PEER_URL_EXISTS] = {GRPC_FAILED_PRECONDITION, "etcdserver: Peer URLs already exists"},
    [ETCD_MEMBER_NOT_ENOUGH_STARTED] = {GRPC_FAILED_PRECONDITION,
                                        "etcdserver: re-configuration failed due to not enough started members"},
    [ETCD_MEMBER_BAD_URLS] = {GRPC_INVALID_ARGUMENT, "etcdserver: given member URLs are invalid"},
    [ETCD_MEMBER_NOT_LEARNER] = {GRPC_FAILED_PRECONDITION, "etcdserver: can only promote a learner member"},
    [ETCD_LEARNER_NOT_READY] = {GRPC_FAILED_PRECONDITION,
                                "etcdserver: can only promote a learner member which is in sync with leader"},
    [ETCD_TOO_MANY_LEARNERS] = {GRPC_FAILED_PRECONDITION, "etcdserver: too many learner members in cluster"},
    [ETCD_CLUSTER_ID_MISMATCH] = {GRPC_FAILED_PRECONDITION, "etcdserver: cluster ID mismatch"},
    [ETCD_ROOT_USER_MISSING] = {GRPC_FAILED_PRECONDITION, "etcdserver: root user does not exist"},
    [ETCD_ROOT_ROLE_MISSING] = {GRPC_FAILED_PRECONDITION, "etcdserver: root user does not have root role"},
    [ETCD_USER_EXISTS] = {GRPC_FAILED_PRECONDITION, "etcdserver: user name already exists"},
    [ETCD_USER_EMPTY] = {GRPC_INVALID_ARGUMENT, "etcdserver: user name is empty"},
    [ETCD_USER_NOT_FOUND] = {GRPC_FAILED_PRECONDITION, "etcdserver: user name not found"},
    [ETCD_ROLE_EXISTS] = {GRPC_FAILED_PRECONDITION, "etcdserver: role name already exists"},
    [ETCD_ROLE_NOT_FOUND] = {GRPC_FAILED_PRECONDITION, "etcdserver: role name not found"},
    [ETCD_ROLE_EMPTY] = {GRPC_INVALID_ARGUMENT, "etcdserver: role name is empty"},
    [ETCD_AUTH_FAILED] = {GRPC_INVALID_ARGUMENT,
                          "etcdserver: authentication failed, invalid user ID or password"},
    [ETCD_NO_PASSWORD_USER] = {GRPC_UNKNOWN, "auth: authentication failed, password was given for no password user"},
    [ETCD_PASSWORD_TOO_LONG] = {GRPC_UNKNOWN, "bcrypt: password length exceeds 72 bytes"},
    [ETCD_PERMISSION_NOT_GIVEN] = {GRPC_INVALID_ARGUMENT, "etcdserver: permission not given"},
    [ETCD_PERMISSION_DENIED] = {GRPC_PERMISSION_DENIED, "etcdserver: permission denied"},
    [ETCD_ROLE_NOT_GRANTED] = {GRPC_FAILED_PRECONDITION, "etcdserver: role is not granted to the user"},
    [ETCD_PERMISSION_NOT_GRANTED] = {GRPC_FAILED_PRECONDITION, "etcdserver: permission is not granted to the role"},
    [ETCD_AUTH_NOT_ENABLED] = {GRPC_FAILED_PRECONDITION, "etcdserver: authentication is not enabled"},
    [ETCD_AUTH_BAD_TOKEN] = {GRPC_UNAUTHENTICATED, "etcdserver: invalid auth token"},
    [ETCD_AUTH_BAD_MANAGEMENT] = {GRPC_INVALID_ARGUMENT, "etcdserver: invalid auth management"},
    [ETCD_AUTH_OLD_REVISION] = {GRPC_INVALID_ARGUMENT, "etcdserver: revision of auth store is old"},
    [ETCD_AUTH_VERIFY_ONLY] = {GRPC_UNKNOWN, "auth: token signing attempted with verify-only key"},
    [ETCD_NOT_CAPABLE] = {GRPC_FAILED_PRECONDITION, "etcdserver: not capable"},
    [ETCD_TIMEOUT_LEADER_FAILED] = {GRPC_UNAVAILABLE,
                                    "etcdserver: request timed out, possibly due to previous leader failure"},
    [ETCD_TIMEOUT_CONNECTION_LOST] = {GRPC_UNAVAILABLE,
                                      "etcdserver: request timed out, possibly due to connection lost"},
    [ETCD_TIMEOUT_APPLIED_INDEX] = {GRPC_UNAVAILABLE,
                                    "etcdserver: request timed out, waiting for the applied index took too long"},
    [ETCD_UNHEALTHY] = {GRPC_UNAVAILABLE, "etcdserver: unhealthy cluster"},
    [ETCD_NOT_FOR_LEARNER] = {GRPC_FAILED_PRECONDITION, "etcdserver: rpc not supported for learner"},
    [ETCD_DOWNGRADE_VERSION_FORMAT] = {GRPC_INVALID_ARGUMENT, "etcdserver: wrong downgrade target version format"},
    [ETCD_DOWNGRADE_TARGET] = {GRPC_INVALID_ARGUMENT, "etcdserver: invalid downgrade target version"},
    [ETCD_CLUSTER_VERSION_UNAVAILABLE] = {GRPC_FAILED_PRECONDITION,
                                          "etcdserver: cluster version not found during downgrade"},
    [ETCD_DOWNGRADE_IN_PROCESS] = {GRPC_FAILED_PRECONDITION, "etcdserver: cluster has a downgrade job in progress"},
    [ETCD_NO_DOWNGRADE] = {GRPC_FAILED_PRECONDITION, "etcdserver: no inflight downgrade job"},
    [ETCD_CANCELED] = {GRPC_CANCELLED, "etcdserver: request canceled"},
    [ETCD_DEADLINE_EXCEEDED] = {GRPC_DEADLINE_EXCEEDED, "etcdserver: context deadline exceeded"},
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

enum etcd_err etcd_err_of_auth(enum auth_result result)
{
    switch (result) {
    case AUTH_OK: return ETCD_OK;
    case AUTH_ROOT_USER_MISSING: return ETCD_ROOT_USER_MISSING;
    case AUTH_ROOT_ROLE_MISSING: return ETCD_ROOT_ROLE_MISSING;
    case AUTH_USER_EXISTS: return ETCD_USER_EXISTS;
    case AUTH_USER_EMPTY: return ETCD_USER_EMPTY;
    case AUTH_USER_NOT_FOUND: return ETCD_USER_NOT_FOUND;
    case AUTH_ROLE_EXISTS: return ETCD_ROLE_EXISTS;
    case AUTH_ROLE_NOT_FOUND: return ETCD_ROLE_NOT_FOUND;
    case AUTH_ROLE_EMPTY: return ETCD_ROLE_EMPTY;
    case AUTH_FAILED: return ETCD_AUTH_FAILED;
    case AUTH_NO_PASSWORD_USER: return ETCD_NO_PASSWORD_USER;
    case AUTH_PERMISSION_NOT_GIVEN: return ETCD_PERMISSION_NOT_GIVEN;
    case AUTH_DENIED: return ETCD_PERMISSION_DENIED;
    case AUTH_ROLE_NOT_GRANTED: return ETCD_ROLE_NOT_GRANTED;
    case AUTH_PERMISSION_NOT_GRANTED: return ETCD_PERMISSION_NOT_GRANTED;
    case AUTH_NOT_ENABLED: return ETCD_AUTH_NOT_ENABLED;
    case AUTH_BAD_TOKEN: return ETCD_AUTH_BAD_TOKEN;
    case AUTH_BAD_MANAGEMENT: return ETCD_AUTH_BAD_MANAGEMENT;
    case AUTH_OLD_REVISION: return ETCD_AUTH_OLD_REVISION;
    case AUTH_VERIFY_ONLY: return ETCD_AUTH_VERIFY_ONLY;
    case AUTH_PASSWORD_TOO_LONG: return ETCD_PASSWORD_TOO_LONG;
    case AUTH_NAME_TOO_LONG: return ETCD_REQUEST_TOO_LARGE;
    }
    return ETCD_INTERNAL;
}
