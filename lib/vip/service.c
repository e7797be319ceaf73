/* Which Services get an address of a pool, and which one they have. */
#include "lib/vip/vip.h"

bool vip_wants_address(const struct k8s_service *service)
{
    const struct k8s_service_spec *spec = service->spec;
    return kp_streq(spec->type, "LoadBalancer") && (kp_empty(spec->load_balancer_class) || kp_streq(spec->load_balancer_class, VIP_CLASS)) &&
           !service->metadata->deletion_timestamp.set;
}

const char *vip_address_of(const struct k8s_service *service, const struct vip_pool *pool)
{
    for (size_t i = 0; i < service->status->load_balancer->ingress.len; i++)
        if (vip_pool_has(pool, service->status->load_balancer->ingress.items[i].ip))
            return service->status->load_balancer->ingress.items[i].ip;
    return NULL;
}
