/* libvirt's events: one loop for the process, and of each connection a count of what has happened to its domains. */
#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

#include "cloud/libvirt/libvirt_internal.h"

#define LOOK_AGAIN_MS 2000 /* an event may get lost with a connection that breaks */

struct lv_events {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    uint64_t count;
    atomic_int users; /* the connection's callback, and the driver */
    int id;
};

static pthread_once_t loop_once = PTHREAD_ONCE_INIT;

static void *run_loop(void *arg)
{
    while (virEventRunDefaultImpl() == 0)
        ;
    return NULL;
}

static void start_loop(void)
{
    pthread_t thread;
    if (virEventRegisterDefaultImpl() == 0 && pthread_create(&thread, NULL, run_loop, NULL) == 0)
        pthread_detach(thread);
}

void lv_events_loop(void)
{
    pthread_once(&loop_once, start_loop);
}

static void unref(void *arg)
{
    struct lv_events *events = arg;
    if (atomic_fetch_sub(&events->users, 1) > 1)
        return;
    pthread_cond_destroy(&events->changed);
    pthread_mutex_destroy(&events->lock);
    free(events);
}

static int on_event(virConnectPtr conn, virDomainPtr domain, int event, int detail, void *arg)
{
    struct lv_events *events = arg;
    pthread_mutex_lock(&events->lock);
    events->count++;
    pthread_cond_broadcast(&events->changed);
    pthread_mutex_unlock(&events->lock);
    return 0;
}

struct lv_events *lv_events_new(virConnectPtr conn)
{
    struct lv_events *events = kp_calloc(1, sizeof(*events));
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_mutex_init(&events->lock, NULL);
    pthread_cond_init(&events->changed, &attr);
    pthread_condattr_destroy(&attr);
    atomic_init(&events->users, 2);
    events->id = virConnectDomainEventRegisterAny(conn, NULL, VIR_DOMAIN_EVENT_ID_LIFECYCLE, VIR_DOMAIN_EVENT_CALLBACK(on_event), events, unref);
    if (events->id < 0) /* a driver without events: looking again is all there is */
        unref(events);
    return events;
}

void lv_events_free(struct lv_events *events, virConnectPtr conn)
{
    if (events->id >= 0)
        (void)virConnectDomainEventDeregisterAny(conn, events->id);
    unref(events);
}

bool lv_wait_off(struct lv_events *events, virDomainPtr domain, int64_t timeout_ms)
{
    int64_t deadline_ms = kp_mono_ms() + timeout_ms;
    for (;;) {
        pthread_mutex_lock(&events->lock);
        uint64_t seen = events->count;
        pthread_mutex_unlock(&events->lock);
        if (virDomainIsActive(domain) != 1) /* 0, or -1: a transient one is gone altogether */
            return true;
        int64_t now_ms = kp_mono_ms(), until_ms = KP_MIN(deadline_ms, now_ms + LOOK_AGAIN_MS);
        if (now_ms >= deadline_ms)
            return false;
        const struct timespec until = {.tv_sec = until_ms / 1000, .tv_nsec = until_ms % 1000 * 1000000};
        pthread_mutex_lock(&events->lock);
        while (events->count == seen && kp_mono_ms() < until_ms)
            pthread_cond_timedwait(&events->changed, &events->lock, &until);
        pthread_mutex_unlock(&events->lock);
    }
}
