/* Which health checks there are, and what they tell. */
#include "nodeimage/kube-proxy/health.h"

static bool is_of(const struct k8s_endpoint_slice *slice, const struct k8s_service *service)
{
    return kp_streq(slice->metadata->namespace, service->metadata->namespace) &&
           kp_streq(kp_string_map_get(&slice->metadata->labels, "kubernetes.io/service-name"), service->metadata->name);
}

/* Addresses, each once though a slice a port may name it. */
static size_t count_local(const struct proxy_input *input, const struct k8s_service *service)
{
    struct kp_strmap *addresses = kp_strmap_new();
    for (size_t s = 0; s < input->n_slices; s++) {
        const struct k8s_endpoint_slice *slice = input->slices[s];
        for (size_t e = 0; is_of(slice, service) && e < slice->endpoints.len; e++) {
            const struct k8s_endpoint *endpoint = &slice->endpoints.items[e];
            bool ready = !endpoint->conditions->has_ready || endpoint->conditions->ready;
            if (ready && endpoint->addresses.len && kp_streq(endpoint->node_name, input->node_name))
                kp_strmap_put(addresses, endpoint->addresses.items[0], addresses);
        }
    }
    size_t count = kp_strmap_len(addresses);
    kp_strmap_free(addresses, NULL);
    return count;
}

size_t proxy_health_ports(const struct proxy_input *input, struct kp_arena *arena, struct proxy_health_port **ret_ports)
{
    struct proxy_health_port *ports = KP_NEW_ARRAY(arena, struct proxy_health_port, input->n_services + 1);
    size_t len = 0;
    for (size_t i = 0; i < input->n_services; i++) {
        const struct k8s_service *service = input->services[i];
        if (kp_streq(service->spec->type, "LoadBalancer") && kp_streq(service->spec->external_traffic_policy, "Local") &&
            service->spec->health_check_node_port > 0)
            ports[len++] = (struct proxy_health_port){.port = service->spec->health_check_node_port,
                                                      .ns = service->metadata->namespace,
                                                      .name = service->metadata->name,
                                                      .endpoints = count_local(input, service)};
    }
    *ret_ports = ports;
    return len;
}

int proxy_health_status(const struct proxy_health_port *port, struct kp_buf *body)
{
    kp_buf_puts(body, "{\"service\":{\"namespace\":");
    kp_json_string(body, port->ns);
    kp_buf_puts(body, ",\"name\":");
    kp_json_string(body, port->name);
    kp_buf_printf(body, "},\"localEndpoints\":%zu,\"serviceProxyHealthy\":true}", port->endpoints);
    return port->endpoints ? 200 : 503;
}
