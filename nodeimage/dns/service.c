/* What one Service publishes, taken from the Service and its EndpointSlices. */
#include <arpa/inet.h>
#include <ctype.h>

#include "api/k8s.h"
#include "nodeimage/dns/dns_internal.h"

bool dns_ip_parse(const char *text, struct dns_ip *ret_ip)
{
    *ret_ip = (struct dns_ip){.family = 4};
    if (inet_pton(AF_INET, text, ret_ip->bytes) == 1)
        return true;
    ret_ip->family = 6;
    return inet_pton(AF_INET6, text, ret_ip->bytes) == 1;
}

bool dns_ip_equal(const struct dns_ip *a, const struct dns_ip *b)
{
    return a->family == b->family && memcmp(a->bytes, b->bytes, sizeof(a->bytes)) == 0;
}

void dns_ip_key(const struct dns_ip *ip, char out[DNS_IP_KEY_MAX])
{
    size_t n = ip->family == 4 ? 4 : 16;
    for (size_t i = 0; i < n; i++)
        snprintf(out + 2 * i, 3, "%02x", ip->bytes[i]);
}

static char *lower_copy(const char *text)
{
    char *copy = kp_strdup(text ? text : "");
    for (char *c = copy; *c; c++)
        *c = (char)tolower((unsigned char)*c);
    return copy;
}

void dns_service_free(struct dns_service *service)
{
    if (!service)
        return;
    for (size_t i = 0; i < service->n_ports; i++)
        free(service->ports[i].name);
    for (size_t i = 0; i < service->n_endpoints; i++)
        free(service->endpoints[i].host);
    free(service->ports);
    free(service->endpoints);
    free(service->ips);
    free(service->ns);
    free(service->name);
    free(service);
}

static void set_port(struct dns_port *out, const char *name, const char *protocol, int32_t port)
{
    char *lowered = lower_copy(kp_empty(protocol) ? "TCP" : protocol);
    out->name = lower_copy(name);
    snprintf(out->protocol, sizeof(out->protocol), "%s", lowered);
    out->port = (uint16_t)port;
    free(lowered);
}

static void take_cluster_ips(struct dns_service *out, const struct k8s_service *service)
{
    const struct k8s_service_spec *spec = service->spec;
    size_t n = spec->cluster_ips.len ? spec->cluster_ips.len : 1;
    out->ips = kp_calloc(n, sizeof(*out->ips));
    for (size_t i = 0; i < n; i++) {
        const char *text = spec->cluster_ips.len ? spec->cluster_ips.items[i] : spec->cluster_ip;
        if (dns_ip_parse(text, &out->ips[out->n_ips]))
            out->n_ips++;
    }
    out->ports = kp_calloc(spec->ports.len + 1, sizeof(*out->ports));
    for (size_t i = 0; i < spec->ports.len; i++)
        set_port(&out->ports[out->n_ports++], spec->ports.items[i].name, spec->ports.items[i].protocol, spec->ports.items[i].port);
}

/* The specification's name of an endpoint without host name: its address with dashes. */
static char *dashed(const struct dns_ip *ip)
{
    char text[INET6_ADDRSTRLEN];
    inet_ntop(ip->family == 4 ? AF_INET : AF_INET6, ip->bytes, text, sizeof(text));
    for (char *c = text; *c; c++)
        if (*c == '.' || *c == ':')
            *c = '-';
    return kp_strdup(text);
}

static int by_host_and_ip(const void *a, const void *b)
{
    const struct dns_endpoint *x = a, *y = b;
    int order = strcmp(x->host, y->host);
    order = order ? order : (int)x->ip.family - (int)y->ip.family;
    return order ? order : memcmp(x->ip.bytes, y->ip.bytes, sizeof(x->ip.bytes));
}

static void take_slice(struct dns_service *out, const struct k8s_endpoint_slice *slice, bool all)
{
    size_t first = out->n_ports;
    out->ports = kp_realloc(out->ports, (out->n_ports + slice->ports.len + 1) * sizeof(*out->ports));
    for (size_t i = 0; i < slice->ports.len; i++)
        if (slice->ports.items[i].has_port)
            set_port(&out->ports[out->n_ports++], slice->ports.items[i].name, slice->ports.items[i].protocol, slice->ports.items[i].port);
    for (size_t i = 0; i < slice->endpoints.len && out->n_endpoints < DNS_ENDPOINTS_MAX; i++) {
        const struct k8s_endpoint *endpoint = &slice->endpoints.items[i];
        bool ready = !endpoint->conditions->has_ready || endpoint->conditions->ready;
        struct dns_endpoint *e = &out->endpoints[out->n_endpoints];
        /* All addresses of an endpoint are fungible; clients use the first (EndpointSlice API). */
        if ((!ready && !all) || endpoint->addresses.len == 0 || !dns_ip_parse(endpoint->addresses.items[0], &e->ip))
            continue;
        e->host = kp_empty(endpoint->hostname) ? dashed(&e->ip) : lower_copy(endpoint->hostname);
        e->port_first = first;
        e->n_ports = out->n_ports - first;
        out->n_endpoints++;
    }
}

static void take_endpoints(struct dns_service *out, const struct k8s_service *service, const struct k8s_endpoint_slice *const *slices,
                           size_t n_slices)
{
    size_t count = 0;
    for (size_t i = 0; i < n_slices; i++)
        count += slices[i]->endpoints.len;
    out->endpoints = kp_calloc(KP_MIN(count, DNS_ENDPOINTS_MAX) + 1, sizeof(*out->endpoints));
    for (size_t i = 0; i < n_slices; i++)
        if (kp_streq(slices[i]->address_type, "IPv4") || kp_streq(slices[i]->address_type, "IPv6"))
            take_slice(out, slices[i], service->spec->publish_not_ready_addresses);
    qsort(out->endpoints, out->n_endpoints, sizeof(*out->endpoints), by_host_and_ip);
    struct kp_strmap *seen = kp_strmap_new();
    for (size_t i = 0; i < out->n_endpoints; i++) {
        char key[DNS_IP_KEY_MAX];
        dns_ip_key(&out->endpoints[i].ip, key);
        out->endpoints[i].ip_repeated = kp_strmap_put(seen, key, out) != NULL;
    }
    kp_strmap_free(seen, NULL);
}

struct dns_service *dns_service_build(const struct k8s_service *service, const struct k8s_endpoint_slice *const *slices, size_t n_slices)
{
    const struct k8s_service_spec *spec = service->spec;
    struct dns_service *out = kp_calloc(1, sizeof(*out));
    bool publishes = true;
    if (kp_streq(spec->type, "ExternalName")) {
        out->kind = DNS_SERVICE_EXTERNAL;
        publishes = !kp_empty(spec->external_name) && dns_name_parse(spec->external_name, &out->external) == 0;
    } else if (kp_streq(spec->cluster_ip, "None")) {
        out->kind = DNS_SERVICE_HEADLESS;
        take_endpoints(out, service, slices, n_slices);
    } else {
        out->kind = DNS_SERVICE_CLUSTER_IP;
        publishes = !kp_empty(spec->cluster_ip);
        if (publishes)
            take_cluster_ips(out, service);
    }
    if (!publishes) {
        dns_service_free(out);
        return NULL;
    }
    out->ns = lower_copy(service->metadata->namespace);
    out->name = lower_copy(service->metadata->name);
    return out;
}
