/* Which writes a webhook or policy is about: rules, the labels of namespace and object (k8s.io/apiserver pkg/admission/plugin/webhook/predicates). */
#include "controlplane/apiserver/extension/extension.h"

static bool is_namespace(const struct kp_resource *resource)
{
    return !*resource->group && strcmp(resource->name, "namespaces") == 0;
}

bool extension_exempt(const struct kp_resource *resource)
{
    return strcmp(resource->group, "admissionregistration.k8s.io") == 0;
}

const char *extension_operation(enum admission_operation operation)
{
    static const char *const names[] = {
        [ADMISSION_CREATE] = "CREATE", [ADMISSION_UPDATE] = "UPDATE", [ADMISSION_DELETE] = "DELETE", [ADMISSION_CONNECT] = "CONNECT"};
    return names[operation];
}

const char *extension_namespace(const struct admission_attributes *a)
{
    const char *name = is_namespace(a->resource) ? a->name : a->ns;
    return name ? name : "";
}

/* ---- rules -------------------------------------------------------------------------------------------------------------------------- */
static bool names(const struct kp_string_list *list, const char *value)
{
    for (size_t i = 0; i < list->len; i++)
        if (strcmp(list->items[i], "*") == 0 || strcmp(list->items[i], value) == 0)
            return true;
    return false;
}

static bool part_is(const char *part, size_t len, const char *value)
{
    return (len == 1 && *part == '*') || (strlen(value) == len && strncmp(part, value, len) == 0);
}

/* "pods", "pods/status", "pods/\*", "*\/scale", "*": all resources, but no subresource. */
static bool names_resource(const struct kp_string_list *list, const char *resource, const char *subresource)
{
    for (size_t i = 0; i < list->len; i++) {
        const char *slash = strchr(list->items[i], '/');
        size_t len = slash ? (size_t)(slash - list->items[i]) : strlen(list->items[i]);
        const char *sub = slash ? slash + 1 : "";
        if (part_is(list->items[i], len, resource) && part_is(sub, strlen(sub), subresource))
            return true;
    }
    return false;
}

static bool in_scope(const char *scope, const struct admission_attributes *a)
{
    if (!scope || strcmp(scope, "*") == 0)
        return true;
    bool namespaced = !is_namespace(a->resource) && !kp_empty(a->ns);
    return namespaced == (strcmp(scope, "Namespaced") == 0);
}

static bool any_rule(const struct extension_rule *rules, size_t count, const struct kp_resource *resource, const struct admission_attributes *a)
{
    for (size_t i = 0; i < count; i++) {
        const struct extension_rule *rule = &rules[i];
        bool name = !rule->names || !rule->names->len || kp_string_list_has(rule->names, a->name ? a->name : "");
        if (name && in_scope(rule->scope, a) && names(rule->operations, extension_operation(a->operation)) && names(rule->groups, resource->group) &&
            names(rule->versions, resource->version) && names_resource(rule->resources, resource->name, a->subresource ? a->subresource : ""))
            return true;
    }
    return false;
}

/* The version of the resource that rules name; NULL: none. */
static const struct kp_resource *find_version(const struct extension_rule *rules, size_t n_rules, bool exact, const struct admission_attributes *a,
                                              const struct admission_views *views)
{
    size_t count;
    if (any_rule(rules, n_rules, a->resource, a))
        return a->resource;
    if (exact)
        return NULL;
    const struct kp_resource *const *all = kp_resources(&count);
    for (size_t i = 0; i < count; i++)
        if (all[i] != a->resource && any_rule(rules, n_rules, all[i], a) && views->same(all[i], a->resource))
            return all[i];
    return NULL;
}

/* ---- labels ------------------------------------------------------------------------------------------------------------------------- */
static bool selects_all(const struct kp_selector *selector)
{
    return !selector->len && !selector->nothing;
}

static const struct kp_string_map *labels_of(const struct admission_attributes *a, const void *obj)
{
    const struct k8s_object_meta *meta = obj && a->type && a->type->has_object_meta ? kp_object_meta(a->type, obj) : NULL;
    return meta ? &meta->labels : NULL;
}

static int in_namespace(const struct kp_selector *selector, const struct admission_attributes *a, struct wcache *namespaces, struct api_status *status)
{
    const char *name = extension_namespace(a);
    if (selects_all(selector) || (kp_empty(name) && !is_namespace(a->resource)))
        return 1;
    if (is_namespace(a->resource) && kp_empty(a->subresource) && a->object)
        return kp_selector_matches(selector, labels_of(a, a->object));
    KP_AUTO(wcache_object_unref) struct wcache_object *object = wcache_get(namespaces, name);
    if (!object)
        return status_not_found(status, "", "namespaces", name);
    return kp_selector_matches(selector, &object->labels);
}

static bool has_labels(const struct kp_selector *selector, const struct admission_attributes *a)
{
    if (selects_all(selector))
        return true;
    const struct kp_string_map *new = labels_of(a, a->object), *old = labels_of(a, a->old_object);
    return (new && kp_selector_matches(selector, new)) || (old && kp_selector_matches(selector, old));
}

int extension_matches(const struct extension_match *match, const struct admission_attributes *a, const struct admission_views *views, struct wcache *namespaces,
                      const struct kp_resource **ret_resource, struct api_status *status)
{
    *ret_resource = match->any ? a->resource : find_version(match->rules, match->n_rules, match->exact, a, views);
    if (!*ret_resource || (match->n_excluded && find_version(match->excluded, match->n_excluded, match->exact, a, views)))
        return 0;
    int code = in_namespace(&match->namespaces, a, namespaces, status);
    return code <= 0 ? code : has_labels(&match->objects, a);
}

void extension_selector(struct kp_arena *arena, const struct k8s_label_selector *source, const char *whose, struct kp_selector *ret)
{
    struct kp_error error = {0};
    if (!source || kp_label_selector_from(source, arena, ret, &error) == 0)
        return;
    kp_warn("a selector cannot be used: it selects nothing", "of", whose, "error", error.message, NULL);
    *ret = (struct kp_selector){.nothing = true};
}
