/* Deployments: the ReplicaSet of the current template, its revision, clean-up of old ones, and which strategy runs. */
#include "controlplane/controller-manager/deployment.h"
#include "controlplane/controller-manager/controllers.h"

int32_t deployment_set_replicas(const struct k8s_replica_set *set)
{
    return set->spec->has_replicas ? set->spec->replicas : 1;
}

int64_t deployment_revision(const struct k8s_replica_set *set)
{
    int64_t revision = 0;
    const char *text = kp_string_map_get(&set->metadata->annotations, DEPLOYMENT_REVISION);
    return text && kp_parse_i64(text, &revision) == 0 ? revision : 0;
}

static struct k8s_pod_template_spec *without_hash(const struct k8s_pod_template_spec *template, struct kp_arena *arena)
{
    struct k8s_pod_template_spec *copy = KP_OBJECT_CLONE(arena, k8s_pod_template_spec, template);
    kp_string_map_remove(arena, &copy->metadata->labels, DEPLOYMENT_TEMPLATE_HASH);
    return copy;
}

bool deployment_template_equal(const struct k8s_pod_template_spec *a, const struct k8s_pod_template_spec *b, struct kp_arena *arena)
{
    return kp_object_equal(&k8s_pod_template_spec_type, without_hash(a, arena), without_hash(b, arena));
}

const char *deployment_template_hash(const struct k8s_pod_template_spec *template, bool has_collisions, int32_t collisions,
                                     struct kp_arena *arena)
{
    static const char alphabet[] = "bcdfghjklmnpqrstvwxz2456789"; /* upstream's rand.SafeEncodeString */
    KP_AUTO_BUF struct kp_buf json = {0};
    kp_json_encode(&k8s_pod_template_spec_type, template, &json);
    if (has_collisions)
        kp_buf_printf(&json, "#%d", collisions);
    uint64_t hash = kp_hash64(json.data, json.len);
    char out[11];
    for (size_t i = 0; i < 10; i++, hash /= 27)
        out[i] = alphabet[hash % 27];
    out[10] = '\0';
    return kp_arena_strdup(arena, out);
}

static int32_t scaled(const struct kp_int_or_string *value, int32_t total, int32_t fallback_percent, bool round_up)
{
    int64_t percent = fallback_percent;
    if (value && value->kind == KP_IOS_INT)
        return value->i;
    if (value && value->kind == KP_IOS_STRING) {
        char digits[16] = "";
        size_t len = strlen(value->s);
        if (len < 2 || len > sizeof(digits) || value->s[len - 1] != '%')
            return 0; /* validation refuses it */
        memcpy(digits, value->s, len - 1);
        if (kp_parse_i64(digits, &percent) < 0)
            return 0;
    }
    return (int32_t)(round_up ? (percent * total + 99) / 100 : percent * total / 100);
}

void deployment_resolve_bounds(const struct k8s_deployment *deployment, int32_t replicas, int32_t *ret_surge, int32_t *ret_unavailable)
{
    const struct k8s_rolling_update_deployment *rolling = deployment->spec->strategy->rolling_update;
    *ret_surge = *ret_unavailable = 0;
    if (kp_streq(deployment->spec->strategy->type, "Recreate"))
        return;
    *ret_surge = scaled(rolling ? &rolling->max_surge : NULL, replicas, 25, true);
    *ret_unavailable = scaled(rolling ? &rolling->max_unavailable : NULL, replicas, 25, false);
    if (*ret_surge == 0 && *ret_unavailable == 0)
        *ret_unavailable = 1;
    *ret_unavailable = KP_MIN(*ret_unavailable, replicas);
}

void deployment_scale_set(struct deployment_sync *sync, const struct k8s_replica_set *set, int32_t replicas)
{
    int32_t now = deployment_set_replicas(set);
    struct kp_arena *arena = sync->in->arena;
    const char *desired = kp_arena_printf(arena, "%d", sync->wanted);
    const char *most = kp_arena_printf(arena, "%d", sync->wanted + sync->max_surge);
    bool annotated = kp_streq(kp_string_map_get(&set->metadata->annotations, DEPLOYMENT_DESIRED_REPLICAS), desired) &&
                     kp_streq(kp_string_map_get(&set->metadata->annotations, DEPLOYMENT_MAX_REPLICAS), most);
    if (now == replicas && annotated)
        return;
    struct k8s_replica_set *copy = KP_OBJECT_CLONE(arena, k8s_replica_set, set);
    KP_SET(copy->spec, replicas, replicas);
    kp_string_map_set(arena, &copy->metadata->annotations, DEPLOYMENT_DESIRED_REPLICAS, desired);
    kp_string_map_set(arena, &copy->metadata->annotations, DEPLOYMENT_MAX_REPLICAS, most);
    plan_update(sync->plan, &k8s_replicasets_resource, copy);
    if (now != replicas)
        plan_event(sync->plan, &k8s_deployment_type, sync->deployment, "Normal", "ScalingReplicaSet",
                   "Scaled %s replica set %s from %d to %d", replicas > now ? "up" : "down", set->metadata->name, now, replicas);
}

/* ---- the set of the current template --------------------------------------------------------------------------------- */
static bool is_internal_annotation(const char *key)
{
    return kp_streq(key, "kubectl.kubernetes.io/last-applied-configuration") || kp_streq(key, DEPLOYMENT_REVISION) ||
           kp_streq(key, "deployment.kubernetes.io/revision-history") || kp_streq(key, DEPLOYMENT_DESIRED_REPLICAS) ||
           kp_streq(key, DEPLOYMENT_MAX_REPLICAS) || kp_streq(key, "deprecated.deployment.rollback.to");
}

/* Copies what the user annotated on the Deployment and gives the set its revision; true when something changed. */
static bool annotate_set(struct deployment_sync *sync, struct k8s_replica_set *set, int64_t revision)
{
    struct kp_arena *arena = sync->in->arena;
    bool changed = false;
    for (size_t i = 0; i < sync->deployment->metadata->annotations.len; i++) {
        const struct kp_string_pair *pair = &sync->deployment->metadata->annotations.items[i];
        if (is_internal_annotation(pair->key) || kp_streq(kp_string_map_get(&set->metadata->annotations, pair->key), pair->value))
            continue;
        kp_string_map_set(arena, &set->metadata->annotations, pair->key, pair->value);
        changed = true;
    }
    int64_t old = deployment_revision(set);
    if (old >= revision)
        return changed;
    const char *history = kp_string_map_get(&set->metadata->annotations, "deployment.kubernetes.io/revision-history");
    if (old > 0)
        kp_string_map_set(arena, &set->metadata->annotations, "deployment.kubernetes.io/revision-history",
                          kp_empty(history) ? kp_arena_printf(arena, "%lld", (long long)old)
                                            : kp_arena_printf(arena, "%s,%lld", history, (long long)old));
    kp_string_map_set(arena, &set->metadata->annotations, DEPLOYMENT_REVISION, kp_arena_printf(arena, "%lld", (long long)revision));
    return true;
}

/* The Deployment's own revision annotation follows its newest set. */
static void follow_revision(struct deployment_sync *sync, const char *revision)
{
    const struct k8s_object_meta *meta = sync->deployment->metadata;
    if (!revision || kp_streq(kp_string_map_get(&meta->annotations, DEPLOYMENT_REVISION), revision))
        return;
    plan_patch(sync->plan, &k8s_deployments_resource, sync->in->ns, meta->name, NULL, CLIENT_PATCH_MERGE,
               kp_arena_printf(sync->in->arena, "{\"metadata\":{\"annotations\":{\"" DEPLOYMENT_REVISION "\":\"%s\"}}}", revision));
}

static int32_t first_size(const struct deployment_sync *sync)
{
    /* upstream's NewRSNewReplicas: never more pods in all than wanted + surge */
    if (kp_streq(sync->deployment->spec->strategy->type, "Recreate"))
        return sync->wanted;
    int32_t total = 0;
    for (size_t i = 0; i < sync->n_old; i++)
        total += deployment_set_replicas(sync->old[i]);
    return KP_MAX(0, KP_MIN(sync->wanted, sync->wanted + sync->max_surge - total));
}

static int create_set(struct deployment_sync *sync)
{
    struct kp_arena *arena = sync->in->arena;
    const struct k8s_deployment *deployment = sync->deployment;
    const char *hash = deployment_template_hash(deployment->spec->template, deployment->status->has_collision_count,
                                                deployment->status->collision_count, arena);
    const char *name = kp_arena_printf(arena, "%s-%s", deployment->metadata->name, hash);
    struct k8s_replica_set *set = KP_OBJECT_NEW(arena, k8s_replica_set);
    set->metadata->name = name;
    set->metadata->namespace = sync->in->ns;
    engine_set_controller(arena, set->metadata, &k8s_deployment_type, deployment->metadata);
    set->spec->template = KP_OBJECT_CLONE(arena, k8s_pod_template_spec, deployment->spec->template);
    kp_string_map_set(arena, &set->spec->template->metadata->labels, DEPLOYMENT_TEMPLATE_HASH, hash);
    set->metadata->labels = set->spec->template->metadata->labels;
    set->spec->selector = KP_OBJECT_CLONE(arena, k8s_label_selector, deployment->spec->selector);
    kp_string_map_set(arena, &set->spec->selector->match_labels, DEPLOYMENT_TEMPLATE_HASH, hash);
    set->spec->min_ready_seconds = deployment->spec->min_ready_seconds;
    KP_SET(set->spec, replicas, first_size(sync));
    annotate_set(sync, set, sync->max_revision + 1);
    kp_string_map_set(arena, &set->metadata->annotations, DEPLOYMENT_DESIRED_REPLICAS, kp_arena_printf(arena, "%d", sync->wanted));
    kp_string_map_set(arena, &set->metadata->annotations, DEPLOYMENT_MAX_REPLICAS,
                      kp_arena_printf(arena, "%d", sync->wanted + sync->max_surge));
    KP_AUTO(client_object_unref) struct client_object *other =
        client_informer_get(engine_cache(sync->in->engine, &k8s_replicasets_resource), sync->in->ns, name);
    if (other) { /* the name is taken by a set of another template: count a collision, the next plan hashes anew */
        KP_SET(sync->status_copy->status, collision_count,
               deployment->status->has_collision_count ? deployment->status->collision_count + 1 : 1);
        return KP_EAGAIN;
    }
    plan_create(sync->plan, &k8s_replicasets_resource, sync->in->ns, set);
    plan_event_on_failure(sync->plan, &k8s_deployment_type, deployment, "ReplicaSetCreateError", "Failed to create new replica set: ");
    if (set->spec->replicas > 0)
        plan_event(sync->plan, &k8s_deployment_type, deployment, "Normal", "ScalingReplicaSet",
                   "Scaled up replica set %s from 0 to %d", name, set->spec->replicas);
    follow_revision(sync, kp_string_map_get(&set->metadata->annotations, DEPLOYMENT_REVISION));
    deployment_set_condition(sync, "Progressing", "True", "NewReplicaSetCreated",
                             kp_arena_printf(arena, "Created new replica set \"%s\"", name));
    return KP_EAGAIN; /* the rest waits until the cache shows the set */
}

/* 0 when sync->new stands as it should; KP_EAGAIN when this plan made or mended it. */
static int ensure_new_set(struct deployment_sync *sync, bool create)
{
    if (!sync->new)
        return create ? create_set(sync) : 0;
    struct k8s_replica_set *copy = KP_OBJECT_CLONE(sync->in->arena, k8s_replica_set, sync->new);
    bool changed = annotate_set(sync, copy, sync->max_revision + 1);
    if (copy->spec->min_ready_seconds != sync->deployment->spec->min_ready_seconds) {
        copy->spec->min_ready_seconds = sync->deployment->spec->min_ready_seconds;
        changed = true;
    }
    follow_revision(sync, kp_string_map_get(&copy->metadata->annotations, DEPLOYMENT_REVISION));
    if (!changed)
        return 0;
    plan_update(sync->plan, &k8s_replicasets_resource, copy);
    return KP_EAGAIN;
}

static int by_age(const void *a, const void *b)
{
    const struct k8s_replica_set *x = *(const struct k8s_replica_set *const *)a, *y = *(const struct k8s_replica_set *const *)b;
    int64_t d = x->metadata->creation_timestamp.seconds - y->metadata->creation_timestamp.seconds;
    return d ? (d < 0 ? -1 : 1) : strcmp(x->metadata->name, y->metadata->name);
}

static void sort_sets(struct deployment_sync *sync, const struct k8s_replica_set *const *sets, size_t n)
{
    const struct k8s_replica_set **sorted = KP_NEW_ARRAY(sync->in->arena, const struct k8s_replica_set *, n + 1);
    memcpy(sorted, sets, n * sizeof(*sorted));
    qsort(sorted, n, sizeof(*sorted), by_age);
    sync->old = KP_NEW_ARRAY(sync->in->arena, const struct k8s_replica_set *, n + 1);
    for (size_t i = 0; i < n; i++) {
        if (!sync->new && deployment_template_equal(sorted[i]->spec->template, sync->deployment->spec->template, sync->in->arena)) {
            sync->new = sorted[i]; /* the oldest that fits, as upstream's FindNewReplicaSet */
            continue;
        }
        sync->old[sync->n_old++] = sorted[i];
        sync->max_revision = KP_MAX(sync->max_revision, deployment_revision(sorted[i]));
    }
}

static int by_revision(const void *a, const void *b)
{
    int64_t x = deployment_revision(*(const struct k8s_replica_set *const *)a), y = deployment_revision(*(const struct k8s_replica_set *const *)b);
    return x != y ? (x < y ? -1 : 1) : by_age(a, b);
}

/* Removes the oldest revisions beyond the limit; one that still has pods is passed over, not replaced by a newer one. */
static void clean_up(struct deployment_sync *sync)
{
    const struct k8s_deployment_spec *spec = sync->deployment->spec;
    if (!spec->has_revision_history_limit || spec->revision_history_limit == INT32_MAX)
        return;
    const struct k8s_replica_set **alive = KP_NEW_ARRAY(sync->in->arena, const struct k8s_replica_set *, sync->n_old + 1);
    size_t n = 0;
    for (size_t i = 0; i < sync->n_old; i++)
        if (!sync->old[i]->metadata->deletion_timestamp.set)
            alive[n++] = sync->old[i];
    qsort(alive, n, sizeof(*alive), by_revision);
    for (size_t i = 0; i + (size_t)spec->revision_history_limit < n; i++) {
        const struct k8s_replica_set *set = alive[i];
        if (set->status->replicas != 0 || deployment_set_replicas(set) != 0 ||
            set->metadata->generation > set->status->observed_generation)
            continue;
        plan_delete(sync->plan, &k8s_replicasets_resource, sync->in->ns, set->metadata->name, set->metadata->uid, -1, NULL);
    }
}

static bool is_scaling_event(const struct deployment_sync *sync)
{
    const char *desired = kp_arena_printf(sync->in->arena, "%d", sync->wanted);
    for (size_t i = 0; i <= sync->n_old; i++) {
        const struct k8s_replica_set *set = i < sync->n_old ? sync->old[i] : sync->new;
        if (!set || deployment_set_replicas(set) == 0)
            continue;
        const char *had = kp_string_map_get(&set->metadata->annotations, DEPLOYMENT_DESIRED_REPLICAS);
        if (had && !kp_streq(had, desired))
            return true;
    }
    return false;
}

static bool complete(const struct deployment_sync *sync)
{
    const struct k8s_deployment_status *status = sync->status_copy->status;
    return status->updated_replicas == sync->wanted && status->replicas == sync->wanted && status->available_replicas == sync->wanted &&
           status->observed_generation >= sync->deployment->metadata->generation;
}

static size_t pods_of(struct deployment_sync *sync, const struct k8s_pod *const **ret_pods)
{
    const struct client_informer *cache = engine_cache(sync->in->engine, &k8s_pods_resource);
    int index = engine_owner_index(sync->in->engine, &k8s_pods_resource);
    struct {
        const struct k8s_pod **items;
        size_t len;
    } pods = {0};
    for (size_t i = 0; i <= sync->n_old; i++) {
        const struct k8s_replica_set *set = i < sync->n_old ? sync->old[i] : sync->new;
        const void *const *items;
        size_t n = set ? client_view_index(sync->in->view, cache, index, set->metadata->uid, &items) : 0;
        for (size_t k = 0; k < n; k++)
            *KP_LIST_ADD(sync->in->arena, &pods) = items[k];
    }
    *ret_pods = pods.items;
    return pods.len;
}

static void roll(struct deployment_sync *sync)
{
    if (sync->deployment->spec->paused || is_scaling_event(sync)) {
        if (ensure_new_set(sync, false) == 0)
            deployment_scale_proportionally(sync);
        if (sync->deployment->spec->paused)
            clean_up(sync);
        return;
    }
    if (kp_streq(sync->deployment->spec->strategy->type, "Recreate")) {
        const struct k8s_pod *const *pods;
        size_t n = pods_of(sync, &pods);
        bool busy = false;
        for (size_t i = 0; i < sync->n_old; i++)
            busy |= deployment_set_replicas(sync->old[i]) > 0;
        for (size_t i = 0; i < n && !busy; i++) {
            const struct k8s_owner_reference *owner = engine_controller_of(pods[i]->metadata);
            busy = !engine_pod_is_terminal(pods[i]) && !(sync->new && kp_streq(owner->uid, sync->new->metadata->uid));
        }
        if (!busy && ensure_new_set(sync, true) < 0)
            return;
        deployment_recreate(sync, pods, n);
    } else {
        if (ensure_new_set(sync, true) < 0)
            return;
        deployment_rolling_update(sync);
    }
}

static int plan_deployment(const struct plan_input *in, struct plan *plan, struct kp_error *error)
{
    const struct k8s_deployment *deployment = client_view_get(in->view, engine_cache(in->engine, &k8s_deployments_resource), in->ns, in->name);
    if (!deployment)
        return 0;
    struct kp_selector selector;
    if (kp_label_selector_from(deployment->spec->selector, in->arena, &selector, error) < 0)
        return kp_wrap(error, "spec.selector");
    struct deployment_sync sync = {
        .in = in,
        .plan = plan,
        .deployment = deployment,
        .status_copy = KP_OBJECT_CLONE(in->arena, k8s_deployment, deployment),
        .wanted = deployment->spec->has_replicas ? deployment->spec->replicas : 1,
    };
    deployment_resolve_bounds(deployment, sync.wanted, &sync.max_surge, &sync.max_unavailable);
    const struct claim claim = {
        .resource = &k8s_replicasets_resource, .owner_type = &k8s_deployment_type, .owner = deployment->metadata, .selector = &selector,
    };
    const void *const *sets;
    size_t n = claim_objects(in, plan, &claim, &sets);
    sort_sets(&sync, (const struct k8s_replica_set *const *)sets, n);
    if (!deployment->metadata->deletion_timestamp.set)
        roll(&sync);
    deployment_status(&sync);
    if (!deployment->metadata->deletion_timestamp.set && complete(&sync))
        clean_up(&sync);
    return 0;
}

/* A pod's end lets a Recreate go on; the ReplicaSet's status change tells of everything else. */
static void map_pod(struct controller_run *run, const struct client_object *old, const struct client_object *new)
{
    const struct k8s_owner_reference *owner = engine_controller_of(kp_object_meta(old ? old->type : new->type, old ? old->data : new->data));
    if (!old || !owner || !kp_streq(owner->kind, "ReplicaSet"))
        return;
    KP_AUTO(client_object_unref) struct client_object *set =
        client_informer_get(engine_cache(engine_of(run), &k8s_replicasets_resource), old->ns, owner->name);
    const struct k8s_owner_reference *deployment = set ? engine_controller_of(kp_object_meta(set->type, set->data)) : NULL;
    if (deployment && kp_streq(deployment->kind, "Deployment") && (!new || engine_pod_is_terminal(new->data)))
        engine_enqueue(run, old->ns, deployment->name);
}

static int setup_deployment(struct engine *engine, struct controller_run *run, void **ret_state, struct kp_error *error)
{
    engine_owner_index(engine, &k8s_replicasets_resource);
    engine_owner_index(engine, &k8s_pods_resource);
    engine_watch(run, &k8s_deployments_resource, engine_map_self);
    engine_watch_owned(run, &k8s_replicasets_resource, &k8s_deployments_resource);
    engine_watch(run, &k8s_pods_resource, map_pod);
    return 0;
}

const struct controller deployment_controller = {
    .name = "deployment-controller", .workers = 2, .setup = setup_deployment, .plan = plan_deployment,
};
