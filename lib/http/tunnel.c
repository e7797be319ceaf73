/* Tunnels: what remains of a connection after an Upgrade, a raw duplex pipe usable from any thread; and the splice that
   joins two of them. */
#include "lib/http/server_internal.h"

#define CLOSE_FLUSH_MS 5000 /* how long http_tunnel_close goes on sending what is queued */

/* References: the users' as a whole, and the loop's from tunnel_new until on_close has been told. */
struct http_tunnel {
    atomic_int refs, user_refs;
    pthread_mutex_t mutex;
    struct loop *loop;
    /* guarded */
    struct outq queue;
    bool closed, half_closed, close_wanted, work_posted, started, paused;
    struct http_tunnel_callbacks callbacks;
    void *arg;
    /* loop thread only */
    struct transport *transport;
    struct kp_buf early;
    loop_fn gone;
    void *gone_arg;
    struct loop_timer *close_timer;
    bool eof, eof_told, shut, over, in_queue_had;
};

static void tunnel_put(struct http_tunnel *tunnel)
{
    if (atomic_fetch_sub(&tunnel->refs, 1) > 1)
        return;
    outq_clear(&tunnel->queue);
    kp_buf_done(&tunnel->early);
    pthread_mutex_destroy(&tunnel->mutex);
    free(tunnel);
}

struct http_tunnel *tunnel_new(struct loop *loop)
{
    struct http_tunnel *tunnel = kp_calloc(1, sizeof(*tunnel));
    atomic_init(&tunnel->refs, 2);
    atomic_init(&tunnel->user_refs, 1);
    pthread_mutex_init(&tunnel->mutex, NULL);
    tunnel->loop = loop;
    return tunnel;
}

/* The end of everything: closes, tells, gives up the loop's reference. */
static void finish(struct http_tunnel *tunnel)
{
    if (tunnel->over)
        return;
    tunnel->over = true;
    transport_close(tunnel->transport);
    tunnel->transport = NULL;
    loop_timer_free(tunnel->close_timer);
    tunnel->close_timer = NULL;
    pthread_mutex_lock(&tunnel->mutex);
    tunnel->closed = true;
    outq_clear(&tunnel->queue);
    bool started = tunnel->started;
    pthread_mutex_unlock(&tunnel->mutex);
    if (started && tunnel->callbacks.on_close)
        tunnel->callbacks.on_close(tunnel, tunnel->arg);
    if (tunnel->gone)
        tunnel->gone(tunnel->gone_arg);
    if (started)
        http_tunnel_unref(tunnel); /* http_tunnel_start's */
    tunnel_put(tunnel);
}

static void close_timed_out(void *arg)
{
    finish(arg);
}

/* Moves queued bytes to the transport, and carries out what was asked for. Loop thread. */
static void work(struct http_tunnel *tunnel)
{
    if (tunnel->over || !tunnel->transport)
        return;
    bool had = false, empty;
    pthread_mutex_lock(&tunnel->mutex);
    struct kp_blob *blob;
    size_t offset;
    while (tunnel->transport && transport_queued(tunnel->transport) < TRANSPORT_QUEUED_HIGH && (blob = outq_pop(&tunnel->queue, &offset))) {
        pthread_mutex_unlock(&tunnel->mutex);
        had = true;
        transport_write_blob(tunnel->transport, blob, offset);
        kp_blob_unref(blob);
        pthread_mutex_lock(&tunnel->mutex);
    }
    empty = tunnel->queue.queued == 0;
    bool half = tunnel->half_closed, closing = tunnel->close_wanted, started = tunnel->started, paused = tunnel->paused;
    pthread_mutex_unlock(&tunnel->mutex);
    tunnel->in_queue_had = tunnel->in_queue_had || had;
    if (empty && (half || closing) && !tunnel->shut) {
        tunnel->shut = true;
        transport_shutdown(tunnel->transport);
    }
    bool flushed = empty && transport_queued(tunnel->transport) == 0;
    if (tunnel->in_queue_had && flushed) {
        tunnel->in_queue_had = false;
        if (started && tunnel->callbacks.on_drain && !closing)
            tunnel->callbacks.on_drain(tunnel, tunnel->arg);
        if (tunnel->over)
            return;
    }
    if (tunnel->eof && (half || closing) && flushed) {
        finish(tunnel);
        return;
    }
    if (closing && !tunnel->close_timer) {
        tunnel->close_timer = loop_timer_new(tunnel->loop, close_timed_out, tunnel);
        loop_timer_start(tunnel->close_timer, CLOSE_FLUSH_MS, 0);
    }
    if (closing) {
        /* A socket closed with unread bytes resets the connection, and the peer loses what is still on its way to it: read
           on, to nowhere, until the peer closes too. */
        transport_resume(tunnel->transport);
        return;
    }
    if (!started)
        return;
    if (paused) {
        transport_pause(tunnel->transport);
        return;
    }
    if (tunnel->early.len) {
        struct kp_buf early = tunnel->early;
        tunnel->early = (struct kp_buf){ 0 };
        tunnel->callbacks.on_data(tunnel, (const uint8_t *)early.data, early.len, tunnel->arg);
        kp_buf_done(&early);
    }
    if (!tunnel->over && tunnel->eof && !tunnel->eof_told) {
        tunnel->eof_told = true;
        tunnel->callbacks.on_eof(tunnel, tunnel->arg);
    }
    if (!tunnel->over && tunnel->transport)
        transport_resume(tunnel->transport);
}

static void run_work(void *arg)
{
    struct http_tunnel *tunnel = arg;
    pthread_mutex_lock(&tunnel->mutex);
    tunnel->work_posted = false;
    pthread_mutex_unlock(&tunnel->mutex);
    work(tunnel);
    tunnel_put(tunnel);
}

/* With the mutex held. */
static void schedule_locked(struct http_tunnel *tunnel)
{
    if (tunnel->work_posted || tunnel->closed)
        return;
    tunnel->work_posted = true;
    atomic_fetch_add(&tunnel->refs, 1);
    loop_post(tunnel->loop, run_work, tunnel);
}

static void on_read(struct transport *transport, const uint8_t *data, size_t len, void *arg)
{
    struct http_tunnel *tunnel = arg;
    (void)transport;
    atomic_fetch_add(&tunnel->refs, 1);
    pthread_mutex_lock(&tunnel->mutex);
    bool closing = tunnel->close_wanted, later = !tunnel->started || tunnel->paused;
    pthread_mutex_unlock(&tunnel->mutex);
    if (later && !closing) {
        kp_buf_append(&tunnel->early, data, len); /* paused from another thread just now */
        transport_pause(transport);
    } else if (!closing) {
        tunnel->callbacks.on_data(tunnel, data, len, tunnel->arg);
    }
    tunnel_put(tunnel);
}

static void on_eof(struct transport *transport, void *arg)
{
    struct http_tunnel *tunnel = arg;
    (void)transport;
    atomic_fetch_add(&tunnel->refs, 1);
    tunnel->eof = true;
    work(tunnel);
    tunnel_put(tunnel);
}

static void on_error(struct transport *transport, const struct kp_error *error, void *arg)
{
    (void)transport;
    (void)error;
    finish(arg);
}

static void on_drain(struct transport *transport, void *arg)
{
    struct http_tunnel *tunnel = arg;
    (void)transport;
    atomic_fetch_add(&tunnel->refs, 1);
    work(tunnel);
    tunnel_put(tunnel);
}

void tunnel_attach(struct http_tunnel *tunnel, struct transport *transport, const void *early, size_t early_len, loop_fn gone,
                   void *arg)
{
    static const struct transport_callbacks callbacks = { NULL, on_read, on_eof, on_error, on_drain };
    tunnel->transport = transport;
    tunnel->gone = gone;
    tunnel->gone_arg = arg;
    kp_buf_append(&tunnel->early, early, early_len);
    transport_set_callbacks(transport, &callbacks, tunnel);
    transport_read_on(transport); /* what the peer sent before it stopped listening must arrive */
    transport_pause(transport);
    pthread_mutex_lock(&tunnel->mutex);
    schedule_locked(tunnel);
    pthread_mutex_unlock(&tunnel->mutex);
}

void tunnel_fail(struct http_tunnel *tunnel)
{
    finish(tunnel);
}

void tunnel_abort(struct http_tunnel *tunnel)
{
    finish(tunnel);
}

struct loop *tunnel_loop(const struct http_tunnel *tunnel)
{
    return tunnel->loop;
}

bool tunnel_is_open(struct http_tunnel *tunnel)
{
    pthread_mutex_lock(&tunnel->mutex);
    bool open = !tunnel->closed;
    pthread_mutex_unlock(&tunnel->mutex);
    return open;
}

void tunnel_post(struct http_tunnel *tunnel, loop_fn fn, void *arg, void (*dropped)(void *arg))
{
    pthread_mutex_lock(&tunnel->mutex);
    bool open = !tunnel->closed;
    if (open)
        loop_post(tunnel->loop, fn, arg);
    pthread_mutex_unlock(&tunnel->mutex);
    if (!open)
        dropped(arg);
}

/* ---- the public face ---- */

struct http_tunnel *http_upgrade(struct http_request *req, const struct http_header *headers, size_t header_count)
{
    struct exchange *ex = exchange_of(req);
    struct http_stream *stream = ex->out;
    if (!ex->can_upgrade || http_request_cancelled(req))
        return NULL;
    struct http_tunnel *tunnel = tunnel_new(stream->loop);
    pthread_mutex_lock(&stream->mutex);
    bool open = !stream->closed && !atomic_exchange(&ex->answered, true);
    if (open) {
        header_list_copy(&stream->headers, headers, header_count, false);
        stream->status = 101;
        stream->head_set = true;
        ex->tunnel = tunnel;
    }
    pthread_mutex_unlock(&stream->mutex);
    if (open) {
        stream_schedule(stream);
        return tunnel;
    }
    tunnel_put(tunnel);
    tunnel_put(tunnel);
    return NULL;
}


/* It broke before it was started: on_close is still owed. */
static void tell_late_close(void *arg)
{
    struct http_tunnel *tunnel = arg;
    if (tunnel->callbacks.on_close)
        tunnel->callbacks.on_close(tunnel, tunnel->arg);
    http_tunnel_unref(tunnel);
}

void http_tunnel_start(struct http_tunnel *tunnel, const struct http_tunnel_callbacks *callbacks, void *arg)
{
    pthread_mutex_lock(&tunnel->mutex);
    KP_ASSERT(!tunnel->started);
    bool closed = tunnel->closed;
    tunnel->callbacks = *callbacks;
    tunnel->arg = arg;
    tunnel->started = true;
    http_tunnel_ref(tunnel);
    if (!closed)
        schedule_locked(tunnel);
    pthread_mutex_unlock(&tunnel->mutex);
    if (closed)
        loop_post(tunnel->loop, tell_late_close, tunnel);
}

int http_tunnel_write_blob(struct http_tunnel *tunnel, struct kp_blob *blob)
{
    int code = 0;
    pthread_mutex_lock(&tunnel->mutex);
    if (tunnel->closed || tunnel->half_closed || tunnel->close_wanted) {
        code = KP_ECANCELLED;
    } else if (tunnel->queue.queued > 0 && tunnel->queue.queued + blob->len > HTTP_TUNNEL_QUEUED_MAX) {
        code = KP_ETOOLARGE;
        outq_clear(&tunnel->queue);
        tunnel->close_wanted = true;
        schedule_locked(tunnel);
    } else {
        outq_push(&tunnel->queue, blob);
        schedule_locked(tunnel);
    }
    pthread_mutex_unlock(&tunnel->mutex);
    return code;
}

int http_tunnel_write(struct http_tunnel *tunnel, const void *data, size_t len)
{
    KP_AUTO(kp_blob_unref) struct kp_blob *blob = kp_blob_new(data, len);
    return http_tunnel_write_blob(tunnel, blob);
}

size_t http_tunnel_queued(struct http_tunnel *tunnel)
{
    pthread_mutex_lock(&tunnel->mutex);
    size_t queued = tunnel->queue.queued;
    pthread_mutex_unlock(&tunnel->mutex);
    return queued;
}

static void set_flag(struct http_tunnel *tunnel, bool *flag, bool value)
{
    pthread_mutex_lock(&tunnel->mutex);
    *flag = value;
    schedule_locked(tunnel);
    pthread_mutex_unlock(&tunnel->mutex);
}

void http_tunnel_pause(struct http_tunnel *tunnel)
{
    set_flag(tunnel, &tunnel->paused, true);
}

void http_tunnel_resume(struct http_tunnel *tunnel)
{
    set_flag(tunnel, &tunnel->paused, false);
}

void http_tunnel_half_close(struct http_tunnel *tunnel)
{
    set_flag(tunnel, &tunnel->half_closed, true);
}

void http_tunnel_close(struct http_tunnel *tunnel)
{
    set_flag(tunnel, &tunnel->close_wanted, true);
}

struct http_tunnel *http_tunnel_ref(struct http_tunnel *tunnel)
{
    atomic_fetch_add(&tunnel->user_refs, 1);
    return tunnel;
}

void http_tunnel_unref(struct http_tunnel *tunnel)
{
    if (!tunnel || atomic_fetch_sub(&tunnel->user_refs, 1) > 1)
        return;
    http_tunnel_close(tunnel);
    tunnel_put(tunnel);
}

/* ---- splice ---- */

struct splice {
    atomic_int refs; /* one an end */
    struct splice_end {
        struct splice *splice;
        struct http_tunnel *self, *other;
    } ends[2];
    loop_fn done;
    void *arg;
};

static void splice_data(struct http_tunnel *tunnel, const uint8_t *data, size_t len, void *arg)
{
    struct splice_end *end = arg;
    (void)tunnel;
    if (http_tunnel_write(end->other, data, len) < 0) {
        http_tunnel_close(end->self);
    } else if (http_tunnel_queued(end->other) > HTTP_TUNNEL_QUEUED_HIGH) {
        http_tunnel_pause(end->self); /* until the other side's queue has drained */
        if (http_tunnel_queued(end->other) == 0)
            http_tunnel_resume(end->self); /* it did so in between, and its drain callback may be over */
    }
}

static void splice_eof(struct http_tunnel *tunnel, void *arg)
{
    struct splice_end *end = arg;
    (void)tunnel;
    http_tunnel_half_close(end->other);
}

static void splice_drain(struct http_tunnel *tunnel, void *arg)
{
    struct splice_end *end = arg;
    (void)tunnel;
    http_tunnel_resume(end->other);
}

static void splice_close(struct http_tunnel *tunnel, void *arg)
{
    struct splice_end *end = arg;
    struct splice *splice = end->splice;
    (void)tunnel;
    http_tunnel_close(end->other);
    if (atomic_fetch_sub(&splice->refs, 1) > 1)
        return;
    if (splice->done)
        splice->done(splice->arg);
    http_tunnel_unref(splice->ends[0].self);
    http_tunnel_unref(splice->ends[1].self);
    free(splice);
}

void http_tunnel_splice(struct http_tunnel *a, struct http_tunnel *b, loop_fn done, void *arg)
{
    static const struct http_tunnel_callbacks callbacks = { splice_data, splice_eof, splice_drain, splice_close };
    struct splice *splice = kp_calloc(1, sizeof(*splice));
    atomic_init(&splice->refs, 2);
    splice->done = done;
    splice->arg = arg;
    splice->ends[0] = (struct splice_end){ splice, http_tunnel_ref(a), b };
    splice->ends[1] = (struct splice_end){ splice, http_tunnel_ref(b), a };
    http_tunnel_start(a, &callbacks, &splice->ends[0]);
    http_tunnel_start(b, &callbacks, &splice->ends[1]);
}
