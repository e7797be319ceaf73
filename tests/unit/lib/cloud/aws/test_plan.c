/* What the driver decides by itself: networks over zones, where machines go, what a listener becomes, user data. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "cloud/aws/aws_internal.h"

static void a_vpc_is_cut_into_subnets(void **state)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    assert_string_equal(aws_subnet_cidr("10.128.0.0/16", 3, 0, arena), "10.128.0.0/18");
    assert_string_equal(aws_subnet_cidr("10.128.0.0/16", 3, 3, arena), "10.128.192.0/18");
    assert_null(aws_subnet_cidr("10.128.0.0/16", 3, 4, arena));
    assert_string_equal(aws_subnet_cidr("10.128.0.0/16", 5, 7, arena), "10.128.224.0/19");
    assert_string_equal(aws_subnet_cidr("192.168.7.0/24", 1, 1, arena), "192.168.7.64/26");
    assert_null(aws_subnet_cidr("192.168.7.0/27", 1, 0, arena));
    assert_null(aws_subnet_cidr("nonsense", 1, 0, arena));
}

static void networks_are_checked(void **state)
{
    static const char *const wrong[] = {"10.0.0.0", "10.0.0.0/8", "10.0.0.0/26", "10.0.0/16", "10.0.0.0/16x", "10.0.0.0/-1", "::/64"};
    struct kp_error error = {0};
    for (size_t i = 0; i < KP_ARRAY_LEN(wrong); i++)
        assert_int_equal(aws_check_cidr(wrong[i], &error), KP_EINVALID);
    assert_int_equal(aws_check_cidr("10.0.0.0/16", &error), 0);
    assert_int_equal(aws_check_cidr("172.20.4.0/24", &error), 0);
}

static void a_free_network_overlaps_with_none(void **state)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    struct kp_strings taken = {0};
    assert_string_equal(aws_free_cidr(&taken, arena), "10.128.0.0/16");
    kp_strings_add(&taken, "10.128.3.0/24");
    kp_strings_add(&taken, "10.129.0.0/16");
    kp_strings_add(&taken, "not a network");
    assert_string_equal(aws_free_cidr(&taken, arena), "10.130.0.0/16");
    kp_strings_add(&taken, "10.0.0.0/8");
    assert_null(aws_free_cidr(&taken, arena));
    kp_strings_done(&taken);
}

static int ports_of(const struct cloud_listener *listeners, size_t n, struct kp_arena *arena, struct aws_port **ret, size_t *ret_n)
{
    const struct cloud_balancer_spec spec = {.listeners = listeners, .n_listeners = n};
    struct kp_error error = {0};
    return aws_ports(&spec, arena, ret, ret_n, &error);
}

static void tcp_and_udp_of_a_port_are_one_listener(void **state)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    static const struct cloud_listener mixed[] = {{CLOUD_TCP, 53, 30053}, {CLOUD_UDP, 53, 30053}, {CLOUD_UDP, 80, 30080}},
                                       apart[] = {{CLOUD_TCP, 53, 30053}, {CLOUD_UDP, 53, 30054}};
    struct aws_port *ports;
    size_t n;
    assert_int_equal(ports_of(mixed, 3, arena, &ports, &n), 0);
    assert_int_equal(n, 2);
    assert_string_equal(ports[0].protocol, "TCP_UDP");
    assert_int_equal(ports[0].target_port, 30053);
    assert_string_equal(ports[1].protocol, "UDP");
    assert_int_equal(ports_of(apart, 2, arena, &ports, &n), KP_EINVALID);
}

static void what_an_nlb_has_not_is_refused(void **state)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    static const struct cloud_listener one[] = {{CLOUD_TCP, 80, 30080}};
    struct aws_port *ports;
    struct kp_error error = {0};
    size_t n;
    const struct cloud_balancer_spec counting = {.listeners = one, .n_listeners = 1, .algorithm = CLOUD_LEAST_CONNECTIONS},
                                     wanting = {.listeners = one, .n_listeners = 1, .address = "192.0.2.1"};
    assert_int_equal(aws_ports(&counting, arena, &ports, &n, &error), KP_EINVALID);
    assert_int_equal(aws_ports(&wanting, arena, &ports, &n, &error), KP_EINVALID);
}

static void health_checks_keep_within_the_nlbs_limits(void **state)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    const struct aws_port tcp = {.protocol = "TCP"}, udp = {.protocol = "UDP"};
    struct cloud_balancer_spec spec = {.health = {.interval_s = 1, .timeout_s = 100, .healthy = 1, .unhealthy = 99}};
    struct aws_health health;
    aws_health_of(&spec, &tcp, arena, &health);
    assert_false(health.http);
    assert_string_equal(health.port, "traffic-port");
    assert_int_equal(health.interval_s, 5);
    assert_int_equal(health.timeout_s, 5);
    assert_int_equal(health.healthy, 2);
    assert_int_equal(health.unhealthy, 10);
    aws_health_of(&spec, &udp, arena, &health);
    assert_string_equal(health.port, "10250");
    spec.health = (struct cloud_health_check){.kind = CLOUD_HEALTH_HTTP, .port = 32000, .path = "/healthz"};
    aws_health_of(&spec, &udp, arena, &health);
    assert_true(health.http);
    assert_string_equal(health.port, "32000");
    assert_string_equal(health.path, "/healthz");
    assert_int_equal(health.interval_s, 10);
}

static void names_in_elb_fit_and_differ(void **state)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    const char *one = aws_elb_name("u", "web", "", arena);
    assert_true(strlen(one) <= 32);
    assert_true(kp_starts_with(one, "kp-"));
    assert_string_equal(one, aws_elb_name("u", "web", "", arena));
    assert_string_not_equal(one, aws_elb_name("v", "web", "", arena));
    assert_string_not_equal(one, aws_elb_name("u", "web", "TCP", arena));
}

static void user_data_is_compressed_and_has_a_limit(void **state)
{
    KP_AUTO_BUF struct kp_buf out = {0}, raw = {0}, large = {0};
    struct kp_error error = {0};
    uint8_t noise[20000];
    for (int i = 0; i < 40000; i++)
        kp_buf_puts(&large, "same ");
    assert_int_equal(aws_user_data(large.data, large.len, &out, &error), 0);
    assert_int_equal(kp_base64_decode(&raw, out.data, out.len), 0);
    assert_int_equal((uint8_t)raw.data[0], 0x1f);
    assert_int_equal((uint8_t)raw.data[1], 0x8b);
    KP_AUTO_BUF struct kp_buf again = {0}; /* what is compressed already stays as it is */
    assert_int_equal(aws_user_data(raw.data, raw.len, &again, &error), 0);
    assert_string_equal(again.data, out.data);
    uint64_t seed = 7;
    for (size_t i = 0; i < sizeof(noise); i++)
        noise[i] = (uint8_t)((seed = seed * 6364136223846793005u + 1442695040888963407u) >> 56);
    assert_int_equal(aws_user_data(noise, sizeof(noise), &again, &error), KP_ETOOLARGE);
    assert_non_null(strstr(error.message, "16384"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_vpc_is_cut_into_subnets), cmocka_unit_test(networks_are_checked), cmocka_unit_test(a_free_network_overlaps_with_none),
        cmocka_unit_test(tcp_and_udp_of_a_port_are_one_listener),
        cmocka_unit_test(what_an_nlb_has_not_is_refused), cmocka_unit_test(health_checks_keep_within_the_nlbs_limits),
        cmocka_unit_test(names_in_elb_fit_and_differ), cmocka_unit_test(user_data_is_compressed_and_has_a_limit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
