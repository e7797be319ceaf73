/* An API server in memory with its aggregator, and a server behind it that has a certificate of its own and wants to see ours. */
#ifndef AGGREGATOR_FIXTURE_TEST_H
#define AGGREGATOR_FIXTURE_TEST_H

#include "controlplane/apiserver/aggregator/aggregator_internal.h"
#include "controlplane/apiserver/http/http.h"
#include "lib/tls/tls.h"
#include "tests/unit/controlplane/apiserver/caches_memory_test.h"
#include "tests/unit/controlplane/apiserver/fake_store_test.h"

#include <unistd.h>

#define CHUNK ((size_t)64 << 10)

/* What the server behind does; written between requests only. */
struct behind {
    struct http_server *server;
    int status;            /* of the group version's path; 0: 200 */
    bool aggregated;       /* has aggregated discovery */
    const char *resources; /* of its APIResourceList */
    size_t bytes;          /* of /large */
    int asked;             /* atomic: requests for the group version's path */
    int aborted;           /* atomic: streams whose reader went */
};

struct fixture {
    struct loop *loop;
    struct store *store;
    struct wcache_set *caches;
    struct registry *registry;
    struct backends *backends;
    struct auth *auth;
    struct aggregator *aggregator;
    struct api_server *server;
    struct http_client *client;
    struct behind behind;
    struct pool *pool;
    struct tls_context *tls;
    struct kp_arena *arena;
    struct api_status status;
    const char *folder, *ca; /* PEM of the server behind, as base64 */
    int64_t now_ms;
};

/* ---- certificates ------------------------------------------------------------------------------------------------------------ */
struct issued {
    struct tls_key *key;
    struct tls_cert *cert;
};

static inline struct issued issue(const char *name, const char *dns, const struct issued *ca)
{
    struct issued made = {0};
    const char *const names[] = {dns, NULL};
    const struct tls_cert_options options = {.subject = {.common_name = name, .dns_names = dns ? names : NULL}, .usages = TLS_USAGE_SERVER | TLS_USAGE_CLIENT, .lifetime_s = 3600};
    assert_int_equal(tls_key_generate(TLS_KEY_ECDSA_P256, &made.key, NULL), 0);
    int code = ca ? tls_cert_create(made.key, &options, ca->cert, ca->key, &made.cert, NULL) : tls_cert_create_ca(made.key, &options, &made.cert, NULL);
    assert_int_equal(code, 0);
    return made;
}

static inline void issued_done(struct issued *issued)
{
    tls_key_unref(issued->key);
    tls_cert_unref(issued->cert);
}

static inline const char *cert_pem(struct fixture *f, const struct issued *issued)
{
    KP_AUTO_BUF struct kp_buf pem = {0};
    tls_cert_to_pem(issued->cert, &pem);
    return kp_arena_strdup(f->arena, pem.data);
}

static inline const char *in_folder(struct fixture *f, const char *name)
{
    return kp_arena_printf(f->arena, "%s/%s", f->folder, name);
}

static inline void make_certificates(struct fixture *f)
{
    static const char *const alpn[] = {"h2", "http/1.1", NULL};
    struct issued front_ca = issue("front-ca", NULL, NULL), front = issue("front-proxy-client", NULL, &front_ca);
    struct issued ca = issue("behind-ca", NULL, NULL), leaf = issue("behind", "things.default.svc", &ca);
    KP_AUTO_BUF struct kp_buf key = {0}, encoded = {0};
    const char *pem = cert_pem(f, &ca);
    assert_int_equal(tls_cert_store(front.cert, in_folder(f, "front.crt"), NULL), 0);
    assert_int_equal(tls_key_store(front.key, in_folder(f, "front.key"), NULL), 0);
    assert_int_equal(tls_cert_store(front_ca.cert, in_folder(f, "front-ca.crt"), NULL), 0);
    assert_int_equal(tls_key_to_pem(leaf.key, &key, NULL), 0);
    kp_base64_encode(&encoded, pem, strlen(pem));
    f->ca = kp_arena_strdup(f->arena, encoded.data);
    const struct tls_context_config config = {.server = true, .cert_pem = cert_pem(f, &leaf), .key_pem = key.data, .ca_pem = cert_pem(f, &front_ca), .client_cert = TLS_CLIENT_CERT_REQUIRE, .alpn = alpn};
    assert_int_equal(tls_context_new(&config, &f->tls, NULL), 0);
    issued_done(&front_ca);
    issued_done(&front);
    issued_done(&ca);
    issued_done(&leaf);
}

/* ---- the server behind -------------------------------------------------------------------------------------------------------- */
static inline void say(struct http_request *req, int status, const char *text)
{
    const struct http_header headers[] = {{"Content-Type", "application/json"}, {"Access-Control-Allow-Origin", "*"}};
    http_respond(req, status, headers, 2, text, strlen(text));
}

/* What came, one header a line. */
static inline void echo(struct http_request *req)
{
    KP_AUTO_BUF struct kp_buf out = {0};
    kp_buf_printf(&out, "%s %s?%s %zu by %s\n", req->method, req->raw_path, req->query, req->body.len, req->peer ? req->peer->common_name : "nobody");
    kp_buf_printf(&out, "host: %s\n", req->authority);
    for (size_t i = 0; i < req->header_count; i++)
        kp_buf_printf(&out, "%s: %s\n", req->headers[i].name, req->headers[i].value);
    http_respond(req, 200, NULL, 0, out.data, out.len);
}

static inline void on_gone(void *arg)
{
    struct behind *behind = arg;
    __atomic_add_fetch(&behind->aborted, 1, __ATOMIC_ACQ_REL);
}

/* Goes on until its reader leaves. */
static inline void stream(struct http_request *req, struct behind *behind)
{
    KP_AUTO(kp_blob_unref) struct kp_blob *first = kp_blob_new("first\n", 6);
    struct http_stream *out = http_stream_start(req, 200, NULL, 0);
    http_stream_set_close_callback(out, on_gone, behind);
    http_stream_write(out, first);
    while (!http_stream_closed(out))
        kp_sleep_ms(1);
    http_stream_unref(out);
}

static inline void large(struct http_request *req, struct behind *behind)
{
    KP_AUTO(kp_blob_unref) struct kp_blob *chunk = kp_blob_new(NULL, CHUNK);
    KP_AUTO(http_stream_unref) struct http_stream *out = http_stream_start(req, 200, NULL, 0);
    memset(chunk->data, 'x', CHUNK);
    for (size_t sent = 0; sent < behind->bytes && !http_stream_closed(out); sent += CHUNK) {
        while (http_stream_queued(out) > 4 * CHUNK && !http_stream_closed(out))
            kp_sleep_ms(1);
        http_stream_write(out, chunk);
    }
}

static inline void on_tunnel_data(struct http_tunnel *tunnel, const uint8_t *data, size_t len, void *arg) { http_tunnel_write(tunnel, data, len); }
static inline void on_tunnel_eof(struct http_tunnel *tunnel, void *arg) { http_tunnel_close(tunnel); }
static inline void on_tunnel_close(struct http_tunnel *tunnel, void *arg) {}

static inline void tunnel(struct http_request *req)
{
    static const struct http_tunnel_callbacks callbacks = {.on_data = on_tunnel_data, .on_eof = on_tunnel_eof, .on_close = on_tunnel_close};
    const struct http_header header = {"Upgrade", "echo"};
    KP_AUTO(http_tunnel_unref) struct http_tunnel *made = http_upgrade(req, &header, 1);
    assert_non_null(made);
    http_tunnel_start(made, &callbacks, NULL);
}

static inline void serve_documents(struct http_request *req, struct behind *behind)
{
    static const char discovery[] = "{\"kind\":\"APIGroupDiscoveryList\",\"items\":[{\"metadata\":{\"name\":\"things.test\"},\"versions\":[{\"version\":\"v1\","
                                    "\"resources\":[{\"resource\":\"modern\",\"scope\":\"Cluster\"}]}]}]}";
    if (strcmp(req->path, "/apis") == 0 && behind->aggregated)
        say(req, 200, discovery);
    else if (strcmp(req->path, "/openapi/v3") == 0)
        say(req, 200, "{\"paths\":{\"apis/things.test/v1\":{\"serverRelativeURL\":\"/openapi/v3/apis/things.test/v1?hash=7\"}}}");
    else
        say(req, 404, "{}");
}

static inline void serve_behind(struct http_request *req, void *arg)
{
    struct behind *behind = arg;
    const char *rest = req->path + KP_MIN(strlen(req->path), strlen("/apis/things.test/v1"));
    if (!kp_starts_with(req->path, "/apis/things.test/v1"))
        serve_documents(req, behind);
    else if (!*rest) {
        __atomic_add_fetch(&behind->asked, 1, __ATOMIC_ACQ_REL);
        say(req, behind->status ? behind->status : 200, behind->resources);
    } else if (strcmp(rest, "/watched") == 0)
        stream(req, behind);
    else if (strcmp(rest, "/large") == 0)
        large(req, behind);
    else if (strcmp(rest, "/tunnel") == 0)
        tunnel(req);
    else if (strcmp(rest, "/elsewhere") == 0) {
        const struct http_header header = {"Location", "https://elsewhere.test/"};
        http_respond(req, 302, &header, 1, NULL, 0);
    } else
        echo(req);
}

static inline void start_behind(struct fixture *f)
{
    const struct http_server_config config = {.host = "127.0.0.1", .tls = f->tls, .pool = f->pool, .handler = serve_behind, .arg = &f->behind};
    f->behind.resources = "{\"kind\":\"APIResourceList\",\"groupVersion\":\"things.test/v1\",\"resources\":[{\"name\":\"things\",\"singularName\":\"thing\","
                          "\"namespaced\":true,\"kind\":\"Thing\",\"verbs\":[\"get\",\"list\"],\"shortNames\":[\"tg\"]}]}";
    assert_int_equal(http_server_new(f->loop, &config, &f->behind.server, NULL), 0);
}

/* ---- the whole ------------------------------------------------------------------------------------------------------------------ */
static inline void start_server(struct fixture *f)
{
    const struct auth_config auth = {.caches = f->caches, .authorization_modes = "AlwaysAllow", .anonymous = true};
    struct kp_error error = {0};
    if (auth_new(&auth, &f->auth, &error) < 0)
        fail_msg("%s", error.message);
    const struct api_server_config config = {.loop = f->loop, .bind_address = "127.0.0.1", .registry = f->registry, .caches = f->caches, .auth = f->auth,
                                             .aggregator = f->aggregator, .backends = f->backends, .request_timeout_s = 60, .min_watch_timeout_s = 1800};
    if (api_server_new(&config, &f->server, &error) < 0)
        fail_msg("%s", error.message);
    const char *endpoint = kp_arena_printf(f->arena, "http://127.0.0.1:%u", api_server_port(f->server));
    const struct http_client_config client = {.endpoints = &endpoint, .endpoint_count = 1};
    assert_int_equal(http_client_new(f->loop, &client, &f->client, &error), 0);
}

static inline int set_up(void **state)
{
    struct fixture *f = kp_calloc(1, sizeof(*f));
    struct kp_error error = {0};
    char folder[] = "/tmp/aggregator-test-XXXXXX";
    size_t count;
    const struct wcache_kind *const *kinds = registry_cache_kinds(&count);
    f->arena = kp_arena_new((size_t)1 << 30);
    assert_non_null(mkdtemp(folder));
    f->folder = kp_arena_strdup(f->arena, folder);
    f->loop = loop_new();
    f->pool = pool_new("behind", 8, 100);
    assert_int_equal(loop_start(f->loop, "test", &error), 0);
    f->store = fake_store_new(f->loop);
    f->caches = wcache_set_new(f->loop, f->store, kinds, count);
    assert_true(wcache_set_wait_ready(f->caches, 5000));
    const struct registry_config config = {.store = f->store, .caches = f->caches, .service_cidr = "10.96.0.0/24", .node_port_min = 30000, .node_port_max = 30010};
    assert_int_equal(registry_new(&config, &f->registry, &error), 0);
    make_certificates(f);
    start_behind(f);
    const struct backends_config backends = {.loop = f->loop, .caches = f->caches, .client_cert_file = in_folder(f, "front.crt"), .client_key_file = in_folder(f, "front.key")};
    f->backends = backends_new(&backends);
    const struct aggregator_config aggregator = {.registry = f->registry, .caches = f->caches, .backends = f->backends};
    assert_int_equal(aggregator_make(&aggregator, &f->aggregator, &error), 0);
    start_server(f);
    f->now_ms = 1000000;
    *state = f;
    return 0;
}

static inline int tear_down(void **state)
{
    struct fixture *f = *state;
    http_client_free(f->client);
    api_server_free(f->server);
    http_server_free(f->behind.server);
    pool_free(f->pool);
    backends_free(f->backends);
    registry_free(f->registry);
    wcache_set_free(f->caches);
    loop_free(f->loop);
    aggregator_free(f->aggregator);
    auth_free(f->auth);
    caches_memory_free(f->caches);
    fake_store_free(f->store);
    tls_context_unref(f->tls);
    assert_int_equal(kp_remove_tree(f->folder, NULL), 0);
    kp_arena_free(f->arena);
    free(f);
    return 0;
}

/* ---- objects ---------------------------------------------------------------------------------------------------------------------- */
static inline int64_t go_round(struct fixture *f)
{
    return aggregator_round(f->aggregator, f->now_ms);
}

static inline int64_t later(struct fixture *f, int64_t ms)
{
    f->now_ms += ms;
    return go_round(f);
}

static inline void put_service(struct fixture *f, int port)
{
    fake_put(f->store, "/registry/services/specs/default/things",
             kp_arena_printf(f->arena, "{\"apiVersion\":\"v1\",\"kind\":\"Service\",\"metadata\":{\"name\":\"things\",\"namespace\":\"default\"},\"spec\":{\"type\":\"ClusterIP\","
                                       "\"clusterIP\":\"10.96.0.9\",\"ports\":[{\"name\":\"https\",\"port\":%d}]}}", port));
}

static inline void put_slice(struct fixture *f, bool ready)
{
    fake_put(f->store, "/registry/endpointslices/default/things-1",
             kp_arena_printf(f->arena, "{\"apiVersion\":\"discovery.k8s.io/v1\",\"kind\":\"EndpointSlice\",\"metadata\":{\"name\":\"things-1\",\"namespace\":\"default\","
                                       "\"labels\":{\"kubernetes.io/service-name\":\"things\"}},\"addressType\":\"IPv4\",\"ports\":[{\"name\":\"https\",\"port\":%u}],"
                                       "\"endpoints\":[{\"addresses\":[\"127.0.0.1\"],\"conditions\":{\"ready\":%s}}]}",
                             http_server_port(f->behind.server), ready ? "true" : "false"));
}

static inline int create(struct fixture *f, const struct kp_resource *resource, const char *text)
{
    struct kp_error error = {0};
    void *obj = NULL;
    KP_AUTO(wcache_object_unref) struct wcache_object *object = NULL;
    if (kp_json_decode(resource->type, text, strlen(text), f->arena, NULL, &obj, &error) < 0)
        fail_msg("%s", error.message);
    f->status = API_STATUS(f->arena);
    struct registry_request rq = registry_own_request(f->arena, &f->status, resource, "", "");
    return registry_create(f->registry, &rq, obj, &object);
}

/* more: of its spec. */
static inline int create_api_service(struct fixture *f, const char *name, const char *more)
{
    return create(f, &k8s_apiservices_resource, kp_arena_printf(f->arena, "{\"metadata\":{\"name\":\"%s\"},\"spec\":{%s}}", name, more));
}

static inline void create_things(struct fixture *f)
{
    const char *spec = "\"group\":\"things.test\",\"version\":\"v1\",\"groupPriorityMinimum\":2000,\"versionPriority\":10,\"service\":{\"name\":\"things\",\"namespace\":\"default\"},"
                       "\"caBundle\":\"%s\"";
    if (create_api_service(f, "v1.things.test", kp_arena_printf(f->arena, spec, f->ca)) < 0)
        fail_msg("%s", f->status.message);
}

static inline void things_work(struct fixture *f)
{
    put_service(f, 443);
    put_slice(f, true);
    create_things(f);
    go_round(f); /* looks, and writes what it found */
    go_round(f); /* sees that */
}

static inline const api_service_t *api_service(struct fixture *f, const char *name)
{
    const struct registry_kind *kind = registry_kind_of(&k8s_apiservices_resource);
    KP_AUTO(wcache_object_unref) struct wcache_object *object = wcache_get(registry_cache_of(f->registry, kind), name);
    return object ? registry_decode(kind, object, f->arena) : NULL;
}

/* "False FailedDiscoveryCheck: why" */
static inline const char *availability(struct fixture *f, const char *name)
{
    const api_service_t *service = api_service(f, name);
    if (!service || !service->status->conditions.len)
        return "";
    const struct k8s_api_service_condition *condition = &service->status->conditions.items[0];
    return kp_arena_printf(f->arena, "%s %s: %s", condition->status, condition->reason, condition->message);
}

/* ---- requests --------------------------------------------------------------------------------------------------------------------- */
static inline struct http_response ask(struct fixture *f, const char *method, const char *path, const struct http_header *headers, size_t count, const char *body)
{
    const struct http_client_request request = {.method = method, .path = path, .headers = headers, .header_count = count, .body = body, .body_len = body ? strlen(body) : 0};
    struct http_response response;
    struct kp_error error = {0};
    if (http_client_do(f->client, &request, f->arena, &response, &error) < 0)
        fail_msg("%s", error.message);
    return response;
}

static inline const char *get(struct fixture *f, const char *path, int status)
{
    const struct http_response response = ask(f, "GET", path, NULL, 0, NULL);
    if (response.status != status)
        fail_msg("%s: %d %s", path, response.status, (const char *)response.body.data);
    return (const char *)response.body.data;
}

static inline void has(const char *part, const char *text)
{
    if (!strstr(text, part))
        fail_msg("expected \"%s\" in: %s", part, text);
}

static inline void has_not(const char *part, const char *text)
{
    if (strstr(text, part))
        fail_msg("did not expect \"%s\" in: %s", part, text);
}

#endif
