/* What stands before every call: a learner serves few things, and a client may insist on a leader. */
#include "controlplane/etcd/server/rpc_internal.h"

#define NO_LEADER_TIMES 3 /* election timeouts without a leader after which a stream that needs one is ended, as etcd has it */

static bool needs_leader(const struct grpc_context *context)
{
    const char *value = http_request_header(context->http, "hasleader");
    return value && kp_streq(value, "true");
}

/* A learner may be far behind: it answers what says so itself. */
static bool learner_serves(const struct grpc_method *method, const void *request)
{
    if (method->input == &etcdserverpb__range_request__descriptor)
        return request && ((const Etcdserverpb__RangeRequest *)request)->serializable;
    return method->input == &etcdserverpb__status_request__descriptor ||
           method->input == &etcdserverpb__snapshot_request__descriptor;
}

static enum etcd_err admit(const struct grpc_context *context, const struct grpc_method *method, const void *request)
{
    struct etcd_server *server = server_of(context);
    if (atomic_load_explicit(&server->learner, memory_order_relaxed) && !learner_serves(method, request))
        return ETCD_NOT_FOR_LEARNER;
    if (!atomic_load_explicit(&server->node.leader, memory_order_relaxed) && needs_leader(context))
        return ETCD_NO_LEADER;
    return ETCD_OK;
}

static int guarded_stream(struct grpc_context *context, const void *request, struct grpc_stream *stream,
                          struct kp_error *error)
{
    const struct grpc_method *method = kp_strmap_get(server_of(context)->rpc->originals, context->path);
    enum etcd_err err = admit(context, method, request);
    return err == ETCD_OK ? method->server_stream(context, request, stream, error) : rpc_fail(error, err);
}

static int guarded_open(struct grpc_context *context, struct grpc_stream *stream, struct kp_error *error)
{
    const struct grpc_method *method = kp_strmap_get(server_of(context)->rpc->originals, context->path);
    enum etcd_err err = admit(context, method, NULL);
    return err == ETCD_OK ? method->open(context, stream, error) : rpc_fail(error, err);
}

/* Copies the tables with the guard before every method. */
void guard_init(struct rpc_server *rpc, const struct grpc_method *const *tables)
{
    size_t len = 0, at = 0;
    for (const struct grpc_method *const *table = tables; *table; table++)
        for (const struct grpc_method *method = *table; method->path; method++)
            len++;
    rpc->originals = kp_strmap_new();
    rpc->guarded = kp_calloc(len + 1, sizeof *rpc->guarded);
    for (const struct grpc_method *const *table = tables; *table; table++)
        for (const struct grpc_method *method = *table; method->path; method++) {
            struct grpc_method *copy = &rpc->guarded[at++];
            *copy = *method;
            KP_ASSERT(method->server_stream || method->open);
            if (method->server_stream)
                copy->server_stream = guarded_stream;
            if (method->open)
                copy->open = guarded_open;
            kp_strmap_put(rpc->originals, method->path, (void *)(uintptr_t)method);
        }
    rpc->methods[0] = rpc->guarded;
}

void guard_done(struct rpc_server *rpc)
{
    kp_strmap_free(rpc->originals, NULL);
    free(rpc->guarded);
}

/* On the loop, each second: how long there has been no leader decides over the streams that need one. */
bool guard_leader_is_lost(struct etcd_server *server)
{
    struct rpc_server *rpc = server->rpc;
    int64_t now_ms = kp_mono_ms();
    if (atomic_load(&server->node.leader)) {
        rpc->leader_seen_ms = now_ms;
        return false;
    }
    return now_ms - rpc->leader_seen_ms >= NO_LEADER_TIMES * server->config.election_ms;
}

bool guard_needs_leader(struct grpc_stream *stream) { return needs_leader(grpc_stream_context(stream)); }
