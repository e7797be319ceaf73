/* What is sent to Octavia so that a balancer becomes what a Service asks for: nothing when it is, and what differs when it is not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "cloud/drivers.h"
#include "cloud/openstack/openstack_internal.h"
#include "tests/support/replay.h"

#define UID "11111111-2222-4333-8444-555555555555"
#define TAG "kprov-cluster=" UID
#define SERVICE(type, path) "{\"type\":\"" type "\",\"endpoints\":[{\"interface\":\"public\",\"region_id\":\"one\",\"url\":\"@BASE@" path "\"}]}"
#define LOGIN ">>> POST /k/v3/auth/tokens\n<<< 201 X-Subject-Token: t1\n{\"token\":{\"expires_at\":\"2099-01-01T00:00:00.000000Z\",\"project\":{\"id\":\"p1\"},\"catalog\":[" \
    SERVICE("compute", "/c/v2.1") "," SERVICE("network", "/n") "," SERVICE("image", "/i") "," SERVICE("load-balancer", "/l") "]}}\n"
#define RECORD ">>> GET /n/v2.0/security-groups?tags=kprov-cluster%3D" UID ",kprov-name%3Dnodes&limit=500\n<<< 200\n" \
    "{\"security_groups\":[{\"id\":\"g1\",\"tags\":[\"" TAG "\",\"kprov-name=nodes\",\"kprov-network=n1\",\"kprov-subnet=s1\"]}]}\n" \
    ">>> GET /n/v2.0/subnets/s1\n<<< 200\n{\"subnet\":{\"id\":\"s1\",\"cidr\":\"10.90.0.0/24\",\"gateway_ip\":\"10.90.0.1\"}}\n"
#define BALANCER(status) "{\"id\":\"b1\",\"provisioning_status\":\"" status "\",\"admin_state_up\":true,\"description\":\"default/web\",\"vip_address\":\"10.90.0.9\"," \
    "\"vip_port_id\":\"v1\",\"tags\":[\"" TAG "\",\"kprov-name=web\"]}"
#define FIND(balancers) ">>> GET /l/v2/lbaas/loadbalancers?project_id=p1&tags=kprov-cluster%3D" UID "&limit=500\n<<< 200\n{\"loadbalancers\":[" balancers "]}\n"
#define GET(status) ">>> GET /l/v2/lbaas/loadbalancers/b1\n<<< 200\n{\"loadbalancer\":" BALANCER(status) "}\n"
#define NO_FLOATING ">>> GET /n/v2.0/floatingips?port_id=v1&limit=500\n<<< 200\n{\"floatingips\":[]}\n"
#define LISTENER "{\"id\":\"l1\",\"protocol\":\"TCP\",\"protocol_port\":80,\"default_pool_id\":\"q1\",\"allowed_cidrs\":null,\"admin_state_up\":true," \
    "\"provisioning_status\":\"ACTIVE\",\"loadbalancers\":[{\"id\":\"b1\"}]}"
#define FOREIGN "{\"id\":\"l9\",\"protocol\":\"TCP\",\"protocol_port\":80,\"loadbalancers\":[{\"id\":\"b9\"}]}"
#define POOL "{\"id\":\"q1\",\"protocol\":\"TCP\",\"lb_algorithm\":\"ROUND_ROBIN\",\"session_persistence\":null,\"admin_state_up\":true,\"healthmonitor_id\":\"h1\"," \
    "\"provisioning_status\":\"ACTIVE\",\"loadbalancers\":[{\"id\":\"b1\"}]}"
#define PARTS(listeners, pools) ">>> GET /l/v2/lbaas/listeners?project_id=p1&limit=500\n<<< 200\n{\"listeners\":[" listeners "]}\n" \
    ">>> GET /l/v2/lbaas/pools?project_id=p1&limit=500\n<<< 200\n{\"pools\":[" pools "]}\n"
#define MEMBER "{\"id\":\"m1\",\"name\":\"w1\",\"address\":\"10.90.0.5\",\"protocol_port\":30080,\"monitor_port\":null,\"weight\":1,\"admin_state_up\":true," \
    "\"provisioning_status\":\"ACTIVE\"}"
#define MEMBERS(pool, members) ">>> GET /l/v2/lbaas/pools/" pool "/members?limit=500\n<<< 200\n{\"members\":[" members "]}\n"
#define PUT_MEMBERS(pool) ">>> PUT /l/v2/lbaas/pools/" pool "/members\n=== {\"members\":[{\"name\":\"w1\",\"address\":\"10.90.0.5\",\"protocol_port\":30080," \
    "\"subnet_id\":\"s1\",\"weight\":1,\"admin_state_up\":true,\"monitor_port\":null}]}\n<<< 202\n"
#define MONITOR ">>> GET /l/v2/lbaas/healthmonitors/h1\n<<< 200\n{\"healthmonitor\":{\"id\":\"h1\",\"type\":\"TCP\",\"delay\":5,\"timeout\":3,\"max_retries\":2," \
    "\"max_retries_down\":3,\"admin_state_up\":true,\"provisioning_status\":\"ACTIVE\"}}\n"
#define MONITOR_BODY "\"type\":\"TCP\",\"delay\":5,\"timeout\":3,\"max_retries\":2,\"max_retries_down\":3,\"admin_state_up\":true"
#define POST_LISTENER ">>> POST /l/v2/lbaas/listeners\n=== {\"listener\":{\"loadbalancer_id\":\"b1\",\"name\":\"kprov-11111111-web-tcp-80\",\"protocol\":\"TCP\"," \
    "\"protocol_port\":80,\"tags\":[\"" TAG "\"]}}\n<<< 201\n{\"listener\":{\"id\":\"l2\"}}\n"
#define POST_POOL ">>> POST /l/v2/lbaas/pools\n=== {\"pool\":{\"listener_id\":\"l2\",\"name\":\"kprov-11111111-web-tcp-80\",\"protocol\":\"TCP\",\"lb_algorithm\":\"ROUND_ROBIN\"," \
    "\"session_persistence\":null,\"tags\":[\"" TAG "\"]}}\n<<< 201\n{\"pool\":{\"id\":\"q2\"}}\n"
#define POST_MONITOR ">>> POST /l/v2/lbaas/healthmonitors\n=== {\"healthmonitor\":{" MONITOR_BODY ",\"pool_id\":\"q2\",\"name\":\"kprov-11111111-web\",\"tags\":[\"" TAG "\"]}}\n" \
    "<<< 201\n{\"healthmonitor\":{\"id\":\"h2\"}}\n"
#define POST_ALL POST_LISTENER GET("ACTIVE") POST_POOL GET("ACTIVE") MEMBERS("q2", "") PUT_MEMBERS("q2") GET("ACTIVE") POST_MONITOR GET("ACTIVE")

static const struct cloud_listener listener = {CLOUD_TCP, 80, 30080};
static const struct cloud_target target = {"w1", "10.90.0.5"};
static const struct cloud_balancer_spec web = {.cluster_uid = UID, .name = "web", .description = "default/web", .listeners = &listener, .n_listeners = 1, .targets = &target,
                                               .n_targets = 1};

static void ensure(const struct cloud_balancer_spec *spec, const char *script, int wanted, enum cloud_balancer_state state)
{
    struct replay *replay = replay_start(script);
    struct kp_arena *arena = kp_arena_new(0);
    struct cloud_options options = {.account.endpoint = kp_arena_printf(arena, "%s/k", replay_url(replay))};
    struct cloud_balancer made = {0};
    struct kp_error error = {0};
    void *os = NULL;
    setenv("OS_AUTH_URL", "http://127.0.0.1:1/v3", 1);
    setenv("OS_USERNAME", "demo", 1);
    setenv("OS_PASSWORD", "hunter2", 1);
    setenv("OS_USER_DOMAIN_NAME", "Default", 1);
    setenv("OS_PROJECT_NAME", "demo", 1);
    setenv("OS_PROJECT_DOMAIN_NAME", "Default", 1);
    assert_int_equal(cloud_driver_openstack.open(&options, &os, &error), 0);
    int r = cloud_driver_openstack.balancer_ensure(os, spec, arena, &made, &error);
    char *problem = replay_end(replay);
    cloud_driver_openstack.close(os);
    if (problem)
        fail_msg("%s", problem);
    if (r != wanted)
        fail_msg("%d: %s", r, error.message);
    if (r == 0 || r == KP_EAGAIN) {
        assert_int_equal(made.state, state);
        assert_string_equal(made.name, "web");
        assert_string_equal(made.address, "10.90.0.9");
    }
    kp_arena_free(arena);
}

static void one_that_is_right_is_left_alone(void **state)
{
    ensure(&web, LOGIN RECORD FIND(BALANCER("ACTIVE")) GET("ACTIVE") NO_FLOATING PARTS(FOREIGN "," LISTENER, POOL) MEMBERS("q1", MEMBER) MONITOR, 0, CLOUD_BALANCER_ACTIVE);
}

static void one_that_is_missing_is_made_part_by_part(void **state)
{
    ensure(&web, LOGIN RECORD FIND("") ">>> POST /l/v2/lbaas/loadbalancers\n=== {\"loadbalancer\":{\"name\":\"kprov-11111111-web\",\"description\":\"default/web\","
           "\"vip_subnet_id\":\"s1\",\"tags\":[\"" TAG "\",\"kprov-name=web\"]}}\n<<< 201\n{\"loadbalancer\":" BALANCER("PENDING_CREATE") "}\n"
           GET("ACTIVE") NO_FLOATING PARTS("", "") POST_ALL, 0, CLOUD_BALANCER_ACTIVE);
}

static void a_member_taken_away_comes_back(void **state)
{
    ensure(&web, LOGIN RECORD FIND(BALANCER("ACTIVE")) GET("ACTIVE") NO_FLOATING PARTS(LISTENER, POOL) MEMBERS("q1", "") PUT_MEMBERS("q1") GET("ACTIVE") MONITOR, 0,
           CLOUD_BALANCER_ACTIVE);
}

static void a_listener_deleted_comes_back_and_its_pool_goes(void **state)
{
    ensure(&web, LOGIN RECORD FIND(BALANCER("ACTIVE")) GET("ACTIVE") NO_FLOATING PARTS("", POOL) ">>> DELETE /l/v2/lbaas/pools/q1\n<<< 204\n" GET("ACTIVE") POST_ALL, 0,
           CLOUD_BALANCER_ACTIVE);
}

static void what_nobody_asked_for_goes(void **state)
{
    ensure(&web, LOGIN RECORD FIND(BALANCER("ACTIVE")) GET("ACTIVE") NO_FLOATING
           PARTS(LISTENER ",{\"id\":\"l3\",\"protocol\":\"UDP\",\"protocol_port\":80,\"loadbalancers\":[{\"id\":\"b1\"}]}", POOL)
           ">>> DELETE /l/v2/lbaas/listeners/l3\n<<< 204\n" GET("ACTIVE") MEMBERS("q1", MEMBER) MONITOR, 0, CLOUD_BALANCER_ACTIVE);
}

static void a_pools_protocol_is_changed_by_making_it_anew(void **state)
{
    struct cloud_balancer_spec spec = web;
    spec.proxy_protocol = true;
    ensure(&spec, LOGIN RECORD FIND(BALANCER("ACTIVE")) GET("ACTIVE") NO_FLOATING PARTS(LISTENER, POOL) ">>> DELETE /l/v2/lbaas/pools/q1\n<<< 204\n" GET("ACTIVE")
           ">>> POST /l/v2/lbaas/pools\n=== {\"pool\":{\"listener_id\":\"l1\",\"name\":\"kprov-11111111-web-tcp-80\",\"protocol\":\"PROXY\",\"lb_algorithm\":\"ROUND_ROBIN\","
           "\"session_persistence\":null,\"tags\":[\"" TAG "\"]}}\n<<< 201\n{\"pool\":{\"id\":\"q2\"}}\n" GET("ACTIVE") MEMBERS("q2", "") PUT_MEMBERS("q2") GET("ACTIVE")
           POST_MONITOR GET("ACTIVE"), 0, CLOUD_BALANCER_ACTIVE);
}

static void ranges_and_health_check_are_changed_where_they_are(void **state)
{
    static const char *const ranges[] = {"192.0.2.0/24"};
    struct cloud_balancer_spec spec = web;
    spec.source_ranges = ranges;
    spec.n_source_ranges = 1;
    spec.health.interval_s = 10;
    ensure(&spec, LOGIN RECORD FIND(BALANCER("ACTIVE")) GET("ACTIVE") NO_FLOATING PARTS(LISTENER, POOL)
           ">>> PUT /l/v2/lbaas/listeners/l1\n=== {\"listener\":{\"allowed_cidrs\":[\"192.0.2.0/24\"],\"admin_state_up\":true}}\n<<< 200\n{}\n" GET("ACTIVE")
           MEMBERS("q1", MEMBER) MONITOR ">>> PUT /l/v2/lbaas/healthmonitors/h1\n=== {\"healthmonitor\":{\"delay\":10,\"timeout\":3,\"max_retries\":2,\"max_retries_down\":3,"
           "\"admin_state_up\":true}}\n<<< 200\n{}\n" GET("ACTIVE"), 0, CLOUD_BALANCER_ACTIVE);
}

static void while_octavia_is_at_work_the_call_says_so(void **state)
{
    ensure(&web, LOGIN RECORD FIND(BALANCER("ACTIVE")) GET("ACTIVE") NO_FLOATING PARTS(LISTENER, POOL) MEMBERS("q1", "")
           ">>> PUT /l/v2/lbaas/pools/q1/members\n<<< 409\n{\"faultcode\":\"Client\",\"faultstring\":\"Load Balancer b1 is immutable and cannot be updated.\"}\n", KP_EAGAIN,
           CLOUD_BALANCER_PENDING);
}

static void one_that_failed_is_made_anew(void **state)
{
    ensure(&web, LOGIN RECORD FIND(BALANCER("ERROR")) GET("ERROR") ">>> DELETE /l/v2/lbaas/loadbalancers/b1?cascade=true\n<<< 204\n"
           ">>> GET /l/v2/lbaas/loadbalancers/b1\n<<< 404\n{\"faultstring\":\"Load Balancer b1 not found.\"}\n"
           ">>> POST /l/v2/lbaas/loadbalancers\n<<< 201\n{\"loadbalancer\":" BALANCER("PENDING_CREATE") "}\n" GET("ACTIVE") NO_FLOATING PARTS("", "") POST_ALL, 0,
           CLOUD_BALANCER_ACTIVE);
}

static void a_quota_is_told(void **state)
{
    ensure(&web, LOGIN RECORD FIND("") ">>> POST /l/v2/lbaas/loadbalancers\n<<< 403\n{\"faultcode\":\"Client\",\"faultstring\":\"Quota has been met for resources: Load Balancer\"}\n",
           KP_EQUOTA, CLOUD_BALANCER_PENDING);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_that_is_right_is_left_alone), cmocka_unit_test(one_that_is_missing_is_made_part_by_part), cmocka_unit_test(a_member_taken_away_comes_back),
        cmocka_unit_test(a_listener_deleted_comes_back_and_its_pool_goes), cmocka_unit_test(what_nobody_asked_for_goes),
        cmocka_unit_test(a_pools_protocol_is_changed_by_making_it_anew), cmocka_unit_test(ranges_and_health_check_are_changed_where_they_are),
        cmocka_unit_test(while_octavia_is_at_work_the_call_says_so), cmocka_unit_test(one_that_failed_is_made_anew), cmocka_unit_test(a_quota_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
