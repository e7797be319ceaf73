/* The strategy rows: one a stored resource. What a row leaves out is what the generic registry does. */
#include "controlplane/apiserver/registry/strategy_internal.h"

#define FIELDS(...) ((const char *const[]){__VA_ARGS__, NULL})
#define ADMISSION "admissionregistration.k8s.io"
#define RBAC "rbac.authorization.k8s.io"
#define STORAGE "storage.k8s.io"
#define NETWORKING "networking.k8s.io"
#define FLOW "flowcontrol.apiserver.k8s.io"

static struct registry_kind rows[] = {
    /* core */
    {"", "pods", "v1", .flags = KIND_RETURNS_DELETED | KIND_GENERATION, .defaults = pod_defaults, .prepare_create = pod_prepare_create,
     .prepare_update = pod_prepare_update, .prepare_subresource = pod_prepare_subresource, .validate = pod_validate,
     .validate_update = pod_validate_update, .grace_s = pod_grace_s,
     .fields = FIELDS("spec.nodeName", "spec.restartPolicy", "spec.schedulerName", "spec.serviceAccountName", "spec.hostNetwork",
                      "status.phase", "status.podIP", "status.nominatedNodeName")},
    {"", "nodes", "v1", .prefix = "/registry/minions/", .flags = KIND_KEEPS_STATUS, .defaults = node_defaults, .validate = node_validate,
     .validate_update = node_validate_update, .fields = FIELDS("spec.unschedulable")},
    {"", "services", "v1", .prefix = "/registry/services/specs/", .flags = KIND_RETURNS_DELETED, .name_rule = NAME_LABEL_1035,
     .defaults = service_defaults, .prepare_create = service_prepare_create, .prepare_update = service_prepare_update,
     .validate = service_validate, .validate_update = service_validate_update, .reserve = service_reserve,
     .fields = FIELDS("spec.clusterIP", "spec.type")},
    {"", "endpoints", "v1", .prefix = "/registry/services/endpoints/", .flags = KIND_CREATE_ON_UPDATE, .validate = endpoints_validate},
    {"", "namespaces", "v1", .name_rule = NAME_LABEL, .defaults = namespace_defaults, .prepare_create = namespace_prepare_create,
     .prepare_update = namespace_prepare_update, .prepare_subresource = namespace_prepare_subresource, .fields = FIELDS("status.phase")},
    {"", "configmaps", "v1", .validate = configmap_validate, .validate_update = configmap_validate_update},
    {"", "secrets", "v1", .defaults = secret_defaults, .validate = secret_validate, .validate_update = secret_validate_update,
     .fields = FIELDS("type")},
    {"", "serviceaccounts", "v1", .flags = KIND_RETURNS_DELETED, .name_rule = NAME_SUBDOMAIN},
    {"", "events", "v1", .flags = KIND_EXPIRES | KIND_CREATE_ON_UPDATE, .validate = event_validate,
     .fields = FIELDS("involvedObject.kind", "involvedObject.namespace", "involvedObject.name", "involvedObject.uid",
                      "involvedObject.apiVersion", "involvedObject.resourceVersion", "involvedObject.fieldPath", "reason",
                      "reportingComponent", "source=source.component", "type")},
    {"", "replicationcontrollers", "v1", .prefix = "/registry/controllers/", .flags = KIND_GENERATION | KIND_ORPHANS,
     .defaults = replication_controller_defaults, .validate = replication_controller_validate, .fields = FIELDS("status.replicas")},
    {"", "podtemplates", "v1", .flags = KIND_GENERATION | KIND_RETURNS_DELETED, .defaults = pod_template_object_defaults},
    {"", "limitranges", "v1", .defaults = limit_range_defaults, .validate = limit_range_validate},
    {"", "resourcequotas", "v1", .flags = KIND_RETURNS_DELETED, .validate = resource_quota_validate},
    {"", "persistentvolumes", "v1", .flags = KIND_RETURNS_DELETED, .prepare_create = persistent_volume_prepare_create,
     .prepare_subresource = persistent_volume_prepare_subresource, .validate = persistent_volume_validate,
     .validate_update = persistent_volume_validate_update},
    {"", "persistentvolumeclaims", "v1", .flags = KIND_RETURNS_DELETED, .prepare_create = persistent_volume_claim_prepare_create,
     .prepare_update = persistent_volume_claim_prepare_update, .validate = persistent_volume_claim_validate,
     .validate_update = persistent_volume_claim_validate_update},
    /* apps, batch, autoscaling, policy */
    {"apps", "deployments", "v1", .flags = KIND_GENERATION, .defaults = deployment_defaults, .validate = deployment_validate,
     .validate_update = deployment_validate_update},
    {"apps", "replicasets", "v1", .flags = KIND_GENERATION, .defaults = replica_set_defaults, .validate = replica_set_validate,
     .validate_update = replica_set_validate_update, .fields = FIELDS("status.replicas")},
    {"apps", "daemonsets", "v1", .flags = KIND_GENERATION, .defaults = daemon_set_defaults, .validate = daemon_set_validate,
     .validate_update = daemon_set_validate_update},
    {"apps", "statefulsets", "v1", .flags = KIND_GENERATION, .defaults = stateful_set_defaults, .validate = stateful_set_validate,
     .validate_update = stateful_set_validate_update},
    {"apps", "controllerrevisions", "v1"},
    {"batch", "jobs", "v1", .flags = KIND_GENERATION | KIND_ORPHANS, .defaults = job_defaults, .prepare_create = job_prepare_create,
     .validate = job_validate, .validate_update = job_validate_update, .fields = FIELDS("status.successful")},
    {"batch", "cronjobs", "v1", .flags = KIND_GENERATION, .defaults = cron_job_defaults, .validate = cron_job_validate},
    {"autoscaling", "horizontalpodautoscalers", "v2", .flags = KIND_GENERATION, .defaults = horizontal_pod_autoscaler_defaults,
     .validate = horizontal_pod_autoscaler_validate},
    {"policy", "poddisruptionbudgets", "v1", .flags = KIND_GENERATION | KIND_CONDITIONAL_UPDATE, .validate = pod_disruption_budget_validate},
    /* certificates, coordination, discovery, networking */
    {"certificates.k8s.io", "certificatesigningrequests", "v1", .name_rule = NAME_ANY, .prepare_create = csr_prepare_create,
     .prepare_update = csr_prepare_update, .prepare_subresource = csr_prepare_subresource, .validate = csr_validate,
     .fields = FIELDS("spec.signerName")},
    {"coordination.k8s.io", "leases", "v1", .flags = KIND_CREATE_ON_UPDATE | KIND_CONDITIONAL_UPDATE, .validate = lease_validate},
    {"discovery.k8s.io", "endpointslices", "v1", .flags = KIND_GENERATION, .validate = endpoint_slice_validate,
     .validate_update = endpoint_slice_validate_update},
    {NETWORKING, "ingresses", "v1", .prefix = "/registry/ingress/", .flags = KIND_GENERATION, .validate = ingress_validate},
    {NETWORKING, "ingressclasses", "v1", .flags = KIND_GENERATION},
    {NETWORKING, "networkpolicies", "v1", .flags = KIND_GENERATION, .defaults = network_policy_defaults, .validate = network_policy_validate},
    {NETWORKING, "ipaddresses", "v1", .name_rule = NAME_ANY, .fields = FIELDS("spec.parentRef.name")},
    {NETWORKING, "servicecidrs", "v1"},
    /* RBAC names may hold colons */
    {RBAC, "roles", "v1", .name_rule = NAME_PATH_SEGMENT, .flags = KIND_CREATE_ON_UPDATE, .validate = role_validate},
    {RBAC, "clusterroles", "v1", .name_rule = NAME_PATH_SEGMENT, .flags = KIND_CREATE_ON_UPDATE, .validate = cluster_role_validate},
    {RBAC, "rolebindings", "v1", .name_rule = NAME_PATH_SEGMENT, .flags = KIND_CREATE_ON_UPDATE, .defaults = role_binding_defaults,
     .validate = role_binding_validate, .validate_update = role_binding_validate_update},
    {RBAC, "clusterrolebindings", "v1", .name_rule = NAME_PATH_SEGMENT, .flags = KIND_CREATE_ON_UPDATE, .defaults = role_binding_defaults,
     .validate = role_binding_validate, .validate_update = role_binding_validate_update},
    /* storage, scheduling, node */
    {STORAGE, "storageclasses", "v1", .flags = KIND_RETURNS_DELETED, .validate = storage_class_validate, .validate_update = storage_class_validate_update},
    {STORAGE, "volumeattachments", "v1", .flags = KIND_RETURNS_DELETED, .validate = volume_attachment_validate,
     .validate_update = volume_attachment_validate_update},
    {STORAGE, "csidrivers", "v1", .flags = KIND_RETURNS_DELETED | KIND_GENERATION, .validate = csi_driver_validate, .validate_update = csi_driver_validate_update},
    {STORAGE, "csinodes", "v1", .flags = KIND_RETURNS_DELETED, .validate = csi_node_validate, .validate_update = csi_node_validate_update},
    {STORAGE, "csistoragecapacities", "v1", .validate = csi_storage_capacity_validate, .validate_update = csi_storage_capacity_validate_update},
    {STORAGE, "volumeattributesclasses", "v1", .flags = KIND_RETURNS_DELETED, .validate = volume_attributes_class_validate,
     .validate_update = volume_attributes_class_validate_update},
    {"scheduling.k8s.io", "priorityclasses", "v1", .validate = priority_class_validate, .validate_update = priority_class_validate_update},
    {"node.k8s.io", "runtimeclasses", "v1", .validate_update = runtime_class_validate_update},
    /* extension points */
    {ADMISSION, "mutatingwebhookconfigurations", "v1", .flags = KIND_GENERATION, .prepare_update = webhooks_prepare_update, .validate = mutating_webhooks_validate},
    {ADMISSION, "validatingwebhookconfigurations", "v1", .flags = KIND_GENERATION, .prepare_update = webhooks_prepare_update,
     .validate = validating_webhooks_validate},
    {ADMISSION, "validatingadmissionpolicies", "v1", .flags = KIND_GENERATION, .validate = validating_policy_validate},
    {ADMISSION, "validatingadmissionpolicybindings", "v1", .flags = KIND_GENERATION, .validate = validating_binding_validate},
    {ADMISSION, "mutatingadmissionpolicies", "v1", .flags = KIND_GENERATION, .prepare_create = mutating_policy_prepare_create},
    {ADMISSION, "mutatingadmissionpolicybindings", "v1", .flags = KIND_GENERATION},
    {"apiextensions.k8s.io", "customresourcedefinitions", "v1", .prefix = "/registry/apiextensions.k8s.io/customresourcedefinitions/",
     .flags = KIND_GENERATION | KIND_CONDITIONAL_UPDATE, .defaults = crd_defaults, .prepare_create = crd_prepare_create,
     .prepare_update = crd_prepare_update, .prepare_delete = crd_prepare_delete, .validate = crd_validate, .validate_update = crd_validate_update},
    {"apiregistration.k8s.io", "apiservices", "v1", .prefix = "/registry/apiregistration.k8s.io/apiservices/", .name_rule = NAME_PATH_SEGMENT,
     .prepare_create = api_service_prepare_create, .validate = api_service_validate},
    {FLOW, "flowschemas", "v1", .flags = KIND_GENERATION},
    {FLOW, "prioritylevelconfigurations", "v1", .flags = KIND_GENERATION},
    {"resource.k8s.io", "deviceclasses", "v1", .flags = KIND_GENERATION},
    {"resource.k8s.io", "resourceclaims", "v1"},
    {"resource.k8s.io", "resourceclaimtemplates", "v1"},
    {"resource.k8s.io", "resourceslices", "v1", .flags = KIND_GENERATION,
     .fields = FIELDS("spec.nodeName", "spec.driver")},
};
static const struct wcache_kind *cache_kinds[KP_ARRAY_LEN(rows)];
static size_t cache_kind_count;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void fill_rows(void)
{
    for (size_t i = 0; i < KP_ARRAY_LEN(rows); i++) {
        struct registry_kind *row = &rows[i];
        row->storage = kp_resource_find(row->group, row->version, row->resource);
        if (!row->storage)
            continue; /* the schema does not have it (yet): it is not served then */
        const char *prefix = row->prefix ? row->prefix : kp_asprintf("/registry/%s/", row->resource); /* lives as long as the process */
        row->cache_kind = (struct wcache_kind){row->storage, prefix, row->fields};
        cache_kinds[cache_kind_count++] = &row->cache_kind;
    }
}

const struct wcache_kind *const *registry_cache_kinds(size_t *ret_count)
{
    pthread_once(&once, fill_rows);
    *ret_count = cache_kind_count;
    return cache_kinds;
}

const struct registry_kind *registry_kind_of(const struct kp_resource *resource)
{
    if (resource->custom)
        return registry_kind_of_custom(resource);
    pthread_once(&once, fill_rows);
    /* Events are one kind under two groups. */
    const char *group = strcmp(resource->group, "events.k8s.io") == 0 ? "" : resource->group;
    for (size_t i = 0; i < KP_ARRAY_LEN(rows); i++)
        if (rows[i].storage && strcmp(rows[i].resource, resource->name) == 0 && strcmp(rows[i].group, group) == 0)
            return &rows[i];
    return NULL;
}

const struct kp_type *registry_storage_type(const struct registry_kind *kind)
{
    return kind->storage->type;
}

bool registry_creates_on_update(const struct registry_kind *kind)
{
    return kind->flags & KIND_CREATE_ON_UPDATE;
}

bool registry_field_selectable(const struct registry_kind *kind, const char *field)
{
    if (strcmp(field, "metadata.name") == 0)
        return true;
    if (strcmp(field, "metadata.namespace") == 0)
        return kind->storage->namespaced;
    for (size_t i = 0; kind->fields && kind->fields[i]; i++)
        if (wcache_field_is(kind->fields[i], field))
            return true;
    return false;
}
