/* A server with one handler on a port of its own, and somebody who asks it. */
#ifndef SERVER_TEST_H
#define SERVER_TEST_H

#include "lib/http/http.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

struct asked {
    struct loop *loop;
    struct pool *pool;
    struct http_server *server;
    struct http_client *client;
    struct kp_arena *arena; /* of the answers */
};

static inline void asked_start(struct asked *s, http_handler handler)
{
    struct kp_error error = {0};
    s->loop = loop_new();
    assert_int_equal(loop_start(s->loop, "test", &error), 0);
    s->pool = pool_new("test", 2, 100);
    s->arena = kp_arena_new(0);
    const struct http_server_config config = {.host = "127.0.0.1", .pool = s->pool, .handler = handler, .arg = s};
    if (http_server_new(s->loop, &config, &s->server, &error) < 0)
        fail_msg("%s", error.message);
    const char *endpoint = kp_arena_printf(s->arena, "http://127.0.0.1:%u", http_server_port(s->server));
    const struct http_client_config client = {.endpoints = &endpoint, .endpoint_count = 1};
    if (http_client_new(s->loop, &client, &s->client, &error) < 0)
        fail_msg("%s", error.message);
}

static inline void asked_stop(struct asked *s)
{
    http_client_free(s->client);
    http_server_free(s->server);
    pool_free(s->pool);
    loop_free(s->loop);
    kp_arena_free(s->arena);
}

/* header: NULL or one header's name, with its value. */
static inline struct http_response ask(struct asked *s, const char *method, const char *path, const char *header, const char *value)
{
    const struct http_header headers[] = {{header, value}};
    const struct http_client_request request = {.method = method, .path = path, .headers = headers, .header_count = header ? 1 : 0};
    struct http_response response;
    struct kp_error error = {0};
    if (http_client_do(s->client, &request, s->arena, &response, &error) < 0)
        fail_msg("%s", error.message);
    return response;
}

static inline const char *text_of(const struct http_response *response) { return (const char *)response->body.data; }

#endif
