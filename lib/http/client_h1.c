/* HTTP/1.1 on the client: one call at a time over a kept-alive connection. */
#include "lib/http/client_internal.h"

#include <strings.h>

#define HEAD_BYTES_MAX ((size_t)256 << 10)
#define COALESCE_BYTES ((size_t)16 << 10)

static void process(struct client_conn *conn);

static void fail(struct client_conn *conn, int code, const char *what)
{
    struct kp_error error = { 0 };
    kp_fail(&error, code, "%s: %s", conn->endpoint->authority, what);
    cconn_fail(conn, &error);
}

static bool takes_body(const char *method)
{
    return strcmp(method, "POST") == 0 || strcmp(method, "PUT") == 0 || strcmp(method, "PATCH") == 0;
}

void ch1_start(struct client_conn *conn, struct http_call *call)
{
    KP_AUTO_BUF struct kp_buf head = { 0 };
    const char *host = http_header_get(call->headers.items, call->headers.count, "host");
    kp_buf_puts(&head, call->method);
    kp_buf_putc(&head, ' ');
    kp_buf_puts(&head, call->path);
    kp_buf_puts(&head, " HTTP/1.1\r\nHost: ");
    kp_buf_puts(&head, host ? host : call->endpoint->authority);
    kp_buf_puts(&head, "\r\n");
    if (!http_header_get(call->headers.items, call->headers.count, "user-agent"))
        kp_buf_printf(&head, "User-Agent: %s\r\n", conn->client->user_agent);
    for (size_t i = 0; i < call->headers.count; i++) {
        const struct http_header *h = &call->headers.items[i];
        if (strcasecmp(h->name, "host") == 0 || strcasecmp(h->name, "content-length") == 0 ||
            strcasecmp(h->name, "transfer-encoding") == 0 || strcasecmp(h->name, "connection") == 0)
            continue;
        kp_buf_puts(&head, h->name);
        kp_buf_puts(&head, ": ");
        kp_buf_puts(&head, h->value);
        kp_buf_puts(&head, "\r\n");
    }
    if (call->upgrade)
        kp_buf_puts(&head, "Connection: Upgrade\r\n");
    if (call->body_follows)
        kp_buf_puts(&head, "Transfer-Encoding: chunked\r\n");
    else if (call->body || takes_body(call->method))
        kp_buf_printf(&head, "Content-Length: %zu\r\n", call->body ? call->body->len : (size_t)0);
    kp_buf_puts(&head, "\r\n");
    transport_write(conn->transport, head.data, head.len);
    conn->scan = 0;
    conn->in_body = conn->read_paused = false;
    transport_resume(conn->transport);
    ch1_flush(conn, call);
}

void ch1_flush(struct client_conn *conn, struct http_call *call)
{
    KP_AUTO_BUF struct kp_buf out = { 0 };
    bool had = false;
    pthread_mutex_lock(&call->mutex);
    struct kp_blob *blob;
    size_t offset;
    while (!conn->closed && transport_queued(conn->transport) < TRANSPORT_QUEUED_HIGH && (blob = outq_pop(&call->queue, &offset))) {
        pthread_mutex_unlock(&call->mutex);
        size_t len = blob->len - offset;
        had = call->body_taken = true;
        if (call->body_follows)
            kp_buf_printf(&out, "%zx\r\n", len);
        if (len > COALESCE_BYTES) {
            transport_write(conn->transport, out.data, out.len);
            out.len = 0;
            transport_write_blob(conn->transport, blob, offset);
        } else {
            kp_buf_append(&out, blob->data + offset, len);
        }
        if (call->body_follows)
            kp_buf_puts(&out, "\r\n");
        kp_blob_unref(blob);
        pthread_mutex_lock(&call->mutex);
    }
    bool empty = call->queue.queued == 0, ended = call->send_ended;
    pthread_mutex_unlock(&call->mutex);
    if (empty && ended && !call->send_complete) {
        call->send_complete = true;
        if (call->body_follows)
            kp_buf_puts(&out, "0\r\n\r\n");
    }
    if (out.len && !conn->closed)
        transport_write(conn->transport, out.data, out.len);
    if (had && empty)
        call_drained(call);
}

/* The response is whole. */
static void response_over(struct client_conn *conn, struct http_call *call)
{
    bool keep = conn->keep_alive && call->send_complete && !conn->draining;
    conn->in_body = false;
    conn->scan = 0;
    if (!keep)
        conn->draining = true; /* closed as soon as the call has let go */
    call_end(call, NULL);
}

static void begin_tunnel(struct client_conn *conn, struct http_call *call, size_t used)
{
    struct http_tunnel *tunnel = tunnel_new(conn->client->loop);
    struct transport *transport = conn->transport;
    conn->transport = NULL;
    tunnel_attach(tunnel, transport, conn->in.data + used, conn->in.len - used, NULL, NULL);
    call->on_tunnel(call, tunnel, call->arg);
    conn->draining = true;
    call_end(call, NULL);
}

/* Returns bytes taken, 0 when the head is not complete or the connection has ended. */
static size_t take_head(struct client_conn *conn, struct http_call *call, size_t at)
{
    const char *data = conn->in.data + at;
    size_t len = conn->in.len - at, head_len = h1_head_length(data, len, &conn->scan);
    struct h1_head head;
    struct kp_error error = { 0 };
    int status;
    if (head_len == 0 || head_len > HEAD_BYTES_MAX) {
        if (len > HEAD_BYTES_MAX)
            fail(conn, KP_EBADREQUEST, "the response head is too large");
        return 0;
    }
    conn->scan = 0;
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    if (h1_parse_head(data, head_len, false, arena, &head, &status, &error) < 0) {
        call->any_response = true;
        fail(conn, KP_EBADREQUEST, error.message);
        return 0;
    }
    if (head.status == 101 && call->upgrade) {
        call_headers(call, head.status, head.headers, head.header_count);
        if (call->state == CALL_ACTIVE)
            begin_tunnel(conn, call, at + head_len);
        return 0;
    }
    if (head.status < 200) {
        if (head.status == 101)
            fail(conn, KP_EBADREQUEST, "status 101 without an upgrade");
        return conn->closed ? 0 : head_len;
    }
    bool none = strcmp(call->method, "HEAD") == 0 || head.status == 204 || head.status == 304;
    enum h1_body_kind kind = none ? H1_BODY_NONE : head.chunked ? H1_BODY_CHUNKED : head.content_length >= 0 ? H1_BODY_LENGTH : H1_BODY_UNTIL_EOF;
    h1_body_init(&conn->body, kind, head.content_length > 0 ? (uint64_t)head.content_length : 0);
    conn->keep_alive = head.keep_alive && kind != H1_BODY_UNTIL_EOF;
    conn->in_body = true;
    call_headers(call, head.status, head.headers, head.header_count);
    if (call->state == CALL_ACTIVE && conn->body.kind == H1_BODY_NONE)
        response_over(conn, call);
    return head_len;
}

static void give_trailers(struct client_conn *conn, struct http_call *call)
{
    const struct http_header *headers;
    size_t count;
    if (conn->body.trailers.len == 0)
        return;
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    char *text = kp_arena_strndup(arena, conn->body.trailers.data, conn->body.trailers.len);
    if (h1_parse_fields(text, conn->body.trailers.len, arena, true, &headers, &count, NULL) == 0)
        call_trailers(call, headers, count);
}

static size_t take_body(struct client_conn *conn, struct http_call *call, size_t at)
{
    const uint8_t *out;
    size_t used, out_len;
    if (call->unconsumed >= HTTP_WINDOW_BYTES) {
        conn->read_paused = true;
        transport_pause(conn->transport);
        return 0;
    }
    int status = h1_body_feed(&conn->body, (const uint8_t *)conn->in.data + at, conn->in.len - at, &used, &out, &out_len);
    if (status < 0) {
        fail(conn, KP_EIO, "bad framing of the response body");
        return 0;
    }
    if (out_len)
        call_data(call, out, out_len);
    if (status == 1 && call->state == CALL_ACTIVE) {
        give_trailers(conn, call);
        if (call->state == CALL_ACTIVE)
            response_over(conn, call);
    }
    return used;
}

static void process(struct client_conn *conn)
{
    if (conn->processing)
        return;
    conn->processing = true;
    cconn_hold(conn);
    size_t at = 0;
    while (!conn->closed && conn->transport && at < conn->in.len && conn->calls) {
        struct http_call *call = conn->calls;
        atomic_fetch_add(&call->refs, 1);
        size_t used = conn->in_body ? take_body(conn, call, at) : take_head(conn, call, at);
        call_put(call);
        at += used;
        if (used == 0)
            break;
    }
    conn->processing = false;
    if (at >= conn->in.len)
        kp_buf_done(&conn->in);
    else
        kp_buf_consume(&conn->in, at);
    if (!conn->closed && conn->transport && conn->in.len && !conn->calls)
        cconn_close(conn); /* bytes that nobody asked for: the connection cannot be trusted */
    cconn_release(conn);
}

void ch1_data(struct client_conn *conn, const uint8_t *data, size_t len)
{
    kp_buf_append(&conn->in, data, len);
    process(conn);
}

void ch1_consumed(struct client_conn *conn, struct http_call *call)
{
    if (!conn->read_paused || call->unconsumed >= HTTP_WINDOW_BYTES)
        return;
    conn->read_paused = false;
    transport_resume(conn->transport);
    process(conn);
}

void ch1_eof(struct client_conn *conn)
{
    struct http_call *call = conn->calls;
    if (!call) {
        cconn_close(conn);
    } else if (conn->in_body && conn->body.kind == H1_BODY_UNTIL_EOF && conn->in.len == 0) {
        response_over(conn, call);
    } else {
        fail(conn, KP_EIO, call->any_response ? "the connection ended in the middle of the response"
                                              : "the connection ended without a response");
    }
}
