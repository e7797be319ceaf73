/* The Watch service: many watchers over one stream. */
#include "controlplane/etcd/server/watch_internal.h"

#define WATCH_ID_NONE (-1)
#define WATCHES_PER_STREAM_MAX 100000
#define HELD_MAX 1000 /* requests of a stream whose token this member has yet to hear of */

struct watch {
    struct watch_stream *stream;
    struct mvcc_watcher *watcher;
    int64_t id;
    bool fragment, progress;
    _Atomic bool ended;            /* told that its revision was compacted */
    _Atomic int64_t last_sent_ms;
    struct watch *next;
};

/* Belongs to the loop's thread but for what the sink uses: out and server. */
struct watch_stream {
    struct etcd_server *server;
    struct grpc_stream *grpc;
    struct watch_out *out;
    struct watch *watches;
    size_t len;
    int64_t next_id;
    struct kp_blob **held; /* packed requests, in order, while holding */
    size_t held_len;
    bool holding;
    struct watch_stream *prev, *next;
};

struct response {
    int64_t revision, watch_id, compact_revision;
    bool created, canceled, fragment;
    const char *reason;
};

static void encode_response(struct etcd_server *server, struct kp_buf *out, const struct response *r)
{
    encode_header(server, out, r->revision);
    encode_number(out, WATCH_ID, r->watch_id);
    encode_number(out, WATCH_CREATED, r->created);
    encode_number(out, WATCH_CANCELED, r->canceled);
    encode_number(out, WATCH_COMPACT, r->compact_revision);
    encode_string(out, WATCH_REASON, r->reason);
    encode_number(out, WATCH_FRAGMENT, r->fragment);
}

static void send_response(struct watch_stream *stream, const struct response *r)
{
    encode_response(stream->server, watch_out_begin(stream->out), r);
    watch_out_end(stream->out);
    if (loop_in_thread(stream->server->rpc->loop)) /* the stream may be finished before this turn ends */
        watch_out_flush(stream->out);
}

/* ---- events: on the raft thread or the one that catches up, under the watch lock ---- */

static size_t event_bytes(const struct mvcc_event *event, bool with_prev)
{
    return event->record->len + (with_prev && event->prev ? event->prev->len : 0) + 32;
}

/* A fragment: as many events as fit, but at least one. Returns how many. */
static size_t send_fragment(struct watch *watch, const struct mvcc_watch_batch *batch, size_t from)
{
    struct etcd_server *server = watch->stream->server;
    size_t max = (size_t)server->config.request_bytes_max, bytes = 0, end = from;
    while (end < batch->len && (end == from || bytes + event_bytes(batch->events[end], batch->with_prev) <= max))
        bytes += event_bytes(batch->events[end++], batch->with_prev);
    struct response r = {.revision = batch->revision, .watch_id = watch->id, .fragment = end < batch->len};
    struct kp_buf *out = watch_out_begin(watch->stream->out);
    kp_buf_reserve(out, bytes + 128);
    encode_response(server, out, &r);
    for (size_t i = from; i < end; i++)
        encode_event(out, WATCH_EVENTS, batch->events[i], batch->with_prev);
    watch_out_end(watch->stream->out);
    return end - from;
}

static void send_compacted(struct watch *watch, const struct mvcc_watch_batch *batch)
{
    struct response r = {.revision = batch->revision,
                         .watch_id = watch->id,
                         .compact_revision = batch->compact_revision,
                         .canceled = true};
    send_response(watch->stream, &r);
    atomic_store(&watch->ended, true);
}

static bool sink(void *ctx, struct mvcc_watcher *watcher, const struct mvcc_watch_batch *batch)
{
    struct watch *watch = ctx;
    struct watch_stream *stream = watch->stream;
    struct watch_encoded *encoded = stream->server->rpc->encoded;
    if (watch_out_is_full(stream->out))
        return false; /* on_drain comes once those are sent */
    if (batch->compact_revision) {
        send_compacted(watch, batch);
        return true;
    }
    watch_encode(encoded, stream->server, batch);
    atomic_store_explicit(&watch->last_sent_ms, encoded->now_ms, memory_order_relaxed);
    if (watch->fragment && encoded->events->len > (size_t)stream->server->config.request_bytes_max) {
        for (size_t sent = 0; sent < batch->len;)
            sent += send_fragment(watch, batch, sent);
        return true;
    }
    watch_out_add(stream->out, encoded, watch->id);
    return true;
}

static void on_created(void *ctx, struct mvcc_watcher *watcher, int64_t revision)
{
    struct watch *watch = ctx;
    struct response r = {.revision = revision, .watch_id = watch->id, .created = true};
    send_response(watch->stream, &r);
}

/* ---- requests: on the loop's thread ---- */

static struct watch **find(struct watch_stream *stream, int64_t id)
{
    struct watch **at = &stream->watches;
    while (*at && (*at)->id != id)
        at = &(*at)->next;
    return at;
}

static void remove_watch(struct watch_stream *stream, struct watch **at)
{
    struct watch *watch = *at;
    *at = watch->next;
    stream->len--;
    mvcc_watch_cancel(stream->server->mvcc, watch->watcher);
    free(watch);
}

static void sweep_ended(struct watch_stream *stream)
{
    for (struct watch **at = &stream->watches; *at;) {
        if (atomic_load(&(*at)->ended))
            remove_watch(stream, at);
        else
            at = &(*at)->next;
    }
}

static void refuse_watch(struct watch_stream *stream, const char *reason)
{
    struct response r = {.revision = mvcc_revision(stream->server->mvcc),
                         .watch_id = WATCH_ID_NONE,
                         .created = true,
                         .canceled = true,
                         .reason = reason};
    send_response(stream, &r);
}

static int64_t free_id(struct watch_stream *stream)
{
    while (*find(stream, stream->next_id))
        stream->next_id++;
    return stream->next_id++;
}

/* NULL, or why the client may not watch this. */
static const char *denied(struct watch_stream *stream, struct kp_bytes key, struct kp_bytes range_end)
{
    struct etcd_server *server = stream->server;
    struct auth_identity who;
    bool ahead;
    if (!auth_enabled(server->auth))
        return NULL;
    enum etcd_err err = rpc_identity_now(grpc_stream_context(stream->grpc), &who, &ahead);
    if (err == ETCD_OK)
        err = etcd_err_of_auth(auth_check_range(server->auth, &who, key, range_end, AUTH_READ));
    switch (err) { /* clients compare these, prefix and all, to know whether another token would help */
    case ETCD_OK: return NULL;
    case ETCD_AUTH_BAD_TOKEN: return "rpc error: code = Unauthenticated desc = etcdserver: invalid auth token";
    case ETCD_AUTH_OLD_REVISION: return "rpc error: code = InvalidArgument desc = etcdserver: revision of auth store is old";
    case ETCD_USER_EMPTY: return "rpc error: code = InvalidArgument desc = etcdserver: user name is empty";
    default: return "rpc error: code = PermissionDenied desc = etcdserver: permission denied";
    }
}

static void create(struct watch_stream *stream, const Etcdserverpb__WatchCreateRequest *request)
{
    sweep_ended(stream);
    if (request->watch_id && *find(stream, request->watch_id)) {
        refuse_watch(stream, "mvcc: duplicate watch ID provided on the WatchStream");
        return;
    }
    if (stream->len >= WATCHES_PER_STREAM_MAX) {
        refuse_watch(stream, etcd_err_info(ETCD_TOO_MANY_REQUESTS)->text);
        return;
    }
    struct mvcc_watch_request watch_request = {.key = bytes_of(request->key),
                                               .range_end = bytes_of(request->range_end),
                                               .start_revision = request->start_revision,
                                               .want_prev = request->prev_kv};
    if (watch_request.key.len == 0) /* no key means from the first key on */
        watch_request.key = (struct kp_bytes){(const uint8_t *)"", 1};
    const char *reason = denied(stream, watch_request.key, watch_request.range_end);
    if (reason) {
        refuse_watch(stream, reason);
        return;
    }
    for (size_t i = 0; i < request->n_filters; i++) {
        watch_request.no_put |= request->filters[i] == ETCDSERVERPB__WATCH_CREATE_REQUEST__FILTER_TYPE__NOPUT;
        watch_request.no_delete |= request->filters[i] == ETCDSERVERPB__WATCH_CREATE_REQUEST__FILTER_TYPE__NODELETE;
    }
    struct watch *watch = kp_calloc(1, sizeof *watch);
    watch->stream = stream;
    watch->fragment = request->fragment;
    watch->progress = request->progress_notify;
    watch->last_sent_ms = kp_mono_ms();
    watch->id = request->watch_id ? request->watch_id : free_id(stream);
    if (mvcc_watch(stream->server->mvcc, &watch_request, sink, watch, on_created, &watch->watcher) != MVCC_OK) {
        refuse_watch(stream, "mvcc: watcher range is empty");
        free(watch);
        return;
    }
    watch->next = stream->watches;
    stream->watches = watch;
    stream->len++;
}

static void cancel(struct watch_stream *stream, int64_t id)
{
    struct watch **at = find(stream, id);
    if (!*at)
        return;
    bool ended = atomic_load(&(*at)->ended);
    remove_watch(stream, at);
    if (ended)
        return; /* it was told already */
    struct response r = {.revision = mvcc_revision(stream->server->mvcc), .watch_id = id, .canceled = true};
    send_response(stream, &r);
}

static void send_progress(void *ctx, int64_t revision)
{
    struct response r = {.revision = revision, .watch_id = WATCH_ID_NONE};
    send_response(ctx, &r);
}

/* Answers when every watcher of the stream has everything up to now; else the client asks again. */
static void progress(struct watch_stream *stream)
{
    struct mvcc_watcher **watchers = kp_calloc(stream->len + 1, sizeof(struct mvcc_watcher *));
    size_t len = 0;
    sweep_ended(stream);
    for (struct watch *watch = stream->watches; watch; watch = watch->next)
        watchers[len++] = watch->watcher;
    if (len)
        mvcc_watch_progress(stream->server->mvcc, watchers, len, send_progress, stream);
    free(watchers);
}

static void handle(struct watch_stream *stream, const Etcdserverpb__WatchRequest *request)
{
    switch (request->request_union_case) {
    case ETCDSERVERPB__WATCH_REQUEST__REQUEST_UNION_CREATE_REQUEST: create(stream, request->create_request); break;
    case ETCDSERVERPB__WATCH_REQUEST__REQUEST_UNION_CANCEL_REQUEST:
        cancel(stream, request->cancel_request->watch_id);
        break;
    case ETCDSERVERPB__WATCH_REQUEST__REQUEST_UNION_PROGRESS_REQUEST: progress(stream); break;
    default: break; /* a request of a later version: etcd passes over it */
    }
}

/* ---- a token that another member gave out, and that the log brings here in a moment: the stream's requests wait ---- */

struct hold {
    struct etcd_server *server;
    struct grpc_stream *grpc;
};

static void fail_stream(struct grpc_stream *grpc, enum etcd_err err)
{
    const struct etcd_err_info *info = etcd_err_info(err);
    grpc_stream_finish(grpc, info->grpc_code, info->text);
}

/* On the loop. */
static void release(void *arg)
{
    struct hold *hold = arg;
    struct watch_stream *stream = hold->server->rpc->watch_streams;
    while (stream && stream->grpc != hold->grpc)
        stream = stream->next;
    if (stream) { /* else it was closed meanwhile */
        stream->holding = false;
        for (size_t i = 0; i < stream->held_len; i++) {
            struct kp_blob *packed = stream->held[i];
            Etcdserverpb__WatchRequest *request = etcdserverpb__watch_request__unpack(NULL, packed->len, packed->data);
            KP_ASSERT(request); /* packed by ourselves */
            handle(stream, request);
            etcdserverpb__watch_request__free_unpacked(request, NULL);
            kp_blob_unref(packed);
        }
        stream->held_len = 0;
    }
    grpc_stream_unref(hold->grpc);
    free(hold);
}

/* On a worker's thread. Whatever was given out before is here after a linearizable read; without one, the token is bad. */
static void catch_up(void *arg)
{
    struct hold *hold = arg;
    (void)node_wait_read(hold->server);
    loop_post(hold->server->rpc->loop, release, hold);
}

static void hold_back(struct watch_stream *stream, const Etcdserverpb__WatchRequest *request)
{
    if (stream->held_len >= HELD_MAX) {
        fail_stream(stream->grpc, ETCD_TOO_MANY_REQUESTS);
        return;
    }
    struct kp_blob *packed = kp_blob_new(NULL, protobuf_c_message_get_packed_size(&request->base));
    protobuf_c_message_pack(&request->base, packed->data);
    stream->held = kp_realloc(stream->held, (stream->held_len + 1) * sizeof(struct kp_blob *));
    stream->held[stream->held_len++] = packed;
    if (stream->holding)
        return;
    struct hold *hold = kp_calloc(1, sizeof *hold);
    *hold = (struct hold){.server = stream->server, .grpc = grpc_stream_ref(stream->grpc)};
    stream->holding = true;
    if (pool_submit(stream->server->rpc->pool, catch_up, hold) < 0) {
        fail_stream(stream->grpc, ETCD_TOO_MANY_REQUESTS);
        grpc_stream_unref(hold->grpc);
        free(hold);
    }
}

static bool token_is_ahead(struct watch_stream *stream)
{
    struct auth_identity who;
    bool ahead = false;
    return auth_enabled(stream->server->auth) &&
           rpc_identity_now(grpc_stream_context(stream->grpc), &who, &ahead) == ETCD_AUTH_BAD_TOKEN && ahead;
}

static void on_message(struct grpc_stream *grpc, const void *message, void *arg)
{
    struct watch_stream *stream = arg;
    const Etcdserverpb__WatchRequest *request = message;
    bool creates = request->request_union_case == ETCDSERVERPB__WATCH_REQUEST__REQUEST_UNION_CREATE_REQUEST;
    if (stream->holding || (creates && token_is_ahead(stream)))
        hold_back(stream, request);
    else
        handle(stream, request);
}

static void on_drain(struct grpc_stream *grpc, void *arg)
{
    struct watch_stream *stream = arg;
    watch_out_drained(stream->out);
    for (struct watch *watch = stream->watches; watch; watch = watch->next)
        mvcc_watch_resume(stream->server->mvcc, watch->watcher);
}

static void on_close(struct grpc_stream *grpc, void *arg)
{
    struct watch_stream *stream = arg;
    while (stream->watches)
        remove_watch(stream, &stream->watches);
    mvcc_blobs_free(stream->held, stream->held_len);
    if (stream->prev)
        stream->prev->next = stream->next;
    else
        stream->server->rpc->watch_streams = stream->next;
    if (stream->next)
        stream->next->prev = stream->prev;
    watch_out_unref(stream->out);
    grpc_stream_unref(stream->grpc);
    free(stream);
}

static int watch_open(struct grpc_context *context, struct grpc_stream *grpc, struct kp_error *error)
{
    static const struct grpc_stream_callbacks callbacks = {
        .on_message = on_message, .on_drain = on_drain, .on_close = on_close};
    struct etcd_server *server = server_of(context);
    struct watch_stream *stream = kp_calloc(1, sizeof *stream);
    stream->server = server;
    stream->grpc = grpc_stream_ref(grpc);
    stream->out = watch_out_new(server, grpc);
    stream->next = server->rpc->watch_streams;
    if (stream->next)
        stream->next->prev = stream;
    server->rpc->watch_streams = stream;
    grpc_stream_set_callbacks(grpc, &callbacks, stream);
    return 0;
}

/* ---- on a timer: watchers that asked for it hear how far the store is ---- */

static void send_quiet(void *ctx, int64_t revision)
{
    struct watch *watch = ctx;
    struct response r = {.revision = revision, .watch_id = watch->id};
    atomic_store(&watch->last_sent_ms, kp_mono_ms());
    send_response(watch->stream, &r);
}

static void end_those_that_need_a_leader(struct etcd_server *server)
{
    const struct etcd_err_info *info = etcd_err_info(ETCD_NO_LEADER);
    for (struct watch_stream *stream = server->rpc->watch_streams, *next; stream; stream = next) {
        next = stream->next; /* finishing may close it */
        if (guard_needs_leader(stream->grpc))
            grpc_stream_finish(stream->grpc, info->grpc_code, info->text);
    }
}

void watch_progress_tick(void *arg)
{
    struct etcd_server *server = arg;
    if (guard_leader_is_lost(server))
        end_those_that_need_a_leader(server);
    int64_t before_ms = kp_mono_ms() - server->config.watch_progress_interval_ms;
    for (struct watch_stream *stream = server->rpc->watch_streams; stream; stream = stream->next)
        for (struct watch *watch = stream->watches; watch; watch = watch->next)
            if (watch->progress && atomic_load(&watch->last_sent_ms) <= before_ms)
                mvcc_watch_progress(server->mvcc, &watch->watcher, 1, send_quiet, watch);
}

void watch_close_all(void *arg)
{
    struct etcd_server *server = arg;
    const struct etcd_err_info *info = etcd_err_info(ETCD_STOPPED);
    for (struct watch_stream *stream = server->rpc->watch_streams, *next; stream; stream = next) {
        next = stream->next; /* finishing may close it */
        grpc_stream_finish(stream->grpc, info->grpc_code, info->text);
    }
}

const struct grpc_method watch_methods[] = {
    {"/etcdserverpb.Watch/Watch", GRPC_BIDI, &etcdserverpb__watch_request__descriptor,
     &etcdserverpb__watch_response__descriptor, .open = watch_open},
    {0},
};
