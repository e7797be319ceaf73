/* Responses: whole or bit by bit, from any thread, through a queue that the connection empties on the loop's thread. */
#include "lib/http/server_internal.h"

#include <strings.h>
#include <time.h>

struct http_stream *stream_new(struct exchange *ex)
{
    struct http_stream *stream = kp_calloc(1, sizeof(*stream));
    atomic_init(&stream->refs, 1); /* the exchange's */
    pthread_mutex_init(&stream->mutex, NULL);
    stream->loop = ex->server->loop;
    stream->queued_max = ex->server->config.stream_queued_max;
    stream->content_length = -1;
    stream->exchange = ex;
    return stream;
}

static struct http_stream *stream_hold(struct http_stream *stream)
{
    atomic_fetch_add(&stream->refs, 1);
    return stream;
}

void stream_put(struct http_stream *stream)
{
    if (atomic_fetch_sub(&stream->refs, 1) > 1)
        return;
    outq_clear(&stream->queue);
    header_list_done(&stream->headers);
    header_list_done(&stream->trailers);
    pthread_mutex_destroy(&stream->mutex);
    free(stream);
}

static void run_flush(void *arg)
{
    struct http_stream *stream = arg;
    pthread_mutex_lock(&stream->mutex);
    stream->flush_posted = false;
    bool reset = stream->reset;
    pthread_mutex_unlock(&stream->mutex);
    struct exchange *ex = stream->exchange;
    struct server_conn *conn = ex ? ex->conn : NULL;
    if (conn && !conn->closed) {
        conn_hold(conn);
        if (reset)
            conn->ops->reset(conn, ex);
        else
            conn->ops->flush(conn, ex);
        conn_release(conn);
    }
    stream_put(stream);
}

/* With the mutex held. */
static void schedule_locked(struct http_stream *stream)
{
    if (stream->closed || stream->flush_posted)
        return;
    stream->flush_posted = true;
    stream_hold(stream);
    if (!loop_in_thread(stream->loop)) {
        loop_post(stream->loop, run_flush, stream);
        return;
    }
    stream->flush_item.fn = run_flush;
    stream->flush_item.arg = stream;
    loop_at_turn_end(stream->loop, &stream->flush_item);
}

void stream_schedule(struct http_stream *stream)
{
    pthread_mutex_lock(&stream->mutex);
    schedule_locked(stream);
    pthread_mutex_unlock(&stream->mutex);
}

void stream_closed(struct http_stream *stream)
{
    pthread_mutex_lock(&stream->mutex);
    stream->closed = true;
    outq_clear(&stream->queue);
    loop_fn fn = stream->close_fn;
    void *arg = stream->close_arg;
    stream->close_fn = stream->drain_fn = NULL;
    pthread_mutex_unlock(&stream->mutex);
    if (fn)
        fn(arg);
}

static void tell_drained(void *arg)
{
    struct http_stream *stream = arg;
    pthread_mutex_lock(&stream->mutex);
    loop_fn fn = stream->queue.queued == 0 ? stream->drain_fn : NULL;
    void *fn_arg = stream->drain_arg;
    pthread_mutex_unlock(&stream->mutex);
    if (fn)
        fn(fn_arg);
    stream_put(stream);
}

void stream_drained(struct http_stream *stream)
{
    pthread_mutex_lock(&stream->mutex);
    bool wanted = stream->drain_fn && !stream->closed;
    pthread_mutex_unlock(&stream->mutex);
    if (wanted) /* not at the end of this turn: one that goes on writing would keep all others waiting */
        loop_post(stream->loop, tell_drained, stream_hold(stream));
}

/* With the mutex held. */
static void set_head(struct http_stream *stream, struct exchange *ex, int status, const struct http_header *headers,
                     size_t header_count, int64_t content_length)
{
    header_list_copy(&stream->headers, headers, header_count, ex->req.version == HTTP_2);
    stream->status = status;
    stream->has_body = !kp_streq(ex->req.method, "HEAD") && status >= 200 && status != 204 && status != 304;
    stream->content_length = content_length;
    const char *given = http_header_get(headers, header_count, "content-length");
    uint64_t length;
    if (content_length < 0 && given && kp_parse_u64(given, &length) == 0 && length <= INT64_MAX)
        stream->content_length = (int64_t)length;
    stream->head_set = true;
}

static void claim(struct exchange *ex)
{
    bool before = atomic_exchange(&ex->answered, true);
    KP_ASSERT(!before); /* a handler answers once */
}

static void respond(struct exchange *ex, int status, const struct http_header *headers, size_t header_count,
                    struct kp_blob *body)
{
    struct http_stream *stream = ex->out;
    pthread_mutex_lock(&stream->mutex);
    if (!stream->closed) {
        set_head(stream, ex, status, headers, header_count, body ? (int64_t)body->len : 0);
        if (body && stream->has_body)
            outq_push(&stream->queue, body);
        stream->ended = true;
        schedule_locked(stream);
    }
    pthread_mutex_unlock(&stream->mutex);
}

void http_respond_blob(struct http_request *req, int status, const struct http_header *headers, size_t header_count,
                       struct kp_blob *body)
{
    claim(exchange_of(req));
    respond(exchange_of(req), status, headers, header_count, body);
}

void http_respond(struct http_request *req, int status, const struct http_header *headers, size_t header_count,
                  const void *body, size_t body_len)
{
    KP_AUTO(kp_blob_unref) struct kp_blob *blob = kp_blob_new(body, body_len);
    http_respond_blob(req, status, headers, header_count, blob);
}

void exchange_respond_plain(struct exchange *ex, int status, const char *message)
{
    if (atomic_exchange(&ex->answered, true))
        return;
    static const struct http_header headers[] = { { "content-type", "text/plain; charset=utf-8" },
                                                  { "x-content-type-options", "nosniff" },
                                                  { "retry-after", "1" } };
    char text[256];
    int len = snprintf(text, sizeof(text), "%s\n", message);
    KP_AUTO(kp_blob_unref) struct kp_blob *blob = kp_blob_new(text, KP_MIN((size_t)len, sizeof(text) - 1));
    respond(ex, status, headers, status == 429 || status == 503 ? 3 : 2, blob);
}

static struct http_stream *start(struct http_request *req, int status, const struct http_header *headers,
                                 size_t header_count, bool flush)
{
    struct exchange *ex = exchange_of(req);
    struct http_stream *stream = ex->out;
    claim(ex);
    stream_hold(stream);
    atomic_store(&stream->user_refs, 1);
    pthread_mutex_lock(&stream->mutex);
    if (!stream->closed) {
        set_head(stream, ex, status, headers, header_count, -1);
        if (flush)
            schedule_locked(stream);
    }
    pthread_mutex_unlock(&stream->mutex);
    return stream;
}

struct http_stream *http_stream_start(struct http_request *req, int status, const struct http_header *headers,
                                      size_t header_count)
{
    return start(req, status, headers, header_count, true);
}

struct http_stream *http_stream_start_lazy(struct http_request *req, int status, const struct http_header *headers,
                                           size_t header_count)
{
    return start(req, status, headers, header_count, false);
}

int http_stream_write(struct http_stream *stream, struct kp_blob *blob)
{
    return http_stream_write_slices(stream, &(struct http_slice){.blob = blob, .len = blob->len}, 1);
}

int http_stream_write_slices(struct http_stream *stream, const struct http_slice *slices, size_t count)
{
    int code = 0;
    size_t len = 0;
    for (size_t i = 0; i < count; i++)
        len += slices[i].len;
    pthread_mutex_lock(&stream->mutex);
    if (stream->closed || stream->ended || stream->reset) {
        code = KP_ECANCELLED;
    } else if (stream->queue.queued > 0 && stream->queue.queued + len > stream->queued_max) {
        stream->reset = true;
        schedule_locked(stream);
        code = KP_ETOOLARGE;
    } else if (stream->has_body) {
        for (size_t i = 0; i < count; i++)
            outq_push_slice(&stream->queue, &slices[i]);
        schedule_locked(stream);
    }
    pthread_mutex_unlock(&stream->mutex);
    return code;
}

size_t http_stream_queued(struct http_stream *stream)
{
    pthread_mutex_lock(&stream->mutex);
    size_t queued = stream->queue.queued;
    pthread_mutex_unlock(&stream->mutex);
    return queued;
}

bool http_stream_closed(struct http_stream *stream)
{
    pthread_mutex_lock(&stream->mutex);
    bool closed = stream->closed || stream->reset;
    pthread_mutex_unlock(&stream->mutex);
    return closed;
}

static void tell_closed(void *arg)
{
    struct http_stream *stream = arg;
    stream_closed(stream);
    stream_put(stream);
}

void http_stream_set_close_callback(struct http_stream *stream, loop_fn fn, void *arg)
{
    pthread_mutex_lock(&stream->mutex);
    stream->close_fn = fn;
    stream->close_arg = arg;
    if (fn && stream->closed)
        loop_post(stream->loop, tell_closed, stream_hold(stream));
    pthread_mutex_unlock(&stream->mutex);
}

void http_stream_set_drain_callback(struct http_stream *stream, loop_fn fn, void *arg)
{
    pthread_mutex_lock(&stream->mutex);
    stream->drain_fn = fn;
    stream->drain_arg = arg;
    pthread_mutex_unlock(&stream->mutex);
}

void http_stream_end(struct http_stream *stream)
{
    http_stream_end_trailers(stream, NULL, 0);
}

void http_stream_end_trailers(struct http_stream *stream, const struct http_header *trailers, size_t trailer_count)
{
    pthread_mutex_lock(&stream->mutex);
    if (!stream->ended && !stream->closed) {
        if (trailer_count)
            header_list_copy(&stream->trailers, trailers, trailer_count, true);
        stream->ended = true;
        schedule_locked(stream);
    }
    pthread_mutex_unlock(&stream->mutex);
}

void http_stream_reset(struct http_stream *stream)
{
    pthread_mutex_lock(&stream->mutex);
    stream->reset = true;
    schedule_locked(stream);
    pthread_mutex_unlock(&stream->mutex);
}

struct http_stream *http_stream_ref(struct http_stream *stream)
{
    atomic_fetch_add(&stream->user_refs, 1);
    return stream;
}

void http_stream_unref(struct http_stream *stream)
{
    if (!stream || atomic_fetch_sub(&stream->user_refs, 1) > 1)
        return;
    http_stream_end(stream);
    stream_put(stream);
}

static void append_date(struct kp_buf *out)
{
    char text[64];
    struct tm tm;
    time_t now = (time_t)kp_now_s();
    gmtime_r(&now, &tm);
    strftime(text, sizeof(text), "Date: %a, %d %b %Y %H:%M:%S GMT\r\n", &tm);
    kp_buf_puts(out, text);
}

void stream_h1_head(struct http_stream *stream, struct exchange *ex, bool chunked, bool keep_alive, struct kp_buf *out)
{
    bool dated = false;
    kp_buf_printf(out, "HTTP/1.1 %d %s\r\n", stream->status, http_status_text(stream->status));
    for (size_t i = 0; i < stream->headers.count; i++) {
        const struct http_header *h = &stream->headers.items[i];
        bool ours = strcasecmp(h->name, "content-length") == 0 || strcasecmp(h->name, "transfer-encoding") == 0 ||
                    strcasecmp(h->name, "connection") == 0;
        if (ours)
            continue;
        dated = dated || strcasecmp(h->name, "date") == 0;
        kp_buf_puts(out, h->name);
        kp_buf_puts(out, ": ");
        kp_buf_puts(out, h->value);
        kp_buf_puts(out, "\r\n");
    }
    if (!dated)
        append_date(out);
    if (stream->status == 101) {
        kp_buf_puts(out, "Connection: Upgrade\r\n\r\n");
        return;
    }
    if (chunked)
        kp_buf_puts(out, "Transfer-Encoding: chunked\r\n");
    else if (stream->content_length >= 0 && stream->status != 204 && stream->status != 304)
        kp_buf_printf(out, "Content-Length: %lld\r\n", (long long)stream->content_length);
    if (!keep_alive)
        kp_buf_puts(out, "Connection: close\r\n");
    else if (ex->req.version == HTTP_1_0)
        kp_buf_puts(out, "Connection: keep-alive\r\n");
    kp_buf_puts(out, "\r\n");
}
