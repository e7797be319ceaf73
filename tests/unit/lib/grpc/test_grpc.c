/* gRPC client against gRPC server over loopback: TLS and a unix socket, every kind of call, and what goes wrong. */
#include "lib/grpc/grpc.h"
#include "lib/tls/tls.h"

#include "proto/etcd.pb-c.h"
#include "proto/health.pb-c.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <unistd.h>

#include <cmocka.h>

#define WAIT_MS 10000
#define HUGE_BYTES ((size_t)24 << 20)

typedef Mvccpb__KeyValue Kv;

struct fixture {
    char folder[64], unix_url[128], tls_url[64], unix_path[96];
    struct loop *loop;
    struct pool *pool;
    struct tls_context *server_tls, *client_tls;
    struct grpc_server *server, *tls_server;
    struct grpc_channel *channel, *tls_channel;
};

/* ---- the service under test: messages are etcd's KeyValue both ways ---- */
static int echo(struct grpc_context *context, const void *request, void *response, struct kp_error *error)
{
    const Kv *in = request;
    Kv *out = response;
    out->key = in->key;
    out->value = in->value;
    out->version = in->version + 1;
    if (context->peer) {
        out->value.data = (uint8_t *)(uintptr_t)context->peer->common_name;
        out->value.len = strlen(context->peer->common_name);
    }
    return 0;
}

static int refuse(struct grpc_context *context, const void *request, void *response, struct kp_error *error)
{
    const Kv *in = request;
    if (in->version < 0)
        return kp_fail(error, (int)in->version, "by code");
    return grpc_fail(error, (enum grpc_status)in->version, "etcdserver: \xc3\xa4 100%%\n");
}

static int deferred_runs;

static void count_deferred(void *p)
{
    __atomic_fetch_add((int *)p, 1, __ATOMIC_SEQ_CST);
}

static int slow(struct grpc_context *context, const void *request, void *response, struct kp_error *error)
{
    grpc_context_defer(context, count_deferred, &deferred_runs);
    for (int i = 0; i < 200 && !grpc_cancelled(context); i++)
        kp_sleep_ms(10);
    return grpc_cancelled(context) ? grpc_fail(error, GRPC_CANCELLED, "gone") : 0;
}

static int huge(struct grpc_context *context, const void *request, void *response, struct kp_error *error)
{
    Kv *out = response;
    out->value.len = HUGE_BYTES;
    out->value.data = kp_arena_alloc(context->arena, HUGE_BYTES);
    memset(out->value.data, 'h', HUGE_BYTES);
    return 0;
}

/* Sends request->version messages of request->lease bytes each, waiting for the queue now and then. */
static int count_down(struct grpc_context *context, const void *request, struct grpc_stream *stream,
                      struct kp_error *error)
{
    const Kv *in = request;
    KP_AUTO_FREE uint8_t *filler = kp_calloc(1, (size_t)in->lease + 1);
    for (int64_t i = 0; i < in->version; i++) {
        Kv out = MVCCPB__KEY_VALUE__INIT;
        out.version = i;
        out.value = (ProtobufCBinaryData){(size_t)in->lease, filler};
        if (grpc_stream_send(stream, &out.base) < 0 || grpc_stream_wait(stream, 1 << 20) < 0)
            return KP_ECANCELLED;
    }
    return in->create_revision ? grpc_fail(error, GRPC_DATA_LOSS, "at the end") : 0;
}

/* Answers on the loop; with version 1 on the pool, where lease tells how it got there. */
static int quick(struct grpc_context *context, const void *request, struct grpc_stream *stream, struct kp_error *error)
{
    const Kv *in = request;
    if (context->on_loop && in->version == 1)
        return GRPC_TO_POOL;
    if (in->version == 2)
        return grpc_fail(error, GRPC_OUT_OF_RANGE, "two");
    Kv out = MVCCPB__KEY_VALUE__INIT;
    out.key = in->key; /* the request is still whole in the second try */
    out.lease = context->on_loop ? 1 : 2;
    return grpc_stream_send(stream, &out.base);
}

static void bidi_message(struct grpc_stream *stream, const void *message, void *arg)
{
    const Kv *in = message;
    Kv out = *in;
    out.version = in->version * 2;
    if (in->lease == 13)
        grpc_stream_finish(stream, GRPC_ABORTED, "thirteen");
    else
        assert_int_equal(grpc_stream_send(stream, &out.base), 0);
}

static int bidi_closed;

static void bidi_close(struct grpc_stream *stream, void *arg)
{
    __atomic_fetch_add(&bidi_closed, 1, __ATOMIC_SEQ_CST);
}

static int bidi(struct grpc_context *context, struct grpc_stream *stream, struct kp_error *error)
{
    static const struct grpc_stream_callbacks callbacks = {.on_message = bidi_message, .on_close = bidi_close};
    if (http_request_header(context->http, "x-refuse"))
        return grpc_fail(error, GRPC_PERMISSION_DENIED, "refused at the door");
    grpc_stream_set_callbacks(stream, &callbacks, NULL);
    return 0;
}

/* Client streaming: answers once with the sum. */
static void sum_message(struct grpc_stream *stream, const void *message, void *arg)
{
    *(int64_t *)arg += ((const Kv *)message)->version;
}

static void sum_end(struct grpc_stream *stream, void *arg)
{
    Kv out = MVCCPB__KEY_VALUE__INIT;
    out.version = *(int64_t *)arg;
    grpc_stream_send(stream, &out.base);
    grpc_stream_finish(stream, 0, NULL);
}

static int sum(struct grpc_context *context, struct grpc_stream *stream, struct kp_error *error)
{
    static const struct grpc_stream_callbacks callbacks = {.on_message = sum_message, .on_half_close = sum_end};
    grpc_stream_set_callbacks(stream, &callbacks, KP_NEW(context->arena, int64_t));
    return 0;
}

#define KV_TYPES .input = &mvccpb__key_value__descriptor, .output = &mvccpb__key_value__descriptor
static const struct grpc_method test_methods[] = {
    {.path = "/test.T/Echo", .kind = GRPC_UNARY, KV_TYPES, .unary = echo},
    {.path = "/test.T/Fail", .kind = GRPC_UNARY, KV_TYPES, .unary = refuse},
    {.path = "/test.T/Slow", .kind = GRPC_UNARY, KV_TYPES, .unary = slow},
    {.path = "/test.T/Huge", .kind = GRPC_UNARY, KV_TYPES, .unary = huge},
    {.path = "/test.T/Count", .kind = GRPC_SERVER_STREAM, KV_TYPES, .server_stream = count_down},
    {.path = "/test.T/Quick", .kind = GRPC_SERVER_STREAM, KV_TYPES, .server_stream = quick, .inline_first = true},
    {.path = "/test.T/Bidi", .kind = GRPC_BIDI, KV_TYPES, .open = bidi},
    {.path = "/test.T/Sum", .kind = GRPC_CLIENT_STREAM, KV_TYPES, .open = sum},
    {0},
};
static const struct grpc_method *const method_tables[] = {test_methods, NULL};

/* ---- fixture ---- */
static const char *const localhost_ips[] = {"127.0.0.1", NULL};
static const char *const alpn_h2[] = {"h2", NULL};

static void make_tls(struct fixture *f)
{
    struct kp_error error = {0};
    KP_AUTO(tls_key_unref) struct tls_key *key = NULL;
    KP_AUTO(tls_cert_unref) struct tls_cert *ca = NULL;
    KP_AUTO(tls_cert_unref) struct tls_cert *leaf = NULL;
    KP_AUTO_BUF struct kp_buf key_pem = {0};
    KP_AUTO_BUF struct kp_buf ca_pem = {0};
    KP_AUTO_BUF struct kp_buf leaf_pem = {0};
    assert_int_equal(tls_key_generate(TLS_KEY_ECDSA_P256, &key, &error), 0);
    const struct tls_cert_options ca_options = {.subject.common_name = "ca"};
    assert_int_equal(tls_cert_create_ca(key, &ca_options, &ca, &error), 0);
    const struct tls_cert_options options = {.subject = {.common_name = "member", .ip_addresses = localhost_ips},
                                             .usages = TLS_USAGE_SERVER | TLS_USAGE_CLIENT};
    assert_int_equal(tls_cert_create(key, &options, ca, key, &leaf, &error), 0);
    assert_int_equal(tls_key_to_pem(key, &key_pem, &error), 0);
    tls_cert_to_pem(ca, &ca_pem);
    tls_cert_to_pem(leaf, &leaf_pem);
    struct tls_context_config config = {.server = true, .cert_pem = leaf_pem.data, .key_pem = key_pem.data,
                                        .ca_pem = ca_pem.data, .client_cert = TLS_CLIENT_CERT_REQUIRE, .alpn = alpn_h2};
    assert_int_equal(tls_context_new(&config, &f->server_tls, &error), 0);
    config.server = false;
    assert_int_equal(tls_context_new(&config, &f->client_tls, &error), 0);
}

static void start_unix(struct fixture *f)
{
    struct kp_error error = {0};
    const struct grpc_server_config config = {.http = {.unix_path = f->unix_path, .pool = f->pool}, .methods = method_tables};
    assert_int_equal(grpc_server_new(f->loop, &config, &f->server, &error), 0);
}

static int setup(void **state)
{
    struct kp_error error = {0};
    struct fixture *f = kp_calloc(1, sizeof(*f));
    kp_log_init("test_grpc", KP_LOG_WARNING);
    snprintf(f->folder, sizeof(f->folder), "/tmp/test_grpc.XXXXXX");
    assert_non_null(mkdtemp(f->folder));
    snprintf(f->unix_path, sizeof(f->unix_path), "%s/s", f->folder);
    snprintf(f->unix_url, sizeof(f->unix_url), "unix:%s", f->unix_path);
    f->loop = loop_new();
    f->pool = pool_new("test", 8, 100);
    assert_int_equal(loop_start(f->loop, "test-loop", &error), 0);
    make_tls(f);
    start_unix(f);
    const struct grpc_server_config secure = {
        .http = {.host = "127.0.0.1", .pool = f->pool, .tls = f->server_tls}, .methods = method_tables};
    assert_int_equal(grpc_server_new(f->loop, &secure, &f->tls_server, &error), 0);
    snprintf(f->tls_url, sizeof(f->tls_url), "https://127.0.0.1:%u", grpc_server_port(f->tls_server));
    const char *unix_endpoints[] = {f->unix_url};
    const char *tls_endpoints[] = {"https://127.0.0.1:1", f->tls_url}; /* the first refuses: fail-over */
    const struct grpc_channel_config plain = {.endpoints = unix_endpoints, .endpoint_count = 1};
    const struct grpc_channel_config with_tls = {.endpoints = tls_endpoints, .endpoint_count = 2, .tls = f->client_tls};
    assert_int_equal(grpc_channel_new(f->loop, &plain, &f->channel, &error), 0);
    assert_int_equal(grpc_channel_new(f->loop, &with_tls, &f->tls_channel, &error), 0);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    grpc_channel_free(f->channel);
    grpc_channel_free(f->tls_channel);
    grpc_server_free(f->server);
    grpc_server_free(f->tls_server);
    tls_context_unref(f->server_tls);
    tls_context_unref(f->client_tls);
    pool_free(f->pool);
    loop_free(f->loop);
    int rc = kp_remove_tree(f->folder, NULL);
    free(f);
    return rc;
}

static int call(struct grpc_channel *channel, const char *path, const Kv *request, int64_t timeout_ms,
                struct kp_arena *arena, Kv **ret_answer, enum grpc_status *ret_status, struct kp_error *error)
{
    const struct grpc_call_options options = {.timeout_ms = timeout_ms, .ret_status = ret_status};
    ProtobufCMessage *message = NULL;
    int rc = grpc_call(channel, path, &request->base, &mvccpb__key_value__descriptor, &options, arena, &message, error);
    *ret_answer = (Kv *)message;
    return rc;
}

/* ---- unary ---- */
static void unary_call_answers_over_unix_and_tls(void **state)
{
    struct fixture *f = *state;
    struct kp_error error = {0};
    for (int secure = 0; secure < 2; secure++) {
        for (int i = 0; i < 50; i++) {
            KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
            Kv request = MVCCPB__KEY_VALUE__INIT, *answer;
            enum grpc_status status;
            request.version = i;
            int rc = call(secure ? f->tls_channel : f->channel, "/test.T/Echo", &request, 0, arena, &answer, &status, &error);
            assert_string_equal(error.message, "");
            assert_int_equal(rc, 0);
            assert_int_equal(answer->version, i + 1);
            if (secure) { /* the server saw who we are */
                assert_int_equal(answer->value.len, 6);
                assert_memory_equal(answer->value.data, "member", 6);
            }
        }
    }
}

static void status_and_message_arrive_as_sent(void **state)
{
    struct fixture *f = *state;
    static const struct {
        int64_t result;
        enum grpc_status status;
        int code;
    } cases[] = {{GRPC_OUT_OF_RANGE, GRPC_OUT_OF_RANGE, KP_EEXPIRED},
                 {GRPC_NOT_FOUND, GRPC_NOT_FOUND, KP_ENOTFOUND},
                 {KP_ETOOMANY, GRPC_RESOURCE_EXHAUSTED, KP_ETOOMANY},
                 {KP_EUNAVAILABLE, GRPC_UNAVAILABLE, KP_EUNAVAILABLE}};
    for (size_t i = 0; i < KP_ARRAY_LEN(cases); i++) {
        KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
        struct kp_error error = {0};
        Kv request = MVCCPB__KEY_VALUE__INIT, *answer;
        enum grpc_status status = GRPC_OK;
        request.version = cases[i].result;
        assert_int_equal(call(f->channel, "/test.T/Fail", &request, 0, arena, &answer, &status, &error), cases[i].code);
        assert_int_equal(status, cases[i].status);
        assert_string_equal(error.message, cases[i].result > 0 ? "etcdserver: \xc3\xa4 100%\n" : "by code");
    }
}

static void unknown_methods_are_unimplemented(void **state)
{
    struct fixture *f = *state;
    static const char *const paths[] = {"/test.T/Nope", "/none.N/Echo", "/"};
    for (size_t i = 0; i < KP_ARRAY_LEN(paths); i++) {
        KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
        struct kp_error error = {0};
        Kv request = MVCCPB__KEY_VALUE__INIT, *answer;
        enum grpc_status status = GRPC_OK;
        int rc = call(f->channel, paths[i], &request, 0, arena, &answer, &status, &error);
        assert_int_equal(rc, KP_ENOTSUPPORTED);
        assert_int_equal(status, GRPC_UNIMPLEMENTED);
    }
}

static void deadline_ends_a_slow_call_and_tells_the_handler(void **state)
{
    struct fixture *f = *state;
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    struct kp_error error = {0};
    Kv request = MVCCPB__KEY_VALUE__INIT, *answer;
    enum grpc_status status = GRPC_OK;
    int before = __atomic_load_n(&deferred_runs, __ATOMIC_SEQ_CST);
    int64_t start_ms = kp_mono_ms();
    assert_int_equal(call(f->channel, "/test.T/Slow", &request, 100, arena, &answer, &status, &error), KP_ETIMEOUT);
    assert_int_equal(status, GRPC_DEADLINE_EXCEEDED);
    assert_true(kp_mono_ms() - start_ms < 1500);
    for (int i = 0; i < 150 && __atomic_load_n(&deferred_runs, __ATOMIC_SEQ_CST) == before; i++)
        kp_sleep_ms(10);
    assert_int_equal(__atomic_load_n(&deferred_runs, __ATOMIC_SEQ_CST), before + 1);
    assert_true(kp_mono_ms() - start_ms < 1900); /* it noticed, rather than running to its end */
}

static void huge_answers_arrive_and_huge_requests_are_refused(void **state)
{
    struct fixture *f = *state;
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    struct kp_error error = {0};
    Kv request = MVCCPB__KEY_VALUE__INIT, *answer;
    enum grpc_status status = GRPC_OK;
    assert_int_equal(call(f->tls_channel, "/test.T/Huge", &request, 0, arena, &answer, &status, &error), 0);
    assert_int_equal(answer->value.len, HUGE_BYTES);
    assert_int_equal(answer->value.data[HUGE_BYTES - 1], 'h');
    size_t len = GRPC_MESSAGE_BYTES_MAX_DEFAULT + 10;
    request.value = (ProtobufCBinaryData){len, kp_arena_alloc(arena, len)};
    assert_true(call(f->channel, "/test.T/Echo", &request, 0, arena, &answer, &status, &error) < 0);
    assert_int_equal(status, GRPC_RESOURCE_EXHAUSTED);
    request.value.len = GRPC_MESSAGE_BYTES_MAX_DEFAULT - 100;
    assert_int_equal(call(f->channel, "/test.T/Echo", &request, 0, arena, &answer, &status, &error), 0);
    assert_int_equal(answer->value.len, GRPC_MESSAGE_BYTES_MAX_DEFAULT - 100);
}

/* ---- streams ---- */
struct watcher {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    int64_t messages, total;
    bool ended;
    enum grpc_status status;
    char message[128];
    int64_t sleep_ms;
};

static void watcher_message(struct grpc_call *call_, const void *message, void *arg)
{
    struct watcher *w = arg;
    pthread_mutex_lock(&w->lock);
    w->messages++;
    w->total += ((const Kv *)message)->version;
    pthread_cond_broadcast(&w->changed);
    pthread_mutex_unlock(&w->lock);
}

static void watcher_end(struct grpc_call *call_, enum grpc_status status, const char *message, void *arg)
{
    struct watcher *w = arg;
    pthread_mutex_lock(&w->lock);
    w->ended = true;
    w->status = status;
    snprintf(w->message, sizeof(w->message), "%s", message);
    pthread_cond_broadcast(&w->changed);
    pthread_mutex_unlock(&w->lock);
}

static const struct grpc_call_callbacks watcher_callbacks = {.on_message = watcher_message, .on_end = watcher_end};
#define WATCHER_INIT {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER}

/* Waits until `messages` came (negative: until the end). */
static void watcher_wait(struct watcher *w, int64_t messages)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += WAIT_MS / 1000;
    pthread_mutex_lock(&w->lock);
    while (messages < 0 ? !w->ended : w->messages < messages) {
        if (pthread_cond_timedwait(&w->changed, &w->lock, &until) != 0)
            break;
    }
    bool reached = messages < 0 ? w->ended : w->messages >= messages;
    pthread_mutex_unlock(&w->lock);
    assert_true(reached);
}

static struct grpc_call *open_call(struct grpc_channel *channel, const char *path, const struct grpc_call_options *options,
                                   struct watcher *w)
{
    return grpc_call_open(channel, path, &mvccpb__key_value__descriptor, options, &watcher_callbacks, w);
}

static void server_stream_delivers_all_then_its_status(void **state)
{
    struct fixture *f = *state;
    for (int failing = 0; failing < 2; failing++) {
        struct watcher w = WATCHER_INIT;
        Kv request = MVCCPB__KEY_VALUE__INIT;
        request.version = 300;
        request.lease = 50000; /* 15 MB: far more than the windows, so flow control works */
        request.create_revision = failing;
        KP_AUTO(grpc_call_unref) struct grpc_call *c = open_call(failing ? f->tls_channel : f->channel, "/test.T/Count", NULL, &w);
        assert_int_equal(grpc_call_send(c, &request.base), 0);
        grpc_call_send_end(c);
        watcher_wait(&w, -1);
        assert_int_equal(w.messages, 300);
        assert_int_equal(w.total, 299 * 300 / 2);
        assert_int_equal(w.status, failing ? GRPC_DATA_LOSS : GRPC_OK);
        assert_string_equal(w.message, failing ? "at the end" : "");
    }
}

static void a_quick_call_is_tried_on_the_loop_then_on_the_pool(void **state)
{
    struct fixture *f = *state;
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    for (int64_t version = 0; version < 3; version++) {
        Kv in = MVCCPB__KEY_VALUE__INIT;
        in.version = version;
        in.key = (ProtobufCBinaryData){3, (uint8_t *)"abc"};
        ProtobufCMessage *message = NULL;
        struct kp_error error = {0};
        enum grpc_status status;
        const struct grpc_call_options options = {.ret_status = &status};
        int rc = grpc_call(f->channel, "/test.T/Quick", &in.base, &mvccpb__key_value__descriptor, &options, arena, &message,
                           &error);
        if (version == 2) {
            assert_int_equal(status, GRPC_OUT_OF_RANGE);
            assert_string_equal(error.message, "two");
            continue;
        }
        assert_int_equal(rc, 0);
        const Kv *out = (const Kv *)message;
        assert_int_equal(out->lease, version == 0 ? 1 : 2);
        assert_int_equal(out->key.len, 3);
        assert_memory_equal(out->key.data, "abc", 3);
    }
}

static void bidi_stream_talks_both_ways(void **state)
{
    struct fixture *f = *state;
    for (int secure = 0; secure < 2; secure++) {
        struct watcher w = WATCHER_INIT;
        int closed = __atomic_load_n(&bidi_closed, __ATOMIC_SEQ_CST);
        KP_AUTO(grpc_call_unref) struct grpc_call *c = open_call(secure ? f->tls_channel : f->channel, "/test.T/Bidi", NULL, &w);
        for (int i = 1; i <= 20; i++) {
            Kv message = MVCCPB__KEY_VALUE__INIT;
            message.version = i;
            assert_int_equal(grpc_call_send(c, &message.base), 0);
            watcher_wait(&w, i);
        }
        grpc_call_send_end(c);
        watcher_wait(&w, -1);
        assert_int_equal(w.total, 420);
        assert_int_equal(w.status, GRPC_OK);
        for (int i = 0; i < 200 && __atomic_load_n(&bidi_closed, __ATOMIC_SEQ_CST) == closed; i++)
            kp_sleep_ms(5);
        assert_int_equal(__atomic_load_n(&bidi_closed, __ATOMIC_SEQ_CST), closed + 1);
        Kv late = MVCCPB__KEY_VALUE__INIT;
        assert_int_equal(grpc_call_send(c, &late.base), KP_ECANCELLED);
    }
}

static void server_may_end_a_bidi_stream_early_or_at_once(void **state)
{
    struct fixture *f = *state;
    struct watcher early = WATCHER_INIT, refused = WATCHER_INIT;
    Kv message = MVCCPB__KEY_VALUE__INIT;
    message.lease = 13;
    KP_AUTO(grpc_call_unref) struct grpc_call *a = open_call(f->channel, "/test.T/Bidi", NULL, &early);
    assert_int_equal(grpc_call_send(a, &message.base), 0);
    watcher_wait(&early, -1);
    assert_int_equal(early.status, GRPC_ABORTED);
    assert_string_equal(early.message, "thirteen");
    const struct http_header metadata[] = {{"x-refuse", "1"}};
    const struct grpc_call_options options = {.metadata = metadata, .metadata_count = 1};
    KP_AUTO(grpc_call_unref) struct grpc_call *b = open_call(f->channel, "/test.T/Bidi", &options, &refused);
    assert_non_null(b);
    watcher_wait(&refused, -1);
    assert_int_equal(refused.status, GRPC_PERMISSION_DENIED);
    assert_string_equal(refused.message, "refused at the door");
}

static void client_stream_is_answered_at_its_end(void **state)
{
    struct fixture *f = *state;
    struct watcher w = WATCHER_INIT;
    KP_AUTO(grpc_call_unref) struct grpc_call *c = open_call(f->tls_channel, "/test.T/Sum", NULL, &w);
    for (int i = 1; i <= 1000; i++) {
        Kv message = MVCCPB__KEY_VALUE__INIT;
        message.version = i;
        assert_int_equal(grpc_call_send(c, &message.base), 0);
    }
    grpc_call_send_end(c);
    watcher_wait(&w, -1);
    assert_int_equal(w.status, GRPC_OK);
    assert_int_equal(w.messages, 1);
    assert_int_equal(w.total, 500500);
}

static void stream_deadline_and_cancel_end_it(void **state)
{
    struct fixture *f = *state;
    struct watcher timed = WATCHER_INIT, cancelled = WATCHER_INIT;
    int closed = __atomic_load_n(&bidi_closed, __ATOMIC_SEQ_CST);
    const struct grpc_call_options options = {.timeout_ms = 100};
    KP_AUTO(grpc_call_unref) struct grpc_call *a = open_call(f->channel, "/test.T/Bidi", &options, &timed);
    assert_non_null(a);
    watcher_wait(&timed, -1);
    assert_int_equal(timed.status, GRPC_DEADLINE_EXCEEDED);
    KP_AUTO(grpc_call_unref) struct grpc_call *b = open_call(f->channel, "/test.T/Bidi", NULL, &cancelled);
    Kv message = MVCCPB__KEY_VALUE__INIT;
    assert_int_equal(grpc_call_send(b, &message.base), 0);
    watcher_wait(&cancelled, 1);
    grpc_call_cancel(b);
    watcher_wait(&cancelled, -1);
    assert_int_equal(cancelled.status, GRPC_CANCELLED);
    for (int i = 0; i < 400 && __atomic_load_n(&bidi_closed, __ATOMIC_SEQ_CST) < closed + 2; i++)
        kp_sleep_ms(5);
    assert_int_equal(__atomic_load_n(&bidi_closed, __ATOMIC_SEQ_CST), closed + 2); /* the server saw both go */
}

static void a_server_that_dies_and_returns_is_found_again(void **state)
{
    struct fixture *f = *state;
    struct watcher w = WATCHER_INIT;
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    struct kp_error error = {0};
    KP_AUTO(grpc_call_unref) struct grpc_call *c = open_call(f->channel, "/test.T/Bidi", NULL, &w);
    Kv message = MVCCPB__KEY_VALUE__INIT, *answer;
    assert_int_equal(grpc_call_send(c, &message.base), 0);
    watcher_wait(&w, 1);
    grpc_server_free(f->server);
    f->server = NULL;
    watcher_wait(&w, -1);
    assert_int_equal(w.status, GRPC_UNAVAILABLE);
    enum grpc_status status = GRPC_OK;
    assert_int_equal(call(f->channel, "/test.T/Echo", &message, 3000, arena, &answer, &status, &error), KP_EUNAVAILABLE);
    assert_int_equal(status, GRPC_UNAVAILABLE);
    start_unix(f);
    int rc = -1;
    for (int i = 0; i < 50 && rc != 0; i++) {
        rc = call(f->channel, "/test.T/Echo", &message, 3000, arena, &answer, &status, &error);
        if (rc != 0)
            kp_sleep_ms(100);
    }
    assert_int_equal(rc, 0);
}

static void health_message(struct grpc_call *call_, const void *message, void *arg)
{
    Kv as_kv = MVCCPB__KEY_VALUE__INIT;
    as_kv.version = ((const Grpc__Health__V1__HealthCheckResponse *)message)->status;
    watcher_message(call_, &as_kv, arg);
}

static void health_service_answers_and_watches(void **state)
{
    struct fixture *f = *state;
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    struct kp_error error = {0};
    Grpc__Health__V1__HealthCheckRequest request = GRPC__HEALTH__V1__HEALTH_CHECK_REQUEST__INIT;
    ProtobufCMessage *answer = NULL;
    for (int serving = 1; serving >= 0; serving--) {
        grpc_server_set_serving(f->server, serving != 0);
        assert_int_equal(grpc_call(f->channel, "/grpc.health.v1.Health/Check", &request.base,
                                   &grpc__health__v1__health_check_response__descriptor, NULL, arena, &answer, &error), 0);
        assert_int_equal(((Grpc__Health__V1__HealthCheckResponse *)answer)->status, serving ? 1 : 2);
    }
    request.service = (char *)(uintptr_t) "other";
    assert_int_equal(grpc_call(f->channel, "/grpc.health.v1.Health/Check", &request.base,
                               &grpc__health__v1__health_check_response__descriptor, NULL, arena, &answer, &error),
                     KP_ENOTFOUND);
    request.service = (char *)(uintptr_t) "";
    struct watcher w = WATCHER_INIT, other = WATCHER_INIT;
    const struct grpc_call_callbacks callbacks = {.on_message = health_message, .on_end = watcher_end};
    request.service = (char *)(uintptr_t) "other";
    KP_AUTO(grpc_call_unref) struct grpc_call *of_other =
        grpc_call_open(f->channel, "/grpc.health.v1.Health/Watch", &grpc__health__v1__health_check_response__descriptor,
                       NULL, &callbacks, &other);
    assert_int_equal(grpc_call_send(of_other, &request.base), 0);
    grpc_call_send_end(of_other);
    watcher_wait(&other, 1);
    request.service = (char *)(uintptr_t) "";
    KP_AUTO(grpc_call_unref) struct grpc_call *c =
        grpc_call_open(f->channel, "/grpc.health.v1.Health/Watch", &grpc__health__v1__health_check_response__descriptor,
                       NULL, &callbacks, &w);
    assert_int_equal(grpc_call_send(c, &request.base), 0);
    grpc_call_send_end(c);
    watcher_wait(&w, 1);
    grpc_server_set_serving(f->server, true);
    watcher_wait(&w, 2);
    assert_int_equal(w.total, 2 + 1); /* NOT_SERVING, then SERVING */
    grpc_server_shutdown(f->server, WAIT_MS); /* ends watchers rather than waiting for them */
    watcher_wait(&w, -1);
    assert_int_equal(w.status, GRPC_UNAVAILABLE);
    assert_int_equal(w.total, 2 + 1 + 2);
    watcher_wait(&other, -1);
    assert_int_equal(other.total, 3); /* SERVICE_UNKNOWN, and nothing of the server's changes */
    grpc_server_free(f->server);
    start_unix(f);
}

static void unary_round_trip_is_quick(void **state)
{
    struct fixture *f = *state;
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    struct kp_error error = {0};
    Kv request = MVCCPB__KEY_VALUE__INIT, *answer;
    enum grpc_status status;
    const int rounds = 500;
    int64_t start_ns = kp_mono_ns();
    for (int i = 0; i < rounds; i++)
        assert_int_equal(call(f->channel, "/test.T/Echo", &request, 0, arena, &answer, &status, &error), 0);
    print_message("unary over unix socket: %lld us\n", (long long)((kp_mono_ns() - start_ns) / rounds / 1000));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(unary_call_answers_over_unix_and_tls),
        cmocka_unit_test(status_and_message_arrive_as_sent),
        cmocka_unit_test(unknown_methods_are_unimplemented),
        cmocka_unit_test(deadline_ends_a_slow_call_and_tells_the_handler),
        cmocka_unit_test(huge_answers_arrive_and_huge_requests_are_refused),
        cmocka_unit_test(server_stream_delivers_all_then_its_status),
        cmocka_unit_test(a_quick_call_is_tried_on_the_loop_then_on_the_pool),
        cmocka_unit_test(bidi_stream_talks_both_ways),
        cmocka_unit_test(server_may_end_a_bidi_stream_early_or_at_once),
        cmocka_unit_test(client_stream_is_answered_at_its_end),
        cmocka_unit_test(stream_deadline_and_cancel_end_it),
        cmocka_unit_test(a_server_that_dies_and_returns_is_found_again),
        cmocka_unit_test(health_service_answers_and_watches),
        cmocka_unit_test(unary_round_trip_is_quick),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
