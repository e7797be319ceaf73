/* LoadBalancer Services whose address nodes hold themselves. */
#include "cloud-controller/service/controller_internal.h"

static void forget_locked(struct service_controller *c, const char *key)
{
    size_t iter = 0;
    const char *address;
    void *owner;
    struct kp_strings gone = {0};
    while (kp_strmap_next(c->given, &iter, &address, &owner))
        if (kp_streq(owner, key))
            kp_strings_add(&gone, address);
    for (size_t i = 0; i < gone.len; i++)
        free(kp_strmap_remove(c->given, gone.items[i]));
    kp_strings_done(&gone);
}

void service_forget_address(struct service_controller *c, const char *key)
{
    pthread_mutex_lock(&c->mutex);
    forget_locked(c, key);
    pthread_mutex_unlock(&c->mutex);
}

/* Decides, and keeps what was given out: the next one may be decided before the cache shows it. */
static void decide(struct service_controller *c, struct client_view *view, const char *key, const struct k8s_service *service,
                   struct balancer_decision *ret)
{
    struct balancer_input input = {.pool = &c->pool, .given = c->given, .service = service};
    input.n_all = client_view_list(view, c->context->services, NULL, (const void *const **)&input.all);
    pthread_mutex_lock(&c->mutex);
    balancer_decide(&input, client_view_arena(view), ret);
    if (!ret->add_finalizer) {
        forget_locked(c, key);
        if (ret->address[0])
            free(kp_strmap_put(c->given, ret->address, kp_strdup(key)));
    }
    pthread_mutex_unlock(&c->mutex);
}

int service_sync_software(struct service_controller *c, struct client_view *view, const char *key, const struct k8s_service *service,
                          struct kp_error *error)
{
    struct balancer_decision d;
    decide(c, view, key, service, &d);
    if (d.add_finalizer) {
        service_event(c, service, "Normal", "EnsuringLoadBalancer", "Ensuring load balancer");
        return service_write_finalizer(c, service, true, error); /* comes back with the changed Service */
    }
    if (d.remove_finalizer) {
        service_event(c, service, "Normal", "DeletingLoadBalancer", "Deleting load balancer");
        return service_let_go(c, service, error);
    }
    const struct cloud_balancer balancer = {.address = d.address};
    if (d.set_status && service_write_status(c, service, &balancer, false, NULL, error) < 0)
        return error->code;
    if (d.problem)
        return kp_fail(error, KP_EINVALID, "%s", d.problem);
    if (d.set_status && d.address[0])
        service_event(c, service, "Normal", "EnsuredLoadBalancer", "Ensured load balancer: address %s", d.address);
    return 0;
}
