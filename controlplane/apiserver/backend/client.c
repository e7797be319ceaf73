/* Clients for backends: one for each endpoint, CA and certificate, kept with its connections while it is asked. */
#include "controlplane/apiserver/backend/backend_internal.h"

#include "lib/tls/tls.h"

#include <arpa/inet.h>

struct backend_client {
    int refs; /* atomic: the table's and those of who uses it */
    char *key;
    uint64_t used; /* which use of the table was the last of this one; under the mutex */
    struct http_client *http;
    struct tls_context *tls;
};

struct backends *backends_new(const struct backends_config *config)
{
    struct backends *backends = kp_calloc(1, sizeof(*backends));
    backends->config = *config;
    backends->clients = kp_strmap_new();
    pthread_mutex_init(&backends->mutex, NULL);
    return backends;
}

static void unref(void *client)
{
    backend_client_unref(client);
}

void backends_free(struct backends *backends)
{
    if (!backends)
        return;
    kp_strmap_free(backends->clients, unref);
    pthread_mutex_destroy(&backends->mutex);
    free(backends);
}

void backend_client_unref(struct backend_client *client)
{
    if (!client || __atomic_sub_fetch(&client->refs, 1, __ATOMIC_ACQ_REL) > 0)
        return;
    http_client_free(client->http);
    tls_context_unref(client->tls);
    free(client->key);
    free(client);
}

struct http_client *backend_client_http(struct backend_client *client)
{
    return client->http;
}

const char *backend_host(const struct backend *backend, struct kp_arena *arena)
{
    if (!backend->url)
        return kp_arena_printf(arena, "%s.%s.svc:%d", backend->service, backend->ns, backend->port);
    const char *scheme = strstr(backend->url, "://");
    return kp_arena_strdup(arena, scheme ? scheme + 3 : backend->url);
}

static int endpoint_of(struct backends *backends, const struct backend *backend, struct kp_arena *arena, const char **ret_endpoint,
                       struct kp_error *error)
{
    const char *host;
    char port_text[16];
    int port;
    *ret_endpoint = backend->url;
    if (backend->url)
        return 0;
    snprintf(port_text, sizeof(port_text), "%d", backend->port);
    if (backend_resolve(backends->config.caches, backend->ns, backend->service, port_text, arena, &host, &port, error) < 0)
        return error->code;
    *ret_endpoint = kp_arena_printf(arena, strchr(host, ':') ? "https://[%s]:%d" : "https://%s:%d", host, port);
    return 0;
}

static int client_new(struct backends *backends, const struct backend *backend, const char *endpoint, const char *key, struct kp_arena *arena,
                      struct backend_client **ret_client, struct kp_error *error)
{
    static const char *const alpn[] = {"h2", "http/1.1", NULL};
    struct tls_context_config tls = {.alpn = alpn, .insecure_skip_verify = backend->insecure_skip_verify};
    if (backend->ca_len && !backend->insecure_skip_verify)
        tls.ca_pem = kp_arena_strndup(arena, backend->ca, backend->ca_len);
    if (backend->client_certificate) {
        tls.cert_file = backends->config.client_cert_file;
        tls.key_file = backends->config.client_key_file;
    }
    struct backend_client *client = kp_calloc(1, sizeof(*client));
    client->refs = 1;
    client->key = kp_strdup(key);
    struct http_client_config http = {.endpoints = &endpoint, .endpoint_count = 1, .user_agent = "kube-apiserver-admission", .connect_timeout_ms = 10000};
    http.body_bytes_max = BACKEND_ANSWER_BYTES_MAX;
    if (!backend->url)
        http.tls_server_name = kp_arena_printf(arena, "%s.%s.svc", backend->service, backend->ns);
    int code = tls_context_new(&tls, &client->tls, error);
    http.tls = client->tls;
    if (code == 0)
        code = http_client_new(backends->config.loop, &http, &client->http, error);
    if (code < 0) {
        backend_client_unref(client);
        return code;
    }
    *ret_client = client;
    return 0;
}

/* Under the mutex. Who it gives back is let go of by the caller, outside of it. */
static struct backend_client *take_oldest(struct backends *backends)
{
    struct backend_client *oldest = NULL;
    size_t iter = 0;
    const char *key;
    void *value;
    while (kp_strmap_next(backends->clients, &iter, &key, &value)) {
        struct backend_client *client = value;
        if (!oldest || client->used < oldest->used)
            oldest = client;
    }
    return oldest ? kp_strmap_remove(backends->clients, oldest->key) : NULL;
}

static struct backend_client *look_up(struct backends *backends, const char *key)
{
    pthread_mutex_lock(&backends->mutex);
    struct backend_client *client = kp_strmap_get(backends->clients, key);
    if (client) {
        client->used = ++backends->uses;
        __atomic_add_fetch(&client->refs, 1, __ATOMIC_RELAXED);
    }
    pthread_mutex_unlock(&backends->mutex);
    return client;
}

/* Two threads may have made the same client: the later one stays. */
static void keep(struct backends *backends, struct backend_client *client)
{
    struct backend_client *gone, *oldest = NULL;
    __atomic_add_fetch(&client->refs, 1, __ATOMIC_RELAXED);
    pthread_mutex_lock(&backends->mutex);
    client->used = ++backends->uses;
    gone = kp_strmap_put(backends->clients, client->key, client);
    if (kp_strmap_len(backends->clients) > BACKEND_CLIENTS_MAX)
        oldest = take_oldest(backends);
    pthread_mutex_unlock(&backends->mutex);
    backend_client_unref(gone);
    backend_client_unref(oldest);
}

int backend_client_get(struct backends *backends, const struct backend *backend, struct kp_arena *arena, struct backend_client **ret_client,
                       struct kp_error *error)
{
    const char *endpoint;
    char ca[TLS_SHA256_HEX_BYTES] = "";
    if (endpoint_of(backends, backend, arena, &endpoint, error) < 0)
        return error->code;
    if (backend->ca_len)
        tls_sha256_hex(backend->ca, backend->ca_len, ca);
    const char *name = backend->url ? "" : kp_arena_printf(arena, "%s.%s", backend->service, backend->ns);
    const char *key = kp_arena_printf(arena, "%s %s %s %d %d", endpoint, name, ca, backend->insecure_skip_verify, backend->client_certificate);
    struct backend_client *client = look_up(backends, key);
    if (!client) {
        if (client_new(backends, backend, endpoint, key, arena, &client, error) < 0)
            return error->code;
        keep(backends, client);
    }
    *ret_client = client;
    return 0;
}
