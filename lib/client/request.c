/* Blocking requests against the API server, typed by the resource tables. */
#include "lib/base/version.h"
#include "lib/client/client_internal.h"
#include "lib/tls/tls.h"

#include <pthread.h>
#include <sys/stat.h>

/* The API's address moves to another machine when its holder dies; watches must notice in seconds, not when TCP does.
   (client-go: 30 s and 15 s.) A machine that took the address over answers the first ping with a reset. */
#define PING_INTERVAL_MS 3000
#define PING_TIMEOUT_MS 5000
#define CONNECT_TIMEOUT_MS 3000

#define CLIENT_TIMEOUT_MS_DEFAULT 30000
#define CLIENT_HEADERS_MAX 6
#define CLIENT_ERROR_BODY_MAX 65536

struct client {
    struct loop *loop;
    struct http_client *http;
    struct tls_context *tls;
    char *user_agent;
    char *token_file;
    int64_t timeout_ms;
    pthread_mutex_t token_lock;
    char *authorization; /* "Bearer ..." or NULL */
    struct timespec token_mtime;
    ino_t token_inode;
    bool token_read;
};

static _Thread_local int64_t thread_deadline_ms;

void client_thread_deadline(int64_t deadline_ms)
{
    thread_deadline_ms = deadline_ms;
}

struct loop *client_loop(const struct client *client)
{
    return client->loop;
}

static int make_tls(const struct client_config *config, struct tls_context **ret_tls, struct kp_error *error);

int client_new(struct loop *loop, const struct client_config *config, struct client **ret_client,
               struct kp_error *error)
{
    KP_AUTO(client_free) struct client *client = kp_calloc(1, sizeof(*client));
    pthread_mutex_init(&client->token_lock, NULL);
    client->loop = loop;
    client->timeout_ms = config->timeout_ms ? config->timeout_ms : CLIENT_TIMEOUT_MS_DEFAULT;
    client->user_agent = config->user_agent ? kp_strdup(config->user_agent) : kp_asprintf("kprov/%s", kp_version);
    client->token_file = kp_strdup(config->token_file);
    if (!kp_empty(config->token))
        client->authorization = kp_asprintf("Bearer %s", config->token);
    bool tls = false;
    for (size_t i = 0; i < config->n_servers; i++)
        tls |= kp_starts_with(config->servers[i], "https:");
    if (tls && make_tls(config, &client->tls, error) < 0)
        return error->code;
    struct http_client_config http = {
        .endpoints = config->servers,
        .endpoint_count = config->n_servers,
        .tls = client->tls,
        .tls_server_name = config->tls_server_name,
        .user_agent = client->user_agent,
        .connect_timeout_ms = CONNECT_TIMEOUT_MS,
        .ping_interval_ms = PING_INTERVAL_MS,
        .ping_timeout_ms = PING_TIMEOUT_MS,
    };
    if (http_client_new(loop, &http, &client->http, error) < 0)
        return error->code;
    *ret_client = KP_TAKE(client);
    return 0;
}

void client_free(struct client *client)
{
    if (!client)
        return;
    http_client_free(client->http);
    tls_context_unref(client->tls);
    pthread_mutex_destroy(&client->token_lock);
    free(client->authorization);
    free(client->user_agent);
    free(client->token_file);
    free(client);
}

static int make_tls(const struct client_config *config, struct tls_context **ret_tls, struct kp_error *error)
{
    static const char *const alpn[] = {"h2", "http/1.1", NULL};
    const struct tls_context_config tls = {
        .server = false,
        .cert_pem = config->client_cert_pem,
        .key_pem = config->client_key_pem,
        .ca_pem = config->ca_pem,
        .alpn = alpn,
    };
    return tls_context_new(&tls, ret_tls, error);
}

/* The value of the Authorization header, re-read when the token file was replaced. Copied into out. */
static bool authorization(struct client *client, struct kp_buf *out)
{
    pthread_mutex_lock(&client->token_lock);
    struct stat st;
    if (client->token_file && stat(client->token_file, &st) == 0 &&
        (!client->token_read || st.st_ino != client->token_inode || st.st_mtim.tv_sec != client->token_mtime.tv_sec ||
         st.st_mtim.tv_nsec != client->token_mtime.tv_nsec)) {
        KP_AUTO_BUF struct kp_buf token = {0};
        struct kp_error error = {0};
        if (kp_read_file(client->token_file, 65536, &token, &error) == 0) {
            while (token.len && (token.data[token.len - 1] == '\n' || token.data[token.len - 1] == ' '))
                token.data[--token.len] = '\0';
            free(client->authorization);
            client->authorization = kp_asprintf("Bearer %s", token.data ? token.data : "");
            client->token_mtime = st.st_mtim;
            client->token_inode = st.st_ino;
            client->token_read = true;
        } else {
            kp_warn("token not read", "file", client->token_file, "error", error.message, NULL);
        }
    }
    if (client->authorization)
        kp_buf_puts(out, client->authorization);
    pthread_mutex_unlock(&client->token_lock);
    return out->len > 0;
}

struct http_call *client_stream(struct client *client, const char *path, const char *accept, int64_t timeout_ms,
                                const struct http_call_callbacks *callbacks, void *arg)
{
    KP_AUTO_BUF struct kp_buf auth = {0};
    struct http_header headers[CLIENT_HEADERS_MAX] = {{"accept", accept}};
    size_t n = 1;
    if (authorization(client, &auth))
        headers[n++] = (struct http_header){"authorization", auth.data};
    const struct http_client_request request = {
        .method = "GET", .path = path, .headers = headers, .header_count = n, .timeout_ms = timeout_ms,
    };
    return http_client_stream(client->http, &request, callbacks, arg);
}

void client_resource_path(struct kp_buf *out, const struct kp_resource *resource, const char *ns, const char *name,
                          const char *subresource)
{
    if (kp_empty(resource->group))
        kp_buf_printf(out, "/api/%s", resource->version);
    else
        kp_buf_printf(out, "/apis/%s/%s", resource->group, resource->version);
    if (resource->namespaced && !kp_empty(ns)) {
        kp_buf_puts(out, "/namespaces/");
        http_percent_encode(out, ns, false);
    }
    kp_buf_printf(out, "/%s", resource->name);
    if (!kp_empty(name)) {
        kp_buf_putc(out, '/');
        http_percent_encode(out, name, false);
    }
    if (!kp_empty(subresource))
        kp_buf_printf(out, "/%s", subresource);
}

/* ---- errors ------------------------------------------------------------------------------------------------------ */
static int code_of_reason(const char *reason, int http_status)
{
    for (int code = -1; code >= KP_CODE_MIN; code--)
        if (!kp_empty(reason) && kp_streq(kp_code_info(code)->reason, reason))
            return code;
    if (http_status == 409) /* several codes share it; without a reason a lost race is the likelier */
        return KP_ECONFLICT;
    for (int code = -1; code >= KP_CODE_MIN; code--)
        if (kp_code_info(code)->http_status == http_status)
            return code;
    return http_status >= 500 ? KP_EUNAVAILABLE : KP_EBADREQUEST;
}

int client_status_to_error(const char *body, size_t len, int http_status, struct kp_error *error)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    struct kp_decode decode = {0};
    struct kp_error ignored = {0};
    void *decoded = NULL;
    if (len && kp_json_decode(&k8s_status_type, body, len, arena, &decode, &decoded, &ignored) == 0 &&
        kp_streq(decode.kind, "Status")) {
        const struct k8s_status *status = decoded;
        return kp_fail(error, code_of_reason(status->reason, status->has_code ? (int)status->code : http_status), "%s",
                       status->message ? status->message : status->reason ? status->reason : "unknown error");
    }
    return kp_fail(error, code_of_reason(NULL, http_status), "HTTP %d: %.*s", http_status,
                   (int)KP_MIN(len, (size_t)400), body ? body : "");
}

/* ---- the one way out ----------------------------------------------------------------------------------------------- */
#define ACCEPT_OBJECTS "application/json"
#define ACCEPT_METADATA_LIST "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"

static int send_request(struct client *client, const char *method, const char *path, const char *accept, const char *content_type,
                        const void *body, size_t body_len, struct kp_arena *arena, struct http_response *response,
                        struct kp_error *error)
{
    KP_AUTO_BUF struct kp_buf auth = {0};
    struct http_header headers[CLIENT_HEADERS_MAX] = {{"accept", accept}};
    size_t n = 1;
    if (authorization(client, &auth))
        headers[n++] = (struct http_header){"authorization", auth.data};
    if (body)
        headers[n++] = (struct http_header){"content-type", content_type ? content_type : "application/json"};
    int64_t timeout_ms = client->timeout_ms;
    if (thread_deadline_ms) {
        timeout_ms = KP_MIN(timeout_ms, thread_deadline_ms - kp_mono_ms());
        if (timeout_ms <= 0)
            return kp_fail(error, KP_ETIMEOUT, "%s %s: no time is left", method, path);
    }
    const struct http_client_request request = {
        .method = method,
        .path = path,
        .headers = headers,
        .header_count = n,
        .body = body,
        .body_len = body_len,
        .timeout_ms = timeout_ms,
    };
    int code = http_client_do(client->http, &request, arena, response, error); /* its error names method and path */
    if (code < 0)
        return code;
    if (response->status >= 400)
        return client_status_to_error((const char *)response->body.data, response->body.len, response->status, error);
    return 0;
}

int client_websocket(struct client *client, const char *path, const char *const *protocols, struct http_cancel *cancel, struct ws **ret_ws,
                     struct kp_error *error)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    KP_AUTO_BUF struct kp_buf auth = {0};
    struct http_response response = {0};
    struct http_header header = {"authorization", NULL};
    if (authorization(client, &auth))
        header.value = auth.data;
    const struct http_client_request request = {
        .path = path, .headers = &header, .header_count = auth.len ? 1 : 0, .timeout_ms = client->timeout_ms, .cancel = cancel,
    };
    int code = ws_connect(client->http, &request, protocols, arena, &response, NULL, ret_ws, error);
    if (code < 0 && response.status >= 400)
        return client_status_to_error((const char *)response.body.data, response.body.len, response.status, error);
    return code;
}

static int exchange_as(struct client *client, const char *method, const char *path, const char *accept, const char *content_type,
                       const void *body, size_t body_len, const struct kp_type *type, struct kp_arena *arena,
                       void **ret_obj, struct kp_error *error)
{
    KP_AUTO(kp_arena_free) struct kp_arena *own = kp_arena_new(0);
    struct http_response response = {0};
    struct kp_error local = {0};
    if (!error)
        error = &local;
    if (send_request(client, method, path, accept, content_type, body, body_len, own, &response, error) < 0)
        return error->code;
    if (!ret_obj)
        return 0;
    if (kp_json_decode(type, (const char *)response.body.data, response.body.len, arena, NULL, ret_obj, error) < 0)
        return kp_wrap(error, "answer to %s %s", method, path);
    return 0;
}

static int exchange(struct client *client, const char *method, const char *path, const char *content_type,
                    const void *body, size_t body_len, const struct kp_type *type, struct kp_arena *arena,
                    void **ret_obj, struct kp_error *error)
{
    return exchange_as(client, method, path, ACCEPT_OBJECTS, content_type, body, body_len, type, arena, ret_obj, error);
}

static void write_query(struct kp_buf *path, const struct client_write_options *options)
{
    if (!options)
        return;
    if (options->field_manager)
        http_query_append(path, "fieldManager", options->field_manager);
    if (options->force)
        http_query_append(path, "force", "true");
    if (options->dry_run)
        http_query_append(path, "dryRun", "All");
}

int client_get(struct client *client, const struct kp_resource *resource, const char *ns, const char *name,
               struct kp_arena *arena, void **ret_obj, struct kp_error *error)
{
    KP_AUTO_BUF struct kp_buf path = {0};
    client_resource_path(&path, resource, ns, name, NULL);
    return exchange(client, "GET", path.data, NULL, NULL, 0, resource->type, arena, ret_obj, error);
}

int client_get_sub(struct client *client, const struct kp_resource *resource, const char *ns, const char *name, const char *subresource,
                   const struct kp_type *body_type, struct kp_arena *arena, void **ret_obj, struct kp_error *error)
{
    KP_AUTO_BUF struct kp_buf path = {0};
    client_resource_path(&path, resource, ns, name, subresource);
    return exchange(client, "GET", path.data, NULL, NULL, 0, body_type, arena, ret_obj, error);
}

int client_get_cached(struct client *client, const struct kp_resource *resource, const char *ns, const char *name,
                      struct kp_arena *arena, void **ret_obj, struct kp_error *error)
{
    KP_AUTO_BUF struct kp_buf path = {0};
    client_resource_path(&path, resource, ns, name, NULL);
    http_query_append(&path, "resourceVersion", "0");
    return exchange(client, "GET", path.data, NULL, NULL, 0, resource->type, arena, ret_obj, error);
}

int client_list(struct client *client, const struct kp_resource *resource, const char *ns,
                const struct client_list_options *options, struct kp_arena *arena, void **ret_list,
                struct kp_error *error)
{
    KP_AUTO_BUF struct kp_buf path = {0};
    client_resource_path(&path, resource, ns, NULL, NULL);
    if (options && options->label_selector)
        http_query_append(&path, "labelSelector", options->label_selector);
    if (options && options->field_selector)
        http_query_append(&path, "fieldSelector", options->field_selector);
    if (options && options->resource_version)
        http_query_append(&path, "resourceVersion", options->resource_version);
    if (options && options->continue_token)
        http_query_append(&path, "continue", options->continue_token);
    if (options && options->limit > 0) {
        char limit[24];
        snprintf(limit, sizeof(limit), "%lld", (long long)options->limit);
        http_query_append(&path, "limit", limit);
    }
    if (options && options->metadata)
        return exchange_as(client, "GET", path.data, ACCEPT_METADATA_LIST, NULL, NULL, 0, &k8s_partial_object_metadata_list_type, arena, ret_list, error);
    return exchange(client, "GET", path.data, NULL, NULL, 0, resource->list_type, arena, ret_list, error);
}

int client_create(struct client *client, const struct kp_resource *resource, const char *ns, const void *obj,
                  const struct client_write_options *options, struct kp_arena *arena, void **ret_obj,
                  struct kp_error *error)
{
    KP_AUTO_BUF struct kp_buf path = {0}, body = {0};
    client_resource_path(&path, resource, ns, NULL, NULL);
    write_query(&path, options);
    kp_json_encode(resource->type, obj, &body);
    return exchange(client, "POST", path.data, NULL, body.data, body.len, resource->type, arena, ret_obj, error);
}

int client_create_sub(struct client *client, const struct kp_resource *resource, const char *ns, const char *name,
                      const char *subresource, const struct kp_type *body_type, const void *body_obj,
                      struct kp_arena *arena, void **ret_obj, struct kp_error *error)
{
    KP_AUTO_BUF struct kp_buf path = {0}, body = {0};
    client_resource_path(&path, resource, ns, name, subresource);
    kp_json_encode(body_type, body_obj, &body);
    return exchange(client, "POST", path.data, NULL, body.data, body.len, body_type, arena, ret_obj, error);
}

int client_update(struct client *client, const struct kp_resource *resource, const void *obj,
                  const struct client_write_options *options, struct kp_arena *arena, void **ret_obj,
                  struct kp_error *error)
{
    KP_AUTO_BUF struct kp_buf path = {0}, body = {0};
    const struct k8s_object_meta *meta = kp_object_meta(resource->type, obj);
    client_resource_path(&path, resource, meta->namespace, meta->name, options ? options->subresource : NULL);
    write_query(&path, options);
    kp_json_encode(resource->type, obj, &body);
    return exchange(client, "PUT", path.data, NULL, body.data, body.len, resource->type, arena, ret_obj, error);
}

int client_patch(struct client *client, const struct kp_resource *resource, const char *ns, const char *name,
                 enum client_patch type, const char *body, size_t body_len,
                 const struct client_write_options *options, struct kp_arena *arena, void **ret_obj,
                 struct kp_error *error)
{
    static const char *const media[] = {
        [CLIENT_PATCH_JSON] = "application/json-patch+json",
        [CLIENT_PATCH_MERGE] = "application/merge-patch+json",
        [CLIENT_PATCH_STRATEGIC] = "application/strategic-merge-patch+json",
        [CLIENT_PATCH_APPLY] = "application/apply-patch+yaml",
    };
    KP_AUTO_BUF struct kp_buf path = {0};
    client_resource_path(&path, resource, ns, name, options ? options->subresource : NULL);
    write_query(&path, options);
    return exchange(client, "PATCH", path.data, media[type], body, body_len, resource->type, arena, ret_obj, error);
}

int client_delete(struct client *client, const struct kp_resource *resource, const char *ns, const char *name,
                  const struct client_delete_options *options, struct kp_error *error)
{
    KP_AUTO_BUF struct kp_buf path = {0}, body = {0};
    client_resource_path(&path, resource, ns, name, NULL);
    kp_buf_puts(&body, "{\"kind\":\"DeleteOptions\",\"apiVersion\":\"v1\"");
    if (options && options->grace_period_s >= 0)
        kp_buf_printf(&body, ",\"gracePeriodSeconds\":%lld", (long long)options->grace_period_s);
    if (options && options->propagation) {
        kp_buf_puts(&body, ",\"propagationPolicy\":");
        kp_json_string(&body, options->propagation);
    }
    if (options && (options->uid || options->resource_version)) {
        kp_buf_puts(&body, ",\"preconditions\":{");
        if (options->uid) {
            kp_buf_puts(&body, "\"uid\":");
            kp_json_string(&body, options->uid);
        }
        if (options->resource_version) {
            kp_buf_puts(&body, options->uid ? ",\"resourceVersion\":" : "\"resourceVersion\":");
            kp_json_string(&body, options->resource_version);
        }
        kp_buf_putc(&body, '}');
    }
    kp_buf_putc(&body, '}');
    return exchange(client, "DELETE", path.data, NULL, body.data, body.len, NULL, NULL, NULL, error);
}

int client_delete_collection(struct client *client, const struct kp_resource *resource, const char *ns,
                             const char *label_selector, const char *field_selector, struct kp_error *error)
{
    KP_AUTO_BUF struct kp_buf path = {0};
    client_resource_path(&path, resource, ns, NULL, NULL);
    if (label_selector)
        http_query_append(&path, "labelSelector", label_selector);
    if (field_selector)
        http_query_append(&path, "fieldSelector", field_selector);
    return exchange(client, "DELETE", path.data, NULL, NULL, 0, NULL, NULL, NULL, error);
}

int client_raw(struct client *client, const char *method, const char *path, const char *content_type,
               const void *body, size_t body_len, struct kp_buf *out, int *ret_status, struct kp_error *error)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    struct http_response response = {0};
    int code = send_request(client, method, path, ACCEPT_OBJECTS, content_type, body, body_len, arena, &response, error);
    if (ret_status)
        *ret_status = response.status;
    if (out && response.body.data)
        kp_buf_append(out, response.body.data, response.body.len);
    return code;
}
