/* Binds claims to volumes, as upstream's persistentvolume-binder: this half is the claims'. Each plan takes one step of a binding - the
 * volume's claimRef, its phase and the claim's volumeName, the claim's status - and finds from the objects which one comes next. */
#include "controlplane/controller-manager/controllers.h"
#include "controlplane/controller-manager/volume_binder.h"

#define BINDER_RESYNC_MS 15000 /* upstream's PVClaimBinderSyncPeriod: how often a claim that waits is told of */
#define UNBOUND "?"            /* no volume has such a name */

static void claim_event(struct plan *plan, const struct k8s_persistent_volume_claim *claim, const char *type, const char *reason, const char *text)
{
    plan_event(plan, &k8s_persistent_volume_claim_type, claim, type, reason, "%s", text);
}

/* A claim that has no volume: its status tells neither room nor modes. */
static bool set_claim_phase(const struct plan_input *in, struct plan *plan, const struct k8s_persistent_volume_claim *claim, const char *phase)
{
    if (kp_streq(claim->status->phase, phase) && !claim->status->access_modes.len && !claim->status->capacity.len)
        return false;
    struct k8s_persistent_volume_claim *copy = KP_OBJECT_CLONE(in->arena, k8s_persistent_volume_claim, claim);
    copy->status->phase = phase;
    copy->status->access_modes = (struct kp_string_list){0};
    copy->status->capacity = (struct kp_string_map){0};
    plan_update_status(plan, &k8s_persistentvolumeclaims_resource, copy);
    return true;
}

static int lose(const struct plan_input *in, struct plan *plan, const struct k8s_persistent_volume_claim *claim, const char *reason, const char *text)
{
    if (kp_streq(claim->status->phase, "Lost"))
        return 0;
    set_claim_phase(in, plan, claim, "Lost");
    claim_event(plan, claim, "Warning", reason, text);
    return 0;
}

static int wait_more(const struct plan_input *in, struct plan *plan, const struct k8s_persistent_volume_claim *claim)
{
    set_claim_phase(in, plan, claim, "Pending");
    plan_requeue_after_ms(plan, BINDER_RESYNC_MS);
    return 0;
}

/* ---- the steps of a binding ------------------------------------------------------------------------------------------- */
bool binder_set_phase(const struct plan_input *in, struct plan *plan, const struct k8s_persistent_volume *volume, const char *phase,
                      const char *message)
{
    if (kp_streq(volume->status->phase, phase))
        return false;
    struct k8s_persistent_volume *copy = KP_OBJECT_CLONE(in->arena, k8s_persistent_volume, volume);
    copy->status->phase = phase;
    copy->status->message = message;
    copy->status->last_phase_transition_time = KP_TIME_OF(in->now_s);
    plan_update_status(plan, &k8s_persistentvolumes_resource, copy);
    return true;
}

/* True when the volume's claimRef had to be written. The volume's version decides between two claims that want it. */
static bool claim_volume(const struct plan_input *in, struct plan *plan, const struct k8s_persistent_volume *volume,
                         const struct k8s_persistent_volume_claim *claim)
{
    bool was_for = volume_is_for(volume, claim);
    if (was_for && kp_streq(volume->spec->claim_ref->uid, claim->metadata->uid))
        return false;
    struct k8s_persistent_volume *copy = KP_OBJECT_CLONE(in->arena, k8s_persistent_volume, volume);
    copy->spec->claim_ref = KP_OBJECT_NEW(in->arena, k8s_object_reference);
    *copy->spec->claim_ref = (struct k8s_object_reference){
        .kind = "PersistentVolumeClaim", .api_version = "v1", .namespace = claim->metadata->namespace, .name = claim->metadata->name,
        .uid = claim->metadata->uid, .resource_version = claim->metadata->resource_version,
    };
    if (!was_for)
        kp_string_map_set(in->arena, &copy->metadata->annotations, VOLUME_BOUND_BY_CONTROLLER, "yes");
    plan_update(plan, &k8s_persistentvolumes_resource, copy);
    return true;
}

static bool name_volume(const struct plan_input *in, struct plan *plan, const struct k8s_persistent_volume *volume,
                        const struct k8s_persistent_volume_claim *claim)
{
    bool names_it = kp_streq(claim->spec->volume_name, volume->metadata->name);
    if (names_it && kp_string_map_get(&claim->metadata->annotations, VOLUME_BIND_COMPLETED))
        return false;
    struct k8s_persistent_volume_claim *copy = KP_OBJECT_CLONE(in->arena, k8s_persistent_volume_claim, claim);
    copy->spec->volume_name = volume->metadata->name;
    if (!names_it)
        kp_string_map_set(in->arena, &copy->metadata->annotations, VOLUME_BOUND_BY_CONTROLLER, "yes");
    kp_string_map_set(in->arena, &copy->metadata->annotations, VOLUME_BIND_COMPLETED, "yes");
    plan_update(plan, &k8s_persistentvolumeclaims_resource, copy);
    return true;
}

static bool same_list(const struct kp_string_list *a, const struct kp_string_list *b)
{
    return a->len == b->len && volume_has_modes(a, b);
}

/* The room is told once, when the claim becomes bound: later a file system may be smaller than its device on purpose. */
static int tell_bound(const struct plan_input *in, struct plan *plan, const struct k8s_persistent_volume *volume,
                      const struct k8s_persistent_volume_claim *claim, struct kp_error *error)
{
    bool becomes = !kp_streq(claim->status->phase, "Bound");
    if (!becomes && same_list(&claim->status->access_modes, &volume->spec->access_modes))
        return 0;
    if (becomes && !kp_string_map_get(&volume->spec->capacity, "storage"))
        return kp_fail(error, KP_EINVALID, "PersistentVolume \"%s\" is without a storage capacity", volume->metadata->name);
    struct k8s_persistent_volume_claim *copy = KP_OBJECT_CLONE(in->arena, k8s_persistent_volume_claim, claim);
    copy->status->phase = "Bound";
    copy->status->access_modes = volume->spec->access_modes;
    if (becomes) {
        copy->status->capacity = volume->spec->capacity;
        copy->status->current_volume_attributes_class_name = volume->spec->volume_attributes_class_name;
    }
    plan_update_status(plan, &k8s_persistentvolumeclaims_resource, copy);
    return 0;
}

static int bind(const struct plan_input *in, struct plan *plan, const struct k8s_persistent_volume *volume,
                const struct k8s_persistent_volume_claim *claim, struct kp_error *error)
{
    if (claim_volume(in, plan, volume, claim))
        return 0;
    binder_set_phase(in, plan, volume, "Bound", NULL);
    if (name_volume(in, plan, volume, claim))
        return 0;
    return tell_bound(in, plan, volume, claim, error);
}

/* ---- claims that no volume was found for -------------------------------------------------------------------------------- */
/* The newest of the default classes, and of equally old ones the first by name. */
static const struct k8s_storage_class *default_class(const struct plan_input *in)
{
    const void *const *classes;
    size_t n = client_view_list(in->view, engine_cache(in->engine, &k8s_storageclasses_resource), NULL, &classes);
    const struct k8s_storage_class *best = NULL;
    for (size_t i = 0; i < n; i++) {
        const struct k8s_storage_class *class = classes[i];
        const struct kp_string_map *annotations = &class->metadata->annotations;
        if (!kp_streq(kp_string_map_get(annotations, VOLUME_DEFAULT_CLASS), "true") &&
            !kp_streq(kp_string_map_get(annotations, "storageclass.beta.kubernetes.io/is-default-class"), "true"))
            continue;
        if (!best || class->metadata->creation_timestamp.seconds > best->metadata->creation_timestamp.seconds)
            best = class;
    }
    return best;
}

/* True when a claim that names no class at all was given the default one, which may be younger than the claim. */
static bool assign_default_class(const struct plan_input *in, struct plan *plan, const struct k8s_persistent_volume_claim *claim)
{
    if (claim->spec->storage_class_name || kp_string_map_get(&claim->metadata->annotations, VOLUME_CLASS_BETA))
        return false;
    const struct k8s_storage_class *class = default_class(in);
    if (!class)
        return false;
    struct k8s_persistent_volume_claim *copy = KP_OBJECT_CLONE(in->arena, k8s_persistent_volume_claim, claim);
    copy->spec->storage_class_name = class->metadata->name;
    plan_update(plan, &k8s_persistentvolumeclaims_resource, copy);
    return true;
}

static void tell_waits_for_pod(const struct plan_input *in, struct plan *plan, const struct k8s_persistent_volume_claim *claim)
{
    const struct k8s_pod *const *pods;
    size_t n = storage_pods_of_claim(in->engine, in->view, claim, &pods), waiting = 0;
    KP_AUTO_BUF struct kp_buf names = {0};
    for (size_t i = 0; i < n; i++)
        if (kp_empty(pods[i]->spec->node_name) && !engine_pod_is_terminal(pods[i]))
            kp_buf_printf(&names, "%s%s", waiting++ ? "," : "", pods[i]->metadata->name);
    if (waiting)
        plan_event(plan, &k8s_persistent_volume_claim_type, claim, "Normal", "WaitForPodScheduled", "waiting for %s %s to be scheduled",
                   waiting > 1 ? "pods" : "pod", names.data);
    else
        claim_event(plan, claim, "Normal", "WaitForFirstConsumer", "waiting for first consumer to be created before binding");
}

/* True when the claim has just been given to its provisioner; the next plan tells of it. */
static bool ask_provisioner(const struct plan_input *in, struct plan *plan, const struct k8s_persistent_volume_claim *claim,
                            const struct k8s_storage_class *class)
{
    const struct kp_string_map *annotations = &claim->metadata->annotations;
    if (kp_streq(kp_string_map_get(annotations, VOLUME_PROVISIONER), class->provisioner) &&
        kp_streq(kp_string_map_get(annotations, VOLUME_PROVISIONER_BETA), class->provisioner))
        return false;
    struct k8s_persistent_volume_claim *copy = KP_OBJECT_CLONE(in->arena, k8s_persistent_volume_claim, claim);
    kp_string_map_set(in->arena, &copy->metadata->annotations, VOLUME_PROVISIONER_BETA, class->provisioner);
    kp_string_map_set(in->arena, &copy->metadata->annotations, VOLUME_PROVISIONER, class->provisioner);
    plan_update(plan, &k8s_persistentvolumeclaims_resource, copy);
    return true;
}

/* True when the plan ends with it. */
static bool provision(const struct plan_input *in, struct plan *plan, const struct k8s_persistent_volume_claim *claim,
                      const struct k8s_storage_class *class)
{
    if (!class) {
        plan_event(plan, &k8s_persistent_volume_claim_type, claim, "Warning", "ProvisioningFailed", "storageclass.storage.k8s.io \"%s\" not found",
                   volume_claim_class(claim));
        return false;
    }
    if (kp_starts_with(class->provisioner, "kubernetes.io/")) { /* of which none is left inside */
        plan_event(plan, &k8s_persistent_volume_claim_type, claim, "Warning", "ProvisioningFailed", "no volume plugin matched name: %s", class->provisioner);
        return false;
    }
    if (ask_provisioner(in, plan, claim, class))
        return true;
    plan_event(plan, &k8s_persistent_volume_claim_type, claim, "Normal", "ExternalProvisioning",
               "Waiting for a volume to be created either by the external provisioner '%s' or manually by the system administrator. If volume creation is "
               "delayed, please verify that the provisioner is running and correctly registered.",
               class->provisioner);
    return false;
}

static int plan_any_volume(const struct plan_input *in, struct plan *plan, const struct k8s_persistent_volume_claim *claim, struct kp_error *error)
{
    const char *class_name = volume_claim_class(claim);
    const struct k8s_storage_class *class =
        *class_name ? client_view_get(in->view, engine_cache(in->engine, &k8s_storageclasses_resource), "", class_name) : NULL;
    bool delayed = volume_class_is_delayed(class);
    const void *const *items;
    size_t n = client_view_list(in->view, engine_cache(in->engine, &k8s_persistentvolumes_resource), NULL, &items);
    const struct k8s_persistent_volume *const *volumes = (const struct k8s_persistent_volume *const *)items;
    size_t found = volume_find(claim, volumes, n, NULL, delayed, NULL);
    if (found < n)
        return bind(in, plan, volumes[found], claim, error);
    if (assign_default_class(in, plan, claim))
        return 0;
    if (delayed && !kp_string_map_get(&claim->metadata->annotations, VOLUME_SELECTED_NODE)) {
        tell_waits_for_pod(in, plan, claim);
    } else if (*class_name) {
        if (provision(in, plan, claim, class))
            return 0;
    } else {
        claim_event(plan, claim, "Normal", "FailedBinding", "no persistent volumes available for this claim and no storage class is set");
    }
    return wait_more(in, plan, claim);
}

/* ---- claims that name their volume ---------------------------------------------------------------------------------------- */
static int plan_named_volume(const struct plan_input *in, struct plan *plan, const struct k8s_persistent_volume_claim *claim,
                             const struct k8s_persistent_volume *volume, struct kp_error *error)
{
    if (!volume)
        return wait_more(in, plan, claim);
    const char *misfit = volume->spec->claim_ref ? NULL : volume_misfit(volume, claim);
    if (misfit) {
        plan_event(plan, &k8s_persistent_volume_claim_type, claim, "Warning", "VolumeMismatch", "Cannot bind to requested volume \"%s\": %s",
                   volume->metadata->name, misfit);
        return wait_more(in, plan, claim);
    }
    if (!volume->spec->claim_ref || volume_is_for(volume, claim))
        return bind(in, plan, volume, claim, error);
    if (kp_string_map_get(&claim->metadata->annotations, VOLUME_BOUND_BY_CONTROLLER)) /* somebody took the other annotation away */
        return kp_fail(error, KP_ECONFLICT, "invalid binding of claim %s/%s to volume %s: volume already claimed by %s/%s", in->ns, in->name,
                       volume->metadata->name, volume->spec->claim_ref->namespace, volume->spec->claim_ref->name);
    plan_event(plan, &k8s_persistent_volume_claim_type, claim, "Warning", "FailedBinding", "volume \"%s\" already bound to a different claim.",
               volume->metadata->name);
    return wait_more(in, plan, claim);
}

int binder_plan_claim(const struct plan_input *in, struct plan *plan, struct kp_error *error)
{
    const struct k8s_persistent_volume_claim *claim =
        client_view_get(in->view, engine_cache(in->engine, &k8s_persistentvolumeclaims_resource), in->ns, in->name);
    if (!claim)
        return 0;
    const char *name = claim->spec->volume_name;
    const struct k8s_persistent_volume *volume =
        kp_empty(name) ? NULL : client_view_get(in->view, engine_cache(in->engine, &k8s_persistentvolumes_resource), "", name);
    if (!kp_string_map_get(&claim->metadata->annotations, VOLUME_BIND_COMPLETED)) {
        if (!kp_empty(name))
            return plan_named_volume(in, plan, claim, volume, error);
        /* One that goes before it has a volume is not given one. */
        return claim->metadata->deletion_timestamp.set ? 0 : plan_any_volume(in, plan, claim, error);
    }
    if (kp_empty(name))
        return lose(in, plan, claim, "ClaimLost", "Bound claim has lost reference to PersistentVolume. Data on the volume is lost!");
    if (!volume)
        return lose(in, plan, claim, "ClaimLost", "Bound claim has lost its PersistentVolume. Data on the volume is lost!");
    if (volume->spec->claim_ref && !kp_streq(volume->spec->claim_ref->uid, claim->metadata->uid))
        return lose(in, plan, claim, "ClaimMisbound", "Two claims are bound to the same volume, this one is bound incorrectly");
    return bind(in, plan, volume, claim, error);
}

/* ---- what to look at when something changes ---------------------------------------------------------------------------------- */
static size_t claims_by_volume(const struct client_object *object, const char **values, size_t max)
{
    const struct k8s_persistent_volume_claim *claim = object->data;
    size_t n = 0;
    if (!volume_claim_is_bound(claim))
        values[n++] = UNBOUND;
    if (!kp_empty(claim->spec->volume_name))
        values[n++] = claim->spec->volume_name;
    return n;
}

static void enqueue_claims(struct controller_run *run, const char *of)
{
    KP_AUTO(client_view_free) struct client_view *view = client_view_new();
    struct client_informer *cache = engine_cache(engine_of(run), &k8s_persistentvolumeclaims_resource);
    const void *const *claims;
    size_t n = client_view_index(view, cache, client_informer_add_index(cache, claims_by_volume), of, &claims);
    for (size_t i = 0; i < n; i++) {
        const struct k8s_object_meta *meta = ((const struct k8s_persistent_volume_claim *)claims[i])->metadata;
        engine_enqueue(run, meta->namespace, meta->name);
    }
}

static void map_claim(struct controller_run *run, const struct client_object *old, const struct client_object *new)
{
    const struct client_object *object = new ? new : old;
    const struct k8s_persistent_volume_claim *claim = object->data;
    KP_AUTO(client_view_free) struct client_view *view = client_view_new();
    const struct k8s_persistent_volume *const *volumes;
    engine_enqueue(run, object->ns, object->name);
    if (!kp_empty(claim->spec->volume_name))
        engine_enqueue(run, "", claim->spec->volume_name);
    size_t n = storage_volumes_of_claim(engine_of(run), view, object->ns, object->name, &volumes);
    for (size_t i = 0; i < n; i++)
        engine_enqueue(run, "", volumes[i]->metadata->name);
}

static void enqueue_claimant(struct controller_run *run, const struct client_object *object)
{
    const struct k8s_object_reference *ref = object ? ((const struct k8s_persistent_volume *)object->data)->spec->claim_ref : NULL;
    if (ref && !kp_empty(ref->namespace) && !kp_empty(ref->name))
        engine_enqueue(run, ref->namespace, ref->name);
}

static void map_volume(struct controller_run *run, const struct client_object *old, const struct client_object *new)
{
    const struct client_object *object = new ? new : old;
    const struct k8s_persistent_volume *volume = new ? new->data : NULL;
    engine_enqueue(run, "", object->name);
    enqueue_claimant(run, old);
    enqueue_claimant(run, new);
    enqueue_claims(run, object->name);
    if (volume && !volume->spec->claim_ref && kp_streq(volume->status->phase, "Available"))
        enqueue_claims(run, UNBOUND);
}

static void map_class(struct controller_run *run, const struct client_object *old, const struct client_object *new)
{
    if (new)
        enqueue_claims(run, UNBOUND);
}

static int plan_key(const struct plan_input *in, struct plan *plan, struct kp_error *error)
{
    return *in->ns ? binder_plan_claim(in, plan, error) : binder_plan_volume(in, plan, error);
}

static int setup_binder(struct engine *engine, struct controller_run *run, void **ret_state, struct kp_error *error)
{
    storage_index_pods(engine);
    storage_index_volumes(engine);
    client_informer_add_index(engine_informer(engine, &k8s_persistentvolumeclaims_resource), claims_by_volume);
    engine_watch(run, &k8s_persistentvolumeclaims_resource, map_claim);
    engine_watch(run, &k8s_persistentvolumes_resource, map_volume);
    engine_watch(run, &k8s_storageclasses_resource, map_class);
    return 0;
}

const struct controller persistentvolume_binder_controller = {
    .name = "persistentvolume-binder-controller", .workers = 1, .setup = setup_binder, .plan = plan_key,
};
