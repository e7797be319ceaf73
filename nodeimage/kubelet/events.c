/* Events about pods, their containers and the node. */
#include <stdarg.h>

#include "nodeimage/kubelet/kubelet_internal.h"

static const char *field_path(const struct kubelet_pod *pod, const char *container, struct kp_arena *arena)
{
    struct kubelet_spec_container *specs;
    size_t n = kubelet_spec_containers(pod->data, arena, &specs);
    for (size_t i = 0; i < n; i++) {
        if (!kp_streq(specs[i].container->name, container))
            continue;
        const char *list = specs[i].kind == KUBELET_INIT   ? "initContainers"
                           : specs[i].kind == KUBELET_MAIN ? "containers"
                                                           : "ephemeralContainers";
        return kp_arena_printf(arena, "spec.%s{%s}", list, container);
    }
    return NULL;
}

void kubelet_event(struct kubelet *kubelet, const struct kubelet_pod *pod, const char *container, const char *type,
                   const char *reason, const char *format, ...)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    va_list ap;
    va_start(ap, format);
    const char *message = kp_arena_vprintf(arena, format, ap);
    va_end(ap);
    kp_info("event", "pod", pod->name, "namespace", pod->ns, "container", container ? container : "", "reason", reason, "message",
            message, NULL);
    if (!kubelet->recorder)
        return;
    struct client_event_target target = {.api_version = "v1", .kind = "Pod", .ns = pod->ns, .name = pod->name, .uid = pod->uid,
                                         .resource_version = pod->data->metadata->resource_version,
                                         .field_path = container ? field_path(pod, container, arena) : NULL};
    client_event(kubelet->recorder, &target, type, reason, "%s", message);
}

void kubelet_node_event(struct kubelet *kubelet, const char *type, const char *reason, const char *format, ...)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    va_list ap;
    va_start(ap, format);
    const char *message = kp_arena_vprintf(arena, format, ap);
    va_end(ap);
    kp_info("event", "node", kubelet->config.node_name, "reason", reason, "message", message, NULL);
    if (!kubelet->recorder)
        return;
    struct client_event_target target = {.api_version = "v1", .kind = "Node", .name = kubelet->config.node_name,
                                         .uid = kubelet->config.node_name};
    client_event(kubelet->recorder, &target, type, reason, "%s", message);
}
