/* The Hetzner driver against an API in memory: tokens, lost answers, locks, limits, pages, half-made machines, damaged load balancers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <unistd.h>

#include "archive/archive.h"
#include "cloud/cloud.h"
#include "cloud/hetzner/hetzner_internal.h"
#include "tests/support/hetzner_fake.h"

#define UID "6f1c2f2e-1111-4222-8333-444455556666"
#define USER_DATA "{\"kind\":\"MachineConfig\"}"

static struct hetzner_fake fake; /* one process, with a new project for each test */

struct world {
    struct hetzner_fake *fake;
    struct cloud *cloud;
    struct kp_arena *arena;
    struct kp_error error;
};

static int setup(void **state)
{
    struct world *w = kp_calloc(1, sizeof(*w));
    *state = w;
    w->arena = kp_arena_new(0);
    w->fake = &fake;
    hetzner_fake_reset(&fake);
    return cloud_open("hetzner", NULL, &w->cloud, &w->error);
}

static int teardown(void **state)
{
    struct world *w = *state;
    cloud_close(w->cloud);
    kp_arena_free(w->arena);
    free(w);
    return 0;
}

static int call(struct world *w, const char *method, const char *path, const char *body)
{
    return hetzner_fake_call(w->fake, method, path, NULL, body, NULL);
}

static void fault(struct world *w, const char *body)
{
    assert_int_equal(call(w, "POST", "/_fake/fault", body), 200);
}

static size_t count(struct world *w, const char *line)
{
    return hetzner_fake_count(w->fake, line);
}

static int make_network(struct world *w, const char *zones)
{
    const struct cloud_network_spec spec = {.cluster_uid = UID, .zones = zones, .pod_cidr = "10.244.0.0/16"};
    struct cloud_network network;
    return cloud_network_ensure(w->cloud, &spec, w->arena, &network, &w->error);
}

static int make(struct world *w, const char *name, const char *role, struct cloud_machine *ret)
{
    const char *address = NULL;
    int r = cloud_address_reserve(w->cloud, UID, name, w->arena, &address, &w->error);
    const struct cloud_machine_spec spec = {.cluster_uid = UID, .name = name, .role = role, .pool = "", .machine_type = "", .image = "node-one", .address = address,
                                            .user_data = USER_DATA, .user_data_len = strlen(USER_DATA)};
    return r < 0 ? r : cloud_machine_create(w->cloud, &spec, w->arena, ret, &w->error);
}

static int64_t id_of(const struct cloud_machine *machine)
{
    int64_t id = 0;
    assert_int_equal(kp_parse_i64(machine->id, &id), 0);
    return id;
}

/* ---- who asks */
static void a_token_is_wanted(void **state)
{
    struct world *w = *state;
    struct cloud *cloud = NULL;
    const struct cloud_wish wish = {0};
    unsetenv("HCLOUD_TOKEN");
    assert_int_equal(cloud_open("hetzner", NULL, &cloud, &w->error), KP_EUNAUTHORIZED);
    assert_non_null(strstr(w->error.message, "HCLOUD_TOKEN"));
    setenv("HCLOUD_TOKEN", "wrong\nInjected: header", 1);
    assert_int_equal(cloud_open("hetzner", NULL, &cloud, &w->error), KP_EUNAUTHORIZED);
    assert_null(strstr(w->error.message, "Injected"));
    setenv("HCLOUD_TOKEN", "one-that-nobody-gave", 1);
    assert_int_equal(cloud_open("hetzner", NULL, &cloud, &w->error), 0);
    assert_int_equal(cloud_check(cloud, &wish, &w->error), KP_EUNAUTHORIZED);
    assert_non_null(strstr(w->error.message, "HCLOUD_TOKEN"));
    assert_null(strstr(w->error.message, "one-that-nobody-gave"));
    cloud_close(cloud);
}

static void a_token_may_be_in_a_file(void **state)
{
    struct world *w = *state;
    char path[] = "/tmp/hetzner-token-XXXXXX";
    struct cloud *cloud = NULL;
    const struct cloud_wish wish = {0};
    int fd = mkstemp(path);
    assert_int_equal(write(fd, HETZNER_FAKE_TOKEN "\n", strlen(HETZNER_FAKE_TOKEN) + 1), strlen(HETZNER_FAKE_TOKEN) + 1);
    close(fd);
    setenv("HCLOUD_TOKEN", "not-this-one", 1); /* the file of the account goes first */
    const struct cloud_options options = {.account = {.credentials = path}};
    assert_int_equal(cloud_open("hetzner", &options, &cloud, &w->error), 0);
    assert_int_equal(cloud_check(cloud, &wish, &w->error), 0);
    struct cloud_export export;
    assert_int_equal(cloud_account_export(cloud, w->arena, &export, &w->error), 0);
    assert_string_equal(export.credentials, HETZNER_FAKE_TOKEN);
    assert_string_equal(export.account.endpoint, getenv("HCLOUD_ENDPOINT"));
    cloud_close(cloud);
    unlink(path);
    assert_true(cloud_open("hetzner", &options, &cloud, &w->error) < 0);
}

static void a_readonly_token_makes_nothing(void **state)
{
    struct world *w = *state;
    struct cloud *readonly = NULL;
    struct cloud_network network;
    const struct cloud_network_spec spec = {.cluster_uid = UID};
    setenv("HCLOUD_TOKEN", HETZNER_FAKE_READONLY, 1);
    assert_int_equal(cloud_open("hetzner", NULL, &readonly, &w->error), 0);
    assert_int_equal(cloud_network_ensure(readonly, &spec, w->arena, &network, &w->error), KP_EFORBIDDEN);
    assert_non_null(strstr(w->error.message, "token_readonly"));
    assert_int_equal(cloud_network_get(readonly, UID, w->arena, &network, &w->error), KP_ENOTFOUND);
    cloud_close(readonly);
}

static void an_answer_that_is_not_the_apis_tells_nothing(void **state)
{
    struct world *w = *state;
    struct cloud_machine machine;
    fault(w, "{\"match\":\"GET /servers\",\"kind\":\"status\",\"status\":404,\"code\":\"\"}");
    assert_int_equal(cloud_machine_get(w->cloud, UID, "w-1", w->arena, &machine, &w->error), KP_EUNAVAILABLE);
    fault(w, "{\"match\":\"GET /servers\",\"kind\":\"body\",\"body\":{}}");
    assert_int_equal(cloud_machine_get(w->cloud, UID, "w-1", w->arena, &machine, &w->error), KP_ECORRUPT);
    fault(w, "{\"match\":\"GET /servers\",\"kind\":\"status\",\"status\":500,\"code\":\"server_error\"}"); /* asked again */
    assert_int_equal(cloud_machine_get(w->cloud, UID, "w-1", w->arena, &machine, &w->error), KP_ENOTFOUND);
    assert_int_equal(count(w, "GET /servers"), 4);
}

/* ---- machines */
static void a_machine_is_what_was_asked_for(void **state)
{
    struct world *w = *state;
    struct cloud_machine machine;
    KP_AUTO(json_decref) json_t *server = NULL, *data = NULL;
    KP_AUTO_BUF struct kp_buf packed = {0}, text = {0};
    assert_int_equal(make_network(w, ""), 0);
    assert_int_equal(make(w, "w-1", "worker", &machine), 0);
    assert_string_equal(machine.provider_id, kp_arena_printf(w->arena, "hcloud://%s", machine.id));
    assert_string_equal(machine.machine_type, "cx22"); /* the smallest of two cores and 4 GiB that is x86 and still sold */
    assert_string_equal(machine.region, "fsn1");
    assert_string_equal(machine.zone, "fsn1");
    assert_true(!kp_empty(machine.public_address));
    assert_int_equal(hetzner_fake_call(w->fake, "GET", kp_arena_printf(w->arena, "/v1/servers/%s", machine.id), NULL, NULL, &server), 200);
    assert_string_equal(rest_json_text(server, "server/name"), "w-1.6f1c2f2e");
    assert_string_equal(rest_json_text(server, "server/private_net/0/ip"), machine.address);
    assert_int_equal(json_array_size(rest_json_at(server, "server/public_net/firewalls")), 1);
    assert_false(json_is_object(rest_json_at(server, "server/placement_group")));
    assert_null(json_object_get(rest_json_at(server, "server/labels"), HZ_STAGE_LABEL));
    const char *body = kp_arena_printf(w->arena, "{\"server\":%lld}", (long long)id_of(&machine));
    assert_int_equal(hetzner_fake_call(w->fake, "POST", "/_fake/user_data", NULL, body, &data), 200);
    const char *given = rest_json_text(data, "user_data");
    assert_int_equal(kp_base64_decode(&packed, given, strlen(given)), 0);
    assert_int_equal(archive_gunzip(packed.data, packed.len, 4096, &text, &w->error), 0);
    assert_string_equal(text.data, USER_DATA);
}

static void control_planes_are_spread(void **state)
{
    struct world *w = *state;
    struct cloud_machine machines[3];
    KP_AUTO(json_decref) json_t *groups = NULL;
    static const char *const names[] = {"cp-1", "cp-2", "cp-3"}, *const places[] = {"fsn1", "nbg1", "hel1"};
    assert_int_equal(make_network(w, "fsn1 nbg1 hel1"), 0);
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(make(w, names[i], "control-plane", &machines[i]), 0);
        assert_string_equal(machines[i].zone, places[i]);
    }
    assert_int_equal(hetzner_fake_call(w->fake, "GET", "/v1/placement_groups", NULL, NULL, &groups), 200);
    assert_int_equal(json_array_size(rest_json_at(groups, "placement_groups")), 1);
    assert_int_equal(json_array_size(rest_json_at(groups, "placement_groups/0/servers")), 3);
}

static void places_that_are_none_are_refused(void **state)
{
    struct world *w = *state;
    assert_int_equal(make_network(w, "fsn1 ash"), KP_EINVALID); /* another network zone */
    assert_non_null(strstr(w->error.message, "fsn1, nbg1, hel1"));
    assert_int_equal(make_network(w, "nowhere"), KP_EINVALID);
    assert_int_equal(count(w, "POST /networks"), 0);
    const char *const names[] = {"w-1"}, *const types[] = {"cax11"}; /* arm */
    const struct cloud_wish wish = {.machines = names, .machine_types = types, .n_machines = 1};
    assert_int_equal(cloud_check(w->cloud, &wish, &w->error), KP_EINVALID);
    assert_non_null(strstr(w->error.message, "cax11"));
}

static void a_lost_answer_makes_no_second_machine(void **state)
{
    static const char *const lost[] = {"POST /servers", "POST /servers/\\\\d+/actions/attach_to_network", "POST /servers/\\\\d+/actions/poweron", "PUT /servers/\\\\d+"};
    struct world *w = *state;
    assert_int_equal(make_network(w, ""), 0);
    for (size_t i = 0; i < KP_ARRAY_LEN(lost); i++) {
        struct cloud_machine machine;
        struct cloud_machine_list list;
        const char *name = kp_arena_printf(w->arena, "w-%zu", i + 1);
        fault(w, kp_arena_printf(w->arena, "{\"match\":\"%s\",\"kind\":\"lost\"}", lost[i]));
        int r = make(w, name, "worker", &machine);
        assert_true(i == 3 ? r == 0 : r < 0); /* the last may be repeated, and was */
        assert_int_equal(make(w, name, "worker", &machine), 0);
        assert_int_equal(machine.power, CLOUD_POWER_ON);
        assert_true(!kp_empty(machine.address));
        assert_int_equal(cloud_machine_list(w->cloud, UID, w->arena, &list, &w->error), 0);
        assert_int_equal(list.len, i + 1);
    }
    assert_int_equal(count(w, "POST /servers"), KP_ARRAY_LEN(lost));
}

static void an_action_that_fails_is_an_error_and_gone_on_from(void **state)
{
    struct world *w = *state;
    struct cloud_machine machine;
    assert_int_equal(make_network(w, ""), 0);
    fault(w, "{\"match\":\"POST /servers/\\\\d+/actions/attach_to_network\",\"kind\":\"action\",\"command\":\"attach_to_network\",\"code\":\"server_error\"}");
    assert_int_equal(make(w, "w-1", "worker", &machine), KP_EUNAVAILABLE);
    assert_non_null(strstr(w->error.message, "server_error"));
    assert_int_equal(make(w, "w-1", "worker", &machine), 0);
    assert_int_equal(machine.power, CLOUD_POWER_ON);
    assert_int_equal(count(w, "POST /servers"), 1);
}

static void a_locked_resource_is_waited_for(void **state)
{
    struct world *w = *state;
    struct cloud_machine machine;
    assert_int_equal(make_network(w, ""), 0);
    fault(w, "{\"match\":\"POST /servers/\\\\d+/actions/poweron\",\"kind\":\"status\",\"status\":423,\"code\":\"locked\",\"times\":2}");
    fault(w, "{\"match\":\"PUT /networks/\\\\d+\",\"kind\":\"status\",\"status\":409,\"code\":\"conflict\",\"times\":2}");
    assert_int_equal(make(w, "w-1", "worker", &machine), 0);
    assert_int_equal(count(w, "POST /servers/N/actions/poweron"), 3);
    assert_int_equal(count(w, "PUT /networks/N"), 3);
}

static void limits_are_told(void **state)
{
    struct world *w = *state;
    struct cloud_machine machine;
    assert_int_equal(make_network(w, ""), 0);
    fault(w, "{\"match\":\"POST /servers\",\"kind\":\"status\",\"status\":412,\"code\":\"placement_error\"}");
    assert_int_equal(make(w, "w-1", "worker", &machine), KP_EUNAVAILABLE);
    assert_int_equal(call(w, "POST", "/_fake/set", "{\"limits\":{\"servers\":0}}"), 200);
    assert_int_equal(make(w, "w-1", "worker", &machine), KP_EQUOTA);
    assert_non_null(strstr(w->error.message, "resource_limit_exceeded"));
}

static void too_many_requests_are_made_later(void **state)
{
    struct world *w = *state;
    assert_int_equal(call(w, "POST", "/_fake/set", "{\"rate_limit\":3}"), 200);
    assert_int_equal(make_network(w, ""), 0);
    assert_int_equal(count(w, "POST /networks") > 1 || count(w, "GET /networks") > 3 || count(w, "POST /firewalls") > 1 || count(w, "GET /firewalls") > 1, 1);
}

static void user_data_have_a_limit(void **state)
{
    struct world *w = *state;
    const char *address = NULL;
    struct cloud_machine machine;
    static char noise[40000];
    uint32_t seed = 1;
    for (size_t i = 0; i < sizeof noise; i++)
        noise[i] = (char)((seed = seed * 1664525 + 1013904223) >> 24);
    assert_int_equal(make_network(w, ""), 0);
    assert_int_equal(cloud_address_reserve(w->cloud, UID, "w-1", w->arena, &address, &w->error), 0);
    const struct cloud_machine_spec spec = {.cluster_uid = UID, .name = "w-1", .role = "worker", .pool = "", .machine_type = "", .image = "node-one", .address = address,
                                            .user_data = noise, .user_data_len = sizeof noise};
    assert_int_equal(cloud_machine_create(w->cloud, &spec, w->arena, &machine, &w->error), KP_ETOOLARGE);
    assert_int_equal(count(w, "POST /servers"), 0);
}

static void an_image_that_is_missing_has_a_remedy(void **state)
{
    struct world *w = *state;
    assert_int_equal(cloud_image_ensure(w->cloud, "node-two", &w->error), 0);
    assert_int_equal(cloud_image_ensure(w->cloud, "node-three", &w->error), KP_ENOTFOUND);
    assert_non_null(strstr(w->error.message, "kprov-image=node-three"));
    assert_int_equal(call(w, "POST", "/_fake/image", "{\"labels\":{\"kprov-image\":\"node-three\"},\"status\":\"creating\"}"), 200);
    assert_int_equal(cloud_image_ensure(w->cloud, "node-three", &w->error), KP_ENOTFOUND); /* not yet */
    assert_int_equal(call(w, "POST", "/_fake/image", "{\"labels\":{\"kprov-image\":\"node-three\"}}"), 200);
    assert_int_equal(cloud_image_ensure(w->cloud, "node-three", &w->error), 0);
}

static void all_pages_are_read(void **state)
{
    struct world *w = *state;
    struct cloud_machine_list list;
    assert_int_equal(call(w, "POST", "/_fake/set", "{\"ticks\":0,\"limits\":{\"servers\":1000}}"), 200);
    for (int i = 0; i < 120; i++) {
        const char *body = kp_arena_printf(w->arena, "{\"name\":\"x%03d\",\"server_type\":\"cx22\",\"image\":\"4712\",\"labels\":{\"kprov-cluster\":\"" UID "\",\"kprov-name\":\"x%03d\"}}",
                                           i, i);
        assert_int_equal(call(w, "POST", "/v1/servers", body), 201);
    }
    assert_int_equal(cloud_machine_list(w->cloud, UID, w->arena, &list, &w->error), 0);
    assert_int_equal(list.len, 120);
    for (int i = 0; i < 120; i++)
        assert_string_equal(list.items[i].name, kp_arena_printf(w->arena, "x%03d", i));
    assert_int_equal(count(w, "GET /servers"), 3);
}

static void a_public_address_may_come_before_its_machine(void **state)
{
    struct world *w = *state;
    struct cloud_machine machine;
    const char *address = NULL, *again = NULL;
    assert_int_equal(make_network(w, "nbg1"), 0);
    assert_int_equal(cloud_address_publish(w->cloud, UID, "w-1", w->arena, &address, &w->error), 0);
    assert_int_equal(cloud_address_publish(w->cloud, UID, "w-1", w->arena, &again, &w->error), 0);
    assert_string_equal(address, again);
    assert_int_equal(make(w, "w-1", "worker", &machine), 0);
    assert_string_equal(machine.public_address, address);
    assert_int_equal(cloud_address_release(w->cloud, UID, "w-1", &w->error), KP_ECONFLICT); /* the machine has it */
    assert_int_equal(cloud_machine_delete(w->cloud, UID, "w-1", &w->error), 0);
    assert_int_equal(cloud_address_release(w->cloud, UID, "w-1", &w->error), 0);
    assert_int_equal(cloud_purge(w->cloud, UID, &w->error), 0);
    struct kp_strings left = {0};
    assert_int_equal(cloud_owned(w->cloud, UID, w->arena, &left, &w->error), 0);
    assert_int_equal(left.len, 0);
    kp_strings_done(&left);
}

/* ---- routes */
static void a_route_follows_its_machine(void **state)
{
    struct world *w = *state;
    struct cloud_machine one, two;
    struct cloud_route route = {"10.244.1.0/24", "w-1"};
    struct cloud_route_list list;
    assert_int_equal(make_network(w, ""), 0);
    assert_int_equal(make(w, "w-1", "worker", &one), 0);
    assert_int_equal(make(w, "w-2", "worker", &two), 0);
    assert_int_equal(cloud_route_ensure(w->cloud, UID, &route, &w->error), 0);
    assert_int_equal(cloud_route_ensure(w->cloud, UID, &route, &w->error), 0);
    assert_int_equal(count(w, "POST /networks/N/actions/add_route"), 1);
    route.machine = "w-2";
    assert_int_equal(cloud_route_ensure(w->cloud, UID, &route, &w->error), 0);
    assert_int_equal(cloud_machine_delete(w->cloud, UID, "w-2", &w->error), 0);
    assert_int_equal(cloud_route_list(w->cloud, UID, w->arena, &list, &w->error), 0);
    assert_int_equal(list.len, 1);
    assert_string_equal(list.items[0].machine, ""); /* it leads to no machine any more */
    assert_int_equal(cloud_route_delete(w->cloud, UID, &route, &w->error), 0);
    assert_int_equal(cloud_route_delete(w->cloud, UID, &route, &w->error), 0);
}

static int start(void **state)
{
    return hetzner_fake_start(&fake) ? 0 : -1;
}

static int stop(void **state)
{
    hetzner_fake_stop(&fake);
    return 0;
}

int main(void)
{
#define WORLD(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
    const struct CMUnitTest tests[] = {
        WORLD(a_token_is_wanted), WORLD(a_token_may_be_in_a_file), WORLD(a_readonly_token_makes_nothing), WORLD(an_answer_that_is_not_the_apis_tells_nothing),
        WORLD(a_machine_is_what_was_asked_for), WORLD(control_planes_are_spread), WORLD(places_that_are_none_are_refused), WORLD(a_lost_answer_makes_no_second_machine),
        WORLD(an_action_that_fails_is_an_error_and_gone_on_from), WORLD(a_locked_resource_is_waited_for), WORLD(limits_are_told), WORLD(too_many_requests_are_made_later),
        WORLD(user_data_have_a_limit), WORLD(an_image_that_is_missing_has_a_remedy), WORLD(all_pages_are_read), WORLD(a_public_address_may_come_before_its_machine),
        WORLD(a_route_follows_its_machine),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
