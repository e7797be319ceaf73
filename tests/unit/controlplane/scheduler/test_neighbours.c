/* Affinity between pods and topology spread: who refuses which node in which words, and which node is better. */
#include "controlplane/scheduler/scheduler.h"
#include "tests/support/objects.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

static struct kp_arena *arena;
static struct sched_cache *cache;

static void add_node(const char *name, const char *labels)
{
    KP_AUTO_FREE char *yaml = kp_asprintf("{metadata: {name: %s, labels: {kubernetes.io/hostname: %s%s}}, status: {allocatable: {cpu: '20', memory: 40Gi, pods: '100'}}}",
                                          name, name, labels);
    KP_AUTO(client_object_unref) struct client_object *node = test_client_object(&k8s_node_type, yaml);
    sched_cache_set_node(cache, node);
}

/* Two zones: n1 and n2 in a, n3 in b, and n4 in none. */
static int setup(void **state)
{
    arena = kp_arena_new(0);
    cache = sched_cache_new();
    add_node("n1", ", zone: a");
    add_node("n2", ", zone: a");
    add_node("n3", ", zone: b");
    add_node("n4", "");
    return 0;
}

static int teardown(void **state)
{
    sched_cache_free(cache);
    kp_arena_free(arena);
    return 0;
}

static void put(const char *name, const char *node, const char *more_meta, const char *spec)
{
    KP_AUTO_FREE char *yaml = kp_asprintf("{metadata: {name: %s, uid: u-%s, namespace: d%s}, spec: {nodeName: %s, containers: [{name: c}]%s}}", name, name,
                                          more_meta, node, spec);
    KP_AUTO(client_object_unref) struct client_object *pod = test_client_object(&k8s_pod_type, yaml);
    sched_cache_set_pod(cache, pod);
}

static void add_namespace(const char *yaml)
{
    KP_AUTO(client_object_unref) struct client_object *namespace = test_client_object(&k8s_namespace_type, yaml);
    sched_cache_set_namespace(cache, namespace);
}

/* The node, or why none. */
static const char *decide(const char *labels, const char *spec)
{
    struct sched_pod pod;
    struct sched_decision decision;
    const struct sched_cluster cluster = sched_cache_cluster(cache);
    const char *yaml = kp_arena_printf(arena, "{metadata: {name: new, uid: u-new, namespace: d, labels: {%s}}, spec: {containers: [{name: c}], %s}}", labels, spec);
    sched_pod_init(&pod, test_object(&k8s_pod_type, arena, yaml), arena);
    sched_decide(&pod, &cluster, 0, arena, &decision);
    return decision.node ? decision.node : decision.message;
}

static void assert_in_zone_a(const char *decision)
{
    if (!kp_streq(decision, "n1"))
        assert_string_equal(decision, "n2");
}

#define LABELS(app) ", labels: {app: " app "}"
#define TERM(app, key) "labelSelector: {matchLabels: {app: " app "}}, topologyKey: " key
#define NEAR(term) "affinity: {podAffinity: {requiredDuringSchedulingIgnoredDuringExecution: [{" term "}]}}"
#define AWAY(term) "affinity: {podAntiAffinity: {requiredDuringSchedulingIgnoredDuringExecution: [{" term "}]}}"
#define RATHER(which, weight, term) \
    "affinity: {" which ": {preferredDuringSchedulingIgnoredDuringExecution: [{weight: " weight ", podAffinityTerm: {" term "}}]}}"
#define SPREAD(when, key, skew, more) \
    "topologySpreadConstraints: [{topologyKey: " key ", maxSkew: " skew ", whenUnsatisfiable: " when ", labelSelector: {matchLabels: {app: web}}" more "}]"

static void near_those_it_must_be_near(void **state)
{
    put("db", "n3", LABELS("db"), "");
    assert_string_equal(decide("", NEAR(TERM("db", "zone"))), "n3");
    assert_string_equal(decide("", NEAR(TERM("db", "kubernetes.io/hostname"))), "n3");
    assert_string_equal(decide("", NEAR(TERM("nobody", "zone"))), "0/4 nodes are available: 4 node(s) didn't match pod affinity rules.");
    /* Its own kind, of which there is none yet: anywhere that has the topology. */
    assert_string_not_equal(decide("app: web", NEAR(TERM("web", "zone"))), "n4");
    put("web", "n3", LABELS("web"), "");
    assert_string_equal(decide("app: web", NEAR(TERM("web", "zone"))), "n3");
}

static void away_from_those_it_must_be_away_from(void **state)
{
    put("web-1", "n1", LABELS("web"), "");
    put("web-2", "n3", LABELS("web"), "");
    assert_string_equal(decide("app: web", AWAY(TERM("web", "zone"))), "n4"); /* in no zone: in nobody's */
    put("web-3", "n2", LABELS("web"), "");
    put("web-4", "n4", LABELS("web"), "");
    assert_string_equal(decide("app: web", AWAY(TERM("web", "kubernetes.io/hostname"))),
                        "0/4 nodes are available: 4 node(s) didn't match pod anti-affinity rules.");
}

static void away_from_those_who_want_to_be_alone(void **state)
{
    put("loner-1", "n1", LABELS("loner"), ", " AWAY(TERM("web", "zone")));
    put("loner-2", "n3", LABELS("loner"), ", " AWAY(TERM("web", "zone")));
    put("loner-3", "n4", LABELS("loner"), ", " AWAY(TERM("web", "kubernetes.io/hostname")));
    assert_string_equal(decide("app: web", ""), "0/4 nodes are available: 4 node(s) didn't satisfy existing pods anti-affinity rules.");
    sched_cache_remove_pod(cache, "d", "loner-2");
    assert_string_equal(decide("app: web", ""), "n3");
}

static void namespaces_count(void **state)
{
    KP_AUTO(client_object_unref) struct client_object *other = test_client_object(
        &k8s_pod_type, "{metadata: {name: db, namespace: other, labels: {app: db}}, spec: {nodeName: n3, containers: [{name: c}]}}");
    sched_cache_set_pod(cache, other);
    add_namespace("{metadata: {name: other, labels: {team: data}}}");
    assert_string_equal(decide("", NEAR(TERM("db", "zone"))), "0/4 nodes are available: 4 node(s) didn't match pod affinity rules.");
    assert_string_equal(decide("", NEAR(TERM("db", "zone") ", namespaces: [other]")), "n3");
    assert_string_equal(decide("", NEAR(TERM("db", "zone") ", namespaceSelector: {}")), "n3");
    assert_string_equal(decide("", NEAR(TERM("db", "zone") ", namespaceSelector: {matchLabels: {team: data}}")), "n3");
    assert_string_equal(decide("", NEAR(TERM("db", "zone") ", namespaceSelector: {matchLabels: {team: web}}")),
                        "0/4 nodes are available: 4 node(s) didn't match pod affinity rules.");
    sched_cache_remove_namespace(cache, "other");
    assert_string_equal(decide("", NEAR(TERM("db", "zone") ", namespaceSelector: {matchLabels: {team: data}}")),
                        "0/4 nodes are available: 4 node(s) didn't match pod affinity rules.");
}

static void keys_of_its_own_labels_narrow_whom_it_means(void **state)
{
    put("old", "n1", ", labels: {app: web, pod-template-hash: aaa}", "");
    assert_string_equal(decide("app: web, pod-template-hash: aaa", NEAR(TERM("web", "kubernetes.io/hostname") ", matchLabelKeys: [pod-template-hash]")), "n1");
    assert_string_equal(decide("app: web, pod-template-hash: bbb", NEAR(TERM("web", "kubernetes.io/hostname") ", mismatchLabelKeys: [pod-template-hash]")), "n1");
    put("old-2", "n2", ", labels: {app: web, pod-template-hash: aaa}", "");
    put("old-3", "n3", ", labels: {app: web, pod-template-hash: aaa}", "");
    put("old-4", "n4", ", labels: {app: web, pod-template-hash: aaa}", "");
    /* Away from its own generation alone. */
    assert_string_equal(decide("app: web, pod-template-hash: aaa", AWAY(TERM("web", "kubernetes.io/hostname") ", matchLabelKeys: [pod-template-hash]")),
                        "0/4 nodes are available: 4 node(s) didn't match pod anti-affinity rules.");
    assert_true(kp_starts_with(decide("app: web, pod-template-hash: bbb", AWAY(TERM("web", "kubernetes.io/hostname") ", matchLabelKeys: [pod-template-hash]")), "n"));
    assert_string_equal(decide("app: web, pod-template-hash: bbb", AWAY(TERM("web", "kubernetes.io/hostname") ", mismatchLabelKeys: [pod-template-hash]")),
                        "0/4 nodes are available: 4 node(s) didn't match pod anti-affinity rules.");
}

static void wishes_decide_among_those_that_fit(void **state)
{
    put("db", "n3", LABELS("db"), "");
    assert_string_equal(decide("", RATHER("podAffinity", "10", TERM("db", "zone"))), "n3");
    assert_string_not_equal(decide("", RATHER("podAntiAffinity", "10", TERM("db", "zone"))), "n3");
    /* One that is there and wants company draws it. */
    put("host", "n2", LABELS("host"), ", " RATHER("podAffinity", "100", TERM("guest", "kubernetes.io/hostname")));
    assert_string_equal(decide("app: guest", ""), "n2");
}

static void pods_are_spread_over_topologies(void **state)
{
    put("web-1", "n1", LABELS("web"), "");
    assert_string_equal(decide("app: web", SPREAD("DoNotSchedule", "zone", "1", "")), "n3");
    put("web-2", "n3", LABELS("web"), "");
    put("web-3", "n3", LABELS("web"), "");
    assert_in_zone_a(decide("app: web", SPREAD("DoNotSchedule", "zone", "1", "")));
    /* Three zones are wanted, there are two: the fewest counts as none. */
    assert_string_equal(decide("app: web", SPREAD("DoNotSchedule", "zone", "1", ", minDomains: 3")),
                        "0/4 nodes are available: 1 node(s) didn't match pod topology spread constraints (missing required label), "
                        "3 node(s) didn't match pod topology spread constraints.");
    /* One that is going, and one of another namespace, count for nothing. */
    put("web-3", "n3", LABELS("web") ", deletionTimestamp: '2026-01-01T00:00:00Z'", "");
    put("web-2", "n4", LABELS("web"), "");
    assert_string_equal(decide("app: web", SPREAD("DoNotSchedule", "zone", "1", "")), "n3");
}

static void nodes_it_may_not_use_do_not_count(void **state)
{
    put("web-1", "n1", LABELS("web"), "");
    /* Zone b is out of reach by the selector: with Honor zone a alone counts, with Ignore zone b has none and a is one ahead. */
    assert_in_zone_a(decide("app: web", "nodeSelector: {zone: a}, " SPREAD("DoNotSchedule", "zone", "1", "")));
    assert_string_equal(decide("app: web", "nodeSelector: {zone: a}, " SPREAD("DoNotSchedule", "zone", "1", ", nodeAffinityPolicy: Ignore")),
                        "0/4 nodes are available: 2 node(s) didn't match Pod's node affinity/selector, "
                        "2 node(s) didn't match pod topology spread constraints.");
    /* A tainted zone keeps the others from filling up, unless its taints are honoured. */
    KP_AUTO(client_object_unref) struct client_object *tainted = test_client_object(
        &k8s_node_type, "{metadata: {name: n3, labels: {kubernetes.io/hostname: n3, zone: b}}, spec: {taints: [{key: k, effect: NoSchedule}]}, "
                        "status: {allocatable: {cpu: '20', memory: 40Gi, pods: '100'}}}");
    sched_cache_set_node(cache, tainted);
    assert_string_equal(decide("app: web", SPREAD("DoNotSchedule", "zone", "1", "")),
                        "0/4 nodes are available: 1 node(s) didn't match pod topology spread constraints (missing required label), "
                        "1 node(s) had untolerated taint {k: }, 2 node(s) didn't match pod topology spread constraints.");
    assert_in_zone_a(decide("app: web", SPREAD("DoNotSchedule", "zone", "1", ", nodeTaintsPolicy: Honor")));
}

static void skew_that_is_allowed_still_counts_in_the_score(void **state)
{
    put("web-1", "n1", LABELS("web"), "");
    put("web-2", "n2", LABELS("web"), "");
    assert_string_equal(decide("app: web", SPREAD("ScheduleAnyway", "zone", "1", "")), "n3");
    put("web-3", "n3", LABELS("web"), "");
    put("web-4", "n3", LABELS("web"), "");
    put("web-5", "n3", LABELS("web"), "");
    assert_in_zone_a(decide("app: web", SPREAD("ScheduleAnyway", "zone", "1", "")));
}

static void pods_of_one_controller_are_spread_unasked(void **state)
{
#define OWNED ", ownerReferences: [{apiVersion: apps/v1, kind: ReplicaSet, name: r, uid: r1, controller: true}]"
    put("r-1", "n1", OWNED, "");
    put("r-2", "n2", OWNED, "");
    put("r-3", "n4", OWNED, "");
    struct sched_pod pod;
    struct sched_decision decision;
    const struct sched_cluster cluster = sched_cache_cluster(cache);
    sched_pod_init(&pod, test_object(&k8s_pod_type, arena, "{metadata: {name: r-4, namespace: d" OWNED "}, spec: {containers: [{name: c}]}}"), arena);
    sched_decide(&pod, &cluster, 0, arena, &decision);
    assert_string_equal(decision.node, "n3");
}

static void only_those_that_mind_others_are_woken_by_them(void **state)
{
    const struct k8s_pod *plain = test_object(&k8s_pod_type, arena, "{metadata: {name: p}, spec: {containers: [{name: c}]}}");
    const struct k8s_pod *near = test_object(&k8s_pod_type, arena, "{metadata: {name: p}, spec: {containers: [{name: c}], " NEAR(TERM("a", "b")) "}}");
    const struct k8s_pod *spread = test_object(&k8s_pod_type, arena, "{metadata: {name: p}, spec: {containers: [{name: c}], " SPREAD("DoNotSchedule", "zone", "1", "") "}}");
    assert_false(sched_minds_others(plain));
    assert_true(sched_minds_others(near));
    assert_true(sched_minds_others(spread));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(near_those_it_must_be_near, setup, teardown),
        cmocka_unit_test_setup_teardown(away_from_those_it_must_be_away_from, setup, teardown),
        cmocka_unit_test_setup_teardown(away_from_those_who_want_to_be_alone, setup, teardown),
        cmocka_unit_test_setup_teardown(namespaces_count, setup, teardown),
        cmocka_unit_test_setup_teardown(keys_of_its_own_labels_narrow_whom_it_means, setup, teardown),
        cmocka_unit_test_setup_teardown(wishes_decide_among_those_that_fit, setup, teardown),
        cmocka_unit_test_setup_teardown(pods_are_spread_over_topologies, setup, teardown),
        cmocka_unit_test_setup_teardown(nodes_it_may_not_use_do_not_count, setup, teardown),
        cmocka_unit_test_setup_teardown(skew_that_is_allowed_still_counts_in_the_score, setup, teardown),
        cmocka_unit_test_setup_teardown(pods_of_one_controller_are_spread_unasked, setup, teardown),
        cmocka_unit_test_setup_teardown(only_those_that_mind_others_are_woken_by_them, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
