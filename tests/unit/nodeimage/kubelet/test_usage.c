/* Rates between two looks, the machine's own use, and how both are told. */
#include "api/k8s.h"
#include "nodeimage/kubelet/pod_internal.h"
#include "nodeimage/kubelet/server_internal.h"

#include <setjmp.h>
#include <stdarg.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#define S 1000000000LL

static struct cri_pair labels_a[] = {{KUBELET_LABEL_POD_NAMESPACE, "d"}, {KUBELET_LABEL_POD_NAME, "a"}, {KUBELET_LABEL_POD_UID, "ua"}};
static struct cri_pair labels_b[] = {{KUBELET_LABEL_POD_NAMESPACE, "d"}, {KUBELET_LABEL_POD_NAME, "b"}, {KUBELET_LABEL_POD_UID, "ub"}};

static struct cri_container_stats stats_of(const char *id, const char *name, struct cri_pair *labels, int64_t at_s, uint64_t cpu_ns)
{
    return (struct cri_container_stats){.id = id, .name = name, .labels = {labels, 3}, .timestamp_ns = at_s * S, .cpu_usage_ns = cpu_ns,
                                        .memory_working_set_bytes = 1000, .memory_usage_bytes = 3000, .memory_rss_bytes = 500};
}

static void a_rate_is_what_came_between_two_looks(void **state)
{
    (void)state;
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    struct cri_container_stats before[] = {stats_of("1", "c", labels_a, 100, 5 * S), stats_of("3", "c", labels_b, 100, 9 * S)};
    struct cri_container_stats now[] = {stats_of("1", "c", labels_a, 110, 10 * S), stats_of("2", "d", labels_a, 110, 6 * S),
                                        stats_of("4", "e", labels_a, 110, 1 * S), stats_of("3", "c", labels_b, 110, 8 * S)};
    int64_t started_before[] = {50 * S, 50 * S}, started[] = {50 * S, 98 * S, 101 * S, 50 * S};
    const struct kubelet_usage_sample prev = {.machine = {.time_ns = 100 * S, .cpu_ns = 1000 * S}, .stats = before, .started_ns = started_before, .len = 2};
    const struct kubelet_usage_sample last = {.machine = {.time_ns = 110 * S, .cpu_ns = 1015 * S}, .stats = now, .started_ns = started, .len = 4};
    struct kubelet_usage_report report;
    kubelet_usage_compare(&prev, &last, arena, &report);
    assert_true(report.has_rate);
    assert_int_equal(report.nano_cores, 3 * S / 2);
    assert_int_equal(report.containers[0].nano_cores, S / 2);
    assert_int_equal(report.containers[1].nano_cores, S / 2); /* since its start 12 s ago */
    assert_false(report.containers[2].has_rate);              /* 9 s tell nothing */
    assert_false(report.containers[3].has_rate);              /* it went backwards */
    kubelet_usage_compare(NULL, &last, arena, &report);
    assert_false(report.has_rate);
    assert_true(report.containers[0].has_rate);
}

static void a_pod_is_the_sum_of_its_containers(void **state)
{
    (void)state;
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    struct cri_container_stats stats[] = {stats_of("1", "c", labels_a, 110, 10 * S), stats_of("2", "d", labels_a, 112, 6 * S), stats_of("3", "c", labels_b, 110, S)};
    struct kubelet_usage_container containers[] = {{&stats[0], 50 * S, true, 7}, {&stats[1], 40 * S, true, 8}, {&stats[2], 105 * S, false, 0}};
    const struct kubelet_usage_report report = {.containers = containers, .len = 3};
    struct k8s_stats_summary *summary = KP_OBJECT_NEW(arena, k8s_stats_summary);
    kubelet_usage_add_pod(summary, "d", "a", "ua", &report, arena);
    kubelet_usage_add_pod(summary, "d", "b", "ub", &report, arena);
    kubelet_usage_add_pod(summary, "d", "none", "un", &report, arena);
    const struct k8s_stats_pod *a = &summary->pods.items[0], *b = &summary->pods.items[1];
    assert_int_equal(a->containers.len, 2);
    assert_int_equal(a->cpu->usage_nano_cores, 15);
    assert_int_equal(a->cpu->usage_core_nano_seconds, 16 * S);
    assert_int_equal(a->memory->working_set_bytes, 2000);
    assert_int_equal(a->start_time.seconds, 40);
    assert_int_equal(a->containers.items[0].start_time.seconds, 50);
    assert_false(b->cpu->has_usage_nano_cores);
    assert_false(b->containers.items[0].cpu->has_usage_nano_cores);
    assert_null(summary->pods.items[2].cpu);
}

static void resource_metrics_are_what_metrics_server_reads(void **state)
{
    (void)state;
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    struct cri_container_stats stats[] = {stats_of("1", "c", labels_a, 110, 1500000000), stats_of("2", "d", labels_a, 112, S)};
    int64_t started[] = {50 * S + 250000000, 0};
    const struct kubelet_usage_sample sample = {.machine = {.time_ns = 120 * S, .cpu_ns = 3 * S, .memory_working_set_bytes = 77}, .stats = stats, .started_ns = started,
                                                .len = 2};
    static const char *const lines[] = {
        "container_cpu_usage_seconds_total{container=\"c\",namespace=\"d\",pod=\"a\"} 1.500000000 110000\n",
        "container_memory_working_set_bytes{container=\"d\",namespace=\"d\",pod=\"a\"} 1000 112000\n",
        "# TYPE container_start_time_seconds gauge\ncontainer_start_time_seconds{container=\"c\",namespace=\"d\",pod=\"a\"} 50.250000000\n# HELP node",
        "node_cpu_usage_seconds_total 3.000000000 120000\n", "node_memory_working_set_bytes 77 120000\n",
        "# TYPE pod_cpu_usage_seconds_total counter\npod_cpu_usage_seconds_total{namespace=\"d\",pod=\"a\"} 2.500000000 112000\n# HELP",
        "pod_memory_working_set_bytes{namespace=\"d\",pod=\"a\"} 2000 112000\n", "\nresource_scrape_error 0\n"};
    KP_AUTO_BUF struct kp_buf out = {0};
    kubelet_usage_metrics(&sample, arena, &out);
    for (size_t i = 0; i < KP_ARRAY_LEN(lines); i++)
        if (!strstr(out.data, lines[i]))
            fail_msg("missing %s in\n%s", lines[i], out.data);
}

/* ---- the machine ------------------------------------------------------------------------------------------------------------- */
static char root[64];

static void put(const char *path, const char *text)
{
    KP_AUTO_FREE char *full = kp_asprintf("%s%s", root, path);
    char *slash = strrchr(full, '/');
    *slash = '\0';
    assert_int_equal(kp_mkdir_p(full, 0755, NULL), 0);
    *slash = '/';
    assert_int_equal(kp_write_file(full, text, strlen(text), 0644, NULL), 0);
}

static struct kubelet_machine_usage read_machine(void)
{
    struct kubelet_machine_usage usage;
    kubelet_machine_usage_read(root, &usage);
    assert_int_equal(kp_remove_tree(root, NULL), 0);
    return usage;
}

static void begin(void)
{
    strcpy(root, "/tmp/kprov-usage-XXXXXX");
    assert_non_null(mkdtemp(root));
    put("/proc/stat", "cpu  10 20 30 999 999 1 2 3 500 500\ncpu0 1\n");
    put("/proc/meminfo", "MemTotal: 1000 kB\nMemFree: 400 kB\nMemAvailable: 500 kB\nAnonPages: 80 kB\nInactive(file): 100 kB\n");
}

static void a_machine_is_its_control_group(void **state)
{
    (void)state;
    begin(); /* version 1 */
    put("/sys/fs/cgroup/cpuacct/cpuacct.usage", "123456789\n");
    put("/sys/fs/cgroup/memory/memory.usage_in_bytes", "500000\n");
    put("/sys/fs/cgroup/memory/memory.stat", "inactive_file 9\nhierarchical_memory_limit 600000\ntotal_rss 7\ntotal_inactive_file 100000\n");
    struct kubelet_machine_usage usage = read_machine();
    assert_int_equal(usage.cpu_ns, 123456789);
    assert_int_equal(usage.memory_working_set_bytes, 400000);
    assert_int_equal(usage.memory_rss_bytes, 7);
    assert_int_equal(usage.memory_available_bytes, 200000);
    begin(); /* version 2, in a group */
    put("/sys/fs/cgroup/cpu.stat", "usage_usec 5000\nuser_usec 1\n");
    put("/sys/fs/cgroup/memory.current", "500000\n");
    put("/sys/fs/cgroup/memory.stat", "anon 11\ninactive_file 100000\n");
    put("/sys/fs/cgroup/memory.max", "max\n");
    usage = read_machine();
    assert_int_equal(usage.cpu_ns, 5000000);
    assert_int_equal(usage.memory_working_set_bytes, 400000);
    assert_int_equal(usage.memory_available_bytes, 624000);
    begin(); /* version 2, the real root */
    put("/sys/fs/cgroup/cpu.stat", "usage_usec 5000\n");
    put("/sys/fs/cgroup/memory.stat", "anon 11\ninactive_file 100000\n");
    usage = read_machine();
    assert_int_equal(usage.memory_usage_bytes, 600 * 1024);
    assert_int_equal(usage.memory_working_set_bytes, 600 * 1024 - 100000);
    begin(); /* none at all */
    usage = read_machine();
    assert_int_equal(usage.cpu_ns, 660000000);
    assert_int_equal(usage.memory_working_set_bytes, 500 * 1024);
    assert_int_equal(usage.memory_rss_bytes, 80 * 1024);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_rate_is_what_came_between_two_looks),
        cmocka_unit_test(a_pod_is_the_sum_of_its_containers),
        cmocka_unit_test(resource_metrics_are_what_metrics_server_reads),
        cmocka_unit_test(a_machine_is_its_control_group),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
