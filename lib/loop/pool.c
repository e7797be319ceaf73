/* The bounded worker pool: threads come when work waits and go when they have been idle. */
#include <errno.h>
#include <pthread.h>
#include <time.h>

#include "lib/loop/loop.h"

#if defined(__SANITIZE_ADDRESS__)
#define STACK_BYTES ((size_t)4 << 20) /* instrumented frames are several times larger */
#else
#define STACK_BYTES POOL_STACK_BYTES
#endif

struct work {
    struct work *next;
    loop_fn fn;
    void *arg;
};

struct pool {
    pthread_mutex_t mutex;
    pthread_cond_t work_ready, thread_gone;
    struct work *head, **tail;
    size_t queued, queue_max;
    unsigned threads, threads_max, idle;
    bool closing;
    /* An ending thread joins the one that ended before it and takes its place here: no thread is left unjoined. */
    bool has_ended;
    pthread_t ended;
    char name[16];
};

struct pool *pool_new(const char *name, unsigned threads_max, size_t queue_max)
{
    struct pool *pool = kp_calloc(1, sizeof(*pool));
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_mutex_init(&pool->mutex, NULL);
    pthread_cond_init(&pool->work_ready, &attr);
    pthread_cond_init(&pool->thread_gone, NULL);
    pthread_condattr_destroy(&attr);
    pool->tail = &pool->head;
    pool->threads_max = KP_MAX(threads_max, 1u);
    pool->queue_max = queue_max;
    snprintf(pool->name, sizeof(pool->name), "%s", name);
    return pool;
}

/* With the mutex held. False when the thread has been idle for long enough, or the pool closes and is empty. */
static bool wait_for_work(struct pool *pool)
{
    int64_t until_ns = kp_mono_ns() + POOL_IDLE_MS * INT64_C(1000000);
    struct timespec until = { .tv_sec = until_ns / 1000000000, .tv_nsec = until_ns % 1000000000 };
    int status = 0;
    pool->idle++;
    while (!pool->head && !pool->closing && status != ETIMEDOUT)
        status = pthread_cond_timedwait(&pool->work_ready, &pool->mutex, &until);
    pool->idle--;
    return pool->head != NULL;
}

static void *thread_main(void *arg)
{
    struct pool *pool = arg;
    pthread_setname_np(pthread_self(), pool->name);
    pthread_mutex_lock(&pool->mutex);
    while (pool->head || wait_for_work(pool)) {
        struct work *work = pool->head;
        pool->head = work->next;
        if (!pool->head)
            pool->tail = &pool->head;
        pool->queued--;
        pthread_mutex_unlock(&pool->mutex);
        work->fn(work->arg);
        free(work);
        pthread_mutex_lock(&pool->mutex);
    }
    pool->threads--;
    bool join = pool->has_ended;
    pthread_t before = pool->ended;
    pool->has_ended = true;
    pool->ended = pthread_self();
    pthread_cond_broadcast(&pool->thread_gone);
    pthread_mutex_unlock(&pool->mutex);
    if (join)
        pthread_join(before, NULL);
    return NULL;
}

/* With the mutex held. */
static int add_thread(struct pool *pool)
{
    pthread_attr_t attr;
    pthread_t thread;
    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, STACK_BYTES);
    int status = pthread_create(&thread, &attr, thread_main, pool);
    pthread_attr_destroy(&attr);
    if (status == 0)
        pool->threads++;
    return status;
}

int pool_submit(struct pool *pool, loop_fn fn, void *arg)
{
    struct work *work = kp_malloc(sizeof(*work));
    *work = (struct work){ .fn = fn, .arg = arg };
    int code = 0;
    pthread_mutex_lock(&pool->mutex);
    bool need_thread = !pool->closing && pool->idle <= pool->queued;
    bool got_thread = need_thread && pool->threads < pool->threads_max && add_thread(pool) == 0;
    if (pool->closing || pool->threads == 0)
        code = KP_EUNAVAILABLE;
    else if (need_thread && !got_thread && pool->queued >= pool->queue_max)
        code = KP_ETOOMANY;
    if (code == 0) {
        *pool->tail = work;
        pool->tail = &work->next;
        pool->queued++;
        pthread_cond_signal(&pool->work_ready);
        work = NULL;
    }
    pthread_mutex_unlock(&pool->mutex);
    free(work);
    return code;
}

unsigned pool_busy(struct pool *pool)
{
    pthread_mutex_lock(&pool->mutex);
    unsigned busy = pool->threads - pool->idle;
    pthread_mutex_unlock(&pool->mutex);
    return busy;
}

size_t pool_queued(struct pool *pool)
{
    pthread_mutex_lock(&pool->mutex);
    size_t queued = pool->queued;
    pthread_mutex_unlock(&pool->mutex);
    return queued;
}

void pool_free(struct pool *pool)
{
    if (!pool)
        return;
    pthread_mutex_lock(&pool->mutex);
    pool->closing = true;
    pthread_cond_broadcast(&pool->work_ready);
    while (pool->threads > 0)
        pthread_cond_wait(&pool->thread_gone, &pool->mutex);
    bool join = pool->has_ended;
    pthread_t last = pool->ended;
    pthread_mutex_unlock(&pool->mutex);
    if (join)
        pthread_join(last, NULL);
    pthread_cond_destroy(&pool->work_ready);
    pthread_cond_destroy(&pool->thread_gone);
    pthread_mutex_destroy(&pool->mutex);
    free(pool);
}
