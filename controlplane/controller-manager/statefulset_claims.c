/* Makes the claims of a StatefulSet's pods and keeps their owners as the retention policy says. */
#include "controlplane/controller-manager/statefulset_claims.h"

static const char *claim_name(struct kp_arena *arena, const struct k8s_persistent_volume_claim *template, const char *pod_name)
{
    return kp_arena_printf(arena, "%s-%s", template->metadata->name, pod_name);
}

static const struct k8s_persistent_volume_claim *find_claim(const struct plan_input *in, const char *name)
{
    return client_view_get(in->view, engine_cache(in->engine, &k8s_persistentvolumeclaims_resource), in->ns, name);
}

/* ---- making them ---------------------------------------------------------------------------------------------------------- */
static void mount_claim(struct kp_arena *arena, struct k8s_pod_spec *spec, const char *volume, const char *claim)
{
    struct k8s_volume *slot = NULL;
    for (size_t i = 0; i < spec->volumes.len; i++)
        if (kp_streq(spec->volumes.items[i].name, volume))
            slot = &spec->volumes.items[i];
    if (!slot)
        slot = KP_LIST_ADD(arena, &spec->volumes);
    memset(slot, 0, sizeof(*slot)); /* the set's claim wins over a volume of the same name */
    slot->name = volume;
    slot->persistent_volume_claim = KP_OBJECT_NEW(arena, k8s_persistent_volume_claim_volume_source);
    slot->persistent_volume_claim->claim_name = claim;
}

void set_claims_create(const struct plan_input *in, struct plan *plan, const struct k8s_stateful_set *set, struct k8s_pod *pod)
{
    for (size_t i = 0; i < set->spec->volume_claim_templates.len; i++) {
        const struct k8s_persistent_volume_claim *template = &set->spec->volume_claim_templates.items[i];
        mount_claim(in->arena, pod->spec, template->metadata->name, claim_name(in->arena, template, pod->metadata->name));
    }
    set_claims_complete(in, plan, set, pod->metadata->name);
}

void set_claims_complete(const struct plan_input *in, struct plan *plan, const struct k8s_stateful_set *set, const char *pod_name)
{
    struct kp_arena *arena = in->arena;
    for (size_t i = 0; i < set->spec->volume_claim_templates.len; i++) {
        const struct k8s_persistent_volume_claim *template = &set->spec->volume_claim_templates.items[i];
        const char *name = claim_name(arena, template, pod_name);
        if (find_claim(in, name))
            continue;
        struct k8s_persistent_volume_claim *claim = KP_OBJECT_CLONE(arena, k8s_persistent_volume_claim, template);
        claim->metadata->name = name;
        claim->metadata->namespace = in->ns;
        for (size_t k = 0; k < set->spec->selector->match_labels.len; k++)
            kp_string_map_set(arena, &claim->metadata->labels, set->spec->selector->match_labels.items[k].key, set->spec->selector->match_labels.items[k].value);
        plan_create(plan, &k8s_persistentvolumeclaims_resource, in->ns, claim);
        plan_event_on_failure(plan, &k8s_stateful_set_type, set, "FailedCreate", "create Claim failed: ");
    }
}

/* ---- who owns them ------------------------------------------------------------------------------------------------------------ */
static bool deletes_when_deleted(const struct k8s_stateful_set *set)
{
    return set->spec->persistent_volume_claim_retention_policy && kp_streq(set->spec->persistent_volume_claim_retention_policy->when_deleted, "Delete");
}

static bool deletes_when_scaled(const struct k8s_stateful_set *set)
{
    return set->spec->persistent_volume_claim_retention_policy && kp_streq(set->spec->persistent_volume_claim_retention_policy->when_scaled, "Delete");
}

static bool refers_to(const struct k8s_owner_reference *ref, const struct kp_type *type, const char *name)
{
    char api_version[KP_API_VERSION_MAX];
    return kp_streq(ref->kind, type->kind) && kp_streq(ref->name, name) && kp_streq(ref->api_version, kp_type_api_version(type, api_version));
}

bool set_claims_are_stale(const struct plan_input *in, const struct k8s_stateful_set *set, const char *pod_name)
{
    for (size_t i = 0; i < set->spec->volume_claim_templates.len; i++) {
        const struct k8s_persistent_volume_claim *claim = find_claim(in, claim_name(in->arena, &set->spec->volume_claim_templates.items[i], pod_name));
        if (claim && claim->metadata->deletion_timestamp.set)
            return true; /* a pod that is made now would be left without */
        for (size_t k = 0; claim && deletes_when_scaled(set) && k < claim->metadata->owner_references.len; k++)
            if (refers_to(&claim->metadata->owner_references.items[k], &k8s_pod_type, pod_name))
                return true;
    }
    return false;
}

/* Somebody else controls the claim, or it belongs to an earlier set or pod of the name, which was orphaned: its owners are no business of this set. */
static bool has_other_controller(const struct k8s_persistent_volume_claim *claim, const struct k8s_stateful_set *set, const struct k8s_pod *pod)
{
    for (size_t i = 0; i < claim->metadata->owner_references.len; i++) {
        const struct k8s_owner_reference *ref = &claim->metadata->owner_references.items[i];
        bool of_set = refers_to(ref, &k8s_stateful_set_type, set->metadata->name), of_pod = refers_to(ref, &k8s_pod_type, pod->metadata->name);
        if ((of_set && !kp_streq(ref->uid, set->metadata->uid)) || (of_pod && !kp_streq(ref->uid, pod->metadata->uid)))
            return true;
        if (!of_set && !of_pod && ref->has_controller && ref->controller)
            return true;
    }
    return false;
}

/* Every other owner, and then the one that the policy gives it. */
static struct k8s_persistent_volume_claim *with_owner(struct kp_arena *arena, const struct k8s_persistent_volume_claim *claim,
                                                      const struct k8s_stateful_set *set, const struct k8s_pod *pod, bool by_set, bool by_pod)
{
    struct k8s_persistent_volume_claim *copy = KP_OBJECT_CLONE(arena, k8s_persistent_volume_claim, claim);
    memset(&copy->metadata->owner_references, 0, sizeof(copy->metadata->owner_references));
    for (size_t i = 0; i < claim->metadata->owner_references.len; i++) {
        const struct k8s_owner_reference *ref = &claim->metadata->owner_references.items[i];
        if (!refers_to(ref, &k8s_stateful_set_type, set->metadata->name) && !refers_to(ref, &k8s_pod_type, pod->metadata->name))
            *KP_LIST_ADD(arena, &copy->metadata->owner_references) = *ref;
    }
    if (by_set)
        engine_set_controller(arena, copy->metadata, &k8s_stateful_set_type, set->metadata);
    if (by_pod)
        engine_set_controller(arena, copy->metadata, &k8s_pod_type, pod->metadata);
    return copy;
}

static bool same_owners(const struct k8s_object_meta *a, const struct k8s_object_meta *b)
{
    if (a->owner_references.len != b->owner_references.len)
        return false;
    for (size_t i = 0; i < a->owner_references.len; i++)
        if (!kp_object_equal(&k8s_owner_reference_type, &a->owner_references.items[i], &b->owner_references.items[i]))
            return false;
    return true;
}

void set_claims_own(const struct plan_input *in, struct plan *plan, const struct k8s_stateful_set *set, const struct k8s_pod *pod, bool away)
{
    bool by_pod = deletes_when_scaled(set) && away;
    bool by_set = deletes_when_deleted(set) && !by_pod;
    for (size_t i = 0; i < set->spec->volume_claim_templates.len; i++) {
        const struct k8s_persistent_volume_claim *claim =
            find_claim(in, claim_name(in->arena, &set->spec->volume_claim_templates.items[i], pod->metadata->name));
        if (!claim)
            continue;
        bool foreign = (deletes_when_deleted(set) || deletes_when_scaled(set)) && has_other_controller(claim, set, pod);
        if (foreign) /* the text is upstream's, "manging" included: tools look for it */
            plan_event(plan, &k8s_stateful_set_type, set, "Warning", "ConflictingController",
                       "PersistentVolumeClaim %s has a conflicting OwnerReference that acts as a manging controller, the retention policy is ignored for this claim",
                       claim->metadata->name);
        const struct k8s_persistent_volume_claim *copy = with_owner(in->arena, claim, set, pod, by_set && !foreign, by_pod && !foreign);
        if (!same_owners(copy->metadata, claim->metadata))
            plan_update(plan, &k8s_persistentvolumeclaims_resource, copy);
    }
}
