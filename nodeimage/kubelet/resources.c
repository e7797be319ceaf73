/* CPU shares and quota, memory limits, OOM scores, and the sums of requests. Pure. */
#include "nodeimage/kubelet/pod_internal.h"

#define CPU_PERIOD_US 100000
#define SHARES_PER_CPU 1024
#define SHARES_MIN 2
#define SHARES_MAX 262144
#define QUOTA_MIN_US 1000

int64_t kubelet_cpu_shares(int64_t milli_cpu)
{
    if (milli_cpu <= 0)
        return SHARES_MIN;
    int64_t shares = milli_cpu * SHARES_PER_CPU / 1000;
    return KP_MIN(KP_MAX(shares, SHARES_MIN), SHARES_MAX);
}

int64_t kubelet_cpu_quota(int64_t milli_cpu, int64_t period_us)
{
    if (milli_cpu <= 0)
        return 0;
    return KP_MAX(milli_cpu * period_us / 1000, QUOTA_MIN_US);
}

static const char *requested(const struct k8s_container *container, const char *name)
{
    if (!container->resources)
        return NULL;
    const char *request = kp_string_map_get(&container->resources->requests, name);
    return request ? request : kp_string_map_get(&container->resources->limits, name);
}

int64_t kubelet_oom_score_adj(const struct k8s_pod *pod, const struct k8s_container *container, int64_t node_memory_bytes)
{
    if (kubelet_pod_critical(pod))
        return -997;
    const char *qos = kubelet_qos_class(pod);
    if (kp_streq(qos, "Guaranteed"))
        return -997;
    if (kp_streq(qos, "BestEffort"))
        return 1000;
    /* Burstable: the larger the share of the node that was asked for, the later it is killed. */
    int64_t request = kp_quantity_str_value(requested(container, "memory"));
    int64_t adjust = node_memory_bytes > 0 ? 1000 - 1000 * request / node_memory_bytes : 999;
    return KP_MIN(KP_MAX(adjust, 3), 999);
}

void kubelet_container_resources(const struct k8s_pod *pod, const struct k8s_container *container, int64_t node_memory_bytes,
                                 struct cri_resources *ret_resources)
{
    const struct kp_string_map *limits = container->resources ? &container->resources->limits : NULL;
    int64_t cpu_limit = limits ? kp_quantity_str_milli(kp_string_map_get(limits, "cpu")) : 0;
    *ret_resources = (struct cri_resources){
        .cpu_shares = kubelet_cpu_shares(kp_quantity_str_milli(requested(container, "cpu"))),
        .memory_limit_bytes = limits ? kp_quantity_str_value(kp_string_map_get(limits, "memory")) : 0,
        .oom_score_adj = kubelet_oom_score_adj(pod, container, node_memory_bytes),
    };
    if (cpu_limit > 0) {
        ret_resources->cpu_period = CPU_PERIOD_US;
        ret_resources->cpu_quota = kubelet_cpu_quota(cpu_limit, CPU_PERIOD_US);
    }
}

void kubelet_pod_requests(const struct k8s_pod *pod, struct kp_arena *arena, struct kp_string_map *ret_requests)
{
    struct kp_string_map total = {0}, sidecars = {0}, init_peak = {0};
    for (size_t i = 0; i < pod->spec->containers.len; i++)
        if (pod->spec->containers.items[i].resources)
            kp_resource_list_add(arena, &total, &pod->spec->containers.items[i].resources->requests);
    for (size_t i = 0; i < pod->spec->init_containers.len; i++) {
        const struct k8s_container *c = &pod->spec->init_containers.items[i];
        if (!c->resources)
            continue;
        if (kp_streq(c->restart_policy, "Always")) {
            kp_resource_list_add(arena, &sidecars, &c->resources->requests);
            kp_resource_list_max(arena, &init_peak, &sidecars);
        } else {
            struct kp_string_map now = {0};
            kp_resource_list_add(arena, &now, &sidecars);
            kp_resource_list_add(arena, &now, &c->resources->requests);
            kp_resource_list_max(arena, &init_peak, &now);
        }
    }
    kp_resource_list_add(arena, &total, &sidecars);
    kp_resource_list_max(arena, &total, &init_peak);
    if (pod->spec->resources)
        kp_resource_list_max(arena, &total, &pod->spec->resources->requests);
    kp_resource_list_add(arena, &total, &pod->spec->overhead);
    *ret_requests = total;
}
