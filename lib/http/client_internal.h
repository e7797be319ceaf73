/* The client's own structures: endpoints, connections, calls. Everything but the parts marked guarded belongs to the loop. */
#ifndef KP_HTTP_CLIENT_INTERNAL_H
#define KP_HTTP_CLIENT_INTERNAL_H

#include <nghttp2/nghttp2.h>

#include "lib/http/h1_internal.h"
#include "lib/http/http_internal.h"

#define CLIENT_ENDPOINTS_MAX 64
#define CLIENT_STREAMS_MAX 250 /* on one HTTP/2 connection, if the server allows as many */

struct client_conn;

enum call_state { CALL_IDLE, CALL_WAITING, CALL_ACTIVE, CALL_OVER };

/* References: the users' as a whole, and the loop's until on_end has been told. */
struct http_call {
    atomic_int refs, user_refs;
    struct http_client *client;
    struct kp_arena *arena; /* the copied request */
    const char *method, *path;
    struct header_list headers;
    struct kp_blob *body;
    bool body_follows, manual_flow, upgrade;
    int64_t timeout_ms;
    struct http_cancel *cancel;
    struct http_call_callbacks callbacks;
    void (*on_tunnel)(struct http_call *call, struct http_tunnel *tunnel, void *arg); /* upgrade only: after on_headers */
    void *arg;
    atomic_size_t consumed;
    pthread_mutex_t mutex;
    /* guarded */
    struct outq queue;
    bool send_ended, cancelled, over, work_posted;
    /* loop */
    enum call_state state;
    struct http_call *next, **pprev;           /* of the client */
    struct http_call *wait_next;               /* of the endpoint */
    struct http_call *conn_next, **conn_pprev; /* of the connection */
    struct client_conn *conn;
    struct client_endpoint *endpoint;
    struct loop_timer *timer;
    uint64_t tried; /* endpoints, a bit each */
    bool body_taken;
    int refused;    /* HTTP/2 streams refused so far */
    int32_t h2_id;
    bool h2_open;   /* the stream h2_id exists */
    int status;     /* of the final response head, 0 before */
    bool any_response, send_complete;
    size_t unconsumed;
    struct kp_buf head_text; /* HTTP/2: name NUL value NUL ... of the block arriving */
    size_t head_count;
    bool head_too_large;
};

enum learned_protocol { LEARNED_NOTHING, LEARNED_H1, LEARNED_H2 };

struct client_endpoint {
    struct http_url url;
    char *authority;
    unsigned index;
    enum learned_protocol learned;
    int64_t down_until_ms;
    struct client_conn *conns;
    unsigned conn_count;
    struct http_call *waiting, **waiting_tail;
};

struct client_conn {
    struct http_client *client;
    struct client_endpoint *endpoint;
    struct client_conn *next, **pprev;
    struct loop_connect *connect;
    struct transport *transport;
    int holds;
    bool ready, closed, is_h2, draining;
    struct http_call *dedicated; /* an upgrade's own connection, before it is ready */
    struct http_call *calls;
    unsigned call_count;
    unsigned calls_done; /* above 0: a kept-alive connection */
    int64_t deadline_ms; /* of the handshake */
    int64_t idle_since_ms, last_received_ms;
    /* HTTP/1 */
    struct kp_buf in;
    size_t scan;
    struct h1_body body;
    bool in_body, keep_alive, processing, read_paused;
    /* HTTP/2 */
    nghttp2_session *session;
    bool sending, receiving, ping_sent;
    int64_t ping_ms;
};

struct http_client {
    atomic_int refs;
    struct loop *loop;
    struct http_client_config config;
    struct kp_arena *arena; /* the copied configuration */
    char *user_agent;
    struct client_endpoint *endpoints;
    size_t endpoint_count, current;
    struct http_call *calls;
    struct loop_timer *sweep;
    bool closing;
};

/* ---- client.c ---- */
void client_ref(struct http_client *client);
void client_unref(struct http_client *client);
void client_assign(struct http_call *call); /* finds or opens a connection, or queues */
void client_unwait(struct http_call *call); /* takes it out of its endpoint's queue */
void cconn_hold(struct client_conn *conn);
void cconn_release(struct client_conn *conn);
/* Closes; calls on it are ended with error or, where that is safe, tried again. */
void cconn_fail(struct client_conn *conn, const struct kp_error *error);
void cconn_close(struct client_conn *conn); /* no calls on it (any more) */
void cconn_idle(struct client_conn *conn);  /* a call is over: serve those that wait */
void cconn_attach(struct client_conn *conn, struct http_call *call);
void cconn_detach(struct http_call *call);
int64_t client_now_ms(const struct http_client *client);

/* ---- call.c ---- */
struct http_call *call_new(struct http_client *client, const struct http_client_request *request,
                           const struct http_call_callbacks *callbacks, void *arg);
void call_begin(struct http_call *call); /* any thread */
void call_put(struct http_call *call);
void call_end(struct http_call *call, const struct kp_error *error); /* error NULL or code 0: success */
/* The connection could not serve it, and the server has not acted on it: tried again, or ended with error. */
enum retry_reason {
    RETRY_UNREACHED, /* no connection: another endpoint, each once */
    RETRY_REFUSED,   /* an HTTP/2 connection did not take the stream: REFUSED_MAX times in all */
    RETRY_STALE,     /* a kept-alive connection had ended: until one is new, as Go's Transport does */
};
void call_retry(struct http_call *call, enum retry_reason reason, const struct kp_error *error);
bool call_may_retry_stale(const struct http_call *call);
void call_headers(struct http_call *call, int status, const struct http_header *headers, size_t count);
void call_data(struct http_call *call, const uint8_t *data, size_t len);
void call_trailers(struct http_call *call, const struct http_header *headers, size_t count);
/* Body bytes to send were taken from the queue: calls on_drain when it is empty. */
void call_drained(struct http_call *call);

/* ---- client_h1.c, client_h2.c ---- */
void ch1_start(struct client_conn *conn, struct http_call *call);
void ch1_flush(struct client_conn *conn, struct http_call *call);
void ch1_data(struct client_conn *conn, const uint8_t *data, size_t len);
void ch1_eof(struct client_conn *conn);
void ch1_consumed(struct client_conn *conn, struct http_call *call);
void ch2_open(struct client_conn *conn);
void ch2_start(struct client_conn *conn, struct http_call *call);
void ch2_flush(struct client_conn *conn, struct http_call *call);
void ch2_data(struct client_conn *conn, const uint8_t *data, size_t len);
void ch2_consumed(struct client_conn *conn, struct http_call *call, size_t len);
/* Breaks a stream off that no call has any more; 0: none. May fail the connection, and so end its calls. */
void ch2_reset(struct client_conn *conn, int32_t stream);
void ch2_send(struct client_conn *conn);
void ch2_ping(struct client_conn *conn, int64_t now_ms);
bool ch2_has_room(const struct client_conn *conn);

#endif
