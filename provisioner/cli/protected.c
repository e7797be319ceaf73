/* Whether a pool may go: its pods may be protected by budgets that no eviction would get past. */
#include "api/k8s.h"
#include "client/client.h"
#include "provisioner/cli/operation_internal.h"

static bool is_of_pool(const struct cloud_machine_list *machines, const char *pool, const char *node)
{
    for (size_t i = 0; i < machines->len; i++)
        if (kp_streq(machines->items[i].name, node))
            return kp_streq(machines->items[i].pool, pool);
    return false;
}

static bool has_ended(const struct k8s_pod *pod)
{
    return kp_streq(pod->status->phase, "Succeeded") || kp_streq(pod->status->phase, "Failed");
}

static const struct k8s_pod_disruption_budget *budget_in_the_way(const struct k8s_pod_disruption_budget_list *budgets, const struct k8s_pod *pod)
{
    for (size_t i = 0; i < budgets->items.len; i++) {
        const struct k8s_pod_disruption_budget *budget = &budgets->items.items[i];
        if (kp_streq(budget->metadata->namespace, pod->metadata->namespace) && budget->status->disruptions_allowed <= 0 &&
            budget->spec->selector && kp_label_selector_matches(budget->spec->selector, &pod->metadata->labels))
            return budget;
    }
    return NULL;
}

int cli_op_check_pool_goes(struct cli_operation *op, const char *pool, struct kp_error *error)
{
    static const struct client_list_options options;
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    struct cloud_machine_list machines;
    void *found_pods = NULL, *found_budgets = NULL;
    int r = cloud_machine_list(op->cloud, op->cluster.uid, arena, &machines, error);
    if (r == 0)
        r = client_list(cli_api_client(op->api), &k8s_pods_resource, NULL, &options, arena, &found_pods, error);
    if (r == 0)
        r = client_list(cli_api_client(op->api), &k8s_poddisruptionbudgets_resource, NULL, &options, arena, &found_budgets, error);
    if (r < 0)
        return kp_wrap(error, "whether pool %s may go", pool);
    const struct k8s_pod_list *pods = found_pods;
    for (size_t i = 0; i < pods->items.len; i++) {
        const struct k8s_pod *pod = &pods->items.items[i];
        const struct k8s_pod_disruption_budget *budget =
            is_of_pool(&machines, pool, pod->spec->node_name) && !has_ended(pod) ? budget_in_the_way(found_budgets, pod) : NULL;
        if (budget)
            return kp_fail(error, KP_ECONFLICT,
                           "pool %s cannot be removed: pod %s/%s on %s is protected by PodDisruptionBudget %s, which allows no disruption "
                           "now (%d healthy, %d needed): add replicas elsewhere or loosen the budget; kprov scale nodepool %s %s --replicas 0 "
                           "empties the pool and waits for the budget",
                           pool, pod->metadata->namespace, pod->metadata->name, pod->spec->node_name, budget->metadata->name,
                           budget->status->current_healthy, budget->status->desired_healthy, op->cluster.name, pool);
    }
    return 0;
}
