/* exec, attach and port-forward: the upgraded connection is joined, byte for byte, to the runtime's streaming server; and
   /run, which executes and answers in one. */
#include <strings.h>

#include "nodeimage/kubelet/server_internal.h"

#define UPGRADE_TIMEOUT_MS 30000

static bool query_on(struct http_request *req, const char *name)
{
    const char *value = http_request_query(req, name);
    return value && (kp_streq(value, "1") || kp_streq(value, "true"));
}

/* stdin, stdout ... as the API spells them, or input, output ... as the kubelet's own paths do. */
static struct cri_stream_options stream_options(struct http_request *req)
{
    struct cri_stream_options options = {
        .in = query_on(req, "input") || query_on(req, "stdin"),
        .out = query_on(req, "output") || query_on(req, "stdout"),
        .err = query_on(req, "error") || query_on(req, "stderr"),
        .tty = query_on(req, "tty"),
    };
    options.err = options.err && !options.tty; /* a terminal has one output */
    return options;
}

/* Headers that belong to one hop are made anew by the client. */
static bool hop_header(const char *name)
{
    static const char *const names[] = {"Connection", "Host", "Authorization", "Content-Length", "Transfer-Encoding", "Keep-Alive"};
    for (size_t i = 0; i < KP_ARRAY_LEN(names); i++)
        if (strcasecmp(name, names[i]) == 0)
            return true;
    return false;
}

static void free_client(void *arg)
{
    /* On a loop's thread, where freeing would wait for itself: a thread of its own does it. */
    struct http_client *client = arg;
    http_client_free(client);
}

static void *free_client_thread(void *arg)
{
    free_client(arg);
    return NULL;
}

static void on_spliced(void *arg)
{
    kubelet_thread("tunnel-end", free_client_thread, arg);
}

static size_t copy_headers(struct kp_arena *arena, const struct http_header *from, size_t n, struct http_header **ret)
{
    struct http_header *headers = KP_NEW_ARRAY(arena, struct http_header, n + 1);
    size_t len = 0;
    for (size_t i = 0; i < n; i++)
        if (!hop_header(from[i].name))
            headers[len++] = from[i];
    *ret = headers;
    return len;
}

static void proxy_upgrade(struct kubelet *kubelet, struct http_request *req, const char *url)
{
    struct http_url parts;
    struct kp_error error = {0};
    struct http_client *client = NULL;
    struct http_tunnel *upstream = NULL;
    struct http_response response = {0};
    struct http_header *headers;
    size_t n_headers = copy_headers(req->arena, req->headers, req->header_count, &headers);
    int rc = http_url_parse(url, req->arena, &parts, &error);
    if (rc == 0) {
        const char *endpoint = kp_arena_printf(req->arena, "%s://%s:%u", parts.scheme, parts.host, parts.port);
        struct http_client_config config = {.endpoints = &endpoint, .endpoint_count = 1, .protocol = HTTP_CLIENT_H1};
        rc = http_client_new(kubelet->loop, &config, &client, &error);
    }
    if (rc == 0) {
        const char *path = *parts.query ? kp_arena_printf(req->arena, "%s?%s", parts.path, parts.query) : parts.path;
        struct http_client_request request = {.method = req->method, .path = path, .headers = headers,
                                              .header_count = n_headers, .timeout_ms = UPGRADE_TIMEOUT_MS};
        rc = http_client_upgrade(client, &request, req->arena, &response, &upstream, &error);
    }
    if (rc < 0) {
        http_client_free(client);
        kp_warn("the runtime's streaming server does not answer", "url", url, "error", error.message, NULL);
        kubelet_respond_text(req, 502, error.message);
        return;
    }
    n_headers = copy_headers(req->arena, response.headers, response.header_count, &headers);
    if (!upstream) {
        http_respond(req, response.status, headers, n_headers, response.body.data, response.body.len);
        http_client_free(client);
        return;
    }
    struct http_tunnel *downstream = http_upgrade(req, headers, n_headers);
    if (downstream) {
        http_tunnel_splice(downstream, upstream, on_spliced, client);
    } else {
        http_tunnel_close(upstream);
        http_client_free(client);
        kubelet_respond_text(req, 400, "Upgrade request required");
    }
    http_tunnel_unref(downstream);
    http_tunnel_unref(upstream);
}

/* The running container a path names; answers itself and gives NULL when there is none. */
static const char *running_container(struct kubelet *kubelet, struct http_request *req, const struct kubelet_target *target)
{
    struct kubelet_pod *pod = kubelet_target_pod(kubelet, req, target);
    if (!pod)
        return NULL;
    struct kubelet_runtime rt;
    struct kp_error error = {0};
    const char *id = NULL;
    if (kubelet_runtime_load(kubelet, pod->uid, req->arena, &rt, &error) < 0) {
        kubelet_respond_error(req, &error);
    } else {
        const struct cri_container *c = kubelet_runtime_find(&rt, target->container, NULL);
        if (c && c->state == CRI_RUNNING)
            id = c->id;
        else
            kubelet_respond_text(req, 404, kp_arena_printf(req->arena, "container not found (\"%s\")", target->container));
    }
    kubelet_pod_unref(pod);
    return id;
}

static bool parse_target(struct http_request *req, bool with_container, struct kubelet_target *ret)
{
    if (kubelet_target_parse(req->path, with_container, req->arena, ret))
        return true;
    kubelet_respond_text(req, 404, "404 page not found\n");
    return false;
}

void kubelet_serve_exec(struct kubelet *kubelet, struct http_request *req)
{
    struct kubelet_target target;
    struct kp_error error = {0};
    struct cri_stream_options options = stream_options(req);
    const char *const *words;
    size_t n_words = http_request_query_all(req, "command", &words);
    if (!parse_target(req, true, &target))
        return;
    if (n_words == 0 || (!options.in && !options.out && !options.err)) {
        kubelet_respond_text(req, 400, n_words == 0 ? "you must specify a command" : "you must specify at least 1 of stdin, stdout, stderr");
        return;
    }
    const char *id = running_container(kubelet, req, &target), *url;
    if (!id)
        return;
    struct cri_strings command = {.items = (const char **)(uintptr_t)words, .len = n_words};
    if (cri_exec(kubelet->cri, id, &command, &options, req->arena, &url, &error) < 0)
        kubelet_respond_error(req, &error);
    else
        proxy_upgrade(kubelet, req, url);
}

void kubelet_serve_attach(struct kubelet *kubelet, struct http_request *req)
{
    struct kubelet_target target;
    struct kp_error error = {0};
    struct cri_stream_options options = stream_options(req);
    if (!parse_target(req, true, &target))
        return;
    const char *id = running_container(kubelet, req, &target), *url;
    if (!id)
        return;
    if (cri_attach(kubelet->cri, id, &options, req->arena, &url, &error) < 0)
        kubelet_respond_error(req, &error);
    else
        proxy_upgrade(kubelet, req, url);
}

/* "port=80,443&port=8080": what a WebSocket asks for. Who speaks SPDY names them as it opens streams. */
static bool parse_ports(struct http_request *req, int32_t **ret, size_t *ret_len)
{
    const char *const *words;
    size_t n_words = http_request_query_all(req, "port", &words), n = 0, room = 1;
    for (size_t i = 0; i < n_words; i++)
        room += strlen(words[i]) + 1;
    int32_t *ports = KP_NEW_ARRAY(req->arena, int32_t, room);
    for (size_t i = 0; i < n_words; i++) {
        char *save = NULL, *list = kp_arena_strdup(req->arena, words[i]);
        for (const char *word = strtok_r(list, ",", &save); word; word = strtok_r(NULL, ",", &save)) {
            int64_t port;
            if (kp_parse_i64(word, &port) < 0 || port < 1 || port > 65535) {
                kubelet_respond_text(req, 400, kp_arena_printf(req->arena, "port \"%s\" is invalid", word));
                return false;
            }
            ports[n++] = (int32_t)port;
        }
    }
    *ret = ports;
    *ret_len = n;
    return true;
}

void kubelet_serve_port_forward(struct kubelet *kubelet, struct http_request *req)
{
    struct kubelet_target target;
    struct kp_error error = {0};
    const char *url;
    int32_t *ports;
    size_t n_ports;
    if (!parse_target(req, false, &target) || !parse_ports(req, &ports, &n_ports))
        return;
    struct kubelet_pod *pod = kubelet_target_pod(kubelet, req, &target);
    if (!pod)
        return;
    struct kubelet_runtime rt;
    int rc = kubelet_runtime_load(kubelet, pod->uid, req->arena, &rt, &error);
    kubelet_pod_unref(pod);
    const struct cri_sandbox *sandbox = rc == 0 ? kubelet_runtime_sandbox(&rt) : NULL;
    if (rc == 0 && !sandbox)
        rc = kp_fail(&error, KP_ENOTFOUND, "pod %s has no running sandbox", target.pod);
    if (rc == 0)
        rc = cri_port_forward(kubelet->cri, sandbox->id, ports, n_ports, req->arena, &url, &error);
    if (rc < 0)
        kubelet_respond_error(req, &error);
    else
        proxy_upgrade(kubelet, req, url);
}

void kubelet_serve_run(struct kubelet *kubelet, struct http_request *req)
{
    struct kubelet_target target;
    struct kp_error error = {0};
    KP_AUTO_BUF struct kp_buf out = {0};
    int32_t exit_code = 0;
    const char *cmd = http_request_query(req, "cmd");
    if (!parse_target(req, true, &target))
        return;
    const char *id = running_container(kubelet, req, &target);
    if (!id)
        return;
    struct cri_strings command = {.items = KP_NEW_ARRAY(req->arena, const char *, (cmd ? strlen(cmd) : 0) + 1)};
    for (const char *s = cmd; s && *s;) {
        size_t len = strcspn(s, " ");
        if (len > 0)
            command.items[command.len++] = kp_arena_strndup(req->arena, s, len);
        s += len + (s[len] == ' ');
    }
    if (cri_exec_sync(kubelet->cri, id, &command, 0, &out, &out, &exit_code, &error) < 0) {
        kubelet_respond_error(req, &error);
        return;
    }
    const struct http_header header = {.name = "Content-Type", .value = "text/plain; charset=utf-8"};
    http_respond(req, exit_code == 0 ? 200 : 500, &header, 1, out.data ? out.data : "", out.len);
}
