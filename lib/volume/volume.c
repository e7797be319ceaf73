/* Which persistent volume fits which claim. */
#include "lib/volume/volume.h"

#include "lib/codec/codec.h"
#include "lib/placement/placement.h"

static const char *text(const char *s)
{
    return s ? s : "";
}

const char *volume_claim_class(const struct k8s_persistent_volume_claim *claim)
{
    const char *beta = kp_string_map_get(&claim->metadata->annotations, VOLUME_CLASS_BETA);
    return beta ? beta : text(claim->spec->storage_class_name);
}

const char *volume_class(const struct k8s_persistent_volume *volume)
{
    const char *beta = kp_string_map_get(&volume->metadata->annotations, VOLUME_CLASS_BETA);
    return beta ? beta : text(volume->spec->storage_class_name);
}

bool volume_class_is_delayed(const struct k8s_storage_class *class)
{
    return class && kp_streq(class->volume_binding_mode, "WaitForFirstConsumer");
}

static const char *mode_or_default(const char *mode)
{
    return kp_empty(mode) ? "Filesystem" : mode;
}

const char *volume_claim_mode(const struct k8s_persistent_volume_claim *claim)
{
    return mode_or_default(claim->spec->volume_mode);
}

const char *volume_mode(const struct k8s_persistent_volume *volume)
{
    return mode_or_default(volume->spec->volume_mode);
}

bool volume_claim_is_bound(const struct k8s_persistent_volume_claim *claim)
{
    return !kp_empty(claim->spec->volume_name) && kp_string_map_get(&claim->metadata->annotations, VOLUME_BIND_COMPLETED);
}

bool volume_is_for(const struct k8s_persistent_volume *volume, const struct k8s_persistent_volume_claim *claim)
{
    const struct k8s_object_reference *ref = volume->spec->claim_ref;
    return ref && kp_streq(ref->name, claim->metadata->name) && kp_streq(ref->namespace, claim->metadata->namespace) &&
           (kp_empty(ref->uid) || kp_streq(ref->uid, claim->metadata->uid));
}

bool volume_has_modes(const struct kp_string_list *has, const struct kp_string_list *wanted)
{
    for (size_t i = 0; i < wanted->len; i++)
        if (!kp_string_list_has(has, wanted->items[i]))
            return false;
    return true;
}

bool volume_reaches_node(const struct k8s_persistent_volume *volume, const struct k8s_node *node)
{
    const struct k8s_volume_node_affinity *affinity = volume->spec->node_affinity;
    if (!affinity || !affinity->required)
        return true;
    for (size_t i = 0; i < affinity->required->node_selector_terms.len; i++)
        if (placement_term_matches(&affinity->required->node_selector_terms.items[i], node))
            return true;
    return false;
}

const char *volume_only_host(const struct k8s_persistent_volume *volume)
{
    const struct k8s_volume_node_affinity *affinity = volume->spec->node_affinity;
    if (!affinity || !affinity->required || affinity->required->node_selector_terms.len != 1)
        return NULL;
    const struct k8s_node_selector_term *term = &affinity->required->node_selector_terms.items[0];
    if (term->match_expressions.len != 1 || term->match_fields.len)
        return NULL;
    const struct k8s_node_selector_requirement *r = &term->match_expressions.items[0];
    return kp_streq(r->key, VOLUME_HOSTNAME_LABEL) && kp_streq(r->operator, "In") && r->values.len == 1 ? r->values.items[0] : NULL;
}

static int compare_size(const struct k8s_persistent_volume *volume, const struct k8s_persistent_volume_claim *claim)
{
    return kp_quantity_str_cmp(kp_string_map_get(&volume->spec->capacity, "storage"), kp_string_map_get(&claim->spec->resources->requests, "storage"));
}

static bool same_attributes(const struct k8s_persistent_volume *volume, const struct k8s_persistent_volume_claim *claim)
{
    return kp_streq(text(volume->spec->volume_attributes_class_name), text(claim->spec->volume_attributes_class_name));
}

const char *volume_misfit(const struct k8s_persistent_volume *volume, const struct k8s_persistent_volume_claim *claim)
{
    if (compare_size(volume, claim) < 0)
        return "requested PV is too small";
    if (!kp_streq(volume_class(volume), volume_claim_class(claim)))
        return "storageClassName does not match";
    if (!same_attributes(volume, claim))
        return "volumeAttributesClassName does not match";
    if (!kp_streq(volume_mode(volume), volume_claim_mode(claim)))
        return "incompatible volumeMode";
    if (!volume_has_modes(&volume->spec->access_modes, &claim->spec->access_modes))
        return "incompatible accessMode";
    return NULL;
}

/* Whether an unclaimed volume may be had. */
static bool is_free_and_fits(const struct k8s_persistent_volume *volume, const struct k8s_persistent_volume_claim *claim,
                             const struct kp_selector *selector)
{
    return !volume->spec->claim_ref && kp_streq(volume->status->phase, "Available") && !volume_misfit(volume, claim) &&
           (!selector || kp_selector_matches(selector, &volume->metadata->labels));
}

/* The fewer ways of access and then the less room it has, the better: what is rarer is kept for who needs it. */
static bool is_better(const struct k8s_persistent_volume *a, const struct k8s_persistent_volume *b, bool by_modes)
{
    if (by_modes && a->spec->access_modes.len != b->spec->access_modes.len)
        return a->spec->access_modes.len < b->spec->access_modes.len;
    return kp_quantity_str_cmp(kp_string_map_get(&a->spec->capacity, "storage"), kp_string_map_get(&b->spec->capacity, "storage")) < 0;
}

size_t volume_find(const struct k8s_persistent_volume_claim *claim, const struct k8s_persistent_volume *const *volumes, size_t n,
                   const struct k8s_node *node, bool delayed, const bool *taken)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    struct kp_selector selector;
    struct kp_error error = {0};
    if (claim->spec->selector && kp_label_selector_from(claim->spec->selector, arena, &selector, &error) < 0)
        return n;
    size_t best = n;
    for (size_t i = 0; i < n; i++) {
        const struct k8s_persistent_volume *volume = volumes[i];
        if ((taken && taken[i]) || volume->metadata->deletion_timestamp.set)
            continue;
        bool reaches = !node || volume_reaches_node(volume, node);
        if (volume_is_for(volume, claim) && compare_size(volume, claim) >= 0 && kp_streq(volume_mode(volume), volume_claim_mode(claim)))
            return reaches ? i : n;
        if (reaches && (node || !delayed) && is_free_and_fits(volume, claim, claim->spec->selector ? &selector : NULL) &&
            (best == n || is_better(volume, volumes[best], !node)))
            best = i;
    }
    return best;
}
