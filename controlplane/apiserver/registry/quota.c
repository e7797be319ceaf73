/* ResourceQuota: who makes a namespace use more is charged for it before it is stored, or refused. Rules and texts are upstream's. */
#include "controlplane/apiserver/registry/strategy_internal.h"
#include "lib/quota/quota.h"

struct charge {
    const struct registry_request *of; /* who is charged */
    struct kp_string_map delta;        /* what is used more, or less */
};

static int refuse(const struct charge *charge, struct registry_request *rq, const char *text)
{
    return status_forbidden(rq->status, charge->of->resource->group, charge->of->resource->name, charge->of->name, "%s", text);
}

/* What of a quota the object would use and the quota does not have. */
static int check(const struct charge *charge, struct registry_request *rq, const struct k8s_resource_quota *quota, const struct kp_string_map *asked,
                 struct kp_string_map *ret_used)
{
    struct kp_arena *arena = rq->arena;
    struct kp_string_map over = {0}, unknown = {0};
    const struct kp_string_map *hard = &quota->status->hard;
    *ret_used = (struct kp_string_map){0};
    quota_add(ret_used, &quota->status->used, 1, arena);
    quota_add(ret_used, asked, 1, arena);
    for (size_t i = 0; i < asked->len; i++) {
        const char *name = asked->items[i].key;
        if (!kp_string_map_get(hard, name) || !kp_string_map_get(&quota->status->used, name))
            kp_string_map_set(arena, &unknown, name, "");
        else if (kp_quantity_str_cmp(asked->items[i].value, "0") > 0 && kp_quantity_str_cmp(kp_string_map_get(ret_used, name), kp_string_map_get(hard, name)) > 0)
            kp_string_map_set(arena, &over, name, kp_string_map_get(hard, name));
    }
    if (unknown.len) { /* the controller has not counted yet */
        KP_AUTO_BUF struct kp_buf names = {0};
        for (size_t i = 0; i < unknown.len; i++)
            kp_buf_printf(&names, "%s%s", i ? "," : "", unknown.items[i].key);
        return refuse(charge, rq, kp_arena_printf(arena, "status unknown for quota: %s, resources: %s", quota->metadata->name, names.data));
    }
    if (!over.len)
        return 0;
    const struct kp_string_map wanted = quota_mask(asked, &over, arena);
    struct kp_string_map used = {0};
    for (size_t i = 0; i < over.len; i++)
        kp_string_map_set(arena, &used, over.items[i].key, kp_string_map_get(&quota->status->used, over.items[i].key));
    return refuse(charge, rq, kp_arena_printf(arena, "exceeded quota: %s, requested: %s, used: %s, limited: %s", quota->metadata->name, quota_print(&wanted, arena),
                                              quota_print(&used, arena), quota_print(&over, arena)));
}

static int make_charged(void *arg, struct registry_request *rq, const void *current, void **ret_new)
{
    const struct charge *charge = arg;
    struct k8s_resource_quota *quota = KP_OBJECT_CLONE(rq->arena, k8s_resource_quota, current);
    const struct kp_string_map asked = quota_mask(&charge->delta, &quota->spec->hard, rq->arena);
    struct kp_string_map used;
    if (check(charge, rq, quota, &asked, &used) < 0)
        return rq->status->code;
    quota->status->used = used;
    *ret_new = quota;
    return 0;
}

static int charge_quota(struct registry *registry, struct registry_request *rq, struct charge *charge, const char *name)
{
    int code = registry_update_status_of(registry, rq, &k8s_resourcequotas_resource, name, make_charged, charge);
    if (code == KP_ENOTFOUND) { /* somebody deleted it meanwhile */
        *rq->status = API_STATUS(rq->status->arena);
        return 0;
    }
    return code;
}

/* Services and claims may come to use more when they are changed; of everything else only what is new counts. */
static bool is_counted(const struct registry_request *rq, const void *old)
{
    if (kp_empty(rq->ns) || !kp_empty(rq->subresource) || kp_streq(rq->resource->name, "events"))
        return false;
    return !old || rq->resource == &k8s_services_resource || rq->resource == &k8s_persistentvolumeclaims_resource;
}

static bool has_quotas(struct registry *registry, struct registry_request *rq)
{
    const struct wcache_filter filter = {.ns = rq->ns};
    struct wcache_list list;
    wcache_list(registry_cache(registry, registry_kind_of(&k8s_resourcequotas_resource)), &filter, NULL, 1, rq->arena, &list);
    bool any = list.len > 0;
    wcache_list_done(&list);
    return any;
}

/* The namespace's quotas that are about the object, checked as the cache has them: nothing is charged to one when another refuses. */
static int find_quotas(struct registry *registry, struct registry_request *rq, const void *obj, const struct kp_string_map *usage, const struct charge *charge,
                       struct kp_string_list *ret_names)
{
    const struct registry_kind *kind = registry_kind_of(&k8s_resourcequotas_resource);
    const struct wcache_filter filter = {.ns = rq->ns};
    struct wcache_list list;
    int code = 0;
    wcache_list(registry_cache(registry, kind), &filter, NULL, 0, rq->arena, &list);
    for (size_t i = 0; i < list.len && code == 0; i++) {
        const struct k8s_resource_quota *quota = registry_decode(kind, list.items[i], rq->arena);
        struct kp_string_map used;
        if (!quota_covers(quota, rq->resource, obj, usage))
            continue;
        const char *unsaid = rq->resource == &k8s_pods_resource ? quota_unsaid(((const struct k8s_pod *)obj)->spec, &quota->spec->hard, rq->arena) : NULL;
        const struct kp_string_map asked = quota_mask(&charge->delta, &quota->spec->hard, rq->arena);
        if (unsaid)
            code = refuse(charge, rq, kp_arena_printf(rq->arena, "failed quota: %s: must specify %s", quota->metadata->name, unsaid));
        else if (asked.len && (code = check(charge, rq, quota, &asked, &used)) == 0)
            kp_string_list_add(rq->arena, ret_names, quota->metadata->name);
    }
    wcache_list_done(&list);
    return code;
}

int registry_charge_quotas(struct registry *registry, struct registry_request *rq, const void *obj, const void *old)
{
    struct charge charge = {.of = rq};
    struct kp_string_map usage, before;
    struct kp_string_list names = {0};
    if (!is_counted(rq, old) || !registry->admission || !admission_enabled(registry->admission, "ResourceQuota") || !has_quotas(registry, rq))
        return 0;
    quota_usage(rq->resource, obj, rq->now_s, rq->arena, &usage);
    quota_add(&charge.delta, &usage, 1, rq->arena);
    if (old) {
        quota_usage(rq->resource, old, rq->now_s, rq->arena, &before);
        quota_add(&charge.delta, &before, -1, rq->arena);
    }
    if (find_quotas(registry, rq, obj, &usage, &charge, &names) < 0)
        return rq->status->code;
    for (size_t i = 0; i < names.len; i++)
        if (charge_quota(registry, rq, &charge, names.items[i]) < 0)
            return rq->status->code;
    return 0;
}
