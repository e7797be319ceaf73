/* Where a volume stands and what becomes of it when its claim goes: the volumes' half of the binder. */
#include "controlplane/controller-manager/volume_binder.h"

static bool is_done_with(const struct k8s_persistent_volume *volume)
{
    return kp_streq(volume->status->phase, "Released") || kp_streq(volume->status->phase, "Failed");
}

/* The claim that the volume is bound to, or NULL when it is gone. That one is gone costs data, so of a volume that was not released yet only the
   store's own word counts: a provisioner or the scheduler may have seen the claim before this cache. */
static int find_claim(const struct plan_input *in, const struct k8s_persistent_volume *volume, const struct k8s_persistent_volume_claim **ret_claim,
                      struct kp_error *error)
{
    const struct k8s_object_reference *ref = volume->spec->claim_ref;
    const struct k8s_persistent_volume_claim *claim =
        client_view_get(in->view, engine_cache(in->engine, &k8s_persistentvolumeclaims_resource), ref->namespace, ref->name);
    void *stored = NULL;
    if ((!claim || !kp_streq(claim->metadata->uid, ref->uid)) && !is_done_with(volume)) {
        int code = client_get(engine_client(in->engine), &k8s_persistentvolumeclaims_resource, ref->namespace, ref->name, in->arena, &stored, error);
        if (code < 0 && code != KP_ENOTFOUND)
            return kp_wrap(error, "claim %s/%s of volume %s", ref->namespace, ref->name, volume->metadata->name);
        claim = code == 0 ? stored : NULL;
    }
    *ret_claim = claim && kp_streq(claim->metadata->uid, ref->uid) ? claim : NULL;
    return 0;
}

static void fail(const struct plan_input *in, struct plan *plan, const struct k8s_persistent_volume *volume, const char *reason, const char *text)
{
    if (binder_set_phase(in, plan, volume, "Failed", text))
        plan_event(plan, &k8s_persistent_volume_type, volume, "Warning", reason, "%s", text);
}

/* Whoever provisioned the volume deletes it. No kind of volume has a deleter in here. */
static void reclaim_by_deletion(const struct plan_input *in, struct plan *plan, const struct k8s_persistent_volume *volume)
{
    const char *by = kp_string_map_get(&volume->metadata->annotations, VOLUME_PROVISIONED_BY);
    const char *name = volume->metadata->name;
    if (!kp_empty(by) ? !kp_starts_with(by, "kubernetes.io/") : volume->spec->csi != NULL)
        return;
    if (volume->metadata->deletion_timestamp.set)
        return; /* somebody has deleted it by hand */
    if (!kp_empty(by))
        fail(in, plan, volume, "VolumeFailedDelete", kp_arena_printf(in->arena, "no volume plugin matched name: %s", by));
    else if (volume->spec->host_path && !kp_starts_with(volume->spec->host_path->path, "/tmp/"))
        fail(in, plan, volume, "VolumeFailedDelete",
             kp_arena_printf(in->arena, "host_path deleter only supports /tmp/.+ but received provided %s", volume->spec->host_path->path));
    else
        fail(in, plan, volume, "VolumeFailedDelete",
             kp_arena_printf(in->arena, "error getting deleter volume plugin for volume \"%s\": no deletable volume plugin matched", name));
}

static void release(const struct plan_input *in, struct plan *plan, const struct k8s_persistent_volume *volume)
{
    const char *policy = volume->spec->persistent_volume_reclaim_policy;
    if (!is_done_with(volume))
        binder_set_phase(in, plan, volume, "Released", NULL); /* reclaimed by the next plan */
    else if (kp_streq(policy, "Delete"))
        reclaim_by_deletion(in, plan, volume);
    else if (kp_streq(policy, "Recycle"))
        fail(in, plan, volume, "VolumeFailedRecycle", "No recycler plugin found for the volume!");
    else if (!kp_streq(policy, "Retain"))
        fail(in, plan, volume, "VolumeUnknownReclaimPolicy", "Volume has unrecognized PersistentVolumeReclaimPolicy");
}

/* The claim went to another volume. What the binder wrote is undone; what a user wrote is kept, for a claim of that name. */
static void unbind(const struct plan_input *in, struct plan *plan, const struct k8s_persistent_volume *volume)
{
    struct k8s_persistent_volume *copy = KP_OBJECT_CLONE(in->arena, k8s_persistent_volume, volume);
    if (kp_string_map_remove(in->arena, &copy->metadata->annotations, VOLUME_BOUND_BY_CONTROLLER))
        copy->spec->claim_ref = NULL;
    else
        copy->spec->claim_ref->uid = NULL;
    plan_update(plan, &k8s_persistentvolumes_resource, copy);
}

static void tell_mode_mismatch(struct plan *plan, const struct k8s_persistent_volume *volume, const struct k8s_persistent_volume_claim *claim)
{
    plan_event(plan, &k8s_persistent_volume_type, volume, "Warning", "VolumeMismatch",
               "Cannot bind PersistentVolume to requested PersistentVolumeClaim \"%s\" due to incompatible volumeMode.", claim->metadata->name);
    plan_event(plan, &k8s_persistent_volume_claim_type, claim, "Warning", "VolumeMismatch",
               "Cannot bind PersistentVolume \"%s\" to requested PersistentVolumeClaim due to incompatible volumeMode.", volume->metadata->name);
}

int binder_plan_volume(const struct plan_input *in, struct plan *plan, struct kp_error *error)
{
    const struct k8s_persistent_volume *volume = client_view_get(in->view, engine_cache(in->engine, &k8s_persistentvolumes_resource), "", in->name);
    const struct k8s_persistent_volume_claim *claim = NULL;
    if (!volume)
        return 0;
    if (!volume->spec->claim_ref || kp_empty(volume->spec->claim_ref->uid)) {
        binder_set_phase(in, plan, volume, "Available", NULL);
        return 0;
    }
    if (find_claim(in, volume, &claim, error) < 0)
        return error->code;
    if (!claim) {
        release(in, plan, volume);
    } else if (kp_empty(claim->spec->volume_name)) {
        if (!kp_streq(volume_mode(volume), volume_claim_mode(claim)))
            tell_mode_mismatch(plan, volume, claim);
        /* else half bound: the claim's plan, which came with the same change, goes on with it */
    } else if (kp_streq(claim->spec->volume_name, in->name)) {
        binder_set_phase(in, plan, volume, "Bound", NULL);
    } else if (kp_string_map_get(&volume->metadata->annotations, VOLUME_PROVISIONED_BY) &&
               kp_streq(volume->spec->persistent_volume_reclaim_policy, "Delete")) {
        release(in, plan, volume); /* made for this claim, which needs it no more */
    } else {
        unbind(in, plan, volume);
    }
    return 0;
}
