/* Does something every now and then, until it is stopped. */
#include "cloud-controller/context/context.h"

#include <pthread.h>
#include <time.h>

struct ccm_ticker {
    int64_t period_ms;
    int64_t (*do_it)(void *arg);
    void *arg;
    pthread_t thread;
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    bool stopping;
};

static void wait_for(struct ccm_ticker *t, int64_t ms)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += ms / 1000;
    until.tv_nsec += ms % 1000 * 1000000;
    if (until.tv_nsec >= 1000000000) {
        until.tv_sec++;
        until.tv_nsec -= 1000000000;
    }
    while (!t->stopping && pthread_cond_timedwait(&t->changed, &t->mutex, &until) == 0)
        ;
}

static void *run(void *arg)
{
    struct ccm_ticker *t = arg;
    pthread_mutex_lock(&t->mutex);
    while (!t->stopping) {
        pthread_mutex_unlock(&t->mutex);
        int64_t ms = t->do_it(t->arg);
        pthread_mutex_lock(&t->mutex);
        wait_for(t, ms ? ms : t->period_ms);
    }
    pthread_mutex_unlock(&t->mutex);
    return NULL;
}

int ccm_ticker_start(int64_t period_ms, int64_t (*do_it)(void *arg), void *arg, struct ccm_ticker **ret, struct kp_error *error)
{
    struct ccm_ticker *t = kp_calloc(1, sizeof(*t));
    pthread_condattr_t monotonic;
    *t = (struct ccm_ticker){.period_ms = period_ms, .do_it = do_it, .arg = arg};
    pthread_mutex_init(&t->mutex, NULL);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&t->changed, &monotonic);
    pthread_condattr_destroy(&monotonic);
    int failure = pthread_create(&t->thread, NULL, run, t);
    if (failure) {
        free(t);
        return kp_fail(error, KP_EUNAVAILABLE, "start a thread: %s", strerror(failure));
    }
    *ret = t;
    return 0;
}

void ccm_ticker_stop(struct ccm_ticker *t)
{
    if (!t)
        return;
    pthread_mutex_lock(&t->mutex);
    t->stopping = true;
    pthread_cond_signal(&t->changed);
    pthread_mutex_unlock(&t->mutex);
    pthread_join(t->thread, NULL);
    pthread_cond_destroy(&t->changed);
    pthread_mutex_destroy(&t->mutex);
    free(t);
}
