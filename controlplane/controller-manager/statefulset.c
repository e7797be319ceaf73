/* StatefulSets: pods with a fixed name each, made and taken down in order, with claims of their own that outlive them. */
#include "controlplane/controller-manager/controllers.h"
#include "controlplane/controller-manager/revision.h"
#include "controlplane/controller-manager/statefulset_claims.h"

#define SET_HASH_LABEL "controller-revision-hash"
#define SET_ORDINALS_MAX 5000 /* looked at in one plan */

struct set_sync {
    const struct plan_input *in;
    struct plan *plan;
    const struct k8s_stateful_set *set;
    const struct k8s_pod *const *pods;
    size_t n_pods;
    const struct k8s_pod_template_spec *current_template; /* what ordinals below the partition are made of */
    const char *current, *update; /* names of revisions */
    int64_t first, last; /* ordinals wanted: first <= i < last */
    int64_t partition;
    bool parallel;
};

/* -1 when the name is not "<set>-<number>". */
static int64_t ordinal_of(const struct set_sync *sync, const struct k8s_pod *pod)
{
    const char *name = pod->metadata->name, *set = sync->set->metadata->name;
    int64_t ordinal;
    size_t len = strlen(set);
    return strncmp(name, set, len) == 0 && name[len] == '-' && kp_parse_i64(name + len + 1, &ordinal) == 0 && ordinal >= 0 ? ordinal : -1;
}

static const struct k8s_pod *pod_at(const struct set_sync *sync, int64_t ordinal)
{
    for (size_t i = 0; i < sync->n_pods; i++)
        if (ordinal_of(sync, sync->pods[i]) == ordinal)
            return sync->pods[i];
    return NULL;
}

static bool is_of(const struct k8s_pod *pod, const char *revision)
{
    return kp_streq(kp_string_map_get(&pod->metadata->labels, SET_HASH_LABEL), revision);
}

static bool is_available(struct set_sync *sync, const struct k8s_pod *pod)
{
    int64_t left_s = sync->set->spec->min_ready_seconds - (sync->in->now_s - engine_pod_ready_since_s(pod));
    if (!engine_pod_is_ready(pod))
        return false;
    if (sync->set->spec->min_ready_seconds == 0 || left_s <= 0)
        return true;
    plan_requeue_after_ms(sync->plan, left_s * 1000);
    return false;
}

/* ---- making a pod and taking it down --------------------------------------------------------------------------------------- */
static void create_pod(struct set_sync *sync, int64_t ordinal)
{
    struct kp_arena *arena = sync->in->arena;
    bool old = ordinal < sync->first + sync->partition && sync->current_template;
    const struct k8s_pod_template_spec *template = old ? sync->current_template : sync->set->spec->template;
    struct k8s_pod *pod = pod_from_template(arena, template, &k8s_stateful_set_type, sync->set->metadata);
    pod->metadata->generate_name = NULL;
    pod->metadata->name = kp_arena_printf(arena, "%s-%lld", sync->set->metadata->name, (long long)ordinal);
    kp_string_map_set(arena, &pod->metadata->labels, "statefulset.kubernetes.io/pod-name", pod->metadata->name);
    kp_string_map_set(arena, &pod->metadata->labels, "apps.kubernetes.io/pod-index", kp_arena_printf(arena, "%lld", (long long)ordinal));
    kp_string_map_set(arena, &pod->metadata->labels, SET_HASH_LABEL, old ? sync->current : sync->update);
    pod->spec->hostname = pod->metadata->name;
    pod->spec->subdomain = sync->set->spec->service_name;
    set_claims_create(sync->in, sync->plan, sync->set, pod);
    plan_create(sync->plan, &k8s_pods_resource, sync->in->ns, pod);
    plan_event_on_failure(sync->plan, &k8s_stateful_set_type, sync->set, "FailedCreate", "create Pod failed: ");
    plan_event(sync->plan, &k8s_stateful_set_type, sync->set, "Normal", "SuccessfulCreate", "create Pod %s in StatefulSet %s successful", pod->metadata->name,
               sync->set->metadata->name);
}

#define STALE_CLAIMS_MS 1000

static void create_when_free(struct set_sync *sync, int64_t ordinal)
{
    if (set_claims_are_stale(sync->in, sync->set, kp_arena_printf(sync->in->arena, "%s-%lld", sync->set->metadata->name, (long long)ordinal)))
        plan_requeue_after_ms(sync->plan, STALE_CLAIMS_MS);
    else
        create_pod(sync, ordinal);
}

static void delete_pod(struct set_sync *sync, const struct k8s_pod *pod)
{
    plan_delete(sync->plan, &k8s_pods_resource, sync->in->ns, pod->metadata->name, pod->metadata->uid, -1, NULL);
    plan_event(sync->plan, &k8s_stateful_set_type, sync->set, "Normal", "SuccessfulDelete", "delete Pod %s in StatefulSet %s successful", pod->metadata->name,
               sync->set->metadata->name);
}

/* ---- the order of things ------------------------------------------------------------------------------------------------- */
/* True when every wanted pod is there and, one after the other, available; OrderedReady stops at the first that is not. */
static bool grow(struct set_sync *sync)
{
    bool whole = true;
    for (int64_t i = sync->first; i < sync->last; i++) {
        const struct k8s_pod *pod = pod_at(sync, i);
        if (pod && !pod->metadata->deletion_timestamp.set && !engine_pod_is_terminal(pod) && is_available(sync, pod))
            continue;
        whole = false;
        if (!pod)
            create_when_free(sync, i);
        else if (kp_streq(pod->status->phase, "Pending") && !pod->metadata->deletion_timestamp.set)
            set_claims_complete(sync->in, sync->plan, sync->set, pod->metadata->name); /* one that went just as the pod came (upstream's createMissing...) */
        else if (engine_pod_is_terminal(pod) && !pod->metadata->deletion_timestamp.set)
            delete_pod(sync, pod); /* made again under the same name when it is gone */
        if (!sync->parallel)
            return false;
    }
    return whole;
}

/* True when nothing is left to take down; the highest ordinal goes first. */
static bool shrink(struct set_sync *sync)
{
    bool done = true;
    int64_t highest = -1;
    const struct k8s_pod *top = NULL;
    for (size_t i = 0; i < sync->n_pods; i++) {
        int64_t ordinal = ordinal_of(sync, sync->pods[i]);
        if (ordinal < 0 || (ordinal >= sync->first && ordinal < sync->last))
            continue;
        done = false;
        if (sync->parallel && !sync->pods[i]->metadata->deletion_timestamp.set)
            delete_pod(sync, sync->pods[i]);
        if (ordinal > highest) {
            highest = ordinal;
            top = sync->pods[i];
        }
    }
    if (!sync->parallel && top && !top->metadata->deletion_timestamp.set)
        delete_pod(sync, top);
    return done;
}

/* One at a time, from the highest ordinal down to the partition, each waiting for the one before to be available. */
static void roll(struct set_sync *sync)
{
    if (kp_streq(sync->set->spec->update_strategy->type, "OnDelete"))
        return;
    for (int64_t i = sync->last - 1; i >= sync->first + sync->partition; i--) {
        const struct k8s_pod *pod = pod_at(sync, i);
        if (!pod || pod->metadata->deletion_timestamp.set)
            return;
        if (!is_of(pod, sync->update)) {
            delete_pod(sync, pod);
            return;
        }
        if (!is_available(sync, pod))
            return;
    }
}

/* Before any pod is taken down: the claims of those that are to go must be theirs by then. */
static void own_claims(struct set_sync *sync)
{
    for (size_t i = 0; i < sync->n_pods; i++) {
        int64_t ordinal = ordinal_of(sync, sync->pods[i]);
        if (ordinal >= 0)
            set_claims_own(sync->in, sync->plan, sync->set, sync->pods[i], ordinal < sync->first || ordinal >= sync->last);
    }
}

static void update_status(struct set_sync *sync)
{
    struct k8s_stateful_set *copy = KP_OBJECT_CLONE(sync->in->arena, k8s_stateful_set, sync->set);
    struct k8s_stateful_set_status *status = copy->status;
    int32_t replicas = 0, ready = 0, available = 0, current = 0, updated = 0;
    for (size_t i = 0; i < sync->n_pods; i++) {
        const struct k8s_pod *pod = sync->pods[i];
        replicas++;
        if (pod->metadata->deletion_timestamp.set)
            continue;
        ready += engine_pod_is_ready(pod);
        available += is_available(sync, pod);
        current += is_of(pod, sync->current);
        updated += is_of(pod, sync->update);
    }
    int64_t wanted = sync->last - sync->first;
    if (sync->partition == 0 && updated == wanted && ready == wanted && replicas == wanted) {
        sync->current = sync->update; /* the roll-out is over */
        current = updated;
    }
    KP_SET(status, observed_generation, sync->set->metadata->generation);
    KP_SET(status, replicas, replicas);
    KP_SET(status, ready_replicas, ready);
    KP_SET(status, available_replicas, available);
    KP_SET(status, current_replicas, current);
    KP_SET(status, updated_replicas, updated);
    status->current_revision = sync->current;
    status->update_revision = sync->update;
    if (!kp_object_equal(&k8s_stateful_set_status_type, status, sync->set->status))
        plan_update_status(sync->plan, &k8s_statefulsets_resource, copy);
}

/* ---- revisions ------------------------------------------------------------------------------------------------------------- */
static bool hash_in_use(const char *hash, void *arg)
{
    const struct set_sync *sync = arg;
    const char *name = kp_arena_printf(sync->in->arena, "%s-%s", sync->set->metadata->name, hash ? hash : "");
    for (size_t i = 0; i < sync->n_pods; i++)
        if (is_of(sync->pods[i], name))
            return true;
    return kp_streq(sync->set->status->current_revision, name);
}

static int template_of(struct set_sync *sync, const struct k8s_controller_revision *revision, struct kp_error *error)
{
    struct kp_value *tree;
    void *template;
    if (kp_value_parse(revision->data.json, revision->data.len, sync->in->arena, NULL, &tree, error) < 0 ||
        kp_value_to_object(&k8s_pod_template_spec_type, kp_value_path(tree, "spec", "template", NULL), sync->in->arena, NULL, &template, error) < 0)
        return kp_wrap(error, "controllerrevision %s", revision->metadata->name);
    sync->current_template = template;
    return 0;
}

static int plan_statefulset(const struct plan_input *in, struct plan *plan, struct kp_error *error)
{
    const struct k8s_stateful_set *set = client_view_get(in->view, engine_cache(in->engine, &k8s_statefulsets_resource), in->ns, in->name);
    struct kp_selector selector;
    struct revisions revisions;
    if (!set || set->metadata->deletion_timestamp.set)
        return 0;
    if (kp_label_selector_from(set->spec->selector, in->arena, &selector, error) < 0)
        return kp_wrap(error, "spec.selector");
    const struct k8s_rolling_update_stateful_set_strategy *rolling = set->spec->update_strategy->rolling_update;
    int64_t start = set->spec->ordinals ? set->spec->ordinals->start : 0, wanted = set->spec->has_replicas ? set->spec->replicas : 1;
    struct set_sync sync = {
        .in = in, .plan = plan, .set = set, .first = start, .last = start + KP_MIN(wanted, (int64_t)SET_ORDINALS_MAX),
        .partition = rolling ? rolling->partition : 0, .parallel = kp_streq(set->spec->pod_management_policy, "Parallel"),
    };
    sync.n_pods = claim_pods(in, plan, &k8s_stateful_set_type, set->metadata, &selector, &sync.pods);
    int32_t limit = set->spec->has_revision_history_limit ? set->spec->revision_history_limit : 10;
    if (revisions_sync(in, plan, &k8s_stateful_set_type, set->metadata, &selector, set->spec->template, limit, hash_in_use, &sync, &revisions) < 0)
        return 0; /* goes on when the cache shows the revision */
    sync.update = sync.current = revisions.current->metadata->name;
    for (size_t i = 0; i < revisions.len; i++)
        if (kp_streq(revisions.items[i]->metadata->name, set->status->current_revision)) {
            sync.current = revisions.items[i]->metadata->name;
            if (template_of(&sync, revisions.items[i], error) < 0)
                return error->code;
        }
    own_claims(&sync);
    bool whole = grow(&sync);
    if (whole || sync.parallel)
        whole &= shrink(&sync);
    if (whole)
        roll(&sync);
    update_status(&sync);
    return 0;
}

static int setup_statefulset(struct engine *engine, struct controller_run *run, void **ret_state, struct kp_error *error)
{
    engine_owner_index(engine, &k8s_pods_resource);
    engine_owner_index(engine, &k8s_controllerrevisions_resource);
    engine_informer(engine, &k8s_persistentvolumeclaims_resource);
    engine_watch(run, &k8s_statefulsets_resource, engine_map_self);
    engine_watch_owned(run, &k8s_pods_resource, &k8s_statefulsets_resource);
    engine_watch_owned(run, &k8s_controllerrevisions_resource, &k8s_statefulsets_resource);
    return 0;
}

const struct controller statefulset_controller = {
    .name = "statefulset-controller", .workers = 2, .setup = setup_statefulset, .plan = plan_statefulset,
};
