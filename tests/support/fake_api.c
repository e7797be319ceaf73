/* A small API server for tests of clients. */
#include "tests/support/fake_api.h"
#include "lib/http/http.h"

#include <pthread.h>

#define WATCHES_MAX 64
#define HUNG_MAX 64

struct fake_api {
    struct loop *loop;
    struct pool *pool;
    struct http_server *server;
    char url[64];
    pthread_mutex_t lock;
    struct kp_strmap *objects; /* "collection/name" -> JSON */
    int64_t version;
    struct {
        struct http_stream *stream;
        char *collection;
    } watches[WATCHES_MAX];
    size_t n_watches;
    struct http_request *hung[HUNG_MAX];
    size_t n_hung;
    struct {
        char method[8];
        int count, status;
        char *body;
    } fail;
    struct {
        int status;
        char *path, *body;
    } refuse;
    struct fake_api_counts counts;
};

static void answer(struct http_request *req, int status, const char *body)
{
    const struct http_header type = {"content-type", "application/json"};
    http_respond(req, status, &type, 1, body, strlen(body));
}

static void answer_status(struct http_request *req, int status, const char *reason, const char *message)
{
    KP_AUTO_FREE char *body = kp_asprintf("{\"kind\":\"Status\",\"apiVersion\":\"v1\",\"status\":\"Failure\",\"reason\":\"%s\",\"message\":\"%s\",\"code\":%d}", reason,
                                          message, status);
    answer(req, status, body);
}

static void tell(struct fake_api *api, const char *collection, const char *type, const char *json)
{
    KP_AUTO_FREE char *line = kp_asprintf("{\"type\":\"%s\",\"object\":%s}\n", type, json);
    KP_AUTO(kp_blob_unref) struct kp_blob *blob = kp_blob_new(line, strlen(line));
    for (size_t i = 0; i < api->n_watches; i++)
        if (!collection || strcmp(api->watches[i].collection, collection) == 0)
            http_stream_write(api->watches[i].stream, blob);
}

/* Stores json with a new version; locked by the caller. Gives the stored text, borrowed. */
static const char *keep(struct fake_api *api, const char *collection, const char *json, bool silent)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    KP_AUTO_BUF struct kp_buf out = {0};
    struct kp_value *value;
    struct kp_error error = {0};
    if (kp_value_parse(json, strlen(json), arena, NULL, &value, &error) < 0)
        abort();
    struct kp_value *meta = kp_value_get(value, "metadata");
    KP_AUTO_FREE char *key = kp_asprintf("%s/%s", collection, kp_value_str(kp_value_get(meta, "name")));
    char *old = kp_strmap_get(api->objects, key);
    kp_value_set(arena, meta, "resourceVersion", kp_value_string(arena, kp_arena_printf(arena, "%lld", (long long)++api->version)));
    if (!kp_value_get(meta, "uid"))
        kp_value_set(arena, meta, "uid", kp_value_string(arena, kp_arena_printf(arena, "uid-%lld", (long long)api->version)));
    kp_value_print(value, &out);
    char *text = kp_buf_take(&out);
    kp_strmap_put(api->objects, key, text);
    if (!silent)
        tell(api, collection, old ? "MODIFIED" : "ADDED", text);
    free(old);
    return text;
}

static void list_objects(struct fake_api *api, struct http_request *req)
{
    KP_AUTO_BUF struct kp_buf body = {0};
    size_t iter = 0, len = strlen(req->path);
    const char *key;
    void *json;
    bool first = true;
    kp_buf_printf(&body, "{\"metadata\":{\"resourceVersion\":\"%lld\"},\"items\":[", (long long)api->version);
    while (kp_strmap_next(api->objects, &iter, &key, &json))
        if (strncmp(key, req->path, len) == 0 && key[len] == '/') {
            kp_buf_printf(&body, "%s%s", first ? "" : ",", (char *)json);
            first = false;
        }
    kp_buf_puts(&body, "]}");
    answer(req, 200, body.data);
}

static void start_watch(struct fake_api *api, struct http_request *req)
{
    const char *version = http_request_query(req, "resourceVersion");
    snprintf(api->counts.watch_version, sizeof(api->counts.watch_version), "%s", version ? version : "");
    if (api->n_watches == WATCHES_MAX)
        abort();
    api->watches[api->n_watches].stream = http_stream_start(req, 200, NULL, 0);
    api->watches[api->n_watches++].collection = kp_strdup(req->path);
}

static void change(struct fake_api *api, struct http_request *req)
{
    char *stored = kp_strmap_get(api->objects, req->path);
    KP_AUTO_FREE char *collection = kp_strdup(req->path);
    const char *body = (const char *)req->body.data;
    struct kp_error error = {0};
    struct kp_value *value, *old;
    if (strcmp(req->method, "POST") == 0) {
        if (kp_value_parse(body, req->body.len, req->arena, NULL, &value, &error) < 0)
            abort();
        const char *name = kp_value_str(kp_value_path(value, "metadata", "name", NULL));
        if (kp_strmap_get(api->objects, kp_arena_printf(req->arena, "%s/%s", req->path, name)))
            answer_status(req, 409, "AlreadyExists", "it exists");
        else
            answer(req, 201, keep(api, collection, body, false));
        return;
    }
    *strrchr(collection, '/') = '\0';
    if (!stored) {
        answer_status(req, 404, "NotFound", kp_arena_printf(req->arena, "\\\"%s\\\" not found", strrchr(req->path, '/') + 1));
    } else if (strcmp(req->method, "GET") == 0 || strcmp(req->method, "PATCH") == 0) {
        answer(req, 200, stored);
    } else if (strcmp(req->method, "PUT") == 0) {
        if (kp_value_parse(body, req->body.len, req->arena, NULL, &value, &error) < 0 || kp_value_parse(stored, strlen(stored), req->arena, NULL, &old, &error) < 0)
            abort();
        const char *version = kp_value_str(kp_value_path(value, "metadata", "resourceVersion", NULL));
        if (version && !kp_streq(version, kp_value_str(kp_value_path(old, "metadata", "resourceVersion", NULL))))
            answer_status(req, 409, "Conflict", "it has been modified");
        else
            answer(req, 200, keep(api, collection, body, false));
    } else {
        kp_strmap_remove(api->objects, req->path);
        api->version++;
        tell(api, collection, "DELETED", stored);
        free(stored);
        answer(req, 200, "{}");
    }
}

/* "/apis/apps/v1/namespaces/d/deployments", "/apis/apps/v1/deployments", "/api/v1/configmaps". */
static bool is_collection(const char *path)
{
    static const char mark[] = "/namespaces/";
    const char *last = strrchr(path, '/') + 1, *ns = strstr(path, mark), *rest = ns ? strchr(ns + strlen(mark), '/') : NULL;
    size_t slashes = 0;
    for (const char *p = path; *p; p++)
        slashes += *p == '/';
    return rest ? rest + 1 == last : slashes == (kp_starts_with(path, "/apis/") ? 4 : 3);
}

static void handle(struct http_request *req, void *arg)
{
    struct fake_api *api = arg;
    bool watch = kp_streq(http_request_query(req, "watch"), "true");
    const char *auth = http_request_header(req, "authorization");
    bool collection = is_collection(req->path);
    const char *verb = watch ? "WATCH" : collection && strcmp(req->method, "GET") == 0 ? "LIST" : req->method;
    pthread_mutex_lock(&api->lock);
    api->counts.requests++;
    api->counts.lists += strcmp(verb, "LIST") == 0;
    api->counts.watches += watch;
    snprintf(api->counts.authorization, sizeof(api->counts.authorization), "%s", auth ? auth : "");
    if (kp_streq(api->refuse.path, req->path)) {
        answer(req, api->refuse.status, api->refuse.body);
    } else if (api->fail.count > 0 && strcmp(api->fail.method, verb) == 0) {
        api->fail.count--;
        if (api->fail.status == 0 && api->n_hung < HUNG_MAX)
            api->hung[api->n_hung++] = http_request_ref(req);
        else
            answer(req, api->fail.status, api->fail.body);
    } else if (watch) {
        start_watch(api, req);
    } else if (strcmp(verb, "LIST") == 0) {
        list_objects(api, req);
    } else {
        change(api, req);
    }
    pthread_mutex_unlock(&api->lock);
}

struct fake_api *fake_api_new(struct loop *loop)
{
    struct fake_api *api = kp_calloc(1, sizeof(*api));
    struct kp_error error = {0};
    api->loop = loop;
    api->version = 100;
    api->objects = kp_strmap_new();
    pthread_mutex_init(&api->lock, NULL);
    api->pool = pool_new("fake-api", 2, 100);
    const struct http_server_config config = {.host = "127.0.0.1", .pool = api->pool, .handler = handle, .arg = api};
    if (http_server_new(loop, &config, &api->server, &error) < 0)
        abort();
    snprintf(api->url, sizeof(api->url), "http://127.0.0.1:%u", http_server_port(api->server));
    return api;
}

void fake_api_free(struct fake_api *api)
{
    fake_api_drop_watches(api);
    for (size_t i = 0; i < api->n_hung; i++)
        http_request_unref(api->hung[i]);
    http_server_free(api->server);
    pool_free(api->pool);
    kp_strmap_free(api->objects, free);
    free(api->fail.body);
    free(api->refuse.path);
    free(api->refuse.body);
    pthread_mutex_destroy(&api->lock);
    free(api);
}

const char *fake_api_url(const struct fake_api *api)
{
    return api->url;
}

void fake_api_put(struct fake_api *api, const char *collection, const char *json, bool silent)
{
    pthread_mutex_lock(&api->lock);
    keep(api, collection, json, silent);
    pthread_mutex_unlock(&api->lock);
}

void fake_api_remove(struct fake_api *api, const char *collection, const char *name, bool silent)
{
    KP_AUTO_FREE char *key = kp_asprintf("%s/%s", collection, name);
    pthread_mutex_lock(&api->lock);
    char *json = kp_strmap_remove(api->objects, key);
    api->version++;
    if (json && !silent)
        tell(api, collection, "DELETED", json);
    free(json);
    pthread_mutex_unlock(&api->lock);
}

char *fake_api_get(struct fake_api *api, const char *collection, const char *name)
{
    KP_AUTO_FREE char *key = kp_asprintf("%s/%s", collection, name);
    pthread_mutex_lock(&api->lock);
    char *json = kp_strdup(kp_strmap_get(api->objects, key));
    pthread_mutex_unlock(&api->lock);
    return json;
}

void fake_api_drop_watches(struct fake_api *api)
{
    pthread_mutex_lock(&api->lock);
    for (size_t i = 0; i < api->n_watches; i++) {
        http_stream_end(api->watches[i].stream);
        http_stream_unref(api->watches[i].stream);
        free(api->watches[i].collection);
    }
    api->n_watches = 0;
    pthread_mutex_unlock(&api->lock);
}

void fake_api_send(struct fake_api *api, const char *event)
{
    KP_AUTO_FREE char *line = kp_asprintf("%s\n", event);
    KP_AUTO(kp_blob_unref) struct kp_blob *blob = kp_blob_new(line, strlen(line));
    pthread_mutex_lock(&api->lock);
    for (size_t i = 0; i < api->n_watches; i++)
        http_stream_write(api->watches[i].stream, blob);
    pthread_mutex_unlock(&api->lock);
}

void fake_api_fail(struct fake_api *api, const char *method, int count, int status, const char *body)
{
    pthread_mutex_lock(&api->lock);
    snprintf(api->fail.method, sizeof(api->fail.method), "%s", method);
    free(api->fail.body);
    api->fail.body = kp_strdup(body ? body : "");
    api->fail.count = count;
    api->fail.status = status;
    pthread_mutex_unlock(&api->lock);
}

void fake_api_refuse(struct fake_api *api, const char *path, int status, const char *body)
{
    pthread_mutex_lock(&api->lock);
    free(api->refuse.path);
    free(api->refuse.body);
    api->refuse.path = kp_strdup(path);
    api->refuse.body = kp_strdup(body ? body : "");
    api->refuse.status = status;
    pthread_mutex_unlock(&api->lock);
}

struct fake_api_counts fake_api_counts(struct fake_api *api)
{
    pthread_mutex_lock(&api->lock);
    struct fake_api_counts counts = api->counts;
    pthread_mutex_unlock(&api->lock);
    return counts;
}
