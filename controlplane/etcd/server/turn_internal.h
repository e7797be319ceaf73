/* Waiting for one's turn among the keys below a name, as etcd's concurrency clients do it: what locks and elections share. */
#ifndef ETCD_TURN_INTERNAL_H
#define ETCD_TURN_INTERNAL_H

#include "controlplane/etcd/server/rpc_internal.h"

#define TURN_FRAME_HEADER 5 /* of a message in a response */
#define TURN_LEASE_TTL_S 60 /* of a session that brings no lease */

/* One who waits: the key is <name>/<lease in hex>, and the lower its create revision, the earlier the turn. Counted. */
struct turn {
    int refs; /* atomic */
    struct etcd_server *server;
    struct grpc_stream *stream;
    struct kp_blob *name, *prefix, *prefix_end, *key;
    int64_t lease, create_revision;
    int64_t revision; /* of the store when the key was put */
    /* On a worker's thread, once nobody is before us: sends the answer. 0 or as a handler returns it. */
    int (*arrived)(struct turn *turn, struct kp_error *error);
    /* On a worker's thread, instead of looking who is before us (observers): sets the watch to wait for; 1 when done. */
    int (*look)(struct turn *turn, struct kp_error *error);

    pthread_mutex_t mutex;
    struct mvcc_watcher *watcher;
    bool parked; /* the watcher decides what happens next; else a worker has it */
    bool fired;  /* the watcher saw it */
    bool closed; /* the client has gone, or was answered */
    bool keep;   /* the key stays when it is closed */
    struct turn *prev, *next; /* of the server's list */
};

struct turn *turn_new(struct grpc_context *context, struct grpc_stream *stream, ProtobufCBinaryData name, int64_t lease);
void turn_unref(struct turn *turn);
KP_DEFINE_AUTO(struct turn *, turn_unref)
/* Grants a lease when turn->lease is 0. */
enum etcd_err turn_session(struct grpc_context *context, int64_t *lease);
/* From a handler: goes on as events tell, without a thread. GRPC_DETACHED or an error. Uses the caller's reference. */
int turn_start(struct turn *turn, struct kp_error *error);
/* For look: waits for a deletion in the range after the revision, or with on_put for a put. 0. */
int turn_watch(struct turn *turn, struct kp_bytes key, struct kp_bytes range_end, int64_t after_revision,
               mvcc_watch_sink sink);
void turn_fire(struct turn *turn); /* for sinks */
/* The first or the last by create revision, at most max_create_revision (0: any). The caller frees with mvcc_range_done. */
enum etcd_err turn_range(struct etcd_server *server, const struct auth_identity *who, struct kp_bytes key,
                         struct kp_bytes range_end, bool last, int64_t max_create_revision,
                         struct mvcc_range_result *ret_result);

/* ---- requests ---- */
struct turn_txn { /* if the key's create revision is this, then ... else ... */
    Etcdserverpb__TxnRequest txn;
    Etcdserverpb__Compare compare, *compares[1];
    Etcdserverpb__PutRequest put;
    Etcdserverpb__DeleteRangeRequest delete;
    Etcdserverpb__RangeRequest own, first;
    Etcdserverpb__RequestOp ops[4], *success[2], *failure[2];
};
void turn_txn_init(struct turn_txn *t, struct kp_bytes key, int64_t create_revision);
void turn_txn_put(struct turn_txn *t, struct kp_bytes key, struct kp_bytes value, int64_t lease);
void turn_txn_delete(struct turn_txn *t, struct kp_bytes key);
void turn_txn_else_get(struct turn_txn *t, struct kp_bytes key);
/* Both branches also tell who is first. */
void turn_txn_first(struct turn_txn *t, struct kp_bytes prefix, struct kp_bytes prefix_end);
/* *ret_response is freed with etcdserverpb__txn_response__free_unpacked. */
enum etcd_err turn_txn_run(struct grpc_context *context, struct turn_txn *t, Etcdserverpb__TxnResponse **ret_response);

/* These services are clients of the store in etcd, and pass on the text of its errors without the code. */
static inline int turn_fail(struct kp_error *error, enum etcd_err err)
{
    return grpc_fail(error, GRPC_UNKNOWN, "%s", etcd_err_info(err)->text);
}

static inline struct kp_bytes blob_bytes(const struct kp_blob *blob) { return (struct kp_bytes){blob->data, blob->len}; }
static inline ProtobufCBinaryData data_of_bytes(struct kp_bytes bytes)
{
    return (ProtobufCBinaryData){.len = bytes.len, .data = (uint8_t *)(uintptr_t)bytes.data};
}

#endif
