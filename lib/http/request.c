/* Requests on the server: their life from complete headers through the handler to the end of the answer. */
#include "lib/http/server_internal.h"

#include <strings.h>

#define REQUEST_ARENA_CAP ((size_t)1 << 30) /* a safety net: handlers bound what they take of it */
#define HEAD_ARENA_CAP ((size_t)4 << 20)

struct exchange *exchange_new(struct server_conn *conn)
{
    struct exchange *ex = kp_calloc(1, sizeof(*ex));
    atomic_init(&ex->refs, 2);      /* the connection's and the users' */
    atomic_init(&ex->user_refs, 1); /* whoever dispatches it */
    ex->head_arena = kp_arena_new(HEAD_ARENA_CAP);
    ex->server = conn->server;
    server_ref(ex->server);
    ex->peer = peer_ref(conn->peer);
    ex->out = stream_new(ex);
    ex->conn = conn;
    ex->next = conn->exchanges;
    ex->pprev = &conn->exchanges;
    if (ex->next)
        ex->next->pprev = &ex->next;
    conn->exchanges = ex;
    conn->exchange_count++;
    snprintf(ex->peer_address, sizeof(ex->peer_address), "%s", transport_peer(conn->transport));
    ex->req.arena = kp_arena_new(REQUEST_ARENA_CAP);
    ex->req.peer_address = ex->peer_address;
    ex->req.peer = ex->peer ? &ex->peer->identity : NULL;
    ex->req.scheme = transport_is_tls(conn->transport) ? "https" : "http";
    ex->req.authority = ex->req.query = "";
    ex->req.method = ex->req.raw_path = ex->req.path = "";
    return ex;
}

void exchange_unref(struct exchange *ex)
{
    if (atomic_fetch_sub(&ex->refs, 1) > 1)
        return;
    stream_put(ex->out);
    peer_unref(ex->peer);
    kp_buf_done(&ex->head_text);
    kp_buf_done(&ex->body);
    kp_arena_free(ex->req.arena);
    kp_arena_free(ex->head_arena);
    server_unref(ex->server);
    free(ex);
}

struct http_request *http_request_ref(struct http_request *req)
{
    atomic_fetch_add(&exchange_of(req)->user_refs, 1);
    return req;
}

void http_request_unref(struct http_request *req)
{
    if (!req)
        return;
    struct exchange *ex = exchange_of(req);
    if (atomic_fetch_sub(&ex->user_refs, 1) > 1)
        return;
    exchange_respond_plain(ex, 500, "the request was left without an answer");
    kp_arena_free(req->arena);
    req->arena = NULL;
    ex->query_pairs = NULL;
    req->body = (struct kp_bytes){ 0 };
    kp_buf_done(&ex->body);
    exchange_unref(ex);
}

void *http_request_alloc(struct http_request *req, size_t size)
{
    return kp_arena_alloc(exchange_of(req)->head_arena, size);
}

bool http_request_cancelled(const struct http_request *req)
{
    return atomic_load(&exchange_of(req)->cancelled);
}

int exchange_set_target(struct exchange *ex, const char *target)
{
    const char *question = strchr(target, '?');
    size_t path_len = question ? (size_t)(question - target) : strlen(target);
    ex->req.raw_path = kp_arena_strndup(ex->head_arena, target, path_len);
    ex->req.query = question ? kp_arena_strdup(ex->head_arena, question + 1) : "";
    ex->req.path = http_percent_decode(ex->head_arena, target, path_len, false);
    if (ex->req.path)
        return 0;
    ex->req.path = ex->req.raw_path;
    return KP_EBADREQUEST;
}

const char *http_request_header(const struct http_request *req, const char *name)
{
    return http_header_get(req->headers, req->header_count, name);
}

static void parse_query(struct exchange *ex)
{
    if (ex->query_pairs)
        return;
    size_t max = 1;
    for (const char *c = ex->req.query; *c; c++)
        max += *c == '&';
    ex->query_pairs = KP_NEW_ARRAY(ex->req.arena, struct query_pair, max);
    ex->query_count = 0;
    const char *iter = ex->req.query;
    struct query_pair pair;
    while (http_query_next(ex->req.arena, &iter, &pair.name, &pair.value))
        ex->query_pairs[ex->query_count++] = pair;
}

const char *http_request_query(struct http_request *req, const char *name)
{
    struct exchange *ex = exchange_of(req);
    parse_query(ex);
    for (size_t i = 0; i < ex->query_count; i++)
        if (strcmp(ex->query_pairs[i].name, name) == 0)
            return ex->query_pairs[i].value;
    return NULL;
}

size_t http_request_query_all(struct http_request *req, const char *name, const char *const **ret_values)
{
    struct exchange *ex = exchange_of(req);
    parse_query(ex);
    const char **values = KP_NEW_ARRAY(req->arena, const char *, ex->query_count + 1);
    size_t count = 0;
    for (size_t i = 0; i < ex->query_count; i++)
        if (strcmp(ex->query_pairs[i].name, name) == 0)
            values[count++] = ex->query_pairs[i].value;
    *ret_values = values;
    return count;
}

bool http_request_accepts_gzip(const struct http_request *req)
{
    for (size_t i = 0; i < req->header_count; i++) {
        const char *item = req->headers[i].value;
        while (strcasecmp(req->headers[i].name, "accept-encoding") == 0 && *item) {
            item += strspn(item, " \t,");
            size_t len = strcspn(item, ","), name_len = strcspn(item, ",; \t");
            const char *q = memmem(item, len, "q=", 2);
            bool zero = q && q[2] == '0' && strspn(q + 2, "0.") == strcspn(q + 2, ", \t");
            if (name_len == 4 && strncasecmp(item, "gzip", 4) == 0 && !zero)
                return true;
            item += len;
        }
    }
    return false;
}

/* ---- handing over to handlers ---- */

static void job_done(struct http_server *server)
{
    pthread_mutex_lock(&server->mutex);
    server->jobs--;
    pthread_cond_broadcast(&server->cond);
    pthread_mutex_unlock(&server->mutex);
    server_unref(server);
}

static void job_begin(struct http_server *server)
{
    server_ref(server);
    pthread_mutex_lock(&server->mutex);
    server->jobs++;
    pthread_mutex_unlock(&server->mutex);
}

static void run_handler(void *arg)
{
    struct exchange *ex = arg;
    struct http_server *server = ex->server;
    /* A client may open and reset streams faster than handlers run: those left by the peer cost nothing more. */
    if (!atomic_load(&ex->cancelled))
        server->config.handler(&ex->req, server->config.arg);
    http_request_unref(&ex->req);
    job_done(server);
}

struct job {
    struct http_server *server;
    loop_fn fn;
    void *arg;
};

static void run_job(void *arg)
{
    struct job job = *(struct job *)arg;
    free(arg);
    job.fn(job.arg);
    job_done(job.server);
}

int http_request_submit(struct http_request *req, loop_fn fn, void *arg)
{
    struct http_server *server = exchange_of(req)->server;
    struct job *job = kp_malloc(sizeof(*job));
    *job = (struct job){ server, fn, arg };
    job_begin(server);
    int code = pool_submit(server->config.pool, run_job, job);
    if (code < 0) {
        free(job);
        job_done(server);
    }
    return code;
}

static void dispatch(struct exchange *ex)
{
    struct http_server *server = ex->server;
    ex->dispatched = true;
    ex->req.body = (struct kp_bytes){ (const uint8_t *)(ex->body.data ? ex->body.data : ""), ex->body.len };
    if (server->config.try_inline && server->config.try_inline(&ex->req, server->config.arg)) {
        http_request_unref(&ex->req);
        return;
    }
    job_begin(server);
    int code = pool_submit(server->config.pool, run_handler, ex);
    if (code == 0)
        return;
    job_done(server);
    if (code == KP_ETOOMANY && server->config.on_overload)
        server->config.on_overload(&ex->req, server->config.arg);
    else
        exchange_respond_plain(ex, code == KP_ETOOMANY ? 429 : 503, "too many requests, try again later");
    http_request_unref(&ex->req);
}

void exchange_begin(struct exchange *ex)
{
    struct http_server *server = ex->server;
    ex->req.received_ns = kp_mono_ns();
    ex->body_max = server->config.body_bytes_max;
    if (server->config.body_max)
        ex->body_max = server->config.body_max(&ex->req, server->config.arg);
    if (!server->config.wants_stream || !server->config.wants_stream(&ex->req, server->config.arg))
        return;
    ex->stream_mode = true;
    ex->dispatched = true;
    server->config.handler(&ex->req, server->config.arg);
    KP_ASSERT(ex->receiving); /* the contract of stream mode */
    http_request_unref(&ex->req);
}

void http_request_receive(struct http_request *req, const struct http_body_callbacks *callbacks, void *arg)
{
    struct exchange *ex = exchange_of(req);
    KP_ASSERT(ex->stream_mode && !ex->receiving);
    ex->receiving = true;
    ex->body_callbacks = *callbacks;
    ex->body_arg = arg;
    http_request_ref(req); /* until on_end or on_abort */
}

int exchange_body(struct exchange *ex, const uint8_t *data, size_t len)
{
    if (ex->stream_mode) {
        ex->unconsumed += len;
        ex->body_callbacks.on_data(&ex->req, data, len, ex->body_arg);
        return 0;
    }
    if (ex->body.len + len > ex->body_max)
        return KP_ETOOLARGE;
    kp_buf_append(&ex->body, data, len);
    return 0;
}

static void body_told(struct exchange *ex, bool complete)
{
    if (!ex->receiving || ex->body_told)
        return;
    ex->body_told = true;
    if (complete)
        ex->body_callbacks.on_end(&ex->req, ex->body_arg);
    else
        ex->body_callbacks.on_abort(&ex->req, ex->body_arg);
    http_request_unref(&ex->req);
}

void exchange_body_end(struct exchange *ex)
{
    ex->body_complete = true;
    ex->body_deadline_ms = 0;
    if (ex->stream_mode)
        body_told(ex, true);
    else if (!atomic_load(&ex->answered))
        dispatch(ex);
}

static void take_consumed(void *arg)
{
    struct exchange *ex = arg;
    size_t len = atomic_exchange(&ex->consumed, 0);
    if (ex->conn && !ex->conn->closed) {
        len = KP_MIN(len, ex->unconsumed);
        ex->unconsumed -= len;
        ex->conn->ops->consumed(ex->conn, ex, len);
    }
    exchange_unref(ex);
}

void http_request_consumed(struct http_request *req, size_t len)
{
    struct exchange *ex = exchange_of(req);
    /* The stream's closed flag, set on the loop's thread before the loop can go away, guards the post. */
    pthread_mutex_lock(&ex->out->mutex);
    if (len && !ex->out->closed && atomic_fetch_add(&ex->consumed, len) == 0) {
        atomic_fetch_add(&ex->refs, 1);
        loop_post(ex->out->loop, take_consumed, ex);
    }
    pthread_mutex_unlock(&ex->out->mutex);
}

void exchange_over(struct exchange *ex, bool complete)
{
    struct http_server *server = ex->server;
    if (!complete)
        atomic_store(&ex->cancelled, true);
    body_told(ex, false);
    if (server->config.on_access && ex->req.received_ns) {
        struct http_access access = { .request = &ex->req, .status = ex->head_sent || ex->submitted ? ex->out->status : 0,
                                      .response_bytes = ex->bytes_out, .duration_ns = kp_mono_ns() - ex->req.received_ns };
        server->config.on_access(&access, server->config.arg);
    }
    *ex->pprev = ex->next;
    if (ex->next)
        ex->next->pprev = ex->pprev;
    ex->conn->exchange_count--;
    ex->conn = NULL;
    ex->out->exchange = NULL;
    stream_closed(ex->out);
    if (ex->tunnel) /* the connection broke before the 101 went out */
        tunnel_fail(ex->tunnel);
    ex->tunnel = NULL;
    if (!ex->dispatched) {
        atomic_store(&ex->answered, true);
        http_request_unref(&ex->req);
    }
    exchange_unref(ex);
}
