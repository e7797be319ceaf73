/* Follows policies, pods and namespaces, and keeps the table like them. */
#include <pthread.h>

#include "nodeimage/network/policy/policy.h"

#define MIN_SYNC_MS 20        /* changes within this time go into one transaction */
#define RETRY_MS 1000
#define RESYNC_MS 3600000     /* the table is made anew this often, whatever happened to it */
#define FIRST_SYNC_MS 60000

struct policy_agent {
    struct client *client;
    const char *node_name;
    struct client_informer *policies, *pods, *namespaces; /* the last two: NULL until there is a policy */
    struct client_queue *queue; /* one key */
    struct nft *nft;
    struct nft_rules *applied; /* NULL: what the kernel has is not known */
    int64_t full_ms;
    pthread_t thread;
    bool synced; /* atomic */
};

static void wake(struct policy_agent *agent)
{
    client_queue_add_after(agent->queue, "sync", MIN_SYNC_MS);
}

static void on_policy(struct client_object *old, struct client_object *new, void *arg)
{
    (void)old;
    (void)new;
    wake(arg);
}

static void on_pod(struct client_object *old, struct client_object *new, void *arg)
{
    if (policy_pod_matters(old ? old->data : NULL, new ? new->data : NULL))
        wake(arg);
}

static int watch_peers(struct policy_agent *agent, struct kp_error *error)
{
    if (!agent->pods) {
        agent->pods = client_informer_new(agent->client, &k8s_pods_resource, NULL, NULL, NULL);
        agent->namespaces = client_informer_new(agent->client, &k8s_namespaces_resource, NULL, NULL, NULL);
        client_informer_add_handler(agent->pods, on_pod, agent);
        client_informer_add_handler(agent->namespaces, on_policy, agent);
        client_informer_start(agent->pods);
        client_informer_start(agent->namespaces);
    }
    struct client_informer *both[] = {agent->pods, agent->namespaces};
    return client_informers_wait(both, KP_ARRAY_LEN(both), FIRST_SYNC_MS, error);
}

static int sync_rules(struct policy_agent *agent, struct kp_error *error)
{
    KP_AUTO(client_view_free) struct client_view *view = client_view_new();
    KP_AUTO_BUF struct kp_buf script = {0};
    struct policy_input input = {.node_name = agent->node_name};
    input.n_policies = client_view_list(view, agent->policies, NULL, (const void *const **)&input.policies);
    if (input.n_policies > 0) {
        if (watch_peers(agent, error) < 0)
            return error->code;
        input.n_pods = client_view_list(view, agent->pods, NULL, (const void *const **)&input.pods);
        input.n_namespaces = client_view_list(view, agent->namespaces, NULL, (const void *const **)&input.namespaces);
    }
    if (agent->applied && kp_mono_ms() - agent->full_ms > RESYNC_MS)
        nft_rules_free(KP_TAKE(agent->applied));
    bool full = agent->applied == NULL;
    KP_AUTO(nft_rules_free) struct nft_rules *wanted = policy_rules_build(&input);
    nft_rules_script(POLICY_TABLE, policy_base_table, agent->applied, wanted, &script);
    if (script.len && nft_apply(agent->nft, script.data, error) < 0) {
        nft_rules_free(KP_TAKE(agent->applied)); /* begin anew */
        return error->code;
    }
    nft_rules_free(agent->applied);
    agent->applied = KP_TAKE(wanted);
    if (full)
        agent->full_ms = kp_mono_ms();
    __atomic_store_n(&agent->synced, true, __ATOMIC_RELEASE);
    return 0;
}

static void *run(void *arg)
{
    struct policy_agent *agent = arg;
    char *key;
    while ((key = client_queue_get(agent->queue))) {
        struct kp_error error = {0};
        if (sync_rules(agent, &error) < 0) {
            kp_error_log("network policies not in force yet", "error", error.message, NULL);
            client_queue_add_after(agent->queue, key, RETRY_MS);
        } else {
            client_queue_add_after(agent->queue, key, RESYNC_MS + 1000);
        }
        client_queue_done(agent->queue, key);
        free(key);
    }
    return NULL;
}

int policy_start(struct client *client, const char *node_name, struct policy_agent **ret, struct kp_error *error)
{
    struct policy_agent *agent = kp_calloc(1, sizeof(*agent));
    *ret = agent;
    agent->client = client;
    agent->node_name = node_name;
    agent->nft = nft_new();
    agent->queue = client_queue_new("policies");
    agent->policies = client_informer_new(client, &k8s_networkpolicies_resource, NULL, NULL, NULL);
    client_informer_add_handler(agent->policies, on_policy, agent);
    client_informer_start(agent->policies);
    if (client_informers_wait(&agent->policies, 1, FIRST_SYNC_MS, error) < 0)
        return error->code;
    client_queue_add(agent->queue, "sync");
    if (pthread_create(&agent->thread, NULL, run, agent) != 0)
        return kp_fail(error, KP_EUNAVAILABLE, "no thread could be started");
    for (int64_t waited_ms = 0; waited_ms < FIRST_SYNC_MS; waited_ms += MIN_SYNC_MS) {
        if (__atomic_load_n(&agent->synced, __ATOMIC_ACQUIRE))
            return 0;
        kp_sleep_ms(MIN_SYNC_MS);
    }
    return kp_fail(error, KP_ETIMEOUT, "network policies were not in force within %d s", FIRST_SYNC_MS / 1000);
}

void policy_stop(struct policy_agent *agent)
{
    if (!agent)
        return;
    client_queue_shutdown(agent->queue);
    if (agent->thread)
        pthread_join(agent->thread, NULL);
    client_informer_free(agent->policies);
    client_informer_free(agent->pods);
    client_informer_free(agent->namespaces);
    client_queue_free(agent->queue);
    nft_rules_free(agent->applied);
    nft_free(agent->nft);
    free(agent);
}
