/* What server, client and tunnels share: byte transports, output queues, copied header lists. */
#ifndef KP_HTTP_INTERNAL_H
#define KP_HTTP_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>

#include "lib/http/http.h"

#define TRANSPORT_QUEUED_HIGH ((size_t)256 << 10) /* do not hand more to a connection while this much waits in it */
#define H2_PREFACE "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
#define H2_PREFACE_LEN 24

/* ---- transport.c: a socket with or without TLS; loop thread only ------------------------------------------------ */
struct transport;
struct transport_callbacks {
    void (*on_ready)(struct transport *transport, void *arg); /* TLS handshake done; may be NULL for cleartext */
    void (*on_read)(struct transport *transport, const uint8_t *data, size_t len, void *arg);
    void (*on_eof)(struct transport *transport, void *arg);
    void (*on_error)(struct transport *transport, const struct kp_error *error, void *arg); /* close it then */
    void (*on_drain)(struct transport *transport, void *arg);
};
/* Which protocols a client's TLS handshake offers; a server accepts what its context says. */
enum transport_alpn { ALPN_H1, ALPN_H2, ALPN_BOTH };
/* Owns stream. tls NULL: cleartext. server_name: clients only. */
struct transport *transport_new(struct loop_stream *stream, struct tls_context *tls, bool is_server, const char *server_name,
                                enum transport_alpn alpn, struct kp_error *error);
void transport_set_callbacks(struct transport *transport, const struct transport_callbacks *callbacks, void *arg);
void transport_start(struct transport *transport); /* begins the handshake; cleartext is ready at once */
bool transport_chose_h2(const struct transport *transport);
bool transport_is_tls(const struct transport *transport);
const char *transport_peer(const struct transport *transport);
struct loop *transport_loop(const struct transport *transport);
/* The verified client certificate's identity in a new counted object, or NULL. */
struct peer_object *transport_peer_identity(struct transport *transport);
void transport_write(struct transport *transport, const void *data, size_t len);
void transport_write_blob(struct transport *transport, struct kp_blob *blob, size_t offset);
/* As one write; cleartext only. */
void transport_write_parts(struct transport *transport, const struct loop_part *parts, size_t count);
size_t transport_queued(const struct transport *transport);
void transport_pause(struct transport *transport);
void transport_read_on(struct transport *transport); /* as loop_stream_read_on */
void transport_resume(struct transport *transport);
void transport_shutdown(struct transport *transport); /* half close after what is queued */
void transport_close(struct transport *transport);    /* no callback afterwards; accepts NULL */

struct peer_object {
    atomic_int refs;
    struct http_peer_identity identity;
    struct kp_arena *arena;
};
struct peer_object *peer_ref(struct peer_object *peer);
void peer_unref(struct peer_object *peer);

/* ---- common.c ---------------------------------------------------------------------------------------------------- */
struct out_chunk {
    struct out_chunk *next;
    struct kp_blob *blob;
    size_t offset, end; /* what is left of it lies between */
};
struct outq {
    struct out_chunk *head, **tail; /* tail NULL while empty */
    size_t queued;
};
void outq_push(struct outq *queue, struct kp_blob *blob); /* takes a reference of its own */
void outq_push_slice(struct outq *queue, const struct http_slice *slice); /* so does this */
void outq_push_copy(struct outq *queue, const void *data, size_t len);
/* Removes the first chunk: the caller gets its reference, and all of the blob from the offset on. NULL when empty. */
struct kp_blob *outq_pop(struct outq *queue, size_t *ret_offset);
size_t outq_read(struct outq *queue, void *out, size_t max); /* copies out and removes */
/* Removes at most max bytes from the front that lie in one blob: the caller gets a reference. False when empty. */
bool outq_take(struct outq *queue, size_t max, struct http_slice *ret_slice);
void outq_clear(struct outq *queue);

/* One allocation that holds a list and its strings. */
struct header_list {
    struct http_header *items;
    size_t count;
};
/* Characters that could end a line are replaced by spaces; headers whose name is no token are left out. lower: names are
   lower-cased, and connection-specific ones left out, as HTTP/2 wants. */
void header_list_copy(struct header_list *list, const struct http_header *headers, size_t count, bool lower);
void header_list_done(struct header_list *list);

/* ---- tunnel.c: making tunnels; loop thread but for tunnel_new ------------------------------------------------------ */
/* Pending until tunnel_attach or tunnel_fail. One user reference. */
struct http_tunnel *tunnel_new(struct loop *loop);
/* Owns transport from now on; early: bytes that came after the head (copied). gone(arg) when the transport is closed. */
void tunnel_attach(struct http_tunnel *tunnel, struct transport *transport, const void *early, size_t early_len, loop_fn gone,
                   void *arg);
void tunnel_fail(struct http_tunnel *tunnel);  /* never attached: closes it */
void tunnel_abort(struct http_tunnel *tunnel); /* closes the transport at once */
struct loop *tunnel_loop(const struct http_tunnel *tunnel);
bool tunnel_is_open(struct http_tunnel *tunnel);
/* Any thread. Posts fn(arg) to the tunnel's loop while the tunnel is open; otherwise calls dropped(arg) here. */
void tunnel_post(struct http_tunnel *tunnel, loop_fn fn, void *arg, void (*dropped)(void *arg));

#endif
