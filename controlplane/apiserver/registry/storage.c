/* Strategies of the group storage.k8s.io: classes, attachments, and what CSI drivers tell of themselves. */
#include "controlplane/apiserver/registry/strategy_internal.h"

#define PARAMETERS_MAX 512
#define PARAMETERS_BYTES_MAX (256 * 1024)
#define ERROR_BYTES_MAX 1024
#define NODE_ID_MAX 256
#define TOKEN_S_MIN 600
#define UPDATE_PERIOD_S_MIN 10

/* ---- classes ------------------------------------------------------------------------------------------------------------------ */
static void validate_provisioner(const char *name, struct field_errors *errors, const char *path)
{
    if (kp_empty(name)) {
        field_required(errors, "", "%s", path);
        return;
    }
    char *lower = kp_arena_strdup(errors->arena, name);
    for (char *c = lower; *c; c++)
        if (*c >= 'A' && *c <= 'Z')
            *c = (char)(*c - 'A' + 'a');
    const char *fault = kp_validate_qualified_name(lower);
    if (fault)
        field_invalid(errors, lower, fault, "%s", path);
}

static size_t map_bytes(const struct kp_string_map *map)
{
    size_t total = 0;
    for (size_t i = 0; i < map->len; i++)
        total += strlen(map->items[i].key) + (map->items[i].value ? strlen(map->items[i].value) : 0);
    return total;
}

static void validate_parameters(const struct kp_string_map *parameters, struct field_errors *errors)
{
    if (parameters->len > PARAMETERS_MAX) {
        field_too_long(errors, PARAMETERS_MAX, "parameters");
        return;
    }
    for (size_t i = 0; i < parameters->len; i++)
        if (!*parameters->items[i].key)
            field_invalid(errors, "", "field can not be empty.", "parameters");
    if (map_bytes(parameters) > PARAMETERS_BYTES_MAX)
        field_too_long(errors, PARAMETERS_BYTES_MAX, "parameters");
}

static void validate_topology(const struct k8s_topology_selector_term *term, struct field_errors *errors, size_t i)
{
    for (size_t k = 0; k < term->match_label_expressions.len; k++) {
        const struct k8s_topology_selector_label_requirement *r = &term->match_label_expressions.items[k];
        const char *fault = kp_validate_qualified_name(r->key ? r->key : "");
        if (fault)
            field_invalid(errors, r->key, fault, "allowedTopologies[%zu].matchLabelExpressions[%zu].key", i, k);
        if (!r->values.len)
            field_required(errors, "", "allowedTopologies[%zu].matchLabelExpressions[%zu].values", i, k);
        for (size_t v = 0; v < r->values.len; v++)
            for (size_t w = 0; w < v; w++)
                if (strcmp(r->values.items[v], r->values.items[w]) == 0)
                    field_duplicate(errors, r->values.items[v], "allowedTopologies[%zu].matchLabelExpressions[%zu].values[%zu]", i, k, v);
        for (size_t j = 0; j < k; j++)
            if (kp_streq(term->match_label_expressions.items[j].key, r->key))
                field_duplicate(errors, r->key, "allowedTopologies[%zu].matchLabelExpressions[%zu].key", i, k);
    }
}

void storage_class_validate(struct registry_request *rq, const void *obj, struct field_errors *errors)
{
    const struct k8s_storage_class *class = obj;
    (void)rq;
    validate_provisioner(class->provisioner, errors, "provisioner");
    validate_parameters(&class->parameters, errors);
    if (!kp_empty(class->reclaim_policy) && !kp_streq(class->reclaim_policy, "Delete") && !kp_streq(class->reclaim_policy, "Retain"))
        field_not_supported(errors, class->reclaim_policy, (const char *const[]){"Delete", "Retain", NULL}, "reclaimPolicy");
    for (size_t i = 0; i < class->allowed_topologies.len; i++) {
        validate_topology(&class->allowed_topologies.items[i], errors, i);
        for (size_t j = 0; j < i; j++)
            if (kp_object_equal(&k8s_topology_selector_term_type, &class->allowed_topologies.items[i], &class->allowed_topologies.items[j]))
                field_duplicate(errors, "", "allowedTopologies[%zu].matchLabelExpressions", i);
    }
}

void storage_class_validate_update(struct registry_request *rq, const void *obj, const void *old, struct field_errors *errors)
{
    const struct k8s_storage_class *now = obj, *before = old;
    (void)rq;
    if (!kp_string_map_equal(&now->parameters, &before->parameters))
        field_forbidden(errors, "updates to parameters are forbidden.", "parameters");
    if (!kp_streq(now->provisioner, before->provisioner))
        field_forbidden(errors, "updates to provisioner are forbidden.", "provisioner");
    if (!kp_streq(now->reclaim_policy, before->reclaim_policy))
        field_forbidden(errors, "updates to reclaimPolicy are forbidden.", "reclaimPolicy");
    if (!kp_streq(now->volume_binding_mode, before->volume_binding_mode))
        field_invalid(errors, now->volume_binding_mode, "field is immutable", "volumeBindingMode");
}

void volume_attributes_class_validate(struct registry_request *rq, const void *obj, struct field_errors *errors)
{
    const struct k8s_volume_attributes_class *class = obj;
    (void)rq;
    validate_provisioner(class->driver_name, errors, "driverName");
    validate_parameters(&class->parameters, errors);
    if (!class->parameters.len)
        field_required(errors, "must contain at least one key/value pair", "parameters");
}

void volume_attributes_class_validate_update(struct registry_request *rq, const void *obj, const void *old, struct field_errors *errors)
{
    const struct k8s_volume_attributes_class *now = obj, *before = old;
    (void)rq;
    if (!kp_streq(now->driver_name, before->driver_name))
        field_forbidden(errors, "updates to driverName are forbidden.", "driverName");
    if (!kp_string_map_equal(&now->parameters, &before->parameters))
        field_forbidden(errors, "updates to parameters are forbidden.", "parameters");
}

/* ---- attachments ------------------------------------------------------------------------------------------------------------------ */
static void validate_attachment_source(const struct k8s_volume_attachment_source *source, struct field_errors *errors)
{
    static const char one[] = "must specify exactly one of inlineVolumeSpec and persistentVolumeName";
    const char *name = source->persistent_volume_name;
    if (!source->inline_volume_spec && !name)
        field_required(errors, one, "spec.source");
    else if (source->inline_volume_spec && name)
        field_forbidden(errors, one, "spec.source");
    else if (name && !*name)
        field_required(errors, "must specify non empty persistentVolumeName", "spec.source.persistentVolumeName");
    else if (name && name_is_subdomain(name))
        field_invalid(errors, name, name_is_subdomain(name), "spec.source.persistentVolumeName");
    else if (!name)
        validate_inline_volume_spec(source->inline_volume_spec, errors, "spec.source.inlineVolumeSpec");
}

static void validate_volume_error(const struct k8s_volume_error *error, struct field_errors *errors, const char *path)
{
    if (error && error->message && strlen(error->message) > ERROR_BYTES_MAX)
        field_too_long(errors, PARAMETERS_BYTES_MAX, "%s.message", path);
    if (error && error->has_error_code && error->error_code < 0)
        field_invalid_int(errors, error->error_code, "must be between 0 and 2147483647, inclusive", "%s.errorCode", path);
}

void volume_attachment_validate(struct registry_request *rq, const void *obj, struct field_errors *errors)
{
    const struct k8s_volume_attachment *attachment = obj;
    (void)rq;
    validate_csi_driver_name(attachment->spec->attacher, errors, "spec.attacher");
    validate_attachment_source(attachment->spec->source, errors);
    const char *node = attachment->spec->node_name, *fault = name_is_subdomain(node ? node : "");
    if (fault)
        field_invalid(errors, node ? node : "", fault, "spec.nodeName");
    if (map_bytes(&attachment->status->attachment_metadata) > PARAMETERS_BYTES_MAX)
        field_too_long(errors, PARAMETERS_BYTES_MAX, "status.attachmentMetadata");
    validate_volume_error(attachment->status->attach_error, errors, "status.attachError");
    validate_volume_error(attachment->status->detach_error, errors, "status.detachError");
}

void volume_attachment_validate_update(struct registry_request *rq, const void *obj, const void *old, struct field_errors *errors)
{
    (void)rq;
    immutable_member(&k8s_volume_attachment_type, obj, old, "spec", errors, "spec");
}

/* ---- drivers ------------------------------------------------------------------------------------------------------------------------ */
static void validate_tokens(const struct k8s_storage_token_request_items *tokens, struct field_errors *errors)
{
    for (size_t i = 0; i < tokens->len; i++) {
        const struct k8s_storage_token_request *token = &tokens->items[i];
        for (size_t j = 0; j < i; j++)
            if (kp_streq(tokens->items[j].audience ? tokens->items[j].audience : "", token->audience ? token->audience : ""))
                field_duplicate(errors, token->audience ? token->audience : "", "spec.tokenRequests[%zu].audience", i);
        if (token->has_expiration_seconds && token->expiration_seconds < TOKEN_S_MIN)
            field_invalid_int(errors, token->expiration_seconds, "may not specify a duration less than 10 minutes", "spec.tokenRequests[%zu].expirationSeconds", i);
        if (token->has_expiration_seconds && token->expiration_seconds > INT64_C(1) << 32)
            field_invalid_int(errors, token->expiration_seconds, "may not specify a duration larger than 2^32 seconds",
                              "spec.tokenRequests[%zu].expirationSeconds", i);
    }
}

void csi_driver_validate(struct registry_request *rq, const void *obj, struct field_errors *errors)
{
    static const char *const policies[] = {"File", "None", "ReadWriteOnceWithFSType", NULL}, *const modes[] = {"Persistent", "Ephemeral", NULL};
    const struct k8s_csi_driver_spec *spec = ((const struct k8s_csi_driver *)obj)->spec;
    (void)rq;
    const char *policy = spec->fs_group_policy;
    if (policy && !kp_streq(policy, policies[0]) && !kp_streq(policy, policies[1]) && !kp_streq(policy, policies[2]))
        field_not_supported(errors, policy, policies, "spec.fsGroupPolicy");
    validate_tokens(&spec->token_requests, errors);
    for (size_t i = 0; i < spec->volume_lifecycle_modes.len; i++)
        if (strcmp(spec->volume_lifecycle_modes.items[i], modes[0]) != 0 && strcmp(spec->volume_lifecycle_modes.items[i], modes[1]) != 0)
            field_not_supported(errors, spec->volume_lifecycle_modes.items[i], modes, "spec.volumeLifecycleModes");
    if (spec->has_node_allocatable_update_period_seconds && spec->node_allocatable_update_period_seconds < UPDATE_PERIOD_S_MIN)
        field_invalid_int(errors, spec->node_allocatable_update_period_seconds, "must be greater than or equal to 10 seconds",
                          "spec.nodeAllocatableUpdatePeriodSeconds");
}

void csi_driver_validate_update(struct registry_request *rq, const void *obj, const void *old, struct field_errors *errors)
{
    const struct k8s_csi_driver_spec *now = ((const struct k8s_csi_driver *)obj)->spec, *before = ((const struct k8s_csi_driver *)old)->spec;
    (void)rq;
    if (now->attach_required != before->attach_required)
        field_invalid_raw(errors, now->attach_required ? "true" : "false", "field is immutable", "spec.attachedRequired");
    bool same = now->volume_lifecycle_modes.len == before->volume_lifecycle_modes.len;
    for (size_t i = 0; same && i < now->volume_lifecycle_modes.len; i++)
        same = strcmp(now->volume_lifecycle_modes.items[i], before->volume_lifecycle_modes.items[i]) == 0;
    KP_AUTO_BUF struct kp_buf text = {0};
    kp_buf_putc(&text, '[');
    for (size_t i = 0; i < now->volume_lifecycle_modes.len; i++)
        kp_buf_printf(&text, "%s\"%s\"", i ? "," : "", now->volume_lifecycle_modes.items[i]);
    kp_buf_putc(&text, ']');
    if (!same)
        field_invalid_raw(errors, kp_arena_strdup(errors->arena, text.data), "field is immutable", "spec.volumeLifecycleModes");
}

/* ---- drivers of a node -------------------------------------------------------------------------------------------------------------- */
static void validate_topology_keys(const struct kp_string_list *keys, struct field_errors *errors, const char *at)
{
    for (size_t i = 0; i < keys->len; i++) {
        const char *fault = kp_validate_qualified_name(keys->items[i]);
        for (size_t j = 0; j < i; j++)
            if (strcmp(keys->items[i], keys->items[j]) == 0)
                field_duplicate(errors, keys->items[i], "%s", at);
        if (fault)
            field_invalid(errors, keys->items[i], fault, "%s", at);
    }
}

void csi_node_validate(struct registry_request *rq, const void *obj, struct field_errors *errors)
{
    const struct k8s_csi_node_spec *spec = ((const struct k8s_csi_node *)obj)->spec;
    (void)rq;
    for (size_t i = 0; i < spec->drivers.len; i++) {
        const struct k8s_csi_node_driver *driver = &spec->drivers.items[i];
        const char *at = kp_arena_printf(errors->arena, "spec.drivers[%zu]", i);
        validate_csi_driver_name(driver->name, errors, validate_under(errors, at, "name"));
        if (kp_empty(driver->node_id))
            field_required(errors, "", "%s.nodeID", at);
        else if (strlen(driver->node_id) > NODE_ID_MAX)
            field_invalid(errors, driver->node_id, "must be 256 characters or less", "%s.nodeID", at);
        if (driver->allocatable && driver->allocatable->has_count)
            validate_non_negative(driver->allocatable->count, errors, validate_under(errors, at, "allocatable.count"));
        for (size_t j = 0; j < i; j++)
            if (kp_streq(spec->drivers.items[j].name, driver->name))
                field_duplicate(errors, driver->name, "%s.name", at);
        validate_topology_keys(&driver->topology_keys, errors, at);
    }
}

/* An entry stays as it is, but for the limit; the driver goes and comes for anything else. */
void csi_node_validate_update(struct registry_request *rq, const void *obj, const void *old, struct field_errors *errors)
{
    const struct k8s_csi_node_spec *now = ((const struct k8s_csi_node *)obj)->spec, *before = ((const struct k8s_csi_node *)old)->spec;
    (void)rq;
    for (size_t i = 0; i < before->drivers.len; i++)
        for (size_t k = 0; k < now->drivers.len; k++) {
            struct k8s_csi_node_driver is = now->drivers.items[k], was = before->drivers.items[i];
            is.allocatable = was.allocatable = NULL;
            if (!kp_streq(is.name, was.name) || kp_object_equal(&k8s_csi_node_driver_type, &is, &was))
                continue;
            KP_AUTO_BUF struct kp_buf text = {0};
            kp_json_encode(&k8s_csi_node_driver_type, &is, &text);
            field_invalid_raw(errors, kp_arena_strdup(errors->arena, text.data), "field is immutable", "spec.drivers");
        }
}

/* ---- room --------------------------------------------------------------------------------------------------------------------------- */
void csi_storage_capacity_validate(struct registry_request *rq, const void *obj, struct field_errors *errors)
{
    const struct k8s_csi_storage_capacity *capacity = obj;
    (void)rq;
    validate_label_selector(capacity->node_topology, errors, "nodeTopology");
    const char *fault = name_is_subdomain(capacity->storage_class_name ? capacity->storage_class_name : "");
    if (fault)
        field_invalid(errors, capacity->storage_class_name ? capacity->storage_class_name : "", fault, "storageClassName");
    if (capacity->capacity && kp_quantity_str_cmp(capacity->capacity, "0") < 0)
        field_invalid(errors, capacity->capacity, "must be greater than or equal to 0", "capacity");
}

void csi_storage_capacity_validate_update(struct registry_request *rq, const void *obj, const void *old, struct field_errors *errors)
{
    (void)rq;
    immutable_member(&k8s_csi_storage_capacity_type, obj, old, "nodeTopology", errors, "nodeTopology");
    const char *is = ((const struct k8s_csi_storage_capacity *)obj)->storage_class_name, *was = ((const struct k8s_csi_storage_capacity *)old)->storage_class_name;
    if (!kp_streq(is, was))
        field_invalid(errors, is ? is : "", "field is immutable", "storageClassName");
}
