/* Which routes are missing, which lead to nobody, and what a Node says of its own. */
#include "cloud-controller/route/route.h"

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

static struct k8s_node *node(const char *name, const char *cidr)
{
    struct k8s_node *n = KP_OBJECT_NEW(arena, k8s_node);
    n->metadata->name = name;
    n->spec->pod_cidr = cidr;
    if (cidr)
        kp_string_list_add(arena, &n->spec->pod_cidrs, cidr);
    return n;
}

static void networks_lie_within_each_other(void **state)
{
    assert_true(route_contains("10.244.0.0/16", "10.244.255.0/24"));
    assert_true(route_contains("10.244.0.0/16", "10.244.0.0/16"));
    assert_true(route_contains("0.0.0.0/0", "10.0.0.0/8"));
    assert_false(route_contains("10.244.0.0/16", "10.245.0.0/24"));
    assert_false(route_contains("10.244.0.0/16", "10.0.0.0/8"));
    assert_false(route_contains("10.244.0.0/16", "fd00::/64"));
    assert_false(route_contains("", "10.244.0.0/24"));
    assert_false(route_contains("10.244.0.0/33", "10.244.0.0/24"));
}

static void missing_wrong_and_stale_routes_are_told_apart(void **state)
{
    const struct k8s_node *nodes[] = {node("a", "10.244.1.0/24"), node("b", "10.244.2.0/24"), node("c", "10.244.3.0/24"), node("d", NULL), node("e", "10.9.0.0/24")};
    struct cloud_route there[] = {
        {"10.244.1.0/24", "a"}, {"10.244.2.0/24", "gone"}, {"10.244.9.0/24", ""}, {"192.168.0.0/24", "a"}, {"10.244.8.0/24", "a"},
    };
    const struct cloud_route_list routes = {there, KP_ARRAY_LEN(there)};
    struct route_plan plan;
    route_compare(nodes, KP_ARRAY_LEN(nodes), &routes, "10.244.0.0/16", arena, &plan);
    assert_int_equal(plan.n_wanted, 2);
    assert_string_equal(plan.wanted[0].destination, "10.244.2.0/24");
    assert_string_equal(plan.wanted[0].machine, "b");
    assert_string_equal(plan.wanted[1].destination, "10.244.3.0/24");
    assert_int_equal(plan.n_stale, 2); /* not what is no network of pods, and not what somebody else has by now */
    assert_string_equal(plan.stale[0].destination, "10.244.9.0/24");
    assert_string_equal(plan.stale[1].destination, "10.244.8.0/24");
}

static void ipv6_networks_of_pods_get_no_routes(void **state)
{
    struct k8s_node *n = node("a", "fd00::/64");
    const char *cidrs[ROUTE_CIDRS_MAX];
    assert_int_equal(route_cidrs_of(n, cidrs), 0);
    kp_string_list_add(arena, &n->spec->pod_cidrs, "10.244.1.0/24");
    assert_int_equal(route_cidrs_of(n, cidrs), 1);
    assert_string_equal(cidrs[0], "10.244.1.0/24");
}

static void the_condition_is_written_when_it_changes(void **state)
{
    struct k8s_node *n = node("a", "10.244.1.0/24");
    assert_string_equal(route_condition_patch(n, true, 0, arena),
                        "{\"status\":{\"conditions\":[{\"type\":\"NetworkUnavailable\",\"status\":\"False\",\"reason\":\"RouteCreated\","
                        "\"message\":\"RouteController created a route\",\"lastHeartbeatTime\":\"1970-01-01T00:00:00Z\","
                        "\"lastTransitionTime\":\"1970-01-01T00:00:00Z\"}]}}");
    struct k8s_node_condition *condition = KP_LIST_ADD(arena, &n->status->conditions);
    condition->type = "NetworkUnavailable";
    condition->status = "False";
    assert_null(route_condition_patch(n, true, 0, arena));
    assert_non_null(strstr(route_condition_patch(n, false, 0, arena), "NoRouteCreated"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(networks_lie_within_each_other),
        cmocka_unit_test(missing_wrong_and_stale_routes_are_told_apart),
        cmocka_unit_test(ipv6_networks_of_pods_get_no_routes),
        cmocka_unit_test(the_condition_is_written_when_it_changes),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
