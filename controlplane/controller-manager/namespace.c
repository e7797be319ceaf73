/* Namespaces: empties one that is being deleted, pods first, custom resources and what other API servers have too, then lifts its finalizer. */
#include "controlplane/controller-manager/aggregated.h"
#include "controlplane/controller-manager/customs.h"
#include "controlplane/controller-manager/controllers.h"

#define NAMESPACE_RETRY_MS 200
#define NAMESPACE_FINALIZER "kubernetes"

static bool deletable(const struct kp_resource *resource)
{
    return resource->namespaced && (resource->verbs & KP_VERB_DELETECOLLECTION) && (resource->verbs & KP_VERB_LIST);
}

/* Events are stored once under two groups; asking for one of them is enough. */
static bool is_duplicate(const struct kp_resource *resource)
{
    return kp_streq(resource->group, "events.k8s.io") ||
           (kp_streq(resource->group, "autoscaling") && kp_streq(resource->version, "v1"));
}

struct remains {
    size_t objects, with_finalizers;
    const char *what; /* "pods. has 2 resource instances" for the condition's message */
    size_t failures;  /* custom resources that could not be listed */
    const char *why;
    size_t undiscovered; /* group versions of other API servers that cannot be asked: something may be left there */
    const char *undiscovered_why;
    bool unserved;    /* a custom resource was not served: its definition goes, or has only just come */
};

/* How much of a resource is left in the namespace, from the store itself: a cache may not know of the newest objects. *ret_items: what, in the plan's
   arena. */
static int look_closely(const struct plan_input *in, const struct kp_resource *resource, struct remains *remains,
                        const struct k8s_partial_object_metadata_items **ret_items, struct kp_error *error)
{
    const struct client_list_options options = {.limit = 500, .metadata = true};
    void *list;
    if (client_list(engine_client(in->engine), resource, in->name, &options, in->arena, &list, error) < 0)
        return kp_wrap(error, "list of %s in %s", resource->name, in->name);
    const struct k8s_partial_object_metadata_items *items = &((const struct k8s_partial_object_metadata_list *)list)->items;
    for (size_t i = 0; i < items->len; i++)
        remains->with_finalizers += items->items[i].metadata->finalizers.len > 0;
    if (items->len)
        remains->what = kp_arena_printf(in->arena, "%s%s%s%s has %zu resource instances", remains->what ? remains->what : "",
                                        remains->what ? ", " : "", resource->name,
                                        kp_empty(resource->group) ? "." : kp_arena_printf(in->arena, ".%s", resource->group), items->len);
    remains->objects += items->len;
    *ret_items = items;
    return 0;
}

static int look(const struct plan_input *in, const struct kp_resource *resource, struct remains *remains, struct kp_error *error)
{
    const struct k8s_partial_object_metadata_items *items;
    return look_closely(in, resource, remains, &items, error);
}

static bool set_condition(const struct plan_input *in, struct k8s_namespace *ns, const char *type, const char *status, const char *reason,
                          const char *message)
{
    struct k8s_namespace_condition *condition = NULL;
    for (size_t i = 0; i < ns->status->conditions.len; i++)
        if (kp_streq(ns->status->conditions.items[i].type, type))
            condition = &ns->status->conditions.items[i];
    if (condition && kp_streq(condition->status, status) && kp_streq(condition->message, message))
        return false;
    if (!condition) {
        condition = KP_LIST_ADD(in->arena, &ns->status->conditions);
        condition->type = type;
    }
    if (!kp_streq(condition->status, status))
        condition->last_transition_time = KP_TIME_OF(in->now_s);
    condition->status = status;
    condition->reason = reason;
    condition->message = message;
    return true;
}

static void report(const struct plan_input *in, struct plan *plan, const struct k8s_namespace *ns, const struct remains *remains)
{
    struct k8s_namespace *copy = KP_OBJECT_CLONE(in->arena, k8s_namespace, ns);
    bool changed = remains->undiscovered
                       ? set_condition(in, copy, "NamespaceDeletionDiscoveryFailure", "True", "DiscoveryFailed",
                                       kp_arena_printf(in->arena, "Discovery failed for some groups, %zu failing: unable to retrieve the complete list of server APIs: %s",
                                                       remains->undiscovered, remains->undiscovered_why))
                       : set_condition(in, copy, "NamespaceDeletionDiscoveryFailure", "False", "ResourcesDiscovered", "All resources successfully discovered");
    changed |= set_condition(in, copy, "NamespaceDeletionGroupVersionParsingFailure", "False", "ParsedGroupVersions", "All legacy kube types successfully parsed");
    changed |= remains->failures
                   ? set_condition(in, copy, "NamespaceDeletionContentFailure", "True", "ContentDeletionFailed",
                                   kp_arena_printf(in->arena, "Failed to delete all resource types, %zu remaining: %s", remains->failures, remains->why))
                   : set_condition(in, copy, "NamespaceDeletionContentFailure", "False", "ContentDeleted",
                                   "All content successfully deleted, may be waiting on finalization");
    changed |= remains->objects
                   ? set_condition(in, copy, "NamespaceContentRemaining", "True", "SomeResourcesRemain",
                                   kp_arena_printf(in->arena, "Some resources are remaining: %s", remains->what))
                   : set_condition(in, copy, "NamespaceContentRemaining", "False", "ContentRemoved", "All content successfully removed");
    changed |= remains->with_finalizers
                   ? set_condition(in, copy, "NamespaceFinalizersRemaining", "True", "SomeFinalizersRemain",
                                   "Some content in the namespace has finalizers remaining")
                   : set_condition(in, copy, "NamespaceFinalizersRemaining", "False", "ContentHasNoFinalizers", "All content-preserving finalizers finished");
    if (changed)
        plan_update_status(plan, &k8s_namespaces_resource, copy);
}

static void finalize(const struct plan_input *in, struct plan *plan, const struct k8s_namespace *ns)
{
    struct k8s_namespace *copy = KP_OBJECT_CLONE(in->arena, k8s_namespace, ns);
    struct kp_string_list left = {0};
    for (size_t i = 0; i < ns->spec->finalizers.len; i++)
        if (!kp_streq(ns->spec->finalizers.items[i], NAMESPACE_FINALIZER))
            kp_string_list_add(in->arena, &left, ns->spec->finalizers.items[i]);
    copy->spec->finalizers = left;
    plan_update_sub(plan, &k8s_namespaces_resource, "finalize", copy);
}

static void add_failure(const struct plan_input *in, struct remains *rest, const struct kp_error *error)
{
    rest->failures++;
    rest->why = rest->why ? kp_arena_printf(in->arena, "%s, %s", rest->why, error->message) : kp_arena_strdup(in->arena, error->message);
}

/* ---- custom resources ------------------------------------------------------------------------------------------------------ */
struct definitions {
    const void *const *items; /* as cached when the plan began */
    size_t len;
};

/* One that cannot be listed (its conversion webhook is away, say) holds the namespace, but not what else is in it. */
static void look_at_customs(const struct plan_input *in, struct plan *plan, const struct definitions *definitions, struct remains *rest)
{
    for (size_t i = 0; i < definitions->len; i++) {
        struct kp_resource *resource = KP_NEW(in->arena, struct kp_resource);
        struct kp_error error = {0};
        size_t before = rest->objects;
        if (!customs_describe(definitions->items[i], in->arena, resource, NULL) || !deletable(resource))
            continue;
        int code = look(in, resource, rest, &error);
        if (code == KP_ENOTFOUND) {
            rest->unserved = true;
        } else if (code < 0) {
            add_failure(in, rest, &error);
        }
        if (rest->objects > before)
            plan_delete_collection(plan, resource, in->name);
    }
}

/* ---- aggregated API servers ------------------------------------------------------------------------------------------------- */
/* Of a server that cannot be asked nobody knows what it has: the namespace stays until it answers, or its APIService goes. */
static void look_at_aggregated(const struct plan_input *in, struct plan *plan, struct remains *rest)
{
    struct aggregated all;
    aggregated_discover(in, &all);
    rest->undiscovered = all.failed;
    rest->undiscovered_why = all.why;
    for (size_t i = 0; i < all.resources.len; i++) {
        const struct kp_resource *resource = &all.resources.items[i];
        const struct k8s_partial_object_metadata_items *items;
        struct kp_error error = {0};
        int code = look_closely(in, resource, rest, &items, &error);
        if (code == KP_ENOTFOUND || code == KP_ENOTSUPPORTED) /* it says more than it does */
            continue;
        if (code < 0)
            add_failure(in, rest, &error);
        else if (items->len && (resource->verbs & KP_VERB_DELETECOLLECTION))
            plan_delete_collection(plan, resource, in->name);
        else
            for (size_t k = 0; k < items->len; k++)
                plan_delete(plan, resource, in->name, items->items[k].metadata->name, items->items[k].metadata->uid, -1, NULL);
    }
}

static bool is_known(const struct definitions *definitions, const struct k8s_object_meta *live, size_t hint)
{
    for (size_t n = 0; n < definitions->len; n++) {
        const struct k8s_custom_resource_definition *definition = definitions->items[(hint + n) % definitions->len]; /* mostly in the same order */
        if (kp_streq(definition->metadata->uid, live->uid))
            return kp_streq(definition->metadata->resource_version, live->resource_version);
    }
    return false;
}

/* Whether the definitions that were gone by are those of the store. The cache may be late by one whose objects would outlive the namespace. */
static int check_definitions(const struct plan_input *in, const struct definitions *definitions, bool *ret_same, struct kp_error *error)
{
    const struct client_list_options options = {.metadata = true};
    void *list;
    if (client_list(engine_client(in->engine), &customs_definitions_resource, "", &options, in->arena, &list, error) < 0)
        return kp_wrap(error, "list of customresourcedefinitions");
    const struct k8s_partial_object_metadata_items *live = &((const struct k8s_partial_object_metadata_list *)list)->items;
    *ret_same = live->len == definitions->len;
    for (size_t i = 0; *ret_same && i < live->len; i++)
        *ret_same = is_known(definitions, live->items[i].metadata, i);
    return 0;
}

/* ---- planning -------------------------------------------------------------------------------------------------------------- */
static int look_at_rest(const struct plan_input *in, struct plan *plan, const struct definitions *definitions, struct remains *rest, struct kp_error *error)
{
    size_t count;
    const struct kp_resource *const *resources = kp_resources(&count);
    for (size_t i = 0; i < count; i++) {
        size_t before = rest->objects;
        if (!deletable(resources[i]) || is_duplicate(resources[i]))
            continue;
        if (look(in, resources[i], rest, error) < 0)
            return error->code;
        if (rest->objects > before)
            plan_delete_collection(plan, resources[i], in->name);
    }
    look_at_customs(in, plan, definitions, rest);
    look_at_aggregated(in, plan, rest);
    return 0;
}

static int plan_namespace(const struct plan_input *in, struct plan *plan, struct kp_error *error)
{
    const struct k8s_namespace *ns = client_view_get(in->view, engine_cache(in->engine, &k8s_namespaces_resource), "", in->name);
    if (!ns || !ns->metadata->deletion_timestamp.set || !kp_string_list_has(&ns->spec->finalizers, NAMESPACE_FINALIZER))
        return 0;
    struct remains pods = {0}, rest = {0};
    if (look(in, &k8s_pods_resource, &pods, error) < 0)
        return error->code;
    if (pods.objects) { /* ordered deletion (v1.33): nothing that pods may need goes before they have */
        plan_delete_collection(plan, &k8s_pods_resource, in->name);
        report(in, plan, ns, &pods);
        plan_requeue_after_ms(plan, NAMESPACE_RETRY_MS);
        return 0;
    }
    struct definitions definitions;
    definitions.len = client_view_list(in->view, engine_cache(in->engine, &customs_definitions_resource), NULL, &definitions.items);
    if (look_at_rest(in, plan, &definitions, &rest, error) < 0)
        return error->code;
    size_t unknown = rest.failures + rest.undiscovered;
    bool empty = rest.objects == 0 && unknown == 0 && !rest.unserved;
    if (empty && check_definitions(in, &definitions, &empty, error) < 0)
        return error->code;
    if (empty) {
        finalize(in, plan, ns);
        return 0;
    }
    if (rest.objects || unknown)
        report(in, plan, ns, &rest);
    if (rest.objects == 0 && unknown)
        plan_back_off(plan);
    else
        plan_requeue_after_ms(plan, NAMESPACE_RETRY_MS);
    return 0;
}

static int setup_namespace(struct engine *engine, struct controller_run *run, void **ret_state, struct kp_error *error)
{
    engine_watch(run, &k8s_namespaces_resource, engine_map_self);
    engine_informer(engine, &customs_definitions_resource);
    engine_informer(engine, &k8s_apiservices_resource);
    return 0;
}

const struct controller namespace_controller = {
    .name = "namespace-controller", .workers = 2, .setup = setup_namespace, .plan = plan_namespace,
};
