/* kube-proxy's pure core: rule sets from Services and slices, scripts between them, and nft's own opinion of the scripts. */
#include "lib/nft/nft.h"
#include "nodeimage/kube-proxy/health.h"
#include "nodeimage/kube-proxy/proxy.h"

#include <errno.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

static struct kp_arena *arena;

static struct k8s_service *service(const char *name, const char *ip, int32_t port)
{
    struct k8s_service *s = KP_OBJECT_NEW(arena, k8s_service);
    s->metadata->name = name;
    s->metadata->namespace = "default";
    s->spec->type = "ClusterIP";
    s->spec->cluster_ip = ip;
    struct k8s_service_port *p = KP_LIST_ADD(arena, &s->spec->ports);
    p->port = port;
    p->protocol = "TCP";
    return s;
}

static struct k8s_endpoint_slice *slice(const char *name, int32_t port)
{
    struct k8s_endpoint_slice *s = KP_OBJECT_NEW(arena, k8s_endpoint_slice);
    s->metadata->namespace = "default";
    s->metadata->name = name;
    s->address_type = "IPv4";
    kp_string_map_set(arena, &s->metadata->labels, "kubernetes.io/service-name", name);
    struct k8s_discovery_endpoint_port *p = KP_LIST_ADD(arena, &s->ports);
    p->protocol = "TCP";
    KP_SET(p, port, port);
    return s;
}

static void endpoint(struct k8s_endpoint_slice *s, const char *address, const char *node, bool ready)
{
    struct k8s_endpoint *e = KP_LIST_ADD(arena, &s->endpoints);
    kp_string_list_add(arena, &e->addresses, address);
    e->node_name = node;
    e->conditions = KP_OBJECT_NEW(arena, k8s_endpoint_conditions);
    KP_SET(e->conditions, ready, ready);
}

static struct proxy_rules *build(const struct k8s_service *const *services, size_t n_services, const struct k8s_endpoint_slice *const *slices,
                                 size_t n_slices)
{
    const struct proxy_input input = {services, n_services, slices, n_slices, "n1", "10.244.0.0/16"};
    return proxy_rules_build(&input);
}

static char *script(const struct proxy_rules *old, const struct proxy_rules *new)
{
    struct kp_buf out = {0};
    proxy_rules_script(old, new, &out);
    return out.data ? kp_buf_take(&out) : kp_strdup("");
}

static void cluster_ip_leads_to_ready_endpoints_only(void **state)
{
    const struct k8s_service *services[] = {service("web", "10.96.0.5", 80)};
    struct k8s_endpoint_slice *s = slice("web", 8080);
    endpoint(s, "10.244.1.2", "n1", true);
    endpoint(s, "10.244.2.2", "n2", false);
    endpoint(s, "10.244.2.3", "n2", true);
    const struct k8s_endpoint_slice *slices[] = {s};
    struct proxy_rules *rules = build(services, 1, slices, 1);
    KP_AUTO_FREE char *text = script(NULL, rules);
    assert_non_null(strstr(text, "add element ip kube-proxy service-ips { 10.96.0.5 . tcp . 80 : goto svc-"));
    assert_non_null(strstr(text, "map { 0 : 10.244.1.2 . 8080, 1 : 10.244.2.3 . 8080 }"));
    assert_null(strstr(text, "10.244.2.2"));
    assert_non_null(strstr(text, "hairpin { 10.244.1.2 . 10.244.1.2 }"));
    proxy_rules_free(rules);
}

static void service_without_endpoints_is_rejected(void **state)
{
    struct k8s_service *web = service("web", "10.96.0.5", 80);
    web->spec->ports.items[0].node_port = 30080;
    const struct k8s_service *services[] = {web};
    struct proxy_rules *rules = build(services, 1, NULL, 0);
    KP_AUTO_FREE char *text = script(NULL, rules);
    assert_non_null(strstr(text, "add element ip kube-proxy no-endpoints { 10.96.0.5 . tcp . 80 }"));
    assert_non_null(strstr(text, "add element ip kube-proxy no-endpoints-nodeports { tcp . 30080 }"));
    assert_null(strstr(text, "service-ips { 10"));
    proxy_rules_free(rules);
}

static void local_policy_keeps_traffic_on_the_node(void **state)
{
    struct k8s_service *web = service("web", "10.96.0.5", 80);
    web->spec->ports.items[0].node_port = 30080;
    web->spec->external_traffic_policy = "Local";
    struct k8s_endpoint_slice *s = slice("web", 8080);
    endpoint(s, "10.244.2.2", "n2", true);
    const struct k8s_service *services[] = {web};
    const struct k8s_endpoint_slice *slices[] = {s};
    struct proxy_rules *rules = build(services, 1, slices, 1);
    KP_AUTO_FREE char *text = script(NULL, rules);
    const char *external = strstr(text, "add rule ip kube-proxy ext-");
    assert_non_null(external);
    assert_non_null(strstr(external, " drop\n"));
    proxy_rules_free(rules);
}

static void source_ranges_guard_the_load_balancers_address_alone(void **state)
{
    struct k8s_service *web = service("web", "10.96.0.5", 80);
    web->spec->type = "LoadBalancer";
    web->spec->ports.items[0].node_port = 30080;
    struct k8s_load_balancer_ingress *ingress = KP_LIST_ADD(arena, &web->status->load_balancer->ingress);
    ingress->ip = "192.0.2.10";
    ingress->ip_mode = "VIP";
    kp_string_list_add(arena, &web->spec->load_balancer_source_ranges, "198.51.100.0/24");
    kp_string_list_add(arena, &web->spec->load_balancer_source_ranges, "2001:db8::/32");
    struct k8s_endpoint_slice *s = slice("web", 8080);
    endpoint(s, "10.244.1.2", "n1", true);
    const struct k8s_service *services[] = {web};
    const struct k8s_endpoint_slice *slices[] = {s};
    struct proxy_rules *rules = build(services, 1, slices, 1);
    KP_AUTO_FREE char *text = script(NULL, rules);
    assert_non_null(strstr(text, "ip saddr 198.51.100.0/24 goto ext-"));
    assert_non_null(strstr(text, "service-ips { 192.0.2.10 . tcp . 80 : goto fw-"));
    assert_non_null(strstr(text, "service-ips { 10.96.0.5 . tcp . 80 : goto svc-"));
    assert_non_null(strstr(text, "service-nodeports { tcp . 30080 : goto ext-"));
    assert_null(strstr(text, "2001"));
    proxy_rules_free(rules);
    web->spec->load_balancer_source_ranges.items[1] = "0.0.0.0/0";
    rules = build(services, 1, slices, 1);
    KP_AUTO_FREE char *open = script(NULL, rules);
    assert_null(strstr(open, "/0 goto"));
    proxy_rules_free(rules);
}

static void health_checks_count_this_nodes_ready_endpoints(void **state)
{
    struct k8s_service *web = service("web", "10.96.0.5", 80), *other = service("other", "10.96.0.6", 80);
    web->spec->type = "LoadBalancer";
    web->spec->external_traffic_policy = "Local";
    KP_SET(web->spec, health_check_node_port, 30100);
    struct k8s_endpoint_slice *one = slice("web", 8080), *two = slice("web", 9090), *others = slice("other", 8080);
    endpoint(one, "10.244.1.2", "n1", true);
    endpoint(one, "10.244.1.3", "n1", false);
    endpoint(one, "10.244.2.2", "n2", true);
    endpoint(two, "10.244.1.2", "n1", true); /* the same pod by another port */
    endpoint(others, "10.244.1.9", "n1", true);
    const struct k8s_service *services[] = {other, web};
    const struct k8s_endpoint_slice *slices[] = {one, two, others};
    const struct proxy_input input = {services, 2, slices, 3, "n1", NULL};
    struct proxy_health_port *ports;
    KP_AUTO_BUF struct kp_buf body = {0};
    assert_int_equal(proxy_health_ports(&input, arena, &ports), 1);
    assert_int_equal(ports[0].port, 30100);
    assert_int_equal(proxy_health_status(&ports[0], &body), 200);
    assert_string_equal(body.data, "{\"service\":{\"namespace\":\"default\",\"name\":\"web\"},\"localEndpoints\":1,\"serviceProxyHealthy\":true}");
    const struct proxy_input elsewhere = {services, 2, slices, 3, "n3", NULL};
    assert_int_equal(proxy_health_ports(&elsewhere, arena, &ports), 1);
    body.len = 0;
    assert_int_equal(proxy_health_status(&ports[0], &body), 503);
}

static void words_that_are_no_addresses_do_not_get_into_the_script(void **state)
{
    struct k8s_service *web = service("web", "10.96.0.5", 80);
    web->spec->type = "LoadBalancer";
    kp_string_list_add(arena, &web->spec->external_ips, "1.2.3.4 }; flush ruleset");
    kp_string_list_add(arena, &web->spec->external_ips, "2001:db8::1");
    struct k8s_load_balancer_ingress *ingress = KP_LIST_ADD(arena, &web->status->load_balancer->ingress);
    ingress->ip = "192.0.2.10";
    kp_string_list_add(arena, &web->spec->load_balancer_source_ranges, "0.0.0.0/1; flush ruleset");
    struct k8s_endpoint_slice *s = slice("web", 8080);
    endpoint(s, "10.244.1.2", "n1", true);
    const struct k8s_service *services[] = {web};
    const struct k8s_endpoint_slice *slices[] = {s};
    struct proxy_rules *rules = build(services, 1, slices, 1);
    KP_AUTO_FREE char *text = script(NULL, rules);
    assert_null(strstr(text, "ruleset"));
    assert_null(strstr(text, "2001"));
    proxy_rules_free(rules);
}

static void headless_and_external_names_make_no_rules(void **state)
{
    struct k8s_service *external = service("ext", "", 80);
    external->spec->type = "ExternalName";
    const struct k8s_service *services[] = {service("headless", "None", 80), external};
    struct proxy_rules *rules = build(services, 2, NULL, 0);
    assert_int_equal(proxy_rules_services(rules), 0);
    proxy_rules_free(rules);
}

static void equal_rule_sets_need_no_script_and_a_change_touches_its_service_alone(void **state)
{
    const struct k8s_service *services[] = {service("a", "10.96.0.5", 80), service("b", "10.96.0.6", 80)};
    struct k8s_endpoint_slice *sa = slice("a", 8080), *sb = slice("b", 8080);
    endpoint(sa, "10.244.1.2", "n1", true);
    endpoint(sb, "10.244.1.3", "n1", true);
    const struct k8s_endpoint_slice *slices[] = {sa, sb};
    struct proxy_rules *one = build(services, 2, slices, 2), *two = build(services, 2, slices, 2);
    KP_AUTO_FREE char *none = script(one, two);
    assert_string_equal(none, "");
    endpoint(sb, "10.244.2.9", "n2", true);
    struct proxy_rules *three = build(services, 2, slices, 2);
    KP_AUTO_FREE char *delta = script(two, three);
    assert_non_null(strstr(delta, "flush chain"));
    assert_null(strstr(delta, "10.244.1.2"));
    assert_null(strstr(delta, "delete table"));
    proxy_rules_free(one);
    proxy_rules_free(two);
    proxy_rules_free(three);
}

/* In a network namespace of its own: the kernel takes the full script, a delta, and the removal of everything. */
static void kernel_takes_full_and_partial_scripts(void **state)
{
    if (unshare(CLONE_NEWNET) != 0) {
        print_message("no network namespaces here: %s\n", strerror(errno));
        skip();
    }
    struct k8s_service *web = service("web", "10.96.0.5", 80), *sticky = service("sticky", "10.96.0.6", 80);
    web->spec->ports.items[0].node_port = 30080;
    kp_string_list_add(arena, &web->spec->external_ips, "192.0.2.7");
    sticky->spec->session_affinity = "ClientIP";
    kp_string_list_add(arena, &sticky->spec->load_balancer_source_ranges, "198.51.100.0/24");
    struct k8s_load_balancer_ingress *ingress = KP_LIST_ADD(arena, &sticky->status->load_balancer->ingress);
    ingress->ip = "192.0.2.11";
    sticky->spec->external_traffic_policy = "Local";
    sticky->spec->ports.items[0].node_port = 30081;
    struct k8s_endpoint_slice *sw = slice("web", 8080), *ss = slice("sticky", 8080);
    endpoint(sw, "10.244.1.2", "n1", true);
    endpoint(sw, "10.244.2.2", "n2", true);
    endpoint(ss, "10.244.1.4", "n1", true);
    endpoint(ss, "10.244.2.4", "n2", true);
    const struct k8s_service *services[] = {web, sticky};
    const struct k8s_endpoint_slice *slices[] = {sw, ss};
    struct proxy_rules *sets[] = {build(services, 2, NULL, 0), build(services, 2, slices, 2), build(services, 1, slices, 2), build(NULL, 0, NULL, 0)};
    struct nft *nft = nft_new();
    const struct proxy_rules *before = NULL;
    for (size_t i = 0; i < KP_ARRAY_LEN(sets); i++) {
        struct kp_error error = {0};
        KP_AUTO_FREE char *text = script(before, sets[i]);
        if (nft_apply(nft, text, &error) < 0)
            fail_msg("step %zu: %s\n%s", i, error.message, text);
        before = sets[i];
    }
    for (size_t i = 0; i < KP_ARRAY_LEN(sets); i++)
        proxy_rules_free(sets[i]);
    nft_free(nft);
}

static int set_up(void **state)
{
    arena = kp_arena_new(0);
    return 0;
}

static int tear_down(void **state)
{
    kp_arena_free(arena);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cluster_ip_leads_to_ready_endpoints_only),
        cmocka_unit_test(service_without_endpoints_is_rejected),
        cmocka_unit_test(local_policy_keeps_traffic_on_the_node),
        cmocka_unit_test(source_ranges_guard_the_load_balancers_address_alone),
        cmocka_unit_test(health_checks_count_this_nodes_ready_endpoints),
        cmocka_unit_test(words_that_are_no_addresses_do_not_get_into_the_script),
        cmocka_unit_test(headless_and_external_names_make_no_rules),
        cmocka_unit_test(equal_rule_sets_need_no_script_and_a_change_touches_its_service_alone),
        cmocka_unit_test(kernel_takes_full_and_partial_scripts),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
