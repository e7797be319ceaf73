/* What kubelets say as NodeMetrics and PodMetrics, and how they are asked. */
#include "controlplane/apiserver/resource_metrics/resource_metrics.h"
#include "controlplane/apiserver/table/table.h"

#include "lib/http/http.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#define NODE(time, nano) "\"node\":{\"nodeName\":\"n\",\"cpu\":{\"time\":\"" time "\",\"usageNanoCores\":" nano ",\"usageCoreNanoSeconds\":9}," \
    "\"memory\":{\"time\":\"" time "\",\"workingSetBytes\":2147483648,\"usageBytes\":3147483648,\"majorPageFaults\":3}}"
#define CONTAINER(name, time, nano, memory) "{\"name\":\"" name "\",\"startTime\":null,\"cpu\":{\"time\":\"" time "\"" nano ",\"psi\":{\"full\":{}}}," \
    "\"memory\":{\"workingSetBytes\":" memory "}}"
#define RATE(nano) ",\"usageNanoCores\":" nano
#define POD(name, containers) "{\"podRef\":{\"name\":\"" name "\",\"namespace\":\"d\",\"uid\":\"u\"},\"containers\":[" containers "],\"swap\":{\"time\":\"x\"}}"

static struct resource_metrics_sample *decoded(const char *text, const struct resource_metrics_sample *prev)
{
    struct resource_metrics_sample *sample = NULL;
    struct kp_error error = {0};
    if (resource_metrics_decode(text, strlen(text), prev, &sample, &error) < 0)
        fail_msg("%s", error.message);
    return sample;
}

static const struct kp_string_map no_labels;

static void a_node_has_its_use_and_the_labels_of_the_node(void **state)
{
    (void)state;
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    KP_AUTO(resource_metrics_sample_unref) struct resource_metrics_sample *sample = decoded("{" NODE("2026-01-01T00:00:10Z", "250000001") ",\"pods\":[]}", NULL);
    struct kp_string_map labels = {0};
    struct k8s_node_metrics metrics;
    KP_AUTO_BUF struct kp_buf out = {0};
    kp_string_map_set(arena, &labels, "a", "b");
    assert_true(resource_metrics_of_node(sample, "n", &labels, 1767225612, arena, &metrics));
    kp_json_encode(&k8s_node_metrics_type, &metrics, &out);
    assert_string_equal(out.data, "{\"kind\":\"NodeMetrics\",\"apiVersion\":\"metrics.k8s.io/v1beta1\",\"metadata\":{\"name\":\"n\",\"creationTimestamp\":"
                                  "\"2026-01-01T00:00:12Z\",\"labels\":{\"a\":\"b\"}},\"timestamp\":\"2026-01-01T00:00:10Z\",\"window\":\"10s\",\"usage\":"
                                  "{\"cpu\":\"250000001n\",\"memory\":\"2Gi\"}}");
}

static void the_window_is_the_time_since_the_last_look(void **state)
{
    (void)state;
    KP_AUTO(resource_metrics_sample_unref) struct resource_metrics_sample *first = decoded("{" NODE("2026-01-01T00:00:10Z", "1") "}", NULL);
    KP_AUTO(resource_metrics_sample_unref) struct resource_metrics_sample *second = decoded("{" NODE("2026-01-01T00:00:27Z", "1") "}", first);
    KP_AUTO(resource_metrics_sample_unref) struct resource_metrics_sample *late = decoded("{" NODE("2026-01-01T01:00:27Z", "1") "}", second);
    assert_int_equal(first->window_s, RESOURCE_METRICS_WINDOW_S);
    assert_int_equal(second->window_s, 17);
    assert_int_equal(late->window_s, RESOURCE_METRICS_WINDOW_S);
}

static void a_pod_is_told_when_every_container_has_both_numbers(void **state)
{
    (void)state;
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    KP_AUTO(resource_metrics_sample_unref) struct resource_metrics_sample *sample = decoded(
        "{" NODE("2026-01-01T00:00:10Z", "1") ",\"pods\":["
        POD("two", CONTAINER("b", "2026-01-01T00:00:09Z", RATE("1500000000"), "1048576") "," CONTAINER("a", "2026-01-01T00:00:07Z", RATE("0"), "1025")) ","
        POD("fresh", CONTAINER("b", "2026-01-01T00:00:09Z", RATE("5"), "5") "," CONTAINER("a", "2026-01-01T00:00:09Z", "", "5")) ","
        POD("ended", CONTAINER("b", "2026-01-01T00:00:09Z", RATE("5"), "0")) "," POD("none", "") "]}", NULL);
    struct k8s_pod_metrics metrics;
    assert_true(resource_metrics_of_pod(sample, "d", "two", &no_labels, 1767225612, arena, &metrics));
    assert_int_equal(metrics.containers.len, 2);
    assert_string_equal(metrics.containers.items[0].name, "b");
    assert_string_equal(kp_string_map_get(&metrics.containers.items[0].usage, "cpu"), "1500m");
    assert_string_equal(kp_string_map_get(&metrics.containers.items[0].usage, "memory"), "1Mi");
    assert_string_equal(kp_string_map_get(&metrics.containers.items[1].usage, "cpu"), "0");
    assert_string_equal(kp_string_map_get(&metrics.containers.items[1].usage, "memory"), "1025");
    assert_int_equal(metrics.timestamp.seconds, 1767225607); /* the earliest */
    KP_AUTO_BUF struct kp_buf row = {0};
    table_cells(&k8s_metrics_pods_resource, &metrics, 1767225612, arena, &row);
    assert_string_equal(row.data, "[\"two\",\"1500m\",\"1049601\",\"10s\"]");
    static const char *const absent[] = {"fresh", "ended", "none", "unknown"};
    for (size_t i = 0; i < KP_ARRAY_LEN(absent); i++)
        assert_false(resource_metrics_of_pod(sample, "d", absent[i], &no_labels, 1, arena, &metrics));
    assert_false(resource_metrics_of_pod(sample, "e", "two", &no_labels, 1, arena, &metrics));
}

static void durations_travel_as_nanoseconds(void **state)
{
    (void)state;
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    struct k8s_node_metrics *metrics = KP_OBJECT_NEW(arena, k8s_node_metrics);
    struct kp_error error = {0};
    void *back = NULL;
    KP_AUTO_BUF struct kp_buf wire = {0};
    metrics->window = "1m2.5s";
    kp_string_map_set(arena, &metrics->usage, "cpu", "12n");
    kp_proto_encode(&k8s_node_metrics_type, metrics, &wire);
    static const uint8_t window[] = {0x1a, 0x07, 0x08, 0x80, 0xa2, 0xa9, 0xea, 0xe8, 0x01}; /* field 3 {field 1: 62500000000} */
    assert_non_null(memmem(wire.data, wire.len, window, sizeof(window)));
    assert_int_equal(kp_proto_decode(&k8s_node_metrics_type, wire.data, wire.len, arena, &back, &error), 0);
    assert_string_equal(((struct k8s_node_metrics *)back)->window, "1m2.5s");
    assert_string_equal(kp_string_map_get(&((struct k8s_node_metrics *)back)->usage, "cpu"), "12n");
}

/* ---- asking --------------------------------------------------------------------------------------------------------------------- */
struct kubelet {
    struct loop *loop;
    struct pool *pool;
    struct http_server *server;
    struct resource_metrics *metrics;
    char endpoint[64];
    unsigned asked; /* atomic */
    int status;
    bool held;      /* atomic: answers wait for its end */
};

static int64_t fake_ms;
static int64_t fake_now(void)
{
    return __atomic_load_n(&fake_ms, __ATOMIC_ACQUIRE);
}

static void answer(struct http_request *req, void *arg)
{
    static const char text[] = "{" NODE("2026-01-01T00:00:10Z", "250000001") ",\"pods\":[]}";
    struct kubelet *kubelet = arg;
    assert_string_equal(req->path, "/stats/summary");
    __atomic_add_fetch(&kubelet->asked, 1, __ATOMIC_ACQ_REL);
    while (__atomic_load_n(&kubelet->held, __ATOMIC_ACQUIRE))
        kp_sleep_ms(1);
    http_respond(req, kubelet->status, NULL, 0, text, sizeof(text) - 1);
}

static void kubelet_start(struct kubelet *kubelet)
{
    struct kp_error error = {0};
    *kubelet = (struct kubelet){.loop = loop_new(), .pool = pool_new("test", 8, 100), .status = 200};
    fake_ms = 1000;
    assert_int_equal(loop_start(kubelet->loop, "test", &error), 0);
    const struct http_server_config config = {.host = "127.0.0.1", .pool = kubelet->pool, .handler = answer, .arg = kubelet};
    if (http_server_new(kubelet->loop, &config, &kubelet->server, &error) < 0)
        fail_msg("%s", error.message);
    snprintf(kubelet->endpoint, sizeof(kubelet->endpoint), "http://127.0.0.1:%u", http_server_port(kubelet->server));
    kubelet->metrics = resource_metrics_new(&(struct resource_metrics_config){.loop = kubelet->loop, .now_ms = fake_now});
}

static void kubelet_stop(struct kubelet *kubelet)
{
    resource_metrics_free(kubelet->metrics);
    http_server_free(kubelet->server);
    pool_free(kubelet->pool);
    loop_free(kubelet->loop);
}

/* How many of these nodes told something. */
static size_t ask_all(struct kubelet *kubelet, const struct resource_metrics_node *nodes, size_t count)
{
    struct resource_metrics_sample *samples[8];
    size_t told = 0;
    resource_metrics_ask(kubelet->metrics, nodes, count, samples);
    for (size_t i = 0; i < count; i++) {
        told += samples[i] != NULL;
        resource_metrics_sample_unref(samples[i]);
    }
    return told;
}

static void a_node_is_asked_once_in_a_while(void **state)
{
    (void)state;
    struct kubelet kubelet;
    kubelet_start(&kubelet);
    const struct resource_metrics_node nodes[] = {{"a", kubelet.endpoint}, {"b", kubelet.endpoint}};
    assert_int_equal(ask_all(&kubelet, nodes, 2), 2);
    assert_int_equal(ask_all(&kubelet, nodes, 2), 2);
    assert_int_equal(kubelet.asked, 2);
    fake_ms += RESOURCE_METRICS_KEEP_MS - 1;
    assert_int_equal(ask_all(&kubelet, nodes, 1), 1);
    assert_int_equal(kubelet.asked, 2);
    fake_ms += 1;
    assert_int_equal(ask_all(&kubelet, nodes, 1), 1);
    assert_int_equal(kubelet.asked, 3);
    kubelet_stop(&kubelet);
}

static void a_node_that_fails_is_left_out_and_not_pestered(void **state)
{
    (void)state;
    struct kubelet kubelet;
    kubelet_start(&kubelet);
    const struct resource_metrics_node nodes[] = {{"a", kubelet.endpoint}, {"gone", "http://127.0.0.1:1"}};
    assert_int_equal(ask_all(&kubelet, nodes, 2), 1);
    kubelet.status = 500;
    fake_ms += RESOURCE_METRICS_KEEP_MS;
    assert_int_equal(ask_all(&kubelet, nodes, 2), 0);
    kubelet.status = 200;
    assert_int_equal(ask_all(&kubelet, nodes, 1), 0);
    assert_int_equal(kubelet.asked, 2);
    const struct resource_metrics_node moved = {"gone", kubelet.endpoint}; /* another address is worth another try at once */
    assert_int_equal(ask_all(&kubelet, &moved, 1), 1);
    kubelet_stop(&kubelet);
}

static void ask_one(void *arg)
{
    struct kubelet *kubelet = arg;
    const struct resource_metrics_node node = {"a", kubelet->endpoint};
    assert_int_equal(ask_all(kubelet, &node, 1), 1);
}

static void who_asks_meanwhile_shares_the_answer(void **state)
{
    (void)state;
    struct kubelet kubelet;
    kubelet_start(&kubelet);
    struct pool *askers = pool_new("askers", 4, 4);
    kubelet.held = true;
    for (int i = 0; i < 4; i++)
        assert_int_equal(pool_submit(askers, ask_one, &kubelet), 0);
    while (__atomic_load_n(&kubelet.asked, __ATOMIC_ACQUIRE) == 0 || pool_busy(askers) < 4)
        kp_sleep_ms(1);
    __atomic_store_n(&kubelet.held, false, __ATOMIC_RELEASE);
    pool_free(askers); /* waits for all */
    assert_int_equal(kubelet.asked, 1);
    kubelet_stop(&kubelet);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_node_has_its_use_and_the_labels_of_the_node),
        cmocka_unit_test(the_window_is_the_time_since_the_last_look),
        cmocka_unit_test(a_pod_is_told_when_every_container_has_both_numbers),
        cmocka_unit_test(durations_travel_as_nanoseconds),
        cmocka_unit_test(a_node_is_asked_once_in_a_while),
        cmocka_unit_test(a_node_that_fails_is_left_out_and_not_pestered),
        cmocka_unit_test(who_asks_meanwhile_shares_the_answer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
