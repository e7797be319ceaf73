/* The event loop itself: running it, posting work to it from other threads, and taking it down. */
#include <signal.h>

#include "lib/loop/loop_internal.h"

#define POST_ROUNDS_MAX 4 /* of posts by posts, before the loop looks at its sockets again */

static __thread const struct loop *current_loop;

int loop_fail_uv(struct kp_error *error, int status, const char *format, ...)
{
    char what[512];
    va_list ap;
    va_start(ap, format);
    vsnprintf(what, sizeof(what), format, ap);
    va_end(ap);
    int code;
    switch (status) {
    case UV_ETIMEDOUT: code = KP_ETIMEOUT; break;
    case UV_ECANCELED: code = KP_ECANCELLED; break;
    case UV_EACCES:
    case UV_EPERM: code = KP_EFORBIDDEN; break;
    case UV_EADDRINUSE: code = KP_EEXISTS; break;
    case UV_EINVAL:
    case UV_ENAMETOOLONG: code = KP_EINVALID; break;
    case UV_ECONNREFUSED:
    case UV_ECONNRESET:
    case UV_EHOSTUNREACH:
    case UV_ENETUNREACH:
    case UV_ENETDOWN:
    case UV_EADDRNOTAVAIL:
    case UV_ENOENT:
    case UV_EAI_NONAME:
    case UV_EAI_AGAIN:
    case UV_EAI_FAIL:
    case UV_EAI_NODATA: code = KP_EUNAVAILABLE; break;
    default: code = KP_EIO; break;
    }
    return kp_fail(error, code, "%s: %s", what, uv_strerror(status));
}

void loop_alloc_chunk(uv_handle_t *handle, size_t suggested, uv_buf_t *buf)
{
    struct loop *loop = handle->loop->data;
    (void)suggested;
    *buf = uv_buf_init(loop->read_chunk, sizeof(loop->read_chunk));
}

static void run_posts(struct loop *loop)
{
    pthread_mutex_lock(&loop->mutex);
    struct loop_post_item *item = loop->posts;
    loop->posts = NULL;
    loop->posts_tail = &loop->posts;
    pthread_mutex_unlock(&loop->mutex);
    while (item) {
        struct loop_post_item *next = item->next;
        item->fn(item->arg);
        free(item);
        item = next;
    }
}

/* Items that come while these run are of the same turn. */
static void run_turn_end(struct loop *loop)
{
    while (loop->turn_end) {
        struct loop_turn_end *item = loop->turn_end;
        loop->turn_end = item->next;
        if (!loop->turn_end)
            loop->turn_end_tail = &loop->turn_end;
        item->waiting = false;
        item->fn(item->arg);
    }
}

void loop_at_turn_end(struct loop *loop, struct loop_turn_end *item)
{
    if (item->waiting)
        return;
    item->waiting = true;
    item->next = NULL;
    *loop->turn_end_tail = item;
    loop->turn_end_tail = &item->next;
}

static bool has_posts(struct loop *loop)
{
    pthread_mutex_lock(&loop->mutex);
    bool has = loop->posts;
    pthread_mutex_unlock(&loop->mutex);
    return has;
}

/* What this thread posted in its turn runs now, without waking itself; and what that posts, which is a step or two as a rule. */
static void on_before_wait(uv_prepare_t *handle)
{
    struct loop *loop = handle->loop->data;
    run_turn_end(loop);
    for (int round = 0; round < POST_ROUNDS_MAX && has_posts(loop); round++) {
        run_posts(loop);
        run_turn_end(loop);
    }
    pthread_mutex_lock(&loop->mutex);
    if (loop->posts) /* there is no end to it: after what has come in */
        uv_async_send(&loop->wakeup);
    pthread_mutex_unlock(&loop->mutex);
}

static void on_after_wait(uv_check_t *handle)
{
    run_turn_end(handle->loop->data);
}

static void on_wakeup(uv_async_t *wakeup)
{
    run_posts(wakeup->loop->data);
}

/* libuv writes with write(2): a peer that has gone must be an error, not the end of the process. */
static void ignore_sigpipe(void)
{
    struct sigaction action;
    if (sigaction(SIGPIPE, NULL, &action) == 0 && action.sa_handler == SIG_DFL)
        signal(SIGPIPE, SIG_IGN);
}

struct loop *loop_new(void)
{
    ignore_sigpipe();
    struct loop *loop = kp_calloc(1, sizeof(*loop));
    KP_ASSERT(uv_loop_init(&loop->uv) == 0);
    loop->uv.data = loop;
    KP_ASSERT(uv_async_init(&loop->uv, &loop->wakeup, on_wakeup) == 0);
    KP_ASSERT(uv_prepare_init(&loop->uv, &loop->before_wait) == 0 && uv_check_init(&loop->uv, &loop->after_wait) == 0);
    uv_prepare_start(&loop->before_wait, on_before_wait);
    uv_check_start(&loop->after_wait, on_after_wait);
    uv_unref((uv_handle_t *)&loop->before_wait);
    uv_unref((uv_handle_t *)&loop->after_wait);
    loop->turn_end_tail = &loop->turn_end;
    pthread_mutex_init(&loop->mutex, NULL);
    loop->posts_tail = &loop->posts;
    return loop;
}

/* With the mutex held. Returns false when no thread would ever run it. */
static void push(struct loop *loop, loop_fn fn, void *arg)
{
    struct loop_post_item *item = kp_malloc(sizeof(*item));
    *item = (struct loop_post_item){ .fn = fn, .arg = arg };
    *loop->posts_tail = item;
    loop->posts_tail = &item->next;
}

void loop_post(struct loop *loop, loop_fn fn, void *arg)
{
    pthread_mutex_lock(&loop->mutex);
    bool first = !loop->posts;
    push(loop, fn, arg);
    /* Inside the lock: loop_free cannot close the wakeup handle under our feet. */
    if (first && !loop_in_thread(loop))
        uv_async_send(&loop->wakeup);
    pthread_mutex_unlock(&loop->mutex);
}

struct sync_call {
    loop_fn fn;
    void *arg;
    pthread_mutex_t mutex;
    pthread_cond_t cond;
    bool done;
};

static void run_sync_call(void *arg)
{
    struct sync_call *call = arg;
    call->fn(call->arg);
    pthread_mutex_lock(&call->mutex);
    call->done = true;
    pthread_cond_signal(&call->cond);
    pthread_mutex_unlock(&call->mutex);
}

void loop_call(struct loop *loop, loop_fn fn, void *arg)
{
    if (loop_in_thread(loop)) {
        fn(arg);
        return;
    }
    struct sync_call call = { .fn = fn, .arg = arg };
    pthread_mutex_lock(&loop->mutex);
    if (!loop->running) {
        pthread_mutex_unlock(&loop->mutex);
        run_posts(loop); /* keeps the order of posting */
        fn(arg);
        run_turn_end(loop);
        return;
    }
    pthread_mutex_init(&call.mutex, NULL);
    pthread_cond_init(&call.cond, NULL);
    push(loop, run_sync_call, &call);
    uv_async_send(&loop->wakeup);
    pthread_mutex_unlock(&loop->mutex);
    pthread_mutex_lock(&call.mutex);
    while (!call.done)
        pthread_cond_wait(&call.cond, &call.mutex);
    pthread_mutex_unlock(&call.mutex);
    pthread_cond_destroy(&call.cond);
    pthread_mutex_destroy(&call.mutex);
}

bool loop_in_thread(const struct loop *loop)
{
    return current_loop == loop;
}

int64_t loop_now_ms(const struct loop *loop)
{
    return (int64_t)uv_now(&loop->uv);
}

/* Posts that are queued when the loop ends still run, so that a loop_call racing with loop_stop comes back. */
static void end_run(struct loop *loop)
{
    for (;;) {
        run_posts(loop);
        run_turn_end(loop);
        pthread_mutex_lock(&loop->mutex);
        if (!loop->posts) {
            loop->running = false;
            pthread_mutex_unlock(&loop->mutex);
            return;
        }
        pthread_mutex_unlock(&loop->mutex);
    }
}

void loop_run(struct loop *loop)
{
    const struct loop *outer = current_loop;
    pthread_mutex_lock(&loop->mutex);
    loop->running = true;
    pthread_mutex_unlock(&loop->mutex);
    current_loop = loop;
    uv_update_time(&loop->uv);
    uv_run(&loop->uv, UV_RUN_DEFAULT);
    end_run(loop);
    current_loop = outer;
}

static void *thread_main(void *arg)
{
    struct loop *loop = arg;
    pthread_setname_np(pthread_self(), loop->name);
    loop_run(loop);
    return NULL;
}

int loop_start(struct loop *loop, const char *name, struct kp_error *error)
{
    KP_ASSERT(!loop->started);
    snprintf(loop->name, sizeof(loop->name), "%s", name);
    pthread_mutex_lock(&loop->mutex);
    loop->running = true;
    pthread_mutex_unlock(&loop->mutex);
    int status = pthread_create(&loop->thread, NULL, thread_main, loop);
    if (status) {
        loop->running = false;
        return kp_fail(error, KP_EUNAVAILABLE, "start thread %s: %s", name, strerror(status));
    }
    loop->started = true;
    return 0;
}

static void do_stop(void *arg)
{
    struct loop *loop = arg;
    uv_stop(&loop->uv);
}

void loop_stop(struct loop *loop)
{
    loop_post(loop, do_stop, loop);
}

void loop_join(struct loop *loop)
{
    if (!loop->started)
        return;
    pthread_join(loop->thread, NULL);
    loop->started = false;
}

static void close_walked(uv_handle_t *handle, void *arg)
{
    (void)arg;
    if (uv_is_closing(handle))
        return;
    struct loop_handle *base = handle->data;
    if (base)
        base->close(base);
    else
        uv_close(handle, NULL);
}

void loop_free(struct loop *loop)
{
    if (!loop)
        return;
    if (loop->started) {
        loop_stop(loop);
        loop_join(loop);
    }
    const struct loop *outer = current_loop;
    current_loop = loop;
    run_posts(loop);
    run_turn_end(loop);
    while (loop->connects)
        loop_connect_cancel(loop->connects);
    /* Closing one thing may post or close another; go on until nothing is left. */
    do {
        uv_walk(&loop->uv, close_walked, NULL);
        uv_run(&loop->uv, UV_RUN_DEFAULT);
        run_posts(loop);
        run_turn_end(loop);
    } while (uv_loop_alive(&loop->uv));
    current_loop = outer;
    KP_ASSERT(uv_loop_close(&loop->uv) == 0);
    pthread_mutex_destroy(&loop->mutex);
    free(loop);
}
