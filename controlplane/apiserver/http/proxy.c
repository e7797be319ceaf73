/* Passing requests on: to kubelets (log, exec, attach, portforward, nodes/proxy) and to pods and Services. */
#include "controlplane/apiserver/http/relay_internal.h"

#include "controlplane/apiserver/backend/backend.h"

#define KUBELET_PORT_DEFAULT 10250

/* Where a request goes on to. */
struct target {
    const char *endpoint; /* "https://10.0.0.1:10250" */
    const char *path;     /* with the query */
    bool kubelet;         /* use the client certificate */
};

static size_t forwarded_headers(struct api_request *ar, struct http_header out[RELAY_HEADERS_MAX], bool upgrade)
{
    size_t n = 0;
    for (size_t i = 0; i < ar->http->header_count && n < RELAY_HEADERS_MAX - 1; i++) {
        const char *name = ar->http->headers[i].name;
        bool drop = (relay_hop_by_hop(name) && !(upgrade && strcasecmp(name, "upgrade") == 0)) || strcasecmp(name, "authorization") == 0 ||
                    strcasecmp(name, "host") == 0 || strcasecmp(name, "accept-encoding") == 0;
        if (!drop)
            out[n++] = ar->http->headers[i];
    }
    return n;
}

static int make_client(struct api_request *ar, const struct target *target, struct http_client **ret_client)
{
    struct kp_error error = {0};
    struct http_client_config config = {.endpoints = &target->endpoint, .endpoint_count = 1, .protocol = HTTP_CLIENT_H1, .connect_timeout_ms = 10000};
    config.tls = target->kubelet ? ar->server->config.kubelet_tls : NULL;
    if (target->kubelet && !config.tls)
        return status_internal(&ar->status, "no client certificate for kubelets is configured");
    if (http_client_new(ar->server->config.loop, &config, ret_client, &error) < 0)
        return status_from_error(&ar->status, &error);
    return 0;
}

static void free_client(void *client)
{
    http_client_free(client);
}

static void proxy(struct api_request *ar, const struct target *target)
{
    struct http_client *client = NULL; /* of this call alone */
    struct http_header headers[RELAY_HEADERS_MAX];
    if (make_client(ar, target, &client) < 0) {
        respond_status(ar);
        return;
    }
    struct relay_target to = {.client = client, .release = free_client, .owner = client, .path = target->path, .headers = headers, .timeout_ms = -1};
    to.header_count = forwarded_headers(ar, headers, relay_is_upgrade(ar));
    relay_request(ar, &to);
}

/* ---- finding the other side ------------------------------------------------------------------------------------------------ */
static void *cached(struct api_request *ar, const struct kp_resource *resource, const char *ns, const char *name)
{
    const struct registry_kind *kind = registry_kind_of(resource);
    const char *key = resource->namespaced ? kp_arena_printf(ar->arena, "%s/%s", ns, name) : name;
    KP_AUTO(wcache_object_unref) struct wcache_object *object = wcache_get(registry_cache_of(ar->server->config.registry, kind), key);
    return object ? registry_decode(kind, object, ar->arena) : NULL;
}

static const char *node_address(const char *address_types, const struct k8s_node *node)
{
    KP_AUTO_FREE char *types = kp_strdup(address_types);
    char *save = NULL;
    for (char *type = strtok_r(types, ",", &save); type; type = strtok_r(NULL, ",", &save))
        for (size_t i = 0; i < node->status->addresses.len; i++)
            if (kp_streq(node->status->addresses.items[i].type, type))
                return node->status->addresses.items[i].address;
    return NULL;
}

const char *kubelet_endpoint_of(const char *types, const struct k8s_node *node, struct kp_arena *arena)
{
    const char *address = node_address(types, node);
    int port = KUBELET_PORT_DEFAULT;
    if (!address)
        return NULL;
    if (node->status->daemon_endpoints && node->status->daemon_endpoints->kubelet_endpoint && node->status->daemon_endpoints->kubelet_endpoint->port)
        port = node->status->daemon_endpoints->kubelet_endpoint->port;
    return kp_arena_printf(arena, strchr(address, ':') ? "https://[%s]:%d" : "https://%s:%d", address, port);
}

static int kubelet_endpoint(struct api_request *ar, const char *node_name, const char **ret_endpoint)
{
    const char *types = ar->server->config.kubelet_address_types;
    const struct k8s_node *node = cached(ar, &k8s_nodes_resource, "", node_name);
    if (!node)
        return status_not_found(&ar->status, "", "nodes", node_name);
    *ret_endpoint = kubelet_endpoint_of(types, node, ar->arena);
    return *ret_endpoint ? 0 : status_internal(&ar->status, "node %s has no address of the types %s", node_name, types);
}

static const char *container_of(struct api_request *ar, const struct k8s_pod *pod, int *ret_code)
{
    const char *wanted = query_of(ar, "container");
    *ret_code = 0;
    if (kp_empty(wanted)) {
        wanted = kp_string_map_get(&pod->metadata->annotations, "kubectl.kubernetes.io/default-container");
        if (pod->spec->containers.len == 1)
            return pod->spec->containers.items[0].name;
        if (kp_empty(wanted)) {
            KP_AUTO_BUF struct kp_buf names = {0};
            for (size_t i = 0; i < pod->spec->containers.len; i++)
                kp_buf_printf(&names, "%s%s", i ? " " : "", pod->spec->containers.items[i].name);
            *ret_code = status_bad_request(&ar->status, "a container name must be specified for pod %s, choose one of: [%s]", pod->metadata->name, names.data);
            return NULL;
        }
    }
    for (size_t i = 0; i < pod->spec->containers.len; i++)
        if (kp_streq(pod->spec->containers.items[i].name, wanted))
            return wanted;
    for (size_t i = 0; i < pod->spec->init_containers.len; i++)
        if (kp_streq(pod->spec->init_containers.items[i].name, wanted))
            return wanted;
    for (size_t i = 0; i < pod->spec->ephemeral_containers.len; i++)
        if (kp_streq(pod->spec->ephemeral_containers.items[i].name, wanted))
            return wanted;
    *ret_code = status_bad_request(&ar->status, "container %s is not valid for pod %s", wanted, pod->metadata->name);
    return NULL;
}

/* The query for the kubelet: everything but the container, which is in its path, in the kubelet's spelling. */
static const char *kubelet_path(struct api_request *ar, const struct k8s_pod *pod, const char *container)
{
    static const struct {
        const char *subresource, *kubelet;
    } names[] = {{"log", "containerLogs"}, {"exec", "exec"}, {"attach", "attach"}, {"portforward", "portForward"}};
    static const char *const streams[][2] = {{"stdin", "input"}, {"stdout", "output"}, {"stderr", "error"}};
    KP_AUTO_BUF struct kp_buf out = {0};
    bool log = strcmp(ar->info.subresource, "log") == 0;
    for (size_t i = 0; i < KP_ARRAY_LEN(names); i++)
        if (strcmp(names[i].subresource, ar->info.subresource) == 0)
            kp_buf_printf(&out, "/%s/%s/%s", names[i].kubelet, pod->metadata->namespace, pod->metadata->name);
    if (container)
        kp_buf_printf(&out, "/%s", container);
    const char *name, *value;
    bool forward = strcmp(ar->info.subresource, "portforward") == 0;
    for (const char *iter = ar->http->query; http_query_next(ar->arena, &iter, &name, &value);) {
        if (strcmp(name, "container") == 0)
            continue;
        if (forward && strcmp(name, "ports") == 0)
            name = "port";
        for (size_t i = 0; !log && i < KP_ARRAY_LEN(streams); i++)
            if (strcmp(streams[i][0], name) == 0) {
                name = streams[i][1];
                value = strcmp(value, "true") == 0 ? "1" : "0";
            }
        if (!log && strcmp(name, "tty") == 0)
            value = strcmp(value, "true") == 0 ? "1" : "0";
        http_query_append(&out, name, value);
    }
    return kp_arena_strdup(ar->arena, out.data);
}

void handle_kubelet(struct api_request *ar)
{
    struct target target = {.kubelet = true};
    KP_AUTO(wcache_object_unref) struct wcache_object *object = NULL;
    if (registry_get(ar->server->config.registry, &ar->rq, NULL, &object) < 0) {
        respond_status(ar);
        return;
    }
    const struct k8s_pod *pod = registry_decode(ar->rq.kind, object, ar->arena);
    int code = 0;
    bool forward = strcmp(ar->info.subresource, "portforward") == 0;
    const char *container = forward ? NULL : container_of(ar, pod, &code);
    if (code == 0 && kp_empty(pod->spec->node_name))
        code = status_bad_request(&ar->status, "pod %s does not have a host assigned", ar->info.name);
    if (code == 0)
        code = kubelet_endpoint(ar, pod->spec->node_name, &target.endpoint);
    if (code == 0 && strcmp(ar->info.subresource, "log") != 0)
        code = admit_connection(ar);
    if (code < 0) {
        respond_status(ar);
        return;
    }
    target.path = kubelet_path(ar, pod, container);
    proxy(ar, &target);
}

/* "name", "name:port", "scheme:name:port" */
static void split_name(struct api_request *ar, const char **ret_scheme, const char **ret_name, const char **ret_port)
{
    char *text = kp_arena_strdup(ar->arena, ar->info.name);
    char *first = strchr(text, ':'), *second = first ? strchr(first + 1, ':') : NULL;
    *ret_scheme = "http";
    *ret_port = "";
    *ret_name = text;
    if (second) {
        *first = *second = '\0';
        *ret_scheme = *text ? text : "http";
        *ret_name = first + 1;
        *ret_port = second + 1;
    } else if (first) {
        *first = '\0';
        *ret_port = first + 1;
    }
}

static int pod_target(struct api_request *ar, const char *name, const char *port, const char **ret_host, int *ret_port)
{
    const struct k8s_pod *pod = cached(ar, &k8s_pods_resource, ar->info.ns, name);
    int64_t number = 0;
    if (!pod)
        return status_not_found(&ar->status, "", "pods", name);
    if (kp_empty(pod->status->pod_ip))
        return status_fail(&ar->status, KP_EUNAVAILABLE, 503, "ServiceUnavailable", "pod %s has no address", name);
    *ret_host = pod->status->pod_ip;
    if (*port && kp_parse_i64(port, &number) < 0)
        return status_bad_request(&ar->status, "invalid port \"%s\"", port);
    for (size_t i = 0; !number && i < pod->spec->containers.len; i++)
        if (pod->spec->containers.items[i].ports.len)
            number = pod->spec->containers.items[i].ports.items[0].container_port;
    *ret_port = number ? (int)number : 80;
    return 0;
}

static int service_target(struct api_request *ar, const char *name, const char *port, const char **ret_host, int *ret_port)
{
    struct kp_error error = {0};
    int code = backend_resolve(ar->server->config.caches, ar->info.ns, name, port, ar->arena, ret_host, ret_port, &error);
    if (code == KP_ENOTFOUND)
        return status_not_found(&ar->status, "", "services", name);
    if (code < 0)
        return status_fail(&ar->status, KP_EUNAVAILABLE, 503, "ServiceUnavailable", "no endpoints available for service \"%s\"", ar->info.name);
    return 0;
}

void handle_proxy(struct api_request *ar)
{
    struct target target = {0};
    const char *scheme, *name, *port, *host = NULL;
    int number = 0, code;
    split_name(ar, &scheme, &name, &port);
    if (strcmp(ar->info.resource, "nodes") == 0) {
        target.kubelet = true;
        code = kubelet_endpoint(ar, name, &target.endpoint);
    } else if (strcmp(ar->info.resource, "pods") == 0) {
        code = pod_target(ar, name, port, &host, &number);
    } else {
        code = service_target(ar, name, port, &host, &number);
    }
    if (code == 0)
        code = admit_connection(ar);
    if (code < 0) {
        respond_status(ar);
        return;
    }
    if (!target.kubelet)
        target.endpoint = kp_arena_printf(ar->arena, strchr(host, ':') ? "%s://[%s]:%d" : "%s://%s:%d", scheme, host, number);
    KP_AUTO_BUF struct kp_buf path = {0};
    http_percent_encode(&path, *ar->info.rest ? ar->info.rest : "/", true);
    if (*ar->http->query)
        kp_buf_printf(&path, "?%s", ar->http->query);
    target.path = kp_arena_strdup(ar->arena, path.data);
    proxy(ar, &target);
}
