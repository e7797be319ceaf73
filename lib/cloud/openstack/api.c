/* Requests to OpenStack's services: the token, its renewal, pages of lists, and what the clouds' many forms of errors mean. */
#include "cloud/openstack/openstack_internal.h"

#define DETAIL_DEPTH_MAX 3
#define PAGES_MAX 1000

const char *os_escape(const char *s, struct kp_arena *arena)
{
    KP_AUTO_BUF struct kp_buf out = {0};
    rest_escape(&out, s);
    return kp_arena_strdup(arena, out.data ? out.data : "");
}

const char *os_text(const json_t *value, const char *path, struct kp_arena *arena)
{
    return kp_arena_strdup(arena, rest_json_text(value, path));
}

/* Nova: {"badRequest": {"message": ...}}, Neutron: {"NeutronError": {"message": ...}}, Octavia: {"faultstring": ...}, Keystone: {"error": {"message": ...}}. */
static const char *find_message(const json_t *value, int depth)
{
    static const char *const keys[] = {"message", "faultstring"};
    for (size_t i = 0; i < KP_ARRAY_LEN(keys); i++)
        if (*rest_json_text(value, keys[i]))
            return rest_json_text(value, keys[i]);
    void *iter = depth < DETAIL_DEPTH_MAX && json_is_object(value) ? json_object_iter((json_t *)(uintptr_t)value) : NULL;
    for (; iter; iter = json_object_iter_next((json_t *)(uintptr_t)value, iter)) {
        const json_t *child = json_object_iter_value(iter);
        const char *message = json_is_string(child) ? "" : find_message(child, depth + 1);
        if (*message)
            return message;
        if (json_is_string(child) && (strcmp(json_object_iter_key(iter), "NeutronError") == 0 || strcmp(json_object_iter_key(iter), "error") == 0))
            return json_string_value(child);
    }
    return "";
}

const char *os_detail(const char *body, size_t len, struct kp_arena *arena)
{
    KP_AUTO(json_decref) json_t *document = NULL;
    struct kp_error ignored = {0}; /* what is no JSON is shown as it is */
    if (len && rest_json_parse(body, len, &document, &ignored) == 0 && *find_message(document, 0))
        return kp_arena_strdup(arena, find_message(document, 0));
    return kp_arena_strndup(arena, body, len < 300 ? len : 300);
}

int os_code(int status, const char *detail, int64_t retry_after_ms)
{
    if (status == 413 && (retry_after_ms > 0 || strcasestr(detail, "rate")))
        return KP_ETOOMANY; /* Nova's limit of requests in older releases */
    if ((status == 403 || status == 409 || status == 413) && strcasestr(detail, "quota"))
        return KP_EQUOTA;
    if (status == 409 && (strcasestr(detail, "No more IP addresses") || strcasestr(detail, "OverQuota")))
        return KP_EQUOTA;
    return rest_code(status);
}

static int fail(const struct os *os, const struct os_request *wanted, const struct rest_request *request, const struct rest_answer *answer, struct kp_arena *arena,
                struct kp_error *error)
{
    const char *detail = os_detail(answer->body, answer->body_len, arena);
    int code = os_code(answer->status, detail, answer->retry_after_ms);
    if (answer->status == 406 && wanted->service == OS_COMPUTE)
        return kp_fail(error, KP_ENOTSUPPORTED, "%s: this cloud's Nova does not speak compute %s (Queens) or newer: %s", wanted->operation, OS_COMPUTE_VERSION, detail);
    rest_fail(request, answer, detail, error);
    error->code = code;
    return code == KP_EFORBIDDEN ? kp_wrap(error, "%s may not do this in project %s, a role is missing", os->account.source, os->project_id) : code;
}

static int attempt(struct os *os, const struct os_request *wanted, const char *body, size_t len, const char *refused, struct kp_arena *arena,
                   const char **ret_token, struct rest_request *ret_request, struct rest_answer *ret, struct kp_error *error)
{
    int r = os_token(os, refused, arena, ret_token, error);
    if (r < 0)
        return r;
    if (!os->endpoints[wanted->service])
        return kp_fail(error, KP_ENOTSUPPORTED, "this cloud has no %s service in region %s", os_service_name(wanted->service), os->region);
    const char **headers = KP_NEW_ARRAY(arena, const char *, 5);
    size_t n = 0;
    headers[n++] = kp_arena_printf(arena, "X-Auth-Token: %s", *ret_token);
    headers[n++] = "Accept: application/json";
    if (wanted->service == OS_COMPUTE)
        headers[n++] = "OpenStack-API-Version: compute " OS_COMPUTE_VERSION;
    if (wanted->upload_len > 0 || body)
        headers[n++] = wanted->upload_len > 0 ? "Content-Type: application/octet-stream" : "Content-Type: application/json";
    *ret_request = (struct rest_request){
        .operation = wanted->operation, .method = wanted->method, .headers = headers, .body = body, .body_len = len, .repeatable = wanted->repeatable,
        .upload_fd = wanted->upload_fd, .upload_len = wanted->upload_len, .deadline_ms = wanted->upload_len > 0 ? OS_UPLOAD_MS : 0,
        .url = kp_arena_printf(arena, "%s%s", os->endpoints[wanted->service], wanted->path),
    };
    return rest_do(os->rest, ret_request, arena, ret, error);
}

int os_do(struct os *os, const struct os_request *wanted, json_t **ret, struct kp_error *error)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    KP_AUTO_BUF struct kp_buf body = {0};
    struct rest_request request;
    struct rest_answer answer;
    struct kp_error own = {0};
    const char *token = NULL, *refused = NULL;
    error = error ? error : &own;
    if (wanted->body)
        rest_json_write(&body, wanted->body);
    int r = attempt(os, wanted, body.data, body.len, NULL, arena, &refused, &request, &answer, error);
    if (r == 0 && answer.status == 401) /* ended early, or revoked: once with a new one */
        r = attempt(os, wanted, body.data, body.len, refused, arena, &token, &request, &answer, error);
    if (r < 0)
        return r;
    if (answer.status >= 300)
        return fail(os, wanted, &request, &answer, arena, error);
    if (!ret)
        return 0;
    *ret = NULL;
    if (!answer.body_len)
        return 0;
    return rest_json_parse(answer.body, answer.body_len, ret, error) < 0 ? kp_wrap(error, "%s: answer of %s", wanted->operation, os_service_name(wanted->service)) : 0;
}

int os_get(struct os *os, const char *operation, enum os_service service, const char *path, json_t **ret, struct kp_error *error)
{
    const struct os_request request = {.operation = operation, .service = service, .method = "GET", .path = path};
    int r = os_do(os, &request, ret, error);
    return r == 0 && !*ret ? kp_fail(error, KP_ECORRUPT, "%s: %s answered nothing", operation, os_service_name(service)) : r;
}

int os_send(struct os *os, const char *operation, enum os_service service, const char *method, const char *path, json_t *body, json_t **ret,
            struct kp_error *error)
{
    const struct os_request request = {.operation = operation, .service = service, .method = method, .path = path, .body = body};
    int r = os_do(os, &request, ret, error);
    return r == 0 && ret && !*ret ? kp_fail(error, KP_ECORRUPT, "%s: %s answered nothing", operation, os_service_name(service)) : r;
}

int os_delete(struct os *os, const char *operation, enum os_service service, const char *path, struct kp_error *error)
{
    const struct os_request request = {.operation = operation, .service = service, .method = "DELETE", .path = path};
    struct kp_error why = {0};
    int r = os_do(os, &request, NULL, &why);
    if (r == 0 || r == KP_ENOTFOUND)
        return 0;
    if (error)
        *error = why;
    return r;
}

/* Whether there is more: "servers_links": [{"rel": "next"}], or Glance's "next". The place is told by the last item's id, for the links'
   host is often not the one that is reached. */
static bool has_next(const json_t *page, const char *key)
{
    char links[64];
    snprintf(links, sizeof(links), "%s_links", key);
    const json_t *list = rest_json_at(page, links);
    for (size_t i = 0; i < json_array_size(list); i++)
        if (kp_streq(rest_json_text(json_array_get(list, i), "rel"), "next"))
            return true;
    return *rest_json_text(page, "next") != 0;
}

int os_list(struct os *os, const char *operation, enum os_service service, const char *path, const char *key, json_t **ret, struct kp_error *error)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    KP_AUTO(json_decref) json_t *all = json_array();
    const char *separator = strchr(path, '?') ? "&" : "?", *marker = NULL;
    for (int pages = 0; pages < PAGES_MAX; pages++) {
        KP_AUTO(json_decref) json_t *page = NULL;
        const char *url = kp_arena_printf(arena, "%s%slimit=%d%s%s", path, separator, OS_PAGE, marker ? "&marker=" : "", marker ? os_escape(marker, arena) : "");
        int r = os_get(os, operation, service, url, &page, error);
        if (r < 0)
            return r;
        json_t *items = json_object_get(page, key);
        if (!json_is_array(items))
            return kp_fail(error, KP_ECORRUPT, "%s: the answer of %s has no \"%s\"", operation, os_service_name(service), key);
        if (json_array_size(all) + json_array_size(items) > OS_ITEMS_MAX)
            return kp_fail(error, KP_ETOOLARGE, "%s: the project has more than %d %s", operation, OS_ITEMS_MAX, key);
        json_array_extend(all, items);
        size_t n = json_array_size(items);
        const char *last = n ? os_text(json_array_get(items, n - 1), "id", arena) : "";
        if (!*last || kp_streq(last, marker) || !has_next(page, key)) {
            *ret = KP_TAKE(all);
            return 0;
        }
        marker = last;
    }
    return kp_fail(error, KP_ETOOLARGE, "%s: more than %d pages of %s", operation, PAGES_MAX, key);
}

bool os_has_service(struct os *os, enum os_service service, struct kp_error *error)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    const char *token = NULL;
    return os_token(os, NULL, arena, &token, error) == 0 && os->endpoints[service];
}
