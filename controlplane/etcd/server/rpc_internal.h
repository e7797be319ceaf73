/* The member's sockets and the handlers behind them. */
#ifndef ETCD_RPC_INTERNAL_H
#define ETCD_RPC_INTERNAL_H

#include "controlplane/etcd/peer/peer.h"
#include "controlplane/etcd/server/server_internal.h"
#include "grpc/grpc.h"
#include "http/http.h"
#include "loop/loop.h"
#include "tls/tls.h"

#define RPC_POOL_THREADS 16
#define RPC_POOL_QUEUE 20000
#define RPC_MESSAGE_OVERHEAD ((int64_t)512 << 10) /* as etcd allows above its request limit */
/* Unsent, above which a stream's watchers wait: memory of the stream's own, and bytes, of which many may lie in memory once. */
#define WATCH_QUEUED_MAX ((size_t)4 << 20)
#define WATCH_UNSENT_MAX ((size_t)64 << 20)

struct watch_stream;
struct turn;
struct turns { /* who waits for a lock or an election */
    pthread_mutex_t mutex;
    struct turn *first;
    bool closed;
};
struct rpc_server {
    struct loop *loop;
    struct pool *pool;
    struct tls_context *tls; /* NULL when no client URL is https */
    struct grpc_server *grpc[ETCD_URLS_MAX];
    size_t grpc_len;
    struct http_server *http[ETCD_URLS_MAX]; /* metrics only */
    size_t http_len;
    struct turns turns;
    struct kp_strmap *originals;  /* methods by path, */
    struct grpc_method *guarded;  /* and copies of them behind the guard */
    const struct grpc_method *methods[2];
    int64_t leader_seen_ms; /* the loop's own */
    /* the loop's own */
    struct watch_stream *watch_streams;
    struct loop_timer *progress_timer;
    struct watch_encoded *encoded; /* under the watch lock */
};

extern const struct grpc_method kv_methods[], watch_methods[], lease_methods[], maintenance_methods[], cluster_methods[],
    auth_methods[], lock_methods[], election_methods[], downgrade_methods[];
void watch_progress_tick(void *server);  /* on the loop */
void watch_close_all(void *server);      /* on the loop */
void turns_close_all(struct etcd_server *server);
/* guard.c */
void guard_init(struct rpc_server *rpc, const struct grpc_method *const *tables);
void guard_done(struct rpc_server *rpc);
bool guard_leader_is_lost(struct etcd_server *server);
bool guard_needs_leader(struct grpc_stream *stream);
void health_handler(struct http_request *req, void *server);

/* The context of the client URLs; it reads its files again when they change. */
int server_client_tls(const struct etcd_tls_files *files, struct tls_context **ret_tls, struct kp_error *error);
/* What peer_start and peer_get are given; borrows the strings. */
void server_peer_tls(const struct etcd_tls_files *files, struct peer_tls_files *ret_files);

static inline struct etcd_server *server_of(const struct grpc_context *context) { return context->server_arg; }
/* Ends a call with one of etcd's errors. */
int rpc_fail(struct kp_error *error, enum etcd_err err);
/* Sends the frame that `out` holds (header of the response included); for handlers that then return its result. */
int rpc_reply(struct grpc_stream *stream, struct kp_buf *out);
/* Who the client is, by its token or certificate; nobody known (revision 0) is no error. May wait; the second does not,
   and says when the token may have come from a log entry that this member has not applied yet. */
enum etcd_err rpc_identity(const struct grpc_context *context, struct auth_identity *ret_who);
enum etcd_err rpc_identity_now(const struct grpc_context *context, struct auth_identity *ret_who, bool *ret_ahead);
/* Fine when authentication is off; else the client must be someone, or an administrator. May wait. */
enum etcd_err rpc_require_known(const struct grpc_context *context);
enum etcd_err rpc_require_admin(const struct grpc_context *context);
/* The same at the beginning of a handler: 0, or what it returns at once. */
int rpc_known_only(const struct grpc_context *context, struct kp_error *error);
int rpc_admin_only(const struct grpc_context *context, struct kp_error *error);
/* Proposes and leaves the call open until it is applied: returns GRPC_DETACHED or an error. */
int rpc_propose(struct grpc_context *context, struct grpc_stream *stream, enum op_kind kind,
                const ProtobufCMessage *request, struct kp_error *error);
/* Raises the NOSPACE alarm when the request would not fit. */
enum etcd_err rpc_check_quota(struct etcd_server *server, enum op_kind kind, const ProtobufCMessage *request);

#endif
