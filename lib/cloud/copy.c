/* Copies of what a call of a driver is given and gives back: neither outlives the other's memory. */
#include "cloud/call_internal.h"

static const char *copy(struct kp_arena *arena, const char *s)
{
    return s ? kp_arena_strdup(arena, s) : NULL;
}

static const char *const *copy_list(const char *const *list, struct kp_arena *arena)
{
    size_t n = 0;
    while (list && list[n])
        n++;
    const char **own = KP_NEW_ARRAY(arena, const char *, n + 1);
    for (size_t i = 0; i < n; i++)
        own[i] = kp_arena_strdup(arena, list[i]);
    own[n] = NULL;
    return own;
}

static struct cloud_route copy_route(const struct cloud_route *route, struct kp_arena *arena)
{
    return (struct cloud_route){.destination = copy(arena, route->destination), .machine = copy(arena, route->machine)};
}

static struct cloud_balancer_spec copy_balancer_spec(const struct cloud_balancer_spec *spec, struct kp_arena *arena)
{
    struct cloud_balancer_spec own = *spec;
    own.cluster_uid = copy(arena, spec->cluster_uid);
    own.name = copy(arena, spec->name);
    own.description = copy(arena, spec->description);
    own.health.path = copy(arena, spec->health.path);
    own.address = copy(arena, spec->address);
    if (spec->n_listeners)
        own.listeners = kp_arena_memdup(arena, spec->listeners, spec->n_listeners * sizeof *spec->listeners);
    struct cloud_target *targets = KP_NEW_ARRAY(arena, struct cloud_target, spec->n_targets + 1);
    for (size_t i = 0; i < spec->n_targets; i++)
        targets[i] = (struct cloud_target){.machine = copy(arena, spec->targets[i].machine), .address = copy(arena, spec->targets[i].address)};
    own.targets = targets;
    const char **ranges = KP_NEW_ARRAY(arena, const char *, spec->n_source_ranges + 1);
    for (size_t i = 0; i < spec->n_source_ranges; i++)
        ranges[i] = copy(arena, spec->source_ranges[i]);
    own.source_ranges = ranges;
    return own;
}

struct cloud_call_in cloud_copy_in(const struct cloud_call_in *in, struct kp_arena *arena)
{
    struct cloud_call_in own = *in;
    own.uid = copy(arena, in->uid);
    own.name = copy(arena, in->name);
    own.list = copy_list(in->list, arena);
    own.network.cluster_uid = copy(arena, in->network.cluster_uid);
    own.network.cidr = copy(arena, in->network.cidr);
    own.network.bridge.name = copy(arena, in->network.bridge.name);
    own.network.bridge.addresses = copy(arena, in->network.bridge.addresses);
    own.network.bridge.gateway = copy(arena, in->network.bridge.gateway);
    own.network.bridge.nameservers = copy(arena, in->network.bridge.nameservers);
    own.network.existing = copy(arena, in->network.existing);
    own.network.external = copy(arena, in->network.external);
    own.network.zones = copy(arena, in->network.zones);
    own.network.pod_cidr = copy(arena, in->network.pod_cidr);
    own.machine.cluster_uid = copy(arena, in->machine.cluster_uid);
    own.machine.name = copy(arena, in->machine.name);
    own.machine.role = copy(arena, in->machine.role);
    own.machine.pool = copy(arena, in->machine.pool);
    own.machine.machine_type = copy(arena, in->machine.machine_type);
    own.machine.image = copy(arena, in->machine.image);
    own.machine.address = copy(arena, in->machine.address);
    if (in->machine.user_data_len)
        own.machine.user_data = kp_arena_memdup(arena, in->machine.user_data, in->machine.user_data_len);
    own.balancer = copy_balancer_spec(&in->balancer, arena);
    own.route = copy_route(&in->route, arena);
    return own;
}

static struct cloud_network copy_network(const struct cloud_network *network, struct kp_arena *arena)
{
    struct cloud_network own = *network;
    own.id = copy(arena, network->id);
    own.cluster_uid = copy(arena, network->cluster_uid);
    own.cidr = copy(arena, network->cidr);
    own.gateway = copy(arena, network->gateway);
    own.nameservers = copy(arena, network->nameservers);
    return own;
}

static struct cloud_machine copy_machine(const struct cloud_machine *machine, struct kp_arena *arena)
{
    struct cloud_machine own = *machine;
    own.id = copy(arena, machine->id);
    own.provider_id = copy(arena, machine->provider_id);
    own.name = copy(arena, machine->name);
    own.cluster_uid = copy(arena, machine->cluster_uid);
    own.role = copy(arena, machine->role);
    own.pool = copy(arena, machine->pool);
    own.machine_type = copy(arena, machine->machine_type);
    own.image = copy(arena, machine->image);
    own.address = copy(arena, machine->address);
    own.public_address = copy(arena, machine->public_address);
    own.region = copy(arena, machine->region);
    own.zone = copy(arena, machine->zone);
    return own;
}

static struct cloud_balancer copy_balancer(const struct cloud_balancer *balancer, struct kp_arena *arena)
{
    struct cloud_balancer own = *balancer;
    own.id = copy(arena, balancer->id);
    own.name = copy(arena, balancer->name);
    own.cluster_uid = copy(arena, balancer->cluster_uid);
    own.address = copy(arena, balancer->address);
    own.host_name = copy(arena, balancer->host_name);
    own.problem = copy(arena, balancer->problem);
    return own;
}

static struct cloud_target_health copy_health(const struct cloud_target_health *health, struct kp_arena *arena)
{
    struct cloud_target_health own = *health;
    own.machine = copy(arena, health->machine);
    own.address = copy(arena, health->address);
    return own;
}

static struct cloud_machine_type copy_type(const struct cloud_machine_type *type, struct kp_arena *arena)
{
    struct cloud_machine_type own = *type;
    own.name = copy(arena, type->name);
    return own;
}

/* A list of items, each by its own copy function. */
#define COPY_LIST(arena, from, to, copy_item)                                                        \
    do {                                                                                             \
        (to).len = (from).len;                                                                       \
        (to).items = kp_arena_alloc((arena), ((from).len + 1) * sizeof *(from).items);               \
        for (size_t item = 0; item < (from).len; item++)                                             \
            (to).items[item] = copy_item(&(from).items[item], (arena));                              \
    } while (0)

void cloud_copy_out(const struct cloud_call *call, struct kp_arena *arena, struct cloud_call_out *ret)
{
    switch (call->kind) {
    case CLOUD_CALL_NETWORK_ENSURE:
    case CLOUD_CALL_NETWORK_GET: ret->network = copy_network(&call->out.network, arena); break;
    case CLOUD_CALL_ADDRESS_RESERVE:
    case CLOUD_CALL_ADDRESS_PUBLISH: ret->address = copy(arena, call->out.address); break;
    case CLOUD_CALL_MACHINE_CREATE:
    case CLOUD_CALL_MACHINE_REIMAGE:
    case CLOUD_CALL_MACHINE_GET: ret->machine = copy_machine(&call->out.machine, arena); break;
    case CLOUD_CALL_MACHINE_LIST: COPY_LIST(arena, call->out.machines, ret->machines, copy_machine); break;
    case CLOUD_CALL_MACHINE_TYPES: COPY_LIST(arena, call->out.types, ret->types, copy_type); break;
    case CLOUD_CALL_BALANCER_ENSURE:
    case CLOUD_CALL_BALANCER_GET: ret->balancer = copy_balancer(&call->out.balancer, arena); break;
    case CLOUD_CALL_BALANCER_LIST: COPY_LIST(arena, call->out.balancers, ret->balancers, copy_balancer); break;
    case CLOUD_CALL_BALANCER_HEALTH: COPY_LIST(arena, call->out.health, ret->health, copy_health); break;
    case CLOUD_CALL_ROUTE_LIST: COPY_LIST(arena, call->out.routes, ret->routes, copy_route); break;
    default: break; /* strings and console are handed over whole */
    }
}
