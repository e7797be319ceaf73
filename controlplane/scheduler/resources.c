/* What a pod asks for: requests summed the way the kubelet admits them, and host ports. */
#include "controlplane/scheduler/scheduler.h"

#define DEFAULT_MILLI_CPU 100                   /* upstream schedutil.DefaultMilliCPURequest */
#define DEFAULT_MEMORY ((int64_t)200 * 1024 * 1024)

static int64_t *extended_slot(struct sched_resources *r, const char *name)
{
    for (size_t i = 0; i < r->n_extended; i++)
        if (strcmp(r->extended[i].name, name) == 0)
            return &r->extended[i].value;
    if (r->n_extended == SCHED_EXTENDED_MAX)
        return NULL;
    r->extended[r->n_extended].name = name;
    r->extended[r->n_extended].value = 0;
    return &r->extended[r->n_extended++].value;
}

static void add_map(struct sched_resources *r, const struct kp_string_map *map)
{
    for (size_t i = 0; i < map->len; i++) {
        const char *name = map->items[i].key, *value = map->items[i].value;
        if (strcmp(name, "cpu") == 0) {
            r->milli_cpu += kp_quantity_str_milli(value);
        } else if (strcmp(name, "memory") == 0) {
            r->memory += kp_quantity_str_value(value);
        } else if (strcmp(name, "ephemeral-storage") == 0) {
            r->ephemeral_storage += kp_quantity_str_value(value);
        } else if (strcmp(name, "pods") != 0) {
            int64_t *slot = extended_slot(r, name);
            if (slot)
                *slot += kp_quantity_str_value(value);
        }
    }
}

void sched_resources_add(struct sched_resources *total, const struct sched_resources *more, int sign)
{
    total->milli_cpu += sign * more->milli_cpu;
    total->memory += sign * more->memory;
    total->ephemeral_storage += sign * more->ephemeral_storage;
    for (size_t i = 0; i < more->n_extended; i++) {
        int64_t *slot = extended_slot(total, more->extended[i].name);
        if (slot)
            *slot += sign * more->extended[i].value;
    }
}

static void take_max(struct sched_resources *total, const struct sched_resources *other)
{
    total->milli_cpu = KP_MAX(total->milli_cpu, other->milli_cpu);
    total->memory = KP_MAX(total->memory, other->memory);
    total->ephemeral_storage = KP_MAX(total->ephemeral_storage, other->ephemeral_storage);
    for (size_t i = 0; i < other->n_extended; i++) {
        int64_t *slot = extended_slot(total, other->extended[i].name);
        if (slot)
            *slot = KP_MAX(*slot, other->extended[i].value);
    }
}

static struct sched_resources container_requests(const struct k8s_container *container, bool nonzero)
{
    struct sched_resources r = {0};
    add_map(&r, &container->resources->requests);
    if (nonzero && !kp_string_map_get(&container->resources->requests, "cpu"))
        r.milli_cpu = DEFAULT_MILLI_CPU;
    if (nonzero && !kp_string_map_get(&container->resources->requests, "memory"))
        r.memory = DEFAULT_MEMORY;
    return r;
}

/* Requests of the pod as a whole stand for those of its containers, resource by resource (KEP-2837). */
static void override_by_pod(struct sched_resources *total, const struct k8s_pod_spec *spec)
{
    const char *cpu = spec->resources ? kp_string_map_get(&spec->resources->requests, "cpu") : NULL;
    const char *memory = spec->resources ? kp_string_map_get(&spec->resources->requests, "memory") : NULL;
    if (cpu)
        total->milli_cpu = kp_quantity_str_milli(cpu);
    if (memory)
        total->memory = kp_quantity_str_value(memory);
}

/* Upstream's PodRequests: sidecars (init containers that restart always) add up with what starts after them. */
static struct sched_resources pod_requests(const struct k8s_pod_spec *spec, bool nonzero)
{
    struct sched_resources total = {0}, sidecars = {0}, init_max = {0};
    for (size_t i = 0; i < spec->containers.len; i++) {
        struct sched_resources r = container_requests(&spec->containers.items[i], nonzero);
        sched_resources_add(&total, &r, 1);
    }
    for (size_t i = 0; i < spec->init_containers.len; i++) {
        struct sched_resources r = container_requests(&spec->init_containers.items[i], nonzero);
        if (kp_streq(spec->init_containers.items[i].restart_policy, "Always")) {
            sched_resources_add(&total, &r, 1);
            sched_resources_add(&sidecars, &r, 1);
            r = sidecars;
        } else {
            sched_resources_add(&r, &sidecars, 1);
        }
        take_max(&init_max, &r);
    }
    take_max(&total, &init_max);
    override_by_pod(&total, spec);
    add_map(&total, &spec->overhead);
    return total;
}

static void add_ports(struct sched_pod *out, const struct k8s_container *container)
{
    for (size_t k = 0; k < container->ports.len; k++) {
        const struct k8s_container_port *port = &container->ports.items[k];
        if (port->host_port <= 0)
            continue;
        struct sched_port *p = &out->ports[out->n_ports++];
        p->port = port->host_port;
        snprintf(p->protocol, sizeof(p->protocol), "%s", kp_empty(port->protocol) ? "TCP" : port->protocol);
        snprintf(p->host_ip, sizeof(p->host_ip), "%s", kp_empty(port->host_ip) ? "0.0.0.0" : port->host_ip);
    }
}

void sched_pod_init(struct sched_pod *out, const struct k8s_pod *pod, struct kp_arena *arena)
{
    *out = (struct sched_pod){.pod = pod, .requests = pod_requests(pod->spec, false), .nonzero = pod_requests(pod->spec, true)};
    out->priority = pod->spec->has_priority ? pod->spec->priority : 0;
    out->wishes = sched_wishes_of(pod, arena);
    out->has_claims = sched_has_claims(pod);
    size_t n = 0;
    const struct k8s_container_items *lists[] = {&pod->spec->containers, &pod->spec->init_containers};
    for (size_t l = 0; l < KP_ARRAY_LEN(lists); l++)
        for (size_t i = 0; i < lists[l]->len; i++)
            n += lists[l]->items[i].ports.len;
    if (n == 0)
        return;
    out->ports = KP_NEW_ARRAY(arena, struct sched_port, n);
    for (size_t l = 0; l < KP_ARRAY_LEN(lists); l++)
        for (size_t i = 0; i < lists[l]->len; i++)
            if (l == 0 || kp_streq(lists[l]->items[i].restart_policy, "Always")) /* an init container's ports are free again later */
                add_ports(out, &lists[l]->items[i]);
}
