/* The kubelet's HTTP server: listeners and the table of endpoints. */
#include "lib/tls/tls.h"
#include "nodeimage/kubelet/server_internal.h"

#define SERVER_QUEUE_MAX 1000

static void serve_healthz(struct kubelet *kubelet, struct http_request *req)
{
    (void)kubelet;
    kubelet_respond_text(req, 200, "ok");
}

struct endpoint {
    const char *path; /* the whole path, or its beginning when it ends with '/' */
    void (*serve)(struct kubelet *kubelet, struct http_request *req);
};
static const struct endpoint endpoints[] = {
    {"/healthz", serve_healthz},
    {"/healthz/ping", serve_healthz},
    {"/healthz/syncloop", serve_healthz},
    {"/pods", kubelet_serve_pods},
    {"/runningpods", kubelet_serve_running_pods},
    {"/runningpods/", kubelet_serve_running_pods},
    {"/containerLogs/", kubelet_serve_logs},
    {"/exec/", kubelet_serve_exec},
    {"/attach/", kubelet_serve_attach},
    {"/portForward/", kubelet_serve_port_forward},
    {"/run/", kubelet_serve_run},
    {"/metrics", kubelet_serve_metrics},
    {"/metrics/resource", kubelet_serve_metrics_resource},
    {"/stats/summary", kubelet_serve_stats_summary},
    {"/configz", kubelet_serve_configz},
};

void kubelet_respond_text(struct http_request *req, int status, const char *text)
{
    const struct http_header header = {.name = "Content-Type", .value = "text/plain; charset=utf-8"};
    http_respond(req, status, &header, 1, text, strlen(text));
}

void kubelet_respond_json(struct http_request *req, const struct kp_buf *json)
{
    const struct http_header header = {.name = "Content-Type", .value = "application/json"};
    http_respond(req, 200, &header, 1, json->data ? json->data : "", json->len);
}

void kubelet_respond_error(struct http_request *req, const struct kp_error *error)
{
    kubelet_respond_text(req, kp_code_info(error->code)->http_status, error->message);
}

bool kubelet_target_parse(const char *path, bool with_container, struct kp_arena *arena, struct kubelet_target *ret)
{
    const char *parts[5] = {0};
    size_t n = 0;
    const char *s = strchr(path + 1, '/');
    while (s && n < KP_ARRAY_LEN(parts)) {
        s++;
        size_t len = strcspn(s, "/");
        if (len > 0)
            parts[n++] = kp_arena_strndup(arena, s, len);
        s = s[len] ? s + len : NULL;
    }
    *ret = (struct kubelet_target){.ns = parts[0], .pod = parts[1]};
    size_t least = with_container ? 3 : 2;
    if (s || n < least || n > least + 1)
        return false;
    ret->uid = n > least ? parts[2] : NULL;
    ret->container = with_container ? parts[n - 1] : NULL;
    return true;
}

struct kubelet_pod *kubelet_target_pod(struct kubelet *kubelet, struct http_request *req, const struct kubelet_target *target)
{
    struct kubelet_pod *pod = kubelet_workers_find_name(kubelet->workers, target->ns, target->pod);
    if (!pod)
        kubelet_respond_text(req, 404, "pod does not exist\n");
    return pod;
}

static void handle(struct http_request *req, void *arg)
{
    struct kubelet_server *server = arg;
    if (!kubelet_auth_check(server, req))
        return;
    for (size_t i = 0; i < KP_ARRAY_LEN(endpoints); i++) {
        const char *path = endpoints[i].path;
        bool prefix = path[strlen(path) - 1] == '/';
        if (prefix ? kp_starts_with(req->path, path) : kp_streq(req->path, path)) {
            endpoints[i].serve(server->kubelet, req);
            return;
        }
    }
    kubelet_respond_text(req, 404, "404 page not found\n");
}

/* Plain, on the loopback address only: for whoever watches over this process. */
static void handle_healthz(struct http_request *req, void *arg)
{
    (void)arg;
    bool known = kp_streq(req->path, "/healthz");
    kubelet_respond_text(req, known ? 200 : 404, known ? "ok" : "404 page not found\n");
}

void kubelet_server_set_tls(struct kubelet *kubelet, struct tls_context *tls)
{
    struct kubelet_server *server = kubelet->server;
    http_server_set_tls(server->https, tls);
    server->tls = tls; /* the old one may still be looked at by connections that begin: it is kept */
}

int kubelet_server_start(struct kubelet *kubelet, struct kp_error *error)
{
    struct kubelet_server *server = kp_calloc(1, sizeof(*server));
    kubelet->server = server;
    server->kubelet = kubelet;
    server->pool = pool_new("server", KUBELET_SERVER_THREADS_MAX, SERVER_QUEUE_MAX);
    server->auth = kubelet_auth_new(kubelet);
    server->usage = kubelet_usage_new(kubelet->cri);
    int rc = kubelet_certs_server(kubelet, &server->tls, error);
    if (rc < 0)
        return rc;
    struct http_server_config config = {.host = kubelet->config.listen_address, .port = (uint16_t)kubelet->config.port,
                                        .tls = server->tls, .pool = server->pool, .handler = handle, .arg = server};
    rc = http_server_new(kubelet->loop, &config, &server->https, error);
    if (rc < 0)
        return kp_wrap(error, "serve on %s:%lld", kubelet->config.listen_address, (long long)kubelet->config.port);
    if (kubelet->config.healthz_port <= 0)
        return 0;
    struct http_server_config plain = {.host = "127.0.0.1", .port = (uint16_t)kubelet->config.healthz_port, .pool = server->pool,
                                       .handler = handle_healthz, .arg = server};
    rc = http_server_new(kubelet->loop, &plain, &server->healthz, error);
    return rc < 0 ? kp_wrap(error, "serve health on port %lld", (long long)kubelet->config.healthz_port) : 0;
}

void kubelet_server_free(struct kubelet_server *server)
{
    if (!server)
        return;
    http_server_free(server->https);
    http_server_free(server->healthz);
    pool_free(server->pool);
    delegate_free(server->auth);
    kubelet_usage_free(server->usage);
    tls_context_unref(server->tls);
    free(server);
}
