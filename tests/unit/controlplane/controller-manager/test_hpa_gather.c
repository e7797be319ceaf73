/* What an autoscaler asks, of an API server that has an answer for each path: the scale, three metrics APIs, and what is said when one is not there. */
#include "controlplane/controller-manager/hpa.h"
#include "lib/http/http.h"
#include "tests/support/kcm_world.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

struct answer {
    const char *path, *query, *body; /* query: decoded by the server's own means; NULL: none */
};
struct asked {
    const struct answer *answers;
    size_t count;
    struct loop *loop;
    struct pool *pool;
    struct http_server *server;
    struct client *client;
    struct kcm_world *world;
};

static void serve(struct http_request *req, void *arg)
{
    static const char missing[] = "{\"kind\":\"Status\",\"apiVersion\":\"v1\",\"status\":\"Failure\",\"message\":\"the server could not find the requested resource\","
                                  "\"reason\":\"NotFound\",\"code\":404}";
    const struct asked *a = arg;
    for (size_t i = 0; i < a->count; i++)
        if (kp_streq(a->answers[i].path, req->raw_path) && kp_streq(a->answers[i].query ? a->answers[i].query : "", req->query)) {
            http_respond(req, 200, NULL, 0, a->answers[i].body, strlen(a->answers[i].body));
            return;
        }
    http_respond(req, 404, NULL, 0, missing, sizeof(missing) - 1);
}

static void begin(struct asked *a, const struct answer *answers, size_t count)
{
    static const struct controller *const controller = &horizontal_pod_autoscaler_controller;
    struct kp_error error = {0};
    *a = (struct asked){.answers = answers, .count = count, .loop = loop_new(), .pool = pool_new("test", 4, 100)};
    assert_int_equal(loop_start(a->loop, "test", &error), 0);
    const struct http_server_config config = {.host = "127.0.0.1", .pool = a->pool, .handler = serve, .arg = a};
    if (http_server_new(a->loop, &config, &a->server, &error) < 0)
        fail_msg("%s", error.message);
    KP_AUTO_FREE char *url = kp_asprintf("http://127.0.0.1:%u", http_server_port(a->server));
    const struct client_config client = {.servers = {url}, .n_servers = 1};
    if (client_new(a->loop, &client, &a->client, &error) < 0)
        fail_msg("%s", error.message);
    const struct engine_config engine = {.client = a->client};
    a->world = world_new(&controller, 1, &engine);
}

static void end(struct asked *a)
{
    world_free(a->world);
    client_free(a->client);
    http_server_free(a->server);
    pool_free(a->pool);
    loop_free(a->loop);
}

static void put(struct asked *a, const char *name, const char *target, const char *metrics)
{
    KP_AUTO_FREE char *yaml = kp_asprintf("{metadata: {name: %s, namespace: d}, spec: {scaleTargetRef: {%s}, minReplicas: 1, maxReplicas: 10, metrics: [%s]}}", name, target,
                                          metrics);
    world_put(a->world, &k8s_autoscaling_v2_horizontalpodautoscalers_resource, yaml);
}

static void put_pods(struct asked *a, int count)
{
    for (int i = 0; i < count; i++) {
        KP_AUTO_FREE char *yaml = kp_asprintf("{metadata: {name: p%d, namespace: d, labels: {app: t}}, spec: {containers: [{name: c, resources: {requests: {cpu: 1}}}]}, status: "
                                              "{phase: Running, startTime: '1970-01-01T00:00:00Z', conditions: [{type: Ready, status: 'True'}]}}", i);
        world_put(a->world, &k8s_pods_resource, yaml);
    }
}

static const char *plan(struct asked *a, const char *key)
{
    return world_plan(a->world, &horizontal_pod_autoscaler_controller, key);
}

#define DEPLOYMENT "apiVersion: apps/v1, kind: Deployment, name: t"
#define SCALE_OF(path) {path, NULL, "{\"kind\":\"Scale\",\"apiVersion\":\"autoscaling/v1\",\"metadata\":{\"name\":\"t\",\"namespace\":\"d\"},\"spec\":{\"replicas\":2}," \
                                    "\"status\":{\"replicas\":2,\"selector\":\"app=t\"}}"}
#define SCALE SCALE_OF("/apis/apps/v1/namespaces/d/deployments/t/scale")
#define CUSTOM {"/apis/custom.metrics.k8s.io", NULL, "{\"kind\":\"APIGroup\",\"apiVersion\":\"v1\",\"name\":\"custom.metrics.k8s.io\",\"versions\":[{\"groupVersion\":" \
                                                     "\"custom.metrics.k8s.io/v1beta1\",\"version\":\"v1beta1\"}],\"preferredVersion\":{\"version\":\"v1beta1\"}}"}
#define CPU "{type: Resource, resource: {name: cpu, target: {type: Utilization, averageUtilization: 50}}}"
#define PODS "{type: Pods, pods: {metric: {name: rps, selector: {matchLabels: {verb: get}}}, target: {type: AverageValue, averageValue: '10'}}}"
#define OBJECT "{type: Object, object: {metric: {name: hits}, describedObject: {apiVersion: networking.k8s.io/v1, kind: Ingress, name: i}, target: {type: Value, value: '10'}}}"
#define SPACE "{type: Object, object: {metric: {name: hits}, describedObject: {apiVersion: v1, kind: Namespace, name: d}, target: {type: Value, value: '10'}}}"
#define EXTERNAL "{type: External, external: {metric: {name: queue, selector: {matchLabels: {q: a}}}, target: {type: AverageValue, averageValue: '10'}}}"

static void each_kind_of_metric_is_asked_where_its_api_is(void **state)
{
    (void)state;
    static const struct answer answers[] = {
        SCALE,
        CUSTOM,
        {"/apis/metrics.k8s.io/v1beta1/namespaces/d/pods", "labelSelector=app%3Dt",
         "{\"kind\":\"PodMetricsList\",\"apiVersion\":\"metrics.k8s.io/v1beta1\",\"metadata\":{},\"items\":[{\"metadata\":{\"name\":\"p0\"},\"timestamp\":\"1970-01-12T13:46:40Z\","
         "\"window\":\"15s\",\"containers\":[{\"name\":\"c\",\"usage\":{\"cpu\":\"1000m\",\"memory\":\"1Mi\"}}]},{\"metadata\":{\"name\":\"p1\"},\"timestamp\":"
         "\"1970-01-12T13:46:40Z\",\"window\":\"15s\",\"containers\":[{\"name\":\"c\",\"usage\":{\"cpu\":\"999999999n\",\"memory\":\"1Mi\"}}]}]}"},
        {"/apis/custom.metrics.k8s.io/v1beta1/namespaces/d/pods/%2A/rps", "labelSelector=app%3Dt&metricLabelSelector=verb%3Dget",
         "{\"kind\":\"MetricValueList\",\"items\":[{\"describedObject\":{\"kind\":\"Pod\",\"name\":\"p0\"},\"metricName\":\"rps\",\"timestamp\":\"1970-01-12T13:46:40Z\",\"value\":"
         "\"12\"},{\"describedObject\":{\"kind\":\"Pod\",\"name\":\"p1\"},\"timestamp\":\"1970-01-12T13:46:40Z\",\"value\":\"18\"}]}"},
        {"/apis/custom.metrics.k8s.io/v1beta1/namespaces/d/ingresses.networking.k8s.io/i/hits", NULL, "{\"items\":[{\"describedObject\":{\"name\":\"i\"},\"value\":\"15\"}]}"},
        {"/apis/custom.metrics.k8s.io/v1beta1/namespaces/d/metrics/hits", NULL, "{\"items\":[{\"value\":\"15\"}]}"},
        {"/apis/external.metrics.k8s.io/v1beta1/namespaces/d/queue", "labelSelector=q%3Da",
         "{\"items\":[{\"metricName\":\"queue\",\"value\":\"20\"},{\"metricName\":\"queue\",\"value\":\"15500m\"}]}"},
    };
    static const struct {
        const char *metric, *reason;
        int size;
    } rows[] = {{CPU, "cpu resource utilization (percentage of request) above target", 4},
                {PODS, "pods metric rps above target", 3},
                {OBJECT, "Ingress metric hits above target", 3},
                {SPACE, "Namespace metric hits above target", 3},
                {EXTERNAL, "external metric queue(&LabelSelector{MatchLabels:map[string]string{q: a,},MatchExpressions:[]LabelSelectorRequirement{},}) above target", 4}};
    for (size_t i = 0; i < KP_ARRAY_LEN(rows); i++) {
        struct asked a;
        begin(&a, answers, KP_ARRAY_LEN(answers));
        put_pods(&a, 2);
        put(&a, "h", DEPLOYMENT, rows[i].metric);
        const char *text = plan(&a, "d/h");
        KP_AUTO_FREE char *wanted = kp_asprintf("New size: %d; reason: %s\n", rows[i].size, rows[i].reason);
        if (!strstr(text, wanted))
            fail_msg("no %s in %s", wanted, text);
        assert_non_null(strstr(text, "requeue after 15000 ms\n"));
        end(&a);
    }
}

static void an_api_that_is_not_there_is_named(void **state)
{
    (void)state;
    static const struct answer answers[] = {SCALE};
    static const struct {
        const char *metric, *event;
    } rows[] = {
        {CPU, "FailedGetResourceMetric: failed to get cpu utilization: unable to get metrics for resource cpu: unable to fetch metrics from resource metrics API: the server "
              "could not find the requested resource (get pods.metrics.k8s.io)\n"},
        {PODS, "FailedGetPodsMetric: unable to get metric rps: unable to fetch metrics from custom metrics API: no custom metrics API (custom.metrics.k8s.io) registered\n"},
        {OBJECT, "FailedGetObjectMetric: unable to get metric hits on Ingress d/i: unable to fetch metrics from custom metrics API: no custom metrics API "
                 "(custom.metrics.k8s.io) registered\n"},
        {EXTERNAL, "unable to fetch metrics from external metrics API: the server could not find the requested resource (get queue.external.metrics.k8s.io)\n"},
    };
    for (size_t i = 0; i < KP_ARRAY_LEN(rows); i++) {
        struct asked a;
        begin(&a, answers, KP_ARRAY_LEN(answers));
        put_pods(&a, 2);
        put(&a, "h", DEPLOYMENT, rows[i].metric);
        const char *text = plan(&a, "d/h");
        if (!strstr(text, rows[i].event))
            fail_msg("no %s in %s", rows[i].event, text);
        end(&a);
    }
}

static void targets_are_of_any_kind_that_has_a_scale(void **state)
{
    (void)state;
    static const struct answer answers[] = {SCALE_OF("/apis/example.org/v1/namespaces/d/widgets/t/scale")};
    struct asked a;
    begin(&a, answers, KP_ARRAY_LEN(answers));
    put(&a, "h", "apiVersion: example.org/v1, kind: Widget, name: t", CPU);
    assert_non_null(strstr(plan(&a, "d/h"), "FailedGetScale: no matches for kind \"Widget\" in group \"example.org\"\n"));
    world_define(a.world, WORLD_WIDGETS("w1", ""));
    assert_non_null(strstr(plan(&a, "d/h"), "FailedComputeMetricsReplicas: ")); /* its scale was had, and no metrics */
    put(&a, "two", "apiVersion: a/b/c, kind: Widget, name: t", CPU);
    assert_non_null(strstr(plan(&a, "d/two"), "FailedGetScale: unexpected GroupVersion string: a/b/c\n"));
    put(&a, "bare", "kind: Deployment, name: t", CPU);
    assert_non_null(strstr(plan(&a, "d/bare"), "FailedGetScale: no matches for kind \"Deployment\" in group \"\"\n"));
    put(&a, "none", DEPLOYMENT, CPU);
    assert_non_null(strstr(plan(&a, "d/none"), "FailedGetScale: the server could not find the requested resource\n"));
    world_remove(a.world, &k8s_autoscaling_v2_horizontalpodautoscalers_resource, "d", "none");
    assert_string_equal(plan(&a, "d/none"), "");
    end(&a);
}

static void two_of_the_same_pods_get_in_each_others_way(void **state)
{
    (void)state;
    static const struct answer answers[] = {SCALE};
    struct asked a;
    begin(&a, answers, KP_ARRAY_LEN(answers));
    put_pods(&a, 2);
    put(&a, "one", DEPLOYMENT, CPU);
    put(&a, "two", DEPLOYMENT, CPU);
    assert_null(strstr(plan(&a, "d/one"), "AmbiguousSelector"));
    assert_non_null(strstr(plan(&a, "d/two"), "AmbiguousSelector: pods by selector app=t are controlled by multiple HPAs: [d/one d/two]\n"));
    assert_non_null(strstr(plan(&a, "d/one"), "AmbiguousSelector"));
    world_remove(a.world, &k8s_autoscaling_v2_horizontalpodautoscalers_resource, "d", "two");
    plan(&a, "d/two"); /* it is forgotten */
    assert_null(strstr(plan(&a, "d/one"), "AmbiguousSelector"));
    end(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_kind_of_metric_is_asked_where_its_api_is),
        cmocka_unit_test(an_api_that_is_not_there_is_named),
        cmocka_unit_test(targets_are_of_any_kind_that_has_a_scale),
        cmocka_unit_test(two_of_the_same_pods_get_in_each_others_way),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
