/* Rows of all other groups. */
#include "controlplane/apiserver/table/table_internal.h"

static void name_and_age(struct cells *cells, const void *obj)
{
    cell_string(cells, cells->meta->name);
    cell_age(cells, &cells->meta->creation_timestamp);
}

static void endpoint_slice_row(struct cells *cells, const void *obj)
{
    const struct k8s_endpoint_slice *slice = obj;
    KP_AUTO_BUF struct kp_buf ports = {0}, addresses = {0};
    size_t count = 0;
    for (size_t i = 0; i < slice->ports.len && i < 3; i++) {
        const struct k8s_discovery_endpoint_port *port = &slice->ports.items[i];
        kp_buf_puts(&ports, i ? "," : "");
        if (port->has_port)
            kp_buf_printf(&ports, "%d", port->port);
        else
            kp_buf_puts(&ports, "*");
    }
    if (slice->ports.len > 3)
        kp_buf_printf(&ports, " + %zu more...", slice->ports.len - 3);
    for (size_t i = 0; i < slice->endpoints.len; i++)
        for (size_t k = 0; k < slice->endpoints.items[i].addresses.len; k++, count++)
            if (count < 3)
                kp_buf_printf(&addresses, "%s%s", count ? "," : "", slice->endpoints.items[i].addresses.items[k]);
    if (count > 3)
        kp_buf_printf(&addresses, " + %zu more...", count - 3);
    cell_string(cells, slice->metadata->name);
    cell_string(cells, slice->address_type);
    cell_string(cells, ports.len ? ports.data : "<unset>");
    cell_string(cells, addresses.len ? addresses.data : "<unset>");
    cell_age(cells, &slice->metadata->creation_timestamp);
}

static void lease_row(struct cells *cells, const void *obj)
{
    const struct k8s_lease *lease = obj;
    cell_string(cells, lease->metadata->name);
    cell_string(cells, lease->spec->holder_identity);
    cell_age(cells, &lease->metadata->creation_timestamp);
}

static void csr_row(struct cells *cells, const void *obj)
{
    const struct k8s_certificate_signing_request *csr = obj;
    static const char *const shown[] = {"Approved", "Denied", "Failed"};
    KP_AUTO_BUF struct kp_buf condition = {0};
    for (size_t s = 0; s < KP_ARRAY_LEN(shown); s++)
        for (size_t i = 0; i < csr->status->conditions.len; i++)
            if (kp_streq(csr->status->conditions.items[i].type, shown[s]))
                kp_buf_printf(&condition, "%s%s", condition.len ? "," : "", shown[s]);
    if (csr->status->certificate.len)
        kp_buf_printf(&condition, "%sIssued", condition.len ? "," : "");
    cell_string(cells, csr->metadata->name);
    cell_age(cells, &csr->metadata->creation_timestamp);
    cell_string(cells, kp_empty(csr->spec->signer_name) ? "<none>" : csr->spec->signer_name);
    cell_string(cells, csr->spec->username);
    cell_string(cells, csr->spec->has_expiration_seconds ? table_age(csr->spec->expiration_seconds, cells->arena) : "<none>");
    cell_string(cells, condition.len ? condition.data : "Pending");
}

static void binding_cells(struct cells *cells, const struct k8s_role_ref *ref, const struct k8s_subject_items *subjects)
{
    static const char *const kinds[] = {"User", "Group", "ServiceAccount"};
    cell_string(cells, cells->meta->name);
    cell_string(cells, kp_arena_printf(cells->arena, "%s/%s", ref->kind, ref->name));
    cell_age(cells, &cells->meta->creation_timestamp);
    for (size_t k = 0; k < KP_ARRAY_LEN(kinds); k++) {
        KP_AUTO_BUF struct kp_buf out = {0};
        for (size_t i = 0; i < subjects->len; i++) {
            const struct k8s_subject *subject = &subjects->items[i];
            if (!kp_streq(subject->kind, kinds[k]))
                continue;
            kp_buf_puts(&out, out.len ? ", " : "");
            if (k == 2)
                kp_buf_printf(&out, "%s/", subject->namespace ? subject->namespace : "");
            kp_buf_puts(&out, subject->name);
        }
        cell_string(cells, out.data);
    }
}

static void role_binding_row(struct cells *cells, const void *obj)
{
    const struct k8s_role_binding *binding = obj;
    binding_cells(cells, binding->role_ref, &binding->subjects);
}

static void cluster_role_binding_row(struct cells *cells, const void *obj)
{
    const struct k8s_cluster_role_binding *binding = obj;
    binding_cells(cells, binding->role_ref, &binding->subjects);
}

/* ---- networking ---------------------------------------------------------------------------------------------------------- */
static void ingress_row(struct cells *cells, const void *obj)
{
    const struct k8s_ingress *ingress = obj;
    KP_AUTO_BUF struct kp_buf hosts = {0}, address = {0};
    size_t n = 0;
    for (size_t i = 0; i < ingress->spec->rules.len; i++) {
        if (kp_empty(ingress->spec->rules.items[i].host))
            continue;
        if (n++ < 3)
            kp_buf_printf(&hosts, "%s%s", hosts.len ? "," : "", ingress->spec->rules.items[i].host);
    }
    if (n > 3)
        kp_buf_printf(&hosts, " + %zu more...", n - 3);
    for (size_t i = 0; i < ingress->status->load_balancer->ingress.len; i++) {
        const struct k8s_ingress_load_balancer_ingress *at = &ingress->status->load_balancer->ingress.items[i];
        kp_buf_printf(&address, "%s%s", address.len ? "," : "", kp_empty(at->ip) ? at->hostname : at->ip);
    }
    cell_string(cells, ingress->metadata->name);
    cell_string(cells, kp_empty(ingress->spec->ingress_class_name) ? "<none>" : ingress->spec->ingress_class_name);
    cell_string(cells, hosts.len ? hosts.data : "*");
    cell_string(cells, address.data);
    cell_string(cells, ingress->spec->tls.len ? "80, 443" : "80");
    cell_age(cells, &ingress->metadata->creation_timestamp);
}

static void ingress_class_row(struct cells *cells, const void *obj)
{
    const struct k8s_ingress_class *class = obj;
    const struct k8s_ingress_class_parameters_reference *parameters = class->spec->parameters;
    cell_string(cells, class->metadata->name);
    cell_string(cells, class->spec->controller);
    cell_string(cells, parameters ? kp_arena_printf(cells->arena, "%s%s%s/%s", parameters->kind, kp_empty(parameters->api_group) ? "" : ".",
                                                    parameters->api_group ? parameters->api_group : "", parameters->name)
                                  : "<none>");
    cell_age(cells, &class->metadata->creation_timestamp);
}

static void network_policy_row(struct cells *cells, const void *obj)
{
    const struct k8s_network_policy *policy = obj;
    cell_string(cells, policy->metadata->name);
    cell_selector(cells, policy->spec->pod_selector);
    cell_age(cells, &policy->metadata->creation_timestamp);
}

static void ip_address_row(struct cells *cells, const void *obj)
{
    const struct k8s_ip_address *address = obj;
    const struct k8s_parent_reference *ref = address->spec->parent_ref;
    cell_string(cells, address->metadata->name);
    cell_string(cells, ref ? kp_arena_printf(cells->arena, "%s%s%s/%s%s%s", ref->resource ? ref->resource : "", kp_empty(ref->group) ? "" : ".",
                                             ref->group ? ref->group : "", ref->namespace ? ref->namespace : "", kp_empty(ref->namespace) ? "" : "/",
                                             ref->name ? ref->name : "")
                           : "<none>");
}

static void service_cidr_row(struct cells *cells, const void *obj)
{
    const struct k8s_service_cidr *cidr = obj;
    KP_AUTO_BUF struct kp_buf out = {0};
    for (size_t i = 0; i < cidr->spec->cidrs.len; i++)
        kp_buf_printf(&out, "%s%s", i ? "," : "", cidr->spec->cidrs.items[i]);
    cell_string(cells, cidr->metadata->name);
    cell_string(cells, out.data);
    cell_age(cells, &cidr->metadata->creation_timestamp);
}

/* ---- storage, scheduling, node ----------------------------------------------------------------------------------------------- */
static void storage_class_row(struct cells *cells, const void *obj)
{
    const struct k8s_storage_class *class = obj;
    bool is_default = kp_streq(kp_string_map_get(&class->metadata->annotations, "storageclass.kubernetes.io/is-default-class"), "true");
    cell_string(cells, is_default ? kp_arena_printf(cells->arena, "%s (default)", class->metadata->name) : class->metadata->name);
    cell_string(cells, class->provisioner);
    cell_string(cells, kp_empty(class->reclaim_policy) ? "Delete" : class->reclaim_policy);
    cell_string(cells, kp_empty(class->volume_binding_mode) ? "Immediate" : class->volume_binding_mode);
    cell_bool(cells, class->has_allow_volume_expansion && class->allow_volume_expansion);
    cell_age(cells, &class->metadata->creation_timestamp);
}

static const char *audiences(struct cells *cells, const struct k8s_storage_token_request_items *tokens)
{
    KP_AUTO_BUF struct kp_buf out = {0};
    for (size_t i = 0; i < tokens->len; i++)
        kp_buf_printf(&out, "%s%s", i ? "," : "", tokens->items[i].audience ? tokens->items[i].audience : "");
    return out.data ? kp_arena_strdup(cells->arena, out.data) : tokens->items ? "" : "<unset>";
}

static const char *lifecycle_modes(struct cells *cells, const struct kp_string_list *modes)
{
    KP_AUTO_BUF struct kp_buf out = {0};
    for (size_t i = 0; i < modes->len; i++)
        kp_buf_printf(&out, "%s%s", i ? "," : "", modes->items[i]);
    return out.data ? kp_arena_strdup(cells->arena, out.data) : "<none>";
}

static void csi_driver_row(struct cells *cells, const void *obj)
{
    const struct k8s_csi_driver *driver = obj;
    cell_string(cells, driver->metadata->name);
    cell_bool(cells, !driver->spec->has_attach_required || driver->spec->attach_required);
    cell_bool(cells, driver->spec->has_pod_info_on_mount && driver->spec->pod_info_on_mount);
    cell_bool(cells, driver->spec->has_storage_capacity && driver->spec->storage_capacity);
    cell_string(cells, audiences(cells, &driver->spec->token_requests));
    cell_bool(cells, driver->spec->has_requires_republish && driver->spec->requires_republish);
    cell_string(cells, lifecycle_modes(cells, &driver->spec->volume_lifecycle_modes));
    cell_age(cells, &driver->metadata->creation_timestamp);
}

static void csi_node_row(struct cells *cells, const void *obj)
{
    const struct k8s_csi_node *node = obj;
    cell_string(cells, node->metadata->name);
    cell_int(cells, (int64_t)node->spec->drivers.len);
    cell_age(cells, &node->metadata->creation_timestamp);
}

static void csi_storage_capacity_row(struct cells *cells, const void *obj)
{
    const struct k8s_csi_storage_capacity *capacity = obj;
    cell_string(cells, capacity->metadata->name);
    cell_string(cells, capacity->storage_class_name);
    cell_string(cells, kp_empty(capacity->capacity) ? "<unset>" : capacity->capacity);
}

static void volume_attachment_row(struct cells *cells, const void *obj)
{
    const struct k8s_volume_attachment *attachment = obj;
    cell_string(cells, attachment->metadata->name);
    cell_string(cells, attachment->spec->attacher);
    cell_string(cells, attachment->spec->source->persistent_volume_name);
    cell_string(cells, attachment->spec->node_name);
    cell_bool(cells, attachment->status->attached);
    cell_age(cells, &attachment->metadata->creation_timestamp);
}

static void volume_attributes_class_row(struct cells *cells, const void *obj)
{
    const struct k8s_volume_attributes_class *class = obj;
    cell_string(cells, class->metadata->name);
    cell_string(cells, class->driver_name);
    cell_age(cells, &class->metadata->creation_timestamp);
}

static void priority_class_row(struct cells *cells, const void *obj)
{
    const struct k8s_priority_class *class = obj;
    cell_string(cells, class->metadata->name);
    cell_int(cells, class->value);
    cell_bool(cells, class->global_default);
    cell_age(cells, &class->metadata->creation_timestamp);
    cell_string(cells, kp_empty(class->preemption_policy) ? "PreemptLowerPriority" : class->preemption_policy);
}

static void runtime_class_row(struct cells *cells, const void *obj)
{
    const struct k8s_runtime_class *class = obj;
    cell_string(cells, class->metadata->name);
    cell_string(cells, class->handler);
    cell_age(cells, &class->metadata->creation_timestamp);
}

/* ---- admission -------------------------------------------------------------------------------------------------------------------- */
static void mutating_webhook_row(struct cells *cells, const void *obj)
{
    const struct k8s_mutating_webhook_configuration *config = obj;
    cell_string(cells, config->metadata->name);
    cell_int(cells, (int64_t)config->webhooks.len);
    cell_age(cells, &config->metadata->creation_timestamp);
}

static void validating_webhook_row(struct cells *cells, const void *obj)
{
    const struct k8s_validating_webhook_configuration *config = obj;
    cell_string(cells, config->metadata->name);
    cell_int(cells, (int64_t)config->webhooks.len);
    cell_age(cells, &config->metadata->creation_timestamp);
}

static const char *param_kind(struct cells *cells, const struct k8s_param_kind *kind)
{
    return kind ? kp_arena_printf(cells->arena, "%s/%s", kind->api_version, kind->kind) : "<unset>";
}

static const char *param_ref(struct cells *cells, const struct k8s_param_ref *ref)
{
    if (!ref)
        return "<unset>";
    if (kp_empty(ref->name))
        return "*";
    return kp_empty(ref->namespace) ? ref->name : kp_arena_printf(cells->arena, "%s/%s", ref->namespace, ref->name);
}

static void validating_policy_row(struct cells *cells, const void *obj)
{
    const struct k8s_validating_admission_policy *policy = obj;
    cell_string(cells, policy->metadata->name);
    cell_int(cells, (int64_t)policy->spec->validations.len);
    cell_string(cells, param_kind(cells, policy->spec->param_kind));
    cell_age(cells, &policy->metadata->creation_timestamp);
}

static void validating_policy_binding_row(struct cells *cells, const void *obj)
{
    const struct k8s_validating_admission_policy_binding *binding = obj;
    cell_string(cells, binding->metadata->name);
    cell_string(cells, binding->spec->policy_name);
    cell_string(cells, param_ref(cells, binding->spec->param_ref));
    cell_age(cells, &binding->metadata->creation_timestamp);
}

static void mutating_policy_row(struct cells *cells, const void *obj)
{
    const struct k8s_mutating_admission_policy *policy = obj;
    cell_string(cells, policy->metadata->name);
    cell_int(cells, (int64_t)policy->spec->mutations.len);
    cell_string(cells, param_kind(cells, policy->spec->param_kind));
    cell_age(cells, &policy->metadata->creation_timestamp);
}

static void mutating_policy_binding_row(struct cells *cells, const void *obj)
{
    const struct k8s_mutating_admission_policy_binding *binding = obj;
    cell_string(cells, binding->metadata->name);
    cell_string(cells, binding->spec->policy_name);
    cell_string(cells, param_ref(cells, binding->spec->param_ref));
    cell_age(cells, &binding->metadata->creation_timestamp);
}

/* ---- flow control, devices ----------------------------------------------------------------------------------------------------------- */
static void flow_schema_row(struct cells *cells, const void *obj)
{
    const struct k8s_flow_schema *schema = obj;
    const char *missing = "?";
    for (size_t i = 0; i < schema->status->conditions.len; i++)
        if (kp_streq(schema->status->conditions.items[i].type, "Dangling"))
            missing = schema->status->conditions.items[i].status;
    cell_string(cells, schema->metadata->name);
    cell_string(cells, schema->spec->priority_level_configuration->name);
    cell_int(cells, schema->spec->matching_precedence);
    cell_string(cells, schema->spec->distinguisher_method ? schema->spec->distinguisher_method->type : "<none>");
    cell_age(cells, &schema->metadata->creation_timestamp);
    cell_string(cells, missing);
}

static void priority_level_row(struct cells *cells, const void *obj)
{
    const struct k8s_priority_level_configuration *level = obj;
    const struct k8s_limited_priority_level_configuration *limited = level->spec->limited;
    const struct k8s_queuing_configuration *queuing = limited && limited->limit_response ? limited->limit_response->queuing : NULL;
    cell_string(cells, level->metadata->name);
    cell_string(cells, level->spec->type);
    cell_string(cells, limited ? kp_arena_printf(cells->arena, "%d", limited->nominal_concurrency_shares) : "<none>");
    cell_string(cells, queuing ? kp_arena_printf(cells->arena, "%d", queuing->queues) : "<none>");
    cell_string(cells, queuing ? kp_arena_printf(cells->arena, "%d", queuing->hand_size) : "<none>");
    cell_string(cells, queuing ? kp_arena_printf(cells->arena, "%d", queuing->queue_length_limit) : "<none>");
    cell_age(cells, &level->metadata->creation_timestamp);
}

static void resource_claim_row(struct cells *cells, const void *obj)
{
    const struct k8s_resource_resource_claim *claim = obj;
    KP_AUTO_BUF struct kp_buf state = {0};
    if (claim->metadata->deletion_timestamp.set)
        kp_buf_puts(&state, "deleted");
    if (claim->status->allocation)
        kp_buf_printf(&state, "%sallocated", state.len ? "," : "");
    if (claim->status->reserved_for.len)
        kp_buf_printf(&state, "%sreserved", state.len ? "," : "");
    cell_string(cells, claim->metadata->name);
    cell_string(cells, state.len ? state.data : "pending");
    cell_age(cells, &claim->metadata->creation_timestamp);
}

static void resource_slice_row(struct cells *cells, const void *obj)
{
    const struct k8s_resource_slice *slice = obj;
    cell_string(cells, slice->metadata->name);
    cell_string(cells, slice->spec->node_name);
    cell_string(cells, slice->spec->driver);
    cell_string(cells, slice->spec->pool->name);
    cell_age(cells, &slice->metadata->creation_timestamp);
}

static void api_service_row(struct cells *cells, const void *obj)
{
    const struct k8s_api_service *service = obj;
    const struct k8s_apiregistration_service_reference *ref = service->spec->service;
    const char *available = "Unknown";
    for (size_t i = 0; i < service->status->conditions.len; i++) {
        const struct k8s_api_service_condition *condition = &service->status->conditions.items[i];
        if (!kp_streq(condition->type, "Available"))
            continue;
        bool why = !kp_streq(condition->status, "True") && !kp_empty(condition->reason);
        available = why ? kp_arena_printf(cells->arena, "%s (%s)", condition->status, condition->reason) : condition->status;
        break;
    }
    cell_string(cells, service->metadata->name);
    cell_string(cells, ref ? kp_arena_printf(cells->arena, "%s/%s", ref->namespace ? ref->namespace : "", ref->name ? ref->name : "") : "Local");
    cell_string(cells, available);
    cell_age(cells, &service->metadata->creation_timestamp);
}

/* As metrics-server: of a pod the sum of its containers. */
static void usage_cells(struct cells *cells, const struct kp_string_map *usage, const char *window)
{
    cell_string(cells, cells->meta->name);
    cell_string(cells, kp_string_map_get(usage, "cpu"));
    cell_string(cells, kp_string_map_get(usage, "memory"));
    cell_string(cells, window);
}

static void node_metrics_row(struct cells *cells, const void *obj)
{
    const struct k8s_node_metrics *metrics = obj;
    usage_cells(cells, &metrics->usage, metrics->window);
}

static void pod_metrics_row(struct cells *cells, const void *obj)
{
    const struct k8s_pod_metrics *metrics = obj;
    struct kp_string_map sum = {0};
    for (size_t i = 0; i < metrics->containers.len; i++)
        kp_resource_list_add(cells->arena, &sum, &metrics->containers.items[i].usage);
    usage_cells(cells, &sum, metrics->window);
}

const struct table_row table_other_rows[] = {
    {"endpoint_slice", endpoint_slice_row},
    {"lease", lease_row},
    {"certificate_signing_request", csr_row},
    {"role_binding", role_binding_row},
    {"cluster_role_binding", cluster_role_binding_row},
    {"ingress", ingress_row},
    {"ingress_class", ingress_class_row},
    {"network_policy", network_policy_row},
    {"ip_address", ip_address_row},
    {"service_cidr", service_cidr_row},
    {"storage_class", storage_class_row},
    {"csi_driver", csi_driver_row},
    {"csi_node", csi_node_row},
    {"csi_storage_capacity", csi_storage_capacity_row},
    {"volume_attachment", volume_attachment_row},
    {"volume_attributes_class", volume_attributes_class_row},
    {"priority_class", priority_class_row},
    {"runtime_class", runtime_class_row},
    {"mutating_webhook_configuration", mutating_webhook_row},
    {"validating_webhook_configuration", validating_webhook_row},
    {"validating_admission_policy", validating_policy_row},
    {"validating_admission_policy_binding", validating_policy_binding_row},
    {"mutating_admission_policy", mutating_policy_row},
    {"mutating_admission_policy_binding", mutating_policy_binding_row},
    {"flow_schema", flow_schema_row},
    {"priority_level_configuration", priority_level_row},
    {"api_service", api_service_row},
    {"device_class", name_and_age},
    {"resource_claim", resource_claim_row},
    {"resource_claim_template", name_and_age},
    {"resource_slice", resource_slice_row},
    {"node_metrics", node_metrics_row},
    {"pod_metrics", pod_metrics_row},
    {0},
};
