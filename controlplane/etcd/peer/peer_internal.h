/* What the files of the peer transport share. */
#ifndef ETCD_PEER_INTERNAL_H
#define ETCD_PEER_INTERNAL_H

#include "controlplane/etcd/peer/peer.h"
#include "grpc/grpc.h"
#include "http/http.h"
#include "loop/loop.h"
#include "proto/peer.pb-c.h"
#include "tls/tls.h"

#include <pthread.h>

#define PEERS_MAX 64                /* configurations have RAFT_MEMBERS_MAX; those on their way out come on top */
#define PEER_LISTENERS_MAX 8
#define PEER_POOL_THREADS 16        /* questions, GETs, closing of connections */
#define PEER_POOL_QUEUE 4096
#define PEER_SNAPSHOT_THREADS 64    /* one for each image on its way, either direction */
#define PEER_LETTER_BYTES_MAX ((size_t)160 << 20) /* the largest raft message: one entry of 64 MiB over a full batch */
#define PEER_ANSWER_BYTES_MAX ((size_t)64 << 20)
#define PEER_GRPC_HEADER_BYTES 5

/* Unanswered for so long, a connection counts as dead: an election timeout within these. */
#define PEER_SILENT_MS_MIN 1000
#define PEER_SILENT_MS_MAX 5000
#define PEER_PROBES_PER_SILENCE 2   /* probes of a connection in that time */
#define PEER_TICKS_PER_SILENCE 10
#define PEER_BUSY_BYTES ((size_t)256 << 10) /* with so much queued the longest silence is allowed: a probe may be behind it */
#define PEER_RECEIPT_BYTES ((size_t)64 << 10) /* confirmed without a probe: one may be behind so much and more */
#define PEER_CONNECT_MS 1000
#define PEER_OPEN_MS 3000           /* TCP, TLS and the first receipt */
#define PEER_BACKOFF_MS_MIN 20
#define PEER_BACKOFF_MS_MAX 1000
#define PEER_UNREACHABLE_EVERY_MS 100
#define PEER_GOODBYE_MS 1000
#define PEER_SNAPSHOT_STALLED_MS 30000
#define PEER_SNAPSHOT_WINDOW 4      /* chunks sent and not yet written by the other side */

#define PEER_HEADER_CLUSTER "x-etcd-cluster-id"
#define PEER_HEADER_FROM "x-server-from"
#define PEER_HEADER_TO "x-raft-to"
#define PEER_HEADERS 3
#define PEER_PATH "/kprov.etcd.peer.Peer/"

/* Appends go on a stream of their own, so that a heartbeat does not wait behind megabytes of entries. */
enum peer_lane { LANE_CONTROL, LANE_APPEND, LANES };
enum peer_state { PEER_IDLE, PEER_OPENING, PEER_OPEN, PEER_GONE };

/* A channel to a peer's URLs; counted, since a question may outlive a change of URLs. The last reference is let go on the
   pool: closing waits for the loop. */
struct peer_channel {
    int refs; /* atomic */
    struct peer_transport *transport;
    struct grpc_channel *grpc;
    struct peer_channel *next; /* of transport->closing */
};

/* The metadata every call carries. */
struct peer_metadata {
    char cluster[17], from[17], to[17];
    struct http_header list[PEER_HEADERS];
};

struct peer {
    int refs; /* atomic */
    struct peer_transport *transport;
    uint64_t id;
    struct peer_metadata metadata;
    pthread_mutex_t lock; /* guards the next block */
    struct peer_channel *channel; /* NULL when the URLs are of no use */
    char *urls[PEER_URLS_MAX];
    size_t urls_len;
    struct grpc_call *calls[LANES]; /* NULL: what is sent is lost */
    struct peer_stats stats;
    bool lost, lost_posted;
    bool removed;
    /* the loop's own */
    enum peer_state state;
    unsigned generation; /* of the connection: what an older one still tells is not heard */
    struct loop_timer *timer; /* the next attempt, or the goodbye */
    int64_t backoff_ms, opened_ms, heard_ms, probe_sent_ms, unreachable_ms;
    uint64_t probe; /* not answered yet; 0: none */
    bool failure_told;
};

struct inbound; /* receive.c */
struct outgoing; /* snapshot_send.c */

struct peer_transport {
    struct peer_config config;
    struct loop *loop;
    struct pool *pool, *snapshots;
    struct tls_context *server_tls, *client_tls; /* NULL: none */
    struct grpc_server *servers[PEER_LISTENERS_MAX];
    size_t servers_len;
    struct kp_arena *arena;
    pthread_mutex_t lock; /* guards the next block */
    struct peer *peers[PEERS_MAX];
    size_t peers_len;
    struct outgoing *outgoing;
    struct peer_channel *closing;
    bool closing_posted;
    bool stopping;
    int64_t silent_ms_max;
    /* the loop's own */
    struct loop_timer *tick;
    int64_t ticked_ms;
    struct inbound *inbound;
};

/* ---- peer.c ---- */
struct peer *peer_find(struct peer_transport *transport, uint64_t id); /* a reference, or NULL */
struct peer *peer_hold(struct peer *peer);
void peer_release(struct peer *peer); /* accepts NULL */
KP_DEFINE_AUTO(struct peer *, peer_release)
uint16_t peer_listen_port(const struct peer_transport *transport, size_t index);
size_t peer_snapshot_peers(struct peer_transport *transport, struct peer *ret_peers[PEERS_MAX]); /* a reference each */

/* ---- tls.c ---- */
int peer_tls_server(const struct peer_tls_files *files, struct tls_context **ret_tls, struct kp_error *error);
int peer_tls_client(const struct peer_tls_files *files, struct tls_context **ret_tls, struct kp_error *error);
/* Whether the certificate of a connection is one of those allowed. */
bool peer_tls_allows(const struct peer_tls_files *files, const struct http_peer_identity *identity);

/* ---- link.c: outgoing streams ---- */
struct peer_channel *peer_channel_of(struct peer *peer); /* a reference, or NULL */
int peer_channel_new(struct peer_transport *transport, const char *const *urls, size_t len, struct peer_channel **ret_channel,
                     struct kp_error *error);
void peer_channel_unref(struct peer_channel *channel); /* accepts NULL */
KP_DEFINE_AUTO(struct peer_channel *, peer_channel_unref)
void peer_close_channels(void *transport); /* those let go; not on the loop */
void peer_link_start(void *peer);          /* loop; takes over a reference */
void peer_link_restart(void *peer);        /* loop; takes over a reference: other URLs */
void peer_link_say_goodbye(void *peer);    /* loop; takes over a reference */
void peer_link_drop(struct peer *peer);    /* loop: ends it for good */
void peer_link_tick(struct peer *peer, int64_t now_ms);
void peer_link_heard_of(struct peer *peer); /* loop: it called us, so it is worth a try at once */

/* ---- receive.c ---- */
extern const struct grpc_method peer_methods[];
void peer_get_handler(struct http_request *req, void *transport);
void peer_inbound_tick(struct peer_transport *transport);
void peer_inbound_close(struct peer_transport *transport); /* loop */
/* Checks what a call's metadata say. 0, or a status with the message in error. */
int peer_check_call(struct peer_transport *transport, const struct grpc_context *context, uint64_t *ret_from,
                    struct kp_error *error);

/* ---- snapshot_send.c, snapshot_receive.c ---- */
void peer_snapshots_cancel(struct peer_transport *transport);
int peer_snapshot_open(struct grpc_context *context, struct grpc_stream *stream, struct kp_error *error);

#endif
