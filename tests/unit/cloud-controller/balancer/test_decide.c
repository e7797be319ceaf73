/* What the service controller decides for a Service: finalizer, address, and both back again. */
#include "cloud-controller/balancer/balancer.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

static struct kp_arena *arena;
static struct vip_pool pool;

static int setup(void **state)
{
    arena = kp_arena_new(0);
    return vip_pool_parse("10.0.0.1-10.0.0.2", &pool, NULL);
}

static int teardown(void **state)
{
    kp_arena_free(arena);
    return 0;
}

static struct k8s_service *service(const char *name, const char *address)
{
    struct k8s_service *s = KP_OBJECT_NEW(arena, k8s_service);
    s->metadata->name = name;
    s->metadata->namespace = "default";
    s->spec->type = "LoadBalancer";
    if (!address)
        return s;
    struct k8s_load_balancer_ingress *ingress = KP_LIST_ADD(arena, &s->status->load_balancer->ingress);
    ingress->ip = address;
    ingress->ip_mode = "VIP";
    kp_string_list_add(arena, &s->metadata->finalizers, BALANCER_FINALIZER);
    return s;
}

static struct balancer_decision decide(const struct k8s_service *s, const struct k8s_service *other, const struct kp_strmap *given)
{
    const struct k8s_service *all[] = {s, other};
    const struct balancer_input input = {.pool = &pool, .service = s, .all = all, .n_all = other ? 2 : 1, .given = given};
    struct balancer_decision d;
    balancer_decide(&input, arena, &d);
    return d;
}

static void a_new_service_gets_the_finalizer_and_the_first_free_address(void **state)
{
    struct balancer_decision d = decide(service("a", NULL), NULL, NULL);
    assert_true(d.add_finalizer && d.set_status && !d.remove_finalizer);
    assert_string_equal(d.address, "10.0.0.1");
    d = decide(service("a", NULL), service("b", "10.0.0.1"), NULL);
    assert_string_equal(d.address, "10.0.0.2");
}

static void an_address_just_given_out_is_not_given_again(void **state)
{
    struct kp_strmap *given = kp_strmap_new();
    char owner[] = "default/b", own[] = "default/a";
    kp_strmap_put(given, "10.0.0.1", owner);
    assert_string_equal(decide(service("a", NULL), NULL, given).address, "10.0.0.2");
    kp_strmap_put(given, "10.0.0.1", own);
    assert_string_equal(decide(service("a", NULL), NULL, given).address, "10.0.0.1");
    kp_strmap_free(given, NULL);
}

static void what_it_has_stays(void **state)
{
    struct balancer_decision d = decide(service("a", "10.0.0.2"), NULL, NULL);
    assert_false(d.add_finalizer || d.set_status || d.remove_finalizer);
    assert_string_equal(d.address, "10.0.0.2");
    /* but not what another has, or what is not of the pool */
    assert_string_equal(decide(service("a", "10.0.0.2"), service("b", "10.0.0.2"), NULL).address, "10.0.0.1");
    d = decide(service("a", "192.0.2.1"), NULL, NULL);
    assert_true(d.set_status);
    assert_string_equal(d.address, "10.0.0.1");
}

static void port_of(struct k8s_service *s, int32_t number)
{
    struct k8s_service_port *port = KP_LIST_ADD(arena, &s->spec->ports);
    port->port = number;
    port->protocol = "TCP";
}

static void services_that_say_so_share_an_address_unless_ports_or_policies_clash(void **state)
{
    struct k8s_service *a = service("a", NULL), *b = service("b", "10.0.0.2");
    port_of(a, 80);
    port_of(b, 443);
    kp_string_map_set(arena, &a->metadata->annotations, BALANCER_SHARE_ANNOTATION, "x");
    assert_string_equal(decide(a, b, NULL).address, "10.0.0.1");
    kp_string_map_set(arena, &b->metadata->annotations, BALANCER_SHARE_ANNOTATION, "x");
    assert_string_equal(decide(a, b, NULL).address, "10.0.0.2");
    struct kp_strmap *given = kp_strmap_new();
    char owner[] = "default/b";
    kp_strmap_put(given, "10.0.0.2", owner);
    assert_string_equal(decide(a, b, given).address, "10.0.0.2");
    kp_strmap_free(given, NULL);
    a->spec->load_balancer_ip = "10.0.0.2";
    assert_null(decide(a, b, NULL).problem);
    b->spec->external_traffic_policy = "Local";
    assert_string_equal(decide(a, b, NULL).problem, "address 10.0.0.2 belongs to Service default/b");
    a->spec->load_balancer_ip = NULL;
    b->spec->external_traffic_policy = "Cluster";
    port_of(b, 80);
    assert_string_equal(decide(a, b, NULL).address, "10.0.0.1");
    b->spec->ports.len = 1;
    b->metadata->namespace = "other";
    assert_string_equal(decide(a, b, NULL).address, "10.0.0.1");
}

static void an_empty_pool_and_a_taken_wish_are_told(void **state)
{
    struct k8s_service *s = service("a", NULL);
    s->spec->load_balancer_ip = "10.0.0.2";
    assert_string_equal(decide(s, NULL, NULL).address, "10.0.0.2");
    struct balancer_decision d = decide(s, service("b", "10.0.0.2"), NULL);
    assert_string_equal(d.problem, "address 10.0.0.2 belongs to Service default/b");
    assert_string_equal(d.address, "");
    s->spec->load_balancer_ip = "10.0.0.9";
    assert_non_null(strstr(decide(s, NULL, NULL).problem, "10.0.0.9 is not in the pool"));
    assert_int_equal(vip_pool_parse("10.0.0.1", &pool, NULL), 0);
    d = decide(service("a", NULL), service("b", "10.0.0.1"), NULL);
    assert_non_null(strstr(d.problem, "all 1 addresses of the pool are taken"));
    assert_false(d.set_status);
}

static void one_that_goes_or_changes_gives_back_the_address_then_the_finalizer(void **state)
{
    struct k8s_service *s = service("a", "10.0.0.1");
    s->metadata->deletion_timestamp = KP_TIME_OF(1);
    struct balancer_decision d = decide(s, NULL, NULL);
    assert_true(d.remove_finalizer && d.set_status);
    assert_string_equal(d.address, "");
    s = service("a", "10.0.0.1");
    s->spec->type = "ClusterIP";
    assert_true(decide(s, NULL, NULL).remove_finalizer);
    s = service("a", NULL);
    s->spec->type = "ClusterIP";
    d = decide(s, NULL, NULL);
    assert_false(d.remove_finalizer || d.set_status || d.add_finalizer);
}

static void a_service_of_another_class_is_left_alone(void **state)
{
    struct k8s_service *s = service("a", "10.0.0.1");
    s->spec->load_balancer_class = "example.com/other";
    struct balancer_decision d = decide(s, NULL, NULL);
    assert_false(d.add_finalizer || d.remove_finalizer || d.set_status);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_new_service_gets_the_finalizer_and_the_first_free_address, setup, teardown),
        cmocka_unit_test_setup_teardown(an_address_just_given_out_is_not_given_again, setup, teardown),
        cmocka_unit_test_setup_teardown(what_it_has_stays, setup, teardown),
        cmocka_unit_test_setup_teardown(services_that_say_so_share_an_address_unless_ports_or_policies_clash, setup, teardown),
        cmocka_unit_test_setup_teardown(an_empty_pool_and_a_taken_wish_are_told, setup, teardown),
        cmocka_unit_test_setup_teardown(one_that_goes_or_changes_gives_back_the_address_then_the_finalizer, setup, teardown),
        cmocka_unit_test_setup_teardown(a_service_of_another_class_is_left_alone, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
