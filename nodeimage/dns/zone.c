/* The zone: Services by name, namespaces, and addresses back to names. */
#include "nodeimage/dns/dns_internal.h"

struct dns_zone *dns_zone_new(const char *domain, struct kp_error *error)
{
    struct dns_zone *zone = kp_calloc(1, sizeof(*zone));
    if (dns_name_parse(domain, &zone->domain) < 0 || zone->domain.len < 2 || zone->domain.len > DNS_NAME_MAX / 2) {
        kp_fail(error, KP_EINVALID, "cluster domain \"%s\" is not a domain name of at most %d bytes", domain, DNS_NAME_MAX / 2);
        free(zone);
        return NULL;
    }
    dns_name_lower(&zone->domain);
    zone->svc = zone->mailbox = zone->primary = zone->domain;
    int code = dns_name_prepend(&zone->svc, "svc") | dns_name_prepend(&zone->mailbox, "hostmaster") |
               dns_name_prepend(&zone->primary, "dns") | dns_name_prepend(&zone->primary, "ns");
    KP_ASSERT(code == 0); /* the domain is short enough */
    zone->services = kp_strmap_new();
    zone->namespaces = kp_strmap_new();
    zone->reverse = kp_strmap_new();
    zone->serial = 1;
    return zone;
}

static void free_service(void *service)
{
    dns_service_free(service);
}

void dns_zone_free(struct dns_zone *zone)
{
    if (!zone)
        return;
    kp_strmap_free(zone->services, free_service);
    kp_strmap_free(zone->namespaces, free);
    kp_strmap_free(zone->reverse, free);
    free(zone);
}

static struct dns_namespace *namespace_of(struct dns_zone *zone, const char *name)
{
    struct dns_namespace *ns = kp_strmap_get(zone->namespaces, name);
    if (!ns) {
        ns = kp_calloc(1, sizeof(*ns));
        kp_strmap_put(zone->namespaces, name, ns);
    }
    return ns;
}

static void drop_unused_namespace(struct dns_zone *zone, const char *name)
{
    struct dns_namespace *ns = kp_strmap_get(zone->namespaces, name);
    if (ns && !ns->exists && ns->services == 0)
        free(kp_strmap_remove(zone->namespaces, name));
}

static void link_ip(struct dns_zone *zone, const struct dns_service *service, const struct dns_ip *ip)
{
    char key[DNS_IP_KEY_MAX];
    dns_ip_key(ip, key);
    struct dns_reverse *reverse = kp_strmap_get(zone->reverse, key);
    if (!reverse) {
        reverse = kp_calloc(1, sizeof(*reverse));
        reverse->ip = *ip;
        kp_strmap_put(zone->reverse, key, reverse);
    }
    for (size_t i = 0; i < reverse->len; i++)
        if (reverse->services[i] == service)
            return;
    if (reverse->len < DNS_REVERSE_MAX)
        reverse->services[reverse->len++] = service;
}

static void unlink_ip(struct dns_zone *zone, const struct dns_service *service, const struct dns_ip *ip)
{
    char key[DNS_IP_KEY_MAX];
    dns_ip_key(ip, key);
    struct dns_reverse *reverse = kp_strmap_get(zone->reverse, key);
    for (size_t i = 0; reverse && i < reverse->len; i++)
        if (reverse->services[i] == service) {
            reverse->services[i] = reverse->services[--reverse->len];
            break;
        }
    if (reverse && reverse->len == 0)
        free(kp_strmap_remove(zone->reverse, key));
}

static void each_ip(struct dns_zone *zone, const struct dns_service *service,
                    void (*fn)(struct dns_zone *, const struct dns_service *, const struct dns_ip *))
{
    for (size_t i = 0; i < service->n_ips; i++)
        fn(zone, service, &service->ips[i]);
    for (size_t i = 0; i < service->n_endpoints; i++)
        fn(zone, service, &service->endpoints[i].ip);
}

void dns_zone_put_service(struct dns_zone *zone, const char *ns, const char *name, struct dns_service *service)
{
    char *key = kp_asprintf("%s/%s", ns, name);
    struct dns_service *old = service ? kp_strmap_put(zone->services, key, service) : kp_strmap_remove(zone->services, key);
    if (service) {
        namespace_of(zone, ns)->services++;
        each_ip(zone, service, link_ip);
    }
    if (old) {
        each_ip(zone, old, unlink_ip);
        namespace_of(zone, ns)->services--;
        drop_unused_namespace(zone, ns);
        dns_service_free(old);
    }
    zone->serial++;
    free(key);
}

void dns_zone_put_namespace(struct dns_zone *zone, const char *name, bool exists)
{
    namespace_of(zone, name)->exists = exists;
    drop_unused_namespace(zone, name);
}

void dns_zone_set_synced(struct dns_zone *zone)
{
    zone->synced = true;
}

bool dns_zone_synced(const struct dns_zone *zone)
{
    return zone->synced;
}

size_t dns_zone_services(const struct dns_zone *zone)
{
    return kp_strmap_len(zone->services);
}
