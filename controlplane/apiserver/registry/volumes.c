/* Strategies of persistent volumes and of the claims for them. */
#include "controlplane/apiserver/registry/strategy_internal.h"

#include "lib/volume/volume.h"

#define IMMUTABLE "field is immutable"

/* ---- volumes ------------------------------------------------------------------------------------------------------------------ */
void persistent_volume_prepare_create(struct registry_request *rq, void *obj)
{
    struct k8s_persistent_volume *volume = obj;
    volume->status->phase = "Pending";
    volume->status->last_phase_transition_time = (struct kp_time){.seconds = rq->now_s, .set = true};
}

static bool same_time(const struct kp_time *a, const struct kp_time *b)
{
    return a->set == b->set && a->seconds == b->seconds && a->nanos == b->nanos;
}

/* When the phase changes and the writer does not say when, it is now. */
void persistent_volume_prepare_subresource(struct registry_request *rq, void *obj, const void *old)
{
    registry_separate(rq, obj, old, false);
    struct k8s_persistent_volume_status *now = ((struct k8s_persistent_volume *)obj)->status;
    const struct k8s_persistent_volume_status *before = ((const struct k8s_persistent_volume *)old)->status;
    bool changed = !kp_streq(now->phase, before->phase);
    if (!changed && !now->last_phase_transition_time.set)
        now->last_phase_transition_time = before->last_phase_transition_time;
    else if (changed && (!now->last_phase_transition_time.set || same_time(&now->last_phase_transition_time, &before->last_phase_transition_time)))
        now->last_phase_transition_time = (struct kp_time){.seconds = rq->now_s, .set = true};
}

void persistent_volume_validate(struct registry_request *rq, const void *obj, struct field_errors *errors)
{
    if (kp_empty(rq->subresource))
        validate_volume_spec(((const struct k8s_persistent_volume *)obj)->spec, errors, "spec");
}

static bool same_affinity(const struct k8s_volume_node_affinity *a, const struct k8s_volume_node_affinity *b)
{
    return a && kp_object_equal(&k8s_volume_node_affinity_type, a, b);
}

void persistent_volume_validate_update(struct registry_request *rq, const void *obj, const void *old, struct field_errors *errors)
{
    const struct k8s_persistent_volume_spec *now = ((const struct k8s_persistent_volume *)obj)->spec, *before = ((const struct k8s_persistent_volume *)old)->spec;
    struct k8s_persistent_volume_spec *compared = KP_OBJECT_CLONE(rq->arena, k8s_persistent_volume_spec, now);
    if (before->csi && !before->csi->controller_expand_secret_ref && compared->csi)
        compared->csi->controller_expand_secret_ref = NULL; /* may be given later */
    if (!volume_sources_equal(compared, before))
        field_forbidden(errors, "spec.persistentvolumesource is immutable after creation", "spec.persistentvolumesource");
    if (!kp_streq(now->volume_mode, before->volume_mode))
        field_invalid(errors, now->volume_mode, IMMUTABLE, "volumeMode");
    if (before->node_affinity && !same_affinity(now->node_affinity, before->node_affinity)) {
        KP_AUTO_BUF struct kp_buf text = {0};
        if (now->node_affinity)
            kp_json_encode(&k8s_volume_node_affinity_type, now->node_affinity, &text);
        else
            kp_buf_puts(&text, "null");
        field_invalid_raw(errors, kp_arena_strdup(errors->arena, text.data), IMMUTABLE ", except for updating from beta label to GA", "nodeAffinity");
    }
    if (before->volume_attributes_class_name && !now->volume_attributes_class_name)
        field_forbidden(errors, "update from non-nil value to nil is forbidden", "spec.volumeAttributesClassName");
}

/* ---- claims --------------------------------------------------------------------------------------------------------------------- */
/* dataSource and dataSourceRef say the same, unless the latter is in another namespace; what dataSource cannot name is dropped from it. */
static void normalize_source(struct kp_arena *arena, struct k8s_persistent_volume_claim_spec *spec)
{
    const struct k8s_typed_local_object_reference *source = spec->data_source;
    const struct k8s_typed_object_reference *ref = spec->data_source_ref;
    if (source && !ref) {
        spec->data_source_ref = KP_OBJECT_NEW(arena, k8s_typed_object_reference);
        spec->data_source_ref->api_group = source->api_group;
        spec->data_source_ref->kind = source->kind;
        spec->data_source_ref->name = source->name;
    } else if (ref && !source && kp_empty(ref->namespace)) {
        spec->data_source = KP_OBJECT_NEW(arena, k8s_typed_local_object_reference);
        spec->data_source->api_group = ref->api_group;
        spec->data_source->kind = ref->kind;
        spec->data_source->name = ref->name;
    }
}

static bool is_claim_or_snapshot(const struct k8s_typed_local_object_reference *source)
{
    const char *group = source->api_group ? source->api_group : "";
    return (!*group && kp_streq(source->kind, "PersistentVolumeClaim")) || (strcmp(group, "snapshot.storage.k8s.io") == 0 && kp_streq(source->kind, "VolumeSnapshot"));
}

void persistent_volume_claim_prepare_create(struct registry_request *rq, void *obj)
{
    struct k8s_persistent_volume_claim *claim = obj;
    claim->status->phase = "Pending";
    if (claim->spec->data_source && !is_claim_or_snapshot(claim->spec->data_source))
        claim->spec->data_source = NULL;
    normalize_source(rq->arena, claim->spec);
}

void persistent_volume_claim_prepare_update(struct registry_request *rq, void *obj, const void *old)
{
    (void)old;
    normalize_source(rq->arena, ((struct k8s_persistent_volume_claim *)obj)->spec);
}

static void validate_source_named(const char *group, const char *kind, struct field_errors *errors, const char *at)
{
    const char *fault = kp_empty(group) ? NULL : name_is_subdomain(group);
    if (kp_empty(group) && !kp_streq(kind, "PersistentVolumeClaim"))
        field_invalid(errors, kind, "must be 'PersistentVolumeClaim' when referencing the default apiGroup", "%s", at);
    if (fault)
        field_invalid(errors, group, fault, "%s.apiGroup", at);
}

static void validate_sources(const struct k8s_persistent_volume_claim_spec *spec, struct field_errors *errors, const char *path)
{
    const struct k8s_typed_local_object_reference *source = spec->data_source;
    const struct k8s_typed_object_reference *ref = spec->data_source_ref;
    if (source)
        validate_source_named(source->api_group, source->kind, errors, validate_under(errors, path, "dataSource"));
    if (ref)
        validate_source_named(ref->api_group, ref->kind, errors, validate_under(errors, path, "dataSourceRef"));
    if (!source || !ref)
        return;
    bool same = kp_streq(source->api_group ? source->api_group : "", ref->api_group ? ref->api_group : "") && kp_streq(source->kind, ref->kind) &&
                kp_streq(source->name, ref->name);
    const char *at = validate_under(errors, path, "dataSource");
    if (!kp_empty(ref->namespace))
        field_invalid(errors, at, "may not be specified when dataSourceRef.namespace is specified", "%s", path);
    else if (!same)
        field_invalid(errors, at, "must match dataSourceRef", "%s", path);
}

void validate_claim_spec(const struct k8s_persistent_volume_claim_spec *spec, struct field_errors *errors, const char *path)
{
    const char *size = spec->resources ? kp_string_map_get(&spec->resources->requests, "storage") : NULL;
    validate_access_modes(&spec->access_modes, "at least 1 access mode is required", errors, validate_under(errors, path, "accessModes"));
    validate_label_selector(spec->selector, errors, validate_under(errors, path, "selector"));
    if (!size)
        field_required(errors, "", "%s.resources[storage]", path);
    else if (kp_quantity_str_cmp(size, "0") <= 0)
        field_invalid(errors, size, "must be greater than zero", "%s.resources[storage]", path);
    validate_class_name(spec->storage_class_name, errors, validate_under(errors, path, "storageClassName"));
    validate_class_name(spec->volume_attributes_class_name, errors, validate_under(errors, path, "volumeAttributesClassName"));
    validate_sources(spec, errors, path);
}

static void validate_claim_status(const struct k8s_persistent_volume_claim_status *status, struct field_errors *errors)
{
    static const char *const states[] = {"ControllerResizeInProgress", "ControllerResizeInfeasible", "NodeResizePending", "NodeResizeInProgress",
                                         "NodeResizeInfeasible", NULL};
    for (size_t i = 0; i < status->capacity.len; i++)
        if (kp_quantity_str_cmp(status->capacity.items[i].value, "0") < 0)
            field_invalid(errors, status->capacity.items[i].value, "must be a valid resource quantity", "status.capacity[%s]", status->capacity.items[i].key);
    for (size_t i = 0; i < status->allocated_resource_statuses.len; i++) {
        bool known = false;
        for (size_t k = 0; states[k]; k++)
            known = known || kp_streq(states[k], status->allocated_resource_statuses.items[i].value);
        if (!known)
            field_not_supported(errors, status->allocated_resource_statuses.items[i].key, states, "status.allocatedResourceStatus");
    }
}

void persistent_volume_claim_validate(struct registry_request *rq, const void *obj, struct field_errors *errors)
{
    const struct k8s_persistent_volume_claim *claim = obj;
    if (kp_empty(rq->subresource))
        validate_claim_spec(claim->spec, errors, "spec");
    else
        validate_claim_status(claim->status, errors);
}

/* The class may be given later to a claim that had none: once, and by its annotation when it has that. */
static bool class_given_late(const struct k8s_persistent_volume_claim *now, const struct k8s_persistent_volume_claim *before)
{
    const char *beta = kp_string_map_get(&before->metadata->annotations, VOLUME_CLASS_BETA);
    return now->spec->storage_class_name && !before->spec->storage_class_name && (!beta || kp_streq(beta, now->spec->storage_class_name));
}

static void validate_class_annotation(const struct k8s_persistent_volume_claim *now, const struct k8s_persistent_volume_claim *before,
                                      struct field_errors *errors)
{
    const char *is = kp_string_map_get(&now->metadata->annotations, VOLUME_CLASS_BETA), *was = kp_string_map_get(&before->metadata->annotations, VOLUME_CLASS_BETA);
    bool became_field = was && !is && class_given_late(now, before);
    if (!became_field && !kp_streq(is ? is : "", was ? was : ""))
        field_invalid(errors, is ? is : "", IMMUTABLE, "metadata.annotations[" VOLUME_CLASS_BETA "]");
}

static void validate_attributes_class(const char *is, const char *was, struct field_errors *errors)
{
    if (was && !is)
        field_forbidden(errors, "update from non-nil value to nil is forbidden", "spec.volumeAttributesClassName");
    else if (was && *was && !*is)
        field_forbidden(errors, "update from non-nil value to an empty string is forbidden", "spec.volumeAttributesClassName");
}

static void validate_size_change(const struct k8s_persistent_volume_claim *now, const struct k8s_persistent_volume_claim *before, struct field_errors *errors)
{
    const char *is = kp_string_map_get(&now->spec->resources->requests, "storage"), *was = kp_string_map_get(&before->spec->resources->requests, "storage");
    if (kp_quantity_str_cmp(is, was) < 0 && kp_quantity_str_cmp(is, kp_string_map_get(&before->status->capacity, "storage")) <= 0)
        field_forbidden(errors, "field can not be less than status.capacity", "spec.resources.requests.storage");
}

void persistent_volume_claim_validate_update(struct registry_request *rq, const void *obj, const void *old, struct field_errors *errors)
{
    const struct k8s_persistent_volume_claim *now = obj, *before = old;
    if (!kp_empty(rq->subresource))
        return;
    struct k8s_persistent_volume_claim_spec *is = KP_OBJECT_CLONE(rq->arena, k8s_persistent_volume_claim_spec, now->spec);
    struct k8s_persistent_volume_claim_spec *was = KP_OBJECT_CLONE(rq->arena, k8s_persistent_volume_claim_spec, before->spec);
    bool bound = kp_streq(now->status->phase, "Bound");
    normalize_source(rq->arena, was);
    if (kp_empty(was->volume_name)) /* the binder gives it, once */
        was->volume_name = is->volume_name;
    if (class_given_late(now, before))
        is->storage_class_name = was->storage_class_name;
    const char *size = kp_string_map_get(&was->resources->requests, "storage");
    if (bound && size)
        kp_string_map_set(rq->arena, &is->resources->requests, "storage", size);
    if (bound && is->volume_attributes_class_name)
        is->volume_attributes_class_name = was->volume_attributes_class_name;
    validate_class_annotation(now, before, errors);
    if (!kp_object_equal(&k8s_persistent_volume_claim_spec_type, is, was))
        field_forbidden(errors, "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims", "spec");
    validate_size_change(now, before, errors);
    if (!kp_streq(now->spec->volume_mode, before->spec->volume_mode))
        field_invalid(errors, now->spec->volume_mode, IMMUTABLE, "volumeMode");
    validate_attributes_class(now->spec->volume_attributes_class_name, before->spec->volume_attributes_class_name, errors);
}
