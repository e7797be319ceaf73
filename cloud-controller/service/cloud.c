/* LoadBalancer Services whose balancer is the cloud's: made, compared in full each time, and removed. */
#include "cloud-controller/service/controller_internal.h"

static void read_input(struct service_controller *c, struct client_view *view, const struct k8s_service *service, struct service_input *ret)
{
    *ret = (struct service_input){.cluster_uid = c->context->options->cluster_uid, .cloud = cloud_name(c->context->cloud), .service = service};
    ret->n_all = client_view_list(view, c->context->services, NULL, (const void *const **)&ret->all);
    ret->n_nodes = client_view_list(view, c->context->nodes, NULL, (const void *const **)&ret->nodes);
}

/* Says what is about to be done, once for each thing that is wanted. */
static void announce(struct service_controller *c, const struct k8s_service *service, const struct cloud_balancer_spec *spec, uint64_t shape,
                     struct service_memory *memory)
{
    /* One that has its address already is merely looked at again, by a program that has just started. */
    bool told = memory->announced ? memory->announced_shape == shape : service->status->load_balancer->ingress.len > 0;
    if (!told)
        service_event(c, service, "Normal", "EnsuringLoadBalancer", "Ensuring load balancer");
    memory->announced = true;
    memory->announced_shape = shape;
    if (spec->n_targets == 0 && !memory->unavailable)
        service_event(c, service, "Warning", "UnAvailableLoadBalancer", "There are no available nodes for LoadBalancer");
    memory->unavailable = spec->n_targets == 0;
}

/* NOT_FOUND is for Services that are gone; a cloud that does not find what a balancer needs has failed. */
static int refuse_not_found(int r, struct kp_error *error)
{
    if (r == KP_ENOTFOUND)
        r = error->code = KP_EUNAVAILABLE;
    return r;
}

/* The cloud's answer as 0, KP_EAGAIN or a failure. */
static int settle(int r, const struct cloud_balancer *balancer, const char *name, struct kp_error *error)
{
    if (r == 0 && balancer->state == CLOUD_BALANCER_FAILED)
        return kp_fail(error, KP_EUNAVAILABLE, "load balancer %s: %s", name, kp_empty(balancer->problem) ? "the cloud says that it failed" : balancer->problem);
    if (r == 0 && (balancer->state == CLOUD_BALANCER_PENDING || (kp_empty(balancer->address) && kp_empty(balancer->host_name))))
        return kp_fail(error, KP_EAGAIN, "load balancer %s: the cloud is still at it", name);
    return refuse_not_found(r, error);
}

static int ensure(struct service_controller *c, struct client_view *view, const struct k8s_service *service, struct kp_error *error)
{
    struct kp_arena *arena = client_view_arena(view);
    struct service_memory memory = service_recall(c, service);
    struct cloud_balancer_spec spec;
    struct cloud_balancer balancer = {0};
    struct service_input input;
    uint64_t shape, targets;
    bool changed = false;
    read_input(c, view, service, &input);
    if (service_make_spec(&input, arena, &spec, error) < 0)
        return error->code;
    service_fingerprint(&spec, &shape, &targets);
    announce(c, service, &spec, shape, &memory);
    service_remember(c, service, &memory);
    bool only_hosts = memory.known && memory.shape == shape && memory.targets != targets;
    int64_t began_ns = kp_mono_ns();
    int r = settle(cloud_balancer_ensure(c->context->cloud, &spec, arena, &balancer, error), &balancer, spec.name, error);
    if (only_hosts && r == 0)
        kp_metric_observe(c->host_latency, (double)(kp_mono_ns() - began_ns) / 1e9);
    else if (only_hosts && r != KP_EAGAIN)
        kp_metric_add(c->node_errors, 1);
    if (r < 0 || service_write_status(c, service, &balancer, spec.proxy_protocol, &changed, error) < 0)
        return error->code;
    if (changed || (memory.known && memory.shape != shape))
        service_event(c, service, "Normal", "EnsuredLoadBalancer", "Ensured load balancer");
    else if (only_hosts)
        service_event(c, service, "Normal", "UpdatedLoadBalancer", "Updated load balancer with new hosts");
    memory.known = true;
    memory.shape = shape;
    memory.targets = targets;
    service_remember(c, service, &memory);
    return 0;
}

/* The balancer goes, or stays with those who share it still. */
static int release(struct service_controller *c, struct client_view *view, const struct k8s_service *service, struct kp_error *error)
{
    struct kp_arena *arena = client_view_arena(view);
    struct cloud_balancer_spec spec;
    struct cloud_balancer balancer = {0};
    struct service_input input;
    const char *name = service_balancer_name(service, arena);
    read_input(c, view, service, &input);
    int r = service_make_spec(&input, arena, &spec, error);
    if (r == KP_ENOTFOUND)
        return refuse_not_found(cloud_balancer_delete(c->context->cloud, c->context->options->cluster_uid, name, error), error);
    return r < 0 ? r : settle(cloud_balancer_ensure(c->context->cloud, &spec, arena, &balancer, error), &balancer, name, error);
}

static int clean_up(struct service_controller *c, struct client_view *view, const struct k8s_service *service, struct kp_error *error)
{
    struct service_memory memory = service_recall(c, service);
    if (!memory.deleting)
        service_event(c, service, "Normal", "DeletingLoadBalancer", "Deleting load balancer");
    memory = (struct service_memory){.deleting = true};
    service_remember(c, service, &memory);
    int r = release(c, view, service, error);
    return r < 0 ? r : service_let_go(c, service, error);
}

int service_sync_cloud(struct service_controller *c, struct client_view *view, const struct k8s_service *service, struct kp_error *error)
{
    bool wants = service_wants_balancer(service), shares = service_share_of(service, client_view_arena(view)) != NULL;
    if (!wants && !service_has_finalizer(service))
        return 0;
    if (wants && !service_has_finalizer(service))
        return service_write_finalizer(c, service, true, error); /* comes back with the changed Service */
    if (!shares)
        return wants ? ensure(c, view, service, error) : clean_up(c, view, service, error);
    /* Two who share it and see different things would undo each other's work: the view is read again under the lock. */
    KP_AUTO(client_view_free) struct client_view *fresh = client_view_new();
    pthread_mutex_lock(&c->share_mutex);
    const struct k8s_service *now = client_view_get(fresh, c->context->services, service->metadata->namespace, service->metadata->name);
    int r = !now || !service_is_same(now, service) ? 0 : service_wants_balancer(now) ? ensure(c, fresh, now, error) : clean_up(c, fresh, now, error);
    pthread_mutex_unlock(&c->share_mutex);
    return r;
}
