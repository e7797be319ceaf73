/* The APIServices of what this server serves itself: those of built-in group versions are made at the start, those of custom resources come and go
 * with their definitions (upstream: kube-apiserver's apiVersionPriorities, autoregister and crdregistration).
 *
 * Several servers do this side by side. APIServices and definitions come to each by one and the same watch of etcd, in the order of their writes: who
 * sees an APIService that was made for a definition has seen the definition, too, and so never deletes one that is still wanted. */
#include "controlplane/apiserver/aggregator/aggregator_internal.h"

#define CUSTOM_GROUP_PRIORITY 1000
#define CUSTOM_VERSION_PRIORITY 100

/* metrics.k8s.io is left out on purpose: whoever installs a server of his own for it makes that APIService. apiregistration.k8s.io has none, as upstream. */
static const struct {
    const char *group, *version;
    int32_t group_priority, version_priority;
} priorities[] = {
    {"", "v1", 18000, 1},
    {"apps", "v1", 17800, 15},
    {"events.k8s.io", "v1", 17750, 15},
    {"authentication.k8s.io", "v1", 17700, 15},
    {"authorization.k8s.io", "v1", 17600, 15},
    {"autoscaling", "v1", 17500, 15},
    {"autoscaling", "v2", 17500, 30},
    {"batch", "v1", 17400, 15},
    {"certificates.k8s.io", "v1", 17300, 15},
    {"networking.k8s.io", "v1", 17200, 15},
    {"policy", "v1", 17100, 15},
    {"rbac.authorization.k8s.io", "v1", 17000, 15},
    {"storage.k8s.io", "v1", 16800, 15},
    {"apiextensions.k8s.io", "v1", 16700, 15},
    {"admissionregistration.k8s.io", "v1", 16700, 15},
    {"scheduling.k8s.io", "v1", 16600, 15},
    {"coordination.k8s.io", "v1", 16500, 15},
    {"node.k8s.io", "v1", 16300, 15},
    {"discovery.k8s.io", "v1", 16200, 15},
    {"flowcontrol.apiserver.k8s.io", "v1", 16100, 21},
    {"resource.k8s.io", "v1", 15900, 20},
};

bool aggregator_priority(const char *group, const char *version, bool custom, int32_t *ret_group, int32_t *ret_version)
{
    for (size_t i = 0; !custom && i < KP_ARRAY_LEN(priorities); i++)
        if (strcmp(priorities[i].group, group) == 0 && strcmp(priorities[i].version, version) == 0) {
            *ret_group = priorities[i].group_priority;
            *ret_version = priorities[i].version_priority;
            return true;
        }
    *ret_group = CUSTOM_GROUP_PRIORITY;
    *ret_version = CUSTOM_VERSION_PRIORITY;
    return custom;
}

static bool is_served(const char *group, const char *version)
{
    size_t count;
    const struct kp_resource *const *resources = kp_resources(&count);
    for (size_t i = 0; i < count; i++) {
        const struct kp_resource *r = resources[i];
        bool known = registry_kind_of(r) || strcmp(r->group, "authentication.k8s.io") == 0 || strcmp(r->group, "authorization.k8s.io") == 0;
        if (!r->custom && known && strcmp(r->group, group) == 0 && strcmp(r->version, version) == 0)
            return true;
    }
    return false;
}

/* ---- what is to be done ---------------------------------------------------------------------------------------------------------- */
struct services {
    const void **items; /* api_service_t */
    size_t len;
};
struct work {
    struct services create, change; /* as they are to be */
    struct services remove;         /* as they are */
};

static void add(struct services *list, const void *service, struct kp_arena *arena)
{
    *(const void **)KP_LIST_ADD(arena, list) = service;
}

static api_service_t *make(const char *group, const char *version, bool custom, struct kp_arena *arena)
{
    api_service_t *service = KP_OBJECT_NEW(arena, k8s_api_service);
    int32_t group_priority, version_priority;
    aggregator_priority(group, version, custom, &group_priority, &version_priority);
    service->metadata->name = kp_arena_printf(arena, "%s.%s", version, group);
    kp_string_map_set(arena, &service->metadata->labels, AUTOMANAGED, custom ? AUTOMANAGED_ALWAYS : AUTOMANAGED_ON_START);
    service->spec->group = group;
    service->spec->version = version;
    KP_SET(service->spec, group_priority_minimum, group_priority);
    KP_SET(service->spec, version_priority, version_priority);
    return service;
}

static const char *management(const api_service_t *service)
{
    const char *value = kp_string_map_get(&service->metadata->labels, AUTOMANAGED);
    return value ? value : "";
}

/* Somebody who takes the label away, or puts his own server in the place, keeps what he made. */
static void want(const struct aggregator *aggregator, api_service_t *wanted, struct kp_arena *arena, struct work *work)
{
    const struct tracked *tracked = kp_strmap_get(aggregator->tracked, wanted->metadata->name);
    if (!tracked)
        add(&work->create, wanted, arena);
    else if (*management(tracked->object) && !kp_object_equal(&k8s_api_service_spec_type, tracked->object->spec, wanted->spec))
        add(&work->change, wanted, arena);
}

static void want_built_in(const struct aggregator *aggregator, struct kp_arena *arena, struct work *work)
{
    for (size_t i = 0; i < KP_ARRAY_LEN(priorities); i++)
        if (is_served(priorities[i].group, priorities[i].version))
            want(aggregator, make(priorities[i].group, priorities[i].version, false, arena), arena, work);
}

/* ---- custom resources ------------------------------------------------------------------------------------------------------------ */
void definition_free(void *arg)
{
    struct definition *definition = arg;
    kp_arena_free(definition->arena);
    free(definition->name);
    free(definition);
}

static void read_definition(const struct wcache_object *object, struct definition *definition)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    const struct k8s_custom_resource_definition *crd = registry_decode(registry_kind_of(&k8s_customresourcedefinitions_resource), object, arena);
    kp_arena_free(definition->arena);
    definition->arena = kp_arena_new(0);
    definition->revision = object->revision;
    definition->group = kp_arena_strdup(definition->arena, crd->spec->group ? crd->spec->group : "");
    definition->versions = (struct kp_string_list){0};
    for (size_t i = 0; i < crd->spec->versions.len; i++)
        if (crd->spec->versions.items[i].served)
            kp_string_list_add(definition->arena, &definition->versions, kp_arena_strdup(definition->arena, crd->spec->versions.items[i].name));
}

static void follow_definitions(struct aggregator *aggregator, struct kp_arena *arena)
{
    struct wcache_list list = {0};
    const struct wcache_filter filter = {0};
    const char *name;
    void *value;
    wcache_list(registry_cache_of(aggregator->config.registry, registry_kind_of(&k8s_customresourcedefinitions_resource)), &filter, NULL, 0, arena, &list);
    for (size_t i = 0; i < list.len; i++) {
        struct definition *definition = kp_strmap_get(aggregator->definitions, list.items[i]->name);
        if (!definition) {
            definition = kp_calloc(1, sizeof(*definition));
            definition->name = kp_strdup(list.items[i]->name);
            kp_strmap_put(aggregator->definitions, definition->name, definition);
        }
        definition->seen = true;
        if (definition->revision != list.items[i]->revision)
            read_definition(list.items[i], definition);
    }
    wcache_list_done(&list);
    for (size_t iter = 0; kp_strmap_next(aggregator->definitions, &iter, &name, &value);) {
        struct definition *definition = value;
        if (!definition->seen)
            definition_free(kp_strmap_remove(aggregator->definitions, name));
        else
            definition->seen = false;
    }
}

/* A definition in a built-in group version changes nothing: that has its APIService. */
static void want_custom(struct aggregator *aggregator, struct kp_arena *arena, struct work *work)
{
    struct kp_strmap *names = kp_strmap_new();
    const char *name;
    void *value;
    int32_t unused;
    follow_definitions(aggregator, arena);
    for (size_t iter = 0; kp_strmap_next(aggregator->definitions, &iter, &name, &value);) {
        const struct definition *definition = value;
        for (size_t i = 0; i < definition->versions.len; i++) {
            if (aggregator_priority(definition->group, definition->versions.items[i], false, &unused, &unused))
                continue;
            api_service_t *service = make(definition->group, definition->versions.items[i], true, arena);
            if (!kp_strmap_put(names, service->metadata->name, service))
                want(aggregator, service, arena, work);
        }
    }
    for (size_t iter = 0; kp_strmap_next(aggregator->tracked, &iter, &name, &value);) {
        const struct tracked *tracked = value;
        if (strcmp(management(tracked->object), AUTOMANAGED_ALWAYS) == 0 && !kp_strmap_get(names, name))
            add(&work->remove, tracked->object, arena);
    }
    kp_strmap_free(names, NULL);
}

/* ---- doing it -------------------------------------------------------------------------------------------------------------------- */
static int make_changed(void *arg, struct registry_request *rq, const void *current, void **ret_new)
{
    const api_service_t *wanted = arg;
    api_service_t *service = KP_OBJECT_CLONE(rq->arena, k8s_api_service, current);
    service->spec = KP_OBJECT_CLONE(rq->arena, k8s_api_service_spec, wanted->spec);
    *ret_new = service;
    return 0;
}

static bool change(struct aggregator *aggregator, const api_service_t *wanted, struct kp_arena *arena)
{
    struct api_status status = API_STATUS(arena);
    struct registry_request rq = registry_own_request(arena, &status, &k8s_apiservices_resource, "", wanted->metadata->name);
    const struct registry_update_options options = {.patch = true};
    KP_AUTO(wcache_object_unref) struct wcache_object *object = NULL;
    bool created;
    int code = registry_update(aggregator->config.registry, &rq, &options, make_changed, (void *)(uintptr_t)wanted, &object, &created);
    if (code < 0 && code != KP_ENOTFOUND)
        kp_warn("an APIService could not be changed", "name", wanted->metadata->name, "error", status.message, NULL);
    return code == 0 || code == KP_ENOTFOUND;
}

static bool drop(struct aggregator *aggregator, const api_service_t *service, struct kp_arena *arena)
{
    struct api_status status = API_STATUS(arena);
    struct registry_request rq = registry_own_request(arena, &status, &k8s_apiservices_resource, "", service->metadata->name);
    struct k8s_delete_options *options = KP_OBJECT_NEW(arena, k8s_delete_options);
    KP_AUTO(wcache_object_unref) struct wcache_object *object = NULL;
    bool gone, as_status;
    options->preconditions = KP_OBJECT_NEW(arena, k8s_preconditions);
    options->preconditions->uid = service->metadata->uid;
    int code = registry_delete(aggregator->config.registry, &rq, options, &object, &gone, &as_status);
    if (code < 0 && code != KP_ENOTFOUND && code != KP_ECONFLICT) /* another of its name: it is looked at when it comes */
        kp_warn("an APIService could not be deleted", "name", service->metadata->name, "error", status.message, NULL);
    return code == 0 || code == KP_ENOTFOUND || code == KP_ECONFLICT;
}

bool register_all(struct aggregator *aggregator, struct kp_arena *arena)
{
    struct work work = {0};
    struct kp_error error = {0};
    bool start = !aggregator->registered, good = true;
    if (start)
        want_built_in(aggregator, arena, &work);
    want_custom(aggregator, arena, &work);
    if (registry_ensure(aggregator->config.registry, &k8s_apiservices_resource, work.create.items, work.create.len, &error) < 0) {
        kp_warn("APIServices could not be created", "error", error.message, NULL);
        good = false;
    }
    for (size_t i = 0; i < work.change.len; i++)
        good &= change(aggregator, work.change.items[i], arena);
    for (size_t i = 0; i < work.remove.len; i++)
        good &= drop(aggregator, work.remove.items[i], arena);
    aggregator->registered |= good;
    return good;
}
