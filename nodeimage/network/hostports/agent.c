/* Follows this node's pods and keeps the table of their host ports. */
#include "nodeimage/network/hostports/hostports.h"
#include "nodeimage/network/tables/keeper.h"

#define FIRST_SYNC_MS 60000

struct hostports_agent {
    struct client_informer *pods;
    struct keeper *keeper;
};

static void on_pod(struct client_object *old, struct client_object *new, void *arg)
{
    if (hostports_matter(old ? old->data : NULL, new ? new->data : NULL))
        keeper_wake(((struct hostports_agent *)arg)->keeper);
}

static int build(void *arg, struct nft_rules **ret, struct kp_error *error)
{
    struct hostports_agent *agent = arg;
    KP_AUTO(client_view_free) struct client_view *view = client_view_new();
    const struct k8s_pod *const *pods;
    (void)error;
    size_t n = client_view_list(view, agent->pods, NULL, (const void *const **)&pods);
    *ret = hostports_build(pods, n);
    return 0;
}

int hostports_start(struct client *client, const char *node_name, struct hostports_agent **ret, struct kp_error *error)
{
    struct hostports_agent *agent = kp_calloc(1, sizeof(*agent));
    const struct keeper_config config = {"host ports", HOSTPORTS_TABLE, hostports_base_table, build, agent};
    KP_AUTO_FREE char *of_node = kp_asprintf("spec.nodeName=%s", node_name);
    *ret = agent;
    agent->keeper = keeper_new(&config);
    agent->pods = client_informer_new(client, &k8s_pods_resource, NULL, NULL, of_node);
    client_informer_add_handler(agent->pods, on_pod, agent);
    client_informer_start(agent->pods);
    if (client_informers_wait(&agent->pods, 1, FIRST_SYNC_MS, error) < 0)
        return error->code;
    return keeper_start(agent->keeper, error);
}

void hostports_stop(struct hostports_agent *agent)
{
    if (!agent)
        return;
    keeper_stop(agent->keeper);
    client_informer_free(agent->pods);
    keeper_free(agent->keeper);
    free(agent);
}
