/* The cells of kubectl get, kind by kind, and the texts of a pod's state. */
#include "controlplane/apiserver/table/table.h"

#include "api/k8s.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#define NOW_S INT64_C(1767225600) /* 2026-01-01T00:00:00Z */
#define BORN "\"creationTimestamp\":\"2025-12-31T23:59:00Z\"" /* 60 s */

static const char *cells_of(const char *group, const char *version, const char *name, const char *json, struct kp_arena *arena)
{
    const struct kp_resource *resource = kp_resource_find(group, version, name);
    assert_non_null(resource);
    void *obj = NULL;
    struct kp_error error = {0};
    if (kp_json_decode(resource->type, json, strlen(json), arena, NULL, &obj, &error) < 0)
        fail_msg("%s: %s", name, error.message);
    KP_AUTO_BUF struct kp_buf out = {0};
    table_cells(resource, obj, NOW_S, arena, &out);
    return kp_arena_strdup(arena, out.data);
}

/* The READY, STATUS and RESTARTS of a pod with this spec and status. */
static void check_pod(const char *meta, const char *spec, const char *status, const char *expected)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    const char *json = kp_arena_printf(arena, "{\"metadata\":{\"name\":\"p\"," BORN "%s},\"spec\":{%s},\"status\":{%s}}", meta, spec, status);
    const char *cells = cells_of("", "v1", "pods", json, arena);
    const char *wanted = kp_arena_printf(arena, "[\"p\",%s,\"60s\",\"<none>\",\"<none>\",\"<none>\",\"<none>\"]", expected);
    assert_string_equal(cells, wanted);
}

#define ONE "\"containers\":[{\"name\":\"c\"}]"
#define TWO "\"containers\":[{\"name\":\"c\"},{\"name\":\"d\"}]"
#define INIT "\"initContainers\":[{\"name\":\"i\"}]," ONE
#define SIDECAR "\"initContainers\":[{\"name\":\"i\",\"restartPolicy\":\"Always\"}]," ONE
#define WAITING(why) "\"state\":{\"waiting\":{\"reason\":\"" why "\"}}"
#define ENDED(code, why) "\"state\":{\"terminated\":{\"exitCode\":" code ",\"reason\":\"" why "\"}}"
#define RUNNING "\"ready\":true,\"state\":{\"running\":{}}"
#define C(...) "\"containerStatuses\":[{\"name\":\"c\"," __VA_ARGS__ "}]"
#define I(...) "\"initContainerStatuses\":[{\"name\":\"i\"," __VA_ARGS__ "}]"

static void pod_states_of_containers(void **state)
{
    (void)state;
    check_pod("", ONE, "\"phase\":\"Pending\"", "\"0/1\",\"Pending\",\"0\"");
    check_pod("", ONE, "\"phase\":\"Pending\"," C(WAITING("ContainerCreating")), "\"0/1\",\"ContainerCreating\",\"0\"");
    check_pod("", ONE, "\"phase\":\"Running\"," C(RUNNING), "\"1/1\",\"Running\",\"0\"");
    check_pod("", ONE, "\"phase\":\"Running\"," C(WAITING("CrashLoopBackOff") ",\"restartCount\":3,\"lastState\":{\"terminated\":{\"exitCode\":1,\"finishedAt\":\"2025-12-31T23:59:55Z\"}}"),
              "\"0/1\",\"CrashLoopBackOff\",\"3 (5s ago)\"");
    check_pod("", ONE, "\"phase\":\"Running\"," C(RUNNING ",\"restartCount\":2"), "\"1/1\",\"Running\",\"2\"");
    check_pod("", ONE, "\"phase\":\"Succeeded\"," C(ENDED("0", "Completed")), "\"0/1\",\"Completed\",\"0\"");
    check_pod("", ONE, "\"phase\":\"Failed\"," C("\"state\":{\"terminated\":{\"exitCode\":7}}"), "\"0/1\",\"ExitCode:7\",\"0\"");
    check_pod("", ONE, "\"phase\":\"Failed\"," C("\"state\":{\"terminated\":{\"exitCode\":137,\"signal\":9}}"), "\"0/1\",\"Signal:9\",\"0\"");
    check_pod("", ONE, "\"phase\":\"Failed\",\"reason\":\"Evicted\"", "\"0/1\",\"Evicted\",\"0\"");
    check_pod("", ONE, "\"phase\":\"Pending\",\"conditions\":[{\"type\":\"PodScheduled\",\"status\":\"False\",\"reason\":\"SchedulingGated\"}]",
              "\"0/1\",\"SchedulingGated\",\"0\"");
}

static void one_of_two_containers_done_is_running_or_not_ready(void **state)
{
    (void)state;
#define MIXED "\"containerStatuses\":[{\"name\":\"c\"," ENDED("0", "Completed") "},{\"name\":\"d\"," RUNNING "}]"
    check_pod("", TWO, "\"phase\":\"Running\"," MIXED, "\"1/2\",\"NotReady\",\"0\"");
    check_pod("", TWO, "\"phase\":\"Running\",\"conditions\":[{\"type\":\"Ready\",\"status\":\"True\"}]," MIXED, "\"1/2\",\"Running\",\"0\"");
}

static void pod_states_of_init_containers(void **state)
{
    (void)state;
    check_pod("", INIT, "\"phase\":\"Pending\"," I("\"state\":{\"running\":{}}"), "\"0/1\",\"Init:0/1\",\"0\"");
    check_pod("", INIT, "\"phase\":\"Pending\"," I(WAITING("PodInitializing")), "\"0/1\",\"Init:0/1\",\"0\"");
    check_pod("", INIT, "\"phase\":\"Pending\"," I(WAITING("ErrImagePull")), "\"0/1\",\"Init:ErrImagePull\",\"0\"");
    check_pod("", INIT, "\"phase\":\"Pending\"," I(ENDED("1", "Error")), "\"0/1\",\"Init:Error\",\"0\"");
    check_pod("", INIT, "\"phase\":\"Pending\"," I("\"state\":{\"terminated\":{\"exitCode\":2}}"), "\"0/1\",\"Init:ExitCode:2\",\"0\"");
    check_pod("", INIT, "\"phase\":\"Pending\"," I(ENDED("0", "Completed")) "," C(WAITING("PodInitializing")), "\"0/1\",\"PodInitializing\",\"0\"");
    check_pod("", SIDECAR, "\"phase\":\"Running\"," I("\"started\":true," RUNNING) "," C(RUNNING), "\"2/2\",\"Running\",\"0\"");
    check_pod("", SIDECAR, "\"phase\":\"Pending\"," I("\"started\":false,\"state\":{\"running\":{}}"), "\"0/2\",\"Init:0/1\",\"0\"");
}

static void deleted_pods_are_terminating_until_they_are_done(void **state)
{
    (void)state;
    const char *gone = ",\"deletionTimestamp\":\"2026-01-01T00:00:00Z\"";
    check_pod(gone, ONE, "\"phase\":\"Running\"," C(RUNNING), "\"1/1\",\"Terminating\",\"0\"");
    check_pod(gone, ONE, "\"phase\":\"Running\",\"reason\":\"NodeLost\"", "\"0/1\",\"Unknown\",\"0\"");
    check_pod(gone, ONE, "\"phase\":\"Succeeded\"," C(ENDED("0", "Completed")), "\"0/1\",\"Completed\",\"0\"");
}

static void wide_cells_of_a_pod(void **state)
{
    (void)state;
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    const char *json = "{\"metadata\":{\"name\":\"p\"," BORN "},\"spec\":{" ONE ",\"nodeName\":\"w1\",\"readinessGates\":[{\"conditionType\":\"a\"},{\"conditionType\":\"b\"}]},"
                       "\"status\":{\"phase\":\"Running\",\"podIP\":\"10.0.0.9\",\"nominatedNodeName\":\"w2\",\"conditions\":[{\"type\":\"a\",\"status\":\"True\"}]}}";
    assert_string_equal(cells_of("", "v1", "pods", json, arena), "[\"p\",\"0/1\",\"Running\",\"0\",\"60s\",\"10.0.0.9\",\"w1\",\"w2\",\"1/2\"]");
}

#define M(name) "\"metadata\":{\"name\":\"" name "\"," BORN "}"
#define TEMPLATE "\"template\":{\"spec\":{\"containers\":[{\"name\":\"c\",\"image\":\"i:1\"}]}}"
#define SELECTOR "\"selector\":{\"matchLabels\":{\"a\":\"b\"}}"

static void rows_of_many_kinds(void **state)
{
    (void)state;
    static const struct {
        const char *group, *version, *resource, *json, *cells;
    } table[] = {
        {"", "v1", "nodes",
         "{\"metadata\":{\"name\":\"n\"," BORN ",\"labels\":{\"node-role.kubernetes.io/control-plane\":\"\"}},\"spec\":{\"unschedulable\":true},\"status\":{"
         "\"conditions\":[{\"type\":\"Ready\",\"status\":\"True\"}],\"addresses\":[{\"type\":\"InternalIP\",\"address\":\"10.0.0.1\"}],\"nodeInfo\":{\"kubeletVersion\":\"v1.36.0\",\"osImage\":\"os\"}}}",
         "[\"n\",\"Ready,SchedulingDisabled\",\"control-plane\",\"60s\",\"v1.36.0\",\"10.0.0.1\",\"<none>\",\"os\",\"<unknown>\",\"<unknown>\"]"},
        {"", "v1", "services",
         "{" M("s") ",\"spec\":{\"type\":\"NodePort\",\"clusterIP\":\"10.96.0.5\",\"selector\":{\"a\":\"b\"},\"ports\":[{\"port\":80,\"nodePort\":30000},{\"port\":53,\"protocol\":\"UDP\"}]}}",
         "[\"s\",\"NodePort\",\"10.96.0.5\",\"<none>\",\"80:30000/TCP,53/UDP\",\"60s\",\"a=b\"]"},
        {"", "v1", "services", "{" M("s") ",\"spec\":{\"type\":\"LoadBalancer\",\"clusterIP\":\"10.96.0.5\"}}",
         "[\"s\",\"LoadBalancer\",\"10.96.0.5\",\"<pending>\",\"<none>\",\"60s\",\"<none>\"]"},
        {"", "v1", "endpoints",
         "{" M("e") ",\"subsets\":[{\"addresses\":[{\"ip\":\"1.1.1.1\"},{\"ip\":\"1.1.1.2\"}],\"ports\":[{\"port\":1},{\"port\":2}]}]}",
         "[\"e\",\"1.1.1.1:1,1.1.1.1:2,1.1.1.2:1 + 1 more...\",\"60s\"]"},
        {"", "v1", "namespaces", "{" M("d") ",\"status\":{\"phase\":\"Active\"}}", "[\"d\",\"Active\",\"60s\"]"},
        {"", "v1", "configmaps", "{" M("m") ",\"data\":{\"a\":\"1\"},\"binaryData\":{\"b\":\"AA==\"}}", "[\"m\",2,\"60s\"]"},
        {"", "v1", "secrets", "{" M("x") ",\"type\":\"Opaque\",\"data\":{\"a\":\"AA==\"}}", "[\"x\",\"Opaque\",1,\"60s\"]"},
        {"", "v1", "serviceaccounts", "{" M("a") "}", "[\"a\",\"60s\"]"},
        {"", "v1", "events",
         "{" M("ev") ",\"involvedObject\":{\"kind\":\"Pod\",\"name\":\"p\"},\"reason\":\"Pulled\",\"message\":\"done\",\"type\":\"Normal\",\"count\":4,\"source\":{\"component\":\"kubelet\",\"host\":\"n\"},"
         "\"firstTimestamp\":\"2025-12-31T23:59:00Z\",\"lastTimestamp\":\"2025-12-31T23:59:30Z\"}",
         "[\"30s\",\"Normal\",\"Pulled\",\"pod/p\",\"\",\"kubelet, n\",\"done\",\"60s\",4,\"ev\"]"},
        {"events.k8s.io", "v1", "events",
         "{" M("ev") ",\"regarding\":{\"kind\":\"Pod\",\"name\":\"p\"},\"reason\":\"Pulled\",\"note\":\"done\",\"type\":\"Normal\",\"reportingController\":\"kubelet\","
         "\"eventTime\":\"2025-12-31T23:59:00Z\",\"series\":{\"count\":3,\"lastObservedTime\":\"2025-12-31T23:59:30Z\"}}",
         "[\"30s\",\"Normal\",\"Pulled\",\"pod/p\",\"\",\"kubelet\",\"done\",\"60s\",3,\"ev\"]"},
        {"", "v1", "resourcequotas", "{" M("q") ",\"status\":{\"hard\":{\"pods\":\"5\",\"limits.cpu\":\"2\"},\"used\":{\"pods\":\"1\"}}}",
         "[\"q\",\"pods: 1/5\",\"limits.cpu: 0/2\",\"60s\"]"},
        {"", "v1", "persistentvolumeclaims",
         "{" M("c") ",\"spec\":{\"volumeName\":\"v\",\"storageClassName\":\"fast\"},\"status\":{\"phase\":\"Bound\",\"capacity\":{\"storage\":\"1Gi\"},\"accessModes\":[\"ReadWriteMany\",\"ReadWriteOnce\"]}}",
         "[\"c\",\"Bound\",\"v\",\"1Gi\",\"RWO,RWX\",\"fast\",\"<unset>\",\"60s\",\"<unset>\"]"},
        {"", "v1", "replicationcontrollers", "{" M("r") ",\"spec\":{\"replicas\":2,\"selector\":{\"a\":\"b\"}," TEMPLATE "},\"status\":{\"replicas\":2,\"readyReplicas\":1}}",
         "[\"r\",2,2,1,\"60s\",\"c\",\"i:1\",\"a=b\"]"},
        {"apps", "v1", "deployments", "{" M("d") ",\"spec\":{\"replicas\":3," SELECTOR "," TEMPLATE "},\"status\":{\"readyReplicas\":2,\"updatedReplicas\":3,\"availableReplicas\":1}}",
         "[\"d\",\"2/3\",3,1,\"60s\",\"c\",\"i:1\",\"a=b\"]"},
        {"apps", "v1", "replicasets", "{" M("r") ",\"spec\":{\"replicas\":3," SELECTOR "," TEMPLATE "},\"status\":{\"replicas\":2,\"readyReplicas\":1}}",
         "[\"r\",3,2,1,\"60s\",\"c\",\"i:1\",\"a=b\"]"},
        {"apps", "v1", "statefulsets", "{" M("s") ",\"spec\":{\"replicas\":3," SELECTOR "," TEMPLATE "},\"status\":{\"readyReplicas\":1}}", "[\"s\",\"1/3\",\"60s\",\"c\",\"i:1\"]"},
        {"apps", "v1", "daemonsets", "{" M("d") ",\"spec\":{" SELECTOR "," TEMPLATE "},\"status\":{\"desiredNumberScheduled\":5,\"currentNumberScheduled\":4,\"numberReady\":3,\"updatedNumberScheduled\":2,\"numberAvailable\":1}}",
         "[\"d\",5,4,3,2,1,\"<none>\",\"60s\",\"c\",\"i:1\",\"a=b\"]"},
        {"batch", "v1", "jobs", "{" M("j") ",\"spec\":{\"completions\":2," SELECTOR "," TEMPLATE "},\"status\":{\"succeeded\":2,\"startTime\":\"2025-12-31T23:59:00Z\",\"completionTime\":\"2025-12-31T23:59:40Z\",\"conditions\":[{\"type\":\"Complete\",\"status\":\"True\"}]}}",
         "[\"j\",\"Complete\",\"2/2\",\"40s\",\"60s\",\"c\",\"i:1\",\"a=b\"]"},
        {"batch", "v1", "cronjobs", "{" M("j") ",\"spec\":{\"schedule\":\"* * * * *\",\"suspend\":false,\"jobTemplate\":{\"spec\":{" TEMPLATE "}}}}",
         "[\"j\",\"* * * * *\",\"<none>\",\"False\",0,\"<none>\",\"60s\",\"c\",\"i:1\",\"<none>\"]"},
        {"policy", "v1", "poddisruptionbudgets", "{" M("b") ",\"spec\":{\"minAvailable\":\"50%\"},\"status\":{\"disruptionsAllowed\":1}}", "[\"b\",\"50%\",\"N/A\",1,\"60s\"]"},
        {"networking.k8s.io", "v1", "ingresses", "{" M("i") ",\"spec\":{\"tls\":[{}],\"rules\":[{\"host\":\"a\"},{\"host\":\"b\"},{\"host\":\"c\"},{\"host\":\"d\"}]}}",
         "[\"i\",\"<none>\",\"a,b,c + 1 more...\",\"\",\"80, 443\",\"60s\"]"},
        {"coordination.k8s.io", "v1", "leases", "{" M("l") ",\"spec\":{\"holderIdentity\":\"me\"}}", "[\"l\",\"me\",\"60s\"]"},
        {"apiregistration.k8s.io", "v1", "apiservices", "{" M("v1.") ",\"status\":{\"conditions\":[{\"type\":\"Available\",\"status\":\"True\",\"reason\":\"Local\"}]}}",
         "[\"v1.\",\"Local\",\"True\",\"60s\"]"},
        {"apiregistration.k8s.io", "v1", "apiservices",
         "{" M("v1.g") ",\"spec\":{\"service\":{\"namespace\":\"n\",\"name\":\"s\"}},\"status\":{\"conditions\":[{\"type\":\"Available\",\"status\":\"False\",\"reason\":\"MissingEndpoints\"}]}}",
         "[\"v1.g\",\"n/s\",\"False (MissingEndpoints)\",\"60s\"]"},
        {"apiregistration.k8s.io", "v1", "apiservices", "{" M("v1.h") ",\"spec\":{\"service\":{\"namespace\":\"n\",\"name\":\"s\"}}}", "[\"v1.h\",\"n/s\",\"Unknown\",\"60s\"]"},
        {"storage.k8s.io", "v1", "csidrivers",
         "{" M("d.io") ",\"spec\":{\"attachRequired\":false,\"podInfoOnMount\":true,\"storageCapacity\":true,\"tokenRequests\":[{\"audience\":\"a\"},{\"audience\":\"b\"}],"
         "\"requiresRepublish\":true,\"volumeLifecycleModes\":[\"Persistent\",\"Ephemeral\"]}}",
         "[\"d.io\",false,true,true,\"a,b\",true,\"Persistent,Ephemeral\",\"60s\"]"},
        {"storage.k8s.io", "v1", "csidrivers", "{" M("d.io") ",\"spec\":{\"attachRequired\":true}}", "[\"d.io\",true,false,false,\"<unset>\",false,\"<none>\",\"60s\"]"},
        {"storage.k8s.io", "v1", "storageclasses",
         "{\"metadata\":{\"name\":\"sc\"," BORN ",\"annotations\":{\"storageclass.kubernetes.io/is-default-class\":\"true\"}},\"provisioner\":\"p\"}",
         "[\"sc (default)\",\"p\",\"Delete\",\"Immediate\",false,\"60s\"]"},
        {"rbac.authorization.k8s.io", "v1", "rolebindings", "{" M("b") ",\"roleRef\":{\"kind\":\"Role\",\"name\":\"r\"},\"subjects\":[{\"kind\":\"User\",\"name\":\"u\"},{\"kind\":\"ServiceAccount\",\"name\":\"a\",\"namespace\":\"n\"}]}",
         "[\"b\",\"Role/r\",\"60s\",\"u\",\"\",\"n/a\"]"},
        {"discovery.k8s.io", "v1", "endpointslices", "{" M("e") ",\"addressType\":\"IPv4\",\"ports\":[{\"port\":80}],\"endpoints\":[{\"addresses\":[\"1.1.1.1\"]}]}",
         "[\"e\",\"IPv4\",\"80\",\"1.1.1.1\",\"60s\"]"},
        {"certificates.k8s.io", "v1", "certificatesigningrequests", "{" M("c") ",\"spec\":{\"signerName\":\"s\",\"username\":\"u\"},\"status\":{\"conditions\":[{\"type\":\"Approved\",\"status\":\"True\"}],\"certificate\":\"AA==\"}}",
         "[\"c\",\"60s\",\"s\",\"u\",\"<none>\",\"Approved,Issued\"]"},
    };
    for (size_t i = 0; i < KP_ARRAY_LEN(table); i++) {
        KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
        assert_string_equal(cells_of(table[i].group, table[i].version, table[i].resource, table[i].json, arena), table[i].cells);
    }
}

/* Also of an object that says nothing at all: a row function must not trust that anything is set. */
static void every_resource_has_a_cell_for_each_column(void **state)
{
    (void)state;
    size_t count = 0, total;
    const struct kp_resource *const *resources = kp_resources(&total);
    for (size_t i = 0; i < total; i++) {
        const struct kp_resource *resource = resources[i];
        if (!kp_field_find(resource->type, "metadata"))
            continue;
        KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
        KP_AUTO_BUF struct kp_buf columns = {0};
        struct kp_value *parsed_columns, *parsed_cells;
        struct kp_error error = {0};
        table_columns(resource, &columns);
        const char *cells = cells_of(resource->group, resource->version, resource->name, "{}", arena);
        assert_int_equal(kp_value_parse(columns.data, columns.len, arena, NULL, &parsed_columns, &error), 0);
        assert_int_equal(kp_value_parse(cells, strlen(cells), arena, NULL, &parsed_cells, &error), 0);
        assert_int_equal(parsed_columns->array.len, parsed_cells->array.len);
        count++;
    }
    assert_true(count > 40);
}

static void ages_get_coarser(void **state)
{
    (void)state;
    static const struct {
        int64_t s;
        const char *text;
    } table[] = {{-2, "<invalid>"}, {-1, "0s"}, {0, "0s"}, {119, "119s"}, {120, "2m"}, {150, "2m30s"}, {600, "10m"}, {10799, "179m"}, {10800, "3h"},
                 {10860, "3h1m"}, {28800, "8h"}, {172799, "47h"}, {172800, "2d"}, {180000, "2d2h"}, {691200, "8d"}, {63071999, "729d"}, {63072000, "2y"},
                 {63072000 + 86400, "2y1d"}, {252288000, "8y"}};
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    for (size_t i = 0; i < KP_ARRAY_LEN(table); i++)
        assert_string_equal(table_age(table[i].s, arena), table[i].text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pod_states_of_containers),
        cmocka_unit_test(one_of_two_containers_done_is_running_or_not_ready),
        cmocka_unit_test(pod_states_of_init_containers),
        cmocka_unit_test(deleted_pods_are_terminating_until_they_are_done),
        cmocka_unit_test(wide_cells_of_a_pod),
        cmocka_unit_test(rows_of_many_kinds),
        cmocka_unit_test(every_resource_has_a_cell_for_each_column),
        cmocka_unit_test(ages_get_coarser),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
