/* Pods from the API: the watch on this node's pods, and the mirrors of static pods. */
#include "nodeimage/kubelet/kubelet_internal.h"

#define MIRROR_RETRY_MS 1000

static struct client_queue *mirror_queue; /* "uid" of a static pod, or "!ns/name" of a mirror to be removed */

static const char *mirror_hash(const struct k8s_pod *pod)
{
    return kp_string_map_get(&pod->metadata->annotations, KUBELET_ANNOTATION_CONFIG_MIRROR);
}

/* Whether the worker has anything to do about the difference of two versions. */
static bool differs(const struct k8s_pod *a, const struct k8s_pod *b)
{
    const struct k8s_object_meta *x = a->metadata, *y = b->metadata;
    if (x->deletion_timestamp.set != y->deletion_timestamp.set ||
        x->deletion_timestamp.seconds != y->deletion_timestamp.seconds ||
        x->deletion_grace_period_seconds != y->deletion_grace_period_seconds || x->generation != y->generation)
        return true;
    if (x->labels.len != y->labels.len || x->annotations.len != y->annotations.len)
        return true;
    for (size_t i = 0; i < x->labels.len; i++)
        if (!kp_streq(kp_string_map_get(&y->labels, x->labels.items[i].key), x->labels.items[i].value))
            return true;
    for (size_t i = 0; i < x->annotations.len; i++)
        if (!kp_streq(kp_string_map_get(&y->annotations, x->annotations.items[i].key), x->annotations.items[i].value))
            return true;
    if (a->spec->readiness_gates.len > 0)
        return true; /* others' conditions count */
    return !kp_object_equal(&k8s_pod_spec_type, a->spec, b->spec);
}

static void on_mirror(struct kubelet *kubelet, const struct k8s_pod *pod, bool deleted)
{
    struct kubelet_pod *target = kubelet_workers_find_name(kubelet->workers, pod->metadata->namespace, pod->metadata->name);
    if (target && target->is_static) {
        client_queue_add(mirror_queue, target->uid);
        if (!deleted)
            kubelet_statuses_retry(kubelet->statuses, target->uid);
    } else if (!deleted && kubelet_static_synced()) {
        kubelet_mirror_delete(kubelet, pod->metadata->namespace, pod->metadata->name);
    }
    kubelet_pod_unref(target);
}

/* The controllers mark the pods of a node that was not heard of as not ready, mirrors too. */
static void observe_mirror(struct kubelet *kubelet, const struct k8s_pod *pod)
{
    struct kubelet_pod *target = kubelet_workers_find_name(kubelet->workers, pod->metadata->namespace, pod->metadata->name);
    if (target && target->is_static)
        kubelet_statuses_observe(kubelet->statuses, target->uid, pod->status);
    kubelet_pod_unref(target);
}

static void on_pod(struct client_object *old, struct client_object *new, void *arg)
{
    struct kubelet *kubelet = arg;
    struct client_object *object = new ? new : old;
    const struct k8s_pod *pod = object->data;
    if (mirror_hash(pod)) {
        const struct k8s_pod *before = old ? old->data : NULL;
        if (!new || !before || pod->metadata->deletion_timestamp.set || !kp_streq(mirror_hash(before), mirror_hash(pod)))
            on_mirror(kubelet, pod, !new);
        else
            observe_mirror(kubelet, pod);
        return;
    }
    if (!new) {
        kubelet_workers_remove(kubelet->workers, object->uid, 0 /* nobody waits for it any more */);
        return;
    }
    struct kubelet_pod *version = kubelet_pod_from_object(new);
    if (old && kp_streq(old->uid, new->uid) && !differs(old->data, pod)) {
        kubelet_workers_refresh(kubelet->workers, version);
        kubelet_statuses_observe(kubelet->statuses, version->uid, pod->status);
    } else {
        kubelet_workers_update(kubelet->workers, version);
    }
    kubelet_pod_unref(version);
}

bool kubelet_mirror_uid(struct kubelet *kubelet, const struct kubelet_pod *pod, struct kp_arena *arena, const char **ret_uid)
{
    struct client_object *object = kubelet->pods ? client_informer_get(kubelet->pods, pod->ns, pod->name) : NULL;
    if (!object)
        return false;
    const char *hash = mirror_hash(object->data);
    bool ours = kp_streq(hash, kp_string_map_get(&pod->data->metadata->annotations, KUBELET_ANNOTATION_CONFIG_HASH));
    if (ours)
        *ret_uid = kp_arena_strdup(arena, object->uid);
    client_object_unref(object);
    return ours;
}

static int create_mirror(struct kubelet *kubelet, struct kubelet_pod *pod, struct kp_error *error)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    struct k8s_pod *mirror = KP_OBJECT_CLONE(arena, k8s_pod, pod->data);
    const char *hash = kp_string_map_get(&mirror->metadata->annotations, KUBELET_ANNOTATION_CONFIG_HASH);
    kp_string_map_set(arena, &mirror->metadata->annotations, KUBELET_ANNOTATION_CONFIG_MIRROR, hash);
    mirror->metadata->uid = NULL;
    struct client_object *node = client_informer_get(kubelet->node_informer, "", kubelet->config.node_name);
    if (!node)
        return kp_fail(error, KP_EAGAIN, "the node is not registered yet");
    struct k8s_owner_reference *owner = KP_LIST_ADD(arena, &mirror->metadata->owner_references);
    owner->api_version = "v1";
    owner->kind = "Node";
    owner->name = kp_arena_strdup(arena, node->name);
    owner->uid = kp_arena_strdup(arena, node->uid);
    KP_SET(owner, controller, true);
    client_object_unref(node);
    return client_create(kubelet->client, &k8s_pods_resource, pod->ns, mirror, NULL, arena, NULL, error);
}

static int delete_mirror(struct kubelet *kubelet, const char *ns, const char *name, const char *uid, struct kp_error *error)
{
    struct client_delete_options options = {.grace_period_s = 0, .uid = uid};
    int rc = client_delete(kubelet->client, &k8s_pods_resource, ns, name, &options, error);
    return rc == KP_ENOTFOUND ? 0 : rc;
}

/* Brings one mirror into line; KP_EAGAIN: look again soon. */
static int sync_mirror(struct kubelet *kubelet, const char *uid, struct kp_error *error)
{
    struct kubelet_pod *pod = kubelet_workers_find(kubelet->workers, uid);
    if (!pod || !pod->is_static) {
        kubelet_pod_unref(pod);
        return 0;
    }
    struct client_object *there = client_informer_get(kubelet->pods, pod->ns, pod->name);
    int rc = 0;
    if (!there) {
        rc = create_mirror(kubelet, pod, error);
        rc = rc == KP_EEXISTS ? 0 : rc;
    } else {
        const struct k8s_pod *mirror = there->data;
        const char *hash = kp_string_map_get(&pod->data->metadata->annotations, KUBELET_ANNOTATION_CONFIG_HASH);
        if (mirror->metadata->deletion_timestamp.set || !kp_streq(mirror_hash(mirror), hash)) {
            rc = delete_mirror(kubelet, pod->ns, pod->name, there->uid, error);
            if (rc == 0)
                rc = kp_fail(error, KP_EAGAIN, "an old mirror pod is going away");
        }
    }
    client_object_unref(there);
    kubelet_pod_unref(pod);
    return rc;
}

static int drop_mirror(struct kubelet *kubelet, const char *key, struct kp_error *error)
{
    char ns[CLIENT_KEY_PART_MAX], name[CLIENT_KEY_PART_MAX];
    int rc = client_key_split(key, ns, name);
    if (rc < 0)
        return 0;
    struct kubelet_pod *living = kubelet_workers_find_name(kubelet->workers, ns, name);
    struct client_object *there = client_informer_get(kubelet->pods, ns, name);
    if (there && mirror_hash(there->data) && !living)
        rc = delete_mirror(kubelet, ns, name, there->uid, error);
    client_object_unref(there);
    kubelet_pod_unref(living);
    return rc;
}

static void *run_mirrors(void *arg)
{
    struct kubelet *kubelet = arg;
    char *key;
    while ((key = client_queue_get(mirror_queue)) != NULL) {
        struct kp_error error = {0};
        int rc = 0;
        if (!client_informer_synced(kubelet->pods))
            rc = KP_EAGAIN;
        else if (key[0] == '!')
            rc = drop_mirror(kubelet, key + 1, &error);
        else
            rc = sync_mirror(kubelet, key, &error);
        if (rc < 0 && rc != KP_EAGAIN)
            kp_warn("mirror pod", "key", key, "error", error.message, NULL);
        client_queue_done(mirror_queue, key);
        if (rc < 0)
            client_queue_add_after(mirror_queue, key, rc == KP_EAGAIN ? 100 : MIRROR_RETRY_MS);
        free(key);
    }
    return NULL;
}

void kubelet_mirror_ensure(struct kubelet *kubelet, struct kubelet_pod *pod)
{
    if (kubelet->client && mirror_queue)
        client_queue_add(mirror_queue, pod->uid);
}

void kubelet_mirror_delete(struct kubelet *kubelet, const char *ns, const char *name)
{
    if (!kubelet->client || !mirror_queue)
        return;
    KP_AUTO_FREE char *key = kp_asprintf("!%s/%s", ns, name);
    client_queue_add(mirror_queue, key);
}

void kubelet_source_start(struct kubelet *kubelet)
{
    KP_AUTO_FREE char *selector = kp_asprintf("spec.nodeName=%s", kubelet->config.node_name);
    KP_AUTO_FREE char *own = kp_asprintf("metadata.name=%s", kubelet->config.node_name);
    mirror_queue = client_queue_new("mirror_pods");
    kubelet->pods = client_informer_new(kubelet->client, &k8s_pods_resource, NULL, NULL, selector);
    client_informer_add_handler(kubelet->pods, on_pod, kubelet);
    kubelet->services = client_informer_new(kubelet->client, &k8s_services_resource, NULL, NULL, NULL);
    kubelet->node_informer = client_informer_new(kubelet->client, &k8s_nodes_resource, NULL, NULL, own);
    client_informer_start(kubelet->node_informer);
    client_informer_start(kubelet->services);
    client_informer_start(kubelet->pods);
    kubelet_thread("mirror-pods", run_mirrors, kubelet);
}
