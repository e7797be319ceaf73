/* What the servers behind APIServices serve: their aggregated discovery, or an APIResourceList made into it, and where their OpenAPI v3 documents are
 * (upstream: kube-aggregator's discovery manager, and ConvertGroupVersionIntoToDiscovery of k8s.io/apiserver). */
#include "controlplane/apiserver/aggregator/aggregator_internal.h"

#define AT_ONCE 8 /* servers: what their answers may take together */
#define OPENAPI_URL_MAX 1024
#define ACCEPT "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,application/json"

/* ---- an APIResourceList as aggregated discovery -------------------------------------------------------------------------------- */
static const char *text_of(const struct kp_value *object, const char *key)
{
    const char *text = kp_value_str(kp_value_get(object, key));
    return text ? text : "";
}

static void put_list(struct kp_buf *out, const char *key, const struct kp_value *list)
{
    if (!list || list->kind != KP_VALUE_ARRAY || !list->array.len)
        return;
    kp_buf_printf(out, ",\"%s\":", key);
    kp_value_print(list, out);
}

static void put_kind(struct kp_buf *out, const struct kp_value *resource, const char *group, const char *version)
{
    const char *own_group = text_of(resource, "group"), *own_version = text_of(resource, "version");
    kp_buf_puts(out, "\"responseKind\":{\"group\":");
    kp_json_string(out, *own_group || *own_version ? own_group : group);
    kp_buf_puts(out, ",\"version\":");
    kp_json_string(out, *own_version ? own_version : version);
    kp_buf_puts(out, ",\"kind\":");
    kp_json_string(out, text_of(resource, "kind"));
    kp_buf_putc(out, '}');
}

static bool belongs(const char *name, const char *parent, size_t parent_len)
{
    return strncmp(name, parent, parent_len) == 0 && name[parent_len] == '/';
}

static void put_subresources(struct kp_buf *out, const struct kp_value *list, const char *parent, size_t parent_len, const char *group, const char *version)
{
    bool first = true;
    for (size_t i = 0; kp_value_at(list, i); i++) {
        const struct kp_value *resource = kp_value_at(list, i);
        const char *name = text_of(resource, "name");
        if (!belongs(name, parent, parent_len))
            continue;
        kp_buf_puts(out, first ? ",\"subresources\":[{\"subresource\":" : ",{\"subresource\":");
        first = false;
        kp_json_string(out, name + parent_len + 1);
        kp_buf_putc(out, ',');
        put_kind(out, resource, group, version);
        put_list(out, "verbs", kp_value_get(resource, "verbs"));
        kp_buf_putc(out, '}');
    }
    kp_buf_puts(out, first ? "" : "]");
}

/* Whether the resource of this name, or an earlier subresource of it, came before. */
static bool was_before(const struct kp_value *list, size_t at, const char *name, size_t len)
{
    for (size_t i = 0; i < at; i++) {
        const char *other = text_of(kp_value_at(list, i), "name");
        if (strncmp(other, name, len) == 0 && (other[len] == '\0' || other[len] == '/'))
            return true;
    }
    return false;
}

static const struct kp_value *find_named(const struct kp_value *list, const char *name, size_t len)
{
    for (size_t i = 0; kp_value_at(list, i); i++) {
        const char *other = text_of(kp_value_at(list, i), "name");
        if (strncmp(other, name, len) == 0 && !other[len])
            return kp_value_at(list, i);
    }
    return NULL;
}

/* A subresource may come without the resource it is of: that has a name and a scope then. */
static void convert(const struct kp_value *list, const char *group, const char *version, struct kp_buf *out)
{
    bool first = true;
    kp_buf_putc(out, '[');
    for (size_t i = 0; kp_value_at(list, i); i++) {
        const char *name = text_of(kp_value_at(list, i), "name");
        size_t len = strcspn(name, "/");
        if (!len || was_before(list, i, name, len))
            continue;
        const struct kp_value *resource = find_named(list, name, len), *namespaced = kp_value_get(kp_value_at(list, i), "namespaced");
        kp_buf_puts(out, first ? "{\"resource\":" : ",{\"resource\":");
        first = false;
        kp_json_string_n(out, name, len);
        if (resource) {
            kp_buf_putc(out, ',');
            put_kind(out, resource, group, version);
        }
        kp_buf_printf(out, ",\"scope\":\"%s\"", namespaced && namespaced->kind == KP_VALUE_BOOL && namespaced->boolean ? "Namespaced" : "Cluster");
        if (resource) {
            kp_buf_puts(out, ",\"singularResource\":");
            kp_json_string(out, text_of(resource, "singularName"));
            put_list(out, "verbs", kp_value_get(resource, "verbs"));
            put_list(out, "shortNames", kp_value_get(resource, "shortNames"));
            put_list(out, "categories", kp_value_get(resource, "categories"));
        }
        put_subresources(out, list, name, len, group, version);
        kp_buf_putc(out, '}');
    }
    kp_buf_putc(out, ']');
}

/* ---- answers ----------------------------------------------------------------------------------------------------------------------- */
static int find_version(const struct kp_value *groups, const char *group, const char *version, struct kp_buf *out, struct kp_error *error)
{
    for (size_t i = 0; kp_value_at(groups, i); i++) {
        const struct kp_value *item = kp_value_at(groups, i), *versions = kp_value_get(item, "versions");
        if (!kp_streq(kp_value_str(kp_value_path(item, "metadata", "name", NULL)), group))
            continue;
        for (size_t k = 0; kp_value_at(versions, k); k++) {
            const struct kp_value *resources = kp_value_get(kp_value_at(versions, k), "resources");
            if (!kp_streq(kp_value_str(kp_value_get(kp_value_at(versions, k), "version")), version))
                continue;
            if (resources && resources->kind == KP_VALUE_ARRAY)
                kp_value_print(resources, out);
            else
                kp_buf_puts(out, "[]");
            return 0;
        }
    }
    return kp_fail(error, KP_ENOTFOUND, "its discovery does not have %s/%s", group, version);
}

#define RESOURCES_MAX 2000 /* of one group version: each is compared with those before it */

int discover_parse(const char *text, size_t len, const char *group, const char *version, struct kp_arena *arena, struct kp_buf *out, struct kp_error *error)
{
    struct kp_value *root = NULL;
    if (kp_value_parse(text, len, arena, NULL, &root, error) < 0)
        return kp_wrap(error, "discovery");
    const char *kind = text_of(root, "kind");
    if (strcmp(kind, "APIGroupDiscoveryList") == 0)
        return find_version(kp_value_get(root, "items"), group, version, out, error);
    if (strcmp(kind, "APIResourceList") != 0)
        return kp_fail(error, KP_EBADREQUEST, "discovery: \"%s\" is neither an APIGroupDiscoveryList nor an APIResourceList", kind);
    const struct kp_value *list = kp_value_get(root, "resources");
    if (list && list->kind == KP_VALUE_ARRAY && list->array.len > RESOURCES_MAX)
        return kp_fail(error, KP_ETOOLARGE, "discovery: more than %d resources", RESOURCES_MAX);
    convert(list, group, version, out);
    return 0;
}

const char *discover_openapi(const char *text, size_t len, const char *group, const char *version, struct kp_arena *arena)
{
    struct kp_value *root = NULL;
    struct kp_error error = {0};
    const char *path = kp_arena_printf(arena, "/openapi/v3/apis/%s/%s", group, version);
    if (kp_value_parse(text, len, arena, NULL, &root, &error) < 0)
        return NULL;
    const struct kp_value *entry = kp_value_path(root, "paths", path + strlen("/openapi/v3/"), NULL);
    if (!entry)
        return NULL;
    const char *url = text_of(entry, "serverRelativeURL");
    bool good = strlen(url) <= OPENAPI_URL_MAX && kp_starts_with(url, path) && (url[strlen(path)] == '?' || !url[strlen(path)]);
    return good ? kp_arena_strdup(arena, url) : path; /* another place could not be reached through us */
}

/* ---- asking ------------------------------------------------------------------------------------------------------------------------ */
struct question {
    struct tracked *tracked;
    bool answered;
    struct kp_buf resources; /* when answered */
};

static struct backend_call call_for(const struct tracked *tracked, const char *path, const struct aggregator_headers *headers)
{
    const struct k8s_api_service_spec *spec = tracked->object->spec;
    return (struct backend_call){
        .backend = {.ns = spec->service->namespace, .service = spec->service->name, .port = spec->service->port, .ca = spec->ca_bundle.data,
                    .ca_len = spec->ca_bundle.len, .insecure_skip_verify = spec->insecure_skip_tls_verify, .client_certificate = true},
        .request = {.method = "GET", .path = path, .headers = headers->items, .header_count = headers->len, .timeout_ms = AGGREGATOR_ANSWER_MS},
        .answer_bytes_max = AGGREGATOR_DISCOVERY_BYTES_MAX};
}

static void take_resources(struct question *question, const struct backend_call *call, bool last)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    const struct k8s_api_service_spec *spec = question->tracked->object->spec;
    struct kp_error error = call->error;
    question->resources.len = 0;
    int code = call->code;
    if (code == 0 && call->status != 200)
        code = kp_fail(&error, KP_EUNAVAILABLE, "its status is %d", call->status);
    if (code == 0)
        code = discover_parse((const char *)call->body.data, call->body.len, spec->group, spec->version, arena, &question->resources, &error);
    question->answered = code == 0;
    if (code < 0 && last)
        kp_warn("what an aggregated API server serves could not be learnt", "name", question->tracked->name, "error", error.message, NULL);
}

static bool take_openapi(struct tracked *tracked, const struct backend_call *call)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    const struct k8s_api_service_spec *spec = tracked->object->spec;
    const char *url = call->code == 0 && call->status == 200 ? discover_openapi((const char *)call->body.data, call->body.len, spec->group, spec->version, arena) : NULL;
    if (kp_streq(url, tracked->openapi_url))
        return false;
    free(tracked->openapi_url);
    tracked->openapi_url = kp_strdup(url);
    return true;
}

static bool settle(struct question *question, int64_t now_ms)
{
    struct tracked *tracked = question->tracked;
    const struct kp_buf *found = &question->resources;
    tracked->discover_ms = now_ms + (question->answered ? AGGREGATOR_DISCOVER_MS : AGGREGATOR_RETRY_MS_MAX);
    bool same = tracked->current == question->answered;
    tracked->current = question->answered;
    if (!question->answered || (tracked->resources && tracked->resources->len == found->len && memcmp(tracked->resources->data, found->data, found->len) == 0))
        return !same;
    kp_blob_unref(tracked->resources);
    tracked->resources = kp_blob_new(found->data, found->len);
    return true;
}

/* Aggregated discovery and the index of documents first; who has no aggregated discovery (or not that group version) is asked the old way. */
static bool discover_some(struct question *questions, size_t count, struct aggregator *aggregator, const struct aggregator_headers *headers, int64_t now_ms)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    struct backend_call calls[2 * AT_ONCE];
    struct question *rest[AT_ONCE];
    size_t n = 0;
    bool changed = false;
    for (size_t i = 0; i < count; i++) {
        calls[2 * i] = call_for(questions[i].tracked, "/apis", headers);
        calls[2 * i + 1] = call_for(questions[i].tracked, "/openapi/v3", headers);
    }
    backends_call(aggregator->config.backends, calls, 2 * count, arena);
    for (size_t i = 0; i < count; i++) {
        take_resources(&questions[i], &calls[2 * i], false);
        changed |= take_openapi(questions[i].tracked, &calls[2 * i + 1]);
        if (!questions[i].answered)
            rest[n++] = &questions[i];
    }
    for (size_t i = 0; i < n; i++) {
        const struct k8s_api_service_spec *spec = rest[i]->tracked->object->spec;
        calls[i] = call_for(rest[i]->tracked, kp_arena_printf(arena, "/apis/%s/%s", spec->group, spec->version), headers);
    }
    backends_call(aggregator->config.backends, calls, n, arena);
    for (size_t i = 0; i < n; i++)
        take_resources(rest[i], &calls[i], true);
    for (size_t i = 0; i < count; i++) {
        changed |= settle(&questions[i], now_ms);
        kp_buf_done(&questions[i].resources);
    }
    return changed;
}

bool discover_all(struct aggregator *aggregator, int64_t now_ms, struct kp_arena *arena)
{
    struct question *questions = KP_NEW_ARRAY(arena, struct question, kp_strmap_len(aggregator->tracked) + 1);
    struct aggregator_headers headers = own_headers(arena);
    size_t count = 0;
    bool changed = false;
    void *value;
    *KP_LIST_ADD(arena, &headers) = (struct http_header){"Accept", ACCEPT};
    for (size_t iter = 0; kp_strmap_next(aggregator->tracked, &iter, NULL, &value);) {
        struct tracked *tracked = value;
        /* just looked at, and found good; the condition as others see it may still be under way */
        bool good = tracked->object->spec->service && tracked->retry_ms == 0 && tracked->check_ms > now_ms;
        if (good && tracked->discover_ms <= now_ms && count < AGGREGATOR_SERVERS_MAX)
            questions[count++].tracked = tracked;
    }
    for (size_t done = 0; done < count; done += AT_ONCE)
        changed |= discover_some(questions + done, KP_MIN(count - done, (size_t)AT_ONCE), aggregator, &headers, now_ms);
    return changed;
}
