/* WebSocket connections: the handshake on both sides, and messages over a tunnel. */
#include "lib/http/http_internal.h"

#include <strings.h>

#define CLOSE_WAIT_MS 5000 /* for the peer's answer to our close frame */
#define WS_NO_CODE 1005
#define WS_BROKEN 1006

/* References: the users' count; ws_start holds one until on_close. */
struct ws {
    atomic_int refs;
    bool server;
    struct http_tunnel *tunnel;
    struct ws_parser *parser;
    struct ws_callbacks callbacks;
    void *arg;
    pthread_mutex_t mutex;
    bool close_sent; /* guarded */
    int our_code;    /* guarded: of the close frame we sent */
    bool started;
    /* loop thread */
    bool close_received;
    int peer_code;
    struct loop_timer *timer;
};

static int on_frame(enum ws_opcode opcode, const uint8_t *data, size_t len, void *arg);

static struct ws *ws_new(struct http_tunnel *tunnel, bool server)
{
    struct ws *ws = kp_calloc(1, sizeof(*ws));
    struct ws_parser_config config = { .server = server, .on_message = on_frame, .arg = ws };
    atomic_init(&ws->refs, 1);
    ws->server = server;
    ws->tunnel = tunnel;
    ws->parser = ws_parser_new(&config);
    pthread_mutex_init(&ws->mutex, NULL);
    return ws;
}

struct ws *ws_ref(struct ws *ws)
{
    atomic_fetch_add(&ws->refs, 1);
    return ws;
}

void ws_unref(struct ws *ws)
{
    if (!ws || atomic_fetch_sub(&ws->refs, 1) > 1)
        return;
    http_tunnel_unref(ws->tunnel);
    ws_parser_free(ws->parser);
    pthread_mutex_destroy(&ws->mutex);
    free(ws);
}

static int send_frame(struct ws *ws, enum ws_opcode opcode, const void *data, size_t len)
{
    KP_AUTO_BUF struct kp_buf frame = { 0 };
    ws_frame_append(&frame, opcode, data, len, !ws->server);
    return http_tunnel_write(ws->tunnel, frame.data, frame.len);
}

/* True when this call sent it: only one close frame goes out. */
static bool send_close(struct ws *ws, int close_code, const char *reason)
{
    uint8_t payload[125] = { (uint8_t)(close_code >> 8), (uint8_t)close_code };
    size_t reason_len = reason ? KP_MIN(strlen(reason), sizeof(payload) - 2) : 0;
    memcpy(payload + 2, reason ? reason : "", reason_len);
    pthread_mutex_lock(&ws->mutex);
    bool first = !ws->close_sent;
    if (first) {
        ws->close_sent = true;
        ws->our_code = close_code;
        send_frame(ws, WS_CLOSE, payload, close_code == WS_NO_CODE ? 0 : 2 + reason_len);
    }
    pthread_mutex_unlock(&ws->mutex);
    return first;
}

static int on_frame(enum ws_opcode opcode, const uint8_t *data, size_t len, void *arg)
{
    struct ws *ws = arg;
    switch (opcode) {
    case WS_PING:
        pthread_mutex_lock(&ws->mutex);
        if (!ws->close_sent)
            send_frame(ws, WS_PONG, data, len);
        pthread_mutex_unlock(&ws->mutex);
        break;
    case WS_CLOSE:
        ws->close_received = true;
        ws->peer_code = len >= 2 ? data[0] << 8 | data[1] : WS_NO_CODE;
        send_close(ws, ws->peer_code, NULL);
        http_tunnel_close(ws->tunnel);
        break;
    case WS_TEXT:
    case WS_BINARY:
        ws->callbacks.on_message(ws, opcode, data, len, ws->arg);
        break;
    default: /* an answer to a ping of ours */
        break;
    }
    return 0;
}

static void on_data(struct http_tunnel *tunnel, const uint8_t *data, size_t len, void *arg)
{
    struct ws *ws = arg;
    int close_code;
    ws_ref(ws);
    if (!ws->close_received && ws_parser_feed(ws->parser, data, len, &close_code) < 0) {
        send_close(ws, close_code, NULL);
        http_tunnel_close(tunnel);
    }
    ws_unref(ws);
}

static void on_eof(struct http_tunnel *tunnel, void *arg)
{
    (void)arg;
    http_tunnel_close(tunnel); /* a WebSocket has no half-closed state */
}

static void on_drain(struct http_tunnel *tunnel, void *arg)
{
    struct ws *ws = arg;
    (void)tunnel;
    if (ws->callbacks.on_drain)
        ws->callbacks.on_drain(ws, ws->arg);
}

static void on_tunnel_close(struct http_tunnel *tunnel, void *arg)
{
    struct ws *ws = arg;
    (void)tunnel;
    loop_timer_free(ws->timer);
    ws->timer = NULL;
    ws->callbacks.on_close(ws, ws->close_received ? ws->peer_code : WS_BROKEN, ws->arg);
    ws_unref(ws);
}

void ws_start(struct ws *ws, const struct ws_callbacks *callbacks, void *arg)
{
    static const struct http_tunnel_callbacks tunnel_callbacks = { on_data, on_eof, on_drain, on_tunnel_close };
    KP_ASSERT(!ws->started);
    ws->started = true;
    ws->callbacks = *callbacks;
    ws->arg = arg;
    ws_ref(ws);
    http_tunnel_start(ws->tunnel, &tunnel_callbacks, ws);
}

int ws_send(struct ws *ws, enum ws_opcode opcode, const void *data, size_t len)
{
    pthread_mutex_lock(&ws->mutex);
    int code = ws->close_sent ? KP_ECANCELLED : send_frame(ws, opcode, data, len);
    pthread_mutex_unlock(&ws->mutex);
    return code;
}

size_t ws_queued(struct ws *ws)
{
    return http_tunnel_queued(ws->tunnel);
}

void ws_pause(struct ws *ws)
{
    http_tunnel_pause(ws->tunnel);
}

void ws_resume(struct ws *ws)
{
    http_tunnel_resume(ws->tunnel);
}

static void waited_long_enough(void *arg)
{
    struct ws *ws = arg;
    http_tunnel_close(ws->tunnel);
}

static void drop(void *arg)
{
    ws_unref(arg);
}

static void await_answer(void *arg)
{
    struct ws *ws = arg;
    if (!ws->close_received && !ws->timer && tunnel_is_open(ws->tunnel)) {
        ws->timer = loop_timer_new(tunnel_loop(ws->tunnel), waited_long_enough, ws);
        loop_timer_start(ws->timer, CLOSE_WAIT_MS, 0);
    }
    ws_unref(ws);
}

void ws_close(struct ws *ws, int close_code, const char *reason)
{
    if (!send_close(ws, close_code, reason))
        return;
    if (ws->started)
        tunnel_post(ws->tunnel, await_answer, ws_ref(ws), drop);
    else
        http_tunnel_close(ws->tunnel); /* nobody reads the answer */
}

/* ---- handshake ---- */

bool ws_is_upgrade(const struct http_request *req)
{
    const char *key = http_request_header(req, "sec-websocket-key"), *version = http_request_header(req, "sec-websocket-version");
    return kp_streq(req->method, "GET") && http_header_has_token(req->headers, req->header_count, "upgrade", "websocket") && key &&
           strlen(key) == 24 && version && kp_streq(version, "13");
}

const char *ws_select_protocol(const struct http_request *req, const char *const *protocols)
{
    for (; *protocols; protocols++)
        if (http_header_has_token(req->headers, req->header_count, "sec-websocket-protocol", *protocols))
            return *protocols;
    return NULL;
}

struct ws *ws_accept(struct http_request *req, const char *protocol)
{
    char accept[WS_ACCEPT_BYTES];
    if (!ws_is_upgrade(req))
        return NULL;
    ws_accept_key(http_request_header(req, "sec-websocket-key"), accept);
    struct http_header headers[] = { { "Upgrade", "websocket" }, { "Sec-WebSocket-Accept", accept }, { "Sec-WebSocket-Protocol", protocol } };
    struct http_tunnel *tunnel = http_upgrade(req, headers, protocol ? 3 : 2);
    return tunnel ? ws_new(tunnel, true) : NULL;
}

int ws_connect(struct http_client *client, const struct http_client_request *request, const char *const *protocols,
               struct kp_arena *arena, struct http_response *ret_response, const char **ret_protocol, struct ws **ret_ws,
               struct kp_error *error)
{
    uint8_t nonce[16];
    char accept[WS_ACCEPT_BYTES];
    KP_AUTO_BUF struct kp_buf key = { 0 };
    KP_AUTO_BUF struct kp_buf offers = { 0 };
    kp_random_bytes(nonce, sizeof(nonce));
    kp_base64_encode(&key, nonce, sizeof(nonce));
    for (size_t i = 0; protocols && protocols[i]; i++)
        kp_buf_printf(&offers, "%s%s", i ? ", " : "", protocols[i]);
    struct http_client_request copy = *request;
    struct http_header *headers = KP_NEW_ARRAY(arena, struct http_header, request->header_count + 4);
    memcpy(headers, request->headers ? request->headers : headers, request->header_count * sizeof(*headers));
    copy.header_count = request->header_count;
    headers[copy.header_count++] = (struct http_header){ "Upgrade", "websocket" };
    headers[copy.header_count++] = (struct http_header){ "Sec-WebSocket-Version", "13" };
    headers[copy.header_count++] = (struct http_header){ "Sec-WebSocket-Key", key.data };
    if (offers.len)
        headers[copy.header_count++] = (struct http_header){ "Sec-WebSocket-Protocol", offers.data };
    copy.headers = headers;
    copy.method = "GET";
    KP_AUTO(http_tunnel_unref) struct http_tunnel *tunnel = NULL;
    int code = http_client_upgrade(client, &copy, arena, ret_response, &tunnel, error);
    if (code < 0)
        return code;
    if (!tunnel)
        return kp_fail(error, KP_EUNAVAILABLE, "WebSocket %s: the server answered %d", request->path, ret_response->status);
    ws_accept_key(key.data, accept);
    const char *given = http_response_header(ret_response, "sec-websocket-accept");
    const char *chosen = http_response_header(ret_response, "sec-websocket-protocol");
    bool offered = !chosen;
    for (size_t i = 0; chosen && protocols && protocols[i]; i++)
        offered = offered || strcmp(chosen, protocols[i]) == 0;
    if (!given || strcmp(given, accept) != 0 || !offered)
        return kp_fail(error, KP_EBADREQUEST, "WebSocket %s: the server's handshake is wrong", request->path);
    if (ret_protocol)
        *ret_protocol = chosen;
    *ret_ws = ws_new(KP_TAKE(tunnel), false);
    return 0;
}
