/* What the volume controllers ask of pods, claims and volumes. */
#include "controlplane/controller-manager/storage.h"

const char *storage_claim_name(const struct k8s_pod *pod, const struct k8s_volume *volume, struct kp_arena *arena)
{
    if (volume->persistent_volume_claim)
        return volume->persistent_volume_claim->claim_name;
    return volume->ephemeral ? kp_arena_printf(arena, "%s-%s", pod->metadata->name, volume->name) : NULL;
}

bool storage_claim_is_of_pod(const struct k8s_persistent_volume_claim *claim, const struct k8s_pod *pod)
{
    return engine_is_controlled_by(claim->metadata, pod->metadata->uid) && kp_streq(claim->metadata->namespace, pod->metadata->namespace);
}

/* Only what can be borrowed from the pod; claims of ephemeral volumes are found by their owner. */
static size_t pods_by_claim(const struct client_object *object, const char **values, size_t max)
{
    const struct k8s_pod *pod = object->data;
    size_t n = 0;
    for (size_t i = 0; i < pod->spec->volumes.len && n < max; i++)
        if (pod->spec->volumes.items[i].persistent_volume_claim)
            values[n++] = pod->spec->volumes.items[i].persistent_volume_claim->claim_name;
    return n;
}

void storage_index_pods(struct engine *engine)
{
    client_informer_add_index(engine_informer(engine, &k8s_pods_resource), pods_by_claim);
}

size_t storage_pods_of_claim(const struct engine *engine, struct client_view *view, const struct k8s_persistent_volume_claim *claim,
                             const struct k8s_pod *const **ret_pods)
{
    struct client_informer *cache = engine_cache(engine, &k8s_pods_resource);
    const struct k8s_owner_reference *owner = engine_controller_of(claim->metadata);
    const void *const *named;
    size_t n_named = client_view_index(view, cache, client_informer_add_index(cache, pods_by_claim), claim->metadata->name, &named), n = 0;
    const struct k8s_pod **pods = KP_NEW_ARRAY(client_view_arena(view), const struct k8s_pod *, n_named + 1);
    for (size_t i = 0; i < n_named; i++)
        if (kp_streq(((const struct k8s_pod *)named[i])->metadata->namespace, claim->metadata->namespace))
            pods[n++] = named[i];
    if (owner && kp_streq(owner->kind, "Pod")) {
        const struct k8s_pod *pod = client_view_get(view, cache, claim->metadata->namespace, owner->name);
        if (pod && kp_streq(pod->metadata->uid, owner->uid))
            pods[n++] = pod;
    }
    *ret_pods = pods;
    return n;
}

static size_t volumes_by_claim(const struct client_object *object, const char **values, size_t max)
{
    const struct k8s_object_reference *ref = ((const struct k8s_persistent_volume *)object->data)->spec->claim_ref;
    if (!ref || kp_empty(ref->name))
        return 0;
    values[0] = ref->name;
    return 1;
}

void storage_index_volumes(struct engine *engine)
{
    client_informer_add_index(engine_informer(engine, &k8s_persistentvolumes_resource), volumes_by_claim);
}

size_t storage_volumes_of_claim(const struct engine *engine, struct client_view *view, const char *ns, const char *name,
                                const struct k8s_persistent_volume *const **ret_volumes)
{
    struct client_informer *cache = engine_cache(engine, &k8s_persistentvolumes_resource);
    const void *const *named;
    size_t n_named = client_view_index(view, cache, client_informer_add_index(cache, volumes_by_claim), name, &named), n = 0;
    const struct k8s_persistent_volume **volumes = KP_NEW_ARRAY(client_view_arena(view), const struct k8s_persistent_volume *, n_named + 1);
    for (size_t i = 0; i < n_named; i++)
        if (kp_streq(((const struct k8s_persistent_volume *)named[i])->spec->claim_ref->namespace, ns))
            volumes[n++] = named[i];
    *ret_volumes = volumes;
    return n;
}

bool storage_has_finalizer(const struct k8s_object_meta *meta, const char *finalizer)
{
    return kp_string_list_has(&meta->finalizers, finalizer);
}

void storage_remove_finalizer(struct k8s_object_meta *meta, const char *finalizer)
{
    size_t n = 0;
    for (size_t i = 0; i < meta->finalizers.len; i++)
        if (!kp_streq(meta->finalizers.items[i], finalizer))
            meta->finalizers.items[n++] = meta->finalizers.items[i];
    meta->finalizers.len = n;
}
