/* Leader election over a Lease, as client-go's leaderelection does it. */
#include "lib/client/client_internal.h"

#include <pthread.h>
#include <stdatomic.h>

#define ELECTOR_LEASE_MS 15000
#define ELECTOR_RENEW_DEADLINE_MS 10000
#define ELECTOR_RETRY_MS 2000
#define ELECTOR_TRIES_MIN 3 /* within the renew deadline, however long one takes */
#define ELECTOR_GONE_MS 250  /* from one question whether the holder is gone to the next */

struct client_elector {
    struct client *client;
    char *ns, *name, *identity;
    int64_t lease_ms, renew_deadline_ms, retry_ms, renew_ms;
    void (*on_lost)(void *);
    bool (*holder_is_gone)(const char *, void *); /* NULL once it leads */
    void *arg, *gone_arg;
    pthread_t thread;
    bool started;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool stop;
    /* what was last seen, and when by our own clock: another's clock is never compared with ours */
    char *seen_version, *seen_holder;
    int64_t seen_ms;
    _Atomic int64_t renewed_ms;
    /* The answer to our last write: what the next one changes, so that a renewal is one request (client-go's fast path). NULL: to be asked for. */
    struct k8s_lease *held;
    struct kp_arena *held_arena;
};

static struct k8s_lease *new_lease(struct client_elector *elector, struct kp_arena *arena)
{
    struct k8s_lease *lease = KP_OBJECT_NEW(arena, k8s_lease);
    lease->metadata->name = elector->name;
    lease->metadata->namespace = elector->ns;
    return lease;
}

static struct kp_time now_micro(void)
{
    int64_t ns = kp_now_ns();
    return (struct kp_time){.seconds = ns / 1000000000, .nanos = (int32_t)(ns % 1000000000 / 1000 * 1000), .set = true};
}

static void fill(struct client_elector *elector, struct k8s_lease_spec *spec, bool taking)
{
    spec->holder_identity = elector->identity;
    KP_SET(spec, lease_duration_seconds, (int32_t)((elector->lease_ms + 999) / 1000));
    spec->renew_time = now_micro();
    if (taking) {
        spec->acquire_time = spec->renew_time;
        KP_SET(spec, lease_transitions, spec->has_lease_transitions ? spec->lease_transitions + 1 : 0);
    }
}

static void forget_held(struct client_elector *elector)
{
    kp_arena_free(elector->held_arena);
    elector->held_arena = NULL;
    elector->held = NULL;
}

/* Whatever failed, the write may have been made: what is held is not the last word then. */
static int write_lease(struct client_elector *elector, struct k8s_lease *lease, bool create, struct kp_error *error)
{
    struct kp_arena *arena = kp_arena_new(0);
    void *answer = NULL;
    int code = create ? client_create(elector->client, &k8s_leases_resource, elector->ns, lease, NULL, arena, &answer, error)
                      : client_update(elector->client, &k8s_leases_resource, lease, NULL, arena, &answer, error);
    forget_held(elector);
    if (code < 0) {
        kp_arena_free(arena);
        return code;
    }
    elector->held = answer;
    elector->held_arena = arena;
    return 0;
}

static bool holder_is_gone(const struct client_elector *elector)
{
    return elector->holder_is_gone && !kp_empty(elector->seen_holder) && elector->holder_is_gone(elector->seen_holder, elector->gone_arg);
}

/* Notes what the Lease is like; true when it was not written since the last time. */
static bool see(struct client_elector *elector, const struct k8s_lease *lease)
{
    if (kp_streq(elector->seen_version, lease->metadata->resource_version))
        return true;
    free(elector->seen_version);
    free(elector->seen_holder);
    elector->seen_version = kp_strdup(lease->metadata->resource_version);
    elector->seen_holder = kp_strdup(kp_empty(lease->spec->holder_identity) ? "" : lease->spec->holder_identity);
    elector->seen_ms = kp_mono_ms();
    return false;
}

/* 0: we hold it now; KP_EAGAIN: somebody else does; else the request failed. */
static int try_acquire(struct client_elector *elector, struct kp_error *error)
{
    if (elector->held) {
        fill(elector, elector->held->spec, false);
        int code = write_lease(elector, elector->held, false, error);
        if (code != KP_ECONFLICT && code != KP_ENOTFOUND) /* somebody changed or deleted it: look who */
            return code;
    }
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    void *found = NULL;
    /* Late news do no harm: a write on top of what is not the newest is refused. */
    int code = client_get_cached(elector->client, &k8s_leases_resource, elector->ns, elector->name, arena, &found, error);
    if (code == KP_ENOTFOUND) {
        struct k8s_lease *lease = new_lease(elector, arena);
        fill(elector, lease->spec, true);
        return write_lease(elector, lease, true, error);
    }
    if (code < 0)
        return code;
    struct k8s_lease *lease = found;
    bool stale = see(elector, lease);
    bool ours = kp_streq(lease->spec->holder_identity, elector->identity);
    int64_t life_ms = lease->spec->has_lease_duration_seconds ? (int64_t)lease->spec->lease_duration_seconds * 1000 : elector->lease_ms;
    if (!ours && !kp_empty(lease->spec->holder_identity) && kp_mono_ms() - elector->seen_ms < life_ms &&
        !(stale && holder_is_gone(elector)))
        return KP_EAGAIN;
    fill(elector, lease->spec, !ours);
    return write_lease(elector, lease, false, error);
}

/* Sleeps, or returns true when told to stop. */
static bool pause_or_stop(struct client_elector *elector, int64_t ms)
{
    int64_t until_ms = kp_mono_ms() + ms;
    struct timespec until = {.tv_sec = until_ms / 1000, .tv_nsec = (until_ms % 1000) * 1000000};
    pthread_mutex_lock(&elector->lock);
    while (!elector->stop && kp_mono_ms() < until_ms)
        pthread_cond_timedwait(&elector->changed, &elector->lock, &until);
    bool stop = elector->stop;
    pthread_mutex_unlock(&elector->lock);
    return stop;
}

static int64_t rest(const struct client_elector *elector, int64_t wanted_ms, int64_t took_ms)
{
    return kp_rest_ms(took_ms, wanted_ms, elector->renew_deadline_ms / ELECTOR_TRIES_MIN);
}

/* As pause_or_stop, but over as soon as the holder is found gone. */
static bool wait_for_turn(struct client_elector *elector, int64_t ms)
{
    const int64_t until_ms = kp_mono_ms() + ms;
    const bool was_gone = holder_is_gone(elector);
    for (int64_t left_ms = ms; left_ms > 0; left_ms = until_ms - kp_mono_ms()) {
        if (pause_or_stop(elector, elector->holder_is_gone ? KP_MIN(ELECTOR_GONE_MS, left_ms) : left_ms))
            return true;
        if (!was_gone && holder_is_gone(elector))
            return false;
    }
    return false;
}

static void *renew(void *arg)
{
    struct client_elector *elector = arg;
    int64_t renewed_ms = kp_mono_ms(), rest_ms = elector->renew_ms;
    while (!pause_or_stop(elector, rest_ms)) {
        struct kp_error error = {0};
        int64_t began_ms = kp_mono_ms();
        /* A server that hangs must not keep us from noticing in time that the lease runs out. */
        client_thread_deadline(renewed_ms + elector->renew_deadline_ms + 1);
        int code = try_acquire(elector, &error);
        rest_ms = rest(elector, code == 0 ? elector->renew_ms : elector->retry_ms, kp_mono_ms() - began_ms);
        if (code == 0) {
            renewed_ms = kp_mono_ms();
            atomic_store(&elector->renewed_ms, renewed_ms);
        } else if (code == KP_EAGAIN || kp_mono_ms() - renewed_ms >= elector->renew_deadline_ms) {
            kp_error_log("leadership lost", "lease", elector->name, "error",
                         code == KP_EAGAIN ? "another holds the lease" : error.message, NULL);
            elector->on_lost(elector->arg);
            return NULL;
        }
    }
    return NULL;
}

static struct client_elector *new_elector(struct client *client, const struct client_elector_config *config)
{
    struct client_elector *elector = kp_calloc(1, sizeof(*elector));
    elector->client = client;
    elector->ns = kp_strdup(config->ns);
    elector->name = kp_strdup(config->name);
    elector->identity = kp_strdup(config->identity);
    elector->lease_ms = config->lease_ms ? config->lease_ms : ELECTOR_LEASE_MS;
    elector->renew_deadline_ms = config->renew_deadline_ms ? config->renew_deadline_ms : ELECTOR_RENEW_DEADLINE_MS;
    elector->holder_is_gone = config->holder_is_gone;
    elector->gone_arg = config->gone_arg;
    elector->retry_ms = config->retry_ms ? config->retry_ms : ELECTOR_RETRY_MS;
    elector->renew_ms = config->renew_ms ? config->renew_ms : elector->retry_ms;
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_mutex_init(&elector->lock, NULL);
    pthread_cond_init(&elector->changed, &attr);
    pthread_condattr_destroy(&attr);
    return elector;
}

static void free_elector(struct client_elector *elector)
{
    pthread_mutex_destroy(&elector->lock);
    pthread_cond_destroy(&elector->changed);
    free(elector->ns);
    free(elector->name);
    free(elector->identity);
    free(elector->seen_version);
    free(elector->seen_holder);
    forget_held(elector);
    free(elector);
}

int client_elector_acquire(struct client *client, const struct client_elector_config *config, const volatile bool *stop,
                           void (*on_lost)(void *), void *arg, struct client_elector **ret_elector,
                           struct kp_error *error)
{
    struct client_elector *elector = new_elector(client, config);
    elector->on_lost = on_lost;
    elector->arg = arg;
    char last[128] = "";
    for (;;) {
        struct kp_error why = {0};
        int64_t began_ms = kp_mono_ms();
        int code = try_acquire(elector, &why);
        if (code == 0)
            break;
        if (code != KP_EAGAIN && strncmp(last, why.message, sizeof(last) - 1) != 0) {
            snprintf(last, sizeof(last), "%s", why.message);
            kp_warn("lease not acquired yet", "lease", elector->name, "error", why.message, NULL);
        }
        /* While the API server is still starting, asking again soon is what makes a cluster come up in seconds. */
        int64_t wanted_ms = code != KP_EAGAIN ? KP_MIN((int64_t)100, elector->retry_ms) : elector->retry_ms;
        int64_t wait_ms = holder_is_gone(elector) ? wanted_ms : rest(elector, wanted_ms, kp_mono_ms() - began_ms);
        if (__atomic_load_n(stop, __ATOMIC_ACQUIRE) || wait_for_turn(elector, wait_ms) || __atomic_load_n(stop, __ATOMIC_ACQUIRE)) {
            free_elector(elector);
            return kp_fail(error, KP_ECANCELLED, "stopped before the lease %s was acquired", config->name);
        }
    }
    elector->holder_is_gone = NULL;
    atomic_store(&elector->renewed_ms, kp_mono_ms());
    kp_info("leading", "lease", elector->name, "identity", elector->identity, NULL);
    elector->started = pthread_create(&elector->thread, NULL, renew, elector) == 0;
    KP_ASSERT(elector->started);
    *ret_elector = elector;
    return 0;
}

int64_t client_elector_renewed_ms(struct client_elector *elector)
{
    return atomic_load(&elector->renewed_ms);
}

void client_elector_release(struct client_elector *elector)
{
    if (!elector)
        return;
    pthread_mutex_lock(&elector->lock);
    elector->stop = true;
    pthread_cond_broadcast(&elector->changed);
    pthread_mutex_unlock(&elector->lock);
    pthread_join(elector->thread, NULL);
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    struct kp_error error = {0};
    void *found;
    if (client_get(elector->client, &k8s_leases_resource, elector->ns, elector->name, arena, &found, &error) == 0) {
        struct k8s_lease *lease = found;
        if (kp_streq(lease->spec->holder_identity, elector->identity)) {
            lease->spec->holder_identity = NULL; /* as client-go's ReleaseOnCancel: others need not wait the lease out */
            KP_SET(lease->spec, lease_duration_seconds, 1);
            lease->spec->renew_time = now_micro();
            if (client_update(elector->client, &k8s_leases_resource, lease, NULL, arena, NULL, &error) < 0)
                kp_warn("lease not released", "lease", elector->name, "error", error.message, NULL);
        }
    }
    free_elector(elector);
}
