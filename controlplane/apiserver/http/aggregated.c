/* Requests for group versions that other API servers serve: who asks is told in headers, and the rest is theirs (upstream: kube-aggregator,
 * handler_proxy.go). Authentication, authorisation and limits have been ours before this. */
#include "controlplane/apiserver/http/relay_internal.h"

#define REQUEST_TIMEOUT_S 60
#define OPENAPI_V3 "/openapi/v3"

static bool is_one_of(const char *name, const char *const *names)
{
    for (size_t i = 0; names[i]; i++)
        if (strcasecmp(name, names[i]) == 0)
            return true;
    return false;
}

/* Of "/apis/<group>/<version>", what is below, and the document of it. */
static const struct aggregator_entry *find_route(struct api_request *ar)
{
    const char *path = ar->http->path;
    if (kp_starts_with(path, OPENAPI_V3 "/apis/"))
        path += strlen(OPENAPI_V3);
    if (!ar->view || !kp_starts_with(path, "/apis/"))
        return NULL;
    const char *group = path + strlen("/apis/"), *slash = strchr(group, '/');
    if (!slash || slash == group)
        return NULL;
    const char *version = kp_arena_strndup(ar->arena, slash + 1, strcspn(slash + 1, "/"));
    const struct aggregator_entry *entry = aggregator_find(ar->view, kp_arena_strndup(ar->arena, group, (size_t)(slash - group)), version);
    return entry && entry->remote ? entry : NULL;
}

/* ---- headers ----------------------------------------------------------------------------------------------------------------------- */
static void add(struct api_request *ar, struct aggregator_headers *headers, const char *name, const char *value)
{
    *KP_LIST_ADD(ar->arena, headers) = (struct http_header){name, value};
}

/* What a client may not say to a server that believes it, and what is said anew. */
static bool is_dropped(const char *name, bool upgrade)
{
    static const char *const own[] = {"authorization",     "host",       "x-forwarded-for",  "x-forwarded-host", "x-forwarded-proto", "x-forwarded-uri", "audit-id",
                                      "expect",            "impersonate-user", "impersonate-group", "impersonate-uid", NULL};
    if (relay_hop_by_hop(name))
        return !(upgrade && strcasecmp(name, "upgrade") == 0);
    return is_one_of(name, own) || aggregator_is_user_header(name) || strncasecmp(name, "impersonate-extra-", strlen("impersonate-extra-")) == 0;
}

/* "192.0.2.1" of "192.0.2.1:51234", "2001:db8::1" of "[2001:db8::1]:51234". */
static const char *peer_host(struct api_request *ar)
{
    const char *peer = ar->http->peer_address ? ar->http->peer_address : "", *colon = strrchr(peer, ':');
    const char *host = kp_arena_strndup(ar->arena, peer, colon ? (size_t)(colon - peer) : strlen(peer));
    return *host == '[' ? kp_arena_strndup(ar->arena, host + 1, strcspn(host + 1, "]")) : host;
}

static struct aggregator_headers make_headers(struct api_request *ar, const char *host)
{
    struct aggregator_headers headers = {0};
    const char *forwarded = http_request_header(ar->http, "x-forwarded-for"), *peer = peer_host(ar);
    bool upgrade = relay_is_upgrade(ar);
    add(ar, &headers, "Host", host);
    for (size_t i = 0; i < ar->http->header_count; i++)
        if (!is_dropped(ar->http->headers[i].name, upgrade))
            add(ar, &headers, ar->http->headers[i].name, ar->http->headers[i].value);
    aggregator_add_user(&ar->user, ar->arena, &headers);
    add(ar, &headers, "X-Forwarded-For", kp_empty(forwarded) ? peer : kp_arena_printf(ar->arena, "%s, %s", forwarded, peer));
    add(ar, &headers, "X-Forwarded-Host", host);
    add(ar, &headers, "X-Forwarded-Proto", "https");
    add(ar, &headers, "X-Forwarded-Uri", ar->http->raw_path);
    add(ar, &headers, "Audit-Id", ar->audit_id);
    return headers;
}

/* A name that breaks a line would make headers of its own. */
static const char *find_invalid(const struct aggregator_headers *headers)
{
    for (size_t i = 0; i < headers->len; i++)
        for (const char *c = headers->items[i].value; *c; c++)
            if (((unsigned char)*c < 0x20 && *c != '\t') || *c == 0x7f)
                return headers->items[i].name;
    return NULL;
}

/* ---- passing on ------------------------------------------------------------------------------------------------------------------- */
static void respond_plain(struct api_request *ar, int status, const char *text)
{
    ar->answered = true;
    api_audit_answered(ar, status);
    relay_respond_plain(ar->http, status, text);
}

static void release(void *client)
{
    backend_client_unref(client);
}

static bool is_plain(const char *text)
{
    for (const char *c = text; *c; c++)
        if ((unsigned char)*c <= 0x20 || *c == 0x7f)
            return false;
    return true;
}

static void pass_on(struct api_request *ar, const struct aggregator_entry *entry)
{
    const struct backend backend = aggregator_backend(entry);
    struct backend_client *client = NULL;
    struct kp_error error = {0};
    struct aggregator_headers headers = make_headers(ar, backend_host(&backend, ar->arena));
    const char *invalid = find_invalid(&headers), *query = ar->http->query;
    int64_t timeout_s = ar->server->config.request_timeout_s > 0 ? ar->server->config.request_timeout_s : REQUEST_TIMEOUT_S;
    if (invalid || headers.len > HTTP_HEADER_COUNT_MAX) {
        respond_plain(ar, 503, invalid ? kp_arena_printf(ar->arena, "error trying to reach service: invalid header field value for \"%s\"", invalid)
                                       : "error trying to reach service: there are too many header fields");
        return;
    }
    if (!is_plain(ar->http->raw_path) || !is_plain(query)) { /* HTTP/2 carries what a line of HTTP/1.1 cannot */
        respond_plain(ar, 400, "the path is not a valid URL");
        return;
    }
    int code = backend_client_get(ar->server->config.backends, &backend, ar->arena, &client, &error);
    if (code < 0) {
        bool nobody = code == KP_ENOTFOUND || code == KP_EUNAVAILABLE;
        kp_warn("an aggregated API server cannot be asked", "name", entry->name, "error", error.message, NULL);
        respond_plain(ar, nobody ? 503 : 500, nobody ? "service unavailable" : error.message);
        return;
    }
    const struct relay_target target = {.client = backend_client_http(client),
                                        .release = release,
                                        .owner = client,
                                        .path = *query ? kp_arena_printf(ar->arena, "%s?%s", ar->http->raw_path, query) : ar->http->raw_path,
                                        .headers = headers.items,
                                        .header_count = headers.len,
                                        .timeout_ms = ar->counted ? timeout_s * 1000 : -1, /* what counts in flight is not long-running */
                                        .aggregated = true};
    relay_request(ar, &target);
}

bool handle_aggregated(struct api_request *ar)
{
    const struct aggregator_entry *entry = find_route(ar);
    if (!entry)
        return false;
    if (entry->available)
        pass_on(ar, entry);
    else
        respond_plain(ar, 503, "service unavailable");
    return true;
}
