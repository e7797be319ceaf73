/* What the files of lib/grpc share. */
#ifndef KP_GRPC_INTERNAL_H
#define KP_GRPC_INTERNAL_H

#include "lib/grpc/grpc.h"

#define GRPC_FRAME_HEADER_BYTES 5
#define GRPC_TIMEOUT_TEXT_MAX 24
#define GRPC_MESSAGE_DEPTH_MAX 100 /* of messages in messages, as protobuf's own parsers have it */

/* What comes after a handler's return value, and to a caller: a status that is one. */
enum grpc_status grpc_status_of_result(int result);
/* Appends text as grpc-message: percent-encoded outside printable ASCII. */
void grpc_status_message_encode(struct kp_buf *out, const char *text);
void grpc_status_message_decode(struct kp_buf *out, const char *text);
/* The status of an answer that is no gRPC, by its HTTP status. */
enum grpc_status grpc_status_from_http(int http_status);

/* "100m" and the like for a time-out of that many ms. */
void grpc_timeout_format(char out[GRPC_TIMEOUT_TEXT_MAX], int64_t timeout_ms);
/* 0 or KP_EBADREQUEST. */
int grpc_timeout_parse(const char *text, int64_t *ret_timeout_ms);

/* Server side. */
typedef void (*grpc_finish_fn)(const char *path, int status, int64_t duration_ns, void *arg);
struct grpc_stream_setup {
    struct loop *loop;
    const struct grpc_method *method;
    struct http_request *req; /* a reference of its own is taken */
    void *server_arg;
    int64_t deadline_ms;
    size_t message_bytes_max, queued_bytes_max;
    grpc_finish_fn on_finish;
    void *on_finish_arg;
    bool lazy_head; /* the response headers go out with the first message or the end */
};
/* Sends the response headers. The caller gets one reference. */
struct grpc_stream *grpc_stream_new(const struct grpc_stream_setup *setup);
/* Loop thread: begins to receive messages, or finishes the stream when no one would take them. */
void grpc_stream_receive(struct grpc_stream *stream);
void grpc_context_init(struct grpc_context *context, struct http_request *req, int64_t deadline_ms, void *server_arg);
/* An answer of a status alone (Trailers-Only). */
void grpc_respond_status(struct http_request *req, int status, const char *message);

/* grpc.health.v1.Health: counted, since its watchers may outlive the server. */
struct health;
struct health *grpc_health_new(void);
void grpc_health_set(struct health *health, bool serving);
void grpc_health_end(struct health *health);   /* ends all watchers and takes no more */
void grpc_health_close(struct health *health); /* the same, and drops the owner's reference; accepts NULL */
extern const struct grpc_method grpc_health_methods[];

#endif
