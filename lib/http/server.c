/* The server: listening, connections and their limits, choosing the protocol, graceful end. */
#include "lib/http/server_internal.h"

#include <time.h>

#define SWEEP_MS_MAX 1000

int64_t server_now_ms(const struct http_server *server)
{
    return loop_now_ms(server->loop);
}

void server_ref(struct http_server *server)
{
    atomic_fetch_add(&server->refs, 1);
}

void server_unref(struct http_server *server)
{
    if (atomic_fetch_sub(&server->refs, 1) > 1)
        return;
    pthread_cond_destroy(&server->cond);
    pthread_mutex_destroy(&server->mutex);
    kp_buf_done(&server->h2_out.copied);
    free(server->host);
    free(server->unix_path);
    free(server);
}

/* ---- connections ---- */

void conn_hold(struct server_conn *conn)
{
    conn->holds++;
}

void conn_release(struct server_conn *conn)
{
    if (--conn->holds > 0 || !conn->closed)
        return;
    kp_buf_done(&conn->in);
    h1_body_done(&conn->body);
    peer_unref(conn->peer);
    server_unref(conn->server);
    free(conn);
}

void conn_close(struct server_conn *conn)
{
    if (conn->closed)
        return;
    conn_hold(conn);
    struct http_server *server = conn->server;
    conn->closed = true;
    transport_close(conn->transport);
    conn->transport = NULL;
    while (conn->exchanges)
        exchange_over(conn->exchanges, false);
    if (conn->tunnel)
        tunnel_abort(conn->tunnel);
    if (conn->session)
        nghttp2_session_del(conn->session);
    conn->session = NULL;
    *conn->pprev = conn->next;
    if (conn->next)
        conn->next->pprev = conn->pprev;
    atomic_fetch_sub(&server->conn_count, 1);
    if (server->accept_paused && server->listener) {
        server->accept_paused = false;
        loop_listener_resume(server->listener);
    }
    pthread_mutex_lock(&server->mutex);
    pthread_cond_broadcast(&server->cond);
    pthread_mutex_unlock(&server->mutex);
    conn_release(conn);
}

void conn_linger(struct server_conn *conn)
{
    if (conn->closed || conn->phase == PHASE_LINGER)
        return;
    conn->phase = PHASE_LINGER;
    conn->deadline_ms = server_now_ms(conn->server) + LINGER_MS;
    kp_buf_done(&conn->in);
    transport_shutdown(conn->transport);
    if (conn->eof)
        conn->deadline_ms = transport_queued(conn->transport) ? conn->deadline_ms : 1;
    transport_resume(conn->transport);
}

void conn_tunnel_gone(void *arg)
{
    struct server_conn *conn = arg;
    conn->tunnel = NULL;
    conn_close(conn);
}

static void sniff(struct server_conn *conn, const uint8_t *data, size_t len)
{
    kp_buf_append(&conn->in, data, len);
    size_t n = KP_MIN(conn->in.len, (size_t)H2_PREFACE_LEN);
    if (memcmp(conn->in.data, H2_PREFACE, n) == 0 && n < H2_PREFACE_LEN)
        return;
    struct kp_buf in = conn->in;
    conn->in = (struct kp_buf){ 0 };
    if (n == H2_PREFACE_LEN && memcmp(in.data, H2_PREFACE, n) == 0) {
        if (h2_conn_start(conn) == 0)
            h2_conn_data(conn, (const uint8_t *)in.data, in.len);
    } else {
        h1_conn_start(conn);
        h1_conn_data(conn, (const uint8_t *)in.data, in.len);
    }
    kp_buf_done(&in);
}

static void on_ready(struct transport *transport, void *arg)
{
    struct server_conn *conn = arg;
    conn_hold(conn);
    conn->peer = transport_peer_identity(transport);
    if (!transport_is_tls(transport))
        conn->phase = PHASE_SNIFF;
    else if (transport_chose_h2(transport))
        h2_conn_start(conn);
    else
        h1_conn_start(conn);
    conn_release(conn);
}

static void on_read(struct transport *transport, const uint8_t *data, size_t len, void *arg)
{
    struct server_conn *conn = arg;
    (void)transport;
    conn_hold(conn);
    if (conn->phase == PHASE_SNIFF)
        sniff(conn, data, len);
    else if (conn->phase == PHASE_H2)
        h2_conn_data(conn, data, len);
    else if (conn->phase != PHASE_LINGER)
        h1_conn_data(conn, data, len);
    conn_release(conn);
}

static void on_eof(struct transport *transport, void *arg)
{
    struct server_conn *conn = arg;
    (void)transport;
    conn_hold(conn);
    conn->eof = true;
    if (conn->phase == PHASE_HEAD || conn->phase == PHASE_BODY || conn->phase == PHASE_BUSY)
        h1_conn_eof(conn);
    else
        conn_close(conn);
    conn_release(conn);
}

static void on_error(struct transport *transport, const struct kp_error *error, void *arg)
{
    (void)transport;
    (void)error; /* a client that broke off is no fault of ours; on_access sees the cancelled request */
    conn_close(arg);
}

static void on_drain(struct transport *transport, void *arg)
{
    struct server_conn *conn = arg;
    (void)transport;
    conn_hold(conn);
    if (conn->phase == PHASE_H2)
        h2_conn_send(conn);
    else if (conn->phase == PHASE_BODY || conn->phase == PHASE_BUSY)
        h1_conn_drain(conn);
    else if (conn->phase == PHASE_LINGER && conn->eof)
        conn_close(conn);
    conn_release(conn);
}

static void on_accept(struct loop_stream *stream, void *arg)
{
    static const struct transport_callbacks callbacks = { on_ready, on_read, on_eof, on_error, on_drain };
    struct http_server *server = arg;
    struct transport *transport = transport_new(stream, server->config.tls, true, NULL, ALPN_BOTH, NULL);
    if (!transport)
        return;
    struct server_conn *conn = kp_calloc(1, sizeof(*conn));
    conn->server = server;
    server_ref(server);
    conn->transport = transport;
    conn->phase = PHASE_HANDSHAKE;
    conn->deadline_ms = server_now_ms(server) + server->config.header_timeout_ms;
    conn->next = server->conns;
    conn->pprev = &server->conns;
    if (conn->next)
        conn->next->pprev = &conn->next;
    server->conns = conn;
    if (atomic_fetch_add(&server->conn_count, 1) + 1 >= server->config.connections_max) {
        server->accept_paused = true;
        loop_listener_pause(server->listener);
    }
    transport_set_callbacks(transport, &callbacks, conn);
    conn_hold(conn);
    transport_start(transport);
    conn_release(conn);
}

/* ---- timeouts ---- */

static void sweep_conn(struct server_conn *conn, int64_t now_ms)
{
    size_t queued = conn->transport ? transport_queued(conn->transport) : 0;
    if (queued != conn->last_queued || queued == 0) {
        conn->last_queued = queued;
        conn->last_progress_ms = now_ms;
    } else if (now_ms - conn->last_progress_ms > conn->server->config.write_timeout_ms) {
        conn_close(conn);
        return;
    }
    if (conn->phase == PHASE_H2)
        h2_conn_sweep(conn, now_ms);
    else if (conn->deadline_ms == 0 || now_ms < conn->deadline_ms)
        return;
    else if (conn->phase == PHASE_HEAD || conn->phase == PHASE_BODY)
        h1_conn_timeout(conn);
    else
        conn_close(conn);
}

static void on_sweep(void *arg)
{
    struct http_server *server = arg;
    int64_t now_ms = server_now_ms(server);
    for (struct server_conn *conn = server->conns, *next; conn; conn = next) {
        conn_hold(conn);
        sweep_conn(conn, now_ms);
        next = conn->next; /* closing a connection closes no other */
        conn_release(conn);
    }
}

/* ---- making, ending ---- */

static void set_defaults(struct http_server_config *c)
{
    c->header_bytes_max = c->header_bytes_max ? c->header_bytes_max : HTTP_HEADER_BYTES_MAX_DEFAULT;
    c->body_bytes_max = c->body_bytes_max ? c->body_bytes_max : HTTP_BODY_BYTES_MAX_DEFAULT;
    c->stream_queued_max = c->stream_queued_max ? c->stream_queued_max : HTTP_STREAM_QUEUED_MAX_DEFAULT;
    c->connections_max = c->connections_max ? c->connections_max : HTTP_CONNECTIONS_MAX_DEFAULT;
    c->streams_per_connection_max =
        c->streams_per_connection_max ? c->streams_per_connection_max : HTTP_STREAMS_PER_CONNECTION_MAX_DEFAULT;
    c->idle_timeout_ms = c->idle_timeout_ms ? c->idle_timeout_ms : 180000;
    c->header_timeout_ms = c->header_timeout_ms ? c->header_timeout_ms : 10000;
    c->body_timeout_ms = c->body_timeout_ms ? c->body_timeout_ms : 60000;
    c->write_timeout_ms = c->write_timeout_ms ? c->write_timeout_ms : 60000;
}

struct new_call {
    struct http_server *server;
    struct kp_error *error;
    int code;
};

static void do_listen(void *arg)
{
    struct new_call *call = arg;
    struct http_server *server = call->server;
    const struct http_server_config *c = &server->config;
    if (c->listen_fd > 0)
        call->code = loop_listen_fd(server->loop, c->listen_fd, on_accept, server, &server->listener, call->error);
    else if (c->unix_path)
        call->code = loop_listen_unix(server->loop, c->unix_path, c->unix_mode ? c->unix_mode : 0600, on_accept, server,
                                      &server->listener, call->error);
    else
        call->code = loop_listen_tcp(server->loop, c->host, c->port, on_accept, server, &server->listener, call->error);
    if (call->code < 0)
        return;
    server->port = loop_listener_port(server->listener);
    int64_t shortest = KP_MIN(KP_MIN(c->idle_timeout_ms, c->header_timeout_ms), KP_MIN(c->body_timeout_ms, c->write_timeout_ms));
    int64_t every = KP_MAX(KP_MIN(shortest / 4, SWEEP_MS_MAX), 5);
    server->sweep = loop_timer_new(server->loop, on_sweep, server);
    loop_timer_start(server->sweep, every, every);
}

int http_server_new(struct loop *loop, const struct http_server_config *config, struct http_server **ret_server,
                    struct kp_error *error)
{
    struct http_server *server = kp_calloc(1, sizeof(*server));
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&server->cond, &attr);
    pthread_condattr_destroy(&attr);
    pthread_mutex_init(&server->mutex, NULL);
    atomic_init(&server->refs, 1);
    server->config = *config;
    server->config.host = server->host = kp_strdup(config->host);
    server->config.unix_path = server->unix_path = kp_strdup(config->unix_path);
    set_defaults(&server->config);
    server->loop = loop;
    struct new_call call = { server, error, 0 };
    loop_call(loop, do_listen, &call);
    if (call.code < 0) {
        server_unref(server);
        return call.code;
    }
    *ret_server = server;
    return 0;
}

uint16_t http_server_port(const struct http_server *server)
{
    return server->port;
}

unsigned http_server_connections(struct http_server *server)
{
    return atomic_load(&server->conn_count);
}

struct tls_call {
    struct http_server *server;
    struct tls_context *tls;
};

static void do_set_tls(void *arg)
{
    struct tls_call *call = arg;
    call->server->config.tls = call->tls;
}

void http_server_set_tls(struct http_server *server, struct tls_context *tls)
{
    struct tls_call call = { server, tls };
    loop_call(server->loop, do_set_tls, &call);
}

static void stop_listening(struct http_server *server)
{
    server->stopping = true;
    loop_listener_free(server->listener);
    server->listener = NULL;
}

static void do_shutdown(void *arg)
{
    struct http_server *server = arg;
    stop_listening(server);
    for (struct server_conn *conn = server->conns, *next; conn; conn = next) {
        conn_hold(conn);
        if (conn->phase == PHASE_H2) {
            conn->ops->shutdown(conn);
        } else if (conn->phase == PHASE_HANDSHAKE || conn->phase == PHASE_SNIFF || (conn->phase == PHASE_HEAD && !conn->in.len)) {
            conn_close(conn);
        } else {
            conn->keep_alive = false;
        }
        next = conn->next;
        conn_release(conn);
    }
}

void http_server_shutdown(struct http_server *server, int64_t timeout_ms)
{
    loop_call(server->loop, do_shutdown, server);
    int64_t until_ns = kp_mono_ns() + timeout_ms * 1000000;
    struct timespec until = { .tv_sec = until_ns / 1000000000, .tv_nsec = until_ns % 1000000000 };
    pthread_mutex_lock(&server->mutex);
    int status = 0;
    while (atomic_load(&server->conn_count) > 0 && status == 0)
        status = pthread_cond_timedwait(&server->cond, &server->mutex, &until);
    pthread_mutex_unlock(&server->mutex);
}

static void do_close(void *arg)
{
    struct http_server *server = arg;
    stop_listening(server);
    while (server->conns)
        conn_close(server->conns);
    loop_timer_free(server->sweep);
    server->sweep = NULL;
}

void http_server_free(struct http_server *server)
{
    if (!server)
        return;
    loop_call(server->loop, do_close, server);
    pthread_mutex_lock(&server->mutex);
    while (server->jobs > 0)
        pthread_cond_wait(&server->cond, &server->mutex);
    pthread_mutex_unlock(&server->mutex);
    server_unref(server);
}
