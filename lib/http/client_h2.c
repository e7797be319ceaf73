/* HTTP/2 on the client: many calls over one connection, by nghttp2's memory interface. */
#include "lib/http/client_internal.h"

#define H2_CONNECTION_WINDOW ((int32_t)4 << 20)
#define H2_HEAD_BYTES_MAX ((size_t)256 << 10)
#define H2_WRITE_BYTES ((size_t)32 << 10)
#define H2_STREAMS_BEFORE_SETTINGS 100

static int on_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name, size_t name_len,
                     const uint8_t *value, size_t value_len, uint8_t flags, void *user_data)
{
    struct http_call *call = nghttp2_session_get_stream_user_data(session, frame->hd.stream_id);
    (void)flags;
    (void)user_data;
    if (!call)
        return 0;
    if (call->head_text.len + name_len + value_len + 2 > H2_HEAD_BYTES_MAX || call->head_count >= HTTP_HEADER_COUNT_MAX)
        return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE; /* resets the stream */
    kp_buf_append(&call->head_text, name, name_len);
    kp_buf_putc(&call->head_text, '\0');
    kp_buf_append(&call->head_text, value, value_len);
    kp_buf_putc(&call->head_text, '\0');
    call->head_count++;
    return 0;
}

/* A header block is complete: the response's head, an interim one (dropped), or trailers. */
static void headers_complete(struct http_call *call)
{
    struct kp_buf text = call->head_text;
    call->head_text = (struct kp_buf){ 0 };
    struct http_header *headers = kp_calloc(call->head_count + 1, sizeof(*headers));
    size_t count = 0;
    int64_t status = 0;
    for (char *p = text.data, *end = text.data + text.len; p < end;) {
        char *name = p, *value = name + strlen(name) + 1;
        p = value + strlen(value) + 1;
        if (strcmp(name, ":status") == 0)
            kp_parse_i64(value, &status);
        else if (name[0] != ':')
            headers[count++] = (struct http_header){ name, value };
    }
    call->head_count = 0;
    if (call->status)
        call_trailers(call, headers, count);
    else if (status >= 200)
        call_headers(call, (int)status, headers, count);
    free(headers);
    kp_buf_done(&text);
}

static int on_frame_recv(nghttp2_session *session, const nghttp2_frame *frame, void *user_data)
{
    struct client_conn *conn = user_data;
    if (frame->hd.type == NGHTTP2_GOAWAY) {
        conn->draining = true;
    } else if (frame->hd.type == NGHTTP2_PING && frame->hd.flags & NGHTTP2_FLAG_ACK) {
        conn->ping_sent = false;
    } else if (frame->hd.type == NGHTTP2_HEADERS) {
        struct http_call *call = nghttp2_session_get_stream_user_data(session, frame->hd.stream_id);
        if (call) {
            atomic_fetch_add(&call->refs, 1);
            headers_complete(call);
            call_put(call);
        }
    }
    return 0;
}

static int on_data_chunk(nghttp2_session *session, uint8_t flags, int32_t id, const uint8_t *data, size_t len, void *user_data)
{
    struct http_call *call = nghttp2_session_get_stream_user_data(session, id);
    (void)flags;
    (void)user_data;
    nghttp2_session_consume_connection(session, len);
    if (!call)
        return 0;
    if (!call->manual_flow)
        nghttp2_session_consume_stream(session, id, len);
    atomic_fetch_add(&call->refs, 1);
    call_data(call, data, len);
    call_put(call);
    return 0;
}

static int on_stream_close(nghttp2_session *session, int32_t id, uint32_t error_code, void *user_data)
{
    struct client_conn *conn = user_data;
    struct http_call *call = nghttp2_session_get_stream_user_data(session, id);
    if (!call)
        return 0;
    struct kp_error error = { 0 };
    nghttp2_session_set_stream_user_data(session, id, NULL);
    call->h2_open = false;
    if (error_code == NGHTTP2_NO_ERROR && call->status) {
        call_end(call, NULL);
        return 0;
    }
    if (error_code == NGHTTP2_REFUSED_STREAM && !call->any_response) {
        kp_fail(&error, KP_EUNAVAILABLE, "%s refused the stream", conn->endpoint->authority);
        cconn_detach(call);
        /* Not on this connection again before it has room, nor at all while it says goodbye. */
        call_retry(call, RETRY_REFUSED, &error);
        return 0;
    }
    kp_fail(&error, KP_EIO, "%s %s: %s broke the stream off: %s", call->method, call->path, conn->endpoint->authority,
            nghttp2_http2_strerror(error_code));
    call_end(call, &error);
    return 0;
}

static ssize_t read_body(nghttp2_session *session, int32_t id, uint8_t *buf, size_t len, uint32_t *flags,
                         nghttp2_data_source *source, void *user_data)
{
    struct http_call *call = nghttp2_session_get_stream_user_data(session, id);
    (void)source;
    (void)user_data;
    if (!call)
        return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
    pthread_mutex_lock(&call->mutex);
    size_t count = outq_read(&call->queue, buf, len);
    bool empty = call->queue.queued == 0, ended = call->send_ended;
    pthread_mutex_unlock(&call->mutex);
    if (count) {
        call->body_taken = true;
        if (empty)
            call_drained(call);
    }
    if (empty && ended) {
        *flags |= NGHTTP2_DATA_FLAG_EOF;
        call->send_complete = true;
        return (ssize_t)count;
    }
    return count ? (ssize_t)count : NGHTTP2_ERR_DEFERRED;
}

void ch2_open(struct client_conn *conn)
{
    nghttp2_session_callbacks *callbacks;
    nghttp2_option *option;
    KP_ASSERT(nghttp2_session_callbacks_new(&callbacks) == 0 && nghttp2_option_new(&option) == 0);
    nghttp2_session_callbacks_set_on_header_callback(callbacks, on_header);
    nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, on_frame_recv);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_data_chunk);
    nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_stream_close);
    nghttp2_option_set_no_auto_window_update(option, 1);
    nghttp2_option_set_no_closed_streams(option, 1); /* kept for priorities only, which nobody uses */
    nghttp2_option_set_peer_max_concurrent_streams(option, H2_STREAMS_BEFORE_SETTINGS);
    KP_ASSERT(nghttp2_session_client_new2(&conn->session, callbacks, conn, option) == 0);
    nghttp2_session_callbacks_del(callbacks);
    nghttp2_option_del(option);
    nghttp2_settings_entry settings[] = {
        { NGHTTP2_SETTINGS_ENABLE_PUSH, 0 },
        { NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, HTTP_WINDOW_BYTES },
    };
    nghttp2_submit_settings(conn->session, NGHTTP2_FLAG_NONE, settings, KP_ARRAY_LEN(settings));
    nghttp2_session_set_local_window_size(conn->session, NGHTTP2_FLAG_NONE, 0, H2_CONNECTION_WINDOW);
    ch2_send(conn);
}

bool ch2_has_room(const struct client_conn *conn)
{
    uint32_t allowed = nghttp2_session_get_remote_settings(conn->session, NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS);
    return conn->call_count < KP_MIN(allowed, (uint32_t)CLIENT_STREAMS_MAX) && nghttp2_session_check_request_allowed(conn->session);
}

static nghttp2_nv make_nv(const char *name, const char *value)
{
    return (nghttp2_nv){ (uint8_t *)(uintptr_t)name, (uint8_t *)(uintptr_t)value, strlen(name), strlen(value), NGHTTP2_NV_FLAG_NONE };
}

void ch2_start(struct client_conn *conn, struct http_call *call)
{
    struct header_list headers;
    header_list_copy(&headers, call->headers.items, call->headers.count, true);
    const char *host = http_header_get(call->headers.items, call->headers.count, "host");
    char length[24];
    nghttp2_nv *nvs = kp_calloc(headers.count + 6, sizeof(*nvs));
    size_t count = 0;
    nvs[count++] = make_nv(":method", call->method);
    nvs[count++] = make_nv(":scheme", transport_is_tls(conn->transport) ? "https" : "http");
    nvs[count++] = make_nv(":authority", host ? host : call->endpoint->authority);
    nvs[count++] = make_nv(":path", call->path);
    for (size_t i = 0; i < headers.count; i++)
        if (strcmp(headers.items[i].name, "content-length") != 0)
            nvs[count++] = make_nv(headers.items[i].name, headers.items[i].value);
    if (!http_header_get(headers.items, headers.count, "user-agent"))
        nvs[count++] = make_nv("user-agent", conn->client->user_agent);
    if (call->body && !call->body_follows) {
        snprintf(length, sizeof(length), "%zu", call->body->len);
        nvs[count++] = make_nv("content-length", length);
    }
    nghttp2_data_provider provider = { .read_callback = read_body };
    bool has_body = call->body || call->body_follows;
    call->send_complete = !has_body;
    int32_t id = nghttp2_submit_request(conn->session, NULL, nvs, count, has_body ? &provider : NULL, call);
    free(nvs);
    header_list_done(&headers);
    if (id < 0) { /* stream ids used up: this connection takes no more */
        struct kp_error error = { 0 };
        kp_fail(&error, KP_EUNAVAILABLE, "%s: %s", conn->endpoint->authority, nghttp2_strerror(id));
        conn->draining = true;
        cconn_detach(call);
        call_retry(call, RETRY_REFUSED, &error);
        return;
    }
    call->h2_id = id;
    call->h2_open = true;
    ch2_send(conn);
}

void ch2_flush(struct client_conn *conn, struct http_call *call)
{
    if (call->h2_open && !call->send_complete)
        nghttp2_session_resume_data(conn->session, call->h2_id);
    ch2_send(conn);
}

void ch2_consumed(struct client_conn *conn, struct http_call *call, size_t len)
{
    if (len && call->h2_open)
        nghttp2_session_consume_stream(conn->session, call->h2_id, len);
}

void ch2_reset(struct client_conn *conn, int32_t stream)
{
    if (!stream || conn->closed || !conn->session)
        return;
    nghttp2_submit_rst_stream(conn->session, NGHTTP2_FLAG_NONE, stream, NGHTTP2_CANCEL);
    ch2_send(conn);
}

void ch2_send(struct client_conn *conn)
{
    if (conn->closed || conn->sending || conn->receiving)
        return;
    conn->sending = true;
    cconn_hold(conn);
    KP_AUTO_BUF struct kp_buf out = { 0 };
    ssize_t count = 0;
    while (!conn->closed && transport_queued(conn->transport) < TRANSPORT_QUEUED_HIGH) {
        const uint8_t *data;
        count = nghttp2_session_mem_send(conn->session, &data);
        if (count <= 0)
            break;
        kp_buf_append(&out, data, (size_t)count);
        if (out.len >= H2_WRITE_BYTES) {
            transport_write(conn->transport, out.data, out.len);
            out.len = 0;
        }
    }
    if (out.len && !conn->closed)
        transport_write(conn->transport, out.data, out.len);
    conn->sending = false;
    if (!conn->closed && (count < 0 || (count == 0 && !nghttp2_session_want_read(conn->session) &&
                                        !nghttp2_session_want_write(conn->session)))) {
        struct kp_error error = { 0 };
        kp_fail(&error, KP_EIO, "%s: the HTTP/2 connection has ended", conn->endpoint->authority);
        cconn_fail(conn, &error);
    }
    cconn_release(conn);
}

void ch2_data(struct client_conn *conn, const uint8_t *data, size_t len)
{
    nghttp2_session *session = conn->session;
    conn->receiving = true;
    ssize_t used = nghttp2_session_mem_recv(session, data, len);
    conn->receiving = false;
    if (conn->closed) { /* by a callback, which left the session to us */
        nghttp2_session_del(session);
        conn->session = NULL;
        return;
    }
    if (used < 0) {
        struct kp_error error = { 0 };
        ch2_send(conn);
        kp_fail(&error, KP_EIO, "%s: HTTP/2: %s", conn->endpoint->authority, nghttp2_strerror((int)used));
        cconn_fail(conn, &error);
        return;
    }
    ch2_send(conn);
    if (!conn->closed)
        cconn_idle(conn);
}

void ch2_ping(struct client_conn *conn, int64_t now_ms)
{
    const struct http_client_config *config = &conn->client->config;
    struct kp_error error = { 0 };
    if (conn->ping_sent && conn->last_received_ms > conn->ping_ms)
        conn->ping_sent = false;
    if (conn->ping_sent && now_ms - conn->ping_ms > config->ping_timeout_ms) {
        kp_fail(&error, KP_EUNAVAILABLE, "%s does not answer pings any more", conn->endpoint->authority);
        cconn_fail(conn, &error);
    } else if (!conn->ping_sent && now_ms - conn->last_received_ms > config->ping_interval_ms) {
        conn->ping_sent = true;
        conn->ping_ms = now_ms;
        nghttp2_submit_ping(conn->session, NGHTTP2_FLAG_NONE, NULL);
        ch2_send(conn);
    }
}
