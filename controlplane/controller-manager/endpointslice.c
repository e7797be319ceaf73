/* EndpointSlices (and the older Endpoints) of Services that select pods. */
#include "controlplane/controller-manager/controllers.h"

#define SLICE_ENDPOINTS_MAX 100 /* upstream's --max-endpoints-per-slice */
#define ENDPOINTS_ADDRESSES_MAX 1000
#define SLICE_MANAGER "endpointslice-controller.k8s.io"
#define SLICE_PORTS_MAX 100

/* Pods of one Service that resolve its ports to the same numbers share a group, and slices are made per group. */
struct group {
    struct k8s_discovery_endpoint_port_items ports;
    const struct k8s_pod **pods;
    size_t n_pods;
};

struct groups {
    struct group *items;
    size_t len;
};

static int32_t port_named(const struct k8s_container *container, const char *name, const char *protocol)
{
    for (size_t i = 0; i < container->ports.len; i++)
        if (kp_streq(container->ports.items[i].name, name) &&
            kp_streq(container->ports.items[i].protocol ? container->ports.items[i].protocol : "TCP", protocol))
            return container->ports.items[i].container_port;
    return 0;
}

/* The number a named or numbered target port has in a pod; 0 when the pod has no such port. */
static int32_t resolve_port(const struct k8s_pod *pod, const struct k8s_service_port *port)
{
    const struct kp_int_or_string *target = &port->target_port;
    if (target->kind == KP_IOS_INT)
        return target->i ? target->i : port->port;
    if (target->kind == KP_IOS_ABSENT)
        return port->port;
    const struct k8s_container_items *lists[] = {&pod->spec->containers, &pod->spec->init_containers};
    for (size_t l = 0; l < KP_ARRAY_LEN(lists); l++)
        for (size_t i = 0; i < lists[l]->len; i++) {
            const struct k8s_container *container = &lists[l]->items[i];
            if (l == 1 && !kp_streq(container->restart_policy, "Always"))
                continue; /* of the init containers only sidecars serve */
            int32_t number = port_named(container, target->s, port->protocol ? port->protocol : "TCP");
            if (number)
                return number;
        }
    return 0;
}

static struct k8s_discovery_endpoint_port_items ports_of(const struct plan_input *in, const struct k8s_service *service, const struct k8s_pod *pod)
{
    struct k8s_discovery_endpoint_port_items ports = {0};
    for (size_t i = 0; i < service->spec->ports.len && i < SLICE_PORTS_MAX; i++) {
        const struct k8s_service_port *port = &service->spec->ports.items[i];
        int32_t number = resolve_port(pod, port);
        if (number == 0)
            continue;
        struct k8s_discovery_endpoint_port *out = KP_LIST_ADD(in->arena, &ports);
        out->name = port->name ? port->name : "";
        out->protocol = port->protocol ? port->protocol : "TCP";
        out->app_protocol = port->app_protocol;
        KP_SET(out, port, number);
    }
    return ports;
}

static bool same_ports(const struct k8s_discovery_endpoint_port_items *a, const struct k8s_discovery_endpoint_port_items *b)
{
    if (a->len != b->len)
        return false;
    for (size_t i = 0; i < a->len; i++)
        if (!kp_object_equal(&k8s_discovery_endpoint_port_type, &a->items[i], &b->items[i]))
            return false;
    return true;
}

/* Pods that belong into slices: with an address and not done. */
static bool is_endpoint(const struct k8s_pod *pod)
{
    return !kp_empty(pod->status->pod_ip) && !engine_pod_is_terminal(pod);
}

static struct groups group_pods(const struct plan_input *in, const struct k8s_service *service)
{
    struct groups groups = {0};
    const void *const *pods;
    struct kp_selector selector;
    size_t n = client_view_list(in->view, engine_cache(in->engine, &k8s_pods_resource), in->ns, &pods);
    kp_label_selector_from_map(&service->spec->selector, in->arena, &selector);
    for (size_t i = 0; i < n; i++) {
        const struct k8s_pod *pod = pods[i];
        if (!is_endpoint(pod) || !kp_selector_matches(&selector, &pod->metadata->labels))
            continue;
        struct k8s_discovery_endpoint_port_items ports = ports_of(in, service, pod);
        struct group *group = NULL;
        for (size_t k = 0; k < groups.len && !group; k++)
            if (same_ports(&groups.items[k].ports, &ports))
                group = &groups.items[k];
        if (!group) {
            group = KP_LIST_ADD(in->arena, &groups);
            group->ports = ports;
            group->pods = KP_NEW_ARRAY(in->arena, const struct k8s_pod *, n);
        }
        group->pods[group->n_pods++] = pod;
    }
    return groups;
}

static void fill_endpoint(const struct plan_input *in, const struct k8s_service *service, const struct k8s_pod *pod, struct k8s_endpoint *out)
{
    bool serving = engine_pod_is_ready(pod), terminating = pod->metadata->deletion_timestamp.set;
    kp_string_list_add(in->arena, &out->addresses, pod->status->pod_ip);
    out->conditions = KP_OBJECT_NEW(in->arena, k8s_endpoint_conditions);
    KP_SET(out->conditions, ready, service->spec->publish_not_ready_addresses || (serving && !terminating));
    KP_SET(out->conditions, serving, serving);
    KP_SET(out->conditions, terminating, terminating);
    out->target_ref = KP_OBJECT_NEW(in->arena, k8s_object_reference);
    out->target_ref->kind = "Pod";
    out->target_ref->namespace = pod->metadata->namespace;
    out->target_ref->name = pod->metadata->name;
    out->target_ref->uid = pod->metadata->uid;
    out->node_name = pod->spec->node_name;
    if (!kp_empty(pod->spec->hostname) && kp_streq(pod->spec->subdomain, service->metadata->name))
        out->hostname = pod->spec->hostname;
    const struct k8s_node *node = kp_empty(pod->spec->node_name)
                                      ? NULL
                                      : client_view_get(in->view, engine_cache(in->engine, &k8s_nodes_resource), "", pod->spec->node_name);
    if (node)
        out->zone = kp_string_map_get(&node->metadata->labels, "topology.kubernetes.io/zone");
}

static struct k8s_endpoint_slice *new_slice(const struct plan_input *in, const struct k8s_service *service)
{
    struct k8s_endpoint_slice *slice = KP_OBJECT_NEW(in->arena, k8s_endpoint_slice);
    slice->metadata->generate_name = kp_arena_printf(in->arena, "%s-", in->name);
    slice->metadata->namespace = in->ns;
    slice->address_type = "IPv4";
    engine_set_controller(in->arena, slice->metadata, &k8s_service_type, service->metadata);
    return slice;
}

static void label_slice(const struct plan_input *in, const struct k8s_service *service, struct k8s_endpoint_slice *slice)
{
    struct kp_string_map labels = {0};
    for (size_t i = 0; i < service->metadata->labels.len; i++)
        kp_string_map_set(in->arena, &labels, service->metadata->labels.items[i].key, service->metadata->labels.items[i].value);
    kp_string_map_set(in->arena, &labels, "kubernetes.io/service-name", in->name);
    kp_string_map_set(in->arena, &labels, "endpointslice.kubernetes.io/managed-by", SLICE_MANAGER);
    if (kp_streq(service->spec->cluster_ip, "None"))
        kp_string_map_set(in->arena, &labels, "service.kubernetes.io/headless", "");
    slice->metadata->labels = labels;
}

/* One wanted slice: endpoints [from, from+n) of a group. Takes the first existing slice with the same ports that is still
   free, so that names stay stable; `taken` marks those in use. */
static void plan_slice(const struct plan_input *in, struct plan *plan, const struct k8s_service *service, const struct group *group,
                       size_t from, size_t n, const struct k8s_endpoint_slice *const *existing, size_t n_existing, bool *taken)
{
    const struct k8s_endpoint_slice *old = NULL;
    for (size_t i = 0; i < n_existing && !old; i++)
        if (!taken[i] && !existing[i]->metadata->deletion_timestamp.set && same_ports(&existing[i]->ports, &group->ports)) {
            old = existing[i];
            taken[i] = true;
        }
    struct k8s_endpoint_slice *slice = old ? KP_OBJECT_CLONE(in->arena, k8s_endpoint_slice, old) : new_slice(in, service);
    memset(&slice->endpoints, 0, sizeof(slice->endpoints));
    slice->ports = group->ports;
    for (size_t i = from; i < from + n; i++)
        fill_endpoint(in, service, group->pods[i], KP_LIST_ADD(in->arena, &slice->endpoints));
    label_slice(in, service, slice);
    if (!old)
        plan_create(plan, &k8s_endpointslices_resource, in->ns, slice);
    else if (!kp_object_equal(&k8s_endpoint_slice_type, old, slice))
        plan_update(plan, &k8s_endpointslices_resource, slice);
}

static size_t own_slices(const struct plan_input *in, const struct k8s_endpoint_slice ***ret)
{
    const void *const *all;
    size_t n_all = client_view_index(in->view, engine_cache(in->engine, &k8s_endpointslices_resource), *(const int *)in->state,
                                     kp_arena_printf(in->arena, "%s/%s", in->ns, in->name), &all),
           n = 0;
    const struct k8s_endpoint_slice **own = KP_NEW_ARRAY(in->arena, const struct k8s_endpoint_slice *, n_all + 1);
    for (size_t i = 0; i < n_all; i++) {
        const struct k8s_endpoint_slice *slice = all[i];
        if (kp_streq(kp_string_map_get(&slice->metadata->labels, "endpointslice.kubernetes.io/managed-by"), SLICE_MANAGER))
            own[n++] = slice;
    }
    *ret = own;
    return n;
}

static int plan_slices(const struct plan_input *in, struct plan *plan, struct kp_error *error)
{
    const struct k8s_service *service = client_view_get(in->view, engine_cache(in->engine, &k8s_services_resource), in->ns, in->name);
    const struct k8s_endpoint_slice **existing;
    size_t n_existing = own_slices(in, &existing);
    bool *taken = KP_NEW_ARRAY(in->arena, bool, n_existing + 1);
    bool selects = service && service->spec->selector.len > 0 && !kp_streq(service->spec->type, "ExternalName");
    if (service && !selects)
        return 0; /* somebody else manages them */
    if (selects && !service->metadata->deletion_timestamp.set) {
        struct groups groups = group_pods(in, service);
        if (groups.len == 0) /* one empty slice says that nothing serves */
            *KP_LIST_ADD(in->arena, &groups) = (struct group){0};
        for (size_t g = 0; g < groups.len; g++) {
            size_t done = 0;
            do {
                size_t n = KP_MIN(groups.items[g].n_pods - done, (size_t)SLICE_ENDPOINTS_MAX);
                plan_slice(in, plan, service, &groups.items[g], done, n, existing, n_existing, taken);
                done += n;
            } while (done < groups.items[g].n_pods);
        }
    }
    for (size_t i = 0; i < n_existing; i++)
        if (!taken[i] && !existing[i]->metadata->deletion_timestamp.set)
            plan_delete(plan, &k8s_endpointslices_resource, in->ns, existing[i]->metadata->name, existing[i]->metadata->uid, -1, NULL);
    return 0;
}

/* ---- Endpoints ----------------------------------------------------------------------------------------------------------- */
static void add_address(const struct plan_input *in, const struct k8s_service *service, const struct k8s_pod *pod,
                        struct k8s_endpoint_subset *subset)
{
    bool ready = service->spec->publish_not_ready_addresses || engine_pod_is_ready(pod);
    struct k8s_endpoint_address *address = ready ? KP_LIST_ADD(in->arena, &subset->addresses) : KP_LIST_ADD(in->arena, &subset->not_ready_addresses);
    address->ip = pod->status->pod_ip;
    address->node_name = pod->spec->node_name;
    if (!kp_empty(pod->spec->hostname) && kp_streq(pod->spec->subdomain, service->metadata->name))
        address->hostname = pod->spec->hostname;
    address->target_ref = KP_OBJECT_NEW(in->arena, k8s_object_reference);
    address->target_ref->kind = "Pod";
    address->target_ref->namespace = pod->metadata->namespace;
    address->target_ref->name = pod->metadata->name;
    address->target_ref->uid = pod->metadata->uid;
}

static void leave_out_terminating(struct group *group)
{
    size_t n = 0;
    for (size_t i = 0; i < group->n_pods; i++)
        if (!group->pods[i]->metadata->deletion_timestamp.set)
            group->pods[n++] = group->pods[i];
    group->n_pods = n;
}

static int plan_endpoints(const struct plan_input *in, struct plan *plan, struct kp_error *error)
{
    const struct k8s_service *service = client_view_get(in->view, engine_cache(in->engine, &k8s_services_resource), in->ns, in->name);
    const struct k8s_endpoints *old = client_view_get(in->view, engine_cache(in->engine, &k8s_endpoints_resource), in->ns, in->name);
    if (!service) {
        if (old && kp_streq(kp_string_map_get(&old->metadata->labels, "endpoints.kubernetes.io/managed-by"), "endpoint-controller"))
            plan_delete(plan, &k8s_endpoints_resource, in->ns, in->name, old->metadata->uid, -1, NULL);
        return 0;
    }
    if (service->spec->selector.len == 0 || kp_streq(service->spec->type, "ExternalName") || service->metadata->deletion_timestamp.set)
        return 0;
    struct k8s_endpoints *wanted = old ? KP_OBJECT_CLONE(in->arena, k8s_endpoints, old) : KP_OBJECT_NEW(in->arena, k8s_endpoints);
    wanted->metadata->name = in->name;
    wanted->metadata->namespace = in->ns;
    memset(&wanted->subsets, 0, sizeof(wanted->subsets));
    memset(&wanted->metadata->labels, 0, sizeof(wanted->metadata->labels));
    for (size_t i = 0; i < service->metadata->labels.len; i++)
        kp_string_map_set(in->arena, &wanted->metadata->labels, service->metadata->labels.items[i].key, service->metadata->labels.items[i].value);
    kp_string_map_set(in->arena, &wanted->metadata->labels, "endpoints.kubernetes.io/managed-by", "endpoint-controller");
    if (kp_streq(service->spec->cluster_ip, "None"))
        kp_string_map_set(in->arena, &wanted->metadata->labels, "service.kubernetes.io/headless", "");
    struct groups groups = group_pods(in, service);
    size_t total = 0;
    for (size_t g = 0; g < groups.len; g++) {
        if (!service->spec->publish_not_ready_addresses)
            leave_out_terminating(&groups.items[g]); /* slices tell of them, Endpoints never did */
        if (groups.items[g].n_pods == 0)
            continue;
        struct k8s_endpoint_subset *subset = KP_LIST_ADD(in->arena, &wanted->subsets);
        for (size_t i = 0; i < groups.items[g].ports.len; i++) {
            const struct k8s_discovery_endpoint_port *port = &groups.items[g].ports.items[i];
            struct k8s_endpoint_port *out = KP_LIST_ADD(in->arena, &subset->ports);
            out->name = port->name;
            out->port = port->port;
            out->protocol = port->protocol;
            out->app_protocol = port->app_protocol;
        }
        for (size_t i = 0; i < groups.items[g].n_pods && total < ENDPOINTS_ADDRESSES_MAX; i++, total++)
            add_address(in, service, groups.items[g].pods[i], subset);
    }
    if (!old)
        plan_create(plan, &k8s_endpoints_resource, in->ns, wanted);
    else if (!kp_object_equal(&k8s_endpoints_type, old, wanted))
        plan_update(plan, &k8s_endpoints_resource, wanted);
    return 0;
}

/* ---- what makes a Service be looked at ------------------------------------------------------------------------------------- */
static void enqueue_services_of(struct controller_run *run, const struct client_object *object)
{
    KP_AUTO(client_view_free) struct client_view *view = client_view_new();
    const struct k8s_pod *pod = object->data;
    const void *const *services;
    size_t n = client_view_list(view, engine_cache(engine_of(run), &k8s_services_resource), object->ns, &services);
    for (size_t i = 0; i < n; i++) {
        const struct k8s_service *service = services[i];
        struct kp_selector selector;
        if (service->spec->selector.len == 0)
            continue;
        kp_label_selector_from_map(&service->spec->selector, client_view_arena(view), &selector);
        if (kp_selector_matches(&selector, &pod->metadata->labels))
            engine_enqueue(run, object->ns, service->metadata->name);
    }
}

/* Whether two versions of a pod make different endpoints. */
static bool endpoint_changed(const struct k8s_pod *a, const struct k8s_pod *b)
{
    return is_endpoint(a) != is_endpoint(b) || !kp_streq(a->status->pod_ip, b->status->pod_ip) ||
           engine_pod_is_ready(a) != engine_pod_is_ready(b) || a->metadata->deletion_timestamp.set != b->metadata->deletion_timestamp.set ||
           !kp_streq(a->spec->node_name, b->spec->node_name);
}

static bool same_labels(const struct kp_string_map *a, const struct kp_string_map *b)
{
    bool same = a->len == b->len;
    for (size_t i = 0; same && i < a->len; i++)
        same = kp_streq(kp_string_map_get(b, a->items[i].key), a->items[i].value);
    return same;
}

static void map_pod(struct controller_run *run, const struct client_object *old, const struct client_object *new)
{
    const struct k8s_pod *a = old ? old->data : NULL, *b = new ? new->data : NULL;
    bool relabelled = a && b && !same_labels(&a->metadata->labels, &b->metadata->labels);
    if (a && b && !relabelled && !endpoint_changed(a, b))
        return;
    if (a && (!b || relabelled))
        enqueue_services_of(run, old);
    if (b)
        enqueue_services_of(run, new);
}

static void map_slice(struct controller_run *run, const struct client_object *old, const struct client_object *new)
{
    const struct client_object *object = new ? new : old;
    const struct k8s_endpoint_slice *slice = object->data;
    const char *service = kp_string_map_get(&slice->metadata->labels, "kubernetes.io/service-name");
    if (service && kp_streq(kp_string_map_get(&slice->metadata->labels, "endpointslice.kubernetes.io/managed-by"), SLICE_MANAGER))
        engine_enqueue(run, object->ns, service);
}

/* "ns/service": built once per object, in the object's own arena, which lives as long as its place in the index. */
static size_t slices_by_service(const struct client_object *object, const char **values, size_t max)
{
    const struct k8s_endpoint_slice *slice = object->data;
    const char *service = kp_string_map_get(&slice->metadata->labels, "kubernetes.io/service-name");
    if (!service)
        return 0;
    values[0] = kp_arena_printf(object->arena, "%s/%s", object->ns, service);
    return 1;
}

static int setup_slices(struct engine *engine, struct controller_run *run, void **ret_state, struct kp_error *error)
{
    int *index = kp_malloc(sizeof(*index));
    *index = client_informer_add_index(engine_informer(engine, &k8s_endpointslices_resource), slices_by_service);
    *ret_state = index;
    engine_informer(engine, &k8s_nodes_resource);
    engine_watch(run, &k8s_services_resource, engine_map_self);
    engine_watch(run, &k8s_pods_resource, map_pod);
    engine_watch(run, &k8s_endpointslices_resource, map_slice);
    return 0;
}

const struct controller endpointslice_controller = {
    .name = "endpointslice-controller", .workers = 2, .setup = setup_slices, .plan = plan_slices, .teardown = free,
};

static int setup_endpoints(struct engine *engine, struct controller_run *run, void **ret_state, struct kp_error *error)
{
    engine_watch(run, &k8s_services_resource, engine_map_self);
    engine_watch(run, &k8s_pods_resource, map_pod);
    engine_watch(run, &k8s_endpoints_resource, engine_map_self);
    return 0;
}

const struct controller endpoints_controller = {.name = "endpoints-controller", .setup = setup_endpoints, .plan = plan_endpoints};
