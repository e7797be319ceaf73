/* What a persistent volume may say of itself, alone and inside an attachment. */
#include "controlplane/apiserver/registry/strategy_internal.h"

#include "lib/volume/volume.h"

void validate_class_name(const char *name, struct field_errors *errors, const char *path)
{
    const char *fault = kp_empty(name) ? NULL : name_is_subdomain(name);
    if (fault)
        field_invalid(errors, name, fault, "%s", path);
}

void validate_access_modes(const struct kp_string_list *modes, const char *none, struct field_errors *errors, const char *path)
{
    if (!modes->len)
        field_required(errors, none, "%s", path);
    if (modes->len > 1 && kp_string_list_has(modes, "ReadWriteOncePod"))
        field_forbidden(errors, "may not use ReadWriteOncePod with other access modes", "%s", path);
}

void validate_csi_driver_name(const char *name, struct field_errors *errors, const char *path)
{
    if (kp_empty(name)) {
        field_required(errors, "", "%s", path);
        return;
    }
    char *lower = kp_arena_strdup(errors->arena, name);
    for (char *c = lower; *c; c++)
        if (*c >= 'A' && *c <= 'Z')
            *c = (char)(*c - 'A' + 'a');
    const char *fault = name_is_subdomain(lower);
    if (strlen(name) > 63)
        field_too_long(errors, 63, "%s", path);
    if (fault)
        field_invalid(errors, name, fault, "%s", path);
}

void validate_no_backsteps(const char *path, struct field_errors *errors, const char *at)
{
    for (const char *part = path; part; part = strchr(part, '/')) {
        part += *part == '/';
        if (strncmp(part, "..", 2) == 0 && (part[2] == '/' || !part[2])) {
            field_invalid(errors, path, "must not contain '..'", "%s", at);
            return;
        }
    }
}

/* ---- sources ------------------------------------------------------------------------------------------------------------------ */
static void validate_secret(const struct k8s_secret_reference *ref, struct field_errors *errors, const char *name)
{
    if (!ref)
        return;
    const char *fault = kp_empty(ref->name) ? NULL : name_is_subdomain(ref->name);
    if (kp_empty(ref->name))
        field_required(errors, "", "%s.name", name);
    else if (fault)
        field_invalid(errors, ref->name, fault, "%s.name", name);
    fault = kp_empty(ref->namespace) ? NULL : name_is_label(ref->namespace);
    if (kp_empty(ref->namespace))
        field_required(errors, "", "%s.namespace", name);
    else if (fault)
        field_invalid(errors, ref->namespace, fault, "%s.namespace", name);
}

static void validate_csi(const struct k8s_csi_persistent_volume_source *csi, struct field_errors *errors, const char *path)
{
    validate_csi_driver_name(csi->driver, errors, validate_under(errors, path, "driver"));
    if (kp_empty(csi->volume_handle))
        field_required(errors, "", "%s.volumeHandle", path);
    validate_secret(csi->controller_publish_secret_ref, errors, validate_under(errors, path, "controllerPublishSecretRef"));
    validate_secret(csi->controller_expand_secret_ref, errors, validate_under(errors, path, "controllerExpandSecretRef"));
    validate_secret(csi->node_publish_secret_ref, errors, validate_under(errors, path, "nodePublishSecretRef"));
    validate_secret(csi->node_expand_secret_ref, errors, validate_under(errors, path, "nodeExpandSecretRef"));
}

static void validate_source(const struct k8s_persistent_volume_spec *spec, struct field_errors *errors, const char *path)
{
    if (spec->host_path && !kp_empty(spec->host_path->path))
        validate_no_backsteps(spec->host_path->path, errors, validate_under(errors, path, "hostPath.path"));
    if (spec->local && !kp_empty(spec->local->path))
        validate_no_backsteps(spec->local->path, errors, validate_under(errors, path, "local.path"));
    if (spec->local && !(spec->node_affinity && spec->node_affinity->required))
        field_required(errors, "Local volume requires node affinity", "%s.nodeAffinity", path);
    if (spec->csi)
        validate_csi(spec->csi, errors, validate_under(errors, path, "csi"));
    if (spec->nfs && !kp_empty(spec->nfs->path) && spec->nfs->path[0] != '/')
        field_invalid(errors, spec->nfs->path, "must be an absolute path", "%s.nfs.path", path);
    if (spec->host_path && kp_streq(spec->host_path->path, "/") && kp_streq(spec->persistent_volume_reclaim_policy, "Recycle"))
        field_forbidden(errors, "may not be 'recycle' for a hostPath mount of '/'", "%s.persistentVolumeReclaimPolicy", path);
}

/* The members between the first and the last source. */
static bool is_source(const struct kp_field *field)
{
    return field->kind == KP_KIND_STRUCT && field->offset >= offsetof(struct k8s_persistent_volume_spec, gce_persistent_disk) &&
           field->offset <= offsetof(struct k8s_persistent_volume_spec, csi);
}

static void validate_one_source(const struct k8s_persistent_volume_spec *spec, struct field_errors *errors, const char *path)
{
    const struct kp_type *type = &k8s_persistent_volume_spec_type;
    size_t n = 0;
    for (size_t i = 0; i < type->n_fields; i++) {
        if (!is_source(&type->fields[i]) || !*(const void *const *)(const void *)((const char *)spec + type->fields[i].offset))
            continue;
        if (n++)
            field_forbidden(errors, "may not specify more than 1 volume type", "%s.%s", path, type->fields[i].json_name);
    }
    if (!n)
        field_required(errors, "must specify a volume type", "%s", path);
}

bool volume_sources_equal(const struct k8s_persistent_volume_spec *a, const struct k8s_persistent_volume_spec *b)
{
    const struct kp_type *type = &k8s_persistent_volume_spec_type;
    for (size_t i = 0; i < type->n_fields; i++) {
        if (!is_source(&type->fields[i]))
            continue;
        const void *x = *(const void *const *)(const void *)((const char *)a + type->fields[i].offset);
        const void *y = *(const void *const *)(const void *)((const char *)b + type->fields[i].offset);
        if ((x || y) && !(x && y && kp_object_equal(type->fields[i].type, x, y)))
            return false;
    }
    return true;
}

/* ---- nodes that reach it ---------------------------------------------------------------------------------------------------------- */
static void validate_requirement(const struct k8s_node_selector_requirement *r, struct field_errors *errors, const char *at)
{
    bool set = kp_streq(r->operator, "In") || kp_streq(r->operator, "NotIn");
    bool existence = kp_streq(r->operator, "Exists") || kp_streq(r->operator, "DoesNotExist");
    bool order = kp_streq(r->operator, "Gt") || kp_streq(r->operator, "Lt");
    if (set && !r->values.len)
        field_required(errors, "must be specified when `operator` is 'In' or 'NotIn'", "%s.values", at);
    else if (existence && r->values.len)
        field_forbidden(errors, "may not be specified when `operator` is 'Exists' or 'DoesNotExist'", "%s.values", at);
    else if (order && r->values.len != 1)
        field_required(errors, "must be specified single value when `operator` is 'Lt' or 'Gt'", "%s.values", at);
    else if (!set && !existence && !order)
        field_invalid(errors, r->operator, "not a valid selector operator", "%s.operator", at);
    const char *fault = kp_validate_qualified_name(r->key ? r->key : "");
    if (fault)
        field_invalid(errors, r->key, fault, "%s.key", at);
}

static void validate_affinity(const struct k8s_volume_node_affinity *affinity, struct field_errors *errors, const char *path)
{
    if (!affinity->required) {
        field_required(errors, "must specify required node constraints", "%s.required", path);
        return;
    }
    const struct k8s_node_selector_term_items *terms = &affinity->required->node_selector_terms;
    if (!terms->len)
        field_required(errors, "must have at least one node selector term", "%s.required.nodeSelectorTerms", path);
    for (size_t i = 0; i < terms->len; i++)
        for (size_t k = 0; k < terms->items[i].match_expressions.len; k++)
            validate_requirement(&terms->items[i].match_expressions.items[k], errors,
                                 kp_arena_printf(errors->arena, "%s.required.nodeSelectorTerms[%zu].matchExpressions[%zu]", path, i, k));
}

/* ---- the whole ---------------------------------------------------------------------------------------------------------------------- */
static void validate_capacity(const struct kp_string_map *capacity, struct field_errors *errors, const char *path)
{
    if (!capacity->len)
        field_required(errors, "", "%s", path);
    for (size_t i = 0; i < capacity->len; i++)
        if (strcmp(capacity->items[i].key, "storage") != 0)
            field_not_supported(errors, capacity->items[i].key, (const char *const[]){"storage", NULL}, "%s", path);
        else if (kp_quantity_str_cmp(capacity->items[i].value, "0") <= 0)
            field_invalid(errors, capacity->items[i].value, "must be greater than zero", "%s[storage]", path);
}

void validate_volume_spec(const struct k8s_persistent_volume_spec *spec, struct field_errors *errors, const char *path)
{
    validate_access_modes(&spec->access_modes, "", errors, validate_under(errors, path, "accessModes"));
    validate_capacity(&spec->capacity, errors, validate_under(errors, path, "capacity"));
    if (spec->node_affinity)
        validate_affinity(spec->node_affinity, errors, validate_under(errors, path, "nodeAffinity"));
    validate_one_source(spec, errors, path);
    validate_source(spec, errors, path);
    validate_class_name(spec->storage_class_name, errors, validate_under(errors, path, "storageClassName"));
    if (!spec->volume_attributes_class_name)
        return;
    if (!*spec->volume_attributes_class_name)
        field_required(errors, "an empty string is disallowed", "%s.volumeAttributesClassName", path);
    validate_class_name(spec->volume_attributes_class_name, errors, validate_under(errors, path, "volumeAttributesClassName"));
    if (!spec->csi)
        field_required(errors, "has to be specified when using volumeAttributesClassName", "%s.csi", path);
}

/* Of a volume that was written in a pod: the CSI source and little else. */
void validate_inline_volume_spec(const struct k8s_persistent_volume_spec *spec, struct field_errors *errors, const char *path)
{
    static const char detail[] = "may not be specified in the context of inline volumes";
    if (spec->claim_ref)
        field_forbidden(errors, detail, "%s.claimRef", path);
    if (spec->capacity.len)
        field_forbidden(errors, detail, "%s.capacity", path);
    if (!spec->csi)
        field_required(errors, "has to be specified in the context of inline volumes", "%s.csi", path);
    validate_access_modes(&spec->access_modes, "", errors, validate_under(errors, path, "accessModes"));
    if (!kp_empty(spec->persistent_volume_reclaim_policy) && !kp_streq(spec->persistent_volume_reclaim_policy, "Retain"))
        field_forbidden(errors, "may only be Retain in the context of inline volumes", "%s.persistentVolumeReclaimPolicy", path);
    if (spec->node_affinity)
        field_forbidden(errors, detail, "%s.nodeAffinity", path);
    validate_one_source(spec, errors, path);
    validate_source(spec, errors, path);
    if (!kp_empty(spec->storage_class_name))
        field_forbidden(errors, detail, "%s.storageClassName", path);
    if (!kp_streq(spec->volume_mode ? spec->volume_mode : "Filesystem", "Filesystem"))
        field_forbidden(errors, "may not specify volumeMode other than Filesystem in the context of inline volumes", "%s.volumeMode", path);
}
