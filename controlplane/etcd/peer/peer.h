/* controlplane/etcd/peer: members talking to each other - Raft messages, snapshot images and questions - over gRPC with
   mutual TLS on the peer URLs.

   Every connection names the cluster and both members in its metadata; one of another cluster, or meant for another
   member, is refused with etcd's texts. Messages to one peer keep their order on a connection and are lost with it: Raft
   expects no more. */
#ifndef ETCD_PEER_H
#define ETCD_PEER_H

#include "base/base.h"
#include "controlplane/etcd/raft/raft.h"

#define PEER_QUEUED_BYTES_MAX ((size_t)64 << 20) /* unsent to one peer; more is dropped and reported unreachable */
#define PEER_SNAPSHOT_CHUNK_BYTES ((size_t)1 << 20)
#define PEER_QUESTION_BYTES_MAX ((size_t)4 << 20)
#define PEER_URLS_MAX 16

struct peer_tls_files { /* borrowed for the life of the transport; read again when the files change */
    const char *cert_file, *key_file, *trusted_ca_file;
    bool client_cert_auth;
    const char *allowed_cn, *allowed_hostname; /* NULL: any that the CA signed; not both */
    const char *client_cert_file, *client_key_file; /* shown when we call; NULL: cert_file and key_file */
    bool insecure_skip_verify;                       /* when we call: for certificates that members made themselves */
    const char *cipher_suites, *version_min, *version_max; /* as the flags have them; NULL or "": the defaults */
};

/* Called from the transport's threads. */
struct peer_events {
    void *ctx;
    /* A message came; the callee owns what it holds. Must not block. Never RAFT_MSG_SNAPSHOT. */
    void (*message)(void *ctx, struct raft_message *message);
    /* A snapshot image begins: *ret_path is a file to make (malloc'd; the transport frees the string). May block. */
    int (*snapshot_begin)(void *ctx, const struct raft_message *message, char **ret_path, struct kp_error *error);
    /* The image is complete at path and synced, and is the callee's; the message (owned now) is a RAFT_MSG_SNAPSHOT.
       On a broken transfer this is not called and the transport unlinks the file. May block. */
    int (*snapshot_end)(void *ctx, struct raft_message *message, const char *path, struct kp_error *error);
    /* A snapshot of ours arrived at `to`, or failed. */
    void (*snapshot_sent)(void *ctx, uint64_t to, bool ok);
    /* Messages to this peer were lost. At most once per 100 ms and peer. */
    void (*unreachable)(void *ctx, uint64_t to);
    /* Someone asks: writes the answer to out. Fails with a code and a message that the asker sees. Worker pool; may block. */
    int (*question)(void *ctx, const char *what, struct kp_bytes question, struct kp_buf *out, struct kp_error *error);
    /* GET on the peer URL that the transport does not answer itself ("/members", "/version", "/health", "/metrics"):
       writes the body; KP_ENOTFOUND for an unknown path. Worker pool. */
    int (*get)(void *ctx, const char *path, const char **ret_content_type, struct kp_buf *out, struct kp_error *error);
};

struct peer_config { /* strings borrowed for the life of the transport */
    uint64_t cluster_id, member_id;
    const char *listen_urls; /* commas, as --listen-peer-urls */
    int64_t election_ms;     /* a connection that is silent for about so long is dead; 0: a second */
    struct peer_tls_files tls;
    struct peer_events events;
};
struct peer_transport;
/* Listens. Peers are added after that. KP_EINVALID, KP_EIO as the sockets fail. */
int peer_start(const struct peer_config *config, struct peer_transport **ret_transport, struct kp_error *error) KP_NODISCARD;
/* No event is running or follows; ends connections. Accepts NULL. */
void peer_stop(struct peer_transport *transport);
KP_DEFINE_AUTO(struct peer_transport *, peer_stop)

/* ---- whom we know: any thread ---- */
void peer_set(struct peer_transport *transport, uint64_t id, const char *const *urls, size_t len); /* adds or replaces; copies */
void peer_remove(struct peer_transport *transport, uint64_t id); /* sends what is queued (at most a second), then forgets */

/* ---- sending: any thread, never blocks ---- */
/* Takes over what message holds. A message to nobody known is dropped. */
void peer_send(struct peer_transport *transport, struct raft_message *message);
/* A RAFT_MSG_SNAPSHOT with its image at path; owns both: the file is unlinked when sent or failed. events.snapshot_sent
   follows. Chunks carry a running CRC-32C; the receiver checks it and the length. */
void peer_send_snapshot(struct peer_transport *transport, struct raft_message *message, const char *path);

/* ---- asking: blocks, not on a loop's thread ---- */
/* The answer's bytes are appended to ret_answer. Fails with the code the other side gave, or KP_EUNAVAILABLE, KP_ETIMEOUT. */
int peer_ask(struct peer_transport *transport, uint64_t id, const char *what, struct kp_bytes question, int64_t timeout_ms,
             struct kp_buf *ret_answer, struct kp_error *error) KP_NODISCARD;
/* GET path from any of the URLs (commas) before there is a transport: how a joining member learns the cluster. Appends the
   body; *ret_cluster_id from the header X-Etcd-Cluster-ID (0 when absent). */
int peer_get(const char *urls, const struct peer_tls_files *tls, const char *path, int64_t timeout_ms, struct kp_buf *ret_body,
             uint64_t *ret_cluster_id, struct kp_error *error) KP_NODISCARD;

struct peer_stats {
    uint64_t id, sent_bytes, received_bytes, sent_failures, messages_sent, messages_received;
    int64_t active_since_ms; /* 0: not connected */
    double rtt_s;            /* of the last probe; 0: none yet */
};
size_t peer_stats(struct peer_transport *transport, struct peer_stats *stats, size_t max);

#endif
