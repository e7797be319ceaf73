/* A byte transport: a socket, with or without a TLS session over it. */
#include "lib/http/http_internal.h"
#include "lib/tls/tls.h"

#define TLS_SLICE_BYTES ((size_t)64 << 10) /* encrypted at once; the rest of a blob waits in the clear, uncopied */
#define TLS_READ_BYTES ((size_t)16 << 10)  /* one TLS record at most */

struct transport {
    struct loop_stream *stream;
    struct tls_session *tls; /* NULL: cleartext */
    struct tls_context *context;
    struct transport_callbacks callbacks;
    void *arg;
    struct outq pending; /* TLS: not yet encrypted */
    int holds;
    bool ready, closed, paused, failed, shut, eof_told, pump_posted;
};

static void hold(struct transport *t)
{
    t->holds++;
}

static void release(struct transport *t)
{
    if (--t->holds > 0 || !t->closed)
        return;
    outq_clear(&t->pending);
    tls_session_free(t->tls);
    tls_context_unref(t->context);
    free(t);
}

static void fail(struct transport *t, const struct kp_error *error)
{
    if (t->closed || t->failed)
        return;
    t->failed = true;
    t->callbacks.on_error(t, error, t->arg);
}

static void send_output(struct transport *t)
{
    struct kp_bytes out = tls_session_output(t->tls);
    if (out.len && !t->closed)
        loop_stream_write(t->stream, out.data, out.len);
    tls_session_output_consume(t->tls, out.len);
}

/* Encrypts what waits while the socket takes it. */
static void encrypt_pending(struct transport *t)
{
    struct kp_error error = { 0 };
    while (!t->closed && t->pending.head && loop_stream_queued(t->stream) < TRANSPORT_QUEUED_HIGH) {
        struct out_chunk *chunk = t->pending.head;
        size_t len = KP_MIN(chunk->end - chunk->offset, TLS_SLICE_BYTES);
        if (tls_session_write(t->tls, chunk->blob->data + chunk->offset, len, &error) < 0) {
            outq_clear(&t->pending);
            return; /* a dead session: reading reports it */
        }
        chunk->offset += len;
        t->pending.queued -= len;
        if (chunk->offset == chunk->end) {
            size_t offset;
            kp_blob_unref(outq_pop(&t->pending, &offset));
        }
        send_output(t);
    }
    if (!t->closed && t->shut && !t->pending.head) {
        tls_session_close(t->tls);
        send_output(t);
        loop_stream_shutdown(t->stream);
    }
}

static void tell_eof(struct transport *t)
{
    if (t->eof_told || t->closed || t->failed)
        return;
    t->eof_told = true;
    t->callbacks.on_eof(t, t->arg);
}

static void check_ready(struct transport *t)
{
    if (t->ready || !tls_session_handshake_done(t->tls))
        return;
    t->ready = true;
    if (t->callbacks.on_ready)
        t->callbacks.on_ready(t, t->arg);
}

/* Hands decrypted bytes over until there are none, or the reader paused. */
static void pump(struct transport *t)
{
    uint8_t plain[TLS_READ_BYTES];
    struct kp_error error = { 0 };
    ssize_t count = 0;
    check_ready(t);
    while (!t->closed && !t->paused && t->ready && (count = tls_session_read(t->tls, plain, sizeof(plain), &error)) > 0)
        t->callbacks.on_read(t, plain, (size_t)count, t->arg);
    if (t->closed)
        return;
    send_output(t);
    if (count < 0)
        fail(t, &error);
    else if (!t->paused && tls_session_peer_closed(t->tls))
        tell_eof(t);
}

static void on_read(struct loop_stream *stream, const uint8_t *data, size_t len, void *arg)
{
    struct transport *t = arg;
    (void)stream;
    hold(t);
    if (!t->tls) {
        t->callbacks.on_read(t, data, len, t->arg);
    } else {
        struct kp_error error = { 0 };
        int code = tls_session_feed(t->tls, data, len, &error);
        pump(t);
        if (code < 0 && !t->closed)
            fail(t, &error);
    }
    release(t);
}

static void on_eof(struct loop_stream *stream, void *arg)
{
    struct transport *t = arg;
    (void)stream;
    hold(t);
    if (t->tls && !t->ready) {
        struct kp_error error = { 0 };
        kp_fail(&error, KP_EUNAVAILABLE, "%s closed the connection during the TLS handshake", transport_peer(t));
        fail(t, &error);
    } else {
        tell_eof(t);
    }
    release(t);
}

static void on_error(struct loop_stream *stream, const struct kp_error *error, void *arg)
{
    struct transport *t = arg;
    (void)stream;
    hold(t);
    fail(t, error);
    release(t);
}

static void on_drain(struct loop_stream *stream, void *arg)
{
    struct transport *t = arg;
    (void)stream;
    hold(t);
    if (t->tls)
        encrypt_pending(t);
    if (!t->closed && transport_queued(t) < TRANSPORT_QUEUED_HIGH && t->ready)
        t->callbacks.on_drain(t, t->arg);
    release(t);
}

struct transport *transport_new(struct loop_stream *stream, struct tls_context *tls, bool is_server, const char *server_name,
                                enum transport_alpn alpn, struct kp_error *error)
{
    static const struct loop_stream_callbacks callbacks = { on_read, on_eof, on_error, on_drain };
    struct transport *t = kp_calloc(1, sizeof(*t));
    t->stream = stream;
    static const char *const offers[][3] = { [ALPN_H1] = { "http/1.1" }, [ALPN_H2] = { "h2" }, [ALPN_BOTH] = { "h2", "http/1.1" } };
    const char *const *offer = is_server ? NULL : offers[alpn];
    if (tls && tls_session_new_alpn(tls, server_name, offer, &t->tls, error) < 0) {
        loop_stream_close(stream);
        free(t);
        return NULL;
    }
    t->context = tls ? tls_context_ref(tls) : NULL;
    loop_stream_set_callbacks(stream, &callbacks, t);
    return t;
}

void transport_set_callbacks(struct transport *t, const struct transport_callbacks *callbacks, void *arg)
{
    t->callbacks = *callbacks;
    t->arg = arg;
}

void transport_read_on(struct transport *t)
{
    loop_stream_read_on(t->stream);
}

void transport_start(struct transport *t)
{
    hold(t);
    if (t->tls) {
        send_output(t);
    } else {
        t->ready = true;
        if (t->callbacks.on_ready)
            t->callbacks.on_ready(t, t->arg);
    }
    if (!t->closed && !t->paused)
        loop_stream_resume(t->stream);
    release(t);
}

bool transport_chose_h2(const struct transport *t)
{
    const char *alpn = t->tls ? tls_session_alpn(t->tls) : NULL;
    return alpn && strcmp(alpn, "h2") == 0;
}

bool transport_is_tls(const struct transport *t)
{
    return t->tls != NULL;
}

const char *transport_peer(const struct transport *t)
{
    return loop_stream_peer(t->stream);
}

struct loop *transport_loop(const struct transport *t)
{
    return loop_stream_loop(t->stream);
}

struct peer_object *transport_peer_identity(struct transport *t)
{
    struct tls_cert *cert = t->tls ? tls_session_peer_cert(t->tls) : NULL;
    if (!cert)
        return NULL;
    const struct tls_cert_info *info = tls_cert_info(cert);
    struct peer_object *peer = kp_calloc(1, sizeof(*peer));
    atomic_init(&peer->refs, 1);
    peer->arena = kp_arena_new(0);
    const char **organizations = KP_NEW_ARRAY(peer->arena, const char *, info->organization_count + 1);
    for (size_t i = 0; i < info->organization_count; i++)
        organizations[i] = kp_arena_strdup(peer->arena, info->organizations[i]);
    KP_AUTO_BUF struct kp_buf der = { 0 };
    tls_cert_to_der(cert, &der);
    peer->identity = (struct http_peer_identity){ .common_name = kp_arena_strdup(peer->arena, info->common_name),
                                                  .organizations = organizations,
                                                  .organization_count = info->organization_count,
                                                  .certificate_der = { kp_arena_memdup(peer->arena, der.data, der.len), der.len } };
    return peer;
}

void transport_write(struct transport *t, const void *data, size_t len)
{
    if (t->closed || t->shut || len == 0)
        return;
    if (!t->tls) {
        loop_stream_write(t->stream, data, len);
        return;
    }
    struct kp_error error = { 0 };
    if (!t->pending.head && len <= TLS_SLICE_BYTES && loop_stream_queued(t->stream) < TRANSPORT_QUEUED_HIGH) {
        if (tls_session_write(t->tls, data, len, &error) == 0)
            send_output(t); /* a dead session is reported by reading */
        return;
    }
    outq_push_copy(&t->pending, data, len);
    encrypt_pending(t);
}

void transport_write_blob(struct transport *t, struct kp_blob *blob, size_t offset)
{
    if (t->closed || t->shut || offset >= blob->len)
        return;
    if (t->tls) {
        outq_push_slice(&t->pending, &(struct http_slice){ .blob = blob, .offset = offset, .len = blob->len - offset });
        encrypt_pending(t);
    } else if (offset == 0) {
        loop_stream_write_blob(t->stream, blob);
    } else {
        loop_stream_write(t->stream, blob->data + offset, blob->len - offset);
    }
}

void transport_write_parts(struct transport *t, const struct loop_part *parts, size_t count)
{
    KP_ASSERT(!t->tls);
    if (!t->closed && !t->shut)
        loop_stream_write_parts(t->stream, parts, count);
}

size_t transport_queued(const struct transport *t)
{
    return t->closed ? 0 : loop_stream_queued(t->stream) + t->pending.queued;
}

void transport_pause(struct transport *t)
{
    t->paused = true;
    if (!t->closed && (!t->tls || t->ready))
        loop_stream_pause(t->stream);
}

static void run_pump(void *arg)
{
    struct transport *t = arg;
    t->pump_posted = false;
    if (!t->closed)
        pump(t);
    release(t);
}

void transport_resume(struct transport *t)
{
    if (t->closed)
        return;
    bool was = t->paused;
    t->paused = false;
    loop_stream_resume(t->stream);
    if (was && t->tls && !t->pump_posted) { /* decrypted bytes may wait in the session; not here, where the caller may be in a callback */
        t->pump_posted = true;
        hold(t);
        loop_post(transport_loop(t), run_pump, t);
    }
}

void transport_shutdown(struct transport *t)
{
    if (t->closed || t->shut)
        return;
    t->shut = true;
    if (t->tls)
        encrypt_pending(t);
    else
        loop_stream_shutdown(t->stream);
}

void transport_close(struct transport *t)
{
    if (!t || t->closed)
        return;
    hold(t);
    if (t->tls && !t->shut && t->ready && !t->failed) {
        tls_session_close(t->tls);
        send_output(t);
    }
    t->closed = true;
    loop_stream_close(t->stream);
    t->stream = NULL;
    release(t);
}
