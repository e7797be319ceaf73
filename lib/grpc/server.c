/* The gRPC server: finds the method of a request and runs it. */
#include "lib/grpc/grpc_internal.h"

#include <strings.h>

#define BODY_SLACK_BYTES ((size_t)64 << 10) /* so that a request somewhat too large still gets a gRPC answer */

struct grpc_server {
    struct loop *loop;
    struct http_server *http;
    struct kp_strmap *methods;  /* path -> const struct grpc_method */
    struct kp_strmap *services; /* "/package.Service/" -> itself, to tell an unknown method from an unknown service */
    struct health *health;
    void *arg;
    size_t message_bytes_max, queued_bytes_max, http_body_bytes_max;
    http_handler fallback;
    grpc_finish_fn on_finish;
};

static bool is_grpc(const struct http_request *req)
{
    static const char type[] = "application/grpc";
    const char *value = http_request_header(req, "content-type");
    if (!value || strncasecmp(value, type, sizeof(type) - 1) != 0)
        return false;
    char next = value[sizeof(type) - 1];
    return next == '\0' || next == '+' || next == ';' || next == ' ';
}

static const struct grpc_method *method_of(const struct grpc_server *server, const struct http_request *req)
{
    return kp_strmap_get(server->methods, req->path);
}

static bool kind_streams_in(enum grpc_kind kind)
{
    return kind == GRPC_CLIENT_STREAM || kind == GRPC_BIDI;
}

void grpc_context_init(struct grpc_context *context, struct http_request *req, int64_t deadline_ms, void *server_arg)
{
    *context = (struct grpc_context){
        .arena = req->arena,
        .path = req->path,
        .peer = req->peer,
        .peer_address = req->peer_address,
        .deadline_ms = deadline_ms,
        .http = req,
        .server_arg = server_arg,
    };
}

bool grpc_cancelled(const struct grpc_context *context)
{
    return http_request_cancelled(context->http) || (context->deadline_ms && kp_mono_ms() >= context->deadline_ms);
}

/* What a handler put off, kept behind its context. */
struct deferred {
    struct deferred *next;
    void (*fn)(void *);
    void *p;
};
struct handler_context {
    struct grpc_context context; /* first: handlers get a pointer to it */
    struct deferred *deferred;
};

void grpc_context_defer(struct grpc_context *context, void (*fn)(void *), void *p)
{
    struct handler_context *handler = KP_CONTAINER_OF(context, struct handler_context, context);
    struct deferred *deferred = KP_NEW(context->arena, struct deferred);
    *deferred = (struct deferred){.next = handler->deferred, .fn = fn, .p = p};
    handler->deferred = deferred;
}

static void run_deferred(struct handler_context *handler)
{
    for (const struct deferred *deferred = handler->deferred; deferred; deferred = deferred->next)
        deferred->fn(deferred->p);
}

void grpc_respond_status(struct http_request *req, int status, const char *message)
{
    char number[8];
    snprintf(number, sizeof(number), "%d", status);
    KP_AUTO_BUF struct kp_buf text = {0};
    grpc_status_message_encode(&text, message);
    const struct http_header headers[] = {
        {"content-type", "application/grpc"},
        {"grpc-status", number},
        {"grpc-message", text.len ? text.data : ""},
        {"grpc-accept-encoding", "identity"},
    };
    http_respond(req, 200, headers, KP_ARRAY_LEN(headers), NULL, 0);
}

static void tell_finish(const struct grpc_server *server, const struct http_request *req, int status)
{
    if (server->on_finish)
        server->on_finish(req->path, status, kp_mono_ns() - req->received_ns, server->arg);
}

static void refuse(const struct grpc_server *server, struct http_request *req, int status, const char *message)
{
    grpc_respond_status(req, status, message);
    tell_finish(server, req, status);
}

/* An unary answer: headers, one message, trailers. */
static void respond_message(struct http_request *req, const ProtobufCMessage *message)
{
    static const struct http_header headers[] = {{"content-type", "application/grpc"}};
    static const struct http_header trailers[] = {{"grpc-status", "0"}, {"grpc-message", ""}};
    KP_AUTO(kp_blob_unref) struct kp_blob *framed = grpc_pack(message);
    KP_AUTO(http_stream_unref) struct http_stream *out = http_stream_start(req, 200, headers, KP_ARRAY_LEN(headers));
    if (http_stream_write(out, framed) == 0)
        http_stream_end_trailers(out, trailers, 1);
}

/* Our own methods get their state, all others the owner's. */
static void *arg_of(const struct grpc_server *server, const struct grpc_method *method)
{
    return kp_starts_with(method->path, "/grpc.health.v1.") ? (void *)server->health : server->arg;
}

static void run_unary(const struct grpc_server *server, const struct grpc_method *method, struct http_request *req,
                      const ProtobufCMessage *request, int64_t deadline_ms)
{
    struct handler_context handler = {0};
    struct kp_error error = {0};
    grpc_context_init(&handler.context, req, deadline_ms, arg_of(server, method));
    ProtobufCMessage *response = grpc_message_new(method->output, req->arena);
    int rc = method->unary(&handler.context, request, response, &error);
    enum grpc_status status = grpc_status_of_result(rc);
    if (status == GRPC_OK)
        respond_message(req, response);
    else
        grpc_respond_status(req, (int)status, error.message);
    run_deferred(&handler);
    tell_finish(server, req, (int)status);
}

static struct grpc_stream *open_stream(const struct grpc_server *server, const struct grpc_method *method,
                                       struct http_request *req, int64_t deadline_ms)
{
    const struct grpc_stream_setup setup = {
        .loop = server->loop,
        .method = method,
        .req = req,
        .server_arg = arg_of(server, method),
        .deadline_ms = deadline_ms,
        .message_bytes_max = server->message_bytes_max,
        .queued_bytes_max = server->queued_bytes_max,
        .on_finish = server->on_finish,
        .on_finish_arg = server->arg,
        .lazy_head = method->inline_first,
    };
    return grpc_stream_new(&setup);
}

/* Runs the handler of a server-streaming call and finishes the stream as it says; false when it is to run on the pool. */
static bool call_server_stream(const struct grpc_method *method, const ProtobufCMessage *request,
                               struct grpc_stream *stream, bool on_loop)
{
    struct handler_context handler = {.context = *grpc_stream_context(stream)};
    struct kp_error error = {0};
    handler.context.on_loop = on_loop;
    int rc = method->server_stream(&handler.context, request, stream, &error);
    run_deferred(&handler);
    if (rc == GRPC_TO_POOL) {
        KP_ASSERT(on_loop);
        return false;
    }
    if (rc != GRPC_DETACHED)
        grpc_stream_finish(stream, rc, error.message);
    return true;
}

static void run_server_stream(const struct grpc_server *server, const struct grpc_method *method,
                              struct http_request *req, const ProtobufCMessage *request, int64_t deadline_ms)
{
    KP_AUTO(grpc_stream_unref) struct grpc_stream *stream = open_stream(server, method, req, deadline_ms);
    (void)call_server_stream(method, request, stream, false);
}

/* A call whose try on the loop's thread came to nothing. */
struct second_try {
    const struct grpc_method *method;
    const ProtobufCMessage *request; /* in the arena of the stream's request */
    struct grpc_stream *stream;      /* a reference */
};

static void run_second_try(void *arg)
{
    struct second_try *try = arg;
    if (!grpc_stream_closed(try->stream))
        (void)call_server_stream(try->method, try->request, try->stream, false);
    grpc_stream_unref(try->stream);
    free(try);
}

static void run_on_loop(const struct grpc_server *server, const struct grpc_method *method, struct http_request *req,
                        const ProtobufCMessage *request, int64_t deadline_ms)
{
    KP_AUTO(grpc_stream_unref) struct grpc_stream *stream = open_stream(server, method, req, deadline_ms);
    if (call_server_stream(method, request, stream, true))
        return;
    struct second_try *try = kp_malloc(sizeof(*try));
    *try = (struct second_try){.method = method, .request = request, .stream = grpc_stream_ref(stream)};
    if (http_request_submit(req, run_second_try, try) == 0)
        return;
    grpc_stream_finish(stream, GRPC_UNAVAILABLE, "the server is overloaded");
    grpc_stream_unref(stream);
    free(try);
}

/* Client-streaming and bidi calls; loop thread. */
static void run_open(const struct grpc_server *server, const struct grpc_method *method, struct http_request *req,
                     int64_t deadline_ms)
{
    KP_AUTO(grpc_stream_unref) struct grpc_stream *stream = open_stream(server, method, req, deadline_ms);
    struct kp_error error = {0};
    int rc = method->open((struct grpc_context *)(uintptr_t)grpc_stream_context(stream), stream, &error);
    if (rc != 0)
        grpc_stream_finish(stream, rc, error.message);
    grpc_stream_receive(stream);
}

static void ignore_data(struct http_request *req, const uint8_t *data, size_t len, void *arg)
{
    http_request_consumed(req, len);
}

static void ignore_end(struct http_request *req, void *arg)
{
}

/* Checks what every call must have; 0 and the deadline, or an answer was sent. */
static int check_call(const struct grpc_server *server, struct http_request *req, int64_t *ret_deadline_ms)
{
    const char *encoding = http_request_header(req, "grpc-encoding");
    const char *timeout = http_request_header(req, "grpc-timeout");
    int64_t timeout_ms = 0;
    *ret_deadline_ms = 0;
    if (encoding && strcasecmp(encoding, "identity") != 0) {
        KP_AUTO_FREE char *message = kp_asprintf("grpc: Decompressor is not installed for grpc-encoding \"%.64s\"", encoding);
        refuse(server, req, GRPC_UNIMPLEMENTED, message);
        return -1;
    }
    if (timeout && grpc_timeout_parse(timeout, &timeout_ms) < 0) {
        refuse(server, req, GRPC_INTERNAL, "malformed grpc-timeout");
        return -1;
    }
    if (timeout)
        *ret_deadline_ms = req->received_ns / 1000000 + timeout_ms;
    return 0;
}

static void refuse_unknown(const struct grpc_server *server, struct http_request *req)
{
    const char *slash = strrchr(req->path, '/');
    size_t len = slash ? (size_t)(slash - req->path) : strlen(req->path);
    KP_AUTO_FREE char *service = kp_strndup(req->path, len);
    const char *shown = service[0] == '/' ? service + 1 : service;
    KP_AUTO_FREE char *message =
        kp_strmap_get(server->services, service)
            ? kp_asprintf("unknown method %.200s for service %.200s", slash ? slash + 1 : "", shown)
            : kp_asprintf("unknown service %.200s", shown);
    refuse(server, req, GRPC_UNIMPLEMENTED, message);
}

/* The one message of an unary or server-streaming request; NULL when an answer was sent. */
static const ProtobufCMessage *decode_request(const struct grpc_server *server, const struct grpc_method *method,
                                              struct http_request *req)
{
    struct grpc_frames frames = {.message_bytes_max = server->message_bytes_max};
    /* Borrows the body: nothing is fed, so nothing is copied or freed. */
    frames.buf = (struct kp_buf){.data = (char *)(uintptr_t)req->body.data, .len = req->body.len};
    struct kp_bytes bytes;
    int rc = grpc_frames_next(&frames, &bytes);
    if (rc == 1 && grpc_frames_empty(&frames)) {
        const ProtobufCMessage *message = grpc_unpack(method->input, req->arena, bytes.data, bytes.len);
        if (message)
            return message;
        refuse(server, req, GRPC_INTERNAL, "grpc: error unmarshalling request");
        return NULL;
    }
    if (rc == -GRPC_RESOURCE_EXHAUSTED)
        refuse(server, req, GRPC_RESOURCE_EXHAUSTED, "grpc: received message larger than max");
    else if (rc == -GRPC_UNIMPLEMENTED)
        refuse(server, req, GRPC_UNIMPLEMENTED, "grpc: compressed messages are not supported");
    else
        refuse(server, req, GRPC_INTERNAL, "grpc: the request is not exactly one message");
    return NULL;
}

static void respond_plain(struct http_request *req, int status, const char *text)
{
    const struct http_header headers[] = {{"content-type", "text/plain; charset=utf-8"}};
    http_respond(req, status, headers, 1, text, strlen(text));
}

/* Worker pool for whole requests, loop thread for streamed ones (wants_stream said so). */
static void on_request(struct http_request *req, void *arg)
{
    const struct grpc_server *server = arg;
    int64_t deadline_ms;
    if (!is_grpc(req)) {
        if (server->fallback)
            server->fallback(req, server->arg);
        else
            respond_plain(req, 415, "this port serves gRPC (content-type application/grpc)\n");
        return;
    }
    const struct grpc_method *method = method_of(server, req);
    bool streams_in = method && kind_streams_in(method->kind);
    if (!kp_streq(req->method, "POST")) {
        respond_plain(req, 405, "gRPC calls are POST requests\n");
    } else if (!method) {
        refuse_unknown(server, req);
    } else if (check_call(server, req, &deadline_ms) == 0) {
        if (streams_in) {
            run_open(server, method, req, deadline_ms);
            return;
        }
        const ProtobufCMessage *request = decode_request(server, method, req);
        if (request && method->kind == GRPC_UNARY)
            run_unary(server, method, req, request, deadline_ms);
        else if (request)
            run_server_stream(server, method, req, request, deadline_ms);
        return;
    }
    if (streams_in) { /* stream mode wants a receiver, also of what was refused */
        static const struct http_body_callbacks ignore = {ignore_data, ignore_end, ignore_end};
        http_request_receive(req, &ignore, NULL);
    }
}

static bool try_inline(struct http_request *req, void *arg)
{
    const struct grpc_server *server = arg;
    const struct grpc_method *method = is_grpc(req) ? method_of(server, req) : NULL;
    int64_t deadline_ms;
    if (!method || !method->inline_first || !kp_streq(req->method, "POST"))
        return false;
    if (check_call(server, req, &deadline_ms) < 0)
        return true;
    const ProtobufCMessage *request = decode_request(server, method, req);
    if (request)
        run_on_loop(server, method, req, request, deadline_ms);
    return true;
}

static bool wants_stream(struct http_request *req, void *arg)
{
    const struct grpc_server *server = arg;
    const struct grpc_method *method = is_grpc(req) ? method_of(server, req) : NULL;
    return method && kind_streams_in(method->kind);
}

static size_t body_max(struct http_request *req, void *arg)
{
    const struct grpc_server *server = arg;
    return is_grpc(req) ? server->message_bytes_max * 2 + BODY_SLACK_BYTES : server->http_body_bytes_max;
}

static void on_overload(struct http_request *req, void *arg)
{
    const struct grpc_server *server = arg;
    if (is_grpc(req))
        refuse(server, req, GRPC_UNAVAILABLE, "the server is overloaded");
    else
        respond_plain(req, 429, "the server is overloaded\n");
}

static void add_methods(struct grpc_server *server, const struct grpc_method *table)
{
    for (; table->path; table++) {
        KP_ASSERT(table->kind == GRPC_UNARY ? table->unary != NULL
                  : table->kind == GRPC_SERVER_STREAM ? table->server_stream != NULL : table->open != NULL);
        KP_ASSERT(!table->inline_first || table->kind == GRPC_SERVER_STREAM);
        void *before = kp_strmap_put(server->methods, table->path, (void *)(uintptr_t)table);
        KP_ASSERT(!before);
        KP_AUTO_FREE char *service = kp_strndup(table->path, (size_t)(strrchr(table->path, '/') - table->path));
        kp_strmap_put(server->services, service, server);
    }
}

int grpc_server_new(struct loop *loop, const struct grpc_server_config *config, struct grpc_server **ret_server,
                    struct kp_error *error)
{
    KP_AUTO(grpc_server_free) struct grpc_server *server = kp_calloc(1, sizeof(*server));
    server->loop = loop;
    server->methods = kp_strmap_new();
    server->services = kp_strmap_new();
    server->health = grpc_health_new();
    server->arg = config->arg;
    server->message_bytes_max = config->message_bytes_max ? config->message_bytes_max : GRPC_MESSAGE_BYTES_MAX_DEFAULT;
    server->queued_bytes_max = config->queued_bytes_max ? config->queued_bytes_max : GRPC_QUEUED_BYTES_MAX_DEFAULT;
    server->http_body_bytes_max = config->http.body_bytes_max ? config->http.body_bytes_max : HTTP_BODY_BYTES_MAX_DEFAULT;
    server->fallback = config->fallback;
    server->on_finish = config->on_finish;
    add_methods(server, grpc_health_methods);
    for (const struct grpc_method *const *table = config->methods; table && *table; table++)
        add_methods(server, *table);
    struct http_server_config http = config->http;
    http.handler = on_request;
    http.arg = server;
    http.wants_stream = wants_stream;
    http.try_inline = try_inline;
    http.body_max = body_max;
    http.on_overload = on_overload;
    http.stream_queued_max = server->queued_bytes_max * 2; /* ours is the tighter one */
    int rc = http_server_new(loop, &http, &server->http, error);
    if (rc < 0)
        return rc;
    *ret_server = KP_TAKE(server);
    return 0;
}

uint16_t grpc_server_port(const struct grpc_server *server)
{
    return http_server_port(server->http);
}

void grpc_server_set_serving(struct grpc_server *server, bool serving)
{
    grpc_health_set(server->health, serving);
}

struct http_server *grpc_server_http(struct grpc_server *server)
{
    return server->http;
}

void grpc_server_shutdown(struct grpc_server *server, int64_t timeout_ms)
{
    grpc_health_set(server->health, false);
    grpc_health_end(server->health); /* or their streams would keep the shutdown waiting */
    http_server_shutdown(server->http, timeout_ms);
}

void grpc_server_free(struct grpc_server *server)
{
    if (!server)
        return;
    http_server_free(server->http);
    grpc_health_close(server->health);
    kp_strmap_free(server->methods, NULL);
    kp_strmap_free(server->services, NULL);
    free(server);
}
