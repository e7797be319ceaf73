/* What a Service, its annotations and those who share with it ask of the cloud's balancer. */
#include "cloud-controller/service/service.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

static struct kp_arena *arena;

static int setup(void **state)
{
    arena = kp_arena_new(0);
    return 0;
}

static int teardown(void **state)
{
    kp_arena_free(arena);
    return 0;
}

static void add_port(struct k8s_service *s, const char *protocol, int port, int node_port)
{
    struct k8s_service_port *p = KP_LIST_ADD(arena, &s->spec->ports);
    p->protocol = protocol;
    p->port = port;
    p->node_port = node_port;
}

static struct k8s_service *service(const char *name, int port)
{
    struct k8s_service *s = KP_OBJECT_NEW(arena, k8s_service);
    s->metadata->name = name;
    s->metadata->namespace = "default";
    s->metadata->uid = kp_arena_printf(arena, "uid-%s", name);
    s->metadata->resource_version = "5";
    s->spec->type = "LoadBalancer";
    s->spec->session_affinity = "None";
    add_port(s, "TCP", port, 30000 + port);
    return s;
}

static void annotate(struct k8s_service *s, const char *key, const char *value)
{
    kp_string_map_set(arena, &s->metadata->annotations, key, value);
}

static struct k8s_node *node(const char *name, const char *address)
{
    struct k8s_node *n = KP_OBJECT_NEW(arena, k8s_node);
    n->metadata->name = name;
    if (address) {
        struct k8s_node_address *a = KP_LIST_ADD(arena, &n->status->addresses);
        a->type = "InternalIP";
        a->address = address;
    }
    return n;
}

static int make(const struct k8s_service *s, const struct k8s_service *other, struct cloud_balancer_spec *spec, struct kp_error *error)
{
    const struct k8s_service *all[] = {s, other};
    const struct k8s_node *nodes[] = {node("w", "10.0.0.5")};
    const struct service_input input = {.cluster_uid = "u", .cloud = "fake", .service = s, .all = all, .n_all = other ? 2 : 1, .nodes = nodes, .n_nodes = 1};
    *error = (struct kp_error){0};
    return service_make_spec(&input, arena, spec, error);
}

static void a_plain_service_has_a_listener_a_port_and_the_nodes_behind(void **state)
{
    struct k8s_service *s = service("web", 80);
    struct cloud_balancer_spec spec;
    struct kp_error error;
    add_port(s, "UDP", 80, 30081);
    assert_int_equal(make(s, NULL, &spec, &error), 0);
    assert_string_equal(spec.name, "svc-uid-web");
    assert_string_equal(spec.cluster_uid, "u");
    assert_string_equal(spec.description, "default/web");
    assert_int_equal(spec.n_listeners, 2);
    assert_true(spec.listeners[0].protocol == CLOUD_TCP && spec.listeners[0].port == 80 && spec.listeners[0].target_port == 30080);
    assert_true(spec.listeners[1].protocol == CLOUD_UDP && spec.listeners[1].port == 80 && spec.listeners[1].target_port == 30081);
    assert_int_equal(spec.n_targets, 1);
    assert_string_equal(spec.targets[0].machine, "w");
    assert_string_equal(spec.targets[0].address, "10.0.0.5");
    assert_true(spec.algorithm == CLOUD_ROUND_ROBIN && spec.health.kind == CLOUD_HEALTH_CONNECT && spec.health.port == 0);
    assert_true(!spec.internal && !spec.proxy_protocol && !spec.sticky && !spec.address && spec.n_source_ranges == 0);
}

static void local_policy_is_checked_where_kube_proxy_tells_of_endpoints(void **state)
{
    struct k8s_service *s = service("web", 80);
    struct cloud_balancer_spec spec;
    struct kp_error error;
    s->spec->external_traffic_policy = "Local";
    assert_int_equal(make(s, NULL, &spec, &error), KP_EINVALID);
    s->spec->health_check_node_port = 31000;
    annotate(s, "kprov.dev/load-balancer-health-check-path", "/mine");
    annotate(s, "service.beta.kubernetes.io/aws-load-balancer-healthcheck-interval", "7");
    assert_int_equal(make(s, NULL, &spec, &error), 0);
    assert_true(spec.health.kind == CLOUD_HEALTH_HTTP && spec.health.port == 31000 && spec.health.interval_s == 7);
    assert_string_equal(spec.health.path, "/healthz");
}

static void annotations_of_all_clouds_are_understood(void **state)
{
    static const struct {
        const char *key, *value;
        bool internal, proxy;
    } rows[] = {
        {"kprov.dev/load-balancer-internal", "true", true, false},
        {"service.beta.kubernetes.io/openstack-internal-load-balancer", "true", true, false},
        {"service.beta.kubernetes.io/aws-load-balancer-internal", "0.0.0.0/0", true, false},
        {"service.beta.kubernetes.io/aws-load-balancer-scheme", "internal", true, false},
        {"service.beta.kubernetes.io/aws-load-balancer-scheme", "internet-facing", false, false},
        {"load-balancer.hetzner.cloud/disable-public-network", "true", true, false},
        {"kprov.dev/load-balancer-internal", "false", false, false},
        {"kprov.dev/load-balancer-proxy-protocol", "true", false, true},
        {"loadbalancer.openstack.org/proxy-protocol", "v2", false, true},
        {"service.beta.kubernetes.io/aws-load-balancer-proxy-protocol", "*", false, true},
        {"load-balancer.hetzner.cloud/uses-proxyprotocol", "true", false, true},
    };
    for (size_t i = 0; i < KP_ARRAY_LEN(rows); i++) {
        struct k8s_service *s = service("web", 80);
        struct cloud_balancer_spec spec;
        struct kp_error error;
        annotate(s, rows[i].key, rows[i].value);
        assert_int_equal(make(s, NULL, &spec, &error), 0);
        assert_int_equal(spec.internal, rows[i].internal);
        assert_int_equal(spec.proxy_protocol, rows[i].proxy);
    }
}

static void health_checks_and_algorithm_can_be_chosen(void **state)
{
    struct k8s_service *s = service("web", 80);
    struct cloud_balancer_spec spec;
    struct kp_error error;
    annotate(s, "kprov.dev/load-balancer-algorithm", "least-connections");
    annotate(s, "kprov.dev/load-balancer-health-check-path", "/ok");
    annotate(s, "kprov.dev/load-balancer-health-check-port", "8080");
    annotate(s, "kprov.dev/load-balancer-health-check-interval", "15s");
    annotate(s, "kprov.dev/load-balancer-health-check-timeout", "3");
    annotate(s, "kprov.dev/load-balancer-health-check-healthy-threshold", "2");
    annotate(s, "kprov.dev/load-balancer-health-check-unhealthy-threshold", "4");
    assert_int_equal(make(s, NULL, &spec, &error), 0);
    assert_int_equal(spec.algorithm, CLOUD_LEAST_CONNECTIONS);
    assert_true(spec.health.kind == CLOUD_HEALTH_HTTP && spec.health.port == 8080 && spec.health.interval_s == 15 && spec.health.timeout_s == 3 &&
                spec.health.healthy == 2 && spec.health.unhealthy == 4);
    assert_string_equal(spec.health.path, "/ok");
}

static void what_cannot_be_is_refused_by_name(void **state)
{
    static const struct {
        const char *key, *value, *text;
    } rows[] = {
        {"kprov.dev/load-balancer-internal", "perhaps", "annotation kprov.dev/load-balancer-internal: \"perhaps\" must be true or false"},
        {"kprov.dev/load-balancer-algorithm", "best", "annotation kprov.dev/load-balancer-algorithm: \"best\" must be round-robin, least-connections or source-ip"},
        {"kprov.dev/load-balancer-health-check-port", "70000", "annotation kprov.dev/load-balancer-health-check-port: \"70000\" must be a number from 1 to 65535"},
        {"kprov.dev/load-balancer-health-check-interval", "1500ms", "annotation kprov.dev/load-balancer-health-check-interval: \"1500ms\" must be seconds from 1 to 3600"},
        {"kprov.dev/load-balancer-health-check-path", "x", "annotation kprov.dev/load-balancer-health-check-path: \"x\" must be a path that begins with /"},
        {"kprov.dev/load-balancer-health-check-protocol", "icmp", "annotation kprov.dev/load-balancer-health-check-protocol: \"icmp\" must be http or tcp"},
        {"service.beta.kubernetes.io/aws-load-balancer-scheme", "x", "annotation service.beta.kubernetes.io/aws-load-balancer-scheme: \"x\" must be internal or internet-facing"},
        {"service.beta.kubernetes.io/load-balancer-source-ranges", "fd00::/8", "source ranges: none of the 1 is of IPv4"},
    };
    struct cloud_balancer_spec spec;
    struct kp_error error;
    for (size_t i = 0; i < KP_ARRAY_LEN(rows); i++) {
        struct k8s_service *s = service("web", 80);
        annotate(s, rows[i].key, rows[i].value);
        assert_int_equal(make(s, NULL, &spec, &error), KP_EINVALID);
        assert_string_equal(error.message, rows[i].text);
    }
    struct k8s_service *s = service("web", 80);
    s->spec->ports.items[0].node_port = 0;
    assert_int_equal(make(s, NULL, &spec, &error), KP_EINVALID);
    assert_string_equal(error.message, "port 80 has no node port, and load balancers of fake reach pods by those only: leave out allocateLoadBalancerNodePorts: false");
    s = service("web", 80);
    s->spec->ports.items[0].protocol = "SCTP";
    assert_int_equal(make(s, NULL, &spec, &error), KP_EINVALID);
    assert_string_equal(error.message, "port 80: load balancers do TCP and UDP, not SCTP");
}

static void source_ranges_never_widen(void **state)
{
    struct k8s_service *s = service("web", 80);
    struct cloud_balancer_spec spec;
    struct kp_error error;
    kp_string_list_add(arena, &s->spec->load_balancer_source_ranges, " 10.0.0.0/8 ");
    kp_string_list_add(arena, &s->spec->load_balancer_source_ranges, "fd00::/8");
    annotate(s, "service.beta.kubernetes.io/load-balancer-source-ranges", "0.0.0.0/0"); /* the field wins */
    assert_int_equal(make(s, NULL, &spec, &error), 0);
    assert_int_equal(spec.n_source_ranges, 1);
    assert_string_equal(spec.source_ranges[0], "10.0.0.0/8");
    s = service("web", 80);
    annotate(s, "service.beta.kubernetes.io/load-balancer-source-ranges", "10.0.0.0/8, 192.0.2.0/24");
    assert_int_equal(make(s, NULL, &spec, &error), 0);
    assert_int_equal(spec.n_source_ranges, 2);
    assert_string_equal(spec.source_ranges[1], "192.0.2.0/24");
}

static void session_affinity_and_a_wanted_address_are_handed_on(void **state)
{
    struct k8s_service *s = service("web", 80);
    struct cloud_balancer_spec spec;
    struct kp_error error;
    s->spec->session_affinity = "ClientIP";
    s->spec->load_balancer_ip = "192.0.2.1";
    assert_int_equal(make(s, NULL, &spec, &error), 0);
    assert_true(spec.sticky);
    assert_string_equal(spec.address, "192.0.2.1");
    annotate(s, "kprov.dev/load-balancer-address", "192.0.2.2");
    assert_int_equal(make(s, NULL, &spec, &error), 0);
    assert_string_equal(spec.address, "192.0.2.2");
}

static void sharers_have_one_balancer_and_the_older_decides(void **state)
{
    struct k8s_service *a = service("a", 80), *b = service("b", 443);
    struct cloud_balancer_spec of_a, of_b;
    struct kp_error error;
    uint64_t shapes[2], targets[2];
    annotate(a, "kprov.dev/share-address", "k");
    annotate(b, "kprov.dev/share-address", "k");
    b->metadata->creation_timestamp = KP_TIME_OF(10);
    assert_int_equal(make(a, b, &of_a, &error), 0);
    assert_int_equal(make(b, a, &of_b, &error), 0);
    assert_true(kp_starts_with(of_a.name, "shr-") && service_is_balancer_name(of_a.name));
    service_fingerprint(&of_a, &shapes[0], &targets[0]);
    service_fingerprint(&of_b, &shapes[1], &targets[1]);
    assert_true(shapes[0] == shapes[1] && targets[0] == targets[1]); /* whoever asks, the same */
    assert_int_equal(of_a.n_listeners, 2);
    annotate(b, "kprov.dev/load-balancer-internal", "true");
    assert_int_equal(make(b, a, &of_b, &error), KP_EINVALID);
    assert_string_equal(error.message, "cannot share the balancer of default/a: they differ in internal or not");
    assert_int_equal(make(a, b, &of_a, &error), 0); /* and takes nothing from the other */
    assert_int_equal(of_a.n_listeners, 1);
}

static void one_that_goes_leaves_the_balancer_to_the_others(void **state)
{
    struct k8s_service *a = service("a", 80), *b = service("b", 443);
    struct cloud_balancer_spec spec;
    struct kp_error error;
    annotate(a, "kprov.dev/share-address", "k");
    annotate(b, "kprov.dev/share-address", "k");
    a->metadata->deletion_timestamp = KP_TIME_OF(1);
    assert_int_equal(make(a, b, &spec, &error), 0);
    assert_int_equal(spec.n_listeners, 1);
    assert_int_equal(spec.listeners[0].port, 443);
    b->metadata->deletion_timestamp = KP_TIME_OF(1);
    assert_int_equal(make(a, b, &spec, &error), KP_ENOTFOUND);
}

static void a_port_is_of_one_sharer_only(void **state)
{
    struct k8s_service *a = service("a", 80), *b = service("b", 80);
    struct cloud_balancer_spec spec;
    struct kp_error error;
    annotate(a, "kprov.dev/share-address", "k");
    annotate(b, "kprov.dev/share-address", "k");
    assert_int_equal(make(a, b, &spec, &error), 0);
    assert_int_equal(make(b, a, &spec, &error), KP_EINVALID);
    assert_string_equal(error.message, "port 80 is taken");
}

static void nodes_that_are_excluded_going_off_or_new_get_nothing(void **state)
{
    static const char *const taints[] = {"ToBeDeletedByClusterAutoscaler", CCM_TAINT_UNINITIALIZED, CCM_TAINT_SHUTDOWN};
    struct cloud_target target;
    struct k8s_node *n = node("w", "10.0.0.5");
    assert_true(service_target_of(n, &target)); /* not ready: the health check decides */
    kp_string_map_set(arena, &n->metadata->labels, "node.kubernetes.io/exclude-from-external-load-balancers", "");
    assert_false(service_target_of(n, &target));
    for (size_t i = 0; i < KP_ARRAY_LEN(taints); i++) {
        n = node("w", "10.0.0.5");
        KP_LIST_ADD(arena, &n->spec->taints)->key = taints[i];
        assert_false(service_target_of(n, &target));
    }
    n = node("w", "10.0.0.5");
    n->metadata->deletion_timestamp = KP_TIME_OF(1);
    assert_false(service_target_of(n, &target));
    assert_false(service_target_of(node("w", NULL), &target));
    assert_false(service_target_of(node("w", "fd00::1"), &target));
}

static void the_class_decides_who_serves(void **state)
{
    struct k8s_service *s = service("web", 80);
    assert_int_equal(service_path_of(s, true), SERVICE_CLOUD);
    assert_int_equal(service_path_of(s, false), SERVICE_SOFTWARE);
    s->spec->load_balancer_class = "kprov.dev/vip";
    assert_int_equal(service_path_of(s, true), SERVICE_SOFTWARE);
    s->spec->load_balancer_class = "example.com/other";
    assert_int_equal(service_path_of(s, true), SERVICE_IGNORED);
}

static void the_status_shows_an_address_or_a_name(void **state)
{
    struct k8s_service *s = service("web", 80);
    const struct cloud_balancer address = {.address = "192.0.2.1", .host_name = "lb.example.com"}, name = {.address = "", .host_name = "lb.example.com"};
    assert_null(service_status_patch(s, NULL, false, arena));
    assert_string_equal(service_status_patch(s, &address, false, arena), "{\"status\":{\"loadBalancer\":{\"ingress\":[{\"ip\":\"192.0.2.1\",\"ipMode\":\"VIP\"}]}}}");
    assert_string_equal(service_status_patch(s, &address, true, arena), "{\"status\":{\"loadBalancer\":{\"ingress\":[{\"ip\":\"192.0.2.1\",\"ipMode\":\"Proxy\"}]}}}");
    assert_string_equal(service_status_patch(s, &name, true, arena), "{\"status\":{\"loadBalancer\":{\"ingress\":[{\"hostname\":\"lb.example.com\"}]}}}");
    struct k8s_load_balancer_ingress *ingress = KP_LIST_ADD(arena, &s->status->load_balancer->ingress);
    ingress->ip = "192.0.2.1";
    ingress->ip_mode = "VIP";
    assert_null(service_status_patch(s, &address, false, arena));
    assert_non_null(service_status_patch(s, &address, true, arena));
    assert_string_equal(service_status_patch(s, NULL, false, arena), "{\"status\":{\"loadBalancer\":{\"ingress\":null}}}");
}

static void the_finalizer_comes_and_goes_among_others(void **state)
{
    struct k8s_service *s = service("web", 80);
    kp_string_list_add(arena, &s->metadata->finalizers, "a/b");
    assert_string_equal(service_finalizer_patch(s, true, arena),
                        "{\"metadata\":{\"resourceVersion\":\"5\",\"finalizers\":[\"a/b\",\"" SERVICE_FINALIZER "\"]}}");
    kp_string_list_add(arena, &s->metadata->finalizers, SERVICE_FINALIZER);
    assert_true(service_has_finalizer(s));
    assert_string_equal(service_finalizer_patch(s, false, arena), "{\"metadata\":{\"resourceVersion\":\"5\",\"finalizers\":[\"a/b\"]}}");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_plain_service_has_a_listener_a_port_and_the_nodes_behind),
        cmocka_unit_test(local_policy_is_checked_where_kube_proxy_tells_of_endpoints),
        cmocka_unit_test(annotations_of_all_clouds_are_understood),
        cmocka_unit_test(health_checks_and_algorithm_can_be_chosen),
        cmocka_unit_test(what_cannot_be_is_refused_by_name),
        cmocka_unit_test(source_ranges_never_widen),
        cmocka_unit_test(session_affinity_and_a_wanted_address_are_handed_on),
        cmocka_unit_test(sharers_have_one_balancer_and_the_older_decides),
        cmocka_unit_test(one_that_goes_leaves_the_balancer_to_the_others),
        cmocka_unit_test(a_port_is_of_one_sharer_only),
        cmocka_unit_test(nodes_that_are_excluded_going_off_or_new_get_nothing),
        cmocka_unit_test(the_class_decides_who_serves),
        cmocka_unit_test(the_status_shows_an_address_or_a_name),
        cmocka_unit_test(the_finalizer_comes_and_goes_among_others),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
