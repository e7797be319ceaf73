/* Evicts pods from nodes with NoExecute taints that they do not tolerate, or no longer tolerate. */
#include "controlplane/controller-manager/controllers.h"
#include "lib/placement/placement.h"

struct eviction_state { /* one worker only */
    int index; /* of pods by node */
    struct kp_strmap *since; /* "ns/name" of a pod that tolerates its node's taints for a time -> struct tolerated */
};

struct tolerated {
    int64_t since_s;
    char uid[64];
};

/* Taints that people set carry no time: then the seconds count from when the pod was first seen with it. */
static int64_t seen_since_s(const struct plan_input *in, const struct k8s_pod *pod)
{
    struct eviction_state *state = in->state;
    KP_AUTO_FREE char *key = kp_asprintf("%s/%s", in->ns, in->name);
    struct tolerated *tolerated = kp_strmap_get(state->since, key);
    if (!tolerated) {
        tolerated = kp_calloc(1, sizeof(*tolerated));
        kp_strmap_put(state->since, key, tolerated);
    }
    if (!kp_streq(tolerated->uid, pod->metadata->uid)) {
        snprintf(tolerated->uid, sizeof(tolerated->uid), "%s", pod->metadata->uid);
        tolerated->since_s = in->now_s;
    }
    return tolerated->since_s;
}

static void forget(const struct plan_input *in)
{
    KP_AUTO_FREE char *key = kp_asprintf("%s/%s", in->ns, in->name);
    free(kp_strmap_remove(((struct eviction_state *)in->state)->since, key));
}

/* Milliseconds until the pod has to go: 0 now, -1 never. The shortest toleration of each taint counts, as upstream's
   getMinTolerationTime; an untolerated taint means now. */
static int64_t time_left_ms(const struct plan_input *in, const struct k8s_node *node, const struct k8s_pod *pod)
{
    int64_t left_ms = -1;
    for (size_t i = 0; i < node->spec->taints.len; i++) {
        const struct k8s_taint *taint = &node->spec->taints.items[i];
        bool tolerated = false;
        int64_t seconds = -1;
        if (!kp_streq(taint->effect, "NoExecute"))
            continue;
        for (size_t k = 0; k < pod->spec->tolerations.len; k++) {
            const struct k8s_toleration *toleration = &pod->spec->tolerations.items[k];
            if (!placement_tolerates(toleration, taint))
                continue;
            tolerated = true;
            if (toleration->has_toleration_seconds && (seconds < 0 || toleration->toleration_seconds < seconds))
                seconds = KP_MAX((int64_t)0, toleration->toleration_seconds);
        }
        if (!tolerated)
            return 0;
        if (seconds < 0)
            continue;
        int64_t since_s = taint->time_added.set ? taint->time_added.seconds : seen_since_s(in, pod);
        int64_t ms = KP_MAX((int64_t)0, (since_s + seconds - in->now_s) * 1000);
        if (left_ms < 0 || ms < left_ms)
            left_ms = ms;
    }
    return left_ms;
}

static int plan_pod(const struct plan_input *in, struct plan *plan, struct kp_error *error)
{
    const struct k8s_pod *pod = client_view_get(in->view, engine_cache(in->engine, &k8s_pods_resource), in->ns, in->name);
    if (!pod || pod->metadata->deletion_timestamp.set || kp_empty(pod->spec->node_name)) {
        forget(in);
        return 0;
    }
    const struct k8s_node *node = client_view_get(in->view, engine_cache(in->engine, &k8s_nodes_resource), "", pod->spec->node_name);
    if (!node)
        return 0;
    int64_t left_ms = time_left_ms(in, node, pod);
    if (left_ms < 0) {
        forget(in);
        return 0;
    }
    if (left_ms > 0) {
        plan_requeue_after_ms(plan, left_ms + 500);
        return 0;
    }
    char when[KP_RFC3339_MAX];
    kp_format_rfc3339(when, in->now_s, 0, false);
    plan_event(plan, &k8s_pod_type, pod, "Normal", "TaintManagerEviction", "Marking for deletion Pod %s/%s", in->ns, in->name);
    plan_patch(plan, &k8s_pods_resource, in->ns, in->name, "status", CLIENT_PATCH_STRATEGIC,
               kp_arena_printf(in->arena,
                               "{\"status\":{\"conditions\":[{\"type\":\"DisruptionTarget\",\"status\":\"True\",\"reason\":"
                               "\"DeletionByTaintManager\",\"message\":\"Taint manager: deleting due to NoExecute taint\","
                               "\"lastTransitionTime\":\"%s\"}]}}",
                               when));
    plan_delete(plan, &k8s_pods_resource, in->ns, in->name, pod->metadata->uid, -1, NULL);
    return 0;
}

static size_t pods_by_node(const struct client_object *object, const char **values, size_t max)
{
    values[0] = ((const struct k8s_pod *)object->data)->spec->node_name;
    return kp_empty(values[0]) ? 0 : 1;
}

static void map_node(struct controller_run *run, const struct client_object *old, const struct client_object *new)
{
    const struct k8s_node *node = new ? new->data : NULL;
    bool any = false;
    for (size_t i = 0; old && i < ((const struct k8s_node *)old->data)->spec->taints.len; i++)
        any |= new && kp_streq(((const struct k8s_node *)old->data)->spec->taints.items[i].effect, "NoExecute");
    for (size_t i = 0; node && i < node->spec->taints.len; i++)
        any |= kp_streq(node->spec->taints.items[i].effect, "NoExecute");
    if (!any)
        return;
    const struct eviction_state *state = engine_run_state(run);
    KP_AUTO(client_view_free) struct client_view *view = client_view_new();
    const void *const *pods;
    size_t n = client_view_index(view, engine_cache(engine_of(run), &k8s_pods_resource), state->index, new->name, &pods);
    for (size_t i = 0; i < n; i++)
        engine_enqueue(run, ((const struct k8s_pod *)pods[i])->metadata->namespace, ((const struct k8s_pod *)pods[i])->metadata->name);
}

static void map_pod(struct controller_run *run, const struct client_object *old, const struct client_object *new)
{
    /* Only a pod that was just bound can meet a taint that its node's change did not tell of. */
    const struct k8s_pod *before = old ? old->data : NULL, *pod = new ? new->data : NULL;
    if (!pod || (pod->metadata->deletion_timestamp.set && before && !before->metadata->deletion_timestamp.set))
        engine_enqueue(run, old->ns, old->name); /* only so that it is forgotten */
    else if (!kp_empty(pod->spec->node_name) && (!before || kp_empty(before->spec->node_name)))
        engine_enqueue(run, new->ns, new->name);
}

static int setup_taint_eviction(struct engine *engine, struct controller_run *run, void **ret_state, struct kp_error *error)
{
    struct eviction_state *state = kp_calloc(1, sizeof(*state));
    state->index = client_informer_add_index(engine_informer(engine, &k8s_pods_resource), pods_by_node);
    state->since = kp_strmap_new();
    *ret_state = state;
    engine_watch(run, &k8s_nodes_resource, map_node);
    engine_watch(run, &k8s_pods_resource, map_pod);
    return 0;
}

static void free_state(void *p)
{
    struct eviction_state *state = p;
    kp_strmap_free(state->since, free);
    free(state);
}

const struct controller taint_eviction_controller = {
    .name = "taint-eviction-controller", .setup = setup_taint_eviction, .plan = plan_pod, .teardown = free_state,
};
