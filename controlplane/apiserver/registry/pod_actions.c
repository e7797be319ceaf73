/* What is done to a pod beside writing it: binding to a node, eviction under disruption budgets. */
#include "controlplane/apiserver/registry/registry_internal.h"

/* ---- binding -------------------------------------------------------------------------------------------------------- */
static int make_bound(void *arg, struct registry_request *rq, const void *current, void **ret_new)
{
    const struct k8s_binding *binding = arg;
    struct k8s_pod *pod = KP_OBJECT_CLONE(rq->arena, k8s_pod, current);
    if (!kp_empty(binding->metadata->uid) && !kp_streq(binding->metadata->uid, pod->metadata->uid))
        return status_conflict(rq->status, "", "pods/binding", rq->name,
                               kp_arena_printf(rq->arena, "Precondition failed: UID in precondition: %s, UID in object meta: %s", binding->metadata->uid,
                                               pod->metadata->uid));
    if (pod->metadata->deletion_timestamp.set)
        return status_conflict(rq->status, "", "pods/binding", rq->name,
                               kp_arena_printf(rq->arena, "pod %s is being deleted, cannot be assigned to a host", rq->name));
    if (!kp_empty(pod->spec->node_name))
        return status_conflict(rq->status, "", "pods/binding", rq->name,
                               kp_arena_printf(rq->arena, "pod %s is already assigned to node \"%s\"", rq->name, pod->spec->node_name));
    if (pod->spec->scheduling_gates.len)
        return status_conflict(rq->status, "", "pods/binding", rq->name, kp_arena_printf(rq->arena, "pod %s has non-empty .spec.schedulingGates", rq->name));
    pod->spec->node_name = binding->target->name;
    for (size_t i = 0; i < binding->metadata->annotations.len; i++)
        kp_string_map_set(rq->arena, &pod->metadata->annotations, binding->metadata->annotations.items[i].key, binding->metadata->annotations.items[i].value);
    struct k8s_pod_condition *scheduled = NULL;
    for (size_t i = 0; i < pod->status->conditions.len; i++)
        if (kp_streq(pod->status->conditions.items[i].type, "PodScheduled"))
            scheduled = &pod->status->conditions.items[i];
    if (!scheduled)
        scheduled = KP_LIST_ADD(rq->arena, &pod->status->conditions);
    *scheduled = (struct k8s_pod_condition){.type = "PodScheduled", .status = "True", .last_transition_time = KP_TIME_OF(rq->now_s)};
    *ret_new = pod;
    return 0;
}

int registry_bind(struct registry *registry, struct registry_request *rq, void *body)
{
    const struct k8s_binding *binding = body;
    struct field_errors errors = {.arena = rq->arena};
    struct registry_update_options options = {.patch = true};
    KP_AUTO(wcache_object_unref) struct wcache_object *object = NULL;
    bool created;
    if (!kp_empty(binding->target->kind) && strcmp(binding->target->kind, "Node") != 0 && strcmp(binding->target->kind, "Minion") != 0)
        field_not_supported(&errors, binding->target->kind, (const char *const[]){"Node", "<empty>", NULL}, "target.kind");
    if (kp_empty(binding->target->name))
        field_required(&errors, "", "target.name");
    if (status_invalid(rq->status, "", "Binding", rq->name, &errors) < 0)
        return rq->status->code;
    return registry_update(registry, rq, &options, make_bound, body, &object, &created);
}

/* ---- eviction ------------------------------------------------------------------------------------------------------- */
static int make_disrupted(void *arg, struct registry_request *rq, const void *current, void **ret_new)
{
    const char *pod_name = arg;
    struct k8s_pod_disruption_budget *pdb = KP_OBJECT_CLONE(rq->arena, k8s_pod_disruption_budget, current);
    struct k8s_pod_disruption_budget_status *status = pdb->status;
    if (status->observed_generation < pdb->metadata->generation) {
        status_too_many(rq->status, 10, "Cannot evict pod as it would violate the pod's disruption budget.");
        status_add_cause(rq->status, "DisruptionBudget", kp_arena_printf(rq->arena, "The disruption budget %s is still being processed by the server.", pdb->metadata->name), "");
        return KP_ETOOMANY;
    }
    if (status->disruptions_allowed <= 0) {
        status_too_many(rq->status, 0, "Cannot evict pod as it would violate the pod's disruption budget.");
        status_add_cause(rq->status, "DisruptionBudget",
                         kp_arena_printf(rq->arena, "The disruption budget %s needs %d healthy pods and has %d currently", pdb->metadata->name, status->desired_healthy,
                                         status->current_healthy),
                         "");
        return KP_ETOOMANY;
    }
    KP_SET(status, disruptions_allowed, status->disruptions_allowed - 1);
    struct kp_time_pair *pairs = KP_NEW_ARRAY(rq->arena, struct kp_time_pair, status->disrupted_pods.len + 1);
    size_t at = 0;
    while (at < status->disrupted_pods.len && strcmp(status->disrupted_pods.items[at].key, pod_name) < 0)
        at++;
    if (at)
        memcpy(pairs, status->disrupted_pods.items, at * sizeof(*pairs));
    pairs[at] = (struct kp_time_pair){pod_name, KP_TIME_OF(rq->now_s)};
    if (at < status->disrupted_pods.len)
        memcpy(pairs + at + 1, status->disrupted_pods.items + at, (status->disrupted_pods.len - at) * sizeof(*pairs));
    status->disrupted_pods.items = pairs;
    status->disrupted_pods.len++;
    *ret_new = pdb;
    return 0;
}

/* The one budget that covers the pod; *ret_name NULL when none does. */
static int find_budget(struct registry *registry, struct registry_request *rq, const struct k8s_pod *pod, const char **ret_name)
{
    const struct registry_kind *kind = registry_kind_of(&k8s_poddisruptionbudgets_resource);
    struct wcache_filter filter = {.ns = rq->ns};
    struct wcache_list list;
    size_t found = 0;
    *ret_name = NULL;
    wcache_list(registry_cache(registry, kind), &filter, NULL, 0, rq->arena, &list);
    for (size_t i = 0; i < list.len; i++) {
        const struct k8s_pod_disruption_budget *pdb = registry_decode(kind, list.items[i], rq->arena);
        if (!pdb->spec->selector || !kp_label_selector_matches(pdb->spec->selector, &pod->metadata->labels))
            continue;
        *ret_name = pdb->metadata->name;
        found++;
    }
    wcache_list_done(&list);
    return found > 1 ? status_internal(rq->status, "%s", "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.") : 0;
}

static int consume_budget(struct registry *registry, struct registry_request *rq, const char *budget, const char *pod_name)
{
    return registry_update_status_of(registry, rq, &k8s_poddisruptionbudgets_resource, budget, make_disrupted, (void *)(uintptr_t)pod_name);
}

int registry_evict(struct registry *registry, struct registry_request *rq, void *body)
{
    const struct k8s_eviction *eviction = body;
    KP_AUTO(wcache_object_unref) struct wcache_object *object = NULL, *deleted = NULL;
    const char *budget;
    bool gone, as_status;
    if (!kp_empty(eviction->metadata->name) && strcmp(eviction->metadata->name, rq->name) != 0)
        return status_bad_request(rq->status, "name in URL does not match name in Eviction object: %s != %s", rq->name, eviction->metadata->name);
    if (registry_get(registry, rq, NULL, &object) < 0)
        return rq->status->code;
    const struct k8s_pod *pod = registry_decode(rq->kind, object, rq->arena);
    bool over = kp_streq(pod->status->phase, "Succeeded") || kp_streq(pod->status->phase, "Failed") || kp_streq(pod->status->phase, "Pending") ||
                pod->metadata->deletion_timestamp.set;
    if (!over) {
        if (find_budget(registry, rq, pod, &budget) < 0 || (budget && consume_budget(registry, rq, budget, rq->name) < 0))
            return rq->status->code;
    }
    struct k8s_delete_options none = {0};
    rq->subresource = "";
    return registry_delete(registry, rq, eviction->delete_options ? eviction->delete_options : &none, &deleted, &gone, &as_status);
}
