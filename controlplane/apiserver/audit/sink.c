/* A bounded queue of events, and the one thread that hands them to an output, in batches. Who has to wait for that waits here. */
#include "controlplane/apiserver/audit/audit_internal.h"

#include <time.h>

#define COMPLAIN_MS 10000 /* of one output, the log tells about losses no more often than that */

struct waiter {
    pthread_cond_t done;
    bool is_done;
    int code;
};
struct item {
    struct kp_blob *event;
    struct waiter *waiter; /* on the stack of who waits; NULL: nobody does */
};
struct audit_sink {
    struct audit_sink_config config;
    struct audit_output output;
    struct kp_metric *errors;
    pthread_t thread;
    pthread_mutex_t mutex; /* guards what follows */
    pthread_cond_t work, room;
    struct item *items; /* a ring of buffer_size */
    size_t first, len, bytes;
    bool writing; /* somebody is in the output */
    bool ending;
    int64_t complained_ms; /* 0: never */
    size_t silent;         /* events lost since then that the log has not told about */
    double tokens;         /* of the throttle; only the thread's, as refilled_ms */
    int64_t refilled_ms;
};

const struct audit_sink_config *audit_sink_config(const struct audit_sink *sink)
{
    return &sink->config;
}

bool audit_sink_legacy(const struct audit_sink *sink)
{
    return sink->output.legacy;
}

/* ---- losses ---------------------------------------------------------------------------------------------------------------------------- */
static void lost_locked(struct audit_sink *sink, size_t count, const char *why)
{
    int64_t now = kp_mono_ms();
    kp_metric_add(sink->errors, (double)count, sink->output.name);
    sink->silent += count;
    if (sink->complained_ms && now - sink->complained_ms < COMPLAIN_MS)
        return;
    char events[32];
    snprintf(events, sizeof(events), "%zu", sink->silent);
    kp_error_log("audit events are lost", "plugin", sink->output.name, "events", events, "error", why, NULL);
    sink->complained_ms = now;
    sink->silent = 0;
}

void audit_sink_lost(struct audit_sink *sink, size_t count, const char *why)
{
    pthread_mutex_lock(&sink->mutex);
    lost_locked(sink, count, why);
    pthread_mutex_unlock(&sink->mutex);
}

/* ---- in ---------------------------------------------------------------------------------------------------------------------------------- */
static bool has_room(const struct audit_sink *sink, size_t len)
{
    return sink->len < sink->config.buffer_size && (!sink->len || sink->bytes + len <= AUDIT_QUEUE_BYTES_MAX);
}

/* Events that the thread does not wait for more of. */
static size_t batch_of(const struct audit_sink *sink)
{
    return KP_MIN(sink->config.batch_max, sink->config.buffer_size);
}

static void append(struct audit_sink *sink, struct kp_blob *event, struct waiter *waiter)
{
    sink->items[(sink->first + sink->len) % sink->config.buffer_size] = (struct item){kp_blob_ref(event), waiter};
    sink->len++;
    sink->bytes += event->len;
    if (sink->len == 1 || sink->len == batch_of(sink))
        pthread_cond_signal(&sink->work);
}

/* With the mutex, which is not held meanwhile. */
static int write_now(struct audit_sink *sink, struct kp_blob *event)
{
    struct kp_error error = {0};
    sink->writing = true;
    pthread_mutex_unlock(&sink->mutex);
    size_t lost = sink->output.write(sink->output.self, sink, &event, 1, &error);
    pthread_mutex_lock(&sink->mutex);
    sink->writing = false;
    if (sink->len || sink->ending)
        pthread_cond_signal(&sink->work);
    if (lost)
        lost_locked(sink, lost, error.message);
    return lost ? KP_EIO : 0;
}

int audit_sink_put(struct audit_sink *sink, struct kp_blob *event, bool wait)
{
    struct waiter waiter = {.done = PTHREAD_COND_INITIALIZER};
    bool waits = wait && sink->config.mode != AUDIT_BATCH;
    pthread_mutex_lock(&sink->mutex);
    while (waits && !sink->ending && !has_room(sink, event->len))
        pthread_cond_wait(&sink->room, &sink->mutex);
    if (sink->ending || !has_room(sink, event->len)) {
        lost_locked(sink, 1, sink->ending ? "audit backend shut down" : "audit buffer queue blocked");
        waiter.code = KP_ETOOMANY;
    } else if (waits && sink->output.quick && !sink->writing && !sink->len) {
        waiter.code = write_now(sink, event);
    } else {
        append(sink, event, waits ? &waiter : NULL);
        while (waits && !waiter.is_done)
            pthread_cond_wait(&waiter.done, &sink->mutex);
    }
    pthread_mutex_unlock(&sink->mutex);
    pthread_cond_destroy(&waiter.done);
    return waiter.code;
}

/* ---- out ----------------------------------------------------------------------------------------------------------------------------------- */
/* With the mutex. */
static void wait_until(struct audit_sink *sink, int64_t deadline_ms)
{
    const struct timespec until = {.tv_sec = deadline_ms / 1000, .tv_nsec = deadline_ms % 1000 * 1000000};
    pthread_cond_clockwait(&sink->work, &sink->mutex, CLOCK_MONOTONIC, &until);
}

bool audit_sink_pause(struct audit_sink *sink, int64_t ms)
{
    int64_t deadline = kp_mono_ms() + ms;
    pthread_mutex_lock(&sink->mutex);
    while (!sink->ending && kp_mono_ms() < deadline)
        wait_until(sink, deadline);
    bool ending = sink->ending;
    pthread_mutex_unlock(&sink->mutex);
    return ending;
}

/* With the mutex: until there is a batch; false: there is nothing left, and the end has come. */
static bool wait_for_batch(struct audit_sink *sink)
{
    while (sink->writing || (!sink->len && !sink->ending))
        pthread_cond_wait(&sink->work, &sink->mutex);
    if (sink->config.mode == AUDIT_BATCH) {
        int64_t deadline = kp_mono_ms() + sink->config.batch_max_wait_ms;
        while (sink->len < batch_of(sink) && !sink->ending && kp_mono_ms() < deadline)
            wait_until(sink, deadline);
    }
    return sink->len > 0;
}

/* With the mutex. */
static size_t take_batch(struct audit_sink *sink, struct item *batch)
{
    size_t count = 0, bytes = 0;
    while (sink->len && count < sink->config.batch_max) {
        struct item *item = &sink->items[sink->first];
        if (count && sink->config.batch_bytes_max && bytes + item->event->len > sink->config.batch_bytes_max)
            break;
        bytes += item->event->len;
        batch[count++] = *item;
        sink->first = (sink->first + 1) % sink->config.buffer_size;
        sink->len--;
    }
    sink->bytes -= bytes;
    sink->writing = count > 0;
    pthread_cond_broadcast(&sink->room);
    return count;
}

/* A bucket of tokens, as client-go's flowcontrol has it. */
static void throttle(struct audit_sink *sink)
{
    if (!(sink->config.qps > 0))
        return;
    for (;;) {
        int64_t now = kp_mono_ms();
        sink->tokens = KP_MIN(sink->config.burst, sink->tokens + (double)(now - sink->refilled_ms) * sink->config.qps / 1000);
        sink->refilled_ms = now;
        if (sink->tokens >= 1)
            break;
        if (audit_sink_pause(sink, (int64_t)((1 - sink->tokens) * 1000 / sink->config.qps) + 1))
            return;
    }
    sink->tokens -= 1;
}

static void hand_on(struct audit_sink *sink, struct item *batch, size_t count, struct kp_blob **events)
{
    struct kp_error error = {0};
    for (size_t i = 0; i < count; i++)
        events[i] = batch[i].event;
    throttle(sink);
    size_t lost = sink->output.write(sink->output.self, sink, events, count, &error);
    pthread_mutex_lock(&sink->mutex);
    sink->writing = false;
    if (lost)
        lost_locked(sink, lost, error.message);
    for (size_t i = 0; i < count; i++) {
        kp_blob_unref(batch[i].event);
        if (!batch[i].waiter)
            continue;
        batch[i].waiter->code = lost ? KP_EIO : 0;
        batch[i].waiter->is_done = true;
        pthread_cond_signal(&batch[i].waiter->done);
    }
    pthread_mutex_unlock(&sink->mutex);
}

static void *run(void *arg)
{
    struct audit_sink *sink = arg;
    struct item *batch = kp_calloc(sink->config.batch_max, sizeof(*batch));
    struct kp_blob **events = kp_calloc(sink->config.batch_max, sizeof(struct kp_blob *));
    for (;;) {
        pthread_mutex_lock(&sink->mutex);
        size_t count = wait_for_batch(sink) ? take_batch(sink, batch) : 0;
        pthread_mutex_unlock(&sink->mutex);
        if (!count)
            break;
        hand_on(sink, batch, count, events);
    }
    free(events);
    free(batch);
    return NULL;
}

/* ---- life ------------------------------------------------------------------------------------------------------------------------------------ */
struct audit_sink *audit_sink_new(const struct audit_sink_config *config, const struct audit_output *output)
{
    static const char *const labels[] = {"plugin", NULL};
    struct audit_sink *sink = kp_calloc(1, sizeof(*sink));
    sink->config = *config;
    sink->output = *output;
    sink->errors = kp_counter("apiserver_audit_error_total", "Audit events that were not handed on, by backend.", labels);
    sink->items = kp_calloc(config->buffer_size, sizeof(*sink->items));
    sink->tokens = config->burst;
    sink->refilled_ms = kp_mono_ms();
    pthread_mutex_init(&sink->mutex, NULL);
    pthread_cond_init(&sink->work, NULL);
    pthread_cond_init(&sink->room, NULL);
    KP_ASSERT(pthread_create(&sink->thread, NULL, run, sink) == 0);
    return sink;
}

void audit_sink_stop(struct audit_sink *sink)
{
    pthread_mutex_lock(&sink->mutex);
    bool first = !sink->ending;
    sink->ending = true;
    pthread_cond_broadcast(&sink->work);
    pthread_cond_broadcast(&sink->room);
    pthread_mutex_unlock(&sink->mutex);
    if (first)
        pthread_join(sink->thread, NULL);
}

void audit_sink_free(struct audit_sink *sink)
{
    if (!sink)
        return;
    audit_sink_stop(sink);
    sink->output.free(sink->output.self);
    pthread_cond_destroy(&sink->work);
    pthread_cond_destroy(&sink->room);
    pthread_mutex_destroy(&sink->mutex);
    free(sink->items);
    free(sink);
}
