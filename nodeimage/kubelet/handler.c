/* Running the handlers of probes and lifecycle hooks: exec, HTTP, TCP, gRPC health. */
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib/grpc/grpc.h"
#include "lib/http/http.h"
#include "lib/tls/tls.h"
#include "nodeimage/kubelet/kubelet_internal.h"
#include "proto/health.pb-c.h"

#define TIMEOUT_DEFAULT_MS 30000 /* of a hook without a bound */
#define BODY_SHOWN_MAX 10240

static int run_exec(struct kubelet *kubelet, const struct k8s_exec_action *exec, const char *container_id, int64_t timeout_ms,
                    struct kp_buf *output, struct kp_error *error)
{
    struct cri_strings command = {.items = exec->command.items, .len = exec->command.len};
    KP_AUTO_BUF struct kp_buf out = {0};
    int32_t exit_code = 0;
    int rc = cri_exec_sync(kubelet->cri, container_id, &command, timeout_ms > 0 ? (timeout_ms + 999) / 1000 : 0, &out, &out,
                           &exit_code, error);
    if (output && out.len > 0)
        kp_buf_append(output, out.data, KP_MIN(out.len, (size_t)BODY_SHOWN_MAX));
    if (rc < 0)
        return rc;
    if (exit_code != 0) {
        while (out.len > 0 && out.data[out.len - 1] == '\n')
            out.data[--out.len] = '\0';
        if (out.len > 0)
            return kp_fail(error, KP_EUNAVAILABLE, "%s", out.data);
        return kp_fail(error, KP_EUNAVAILABLE, "command '%s' exited with %d", exec->command.len > 0 ? exec->command.items[0] : "",
                       exit_code);
    }
    return 0;
}

/* A port by number or by the name the container gives it; -1: none. */
static int port_number(const struct kp_int_or_string *port, const struct k8s_container *container)
{
    if (port->kind == KP_IOS_INT)
        return port->i > 0 && port->i < 65536 ? port->i : -1;
    for (size_t i = 0; port->kind == KP_IOS_STRING && i < container->ports.len; i++)
        if (kp_streq(container->ports.items[i].name, port->s))
            return container->ports.items[i].container_port;
    int64_t number;
    if (port->kind == KP_IOS_STRING && kp_parse_i64(port->s, &number) == 0 && number > 0 && number < 65536)
        return (int)number;
    return -1;
}

static const char *host_literal(const char *host, struct kp_arena *arena)
{
    return strchr(host, ':') ? kp_arena_printf(arena, "[%s]", host) : host;
}

int kubelet_handler_tls(struct tls_context **ret, struct kp_error *error)
{
    static const char *const alpn[] = {"http/1.1", NULL};
    const struct tls_context_config config = {.insecure_skip_verify = true, .alpn = alpn};
    return tls_context_new(&config, ret, error);
}

static int http_do(struct kubelet *kubelet, const char *endpoint, const struct http_client_request *request, bool tls_wanted,
                   struct kp_arena *arena, struct http_response *response, struct kp_error *error)
{
    struct http_client_config config = {.endpoints = &endpoint, .endpoint_count = 1, .tls = tls_wanted ? kubelet->handler_tls : NULL, .protocol = HTTP_CLIENT_H1,
                                        .user_agent = "kube-probe/1.36", .connections_max = 1,
                                        .connect_timeout_ms = request->timeout_ms, .body_bytes_max = 1 << 20};
    KP_AUTO(http_client_free) struct http_client *client = NULL;
    int rc = http_client_new(kubelet->loop, &config, &client, error);
    return rc < 0 ? rc : http_client_do(client, request, arena, response, error);
}

static int run_http(struct kubelet *kubelet, const struct k8s_http_get_action *get, const struct k8s_container *container,
                    const char *pod_ip, int64_t timeout_ms, struct kp_buf *output, struct kp_error *error)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    const char *host = kp_empty(get->host) ? pod_ip : get->host;
    int port = port_number(&get->port, container);
    if (kp_empty(host) || port < 0)
        return kp_fail(error, KP_EINVALID, "HTTP handler without an address or port");
    bool https = kp_streq(get->scheme, "HTTPS");
    const char *scheme = https ? "https" : "http", *path = kp_empty(get->path) ? "/" : get->path;
    if (path[0] != '/')
        path = kp_arena_printf(arena, "/%s", path);
    const char *endpoint = kp_arena_printf(arena, "%s://%s:%d", scheme, host_literal(host, arena), port);
    struct http_header *headers = KP_NEW_ARRAY(arena, struct http_header, get->http_headers.len + 1);
    bool accept = false;
    size_t n = 0;
    for (size_t i = 0; i < get->http_headers.len; i++) {
        headers[n++] = (struct http_header){.name = get->http_headers.items[i].name, .value = get->http_headers.items[i].value};
        accept = accept || strcasecmp(get->http_headers.items[i].name, "accept") == 0;
    }
    if (!accept)
        headers[n++] = (struct http_header){.name = "Accept", .value = "*/*"};
    struct http_client_request request = {.method = "GET", .path = path, .headers = headers, .header_count = n,
                                          .timeout_ms = timeout_ms};
    struct http_response response = {0};
    int rc = http_do(kubelet, endpoint, &request, https, arena, &response, error);
    if (rc < 0)
        return kp_wrap(error, "Get \"%s%s\"", endpoint, path);
    if (output)
        kp_buf_append(output, response.body.data, KP_MIN(response.body.len, (size_t)BODY_SHOWN_MAX));
    if (response.status < 200 || response.status >= 400)
        return kp_fail(error, KP_EUNAVAILABLE, "HTTP probe failed with statuscode: %d", response.status);
    return 0;
}

/* A connection made and dropped again; plain system calls, since nothing is read or written. */
static int connect_tcp(const char *host, int port, int64_t timeout_ms, struct kp_error *error)
{
    char service[16];
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *list = NULL;
    snprintf(service, sizeof(service), "%d", port);
    int gai = getaddrinfo(host, service, &hints, &list);
    if (gai != 0)
        return kp_fail(error, KP_EUNAVAILABLE, "dial tcp: lookup %s: %s", host, gai_strerror(gai));
    KP_AUTO_CLOSE int fd = socket(list->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    int rc = 0, failed = 0;
    if (fd < 0)
        rc = kp_fail_errno(error, "dial tcp %s:%d", host, port);
    else if (connect(fd, list->ai_addr, list->ai_addrlen) < 0)
        failed = errno;
    freeaddrinfo(list);
    if (rc < 0)
        return rc;
    if (failed == EINPROGRESS) {
        struct pollfd pfd = {.fd = fd, .events = POLLOUT};
        if (poll(&pfd, 1, (int)timeout_ms) == 0)
            return kp_fail(error, KP_ETIMEOUT, "dial tcp %s:%d: i/o timeout", host, port);
        socklen_t len = sizeof(failed);
        if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &failed, &len) < 0)
            failed = errno;
    }
    if (failed)
        return kp_fail(error, KP_EUNAVAILABLE, "dial tcp %s:%d: connect: %s", host, port, strerror(failed));
    return 0;
}

static int run_tcp(const struct k8s_tcp_socket_action *tcp, const struct k8s_container *container, const char *pod_ip,
                   int64_t timeout_ms, struct kp_error *error)
{
    const char *host = kp_empty(tcp->host) ? pod_ip : tcp->host;
    int port = port_number(&tcp->port, container);
    if (kp_empty(host) || port < 0)
        return kp_fail(error, KP_EINVALID, "TCP handler without an address or port");
    return connect_tcp(host, port, timeout_ms, error);
}

static int run_grpc(struct kubelet *kubelet, const struct k8s_grpc_action *grpc, const char *pod_ip, int64_t timeout_ms,
                    struct kp_error *error)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    if (kp_empty(pod_ip))
        return kp_fail(error, KP_EINVALID, "gRPC handler without an address");
    const char *endpoint = kp_arena_printf(arena, "http://%s:%d", host_literal(pod_ip, arena), grpc->port);
    struct grpc_channel_config config = {.endpoints = &endpoint, .endpoint_count = 1, .connect_timeout_ms = timeout_ms,
                                         .call_timeout_ms = timeout_ms};
    KP_AUTO(grpc_channel_free) struct grpc_channel *channel = NULL;
    int rc = grpc_channel_new(kubelet->loop, &config, &channel, error);
    if (rc < 0)
        return rc;
    Grpc__Health__V1__HealthCheckRequest request = GRPC__HEALTH__V1__HEALTH_CHECK_REQUEST__INIT;
    ProtobufCMessage *message;
    request.service = (char *)(uintptr_t)(grpc->service ? grpc->service : "");
    rc = grpc_call(channel, "/grpc.health.v1.Health/Check", &request.base, &grpc__health__v1__health_check_response__descriptor,
                   NULL, arena, &message, error);
    if (rc < 0)
        return kp_wrap(error, "service unhealthy (%s)", endpoint);
    const Grpc__Health__V1__HealthCheckResponse *response = (const void *)message;
    if (response->status != GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__SERVING)
        return kp_fail(error, KP_EUNAVAILABLE, "service unhealthy (responded with \"%s\")",
                       response->status == GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__NOT_SERVING ? "NOT_SERVING"
                                                                                                                  : "UNKNOWN");
    return 0;
}

int kubelet_handler_run(struct kubelet *kubelet, const struct kubelet_handler *handler, const struct k8s_container *container,
                        const char *container_id, const char *pod_ip, int64_t timeout_ms, struct kp_buf *output,
                        struct kp_error *error)
{
    if (handler->exec)
        return run_exec(kubelet, handler->exec, container_id, timeout_ms, output, error);
    if (timeout_ms <= 0)
        timeout_ms = TIMEOUT_DEFAULT_MS;
    if (handler->http_get)
        return run_http(kubelet, handler->http_get, container, pod_ip, timeout_ms, output, error);
    if (handler->tcp_socket)
        return run_tcp(handler->tcp_socket, container, pod_ip, timeout_ms, error);
    if (handler->grpc)
        return run_grpc(kubelet, handler->grpc, pod_ip, timeout_ms, error);
    return kp_fail(error, KP_EINVALID, "handler of an unknown kind");
}
