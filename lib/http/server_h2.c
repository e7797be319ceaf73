/* HTTP/2 on the server, by nghttp2's memory interface: bytes in, bytes out. */
#include "lib/http/server_internal.h"

#define H2_CONNECTION_WINDOW ((int32_t)1 << 20)
#define H2_FRAME_HEADER 9

static int on_begin_headers(nghttp2_session *session, const nghttp2_frame *frame, void *user_data)
{
    struct server_conn *conn = user_data;
    if (frame->hd.type != NGHTTP2_HEADERS || frame->headers.cat != NGHTTP2_HCAT_REQUEST)
        return 0;
    struct exchange *ex = exchange_new(conn);
    ex->h2_id = frame->hd.stream_id;
    ex->req.version = HTTP_2;
    conn->deadline_ms = 0;
    nghttp2_session_set_stream_user_data(session, ex->h2_id, ex);
    return 0;
}

/* gRPC clients of older versions send a unix socket's path, or without TLS a whole URL, as :authority. */
static bool is_plain(const struct server_conn *conn) { return !transport_is_tls(conn->transport); }

static int on_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name, size_t name_len,
                     const uint8_t *value, size_t value_len, uint8_t flags, void *user_data)
{
    struct server_conn *conn = user_data;
    struct exchange *ex = nghttp2_session_get_stream_user_data(session, frame->hd.stream_id);
    (void)flags;
    if (!ex || frame->headers.cat != NGHTTP2_HCAT_REQUEST)
        return 0; /* trailers of requests are not used */
    if (is_plain(conn) && (!nghttp2_check_header_name(name, name_len) || !nghttp2_check_header_value(value, value_len))) {
        ex->h2_bad = "the request head has characters that are not allowed";
        return 0;
    }
    if (ex->head_text.len + name_len + value_len + 2 > conn->server->config.header_bytes_max ||
        ex->head_count >= HTTP_HEADER_COUNT_MAX) {
        ex->h2_bad = "the request head is too large";
        return 0;
    }
    kp_buf_append(&ex->head_text, name, name_len);
    kp_buf_putc(&ex->head_text, '\0');
    kp_buf_append(&ex->head_text, value, value_len);
    kp_buf_putc(&ex->head_text, '\0');
    ex->head_count++;
    return 0;
}

/* Makes the header list from the collected text. False when something is missing or malformed. */
static bool build_head(struct exchange *ex)
{
    struct http_request *req = &ex->req;
    struct http_header *headers = KP_NEW_ARRAY(ex->head_arena, struct http_header, ex->head_count + 1);
    char *text = kp_arena_memdup(ex->head_arena, ex->head_text.data ? ex->head_text.data : "", ex->head_text.len + 1);
    const char *path = NULL, *host = NULL;
    bool has_authority = false;
    for (char *p = text, *end = text + ex->head_text.len; p < end;) {
        char *name = p, *value = name + strlen(name) + 1;
        p = value + strlen(value) + 1;
        if (kp_streq(name, ":method")) {
            req->method = value;
        } else if (kp_streq(name, ":path")) {
            path = value;
        } else if (kp_streq(name, ":authority")) {
            req->authority = value;
            has_authority = true;
        } else if (name[0] != ':') {
            headers[req->header_count++] = (struct http_header){ name, value };
            if (kp_streq(name, "host"))
                host = value;
        }
    }
    req->headers = headers;
    if (!has_authority && host)
        req->authority = host;
    kp_buf_done(&ex->head_text);
    return !kp_empty(req->method) && path && (path[0] == '/' || path[0] == '*') && exchange_set_target(ex, path) == 0;
}

static void refuse(struct exchange *ex, int status, const char *message)
{
    ex->body_refused = true;
    exchange_respond_plain(ex, status, message);
}

static void headers_complete(struct server_conn *conn, struct exchange *ex, bool end_stream)
{
    if (ex->h2_bad) {
        refuse(ex, 431, ex->h2_bad);
    } else if (!build_head(ex)) {
        refuse(ex, 400, "bad request path");
    } else {
        exchange_begin(ex);
        const char *length = http_request_header(&ex->req, "content-length");
        uint64_t bytes;
        if (!ex->stream_mode && length && kp_parse_u64(length, &bytes) == 0 && bytes > ex->body_max) {
            refuse(ex, 413, "the request body is too large");
        } else if (!end_stream) {
            const char *expect = http_request_header(&ex->req, "expect");
            static const nghttp2_nv go_on[] = { { (uint8_t *)":status", (uint8_t *)"100", 7, 3, NGHTTP2_NV_FLAG_NONE } };
            if (expect && kp_streq(expect, "100-continue"))
                nghttp2_submit_headers(conn->session, NGHTTP2_FLAG_NONE, ex->h2_id, NULL, go_on, 1, NULL);
            if (!ex->stream_mode)
                ex->body_deadline_ms = server_now_ms(conn->server) + conn->server->config.body_timeout_ms;
        }
    }
    if (end_stream && !ex->body_refused)
        exchange_body_end(ex);
    else if (end_stream)
        ex->body_complete = true;
}

static int on_frame_recv(nghttp2_session *session, const nghttp2_frame *frame, void *user_data)
{
    struct server_conn *conn = user_data;
    if (frame->hd.type == NGHTTP2_RST_STREAM) {
        int64_t now_s = server_now_ms(conn->server) / 1000;
        conn->resets = conn->reset_window_s == now_s ? conn->resets + 1 : 1;
        conn->reset_window_s = now_s;
        return conn->resets > H2_RESETS_PER_S_MAX ? NGHTTP2_ERR_CALLBACK_FAILURE : 0;
    }
    if (frame->hd.type != NGHTTP2_HEADERS && frame->hd.type != NGHTTP2_DATA)
        return 0;
    struct exchange *ex = nghttp2_session_get_stream_user_data(session, frame->hd.stream_id);
    if (!ex)
        return 0;
    bool end_stream = frame->hd.flags & NGHTTP2_FLAG_END_STREAM;
    if (frame->hd.type == NGHTTP2_HEADERS && frame->headers.cat == NGHTTP2_HCAT_REQUEST)
        headers_complete(conn, ex, end_stream);
    else if (end_stream && !ex->body_refused)
        exchange_body_end(ex);
    else if (end_stream)
        ex->body_complete = true;
    return 0;
}

static int on_data_chunk(nghttp2_session *session, uint8_t flags, int32_t id, const uint8_t *data, size_t len, void *user_data)
{
    struct server_conn *conn = user_data;
    struct exchange *ex = nghttp2_session_get_stream_user_data(session, id);
    (void)flags;
    nghttp2_session_consume_connection(session, len);
    if (!ex || ex->body_refused) /* not consumed: the window keeps the peer from sending much more */
        return 0;
    if (!ex->stream_mode) {
        nghttp2_session_consume_stream(session, id, len);
        ex->body_deadline_ms = server_now_ms(conn->server) + conn->server->config.body_timeout_ms;
    }
    if (exchange_body(ex, data, len) < 0)
        refuse(ex, 413, "the request body is too large");
    return 0;
}

static int on_stream_close(nghttp2_session *session, int32_t id, uint32_t error_code, void *user_data)
{
    struct server_conn *conn = user_data;
    struct exchange *ex = nghttp2_session_get_stream_user_data(session, id);
    if (!ex)
        return 0;
    nghttp2_session_set_stream_user_data(session, id, NULL);
    exchange_over(ex, error_code == NGHTTP2_NO_ERROR && ex->submitted);
    if (conn->exchange_count == 0)
        conn->deadline_ms = server_now_ms(conn->server) + conn->server->config.idle_timeout_ms;
    return 0;
}

/* The answer went out whole while the request's body still comes: tell the peer to stop (RFC 9113 8.1). */
static int on_frame_send(nghttp2_session *session, const nghttp2_frame *frame, void *user_data)
{
    (void)user_data;
    if ((frame->hd.type != NGHTTP2_HEADERS && frame->hd.type != NGHTTP2_DATA) || !(frame->hd.flags & NGHTTP2_FLAG_END_STREAM))
        return 0;
    struct exchange *ex = nghttp2_session_get_stream_user_data(session, frame->hd.stream_id);
    if (ex && !ex->body_complete)
        nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE, frame->hd.stream_id, NGHTTP2_NO_ERROR);
    return 0;
}

static size_t make_nvs(const struct header_list *list, nghttp2_nv *nvs)
{
    for (size_t i = 0; i < list->count; i++)
        nvs[i] = (nghttp2_nv){ (uint8_t *)(uintptr_t)list->items[i].name, (uint8_t *)(uintptr_t)list->items[i].value,
                               strlen(list->items[i].name), strlen(list->items[i].value), NGHTTP2_NV_FLAG_NONE };
    return list->count;
}

/* How much the next DATA frame takes; send_body copies it, straight to where it is written from. */
static ssize_t read_body(nghttp2_session *session, int32_t id, uint8_t *buf, size_t len, uint32_t *flags,
                         nghttp2_data_source *source, void *user_data)
{
    struct exchange *ex = source->ptr;
    struct http_stream *stream = ex->out;
    (void)buf;
    (void)user_data;
    pthread_mutex_lock(&stream->mutex);
    size_t count = KP_MIN(len, stream->queue.queued);
    bool last = count == stream->queue.queued, ended = stream->ended;
    pthread_mutex_unlock(&stream->mutex);
    if (count)
        *flags |= NGHTTP2_DATA_FLAG_NO_COPY;
    if (!last || !ended)
        return count ? (ssize_t)count : NGHTTP2_ERR_DEFERRED;
    *flags |= NGHTTP2_DATA_FLAG_EOF;
    if (stream->trailers.count) {
        nghttp2_nv *nvs = kp_calloc(stream->trailers.count, sizeof(*nvs));
        size_t nv_count = make_nvs(&stream->trailers, nvs);
        *flags |= NGHTTP2_DATA_FLAG_NO_END_STREAM;
        nghttp2_submit_trailer(session, id, nvs, nv_count);
        free(nvs);
    }
    return (ssize_t)count;
}

static int send_body(nghttp2_session *session, nghttp2_frame *frame, const uint8_t *head, size_t len,
                     nghttp2_data_source *source, void *user_data)
{
    struct server_conn *conn = user_data;
    struct exchange *ex = source->ptr;
    struct http_stream *stream = ex->out;
    (void)session;
    struct h2_out *out = &conn->server->h2_out;
    KP_ASSERT(frame->data.padlen == 0);
    if (h2_out_is_full(out)) {
        conn->out_full = true;
        return NGHTTP2_ERR_WOULDBLOCK; /* h2_conn_send comes back with room */
    }
    h2_out_copy(out, head, H2_FRAME_HEADER);
    struct http_slice slice;
    size_t left = len;
    pthread_mutex_lock(&stream->mutex);
    for (; left && outq_take(&stream->queue, left, &slice); left -= slice.len)
        h2_out_take(out, &slice, is_plain(conn));
    bool empty = stream->queue.queued == 0;
    pthread_mutex_unlock(&stream->mutex);
    KP_ASSERT(left == 0); /* only this thread takes from the queue */
    ex->bytes_out += len;
    if (empty)
        stream_drained(stream);
    return 0;
}

static void submit_response(struct server_conn *conn, struct exchange *ex)
{
    struct http_stream *stream = ex->out;
    char status[12], length[24];
    nghttp2_nv *nvs = kp_calloc(stream->headers.count + 2, sizeof(*nvs));
    snprintf(status, sizeof(status), "%d", stream->status);
    nvs[0] = (nghttp2_nv){ (uint8_t *)":status", (uint8_t *)status, 7, strlen(status), NGHTTP2_NV_FLAG_NONE };
    size_t count = 1 + make_nvs(&stream->headers, nvs + 1);
    if (stream->content_length >= 0 && stream->status != 204 && stream->status != 304 &&
        !http_header_get(stream->headers.items, stream->headers.count, "content-length")) {
        snprintf(length, sizeof(length), "%lld", (long long)stream->content_length);
        nvs[count++] = (nghttp2_nv){ (uint8_t *)"content-length", (uint8_t *)length, 14, strlen(length), NGHTTP2_NV_FLAG_NONE };
    }
    nghttp2_data_provider provider = { .source.ptr = ex, .read_callback = read_body };
    pthread_mutex_lock(&stream->mutex);
    bool bare = !stream->has_body || (stream->ended && stream->queue.queued == 0 && !stream->trailers.count);
    pthread_mutex_unlock(&stream->mutex);
    nghttp2_submit_response(conn->session, ex->h2_id, nvs, count, bare ? NULL : &provider);
    ex->submitted = true;
    free(nvs);
}

static void h2_flush(struct server_conn *conn, struct exchange *ex)
{
    pthread_mutex_lock(&ex->out->mutex);
    bool head_set = ex->out->head_set;
    pthread_mutex_unlock(&ex->out->mutex);
    if (!head_set)
        return;
    if (ex->submitted)
        nghttp2_session_resume_data(conn->session, ex->h2_id);
    else
        submit_response(conn, ex);
    h2_conn_send_soon(conn);
}

static void h2_consumed(struct server_conn *conn, struct exchange *ex, size_t len)
{
    nghttp2_session_consume_stream(conn->session, ex->h2_id, len);
    h2_conn_send_soon(conn);
}

static void h2_reset(struct server_conn *conn, struct exchange *ex)
{
    nghttp2_submit_rst_stream(conn->session, NGHTTP2_FLAG_NONE, ex->h2_id, NGHTTP2_INTERNAL_ERROR);
    h2_conn_send_soon(conn);
}

static void h2_shutdown(struct server_conn *conn)
{
    conn->draining = true;
    nghttp2_submit_goaway(conn->session, NGHTTP2_FLAG_NONE, nghttp2_session_get_last_proc_stream_id(conn->session),
                          NGHTTP2_NO_ERROR, NULL, 0);
    h2_conn_send(conn);
}

static const struct conn_ops h2_ops = { .flush = h2_flush, .consumed = h2_consumed, .reset = h2_reset, .shutdown = h2_shutdown };

int h2_conn_start(struct server_conn *conn)
{
    nghttp2_session_callbacks *callbacks;
    nghttp2_option *option;
    KP_ASSERT(nghttp2_session_callbacks_new(&callbacks) == 0 && nghttp2_option_new(&option) == 0);
    nghttp2_session_callbacks_set_on_begin_headers_callback(callbacks, on_begin_headers);
    nghttp2_session_callbacks_set_on_header_callback(callbacks, on_header);
    nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, on_frame_recv);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_data_chunk);
    nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_stream_close);
    nghttp2_session_callbacks_set_on_frame_send_callback(callbacks, on_frame_send);
    nghttp2_session_callbacks_set_send_data_callback(callbacks, send_body);
    nghttp2_option_set_no_auto_window_update(option, 1);
    nghttp2_option_set_no_closed_streams(option, 1); /* kept for priorities only, which nobody uses */
    /* The strict rules refuse such an authority. */
    if (is_plain(conn))
        nghttp2_option_set_no_http_messaging(option, 1);
    KP_ASSERT(nghttp2_session_server_new2(&conn->session, callbacks, conn, option) == 0);
    nghttp2_session_callbacks_del(callbacks);
    nghttp2_option_del(option);
    conn->ops = &h2_ops;
    conn->phase = PHASE_H2;
    conn->deadline_ms = server_now_ms(conn->server) + conn->server->config.idle_timeout_ms;
    nghttp2_settings_entry settings[] = {
        { NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, conn->server->config.streams_per_connection_max },
        { NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, HTTP_WINDOW_BYTES },
        { NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, (uint32_t)conn->server->config.header_bytes_max },
    };
    nghttp2_submit_settings(conn->session, NGHTTP2_FLAG_NONE, settings, KP_ARRAY_LEN(settings));
    nghttp2_session_set_local_window_size(conn->session, NGHTTP2_FLAG_NONE, 0, H2_CONNECTION_WINDOW);
    h2_conn_send(conn);
    return conn->closed ? KP_EIO : 0;
}

void h2_conn_send(struct server_conn *conn)
{
    if (conn->closed || conn->sending || conn->phase != PHASE_H2)
        return;
    conn->sending = true;
    struct h2_out *out = &conn->server->h2_out; /* of all connections: one sends at a time */
    KP_ASSERT(out->bytes == 0);
    ssize_t count = 0;
    while (transport_queued(conn->transport) < TRANSPORT_QUEUED_HIGH) {
        const uint8_t *data;
        conn->out_full = false;
        count = nghttp2_session_mem_send(conn->session, &data);
        if (count > 0)
            h2_out_copy(out, data, (size_t)count);
        if (count < 0 || (count == 0 && !conn->out_full))
            break;
        if (h2_out_is_full(out))
            h2_out_write(out, conn->transport);
    }
    h2_out_write(out, conn->transport);
    conn->sending = false;
    if (count < 0)
        conn_close(conn);
    else if (count == 0 && ((conn->draining && conn->exchange_count == 0) ||
                            (!nghttp2_session_want_read(conn->session) && !nghttp2_session_want_write(conn->session))))
        conn_linger(conn);
}

static void run_send(void *arg)
{
    struct server_conn *conn = arg;
    h2_conn_send(conn);
    conn_release(conn);
}

void h2_conn_send_soon(struct server_conn *conn)
{
    if (conn->closed || conn->send_item.waiting)
        return;
    conn_hold(conn);
    conn->send_item.fn = run_send;
    conn->send_item.arg = conn;
    loop_at_turn_end(conn->server->loop, &conn->send_item);
}

void h2_conn_data(struct server_conn *conn, const uint8_t *data, size_t len)
{
    ssize_t used = nghttp2_session_mem_recv(conn->session, data, len);
    if (used < 0) {
        nghttp2_session_terminate_session(conn->session, NGHTTP2_PROTOCOL_ERROR);
        h2_conn_send(conn); /* GOAWAY, then the session wants nothing more and the connection lingers */
        if (!conn->closed && conn->phase == PHASE_H2)
            conn_close(conn);
        return;
    }
    h2_conn_send_soon(conn);
}

void h2_conn_sweep(struct server_conn *conn, int64_t now_ms)
{
    if (conn->exchange_count == 0 && conn->deadline_ms && now_ms >= conn->deadline_ms) {
        nghttp2_session_terminate_session(conn->session, NGHTTP2_NO_ERROR);
        h2_conn_send(conn);
        return;
    }
    for (struct exchange *ex = conn->exchanges; ex; ex = ex->next) {
        if (!ex->body_deadline_ms || now_ms < ex->body_deadline_ms)
            continue;
        ex->body_deadline_ms = 0;
        refuse(ex, 408, "the request body did not arrive in time");
    }
}
