/* Whether a node will do for a pod's claims: the filters VolumeRestrictions, NodeVolumeLimits, VolumeBinding and VolumeZone, in upstream's order. */
#include "controlplane/scheduler/volumes_internal.h"

/* ---- NodeVolumeLimits --------------------------------------------------------------------------------------------------------- */
static const struct k8s_csi_node *csi_node_of(const struct sched_claims *claims, const struct sched_node *node)
{
    const struct client_object *object = sched_storage_get(claims->storage, SCHED_CSI_NODES, "", node->name);
    return object ? object->data : NULL;
}

/* -1: no limit is told. */
static int64_t limit_of(const struct k8s_csi_node *node, const char *driver)
{
    for (size_t i = 0; node && i < node->spec->drivers.len; i++)
        if (kp_streq(node->spec->drivers.items[i].name, driver)) {
            const struct k8s_volume_node_resources *most = node->spec->drivers.items[i].allocatable;
            return most && most->has_count ? most->count : -1;
        }
    return -1;
}

/* The place of the first that is attached to the node, or would be. */
static size_t first_attached(const struct sched_claims *claims, const char *node)
{
    size_t low = 0, high = claims->attached.len;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (strcmp(claims->attached.items[middle].node, node) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* The ids of a driver's volumes that pods on the node use, or that are attached to it. */
static void collect_used(const struct sched_claims *claims, const struct sched_node *node, const char *driver, struct kp_arena *arena,
                         struct kp_strmap *used)
{
    struct sched_csi_volume csi;
    for (size_t i = 0; i < node->n_pods; i++) {
        const struct k8s_pod *pod = node->pods[i].info.pod;
        for (size_t v = 0; node->pods[i].info.has_claims && v < pod->spec->volumes.len; v++) {
            const char *name = sched_claim_name(pod, &pod->spec->volumes.items[v], arena);
            if (name && sched_claim_csi(claims->storage, pod->metadata->namespace, name, arena, &csi) && kp_streq(csi.driver, driver))
                kp_strmap_put(used, csi.id, used);
        }
    }
    for (size_t i = first_attached(claims, node->name); i < claims->attached.len && strcmp(claims->attached.items[i].node, node->name) == 0; i++)
        if (kp_streq(claims->attached.items[i].csi.driver, driver))
            kp_strmap_put(used, claims->attached.items[i].csi.id, used);
}

static bool driver_is_full(const struct sched_claims *claims, const struct sched_node *node, const char *driver, int64_t limit)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    struct kp_strmap *used = kp_strmap_new();
    bool adds = false;
    collect_used(claims, node, driver, arena, used);
    for (size_t i = 0; i < claims->csi.len; i++)
        if (kp_streq(claims->csi.items[i].driver, driver))
            adds |= kp_strmap_put(used, claims->csi.items[i].id, used) == NULL;
    bool full = adds && (int64_t)kp_strmap_len(used) > limit;
    kp_strmap_free(used, NULL);
    return full;
}

static bool exceeds_limits(const struct sched_claims *claims, const struct sched_node *node)
{
    const struct k8s_csi_node *csi_node = claims->csi.len ? csi_node_of(claims, node) : NULL;
    for (size_t i = 0; csi_node && i < claims->csi.len; i++) {
        int64_t limit = limit_of(csi_node, claims->csi.items[i].driver);
        if (limit >= 0 && driver_is_full(claims, node, claims->csi.items[i].driver, limit))
            return true;
    }
    return false;
}

/* ---- VolumeBinding ------------------------------------------------------------------------------------------------------------ */
static bool topology_fits(const struct k8s_storage_class *class, const struct sched_node *node)
{
    for (size_t i = 0; i < class->allowed_topologies.len; i++) {
        const struct k8s_topology_selector_term *term = &class->allowed_topologies.items[i];
        bool fits = term->match_label_expressions.len > 0; /* an empty term means nothing */
        for (size_t k = 0; fits && k < term->match_label_expressions.len; k++) {
            const char *value = sched_node_label(node, term->match_label_expressions.items[k].key);
            fits = value && kp_string_list_has(&term->match_label_expressions.items[k].values, value);
        }
        if (fits)
            return true;
    }
    return class->allowed_topologies.len == 0;
}

static bool has_room(const struct k8s_csi_storage_capacity *capacity, const struct sched_delayed_claim *delayed, const struct sched_node *node)
{
    const char *most = capacity->maximum_volume_size ? capacity->maximum_volume_size : capacity->capacity;
    const char *wanted = kp_string_map_get(&delayed->claim->spec->resources->requests, "storage");
    return kp_streq(capacity->storage_class_name, delayed->class->metadata->name) && most && kp_quantity_str_cmp(most, wanted) >= 0 &&
           capacity->node_topology && kp_label_selector_matches(capacity->node_topology, &node->node->metadata->labels);
}

/* For drivers that publish how much room they have where. */
static bool capacity_suffices(const struct sched_claims *claims, const struct sched_delayed_claim *delayed, const struct sched_node *node)
{
    const struct client_object *driver = sched_storage_get(claims->storage, SCHED_CSI_DRIVERS, "", delayed->class->provisioner);
    const struct k8s_csi_driver_spec *spec = driver ? ((const struct k8s_csi_driver *)driver->data)->spec : NULL;
    if (!spec || !spec->has_storage_capacity || !spec->storage_capacity || !kp_string_map_get(&delayed->claim->spec->resources->requests, "storage"))
        return true;
    const struct client_object *object;
    for (size_t iter = 0; (object = sched_storage_next(claims->storage, SCHED_CAPACITIES, &iter));)
        if (has_room(object->data, delayed, node))
            return true;
    return false;
}

/* Marks what the node's other claims were given meanwhile, too. */
static size_t find_volume(const struct sched_delayed_claim *delayed, const struct sched_node *node, struct client_object *const *given, size_t n_given)
{
    if (!delayed->n || delayed->node)
        return delayed->n;
    memcpy(delayed->taken, delayed->promised, delayed->n * sizeof(*delayed->taken));
    for (size_t i = 0; i < n_given; i++)
        for (size_t k = 0; k < delayed->n; k++)
            if (given[i] == delayed->objects[k])
                delayed->taken[k] = true;
    return volume_find(delayed->claim, delayed->candidates, delayed->n, node->node, true, delayed->taken);
}

static const char *provision(const struct sched_claims *claims, const struct sched_delayed_claim *delayed, const struct sched_node *node)
{
    static const char nothing[] = "node(s) didn't find available persistent volumes to bind";
    if (delayed->node && !kp_streq(delayed->node, node->name))
        return nothing;
    if (kp_empty(delayed->class->provisioner) || kp_streq(delayed->class->provisioner, VOLUME_NO_PROVISIONER) || !topology_fits(delayed->class, node))
        return nothing;
    return capacity_suffices(claims, delayed, node) ? NULL : "node(s) did not have enough free storage";
}

static const char *bind_delayed(const struct sched_claims *claims, const struct sched_node *node, struct sched_volume_plan *plan)
{
    struct client_object *given_few[8] = {NULL}, **given = given_few; /* a pod with more is rare */
    if (claims->delayed.len > KP_ARRAY_LEN(given_few))
        given = KP_NEW_ARRAY(claims->arena, struct client_object *, claims->delayed.len);
    size_t n_given = 0;
    for (size_t i = 0; i < claims->delayed.len; i++) {
        const struct sched_delayed_claim *delayed = &claims->delayed.items[i];
        size_t at = find_volume(delayed, node, given, n_given);
        const char *why = at < delayed->n ? NULL : provision(claims, delayed, node);
        if (why)
            return why;
        if (at < delayed->n)
            given[n_given++] = delayed->objects[at];
        if (plan)
            *KP_LIST_ADD(claims->arena, plan) = (struct sched_volume_step){.claim = delayed->object, .volume = at < delayed->n ? delayed->objects[at] : NULL};
    }
    return NULL;
}

bool sched_claims_find(const struct sched_claims *claims, const struct sched_node *node, struct sched_volume_plan *plan, struct sched_reasons *ret)
{
    bool reached = true, there = true;
    for (size_t i = 0; i < claims->bound.len; i++) {
        there &= claims->bound.items[i].volume != NULL;
        reached &= !claims->bound.items[i].volume || volume_reaches_node(claims->bound.items[i].volume, node->node);
    }
    const char *why = bind_delayed(claims, node, plan);
    if (!reached && ret)
        sched_refuse(ret, "node(s) didn't match PersistentVolume's node affinity");
    if (why && ret)
        sched_refuse(ret, "%s", why);
    if (!there && ret)
        sched_refuse(ret, "node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)");
    return reached && there && !why;
}

/* ---- VolumeZone ---------------------------------------------------------------------------------------------------------------- */
static const char *with_old_name(const struct sched_node *node, const char *key)
{
    const char *value = sched_node_label(node, key);
    if (value)
        return value;
    if (strcmp(key, "failure-domain.beta.kubernetes.io/zone") == 0)
        return sched_node_label(node, "topology.kubernetes.io/zone");
    return strcmp(key, "failure-domain.beta.kubernetes.io/region") == 0 ? sched_node_label(node, "topology.kubernetes.io/region") : NULL;
}

static bool is_among(const char *value, const char *zones)
{
    size_t len = strlen(value);
    for (const char *at = zones; at;) {
        const char *end = strstr(at, "__");
        size_t n = end ? (size_t)(end - at) : strlen(at);
        if (n == len && memcmp(at, value, len) == 0)
            return true;
        at = end ? end + 2 : NULL;
    }
    return false;
}

/* A node that tells no zone at all may be in any. */
static bool in_zones(const struct sched_claims *claims, const struct sched_node *node)
{
    static const char *const keys[] = {"failure-domain.beta.kubernetes.io/zone", "failure-domain.beta.kubernetes.io/region",
                                       "topology.kubernetes.io/zone", "topology.kubernetes.io/region"};
    bool tells = false;
    for (size_t i = 0; claims->zones.len && i < KP_ARRAY_LEN(keys); i++)
        tells |= sched_node_label(node, keys[i]) != NULL;
    for (size_t i = 0; tells && i < claims->zones.len; i++) {
        const char *value = with_old_name(node, claims->zones.items[i].key);
        if (!value || !is_among(value, claims->zones.items[i].value))
            return false;
    }
    return true;
}

/* ---- all four ------------------------------------------------------------------------------------------------------------------ */
bool sched_claims_allow(const struct sched_claims *claims, const struct sched_node *node, struct sched_reasons *ret)
{
    ret->final = false;
    ret->plugin = "VolumeRestrictions";
    if (claims->refusal) {
        ret->final = true;
        ret->plugin = "VolumeBinding";
        sched_refuse(ret, "%s", claims->refusal);
        return false;
    }
    if (claims->users > 0) {
        sched_refuse(ret, "node has pod using PersistentVolumeClaim with the same name and ReadWriteOncePod access mode");
        return false;
    }
    ret->plugin = "NodeVolumeLimits";
    if (exceeds_limits(claims, node)) {
        sched_refuse(ret, "node(s) exceed max volume count");
        return false;
    }
    ret->final = true;
    ret->plugin = "VolumeBinding";
    if (!sched_claims_find(claims, node, NULL, ret))
        return false;
    ret->plugin = "VolumeZone";
    if (!in_zones(claims, node))
        sched_refuse(ret, "node(s) had no available volume zone");
    return ret->n == 0;
}

/* ---- what is to be done -------------------------------------------------------------------------------------------------------- */
void sched_volume_plan_make(const struct sched_pod *pod, const struct sched_cluster *cluster, const char *node_name, struct kp_arena *arena,
                            struct sched_volume_plan *ret)
{
    *ret = (struct sched_volume_plan){0};
    const struct sched_claims *claims = sched_claims_new(pod, cluster, arena);
    struct sched_volume_plan steps = {0};
    for (size_t i = 0; claims && claims->delayed.len && i < cluster->n; i++)
        if (strcmp(cluster->nodes[i]->name, node_name) == 0)
            sched_claims_find(claims, cluster->nodes[i], &steps, NULL);
    if (!steps.len)
        return;
    *ret = (struct sched_volume_plan){.node = kp_strdup(node_name), .items = kp_calloc(steps.len, sizeof(*ret->items)), .len = steps.len};
    for (size_t i = 0; i < steps.len; i++)
        ret->items[i] = (struct sched_volume_step){.claim = client_object_ref(steps.items[i].claim),
                                                   .volume = steps.items[i].volume ? client_object_ref(steps.items[i].volume) : NULL};
}

void sched_volume_plan_done(struct sched_volume_plan *plan)
{
    for (size_t i = 0; i < plan->len; i++) {
        client_object_unref(plan->items[i].claim);
        client_object_unref(plan->items[i].volume);
    }
    free(plan->items);
    free(plan->node);
    *plan = (struct sched_volume_plan){0};
}
