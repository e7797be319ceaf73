/* What the kubelet tells of its pods, containers and itself: /pods, /metrics, /stats/summary, /configz. */
#include <sys/statvfs.h>

#include "nodeimage/kubelet/server_internal.h"

void kubelet_serve_pods(struct kubelet *kubelet, struct http_request *req)
{
    struct kubelet_pod **pods;
    size_t n = kubelet_workers_list(kubelet->workers, &pods);
    KP_AUTO_BUF struct kp_buf out = {0};
    kp_buf_puts(&out, "{\"kind\":\"PodList\",\"apiVersion\":\"v1\",\"metadata\":{},\"items\":[");
    for (size_t i = 0; i < n; i++) {
        struct k8s_pod pod = *pods[i]->data;
        struct k8s_pod_status *status = kubelet_statuses_get(kubelet->statuses, pods[i]->uid, req->arena);
        if (status)
            pod.status = status;
        if (i > 0)
            kp_buf_putc(&out, ',');
        kp_json_encode(&k8s_pod_type, &pod, &out);
        kubelet_pod_unref(pods[i]);
    }
    free(pods);
    kp_buf_puts(&out, "]}");
    kubelet_respond_json(req, &out);
}

void kubelet_serve_running_pods(struct kubelet *kubelet, struct http_request *req)
{
    struct cri_sandbox *sandboxes;
    struct cri_container *containers;
    size_t n_sandboxes, n_containers;
    struct kp_error error = {0};
    KP_AUTO_BUF struct kp_buf out = {0};
    if (cri_list_sandboxes(kubelet->cri, NULL, NULL, req->arena, &sandboxes, &n_sandboxes, &error) < 0 ||
        cri_list_containers(kubelet->cri, NULL, NULL, req->arena, &containers, &n_containers, &error) < 0) {
        kubelet_respond_error(req, &error);
        return;
    }
    kp_buf_puts(&out, "{\"kind\":\"PodList\",\"apiVersion\":\"v1\",\"metadata\":{},\"items\":[");
    bool first = true;
    for (size_t i = 0; i < n_sandboxes; i++) {
        if (!sandboxes[i].ready)
            continue;
        struct k8s_pod *pod = KP_OBJECT_NEW(req->arena, k8s_pod);
        pod->metadata->name = sandboxes[i].name;
        pod->metadata->namespace = sandboxes[i].ns;
        pod->metadata->uid = sandboxes[i].uid;
        for (size_t j = 0; j < n_containers; j++) {
            if (containers[j].state != CRI_RUNNING || !kp_streq(containers[j].sandbox_id, sandboxes[i].id))
                continue;
            struct k8s_container *c = KP_LIST_ADD(req->arena, &pod->spec->containers);
            c->name = containers[j].name;
            c->image = containers[j].image;
            c->resources = KP_OBJECT_NEW(req->arena, k8s_resource_requirements);
        }
        kp_buf_puts(&out, first ? "" : ",");
        kp_json_encode(&k8s_pod_type, pod, &out);
        first = false;
    }
    kp_buf_puts(&out, "]}");
    kubelet_respond_json(req, &out);
}

static void respond_metrics(struct http_request *req, const struct kp_buf *out)
{
    const struct http_header header = {.name = "Content-Type", .value = "text/plain; version=0.0.4; charset=utf-8"};
    http_respond(req, 200, &header, 1, out->data ? out->data : "", out->len);
}

void kubelet_serve_metrics(struct kubelet *kubelet, struct http_request *req)
{
    static struct kp_metric *pods, *containers;
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    pthread_mutex_lock(&lock);
    if (!pods) {
        static const char *const states[] = {"container_state", NULL};
        pods = kp_gauge("kubelet_running_pods", "Number of pods that have a running pod sandbox", NULL);
        containers = kp_gauge("kubelet_running_containers", "Number of containers currently running", states);
    }
    pthread_mutex_unlock(&lock);
    struct cri_sandbox *sandboxes;
    struct cri_container *list;
    size_t n_sandboxes, n;
    if (cri_list_sandboxes(kubelet->cri, NULL, NULL, req->arena, &sandboxes, &n_sandboxes, NULL) == 0 &&
        cri_list_containers(kubelet->cri, NULL, NULL, req->arena, &list, &n, NULL) == 0) {
        static const char *const names[] = {"created", "running", "exited", "unknown"};
        size_t ready = 0, by_state[4] = {0};
        for (size_t i = 0; i < n_sandboxes; i++)
            ready += sandboxes[i].ready;
        for (size_t i = 0; i < n; i++)
            by_state[list[i].state]++;
        kp_metric_set(pods, (double)ready);
        for (size_t i = 0; i < KP_ARRAY_LEN(names); i++)
            kp_metric_set(containers, (double)by_state[i], names[i]);
    }
    KP_AUTO_BUF struct kp_buf out = {0};
    kp_metrics_write(&out);
    respond_metrics(req, &out);
}

static const char *label(const struct cri_container_stats *stats, const char *key)
{
    const char *value = cri_pairs_get(&stats->labels, key);
    return value ? value : "";
}

/* ---- /metrics/resource: what metrics-server and Prometheus read ---------------------------------------------------------------- */
static void put_family(struct kp_buf *out, const char *name, const char *type, const char *help)
{
    kp_buf_printf(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static void put_container(struct kp_buf *out, const char *family, const struct cri_container_stats *stats)
{
    kp_buf_printf(out, "%s{container=\"%s\",namespace=\"%s\",pod=\"%s\"} ", family, stats->name, label(stats, KUBELET_LABEL_POD_NAMESPACE),
                  label(stats, KUBELET_LABEL_POD_NAME));
}

static void put_containers(struct kp_buf *out, const struct kubelet_usage_sample *sample)
{
    put_family(out, "container_cpu_usage_seconds_total", "counter", "Cumulative cpu time consumed by the container in core-seconds");
    for (size_t i = 0; i < sample->len; i++) {
        put_container(out, "container_cpu_usage_seconds_total", &sample->stats[i]);
        kp_buf_printf(out, "%.9f %lld\n", (double)sample->stats[i].cpu_usage_ns / 1e9, (long long)(sample->stats[i].timestamp_ns / 1000000));
    }
    put_family(out, "container_memory_working_set_bytes", "gauge", "Current working set of the container in bytes");
    for (size_t i = 0; i < sample->len; i++) {
        put_container(out, "container_memory_working_set_bytes", &sample->stats[i]);
        kp_buf_printf(out, "%llu %lld\n", (unsigned long long)sample->stats[i].memory_working_set_bytes,
                      (long long)(sample->stats[i].timestamp_ns / 1000000));
    }
    put_family(out, "container_start_time_seconds", "gauge", "Start time of the container since unix epoch in seconds");
    for (size_t i = 0; i < sample->len; i++) {
        if (!sample->started_ns[i])
            continue;
        put_container(out, "container_start_time_seconds", &sample->stats[i]);
        kp_buf_printf(out, "%.9f\n", (double)sample->started_ns[i] / 1e9);
    }
}

struct pod_sum {
    uint64_t cpu_ns, memory_bytes;
    int64_t timestamp_ns; /* the latest */
    size_t count;
};

/* Of the containers of a pod from the one at `first`; nothing when one before it is of the same pod. */
static struct pod_sum sum_pod(const struct kubelet_usage_sample *sample, size_t first)
{
    struct pod_sum sum = {0};
    const char *uid = label(&sample->stats[first], KUBELET_LABEL_POD_UID);
    for (size_t i = 0; i < sample->len; i++) {
        const struct cri_container_stats *stats = &sample->stats[i];
        if (!kp_streq(label(stats, KUBELET_LABEL_POD_UID), uid))
            continue;
        if (i < first)
            return (struct pod_sum){0};
        sum.cpu_ns += stats->cpu_usage_ns;
        sum.memory_bytes += stats->memory_working_set_bytes;
        sum.timestamp_ns = KP_MAX(sum.timestamp_ns, stats->timestamp_ns);
        sum.count++;
    }
    return sum;
}

static void put_pods(struct kp_buf *out, const struct kubelet_usage_sample *sample, struct kp_arena *arena)
{
    struct pod_sum *sums = KP_NEW_ARRAY(arena, struct pod_sum, sample->len + 1);
    for (size_t i = 0; i < sample->len; i++)
        sums[i] = sum_pod(sample, i);
    put_family(out, "pod_cpu_usage_seconds_total", "counter", "Cumulative cpu time consumed by the pod in core-seconds");
    for (size_t i = 0; i < sample->len; i++)
        if (sums[i].count)
            kp_buf_printf(out, "pod_cpu_usage_seconds_total{namespace=\"%s\",pod=\"%s\"} %.9f %lld\n", label(&sample->stats[i], KUBELET_LABEL_POD_NAMESPACE),
                          label(&sample->stats[i], KUBELET_LABEL_POD_NAME), (double)sums[i].cpu_ns / 1e9, (long long)(sums[i].timestamp_ns / 1000000));
    put_family(out, "pod_memory_working_set_bytes", "gauge", "Current working set of the pod in bytes");
    for (size_t i = 0; i < sample->len; i++)
        if (sums[i].count)
            kp_buf_printf(out, "pod_memory_working_set_bytes{namespace=\"%s\",pod=\"%s\"} %llu %lld\n", label(&sample->stats[i], KUBELET_LABEL_POD_NAMESPACE),
                          label(&sample->stats[i], KUBELET_LABEL_POD_NAME), (unsigned long long)sums[i].memory_bytes,
                          (long long)(sums[i].timestamp_ns / 1000000));
}

void kubelet_usage_metrics(const struct kubelet_usage_sample *sample, struct kp_arena *arena, struct kp_buf *out)
{
    long long now_ms = sample->machine.time_ns / 1000000;
    put_containers(out, sample);
    put_family(out, "node_cpu_usage_seconds_total", "counter", "Cumulative cpu time consumed by the node in core-seconds");
    kp_buf_printf(out, "node_cpu_usage_seconds_total %.9f %lld\n", (double)sample->machine.cpu_ns / 1e9, now_ms);
    put_family(out, "node_memory_working_set_bytes", "gauge", "Current working set of the node in bytes");
    kp_buf_printf(out, "node_memory_working_set_bytes %llu %lld\n", (unsigned long long)sample->machine.memory_working_set_bytes, now_ms);
    put_pods(out, sample, arena);
    put_family(out, "resource_scrape_error", "gauge", "1 if there was an error while getting container metrics, 0 otherwise");
    kp_buf_puts(out, "resource_scrape_error 0\n");
    put_family(out, "scrape_error", "gauge", "1 if there was an error while getting container metrics, 0 otherwise");
    kp_buf_puts(out, "scrape_error 0\n");
}

void kubelet_serve_metrics_resource(struct kubelet *kubelet, struct http_request *req)
{
    struct kubelet_usage_sample sample;
    struct kp_error error = {0};
    KP_AUTO_BUF struct kp_buf out = {0};
    if (kubelet_usage_look(kubelet->cri, &sample, &error) < 0) {
        kubelet_respond_error(req, &error);
        return;
    }
    kubelet_usage_metrics(&sample, sample.arena, &out);
    kp_arena_free(sample.arena);
    respond_metrics(req, &out);
}

/* ---- /stats/summary --------------------------------------------------------------------------------------------------------------- */
static struct kp_time time_of_ns(int64_t ns)
{
    return (struct kp_time){.seconds = ns / 1000000000, .nanos = (int32_t)(ns % 1000000000), .set = ns > 0};
}

static struct k8s_stats_cpu *cpu_stats(struct kp_arena *arena, int64_t time_ns, uint64_t total_ns, bool has_rate, uint64_t nano_cores)
{
    struct k8s_stats_cpu *cpu = KP_OBJECT_NEW(arena, k8s_stats_cpu);
    cpu->time = time_of_ns(time_ns);
    KP_SET(cpu, usage_core_nano_seconds, (int64_t)total_ns);
    if (has_rate)
        KP_SET(cpu, usage_nano_cores, (int64_t)nano_cores);
    return cpu;
}

static struct k8s_stats_memory *memory_stats(struct kp_arena *arena, int64_t time_ns, uint64_t usage, uint64_t working_set, uint64_t rss)
{
    struct k8s_stats_memory *memory = KP_OBJECT_NEW(arena, k8s_stats_memory);
    memory->time = time_of_ns(time_ns);
    KP_SET(memory, usage_bytes, (int64_t)usage);
    KP_SET(memory, working_set_bytes, (int64_t)working_set);
    KP_SET(memory, rss_bytes, (int64_t)rss);
    return memory;
}

static void add_container(struct k8s_stats_pod *pod, const struct kubelet_usage_container *from, struct kp_arena *arena)
{
    const struct cri_container_stats *stats = from->stats;
    struct k8s_stats_container *c = KP_LIST_ADD(arena, &pod->containers);
    c->name = stats->name;
    c->start_time = time_of_ns(from->started_ns);
    c->cpu = cpu_stats(arena, stats->timestamp_ns, stats->cpu_usage_ns, from->has_rate, from->nano_cores);
    c->memory = memory_stats(arena, stats->timestamp_ns, stats->memory_usage_bytes, stats->memory_working_set_bytes, stats->memory_rss_bytes);
    c->rootfs = KP_OBJECT_NEW(arena, k8s_stats_fs);
    c->rootfs->time = time_of_ns(stats->timestamp_ns);
    KP_SET(c->rootfs, used_bytes, (int64_t)stats->fs_used_bytes);
    KP_SET(c->rootfs, inodes_used, (int64_t)stats->fs_inodes_used);
}

/* A pod is the sum of its containers; its rate is told when all of theirs are known. */
void kubelet_usage_add_pod(struct k8s_stats_summary *summary, const char *ns, const char *name, const char *uid,
                           const struct kubelet_usage_report *report, struct kp_arena *arena)
{
    uint64_t cpu = 0, rate = 0, usage = 0, working_set = 0, rss = 0;
    int64_t time_ns = 0, started_ns = 0;
    bool has_rate = true;
    struct k8s_stats_pod *pod = KP_LIST_ADD(arena, &summary->pods);
    pod->pod_ref = KP_OBJECT_NEW(arena, k8s_stats_pod_ref);
    pod->pod_ref->name = name;
    pod->pod_ref->namespace = ns;
    pod->pod_ref->uid = uid;
    for (size_t i = 0; i < report->len; i++) {
        const struct kubelet_usage_container *c = &report->containers[i];
        if (!kp_streq(label(c->stats, KUBELET_LABEL_POD_UID), uid))
            continue;
        add_container(pod, c, arena);
        cpu += c->stats->cpu_usage_ns;
        rate += c->nano_cores;
        has_rate &= c->has_rate;
        usage += c->stats->memory_usage_bytes;
        working_set += c->stats->memory_working_set_bytes;
        rss += c->stats->memory_rss_bytes;
        time_ns = KP_MAX(time_ns, c->stats->timestamp_ns);
        if (c->started_ns && (!started_ns || c->started_ns < started_ns))
            started_ns = c->started_ns;
    }
    if (!pod->containers.len)
        return;
    pod->start_time = time_of_ns(started_ns);
    pod->cpu = cpu_stats(arena, time_ns, cpu, has_rate, rate);
    pod->memory = memory_stats(arena, time_ns, usage, working_set, rss);
}

static void fill_node(struct kubelet *kubelet, struct k8s_stats_node *node, const struct kubelet_usage_report *report, struct kp_arena *arena)
{
    const struct kubelet_machine_usage *machine = &report->machine;
    struct statvfs fs = {0};
    KP_AUTO_BUF struct kp_buf stat = {0};
    node->node_name = kubelet->config.node_name;
    const char *boot = kp_read_file("/proc/stat", 1 << 20, &stat, NULL) == 0 && stat.data ? strstr(stat.data, "\nbtime ") : NULL;
    if (boot)
        node->start_time = KP_TIME_OF(strtoll(boot + strlen("\nbtime "), NULL, 10));
    node->cpu = cpu_stats(arena, machine->time_ns, machine->cpu_ns, report->has_rate, report->nano_cores);
    node->memory = memory_stats(arena, machine->time_ns, machine->memory_usage_bytes, machine->memory_working_set_bytes, machine->memory_rss_bytes);
    KP_SET(node->memory, available_bytes, (int64_t)machine->memory_available_bytes);
    if (statvfs(kubelet->config.root_dir, &fs) < 0)
        return;
    int64_t capacity = (int64_t)fs.f_blocks * (int64_t)fs.f_frsize, available = (int64_t)fs.f_bavail * (int64_t)fs.f_frsize;
    node->fs = KP_OBJECT_NEW(arena, k8s_stats_fs);
    node->fs->time = time_of_ns(machine->time_ns);
    KP_SET(node->fs, available_bytes, available);
    KP_SET(node->fs, capacity_bytes, capacity);
    KP_SET(node->fs, used_bytes, capacity - available);
}

void kubelet_serve_stats_summary(struct kubelet *kubelet, struct http_request *req)
{
    struct kubelet_usage_report report;
    struct kp_error error = {0};
    struct kp_arena *arena = req->arena;
    KP_AUTO_BUF struct kp_buf out = {0};
    if (kubelet_usage_report(kubelet->server->usage, arena, &report, &error) < 0) {
        kubelet_respond_error(req, &error);
        return;
    }
    struct k8s_stats_summary *summary = KP_OBJECT_NEW(arena, k8s_stats_summary);
    fill_node(kubelet, summary->node, &report, arena);
    struct kubelet_pod **pods;
    size_t n = kubelet_workers_list(kubelet->workers, &pods);
    for (size_t i = 0; i < n; i++) {
        kubelet_usage_add_pod(summary, kp_arena_strdup(arena, pods[i]->ns), kp_arena_strdup(arena, pods[i]->name), kp_arena_strdup(arena, pods[i]->uid),
                              &report, arena);
        kubelet_pod_unref(pods[i]);
    }
    free(pods);
    kp_json_encode(&k8s_stats_summary_type, summary, &out);
    kubelet_respond_json(req, &out);
}

void kubelet_serve_configz(struct kubelet *kubelet, struct http_request *req)
{
    const struct kubelet_config *config = &kubelet->config;
    struct kp_arena *arena = req->arena;
    struct kp_value *root = kp_value_object(arena), *kc = kp_value_object(arena), *dns = kp_value_array(arena);
    kp_value_set(arena, root, "kubeletconfig", kc);
    for (size_t i = 0; i < config->n_cluster_dns; i++)
        kp_value_append(arena, dns, kp_value_string(arena, config->cluster_dns[i]));
    kp_value_set(arena, kc, "kind", kp_value_string(arena, "KubeletConfiguration"));
    kp_value_set(arena, kc, "apiVersion", kp_value_string(arena, "kubelet.config.k8s.io/v1beta1"));
    kp_value_set(arena, kc, "clusterDNS", dns);
    kp_value_set(arena, kc, "clusterDomain", kp_value_string(arena, config->cluster_domain));
    kp_value_set(arena, kc, "containerRuntimeEndpoint", kp_value_string(arena, config->runtime_endpoint));
    kp_value_set(arena, kc, "containerLogMaxSize",
                 kp_value_string(arena, kp_arena_printf(arena, "%lld", (long long)config->container_log_bytes_max)));
    kp_value_set(arena, kc, "containerLogMaxFiles", kp_value_int(arena, config->container_log_files_max));
    kp_value_set(arena, kc, "maxPods", kp_value_int(arena, config->pods_max));
    kp_value_set(arena, kc, "port", kp_value_int(arena, config->port));
    kp_value_set(arena, kc, "healthzPort", kp_value_int(arena, config->healthz_port));
    kp_value_set(arena, kc, "nodeLeaseDurationSeconds", kp_value_int(arena, config->lease_duration_s));
    kp_value_set(arena, kc, "serverTLSBootstrap", kp_value_bool(arena, config->rotate_server_certificates));
    if (config->pod_manifest_path)
        kp_value_set(arena, kc, "staticPodPath", kp_value_string(arena, config->pod_manifest_path));
    KP_AUTO_BUF struct kp_buf out = {0};
    kp_value_print(root, &out);
    kubelet_respond_json(req, &out);
}
