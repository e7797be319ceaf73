/* The client's side of one asynchronous call. */
#include "lib/grpc/channel_internal.h"

#define CALL_MESSAGE_ARENA_MAX ((size_t)1 << 30)

struct grpc_call {
    int refs; /* atomic */
    struct http_call *http; /* atomic; a reference; set once */
    const ProtobufCMessageDescriptor *response_type;
    struct grpc_call_callbacks callbacks;
    void *arg;
    /* Loop thread alone: */
    struct grpc_frames frames;
    struct kp_arena *message_arena;
    struct grpc_call_outcome outcome;
    int http_status;
};

struct grpc_call *grpc_call_ref(struct grpc_call *call)
{
    __atomic_fetch_add(&call->refs, 1, __ATOMIC_RELAXED);
    return call;
}

void grpc_call_unref(struct grpc_call *call)
{
    if (!call || __atomic_fetch_sub(&call->refs, 1, __ATOMIC_ACQ_REL) != 1)
        return;
    http_call_unref(call->http);
    grpc_frames_done(&call->frames);
    kp_arena_free(call->message_arena);
    free(call);
}

/* The loop may be faster with the first callback than http_client_stream is with returning: whoever comes first puts the
   handle in. Takes a reference over. */
static void adopt(struct grpc_call *call, struct http_call *http)
{
    struct http_call *expected = NULL;
    if (!__atomic_compare_exchange_n(&call->http, &expected, http, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))
        http_call_unref(http);
}

static struct http_call *handle(struct grpc_call *call)
{
    return __atomic_load_n(&call->http, __ATOMIC_ACQUIRE);
}

static void ensure_handle(struct grpc_call *call, struct http_call *http)
{
    if (!handle(call))
        adopt(call, http_call_ref(http));
}

static void on_headers(struct http_call *http, int status, const struct http_header *headers, size_t count, void *arg)
{
    struct grpc_call *call = arg;
    ensure_handle(call, http);
    call->http_status = status;
    grpc_outcome_read(&call->outcome, headers, count);
}

/* Ends the call from our side with a status of our own. */
static void break_off(struct grpc_call *call, enum grpc_status status, const char *message)
{
    grpc_outcome_set(&call->outcome, status, message);
    http_call_cancel(handle(call));
}

static void deliver(struct grpc_call *call, struct kp_bytes bytes)
{
    if (!call->message_arena)
        call->message_arena = kp_arena_new(CALL_MESSAGE_ARENA_MAX);
    const ProtobufCMessage *message = grpc_unpack(call->response_type, call->message_arena, bytes.data, bytes.len);
    if (message)
        call->callbacks.on_message(call, message, call->arg);
    else
        break_off(call, GRPC_INTERNAL, "a message of the server does not decode");
    kp_arena_reset(call->message_arena);
}

static void on_data(struct http_call *http, const uint8_t *data, size_t len, void *arg)
{
    struct grpc_call *call = arg;
    ensure_handle(call, http);
    if (call->http_status != 200 || call->outcome.known)
        return;
    grpc_frames_feed(&call->frames, data, len);
    struct kp_bytes message;
    int rc = 0;
    while (!call->outcome.known && (rc = grpc_frames_next(&call->frames, &message)) > 0)
        deliver(call, message);
    if (rc < 0)
        break_off(call, (enum grpc_status)-rc, "a message of the server is too large, compressed or malformed");
}

static void on_trailers(struct http_call *http, const struct http_header *trailers, size_t count, void *arg)
{
    struct grpc_call *call = arg;
    if (!call->outcome.known)
        grpc_outcome_read(&call->outcome, trailers, count);
}

static void on_drain(struct http_call *http, void *arg)
{
    struct grpc_call *call = arg;
    ensure_handle(call, http);
    if (call->callbacks.on_drain)
        call->callbacks.on_drain(call, call->arg);
}

static void on_end(struct http_call *http, const struct kp_error *error, void *arg)
{
    struct grpc_call *call = arg;
    char text[64];
    if (http)
        ensure_handle(call, http);
    if (!call->outcome.known && error) {
        grpc_outcome_set(&call->outcome, grpc_status_from_code(error->code), error->message);
    } else if (!call->outcome.known) {
        snprintf(text, sizeof(text), "HTTP status %d without grpc-status", call->http_status);
        grpc_outcome_set(&call->outcome,
                    call->http_status == 200 ? GRPC_INTERNAL : grpc_status_from_http(call->http_status), text);
    } else if (call->outcome.status == GRPC_OK && !grpc_frames_empty(&call->frames)) {
        grpc_outcome_set(&call->outcome, GRPC_INTERNAL, "the response ends inside a message");
    }
    call->callbacks.on_end(call, call->outcome.status, call->outcome.message, call->arg);
    grpc_call_unref(call); /* the response's own */
}

struct grpc_call *grpc_call_open(struct grpc_channel *channel, const char *path,
                                 const ProtobufCMessageDescriptor *response_type,
                                 const struct grpc_call_options *options, const struct grpc_call_callbacks *callbacks,
                                 void *arg)
{
    static const struct grpc_call_options none;
    static const struct http_call_callbacks http_callbacks = {on_headers, on_data, on_trailers, on_drain, on_end};
    options = options ? options : &none;
    struct grpc_call_headers headers;
    struct kp_error error = {0};
    int rc = grpc_call_headers(options, options->timeout_ms, &headers, &error);
    KP_ASSERT(rc == 0); /* too many metadata entries: the caller's bug */
    struct grpc_call *call = kp_calloc(1, sizeof(*call));
    call->refs = 2; /* the caller's, and the response's until on_end */
    call->response_type = response_type;
    call->callbacks = *callbacks;
    call->arg = arg;
    call->frames.message_bytes_max = channel->response_bytes_max;
    const struct http_client_request request = {
        .method = "POST",
        .path = path,
        .headers = headers.list,
        .header_count = headers.count,
        .timeout_ms = options->timeout_ms,
        .cancel = options->cancel,
        .body_follows = true,
    };
    adopt(call, http_client_stream(channel->http, &request, &http_callbacks, call));
    return call;
}

int grpc_call_send(struct grpc_call *call, const ProtobufCMessage *message)
{
    KP_AUTO(kp_blob_unref) struct kp_blob *framed = grpc_pack(message);
    return http_call_send(handle(call), framed);
}

int grpc_call_send_blob(struct grpc_call *call, struct kp_blob *framed)
{
    return http_call_send(handle(call), framed);
}

void grpc_call_send_end(struct grpc_call *call)
{
    http_call_send_end(handle(call));
}

size_t grpc_call_queued(struct grpc_call *call)
{
    return http_call_queued(handle(call));
}

void grpc_call_cancel(struct grpc_call *call)
{
    http_call_cancel(handle(call));
}
