/* An admission webhook for tests: answers by the path it is asked under, and writes every request's operation, kind and name to its standard output. */
#include "lib/codec/codec.h"
#include "lib/http/http.h"
#include "lib/tls/tls.h"

#include <signal.h>
#include <unistd.h>

static bool asks_for(const struct http_request *req, const char *path)
{
    return strcmp(req->path, path) == 0;
}

static const char *text_at(const struct kp_value *request, const char *key)
{
    const char *text = kp_value_str(kp_value_get(request, key));
    return text ? text : "";
}

/* One line: "/path UPDATE Pod ns/name sub user dry-run". */
static void report(const struct http_request *req, const struct kp_value *request)
{
    const char *kind = kp_value_str(kp_value_path(request, "kind", "kind", NULL)), *version = kp_value_str(kp_value_path(request, "kind", "version", NULL));
    const char *user = kp_value_str(kp_value_path(request, "userInfo", "username", NULL));
    const struct kp_value *dry = kp_value_get(request, "dryRun");
    printf("%s %s %s/%s %s/%s %s %s%s\n", req->path, text_at(request, "operation"), version ? version : "", kind ? kind : "", text_at(request, "namespace"),
           text_at(request, "name"), *text_at(request, "subResource") ? text_at(request, "subResource") : "-", user ? user : "", dry && dry->boolean ? " dry-run" : "");
    fflush(stdout);
}

static const char *patch_for(const struct http_request *req, const struct kp_value *request)
{
    const struct kp_value *labels = kp_value_path(request, "object", "metadata", "labels", NULL);
    if (asks_for(req, "/label"))
        return labels ? "[{\"op\":\"add\",\"path\":\"/metadata/labels/hooked\",\"value\":\"yes\"}]"
                      : "[{\"op\":\"add\",\"path\":\"/metadata/labels\",\"value\":{\"hooked\":\"yes\"}}]";
    if (asks_for(req, "/sidecar") && !kp_value_at(kp_value_path(request, "object", "spec", "containers", NULL), 1))
        return kp_arena_printf(req->arena, "[{\"op\":\"add\",\"path\":\"/spec/containers/-\",\"value\":{\"name\":\"sidecar\",\"image\":\"%s\"}}]",
                               text_at(kp_value_at(kp_value_path(request, "object", "spec", "containers", NULL), 0), "image"));
    if (asks_for(req, "/bad-patch"))
        return "[{\"op\":\"remove\",\"path\":\"/spec/nothing\"}]";
    if (asks_for(req, "/scale"))
        return "[{\"op\":\"replace\",\"path\":\"/spec/replicas\",\"value\":2}]";
    return NULL;
}

static void add_answer(const struct http_request *req, const struct kp_value *request, struct kp_buf *out)
{
    kp_buf_puts(out, "{\"uid\":");
    kp_json_string(out, asks_for(req, "/wrong-uid") ? "x" : text_at(request, "uid"));
    if (asks_for(req, "/deny"))
        kp_buf_puts(out, ",\"allowed\":false,\"status\":{\"code\":403,\"reason\":\"Forbidden\",\"message\":\"not today\"}");
    else
        kp_buf_puts(out, ",\"allowed\":true");
    if (asks_for(req, "/warn"))
        kp_buf_puts(out, ",\"warnings\":[\"this is going to be refused one day\"]");
    const char *patch = patch_for(req, request);
    if (patch) {
        kp_buf_puts(out, ",\"patchType\":\"JSONPatch\",\"patch\":\"");
        kp_base64_encode(out, patch, strlen(patch));
        kp_buf_puts(out, "\"");
    }
    kp_buf_puts(out, "}");
}

static void serve(struct http_request *req, void *arg)
{
    static const struct http_header json = {"Content-Type", "application/json"};
    struct kp_value *review = NULL;
    struct kp_error error = {0};
    KP_AUTO_BUF struct kp_buf out = {0};
    (void)arg;
    if (asks_for(req, "/slow"))
        kp_sleep_ms(5000);
    if (asks_for(req, "/broken") || kp_value_parse((const char *)req->body.data, req->body.len, req->arena, NULL, &review, &error) < 0) {
        http_respond(req, 500, NULL, 0, "out of order", strlen("out of order"));
        return;
    }
    const struct kp_value *request = kp_value_get(review, "request");
    report(req, request);
    kp_buf_puts(&out, "{\"kind\":\"AdmissionReview\",\"apiVersion\":");
    kp_json_string(&out, text_at(review, "apiVersion"));
    kp_buf_puts(&out, ",\"response\":");
    add_answer(req, request, &out);
    kp_buf_puts(&out, "}");
    http_respond(req, 200, &json, 1, out.data, out.len);
}

int main(int argc, char **argv)
{
    struct kp_error error = {0};
    struct tls_context *tls = NULL;
    struct http_server *server = NULL;
    int64_t port = 0;
    sigset_t set;
    int signum;
    if (argc != 5 || kp_parse_i64(argv[2], &port) < 0) {
        fprintf(stderr, "usage: %s ADDRESS PORT CERTIFICATE KEY\n", argv[0]);
        return 2;
    }
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    struct loop *loop = loop_new();
    struct pool *pool = pool_new("webhook", 16, 1000);
    const struct tls_context_config files = {.server = true, .cert_file = argv[3], .key_file = argv[4]};
    if (loop_start(loop, "webhook", &error) < 0 || tls_context_new(&files, &tls, &error) < 0) {
        fprintf(stderr, "%s\n", error.message);
        return 1;
    }
    const struct http_server_config config = {.host = argv[1], .port = (uint16_t)port, .tls = tls, .pool = pool, .handler = serve};
    if (http_server_new(loop, &config, &server, &error) < 0) {
        fprintf(stderr, "%s\n", error.message);
        return 1;
    }
    printf("listening\n");
    fflush(stdout);
    sigwait(&set, &signum);
    http_server_free(server);
    pool_free(pool);
    loop_free(loop);
    tls_context_unref(tls);
    return 0;
}
