/* HTTP/1.x on the server: one request at a time, pipelined ones wait in a bounded buffer.

   HEAD -> BODY -> BUSY -> HEAD ...   a request is read, its body, then its answer is awaited and written
     \        \       \--> TUNNEL     101 was sent: the transport belongs to a tunnel
      \________\_______\-> LINGER     no further request: half closed, reading on for a moment, closed */
#include "lib/http/server_internal.h"

#define COALESCE_BYTES ((size_t)16 << 10) /* smaller pieces are joined into one write */

static void process(struct server_conn *conn);

static void wait_for_head(struct server_conn *conn)
{
    conn->phase = PHASE_HEAD;
    conn->scan = 0;
    conn->deadline_ms = server_now_ms(conn->server) + conn->server->config.idle_timeout_ms;
}

/* The answer is out: the connection goes on to the next request or ends. */
static void finish(struct server_conn *conn, struct exchange *ex)
{
    struct http_stream *stream = ex->out;
    bool exact = !stream->has_body || stream->content_length < 0 || (uint64_t)stream->content_length == ex->bytes_out;
    bool keep = conn->keep_alive && ex->body_complete && !conn->eof && !conn->server->stopping;
    exchange_over(ex, exact);
    if (!exact) {
        conn_close(conn); /* the peer must not take a cut answer for a whole one */
    } else if (!keep) {
        conn_linger(conn);
    } else {
        wait_for_head(conn);
        conn->read_paused = false;
        transport_resume(conn->transport);
        process(conn);
    }
}

static void begin_tunnel(struct server_conn *conn, struct exchange *ex)
{
    struct kp_buf head = { 0 };
    stream_h1_head(ex->out, ex, false, true, &head);
    transport_write(conn->transport, head.data, head.len);
    kp_buf_done(&head);
    struct transport *transport = conn->transport;
    struct http_tunnel *tunnel = ex->tunnel;
    struct kp_buf early = conn->in;
    conn->in = (struct kp_buf){ 0 };
    conn->transport = NULL;
    conn->tunnel = tunnel;
    conn->phase = PHASE_TUNNEL;
    conn->deadline_ms = 0;
    ex->tunnel = NULL;
    ex->head_sent = true;
    tunnel_attach(tunnel, transport, early.data, early.len, conn_tunnel_gone, conn);
    kp_buf_done(&early);
    exchange_over(ex, true);
}

static void append_body(struct server_conn *conn, struct kp_buf *out, struct kp_blob *blob, size_t offset, bool chunked)
{
    size_t len = blob->len - offset;
    if (chunked)
        kp_buf_printf(out, "%zx\r\n", len);
    if (len <= COALESCE_BYTES) {
        kp_buf_append(out, blob->data + offset, len);
    } else {
        transport_write(conn->transport, out->data, out->len);
        out->len = 0;
        transport_write_blob(conn->transport, blob, offset);
    }
    if (chunked)
        kp_buf_puts(out, "\r\n");
    if (out->len > COALESCE_BYTES) {
        transport_write(conn->transport, out->data, out->len);
        out->len = 0;
    }
}

static void append_end(struct http_stream *stream, struct kp_buf *out)
{
    kp_buf_puts(out, "0\r\n");
    for (size_t i = 0; i < stream->trailers.count; i++)
        kp_buf_printf(out, "%s: %s\r\n", stream->trailers.items[i].name, stream->trailers.items[i].value);
    kp_buf_puts(out, "\r\n");
}

static void h1_flush(struct server_conn *conn, struct exchange *ex)
{
    struct http_stream *stream = ex->out;
    KP_AUTO_BUF struct kp_buf out = { 0 };
    pthread_mutex_lock(&stream->mutex);
    if (!stream->head_set) {
        pthread_mutex_unlock(&stream->mutex);
        return;
    }
    if (ex->tunnel) {
        pthread_mutex_unlock(&stream->mutex);
        begin_tunnel(conn, ex);
        return;
    }
    bool framed = stream->content_length >= 0 || !stream->has_body;
    bool chunked = !framed && ex->req.version == HTTP_1_1;
    if (!ex->head_sent) {
        ex->head_sent = true;
        conn->keep_alive = conn->keep_alive && (framed || chunked) && !conn->server->stopping && !ex->body_refused;
        stream_h1_head(stream, ex, chunked, conn->keep_alive, &out);
    }
    bool had = stream->queue.queued > 0;
    struct kp_blob *blob;
    size_t offset;
    while (!conn->closed && transport_queued(conn->transport) < TRANSPORT_QUEUED_HIGH && (blob = outq_pop(&stream->queue, &offset))) {
        pthread_mutex_unlock(&stream->mutex);
        ex->bytes_out += blob->len - offset;
        append_body(conn, &out, blob, offset, chunked);
        kp_blob_unref(blob);
        pthread_mutex_lock(&stream->mutex);
    }
    bool drained = had && stream->queue.queued == 0;
    bool over = stream->ended && stream->queue.queued == 0;
    pthread_mutex_unlock(&stream->mutex);
    if (over && chunked)
        append_end(stream, &out);
    if (out.len)
        transport_write(conn->transport, out.data, out.len);
    if (drained)
        stream_drained(stream);
    if (over)
        finish(conn, ex);
    else if (conn->eof)
        conn_close(conn); /* nobody reads what else would come */
}

static void h1_consumed(struct server_conn *conn, struct exchange *ex, size_t len)
{
    (void)len;
    if (ex->unconsumed < HTTP_WINDOW_BYTES && conn->read_paused) {
        conn->read_paused = false;
        transport_resume(conn->transport);
        process(conn);
    }
}

static void h1_reset(struct server_conn *conn, struct exchange *ex)
{
    (void)ex;
    conn_close(conn);
}

static void h1_shutdown(struct server_conn *conn)
{
    conn->keep_alive = false;
}

static const struct conn_ops h1_ops = { .flush = h1_flush, .consumed = h1_consumed, .reset = h1_reset, .shutdown = h1_shutdown };

void h1_conn_start(struct server_conn *conn)
{
    conn->ops = &h1_ops;
    wait_for_head(conn);
}

/* Answers what will not be served; the connection ends after it. */
static void refuse(struct server_conn *conn, struct exchange *ex, int status, const char *message)
{
    conn->keep_alive = false;
    ex->body_refused = true;
    conn->phase = PHASE_BUSY;
    conn->deadline_ms = 0;
    exchange_respond_plain(ex, status, message);
}

static void begin_request(struct server_conn *conn, const char *data, size_t len)
{
    struct exchange *ex = exchange_new(conn);
    struct h1_head head;
    struct kp_error error = { 0 };
    int status = 400;
    ex->req.version = HTTP_1_1;
    if (h1_parse_head(data, len, true, ex->head_arena, &head, &status, &error) < 0) {
        refuse(conn, ex, status, error.message);
        return;
    }
    ex->req.method = head.method;
    ex->req.version = head.version;
    ex->req.headers = head.headers;
    ex->req.header_count = head.header_count;
    const char *host = http_header_get(head.headers, head.header_count, "host");
    ex->req.authority = host ? host : "";
    ex->can_upgrade = head.upgrade && !head.chunked && head.content_length <= 0;
    conn->keep_alive = head.keep_alive;
    if (exchange_set_target(ex, head.target) < 0) {
        refuse(conn, ex, 400, "bad escape in the path");
        return;
    }
    h1_body_init(&conn->body, head.chunked ? H1_BODY_CHUNKED : head.content_length > 0 ? H1_BODY_LENGTH : H1_BODY_NONE,
                 head.content_length > 0 ? (uint64_t)head.content_length : 0);
    conn->phase = PHASE_BODY; /* before the hooks: a handler in stream mode may answer at once */
    conn->deadline_ms = 0;
    exchange_begin(ex);
    if (!ex->stream_mode && head.content_length > 0 && (uint64_t)head.content_length > ex->body_max) {
        refuse(conn, ex, 413, "the request body is too large");
        return;
    }
    if (conn->body.kind == H1_BODY_NONE) {
        conn->phase = PHASE_BUSY;
        exchange_body_end(ex);
        return;
    }
    if (head.expect_continue && head.version == HTTP_1_1)
        transport_write(conn->transport, "HTTP/1.1 100 Continue\r\n\r\n", 25);
    if (!ex->stream_mode)
        conn->deadline_ms = server_now_ms(conn->server) + conn->server->config.body_timeout_ms;
}

/* Returns bytes taken; 0 when the head is not complete. */
static size_t take_head(struct server_conn *conn, const char *data, size_t len)
{
    size_t max = conn->server->config.header_bytes_max;
    if (conn->scan == 0 && len >= 2 && data[0] == '\r' && data[1] == '\n')
        return 2; /* some clients send an extra line end after a body (RFC 9112 2.2) */
    size_t head_len = h1_head_length(data, len, &conn->scan);
    if (head_len > max || (head_len == 0 && len > max)) {
        refuse(conn, exchange_new(conn), 431, "the request head is too large");
        return len;
    }
    if (head_len == 0) {
        /* The clock for the head runs from its first byte. */
        if (len > 0)
            conn->deadline_ms = KP_MIN(conn->deadline_ms, server_now_ms(conn->server) + conn->server->config.header_timeout_ms);
        return 0;
    }
    conn->scan = 0;
    begin_request(conn, data, head_len);
    return head_len;
}

static size_t take_body(struct server_conn *conn, const uint8_t *data, size_t len)
{
    struct exchange *ex = conn->exchanges;
    const uint8_t *out;
    size_t used, out_len;
    if (ex->stream_mode && ex->unconsumed >= HTTP_WINDOW_BYTES) {
        conn->read_paused = true;
        transport_pause(conn->transport);
        return 0;
    }
    int status = h1_body_feed(&conn->body, data, len, &used, &out, &out_len);
    if (status < 0) {
        if (ex->stream_mode || atomic_load(&ex->answered))
            conn_close(conn);
        else
            refuse(conn, ex, 400, "bad chunked body");
        return len;
    }
    if (out_len && exchange_body(ex, out, out_len) < 0) {
        refuse(conn, ex, 413, "the request body is too large");
        return len;
    }
    if (!ex->stream_mode)
        conn->deadline_ms = server_now_ms(conn->server) + conn->server->config.body_timeout_ms;
    if (status == 1 && !conn->closed) {
        conn->phase = PHASE_BUSY;
        conn->deadline_ms = 0;
        exchange_body_end(ex);
    }
    return used;
}

static void process(struct server_conn *conn)
{
    if (conn->processing)
        return;
    conn->processing = true;
    size_t at = 0;
    while (!conn->closed && at < conn->in.len) {
        size_t used = 0;
        if (conn->phase == PHASE_HEAD)
            used = take_head(conn, conn->in.data + at, conn->in.len - at);
        else if (conn->phase == PHASE_BODY)
            used = take_body(conn, (const uint8_t *)conn->in.data + at, conn->in.len - at);
        if (used == 0)
            break;
        at += used;
    }
    conn->processing = false;
    if (at == conn->in.len)
        kp_buf_done(&conn->in); /* an idle connection holds no buffer */
    else
        kp_buf_consume(&conn->in, at);
    if (!conn->closed && conn->phase == PHASE_BUSY && conn->in.len > H1_PIPELINE_BYTES_MAX) {
        conn->read_paused = true;
        transport_pause(conn->transport);
    }
}

void h1_conn_data(struct server_conn *conn, const uint8_t *data, size_t len)
{
    kp_buf_append(&conn->in, data, len);
    process(conn);
}

void h1_conn_eof(struct server_conn *conn)
{
    struct exchange *ex = conn->exchanges;
    if (!ex || conn->phase == PHASE_BODY) {
        conn_close(conn);
        return;
    }
    /* Half-closed clients may still read a short answer; an endless one would only be written to nobody. */
    atomic_store(&ex->cancelled, true);
    pthread_mutex_lock(&ex->out->mutex);
    bool endless = ex->out->head_set && !ex->out->ended;
    pthread_mutex_unlock(&ex->out->mutex);
    if (endless)
        conn_close(conn);
}

void h1_conn_drain(struct server_conn *conn)
{
    if (conn->exchanges)
        h1_flush(conn, conn->exchanges);
}

void h1_conn_timeout(struct server_conn *conn)
{
    struct exchange *ex = conn->exchanges;
    if (conn->phase == PHASE_HEAD && conn->in.len == 0) {
        conn_close(conn); /* idle */
        return;
    }
    refuse(conn, ex ? ex : exchange_new(conn), 408, "the request did not arrive in time");
}
