/* What other members send us: letters, questions and GETs. */
#include "controlplane/etcd/peer/peer_internal.h"

/* One Messages stream of another member. Loop thread. */
struct inbound {
    struct peer_transport *transport;
    struct inbound *next, **pprev;
    struct grpc_stream *stream; /* a reference */
    struct peer *peer;          /* a reference; NULL while we do not know the member */
    uint64_t from;
    size_t unconfirmed; /* bytes that came since the last receipt */
};

static int parse_id(const struct grpc_context *context, const char *name, uint64_t *ret_id)
{
    const char *text = http_request_header(context->http, name);
    if (kp_empty(text) || strlen(text) > 16 || strspn(text, "0123456789abcdef") != strlen(text))
        return KP_EBADREQUEST;
    *ret_id = strtoull(text, NULL, 16);
    return 0;
}

int peer_check_call(struct peer_transport *transport, const struct grpc_context *context, uint64_t *ret_from,
                    struct kp_error *error)
{
    uint64_t cluster = 0, to = 0;
    if (!peer_tls_allows(&transport->config.tls, context->peer))
        return grpc_fail(error, GRPC_PERMISSION_DENIED, "the client certificate is not one of those allowed for peers");
    if (parse_id(context, PEER_HEADER_CLUSTER, &cluster) < 0 || parse_id(context, PEER_HEADER_FROM, ret_from) < 0 ||
        parse_id(context, PEER_HEADER_TO, &to) < 0)
        return grpc_fail(error, GRPC_INVALID_ARGUMENT, "a call of a peer must name the cluster and both members");
    if (cluster != transport->config.cluster_id)
        return grpc_fail(error, GRPC_FAILED_PRECONDITION, "cluster ID mismatch");
    if (to != transport->config.member_id)
        return grpc_fail(error, GRPC_FAILED_PRECONDITION, "member ID mismatch: meant for %llx, this is %llx",
                         (unsigned long long)to, (unsigned long long)transport->config.member_id);
    if (*ret_from == 0 || *ret_from == transport->config.member_id)
        return grpc_fail(error, GRPC_INVALID_ARGUMENT, "a call from member %llx itself", (unsigned long long)*ret_from);
    return 0;
}

/* ---- letters ---- */
static void send_receipt(struct inbound *in, uint64_t probe)
{
    Kprov__Etcd__Peer__Receipt receipt = KPROV__ETCD__PEER__RECEIPT__INIT;
    receipt.probe = probe;
    in->unconfirmed = 0;
    grpc_stream_send(in->stream, &receipt.base); /* a stream that is over tells so by on_close */
}

static void count_received(struct inbound *in, size_t bytes)
{
    if (!in->peer)
        in->peer = peer_find(in->transport, in->from);
    if (!in->peer)
        return;
    pthread_mutex_lock(&in->peer->lock);
    in->peer->stats.messages_received++;
    in->peer->stats.received_bytes += bytes;
    pthread_mutex_unlock(&in->peer->lock);
}

static void on_letter(struct grpc_stream *stream, const void *message, void *arg)
{
    const Kprov__Etcd__Peer__Letter *letter = message;
    struct inbound *in = arg;
    struct peer_transport *transport = in->transport;
    struct raft_message raft = {0};
    struct kp_error error = {0};
    in->unconfirmed += letter->message.len;
    if (letter->probe)
        send_receipt(in, letter->probe);
    if (!letter->message.len)
        return;
    if (raft_message_decode(letter->message.data, letter->message.len, &raft, &error) < 0) {
        grpc_stream_finish(stream, GRPC_DATA_LOSS, error.message);
        return;
    }
    if (raft.from != in->from || raft.to != transport->config.member_id || raft.type == RAFT_MSG_SNAPSHOT) {
        raft_message_done(&raft);
        grpc_stream_finish(stream, GRPC_INVALID_ARGUMENT, "a message that does not belong on this stream");
        return;
    }
    count_received(in, letter->message.len);
    transport->config.events.message(transport->config.events.ctx, &raft);
}

static void on_half_close(struct grpc_stream *stream, void *arg)
{
    grpc_stream_finish(stream, GRPC_OK, NULL);
}

static void on_close(struct grpc_stream *stream, void *arg)
{
    struct inbound *in = arg;
    *in->pprev = in->next;
    if (in->next)
        in->next->pprev = in->pprev;
    grpc_stream_unref(in->stream);
    peer_release(in->peer);
    free(in);
}

static int open_messages(struct grpc_context *context, struct grpc_stream *stream, struct kp_error *error)
{
    static const struct grpc_stream_callbacks callbacks = {
        .on_message = on_letter, .on_half_close = on_half_close, .on_close = on_close};
    struct peer_transport *transport = context->server_arg;
    uint64_t from = 0;
    int rc = peer_check_call(transport, context, &from, error);
    if (rc == 0 && !transport->tick)
        rc = grpc_fail(error, GRPC_UNAVAILABLE, "the member is stopping");
    if (rc != 0)
        return rc;
    struct inbound *in = kp_calloc(1, sizeof(*in));
    *in = (struct inbound){.transport = transport,
                           .next = transport->inbound,
                           .pprev = &transport->inbound,
                           .stream = grpc_stream_ref(stream),
                           .peer = peer_find(transport, from),
                           .from = from};
    if (in->next)
        in->next->pprev = &in->next;
    transport->inbound = in;
    grpc_stream_set_callbacks(stream, &callbacks, in);
    send_receipt(in, 0);
    if (in->peer)
        peer_link_heard_of(in->peer);
    return 0;
}

void peer_inbound_tick(struct peer_transport *transport)
{
    for (struct inbound *in = transport->inbound; in; in = in->next)
        if (in->unconfirmed >= PEER_RECEIPT_BYTES)
            send_receipt(in, 0);
}

void peer_inbound_close(struct peer_transport *transport)
{
    for (struct inbound *in = transport->inbound; in; in = in->next)
        grpc_stream_finish(in->stream, GRPC_UNAVAILABLE, "the member is stopping"); /* on_close comes later */
}

/* ---- questions ---- */
static int ask(struct grpc_context *context, const void *request, void *response, struct kp_error *error)
{
    struct peer_transport *transport = context->server_arg;
    const struct peer_events *events = &transport->config.events;
    const Kprov__Etcd__Peer__Question *question = request;
    Kprov__Etcd__Peer__Answer *answer = response;
    uint64_t from = 0;
    int rc = peer_check_call(transport, context, &from, error);
    if (rc != 0)
        return rc;
    if (question->question.len > PEER_QUESTION_BYTES_MAX)
        return grpc_fail(error, GRPC_RESOURCE_EXHAUSTED, "a question of %zu bytes", question->question.len);
    KP_AUTO_BUF struct kp_buf out = {0};
    struct kp_error failure = {0};
    rc = events->question(events->ctx, question->what, (struct kp_bytes){question->question.data, question->question.len}, &out,
                          &failure);
    if (rc < 0) { /* a code of its own survives the way: statuses know fewer */
        answer->code = rc;
        answer->error = kp_arena_strdup(context->arena, failure.message);
        return 0;
    }
    if (out.len > PEER_ANSWER_BYTES_MAX / 2)
        return grpc_fail(error, GRPC_RESOURCE_EXHAUSTED, "an answer of %zu bytes", out.len);
    answer->answer.len = out.len;
    answer->answer.data = kp_arena_memdup(context->arena, out.data ? out.data : "", out.len);
    return 0;
}

const struct grpc_method peer_methods[] = {
    {.path = PEER_PATH "Messages",
     .kind = GRPC_BIDI,
     .input = &kprov__etcd__peer__letter__descriptor,
     .output = &kprov__etcd__peer__receipt__descriptor,
     .open = open_messages},
    {.path = PEER_PATH "Snapshot",
     .kind = GRPC_BIDI,
     .input = &kprov__etcd__peer__snapshot_chunk__descriptor,
     .output = &kprov__etcd__peer__snapshot_receipt__descriptor,
     .open = peer_snapshot_open},
    {.path = PEER_PATH "Ask",
     .kind = GRPC_UNARY,
     .input = &kprov__etcd__peer__question__descriptor,
     .output = &kprov__etcd__peer__answer__descriptor,
     .unary = ask},
    {.path = NULL},
};

/* ---- GET ---- */
static void respond(struct http_request *req, struct peer_transport *transport, int status, const char *type, const void *body,
                    size_t len)
{
    char cluster[17];
    snprintf(cluster, sizeof(cluster), "%llx", (unsigned long long)transport->config.cluster_id);
    const struct http_header headers[] = {{"Content-Type", type}, {"X-Etcd-Cluster-ID", cluster}, {"Allow", "GET"}};
    http_respond(req, status, headers, status == 405 ? 3 : 2, body, len);
}

static void respond_text(struct http_request *req, struct peer_transport *transport, int status, const char *text)
{
    KP_AUTO_FREE char *line = kp_asprintf("%s\n", text);
    respond(req, transport, status, "text/plain; charset=utf-8", line, strlen(line));
}

void peer_get_handler(struct http_request *req, void *arg)
{
    struct peer_transport *transport = arg;
    const struct peer_events *events = &transport->config.events;
    const char *type = "application/json";
    KP_AUTO_BUF struct kp_buf out = {0};
    struct kp_error error = {0};
    if (!peer_tls_allows(&transport->config.tls, req->peer)) {
        respond_text(req, transport, 403, "the client certificate is not one of those allowed for peers");
        return;
    }
    if (!kp_streq(req->method, "GET") && !kp_streq(req->method, "HEAD")) {
        respond_text(req, transport, 405, "Method Not Allowed");
        return;
    }
    int rc = events->get(events->ctx, req->path, &type, &out, &error);
    if (rc == KP_ENOTFOUND)
        respond_text(req, transport, 404, "404 page not found");
    else if (rc < 0)
        respond_text(req, transport, kp_code_info(rc)->http_status, error.message);
    else
        respond(req, transport, 200, type, out.data ? out.data : "", out.len);
}
