/* A kubelet's /stats/summary: refused, or made into metrics that are whole. */
#include "controlplane/apiserver/resource_metrics/resource_metrics.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct kp_string_map no_labels;
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    KP_AUTO(resource_metrics_sample_unref) struct resource_metrics_sample *first = NULL, *second = NULL;
    struct k8s_node_metrics node;
    struct k8s_pod_metrics pod;
    KP_AUTO_BUF struct kp_buf out = {0};
    if (resource_metrics_decode((const char *)data, size, NULL, &first, NULL) < 0)
        return 0;
    KP_ASSERT(resource_metrics_decode((const char *)data, size, first, &second, NULL) == 0);
    KP_ASSERT(second->window_s > 0 && second->window_s <= RESOURCE_METRICS_WINDOW_S_MAX);
    if (resource_metrics_of_node(second, "n", &no_labels, 1, arena, &node)) {
        KP_ASSERT(kp_quantity_valid(kp_string_map_get(&node.usage, "cpu")) && kp_quantity_valid(kp_string_map_get(&node.usage, "memory")));
        kp_json_encode(&k8s_node_metrics_type, &node, &out);
    }
    for (size_t i = 0; i < second->summary->pods.len && i < 10; i++) {
        const struct k8s_stats_pod_ref *ref = second->summary->pods.items[i].pod_ref;
        if (resource_metrics_of_pod(second, ref->namespace, ref->name, &no_labels, 1, arena, &pod)) {
            KP_ASSERT(pod.containers.len > 0 && pod.timestamp.set);
            kp_json_encode(&k8s_pod_metrics_type, &pod, &out);
        }
    }
    return 0;
}
