/* get, list and watch of stored objects. */
#include "controlplane/apiserver/http/encode_internal.h"

void handle_get(struct api_request *ar)
{
    KP_AUTO(wcache_object_unref) struct wcache_object *object = NULL;
    if (registry_get(ar->server->config.registry, &ar->rq, query_of(ar, "resourceVersion"), &object) < 0)
        respond_status(ar);
    else
        respond_object(ar, 200, object);
}

static int check_fields(struct api_request *ar, const struct kp_selector *selector)
{
    for (size_t i = 0; i < selector->len; i++)
        if (!registry_field_selectable(ar->rq.kind, selector->items[i].key))
            return status_bad_request(&ar->status, "field label not supported: %s", selector->items[i].key); /* kubectl says of which list */
    return 0;
}

/* events.k8s.io has other names for the fields of an Event. */
static void rename_event_fields(struct api_request *ar, struct kp_selector *selector)
{
    if (strcmp(ar->info.group, "events.k8s.io") != 0)
        return;
    for (size_t i = 0; i < selector->len; i++) {
        const char *key = selector->items[i].key;
        if (kp_starts_with(key, "regarding."))
            selector->items[i].key = kp_arena_printf(ar->arena, "involvedObject.%s", key + strlen("regarding."));
        else if (strcmp(key, "reportingController") == 0)
            selector->items[i].key = "reportingComponent";
    }
}

static int parse_selectors(struct api_request *ar, struct wcache_filter *filter)
{
    const char *labels = query_of(ar, "labelSelector"), *fields = query_of(ar, "fieldSelector");
    struct kp_error error = {0};
    if (!kp_empty(labels)) {
        struct kp_selector *selector = KP_NEW(ar->arena, struct kp_selector);
        if (kp_label_selector_parse(labels, ar->arena, selector, &error) < 0)
            return status_bad_request(&ar->status, "%s", error.message);
        filter->labels = selector;
    }
    if (!kp_empty(fields)) {
        struct kp_selector *selector = KP_NEW(ar->arena, struct kp_selector);
        if (kp_field_selector_parse(fields, ar->arena, selector, &error) < 0)
            return status_bad_request(&ar->status, "%s", error.message);
        rename_event_fields(ar, selector);
        if (check_fields(ar, selector) < 0)
            return ar->status.code;
        filter->fields = selector->len ? selector : NULL;
    }
    return 0;
}

int list_options(struct api_request *ar, struct registry_list_options *ret_options)
{
    *ret_options = (struct registry_list_options){.resource_version = query_of(ar, "resourceVersion"),
                                                  .resource_version_match = query_of(ar, "resourceVersionMatch"),
                                                  .continue_token = query_of(ar, "continue")};
    const char *limit = query_of(ar, "limit");
    if (!kp_empty(limit) && (kp_parse_i64(limit, &ret_options->limit) < 0 || ret_options->limit < 0))
        return status_bad_request(&ar->status, "strconv.ParseInt: parsing \"%s\": invalid syntax", limit);
    ret_options->filter.ns = ar->info.ns;
    return parse_selectors(ar, &ret_options->filter);
}

void handle_list(struct api_request *ar)
{
    struct registry_list_options options;
    struct registry_list list;
    if (list_options(ar, &options) < 0) {
        respond_status(ar);
        return;
    }
    if (registry_list(ar->server->config.registry, &ar->rq, &options, &list) == 0) {
        respond_list(ar, &list);
        wcache_list_done(&list.objects);
        return;
    }
    if (ar->status.code == KP_EEXPIRED && !kp_empty(list.continue_token)) { /* the way on lies in the error's metadata */
        KP_AUTO_BUF struct kp_buf out = {0};
        kp_buf_puts(&out, "{\"kind\":\"Status\",\"apiVersion\":\"v1\",\"metadata\":{\"continue\":");
        kp_json_string(&out, list.continue_token);
        kp_buf_puts(&out, "},\"status\":\"Failure\",\"message\":");
        kp_json_string(&out, ar->status.message);
        kp_buf_puts(&out, ",\"reason\":\"Expired\",\"code\":410}");
        api_audit_status(ar, out.data, out.len);
        respond_bytes(ar, 410, "application/json", out.data, out.len);
        return;
    }
    respond_status(ar);
}

/* ---- watch ------------------------------------------------------------------------------------------------------------ */
struct watch_frames {
    struct encoding encoding;
    bool columns_told;
};

static struct kp_blob *make_frame(void *arg, enum wcache_event_type type, struct wcache_object *object)
{
    struct watch_frames *frames = arg;
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    KP_AUTO_BUF struct kp_buf body = {0}, out = {0};
    encode_object(&frames->encoding, object, !frames->columns_told, arena, &body);
    frames->columns_told = true;
    if (frames->encoding.form == OUT_PROTO) {
        KP_AUTO_BUF struct kp_buf event = {0};
        kp_proto_encode_watch_event(wcache_event_name(type), body.data, body.len, &event);
        uint8_t length[4] = {(uint8_t)(event.len >> 24), (uint8_t)(event.len >> 16), (uint8_t)(event.len >> 8), (uint8_t)event.len};
        kp_buf_append(&out, length, sizeof(length));
        kp_buf_append(&out, event.data, event.len);
    } else {
        kp_buf_printf(&out, "{\"type\":\"%s\",\"object\":", wcache_event_name(type));
        kp_buf_append(&out, body.data, body.len);
        kp_buf_puts(&out, "}\n");
    }
    return kp_blob_new(out.data, out.len);
}

static struct http_stream *start_stream(void *arg)
{
    struct api_request *ar = arg;
    struct http_header headers[API_HEADERS_MAX];
    const char *type = ar->out.form == OUT_PROTO ? "application/vnd.kubernetes.protobuf;stream=watch" : "application/json";
    size_t count = response_headers(ar, type, headers);
    ar->answered = true;
    audit_started(ar->audit, 200, false); /* the cache is locked while it is started: nothing may be waited for */
    api_audit_hand_over(ar);
    return http_stream_start(ar->http, 200, headers, count);
}

static int64_t watch_timeout_ms(struct api_request *ar)
{
    const char *text = query_of(ar, "timeoutSeconds");
    int64_t seconds = 0;
    if (!kp_empty(text) && kp_parse_i64(text, &seconds) == 0 && seconds > 0)
        return seconds * 1000;
    int64_t min_ms = ar->server->config.min_watch_timeout_s * 1000;
    return min_ms + (int64_t)(kp_random_u64() % (uint64_t)min_ms);
}

static int watch_start(struct api_request *ar, const struct registry_list_options *options, struct wcache_watch_request *request)
{
    struct api_server *server = ar->server;
    const char *version = options->resource_version;
    bool watch_list = query_true(ar, "sendInitialEvents");
    struct field_errors errors = {.arena = ar->arena};
    if (watch_list && !kp_streq(options->resource_version_match, "NotOlderThan"))
        field_forbidden(&errors, "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan", "resourceVersionMatch");
    if (!watch_list && !kp_empty(options->resource_version_match))
        field_forbidden(&errors, "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided", "resourceVersionMatch");
    if (status_invalid(&ar->status, "meta.k8s.io", "ListOptions", "", &errors) < 0)
        return ar->status.code;
    bool none = kp_empty(version), zero = !none && strcmp(version, "0") == 0;
    uint64_t revision = 0;
    if (!none && (kp_parse_u64(version, &revision) < 0 || revision > INT64_MAX))
        return status_bad_request(&ar->status, "Invalid value: \"%s\": strconv.ParseUint: parsing \"%s\": invalid syntax", version, version);
    request->revision = (int64_t)revision;
    request->initial = watch_list || none || zero;
    if (!none && !zero && query_of(ar, "sendInitialEvents") && !watch_list)
        request->initial = false;
    request->initial_bookmark = watch_list && request->bookmarks;
    if (watch_list || none)
        return registry_wait(server->config.registry, &ar->rq, watch_list && !none ? version : "");
    return 0;
}

/* Upstream accepts the watch and tells in its stream that the version is too old. */
static void respond_expired(struct api_request *ar)
{
    KP_AUTO_BUF struct kp_buf out = {0};
    if (ar->out.form == OUT_PROTO) {
        respond_status(ar);
        return;
    }
    kp_buf_puts(&out, "{\"type\":\"ERROR\",\"object\":");
    status_encode(&ar->status, &out);
    kp_buf_puts(&out, "}\n");
    KP_AUTO(http_stream_unref) struct http_stream *stream = start_stream(ar);
    KP_AUTO(kp_blob_unref) struct kp_blob *blob = kp_blob_new(out.data, out.len);
    if (http_stream_write(stream, blob) == 0)
        http_stream_end(stream);
}

void handle_watch(struct api_request *ar)
{
    struct registry_list_options options;
    struct wcache_watch_request request = {.bookmarks = query_true(ar, "allowWatchBookmarks"), .timeout_ms = watch_timeout_ms(ar)};
    if (ar->out.form == OUT_YAML) /* a watch has no YAML form */
        ar->out.form = OUT_JSON;
    if (list_options(ar, &options) < 0 || watch_start(ar, &options, &request) < 0) {
        respond_status(ar);
        return;
    }
    request.filter = options.filter;
    if (kp_empty(request.filter.name) && *ar->info.name)
        request.filter.name = ar->info.name;
    struct encoding encoding = encoding_of(ar);
    if (!encoding_is_plain(&encoding)) {
        struct watch_frames *frames = kp_calloc(1, sizeof(*frames));
        frames->encoding = encoding;
        request.frame = make_frame;
        request.arg = frames;
        request.free_arg = free;
    }
    if (wcache_watch(registry_cache_of(ar->server->config.registry, ar->rq.kind), &request, start_stream, ar, &ar->status) == 0)
        return;
    if (ar->status.code == KP_EEXPIRED)
        respond_expired(ar);
    else
        respond_status(ar);
}
