/* grpc.health.v1.Health: says whether the server as a whole serves, and tells watchers when that changes. No single service
   is known by name; who watches one hears so and nothing more, as the protocol has it. */
#include "lib/grpc/grpc_internal.h"

#include "proto/health.pb-c.h"

#include <pthread.h>

#define HEALTH_WATCHERS_MAX 256

struct health {
    int refs; /* atomic */
    pthread_mutex_t lock;
    bool serving, closed;
    struct watcher {
        struct grpc_stream *stream; /* a reference */
        bool known;                 /* watches the server */
    } watchers[HEALTH_WATCHERS_MAX];
    size_t watcher_count;
};

struct health *grpc_health_new(void)
{
    struct health *health = kp_calloc(1, sizeof(*health));
    health->refs = 1;
    health->serving = true;
    pthread_mutex_init(&health->lock, NULL);
    return health;
}

static void health_unref(struct health *health)
{
    if (__atomic_fetch_sub(&health->refs, 1, __ATOMIC_ACQ_REL) != 1)
        return;
    pthread_mutex_destroy(&health->lock);
    free(health);
}

static int send_status(struct grpc_stream *stream, Grpc__Health__V1__HealthCheckResponse__ServingStatus status)
{
    Grpc__Health__V1__HealthCheckResponse response = GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__INIT;
    response.status = status;
    return grpc_stream_send(stream, &response.base);
}

static int send_state(struct grpc_stream *stream, bool serving)
{
    return send_status(stream, serving ? GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__SERVING
                                       : GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__NOT_SERVING);
}

void grpc_health_set(struct health *health, bool serving)
{
    pthread_mutex_lock(&health->lock);
    bool changed = health->serving != serving;
    health->serving = serving;
    for (size_t i = 0; changed && i < health->watcher_count; i++) {
        if (health->watchers[i].known && send_state(health->watchers[i].stream, serving) < 0)
            continue; /* it has gone: its on_close takes it off the list */
    }
    pthread_mutex_unlock(&health->lock);
}

void grpc_health_end(struct health *health)
{
    pthread_mutex_lock(&health->lock);
    health->closed = true;
    struct watcher watchers[HEALTH_WATCHERS_MAX];
    size_t count = health->watcher_count;
    memcpy(watchers, health->watchers, sizeof(watchers));
    health->watcher_count = 0;
    pthread_mutex_unlock(&health->lock);
    for (size_t i = 0; i < count; i++) {
        grpc_stream_finish(watchers[i].stream, GRPC_UNAVAILABLE, "the server is shutting down");
        grpc_stream_unref(watchers[i].stream);
    }
}

void grpc_health_close(struct health *health)
{
    if (!health)
        return;
    grpc_health_end(health);
    health_unref(health);
}

static int check(struct grpc_context *context, const void *request, void *response, struct kp_error *error)
{
    struct health *health = context->server_arg;
    const Grpc__Health__V1__HealthCheckRequest *req = request;
    Grpc__Health__V1__HealthCheckResponse *answer = response;
    if (!kp_empty(req->service))
        return grpc_fail(error, GRPC_NOT_FOUND, "unknown service");
    pthread_mutex_lock(&health->lock);
    answer->status = health->serving ? GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__SERVING
                                     : GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__NOT_SERVING;
    pthread_mutex_unlock(&health->lock);
    return 0;
}

static void on_watcher_close(struct grpc_stream *stream, void *arg)
{
    struct health *health = arg;
    bool mine = false;
    pthread_mutex_lock(&health->lock);
    for (size_t i = 0; i < health->watcher_count && !mine; i++) {
        if (health->watchers[i].stream != stream)
            continue;
        health->watchers[i] = health->watchers[--health->watcher_count];
        mine = true;
    }
    pthread_mutex_unlock(&health->lock);
    if (mine)
        grpc_stream_unref(stream);
    health_unref(health);
}

static int watch(struct grpc_context *context, const void *request, struct grpc_stream *stream, struct kp_error *error)
{
    static const struct grpc_stream_callbacks callbacks = {.on_close = on_watcher_close};
    struct health *health = context->server_arg;
    const Grpc__Health__V1__HealthCheckRequest *req = request;
    bool known = kp_empty(req->service);
    pthread_mutex_lock(&health->lock);
    bool serving = health->serving;
    int rc = GRPC_DETACHED;
    if (health->closed)
        rc = grpc_fail(error, GRPC_UNAVAILABLE, "the server is shutting down");
    else if (health->watcher_count == HEALTH_WATCHERS_MAX)
        rc = grpc_fail(error, GRPC_RESOURCE_EXHAUSTED, "more than %d watchers", HEALTH_WATCHERS_MAX);
    else
        health->watchers[health->watcher_count++] = (struct watcher){grpc_stream_ref(stream), known};
    if (rc == GRPC_DETACHED && known)
        (void)send_state(stream, serving); /* gone already: on_close follows at once */
    else if (rc == GRPC_DETACHED)
        (void)send_status(stream, GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__SERVICE_UNKNOWN);
    pthread_mutex_unlock(&health->lock);
    if (rc != GRPC_DETACHED)
        return rc;
    __atomic_fetch_add(&health->refs, 1, __ATOMIC_RELAXED); /* on_close gives it back */
    grpc_stream_set_callbacks(stream, &callbacks, health);
    return rc;
}

const struct grpc_method grpc_health_methods[] = {
    {.path = "/grpc.health.v1.Health/Check", .kind = GRPC_UNARY,
     .input = &grpc__health__v1__health_check_request__descriptor,
     .output = &grpc__health__v1__health_check_response__descriptor, .unary = check},
    {.path = "/grpc.health.v1.Health/Watch", .kind = GRPC_SERVER_STREAM,
     .input = &grpc__health__v1__health_check_request__descriptor,
     .output = &grpc__health__v1__health_check_response__descriptor, .server_stream = watch},
    {0},
};
