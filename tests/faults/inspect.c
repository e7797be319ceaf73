/* What the API server of a cluster holds of its nodes, as text that two runs can be compared by. */
#include "api/k8s.h"
#include "client/client.h"
#include "tests/faults/inspect.h"

static void print_node(const struct k8s_node *node)
{
    const char *ready = "Unknown";
    for (size_t i = 0; node->status && i < node->status->conditions.len; i++)
        if (kp_streq(node->status->conditions.items[i].type, "Ready"))
            ready = node->status->conditions.items[i].status;
    printf("node %s ready %s%s\n", node->metadata->name, ready, node->spec->unschedulable ? " unschedulable" : "");
    for (size_t i = 0; i < node->metadata->labels.len; i++)
        printf("  label %s=%s\n", node->metadata->labels.items[i].key, node->metadata->labels.items[i].value);
    for (size_t i = 0; i < node->spec->taints.len; i++)
        printf("  taint %s=%s:%s\n", node->spec->taints.items[i].key, node->spec->taints.items[i].value ? node->spec->taints.items[i].value : "",
               node->spec->taints.items[i].effect);
}

int inspect(const char *cluster, struct kp_error *error)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    KP_AUTO(cli_api_close) struct cli_api *api = NULL;
    static const struct client_list_options options;
    const char *path = NULL;
    void *answer = NULL;
    int r = cli_state_path(cluster, "admin.conf", arena, &path, error);
    if (r == 0)
        r = cli_api_open(path, &api, error);
    if (r == 0)
        r = client_list(cli_api_client(api), &k8s_nodes_resource, NULL, &options, arena, &answer, error);
    const struct k8s_node_list *list = answer;
    for (size_t i = 0; r == 0 && i < list->items.len; i++)
        print_node(&list->items.items[i]);
    return r;
}

int inspect_add_pod(const char *cluster, const char *node, struct kp_error *error)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    KP_AUTO(cli_api_close) struct cli_api *api = NULL;
    const char *path = NULL;
    int r = cli_state_path(cluster, "admin.conf", arena, &path, error);
    if (r == 0)
        r = cli_api_open(path, &api, error);
    const char *account = "{\"apiVersion\":\"v1\",\"kind\":\"ServiceAccount\",\"metadata\":{\"name\":\"default\"}}";
    const char *body = kp_arena_printf(arena,
        "{\"apiVersion\":\"v1\",\"kind\":\"Pod\",\"metadata\":{\"name\":\"app-%s\"},\"spec\":{\"nodeName\":\"%s\",\"containers\":[{\"name\":\"c\",\"image\":\"i\"}]}}", node, node);
    if (r == 0) /* no controller makes it here */
        r = client_raw(cli_api_client(api), "POST", "/api/v1/namespaces/default/serviceaccounts", "application/json", account, strlen(account), NULL, NULL, error);
    if (r == KP_EEXISTS)
        r = 0;
    return r < 0 ? r : client_raw(cli_api_client(api), "POST", "/api/v1/namespaces/default/pods", "application/json", body, strlen(body), NULL, NULL, error);
}
