/* Pools of addresses as text, and which node holds one. */
#include "lib/vip/vip.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

static void pools_are_ranges_prefixes_and_single_addresses(void **state)
{
    struct vip_pool pool;
    char address[VIP_ADDRESS_MAX];
    assert_int_equal(vip_pool_parse("10.89.0.201-10.89.0.203,10.90.0.16/30,10.91.0.7", &pool, NULL), 0);
    assert_int_equal(vip_pool_size(&pool), 3 + 4 + 1);
    static const char *const all[] = {"10.89.0.201", "10.89.0.202", "10.89.0.203", "10.90.0.16", "10.90.0.17", "10.90.0.18", "10.90.0.19", "10.91.0.7"};
    for (size_t i = 0; i < KP_ARRAY_LEN(all); i++) {
        vip_pool_address(&pool, i, address);
        assert_string_equal(address, all[i]);
        assert_true(vip_pool_has(&pool, all[i]));
    }
    assert_false(vip_pool_has(&pool, "10.89.0.200"));
    assert_false(vip_pool_has(&pool, "10.90.0.20"));
    assert_false(vip_pool_has(&pool, "x"));
    assert_false(vip_pool_has(&pool, NULL));
    assert_int_equal(vip_pool_parse("", &pool, NULL), 0);
    assert_int_equal(vip_pool_size(&pool), 0);
}

static void bad_pools_are_refused_by_name(void **state)
{
    static const char *const bad[] = {"10.0.0.9-10.0.0.1", "10.0.0.1/24", "10.0.0.0/33", "10.0.0.0/7", "10.0.0.256", "fe80::1", "10.0.0.1-", "10.0.0.0/16"};
    for (size_t i = 0; i < KP_ARRAY_LEN(bad); i++) {
        struct vip_pool pool;
        struct kp_error error = {0};
        assert_int_equal(vip_pool_parse(bad[i], &pool, &error), KP_EUSAGE);
        assert_non_null(strstr(error.message, bad[i]));
    }
}

struct world {
    struct kp_arena *arena;
    struct vip_view view;
    struct k8s_node *nodes[4];
    struct vip_node alive[4];
    struct k8s_service *service;
};

static int setup(void **state)
{
    static const char *const names[] = {"n0", "n1", "n2", "n3"};
    struct world *w = kp_calloc(1, sizeof *w);
    w->arena = kp_arena_new(0);
    for (size_t i = 0; i < 4; i++) {
        w->nodes[i] = KP_OBJECT_NEW(w->arena, k8s_node);
        w->nodes[i]->metadata->name = names[i];
        w->alive[i] = (struct vip_node){.name = names[i], .alive = true, .settled = true};
    }
    w->view = (struct vip_view){.nodes = (const struct k8s_node *const *)w->nodes, .n_nodes = 4, .alive = w->alive, .n_alive = 4};
    w->service = KP_OBJECT_NEW(w->arena, k8s_service);
    w->service->metadata->name = "web";
    w->service->metadata->namespace = "default";
    w->service->spec->type = "LoadBalancer";
    *state = w;
    return 0;
}

static int teardown(void **state)
{
    struct world *w = *state;
    kp_arena_free(w->arena);
    free(w);
    return 0;
}

static struct vip_node *alive_of(struct world *w, const char *name)
{
    for (size_t i = 0; i < 4; i++)
        if (kp_streq(w->alive[i].name, name))
            return &w->alive[i];
    return NULL;
}

static void a_holder_that_dies_is_replaced_and_others_stay(void **state)
{
    struct world *w = *state;
    char addresses[40][16], before[40][8];
    size_t of_first = 0;
    for (int i = 0; i < 40; i++) {
        snprintf(addresses[i], sizeof addresses[i], "10.0.0.%d", i + 1);
        snprintf(before[i], sizeof before[i], "%s", vip_holder(&w->view, w->service, addresses[i]));
        of_first += kp_streq(before[i], "n0");
    }
    assert_in_range(of_first, 3, 20); /* they are spread */
    w->alive[0].alive = false;
    for (int i = 0; i < 40; i++) {
        const char *now = vip_holder(&w->view, w->service, addresses[i]);
        if (kp_streq(before[i], "n0"))
            assert_string_not_equal(now, "n0");
        else
            assert_string_equal(now, before[i]);
    }
    for (size_t i = 0; i < 4; i++)
        w->alive[i].alive = false;
    assert_null(vip_holder(&w->view, w->service, "10.0.0.1"));
}

static void one_that_came_back_waits_until_it_is_settled(void **state)
{
    struct world *w = *state;
    char first[8];
    snprintf(first, sizeof first, "%s", vip_holder(&w->view, w->service, "10.0.0.1"));
    alive_of(w, first)->settled = false;
    assert_string_not_equal(vip_holder(&w->view, w->service, "10.0.0.1"), first);
    for (size_t i = 0; i < 4; i++)
        w->alive[i].settled = false; /* a new cluster: nobody has to wait */
    assert_string_equal(vip_holder(&w->view, w->service, "10.0.0.1"), first);
}

static void excluded_nodes_and_with_local_those_without_endpoints_hold_nothing(void **state)
{
    struct world *w = *state;
    kp_string_map_set(w->arena, &w->nodes[1]->metadata->labels, "node.kubernetes.io/exclude-from-external-load-balancers", "");
    for (int i = 0; i < 40; i++) {
        char address[16];
        snprintf(address, sizeof address, "10.0.0.%d", i + 1);
        assert_string_not_equal(vip_holder(&w->view, w->service, address), "n1");
    }
    struct k8s_endpoint_slice *slice = KP_OBJECT_NEW(w->arena, k8s_endpoint_slice);
    slice->metadata->namespace = "default";
    kp_string_map_set(w->arena, &slice->metadata->labels, "kubernetes.io/service-name", "web");
    struct k8s_endpoint *endpoint = KP_LIST_ADD(w->arena, &slice->endpoints);
    endpoint->node_name = "n2";
    endpoint->conditions = KP_OBJECT_NEW(w->arena, k8s_endpoint_conditions);
    const struct k8s_endpoint_slice *slices[] = {slice};
    w->view.slices = slices;
    w->view.n_slices = 1;
    w->service->spec->external_traffic_policy = "Local";
    for (int i = 0; i < 40; i++) {
        char address[16];
        snprintf(address, sizeof address, "10.0.0.%d", i + 1);
        assert_string_equal(vip_holder(&w->view, w->service, address), "n2");
    }
    KP_SET(endpoint->conditions, ready, false);
    assert_null(vip_holder(&w->view, w->service, "10.0.0.1"));
}

static void other_classes_and_types_are_not_ours(void **state)
{
    struct world *w = *state;
    assert_true(vip_wants_address(w->service));
    w->service->spec->load_balancer_class = VIP_CLASS;
    assert_true(vip_wants_address(w->service));
    w->service->spec->load_balancer_class = "example.com/other";
    assert_false(vip_wants_address(w->service));
    w->service->spec->load_balancer_class = NULL;
    w->service->spec->type = "ClusterIP";
    assert_false(vip_wants_address(w->service));
}

static void who_answered_and_does_not_any_more_is_gone(void **state)
{
    struct vip_silence silence = {0};
    for (int i = 0; i < 9; i++)
        vip_silence_asked(&silence, 100 * i); /* never heard: perhaps nobody can be asked here */
    assert_false(vip_silence_means_gone(&silence, 300, 5000));
    vip_silence_heard(&silence);
    assert_false(vip_silence_means_gone(&silence, 300, 5000));
    for (int i = 0; i < VIP_SILENCE_ASKED_MIN; i++) {
        assert_false(vip_silence_means_gone(&silence, 300, 9000)); /* however long: it was not asked often enough */
        vip_silence_asked(&silence, 1000 + 10 * i);
    }
    assert_false(vip_silence_means_gone(&silence, 300, 1299)); /* often, but all at once */
    assert_true(vip_silence_means_gone(&silence, 300, 1300));
    vip_silence_asked(&silence, 5000);
    assert_true(vip_silence_means_gone(&silence, 300, 5000));
    vip_silence_heard(&silence); /* it is back */
    vip_silence_asked(&silence, 6000);
    assert_false(vip_silence_means_gone(&silence, 300, 9000));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pools_are_ranges_prefixes_and_single_addresses),
        cmocka_unit_test(bad_pools_are_refused_by_name),
        cmocka_unit_test_setup_teardown(a_holder_that_dies_is_replaced_and_others_stay, setup, teardown),
        cmocka_unit_test_setup_teardown(one_that_came_back_waits_until_it_is_settled, setup, teardown),
        cmocka_unit_test_setup_teardown(excluded_nodes_and_with_local_those_without_endpoints_hold_nothing, setup, teardown),
        cmocka_unit_test(who_answered_and_does_not_any_more_is_gone),
        cmocka_unit_test_setup_teardown(other_classes_and_types_are_not_ours, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
