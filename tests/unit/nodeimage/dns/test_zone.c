/* The rules of the Kubernetes DNS specification, one test each. */
#include "tests/unit/nodeimage/dns/fixture.h"

#define NODATA "NOERROR aa" SOA
#define NONE "NXDOMAIN aa" SOA
#define S "default.svc.cluster.local"

static struct dns_zone *zone;

static int setup(void **state)
{
    zone = fixture_zone();
    return 0;
}

static int teardown(void **state)
{
    dns_zone_free(zone);
    return 0;
}

static void cluster_ip_service_has_its_addresses(void **state)
{
    expect_answer(zone, "web." S, DNS_A, "NOERROR aa | web." S ". 30 A 10.96.0.20");
    expect_answer(zone, "web." S, DNS_AAAA, "NOERROR aa | web." S ". 30 AAAA fd00::20");
    expect_answer(zone, "plain." S, DNS_A, "NOERROR aa | plain." S ". 30 A 10.96.0.21");
}

static void name_without_records_of_a_type_is_no_data(void **state)
{
    expect_answer(zone, "plain." S, DNS_AAAA, NODATA);
    expect_answer(zone, "web." S, DNS_MX, NODATA);
    expect_answer(zone, "empty." S, DNS_A, NODATA);
    expect_answer(zone, "10-1-0-3.db." S, DNS_AAAA, NODATA);
}

static void nodes_of_the_tree_exist(void **state)
{
    expect_answer(zone, "svc.cluster.local", DNS_A, NODATA);
    expect_answer(zone, "pod.cluster.local", DNS_A, NODATA);
    expect_answer(zone, "dns.cluster.local", DNS_A, NODATA);
    expect_answer(zone, "default.svc.cluster.local", DNS_A, NODATA);
    expect_answer(zone, "bare.svc.cluster.local", DNS_A, NODATA);
    expect_answer(zone, "bare.pod.cluster.local", DNS_A, NODATA);
    expect_answer(zone, "_tcp.web." S, DNS_SRV, NODATA);
    expect_answer(zone, "_http._tcp.web." S, DNS_A, NODATA);
    expect_answer(zone, "cluster.local", DNS_A, NODATA);
}

static void unknown_names_do_not_exist(void **state)
{
    static const char *const names[] = {
        "none." S, "web.other.svc.cluster.local", "other.svc.cluster.local", "x.cluster.local", "x.web." S, "a.b.c.web." S,
        "_sctp.web." S, "_none._tcp.web." S, "_http._udp.web." S, "http._tcp.web." S, "_._tcp.web." S, "a.dns-version.cluster.local",
        "pending." S, "x.dns.cluster.local", "db-3.db." S, "10-1-0-1.db." S, "a.b.c.d.e.f.g.cluster.local", "w\x01" "b." S, "_tcp.plain." S,
    };
    for (size_t i = 0; i < KP_ARRAY_LEN(names); i++)
        expect_answer(zone, names[i], DNS_A, NONE);
}

static void names_are_compared_without_case_and_given_back_as_asked(void **state)
{
    expect_answer(zone, "WeB.DEFAULT.svc.Cluster.LOCAL", DNS_A, "NOERROR aa | WeB.DEFAULT.svc.Cluster.LOCAL. 30 A 10.96.0.20");
    expect_answer(zone, "_HTTP._Tcp.web." S, DNS_SRV,
                  "NOERROR aa | _HTTP._Tcp.web." S ". 30 SRV 0 100 80 web." S ". / additional | web." S ". 30 A 10.96.0.20 | web." S ". 30 AAAA fd00::20");
}

static void headless_service_has_every_ready_endpoint_once(void **state)
{
    expect_answer(zone, "db." S, DNS_A, "NOERROR aa | db." S ". 30 A 10.1.0.3 | db." S ". 30 A 10.1.0.1 | db." S ". 30 A 10.1.0.2");
    expect_answer(zone, "db." S, DNS_AAAA, "NOERROR aa | db." S ". 30 AAAA fd01::1");
}

static void rotation_turns_the_order(void **state)
{
    char *got = fixture_ask_limit(zone, "db." S, DNS_A, 0, 1, DNS_TCP_MAX);
    assert_string_equal(got, "NOERROR aa | db." S ". 30 A 10.1.0.1 | db." S ". 30 A 10.1.0.2 | db." S ". 30 A 10.1.0.3");
    free(got);
}

static void not_ready_endpoints_are_published_when_wanted(void **state)
{
    expect_answer(zone, "all." S, DNS_A, "NOERROR aa | all." S ". 30 A 10.1.0.3 | all." S ". 30 A 10.1.0.4");
}

static void endpoints_have_names_by_host_or_address(void **state)
{
    expect_answer(zone, "db-0.db." S, DNS_A, "NOERROR aa | db-0.db." S ". 30 A 10.1.0.1");
    expect_answer(zone, "db-0.db." S, DNS_AAAA, "NOERROR aa | db-0.db." S ". 30 AAAA fd01::1");
    expect_answer(zone, "db-1.db." S, DNS_A, "NOERROR aa | db-1.db." S ". 30 A 10.1.0.2");
    expect_answer(zone, "10-1-0-3.db." S, DNS_A, "NOERROR aa | 10-1-0-3.db." S ". 30 A 10.1.0.3");
}

static void named_ports_have_srv_records(void **state)
{
    expect_answer(zone, "_metrics._tcp.web." S, DNS_SRV,
                  "NOERROR aa | _metrics._tcp.web." S ". 30 SRV 0 100 9100 web." S ". / additional | web." S ". 30 A 10.96.0.20 | web." S ". 30 AAAA fd00::20");
    expect_answer(zone, "_sql._tcp.db." S, DNS_SRV,
                  "NOERROR aa | _sql._tcp.db." S ". 30 SRV 0 33 5432 10-1-0-3.db." S ". | _sql._tcp.db." S ". 30 SRV 0 33 5432 db-0.db." S
                  ". | _sql._tcp.db." S ". 30 SRV 0 33 5432 db-1.db." S ". / additional | 10-1-0-3.db." S ". 30 A 10.1.0.3 | db-0.db." S
                  ". 30 A 10.1.0.1 | db-0.db." S ". 30 AAAA fd01::1 | db-1.db." S ". 30 A 10.1.0.2");
}

static void service_name_has_srv_records_of_all_ports(void **state)
{
    expect_answer(zone, "plain." S, DNS_SRV, "NOERROR aa | plain." S ". 30 SRV 0 100 8080 plain." S ". / additional | plain." S ". 30 A 10.96.0.21");
    expect_answer(zone, "all." S, DNS_SRV, NODATA);
}

static void external_name_is_an_alias(void **state)
{
    expect_answer(zone, "outside." S, DNS_CNAME, "NOERROR aa | outside." S ". 30 CNAME www.example.com.");
    expect_answer(zone, "outside." S, DNS_ANY, "NOERROR aa | outside." S ". 30 CNAME www.example.com.");
    expect_answer(zone, "outside." S, DNS_A, "NOERROR aa | outside." S ". 30 CNAME www.example.com. -> www.example.com.");
    expect_answer(zone, "inside." S, DNS_A, "NOERROR aa | inside." S ". 30 CNAME web." S ". | web." S ". 30 A 10.96.0.20");
    expect_answer(zone, "inside." S, DNS_MX, "NOERROR aa | inside." S ". 30 CNAME web." S "." SOA);
    expect_answer(zone, "twice." S, DNS_A,
                  "NOERROR aa | twice." S ". 30 CNAME outside." S ". | outside." S ". 30 CNAME www.example.com. -> www.example.com.");
    expect_answer(zone, "dangling." S, DNS_A, "NXDOMAIN aa | dangling." S ". 30 CNAME none." S "." SOA);
}

static void aliases_in_a_circle_fail(void **state)
{
    expect_answer(zone, "ring-a." S, DNS_A, "SERVFAIL aa");
}

static void pods_have_names_by_address(void **state)
{
    expect_answer(zone, "10-2-3-4.default.pod.cluster.local", DNS_A, "NOERROR aa | 10-2-3-4.default.pod.cluster.local. 30 A 10.2.3.4");
    expect_answer(zone, "10-2-3-4.default.pod.cluster.local", DNS_AAAA, NODATA);
    expect_answer(zone, "fd00--7.bare.pod.cluster.local", DNS_AAAA, "NOERROR aa | fd00--7.bare.pod.cluster.local. 30 AAAA fd00::7");
    expect_answer(zone, "10-2-3.default.pod.cluster.local", DNS_A, NONE);
    expect_answer(zone, "10-2-3-256.default.pod.cluster.local", DNS_A, NONE);
    expect_answer(zone, "10-2-3-4.other.pod.cluster.local", DNS_A, NONE);
    expect_answer(zone, "x.10-2-3-4.default.pod.cluster.local", DNS_A, NONE);
}

static void addresses_lead_back_to_names(void **state)
{
    expect_answer(zone, "20.0.96.10.in-addr.arpa", DNS_PTR, "NOERROR aa | 20.0.96.10.in-addr.arpa. 30 PTR web." S ".");
    expect_answer(zone, "1.0.1.10.in-addr.arpa", DNS_PTR, "NOERROR aa | 1.0.1.10.in-addr.arpa. 30 PTR db-0.db." S ".");
    expect_answer(zone, "3.0.1.10.IN-ADDR.arpa", DNS_PTR,
                  "NOERROR aa | 3.0.1.10.IN-ADDR.arpa. 30 PTR 10-1-0-3.db." S ". | 3.0.1.10.IN-ADDR.arpa. 30 PTR 10-1-0-3.all." S ".");
    expect_answer(zone, "0.2.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.f.ip6.arpa", DNS_PTR,
                  "NOERROR aa | 0.2.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.f.ip6.arpa. 30 PTR web." S ".");
}

static void other_names_go_upstream(void **state)
{
    static const char *const names[] = {
        "www.example.com", "local", ".", "xcluster.local", "9.0.1.10.in-addr.arpa", "0.96.10.in-addr.arpa", "020.0.96.10.in-addr.arpa",
        "x.0.96.10.in-addr.arpa", "0.2.d.f.ip6.arpa", "cluster.local.example.com",
    };
    for (size_t i = 0; i < KP_ARRAY_LEN(names); i++)
        expect_answer(zone, names[i], DNS_PTR, "FORWARD");
    expect_answer(zone, "20.0.96.10.in-addr.arpa", DNS_A, "FORWARD");
}

static void apex_and_version(void **state)
{
    expect_answer(zone, "dns-version.cluster.local", DNS_TXT, "NOERROR aa | dns-version.cluster.local. 30 TXT \"1.1.0\"");
    expect_answer(zone, "dns-version.cluster.local", DNS_A, NODATA);
    expect_answer(zone, "cluster.local", DNS_NS, "NOERROR aa | cluster.local. 30 NS ns.dns.cluster.local.");
    expect_answer(zone, "cluster.local", DNS_SOA, "NOERROR aa | cluster.local. 30 SOA ns.dns.cluster.local. hostmaster.cluster.local.");
    expect_answer(zone, "ns.dns.cluster.local", DNS_A, "NOERROR aa | ns.dns.cluster.local. 30 A 10.96.0.10");
}

static void any_is_answered_with_hinfo(void **state)
{
    expect_answer(zone, "web." S, DNS_ANY, "NOERROR aa | web." S ". 3600 HINFO \"RFC8482\"\"\"");
    expect_answer(zone, "www.example.com", DNS_ANY, "NOERROR | www.example.com. 3600 HINFO \"RFC8482\"\"\"");
    expect_answer(zone, "none." S, DNS_ANY, NONE);
}

static void zone_transfers_are_refused(void **state)
{
    expect_answer(zone, "cluster.local", DNS_AXFR, "REFUSED");
    expect_answer(zone, "cluster.local", DNS_IXFR, "REFUSED");
}

static void zone_names_fail_until_synced(void **state)
{
    struct kp_error error = {0};
    KP_AUTO(dns_zone_free) struct dns_zone *young = dns_zone_new("cluster.local", &error);
    expect_answer(young, "web." S, DNS_A, "SERVFAIL");
    expect_answer(young, "www.example.com", DNS_A, "FORWARD");
    dns_zone_set_synced(young);
    expect_answer(young, "web." S, DNS_A, NONE);
}

static void changes_replace_and_remove(void **state)
{
    fixture_put(zone, "{'metadata':{'name':'web','namespace':'default'},'spec':{'clusterIP':'10.96.0.30'}}", NULL, 0);
    expect_answer(zone, "web." S, DNS_A, "NOERROR aa | web." S ". 30 A 10.96.0.30");
    expect_answer(zone, "20.0.96.10.in-addr.arpa", DNS_PTR, "FORWARD");
    expect_answer(zone, "30.0.96.10.in-addr.arpa", DNS_PTR, "NOERROR aa | 30.0.96.10.in-addr.arpa. 30 PTR web." S ".");
    dns_zone_put_service(zone, "default", "web", NULL);
    expect_answer(zone, "web." S, DNS_A, NONE);
    expect_answer(zone, "30.0.96.10.in-addr.arpa", DNS_PTR, "FORWARD");
    dns_zone_put_service(zone, "default", "never-was", NULL);
    dns_zone_put_namespace(zone, "bare", false);
    expect_answer(zone, "bare.svc.cluster.local", DNS_A, NONE);
    dns_zone_put_service(zone, "kube-system", "kube-dns", NULL);
    expect_answer(zone, "kube-system.svc.cluster.local", DNS_A, NONE);
    dns_zone_put_namespace(zone, "never-was", false);
}

/* 300 endpoints: over UDP as many as fit and TC, over TCP all of them. */
static void answers_that_do_not_fit_are_cut_at_a_record(void **state)
{
    KP_AUTO_BUF struct kp_buf slice = {0};
    kp_buf_puts(&slice, "{'metadata':{'name':'big-1','namespace':'default','labels':{'kubernetes.io/service-name':'big'}},'addressType':'IPv4',"
                        "'ports':[{'name':'p','port':1}],'endpoints':[");
    for (int i = 0; i < 300; i++)
        kp_buf_printf(&slice, "%s{'addresses':['10.9.%d.%d']}", i ? "," : "", i / 256, i % 256);
    kp_buf_puts(&slice, "]}");
    const char *const slices[] = {slice.data};
    fixture_put(zone, "{'metadata':{'name':'big','namespace':'default'},'spec':{'clusterIP':'None'}}", slices, 1);
    const struct {
        size_t cap, records;
        uint16_t payload, type;
    } cases[] = {
        {512, (512 - DNS_HEADER_LEN - 31 - 4) / 16, 0, DNS_A}, {512, (512 - DNS_HEADER_LEN - 31 - 4 - DNS_OPT_LEN) / 16, 512, DNS_A},
        {1232, (1232 - DNS_HEADER_LEN - 31 - 4 - DNS_OPT_LEN) / 16, 1232, DNS_A}, {DNS_TCP_MAX, 300, 0, DNS_A}, {DNS_TCP_MAX, 300, 4096, DNS_SRV},
    };
    for (size_t i = 0; i < KP_ARRAY_LEN(cases); i++) {
        char *got = fixture_ask_limit(zone, "big." S, cases[i].type, cases[i].payload, 0, cases[i].cap);
        size_t records = 0;
        char *end = strstr(got, " / additional");
        for (char *at = got; (at = strstr(at, " | ")) && (!end || at < end); at++)
            records++;
        assert_int_equal(records, cases[i].records);
        assert_int_equal(strstr(got, " tc |") != NULL, cases[i].records < 300);
        free(got);
    }
}

static void domain_must_be_a_name(void **state)
{
    struct kp_error error = {0};
    assert_null(dns_zone_new("", &error));
    assert_int_equal(error.code, KP_EINVALID);
    assert_null(dns_zone_new("a..b", &error));
    KP_AUTO(dns_zone_free) struct dns_zone *other = dns_zone_new("K8S.example.org.", &error);
    assert_non_null(other);
    dns_zone_set_synced(other);
    expect_answer(other, "dns-version.k8s.example.org", DNS_TXT, "NOERROR aa | dns-version.k8s.example.org. 30 TXT \"1.1.0\"");
    expect_answer(other, "web." S, DNS_A, "FORWARD");
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(cluster_ip_service_has_its_addresses), T(name_without_records_of_a_type_is_no_data), T(nodes_of_the_tree_exist),
        T(unknown_names_do_not_exist), T(names_are_compared_without_case_and_given_back_as_asked),
        T(headless_service_has_every_ready_endpoint_once), T(rotation_turns_the_order), T(not_ready_endpoints_are_published_when_wanted),
        T(endpoints_have_names_by_host_or_address), T(named_ports_have_srv_records), T(service_name_has_srv_records_of_all_ports),
        T(external_name_is_an_alias), T(aliases_in_a_circle_fail), T(pods_have_names_by_address), T(addresses_lead_back_to_names),
        T(other_names_go_upstream), T(apex_and_version), T(any_is_answered_with_hinfo), T(zone_transfers_are_refused),
        T(zone_names_fail_until_synced), T(changes_replace_and_remove), T(answers_that_do_not_fit_are_cut_at_a_record), T(domain_must_be_a_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
