/* Namespaces: empties one that is being deleted, pods first, then lifts its finalizer. */
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
};

/* How much of a resource is left in the namespace, from the store itself: a cache may not know of the newest objects. */
static int look(const struct plan_input *in, const struct kp_resource *resource, struct remains *remains, struct kp_error *error)
{
    const struct client_list_options options = {.limit = 500};
    void *list;
    if (client_list(engine_client(in->engine), resource, in->name, &options, in->arena, &list, error) < 0)
        return kp_wrap(error, "list of %s in %s", resource->name, in->name);
    const struct kp_list *items = (const struct kp_list *)(const void *)((const char *)list + resource->list_type->items_offset);
    for (size_t i = 0; i < items->len; i++) {
        const struct k8s_object_meta *meta = kp_object_meta(resource->type, (const char *)items->items + i * resource->type->size);
        remains->with_finalizers += meta->finalizers.len > 0;
    }
    if (items->len)
        remains->what = kp_arena_printf(in->arena, "%s%s%s%s has %zu resource instances", remains->what ? remains->what : "",
                                        remains->what ? ", " : "", resource->name,
                                        kp_empty(resource->group) ? "." : kp_arena_printf(in->arena, ".%s", resource->group), items->len);
    remains->objects += items->len;
    return 0;
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
    bool changed = set_condition(in, copy, "NamespaceDeletionDiscoveryFailure", "False", "ResourcesDiscovered", "All resources successfully discovered");
    changed |= set_condition(in, copy, "NamespaceDeletionGroupVersionParsingFailure", "False", "ParsedGroupVersions", "All legacy kube types successfully parsed");
    changed |= set_condition(in, copy, "NamespaceDeletionContentFailure", "False", "ContentDeleted",
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
    size_t count;
    const struct kp_resource *const *resources = kp_resources(&count);
    for (size_t i = 0; i < count; i++) {
        size_t before = rest.objects;
        if (!deletable(resources[i]) || is_duplicate(resources[i]))
            continue;
        if (look(in, resources[i], &rest, error) < 0)
            return error->code;
        if (rest.objects > before)
            plan_delete_collection(plan, resources[i], in->name);
    }
    if (rest.objects) {
        report(in, plan, ns, &rest);
        plan_requeue_after_ms(plan, NAMESPACE_RETRY_MS);
    } else {
        finalize(in, plan, ns);
    }
    return 0;
}

static int setup_namespace(struct engine *engine, struct controller_run *run, void **ret_state, struct kp_error *error)
{
    engine_watch(run, &k8s_namespaces_resource, engine_map_self);
    return 0;
}

const struct controller namespace_controller = {
    .name = "namespace-controller", .workers = 2, .setup = setup_namespace, .plan = plan_namespace,
};
