/* Which pods go first, and what they are told. */
#include "nodeimage/kubelet/eviction/eviction.h"
#include "nodeimage/kubelet/pod_internal.h"

/* ---- the order ------------------------------------------------------------------------------------------------------------ */
static const char *resource_of(enum eviction_signal signal)
{
    switch (signal) {
    case EVICTION_MEMORY:
        return "memory";
    case EVICTION_PIDS:
        return "pids";
    case EVICTION_NODEFS_INODES:
    case EVICTION_IMAGEFS_INODES:
        return "inodes";
    default:
        return "ephemeral-storage";
    }
}

static int64_t requested(const struct k8s_pod *pod, const char *resource)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    struct kp_string_map requests;
    kubelet_pod_requests(pod, arena, &requests);
    return kp_quantity_str_value(kp_string_map_get(&requests, resource));
}

struct place {
    struct eviction_pod pod;
    bool exceeds; /* uses more than it asked for */
    int32_t priority;
    int64_t excess, started_s;
};

static int compare(const void *a, const void *b)
{
    const struct place *x = a, *y = b;
    if (x->exceeds != y->exceeds)
        return x->exceeds ? -1 : 1;
    if (x->priority != y->priority)
        return x->priority < y->priority ? -1 : 1;
    if (x->excess != y->excess)
        return x->excess > y->excess ? -1 : 1;
    return x->started_s > y->started_s ? -1 : x->started_s < y->started_s;
}

static struct place place_of(enum eviction_signal signal, const struct eviction_pod *pod)
{
    const struct kp_time *created = &pod->data->metadata->creation_timestamp;
    struct place place = {.pod = *pod, .priority = pod->data->spec->has_priority ? pod->data->spec->priority : 0, .started_s = created->seconds};
    if (signal == EVICTION_MEMORY)
        place.excess = pod->memory_bytes - requested(pod->data, "memory");
    else if (signal != EVICTION_PIDS)
        place.excess = pod->disk_bytes - requested(pod->data, "ephemeral-storage");
    place.exceeds = place.excess > 0;
    return place;
}

void eviction_rank(enum eviction_signal signal, struct eviction_pod *pods, size_t n)
{
    struct place *places = kp_calloc(n + 1, sizeof(*places));
    for (size_t i = 0; i < n; i++)
        places[i] = place_of(signal, &pods[i]);
    if (n > 1)
        qsort(places, n, sizeof(*places), compare);
    for (size_t i = 0; i < n; i++)
        pods[i] = places[i].pod;
    free(places);
}

/* ---- the words -------------------------------------------------------------------------------------------------------------- */
static const char *amount(enum eviction_signal signal, int64_t value, struct kp_arena *arena)
{
    enum kp_quantity_format format =
        signal == EVICTION_PIDS || signal == EVICTION_NODEFS_INODES || signal == EVICTION_IMAGEFS_INODES ? KP_QUANTITY_DECIMAL_SI : KP_QUANTITY_BINARY_SI;
    if (format == KP_QUANTITY_BINARY_SI)
        value = value / 1024 * 1024; /* whole Ki, as upstream's figures are */
    struct kp_quantity quantity = kp_quantity_from_i64(value, format);
    return kp_quantity_string(&quantity, arena);
}

const char *eviction_message(enum eviction_signal signal, const struct eviction_threshold *threshold, const struct eviction_reading *reading,
                             const struct k8s_pod *pod, int64_t (*usage_of_container)(void *arg, const char *name), void *arg, struct kp_arena *arena)
{
    KP_AUTO_BUF struct kp_buf out = {0};
    const char *resource = resource_of(signal);
    kp_buf_printf(&out, "The node was low on resource: %s. ", resource);
    kp_buf_printf(&out, "Threshold quantity: %s, available: %s. ", amount(signal, eviction_amount_of(&threshold->least, reading->capacity), arena),
                  amount(signal, reading->available, arena));
    bool per_container = usage_of_container && (kp_streq(resource, "memory") || kp_streq(resource, "ephemeral-storage"));
    for (size_t i = 0; per_container && i < pod->spec->containers.len; i++) {
        const struct k8s_container *c = &pod->spec->containers.items[i];
        const char *request = c->resources ? kp_string_map_get(&c->resources->requests, resource) : NULL;
        int64_t usage = usage_of_container(arg, c->name);
        if (usage > kp_quantity_str_value(request))
            kp_buf_printf(&out, "Container %s was using %s, request is %s, has larger consumption of %s. ", c->name, amount(signal, usage, arena),
                          request ? request : "0", resource);
    }
    return kp_arena_strndup(arena, out.data, out.len);
}
