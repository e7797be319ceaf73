/* What admission does about storage: the class of claims that name none, the finalizers that protect what is in use, growth, and what nodes may write. */
#include "controlplane/apiserver/admission/admission_internal.h"
#include "lib/volume/volume.h"

#define DEFAULT_CLASS_BETA "storageclass.beta.kubernetes.io/is-default-class"

/* ---- DefaultStorageClass ------------------------------------------------------------------------------------------------------ */
static bool is_default(const struct k8s_storage_class *class)
{
    return kp_streq(kp_string_map_get(&class->metadata->annotations, VOLUME_DEFAULT_CLASS), "true") ||
           kp_streq(kp_string_map_get(&class->metadata->annotations, DEFAULT_CLASS_BETA), "true");
}

/* The newest, and of those as old as each other the first by name. */
static bool goes_before(const struct k8s_storage_class *a, const struct k8s_storage_class *b)
{
    const struct kp_time *x = &a->metadata->creation_timestamp, *y = &b->metadata->creation_timestamp;
    return x->seconds != y->seconds ? x->seconds > y->seconds : strcmp(a->metadata->name, b->metadata->name) < 0;
}

static const struct k8s_storage_class *default_class(struct admission *admission, struct kp_arena *arena)
{
    const struct k8s_storage_class *found = NULL;
    struct wcache_list list;
    wcache_list(admission->storage_classes, &(const struct wcache_filter){0}, NULL, 0, arena, &list);
    for (size_t i = 0; i < list.len; i++) {
        void *decoded;
        struct kp_error error = {0};
        if (kp_json_decode(&k8s_storage_class_type, (const char *)list.items[i]->json->data, list.items[i]->json->len, arena, NULL, &decoded, &error) < 0) {
            kp_warn("a StorageClass in the cache cannot be read", "key", list.items[i]->key, "error", error.message, NULL);
            continue;
        }
        const struct k8s_storage_class *class = decoded;
        if (is_default(class) && (!found || goes_before(class, found)))
            found = class;
    }
    wcache_list_done(&list);
    return found;
}

int admission_default_storage_class(struct admission *admission, struct admission_attributes *a, struct api_status *status)
{
    (void)status;
    if (a->operation != ADMISSION_CREATE || !admission_is(a, "", "persistentvolumeclaims", "") || !admission->storage_classes)
        return 0;
    struct k8s_persistent_volume_claim *claim = a->object;
    if (claim->spec->storage_class_name || kp_string_map_get(&claim->metadata->annotations, VOLUME_CLASS_BETA))
        return 0; /* "" asks for a volume without a class */
    const struct k8s_storage_class *class = default_class(admission, a->arena);
    if (class)
        claim->spec->storage_class_name = class->metadata->name;
    return 0;
}

/* ---- StorageObjectInUseProtection --------------------------------------------------------------------------------------------- */
int admission_storage_in_use(struct admission *admission, struct admission_attributes *a, struct api_status *status)
{
    (void)admission, (void)status;
    bool claim = admission_is(a, "", "persistentvolumeclaims", ""), volume = admission_is(a, "", "persistentvolumes", "");
    if (a->operation != ADMISSION_CREATE || (!claim && !volume))
        return 0;
    struct k8s_object_meta *meta = kp_object_meta(a->type, a->object);
    const char *finalizer = claim ? VOLUME_CLAIM_PROTECTION : VOLUME_PROTECTION;
    if (!kp_string_list_has(&meta->finalizers, finalizer))
        kp_string_list_add(a->arena, &meta->finalizers, finalizer);
    return 0;
}

/* ---- PersistentVolumeClaimResize ---------------------------------------------------------------------------------------------- */
int admission_claim_resize(struct admission *admission, struct admission_attributes *a, struct api_status *status)
{
    if (a->operation != ADMISSION_UPDATE || !admission_is(a, "", "persistentvolumeclaims", ""))
        return 0;
    const struct k8s_persistent_volume_claim *now = a->object, *before = a->old_object;
    const char *is = kp_string_map_get(&now->spec->resources->requests, "storage"), *was = kp_string_map_get(&before->spec->resources->requests, "storage");
    if (kp_quantity_str_cmp(is, was) <= 0)
        return 0;
    if (!kp_streq(before->status->phase, "Bound"))
        return status_forbidden(status, "", "persistentvolumeclaims", a->name, "Only bound persistent volume claims can be expanded");
    const char *name = volume_claim_class(now);
    const struct k8s_storage_class *class = kp_streq(name, volume_claim_class(before))
                                                ? admission_load(admission->storage_classes, &k8s_storage_class_type, "", name, a->arena)
                                                : NULL;
    if (class && class->has_allow_volume_expansion && class->allow_volume_expansion)
        return 0;
    return status_forbidden(status, "", "persistentvolumeclaims", a->name,
                            "only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must support resize");
}

/* ---- NodeRestriction ---------------------------------------------------------------------------------------------------------- */
/* A node that has grown a file system says so in the claim's status, and changes nothing else. */
int admission_restrict_claim(struct admission_attributes *a, const char *node, struct api_status *status)
{
    if (a->operation != ADMISSION_UPDATE)
        return status_forbidden(status, "", a->resource->name, a->name, "unexpected operation");
    const struct k8s_persistent_volume_claim *before = a->old_object;
    struct k8s_persistent_volume_claim *now = kp_object_clone(&k8s_persistent_volume_claim_type, a->object, a->arena);
    now->metadata->resource_version = before->metadata->resource_version;
    now->metadata->managed_fields = before->metadata->managed_fields;
    now->status->capacity = before->status->capacity;
    now->status->conditions = before->status->conditions;
    now->status->allocated_resources = before->status->allocated_resources;
    now->status->allocated_resource_statuses = before->status->allocated_resource_statuses;
    now->status->current_volume_attributes_class_name = before->status->current_volume_attributes_class_name;
    now->status->modify_volume_status = before->status->modify_volume_status;
    if (kp_object_equal(&k8s_persistent_volume_claim_type, now, before))
        return 0;
    return status_forbidden(status, "", a->resource->name, a->name, "node \"%s\" is not allowed to update fields other than status.quantity and status.conditions", node);
}

/* A node takes its finalizer from a volume whose data it has removed, and does no more to it. Which volumes those are the authoriser knows. */
int admission_restrict_volume(struct admission_attributes *a, const char *node, struct api_status *status)
{
    const struct k8s_persistent_volume *before = a->old_object;
    if (a->operation != ADMISSION_UPDATE || !kp_empty(a->subresource) || !before)
        return status_forbidden(status, "", a->resource->name, a->name, "node \"%s\" is not allowed to write persistent volumes", node);
    if (!before->metadata->deletion_timestamp.set || kp_streq(before->status->phase, "Bound"))
        return status_forbidden(status, "", a->resource->name, a->name, "node \"%s\" may only let go of a persistent volume that is being deleted", node);
    struct k8s_persistent_volume *now = kp_object_clone(&k8s_persistent_volume_type, a->object, a->arena);
    struct kp_string_list left = {0};
    for (size_t i = 0; i < before->metadata->finalizers.len; i++)
        if (strcmp(before->metadata->finalizers.items[i], VOLUME_LOCAL_FINALIZER) != 0)
            kp_string_list_add(a->arena, &left, before->metadata->finalizers.items[i]);
    bool same = now->metadata->finalizers.len == left.len;
    for (size_t i = 0; same && i < left.len; i++)
        same = strcmp(now->metadata->finalizers.items[i], left.items[i]) == 0;
    now->metadata->finalizers = before->metadata->finalizers;
    now->metadata->resource_version = before->metadata->resource_version;
    now->metadata->managed_fields = before->metadata->managed_fields;
    if (same && kp_object_equal(&k8s_persistent_volume_type, now, before))
        return 0;
    return status_forbidden(status, "", a->resource->name, a->name, "node \"%s\" may only take the finalizer %s from a persistent volume", node,
                            VOLUME_LOCAL_FINALIZER);
}
