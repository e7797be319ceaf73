/* The way of every request: limits, who asks, whether they may, what for - and the server's own life. */
#include "controlplane/apiserver/http/http_internal.h"

#include "controlplane/apiserver/openapi/openapi.h"

static const double duration_buckets[] = {0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1, 2, 4, 6, 10, 30, 60};

static bool is(const char *a, const char *b)
{
    return strcmp(a, b) == 0;
}

bool api_long_running(const struct request_info *info)
{
    static const char *const subresources[] = {"log", "exec", "attach", "portforward", "proxy"};
    if (is(info->verb, "watch"))
        return true;
    for (size_t i = 0; i < KP_ARRAY_LEN(subresources); i++)
        if (is(info->subresource, subresources[i]))
            return true;
    return false;
}

/* ---- in-flight limits ------------------------------------------------------------------------------------------------------ */
static bool mutating(const struct request_info *info)
{
    return !(is(info->verb, "get") || is(info->verb, "list") || is(info->verb, "watch") || is(info->verb, "head") || is(info->verb, "options"));
}

static unsigned *counter(struct api_request *ar)
{
    return mutating(&ar->info) ? &ar->server->mutating : &ar->server->readonly;
}

static bool enter(struct api_request *ar)
{
    const struct api_server_config *config = &ar->server->config;
    unsigned max = mutating(&ar->info) ? config->max_mutating : config->max_readonly;
    if (__atomic_add_fetch(counter(ar), 1, __ATOMIC_ACQ_REL) <= max)
        return true;
    __atomic_sub_fetch(counter(ar), 1, __ATOMIC_ACQ_REL);
    return false;
}

static void respond_too_many(struct api_request *ar)
{
    kp_metric_add(ar->server->rejected, 1, mutating(&ar->info) ? "mutating" : "readOnly");
    status_too_many(&ar->status, 1, "The apiserver is currently overloaded, please try again later.");
    respond_status(ar);
}

/* ---- who, and may they ------------------------------------------------------------------------------------------------------ */
static void forbidden(struct api_request *ar, const char *reason)
{
    const struct request_info *info = &ar->info;
    struct kp_arena *arena = ar->arena;
    const char *user = ar->user.name;
    const char *tail = kp_empty(reason) ? "" : kp_arena_printf(arena, ": %s", reason);
    if (!info->resource_request) {
        status_forbidden(&ar->status, "", "", "", "User \"%s\" cannot %s path \"%s\"%s", user, info->verb, info->path, tail);
    } else {
        const char *resource = *info->subresource ? kp_arena_printf(arena, "%s/%s", info->resource, info->subresource) : info->resource;
        const char *where = *info->ns ? kp_arena_printf(arena, "in the namespace \"%s\"", info->ns) : "at the cluster scope";
        status_forbidden(&ar->status, info->group, info->resource, info->name, "User \"%s\" cannot %s resource \"%s\" in API group \"%s\" %s%s", user, info->verb,
                         resource, info->group, where, tail);
    }
    respond_status(ar);
}

static int impersonate(struct api_request *ar)
{
    const char *name = ar->user.name;
    int code = auth_impersonate(ar->server->config.auth, ar->http, &ar->user, &ar->status);
    if (ar->audit && code == 0 && ar->user.name != name) /* it is the header's */
        audit_impersonated(ar->audit, &ar->user);
    return code;
}

static bool may(struct api_request *ar)
{
    struct auth *auth = ar->server->config.auth;
    const struct request_info *info = &ar->info;
    const char *labels = query_of(ar, "labelSelector"), *fields = query_of(ar, "fieldSelector"), *reason = "";
    bool known = auth_authenticate(auth, ar->http, &ar->user, &ar->status) == 0;
    if (!api_audit_begin(ar, known))
        return false;
    if (!known || impersonate(ar) < 0) {
        respond_status(ar);
        return false;
    }
    struct auth_attributes attributes = {.user = &ar->user,
                                         .verb = info->verb,
                                         .resource_request = info->resource_request,
                                         .group = info->group,
                                         .version = info->version,
                                         .resource = info->resource,
                                         .subresource = info->subresource,
                                         .ns = info->ns,
                                         .name = info->name,
                                         .path = info->path,
                                         .field_selector = fields ? fields : "",
                                         .label_selector = labels ? labels : ""};
    bool allowed = auth_authorize(auth, &attributes, ar->arena, &reason);
    audit_annotate(ar->audit, AUDIT_METADATA, "authorization.k8s.io/decision", allowed ? "allow" : "forbid");
    audit_annotate(ar->audit, AUDIT_METADATA, "authorization.k8s.io/reason", reason ? reason : "");
    if (allowed)
        return true;
    forbidden(ar, reason);
    return false;
}

/* ---- what for --------------------------------------------------------------------------------------------------------------- */
static void not_found(struct api_request *ar)
{
    status_fail(&ar->status, KP_ENOTFOUND, 404, "NotFound", "the server could not find the requested resource");
    ar->status.has_details = true;
    respond_status(ar);
}

static unsigned verb_bit(const char *verb)
{
    for (int bit = 0; bit < KP_VERB_COUNT; bit++)
        if (is(kp_verb_name((enum kp_verb)(1u << bit)), verb))
            return 1u << bit;
    return 0;
}

static int parse_options(struct api_request *ar)
{
    const char *dry_run = query_of(ar, "dryRun"), *manager = query_of(ar, "fieldManager");
    struct field_errors errors = {.arena = ar->arena};
    if (!kp_empty(dry_run) && !is(dry_run, "All"))
        field_not_supported(&errors, dry_run, (const char *const[]){"All", NULL}, "dryRun");
    if (manager && strlen(manager) > 128)
        field_too_long(&errors, 128, "fieldManager");
    if (status_invalid(&ar->status, "meta.k8s.io", "CreateOptions", "", &errors) < 0)
        return ar->status.code;
    ar->rq.dry_run = !kp_empty(dry_run);
    if (!kp_empty(manager)) {
        ar->rq.field_manager = manager;
    } else { /* as upstream: the first word of the user agent */
        const char *agent = http_request_header(ar->http, "user-agent");
        size_t len = agent ? strcspn(agent, "/") : 0;
        ar->rq.field_manager = len ? kp_arena_strndup(ar->arena, agent, KP_MIN(len, (size_t)128)) : "unknown";
    }
    return 0;
}

static int find_resource(struct api_request *ar)
{
    const struct request_info *info = &ar->info;
    ar->resource = kp_resource_find(info->group, info->version, info->resource);
    if (!ar->resource || (builtin_metrics_has(ar->resource) && !builtin_metrics_on(ar->server)))
        return KP_ENOTFOUND;
    bool scoped = ar->resource->namespaced || is(info->resource, "namespaces");
    if (*info->ns && !scoped)
        return KP_ENOTFOUND;
    if (*info->subresource) {
        ar->subresource = kp_subresource_find(ar->resource, info->subresource);
        if (!ar->subresource)
            return KP_ENOTFOUND;
    }
    ar->rq = (struct registry_request){.arena = ar->arena,
                                       .user = &ar->user,
                                       .resource = ar->resource,
                                       .kind = registry_kind_of(ar->resource),
                                       .subresource = info->subresource,
                                       .ns = ar->resource->namespaced ? info->ns : "",
                                       .name = info->name,
                                       .field_manager = "unknown",
                                       .now_s = kp_now_s(),
                                       .audit = ar->audit,
                                       .status = &ar->status};
    return 0;
}

/* False when it has answered. */
static bool may_use_custom(struct api_request *ar)
{
    const char *warning = registry_custom_warning(ar->resource);
    if (warning)
        kp_string_list_add(ar->arena, &ar->rq.warnings, warning);
    if (!is(ar->info.verb, "create") || *ar->info.subresource || !registry_custom_terminating(ar->resource))
        return true;
    status_method_not_allowed(&ar->status, ar->info.group, ar->info.resource, ar->info.verb);
    ar->status.message = "create not allowed while custom resource definition is terminating";
    respond_status(ar);
    return false;
}

/* Nobody knows it, but definitions and APIServices that were there before this server may not be known yet. */
static void unknown_resource(struct api_request *ar)
{
    const struct api_server_config *config = &ar->server->config;
    if ((!config->custom || custom_synced(config->custom)) && (!config->aggregator || ar->view)) {
        not_found(ar);
        return;
    }
    status_too_many(&ar->status, 1, "custom resources and APIServices are being read");
    respond_status(ar);
}

static void dispatch_stored(struct api_request *ar)
{
    const char *verb = ar->info.verb;
    if (is(verb, "get"))
        handle_get(ar);
    else if (is(verb, "list"))
        handle_list(ar);
    else if (is(verb, "watch"))
        handle_watch(ar);
    else if (is(verb, "create"))
        handle_create(ar);
    else if (is(verb, "update"))
        handle_update(ar);
    else if (is(verb, "patch"))
        handle_patch(ar);
    else if (is(verb, "delete"))
        handle_delete(ar);
    else
        handle_delete_collection(ar);
}

static void dispatch_resource(struct api_request *ar)
{
    if (find_resource(ar) < 0) {
        unknown_resource(ar);
        return;
    }
    if (ar->resource->custom && !may_use_custom(ar))
        return;
    unsigned verbs = ar->subresource ? ar->subresource->verbs : ar->resource->verbs;
    bool all_namespaces = ar->resource->namespaced && !*ar->info.ns && !*ar->info.name && !is(ar->info.verb, "create");
    bool named_write = !*ar->info.name && (is(ar->info.verb, "update") || is(ar->info.verb, "patch"));
    bool across = is(ar->info.verb, "deletecollection") && all_namespaces;
    if (!(verbs & verb_bit(ar->info.verb)) || named_write || across || (is(ar->info.verb, "create") && *ar->info.name && !*ar->info.subresource)) {
        status_method_not_allowed(&ar->status, NULL, NULL, NULL);
        respond_status(ar);
        return;
    }
    if (negotiate_objects(ar) < 0 || parse_options(ar) < 0) {
        respond_status(ar);
        return;
    }
    if (handle_virtual(ar) || (*ar->info.subresource && handle_special(ar)))
        return;
    if (!ar->rq.kind) {
        not_found(ar);
        return;
    }
    dispatch_stored(ar);
}

static void respond_root(struct api_request *ar)
{
    static const char paths[] = "{\n  \"paths\": [\n    \"/api\",\n    \"/api/v1\",\n    \"/apis\",\n    \"/healthz\",\n    \"/livez\",\n    \"/metrics\",\n"
                                "    \"/openapi/v2\",\n    \"/openapi/v3\",\n    \"/openid/v1/jwks\",\n    \"/readyz\",\n    \"/version\"\n  ]\n}";
    respond_bytes(ar, 200, "application/json", paths, sizeof(paths) - 1);
}

static void dispatch_path(struct api_request *ar)
{
    const char *path = ar->http->path;
    KP_AUTO_BUF struct kp_buf out = {0};
    if (!is(ar->http->method, "GET") && !is(ar->http->method, "HEAD")) {
        status_method_not_allowed(&ar->status, NULL, NULL, NULL);
        respond_status(ar);
    } else if (is(path, "/")) {
        respond_root(ar);
    } else if (is(path, "/version") || is(path, "/version/")) {
        handle_version(ar);
    } else if (is(path, "/metrics")) {
        handle_metrics(ar);
    } else if (kp_starts_with(path, "/openapi/")) {
        ar->answered = true;
        api_audit_hand_over(ar);
        openapi_serve(ar->http, ar->view);
    } else if (is(path, "/.well-known/openid-configuration")) {
        auth_openid_configuration(ar->server->config.auth, ar->http->authority, &out);
        respond_bytes(ar, 200, "application/json", out.data, out.len);
    } else if (is(path, "/openid/v1/jwks")) {
        auth_jwks(ar->server->config.auth, &out);
        respond_bytes(ar, 200, "application/jwk-set+json", out.data, out.len);
    } else if (is(path, "/api") || is(path, "/apis") || kp_starts_with(path, "/api/") || kp_starts_with(path, "/apis/")) {
        handle_discovery(ar);
    } else if (!handle_health(ar)) {
        respond_text(ar, 404, "404 page not found\n");
    }
}

/* Before the caches are loaded nobody can be authorised, and an empty list would be a lie. */
static bool loaded(struct api_request *ar)
{
    if (!ar->info.resource_request || wcache_set_wait_ready(ar->server->config.caches, WCACHE_FRESH_TIMEOUT_MS))
        return true;
    status_too_many(&ar->status, 1, "storage is (re)initializing");
    respond_status(ar);
    return false;
}

static void serve(struct api_request *ar)
{
    bool limited = !api_long_running(&ar->info) && !kp_starts_with(ar->info.path, "/livez") && !kp_starts_with(ar->info.path, "/readyz") &&
                   !kp_starts_with(ar->info.path, "/healthz");
    if (limited && !enter(ar)) {
        respond_too_many(ar);
        return;
    }
    ar->counted = limited ? counter(ar) : NULL;
    if (loaded(ar) && may(ar) && !handle_aggregated(ar)) {
        if (ar->info.resource_request)
            dispatch_resource(ar);
        else
            dispatch_path(ar);
    }
    if (ar->counted)
        __atomic_sub_fetch(ar->counted, 1, __ATOMIC_ACQ_REL);
}

static void prepare(struct api_request *ar, struct http_request *req, struct api_server *server)
{
    char id[37];
    *ar = (struct api_request){.http = req, .arena = req->arena, .server = server, .status = API_STATUS(req->arena)};
    const char *audit = http_request_header(req, "audit-id");
    kp_uuid4(id);
    ar->audit_id = !kp_empty(audit) && strlen(audit) <= 64 ? audit : kp_arena_strdup(req->arena, id);
    request_info_parse(req->method, req->path, req->query, req->arena, &ar->info);
}

static void on_request(struct http_request *req, void *arg)
{
    struct api_server *server = arg;
    struct api_request ar;
    bool matters = kp_starts_with(req->path, "/apis") || kp_starts_with(req->path, "/openapi");
    KP_AUTO(aggregator_release) struct aggregator_view *view = matters ? aggregator_hold(server->config.aggregator) : NULL;
    prepare(&ar, req, server);
    ar.view = view;
    serve(&ar);
    KP_ASSERT(ar.answered);
    api_audit_leave(&ar);
}

static void on_overload(struct http_request *req, void *arg)
{
    struct api_request ar;
    prepare(&ar, req, arg);
    respond_too_many(&ar);
}

static void on_access(const struct http_access *access, void *arg)
{
    struct api_server *server = arg;
    char code[16];
    snprintf(code, sizeof(code), "%d", access->status);
    if (server->config.auditor)
        api_audit_closed(access);
    kp_metric_add(server->requests, 1.0, access->request->method, code);
    kp_metric_observe(server->durations, (double)access->duration_ns / 1e9, access->request->method);
    if (kp_log_enabled(KP_LOG_DEBUG)) {
        char ms[32];
        snprintf(ms, sizeof(ms), "%.1f", (double)access->duration_ns / 1e6);
        kp_debug("request", "method", access->request->method, "path", access->request->path, "code", code, "ms", ms, NULL);
    }
}

/* ---- life ------------------------------------------------------------------------------------------------------------------- */
static void make_metrics(struct api_server *server)
{
    static const char *const request_labels[] = {"verb", "code", NULL}, *const verb_label[] = {"verb", NULL}, *const kind_label[] = {"request_kind", NULL};
    server->requests = kp_counter("apiserver_request_total", "Requests by method and status code.", request_labels);
    server->durations = kp_histogram("apiserver_request_duration_seconds", "Time from headers to the last byte.", verb_label, duration_buckets,
                                     KP_ARRAY_LEN(duration_buckets));
    server->rejected = kp_counter("apiserver_dropped_requests_total", "Requests refused for load.", kind_label);
}

int api_server_new(const struct api_server_config *config, struct api_server **ret_server, struct kp_error *error)
{
    struct api_server *server = kp_calloc(1, sizeof(*server));
    server->config = *config;
    if (!server->config.max_mutating)
        server->config.max_mutating = API_MUTATING_IN_FLIGHT_MAX;
    if (!server->config.max_readonly)
        server->config.max_readonly = API_READONLY_IN_FLIGHT_MAX;
    server->pool = pool_new("api", API_HANDLER_THREADS_MAX, API_HANDLERS_QUEUED_MAX);
    make_metrics(server);
    struct http_server_config http = {.host = config->bind_address,
                                      .port = config->port,
                                      .tls = config->tls,
                                      .pool = server->pool,
                                      .handler = on_request,
                                      .on_overload = on_overload,
                                      .on_access = on_access,
                                      .arg = server,
                                      .body_bytes_max = API_BODY_BYTES_MAX,
                                      .stream_queued_max = API_WATCH_QUEUED_MAX};
    if (http_server_new(config->loop, &http, &server->http, error) < 0) {
        pool_free(server->pool);
        free(server);
        return error->code;
    }
    *ret_server = server;
    return 0;
}

uint16_t api_server_port(const struct api_server *server)
{
    return http_server_port(server->http);
}

void api_server_set_bootstrapped(struct api_server *server)
{
    __atomic_store_n(&server->bootstrapped, true, __ATOMIC_RELEASE);
}

void api_server_shutdown(struct api_server *server, int64_t timeout_ms)
{
    __atomic_store_n(&server->stopping, true, __ATOMIC_RELEASE);
    http_server_shutdown(server->http, timeout_ms);
}

void api_server_free(struct api_server *server)
{
    if (!server)
        return;
    http_server_free(server->http);
    pool_free(server->pool);
    free(server);
}
