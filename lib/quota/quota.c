/* What objects use of ResourceQuotas, and which quotas are about them. */
#include "lib/quota/quota.h"

#define NAME_MAX_LEN 384 /* "requests." and the name of an extended resource (317) */

/* ---- amounts --------------------------------------------------------------------------------------------------------------- */
static void add_one(struct kp_string_map *total, const char *name, const struct kp_quantity *quantity, int sign, struct kp_arena *arena)
{
    struct kp_quantity sum = kp_quantity_of(kp_string_map_get(total, name));
    if (sign < 0)
        kp_quantity_sub(&sum, quantity);
    else
        kp_quantity_add(&sum, quantity);
    kp_string_map_set(arena, total, kp_arena_strdup(arena, name), kp_quantity_string(&sum, arena));
}

void quota_add(struct kp_string_map *total, const struct kp_string_map *more, int sign, struct kp_arena *arena)
{
    for (size_t i = 0; i < more->len; i++) {
        const struct kp_quantity quantity = kp_quantity_of(more->items[i].value);
        add_one(total, more->items[i].key, &quantity, sign, arena);
    }
}

struct kp_string_map quota_mask(const struct kp_string_map *amounts, const struct kp_string_map *names, struct kp_arena *arena)
{
    struct kp_string_map masked = {0};
    for (size_t i = 0; i < amounts->len; i++)
        if (kp_string_map_get(names, amounts->items[i].key) && kp_quantity_str_cmp(amounts->items[i].value, "0") != 0)
            kp_string_map_set(arena, &masked, amounts->items[i].key, amounts->items[i].value);
    return masked;
}

const char *quota_print(const struct kp_string_map *amounts, struct kp_arena *arena)
{
    KP_AUTO_BUF struct kp_buf out = {0};
    for (size_t i = 0; i < amounts->len; i++)
        kp_buf_printf(&out, "%s%s=%s", i ? "," : "", amounts->items[i].key, amounts->items[i].value);
    return kp_arena_strdup(arena, out.len ? out.data : "");
}

static void count(struct kp_string_map *usage, const char *name, int64_t n, struct kp_arena *arena)
{
    const struct kp_quantity quantity = kp_quantity_from_i64(n, KP_QUANTITY_DECIMAL_SI);
    add_one(usage, name, &quantity, 1, arena);
}

/* ---- pods ------------------------------------------------------------------------------------------------------------------ */
static const struct kp_string_map *amounts_of(const struct k8s_container *container, bool limit)
{
    return limit ? &container->resources->limits : &container->resources->requests;
}

const char *quota_pod_amount(const struct k8s_pod_spec *spec, bool limit, const char *name, struct kp_arena *arena)
{
    struct kp_quantity total = {0}, sidecars = {0}, most = {0};
    bool found = false;
    for (size_t i = 0; i < spec->containers.len; i++) {
        const char *value = kp_string_map_get(amounts_of(&spec->containers.items[i], limit), name);
        const struct kp_quantity quantity = kp_quantity_of(value);
        kp_quantity_add(&total, &quantity);
        found |= value != NULL;
    }
    for (size_t i = 0; i < spec->init_containers.len; i++) {
        const char *value = kp_string_map_get(amounts_of(&spec->init_containers.items[i], limit), name);
        struct kp_quantity quantity = kp_quantity_of(value);
        bool stays = kp_streq(spec->init_containers.items[i].restart_policy, "Always");
        if (stays)
            kp_quantity_add(&total, &quantity);
        kp_quantity_add(&quantity, &sidecars);
        if (stays)
            sidecars = quantity;
        if (kp_quantity_cmp(&quantity, &most) > 0)
            most = quantity;
        found |= value != NULL;
    }
    if (!found)
        return NULL;
    if (kp_quantity_cmp(&most, &total) > 0)
        total = most;
    const struct kp_quantity overhead = kp_quantity_of(kp_string_map_get(&spec->overhead, name));
    kp_quantity_add(&total, &overhead);
    return kp_quantity_string(&total, arena);
}

static bool is_compute(const char *name)
{
    return strcmp(name, "cpu") == 0 || strcmp(name, "memory") == 0 || strcmp(name, "ephemeral-storage") == 0 || kp_starts_with(name, "hugepages-");
}

/* cpu counts as "cpu" and "requests.cpu", an extended resource as "requests.example.com/gpu", limits of what a node is made of as "limits.cpu". */
static void add_amount(struct kp_string_map *usage, const struct k8s_pod_spec *spec, bool limit, const char *name, struct kp_arena *arena)
{
    char full[NAME_MAX_LEN];
    const char *value = quota_pod_amount(spec, limit, name, arena);
    snprintf(full, sizeof(full), "%s.%s", limit ? "limits" : "requests", name);
    if (!value || kp_string_map_get(usage, full) || (limit && (!is_compute(name) || kp_starts_with(name, "hugepages-"))))
        return;
    kp_string_map_set(arena, usage, kp_arena_strdup(arena, full), value);
    if (!limit && is_compute(name))
        kp_string_map_set(arena, usage, name, value);
}

static void add_amounts(struct kp_string_map *usage, const struct k8s_pod_spec *spec, const struct k8s_container_items *containers, struct kp_arena *arena)
{
    for (size_t i = 0; i < containers->len; i++)
        for (int limit = 0; limit < 2; limit++) {
            const struct kp_string_map *amounts = amounts_of(&containers->items[i], limit);
            for (size_t k = 0; k < amounts->len; k++)
                add_amount(usage, spec, limit, amounts->items[k].key, arena);
        }
}

/* A pod that has ended, or whose grace is over, holds nothing any more: upstream's QuotaV1Pod. */
static bool holds(const struct k8s_pod *pod, int64_t now_s)
{
    const struct k8s_object_meta *meta = pod->metadata;
    if (kp_streq(pod->status->phase, "Succeeded") || kp_streq(pod->status->phase, "Failed"))
        return false;
    return !meta->deletion_timestamp.set || !meta->has_deletion_grace_period_seconds ||
           now_s <= meta->deletion_timestamp.seconds + meta->deletion_grace_period_seconds;
}

static void use_pod(const void *object, int64_t now_s, struct kp_string_map *usage, struct kp_arena *arena)
{
    const struct k8s_pod *pod = object;
    if (!holds(pod, now_s))
        return;
    count(usage, "pods", 1, arena);
    add_amounts(usage, pod->spec, &pod->spec->containers, arena);
    add_amounts(usage, pod->spec, &pod->spec->init_containers, arena);
}

/* ---- services and claims ---------------------------------------------------------------------------------------------------- */
static void use_service(const void *object, int64_t now_s, struct kp_string_map *usage, struct kp_arena *arena)
{
    const struct k8s_service_spec *spec = ((const struct k8s_service *)object)->spec;
    bool balanced = kp_streq(spec->type, "LoadBalancer"), with_ports = !balanced || !spec->has_allocate_load_balancer_node_ports || spec->allocate_load_balancer_node_ports;
    int64_t ports = 0;
    (void)now_s;
    count(usage, "services", 1, arena);
    if (balanced)
        count(usage, "services.loadbalancers", 1, arena);
    for (size_t i = 0; i < spec->ports.len; i++)
        ports += with_ports || spec->ports.items[i].node_port > 0; /* without: only those that somebody asked for */
    if (ports && (balanced || kp_streq(spec->type, "NodePort")))
        count(usage, "services.nodeports", ports, arena);
}

static void use_claim(const void *object, int64_t now_s, struct kp_string_map *usage, struct kp_arena *arena)
{
    const struct k8s_persistent_volume_claim_spec *spec = ((const struct k8s_persistent_volume_claim *)object)->spec;
    const char *size = spec->resources ? kp_string_map_get(&spec->resources->requests, "storage") : NULL, *class = spec->storage_class_name;
    const struct kp_quantity quantity = kp_quantity_of(size);
    (void)now_s;
    count(usage, "persistentvolumeclaims", 1, arena);
    if (!kp_empty(class))
        count(usage, kp_arena_printf(arena, "%s.storageclass.storage.k8s.io/persistentvolumeclaims", class), 1, arena);
    if (size)
        add_one(usage, "requests.storage", &quantity, 1, arena);
    if (size && !kp_empty(class))
        add_one(usage, kp_arena_printf(arena, "%s.storageclass.storage.k8s.io/requests.storage", class), &quantity, 1, arena);
}

/* ---- which ------------------------------------------------------------------------------------------------------------------ */
/* Resources of the core group that are counted under their own name as well; what else they use. */
static const struct counted {
    const char *resource;
    void (*use)(const void *object, int64_t now_s, struct kp_string_map *usage, struct kp_arena *arena);
} counted[] = {
    {"pods", use_pod}, {"services", use_service}, {"persistentvolumeclaims", use_claim}, {"replicationcontrollers", NULL}, {"resourcequotas", NULL},
    {"secrets", NULL}, {"configmaps", NULL},
};

static const struct counted *find(const struct kp_resource *resource)
{
    for (size_t i = 0; i < KP_ARRAY_LEN(counted); i++)
        if (kp_empty(resource->group) && strcmp(resource->name, counted[i].resource) == 0)
            return &counted[i];
    return NULL;
}

static const char *count_name(const struct kp_resource *resource, char text[static NAME_MAX_LEN])
{
    snprintf(text, NAME_MAX_LEN, "count/%s%s%s", resource->name, kp_empty(resource->group) ? "" : ".", resource->group ? resource->group : "");
    return text;
}

void quota_usage(const struct kp_resource *resource, const void *object, int64_t now_s, struct kp_arena *arena, struct kp_string_map *ret)
{
    char name[NAME_MAX_LEN];
    const struct counted *row = find(resource);
    *ret = (struct kp_string_map){0};
    count(ret, count_name(resource, name), 1, arena);
    if (row && row->use)
        row->use(object, now_s, ret, arena);
    else if (row)
        count(ret, row->resource, 1, arena);
}

bool quota_name_is_of(const char *name, const struct kp_resource *resource)
{
    char own[NAME_MAX_LEN];
    const struct counted *row = find(resource);
    if (strcmp(name, count_name(resource, own)) == 0 || (row && strcmp(name, row->resource) == 0))
        return true;
    if (!row)
        return false;
    bool of_claims = strcmp(name, "requests.storage") == 0 || strstr(name, ".storageclass.storage.k8s.io/") != NULL;
    if (row->use == use_claim)
        return of_claims;
    if (row->use == use_service)
        return kp_starts_with(name, "services.");
    return row->use == use_pod && !of_claims && (is_compute(name) || kp_starts_with(name, "requests.") || kp_starts_with(name, "limits."));
}

/* ---- scopes ----------------------------------------------------------------------------------------------------------------- */
static bool is_best_effort(const struct k8s_pod_spec *spec)
{
    const struct k8s_container_items *lists[] = {&spec->containers, &spec->init_containers};
    for (size_t l = 0; l < KP_ARRAY_LEN(lists); l++)
        for (size_t i = 0; i < lists[l]->len; i++)
            for (int limit = 0; limit < 2; limit++) {
                const struct kp_string_map *amounts = amounts_of(&lists[l]->items[i], limit);
                if (kp_quantity_str_cmp(kp_string_map_get(amounts, "cpu"), "0") > 0 || kp_quantity_str_cmp(kp_string_map_get(amounts, "memory"), "0") > 0)
                    return false;
            }
    return true;
}

static bool reaches_out(const struct k8s_pod_affinity_term_items *required, const struct k8s_weighted_pod_affinity_term_items *preferred)
{
    for (size_t i = 0; i < required->len; i++)
        if (required->items[i].namespaces.len || required->items[i].namespace_selector)
            return true;
    for (size_t i = 0; i < preferred->len; i++)
        if (preferred->items[i].pod_affinity_term->namespaces.len || preferred->items[i].pod_affinity_term->namespace_selector)
            return true;
    return false;
}

static bool minds_other_namespaces(const struct k8s_pod_spec *spec)
{
    const struct k8s_affinity *a = spec->affinity;
    return a && ((a->pod_affinity && reaches_out(&a->pod_affinity->required_during_scheduling_ignored_during_execution,
                                                 &a->pod_affinity->preferred_during_scheduling_ignored_during_execution)) ||
                 (a->pod_anti_affinity && reaches_out(&a->pod_anti_affinity->required_during_scheduling_ignored_during_execution,
                                                      &a->pod_anti_affinity->preferred_during_scheduling_ignored_during_execution)));
}

/* values: of a PriorityClass' selector; op: "Exists" for a plain scope. */
static bool scope_holds(const char *scope, const char *op, const struct kp_string_list *values, const struct k8s_pod_spec *spec)
{
    if (kp_streq(scope, "Terminating"))
        return spec->has_active_deadline_seconds;
    if (kp_streq(scope, "NotTerminating"))
        return !spec->has_active_deadline_seconds;
    if (kp_streq(scope, "BestEffort"))
        return is_best_effort(spec);
    if (kp_streq(scope, "NotBestEffort"))
        return !is_best_effort(spec);
    if (kp_streq(scope, "CrossNamespacePodAffinity"))
        return minds_other_namespaces(spec);
    if (!kp_streq(scope, "PriorityClass"))
        return false;
    bool has = !kp_empty(spec->priority_class_name), listed = has && values && kp_string_list_has(values, spec->priority_class_name);
    if (kp_streq(op, "In"))
        return listed;
    if (kp_streq(op, "NotIn"))
        return !listed;
    return kp_streq(op, "DoesNotExist") ? !has : has;
}

static bool scopes_hold(const struct k8s_resource_quota *quota, const struct kp_resource *resource, const void *object)
{
    const struct k8s_scope_selector *selector = quota->spec->scope_selector;
    const struct counted *row = find(resource);
    if (quota->spec->scopes.len == 0 && (!selector || selector->match_expressions.len == 0))
        return true;
    if (!row || row->use != use_pod)
        return false; /* scopes are about pods */
    const struct k8s_pod_spec *spec = ((const struct k8s_pod *)object)->spec;
    for (size_t i = 0; i < quota->spec->scopes.len; i++)
        if (!scope_holds(quota->spec->scopes.items[i], "Exists", NULL, spec))
            return false;
    for (size_t i = 0; selector && i < selector->match_expressions.len; i++) {
        const struct k8s_scoped_resource_selector_requirement *r = &selector->match_expressions.items[i];
        if (!scope_holds(r->scope_name, r->operator, &r->values, spec))
            return false;
    }
    return true;
}

bool quota_covers(const struct k8s_resource_quota *quota, const struct kp_resource *resource, const void *object, const struct kp_string_map *usage)
{
    bool used = false;
    for (size_t i = 0; i < quota->spec->hard.len; i++)
        used |= kp_string_map_get(usage, quota->spec->hard.items[i].key) || quota_name_is_of(quota->spec->hard.items[i].key, resource);
    return used && scopes_hold(quota, resource, object);
}

/* ---- what must be said ------------------------------------------------------------------------------------------------------- */
const char *quota_unsaid(const struct k8s_pod_spec *spec, const struct kp_string_map *hard, struct kp_arena *arena)
{
    static const struct {
        const char *name, *resource;
        bool limit;
    } needed[] = {{"cpu", "cpu", false},          {"limits.cpu", "cpu", true},      {"limits.memory", "memory", true},
                  {"memory", "memory", false},    {"requests.cpu", "cpu", false},   {"requests.memory", "memory", false}};
    const struct k8s_container_items *lists[] = {&spec->containers, &spec->init_containers};
    KP_AUTO_BUF struct kp_buf out = {0};
    for (size_t n = 0; n < KP_ARRAY_LEN(needed); n++) {
        bool any = false;
        if (!kp_string_map_get(hard, needed[n].name))
            continue;
        for (size_t l = 0; l < KP_ARRAY_LEN(lists); l++)
            for (size_t i = 0; i < lists[l]->len; i++) {
                if (kp_string_map_get(amounts_of(&lists[l]->items[i], needed[n].limit), needed[n].resource))
                    continue;
                if (any)
                    kp_buf_printf(&out, ",%s", lists[l]->items[i].name);
                else
                    kp_buf_printf(&out, "%s%s for: %s", out.len ? "; " : "", needed[n].name, lists[l]->items[i].name);
                any = true;
            }
    }
    return out.len ? kp_arena_strdup(arena, out.data) : NULL;
}
