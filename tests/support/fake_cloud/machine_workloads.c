/* What of a controller manager's work a provisioner waits for: the authority published to pods, and workloads that say they are as wanted. There
 * are no pods behind them. */
#include "api/k8s.h"
#include "client/client.h"
#include "tests/support/fake_cloud/machine.h"

#define AUTHORITY_MAX 65536
#define SYSTEM "kube-system"

static int publish_authority(const struct machine *machine, struct client *client, struct kp_arena *arena, struct kp_error *error)
{
    KP_AUTO_BUF struct kp_buf pem = {0}, body = {0};
    void *found = NULL;
    int r = kp_read_file(kp_arena_printf(arena, "%s/etc/kubernetes/pki/ca.crt", machine->root), AUTHORITY_MAX, &pem, error);
    if (r < 0)
        return r;
    kp_buf_puts(&body, "{\"apiVersion\":\"v1\",\"kind\":\"ConfigMap\",\"metadata\":{\"name\":\"kube-root-ca.crt\"},\"data\":{\"ca.crt\":");
    kp_json_string(&body, pem.data);
    kp_buf_puts(&body, "}}");
    r = client_get(client, &k8s_configmaps_resource, SYSTEM, "kube-root-ca.crt", arena, &found, error);
    if (r == KP_ENOTFOUND)
        return client_raw(client, "POST", "/api/v1/namespaces/" SYSTEM "/configmaps", "application/json", body.data, body.len, NULL, NULL, error);
    if (r < 0 || kp_streq(kp_string_map_get(&((const struct k8s_config_map *)found)->data, "ca.crt"), pem.data))
        return r;
    return client_patch(client, &k8s_configmaps_resource, SYSTEM, "kube-root-ca.crt", CLIENT_PATCH_MERGE, body.data, body.len, NULL, arena, NULL, error);
}

static int say_done(struct client *client, const struct kp_resource *resource, const struct k8s_object_meta *meta, const char *counts,
                    struct kp_arena *arena, struct kp_error *error)
{
    static const struct client_write_options options = {.subresource = "status"};
    const char *body = kp_arena_printf(arena, "{\"status\":{\"observedGeneration\":%lld%s}}", (long long)meta->generation, counts);
    return client_patch(client, resource, SYSTEM, meta->name, CLIENT_PATCH_MERGE, body, strlen(body), &options, arena, NULL, error);
}

static int tend_workloads(struct client *client, struct kp_arena *arena, struct kp_error *error)
{
    void *answers[2] = {NULL};
    int r = client_list(client, &k8s_deployments_resource, SYSTEM, NULL, arena, &answers[0], error);
    const struct k8s_deployment_list *deployments = answers[0];
    for (size_t i = 0; r == 0 && i < deployments->items.len; i++) {
        const struct k8s_deployment *d = &deployments->items.items[i];
        const int n = d->spec->has_replicas ? (int)d->spec->replicas : 1;
        if (d->status->observed_generation < d->metadata->generation)
            r = say_done(client, &k8s_deployments_resource, d->metadata,
                         kp_arena_printf(arena, ",\"replicas\":%d,\"updatedReplicas\":%d,\"readyReplicas\":%d,\"availableReplicas\":%d", n, n, n, n), arena, error);
    }
    if (r == 0)
        r = client_list(client, &k8s_daemonsets_resource, SYSTEM, NULL, arena, &answers[1], error);
    const struct k8s_daemon_set_list *daemons = answers[1];
    for (size_t i = 0; r == 0 && i < daemons->items.len; i++)
        if (daemons->items.items[i].status->observed_generation < daemons->items.items[i].metadata->generation)
            r = say_done(client, &k8s_daemonsets_resource, daemons->items.items[i].metadata, "", arena, error);
    return r;
}

int machine_workloads_tend(const struct machine *machine, struct client *client, struct kp_error *error)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    int r = publish_authority(machine, client, arena, error);
    return r < 0 ? r : tend_workloads(client, arena, error);
}
