/* A kubelet's summary as NodeMetrics and PodMetrics. */
#include "controlplane/apiserver/resource_metrics/resource_metrics.h"

static int64_t window_s(const struct k8s_stats_summary *now, const struct k8s_stats_summary *before)
{
    if (!before || !now->node->cpu || !before->node->cpu || !now->node->cpu->time.set || !before->node->cpu->time.set)
        return RESOURCE_METRICS_WINDOW_S;
    int64_t passed_s = now->node->cpu->time.seconds - before->node->cpu->time.seconds;
    return passed_s > 0 && passed_s <= RESOURCE_METRICS_WINDOW_S_MAX ? passed_s : RESOURCE_METRICS_WINDOW_S;
}

int resource_metrics_decode(const char *text, size_t len, const struct resource_metrics_sample *prev, struct resource_metrics_sample **ret_sample,
                            struct kp_error *error)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(4 * RESOURCE_METRICS_BYTES_MAX);
    void *summary = NULL;
    int code = kp_json_decode(&k8s_stats_summary_type, text, len, arena, NULL, &summary, error);
    if (code < 0)
        return code;
    struct resource_metrics_sample *sample = kp_calloc(1, sizeof(*sample));
    sample->refs = 1;
    sample->summary = summary;
    sample->window_s = window_s(summary, prev ? prev->summary : NULL);
    sample->arena = KP_TAKE(arena);
    *ret_sample = sample;
    return 0;
}

void resource_metrics_sample_unref(struct resource_metrics_sample *sample)
{
    if (!sample || __atomic_sub_fetch(&sample->refs, 1, __ATOMIC_ACQ_REL) > 0)
        return;
    kp_arena_free(sample->arena);
    free(sample);
}

/* Both numbers, as metrics-server: processor in nanocores, memory in bytes. Zero memory is a container that has just ended. */
static bool put_usage(const struct k8s_stats_cpu *cpu, const struct k8s_stats_memory *memory, struct kp_arena *arena, struct kp_string_map *ret)
{
    if (!cpu || !cpu->has_usage_nano_cores || cpu->usage_nano_cores < 0 || !memory || memory->working_set_bytes <= 0)
        return false;
    const struct kp_quantity cores = {.nanos = cpu->usage_nano_cores, .format = KP_QUANTITY_DECIMAL_SI};
    const struct kp_quantity bytes = kp_quantity_from_i64(memory->working_set_bytes, KP_QUANTITY_BINARY_SI);
    kp_string_map_set(arena, ret, "cpu", kp_quantity_string(&cores, arena));
    kp_string_map_set(arena, ret, "memory", kp_quantity_string(&bytes, arena));
    return true;
}

static const char *window_text(const struct resource_metrics_sample *sample, struct kp_arena *arena)
{
    char text[KP_DURATION_MAX];
    kp_format_duration(text, sample->window_s * 1000000000);
    return kp_arena_strdup(arena, text);
}

bool resource_metrics_of_node(const struct resource_metrics_sample *sample, const char *name, const struct kp_string_map *labels, int64_t now_s,
                              struct kp_arena *arena, struct k8s_node_metrics *ret)
{
    const struct k8s_stats_node *node = sample->summary->node;
    *ret = *KP_OBJECT_NEW(arena, k8s_node_metrics);
    if (!put_usage(node->cpu, node->memory, arena, &ret->usage))
        return false;
    ret->metadata->name = name;
    ret->metadata->labels = *labels;
    ret->metadata->creation_timestamp = KP_TIME_OF(now_s);
    ret->timestamp = node->cpu->time.set ? node->cpu->time : KP_TIME_OF(now_s);
    ret->window = window_text(sample, arena);
    return true;
}

static const struct k8s_stats_pod *find_pod(const struct k8s_stats_summary *summary, const char *ns, const char *name)
{
    for (size_t i = 0; i < summary->pods.len; i++) {
        const struct k8s_stats_pod *pod = &summary->pods.items[i];
        if (kp_streq(pod->pod_ref->name, name) && kp_streq(pod->pod_ref->namespace, ns))
            return pod;
    }
    return NULL;
}

bool resource_metrics_of_pod(const struct resource_metrics_sample *sample, const char *ns, const char *name, const struct kp_string_map *labels,
                             int64_t now_s, struct kp_arena *arena, struct k8s_pod_metrics *ret)
{
    const struct k8s_stats_pod *pod = find_pod(sample->summary, ns, name);
    if (!pod || !pod->containers.len)
        return false;
    *ret = *KP_OBJECT_NEW(arena, k8s_pod_metrics);
    for (size_t i = 0; i < pod->containers.len; i++) {
        const struct k8s_stats_container *from = &pod->containers.items[i];
        struct k8s_container_metrics *to = KP_LIST_ADD(arena, &ret->containers);
        to->name = from->name;
        if (!put_usage(from->cpu, from->memory, arena, &to->usage))
            return false;
        if (from->cpu->time.set && (!ret->timestamp.set || from->cpu->time.seconds < ret->timestamp.seconds)) /* the earliest */
            ret->timestamp = from->cpu->time;
    }
    if (!ret->timestamp.set)
        ret->timestamp = KP_TIME_OF(now_s);
    ret->metadata->name = name;
    ret->metadata->namespace = ns;
    ret->metadata->labels = *labels;
    ret->metadata->creation_timestamp = KP_TIME_OF(now_s);
    ret->window = window_text(sample, arena);
    return true;
}
