/* SPDY/3.1: two sessions talk to each other through buffers; known bytes; refusals. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "lib/http/http.h"

struct peer {
    struct spdy *spdy;
    struct kp_buf log;
    bool answer;
};

static void log_headers(struct peer *peer, const char *what, uint32_t id, const struct http_header *headers, size_t count, bool fin)
{
    kp_buf_printf(&peer->log, "%s %u%s", what, id, fin ? " fin" : "");
    for (size_t i = 0; i < count; i++)
        kp_buf_printf(&peer->log, " %s=%s", headers[i].name, headers[i].value);
    kp_buf_putc(&peer->log, ';');
}

static void on_open(struct spdy *spdy, uint32_t id, const struct http_header *headers, size_t count, bool fin, void *arg)
{
    struct peer *peer = arg;
    log_headers(peer, "open", id, headers, count, fin);
    if (peer->answer)
        spdy_reply(spdy, id, NULL, 0, false);
}

static void on_reply(struct spdy *spdy, uint32_t id, const struct http_header *headers, size_t count, bool fin, void *arg)
{
    (void)spdy;
    log_headers(arg, "reply", id, headers, count, fin);
}

static void on_data(struct spdy *spdy, uint32_t id, const uint8_t *data, size_t len, bool fin, void *arg)
{
    struct peer *peer = arg;
    kp_buf_printf(&peer->log, "data %u %zu%s;", id, len, fin ? " fin" : "");
    if (peer->answer && len && len < 100)
        spdy_send(spdy, id, data, len, fin);
}

static void on_reset(struct spdy *spdy, uint32_t id, uint32_t status, void *arg)
{
    struct peer *peer = arg;
    (void)spdy;
    kp_buf_printf(&peer->log, "reset %u %u;", id, status);
}

static void on_goaway(struct spdy *spdy, void *arg)
{
    struct peer *peer = arg;
    (void)spdy;
    kp_buf_puts(&peer->log, "goaway;");
}

static const struct spdy_callbacks callbacks = { on_open, on_reply, on_data, on_reset, on_goaway };

/* Carries bytes both ways, step at a time, until both are silent. */
static void carry(struct peer *a, struct peer *b, size_t step)
{
    for (int quiet = 0; quiet < 2;) {
        struct kp_buf out = { 0 };
        spdy_take_output(a->spdy, &out);
        quiet = out.len ? 0 : quiet + 1;
        for (size_t at = 0; at < out.len; at += step)
            assert_int_equal(spdy_feed(b->spdy, out.data + at, KP_MIN(step, out.len - at), NULL), 0);
        kp_buf_done(&out);
        struct peer *other = a;
        a = b;
        b = other;
    }
}

static void done(struct peer *peer)
{
    spdy_free(peer->spdy);
    kp_buf_done(&peer->log);
}

static void streams_open_answer_and_end(void **state)
{
    (void)state;
    for (size_t step = 1; step <= 4096; step *= 64) {
        struct peer client = { 0 }, server = { .answer = true };
        client.spdy = spdy_new(false, &callbacks, &client);
        server.spdy = spdy_new(true, &callbacks, &server);
        const struct http_header out[] = { { "streamType", "stdout" } }, in[] = { { "streamtype", "stdin" }, { "port", "80" } };
        assert_int_equal(spdy_open(client.spdy, out, 1, true), 1);
        assert_int_equal(spdy_open(client.spdy, in, 2, false), 3);
        assert_int_equal(spdy_send(client.spdy, 1, "x", 1, false), KP_ECANCELLED);
        assert_int_equal(spdy_send(client.spdy, 3, "hello", 5, false), 0);
        static char big[100000];
        assert_int_equal(spdy_send(client.spdy, 3, big, sizeof(big), true), 0);
        spdy_ping(client.spdy);
        carry(&client, &server, step);
        assert_string_equal(server.log.data, "open 1 fin streamtype=stdout;open 3 streamtype=stdin port=80;data 3 5;"
                                             "data 3 32768;data 3 32768;data 3 32768;data 3 1696 fin;");
        assert_string_equal(client.log.data, "reply 1;reply 3;data 3 5;");
        client.log.len = server.log.len = 0;
        assert_int_equal(spdy_send(server.spdy, 1, "out", 3, true), 0);
        assert_int_equal(spdy_send(server.spdy, 1, "more", 4, false), KP_ECANCELLED);
        spdy_reset(server.spdy, 3, 5);
        spdy_goaway(server.spdy);
        carry(&server, &client, step);
        assert_string_equal(client.log.data, "data 1 3 fin;reset 3 5;goaway;");
        assert_int_equal(spdy_open(client.spdy, out, 1, false), 0);
        done(&client);
        done(&server);
    }
}

static void streams_beyond_the_limit_are_refused_and_places_are_reused(void **state)
{
    (void)state;
    struct peer client = { 0 }, server = { 0 };
    client.spdy = spdy_new(false, &callbacks, &client);
    server.spdy = spdy_new(true, &callbacks, &server);
    uint32_t id = 0;
    for (int i = 0; i < SPDY_STREAMS_MAX; i++)
        assert_int_not_equal(id = spdy_open(client.spdy, NULL, 0, false), 0);
    assert_int_equal(spdy_open(client.spdy, NULL, 0, false), 0);
    carry(&client, &server, 1000);
    spdy_reset(client.spdy, id, 5);
    assert_int_not_equal(spdy_open(client.spdy, NULL, 0, false), 0);
    carry(&client, &server, 1000);
    done(&client);
    done(&server);
}

static void a_compressor_primed_with_the_standard_dictionary_is_understood(void **state)
{
    (void)state;
    /* zlib's header names the dictionary by its Adler-32: e3c6a7c2. */
    struct peer client = { 0 };
    client.spdy = spdy_new(false, &callbacks, &client);
    const struct http_header get[] = { { "method", "get" } };
    spdy_open(client.spdy, get, 1, false);
    struct kp_buf out = { 0 };
    spdy_take_output(client.spdy, &out);
    assert_memory_equal(out.data, "\x80\x03\x00\x01", 4);
    assert_memory_equal(out.data + 20, "\xe3\xc6\xa7\xc2", 4);
    kp_buf_done(&out);
    done(&client);
}

static void garbage_ends_the_session(void **state)
{
    (void)state;
    static const struct {
        const char *bytes;
        size_t len;
    } cases[] = {
        { "\x80\x02\0\1\0\0\0\0", 8 },                                     /* version 2 */
        { "\x80\x03\0\1\0\0\0\2ab", 10 },                                  /* short SYN_STREAM */
        { "\x80\x03\0\1\0\0\0\x0e\0\0\0\1\0\0\0\0\0\0garb", 22 },          /* not zlib */
        { "\0\0\0\1\0\xff\xff\xff", 8 },                                   /* huge frame */
    };
    for (size_t i = 0; i < KP_ARRAY_LEN(cases); i++) {
        struct peer server = { 0 };
        server.spdy = spdy_new(true, &callbacks, &server);
        assert_true(spdy_feed(server.spdy, cases[i].bytes, cases[i].len, NULL) < 0);
        assert_true(spdy_feed(server.spdy, "", 0, NULL) < 0);
        done(&server);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(streams_open_answer_and_end),
        cmocka_unit_test(streams_beyond_the_limit_are_refused_and_places_are_reused),
        cmocka_unit_test(a_compressor_primed_with_the_standard_dictionary_is_understood),
        cmocka_unit_test(garbage_ends_the_session),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
