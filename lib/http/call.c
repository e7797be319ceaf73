/* Calls of the client: their public face from any thread, and their life on the loop from waiting to the end. */
#include "lib/http/client_internal.h"

#define REFUSED_MAX 5 /* tries of one call that HTTP/2 connections refused */

/* ---- cancel tokens ---- */

struct http_cancel {
    atomic_int refs;
    atomic_bool fired;
    pthread_mutex_t mutex;
    struct http_call **calls; /* each with a reference */
    size_t len, cap;
};

struct http_cancel *http_cancel_new(void)
{
    struct http_cancel *cancel = kp_calloc(1, sizeof(*cancel));
    atomic_init(&cancel->refs, 1);
    pthread_mutex_init(&cancel->mutex, NULL);
    return cancel;
}

struct http_cancel *http_cancel_ref(struct http_cancel *cancel)
{
    atomic_fetch_add(&cancel->refs, 1);
    return cancel;
}

void http_cancel_unref(struct http_cancel *cancel)
{
    if (!cancel || atomic_fetch_sub(&cancel->refs, 1) > 1)
        return;
    pthread_mutex_destroy(&cancel->mutex);
    free(cancel->calls);
    free(cancel);
}

bool http_cancel_fired(const struct http_cancel *cancel)
{
    return atomic_load(&cancel->fired);
}

void http_cancel_fire(struct http_cancel *cancel)
{
    pthread_mutex_lock(&cancel->mutex);
    atomic_store(&cancel->fired, true);
    for (size_t i = 0; i < cancel->len; i++)
        http_call_cancel(cancel->calls[i]); /* only posts */
    pthread_mutex_unlock(&cancel->mutex);
}

static void cancel_add(struct http_cancel *cancel, struct http_call *call)
{
    pthread_mutex_lock(&cancel->mutex);
    if (cancel->len == cancel->cap) {
        cancel->cap = KP_MAX(cancel->cap * 2, (size_t)4);
        cancel->calls = kp_realloc(cancel->calls, cancel->cap * sizeof(*cancel->calls));
    }
    cancel->calls[cancel->len++] = call;
    atomic_fetch_add(&call->refs, 1);
    pthread_mutex_unlock(&cancel->mutex);
}

static void cancel_remove(struct http_cancel *cancel, struct http_call *call)
{
    bool found = false;
    pthread_mutex_lock(&cancel->mutex);
    for (size_t i = 0; i < cancel->len && !found; i++) {
        if (cancel->calls[i] != call)
            continue;
        cancel->calls[i] = cancel->calls[--cancel->len];
        found = true;
    }
    pthread_mutex_unlock(&cancel->mutex);
    if (found)
        call_put(call);
}

/* ---- calls ---- */

struct http_call *call_new(struct http_client *client, const struct http_client_request *request,
                           const struct http_call_callbacks *callbacks, void *arg)
{
    struct http_call *call = kp_calloc(1, sizeof(*call));
    atomic_init(&call->refs, 2); /* the users' and the loop's */
    atomic_init(&call->user_refs, 1);
    pthread_mutex_init(&call->mutex, NULL);
    call->client = client;
    client_ref(client);
    call->arena = kp_arena_new(0);
    call->method = kp_arena_strdup(call->arena, request->method);
    char *path = kp_arena_strdup(call->arena, kp_empty(request->path) ? "/" : request->path);
    for (char *c = path; *c; c++)
        if ((uint8_t)*c <= 0x20 || *c == 0x7f)
            *c = '_'; /* nothing may end the request line; callers escape paths themselves */
    call->path = path;
    header_list_copy(&call->headers, request->headers, request->header_count, false);
    if (request->body_blob)
        call->body = kp_blob_ref(request->body_blob);
    else if (request->body_len)
        call->body = kp_blob_new(request->body, request->body_len);
    call->body_follows = request->body_follows;
    call->manual_flow = request->manual_flow;
    call->timeout_ms = request->timeout_ms;
    call->cancel = request->cancel ? http_cancel_ref(request->cancel) : NULL;
    if (call->body)
        outq_push(&call->queue, call->body);
    call->send_ended = !request->body_follows;
    call->callbacks = *callbacks;
    call->arg = arg;
    return call;
}

void call_put(struct http_call *call)
{
    if (atomic_fetch_sub(&call->refs, 1) > 1)
        return;
    outq_clear(&call->queue);
    kp_blob_unref(call->body);
    header_list_done(&call->headers);
    kp_buf_done(&call->head_text);
    http_cancel_unref(call->cancel);
    kp_arena_free(call->arena);
    client_unref(call->client);
    pthread_mutex_destroy(&call->mutex);
    free(call);
}

void call_end(struct http_call *call, const struct kp_error *error)
{
    if (call->state == CALL_OVER)
        return;
    struct client_conn *conn = call->state == CALL_ACTIVE ? call->conn : NULL;
    struct client_conn *opening = call->state == CALL_WAITING && call->upgrade ? call->conn : NULL;
    int32_t open_stream = conn && conn->is_h2 && call->h2_open ? call->h2_id : 0;
    if (conn)
        cconn_hold(conn);
    if (call->state == CALL_WAITING && !call->upgrade)
        client_unwait(call);
    cconn_detach(call);
    if (conn && !conn->is_h2 && error)
        cconn_close(conn); /* HTTP/1.1 cannot break off in any other way */
    if (opening) {
        opening->dedicated = NULL;
        cconn_close(opening);
    }
    call->conn = NULL;
    call->state = CALL_OVER;
    loop_timer_free(call->timer);
    call->timer = NULL;
    *call->pprev = call->next;
    if (call->next)
        call->next->pprev = call->pprev;
    pthread_mutex_lock(&call->mutex);
    call->over = true;
    outq_clear(&call->queue);
    pthread_mutex_unlock(&call->mutex);
    if (call->cancel)
        cancel_remove(call->cancel, call);
    call->callbacks.on_end(call, error && error->code ? error : NULL, call->arg);
    if (conn) {
        /* Last: a connection that breaks over it ends its calls, which this one is not any more. */
        ch2_reset(conn, open_stream);
        cconn_idle(conn);
        cconn_release(conn);
    }
    call_put(call);
}

static void timed_out(void *arg)
{
    struct http_call *call = arg;
    struct kp_error error = { 0 };
    kp_fail(&error, KP_ETIMEOUT, "%s %s: no complete response from %s within %lld ms", call->method, call->path,
            call->endpoint ? call->endpoint->authority : "any endpoint", (long long)call->timeout_ms);
    call_end(call, &error);
}

static void run_begin(void *arg)
{
    struct http_call *call = arg;
    struct http_client *client = call->client;
    call->next = client->calls;
    call->pprev = &client->calls;
    if (call->next)
        call->next->pprev = &call->next;
    client->calls = call;
    if (call->timeout_ms > 0) {
        call->timer = loop_timer_new(client->loop, timed_out, call);
        loop_timer_start(call->timer, call->timeout_ms, 0);
    }
    if (call->cancel)
        cancel_add(call->cancel, call);
    struct kp_error error = { 0 };
    pthread_mutex_lock(&call->mutex);
    bool cancelled = call->cancelled;
    pthread_mutex_unlock(&call->mutex);
    if (client->closing || cancelled || (call->cancel && http_cancel_fired(call->cancel))) {
        kp_fail(&error, KP_ECANCELLED, "%s %s: cancelled", call->method, call->path);
        call_end(call, &error);
        return;
    }
    client_assign(call);
}

void call_begin(struct http_call *call)
{
    loop_post(call->client->loop, run_begin, call);
}

static bool is_idempotent(const char *method)
{
    static const char *const methods[] = { "GET", "HEAD", "PUT", "DELETE", "OPTIONS" };
    for (size_t i = 0; i < KP_ARRAY_LEN(methods); i++)
        if (strcmp(method, methods[i]) == 0)
            return true;
    return false;
}

static bool can_replay(const struct http_call *call)
{
    return !call->body_follows || !call->body_taken;
}

bool call_may_retry_stale(const struct http_call *call)
{
    return call->conn && !call->conn->is_h2 && call->conn->calls_done > 0 && !call->any_response &&
           is_idempotent(call->method) && can_replay(call);
}

void call_retry(struct http_call *call, enum retry_reason reason, const struct kp_error *error)
{
    struct http_client *client = call->client;
    bool replay = can_replay(call) && !call->any_response && !client->closing;
    if (reason == RETRY_REFUSED) {
        replay = replay && ++call->refused < REFUSED_MAX;
    } else if (reason == RETRY_UNREACHED) {
        call->tried |= UINT64_C(1) << call->endpoint->index;
        uint64_t all = client->endpoint_count == 64 ? UINT64_MAX : (UINT64_C(1) << client->endpoint_count) - 1;
        replay = replay && call->tried != all;
    }
    if (!replay) {
        call_end(call, error);
        return;
    }
    if (!call->body_follows) {
        pthread_mutex_lock(&call->mutex);
        outq_clear(&call->queue);
        if (call->body)
            outq_push(&call->queue, call->body);
        pthread_mutex_unlock(&call->mutex);
    }
    call->body_taken = call->send_complete = false;
    call->h2_id = 0;
    client_assign(call);
}

void call_headers(struct http_call *call, int status, const struct http_header *headers, size_t count)
{
    call->status = status;
    call->any_response = true;
    call->callbacks.on_headers(call, status, headers, count, call->arg);
}

void call_data(struct http_call *call, const uint8_t *data, size_t len)
{
    if (call->manual_flow)
        call->unconsumed += len;
    call->callbacks.on_data(call, data, len, call->arg);
}

void call_trailers(struct http_call *call, const struct http_header *headers, size_t count)
{
    if (call->callbacks.on_trailers)
        call->callbacks.on_trailers(call, headers, count, call->arg);
}

static void tell_drained(void *arg)
{
    struct http_call *call = arg;
    if (call->state != CALL_OVER && call->callbacks.on_drain)
        call->callbacks.on_drain(call, call->arg);
    call_put(call);
}

void call_drained(struct http_call *call)
{
    if (!call->callbacks.on_drain)
        return;
    atomic_fetch_add(&call->refs, 1);
    loop_post(call->client->loop, tell_drained, call);
}

/* ---- the public face ---- */

static void run_work(void *arg)
{
    struct http_call *call = arg;
    pthread_mutex_lock(&call->mutex);
    call->work_posted = false;
    bool cancelled = call->cancelled;
    pthread_mutex_unlock(&call->mutex);
    size_t consumed = atomic_exchange(&call->consumed, 0);
    consumed = KP_MIN(consumed, call->unconsumed);
    struct client_conn *conn = call->state == CALL_ACTIVE ? call->conn : NULL;
    if (cancelled && call->pprev) {
        struct kp_error error = { 0 };
        kp_fail(&error, KP_ECANCELLED, "%s %s: cancelled", call->method, call->path);
        call_end(call, &error);
    } else if (conn) {
        cconn_hold(conn);
        call->unconsumed -= consumed;
        if (conn->is_h2) {
            ch2_consumed(conn, call, consumed);
            if (call->conn == conn)
                ch2_flush(conn, call);
        } else {
            ch1_consumed(conn, call);
            if (call->conn == conn)
                ch1_flush(conn, call);
        }
        cconn_release(conn);
    } else {
        call->unconsumed -= consumed;
    }
    call_put(call);
}

/* With the mutex held. */
static void schedule_locked(struct http_call *call)
{
    if (call->work_posted || call->over)
        return;
    call->work_posted = true;
    atomic_fetch_add(&call->refs, 1);
    loop_post(call->client->loop, run_work, call);
}

struct http_call *http_client_stream(struct http_client *client, const struct http_client_request *request,
                                     const struct http_call_callbacks *callbacks, void *arg)
{
    struct http_call *call = call_new(client, request, callbacks, arg);
    call_begin(call);
    return call;
}

int http_call_send(struct http_call *call, struct kp_blob *blob)
{
    pthread_mutex_lock(&call->mutex);
    int code = call->over || call->cancelled || call->send_ended ? KP_ECANCELLED : 0;
    if (code == 0) {
        outq_push(&call->queue, blob);
        schedule_locked(call);
    }
    pthread_mutex_unlock(&call->mutex);
    return code;
}

void http_call_send_end(struct http_call *call)
{
    pthread_mutex_lock(&call->mutex);
    call->send_ended = true;
    schedule_locked(call);
    pthread_mutex_unlock(&call->mutex);
}

size_t http_call_queued(struct http_call *call)
{
    pthread_mutex_lock(&call->mutex);
    size_t queued = call->queue.queued;
    pthread_mutex_unlock(&call->mutex);
    return queued;
}

void http_call_consumed(struct http_call *call, size_t len)
{
    pthread_mutex_lock(&call->mutex);
    atomic_fetch_add(&call->consumed, len);
    schedule_locked(call);
    pthread_mutex_unlock(&call->mutex);
}

void http_call_cancel(struct http_call *call)
{
    pthread_mutex_lock(&call->mutex);
    call->cancelled = true;
    schedule_locked(call);
    pthread_mutex_unlock(&call->mutex);
}

struct http_call *http_call_ref(struct http_call *call)
{
    /* In a callback the users' share may have gone already: it comes back. */
    if (atomic_fetch_add(&call->user_refs, 1) == 0)
        atomic_fetch_add(&call->refs, 1);
    return call;
}

void http_call_unref(struct http_call *call)
{
    if (call && atomic_fetch_sub(&call->user_refs, 1) == 1)
        call_put(call);
}
