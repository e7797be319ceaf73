/* The rules of the Kubernetes DNS specification 1.1.0: from a question to records. */
#include <ctype.h>

#include "nodeimage/dns/dns_internal.h"

#define SPEC_VERSION "1.1.0"
#define LABELS_MAX 5 /* _port._protocol.service.namespace.svc: deeper names don't exist */
#define WEIGHTS 100  /* shared by the records of one SRV answer */

struct answer {
    const struct dns_zone *zone;
    const struct dns_query *query;
    struct dns_writer *writer;
    uint32_t rotation;
    struct dns_name owner; /* the name asked for, or where an alias led */
    enum dns_rcode rcode;
    bool exists; /* the owner is a name of the zone, perhaps without records of this type */
};

/* Labels in front of the domain as strings, last one first ("svc" or "pod"). */
struct labels {
    char text[LABELS_MAX][DNS_LABEL_MAX + 1];
    size_t len;
};

/* False when a name has bytes that no object's name has. */
static bool split(const struct dns_name *name, size_t count, struct labels *ret)
{
    ret->len = count;
    if (count > LABELS_MAX)
        return false;
    for (size_t i = 0, at = 0; i < count; i++) {
        char *out = ret->text[count - 1 - i];
        uint8_t n = name->wire[at];
        for (size_t j = 0; j < n; j++) {
            out[j] = (char)tolower(name->wire[at + 1 + j]);
            if (!((out[j] >= 'a' && out[j] <= 'z') || (out[j] >= '0' && out[j] <= '9') || out[j] == '-' || out[j] == '_'))
                return false;
        }
        out[n] = 0;
        at += 1 + (size_t)n;
    }
    return true;
}

static bool wants_ip(const struct answer *a, const struct dns_ip *ip)
{
    return a->query->type == (ip->family == 4 ? DNS_A : DNS_AAAA);
}

static bool namespace_exists(const struct answer *a, const char *name)
{
    return kp_strmap_get(a->zone->namespaces, name) != NULL;
}

/* service.namespace.svc.domain; objects' names always fit, since the domain is bounded. */
static struct dns_name service_name(const struct answer *a, const struct dns_service *service, const char *host)
{
    struct dns_name name = a->zone->svc;
    if (dns_name_prepend(&name, service->ns) < 0 || dns_name_prepend(&name, service->name) < 0 || (host && dns_name_prepend(&name, host) < 0))
        name.len = 0;
    return name;
}

static void put_cluster_ips(struct answer *a, const struct dns_service *service)
{
    for (size_t i = 0; i < service->n_ips; i++)
        if (wants_ip(a, &service->ips[i]))
            dns_put_ip(a->writer, DNS_ANSWER, &a->owner, &service->ips[i], DNS_TTL_S);
}

/* An endpoint may be in two slices for a while. */
static bool same_before(const struct dns_service *service, size_t i)
{
    const struct dns_endpoint *e = &service->endpoints[i];
    return i > 0 && dns_ip_equal(&e->ip, &e[-1].ip) && kp_streq(e->host, e[-1].host);
}

/* Addresses of all endpoints, or of those with one host name. */
static void put_endpoint_ips(struct answer *a, const struct dns_service *service, const char *host)
{
    for (size_t n = service->n_endpoints, k = 0; k < n; k++) {
        size_t i = (k + a->rotation % n) % n;
        const struct dns_endpoint *e = &service->endpoints[i];
        if (host && !kp_streq(e->host, host))
            continue;
        a->exists = true;
        if (wants_ip(a, &e->ip) && !(host ? same_before(service, i) : e->ip_repeated))
            dns_put_ip(a->writer, DNS_ANSWER, &a->owner, &e->ip, DNS_TTL_S);
    }
}

/* port and protocol NULL: every port, what tools that look for a StatefulSet's peers ask for. */
static bool port_matches(const struct dns_port *p, const char *port, const char *protocol)
{
    if (!port)
        return !protocol || (kp_streq(p->protocol, protocol) && *p->name);
    return kp_streq(p->name, port) && kp_streq(p->protocol, protocol);
}

/* A host has the port already with another address: of the other family, or from another slice. */
static bool port_before(const struct dns_service *service, size_t i, const struct dns_port *port)
{
    const char *host = service->endpoints[i].host;
    while (i-- > 0 && kp_streq(service->endpoints[i].host, host))
        for (size_t j = 0; j < service->endpoints[i].n_ports; j++) {
            const struct dns_port *p = &service->ports[service->endpoints[i].port_first + j];
            if (p->port == port->port && kp_streq(p->name, port->name) && kp_streq(p->protocol, port->protocol))
                return true;
        }
    return false;
}

static size_t count_ports(const struct dns_service *service, const char *port, const char *protocol)
{
    size_t count = 0;
    if (service->kind == DNS_SERVICE_CLUSTER_IP)
        for (size_t i = 0; i < service->n_ports; i++)
            count += port_matches(&service->ports[i], port, protocol);
    for (size_t i = 0; i < service->n_endpoints; i++)
        for (size_t j = 0; j < service->endpoints[i].n_ports; j++) {
            const struct dns_port *p = &service->ports[service->endpoints[i].port_first + j];
            count += port_matches(p, port, protocol) && !port_before(service, i, p);
        }
    return count;
}

static void put_target(struct answer *a, struct dns_name target, uint16_t weight, uint16_t port)
{
    if (target.len)
        dns_put_srv(a->writer, DNS_ANSWER, &a->owner, weight, port, &target, DNS_TTL_S);
}

static void put_services(struct answer *a, const struct dns_service *service, const char *port, const char *protocol)
{
    size_t count = count_ports(service, port, protocol), n = service->n_endpoints;
    uint16_t weight = (uint16_t)KP_MAX(count ? WEIGHTS / count : 0, 1);
    if (service->kind == DNS_SERVICE_CLUSTER_IP) {
        struct dns_name target = service_name(a, service, NULL);
        for (size_t i = 0; i < service->n_ports; i++)
            if (port_matches(&service->ports[i], port, protocol))
                put_target(a, target, weight, service->ports[i].port);
        for (size_t i = 0; i < service->n_ips && count; i++)
            dns_put_ip(a->writer, DNS_ADDITIONAL, &target, &service->ips[i], DNS_TTL_S);
        return;
    }
    for (size_t k = 0; k < n; k++) {
        size_t i = (k + a->rotation % n) % n;
        const struct dns_endpoint *e = &service->endpoints[i];
        struct dns_name target = service_name(a, service, e->host);
        for (size_t j = 0; j < e->n_ports; j++) {
            const struct dns_port *p = &service->ports[e->port_first + j];
            if (port_matches(p, port, protocol) && !port_before(service, i, p))
                put_target(a, target, weight, p->port);
        }
    }
    for (size_t k = 0; k < n && count; k++) { /* as many as fit */
        size_t i = (k + a->rotation % n) % n;
        const struct dns_endpoint *e = &service->endpoints[i];
        struct dns_name target = service_name(a, service, e->host);
        if (same_before(service, i))
            continue;
        if (target.len && !dns_put_ip(a->writer, DNS_ADDITIONAL, &target, &e->ip, DNS_TTL_S))
            break;
    }
}

/* A name below a Service: a host's, _protocol or _port._protocol. */
static void below_service(struct answer *a, const struct dns_service *service, const struct labels *l)
{
    const char *label = l->text[3];
    if (*label == '_') {
        const char *port = l->len == 5 && l->text[4][0] == '_' ? l->text[4] + 1 : NULL;
        if ((l->len == 5 && (!port || !*port)) || count_ports(service, port, label + 1) == 0)
            return;
        a->exists = true;
        if (l->len == 5 && a->query->type == DNS_SRV)
            put_services(a, service, port, label + 1);
    } else if (l->len == 4) {
        put_endpoint_ips(a, service, label);
    }
}

/* True when the owner is an alias: the CNAME is written and *ret_target is where it leads. */
static bool answer_service(struct answer *a, const struct labels *l, struct dns_name *ret_target)
{
    char key[2 * DNS_LABEL_MAX + 2];
    a->exists = l->len == 1 || namespace_exists(a, l->text[1]);
    if (l->len <= 2 || !a->exists)
        return false;
    a->exists = false;
    snprintf(key, sizeof(key), "%s/%s", l->text[1], l->text[2]);
    const struct dns_service *service = kp_strmap_get(a->zone->services, key);
    if (!service)
        return false;
    if (l->len > 3) {
        below_service(a, service, l);
        return false;
    }
    a->exists = true;
    if (service->kind == DNS_SERVICE_EXTERNAL) {
        dns_put_name(a->writer, DNS_ANSWER, &a->owner, DNS_CNAME, &service->external, DNS_TTL_S);
        *ret_target = service->external;
        return a->query->type != DNS_CNAME && a->query->type != DNS_ANY;
    }
    if (a->query->type == DNS_SRV) {
        put_services(a, service, NULL, NULL);
        return false;
    }
    put_cluster_ips(a, service);
    put_endpoint_ips(a, service, NULL);
    return false;
}

/* a-b-c-d.namespace.pod: any address is taken for a pod's, as CoreDNS does with "pods insecure". */
static void answer_pod(struct answer *a, const struct labels *l)
{
    struct dns_ip ip;
    char text[DNS_LABEL_MAX + 1];
    a->exists = l->len == 1 || (l->len <= 3 && namespace_exists(a, l->text[1]));
    if (l->len != 3 || !a->exists)
        return;
    for (int separator = '.';; separator = ':') {
        size_t i = 0;
        for (; l->text[2][i]; i++)
            text[i] = (char)(l->text[2][i] == '-' ? separator : l->text[2][i]);
        text[i] = 0;
        a->exists = dns_ip_parse(text, &ip);
        if (a->exists || separator == ':')
            break;
    }
    if (a->exists && wants_ip(a, &ip))
        dns_put_ip(a->writer, DNS_ANSWER, &a->owner, &ip, DNS_TTL_S);
}

/* The server's own name, that SOA and NS give: the address of the Service in front of it. */
static void answer_primary(struct answer *a, const struct labels *l)
{
    const struct dns_service *service = kp_strmap_get(a->zone->services, "kube-system/kube-dns");
    a->exists = l->len == 1 || kp_streq(l->text[1], "ns");
    if (l->len == 2 && a->exists && service)
        put_cluster_ips(a, service);
}

static void answer_apex(struct answer *a)
{
    const struct dns_zone *zone = a->zone;
    a->exists = true;
    if (a->query->type == DNS_SOA)
        dns_put_soa(a->writer, DNS_ANSWER, &a->owner, &zone->primary, &zone->mailbox, zone->serial, DNS_TTL_S);
    if (a->query->type == DNS_NS)
        dns_put_name(a->writer, DNS_ANSWER, &a->owner, DNS_NS, &zone->primary, DNS_TTL_S);
}

/* One step: records of a->owner, which is `labels` below the domain. */
static bool answer_name(struct answer *a, size_t labels, struct dns_name *ret_target)
{
    struct labels l;
    a->exists = false;
    if (!split(&a->owner, labels, &l))
        return false;
    if (labels == 0) {
        answer_apex(a);
    } else if (kp_streq(l.text[0], "svc")) {
        return answer_service(a, &l, ret_target);
    } else if (kp_streq(l.text[0], "pod")) {
        answer_pod(a, &l);
    } else if (kp_streq(l.text[0], "dns") && labels <= 2) {
        answer_primary(a, &l);
    } else if (kp_streq(l.text[0], "dns-version") && labels == 1) {
        a->exists = true;
        if (a->query->type == DNS_TXT)
            dns_put_text(a->writer, &a->owner, SPEC_VERSION, DNS_TTL_S);
    }
    return false;
}

static enum dns_outcome answer_zone(struct answer *a, size_t labels, struct dns_name *ret_target)
{
    size_t aliases = 0;
    while (answer_name(a, labels, ret_target)) {
        if (++aliases == DNS_CHAIN_MAX) {
            dns_writer_rewind(a->writer); /* aliases in a circle */
            a->rcode = DNS_SERVFAIL;
            return DNS_DONE;
        }
        if (!dns_name_below(ret_target, &a->zone->domain, &labels))
            return DNS_FOLLOW;
        a->owner = *ret_target;
    }
    a->rcode = a->exists ? DNS_NOERROR : DNS_NXDOMAIN;
    if (a->writer->counts[DNS_ANSWER] > aliases || a->writer->full)
        return DNS_DONE;
    if (a->query->type == DNS_ANY && a->exists)
        dns_put_hinfo(a->writer, &a->owner);
    else
        dns_put_soa(a->writer, DNS_AUTHORITY, &a->zone->domain, &a->zone->primary, &a->zone->mailbox, a->zone->serial, DNS_NEGATIVE_TTL_S);
    return DNS_DONE;
}

static int hex_digit(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Whether the name is that of an address, RFC 1035 3.5 and RFC 3596 2.5. */
static bool reverse_address(const struct dns_name *name, struct dns_ip *ret_ip)
{
    static const struct dns_name in_addr = {14, "\7in-addr\4arpa"}, ip6 = {10, "\3ip6\4arpa"};
    size_t labels;
    *ret_ip = (struct dns_ip){0};
    if (dns_name_below(name, &in_addr, &labels) && labels == 4) {
        ret_ip->family = 4;
        for (size_t i = 0, at = 0; i < 4; at += 1 + (size_t)name->wire[at], i++) {
            char text[4] = "";
            uint64_t value;
            if (name->wire[at] > 3)
                return false;
            memcpy(text, name->wire + at + 1, name->wire[at]);
            if (kp_parse_u64(text, &value) < 0 || value > 255 || (text[0] == '0' && text[1]))
                return false;
            ret_ip->bytes[3 - i] = (uint8_t)value;
        }
        return true;
    }
    if (!dns_name_below(name, &ip6, &labels) || labels != 32)
        return false;
    ret_ip->family = 6;
    for (size_t i = 0; i < 32; i++) { /* with 32 labels in at most 255 bytes some may be longer than one digit */
        size_t at = 2 * i;
        int digit = name->wire[at] == 1 ? hex_digit((char)tolower(name->wire[at + 1])) : -1;
        if (digit < 0)
            return false;
        ret_ip->bytes[15 - i / 2] |= (uint8_t)(i % 2 ? digit << 4 : digit);
    }
    return true;
}

/* False when the address is none of ours: its reverse zone is somebody else's. */
static bool answer_reverse(struct answer *a)
{
    struct dns_ip ip;
    char key[DNS_IP_KEY_MAX];
    if (a->query->type != DNS_PTR || !reverse_address(&a->owner, &ip))
        return false;
    dns_ip_key(&ip, key);
    const struct dns_reverse *reverse = kp_strmap_get(a->zone->reverse, key);
    if (!reverse)
        return false;
    for (size_t i = 0; i < reverse->len; i++) {
        const struct dns_service *service = reverse->services[i];
        if (service->kind == DNS_SERVICE_CLUSTER_IP) {
            struct dns_name target = service_name(a, service, NULL);
            if (target.len)
                dns_put_name(a->writer, DNS_ANSWER, &a->owner, DNS_PTR, &target, DNS_TTL_S);
        }
        for (size_t j = 0; j < service->n_endpoints; j++) {
            if (!dns_ip_equal(&service->endpoints[j].ip, &ip) || (j > 0 && kp_streq(service->endpoints[j].host, service->endpoints[j - 1].host)))
                continue;
            struct dns_name target = service_name(a, service, service->endpoints[j].host);
            if (target.len)
                dns_put_name(a->writer, DNS_ANSWER, &a->owner, DNS_PTR, &target, DNS_TTL_S);
        }
    }
    return true;
}

enum dns_outcome dns_zone_answer(const struct dns_zone *zone, const struct dns_query *query, uint32_t rotation, struct dns_writer *writer,
                                 enum dns_rcode *ret_rcode, uint16_t *ret_flags, struct dns_name *ret_target)
{
    struct answer a = {.zone = zone, .query = query, .writer = writer, .rotation = rotation, .owner = query->name};
    enum dns_outcome outcome = DNS_DONE;
    size_t labels;
    *ret_flags = DNS_AA;
    if (dns_name_below(&query->name, &zone->domain, &labels)) {
        if (zone->synced) {
            outcome = answer_zone(&a, labels, ret_target);
        } else {
            a.rcode = DNS_SERVFAIL;
            *ret_flags = 0;
        }
    } else if (query->type == DNS_ANY) {
        dns_put_hinfo(writer, &query->name);
        *ret_flags = 0;
    } else if (!answer_reverse(&a)) {
        return DNS_FORWARD;
    }
    *ret_rcode = a.rcode;
    return outcome;
}
