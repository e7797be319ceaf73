/* The server's own structures: connections, exchanges (a request and its answer), and the streams answers flow through. */
#ifndef KP_HTTP_SERVER_INTERNAL_H
#define KP_HTTP_SERVER_INTERNAL_H

#include <nghttp2/nghttp2.h>

#include "lib/http/h1_internal.h"
#include "lib/http/http_internal.h"

#define LINGER_MS 2000          /* how long a closing connection reads on, so that the last answer is not lost by a reset */
#define H1_PIPELINE_BYTES_MAX ((size_t)64 << 10)
#define H2_RESETS_PER_S_MAX 500 /* more streams reset by the peer in a second ends the connection (CVE-2023-44487) */

struct server_conn;

struct query_pair {
    const char *name, *value;
};

/* The response side. Guarded by its mutex but for exchange. */
struct http_stream {
    atomic_int refs, user_refs;
    pthread_mutex_t mutex;
    struct loop *loop;
    bool head_set, ended, reset, closed, flush_posted;
    bool has_body;  /* false: HEAD, 204, 304 */
    int status;
    int64_t content_length; /* -1: not known beforehand */
    struct header_list headers, trailers;
    struct outq queue;
    size_t queued_max;
    loop_fn close_fn, drain_fn;
    void *close_arg, *drain_arg;
    struct loop_turn_end flush_item; /* loop thread */
    struct exchange *exchange; /* loop thread; NULL once the connection has let go. Holds a reference to it */
};

/* References: the connection's (until the exchange is over), the stream's until closed, and one while user_refs > 0. */
struct exchange {
    struct http_request req; /* first: the public face */
    atomic_int refs, user_refs;
    atomic_bool answered, cancelled;
    struct kp_arena *head_arena; /* the request's strings; lives as long as the exchange */
    struct http_server *server;
    struct peer_object *peer;
    struct http_stream *out;
    struct kp_buf body;
    char peer_address[LOOP_ADDRESS_MAX];
    bool can_upgrade;
    struct query_pair *query_pairs; /* parsed on first use, in req.arena */
    size_t query_count;
    atomic_size_t consumed; /* given back by the handler, not yet seen by the loop */
    /* loop thread only */
    struct server_conn *conn; /* NULL once detached */
    struct exchange *next, **pprev; /* of the connection */
    bool stream_mode, receiving, dispatched, body_complete, body_told, body_refused;
    struct http_body_callbacks body_callbacks;
    void *body_arg;
    size_t body_max, unconsumed;
    int64_t body_deadline_ms; /* 0: none */
    bool head_sent, submitted;
    uint64_t bytes_out;
    struct http_tunnel *tunnel; /* upgrade asked for */
    /* HTTP/2, while headers arrive */
    int32_t h2_id;
    struct kp_buf head_text; /* name NUL value NUL ... */
    size_t head_count;
    const char *h2_bad; /* why the request is refused, or NULL */
};

struct conn_ops {
    void (*flush)(struct server_conn *conn, struct exchange *ex);   /* the response has something to send */
    void (*consumed)(struct server_conn *conn, struct exchange *ex, size_t len);
    void (*reset)(struct server_conn *conn, struct exchange *ex);   /* break the response off */
    void (*shutdown)(struct server_conn *conn);                     /* finish what runs, take nothing new */
};

enum conn_phase { PHASE_HANDSHAKE, PHASE_SNIFF, PHASE_HEAD, PHASE_BODY, PHASE_BUSY, PHASE_H2, PHASE_TUNNEL, PHASE_LINGER };

struct server_conn {
    struct http_server *server;
    struct server_conn *next, **pprev;
    struct transport *transport;
    const struct conn_ops *ops; /* NULL until the protocol is known */
    enum conn_phase phase;
    int holds; /* calls on the stack that use it: it is freed when the last returns */
    bool closed;
    int64_t deadline_ms; /* 0: none */
    size_t last_queued;  /* write progress */
    int64_t last_progress_ms;
    struct peer_object *peer;
    struct exchange *exchanges;
    size_t exchange_count;
    struct http_tunnel *tunnel;
    /* HTTP/1 */
    struct kp_buf in;
    size_t scan;
    struct h1_body body;
    bool keep_alive, eof, processing, read_paused;
    /* HTTP/2 */
    nghttp2_session *session;
    bool sending, draining, out_full;
    struct loop_turn_end send_item;
    int64_t reset_window_s;
    unsigned resets;
};

/* What a connection is about to write: bytes copied and bytes referred to, in order. */
struct h2_out {
    struct kp_buf copied;
    struct http_slice parts[LOOP_PARTS_MAX]; /* blob NULL: in copied */
    size_t parts_len, bytes;
};

struct http_server {
    atomic_int refs;
    struct http_server_config config;
    char *host, *unix_path;
    struct loop *loop;
    struct loop_listener *listener;
    struct loop_timer *sweep;
    uint16_t port;
    struct server_conn *conns;
    struct h2_out h2_out; /* loop thread: what a connection is about to write */
    atomic_uint conn_count;
    bool stopping;      /* loop thread: nothing new is taken */
    bool accept_paused;
    pthread_mutex_t mutex; /* guards jobs and the condition */
    pthread_cond_t cond;
    unsigned jobs; /* handlers queued or running */
};

static inline struct exchange *exchange_of(const struct http_request *req)
{
    return (struct exchange *)(uintptr_t)req;
}

/* ---- h2_out.c ---- */
bool h2_out_is_full(const struct h2_out *out); /* write it before more is added; one part always fits */
void h2_out_copy(struct h2_out *out, const void *data, size_t len);
/* Takes over the slice's reference. may_refer: the bytes need not pass through memory of ours (cleartext). */
void h2_out_take(struct h2_out *out, const struct http_slice *slice, bool may_refer);
void h2_out_write(struct h2_out *out, struct transport *transport); /* empties it */

/* ---- server.c ---- */
void conn_hold(struct server_conn *conn);
void conn_release(struct server_conn *conn);
void conn_close(struct server_conn *conn);  /* at once; all its exchanges are cancelled */
void conn_linger(struct server_conn *conn); /* half closes, reads on for a moment, closes */
void conn_tunnel_gone(void *arg);
int64_t server_now_ms(const struct http_server *server);
void server_ref(struct http_server *server);
void server_unref(struct http_server *server);

/* ---- request.c ---- */
struct exchange *exchange_new(struct server_conn *conn); /* linked into the connection, which holds a reference */
void exchange_unref(struct exchange *ex);
/* Splits the target, decodes the path. 0 or KP_EBADREQUEST. */
int exchange_set_target(struct exchange *ex, const char *target);
/* Headers are complete: asks the hooks, and in stream mode calls the handler. */
void exchange_begin(struct exchange *ex);
/* Body bytes. 0; KP_ETOOLARGE over the limit. */
int exchange_body(struct exchange *ex, const uint8_t *data, size_t len);
void exchange_body_end(struct exchange *ex);
/* The connection lets go: complete tells whether the response went out whole. Frees the connection's reference. */
void exchange_over(struct exchange *ex, bool complete);
void exchange_respond_plain(struct exchange *ex, int status, const char *message);

/* ---- response.c ---- */
struct http_stream *stream_new(struct exchange *ex);
void stream_put(struct http_stream *stream); /* drops an inner reference */
void stream_closed(struct http_stream *stream); /* loop: marks it closed and tells the close callback */
void stream_drained(struct http_stream *stream); /* loop: tells the drain callback, later */
void stream_schedule(struct http_stream *stream);
/* Formats "HTTP/1.1 200 OK ..." with the blank line. */
void stream_h1_head(struct http_stream *stream, struct exchange *ex, bool chunked, bool keep_alive, struct kp_buf *out);

/* ---- server_h1.c, server_h2.c ---- */
void h1_conn_start(struct server_conn *conn);
void h1_conn_data(struct server_conn *conn, const uint8_t *data, size_t len);
void h1_conn_eof(struct server_conn *conn);
void h1_conn_drain(struct server_conn *conn);
void h1_conn_timeout(struct server_conn *conn); /* the deadline has passed */
int h2_conn_start(struct server_conn *conn);
void h2_conn_data(struct server_conn *conn, const uint8_t *data, size_t len);
void h2_conn_send(struct server_conn *conn);
void h2_conn_send_soon(struct server_conn *conn); /* once, at the end of the turn: one write for all that it brought */
void h2_conn_sweep(struct server_conn *conn, int64_t now_ms);

#endif
