/* One request passed on to another server, and its answer passed back as it comes: to kubelets, pods, Services and aggregated API servers. */
#include "controlplane/apiserver/http/relay_internal.h"

#define CANCEL_LOOK_MS 1000 /* how often it is seen, before an answer began, that nobody waits for it any more */
#define UPGRADE_TIMEOUT_MS 30000

struct relay {
    int refs;
    struct relay_target target; /* its strings are not to be used once the call was made */
    struct http_request *request;
    struct audit_record *audit; /* NULL: it is not audited */
    struct http_stream *stream; /* once the headers came */
    struct http_call *call;     /* from then on as well: set on the loop, where it is used; borrowed from owned */
    struct http_call *owned;    /* set by who started it, before it lets go of the relay */
    struct api_server *server;
    unsigned *counted;        /* of requests in flight: this one until it ends; NULL: not counted */
    struct loop_timer *timer; /* of the loop, as what follows */
    size_t unread;            /* bytes that the client has not taken yet */
    bool answered, over;
};

/* ---- its end --------------------------------------------------------------------------------------------------------------- */
static void free_relay(void *arg) /* on a worker: freeing a client waits for its loop */
{
    struct relay *relay = arg;
    http_call_unref(relay->owned);
    relay->target.release(relay->target.owner);
    http_stream_unref(relay->stream);
    audit_record_unref(relay->audit);
    http_request_unref(relay->request);
    free(relay);
}

static void relay_unref(struct relay *relay)
{
    if (__atomic_sub_fetch(&relay->refs, 1, __ATOMIC_ACQ_REL) > 0)
        return;
    if (relay->counted)
        __atomic_sub_fetch(relay->counted, 1, __ATOMIC_ACQ_REL);
    if (pool_submit(relay->server->pool, free_relay, relay) < 0)
        kp_error_log("the worker pool is full: a finished proxy call stays in memory", NULL);
}

static void relay_ref(struct relay *relay)
{
    __atomic_add_fetch(&relay->refs, 1, __ATOMIC_RELAXED);
}

/* ---- who asked may be gone before an answer begins ------------------------------------------------------------------------- */
static void look(void *arg)
{
    struct relay *relay = arg;
    if (http_request_cancelled(relay->request))
        http_call_cancel(relay->owned);
}

static void begin_looking(void *arg)
{
    struct relay *relay = arg;
    if (relay->over || relay->stream) {
        relay_unref(relay);
        return;
    }
    relay->timer = loop_timer_new(relay->server->config.loop, look, relay);
    loop_timer_start(relay->timer, CANCEL_LOOK_MS, CANCEL_LOOK_MS);
}

static void stop_looking(struct relay *relay)
{
    if (!relay->timer)
        return;
    loop_timer_free(KP_TAKE(relay->timer));
    relay_unref(relay); /* whoever calls has a reference of his own */
}

/* ---- the answer, on the loop ----------------------------------------------------------------------------------------------- */
bool relay_hop_by_hop(const char *name)
{
    static const char *const names[] = {"connection", "keep-alive", "transfer-encoding", "te", "trailer", "upgrade", "content-length", "date",
                                        "proxy-connection", "proxy-authenticate", "proxy-authorization"};
    for (size_t i = 0; i < KP_ARRAY_LEN(names); i++)
        if (strcasecmp(names[i], name) == 0)
            return true;
    return false;
}

/* What a browser may do with the answer is ours to say, not that of who was asked: upstream drops these likewise. */
static bool is_cors(const char *name)
{
    static const char prefix[] = "access-control-";
    return strncasecmp(name, prefix, sizeof(prefix) - 1) == 0;
}

static size_t kept_headers(const struct http_header *headers, size_t count, bool upgrade, struct http_header out[RELAY_HEADERS_MAX])
{
    size_t n = 0;
    for (size_t i = 0; i < count && n < RELAY_HEADERS_MAX; i++) {
        bool hop = relay_hop_by_hop(headers[i].name) && !(upgrade && strcasecmp(headers[i].name, "upgrade") == 0);
        if (!hop && !is_cors(headers[i].name))
            out[n++] = headers[i];
    }
    return n;
}

void relay_respond_plain(struct http_request *request, int status, const char *text)
{
    static const struct http_header headers[] = {{"Content-Type", "text/plain; charset=utf-8"}, {"X-Content-Type-Options", "nosniff"}};
    KP_AUTO_BUF struct kp_buf out = {0};
    kp_buf_printf(&out, "%s\n", text);
    http_respond(request, status, headers, KP_ARRAY_LEN(headers), out.data, out.len);
}

static void respond_failure(struct http_request *request, const struct relay_target *target, int code, const char *what, const char *why)
{
    static const struct http_header header = {"Content-Type", "application/json"};
    const char *text = kp_arena_printf(request->arena, "%s: %s", what, why);
    bool late = code == KP_ETIMEOUT && target->timeout_ms > 0;
    if (code != KP_ECANCELLED) /* who asked has gone: nobody reads the answer */
        kp_warn("proxying a request failed", "path", request->path, "error", text, NULL);
    if (target->aggregated && !late) {
        relay_respond_plain(request, 503, text);
        return;
    }
    struct api_status status = API_STATUS(request->arena);
    KP_AUTO_BUF struct kp_buf out = {0};
    if (late)
        status_fail(&status, KP_ETIMEOUT, 504, "Timeout", "Timeout: request did not complete within the allotted timeout");
    else
        status_fail(&status, KP_EUNAVAILABLE, 503, "ServiceUnavailable", "%s", text);
    status_encode(&status, &out);
    http_respond(request, status.http_status, &header, 1, out.data, out.len);
}

static void on_stream_closed(void *arg)
{
    struct relay *relay = arg;
    http_call_cancel(relay->call);
    relay_unref(relay);
}

static void on_stream_drained(void *arg)
{
    struct relay *relay = arg;
    if (relay->over)
        return;
    http_call_consumed(relay->call, relay->unread);
    relay->unread = 0;
}

/* A server that is asked on somebody's behalf may not send him elsewhere with his credentials. */
static bool refuse_redirect(struct relay *relay, struct http_call *call, int status, const struct http_header *headers, size_t count)
{
    static const char text[] = "the backend attempted to redirect this request, which is not permitted";
    if (!relay->target.aggregated || status < 300 || status > 399 || kp_empty(http_header_get(headers, count, "location")))
        return false;
    relay->answered = true;
    http_respond(relay->request, 502, NULL, 0, text, sizeof(text) - 1);
    http_call_cancel(call);
    return true;
}

static void on_headers(struct http_call *call, int status, const struct http_header *headers, size_t count, void *arg)
{
    struct relay *relay = arg;
    struct http_header kept[RELAY_HEADERS_MAX];
    if (refuse_redirect(relay, call, status, headers, count))
        return;
    relay->call = call;
    audit_started(relay->audit, status, false);
    relay->stream = http_stream_start(relay->request, status, kept, kept_headers(headers, count, false, kept));
    relay_ref(relay);
    http_stream_set_drain_callback(relay->stream, on_stream_drained, relay);
    http_stream_set_close_callback(relay->stream, on_stream_closed, relay);
    stop_looking(relay);
}

static void on_data(struct http_call *call, const uint8_t *data, size_t len, void *arg)
{
    struct relay *relay = arg;
    KP_AUTO(kp_blob_unref) struct kp_blob *blob = NULL;
    if (!relay->stream) /* refused */
        return;
    blob = kp_blob_new(data, len);
    relay->unread += len;
    if (http_stream_write(relay->stream, blob) < 0)
        http_call_cancel(call);
    else if (http_stream_queued(relay->stream) == 0)
        on_stream_drained(relay);
}

static void on_end(struct http_call *call, const struct kp_error *error, void *arg)
{
    struct relay *relay = arg;
    (void)call;
    relay->over = true;
    stop_looking(relay);
    if (relay->stream && error)
        http_stream_reset(relay->stream);
    else if (relay->stream)
        http_stream_end(relay->stream);
    else if (!relay->answered)
        respond_failure(relay->request, &relay->target, error ? error->code : 0, "error trying to reach service", error ? error->message : "there was no answer");
    relay_unref(relay);
}

static struct relay *relay_new(struct api_request *ar, const struct relay_target *target, int refs)
{
    struct relay *relay = kp_calloc(1, sizeof(*relay));
    relay->refs = refs;
    relay->target = *target;
    relay->server = ar->server;
    relay->counted = KP_TAKE(ar->counted);
    relay->audit = audit_record_ref(ar->audit);
    ar->answered = true;
    return relay;
}

static void relay_plain(struct api_request *ar, const struct relay_target *target)
{
    static const struct http_call_callbacks callbacks = {.on_headers = on_headers, .on_data = on_data, .on_end = on_end};
    const struct http_client_request request = {.method = ar->http->method,
                                                .path = target->path,
                                                .headers = target->headers,
                                                .header_count = target->header_count,
                                                .body = ar->http->body.data,
                                                .body_len = ar->http->body.len,
                                                .timeout_ms = target->timeout_ms,
                                                .manual_flow = true};
    struct relay *relay = relay_new(ar, target, 2); /* the call's, and ours, which goes over to who looks */
    relay->request = http_request_ref(ar->http);
    api_audit_hand_over(ar);
    relay->owned = http_client_stream(target->client, &request, &callbacks, relay);
    loop_post(relay->server->config.loop, begin_looking, relay);
}

/* ---- bytes both ways, once the other side has switched protocols as well --------------------------------------------------- */
static void on_tunnels_closed(void *arg)
{
    struct relay *relay = arg;
    audit_complete(relay->audit, 101, false);
    relay_unref(relay);
}

static void upgrade_failed(struct api_request *ar, const struct relay_target *target, const struct kp_error *error)
{
    if (target->aggregated) {
        ar->answered = true;
        api_audit_hand_over(ar);
        respond_failure(ar->http, target, error->code, "error dialing backend", error->message);
    } else {
        status_fail(&ar->status, KP_EUNAVAILABLE, 500, "InternalError", "error dialing backend: %s", error->message);
        respond_status(ar);
    }
}

static void relay_upgrade(struct api_request *ar, const struct relay_target *target)
{
    struct http_header answer[RELAY_HEADERS_MAX];
    struct kp_error error = {0};
    struct http_response response = {0};
    KP_AUTO(http_tunnel_unref) struct http_tunnel *back = NULL;
    const struct http_client_request request = {.method = ar->http->method,
                                                .path = target->path,
                                                .headers = target->headers,
                                                .header_count = target->header_count,
                                                .timeout_ms = UPGRADE_TIMEOUT_MS};
    if (http_client_upgrade(target->client, &request, ar->arena, &response, &back, &error) < 0) {
        upgrade_failed(ar, target, &error);
        target->release(target->owner);
        return;
    }
    if (!back) {
        const char *type = http_response_header(&response, "content-type");
        target->release(target->owner);
        respond_bytes(ar, response.status, type ? type : "text/plain", response.body.data, response.body.len);
        return;
    }
    size_t n = kept_headers(response.headers, response.header_count, true, answer);
    audit_started(ar->audit, 101, true);
    KP_AUTO(http_tunnel_unref) struct http_tunnel *front = http_upgrade(ar->http, answer, n);
    if (!front) { /* the peer has gone meanwhile */
        ar->answered = true;
        http_tunnel_close(back);
        target->release(target->owner);
        return;
    }
    struct relay *relay = relay_new(ar, target, 1);
    audit_record_unref(KP_TAKE(ar->audit)); /* the relay tells when it is complete */
    http_tunnel_splice(front, back, on_tunnels_closed, relay);
}

void relay_request(struct api_request *ar, const struct relay_target *target)
{
    if (relay_is_upgrade(ar))
        relay_upgrade(ar, target);
    else
        relay_plain(ar, target);
}

bool relay_is_upgrade(const struct api_request *ar)
{
    return http_header_has_token(ar->http->headers, ar->http->header_count, "connection", "upgrade");
}
