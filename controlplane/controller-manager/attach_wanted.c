/* Which volumes of CSI drivers the pods of a node need attached. */
#include "controlplane/controller-manager/attach_internal.h"
#include "lib/tls/tls.h"

#define CSI_PREFIX "kubernetes.io/csi/"

const char *attach_volume_name(struct kp_arena *arena, const struct k8s_csi_persistent_volume_source *csi)
{
    return kp_arena_printf(arena, CSI_PREFIX "%s^%s", csi->driver, csi->volume_handle);
}

const char *attach_name(struct kp_arena *arena, const char *driver, const char *handle, const char *node)
{
    char hex[TLS_SHA256_HEX_BYTES];
    const char *text = kp_arena_printf(arena, "%s%s%s", handle, driver, node);
    tls_sha256_hex(text, strlen(text), hex);
    return kp_arena_printf(arena, "csi-%s", hex);
}

const char *attach_name_of(struct kp_arena *arena, const char *volume_name, const char *node)
{
    const char *rest = volume_name + strlen(CSI_PREFIX), *caret;
    if (!kp_starts_with(volume_name, CSI_PREFIX) || !(caret = strchr(rest, '^')))
        return NULL;
    return attach_name(arena, kp_arena_strndup(arena, rest, (size_t)(caret - rest)), caret + 1, node);
}

bool attach_pod_is_over(const struct k8s_pod *pod)
{
    if (engine_pod_is_terminal(pod))
        return true;
    if (!pod->metadata->deletion_timestamp.set)
        return false;
    for (size_t i = 0; i < pod->status->container_statuses.len; i++) {
        const struct k8s_container_state *state = pod->status->container_statuses.items[i].state;
        if (!state || (!state->terminated && !state->waiting))
            return false;
    }
    return true;
}

static size_t pods_by_node(const struct client_object *object, const char **values, size_t max)
{
    values[0] = ((const struct k8s_pod *)object->data)->spec->node_name;
    return kp_empty(values[0]) ? 0 : 1;
}

void attach_index_pods(struct engine *engine)
{
    client_informer_add_index(engine_informer(engine, &k8s_pods_resource), pods_by_node);
}

static bool needs_attaching(const struct plan_input *in, const struct k8s_persistent_volume *volume)
{
    const struct k8s_csi_driver *driver = client_view_get(in->view, engine_cache(in->engine, &k8s_csidrivers_resource), "", volume->spec->csi->driver);
    return !driver || !driver->spec->has_attach_required || driver->spec->attach_required; /* a driver that says nothing needs it */
}

/* The volume of a driver that needs attaching behind a pod's volume, once claim and volume are bound to each other; NULL otherwise. */
static const struct k8s_persistent_volume *volume_behind(const struct plan_input *in, const struct k8s_pod *pod, const struct k8s_volume *slot)
{
    const char *name = storage_claim_name(pod, slot, in->arena);
    const struct k8s_persistent_volume_claim *claim =
        name ? client_view_get(in->view, engine_cache(in->engine, &k8s_persistentvolumeclaims_resource), pod->metadata->namespace, name) : NULL;
    if (!claim || !kp_streq(claim->status->phase, "Bound") || kp_empty(claim->spec->volume_name) || (slot->ephemeral && !storage_claim_is_of_pod(claim, pod)))
        return NULL;
    const struct k8s_persistent_volume *volume =
        client_view_get(in->view, engine_cache(in->engine, &k8s_persistentvolumes_resource), "", claim->spec->volume_name);
    if (!volume || !volume->spec->csi || !volume->spec->claim_ref || !kp_streq(volume->spec->claim_ref->uid, claim->metadata->uid))
        return NULL;
    return needs_attaching(in, volume) ? volume : NULL;
}

static void want(const struct plan_input *in, struct attach_wanted *items, size_t *n, const char *attachment,
                 const struct k8s_persistent_volume *volume, const struct k8s_pod *pod, size_t max_pods)
{
    size_t i = 0;
    while (i < *n && !kp_streq(items[i].attachment, attachment))
        i++;
    if (i == *n)
        items[(*n)++] = (struct attach_wanted){.attachment = attachment, .volume = volume, .pods = KP_NEW_ARRAY(in->arena, const struct k8s_pod *, max_pods)};
    if (!items[i].n_pods || items[i].pods[items[i].n_pods - 1] != pod) /* a pod may name a claim twice */
        items[i].pods[items[i].n_pods++] = pod;
}

size_t attach_wanted_of_node(const struct plan_input *in, const char *node, struct attach_wanted **ret_items)
{
    struct client_informer *cache = engine_cache(in->engine, &k8s_pods_resource);
    const void *const *pods;
    size_t n_pods = client_view_index(in->view, cache, client_informer_add_index(cache, pods_by_node), node, &pods), most = 0, n = 0;
    for (size_t i = 0; i < n_pods; i++)
        most += ((const struct k8s_pod *)pods[i])->spec->volumes.len;
    struct attach_wanted *items = KP_NEW_ARRAY(in->arena, struct attach_wanted, most + 1);
    for (size_t i = 0; i < n_pods; i++) {
        const struct k8s_pod *pod = pods[i];
        for (size_t k = 0; k < pod->spec->volumes.len && !attach_pod_is_over(pod); k++) {
            const struct k8s_persistent_volume *volume = volume_behind(in, pod, &pod->spec->volumes.items[k]);
            if (volume)
                want(in, items, &n, attach_name(in->arena, volume->spec->csi->driver, volume->spec->csi->volume_handle, node), volume, pod, n_pods);
        }
    }
    *ret_items = items;
    return n;
}

size_t attach_pods_elsewhere(const struct plan_input *in, const struct k8s_persistent_volume *volume, const char *node,
                             const struct k8s_pod *const **ret_pods)
{
    const struct k8s_object_reference *ref = volume->spec->claim_ref;
    const struct k8s_persistent_volume_claim *claim =
        client_view_get(in->view, engine_cache(in->engine, &k8s_persistentvolumeclaims_resource), ref->namespace, ref->name);
    const struct k8s_pod *const *pods;
    size_t n_pods = claim ? storage_pods_of_claim(in->engine, in->view, claim, &pods) : 0, n = 0;
    const struct k8s_pod **others = KP_NEW_ARRAY(in->arena, const struct k8s_pod *, n_pods + 1);
    for (size_t i = 0; i < n_pods; i++)
        if (!kp_empty(pods[i]->spec->node_name) && !kp_streq(pods[i]->spec->node_name, node) && !attach_pod_is_over(pods[i]))
            others[n++] = pods[i];
    *ret_pods = others;
    return n;
}
