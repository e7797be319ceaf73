/* All watch caches: the first load, the one etcd watch that feeds them, and starting again after a loss. */
#include "controlplane/apiserver/watch/watch_internal.h"

#include <errno.h>
#include <time.h>

#define RETRY_MS 500
#define TICK_MS 1000
#define PROGRESS_EVERY_MS 100

/* ---- the watch's callbacks, on the loop ------------------------------------------------------------------------------ */
static void on_events(void *arg, const struct store_event *events, size_t count, int64_t revision)
{
    struct wcache_set *set = arg;
    for (size_t i = 0; i < count; i++)
        wcache_apply(set, &events[i]);
    pthread_mutex_lock(&set->mutex);
    set->revision = KP_MAX(set->revision, revision);
    pthread_cond_broadcast(&set->changed);
    pthread_mutex_unlock(&set->mutex);
}

static void on_watch_end(void *arg, const struct kp_error *error)
{
    struct wcache_set *set = arg;
    kp_warn("the watch of the store ended", "error", error ? error->message : "", NULL);
    pthread_mutex_lock(&set->mutex);
    set->watch_ended = true;
    set->watch_expired = error && error->code == KP_EEXPIRED;
    pthread_cond_broadcast(&set->changed);
    pthread_mutex_unlock(&set->mutex);
}

static void on_tick(void *arg)
{
    struct wcache_set *set = arg;
    int64_t now_ms = kp_mono_ms();
    for (size_t i = 0; i < set->count; i++) {
        struct wcache *cache = set->caches[i];
        pthread_mutex_lock(&cache->mutex);
        if (cache->watchers)
            wcache_tick(cache, wcache_newest(cache), now_ms);
        pthread_mutex_unlock(&cache->mutex);
    }
}

/* Under set->mutex. */
static void wait_ms(struct wcache_set *set, int64_t ms)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    int64_t ns = until.tv_nsec + ms * 1000000;
    until.tv_sec += ns / 1000000000;
    until.tv_nsec = ns % 1000000000;
    pthread_cond_clockwait(&set->changed, &set->mutex, CLOCK_MONOTONIC, &until);
}

/* ---- following, on the loader's thread -------------------------------------------------------------------------------- */
/* Runs one watch until it ends; true when it may be resumed. */
static bool follow(struct wcache_set *set)
{
    static const struct store_watch_callbacks callbacks = {on_events, on_watch_end};
    pthread_mutex_lock(&set->mutex);
    set->watch_ended = set->watch_expired = false;
    int64_t from = set->revision + 1;
    pthread_mutex_unlock(&set->mutex);
    struct store_watch *watch = store_watch_start(set->store, WCACHE_ROOT, from, &callbacks, set);
    pthread_mutex_lock(&set->mutex);
    set->watch = watch;
    set->ready = true;
    pthread_cond_broadcast(&set->changed);
    while (!set->watch_ended && !set->stopping)
        pthread_cond_wait(&set->changed, &set->mutex);
    set->watch = NULL;
    bool resume = !set->watch_expired;
    set->ready = set->ready && resume;
    pthread_mutex_unlock(&set->mutex);
    store_watch_free(watch);
    return resume;
}

static bool stopping(struct wcache_set *set, int64_t pause_ms)
{
    pthread_mutex_lock(&set->mutex);
    if (!set->stopping && pause_ms)
        wait_ms(set, pause_ms);
    bool stop = set->stopping;
    pthread_mutex_unlock(&set->mutex);
    return stop;
}

static void *run_loader(void *arg)
{
    struct wcache_set *set = arg;
    bool loaded = false;
    while (!stopping(set, 0)) {
        struct kp_error error = {0};
        if (!loaded && wcache_load(set, &error) < 0) {
            kp_warn("reading the store failed, will try again", "error", error.message, NULL);
            stopping(set, RETRY_MS);
            continue;
        }
        loaded = follow(set);
        if (!stopping(set, 0))
            stopping(set, RETRY_MS);
    }
    return NULL;
}

/* ---- public ------------------------------------------------------------------------------------------------------- */
static void start_ticker(void *arg)
{
    struct wcache_set *set = arg;
    set->ticker = loop_timer_new(set->loop, on_tick, set);
    loop_timer_start(set->ticker, TICK_MS, TICK_MS);
}

struct wcache_set *wcache_set_new(struct loop *loop, struct store *store, const struct wcache_kind *const *kinds, size_t count)
{
    struct wcache_set *set = kp_calloc(1, sizeof(*set));
    set->loop = loop;
    set->store = store;
    pthread_mutex_init(&set->shape, NULL);
    pthread_mutex_init(&set->members, NULL);
    pthread_mutex_init(&set->mutex, NULL);
    pthread_cond_init(&set->changed, NULL);
    for (size_t i = 0; i < count; i++)
        wcache_link(set, wcache_new(set, kinds[i]));
    loop_call(loop, start_ticker, set);
    KP_ASSERT(pthread_create(&set->loader, NULL, run_loader, set) == 0);
    return set;
}

static void stop_ticker(void *arg)
{
    struct wcache_set *set = arg;
    loop_timer_free(set->ticker);
}

void wcache_set_free(struct wcache_set *set)
{
    if (!set)
        return;
    pthread_mutex_lock(&set->mutex);
    set->stopping = true;
    pthread_cond_broadcast(&set->changed);
    pthread_mutex_unlock(&set->mutex);
    pthread_join(set->loader, NULL);
    loop_call(set->loop, stop_ticker, set);
    for (size_t i = 0; i < set->count; i++)
        wcache_done(set->caches[i]);
    /* The caches stay: a stream that is still closing refers to its cache's mutex. The process is about to end. */
}

bool wcache_set_ready(struct wcache_set *set)
{
    pthread_mutex_lock(&set->mutex);
    bool ready = set->ready;
    pthread_mutex_unlock(&set->mutex);
    return ready;
}

bool wcache_set_wait_ready(struct wcache_set *set, int64_t timeout_ms)
{
    int64_t until = kp_mono_ms() + timeout_ms;
    pthread_mutex_lock(&set->mutex);
    while (!set->ready && kp_mono_ms() < until)
        wait_ms(set, KP_MAX(1, until - kp_mono_ms()));
    bool ready = set->ready;
    pthread_mutex_unlock(&set->mutex);
    return ready;
}

int64_t wcache_revision(struct wcache_set *set)
{
    pthread_mutex_lock(&set->mutex);
    int64_t revision = set->revision;
    pthread_mutex_unlock(&set->mutex);
    return revision;
}

int wcache_wait(struct wcache_set *set, int64_t revision, int64_t timeout_ms)
{
    int64_t until = kp_mono_ms() + timeout_ms;
    pthread_mutex_lock(&set->mutex);
    bool asked = false;
    while (set->revision < revision && kp_mono_ms() < until) {
        /* Keys outside our caches move the store on without an event: only a progress notification tells of those. */
        if (asked && set->watch)
            store_watch_progress(set->watch);
        wait_ms(set, asked ? PROGRESS_EVERY_MS : 2);
        asked = true;
    }
    bool reached = set->revision >= revision;
    pthread_mutex_unlock(&set->mutex);
    return reached ? 0 : KP_ETIMEOUT;
}

int wcache_wait_fresh(struct wcache_set *set, struct kp_error *error)
{
    int64_t revision = 0;
    if (store_revision(set->store, &revision, error) < 0)
        return error->code;
    if (wcache_wait(set, revision, WCACHE_FRESH_TIMEOUT_MS) < 0)
        return kp_fail(error, KP_ETIMEOUT, "the watch cache is at revision %lld, the store at %lld", (long long)wcache_revision(set),
                       (long long)revision);
    return 0;
}
