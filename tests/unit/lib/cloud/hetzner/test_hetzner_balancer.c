/* Load balancers of the Hetzner driver against an API in memory: made, changed, and mended whatever is done to them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "cloud/cloud.h"
#include "tests/support/hetzner_fake.h"

#define UID "6f1c2f2e-1111-4222-8333-444455556666"

static struct hetzner_fake fake; /* one process, with a new project for each test */

struct world {
    struct hetzner_fake *fake;
    struct cloud *cloud;
    struct kp_arena *arena;
    struct kp_error error;
    struct cloud_target targets[3]; /* of machines that are there */
    struct cloud_balancer_spec spec;
    struct cloud_balancer made;
};

static const struct cloud_listener two_ports[] = {{CLOUD_TCP, 80, 30080}, {CLOUD_TCP, 443, 30443}};

static int make(struct world *w, size_t i)
{
    const char *address = NULL, *name = kp_arena_printf(w->arena, "w-%zu", i + 1);
    struct cloud_machine machine;
    int r = cloud_address_reserve(w->cloud, UID, name, w->arena, &address, &w->error);
    const struct cloud_machine_spec spec = {.cluster_uid = UID, .name = name, .role = "worker", .pool = "", .machine_type = "", .image = "node-one", .address = address,
                                            .user_data = "{}", .user_data_len = 2};
    if (r == 0)
        r = cloud_machine_create(w->cloud, &spec, w->arena, &machine, &w->error);
    w->targets[i] = (struct cloud_target){.machine = name, .address = machine.address};
    return r;
}

static int ensure(struct world *w)
{
    return cloud_balancer_ensure(w->cloud, &w->spec, w->arena, &w->made, &w->error);
}

static int setup(void **state)
{
    struct world *w = kp_calloc(1, sizeof(*w));
    const struct cloud_network_spec network = {.cluster_uid = UID};
    struct cloud_network ignored;
    *state = w;
    w->arena = kp_arena_new(0);
    w->fake = &fake;
    hetzner_fake_reset(&fake);
    int r = cloud_open("hetzner", NULL, &w->cloud, &w->error);
    if (r == 0)
        r = cloud_network_ensure(w->cloud, &network, w->arena, &ignored, &w->error);
    for (size_t i = 0; r == 0 && i < 3; i++)
        r = make(w, i);
    w->spec = (struct cloud_balancer_spec){.cluster_uid = UID, .name = "web", .description = "default/web", .listeners = two_ports, .n_listeners = 2, .targets = w->targets,
                                           .n_targets = 2};
    return r < 0 ? r : ensure(w);
}

static int teardown(void **state)
{
    struct world *w = *state;
    cloud_close(w->cloud);
    kp_arena_free(w->arena);
    free(w);
    return 0;
}

/* The load balancer as the API has it, without what it says of health. */
static json_t *look(struct world *w)
{
    json_t *answer = NULL;
    assert_int_equal(hetzner_fake_call(w->fake, "GET", kp_arena_printf(w->arena, "/v1/load_balancers/%s", w->made.id), NULL, NULL, &answer), 200);
    json_t *ret = json_incref(json_object_get(answer, "load_balancer"));
    json_decref(answer);
    return ret;
}

static void act(struct world *w, const char *verb, const char *body)
{
    const char *path = kp_arena_printf(w->arena, "/v1/load_balancers/%s/actions/%s", w->made.id, verb);
    for (int i = 0; i < 20; i++) { /* while an action of the driver's, or of a line before, is at it */
        int status = hetzner_fake_call(w->fake, "POST", path, NULL, body, NULL);
        if (status != 423) {
            assert_int_equal(status, 201);
            return;
        }
    }
    fail();
}

static size_t posts(struct world *w)
{
    KP_AUTO(json_decref) json_t *log = NULL;
    size_t count = 0;
    hetzner_fake_call(w->fake, "GET", "/_fake/log", NULL, NULL, &log);
    const json_t *lines = rest_json_at(log, "log");
    for (size_t i = 0; i < json_array_size(lines); i++)
        count += !kp_starts_with(json_string_value(json_array_get(lines, i)), "GET ");
    return count;
}

static int64_t server_of(struct world *w, size_t i)
{
    struct cloud_machine machine;
    int64_t id = 0;
    assert_int_equal(cloud_machine_get(w->cloud, UID, w->targets[i].machine, w->arena, &machine, &w->error), 0);
    assert_int_equal(kp_parse_i64(machine.id, &id), 0);
    return id;
}

static bool has_target(const json_t *balancer, int64_t server)
{
    const json_t *targets = rest_json_at(balancer, "targets");
    for (size_t i = 0; i < json_array_size(targets); i++)
        if (rest_json_int(json_array_get(targets, i), "server/id") == server && rest_json_bool(json_array_get(targets, i), "use_private_ip"))
            return true;
    return false;
}

static void one_is_made_as_asked(void **state)
{
    struct world *w = *state;
    KP_AUTO(json_decref) json_t *balancer = look(w);
    assert_string_equal(w->made.address, rest_json_text(balancer, "public_net/ipv4/ip"));
    assert_int_equal(w->made.state, CLOUD_BALANCER_ACTIVE);
    assert_string_equal(rest_json_text(balancer, "load_balancer_type/name"), "lb11");
    assert_string_equal(rest_json_text(balancer, "name"), "web.6f1c2f2e");
    assert_int_equal(json_array_size(rest_json_at(balancer, "services")), 2);
    assert_int_equal(json_array_size(rest_json_at(balancer, "targets")), 2);
    assert_true(has_target(balancer, server_of(w, 0)) && has_target(balancer, server_of(w, 1)));
    assert_true(kp_starts_with(rest_json_text(balancer, "private_net/0/ip"), "10.128.192.")); /* the last quarter of 10.128.0.0/16 */
}

static void one_that_is_right_is_left_alone(void **state)
{
    struct world *w = *state;
    size_t before = posts(w);
    assert_int_equal(ensure(w), 0);
    assert_int_equal(posts(w), before);
}

static void damage_is_mended(void **state)
{
    struct world *w = *state;
    const char *second = kp_arena_printf(w->arena, "{\"type\":\"server\",\"server\":{\"id\":%lld},\"use_private_ip\":true}", (long long)server_of(w, 1));
    const char *third = kp_arena_printf(w->arena, "{\"type\":\"server\",\"server\":{\"id\":%lld}}", (long long)server_of(w, 2));
    const struct {
        const char *verb, *body;
    } harms[] = {
        {"remove_target", second}, {"add_target", third}, {"delete_service", "{\"listen_port\":80}"},
        {"add_service", "{\"protocol\":\"tcp\",\"listen_port\":8080,\"destination_port\":1}"}, {"update_service", "{\"listen_port\":443,\"destination_port\":30444}"},
        {"update_service", "{\"listen_port\":443,\"proxyprotocol\":true}"}, {"update_service", "{\"listen_port\":443,\"health_check\":{\"interval\":60}}"},
        {"update_service", "{\"listen_port\":443,\"health_check\":{\"protocol\":\"http\",\"http\":{\"path\":\"/\"}}}"},
        {"change_algorithm", "{\"type\":\"least_connections\"}"}, {"disable_public_interface", NULL},
    };
    for (size_t i = 0; i < KP_ARRAY_LEN(harms); i++) {
        act(w, harms[i].verb, harms[i].body);
        assert_int_equal(ensure(w), 0);
        KP_AUTO(json_decref) json_t *balancer = look(w);
        assert_int_equal(json_array_size(rest_json_at(balancer, "services")), 2);
        assert_int_equal(json_array_size(rest_json_at(balancer, "targets")), 2);
        assert_true(has_target(balancer, server_of(w, 0)) && has_target(balancer, server_of(w, 1)));
        assert_true(rest_json_bool(balancer, "public_net/enabled"));
        assert_string_equal(rest_json_text(balancer, "algorithm/type"), "round_robin");
        size_t before = posts(w);
        assert_int_equal(ensure(w), 0);
        assert_int_equal(posts(w), before); /* it was mended at once */
    }
}

static void damage_all_at_once_is_mended(void **state)
{
    struct world *w = *state;
    act(w, "remove_target", kp_arena_printf(w->arena, "{\"type\":\"server\",\"server\":{\"id\":%lld}}", (long long)server_of(w, 0)));
    act(w, "remove_target", kp_arena_printf(w->arena, "{\"type\":\"server\",\"server\":{\"id\":%lld}}", (long long)server_of(w, 1)));
    act(w, "detach_from_network", NULL);
    act(w, "delete_service", "{\"listen_port\":80}");
    assert_int_equal(ensure(w), 0);
    KP_AUTO(json_decref) json_t *balancer = look(w);
    assert_int_equal(json_array_size(rest_json_at(balancer, "targets")), 2);
    assert_int_equal(json_array_size(rest_json_at(balancer, "private_net")), 1);
    assert_int_equal(json_array_size(rest_json_at(balancer, "services")), 2);
}

static void one_deleted_by_others_is_made_again(void **state)
{
    struct world *w = *state;
    const char *before = w->made.id;
    for (int status = 423; status == 423;)
        status = hetzner_fake_call(w->fake, "DELETE", kp_arena_printf(w->arena, "/v1/load_balancers/%s", before), NULL, NULL, NULL);
    assert_int_equal(ensure(w), 0);
    assert_string_not_equal(w->made.id, before);
}

static void a_type_with_room_is_chosen(void **state)
{
    struct world *w = *state;
    struct cloud_listener many[31];
    for (int i = 0; i < 31; i++)
        many[i] = (struct cloud_listener){CLOUD_TCP, 1000 + i, 30000 + i};
    w->spec.listeners = many;
    w->spec.n_listeners = 6; /* lb11 has 5 */
    assert_int_equal(ensure(w), 0);
    KP_AUTO(json_decref) json_t *balancer = look(w);
    assert_string_equal(rest_json_text(balancer, "load_balancer_type/name"), "lb21");
    assert_int_equal(json_array_size(rest_json_at(balancer, "services")), 6);
    w->spec.n_listeners = 31;
    assert_int_equal(ensure(w), KP_EINVALID);
    assert_non_null(strstr(w->error.message, "31 ports"));
}

static void an_internal_one_has_a_private_address(void **state)
{
    struct world *w = *state;
    w->spec.name = "inside";
    w->spec.internal = true;
    w->spec.address = "10.128.200.7";
    assert_int_equal(ensure(w), 0);
    assert_string_equal(w->made.address, "10.128.200.7");
    KP_AUTO(json_decref) json_t *balancer = look(w);
    assert_false(rest_json_bool(balancer, "public_net/enabled"));
    w->spec.name = "inside-too"; /* the address is taken */
    assert_int_equal(ensure(w), KP_EINVALID);
    assert_non_null(strstr(w->error.message, "10.128.200.7"));
}

static void a_public_address_cannot_be_chosen(void **state)
{
    struct world *w = *state;
    w->spec.address = w->made.address; /* but asking for the one it has is fine */
    assert_int_equal(ensure(w), 0);
    w->spec.address = "203.0.113.250";
    assert_int_equal(ensure(w), KP_EINVALID);
    assert_non_null(strstr(w->error.message, "Hetzner chooses"));
}

static void two_have_addresses_of_their_own(void **state)
{
    struct world *w = *state;
    KP_AUTO(json_decref) json_t *first = look(w);
    w->spec.name = "other";
    assert_int_equal(ensure(w), 0);
    KP_AUTO(json_decref) json_t *second = look(w);
    assert_string_not_equal(rest_json_text(first, "private_net/0/ip"), rest_json_text(second, "private_net/0/ip"));
}

static void lost_answers_make_no_second_one(void **state)
{
    static const char *const verbs[] = {"", "/\\\\d+/actions/attach_to_network", "/\\\\d+/actions/add_service", "/\\\\d+/actions/add_target"};
    struct world *w = *state;
    struct cloud_balancer_list list;
    for (size_t i = 0; i < KP_ARRAY_LEN(verbs); i++) {
        w->spec.name = kp_arena_printf(w->arena, "lost-%zu", i);
        const char *body = kp_arena_printf(w->arena, "{\"match\":\"POST /load_balancers%s\",\"kind\":\"lost\"}", verbs[i]);
        assert_int_equal(hetzner_fake_call(w->fake, "POST", "/_fake/fault", NULL, body, NULL), 200);
        assert_true(ensure(w) < 0);
        assert_int_equal(ensure(w), 0);
        KP_AUTO(json_decref) json_t *balancer = look(w);
        assert_int_equal(json_array_size(rest_json_at(balancer, "targets")), 2);
        assert_int_equal(json_array_size(rest_json_at(balancer, "services")), 2);
        assert_int_equal(cloud_balancer_list(w->cloud, UID, w->arena, &list, &w->error), 0);
        assert_int_equal(list.len, i + 2); /* with "web" */
    }
}

static void health_is_told_by_machine_and_port(void **state)
{
    struct world *w = *state;
    struct cloud_target_health_list list;
    const char *body = kp_arena_printf(w->arena, "{\"unhealthy\":[%lld]}", (long long)server_of(w, 1));
    assert_int_equal(hetzner_fake_call(w->fake, "POST", "/_fake/set", NULL, body, NULL), 200);
    assert_int_equal(cloud_balancer_health(w->cloud, UID, "web", w->arena, &list, &w->error), 0);
    assert_int_equal(list.len, 4);
    for (size_t i = 0; i < list.len; i++) {
        assert_true(list.items[i].known);
        assert_true(list.items[i].port == 30080 || list.items[i].port == 30443);
        assert_int_equal(list.items[i].healthy, kp_streq(list.items[i].machine, "w-1"));
    }
}

static void a_machine_that_is_gone_is_no_target(void **state)
{
    struct world *w = *state;
    assert_int_equal(cloud_machine_delete(w->cloud, UID, "w-2", &w->error), 0);
    assert_int_equal(ensure(w), 0);
    KP_AUTO(json_decref) json_t *balancer = look(w);
    assert_int_equal(json_array_size(rest_json_at(balancer, "targets")), 1);
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
        WORLD(one_is_made_as_asked), WORLD(one_that_is_right_is_left_alone), WORLD(damage_is_mended), WORLD(damage_all_at_once_is_mended),
        WORLD(one_deleted_by_others_is_made_again), WORLD(a_type_with_room_is_chosen), WORLD(an_internal_one_has_a_private_address),
        WORLD(a_public_address_cannot_be_chosen), WORLD(two_have_addresses_of_their_own), WORLD(lost_answers_make_no_second_one),
        WORLD(health_is_told_by_machine_and_port), WORLD(a_machine_that_is_gone_is_no_target),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
