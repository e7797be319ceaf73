/* ResourceQuotas: counts again what a namespace uses. What comes is charged by the API server; here is seen what has gone, and what quotas began with. */
#include "controlplane/controller-manager/customs.h"
#include "controlplane/controller-manager/controllers.h"
#include "lib/quota/quota.h"

#define RESYNC_MS (5 * 60 * 1000) /* upstream's --resource-quota-sync-period */
#define RESOURCES_MAX 128
#define LISTING_MS 500 /* until what is being listed is looked at again */

struct quotas {
    struct customs *customs;
    const struct kp_resource *resources[RESOURCES_MAX]; /* what can be counted, of the schema */
    size_t n;
};

/* Of these more than the number counts: they are cached whole. */
static bool is_whole(const struct kp_resource *resource)
{
    return resource == &k8s_pods_resource || resource == &k8s_services_resource || resource == &k8s_persistentvolumeclaims_resource;
}

/* ---- counting -------------------------------------------------------------------------------------------------------------- */
static bool is_about(const struct k8s_resource_quota *quota, const struct kp_resource *resource)
{
    for (size_t i = 0; i < quota->spec->hard.len; i++)
        if (quota_name_is_of(quota->spec->hard.items[i].key, resource))
            return true;
    return false;
}

static void count_resource(const struct plan_input *in, const struct k8s_resource_quota *quota, const struct kp_resource *resource,
                           const struct client_informer *cache, struct kp_string_map *total)
{
    const void *const *objects;
    size_t n = client_view_list(in->view, cache, in->ns, &objects);
    for (size_t i = 0; i < n; i++) {
        struct kp_string_map usage;
        quota_usage(resource, objects[i], in->now_s, in->arena, &usage);
        if (quota_covers(quota, resource, objects[i], &usage))
            quota_add(total, &usage, 1, in->arena);
    }
}

/* "count/widgets.example.org". False while one that the quota is about is still being listed. */
static bool count_customs(const struct plan_input *in, const struct k8s_resource_quota *quota, struct kp_string_map *total)
{
    const struct quotas *quotas = in->state;
    KP_AUTO(customs_release) struct customs_list *customs = customs_hold(quotas->customs);
    for (size_t i = 0; i < customs->len; i++) {
        const struct custom *custom = customs->items[i];
        if (!custom->informer || !custom->resource.namespaced || !is_about(quota, &custom->resource))
            continue;
        if (!custom_ready(custom))
            return false;
        count_resource(in, quota, &custom->resource, custom->informer, total);
    }
    return true;
}

static int plan_quota(const struct plan_input *in, struct plan *plan, struct kp_error *error)
{
    const struct quotas *quotas = in->state;
    const struct k8s_resource_quota *quota = client_view_get(in->view, engine_cache(in->engine, &k8s_resourcequotas_resource), in->ns, in->name);
    struct kp_string_map total = {0}, used = {0};
    (void)error;
    if (!quota || quota->metadata->deletion_timestamp.set)
        return 0;
    const struct kp_string_map *hard = &quota->spec->hard;
    for (size_t i = 0; i < quotas->n; i++) {
        const struct kp_resource *resource = quotas->resources[i];
        if (is_about(quota, resource))
            count_resource(in, quota, resource, is_whole(resource) ? engine_cache(in->engine, resource) : engine_metadata_cache(in->engine, resource), &total);
    }
    if (!count_customs(in, quota, &total)) {
        plan_requeue_after_ms(plan, LISTING_MS);
        return 0;
    }
    for (size_t i = 0; i < hard->len; i++) {
        const char *amount = kp_string_map_get(&total, hard->items[i].key);
        kp_string_map_set(in->arena, &used, hard->items[i].key, amount ? amount : "0");
    }
    plan_requeue_after_ms(plan, RESYNC_MS);
    if (kp_string_map_equal(&quota->status->hard, hard) && kp_string_map_equal(&quota->status->used, &used))
        return 0;
    struct k8s_resource_quota *copy = KP_OBJECT_CLONE(in->arena, k8s_resource_quota, quota);
    copy->status->hard = *hard;
    copy->status->used = used;
    plan_update_status(plan, &k8s_resourcequotas_resource, copy);
    return 0;
}

/* ---- what is looked at ------------------------------------------------------------------------------------------------------ */
/* Not each change of used: what comes is charged before it is there, and counting in between would forget it. */
static void map_quota(struct controller_run *run, const struct client_object *old, const struct client_object *new)
{
    if (new && !(old && kp_object_equal(&k8s_resource_quota_spec_type, ((const struct k8s_resource_quota *)old->data)->spec,
                                        ((const struct k8s_resource_quota *)new->data)->spec)))
        engine_enqueue(run, new->ns, new->name);
}

static void enqueue_namespace(struct controller_run *run, const char *ns)
{
    KP_AUTO(client_view_free) struct client_view *view = client_view_new();
    const void *const *quotas;
    size_t n = client_view_list(view, engine_cache(engine_of(run), &k8s_resourcequotas_resource), ns, &quotas);
    for (size_t i = 0; i < n; i++)
        engine_enqueue(run, ns, ((const struct k8s_resource_quota *)quotas[i])->metadata->name);
}

static void on_change(struct client_object *old, struct client_object *new, void *arg)
{
    if (!new)
        enqueue_namespace(arg, old->ns);
}

static void on_custom(const struct custom *custom, const struct k8s_object_meta *old, const struct k8s_object_meta *new, void *arg)
{
    if (!new && custom->resource.namespaced)
        enqueue_namespace(arg, old->namespace);
}

/* A pod that has ended gives back what it used. */
static void on_pod(struct client_object *old, struct client_object *new, void *arg)
{
    if (old && (!new || (!engine_pod_is_terminal(old->data) && engine_pod_is_terminal(new->data))))
        enqueue_namespace(arg, old->ns);
}

static int setup_quota(struct engine *engine, struct controller_run *run, void **ret_state, struct kp_error *error)
{
    const unsigned needed = KP_VERB_LIST | KP_VERB_WATCH | KP_VERB_DELETE;
    struct quotas *quotas = kp_calloc(1, sizeof(*quotas));
    size_t count;
    const struct kp_resource *const *resources = kp_resources(&count);
    (void)error;
    *ret_state = quotas;
    engine_watch(run, &k8s_resourcequotas_resource, map_quota);
    quotas->customs = engine_follow_customs(engine, run);
    customs_follow(quotas->customs, on_custom, run);
    for (size_t i = 0; i < count; i++) {
        const struct kp_resource *resource = resources[i];
        /* Events are not counted, as upstream; the old version of autoscalers would be the same objects again. */
        if ((resource->verbs & needed) != needed || !resource->namespaced || kp_streq(resource->name, "events") ||
            (kp_streq(resource->group, "autoscaling") && kp_streq(resource->version, "v1")))
            continue;
        KP_ASSERT(quotas->n < RESOURCES_MAX);
        quotas->resources[quotas->n++] = resource;
        struct client_informer *informer = is_whole(resource) ? engine_informer(engine, resource) : engine_metadata_informer(engine, resource);
        client_informer_add_handler(informer, resource == &k8s_pods_resource ? on_pod : on_change, run);
    }
    return 0;
}

const struct controller resourcequota_controller = {
    .name = "resourcequota-controller", .setup = setup_quota, .plan = plan_quota, .teardown = free,
};
