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

struct machine_usage {
    int64_t cpu_ns, memory_total, memory_available;
};

static int64_t meminfo(const char *text, const char *name)
{
    const char *at = strstr(text, name);
    return at ? strtoll(at + strlen(name), NULL, 10) * 1024 : 0;
}

static void machine_usage(struct machine_usage *ret)
{
    KP_AUTO_BUF struct kp_buf stat = {0}, memory = {0};
    *ret = (struct machine_usage){0};
    if (kp_read_file("/proc/stat", 1 << 20, &stat, NULL) == 0 && stat.data && kp_starts_with(stat.data, "cpu ")) {
        int64_t ticks = 0, value;
        const char *s = stat.data + 4;
        for (int field = 0; field < 8; field++) {
            char *end;
            value = strtoll(s, &end, 10);
            if (end == s)
                break;
            if (field != 3 && field != 4) /* idle and waiting for disks are no use of the CPU */
                ticks += value;
            s = end;
        }
        ret->cpu_ns = ticks * 10000000; /* USER_HZ is 100 on every Linux */
    }
    if (kp_read_file("/proc/meminfo", 1 << 20, &memory, NULL) == 0 && memory.data) {
        ret->memory_total = meminfo(memory.data, "MemTotal:");
        ret->memory_available = meminfo(memory.data, "MemAvailable:");
    }
}

static const char *label(const struct cri_container_stats *stats, const char *key)
{
    const char *value = cri_pairs_get(&stats->labels, key);
    return value ? value : "";
}

void kubelet_serve_metrics_resource(struct kubelet *kubelet, struct http_request *req)
{
    struct cri_container_stats *stats;
    struct machine_usage usage;
    size_t n;
    struct kp_error error = {0};
    KP_AUTO_BUF struct kp_buf out = {0};
    if (cri_list_stats(kubelet->cri, req->arena, &stats, &n, &error) < 0) {
        kubelet_respond_error(req, &error);
        return;
    }
    machine_usage(&usage);
    size_t running = 0;
    for (size_t i = 0; i < n; i++)
        if (stats[i].timestamp_ns > 0) /* containers that ended have no numbers */
            stats[running++] = stats[i];
    n = running;
    kp_buf_puts(&out, "# HELP container_cpu_usage_seconds_total Cumulative cpu time consumed by the container in core-seconds\n"
                      "# TYPE container_cpu_usage_seconds_total counter\n");
    for (size_t i = 0; i < n; i++)
        kp_buf_printf(&out, "container_cpu_usage_seconds_total{container=\"%s\",namespace=\"%s\",pod=\"%s\"} %.9f %lld\n",
                      stats[i].name, label(&stats[i], KUBELET_LABEL_POD_NAMESPACE), label(&stats[i], KUBELET_LABEL_POD_NAME),
                      (double)stats[i].cpu_usage_ns / 1e9, (long long)(stats[i].timestamp_ns / 1000000));
    kp_buf_puts(&out, "# HELP container_memory_working_set_bytes Current working set of the container in bytes\n"
                      "# TYPE container_memory_working_set_bytes gauge\n");
    for (size_t i = 0; i < n; i++)
        kp_buf_printf(&out, "container_memory_working_set_bytes{container=\"%s\",namespace=\"%s\",pod=\"%s\"} %llu %lld\n",
                      stats[i].name, label(&stats[i], KUBELET_LABEL_POD_NAMESPACE), label(&stats[i], KUBELET_LABEL_POD_NAME),
                      (unsigned long long)stats[i].memory_working_set_bytes, (long long)(stats[i].timestamp_ns / 1000000));
    kp_buf_printf(&out,
                  "# HELP node_cpu_usage_seconds_total Cumulative cpu time consumed by the node in core-seconds\n"
                  "# TYPE node_cpu_usage_seconds_total counter\nnode_cpu_usage_seconds_total %.3f\n"
                  "# HELP node_memory_working_set_bytes Current working set of the node in bytes\n"
                  "# TYPE node_memory_working_set_bytes gauge\nnode_memory_working_set_bytes %lld\n"
                  "# HELP resource_scrape_error 1 if there was an error while getting container metrics, 0 otherwise\n"
                  "# TYPE resource_scrape_error gauge\nresource_scrape_error 0\n",
                  (double)usage.cpu_ns / 1e9, (long long)(usage.memory_total - usage.memory_available));
    respond_metrics(req, &out);
}

static void write_container(struct kp_buf *out, const struct cri_container_stats *s, const char *now)
{
    kp_buf_puts(out, "{\"name\":");
    kp_json_string(out, s->name ? s->name : "");
    kp_buf_printf(out,
                  ",\"startTime\":null,\"cpu\":{\"time\":\"%s\",\"usageCoreNanoSeconds\":%llu},"
                  "\"memory\":{\"time\":\"%s\",\"usageBytes\":%llu,\"workingSetBytes\":%llu,\"rssBytes\":%llu},"
                  "\"rootfs\":{\"time\":\"%s\",\"usedBytes\":%llu,\"inodesUsed\":%llu}}",
                  now, (unsigned long long)s->cpu_usage_ns, now, (unsigned long long)s->memory_usage_bytes,
                  (unsigned long long)s->memory_working_set_bytes, (unsigned long long)s->memory_rss_bytes, now,
                  (unsigned long long)s->fs_used_bytes, (unsigned long long)s->fs_inodes_used);
}

static void write_pod(struct kp_buf *out, const struct kubelet_pod *pod, const struct cri_container_stats *stats, size_t n,
                      const char *now)
{
    uint64_t cpu = 0, memory = 0;
    bool first = true;
    kp_buf_puts(out, "{\"podRef\":{\"name\":");
    kp_json_string(out, pod->name);
    kp_buf_puts(out, ",\"namespace\":");
    kp_json_string(out, pod->ns);
    kp_buf_puts(out, ",\"uid\":");
    kp_json_string(out, pod->uid);
    kp_buf_puts(out, "},\"containers\":[");
    for (size_t i = 0; i < n; i++) {
        if (!kp_streq(label(&stats[i], KUBELET_LABEL_POD_UID), pod->uid))
            continue;
        kp_buf_puts(out, first ? "" : ",");
        write_container(out, &stats[i], now);
        cpu += stats[i].cpu_usage_ns;
        memory += stats[i].memory_working_set_bytes;
        first = false;
    }
    kp_buf_printf(out, "],\"cpu\":{\"time\":\"%s\",\"usageCoreNanoSeconds\":%llu},\"memory\":{\"time\":\"%s\",\"workingSetBytes\":%llu}}",
                  now, (unsigned long long)cpu, now, (unsigned long long)memory);
}

void kubelet_serve_stats_summary(struct kubelet *kubelet, struct http_request *req)
{
    struct cri_container_stats *stats;
    struct machine_usage usage;
    struct statvfs fs = {0};
    size_t n;
    struct kp_error error = {0};
    char now[KP_RFC3339_MAX];
    KP_AUTO_BUF struct kp_buf out = {0};
    if (cri_list_stats(kubelet->cri, req->arena, &stats, &n, &error) < 0) {
        kubelet_respond_error(req, &error);
        return;
    }
    machine_usage(&usage);
    kp_format_rfc3339(now, kp_now_s(), 0, false);
    if (statvfs(kubelet->config.root_dir, &fs) < 0)
        fs = (struct statvfs){0};
    int64_t capacity = (int64_t)fs.f_blocks * (int64_t)fs.f_frsize, available = (int64_t)fs.f_bavail * (int64_t)fs.f_frsize;
    kp_buf_puts(&out, "{\"node\":{\"nodeName\":");
    kp_json_string(&out, kubelet->config.node_name);
    kp_buf_printf(&out,
                  ",\"cpu\":{\"time\":\"%s\",\"usageCoreNanoSeconds\":%lld},\"memory\":{\"time\":\"%s\",\"availableBytes\":%lld,"
                  "\"workingSetBytes\":%lld},\"fs\":{\"time\":\"%s\",\"availableBytes\":%lld,\"capacityBytes\":%lld,"
                  "\"usedBytes\":%lld}},\"pods\":[",
                  now, (long long)usage.cpu_ns, now, (long long)usage.memory_available,
                  (long long)(usage.memory_total - usage.memory_available), now, (long long)available, (long long)capacity,
                  (long long)(capacity - available));
    struct kubelet_pod **pods;
    size_t n_pods = kubelet_workers_list(kubelet->workers, &pods);
    for (size_t i = 0; i < n_pods; i++) {
        kp_buf_puts(&out, i > 0 ? "," : "");
        write_pod(&out, pods[i], stats, n, now);
        kubelet_pod_unref(pods[i]);
    }
    free(pods);
    kp_buf_puts(&out, "]}");
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
