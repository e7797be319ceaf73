/* From a Service's port to one of its ready endpoints. */
#include "controlplane/apiserver/backend/backend.h"

#include "api/k8s.h"

static void *decode(const struct wcache_object *object, const struct kp_type *type, struct kp_arena *arena)
{
    void *decoded;
    struct kp_error error = {0};
    if (kp_json_decode(type, (const char *)object->json->data, object->json->len, arena, NULL, &decoded, &error) < 0)
        return NULL;
    return decoded;
}

static const struct k8s_service *find_service(struct wcache_set *caches, const char *ns, const char *name, struct kp_arena *arena)
{
    struct wcache *cache = wcache_find(caches, "", "services");
    KP_AUTO(wcache_object_unref) struct wcache_object *object = cache ? wcache_get(cache, kp_arena_printf(arena, "%s/%s", ns, name)) : NULL;
    return object ? decode(object, &k8s_service_type, arena) : NULL;
}

static const struct k8s_service_port *find_port(const struct k8s_service *service, const char *text)
{
    for (size_t i = 0; i < service->spec->ports.len; i++) {
        const struct k8s_service_port *port = &service->spec->ports.items[i];
        char number[16];
        snprintf(number, sizeof(number), "%d", port->port);
        if (kp_streq(port->name, text) || strcmp(number, text) == 0 || (!*text && service->spec->ports.len == 1))
            return port;
    }
    return NULL;
}

static void list_slices(struct wcache_set *caches, const char *ns, const char *service, struct kp_arena *arena, struct wcache_list *ret)
{
    struct kp_string_list names = {0};
    kp_string_list_add(arena, &names, service);
    struct kp_requirement requirement = {.key = "kubernetes.io/service-name", .op = KP_SEL_EQUALS, .values = names};
    const struct kp_selector selector = {.items = &requirement, .len = 1};
    const struct wcache_filter filter = {.ns = ns, .labels = &selector};
    wcache_list(wcache_find(caches, "discovery.k8s.io", "endpointslices"), &filter, NULL, 0, arena, ret);
}

/* Takes each ready endpoint of the port in turn, the nth with a chance of one in n: any of them with the same. */
static size_t pick(const struct k8s_endpoint_slice *slice, const char *port_name, size_t candidates, const char **host, int *port)
{
    for (size_t p = 0; p < slice->ports.len; p++) {
        if (!kp_streq(slice->ports.items[p].name ? slice->ports.items[p].name : "", port_name))
            continue;
        for (size_t e = 0; e < slice->endpoints.len; e++) {
            const struct k8s_endpoint *endpoint = &slice->endpoints.items[e];
            bool ready = !endpoint->conditions || !endpoint->conditions->has_ready || endpoint->conditions->ready;
            if (!ready || !endpoint->addresses.len || kp_random_u64() % ++candidates != 0)
                continue;
            *host = endpoint->addresses.items[0];
            *port = slice->ports.items[p].port;
        }
    }
    return candidates;
}

int backend_resolve(struct wcache_set *caches, const char *ns, const char *service_name, const char *port_text, struct kp_arena *arena,
                    const char **ret_host, int *ret_port, struct kp_error *error)
{
    const struct k8s_service *service = find_service(caches, ns, service_name, arena);
    if (!service)
        return kp_fail(error, KP_ENOTFOUND, "service \"%s\" not found", service_name);
    const struct k8s_service_port *port = find_port(service, port_text);
    if (kp_streq(service->spec->type, "ExternalName")) {
        int64_t number = port ? port->port : 0;
        if (!port && kp_parse_i64(port_text, &number) < 0)
            return kp_fail(error, KP_EUNAVAILABLE, "no service port \"%s\" found for service \"%s\"", port_text, service_name);
        *ret_host = service->spec->external_name;
        *ret_port = (int)number;
        return 0;
    }
    if (!port)
        return kp_fail(error, KP_EUNAVAILABLE, "no service port %s found for service \"%s\"", port_text, service_name);
    struct wcache_list list;
    size_t candidates = 0;
    list_slices(caches, ns, service_name, arena, &list);
    for (size_t i = 0; i < list.len; i++) {
        const struct k8s_endpoint_slice *slice = decode(list.items[i], &k8s_endpoint_slice_type, arena);
        if (slice)
            candidates = pick(slice, port->name ? port->name : "", candidates, ret_host, ret_port);
    }
    wcache_list_done(&list);
    if (!candidates)
        return kp_fail(error, KP_EUNAVAILABLE, "no endpoints available for service \"%s\"", service_name);
    return 0;
}
