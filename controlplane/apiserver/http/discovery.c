/* /api and /apis: groups, versions and resources, one by one or all at once (aggregated). */
#include "controlplane/apiserver/http/http_internal.h"

#define GROUPS_MAX 64

struct group {
    const char *name;
    const char *versions[8]; /* preferred first */
    size_t len;
};

static bool served(const struct kp_resource *r)
{
    return registry_kind_of(r) || strcmp(r->group, "authentication.k8s.io") == 0 || strcmp(r->group, "authorization.k8s.io") == 0 ||
           (!*r->group && (strcmp(r->name, "bindings") == 0 || strcmp(r->name, "componentstatuses") == 0));
}

static void add_version(struct group *groups, size_t *count, const struct kp_resource *r)
{
    struct group *g = NULL;
    for (size_t i = 0; i < *count; i++)
        if (strcmp(groups[i].name, r->group) == 0)
            g = &groups[i];
    if (!g) {
        KP_ASSERT(*count < GROUPS_MAX);
        g = &groups[(*count)++];
        *g = (struct group){.name = r->group};
    }
    for (size_t i = 0; i < g->len; i++)
        if (strcmp(g->versions[i], r->version) == 0)
            return;
    KP_ASSERT(g->len < KP_ARRAY_LEN(g->versions));
    size_t at = 0; /* the newest first: of what we serve, v2 before v1 */
    while (at < g->len && strcmp(g->versions[at], r->version) > 0)
        at++;
    memmove(g->versions + at + 1, g->versions + at, (g->len - at) * sizeof(char *));
    g->versions[at] = r->version;
    g->len++;
}

static int compare_groups(const void *a, const void *b)
{
    return strcmp(((const struct group *)a)->name, ((const struct group *)b)->name);
}

static size_t all_groups(struct group groups[GROUPS_MAX])
{
    size_t n, count = 0;
    const struct kp_resource *const *resources = kp_resources(&n);
    for (size_t i = 0; i < n; i++)
        if (served(resources[i]))
            add_version(groups, &count, resources[i]);
    qsort(groups, count, sizeof(*groups), compare_groups);
    return count;
}

static const char *group_version(const char *group, const char *version, struct kp_arena *arena)
{
    return *group ? kp_arena_printf(arena, "%s/%s", group, version) : version;
}

static void add_verbs(unsigned verbs, struct kp_string_list *list, struct kp_arena *arena)
{
    for (int bit = 0; bit < KP_VERB_COUNT; bit++)
        if (verbs & (1u << bit))
            kp_string_list_add(arena, list, kp_verb_name((enum kp_verb)(1u << bit)));
}

static void add_words(const char *const *words, struct kp_string_list *list, struct kp_arena *arena)
{
    for (size_t i = 0; words[i]; i++)
        kp_string_list_add(arena, list, words[i]);
}

/* ---- one by one ---------------------------------------------------------------------------------------------------------- */
static void fill_api_group(struct k8s_api_group *out, const struct group *group, struct kp_arena *arena)
{
    out->name = group->name;
    for (size_t i = 0; i < group->len; i++) {
        struct k8s_group_version_for_discovery *v = KP_LIST_ADD(arena, &out->versions);
        v->group_version = group_version(group->name, group->versions[i], arena);
        v->version = group->versions[i];
    }
    out->preferred_version = KP_OBJECT_NEW(arena, k8s_group_version_for_discovery);
    *out->preferred_version = out->versions.items[0];
}

static void respond_group_list(struct api_request *ar)
{
    struct group groups[GROUPS_MAX];
    size_t count = all_groups(groups);
    struct k8s_api_group_list *list = KP_OBJECT_NEW(ar->arena, k8s_api_group_list);
    for (size_t i = 0; i < count; i++)
        if (*groups[i].name)
            fill_api_group(KP_LIST_ADD(ar->arena, &list->groups), &groups[i], ar->arena);
    respond_typed(ar, 200, &k8s_api_group_list_type, list);
}

static bool respond_group(struct api_request *ar, const char *name)
{
    struct group groups[GROUPS_MAX];
    size_t count = all_groups(groups);
    for (size_t i = 0; i < count; i++) {
        if (!*groups[i].name || strcmp(groups[i].name, name) != 0)
            continue;
        struct k8s_api_group *group = KP_OBJECT_NEW(ar->arena, k8s_api_group);
        fill_api_group(group, &groups[i], ar->arena);
        respond_typed(ar, 200, &k8s_api_group_type, group);
        return true;
    }
    return false;
}

static void respond_versions(struct api_request *ar)
{
    struct k8s_api_versions *versions = KP_OBJECT_NEW(ar->arena, k8s_api_versions);
    kp_string_list_add(ar->arena, &versions->versions, "v1");
    struct k8s_server_address_by_client_cidr *address = KP_LIST_ADD(ar->arena, &versions->server_address_by_client_cidrs);
    address->client_cidr = "0.0.0.0/0";
    address->server_address = ar->http->authority;
    respond_typed(ar, 200, &k8s_api_versions_type, versions);
}

static void add_api_resource(struct api_request *ar, struct k8s_api_resource_list *list, const struct kp_resource *r)
{
    struct kp_arena *arena = ar->arena;
    struct k8s_api_resource *out = KP_LIST_ADD(arena, &list->resources);
    *out = (struct k8s_api_resource){.name = r->name, .singular_name = r->singular, .kind = r->kind};
    KP_SET(out, namespaced, r->namespaced);
    add_verbs(r->verbs, &out->verbs, arena);
    add_words(r->short_names, &out->short_names, arena);
    add_words(r->categories, &out->categories, arena);
    for (size_t i = 0; i < r->n_subresources; i++) {
        const struct kp_subresource *sub = &r->subresources[i];
        struct k8s_api_resource *s = KP_LIST_ADD(arena, &list->resources);
        bool own = strcmp(sub->group, r->group) == 0 && strcmp(sub->version, r->version) == 0;
        *s = (struct k8s_api_resource){.name = kp_arena_printf(arena, "%s/%s", r->name, sub->name), .singular_name = "", .kind = sub->kind,
                                       .group = own ? NULL : sub->group, .version = own ? NULL : sub->version};
        KP_SET(s, namespaced, r->namespaced);
        add_verbs(sub->verbs, &s->verbs, arena);
    }
}

static bool respond_resources(struct api_request *ar, const char *group, const char *version)
{
    size_t n;
    const struct kp_resource *const *resources = kp_resources(&n);
    struct k8s_api_resource_list *list = KP_OBJECT_NEW(ar->arena, k8s_api_resource_list);
    list->group_version = group_version(group, version, ar->arena);
    for (size_t i = 0; i < n; i++)
        if (served(resources[i]) && strcmp(resources[i]->group, group) == 0 && strcmp(resources[i]->version, version) == 0)
            add_api_resource(ar, list, resources[i]);
    if (list->resources.len)
        respond_typed(ar, 200, &k8s_api_resource_list_type, list);
    return list->resources.len > 0;
}

/* ---- aggregated ------------------------------------------------------------------------------------------------------------ */
static void put_words(struct kp_buf *out, const char *key, const struct kp_string_list *words)
{
    if (!words->len)
        return;
    kp_buf_printf(out, ",\"%s\":[", key);
    for (size_t i = 0; i < words->len; i++) {
        kp_buf_puts(out, i ? "," : "");
        kp_json_string(out, words->items[i]);
    }
    kp_buf_putc(out, ']');
}

static void put_kind(struct kp_buf *out, const char *group, const char *version, const char *kind)
{
    kp_buf_printf(out, "\"responseKind\":{\"group\":\"%s\",\"version\":\"%s\",\"kind\":\"%s\"}", group, version, kind);
}

static void put_verbs(struct kp_buf *out, unsigned verbs, struct kp_arena *arena)
{
    struct kp_string_list list = {0};
    add_verbs(verbs, &list, arena);
    put_words(out, "verbs", &list);
}

static void put_resource(struct kp_buf *out, const struct kp_resource *r, struct kp_arena *arena)
{
    struct kp_string_list short_names = {0}, categories = {0};
    add_words(r->short_names, &short_names, arena);
    add_words(r->categories, &categories, arena);
    kp_buf_printf(out, "{\"resource\":\"%s\",", r->name);
    put_kind(out, r->group, r->version, r->kind);
    kp_buf_printf(out, ",\"scope\":\"%s\",\"singularResource\":\"%s\"", r->namespaced ? "Namespaced" : "Cluster", r->singular);
    put_verbs(out, r->verbs, arena);
    put_words(out, "shortNames", &short_names);
    put_words(out, "categories", &categories);
    for (size_t i = 0; i < r->n_subresources; i++) {
        const struct kp_subresource *sub = &r->subresources[i];
        kp_buf_printf(out, "%s{\"subresource\":\"%s\",", i ? "," : ",\"subresources\":[", sub->name);
        put_kind(out, sub->group, sub->version, sub->kind);
        put_verbs(out, sub->verbs, arena);
        kp_buf_putc(out, '}');
    }
    kp_buf_puts(out, r->n_subresources ? "]}" : "}");
}

static void put_version(struct kp_buf *out, const struct group *group, const char *version, struct kp_arena *arena)
{
    size_t n;
    const struct kp_resource *const *resources = kp_resources(&n);
    bool first = true;
    kp_buf_printf(out, "{\"version\":\"%s\",\"resources\":[", version);
    for (size_t i = 0; i < n; i++) {
        const struct kp_resource *r = resources[i];
        if (!served(r) || strcmp(r->group, group->name) != 0 || strcmp(r->version, version) != 0)
            continue;
        kp_buf_puts(out, first ? "" : ",");
        first = false;
        put_resource(out, r, arena);
    }
    kp_buf_puts(out, "],\"freshness\":\"Current\"}");
}

static void respond_aggregated(struct api_request *ar, bool core, const char *version)
{
    struct group groups[GROUPS_MAX];
    size_t count = all_groups(groups);
    bool first = true;
    KP_AUTO_BUF struct kp_buf out = {0};
    kp_buf_printf(&out, "{\"kind\":\"APIGroupDiscoveryList\",\"apiVersion\":\"apidiscovery.k8s.io/%s\",\"metadata\":{},\"items\":[", version);
    for (size_t i = 0; i < count; i++) {
        if ((*groups[i].name == '\0') != core)
            continue;
        kp_buf_puts(&out, first ? "{\"metadata\":{" : ",{\"metadata\":{");
        first = false;
        if (*groups[i].name)
            kp_buf_printf(&out, "\"name\":\"%s\"", groups[i].name);
        kp_buf_puts(&out, "},\"versions\":[");
        for (size_t j = 0; j < groups[i].len; j++) {
            kp_buf_puts(&out, j ? "," : "");
            put_version(&out, &groups[i], groups[i].versions[j], ar->arena);
        }
        kp_buf_puts(&out, "]}");
    }
    kp_buf_puts(&out, "]}");
    respond_bytes(ar, 200, kp_arena_printf(ar->arena, "application/json;g=apidiscovery.k8s.io;v=%s;as=APIGroupDiscoveryList", version), out.data, out.len);
}

static bool aggregated(struct api_request *ar, bool core)
{
    static const char *const versions[] = {"v2", "v2beta1"};
    for (size_t i = 0; i < KP_ARRAY_LEN(versions); i++)
        if (accept_has(ar, "application/json", kp_arena_printf(ar->arena, "v=%s", versions[i])) &&
            accept_has(ar, "application/json", "as=APIGroupDiscoveryList")) {
            respond_aggregated(ar, core, versions[i]);
            return true;
        }
    return false;
}

/* Paths of the form /api[/v1] and /apis[/group[/version]]. */
void handle_discovery(struct api_request *ar)
{
    const char *parts[4] = {0};
    size_t count = 0;
    for (const char *at = ar->http->path; *at && count < KP_ARRAY_LEN(parts);) {
        at += strspn(at, "/");
        size_t len = strcspn(at, "/");
        if (len)
            parts[count++] = kp_arena_strndup(ar->arena, at, len);
        at += len;
    }
    bool core = strcmp(parts[0], "api") == 0, done = true;
    if (negotiate_objects(ar) < 0 && !accept_has(ar, "application/json", NULL)) {
        respond_status(ar);
        return;
    }
    ar->status = API_STATUS(ar->arena);
    if (count == 1 && aggregated(ar, core))
        return;
    if (count == 1 && core)
        respond_versions(ar);
    else if (count == 1)
        respond_group_list(ar);
    else if (count == 2 && core)
        done = respond_resources(ar, "", parts[1]);
    else if (count == 2)
        done = respond_group(ar, parts[1]);
    else if (count == 3 && !core)
        done = respond_resources(ar, parts[1], parts[2]);
    else
        done = false;
    if (!done)
        respond_text(ar, 404, "404 page not found\n");
}
