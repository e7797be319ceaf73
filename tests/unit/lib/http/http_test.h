/* What the tests of lib/http share: a loop on its own thread, a server with a few routes, raw sockets. */
#ifndef KP_HTTP_TEST_H
#define KP_HTTP_TEST_H

#include <arpa/inet.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "lib/http/http.h"

struct fixture {
    struct loop *loop;
    struct pool *pool;
    struct http_server *server;
    struct http_stream *_Atomic watch; /* of /watch */
    _Atomic int aborted, watch_closed, accesses, last_status;
};

static inline void stream_body_data(struct http_request *req, const uint8_t *data, size_t len, void *arg)
{
    struct http_stream *stream = arg;
    KP_AUTO(kp_blob_unref) struct kp_blob *blob = kp_blob_new(data, len);
    http_stream_write(stream, blob);
    http_request_consumed(req, len);
}

static inline void stream_body_end(struct http_request *req, void *arg)
{
    static const struct http_header trailers[] = { { "grpc-status", "0" } };
    (void)req;
    http_stream_end_trailers(arg, trailers, 1);
    http_stream_unref(arg);
}

static inline void stream_body_abort(struct http_request *req, void *arg)
{
    struct fixture *f = req->user;
    f->aborted++;
    http_stream_reset(arg);
    http_stream_unref(arg);
}

static inline void watch_closed(void *arg)
{
    struct fixture *f = arg;
    f->watch_closed++;
}

static inline void test_handler(struct http_request *req, void *arg)
{
    struct fixture *f = arg;
    static const struct http_header json[] = { { "Content-Type", "application/json" } };
    if (kp_streq(req->path, "/hello")) {
        http_respond(req, 200, json, 1, "{\"hello\":1}", 11);
    } else if (kp_streq(req->path, "/echo")) {
        http_respond(req, 200, NULL, 0, req->body.data, req->body.len);
    } else if (kp_streq(req->path, "/who")) {
        const char *name = req->peer ? req->peer->common_name : "nobody";
        http_respond(req, 200, NULL, 0, name, strlen(name));
    } else if (kp_streq(req->path, "/query")) {
        const char *const *all;
        size_t count = http_request_query_all(req, "a", &all);
        const char *b = http_request_query(req, "b c");
        char *text = kp_arena_printf(req->arena, "%zu %s %s %s", count, count ? all[count - 1] : "-", b ? b : "-", req->raw_path);
        http_respond(req, 200, NULL, 0, text, strlen(text));
    } else if (kp_streq(req->path, "/big")) {
        size_t size = (size_t)atol(http_request_query(req, "n"));
        KP_AUTO(kp_blob_unref) struct kp_blob *blob = kp_blob_new(NULL, size);
        for (size_t i = 0; i < size; i++)
            blob->data[i] = (uint8_t)(i * 7 >> 3);
        http_respond_blob(req, 200, NULL, 0, blob);
    } else if (kp_streq(req->path, "/sleep")) {
        kp_sleep_ms(atol(http_request_query(req, "ms")));
        http_respond(req, 200, NULL, 0, "late", 4);
    } else if (kp_streq(req->path, "/watch")) {
        struct http_stream *stream = http_stream_start(req, 200, json, 1);
        http_stream_set_close_callback(stream, watch_closed, f);
        f->watch = stream;
    } else if (kp_streq(req->path, "/stream")) {
        req->user = f;
        struct http_stream *stream = http_stream_start(req, 200, NULL, 0);
        static const struct http_body_callbacks callbacks = { stream_body_data, stream_body_end, stream_body_abort };
        http_request_receive(req, &callbacks, stream);
    } else if (kp_streq(req->path, "/silent")) {
        return;
    } else {
        http_respond(req, 404, NULL, 0, "no\n", 3);
    }
}

static inline bool test_wants_stream(struct http_request *req, void *arg)
{
    (void)arg;
    return kp_streq(req->path, "/stream");
}

static inline void test_access(const struct http_access *access, void *arg)
{
    struct fixture *f = arg;
    f->accesses++;
    f->last_status = access->status;
}

static inline struct fixture *fixture_new(const struct http_server_config *base)
{
    struct fixture *f = kp_calloc(1, sizeof(*f));
    struct kp_error error = { 0 };
    f->loop = loop_new();
    assert_int_equal(loop_start(f->loop, "test", &error), 0);
    f->pool = pool_new("handlers", 8, 1000);
    struct http_server_config config = base ? *base : (struct http_server_config){ 0 };
    if (!config.host && !config.unix_path)
        config.host = "127.0.0.1";
    config.pool = f->pool;
    config.arg = f;
    if (!config.handler)
        config.handler = test_handler;
    config.wants_stream = test_wants_stream;
    config.on_access = test_access;
    if (http_server_new(f->loop, &config, &f->server, &error) < 0)
        fail_msg("%s", error.message);
    return f;
}

static inline void fixture_free(struct fixture *f)
{
    http_stream_unref(f->watch);
    http_server_free(f->server);
    pool_free(f->pool);
    loop_free(f->loop);
    free(f);
}

static inline int dial(struct fixture *f)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons(http_server_port(f->server)), .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof(to)), 0);
    struct timeval limit = { .tv_sec = 10 };
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    return fd;
}

static inline void put(int fd, const char *text)
{
    assert_int_equal(send(fd, text, strlen(text), MSG_NOSIGNAL), (ssize_t)strlen(text));
}

/* Everything until the peer closes. */
static inline char *slurp(int fd)
{
    struct kp_buf out = { 0 };
    char chunk[4096];
    ssize_t count;
    kp_buf_puts(&out, "");
    while ((count = recv(fd, chunk, sizeof(chunk), 0)) > 0)
        kp_buf_append(&out, chunk, (size_t)count);
    kp_buf_putc(&out, '\0');
    return kp_buf_take(&out);
}

/* Until text has come; the rest stays in the socket as far as it was not read. */
static inline void expect(int fd, const char *text)
{
    struct kp_buf in = { 0 };
    char c;
    kp_buf_puts(&in, "");
    while (!in.data || !strstr(in.data, text)) {
        if (recv(fd, &c, 1, 0) != 1)
            fail_msg("wanted \"%s\", got \"%s\"", text, in.data ? in.data : "");
        kp_buf_putc(&in, c);
    }
    kp_buf_done(&in);
}

#define WAIT_FOR(condition)                                                                                                 \
    do {                                                                                                                    \
        for (int wait_i_ = 0; !(condition) && wait_i_ < 2000; wait_i_++)                                                    \
            kp_sleep_ms(5);                                                                                                 \
        assert_true(condition);                                                                                             \
    } while (0)

static inline char *ask(struct fixture *f, const char *text)
{
    int fd = dial(f);
    put(fd, text);
    char *answer = slurp(fd);
    close(fd);
    return answer;
}

#endif
