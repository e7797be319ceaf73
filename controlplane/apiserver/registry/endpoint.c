/* The Service "kubernetes" and who is behind it: every server keeps a key of its own on a lease, and whoever writes the
   endpoints writes all whose keys are there - as upstream's lease endpoint reconciler, so that one that died is gone
   within the lease. */
#include "controlplane/apiserver/registry/registry_internal.h"

#define SERVERS_PREFIX "/registry/masterleases/"
#define SERVER_TTL_S 15 /* DefaultEndpointReconcilerTTL */
#define SERVERS_MAX 64

struct servers {
    const char *addresses[SERVERS_MAX]; /* in order */
    size_t len;
    uint16_t port;
};

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
    int code = registry_create_if_absent(registry, arena, &k8s_services_resource, "default", service, error);
    return code < 0 ? code : 0;
}


static int make_slice(void *arg, struct registry_request *rq, const void *current, void **ret_new)
{
    const struct servers *servers = arg;
    struct k8s_endpoint_slice *slice = current ? KP_OBJECT_CLONE(rq->arena, k8s_endpoint_slice, current) : KP_OBJECT_NEW(rq->arena, k8s_endpoint_slice);
    slice->metadata->name = "kubernetes";
    slice->metadata->namespace = "default";
    kp_string_map_set(rq->arena, &slice->metadata->labels, "kubernetes.io/service-name", "kubernetes");
    slice->address_type = servers->len && strchr(servers->addresses[0], ':') ? "IPv6" : "IPv4";
    slice->endpoints = (struct k8s_endpoint_items){0};
    for (size_t i = 0; i < servers->len; i++) {
        struct k8s_endpoint *endpoint = KP_LIST_ADD(rq->arena, &slice->endpoints);
        kp_string_list_add(rq->arena, &endpoint->addresses, servers->addresses[i]);
        endpoint->conditions = KP_OBJECT_NEW(rq->arena, k8s_endpoint_conditions);
        KP_SET(endpoint->conditions, ready, true);
    }
    if (servers->port) { /* 0: we are leaving, and the port of the others stays */
        slice->ports.len = 0;
        slice->ports.items = NULL;
        struct k8s_discovery_endpoint_port *port = KP_LIST_ADD(rq->arena, &slice->ports);
        port->name = "https";
        port->protocol = "TCP";
        KP_SET(port, port, servers->port);
    }
    *ret_new = slice;
    return 0;
}

static int make_endpoints(void *arg, struct registry_request *rq, const void *current, void **ret_new)
{
    const struct servers *servers = arg;
    struct k8s_endpoints *endpoints = current ? KP_OBJECT_CLONE(rq->arena, k8s_endpoints, current) : KP_OBJECT_NEW(rq->arena, k8s_endpoints);
    endpoints->metadata->name = "kubernetes";
    endpoints->metadata->namespace = "default";
    kp_string_map_set(rq->arena, &endpoints->metadata->labels, "endpointslice.kubernetes.io/skip-mirror", "true");
    const struct k8s_endpoint_subset *before = endpoints->subsets.len ? &endpoints->subsets.items[0] : NULL;
    int32_t known = before && before->ports.len ? before->ports.items[0].port : 0;
    endpoints->subsets = (struct k8s_endpoint_subset_items){0};
    if (servers->len) {
        struct k8s_endpoint_subset *subset = KP_LIST_ADD(rq->arena, &endpoints->subsets);
        for (size_t i = 0; i < servers->len; i++)
            KP_LIST_ADD(rq->arena, &subset->addresses)->ip = servers->addresses[i];
        struct k8s_endpoint_port *port = KP_LIST_ADD(rq->arena, &subset->ports);
        port->name = "https";
        port->protocol = "TCP";
        KP_SET(port, port, servers->port ? servers->port : known);
    }
    *ret_new = endpoints;
    return 0;
}

static int write_endpoints(struct registry *registry, struct kp_arena *arena, uint16_t port, struct kp_error *error)
{
    static const struct {
        const struct kp_resource *resource;
        registry_make_fn make;
    } objects[] = {{&k8s_endpoints_resource, make_endpoints}, {&k8s_endpointslices_resource, make_slice}};
    struct store_page page;
    struct servers servers = {.port = port};
    if (store_list(registry->store, SERVERS_PREFIX, store_prefix_end(SERVERS_PREFIX, arena), SERVERS_MAX, 0, arena, &page, error) < 0)
        return kp_wrap(error, "list the API servers");
    for (size_t i = 0; i < page.len; i++)
        servers.addresses[servers.len++] = page.items[i].key + strlen(SERVERS_PREFIX);
    for (size_t i = 0; i < KP_ARRAY_LEN(objects); i++) {
        struct api_status status = API_STATUS(arena);
        struct registry_request rq = registry_own_request(arena, &status, objects[i].resource, "default", "kubernetes");
        struct registry_update_options options = {.patch = true, .create_allowed = true};
        KP_AUTO(wcache_object_unref) struct wcache_object *object = NULL;
        bool created;
        int code = registry_update(registry, &rq, &options, objects[i].make, &servers, &object, &created);
        if (code < 0)
            return kp_fail(error, code, "write %s default/kubernetes: %s", objects[i].resource->name, status.message);
    }
    return 0;
}

/* value NULL: takes the key away. */
static int write_key(struct registry *registry, struct kp_arena *arena, const char *address, const char *value, int64_t lease,
                     struct kp_error *error)
{
    int64_t revision;
    struct store_op op = {.key = kp_arena_printf(arena, SERVERS_PREFIX "%s", address), .expect = STORE_ANY, .value = value,
                          .len = value ? strlen(value) : 0, .lease = lease};
    return store_commit(registry->store, &op, 1, arena, &revision, NULL, error);
}

int registry_publish_endpoint(struct registry *registry, const char *address, uint16_t port, struct kp_error *error)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    const char *value = kp_arena_printf(arena, "{\"kind\":\"Endpoints\",\"apiVersion\":\"v1\",\"subsets\":[{\"addresses\":[{\"ip\":\"%s\"}]}]}", address);
    int64_t lease;
    if (publish_service(registry, arena, port, error) < 0 || store_lease_own(registry->store, SERVER_TTL_S, &lease, error) < 0 ||
        write_key(registry, arena, address, value, lease, error) < 0)
        return error->code;
    return write_endpoints(registry, arena, port, error);
}

int registry_withdraw_endpoint(struct registry *registry, const char *address, struct kp_error *error)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    int code = write_key(registry, arena, address, NULL, 0, error);
    return code < 0 ? code : write_endpoints(registry, arena, 0, error);
}
