/* Rows of the core group: pods, nodes, services, namespaces and what surrounds them. */
#include "controlplane/apiserver/table/table_internal.h"

static const char *or_none(const char *s)
{
    return kp_empty(s) ? "<none>" : s;
}

/* ---- pods ------------------------------------------------------------------------------------------------------------- */
static const struct k8s_container_status *status_of(const struct k8s_container_status_items *list, const char *name)
{
    for (size_t i = 0; i < list->len; i++)
        if (kp_streq(list->items[i].name, name))
            return &list->items[i];
    return NULL;
}

static bool is_sidecar(const struct k8s_container *container)
{
    return kp_streq(container->restart_policy, "Always");
}

static const char *ended_reason(struct cells *cells, const struct k8s_container_state_terminated *ended, const char *prefix)
{
    if (!kp_empty(ended->reason))
        return kp_arena_printf(cells->arena, "%s%s", prefix, ended->reason);
    if (ended->signal)
        return kp_arena_printf(cells->arena, "%sSignal:%d", prefix, ended->signal);
    return kp_arena_printf(cells->arena, "%sExitCode:%d", prefix, ended->exit_code);
}

struct pod_summary {
    const char *reason;
    int32_t ready, total;
    int64_t restarts, last_restart_s;
    bool initializing;
};

static void count_restarts(struct pod_summary *summary, const struct k8s_container_status *status)
{
    summary->restarts += status->restart_count;
    if (status->last_state && status->last_state->terminated)
        summary->last_restart_s = KP_MAX(summary->last_restart_s, status->last_state->terminated->finished_at.seconds);
}

/* Upstream's printPod: init containers first; while one of them holds the pod up its state is the pod's. */
static void look_at_init(struct cells *cells, const struct k8s_pod *pod, struct pod_summary *summary)
{
    for (size_t i = 0; i < pod->spec->init_containers.len; i++) {
        const struct k8s_container *container = &pod->spec->init_containers.items[i];
        const struct k8s_container_status *status = status_of(&pod->status->init_container_statuses, container->name);
        if (!status)
            continue;
        count_restarts(summary, status);
        const struct k8s_container_state *state = status->state;
        if (state && state->terminated && state->terminated->exit_code == 0)
            continue;
        if (is_sidecar(container) && status->has_started && status->started) {
            summary->ready += status->ready;
            continue;
        }
        if (state && state->terminated)
            summary->reason = ended_reason(cells, state->terminated, "Init:");
        else if (state && state->waiting && !kp_empty(state->waiting->reason) && !kp_streq(state->waiting->reason, "PodInitializing"))
            summary->reason = kp_arena_printf(cells->arena, "Init:%s", state->waiting->reason);
        else
            summary->reason = kp_arena_printf(cells->arena, "Init:%zu/%zu", i, pod->spec->init_containers.len);
        summary->initializing = true;
        return;
    }
}

static bool has_ready_condition(const struct k8s_pod *pod)
{
    for (size_t i = 0; i < pod->status->conditions.len; i++)
        if (kp_streq(pod->status->conditions.items[i].type, "Ready"))
            return kp_streq(pod->status->conditions.items[i].status, "True");
    return false;
}

static void look_at_containers(struct cells *cells, const struct k8s_pod *pod, struct pod_summary *summary)
{
    bool running = false;
    for (size_t i = pod->status->container_statuses.len; i > 0; i--) {
        const struct k8s_container_status *status = &pod->status->container_statuses.items[i - 1];
        const struct k8s_container_state *state = status->state;
        count_restarts(summary, status);
        if (state && state->waiting && !kp_empty(state->waiting->reason)) {
            summary->reason = state->waiting->reason;
        } else if (state && state->terminated) {
            summary->reason = ended_reason(cells, state->terminated, "");
        } else if (status->ready && state && state->running) {
            running = true;
            summary->ready++;
        }
    }
    if (kp_streq(summary->reason, "Completed") && running)
        summary->reason = has_ready_condition(pod) ? "Running" : "NotReady";
}

static const char *pod_reason(struct cells *cells, const struct k8s_pod *pod, struct pod_summary *summary)
{
    summary->reason = kp_empty(pod->status->reason) ? (kp_empty(pod->status->phase) ? "Unknown" : pod->status->phase) : pod->status->reason;
    for (size_t i = 0; i < pod->status->conditions.len; i++)
        if (kp_streq(pod->status->conditions.items[i].type, "PodScheduled") && kp_streq(pod->status->conditions.items[i].reason, "SchedulingGated"))
            summary->reason = "SchedulingGated";
    look_at_init(cells, pod, summary);
    if (!summary->initializing)
        look_at_containers(cells, pod, summary);
    if (pod->metadata->deletion_timestamp.set && kp_streq(pod->status->reason, "NodeLost"))
        return "Unknown";
    bool done = kp_streq(pod->status->phase, "Failed") || kp_streq(pod->status->phase, "Succeeded");
    return pod->metadata->deletion_timestamp.set && !done ? "Terminating" : summary->reason;
}

static void gates(struct cells *cells, const struct k8s_pod *pod)
{
    size_t ready = 0;
    for (size_t i = 0; i < pod->spec->readiness_gates.len; i++)
        for (size_t k = 0; k < pod->status->conditions.len; k++)
            ready += kp_streq(pod->status->conditions.items[k].type, pod->spec->readiness_gates.items[i].condition_type) &&
                     kp_streq(pod->status->conditions.items[k].status, "True");
    cell_string(cells, pod->spec->readiness_gates.len ? kp_arena_printf(cells->arena, "%zu/%zu", ready, pod->spec->readiness_gates.len) : "<none>");
}

static void pod_row(struct cells *cells, const void *obj)
{
    const struct k8s_pod *pod = obj;
    struct pod_summary summary = {.total = (int32_t)pod->spec->containers.len};
    for (size_t i = 0; i < pod->spec->init_containers.len; i++)
        summary.total += is_sidecar(&pod->spec->init_containers.items[i]);
    const char *reason = pod_reason(cells, pod, &summary);
    cell_string(cells, pod->metadata->name);
    cell_string(cells, kp_arena_printf(cells->arena, "%d/%d", summary.ready, summary.total));
    cell_string(cells, reason);
    if (summary.restarts && summary.last_restart_s)
        cell_string(cells, kp_arena_printf(cells->arena, "%lld (%s ago)", (long long)summary.restarts,
                                           table_age(cells->now_s - summary.last_restart_s, cells->arena)));
    else
        cell_string(cells, kp_arena_printf(cells->arena, "%lld", (long long)summary.restarts));
    cell_age(cells, &pod->metadata->creation_timestamp);
    cell_string(cells, or_none(pod->status->pod_ip));
    cell_string(cells, or_none(pod->spec->node_name));
    cell_string(cells, or_none(pod->status->nominated_node_name));
    gates(cells, pod);
}

/* ---- nodes -------------------------------------------------------------------------------------------------------------- */
static const char *node_status(struct cells *cells, const struct k8s_node *node)
{
    const char *text = "Unknown";
    for (size_t i = 0; i < node->status->conditions.len; i++)
        if (kp_streq(node->status->conditions.items[i].type, "Ready"))
            text = kp_streq(node->status->conditions.items[i].status, "True") ? "Ready" : "NotReady";
    return node->spec->unschedulable ? kp_arena_printf(cells->arena, "%s,SchedulingDisabled", text) : text;
}

static const char *node_roles(struct cells *cells, const struct k8s_node *node)
{
    static const char prefix[] = "node-role.kubernetes.io/";
    KP_AUTO_BUF struct kp_buf out = {0};
    for (size_t i = 0; i < node->metadata->labels.len; i++) { /* sorted by key, so the roles are too */
        const struct kp_string_pair *label = &node->metadata->labels.items[i];
        const char *role = kp_starts_with(label->key, prefix) ? label->key + sizeof(prefix) - 1 : kp_streq(label->key, "kubernetes.io/role") ? label->value : NULL;
        if (!kp_empty(role))
            kp_buf_printf(&out, "%s%s", out.len ? "," : "", role);
    }
    return out.len ? kp_arena_strdup(cells->arena, out.data) : "<none>";
}

static const char *node_address(const struct k8s_node *node, const char *type)
{
    for (size_t i = 0; i < node->status->addresses.len; i++)
        if (kp_streq(node->status->addresses.items[i].type, type))
            return node->status->addresses.items[i].address;
    return "<none>";
}

static const char *or_unknown(const char *s)
{
    return kp_empty(s) ? "<unknown>" : s;
}

static void node_row(struct cells *cells, const void *obj)
{
    const struct k8s_node *node = obj;
    const struct k8s_node_system_info *info = node->status->node_info;
    cell_string(cells, node->metadata->name);
    cell_string(cells, node_status(cells, node));
    cell_string(cells, node_roles(cells, node));
    cell_age(cells, &node->metadata->creation_timestamp);
    cell_string(cells, info ? info->kubelet_version : "");
    cell_string(cells, node_address(node, "InternalIP"));
    cell_string(cells, node_address(node, "ExternalIP"));
    cell_string(cells, or_unknown(info ? info->os_image : NULL));
    cell_string(cells, or_unknown(info ? info->kernel_version : NULL));
    cell_string(cells, or_unknown(info ? info->container_runtime_version : NULL));
}

/* ---- services ------------------------------------------------------------------------------------------------------------- */
static const char *external_ip(struct cells *cells, const struct k8s_service *service)
{
    KP_AUTO_BUF struct kp_buf out = {0};
    if (kp_streq(service->spec->type, "ExternalName"))
        return service->spec->external_name;
    if (kp_streq(service->spec->type, "LoadBalancer"))
        for (size_t i = 0; i < service->status->load_balancer->ingress.len; i++) {
            const struct k8s_load_balancer_ingress *ingress = &service->status->load_balancer->ingress.items[i];
            kp_buf_printf(&out, "%s%s", out.len ? "," : "", kp_empty(ingress->ip) ? ingress->hostname : ingress->ip);
        }
    for (size_t i = 0; i < service->spec->external_ips.len; i++)
        kp_buf_printf(&out, "%s%s", out.len ? "," : "", service->spec->external_ips.items[i]);
    if (out.len)
        return kp_arena_strdup(cells->arena, out.data);
    return kp_streq(service->spec->type, "LoadBalancer") ? "<pending>" : "<none>";
}

static void service_row(struct cells *cells, const void *obj)
{
    const struct k8s_service *service = obj;
    KP_AUTO_BUF struct kp_buf ports = {0};
    for (size_t i = 0; i < service->spec->ports.len; i++) {
        const struct k8s_service_port *port = &service->spec->ports.items[i];
        kp_buf_printf(&ports, "%s%d", i ? "," : "", port->port);
        if (port->node_port > 0)
            kp_buf_printf(&ports, ":%d", port->node_port);
        kp_buf_printf(&ports, "/%s", port->protocol ? port->protocol : "TCP");
    }
    cell_string(cells, service->metadata->name);
    cell_string(cells, service->spec->type);
    cell_string(cells, or_none(service->spec->cluster_ip));
    cell_string(cells, external_ip(cells, service));
    cell_string(cells, ports.len ? ports.data : "<none>");
    cell_age(cells, &service->metadata->creation_timestamp);
    cell_map(cells, &service->spec->selector);
}

static void endpoints_row(struct cells *cells, const void *obj)
{
    const struct k8s_endpoints *endpoints = obj;
    KP_AUTO_BUF struct kp_buf out = {0};
    size_t count = 0;
    for (size_t s = 0; s < endpoints->subsets.len; s++) {
        const struct k8s_endpoint_subset *subset = &endpoints->subsets.items[s];
        for (size_t a = 0; a < subset->addresses.len; a++)
            for (size_t p = 0; p < KP_MAX(subset->ports.len, (size_t)1); p++, count++) {
                if (count >= 3)
                    continue;
                kp_buf_printf(&out, "%s%s", out.len ? "," : "", subset->addresses.items[a].ip);
                if (subset->ports.len)
                    kp_buf_printf(&out, ":%d", subset->ports.items[p].port);
            }
    }
    if (count > 3)
        kp_buf_printf(&out, " + %zu more...", count - 3);
    cell_string(cells, endpoints->metadata->name);
    cell_string(cells, out.len ? out.data : "<none>");
    cell_age(cells, &endpoints->metadata->creation_timestamp);
}

/* ---- the rest of the group ---------------------------------------------------------------------------------------------------- */
static void namespace_row(struct cells *cells, const void *obj)
{
    const struct k8s_namespace *ns = obj;
    cell_string(cells, ns->metadata->name);
    cell_string(cells, ns->status->phase);
    cell_age(cells, &ns->metadata->creation_timestamp);
}

static void config_map_row(struct cells *cells, const void *obj)
{
    const struct k8s_config_map *map = obj;
    cell_string(cells, map->metadata->name);
    cell_int(cells, (int64_t)(map->data.len + map->binary_data.len));
    cell_age(cells, &map->metadata->creation_timestamp);
}

static void secret_row(struct cells *cells, const void *obj)
{
    const struct k8s_secret *secret = obj;
    cell_string(cells, secret->metadata->name);
    cell_string(cells, secret->type);
    cell_int(cells, (int64_t)secret->data.len);
    cell_age(cells, &secret->metadata->creation_timestamp);
}

static void name_and_age(struct cells *cells, const void *obj)
{
    cell_string(cells, cells->meta->name);
    cell_age(cells, &cells->meta->creation_timestamp);
}

static const char *event_source(struct cells *cells, const char *component, const char *host)
{
    return kp_empty(host) ? (component ? component : "") : kp_arena_printf(cells->arena, "%s, %s", component ? component : "", host);
}

static void event_cells(struct cells *cells, const struct kp_time *last, const char *type, const char *reason, const struct k8s_object_reference *about,
                        const char *source, const char *message, const struct kp_time *first, int64_t count)
{
    KP_AUTO_BUF struct kp_buf object = {0};
    for (const char *p = about->kind ? about->kind : ""; *p; p++)
        kp_buf_putc(&object, (char)(*p >= 'A' && *p <= 'Z' ? *p + 32 : *p));
    kp_buf_printf(&object, "/%s", about->name ? about->name : "");
    cell_age(cells, last);
    cell_string(cells, type);
    cell_string(cells, reason);
    cell_string(cells, object.data);
    cell_string(cells, about->field_path);
    cell_string(cells, source);
    cell_string(cells, message);
    cell_age(cells, first);
    cell_int(cells, count > 0 ? count : 1);
    cell_string(cells, cells->meta->name);
}

static void new_event_row(struct cells *cells, const struct k8s_events_event *event)
{
    const struct kp_time *first = event->deprecated_first_timestamp.set ? &event->deprecated_first_timestamp : &event->event_time;
    const struct kp_time *last = event->deprecated_last_timestamp.set ? &event->deprecated_last_timestamp : first;
    const struct k8s_event_source *old = event->deprecated_source;
    const char *source = event_source(cells, kp_empty(old->component) ? event->reporting_controller : old->component, old->host);
    if (event->series)
        last = &event->series->last_observed_time;
    event_cells(cells, last, event->type, event->reason, event->regarding, source, event->note, first,
                event->series ? event->series->count : event->deprecated_count);
}

static void event_row(struct cells *cells, const void *obj)
{
    if (cells->resource->type == &k8s_events_event_type) {
        new_event_row(cells, obj);
        return;
    }
    const struct k8s_event *event = obj;
    const struct kp_time *first = event->first_timestamp.set ? &event->first_timestamp : &event->event_time;
    const struct kp_time *last = event->last_timestamp.set ? &event->last_timestamp : first;
    const char *source = event_source(cells, kp_empty(event->source->component) ? event->reporting_component : event->source->component, event->source->host);
    if (event->series)
        last = &event->series->last_observed_time;
    event_cells(cells, last, event->type, event->reason, event->involved_object, source, event->message, first,
                event->series ? event->series->count : event->count);
}

static void quota_row(struct cells *cells, const void *obj)
{
    const struct k8s_resource_quota *quota = obj;
    KP_AUTO_BUF struct kp_buf requests = {0}, limits = {0};
    for (size_t i = 0; i < quota->status->hard.len; i++) {
        const struct kp_string_pair *hard = &quota->status->hard.items[i];
        const char *used = kp_string_map_get(&quota->status->used, hard->key);
        struct kp_buf *out = kp_starts_with(hard->key, "limits.") ? &limits : &requests;
        kp_buf_printf(out, "%s%s: %s/%s", out->len ? ", " : "", hard->key, used ? used : "0", hard->value);
    }
    cell_string(cells, quota->metadata->name);
    cell_string(cells, requests.data);
    cell_string(cells, limits.data);
    cell_age(cells, &quota->metadata->creation_timestamp);
}

static const char *access_modes(struct cells *cells, const struct kp_string_list *modes)
{
    static const char *const names[][2] = {{"ReadWriteOnce", "RWO"}, {"ReadOnlyMany", "ROX"}, {"ReadWriteMany", "RWX"}, {"ReadWriteOncePod", "RWOP"}};
    KP_AUTO_BUF struct kp_buf out = {0};
    for (size_t n = 0; n < KP_ARRAY_LEN(names); n++)
        if (kp_string_list_has(modes, names[n][0]))
            kp_buf_printf(&out, "%s%s", out.len ? "," : "", names[n][1]);
    return kp_arena_strdup(cells->arena, out.data ? out.data : "");
}

static void claim_row(struct cells *cells, const void *obj)
{
    const struct k8s_persistent_volume_claim *claim = obj;
    bool bound = !kp_empty(claim->spec->volume_name);
    cell_string(cells, claim->metadata->name);
    cell_string(cells, claim->metadata->deletion_timestamp.set ? "Terminating" : claim->status->phase);
    cell_string(cells, claim->spec->volume_name);
    cell_string(cells, bound ? kp_string_map_get(&claim->status->capacity, "storage") : "");
    cell_string(cells, bound ? access_modes(cells, &claim->status->access_modes) : "");
    cell_string(cells, claim->spec->storage_class_name);
    cell_string(cells, kp_empty(claim->spec->volume_attributes_class_name) ? "<unset>" : claim->spec->volume_attributes_class_name);
    cell_age(cells, &claim->metadata->creation_timestamp);
    cell_string(cells, kp_empty(claim->spec->volume_mode) ? "<unset>" : claim->spec->volume_mode);
}

static void volume_row(struct cells *cells, const void *obj)
{
    const struct k8s_persistent_volume *volume = obj;
    const struct k8s_object_reference *claim = volume->spec->claim_ref;
    cell_string(cells, volume->metadata->name);
    cell_string(cells, kp_string_map_get(&volume->spec->capacity, "storage"));
    cell_string(cells, access_modes(cells, &volume->spec->access_modes));
    cell_string(cells, volume->spec->persistent_volume_reclaim_policy);
    cell_string(cells, volume->metadata->deletion_timestamp.set ? "Terminating" : volume->status->phase);
    cell_string(cells, claim ? kp_arena_printf(cells->arena, "%s/%s", claim->namespace, claim->name) : "");
    cell_string(cells, volume->spec->storage_class_name);
    cell_string(cells, kp_empty(volume->spec->volume_attributes_class_name) ? "<unset>" : volume->spec->volume_attributes_class_name);
    cell_string(cells, volume->status->reason);
    cell_age(cells, &volume->metadata->creation_timestamp);
    cell_string(cells, kp_empty(volume->spec->volume_mode) ? "<unset>" : volume->spec->volume_mode);
}

static void replication_controller_row(struct cells *cells, const void *obj)
{
    const struct k8s_replication_controller *rc = obj;
    cell_string(cells, rc->metadata->name);
    cell_int(cells, rc->spec->has_replicas ? rc->spec->replicas : 1);
    cell_int(cells, rc->status->replicas);
    cell_int(cells, rc->status->ready_replicas);
    cell_age(cells, &rc->metadata->creation_timestamp);
    cell_containers(cells, rc->spec->template ? rc->spec->template->spec : NULL);
    cell_map(cells, &rc->spec->selector);
}

static void pod_template_row(struct cells *cells, const void *obj)
{
    const struct k8s_pod_template *template = obj;
    cell_string(cells, template->metadata->name);
    cell_containers(cells, template->template->spec);
    cell_map(cells, &template->template->metadata->labels);
}

static void component_status_row(struct cells *cells, const void *obj)
{
    const struct k8s_component_status *status = obj;
    const struct k8s_component_condition *healthy = NULL;
    for (size_t i = 0; i < status->conditions.len; i++)
        if (kp_streq(status->conditions.items[i].type, "Healthy"))
            healthy = &status->conditions.items[i];
    cell_string(cells, status->metadata->name);
    cell_string(cells, healthy && kp_streq(healthy->status, "True") ? "Healthy" : healthy && kp_streq(healthy->status, "False") ? "Unhealthy" : "Unknown");
    cell_string(cells, healthy ? healthy->message : "");
    cell_string(cells, healthy ? healthy->error : "");
}

const struct table_row table_core_rows[] = {
    {"pod", pod_row},
    {"node", node_row},
    {"service", service_row},
    {"endpoints", endpoints_row},
    {"namespace", namespace_row},
    {"config_map", config_map_row},
    {"secret", secret_row},
    {"service_account", name_and_age},
    {"event", event_row},
    {"resource_quota", quota_row},
    {"persistent_volume_claim", claim_row},
    {"persistent_volume", volume_row},
    {"replication_controller", replication_controller_row},
    {"pod_template", pod_template_row},
    {"component_status", component_status_row},
    {0},
};
