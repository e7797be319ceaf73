/* Adopting, releasing and listing a controller's objects; pods from templates; which pods go first. */
#include "controlplane/controller-manager/claim.h"

static const char *adopt_patch(struct kp_arena *arena, const struct claim *claim, const struct k8s_object_meta *meta)
{
    char api_version[KP_API_VERSION_MAX];
    KP_AUTO_BUF struct kp_buf body = {0};
    kp_buf_puts(&body, "{\"metadata\":{\"ownerReferences\":[{\"apiVersion\":");
    kp_json_string(&body, kp_type_api_version(claim->owner_type, api_version));
    kp_buf_puts(&body, ",\"kind\":");
    kp_json_string(&body, claim->owner_type->kind);
    kp_buf_puts(&body, ",\"name\":");
    kp_json_string(&body, claim->owner->name);
    kp_buf_puts(&body, ",\"uid\":");
    kp_json_string(&body, claim->owner->uid);
    kp_buf_puts(&body, ",\"controller\":true,\"blockOwnerDeletion\":true}],\"uid\":");
    kp_json_string(&body, meta->uid);
    kp_buf_puts(&body, "}}");
    return kp_arena_strdup(arena, body.data);
}

static const char *release_patch(struct kp_arena *arena, const struct claim *claim, const struct k8s_object_meta *meta)
{
    KP_AUTO_BUF struct kp_buf body = {0};
    kp_buf_puts(&body, "{\"metadata\":{\"ownerReferences\":[{\"$patch\":\"delete\",\"uid\":");
    kp_json_string(&body, claim->owner->uid);
    kp_buf_puts(&body, "}],\"uid\":");
    kp_json_string(&body, meta->uid);
    kp_buf_puts(&body, "}}");
    return kp_arena_strdup(arena, body.data);
}

static int by_name(const void *a, const void *b, void *type)
{
    return strcmp(kp_object_meta(type, *(void *const *)a)->name, kp_object_meta(type, *(void *const *)b)->name);
}

size_t claim_objects(const struct plan_input *in, struct plan *plan, const struct claim *claim, const void *const **ret_items)
{
    const struct kp_type *type = claim->resource->type;
    const struct client_informer *cache = engine_cache(in->engine, claim->resource);
    int index = engine_owner_index(in->engine, claim->resource);
    const void *const *owned, *const *orphans;
    size_t n_owned = client_view_index(in->view, cache, index, claim->owner->uid, &owned);
    size_t n_orphans = claim->selector->nothing ? 0 : client_view_index(in->view, cache, index, in->ns, &orphans);
    const void **items = KP_NEW_ARRAY(in->arena, const void *, n_owned + n_orphans + 1);
    size_t n = 0;
    for (size_t i = 0; i < n_owned; i++) {
        const struct k8s_object_meta *meta = kp_object_meta(type, owned[i]);
        if (!engine_is_controlled_by(meta, claim->owner->uid) || !kp_streq(meta->namespace, in->ns))
            continue;
        if (kp_selector_matches(claim->selector, &meta->labels))
            items[n++] = owned[i];
        else if (!claim->owner->deletion_timestamp.set)
            plan_patch(plan, claim->resource, in->ns, meta->name, NULL, CLIENT_PATCH_STRATEGIC, release_patch(in->arena, claim, meta));
    }
    for (size_t i = 0; i < n_orphans && !claim->owner->deletion_timestamp.set; i++) {
        const struct k8s_object_meta *meta = kp_object_meta(type, orphans[i]);
        if (engine_controller_of(meta) || meta->deletion_timestamp.set || !kp_streq(meta->namespace, in->ns) ||
            !kp_selector_matches(claim->selector, &meta->labels) || (claim->may_adopt && !claim->may_adopt(orphans[i])))
            continue;
        plan_patch(plan, claim->resource, in->ns, meta->name, NULL, CLIENT_PATCH_STRATEGIC, adopt_patch(in->arena, claim, meta));
        items[n++] = orphans[i];
    }
    qsort_r(items, n, sizeof(*items), by_name, (void *)type);
    *ret_items = items;
    return n;
}

static bool pod_may_be_adopted(const void *object)
{
    return engine_pod_is_active(object);
}

size_t claim_pods(const struct plan_input *in, struct plan *plan, const struct kp_type *owner_type,
                  const struct k8s_object_meta *owner, const struct kp_selector *selector, const struct k8s_pod *const **ret_pods)
{
    const struct claim claim = {
        .resource = &k8s_pods_resource, .owner_type = owner_type, .owner = owner, .selector = selector, .may_adopt = pod_may_be_adopted,
    };
    const void *const *items;
    size_t n = claim_objects(in, plan, &claim, &items);
    *ret_pods = (const struct k8s_pod *const *)items;
    return n;
}

struct k8s_pod *pod_from_template(struct kp_arena *arena, const struct k8s_pod_template_spec *template,
                                  const struct kp_type *owner_type, const struct k8s_object_meta *owner)
{
    struct k8s_pod *pod = KP_OBJECT_NEW(arena, k8s_pod);
    const struct k8s_pod_template_spec *copy = KP_OBJECT_CLONE(arena, k8s_pod_template_spec, template);
    pod->metadata->labels = copy->metadata->labels;
    pod->metadata->annotations = copy->metadata->annotations;
    pod->metadata->finalizers = copy->metadata->finalizers;
    pod->metadata->namespace = owner->namespace;
    /* upstream's generatePodsPrefix: the dash is left out when it would make the prefix no valid name */
    pod->metadata->generate_name = kp_arena_printf(arena, "%s-", owner->name);
    engine_set_controller(arena, pod->metadata, owner_type, owner);
    pod->spec = copy->spec;
    return pod;
}

/* ---- which pods go first --------------------------------------------------------------------------------------------- */
struct ranked {
    const struct k8s_pod *pod;
    int rank;
    int phase; /* Pending 0, Unknown 1, Running 2 */
    int64_t cost, ready_since_s, restarts;
};

static int64_t deletion_cost(const struct k8s_pod *pod)
{
    const char *text = kp_string_map_get(&pod->metadata->annotations, "controller.kubernetes.io/pod-deletion-cost");
    int64_t cost = 0;
    return text && kp_parse_i64(text, &cost) == 0 ? cost : 0;
}

static int64_t restarts_of(const struct k8s_pod *pod)
{
    int64_t most = 0;
    for (size_t i = 0; i < pod->status->container_statuses.len; i++)
        most = KP_MAX(most, (int64_t)pod->status->container_statuses.items[i].restart_count);
    return most;
}

static int compare(int64_t a, int64_t b)
{
    return a < b ? -1 : a > b;
}

static int by_rank(const void *a, const void *b)
{
    const struct ranked *x = a, *y = b;
    int order = compare(!kp_empty(x->pod->spec->node_name), !kp_empty(y->pod->spec->node_name));
    if (!order)
        order = compare(x->phase, y->phase);
    if (!order)
        order = compare(x->ready_since_s > 0, y->ready_since_s > 0);
    if (!order)
        order = compare(x->cost, y->cost);
    if (!order)
        order = compare(y->rank, x->rank);
    if (!order) /* ready for a shorter time first; 0 (not ready) was told apart above */
        order = compare(y->ready_since_s, x->ready_since_s);
    if (!order)
        order = compare(y->restarts, x->restarts);
    if (!order)
        order = compare(y->pod->metadata->creation_timestamp.seconds, x->pod->metadata->creation_timestamp.seconds);
    return order ? order : strcmp(x->pod->metadata->name, y->pod->metadata->name);
}

void pods_sort_for_deletion(const struct k8s_pod **pods, size_t n, const int *ranks, struct kp_arena *arena)
{
    struct ranked *ranked = KP_NEW_ARRAY(arena, struct ranked, n + 1);
    for (size_t i = 0; i < n; i++) {
        const char *phase = pods[i]->status->phase;
        ranked[i] = (struct ranked){
            .pod = pods[i],
            .rank = ranks[i],
            .phase = kp_streq(phase, "Running") ? 2 : kp_streq(phase, "Unknown") ? 1 : 0,
            .cost = deletion_cost(pods[i]),
            .ready_since_s = engine_pod_ready_since_s(pods[i]),
            .restarts = restarts_of(pods[i]),
        };
    }
    qsort(ranked, n, sizeof(*ranked), by_rank);
    for (size_t i = 0; i < n; i++)
        pods[i] = ranked[i].pod;
}
