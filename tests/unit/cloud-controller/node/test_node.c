/* What a Node gets of its machine, and when it is tainted, untainted or asked about. */
#include "cloud-controller/node/node.h"

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

static struct k8s_node *node(const char *name, const char *provider_id, bool ready)
{
    struct k8s_node *n = KP_OBJECT_NEW(arena, k8s_node);
    struct k8s_node_condition *condition = KP_LIST_ADD(arena, &n->status->conditions);
    n->metadata->name = name;
    n->metadata->resource_version = "7";
    n->spec->provider_id = provider_id;
    condition->type = "Ready";
    condition->status = ready ? "True" : "Unknown";
    return n;
}

static void taint(struct k8s_node *n, const char *key)
{
    struct k8s_taint *t = KP_LIST_ADD(arena, &n->spec->taints);
    t->key = key;
    t->effect = "NoSchedule";
}

static struct cloud_machine machine(const char *name, enum cloud_power power)
{
    return (struct cloud_machine){
        .name = name, .provider_id = kp_arena_printf(arena, "cloud:///z/%s", name), .machine_type = "m1 large (old)", .region = "r", .zone = "",
        .address = "10.0.0.5", .public_address = "203.0.113.5", .power = power,
    };
}

static void a_new_node_gets_identity_and_loses_the_taint_in_one_patch(void **state)
{
    struct k8s_node *n = node("w", NULL, true);
    struct cloud_machine m = machine("w", CLOUD_POWER_ON);
    taint(n, CCM_TAINT_UNINITIALIZED);
    taint(n, "own");
    assert_string_equal(node_identity_patch(n, &m, "8", arena),
                        "{\"metadata\":{\"resourceVersion\":\"8\",\"labels\":{\"node.kubernetes.io/instance-type\":\"m1-large--old\","
                        "\"beta.kubernetes.io/instance-type\":\"m1-large--old\",\"topology.kubernetes.io/region\":\"r\","
                        "\"failure-domain.beta.kubernetes.io/region\":\"r\"}},\"spec\":{\"providerID\":\"cloud:///z/w\","
                        "\"taints\":[{\"key\":\"own\",\"effect\":\"NoSchedule\"}]}}");
}

static void a_provider_id_that_is_there_stays(void **state)
{
    struct cloud_machine m = machine("w", CLOUD_POWER_ON);
    assert_null(strstr(node_identity_patch(node("w", "x://y", true), &m, "8", arena), "providerID"));
    assert_false(node_is_of(node("w", "x://y", true), &m));
    assert_true(node_is_of(node("w", NULL, true), &m));
}

static void no_taints_are_written_as_none(void **state)
{
    struct k8s_node *n = node("w", NULL, true);
    KP_AUTO_BUF struct kp_buf text = {0};
    taint(n, CCM_TAINT_SHUTDOWN);
    ccm_print_taints(n, CCM_TAINT_SHUTDOWN, false, &text);
    assert_string_equal(text.data, "null");
    text.len = 0;
    ccm_print_taints(n, CCM_TAINT_SHUTDOWN, true, &text);
    assert_string_equal(text.data, "[{\"key\":\"" CCM_TAINT_SHUTDOWN "\",\"effect\":\"NoSchedule\"}]");
}

static void addresses_are_written_when_they_differ(void **state)
{
    struct k8s_node *n = node("w", NULL, true);
    struct cloud_machine m = machine("w", CLOUD_POWER_ON);
    static const char *const has[][2] = {{"InternalIP", "10.0.0.5"}, {"Hostname", "w"}, {"ExternalIP", "203.0.113.5"}};
    assert_string_equal(node_addresses_patch(n, &m, arena),
                        "{\"status\":{\"addresses\":[{\"type\":\"InternalIP\",\"address\":\"10.0.0.5\"},{\"type\":\"ExternalIP\",\"address\":\"203.0.113.5\"},"
                        "{\"type\":\"Hostname\",\"address\":\"w\"}]}}");
    for (size_t i = 0; i < KP_ARRAY_LEN(has); i++) {
        struct k8s_node_address *address = KP_LIST_ADD(arena, &n->status->addresses);
        address->type = has[i][0];
        address->address = has[i][1];
    }
    assert_null(node_addresses_patch(n, &m, arena)); /* the order does not matter */
    m.public_address = "";
    assert_non_null(node_addresses_patch(n, &m, arena)); /* given back */
    m.address = "";
    assert_null(node_addresses_patch(n, &m, arena)); /* not known yet */
}

static void a_machine_that_is_off_taints_its_node_until_it_is_ready_again(void **state)
{
    struct cloud_machine machines[] = {machine("w", CLOUD_POWER_OFF), machine("v", CLOUD_POWER_ON)};
    const struct cloud_machine_list list = {machines, 2};
    struct k8s_node *n = node("w", "cloud:///z/w", false), *back = node("w", "cloud:///z/w", true);
    assert_int_equal(node_judge(n, &list), NODE_TAINT);
    taint(n, CCM_TAINT_SHUTDOWN);
    assert_int_equal(node_judge(n, &list), NODE_LEAVE);
    taint(back, CCM_TAINT_SHUTDOWN);
    assert_int_equal(node_judge(back, NULL), NODE_UNTAINT); /* no cloud is needed to see that */
    assert_int_equal(node_judge(node("v", "cloud:///z/v", false), &list), NODE_LEAVE);
    assert_int_equal(node_judge(node("w", "cloud:///z/another", false), &list), NODE_LEAVE); /* it is not this one's */
}

static void only_an_answer_about_this_cluster_makes_a_node_suspect(void **state)
{
    struct cloud_machine machines[] = {machine("v", CLOUD_POWER_ON)};
    const struct cloud_machine_list list = {machines, 1}, nothing = {0};
    struct k8s_node *going = node("w", "cloud:///z/w", false);
    assert_int_equal(node_judge(node("w", "cloud:///z/w", false), &list), NODE_ASK);
    assert_int_equal(node_judge(node("w", "cloud:///z/w", true), &list), NODE_LEAVE);   /* it runs, whatever the cloud says */
    assert_int_equal(node_judge(node("w", "cloud:///z/w", false), NULL), NODE_LEAVE);   /* no answer */
    assert_int_equal(node_judge(node("w", "cloud:///z/w", false), &nothing), NODE_LEAVE); /* about another account */
    assert_int_equal(node_judge(node("w", NULL, false), &list), NODE_LEAVE);            /* not the cloud's */
    assert_int_equal(node_judge(node("w", "metal://w", false), &list), NODE_LEAVE);
    going->metadata->deletion_timestamp = KP_TIME_OF(1);
    assert_int_equal(node_judge(going, &list), NODE_LEAVE);
}

static void a_node_that_waits_for_a_machine_that_is_gone_is_asked_about(void **state)
{
    struct cloud_machine machines[] = {machine("v", CLOUD_POWER_ON)};
    const struct cloud_machine_list list = {machines, 1}, nothing = {0};
    struct k8s_node *again = node("w", NULL, false), *named = node("w", "metal://w", false), *ready = node("w", NULL, true), *there = node("v", NULL, false);
    taint(again, CCM_TAINT_UNINITIALIZED);
    taint(named, CCM_TAINT_UNINITIALIZED);
    taint(ready, CCM_TAINT_UNINITIALIZED);
    taint(there, CCM_TAINT_UNINITIALIZED);
    assert_int_equal(node_judge(again, &list), NODE_ASK);
    assert_int_equal(node_judge(again, &nothing), NODE_LEAVE);
    assert_int_equal(node_judge(again, NULL), NODE_LEAVE);
    assert_int_equal(node_judge(named, &list), NODE_LEAVE);
    assert_int_equal(node_judge(ready, &list), NODE_LEAVE);
    assert_int_equal(node_judge(there, &list), NODE_LEAVE); /* its turn comes */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_new_node_gets_identity_and_loses_the_taint_in_one_patch),
        cmocka_unit_test(a_provider_id_that_is_there_stays),
        cmocka_unit_test(no_taints_are_written_as_none),
        cmocka_unit_test(addresses_are_written_when_they_differ),
        cmocka_unit_test(a_machine_that_is_off_taints_its_node_until_it_is_ready_again),
        cmocka_unit_test(only_an_answer_about_this_cluster_makes_a_node_suspect),
        cmocka_unit_test(a_node_that_waits_for_a_machine_that_is_gone_is_asked_about),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
