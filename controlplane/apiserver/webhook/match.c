/* Which webhooks a write concerns: rules, the labels of namespace and object (k8s.io/apiserver pkg/admission/plugin/webhook/predicates). */
#include "controlplane/apiserver/webhook/webhook_internal.h"

static bool is_namespace(const struct kp_resource *resource)
{
    return !*resource->group && strcmp(resource->name, "namespaces") == 0;
}

/* Nobody could mend a configuration that refuses its own change. */
bool webhook_exempt(const struct kp_resource *resource)
{
    return strcmp(resource->group, "admissionregistration.k8s.io") == 0;
}

const char *webhook_operation(enum admission_operation operation)
{
    static const char *const names[] = {
        [ADMISSION_CREATE] = "CREATE", [ADMISSION_UPDATE] = "UPDATE", [ADMISSION_DELETE] = "DELETE", [ADMISSION_CONNECT] = "CONNECT"};
    return names[operation];
}

const char *webhook_namespace(const struct admission_attributes *a)
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

bool webhook_rule_matches(const struct k8s_rule_with_operations *rule, const struct kp_resource *resource, const struct admission_attributes *a)
{
    return in_scope(rule->scope, a) && names(&rule->operations, webhook_operation(a->operation)) && names(&rule->api_groups, resource->group) &&
           names(&rule->api_versions, resource->version) && names_resource(&rule->resources, resource->name, a->subresource ? a->subresource : "");
}

static bool any_rule(const struct webhook *hook, const struct kp_resource *resource, const struct admission_attributes *a)
{
    for (size_t i = 0; i < hook->rules.len; i++)
        if (webhook_rule_matches(&hook->rules.items[i], resource, a))
            return true;
    return false;
}

const struct kp_resource *webhook_match_rules(const struct webhook *hook, const struct admission_attributes *a, const struct admission_views *views)
{
    size_t count;
    if (any_rule(hook, a->resource, a))
        return a->resource;
    if (hook->exact)
        return NULL;
    const struct kp_resource *const *all = kp_resources(&count);
    for (size_t i = 0; i < count; i++)
        if (all[i] != a->resource && any_rule(hook, all[i], a) && views->same(all[i], a->resource))
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

int webhook_match_namespace(struct webhooks *webhooks, const struct webhook *hook, const struct admission_attributes *a, struct api_status *status)
{
    const char *name = webhook_namespace(a);
    if (selects_all(&hook->namespaces) || (kp_empty(name) && !is_namespace(a->resource)))
        return 1;
    if (is_namespace(a->resource) && kp_empty(a->subresource) && a->object)
        return kp_selector_matches(&hook->namespaces, labels_of(a, a->object));
    KP_AUTO(wcache_object_unref) struct wcache_object *object = wcache_get(webhooks->namespaces, name);
    if (!object)
        return status_not_found(status, "", "namespaces", name);
    return kp_selector_matches(&hook->namespaces, &object->labels);
}

bool webhook_match_object(const struct webhook *hook, const struct admission_attributes *a)
{
    if (selects_all(&hook->objects))
        return true;
    const struct kp_string_map *new = labels_of(a, a->object), *old = labels_of(a, a->old_object);
    return (new && kp_selector_matches(&hook->objects, new)) || (old && kp_selector_matches(&hook->objects, old));
}
