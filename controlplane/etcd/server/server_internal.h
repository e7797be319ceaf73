/* What the files of the member share. */
#ifndef ETCD_SERVER_INTERNAL_H
#define ETCD_SERVER_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>

#include "controlplane/etcd/auth/auth.h"
#include "controlplane/etcd/backend/backend.h"
#include "controlplane/etcd/mvcc/mvcc.h"
#include "controlplane/etcd/raft/raft.h"
#include "controlplane/etcd/server/encode_internal.h"
#include "controlplane/etcd/server/errors_internal.h"
#include "controlplane/etcd/server/server.h"
#include "controlplane/etcd/server/step.h"
#include "controlplane/etcd/wal/wal.h"
#include "proto/etcd.pb-c.h"

#define ETCD_THREAD_STACK ((size_t)256 << 10)
#define ETCD_OPS_WAITING_MAX 10000    /* proposals and reads under way; more are refused */
#define ETCD_TXN_DEPTH_MAX 32         /* nested transactions */
#define ETCD_CATCH_UP_ENTRIES 5000    /* log entries kept in memory behind a snapshot, for slow followers */
#define ETCD_REQUEST_TIMEOUT_MS 5000  /* plus two election timeouts */
#define ETCD_LEASE_SCAN_MS 500
#define ETCD_LEASE_REVOKES_MAX 1000   /* at once */

/* ---- replicated requests ---- */
enum op_kind {
    OP_PUT = 1,
    OP_DELETE_RANGE,
    OP_TXN,
    OP_COMPACT,
    OP_LEASE_GRANT,
    OP_LEASE_REVOKE,
    OP_ALARM,
    OP_MEMBER_ATTRIBUTES, /* the four of members: a Member */
    OP_MEMBER_ADD,        /* these three change the configuration, by op_propose_change */
    OP_MEMBER_REMOVE,
    OP_MEMBER_PROMOTE,
    OP_MEMBER_UPDATE, /* its peer URLs */
    /* users and roles */
    OP_AUTHENTICATE = 32, /* AuthenticateRequest; in the password's place is the token's random part */
    OP_AUTH_ENABLE,
    OP_AUTH_DISABLE,
    OP_AUTH_USER_ADD,
    OP_AUTH_USER_DELETE,
    OP_AUTH_USER_CHANGE_PASSWORD,
    OP_AUTH_USER_GRANT_ROLE,
    OP_AUTH_USER_REVOKE_ROLE,
    OP_AUTH_ROLE_ADD,
    OP_AUTH_ROLE_DELETE,
    OP_AUTH_ROLE_GRANT_PERMISSION,
    OP_AUTH_ROLE_REVOKE_PERMISSION,
    OP_KIND_END,
};

/* One request that goes through the log. The maker fills in kind, request and done; `entry` is made by op_new. */
struct op {
    uint64_t id;
    enum op_kind kind;
    const ProtobufCMessage *request; /* decoded; borrowed until done, or NULL to decode the entry */
    enum raft_change_type change;    /* with change_id != 0: of the membership, for op_propose_change */
    uint64_t change_id;
    struct kp_blob *entry;           /* owned: what is proposed */
    int64_t deadline_ms;
    uint64_t only_term; /* not 0: ETCD_NOT_LEADER unless this member leads in that term; never passed on to another leader */
    enum etcd_err err;
    struct kp_blob *response; /* owned: a framed message, NULL on an error */
    /* Once; on the raft thread, or inside op_propose when refused at once. Must not block; the op is the callee's again. */
    void (*done)(struct op *op);
    void *ctx;
    struct op *next;
};
struct etcd_server;
/* What the member asks for by itself: nobody's permission is looked at. For a client's request, op_init_as. */
void op_init(struct etcd_server *server, struct op *op, enum op_kind kind, const ProtobufCMessage *request);
/* Who asks goes with the request, for what is permitted is decided when it is applied. */
void op_init_as(struct etcd_server *server, struct op *op, enum op_kind kind, const ProtobufCMessage *request,
                const struct auth_identity *who);
void op_done(struct op *op); /* frees what it owns */
/* Queues; op->done always follows. Any thread. */
void op_propose(struct etcd_server *server, struct op *op);
/* As op_init, and waits. *ret_response (may be NULL) is the caller's. Not on a loop's or the raft thread. */
enum etcd_err op_run(struct etcd_server *server, enum op_kind kind, const ProtobufCMessage *request,
                     struct kp_blob **ret_response);
enum etcd_err op_run_as(struct etcd_server *server, enum op_kind kind, const ProtobufCMessage *request,
                        const struct auth_identity *who, struct kp_blob **ret_response);

/* ---- requests.c ---- */
/* NULL when malformed or nested too deep. */
ProtobufCMessage *request_decode(enum op_kind kind, const uint8_t *data, size_t len);
void request_free(ProtobufCMessage *request); /* accepts NULL */
bool txn_depth_is_fine(const uint8_t *data, size_t len);
/* What etcd checks before it proposes. */
enum etcd_err request_check(const struct etcd_config *config, enum op_kind kind, const ProtobufCMessage *request);
enum etcd_err range_check(const Etcdserverpb__RangeRequest *request);
void range_of_request(const Etcdserverpb__RangeRequest *request, struct mvcc_range_request *ret);
bool txn_is_read_only(const Etcdserverpb__TxnRequest *txn);
/* Bytes that a request may add to the store; 0: none. */
int64_t request_cost(enum op_kind kind, const ProtobufCMessage *request);
static inline struct kp_bytes bytes_of(ProtobufCBinaryData data) { return (struct kp_bytes){data.data, data.len}; }

/* ---- apply.c ---- */
/* Applies one request at a log index. *ret_response is a framed message when want_response and nothing failed. */
enum etcd_err apply_request(struct etcd_server *server, uint64_t index, uint64_t term, enum op_kind kind,
                            const ProtobufCMessage *request, const struct auth_identity *who, bool want_response,
                            struct kp_blob **ret_response);
/* An entry without effect on the store: moves the consistent index only. */
void apply_nothing(struct etcd_server *server, uint64_t index, uint64_t term);
/* apply_txn.c: inside mvcc_begin/mvcc_end; writes TxnResponse without its header. */
enum etcd_err apply_txn(struct etcd_server *server, const Etcdserverpb__TxnRequest *txn, struct kp_buf *out,
                        struct kp_error *error);
enum etcd_err apply_put(struct etcd_server *server, const Etcdserverpb__PutRequest *put, struct kp_buf *out,
                        struct kp_error *error);
enum etcd_err apply_delete(struct etcd_server *server, const Etcdserverpb__DeleteRangeRequest *request,
                           struct kp_buf *out, struct kp_error *error);
void encode_header(struct etcd_server *server, struct kp_buf *out, int64_t revision);

/* ---- apply_auth.c: changes of users and roles, inside mvcc_begin/mvcc_end ---- */
bool op_is_auth(enum op_kind kind);
enum etcd_err apply_auth(struct etcd_server *server, uint64_t index, enum op_kind kind, const ProtobufCMessage *request,
                         struct kp_buf *out);

/* ---- permit.c: may who do this? The same on every member at the same log index. Without the store's lock held. ---- */
enum etcd_err permit_request(struct etcd_server *server, const struct auth_identity *who, enum op_kind kind,
                             const ProtobufCMessage *request);
enum etcd_err permit_range(struct etcd_server *server, const struct auth_identity *who, ProtobufCBinaryData key,
                           ProtobufCBinaryData range_end, enum auth_access access);
/* For all keys that are attached to the lease; an administrator may. */
enum etcd_err permit_lease(struct etcd_server *server, const struct auth_identity *who, int64_t lease,
                           enum auth_access access);

/* ---- members.c ---- */
struct member {
    uint64_t id;
    char *name;
    struct kp_strings peer_urls, client_urls;
    bool learner;
};
struct members {
    pthread_mutex_t mutex;
    struct member *items; /* by id */
    size_t len;
    size_t learners_max;
    uint64_t *removed; /* ids that must not come back */
    size_t removed_len;
};
/* Computes ids as etcd does and finds who we are. */
int members_from_config(const struct etcd_config *config, struct members *members, uint64_t *ret_cluster_id,
                        uint64_t *ret_member_id, struct kp_error *error) KP_NODISCARD;
int members_load(struct backend *backend, struct members *members, struct kp_error *error) KP_NODISCARD;
void members_store(struct backend *backend, struct members *members); /* under the write lock */
/* Would the change be allowed? The same on every member at the same log index. */
enum etcd_err members_check(struct members *members, enum op_kind kind, const Etcdserverpb__Member *change);
/* One of OP_MEMBER_*, under the write lock and in the database too. */
void members_change(struct backend *backend, struct members *members, enum op_kind kind,
                    const Etcdserverpb__Member *change);
bool members_was_removed(struct members *members, uint64_t id);
void members_take(struct members *members, const Etcdserverpb__Member *record); /* adds a copy */
void member_encode(const struct member *member, struct kp_buf *out);
uint64_t member_id_of_urls(char *const *urls, size_t len, const char *token); /* sorts a copy */
const struct member *members_find(const struct members *members, uint64_t id); /* under the mutex; NULL */
void members_encode(struct members *members, struct kp_buf *out, unsigned field);
void members_replace(struct members *members, struct members *by); /* takes over what by holds */
void members_done(struct members *members);
void split_urls(const char *list, struct kp_strings *out);

/* ---- cluster.c: who the other members are, and changes of that ---- */
bool cluster_is_alone(struct etcd_server *server); /* this member is the whole configuration */
void cluster_done(struct etcd_server *server);
/* Applies an entry that changes the membership, and answers who asked for it here. On the raft thread. */
void cluster_apply(struct etcd_server *server, const struct raft_entry *entry, const struct raft_conf_change *change);
/* What etcd checks before it proposes, on the leader; then proposes and waits. *ret_response as of op_run. */
enum etcd_err cluster_change(struct etcd_server *server, enum op_kind kind, const Etcdserverpb__Member *change,
                             struct kp_blob **ret_response);
/* On any member: the leader does it. */
enum etcd_err cluster_change_anywhere(struct etcd_server *server, enum op_kind kind, const Etcdserverpb__Member *change,
                                      struct kp_blob **ret_response);
/* Asks the leader, waiting for one; ETCD_NO_LEADER, ETCD_TIMEOUT. *ret_self: this member leads, nobody was asked. */
enum etcd_err cluster_ask_leader(struct etcd_server *server, const char *what, struct kp_bytes question,
                                 struct kp_buf *ret_answer, bool *ret_self);
/* Learns ids and members of a running cluster from the peers in --initial-cluster. */
int cluster_join(struct etcd_server *server, struct kp_error *error) KP_NODISCARD;
/* A member that lost its data must not begin anew as if nothing had been. */
int cluster_check_new(struct etcd_server *server, struct kp_error *error) KP_NODISCARD;
void cluster_stop_if_removed(struct etcd_server *server);
#define ETCD_PATH_MEMBERS "/kprov/members" /* a MemberListResponse without header */
#define ETCD_PATH_REMOVED "/kprov/removed" /* ids in hexadecimal, a line each */
void cluster_note_conf(struct etcd_server *server); /* node->conf changed */
enum etcd_err cluster_check_change(struct etcd_server *server, enum op_kind kind, const Etcdserverpb__Member *change);
int cluster_answer_change(struct etcd_server *server, struct kp_bytes question, struct kp_buf *out, struct kp_error *error);
void cluster_look_if_removed(struct etcd_server *server); /* a while without a leader: asks the others why */
void cluster_know_peers(struct etcd_server *server); /* the transport sends to those in the table, and nobody else */

/* ---- corrupt.c ---- */
int corrupt_answer(struct etcd_server *server, struct kp_bytes question, struct kp_buf *out, struct kp_error *error);
void corrupt_check_if_due(struct etcd_server *server);
int corrupt_check_start(struct etcd_server *server, struct kp_error *error) KP_NODISCARD;

/* ---- lease_leader.c ---- */
int lease_answer(struct etcd_server *server, struct kp_bytes question, struct kp_buf *out, struct kp_error *error);
/* Wait; not on a loop's thread. A TTL of 0: there is no such lease. */
enum etcd_err lease_renew_anywhere(struct etcd_server *server, int64_t id, int64_t *ret_ttl_s);
enum etcd_err lease_remaining_anywhere(struct etcd_server *server, int64_t id, bool *ret_found, int64_t *ret_granted_s,
                                       int64_t *ret_remaining_s);

/* ---- peers.c: the transport of a member that is no stepped one ---- */
int peers_start(struct etcd_server *server, struct kp_error *error) KP_NODISCARD;
void peers_stop(struct etcd_server *server);
int peers_ask(struct etcd_server *server, uint64_t id, const char *what, struct kp_bytes question, int64_t timeout_ms,
              struct kp_buf *ret_answer, struct kp_error *error) KP_NODISCARD;

/* ---- alarms.c ---- */
struct alarms {
    pthread_mutex_t mutex;
    struct alarm_entry {
        uint64_t member_id;
        int type;
    } *items;
    size_t len;
    _Atomic bool no_space, corrupt; /* raised by any member */
};
int alarms_load(struct backend *backend, struct alarms *alarms, struct kp_error *error) KP_NODISCARD;
int alarms_reload(struct backend *backend, struct alarms *alarms, struct kp_error *error) KP_NODISCARD;
/* True when the alarm is raised now, or was and is cleared. */
bool alarms_change(struct backend *backend, struct alarms *alarms, uint64_t member_id, int type, bool raise);
void alarms_encode(struct alarms *alarms, struct kp_buf *out, unsigned field, int type); /* type 0: all */
void alarms_each(struct alarms *alarms, void (*fn)(void *ctx, uint64_t member_id, int type), void *ctx);
void alarms_done(struct alarms *alarms);

/* ---- node.c: the raft thread ---- */
struct read_wait {
    enum etcd_err err;
    int64_t deadline_ms;
    void (*done)(struct read_wait *wait); /* on the raft thread; must not block */
    void *ctx;
    struct read_wait *next;
};
struct node_call {
    void (*fn)(struct etcd_server *server, struct node_call *call); /* on the raft thread */
    struct node_call *next;
};
/* An image that came, to be installed. */
struct incoming {
    struct raft_message message;
    char *path;
    struct incoming *next;
};
#define OP_TABLE_BUCKETS 4096
#define ETCD_INBOX_MAX 16384 /* messages not looked at yet; more are dropped, as a network may */
#define ETCD_LOG_BYTES_MAX ((size_t)256 << 20) /* entries in memory above which the log is cut early */
struct node {
    pthread_t thread;
    bool started;
    pthread_mutex_t mutex; /* guards the queues */
    pthread_cond_t wake;
    struct op *ops, **ops_tail;
    struct read_wait *reads, **reads_tail;
    struct node_call *calls, **calls_tail;
    struct raft_message *inbox;
    size_t inbox_len, inbox_cap;
    struct incoming *incoming, **incoming_tail;
    bool stopping;

    /* the raft thread's own */
    struct raft *raft;
    struct wal *wal;
    struct op *blocked, **blocked_tail;    /* no leader yet */
    struct op *changes, **changes_tail;    /* of the membership: one at a time */
    struct raft_message *received;         /* the inbox of the turn before, to be used again */
    size_t received_cap;
    const char *image;                     /* of the snapshot that is being stepped */
    struct op *table[OP_TABLE_BUCKETS];    /* proposed, by id */
    size_t table_len;
    struct read_batch *read_batches;
    uint64_t next_read_id;
    int64_t next_tick_ms, next_expiry_ms;
    struct raft_conf_state conf;
    uint64_t conf_index; /* where the configuration last changed */
    bool leader_lost;    /* messages to it were lost, and none has come since: what is forwarded now would be lost too */
    int64_t campaign_ms; /* with leader_lost: when to ask for an election, rather than wait for the timeout */
    bool removing;       /* our removal is applied; we may still lead to tell the others */
    bool term_applied;   /* an entry of the current term is applied, so all before it are */

    _Atomic size_t waiting; /* proposals and reads */
    _Atomic uint64_t term, leader, applied, committed;
    _Atomic size_t log_bytes;
    _Atomic int64_t leaderless_ms; /* since when there is none; 0: there is one */
    _Atomic int64_t elected_ms; /* when the newest leader became known */
    _Atomic bool is_leader, sole_leader; /* sole: the only voter, so its applied state is the newest there is */
    _Atomic uint64_t leader_changes, proposals_failed;
};
int node_start(struct etcd_server *server, struct kp_error *error) KP_NODISCARD;
void node_turn(struct etcd_server *server); /* one round of the raft thread, or of a stepped member's owner */
void node_stop(struct etcd_server *server); /* everything waiting gets ETCD_STOPPED */
void node_read(struct etcd_server *server, struct read_wait *wait); /* wait->done always follows */
bool node_run(struct etcd_server *server, struct node_call *call); /* false: stopping, and it will not run */
/* Waits until a linearizable read may be served. Not on a loop's thread. */
enum etcd_err node_wait_read(struct etcd_server *server);
enum etcd_err node_wait_read_for(struct etcd_server *server, int64_t timeout_ms);
int64_t request_timeout_ms(const struct etcd_server *server);

/* ---- storage.c ---- */
#define META_REMOVED "members_removed"
#define ETCD_LEARNERS_MAX 1 /* etcd's default */
#define META_CONF "conf_state"
#define META_INSTALLED "installed_index" /* of the image that the database came as */
int storage_open(struct etcd_server *server, struct kp_error *error) KP_NODISCARD;
void storage_close(struct etcd_server *server);
static inline bool server_is_stepped(const struct etcd_server *server);
/* bootstrap.c: the database is marked before the log exists, so that a crash in between starts over. */
int bootstrap_write(struct backend *backend, struct members *members, const struct wal_metadata *metadata,
                    const struct raft_conf_state *conf, const struct wal_config *wal_config, struct wal **ret_wal,
                    struct kp_error *error);

/* ---- images.c: snapshots to members that are too far behind, and from them ---- */
/* On the raft thread: an image is to be made and sent; takes over what the message holds. */
void images_want(struct etcd_server *server, struct raft_message *message);
bool images_make_one(struct etcd_server *server); /* false: nothing was waiting */
void images_forget(struct etcd_server *server);   /* those waiting */
/* On the raft thread: replaces database and state by the image at path, and the log by its marker. */
void images_install(struct etcd_server *server, const struct raft_snapshot *snapshot, const char *path);
void images_sweep(const char *folder);
char *images_new_path(struct etcd_server *server, const char *what); /* malloc'd */

/* ---- upkeep.c: threads for catching up watchers, leases, compaction, snapshots ---- */
struct image_request {
    struct raft_message message;
    struct image_request *next;
};
struct upkeep {
    pthread_t watch_thread, thread, image_thread;
    bool watch_started, started, image_started;
    pthread_mutex_t mutex;
    pthread_cond_t wake_watch, wake, wake_image, compacted;
    struct image_request *images; /* to be made */
    int64_t next_publish_ms, leader_seen_ms, next_corrupt_check_ms;
    bool told_removed;
    _Atomic bool publishing, published;
    _Atomic bool compaction_proposed; /* and not applied yet */
    bool lag, compact, compacting, stopping;
    _Atomic int revokes; /* under way */
    _Atomic uint64_t last_snapshot; /* index the log is cut behind */
    int64_t next_auto_compaction_ms;
    struct revision_at *revisions; /* history for periodic compaction */
    size_t revisions_len;
};
void upkeep_init(struct etcd_server *server);
int upkeep_start(struct etcd_server *server, struct kp_error *error) KP_NODISCARD;
void upkeep_stop(struct etcd_server *server); /* accepts what was only initialised */
void upkeep_compact(struct etcd_server *server, bool wait); /* a compaction was marked */

/* ---- answers.c: finished calls on their way to the loop that sends them ---- */
struct loop;
struct answer {
    void (*fn)(struct answer *answer); /* on the loop; owns what it is part of */
    struct answer *next;
};
struct answers {
    pthread_mutex_t mutex;
    struct loop *loop; /* NULL: closed */
    struct answer *first, **last;
    bool held, posted;
    _Atomic bool opened;
};
void answers_open(struct answers *answers, struct loop *loop);
void answers_close(struct answers *answers); /* before the loop goes; what comes later runs where it is added */
void answers_done(struct answers *answers);
void answers_add(struct answers *answers, struct answer *answer); /* any thread */
/* The raft thread's: between the two nothing is sent, then all of it. */
void answers_hold(struct answers *answers);
void answers_release(struct answers *answers);

/* ---- the member ---- */
struct rpc_server;
struct etcd_server {
    struct etcd_config config;
    char *data_dir, *wal_dir, *db_path;
    uint64_t cluster_id, member_id;
    struct backend *backend;
    struct mvcc *mvcc;
    struct auth *auth;
    struct members members;
    struct alarms alarms;
    struct node node;
    struct upkeep upkeep;
    struct rpc_server *rpc;
    struct answers answers;
    struct peer_transport *transport; /* NULL for a stepped member */
    struct known_peer {
        uint64_t id;
        char *urls;
    } *known; /* to the transport */
    size_t known_len;
    _Atomic bool learner;
    _Atomic bool removed; /* from the cluster */
    _Atomic uint64_t next_op_id;
};
/* The disk or the log is beyond use: says so and ends the process, which is started again from what is on disk. */
_Noreturn void server_die(struct etcd_server *server, const char *what, const struct kp_error *error);

static inline bool server_is_stepped(const struct etcd_server *server)
{
    return server->config.world && server->config.world->stepped;
}

/* ---- health.c ---- */
void health_version(struct etcd_server *server, struct kp_buf *out);

/* ---- metrics.c ---- */
void metrics_init(void);
void metrics_collect(struct etcd_server *server);
void metric_wal_sync(double seconds);
void metric_backend_commit(void *ctx, double seconds);
void metric_count(enum op_kind kind);
void metric_count_range(void);
void metric_call(const char *path, const char *code); /* "/package.Service/Method", "OK" */

/* ---- rpc: the sockets (rpc.c, health.c, api_*.c) ---- */
int rpc_start(struct etcd_server *server, struct kp_error *error) KP_NODISCARD;
void rpc_stop(struct etcd_server *server);

#endif
