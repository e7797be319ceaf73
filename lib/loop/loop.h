/* lib/loop: event loop (libuv inside), timers, sockets, signals, and a bounded worker pool.

   Threading: a function says "any thread" when it may be called from anywhere; every other loop_* function must be called
   on the loop's own thread, or before loop_run has begun. Callbacks run on the loop's thread and must not block. */
#ifndef KP_LOOP_H
#define KP_LOOP_H

#include "lib/base/base.h"

struct sockaddr;

/* ---- the loop ------------------------------------------------------------------------------------------------- */
struct loop;
typedef void (*loop_fn)(void *arg);

/* Also makes the process ignore SIGPIPE, unless it handles it. */
struct loop *loop_new(void);
/* Runs on the caller's thread until loop_stop. Posts made before still run. */
void loop_run(struct loop *loop);
/* Runs the loop on a thread of its own. Returns 0 or KP_EUNAVAILABLE. name: at most 15 bytes, copied. */
int loop_start(struct loop *loop, const char *name, struct kp_error *error) KP_NODISCARD;
/* Any thread. Asks loop_run to return after what has been posted so far; loop_join waits for a loop_start thread. */
void loop_stop(struct loop *loop);
void loop_join(struct loop *loop);
/* Stops and joins a started thread, runs the posts left over, closes the handles that are still open (their callbacks
   are not called) and frees. Accepts NULL. Users of the loop's sockets should have let go of them before. */
void loop_free(struct loop *loop);
KP_DEFINE_AUTO(struct loop *, loop_free)
/* Any thread. Runs fn(arg) on the loop's thread, in order of posting; never fails; also from the loop itself (later). */
void loop_post(struct loop *loop, loop_fn fn, void *arg);
/* Any thread but the loop's: posts and waits until fn has run. On the loop's thread, or when none runs, calls at once. */
void loop_call(struct loop *loop, loop_fn fn, void *arg);
/* Loop thread. Runs fn(arg) once this turn has handled everything that came with it, before the loop waits again: what many
   callbacks of one turn gather is so done once. The item is the caller's, untouched by him until fn runs. */
struct loop_turn_end {
    struct loop_turn_end *next;
    loop_fn fn;
    void *arg;
    bool waiting;
};
void loop_at_turn_end(struct loop *loop, struct loop_turn_end *item); /* does nothing while the item waits */
/* Any thread. */
bool loop_in_thread(const struct loop *loop);
/* Monotonic milliseconds, cached once per turn of the loop. */
int64_t loop_now_ms(const struct loop *loop);

/* ---- timers --------------------------------------------------------------------------------------------------- */
struct loop_timer;
struct loop_timer *loop_timer_new(struct loop *loop, loop_fn fn, void *arg);
/* Fires after timeout_ms, then every repeat_ms (0: once). Starting a running timer sets it anew. */
void loop_timer_start(struct loop_timer *timer, int64_t timeout_ms, int64_t repeat_ms);
void loop_timer_stop(struct loop_timer *timer);
bool loop_timer_active(const struct loop_timer *timer);
void loop_timer_free(struct loop_timer *timer); /* accepts NULL; allowed inside its own callback */

/* ---- signals -------------------------------------------------------------------------------------------------- */
struct loop_signal;
typedef void (*loop_signal_fn)(int signum, void *arg);
struct loop_signal *loop_signal_new(struct loop *loop, int signum, loop_signal_fn fn, void *arg);
void loop_signal_free(struct loop_signal *signal); /* accepts NULL */

/* ---- stream sockets ------------------------------------------------------------------------------------------- */
/* A connected TCP or unix socket. Owned by its user, who ends it with loop_stream_close. */
struct loop_stream;
struct loop_stream_callbacks {
    /* Bytes came; data is borrowed for the call. */
    void (*on_read)(struct loop_stream *stream, const uint8_t *data, size_t len, void *arg);
    /* The peer sent its end of file; writing may go on. */
    void (*on_eof)(struct loop_stream *stream, void *arg);
    /* The connection broke; nothing comes after it. loop_stream_close is still the user's duty. */
    void (*on_error)(struct loop_stream *stream, const struct kp_error *error, void *arg);
    /* The write queue has become empty after having held bytes; may be NULL. */
    void (*on_drain)(struct loop_stream *stream, void *arg);
};
#define LOOP_READ_CHUNK_MAX ((size_t)64 << 10) /* bytes handed over in one on_read */

/* Sets who is told (copied); reading starts paused and begins with loop_stream_resume. */
void loop_stream_set_callbacks(struct loop_stream *stream, const struct loop_stream_callbacks *callbacks, void *arg);
void loop_stream_resume(struct loop_stream *stream);
void loop_stream_pause(struct loop_stream *stream);
/* Queues bytes. The kernel is tried at once, so that most writes copy nothing and queue nothing. Errors arrive at on_error. */
void loop_stream_write(struct loop_stream *stream, const void *data, size_t len); /* copies what the kernel does not take */
void loop_stream_write_blob(struct loop_stream *stream, struct kp_blob *blob);    /* takes a reference of its own */
/* Bytes in order, as one write. */
struct loop_part {
    const void *data;
    size_t len;
    struct kp_blob *blob; /* data lies in it: kept by a reference, not copied, while the kernel does not take it. NULL: copied */
};
void loop_stream_write_parts(struct loop_stream *stream, const struct loop_part *parts, size_t count);
#define LOOP_PARTS_MAX 64
/* Like loop_stream_write_blob; calls done(arg) on the loop when the kernel took all of it, or the stream was closed. */
void loop_stream_write_blob_done(struct loop_stream *stream, struct kp_blob *blob, loop_fn done, void *arg);
/* A failed write then ends writing only: what the peer sent before it went is still read, and reading tells the end. For
   pipes that must lose nothing; without it the first failure of either direction is the end of both. */
void loop_stream_read_on(struct loop_stream *stream);
size_t loop_stream_queued(const struct loop_stream *stream); /* bytes the kernel has not taken yet */
/* Sends end of file once the queue is empty. */
void loop_stream_shutdown(struct loop_stream *stream);
/* Closes and drops what is queued. No callback is called from then on but those of writes; the pointer is dead to the
   caller. Allowed inside callbacks. Accepts NULL. */
void loop_stream_close(struct loop_stream *stream);
#define LOOP_ADDRESS_MAX 72
/* "10.0.0.1:6443", "[::1]:6443" or "unix"; borrowed from the stream. */
const char *loop_stream_peer(const struct loop_stream *stream);
const char *loop_stream_local(const struct loop_stream *stream);
struct loop *loop_stream_loop(const struct loop_stream *stream);
/* Wraps a connected stream socket (socketpair, inherited); owns fd on success. */
int loop_stream_from_fd(struct loop *loop, int fd, struct loop_stream **ret_stream, struct kp_error *error) KP_NODISCARD;

/* ---- listeners ------------------------------------------------------------------------------------------------ */
struct loop_listener;
/* stream is handed over: the callee owns it. */
typedef void (*loop_accept_fn)(struct loop_stream *stream, void *arg);
/* host: an address ("0.0.0.0", "::", "127.0.0.1"); NULL or "" means all. port 0 takes a free one. */
int loop_listen_tcp(struct loop *loop, const char *host, uint16_t port, loop_accept_fn fn, void *arg,
                    struct loop_listener **ret_listener, struct kp_error *error) KP_NODISCARD;
/* Removes a stale socket file first (one that nobody accepts on); mode is set on the new one. */
int loop_listen_unix(struct loop *loop, const char *path, unsigned mode, loop_accept_fn fn, void *arg,
                     struct loop_listener **ret_listener, struct kp_error *error) KP_NODISCARD;
/* Wraps a listening socket inherited from elsewhere (for example made in another network namespace); owns fd on success. */
int loop_listen_fd(struct loop *loop, int fd, loop_accept_fn fn, void *arg, struct loop_listener **ret_listener,
                   struct kp_error *error) KP_NODISCARD;
uint16_t loop_listener_port(const struct loop_listener *listener); /* 0 for unix */
void loop_listener_pause(struct loop_listener *listener);          /* stops accepting; the backlog queues */
void loop_listener_resume(struct loop_listener *listener);
void loop_listener_free(struct loop_listener *listener); /* accepts NULL; removes the unix socket file it made */

/* ---- outgoing connections ------------------------------------------------------------------------------------- */
struct loop_connect;
/* stream is NULL when error is set; else it is handed over. Called exactly once unless cancelled, never inside loop_connect_tcp. */
typedef void (*loop_connect_fn)(struct loop_stream *stream, const struct kp_error *error, void *arg);
/* Looks host up (off the loop's thread) and tries each address in turn; timeout_ms bounds the whole (0: 30 s). All
   failures arrive through fn: KP_EUNAVAILABLE for refused, unreachable or unknown hosts, KP_ETIMEOUT. */
struct loop_connect *loop_connect_tcp(struct loop *loop, const char *host, uint16_t port, int64_t timeout_ms,
                                      loop_connect_fn fn, void *arg);
struct loop_connect *loop_connect_unix(struct loop *loop, const char *path, int64_t timeout_ms, loop_connect_fn fn, void *arg);
/* fn will not be called. Only while fn has not been called. */
void loop_connect_cancel(struct loop_connect *connect);

/* ---- UDP ------------------------------------------------------------------------------------------------------ */
struct loop_udp;
#define LOOP_UDP_DATAGRAM_MAX ((size_t)65535)
/* data and from are borrowed for the call. */
typedef void (*loop_udp_fn)(struct loop_udp *udp, const uint8_t *data, size_t len, const struct sockaddr *from, void *arg);
/* Binds (host and port as in loop_listen_tcp) and receives. */
int loop_udp_open(struct loop *loop, const char *host, uint16_t port, loop_udp_fn fn, void *arg, struct loop_udp **ret_udp,
                  struct kp_error *error) KP_NODISCARD;
uint16_t loop_udp_port(const struct loop_udp *udp);
/* Copies and sends; a datagram the kernel does not take at once is dropped and KP_EAGAIN returned, as UDP may. */
int loop_udp_send(struct loop_udp *udp, const void *data, size_t len, const struct sockaddr *to);
void loop_udp_free(struct loop_udp *udp); /* accepts NULL */
/* Parses a numeric address into storage of at least sizeof(struct sockaddr_storage). 0 or KP_EBADREQUEST. */
int loop_sockaddr_parse(const char *host, uint16_t port, struct sockaddr *ret_storage);
void loop_sockaddr_format(const struct sockaddr *address, char out[LOOP_ADDRESS_MAX]); /* "10.0.0.1:53" */

/* ---- raw descriptors ------------------------------------------------------------------------------------------ */
/* For netlink, inotify, pidfd, pty: watches an fd that the caller goes on owning (free the watch before closing it). */
struct loop_fd;
enum { LOOP_FD_READABLE = 1, LOOP_FD_WRITABLE = 2 };
typedef void (*loop_fd_fn)(struct loop_fd *watch, int events, void *arg); /* events: LOOP_FD_*, both on an error */
int loop_fd_open(struct loop *loop, int fd, int events, loop_fd_fn fn, void *arg, struct loop_fd **ret_watch,
                 struct kp_error *error) KP_NODISCARD;
void loop_fd_set(struct loop_fd *watch, int events); /* 0 pauses */
void loop_fd_free(struct loop_fd *watch);            /* accepts NULL */

/* ---- worker pool ---------------------------------------------------------------------------------------------- */
/* For what blocks: fsync, a request handler that waits for the store, SSH. Threads start when work waits, up to
   threads_max, and end after POOL_IDLE_MS without work. */
struct pool;
#define POOL_IDLE_MS 10000
#define POOL_STACK_BYTES ((size_t)256 << 10) /* keep big things in arenas; ASan builds get more */
/* name: of the threads, at most 15 bytes, copied. */
struct pool *pool_new(const char *name, unsigned threads_max, size_t queue_max);
/* Any thread. 0, KP_ETOOMANY when queue_max pieces of work wait, or KP_EUNAVAILABLE when the pool is being freed. */
int pool_submit(struct pool *pool, loop_fn fn, void *arg) KP_NODISCARD;
unsigned pool_busy(struct pool *pool);  /* threads running work now */
size_t pool_queued(struct pool *pool);  /* pieces waiting */
/* Refuses new work, runs what is queued, joins all threads. Not from one of its own threads. Accepts NULL. */
void pool_free(struct pool *pool);
KP_DEFINE_AUTO(struct pool *, pool_free)

#endif
