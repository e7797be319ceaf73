/* Calls of backends, side by side, with their whole answers. */
#include "controlplane/apiserver/backend/backend_internal.h"

#include "lib/tls/tls.h"

/* What the callbacks of all calls share; counts down under its mutex. */
struct gathering {
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    size_t running;
};

struct one_call {
    struct gathering *gathering;
    struct backend_call *call;
    struct backend_client *client;
    struct http_call *http;
    struct kp_buf body;
    char content_type[128];
    int64_t started_ns;
    bool too_large;
};

static void on_headers(struct http_call *http, int status, const struct http_header *headers, size_t count, void *arg)
{
    struct one_call *one = arg;
    const char *type = http_header_get(headers, count, "content-type");
    (void)http;
    one->call->status = status;
    snprintf(one->content_type, sizeof(one->content_type), "%s", type ? type : "");
}

static size_t answer_max(const struct backend_call *call)
{
    return call->answer_bytes_max ? call->answer_bytes_max : BACKEND_ANSWER_BYTES_MAX;
}

static void on_data(struct http_call *http, const uint8_t *data, size_t len, void *arg)
{
    struct one_call *one = arg;
    if (one->call->no_body)
        return;
    if (one->body.len + len > answer_max(one->call)) {
        one->too_large = true;
        http_call_cancel(http);
        return;
    }
    kp_buf_append(&one->body, data, len);
}

static void on_end(struct http_call *http, const struct kp_error *error, void *arg)
{
    struct one_call *one = arg;
    struct gathering *gathering = one->gathering;
    (void)http;
    one->call->duration_ns = kp_mono_ns() - one->started_ns;
    if (one->too_large)
        one->call->code = kp_fail(&one->call->error, KP_ETOOLARGE, "the answer is larger than %zu bytes", answer_max(one->call));
    else if (error) {
        one->call->error = *error;
        one->call->code = error->code;
    }
    pthread_mutex_lock(&gathering->mutex);
    gathering->running--;
    pthread_cond_broadcast(&gathering->changed);
    pthread_mutex_unlock(&gathering->mutex);
}

static void start(struct backends *backends, struct one_call *one, struct kp_arena *arena)
{
    static const struct http_call_callbacks callbacks = {.on_headers = on_headers, .on_data = on_data, .on_end = on_end};
    struct backend_call *call = one->call;
    struct http_client_request request = call->request;
    struct http_header *headers = kp_arena_alloc(arena, (request.header_count + 1) * sizeof(*headers));
    if (request.header_count)
        memcpy(headers, request.headers, request.header_count * sizeof(*headers));
    headers[request.header_count++] = (struct http_header){"Host", backend_host(&call->backend, arena)};
    request.headers = headers;
    one->started_ns = kp_mono_ns();
    call->code = backend_client_get(backends, &call->backend, arena, &one->client, &call->error);
    if (call->code < 0)
        return;
    pthread_mutex_lock(&one->gathering->mutex);
    one->gathering->running++;
    pthread_mutex_unlock(&one->gathering->mutex);
    one->http = http_client_stream(backend_client_http(one->client), &request, &callbacks, one);
}

void backends_call(struct backends *backends, struct backend_call *calls, size_t count, struct kp_arena *arena)
{
    struct gathering gathering = {.mutex = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};
    struct one_call *all = kp_calloc(count ? count : 1, sizeof(*all));
    for (size_t i = 0; i < count; i++) {
        all[i] = (struct one_call){.gathering = &gathering, .call = &calls[i]};
        calls[i].content_type = "";
        start(backends, &all[i], arena);
    }
    pthread_mutex_lock(&gathering.mutex);
    while (gathering.running)
        pthread_cond_wait(&gathering.changed, &gathering.mutex);
    pthread_mutex_unlock(&gathering.mutex);
    for (size_t i = 0; i < count; i++) {
        calls[i].body = (struct kp_bytes){(const uint8_t *)kp_arena_strndup(arena, all[i].body.len ? all[i].body.data : "", all[i].body.len), all[i].body.len};
        calls[i].content_type = kp_arena_strdup(arena, all[i].content_type);
        kp_buf_done(&all[i].body);
        http_call_unref(all[i].http);
        backend_client_unref(all[i].client);
    }
    free(all);
    pthread_cond_destroy(&gathering.changed);
    pthread_mutex_destroy(&gathering.mutex);
}
