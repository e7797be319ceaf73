/* kube-scheduler: watches pods and nodes, decides one pod at a time, binds in the background. */
#include "controlplane/scheduler/volumes_internal.h"
#include "lib/component/component.h"

#include <pthread.h>

#define STORAGE_WAIT_MS 2000

struct storage_source { /* one kind of what volumes are made of */
    struct scheduler *scheduler;
    struct client_informer *informer;
};
struct scheduler {
    const char *name; /* of pods' spec.schedulerName */
    struct client *client;
    struct client_recorder *recorder;
    struct client_informer *pods, *nodes, *namespaces, *budgets;
    struct sched_cache *cache;
    struct sched_queue *queue;
    struct sched_binder *binder;
    struct storage_source storage[SCHED_STORAGE_KINDS];
    bool storage_is_known; /* lists of storage are waited for by the first pod that has claims, not by the scheduler's start */
    pthread_t thread;
    struct kp_metric *attempts, *preemptions, *victims;
};
static const double victims_buckets[] = {1, 2, 4, 8, 16, 32, 64}; /* upstream's */

/* ---- what informers tell ------------------------------------------------------------------------------------------------ */
static bool is_ours(const struct scheduler *s, const struct k8s_pod *pod)
{
    return kp_streq(pod->spec->scheduler_name, s->name);
}

static bool is_done(const struct k8s_pod *pod)
{
    return kp_streq(pod->status->phase, "Succeeded") || kp_streq(pod->status->phase, "Failed");
}

/* Selectors of others may now mean it, or no longer. */
static bool is_other_to_neighbours(const struct k8s_pod *before, const struct k8s_pod *pod)
{
    return before->metadata->deletion_timestamp.set != pod->metadata->deletion_timestamp.set ||
           !kp_string_map_equal(&before->metadata->labels, &pod->metadata->labels);
}

/* What a pod's status says of a node that is being cleared for it; a scheduler that starts learns it from there. */
static void follow_nomination(struct scheduler *s, const struct k8s_pod *before, struct client_object *object)
{
    const struct k8s_pod *pod = object->data;
    sched_cache_lock(s->cache);
    if (sched_cache_is_assumed(s->cache, object))
        kp_debug("pod changed while it is being bound", "pod", object->name, NULL);
    else if (!kp_empty(pod->status->nominated_node_name))
        sched_cache_nominate(s->cache, object, pod->status->nominated_node_name);
    else if (before && !kp_empty(before->status->nominated_node_name))
        sched_cache_forget_nomination(s->cache, object->ns, object->name);
    sched_cache_unlock(s->cache);
}

static void drop_unbound(struct scheduler *s, const struct client_object *object)
{
    sched_queue_remove(s->queue, object->ns, object->name);
    sched_cache_lock(s->cache);
    sched_cache_forget_nomination(s->cache, object->ns, object->name);
    sched_cache_unlock(s->cache);
}

static void on_pod(struct client_object *old, struct client_object *new, void *arg)
{
    struct scheduler *s = arg;
    const struct k8s_pod *before = old ? old->data : NULL, *pod = new ? new->data : NULL;
    bool was_bound = before && !kp_empty(before->spec->node_name) && !is_done(before);
    if (pod && kp_empty(pod->spec->node_name)) {
        if (is_ours(s, pod) && !is_done(pod) && !pod->metadata->deletion_timestamp.set && pod->spec->scheduling_gates.len == 0) {
            follow_nomination(s, before, new);
            sched_queue_add(s->queue, new);
        } else {
            drop_unbound(s, new);
        }
        return;
    }
    sched_cache_lock(s->cache);
    if (pod && !is_done(pod))
        sched_cache_set_pod(s->cache, new);
    else
        sched_cache_remove_pod(s->cache, (new ? new : old)->ns, (new ? new : old)->name);
    sched_cache_unlock(s->cache);
    sched_queue_done(s->queue, (new ? new : old)->ns, (new ? new : old)->name);
    if (was_bound && (!pod || is_done(pod)))
        sched_queue_move_all(s->queue); /* room was made */
    else if (pod && !is_done(pod) && (!was_bound || is_other_to_neighbours(before, pod)))
        sched_queue_move_minding(s->queue);
}

static bool node_may_fit_more(const struct k8s_node *a, const struct k8s_node *b)
{
    return !kp_object_equal(&k8s_node_spec_type, a->spec, b->spec) || a->status->allocatable.len != b->status->allocatable.len ||
           !kp_streq(kp_string_map_get(&a->status->allocatable, "cpu"), kp_string_map_get(&b->status->allocatable, "cpu")) ||
           !kp_streq(kp_string_map_get(&a->status->allocatable, "memory"), kp_string_map_get(&b->status->allocatable, "memory")) ||
           !kp_streq(kp_string_map_get(&a->status->allocatable, "pods"), kp_string_map_get(&b->status->allocatable, "pods")) ||
           !kp_string_map_equal(&a->metadata->labels, &b->metadata->labels);
}

static void on_node(struct client_object *old, struct client_object *new, void *arg)
{
    struct scheduler *s = arg;
    sched_cache_lock(s->cache);
    if (new)
        sched_cache_set_node(s->cache, new);
    else
        sched_cache_remove_node(s->cache, old->name);
    sched_cache_unlock(s->cache);
    if (new && (!old || node_may_fit_more(old->data, new->data)))
        sched_queue_move_all(s->queue);
}

static void on_namespace(struct client_object *old, struct client_object *new, void *arg)
{
    struct scheduler *s = arg;
    sched_cache_lock(s->cache);
    if (new)
        sched_cache_set_namespace(s->cache, new);
    else
        sched_cache_remove_namespace(s->cache, old->name);
    sched_cache_unlock(s->cache);
    if (new && !(old && kp_string_map_equal(&kp_object_meta(old->type, old->data)->labels, &kp_object_meta(new->type, new->data)->labels)))
        sched_queue_move_minding(s->queue);
}

/* ---- storage ------------------------------------------------------------------------------------------------------------- */
static const struct kp_resource *const storage_resources[SCHED_STORAGE_KINDS] = {
    [SCHED_CLAIMS] = &k8s_persistentvolumeclaims_resource, [SCHED_VOLUMES] = &k8s_persistentvolumes_resource,
    [SCHED_CLASSES] = &k8s_storageclasses_resource,        [SCHED_CSI_NODES] = &k8s_csinodes_resource,
    [SCHED_CSI_DRIVERS] = &k8s_csidrivers_resource,        [SCHED_CAPACITIES] = &k8s_csistoragecapacities_resource,
    [SCHED_ATTACHMENTS] = &k8s_volumeattachments_resource,
};

static void on_storage(struct client_object *old, struct client_object *new, void *arg)
{
    const struct storage_source *source = arg;
    struct scheduler *s = source->scheduler;
    const enum sched_storage_kind kind = (enum sched_storage_kind)(source - s->storage);
    sched_cache_lock(s->cache);
    if (new)
        sched_storage_set(sched_cache_storage(s->cache), kind, new);
    else
        sched_storage_remove(sched_cache_storage(s->cache), kind, old->ns, old->name);
    sched_cache_unlock(s->cache);
    if (kind == SCHED_CLAIMS || kind == SCHED_VOLUMES)
        sched_binder_wake(s->binder);
    bool helps_by_going = kind == SCHED_CSI_DRIVERS || kind == SCHED_ATTACHMENTS; /* its lack of room, or the room it takes, goes as well */
    if (kind == SCHED_CLAIMS && new)
        sched_queue_move_claiming(s->queue, new->ns, new->name);
    else if (new ? kind != SCHED_ATTACHMENTS : helps_by_going)
        sched_queue_move_claiming(s->queue, NULL, NULL);
}

static void start_storage(struct scheduler *s)
{
    for (size_t i = 0; i < SCHED_STORAGE_KINDS; i++) {
        s->storage[i] = (struct storage_source){s, client_informer_new(s->client, storage_resources[i], NULL, NULL, NULL)};
        client_informer_add_handler(s->storage[i].informer, on_storage, &s->storage[i]);
        client_informer_start(s->storage[i].informer);
    }
}

/* Before a pod with claims is looked at: a claim that is not known must not be one that was not listed yet. */
static bool storage_is_known(struct scheduler *s)
{
    struct client_informer *informers[SCHED_STORAGE_KINDS];
    struct kp_error error = {0};
    for (size_t i = 0; i < SCHED_STORAGE_KINDS; i++)
        informers[i] = s->storage[i].informer;
    s->storage_is_known = s->storage_is_known || client_informers_wait(informers, SCHED_STORAGE_KINDS, STORAGE_WAIT_MS, &error) == 0;
    if (!s->storage_is_known)
        kp_warn("pods with claims have to wait: storage is not known", "error", error.message, NULL);
    return s->storage_is_known;
}

/* ---- one pod ------------------------------------------------------------------------------------------------------------------ */
/* nominated: the node that is being cleared for it, "" for none, NULL to leave what is said of it. */
static void report_unschedulable(struct scheduler *s, struct client_object *object, const char *message, const char *nominated)
{
    const struct k8s_pod *pod = object->data;
    const char *said = pod->status->nominated_node_name ? pod->status->nominated_node_name : "";
    bool same = !nominated || strcmp(nominated, said) == 0;
    for (size_t i = 0; same && i < pod->status->conditions.len; i++) {
        const struct k8s_pod_condition *c = &pod->status->conditions.items[i];
        if (kp_streq(c->type, "PodScheduled") && kp_streq(c->status, "False") && kp_streq(c->message, message))
            return; /* said already: the event is repeated, the status is not written again */
    }
    char when[KP_RFC3339_MAX];
    kp_format_rfc3339(when, kp_now_s(), 0, false);
    KP_AUTO_BUF struct kp_buf body = {0};
    kp_buf_printf(&body, "{\"status\":{\"conditions\":[{\"type\":\"PodScheduled\",\"status\":\"False\",\"reason\":\"Unschedulable\","
                         "\"lastTransitionTime\":\"%s\",\"message\":", when);
    kp_json_string(&body, message);
    kp_buf_puts(&body, "}]");
    if (!same) {
        kp_buf_puts(&body, ",\"nominatedNodeName\":");
        if (*nominated)
            kp_json_string(&body, nominated);
        else
            kp_buf_puts(&body, "null");
    }
    kp_buf_puts(&body, "}}");
    const struct client_write_options options = {.subresource = "status"};
    struct kp_error error = {0};
    if (client_patch(s->client, &k8s_pods_resource, object->ns, object->name, CLIENT_PATCH_STRATEGIC, body.data, body.len, &options, NULL, NULL,
                     &error) < 0 && error.code != KP_ENOTFOUND)
        kp_warn("pod condition not written", "pod", object->name, "error", error.message, NULL);
}

/* Carries out what sched_preempt found. False: the room is not made, and the pod is nominated no more. */
static bool make_room(struct scheduler *s, struct sched_room *room)
{
    struct kp_error error = {0};
    bool made = sched_room_make(room, s->client, s->recorder, &error) == 0;
    kp_metric_observe(s->victims, (double)room->n_victims);
    if (!made) {
        kp_warn("preemption failed", "pod", room->pod->name, "node", room->node, "error", error.message, NULL);
        sched_cache_lock(s->cache);
        sched_cache_forget_nomination(s->cache, room->pod->ns, room->pod->name);
        sched_cache_unlock(s->cache);
    }
    if (!made || room->n_victims == 0 || room->n_displaced)
        sched_queue_move_all(s->queue); /* no pod's going may wake who waits for this */
    return made;
}

static void not_scheduled(struct scheduler *s, struct client_object *object, uint64_t cycle, const char *message, const char *nominated)
{
    const struct client_event_target target = client_event_target_of(&k8s_pod_type, object->data);
    kp_metric_add(s->attempts, 1, "unschedulable");
    sched_queue_unschedulable(s->queue, object, cycle);
    client_event(s->recorder, &target, "Warning", "FailedScheduling", "%s", message);
    report_unschedulable(s, object, message, nominated);
}

/* With the cache locked: what is to be done for a pod that fits nowhere. room: NULL inside when nobody goes. */
static void look_for_room(struct scheduler *s, struct client_object *object, const struct sched_pod *pod, const struct sched_cluster *cluster,
                          const struct sched_decision *decision, struct client_view *view, struct sched_preemption *ret, struct sched_room *ret_room)
{
    const void *const *budgets;
    size_t n = client_view_list(view, s->budgets, NULL, &budgets);
    kp_metric_add(s->preemptions, 1);
    sched_preempt(pod, cluster, decision, (const struct k8s_pod_disruption_budget *const *)budgets, n, kp_random_u64(), client_view_arena(view), ret);
    if (ret->node)
        sched_room_init(ret_room, s->cache, object, ret);
    else if (!ret->waits)
        sched_cache_forget_nomination(s->cache, object->ns, object->name);
}

static void schedule_one(struct scheduler *s, struct client_object *object, uint64_t cycle)
{
    KP_AUTO(client_view_free) struct client_view *view = client_view_new();
    struct kp_arena *arena = client_view_arena(view);
    struct sched_pod pod;
    struct sched_decision decision;
    struct sched_preemption preemption = {0};
    struct sched_room room = {0};
    struct sched_volume_plan plan = {0};
    sched_pod_init(&pod, object->data, arena);
    if (pod.has_claims && !storage_is_known(s)) {
        sched_queue_retry(s->queue, object);
        return;
    }
    sched_cache_lock(s->cache);
    if (sched_cache_is_assumed(s->cache, object)) { /* changed while it is being bound: the binder has it */
        sched_cache_unlock(s->cache);
        return;
    }
    const struct sched_cluster cluster = sched_cache_cluster(s->cache);
    sched_decide(&pod, &cluster, kp_random_u64(), arena, &decision);
    if (decision.node) {
        decision.node = kp_arena_strdup(arena, decision.node);
        sched_volume_plan_make(&pod, &cluster, decision.node, arena, &plan);
        sched_storage_promise(sched_cache_storage(s->cache), object->uid, &plan);
        sched_cache_assume(s->cache, object, decision.node);
    } else {
        look_for_room(s, object, &pod, &cluster, &decision, view, &preemption, &room);
    }
    sched_cache_unlock(s->cache);
    if (decision.node) {
        sched_binder_bind(s->binder, object, decision.node, &plan);
        return;
    }
    const char *nominated = preemption.waits ? NULL : "", *message = decision.message;
    if (preemption.message)
        message = kp_arena_printf(arena, "%s %s", decision.message, preemption.message);
    if (room.pod && make_room(s, &room))
        nominated = room.node;
    not_scheduled(s, object, cycle, message, nominated);
    sched_room_done(&room);
}

static void *run(void *arg)
{
    struct scheduler *s = arg;
    struct client_object *object;
    uint64_t cycle;
    while ((object = sched_queue_pop(s->queue, &cycle))) {
        schedule_one(s, object, cycle);
        client_object_unref(object);
    }
    return NULL;
}

static int start(struct client *client, void *arg, struct kp_error *error)
{
    static const char *const labels[] = {"result", NULL};
    struct scheduler *s = arg;
    s->client = client;
    s->attempts = kp_counter("scheduler_schedule_attempts_total", "Attempts to schedule pods, by the result.", labels);
    s->preemptions = kp_counter("scheduler_preemption_attempts_total", "Attempts to make room for pods by the removal of less important ones.", NULL);
    s->victims = kp_histogram("scheduler_preemption_victims", "Pods that had to go for one, an attempt.", NULL, victims_buckets, KP_ARRAY_LEN(victims_buckets));
    s->recorder = client_recorder_new(client, s->name, NULL);
    s->cache = sched_cache_new();
    s->queue = sched_queue_new();
    s->nodes = client_informer_new(client, &k8s_nodes_resource, NULL, NULL, NULL);
    s->pods = client_informer_new(client, &k8s_pods_resource, NULL, NULL, NULL);
    s->namespaces = client_informer_new(client, &k8s_namespaces_resource, NULL, NULL, NULL);
    s->budgets = client_informer_new(client, &k8s_poddisruptionbudgets_resource, NULL, NULL, NULL);
    client_informer_add_handler(s->nodes, on_node, s);
    client_informer_add_handler(s->namespaces, on_namespace, s);
    client_informer_add_handler(s->pods, on_pod, s);
    const struct sched_binder_config binder = {client, s->recorder, s->pods, s->cache, s->queue, s->attempts};
    if (sched_binder_new(&binder, &s->binder, error) < 0)
        return error->code;
    start_storage(s);
    struct client_informer *informers[] = {s->nodes, s->pods, s->namespaces, s->budgets};
    for (size_t i = 0; i < KP_ARRAY_LEN(informers); i++)
        client_informer_start(informers[i]);
    if (client_informers_wait(informers, KP_ARRAY_LEN(informers), 60000, error) < 0)
        return error->code;
    if (pthread_create(&s->thread, NULL, run, s) != 0)
        return kp_fail(error, KP_EUNAVAILABLE, "no thread could be started");
    return 0;
}

static void stop(void *arg)
{
    struct scheduler *s = arg;
    sched_queue_shutdown(s->queue);
    pthread_join(s->thread, NULL);
    for (size_t i = 0; i < SCHED_STORAGE_KINDS; i++)
        client_informer_free(s->storage[i].informer); /* their handlers wake the binder */
    sched_binder_free(s->binder);
    client_informer_free(s->pods);
    client_informer_free(s->nodes);
    client_informer_free(s->namespaces);
    client_informer_free(s->budgets);
    sched_queue_free(s->queue);
    sched_cache_free(s->cache);
    client_recorder_free(s->recorder);
}

int main(int argc, char **argv)
{
    struct scheduler s = {.name = "default-scheduler"};
    struct component_options options = {.name = "kube-scheduler", .bind_address = "0.0.0.0", .secure_port = 10259, .leader_elect = true};
    struct kp_flag flags[1 + COMPONENT_FLAGS_MAX] = {{NULL}};
    component_flags(&options, flags, 0);
    const struct component_program program = {
        .description = "kube-scheduler assigns pods to nodes.", .start = start, .stop = stop, .arg = &s,
    };
    return component_main(&options, flags, &program, argc, argv);
}
