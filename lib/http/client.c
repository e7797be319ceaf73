/* The client's connections: endpoints with failover, one multiplexed HTTP/2 connection or a pool of HTTP/1.1 ones each.

   Not libcurl (which lib/cloud uses): many watches stream at once over one HTTP/2 connection and into callbacks of the
   program's own loop, with our TLS contexts and a few KB a call. */
#include "lib/base/version.h"
#include "lib/http/client_internal.h"
#include "lib/tls/tls.h"

#define SWEEP_MS_MAX 1000

static void ensure_conn(struct client_endpoint *endpoint, struct http_client *client);

void client_ref(struct http_client *client)
{
    atomic_fetch_add(&client->refs, 1);
}

void client_unref(struct http_client *client)
{
    if (atomic_fetch_sub(&client->refs, 1) > 1)
        return;
    tls_context_unref(client->config.tls);
    kp_arena_free(client->arena);
    free(client);
}

int64_t client_now_ms(const struct http_client *client)
{
    return loop_now_ms(client->loop);
}

/* ---- connections ---- */

void cconn_hold(struct client_conn *conn)
{
    conn->holds++;
}

void cconn_release(struct client_conn *conn)
{
    if (--conn->holds > 0 || !conn->closed)
        return;
    kp_buf_done(&conn->in);
    h1_body_done(&conn->body);
    client_unref(conn->client);
    free(conn);
}

void cconn_close(struct client_conn *conn)
{
    if (conn->closed)
        return;
    cconn_hold(conn);
    conn->closed = true;
    if (conn->connect)
        loop_connect_cancel(conn->connect);
    conn->connect = NULL;
    transport_close(conn->transport);
    conn->transport = NULL;
    KP_ASSERT(!conn->calls);
    if (conn->session && !conn->receiving)
        nghttp2_session_del(conn->session);
    if (!conn->receiving)
        conn->session = NULL;
    *conn->pprev = conn->next;
    if (conn->next)
        conn->next->pprev = conn->pprev;
    conn->endpoint->conn_count--;
    if (!conn->client->closing)
        ensure_conn(conn->endpoint, conn->client);
    cconn_release(conn);
}

/* No connection could be made: those that wait for one go elsewhere, unless others still serve them. */
static void endpoint_failed(struct client_conn *conn, const struct kp_error *error)
{
    struct client_endpoint *endpoint = conn->endpoint;
    endpoint->down_until_ms = client_now_ms(conn->client) + conn->client->config.endpoint_backoff_ms;
    for (struct client_conn *other = endpoint->conns; other; other = other->next)
        if (other != conn && other->ready && !other->draining)
            return;
    struct http_call *call = endpoint->waiting;
    endpoint->waiting = NULL;
    endpoint->waiting_tail = &endpoint->waiting;
    while (call) {
        struct http_call *next = call->wait_next;
        call->wait_next = NULL;
        call->state = CALL_IDLE;
        call_retry(call, RETRY_UNREACHED, error);
        call = next;
    }
}

void cconn_fail(struct client_conn *conn, const struct kp_error *error)
{
    if (conn->closed)
        return;
    cconn_hold(conn);
    struct kp_error copy = *error;
    struct http_call *dedicated = conn->dedicated;
    conn->dedicated = NULL;
    conn->draining = true; /* nothing new comes here */
    if (!conn->ready && dedicated)
        conn->endpoint->down_until_ms = client_now_ms(conn->client) + conn->client->config.endpoint_backoff_ms;
    else if (!conn->ready)
        endpoint_failed(conn, &copy);
    while (conn->calls) {
        struct http_call *call = conn->calls;
        bool again = call_may_retry_stale(call);
        cconn_detach(call);
        if (again)
            call_retry(call, RETRY_STALE, &copy);
        else
            call_end(call, &copy);
    }
    cconn_close(conn);
    if (dedicated) {
        dedicated->conn = NULL;
        dedicated->state = CALL_IDLE;
        call_retry(dedicated, RETRY_UNREACHED, &copy);
    }
    cconn_release(conn);
}

void cconn_attach(struct client_conn *conn, struct http_call *call)
{
    call->state = CALL_ACTIVE;
    call->conn = conn;
    call->conn_next = conn->calls;
    call->conn_pprev = &conn->calls;
    if (call->conn_next)
        call->conn_next->conn_pprev = &call->conn_next;
    conn->calls = call;
    conn->call_count++;
    cconn_hold(conn);
    if (conn->is_h2)
        ch2_start(conn, call);
    else
        ch1_start(conn, call);
    cconn_release(conn);
}

void cconn_detach(struct http_call *call)
{
    struct client_conn *conn = call->conn;
    if (!conn || call->state != CALL_ACTIVE)
        return;
    *call->conn_pprev = call->conn_next;
    if (call->conn_next)
        call->conn_next->conn_pprev = call->conn_pprev;
    if (conn->session && call->h2_open)
        nghttp2_session_set_stream_user_data(conn->session, call->h2_id, NULL);
    call->h2_open = false;
    conn->call_count--;
    conn->calls_done++;
    conn->idle_since_ms = client_now_ms(conn->client);
    call->conn = NULL;
    call->state = CALL_IDLE;
}

static bool has_room(const struct client_conn *conn)
{
    if (conn->closed || !conn->ready || conn->draining || conn->dedicated)
        return false;
    return conn->is_h2 ? ch2_has_room(conn) : conn->call_count == 0;
}

static void serve_waiting(struct client_endpoint *endpoint, struct client_conn *conn)
{
    while (endpoint->waiting && has_room(conn)) {
        struct http_call *call = endpoint->waiting;
        client_unwait(call);
        cconn_attach(conn, call);
    }
}

void cconn_idle(struct client_conn *conn)
{
    if (conn->closed)
        return;
    cconn_hold(conn);
    serve_waiting(conn->endpoint, conn);
    if (!conn->closed && conn->draining && conn->call_count == 0)
        cconn_close(conn);
    cconn_release(conn);
}

static void conn_ready(struct client_conn *conn)
{
    struct http_client *client = conn->client;
    struct kp_error error = { 0 };
    conn->ready = true;
    conn->deadline_ms = 0;
    conn->idle_since_ms = conn->last_received_ms = client_now_ms(client);
    client->current = conn->endpoint->index;
    conn->endpoint->down_until_ms = 0;
    bool tls = transport_is_tls(conn->transport);
    conn->is_h2 = !conn->dedicated && (tls ? transport_chose_h2(conn->transport) : client->config.protocol == HTTP_CLIENT_H2);
    if (!conn->is_h2 && !conn->dedicated && client->config.protocol == HTTP_CLIENT_H2) {
        conn->ready = false;
        kp_fail(&error, KP_EUNAVAILABLE, "%s does not speak HTTP/2 (no \"h2\" by ALPN)", conn->endpoint->authority);
        cconn_fail(conn, &error);
        return;
    }
    if (conn->is_h2)
        ch2_open(conn);
    if (conn->closed)
        return;
    if (conn->dedicated) {
        struct http_call *call = conn->dedicated;
        conn->dedicated = NULL;
        conn->draining = true; /* serves this call only */
        cconn_attach(conn, call);
        return;
    }
    conn->endpoint->learned = conn->is_h2 ? LEARNED_H2 : LEARNED_H1;
    serve_waiting(conn->endpoint, conn);
    ensure_conn(conn->endpoint, client);
}

static void on_ready(struct transport *transport, void *arg)
{
    (void)transport;
    cconn_hold(arg);
    conn_ready(arg);
    cconn_release(arg);
}

static void on_read(struct transport *transport, const uint8_t *data, size_t len, void *arg)
{
    struct client_conn *conn = arg;
    (void)transport;
    cconn_hold(conn);
    conn->last_received_ms = client_now_ms(conn->client);
    if (conn->is_h2)
        ch2_data(conn, data, len);
    else
        ch1_data(conn, data, len);
    cconn_release(conn);
}

static void on_eof(struct transport *transport, void *arg)
{
    struct client_conn *conn = arg;
    cconn_hold(conn);
    if (conn->is_h2 || !conn->ready) {
        struct kp_error error = { 0 };
        kp_fail(&error, KP_EIO, "%s closed the connection", transport_peer(transport));
        cconn_fail(conn, &error);
    } else {
        ch1_eof(conn);
    }
    cconn_release(conn);
}

static void on_error(struct transport *transport, const struct kp_error *error, void *arg)
{
    (void)transport;
    cconn_fail(arg, error);
}

static void on_drain(struct transport *transport, void *arg)
{
    struct client_conn *conn = arg;
    (void)transport;
    cconn_hold(conn);
    if (conn->is_h2)
        ch2_send(conn);
    else if (conn->calls)
        ch1_flush(conn, conn->calls);
    cconn_release(conn);
}

static void on_connect(struct loop_stream *stream, const struct kp_error *error, void *arg)
{
    static const struct transport_callbacks callbacks = { on_ready, on_read, on_eof, on_error, on_drain };
    struct client_conn *conn = arg;
    struct http_client *client = conn->client;
    struct kp_error failure = { 0 };
    conn->connect = NULL;
    cconn_hold(conn);
    if (!stream) {
        cconn_fail(conn, error);
        cconn_release(conn);
        return;
    }
    bool tls = kp_streq(conn->endpoint->url.scheme, "https");
    enum transport_alpn alpn = conn->dedicated || client->config.protocol == HTTP_CLIENT_H1 ? ALPN_H1
                               : client->config.protocol == HTTP_CLIENT_H2                  ? ALPN_H2
                                                                                            : ALPN_BOTH;
    const char *name = client->config.tls_server_name ? client->config.tls_server_name : conn->endpoint->url.host;
    conn->transport = transport_new(stream, tls ? client->config.tls : NULL, false, name, alpn, &failure);
    if (conn->transport) {
        transport_set_callbacks(conn->transport, &callbacks, conn);
        transport_start(conn->transport);
    } else {
        cconn_fail(conn, &failure);
    }
    cconn_release(conn);
}

static void open_conn(struct http_client *client, struct client_endpoint *endpoint, struct http_call *dedicated)
{
    struct client_conn *conn = kp_calloc(1, sizeof(*conn));
    conn->client = client;
    client_ref(client);
    conn->endpoint = endpoint;
    conn->next = endpoint->conns;
    conn->pprev = &endpoint->conns;
    if (conn->next)
        conn->next->pprev = &conn->next;
    endpoint->conns = conn;
    endpoint->conn_count++;
    conn->dedicated = dedicated;
    if (dedicated)
        dedicated->conn = conn;
    conn->keep_alive = true;
    int64_t timeout_ms = client->config.connect_timeout_ms;
    conn->deadline_ms = kp_mono_ms() + timeout_ms;
    if (kp_streq(endpoint->url.scheme, "unix"))
        conn->connect = loop_connect_unix(client->loop, endpoint->url.path, timeout_ms, on_connect, conn);
    else
        conn->connect = loop_connect_tcp(client->loop, endpoint->url.host, endpoint->url.port, timeout_ms, on_connect, conn);
}

/* Opens what those that wait need: one connection while the protocol is unknown or HTTP/2, else up to one each. */
static void ensure_conn(struct client_endpoint *endpoint, struct http_client *client)
{
    unsigned waiting = 0, connecting = 0, pooled = 0;
    for (struct http_call *call = endpoint->waiting; call; call = call->wait_next)
        waiting++;
    for (struct client_conn *conn = endpoint->conns; conn; conn = conn->next) {
        bool pools = !conn->dedicated && (!conn->draining || !conn->ready);
        connecting += pools && !conn->ready;
        pooled += pools;
    }
    bool one = endpoint->learned == LEARNED_H2 || (endpoint->learned == LEARNED_NOTHING && client->config.protocol != HTTP_CLIENT_H1);
    unsigned want = one ? KP_MIN(waiting, 1u) : waiting;
    while (connecting < want && (one || pooled < client->config.connections_max)) {
        open_conn(client, endpoint, NULL);
        connecting++;
        pooled++;
    }
}

/* ---- choosing ---- */

void client_unwait(struct http_call *call)
{
    struct client_endpoint *endpoint = call->endpoint;
    struct http_call **at = &endpoint->waiting;
    while (*at && *at != call)
        at = &(*at)->wait_next;
    if (!*at)
        return;
    *at = call->wait_next;
    if (!call->wait_next)
        endpoint->waiting_tail = at;
    call->wait_next = NULL;
    call->state = CALL_IDLE;
}

static struct client_endpoint *pick(struct http_client *client, const struct http_call *call)
{
    struct client_endpoint *fallback = NULL;
    int64_t now_ms = client_now_ms(client);
    for (size_t i = 0; i < client->endpoint_count; i++) {
        struct client_endpoint *endpoint = &client->endpoints[(client->current + i) % client->endpoint_count];
        if (call->tried & UINT64_C(1) << endpoint->index)
            continue;
        if (endpoint->down_until_ms <= now_ms)
            return endpoint;
        if (!fallback)
            fallback = endpoint;
    }
    return fallback;
}

void client_assign(struct http_call *call)
{
    struct http_client *client = call->client;
    struct client_endpoint *endpoint = pick(client, call);
    KP_ASSERT(endpoint && call->state == CALL_IDLE);
    call->endpoint = endpoint;
    if (call->upgrade) {
        call->state = CALL_WAITING;
        open_conn(client, endpoint, call);
        return;
    }
    for (struct client_conn *conn = endpoint->conns; conn; conn = conn->next) {
        if (!has_room(conn))
            continue;
        cconn_attach(conn, call);
        return;
    }
    call->state = CALL_WAITING;
    *endpoint->waiting_tail = call;
    endpoint->waiting_tail = &call->wait_next;
    ensure_conn(endpoint, client);
}

/* ---- upkeep ---- */

static void sweep_conn(struct client_conn *conn, int64_t now_ms)
{
    struct http_client *client = conn->client;
    struct kp_error error = { 0 };
    if (!conn->ready && conn->deadline_ms && now_ms > conn->deadline_ms) {
        kp_fail(&error, KP_ETIMEOUT, "TLS handshake with %s took too long", conn->endpoint->authority);
        cconn_fail(conn, &error);
    } else if (conn->ready && conn->call_count == 0 && now_ms - conn->idle_since_ms > client->config.idle_timeout_ms) {
        cconn_close(conn);
    } else if (conn->is_h2 && conn->call_count > 0 && client->config.ping_interval_ms > 0) {
        ch2_ping(conn, now_ms);
    }
}

static void on_sweep(void *arg)
{
    struct http_client *client = arg;
    int64_t now_ms = client_now_ms(client);
    for (size_t i = 0; i < client->endpoint_count; i++) {
        /* Failing a connection may open others (put in front) but ends no other: next stays valid. */
        for (struct client_conn *conn = client->endpoints[i].conns, *next; conn; conn = next) {
            next = conn->next;
            cconn_hold(conn);
            sweep_conn(conn, now_ms);
            cconn_release(conn);
        }
    }
}

static void set_defaults(struct http_client_config *c)
{
    c->connections_max = c->connections_max ? c->connections_max : 64;
    c->body_bytes_max = c->body_bytes_max ? c->body_bytes_max : (size_t)256 << 20;
    c->connect_timeout_ms = c->connect_timeout_ms ? c->connect_timeout_ms : 10000;
    c->idle_timeout_ms = c->idle_timeout_ms ? c->idle_timeout_ms : 90000;
    c->ping_interval_ms = c->ping_interval_ms ? c->ping_interval_ms : 30000;
    c->ping_timeout_ms = c->ping_timeout_ms ? c->ping_timeout_ms : 15000;
    c->endpoint_backoff_ms = c->endpoint_backoff_ms ? c->endpoint_backoff_ms : 1000;
}

static void begin_sweep(void *arg)
{
    struct http_client *client = arg;
    const struct http_client_config *c = &client->config;
    int64_t shortest = KP_MIN(KP_MIN(c->idle_timeout_ms, c->connect_timeout_ms), c->ping_timeout_ms);
    if (c->ping_interval_ms > 0)
        shortest = KP_MIN(shortest, c->ping_interval_ms);
    int64_t every = KP_MAX(KP_MIN(shortest / 4, SWEEP_MS_MAX), 5);
    client->sweep = loop_timer_new(client->loop, on_sweep, client);
    loop_timer_start(client->sweep, every, every);
}

static int parse_endpoint(struct http_client *client, size_t index, const char *text, struct kp_error *error)
{
    struct client_endpoint *endpoint = &client->endpoints[index];
    if (http_url_parse(text, client->arena, &endpoint->url, error) < 0)
        return kp_wrap(error, "endpoint %zu", index);
    if (kp_streq(endpoint->url.scheme, "https") && !client->config.tls)
        return kp_fail(error, KP_EINVALID, "endpoint %s needs a TLS configuration", text);
    const struct http_url *url = &endpoint->url;
    bool default_port = (kp_streq(url->scheme, "https") && url->port == 443) || (kp_streq(url->scheme, "http") && url->port == 80);
    const char *host = strchr(url->host, ':') ? kp_arena_printf(client->arena, "[%s]", url->host) : url->host;
    endpoint->authority = url->port && !default_port ? kp_arena_printf(client->arena, "%s:%u", host, url->port)
                                                     : kp_arena_strdup(client->arena, host);
    endpoint->index = (unsigned)index;
    endpoint->waiting_tail = &endpoint->waiting;
    return 0;
}

int http_client_new(struct loop *loop, const struct http_client_config *config, struct http_client **ret_client,
                    struct kp_error *error)
{
    if (config->endpoint_count == 0 || config->endpoint_count > CLIENT_ENDPOINTS_MAX)
        return kp_fail(error, KP_EINVALID, "an HTTP client needs 1 to %d endpoints", CLIENT_ENDPOINTS_MAX);
    struct http_client *client = kp_calloc(1, sizeof(*client));
    atomic_init(&client->refs, 1);
    client->loop = loop;
    client->config = *config;
    if (client->config.tls)
        tls_context_ref(client->config.tls);
    client->arena = kp_arena_new(0);
    client->config.tls_server_name = kp_arena_strdup(client->arena, config->tls_server_name);
    client->user_agent = config->user_agent ? kp_arena_strdup(client->arena, config->user_agent) : kp_arena_printf(client->arena, "kprov/%s", kp_version);
    set_defaults(&client->config);
    client->endpoint_count = config->endpoint_count;
    client->endpoints = KP_NEW_ARRAY(client->arena, struct client_endpoint, config->endpoint_count);
    for (size_t i = 0; i < config->endpoint_count; i++) {
        int code = parse_endpoint(client, i, config->endpoints[i], error);
        if (code < 0) {
            client_unref(client);
            return code;
        }
    }
    client->config.endpoints = NULL; /* was borrowed */
    loop_call(loop, begin_sweep, client);
    *ret_client = client;
    return 0;
}

struct tls_call {
    struct http_client *client;
    struct tls_context *tls;
};

static void do_set_tls(void *arg)
{
    struct tls_call *call = arg;
    struct http_client *client = call->client;
    tls_context_unref(client->config.tls);
    client->config.tls = call->tls ? tls_context_ref(call->tls) : NULL;
    for (size_t i = 0; i < client->endpoint_count; i++) {
        for (struct client_conn *conn = client->endpoints[i].conns, *next; conn; conn = next) {
            next = conn->next;
            if (!conn->ready)
                continue;
            conn->draining = true;
            cconn_idle(conn);
        }
    }
}

void http_client_set_tls(struct http_client *client, struct tls_context *tls)
{
    struct tls_call call = { client, tls };
    loop_call(client->loop, do_set_tls, &call);
}

struct break_call {
    struct http_client *client;
    const char *reason;
};

static void do_break(void *arg)
{
    struct break_call *call = arg;
    struct http_client *client = call->client;
    struct kp_error error = { 0 };
    kp_fail(&error, KP_EUNAVAILABLE, "%s", call->reason);
    for (size_t i = 0; i < client->endpoint_count; i++) {
        /* Failing one may open others (put in front) but ends no other, as in on_sweep. */
        for (struct client_conn *conn = client->endpoints[i].conns, *next; conn; conn = next) {
            cconn_hold(conn);
            cconn_fail(conn, &error);
            next = conn->next;
            cconn_release(conn);
        }
    }
}

void http_client_break(struct http_client *client, const char *reason)
{
    struct break_call call = { client, reason };
    loop_call(client->loop, do_break, &call);
}

static void do_close(void *arg)
{
    struct http_client *client = arg;
    struct kp_error error = { 0 };
    kp_fail(&error, KP_ECANCELLED, "the HTTP client is being closed");
    client->closing = true;
    while (client->calls)
        call_end(client->calls, &error);
    for (size_t i = 0; i < client->endpoint_count; i++)
        while (client->endpoints[i].conns)
            cconn_close(client->endpoints[i].conns);
    loop_timer_free(client->sweep);
}

void http_client_free(struct http_client *client)
{
    if (!client)
        return;
    loop_call(client->loop, do_close, client);
    client_unref(client);
}
