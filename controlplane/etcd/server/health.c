/* Plain HTTP beside gRPC: /health, /livez, /readyz, /version, /metrics. */
#include "controlplane/etcd/server/rpc_internal.h"

static void answer(struct http_request *req, int status, const char *type, const char *body, size_t len)
{
    struct http_header header = {"Content-Type", type};
    http_respond(req, status, &header, 1, body, len);
}

static void answer_text(struct http_request *req, int status, const char *text)
{
    answer(req, status, "text/plain; charset=utf-8", text, strlen(text));
}

/* NULL when this member can serve linearizable requests. */
static const char *unhealthy(struct etcd_server *server, bool count_alarms)
{
    if (count_alarms && atomic_load(&server->alarms.no_space))
        return "ALARM NOSPACE";
    if (count_alarms && atomic_load(&server->alarms.corrupt))
        return "ALARM CORRUPT";
    if (!atomic_load(&server->node.leader))
        return "RAFT NO LEADER";
    enum etcd_err err = node_wait_read(server);
    return err == ETCD_OK ? NULL : etcd_err_info(err)->text;
}

static void health(struct http_request *req, struct etcd_server *server)
{
    const char *exclude = http_request_query(req, "exclude");
    const char *reason = unhealthy(server, !kp_streq(exclude, "NOSPACE"));
    KP_AUTO_BUF struct kp_buf body = {0};
    kp_buf_printf(&body, "{\"health\":\"%s\",\"reason\":\"%s\"}", reason ? "false" : "true", reason ? reason : "");
    answer(req, reason ? 503 : 200, "application/json", body.data, body.len);
}

struct check {
    const char *name;
    const char *failure; /* NULL: fine */
};

static void checks(struct http_request *req, const char *path, const struct check *list, size_t len)
{
    bool fine = true;
    KP_AUTO_BUF struct kp_buf body = {0};
    for (size_t i = 0; i < len; i++) {
        fine &= !list[i].failure;
        kp_buf_printf(&body, "[%c]%s %s\n", list[i].failure ? '-' : '+', list[i].name,
                      list[i].failure ? list[i].failure : "ok");
    }
    if (fine && !http_request_query(req, "verbose")) {
        answer_text(req, 200, "ok\n");
        return;
    }
    kp_buf_printf(&body, "%s check %s\n", path + 1, fine ? "passed" : "failed");
    answer(req, fine ? 200 : 503, "text/plain; charset=utf-8", body.data, body.len);
}

static void livez(struct http_request *req, struct etcd_server *server)
{
    struct kp_bytes key = {(const uint8_t *)"a", 1};
    struct mvcc_range_request range = {.key = key, .limit = 1};
    struct mvcc_range_result result;
    struct kp_error error = {0};
    bool read = mvcc_range(server->mvcc, &range, &result, &error) == MVCC_OK;
    if (read)
        mvcc_range_done(&result);
    struct check list[] = {{"serializable_read", read ? NULL : "range failed"}};
    checks(req, "/livez", list, KP_ARRAY_LEN(list));
}

static void readyz(struct http_request *req, struct etcd_server *server)
{
    struct check list[] = {
        {"data_corruption", atomic_load(&server->alarms.corrupt) ? "alarm activated: CORRUPT" : NULL},
        {"serializable_read", NULL},
        {"linearizable_read", unhealthy(server, false)},
    };
    checks(req, "/readyz", list, KP_ARRAY_LEN(list));
}

static void metrics(struct http_request *req, struct etcd_server *server)
{
    KP_AUTO_BUF struct kp_buf body = {0};
    metrics_collect(server);
    kp_metrics_write(&body);
    answer(req, 200, "text/plain; version=0.0.4; charset=utf-8", body.data, body.len);
}

void health_version(struct etcd_server *server, struct kp_buf *out)
{
    kp_buf_puts(out, "{\"etcdserver\":\"" ETCD_VERSION "\",\"etcdcluster\":\"" ETCD_VERSION "\",\"storage\":\"3.6.0\"}");
}

static void version(struct http_request *req, struct etcd_server *server)
{
    KP_AUTO_BUF struct kp_buf body = {0};
    health_version(server, &body);
    answer(req, 200, "application/json", body.data, body.len);
}

void health_handler(struct http_request *req, void *arg)
{
    static const struct {
        const char *path;
        void (*fn)(struct http_request *req, struct etcd_server *server);
    } routes[] = {{"/health", health}, {"/livez", livez}, {"/readyz", readyz}, {"/metrics", metrics}, {"/version", version}};
    if (!kp_streq(req->method, "GET") && !kp_streq(req->method, "HEAD")) {
        answer_text(req, 405, "Method Not Allowed\n");
        return;
    }
    for (size_t i = 0; i < KP_ARRAY_LEN(routes); i++)
        if (kp_streq(req->path, routes[i].path)) {
            routes[i].fn(req, arg);
            return;
        }
    answer_text(req, 404, "404 page not found\n");
}
