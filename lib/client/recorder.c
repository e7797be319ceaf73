/* Posts core/v1 Events in the background, folding repeats into counts and holding back spam, as client-go does. */
#include "lib/client/client_internal.h"

#include <pthread.h>

#define RECORDER_FOLD_S 600          /* client-go defaultAggregateIntervalInSeconds */
#define RECORDER_SPAM_BURST 25       /* client-go defaultSpamBurst */
#define RECORDER_SPAM_REFILL_S 300   /* one token each 5 minutes */
#define RECORDER_SERIES_MAX 4096
#define RECORDER_MESSAGE_MAX 1024    /* bytes; the API's limit on an event's message */
#define RECORDER_TRIES 3
#define RECORDER_POST_MS 5000 /* for all tries of one event */
/* A server that takes long has more to do than to take events, of which starting pods make most: they wait, and fold meanwhile. */
#define RECORDER_SLOW_MS 50
#define RECORDER_REST_MS_MAX 3000
#define RECORDER_BUSY (CLIENT_RECORDER_QUEUE_MAX / 4) /* with so many waiting none is kept back */

struct pending {
    struct pending *next;
    char *api_version, *kind, *ns, *name, *uid, *resource_version, *field_path;
    char *type, *reason, *message;
    int64_t at_s;  /* of the last of them */
    int32_t times; /* it came again while it waited */
};

struct series { /* what was posted for one (object, reason, message) */
    char *event_name;
    int32_t count;
    int64_t first_s, last_s;
};

struct spam {
    double tokens;
    int64_t at_s;
};

struct client_recorder {
    struct client *client;
    char *component, *host;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed, rested;
    struct pending *head, *tail;
    size_t len, dropped;
    bool stop, hurry;
    struct kp_strmap *series, *spam; /* of the thread alone */
};

static void free_pending(struct pending *p)
{
    if (!p)
        return;
    free(p->api_version);
    free(p->kind);
    free(p->ns);
    free(p->name);
    free(p->uid);
    free(p->resource_version);
    free(p->field_path);
    free(p->type);
    free(p->reason);
    free(p->message);
    free(p);
}

static void free_series(void *p)
{
    struct series *series = p;
    free(series->event_name);
    free(series);
}

static bool spam_allows(struct client_recorder *recorder, const struct pending *p)
{
    KP_AUTO_FREE char *key = kp_asprintf("%s/%s/%s/%s", p->kind ? p->kind : "", p->ns ? p->ns : "", p->name, p->uid ? p->uid : "");
    struct spam *spam = kp_strmap_get(recorder->spam, key);
    if (!spam) {
        if (kp_strmap_len(recorder->spam) >= RECORDER_SERIES_MAX) {
            kp_strmap_free(recorder->spam, free);
            recorder->spam = kp_strmap_new();
        }
        spam = kp_calloc(1, sizeof(*spam));
        spam->tokens = RECORDER_SPAM_BURST;
        spam->at_s = p->at_s;
        kp_strmap_put(recorder->spam, key, spam);
    }
    spam->tokens += (double)(p->at_s - spam->at_s) / RECORDER_SPAM_REFILL_S;
    spam->tokens = KP_MIN(spam->tokens, (double)RECORDER_SPAM_BURST);
    spam->at_s = p->at_s;
    if (spam->tokens < 1)
        return false;
    spam->tokens -= 1;
    return true;
}

static int patch_count(struct client_recorder *recorder, const char *ns, const struct series *series, struct kp_error *error)
{
    char when[KP_RFC3339_MAX];
    kp_format_rfc3339(when, series->last_s, 0, false);
    KP_AUTO_FREE char *body = kp_asprintf("{\"count\":%d,\"lastTimestamp\":\"%s\"}", series->count, when);
    return client_patch(recorder->client, &k8s_events_resource, ns, series->event_name, CLIENT_PATCH_MERGE, body,
                        strlen(body), NULL, NULL, NULL, error);
}

static int post_new(struct client_recorder *recorder, const struct pending *p, const char *ns, const struct series *series,
                    struct kp_error *error)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    struct k8s_event *event = KP_OBJECT_NEW(arena, k8s_event);
    event->metadata->name = series->event_name;
    event->metadata->namespace = ns;
    event->involved_object->api_version = p->api_version;
    event->involved_object->kind = p->kind;
    event->involved_object->namespace = p->ns;
    event->involved_object->name = p->name;
    event->involved_object->uid = p->uid;
    event->involved_object->resource_version = p->resource_version;
    event->involved_object->field_path = p->field_path;
    event->type = p->type;
    event->reason = p->reason;
    event->message = p->message;
    event->source->component = recorder->component;
    event->source->host = recorder->host;
    event->reporting_component = recorder->component;
    event->reporting_instance = recorder->host;
    event->first_timestamp = KP_TIME_OF(series->first_s);
    event->last_timestamp = KP_TIME_OF(series->last_s);
    event->count = series->count;
    return client_create(recorder->client, &k8s_events_resource, ns, event, NULL, arena, NULL, error);
}

static struct series *series_of(struct client_recorder *recorder, const struct pending *p, bool *ret_new)
{
    KP_AUTO_FREE char *key = kp_asprintf("%s|%s|%s|%s|%s|%s|%s", p->kind ? p->kind : "", p->ns ? p->ns : "", p->name,
                                         p->uid ? p->uid : "", p->type, p->reason, p->message);
    struct series *series = kp_strmap_get(recorder->series, key);
    *ret_new = !series || p->at_s - series->last_s > RECORDER_FOLD_S;
    if (!series) {
        if (kp_strmap_len(recorder->series) >= RECORDER_SERIES_MAX) {
            kp_strmap_free(recorder->series, free_series);
            recorder->series = kp_strmap_new();
        }
        series = kp_calloc(1, sizeof(*series));
        kp_strmap_put(recorder->series, key, series);
    }
    if (*ret_new) {
        free(series->event_name);
        /* client-go: object name, a dot, and the time in hexadecimal nanoseconds */
        series->event_name = kp_asprintf("%.200s.%llx", p->name, (unsigned long long)kp_now_ns());
        series->count = 0;
        series->first_s = p->at_s;
    }
    series->count += p->times;
    series->last_s = p->at_s;
    return series;
}

static void post(struct client_recorder *recorder, const struct pending *p)
{
    if (!spam_allows(recorder, p))
        return;
    bool is_new;
    struct series *series = series_of(recorder, p, &is_new);
    const char *ns = kp_empty(p->ns) ? "default" : p->ns;
    client_thread_deadline(kp_mono_ms() + RECORDER_POST_MS);
    for (int i = 0; i < RECORDER_TRIES; i++) {
        struct kp_error error = {0};
        int code = is_new ? post_new(recorder, p, ns, series, &error) : patch_count(recorder, ns, series, &error);
        if (code == 0)
            return;
        if (code == KP_ENOTFOUND && !is_new) { /* expired: begin anew */
            is_new = true;
            continue;
        }
        if (code != KP_EUNAVAILABLE && code != KP_ETIMEOUT && code != KP_ETOOMANY && code != KP_EIO) {
            if (code != KP_EFORBIDDEN) /* a namespace that is going away refuses its events: expected */
                kp_warn("event not posted", "reason", p->reason, "object", p->name, "error", error.message, NULL);
            return;
        }
        kp_sleep_ms(200);
    }
}

/* With the lock. */
static void rest(struct client_recorder *recorder, int64_t took_ms)
{
    int64_t until_ms = kp_mono_ms() + kp_rest_ms(took_ms, 0, RECORDER_REST_MS_MAX);
    const struct timespec until = {.tv_sec = until_ms / 1000, .tv_nsec = (until_ms % 1000) * 1000000};
    while (!recorder->hurry && recorder->len < RECORDER_BUSY && kp_mono_ms() < until_ms)
        pthread_cond_clockwait(&recorder->rested, &recorder->lock, CLOCK_MONOTONIC, &until);
}

static void *run(void *arg)
{
    struct client_recorder *recorder = arg;
    pthread_mutex_lock(&recorder->lock);
    for (;;) {
        while (!recorder->head && !recorder->stop)
            pthread_cond_wait(&recorder->changed, &recorder->lock);
        struct pending *p = recorder->head;
        if (!p)
            break;
        recorder->head = p->next;
        if (!recorder->head)
            recorder->tail = NULL;
        recorder->len--;
        pthread_mutex_unlock(&recorder->lock);
        int64_t began_ms = kp_mono_ms();
        post(recorder, p);
        int64_t took_ms = kp_mono_ms() - began_ms;
        free_pending(p);
        pthread_mutex_lock(&recorder->lock);
        if (took_ms >= RECORDER_SLOW_MS)
            rest(recorder, took_ms);
    }
    pthread_mutex_unlock(&recorder->lock);
    return NULL;
}

struct client_recorder *client_recorder_new(struct client *client, const char *component, const char *host)
{
    struct client_recorder *recorder = kp_calloc(1, sizeof(*recorder));
    recorder->client = client;
    recorder->component = kp_strdup(component);
    recorder->host = kp_strdup(host);
    recorder->series = kp_strmap_new();
    recorder->spam = kp_strmap_new();
    pthread_mutex_init(&recorder->lock, NULL);
    pthread_cond_init(&recorder->changed, NULL);
    pthread_cond_init(&recorder->rested, NULL);
    KP_ASSERT(pthread_create(&recorder->thread, NULL, run, recorder) == 0);
    return recorder;
}

void client_recorder_free(struct client_recorder *recorder)
{
    if (!recorder)
        return;
    int64_t until_ms = kp_mono_ms() + 1000;
    pthread_mutex_lock(&recorder->lock);
    recorder->hurry = true;
    pthread_cond_signal(&recorder->rested);
    while (recorder->head && kp_mono_ms() < until_ms) {
        pthread_mutex_unlock(&recorder->lock);
        kp_sleep_ms(10);
        pthread_mutex_lock(&recorder->lock);
    }
    recorder->stop = true;
    while (recorder->head) {
        struct pending *p = recorder->head;
        recorder->head = p->next;
        free_pending(p);
    }
    recorder->tail = NULL;
    pthread_cond_signal(&recorder->changed);
    pthread_mutex_unlock(&recorder->lock);
    pthread_join(recorder->thread, NULL);
    kp_strmap_free(recorder->series, free_series);
    kp_strmap_free(recorder->spam, free);
    pthread_mutex_destroy(&recorder->lock);
    pthread_cond_destroy(&recorder->changed);
    pthread_cond_destroy(&recorder->rested);
    free(recorder->component);
    free(recorder->host);
    free(recorder);
}

static bool same_event(const struct pending *a, const struct pending *b)
{
    return kp_streq(a->message, b->message) && kp_streq(a->reason, b->reason) && kp_streq(a->type, b->type) && kp_streq(a->name, b->name) &&
           kp_streq(a->uid, b->uid) && kp_streq(a->ns, b->ns) && kp_streq(a->kind, b->kind) && kp_streq(a->field_path, b->field_path);
}

/* With the lock: whether it is one that waits already, and now counts once more. */
static bool folded(struct client_recorder *recorder, const struct pending *p)
{
    for (struct pending *waiting = recorder->head; waiting; waiting = waiting->next)
        if (same_event(waiting, p)) {
            waiting->times++;
            waiting->at_s = p->at_s;
            return true;
        }
    return false;
}

void client_event(struct client_recorder *recorder, const struct client_event_target *target, const char *type,
                  const char *reason, const char *format, ...)
{
    char message[RECORDER_MESSAGE_MAX];
    va_list ap;
    va_start(ap, format);
    int full = vsnprintf(message, sizeof(message), format, ap);
    va_end(ap);
    if (full >= (int)sizeof(message)) { /* cut between characters, not within one */
        size_t len = sizeof(message) - 1;
        while (len > 0 && ((unsigned char)message[len - 1] & 0xc0) == 0x80)
            len--;
        message[len > 0 ? len - 1 : 0] = '\0';
    }
    struct pending *p = kp_calloc(1, sizeof(*p)), *oldest = NULL;
    p->api_version = kp_strdup(target->api_version);
    p->kind = kp_strdup(target->kind);
    p->ns = kp_strdup(target->ns);
    p->name = kp_strdup(target->name ? target->name : "");
    p->uid = kp_strdup(target->uid);
    p->resource_version = kp_strdup(target->resource_version);
    p->field_path = kp_strdup(target->field_path);
    p->type = kp_strdup(type);
    p->reason = kp_strdup(reason);
    p->message = kp_strdup(message);
    p->at_s = kp_now_s();
    p->times = 1;
    pthread_mutex_lock(&recorder->lock);
    if (folded(recorder, p)) {
        pthread_mutex_unlock(&recorder->lock);
        free_pending(p);
        return;
    }
    if (recorder->len >= CLIENT_RECORDER_QUEUE_MAX) {
        oldest = recorder->head;
        recorder->head = oldest->next;
        if (!recorder->head)
            recorder->tail = NULL;
        recorder->len--;
        recorder->dropped++;
    }
    if (recorder->tail)
        recorder->tail->next = p;
    else
        recorder->head = p;
    recorder->tail = p;
    recorder->len++;
    pthread_cond_signal(&recorder->changed);
    if (recorder->len == RECORDER_BUSY)
        pthread_cond_signal(&recorder->rested);
    pthread_mutex_unlock(&recorder->lock);
    free_pending(oldest);
}

struct client_event_target client_event_target_of(const struct kp_type *type, const void *obj)
{
    static _Thread_local char api_version[KP_API_VERSION_MAX];
    const struct k8s_object_meta *meta = kp_object_meta(type, obj);
    return (struct client_event_target){
        .api_version = kp_type_api_version(type, api_version),
        .kind = type->kind,
        .ns = meta->namespace,
        .name = meta->name,
        .uid = meta->uid,
        .resource_version = meta->resource_version,
    };
}
