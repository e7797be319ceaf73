/* What the files of lib/loop share: the loop's own state and the common head of every handle. */
#ifndef KP_LOOP_INTERNAL_H
#define KP_LOOP_INTERNAL_H

#include <pthread.h>
#include <uv.h>

#include "lib/loop/loop.h"

/* First member of every object that wraps a libuv handle; the handle's data points here, so that loop_free can end it. */
struct loop_handle {
    void (*close)(struct loop_handle *handle);
};

struct loop_post_item {
    struct loop_post_item *next;
    loop_fn fn;
    void *arg;
};

struct loop {
    uv_loop_t uv;
    uv_async_t wakeup;
    uv_prepare_t before_wait; /* run what is put off to the end of a turn: after timers, and ... */
    uv_check_t after_wait;    /* ... after everything that came */
    struct loop_turn_end *turn_end, **turn_end_tail;
    pthread_mutex_t mutex; /* guards the posts and running */
    struct loop_post_item *posts, **posts_tail;
    bool running;  /* a thread is in loop_run, or is about to be */
    bool started;  /* by loop_start and not joined yet */
    pthread_t thread;
    char name[16];
    struct loop_connect *connects;  /* under way, doubly linked */
    char read_chunk[LOOP_READ_CHUNK_MAX]; /* shared by all sockets: libuv fills it and hands it over in one step */
};

struct loop_stream {
    struct loop_handle base;
    union {
        uv_handle_t handle;
        uv_stream_t stream;
        uv_tcp_t tcp;
        uv_pipe_t pipe;
    } uv;
    struct loop *loop;
    struct loop_stream_callbacks callbacks;
    void *arg;
    size_t queued;
    bool closing, reading, eof, shut, failed;
    bool read_on; /* loop_stream_read_on */
    char peer[LOOP_ADDRESS_MAX];
    char local[LOOP_ADDRESS_MAX];
};

/* A stream whose uv handle is initialised but not connected. */
struct loop_stream *loop_stream_make(struct loop *loop, bool is_unix);
/* To be called once connected: reads the addresses and sets socket options. */
void loop_stream_connected(struct loop_stream *stream);
void loop_alloc_chunk(uv_handle_t *handle, size_t suggested, uv_buf_t *buf);
/* Sets *error from a libuv status: code by kind, message "<what>: <text>". */
int loop_fail_uv(struct kp_error *error, int status, const char *format, ...) KP_PRINTF(3, 4);

#endif
