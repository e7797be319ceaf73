/* Volumes that stand behind claims: from the pod's volume to the claim and its persistent volume, and into the pod. */
#include "lib/volume/volume.h"
#include "nodeimage/kubelet/csi/csi.h"
#include "nodeimage/kubelet/volumes/claims_internal.h"

bool volumes_claimed(const struct k8s_volume *volume)
{
    return volume->persistent_volume_claim || volume->ephemeral || volume->csi;
}

static const char *claim_name(const struct k8s_pod *pod, const struct k8s_volume *volume, struct kp_arena *arena)
{
    return volume->ephemeral ? kp_arena_printf(arena, "%s-%s", pod->metadata->name, volume->name)
                             : volume->persistent_volume_claim->claim_name;
}

static bool is_controlled_by(const struct k8s_object_meta *meta, const struct k8s_pod *pod)
{
    for (size_t i = 0; i < meta->owner_references.len; i++) {
        const struct k8s_owner_reference *owner = &meta->owner_references.items[i];
        if (owner->has_controller && owner->controller)
            return kp_streq(owner->uid, pod->metadata->uid);
    }
    return false;
}

static int get_claim(const struct volumes_context *context, const struct k8s_pod *pod, const struct k8s_volume *volume, const char *name,
                     const struct k8s_persistent_volume_claim **ret, struct kp_error *error)
{
    const char *ns = pod->metadata->namespace;
    void *object = NULL;
    int rc = context->getter->object(context->getter->arg, &k8s_persistentvolumeclaims_resource, ns, name, &object, error);
    if (rc < 0)
        return kp_wrap(error, "failed to fetch PVC from API server");
    const struct k8s_persistent_volume_claim *claim = object;
    if (volume->ephemeral && !is_controlled_by(claim->metadata, pod))
        return kp_fail(error, KP_EINVALID, "PVC %s/%s was not created for pod %s/%s (pod is not owner)", ns, name, ns, pod->metadata->name);
    /* A pod that has the volume already keeps it: the claim waits for it. */
    if (claim->metadata->deletion_timestamp.set && !kp_strmap_get(context->mounts, volume->name) && !context->resumed)
        return kp_fail(error, KP_ECONFLICT, "can't start pod because PVC is being deleted");
    if (!kp_streq(claim->status->phase, "Bound"))
        return kp_fail(error, KP_EUNAVAILABLE, "PVC is not bound");
    if (kp_empty(claim->spec->volume_name))
        return kp_fail(error, KP_EUNAVAILABLE, "PVC has empty pvc.Spec.VolumeName");
    *ret = claim;
    return 0;
}

static int get_volume(const struct volumes_context *context, const struct k8s_persistent_volume_claim *claim,
                      const struct k8s_persistent_volume **ret, struct kp_error *error)
{
    const char *name = claim->spec->volume_name;
    void *object = NULL;
    int rc = context->getter->object(context->getter->arg, &k8s_persistentvolumes_resource, NULL, name, &object, error);
    if (rc < 0)
        return kp_wrap(error, "failed to fetch PV %s from API server", name);
    const struct k8s_persistent_volume *pv = object;
    if (!pv->spec->claim_ref)
        return kp_fail(error, KP_EUNAVAILABLE, "found PV object %s but it has a nil pv.Spec.ClaimRef indicating it is not yet bound to the claim", name);
    if (!kp_streq(pv->spec->claim_ref->uid, claim->metadata->uid))
        return kp_fail(error, KP_EUNAVAILABLE, "found PV object %s but its pv.Spec.ClaimRef.UID %s does not point to claim.UID %s", name,
                       pv->spec->claim_ref->uid ? pv->spec->claim_ref->uid : "", claim->metadata->uid);
    *ret = pv;
    return 0;
}

static bool as_device(const struct k8s_container *container, const char *name)
{
    for (size_t i = 0; i < container->volume_devices.len; i++)
        if (kp_streq(container->volume_devices.items[i].name, name))
            return true;
    return false;
}

static bool as_mount(const struct k8s_container *container, const char *name)
{
    for (size_t i = 0; i < container->volume_mounts.len; i++)
        if (kp_streq(container->volume_mounts.items[i].name, name))
            return true;
    return false;
}

/* The pod must use the volume as what it is. */
static int check_mode(const struct k8s_pod *pod, const char *name, const struct k8s_persistent_volume *pv, struct kp_arena *arena,
                      struct kp_error *error)
{
    struct kubelet_spec_container *containers;
    size_t n = kubelet_spec_containers(pod, arena, &containers);
    bool block = kp_streq(volume_mode(pv), "Block");
    for (size_t i = 0; i < n; i++) {
        if (block && as_mount(containers[i].container, name))
            return kp_fail(error, KP_EINVALID, "volume %s has volumeMode Block, but is specified in volumeMounts", name);
        if (!block && as_device(containers[i].container, name))
            return kp_fail(error, KP_EINVALID, "volume %s has volumeMode Filesystem, but is specified in volumeDevices", name);
    }
    return block ? kp_fail(error, KP_ENOTSUPPORTED, "volumeMode Block is not supported by this kubelet") : 0;
}

static int resolve(const struct volumes_context *context, const struct k8s_pod *pod, const struct k8s_volume *volume,
                   const struct k8s_persistent_volume **ret, struct kp_error *error)
{
    const char *name = claim_name(pod, volume, context->arena);
    const struct k8s_persistent_volume_claim *claim = NULL;
    if (!context->getter->object)
        return kp_fail(error, KP_EUNAVAILABLE, "claims need an API server");
    int rc = get_claim(context, pod, volume, name, &claim, error);
    if (rc == 0)
        rc = get_volume(context, claim, ret, error);
    if (rc < 0)
        return kp_wrap(error, "error processing PVC %s/%s", pod->metadata->namespace, name);
    return check_mode(pod, volume->name, *ret, context->arena, error);
}

static void mount_free(void *p)
{
    free(((struct volumes_mount *)p)->path);
    free(p);
}

void volumes_mounts_free(struct kp_strmap *mounts)
{
    kp_strmap_free(mounts, mount_free);
}

static void note(const struct volumes_context *context, const char *name, const char *path, bool read_only, bool republish)
{
    struct volumes_mount *mount = kp_calloc(1, sizeof(*mount));
    *mount = (struct volumes_mount){.path = kp_strdup(path), .read_only = read_only, .republish = republish};
    struct volumes_mount *old = kp_strmap_put(context->mounts, name, mount);
    if (old)
        mount_free(old);
}

static int mount_csi(const struct volumes_context *context, const struct k8s_pod *pod, const struct csi_volume *csi_volume, const char *name,
                     struct kp_error *error)
{
    const char *path;
    bool republish;
    if (!context->csi)
        return kp_fail(error, KP_ENOTSUPPORTED, "volumes of storage drivers need an API server");
    int rc = csi_mount(context->csi, csi_volume, context->getter, context->arena, &path, &republish, error);
    if (rc == 0)
        note(context, name, path, csi_volume->read_only, republish);
    return rc;
}

static int mount_persistent(const struct volumes_context *context, const struct k8s_pod *pod, const struct k8s_volume *volume,
                            const struct k8s_persistent_volume *pv, struct kp_error *error)
{
    bool read_only = volume->persistent_volume_claim && volume->persistent_volume_claim->read_only;
    const char *name = pv->metadata->name, *path = NULL;
    if (context->node && !volume_reaches_node(pv, context->node))
        return kp_fail(error, KP_EINVALID, "MountVolume.NodeAffinity check failed for volume \"%s\" : no matching NodeSelectorTerms", name);
    if (pv->spec->csi) {
        struct csi_volume csi_volume = {.pod = pod, .name = name, .persistent = pv, .read_only = read_only};
        return mount_csi(context, pod, &csi_volume, volume->name, error);
    }
    int rc = 0;
    if (pv->spec->local)
        rc = volumes_local_setup(context, pod, pv, read_only, &path, error);
    else if (pv->spec->host_path)
        rc = volumes_host_path_setup(pv->spec->host_path, error), path = pv->spec->host_path->path;
    else
        rc = kp_fail(error, KP_ENOTSUPPORTED, "no volume plugin matched: this kubelet mounts persistent volumes of the kinds local, hostPath and csi");
    if (rc < 0)
        return kp_wrap(error, "MountVolume.SetUp failed for volume \"%s\" ", name);
    note(context, volume->name, path, read_only, false);
    return 0;
}

int volumes_claim_setup(const struct volumes_context *context, const struct k8s_pod *pod, const struct k8s_volume *volume,
                        struct kp_error *error)
{
    const struct volumes_mount *there = kp_strmap_get(context->mounts, volume->name);
    const struct k8s_persistent_volume *pv = NULL;
    if (there && !there->republish)
        return 0;
    if (volume->csi) {
        struct csi_volume csi_volume = {.pod = pod, .name = volume->name, .ephemeral = volume->csi, .read_only = volume->csi->read_only};
        return mount_csi(context, pod, &csi_volume, volume->name, error);
    }
    int rc = resolve(context, pod, volume, &pv, error);
    if (rc < 0)
        return kp_wrap(error, "Unable to attach or mount volumes: unmounted volumes=[%s], unattached volumes=[], failed to process volumes=[%s]",
                       volume->name, volume->name);
    return mount_persistent(context, pod, volume, pv, error);
}
