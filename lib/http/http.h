/* lib/http: HTTP/1.1 and HTTP/2 server and client over lib/loop, upgraded tunnels, WebSocket, URL helpers.

   Header names are matched without regard to case. What a handler allocates from req->arena lives as long as the request. */
#ifndef KP_HTTP_H
#define KP_HTTP_H

#include "lib/base/base.h"
#include "lib/loop/loop.h"

struct tls_context; /* lib/tls/tls.h */

#define HTTP_HEADER_BYTES_MAX_DEFAULT ((size_t)64 << 10)
#define HTTP_HEADER_COUNT_MAX 256
#define HTTP_BODY_BYTES_MAX_DEFAULT ((size_t)3 << 20)
#define HTTP_CONNECTIONS_MAX_DEFAULT 10000
#define HTTP_STREAMS_PER_CONNECTION_MAX_DEFAULT 250
#define HTTP_STREAM_QUEUED_MAX_DEFAULT ((size_t)16 << 20) /* unsent bytes after which a slow reader is cut off */
#define HTTP_WINDOW_BYTES ((size_t)256 << 10)             /* received but unconsumed bytes of one streamed body */
#define HTTP_GZIP_BYTES_MIN ((size_t)128 << 10)

enum http_version { HTTP_1_0, HTTP_1_1, HTTP_2 };

struct http_header {
    const char *name;
    const char *value;
};
/* First value of a header, or NULL. */
const char *http_header_get(const struct http_header *headers, size_t count, const char *name);
/* True when the comma-separated header (any of its lines) has the token: http_header_has_token(h, n, "connection", "upgrade"). */
bool http_header_has_token(const struct http_header *headers, size_t count, const char *name, const char *token);
const char *http_status_text(int status); /* "Not Found"; "Unknown" for others */

/* ==== server ==================================================================================================== */
/* Who the peer proved to be with a client certificate that verified. */
struct http_peer_identity {
    const char *common_name;
    const char *const *organizations;
    size_t organization_count;
    struct kp_bytes certificate_der;
};

struct http_request {
    struct kp_arena *arena;
    const char *method;    /* "GET" */
    const char *raw_path;  /* as sent, without the query: "/api/v1/a%2Fb" */
    const char *path;      /* percent-decoded */
    const char *query;     /* as sent, without '?'; "" when none */
    const char *authority; /* Host or :authority; "" when none (HTTP/1.0) */
    const char *scheme;    /* "https" or "http" */
    enum http_version version;
    const struct http_header *headers; /* no pseudo headers */
    size_t header_count;
    struct kp_bytes body;                  /* NUL-terminated; empty in stream mode */
    const char *peer_address;              /* "10.0.0.1:51234" or "unix" */
    const struct http_peer_identity *peer; /* NULL when there is no verified client certificate */
    int64_t received_ns;                   /* kp_mono_ns() when the headers were complete */
    void *user;                            /* free for the handler's use */
};
/* All values below are in the arena, percent-decoded with '+' as a space. */
const char *http_request_header(const struct http_request *req, const char *name); /* first value or NULL */
const char *http_request_query(struct http_request *req, const char *name);        /* first value, "" for "?name", or NULL */
size_t http_request_query_all(struct http_request *req, const char *name, const char *const **ret_values);
bool http_request_accepts_gzip(const struct http_request *req);
/* Zeroed memory that lives until on_access has been called, longer than req->arena: for what metrics need in req->user. */
void *http_request_alloc(struct http_request *req, size_t size);

/* Runs on the worker pool once the body is complete, as straight-line code that may block. It answers exactly once with
   http_respond, http_stream_start or http_upgrade; a request whose last reference goes without an answer gets a 500.
   req->arena and the body die when the handler returns, unless http_request_ref was called (then the answer may come
   later, from any thread). The loop keeps the head of the request until on_access. */
typedef void (*http_handler)(struct http_request *req, void *arg);
struct http_request *http_request_ref(struct http_request *req);
void http_request_unref(struct http_request *req); /* any thread; accepts NULL */
/* Any thread. True once the peer has gone, so that nobody will read the answer. */
bool http_request_cancelled(const struct http_request *req);

/* Answers; copies the header list and the body. Content-Length (and Date) are added; a HEAD request sends no body. */
void http_respond(struct http_request *req, int status, const struct http_header *headers, size_t header_count,
                  const void *body, size_t body_len);
/* The same without copying: takes a reference of its own to body (may be NULL). */
void http_respond_blob(struct http_request *req, int status, const struct http_header *headers, size_t header_count,
                       struct kp_blob *body);
/* A response body sent bit by bit; outlives the handler and the request. Counted; everything below from any thread. */
struct http_stream;
/* The caller gets one reference. Headers are flushed at once. */
struct http_stream *http_stream_start(struct http_request *req, int status, const struct http_header *headers,
                                      size_t header_count);
/* Headers wait for the first write, or the end. */
struct http_stream *http_stream_start_lazy(struct http_request *req, int status, const struct http_header *headers,
                                           size_t header_count);
/* Queues; takes a reference of its own to blob. 0; KP_ECANCELLED when the peer has gone or the stream was ended;
   KP_ETOOLARGE when more than the maximum is unsent: the stream is then reset and closed. */
int http_stream_write(struct http_stream *stream, struct kp_blob *blob);
/* The same of parts of blobs, in order: many streams, or one many times, may send bytes that lie in memory once. */
struct http_slice {
    struct kp_blob *blob;
    size_t offset, len;
};
int http_stream_write_slices(struct http_stream *stream, const struct http_slice *slices, size_t count);
size_t http_stream_queued(struct http_stream *stream); /* unsent bytes */
bool http_stream_closed(struct http_stream *stream);
/* fn(arg) is called once, on the loop's thread, when the stream has closed for whatever reason (ended and sent, peer
   gone, reset); at once through the loop if it already has. One callback; NULL takes it back, and then it will not be
   called after this returns unless it is running now. */
void http_stream_set_close_callback(struct http_stream *stream, loop_fn fn, void *arg);
/* fn(arg) is called on the loop's thread each time the queue has become empty after having held bytes. */
void http_stream_set_drain_callback(struct http_stream *stream, loop_fn fn, void *arg);
void http_stream_end(struct http_stream *stream);
/* Ends with trailers (HTTP/2, or chunked HTTP/1.1); copies them. */
void http_stream_end_trailers(struct http_stream *stream, const struct http_header *trailers, size_t trailer_count);
void http_stream_reset(struct http_stream *stream); /* breaks off: RST_STREAM, or the connection closed */
struct http_stream *http_stream_ref(struct http_stream *stream);
void http_stream_unref(struct http_stream *stream); /* accepts NULL; the last one ends a stream still open */
KP_DEFINE_AUTO(struct http_stream *, http_stream_unref)

/* Stream mode (config.wants_stream said so): the handler is called on the LOOP's thread as soon as the headers are
   complete, must not block, and must call this before it returns. on_data and the others are called on the loop's
   thread; exactly one of on_end and on_abort comes. The request is kept until then (and while referenced). */
struct http_body_callbacks {
    void (*on_data)(struct http_request *req, const uint8_t *data, size_t len, void *arg); /* data borrowed for the call */
    void (*on_end)(struct http_request *req, void *arg);
    void (*on_abort)(struct http_request *req, void *arg); /* the peer broke off */
};
void http_request_receive(struct http_request *req, const struct http_body_callbacks *callbacks, void *arg);
/* Any thread. Gives back room for len bytes that on_data delivered; without it the peer stops after HTTP_WINDOW_BYTES. */
void http_request_consumed(struct http_request *req, size_t len);
/* Moves on to the worker pool from stream mode: submits fn(arg) to the server's pool. As pool_submit. */
int http_request_submit(struct http_request *req, loop_fn fn, void *arg) KP_NODISCARD;

/* What is known of an answered request, for metrics and access logs; all borrowed for the call. */
struct http_access {
    const struct http_request *request;
    int status;             /* 0 when the peer left before an answer */
    uint64_t response_bytes; /* of the body */
    int64_t duration_ns;    /* from complete headers to the last byte handed to the connection */
};

struct http_server_config {
    /* Where to listen: unix_path, or host and port (port 0: any free one; host NULL: all), or listen_fd when > 0 (owned). */
    const char *host;
    uint16_t port;
    const char *unix_path;
    unsigned unix_mode; /* 0: 0600 */
    int listen_fd;
    struct tls_context *tls; /* NULL: cleartext, HTTP/1.1 and HTTP/2 with prior knowledge. Borrowed until http_server_free */
    struct pool *pool;       /* handlers run here; borrowed; required unless wants_stream takes every request */
    http_handler handler;
    void *arg; /* passed to every callback here */
    /* Loop thread, after the headers (body is empty): true selects stream mode. NULL: never. Must not answer. */
    bool (*wants_stream)(struct http_request *req, void *arg);
    /* Loop thread, may be NULL: the most body bytes for this request, instead of body_bytes_max. */
    size_t (*body_max)(struct http_request *req, void *arg);
    /* Loop thread, may be NULL: is given a whole request before the pool is. True: it did what the handler would, without
       blocking; false: the handler runs. */
    bool (*try_inline)(struct http_request *req, void *arg);
    /* Pool full: called on the loop's thread to answer (for example a 429 Status body); NULL sends a plain 429. */
    http_handler on_overload;
    void (*on_access)(const struct http_access *access, void *arg); /* any thread of the server; may be NULL */
    /* Limits; 0 takes the default. Times in ms. */
    size_t header_bytes_max;
    size_t body_bytes_max;
    size_t stream_queued_max;
    unsigned connections_max;
    unsigned streams_per_connection_max;
    int64_t idle_timeout_ms;   /* 180000: keep-alive without a request */
    int64_t header_timeout_ms; /* 10000: TLS handshake, then first byte to end of headers */
    int64_t body_timeout_ms;   /* 60000: without any body byte while we are waiting for one */
    int64_t write_timeout_ms;  /* 60000: without the peer taking any byte while bytes wait */
};
struct http_server;
/* Any thread but the loop's, or before the loop runs, or on it. config is copied. */
int http_server_new(struct loop *loop, const struct http_server_config *config, struct http_server **ret_server,
                    struct kp_error *error) KP_NODISCARD;
uint16_t http_server_port(const struct http_server *server);
unsigned http_server_connections(struct http_server *server); /* any thread */
/* Any thread. New connections use tls (borrowed from now on) instead: certificate reload. */
void http_server_set_tls(struct http_server *server, struct tls_context *tls);
/* Any thread but the loop's. Stops listening, sends GOAWAY / Connection: close, waits up to timeout_ms for running
   requests, then closes what is left. */
void http_server_shutdown(struct http_server *server, int64_t timeout_ms);
/* Closes everything at once (after http_server_shutdown, if wanted) and waits for running handlers. Any thread but the
   loop's, while the loop runs or after it has ended. Accepts NULL. */
void http_server_free(struct http_server *server);
KP_DEFINE_AUTO(struct http_server *, http_server_free)

/* ==== tunnels: what remains of a connection after an HTTP/1.1 Upgrade ============================================= */
/* Counted. Everything from any thread; callbacks come on the loop's thread of the tunnel. */
struct http_tunnel;
/* Answers 101 (Connection: Upgrade is added; give "Upgrade" and the rest). The caller gets one reference, or NULL when the
   request cannot be upgraded (not HTTP/1.1, no Upgrade header, or the peer has gone); then answer it otherwise. */
struct http_tunnel *http_upgrade(struct http_request *req, const struct http_header *headers, size_t header_count);
struct http_tunnel_callbacks {
    void (*on_data)(struct http_tunnel *tunnel, const uint8_t *data, size_t len, void *arg); /* data borrowed for the call */
    void (*on_eof)(struct http_tunnel *tunnel, void *arg);   /* the peer half-closed */
    void (*on_drain)(struct http_tunnel *tunnel, void *arg); /* queue empty again; may be NULL */
    void (*on_close)(struct http_tunnel *tunnel, void *arg); /* last of all, exactly once, whoever closed it */
};
#define HTTP_TUNNEL_QUEUED_HIGH ((size_t)256 << 10) /* splice stops reading the other side above this */
#define HTTP_TUNNEL_QUEUED_MAX ((size_t)64 << 20)   /* a tunnel with more unsent bytes is closed */
/* Nothing is read before this has been called. The tunnel is kept alive until on_close. */
void http_tunnel_start(struct http_tunnel *tunnel, const struct http_tunnel_callbacks *callbacks, void *arg);
/* 0, KP_ECANCELLED when closed or half-closed by us, or KP_ETOOLARGE (closed then). Copies. */
int http_tunnel_write(struct http_tunnel *tunnel, const void *data, size_t len);
int http_tunnel_write_blob(struct http_tunnel *tunnel, struct kp_blob *blob); /* takes a reference of its own */
size_t http_tunnel_queued(struct http_tunnel *tunnel);
void http_tunnel_pause(struct http_tunnel *tunnel);
void http_tunnel_resume(struct http_tunnel *tunnel);
void http_tunnel_half_close(struct http_tunnel *tunnel); /* end of file to the peer after what is queued */
void http_tunnel_close(struct http_tunnel *tunnel);      /* sends what is queued and the end of file, closes when the peer has too (5 s at most) */
struct http_tunnel *http_tunnel_ref(struct http_tunnel *tunnel);
void http_tunnel_unref(struct http_tunnel *tunnel); /* accepts NULL; the last one closes */
KP_DEFINE_AUTO(struct http_tunnel *, http_tunnel_unref)
/* Joins two tunnels (of any loops) byte for byte with back-pressure both ways, half closes passed on, until both ends
   are done. References of its own. done(arg), may be NULL, is called on one of the loops when both have closed. */
void http_tunnel_splice(struct http_tunnel *a, struct http_tunnel *b, loop_fn done, void *arg);

/* ==== client ==================================================================================================== */
enum http_client_protocol {
    HTTP_CLIENT_AUTO,   /* ALPN over TLS, HTTP/1.1 in the clear */
    HTTP_CLIENT_H1,     /* HTTP/1.1 only */
    HTTP_CLIENT_H2,     /* HTTP/2 only: ALPN over TLS, prior knowledge in the clear (gRPC, unix sockets) */
};
struct http_client_config {
    /* "https://10.0.0.1:6443", "http://127.0.0.1:2379", "unix:/run/containerd/containerd.sock"; copied. Tried in order,
       starting from the one that last worked; one that failed is passed over for endpoint_backoff_ms. */
    const char *const *endpoints;
    size_t endpoint_count;
    struct tls_context *tls; /* for https; borrowed until http_client_free */
    const char *tls_server_name; /* expected in the certificate instead of the endpoint's host; copied; may be NULL */
    enum http_client_protocol protocol;
    const char *user_agent; /* copied; NULL: "kprov/<version>" */
    unsigned connections_max;       /* per endpoint, HTTP/1.1; 0: 64 (waiting calls queue); HTTP/2 opens a new one when streams run out */
    size_t body_bytes_max;          /* of a response that http_client_do gathers; 0: 256 MiB */
    int64_t connect_timeout_ms;     /* 0: 10000; with the TLS handshake */
    int64_t idle_timeout_ms;        /* 0: 90000; unused connections are closed */
    int64_t ping_interval_ms;       /* 0: 30000; HTTP/2 PING on quiet connections with streams; unanswered for
                                       ping_timeout_ms the connection counts as dead. -1: none */
    int64_t ping_timeout_ms;        /* 0: 15000 */
    int64_t endpoint_backoff_ms;    /* 0: 1000 */
};
struct http_client;
/* Any thread. The loop must be running (or be run later) and outlive the client. */
int http_client_new(struct loop *loop, const struct http_client_config *config, struct http_client **ret_client,
                    struct kp_error *error) KP_NODISCARD;
/* Any thread. New connections use tls instead (certificate rotation); idle ones are closed. */
void http_client_set_tls(struct http_client *client, struct tls_context *tls);
/* Loop thread, or any other. Every connection, also one being made, counts as broken: its calls fail with KP_EUNAVAILABLE and
   reason; later ones get a new connection. For users that know better than TCP that the other side has gone. */
void http_client_break(struct http_client *client, const char *reason);
/* Ends running calls with KP_ECANCELLED, closes, frees. Any thread but the loop's; no http_client_do may be running. */
void http_client_free(struct http_client *client);
KP_DEFINE_AUTO(struct http_client *, http_client_free)

/* Something another thread may fire to end a call early. Counted. */
struct http_cancel;
struct http_cancel *http_cancel_new(void);
void http_cancel_fire(struct http_cancel *cancel); /* any thread; stays fired */
bool http_cancel_fired(const struct http_cancel *cancel);
struct http_cancel *http_cancel_ref(struct http_cancel *cancel);
void http_cancel_unref(struct http_cancel *cancel); /* accepts NULL */

/* Borrowed until the call function returns (http_client_stream copies what it keeps). */
struct http_client_request {
    const char *method;
    const char *path; /* raw, with the query: "/api/v1/pods?limit=500" */
    const struct http_header *headers;
    size_t header_count;
    const void *body;
    size_t body_len;
    struct kp_blob *body_blob;  /* instead of body: not copied */
    int64_t timeout_ms;         /* of the whole call; 0: 60000 for do and upgrade, none for stream; -1: none */
    struct http_cancel *cancel; /* may be NULL */
    /* http_client_stream only: */
    bool body_follows; /* the body is sent with http_call_send, ended by http_call_send_end */
    bool manual_flow;  /* bytes of on_data count as unread until http_call_consumed */
};
struct http_response {
    int status;
    enum http_version version;
    struct http_header *headers; /* names in lower case */
    size_t header_count;
    struct kp_bytes body; /* NUL-terminated */
    const struct http_header *trailers;
    size_t trailer_count;
};
const char *http_response_header(const struct http_response *response, const char *name);
/* Any thread but the loop's: waits for the whole response, made in arena. Any HTTP status is success. Redirects are not
   followed. Tried again (on another endpoint or connection) only where the server cannot have seen it: connection refused,
   HTTP/2 REFUSED_STREAM or GOAWAY, or a kept-alive HTTP/1.1 connection that closed before any response byte when the
   method is idempotent. Errors: KP_EUNAVAILABLE, KP_ETIMEOUT, KP_ECANCELLED, KP_ETOOLARGE, KP_EUNAUTHORIZED (peer's
   certificate), KP_EIO (broke off in the middle). */
int http_client_do(struct http_client *client, const struct http_client_request *request, struct kp_arena *arena,
                   struct http_response *ret_response, struct kp_error *error) KP_NODISCARD;

/* An asynchronous call. Counted; functions from any thread, callbacks on the loop's thread, never after on_end. */
struct http_call;
struct http_call_callbacks {
    /* headers are borrowed for the call. 1xx responses are not shown. */
    void (*on_headers)(struct http_call *call, int status, const struct http_header *headers, size_t count, void *arg);
    void (*on_data)(struct http_call *call, const uint8_t *data, size_t len, void *arg);
    void (*on_trailers)(struct http_call *call, const struct http_header *trailers, size_t count, void *arg); /* may be NULL */
    void (*on_drain)(struct http_call *call, void *arg); /* all of http_call_send went out; may be NULL */
    /* Exactly once, last. error is NULL when the response ended as it should. */
    void (*on_end)(struct http_call *call, const struct kp_error *error, void *arg);
};
/* Any thread. The caller gets one reference; failures arrive at on_end. arg must live until on_end. */
struct http_call *http_client_stream(struct http_client *client, const struct http_client_request *request,
                                     const struct http_call_callbacks *callbacks, void *arg);
int http_call_send(struct http_call *call, struct kp_blob *blob); /* takes a reference of its own; 0 or KP_ECANCELLED when over */
void http_call_send_end(struct http_call *call);
size_t http_call_queued(struct http_call *call);
void http_call_consumed(struct http_call *call, size_t len);
void http_call_cancel(struct http_call *call); /* on_end comes with KP_ECANCELLED unless it already came */
struct http_call *http_call_ref(struct http_call *call);
void http_call_unref(struct http_call *call); /* accepts NULL; does not cancel */
KP_DEFINE_AUTO(struct http_call *, http_call_unref)

/* Any thread but the loop's. Sends an HTTP/1.1 request with the caller's Upgrade header (Connection: Upgrade is added) on
   a connection of its own. On 101: *ret_tunnel is set, the caller's reference. Otherwise *ret_tunnel is NULL and
   *ret_response holds the whole ordinary response. */
int http_client_upgrade(struct http_client *client, const struct http_client_request *request, struct kp_arena *arena,
                        struct http_response *ret_response, struct http_tunnel **ret_tunnel,
                        struct kp_error *error) KP_NODISCARD;

/* ==== WebSocket (RFC 6455) ======================================================================================= */
enum ws_opcode { WS_CONTINUATION = 0, WS_TEXT = 1, WS_BINARY = 2, WS_CLOSE = 8, WS_PING = 9, WS_PONG = 10 };
enum { WS_CLOSE_NORMAL = 1000, WS_CLOSE_GOING_AWAY = 1001, WS_CLOSE_PROTOCOL_ERROR = 1002, WS_CLOSE_BAD_DATA = 1007,
       WS_CLOSE_TOO_BIG = 1009, WS_CLOSE_INTERNAL = 1011 };
#define WS_MESSAGE_BYTES_MAX_DEFAULT ((size_t)32 << 20)
#define WS_ACCEPT_BYTES 29
void ws_accept_key(const char *key, char out[WS_ACCEPT_BYTES]); /* Sec-WebSocket-Accept for a Sec-WebSocket-Key */

/* Incremental parser: bytes in, whole messages and control frames out. No I/O. */
struct ws_parser;
struct ws_parser_config {
    bool server;              /* frames of the peer must be masked (we are the server) or must not be */
    size_t message_bytes_max; /* 0: WS_MESSAGE_BYTES_MAX_DEFAULT */
    /* A whole message (WS_TEXT, WS_BINARY) or control frame; data borrowed for the call. For WS_CLOSE data is the raw payload
       (status code in network order, then the reason). A negative return stops the parser with that code. */
    int (*on_message)(enum ws_opcode opcode, const uint8_t *data, size_t len, void *arg);
    void *arg;
};
struct ws_parser *ws_parser_new(const struct ws_parser_config *config);
void ws_parser_free(struct ws_parser *parser); /* accepts NULL */
/* 0, or KP_EBADREQUEST / KP_ETOOLARGE with *ret_close_code set to what should be sent. Bytes after an error or a close
   frame are refused / ignored. */
int ws_parser_feed(struct ws_parser *parser, const uint8_t *data, size_t len, int *ret_close_code);
/* Appends one unfragmented frame; mask for clients. */
void ws_frame_append(struct kp_buf *out, enum ws_opcode opcode, const void *data, size_t len, bool mask);

/* A WebSocket over a tunnel: answers pings, does the closing handshake. Counted; functions from any thread, callbacks
   on the tunnel's loop. */
struct ws;
struct ws_callbacks {
    void (*on_message)(struct ws *ws, enum ws_opcode opcode, const uint8_t *data, size_t len, void *arg); /* WS_TEXT or WS_BINARY */
    void (*on_drain)(struct ws *ws, void *arg); /* may be NULL */
    void (*on_close)(struct ws *ws, int close_code, void *arg); /* last, exactly once; 1006 when the connection broke */
};
/* True when the request asks for a WebSocket (method, version 13, key). */
bool ws_is_upgrade(const struct http_request *req);
/* Chooses the first of protocols (NULL-terminated, our preference order) that the client offers; NULL when none. */
const char *ws_select_protocol(const struct http_request *req, const char *const *protocols);
/* Server side: answers 101 with protocol (may be NULL). NULL when it cannot be upgraded: answer otherwise then. */
struct ws *ws_accept(struct http_request *req, const char *protocol);
/* Client side. protocols: NULL-terminated offers or NULL; *ret_protocol, in the arena, is the one chosen or NULL. When the
   server answers anything but 101: KP_EUNAVAILABLE with *ret_response filled in. */
int ws_connect(struct http_client *client, const struct http_client_request *request, const char *const *protocols,
               struct kp_arena *arena, struct http_response *ret_response, const char **ret_protocol, struct ws **ret_ws,
               struct kp_error *error) KP_NODISCARD;
void ws_start(struct ws *ws, const struct ws_callbacks *callbacks, void *arg); /* nothing is read before */
int ws_send(struct ws *ws, enum ws_opcode opcode, const void *data, size_t len); /* copies; as http_tunnel_write */
size_t ws_queued(struct ws *ws);
void ws_pause(struct ws *ws);
void ws_resume(struct ws *ws);
void ws_close(struct ws *ws, int close_code, const char *reason); /* reason: at most 123 bytes, may be NULL */
struct ws *ws_ref(struct ws *ws);
void ws_unref(struct ws *ws); /* accepts NULL */

/* ==== SPDY/3.1 framing ============================================================================================ */
/* What exec, attach and port-forward speak after "Upgrade: SPDY/3.1". Bytes in, bytes out; used by one thread at a time.
   The peers in this field (Kubernetes clients, containerd) neither grant nor keep to windows, so sending is not held back
   by them; what comes in is credited at once for peers that do. Back-pressure is the tunnel's. */
struct spdy;
#define SPDY_STREAMS_MAX 256
#define SPDY_FRAME_BYTES_MAX ((size_t)1 << 20)   /* of one incoming frame */
#define SPDY_HEADER_BYTES_MAX ((size_t)256 << 10) /* of one decompressed block */
struct spdy_callbacks { /* headers and data are borrowed for the call; fin: the peer sends no more on that stream */
    void (*on_open)(struct spdy *spdy, uint32_t id, const struct http_header *headers, size_t count, bool fin, void *arg);
    void (*on_reply)(struct spdy *spdy, uint32_t id, const struct http_header *headers, size_t count, bool fin, void *arg);
    void (*on_data)(struct spdy *spdy, uint32_t id, const uint8_t *data, size_t len, bool fin, void *arg);
    void (*on_reset)(struct spdy *spdy, uint32_t id, uint32_t status, void *arg);
    void (*on_goaway)(struct spdy *spdy, void *arg); /* may be NULL */
};
struct spdy *spdy_new(bool server, const struct spdy_callbacks *callbacks, void *arg); /* callbacks are copied */
void spdy_free(struct spdy *spdy); /* accepts NULL */
/* 0, or KP_EBADREQUEST / KP_ETOOLARGE: the session is dead then. */
int spdy_feed(struct spdy *spdy, const void *data, size_t len, struct kp_error *error) KP_NODISCARD;
/* Moves what is to be sent to the end of out. Call after every feed and every function below. */
void spdy_take_output(struct spdy *spdy, struct kp_buf *out);
/* Opens a stream; names are lower-cased on the wire. Its id, or 0 when SPDY_STREAMS_MAX are open or the peer said goodbye. */
uint32_t spdy_open(struct spdy *spdy, const struct http_header *headers, size_t count, bool fin);
void spdy_reply(struct spdy *spdy, uint32_t id, const struct http_header *headers, size_t count, bool fin);
/* 0, or KP_ECANCELLED when the stream is unknown or our side of it has ended. len may be 0 for a bare fin. */
int spdy_send(struct spdy *spdy, uint32_t id, const void *data, size_t len, bool fin);
void spdy_reset(struct spdy *spdy, uint32_t id, uint32_t status); /* 5: cancel */
void spdy_ping(struct spdy *spdy);
void spdy_goaway(struct spdy *spdy);

/* ==== URLs and bodies ============================================================================================ */
struct http_url {
    const char *scheme; /* lower case */
    const char *host;   /* without brackets */
    uint16_t port;      /* the scheme's default when absent */
    const char *path;   /* "/" when absent */
    const char *query;  /* without '?', "" when absent */
};
/* "https://host:port/path?query" or "unix:/path" (scheme "unix", path the file). Strings in the arena. */
int http_url_parse(const char *url, struct kp_arena *arena, struct http_url *ret_url, struct kp_error *error) KP_NODISCARD;
/* Percent-decodes; NULL for a bad escape or a NUL byte. plus_is_space for query strings. */
char *http_percent_decode(struct kp_arena *arena, const char *s, size_t len, bool plus_is_space);
/* Escapes all but unreserved characters (RFC 3986 2.3), and keeps '/' when keep_slash. */
void http_percent_encode(struct kp_buf *out, const char *s, bool keep_slash);
/* Appends "name=value", both escaped, with '?' or '&' before it as out (a path so far) needs. */
void http_query_append(struct kp_buf *out, const char *name, const char *value);
/* Walks "a=b&c": *iter starts at the string. False at the end; KP_EBADREQUEST escapes are skipped. */
bool http_query_next(struct kp_arena *arena, const char **iter, const char **ret_name, const char **ret_value);
/* gzip of the bytes at a quick level; NULL when it does not get smaller. Caller owns the reference. */
struct kp_blob *http_gzip(const void *data, size_t len);
/* 0; KP_EBADREQUEST; KP_ETOOLARGE above max bytes. Appends to out. */
int http_gunzip(const void *data, size_t len, size_t max, struct kp_buf *out);

#endif
