/* lib/grpc: gRPC client and server over lib/http; messages are protobuf-c structs ("proto/etcd.pb-c.h"). */
#ifndef KP_GRPC_H
#define KP_GRPC_H

#include "lib/base/base.h"
#include "lib/http/http.h"

#include <protobuf-c/protobuf-c.h>

#define GRPC_MESSAGE_BYTES_MAX_DEFAULT ((size_t)4 << 20)     /* received by a server */
#define GRPC_RESPONSE_BYTES_MAX_DEFAULT ((size_t)512 << 20)  /* received by a client */
#define GRPC_QUEUED_BYTES_MAX_DEFAULT ((size_t)256 << 20)    /* unsent on one server stream; more resets it */
#define GRPC_STATUS_MESSAGE_MAX 1024

/* ==== status codes (the numbers are the protocol's) ============================================================== */
enum grpc_status {
    GRPC_OK = 0,
    GRPC_CANCELLED = 1,
    GRPC_UNKNOWN = 2,
    GRPC_INVALID_ARGUMENT = 3,
    GRPC_DEADLINE_EXCEEDED = 4,
    GRPC_NOT_FOUND = 5,
    GRPC_ALREADY_EXISTS = 6,
    GRPC_PERMISSION_DENIED = 7,
    GRPC_RESOURCE_EXHAUSTED = 8,
    GRPC_FAILED_PRECONDITION = 9,
    GRPC_ABORTED = 10,
    GRPC_OUT_OF_RANGE = 11,
    GRPC_UNIMPLEMENTED = 12,
    GRPC_INTERNAL = 13,
    GRPC_UNAVAILABLE = 14,
    GRPC_DATA_LOSS = 15,
    GRPC_UNAUTHENTICATED = 16,
};
const char *grpc_status_name(int status);           /* "NOT_FOUND"; "UNKNOWN" for others */
int grpc_status_to_code(int status);                /* enum kp_code; 0 for GRPC_OK */
enum grpc_status grpc_status_from_code(int kp_code);
/* For handlers: sets error->message and returns status, which is positive and so differs from every kp_code. */
int grpc_fail(struct kp_error *error, enum grpc_status status, const char *format, ...) KP_PRINTF(3, 4);

/* ==== messages =================================================================================================== */
/* A framed message (5 bytes of header, then protobuf) in one counted blob: pack once, send to many. */
struct kp_blob *grpc_pack(const ProtobufCMessage *message);
/* Decodes into the arena; nothing to free. NULL when malformed or over the arena's cap. */
ProtobufCMessage *grpc_unpack(const ProtobufCMessageDescriptor *type, struct kp_arena *arena, const void *data,
                              size_t len);
/* An initialised message of any type in the arena. */
ProtobufCMessage *grpc_message_new(const ProtobufCMessageDescriptor *type, struct kp_arena *arena);
/* Cuts a stream of bytes into frames. Zero-initialise; message_bytes_max must be set. */
struct grpc_frames {
    size_t message_bytes_max;
    struct kp_buf buf;
    size_t at;
};
/* Feeds bytes. */
void grpc_frames_feed(struct grpc_frames *frames, const void *data, size_t len);
/* 1: *ret_message is the next message, borrowed until the next call on frames. 0: more bytes are needed. Negative: the
   stream is bad, minus an enum grpc_status: RESOURCE_EXHAUSTED too large, UNIMPLEMENTED compressed, INTERNAL bad flag. */
int grpc_frames_next(struct grpc_frames *frames, struct kp_bytes *ret_message);
bool grpc_frames_empty(const struct grpc_frames *frames); /* no part of a message is waiting */
void grpc_frames_done(struct grpc_frames *frames);

/* ==== server ===================================================================================================== */
/* What a handler knows of its call. For unary and server-streaming calls it lives until the handler returns; for the
   others as long as the stream. */
struct grpc_context {
    struct kp_arena *arena;
    const char *path;                      /* "/etcdserverpb.KV/Range" */
    const struct http_peer_identity *peer; /* NULL without a verified client certificate */
    const char *peer_address;
    int64_t deadline_ms;                   /* of kp_mono_ms(); 0: none */
    const struct http_request *http;       /* headers (metadata) by http_request_header */
    void *server_arg;                      /* grpc_server_config.arg */
    bool on_loop;                          /* a try on the loop's thread (grpc_method.inline_first): must not block */
};
bool grpc_cancelled(const struct grpc_context *context); /* the peer has gone or the deadline has passed */

/* All handlers return 0, a negative kp_code (mapped by grpc_status_from_code) or a positive enum grpc_status, the last
   two with error->message as grpc-message. */

/* Worker pool, straight-line. response is an initialised message of the method's output type; what the handler hangs
   into it must live until it returns and the response is packed: the arena, or released by grpc_context_defer. */
typedef int (*grpc_unary_fn)(struct grpc_context *context, const void *request, void *response, struct kp_error *error);
/* Runs fn(p) after the response was packed, or the call failed. Unary and server-streaming handlers only. */
void grpc_context_defer(struct grpc_context *context, void (*fn)(void *), void *p);

struct grpc_stream; /* server side of one streaming call. Counted; functions from any thread. */
/* Worker pool. Sends with grpc_stream_send; when it returns, the stream is finished with what it returned - unless that is
   GRPC_DETACHED: then it took a reference and grpc_stream_finish comes later. */
#define GRPC_DETACHED 1000
/* From a try on the loop's thread that has sent nothing and taken no reference: the handler is called again on the pool. */
#define GRPC_TO_POOL 1001
typedef int (*grpc_server_stream_fn)(struct grpc_context *context, const void *request, struct grpc_stream *stream,
                                     struct kp_error *error);
/* Client-streaming and bidi. LOOP thread, must not block: sets callbacks, may take references. Non-zero finishes at once. */
typedef int (*grpc_open_fn)(struct grpc_context *context, struct grpc_stream *stream, struct kp_error *error);

struct grpc_stream_callbacks {
    /* LOOP thread. message is decoded into memory that lives for the call only. */
    void (*on_message)(struct grpc_stream *stream, const void *message, void *arg);
    void (*on_half_close)(struct grpc_stream *stream, void *arg); /* the client sent its last; may be NULL: then finishes with OK */
    void (*on_drain)(struct grpc_stream *stream, void *arg);      /* nothing unsent any more; may be NULL */
    void (*on_close)(struct grpc_stream *stream, void *arg);      /* last, exactly once, however it ended */
};
/* Copies callbacks. From grpc_open_fn, or from a server-streaming handler (on_message and on_half_close unused then). */
void grpc_stream_set_callbacks(struct grpc_stream *stream, const struct grpc_stream_callbacks *callbacks, void *arg);
/* 0; KP_ECANCELLED when the stream is closed or finished; KP_ETOOLARGE when too much is unsent (it is reset then). */
int grpc_stream_send(struct grpc_stream *stream, const ProtobufCMessage *message);
int grpc_stream_send_blob(struct grpc_stream *stream, struct kp_blob *framed); /* from grpc_pack; own reference */
/* Framed messages lying in parts of blobs; every part's reference is taken anew. */
int grpc_stream_send_slices(struct grpc_stream *stream, const struct http_slice *slices, size_t count);
size_t grpc_stream_queued(struct grpc_stream *stream); /* unsent bytes */
/* Worker threads: waits until at most queued_max bytes are unsent. 0 or KP_ECANCELLED when closed. */
int grpc_stream_wait(struct grpc_stream *stream, size_t queued_max);
/* The first call counts. status: as handlers return it (0, kp_code, grpc_status); message may be NULL. */
void grpc_stream_finish(struct grpc_stream *stream, int status, const char *message);
bool grpc_stream_closed(struct grpc_stream *stream);
const struct grpc_context *grpc_stream_context(struct grpc_stream *stream);
struct grpc_stream *grpc_stream_ref(struct grpc_stream *stream);
void grpc_stream_unref(struct grpc_stream *stream); /* accepts NULL; does not finish: a stream stays until it is closed */
KP_DEFINE_AUTO(struct grpc_stream *, grpc_stream_unref)

enum grpc_kind { GRPC_UNARY, GRPC_SERVER_STREAM, GRPC_CLIENT_STREAM, GRPC_BIDI };
struct grpc_method {
    const char *path; /* "/etcdserverpb.KV/Range" */
    enum grpc_kind kind;
    const ProtobufCMessageDescriptor *input, *output;
    grpc_unary_fn unary;                 /* GRPC_UNARY */
    grpc_server_stream_fn server_stream; /* GRPC_SERVER_STREAM */
    grpc_open_fn open;                   /* GRPC_CLIENT_STREAM, GRPC_BIDI */
    bool inline_first; /* GRPC_SERVER_STREAM of one message, quickly made: tried on the loop's thread before the pool */
};
struct grpc_server_config {
    struct http_server_config http; /* address, TLS, pool, limits; its handler, wants_stream, body_max are the server's own,
                                       arg is ignored */
    const struct grpc_method *const *methods; /* tables, each ended by path == NULL; the list by NULL; borrowed */
    void *arg;
    size_t message_bytes_max; /* of a request; 0: GRPC_MESSAGE_BYTES_MAX_DEFAULT */
    size_t queued_bytes_max;  /* 0: GRPC_QUEUED_BYTES_MAX_DEFAULT */
    /* Requests that are no gRPC (other content types): /health, /metrics. Worker pool. NULL: 415. */
    http_handler fallback;
    void (*on_finish)(const char *path, int status, int64_t duration_ns, void *arg); /* any thread; may be NULL */
};
struct grpc_server; /* also serves grpc.health.v1.Health: SERVING until grpc_server_set_serving says otherwise */
int grpc_server_new(struct loop *loop, const struct grpc_server_config *config, struct grpc_server **ret_server,
                    struct kp_error *error) KP_NODISCARD;
uint16_t grpc_server_port(const struct grpc_server *server);
void grpc_server_set_serving(struct grpc_server *server, bool serving); /* any thread */
struct http_server *grpc_server_http(struct grpc_server *server);       /* borrowed: set_tls, connections */
/* As http_server_shutdown: waits up to timeout_ms for running calls. Streams must be finished by their owners. */
void grpc_server_shutdown(struct grpc_server *server, int64_t timeout_ms);
void grpc_server_free(struct grpc_server *server); /* accepts NULL; as http_server_free */
KP_DEFINE_AUTO(struct grpc_server *, grpc_server_free)

/* ==== client ===================================================================================================== */
struct grpc_channel_config {
    /* "https://10.0.0.1:2379", "http://127.0.0.1:2379", "unix:/run/containerd/containerd.sock"; tried in order, failed
       ones are passed over for a while (see http_client_config). Copied. */
    const char *const *endpoints;
    size_t endpoint_count;
    struct tls_context *tls;           /* borrowed until grpc_channel_free; its ALPN must offer "h2" */
    const char *tls_server_name;       /* copied; may be NULL */
    size_t response_bytes_max;         /* 0: GRPC_RESPONSE_BYTES_MAX_DEFAULT */
    int64_t connect_timeout_ms;        /* 0: 10000 */
    int64_t call_timeout_ms;           /* of unary calls without one of their own; 0: 60000 */
};
struct grpc_channel; /* thread-safe; connects when first used, reconnects by itself */
int grpc_channel_new(struct loop *loop, const struct grpc_channel_config *config, struct grpc_channel **ret_channel,
                     struct kp_error *error) KP_NODISCARD;
void grpc_channel_free(struct grpc_channel *channel); /* as http_client_free; accepts NULL */
KP_DEFINE_AUTO(struct grpc_channel *, grpc_channel_free)
struct http_client *grpc_channel_http(struct grpc_channel *channel); /* borrowed: set_tls */

struct grpc_call_options { /* all may be zero */
    int64_t timeout_ms; /* 0: the channel's (unary) or none (streams); -1: none */
    const struct http_header *metadata;
    size_t metadata_count;
    struct http_cancel *cancel;
    enum grpc_status *ret_status; /* the exact status, also of success */
};
/* Any thread but the loop's: one unary call. *ret_response is in the arena. Fails with the kp_code of the status and its
   grpc-message as error->message. options may be NULL. */
int grpc_call(struct grpc_channel *channel, const char *path, const ProtobufCMessage *request,
              const ProtobufCMessageDescriptor *response_type, const struct grpc_call_options *options,
              struct kp_arena *arena, ProtobufCMessage **ret_response, struct kp_error *error) KP_NODISCARD;

/* An asynchronous call of any kind. Counted; functions from any thread, callbacks on the loop's thread. */
struct grpc_call;
struct grpc_call_callbacks {
    void (*on_message)(struct grpc_call *call, const void *message, void *arg); /* lives for the call */
    void (*on_drain)(struct grpc_call *call, void *arg);                        /* all sent; may be NULL */
    /* Last, exactly once. status GRPC_OK: ended well; message is "" or the grpc-message. */
    void (*on_end)(struct grpc_call *call, enum grpc_status status, const char *message, void *arg);
};
/* The caller gets one reference; failures arrive at on_end. arg must live until on_end. The request side stays open:
   grpc_call_send, then grpc_call_send_end. */
struct grpc_call *grpc_call_open(struct grpc_channel *channel, const char *path,
                                 const ProtobufCMessageDescriptor *response_type,
                                 const struct grpc_call_options *options, const struct grpc_call_callbacks *callbacks,
                                 void *arg);
int grpc_call_send(struct grpc_call *call, const ProtobufCMessage *message); /* 0 or KP_ECANCELLED when over */
int grpc_call_send_blob(struct grpc_call *call, struct kp_blob *framed);     /* from grpc_pack; own reference */
void grpc_call_send_end(struct grpc_call *call);
size_t grpc_call_queued(struct grpc_call *call);
void grpc_call_cancel(struct grpc_call *call); /* on_end comes with GRPC_CANCELLED unless it already came */
struct grpc_call *grpc_call_ref(struct grpc_call *call);
void grpc_call_unref(struct grpc_call *call); /* accepts NULL; does not cancel */
KP_DEFINE_AUTO(struct grpc_call *, grpc_call_unref)

#endif
