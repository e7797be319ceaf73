/* What a Service needs next: the finalizer, then an address; when it goes, its address back, then the finalizer. */
#include "cloud-controller/balancer/balancer.h"

static bool has_finalizer(const struct k8s_service *service)
{
    for (size_t i = 0; i < service->metadata->finalizers.len; i++)
        if (kp_streq(service->metadata->finalizers.items[i], BALANCER_FINALIZER))
            return true;
    return false;
}

static bool is_same(const struct k8s_service *a, const struct k8s_service *b)
{
    return kp_streq(a->metadata->name, b->metadata->name) && kp_streq(a->metadata->namespace, b->metadata->namespace);
}

static const char *key_of(const struct k8s_service *service, struct kp_arena *arena)
{
    return kp_arena_printf(arena, "%s/%s", service->metadata->namespace, service->metadata->name);
}

static bool ports_differ(const struct k8s_service *a, const struct k8s_service *b)
{
    for (size_t i = 0; i < a->spec->ports.len; i++)
        for (size_t j = 0; j < b->spec->ports.len; j++)
            if (a->spec->ports.items[i].port == b->spec->ports.items[j].port &&
                kp_streq(a->spec->ports.items[i].protocol, b->spec->ports.items[j].protocol))
                return false;
    return true;
}

static bool may_share(const struct k8s_service *a, const struct k8s_service *b)
{
    const char *key = kp_string_map_get(&a->metadata->annotations, BALANCER_SHARE_ANNOTATION);
    return !kp_empty(key) && kp_streq(key, kp_string_map_get(&b->metadata->annotations, BALANCER_SHARE_ANNOTATION)) &&
           kp_streq(a->metadata->namespace, b->metadata->namespace) && vip_wants_address(b) &&
           !kp_streq(a->spec->external_traffic_policy, "Local") && !kp_streq(b->spec->external_traffic_policy, "Local") && ports_differ(a, b);
}

static bool is_given_to(const struct balancer_input *in, const char *address, const struct k8s_service *service, struct kp_arena *arena)
{
    return in->given && kp_streq(kp_strmap_get(in->given, address), key_of(service, arena));
}

/* By whom else, who does not share it: "ns/name", or NULL. */
static const char *taken_by(const struct balancer_input *in, const char *address, struct kp_arena *arena)
{
    const char *given = in->given ? kp_strmap_get(in->given, address) : NULL;
    if (given && kp_streq(given, key_of(in->service, arena)))
        given = NULL;
    for (size_t i = 0; i < in->n_all; i++) {
        const struct k8s_service *other = in->all[i];
        bool has = kp_streq(vip_address_of(other, in->pool), address) || is_given_to(in, address, other, arena);
        if (is_same(other, in->service) || !has)
            continue;
        if (!may_share(in->service, other))
            return key_of(other, arena);
        if (given && kp_streq(given, key_of(other, arena)))
            given = NULL;
    }
    return given;
}

/* The address of one with whom it shares, if all who have that do; "" else. */
static void choose_shared(const struct balancer_input *in, struct kp_arena *arena, struct balancer_decision *d)
{
    for (size_t i = 0; i < in->n_all; i++) {
        const char *address = is_same(in->all[i], in->service) || !may_share(in->service, in->all[i]) ? NULL : vip_address_of(in->all[i], in->pool);
        if (!address || taken_by(in, address, arena))
            continue;
        snprintf(d->address, sizeof d->address, "%s", address);
        return;
    }
}

static const char *wanted_address(const struct k8s_service *service)
{
    const char *annotated = kp_string_map_get(&service->metadata->annotations, BALANCER_ADDRESS_ANNOTATION);
    return !kp_empty(annotated) ? annotated : service->spec->load_balancer_ip;
}

static void choose(const struct balancer_input *in, struct kp_arena *arena, struct balancer_decision *d)
{
    const char *wanted = wanted_address(in->service), *now = vip_address_of(in->service, in->pool);
    if (!kp_empty(wanted)) {
        const char *other = taken_by(in, wanted, arena);
        if (!vip_pool_has(in->pool, wanted))
            d->problem = kp_arena_printf(arena, "address %s is not in the pool (spec.loadBalancer.addresses of the cluster file)", wanted);
        else if (other)
            d->problem = kp_arena_printf(arena, "address %s belongs to Service %s", wanted, other);
        else
            snprintf(d->address, sizeof d->address, "%s", wanted);
        return;
    }
    if (now && !taken_by(in, now, arena)) {
        snprintf(d->address, sizeof d->address, "%s", now);
        return;
    }
    choose_shared(in, arena, d);
    if (d->address[0])
        return;
    size_t size = vip_pool_size(in->pool);
    for (size_t i = 0; i < size; i++) {
        vip_pool_address(in->pool, i, d->address);
        if (!taken_by(in, d->address, arena))
            return;
    }
    d->address[0] = 0;
    d->problem = size ? kp_arena_printf(arena, "all %zu addresses of the pool are taken (spec.loadBalancer.addresses of the cluster file)", size)
                      : "the cluster has no addresses for load balancers: spec.loadBalancer.addresses of the cluster file";
}

/* The status is just this address, or nothing. */
static bool shows(const struct k8s_service *service, const char *address)
{
    size_t len = service->status->load_balancer->ingress.len;
    if (kp_empty(address))
        return len == 0;
    return len == 1 && kp_streq(service->status->load_balancer->ingress.items[0].ip, address) &&
           kp_streq(service->status->load_balancer->ingress.items[0].ip_mode, "VIP");
}

void balancer_decide(const struct balancer_input *in, struct kp_arena *arena, struct balancer_decision *ret)
{
    const struct k8s_service *service = in->service;
    *ret = (struct balancer_decision){0};
    if (vip_wants_address(service)) {
        ret->add_finalizer = !has_finalizer(service);
        choose(in, arena, ret);
        ret->set_status = !shows(service, ret->address);
        return;
    }
    /* Of another class: not ours to touch, and not ours to free. */
    if (!kp_empty(service->spec->load_balancer_class) && !kp_streq(service->spec->load_balancer_class, VIP_CLASS))
        return;
    ret->remove_finalizer = has_finalizer(service);
    ret->set_status = ret->remove_finalizer && !shows(service, "");
}
