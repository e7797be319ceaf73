/* The whole life of what a cluster has on Hetzner. Each request that changes something, in turn, loses its answer or fails: the same call again
 * goes on from there, nothing is made twice, and nothing is left. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "cloud/cloud.h"
#include "tests/support/hetzner_fake.h"

#define UID "6f1c2f2e-1111-4222-8333-444455556666"
#define TRIES 4          /* of one call: the fault happens once, and what it left may take another */
#define CHANGES_MAX 200  /* of a life */

static struct hetzner_fake fake;

struct life {
    struct cloud *cloud;
    struct kp_arena *arena;
    struct kp_error error;
};

static int make(struct life *l, const char *name, const char *role)
{
    const char *address = NULL;
    struct cloud_machine machine;
    int r = cloud_address_reserve(l->cloud, UID, name, l->arena, &address, &l->error);
    const struct cloud_machine_spec spec = {.cluster_uid = UID, .name = name, .role = role, .pool = "", .machine_type = "cx22", .image = "node-one", .address = address,
                                            .user_data = "{}", .user_data_len = 2};
    if (r == 0)
        r = cloud_machine_create(l->cloud, &spec, l->arena, &machine, &l->error);
    if (r == 0)
        assert_true(machine.power == CLOUD_POWER_ON && kp_streq(machine.address, address));
    return r;
}

static int network(struct life *l)
{
    const struct cloud_network_spec spec = {.cluster_uid = UID, .cidr = "10.130.0.0/16"};
    struct cloud_network made;
    return cloud_network_ensure(l->cloud, &spec, l->arena, &made, &l->error);
}

static int publish(struct life *l)
{
    const char *address = NULL;
    return cloud_address_publish(l->cloud, UID, "cp-1", l->arena, &address, &l->error);
}

static int control_plane(struct life *l)
{
    return make(l, "cp-1", "control-plane");
}

static int worker(struct life *l)
{
    return make(l, "w-1", "worker");
}

static int balancer(struct life *l)
{
    static const struct cloud_listener listeners[] = {{CLOUD_TCP, 80, 30080}, {CLOUD_TCP, 443, 30443}};
    static const struct cloud_target targets[] = {{"cp-1", "10.130.0.10"}, {"w-1", "10.130.0.11"}};
    const struct cloud_balancer_spec spec = {.cluster_uid = UID, .name = "web", .description = "", .listeners = listeners, .n_listeners = 2, .targets = targets, .n_targets = 2,
                                             .algorithm = CLOUD_LEAST_CONNECTIONS, .internal = true};
    struct cloud_balancer made;
    int r = cloud_balancer_ensure(l->cloud, &spec, l->arena, &made, &l->error);
    if (r == 0)
        assert_true(made.state == CLOUD_BALANCER_ACTIVE && kp_starts_with(made.address, "10.130.192."));
    return r;
}

static int route(struct life *l)
{
    const struct cloud_route to = {"10.244.1.0/24", "w-1"};
    return cloud_route_ensure(l->cloud, UID, &to, &l->error);
}

static int power(struct life *l)
{
    int r = cloud_machine_power(l->cloud, UID, "w-1", CLOUD_POWER_STOP, &l->error);
    return r < 0 ? r : cloud_machine_power(l->cloud, UID, "w-1", CLOUD_POWER_START, &l->error);
}

static int remove_machine(struct life *l)
{
    int r = cloud_machine_delete(l->cloud, UID, "w-1", &l->error);
    return r < 0 ? r : cloud_address_release(l->cloud, UID, "w-1", &l->error);
}

static int purge(struct life *l)
{
    return cloud_purge(l->cloud, UID, &l->error);
}

static size_t total(const char *collection)
{
    KP_AUTO(json_decref) json_t *answer = NULL;
    assert_int_equal(hetzner_fake_call(&fake, "GET", kp_arena_printf(fake.arena, "/v1/%s", collection), NULL, NULL, &answer), 200);
    return (size_t)rest_json_int(answer, "meta/pagination/total_entries");
}

static void is_complete(void)
{
    static const struct {
        const char *collection;
        size_t count;
    } wanted[] = {{"servers", 2}, {"networks", 1}, {"load_balancers", 1}, {"firewalls", 1}, {"placement_groups", 1}, {"primary_ips", 2}};
    KP_AUTO(json_decref) json_t *balancers = NULL, *networks = NULL;
    for (size_t i = 0; i < KP_ARRAY_LEN(wanted); i++)
        if (total(wanted[i].collection) != wanted[i].count)
            fail_msg("%zu %s, %zu are wanted", total(wanted[i].collection), wanted[i].collection, wanted[i].count);
    hetzner_fake_call(&fake, "GET", "/v1/load_balancers", NULL, NULL, &balancers);
    hetzner_fake_call(&fake, "GET", "/v1/networks", NULL, NULL, &networks);
    assert_int_equal(json_array_size(rest_json_at(balancers, "load_balancers/0/services")), 2);
    assert_int_equal(json_array_size(rest_json_at(balancers, "load_balancers/0/targets")), 2);
    assert_int_equal(json_array_size(rest_json_at(networks, "networks/0/routes")), 1);
}

static void is_empty(void)
{
    static const char *const collections[] = {"servers", "networks", "load_balancers", "firewalls", "placement_groups", "primary_ips"};
    for (size_t i = 0; i < KP_ARRAY_LEN(collections); i++)
        if (total(collections[i]))
            fail_msg("%zu %s are left", total(collections[i]), collections[i]);
}

/* How many requests so far were to change something. The test's own are none of these. */
static size_t changes(void)
{
    KP_AUTO(json_decref) json_t *log = NULL;
    size_t count = 0;
    hetzner_fake_call(&fake, "GET", "/_fake/log", NULL, NULL, &log);
    const json_t *lines = rest_json_at(log, "log");
    for (size_t i = 0; i < json_array_size(lines); i++)
        count += !kp_starts_with(json_string_value(json_array_get(lines, i)), "GET ");
    return count;
}

/* One life with a fault at the nth request that changes something; gives how many there were. */
static size_t live(const char *kind, size_t nth)
{
    static int (*const begin[])(struct life *) = {network, publish, control_plane, worker, balancer, route, power}, (*const end[])(struct life *) = {remove_machine, purge};
    struct life l = {.arena = kp_arena_new(0)};
    hetzner_fake_reset(&fake);
    assert_int_equal(hetzner_fake_call(&fake, "POST", "/_fake/set", NULL, "{\"ticks\":0,\"rate_limit\":100000}", NULL), 200);
    hetzner_fake_call(&fake, "POST", "/_fake/fault", NULL, kp_arena_printf(l.arena, "{\"match\":\"(POST|PUT|DELETE) .*\",\"skip\":%zu,%s}", nth, kind), NULL);
    assert_int_equal(cloud_open("hetzner", NULL, &l.cloud, &l.error), 0);
    for (size_t i = 0; i < KP_ARRAY_LEN(begin) + KP_ARRAY_LEN(end); i++) {
        int r = -1;
        if (i == KP_ARRAY_LEN(begin))
            is_complete();
        for (int tries = 0; r < 0 && tries < TRIES; tries++)
            r = i < KP_ARRAY_LEN(begin) ? begin[i](&l) : end[i - KP_ARRAY_LEN(begin)](&l);
        if (r < 0)
            fail_msg("fault %s at change %zu: step %zu: %s", kind, nth, i, l.error.message);
    }
    is_empty();
    cloud_close(l.cloud);
    kp_arena_free(l.arena);
    return changes();
}

static void sweep(const char *kind)
{
    size_t all = live(kind, CHANGES_MAX); /* where it happens to none */
    assert_in_range(all, 20, CHANGES_MAX);
    for (size_t n = 0; n < all; n++)
        live(kind, n);
}

static void a_lost_answer_does_no_harm_anywhere(void **state)
{
    sweep("\"kind\":\"lost\"");
}

static void an_error_does_no_harm_anywhere(void **state)
{
    sweep("\"kind\":\"status\",\"status\":500,\"code\":\"server_error\"");
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
    const struct CMUnitTest tests[] = {cmocka_unit_test(a_lost_answer_does_no_harm_anywhere), cmocka_unit_test(an_error_does_no_harm_anywhere)};
    return cmocka_run_group_tests(tests, start, stop);
}
