/* Validation of a pod's volumes and of how its containers use them as block devices. */
#include "controlplane/apiserver/registry/strategy_internal.h"

static bool is_set(const struct k8s_volume *volume, const struct kp_field *field)
{
    return field->kind == KP_KIND_STRUCT && *(const void *const *)(const void *)((const char *)volume + field->offset);
}

static void validate_one_source(const struct k8s_volume *volume, struct field_errors *errors, const char *at)
{
    size_t n = 0;
    for (size_t i = 0; i < k8s_volume_type.n_fields; i++)
        if (is_set(volume, &k8s_volume_type.fields[i]) && n++)
            field_forbidden(errors, "may not specify more than 1 volume type", "%s.%s", at, k8s_volume_type.fields[i].json_name);
}

static void validate_csi(const struct k8s_csi_volume_source *csi, struct field_errors *errors, const char *at)
{
    const struct k8s_local_object_reference *secret = csi->node_publish_secret_ref;
    const char *fault = secret && !kp_empty(secret->name) ? name_is_subdomain(secret->name) : NULL;
    validate_csi_driver_name(csi->driver, errors, validate_under(errors, at, "driver"));
    if (secret && kp_empty(secret->name))
        field_required(errors, "", "%s.nodePublishSecretRef.name", at);
    else if (fault)
        field_invalid(errors, secret->name, fault, "%s.name", at);
}

/* The template has nothing but labels and annotations, and becomes a claim "pod-volume". */
static void validate_ephemeral(const struct k8s_volume *volume, const struct k8s_object_meta *meta, struct field_errors *errors, const char *at)
{
    const struct k8s_persistent_volume_claim_template *template = volume->ephemeral->volume_claim_template;
    const char *path = validate_under(errors, at, "ephemeral.volumeClaimTemplate");
    if (!template) {
        field_required(errors, "", "%s", path);
        return;
    }
    validate_label_map(&template->metadata->labels, errors, validate_under(errors, path, "metadata.labels"));
    validate_annotations(&template->metadata->annotations, errors, validate_under(errors, path, "metadata.annotations"));
    struct k8s_object_meta others = *template->metadata;
    others.labels = others.annotations = (struct kp_string_map){0};
    struct k8s_object_meta *nothing = KP_OBJECT_NEW(errors->arena, k8s_object_meta);
    if (!kp_object_equal(&k8s_object_meta_type, &others, nothing))
        field_forbidden(errors, "cannot be set", "%s.metadata", path);
    validate_claim_spec(template->spec, errors, validate_under(errors, path, "spec"));
    if (!meta || kp_empty(meta->name) || kp_empty(volume->name))
        return;
    const char *name = kp_arena_printf(errors->arena, "%s-%s", meta->name, volume->name), *fault = name_is_subdomain(name);
    if (fault)
        field_invalid(errors, volume->name, kp_arena_printf(errors->arena, "PVC name \"%s\": %s", name, fault), "%s.name", at);
}

void validate_pod_volumes(const struct k8s_pod_spec *spec, const struct k8s_object_meta *meta, struct field_errors *errors, const char *path)
{
    for (size_t i = 0; i < spec->volumes.len; i++) {
        const struct k8s_volume *volume = &spec->volumes.items[i];
        const char *at = kp_arena_printf(errors->arena, "%s[%zu]", validate_under(errors, path, "volumes"), i);
        const char *fault = kp_empty(volume->name) ? NULL : name_is_label(volume->name);
        if (kp_empty(volume->name))
            field_required(errors, "", "%s.name", at);
        else if (fault)
            field_invalid(errors, volume->name, fault, "%s.name", at);
        for (size_t j = 0; !kp_empty(volume->name) && j < i; j++)
            if (kp_streq(spec->volumes.items[j].name, volume->name))
                field_duplicate(errors, volume->name, "%s.name", at);
        validate_one_source(volume, errors, at);
        if (volume->csi)
            validate_csi(volume->csi, errors, validate_under(errors, at, "csi"));
        if (volume->ephemeral)
            validate_ephemeral(volume, meta, errors, at);
    }
}

/* ---- block devices -------------------------------------------------------------------------------------------------------------- */
static const struct k8s_volume *find_volume(const struct k8s_pod_spec *spec, const char *name)
{
    for (size_t i = 0; i < spec->volumes.len; i++)
        if (kp_streq(spec->volumes.items[i].name, name))
            return &spec->volumes.items[i];
    return NULL;
}

static void validate_device_path(const struct k8s_container *container, size_t i, struct field_errors *errors, const char *at)
{
    const char *path = container->volume_devices.items[i].device_path;
    if (kp_empty(path))
        return; /* the schema says so */
    for (size_t j = 0; j < i; j++)
        if (kp_streq(container->volume_devices.items[j].device_path, path))
            field_invalid(errors, path, "must be unique", "%s.devicePath", at);
    for (size_t j = 0; j < container->volume_mounts.len; j++)
        if (kp_streq(container->volume_mounts.items[j].mount_path, path))
            field_invalid(errors, path, "must not already exist as a path in volumeMounts", "%s.devicePath", at);
    validate_no_backsteps(path, errors, validate_under(errors, at, "devicePath"));
}

void validate_devices(const struct k8s_pod_spec *spec, const struct k8s_container *container, struct field_errors *errors, const char *path)
{
    for (size_t i = 0; i < container->volume_devices.len; i++) {
        const struct k8s_volume_device *device = &container->volume_devices.items[i];
        const char *at = kp_arena_printf(errors->arena, "%s.volumeDevices[%zu]", path, i);
        const struct k8s_volume *volume = find_volume(spec, device->name);
        if (!kp_empty(device->name) && !volume)
            field_not_found(errors, device->name, "%s.name", at);
        if (volume && !volume->persistent_volume_claim && !volume->ephemeral)
            field_invalid(errors, device->name, "can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode", "%s.name", at);
        for (size_t j = 0; j < i; j++)
            if (!kp_empty(device->name) && kp_streq(container->volume_devices.items[j].name, device->name))
                field_invalid(errors, device->name, "must be unique", "%s.name", at);
        for (size_t j = 0; j < container->volume_mounts.len; j++)
            if (!kp_empty(device->name) && kp_streq(container->volume_mounts.items[j].name, device->name))
                field_invalid(errors, device->name, "must not already exist in volumeMounts", "%s.name", at);
        validate_device_path(container, i, errors, at);
    }
}
