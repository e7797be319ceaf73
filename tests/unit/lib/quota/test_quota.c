/* What objects use of quotas, and which quotas are about them. */
#include "lib/quota/quota.h"
#include "tests/support/objects.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#define NOW 1000000
static struct kp_arena *arena;

static int setup(void **state)
{
    (void)state;
    arena = kp_arena_new(0);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    kp_arena_free(arena);
    return 0;
}

static const char *used(const struct kp_resource *resource, const char *yaml)
{
    struct kp_string_map usage;
    quota_usage(resource, test_object(resource->type, arena, yaml), NOW, arena, &usage);
    return quota_print(&usage, arena);
}

static void pods_use_what_they_ask_for(void **state)
{
    (void)state;
    assert_string_equal(used(&k8s_pods_resource, "{metadata: {name: a}, spec: {containers: [{name: c}]}}"), "count/pods=1,pods=1");
    assert_string_equal(used(&k8s_pods_resource,
        "{metadata: {name: a}, spec: {overhead: {cpu: 10m}, containers: [{name: c, resources: {requests: {cpu: 100m, memory: 64Mi}, limits: {cpu: '1', memory: 128Mi}}}, "
        "{name: d, resources: {requests: {cpu: 100m, example.com/gpu: '1'}, limits: {example.com/gpu: '1'}}}], "
        "initContainers: [{name: side, restartPolicy: Always, resources: {requests: {cpu: 50m}}}, {name: i, resources: {requests: {cpu: 300m}}}]}}"),
        "count/pods=1,cpu=360m,limits.cpu=1010m,limits.memory=128Mi,memory=64Mi,pods=1,requests.cpu=360m,requests.example.com/gpu=1,requests.memory=64Mi");
}

static void pods_that_have_ended_use_only_their_place(void **state)
{
    (void)state;
    assert_string_equal(used(&k8s_pods_resource, "{metadata: {name: a}, spec: {containers: [{name: c, resources: {requests: {cpu: '1'}}}]}, status: {phase: Failed}}"), "count/pods=1");
    assert_string_equal(used(&k8s_pods_resource, "{metadata: {name: a, deletionTimestamp: '1970-01-12T13:46:20Z', deletionGracePeriodSeconds: 30}, spec: {containers: [{name: c}]}}"),
                        "count/pods=1,pods=1"); /* 10 s of its grace are left */
    assert_string_equal(used(&k8s_pods_resource, "{metadata: {name: a, deletionTimestamp: '1970-01-12T13:46:00Z', deletionGracePeriodSeconds: 10}, spec: {containers: [{name: c}]}}"),
                        "count/pods=1");
}

static void services_claims_and_the_rest(void **state)
{
    (void)state;
    assert_string_equal(used(&k8s_services_resource, "{metadata: {name: a}, spec: {type: ClusterIP, ports: [{port: 1}]}}"), "count/services=1,services=1");
    assert_string_equal(used(&k8s_services_resource, "{metadata: {name: a}, spec: {type: NodePort, ports: [{port: 1}, {port: 2}]}}"),
                        "count/services=1,services=1,services.nodeports=2");
    assert_string_equal(used(&k8s_services_resource, "{metadata: {name: a}, spec: {type: LoadBalancer, ports: [{port: 1}]}}"),
                        "count/services=1,services=1,services.loadbalancers=1,services.nodeports=1");
    assert_string_equal(used(&k8s_services_resource, "{metadata: {name: a}, spec: {type: LoadBalancer, allocateLoadBalancerNodePorts: false, ports: [{port: 1}]}}"),
                        "count/services=1,services=1,services.loadbalancers=1");
    assert_string_equal(used(&k8s_persistentvolumeclaims_resource, "{metadata: {name: a}, spec: {storageClassName: gold, resources: {requests: {storage: 1Gi}}}}"),
                        "count/persistentvolumeclaims=1,gold.storageclass.storage.k8s.io/persistentvolumeclaims=1,gold.storageclass.storage.k8s.io/requests.storage=1Gi,"
                        "persistentvolumeclaims=1,requests.storage=1Gi");
    assert_string_equal(used(&k8s_configmaps_resource, "{metadata: {name: a}}"), "configmaps=1,count/configmaps=1");
    assert_string_equal(used(&k8s_deployments_resource, "{metadata: {name: a}}"), "count/deployments.apps=1");
}

static void sums_masks_and_differences(void **state)
{
    (void)state;
    struct kp_string_map total = {0}, names = {0};
    const struct k8s_resource_quota *quota = test_object(&k8s_resource_quota_type, arena, "{spec: {hard: {cpu: 500m, memory: 1Gi, pods: '3'}}}");
    quota_add(&total, &quota->spec->hard, 1, arena);
    quota_add(&total, &quota->spec->hard, 1, arena);
    assert_string_equal(quota_print(&total, arena), "cpu=1,memory=2Gi,pods=6");
    kp_string_map_set(arena, &names, "cpu", "");
    kp_string_map_set(arena, &names, "none", "");
    const struct kp_string_map masked = quota_mask(&total, &names, arena);
    assert_string_equal(quota_print(&masked, arena), "cpu=1");
    quota_add(&total, &total, -1, arena);
    const struct kp_string_map nothing = quota_mask(&total, &quota->spec->hard, arena);
    assert_int_equal(nothing.len, 0);
}

/* Whether a quota of this spec is about the pod. */
static bool covers(const char *quota, const char *pod)
{
    struct kp_string_map usage;
    const void *object = test_object(&k8s_pod_type, arena, pod);
    quota_usage(&k8s_pods_resource, object, NOW, arena, &usage);
    return quota_covers(test_object(&k8s_resource_quota_type, arena, quota), &k8s_pods_resource, object, &usage);
}

static void scopes_pick_pods(void **state)
{
    (void)state;
    static const char plain[] = "{metadata: {name: a}, spec: {containers: [{name: c}]}}";
    static const char asking[] = "{metadata: {name: a}, spec: {priorityClassName: high, activeDeadlineSeconds: 5, containers: [{name: c, resources: {requests: {cpu: '1'}}}], affinity: "
                                 "{podAffinity: {requiredDuringSchedulingIgnoredDuringExecution: [{topologyKey: k, namespaces: [other]}]}}}}";
    static const struct {
        const char *scopes;
        bool plain, asking;
    } cases[] = {
        {"", true, true},
        {", scopes: [BestEffort]", true, false},
        {", scopes: [NotBestEffort]", false, true},
        {", scopes: [Terminating]", false, true},
        {", scopes: [NotTerminating]", true, false},
        {", scopes: [NotTerminating, NotBestEffort]", false, false},
        {", scopes: [CrossNamespacePodAffinity]", false, true},
        {", scopes: [PriorityClass]", false, true},
        {", scopeSelector: {matchExpressions: [{scopeName: PriorityClass, operator: In, values: [high]}]}", false, true},
        {", scopeSelector: {matchExpressions: [{scopeName: PriorityClass, operator: NotIn, values: [high]}]}", true, false},
        {", scopeSelector: {matchExpressions: [{scopeName: PriorityClass, operator: DoesNotExist}]}", true, false},
        {", scopeSelector: {matchExpressions: [{scopeName: PriorityClass, operator: In, values: [low]}]}", false, false},
    };
    for (size_t i = 0; i < KP_ARRAY_LEN(cases); i++) {
        const char *quota = kp_arena_printf(arena, "{spec: {hard: {pods: '1'}%s}}", cases[i].scopes);
        if (covers(quota, plain) != cases[i].plain || covers(quota, asking) != cases[i].asking)
            fail_msg("%s", cases[i].scopes);
    }
    assert_false(covers("{spec: {hard: {services: '1'}}}", plain));
    assert_true(covers("{spec: {hard: {requests.cpu: '1'}}}", plain)); /* which must then say what it asks for */
    const struct k8s_resource_quota *scoped = test_object(&k8s_resource_quota_type, arena, "{spec: {hard: {services: '1'}, scopes: [BestEffort]}}");
    struct kp_string_map usage;
    const void *service = test_object(&k8s_service_type, arena, "{metadata: {name: a}, spec: {type: ClusterIP}}");
    quota_usage(&k8s_services_resource, service, NOW, arena, &usage);
    assert_false(quota_covers(scoped, &k8s_services_resource, service, &usage));
}

static void names_belong_to_resources(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        const struct kp_resource *resource;
    } cases[] = {
        {"pods", &k8s_pods_resource}, {"count/pods", &k8s_pods_resource}, {"limits.memory", &k8s_pods_resource}, {"requests.example.com/gpu", &k8s_pods_resource},
        {"requests.storage", &k8s_persistentvolumeclaims_resource}, {"gold.storageclass.storage.k8s.io/requests.storage", &k8s_persistentvolumeclaims_resource},
        {"services.nodeports", &k8s_services_resource}, {"secrets", &k8s_secrets_resource}, {"count/deployments.apps", &k8s_deployments_resource},
    };
    for (size_t i = 0; i < KP_ARRAY_LEN(cases); i++)
        for (size_t k = 0; k < KP_ARRAY_LEN(cases); k++)
            if (quota_name_is_of(cases[i].name, cases[k].resource) != (cases[i].resource == cases[k].resource))
                fail_msg("%s of %s", cases[i].name, cases[k].resource->name);
}

static void what_is_limited_must_be_said(void **state)
{
    (void)state;
    const struct k8s_pod *pod = test_object(&k8s_pod_type, arena,
        "{spec: {containers: [{name: a, resources: {requests: {cpu: '1'}}}, {name: b, resources: {requests: {memory: '1'}, limits: {cpu: '1'}}}], initContainers: [{name: i}]}}");
    const struct k8s_resource_quota *quota = test_object(&k8s_resource_quota_type, arena, "{spec: {hard: {pods: '1', limits.cpu: '1', requests.memory: '1'}}}");
    assert_string_equal(quota_unsaid(pod->spec, &quota->spec->hard, arena), "limits.cpu for: a,i; requests.memory for: a,i");
    const struct k8s_resource_quota *count = test_object(&k8s_resource_quota_type, arena, "{spec: {hard: {pods: '1'}}}");
    assert_null(quota_unsaid(pod->spec, &count->spec->hard, arena));
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(pods_use_what_they_ask_for), TEST(pods_that_have_ended_use_only_their_place), TEST(services_claims_and_the_rest), TEST(sums_masks_and_differences),
        TEST(scopes_pick_pods),           TEST(names_belong_to_resources),                 TEST(what_is_limited_must_be_said),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
