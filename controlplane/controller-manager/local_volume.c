/* Provisions the volumes of kprov.dev/local, which are folders on the disk of the node that the scheduler has chosen: here only the objects are made
 * and deleted; the node's kubelet makes and removes the folders. */
#include "controlplane/controller-manager/controllers.h"
#include "controlplane/controller-manager/storage.h"

#define LEAVING_MAX 500 /* volumes that a node is told of at a time: annotations have little room */
#define RETRY_MS 60000 /* of a claim that was refused: its class or its node may change */

/* ---- claims ----------------------------------------------------------------------------------------------------------------- */
static bool only_of_one_node(const struct kp_string_list *modes)
{
    for (size_t i = 0; i < modes->len; i++)
        if (!kp_streq(modes->items[i], "ReadWriteOnce") && !kp_streq(modes->items[i], "ReadWriteOncePod"))
            return false;
    return true;
}

/* Why no node could have such a volume, or NULL. */
static const char *impossible(const struct k8s_persistent_volume_claim *claim, const struct k8s_storage_class *class)
{
    if (kp_streq(volume_claim_mode(claim), "Block"))
        return VOLUME_LOCAL_PROVISIONER " does not support block volume provisioning";
    if (!volume_class_is_delayed(class))
        return "the class needs volumeBindingMode WaitForFirstConsumer: a volume on a node's disk is made where its pod goes";
    if (!only_of_one_node(&claim->spec->access_modes))
        return "only ReadWriteOnce and ReadWriteOncePod are supported: the volume is on one node's disk";
    if (claim->spec->selector)
        return "claim Selector is not supported";
    if (claim->spec->data_source || claim->spec->data_source_ref)
        return "a data source is not supported";
    if (!kp_empty(claim->spec->volume_attributes_class_name))
        return "a volume attributes class is not supported";
    if (class->parameters.len)
        return "the class has parameters, of which none is known";
    return NULL;
}

static bool is_in_topology(const struct k8s_storage_class *class, const struct k8s_node *node)
{
    for (size_t i = 0; i < class->allowed_topologies.len; i++) {
        const struct k8s_topology_selector_term *term = &class->allowed_topologies.items[i];
        bool all = true;
        for (size_t k = 0; k < term->match_label_expressions.len; k++) {
            const struct k8s_topology_selector_label_requirement *need = &term->match_label_expressions.items[k];
            const char *value = kp_string_map_get(&node->metadata->labels, need->key);
            all &= value && kp_string_list_has(&need->values, value);
        }
        if (all)
            return true;
    }
    return class->allowed_topologies.len == 0;
}

static void refuse(struct plan *plan, const struct k8s_persistent_volume_claim *claim, const char *why)
{
    plan_event(plan, &k8s_persistent_volume_claim_type, claim, "Warning", "ProvisioningFailed", "failed to provision volume with StorageClass \"%s\": %s",
               volume_claim_class(claim), why);
    plan_requeue_after_ms(plan, RETRY_MS);
}

/* The scheduler chooses again once the annotation is gone. */
static void choose_again(const struct plan_input *in, struct plan *plan, const struct k8s_persistent_volume_claim *claim, const char *why)
{
    struct k8s_persistent_volume_claim *copy = KP_OBJECT_CLONE(in->arena, k8s_persistent_volume_claim, claim);
    plan_event(plan, &k8s_persistent_volume_claim_type, claim, "Warning", "ProvisioningFailed", "failed to provision volume with StorageClass \"%s\": %s",
               volume_claim_class(claim), why);
    kp_string_map_remove(in->arena, &copy->metadata->annotations, VOLUME_SELECTED_NODE);
    plan_update(plan, &k8s_persistentvolumeclaims_resource, copy);
}

static struct k8s_volume_node_affinity *only_on(struct kp_arena *arena, const char *hostname)
{
    struct k8s_volume_node_affinity *affinity = KP_OBJECT_NEW(arena, k8s_volume_node_affinity);
    affinity->required = KP_OBJECT_NEW(arena, k8s_node_selector);
    struct k8s_node_selector_term *term = KP_LIST_ADD(arena, &affinity->required->node_selector_terms);
    struct k8s_node_selector_requirement *need = KP_LIST_ADD(arena, &term->match_expressions);
    need->key = VOLUME_HOSTNAME_LABEL;
    need->operator = "In";
    kp_string_list_add(arena, &need->values, hostname);
    return affinity;
}

static struct k8s_persistent_volume *make_volume(struct kp_arena *arena, const char *name, const struct k8s_persistent_volume_claim *claim,
                                                 const struct k8s_storage_class *class, const char *hostname)
{
    struct k8s_persistent_volume *volume = KP_OBJECT_NEW(arena, k8s_persistent_volume);
    volume->metadata->name = name;
    kp_string_map_set(arena, &volume->metadata->annotations, VOLUME_PROVISIONED_BY, VOLUME_LOCAL_PROVISIONER);
    kp_string_list_add(arena, &volume->metadata->finalizers, VOLUME_LOCAL_FINALIZER);
    kp_string_map_set(arena, &volume->spec->capacity, "storage", kp_string_map_get(&claim->spec->resources->requests, "storage"));
    volume->spec->access_modes = claim->spec->access_modes;
    volume->spec->persistent_volume_reclaim_policy = kp_empty(class->reclaim_policy) ? "Delete" : class->reclaim_policy;
    volume->spec->storage_class_name = volume_claim_class(claim);
    volume->spec->mount_options = class->mount_options;
    volume->spec->volume_mode = "Filesystem";
    volume->spec->local = KP_OBJECT_NEW(arena, k8s_local_volume_source);
    volume->spec->local->path = kp_arena_printf(arena, VOLUME_LOCAL_DIR "/%s", name);
    volume->spec->node_affinity = only_on(arena, hostname);
    volume->spec->claim_ref = KP_OBJECT_NEW(arena, k8s_object_reference);
    *volume->spec->claim_ref = (struct k8s_object_reference){
        .kind = "PersistentVolumeClaim", .api_version = "v1", .namespace = claim->metadata->namespace, .name = claim->metadata->name,
        .uid = claim->metadata->uid, .resource_version = claim->metadata->resource_version,
    };
    return volume;
}

/* The claim waits for a volume of ours: the binder has given it to us, and it still has its class. */
static const struct k8s_storage_class *class_of_ours(const struct plan_input *in, const struct k8s_persistent_volume_claim *claim)
{
    const struct kp_string_map *annotations = &claim->metadata->annotations;
    const char *asked = kp_string_map_get(annotations, VOLUME_PROVISIONER);
    if (!asked)
        asked = kp_string_map_get(annotations, VOLUME_PROVISIONER_BETA);
    if (!kp_streq(asked, VOLUME_LOCAL_PROVISIONER) || !kp_empty(claim->spec->volume_name) || claim->metadata->deletion_timestamp.set)
        return NULL;
    const struct k8s_storage_class *class =
        client_view_get(in->view, engine_cache(in->engine, &k8s_storageclasses_resource), "", volume_claim_class(claim));
    return class && kp_streq(class->provisioner, VOLUME_LOCAL_PROVISIONER) ? class : NULL;
}

static int plan_claim(const struct plan_input *in, struct plan *plan, struct kp_error *error)
{
    const struct k8s_persistent_volume_claim *claim =
        client_view_get(in->view, engine_cache(in->engine, &k8s_persistentvolumeclaims_resource), in->ns, in->name);
    const struct k8s_storage_class *class = claim ? class_of_ours(in, claim) : NULL;
    if (!class)
        return 0;
    const char *node_name = kp_string_map_get(&claim->metadata->annotations, VOLUME_SELECTED_NODE), *why = impossible(claim, class);
    const char *name = kp_arena_printf(in->arena, "pvc-%s", claim->metadata->uid);
    if (why) {
        refuse(plan, claim, why);
        return 0;
    }
    if (kp_empty(node_name) || client_view_get(in->view, engine_cache(in->engine, &k8s_persistentvolumes_resource), "", name))
        return 0; /* not placed yet; or made, and the binder binds it */
    const struct k8s_node *node = client_view_get(in->view, engine_cache(in->engine, &k8s_nodes_resource), "", node_name);
    const char *hostname = node ? kp_string_map_get(&node->metadata->labels, VOLUME_HOSTNAME_LABEL) : NULL;
    if (!node || node->metadata->deletion_timestamp.set) {
        choose_again(in, plan, claim, kp_arena_printf(in->arena, "node \"%s\" not found", node_name));
    } else if (kp_empty(hostname)) {
        choose_again(in, plan, claim, kp_arena_printf(in->arena, "node \"%s\" has no label " VOLUME_HOSTNAME_LABEL, node_name));
    } else if (!is_in_topology(class, node)) {
        choose_again(in, plan, claim, kp_arena_printf(in->arena, "node \"%s\" is not in the allowed topologies of the class", node_name));
    } else {
        plan_event(plan, &k8s_persistent_volume_claim_type, claim, "Normal", "Provisioning",
                   "External provisioner is provisioning volume for claim \"%s/%s\"", in->ns, in->name);
        plan_create(plan, &k8s_persistentvolumes_resource, NULL, make_volume(in->arena, name, claim, class, hostname));
        plan_event_on_failure(plan, &k8s_persistent_volume_claim_type, claim, "ProvisioningFailed", "Error creating provisioned PV object: ");
        plan_event(plan, &k8s_persistent_volume_claim_type, claim, "Normal", "ProvisioningSucceeded", "Successfully provisioned volume %s", name);
    }
    return 0;
}

/* ---- volumes ------------------------------------------------------------------------------------------------------------------ */
/* No node is left whose kubelet would remove the folder; the cache is asked first, then the store. */
static int node_is_gone(const struct plan_input *in, const char *hostname, bool *ret_gone, struct kp_error *error)
{
    const void *const *nodes;
    size_t n = client_view_list(in->view, engine_cache(in->engine, &k8s_nodes_resource), NULL, &nodes);
    void *answer;
    *ret_gone = false;
    for (size_t i = 0; i < n; i++)
        if (kp_streq(kp_string_map_get(&((const struct k8s_node *)nodes[i])->metadata->labels, VOLUME_HOSTNAME_LABEL), hostname))
            return 0;
    const struct client_list_options options = {.label_selector = kp_arena_printf(in->arena, VOLUME_HOSTNAME_LABEL "=%s", hostname)};
    if (client_list(engine_client(in->engine), &k8s_nodes_resource, NULL, &options, in->arena, &answer, error) < 0)
        return kp_wrap(error, "nodes with hostname %s", hostname);
    *ret_gone = ((const struct k8s_node_list *)answer)->items.len == 0;
    return 0;
}

/* It is being deleted and waits for its node to remove the folder. */
static bool is_leaving(const struct k8s_persistent_volume *volume)
{
    return kp_streq(kp_string_map_get(&volume->metadata->annotations, VOLUME_PROVISIONED_BY), VOLUME_LOCAL_PROVISIONER) &&
           volume->metadata->deletion_timestamp.set && storage_has_finalizer(volume->metadata, VOLUME_LOCAL_FINALIZER) &&
           !kp_streq(volume->status->phase, "Bound") && volume_only_host(volume);
}

static void tell_node(const struct plan_input *in, struct plan *plan, const struct k8s_node *node, const void *const *volumes, size_t n)
{
    const char *hostname = kp_string_map_get(&node->metadata->labels, VOLUME_HOSTNAME_LABEL), *was = kp_string_map_get(&node->metadata->annotations, VOLUME_LOCAL_LEAVING);
    KP_AUTO_BUF struct kp_buf names = {0}, body = {0};
    for (size_t i = 0, count = 0; hostname && i < n && count < LEAVING_MAX; i++) {
        const struct k8s_persistent_volume *volume = volumes[i];
        if (is_leaving(volume) && kp_streq(volume_only_host(volume), hostname))
            kp_buf_printf(&names, "%s%s", count++ ? "," : "", volume->metadata->name);
    }
    if (kp_streq(names.data ? names.data : "", was ? was : ""))
        return;
    kp_buf_puts(&body, "{\"metadata\":{\"annotations\":{\"" VOLUME_LOCAL_LEAVING "\":");
    if (names.data)
        kp_json_string(&body, names.data);
    else
        kp_buf_puts(&body, "null");
    kp_buf_puts(&body, "}}}");
    plan_patch(plan, &k8s_nodes_resource, NULL, node->metadata->name, NULL, CLIENT_PATCH_MERGE, kp_arena_strdup(in->arena, body.data));
}

/* Whenever a volume leaves or has left. A kubelet that never mounted it has no folder that would remind it. */
static void tell_nodes(const struct plan_input *in, struct plan *plan)
{
    const void *const *volumes, *const *nodes;
    size_t n_volumes = client_view_list(in->view, engine_cache(in->engine, &k8s_persistentvolumes_resource), NULL, &volumes);
    size_t n_nodes = client_view_list(in->view, engine_cache(in->engine, &k8s_nodes_resource), NULL, &nodes), n = 0;
    const void **leaving = KP_NEW_ARRAY(in->arena, const void *, n_volumes + 1);
    for (size_t i = 0; i < n_volumes; i++)
        if (is_leaving(volumes[i]))
            leaving[n++] = volumes[i];
    for (size_t i = 0; i < n_nodes; i++)
        tell_node(in, plan, nodes[i], leaving, n);
}

static int plan_volume(const struct plan_input *in, struct plan *plan, struct kp_error *error)
{
    const struct k8s_persistent_volume *volume = client_view_get(in->view, engine_cache(in->engine, &k8s_persistentvolumes_resource), "", in->name);
    bool gone;
    if (!volume)
        tell_nodes(in, plan);
    if (!volume || !kp_streq(kp_string_map_get(&volume->metadata->annotations, VOLUME_PROVISIONED_BY), VOLUME_LOCAL_PROVISIONER))
        return 0;
    if (!volume->metadata->deletion_timestamp.set) {
        if (kp_streq(volume->status->phase, "Released") && kp_streq(volume->spec->persistent_volume_reclaim_policy, "Delete"))
            plan_delete(plan, &k8s_persistentvolumes_resource, NULL, in->name, volume->metadata->uid, -1, NULL);
        return 0;
    }
    tell_nodes(in, plan);
    if (!is_leaving(volume))
        return 0;
    if (node_is_gone(in, volume_only_host(volume), &gone, error) < 0)
        return error->code;
    if (!gone)
        return 0; /* its kubelet takes the finalizer away when the folder is removed */
    struct k8s_persistent_volume *copy = KP_OBJECT_CLONE(in->arena, k8s_persistent_volume, volume);
    storage_remove_finalizer(copy->metadata, VOLUME_LOCAL_FINALIZER);
    plan_update(plan, &k8s_persistentvolumes_resource, copy);
    return 0;
}

static int plan_key(const struct plan_input *in, struct plan *plan, struct kp_error *error)
{
    return *in->ns ? plan_claim(in, plan, error) : plan_volume(in, plan, error);
}

/* A node went: its volumes that are being deleted wait for nobody any more. Or it came: then it is told of them. */
static void map_node(struct controller_run *run, const struct client_object *old, const struct client_object *new)
{
    if (old && new)
        return;
    KP_AUTO(client_view_free) struct client_view *view = client_view_new();
    const void *const *volumes;
    size_t n = client_view_list(view, engine_cache(engine_of(run), &k8s_persistentvolumes_resource), NULL, &volumes);
    for (size_t i = 0; i < n; i++) {
        const struct k8s_persistent_volume *volume = volumes[i];
        if (is_leaving(volume))
            engine_enqueue(run, "", volume->metadata->name);
    }
}

/* A class came or changed: the claims that wait for it were asked of us before, and did not change. */
static void map_class(struct controller_run *run, const struct client_object *old, const struct client_object *new)
{
    if (!new || !kp_streq(((const struct k8s_storage_class *)new->data)->provisioner, VOLUME_LOCAL_PROVISIONER))
        return;
    KP_AUTO(client_view_free) struct client_view *view = client_view_new();
    const void *const *claims;
    size_t n = client_view_list(view, engine_cache(engine_of(run), &k8s_persistentvolumeclaims_resource), NULL, &claims);
    for (size_t i = 0; i < n; i++) {
        const struct k8s_persistent_volume_claim *claim = claims[i];
        if (kp_empty(claim->spec->volume_name) && kp_streq(volume_claim_class(claim), new->name))
            engine_enqueue(run, claim->metadata->namespace, claim->metadata->name);
    }
}

static int setup(struct engine *engine, struct controller_run *run, void **ret_state, struct kp_error *error)
{
    engine_watch(run, &k8s_storageclasses_resource, map_class);
    engine_watch(run, &k8s_persistentvolumeclaims_resource, engine_map_self);
    engine_watch(run, &k8s_persistentvolumes_resource, engine_map_self);
    engine_watch(run, &k8s_nodes_resource, map_node);
    return 0;
}

const struct controller local_volume_controller = {.name = "kprov-local-volume-controller", .workers = 1, .setup = setup, .plan = plan_key};
