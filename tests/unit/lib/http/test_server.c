/* The server as seen from raw sockets: HTTP/1 framing, limits, timeouts, streams. */
#include "http_test.h"

static void assert_has(const char *text, const char *part)
{
    if (!strstr(text, part))
        fail_msg("no \"%s\" in \"%s\"", part, text);
}

static void answers_a_get_and_closes_when_asked(void **state)
{
    (void)state;
    struct fixture *f = fixture_new(NULL);
    char *answer = ask(f, "GET /hello HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    assert_has(answer, "HTTP/1.1 200 OK\r\n");
    assert_has(answer, "Content-Length: 11\r\n");
    assert_has(answer, "Connection: close\r\n");
    assert_has(answer, "\r\n\r\n{\"hello\":1}");
    free(answer);
    fixture_free(f);
}

static void keeps_the_connection_and_serves_pipelined_requests_in_order(void **state)
{
    (void)state;
    struct fixture *f = fixture_new(NULL);
    char *answer = ask(f, "GET /sleep?ms=50 HTTP/1.1\r\nHost: x\r\n\r\n"
                          "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc"
                          "GET /hello HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    const char *late = strstr(answer, "late"), *abc = strstr(answer, "abc"), *hello = strstr(answer, "{\"hello\"");
    assert_true(late && abc && hello && late < abc && abc < hello);
    free(answer);
    fixture_free(f);
}

static void http_1_0_gets_a_closed_connection(void **state)
{
    (void)state;
    struct fixture *f = fixture_new(NULL);
    char *answer = ask(f, "GET /hello HTTP/1.0\r\n\r\n");
    assert_has(answer, "{\"hello\":1}");
    assert_has(answer, "Connection: close");
    free(answer);
    fixture_free(f);
}

static void chunked_bodies_are_joined(void **state)
{
    (void)state;
    struct fixture *f = fixture_new(NULL);
    char *answer = ask(f, "POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
                          "4;ext=1\r\nabcd\r\n3\r\nefg\r\n0\r\nTrailer: x\r\n\r\n");
    assert_has(answer, "\r\n\r\nabcdefg");
    free(answer);
    fixture_free(f);
}

static void expect_continue_is_answered_before_the_body(void **state)
{
    (void)state;
    struct fixture *f = fixture_new(NULL);
    int fd = dial(f);
    put(fd, "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n");
    expect(fd, "HTTP/1.1 100 Continue\r\n\r\n");
    put(fd, "ok");
    char *answer = slurp(fd);
    assert_has(answer, "\r\n\r\nok");
    free(answer);
    close(fd);
    fixture_free(f);
}

static void smuggling_attempts_get_400(void **state)
{
    (void)state;
    static const char *const requests[] = {
        "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
        "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: +3\r\n\r\nabc",
        "GET /hello HTTP/1.1\r\nHost: x\r\nA: b\r\n c\r\n\r\n",
        "GET /hello HTTP/1.1\r\nHost : x\r\n\r\n",
        "GET /hello HTTP/1.1\nHost: x\n\n",
        "GET /hello HTTP/1.1\r\n\r\n",
        "GET /hello HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n",
        "GET /hel\x01lo HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET /%zz HTTP/1.1\r\nHost: x\r\n\r\n",
        "POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
        "POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcd\r\n",
        "POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\na\r\n",
    };
    struct fixture *f = fixture_new(NULL);
    for (size_t i = 0; i < KP_ARRAY_LEN(requests); i++) {
        char *answer = ask(f, requests[i]);
        if (strncmp(answer, "HTTP/1.1 400 ", 13) != 0)
            fail_msg("request %zu: \"%s\"", i, answer);
        free(answer);
    }
    fixture_free(f);
}

static void limits_give_431_413_501_and_505(void **state)
{
    (void)state;
    struct http_server_config config = { .header_bytes_max = 1000, .body_bytes_max = 10 };
    struct fixture *f = fixture_new(&config);
    char *big = kp_asprintf("GET /hello HTTP/1.1\r\nHost: x\r\nA: %01500d\r\n\r\n", 1);
    struct {
        const char *request, *status;
    } cases[] = {
        { big, "HTTP/1.1 431 " },
        { "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 11\r\n\r\nabcdefghijk", "HTTP/1.1 413 " },
        { "POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nb\r\nabcdefghijk\r\n0\r\n\r\n", "HTTP/1.1 413 " },
        { "POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n", "HTTP/1.1 501 " },
        { "GET /hello HTTP/3.7\r\nHost: x\r\n\r\n", "HTTP/1.1 505 " },
    };
    for (size_t i = 0; i < KP_ARRAY_LEN(cases); i++) {
        char *answer = ask(f, cases[i].request);
        if (!kp_starts_with(answer, cases[i].status))
            fail_msg("case %zu: \"%s\"", i, answer);
        free(answer);
    }
    free(big);
    fixture_free(f);
}

static void slow_clients_are_cut_off(void **state)
{
    (void)state;
    struct http_server_config config = { .header_timeout_ms = 80, .body_timeout_ms = 80, .idle_timeout_ms = 150 };
    struct fixture *f = fixture_new(&config);
    char *head = ask(f, "GET /hello HTTP/1.1\r\nHost:");
    assert_has(head, "HTTP/1.1 408 ");
    free(head);
    char *body = ask(f, "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nab");
    assert_has(body, "HTTP/1.1 408 ");
    free(body);
    char *nothing = ask(f, "");
    assert_string_equal(nothing, "");
    free(nothing);
    char *idle = ask(f, "GET /hello HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_has(idle, "{\"hello\":1}");
    free(idle);
    WAIT_FOR(http_server_connections(f->server) == 0);
    fixture_free(f);
}

static void more_connections_than_allowed_wait(void **state)
{
    (void)state;
    struct http_server_config config = { .connections_max = 1 };
    struct fixture *f = fixture_new(&config);
    int first = dial(f);
    put(first, "GET /hello HTTP/1.1\r\nHost: x\r\n\r\n");
    expect(first, "{\"hello\":1}");
    int second = dial(f);
    put(second, "GET /hello HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    assert_int_equal(http_server_connections(f->server), 1);
    close(first);
    expect(second, "{\"hello\":1}");
    close(second);
    fixture_free(f);
}

static void query_and_path_are_decoded(void **state)
{
    (void)state;
    struct fixture *f = fixture_new(NULL);
    char *answer = ask(f, "GET /que%72y?a=1&a=x%20y&b+c=d%26 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    assert_has(answer, "2 x y d& /que%72y");
    free(answer);
    fixture_free(f);
}

static void a_head_request_gets_no_body(void **state)
{
    (void)state;
    struct fixture *f = fixture_new(NULL);
    char *answer = ask(f, "HEAD /hello HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    assert_has(answer, "Content-Length: 11");
    assert_null(strstr(answer, "hello\":1"));
    free(answer);
    fixture_free(f);
}

static void a_handler_that_does_not_answer_gives_500(void **state)
{
    (void)state;
    struct fixture *f = fixture_new(NULL);
    char *answer = ask(f, "GET /silent HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    assert_has(answer, "HTTP/1.1 500 ");
    free(answer);
    WAIT_FOR(f->accesses == 1);
    assert_int_equal(f->last_status, 500);
    fixture_free(f);
}

static void requests_beyond_the_pool_get_429(void **state)
{
    (void)state;
    struct fixture *f = fixture_new(NULL);
    http_server_free(f->server);
    pool_free(f->pool);
    f->pool = pool_new("small", 1, 0);
    struct http_server_config config = { .host = "127.0.0.1", .pool = f->pool, .handler = test_handler, .arg = f };
    assert_int_equal(http_server_new(f->loop, &config, &f->server, NULL), 0);
    int busy = dial(f);
    put(busy, "GET /sleep?ms=200 HTTP/1.1\r\nHost: x\r\n\r\n");
    WAIT_FOR(pool_busy(f->pool) == 1 && pool_queued(f->pool) == 0);
    char *answer = ask(f, "GET /hello HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    assert_has(answer, "HTTP/1.1 429 Too Many Requests\r\n");
    assert_has(answer, "retry-after: 1\r\n");
    free(answer);
    expect(busy, "late");
    close(busy);
    fixture_free(f);
}

static void a_stream_outlives_its_handler_and_hears_of_the_peers_end(void **state)
{
    (void)state;
    struct fixture *f = fixture_new(NULL);
    int fd = dial(f);
    put(fd, "GET /watch HTTP/1.1\r\nHost: x\r\n\r\n");
    expect(fd, "Transfer-Encoding: chunked\r\n\r\n");
    WAIT_FOR(f->watch != NULL && pool_busy(f->pool) == 0);
    KP_AUTO(kp_blob_unref) struct kp_blob *blob = kp_blob_new("event\n", 6);
    assert_int_equal(http_stream_write(f->watch, blob), 0);
    expect(fd, "6\r\nevent\n\r\n");
    close(fd);
    WAIT_FOR(f->watch_closed == 1);
    assert_int_equal(http_stream_write(f->watch, blob), KP_ECANCELLED);
    fixture_free(f);
}

static void a_reader_too_slow_for_its_stream_is_cut_off(void **state)
{
    (void)state;
    struct http_server_config config = { .stream_queued_max = 1 << 20 };
    struct fixture *f = fixture_new(&config);
    int fd = dial(f);
    put(fd, "GET /watch HTTP/1.1\r\nHost: x\r\n\r\n");
    WAIT_FOR(f->watch != NULL);
    KP_AUTO(kp_blob_unref) struct kp_blob *blob = kp_blob_new(NULL, 100000);
    memset(blob->data, 'x', blob->len);
    int code = 0;
    for (int i = 0; i < 1000 && code == 0; i++)
        code = http_stream_write(f->watch, blob);
    assert_true(code == KP_ETOOLARGE);
    WAIT_FOR(f->watch_closed == 1);
    close(fd);
    fixture_free(f);
}

static void bodies_stream_both_ways(void **state)
{
    (void)state;
    struct fixture *f = fixture_new(NULL);
    int fd = dial(f);
    put(fd, "POST /stream HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n");
    expect(fd, "3\r\nabc\r\n");
    put(fd, "2\r\nde\r\n");
    expect(fd, "2\r\nde\r\n");
    put(fd, "0\r\n\r\n");
    expect(fd, "0\r\ngrpc-status: 0\r\n\r\n");
    put(fd, "POST /stream HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nab");
    expect(fd, "2\r\nab\r\n");
    close(fd);
    WAIT_FOR(f->aborted == 1);
    fixture_free(f);
}

static void shutdown_waits_for_running_requests(void **state)
{
    (void)state;
    struct fixture *f = fixture_new(NULL);
    int fd = dial(f);
    put(fd, "GET /sleep?ms=100 HTTP/1.1\r\nHost: x\r\n\r\n");
    WAIT_FOR(pool_busy(f->pool) == 1);
    http_server_shutdown(f->server, 5000);
    assert_int_equal(http_server_connections(f->server), 0);
    char *answer = slurp(fd);
    assert_has(answer, "late");
    free(answer);
    close(fd);
    fixture_free(f);
}

static void freeing_a_server_with_open_work_is_clean(void **state)
{
    (void)state;
    struct fixture *f = fixture_new(NULL);
    int a = dial(f), b = dial(f), c = dial(f);
    put(a, "GET /sleep?ms=100 HTTP/1.1\r\nHost: x\r\n\r\n");
    put(b, "GET /watch HTTP/1.1\r\nHost: x\r\n\r\n");
    put(c, "POST /stream HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nabc");
    WAIT_FOR(f->watch != NULL);
    fixture_free(f);
    close(a);
    close(b);
    close(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(answers_a_get_and_closes_when_asked),
        cmocka_unit_test(keeps_the_connection_and_serves_pipelined_requests_in_order),
        cmocka_unit_test(http_1_0_gets_a_closed_connection),
        cmocka_unit_test(chunked_bodies_are_joined),
        cmocka_unit_test(expect_continue_is_answered_before_the_body),
        cmocka_unit_test(smuggling_attempts_get_400),
        cmocka_unit_test(limits_give_431_413_501_and_505),
        cmocka_unit_test(slow_clients_are_cut_off),
        cmocka_unit_test(more_connections_than_allowed_wait),
        cmocka_unit_test(query_and_path_are_decoded),
        cmocka_unit_test(a_head_request_gets_no_body),
        cmocka_unit_test(a_handler_that_does_not_answer_gives_500),
        cmocka_unit_test(requests_beyond_the_pool_get_429),
        cmocka_unit_test(a_stream_outlives_its_handler_and_hears_of_the_peers_end),
        cmocka_unit_test(a_reader_too_slow_for_its_stream_is_cut_off),
        cmocka_unit_test(bodies_stream_both_ways),
        cmocka_unit_test(shutdown_waits_for_running_requests),
        cmocka_unit_test(freeing_a_server_with_open_work_is_clean),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
