/* Follows policies, pods and namespaces, and keeps the table like them. */
#include "nodeimage/network/policy/policy.h"
#include "nodeimage/network/tables/keeper.h"

#define FIRST_SYNC_MS 60000

struct policy_agent {
    struct client *client;
    const char *node_name;
    struct client_informer *policies, *pods, *namespaces; /* the last two: NULL until there is a policy */
    struct keeper *keeper;
};

static void on_change(struct client_object *old, struct client_object *new, void *arg)
{
    (void)old;
    (void)new;
    keeper_wake(((struct policy_agent *)arg)->keeper);
}

static void on_pod(struct client_object *old, struct client_object *new, void *arg)
{
    if (policy_pod_matters(old ? old->data : NULL, new ? new->data : NULL))
        on_change(old, new, arg);
}

static int watch_peers(struct policy_agent *agent, struct kp_error *error)
{
    if (!agent->pods) {
        agent->pods = client_informer_new(agent->client, &k8s_pods_resource, NULL, NULL, NULL);
        agent->namespaces = client_informer_new(agent->client, &k8s_namespaces_resource, NULL, NULL, NULL);
        client_informer_add_handler(agent->pods, on_pod, agent);
        client_informer_add_handler(agent->namespaces, on_change, agent);
        client_informer_start(agent->pods);
        client_informer_start(agent->namespaces);
    }
    struct client_informer *both[] = {agent->pods, agent->namespaces};
    return client_informers_wait(both, KP_ARRAY_LEN(both), FIRST_SYNC_MS, error);
}

static int build(void *arg, struct nft_rules **ret, struct kp_error *error)
{
    struct policy_agent *agent = arg;
    KP_AUTO(client_view_free) struct client_view *view = client_view_new();
    struct policy_input input = {.node_name = agent->node_name};
    input.n_policies = client_view_list(view, agent->policies, NULL, (const void *const **)&input.policies);
    if (input.n_policies > 0) {
        if (watch_peers(agent, error) < 0)
            return error->code;
        input.n_pods = client_view_list(view, agent->pods, NULL, (const void *const **)&input.pods);
        input.n_namespaces = client_view_list(view, agent->namespaces, NULL, (const void *const **)&input.namespaces);
    }
    *ret = policy_rules_build(&input);
    return 0;
}

int policy_start(struct client *client, const char *node_name, struct policy_agent **ret, struct kp_error *error)
{
    struct policy_agent *agent = kp_calloc(1, sizeof(*agent));
    const struct keeper_config config = {"network policies", POLICY_TABLE, policy_base_table, build, agent};
    *ret = agent;
    agent->client = client;
    agent->node_name = node_name;
    agent->keeper = keeper_new(&config);
    agent->policies = client_informer_new(client, &k8s_networkpolicies_resource, NULL, NULL, NULL);
    client_informer_add_handler(agent->policies, on_change, agent);
    client_informer_start(agent->policies);
    if (client_informers_wait(&agent->policies, 1, FIRST_SYNC_MS, error) < 0)
        return error->code;
    return keeper_start(agent->keeper, error);
}

void policy_stop(struct policy_agent *agent)
{
    if (!agent)
        return;
    keeper_stop(agent->keeper);
    client_informer_free(agent->policies);
    client_informer_free(agent->pods);
    client_informer_free(agent->namespaces);
    keeper_free(agent->keeper);
    free(agent);
}
