/* The watch stream: events of a prefix in order, progress notifications, and how it ends. */
#include "controlplane/apiserver/storage/storage_internal.h"

struct store_watch {
    int refs; /* the owner's and the call's */
    struct grpc_call *call;
    struct store_watch_callbacks callbacks;
    void *arg;
    pthread_mutex_t mutex; /* held while callbacks run, so that store_watch_free can wait for them */
    bool silenced;
    struct kp_error end; /* what the server said when it cancelled */
};

static void watch_unref(struct store_watch *watch)
{
    if (__atomic_sub_fetch(&watch->refs, 1, __ATOMIC_ACQ_REL) > 0)
        return;
    grpc_call_unref(watch->call);
    pthread_mutex_destroy(&watch->mutex);
    free(watch);
}

static void tell_events(struct store_watch *watch, const Etcdserverpb__WatchResponse *response)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new((size_t)1 << 30);
    struct store_event *events = KP_NEW_ARRAY(arena, struct store_event, response->n_events + 1);
    for (size_t i = 0; i < response->n_events; i++) {
        events[i].deleted = response->events[i]->type == MVCCPB__EVENT__EVENT_TYPE__DELETE;
        store_kv_from(response->events[i]->kv, arena, &events[i].kv);
    }
    int64_t revision = response->header ? response->header->revision : 0;
    if (response->n_events)
        revision = events[response->n_events - 1].kv.mod_revision; /* the header may be ahead of what was sent */
    watch->callbacks.on_events(watch->arg, events, response->n_events, revision);
}

static void on_message(struct grpc_call *call, const void *message, void *arg)
{
    struct store_watch *watch = arg;
    const Etcdserverpb__WatchResponse *response = message;
    if (response->canceled) {
        if (response->compact_revision)
            kp_fail(&watch->end, KP_EEXPIRED, "the watch's revision was compacted (%lld)", (long long)response->compact_revision);
        else
            kp_fail(&watch->end, KP_EUNAVAILABLE, "the server cancelled the watch: %s", response->cancel_reason);
        grpc_call_cancel(call);
        return;
    }
    if (response->created)
        return;
    pthread_mutex_lock(&watch->mutex);
    if (!watch->silenced)
        tell_events(watch, response);
    pthread_mutex_unlock(&watch->mutex);
}

static void on_end(struct grpc_call *call, enum grpc_status status, const char *message, void *arg)
{
    struct store_watch *watch = arg;
    (void)call;
    if (!watch->end.code)
        kp_fail(&watch->end, KP_EUNAVAILABLE, "watch stream ended: %s %s", grpc_status_name(status), message);
    pthread_mutex_lock(&watch->mutex);
    if (!watch->silenced)
        watch->callbacks.on_end(watch->arg, &watch->end);
    pthread_mutex_unlock(&watch->mutex);
    watch_unref(watch);
}

struct store_watch *store_watch_start(struct store *store, const char *prefix, int64_t from_revision,
                                      const struct store_watch_callbacks *callbacks, void *arg)
{
    static const struct grpc_call_callbacks call_callbacks = {.on_message = on_message, .on_end = on_end};
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    struct store_watch *watch = kp_calloc(1, sizeof(*watch));
    watch->refs = 2;
    watch->callbacks = *callbacks;
    watch->arg = arg;
    pthread_mutex_init(&watch->mutex, NULL);
    Etcdserverpb__WatchRequest request = ETCDSERVERPB__WATCH_REQUEST__INIT;
    Etcdserverpb__WatchCreateRequest create = ETCDSERVERPB__WATCH_CREATE_REQUEST__INIT;
    const char *end = store_prefix_end(prefix, arena);
    create.key = store_bytes(prefix, strlen(prefix));
    create.range_end = store_bytes(end, strlen(end));
    create.start_revision = from_revision;
    create.progress_notify = true;
    request.request_union_case = ETCDSERVERPB__WATCH_REQUEST__REQUEST_UNION_CREATE_REQUEST;
    request.create_request = &create;
    struct grpc_call_options options = {.timeout_ms = -1};
    watch->call = grpc_call_open(store->channel, "/etcdserverpb.Watch/Watch", &etcdserverpb__watch_response__descriptor, &options,
                                 &call_callbacks, watch);
    grpc_call_send(watch->call, &request.base); /* a failure arrives at on_end as well */
    return watch;
}

void store_watch_progress(struct store_watch *watch)
{
    Etcdserverpb__WatchRequest request = ETCDSERVERPB__WATCH_REQUEST__INIT;
    Etcdserverpb__WatchProgressRequest progress = ETCDSERVERPB__WATCH_PROGRESS_REQUEST__INIT;
    request.request_union_case = ETCDSERVERPB__WATCH_REQUEST__REQUEST_UNION_PROGRESS_REQUEST;
    request.progress_request = &progress;
    grpc_call_send(watch->call, &request.base);
}

void store_watch_free(struct store_watch *watch)
{
    if (!watch)
        return;
    pthread_mutex_lock(&watch->mutex);
    watch->silenced = true;
    pthread_mutex_unlock(&watch->mutex);
    grpc_call_cancel(watch->call);
    watch_unref(watch);
}
