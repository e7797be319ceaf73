/* Attaches the volumes of CSI drivers to the nodes whose pods need them and detaches them again, by VolumeAttachments that the drivers' attachers
 * carry out; tells kubelets in their node's status. One key is one node. */
#include "controlplane/controller-manager/attach_internal.h"
#include "controlplane/controller-manager/controllers.h"

#define FORCE_DETACH_S 360    /* upstream's maxWaitForUnmount: after which a silent node's volumes are taken from it */
#define ATTACH_TIMEOUT_S 120  /* upstream's csiTimeout: how long an attacher may say nothing before the pods are told */
#define OUT_OF_SERVICE "node.kubernetes.io/out-of-service"

/* What is remembered of one attachment, by its name. */
struct memory {
    int64_t unwanted_since_s; /* 0: it is wanted */
    int64_t told_error_s;     /* the time of the attacher's last error that the pods were told of */
    int64_t told_silence_s;
    bool told_multi;
};

/* Which node a volume of one writer was last given to: until the cache shows it, no other may have it. */
struct given {
    char node[CLIENT_KEY_PART_MAX];
    int64_t at_s;
};
#define GIVEN_S 10 /* after which the attachment must be seen, or was refused */

struct attach_state { /* one worker only */
    struct kp_strmap *memories; /* attachment's name -> struct memory */
    struct kp_strmap *given;    /* volume's name -> struct given */
    int by_node, by_volume;     /* indexes of attachments */
};

struct attach_sync {
    const struct plan_input *in;
    struct plan *plan;
    const struct k8s_node *node; /* NULL: it is gone */
    const struct k8s_volume_attachment *const *attachments; /* of the node, ours */
    size_t n_attachments;
    struct attach_wanted *wanted;
    size_t n_wanted;
    struct kp_string_list reported; /* names of volumes that the kubelet may mount */
    struct kp_string_list detached; /* uids and names of attachments to delete, in turn */
};

static struct memory *memory_of(const struct attach_sync *sync, const char *attachment)
{
    struct kp_strmap *memories = ((struct attach_state *)sync->in->state)->memories;
    struct memory *memory = kp_strmap_get(memories, attachment);
    if (!memory) {
        memory = kp_calloc(1, sizeof(*memory));
        kp_strmap_put(memories, attachment, memory);
    }
    return memory;
}

static void forget_memory(const struct attach_sync *sync, const char *attachment)
{
    free(kp_strmap_remove(((struct attach_state *)sync->in->state)->memories, attachment));
}

static void tell_pods(const struct attach_sync *sync, const struct attach_wanted *wanted, const char *type, const char *reason, const char *text)
{
    for (size_t i = 0; i < wanted->n_pods; i++)
        plan_event(sync->plan, &k8s_pod_type, wanted->pods[i], type, reason, "%s", text);
}

/* ---- attaching -------------------------------------------------------------------------------------------------------- */
static bool is_for_one_node(const struct k8s_persistent_volume *volume)
{
    const struct kp_string_list *modes = &volume->spec->access_modes;
    return modes->len && !kp_string_list_has(modes, "ReadWriteMany") && !kp_string_list_has(modes, "ReadOnlyMany");
}

/* Of the pods elsewhere that keep a volume, those of other namespaces are counted only. */
static const char *who_keeps_it(const struct attach_sync *sync, const struct k8s_pod *pod, const struct k8s_pod *const *others, size_t n)
{
    struct kp_arena *arena = sync->in->arena;
    const char *names = NULL;
    size_t foreign = 0;
    for (size_t i = 0; i < n; i++) {
        if (!kp_streq(others[i]->metadata->namespace, pod->metadata->namespace))
            foreign++;
        else
            names = names ? kp_arena_printf(arena, "%s, %s", names, others[i]->metadata->name) : others[i]->metadata->name;
    }
    if (!n)
        return "Volume is already exclusively attached to one node and can't be attached to another";
    if (!names)
        return kp_arena_printf(arena, "Volume is already used by %zu pod(s) in different namespaces", foreign);
    if (foreign)
        return kp_arena_printf(arena, "Volume is already used by pod(s) %s and %zu pod(s) in different namespaces", names, foreign);
    return kp_arena_printf(arena, "Volume is already used by pod(s) %s", names);
}

static void tell_multi_attach(const struct attach_sync *sync, const struct attach_wanted *wanted)
{
    struct memory *memory = memory_of(sync, wanted->attachment);
    const struct k8s_pod *const *others;
    if (memory->told_multi)
        return;
    memory->told_multi = true;
    size_t n = attach_pods_elsewhere(sync->in, wanted->volume, sync->in->name, &others);
    for (size_t i = 0; i < wanted->n_pods; i++)
        plan_event(sync->plan, &k8s_pod_type, wanted->pods[i], "Warning", "FailedAttachVolume", "Multi-Attach error for volume \"%s\" %s",
                   wanted->volume->metadata->name, who_keeps_it(sync, wanted->pods[i], others, n));
}

/* True when another node has the volume or was just given it, whose attachment then brings this key back, or the clock does. */
static bool is_kept_elsewhere(const struct attach_sync *sync, const struct attach_wanted *wanted)
{
    const struct attach_state *state = sync->in->state;
    const char *name = wanted->volume->metadata->name;
    const struct given *given = kp_strmap_get(state->given, name);
    const void *const *items;
    if (!is_for_one_node(wanted->volume))
        return false;
    size_t n = client_view_index(sync->in->view, engine_cache(sync->in->engine, &k8s_volumeattachments_resource), state->by_volume, name, &items);
    for (size_t i = 0; i < n; i++)
        if (!kp_streq(((const struct k8s_volume_attachment *)items[i])->spec->node_name, sync->in->name)) {
            tell_multi_attach(sync, wanted);
            return true;
        }
    if (!given || kp_streq(given->node, sync->in->name) || sync->in->now_s - given->at_s >= GIVEN_S)
        return false;
    plan_requeue_after_ms(sync->plan, 1000);
    return true;
}

static void give(const struct attach_sync *sync, const struct k8s_persistent_volume *volume)
{
    struct kp_strmap *map = ((struct attach_state *)sync->in->state)->given;
    struct given *given = kp_strmap_get(map, volume->metadata->name);
    if (!given) {
        given = kp_calloc(1, sizeof(*given));
        kp_strmap_put(map, volume->metadata->name, given);
    }
    snprintf(given->node, sizeof(given->node), "%s", sync->in->name);
    given->at_s = sync->in->now_s;
}

static void attach(const struct attach_sync *sync, const struct attach_wanted *wanted)
{
    struct kp_arena *arena = sync->in->arena;
    if (is_kept_elsewhere(sync, wanted))
        return;
    struct k8s_volume_attachment *attachment = KP_OBJECT_NEW(arena, k8s_volume_attachment);
    attachment->metadata->name = wanted->attachment;
    attachment->spec->attacher = wanted->volume->spec->csi->driver;
    attachment->spec->node_name = kp_arena_strdup(arena, sync->in->name);
    attachment->spec->source->persistent_volume_name = wanted->volume->metadata->name;
    *memory_of(sync, wanted->attachment) = (struct memory){0};
    give(sync, wanted->volume);
    plan_create(sync->plan, &k8s_volumeattachments_resource, NULL, attachment);
}

/* The attacher's error, or that it says nothing: what keeps the pods from starting. */
static void tell_trouble(const struct attach_sync *sync, const struct attach_wanted *wanted, const struct k8s_volume_attachment *attachment)
{
    struct memory *memory = memory_of(sync, wanted->attachment);
    const struct k8s_volume_error *trouble = attachment->status->attach_error;
    const struct k8s_csi_persistent_volume_source *csi = wanted->volume->spec->csi;
    const char *name = wanted->volume->metadata->name;
    int64_t now_s = sync->in->now_s, since_s = KP_MAX(attachment->metadata->creation_timestamp.seconds, memory->told_silence_s);
    if (trouble) {
        if (memory->told_error_s != trouble->time.seconds)
            tell_pods(sync, wanted, "Warning", "FailedAttachVolume",
                      kp_arena_printf(sync->in->arena, "AttachVolume.Attach failed for volume \"%s\" : %s", name, trouble->message ? trouble->message : ""));
        memory->told_error_s = trouble->time.seconds;
        return;
    }
    if (now_s - since_s >= ATTACH_TIMEOUT_S) {
        tell_pods(sync, wanted, "Warning", "FailedAttachVolume",
                  kp_arena_printf(sync->in->arena,
                                  "AttachVolume.Attach failed for volume \"%s\" : timed out waiting for external-attacher of %s CSI driver to attach volume %s",
                                  name, csi->driver, csi->volume_handle));
        memory->told_silence_s = since_s = now_s;
    }
    plan_requeue_after_ms(sync->plan, (since_s + ATTACH_TIMEOUT_S - now_s) * 1000);
}

static bool was_reported(const struct k8s_node *node, const char *volume_name)
{
    for (size_t i = 0; i < node->status->volumes_attached.len; i++)
        if (kp_streq(node->status->volumes_attached.items[i].name, volume_name))
            return true;
    return false;
}

static void look_after(struct attach_sync *sync, const struct attach_wanted *wanted)
{
    const struct k8s_volume_attachment *attachment = NULL;
    for (size_t i = 0; i < sync->n_attachments; i++)
        if (kp_streq(sync->attachments[i]->metadata->name, wanted->attachment))
            attachment = sync->attachments[i];
    if (!attachment) {
        attach(sync, wanted);
        return;
    }
    memory_of(sync, wanted->attachment)->unwanted_since_s = 0;
    free(kp_strmap_remove(((struct attach_state *)sync->in->state)->given, wanted->volume->metadata->name)); /* the cache tells by itself now */
    if (attachment->metadata->deletion_timestamp.set)
        return; /* made again when it is gone */
    if (!attachment->status->attached) {
        tell_trouble(sync, wanted, attachment);
        return;
    }
    const char *volume_name = attach_volume_name(sync->in->arena, wanted->volume->spec->csi);
    kp_string_list_add(sync->in->arena, &sync->reported, volume_name);
    if (!was_reported(sync->node, volume_name))
        tell_pods(sync, wanted, "Normal", "SuccessfulAttachVolume",
                  kp_arena_printf(sync->in->arena, "AttachVolume.Attach succeeded for volume \"%s\" ", wanted->volume->metadata->name));
}

/* ---- detaching -------------------------------------------------------------------------------------------------------- */
static bool is_healthy(const struct k8s_node *node)
{
    for (size_t i = 0; node && i < node->status->conditions.len; i++)
        if (kp_streq(node->status->conditions.items[i].type, "Ready"))
            return kp_streq(node->status->conditions.items[i].status, "True");
    return false;
}

static bool is_out_of_service(const struct k8s_node *node)
{
    for (size_t i = 0; node && i < node->spec->taints.len; i++)
        if (kp_streq(node->spec->taints.items[i].key, OUT_OF_SERVICE))
            return true;
    return false;
}

/* What the kubelet says of it; of a node that is gone nobody says that it let go. */
static bool is_in_use(const struct attach_sync *sync, const char *attachment)
{
    for (size_t i = 0; sync->node && i < sync->node->status->volumes_in_use.len; i++)
        if (kp_streq(attach_name_of(sync->in->arena, sync->node->status->volumes_in_use.items[i], sync->in->name), attachment))
            return true;
    return !sync->node;
}

/* The volume's name as the node's status has it, for its PersistentVolume may be gone. */
static const char *reported_name(const struct attach_sync *sync, const char *attachment)
{
    for (size_t i = 0; sync->node && i < sync->node->status->volumes_attached.len; i++) {
        const char *name = sync->node->status->volumes_attached.items[i].name;
        if (kp_streq(attach_name_of(sync->in->arena, name, sync->in->name), attachment))
            return name;
    }
    return NULL;
}

static void let_go(struct attach_sync *sync, const struct k8s_volume_attachment *attachment)
{
    const char *name = attachment->metadata->name;
    if (attachment->metadata->deletion_timestamp.set) {
        forget_memory(sync, name);
        return;
    }
    struct memory *memory = memory_of(sync, name);
    if (!memory->unwanted_since_s)
        memory->unwanted_since_s = sync->in->now_s;
    int64_t left_s = memory->unwanted_since_s + FORCE_DETACH_S - sync->in->now_s;
    if (is_in_use(sync, name) && !is_out_of_service(sync->node) && (is_healthy(sync->node) || left_s > 0)) {
        const char *volume_name = reported_name(sync, name);
        if (volume_name)
            kp_string_list_add(sync->in->arena, &sync->reported, volume_name);
        if (left_s > 0) /* a healthy node's own word brings the key back */
            plan_requeue_after_ms(sync->plan, left_s * 1000);
        return;
    }
    kp_string_list_add(sync->in->arena, &sync->detached, attachment->metadata->uid);
    kp_string_list_add(sync->in->arena, &sync->detached, name);
}

/* ---- a node -------------------------------------------------------------------------------------------------------------- */
static bool is_wanted(const struct attach_sync *sync, const char *attachment)
{
    for (size_t i = 0; i < sync->n_wanted; i++)
        if (kp_streq(sync->wanted[i].attachment, attachment))
            return true;
    return false;
}

/* Attachments of persistent volumes by the name they are given here; whatever else is there is somebody else's. */
static void find_attachments(struct attach_sync *sync)
{
    const struct attach_state *state = sync->in->state;
    const void *const *items;
    size_t n = client_view_index(sync->in->view, engine_cache(sync->in->engine, &k8s_volumeattachments_resource), state->by_node, sync->in->name, &items);
    const struct k8s_volume_attachment **ours = KP_NEW_ARRAY(sync->in->arena, const struct k8s_volume_attachment *, n + 1);
    for (size_t i = 0; i < n; i++) {
        const struct k8s_volume_attachment *attachment = items[i];
        if (kp_starts_with(attachment->metadata->name, "csi-") && attachment->spec->source->persistent_volume_name)
            ours[sync->n_attachments++] = attachment;
    }
    sync->attachments = ours;
}

static bool same_as_reported(const struct attach_sync *sync)
{
    if (sync->node->status->volumes_attached.len != sync->reported.len)
        return false;
    for (size_t i = 0; i < sync->reported.len; i++)
        if (!was_reported(sync->node, sync->reported.items[i]))
            return false;
    return true;
}

static void report(const struct attach_sync *sync)
{
    KP_AUTO_BUF struct kp_buf body = {0};
    if (!sync->node || same_as_reported(sync))
        return;
    kp_buf_puts(&body, "{\"status\":{\"volumesAttached\":");
    for (size_t i = 0; i < sync->reported.len; i++) {
        kp_buf_puts(&body, i ? ",{\"name\":" : "[{\"name\":");
        kp_json_string(&body, sync->reported.items[i]);
        kp_buf_puts(&body, ",\"devicePath\":\"\"}");
    }
    kp_buf_puts(&body, sync->reported.len ? "]}}" : "null}}");
    plan_patch(sync->plan, &k8s_nodes_resource, NULL, sync->node->metadata->name, "status", CLIENT_PATCH_MERGE, kp_arena_strdup(sync->in->arena, body.data));
}

static int plan_node(const struct plan_input *in, struct plan *plan, struct kp_error *error)
{
    struct attach_sync sync = {.in = in, .plan = plan, .node = client_view_get(in->view, engine_cache(in->engine, &k8s_nodes_resource), "", in->name)};
    find_attachments(&sync);
    if (sync.node)
        sync.n_wanted = attach_wanted_of_node(in, in->name, &sync.wanted);
    for (size_t i = 0; i < sync.n_attachments; i++)
        if (!is_wanted(&sync, sync.attachments[i]->metadata->name))
            let_go(&sync, sync.attachments[i]);
    for (size_t i = 0; i < sync.n_wanted; i++)
        look_after(&sync, &sync.wanted[i]);
    report(&sync); /* before anything is detached: the kubelet must not mount it any more */
    for (size_t i = 0; i < sync.detached.len; i += 2)
        plan_delete(plan, &k8s_volumeattachments_resource, NULL, sync.detached.items[i + 1], sync.detached.items[i], -1, NULL);
    return 0;
}

/* ---- what to look at when something changes -------------------------------------------------------------------------------- */
static void enqueue_node(struct controller_run *run, const char *node)
{
    if (!kp_empty(node))
        engine_enqueue(run, "", node);
}

static void enqueue_users(struct controller_run *run, struct client_view *view, const struct k8s_persistent_volume_claim *claim)
{
    const struct k8s_pod *const *pods;
    size_t n = storage_pods_of_claim(engine_of(run), view, claim, &pods);
    for (size_t i = 0; i < n; i++)
        enqueue_node(run, pods[i]->spec->node_name);
}

static void enqueue_users_of_volume(struct controller_run *run, const struct k8s_persistent_volume *volume, struct client_view *view)
{
    const struct k8s_object_reference *ref = volume ? volume->spec->claim_ref : NULL;
    const struct k8s_persistent_volume_claim *claim =
        ref ? client_view_get(view, engine_cache(engine_of(run), &k8s_persistentvolumeclaims_resource), ref->namespace, ref->name) : NULL;
    if (claim)
        enqueue_users(run, view, claim);
}

static void map_pod(struct controller_run *run, const struct client_object *old, const struct client_object *new)
{
    const struct k8s_pod *before = old ? old->data : NULL, *pod = new ? new->data : NULL;
    if (before && pod && kp_streq(before->metadata->uid, pod->metadata->uid) && kp_streq(before->spec->node_name, pod->spec->node_name) &&
        attach_pod_is_over(before) == attach_pod_is_over(pod))
        return;
    if (before && before->spec->volumes.len)
        enqueue_node(run, before->spec->node_name);
    if (pod && pod->spec->volumes.len)
        enqueue_node(run, pod->spec->node_name);
}

static void map_claim(struct controller_run *run, const struct client_object *old, const struct client_object *new)
{
    const struct k8s_persistent_volume_claim *claim = new ? new->data : NULL;
    if (!claim || !kp_streq(claim->status->phase, "Bound"))
        return;
    KP_AUTO(client_view_free) struct client_view *view = client_view_new();
    enqueue_users(run, view, claim);
}

static void map_volume(struct controller_run *run, const struct client_object *old, const struct client_object *new)
{
    KP_AUTO(client_view_free) struct client_view *view = client_view_new();
    if (new && ((const struct k8s_persistent_volume *)new->data)->spec->csi)
        enqueue_users_of_volume(run, new->data, view);
}

static void map_attachment(struct controller_run *run, const struct client_object *old, const struct client_object *new)
{
    const struct k8s_volume_attachment *attachment = (new ? new : old)->data;
    enqueue_node(run, attachment->spec->node_name);
    if (new || kp_empty(attachment->spec->source->persistent_volume_name))
        return;
    KP_AUTO(client_view_free) struct client_view *view = client_view_new(); /* it is free for others now */
    enqueue_users_of_volume(run, client_view_get(view, engine_cache(engine_of(run), &k8s_persistentvolumes_resource), "", attachment->spec->source->persistent_volume_name), view);
}

static bool same_names(const struct kp_string_list *a, const struct kp_string_list *b)
{
    return a->len == b->len && volume_has_modes(a, b);
}

/* Heartbeats change nothing for volumes. */
static void map_node(struct controller_run *run, const struct client_object *old, const struct client_object *new)
{
    const struct k8s_node *before = old ? old->data : NULL, *node = new ? new->data : NULL;
    if (before && node && same_names(&before->status->volumes_in_use, &node->status->volumes_in_use) &&
        before->status->volumes_attached.len == node->status->volumes_attached.len && is_healthy(before) == is_healthy(node) &&
        is_out_of_service(before) == is_out_of_service(node))
        return;
    engine_enqueue(run, "", (new ? new : old)->name);
}

static void map_driver(struct controller_run *run, const struct client_object *old, const struct client_object *new)
{
    KP_AUTO(client_view_free) struct client_view *view = client_view_new();
    const void *const *nodes;
    size_t n = client_view_list(view, engine_cache(engine_of(run), &k8s_nodes_resource), NULL, &nodes);
    for (size_t i = 0; i < n; i++)
        engine_enqueue(run, "", ((const struct k8s_node *)nodes[i])->metadata->name);
}

static size_t attachments_by_node(const struct client_object *object, const char **values, size_t max)
{
    values[0] = ((const struct k8s_volume_attachment *)object->data)->spec->node_name;
    return kp_empty(values[0]) ? 0 : 1;
}

static size_t attachments_by_volume(const struct client_object *object, const char **values, size_t max)
{
    values[0] = ((const struct k8s_volume_attachment *)object->data)->spec->source->persistent_volume_name;
    return kp_empty(values[0]) ? 0 : 1;
}

static int setup(struct engine *engine, struct controller_run *run, void **ret_state, struct kp_error *error)
{
    struct attach_state *state = kp_calloc(1, sizeof(*state));
    struct client_informer *attachments = engine_informer(engine, &k8s_volumeattachments_resource);
    state->memories = kp_strmap_new();
    state->given = kp_strmap_new();
    state->by_node = client_informer_add_index(attachments, attachments_by_node);
    state->by_volume = client_informer_add_index(attachments, attachments_by_volume);
    *ret_state = state;
    storage_index_pods(engine);
    attach_index_pods(engine);
    engine_watch(run, &k8s_pods_resource, map_pod);
    engine_watch(run, &k8s_nodes_resource, map_node);
    engine_watch(run, &k8s_persistentvolumeclaims_resource, map_claim);
    engine_watch(run, &k8s_persistentvolumes_resource, map_volume);
    engine_watch(run, &k8s_volumeattachments_resource, map_attachment);
    engine_watch(run, &k8s_csidrivers_resource, map_driver);
    return 0;
}

static void free_state(void *p)
{
    struct attach_state *state = p;
    kp_strmap_free(state->memories, free);
    kp_strmap_free(state->given, free);
    free(state);
}

const struct controller persistentvolume_attach_detach_controller = {
    .name = "persistentvolume-attach-detach-controller", .workers = 1, .setup = setup, .plan = plan_node, .teardown = free_state,
};
