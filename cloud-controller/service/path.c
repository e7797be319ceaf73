/* Who serves a Service, under which name, and what is written about it. */
#include "cloud-controller/service/service.h"

#include "cloud-controller/balancer/balancer.h"

enum service_path service_path_of(const struct k8s_service *service, bool cloud_balances)
{
    const char *class = service->spec->load_balancer_class;
    if (kp_streq(class, VIP_CLASS))
        return SERVICE_SOFTWARE;
    if (!kp_empty(class))
        return SERVICE_IGNORED;
    return cloud_balances ? SERVICE_CLOUD : SERVICE_SOFTWARE;
}

bool service_wants_balancer(const struct k8s_service *service)
{
    return kp_streq(service->spec->type, "LoadBalancer") && !service->metadata->deletion_timestamp.set;
}

bool service_has_finalizer(const struct k8s_service *service)
{
    return kp_string_list_has(&service->metadata->finalizers, SERVICE_FINALIZER);
}

bool service_is_same(const struct k8s_service *a, const struct k8s_service *b)
{
    return kp_streq(a->metadata->uid, b->metadata->uid);
}

const char *service_share_of(const struct k8s_service *service, struct kp_arena *arena)
{
    const char *key = kp_string_map_get(&service->metadata->annotations, BALANCER_SHARE_ANNOTATION);
    return kp_empty(key) ? NULL : kp_arena_printf(arena, "%s/%s", service->metadata->namespace, key);
}

const char *service_balancer_name(const struct k8s_service *service, struct kp_arena *arena)
{
    const char *share = service_share_of(service, arena);
    if (share)
        return kp_arena_printf(arena, "shr-%016llx", (unsigned long long)kp_hash64(share, strlen(share)));
    return kp_arena_printf(arena, "svc-%s", service->metadata->uid);
}

bool service_is_balancer_name(const char *name)
{
    return kp_starts_with(name, "svc-") || kp_starts_with(name, "shr-");
}

const char *service_finalizer_patch(const struct k8s_service *service, bool add, struct kp_arena *arena)
{
    KP_AUTO_BUF struct kp_buf body = {0};
    const char *comma = "";
    kp_buf_puts(&body, "{\"metadata\":{\"resourceVersion\":");
    kp_json_string(&body, service->metadata->resource_version);
    kp_buf_puts(&body, ",\"finalizers\":[");
    for (size_t i = 0; i < service->metadata->finalizers.len; i++) {
        if (kp_streq(service->metadata->finalizers.items[i], SERVICE_FINALIZER))
            continue;
        kp_buf_puts(&body, comma);
        kp_json_string(&body, service->metadata->finalizers.items[i]);
        comma = ",";
    }
    if (add)
        kp_buf_printf(&body, "%s\"%s\"", comma, SERVICE_FINALIZER);
    kp_buf_puts(&body, "]}}");
    return kp_arena_strndup(arena, body.data, body.len);
}

static const char *or_empty(const char *text)
{
    return text ? text : "";
}

const char *service_status_patch(const struct k8s_service *service, const struct cloud_balancer *balancer, bool proxied, struct kp_arena *arena)
{
    const struct k8s_load_balancer_ingress *now = service->status->load_balancer->ingress.items;
    size_t len = service->status->load_balancer->ingress.len;
    const char *ip = balancer ? or_empty(balancer->address) : "", *name = balancer && !*ip ? or_empty(balancer->host_name) : "";
    const char *mode = proxied ? "Proxy" : "VIP";
    KP_AUTO_BUF struct kp_buf body = {0};
    if (!*ip && !*name)
        return len == 0 ? NULL : "{\"status\":{\"loadBalancer\":{\"ingress\":null}}}";
    if (len == 1 && kp_streq(or_empty(now->ip), ip) && kp_streq(or_empty(now->hostname), name) && (!*ip || kp_streq(now->ip_mode, mode)))
        return NULL;
    kp_buf_puts(&body, "{\"status\":{\"loadBalancer\":{\"ingress\":[{");
    kp_buf_puts(&body, *ip ? "\"ip\":" : "\"hostname\":");
    kp_json_string(&body, *ip ? ip : name);
    if (*ip) /* a mode is for addresses only */
        kp_buf_printf(&body, ",\"ipMode\":\"%s\"", mode);
    kp_buf_puts(&body, "}]}}}");
    return kp_arena_strndup(arena, body.data, body.len);
}
