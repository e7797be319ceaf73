/* What the files of nodeimage/dns share among themselves. */
#ifndef KP_DNS_INTERNAL_H
#define KP_DNS_INTERNAL_H

#include "nodeimage/dns/dns.h"

#define DNS_RDATA_NAMES_MAX (2 * DNS_NAME_MAX + 20) /* bytes of rdata whose names are written in full (SOA) */

static inline uint16_t dns_get16(const uint8_t *p)
{
    return (uint16_t)(p[0] << 8 | p[1]);
}
static inline void dns_set16(uint8_t *p, uint16_t value)
{
    p[0] = (uint8_t)(value >> 8);
    p[1] = (uint8_t)value;
}
bool dns_put_raw(struct dns_writer *writer, enum dns_section section, const struct dns_name *owner, uint16_t type, uint16_t class,
                 uint32_t ttl_s, const void *rdata, size_t len);

/* Other times than DNS_FORWARD_TRY_MS and DNS_TCP_IDLE_MS, for tests. */
void dns_forwarder_set_try_ms(struct dns_forwarder *forwarder, int64_t try_ms);
void dns_server_set_idle_ms(struct dns_server *server, int64_t idle_ms);

/* ---- what one Service publishes ------------------------------------------------------------------------------------- */
enum dns_service_kind { DNS_SERVICE_CLUSTER_IP, DNS_SERVICE_HEADLESS, DNS_SERVICE_EXTERNAL };
struct dns_port {
    char *name;         /* lower case; "" when unnamed */
    char protocol[8];   /* "tcp", "udp", "sctp" */
    uint16_t port;
};
struct dns_endpoint {
    struct dns_ip ip;
    char *host; /* lower case: the pod's host name, or its address with dashes */
    size_t port_first, n_ports; /* in the Service's ports */
    bool ip_repeated; /* an endpoint before it has the same address */
};
struct dns_service {
    enum dns_service_kind kind;
    char *ns, *name;
    struct dns_ip *ips; /* of CLUSTER_IP */
    size_t n_ips;
    struct dns_port *ports;
    size_t n_ports;
    struct dns_endpoint *endpoints; /* of HEADLESS, in order of host and address */
    size_t n_endpoints;
    struct dns_name external;
};
#define DNS_ENDPOINTS_MAX 10000 /* of one Service; more are left out */
bool dns_ip_parse(const char *text, struct dns_ip *ret_ip);
bool dns_ip_equal(const struct dns_ip *a, const struct dns_ip *b);
#define DNS_IP_KEY_MAX 40
void dns_ip_key(const struct dns_ip *ip, char out[DNS_IP_KEY_MAX]);

/* ---- the zone ---------------------------------------------------------------------------------------------------------- */
#define DNS_REVERSE_MAX 32 /* Services that one address belongs to; more have no PTR */
struct dns_reverse {
    struct dns_ip ip;
    const struct dns_service *services[DNS_REVERSE_MAX];
    size_t len;
};
struct dns_namespace {
    bool exists; /* the object does */
    size_t services;
};
struct dns_zone {
    struct dns_name domain, primary, mailbox, svc;
    struct kp_strmap *services;   /* "ns/name" -> struct dns_service */
    struct kp_strmap *namespaces; /* -> struct dns_namespace */
    struct kp_strmap *reverse;    /* dns_ip_key -> struct dns_reverse */
    uint32_t serial;
    bool synced;
};

#endif
