/* What must be there before anybody asks: namespaces, the default ServiceCIDR, RBAC, and the Service "kubernetes". */
#include "controlplane/apiserver/registry/registry_internal.h"

static const struct auth_user loopback = {.name = "system:apiserver", .uid = ""};

static struct registry_request own_request(struct kp_arena *arena, struct api_status *status, const struct kp_resource *resource, const char *ns, const char *name)
{
    return (struct registry_request){.arena = arena,
                                     .user = &loopback,
                                     .resource = resource,
                                     .kind = registry_kind_of(resource),
                                     .subresource = "",
                                     .ns = ns,
                                     .name = name,
                                     .field_manager = "kube-apiserver",
                                     .now_s = kp_now_s(),
                                     .status = status};
}

/* 1 when created, 0 when it was there. */
static int create_if_absent(struct registry *registry, struct kp_arena *arena, const struct kp_resource *resource, const char *ns, void *obj, struct kp_error *error)
{
    struct api_status status = API_STATUS(arena);
    const char *name = kp_object_meta(resource->type, obj)->name;
    struct registry_request rq = own_request(arena, &status, resource, ns, name);
    KP_AUTO(wcache_object_unref) struct wcache_object *object = wcache_get(registry_cache(registry, rq.kind), registry_cache_key(&rq, name));
    if (object)
        return 0;
    int code = registry_create(registry, &rq, obj, &object);
    if (code == KP_EEXISTS)
        return 0;
    if (code < 0)
        return kp_fail(error, code, "create %s %s: %s", resource->name, name, status.message ? status.message : "");
    return 1;
}

static int ensure_service_cidr(struct registry *registry, struct kp_arena *arena, struct kp_error *error)
{
    struct k8s_service_cidr *cidr = KP_OBJECT_NEW(arena, k8s_service_cidr);
    cidr->metadata->name = "kubernetes";
    ip_ranges_list(registry->ranges, arena, &cidr->spec->cidrs);
    int code = create_if_absent(registry, arena, &k8s_servicecidrs_resource, "", cidr, error);
    return code < 0 ? code : 0;
}

struct rbac_context {
    struct registry *registry;
    struct kp_arena *arena;
};

static int make_given(void *arg, struct registry_request *rq, const void *current, void **ret_new)
{
    struct k8s_object_meta *meta = kp_object_meta(rq->kind->storage->type, arg);
    const struct k8s_object_meta *before = current ? kp_object_meta(rq->kind->storage->type, current) : NULL;
    if (before) {
        meta->uid = before->uid;
        meta->creation_timestamp = before->creation_timestamp;
        meta->resource_version = NULL;
    }
    *ret_new = arg;
    return 0;
}

static int ensure_rbac(void *arg, const struct kp_resource *resource, void *obj, bool reconcile, struct kp_error *error)
{
    struct rbac_context *context = arg;
    const struct k8s_object_meta *meta = kp_object_meta(resource->type, obj);
    const char *ns = meta->namespace ? meta->namespace : "";
    int code = create_if_absent(context->registry, context->arena, resource, ns, obj, error);
    if (code != 0 || !reconcile)
        return code < 0 ? code : 0;
    struct api_status status = API_STATUS(context->arena);
    struct registry_request rq = own_request(context->arena, &status, resource, ns, meta->name);
    struct registry_update_options options = {.patch = true};
    KP_AUTO(wcache_object_unref) struct wcache_object *object = NULL;
    bool created;
    code = registry_update(context->registry, &rq, &options, make_given, obj, &object, &created);
    return code < 0 ? kp_fail(error, code, "reconcile %s %s: %s", resource->name, meta->name, status.message) : 0;
}

int registry_bootstrap(struct registry *registry, struct kp_error *error)
{
    static const char *const namespaces[] = {"kube-system", "kube-public", "kube-node-lease", "default"};
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    for (size_t i = 0; i < KP_ARRAY_LEN(namespaces); i++) {
        struct k8s_namespace *ns = KP_OBJECT_NEW(arena, k8s_namespace);
        ns->metadata->name = namespaces[i];
        if (create_if_absent(registry, arena, &k8s_namespaces_resource, "", ns, error) < 0)
            return error->code;
    }
    if (ensure_service_cidr(registry, arena, error) < 0)
        return error->code;
    struct rbac_context context = {registry, arena};
    return registry->auth ? auth_bootstrap(registry->auth, ensure_rbac, &context, error) : 0;
}

/* ---- the Service "kubernetes" ------------------------------------------------------------------------------------------- */
static int publish_service(struct registry *registry, struct kp_arena *arena, uint16_t port, struct kp_error *error)
{
    struct k8s_service *service = KP_OBJECT_NEW(arena, k8s_service);
    service->metadata->name = "kubernetes";
    kp_string_map_set(arena, &service->metadata->labels, "component", "apiserver");
    kp_string_map_set(arena, &service->metadata->labels, "provider", "kubernetes");
    service->spec->type = "ClusterIP";
    service->spec->cluster_ip = ip_ranges_first(registry->ranges, arena);
    struct k8s_service_port *p = KP_LIST_ADD(arena, &service->spec->ports);
    p->name = "https";
    p->protocol = "TCP";
    KP_SET(p, port, 443);
    p->target_port = KP_IOS_OF_INT(port);
    int code = create_if_absent(registry, arena, &k8s_services_resource, "default", service, error);
    return code < 0 ? code : 0;
}

struct endpoint {
    const char *address;
    uint16_t port;
    bool withdraw;
};

static int make_slice(void *arg, struct registry_request *rq, const void *current, void **ret_new)
{
    const struct endpoint *endpoint = arg;
    struct k8s_endpoint_slice *slice = current ? KP_OBJECT_CLONE(rq->arena, k8s_endpoint_slice, current) : KP_OBJECT_NEW(rq->arena, k8s_endpoint_slice);
    struct k8s_endpoint_items kept = {0};
    slice->metadata->name = "kubernetes";
    slice->metadata->namespace = "default";
    kp_string_map_set(rq->arena, &slice->metadata->labels, "kubernetes.io/service-name", "kubernetes");
    slice->address_type = strchr(endpoint->address, ':') ? "IPv6" : "IPv4";
    for (size_t i = 0; i < slice->endpoints.len; i++)
        if (slice->endpoints.items[i].addresses.len && strcmp(slice->endpoints.items[i].addresses.items[0], endpoint->address) != 0)
            *KP_LIST_ADD(rq->arena, &kept) = slice->endpoints.items[i];
    if (!endpoint->withdraw) {
        struct k8s_endpoint *own = KP_LIST_ADD(rq->arena, &kept);
        kp_string_list_add(rq->arena, &own->addresses, endpoint->address);
        own->conditions = KP_OBJECT_NEW(rq->arena, k8s_endpoint_conditions);
        KP_SET(own->conditions, ready, true);
        slice->ports.len = 0;
        slice->ports.items = NULL;
        struct k8s_discovery_endpoint_port *port = KP_LIST_ADD(rq->arena, &slice->ports);
        port->name = "https";
        port->protocol = "TCP";
        KP_SET(port, port, endpoint->port);
    }
    slice->endpoints = kept;
    *ret_new = slice;
    return 0;
}

static int make_endpoints(void *arg, struct registry_request *rq, const void *current, void **ret_new)
{
    const struct endpoint *endpoint = arg;
    struct k8s_endpoints *endpoints = current ? KP_OBJECT_CLONE(rq->arena, k8s_endpoints, current) : KP_OBJECT_NEW(rq->arena, k8s_endpoints);
    struct k8s_endpoint_address_items kept = {0};
    endpoints->metadata->name = "kubernetes";
    endpoints->metadata->namespace = "default";
    kp_string_map_set(rq->arena, &endpoints->metadata->labels, "endpointslice.kubernetes.io/skip-mirror", "true");
    for (size_t i = 0; endpoints->subsets.len && i < endpoints->subsets.items[0].addresses.len; i++)
        if (!kp_streq(endpoints->subsets.items[0].addresses.items[i].ip, endpoint->address))
            *KP_LIST_ADD(rq->arena, &kept) = endpoints->subsets.items[0].addresses.items[i];
    if (!endpoint->withdraw)
        KP_LIST_ADD(rq->arena, &kept)->ip = endpoint->address;
    endpoints->subsets = (struct k8s_endpoint_subset_items){0};
    if (kept.len) {
        struct k8s_endpoint_subset *subset = KP_LIST_ADD(rq->arena, &endpoints->subsets);
        subset->addresses = kept;
        struct k8s_endpoint_port *port = KP_LIST_ADD(rq->arena, &subset->ports);
        port->name = "https";
        port->protocol = "TCP";
        KP_SET(port, port, endpoint->port);
    }
    *ret_new = endpoints;
    return 0;
}

static int write_endpoint(struct registry *registry, struct kp_arena *arena, struct endpoint *endpoint, struct kp_error *error)
{
    static const struct {
        const struct kp_resource *resource;
        registry_make_fn make;
    } objects[] = {{&k8s_endpoints_resource, make_endpoints}, {&k8s_endpointslices_resource, make_slice}};
    for (size_t i = 0; i < KP_ARRAY_LEN(objects); i++) {
        struct api_status status = API_STATUS(arena);
        struct registry_request rq = own_request(arena, &status, objects[i].resource, "default", "kubernetes");
        struct registry_update_options options = {.patch = true, .create_allowed = true};
        KP_AUTO(wcache_object_unref) struct wcache_object *object = NULL;
        bool created;
        int code = registry_update(registry, &rq, &options, objects[i].make, endpoint, &object, &created);
        if (code < 0)
            return kp_fail(error, code, "write %s default/kubernetes: %s", objects[i].resource->name, status.message);
    }
    return 0;
}

int registry_publish_endpoint(struct registry *registry, const char *address, uint16_t port, struct kp_error *error)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    struct endpoint endpoint = {address, port, false};
    if (publish_service(registry, arena, port, error) < 0)
        return error->code;
    return write_endpoint(registry, arena, &endpoint, error);
}

int registry_withdraw_endpoint(struct registry *registry, const char *address, struct kp_error *error)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    struct endpoint endpoint = {address, 0, true};
    return write_endpoint(registry, arena, &endpoint, error);
}
