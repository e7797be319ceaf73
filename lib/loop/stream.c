/* Connected stream sockets: reading in borrowed chunks, writing counted blobs. */
#include <netinet/in.h>

#include "lib/loop/loop_internal.h"

#define TCP_KEEPALIVE_S 30

struct write_req {
    uv_write_t uv;
    struct loop_stream *stream;
    loop_fn done;
    void *arg;
    size_t len;
    size_t count;
    struct kp_blob *blobs[]; /* references; NULL takes none */
};

static void stream_closed(uv_handle_t *handle)
{
    free(KP_CONTAINER_OF(handle, struct loop_stream, uv));
}

static void stream_close(struct loop_handle *base)
{
    loop_stream_close(KP_CONTAINER_OF(base, struct loop_stream, base));
}

struct loop_stream *loop_stream_make(struct loop *loop, bool is_unix)
{
    struct loop_stream *stream = kp_calloc(1, sizeof(*stream));
    stream->base.close = stream_close;
    stream->loop = loop;
    if (is_unix)
        uv_pipe_init(&loop->uv, &stream->uv.pipe, 0);
    else
        uv_tcp_init(&loop->uv, &stream->uv.tcp);
    stream->uv.handle.data = &stream->base;
    return stream;
}

void loop_stream_connected(struct loop_stream *stream)
{
    snprintf(stream->peer, sizeof(stream->peer), "unix");
    snprintf(stream->local, sizeof(stream->local), "unix");
    if (stream->uv.handle.type != UV_TCP)
        return;
    struct sockaddr_storage address;
    int len = sizeof(address);
    if (uv_tcp_getpeername(&stream->uv.tcp, (struct sockaddr *)&address, &len) == 0)
        loop_sockaddr_format((struct sockaddr *)&address, stream->peer);
    len = sizeof(address);
    if (uv_tcp_getsockname(&stream->uv.tcp, (struct sockaddr *)&address, &len) == 0)
        loop_sockaddr_format((struct sockaddr *)&address, stream->local);
    uv_tcp_nodelay(&stream->uv.tcp, 1);
    uv_tcp_keepalive(&stream->uv.tcp, 1, TCP_KEEPALIVE_S);
}

void loop_stream_set_callbacks(struct loop_stream *stream, const struct loop_stream_callbacks *callbacks, void *arg)
{
    stream->callbacks = *callbacks;
    stream->arg = arg;
}

static void report_error(struct loop_stream *stream, int status, const char *what)
{
    if (stream->closing || stream->failed)
        return;
    stream->failed = true;
    uv_read_stop(&stream->uv.stream);
    stream->reading = false;
    struct kp_error error = { 0 };
    loop_fail_uv(&error, status, "%s %s", what, stream->peer);
    if (stream->callbacks.on_error)
        stream->callbacks.on_error(stream, &error, stream->arg);
}

static void on_read(uv_stream_t *uv, ssize_t count, const uv_buf_t *buf)
{
    struct loop_stream *stream = KP_CONTAINER_OF(uv, struct loop_stream, uv);
    if (count > 0) {
        stream->callbacks.on_read(stream, (const uint8_t *)buf->base, (size_t)count, stream->arg);
    } else if (count == UV_EOF) {
        uv_read_stop(uv);
        stream->reading = false;
        stream->eof = true;
        stream->callbacks.on_eof(stream, stream->arg);
    } else if (count < 0) {
        report_error(stream, (int)count, "read from");
    }
}

void loop_stream_resume(struct loop_stream *stream)
{
    if (stream->closing || stream->reading || stream->eof || stream->failed)
        return;
    if (uv_read_start(&stream->uv.stream, loop_alloc_chunk, on_read) == 0)
        stream->reading = true;
}

void loop_stream_pause(struct loop_stream *stream)
{
    if (!stream->reading || stream->closing)
        return;
    uv_read_stop(&stream->uv.stream);
    stream->reading = false;
}

static void req_free(struct write_req *req)
{
    for (size_t i = 0; i < req->count; i++)
        kp_blob_unref(req->blobs[i]);
    free(req);
}

static void on_written(uv_write_t *uv, int status)
{
    struct write_req *req = KP_CONTAINER_OF(uv, struct write_req, uv);
    struct loop_stream *stream = req->stream;
    stream->queued -= req->len;
    if (req->done)
        req->done(req->arg);
    req_free(req);
    if (stream->closing)
        return;
    if (status < 0 && (!stream->read_on || stream->eof)) {
        report_error(stream, status, "write to");
        return;
    }
    if (status < 0)
        stream->shut = true; /* nothing more can be sent; reading goes on to the end and tells it */
    if (stream->queued == 0 && stream->callbacks.on_drain)
        stream->callbacks.on_drain(stream, stream->arg);
}

static struct write_req *req_new(struct loop_stream *stream, size_t count)
{
    struct write_req *req = kp_malloc(sizeof(*req) + count * sizeof(struct kp_blob *));
    *req = (struct write_req){ .stream = stream, .count = count };
    return req;
}

static void queue_req(struct write_req *req, const uv_buf_t *bufs)
{
    struct loop_stream *stream = req->stream;
    if (uv_write(&req->uv, &stream->uv.stream, bufs, (unsigned)req->count, on_written) < 0) {
        /* Only after a shutdown of ours: nobody could receive it. */
        if (req->done)
            loop_post(stream->loop, req->done, req->arg);
        req_free(req);
        return;
    }
    stream->queued += req->len;
}

/* Takes over the reference to blob; offset bytes of it are written already. */
static void queue_write(struct loop_stream *stream, struct kp_blob *blob, size_t offset, loop_fn done, void *arg)
{
    struct write_req *req = req_new(stream, 1);
    req->done = done;
    req->arg = arg;
    req->len = blob->len - offset;
    req->blobs[0] = blob;
    uv_buf_t buf = uv_buf_init((char *)blob->data + offset, (unsigned)req->len);
    queue_req(req, &buf);
}

/* Bytes the kernel takes right now; errors count as none, so that the queued write reports them. */
static size_t try_write(struct loop_stream *stream, const void *data, size_t len)
{
    if (stream->queued > 0)
        return 0;
    uv_buf_t buf = uv_buf_init((char *)data, (unsigned)KP_MIN(len, (size_t)1 << 30));
    int count = uv_try_write(&stream->uv.stream, &buf, 1);
    return count > 0 ? (size_t)count : 0;
}

void loop_stream_write(struct loop_stream *stream, const void *data, size_t len)
{
    if (stream->closing || stream->failed || stream->shut || len == 0)
        return;
    size_t written = try_write(stream, data, len);
    if (written < len)
        queue_write(stream, kp_blob_new((const char *)data + written, len - written), 0, NULL, NULL);
}

void loop_stream_write_blob(struct loop_stream *stream, struct kp_blob *blob)
{
    if (stream->closing || stream->failed || stream->shut || blob->len == 0)
        return;
    size_t written = try_write(stream, blob->data, blob->len);
    if (written < blob->len)
        queue_write(stream, kp_blob_ref(blob), written, NULL, NULL);
}

static size_t try_write_parts(struct loop_stream *stream, const struct loop_part *parts, size_t count)
{
    uv_buf_t bufs[LOOP_PARTS_MAX];
    if (stream->queued > 0 || count == 0)
        return 0;
    for (size_t i = 0; i < count; i++)
        bufs[i] = uv_buf_init((char *)(uintptr_t)parts[i].data, (unsigned)parts[i].len);
    int written = uv_try_write(&stream->uv.stream, bufs, (unsigned)count);
    return written > 0 ? (size_t)written : 0;
}

void loop_stream_write_parts(struct loop_stream *stream, const struct loop_part *parts, size_t count)
{
    KP_ASSERT(count <= LOOP_PARTS_MAX);
    if (stream->closing || stream->failed || stream->shut)
        return;
    size_t written = try_write_parts(stream, parts, count);
    for (; count && written >= parts->len; parts++, count--)
        written -= parts->len;
    if (!count)
        return;
    struct write_req *req = req_new(stream, count);
    uv_buf_t bufs[LOOP_PARTS_MAX] = { 0 };
    for (size_t i = 0; i < count; i++, written = 0) {
        const uint8_t *data = (const uint8_t *)parts[i].data + written;
        size_t len = parts[i].len - written;
        req->blobs[i] = parts[i].blob ? kp_blob_ref(parts[i].blob) : kp_blob_new(data, len);
        bufs[i] = uv_buf_init((char *)(uintptr_t)(parts[i].blob ? data : req->blobs[i]->data), (unsigned)len);
        req->len += len;
    }
    queue_req(req, bufs);
}

void loop_stream_write_blob_done(struct loop_stream *stream, struct kp_blob *blob, loop_fn done, void *arg)
{
    if (stream->closing || stream->failed || stream->shut || blob->len == 0) {
        loop_post(stream->loop, done, arg);
        return;
    }
    size_t written = try_write(stream, blob->data, blob->len);
    if (written < blob->len)
        queue_write(stream, kp_blob_ref(blob), written, done, arg);
    else
        loop_post(stream->loop, done, arg);
}

void loop_stream_read_on(struct loop_stream *stream)
{
    stream->read_on = true;
}

size_t loop_stream_queued(const struct loop_stream *stream)
{
    return stream->queued;
}

static void on_shut(uv_shutdown_t *uv, int status)
{
    (void)status; /* a peer that has gone shows up as a read error */
    free(uv);
}

void loop_stream_shutdown(struct loop_stream *stream)
{
    if (stream->closing || stream->shut || stream->failed)
        return;
    stream->shut = true;
    uv_shutdown_t *req = kp_malloc(sizeof(*req));
    if (uv_shutdown(req, &stream->uv.stream, on_shut) < 0)
        free(req);
}

void loop_stream_close(struct loop_stream *stream)
{
    if (!stream || stream->closing)
        return;
    stream->closing = true;
    if (!uv_is_closing(&stream->uv.handle))
        uv_close(&stream->uv.handle, stream_closed);
}

const char *loop_stream_peer(const struct loop_stream *stream)
{
    return stream->peer;
}

const char *loop_stream_local(const struct loop_stream *stream)
{
    return stream->local;
}

struct loop *loop_stream_loop(const struct loop_stream *stream)
{
    return stream->loop;
}

int loop_stream_from_fd(struct loop *loop, int fd, struct loop_stream **ret_stream, struct kp_error *error)
{
    struct sockaddr_storage address;
    socklen_t len = sizeof(address);
    if (getsockname(fd, (struct sockaddr *)&address, &len) < 0)
        return kp_fail_errno(error, "descriptor %d as a socket", fd);
    bool is_unix = address.ss_family == AF_UNIX;
    struct loop_stream *stream = loop_stream_make(loop, is_unix);
    int status = is_unix ? uv_pipe_open(&stream->uv.pipe, fd) : uv_tcp_open(&stream->uv.tcp, fd);
    if (status < 0) {
        loop_stream_close(stream);
        return loop_fail_uv(error, status, "descriptor %d as a stream", fd);
    }
    loop_stream_connected(stream);
    *ret_stream = stream;
    return 0;
}
