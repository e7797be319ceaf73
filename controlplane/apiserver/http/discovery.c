/* /api and /apis: groups, versions and resources, one by one or all at once (aggregated). */
#include "controlplane/apiserver/http/http_internal.h"

struct version {
    const char *name;
    int32_t priority;
    const struct aggregator_entry *remote; /* who serves it; NULL: we do */
};
struct group {
    const char *name;
    int32_t priority; /* the greatest of its versions */
    struct {
        struct version *items;
        size_t len;
    } versions; /* preferred first */
};
struct groups {
    struct group *items;
    size_t len;
};
#define OWN_GROUP "apiregistration.k8s.io" /* the aggregator's: has no APIService, and goes before all */

static bool served(const struct api_server *server, const struct kp_resource *r)
{
    if (builtin_metrics_has(r))
        return builtin_metrics_on(server);
    return r->custom || registry_kind_of(r) || strcmp(r->group, "authentication.k8s.io") == 0 || strcmp(r->group, "authorization.k8s.io") == 0 ||
           (!*r->group && (strcmp(r->name, "bindings") == 0 || strcmp(r->name, "componentstatuses") == 0));
}

/* "v11beta2" is {11, beta, 2}. */
struct stage {
    int64_t major, minor;
    enum { ALPHA, BETA, STABLE } kind;
};

static const char *parse_number(const char *at, int64_t *ret)
{
    const char *start = at;
    for (*ret = 0; *at >= '0' && *at <= '9' && at - start < 18; at++)
        *ret = 10 * *ret + (*at - '0');
    return at > start ? at : NULL;
}

static bool parse_stage(const char *version, struct stage *ret)
{
    const char *at = *version == 'v' ? parse_number(version + 1, &ret->major) : NULL;
    ret->minor = 0;
    ret->kind = STABLE;
    if (!at || !*at)
        return at != NULL;
    if (kp_starts_with(at, "alpha"))
        ret->kind = ALPHA;
    else if (kp_starts_with(at, "beta"))
        ret->kind = BETA;
    else
        return false;
    at = parse_number(at + (ret->kind == ALPHA ? strlen("alpha") : strlen("beta")), &ret->minor);
    return at && !*at;
}

int version_compare(const char *a, const char *b)
{
    struct stage x, y;
    bool x_known = parse_stage(a, &x), y_known = parse_stage(b, &y);
    if (!x_known && !y_known)
        return strcmp(b, a);
    if (!x_known || !y_known)
        return x_known ? 1 : -1;
    if (x.kind != y.kind)
        return x.kind > y.kind ? 1 : -1;
    if (x.major != y.major)
        return x.major > y.major ? 1 : -1;
    return (x.minor > y.minor) - (x.minor < y.minor);
}

static struct group *find_group(struct groups *groups, const char *name, struct kp_arena *arena)
{
    for (size_t i = 0; i < groups->len; i++)
        if (strcmp(groups->items[i].name, name) == 0)
            return &groups->items[i];
    struct group *group = KP_LIST_ADD(arena, groups);
    group->name = name;
    return group;
}

static bool has_version(const struct group *group, const char *name)
{
    for (size_t i = 0; i < group->versions.len; i++)
        if (strcmp(group->versions.items[i].name, name) == 0)
            return true;
    return false;
}

/* As its APIService says, or would say if it were there. */
static void add_version(struct groups *groups, const struct aggregator_view *view, const char *group_name, const char *name, bool custom, struct kp_arena *arena)
{
    struct group *group = find_group(groups, group_name, arena);
    const struct aggregator_entry *entry = aggregator_find(view, group_name, name);
    int32_t group_priority, version_priority;
    if (has_version(group, name))
        return;
    aggregator_priority(group_name, name, custom, &group_priority, &version_priority);
    if (entry) {
        group_priority = entry->group_priority;
        version_priority = entry->version_priority;
    }
    if (strcmp(group_name, OWN_GROUP) == 0)
        group_priority = INT32_MAX;
    group->priority = KP_MAX(group->priority, group_priority);
    struct version *version = KP_LIST_ADD(arena, &group->versions);
    *version = (struct version){name, version_priority, entry && entry->remote ? entry : NULL};
}

static int compare_groups(const void *a, const void *b)
{
    const struct group *left = a, *right = b;
    if (left->priority != right->priority)
        return left->priority > right->priority ? -1 : 1;
    return strcmp(left->name, right->name);
}

static int compare_versions(const void *a, const void *b)
{
    const struct version *left = a, *right = b;
    if (left->priority != right->priority)
        return left->priority > right->priority ? -1 : 1;
    return version_compare(right->name, left->name);
}

static struct groups all_groups(struct api_request *ar)
{
    const struct aggregator_view *view = ar->view;
    struct kp_arena *arena = ar->arena;
    size_t n;
    struct groups groups = {0};
    const struct kp_resource *const *resources = kp_resources(&n);
    for (size_t i = 0; i < n; i++)
        if (served(ar->server, resources[i]))
            add_version(&groups, view, resources[i]->group, resources[i]->version, resources[i]->custom != NULL, arena);
    for (size_t i = 0; view && i < view->len; i++)
        if (view->items[i].remote && *view->items[i].group)
            add_version(&groups, view, view->items[i].group, view->items[i].version, true, arena);
    for (size_t i = 0; i < groups.len; i++)
        qsort(groups.items[i].versions.items, groups.items[i].versions.len, sizeof(struct version), compare_versions);
    qsort(groups.items, groups.len, sizeof(*groups.items), compare_groups);
    return groups;
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
    for (size_t i = 0; i < group->versions.len; i++) {
        struct k8s_group_version_for_discovery *v = KP_LIST_ADD(arena, &out->versions);
        v->group_version = group_version(group->name, group->versions.items[i].name, arena);
        v->version = group->versions.items[i].name;
    }
    out->preferred_version = KP_OBJECT_NEW(arena, k8s_group_version_for_discovery);
    *out->preferred_version = out->versions.items[0];
}

static void respond_group_list(struct api_request *ar)
{
    struct groups groups = all_groups(ar);
    struct k8s_api_group_list *list = KP_OBJECT_NEW(ar->arena, k8s_api_group_list);
    for (size_t i = 0; i < groups.len; i++)
        if (*groups.items[i].name)
            fill_api_group(KP_LIST_ADD(ar->arena, &list->groups), &groups.items[i], ar->arena);
    respond_typed(ar, 200, &k8s_api_group_list_type, list);
}

static bool respond_group(struct api_request *ar, const char *name)
{
    struct groups groups = all_groups(ar);
    for (size_t i = 0; i < groups.len; i++) {
        if (!*groups.items[i].name || strcmp(groups.items[i].name, name) != 0)
            continue;
        struct k8s_api_group *group = KP_OBJECT_NEW(ar->arena, k8s_api_group);
        fill_api_group(group, &groups.items[i], ar->arena);
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
        if (served(ar->server, resources[i]) && strcmp(resources[i]->group, group) == 0 && strcmp(resources[i]->version, version) == 0)
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

/* As its server said when it was last asked; one that cannot be asked now has it marked as stale. */
static void put_remote_version(struct kp_buf *out, const struct aggregator_entry *entry)
{
    kp_buf_printf(out, "{\"version\":\"%s\"", entry->version);
    if (entry->resources && entry->resources->len > strlen("[]")) {
        kp_buf_puts(out, ",\"resources\":");
        kp_buf_append(out, entry->resources->data, entry->resources->len);
    }
    kp_buf_printf(out, ",\"freshness\":\"%s\"}", entry->current ? "Current" : "Stale");
}

static void put_version(struct kp_buf *out, const struct group *group, const char *version, struct api_request *ar)
{
    size_t n;
    const struct kp_resource *const *resources = kp_resources(&n);
    bool first = true;
    kp_buf_printf(out, "{\"version\":\"%s\",\"resources\":[", version);
    for (size_t i = 0; i < n; i++) {
        const struct kp_resource *r = resources[i];
        if (!served(ar->server, r) || strcmp(r->group, group->name) != 0 || strcmp(r->version, version) != 0)
            continue;
        kp_buf_puts(out, first ? "" : ",");
        first = false;
        put_resource(out, r, ar->arena);
    }
    kp_buf_puts(out, "],\"freshness\":\"Current\"}");
}

static void respond_aggregated(struct api_request *ar, bool core, const char *version)
{
    struct groups groups = all_groups(ar);
    bool first = true;
    KP_AUTO_BUF struct kp_buf out = {0};
    kp_buf_printf(&out, "{\"kind\":\"APIGroupDiscoveryList\",\"apiVersion\":\"apidiscovery.k8s.io/%s\",\"metadata\":{},\"items\":[", version);
    for (size_t i = 0; i < groups.len; i++) {
        if ((*groups.items[i].name == '\0') != core)
            continue;
        kp_buf_puts(&out, first ? "{\"metadata\":{" : ",{\"metadata\":{");
        first = false;
        if (*groups.items[i].name)
            kp_buf_printf(&out, "\"name\":\"%s\"", groups.items[i].name);
        kp_buf_puts(&out, "},\"versions\":[");
        for (size_t j = 0; j < groups.items[i].versions.len; j++) {
            kp_buf_puts(&out, j ? "," : "");
            const struct version *one = &groups.items[i].versions.items[j];
            if (one->remote)
                put_remote_version(&out, one->remote);
            else
                put_version(&out, &groups.items[i], one->name, ar);
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
