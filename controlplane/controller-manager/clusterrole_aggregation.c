/* Aggregated ClusterRoles: their rules are those of every role that one of their selectors matches. */
#include "controlplane/controller-manager/controllers.h"

struct rules {
    struct k8s_policy_rule *items;
    size_t len;
};

static bool has_rule(const struct rules *rules, const struct k8s_policy_rule *rule)
{
    for (size_t i = 0; i < rules->len; i++)
        if (kp_object_equal(&k8s_policy_rule_type, &rules->items[i], rule))
            return true;
    return false;
}

static bool selects(const struct k8s_cluster_role *role, const struct k8s_cluster_role *other)
{
    for (size_t i = 0; i < role->aggregation_rule->cluster_role_selectors.len; i++)
        if (kp_label_selector_matches(&role->aggregation_rule->cluster_role_selectors.items[i], &other->metadata->labels))
            return true;
    return false;
}

static int plan_aggregation(const struct plan_input *in, struct plan *plan, struct kp_error *error)
{
    const struct client_informer *cache = engine_cache(in->engine, &k8s_clusterroles_resource);
    const struct k8s_cluster_role *role = client_view_get(in->view, cache, "", in->name);
    const void *const *roles;
    struct rules rules = {0};
    if (!role || !role->aggregation_rule || role->metadata->deletion_timestamp.set)
        return 0;
    size_t n = client_view_list(in->view, cache, NULL, &roles); /* in order of names: the result does not flutter */
    for (size_t i = 0; i < n; i++) {
        const struct k8s_cluster_role *other = roles[i];
        if (kp_streq(other->metadata->name, in->name) || !selects(role, other))
            continue;
        for (size_t k = 0; k < other->rules.len; k++)
            if (!has_rule(&rules, &other->rules.items[k]))
                *KP_LIST_ADD(in->arena, &rules) = other->rules.items[k];
    }
    struct k8s_cluster_role *copy = KP_OBJECT_CLONE(in->arena, k8s_cluster_role, role);
    copy->rules.items = rules.items;
    copy->rules.len = rules.len;
    if (!kp_object_equal(&k8s_cluster_role_type, copy, role))
        plan_update(plan, &k8s_clusterroles_resource, copy);
    return 0;
}

/* Any role may be part of any aggregated one. */
static void map_aggregated(struct controller_run *run, const struct client_object *old, const struct client_object *new)
{
    KP_AUTO(client_view_free) struct client_view *view = client_view_new();
    const void *const *roles;
    size_t n = client_view_list(view, engine_cache(engine_of(run), &k8s_clusterroles_resource), NULL, &roles);
    for (size_t i = 0; i < n; i++) {
        const struct k8s_cluster_role *role = roles[i];
        if (role->aggregation_rule)
            engine_enqueue(run, "", role->metadata->name);
    }
}

static int setup_aggregation(struct engine *engine, struct controller_run *run, void **ret_state, struct kp_error *error)
{
    engine_watch(run, &k8s_clusterroles_resource, map_aggregated);
    return 0;
}

const struct controller clusterrole_aggregation_controller = {
    .name = "clusterrole-aggregation-controller", .setup = setup_aggregation, .plan = plan_aggregation,
};
