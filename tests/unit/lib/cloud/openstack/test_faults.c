/* What a cloud answers when something is wrong, and what the driver makes of it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "cloud/drivers.h"
#include "cloud/openstack/openstack_internal.h"
#include "tests/support/replay.h"

#define SERVICE(type, path) "{\"type\":\"" type "\",\"endpoints\":[{\"interface\":\"public\",\"region_id\":\"one\",\"url\":\"@BASE@" path "\"}]}"
#define TOKEN(balancer) "{\"token\":{\"expires_at\":\"2099-01-01T00:00:00.000000Z\",\"project\":{\"id\":\"p1\"},\"catalog\":[" SERVICE("compute", "/c/v2.1") "," \
    SERVICE("network", "/n") "," SERVICE("image", "/i") balancer "]}}\n"
#define LOGIN_TO(token, balancer) ">>> POST /k/v3/auth/tokens\n<<< 201 X-Subject-Token: " token "\n" TOKEN(balancer)
#define LOGIN(token) LOGIN_TO(token, "," SERVICE("load-balancer", "/l"))
#define FLAVORS ">>> GET /c/v2.1/flavors/detail?limit=500\n"
#define ONE_FLAVOR "<<< 200\n{\"flavors\":[{\"id\":\"f1\",\"name\":\"node\",\"vcpus\":2,\"ram\":2048,\"disk\":20,\"OS-FLV-EXT-DATA:ephemeral\":0}]}\n"
#define UID "11111111-2222-4333-8444-555555555555"

struct world {
    struct replay *replay;
    struct os *os;
    struct kp_arena *arena;
    struct kp_error error;
};

static struct world begin(const char *script)
{
    struct world w = {.replay = replay_start(script), .arena = kp_arena_new(0)};
    struct cloud_options options = {.account.endpoint = kp_arena_printf(w.arena, "%s/k", replay_url(w.replay))};
    void *state = NULL;
    setenv("OS_AUTH_URL", "http://127.0.0.1:1/v3", 1);
    setenv("OS_USERNAME", "demo", 1);
    setenv("OS_PASSWORD", "hunter2", 1);
    setenv("OS_USER_DOMAIN_NAME", "Default", 1);
    setenv("OS_PROJECT_NAME", "demo", 1);
    setenv("OS_PROJECT_DOMAIN_NAME", "Default", 1);
    assert_int_equal(cloud_driver_openstack.open(&options, &state, &w.error), 0);
    w.os = state;
    return w;
}

static void end(struct world *w)
{
    char *problem = replay_end(w->replay);
    cloud_driver_openstack.close(w->os);
    kp_arena_free(w->arena);
    if (problem)
        fail_msg("%s", problem);
}

static int types(struct world *w, size_t wanted)
{
    struct cloud_machine_type_list list = {0};
    int r = os_machine_types(w->os, w->arena, &list, &w->error);
    if (r == 0)
        assert_int_equal(list.len, wanted);
    return r;
}

static void a_token_that_is_refused_is_renewed(void **state)
{
    struct world w = begin(LOGIN("t1") FLAVORS "<<< 401\n{\"error\":{\"code\":401,\"message\":\"expired\"}}\n" LOGIN("t2") FLAVORS ONE_FLAVOR FLAVORS ONE_FLAVOR);
    assert_int_equal(types(&w, 1), 0);
    assert_int_equal(types(&w, 1), 0); /* with the same */
    end(&w);
}

static void refused_again_it_is_an_error(void **state)
{
    struct world w = begin(LOGIN("t1") FLAVORS "<<< 401\n" LOGIN("t2") FLAVORS "<<< 401\n{\"error\":{\"message\":\"disabled\"}}\n");
    assert_int_equal(types(&w, 0), KP_EUNAUTHORIZED);
    assert_non_null(strstr(w.error.message, "disabled"));
    end(&w);
}

static void a_wrong_password_is_told_without_it(void **state)
{
    struct world w = begin(">>> POST /k/v3/auth/tokens\n<<< 401\n{\"error\":{\"code\":401,\"message\":\"The request you have made requires authentication.\"}}\n");
    assert_int_equal(types(&w, 0), KP_EUNAUTHORIZED);
    assert_non_null(strstr(w.error.message, "does not know the user, password, domain or project of the environment"));
    assert_null(strstr(w.error.message, "hunter2"));
    end(&w);
}

static void too_many_requests_are_made_again(void **state)
{
    struct world w = begin(LOGIN("t1") FLAVORS "<<< 429\n" FLAVORS "<<< 503\n" FLAVORS "<<< 500\n" FLAVORS ONE_FLAVOR);
    assert_int_equal(types(&w, 1), 0);
    end(&w);
}

static void a_longer_rest_than_there_is_time_for_is_handed_on(void **state)
{
    struct world w = begin(LOGIN("t1") FLAVORS "<<< 429 Retry-After: 3600\n{\"overLimit\":{\"code\":429,\"message\":\"slow down\"}}\n");
    assert_int_equal(types(&w, 0), KP_ETOOMANY);
    assert_int_equal(w.error.retry_after_ms, 3600000);
    assert_non_null(strstr(w.error.message, "slow down"));
    end(&w);
}

static void an_answer_that_is_cut_short_is_corrupt(void **state)
{
    struct world w = begin(LOGIN("t1") FLAVORS "<<< 200\n{\"flavors\":[{\"id\":\"f1\",\"na\n" FLAVORS "<<< 200\n{\"nothing\":1}\n");
    assert_int_equal(types(&w, 0), KP_ECORRUPT);
    assert_int_equal(types(&w, 0), KP_ECORRUPT);
    end(&w);
}

static void lists_have_pages(void **state)
{
    struct world w = begin(LOGIN("t1") FLAVORS
        "<<< 200\n{\"flavors\":[{\"id\":\"a b\",\"name\":\"x\"}],\"flavors_links\":[{\"rel\":\"next\",\"href\":\"http://elsewhere/v2.1/flavors/detail?marker=a\"}]}\n"
        ">>> GET /c/v2.1/flavors/detail?limit=500&marker=a%20b\n<<< 200\n{\"flavors\":[{\"id\":\"b\",\"name\":\"y\"}],\"flavors_links\":[{\"rel\":\"previous\"}]}\n");
    assert_int_equal(types(&w, 2), 0);
    end(&w);
}

#define GROUP ">>> GET /n/v2.0/security-groups?tags=kprov-cluster%3D" UID ",kprov-name%3Dnodes&limit=500\n<<< 200\n" \
    "{\"security_groups\":[{\"id\":\"g1\",\"tags\":[\"kprov-cluster=" UID "\",\"kprov-name=nodes\",\"kprov-network=n1\",\"kprov-subnet=s1\",\"kprov-zone=b\",\"kprov-zone=a\"]}]}\n" \
    ">>> GET /n/v2.0/subnets/s1\n<<< 200\n{\"subnet\":{\"id\":\"s1\",\"cidr\":\"10.90.0.0/24\",\"gateway_ip\":\"10.90.0.1\",\"dns_nameservers\":[\"10.0.0.1\",\"fd00::1\"]}}\n"
#define NO_PORT(name) ">>> GET /n/v2.0/ports?tags=kprov-cluster%3D" UID ",kprov-name%3D" name "&limit=500\n<<< 200\n{\"ports\":[]}\n" \
    ">>> GET /n/v2.0/ports?description=kprov-cluster%3D" UID "&name=kprov-11111111-" name "&limit=500\n<<< 200\n"

static void a_lost_answer_is_not_asked_for_again(void **state)
{
    struct world w = begin(LOGIN("t1") GROUP NO_PORT("w1") "{\"ports\":[]}\n>>> POST /n/v2.0/ports\n<<< cut\n");
    const char *address = NULL;
    assert_int_equal(os_address_reserve(w.os, UID, "w1", w.arena, &address, &w.error), KP_EUNAVAILABLE);
    end(&w);
}

static void what_a_killed_run_left_without_tags_gets_them(void **state)
{
    struct world w = begin(LOGIN("t1") GROUP NO_PORT("w1")
        "{\"ports\":[{\"id\":\"p1\",\"name\":\"kprov-11111111-w1\",\"description\":\"kprov-cluster=" UID "\",\"tags\":[],\"fixed_ips\":[{\"ip_address\":\"10.90.0.7\"}]}]}\n"
        ">>> PUT /n/v2.0/ports/p1/tags\n=== {\"tags\":[\"kprov-cluster=" UID "\",\"kprov-name=w1\"]}\n<<< 200\n{}\n");
    const char *address = NULL;
    assert_int_equal(os_address_reserve(w.os, UID, "w1", w.arena, &address, &w.error), 0);
    assert_string_equal(address, "10.90.0.7");
    end(&w);
}

static void no_address_left_is_a_quota(void **state)
{
    struct world w = begin(LOGIN("t1") GROUP NO_PORT("w1") "{\"ports\":[]}\n>>> POST /n/v2.0/ports\n<<< 409\n"
        "{\"NeutronError\":{\"type\":\"IpAddressGenerationFailure\",\"message\":\"No more IP addresses available on network n1.\",\"detail\":\"\"}}\n");
    const char *address = NULL;
    assert_int_equal(os_address_reserve(w.os, UID, "w1", w.arena, &address, &w.error), KP_EQUOTA);
    end(&w);
}

static void the_record_tells_network_and_zones(void **state)
{
    struct world w = begin(LOGIN("t1") GROUP);
    struct os_record record;
    assert_int_equal(os_record_read(w.os, UID, w.arena, &record, &w.error), 0);
    assert_string_equal(record.network, "n1");
    assert_string_equal(record.zones, "a b");
    assert_string_equal(record.nameservers, "10.0.0.1");
    assert_false(record.own);
    end(&w);
}

#define LIMITS ">>> GET /c/v2.1/limits\n<<< 200\n{\"limits\":{\"absolute\":{\"maxTotalInstances\":3,\"totalInstancesUsed\":2,\"maxTotalCores\":-1,\"totalCoresUsed\":9," \
    "\"maxTotalRAMSize\":8192,\"totalRAMUsed\":1024}}}\n"
#define EXTERNAL ">>> GET /n/v2.0/networks?router%3Aexternal=true&limit=500\n<<< 200\n{\"networks\":[{\"id\":\"x1\",\"name\":\"public\"}"

static void a_quota_that_does_not_suffice_is_told_in_numbers(void **state)
{
    static const char *const names[] = {"a", "b"}, *const flavors[] = {"node", "node"};
    struct world w = begin(LOGIN("t1") EXTERNAL "]}\n" FLAVORS ONE_FLAVOR LIMITS);
    const struct cloud_wish wish = {.machines = names, .machine_types = flavors, .n_machines = 2};
    assert_int_equal(os_check(w.os, &wish, &w.error), KP_EQUOTA);
    assert_non_null(strstr(w.error.message, "instances: 2 more are needed, 2 of 3 are used."));
    end(&w);
}

static void several_external_networks_want_a_choice(void **state)
{
    static const char *const names[] = {"a"};
    struct world w = begin(LOGIN("t1") EXTERNAL ",{\"id\":\"x2\",\"name\":\"dmz\"}]}\n");
    const struct cloud_wish wish = {.machines = names, .n_machines = 1};
    assert_int_equal(os_check(w.os, &wish, &w.error), KP_EINVALID);
    assert_non_null(strstr(w.error.message, "public, dmz"));
    end(&w);
}

static void without_octavia_there_are_no_balancers(void **state)
{
    struct world w = begin(LOGIN_TO("t1", "") GROUP);
    const struct cloud_listener listener = {CLOUD_TCP, 80, 30080};
    const struct cloud_balancer_spec spec = {.cluster_uid = UID, .name = "web", .listeners = &listener, .n_listeners = 1, .internal = true};
    struct cloud_balancer_list list;
    struct cloud_balancer made;
    assert_int_equal(os_balancer_list(w.os, UID, w.arena, &list, &w.error), 0);
    assert_int_equal(list.len, 0);
    assert_int_equal(os_balancer_ensure(w.os, &spec, w.arena, &made, &w.error), KP_ENOTSUPPORTED);
    assert_non_null(strstr(w.error.message, "no load-balancer (Octavia) service"));
    end(&w);
}

static void udp_has_no_proxy_protocol(void **state)
{
    struct world w = begin("");
    const struct cloud_listener listener = {CLOUD_UDP, 53, 30053};
    const struct cloud_balancer_spec spec = {.cluster_uid = UID, .name = "dns", .listeners = &listener, .n_listeners = 1, .proxy_protocol = true};
    struct cloud_balancer made;
    assert_int_equal(os_balancer_ensure(w.os, &spec, w.arena, &made, &w.error), KP_EINVALID);
    end(&w);
}

#define SERVERS ">>> GET /c/v2.1/servers/detail?tags=kprov-cluster%3D" UID "&limit=500\n<<< 200\n"
#define SERVER(status, more) "{\"id\":\"s1\",\"name\":\"w1\",\"status\":\"" status "\",\"created\":\"2026-01-01T00:00:00Z\",\"tags\":[\"kprov-cluster=" UID "\"]," \
    "\"metadata\":{\"kprov-name\":\"w1\",\"kprov-role\":\"worker\"},\"flavor\":{\"original_name\":\"node\"}" more "}"

static void an_error_is_never_not_found(void **state)
{
    struct world w = begin(LOGIN("t1") SERVERS "{\"servers\":[]}\n" SERVERS "{\"servers\":[" SERVER("DELETED", "") "]}\n" ">>> GET /c/v2.1/servers/detail?tags=kprov-cluster%3D" UID
        "&limit=500\n<<< 403\n{\"forbidden\":{\"message\":\"Policy does not allow\"}}\n");
    struct cloud_machine machine;
    assert_int_equal(os_machine_get(w.os, UID, "w1", w.arena, &machine, &w.error), KP_ENOTFOUND);
    assert_int_equal(os_machine_get(w.os, UID, "w1", w.arena, &machine, &w.error), KP_ENOTFOUND);
    assert_int_equal(os_machine_get(w.os, UID, "w1", w.arena, &machine, &w.error), KP_EFORBIDDEN);
    end(&w);
}

static void no_valid_host_is_told_and_nothing_stays(void **state)
{
    struct world w = begin(LOGIN("t1") SERVERS "{\"servers\":[" SERVER("BUILD", "") "]}\n>>> GET /c/v2.1/servers/s1\n<<< 200\n{\"server\":"
        SERVER("ERROR", ",\"fault\":{\"code\":500,\"message\":\"No valid host was found. There are not enough hosts available.\"}") "}\n"
        ">>> DELETE /c/v2.1/servers/s1\n<<< 204\n>>> GET /c/v2.1/servers/s1\n<<< 404\n{\"itemNotFound\":{\"message\":\"Instance s1 could not be found.\"}}\n");
    const struct cloud_machine_spec spec = {.cluster_uid = UID, .name = "w1"};
    struct cloud_machine machine;
    assert_int_equal(os_machine_create(w.os, &spec, w.arena, &machine, &w.error), KP_EQUOTA);
    assert_non_null(strstr(w.error.message, "no host with room for flavor node"));
    end(&w);
}

static void an_old_nova_is_told(void **state)
{
    struct world w = begin(LOGIN("t1") FLAVORS "<<< 406\n{\"computeFault\":{\"message\":\"Version 2.60 is not supported\"}}\n");
    assert_int_equal(types(&w, 0), KP_ENOTSUPPORTED);
    end(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_token_that_is_refused_is_renewed), cmocka_unit_test(refused_again_it_is_an_error), cmocka_unit_test(a_wrong_password_is_told_without_it),
        cmocka_unit_test(too_many_requests_are_made_again), cmocka_unit_test(a_longer_rest_than_there_is_time_for_is_handed_on),
        cmocka_unit_test(an_answer_that_is_cut_short_is_corrupt), cmocka_unit_test(lists_have_pages), cmocka_unit_test(a_lost_answer_is_not_asked_for_again),
        cmocka_unit_test(what_a_killed_run_left_without_tags_gets_them), cmocka_unit_test(no_address_left_is_a_quota), cmocka_unit_test(the_record_tells_network_and_zones),
        cmocka_unit_test(a_quota_that_does_not_suffice_is_told_in_numbers), cmocka_unit_test(several_external_networks_want_a_choice),
        cmocka_unit_test(without_octavia_there_are_no_balancers), cmocka_unit_test(udp_has_no_proxy_protocol), cmocka_unit_test(an_error_is_never_not_found),
        cmocka_unit_test(no_valid_host_is_told_and_nothing_stays), cmocka_unit_test(an_old_nova_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
