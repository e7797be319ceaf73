/* Pods made anew by their Deployments, DaemonSets and StatefulSets, as kubectl rollout restart does, and waited for. */
#include "api/k8s.h"
#include "client/client.h"
#include "provisioner/cli/certs_internal.h"

#define POLL_MS 100
#define POLL_MS_MAX 1000 /* where a look takes long */
#define RESTART_MS_MAX 180000

static int restart(struct cli_operation *op, const struct kp_resource *resource, const struct k8s_object_meta *meta, const char *body,
                   struct kp_error *error)
{
    static const struct client_write_options options = {.field_manager = "kprov"};
    int r = client_patch(cli_api_client(op->api), resource, meta->namespace, meta->name, CLIENT_PATCH_MERGE, body, strlen(body), &options,
                         op->arena, NULL, error);
    return r == KP_ENOTFOUND ? 0 : r < 0 ? kp_wrap(error, "restart %s/%s", meta->namespace, meta->name) : 0;
}

struct sets {
    const struct k8s_deployment_list *deployments;
    const struct k8s_daemon_set_list *daemons;
    const struct k8s_stateful_set_list *stateful;
};

static int read_sets(struct cli_operation *op, const char *ns, struct kp_arena *arena, struct sets *ret, struct kp_error *error)
{
    void *answers[3] = {NULL};
    const struct kp_resource *const resources[] = {&k8s_deployments_resource, &k8s_daemonsets_resource, &k8s_statefulsets_resource};
    int r = 0;
    for (size_t i = 0; r == 0 && i < KP_ARRAY_LEN(resources); i++)
        r = client_list(cli_api_client(op->api), resources[i], ns, NULL, arena, &answers[i], error);
    *ret = (struct sets){answers[0], answers[1], answers[2]};
    return r;
}

static int restart_all(struct cli_operation *op, const struct sets *sets, const char *body, struct kp_error *error)
{
    int r = 0;
    for (size_t i = 0; r == 0 && i < sets->deployments->items.len; i++)
        r = restart(op, &k8s_deployments_resource, sets->deployments->items.items[i].metadata, body, error);
    for (size_t i = 0; r == 0 && i < sets->daemons->items.len; i++)
        r = restart(op, &k8s_daemonsets_resource, sets->daemons->items.items[i].metadata, body, error);
    for (size_t i = 0; r == 0 && i < sets->stateful->items.len; i++)
        r = restart(op, &k8s_statefulsets_resource, sets->stateful->items.items[i].metadata, body, error);
    return r;
}

/* NULL when every pod is a new one and works; otherwise whose is not. */
static const char *unfinished(const struct sets *sets)
{
    for (size_t i = 0; i < sets->deployments->items.len; i++) {
        const struct k8s_deployment *d = &sets->deployments->items.items[i];
        const int64_t wanted = d->spec->has_replicas ? d->spec->replicas : 1;
        if (d->status->observed_generation < d->metadata->generation || d->status->updated_replicas < wanted ||
            d->status->available_replicas < wanted || d->status->replicas > wanted)
            return d->metadata->name;
    }
    for (size_t i = 0; i < sets->daemons->items.len; i++) {
        const struct k8s_daemon_set *d = &sets->daemons->items.items[i];
        if (d->status->observed_generation < d->metadata->generation ||
            d->status->updated_number_scheduled < d->status->desired_number_scheduled ||
            d->status->number_available < d->status->desired_number_scheduled)
            return d->metadata->name;
    }
    for (size_t i = 0; i < sets->stateful->items.len; i++) {
        const struct k8s_stateful_set *s = &sets->stateful->items.items[i];
        const int64_t wanted = s->spec->has_replicas ? s->spec->replicas : 1;
        if (s->status->observed_generation < s->metadata->generation || s->status->updated_replicas < wanted || s->status->ready_replicas < wanted)
            return s->metadata->name;
    }
    return NULL;
}

int certs_restart_workloads(struct cli_operation *op, const char *ns, struct kp_error *error)
{
    char now[KP_RFC3339_MAX];
    struct sets sets;
    int64_t began_ms = kp_mono_ms();
    const int64_t deadline_ms = began_ms + RESTART_MS_MAX;
    kp_format_rfc3339(now, kp_now_s(), 0, false);
    const char *body = kp_arena_printf(op->arena, "{\"spec\":{\"template\":{\"metadata\":{\"annotations\":{\"kubectl.kubernetes.io/restartedAt\":\"%s\"}}}}}", now);
    int r = read_sets(op, ns, op->arena, &sets, error);
    if (r == 0)
        r = restart_all(op, &sets, body, error);
    while (r == 0) {
        KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
        struct kp_error why = {0};
        const char *left = read_sets(op, ns, arena, &sets, &why) < 0 ? why.message : unfinished(&sets);
        if (!left)
            return 0;
        if (kp_mono_ms() > deadline_ms)
            return kp_fail(error, KP_ETIMEOUT, "pods made anew do not work in time: %s", left);
        cli_progress_tick(&op->progress, left);
        r = cli_interrupted(error);
        kp_rest(&began_ms, POLL_MS, POLL_MS_MAX);
    }
    return r;
}
