/* Opening a client, and calling whichever member answers. */
#include "provisioner/etcd/etcd_internal.h"

#define COMMON_NAME "kprov"
/* A load balancer whose members change, and an API server that is replaced, break what they carry: that is no word of etcd's. */
#define THROUGH_TRIES 3
#define THROUGH_REST_MS 1000

static int make_tls(const struct etcd_client_credentials *credentials, struct tls_context **ret, struct kp_error *error)
{
    static const char *const alpn[] = {"h2", NULL};
    const struct tls_context_config config = {
        .alpn = alpn, .ca_pem = credentials->ca_pem, .cert_pem = credentials->cert_pem, .key_pem = credentials->key_pem};
    return tls_context_new(&config, ret, error);
}

/* A tunnel ends at this machine, but the certificate is that of the address it leads to. */
static int add_endpoint(struct etcd_client *client, const char *address, struct kp_error *error)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    struct etcd_endpoint *endpoint = &client->endpoints[client->len];
    struct http_url url;
    const char *text = strstr(address, "://") ? address : kp_arena_printf(arena, "https://%s:%d", address, ETCD_CLIENT_PORT);
    int r = http_url_parse(text, arena, &url, error);
    if (r < 0)
        return r;
    endpoint->url = kp_strdup(text);
    const char *const urls[] = {client->tunnels ? etcd_tunnels_url(client->tunnels, client->len) : endpoint->url};
    client->len++;
    const struct grpc_channel_config config = {
        .endpoints = urls, .endpoint_count = 1, .tls = client->tls, .tls_server_name = client->tunnels ? url.host : NULL,
        .connect_timeout_ms = client->tunnels ? ETCD_CLIENT_CONNECT_THROUGH_MS : ETCD_CLIENT_CONNECT_MS, .call_timeout_ms = ETCD_CLIENT_CALL_MS,
    };
    return grpc_channel_new(client->loop, &config, &endpoint->channel, error);
}

/* Where the endpoints are, and which way leads there: through an API server when api is not NULL. */
struct route {
    const char *const *addresses, *const *nodes;
    size_t count;
    const struct client_config *api;
};

static int open_client(const struct etcd_client_credentials *credentials, const struct route *route, struct etcd_client **ret_client,
                       struct kp_error *error);

static int open_issued(const struct pki *pki, const struct route *route, struct etcd_client **ret_client, struct kp_error *error)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    KP_AUTO_BUF struct kp_buf ca = {0};
    const struct pki_leaf leaf = {COMMON_NAME, NULL, TLS_USAGE_CLIENT, NULL, NULL};
    struct etcd_client_credentials credentials = {0};
    if (pki_issue(&pki->etcd_ca, &leaf, arena, &credentials.cert_pem, &credentials.key_pem, error) < 0)
        return kp_wrap(error, "etcd client");
    pki_trust(&pki->etcd_ca, &ca);
    credentials.ca_pem = ca.data;
    return open_client(&credentials, route, ret_client, error);
}

int etcd_client_open(const struct pki *pki, const char *const *addresses, size_t count, struct etcd_client **ret_client,
                     struct kp_error *error)
{
    const struct route route = {.addresses = addresses, .count = count};
    return open_issued(pki, &route, ret_client, error);
}

int etcd_client_open_through(const struct pki *pki, const struct client_config *api, const char *const *nodes, const char *const *addresses,
                             size_t count, struct etcd_client **ret_client, struct kp_error *error)
{
    const struct route route = {.addresses = addresses, .nodes = nodes, .count = count, .api = api};
    return open_issued(pki, &route, ret_client, error);
}

int etcd_client_open_with(const struct etcd_client_credentials *credentials, const char *const *addresses, size_t count,
                          struct etcd_client **ret_client, struct kp_error *error)
{
    const struct route route = {.addresses = addresses, .count = count};
    return open_client(credentials, &route, ret_client, error);
}

static int open_client(const struct etcd_client_credentials *credentials, const struct route *route, struct etcd_client **ret_client,
                       struct kp_error *error)
{
    size_t count = route->count;
    if (count == 0 || count > ETCD_CLIENT_ENDPOINTS_MAX)
        return kp_fail(error, KP_EINVALID, "etcd: %zu endpoints: must be 1 to %d", count, ETCD_CLIENT_ENDPOINTS_MAX);
    KP_AUTO(etcd_client_close) struct etcd_client *client = kp_calloc(1, sizeof(*client));
    atomic_init(&client->good, ETCD_ENDPOINT_NONE);
    int r = make_tls(credentials, &client->tls, error);
    if (r == 0) {
        client->loop = loop_new();
        r = loop_start(client->loop, "kprov-etcd", error);
    }
    if (r == 0 && route->api)
        r = etcd_tunnels_open(client->loop, route->api, route->nodes, count, &client->tunnels, error);
    for (size_t i = 0; r == 0 && i < count; i++)
        r = add_endpoint(client, route->addresses[i], error);
    if (r < 0)
        return kp_wrap(error, "etcd client");
    *ret_client = KP_TAKE(client);
    return 0;
}

void etcd_client_close(struct etcd_client *client)
{
    if (!client)
        return;
    for (size_t i = 0; i < client->len; i++) {
        grpc_channel_free(client->endpoints[i].channel);
        free(client->endpoints[i].url);
    }
    etcd_tunnels_close(client->tunnels);
    loop_free(client->loop);
    tls_context_unref(client->tls);
    free(client);
}

size_t etcd_client_endpoints(const struct etcd_client *client)
{
    return client->len;
}

const char *etcd_client_endpoint(const struct etcd_client *client, size_t i)
{
    KP_ASSERT(i < client->len);
    return client->endpoints[i].url;
}

int etcd_wrap(struct etcd_client *client, size_t endpoint, const char *what, struct kp_error *error)
{
    char problem[KP_ERROR_MESSAGE_MAX];
    if (client->tunnels && etcd_tunnels_problem(client->tunnels, endpoint, problem))
        return kp_fail(error, error->code, "%s at %s, through the API server: %s", what, client->endpoints[endpoint].url, problem);
    return kp_wrap(error, "%s at %s", what, client->endpoints[endpoint].url);
}

int etcd_call_one(struct etcd_client *client, size_t endpoint, const struct etcd_call *call, struct kp_arena *arena,
                  ProtobufCMessage **ret, struct kp_error *error)
{
    const struct grpc_call_options options = {.timeout_ms = call->timeout_ms};
    int r = grpc_call(client->endpoints[endpoint].channel, call->path, call->request, call->response, &options, arena, ret, error);
    return r < 0 ? etcd_wrap(client, endpoint, "etcd", error) : 0;
}

/* Another member may answer better. What was lost on the way may have been done all the same: see the header. */
static bool is_transient(int code)
{
    return code == KP_EUNAVAILABLE || code == KP_ETIMEOUT || code == KP_EIO || code == KP_ECANCELLED;
}

int etcd_healthy_endpoints(struct etcd_client *client, struct kp_arena *arena, size_t out[ETCD_CLIENT_ENDPOINTS_MAX], size_t *ret_len,
                           struct kp_error *error)
{
    struct etcd_member_status *status = NULL;
    KP_AUTO_BUF struct kp_buf problems = {0};
    etcd_client_status(client, arena, &status);
    *ret_len = 0;
    for (size_t i = 0; i < client->len; i++) {
        if (!etcd_member_is_healthy(&status[i]) || status[i].learner) {
            kp_buf_printf(&problems, "%s%s: %s", problems.len ? "; " : "", status[i].endpoint,
                          status[i].learner ? "a learner" : status[i].problem);
            continue;
        }
        out[(*ret_len)++] = i;
        if (status[i].leader == status[i].id && *ret_len > 1) {
            size_t first = out[0];
            out[0] = i;
            out[*ret_len - 1] = first;
        }
    }
    return *ret_len ? 0 : kp_fail(error, KP_EUNAVAILABLE, "no member of etcd is healthy: %s", problems.data);
}

static int call_any_once(struct etcd_client *client, const struct etcd_call *call, struct kp_arena *arena, ProtobufCMessage **ret,
                         struct kp_error *error)
{
    size_t good = atomic_load(&client->good), healthy[ETCD_CLIENT_ENDPOINTS_MAX], n = 0;
    int r = KP_EUNAVAILABLE;
    if (good != ETCD_ENDPOINT_NONE)
        r = etcd_call_one(client, good, call, arena, ret, error);
    if (!is_transient(r))
        return r;
    atomic_store(&client->good, ETCD_ENDPOINT_NONE);
    if (etcd_healthy_endpoints(client, arena, healthy, &n, error) < 0)
        return error->code;
    for (size_t i = 0; is_transient(r) && i < n; i++) {
        r = etcd_call_one(client, healthy[i], call, arena, ret, error);
        if (r == 0)
            atomic_store(&client->good, healthy[i]);
    }
    return r;
}

int etcd_call_any(struct etcd_client *client, const struct etcd_call *call, struct kp_arena *arena, ProtobufCMessage **ret,
                  struct kp_error *error)
{
    int r = call_any_once(client, call, arena, ret, error);
    for (int i = 1; client->tunnels && is_transient(r) && i < THROUGH_TRIES; i++) {
        kp_sleep_ms(THROUGH_REST_MS);
        r = call_any_once(client, call, arena, ret, error);
    }
    return r;
}
