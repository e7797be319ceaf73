/* A small cluster's zone, and answers as text, for the DNS tests. */
#ifndef TESTS_DNS_FIXTURE_H
#define TESTS_DNS_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <arpa/inet.h>

#include "api/k8s.h"
#include "lib/codec/codec.h"
#include "nodeimage/dns/dns_internal.h"

static const char *const fixture_services[] = {
    ("{'metadata':{'name':'web','namespace':'default'},'spec':{'type':'ClusterIP','clusterIP':'10.96.0.20','clusterIPs':['10.96.0.20','fd00::20'],"
     "'ports':[{'name':'http','port':80,'protocol':'TCP'},{'name':'metrics','port':9100},{'name':'quic','port':443,'protocol':'UDP'}]}}"),
    "{'metadata':{'name':'plain','namespace':'default'},'spec':{'type':'NodePort','clusterIP':'10.96.0.21','ports':[{'port':8080,'protocol':'TCP'}]}}",
    "{'metadata':{'name':'db','namespace':'default'},'spec':{'type':'ClusterIP','clusterIP':'None','ports':[{'name':'sql','port':5432}]}}",
    "{'metadata':{'name':'all','namespace':'default'},'spec':{'clusterIP':'None','publishNotReadyAddresses':true}}",
    "{'metadata':{'name':'empty','namespace':'default'},'spec':{'clusterIP':'None'}}",
    "{'metadata':{'name':'pending','namespace':'default'},'spec':{'type':'ClusterIP'}}",
    "{'metadata':{'name':'inside','namespace':'default'},'spec':{'type':'ExternalName','externalName':'web.default.svc.cluster.local'}}",
    "{'metadata':{'name':'outside','namespace':'default'},'spec':{'type':'ExternalName','externalName':'www.example.com'}}",
    "{'metadata':{'name':'twice','namespace':'default'},'spec':{'type':'ExternalName','externalName':'outside.default.svc.cluster.local'}}",
    "{'metadata':{'name':'ring-a','namespace':'default'},'spec':{'type':'ExternalName','externalName':'ring-b.default.svc.cluster.local'}}",
    "{'metadata':{'name':'ring-b','namespace':'default'},'spec':{'type':'ExternalName','externalName':'ring-a.default.svc.cluster.local'}}",
    "{'metadata':{'name':'dangling','namespace':'default'},'spec':{'type':'ExternalName','externalName':'none.default.svc.cluster.local'}}",
    "{'metadata':{'name':'kube-dns','namespace':'kube-system'},'spec':{'clusterIP':'10.96.0.10','ports':[{'name':'dns','port':53,'protocol':'UDP'}]}}",
};
static const char *const fixture_slices[] = {
    "{'metadata':{'name':'db-1','namespace':'default','labels':{'kubernetes.io/service-name':'db'}},'addressType':'IPv4',"
    "'ports':[{'name':'sql','port':5432,'protocol':'TCP'}],'endpoints':["
    "{'addresses':['10.1.0.1'],'hostname':'db-0','conditions':{'ready':true}},"
    "{'addresses':['10.1.0.2'],'hostname':'DB-1','conditions':{}},"
    "{'addresses':['10.1.0.3'],'conditions':{'ready':true}},"
    "{'addresses':['10.1.0.4'],'hostname':'db-3','conditions':{'ready':false}}]}",
    "{'metadata':{'name':'db-2','namespace':'default','labels':{'kubernetes.io/service-name':'db'}},'addressType':'IPv6',"
    "'ports':[{'name':'sql','port':5432,'protocol':'TCP'}],'endpoints':[{'addresses':['fd01::1'],'hostname':'db-0'}]}",
    "{'metadata':{'name':'db-3','namespace':'default','labels':{'kubernetes.io/service-name':'db'}},'addressType':'IPv4',"
    "'ports':[{'name':'sql','port':5432,'protocol':'TCP'}],'endpoints':[{'addresses':['10.1.0.1'],'hostname':'db-0'}]}",
    "{'metadata':{'name':'db-4','namespace':'default','labels':{'kubernetes.io/service-name':'db'}},'addressType':'FQDN',"
    "'ports':[],'endpoints':[{'addresses':['db.example.com']}]}",
    "{'metadata':{'name':'all-1','namespace':'default','labels':{'kubernetes.io/service-name':'all'}},'addressType':'IPv4',"
    "'ports':[],'endpoints':[{'addresses':['10.1.0.4'],'conditions':{'ready':false}},{'addresses':['10.1.0.3']}]}",
};

static inline void *fixture_decode(const struct kp_type *type, const char *text, struct kp_arena *arena)
{
    struct kp_error error = {0};
    char *json = kp_arena_strdup(arena, text);
    for (char *c = json; *c; c++)
        if (*c == '\'')
            *c = '"';
    void *obj = NULL;
    if (kp_json_decode(type, json, strlen(json), arena, NULL, &obj, &error) < 0)
        fail_msg("%s: %s", json, error.message);
    return obj;
}

static inline void fixture_put(struct dns_zone *zone, const char *text, const char *const *slice_texts, size_t n_slices)
{
    struct kp_arena *arena = kp_arena_new(0);
    const struct k8s_endpoint_slice *slices[8];
    struct k8s_service *service = fixture_decode(&k8s_service_type, text, arena);
    size_t n = 0;
    for (size_t i = 0; i < n_slices; i++) {
        struct k8s_endpoint_slice *slice = fixture_decode(&k8s_endpoint_slice_type, slice_texts[i], arena);
        if (kp_streq(kp_string_map_get(&slice->metadata->labels, "kubernetes.io/service-name"), service->metadata->name))
            slices[n++] = slice;
    }
    dns_zone_put_service(zone, service->metadata->namespace, service->metadata->name, dns_service_build(service, slices, n));
    kp_arena_free(arena);
}

static inline struct dns_zone *fixture_zone(void)
{
    struct kp_error error = {0};
    struct dns_zone *zone = dns_zone_new("cluster.local", &error);
    assert_non_null(zone);
    for (size_t i = 0; i < KP_ARRAY_LEN(fixture_services); i++)
        fixture_put(zone, fixture_services[i], fixture_slices, KP_ARRAY_LEN(fixture_slices));
    dns_zone_put_namespace(zone, "bare", true);
    dns_zone_set_synced(zone);
    return zone;
}

/* A query as a client would write it; payload 0: without EDNS. */
static inline size_t fixture_query(uint8_t buf[DNS_UDP_MIN], const char *name, uint16_t type, uint16_t payload)
{
    struct dns_name parsed;
    assert_int_equal(dns_name_parse(name, &parsed), 0);
    size_t n = dns_write_query(buf, DNS_UDP_MIN, 0x1234, &parsed, type, false, false);
    if (payload == 0) {
        buf[11] = 0;
        return n - DNS_OPT_LEN;
    }
    dns_set16(buf + n - 8, payload);
    return n;
}

static inline const char *fixture_type(uint16_t type)
{
    static char other[16];
    switch (type) {
    case DNS_A: return "A";
    case DNS_AAAA: return "AAAA";
    case DNS_CNAME: return "CNAME";
    case DNS_PTR: return "PTR";
    case DNS_NS: return "NS";
    case DNS_SOA: return "SOA";
    case DNS_SRV: return "SRV";
    case DNS_TXT: return "TXT";
    case DNS_HINFO: return "HINFO";
    case DNS_MX: return "MX";
    case DNS_OPT: return "OPT";
    default: snprintf(other, sizeof(other), "TYPE%u", type); return other;
    }
}

static inline void fixture_name(const uint8_t *data, size_t len, size_t *pos, struct kp_buf *out)
{
    struct dns_name name;
    char text[DNS_NAME_TEXT_MAX];
    assert_int_equal(dns_name_read(data, len, pos, &name), 0);
    dns_name_format(&name, text);
    kp_buf_puts(out, text);
}

static inline void fixture_rdata(const uint8_t *data, size_t pos, size_t end, uint16_t type, struct kp_buf *out)
{
    char text[INET6_ADDRSTRLEN];
    switch (type) {
    case DNS_A: case DNS_AAAA:
        assert_int_equal(end - pos, type == DNS_A ? 4 : 16);
        kp_buf_puts(out, inet_ntop(type == DNS_A ? AF_INET : AF_INET6, data + pos, text, sizeof(text)));
        return;
    case DNS_SRV:
        kp_buf_printf(out, "%u %u %u ", dns_get16(data + pos), dns_get16(data + pos + 2), dns_get16(data + pos + 4));
        pos += 6;
        break;
    case DNS_MX:
        kp_buf_printf(out, "%u ", dns_get16(data + pos));
        pos += 2;
        break;
    case DNS_TXT: case DNS_HINFO:
        for (; pos < end; pos += 1 + (size_t)data[pos])
            kp_buf_printf(out, "\"%.*s\"", data[pos], data + pos + 1);
        return;
    case DNS_SOA:
        fixture_name(data, end, &pos, out);
        kp_buf_putc(out, ' ');
        fixture_name(data, end, &pos, out);
        assert_int_equal(end - pos, 20);
        return;
    case DNS_CNAME: case DNS_PTR: case DNS_NS:
        break;
    default:
        kp_hex_encode(out, data + pos, end - pos);
        return;
    }
    fixture_name(data, end, &pos, out);
    assert_int_equal(pos, end);
}

/* "NOERROR aa tc | A web.default... 30 10.96.0.20 | ... / authority / additional": rcode, flags, then records by section. */
static inline char *fixture_text(const uint8_t *data, size_t len)
{
    static const char *const rcodes[] = {"NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED"};
    struct kp_buf out = {0};
    size_t pos = DNS_HEADER_LEN;
    assert_true(len >= DNS_HEADER_LEN);
    uint16_t flags = dns_get16(data + 2);
    assert_true(flags & DNS_QR);
    kp_buf_printf(&out, "%s%s%s", rcodes[flags & 0xf], flags & DNS_AA ? " aa" : "", flags & DNS_TC ? " tc" : "");
    struct kp_buf skipped = {0};
    for (size_t i = dns_get16(data + 4); i > 0; i--) {
        fixture_name(data, len, &pos, &skipped);
        pos += 4;
    }
    kp_buf_done(&skipped);
    for (size_t section = 1; section < 4; section++) {
        if (section > 1 && dns_get16(data + 4 + 2 * section))
            kp_buf_puts(&out, section == 2 ? " / authority" : " / additional");
        for (size_t i = dns_get16(data + 4 + 2 * section); i > 0; i--) {
            kp_buf_puts(&out, " | ");
            fixture_name(data, len, &pos, &out);
            assert_true(len - pos >= 10);
            uint16_t type = dns_get16(data + pos);
            size_t n = dns_get16(data + pos + 8);
            assert_true(len - pos - 10 >= n);
            kp_buf_printf(&out, " %u %s ", dns_get16(data + pos + 6), fixture_type(type));
            fixture_rdata(data, pos + 10, pos + 10 + n, type, &out);
            pos += 10 + n;
        }
    }
    assert_int_equal(pos, len);
    return kp_buf_take(&out);
}

/* The whole way of a query through the pure core; "FORWARD" when it would go upstream. Caller frees. */
static inline char *fixture_ask_limit(const struct dns_zone *zone, const char *name, uint16_t type, uint16_t payload, uint32_t rotation, size_t cap)
{
    static uint8_t answer[DNS_TCP_MAX];
    uint8_t query[DNS_UDP_MIN];
    size_t n = fixture_query(query, name, type, payload);
    struct dns_query q;
    struct dns_writer writer;
    struct dns_name target;
    enum dns_rcode rcode;
    uint16_t flags;
    if (dns_query_parse(query, n, &q, &rcode) == DNS_REJECT)
        return fixture_text(answer, dns_write_rcode(answer, cap, &q, rcode));
    dns_writer_begin(&writer, answer, cap, &q);
    enum dns_outcome outcome = dns_zone_answer(zone, &q, rotation, &writer, &rcode, &flags, &target);
    if (outcome == DNS_FORWARD)
        return kp_strdup("FORWARD");
    char *text = fixture_text(answer, dns_writer_end(&writer, &q, flags, rcode));
    if (outcome == DNS_FOLLOW) {
        char where[DNS_NAME_TEXT_MAX];
        dns_name_format(&target, where);
        char *both = kp_asprintf("%s -> %s", text, where);
        free(text);
        return both;
    }
    return text;
}

static inline void fixture_expect_at(const struct dns_zone *zone, const char *name, uint16_t type, const char *want, const char *file, int line)
{
    char *got = fixture_ask_limit(zone, name, type, 0, 0, DNS_TCP_MAX);
    if (!kp_streq(got, want)) {
        print_error("%s type %u\n got  %s\n want %s\n", name, type, got, want);
        _fail(file, line);
    }
    free(got);
}
#define expect_answer(zone, name, type, want) fixture_expect_at(zone, name, type, want, __FILE__, __LINE__)
#define SOA " / authority | cluster.local. 5 SOA ns.dns.cluster.local. hostmaster.cluster.local."

#endif
