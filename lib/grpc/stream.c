/* The server's side of one streaming call.

   open --finish--> finished --response sent or peer gone--> closed
     \______________peer gone, deadline, reset_______________/^            */
#include "lib/grpc/grpc_internal.h"

#include <pthread.h>

#define STREAM_MESSAGE_ARENA_MAX ((size_t)256 << 20)

struct grpc_stream {
    int refs; /* atomic */
    struct loop *loop;
    const struct grpc_method *method;
    struct http_request *req;
    struct http_stream *out;
    struct grpc_context context;
    grpc_finish_fn on_finish;
    void *on_finish_arg;
    size_t queued_bytes_max;
    int64_t start_ns;
    pthread_mutex_t lock;
    pthread_cond_t changed; /* queue drained, or closed */
    bool finished, closed, close_told;
    struct grpc_stream_callbacks callbacks;
    void *callbacks_arg;
    /* Loop thread alone: */
    struct grpc_frames frames;
    struct kp_arena *message_arena;
    struct loop_timer *deadline_timer;
    bool half_closed;
};

struct grpc_stream *grpc_stream_ref(struct grpc_stream *stream)
{
    __atomic_fetch_add(&stream->refs, 1, __ATOMIC_RELAXED);
    return stream;
}

void grpc_stream_unref(struct grpc_stream *stream)
{
    if (!stream || __atomic_fetch_sub(&stream->refs, 1, __ATOMIC_ACQ_REL) != 1)
        return;
    http_stream_unref(stream->out);
    http_request_unref(stream->req);
    grpc_frames_done(&stream->frames);
    kp_arena_free(stream->message_arena);
    pthread_cond_destroy(&stream->changed);
    pthread_mutex_destroy(&stream->lock);
    free(stream);
}

static void tell_finish(struct grpc_stream *stream, int status)
{
    if (stream->on_finish)
        stream->on_finish(stream->method->path, status, kp_mono_ns() - stream->start_ns, stream->on_finish_arg);
}

/* Calls on_close once, when the stream is closed and there is someone to tell. Loop thread. */
static void tell_close(struct grpc_stream *stream)
{
    pthread_mutex_lock(&stream->lock);
    bool tell = stream->closed && !stream->close_told && stream->callbacks.on_close;
    if (tell)
        stream->close_told = true;
    struct grpc_stream_callbacks callbacks = stream->callbacks;
    void *arg = stream->callbacks_arg;
    pthread_mutex_unlock(&stream->lock);
    if (tell)
        callbacks.on_close(stream, arg);
}

static void on_out_close(void *arg)
{
    struct grpc_stream *stream = arg;
    pthread_mutex_lock(&stream->lock);
    bool broken = !stream->finished;
    stream->finished = true;
    stream->closed = true;
    pthread_cond_broadcast(&stream->changed);
    pthread_mutex_unlock(&stream->lock);
    if (broken)
        tell_finish(stream, GRPC_CANCELLED);
    loop_timer_free(stream->deadline_timer);
    stream->deadline_timer = NULL;
    tell_close(stream);
    grpc_stream_unref(stream); /* the response's own */
}

static void on_out_drain(void *arg)
{
    struct grpc_stream *stream = arg;
    pthread_mutex_lock(&stream->lock);
    pthread_cond_broadcast(&stream->changed);
    bool tell = stream->callbacks.on_drain && !stream->finished;
    struct grpc_stream_callbacks callbacks = stream->callbacks;
    void *callbacks_arg = stream->callbacks_arg;
    pthread_mutex_unlock(&stream->lock);
    if (tell)
        callbacks.on_drain(stream, callbacks_arg);
}

static void on_deadline(void *arg)
{
    grpc_stream_finish(arg, GRPC_DEADLINE_EXCEEDED, "context deadline exceeded");
}

static void start_deadline(void *arg)
{
    struct grpc_stream *stream = arg;
    if (!grpc_stream_closed(stream)) { /* closing happens on this thread too, so the timer cannot be left over */
        stream->deadline_timer = loop_timer_new(stream->loop, on_deadline, stream);
        loop_timer_start(stream->deadline_timer, KP_MAX(stream->context.deadline_ms - kp_mono_ms(), (int64_t)0), 0);
    }
    grpc_stream_unref(stream);
}

struct grpc_stream *grpc_stream_new(const struct grpc_stream_setup *setup)
{
    static const struct http_header headers[] = {{"content-type", "application/grpc"}};
    struct grpc_stream *stream = kp_calloc(1, sizeof(*stream));
    stream->refs = 2; /* the caller's, and the response's until it has closed */
    stream->loop = setup->loop;
    stream->method = setup->method;
    stream->req = http_request_ref(setup->req);
    stream->on_finish = setup->on_finish;
    stream->on_finish_arg = setup->on_finish_arg;
    stream->queued_bytes_max = setup->queued_bytes_max;
    stream->start_ns = setup->req->received_ns;
    stream->frames.message_bytes_max = setup->message_bytes_max;
    pthread_mutex_init(&stream->lock, NULL);
    pthread_cond_init(&stream->changed, NULL);
    grpc_context_init(&stream->context, setup->req, setup->deadline_ms, setup->server_arg);
    stream->out = setup->lazy_head ? http_stream_start_lazy(setup->req, 200, headers, KP_ARRAY_LEN(headers))
                                   : http_stream_start(setup->req, 200, headers, KP_ARRAY_LEN(headers));
    http_stream_set_close_callback(stream->out, on_out_close, stream);
    if (setup->deadline_ms)
        loop_post(stream->loop, start_deadline, grpc_stream_ref(stream));
    return stream;
}

static void tell_close_posted(void *arg)
{
    tell_close(arg);
    grpc_stream_unref(arg);
}

void grpc_stream_set_callbacks(struct grpc_stream *stream, const struct grpc_stream_callbacks *callbacks, void *arg)
{
    pthread_mutex_lock(&stream->lock);
    stream->callbacks = *callbacks;
    stream->callbacks_arg = arg;
    if (callbacks->on_drain)
        http_stream_set_drain_callback(stream->out, on_out_drain, stream);
    bool late = stream->closed && !stream->close_told;
    pthread_mutex_unlock(&stream->lock);
    if (late)
        loop_post(stream->loop, tell_close_posted, grpc_stream_ref(stream));
}

int grpc_stream_send_blob(struct grpc_stream *stream, struct kp_blob *framed)
{
    return grpc_stream_send_slices(stream, &(struct http_slice){.blob = framed, .len = framed->len}, 1);
}

int grpc_stream_send_slices(struct grpc_stream *stream, const struct http_slice *slices, size_t count)
{
    pthread_mutex_lock(&stream->lock);
    bool over = stream->finished;
    pthread_mutex_unlock(&stream->lock);
    if (over)
        return KP_ECANCELLED;
    if (http_stream_queued(stream->out) > stream->queued_bytes_max) {
        http_stream_reset(stream->out);
        return KP_ETOOLARGE;
    }
    return http_stream_write_slices(stream->out, slices, count);
}

int grpc_stream_send(struct grpc_stream *stream, const ProtobufCMessage *message)
{
    KP_AUTO(kp_blob_unref) struct kp_blob *framed = grpc_pack(message);
    return grpc_stream_send_blob(stream, framed);
}

size_t grpc_stream_queued(struct grpc_stream *stream)
{
    return http_stream_queued(stream->out);
}

int grpc_stream_wait(struct grpc_stream *stream, size_t queued_max)
{
    KP_ASSERT(!loop_in_thread(stream->loop));
    http_stream_set_drain_callback(stream->out, on_out_drain, stream);
    pthread_mutex_lock(&stream->lock);
    while (!stream->closed && http_stream_queued(stream->out) > queued_max)
        pthread_cond_wait(&stream->changed, &stream->lock);
    bool closed = stream->closed;
    pthread_mutex_unlock(&stream->lock);
    return closed ? KP_ECANCELLED : 0;
}

void grpc_stream_finish(struct grpc_stream *stream, int status, const char *message)
{
    pthread_mutex_lock(&stream->lock);
    bool first = !stream->finished;
    stream->finished = true;
    pthread_mutex_unlock(&stream->lock);
    if (!first)
        return;
    enum grpc_status final = grpc_status_of_result(status);
    char number[8];
    snprintf(number, sizeof(number), "%d", (int)final);
    KP_AUTO_BUF struct kp_buf text = {0};
    grpc_status_message_encode(&text, message ? message : "");
    struct http_header trailers[] = {{"grpc-status", number}, {"grpc-message", text.data}};
    http_stream_end_trailers(stream->out, trailers, text.len ? 2 : 1);
    tell_finish(stream, (int)final);
}

bool grpc_stream_closed(struct grpc_stream *stream)
{
    pthread_mutex_lock(&stream->lock);
    bool closed = stream->closed;
    pthread_mutex_unlock(&stream->lock);
    return closed;
}

const struct grpc_context *grpc_stream_context(struct grpc_stream *stream)
{
    return &stream->context;
}

/* ---- what the client sends: loop thread ---- */
static bool stream_takes(struct grpc_stream *stream)
{
    pthread_mutex_lock(&stream->lock);
    bool takes = !stream->finished;
    pthread_mutex_unlock(&stream->lock);
    return takes;
}

static void deliver(struct grpc_stream *stream, struct kp_bytes bytes)
{
    if (!stream->message_arena)
        stream->message_arena = kp_arena_new(STREAM_MESSAGE_ARENA_MAX);
    const ProtobufCMessage *message = grpc_unpack(stream->method->input, stream->message_arena, bytes.data, bytes.len);
    if (message)
        stream->callbacks.on_message(stream, message, stream->callbacks_arg);
    else
        grpc_stream_finish(stream, GRPC_INTERNAL, "grpc: error unmarshalling request");
    kp_arena_reset(stream->message_arena);
}

static void on_body_data(struct http_request *req, const uint8_t *data, size_t len, void *arg)
{
    struct grpc_stream *stream = arg;
    http_request_consumed(req, len);
    if (!stream_takes(stream))
        return;
    grpc_frames_feed(&stream->frames, data, len);
    struct kp_bytes message;
    int rc;
    while ((rc = grpc_frames_next(&stream->frames, &message)) > 0 && stream_takes(stream))
        deliver(stream, message);
    if (rc < 0)
        grpc_stream_finish(stream, -rc, -rc == GRPC_RESOURCE_EXHAUSTED ? "grpc: received message larger than max"
                                        : -rc == GRPC_UNIMPLEMENTED ? "grpc: compressed messages are not supported"
                                                                    : "grpc: malformed message frame");
}

static void on_body_end(struct http_request *req, void *arg)
{
    struct grpc_stream *stream = arg;
    stream->half_closed = true;
    if (stream_takes(stream)) {
        if (!grpc_frames_empty(&stream->frames))
            grpc_stream_finish(stream, GRPC_INTERNAL, "grpc: the request ends inside a message");
        else if (stream->callbacks.on_half_close)
            stream->callbacks.on_half_close(stream, stream->callbacks_arg);
        else
            grpc_stream_finish(stream, GRPC_OK, NULL);
    }
    grpc_stream_unref(stream);
}

static void on_body_abort(struct http_request *req, void *arg)
{
    grpc_stream_unref(arg); /* closing comes by the response */
}

void grpc_stream_receive(struct grpc_stream *stream)
{
    static const struct http_body_callbacks body = {on_body_data, on_body_end, on_body_abort};
    if (!stream->callbacks.on_message)
        grpc_stream_finish(stream, GRPC_INTERNAL, "grpc: no handler of messages");
    http_request_receive(stream->req, &body, grpc_stream_ref(stream));
}
