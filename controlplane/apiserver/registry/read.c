/* Reads: one object, or a list in pages, at the version the client asks for. */
#include "controlplane/apiserver/registry/registry_internal.h"

#define CONTINUE_VERSION "meta.k8s.io/v1"

const char *registry_cache_key(struct registry_request *rq, const char *name)
{
    return rq->resource->namespaced ? kp_arena_printf(rq->arena, "%s/%s", rq->ns, name) : name;
}

const char *registry_store_key(const struct registry_kind *kind, const char *cache_key, struct kp_arena *arena)
{
    return kp_arena_printf(arena, "%s%s", kind->cache_kind.prefix, cache_key);
}

struct wcache *registry_cache(struct registry *registry, const struct registry_kind *kind)
{
    return kind->cache ? kind->cache : wcache_find(registry->caches, kind->group, kind->resource);
}

const char *rq_group(const struct registry_request *rq)
{
    return rq->resource->group;
}

const char *rq_resource(const struct registry_request *rq)
{
    return rq->resource->name;
}

int registry_not_found(struct registry_request *rq)
{
    return status_not_found(rq->status, rq_group(rq), rq_resource(rq), rq->name);
}

int registry_store_failed(struct registry_request *rq, const struct kp_error *error)
{
    if (error->code == KP_ETIMEOUT)
        return status_timeout(rq->status, "request did not complete within the allotted timeout");
    if (error->code == KP_EUNAVAILABLE)
        return status_fail(rq->status, KP_EUNAVAILABLE, 500, NULL, "etcdserver: %s", error->message);
    return status_from_error(rq->status, error);
}

void *registry_decode(const struct registry_kind *kind, const struct wcache_object *object, struct kp_arena *arena)
{
    void *obj = NULL;
    struct kp_error error = {0};
    int code = kp_json_decode(kind->storage->type, (const char *)object->json->data, object->json->len, arena, NULL, &obj, &error);
    KP_ASSERT(code == 0); /* the cache wrote this text */
    return obj;
}

int registry_read_store(struct registry *registry, struct registry_request *rq, const char *cache_key, struct wcache_object **ret_object)
{
    struct kp_error error = {0};
    struct store_kv kv;
    int64_t revision;
    *ret_object = NULL;
    if (store_get(registry->store, registry_store_key(rq->kind, cache_key, rq->arena), rq->arena, &kv, &revision, &error) < 0)
        return registry_store_failed(rq, &error);
    if (!kv.mod_revision)
        return 0;
    /* The cache has usually decoded this very version already. */
    struct wcache_object *cached = wcache_get(registry_cache(registry, rq->kind), cache_key);
    if (cached && cached->revision == kv.mod_revision) {
        *ret_object = cached;
        return 0;
    }
    wcache_object_unref(cached);
    if (wcache_object_decode(&rq->kind->cache_kind, cache_key, kv.value.data, kv.value.len, kv.mod_revision, ret_object, &error) < 0)
        return status_from_error(rq->status, &error);
    return 0;
}

int registry_read_current(struct registry *registry, struct registry_request *rq, bool from_store, struct wcache_object **ret_object)
{
    const char *key = registry_cache_key(rq, rq->name);
    *ret_object = from_store ? NULL : wcache_get(registry_cache(registry, rq->kind), key);
    return *ret_object ? 0 : registry_read_store(registry, rq, key, ret_object);
}

/* 0 and a number, or a 400/422 as upstream has it. */
static int parse_version(struct registry_request *rq, const char *text, int64_t *ret_revision)
{
    uint64_t revision = 0;
    if (!kp_empty(text) && (kp_parse_u64(text, &revision) < 0 || revision > INT64_MAX)) {
        struct field_errors errors = {.arena = rq->arena};
        field_invalid(&errors, text, kp_arena_printf(rq->arena, "strconv.ParseUint: parsing \"%s\": invalid syntax", text), "resourceVersion");
        return status_bad_request(rq->status, "resourceVersion: %s", errors.items[0].message);
    }
    *ret_revision = (int64_t)revision;
    return 0;
}

int registry_wait(struct registry *registry, struct registry_request *rq, const char *resource_version)
{
    int64_t revision = 0;
    struct kp_error error = {0};
    if (kp_empty(resource_version)) {
        if (wcache_wait_fresh(registry->caches, &error) < 0)
            return registry_store_failed(rq, &error);
        return 0;
    }
    if (parse_version(rq, resource_version, &revision) < 0)
        return rq->status->code;
    if (!revision || wcache_wait(registry->caches, revision, WCACHE_FRESH_TIMEOUT_MS) == 0)
        return 0;
    int64_t now = wcache_revision(registry->caches);
    status_fail(rq->status, KP_ETIMEOUT, 504, "Timeout", "Timeout: Too large resource version: %lld, current: %lld", (long long)revision,
                (long long)now);
    status_add_cause(rq->status, "ResourceVersionTooLarge", "Too large resource version", "");
    rq->status->retry_after_s = 1;
    return KP_ETIMEOUT;
}

/* A custom resource whose definition has changed has another cache now: the client asks again, and comes to that. */
static int replaced(struct registry_request *rq)
{
    return status_too_many(rq->status, 1, "the custom resource's definition has changed, please try again");
}

int registry_get(struct registry *registry, struct registry_request *rq, const char *resource_version, struct wcache_object **ret_object)
{
    const char *key = registry_cache_key(rq, rq->name);
    *ret_object = NULL;
    if (kp_empty(resource_version)) {
        if (registry_read_store(registry, rq, key, ret_object) < 0)
            return rq->status->code;
    } else {
        if (registry_wait(registry, rq, resource_version) < 0)
            return rq->status->code;
        *ret_object = wcache_get(registry_cache(registry, rq->kind), key);
        if (!*ret_object && wcache_removed(registry_cache(registry, rq->kind)))
            return replaced(rq);
    }
    return *ret_object ? 0 : registry_not_found(rq);
}

/* ---- continue tokens: base64url of {"v":"meta.k8s.io/v1","rv":N,"start":"key"} ------------------------------------------ */
static const char *make_token(struct kp_arena *arena, int64_t revision, const char *start)
{
    KP_AUTO_BUF struct kp_buf json = {0}, token = {0};
    kp_buf_printf(&json, "{\"v\":\"%s\",\"rv\":%lld,\"start\":", CONTINUE_VERSION, (long long)revision);
    kp_json_string(&json, start);
    kp_buf_putc(&json, '}');
    kp_base64url_encode(&token, json.data, json.len);
    return kp_arena_strdup(arena, token.data);
}

static int parse_token(struct registry_request *rq, const char *token, int64_t *ret_revision, const char **ret_start)
{
    KP_AUTO_BUF struct kp_buf json = {0};
    struct kp_value *value = NULL;
    struct kp_error error = {0};
    if (kp_base64url_decode(&json, token, strlen(token)) < 0 || !json.len ||
        kp_value_parse(json.data, json.len, rq->arena, NULL, &value, &error) < 0)
        return status_bad_request(rq->status, "continue key is not valid: %s", "illegal base64 or JSON data");
    const struct kp_value *revision = kp_value_get(value, "rv");
    const char *start = kp_value_str(kp_value_get(value, "start"));
    if (!kp_streq(kp_value_str(kp_value_get(value, "v")), CONTINUE_VERSION))
        return status_bad_request(rq->status, "continue key is not valid: server does not recognize this encoded version");
    if (kp_empty(start) || strstr(start, ".."))
        return status_bad_request(rq->status, "continue key is not valid: encoded continue token is missing start or invalid");
    *ret_revision = revision && revision->kind == KP_VALUE_INT ? revision->integer : 0;
    *ret_start = start;
    return 0;
}

/* ---- lists from the store, at an exact revision ---------------------------------------------------------------------------- */
struct exact {
    const char *start, *end; /* store keys */
    int64_t revision;
};

static int add_matches(struct registry_request *rq, const struct registry_list_options *options, const struct store_page *page,
                       size_t *cap, struct registry_list *list)
{
    size_t prefix_len = strlen(rq->kind->cache_kind.prefix);
    struct kp_error error = {0};
    for (size_t i = 0; i < page->len; i++) {
        const struct store_kv *kv = &page->items[i];
        struct wcache_object *object;
        if (wcache_object_decode(&rq->kind->cache_kind, kv->key + prefix_len, kv->value.data, kv->value.len, kv->mod_revision, &object, &error) < 0)
            return status_from_error(rq->status, &error);
        if (!wcache_filter_matches(&rq->kind->cache_kind, &options->filter, object)) {
            wcache_object_unref(object);
            continue;
        }
        if (list->objects.len == *cap) {
            size_t grown = *cap ? *cap * 2 : 64;
            struct wcache_object **items = KP_NEW_ARRAY(rq->arena, struct wcache_object *, grown);
            if (list->objects.len)
                memcpy(items, list->objects.items, list->objects.len * sizeof(struct wcache_object *));
            list->objects.items = items;
            *cap = grown;
        }
        list->objects.items[list->objects.len++] = object;
    }
    return 0;
}

static int list_exact(struct registry *registry, struct registry_request *rq, const struct registry_list_options *options,
                      struct exact at, struct registry_list *list)
{
    size_t cap = 0;
    bool selective = options->filter.labels || options->filter.fields || !kp_empty(options->filter.name);
    for (;;) {
        struct kp_error error = {0};
        struct store_page page = {0};
        int64_t room = options->limit ? options->limit - (int64_t)list->objects.len : 0;
        int code = store_list(registry->store, at.start, at.end, options->limit ? room : STORE_PAGE_LIMIT, at.revision, rq->arena, &page, &error);
        if (code == KP_EEXPIRED)
            return KP_EEXPIRED;
        if (code < 0)
            return registry_store_failed(rq, &error);
        if (add_matches(rq, options, &page, &cap, list) < 0)
            return rq->status->code;
        if (!at.revision)
            at.revision = page.revision;
        list->objects.revision = at.revision;
        if (!page.more || !page.len)
            return 0;
        const char *last = page.items[page.len - 1].key + strlen(rq->kind->cache_kind.prefix);
        if (options->limit && (int64_t)list->objects.len >= options->limit) {
            list->continue_token = make_token(rq->arena, at.revision, kp_arena_printf(rq->arena, "%s\1", last));
            list->has_remaining = !selective;
            list->remaining = page.count - (int64_t)page.len;
            return 0;
        }
        at.start = kp_arena_printf(rq->arena, "%s\1", page.items[page.len - 1].key);
    }
}

static int list_continue(struct registry *registry, struct registry_request *rq, const struct registry_list_options *options,
                         struct registry_list *list)
{
    struct exact at;
    const char *start;
    if (parse_token(rq, options->continue_token, &at.revision, &start) < 0)
        return rq->status->code;
    if (!kp_empty(options->resource_version) && strcmp(options->resource_version, "0") != 0)
        return status_bad_request(rq->status, "specifying resource version is not allowed when using continue");
    const char *scope = rq->kind->cache_kind.prefix;
    if (rq->resource->namespaced && !kp_empty(options->filter.ns))
        scope = kp_arena_printf(rq->arena, "%s%s/", scope, options->filter.ns);
    at.start = registry_store_key(rq->kind, start, rq->arena);
    at.end = store_prefix_end(scope, rq->arena);
    if (strcmp(at.start, scope) < 0)
        return status_bad_request(rq->status, "continue key is not valid: it is outside of the range of the list");
    if (at.revision < 0) /* an inconsistent continuation: from the key on, as things are now */
        at.revision = 0;
    if (list_exact(registry, rq, options, at, list) != KP_EEXPIRED || rq->status->code)
        return rq->status->code;
    status_expired(rq->status,
                   "The provided continue parameter is too old to display a consistent list result. You can start a new list without "
                   "the continue parameter, or use the continue token in this response to retrieve the remainder of the results. "
                   "Continuing with the provided token results in an inconsistent list - objects that were created, modified, or deleted "
                   "between the time the first chunk was returned and now may show up in the list.");
    list->continue_token = make_token(rq->arena, -1, start);
    return KP_EEXPIRED;
}

static int check_options(struct registry_request *rq, const struct registry_list_options *options)
{
    struct field_errors errors = {.arena = rq->arena};
    const char *match = options->resource_version_match;
    bool zero_or_none = kp_empty(options->resource_version) || strcmp(options->resource_version, "0") == 0;
    if (!kp_empty(match)) {
        static const char *const supported[] = {"Exact", "NotOlderThan", NULL};
        if (kp_empty(options->resource_version))
            field_forbidden(&errors, "resourceVersionMatch is forbidden unless resourceVersion is provided", "resourceVersionMatch");
        if (!kp_empty(options->continue_token))
            field_forbidden(&errors, "resourceVersionMatch is forbidden when continue is provided", "resourceVersionMatch");
        if (strcmp(match, "Exact") != 0 && strcmp(match, "NotOlderThan") != 0)
            field_not_supported(&errors, match, supported, "resourceVersionMatch");
        if (strcmp(match, "Exact") == 0 && zero_or_none)
            field_forbidden(&errors, "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"", "resourceVersionMatch");
    }
    return status_invalid(rq->status, "meta.k8s.io", "ListOptions", "", &errors);
}

int registry_list(struct registry *registry, struct registry_request *rq, const struct registry_list_options *options,
                  struct registry_list *list)
{
    *list = (struct registry_list){.continue_token = ""};
    if (check_options(rq, options) < 0)
        return rq->status->code;
    if (!kp_empty(options->continue_token))
        return list_continue(registry, rq, options, list);
    if (kp_streq(options->resource_version_match, "Exact")) {
        struct exact at = {.start = rq->kind->cache_kind.prefix};
        if (parse_version(rq, options->resource_version, &at.revision) < 0)
            return rq->status->code;
        if (rq->resource->namespaced && !kp_empty(options->filter.ns))
            at.start = kp_arena_printf(rq->arena, "%s%s/", at.start, options->filter.ns);
        at.end = store_prefix_end(at.start, rq->arena);
        if (list_exact(registry, rq, options, at, list) == KP_EEXPIRED && !rq->status->code)
            return status_expired(rq->status, "The resourceVersion for the provided list is too old.");
        return rq->status->code;
    }
    if (registry_wait(registry, rq, options->resource_version) < 0)
        return rq->status->code;
    wcache_list(registry_cache(registry, rq->kind), &options->filter, NULL, (size_t)options->limit, rq->arena, &list->objects);
    if (!list->objects.len && wcache_removed(registry_cache(registry, rq->kind)))
        return replaced(rq);
    if (list->objects.next) {
        const char *last = list->objects.items[list->objects.len - 1]->key;
        list->continue_token = make_token(rq->arena, list->objects.revision, kp_arena_printf(rq->arena, "%s\1", last));
        list->has_remaining = !options->filter.labels && !options->filter.fields && kp_empty(options->filter.name);
        list->remaining = list->objects.remaining;
    }
    return 0;
}
