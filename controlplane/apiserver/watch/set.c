/* All watch caches: the first load, the one etcd watch that feeds them, and starting again after a loss. */
#include "controlplane/apiserver/watch/watch_internal.h"

#include <errno.h>
#include <time.h>

#define ROOT "/registry/"
#define RETRY_MS 500
#define TICK_MS 1000
#define PROGRESS_EVERY_MS 100

static int compare_prefix(const void *a, const void *b)
{
    const struct wcache_kind *const *left = a, *const *right = b;
    return strcmp((*left)->prefix, (*right)->prefix);
}

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
        struct wcache *cache = &set->caches[i];
        pthread_mutex_lock(&cache->mutex);
        if (cache->watchers)
            wcache_tick(cache, wcache_revision(set), now_ms);
        pthread_mutex_unlock(&cache->mutex);
    }
}

/* ---- loading, on the loader's thread ---------------------------------------------------------------------------------- */
struct pending {
    struct wcache_object **items;
    size_t len, cap;
};

static void keep(struct pending *pending, struct wcache_object *object)
{
    if (pending->len == pending->cap) {
        pending->cap = pending->cap ? pending->cap * 2 : 16;
        pending->items = kp_realloc(pending->items, pending->cap * sizeof(struct wcache_object *));
    }
    pending->items[pending->len++] = object;
}

static void load_page(struct wcache_set *set, struct pending *pending, const struct store_page *page)
{
    for (size_t i = 0; i < page->len; i++) {
        const struct store_kv *kv = &page->items[i];
        struct wcache *cache = wcache_by_key(set, kv->key);
        if (!cache)
            continue;
        struct wcache_object *object = NULL;
        struct kp_error error = {0};
        if (wcache_object_decode(cache->kind, kv->key + cache->prefix_len, kv->value.data, kv->value.len, kv->mod_revision, &object, &error) < 0)
            kp_error_log("an object in the store cannot be read and is left out", "error", error.message, NULL);
        else
            keep(&pending[cache - set->caches], object);
    }
}

/* Reads all keys at one revision. */
static int read_all(struct wcache_set *set, struct pending *pending, int64_t *ret_revision, struct kp_error *error)
{
    KP_AUTO_FREE char *start = kp_strdup(ROOT);
    int64_t revision = 0;
    for (bool more = true; more;) {
        KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
        struct store_page page = {0};
        const char *end = store_prefix_end(ROOT, arena);
        if (store_list(set->store, start, end, STORE_PAGE_LIMIT, revision, arena, &page, error) < 0)
            return error->code;
        if (!revision)
            revision = page.revision;
        load_page(set, pending, &page);
        more = page.more && page.len;
        if (more) { /* keys hold no control characters, so nothing lies between the last one and this */
            free(start);
            start = kp_asprintf("%s\1", page.items[page.len - 1].key);
        }
    }
    *ret_revision = revision;
    return 0;
}

static int load(struct wcache_set *set, struct kp_error *error)
{
    struct pending *pending = kp_calloc(set->count + 1, sizeof(*pending));
    int64_t revision = 0;
    int code = read_all(set, pending, &revision, error);
    for (size_t i = 0; i < set->count; i++) {
        if (code == 0) {
            wcache_replace(&set->caches[i], pending[i].items, pending[i].len, pending[i].cap, revision);
            continue;
        }
        for (size_t j = 0; j < pending[i].len; j++)
            wcache_object_unref(pending[i].items[j]);
        free(pending[i].items);
    }
    free(pending);
    if (code < 0)
        return code;
    pthread_mutex_lock(&set->mutex);
    set->revision = revision;
    pthread_mutex_unlock(&set->mutex);
    return 0;
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

/* Runs one watch until it ends; true when it may be resumed. */
static bool follow(struct wcache_set *set)
{
    static const struct store_watch_callbacks callbacks = {on_events, on_watch_end};
    pthread_mutex_lock(&set->mutex);
    set->watch_ended = set->watch_expired = false;
    int64_t from = set->revision + 1;
    pthread_mutex_unlock(&set->mutex);
    struct store_watch *watch = store_watch_start(set->store, ROOT, from, &callbacks, set);
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
        if (!loaded && load(set, &error) < 0) {
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
    set->count = count;
    set->caches = kp_calloc(count + 1, sizeof(*set->caches));
    pthread_mutex_init(&set->mutex, NULL);
    pthread_cond_init(&set->changed, NULL);
    const struct wcache_kind **sorted = kp_calloc(count + 1, sizeof(*sorted));
    memcpy(sorted, kinds, count * sizeof(*sorted));
    qsort(sorted, count, sizeof(*sorted), compare_prefix);
    for (size_t i = 0; i < count; i++)
        wcache_init(&set->caches[i], set, sorted[i]);
    free(sorted);
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
        wcache_done(&set->caches[i]);
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

struct wcache *wcache_find(struct wcache_set *set, const char *group, const char *resource)
{
    for (size_t i = 0; i < set->count; i++) {
        const struct kp_resource *r = set->caches[i].kind->resource;
        if (strcmp(r->name, resource) == 0 && strcmp(r->group, group ? group : "") == 0)
            return &set->caches[i];
    }
    return NULL;
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
