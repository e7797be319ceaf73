/* The sockets of the health checks: one server a port. */
#include "nodeimage/kube-proxy/health.h"

#include "lib/http/http.h"
#include "lib/loop/loop.h"

#include <pthread.h>

#define THREADS 1
#define QUEUE_MAX 64
#define CONNECTIONS_MAX 32 /* of one port: outside balancers ask it every few seconds */

struct check {
    int32_t port;
    struct http_server *server;
    pthread_mutex_t mutex; /* guards the answer */
    struct kp_buf body;
    int status;
    bool wanted;
    struct check *next;
};
struct proxy_health {
    struct loop *loop;
    struct pool *pool;
    struct check *checks;
};

static void answer(struct http_request *req, void *arg)
{
    static const struct http_header headers[] = {{"content-type", "application/json"}, {"x-content-type-options", "nosniff"}};
    struct check *check = arg;
    pthread_mutex_lock(&check->mutex);
    http_respond(req, check->status, headers, KP_ARRAY_LEN(headers), check->body.data, check->body.len);
    pthread_mutex_unlock(&check->mutex);
}

int proxy_health_new(struct proxy_health **ret_health, struct kp_error *error)
{
    struct proxy_health *health = kp_calloc(1, sizeof(*health));
    health->loop = loop_new();
    health->pool = pool_new("health", THREADS, QUEUE_MAX);
    if (loop_start(health->loop, "health", error) < 0) {
        proxy_health_free(health);
        return error->code;
    }
    *ret_health = health;
    return 0;
}

static void check_free(struct check *check)
{
    http_server_free(check->server);
    kp_buf_done(&check->body);
    pthread_mutex_destroy(&check->mutex);
    free(check);
}

void proxy_health_free(struct proxy_health *health)
{
    if (!health)
        return;
    for (struct check *check = health->checks, *next; check; check = next) {
        next = check->next;
        check_free(check);
    }
    pool_free(health->pool);
    loop_free(health->loop);
    free(health);
}

static struct check *open_check(struct proxy_health *health, int32_t port)
{
    struct check *check = kp_calloc(1, sizeof(*check));
    struct kp_error error = {0};
    const struct http_server_config config = {
        .host = "0.0.0.0", .port = (uint16_t)port, .pool = health->pool, .handler = answer, .arg = check, .connections_max = CONNECTIONS_MAX,
    };
    check->port = port;
    check->status = 503;
    pthread_mutex_init(&check->mutex, NULL);
    if (http_server_new(health->loop, &config, &check->server, &error) < 0) {
        kp_error_log("health check not served", "error", error.message, NULL);
        check_free(check);
        return NULL;
    }
    check->next = health->checks;
    health->checks = check;
    return check;
}

static struct check *find(struct proxy_health *health, int32_t port)
{
    struct check *check = health->checks;
    while (check && check->port != port)
        check = check->next;
    return check;
}

void proxy_health_update(struct proxy_health *health, const struct proxy_health_port *ports, size_t count)
{
    for (struct check *check = health->checks; check; check = check->next)
        check->wanted = false;
    for (size_t i = 0; i < count; i++) {
        struct check *check = find(health, ports[i].port);
        if (!check && !(check = open_check(health, ports[i].port)))
            continue;
        check->wanted = true;
        pthread_mutex_lock(&check->mutex);
        check->body.len = 0;
        check->status = proxy_health_status(&ports[i], &check->body);
        pthread_mutex_unlock(&check->mutex);
    }
    for (struct check **at = &health->checks; *at;) {
        struct check *check = *at;
        if (check->wanted) {
            at = &check->next;
            continue;
        }
        *at = check->next;
        check_free(check);
    }
}
