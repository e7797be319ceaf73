/* The etcd client against a gRPC server in this process that keeps a few keys and plays etcd's part of the conversation. */
#include "controlplane/apiserver/storage/storage_internal.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#define KEYS_MAX 16
#define WAIT_MS 5000

struct key {
    char name[64], value[64];
    int64_t revision, lease;
};
struct peer {
    pthread_mutex_t mutex; /* everything below */
    struct key keys[KEYS_MAX];
    size_t len;
    int64_t revision, compacted, leases;
    int refuse; /* this grpc_status for the next call */
    struct grpc_stream *watch;
    int64_t watch_from;
    int progress_asked;
};
struct seen {
    pthread_mutex_t mutex;
    char log[512];
    int64_t revision;
    int ended; /* code of on_end */
};
struct fixture {
    struct loop *loop;
    struct pool *pool;
    struct grpc_server *server;
    struct store *store;
    struct kp_arena *arena;
    struct peer peer;
    struct seen seen;
};

/* ---- etcd's part ------------------------------------------------------------------------------------------------------- */
static bool refused(struct peer *peer, int *ret_status, struct kp_error *error)
{
    if (!peer->refuse)
        return false;
    *ret_status = grpc_fail(error, (enum grpc_status)peer->refuse, "etcdserver: refused by the test");
    peer->refuse = 0;
    return true;
}

static void fill_kv(struct kp_arena *arena, const struct key *key, Mvccpb__KeyValue **ret)
{
    *ret = (Mvccpb__KeyValue *)grpc_message_new(&mvccpb__key_value__descriptor, arena);
    (*ret)->key = store_bytes(key->name, strlen(key->name));
    (*ret)->value = store_bytes(key->value, strlen(key->value));
    (*ret)->mod_revision = key->revision;
    (*ret)->lease = key->lease;
}

static void do_range(struct peer *peer, struct kp_arena *arena, const Etcdserverpb__RangeRequest *request, Etcdserverpb__RangeResponse *response)
{
    const char *start = kp_arena_strndup(arena, (const char *)request->key.data, request->key.len);
    const char *end = request->range_end.len ? kp_arena_strndup(arena, (const char *)request->range_end.data, request->range_end.len) : NULL;
    response->header = (Etcdserverpb__ResponseHeader *)grpc_message_new(&etcdserverpb__response_header__descriptor, arena);
    response->header->revision = peer->revision;
    response->kvs = KP_NEW_ARRAY(arena, Mvccpb__KeyValue *, KEYS_MAX);
    for (size_t i = 0; i < peer->len; i++) { /* kept in order */
        const char *name = peer->keys[i].name;
        if (end ? strcmp(name, start) < 0 || strcmp(name, end) >= 0 : strcmp(name, start) != 0)
            continue;
        response->count++;
        if (request->limit && (int64_t)response->n_kvs == request->limit)
            response->more = true;
        else
            fill_kv(arena, &peer->keys[i], &response->kvs[response->n_kvs++]);
    }
}

static int on_range(struct grpc_context *context, const void *request, void *response, struct kp_error *error)
{
    struct peer *peer = context->server_arg;
    const Etcdserverpb__RangeRequest *range = request;
    int status = 0;
    pthread_mutex_lock(&peer->mutex);
    if (!refused(peer, &status, error)) {
        if (range->revision && range->revision < peer->compacted)
            status = grpc_fail(error, GRPC_OUT_OF_RANGE, "etcdserver: mvcc: required revision has been compacted");
        else
            do_range(peer, context->arena, range, response);
    }
    pthread_mutex_unlock(&peer->mutex);
    return status;
}

static size_t find_key(struct peer *peer, ProtobufCBinaryData name)
{
    for (size_t i = 0; i < peer->len; i++)
        if (strlen(peer->keys[i].name) == name.len && memcmp(peer->keys[i].name, name.data, name.len) == 0)
            return i;
    return peer->len;
}

static void apply_op(struct peer *peer, const Etcdserverpb__RequestOp *op)
{
    if (op->request_case == ETCDSERVERPB__REQUEST_OP__REQUEST_REQUEST_DELETE_RANGE) {
        size_t at = find_key(peer, op->request_delete_range->key);
        if (at < peer->len)
            memmove(&peer->keys[at], &peer->keys[at + 1], (--peer->len - at) * sizeof(peer->keys[0]));
        return;
    }
    const Etcdserverpb__PutRequest *put = op->request_put;
    size_t at = find_key(peer, put->key);
    if (at == peer->len) {
        KP_ASSERT(peer->len < KEYS_MAX);
        peer->len++;
    }
    struct key *key = &peer->keys[at];
    snprintf(key->name, sizeof(key->name), "%.*s", (int)put->key.len, (const char *)put->key.data);
    snprintf(key->value, sizeof(key->value), "%.*s", (int)put->value.len, (const char *)put->value.data);
    key->revision = peer->revision;
    key->lease = put->lease;
}

static int on_txn(struct grpc_context *context, const void *request, void *response, struct kp_error *error)
{
    struct peer *peer = context->server_arg;
    const Etcdserverpb__TxnRequest *txn = request;
    Etcdserverpb__TxnResponse *out = response;
    int status = 0;
    pthread_mutex_lock(&peer->mutex);
    if (!refused(peer, &status, error)) {
        out->succeeded = true;
        for (size_t i = 0; i < txn->n_compare; i++) {
            size_t at = find_key(peer, txn->compare[i]->key);
            out->succeeded = out->succeeded && (at < peer->len ? peer->keys[at].revision : 0) == txn->compare[i]->mod_revision;
        }
        peer->revision += out->succeeded;
        for (size_t i = 0; out->succeeded && i < txn->n_success; i++)
            apply_op(peer, txn->success[i]);
        out->responses = KP_NEW_ARRAY(context->arena, Etcdserverpb__ResponseOp *, txn->n_failure + 1);
        for (size_t i = 0; !out->succeeded && i < txn->n_failure; i++) {
            Etcdserverpb__ResponseOp *op = (Etcdserverpb__ResponseOp *)grpc_message_new(&etcdserverpb__response_op__descriptor, context->arena);
            op->response_case = ETCDSERVERPB__RESPONSE_OP__RESPONSE_RESPONSE_RANGE;
            op->response_range = (Etcdserverpb__RangeResponse *)grpc_message_new(&etcdserverpb__range_response__descriptor, context->arena);
            do_range(peer, context->arena, txn->failure[i]->request_range, op->response_range);
            out->responses[out->n_responses++] = op;
        }
        out->header = (Etcdserverpb__ResponseHeader *)grpc_message_new(&etcdserverpb__response_header__descriptor, context->arena);
        out->header->revision = peer->revision;
    }
    pthread_mutex_unlock(&peer->mutex);
    return status;
}

static int on_lease(struct grpc_context *context, const void *request, void *response, struct kp_error *error)
{
    struct peer *peer = context->server_arg;
    (void)request;
    (void)error;
    pthread_mutex_lock(&peer->mutex);
    ((Etcdserverpb__LeaseGrantResponse *)response)->id = 100 + ++peer->leases;
    pthread_mutex_unlock(&peer->mutex);
    return 0;
}

static void on_watch_message(struct grpc_stream *stream, const void *message, void *arg)
{
    struct peer *peer = arg;
    const Etcdserverpb__WatchRequest *request = message;
    pthread_mutex_lock(&peer->mutex);
    if (request->request_union_case == ETCDSERVERPB__WATCH_REQUEST__REQUEST_UNION_CREATE_REQUEST) {
        Etcdserverpb__WatchResponse created = ETCDSERVERPB__WATCH_RESPONSE__INIT;
        created.created = true;
        peer->watch_from = request->create_request->start_revision;
        peer->watch = grpc_stream_ref(stream);
        grpc_stream_send(stream, &created.base);
    } else {
        peer->progress_asked++;
    }
    pthread_mutex_unlock(&peer->mutex);
}

static void on_watch_close(struct grpc_stream *stream, void *arg)
{
    (void)stream;
    (void)arg;
}

static int on_watch(struct grpc_context *context, struct grpc_stream *stream, struct kp_error *error)
{
    static const struct grpc_stream_callbacks callbacks = {.on_message = on_watch_message, .on_close = on_watch_close};
    (void)error;
    grpc_stream_set_callbacks(stream, &callbacks, context->server_arg);
    return 0;
}

static const struct grpc_method methods[] = {
    {"/etcdserverpb.KV/Range", GRPC_UNARY, &etcdserverpb__range_request__descriptor, &etcdserverpb__range_response__descriptor, .unary = on_range},
    {"/etcdserverpb.KV/Txn", GRPC_UNARY, &etcdserverpb__txn_request__descriptor, &etcdserverpb__txn_response__descriptor, .unary = on_txn},
    {"/etcdserverpb.Lease/LeaseGrant", GRPC_UNARY, &etcdserverpb__lease_grant_request__descriptor, &etcdserverpb__lease_grant_response__descriptor,
     .unary = on_lease},
    {"/etcdserverpb.Watch/Watch", GRPC_BIDI, &etcdserverpb__watch_request__descriptor, &etcdserverpb__watch_response__descriptor, .open = on_watch},
    {.path = NULL}};
static const struct grpc_method *const tables[] = {methods, NULL};

/* ---- fixture ------------------------------------------------------------------------------------------------------------ */
static int set_up(void **state)
{
    struct fixture *f = kp_calloc(1, sizeof(*f));
    struct kp_error error = {0};
    pthread_mutex_init(&f->peer.mutex, NULL);
    pthread_mutex_init(&f->seen.mutex, NULL);
    f->peer.revision = 1;
    f->arena = kp_arena_new(0);
    f->loop = loop_new();
    assert_int_equal(loop_start(f->loop, "test", &error), 0);
    f->pool = pool_new("test", 2, 100);
    struct grpc_server_config config = {.http = {.host = "127.0.0.1", .pool = f->pool}, .methods = tables, .arg = &f->peer};
    assert_int_equal(grpc_server_new(f->loop, &config, &f->server, &error), 0);
    KP_AUTO_FREE char *endpoint = kp_asprintf("http://127.0.0.1:%u", grpc_server_port(f->server));
    struct store_config store = {.endpoints = endpoint};
    assert_int_equal(store_new(f->loop, &store, &f->store, &error), 0);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    grpc_stream_unref(f->peer.watch);
    store_free(f->store);
    grpc_server_free(f->server);
    pool_free(f->pool);
    loop_free(f->loop);
    kp_arena_free(f->arena);
    free(f);
    return 0;
}

static int64_t put(struct fixture *f, const char *key, const char *value, int64_t expect)
{
    struct store_op op = {.key = key, .expect = expect, .value = value, .len = strlen(value)};
    struct kp_error error = {0};
    int64_t revision = 0;
    int code = store_commit(f->store, &op, 1, f->arena, &revision, NULL, &error);
    return code < 0 ? code : revision;
}

/* ---- tests --------------------------------------------------------------------------------------------------------------- */
static void a_key_is_written_once_and_read_back(void **state)
{
    struct fixture *f = *state;
    struct kp_error error = {0};
    struct store_kv kv;
    int64_t revision;
    assert_int_equal(put(f, "/registry/a", "one", 0), 2);
    assert_int_equal(put(f, "/registry/a", "two", 0), KP_ECONFLICT);
    assert_int_equal(put(f, "/registry/a", "two", 2), 3);
    assert_int_equal(store_get(f->store, "/registry/a", f->arena, &kv, &revision, &error), 0);
    assert_string_equal((const char *)kv.value.data, "two");
    assert_int_equal(kv.mod_revision, 3);
    assert_int_equal(revision, 3);
    assert_int_equal(store_get(f->store, "/registry/none", f->arena, &kv, &revision, &error), 0);
    assert_int_equal(kv.mod_revision, 0);
}

static void a_lost_transaction_writes_nothing_and_tells_what_is_there(void **state)
{
    struct fixture *f = *state;
    struct kp_error error = {0};
    struct store_kv current[3];
    int64_t revision;
    assert_int_equal(put(f, "/registry/taken", "x", 0), 2);
    const struct store_op ops[] = {{.key = "/registry/new", .value = "n", .len = 1},
                                   {.key = "/registry/taken", .value = "y", .len = 1},
                                   {.key = "/registry/any", .expect = STORE_ANY}};
    assert_int_equal(store_commit(f->store, ops, 3, f->arena, &revision, current, &error), KP_ECONFLICT);
    assert_int_equal(current[0].mod_revision, 0);
    assert_int_equal(current[1].mod_revision, 2);
    assert_string_equal((const char *)current[1].value.data, "x");
    struct store_kv kv;
    assert_int_equal(store_get(f->store, "/registry/new", f->arena, &kv, &revision, &error), 0);
    assert_int_equal(kv.mod_revision, 0);
}

static void a_range_comes_in_pages_and_a_compacted_one_is_expired(void **state)
{
    struct fixture *f = *state;
    struct kp_error error = {0};
    struct store_page page;
    put(f, "/registry/p/a", "1", 0);
    put(f, "/registry/p/b", "2", 0);
    put(f, "/registry/p/c", "3", 0);
    put(f, "/registry/q", "4", 0);
    const char *end = store_prefix_end("/registry/p/", f->arena);
    assert_string_equal(end, "/registry/p0");
    assert_int_equal(store_list(f->store, "/registry/p/", end, 2, 0, f->arena, &page, &error), 0);
    assert_int_equal(page.len, 2);
    assert_true(page.more);
    assert_int_equal(page.count, 3);
    assert_int_equal(page.revision, 5);
    f->peer.compacted = 4;
    assert_int_equal(store_list(f->store, "/registry/p/", end, 2, 3, f->arena, &page, &error), KP_EEXPIRED);
}

static void a_refused_call_keeps_the_reason(void **state)
{
    struct fixture *f = *state;
    struct kp_error error = {0};
    struct store_kv kv;
    int64_t revision;
    f->peer.refuse = GRPC_UNAVAILABLE;
    assert_int_equal(store_get(f->store, "/registry/a", f->arena, &kv, &revision, &error), KP_EUNAVAILABLE);
    assert_non_null(strstr(error.message, "refused by the test"));
    assert_non_null(strstr(error.message, "/registry/a"));
    f->peer.refuse = GRPC_UNAVAILABLE;
    assert_int_equal(put(f, "/registry/a", "x", 0), KP_EUNAVAILABLE);
    assert_int_equal(put(f, "/registry/a", "x", 0), 2);
}

static void leases_are_shared(void **state)
{
    struct fixture *f = *state;
    struct kp_error error = {0};
    int64_t first, second, other;
    assert_int_equal(store_lease(f->store, 3600, &first, &error), 0);
    assert_int_equal(store_lease(f->store, 3600, &second, &error), 0);
    assert_int_equal(store_lease(f->store, 10, &other, &error), 0);
    assert_int_equal(first, second);
    assert_int_not_equal(first, other);
}

/* ---- watches ------------------------------------------------------------------------------------------------------------- */
static void on_events(void *arg, const struct store_event *events, size_t count, int64_t revision)
{
    struct seen *seen = arg;
    pthread_mutex_lock(&seen->mutex);
    size_t len = strlen(seen->log);
    for (size_t i = 0; i < count; i++)
        len += (size_t)snprintf(seen->log + len, sizeof(seen->log) - len, "%s%s@%lld ", events[i].deleted ? "-" : "+", events[i].kv.key,
                                (long long)events[i].kv.mod_revision);
    seen->revision = revision;
    pthread_mutex_unlock(&seen->mutex);
}

static void on_watch_end(void *arg, const struct kp_error *error)
{
    struct seen *seen = arg;
    pthread_mutex_lock(&seen->mutex);
    seen->ended = error->code;
    pthread_mutex_unlock(&seen->mutex);
}

static const struct store_watch_callbacks watch_callbacks = {on_events, on_watch_end};

/* Waits for *value (under mutex) to become wanted. */
static bool becomes(pthread_mutex_t *mutex, const int64_t *value, int64_t wanted)
{
    for (int64_t until = kp_mono_ms() + WAIT_MS; kp_mono_ms() < until; kp_sleep_ms(1)) {
        pthread_mutex_lock(mutex);
        bool good = *value == wanted;
        pthread_mutex_unlock(mutex);
        if (good)
            return true;
    }
    return false;
}

static void send_watch(struct fixture *f, Etcdserverpb__WatchResponse *response)
{
    pthread_mutex_lock(&f->peer.mutex);
    grpc_stream_send(f->peer.watch, &response->base);
    pthread_mutex_unlock(&f->peer.mutex);
}

static void a_watch_tells_events_in_order_and_progress(void **state)
{
    struct fixture *f = *state;
    struct store_watch *watch = store_watch_start(f->store, "/registry/", 7, &watch_callbacks, &f->seen);
    assert_true(becomes(&f->peer.mutex, &f->peer.watch_from, 7));
    struct key a = {"/registry/a", "1", 8, 0}, b = {"/registry/b", "", 9, 0};
    Mvccpb__Event first = MVCCPB__EVENT__INIT, second = MVCCPB__EVENT__INIT, *events[] = {&first, &second};
    fill_kv(f->arena, &a, &first.kv);
    fill_kv(f->arena, &b, &second.kv);
    second.type = MVCCPB__EVENT__EVENT_TYPE__DELETE;
    Etcdserverpb__ResponseHeader header = ETCDSERVERPB__RESPONSE_HEADER__INIT;
    Etcdserverpb__WatchResponse response = ETCDSERVERPB__WATCH_RESPONSE__INIT;
    header.revision = 11; /* ahead of what is told: it must not count yet */
    response.header = &header;
    response.events = events;
    response.n_events = 2;
    send_watch(f, &response);
    assert_true(becomes(&f->seen.mutex, &f->seen.revision, 9));
    assert_string_equal(f->seen.log, "+/registry/a@8 -/registry/b@9 ");
    store_watch_progress(watch);
    int64_t asked = 0;
    for (int64_t until = kp_mono_ms() + WAIT_MS; !asked && kp_mono_ms() < until; kp_sleep_ms(1)) {
        pthread_mutex_lock(&f->peer.mutex);
        asked = f->peer.progress_asked;
        pthread_mutex_unlock(&f->peer.mutex);
    }
    assert_int_equal(asked, 1);
    response.n_events = 0;
    send_watch(f, &response);
    assert_true(becomes(&f->seen.mutex, &f->seen.revision, 11));
    store_watch_free(watch);
    assert_int_equal(f->seen.ended, 0); /* who frees it is not told */
}

static void a_watch_from_a_compacted_revision_ends_as_expired(void **state)
{
    struct fixture *f = *state;
    struct store_watch *watch = store_watch_start(f->store, "/registry/", 2, &watch_callbacks, &f->seen);
    assert_true(becomes(&f->peer.mutex, &f->peer.watch_from, 2));
    Etcdserverpb__WatchResponse response = ETCDSERVERPB__WATCH_RESPONSE__INIT;
    response.canceled = true;
    response.compact_revision = 5;
    send_watch(f, &response);
    int ended = 0;
    for (int64_t until = kp_mono_ms() + WAIT_MS; !ended && kp_mono_ms() < until; kp_sleep_ms(1)) {
        pthread_mutex_lock(&f->seen.mutex);
        ended = f->seen.ended;
        pthread_mutex_unlock(&f->seen.mutex);
    }
    assert_int_equal(ended, KP_EEXPIRED);
    store_watch_free(watch);
}

static void no_endpoint_is_refused(void **state)
{
    struct fixture *f = *state;
    struct kp_error error = {0};
    struct store_config config = {.endpoints = ""};
    struct store *store = NULL;
    assert_int_equal(store_new(f->loop, &config, &store, &error), KP_EUSAGE);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {TEST(a_key_is_written_once_and_read_back),
                                       TEST(a_lost_transaction_writes_nothing_and_tells_what_is_there),
                                       TEST(a_range_comes_in_pages_and_a_compacted_one_is_expired),
                                       TEST(a_refused_call_keeps_the_reason),
                                       TEST(leases_are_shared),
                                       TEST(a_watch_tells_events_in_order_and_progress),
                                       TEST(a_watch_from_a_compacted_revision_ends_as_expired),
                                       TEST(no_endpoint_is_refused)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
