/* Blocking calls: a thread waits for a call that runs on the loop. */
#include "lib/http/client_internal.h"

#define DO_TIMEOUT_MS_DEFAULT 60000

struct waiter {
    struct kp_arena *arena; /* the waiting thread's: only the loop touches it while that thread waits */
    struct http_response *response;
    struct kp_error *error;
    struct http_call *call;
    size_t body_max;
    struct kp_buf body;    /* length not known beforehand */
    uint8_t *fixed;        /* length known: straight into the arena */
    size_t fixed_len, fixed_cap;
    struct http_tunnel *tunnel;
    int code;
    struct kp_error failure;
    pthread_mutex_t mutex;
    pthread_cond_t cond;
    bool done;
};

static struct http_header *copy_headers(struct kp_arena *arena, const struct http_header *headers, size_t count)
{
    struct http_header *copy = KP_NEW_ARRAY(arena, struct http_header, count + 1);
    for (size_t i = 0; i < count; i++)
        copy[i] = (struct http_header){ kp_arena_strdup(arena, headers[i].name), kp_arena_strdup(arena, headers[i].value) };
    return copy;
}

static void too_large(struct waiter *waiter, struct http_call *call)
{
    if (!waiter->failure.code)
        kp_fail(&waiter->failure, KP_ETOOLARGE, "%s %s: the response has more than %zu bytes", call->method, call->path,
                waiter->body_max);
    http_call_cancel(call);
}

static void on_headers(struct http_call *call, int status, const struct http_header *headers, size_t count, void *arg)
{
    struct waiter *waiter = arg;
    waiter->response->status = status;
    waiter->response->version = call->conn && call->conn->is_h2 ? HTTP_2 : HTTP_1_1;
    waiter->response->headers = copy_headers(waiter->arena, headers, count);
    waiter->response->header_count = count;
    const char *length = http_header_get(headers, count, "content-length");
    uint64_t bytes;
    if (!length || kp_parse_u64(length, &bytes) < 0 || strcmp(call->method, "HEAD") == 0)
        return;
    if (bytes > waiter->body_max) {
        too_large(waiter, call);
        return;
    }
    waiter->fixed = kp_arena_try(waiter->arena, bytes + 1);
    waiter->fixed_cap = waiter->fixed ? bytes : 0;
    if (!waiter->fixed)
        too_large(waiter, call);
}

static void on_data(struct http_call *call, const uint8_t *data, size_t len, void *arg)
{
    struct waiter *waiter = arg;
    if (waiter->failure.code)
        return;
    if (waiter->fixed && waiter->fixed_len + len <= waiter->fixed_cap) {
        memcpy(waiter->fixed + waiter->fixed_len, data, len);
        waiter->fixed_len += len;
    } else if (waiter->fixed || waiter->body.len + len > waiter->body_max) {
        too_large(waiter, call);
    } else {
        kp_buf_append(&waiter->body, data, len);
    }
}

static void on_trailers(struct http_call *call, const struct http_header *trailers, size_t count, void *arg)
{
    struct waiter *waiter = arg;
    (void)call;
    waiter->response->trailers = copy_headers(waiter->arena, trailers, count);
    waiter->response->trailer_count = count;
}

static void on_tunnel(struct http_call *call, struct http_tunnel *tunnel, void *arg)
{
    struct waiter *waiter = arg;
    (void)call;
    waiter->tunnel = tunnel;
}

static void on_end(struct http_call *call, const struct kp_error *error, void *arg)
{
    struct waiter *waiter = arg;
    (void)call;
    if (error && !waiter->failure.code)
        waiter->failure = *error;
    pthread_mutex_lock(&waiter->mutex);
    waiter->done = true;
    pthread_cond_signal(&waiter->cond);
    pthread_mutex_unlock(&waiter->mutex);
}

static int take_body(struct waiter *waiter)
{
    if (waiter->failure.code == 0 && !waiter->fixed) {
        waiter->fixed = kp_arena_try(waiter->arena, waiter->body.len + 1);
        if (!waiter->fixed)
            return kp_fail(&waiter->failure, KP_ETOOLARGE, "the response body of %zu bytes does not fit the arena", waiter->body.len);
        if (waiter->body.len)
            memcpy(waiter->fixed, waiter->body.data, waiter->body.len);
        waiter->fixed_len = waiter->body.len;
    }
    waiter->response->body = (struct kp_bytes){ waiter->fixed, waiter->fixed_len };
    return 0;
}

static int run(struct http_client *client, const struct http_client_request *request, bool upgrade, struct kp_arena *arena,
               struct http_response *response, struct http_tunnel **ret_tunnel, struct kp_error *error)
{
    static const struct http_call_callbacks callbacks = { on_headers, on_data, on_trailers, NULL, on_end };
    struct waiter waiter = { .arena = arena, .response = response, .error = error, .body_max = client->config.body_bytes_max };
    KP_ASSERT(!loop_in_thread(client->loop)); /* it would wait for itself */
    *response = (struct http_response){ 0 };
    pthread_mutex_init(&waiter.mutex, NULL);
    pthread_cond_init(&waiter.cond, NULL);
    struct http_call *call = call_new(client, request, &callbacks, &waiter);
    call->timeout_ms = request->timeout_ms ? request->timeout_ms : DO_TIMEOUT_MS_DEFAULT;
    call->body_follows = call->manual_flow = false;
    call->send_ended = true;
    call->upgrade = upgrade;
    call->on_tunnel = on_tunnel;
    call_begin(call);
    pthread_mutex_lock(&waiter.mutex);
    while (!waiter.done)
        pthread_cond_wait(&waiter.cond, &waiter.mutex);
    pthread_mutex_unlock(&waiter.mutex);
    http_call_unref(call);
    pthread_mutex_destroy(&waiter.mutex);
    pthread_cond_destroy(&waiter.cond);
    if (!waiter.tunnel)
        take_body(&waiter);
    kp_buf_done(&waiter.body);
    if (waiter.failure.code) {
        http_tunnel_unref(waiter.tunnel);
        if (error)
            *error = waiter.failure;
        return waiter.failure.code;
    }
    if (ret_tunnel)
        *ret_tunnel = waiter.tunnel;
    return 0;
}

int http_client_do(struct http_client *client, const struct http_client_request *request, struct kp_arena *arena,
                   struct http_response *ret_response, struct kp_error *error)
{
    return run(client, request, false, arena, ret_response, NULL, error);
}

int http_client_upgrade(struct http_client *client, const struct http_client_request *request, struct kp_arena *arena,
                        struct http_response *ret_response, struct http_tunnel **ret_tunnel, struct kp_error *error)
{
    *ret_tunnel = NULL;
    return run(client, request, true, arena, ret_response, ret_tunnel, error);
}
