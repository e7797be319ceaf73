/* Upgrades, splicing, and WebSockets over both. */
#include <stdatomic.h>

#include "http_test.h"

struct rig {
    struct fixture *back, *front;
    struct http_client *to_back, *to_front;
    _Atomic int spliced;
};

static void echo_data(struct http_tunnel *tunnel, const uint8_t *data, size_t len, void *arg)
{
    (void)arg;
    http_tunnel_write(tunnel, data, len);
    if (http_tunnel_queued(tunnel) > 1 << 20)
        http_tunnel_pause(tunnel);
}

static void echo_eof(struct http_tunnel *tunnel, void *arg)
{
    (void)arg;
    http_tunnel_half_close(tunnel);
}

static void echo_drain(struct http_tunnel *tunnel, void *arg)
{
    (void)arg;
    http_tunnel_resume(tunnel);
}

static const struct http_tunnel_callbacks echo_callbacks = { echo_data, echo_eof, echo_drain, NULL };

static void ws_echo(struct ws *ws, enum ws_opcode opcode, const uint8_t *data, size_t len, void *arg)
{
    (void)arg;
    if (len == 4 && memcmp(data, "quit", 4) == 0)
        ws_close(ws, 4001, "as asked");
    else
        ws_send(ws, opcode, data, len);
}

static void ws_closed(struct ws *ws, int code, void *arg)
{
    (void)ws;
    struct fixture *f = arg;
    f->last_status = code;
}

static void back_handler(struct http_request *req, void *arg)
{
    static const struct http_header upgrade[] = { { "Upgrade", "SPDY/3.1" }, { "X-Stream-Protocol-Version", "v4" } };
    static const char *const protocols[] = { "v5.channel.k8s.io", "v4.channel.k8s.io", NULL };
    if (ws_is_upgrade(req)) {
        static const struct ws_callbacks callbacks = { ws_echo, NULL, ws_closed };
        struct ws *ws = ws_accept(req, ws_select_protocol(req, protocols));
        if (ws)
            ws_start(ws, &callbacks, arg);
        ws_unref(ws);
        return;
    }
    struct http_tunnel *tunnel = kp_streq(req->path, "/up") ? http_upgrade(req, upgrade, 2) : NULL;
    if (!tunnel) {
        http_respond(req, 400, NULL, 0, "no upgrade", 10);
        return;
    }
    http_tunnel_start(tunnel, &echo_callbacks, NULL);
    http_tunnel_unref(tunnel);
}

static struct rig *current;

static void splice_done(void *arg)
{
    struct rig *rig = arg;
    rig->spliced++;
}

/* A proxy: forwards the upgrade as it is and joins both ends. */
static void front_handler(struct http_request *req, void *arg)
{
    struct http_client_request request = { .method = req->method, .path = req->raw_path, .headers = req->headers, .header_count = req->header_count };
    struct http_response response;
    struct kp_error error = { 0 };
    struct http_tunnel *back;
    (void)arg;
    if (http_client_upgrade(current->to_back, &request, req->arena, &response, &back, &error) < 0) {
        http_respond(req, 502, NULL, 0, error.message, strlen(error.message));
        return;
    }
    struct http_tunnel *front = back ? http_upgrade(req, response.headers, response.header_count) : NULL;
    if (front)
        http_tunnel_splice(front, back, splice_done, current);
    else
        http_respond(req, response.status, NULL, 0, response.body.data, response.body.len);
    http_tunnel_unref(front);
    http_tunnel_unref(back);
}

static struct http_client *client_for(struct fixture *to, struct loop *loop)
{
    char url[64];
    struct http_client *client;
    snprintf(url, sizeof(url), "http://127.0.0.1:%u", http_server_port(to->server));
    const char *endpoints[] = { url };
    struct http_client_config config = { .endpoints = endpoints, .endpoint_count = 1 };
    assert_int_equal(http_client_new(loop, &config, &client, NULL), 0);
    return client;
}

static int setup(void **state)
{
    struct rig *rig = kp_calloc(1, sizeof(*rig));
    struct http_server_config back = { .handler = back_handler }, front = { .handler = front_handler };
    rig->back = fixture_new(&back);
    rig->front = fixture_new(&front);
    rig->to_back = client_for(rig->back, rig->front->loop);
    rig->to_front = client_for(rig->front, rig->back->loop);
    current = rig;
    *state = rig;
    return 0;
}

static int teardown(void **state)
{
    struct rig *rig = *state;
    http_client_free(rig->to_back);
    http_client_free(rig->to_front);
    http_server_shutdown(rig->front->server, 1000);
    http_server_shutdown(rig->back->server, 1000);
    fixture_free(rig->front);
    fixture_free(rig->back);
    free(rig);
    return 0;
}

static void an_upgrade_turns_the_connection_into_a_pipe(void **state)
{
    struct rig *rig = *state;
    int fd = dial(rig->back);
    put(fd, "POST /up HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\r\nearly");
    expect(fd, "HTTP/1.1 101 Switching Protocols\r\n");
    expect(fd, "Connection: Upgrade\r\n\r\nearly");
    put(fd, "more");
    expect(fd, "more");
    shutdown(fd, SHUT_WR);
    char *rest = slurp(fd);
    assert_string_equal(rest, "");
    free(rest);
    close(fd);
    WAIT_FOR(http_server_connections(rig->back->server) == 0);
}

static void a_request_without_upgrade_header_is_answered_otherwise(void **state)
{
    struct rig *rig = *state;
    char *answer = ask(rig->back, "POST /up HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    assert_true(kp_starts_with(answer, "HTTP/1.1 400 "));
    free(answer);
    answer = ask(rig->front, "POST /nowhere HTTP/1.1\r\nHost: x\r\nUpgrade: SPDY/3.1\r\nConnection: Upgrade, close\r\n\r\n");
    assert_true(kp_starts_with(answer, "HTTP/1.1 400 "));
    free(answer);
}

static void a_splice_carries_much_both_ways_and_passes_half_closes_on(void **state)
{
    struct rig *rig = *state;
    int fd = dial(rig->front);
    put(fd, "POST /up HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\r\n");
    expect(fd, "\r\n\r\n");
    enum { TOTAL = 8 << 20, STEP = 64 << 10 };
    uint8_t *out = kp_malloc(STEP), *in = kp_malloc(STEP);
    size_t sent = 0, received = 0;
    while (received < TOTAL) {
        if (sent < TOTAL) {
            for (size_t i = 0; i < STEP; i++)
                out[i] = (uint8_t)((sent + i) * 31 >> 4);
            ssize_t count = send(fd, out, KP_MIN((size_t)STEP, TOTAL - sent), MSG_DONTWAIT | MSG_NOSIGNAL);
            sent += count > 0 ? (size_t)count : 0;
        }
        ssize_t count = recv(fd, in, STEP, sent < TOTAL ? MSG_DONTWAIT : 0);
        for (ssize_t i = 0; i < count; i++)
            if (in[i] != (uint8_t)((received + (size_t)i) * 31 >> 4))
                fail_msg("byte %zu differs", received + (size_t)i);
        received += count > 0 ? (size_t)count : 0;
        assert_true(count != 0);
    }
    shutdown(fd, SHUT_WR);
    assert_int_equal(recv(fd, in, STEP, 0), 0);
    close(fd);
    WAIT_FOR(rig->spliced == 1);
    free(out);
    free(in);
}

static void a_broken_end_takes_the_other_down(void **state)
{
    struct rig *rig = *state;
    int fd = dial(rig->front);
    put(fd, "POST /up HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\r\nx");
    expect(fd, "\r\n\r\nx");
    struct linger reset = { 1, 0 };
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
    close(fd);
    WAIT_FOR(rig->spliced == 1);
    WAIT_FOR(http_server_connections(rig->back->server) == 0 && http_server_connections(rig->front->server) == 0);
}

struct ws_user {
    _Atomic int messages, closed;
    _Atomic size_t bytes;
};

static void user_message(struct ws *ws, enum ws_opcode opcode, const uint8_t *data, size_t len, void *arg)
{
    struct ws_user *user = arg;
    (void)ws;
    (void)data;
    user->bytes += len;
    user->messages += opcode == WS_BINARY;
}

static void user_closed(struct ws *ws, int code, void *arg)
{
    struct ws_user *user = arg;
    (void)ws;
    user->closed = code;
}

static const struct ws_callbacks user_callbacks = { user_message, NULL, user_closed };

static void a_websocket_echoes_through_a_proxy_and_closes_politely(void **state)
{
    struct rig *rig = *state;
    static const char *const protocols[] = { "v4.channel.k8s.io", "other", NULL };
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    struct kp_error error = { 0 };
    struct http_response response;
    struct ws *ws;
    const char *protocol;
    struct ws_user user = { 0 };
    struct http_client_request request = { .path = "/anything" };
    if (ws_connect(rig->to_front, &request, protocols, arena, &response, &protocol, &ws, &error) < 0)
        fail_msg("%s", error.message);
    assert_string_equal(protocol, "v4.channel.k8s.io");
    ws_start(ws, &user_callbacks, &user);
    static uint8_t big[300000];
    for (int i = 0; i < 10; i++)
        assert_int_equal(ws_send(ws, WS_BINARY, big, i % 2 ? sizeof(big) : 10), 0);
    assert_int_equal(ws_send(ws, WS_PING, "hi", 2), 0);
    WAIT_FOR(user.messages == 10);
    assert_int_equal(user.bytes, 5 * (sizeof(big) + 10));
    assert_int_equal(ws_send(ws, WS_TEXT, "quit", 4), 0);
    WAIT_FOR(user.closed == 4001);
    assert_int_equal(ws_send(ws, WS_TEXT, "x", 1), KP_ECANCELLED);
    ws_unref(ws);
    WAIT_FOR(rig->spliced == 1);
}

static void we_close_a_websocket_and_hear_the_answer(void **state)
{
    struct rig *rig = *state;
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    struct http_response response;
    struct ws *ws;
    struct ws_user user = { 0 };
    struct http_client_request request = { .path = "/" };
    assert_int_equal(ws_connect(rig->to_back, &request, NULL, arena, &response, NULL, &ws, NULL), 0);
    ws_start(ws, &user_callbacks, &user);
    ws_close(ws, WS_CLOSE_GOING_AWAY, "bye");
    WAIT_FOR(user.closed == WS_CLOSE_GOING_AWAY && rig->back->last_status != 0);
    ws_unref(ws);
}

struct parsed {
    struct kp_buf log;
};

static int log_message(enum ws_opcode opcode, const uint8_t *data, size_t len, void *arg)
{
    struct parsed *parsed = arg;
    kp_buf_printf(&parsed->log, "%d:", opcode);
    kp_buf_append(&parsed->log, data, len);
    kp_buf_putc(&parsed->log, ';');
    return 0;
}

static void the_parser_joins_fragments_around_a_ping_byte_by_byte(void **state)
{
    (void)state;
    static const uint8_t bytes[] = { 0x01, 0x83, 1, 2, 3, 4, 'H' ^ 1, 'e' ^ 2, 'l' ^ 3, 0x89, 0x80, 0, 0, 0, 0,
                                     0x80, 0x82, 0, 0, 0, 0, 'l', 'o', 0x88, 0x82, 0, 0, 0, 0, 0x03, 0xe8 };
    struct parsed parsed = { 0 };
    struct ws_parser_config config = { .server = true, .on_message = log_message, .arg = &parsed };
    struct ws_parser *parser = ws_parser_new(&config);
    int code;
    for (size_t i = 0; i < sizeof(bytes); i++)
        assert_int_equal(ws_parser_feed(parser, bytes + i, 1, &code), 0);
    assert_int_equal(parsed.log.len, strlen("9:;1:Hello;8:xx;"));
    assert_memory_equal(parsed.log.data, "9:;1:Hello;8:\x03\xe8;", parsed.log.len);
    kp_buf_done(&parsed.log);
    ws_parser_free(parser);
}

static void the_parser_refuses_what_the_rfc_forbids(void **state)
{
    (void)state;
    static const struct {
        const char *bytes;
        size_t len;
        int close_code;
    } cases[] = {
        { "\x81\x01x", 3, WS_CLOSE_PROTOCOL_ERROR },                         /* not masked */
        { "\xc1\x80\0\0\0\0", 6, WS_CLOSE_PROTOCOL_ERROR },                  /* reserved bit */
        { "\x83\x80\0\0\0\0", 6, WS_CLOSE_PROTOCOL_ERROR },                  /* unknown opcode */
        { "\x80\x80\0\0\0\0", 6, WS_CLOSE_PROTOCOL_ERROR },                  /* continuation of nothing */
        { "\x09\x80\0\0\0\0", 6, WS_CLOSE_PROTOCOL_ERROR },                  /* fragmented ping */
        { "\x89\xfe\0\x7e\0\0\0\0", 8, WS_CLOSE_PROTOCOL_ERROR },            /* long ping */
        { "\x81\xfe\0\x05\0\0\0\0", 8, WS_CLOSE_PROTOCOL_ERROR },            /* length not in its shortest form */
        { "\x81\x81\0\0\0\0\xff", 7, WS_CLOSE_BAD_DATA },                    /* not UTF-8 */
        { "\x88\x81\0\0\0\0\x03", 7, WS_CLOSE_PROTOCOL_ERROR },              /* half a close code */
        { "\x88\x82\0\0\0\0\x03\xed", 8, WS_CLOSE_PROTOCOL_ERROR },          /* code 1005 on the wire */
        { "\x82\xff\x00\0\0\0\x7f\0\0\0\0\0\0\0", 14, WS_CLOSE_TOO_BIG },
        { "\x82\xff\xff\xff\xff\xff\xff\xff\xff\xff\0\0\0\0", 14, WS_CLOSE_TOO_BIG },
    };
    for (size_t i = 0; i < KP_ARRAY_LEN(cases); i++) {
        struct parsed parsed = { 0 };
        struct ws_parser_config config = { .server = true, .on_message = log_message, .arg = &parsed };
        struct ws_parser *parser = ws_parser_new(&config);
        int code = 0;
        if (ws_parser_feed(parser, (const uint8_t *)cases[i].bytes, cases[i].len, &code) >= 0 || code != cases[i].close_code)
            fail_msg("case %zu: close code %d", i, code);
        kp_buf_done(&parsed.log);
        ws_parser_free(parser);
    }
}

static void the_accept_key_is_the_rfcs_example(void **state)
{
    (void)state;
    char out[WS_ACCEPT_BYTES];
    ws_accept_key("dGhlIHNhbXBsZSBub25jZQ==", out);
    assert_string_equal(out, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(an_upgrade_turns_the_connection_into_a_pipe, setup, teardown),
        cmocka_unit_test_setup_teardown(a_request_without_upgrade_header_is_answered_otherwise, setup, teardown),
        cmocka_unit_test_setup_teardown(a_splice_carries_much_both_ways_and_passes_half_closes_on, setup, teardown),
        cmocka_unit_test_setup_teardown(a_broken_end_takes_the_other_down, setup, teardown),
        cmocka_unit_test_setup_teardown(a_websocket_echoes_through_a_proxy_and_closes_politely, setup, teardown),
        cmocka_unit_test_setup_teardown(we_close_a_websocket_and_hear_the_answer, setup, teardown),
        cmocka_unit_test(the_parser_joins_fragments_around_a_ping_byte_by_byte),
        cmocka_unit_test(the_parser_refuses_what_the_rfc_forbids),
        cmocka_unit_test(the_accept_key_is_the_rfcs_example),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
