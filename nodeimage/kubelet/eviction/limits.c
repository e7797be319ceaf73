/* Limits of local storage - of emptyDirs, containers and pods -, and which pods a node under pressure refuses. */
#include "nodeimage/kubelet/eviction/eviction.h"
#include "lib/placement/placement.h"
#include "nodeimage/kubelet/pod_internal.h"

static const char *limit_of(const struct k8s_container *container)
{
    return container->resources ? kp_string_map_get(&container->resources->limits, "ephemeral-storage") : NULL;
}

static bool is_on_disk(const struct k8s_volume *volume)
{
    return volume->empty_dir && !kp_streq(volume->empty_dir->medium, "Memory");
}

static bool is_limited(const struct k8s_volume *volume)
{
    return is_on_disk(volume) && kp_quantity_str_cmp(volume->empty_dir->size_limit, "0") > 0;
}

bool eviction_has_limits(const struct k8s_pod *pod)
{
    for (size_t i = 0; i < pod->spec->volumes.len; i++)
        if (is_limited(&pod->spec->volumes.items[i]))
            return true;
    for (size_t i = 0; i < pod->spec->containers.len; i++)
        if (limit_of(&pod->spec->containers.items[i]))
            return true;
    return false;
}

/* Upstream's emptyDirLimitEviction. */
static const char *over_volume(const struct k8s_pod *pod, const struct eviction_storage *storage, struct kp_arena *arena)
{
    for (size_t i = 0; i < pod->spec->volumes.len; i++) {
        const struct k8s_volume *volume = &pod->spec->volumes.items[i];
        if (is_limited(volume) && storage->volume(storage->arg, volume->name) > kp_quantity_str_value(volume->empty_dir->size_limit))
            return kp_arena_printf(arena, "Usage of EmptyDir volume \"%s\" exceeds the limit \"%s\". ", volume->name, volume->empty_dir->size_limit);
    }
    return NULL;
}

/* Upstream's podEphemeralStorageLimitEviction: only when every container has a limit does the pod have one. */
static const char *over_pod(const struct k8s_pod *pod, const struct eviction_storage *storage, struct kp_arena *arena)
{
    struct kp_quantity limit = {0};
    int64_t used = 0;
    for (size_t i = 0; i < pod->spec->containers.len; i++) {
        const struct k8s_container *c = &pod->spec->containers.items[i];
        if (!limit_of(c))
            return NULL;
        struct kp_quantity one = kp_quantity_of(limit_of(c));
        kp_quantity_add(&limit, &one);
        used += KP_MAX(storage->container(storage->arg, c->name), 0);
    }
    for (size_t i = 0; i < pod->spec->volumes.len; i++)
        if (is_on_disk(&pod->spec->volumes.items[i]))
            used += KP_MAX(storage->volume(storage->arg, pod->spec->volumes.items[i].name), 0);
    if (used <= kp_quantity_value(&limit))
        return NULL;
    return kp_arena_printf(arena, "Pod ephemeral local storage usage exceeds the total limit of containers %s. ", kp_quantity_string(&limit, arena));
}

/* Upstream's containerEphemeralStorageLimitEviction. */
static const char *over_container(const struct k8s_pod *pod, const struct eviction_storage *storage, struct kp_arena *arena)
{
    for (size_t i = 0; i < pod->spec->containers.len; i++) {
        const struct k8s_container *c = &pod->spec->containers.items[i];
        if (limit_of(c) && storage->container(storage->arg, c->name) > kp_quantity_str_value(limit_of(c)))
            return kp_arena_printf(arena, "Container %s exceeded its local ephemeral storage limit \"%s\". ", c->name, limit_of(c));
    }
    return NULL;
}

const char *eviction_over_limit(const struct k8s_pod *pod, const struct eviction_storage *storage, struct kp_arena *arena)
{
    const char *why = over_volume(pod, storage, arena);
    if (!why)
        why = over_pod(pod, storage, arena);
    return why ? why : over_container(pod, storage, arena);
}

/* ---- admission -------------------------------------------------------------------------------------------------------------- */
static bool tolerates_memory_pressure(const struct k8s_pod *pod)
{
    static const struct k8s_taint taint = {.key = "node.kubernetes.io/memory-pressure", .effect = "NoSchedule"};
    return placement_pod_tolerates(pod->spec, &taint);
}

const char *eviction_refuses(const bool pressure[EVICTION_PRESSURES], const struct k8s_pod *pod, struct kp_arena *arena)
{
    static const char *const names[EVICTION_PRESSURES] = {"MemoryPressure", "DiskPressure", "PIDPressure"};
    KP_AUTO_BUF struct kp_buf list = {0};
    for (int p = 0; p < EVICTION_PRESSURES; p++)
        if (pressure[p])
            kp_buf_printf(&list, "%s%s", list.len ? " " : "", names[p]);
    if (!list.len || kubelet_pod_critical(pod))
        return NULL;
    /* Memory alone keeps those out that ask for none of it. */
    bool only_memory = pressure[EVICTION_MEMORY_PRESSURE] && !pressure[EVICTION_DISK_PRESSURE] && !pressure[EVICTION_PID_PRESSURE];
    if (only_memory && (!kp_streq(kubelet_qos_class(pod), "BestEffort") || tolerates_memory_pressure(pod)))
        return NULL;
    return kp_arena_printf(arena, "The node had condition: [%s]. ", list.data);
}
