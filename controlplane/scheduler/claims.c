/* The claims of one pod, read once before nodes are looked at: what VolumeBinding, VolumeZone, VolumeRestrictions and NodeVolumeLimits do in PreFilter. */
#include "controlplane/scheduler/volumes_internal.h"

bool sched_has_claims(const struct k8s_pod *pod)
{
    for (size_t i = 0; i < pod->spec->volumes.len; i++)
        if (pod->spec->volumes.items[i].persistent_volume_claim || pod->spec->volumes.items[i].ephemeral)
            return true;
    return false;
}

const char *sched_claim_name(const struct k8s_pod *pod, const struct k8s_volume *volume, struct kp_arena *arena)
{
    if (volume->persistent_volume_claim)
        return volume->persistent_volume_claim->claim_name;
    return volume->ephemeral ? kp_arena_printf(arena, "%s-%s", pod->metadata->name, volume->name) : NULL;
}

bool sched_uses_claim(const struct k8s_pod *pod, const char *ns, const char *name)
{
    if (!kp_streq(pod->metadata->namespace, ns))
        return false;
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    for (size_t i = 0; i < pod->spec->volumes.len; i++)
        if (kp_streq(sched_claim_name(pod, &pod->spec->volumes.items[i], arena), name))
            return true;
    return false;
}

/* ---- one claim ---------------------------------------------------------------------------------------------------------------- */
static bool is_made_for(const struct k8s_persistent_volume_claim *claim, const struct k8s_pod *pod)
{
    const struct k8s_owner_reference_items *owners = &claim->metadata->owner_references;
    for (size_t i = 0; i < owners->len; i++)
        if (owners->items[i].has_controller && owners->items[i].controller && kp_streq(owners->items[i].uid, pod->metadata->uid))
            return true;
    return false;
}

/* Upstream's podHasPVCs: why a claim cannot be used at all, or NULL. */
static const char *claim_fault(const struct k8s_pod *pod, const struct k8s_volume *volume, const char *name,
                               const struct k8s_persistent_volume_claim *claim, struct kp_arena *arena)
{
    if (!claim && volume->ephemeral)
        return kp_arena_printf(arena, "waiting for ephemeral volume controller to create the persistentvolumeclaim \"%s\"", name);
    if (!claim)
        return kp_arena_printf(arena, "persistentvolumeclaim \"%s\" not found", name);
    if (kp_streq(claim->status->phase, "Lost"))
        return kp_arena_printf(arena, "persistentvolumeclaim \"%s\" bound to non-existent persistentvolume \"%s\"", name,
                               claim->spec->volume_name ? claim->spec->volume_name : "");
    if (claim->metadata->deletion_timestamp.set)
        return kp_arena_printf(arena, "persistentvolumeclaim \"%s\" is being deleted", name);
    if (volume->ephemeral && !is_made_for(claim, pod))
        return kp_arena_printf(arena, "PVC %s/%s was not created for pod %s/%s (pod is not owner)", pod->metadata->namespace, name,
                               pod->metadata->namespace, pod->metadata->name);
    return NULL;
}

static const void *get(const struct sched_storage *storage, enum sched_storage_kind kind, const char *ns, const char *name)
{
    const struct client_object *object = kp_empty(name) ? NULL : sched_storage_get(storage, kind, ns, name);
    return object ? object->data : NULL;
}

static struct sched_csi_volume csi_of(const struct k8s_csi_persistent_volume_source *csi, struct kp_arena *arena)
{
    return (struct sched_csi_volume){csi->driver, kp_arena_printf(arena, "%s/%s", csi->driver, csi->volume_handle ? csi->volume_handle : "")};
}

bool sched_claim_csi(const struct sched_storage *storage, const char *ns, const char *name, struct kp_arena *arena, struct sched_csi_volume *ret)
{
    const struct k8s_persistent_volume_claim *claim = get(storage, SCHED_CLAIMS, ns, name);
    if (!claim)
        return false;
    const struct k8s_persistent_volume *volume = get(storage, SCHED_VOLUMES, "", claim->spec->volume_name);
    if (volume && !volume->spec->csi)
        return false;
    if (volume) {
        *ret = csi_of(volume->spec->csi, arena);
        return true;
    }
    /* Not bound yet: the class says by which driver it will be; the claim stands for the volume. */
    const struct k8s_storage_class *class = get(storage, SCHED_CLASSES, "", volume_claim_class(claim));
    if (!class)
        return false;
    ret->driver = class->provisioner;
    ret->id = kp_arena_printf(arena, "%s/%s/%s", class->provisioner, ns, name);
    return true;
}

static bool is_wanted_driver(const struct sched_claims *claims, const char *driver)
{
    for (size_t i = 0; i < claims->csi.len; i++)
        if (kp_streq(claims->csi.items[i].driver, driver))
            return true;
    return false;
}

static int by_node(const void *a, const void *b)
{
    return strcmp(((const struct sched_attached *)a)->node, ((const struct sched_attached *)b)->node);
}

/* Volumes that nodes still have, though no pod there uses them any more, count towards their limits. */
static void read_attachments(struct sched_claims *claims)
{
    const struct client_object *object;
    for (size_t iter = 0; claims->csi.len && (object = sched_storage_next(claims->storage, SCHED_ATTACHMENTS, &iter));) {
        const struct k8s_volume_attachment_spec *spec = ((const struct k8s_volume_attachment *)object->data)->spec;
        const struct k8s_persistent_volume *volume = get(claims->storage, SCHED_VOLUMES, "", spec->source->persistent_volume_name);
        if (!volume || !volume->spec->csi || kp_empty(spec->node_name) || !is_wanted_driver(claims, volume->spec->csi->driver))
            continue;
        *KP_LIST_ADD(claims->arena, &claims->attached) = (struct sched_attached){spec->node_name, csi_of(volume->spec->csi, claims->arena)};
    }
    if (claims->attached.len)
        qsort(claims->attached.items, claims->attached.len, sizeof(*claims->attached.items), by_node);
}

static void add_candidates(struct sched_claims *claims, struct sched_delayed_claim *delayed)
{
    const char *class = volume_claim_class(delayed->claim);
    struct client_object *object;
    size_t iter = 0, room = 0;
    while ((object = sched_storage_next(claims->storage, SCHED_VOLUMES, &iter)))
        room += strcmp(volume_class(object->data), class) == 0;
    delayed->candidates = KP_NEW_ARRAY(claims->arena, const struct k8s_persistent_volume *, room + 1);
    delayed->objects = KP_NEW_ARRAY(claims->arena, struct client_object *, room + 1);
    delayed->promised = KP_NEW_ARRAY(claims->arena, bool, room + 1);
    delayed->taken = KP_NEW_ARRAY(claims->arena, bool, room + 1);
    const struct sched_promise *mine = sched_storage_promised_claim(claims->storage, delayed->object);
    for (iter = 0; (object = sched_storage_next(claims->storage, SCHED_VOLUMES, &iter));) {
        const struct k8s_persistent_volume *volume = object->data;
        if (strcmp(volume_class(volume), class) != 0)
            continue;
        const struct sched_promise *promise = sched_storage_promised_volume(claims->storage, object->name);
        bool same = mine && promise && strcmp(mine->claim, promise->claim) == 0;
        delayed->candidates[delayed->n] = volume;
        delayed->objects[delayed->n] = object;
        delayed->promised[delayed->n++] = (promise && !same) || (mine && mine->volume && !same); /* nor any but what it was promised */
    }
}

static void add_delayed(struct sched_claims *claims, struct client_object *object, const struct k8s_storage_class *class)
{
    struct sched_delayed_claim *delayed = KP_LIST_ADD(claims->arena, &claims->delayed);
    const struct sched_promise *promise = sched_storage_promised_claim(claims->storage, object);
    delayed->object = object;
    delayed->claim = object->data;
    delayed->class = class;
    delayed->node = kp_string_map_get(&delayed->claim->metadata->annotations, VOLUME_SELECTED_NODE);
    if (!delayed->node && promise && !promise->volume)
        delayed->node = promise->node;
    add_candidates(claims, delayed);
}

/* Zones of a volume's label: one, or several between "__". */
static void add_zones(struct sched_claims *claims, const struct k8s_persistent_volume *volume)
{
    static const char *const keys[] = {"failure-domain.beta.kubernetes.io/zone", "failure-domain.beta.kubernetes.io/region",
                                       "topology.kubernetes.io/zone", "topology.kubernetes.io/region"};
    for (size_t i = 0; i < KP_ARRAY_LEN(keys); i++) {
        const char *value = kp_string_map_get(&volume->metadata->labels, keys[i]);
        if (!kp_empty(value))
            *KP_LIST_ADD(claims->arena, &claims->zones) = (struct sched_zone_label){keys[i], value};
    }
}

/* True: the claim is one of those that should have been bound before its pod came. */
static bool read_claim(struct sched_claims *claims, struct client_object *object)
{
    const struct k8s_persistent_volume_claim *claim = object->data;
    struct sched_csi_volume csi;
    if (kp_string_list_has(&claim->spec->access_modes, "ReadWriteOncePod"))
        kp_string_list_add(claims->arena, &claims->alone, object->name);
    if (sched_claim_csi(claims->storage, object->ns, object->name, claims->arena, &csi))
        *KP_LIST_ADD(claims->arena, &claims->csi) = csi;
    if (volume_claim_is_bound(claim)) {
        struct sched_bound_claim *bound = KP_LIST_ADD(claims->arena, &claims->bound);
        *bound = (struct sched_bound_claim){claim, get(claims->storage, SCHED_VOLUMES, "", claim->spec->volume_name)};
        if (bound->volume)
            add_zones(claims, bound->volume);
        return false;
    }
    const struct k8s_storage_class *class = get(claims->storage, SCHED_CLASSES, "", volume_claim_class(claim));
    if (!volume_class_is_delayed(class) || !kp_empty(claim->spec->volume_name))
        return true;
    add_delayed(claims, object, class);
    return false;
}

/* ---- all of them -------------------------------------------------------------------------------------------------------------- */
void sched_claims_count(struct sched_claims *claims, const struct sched_pod *there, int sign)
{
    if (!claims || !there->has_claims)
        return;
    for (size_t i = 0; i < claims->alone.len; i++)
        if (sched_uses_claim(there->pod, claims->pod->pod->metadata->namespace, claims->alone.items[i]))
            claims->users += sign;
}

/* Smaller claims first, so that each takes the smallest volume that fits. */
static int by_size(const void *a, const void *b)
{
    const struct sched_delayed_claim *x = a, *y = b;
    return kp_quantity_str_cmp(kp_string_map_get(&x->claim->spec->resources->requests, "storage"),
                               kp_string_map_get(&y->claim->spec->resources->requests, "storage"));
}

static bool seen_before(const struct k8s_pod *pod, size_t until, const char *name, struct kp_arena *arena)
{
    for (size_t i = 0; i < until; i++)
        if (kp_streq(sched_claim_name(pod, &pod->spec->volumes.items[i], arena), name))
            return true;
    return false;
}

struct sched_claims *sched_claims_new(const struct sched_pod *pod, const struct sched_cluster *cluster, struct kp_arena *arena)
{
    if (!pod->has_claims || !cluster->storage)
        return NULL;
    struct sched_claims *claims = KP_NEW(arena, struct sched_claims);
    *claims = (struct sched_claims){.pod = pod, .storage = cluster->storage, .arena = arena};
    const struct k8s_pod *p = pod->pod;
    bool late = false;
    for (size_t i = 0; i < p->spec->volumes.len; i++) {
        const struct k8s_volume *volume = &p->spec->volumes.items[i];
        const char *name = sched_claim_name(p, volume, arena);
        if (!name || seen_before(p, i, name, arena))
            continue;
        struct client_object *object = sched_storage_get(cluster->storage, SCHED_CLAIMS, p->metadata->namespace, name);
        if ((claims->refusal = claim_fault(p, volume, name, object ? object->data : NULL, arena)))
            return claims;
        late |= read_claim(claims, object);
    }
    if (late)
        claims->refusal = "pod has unbound immediate PersistentVolumeClaims";
    if (claims->delayed.len > 1)
        qsort(claims->delayed.items, claims->delayed.len, sizeof(*claims->delayed.items), by_size);
    read_attachments(claims);
    for (size_t i = 0; claims->alone.len && i < cluster->n; i++)
        for (size_t k = 0; k < cluster->nodes[i]->n_pods; k++)
            sched_claims_count(claims, &cluster->nodes[i]->pods[k].info, 1);
    return claims;
}

const char *sched_claims_refusal(const struct sched_claims *claims)
{
    return claims ? claims->refusal : NULL;
}
