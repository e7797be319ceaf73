/* Whether the servers behind APIServices can be reached: what their Services say, then a request to each. Reasons, texts and times are upstream's
 * (kube-aggregator, pkg/controllers/status/remote). */
#include "controlplane/apiserver/aggregator/aggregator_internal.h"

static void *find(struct wcache_set *caches, const char *group, const char *resource, const char *key, const struct kp_type *type, struct kp_arena *arena)
{
    struct wcache *cache = wcache_find(caches, group, resource);
    KP_AUTO(wcache_object_unref) struct wcache_object *object = cache ? wcache_get(cache, key) : NULL;
    void *decoded;
    struct kp_error error = {0};
    if (!object || kp_json_decode(type, (const char *)object->json->data, object->json->len, arena, NULL, &decoded, &error) < 0)
        return NULL;
    return decoded;
}

static bool has_endpoint(const struct k8s_endpoint_slice *slice, const char *port_name)
{
    bool ready = false, port = false;
    for (size_t i = 0; i < slice->endpoints.len; i++) {
        const struct k8s_endpoint_conditions *conditions = slice->endpoints.items[i].conditions;
        ready |= !conditions || !conditions->has_ready || conditions->ready;
    }
    for (size_t i = 0; i < slice->ports.len; i++)
        port |= kp_streq(slice->ports.items[i].name ? slice->ports.items[i].name : "", port_name) && slice->ports.items[i].has_port;
    return ready && port;
}

/* How many slices the Service has; *ret_ready: one has an endpoint. */
static size_t look_at_slices(const struct k8s_apiregistration_service_reference *ref, const char *port_name, struct wcache_set *caches, struct kp_arena *arena,
                             bool *ret_ready)
{
    struct kp_string_list names = {0};
    kp_string_list_add(arena, &names, ref->name);
    struct kp_requirement requirement = {.key = "kubernetes.io/service-name", .op = KP_SEL_EQUALS, .values = names};
    const struct kp_selector selector = {.items = &requirement, .len = 1};
    const struct wcache_filter filter = {.ns = ref->namespace, .labels = &selector};
    struct wcache_list list = {0};
    wcache_list(wcache_find(caches, "discovery.k8s.io", "endpointslices"), &filter, NULL, 0, arena, &list);
    size_t count = list.len;
    *ret_ready = false;
    for (size_t i = 0; i < count && !*ret_ready; i++) {
        void *slice;
        struct kp_error error = {0};
        if (kp_json_decode(&k8s_endpoint_slice_type, (const char *)list.items[i]->json->data, list.items[i]->json->len, arena, NULL, &slice, &error) == 0)
            *ret_ready = has_endpoint(slice, port_name);
    }
    wcache_list_done(&list);
    return count;
}

/* A Service with an address must listen on the port, and have somebody behind it. */
static bool check_address(const struct k8s_apiregistration_service_reference *ref, const struct k8s_service *service, struct wcache_set *caches,
                          struct kp_arena *arena, const char **ret_reason, const char **ret_message)
{
    const struct k8s_service_port *port = NULL;
    bool ready;
    for (size_t i = 0; i < service->spec->ports.len && !port; i++)
        if (service->spec->ports.items[i].port == ref->port)
            port = &service->spec->ports.items[i];
    if (!port) {
        *ret_reason = "ServicePortError";
        *ret_message = kp_arena_printf(arena, "service/%s in \"%s\" is not listening on port %d", ref->name, ref->namespace, ref->port);
        return false;
    }
    const char *name = port->name ? port->name : "";
    if (!look_at_slices(ref, name, caches, arena, &ready)) {
        *ret_reason = "EndpointsNotFound";
        *ret_message = kp_arena_printf(arena, "cannot find endpointslices for service/%s in \"%s\"", ref->name, ref->namespace);
        return false;
    }
    if (!ready) {
        *ret_reason = "MissingEndpoints";
        *ret_message = kp_arena_printf(arena, "endpointslices for service/%s in \"%s\" have no addresses with port name \"%s\"", ref->name, ref->namespace, name);
        return false;
    }
    return true;
}

bool check_service(const api_service_t *api_service, struct wcache_set *caches, struct kp_arena *arena, const char **ret_reason, const char **ret_message,
                   const char **ret_url)
{
    const struct k8s_apiregistration_service_reference *ref = api_service->spec->service;
    const struct k8s_service *service = find(caches, "", "services", kp_arena_printf(arena, "%s/%s", ref->namespace, ref->name), &k8s_service_type, arena);
    if (!service) {
        *ret_reason = "ServiceNotFound";
        *ret_message = kp_arena_printf(arena, "service/%s in \"%s\" is not present", ref->name, ref->namespace);
        return false;
    }
    if (kp_streq(service->spec->type, "ClusterIP") && !check_address(ref, service, caches, arena, ret_reason, ret_message))
        return false;
    /* Endpoints are asked directly, at random; messages name the Service's address, as upstream's do, and so stay the same. */
    const char *address = service->spec->cluster_ip, *external = service->spec->external_name;
    const char *host = kp_arena_printf(arena, "%s.%s.svc", ref->name, ref->namespace);
    if (kp_streq(service->spec->type, "ExternalName") && !kp_empty(external))
        host = external;
    else if (!kp_empty(address) && strcmp(address, "None") != 0)
        host = strchr(address, ':') ? kp_arena_printf(arena, "[%s]", address) : address;
    *ret_url = kp_arena_printf(arena, "https://%s:%d/apis/%s/%s", host, ref->port, api_service->spec->group, api_service->spec->version);
    return true;
}

/* ---- what came of it ------------------------------------------------------------------------------------------------------------ */
struct finding {
    bool available;
    const char *reason, *message;
};

static int make_status(void *arg, struct registry_request *rq, const void *current, void **ret_new)
{
    const struct finding *finding = arg;
    api_service_t *service = KP_OBJECT_CLONE(rq->arena, k8s_api_service, current);
    registry_api_service_condition(service, finding->available, finding->reason, finding->message, rq->now_s, rq->arena);
    *ret_new = service;
    return 0;
}

static bool is_told(const api_service_t *service, const struct finding *finding)
{
    for (size_t i = 0; i < service->status->conditions.len; i++) {
        const struct k8s_api_service_condition *condition = &service->status->conditions.items[i];
        if (kp_streq(condition->type, "Available"))
            return kp_streq(condition->status, finding->available ? "True" : "False") && kp_streq(condition->reason, finding->reason) &&
                   kp_streq(condition->message, finding->message);
    }
    return false;
}

static bool write_status(struct aggregator *aggregator, const struct tracked *tracked, struct finding *finding, struct kp_arena *arena)
{
    if (is_told(tracked->object, finding))
        return true;
    struct api_status status = API_STATUS(arena);
    struct registry_request rq = registry_own_request(arena, &status, &k8s_apiservices_resource, "", tracked->name);
    const struct registry_update_options options = {.patch = true, .uid = tracked->object->metadata->uid};
    KP_AUTO(wcache_object_unref) struct wcache_object *object = NULL;
    bool created;
    rq.subresource = "status";
    kp_info("availability of an APIService", "name", tracked->name, "available", finding->available ? "True" : "False", "reason", finding->reason, "message",
            finding->message, NULL);
    int code = registry_update(aggregator->config.registry, &rq, &options, make_status, finding, &object, &created);
    if (code == 0 && !finding->available && is_available(tracked->object))
        kp_metric_add(aggregator->unavailable_total, 1, tracked->name, finding->reason);
    if (code < 0 && code != KP_ENOTFOUND && code != KP_ECONFLICT)
        kp_warn("the status of an APIService could not be written", "name", tracked->name, "error", status.message, NULL);
    return code == 0 || code == KP_ENOTFOUND;
}

static void settle(struct aggregator *aggregator, struct tracked *tracked, struct finding *finding, int64_t now_ms, struct kp_arena *arena)
{
    bool written = write_status(aggregator, tracked, finding, arena);
    kp_metric_set(aggregator->unavailable, finding->available ? 0 : 1, tracked->name);
    if (finding->available && written) {
        if (tracked->retry_ms)
            tracked->discover_ms = now_ms;
        tracked->retry_ms = 0;
        tracked->check_ms = now_ms + AGGREGATOR_CHECK_MS;
        return;
    }
    tracked->retry_ms = tracked->retry_ms ? KP_MIN(2 * tracked->retry_ms, (int64_t)AGGREGATOR_RETRY_MS_MAX) : AGGREGATOR_RETRY_MS_MIN;
    tracked->check_ms = now_ms + tracked->retry_ms;
}

/* ---- asking ------------------------------------------------------------------------------------------------------------------------ */
struct asked {
    struct tracked *tracked;
    const char *url;
};

/* The certificate is not checked here, as upstream: a request that it matters for finds out itself. */
static void prepare(const struct asked *asked, const struct aggregator_headers *headers, struct kp_arena *arena, struct backend_call calls[AGGREGATOR_ATTEMPTS])
{
    const struct k8s_api_service_spec *spec = asked->tracked->object->spec;
    for (size_t i = 0; i < AGGREGATOR_ATTEMPTS; i++)
        calls[i] = (struct backend_call){
            .backend = {.ns = spec->service->namespace, .service = spec->service->name, .port = spec->service->port, .insecure_skip_verify = true, .client_certificate = true},
            .request = {.method = "GET",
                        .path = kp_arena_printf(arena, "/apis/%s/%s", spec->group, spec->version),
                        .headers = headers->items,
                        .header_count = headers->len,
                        .timeout_ms = AGGREGATOR_ANSWER_MS},
            .no_body = true};
}

static void judge(const struct asked *asked, const struct backend_call calls[AGGREGATOR_ATTEMPTS], struct kp_arena *arena, struct finding *ret)
{
    const struct backend_call *last = &calls[AGGREGATOR_ATTEMPTS - 1];
    for (size_t i = 0; i < AGGREGATOR_ATTEMPTS; i++)
        if (calls[i].code == 0 && calls[i].status >= 200 && calls[i].status < 300) {
            *ret = (struct finding){true, "Passed", "all checks passed"};
            return;
        }
    *ret = (struct finding){false, "FailedDiscoveryCheck", NULL};
    ret->message = last->code < 0 ? kp_arena_printf(arena, "failing or missing response from %s: Get \"%s\": %s", asked->url, asked->url, last->error.message)
                                  : kp_arena_printf(arena, "failing or missing response from %s: bad status from %s: %d", asked->url, asked->url, last->status);
}

void check_all(struct aggregator *aggregator, int64_t now_ms, struct kp_arena *arena)
{
    struct asked *asked = KP_NEW_ARRAY(arena, struct asked, kp_strmap_len(aggregator->tracked) + 1);
    struct aggregator_headers headers = own_headers(arena);
    size_t count = 0;
    const char *name;
    void *value;
    for (size_t iter = 0; kp_strmap_next(aggregator->tracked, &iter, &name, &value);) {
        struct tracked *tracked = value;
        struct finding finding = {.available = true, .reason = "Local", .message = "Local APIServices are always available"};
        if (!tracked->object->spec->service) {
            if (!write_status(aggregator, tracked, &finding, arena))
                tracked->check_ms = now_ms + AGGREGATOR_RETRY_MS_MIN;
            continue;
        }
        if (tracked->check_ms > now_ms || count == AGGREGATOR_SERVERS_MAX)
            continue;
        finding.available = false;
        if (check_service(tracked->object, aggregator->config.caches, arena, &finding.reason, &finding.message, &asked[count].url))
            asked[count++].tracked = tracked;
        else
            settle(aggregator, tracked, &finding, now_ms, arena);
    }
    if (!count)
        return;
    struct backend_call *calls = KP_NEW_ARRAY(arena, struct backend_call, count * AGGREGATOR_ATTEMPTS);
    for (size_t i = 0; i < count; i++)
        prepare(&asked[i], &headers, arena, &calls[i * AGGREGATOR_ATTEMPTS]);
    backends_call(aggregator->config.backends, calls, count * AGGREGATOR_ATTEMPTS, arena);
    for (size_t i = 0; i < count; i++) {
        struct finding finding;
        judge(&asked[i], &calls[i * AGGREGATOR_ATTEMPTS], arena, &finding);
        settle(aggregator, asked[i].tracked, &finding, now_ms, arena);
    }
}
