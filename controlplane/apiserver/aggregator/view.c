/* The APIServices as requests see them: an immutable list that is replaced as a whole. */
#include "controlplane/apiserver/aggregator/aggregator_internal.h"

bool is_available(const api_service_t *service)
{
    for (size_t i = 0; i < service->status->conditions.len; i++)
        if (kp_streq(service->status->conditions.items[i].type, "Available"))
            return kp_streq(service->status->conditions.items[i].status, "True");
    return false;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct aggregator_entry *)a)->name, ((const struct aggregator_entry *)b)->name);
}

static const char *copy(const char *s, struct kp_arena *arena)
{
    return kp_arena_strdup(arena, s ? s : "");
}

static void fill(const struct tracked *tracked, struct kp_arena *arena, struct aggregator_entry *entry)
{
    const struct k8s_api_service_spec *spec = tracked->object->spec;
    *entry = (struct aggregator_entry){.name = copy(tracked->name, arena),
                                       .group = copy(spec->group, arena),
                                       .version = copy(spec->version, arena),
                                       .group_priority = spec->group_priority_minimum,
                                       .version_priority = spec->version_priority,
                                       .remote = spec->service != NULL};
    if (!entry->remote)
        return;
    entry->available = is_available(tracked->object);
    entry->ns = copy(spec->service->namespace, arena);
    entry->service = copy(spec->service->name, arena);
    entry->port = spec->service->port;
    entry->ca = (struct kp_bytes){kp_arena_memdup(arena, spec->ca_bundle.data, spec->ca_bundle.len), spec->ca_bundle.len};
    entry->insecure_skip_verify = spec->insecure_skip_tls_verify;
    entry->resources = tracked->resources ? kp_blob_ref(tracked->resources) : NULL;
    entry->current = tracked->current && entry->available;
    entry->openapi_url = kp_arena_strdup(arena, tracked->openapi_url);
}

struct aggregator_view *view_make(const struct aggregator *aggregator)
{
    struct aggregator_view *view = kp_calloc(1, sizeof(*view));
    size_t max = kp_strmap_len(aggregator->tracked), remote = 0;
    const char *name;
    void *value;
    view->refs = 1;
    view->arena = kp_arena_new(0);
    struct aggregator_entry *items = KP_NEW_ARRAY(view->arena, struct aggregator_entry, max + 1);
    for (size_t iter = 0; kp_strmap_next(aggregator->tracked, &iter, &name, &value);) {
        const struct tracked *tracked = value;
        if (tracked->object->spec->service && ++remote > AGGREGATOR_SERVERS_MAX)
            continue;
        fill(tracked, view->arena, &items[view->len++]);
    }
    if (remote > AGGREGATOR_SERVERS_MAX)
        kp_warn("there are too many APIServices with a Service: some are not routed", NULL);
    qsort(items, view->len, sizeof(*items), by_name);
    view->items = items;
    return view;
}

struct aggregator_view *aggregator_hold(struct aggregator *aggregator)
{
    if (!aggregator)
        return NULL;
    pthread_mutex_lock(&aggregator->mutex);
    struct aggregator_view *view = aggregator->view;
    if (view)
        __atomic_add_fetch(&view->refs, 1, __ATOMIC_RELAXED);
    pthread_mutex_unlock(&aggregator->mutex);
    return view;
}

void aggregator_release(struct aggregator_view *view)
{
    if (!view || __atomic_sub_fetch(&view->refs, 1, __ATOMIC_ACQ_REL) > 0)
        return;
    for (size_t i = 0; i < view->len; i++)
        kp_blob_unref(view->items[i].resources);
    kp_arena_free(view->arena);
    free(view);
}

const struct aggregator_entry *aggregator_find(const struct aggregator_view *view, const char *group, const char *version)
{
    char name[KP_API_VERSION_MAX];
    int len = snprintf(name, sizeof(name), "%s.%s", version, group);
    if (!view || len < 0 || (size_t)len >= sizeof(name))
        return NULL;
    const struct aggregator_entry key = {.name = name};
    return view->len ? bsearch(&key, view->items, view->len, sizeof(key), by_name) : NULL;
}

struct backend aggregator_backend(const struct aggregator_entry *entry)
{
    return (struct backend){.ns = entry->ns,
                            .service = entry->service,
                            .port = entry->port,
                            .ca = entry->ca.data,
                            .ca_len = entry->ca.len,
                            .insecure_skip_verify = entry->insecure_skip_verify,
                            .client_certificate = true};
}
