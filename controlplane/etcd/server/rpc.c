/* Listening on the client and metrics URLs. */
#include "controlplane/etcd/server/watch_internal.h"

#define PROGRESS_TICK_MS 1000
#define SHUTDOWN_MS 2000
#define RPC_STREAMS_MAX 10000                /* etcd's clients put everything on one connection */
#define RPC_IDLE_MS (24 * 3600 * INT64_C(1000)) /* and keep it for good */

static const struct grpc_method *const all_methods[] = {kv_methods,          watch_methods,   lease_methods,
                                                        maintenance_methods, cluster_methods, auth_methods,
                                                        lock_methods,        election_methods, downgrade_methods, NULL};

static int parse(const char *text, struct kp_arena *arena, struct http_url *url, const char **ret_host,
                 struct kp_error *error)
{
    bool unixs = kp_starts_with(text, "unixs:"); /* TLS over a unix socket */
    KP_AUTO_FREE char *plain = unixs ? kp_asprintf("unix:%s", text + strlen("unixs:")) : kp_strdup(text);
    if (http_url_parse(plain, arena, url, error) < 0)
        return kp_wrap(error, "listen URL %s", text);
    *ret_host = kp_streq(url->host, "localhost") ? "127.0.0.1" : url->host;
    return 0;
}

static bool is_secure(const char *text)
{
    return kp_starts_with(text, "https:") || kp_starts_with(text, "unixs:");
}

static const char *unix_path(const struct http_url *url)
{
    return kp_streq(url->scheme, "unix") ? url->path : NULL;
}

static void on_finish(const char *path, int status, int64_t duration_ns, void *server)
{
    bool ours = kp_starts_with(path, "/etcdserverpb.") || kp_starts_with(path, "/v3lockpb.") ||
                kp_starts_with(path, "/v3electionpb.");
    if (ours) /* what a client makes up must not become a series */
        metric_call(path, grpc_status_name(status));
}

static int listen_grpc(struct etcd_server *server, const char *text, struct kp_error *error)
{
    struct rpc_server *rpc = server->rpc;
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    struct http_url url;
    const char *host = NULL;
    if (parse(text, arena, &url, &host, error) < 0)
        return error->code;
    bool secure = is_secure(text);
    if (secure && !rpc->tls && server_client_tls(&server->config.client_tls, &rpc->tls, error) < 0)
        return error->code;
    struct grpc_server_config config = {
        .http = {.host = host,
                 .port = url.port,
                 .unix_path = unix_path(&url),
                 .tls = secure ? rpc->tls : NULL,
                 .pool = rpc->pool,
                 .streams_per_connection_max = RPC_STREAMS_MAX,
                 .idle_timeout_ms = RPC_IDLE_MS},
        .methods = rpc->methods,
        .arg = server,
        .message_bytes_max = (size_t)(server->config.request_bytes_max + RPC_MESSAGE_OVERHEAD),
        .fallback = health_handler,
        .on_finish = on_finish,
    };
    if (grpc_server_new(rpc->loop, &config, &rpc->grpc[rpc->grpc_len], error) < 0)
        return kp_wrap(error, "listen on %s", text);
    rpc->grpc_len++;
    kp_info("serving clients", "url", text, NULL);
    return 0;
}

static int listen_metrics(struct etcd_server *server, const char *text, struct kp_error *error)
{
    struct rpc_server *rpc = server->rpc;
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    struct http_url url;
    const char *host = NULL;
    if (parse(text, arena, &url, &host, error) < 0)
        return error->code;
    bool secure = is_secure(text);
    if (secure && !rpc->tls && server_client_tls(&server->config.client_tls, &rpc->tls, error) < 0)
        return error->code;
    struct http_server_config config = {.host = host,
                                        .port = url.port,
                                        .unix_path = unix_path(&url),
                                        .tls = secure ? rpc->tls : NULL,
                                        .pool = rpc->pool,
                                        .handler = health_handler,
                                        .arg = server};
    if (http_server_new(rpc->loop, &config, &rpc->http[rpc->http_len], error) < 0)
        return kp_wrap(error, "listen on %s", text);
    rpc->http_len++;
    return 0;
}

static int listen_all(struct etcd_server *server, const char *urls,
                      int (*listen)(struct etcd_server *server, const char *text, struct kp_error *error),
                      struct kp_error *error)
{
    struct kp_strings list = {0};
    split_urls(urls, &list);
    int rc = list.len > ETCD_URLS_MAX ? kp_fail(error, KP_EUSAGE, "more than %d URLs in %s", ETCD_URLS_MAX, urls) : 0;
    for (size_t i = 0; rc == 0 && i < list.len; i++)
        rc = listen(server, list.items[i], error);
    kp_strings_done(&list);
    return rc;
}

static void start_timer(void *arg)
{
    struct etcd_server *server = arg;
    server->rpc->progress_timer = loop_timer_new(server->rpc->loop, watch_progress_tick, server);
    loop_timer_start(server->rpc->progress_timer, PROGRESS_TICK_MS, PROGRESS_TICK_MS);
}

static void stop_timer(void *arg)
{
    struct etcd_server *server = arg;
    loop_timer_free(server->rpc->progress_timer);
    server->rpc->progress_timer = NULL;
}

int rpc_start(struct etcd_server *server, struct kp_error *error)
{
    struct rpc_server *rpc = server->rpc = kp_calloc(1, sizeof *rpc);
    pthread_mutex_init(&rpc->turns.mutex, NULL);
    rpc->encoded = watch_encoded_new();
    guard_init(rpc, all_methods);
    rpc->loop = loop_new();
    rpc->pool = pool_new("etcd-rpc", RPC_POOL_THREADS, RPC_POOL_QUEUE);
    if (loop_start(rpc->loop, "etcd-net", error) < 0)
        return error->code;
    answers_open(&server->answers, rpc->loop);
    loop_call(rpc->loop, start_timer, server);
    int rc = listen_all(server, server->config.listen_client_urls, listen_grpc, error);
    if (rc == 0)
        rc = listen_all(server, server->config.listen_metrics_urls, listen_metrics, error);
    return rc;
}

void rpc_stop(struct etcd_server *server)
{
    struct rpc_server *rpc = server->rpc;
    if (!rpc)
        return;
    loop_call(rpc->loop, watch_close_all, server);
    turns_close_all(server);
    for (size_t i = 0; i < rpc->grpc_len; i++)
        grpc_server_shutdown(rpc->grpc[i], SHUTDOWN_MS);
    for (size_t i = 0; i < rpc->grpc_len; i++)
        grpc_server_free(rpc->grpc[i]);
    for (size_t i = 0; i < rpc->http_len; i++)
        http_server_free(rpc->http[i]);
    pool_free(rpc->pool);
    answers_close(&server->answers);
    loop_call(rpc->loop, stop_timer, server);
    loop_stop(rpc->loop);
    loop_join(rpc->loop);
    loop_free(rpc->loop);
    tls_context_unref(rpc->tls);
    pthread_mutex_destroy(&rpc->turns.mutex);
    watch_encoded_free(rpc->encoded);
    guard_done(rpc);
    free(rpc);
    server->rpc = NULL;
}
