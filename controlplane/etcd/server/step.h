/* A member without sockets and threads: whoever owns it calls each turn. What the program runs on its threads, the
   simulator runs in one, in any order it likes. */
#ifndef ETCD_STEP_H
#define ETCD_STEP_H

#include "controlplane/etcd/raft/raft.h"
#include "controlplane/etcd/server/server.h"
#include "controlplane/etcd/wal/wal.h"

/* Set in struct etcd_config.world; NULL there: the real network, disk and threads. */
struct etcd_world {
    void *ctx;
    const struct wal_io *wal_io; /* NULL: wal_io_posix */
    bool stepped;                /* no threads: not of the raft loop, the committer, nor upkeep */
    /* Takes over what the message holds. Never RAFT_MSG_SNAPSHOT. */
    void (*send)(void *ctx, struct etcd_server *server, struct raft_message *message);
    /* The image is a file; owns it and the message. server_snapshot_sent follows some time. */
    void (*send_snapshot)(void *ctx, struct etcd_server *server, struct raft_message *message, const char *path);
    /* The rest may be NULL. */
    /* Disk or log are beyond use: the member must not go on. Does not return; NULL ends the process. */
    void (*die)(void *ctx, struct etcd_server *server, const char *what, const struct kp_error *error);
    /* What peer_get and peer_ask do: a joining member learns the cluster, a follower asks its leader. */
    int (*get)(void *ctx, const char *urls, const char *path, struct kp_buf *ret_body, uint64_t *ret_cluster_id,
               struct kp_error *error);
    int (*ask)(void *ctx, struct etcd_server *server, uint64_t to, const char *what, struct kp_bytes question,
               struct kp_buf *ret_answer, struct kp_error *error);
};

/* Storage, state and raft; no sockets. A stepped member does nothing until its turns are called. */
int server_open(const struct etcd_config *config, struct etcd_server **ret_server, struct kp_error *error) KP_NODISCARD;
void server_close(struct etcd_server *server); /* as a clean stop: commits the database; accepts NULL */
KP_DEFINE_AUTO(struct etcd_server *, server_close)

/* ---- turns of a stepped member, one thread ---- */
void server_turn(struct etcd_server *server);         /* raft: everything queued, ticks due, readies until none */
void server_upkeep_turn(struct etcd_server *server);  /* leases, compaction (all of it), snapshot and cutting the log */
bool server_watch_turn(struct etcd_server *server);   /* catches up watchers; true while some lag and can take more */
void server_commit_turn(struct etcd_server *server);  /* the committer: writes the pending batch */
int64_t server_next_turn_ms(const struct etcd_server *server); /* kp_mono_ms when the next tick is due */

/* ---- what arrives: any thread ---- */
void server_receive(struct etcd_server *server, struct raft_message *message); /* owns what it holds; not a snapshot */
/* Owns the file and the message. Installs before anything later is applied. */
void server_receive_snapshot(struct etcd_server *server, struct raft_message *message, const char *path);
void server_snapshot_sent(struct etcd_server *server, uint64_t to, bool ok);
void server_unreachable(struct etcd_server *server, uint64_t to);
/* What others' `get` and `ask` are answered with. */
int server_get(struct etcd_server *server, const char *path, const char **ret_content_type, struct kp_buf *out,
               struct kp_error *error);
int server_question(struct etcd_server *server, const char *what, struct kp_bytes question, struct kp_buf *out,
                    struct kp_error *error);
bool server_is_removed(const struct etcd_server *server); /* from the cluster: it has nothing left to do but stop */

#endif
