/* From method and path to what is asked for: upstream's RequestInfo. */
#include "controlplane/apiserver/http/http.h"

#define PARTS_MAX 64

struct parts {
    const char *items[PARTS_MAX];
    const char *tail[PARTS_MAX + 1]; /* where the rest of the path begins before each part, with its '/' */
    size_t len;
};

static void split(const char *path, struct kp_arena *arena, struct parts *parts)
{
    const char *at = path;
    while (parts->len < PARTS_MAX) {
        parts->tail[parts->len] = at;
        at += strspn(at, "/");
        size_t len = strcspn(at, "/");
        if (!len)
            break;
        parts->items[parts->len++] = kp_arena_strndup(arena, at, len);
        at += len;
    }
    parts->tail[parts->len] = at;
}

static const char *method_verb(const char *method)
{
    static const char *const table[][2] = {{"POST", "create"}, {"GET", "get"},      {"HEAD", "get"},
                                           {"PUT", "update"},  {"PATCH", "patch"}, {"DELETE", "delete"}};
    for (size_t i = 0; i < KP_ARRAY_LEN(table); i++)
        if (strcmp(table[i][0], method) == 0)
            return table[i][1];
    return "";
}

static const char *lower(const char *s, struct kp_arena *arena)
{
    char *out = kp_arena_strdup(arena, s);
    for (char *c = out; *c; c++)
        if (*c >= 'A' && *c <= 'Z')
            *c = (char)(*c - 'A' + 'a');
    return out;
}

static const char *query_value(const char *query, const char *wanted, struct kp_arena *arena)
{
    const char *name, *value;
    for (const char *iter = query; http_query_next(arena, &iter, &name, &value);)
        if (strcmp(name, wanted) == 0)
            return value;
    return NULL;
}

/* A list of one name, told by field selector, is asked for by that name. */
static void refine_collection(const char *query, struct kp_arena *arena, struct request_info *info)
{
    const char *watch = query_value(query, "watch", arena);
    bool watching = watch && (!*watch || strcmp(watch, "true") == 0 || strcmp(watch, "1") == 0);
    if (strcmp(info->verb, "get") == 0)
        info->verb = watching ? "watch" : "list";
    else if (strcmp(info->verb, "delete") == 0)
        info->verb = "deletecollection";
    else
        return;
    const char *text = query_value(query, "fieldSelector", arena);
    struct kp_selector selector;
    if (kp_empty(text) || kp_field_selector_parse(text, arena, &selector, NULL) < 0)
        return;
    for (size_t i = 0; i < selector.len; i++)
        if (selector.items[i].op == KP_SEL_EQUALS && strcmp(selector.items[i].key, "metadata.name") == 0 && selector.items[i].values.len &&
            !strchr(selector.items[i].values.items[0], '/'))
            info->name = selector.items[i].values.items[0];
}

static bool namespace_subresource(const char *name)
{
    return strcmp(name, "status") == 0 || strcmp(name, "finalize") == 0;
}

/* parts from at on: [watch|proxy] [namespaces/ns] resource [name [subresource ...]] */
static void parse_resource(struct parts *parts, size_t at, const char *query, struct kp_arena *arena, struct request_info *info)
{
    bool watch_prefix = at < parts->len && strcmp(parts->items[at], "watch") == 0;
    if (watch_prefix)
        at++;
    if (at + 1 < parts->len && strcmp(parts->items[at], "namespaces") == 0) {
        info->ns = parts->items[at + 1];
        if (at + 2 < parts->len && !namespace_subresource(parts->items[at + 2]))
            at += 2;
    }
    if (at < parts->len)
        info->resource = parts->items[at];
    if (at + 1 < parts->len)
        info->name = parts->items[at + 1];
    if (at + 2 < parts->len) {
        info->subresource = parts->items[at + 2];
        info->rest = parts->tail[at + 3];
    }
    if (kp_empty(info->name))
        refine_collection(query, arena, info);
    if (watch_prefix)
        info->verb = "watch";
}

void request_info_parse(const char *method, const char *path, const char *query, struct kp_arena *arena, struct request_info *ret)
{
    struct parts parts = {0};
    *ret = (struct request_info){.verb = lower(method, arena), .prefix = "", .group = "", .version = "", .ns = "", .resource = "",
                                 .subresource = "", .name = "", .path = path, .rest = ""};
    split(path, arena, &parts);
    if (!parts.len)
        return;
    size_t at;
    if (strcmp(parts.items[0], "api") == 0 && parts.len >= 3) {
        ret->version = parts.items[1];
        at = 2;
    } else if (strcmp(parts.items[0], "apis") == 0 && parts.len >= 4) {
        ret->group = parts.items[1];
        ret->version = parts.items[2];
        at = 3;
    } else {
        return;
    }
    ret->prefix = parts.items[0];
    ret->resource_request = true;
    ret->verb = method_verb(method);
    parse_resource(&parts, at, query, arena, ret);
}
