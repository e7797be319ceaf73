/* Pod garbage: pods of nodes that are gone, pods that were deleted before they were bound, and too many finished ones. */
#include "controlplane/controller-manager/controllers.h"

#define POD_GC_PERIOD_MS 20000   /* upstream's gcCheckPeriod */
#define POD_GC_QUARANTINE_S 40   /* a node must be seen missing this long */

struct pod_gc {
    struct kp_strmap *missing; /* node name -> int64_t *: since when, by the plan's clock; one worker only */
};

static bool node_is_gone(const struct plan_input *in, const char *name, bool *ret_wait)
{
    struct pod_gc *state = in->state;
    int64_t *since_s = kp_strmap_get(state->missing, name);
    if (client_view_get(in->view, engine_cache(in->engine, &k8s_nodes_resource), "", name)) {
        free(kp_strmap_remove(state->missing, name));
        return false;
    }
    if (!since_s) {
        since_s = kp_malloc(sizeof(*since_s));
        *since_s = in->now_s;
        kp_strmap_put(state->missing, name, since_s);
    }
    if (in->now_s - *since_s < POD_GC_QUARANTINE_S) {
        *ret_wait = true;
        return false;
    }
    /* The cache may lag: only the store's own "not found" counts. */
    struct kp_error error = {0};
    return client_get(engine_client(in->engine), &k8s_nodes_resource, NULL, name, in->arena, NULL, &error) == KP_ENOTFOUND;
}

static bool out_of_service(const struct plan_input *in, const char *name)
{
    const struct k8s_node *node = client_view_get(in->view, engine_cache(in->engine, &k8s_nodes_resource), "", name);
    bool tainted = false, ready = false;
    for (size_t i = 0; node && i < node->spec->taints.len; i++)
        tainted |= kp_streq(node->spec->taints.items[i].key, "node.kubernetes.io/out-of-service");
    for (size_t i = 0; node && i < node->status->conditions.len; i++)
        ready |= kp_streq(node->status->conditions.items[i].type, "Ready") && kp_streq(node->status->conditions.items[i].status, "True");
    return tainted && !ready;
}

static void remove_pod(const struct plan_input *in, struct plan *plan, const struct k8s_pod *pod, const char *why)
{
    char when[KP_RFC3339_MAX];
    kp_format_rfc3339(when, in->now_s, 0, false);
    if (why && !engine_pod_is_terminal(pod))
        plan_patch(plan, &k8s_pods_resource, pod->metadata->namespace, pod->metadata->name, "status", CLIENT_PATCH_STRATEGIC,
                   kp_arena_printf(in->arena,
                                   "{\"status\":{\"phase\":\"Failed\",\"conditions\":[{\"type\":\"DisruptionTarget\",\"status\":\"True\",\"reason\":"
                                   "\"DeletionByPodGC\",\"message\":\"%s\",\"lastTransitionTime\":\"%s\"}]}}",
                                   why, when));
    plan_delete(plan, &k8s_pods_resource, pod->metadata->namespace, pod->metadata->name, pod->metadata->uid, 0, NULL);
}

static int by_creation(const void *a, const void *b)
{
    const struct k8s_pod *x = *(const struct k8s_pod *const *)a, *y = *(const struct k8s_pod *const *)b;
    int64_t d = x->metadata->creation_timestamp.seconds - y->metadata->creation_timestamp.seconds;
    return d ? (d < 0 ? -1 : 1) : strcmp(x->metadata->name, y->metadata->name);
}

static int plan_pod_gc(const struct plan_input *in, struct plan *plan, struct kp_error *error)
{
    const void *const *pods;
    size_t n = client_view_list(in->view, engine_cache(in->engine, &k8s_pods_resource), NULL, &pods), n_done = 0;
    const struct k8s_pod **done = KP_NEW_ARRAY(in->arena, const struct k8s_pod *, n + 1);
    bool wait = false;
    for (size_t i = 0; i < n; i++) {
        const struct k8s_pod *pod = pods[i];
        const char *node = pod->spec->node_name;
        if (kp_empty(node)) {
            if (pod->metadata->deletion_timestamp.set)
                remove_pod(in, plan, pod, NULL);
        } else if (node_is_gone(in, node, &wait)) {
            remove_pod(in, plan, pod, "PodGC: node no longer exists");
        } else if (pod->metadata->deletion_timestamp.set && out_of_service(in, node)) {
            remove_pod(in, plan, pod, NULL);
        } else if (engine_pod_is_terminal(pod) && !pod->metadata->deletion_timestamp.set) {
            done[n_done++] = pod;
        }
    }
    int64_t threshold = engine_config(in->engine)->terminated_pod_gc_threshold;
    if (threshold > 0 && (int64_t)n_done > threshold) {
        qsort(done, n_done, sizeof(*done), by_creation);
        for (size_t i = 0; i < n_done - (size_t)threshold; i++)
            remove_pod(in, plan, done[i], NULL);
    }
    plan_requeue_after_ms(plan, wait ? 5000 : POD_GC_PERIOD_MS);
    return 0;
}

static void map_deleted(struct controller_run *run, const struct client_object *old, const struct client_object *new)
{
    if (old && !new)
        engine_enqueue(run, "", "nodes"); /* a node went: do not wait for the period */
}

static int setup_pod_gc(struct engine *engine, struct controller_run *run, void **ret_state, struct kp_error *error)
{
    struct pod_gc *state = kp_calloc(1, sizeof(*state));
    state->missing = kp_strmap_new();
    *ret_state = state;
    engine_informer(engine, &k8s_pods_resource);
    engine_watch(run, &k8s_nodes_resource, map_deleted);
    engine_enqueue(run, "", "nodes");
    return 0;
}

static void free_state(void *p)
{
    struct pod_gc *state = p;
    kp_strmap_free(state->missing, free);
    free(state);
}

const struct controller pod_gc_controller = {.name = "pod-garbage-collector-controller", .setup = setup_pod_gc, .plan = plan_pod_gc, .teardown = free_state};
