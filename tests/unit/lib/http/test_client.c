/* The client against our own server: HTTP/1.1 and HTTP/2, clear and TLS, streams, failover, cancel, upgrade. */
#include <pthread.h>
#include <stdatomic.h>

#include "http_test.h"
#include "lib/tls/tls.h"

struct pki {
    struct tls_context *server, *client;
};

static void pki_make(struct pki *pki)
{
    struct tls_key *ca_key, *key;
    struct tls_cert *ca, *cert;
    const char *const dns[] = { "localhost", NULL }, *const ips[] = { "127.0.0.1", NULL }, *const orgs[] = { "system:masters", NULL };
    struct tls_cert_options ca_options = { .subject.common_name = "ca" };
    struct tls_cert_options options = { .subject = { "alice", orgs, dns, ips }, .usages = TLS_USAGE_SERVER | TLS_USAGE_CLIENT };
    assert_int_equal(tls_key_generate(TLS_KEY_ECDSA_P256, &ca_key, NULL), 0);
    assert_int_equal(tls_key_generate(TLS_KEY_ECDSA_P256, &key, NULL), 0);
    assert_int_equal(tls_cert_create_ca(ca_key, &ca_options, &ca, NULL), 0);
    assert_int_equal(tls_cert_create(key, &options, ca, ca_key, &cert, NULL), 0);
    struct kp_buf ca_pem = { 0 }, cert_pem = { 0 }, key_pem = { 0 };
    tls_cert_to_pem(ca, &ca_pem);
    tls_cert_to_pem(cert, &cert_pem);
    assert_int_equal(tls_key_to_pem(key, &key_pem, NULL), 0);
    const char *const alpn[] = { "h2", "http/1.1", NULL };
    struct tls_context_config config = { .server = true, .cert_pem = cert_pem.data, .key_pem = key_pem.data, .ca_pem = ca_pem.data,
                                         .client_cert = TLS_CLIENT_CERT_REQUEST, .alpn = alpn };
    assert_int_equal(tls_context_new(&config, &pki->server, NULL), 0);
    config.server = false;
    assert_int_equal(tls_context_new(&config, &pki->client, NULL), 0);
    kp_buf_done(&ca_pem);
    kp_buf_done(&cert_pem);
    kp_buf_done(&key_pem);
    tls_cert_unref(ca);
    tls_cert_unref(cert);
    tls_key_unref(ca_key);
    tls_key_unref(key);
}

enum flavour { CLEAR_H1, CLEAR_H2, TLS_H1, TLS_H2, FLAVOURS };

struct rig {
    struct pki pki;
    struct fixture *f;
    struct http_client *client;
    enum flavour flavour;
};

static struct rig *rig_new(enum flavour flavour, const struct http_server_config *base)
{
    struct rig *rig = kp_calloc(1, sizeof(*rig));
    bool tls = flavour == TLS_H1 || flavour == TLS_H2;
    struct http_server_config server = base ? *base : (struct http_server_config){ 0 };
    struct kp_error error = { 0 };
    rig->flavour = flavour;
    if (tls)
        pki_make(&rig->pki);
    server.tls = rig->pki.server;
    rig->f = fixture_new(&server);
    char url[64];
    snprintf(url, sizeof(url), "%s://127.0.0.1:%u", tls ? "https" : "http", http_server_port(rig->f->server));
    const char *endpoints[] = { url };
    struct http_client_config config = { .endpoints = endpoints, .endpoint_count = 1, .tls = rig->pki.client,
                                         .protocol = flavour == CLEAR_H2 ? HTTP_CLIENT_H2 : flavour == TLS_H1 ? HTTP_CLIENT_H1 : HTTP_CLIENT_AUTO };
    if (http_client_new(rig->f->loop, &config, &rig->client, &error) < 0)
        fail_msg("%s", error.message);
    return rig;
}

static void rig_free(struct rig *rig)
{
    http_client_free(rig->client);
    fixture_free(rig->f);
    tls_context_unref(rig->pki.server);
    tls_context_unref(rig->pki.client);
    free(rig);
}

static int get(struct http_client *client, const char *path, struct kp_arena *arena, struct http_response *response)
{
    struct kp_error error = { 0 };
    struct http_client_request request = { .method = "GET", .path = path };
    int code = http_client_do(client, &request, arena, response, &error);
    if (code < 0)
        print_message("%s: %s\n", path, error.message);
    return code;
}

static void gets_and_posts_over_every_protocol(void **state)
{
    (void)state;
    for (enum flavour flavour = 0; flavour < FLAVOURS; flavour++) {
        struct rig *rig = rig_new(flavour, NULL);
        KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
        struct http_response response;
        for (int i = 0; i < 3; i++) {
            assert_int_equal(get(rig->client, "/hello", arena, &response), 0);
            assert_int_equal(response.status, 200);
            assert_int_equal(response.version, flavour == CLEAR_H2 || flavour == TLS_H2 ? HTTP_2 : HTTP_1_1);
            assert_string_equal((const char *)response.body.data, "{\"hello\":1}");
            assert_string_equal(http_response_header(&response, "Content-Type"), "application/json");
        }
        struct http_client_request post = { .method = "POST", .path = "/echo", .body = "body", .body_len = 4 };
        assert_int_equal(http_client_do(rig->client, &post, arena, &response, NULL), 0);
        assert_string_equal((const char *)response.body.data, "body");
        assert_int_equal(get(rig->client, "/nothing", arena, &response), 0);
        assert_int_equal(response.status, 404);
        assert_int_equal(get(rig->client, "/who", arena, &response), 0);
        assert_string_equal((const char *)response.body.data, flavour >= TLS_H1 ? "alice" : "nobody");
        assert_int_equal(http_server_connections(rig->f->server), 1); /* kept alive throughout */
        rig_free(rig);
    }
}

static void big_bodies_cross_with_flow_control(void **state)
{
    (void)state;
    for (enum flavour flavour = 0; flavour < FLAVOURS; flavour++) {
        struct http_server_config server = { .body_bytes_max = 20 << 20 };
        struct rig *rig = rig_new(flavour, &server);
        KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
        struct http_response response;
        assert_int_equal(get(rig->client, "/big?n=9000000", arena, &response), 0);
        assert_int_equal(response.body.len, 9000000);
        for (size_t i = 0; i < response.body.len; i += 1001)
            assert_int_equal(response.body.data[i], (uint8_t)(i * 7 >> 3));
        struct http_client_request post = { .method = "POST", .path = "/echo", .body = response.body.data, .body_len = response.body.len };
        struct http_response echo;
        assert_int_equal(http_client_do(rig->client, &post, arena, &echo, NULL), 0);
        assert_int_equal(echo.body.len, 9000000);
        assert_memory_equal(echo.body.data, response.body.data, echo.body.len);
        rig_free(rig);
    }
}

static void a_body_over_the_limit_is_answered_before_it_is_sent(void **state)
{
    (void)state;
    for (enum flavour flavour = 0; flavour < FLAVOURS; flavour++) {
        struct rig *rig = rig_new(flavour, NULL);
        KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
        struct http_response response;
        struct kp_error error = { 0 };
        char *body = kp_calloc(1, 8 << 20);
        struct http_client_request post = { .method = "POST", .path = "/echo", .body = body, .body_len = 8 << 20 };
        if (http_client_do(rig->client, &post, arena, &response, &error) < 0)
            fail_msg("flavour %d: %s", flavour, error.message);
        assert_int_equal(response.status, 413);
        assert_int_equal(get(rig->client, "/hello", arena, &response), 0);
        assert_int_equal(response.status, 200);
        free(body);
        rig_free(rig);
    }
}

struct worker {
    struct http_client *client;
    pthread_t thread;
    int ok;
};

static void *worker_main(void *arg)
{
    struct worker *worker = arg;
    for (int i = 0; i < 10; i++) {
        KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
        struct http_response response;
        struct http_client_request request = { .method = "GET", .path = i % 2 ? "/hello" : "/sleep?ms=1" };
        worker->ok += http_client_do(worker->client, &request, arena, &response, NULL) == 0 && response.status == 200;
    }
    return NULL;
}

static void many_threads_share_a_client(void **state)
{
    (void)state;
    for (enum flavour flavour = 0; flavour < FLAVOURS; flavour++) {
        struct rig *rig = rig_new(flavour, NULL);
        struct worker workers[16];
        for (size_t i = 0; i < KP_ARRAY_LEN(workers); i++) {
            workers[i] = (struct worker){ .client = rig->client };
            pthread_create(&workers[i].thread, NULL, worker_main, &workers[i]);
        }
        for (size_t i = 0; i < KP_ARRAY_LEN(workers); i++) {
            pthread_join(workers[i].thread, NULL);
            assert_int_equal(workers[i].ok, 10);
        }
        if (flavour == CLEAR_H2 || flavour == TLS_H2)
            assert_int_equal(http_server_connections(rig->f->server), 1);
        rig_free(rig);
    }
}

struct watcher {
    _Atomic int status, ended, code, data_len, trailers, drained;
    char data[256];
};

static void watch_headers(struct http_call *call, int status, const struct http_header *headers, size_t count, void *arg)
{
    struct watcher *w = arg;
    (void)call;
    (void)headers;
    (void)count;
    w->status = status;
}

static void watch_data(struct http_call *call, const uint8_t *data, size_t len, void *arg)
{
    struct watcher *w = arg;
    (void)call;
    if ((size_t)w->data_len + len < sizeof(w->data))
        memcpy(w->data + w->data_len, data, len);
    w->data_len += (int)len;
}

static void watch_trailers(struct http_call *call, const struct http_header *trailers, size_t count, void *arg)
{
    struct watcher *w = arg;
    (void)call;
    w->trailers += count == 1 && kp_streq(trailers[0].name, "grpc-status") && kp_streq(trailers[0].value, "0");
}

static void watch_drain(struct http_call *call, void *arg)
{
    struct watcher *w = arg;
    (void)call;
    w->drained++;
}

static void watch_end(struct http_call *call, const struct kp_error *error, void *arg)
{
    struct watcher *w = arg;
    (void)call;
    w->code = error ? error->code : 0;
    w->ended++;
}

static const struct http_call_callbacks watch_callbacks = { watch_headers, watch_data, watch_trailers, watch_drain, watch_end };

static void a_hundred_watches_stream_at_once(void **state)
{
    (void)state;
    for (enum flavour flavour = CLEAR_H2; flavour < FLAVOURS; flavour += 2) {
        struct rig *rig = rig_new(flavour, NULL);
        struct watcher *w = kp_calloc(100, sizeof(*w));
        struct http_call *calls[100];
        struct http_client_request request = { .method = "POST", .path = "/stream", .body_follows = true };
        for (int i = 0; i < 100; i++)
            calls[i] = http_client_stream(rig->client, &request, &watch_callbacks, &w[i]);
        for (int i = 0; i < 100; i++) {
            WAIT_FOR(w[i].status == 200);
            KP_AUTO(kp_blob_unref) struct kp_blob *blob = kp_blob_new("ping", 4);
            assert_int_equal(http_call_send(calls[i], blob), 0);
        }
        for (int i = 0; i < 100; i++) {
            WAIT_FOR(w[i].data_len == 4 && w[i].drained == 1);
            assert_int_equal(w[i].ended, 0);
            http_call_send_end(calls[i]);
        }
        for (int i = 0; i < 100; i++) {
            WAIT_FOR(w[i].ended == 1);
            assert_int_equal(w[i].code, 0);
            assert_int_equal(w[i].trailers, 1);
            http_call_unref(calls[i]);
        }
        assert_int_equal(http_server_connections(rig->f->server), 1);
        rig_free(rig);
        free(w);
    }
}

static void *shut_down(void *arg)
{
    http_server_shutdown(arg, 2000);
    return NULL;
}

/* The last stream after a GOAWAY: breaking it off ends the connection, in the middle of the call's own end. */
static void a_call_that_is_cancelled_on_a_connection_that_ends_ends_once(void **state)
{
    (void)state;
    struct rig *rig = rig_new(CLEAR_H2, NULL);
    struct watcher w = { 0 }, other = { 0 };
    struct http_client_request request = { .method = "POST", .path = "/stream", .body_follows = true };
    pthread_t thread;
    struct http_call *call = http_client_stream(rig->client, &request, &watch_callbacks, &w);
    WAIT_FOR(w.status == 200);
    assert_int_equal(pthread_create(&thread, NULL, shut_down, rig->f->server), 0);
    kp_sleep_ms(100); /* the GOAWAY is here */
    http_call_cancel(call);
    WAIT_FOR(w.ended);
    pthread_join(thread, NULL);
    assert_int_equal(w.ended, 1);
    assert_int_equal(w.code, KP_ECANCELLED);
    http_call_unref(call);
    call = http_client_stream(rig->client, &request, &watch_callbacks, &other); /* and the client goes on: nobody listens */
    WAIT_FOR(other.ended);
    assert_int_equal(other.code, KP_EUNAVAILABLE);
    http_call_unref(call);
    assert_int_equal(w.ended, 1);
    rig_free(rig);
}

static void more_streams_than_the_server_allows_open_a_second_connection(void **state)
{
    (void)state;
    struct http_server_config server = { .streams_per_connection_max = 3 };
    struct rig *rig = rig_new(CLEAR_H2, &server);
    struct watcher w[8] = { 0 };
    struct http_call *calls[8];
    struct http_client_request request = { .method = "POST", .path = "/stream", .body_follows = true };
    for (int i = 0; i < 8; i++)
        calls[i] = http_client_stream(rig->client, &request, &watch_callbacks, &w[i]);
    for (int i = 0; i < 8; i++)
        WAIT_FOR(w[i].status == 200);
    for (int i = 0; i < 8; i++) {
        http_call_cancel(calls[i]);
        WAIT_FOR(w[i].ended == 1);
        assert_int_equal(w[i].code, KP_ECANCELLED);
        http_call_unref(calls[i]);
    }
    WAIT_FOR(rig->f->aborted == 8);
    rig_free(rig);
}

/* What slice number i of the next test holds, small ones and large ones in turn. */
static struct http_slice slice_of(struct kp_blob *small, struct kp_blob *large, int i)
{
    if (i % 2)
        return (struct http_slice){ .blob = large, .offset = (size_t)(i * 37 % 5000), .len = large->len / 2 + (size_t)(i * 11 % 900) };
    return (struct http_slice){ .blob = small, .offset = (size_t)(i % 40), .len = 1 + (size_t)(i % 50) };
}

struct compared {
    struct watcher base;
    struct kp_blob *small, *large;
    int slice;
    size_t at; /* in the slice */
    bool differs;
};

static void compare_data(struct http_call *call, const uint8_t *data, size_t len, void *arg)
{
    struct compared *c = arg;
    for (size_t i = 0; i < len; i++) {
        struct http_slice slice = slice_of(c->small, c->large, c->slice);
        c->differs |= data[i] != slice.blob->data[slice.offset + c->at];
        if (++c->at == slice.len) {
            c->at = 0;
            c->slice++;
        }
    }
    watch_data(call, data, len, &c->base);
}

static void slices_of_shared_blobs_arrive_in_order(void **state)
{
    (void)state;
    static const struct http_call_callbacks callbacks = { .on_headers = watch_headers, .on_data = compare_data, .on_end = watch_end };
    enum { SLICES = 300, BATCH = 25 };
    for (enum flavour flavour = 0; flavour < FLAVOURS; flavour++) {
        struct http_server_config server = { .stream_queued_max = 64 << 20 };
        struct rig *rig = rig_new(flavour, &server);
        struct compared c = { .small = kp_blob_new(NULL, 100), .large = kp_blob_new(NULL, 40000) };
        for (size_t i = 0; i < c.large->len; i++)
            c.large->data[i] = (uint8_t)(i * 31 >> 4);
        for (size_t i = 0; i < c.small->len; i++)
            c.small->data[i] = (uint8_t)(i + 100);
        struct http_client_request request = { .method = "GET", .path = "/watch" };
        struct http_call *call = http_client_stream(rig->client, &request, &callbacks, &c);
        WAIT_FOR(c.base.status == 200 && rig->f->watch);
        size_t total = 0;
        for (int i = 0; i < SLICES; i += BATCH) {
            struct http_slice slices[BATCH];
            for (int k = 0; k < BATCH; k++) {
                slices[k] = slice_of(c.small, c.large, i + k);
                total += slices[k].len;
            }
            assert_int_equal(http_stream_write_slices(rig->f->watch, slices, BATCH), 0);
        }
        WAIT_FOR((size_t)c.base.data_len == total);
        assert_false(c.differs);
        assert_int_equal(c.slice, SLICES);
        http_call_cancel(call);
        WAIT_FOR(c.base.ended == 1);
        http_call_unref(call);
        rig_free(rig);
        assert_int_equal(c.large->refs, 1);
        kp_blob_unref(c.small);
        kp_blob_unref(c.large);
    }
}

static void cancelling_a_watch_tells_the_server(void **state)
{
    (void)state;
    for (enum flavour flavour = 0; flavour < FLAVOURS; flavour++) {
        struct rig *rig = rig_new(flavour, NULL);
        struct watcher w = { 0 };
        struct http_client_request request = { .method = "GET", .path = "/watch", .cancel = http_cancel_new() };
        struct http_call *call = http_client_stream(rig->client, &request, &watch_callbacks, &w);
        WAIT_FOR(w.status == 200 && rig->f->watch);
        KP_AUTO(kp_blob_unref) struct kp_blob *blob = kp_blob_new("event", 5);
        assert_int_equal(http_stream_write(rig->f->watch, blob), 0);
        WAIT_FOR(w.data_len == 5);
        http_cancel_fire(request.cancel);
        WAIT_FOR(w.ended == 1 && rig->f->watch_closed == 1);
        assert_int_equal(w.code, KP_ECANCELLED);
        http_call_unref(call);
        http_cancel_unref(request.cancel);
        rig_free(rig);
    }
}

static void unread_bytes_stop_the_server_until_they_are_consumed(void **state)
{
    (void)state;
    for (enum flavour flavour = 0; flavour < FLAVOURS; flavour++) {
        struct rig *rig = rig_new(flavour, NULL);
        struct watcher w = { 0 };
        struct http_client_request request = { .method = "GET", .path = "/big?n=20000000", .manual_flow = true };
        struct http_call *call = http_client_stream(rig->client, &request, &watch_callbacks, &w);
        WAIT_FOR(w.data_len > 200000);
        kp_sleep_ms(100);
        assert_true(w.data_len < 1000000 && w.ended == 0);
        int given = 0;
        while (!w.ended) {
            int have = w.data_len;
            http_call_consumed(call, (size_t)(have - given));
            given = have;
            kp_sleep_ms(1);
        }
        assert_int_equal(w.data_len, 20000000);
        http_call_unref(call);
        rig_free(rig);
    }
}

static void a_deadline_ends_a_call(void **state)
{
    (void)state;
    for (enum flavour flavour = 0; flavour < FLAVOURS; flavour++) {
        struct rig *rig = rig_new(flavour, NULL);
        KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
        struct http_response response;
        struct http_client_request request = { .method = "GET", .path = "/sleep?ms=300", .timeout_ms = 50 };
        assert_int_equal(http_client_do(rig->client, &request, arena, &response, NULL), KP_ETIMEOUT);
        request.path = "/hello";
        request.timeout_ms = 5000;
        assert_int_equal(http_client_do(rig->client, &request, arena, &response, NULL), 0);
        rig_free(rig);
    }
}

static void a_dead_endpoint_is_passed_over(void **state)
{
    (void)state;
    struct fixture *a = fixture_new(NULL), *b = fixture_new(NULL);
    char first[64], second[64];
    snprintf(first, sizeof(first), "http://127.0.0.1:%u", http_server_port(a->server));
    snprintf(second, sizeof(second), "http://localhost:%u", http_server_port(b->server));
    const char *endpoints[] = { first, second };
    for (int h2 = 0; h2 < 2; h2++) {
        struct http_client_config config = { .endpoints = endpoints, .endpoint_count = 2, .protocol = h2 ? HTTP_CLIENT_H2 : HTTP_CLIENT_AUTO };
        struct http_client *client;
        KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
        struct http_response response;
        assert_int_equal(http_client_new(b->loop, &config, &client, NULL), 0);
        assert_int_equal(get(client, "/hello", arena, &response), 0);
        if (a->server && !h2) {
            http_server_free(a->server);
            a->server = NULL;
        }
        for (int i = 0; i < 3; i++) {
            assert_int_equal(get(client, "/hello", arena, &response), 0);
            assert_int_equal(response.status, 200);
        }
        http_client_free(client);
    }
    const char *nobody[] = { first };
    struct http_client_config config = { .endpoints = nobody, .endpoint_count = 1 };
    struct http_client *client;
    struct http_response response;
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    assert_int_equal(http_client_new(b->loop, &config, &client, NULL), 0);
    struct http_client_request request = { .method = "GET", .path = "/hello" };
    assert_int_equal(http_client_do(client, &request, arena, &response, NULL), KP_EUNAVAILABLE);
    http_client_free(client);
    fixture_free(a);
    fixture_free(b);
}

static void a_certificate_of_a_stranger_is_refused(void **state)
{
    (void)state;
    struct rig *rig = rig_new(TLS_H2, NULL);
    struct pki other;
    pki_make(&other);
    http_client_set_tls(rig->client, other.client);
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    struct http_response response;
    struct http_client_request request = { .method = "GET", .path = "/hello" };
    assert_int_equal(http_client_do(rig->client, &request, arena, &response, NULL), KP_EUNAUTHORIZED);
    rig_free(rig);
    tls_context_unref(other.server);
    tls_context_unref(other.client);
}

static void a_unix_socket_speaks_h2_by_prior_knowledge(void **state)
{
    (void)state;
    char folder[] = "/tmp/http-XXXXXX", path[64], url[80];
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof(path), "%s/s", folder);
    snprintf(url, sizeof(url), "unix:%s", path);
    struct http_server_config server = { .unix_path = path };
    struct fixture *f = fixture_new(&server);
    const char *endpoints[] = { url };
    for (int h2 = 0; h2 < 2; h2++) {
        struct http_client_config config = { .endpoints = endpoints, .endpoint_count = 1, .protocol = h2 ? HTTP_CLIENT_H2 : HTTP_CLIENT_AUTO };
        struct http_client *client;
        KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
        struct http_response response;
        assert_int_equal(http_client_new(f->loop, &config, &client, NULL), 0);
        assert_int_equal(get(client, "/hello", arena, &response), 0);
        assert_int_equal(response.version, h2 ? HTTP_2 : HTTP_1_1);
        /* Some clients name the socket's path as the authority. */
        const struct http_header odd[] = { { "host", path } };
        struct http_client_request request = { .method = "GET", .path = "/hello", .headers = odd, .header_count = 1 };
        assert_int_equal(http_client_do(client, &request, arena, &response, NULL), 0);
        assert_int_equal(response.status, 200);
        http_client_free(client);
    }
    fixture_free(f);
    assert_false(kp_path_exists(path));
    rmdir(folder);
}

static void too_large_a_response_is_refused(void **state)
{
    (void)state;
    for (int chunked = 0; chunked < 2; chunked++) {
        struct rig *rig = rig_new(CLEAR_H2, NULL);
        KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(1 << 20);
        struct http_response response;
        struct http_client_request request = { .method = "GET", .path = "/big?n=2000000" };
        assert_int_equal(http_client_do(rig->client, &request, arena, &response, NULL), KP_ETOOLARGE);
        rig_free(rig);
    }
}

static void restart_of_the_server_is_survived_by_kept_connections(void **state)
{
    (void)state;
    for (enum flavour flavour = 0; flavour <= CLEAR_H2; flavour++) {
        struct rig *rig = rig_new(flavour, NULL);
        KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
        struct http_response response;
        struct kp_error error = { 0 };
        assert_int_equal(get(rig->client, "/hello", arena, &response), 0);
        uint16_t port = http_server_port(rig->f->server);
        http_server_shutdown(rig->f->server, 1000);
        http_server_free(rig->f->server);
        struct http_server_config config = { .host = "127.0.0.1", .port = port, .pool = rig->f->pool, .handler = test_handler, .arg = rig->f };
        if (http_server_new(rig->f->loop, &config, &rig->f->server, &error) < 0)
            fail_msg("%s", error.message);
        assert_int_equal(get(rig->client, "/hello", arena, &response), 0);
        rig_free(rig);
    }
}

/* A server that ends a kept-alive connection when the second request is already on its way. */
struct forgetful {
    int listener;
    int connections;
};

static void read_request(int fd)
{
    char buf[4096];
    size_t len = 0;
    while (len < 4 || memcmp(buf + len - 4, "\r\n\r\n", 4) != 0) {
        ssize_t count = read(fd, buf + len, sizeof(buf) - len);
        if (count <= 0)
            return;
        len += (size_t)count;
    }
}

static void *run_forgetful(void *arg)
{
    static const char answer[] = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    struct forgetful *server = arg;
    int fd;
    while ((fd = accept(server->listener, NULL, NULL)) >= 0) {
        server->connections++;
        read_request(fd);
        ssize_t count = write(fd, answer, sizeof(answer) - 1);
        if (count > 0)
            read_request(fd);
        close(fd);
    }
    return NULL;
}

static void a_kept_connection_that_ends_under_a_request_is_replaced(void **state)
{
    (void)state;
    struct fixture *f = fixture_new(NULL);
    struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t len = sizeof(address);
    struct forgetful server = { .listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0) };
    assert_int_equal(bind(server.listener, (struct sockaddr *)&address, len), 0);
    assert_int_equal(listen(server.listener, 8), 0);
    assert_int_equal(getsockname(server.listener, (struct sockaddr *)&address, &len), 0);
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, run_forgetful, &server), 0);
    char url[64];
    snprintf(url, sizeof(url), "http://127.0.0.1:%u", ntohs(address.sin_port));
    const char *endpoints[] = { url };
    struct http_client_config config = { .endpoints = endpoints, .endpoint_count = 1 };
    struct http_client *client;
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    struct http_response response;
    assert_int_equal(http_client_new(f->loop, &config, &client, NULL), 0);
    for (int i = 0; i < 3; i++)
        assert_int_equal(get(client, "/", arena, &response), 0);
    /* What the server may have acted on is not asked twice. */
    struct http_client_request post = { .method = "POST", .path = "/" };
    assert_int_equal(http_client_do(client, &post, arena, &response, NULL), KP_EIO);
    http_client_free(client);
    shutdown(server.listener, SHUT_RDWR);
    pthread_join(thread, NULL);
    close(server.listener);
    assert_int_equal(server.connections, 3);
    fixture_free(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gets_and_posts_over_every_protocol),
        cmocka_unit_test(big_bodies_cross_with_flow_control),
        cmocka_unit_test(a_body_over_the_limit_is_answered_before_it_is_sent),
        cmocka_unit_test(many_threads_share_a_client),
        cmocka_unit_test(a_hundred_watches_stream_at_once),
        cmocka_unit_test(a_call_that_is_cancelled_on_a_connection_that_ends_ends_once),
        cmocka_unit_test(more_streams_than_the_server_allows_open_a_second_connection),
        cmocka_unit_test(slices_of_shared_blobs_arrive_in_order),
        cmocka_unit_test(cancelling_a_watch_tells_the_server),
        cmocka_unit_test(unread_bytes_stop_the_server_until_they_are_consumed),
        cmocka_unit_test(a_deadline_ends_a_call),
        cmocka_unit_test(a_dead_endpoint_is_passed_over),
        cmocka_unit_test(a_certificate_of_a_stranger_is_refused),
        cmocka_unit_test(a_unix_socket_speaks_h2_by_prior_knowledge),
        cmocka_unit_test(too_large_a_response_is_refused),
        cmocka_unit_test(restart_of_the_server_is_survived_by_kept_connections),
        cmocka_unit_test(a_kept_connection_that_ends_under_a_request_is_replaced),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
