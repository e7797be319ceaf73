/* Claims that pods use and volumes that are bound are kept by a finalizer until that ends, as upstream's pvc-protection and pv-protection. */
#include "controlplane/controller-manager/controllers.h"
#include "controlplane/controller-manager/storage.h"

#define PODS_PER_PAGE 500
#define STORE_RETRY_MS 5000

/* The kubelet has let go of the pod's volumes, or it was deleted by force: only other finalizers may hold it. Such a pod must not keep the claim
   that was made for it, which may be what the pod's own finalizer waits for. */
static bool is_shut_down(const struct k8s_pod *pod)
{
    return pod->metadata->deletion_timestamp.set && pod->metadata->has_deletion_grace_period_seconds && pod->metadata->deletion_grace_period_seconds == 0;
}

/* A pod that was not placed yet does not count: no kubelet starts one whose claim is being deleted. */
static bool uses(const struct k8s_pod *pod, const struct k8s_persistent_volume_claim *claim, struct kp_arena *arena)
{
    if (kp_empty(pod->spec->node_name))
        return false;
    for (size_t i = 0; i < pod->spec->volumes.len; i++) {
        const struct k8s_volume *volume = &pod->spec->volumes.items[i];
        if (volume->persistent_volume_claim && kp_streq(volume->persistent_volume_claim->claim_name, claim->metadata->name))
            return true;
        if (volume->ephemeral && !is_shut_down(pod) && storage_claim_is_of_pod(claim, pod) &&
            kp_streq(storage_claim_name(pod, volume, arena), claim->metadata->name))
            return true;
    }
    return false;
}

/* The store is asked as well: a pod that was placed a moment ago may not be cached yet. */
static int is_used_in_store(const struct plan_input *in, const struct k8s_persistent_volume_claim *claim, bool *ret_used, struct kp_error *error)
{
    struct client_list_options options = {.limit = PODS_PER_PAGE};
    *ret_used = false;
    do {
        void *answer;
        if (client_list(engine_client(in->engine), &k8s_pods_resource, in->ns, &options, in->arena, &answer, error) < 0)
            return kp_wrap(error, "pods of namespace %s", in->ns);
        const struct k8s_pod_list *list = answer;
        for (size_t i = 0; i < list->items.len && !*ret_used; i++)
            *ret_used = uses(&list->items.items[i], claim, in->arena);
        options.continue_token = list->metadata->continue_;
    } while (!*ret_used && !kp_empty(options.continue_token));
    return 0;
}

static bool is_used_in_cache(const struct plan_input *in, const struct k8s_persistent_volume_claim *claim)
{
    const struct k8s_pod *const *pods;
    size_t n = storage_pods_of_claim(in->engine, in->view, claim, &pods);
    for (size_t i = 0; i < n; i++)
        if (uses(pods[i], claim, in->arena))
            return true;
    return false;
}

static int plan_claim(const struct plan_input *in, struct plan *plan, struct kp_error *error)
{
    const struct k8s_persistent_volume_claim *claim =
        client_view_get(in->view, engine_cache(in->engine, &k8s_persistentvolumeclaims_resource), in->ns, in->name);
    bool going = claim && claim->metadata->deletion_timestamp.set, used = false;
    if (!claim || storage_has_finalizer(claim->metadata, VOLUME_CLAIM_PROTECTION) != going)
        return 0; /* it has what it is to have */
    if (going && is_used_in_cache(in, claim))
        return 0; /* the pod's end brings the key back */
    if (going && is_used_in_store(in, claim, &used, error) < 0)
        return error->code;
    if (used) { /* by a pod whose end may never be seen here, for its coming was not yet */
        plan_requeue_after_ms(plan, STORE_RETRY_MS);
        return 0;
    }
    struct k8s_persistent_volume_claim *copy = KP_OBJECT_CLONE(in->arena, k8s_persistent_volume_claim, claim);
    if (going)
        storage_remove_finalizer(copy->metadata, VOLUME_CLAIM_PROTECTION);
    else
        kp_string_list_add(in->arena, &copy->metadata->finalizers, VOLUME_CLAIM_PROTECTION);
    plan_update(plan, &k8s_persistentvolumeclaims_resource, copy);
    return 0;
}

static void enqueue_claims_of(struct controller_run *run, const struct client_object *object)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    const struct k8s_pod *pod = object->data;
    for (size_t i = 0; i < pod->spec->volumes.len; i++) {
        const char *name = storage_claim_name(pod, &pod->spec->volumes.items[i], arena);
        if (!kp_empty(name))
            engine_enqueue(run, object->ns, name);
    }
}

/* A claim is let go when a pod is gone or done with. */
static void map_pod(struct controller_run *run, const struct client_object *old, const struct client_object *new)
{
    if (!new || is_shut_down(new->data))
        enqueue_claims_of(run, new ? new : old);
    if (old && new && !kp_streq(old->uid, new->uid)) /* another of the same name, whose end was not seen */
        enqueue_claims_of(run, old);
}

static int setup_claims(struct engine *engine, struct controller_run *run, void **ret_state, struct kp_error *error)
{
    storage_index_pods(engine);
    engine_watch(run, &k8s_persistentvolumeclaims_resource, engine_map_self);
    engine_watch(run, &k8s_pods_resource, map_pod);
    return 0;
}

const struct controller persistentvolumeclaim_protection_controller = {
    .name = "persistentvolumeclaim-protection-controller", .setup = setup_claims, .plan = plan_claim,
};

/* ---- volumes ------------------------------------------------------------------------------------------------------------ */
static int plan_volume(const struct plan_input *in, struct plan *plan, struct kp_error *error)
{
    const struct k8s_persistent_volume *volume = client_view_get(in->view, engine_cache(in->engine, &k8s_persistentvolumes_resource), "", in->name);
    bool going = volume && volume->metadata->deletion_timestamp.set;
    if (!volume || storage_has_finalizer(volume->metadata, VOLUME_PROTECTION) != going || (going && kp_streq(volume->status->phase, "Bound")))
        return 0;
    struct k8s_persistent_volume *copy = KP_OBJECT_CLONE(in->arena, k8s_persistent_volume, volume);
    if (going)
        storage_remove_finalizer(copy->metadata, VOLUME_PROTECTION);
    else
        kp_string_list_add(in->arena, &copy->metadata->finalizers, VOLUME_PROTECTION);
    plan_update(plan, &k8s_persistentvolumes_resource, copy);
    return 0;
}

static int setup_volumes(struct engine *engine, struct controller_run *run, void **ret_state, struct kp_error *error)
{
    engine_watch(run, &k8s_persistentvolumes_resource, engine_map_self);
    return 0;
}

const struct controller persistentvolume_protection_controller = {
    .name = "persistentvolume-protection-controller", .setup = setup_volumes, .plan = plan_volume,
};
