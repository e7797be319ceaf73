/* DaemonSets: one pod on every node that fits, rolled over to a new template node by node. */
#include "controlplane/controller-manager/controllers.h"
#include "controlplane/controller-manager/revision.h"
#include "lib/placement/placement.h"

#define DAEMON_FAILED_WAIT_S 5 /* at least this old before a failed pod is replaced */
#define DAEMON_BURST_MAX 250 /* upstream's BurstReplicas */
#define DAEMON_HASH_LABEL "controller-revision-hash"

struct daemon_sync {
    const struct plan_input *in;
    struct plan *plan;
    const struct k8s_daemon_set *set;
    struct k8s_pod_spec *probe; /* the template's spec with the tolerations every daemon pod gets: what placement is asked with */
    const struct k8s_pod *const *pods;
    size_t n_pods;
    const void *const *nodes;
    size_t n_nodes;
    const char *hash;
};

/* A toleration of the template that says the same but for a time limit is replaced (upstream's AddOrUpdateTolerationInPodSpec):
   a daemon's pod stays on a node that is not ready. */
static void add_toleration(struct kp_arena *arena, struct k8s_pod_spec *spec, const char *key, const char *effect)
{
    struct k8s_toleration *toleration = NULL;
    for (size_t i = 0; i < spec->tolerations.len && !toleration; i++) {
        struct k8s_toleration *t = &spec->tolerations.items[i];
        if (kp_streq(t->key, key) && kp_streq(t->effect, effect) && kp_streq(t->operator, "Exists") && kp_empty(t->value))
            toleration = t;
    }
    if (!toleration)
        toleration = KP_LIST_ADD(arena, &spec->tolerations);
    *toleration = (struct k8s_toleration){.key = key, .operator= "Exists", .effect = effect};
}

static void add_daemon_tolerations(struct kp_arena *arena, struct k8s_pod_spec *spec)
{
    add_toleration(arena, spec, "node.kubernetes.io/not-ready", "NoExecute");
    add_toleration(arena, spec, "node.kubernetes.io/unreachable", "NoExecute");
    add_toleration(arena, spec, "node.kubernetes.io/disk-pressure", "NoSchedule");
    add_toleration(arena, spec, "node.kubernetes.io/memory-pressure", "NoSchedule");
    add_toleration(arena, spec, "node.kubernetes.io/pid-pressure", "NoSchedule");
    add_toleration(arena, spec, "node.kubernetes.io/unschedulable", "NoSchedule");
    if (spec->host_network)
        add_toleration(arena, spec, "node.kubernetes.io/network-unavailable", "NoSchedule");
}

/* Binds the pod to a node by affinity on its name: the scheduler does the rest, and says why when it cannot. What affinity the
   template required was looked at here already. */
static void pin_to_node(struct kp_arena *arena, struct k8s_pod_spec *spec, const char *node)
{
    if (!spec->affinity)
        spec->affinity = KP_OBJECT_NEW(arena, k8s_affinity);
    if (!spec->affinity->node_affinity)
        spec->affinity->node_affinity = KP_OBJECT_NEW(arena, k8s_node_affinity);
    struct k8s_node_selector *required = KP_OBJECT_NEW(arena, k8s_node_selector);
    struct k8s_node_selector_term *term = KP_LIST_ADD(arena, &required->node_selector_terms);
    struct k8s_node_selector_requirement *name = KP_LIST_ADD(arena, &term->match_fields);
    name->key = "metadata.name";
    name->operator= "In";
    kp_string_list_add(arena, &name->values, node);
    spec->affinity->node_affinity->required_during_scheduling_ignored_during_execution = required;
}

static bool is_named(const struct daemon_sync *sync, const struct k8s_node *node)
{
    return kp_empty(sync->probe->node_name) || kp_streq(sync->probe->node_name, node->metadata->name);
}

static bool should_run(const struct daemon_sync *sync, const struct k8s_node *node)
{
    return is_named(sync, node) && placement_affinity_matches(sync->probe, node) && !placement_untolerated(sync->probe, node, true);
}

/* A pod that runs goes on as long as only NoSchedule taints speak against it. */
static bool may_go_on(const struct daemon_sync *sync, const struct k8s_node *node)
{
    return is_named(sync, node) && placement_affinity_matches(sync->probe, node) && !placement_untolerated(sync->probe, node, false);
}

static const char *node_of(const struct k8s_pod *pod)
{
    if (!kp_empty(pod->spec->node_name))
        return pod->spec->node_name;
    const struct k8s_affinity *affinity = pod->spec->affinity;
    const struct k8s_node_selector *required =
        affinity && affinity->node_affinity ? affinity->node_affinity->required_during_scheduling_ignored_during_execution : NULL;
    for (size_t i = 0; required && i < required->node_selector_terms.len; i++)
        for (size_t k = 0; k < required->node_selector_terms.items[i].match_fields.len; k++) {
            const struct k8s_node_selector_requirement *r = &required->node_selector_terms.items[i].match_fields.items[k];
            if (kp_streq(r->key, "metadata.name") && r->values.len == 1)
                return r->values.items[0];
        }
    return "";
}

static bool is_current(const struct daemon_sync *sync, const struct k8s_pod *pod)
{
    return kp_streq(kp_string_map_get(&pod->metadata->labels, DAEMON_HASH_LABEL), sync->hash);
}

static bool is_available(const struct daemon_sync *sync, const struct k8s_pod *pod)
{
    if (!engine_pod_is_ready(pod))
        return false;
    int64_t left_s = sync->set->spec->min_ready_seconds - (sync->in->now_s - engine_pod_ready_since_s(pod));
    if (sync->set->spec->min_ready_seconds == 0 || left_s <= 0)
        return true;
    plan_requeue_after_ms(sync->plan, left_s * 1000);
    return false;
}

static void create_on(struct daemon_sync *sync, const struct k8s_node *node)
{
    struct kp_arena *arena = sync->in->arena;
    struct k8s_pod *pod = pod_from_template(arena, sync->set->spec->template, &k8s_daemon_set_type, sync->set->metadata);
    kp_string_map_set(arena, &pod->metadata->labels, DAEMON_HASH_LABEL, sync->hash);
    add_daemon_tolerations(arena, pod->spec);
    pin_to_node(arena, pod->spec, node->metadata->name);
    plan_create(sync->plan, &k8s_pods_resource, sync->in->ns, pod);
    plan_event_on_failure(sync->plan, &k8s_daemon_set_type, sync->set, "FailedCreate", "Error creating: ");
    plan_event_created(sync->plan, &k8s_daemon_set_type, sync->set, "SuccessfulCreate", "Created pod: ");
}

static void delete_pod(struct daemon_sync *sync, const struct k8s_pod *pod)
{
    plan_delete(sync->plan, &k8s_pods_resource, sync->in->ns, pod->metadata->name, pod->metadata->uid, -1, NULL);
    plan_event(sync->plan, &k8s_daemon_set_type, sync->set, "Normal", "SuccessfulDelete", "Deleted pod: %s", pod->metadata->name);
}

static bool goes_before(const struct k8s_pod *a, const struct k8s_pod *b)
{
    bool a_bound = !kp_empty(a->spec->node_name), b_bound = !kp_empty(b->spec->node_name);
    if (a_bound != b_bound)
        return a_bound;
    int64_t d = a->metadata->creation_timestamp.seconds - b->metadata->creation_timestamp.seconds;
    return d ? d < 0 : strcmp(a->metadata->name, b->metadata->name) < 0;
}

/* A pod that the kubelet refused would be refused again at once: each waits a while before it is replaced. */
static void replace_failed(struct daemon_sync *sync, const struct k8s_pod *pod, const char *node)
{
    int64_t left_s = pod->metadata->creation_timestamp.seconds + DAEMON_FAILED_WAIT_S - sync->in->now_s;
    if (left_s > 0) {
        plan_requeue_after_ms(sync->plan, left_s * 1000);
        return;
    }
    plan_event(sync->plan, &k8s_daemon_set_type, sync->set, "Warning", "FailedDaemonPod",
               "Found failed daemon pod %s/%s on node %s, will try to kill it", sync->in->ns, pod->metadata->name, node);
    delete_pod(sync, pod);
}

/* Keeps the oldest pod of a node and creates or deletes around it. Gives the number of creates. */
static size_t manage_node(struct daemon_sync *sync, const struct k8s_node *node)
{
    const struct k8s_pod *keep = NULL;
    bool any = false;
    for (size_t i = 0; i < sync->n_pods; i++) {
        const struct k8s_pod *pod = sync->pods[i];
        if (strcmp(node_of(pod), node->metadata->name) != 0)
            continue;
        any = true;
        if (pod->metadata->deletion_timestamp.set)
            continue;
        if (!may_go_on(sync, node)) {
            delete_pod(sync, pod);
        } else if (kp_streq(pod->status->phase, "Failed")) {
            replace_failed(sync, pod, node->metadata->name);
        } else if (!keep) {
            keep = pod;
        } else {
            delete_pod(sync, goes_before(pod, keep) ? keep : pod);
            keep = goes_before(pod, keep) ? pod : keep;
        }
    }
    if (any || !should_run(sync, node))
        return 0;
    create_on(sync, node);
    return 1;
}

static int32_t scaled(const struct kp_int_or_string *value, int32_t total, int32_t fallback)
{
    int64_t percent;
    if (!value || value->kind == KP_IOS_ABSENT)
        return fallback;
    if (value->kind == KP_IOS_INT)
        return value->i;
    char digits[16] = "";
    size_t len = strlen(value->s);
    if (len < 2 || len > sizeof(digits) || value->s[len - 1] != '%')
        return fallback;
    memcpy(digits, value->s, len - 1);
    return kp_parse_i64(digits, &percent) < 0 ? fallback : (int32_t)((percent * total + 99) / 100);
}

/* Deletes old pods as far as maxUnavailable allows; those that are unavailable anyway go first and cost nothing. */
static void roll(struct daemon_sync *sync, int32_t wanted)
{
    const struct k8s_rolling_update_daemon_set *rolling = sync->set->spec->update_strategy->rolling_update;
    int32_t allowed = KP_MAX(1, scaled(rolling ? &rolling->max_unavailable : NULL, wanted, 1)), unavailable = 0;
    if (kp_streq(sync->set->spec->update_strategy->type, "OnDelete"))
        return;
    for (size_t i = 0; i < sync->n_nodes; i++) {
        const struct k8s_node *node = sync->nodes[i];
        bool available = false;
        for (size_t k = 0; k < sync->n_pods; k++)
            available |= strcmp(node_of(sync->pods[k]), node->metadata->name) == 0 && !sync->pods[k]->metadata->deletion_timestamp.set &&
                         is_available(sync, sync->pods[k]);
        unavailable += should_run(sync, node) && !available;
    }
    for (size_t i = 0; i < sync->n_pods; i++) {
        const struct k8s_pod *pod = sync->pods[i];
        if (is_current(sync, pod) || pod->metadata->deletion_timestamp.set)
            continue;
        if (!is_available(sync, pod)) {
            delete_pod(sync, pod);
        } else if (unavailable < allowed) {
            delete_pod(sync, pod);
            unavailable++;
        }
    }
}

static void update_status(struct daemon_sync *sync)
{
    struct k8s_daemon_set *copy = KP_OBJECT_CLONE(sync->in->arena, k8s_daemon_set, sync->set);
    struct k8s_daemon_set_status *status = copy->status;
    status->desired_number_scheduled = status->current_number_scheduled = status->number_misscheduled = 0;
    status->number_ready = status->number_available = status->updated_number_scheduled = 0;
    for (size_t i = 0; i < sync->n_nodes; i++) {
        const struct k8s_node *node = sync->nodes[i];
        const struct k8s_pod *oldest = NULL;
        for (size_t k = 0; k < sync->n_pods; k++)
            if (strcmp(node_of(sync->pods[k]), node->metadata->name) == 0 && !sync->pods[k]->metadata->deletion_timestamp.set &&
                (!oldest || sync->pods[k]->metadata->creation_timestamp.seconds < oldest->metadata->creation_timestamp.seconds))
                oldest = sync->pods[k];
        if (!should_run(sync, node)) {
            status->number_misscheduled += oldest != NULL;
            continue;
        }
        status->desired_number_scheduled++;
        if (!oldest)
            continue;
        status->current_number_scheduled++;
        status->number_ready += engine_pod_is_ready(oldest);
        status->number_available += is_available(sync, oldest);
        status->updated_number_scheduled += is_current(sync, oldest);
    }
    status->number_unavailable = status->desired_number_scheduled - status->number_available;
    status->observed_generation = sync->set->metadata->generation;
    if (!kp_object_equal(&k8s_daemon_set_status_type, status, sync->set->status))
        plan_update_status(sync->plan, &k8s_daemonsets_resource, copy);
}

static bool hash_in_use(const char *hash, void *arg)
{
    const struct daemon_sync *sync = arg;
    for (size_t i = 0; i < sync->n_pods; i++)
        if (kp_streq(kp_string_map_get(&sync->pods[i]->metadata->labels, DAEMON_HASH_LABEL), hash))
            return true;
    return false;
}

static int plan_daemonset(const struct plan_input *in, struct plan *plan, struct kp_error *error)
{
    struct daemon_sync sync = {.in = in, .plan = plan};
    struct kp_selector selector;
    struct revisions revisions;
    sync.set = client_view_get(in->view, engine_cache(in->engine, &k8s_daemonsets_resource), in->ns, in->name);
    if (!sync.set)
        return 0;
    if (kp_label_selector_from(sync.set->spec->selector, in->arena, &selector, error) < 0)
        return kp_wrap(error, "spec.selector");
    sync.n_pods = claim_pods(in, plan, &k8s_daemon_set_type, sync.set->metadata, &selector, &sync.pods);
    sync.n_nodes = client_view_list(in->view, engine_cache(in->engine, &k8s_nodes_resource), NULL, &sync.nodes);
    sync.probe = KP_OBJECT_CLONE(in->arena, k8s_pod_spec, sync.set->spec->template->spec);
    add_daemon_tolerations(in->arena, sync.probe);
    if (sync.set->metadata->deletion_timestamp.set)
        return 0;
    int32_t limit = sync.set->spec->has_revision_history_limit ? sync.set->spec->revision_history_limit : 10;
    if (revisions_sync(in, plan, &k8s_daemon_set_type, sync.set->metadata, &selector, sync.set->spec->template, limit, hash_in_use, &sync,
                       &revisions) < 0)
        return 0; /* the rest follows when the cache shows the revision */
    sync.hash = revisions.hash;
    size_t created = 0;
    int32_t wanted = 0;
    for (size_t i = 0; i < sync.n_nodes; i++)
        wanted += should_run(&sync, sync.nodes[i]);
    for (size_t i = 0; i < sync.n_nodes && created < DAEMON_BURST_MAX; i++)
        created += manage_node(&sync, sync.nodes[i]);
    if (created == 0)
        roll(&sync, wanted);
    update_status(&sync);
    return 0;
}

static bool node_matters(const struct k8s_node *a, const struct k8s_node *b)
{
    bool same = a->metadata->labels.len == b->metadata->labels.len && kp_object_equal(&k8s_node_spec_type, a->spec, b->spec);
    for (size_t i = 0; same && i < a->metadata->labels.len; i++)
        same = kp_streq(kp_string_map_get(&b->metadata->labels, a->metadata->labels.items[i].key), a->metadata->labels.items[i].value);
    return !same;
}

static void map_node(struct controller_run *run, const struct client_object *old, const struct client_object *new)
{
    if (old && new && !node_matters(old->data, new->data))
        return;
    KP_AUTO(client_view_free) struct client_view *view = client_view_new();
    const void *const *sets;
    size_t n = client_view_list(view, engine_cache(engine_of(run), &k8s_daemonsets_resource), NULL, &sets);
    for (size_t i = 0; i < n; i++) {
        const struct k8s_daemon_set *set = sets[i];
        engine_enqueue(run, set->metadata->namespace, set->metadata->name);
    }
}

static int setup_daemonset(struct engine *engine, struct controller_run *run, void **ret_state, struct kp_error *error)
{
    engine_owner_index(engine, &k8s_pods_resource);
    engine_owner_index(engine, &k8s_controllerrevisions_resource);
    engine_watch(run, &k8s_daemonsets_resource, engine_map_self);
    engine_watch_owned(run, &k8s_pods_resource, &k8s_daemonsets_resource);
    engine_watch_owned(run, &k8s_controllerrevisions_resource, &k8s_daemonsets_resource);
    engine_watch(run, &k8s_nodes_resource, map_node);
    return 0;
}

const struct controller daemonset_controller = {
    .name = "daemonset-controller", .workers = 2, .setup = setup_daemonset, .plan = plan_daemonset,
};
