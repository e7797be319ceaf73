/* Balancers of this cluster that belong to no Service any more: somebody took the finalizer off, or a call that was given up did its work later. */
#include "cloud-controller/service/controller_internal.h"

/* The names that the Services of a fresh list want, or are still to give up. */
static int wanted_names(struct service_controller *c, struct kp_arena *arena, struct kp_strmap *names, struct kp_error *error)
{
    void *list = NULL;
    if (client_list(c->context->client, &k8s_services_resource, NULL, NULL, arena, &list, error) < 0)
        return kp_wrap(error, "list Services");
    const struct k8s_service_list *services = list;
    for (size_t i = 0; i < services->items.len; i++) {
        const struct k8s_service *service = &services->items.items[i];
        if (service_path_of(service, true) == SERVICE_CLOUD && (service_wants_balancer(service) || service_has_finalizer(service)))
            kp_strmap_put(names, service_balancer_name(service, arena), names);
    }
    return 0;
}

static int remove_orphans(struct service_controller *c, const struct cloud_balancer_list *balancers, const struct kp_strmap *wanted,
                          struct kp_error *error)
{
    int result = 0;
    for (size_t i = 0; i < balancers->len; i++) {
        const char *name = balancers->items[i].name;
        struct kp_error why = {0};
        if (!service_is_balancer_name(name) || kp_strmap_get(wanted, name))
            continue;
        int r = cloud_balancer_delete(c->context->cloud, c->context->options->cluster_uid, name, &why);
        if (r == 0)
            kp_info("load balancer of no Service removed", "balancer", name, "id", balancers->items[i].id ? balancers->items[i].id : "", NULL);
        if (r < 0 && (result == 0 || result == KP_EAGAIN)) {
            result = r;
            *error = why;
        }
    }
    return result;
}

/* Services are listed after the balancers, live: what has none then has none for good, for a balancer is made after its Service. */
static int sweep(struct service_controller *c, struct kp_error *error)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    struct cloud_balancer_list balancers = {0};
    bool any = false;
    int r = cloud_balancer_list(c->context->cloud, c->context->options->cluster_uid, arena, &balancers, error);
    for (size_t i = 0; r == 0 && i < balancers.len && !any; i++)
        any = service_is_balancer_name(balancers.items[i].name);
    if (r < 0 || !any)
        return r;
    struct kp_strmap *wanted = kp_strmap_new();
    r = wanted_names(c, arena, wanted, error);
    if (r == 0)
        r = remove_orphans(c, &balancers, wanted, error);
    kp_strmap_free(wanted, NULL);
    return r;
}

int64_t service_sweep(void *controller)
{
    struct service_controller *c = controller;
    struct kp_error error = {0};
    int r = sweep(c, &error);
    if (r == KP_EAGAIN)
        return c->context->options->pending_ms;
    if (r < 0) {
        kp_warn("load balancers of no Service not looked for", "error", error.message, NULL);
        return ccm_retry_ms(c->context->options, ccm_failures_add(c->failures, "sweep"), &error);
    }
    ccm_failures_forget(c->failures, "sweep");
    return 0;
}
