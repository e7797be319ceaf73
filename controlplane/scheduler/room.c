/* Preemption carried out: victims are told and deleted, nominations that stand in the way are taken back. */
#include "controlplane/scheduler/scheduler.h"

void sched_room_init(struct sched_room *ret, struct sched_cache *cache, struct client_object *pod, const struct sched_preemption *preemption)
{
    const struct sched_cluster cluster = sched_cache_cluster(cache);
    const struct k8s_pod *wanted = pod->data;
    const int32_t priority = wanted->spec->has_priority ? wanted->spec->priority : 0;
    *ret = (struct sched_room){
        .pod = client_object_ref(pod), .node = kp_strdup(preemption->node->name),
        .victims = kp_calloc(preemption->n_victims + 1, sizeof(struct client_object *)),
        .displaced = kp_calloc(cluster.n_nominations + 1, sizeof(struct client_object *)),
    };
    for (size_t i = 0; i < preemption->n_victims; i++)
        ret->victims[ret->n_victims++] = client_object_ref(preemption->victims[i]->object);
    for (size_t i = 0; i < cluster.n_nominations; i++)
        if (strcmp(cluster.nominations[i].node, ret->node) == 0 && cluster.nominations[i].pod.info.priority < priority)
            ret->displaced[ret->n_displaced++] = client_object_ref(cluster.nominations[i].pod.object);
    for (size_t i = 0; i < ret->n_displaced; i++)
        sched_cache_forget_nomination(cache, ret->displaced[i]->ns, ret->displaced[i]->name);
    sched_cache_nominate(cache, pod, ret->node);
}

/* 0 also when the pod is gone. */
static int patch_status(struct client *client, const struct client_object *pod, const char *body, struct kp_error *error)
{
    const struct client_write_options options = {.subresource = "status"};
    int code = client_patch(client, &k8s_pods_resource, pod->ns, pod->name, CLIENT_PATCH_STRATEGIC, body, strlen(body), &options, NULL, NULL, error);
    return code == KP_ENOTFOUND ? 0 : code;
}

static int evict(const struct sched_room *room, struct client *client, struct client_recorder *recorder, struct client_object *victim,
                 struct kp_error *error)
{
    const struct client_event_target target = client_event_target_of(&k8s_pod_type, victim->data);
    const struct client_delete_options options = {.grace_period_s = -1, .uid = victim->uid};
    char when[KP_RFC3339_MAX];
    kp_format_rfc3339(when, kp_now_s(), 0, false);
    /* The uid makes sure that it is this pod and not one of the same name. */
    KP_AUTO_FREE char *body = kp_asprintf("{\"metadata\":{\"uid\":\"%s\"},\"status\":{\"conditions\":[{\"type\":\"DisruptionTarget\",\"status\":\"True\",\"reason\":"
                                          "\"PreemptionByScheduler\",\"lastTransitionTime\":\"%s\",\"message\":\"%s: preempting to accommodate a higher priority pod\"}]}}",
                                          victim->uid, when, ((const struct k8s_pod *)room->pod->data)->spec->scheduler_name);
    int code = patch_status(client, victim, body, error);
    if (code == KP_ECONFLICT)
        return 0; /* another pod has the name by now: the victim is gone */
    if (code < 0)
        return code;
    code = client_delete(client, &k8s_pods_resource, victim->ns, victim->name, &options, error);
    if (code == KP_ENOTFOUND || code == KP_ECONFLICT)
        return 0;
    if (code == 0)
        client_event(recorder, &target, "Normal", "Preempted", "Preempted by pod %s on node %s", room->pod->uid, room->node);
    return code;
}

int sched_room_make(const struct sched_room *room, struct client *client, struct client_recorder *recorder, struct kp_error *error)
{
    int code = 0;
    for (size_t i = 0; i < room->n_victims && code == 0; i++)
        code = evict(room, client, recorder, room->victims[i], error);
    for (size_t i = 0; i < room->n_displaced && code == 0; i++)
        code = patch_status(client, room->displaced[i], "{\"status\":{\"nominatedNodeName\":null}}", error);
    return code;
}

void sched_room_done(struct sched_room *room)
{
    for (size_t i = 0; i < room->n_victims; i++)
        client_object_unref(room->victims[i]);
    for (size_t i = 0; i < room->n_displaced; i++)
        client_object_unref(room->displaced[i]);
    free(room->victims);
    free(room->displaced);
    free(room->node);
    client_object_unref(room->pod);
}
