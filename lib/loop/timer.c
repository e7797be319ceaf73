/* Timers, signals and watched descriptors: the small handles of the loop. */
#include "lib/loop/loop_internal.h"

struct loop_timer {
    struct loop_handle base;
    uv_timer_t uv;
    loop_fn fn;
    void *arg;
};

static void timer_closed(uv_handle_t *handle)
{
    free(KP_CONTAINER_OF(handle, struct loop_timer, uv));
}

static void timer_close(struct loop_handle *base)
{
    loop_timer_free(KP_CONTAINER_OF(base, struct loop_timer, base));
}

struct loop_timer *loop_timer_new(struct loop *loop, loop_fn fn, void *arg)
{
    struct loop_timer *timer = kp_calloc(1, sizeof(*timer));
    timer->base.close = timer_close;
    timer->fn = fn;
    timer->arg = arg;
    uv_timer_init(&loop->uv, &timer->uv);
    timer->uv.data = &timer->base;
    return timer;
}

static void timer_fired(uv_timer_t *uv)
{
    struct loop_timer *timer = KP_CONTAINER_OF(uv, struct loop_timer, uv);
    timer->fn(timer->arg);
}

void loop_timer_start(struct loop_timer *timer, int64_t timeout_ms, int64_t repeat_ms)
{
    /* The loop's clock may be stale by a long callback; a timer should not fire early because of it. */
    uv_update_time(timer->uv.loop);
    uv_timer_start(&timer->uv, timer_fired, (uint64_t)KP_MAX(timeout_ms, 0), (uint64_t)KP_MAX(repeat_ms, 0));
}

void loop_timer_stop(struct loop_timer *timer)
{
    uv_timer_stop(&timer->uv);
}

bool loop_timer_active(const struct loop_timer *timer)
{
    return uv_is_active((const uv_handle_t *)&timer->uv);
}

void loop_timer_free(struct loop_timer *timer)
{
    if (timer && !uv_is_closing((uv_handle_t *)&timer->uv))
        uv_close((uv_handle_t *)&timer->uv, timer_closed);
}

struct loop_signal {
    struct loop_handle base;
    uv_signal_t uv;
    loop_signal_fn fn;
    void *arg;
};

static void signal_closed(uv_handle_t *handle)
{
    free(KP_CONTAINER_OF(handle, struct loop_signal, uv));
}

static void signal_close(struct loop_handle *base)
{
    loop_signal_free(KP_CONTAINER_OF(base, struct loop_signal, base));
}

static void signal_fired(uv_signal_t *uv, int signum)
{
    struct loop_signal *signal = KP_CONTAINER_OF(uv, struct loop_signal, uv);
    signal->fn(signum, signal->arg);
}

struct loop_signal *loop_signal_new(struct loop *loop, int signum, loop_signal_fn fn, void *arg)
{
    struct loop_signal *signal = kp_calloc(1, sizeof(*signal));
    signal->base.close = signal_close;
    signal->fn = fn;
    signal->arg = arg;
    uv_signal_init(&loop->uv, &signal->uv);
    signal->uv.data = &signal->base;
    KP_ASSERT(uv_signal_start(&signal->uv, signal_fired, signum) == 0);
    return signal;
}

void loop_signal_free(struct loop_signal *signal)
{
    if (signal && !uv_is_closing((uv_handle_t *)&signal->uv))
        uv_close((uv_handle_t *)&signal->uv, signal_closed);
}

struct loop_fd {
    struct loop_handle base;
    uv_poll_t uv;
    loop_fd_fn fn;
    void *arg;
};

static void fd_closed(uv_handle_t *handle)
{
    free(KP_CONTAINER_OF(handle, struct loop_fd, uv));
}

static void fd_close(struct loop_handle *base)
{
    loop_fd_free(KP_CONTAINER_OF(base, struct loop_fd, base));
}

static void fd_ready(uv_poll_t *uv, int status, int events)
{
    struct loop_fd *watch = KP_CONTAINER_OF(uv, struct loop_fd, uv);
    int ours = 0;
    if (status < 0 || events & UV_READABLE)
        ours |= LOOP_FD_READABLE;
    if (status < 0 || events & UV_WRITABLE)
        ours |= LOOP_FD_WRITABLE;
    watch->fn(watch, ours, watch->arg);
}

int loop_fd_open(struct loop *loop, int fd, int events, loop_fd_fn fn, void *arg, struct loop_fd **ret_watch,
                 struct kp_error *error)
{
    struct loop_fd *watch = kp_calloc(1, sizeof(*watch));
    watch->base.close = fd_close;
    watch->fn = fn;
    watch->arg = arg;
    int status = uv_poll_init(&loop->uv, &watch->uv, fd);
    if (status < 0) {
        free(watch);
        return loop_fail_uv(error, status, "watch descriptor %d", fd);
    }
    watch->uv.data = &watch->base;
    loop_fd_set(watch, events);
    *ret_watch = watch;
    return 0;
}

void loop_fd_set(struct loop_fd *watch, int events)
{
    int uv_events = (events & LOOP_FD_READABLE ? UV_READABLE : 0) | (events & LOOP_FD_WRITABLE ? UV_WRITABLE : 0);
    if (uv_events)
        uv_poll_start(&watch->uv, uv_events, fd_ready);
    else
        uv_poll_stop(&watch->uv);
}

void loop_fd_free(struct loop_fd *watch)
{
    if (watch && !uv_is_closing((uv_handle_t *)&watch->uv))
        uv_close((uv_handle_t *)&watch->uv, fd_closed);
}
