/* Fuzzes the DNS server's pure core: a query through parser and zone, and an answer of an upstream server. */
#include "api/k8s.h"
#include "nodeimage/dns/dns_internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

/* A Service, a headless one and an alias out of the zone, made without JSON. */
static void put(struct dns_zone *zone, const char *name, const char *type, const char *ip, const char *external)
{
    struct k8s_object_meta meta = {.name = name, .namespace = "default"}, slice_meta = {.name = "s", .namespace = "default"};
    struct k8s_service_port port = {.name = "http", .protocol = "TCP", .port = 80, .has_port = true};
    struct k8s_service_spec spec = {.type = type, .cluster_ip = ip, .external_name = external, .ports = {&port, 1}};
    struct k8s_service service = {.metadata = &meta, .spec = &spec};
    const char *first[] = {"10.1.0.1"}, *second[] = {"fd01::1"};
    struct k8s_endpoint_conditions conditions = {0};
    struct k8s_endpoint endpoints[] = {
        {.addresses = {first, 1}, .conditions = &conditions, .hostname = "a-0"}, {.addresses = {second, 1}, .conditions = &conditions},
    };
    struct k8s_discovery_endpoint_port slice_port = {.name = "http", .protocol = "TCP", .port = 80, .has_port = true};
    struct k8s_endpoint_slice four = {.metadata = &slice_meta, .address_type = "IPv4", .endpoints = {endpoints, 1}, .ports = {&slice_port, 1}};
    struct k8s_endpoint_slice six = {.metadata = &slice_meta, .address_type = "IPv6", .endpoints = {endpoints + 1, 1}, .ports = {&slice_port, 1}};
    const struct k8s_endpoint_slice *slices[] = {&four, &six};
    dns_zone_put_service(zone, "default", name, dns_service_build(&service, slices, 2));
}

static struct dns_zone *make_zone(void)
{
    struct dns_zone *zone = dns_zone_new("cluster.local", NULL);
    put(zone, "a", "ClusterIP", "10.96.0.1", NULL);
    put(zone, "h", "ClusterIP", "None", NULL);
    put(zone, "x", "ExternalName", NULL, "www.example.com");
    put(zone, "y", "ExternalName", NULL, "x.default.svc.cluster.local");
    dns_zone_set_synced(zone);
    return zone;
}

/* What we write must be readable, question and all. */
static void check_answer(const uint8_t *data, size_t len, const struct dns_query *query)
{
    struct dns_response response;
    KP_ASSERT(len >= DNS_HEADER_LEN && dns_get16(data) == query->id);
    if (query->name.len && query->class == DNS_IN)
        KP_ASSERT(dns_response_parse(data, len, &query->name, query->type, &response) == 0 || query->flags & 0x7800);
}

static void answer(const struct dns_zone *zone, const struct dns_query *query, enum dns_verdict verdict, enum dns_rcode rcode, size_t cap)
{
    static uint8_t buf[DNS_TCP_MAX];
    struct dns_writer writer;
    struct dns_name target;
    uint16_t flags = 0;
    if (verdict == DNS_REJECT) {
        check_answer(buf, dns_write_rcode(buf, cap, query, rcode), query);
        return;
    }
    dns_writer_begin(&writer, buf, cap, query);
    enum dns_outcome outcome = dns_zone_answer(zone, query, 1, &writer, &rcode, &flags, &target);
    if (outcome == DNS_FORWARD)
        rcode = DNS_SERVFAIL;
    if (outcome == DNS_FOLLOW)
        KP_ASSERT(target.len > 0);
    check_answer(buf, dns_writer_end(&writer, query, flags, rcode), query);
}

static void upstream(const uint8_t *data, size_t len)
{
    static uint8_t buf[DNS_TCP_MAX];
    struct dns_query query = {.type = 0, .class = DNS_IN, .edns = true};
    struct dns_response response;
    struct dns_writer writer;
    size_t pos = DNS_HEADER_LEN;
    if (len < DNS_HEADER_LEN || dns_name_read(data, len, &pos, &query.name) < 0 || len - pos < 4)
        return;
    query.type = dns_get16(data + pos);
    if (dns_response_parse(data, len, &query.name, query.type, &response) < 0 || response.truncated)
        return;
    for (size_t cap = DNS_UDP_MIN; cap <= DNS_TCP_MAX; cap += DNS_TCP_MAX - DNS_UDP_MIN) {
        dns_writer_begin(&writer, buf, cap, &query);
        dns_response_copy(&writer, data, len, 3);
        check_answer(buf, dns_writer_end(&writer, &query, 0, response.rcode), &query);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    static struct dns_zone *zone;
    struct dns_query query;
    enum dns_rcode rcode;
    if (!zone)
        zone = make_zone();
    enum dns_verdict verdict = dns_query_parse(data, len, &query, &rcode);
    if (verdict != DNS_DROP) {
        answer(zone, &query, verdict, rcode, DNS_UDP_MIN);
        answer(zone, &query, verdict, rcode, DNS_TCP_MAX);
    }
    upstream(data, len);
    return 0;
}
