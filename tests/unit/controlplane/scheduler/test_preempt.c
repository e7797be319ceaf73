/* Preemption: who must go, from which node, and what is said when nobody's going helps. The nodes are n1 to n3, of 2 CPUs each. */
#include "controlplane/scheduler/scheduler.h"
#include "tests/support/objects.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#define BUDGETS_MAX 4
static struct kp_arena *arena;
static struct sched_cache *cache;
static const struct k8s_pod_disruption_budget *budgets[BUDGETS_MAX];
static size_t n_budgets;

static void add_node(const char *name, const char *more)
{
    KP_AUTO_FREE char *yaml = kp_asprintf("{metadata: {name: %s, labels: {kubernetes.io/hostname: %s}}, %s status: {allocatable: {cpu: '2', memory: 4Gi, pods: '10'}}}",
                                          name, name, more);
    KP_AUTO(client_object_unref) struct client_object *node = test_client_object(&k8s_node_type, yaml);
    sched_cache_set_node(cache, node);
}

static int setup(void **state)
{
    (void)state;
    arena = kp_arena_new(0);
    cache = sched_cache_new();
    n_budgets = 0;
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    sched_cache_free(cache);
    kp_arena_free(arena);
    return 0;
}

/* A pod of one CPU, or what `more` says of its spec; began: seconds of the minute 12:00. */
static struct client_object *pod_object(const char *name, const char *node, int priority, int began, const char *cpu, const char *more_meta, const char *more)
{
    KP_AUTO_FREE char *bound = node ? kp_asprintf("nodeName: %s, ", node) : kp_strdup("");
    KP_AUTO_FREE char *status = began ? kp_asprintf(", status: {startTime: '2026-01-01T12:00:%02dZ'}", began) : kp_strdup("");
    KP_AUTO_FREE char *yaml = kp_asprintf("{metadata: {name: %s, uid: u-%s, namespace: d, labels: {app: %s}%s}, spec: {%spriority: %d, containers: [{name: c, "
                                          "resources: {requests: {cpu: %s}}}]%s}%s}", name, name, name, more_meta, bound, priority, cpu, more, status);
    return test_client_object(&k8s_pod_type, yaml);
}

static void put(const char *name, const char *node, int priority, int began)
{
    KP_AUTO(client_object_unref) struct client_object *pod = pod_object(name, node, priority, began, "'1'", "", "");
    sched_cache_set_pod(cache, pod);
}

static void nominate(const char *name, const char *node, int priority)
{
    KP_AUTO(client_object_unref) struct client_object *pod = pod_object(name, NULL, priority, 0, "'2'", "", "");
    sched_cache_nominate(cache, pod, node);
}

static void add_budget(const char *app, int allowed, const char *more)
{
    KP_AUTO_FREE char *yaml = kp_asprintf("{metadata: {name: %s, namespace: d}, spec: {selector: {matchLabels: {app: %s}}}, status: {disruptionsAllowed: %d%s}}",
                                          app, app, allowed, more);
    budgets[n_budgets++] = test_object(&k8s_pod_disruption_budget_type, arena, yaml);
}

/* "node: victims", the node alone when it fits as it is, or why not. */
static const char *preempt_for(struct client_object *object)
{
    struct sched_pod pod;
    struct sched_decision decision;
    struct sched_preemption preemption;
    KP_AUTO_BUF struct kp_buf out = {0};
    const struct sched_cluster cluster = sched_cache_cluster(cache);
    sched_pod_init(&pod, object->data, arena);
    sched_decide(&pod, &cluster, 0, arena, &decision);
    if (decision.node)
        return kp_arena_strdup(arena, decision.node);
    sched_preempt(&pod, &cluster, &decision, budgets, n_budgets, 0, arena, &preemption);
    if (!preemption.node)
        return preemption.message;
    kp_buf_printf(&out, "%s:", preemption.node->name);
    for (size_t i = 0; i < preemption.n_victims; i++)
        kp_buf_printf(&out, " %s", preemption.victims[i]->object->name);
    return kp_arena_strdup(arena, out.data);
}

static const char *preempt(int priority, const char *cpu, const char *more)
{
    KP_AUTO(client_object_unref) struct client_object *pod = pod_object("new", NULL, priority, 0, cpu, "", more);
    return preempt_for(pod);
}

static void only_less_important_pods_go_and_only_as_many_as_must(void **state)
{
    (void)state;
    add_node("n1", "");
    put("a", "n1", 5, 1);
    put("b", "n1", 3, 2);
    assert_string_equal(preempt(10, "'1'", ""), "n1: b");
    assert_string_equal(preempt(4, "'1'", ""), "n1: b");
    assert_string_equal(preempt(10, "'2'", ""), "n1: a b");
    assert_string_equal(preempt(3, "'1'", ""), "preemption: 0/1 nodes are available: 1 No preemption victims found for incoming pod.");
    assert_string_equal(preempt(4, "'2'", ""), "preemption: 0/1 nodes are available: 1 Insufficient cpu.");
    assert_string_equal(preempt(10, "'3'", ""), "preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling.");
}

static void of_equals_the_one_that_began_last_goes(void **state)
{
    (void)state;
    add_node("n1", "");
    put("late", "n1", 1, 30);
    put("early", "n1", 1, 10);
    assert_string_equal(preempt(2, "'1'", ""), "n1: late");
}

static void a_policy_of_never_leaves_others_alone(void **state)
{
    (void)state;
    add_node("n1", "");
    put("a", "n1", 0, 1);
    assert_string_equal(preempt(10, "'2'", ", preemptionPolicy: Never"), "preemption: not eligible due to preemptionPolicy=Never.");
}

static void nodes_that_refuse_for_good_are_left_alone(void **state)
{
    (void)state;
    add_node("n1", "spec: {taints: [{key: k, effect: NoSchedule}]},");
    add_node("n2", "spec: {unschedulable: true},");
    add_node("n3", "");
    put("a", "n1", 0, 1);
    put("b", "n2", 0, 1);
    put("c", "n3", 0, 1);
    assert_string_equal(preempt(1, "'2'", ""), "n3: c");
    assert_string_equal(preempt(1, "'2'", ", nodeSelector: {kubernetes.io/hostname: n1}"),
                        "preemption: 0/3 nodes are available: 3 Preemption is not helpful for scheduling.");
}

static void the_node_with_the_least_important_victims_is_chosen(void **state)
{
    (void)state;
    add_node("n1", "");
    add_node("n2", "");
    add_node("n3", "");
    put("a1", "n1", 3, 1);
    put("a2", "n1", 1, 1);
    put("b1", "n2", 2, 1);
    put("b2", "n2", 2, 1);
    put("c1", "n3", 2, 1);
    put("c2", "n3", 1, 1);
    assert_string_equal(preempt(9, "'2'", ""), "n3: c1 c2"); /* 2 is less than 3, and 2 + 1 than 2 + 2 */
}

static void then_the_fewest_and_then_the_youngest(void **state)
{
    (void)state;
    add_node("n1", "");
    add_node("n2", "");
    add_node("n3", "");
    KP_AUTO(client_object_unref) struct client_object *big = pod_object("big", "n1", 1, 10, "'2'", "", "");
    KP_AUTO(client_object_unref) struct client_object *young = pod_object("young", "n2", 1, 20, "'2'", "", "");
    sched_cache_set_pod(cache, big);
    sched_cache_set_pod(cache, young);
    put("c1", "n3", 1, 30);
    put("c2", "n3", 1, 30);
    assert_string_equal(preempt(2, "'2'", ""), "n2: young");
}

static void budgets_are_kept_where_they_can_be(void **state)
{
    (void)state;
    add_node("n1", "");
    add_node("n2", "");
    put("kept", "n1", 0, 1);
    put("more", "n1", 1, 1);
    put("free", "n2", 5, 1);
    put("full", "n2", 9, 1);
    add_budget("kept", 0, "");
    assert_string_equal(preempt(9, "'1'", ""), "n1: more"); /* the protected one is left where it is, though less important */
    assert_string_equal(preempt(9, "'2'", ""), "n1: more kept"); /* a budget is no promise: where nothing else helps it is broken */
    n_budgets = 0;
    add_budget("more", 1, "");
    add_budget("free", 0, "");
    assert_string_equal(preempt(9, "'1'", ""), "n1: kept");
    n_budgets = 0;
    add_budget("kept", 0, ", disruptedPods: {kept: '2026-01-01T12:00:00Z'}");
    assert_string_equal(preempt(9, "'1'", ""), "n1: kept"); /* it is on its way out already */
}

static void nobody_goes_for_a_pod_that_others_do_not_keep_away(void **state)
{
    (void)state;
    add_node("n1", "");
    KP_AUTO(client_object_unref) struct client_object *shy = pod_object("shy", "n1", 0, 1, "10m", "", ", affinity: {podAntiAffinity: "
        "{requiredDuringSchedulingIgnoredDuringExecution: [{labelSelector: {matchLabels: {app: new}}, topologyKey: kubernetes.io/hostname}]}}");
    sched_cache_set_pod(cache, shy);
    put("other", "n1", 0, 1);
    assert_string_equal(preempt(1, "'1'", ""), "n1: shy");
    assert_string_equal(preempt(1, "10m", ", affinity: {podAffinity: {requiredDuringSchedulingIgnoredDuringExecution: "
                                          "[{labelSelector: {matchLabels: {app: nobody}}, topologyKey: kubernetes.io/hostname}]}}"),
                        "preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling.");
}

static void pods_go_for_an_even_spread(void **state)
{
    (void)state;
    static const char spread[] = ", topologySpreadConstraints: [{topologyKey: kubernetes.io/hostname, maxSkew: 1, whenUnsatisfiable: DoNotSchedule, "
                                 "labelSelector: {matchLabels: {kind: web}}}]";
    add_node("n1", "");
    add_node("n2", "spec: {unschedulable: true},");
    KP_AUTO(client_object_unref) struct client_object *there = pod_object("there", "n1", 0, 1, "10m", "", "");
    KP_AUTO(client_object_unref) struct client_object *web = test_client_object(&k8s_pod_type,
        "{metadata: {name: web, uid: u-web, namespace: d, labels: {kind: web}}, spec: {nodeName: n1, priority: 0, containers: [{name: c}]}}");
    KP_AUTO(client_object_unref) struct client_object *more = test_client_object(&k8s_pod_type, kp_arena_printf(arena,
        "{metadata: {name: new, uid: u-new, namespace: d, labels: {kind: web}}, spec: {priority: 1, containers: [{name: c}]%s}}", spread));
    sched_cache_set_pod(cache, there);
    sched_cache_set_pod(cache, web);
    assert_string_equal(preempt_for(more), "n1: web");
    assert_string_equal(preempt_for(more), "n1: web"); /* a search leaves nothing behind */
}

static void a_nominated_pod_keeps_its_room_from_less_important_ones(void **state)
{
    (void)state;
    add_node("n1", "");
    nominate("first", "n1", 5);
    assert_string_equal(preempt(4, "'1'", ""), "preemption: 0/1 nodes are available: 1 No preemption victims found for incoming pod.");
    assert_string_equal(preempt(6, "'1'", ""), "n1");
    KP_AUTO(client_object_unref) struct client_object *first = pod_object("first", NULL, 5, 0, "'2'", "", "");
    assert_string_equal(preempt_for(first), "n1"); /* it is its own room */
    sched_cache_forget_nomination(cache, "d", "first");
    assert_string_equal(preempt(4, "'1'", ""), "n1");
}

static void the_nominated_node_is_tried_first(void **state)
{
    (void)state;
    add_node("n1", "");
    add_node("n2", "");
    put("a", "n1", 9, 1); /* n2 is emptier, and would be chosen */
    KP_AUTO(client_object_unref) struct client_object *pod = pod_object("new", NULL, 1, 0, "'1'", "", "");
    assert_string_equal(preempt_for(pod), "n2");
    sched_cache_nominate(cache, pod, "n1");
    assert_string_equal(preempt_for(pod), "n1");
    sched_cache_nominate(cache, pod, "gone");
    assert_string_equal(preempt_for(pod), "n2");
}

static void who_waits_for_victims_to_go_asks_for_no_more(void **state)
{
    (void)state;
    add_node("n1", "");
    add_node("n2", "");
    put("keeps", "n2", 0, 1);
    KP_AUTO(client_object_unref) struct client_object *going = test_client_object(&k8s_pod_type,
        "{metadata: {name: going, uid: u-going, namespace: d, deletionTimestamp: '2026-01-01T12:01:00Z'}, spec: {nodeName: n1, priority: 0, containers: [{name: c, "
        "resources: {requests: {cpu: '2'}}}]}, status: {conditions: [{type: DisruptionTarget, status: 'True', reason: PreemptionByScheduler}]}}");
    KP_AUTO(client_object_unref) struct client_object *pod = pod_object("new", NULL, 1, 0, "'2'", "", "");
    sched_cache_set_pod(cache, going);
    sched_cache_nominate(cache, pod, "n1");
    assert_string_equal(preempt_for(pod), "preemption: not eligible due to a terminating pod on the nominated node.");
    sched_cache_forget_nomination(cache, "d", "new");
    assert_string_equal(preempt_for(pod), "n1: going"); /* it began after the other */
}

static void room_takes_nominations_from_the_less_important(void **state)
{
    (void)state;
    struct sched_room room;
    add_node("n1", "");
    put("a", "n1", 0, 1);
    nominate("low", "n1", 1);
    nominate("high", "n1", 9);
    nominate("elsewhere", "n2", 1);
    KP_AUTO(client_object_unref) struct client_object *pod = pod_object("new", NULL, 5, 0, "'2'", "", "");
    const struct sched_node *node = sched_cache_cluster(cache).nodes[0];
    const struct sched_assigned *victims[] = {&node->pods[0]};
    const struct sched_preemption preemption = {.node = node, .victims = victims, .n_victims = 1};
    sched_room_init(&room, cache, pod, &preemption);
    assert_int_equal(room.n_victims, 1);
    assert_string_equal(room.victims[0]->name, "a");
    assert_int_equal(room.n_displaced, 1);
    assert_string_equal(room.displaced[0]->name, "low");
    assert_int_equal(sched_cache_cluster(cache).n_nominations, 3); /* high, elsewhere, new */
    sched_room_done(&room);
    sched_cache_assume(cache, pod, "n1");
    assert_int_equal(sched_cache_cluster(cache).n_nominations, 2);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(only_less_important_pods_go_and_only_as_many_as_must),
        TEST(of_equals_the_one_that_began_last_goes),
        TEST(a_policy_of_never_leaves_others_alone),
        TEST(nodes_that_refuse_for_good_are_left_alone),
        TEST(the_node_with_the_least_important_victims_is_chosen),
        TEST(then_the_fewest_and_then_the_youngest),
        TEST(budgets_are_kept_where_they_can_be),
        TEST(nobody_goes_for_a_pod_that_others_do_not_keep_away),
        TEST(pods_go_for_an_even_spread),
        TEST(a_nominated_pod_keeps_its_room_from_less_important_ones),
        TEST(the_nominated_node_is_tried_first),
        TEST(who_waits_for_victims_to_go_asks_for_no_more),
        TEST(room_takes_nominations_from_the_less_important),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
